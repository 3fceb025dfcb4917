"""Stiff linear parts: heat-Lyapunov dense and sparse, Riccati, and the steel profile.

``python -m validation.benchmarks.stiff`` writes ``docs/measured-stiff.md``. The data of 1357 unknowns are looked for in
``$DLRA_DATA/rail``; without them that table is left out.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dlra import (
    BUG,
    AugmentedBUG,
    GeneralizedNystrom,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectedExponential,
    RandomizedSVD,
    SemiLinear,
    problems,
    solve,
)
from validation import pages
from validation.benchmarks.timing import conditions, distance, one_thread, profile, timed

LIMIT = 30.0
"""A run is stopped after so many CPU seconds."""


def limited(F: Any, span: tuple[float, float], Y0: LowRank, method: Any, **options: Any) -> Any:
    """Solve, stopped after LIMIT seconds; the last state only."""
    start = time.process_time()
    return solve(
        F, span, Y0, method, t_eval=[span[1]], rng=0,
        callback=lambda state: time.process_time() - start > LIMIT, **options,
    )  # fmt: skip


def two_sided(F: SemiLinear, Y: LowRank) -> tuple[SemiLinear, LowRank]:
    """The same problem without the knowledge that it is symmetric."""
    return SemiLinear(F.A, F.B, F.G), LowRank(Y.U, Y.S, Y.V.copy())


def decompose(F: SemiLinear) -> None:
    """Make the decomposition of the linear part, which F keeps."""
    for operator in F.operators:
        if operator is not None:
            operator.coordinates(np.zeros(1))


# ---- heat-Lyapunov, decomposed


def heat(n: int = 1024) -> list[str]:
    """Steps of h = 0.01, and the whole interval in one step."""
    problem = problems.heat_lyapunov(n)
    t1 = problem.t_span[1]
    decomposition = timed(lambda: decompose(problem.F), 1).seconds
    reference = np.asarray(problem.reference(t1))
    plain, _ = two_sided(problem.F, problem.Y0(20))
    decompose(plain)
    rows = []
    for method in (AugmentedBUG(), BUG(), MidpointBUG(), ParallelBUG(), ProjectedExponential(2)):
        cells = []
        for one_side in (False, True):
            Y0 = problem.Y0(20)
            F = problem.F if one_side else plain
            Y0 = Y0 if one_side else two_sided(problem.F, Y0)[1]
            solution, seconds = timed(
                lambda F=F, Y0=Y0, method=method: solve(F, (0, t1), Y0, method, dt=0.01, t_eval=[t1])
            )
            cells += [
                f"{1e3 * seconds / solution.nsteps:.1f}",
                f"{distance(solution.y_final, reference):.1e}",
            ]
        rows.append([f"`{method!r}`", *cells])
        print(*rows[-1], flush=True)
    steps = pages.table(["method", "two-sided: ms a step", "error", "one-sided: ms a step", "error"], rows)

    rows = []
    for method, ranks in (
        (AugmentedBUG(), (20, 30, 40)),
        (BUG(), (30,)),
        (MidpointBUG(), (20, 30)),
        (RandomizedSVD(), (20, 30, 40)),
        (GeneralizedNystrom(), (20, 30)),
    ):
        for rank in ranks:
            Y0 = problem.Y0(rank)
            solution, seconds = timed(
                lambda Y0=Y0, method=method: solve(problem.F, (0, t1), Y0, method, dt=t1, rng=0)
            )
            rows.append(
                [f"`{method!r}`", str(rank), f"{distance(solution.y_final, reference):.1e}", f"{seconds:.4f}"]
            )
            print(*rows[-1], flush=True)
    good = [row for row in rows if float(row[2]) <= 1e-8]
    best = min(good, key=lambda row: float(row[3])) if good else None
    verdict = (
        f"Relative error 1e-8 within {best[3]} s, by {best[0]} of rank {best[1]} (goal: 0.05 s)."
        if best
        else "No method reached 1e-8."
    )
    return [
        f"## Heat-Lyapunov, n = {n}",
        f"r = 20, h = 0.01, t from 0 to {t1:g}, exponential substeps. The decomposition of A, made once, takes "
        f"{decomposition:.2f} s and is not counted. One-sided: `symmetric=True`, one array for both sides.",
        steps,
        f"The whole interval in one step of h = {t1:g}: {verdict}",
        pages.table(["method", "rank", "error", "seconds"], rows),
    ]


# ---- heat-Lyapunov, sparse


def sparse_heat(n: int) -> tuple[SemiLinear, LowRank, Any]:
    """The field, the initial value in factors, and the exact solution at a time as a LowRank.

    A is diagonal in the sine basis, so that e^{tA} X needs two sine transforms; the integral over the source is done by
    Gauss's rule of 12 nodes.
    """
    from scipy import sparse
    from scipy.fft import dst, idst

    dx = 2 * np.pi / (n + 1)
    x = -np.pi + dx * np.arange(n)
    diagonals = [np.ones(n - 1), np.full(n, -2.0), np.ones(n - 1)]
    A = sparse.diags_array(diagonals, offsets=[-1, 0, 1], format="csr") / dx**2  # pyright: ignore[reportArgumentType]
    k = np.arange(1, 11)
    C = 10.0 ** (-(k - 1) / 2) * np.exp(-k * x[:, None] ** 2)
    C /= np.sqrt(np.linalg.norm(C.T @ C))
    modes = np.arange(1, 21)
    sines = np.sin(modes * x[:, None])
    weights = np.where(modes == 1, 1.0, 5 * np.exp(-(7 + 0.5 * (modes - 2))))
    Q, R = np.linalg.qr(sines)
    W, s, _ = np.linalg.svd(R @ np.diag(weights) @ R.T)
    U = Q @ W
    rates = -4 / dx**2 * np.sin(np.pi / (2 * (n + 1)) * np.arange(1, n + 1)) ** 2

    def flow(t: float, X: np.ndarray) -> np.ndarray:
        return np.asarray(
            idst(np.exp(t * rates)[:, None] * np.asarray(dst(X, type=1, axis=0)), type=1, axis=0)
        )

    def exact(t: float) -> LowRank:
        grown = flow(t, U)
        nodes, w = np.polynomial.legendre.leggauss(12)
        terms = [np.sqrt(t / 2 * wi) * flow(t / 2 * (1 + node), C) for node, wi in zip(nodes, w, strict=True)]
        source = np.concatenate(terms, axis=1)
        return LowRank(grown, np.diag(s), grown) + LowRank(source, None, source)

    return SemiLinear(A, A, LowRank(C, None, C), symmetric=True), LowRank(U, np.diag(s), U), exact


def krylov(sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)) -> list[str]:
    """One step of h = 0.01 by rational Krylov subspaces."""
    h, rows, times = 0.01, [], []
    for n in sizes:
        F, Y0, exact = sparse_heat(n)
        first = timed(lambda F=F, Y0=Y0: solve(F, (0, h), Y0, AugmentedBUG(), dt=h), 1)
        seconds = timed(lambda F=F, Y0=Y0: solve(F, (0, h), Y0, AugmentedBUG(), dt=h)).seconds
        error = float("nan")
        if n <= 100_000:
            reference = exact(h)
            error = (first.value.y_final - reference).norm() / reference.norm()
        times.append(seconds)
        ratio = f"{times[-1] / times[-2]:.1f}" if len(times) > 1 else ""
        rows.append(
            [
                f"{n:,}",
                f"{first.seconds:.2f}",
                f"{seconds:.2f}",
                ratio,
                f"{error:.1e}" if error == error else "-",
            ]
        )
        print(*rows[-1], flush=True)
    return [
        "## Heat-Lyapunov, sparse: rational Krylov subspaces",
        f"One step of h = {h}, r = 20, augmented BUG, one-sided; tridiagonal A as a sparse matrix. The "
        "first step makes the "
        "sparse factorisations, later ones reuse them. Goal: 1 s at n = 100,000, growing linearly.",
        pages.table(["n", "first step, s", "later steps, s", "ratio to the row above", "error"], rows),
        "Where the time of a later step goes at n = 100,000 (share of it, by function):",
        _profiled(sizes[min(1, len(sizes) - 1)]),
    ]


def _profiled(n: int) -> str:
    F, Y0, _ = sparse_heat(n)
    solve(F, (0, 0.01), Y0, AugmentedBUG(), dt=0.01)
    return profile(lambda: solve(F, (0, 0.01), Y0, AugmentedBUG(), dt=0.01))


# ---- Riccati


def riccati(n: int = 1000) -> list[str]:
    """To relative error 1e-6."""
    problem = problems.riccati(n)
    t1 = problem.t_span[1]
    decomposition = timed(lambda: decompose(problem.F), 1).seconds
    reference = np.asarray(problem.reference(t1))
    rows = []
    fixed, theta = (2e-3, 1e-3), 1e-8
    for method, name, values in (
        (MidpointBUG(rtol=theta), "dt", fixed),
        (AugmentedBUG(rtol=theta), "dt", fixed),
        (MidpointBUG(substep="implicit", rtol=theta), "dt", fixed),
        (ProjectedExponential(2, rtol=theta), "dt", fixed),
        (RandomizedSVD(rtol=theta), "dt", fixed),
        (MidpointBUG(), "rtol", (1e-3, 1e-4)),
        (AugmentedBUG(), "rtol", (1e-3, 1e-4)),
    ):
        for value in values:
            solution, seconds = timed(
                lambda method=method, name=name, value=value: limited(
                    problem.F, (0, t1), problem.Y0(20), method, **{name: value}
                ),
                1,
            )
            done = solution.t_final == t1
            error = (
                f"{distance(solution.y_final, reference):.1e}"
                if done
                else f"(stopped at t = {solution.t_final:.2g})"
            )
            rows.append([f"`{method!r}`", f"{name} = {value:g}", error, f"{seconds:.2f}", str(solution.nsteps),
                         str(solution.y_final.rank)])  # fmt: skip
            print(*rows[-1], flush=True)
    good = [row for row in rows if row[2][0] != "(" and float(row[2]) <= 1e-6]
    best = min(good, key=lambda row: float(row[3])) if good else None
    verdict = (
        f"Error 1e-6 first reached by {best[0]} with {best[1]}: {best[3]} s, {best[4]} steps, final "
        f"rank {best[5]}."
        if best
        else "No run reached 1e-6."
    )
    return [
        f"## Riccati equation, n = {n}",
        f"t from 0 to {t1:g} from X(0) = 0, rank 20 at the start, one-sided. The "
        f"decomposition of A takes {decomposition:.2f} s and is not counted. Runs are stopped after "
        f"{LIMIT:g} s. {verdict}",
        pages.table(["method", "steps given by", "error", "seconds", "steps", "rank"], rows),
        dense_riccati(n),
    ]


def dense_riccati(n: int) -> str:
    """What solve_ivp would need, extrapolated."""
    from scipy import sparse
    from scipy.integrate import solve_ivp

    problem = problems.riccati(n)

    def field(problem: Any, k: int) -> Any:
        return lambda t, y: problem.dense(t, y.reshape(k, k)).ravel()

    rate = float(2 * abs(problem.F.A).sum(axis=1).max())
    span = 60 / rate  # explicit steps are as long as stability allows once the fast modes have settled
    run = timed(
        lambda: solve_ivp(field(problem, n), (0, span), np.zeros(n * n), method="RK45", rtol=1e-6, atol=1e-9),
        1,
    )
    evaluations = run.value.nfev
    per_call = run.seconds / evaluations
    explicit = 0.1 * rate / 3.3 * 6 * per_call
    times, sizes = [], (20, 40)
    for k in sizes:
        small = problems.riccati(k)
        eye = sparse.identity(k, format="csr")
        jacobian = sparse.csc_matrix(sparse.kron(small.F.A, eye) + sparse.kron(eye, small.F.A))
        options = {"method": "BDF", "rtol": 1e-6, "atol": 1e-6, "jac": jacobian}
        times.append(
            timed(lambda small=small, k=k, options=options: solve_ivp(
                field(small, k), (0, 0.1), np.zeros(k * k), **options), 1).seconds
        )  # fmt: skip
        print("BDF", k, times[-1], flush=True)
    power = float(np.log(times[1] / times[0]) / np.log(sizes[1] / sizes[0]))
    implicit = times[1] * (n / sizes[1]) ** power
    return (
        f"`solve_ivp` on all {n * n:,} entries is extrapolated, not run: RK45 needs steps of 3.3 over the fastest rate "
        f"{rate:.2g}, {per_call:.3f} s a call of F, {explicit:.1e} s in all. BDF (rtol 1e-6, with the "
        "sparse Jacobian of the "
        f"linear part) took {times[0]:.1f} s and {times[1]:.1f} s at n = {sizes[0]} and {sizes[1]}, growing like "
        f"n^{power:.1f}: {implicit:.1e} s at n = {n}, if memory sufficed. LSODA would need a banded Jacobian of "
        f"{n * n:,} x {3 * n:,} entries."
    )


# ---- steel


def steel() -> list[str]:
    """The feedback gain of 1357 unknowns."""
    path = Path(os.environ.get("DLRA_DATA", ".")) / "rail" / "rail_1357.npz"
    if not path.exists():
        return ["## Steel profile", "Left out: no data."]
    problem = problems.steel_riccati(path)
    output = problem.output
    assert output is not None
    t1 = problem.t_span[1]
    start = time.process_time()
    gain = output(np.asarray(problem.reference(t1)))
    needed = time.process_time() - start
    decomposition = timed(lambda: decompose(problem.F), 1).seconds
    rows = []
    for method, rank, options in (
        (AugmentedBUG(rtol=1e-5), 40, {"dt": 450.0}),
        (AugmentedBUG(rtol=1e-6), 40, {"dt": 450.0}),
        (AugmentedBUG(rtol=1e-6), 40, {"dt": 45.0}),
        (MidpointBUG(rtol=1e-6), 40, {"dt": 450.0}),
        (RandomizedSVD(rtol=1e-6), 60, {"dt": 4500.0}),
        (RandomizedSVD(rtol=1e-6), 60, {"dt": 450.0}),
        (ProjectedExponential(2, rtol=1e-6), 40, {"dt": 450.0}),
        (AugmentedBUG(), 40, {"rtol": 1e-4}),
        (MidpointBUG(), 40, {"rtol": 1e-4}),
    ):
        solution, seconds = timed(
            lambda method=method, rank=rank, options=options: limited(
                problem.F, (0, t1), problem.Y0(rank), method, **options
            ),
            1,
        )
        done = solution.t_final == t1
        error = f"{distance(output(solution.y_final), gain):.1e}" if done else "(stopped)"
        setting = ", ".join(f"{k} = {v:g}" for k, v in options.items())
        rows.append(
            [
                f"`{method!r}`",
                setting,
                error,
                f"{seconds:.2f}",
                str(solution.nsteps),
                str(solution.y_final.rank),
            ]
        )
        print(*rows[-1], flush=True)
    good = [row for row in rows if row[2] != "(stopped)" and float(row[2]) <= 1e-4]
    best = min(good, key=lambda row: float(row[3])) if good else None
    verdict = (
        f"The gain is within 1e-4 of the reference after {best[3]} s, by {best[0]} with {best[1]}, rank {best[5]}."
        if best
        else "No run brought the gain within 1e-4."
    )
    return [
        "## Steel profile, 1357 unknowns",
        f"Riccati equation with a mass matrix, 0 to {t1:g} s; error of the gain K. {verdict} The decomposition takes "
        f"{decomposition:.2f} s and is not counted; the exact reference takes {needed:.0f} s.",
        pages.table(["method", "setting", "error of the gain", "seconds", "steps", "rank"], rows),
    ]


PARTS = {"heat": heat, "krylov": krylov, "riccati": riccati, "steel": steel}


def main(names: tuple[str, ...] = tuple(PARTS)) -> None:
    """Measure and write the page; with names of parts, print those only."""
    with one_thread():
        parts = [text for name in names for text in PARTS[name]()]
    if names == tuple(PARTS):
        head = ["# Measured: stiff problems", conditions("python -m validation.benchmarks.stiff")]
        pages.write("measured-stiff.md", [*head, *parts])
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or tuple(PARTS))
