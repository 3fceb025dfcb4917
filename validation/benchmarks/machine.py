"""What a benchmark ran on."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import numpy as np


def facts() -> dict[str, str | int]:
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
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "date": datetime.date.today().isoformat(),
    }


def describe() -> str:
    """The facts in a line."""
    return "{processor}, {cores} cores, Python {python}, NumPy {numpy}, {blas}, {date}".format(**facts())
