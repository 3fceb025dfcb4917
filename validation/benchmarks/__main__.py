"""Run all benchmarks: ``python -m validation.benchmarks``."""

from __future__ import annotations

from validation.benchmarks import (
    convolution,
    memory,
    nonlinear,
    overhead,
    startup,
    stiff,
    training,
    work_precision,
)
from validation.benchmarks.machine import describe

print(describe(), end="\n\n")
for benchmark in (startup, overhead, memory, convolution, training, stiff, nonlinear, work_precision):
    benchmark.main()
    print()
