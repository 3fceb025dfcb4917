"""What a step costs: beside hand-written NumPy loops, and beside the matrix products that it cannot do without.

``python -m validation.benchmarks steps``

**The unavoidable work** of a step of augmented BUG with Euler substeps at fixed rank r, for an F = P M Qᴴ of rank k
that is there already. On the side of U, with m rows, in real operations:

======================================= ==============
PᴴU₀, for the L-slope                   2 m k r
P (M QᴴV₀), the K-slope                 2 m k r
orthonormal basis of [U₀ | dK]          12 m r²
ŨᴴP, the new rows of ÛᴴP                2 m r k
Û P₁, the rotation into the truncated   4 m r²
basis (m x 2r times 2r x r)
======================================= ==============

and the same with n on the side of V. For k = r that is 22 (m + n) r². The products of r x r matrices and the SVD of the
core are left out, and so is all that memory costs. At the rate of square matrix products this gives the time with which
a step is compared.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from validation import pages
from validation.benchmarks import bare
from validation.benchmarks.kernels import square_product
from validation.benchmarks.results import Headline, compare, milliseconds, number, pinned, publish

SIZES = ((100, 5), (500, 10), (2000, 20))
GOALS = {(100, 5): 1.5, (2000, 20): 1.1}
"""Of augmented BUG with Runge-Kutta 4 substeps: times longer than the loop."""
LARGE, LARGE_RANK, LARGE_GOAL = 100_000, 20, 2.5
IMPORT_GOAL = 0.2
"""Seconds."""
ROOT = Path(__file__).resolve().parents[2]
METHODS: dict[str, tuple[Any, Any]] = {
    "augmented BUG": (dlra.AugmentedBUG(substep="rk4"), bare.augmented),
    "BUG": (dlra.BUG(substep="rk4"), bare.fixed_rank),
    "parallel BUG": (dlra.ParallelBUG(substep="rk4"), bare.parallel),
    "projector splitting": (dlra.ProjectorSplitting(2, substep="rk4"), bare.splitting),
}
H = 1e-3


def measure_loops(n: int, r: int, seconds: float) -> list[dict[str, Any]]:
    """Rows: every method beside its loop."""
    A, C, Y0 = bare.problem(n, r)
    F, G = bare.field(A, C), bare.by_hand(A, C)
    steps = 20 if n < 1000 else 5

    def ours(method: Any, steps: int) -> dlra.LowRank:
        return dlra.solve(F, (0.0, steps * H), Y0, method, dt=H, t_eval=[steps * H]).y_final

    def theirs(step: Callable[..., bare.Factors], steps: int) -> dlra.LowRank:
        U, S, V = Y0.U, Y0.S, Y0.V
        for _ in range(steps):
            U, S, V = step(U, S, V)
        return dlra.LowRank(U, S, V)

    rows = []
    for name, (method, loop) in METHODS.items():
        loops: dict[str, Any] = {"bare": lambda U, S, V, loop=loop: loop(G, H, U, S, V)}
        if loop is bare.augmented:
            loops["special"] = lambda U, S, V: bare.augmented_special(A, C, H, U, S, V)
        expected = ours(method, 3)
        for step in loops.values():
            assert (theirs(step, 3) - expected).norm() <= 1e-12 * expected.norm(), name
        runs = {"dlra": lambda method=method: ours(method, steps)}
        runs |= {key: lambda step=step: theirs(step, steps) for key, step in loops.items()}
        times = compare(runs, seconds)
        rows.append({
            "method": name, "n": n, "r": r, "steps": steps,
            **{f"dlra / {key}": times["dlra"].over(times[key]) for key in loops}, "times": times,
        })  # fmt: skip
    return rows


def constant_field(m: int, n: int, r: int, seed: int = 0) -> tuple[Any, dlra.LowRank, bare.Factors]:
    """An F that costs nothing (a LowRank of rank r, always the same), a start of rank r, and the factors of F.

    F is so small beside the start that the bases stay far from its range, as many steps as one likes.
    """
    rng = np.random.default_rng(seed)
    P, Q = rng.standard_normal((m, r)) / np.sqrt(m), rng.standard_normal((n, r)) / np.sqrt(n)
    M = 1e-3 * np.eye(r)
    value = dlra.LowRank(P, M, Q)
    U, V = (np.linalg.qr(rng.standard_normal((k, r)))[0] for k in (m, n))
    return dlra.factored(lambda Y: value), dlra.LowRank(U, np.diag(np.linspace(2.0, 1.0, r)), V), (P, M, Q)


def stepper(F: Any, Y0: dlra.LowRank, method: Any) -> Callable[[], Any]:
    """A function that does the next step of a run, however often it is called."""
    states: Iterator[Any] = dlra.iterate(F, (0.0, 1.0), Y0, method, dt=1e-5)
    next(states)
    return lambda: next(states)


def work(m: int, n: int, r: int) -> float:
    """Operations of a step that are unavoidable, as counted above."""
    return 22.0 * (m + n) * r**2


def measure_large(n: int, r: int, seconds: float) -> dict[str, Any]:
    """One augmented Euler step with an F that costs nothing."""
    F, Y0, factors = constant_field(n, n, r)
    state = Y0.U, Y0.S, Y0.V

    def loop() -> None:
        nonlocal state
        state = bare.augmented_euler(lambda U, S, V: factors, 1e-5, *state)

    product, count = square_product("float64")
    runs = {"dlra": stepper(F, Y0, dlra.AugmentedBUG(substep="euler")), "bare": loop, "gemm": product}
    times = compare(runs, seconds, least=3)
    return {
        "n": n, "r": r, "operations": work(n, n, r), "gemm gflops": count / times["gemm"].median / 1e9,
        "times the work": times["dlra"].over(times["gemm"]) * count / work(n, n, r),
        "bare, times the work": times["bare"].over(times["gemm"]) * count / work(n, n, r),
        "dlra / bare": times["dlra"].over(times["bare"]), "times": times,
    }  # fmt: skip


def measure_import(repeats: int) -> dict[str, Any]:
    """Wall time of fresh interpreters: one that does nothing, NumPy alone, dlra, dlra with its first use."""
    codes = {
        "nothing": "pass",
        "numpy": "import numpy",
        "dlra": "import dlra",
        "used": "import dlra; dlra.solve, dlra.LowRank",
    }
    runs = {
        name: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        for name, code in codes.items()
    }
    times = compare(runs, 0.0, least=repeats)
    least = {name: min(timing.samples) for name, timing in times.items()}
    return {name: seconds - least["nothing"] for name, seconds in least.items() if name != "nothing"}


def measure(quick: bool = False) -> dict[str, Any]:
    """All rows."""
    seconds = 0.3 if quick else 4.0
    sizes = SIZES[:2] if quick else SIZES
    large = [(10_000, LARGE_RANK)] if quick else [(1000, 10), (10_000, 20), (LARGE, LARGE_RANK), (LARGE, 50)]
    return {
        "loops": [row for n, r in sizes for row in measure_loops(n, r, seconds)],
        "large": [measure_large(n, r, seconds) for n, r in large],
        "import": measure_import(3 if quick else 15),
    }


def headlines(data: dict[str, Any]) -> list[Headline]:
    """Augmented BUG beside its loop; the large step beside its unavoidable work."""
    found = [
        Headline(
            f"step of augmented BUG, n = {row['n']}, r = {row['r']}: times longer than a hand-written NumPy loop",
            row["dlra / bare"], GOALS.get((row["n"], row["r"])), "at most", " x",
        )
        for row in data["loops"] if row["method"] == "augmented BUG"
    ]  # fmt: skip
    found += [
        Headline(
            f"Euler step of augmented BUG, n = {row['n']:,}, r = {row['r']}: times longer than its matrix products",
            row["times the work"], LARGE_GOAL, "at most", " x",
        )
        for row in data["large"] if (row["n"], row["r"]) == (LARGE, LARGE_RANK)
    ]  # fmt: skip
    found.append(Headline("`import dlra`", data["import"]["dlra"], IMPORT_GOAL, "at most", " s"))
    return found


def tables(data: dict[str, Any]) -> list[str]:
    """The page."""
    loops = [
        [row["method"], str(row["n"]), str(row["r"]),
         *(number(1e6 * row["times"][key].median / row["steps"]) for key in ("dlra", "bare")),
         f"{row['dlra / bare']:.2f}",
         number(GOALS.get((row["n"], row["r"]), np.nan)) if row["method"] == "augmented BUG" else "",
         f"{row['dlra / special']:.2f}" if "dlra / special" in row else ""]
        for row in data["loops"]
    ]  # fmt: skip
    large = [
        [f"{row['n']:,}", str(row["r"]), milliseconds(row["times"]["dlra"]), milliseconds(row["times"]["bare"]),
         number(1e3 * row["operations"] / row["gemm gflops"] / 1e9), number(row["times the work"]),
         number(LARGE_GOAL) if (row["n"], row["r"]) == (LARGE, LARGE_RANK) else "", number(row["bare, times the work"])]
        for row in data["large"]
    ]  # fmt: skip
    return [
        "## Beside hand-written loops",
        "Ẏ = A Y + Y Aᵀ + C Cᵀ with a tridiagonal A (a dense array up to n = 500, sparse above), m = n, Runge-Kutta 4 "
        "substeps, fixed rank. The loops take a general F on raw factors, as dlra does, in plain NumPy, without "
        "checks, counts or options; results agree to 1e-12. The last column is a loop for this problem only, with A "
        "and C projected onto the bases once a step.",
        pages.table(
            ["method", "n", "r", "dlra / µs a step", "loop / µs a step", "ratio", "goal", "ratio to special loop"],
            loops,
        ),
        "## Beside the matrix products of a step",
        "Augmented BUG, Euler substeps, fixed rank r, an F of rank r that costs nothing (a constant on factors P M Qᵀ, "
        "returned as it is), m = n. The unavoidable work on the side of U is, in operations: PᵀU₀ for the L-slope 2 m "
        "r², P (M QᵀV₀) for the K-slope 2 m r², an orthonormal basis of [U₀ | dK] 12 m r², ŨᵀP for the core 2 m r², "
        "the rotation of Û into the truncated basis 4 m r²; on the side of V the same with n: 22 (m + n) r² in all. "
        "What is done with r x r matrices, the SVD of the core and all that memory costs are not in it. Work is the "
        f"time of so many operations at the rate of square matrix products, {number(data['large'][-1]['gemm gflops'])} "
        "Gflop/s in the same run.",
        pages.table(
            ["n", "r", "dlra / ms", "NumPy loop / ms", "work / ms", "dlra, times the work", "goal",
             "loop, times the work"], large,
        ),
        "## Before the first step",
        "Seconds beyond those of an interpreter that does nothing, the least of several runs: `import dlra` "
        f"{data['import']['dlra']:.3f} (goal: {IMPORT_GOAL}); with its first use, `import dlra; dlra.solve`, "
        f"{data['import']['used']:.3f}, of which `import numpy` takes {data['import']['numpy']:.3f}.",
    ]  # fmt: skip


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page and numbers."""
    with pinned(threads):
        data = measure(quick)
    publish(
        "steps", "Measured: steps",
        "Steps of dlra, everything included: the time loop with its checks, counts and error budget.",
        tables(data), data, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
