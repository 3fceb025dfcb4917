"""Sections 3 and 5: what one step is, exactly.

**Statement.** With P(Y)Z = Z P_V - P_U Z P_V + P_U Z (3.6), the orthogonal projection on the tangent space of the
matrices of rank q at Y = U S Vᵀ, one rank-adaptive BUG step from Y₀ = U₀S₀V₀ᵀ has bases

    U* = [U₀ | U₀⁺], V* = [V₀ | V₀⁺]                              (3.7)

hence a core that starts in Ỹ(t₀) = U* (M S₀ Nᵀ) V*ᵀ = Y₀, and with Euler substeps, before truncation,

    Y* = Y₀ + h P_U* f(Y₀) P_V*                                   (5.9)
    P(Y₀) [P_U* f(Y₀) P_V*] = P(Y₀) f(Y₀)                         (5.13)

all of it from the one matrix G = f(Y₀): the three steps use G V₀, Gᵀ U₀ and U*ᵀ G V*. Where the core is put together
from the K-, L- and S-step at U₀, V₀ (the parallel integrator), its new block is zero, and

    Y* = Y₀ + h P(Y₀) f(Y₀).

Without augmentation (fixed rank), U₁ spans the range of K(t₁) = (Y₀ + h f(Y₀)) V₀, V₁ that of L(t₁) = (Y₀ + h f(Y₀))ᵀ
U₀, and Y₁ = P_U₁ (Y₀ + h f(P_U₁ Y₀ P_V₁)) P_V₁.

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024): (3.6), (3.7), Algorithm 3.1, the proofs of Theorems 5.1 and
5.3, (5.9), (5.13). The parallel step: G. Ceruti, J. Kusch, C. Lubich, A parallel rank-adaptive integrator for
dynamical low-rank approximation, SIAM J. Sci. Comput. 46 (2024). Derived: U*ᵀf V₀ and U₀ᵀf V* fill its core, so the
sum of its blocks is the right side of (3.6) at Y₀.

**Assumptions.** None: identities of exact arithmetic for any f, Y₀ and h, real and complex (with Vᴴ in the place of
Vᵀ), also where 2q > m. (3.6) is the derivative of the nearest matrix of rank q at Y, where σ_q(Y) > 0.

**Constants.** The differences are roundoff u. The increment (Y* - Y₀)/h is known to u (|Y₀|/h + |f|), so that (5.13) is
tested to this and not to u |f|. In single precision the bases must be made of increments h f V₀, not of K(t₁): the new
directions are then exact to a few u at every h, while K(t₁) carries them to u |Y₀|/(h |f|) only.

**Use.** (5.9) and (5.13) say that an augmented step is a gradient step, projected on a space that contains the tangent
space: nothing of the tangent gradient is lost, whatever the singular values of S₀ are. One backward pass serves a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlra
from dlra import BUG, AugmentedBUG, LowRank, ParallelBUG, ProjectedRungeKutta
from validation.checks import Finding, Identity, Slope, check
from validation.families import complex_field, dense_start, tangent_field
from validation.flows import compressed, norm, tangent
from validation.manufactured import normal

Matrix = np.ndarray


class Asked:
    """A field that keeps the matrices at which it is asked for."""

    def __init__(self, f: Callable[[Matrix], Matrix]):
        self.f = f
        self.asked: list[Matrix] = []

    def __call__(self, t: float, Y: Matrix) -> Matrix:
        self.asked.append(np.array(Y))
        return self.f(Y)


@dataclass(frozen=True)
class Case:
    """A field and a start."""

    label: str
    f: Callable[[Matrix], Matrix]
    Y0: LowRank

    def F(self, t: float, Y: Matrix) -> Matrix:
        """As dlra wants it."""
        return self.f(Y)

    def bases(self) -> tuple[Matrix, Matrix]:
        """U₀ and V₀."""
        U, _, V = self.Y0.factors
        return U, V

    @property
    def readable(self) -> bool:
        """Whether U* and V* have one number of columns, so that the result of a step shows all of both."""
        m, n = self.Y0.shape
        return min(m, 2 * self.Y0.rank) == min(n, 2 * self.Y0.rank)


def cases(quick: bool) -> Iterator[Case]:
    """Square and non-square, real and complex; then σ_min = 1e-8, and 2q > m: both bases full, and one of them."""
    rng = np.random.default_rng(1)
    shapes: list[tuple[int, int, tuple[float, ...]]] = [(16, 16, (1.0, 0.5, 0.2)), (18, 11, (1.0, 0.3))]
    if not quick:
        shapes += [(11, 18, (2.0, 1.0, 0.5, 0.1)), (32, 32, (1.0, 0.9, 0.8, 0.7, 0.6))]
    shapes += [(12, 12, (1.0, 1e-4, 1e-8)), (5, 5, (1.0, 0.5, 0.25)), (5, 9, (1.0, 0.5, 0.25))]
    for m, n, sigma in shapes:
        for dtype in ("float64", "complex128"):
            Y0 = dense_start(rng, m, n, sigma, dtype)
            if dtype == "complex128":
                f = complex_field(m, n, seed=m)
            else:
                f = tangent_field(m, n, eps=1.0, g=0.5, a=2.0, b=2.0, seed=m).samples[0]
            kind = "complex" if dtype == "complex128" else "real"
            yield Case(f"{kind}, {m} x {n}, q = {len(sigma)}, σ_min = {sigma[-1]:g}", f, Y0)


def readable(quick: bool) -> Iterator[Case]:
    """The cases whose untruncated result has the bases U* and V*."""
    return (c for c in cases(quick) if c.readable)


def steps(quick: bool, smallest: float = 1e-4) -> tuple[float, ...]:
    """Step sizes up to 10."""
    return (1e-2, 10.0, smallest) if quick else (1e-1, 10.0, 1e-2, smallest)


def untruncated(Y0: LowRank) -> dict[str, Any]:
    """Options that drop nothing, so that the bases of the result are U* and V*."""
    return {"max_rank": 2 * Y0.rank}


@check("s2-eq-5-9", "(5.9): Y* = Y₀ + h P_U* f(Y₀) P_V* with Euler substeps", expect="holds")
def euler_step(quick: bool) -> Iterator[Finding]:
    """All cases, h from 1e-4 to 10, dense S₀; U* and V* are read off the untruncated result. Relative to |Y₀| + h
    |f|."""
    for c in readable(quick):
        Y, G = c.Y0.to_dense(), c.f(c.Y0.to_dense())
        for h in steps(quick):
            Y1 = dlra.step(c.F, 0.0, h, c.Y0, AugmentedBUG(substep="euler", **untruncated(c.Y0)))
            U, _, V = Y1.factors
            difference = norm(Y1.to_dense() - Y - h * compressed(U, V, G)) / (norm(Y) + h * norm(G))
            yield Identity(f"{c.label}, h = {h:g}", difference)


@check("s2-eq-5-13", "(5.13): P(Y₀) [P_U* f(Y₀) P_V*] = P(Y₀) f(Y₀)", expect="holds")
def tangent_part(quick: bool) -> Iterator[Finding]:
    """As before, with P_U* f(Y₀) P_V* taken from the increment (Y* - Y₀)/h: relative to |Y₀|/h + |f|. Then with the
    projectors of the bases themselves, relative to |f|."""
    for c in cases(quick):
        Y, G = c.Y0.to_dense(), c.f(c.Y0.to_dense())
        for h in steps(quick, 1e-6):
            Y1 = dlra.step(c.F, 0.0, h, c.Y0, AugmentedBUG(substep="euler", **untruncated(c.Y0)))
            increment = (Y1.to_dense() - Y) / h
            difference = norm(tangent(c.Y0, increment - G)) / (norm(Y) / h + norm(G))
            yield Identity(f"increment: {c.label}, h = {h:g}", difference)
            if c.readable:
                U, _, V = Y1.factors
                difference = norm(tangent(c.Y0, compressed(U, V, G) - G)) / norm(G)
                yield Identity(f"projectors: {c.label}, h = {h:g}", difference)


@check("s2-eq-3-7", "(3.7): U₀ and V₀ lie in the spans of U* and V*", expect="holds")
def spans(quick: bool) -> Iterator[Finding]:
    """|(I - P_U*) U₀| and |(I - P_V*) V₀| of untruncated steps with Euler and Runge-Kutta substeps, h from 1e-6 to
    10."""
    for c in readable(quick):
        U0, V0 = c.bases()
        for substep in ("euler",) if quick else ("euler", "rk4"):
            for h in (1e-6, 1e-2, 10.0):
                Y1 = dlra.step(c.F, 0.0, h, c.Y0, AugmentedBUG(substep=substep, **untruncated(c.Y0)))
                U, _, V = Y1.factors
                for name, X, X0 in (("U", U, U0), ("V", V, V0)):
                    out = norm(X0 - X @ (X.conj().T @ X0)) / norm(X0)
                    yield Identity(f"{name}: {c.label}, h = {h:g}, {substep}", out)


@check("s2-start", "The S-step starts in Y₀: U* (M S₀ Nᵀ) V*ᵀ = Y₀", expect="holds")
def start_of_the_core(quick: bool) -> Iterator[Finding]:
    """Heun substeps: the last matrix at which f is asked for is Ỹ(t₀) + h P_U* f(Y₀) P_V*; the second term, with U*
    and V* of the untruncated result, is subtracted."""
    for c in readable(quick):
        Y, G = c.Y0.to_dense(), c.f(c.Y0.to_dense())
        for h in steps(quick):
            field = Asked(c.f)
            Y1 = dlra.step(field, 0.0, h, c.Y0, AugmentedBUG(substep="heun", **untruncated(c.Y0)))
            U, _, V = Y1.factors
            start = field.asked[-1] - h * compressed(U, V, G)
            yield Identity(f"{c.label}, h = {h:g}", norm(start - Y) / (norm(Y) + h * norm(G)))


@check("s2-one-gradient", "The K-, L- and S-step share one evaluation of f", expect="holds")
def one_gradient(quick: bool) -> Iterator[Finding]:
    """The number of evaluations of f during a step, less 1 with Euler substeps, and less 4 with Heun substeps (one
    more for each equation). The first one is at Y₀ itself."""
    for c in cases(quick):
        for method in (AugmentedBUG, ParallelBUG):
            for substep, wanted in (("euler", 1), ("heun", 4)):
                field = Asked(c.f)
                dlra.step(field, 0.0, 0.1, c.Y0, method(substep=substep, **untruncated(c.Y0)))
                yield Identity(f"{method.name}, {substep}: {c.label}", float(abs(len(field.asked) - wanted)))
                if substep == "euler":
                    Y = c.Y0.to_dense()
                    yield Identity(f"{method.name}, at Y₀: {c.label}", norm(field.asked[0] - Y) / norm(Y))


@check("s2-parallel-s-step", "Parallel S-step: Y* = Y₀ + h P(Y₀) f(Y₀)", expect="holds")
def parallel_s_step(quick: bool) -> Iterator[Finding]:
    """All cases, h from 1e-4 to 10, nothing truncated, nothing rejected. Relative to |Y₀| + h |f|."""
    for c in cases(quick):
        Y, G = c.Y0.to_dense(), c.f(c.Y0.to_dense())
        for h in steps(quick):
            method = ParallelBUG(substep="euler", c=math.inf, **untruncated(c.Y0))
            Y1 = dlra.step(c.F, 0.0, h, c.Y0, method).to_dense()
            yield Identity(
                f"{c.label}, h = {h:g}", norm(Y1 - Y - h * tangent(c.Y0, G)) / (norm(Y) + h * norm(G))
            )


def projected(Y: LowRank, Z: Matrix, method: Any) -> Matrix:
    """P(Y)Z as an untruncated Euler step of dlra with h = 1 adds it."""
    return dlra.step(lambda t, X: Z, 0.0, 1.0, Y, method).to_dense() - Y.to_dense()


@check("s2-eq-3-6", "(3.6): P(Y) is the orthogonal projection on the tangent space", expect="holds")
def projector(quick: bool) -> Iterator[Finding]:
    """P(Y)Z is what an Euler step of the parallel integrator, and of the projected Euler method, adds to Y. It is
    (3.6); idempotent; self-adjoint, Re⟨P(Y)Z, X⟩ = Re⟨Z, P(Y)X⟩; and the limit of (R(Y + sZ) - R(Y - sZ))/(2s), R the
    best approximation of rank q, with an error of order s²."""
    rng = np.random.default_rng(2)
    several = [(16, 16, (1.0, 0.5, 0.3), "float64"), (14, 9, (1.0, 0.6), "complex128")]
    if not quick:
        several += [(9, 14, (2.0, 1.0, 0.8, 0.5), "float64"), (24, 24, (1.0, 0.5), "complex128")]
    for m, n, sigma, dtype in several:
        Y = dense_start(rng, m, n, sigma, dtype)
        Z, X = (normal(rng, (m, n), dtype) / np.sqrt(m * n) for _ in range(2))
        U, _, V = Y.factors
        by_paper = Z @ V @ V.conj().T - compressed(U, V, Z) + U @ (U.conj().T @ Z)
        for method in (
            ParallelBUG(substep="euler", c=math.inf, **untruncated(Y)),
            ProjectedRungeKutta("euler", **untruncated(Y)),
        ):
            label = f"{method.name}, {m} x {n}, {dtype}"
            PZ, PX = projected(Y, Z, method), projected(Y, X, method)
            scale = norm(Y.to_dense()) + norm(Z)
            yield Identity(f"(3.6): {label}", norm(PZ - by_paper) / scale)
            yield Identity(f"idempotent: {label}", norm(projected(Y, PZ, method) - PZ) / scale)
            asymmetry = abs(np.vdot(PZ, X).real - np.vdot(Z, PX).real)
            yield Identity(f"self-adjoint: {label}", float(asymmetry) / scale)
            hs = [2.0**-k for k in range(4, 9)]
            errors = []
            for s in hs:
                up, down = (LowRank.from_dense(Y.to_dense() + sign * s * Z, rank=Y.rank) for sign in (1, -1))
                errors.append(norm((up.to_dense() - down.to_dense()) / (2 * s) - PZ))
            yield Slope.of(f"limit of best approximations: {label}", hs, errors, 2.0, x_name="s")


@check(
    "s2-fixed-rank", "Fixed rank: Y₁ = P_U₁ (Y₀ + h f(P_U₁ Y₀ P_V₁)) P_V₁, U₁ = orth K(t₁)", expect="holds"
)
def fixed_rank(quick: bool) -> Iterator[Finding]:
    """U₁ and V₁ are read off the result; they contain the ranges of (Y₀ + h f(Y₀)) P_V₀ and of its counterpart."""
    for c in cases(quick):
        U0, V0 = c.bases()
        Y, G = c.Y0.to_dense(), c.f(c.Y0.to_dense())
        for h in steps(quick):
            Y1 = dlra.step(c.F, 0.0, h, c.Y0, BUG(substep="euler"))
            U, _, V = Y1.factors
            K, L = (Y + h * G) @ V0, (Y + h * G).conj().T @ U0
            scale = norm(Y) + h * norm(G)
            yield Identity(f"U₁: {c.label}, h = {h:g}", norm(K - U @ (U.conj().T @ K)) / scale)
            yield Identity(f"V₁: {c.label}, h = {h:g}", norm(L - V @ (V.conj().T @ L)) / scale)
            start = compressed(U, V, Y)
            Z = start + h * compressed(U, V, c.f(start))
            scale += h * norm(c.f(start))
            yield Identity(f"Y₁: {c.label}, h = {h:g}", norm(Y1.to_dense() - Z) / scale)


@check("s2-single-precision", "Single precision: the bases keep P(Y₀) f(Y₀) at every h", expect="holds")
def single_precision(quick: bool) -> Iterator[Finding]:
    """|P(Y₀)[f - P_U* f P_V*]| / |P(Y₀) f| of steps in single precision with h = 1e-1 to 1e-4, computed in double
    from the bases of the result, against 10 units of roundoff."""
    rng = np.random.default_rng(3)
    unit = float(np.finfo(np.float32).eps)
    several = [(20, 20, "float32"), (24, 14, "complex64")]
    for m, n, dtype in several if quick else [*several, (40, 40, "float32"), (20, 20, "complex64")]:
        wide = "complex128" if dtype == "complex64" else "float64"
        Y0 = dense_start(rng, m, n, (1.0, 0.5, 0.2), dtype)
        G = normal(rng, (m, n), dtype)
        U0, _, V0 = (np.asarray(X, dtype=wide) for X in Y0.factors)
        Q0 = [np.linalg.qr(X)[0] for X in (U0, V0)]
        at_start = LowRank(Q0[0], np.eye(3, dtype=wide), Q0[1])
        wanted = tangent(at_start, G.astype(wide))
        for method in (AugmentedBUG, ParallelBUG):
            for h in (1e-1, 1e-2, 1e-3, 1e-4):
                Y1 = dlra.step(lambda t, Y, G=G: G, 0.0, h, Y0, method(substep="euler", max_rank=6))
                U, V = (np.linalg.qr(np.asarray(X, dtype=wide))[0] for X in (Y1.factors[0], Y1.factors[2]))
                lost = norm(tangent(at_start, compressed(U, V, G.astype(wide))) - wanted) / norm(wanted)
                yield Identity(f"{method.name}, {m} x {n}, {dtype}, h = {h:g}", lost, tolerance=10 * unit)
