"""Theorem 1: the global error of the fixed-rank and the rank-adaptive integrator.

**Statement.** After t steps of length η of Algorithm 1, with truncation tolerance ϑ in each,

    |Uᵗ Sᵗ Vᵗᵀ - W(tη)| <= c₁ ε + c₂ η + c₃ ϑ/η,

W the solution of Ẇ = F(W) from the same start, with constants independent of singular values.

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, Theorem 1 and its proof in appendix 6.1.

**Assumptions.** P1: |F| <= C₁, Lipschitz constant C₂. P2: |(I - P(Y)) F(Y)| <= ε. Exact K-, L- and S-steps (here: one
classical Runge-Kutta step each). ϑ = 0 stands for the fixed-rank integrator.

**Constants.** With the local error η (ĉ₁ ε + ĉ₂ η) + ϑ of Lemma 3 and Lady Windermere's fan over the time T = tη,

    c₁ = ĉ₁ G,  c₂ = ĉ₂ G,  c₃ = G,  G = (e^{C₂T} - 1)/C₂,

since η Σ e^{C₂(T - t_k)} <= G; a start W(0) apart from Y⁰ adds e^{C₂T} |W(0) - Y⁰|. Without the theorem the error is at
most 2 C₁T + tϑ for bases that contain the old ones, and (1 + √3) C₁T for the fixed-rank integrator (a step of which
moves by at most √3 C₁η: √2 C₁η by projecting onto the new bases, C₁η within them).

Sharper (derived), for the rank-adaptive integrator. Û contains U₀ and K(η), V̂ contains V₀ and L(η); Π = Id - P_Û ·
P_V̂ is an orthogonal projector. Split W(η) - Y₀ = ∫ F(W) into η F(Y₀) and a rest of at most LBη²/2; F(Y₀) into its
normal part, at most ε, and the two parts F(Y₀) V₀V₀ᵀ and U₀U₀ᵀ F(Y₀) (I - V₀V₀ᵀ), which are orthogonal to each other
and, up to LBη²/2 each, increments of K and L, on which Π vanishes. Hence |Π W(η)| <= ε η + (1/2 + 1/√2) LBη². Within
the bases |∫ F(Y) - F(W)| <= LBη², since both start from Y₀ and move by at most B a unit of time. The two are
orthogonal:

    |Y¹ - W(η)| <= √((ε η + (1/2 + 1/√2) LBη²)² + (LBη²)²) + ϑ <= ε η + 2.21 LBη² + ϑ.

Where F is minus the gradient of a convex loss, the flow does not expand, the fan adds up without growth, and the error
is at most T (ε + 2.21 LBη + ϑ/η); else each step is weighted with e^{L(T - t_k)}. P2 is used at the iterates alone, and
B between them: |F(Y_k)| e^{Lη} will do, by Gronwall, so that both can be measured along the way. A constant field with
a normal part of norm ε attains it: there L = 0 and the error is ε T.

**Use.** The error is that of an Euler method: halve η, halve the error, until ε or ϑ/η shows. Take ϑ <= c η² with c
around LB; ϑ proportional to η costs convergence, and at fixed ϑ smaller steps make things worse, in proportion to 1/η:
each step forgets up to ϑ. The first bound is useless as a number (28 C₁C₂ G η and more); the second one is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, hypot, sqrt
from typing import Any

import numpy as np

import dlra
from dlra import BUG, AugmentedBUG, LowRank
from validation.checks import Finding, Inequality, Slope, check
from validation.families import Family, dense_start, quadratic_sum, root_sylvester
from validation.families_s1 import tangent_field_of
from validation.flows import normal_part, rk4
from validation.manufactured import random_orthonormal

Matrix = np.ndarray
RANK_3 = (1.0, 0.4, 0.1)
SMALL = (1.0, 0.4, 1e-7)


def _adaptive(theta: float) -> AugmentedBUG:
    return AugmentedBUG(substep="rk4", atol=theta)


FIXED = BUG(substep="rk4")


def _iterates(family: Family, Y0: LowRank, h: float, T: float, method: Any) -> Iterator[LowRank]:
    """Y⁰, ..., Yᵗ."""
    Y = Y0
    yield Y
    for k in range(round(T / h)):
        Y = dlra.step(lambda t, Y: family.F(Y), k * h, h, Y, method)
        yield Y


def _error(family: Family, Y0: LowRank, h: float, T: float, method: Any, W: Matrix | None = None) -> float:
    """|Yᵗ - W(T)|; W is W(T), where it is known already."""
    *_, last = _iterates(family, Y0, h, T, method)
    W = rk4(family.F, Y0.to_dense(), T, 400) if W is None else W
    return float(np.linalg.norm(last.to_dense() - W))


def _growth(L: float, T: float) -> float:
    return (exp(L * T) - 1) / L if L else T


def _printed(family: Family, h: float, T: float, theta: float) -> float:
    """The right side of the theorem, with the constants of Lemma 3."""
    f, e = family, exp(family.L * h)
    c1 = 2 * (1 + f.L * h * e) * (3 * e + 4)
    c2 = 2 * f.B * f.L * ((1 + f.L * h * e) * (4 * e + 9) + e)
    return _growth(f.L, T) * (c1 * f.eps + c2 * h + theta / h)


@check("s1-theorem-1", "Theorem 1: |Yᵗ - W(tη)| <= c₁ ε + c₂ η + c₃ ϑ/η", expect="holds")
def theorem_1(quick: bool) -> Iterator[Finding]:
    """Tangential fields with ε = 0 and 0.01, real and complex, square and not, T = 1/16; fixed-rank with σ_min = 1e-7,
    adaptive with ϑ = 1e-12 and ϑ = 0.02 η; η from 2^-10 to 2^-5 (where the bound is vacuous)."""
    T = 2.0**-4
    shapes = (("float64", 12, 12), ("complex128", 9, 9), ("float64", 14, 9))
    for power in (10, 5) if quick else (10, 9, 7, 5):
        h = 2.0**-power
        for dtype, m, n in shapes[: 2 if quick else 3]:
            for eps in (0.0, 0.01):
                family = tangent_field_of(dtype, m, n, eps=eps, seed=m)
                Y0 = dense_start(np.random.default_rng(m), m, n, SMALL, dtype)
                W = rk4(family.F, Y0.to_dense(), T, 100)
                moved = family.B * T
                for theta in (None, 1e-12, 0.02 * h):
                    method = FIXED if theta is None else _adaptive(theta)
                    left = _error(family, Y0, h, T, method, W)
                    trivial = (1 + sqrt(3)) * moved if theta is None else 2 * moved + theta * T / h
                    label = "fixed rank" if theta is None else f"ϑ = {theta:g}"
                    yield Inequality(
                        f"{dtype} {m} x {n}, ε = {eps:g}, {label}, η = {h:g}",
                        left, _printed(family, h, T, theta or 0.0), trivial,
                    )  # fmt: skip


def _sharper(
    family: Family,
    Y0: LowRank,
    h: float,
    T: float,
    theta: float,
    *,
    convex: bool,
    apart: Matrix | None = None,
) -> tuple[float, float, float]:
    """Error, derived bound and what is known without it, from ε, B at the iterates; W(0) = Y⁰ + ``apart``."""
    bound = way = 0.0
    start = Y0.to_dense() if apart is None else Y0.to_dense() + apart
    steps = round(T / h)
    Y = Y0
    for k, Y in enumerate(_iterates(family, Y0, h, T, _adaptive(theta))):
        if k == steps:
            break
        F = family.F(Y.to_dense())
        eps, B, L = (
            float(np.linalg.norm(normal_part(Y, F))),
            float(np.linalg.norm(F)) * exp(family.L * h),
            family.L,
        )
        local = hypot(eps * h + (0.5 + sqrt(0.5)) * L * B * h * h, L * B * h * h) + theta
        bound += local * (1.0 if convex else exp(L * (T - (k + 1) * h)))
        way += B * h + theta
    gap = 0.0 if apart is None else float(np.linalg.norm(apart))
    bound += gap * (1.0 if convex else exp(family.L * T))
    flow = min(family.B * T, float(np.linalg.norm(family.F(start))) * (T if convex else _growth(family.L, T)))
    error = float(np.linalg.norm(Y.to_dense() - rk4(family.F, start, T, 400)))
    return error, bound, way + flow + gap


def _constant(m: int, n: int, eps: float) -> tuple[Family, LowRank]:
    """F = U₀ M V₀ᵀ + ε N with N normal to the tangent space at Y⁰: it stays so, and nothing of N is ever seen."""
    rng = np.random.default_rng(m)
    Y0 = dense_start(rng, m, n, RANK_3)
    U, S, V = Y0.factors
    N = normal_part(Y0, rng.standard_normal((m, n)))
    F = 0.2 * U @ S @ V.T + eps * N / np.linalg.norm(N)
    B = float(np.linalg.norm(F))
    return Family([lambda Y: F], B=B, L=0.0, eps=eps, C=0.0, shape=(m, n), mean=lambda Y: F), Y0


@check(
    "s1-theorem-1-sharper",
    "Theorem 1, derived: error <= T (ε + 2.21 LBη + ϑ/η), rank-adaptive",
    expect="sharp",
)
def sharper(quick: bool) -> Iterator[Finding]:
    """The derived bound, summed step by step from ε and B at the iterates. Constant fields with a normal part
    (attained); convex losses and tangential fields, with and without ε, with ϑ = 1e-12, 0.1 η² and 0.01 η, and once
    with a start beside Y⁰. Truncation alone, in one step, is attained too."""
    T = 0.5
    for m, n in ((10, 10), (12, 8)):
        for eps in (0.01, 0.5):
            family, Y0 = _constant(m, n, eps)
            label = f"constant field {m} x {n}, ε = {eps:g}"
            yield Inequality(label, *_sharper(family, Y0, 2.0**-4, T, 1e-12, convex=True))
    for theta, tail in ((0.01, (0.0095, 0.0099)), (0.1, (0.05, 0.06, 0.07))):
        Y0 = dense_start(np.random.default_rng(5), 9, 7, (1.0, 0.5, *tail))
        still = Family([np.zeros_like], B=0.0, L=0.0, eps=0.0, C=0.0, shape=(9, 7), mean=np.zeros_like)
        yield Inequality(
            f"F = 0, one step, ϑ = {theta:g}", *_sharper(still, Y0, 0.25, 0.25, theta, convex=True)
        )
    powers = (6, 3) if quick else (9, 7, 5, 3)
    for h in (2.0**-k for k in powers):
        for theta in (1e-12, 0.01 * h) if quick else (1e-12, 0.1 * h * h, 0.01 * h):
            for m, n in ((10, 10), (12, 8))[: 1 if quick else 2]:
                Y0 = dense_start(np.random.default_rng(m), m, n, RANK_3)
                for eps in (0.0, 0.05):
                    where = f"{m} x {n}, ε = {eps:g}, ϑ = {theta:g}, η = {h:g}"
                    loss = root_sylvester(m, n, eps=eps, g=0.0, seed=m)
                    yield Inequality(f"convex, {where}", *_sharper(loss, Y0, h, T, theta, convex=True))
                    field = tangent_field_of("float64", m, n, eps=eps, seed=m)
                    yield Inequality(f"tangential, {where}", *_sharper(field, Y0, h, T, theta, convex=False))
    Y0 = dense_start(np.random.default_rng(3), 10, 10, RANK_3)
    apart = 0.05 * np.random.default_rng(4).standard_normal((10, 10))
    loss = root_sylvester(10, 10, eps=0.0, g=0.0, seed=3)
    yield Inequality(
        "convex, W(0) apart from Y⁰", *_sharper(loss, Y0, 2.0**-6, T, 1e-12, convex=True, apart=apart)
    )


@check("s1-theorem-1-slope", "Theorem 1: order 1 in η", expect="holds")
def slope(quick: bool) -> Iterator[Finding]:
    """ε = 0: the error falls like η, fixed-rank and rank-adaptive, for a convex loss and a tangential field, square and
    not, real and complex. ϑ = η²: far below it the rank grows where η is large, and the error there is smaller than the
    order lets expect.
    """
    hs = [2.0**-k for k in range(4, 7 if quick else 9)]
    for dtype, m, n in (("float64", 12, 12), ("complex128", 9, 9), ("float64", 14, 9))[: 2 if quick else 3]:
        Y0 = dense_start(np.random.default_rng(m), m, n, RANK_3, dtype)
        cases = [("tangential", tangent_field_of(dtype, m, n, seed=m))]
        if dtype == "float64":
            cases.append(("convex", root_sylvester(m, n, eps=0.0, g=0.0, seed=m)))
        for name, family in cases:
            W = rk4(family.F, Y0.to_dense(), 1.0, 400)
            for kind, methods in (
                ("fixed rank", [FIXED] * len(hs)),
                ("adaptive", [_adaptive(h * h) for h in hs]),
            ):
                errors = [
                    _error(family, Y0, h, 1.0, method, W) for h, method in zip(hs, methods, strict=True)
                ]
                yield Slope.of(f"{name} {dtype} {m} x {n}, {kind}", hs, errors, 1.0)


@check("s1-theorem-1-plateau", "Theorem 1: a plateau proportional to ε, fixed rank", expect="holds")
def plateau(quick: bool) -> Iterator[Finding]:
    """Fixed rank, T = 1: at η = 2^-7 the error grows like ε, from 0.03 to 0.3, and at ε = 0.3 it does not depend on
    η."""
    for m, n in ((12, 12), (14, 9))[: 1 if quick else 2]:
        Y0 = dense_start(np.random.default_rng(m), m, n, RANK_3)
        sizes = (0.03, 0.1, 0.3)
        families = [tangent_field_of("float64", m, n, eps=eps, seed=m) for eps in sizes]
        errors = [_error(family, Y0, 2.0**-7, 1.0, FIXED) for family in families]
        yield Slope.of(f"{m} x {n}, η = 2^-7", sizes, errors, 1.0, x_name="ε")
        hs = [2.0**-k for k in range(4, 8)]
        errors = [_error(families[-1], Y0, h, 1.0, FIXED) for h in hs]
        yield Slope.of(f"{m} x {n}, ε = 0.3", hs, errors, 0.0)


def _dense_spectrum(n: int, ratio: float, *, seen: bool) -> tuple[Family, LowRank]:
    """L(Y) = |Y - A|²/2 with singular values of A that fall slowly, and a start of rank 3; ``seen``: with a trace of A,
    so that no direction of it is hidden from the first step."""
    rng = np.random.default_rng(n)
    A = (random_orthonormal(rng, n + 2, n) * ratio ** np.arange(n)) @ random_orthonormal(rng, n, n).T
    Y0 = dense_start(rng, n + 2, n, RANK_3)
    if seen:
        Y0 = LowRank.from_dense(Y0.to_dense() + 1e-8 * A, rank=n)
    return quadratic_sum([A]), Y0


@check(
    "s1-theorem-1-truncation",
    "Theorem 1: ϑ = k ηᵃ gives order min(1, a - 1); fixed ϑ an error like ϑ/η",
    expect="holds",
)
def truncation(quick: bool) -> Iterator[Finding]:
    """A quadratic loss with a target of full rank and slowly falling singular values, T = 1. With a start that sees the
    target, the term ϑ/η rules: slopes 0, 1/2 and 1 for a = 1, 3/2 and 2, and -1 at fixed ϑ. With a = 3 and a start that
    does not, c₂ η rules: slope 1."""
    family, Y0 = _dense_spectrum(26, 0.85, seen=True)
    W = rk4(family.F, Y0.to_dense(), 1.0, 200)
    hs = [2.0**-k for k in range(3, 7 if quick else 8)]
    for label, k, a, order in (
        ("ϑ = η/2", 0.5, 1.0, 0.0),
        ("ϑ = 2 η^1.5", 2.0, 1.5, 0.5),
        ("ϑ = 8 η²", 8.0, 2.0, 1.0),
        ("ϑ = 0.005", 0.005, 0.0, -1.0),
    ):
        errors = [_error(family, Y0, h, 1.0, _adaptive(k * h**a), W) for h in hs]
        yield Slope.of(label, hs, errors, order)
    family, Y0 = _dense_spectrum(16, 0.75, seen=False)
    W = rk4(family.F, Y0.to_dense(), 1.0, 200)
    hs = [2.0**-k for k in range(6, 9 if quick else 10)]
    yield Slope.of("ϑ = η³", hs, [_error(family, Y0, h, 1.0, _adaptive(h**3), W) for h in hs], 1.0)
