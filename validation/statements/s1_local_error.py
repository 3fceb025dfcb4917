"""Lemmas 1 to 3: the local error of the fixed-rank integrator.

**Statement.** Let Ẇ = F(W), W(0) = W⁰ = U⁰S⁰V⁰ᵀ of rank r, W¹ = W(h), and let U¹, V¹, S¹ come from one step of the
fixed-rank K-, L- and S-steps with step h (their η is h here). Then, in the Frobenius norm,

    |W¹ - U¹U¹ᵀW¹| ≤ θ                                           (Lemma 1)
    |W¹ - U¹U¹ᵀW¹V¹V¹ᵀ| ≤ 2θ                                     (Lemma 2)
    |U¹S¹V¹ᵀ - W¹| ≤ h (ĉ₁ ε + ĉ₂ h)                             (Lemma 3)
    θ = C₁C₂ (4 e^{C₂h} + 9) h² + (3 e^{C₂h} + 4) ε h.

θ is no truncation tolerance: nothing is truncated here.

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets: finding efficient
low-rank neural networks via matrix differential equations, NeurIPS 2022, arXiv:2205.13571, appendix 6.1, after
G. Ceruti, C. Lubich, An unconventional robust integrator for dynamical low-rank approximation, BIT 62 (2022),
Lemmas 2 to 4.

**Assumptions.** P1: |F| ≤ C₁, and F is Lipschitz with C₂. P2: |(I - P(Z)) F(Z)| ≤ ε on the matrices of rank r. The
K-, L- and S-equations are solved exactly (here: by a classical Runge-Kutta step, its error below 1e-3 of every
bound). Nothing is assumed of the singular values.

**Constants.** C₁ = B, C₂ = L and ε of the family. Of the proof of Lemma 3:

    ĉ₁ = 2 (1 + C₂h e^{C₂h}) (3 e^{C₂h} + 4),
    ĉ₂ = 2 C₁C₂ [(1 + C₂h e^{C₂h}) (4 e^{C₂h} + 9) + e^{C₂h}],

which tend to 14 and 28 C₁C₂ (the printed e^{Lη} is e^{C₂η}). In Lemma 2 already √2 θ will do (derived): W¹ - P_U¹W¹P_V¹
= (I - P_U¹) W¹ + P_U¹W¹ (I - P_V¹), and the two are orthogonal.

What is known without the lemmas (derived): the range of U¹ contains K(h) = U⁰S⁰ + ∫ F V⁰, so that |(I - P_U¹) W⁰| ≤
C₁h, alike for V¹, and |W⁰ - P_U¹W⁰P_V¹| ≤ √2 C₁h, the two parts being orthogonal; and |W¹ - W⁰| ≤ C₁h. Hence the left
sides of the first two are at most 2 C₁h and (1 + √2) C₁h. The step moves by U¹S¹V¹ᵀ - W⁰ = -(W⁰ - P_U¹W⁰P_V¹) +
P_U¹ ∫ F P_V¹, again orthogonal, at most √3 C₁h: the left side of the third is at most (1 + √3) C₁h. Where the right
sides are not below this, they say nothing: for ε = 0 and C₂h > 0.147 (Lemma 1), 0.090 (Lemma 2) or 0.087 (Lemma 3).

**Use.** A step of BUG is wrong by O(h²) and by what F has outside of the tangent space, however small the singular
values are. The constants themselves are far above what is seen: trust the orders, not the size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

import numpy as np

import dlra
from dlra import BUG, LowRank
from validation.checks import Finding, Inequality, Slope, check
from validation.families import Family, dense_start, tangent_field
from validation.flows import compressed, norm, rk4

NOT_ZERO = 0.01
"""The ε of the cases that have one."""
TINY = (1.0, 0.3, 1e-7)
FULL = (1.0, 0.3, 0.1)


@dataclass(frozen=True)
class Step:
    """One step of BUG from a start, and the exact solution."""

    family: Family
    h: float
    W1: np.ndarray
    Y1: LowRank

    @classmethod
    def of(cls, family: Family, Y0: LowRank, h: float) -> Step:
        Y1 = dlra.step(lambda t, Y: family.F(Y), 0.0, h, Y0, BUG(substep="rk4"))
        return cls(family, h, rk4(family.F, Y0.to_dense(), h, 16), Y1)

    @property
    def theta(self) -> float:
        """The right side of Lemma 1."""
        f, e = self.family, exp(self.family.L * self.h)
        return f.B * f.L * (4 * e + 9) * self.h**2 + (3 * e + 4) * f.eps * self.h

    def left(self) -> tuple[float, float, float]:
        """The left sides of the three lemmas."""
        U, _, V = self.Y1.factors
        W1 = self.W1
        return (
            norm(W1 - U @ (U.conj().T @ W1)),
            norm(W1 - compressed(U, V, W1)),
            norm(self.Y1.to_dense() - W1),
        )

    def right(self) -> tuple[float, float, float]:
        c1, c2 = self.family.of_lemma_3(self.h)
        return self.theta, 2 * self.theta, self.h * (c1 * self.family.eps + c2 * self.h)

    def trivial(self) -> tuple[float, float, float]:
        way = self.family.B * self.h
        return 2 * way, (1 + sqrt(2)) * way, (1 + sqrt(3)) * way


SHAPES: tuple[tuple[Any, int, int], ...] = (("float64", 12, 12), ("float64", 16, 11), ("complex128", 9, 9))


def _starts(dtype: Any, m: int, n: int, eps: float) -> Iterator[tuple[str, Family, LowRank]]:
    family = tangent_field(m, n, eps=eps, seed=m + n, dtype=dtype)
    for name, sigma in (("1e-7", TINY), ("0.1", FULL)):
        yield (
            f"{dtype} {m} x {n}, ε = {eps:g}, σ_min = {name}",
            family,
            dense_start(np.random.default_rng(m), m, n, sigma, dtype),
        )


def _lemma(which: int) -> Callable[[bool], Iterator[Finding]]:
    """The findings of Lemma 1, 2 or 3."""

    def measure(quick: bool) -> Iterator[Finding]:
        cases = [c for eps in (0.0, NOT_ZERO) for shape in SHAPES for c in _starts(*shape, eps)]
        widths = [2.0**-k for k in ((11, 8, 5, 2) if quick else range(11, 1, -1))]
        for h in widths:  # the smallest first: they say most
            for label, family, Y0 in cases:
                step = Step.of(family, Y0, h)
                yield Inequality(
                    f"{label}, h = {h:g}", step.left()[which], step.right()[which], step.trivial()[which]
                )
        for shape in SHAPES[: 2 if quick else 3]:
            for eps, order, powers in ((0.0, 2.0, range(6, 11)), (NOT_ZERO, 1.0, range(12, 17))):
                label, family, Y0 = list(_starts(*shape, eps))[1]
                hs = [2.0**-k for k in powers]
                yield Slope.of(label, hs, [Step.of(family, Y0, h).left()[which] for h in hs], order)

    return measure


@check("s1-lemma-1", "Lemma 1: |W¹ - U¹U¹ᵀW¹| ≤ θ", expect="holds")
def lemma_1(quick: bool) -> Iterator[Finding]:
    """Tangential fields with and without ε, real and complex, square and not; h from 2^-11 to 2^-2 (where the bound is
    vacuous); half of the starts have σ_min = 1e-7. Slopes in h: 2 for ε = 0; 1 for ε = 0.01 and small h."""
    yield from _lemma(0)(quick)


@check("s1-lemma-2", "Lemma 2: |W¹ - U¹U¹ᵀW¹V¹V¹ᵀ| ≤ 2θ", expect="holds")
def lemma_2(quick: bool) -> Iterator[Finding]:
    """As Lemma 1; and once more with √2 θ in the place of 2θ."""
    yield from _lemma(1)(quick)
    for shape in SHAPES:
        for label, family, Y0 in _starts(*shape, NOT_ZERO):
            step = Step.of(family, Y0, 2.0**-8)
            yield Inequality(f"√2 θ: {label}", step.left()[1], sqrt(2) * step.theta, step.trivial()[1])


@check("s1-lemma-3", "Lemma 3: |U¹S¹V¹ᵀ - W¹| ≤ h (ĉ₁ ε + ĉ₂ h)", expect="holds")
def lemma_3(quick: bool) -> Iterator[Finding]:
    """As Lemma 1, for the result of the step itself."""
    yield from _lemma(2)(quick)
