"""Beyond section 5.2: convergence of the rank-adaptive parallel integrator, without ε and without fixed bases.

**Statement.** (derived) Steps of the parallel integrator with Euler substeps, learning rates h_t and truncation
tolerances θ_t satisfy, before truncation, Y*_t = Y_t + h_t P(Y_t) f(Y_t), and

    Σ_{t<k} h_t E|P(Y_t) F(Y_t)|² ≤ L(Y₀) - inf L + L/2 Σ_{t<k} h_t² E|P(Y_t) f(Y_t)|² + B Σ_{t<k} θ_t.

With θ_t = c h_t², Σ h_t = ∞ and Σ h_t² < ∞ the right side stays bounded: lim inf E|P(Y_t) F(Y_t)|² = 0, while ranks
adapt.

**Source.** The parallel integrator: G. Ceruti, J. Kusch, C. Lubich, A parallel rank-adaptive integrator for dynamical
low-rank approximation, SIAM J. Sci. Comput. 46 (2024). The setting: A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A.
Walther, Stochastic aspects of dynamical low-rank approximation in the context of machine learning (2024), section 5.
The statement is in neither. Proof: docs/theory-convergence.md.

**Assumptions.** Fresh minibatches, E f = F = -∇L; L bounded below; F Lipschitz with L on the segments from Y_t to
Y*_t, |F| ≤ B on those from Y*_t to Y_{t+1}; E|P f|² bounded. No step is repeated in wider bases (the rejection of the
parallel integrator: c = ∞, and the new rank is not twice the old one), and no max_rank cuts more than θ_t.

**Constants.** As given; L and B global ones of the family. With E L(Y_k) in the place of inf L the bound is nearly
attained for small steps. Derived with it: min_{t<k} E|PF|² ≤ right side / Σ h_t.

**Use.** Train with the parallel integrator and θ = c h² (``nn.TiedTolerance``), h decreasing as 1/t^p, 1/2 < p ≤ 1.
The augmented integrator has an additional ε²Σ h_t, which is infinite.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlra import LowRank, ParallelBUG, nn
from dlra.nn.schedules import RobbinsMonro
from validation.checks import Finding, Inequality, check
from validation.descent import advanced, loss_step, size
from validation.families import Family, dense_start, root_sylvester
from validation.flows import tangent, tree
from validation.statements.s2_sgd_descent_step import critical_point

PARALLEL = ParallelBUG(substep="euler", c=math.inf)
TERMS = 3


def _tied(c: float, h: float) -> ParallelBUG:
    """The integrator with θ = c h²."""
    return dataclasses.replace(PARALLEL, **nn.TiedTolerance(c).options(h))


def _infimum(eps: float) -> float:
    """Each root of the mean loss is at least 1."""
    return TERMS + eps


def _paths(
    family: Family, Y0: LowRank, schedule: RobbinsMonro, c: float, k: int
) -> tuple[float, float, float, float, set[int]]:
    """Σ h E|PF|², L/2 Σ h²E|Pf|², E L(Y_k), the largest |Y* - Y_{t+1}|/θ_t, and the ranks."""
    h = [schedule(t) for t in range(k)]
    projected = second = last = dropped = 0.0
    ranks: set[int] = set()

    def advance(Y: LowRank, t: int, i: int) -> LowRank:
        nonlocal dropped
        Y1 = advanced(family.samples[i], h[t], Y, _tied(c, h[t]))
        Z = Y.to_dense()
        before = Z + h[t] * tangent(Y, family.samples[i](Z))
        dropped = max(dropped, size(before - Y1.to_dense()) / (c * h[t] ** 2))
        return Y1

    for t, p, Y in tree(Y0, k, len(family.samples), advance):
        Z = Y.to_dense()
        ranks.add(Y.rank)
        if t == k:
            last += p * family.loss(Z)
            continue
        projected += p * h[t] * size(tangent(Y, family.F(Z))) ** 2
        squares = [size(tangent(Y, f(Z))) ** 2 for f in family.samples]
        second += p * h[t] ** 2 * family.L / 2 * float(np.mean(squares))
    return projected, second, last, dropped, ranks


@check(
    "s2-parallel-convergence",
    "Parallel integrator, θ = ch²: Σ h E|PF|² ≤ L(Y₀) - inf L + L/2 Σ h²E|Pf|² + BΣθ",
    expect="sharp",
)
def convergence(quick: bool) -> Iterator[Finding]:
    """All paths of four samples with ε = 0.5, decreasing steps, tolerances that let the rank change; nothing but the
    truncation may lie between Y_t + h P f and Y_{t+1}. With E L(Y_k), and with inf L. Then one sample and many
    steps."""
    eps = 0.5
    cases = ((0, (10, 10), 0.005, 3, 1.0), (1, (12, 9), 0.2, 3, 5.0), (2, (10, 10), 0.2, 5, 5.0))
    for seed, shape, h0, k, c in cases[:2] if quick else cases:
        family = root_sylvester(*shape, eps=eps, g=0.3, terms=TERMS, seed=seed)
        Y0 = dense_start(np.random.default_rng(seed), *shape, (2.0, 1.0, 0.05))
        start = family.loss(Y0.to_dense())
        schedule = RobbinsMonro(h0, 1.0, 4.0)
        projected, second, last, dropped, ranks = _paths(family, Y0, schedule, c, k)
        theta = c * sum(schedule(t) ** 2 for t in range(k))
        label = f"4^{k} paths, h₀ = {h0:g}, ranks {min(ranks)} to {max(ranks)}"
        yield Inequality(f"|Y* - Y| ≤ θ, {label}", dropped, 1.0)
        yield Inequality(f"E L(Y_k), {label}", projected, start - last + second + family.B * theta)
        yield Inequality(f"inf L, {label}", projected, start - _infimum(eps) + second + family.B * theta)
    yield from _long(200 if quick else 1000)


def _long(steps: int) -> Iterator[Finding]:
    """One path: the sum, nearly attained, and the smallest |PF|²."""
    family = root_sylvester(10, 10, eps=0.5, g=0.0, terms=TERMS, seed=3)
    Y = dense_start(np.random.default_rng(3), 10, 10, (2.0, 1.0, 0.05))
    c, schedule = 1.0, RobbinsMonro(0.02, 0.75, 50.0)
    start, least, first, left, right = family.loss(Y.to_dense()), math.inf, 0.0, 0.0, 0.0
    total = 0.0
    for t in range(steps):
        square = size(tangent(Y, family.F(Y.to_dense()))) ** 2
        first, least = first or square, min(least, square)
        h = schedule(t)
        left, total = left + h * square, total + h
        right += h**2 * (family.L / 2 * square + family.B * c)
        Y = advanced(family.samples[0], h, Y, _tied(c, h))
    end = family.loss(Y.to_dense())
    yield Inequality(f"L(Y_k), {steps} steps, last rank {Y.rank}", left, start - end + right)
    yield Inequality(
        f"min |PF|², {steps} steps", least, (start - _infimum(0.5) + right) / total, trivial=first
    )


@check(
    "s2-parallel-repeated",
    "Parallel integrator: a step repeated in wider bases needs the ε-term again",
    expect="holds",
)
def repeated(quick: bool) -> Iterator[Finding]:
    """The critical point of s2-5-3-epsilon, the parallel integrator with its rejection (c = 1) and a small tolerance:
    the loss rises by O(h), more than h²LB²/2 (left), and by at most ε²h + h²LB²/2 (right). Rank 3 is that of the
    result; the bound on the rank lets the integrator repeat a step once only."""
    family, Y0 = critical_point()
    for h in (2.0**-12, 2.0**-14):
        fs: list[Any] = family.samples
        method = ParallelBUG(substep="euler", c=1.0, atol=1e-9, max_rank=3)
        Z0 = Y0.to_dense()
        after = [family.loss(advanced(f, h, Y0, method).to_dense()) for f in fs]
        rise = float(np.mean(after)) - family.loss(Z0)
        s = loss_step(family, Y0, h, PARALLEL)
        second = h**2 * s.B**2 / 2
        yield Inequality(f"the rise needs ε, h = {h:g}", second, rise)
        yield Inequality(f"with ε², h = {h:g}", rise, second + h * s.eps**2 + s.B * 1e-9)
