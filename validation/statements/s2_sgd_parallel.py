"""Beyond section 5.2: convergence of the rank-adaptive parallel integrator, without ε and without fixed bases.

**Statement.** (derived) Steps of the parallel integrator with Euler substeps, learning rates h_t and truncation
tolerances ϑ_t satisfy, before truncation, Y*_t = Y_t + h_t P(Y_t) f(Y_t), and

    Σ_{t<k} h_t E|P(Y_t) F(Y_t)|² ≤ L(Y₀) - inf L + L/2 Σ_{t<k} h_t² E|P(Y_t) f(Y_t)|² + B Σ_{t<k} ϑ_t.

With ϑ_t = c h_t², Σ h_t = ∞ and Σ h_t² < ∞ the right side stays bounded: lim inf E|P(Y_t) F(Y_t)|² = 0, while ranks
adapt.

**Source.** The parallel integrator: G. Ceruti, J. Kusch, C. Lubich, A parallel rank-adaptive integrator for dynamical
low-rank approximation, SIAM J. Sci. Comput. 46 (2024). The setting: A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A.
Walther, Stochastic aspects of dynamical low-rank approximation in the context of machine learning (2024), section 5.
The statement is in neither. Proof: docs/theory-convergence.md.

**Assumptions.** Fresh minibatches, E f = F = -∇L; L bounded below; F Lipschitz with L on the segments from Y_t to
Y*_t, |F| ≤ B on those from Y*_t to Y_{t+1}; E|P f|² bounded. No step is repeated in wider bases (the rejection of the
parallel integrator: c = ∞, and the new rank is not twice the old one), and no max_rank cuts more than ϑ_t.

**Constants.** As given; L and B global ones of the family. With E L(Y_k) in the place of inf L the bound is nearly
attained for small steps. Derived with it: min_{t<k} E|PF|² ≤ right side / Σ h_t.

**Use.** Train with the parallel integrator and ϑ = c h² (``nn.TiedTolerance``), h decreasing as 1/t^p, 1/2 < p ≤ 1.
The augmented integrator has an additional ε²Σ h_t, which is infinite.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlra import LowRank, ParallelBUG, nn
from dlra.nn.schedules import RobbinsMonro
from validation.checks import Finding, Identity, Inequality, check
from validation.descent import advanced, critical_point, loss_step, rates
from validation.families import Family, dense_start, root_sylvester
from validation.flows import norm, tangent, tree

PARALLEL = ParallelBUG(substep="euler", c=math.inf)
TERMS = 3


def _tied(c: float, h: float) -> ParallelBUG:
    """The integrator with ϑ = c h²."""
    return dataclasses.replace(PARALLEL, **nn.TiedTolerance(c).options(h))


def _infimum(eps: float) -> float:
    """Each root of the mean loss is at least 1."""
    return TERMS + eps


@dataclass
class _Paths:
    """Expectations over all paths, with h_t from its formula."""

    projected: float = 0.0
    """Σ h E|PF|²."""
    second: float = 0.0
    """L/2 Σ h² E|Pf|²."""
    last: float = 0.0
    """E L(Y_k)."""
    dropped: float = 0.0
    """The largest |Y* - Y_{t+1}|/ϑ_t."""
    ranks: set[int] = field(default_factory=set)
    products: list[float] = field(default_factory=list)
    """E⟨F(Y_t), P(Y_t) f_t⟩ of the samples that are drawn, by t."""
    squares: list[float] = field(default_factory=list)
    """E|P(Y_t) F(Y_t)|², by t."""


def _paths(family: Family, Y0: LowRank, schedule: RobbinsMonro, c: float, k: int) -> _Paths:
    h = rates(schedule, k).tolist()
    out = _Paths(products=[0.0] * k, squares=[0.0] * k)

    def advance(state: tuple[LowRank, float], t: int, i: int) -> tuple[LowRank, float]:
        Y, f = state[0], family.samples[i]
        Y1 = advanced(f, schedule(t), Y, _tied(c, schedule(t)))
        Z = Y.to_dense()
        Pf = tangent(Y, f(Z))
        out.dropped = max(out.dropped, norm(Z + h[t] * Pf - Y1.to_dense()) / (c * h[t] ** 2))
        return Y1, float(np.vdot(family.F(Z), Pf))

    for t, p, (Y, product) in tree((Y0, 0.0), k, len(family.samples), advance):
        Z = Y.to_dense()
        out.ranks.add(Y.rank)
        if t:
            out.products[t - 1] += p * product
        if t == k:
            out.last += p * family.loss(Z)
            continue
        square = norm(tangent(Y, family.F(Z))) ** 2
        out.squares[t] += p * square
        out.projected += p * h[t] * square
        squares = [norm(tangent(Y, f(Z))) ** 2 for f in family.samples]
        out.second += p * h[t] ** 2 * family.L / 2 * float(np.mean(squares))
    return out


@dataclass
class _Case:
    """Both forms of the right side, beside what is known: B² Σ h."""

    label: str
    left: float
    telescoped: float
    """With E L(Y_k)."""
    right: float
    """With inf L."""
    known: float


def _enumerated(quick: bool) -> Iterator[tuple[_Paths, _Case]]:
    """All paths of four samples with ε = 0.5."""
    eps = 0.5
    cases = ((0, (10, 10), 0.005, 3, 1.0), (1, (12, 9), 0.2, 3, 5.0), (2, (10, 10), 0.2, 5, 5.0))
    for seed, shape, h0, k, c in cases[:2] if quick else cases:
        family = root_sylvester(*shape, eps=eps, g=0.3, terms=TERMS, seed=seed)
        Y0 = dense_start(np.random.default_rng(seed), *shape, (2.0, 1.0, 0.05))
        start = family.loss(Y0.to_dense())
        schedule = RobbinsMonro(h0, 1.0, 4.0)
        h, B = rates(schedule, k), family.B
        paths = _paths(family, Y0, schedule, c, k)
        rest = paths.second + B * c * float(h @ h)
        yield (
            paths,
            _Case(
                f"4^{k} paths, h₀ = {h0:g}, ranks {min(paths.ranks)} to {max(paths.ranks)}",
                paths.projected,
                start - paths.last + rest,
                start - _infimum(eps) + rest,
                B**2 * float(np.sum(h)),
            ),
        )


def _long(steps: int) -> tuple[_Case, np.ndarray, float]:
    """One sample, many steps; |P F|² of each of them, and Σ h."""
    family = root_sylvester(10, 10, eps=0.5, g=0.0, terms=TERMS, seed=3)
    Y = dense_start(np.random.default_rng(3), 10, 10, (2.0, 1.0, 0.05))
    c, schedule = 1.0, RobbinsMonro(0.02, 0.75, 50.0)
    h = rates(schedule, steps)
    start, squares = family.loss(Y.to_dense()), np.empty(steps)
    for t in range(steps):
        squares[t] = norm(tangent(Y, family.F(Y.to_dense()))) ** 2
        Y = advanced(family.samples[0], schedule(t), Y, _tied(c, schedule(t)))
    total = float(np.sum(h))
    rest = float(h**2 @ (family.L / 2 * squares + family.B * c))
    case = _Case(
        f"{steps} steps, last rank {Y.rank}",
        float(h @ squares),
        start - family.loss(Y.to_dense()) + rest,
        start - _infimum(0.5) + rest,
        family.B**2 * total,
    )
    return case, squares, total


@check(
    "s2-parallel-convergence",
    "Parallel integrator, ϑ = ch²: Σ h E|PF|² ≤ L(Y₀) - inf L + L/2 Σ h²E|Pf|² + BΣϑ",
    expect="holds",
    adjusted="was: sharp; through E L(Y_k) in the place of inf L, which is a check of its own now",
)
def convergence(quick: bool) -> Iterator[Finding]:
    """All paths of four samples with ε = 0.5, decreasing steps, tolerances that let the rank change; right sides with
    h_t from its formula. Nothing but the truncation may lie between Y_t + h P f and Y_{t+1}, and E⟨F, Pf⟩ = E|PF|² for
    the samples that are drawn. Then the sum, beside B² Σ h, which is known and less for so few steps. One sample and
    many steps: the sum again, and the smallest |PF|² beside the first."""
    for paths, case in _enumerated(quick):
        yield Identity(f"|Y* - Y_{{t+1}}| beyond ϑ, {case.label}", max(0.0, paths.dropped - 1.0))
        for t, (product, square) in enumerate(zip(paths.products, paths.squares, strict=True)):
            yield Identity(f"E⟨F, Pf⟩ = E|PF|², t = {t}, {case.label}", abs(product - square) / square)
        yield Inequality(case.label, case.left, case.right, trivial=case.known)
    case, squares, total = _long(400 if quick else 1000)
    yield Inequality(case.label, case.left, case.right, trivial=case.known)
    least, first = float(np.min(squares)), float(squares[0])
    yield Inequality(f"min |PF|², {case.label}", least, case.right / total, trivial=first)


@check(
    "s2-parallel-telescoped",
    "Parallel integrator: Σ h E|PF|² ≤ L(Y₀) - E L(Y_k) + L/2 Σ h²E|Pf|² + BΣϑ",
    expect="sharp",
)
def telescoped(quick: bool) -> Iterator[Finding]:
    """The same paths, and the same long one; nearly attained for small steps."""
    for _, case in _enumerated(quick):
        yield Inequality(case.label, case.left, case.telescoped, trivial=case.known)
    case, _, _ = _long(100 if quick else 1000)
    yield Inequality(case.label, case.left, case.telescoped, trivial=case.known)


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
