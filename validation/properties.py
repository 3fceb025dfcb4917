"""What every integrator claims, measured: exactness, identities, orders, robustness, conservation, symmetry.

Writes ``docs/properties.md``. Each number is the outcome of a run, beside what theory says; nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank, ProjectorSplitting, factored, linalg, problems, solve
from validation.manufactured import Moving, Rotating, projected_flow, random_orthonormal, slopes

DOCS = Path(__file__).resolve().parents[1] / "docs"
BUG = dlra.BUG
EVERY = (BUG(), AugmentedBUG(), ProjectorSplitting(1), ProjectorSplitting(2), ProjectorSplitting(4))
Rows = list[list[str]]


def error(Y: Any, A: np.ndarray) -> float:
    """Relative Frobenius distance."""
    return float(np.linalg.norm(Y.to_dense() - A) / np.linalg.norm(A))


def exactness() -> Rows:
    """F = A'(t) with rank A(t) = r: rounding, whatever the step."""
    rows = []
    for method in EVERY:
        cells = [repr(method)]
        for dtype in ("float64", "complex128"):
            A = Moving(30, 20, 4, dtype)
            for h in (0.5, 0.1):
                solution = solve(
                    factored(lambda t, Y, A=A: A.rate(t)), (0.0, 1.0), A.state(0.0), method, dt=h
                )
                cells.append(f"{error(solution.y_final, A(1.0)):.1e}")
        rows.append(cells)
    return rows


def identities() -> Rows:
    """Euler steps of augmented BUG: Y₁ = Y₀ + h P_Û F(Y₀) P_V̂ before truncation, at one evaluation of F."""
    rows = []
    for dtype in ("float64", "complex128"):
        for m, n in ((30, 20), (24, 24)):
            rng, r, h = np.random.default_rng(2), 4, 0.1
            A, B = (rng.standard_normal((k, k)) for k in (m, n))

            def F(Y: np.ndarray, A: np.ndarray = A, B: np.ndarray = B) -> np.ndarray:
                return A @ Y + Y @ B + np.sin(np.real(Y))

            Y0 = LowRank(random_orthonormal(rng, m, r, dtype), rng.standard_normal((r, r)).astype(dtype),
                         random_orthonormal(rng, n, r, dtype))  # fmt: skip
            G = F(Y0.to_dense())
            U, V = linalg.augment(Y0.U, G @ Y0.V), linalg.augment(Y0.V, G.conj().T @ Y0.U)
            expected = Y0.to_dense() + h * U @ (U.conj().T @ G @ V) @ V.conj().T
            solution = solve(F, (0.0, h), Y0, AugmentedBUG(substep="euler", max_rank=2 * r), dt=h)
            rows.append(
                [f"{m} x {n}, {dtype}", f"{error(solution.y_final, expected):.1e}", str(solution.nfev)]
            )
    return rows


def orders() -> Rows:
    """Slope of the error, against a solution of rank r and against the projected flow of a field that leaves it."""
    A = Rotating(16, 13, 2.0 ** -np.arange(3.0))
    tight = "adaptive"
    reference = projected_flow(_leaving(A), A(0.0), 3, 0.0, 1.0, 2000)
    rows = []
    cases = (
        (BUG(substep=tight), 1, (20, 40, 80)),
        (AugmentedBUG(substep=tight), 1, (20, 40, 80)),
        (ProjectorSplitting(1, substep=tight), 1, (20, 40, 80)),
        (ProjectorSplitting(2, substep=tight), 2, (10, 20, 40)),
        (ProjectorSplitting(4, substep=tight), 4, (4, 8, 16)),
    )
    for method, order, steps in cases:
        on = [error(solve(A.F, (0.0, 1.0), A.state(), method, dt=1 / k).y_final, A(1.0)) for k in steps]
        off = [
            error(solve(_leaving(A), (0.0, 1.0), A.state(), method, dt=1 / k).y_final, reference)
            for k in steps
        ]
        rows.append(
            [repr(method), str(order), f"{slopes(steps, on)[-1]:.2f}", f"{slopes(steps, off)[-1]:.2f}"]
        )
    return rows


def _leaving(A: Rotating) -> Callable[[float, np.ndarray], np.ndarray]:
    """The field of A plus a part of order one in all directions, so that its solution leaves the rank."""
    rng = np.random.default_rng(7)
    E = rng.standard_normal((16, 13))
    E /= np.linalg.norm(E)
    return lambda t, Y: A.F(t, Y) + E


def robustness() -> Rows:
    """Errors as the smallest singular value of the start goes to zero, and with too high a rank."""
    rows = []
    for make in (BUG, AugmentedBUG, ProjectorSplitting):
        method = make(substep="adaptive")
        cells = [repr(method)]
        for smallest in (1e-1, 1e-4, 1e-8, 1e-12):
            A = Rotating(16, 13, np.geomspace(1.0, smallest, 4))
            cells.append(f"{error(solve(A.F, (0.0, 1.0), A.state(), method, dt=0.02).y_final, A(1.0)):.1e}")
        A = Rotating(16, 13, np.geomspace(1.0, 1e-1, 4))
        over = solve(A.F, (0.0, 1.0), A.state(extra=3), method, dt=0.02)
        rows.append([*cells, f"{error(over.y_final, A(1.0)):.1e}"])
    return rows


def conservation() -> Rows:
    """Linear Schrödinger equation, n = 100: drift of norm and energy over t = 0 to 1, relative."""
    problem = problems.schroedinger(n=100)
    Y0 = problem.Y0(8)
    rows = []
    tight = "adaptive"
    runs = (
        (BUG(), 0.01),
        (BUG(), 0.005),
        (AugmentedBUG(atol=1e-6, substep=tight), 0.01),
        (AugmentedBUG(atol=1e-8, substep=tight), 0.01),
        (ProjectorSplitting(2, substep=tight), 0.01),
    )
    for method, dt in runs:
        final = solve(problem.F, (0.0, 1.0), Y0, method, dt=dt, t_eval=[1.0]).y_final
        drifts = [
            abs(f(1.0, final) / f(0.0, Y0) - 1) for f in (problem.observables[k] for k in ("norm", "energy"))
        ]
        rows.append([repr(method), f"{dt:g}", *(f"{drift:.1e}" for drift in drifts)])
    return rows


def symmetry() -> Rows:
    """A symmetric field and start: distance of Y from its transpose at the end."""
    rng = np.random.default_rng(3)
    A = rng.standard_normal((20, 20)) / 5
    C = rng.standard_normal((20, 20))
    C = (C + C.T) / 20
    U = np.linalg.qr(rng.standard_normal((20, 4)))[0]
    Y0 = LowRank(U, np.diag([1.0, -0.5, 0.25, 0.1]), U)
    rows = []
    for method in (BUG(), AugmentedBUG(), ProjectorSplitting(1)):
        Y = solve(
            lambda Y: A @ Y + Y @ A.T + C - 0.1 * Y @ Y, (0.0, 1.0), Y0, method, dt=0.05
        ).y_final.to_dense()
        rows.append([repr(method), f"{np.linalg.norm(Y - Y.T) / np.linalg.norm(Y):.1e}"])
    return rows


TABLES: tuple[tuple[str, Callable[[], Rows], list[str]], ...] = (
    (
        "Exactness",
        exactness,
        ["method", "real, h = 0.5", "real, h = 0.1", "complex, h = 0.5", "complex, h = 0.1"],
    ),
    ("Euler identity", identities, ["case", "relative difference", "evaluations of F"]),
    ("Orders", orders, ["method", "order", "slope, solution of rank r", "slope, projected flow"]),
    ("Robustness", robustness, ["method", "σ = 1e-1", "1e-4", "1e-8", "1e-12", "rank too high by 3"]),
    ("Conservation", conservation, ["method", "dt", "norm", "energy"]),
    ("Symmetry", symmetry, ["method", "relative asymmetry"]),
)


def report() -> str:
    """All tables as Markdown."""
    lines = ["# Measured: properties of the integrators", "", "Written by `python -m validation`.", ""]
    for title, measure, columns in TABLES:
        lines += [f"## {title}", "", (measure.__doc__ or "").strip(), ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(row) + " |" for row in measure()] + [""]
    return "\n".join(lines)
