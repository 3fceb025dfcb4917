"""Run all benchmarks: ``python -m validation.benchmarks``."""

from __future__ import annotations

from validation.benchmarks import memory, nonlinear, overhead, startup, stiff, work_precision
from validation.benchmarks.machine import describe

print(describe(), end="\n\n")
for benchmark in (startup, overhead, memory, stiff, nonlinear, work_precision):
    benchmark.main()
    print()
