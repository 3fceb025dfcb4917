"""Beyond the four papers: integrators that are exact where F = A'(t).

**Statement.** Let F(t, Y) = A'(t) with A(t) of rank r for all t, Y₀ = A(t₀) of rank r, and let U(t₁)ᴴU(t₀) and
V(t₁)ᴴV(t₀) be invertible. Then projector splitting of any order, fixed-rank BUG and augmented BUG give Y₁ = A(t₁),
whatever the step length and however small the singular values, if their small equations are solved exactly. Where one
of the two is singular, directions of A(t₁) are lost, by augmented BUG too.

**Source.** C. Lubich, I. V. Oseledets, A projector-splitting integrator for dynamical low-rank approximation, BIT
Numer. Math. 54 (2014) 171-188. G. Ceruti, C. Lubich, An unconventional robust integrator for dynamical low-rank
approximation, BIT Numer. Math. 62 (2022) 23-44. G. Ceruti, J. Kusch, C. Lubich, A rank-adaptive robust integrator for
dynamical low-rank approximation, BIT Numer. Math. 62 (2022) 1149-1174.

**Assumptions.** As stated; generic A(t) satisfy them.

**Constants.** None: an identity. Augmented BUG has Y₁ = P_Û A(t₁) P_V̂, with Û the range of [U₀, A(t₁)V₀] and V̂ that
of [V₀, A(t₁)ᴴU₀]: for A(t₁) = U₁S₁V₁ᴴ the columns of A(t₁)V₀ span those of U₁ if and only if V₁ᴴV₀ is invertible. The
equality of Y₁ and P_Û A(t₁) P_V̂ needs no assumption; for rank one and U₁ᴴU₀ = V₁ᴴV₀ = 0 it is zero, and fixed-rank BUG
and splitting have no bases at all to take from a K-step that gives K(t₁) = 0. Where A is a cubic polynomial of t, the
small equations have right-hand sides of second degree in t that do not depend on the unknown, which Runge and Kutta's
scheme integrates exactly.

**Use.** A state whose rank suffices is followed exactly through sources; errors come from the part of F that leaves
the tangent space, and from how F changes with Y. A step that turns a singular vector by a right angle loses it: take
shorter ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import dlra
from dlra import BUG, AugmentedBUG, Increments, LowRank, ProjectorSplitting, factored, linalg
from validation.checks import Finding, Identity, Inequality, check
from validation.flows import complement, compressed, norm, relative
from validation.manufactured import Moving, Rotating, normal, random_orthonormal
from validation.properties import error, final, label, tight

METHODS: tuple[Any, ...] = (BUG(), AugmentedBUG(), ProjectorSplitting(1), ProjectorSplitting(2))
ALL: tuple[Any, ...] = (*METHODS, ProjectorSplitting(4))


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


@check(
    "x-exact-singular",
    "V(t₁)ᴴV(t₀) singular: augmented BUG gives P_Û A(t₁) P_V̂, and loses what is not in it",
    expect="holds",
)
def singular(quick: bool) -> Iterator[Finding]:
    """A = uuᴴ from u = e₁ to e₂, increments, at most rank 2: Y₁ = 0, the error is |A(t₁)|. Then rank 3, 20 x 20 and 20
    x 14, real and complex, V₁ with one, two or three of its columns orthogonal to V₀. U₁ orthogonal to U₀ in as many:
    what is lost is the part of A(t₁) in these columns. U₁ random, so that U₁ᴴU₀ is invertible: Y₁ is P_Û A(t₁), and
    more than a tenth of A(t₁) is lost."""
    e = np.eye(5)
    for dtype in ("complex128", "float64"):
        start = LowRank(e[:, :1].astype(dtype), np.ones((1, 1), dtype), e[:, :1].astype(dtype))
        u = e[:, 1:2].astype(dtype)

        def turned(t: float, start: LowRank = start, u: np.ndarray = u) -> np.ndarray:
            return start.to_dense() if t == 0 else u @ u.conj().T

        Y1 = dlra.step(Increments(turned), 0.0, 1.0, start, AugmentedBUG(max_rank=2))
        yield Identity(f"uuᴴ, error = |A(t₁)|, {dtype}", abs(error(Y1, turned(1.0)) - 1))
        for m, n in ((20, 20), (20, 14)):
            for lost, both in ((1, True), (2, True), (3, True), (1, False), (2, False)):
                rng = np.random.default_rng(lost)
                U0, V0 = (random_orthonormal(rng, k, 3, dtype) for k in (m, n))
                kept = random_orthonormal(rng, 3, 3, dtype)[:, lost:]
                V1 = np.concatenate((complement(rng, V0, lost), V0 @ kept), axis=1)
                turn = U0 @ random_orthonormal(rng, 3, 3, dtype)[:, lost:]
                aside = np.concatenate((complement(rng, U0, lost), turn), axis=1)
                U1 = aside if both else random_orthonormal(rng, m, 3, dtype)
                s = np.array([1.0, 0.5, 0.25])
                S0 = normal(rng, (3, 3), dtype)
                A0, A1 = U0 @ S0 @ V0.conj().T, (U1 * s) @ V1.conj().T

                def values(t: float, A0: np.ndarray = A0, A1: np.ndarray = A1) -> np.ndarray:
                    return A0 if t == 0 else A1

                Y0 = LowRank(U0, S0, V0)
                Y1 = dlra.step(Increments(values), 0.0, 1.0, Y0, AugmentedBUG(max_rank=6)).to_dense()
                where = f"{lost} lost, {'U₁ too' if both else 'U₁ random'}, {m} x {n}, {dtype}"
                if both:
                    gone = (U1[:, :lost] * s[:lost]) @ V1[:, :lost].conj().T
                    yield Identity(f"A(t₁) - Y₁, {where}", relative(A1 - Y1, gone))
                    continue
                found = (U1[:, lost:] * s[lost:]) @ (V1[:, lost:].conj().T @ V0)  # A(t₁)V₀ without rounding
                U, V = linalg.augment(U0, found), linalg.augment(V0, A1.conj().T @ U0)
                yield Identity(f"P_Û A(t₁) P_V̂, {where}", norm(Y1 - compressed(U, V, A1)) / norm(A1))
                yield Inequality(f"a tenth is lost, {where}", 0.1 * norm(A1), norm(A1 - Y1))
