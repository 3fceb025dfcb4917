"""Theorem 2: descent of the loss in one rank-adaptive step.

**Statement.** One step of the rank-adaptive integrator with step η and truncation tolerance θ satisfies

    L(Y¹) <= L(Y⁰) - α² η + β θ,
    α = min_{0 <= τ <= 1} |U¹ᵀ ∇L(Ŷ(τη)) V¹|,    β = max_{0 <= τ <= 1} |∇L(τ Y¹ + (1 - τ) Ŷ¹)|,

Ŷ(t) = U¹S(t)V¹ᵀ the solution of the S-step, Ŷ¹ = Ŷ(η) and Y¹ its truncation: "after one step the proposed rank-adaptive
DLRT algorithm decreases along the low-rank approximations".

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, Theorem 2 and its proof in appendix 6.1.

**Assumptions.** P1 alone: ∇L is bounded and Lipschitz with C₂ = L. The S-equation is solved exactly, and U¹, V¹ contain
U⁰, V⁰. How good the other directions in U¹ and V¹ are plays no part: whatever is wrong with them, the theorem holds,
and no check of it can notice.

**Constants.** α and β explicit. Here α is the smallest norm on a grid of times less Lipschitz constant times half of
the way between two of them, β the larger norm at the ends plus L |Y¹ - Ŷ¹|/2: bounds that hold for all τ.

For one explicit Euler step S¹ = S⁰ - η U¹ᵀ∇L V¹, which is what training does, the theorem fails for losses that are not
convex, however small ηL is. Derived: L(y) = y₁ + (δ y₁² + 2 y₁y₂)/2, y⁰ = 0, has ∇L(y⁰) = e₁ and decreases by exactly
η (1 - δη/2), while |∇L|² >= 1 - δ² on the Euler step and about 1 - δ²/2 along the flow; δ = η/4 contradicts the theorem
on the one, δ = η/2 on the other by about η²/16, η²/8 relative to the decrease. What holds for every L-smooth loss, by
the descent lemma, with G = U¹ᵀ ∇L(Y⁰) V¹:

    L(Y¹) <= L(Y⁰) - η (1 - ηL/2) |G|² + β θ,

with equality for L(Y) = L|Y - A|²/2 and θ = 0. For convex quadratics with eigenvalues λ <= L the printed form holds
too: with α on the Euler step up to η = 2/L, since (1 - sλ)² <= 1 - ηλ/2 for s = min(η, 1/L); with α along the flow as
long as e^{-2x} <= 1 - x/2 for x = ηL, up to 1.96/L. At 2.2/L the loss rises.

**Use.** Without truncation a step with η < 2/L never increases the loss (of the batch it is computed on); with it, the
loss may rise by β θ: choose θ well below η |G|²/β, smaller and smaller towards a minimum. At a stationary point of rank
above what θ keeps, the loss does rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank
from validation.checks import Counterexample, Finding, Identity, Inequality, check
from validation.families import Family, dense_start, quadratic_sum, root_sylvester
from validation.families_s1 import quadratic_form, softmax_layer
from validation.flows import rk4

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
    return float(
        max(np.linalg.norm(family.F(Y)) for Y in ends) + family.L * np.linalg.norm(ends[1] - ends[0]) / 2
    )


def _alpha(
    project: Callable[[Matrix], Matrix], Ys: list[Matrix], F: Callable[[Matrix], Matrix], L: float
) -> float:
    """A lower bound of |Uᵀ ∇L V| on a way of which these are the points, in order."""
    way = max(float(np.linalg.norm(Z - Y)) for Y, Z in pairwise(Ys))
    return max(0.0, min(float(np.linalg.norm(project(F(Y)))) for Y in Ys) - L * way / 2)


def _flow_alpha(family: Family, before: LowRank, Y0: LowRank, h: float) -> float:
    """α of the theorem, from below, for the exact flow in the bases of ``before``."""
    U, _, V = before.factors

    def project(Z: Matrix) -> Matrix:
        return U @ (U.T @ Z @ V) @ V.T

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


def _promise(label: str, promised: float, decrease: float) -> Inequality:
    """Promised is at most what the decrease is; where nothing but a rise is promised, this is vacuous."""
    return Inequality(label, promised, decrease, trivial=-np.inf if promised <= 0 else np.inf, rounding=1e-13)


@check("s1-theorem-2", "Theorem 2: L(Y¹) <= L(Y⁰) - α² η + β θ, exact S-flow", expect="sharp")
def theorem_2(quick: bool) -> Iterator[Finding]:
    """L(Y⁰) - L(Y¹) beside α² η - β θ, with adaptive substeps, for convex losses and others; η from 0.001 to 1, θ zero
    and not."""
    for h, theta in ((1e-3, 0.0), (0.1, 0.0), (0.1, 0.05), (1.0, 0.0), (1.0, 0.2)):
        for label, family, Y0 in _families(quick):
            before, after = _step(family, Y0, h, "adaptive", theta)
            alpha = _flow_alpha(family, before, Y0, h)
            beta = _beta(family, before, after) if theta else 0.0
            decrease = family.loss(Y0.to_dense()) - family.loss(after.to_dense())
            yield _promise(f"{label}, η = {h:g}, θ = {theta:g}", alpha**2 * h - beta * theta, decrease)


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


@check("s1-theorem-2-euler", "Theorem 2 for explicit Euler substeps", expect="fails as printed")
def euler(quick: bool) -> Iterator[Finding]:
    """The two-dimensional loss of the derivation, where U¹ and V¹ span everything, with δ = η/4 (α on the Euler step)
    and δ = η/2 (α along the flow); a quadratic loss with η = 2.2/L. The exact decrease η (1 - δη/2) is confirmed; α² η,
    with α from below, exceeds it."""
    for h in (0.3, 0.1) if quick else (0.3, 0.1, 0.03, 0.01):
        for way, delta in (("Euler step", h / 4), ("flow", h / 2)):
            family = _saddle(delta)
            Y0 = LowRank(np.ones((2, 1)), np.ones((1, 1)), np.ones((1, 1)))
            _, Y1 = _step(family, Y0, h, "euler", 0.0)
            start = Y0.to_dense()
            decrease = family.loss(start) - family.loss(Y1.to_dense())
            exact = h * (1 - delta * h / 2)
            yield Identity(f"decrease, η = {h:g}, δ = {delta:g}", abs(decrease - exact) / exact)
            count = 2000 if h >= 0.1 else 20000
            if way == "flow":
                Ys = [start]
                for _ in range(count):
                    Ys.append(rk4(family.F, Ys[-1], h / count, 1))
            else:
                Ys = [start + k / count * (Y1.to_dense() - start) for k in range(count + 1)]
            alpha = _alpha(lambda Z: Z, Ys, family.F, family.L)
            yield Counterexample(
                f"α on the {way}, ηL = {h * family.L:.3f}, δ = {delta:g}", alpha**2 * h, decrease
            )
    for m, n in ((10, 10), (12, 8)):
        rng = np.random.default_rng(m)
        family, Y0 = quadratic_sum([rng.standard_normal((m, n))]), dense_start(rng, m, n, (1.0, 0.4, 0.1))
        _, Y1 = _step(family, Y0, 2.2, "euler", 0.0)
        after, before = family.loss(Y1.to_dense()), family.loss(Y0.to_dense())
        yield Counterexample(
            f"|Y - A|²/2, {m} x {n}, ηL = 2.2: the loss after the step and before", after, before
        )


@check(
    "s1-theorem-2-corrected", "Theorem 2, Euler: L(Y¹) <= L(Y⁰) - η (1 - ηL/2) |G|² + β θ",
    expect="corrected form holds",
)  # fmt: skip
def corrected(quick: bool) -> Iterator[Finding]:
    """L(Y⁰) - L(Y¹) beside η (1 - ηL/2) |U¹ᵀ ∇L(Y⁰) V¹|² - β θ for one Euler step; the first loss gives equality."""
    for share, theta in ((0.01, 0.0), (0.3, 0.0), (1.0, 0.0), (1.9, 0.0), (0.3, 0.02), (1.0, 0.1)):
        for label, family, Y0 in _families(quick):
            h = share / family.L
            before, after = _step(family, Y0, h, "euler", theta)
            U, _, V = before.factors
            start = Y0.to_dense()
            G = float(np.linalg.norm(U.T @ family.F(start) @ V))
            beta = _beta(family, before, after) if theta else 0.0
            decrease = family.loss(start) - family.loss(after.to_dense())
            promised = h * (1 - share / 2) * G**2 - beta * theta
            yield _promise(f"{label}, ηL = {share:g}, θ = {theta:g}", promised, decrease)


@check(
    "s1-theorem-2-euler-convex", "Theorem 2, Euler, convex quadratics: holds up to η = 2/L", expect="sharp",
    adjusted="was: holds; short steps come close to equality (both sides are η |∇L|² to first order)",
)  # fmt: skip
def convex(quick: bool) -> Iterator[Finding]:
    """L(Y⁰) - L(Y¹) beside α² η for convex quadratics, α from above: the smallest norm on a grid of times, on the Euler
    step up to ηL = 2 and along the flow up to 1.96."""
    for share in (0.01, 0.5, 1.0, 1.5, 1.95, 2.0):
        for seed in range(1 if quick else 4):
            for m, n in ((10, 10), (12, 8)):
                family = quadratic_form(m, n, convex=True, seed=seed)
                Y0 = dense_start(np.random.default_rng(seed), m, n, (1.0, 0.4, 0.1))
                start, (_, Y1) = Y0.to_dense(), _step(family, Y0, share, "euler", 0.0)
                U, _, V = Y1.factors
                decrease = family.loss(start) - family.loss(Y1.to_dense())

                def project(Z: Matrix, U: Matrix = U, V: Matrix = V) -> Matrix:
                    return U @ (U.T @ Z @ V) @ V.T

                flow = [start]
                for _ in range(GRID):
                    flow.append(rk4(lambda Y: project(family.F(Y)), flow[-1], share / GRID, 1))  # noqa: B023
                way = [start + k / GRID * (Y1.to_dense() - start) for k in range(GRID + 1)]
                for name, Ys in (("Euler step", way), ("flow", flow))[: 2 if share < 1.96 else 1]:
                    alpha = min(float(np.linalg.norm(project(family.F(Y)))) for Y in Ys)
                    label = f"α on the {name}, {m} x {n}, seed {seed}, ηL = {share:g}"
                    yield _promise(label, alpha**2 * share, decrease)


@check(
    "s1-descent-truncated",
    "Theorem 2: the step with truncation decreases the loss",
    expect="fails as printed",
)
def truncated(quick: bool) -> Iterator[Finding]:
    """L(Y) = |Y - A|²/2 with A of rank 3 and σ₃ = 0.04 < θ = 0.05, from A itself and from close by: the loss rises to
    σ₃²/2. With θ = 0.03 it does not rise."""
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
                yield Inequality(f"{label}, θ = 0.03", family.loss(kept.to_dense()), lost, rounding=1e-15)
                _, after = _step(family, Y0, 0.1, substep, 0.05)
                yield Counterexample(f"{label}, θ = 0.05", family.loss(after.to_dense()), lost)
