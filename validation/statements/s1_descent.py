"""Theorem 2: descent of the loss in one rank-adaptive step.

**Statement.** One step of the rank-adaptive integrator with step h (their η is h here) and truncation tolerance ϑ
satisfies

    L(Y¹) ≤ L(Y⁰) - α² h + β ϑ,
    α = min_{0 ≤ τ ≤ 1} |U¹ᵀ ∇L(Ŷ(τh)) V¹|,    β = max_{0 ≤ τ ≤ 1} |∇L(τ Y¹ + (1 - τ) Ŷ¹)|,

Ŷ(t) = U¹S(t)V¹ᵀ the solution of the S-step, Ŷ¹ = Ŷ(h) and Y¹ its truncation: "after one step the proposed rank-adaptive
DLRT algorithm decreases along the low-rank approximations".

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, Theorem 2 and its proof in appendix 6.1.

**Assumptions.** P1 alone: ∇L is bounded and Lipschitz with C₂ = L. The S-equation is solved exactly, and U¹, V¹ contain
U⁰, V⁰. How good the other directions in U¹ and V¹ are plays no part: whatever is wrong with them, the theorem holds,
and no check of it can notice.

**Constants.** α and β explicit. Here α is the smallest norm on a grid of times less Lipschitz constant times half of
the way between two of them, β the larger norm at the ends plus L |Y¹ - Ŷ¹|/2: bounds that hold for all τ. Where
α² h > β ϑ the theorem promises a descent, and nothing is known without it. Where not, it promises that the loss rises
by β ϑ - α² h at most; without it one knows that the loss changes by at most |Y¹ - Y⁰| times the largest |∇L| between
the two.

For one explicit Euler step S¹ = S⁰ - h U¹ᵀ∇L V¹, which is what training does, the theorem fails for losses that are not
convex, however small hL is. Derived: L(y) = y₁ + (δ y₁² + 2 y₁y₂)/2, y⁰ = 0, has ∇L(y⁰) = e₁ and decreases by exactly
h (1 - δh/2), while |∇L|² ≥ 1 - δ² on the Euler step and about 1 - δ²/2 along the flow; δ = h/4 contradicts the theorem
on the one, δ = h/2 on the other by about h²/16, h²/8 relative to the decrease. It fails for convex losses if h > 2/L:
L(Y) = L|Y - A|²/2 changes by exactly -h (1 - hL/2) |G|² in a step without truncation, which is a rise then. What holds
for every L-smooth loss, by the descent lemma, with G = U¹ᵀ ∇L(Y⁰) V¹:

    L(Y¹) ≤ L(Y⁰) - h (1 - hL/2) |G|² + β ϑ,

with equality for L|Y - A|²/2 and ϑ = 0. For convex quadratics with eigenvalues λ ≤ L the printed form holds too: with α
on the Euler step up to h = 2/L, since (1 - sλ)² ≤ 1 - hλ/2 for s = min(h, 1/L); with α along the flow as long as
e^{-2x} ≤ 1 - x/2 for x = hL, up to 1.96/L.

**Use.** Without truncation a step with h < 2/L never increases the loss (of the batch it is computed on); with it, the
loss may rise by β ϑ: choose ϑ well below h |G|²/β, smaller and smaller towards a minimum. At a stationary point of rank
above what ϑ keeps, the loss does rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank
from validation.checks import Counterexample, Finding, Identity, Inequality, check
from validation.families import (
    Family,
    dense_start,
    quadratic_form,
    quadratic_sum,
    root_sylvester,
    softmax_layer,
)
from validation.flows import compressed, norm, rk4

Matrix = np.ndarray
GRID = 64


def _step(family: Family, Y0: LowRank, h: float, substep: Any, theta: float) -> tuple[LowRank, LowRank]:
    """Ŷ¹ and its truncation Y¹."""

    def F(t: float, Y: Matrix) -> Matrix:
        return family.F(Y)

    full = min(*Y0.shape, 2 * Y0.rank)
    before = dlra.step(F, 0.0, h, Y0, AugmentedBUG(substep=substep, max_rank=full))
    return before, dlra.step(F, 0.0, h, Y0, AugmentedBUG(substep=substep, atol=theta)) if theta else before


def _beta(family: Family, before: LowRank, after: LowRank) -> float:
    """An upper bound of |∇L| between Ŷ¹ and Y¹."""
    ends = [Y.to_dense() for Y in (before, after)]
    return max(norm(family.F(Y)) for Y in ends) + family.L * norm(ends[1] - ends[0]) / 2


def _alpha(
    project: Callable[[Matrix], Matrix], Ys: list[Matrix], F: Callable[[Matrix], Matrix], L: float
) -> float:
    """A lower bound of |Uᵀ ∇L V| on a way of which these are the points, in order."""
    way = max(norm(Z - Y) for Y, Z in pairwise(Ys))
    return max(0.0, min(norm(project(F(Y))) for Y in Ys) - L * way / 2)


def _flow_alpha(family: Family, before: LowRank, Y0: LowRank, h: float) -> float:
    """α of the theorem, from below, for the exact flow in the bases of ``before``."""
    U, _, V = before.factors

    def project(Z: Matrix) -> Matrix:
        return compressed(U, V, Z)

    Ys = [Y0.to_dense()]
    for _ in range(GRID):
        Ys.append(rk4(lambda Y: project(family.F(Y)), Ys[-1], h / GRID, 1))
    return _alpha(project, Ys, family.F, family.L)


def _families(quick: bool) -> Iterator[tuple[str, Family, LowRank]]:
    """Convex and other losses, square and not, with starts of rank 3."""
    sizes = ((10, 10), (12, 8))
    for seed in range(1 if quick else 4):
        for m, n in sizes:
            rng = np.random.default_rng(seed)
            Y0 = dense_start(rng, m, n, (1.0, 0.4, 0.1))
            where = f"{m} x {n}, seed {seed}"
            yield f"quadratic, {where}", quadratic_sum([rng.standard_normal((m, n))]), Y0
            yield f"convex, {where}", root_sylvester(m, n, eps=0.2, g=0.0, seed=seed), Y0
            yield f"softmax layer, {where}", softmax_layer(m, n, seed=seed), Y0
            yield f"not convex, {where}", quadratic_form(m, n, convex=False, seed=seed), Y0


def _promise(label: str, family: Family, Y0: LowRank, Y1: LowRank, promised: float) -> Inequality:
    """That the loss falls by what is promised; where that is negative, that it rises by no more than the opposite."""
    change = family.loss(Y1.to_dense()) - family.loss(Y0.to_dense())
    if promised > 0:
        return Inequality(f"{label}, descent", promised, -change, rounding=1e-13)
    way = norm(Y1.to_dense() - Y0.to_dense())
    return Inequality(
        f"{label}, rise", change, -promised, trivial=_beta(family, Y0, Y1) * way, rounding=1e-13
    )


@check("s1-theorem-2", "Theorem 2: L(Y¹) ≤ L(Y⁰) - α² h + β ϑ, exact S-flow", expect="sharp")
def theorem_2(quick: bool) -> Iterator[Finding]:
    """The descent beside α² h - β ϑ, with adaptive substeps, for convex losses and others; h from 0.001 to 1, ϑ zero
    and not. Where only a rise is bounded, the rise beside β ϑ - α² h."""
    for h, theta in ((1e-3, 0.0), (0.1, 0.0), (0.1, 0.05), (1.0, 0.0), (1.0, 0.2)):
        for label, family, Y0 in _families(quick):
            before, after = _step(family, Y0, h, "adaptive", theta)
            alpha = _flow_alpha(family, before, Y0, h)
            beta = _beta(family, before, after) if theta else 0.0
            promised = alpha**2 * h - beta * theta
            yield _promise(f"{label}, h = {h:g}, ϑ = {theta:g}", family, Y0, after, promised)


def _saddle(delta: float) -> Family:
    """L(y) = y₁ + (δ y₁² + 2 y₁y₂)/2 on 2 x 1 matrices; y is counted from (1, 1), a start of rank one."""
    H, g, start = np.array([[delta, 1.0], [1.0, 0.0]]), np.array([[1.0], [0.0]]), np.ones((2, 1))

    def loss(Y: Matrix) -> float:
        y = Y - start
        return float((g.T @ y + y.T @ H @ y / 2)[0, 0])

    def F(Y: Matrix) -> Matrix:
        return -g - H @ (Y - start)

    return Family(
        [F], B=np.inf, L=float(np.linalg.norm(H, 2)), eps=0.0, C=0.0, shape=(2, 1), losses=[loss], mean=F
    )


@check(
    "s1-theorem-2-euler",
    "Theorem 2 for explicit Euler substeps, losses that are not convex, at every hL",
    expect="fails as printed",
)
def euler(quick: bool) -> Iterator[Finding]:
    """The two-dimensional loss of the derivation, where U¹ and V¹ span everything, with δ = h/4 (α on the Euler step)
    and δ = h/2 (α along the flow). The decrease is h (1 - δh/2) exactly; α² h, with α from below, exceeds it."""
    for h in (0.3, 0.1) if quick else (0.3, 0.1, 0.03, 0.01):
        for way, delta in (("Euler step", h / 4), ("flow", h / 2)):
            family = _saddle(delta)
            Y0 = LowRank(np.ones((2, 1)), np.ones((1, 1)), np.ones((1, 1)))
            _, Y1 = _step(family, Y0, h, "euler", 0.0)
            start = Y0.to_dense()
            decrease = family.loss(start) - family.loss(Y1.to_dense())
            exact = h * (1 - delta * h / 2)
            yield Identity(f"decrease, h = {h:g}, δ = {delta:g}", abs(decrease - exact) / exact)
            count = 2000 if h >= 0.1 else 20000
            if way == "flow":
                Ys = [start]
                for _ in range(count):
                    Ys.append(rk4(family.F, Ys[-1], h / count, 1))
            else:
                Ys = [start + k / count * (Y1.to_dense() - start) for k in range(count + 1)]
            alpha = _alpha(lambda Z: Z, Ys, family.F, family.L)
            yield Counterexample(
                f"α on the {way}, hL = {h * family.L:.3f}, δ = {delta:g}", alpha**2 * h, decrease
            )


@check(
    "s1-theorem-2-euler-long",
    "Theorem 2 for explicit Euler substeps, L|Y - A|²/2 and h = 2.2/L",
    expect="fails as printed",
)
def euler_long(quick: bool) -> Iterator[Finding]:
    """The loss after a step and before, where it should be smaller; the change beside -h (1 - hL/2) |G|²."""
    h = 2.2
    for m, n in ((10, 10), (12, 8)):
        rng = np.random.default_rng(m)
        family, Y0 = quadratic_sum([rng.standard_normal((m, n))]), dense_start(rng, m, n, (1.0, 0.4, 0.1))
        _, Y1 = _step(family, Y0, h, "euler", 0.0)
        U, _, V = Y1.factors
        after, before = family.loss(Y1.to_dense()), family.loss(Y0.to_dense())
        change = -h * (1 - h / 2) * norm(compressed(U, V, family.F(Y0.to_dense()))) ** 2
        yield Identity(f"{m} x {n}, the change", abs(after - before - change) / before)
        yield Counterexample(f"{m} x {n}, the loss after and before", after, before)


@check(
    "s1-theorem-2-corrected", "Theorem 2, Euler: L(Y¹) ≤ L(Y⁰) - h (1 - hL/2) |G|² + β ϑ",
    expect="corrected form holds",
)  # fmt: skip
def corrected(quick: bool) -> Iterator[Finding]:
    """The descent beside h (1 - hL/2) |U¹ᵀ ∇L(Y⁰) V¹|² - β ϑ for one Euler step, or the rise beside the opposite; the
    first loss gives equality."""
    for share, theta in ((0.01, 0.0), (0.3, 0.0), (1.0, 0.0), (1.9, 0.0), (0.3, 0.02), (1.0, 0.1)):
        for label, family, Y0 in _families(quick):
            h = share / family.L
            before, after = _step(family, Y0, h, "euler", theta)
            U, _, V = before.factors
            G = norm(compressed(U, V, family.F(Y0.to_dense())))
            beta = _beta(family, before, after) if theta else 0.0
            promised = h * (1 - share / 2) * G**2 - beta * theta
            yield _promise(f"{label}, hL = {share:g}, ϑ = {theta:g}", family, Y0, after, promised)


@check(
    "s1-theorem-2-euler-convex", "Theorem 2, Euler, convex quadratics: holds up to h = 2/L", expect="sharp",
    adjusted="was: holds; short steps come close to equality (both sides are h |∇L|² to first order)",
)  # fmt: skip
def convex(quick: bool) -> Iterator[Finding]:
    """The descent beside α² h for convex quadratics, α from above: the smallest norm on a grid of times, on the Euler
    step up to hL = 2 and along the flow up to 1.95."""
    for share in (0.01, 0.5, 1.0, 1.5, 1.95, 2.0):
        for seed in range(1 if quick else 4):
            for m, n in ((10, 10), (12, 8)):
                family = quadratic_form(m, n, convex=True, seed=seed)
                Y0 = dense_start(np.random.default_rng(seed), m, n, (1.0, 0.4, 0.1))
                start, (_, Y1) = Y0.to_dense(), _step(family, Y0, share, "euler", 0.0)
                U, _, V = Y1.factors

                def project(Z: Matrix, U: Matrix = U, V: Matrix = V) -> Matrix:
                    return compressed(U, V, Z)

                flow = [start]
                for _ in range(GRID):
                    flow.append(rk4(lambda Y: project(family.F(Y)), flow[-1], share / GRID, 1))  # noqa: B023
                way = [start + k / GRID * (Y1.to_dense() - start) for k in range(GRID + 1)]
                for name, Ys in (("Euler step", way), ("flow", flow))[: 2 if share < 1.96 else 1]:
                    alpha = min(norm(project(family.F(Y))) for Y in Ys)
                    label = f"α on the {name}, {m} x {n}, seed {seed}, hL = {share:g}"
                    yield _promise(label, family, Y0, Y1, alpha**2 * share)


@check(
    "s1-descent-truncated",
    "Theorem 2: the step with truncation decreases the loss",
    expect="fails as printed",
)
def truncated(quick: bool) -> Iterator[Finding]:
    """L(Y) = |Y - A|²/2 with A of rank 3 and σ₃ = 0.04 < ϑ = 0.05, from A itself and from close by: the loss rises to
    σ₃²/2. With ϑ = 0.03 it does not rise."""
    for m, n in ((9, 9), (10, 7)):
        A = dense_start(np.random.default_rng(m), m, n, (1.0, 0.5, 0.04))
        family = quadratic_sum([A.to_dense()])
        for away in (0.0, 0.01):
            U, S, V = A.factors
            Y0 = LowRank(U, (1 + away) * S, V)
            for substep in ("adaptive", "euler"):
                label = f"{m} x {n}, start {away:.0%} off, {substep}"
                lost = family.loss(Y0.to_dense())
                _, kept = _step(family, Y0, 0.1, substep, 0.03)
                yield Inequality(f"{label}, ϑ = 0.03", family.loss(kept.to_dense()), lost, rounding=1e-15)
                _, after = _step(family, Y0, 0.1, substep, 0.05)
                yield Counterexample(f"{label}, ϑ = 0.05", family.loss(after.to_dense()), lost)
