"""Stacks of small matrices: compiled code beside a loop over single ones and beside NumPy's own stacks.

One thread or two, for BLAS and for compiled code. Wall-clock microseconds a member, the least of interleaved
runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dlra import _stacks, linalg
from dlra.kernels import batched

DTYPES = ("float64", "float32", "complex128", "complex64")
MEMBERS = (4, 8, 16, 64, 256)
SIZES = (5, 10, 20, 32, 44, 64)
BASES = ((20, 5, 5), (100, 5, 5), (100, 10, 10), (100, 20, 20), (400, 5, 5), (400, 20, 20), (2000, 10, 10))


def stack(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Normally distributed numbers."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal(shape)
    return np.asarray(A + 1j * rng.standard_normal(shape) if dtype.startswith("c") else A, dtype=dtype)


def fastest(runs: dict[str, Callable[[], Any]], members: int, seconds: float = 0.2) -> dict[str, float]:
    """Least seconds a member of each run, interleaved."""
    least = dict.fromkeys(runs, np.inf)
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < 4:
        rounds += 1
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], time.perf_counter() - start)
    return {name: value / members for name, value in least.items()}


def measure_svd(b: int, n: int, dtype: str) -> dict[str, float]:
    """Seconds a member: a loop over NumPy's SVD, NumPy's SVD of the stack, the compiled one, what svd_stack takes."""
    A = stack((b, n, n), dtype)
    return fastest(
        {
            "loop": lambda: [np.linalg.svd(a, full_matrices=False) for a in A],
            "stacked": lambda: np.linalg.svd(A, full_matrices=False),
            "compiled": lambda: batched.svd(A),
            "svd_stack": lambda: linalg.svd_stack(A),
        },
        b,
    )


def measure_augment(b: int, m: int, r: int, k: int, dtype: str) -> dict[str, float]:
    """Seconds a member: a loop over augment, the generic stacks, the compiled ones, what augment_stack takes."""
    U0, X = np.linalg.qr(stack((b, m, r), dtype))[0], stack((b, m, r + k), dtype)[:, :, r:].copy()
    return fastest(
        {
            "loop": lambda: [linalg.augment(u, x) for u, x in zip(U0, X, strict=True)],
            "stacked": lambda: _stacks.augmented(U0, X),
            "compiled": lambda: batched.basis(U0, X),
            "augment_stack": lambda: linalg.augment_stack(U0, X),
        },
        b,
    )


def measure_layers(ranks: tuple[int, ...], dtype: str) -> dict[str, float]:
    """Seconds a layer for the cores of several layers, each twice as large as its rank: one by one, or in one call."""
    cores = [stack((2 * r, 2 * r), dtype) for r in ranks]
    return fastest(
        {
            "one by one": lambda: [linalg.svd(core) for core in cores],
            "svd_stack": lambda: linalg.svd_stack(cores),
        },
        len(cores),
    )


def line(times: dict[str, float]) -> str:
    """The times in microseconds, and what the chosen version gains over the loop."""
    first, *_, chosen = times.values()
    shown = "".join(f"   {name} {1e6 * value:8.1f}" for name, value in times.items())
    return f"{shown}   gain {first / chosen:.2f}"


def main() -> None:
    """Print the times."""
    from threadpoolctl import threadpool_limits

    print("stacks of small matrices; microseconds a member (least of interleaved runs)")
    for threads in (1, 2):
        with threadpool_limits(threads):
            print(f"singular value decompositions, {threads} thread(s)")
            for dtype in DTYPES:
                for n in SIZES:
                    for b in MEMBERS:
                        print(f"{dtype:10s} {n:3d} x {n:3d}, b = {b:4d}:{line(measure_svd(b, n, dtype))}")
            print(f"augmentation by k directions, {threads} thread(s)")
            for dtype in DTYPES[:2]:
                for m, r, k in BASES:
                    for b in (4, 16, 64):
                        times = measure_augment(b, m, r, k, dtype)
                        print(f"{dtype:10s} m = {m:4d}, r = {r:2d}, k = {k:2d}, b = {b:3d}:{line(times)}")
            print(f"cores of four layers, {threads} thread(s)")
            for dtype in ("float32", "float64"):
                for ranks in ((5,) * 4, (20,) * 4, (50,) * 4, (100,) * 4, (5, 12, 20, 50)):
                    print(f"{dtype:10s} ranks {ranks}:{line(measure_layers(ranks, dtype))}")


if __name__ == "__main__":
    main()
