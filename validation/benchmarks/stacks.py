"""Stacks: many problems at once beside a loop of ``dlra.solve``, and the linear algebra of many small matrices.

The problems are Ẏᵢ = pᵢ (A Yᵢ + Yᵢ Aᵀ) + C Dᵀ, i = 1, ..., b, with a tridiagonal A (a dense array), by augmented BUG
with Runge-Kutta 4 substeps at fixed rank. The loop solves for some of them, as its time for one does not depend on
their number. Bases of stacks beside a loop over single matrices; singular values also beside NumPy's own stacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dlra
from dlra import linalg
from dlra.kernels import batched
from validation import pages
from validation.benchmarks.kernels import gaussian
from validation.benchmarks.results import Headline, Timing, compare, number, pinned, publish

SIZES = ((50, 3), (50, 10), (100, 5), (200, 10))
COUNTS = (1, 8, 64)
STEPS, H = 5, 1e-3
MOST = 8
"""Problems in the loop."""
DTYPES = ("float64", "float32", "complex128")
CORES = (5, 10, 20, 44)
MEMBERS = (4, 16, 64)
BASES = ((20, 5, 5), (100, 5, 5), (100, 10, 10), (400, 5, 5), (400, 20, 20))
LAYERS = ((5,) * 4, (20,) * 4, (50,) * 4, (5, 12, 20, 50))


def problem(n: int, r: int, b: int) -> tuple[Any, Any, dlra.LowRankStack]:
    """The field of all problems, a function that gives that of one, and the initial values."""
    rng = np.random.default_rng(0)
    A = 0.5 * (np.eye(n, k=1) + np.eye(n, k=-1)) - np.eye(n)
    C = dlra.LowRank(rng.standard_normal((n, 2)) / n**0.5, None, rng.standard_normal((n, 2)) / n**0.5)
    p = np.linspace(0.5, 1.5, b)
    U, V = (np.linalg.qr(rng.standard_normal((b, n, r)))[0] for _ in range(2))
    Y0 = dlra.LowRankStack(U, np.diag(0.5 ** np.arange(r)) + 0.1 * rng.standard_normal((b, r, r)), V)

    def single(i: int) -> Any:
        q = float(p[i])
        return dlra.factored(lambda Y: q * (A @ Y + Y @ A.T) + C)

    return dlra.factored(lambda Y: p * (A @ Y + Y @ A.T) + C), single, Y0


def measure_solve(n: int, r: int, b: int, seconds: float) -> dict[str, Any]:
    """Seconds for each problem and step, stack and loop, and their ratio over the rounds."""
    F, single, Y0 = problem(n, r, b)
    members = list(Y0[:MOST])
    method, end = dlra.AugmentedBUG(substep="rk4"), STEPS * H

    def stack() -> Any:
        return dlra.solve(F, (0.0, end), Y0, method, dt=H, t_eval=[end]).y_final

    def loop() -> list[Any]:
        return [
            dlra.solve(single(i), (0.0, end), Y, method, dt=H, t_eval=[end]).y_final
            for i, Y in enumerate(members)
        ]

    together = stack()
    for Y, Z in zip(together[:MOST], loop(), strict=True):
        assert (Y - Z).norm() <= 1e-12 * Z.norm()
    times = compare({"stack": stack, "loop": loop}, seconds)
    row = {
        "n": n, "r": r, "b": b, **_each(times, {"stack": b * STEPS, "loop": len(members) * STEPS}),
    }  # fmt: skip
    return row | {"gain": row["loop"].over(row["stack"])}


def measure_svd(b: int, n: int, dtype: str, seconds: float) -> dict[str, Any]:
    """Seconds a member: NumPy's SVD in a loop and of the stack, the compiled one, what ``svd_stack`` takes."""
    A = _stack((b, n, n), dtype)
    runs = {
        "loop": lambda: [np.linalg.svd(a, full_matrices=False) for a in A],
        "NumPy": lambda: np.linalg.svd(A, full_matrices=False),
        "compiled": lambda: batched.svd(A),
        "dlra": lambda: linalg.svd_stack(A),
    }
    return {"dtype": dtype, "n": n, "b": b, **_gains(runs, b, seconds)}


def measure_augment(b: int, m: int, r: int, k: int, dtype: str, seconds: float) -> dict[str, Any]:
    """Seconds a member: a loop over ``augment``, and what ``augment`` of the stack takes."""
    U0, X = np.linalg.qr(_stack((b, m, r), dtype))[0], _stack((b, m, r + k), dtype)[:, :, r:].copy()
    runs = {
        "loop": lambda: [linalg.augment(u, x) for u, x in zip(U0, X, strict=True)],
        "dlra": lambda: linalg.augment(U0, X),
    }
    return {"dtype": dtype, "m": m, "r": r, "k": k, "b": b, **_gains(runs, b, seconds)}


def measure_layers(ranks: tuple[int, ...], dtype: str, seconds: float) -> dict[str, Any]:
    """Seconds a layer for the cores of several layers, each twice as large as its rank: one by one, or in one call."""
    cores = [_stack((1, 2 * r, 2 * r), dtype)[0] for r in ranks]
    runs = {
        "loop": lambda: [linalg.svd(core) for core in cores],
        "dlra": lambda: linalg.svd_stack(cores),
    }
    return {"dtype": dtype, "ranks": list(ranks), **_gains(runs, len(cores), seconds)}


def _stack(shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    b, m, n = shape
    return gaussian(np.random.default_rng(0), b * m, n, dtype).reshape(shape)


def _gains(runs: dict[str, Callable[[], Any]], members: int, seconds: float) -> dict[str, Any]:
    """The times a member, and how many times longer than the last run the first one takes."""
    times = _each(compare(runs, seconds), dict.fromkeys(runs, members))
    return times | {"gain": times["loop"].over(times["dlra"])}


def _each(times: dict[str, Timing], counts: dict[str, int]) -> dict[str, Any]:
    """Times divided by the number of things that a run does."""
    return {name: Timing(tuple(t / counts[name] for t in time.samples)) for name, time in times.items()}


def measure(quick: bool) -> dict[str, list[dict[str, Any]]]:
    """All parts."""
    if quick:
        return {
            "solve": [measure_solve(*SIZES[0], b, 0.05) for b in COUNTS[:2]],
            "svd": [measure_svd(8, 5, dtype, 0.01) for dtype in DTYPES],
            "augment": [measure_augment(8, *BASES[0], "float64", 0.01)],
            "layers": [measure_layers(LAYERS[0], "float32", 0.01)],
        }
    return {
        "solve": [measure_solve(n, r, b, 1.0) for n, r in SIZES for b in COUNTS],
        "svd": [measure_svd(b, n, dtype, 0.2) for dtype in DTYPES for n in CORES for b in MEMBERS],
        "augment": [
            measure_augment(b, m, r, k, dtype, 0.2)
            for dtype in DTYPES[:2] for m, r, k in BASES for b in MEMBERS[1:]
        ],
        "layers": [measure_layers(ranks, dtype, 0.2) for dtype in DTYPES[1::-1] for ranks in LAYERS],
    }  # fmt: skip


def tables(data: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The page."""

    def cells(row: dict[str, Any], *names: str) -> list[str]:
        return [*(number(1e6 * row[name].median) for name in names), f"{row['gain']:.2f}"]

    return [
        "Times are microseconds; the gain is how many times longer the loop takes.",
        "## Many problems",
        "A problem and step of `dlra.solve`, m = n, augmented BUG with Runge-Kutta 4 substeps at fixed rank, F given "
        "on factors: all in a stack, or one after another.",
        pages.table(
            ["m = n", "r", "problems", "stack", "loop", "gain"],
            [[str(row["n"]), str(row["r"]), str(row["b"]), *cells(row, "stack", "loop")] for row in data["solve"]],
        ),
        "## Singular value decompositions",
        "A member of a stack of square matrices: a loop over `numpy.linalg.svd`, NumPy's SVD of the stack, compiled "
        "code, and `dlra.linalg.svd_stack`, which chooses between the last two.",
        pages.table(
            ["dtype", "size", "members", "loop", "NumPy", "compiled", "dlra", "gain"],
            [
                [row["dtype"], str(row["n"]), str(row["b"]), *cells(row, "loop", "NumPy", "compiled", "dlra")]
                for row in data["svd"]
            ],
        ),
        "## Bases",
        "A member of a stack of bases, m x r, augmented by k directions: a loop over `dlra.linalg.augment`, and "
        "`augment` of the stack.",
        pages.table(
            ["dtype", "m", "r", "k", "members", "loop", "dlra", "gain"],
            [
                [row["dtype"], *(str(row[name]) for name in "mrkb"), *cells(row, "loop", "dlra")]
                for row in data["augment"]
            ],
        ),
        "## Cores of a network",
        "A core, 2r x 2r, of one network of these ranks: singular values one by one, or all in one call.",
        pages.table(
            ["dtype", "ranks", "loop", "dlra", "gain"],
            [
                [row["dtype"], ", ".join(map(str, row["ranks"])), *cells(row, "loop", "dlra")]
                for row in data["layers"]
            ],
        ),
    ]  # fmt: skip


def headlines(data: dict[str, list[dict[str, Any]]]) -> list[Headline]:
    """What a stack gains over a loop at the smallest and the largest size."""
    return [
        Headline(
            f"{row['b']} problems at once, m = n = {row['n']}, r = {row['r']}: times faster than one after another",
            row["gain"], unit=" x",
        )
        for row in data["solve"]
        if row["b"] == max(row["b"] for row in data["solve"]) and (row["n"], row["r"]) in (SIZES[0], SIZES[-1])
    ]  # fmt: skip


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page and numbers."""
    with pinned(threads):
        data = measure(quick)
    publish(
        "stacks", "Measured: many problems at once",
        "`dlra.solve` from a stack of initial values beside a loop over them, and the linear algebra that it rests on: "
        "singular values and bases of many small matrices.",
        tables(data), data, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
