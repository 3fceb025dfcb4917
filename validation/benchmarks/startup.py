"""Time of ``import dlra``, beside ``import numpy`` and an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np


def seconds(code: str, repeats: int = 15) -> float:
    """Best wall time of a fresh interpreter running this code."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return float(np.min(times))


def main() -> None:
    """Print the times."""
    nothing, numpy, dlra = seconds("pass"), seconds("import numpy"), seconds("import dlra")
    used = seconds("import dlra; dlra.solve, dlra.LowRank")
    print(
        f"beyond the interpreter's own {nothing:.3f} s: import dlra {dlra - nothing:.3f} s; with its first use"
    )
    print(f"(import dlra; dlra.solve) {used - nothing:.3f} s, of which numpy {numpy - nothing:.3f} s")


if __name__ == "__main__":
    main()
