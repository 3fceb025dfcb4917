"""What dlra does on an NVIDIA GPU through CuPy: ``python -m validation.benchmarks.gpu``.

Bases of tall factors beside the time that their bytes need to pass through memory, singular values of stacks of small
matrices beside CuPy's own, a step of augmented BUG with Euler substeps beside the same limit, and the size from which
on the GPU is faster than NumPy. Without a GPU it says so, and measures nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import dlra
from dlra.kernels import gpu
from validation import pages

RANK = 64
STACKS = ((16, 8), (256, 16), (256, 32), (1024, 64))
SIZES = (100, 1_000, 10_000, 100_000)


def device() -> str | None:
    """The name of the GPU; None where there is none that CuPy can use."""
    try:
        import cupy
    except ImportError:
        return None
    if not cupy.cuda.is_available():
        return None
    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def seconds(run: Callable[[], Any], wait: Callable[[], None], least: int = 5, limit: float = 2.0) -> float:
    """Median seconds of a run, to the end of what it asked the device for, after a warm-up."""
    run()
    wait()
    samples: list[float] = []
    end = time.perf_counter() + limit
    while len(samples) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        wait()
        samples.append(time.perf_counter() - start)
    return float(np.median(samples))


def bandwidth(xp: Any, wait: Callable[[], None]) -> float:
    """Bytes a second that a copy reads and writes."""
    a = xp.zeros(2**27, dtype=xp.float64)
    return 2 * a.nbytes / seconds(lambda: a.copy(), wait)


def factored_problem(xp: Any, n: int, r: int) -> tuple[Any, dlra.LowRank]:
    """A field on factors of rank 2 r that costs a few products, and a state of rank r, in this library."""
    rng = np.random.default_rng(0)
    b = xp.asarray(rng.standard_normal((n, r)) / np.sqrt(n))
    d = xp.asarray(rng.random((n, 1)))
    U = xp.asarray(np.linalg.qr(rng.standard_normal((n, r)))[0])
    S = xp.asarray(np.diag(0.9 ** np.arange(r)))
    source = dlra.LowRank(b, None, b)
    return dlra.factored(lambda Y: source - d * Y), dlra.LowRank(U, S, U.copy())


def step_seconds(xp: Any, n: int, r: int, wait: Callable[[], None], steps: int = 20) -> float:
    """Seconds a step of augmented BUG with Euler substeps at fixed rank."""
    F, Y0 = factored_problem(xp, n, r)
    method = dlra.AugmentedBUG(substep="euler")
    h = 1e-3

    def run() -> Any:
        return dlra.solve(F, (0.0, steps * h), Y0, method, dt=h, t_eval=[steps * h])

    return seconds(run, wait, least=3, limit=1.0) / steps


def tables(xp: Any, wait: Callable[[], None], rows: int) -> str:
    """All tables; ``rows`` is the number of rows of the tall factors."""
    rng = np.random.default_rng(0)
    per_second = bandwidth(xp, wait)
    tall = rng.standard_normal((rows, 2 * RANK))
    Q = np.linalg.qr(tall[:, :RANK])[0]
    U0, X = xp.asarray(Q), xp.asarray(tall[:, RANK:])
    item = 8 * rows * RANK
    texts = [f"A copy moves {per_second / 1e9:.0f} GB/s.", ""]

    limit = 4 * item / per_second  # U0 and X read, the basis of twice the width written
    took = seconds(lambda: gpu.augment(U0, X), wait)
    step_limit = 12 * item / per_second  # U, V, two factors of F read; two bases written, read and rotated
    step = step_seconds(xp, rows, RANK, wait)
    texts += [
        f"m = n = {rows:,}, r = {RANK}, float64:",
        "",
        pages.table(
            ["what", "milliseconds", "limit by bandwidth", "times the limit"],
            [
                [
                    "augment by as many columns",
                    f"{1e3 * took:.2f}",
                    f"{1e3 * limit:.2f}",
                    f"{took / limit:.1f}",
                ],
                ["step, Euler", f"{1e3 * step:.2f}", f"{1e3 * step_limit:.2f}", f"{step / step_limit:.1f}"],
            ],
        ),
        "",
    ]
    found = []
    for count, n in STACKS:
        A = xp.asarray(rng.standard_normal((count, n, n)))
        own = seconds(lambda A=A: gpu.svd(A), wait)
        library = seconds(lambda A=A: xp.linalg.svd(A, full_matrices=False), wait)
        found.append(
            [f"{count} of {n} x {n}", f"{1e6 * own:.0f}", f"{1e6 * library:.0f}", f"{library / own:.1f}"]
        )
    texts += [pages.table(["stack", "one launch, us", "library, us", "ratio"], found), ""]
    found = []
    for n in SIZES:
        here = step_seconds(np, n, 20, lambda: None)
        there = step_seconds(xp, n, 20, wait)
        found.append([f"{n:,}", f"{1e3 * here:.2f}", f"{1e3 * there:.2f}", f"{here / there:.2f}"])
    texts += [
        "A step, Euler, r = 20:",
        "",
        pages.table(["m = n", "NumPy, ms", "GPU, ms", "NumPy over GPU"], found),
    ]
    return "\n".join(texts)


def main(quick: bool = False) -> None:
    """Print the tables, or that there is no GPU."""
    name = device()
    if name is None:
        print("No usable CUDA device with CuPy here: nothing was measured.")
        return
    import cupy

    wait = cupy.cuda.get_current_stream().synchronize
    print(f"{name}, CuPy {cupy.__version__}, medians.", end="\n\n")
    print(tables(cupy, wait, 10**5 if quick else 10**6))


if __name__ == "__main__":
    main()
