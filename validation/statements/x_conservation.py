"""Beyond the four papers: what integrators conserve: norm, energy and symmetry.

**Statement.** Let F(Y) = -i H[Y] with a self-adjoint linear map H. Then |Y| and ⟨Y, H[Y]⟩ are constant along Ẏ = F(Y).
Projector splitting keeps both, and so does augmented BUG in each step before its truncation; with the truncation
tolerance ϑ the drift of the norm after n steps is at most n ϑ²/(|Y₀| + |Y_n|). Fixed-rank BUG projects Y₀ onto its new
bases, and loses norm at first order. If F(Yᴴ) = F(Y)ᴴ, a Hermitian start stays so under the integrators of the BUG
family and under projected Runge-Kutta methods, not under projector splitting of first order; if also F(-Y) = -F(Y), a
skew-Hermitian one does.

**Source.** C. Lubich, I. V. Oseledets, BIT Numer. Math. 54 (2014) 171-188. G. Ceruti, J. Kusch, C. Lubich, A
rank-adaptive robust integrator for dynamical low-rank approximation, BIT Numer. Math. 62 (2022) 1149-1174. G. Ceruti,
C. Lubich, BIT Numer. Math. 62 (2022) 23-44, on symmetry.

**Assumptions.** Small equations solved exactly (here with tolerance 1e-10, hence the tolerances of the identities).

**Constants.** Derived: a truncation drops singular values of norm δ ≤ ϑ and is orthogonal to what stays, so that |Y|²
falls by δ² exactly, and | |Y_n| - |Y₀| | ≤ n ϑ²/(|Y₀| + |Y_n|); n ϑ²/(2|Y|) is this to leading order only, too small by
the factor 2|Y₀|/(|Y₀| + |Y_n|) where the norm falls. The energy moves by at most ‖H‖ (|Y| + |Ŷ|) ϑ a step. For H[Y] =
DY + YD + VYV with D between 0 and 2 and V between 0 and 2, ‖H‖ ≤ 8.

**Use.** For wave and Schrödinger equations take augmented BUG with a small tolerance, midpoint BUG, or projector
splitting; declare symmetry with `factored(F, symmetric=True)`, which saves half of the work and is exact to the last
bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectedRungeKutta,
    ProjectorSplitting,
    RungeKuttaBUG,
    SecondOrderParallelBUG,
    factored,
    problems,
)
from validation.checks import Finding, Identity, Inequality, Slope, check
from validation.flows import norm, relative
from validation.manufactured import normal, random_orthonormal
from validation.properties import final, label, tight

SUBSTEP = 1e-9
"""What substeps of tolerance 1e-10 may add up to."""


@lru_cache(maxsize=2)
def schroedinger(n: int) -> Any:
    """The discrete Schrödinger equation."""
    return problems.schroedinger(n=n)


def invariants(n: int, Y: LowRank) -> tuple[float, float]:
    """Norm and energy."""
    observables = schroedinger(n).observables
    return float(observables["norm"](0.0, Y)), float(observables["energy"](0.0, Y))


@check("x-conserve-augmented", "Augmented BUG keeps norm and energy up to ϑ", expect="holds")
def augmented(quick: bool) -> Iterator[Finding]:
    """Schrödinger equation, 32 x 32, rank 4, midpoint BUG too: single steps of h = 0.05 and 0.2 without truncation;
    then ten steps with ϑ = 0.1 to 1e-4: drifts against n ϑ²/(|Y₀| + |Y_n|) and 8 n (|Y| + |Ŷ|) ϑ."""
    n = 32
    F, Y0 = schroedinger(n).F, schroedinger(n).Y0(4)
    before = invariants(n, Y0)
    for method in (AugmentedBUG(), MidpointBUG()):
        kept = type(method)(substep="adaptive", max_rank=n)
        for h in (0.05, 0.2):
            after = invariants(n, dlra.step(F, 0.0, h, Y0, kept))
            for name, a, b in zip(("norm", "energy"), after, before, strict=True):
                yield Identity(f"{name}, one step, {label(method)}, h = {h:g}", abs(a / b - 1), SUBSTEP)
        whole = dlra.step(F, 0.0, 0.2, Y0, kept)
        cut = dlra.step(F, 0.0, 0.2, Y0, type(method)(substep="adaptive", atol=1e-3))
        dropped = invariants(n, whole)[0] ** 2 - invariants(n, cut)[0] ** 2
        off = abs(dropped - norm(whole.to_dense() - cut.to_dense()) ** 2)
        yield Identity(f"|Y|² falls by δ², {label(method)}", off)
        for theta in (1e-3,) if quick else (1e-1, 1e-2, 1e-3, 1e-4):
            Y = final(F, Y0, type(method)(substep="adaptive", atol=theta), 0.02, 0.2)
            size, energy = invariants(n, Y)
            where = f"{label(method)}, ϑ = {theta:g}"
            yield Inequality(
                f"norm, {where}",
                abs(size - before[0]),
                10 * theta**2 / (before[0] + size),
                trivial=before[0],
                rounding=SUBSTEP,
            )
            yield Inequality(
                f"energy, {where}",
                abs(energy - before[1]),
                160 * before[0] * theta,
                trivial=8.0,
                rounding=SUBSTEP,
            )


@check("x-conserve-splitting", "Projector splitting keeps norm and energy", expect="holds")
def splitting(quick: bool) -> Iterator[Finding]:
    """The same, orders 1 and 2 (and 4 in full), ten steps of h = 0.02 and of 0.1."""
    n = 32
    F, Y0 = schroedinger(n).F, schroedinger(n).Y0(4)
    before = invariants(n, Y0)
    for order in (1, 2) if quick else (1, 2, 4):
        for h in (0.02,) if quick else (0.02, 0.1):
            after = invariants(n, final(F, Y0, tight(ProjectorSplitting(order)), h, 10 * h))
            for name, a, b in zip(("norm", "energy"), after, before, strict=True):
                yield Identity(f"{name}, order {order}, h = {h:g}", abs(a / b - 1), 10 * SUBSTEP)


@check("x-conserve-bug", "Fixed-rank BUG loses norm at first order in h", expect="holds")
def fixed_rank(quick: bool) -> Iterator[Finding]:
    """The same from t = 0 to 0.4: what is lost of the norm, with h = 0.04, 0.02, 0.01 (0.005)."""
    n = 32
    F, Y0 = schroedinger(n).F, schroedinger(n).Y0(4)
    hs = (0.04, 0.02, 0.01) if quick else (0.04, 0.02, 0.01, 0.005)
    lost = [1 - invariants(n, final(F, Y0, tight(BUG()), h, 0.4))[0] / invariants(n, Y0)[0] for h in hs]
    yield Slope.of("norm lost", hs, lost, 1.0, y_name="norm lost")


SYMMETRIC: tuple[Any, ...] = (
    BUG(), AugmentedBUG(), ParallelBUG(), MidpointBUG(), SecondOrderParallelBUG(), RungeKuttaBUG(),
    ProjectedRungeKutta(),
)  # fmt: skip


@check("x-conserve-symmetry", "BUG and projected methods keep (skew-)Hermitian states", expect="holds")
def symmetry(quick: bool) -> Iterator[Finding]:
    """F(Y) = AY + YAᴴ + Y∘|Y|²/10, 16 x 16, rank 3, real and complex, Hermitian and skew-Hermitian, ten steps of h =
    0.05: |Y - (±Y)ᴴ|; two different arrays U and V, so that both sides are computed."""
    signs = (1, -1)
    for dtype in ("complex128", "float64"):
        rng = np.random.default_rng(3)
        A = normal(rng, (16, 16), dtype) / 4
        U, core = random_orthonormal(rng, 16, 4, dtype), normal(rng, (4, 4), dtype) / 3

        def F(t: float, Y: np.ndarray, A: np.ndarray = A) -> np.ndarray:
            return A @ Y + Y @ A.conj().T + 0.1 * Y * abs(Y) ** 2

        for sign in signs[:1] if quick else signs:
            Y0 = LowRank(U, core + sign * core.conj().T, U.copy())
            for method in SYMMETRIC:
                Z = final(F, Y0, method, 0.05, 0.25 if quick else 0.5).to_dense()
                asymmetry = norm(Z - sign * Z.conj().T) / norm(Z)
                kind = "Hermitian" if sign == 1 else "skew-Hermitian"
                yield Identity(f"{label(method)}, {kind}, {dtype}", asymmetry, 1e-12)


@check("x-conserve-declared", "A declared symmetry is kept to the last bit", expect="holds")
def declared(quick: bool) -> Iterator[Finding]:
    """F(Y) = AY + YAᴴ + CCᴴ - Y²/10 declared symmetric: V is the very same array as U, S is Hermitian to the last bit,
    and the result is that of both sides computed."""
    for dtype in ("complex128", "float64"):
        rng = np.random.default_rng(4)
        A, C = normal(rng, (16, 16), dtype) / 5, normal(rng, (16, 3), dtype) / 5
        U = random_orthonormal(rng, 16, 4, dtype)
        Y0, source = LowRank(U, np.diag([1.0, 0.5, -0.25, 0.1]).astype(dtype), U), LowRank(C, None, C)

        def F(Y: Any, A: np.ndarray = A, source: LowRank = source) -> Any:
            return A @ Y + Y @ A.conj().T + source - (Y @ Y) * 0.1

        for method in SYMMETRIC[:4] if quick else SYMMETRIC:
            where = f"{label(method)}, {dtype}"
            Y1 = final(factored(F, symmetric=True), Y0, method, 0.05, 0.25)
            both = final(factored(F), Y0, method, 0.05, 0.25)
            yield Identity(
                f"as computed on both sides, {where}", relative(Y1.to_dense(), both.to_dense()), 1e-11
            )
            same = Y1.V is Y1.U and np.array_equal(Y1.S, Y1.S.conj().T)
            yield Identity(f"V is U, S Hermitian, {where}", 0.0 if same else 1.0)
