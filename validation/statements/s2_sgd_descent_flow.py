"""Section 5.1, theorem 5.1: expected descent in one step whose small equations are solved exactly.

**Statement.** One step of the rank-adaptive integrator with a sample f, step length h and tolerance ϑ satisfies, with
a positive constant α,

    E L(Y₁) ≤ L(Y₀) - hα² + c₁h²B² + c₂hBε + c₃h²B² + Bϑ.

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024).

**Assumptions.** E f = F = -∇L; |f|, |F| ≤ B and both Lipschitz with L where the step goes; normal parts at most ε at
Y₀.

**Constants.** From the proof: α² = (|U₀ᵀF|² + |F V₀|²)/2 at Y₀, c₁ = 2L, c₂ = 1, c₃ = L. A sharper form (derived: the
integral of 2LsB² over the step is Lh²B²; P(Y₀) does not depend on the sample, and |P(Y₀)F|² ≥ α²; the normal block
is ⟨P⁺RP⁺, P⁺rP⁺⟩ ≤ ε²):

    E L(Y₁) ≤ L(Y₀) - h |P(Y₀) F(Y₀)|² + 2Lh²B² + hε² + Bϑ.

α is not positive in general: it is zero where P(Y₀)F(Y₀) = 0, and no positive constant can take its place.

**Use.** Descent is promised for h < |PF|²/(2LB²), up to ε² and ϑ; with exact substeps or Euler steps alike
(theorem 5.3), so that in this bound more than one gradient a step buys nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dlra import AugmentedBUG, LowRank
from validation.checks import Counterexample, Finding, Identity, Inequality, check
from validation.descent import Step, advanced, loss_step, starts, tangent_target
from validation.families import Family, dense_start, quadratic_sum, root_sylvester
from validation.flows import norm

EXACT = AugmentedBUG(substep="adaptive")


def _near_tight(shape: tuple[int, int], core: bool) -> tuple[Family, LowRank]:
    """A quadratic loss, F(Y₀) tangent of norm 1; along all flows |F| ≤ 1. ``core``: F(Y₀) in span U₀ ⊗ span V₀."""
    rng = np.random.default_rng(1)
    Y0 = dense_start(rng, *shape, (1.0, 0.5, 0.2))
    if core:
        U, _, V = Y0.factors
        G = U @ rng.standard_normal((3, 3)) @ V.T
        return quadratic_sum([Y0.to_dense() + G / norm(G)]), Y0
    return quadratic_sum([Y0.to_dense() + tangent_target(rng, Y0)]), Y0


def _random(quick: bool) -> Iterator[tuple[str, Step, Family]]:
    for i, Y0 in enumerate(starts(2 if quick else 8, ((12, 12), (14, 10)), (2.0, 1.0, 0.4))):
        family = root_sylvester(*Y0.shape, eps=(0.02, 0.0)[i // 2 % 2], g=0.2, seed=i)
        for h in (2.0**-3, 2.0**-8) if quick else (2.0**-3, 2.0**-6, 2.0**-9):
            for theta in (0.0, 0.5 * h**2):
                yield f"random {i}, h = {h:g}, ϑ = {theta:g}", loss_step(family, Y0, h, EXACT, theta), family


def _flat(s: Step) -> float:
    """E L(Y₁) - L(Y₀) + hα²."""
    return s.expected - s.loss + s.h * s.alpha2


@check("s2-5-1", "Theorem 5.1: E L(Y₁) ≤ L(Y₀) - hα² + 3Lh²B² + hBε + Bϑ", expect="sharp")
def theorem_5_1(quick: bool) -> Iterator[Finding]:
    """Quadratic loss with F in the span of both bases, h = 0.01: left is the descent promised, right the one seen.
    Then random losses, all samples, B and L those of the family: left is E L(Y₁) - L(Y₀) + hα², right the other
    terms, which say nothing about descent where they are not below hα²."""
    for shape in ((12, 12), (14, 10)):
        family, Y0 = _near_tight(shape, core=True)
        s = loss_step(family, Y0, 0.01, EXACT)
        yield Inequality(f"F in the core, {shape[0]} x {shape[1]}", s.h * s.alpha2 - 3 * s.h**2, s.descent)
    for label, s, family in _random(quick):
        right = 3 * family.L * s.h**2 * family.B**2 + s.h * family.B * family.eps + family.B * s.theta
        yield Inequality(label, _flat(s), right, trivial=s.h * s.alpha2, rounding=1e-13 * s.loss)


@check("s2-5-1-sharper", "Theorem 5.1 with |P(Y₀)F|², 2Lh²B², hε² for α², 3Lh²B², hBε", expect="sharp")
def theorem_5_1_sharper(quick: bool) -> Iterator[Finding]:
    """As above, but with F any tangent vector in the quadratic case."""
    for shape in ((12, 12), (14, 10)):
        family, Y0 = _near_tight(shape, core=False)
        s = loss_step(family, Y0, 0.01, EXACT)
        yield Inequality(f"F tangent, {shape[0]} x {shape[1]}", s.h * s.projected - 2 * s.h**2, s.descent)
    for label, s, family in _random(quick):
        right = 2 * family.L * s.h**2 * family.B**2 + s.h * family.eps**2 + family.B * s.theta
        yield Inequality(label, s.excess, right, trivial=s.h * s.projected, rounding=1e-13 * s.loss)


@check("s2-5-1-alpha", "Theorem 5.1: no positive α at a critical point", expect="fails as printed")
def alpha(quick: bool) -> Iterator[Finding]:
    """L(Y) = √(1 + |Y - A|²), B = L = 1, from Y₀ = A, where F = 0 and ε = 0: the state stays, for all h, while for
    each positive α a descent hα² - 3Lh²B² (left) is promised once h < α²/3. Right is the one seen."""
    for shape in ((10, 10), (12, 9)):
        Y0 = dense_start(np.random.default_rng(3), *shape, (1.0, 0.5, 0.2))
        A = Y0.to_dense()

        def f(Y: Any, A: Any = A) -> Any:
            return (A - Y) / np.sqrt(1 + norm(Y - A) ** 2)

        for a in (0.1, 0.01):
            h = a**2 / 6
            Y1 = advanced(f, h, Y0, AugmentedBUG(substep="adaptive", max_rank=6)).to_dense()
            yield Identity(f"Y₁ = Y₀, {shape[0]} x {shape[1]}, h = {h:.1e}", norm(Y1 - A) / norm(A))
            descent = 1.0 - float(np.sqrt(1 + norm(Y1 - A) ** 2))
            label = f"descent, α = {a:g}, {shape[0]} x {shape[1]}"
            yield Counterexample(label, h * a**2 - 3 * h**2, descent)
