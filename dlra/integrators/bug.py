"""The fixed-rank basis-update & Galerkin (BUG) integrator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.backend import Array, H, hermitian_part
from dlra.integrators._base import Members, WithSubstep, advanced, known_start, with_cores
from dlra.integrators._equations import k_equation, l_equation, one_sided, s_equation
from dlra.integrators._protocol import StepResult, Steps, together
from dlra.linalg import qr
from dlra.lowrank import BOTH, LowRank


@dataclass(frozen=True, repr=False)
class BUG(WithSubstep):
    """The fixed-rank basis-update & Galerkin integrator ("unconventional" integrator).

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r:

    1. K-step: K' = F(t, K V₀ᴴ) V₀ from U₀S₀; U₁ = orth K(t₁), M = U₁ᴴU₀. Independently the
       L-step: L' = F(t, U₀ Lᴴ)ᴴ U₀ from V₀S₀ᴴ; V₁ = orth L(t₁), N = V₁ᴴV₀.
    2. S-step: S' = U₁ᴴ F(t, U₁ S V₁ᴴ) V₁ from M S₀ Nᴴ.

    Parameters
    ----------
    substep : str or object
        Stepper of the small equations: "auto", "euler", "heun", "rk4", "adaptive", "exponential",
        "exponential-euler", "implicit".

    Notes
    -----
    Order 1, robust to small singular values. Exact for F = A'(t) with rank A(t) = r where M and N are
    invertible; keeps (skew-)symmetry; solves no equation backward. Y₀ is projected onto the new bases, so
    norm and energy drift at first order and gradient flows need not descend: use :class:`AugmentedBUG` where
    that matters.

    References
    ----------
    G. Ceruti, C. Lubich, An unconventional robust integrator for dynamical low-rank approximation, BIT Numer.
    Math. 62 (2022) 23-44, arXiv:2010.02022.
    """

    name: ClassVar[str] = "bug"
    order: ClassVar[int] = 1
    takes_increments: ClassVar[bool] = True
    keeps_symmetry: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        F0 = yield from known_start(t, Ys, field)
        k, l = k_equation(Ys, field, F0), l_equation(Ys, field, F0)
        dK, dL = yield from together(self._substep(t, h, k), self._substep(t, h, l))
        K, L = iter(advanced(k.X, dK)), iter(advanced(l.X, dL))
        Y_hat = tuple(_in_bases(Y, K, L) if isinstance(Y, LowRank) else Y for Y in Ys)
        s = s_equation(Y_hat, field)
        dS = yield from self._substep(t, h, s)
        return StepResult(with_cores(Y_hat, advanced(s.X, dS)))


def _in_bases(Y: LowRank, K: Iterator[Array], L: Iterator[Array]) -> LowRank:
    """U₁ (M S₀ Nᴴ) V₁ᴴ: Y projected onto the ranges of the next K and L (of K alone for a one-sided member)."""
    U1 = qr(next(K))[0]
    M = H(U1) @ Y._U
    if one_sided(Y):
        return LowRank._make(U1, hermitian_part(M @ Y.S @ H(M)), U1, BOTH)
    V1 = qr(next(L))[0]
    N = H(V1) @ Y._V
    return LowRank._make(U1, M @ Y.S @ H(N), V1, BOTH)
