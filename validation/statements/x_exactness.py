"""Beyond the four papers: integrators that are exact where F = A'(t).

**Statement.** Let F(t, Y) = A'(t) with A(t) of rank r for all t, Y₀ = A(t₀) of rank r, and let U(t₁)ᴴU(t₀) and
V(t₁)ᴴV(t₀) be invertible (for the augmented integrator nothing is asked of them). Then projector splitting of any
order, fixed-rank BUG and augmented BUG give Y₁ = A(t₁), whatever the step length and however small the singular values,
if their small equations are solved exactly.

**Source.** C. Lubich, I. V. Oseledets, A projector-splitting integrator for dynamical low-rank approximation, BIT
Numer. Math. 54 (2014) 171-188. G. Ceruti, C. Lubich, An unconventional robust integrator for dynamical
low-rank approximation, BIT Numer. Math. 62 (2022) 23-44. G. Ceruti, J. Kusch, C. Lubich, A rank-adaptive robust
integrator for dynamical low-rank approximation, BIT Numer. Math. 62 (2022) 1149-1174.

**Assumptions.** As stated; generic A(t) satisfy them.

**Constants.** None: an identity. Where A is a cubic polynomial of t, the small equations have right-hand sides of
second degree in t that do not depend on the unknown, which Runge and Kutta's scheme integrates exactly.

**Use.** A state whose rank suffices is followed exactly through sources; errors come from the part of F that leaves the
tangent space, and from how F changes with Y.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dlra import BUG, AugmentedBUG, Increments, ProjectorSplitting, factored
from validation.checks import Finding, Identity, check
from validation.manufactured import Moving, Rotating
from validation.properties import error, final, shown, tight

METHODS: tuple[Any, ...] = (BUG(), AugmentedBUG(), ProjectorSplitting(1), ProjectorSplitting(2))
ALL: tuple[Any, ...] = (*METHODS, ProjectorSplitting(4))


def label(method: Any) -> str:
    """The method without the marks of code."""
    return shown(method).strip("`")


@check("x-exact-cubic", "F = A'(t), A cubic in t: exact for every h", expect="holds")
def cubic(quick: bool) -> Iterator[Finding]:
    """A(t) = U(t) S V(t)ᴴ with U quadratic, V linear and S dense, 20 x 20 and 30 x 20, complex and real, from t = 0 to
    1 in one step and in ten."""
    sizes = ((20, 20),) if quick else ((20, 20), (30, 20), (20, 30))
    for dtype in ("complex128", "float64"):
        for m, n in sizes:
            A = Moving(m, n, 4, dtype)
            F = factored(lambda t, Y, A=A: A.rate(t))
            for method in METHODS if quick else ALL:
                for h in (1.0, 0.1):
                    where = f"{label(method)}, {m} x {n}, {dtype}, h = {h:g}"
                    yield Identity(where, error(final(F, A.state(0.0), method, h), A(1.0)))


@check(
    "x-exact-rotating",
    "F = A'(t), bases that rotate in all directions, σ down to 1e-6: exact",
    expect="holds",
)
def rotating(quick: bool) -> Iterator[Finding]:
    """A(t) = e^{tW₁} U₀ Σ V₀ᴴ e^{-tW₂} e^{t/2}, two steps of h = 0.5; the small equations with tolerance 1e-10, hence
    the tolerance 1e-9 of the identity."""
    for dtype, n in (("complex128", 20), ("float64", 24))[: 1 if quick else 2]:
        A = Rotating(20, n, [1.0, 0.1, 1e-3, 1e-6], dtype)
        for method in METHODS if quick else ALL:
            Y = final(lambda t, Y, A=A: A.rate(t), A.state(), tight(method), 0.5)
            yield Identity(f"{label(method)}, {dtype}", error(Y, A(1.0)), 1e-9)


@check("x-exact-increments", "Increments A(t₁) - A(t₀) in the place of A': exact to rounding", expect="holds")
def increments(quick: bool) -> Iterator[Finding]:
    """The same A, of which only values are known, not derivatives: h = 0.5 and 0.05."""
    for dtype, n in (("complex128", 20), ("float64", 24)):
        A = Rotating(20, n, [1.0, 0.5, 0.25, 0.125], dtype)
        for method in METHODS if quick else ALL:
            for h in (0.5, 0.05):
                Y = final(Increments(A), A.state(), method, h)
                yield Identity(f"{label(method)}, {dtype}, h = {h:g}", error(Y, A(1.0)))


@check("x-exact-small", "Exactness holds where singular values are 1e-12", expect="holds")
def small(quick: bool) -> Iterator[Finding]:
    """Increments of A with σ = 1, 1e-4, 1e-8, 1e-12: the error relative to the norm of A, and one relative to what an
    error in the smallest singular value would make, with rounding allowed for."""
    for dtype in ("complex128", "float64"):
        A = Rotating(20, 20, [1.0, 1e-4, 1e-8, 1e-12], dtype)
        for method in METHODS if quick else ALL:
            Y = final(Increments(A), A.state(), method, 0.25)
            yield Identity(f"{label(method)}, {dtype}", error(Y, A(1.0)))
            s = np.asarray(Y.singular_values())
            off = abs(s[3] / (1e-12 * np.exp(0.5)) - 1)
            yield Identity(f"smallest singular value, {label(method)}, {dtype}", float(off), 1e-2)
