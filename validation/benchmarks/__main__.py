"""Run all benchmarks: ``python -m validation.benchmarks``."""

from __future__ import annotations

from validation.benchmarks import memory, overhead, startup, work_precision
from validation.benchmarks.machine import describe

print(describe(), end="\n\n")
for benchmark in (startup, overhead, memory, work_precision):
    benchmark.main()
    print()
