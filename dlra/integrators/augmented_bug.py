"""The augmented rank-adaptive BUG integrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.integrators._base import (
    Members,
    RankAdaptive,
    WithSubstep,
    advanced,
    augmented,
    known_start,
    normal_component,
)
from dlra.integrators._equations import k_equation, l_equation, s_equation
from dlra.integrators._protocol import StepResult, Steps, together


@dataclass(frozen=True, repr=False)
class AugmentedBUG(RankAdaptive, WithSubstep):
    """The augmented (rank-adaptive) basis-update & Galerkin integrator.

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r:

    1. K-step: K' = F(t, K V₀ᴴ) V₀ from U₀S₀, and, independently, L-step: L' = F(t, U₀ Lᴴ)ᴴ U₀ from V₀S₀ᴴ;
       Û = orth [U₀, K(t₁)], V̂ = orth [V₀, L(t₁)], of at most 2r columns.
    2. S-step: S' = Ûᴴ F(t, Û S V̂ᴴ) V̂ from Ûᴴ Y₀ V̂ = [[S₀, 0], [0, 0]].
    3. Truncate the SVD of S(t₁) to the tolerance (to rank r where there is none).

    Parameters
    ----------
    rtol, atol : float, or one per member of a system
        Truncation tolerance theta = max(atol, rtol ‖Y‖_F): the norm of what a step may drop. Not a tolerance
        of the time step.
    min_rank, max_rank : int, or one per member
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given.
    substep : str or object
        Stepper of the small equations: "auto", "euler", "heun", "rk4", "adaptive", "exponential",
        "exponential-euler", "implicit".

    Notes
    -----
    Order 1, with an error bound c₁ε + c₂h + c₃ theta/h independent of small singular values (ε: normal
    component of F); take theta = O(h²). Y₀ lies in the augmented bases, hence norm and energy of conservative
    problems are kept up to theta and gradient flows descend up to theta. Exact for F = A'(t) with rank A(t) ≤
    r; keeps (skew-)symmetry; solves no equation backward. One evaluation of F serves the first slopes of all
    three equations: with Euler substeps a step costs one evaluation, and Y₁ = Y₀ + h P_Û F(Y₀) P_V̂ before
    truncation.

    References
    ----------
    G. Ceruti, J. Kusch, C. Lubich, A rank-adaptive robust integrator for dynamical low-rank approximation,
    BIT Numer. Math. 62 (2022) 1149-1174, arXiv:2104.05247.
    """

    name: ClassVar[str] = "augmented-bug"
    order: ClassVar[int] = 1
    takes_increments: ClassVar[bool] = True
    keeps_symmetry: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        F0 = yield from known_start(t, Ys, field)
        dK, dL = yield from together(
            self._substep(t, h, k_equation(Ys, field, F0)),
            self._substep(t, h, l_equation(Ys, field, F0)),
        )
        Y_hat = augmented(Ys, dK, dL)
        s = s_equation(Y_hat, field, F0)
        dS = yield from self._substep(t, h, s)
        Y1, discarded = self.truncated(Ys, Y_hat, advanced(s.X, dS))
        return StepResult(Y1, discarded, normal_component(Ys, s.first(t, rest=bool(field.linear))))
