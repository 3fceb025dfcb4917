"""What every integrator claims, measured: exactness, identities, orders, robustness, conservation, symmetry.

``python -m validation.properties`` writes ``docs/properties.md``. Each number is the outcome of a run, beside
what theory says; nothing is fitted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    Galerkin,
    GeneralizedNystrom,
    Increments,
    InterpolatoryCUR,
    InterpolatoryRungeKutta,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectedExponential,
    ProjectedRungeKutta,
    ProjectorSplitting,
    RandomizedSVD,
    RungeKuttaBUG,
    SecondOrderParallelBUG,
    StepTruncation,
    factored,
    linalg,
    problems,
    solve,
)
from dlra.integrators import WithSubstep
from validation import pages
from validation.checks import Slope
from validation.flows import compressed, norm, projected_flow, relative, tangent
from validation.manufactured import Moving, Rotating, normal, random_orthonormal

Rows = list[list[str]]

EVERY = (
    BUG(),
    AugmentedBUG(),
    ParallelBUG(),
    MidpointBUG(),
    MidpointBUG(bases="4r"),
    SecondOrderParallelBUG(),
    SecondOrderParallelBUG(bases="3r"),
    ProjectorSplitting(1),
    ProjectorSplitting(2),
    ProjectorSplitting(4),
    RungeKuttaBUG(),
    ProjectedRungeKutta(),
    ProjectedExponential(1),
    ProjectedExponential(2),
    StepTruncation(),
    RandomizedSVD(),
    GeneralizedNystrom(),
    InterpolatoryCUR(),
    InterpolatoryRungeKutta(),
    Galerkin(),
)
"""Every method once, and its variants of another order."""
TABLEAUX = ("euler", "heun2", "heun3", "rk4", "bs3", "dopri5")
TABLEAU_METHODS = (
    RungeKuttaBUG,
    ProjectedRungeKutta,
    StepTruncation,
    InterpolatoryCUR,
    InterpolatoryRungeKutta,
)


def error(Y: Any, A: np.ndarray) -> float:
    """Relative Frobenius distance."""
    return relative(Y.to_dense(), A)


def tight(method: Any) -> Any:
    """The method with substeps whose error does not count."""
    return replace(method, substep="adaptive") if isinstance(method, WithSubstep) else method


def settled(method: Any) -> Any:
    """The method with substeps of fourth order, whose error does not count beside its own up to third order."""
    return replace(method, substep="rk4") if isinstance(method, WithSubstep) else method


def label(method: Any) -> str:
    """The method, always with its order or tableau where it has a choice."""
    name = type(method).__name__
    if isinstance(method, (ProjectorSplitting, ProjectedExponential)):
        return f"{name}({method.order})"
    if isinstance(method, TABLEAU_METHODS):
        return f"{name}({method.tableau!r})"
    if isinstance(method, (MidpointBUG, SecondOrderParallelBUG)):
        return f"{name}({method.bases!r})"
    return f"{name}()"


def shown(method: Any) -> str:
    """The same as code."""
    return f"`{label(method)}`"


def verdict(holds: bool) -> str:
    """Whether the numbers of a row are what is expected."""
    return "yes" if holds else "**no**"


def final(F: Any, Y0: LowRank, method: Any, dt: float, t1: float = 1.0) -> LowRank:
    """Y(t1)."""
    return solve(F, (0.0, t1), Y0, method, dt=dt, t_eval=[t1], rng=0).y_final


# ---- exactness

EXACT = ("BUG", "AugmentedBUG", "ProjectorSplitting", "RandomizedSVD", "GeneralizedNystrom")
QUADRATURE = ("StepTruncation", "InterpolatoryCUR")


def exactness() -> Rows:
    """F = A'(t) with A(t) of rank r, that of the state: after one step and ten steps, whatever their length.

    "Cubic": A = U(t) S V(t)ᴴ cubic in t, default substeps, which integrate it exactly. "Rotating": the bases rotate by
    matrix exponentials, in all directions, with substeps of tolerance 1e-10, real and complex. The zero block of the
    parallel methods, the midpoint bases and the tangent projections lose exactness; step truncation and CUR
    integrate A' by the quadrature of their tableau.
    """
    rows = []
    for method in EVERY:
        name = type(method).__name__
        kind = "exact" if name in EXACT else "its quadrature" if name in QUADRATURE else "not exact"
        measured = []
        for dtype in ("float64", "complex128"):
            A = Moving(30, 20, 4, dtype)
            F = factored(lambda t, Y, A=A: A.rate(t))
            measured += [error(final(F, A.state(0.0), method, h), A(1.0)) for h in (1.0, 0.1)]
        for dtype in ("float64", "complex128"):
            A = Rotating(24, 20, [1.0, 0.5, 0.25, 0.125], dtype)
            measured.append(error(final(lambda t, Y, A=A: A.rate(t), A.state(), tight(method), 0.5), A(1.0)))
        cubic, rotating = measured[:4], measured[4:]
        holds = {
            "exact": max(cubic) < 1e-12 and max(rotating) < 1e-8,
            "its quadrature": max(cubic) < 1e-12 and min(rotating) > 1e-8,
            "not exact": min(rotating) > 1e-8,
        }[kind]
        rows.append([shown(method), kind, *(f"{e:.1e}" for e in measured), verdict(holds)])
    return rows


def increments() -> Rows:
    """`dlra.Increments(A)`: the same without derivatives; equations solved exactly, so that no quadrature remains."""
    rows = []
    for method in (BUG(), AugmentedBUG(), ProjectorSplitting(1), ProjectorSplitting(2), ProjectorSplitting(4),
                   ParallelBUG()):  # fmt: skip
        measured = []
        for dtype in ("float64", "complex128"):
            A = Rotating(24, 20, [1.0, 0.5, 0.25, 0.125], dtype)
            measured += [error(final(Increments(A), A.state(), method, h), A(1.0)) for h in (0.5, 0.05)]
        exact = type(method).__name__ in EXACT
        holds = max(measured) < 1e-12 if exact else min(measured) > 1e-4
        rows.append(
            [
                shown(method),
                "rounding" if exact else "not exact",
                *(f"{e:.1e}" for e in measured),
                verdict(holds),
            ]
        )
    return rows


# ---- Euler identities


def identities() -> Rows:
    """One step with Euler substeps from a random Y₀, h = 0.1, before truncation; relative differences."""
    rows = []
    for dtype in ("float64", "complex128"):
        for m, n in ((30, 20), (24, 24)):
            rng, r, h = np.random.default_rng(2), 4, 0.1
            A, B = (normal(rng, (k, k), dtype) for k in (m, n))

            def F(Y: np.ndarray, A: np.ndarray = A, B: np.ndarray = B) -> np.ndarray:
                return A @ Y + Y @ B + np.sin(np.real(Y))

            Y0 = LowRank(random_orthonormal(rng, m, r, dtype), normal(rng, (r, r), dtype),
                         random_orthonormal(rng, n, r, dtype))  # fmt: skip
            G = F(Y0.to_dense())
            U, V = linalg.augment(Y0.U, G @ Y0.V), linalg.augment(Y0.V, G.conj().T @ Y0.U)
            augmented = Y0.to_dense() + h * compressed(U, V, G)
            parallel = Y0.to_dense() + h * tangent(Y0, G)

            def run(method: Any, F: Any = F, Y0: LowRank = Y0, h: float = h) -> LowRank:
                return dlra.step(F, 0.0, h, Y0, method)

            full, cut = {"max_rank": 2 * r}, {"max_rank": r}
            pairs = (
                ("AugmentedBUG: Y₀ + h P_Û F P_V̂", run(AugmentedBUG(substep="euler", **full)), augmented),
                ("ParallelBUG: Y₀ + h P(Y₀) F", run(ParallelBUG(substep="euler", **full)), parallel),
                ("RungeKuttaBUG('euler') = AugmentedBUG, truncated", run(RungeKuttaBUG("euler", **cut)),
                 run(AugmentedBUG(substep="euler", **cut)).to_dense()),
                ("ProjectedRungeKutta('euler') = ParallelBUG, truncated", run(ProjectedRungeKutta("euler", **cut)),
                 run(ParallelBUG(substep="euler", **cut)).to_dense()),
            )  # fmt: skip
            for name, Y, expected in pairs:
                e = error(Y, expected)
                rows.append([name, f"{m} x {n}, {dtype}", "≤ 1e-13", f"{e:.1e}", verdict(e <= 1e-13)])
    return sorted(rows, key=lambda row: row[0])


# ---- orders


@dataclass(frozen=True)
class Claim:
    """A method with its orders.

    Attributes
    ----------
    method : Integrator
    on : int
        Against a solution of rank r; 0: it stalls.
    off : int or None
        Against the projected flow Ẏ = P(Y) F where F has a normal part of order one; 0: it stalls; None: nothing is
        claimed.
    at_least : bool
        Bases that are random or interpolated jump from step to step, and with them the error: its slope is bounded
        from below only.
    """

    method: Any
    on: int
    off: int | None
    at_least: bool = False


def claims() -> list[Claim]:
    """The orders that theory gives, for all methods and tableaux."""
    fixed = [
        Claim(BUG(), 1, 1),
        Claim(AugmentedBUG(), 1, 1),
        Claim(ParallelBUG(), 1, 1),
        Claim(MidpointBUG(), 2, 1),
        Claim(MidpointBUG(bases="4r"), 2, 1),
        Claim(SecondOrderParallelBUG(), 2, 1),
        Claim(SecondOrderParallelBUG(bases="3r"), 2, 1),
        Claim(ProjectorSplitting(1), 1, 1),
        Claim(ProjectorSplitting(2), 2, 2),
        Claim(ProjectorSplitting(4), 4, 4),
        Claim(ProjectedExponential(1), 1, 1),
        Claim(ProjectedExponential(2), 2, 2),
        # each step may miss the best approximation by as much as the normal part of the step, O(h): no order in sum
        Claim(RandomizedSVD(), 1, None, at_least=True),
        Claim(GeneralizedNystrom(), 1, 1, at_least=True),
        Claim(Galerkin(), 0, 0),
    ]
    orders = dict(zip(TABLEAUX, (1, 2, 3, 4, 3, 5), strict=True))
    for name, p in orders.items():
        fixed += [
            Claim(RungeKuttaBUG(name), min(p, 4), 1),  # its bases differ from stage to stage
            Claim(ProjectedRungeKutta(name), p, p),
            Claim(StepTruncation(name), p, 1),
            Claim(InterpolatoryCUR(name), p, 0, at_least=True),
            Claim(InterpolatoryRungeKutta(name), p, 0, at_least=True),
        ]
    return sorted(fixed, key=lambda claim: EVERY_NAMES.index(type(claim.method).__name__))


EVERY_NAMES = list(dict.fromkeys(type(method).__name__ for method in EVERY))
STEPS = {0: (20, 40, 80), 1: (20, 40, 80), 2: (20, 40, 80), 3: (16, 32, 64), 4: (16, 32, 64), 5: (16, 24, 32)}
"""Numbers of steps per order: small enough for the asymptotics, large enough for rounding."""

SOLUTION = Rotating(20, 20, np.geomspace(1.0, 0.1, 3), "complex128")
"""A(t) of rank three, and the field of which it is the solution."""


@lru_cache(maxsize=8)
def reference(eps: float, rank: int) -> np.ndarray:
    """Y(1) of the flow with the normal part eps E, projected on this rank; of the flow itself for rank 20."""
    return projected_flow(SOLUTION.leaving(eps), SOLUTION(0.0), rank, 0.0, 1.0, 500 if rank < 20 else 200)


def at_one(method: Any, eps: float, steps: int) -> LowRank:
    """Y(1) by a method with so many steps, of the field with the normal part eps E."""
    F: Any = SOLUTION.leaving(eps)
    if isinstance(method, ProjectedExponential):
        F = SOLUTION.semilinear(F)
    precise = tight if isinstance(method, ProjectorSplitting) and method.order == 4 else settled
    return final(F, SOLUTION.state(), precise(method), 1 / steps)


def order_on(claim: Claim) -> Slope:
    """Errors against A(1) at three step lengths."""
    return _order(claim, claim.on, 0.0, f"rank r, {label(claim.method)}")


def order_off(claim: Claim) -> Slope:
    """Errors against the projected flow, |eps E| = 1, at three step lengths."""
    return _order(claim, claim.off or 0, 1.0, f"projected flow, {label(claim.method)}")


def _order(claim: Claim, p: int, eps: float, where: str) -> Slope:
    composed = (
        isinstance(claim.method, ProjectorSplitting) and p == 4
    )  # of several substeps each: a longer step
    steps = (8, 16, 32) if composed else STEPS[p]
    exact = reference(eps, 3) if eps else SOLUTION(1.0)
    errors = [error(at_one(claim.method, eps, k), exact) for k in steps]
    return Slope.of(where, [1 / k for k in steps], errors, p, at_least=claim.at_least)


def orders() -> Rows:
    """Slope of the error over three step lengths, t from 0 to 1, substeps whose error does not count.

    "Rank r": a nonlinear field whose exact solution has the rank r of the state. "Projected flow": the same field plus
    a normal part of order one, compared with Ẏ = P(Y) F; there midpoint, second-order parallel, Runge-Kutta BUG and
    step truncation fall to order one by their theory, and interpolatory projections converge to another flow: their
    error stays, of the size of the normal part. Of the randomised singular value decomposition nothing is claimed
    there ("-"): each of its steps may miss the best approximation by as much as the normal part of the step, of the
    size of h. A slope within 0.1 of p is as expected, and a steeper one too where "≥" stands before p: random or
    interpolated bases jump from step to step.
    """
    rows = []
    for claim in claims():
        cells: list[str] = []
        holds = True
        for order, slope in ((claim.on, order_on(claim)), (claim.off, order_off(claim))):
            least = f"≥ {order}" if claim.at_least else f"{order}"
            expected = "-" if order is None else "stalls" if order == 0 else least
            cells += [expected, f"{slope.y[-1]:.1e}", f"{slope.seen:.2f}"]
            if order is not None:
                holds &= slope.ok if order else slope.seen < 0.5 and slope.y[-1] > 1e-3
        rows.append([shown(claim.method), *cells, verdict(holds)])
    return rows


# ---- robustness

SMALLEST = (1e-1, 1e-4, 1e-8, 1e-12)


def robustness() -> Rows:
    """Errors at t = 1 as the smallest of four singular values goes to zero, and from a start of rank 4 + 3 whose
    additional singular values are zero; dt = 0.02.

    "Robust": no error more than ten times that of σ = 0.1. Orders above two are classical: their constants depend on
    σ, because the stages leave the matrices of rank r by O(h²) and return by a truncation. There "order 2 or better"
    asks for errors below h²/10 = 4e-5 at every σ. Where Y₀ has a smaller rank than r, methods that move along tangent
    spaces may fall to order one; here their errors stay below h²/10 as well.
    """
    rows = []
    for method in EVERY:
        if isinstance(method, Galerkin):
            continue
        measured = []
        for smallest in SMALLEST:
            A = Rotating(16, 13, np.geomspace(1.0, smallest, 4))
            measured.append(error(final(_field(A, method), A.state(), tight(method), 0.02), A(1.0)))
        A = Rotating(16, 13, np.geomspace(1.0, 1e-1, 4))
        over = error(final(_field(A, method), A.state(extra=3), tight(method), 0.02), A(1.0))
        classical = method.order > 2
        limit = 4e-5 if classical else 10 * max(measured[0], 1e-8)
        holds = max(*measured, over) <= limit
        expected = "order 2 or better" if classical else "robust"
        rows.append([shown(method), expected, *(f"{e:.1e}" for e in (*measured, over)), verdict(holds)])
    return rows


def _field(A: Rotating, method: Any) -> Any:
    return A.semilinear(A.F) if isinstance(method, ProjectedExponential) else A.F


# ---- conservation


def conservation() -> Rows:
    """Linear Schrödinger equation, n = 100, r = 8: relative drift of norm and energy, t from 0 to 1.

    ϑ is the truncation tolerance. "Substep": up to the accuracy of the small equations, here of tolerance 1e-10.
    The drift of the others is that of their order.
    """
    problem = problems.schroedinger(n=100)
    Y0 = problem.Y0(8)
    rows = []
    runs: tuple[tuple[Any, float, str, float], ...] = (
        (BUG(), 0.01, "first order", 1e-1),
        (BUG(), 0.005, "half of that", 1e-1),
        (AugmentedBUG(atol=1e-6), 0.01, "ϑ", 1e-6),
        (AugmentedBUG(atol=1e-8), 0.01, "ϑ", 1e-8),
        (ParallelBUG(atol=1e-6), 0.01, "first order", 1e-1),
        (MidpointBUG(atol=1e-6), 0.01, "ϑ", 1e-6),
        (MidpointBUG(bases="4r", atol=1e-6), 0.01, "ϑ", 1e-6),
        (SecondOrderParallelBUG(atol=1e-6), 0.02, "norm ϑ + O(h⁴)", 1e-2),
        (SecondOrderParallelBUG(atol=1e-6), 0.01, "norm: a sixteenth", 1e-2),
        (ProjectorSplitting(1), 0.01, "substep", 1e-9),
        (ProjectorSplitting(2), 0.01, "substep", 1e-9),
        (ProjectorSplitting(4), 0.01, "substep", 1e-8),
        (RungeKuttaBUG(atol=1e-6), 0.01, "order 4", 1e-5),
        (ProjectedRungeKutta(), 0.01, "order 4", 1e-5),
    )
    before: dict[str, float] = {}
    for method, dt, expected, limit in runs:
        Y1 = final(problem.F, Y0, tight(method), dt)
        drifts = [
            abs(f(1.0, Y1) / f(0.0, Y0) - 1) for f in (problem.observables[k] for k in ("norm", "energy"))
        ]
        holds = max(drifts) <= limit
        if expected == "half of that":
            holds &= 0.3 < drifts[0] / before["BUG"] < 0.7
        if expected == "norm: a sixteenth":
            holds &= drifts[0] < 0.15 * before["SecondOrderParallelBUG"] or drifts[0] < 1e-6
        before[type(method).__name__] = drifts[0]
        theta = f"{atol:g}" if (atol := getattr(method, "atol", 0.0)) else "-"
        cells = (f"{dt:g}", theta, expected, *(f"{drift:.1e}" for drift in drifts))
        rows.append([shown(method), *cells, verdict(holds)])
    return rows


# ---- symmetry


def symmetry() -> Rows:
    """A symmetric field and start. Declared (`factored(F, symmetric=True)`): one array is both sides, bit for bit, and
    only one side is computed. Undeclared: relative asymmetry at the end. Real, and Hermitian complex."""
    rows = []
    for method in EVERY:
        cells, holds = [], True
        for dtype in ("float64", "complex128"):
            rng = np.random.default_rng(3)
            A = normal(rng, (20, 20), dtype) / 5
            C = normal(rng, (20, 3), dtype) / 5
            source = LowRank(C, None, C)
            U = random_orthonormal(rng, 20, 4, dtype)
            Y0 = LowRank(U, np.diag([1.0, 0.5, -0.25, 0.1]).astype(dtype), U)

            def F(Y: Any, A: np.ndarray = A, source: LowRank = source) -> Any:
                return A @ Y + Y @ A.conj().T + source - (Y @ Y) * 0.1

            if method.keeps_symmetry:
                Y1 = final(factored(F, symmetric=True), Y0, method, 0.05)
                S = Y1.S
                same = Y1.V is Y1.U and np.array_equal(S, S.conj().T)
                cells.append("V is U" if same else "differ")
                holds &= same
            else:
                cells.append("-")
            Z = final(factored(F), Y0, method, 0.05).to_dense()
            asymmetry = norm(Z - Z.conj().T) / norm(Z)
            cells.append(f"{asymmetry:.1e}")
            holds &= (asymmetry < 1e-11) == method.keeps_symmetry
        rows.append([shown(method), "kept" if method.keeps_symmetry else "not kept", *cells, verdict(holds)])
    return rows


# ---- non-autonomous fields


def nonautonomous() -> Rows:
    """X' = t B with B of rank one, X(0) = B: X(1) = 1.5 B exactly for every method of second order, whatever dt; 0.05
    short with dt = 0.1 for the left Riemann sums of Euler's scheme. Wrong nodes cᵢ show here."""
    rng = np.random.default_rng(4)
    B = LowRank(random_orthonormal(rng, 9, 1), np.array([[1.0]]), random_orthonormal(rng, 7, 1))
    rows = []
    for method in (
        *EVERY,
        *(cls(name) for cls in TABLEAU_METHODS for name in ("euler", "heun2", "heun3", "bs3", "dopri5")),
    ):
        first = getattr(method, "tableau", "") == "euler" or (
            isinstance(method, ProjectedExponential) and method.order == 1
        )
        X = final(factored(lambda t, Y: t * B), B, method, 0.1)
        value = float(X.norm())
        expected = 1.45 if first else 1.5
        e = abs(value - expected)
        rows.append([shown(method), f"{expected:g}", f"{value:.15g}", f"{e:.1e}", verdict(e < 1e-12)])
    return rows


TABLES: tuple[tuple[str, Callable[[], Rows], list[str]], ...] = (
    (
        "Exactness",
        exactness,
        ["method", "expected", "cubic, real, h = 1", "h = 0.1", "complex, h = 1", "h = 0.1",
         "rotating, real, h = 0.5", "complex", "as expected"],
    ),
    (
        "Exactness for increments",
        increments,
        ["method", "expected", "real, h = 0.5", "h = 0.05", "complex, h = 0.5", "h = 0.05", "as expected"],
    ),
    ("Euler identities", identities, ["identity", "case", "expected", "measured", "as expected"]),
    (
        "Orders",
        orders,
        ["method", "rank r: order", "error", "slope", "projected flow: order", "error", "slope", "as expected"],
    ),
    (
        "Robustness",
        robustness,
        ["method", "expected", "σ = 1e-1", "1e-4", "1e-8", "1e-12", "rank too high by 3", "as expected"],
    ),
    ("Conservation", conservation, ["method", "dt", "ϑ", "expected", "norm", "energy", "as expected"]),
    (
        "Symmetry",
        symmetry,
        ["method", "expected", "real, declared", "undeclared", "complex, declared", "undeclared", "as expected"],
    ),
    ("Non-autonomous fields", nonautonomous, ["method", "expected", "measured", "difference", "as expected"]),
)  # fmt: skip


def report() -> list[str]:
    """The parts of the page: all tables as Markdown."""
    parts, failed = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dlra.DlraWarning)
        for title, measure, columns in TABLES:
            rows = measure()
            failed += [f"{title}: {row[0]}" for row in rows if row[-1] != "yes"]
            parts += [f"## {title}", " ".join((measure.__doc__ or "").split()), pages.table(columns, rows)]
    head = (
        "Written by `python -m validation.properties`: every method on problems with known solutions, what "
        "theory says beside what was measured."
    )
    summary = "All rows are as expected." if not failed else "Not as expected: " + "; ".join(failed) + "."
    return ["# Measured: properties of the integrators", head, summary, *parts]


if __name__ == "__main__":
    written = report()
    pages.write("properties.md", written)
    print("\n\n".join(written))
