"""A line that says on what a benchmark ran."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import numpy as np


def describe() -> str:
    """Processor, cores, Python, NumPy and its BLAS, date."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{blas['name']} {blas['version']}, {datetime.date.today().isoformat()}"
    )
