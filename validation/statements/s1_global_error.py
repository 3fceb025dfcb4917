"""Theorem 1: the global error of the fixed-rank and the rank-adaptive integrator.

**Statement.** After t steps of length h of Algorithm 1, with truncation tolerance ϑ in each,

    |Uᵗ Sᵗ Vᵗᵀ - W(th)| ≤ c₁ ε + c₂ h + c₃ ϑ/h,

W the solution of Ẇ = F(W) from the same start, with constants independent of singular values (their η is h here).

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, Theorem 1 and its proof in appendix 6.1.

**Assumptions.** P1: |F| ≤ C₁, Lipschitz constant C₂. P2: |(I - P(Y)) F(Y)| ≤ ε. Exact K-, L- and S-steps (here: one
classical Runge-Kutta step each). ϑ = 0 stands for the fixed-rank integrator.

**Constants.** With the local error h (ĉ₁ ε + ĉ₂ h) + ϑ of Lemma 3 and Lady Windermere's fan over the time T = th,

    c₁ = ĉ₁ G,  c₂ = ĉ₂ G,  c₃ = G,  G = (e^{C₂T} - 1)/C₂,

since h Σ e^{C₂(T - t_k)} ≤ G, the sum over the ends of the steps; a start W(0) apart from Y⁰ adds e^{C₂T} |W(0) - Y⁰|.
Without the theorem the error is at most 2 C₁T + tϑ for bases that contain the old ones, and (1 + √3) C₁T for the
fixed-rank integrator, a step of which moves by at most √3 C₁h (as before Lemma 3: √2 C₁h by projecting onto the new
bases and, orthogonal to that, C₁h within them).

Sharper (derived), for the rank-adaptive integrator, with B = C₁ and L = C₂. Û contains U₀ and K(h), V̂ contains V₀ and
L(h); Π = Id - P_Û · P_V̂ is an orthogonal projector. Split W(h) - Y₀ = ∫ F(W) into h F(Y₀) and a rest of at most
LBh²/2; F(Y₀) into its normal part, at most ε, and the two parts F(Y₀) V₀V₀ᵀ and U₀U₀ᵀ F(Y₀) (I - V₀V₀ᵀ), which are
orthogonal to each other and, up to LBh²/2 each, increments of K and L, on which Π vanishes. Hence
|Π W(h)| ≤ ε h + (1/2 + 1/√2) LBh². Within the bases |∫ F(Y) - F(W)| ≤ LBh², since both start from Y₀ and move by at
most B a unit of time. The two are orthogonal, and the norm of a sum is at most the sum of the norms:

    |Y¹ - W(h)| ≤ √((ε h + (1/2 + 1/√2) LBh²)² + (LBh²)²) + ϑ ≤ ε h + κ LBh² + ϑ,
    κ = √((1/2 + 1/√2)² + 1) = 1.568.

With the fan the error is at most the sum of ε h + κ LBh² + ϑ over all steps, each weighted with e^{L(T - t_k)}: in
closed form, G (ε + κ LBh + ϑ/h). Where F is minus the gradient of a convex loss, the flow does not expand, all weights
are 1, and G becomes T. P2 is used at the iterates alone, and B between them: |F(Y_k)| e^{Lh} will do, by Gronwall, so
that both can be measured along the way.

A constant field with a normal part of norm ε attains the term T ε: there L = 0, and nothing of the normal part is ever
seen. The constant κ is safe; whether a field attains it is left open.

**Use.** The error is that of an Euler method: halve h, halve the error, until ε or ϑ/h shows. Take ϑ ≤ c h² with c
around LB; ϑ proportional to h costs convergence, and at fixed ϑ smaller steps make things worse, in proportion to 1/h:
each step forgets up to ϑ. The first bound is useless as a number (28 C₁C₂ G h and more); the second one is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, sqrt
from typing import Any

import numpy as np

import dlra
from dlra import BUG, AugmentedBUG, LowRank
from validation.checks import Finding, Inequality, Slope, check
from validation.families import Family, dense_start, quadratic_sum, root_sylvester, tangent_field
from validation.flows import growth, norm, normal_part, rk4
from validation.manufactured import random_orthonormal

Matrix = np.ndarray
RANK_3 = (1.0, 0.4, 0.1)
SMALL = (1.0, 0.4, 1e-7)
KAPPA = sqrt((1 / 2 + sqrt(1 / 2)) ** 2 + 1)
"""What stands before LBh² in the derived bound."""


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
    return norm(last.to_dense() - W)


def _printed(family: Family, h: float, T: float, theta: float) -> float:
    """The right side of the theorem, with the constants of Lemma 3."""
    c1, c2 = family.of_lemma_3(h)
    return growth(family.L, T) * (c1 * family.eps + c2 * h + theta / h)


@check("s1-theorem-1", "Theorem 1: |Yᵗ - W(th)| ≤ c₁ ε + c₂ h + c₃ ϑ/h", expect="holds")
def theorem_1(quick: bool) -> Iterator[Finding]:
    """Tangential fields with ε = 0 and 0.01, real and complex, square and not, T = 1/16; fixed-rank with σ_min = 1e-7,
    adaptive with ϑ = 1e-12 and ϑ = 0.02 h; h from 2^-10 to 2^-5 (where the bound is vacuous)."""
    T = 2.0**-4
    shapes = (("float64", 12, 12), ("complex128", 9, 9), ("float64", 14, 9))
    for power in (10, 5) if quick else (10, 9, 7, 5):
        h = 2.0**-power
        for dtype, m, n in shapes[: 2 if quick else 3]:
            for eps in (0.0, 0.01):
                family = tangent_field(m, n, eps=eps, seed=m, dtype=dtype)
                Y0 = dense_start(np.random.default_rng(m), m, n, SMALL, dtype)
                W = rk4(family.F, Y0.to_dense(), T, 100)
                moved = family.B * T
                for theta in (None, 1e-12, 0.02 * h):
                    method = FIXED if theta is None else _adaptive(theta)
                    left = _error(family, Y0, h, T, method, W)
                    trivial = (1 + sqrt(3)) * moved if theta is None else 2 * moved + theta * T / h
                    label = "fixed rank" if theta is None else f"ϑ = {theta:g}"
                    yield Inequality(
                        f"{dtype} {m} x {n}, ε = {eps:g}, {label}, h = {h:g}",
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
    steps, L = round(T / h), family.L
    Y = Y0
    for k, Y in enumerate(_iterates(family, Y0, h, T, _adaptive(theta))):
        if k == steps:
            break
        F = family.F(Y.to_dense())
        eps, B = norm(normal_part(Y, F)), norm(F) * exp(L * h)
        local = eps * h + KAPPA * L * B * h * h + theta
        bound += local * (1.0 if convex else exp(L * (T - (k + 1) * h)))
        way += B * h + theta
    gap = 0.0 if apart is None else norm(apart)
    bound += gap * (1.0 if convex else exp(L * T))
    flow = min(family.B * T, norm(family.F(start)) * (T if convex else growth(L, T)))
    return norm(Y.to_dense() - rk4(family.F, start, T, 400)), bound, way + flow + gap


def _constant(m: int, n: int, eps: float) -> tuple[Family, LowRank]:
    """F = U₀ M V₀ᵀ + ε N with N normal to the tangent space at Y⁰: it stays so, and nothing of N is ever seen."""
    rng = np.random.default_rng(m)
    Y0 = dense_start(rng, m, n, RANK_3)
    U, S, V = Y0.factors
    N = normal_part(Y0, rng.standard_normal((m, n)))
    F = 0.2 * U @ S @ V.T + eps * N / norm(N)
    return Family([lambda Y: F], B=norm(F), L=0.0, eps=eps, C=0.0, shape=(m, n), mean=lambda Y: F), Y0


@check(
    "s1-theorem-1-sharper",
    "Theorem 1, derived, rank-adaptive: |Yᵗ - W(th)| ≤ G (ε + 1.57 LBh + ϑ/h)",
    expect="holds",
    adjusted="was: sharp; what is attained, ε T for L = 0, is now s1-theorem-1-attained",
)
def sharper(quick: bool) -> Iterator[Finding]:
    """The derived bound, summed step by step from ε and B at the iterates: convex losses (weights 1) and tangential
    fields, with and without ε, with ϑ = 1e-12, 0.1 h² and 0.01 h, and once with a start beside Y⁰. One step with F = 0,
    where the error is what the truncation drops, at most ϑ."""
    T = 0.5
    for theta, tail in ((0.01, (0.0095, 0.0099)), (0.1, (0.05, 0.06, 0.07))):
        Y0 = dense_start(np.random.default_rng(5), 9, 7, (1.0, 0.5, *tail))
        still = Family([np.zeros_like], B=0.0, L=0.0, eps=0.0, C=0.0, shape=(9, 7), mean=np.zeros_like)
        yield Inequality(
            f"F = 0, one step, ϑ = {theta:g}",
            *_sharper(still, Y0, 0.25, 0.25, theta, convex=True),
            base=theta,
        )
    powers = (6, 3) if quick else (9, 7, 5, 3)
    for h in (2.0**-k for k in powers):
        for theta in (1e-12, 0.01 * h) if quick else (1e-12, 0.1 * h * h, 0.01 * h):
            for m, n in ((10, 10), (12, 8))[: 1 if quick else 2]:
                Y0 = dense_start(np.random.default_rng(m), m, n, RANK_3)
                for eps in (0.0, 0.05):
                    where = f"{m} x {n}, ε = {eps:g}, ϑ = {theta:g}, h = {h:g}"
                    loss = root_sylvester(m, n, eps=eps, g=0.0, seed=m)
                    yield Inequality(f"convex, {where}", *_sharper(loss, Y0, h, T, theta, convex=True))
                    field = tangent_field(m, n, eps=eps, seed=m)
                    yield Inequality(f"tangential, {where}", *_sharper(field, Y0, h, T, theta, convex=False))
    Y0 = dense_start(np.random.default_rng(3), 10, 10, RANK_3)
    apart = 0.05 * np.random.default_rng(4).standard_normal((10, 10))
    loss = root_sylvester(10, 10, eps=0.0, g=0.0, seed=3)
    yield Inequality(
        "convex, W(0) apart from Y⁰",
        *_sharper(loss, Y0, 2.0**-6, T, 1e-12, convex=True, apart=apart),
        base=norm(apart),
    )


@check(
    "s1-theorem-1-attained",
    "Theorem 1, derived, rank-adaptive: T ε is attained (constant field, L = 0)",
    expect="sharp",
)
def attained(quick: bool) -> Iterator[Finding]:
    """Constant fields with a normal part of norm ε = 0.01 and 0.5 and a tangential one that the integrator follows
    exactly, ϑ = 1e-12: error and derived bound, which is T ε + tϑ here."""
    for m, n in ((10, 10), (12, 8)):
        for eps in (0.01, 0.5):
            family, Y0 = _constant(m, n, eps)
            for h in (2.0**-4,) if quick else (2.0**-2, 2.0**-4):
                yield Inequality(
                    f"constant field {m} x {n}, ε = {eps:g}, h = {h:g}",
                    *_sharper(family, Y0, h, 0.5, 1e-12, convex=True),
                )


@check("s1-theorem-1-slope", "Theorem 1: order 1 in h", expect="holds")
def slope(quick: bool) -> Iterator[Finding]:
    """ε = 0: the error falls like h, fixed-rank and rank-adaptive, for a convex loss and a tangential field, square and
    not, real and complex. ϑ = h²: with a far smaller ϑ the rank grows at the longest steps, and the error there lies
    below the line of first order.
    """
    hs = [2.0**-k for k in range(4, 7 if quick else 9)]
    for dtype, m, n in (("float64", 12, 12), ("complex128", 9, 9), ("float64", 14, 9))[: 2 if quick else 3]:
        Y0 = dense_start(np.random.default_rng(m), m, n, RANK_3, dtype)
        cases = [("tangential", tangent_field(m, n, seed=m, dtype=dtype))]
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
    """Fixed rank, T = 1: at h = 2^-7 the error grows like ε, from 0.03 to 0.3, and at ε = 0.3 it does not depend on
    h."""
    for m, n in ((12, 12), (14, 9))[: 1 if quick else 2]:
        Y0 = dense_start(np.random.default_rng(m), m, n, RANK_3)
        sizes = (0.03, 0.1, 0.3)
        families = [tangent_field(m, n, eps=eps, seed=m) for eps in sizes]
        errors = [_error(family, Y0, 2.0**-7, 1.0, FIXED) for family in families]
        yield Slope.of(f"{m} x {n}, h = 2^-7", sizes, errors, 1.0, x_name="ε")
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
    "Theorem 1: ϑ = k hᵃ gives order min(1, a - 1); fixed ϑ an error like ϑ/h",
    expect="holds",
)
def truncation(quick: bool) -> Iterator[Finding]:
    """A quadratic loss with a target of full rank and slowly falling singular values, T = 1. With a start that sees the
    target, the term ϑ/h rules: slopes 0, 1/2 and 1 for a = 1, 3/2 and 2, and -1 at fixed ϑ. With a = 3 and a start that
    does not, c₂ h rules: slope 1."""
    family, Y0 = _dense_spectrum(26, 0.85, seen=True)
    W = rk4(family.F, Y0.to_dense(), 1.0, 200)
    hs = [2.0**-k for k in range(3, 7 if quick else 8)]
    for label, k, a, order in (
        ("ϑ = h/2", 0.5, 1.0, 0.0),
        ("ϑ = 2 h^1.5", 2.0, 1.5, 0.5),
        ("ϑ = 8 h²", 8.0, 2.0, 1.0),
        ("ϑ = 0.005", 0.005, 0.0, -1.0),
    ):
        errors = [_error(family, Y0, h, 1.0, _adaptive(k * h**a), W) for h in hs]
        yield Slope.of(label, hs, errors, order)
    family, Y0 = _dense_spectrum(16, 0.75, seen=False)
    W = rk4(family.F, Y0.to_dense(), 1.0, 200)
    hs = [2.0**-k for k in range(6, 9 if quick else 10)]
    yield Slope.of("ϑ = h³", hs, [_error(family, Y0, h, 1.0, _adaptive(h**3), W) for h in hs], 1.0)
