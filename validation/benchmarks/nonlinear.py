"""Fields on factors without stiffness, and entrywise nonlinear ones, beside solve_ivp on the dense matrix.

``python -m validation.benchmarks.nonlinear`` writes ``docs/measured-nonlinear.md``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from dlra import (
    AugmentedBUG,
    LowRank,
    MidpointBUG,
    ProjectedExponential,
    ProjectedRungeKutta,
    ProjectorSplitting,
    RandomizedSVD,
    RungeKuttaBUG,
    SemiLinear,
    factored,
    problems,
    solve,
)
from dlra.problems._allen_cahn import _initial_value
from dlra.problems._place import banded
from validation import pages
from validation.benchmarks.timing import conditions, distance, one_thread, profile, timed

# ---- Schrödinger


SCHROEDINGER: tuple[tuple[Any, tuple[float, ...]], ...] = (
    (AugmentedBUG(), (0.1, 0.05, 0.04, 0.02, 0.01)),
    (ProjectorSplitting(1), (0.1, 0.05, 0.04, 0.02)),
    (ProjectorSplitting(2), (0.1, 0.05, 0.04, 0.02)),
    (RandomizedSVD(), (0.2, 0.1)),
    (MidpointBUG(), (0.1, 0.05)),
    (RungeKuttaBUG(), (0.2, 0.1, 0.05)),
    (ProjectedRungeKutta(), (0.2, 0.1, 0.05)),
)


def schroedinger(n: int = 512, rank: int = 20) -> list[str]:
    """Whole runs against RK45 at an equal or smaller error."""
    from scipy.integrate import solve_ivp

    problem = problems.schroedinger(n)
    reference = np.asarray(problem.reference(1.0))
    A0 = np.asarray(problem.reference(0.0))
    Y0 = problem.Y0(rank)
    dense = []
    for rtol in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        run = timed(
            lambda rtol=rtol: solve_ivp(
                lambda t, y: np.asarray(problem.dense(t, y.reshape(n, n))).ravel(), (0.0, 1.0), A0.ravel(),
                method="RK45", rtol=rtol, atol=1e-3 * rtol / n, t_eval=[1.0],
            )
        )  # fmt: skip
        error = distance(run.value.y[:, -1].reshape(n, n), reference)
        dense.append((rtol, error, run.seconds, run.value.nfev))
        print("RK45", *dense[-1], flush=True)
    s = problem.initial()[1]
    rows = []
    declared = with_linear_part(problem, n)
    explicit = (AugmentedBUG(substep="rk4"), ProjectorSplitting(substep="rk4"))
    cases = [(problem.F, method, steps) for method, steps in SCHROEDINGER]
    cases += [(declared, method, (0.1, 0.05, 0.025)) for method in explicit]
    for F, method, steps in cases:
        for dt in steps:
            solution, seconds = timed(
                lambda F=F, method=method, dt=dt: solve(F, (0.0, 1.0), Y0, method, dt=dt, t_eval=[1.0], rng=0)
            )
            error = distance(solution.y_final, reference)
            equal = [d for d in dense if d[1] <= error]
            faster = f"{equal[0][2] / seconds:.1f}" if equal else "-"
            label = f"`{method!r}`" + (", linear part declared" if F is declared else "")
            rows.append([label, f"{dt:g}", f"{error:.1e}", f"{seconds:.3f}",
                         f"{1e3 * seconds / solution.nsteps:.2f}", faster])  # fmt: skip
            print(*rows[-1], flush=True)
    best = max((float(row[5]) for row in rows if row[5] != "-" and float(row[2]) < 1e-3), default=0.0)
    return [
        f"## Schrödinger equation, n = {n}",
        f"r = {rank}, t from 0 to 1, factored F; the initial value alone has a tail of {np.linalg.norm(s[rank:]):.0e} "
        f"beyond that rank. The last column: seconds of the cheapest RK45 run with an error at least as "
        "small, over those "
        f"of this run (goal: 3). Best ratio among errors below 1e-3: {best:.1f}.",
        pages.table(["method", "dt", "error", "seconds", "ms a step", "times faster than RK45"], rows),
        "`solve_ivp` RK45 on the dense matrix:",
        pages.table(
            ["rtol", "error", "seconds", "calls of F"],
            [[f"{r:g}", f"{e:.1e}", f"{s:.2f}", str(k)] for r, e, s, k in dense],
        ),
        f"Where the time of ten steps of augmented BUG goes, n = {n}:",
        profile(lambda: solve(problem.F, (0.0, 0.1), Y0, AugmentedBUG(), dt=0.01)),
        large_schroedinger(4096, rank, dense),
    ]


def with_linear_part(problem: Any, n: int) -> SemiLinear:
    """The same field with its kinetic part declared, so that explicit stages apply it in projected form."""
    D = banded({0: 1.0, 1: -0.5, -1: -0.5}, n)
    potential = 1 - np.cos(problem.x)
    left, right = -1j * potential[:, None], potential[None, :]
    return SemiLinear(-1j * D, -1j * D, factored(lambda t, Y: Y * left * right))


def large_schroedinger(n: int, rank: int, dense: list[tuple[float, float, float, int]]) -> str:
    """The same at a size where RK45 is extrapolated: its number of calls does not depend on n."""
    problem = problems.schroedinger(n)
    rng = np.random.default_rng(0)
    extra = rank + 10
    U, V = (
        np.linalg.qr(rng.standard_normal((n, extra)) + 1j * rng.standard_normal((n, extra)))[0]
        for _ in range(2)
    )
    s = 10.0 ** -np.arange(1.0, extra + 1)
    s /= np.linalg.norm(s)
    start = [LowRank(U[:, :r].copy(), np.diag(s[:r]).astype(complex), V[:, :r].copy()) for r in (rank, extra)]
    fine = solve(problem.F, (0.0, 1.0), start[1], ProjectorSplitting(2), dt=0.02, t_eval=[1.0]).y_final
    size = fine.norm()
    Y = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    call = timed(lambda: problem.dense(0.0, Y)).seconds
    rows = []
    for method, dt in (
        (AugmentedBUG(), 0.02),
        (ProjectorSplitting(1), 0.1),
        (ProjectorSplitting(1), 0.04),
        (ProjectorSplitting(2), 0.1),
        (ProjectorSplitting(2), 0.04),
        (RungeKuttaBUG(), 0.1),
        (ProjectedRungeKutta(), 0.1),
    ):
        solution, seconds = timed(
            lambda method=method, dt=dt: solve(problem.F, (0.0, 1.0), start[0], method, dt=dt, t_eval=[1.0])
        )
        error = (solution.y_final - fine).norm() / size
        equal = [d for d in dense if d[1] <= error]
        faster = f"{equal[0][3] * call / seconds:.0f}" if equal else "-"
        rows.append([f"`{method!r}`", f"{dt:g}", f"{error:.1e}", f"{seconds:.3f}",
                     f"{1e3 * seconds / solution.nsteps:.1f}", faster])  # fmt: skip
        print(*rows[-1], flush=True)
    return (
        f"n = {n}: errors against a run of rank {extra} with `ProjectorSplitting(2)`, dt = 0.02; RK45 is "
        "extrapolated, its calls "
        f"of F at n = 512 times {call:.2f} s a call.\n\n"
        + pages.table(["method", "dt", "error", "seconds", "ms a step", "times faster than RK45"], rows)
    )


# ---- Allen-Cahn


def allen_cahn_start(n: int, rank: int) -> LowRank:
    """The leading part of the initial value, by a randomised range finder where n is large."""
    values = _initial_value(np.linspace(0, 2 * np.pi, n))
    omega = np.random.default_rng(0).standard_normal((n, rank + 20))
    Q, _ = np.linalg.qr(values @ omega)
    Q, _ = np.linalg.qr(values @ (values.T @ Q))
    U, s, Vh = np.linalg.svd(Q.T @ values, full_matrices=False)
    return LowRank(Q @ U[:, :rank], np.diag(s[:rank]), Vh[:rank].T.copy())


def allen_cahn(sizes: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)) -> list[str]:
    """Cost of a step, and whole runs at n = 1024."""
    rows, before = [], 0.0
    for n in sizes:
        problem = problems.allen_cahn(n)
        Y0, dt, count = allen_cahn_start(n, 10), 0.02, 10
        solve(problem.F, (0.0, dt), Y0, AugmentedBUG(), dt=dt)
        cells, t1 = [], count * dt
        for method in (AugmentedBUG(), MidpointBUG()):
            seconds = timed(
                lambda method=method, problem=problem, Y0=Y0, t1=t1, dt=dt: solve(
                    problem.F, (0.0, t1), Y0, method, dt=dt, t_eval=[t1]
                )
            ).seconds
            cells.append(1e3 * seconds / count)
        ratio = f"{cells[0] / before:.1f}" if before else ""
        before = cells[0]
        rows.append([str(n), *(f"{c:.1f}" for c in cells), ratio])
        print(*rows[-1], flush=True)
    return [
        "## Allen-Cahn equation",
        "The cube is taken from samples of rows and columns. Cost of a step, r = 10, dt = 0.02, the first "
        "ten steps; up to "
        "n = 2000 the linear part is decomposed (products with a dense n x n matrix of eigenvectors), "
        "beyond it is treated "
        "by rational Krylov subspaces (goal: linear growth, ratio 2).",
        pages.table(["n", "augmented BUG, ms", "midpoint BUG, ms", "ratio to the row above"], rows),
        "Where the time of ten steps of augmented BUG goes, n = 1024:",
        _profiled(1024),
        whole_allen_cahn(1024),
    ]


def _profiled(n: int) -> str:
    problem = problems.allen_cahn(n)
    Y0 = allen_cahn_start(n, 10)
    solve(problem.F, (0.0, 0.02), Y0, AugmentedBUG(), dt=0.02)
    return profile(lambda: solve(problem.F, (0.0, 0.2), Y0, AugmentedBUG(), dt=0.02))


def whole_allen_cahn(n: int) -> str:
    """T = 10 against RK45, extrapolated where that would take more than ten minutes."""
    from scipy.integrate import solve_ivp

    problem = problems.allen_cahn(n)
    t1 = 10.0
    fine = solve(
        problem.F,
        (0.0, t1),
        allen_cahn_start(n, 14),
        MidpointBUG(rtol=1e-9, max_rank=14),
        dt=0.01,
        t_eval=[t1],
    ).y_final
    size = fine.norm()
    rows = []
    for method, dt in (
        (AugmentedBUG(), 0.1),
        (AugmentedBUG(), 0.05),
        (MidpointBUG(), 0.2),
        (MidpointBUG(), 0.1),
        (ProjectedExponential(2), 0.2),
    ):
        solution, seconds = timed(
            lambda method=method, dt=dt: solve(
                problem.F, (0.0, t1), allen_cahn_start(n, 10), method, dt=dt, t_eval=[t1]
            ),
            1,
        )
        error = (solution.y_final - fine).norm() / size
        rows.append([f"`{method!r}`", f"{dt:g}", f"{error:.1e}", f"{seconds:.1f}"])
        print(*rows[-1], flush=True)
    y0 = _initial_value(np.linspace(0, 2 * np.pi, n)).ravel()
    span = 0.1
    run = timed(
        lambda: solve_ivp(
            lambda t, y: np.asarray(problem.dense(t, y.reshape(n, n))).ravel(), (0.0, span), y0,
            method="RK45", rtol=1e-4, atol=1e-7,
        ), 1,
    )  # fmt: skip
    whole = run.seconds * t1 / span
    rows.append(["`solve_ivp` RK45, dense", "rtol = 0.0001", "-", f"{whole:.0f} (extrapolated)"])
    print(*rows[-1], flush=True)
    return (
        f"n = {n}, t from 0 to 10, r = 10; errors against midpoint BUG of rank 14 with dt = 0.01. RK45 "
        "with rtol = 1e-4 was "
        f"run to t = {span:g} ({run.seconds:.1f} s, {run.value.nfev} calls of F: stability limits its "
        "steps, whatever the "
        f"tolerance) and extrapolated.\n\n" + pages.table(["method", "dt", "error", "seconds"], rows)
    )


PARTS = {"schroedinger": schroedinger, "allen-cahn": allen_cahn}


def main(names: tuple[str, ...] = tuple(PARTS)) -> None:
    """Measure and write the page; with names of parts, print those only."""
    with one_thread():
        parts = [text for name in names for text in PARTS[name]()]
    if names == tuple(PARTS):
        head = [
            "# Measured: factored and entrywise fields",
            conditions("python -m validation.benchmarks.nonlinear"),
        ]
        pages.write("measured-nonlinear.md", [*head, *parts])
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or tuple(PARTS))
