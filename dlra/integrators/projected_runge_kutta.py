"""Projected Runge-Kutta methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.backend import H
from dlra.integrators._base import Members
from dlra.integrators._equations import one_sided
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._runge_kutta import ExplicitRungeKutta, checked, stage, tangent_vector
from dlra.lowrank import LowRank


@dataclass(frozen=True, repr=False)
class ProjectedRungeKutta(ExplicitRungeKutta):
    """The projected Runge-Kutta methods: an explicit scheme for the projected flow Ẏ = P(Y) F(t, Y).

    With the tableau (a, b, c), P(Y) the orthogonal projection onto the tangent space at Y, and R the truncated
    singular value decomposition:

    1. Zⱼ = P(Yⱼ) F(t₀ + cⱼh, Yⱼ), Yᵢ = R(Y₀ + h Σⱼ aᵢⱼ Zⱼ) for the stages i = 1, ..., s (Y₁ = Y₀).
    2. Y(t₁) ≈ R(Y₀ + h Σⱼ bⱼ Zⱼ).

    Parameters
    ----------
    tableau : str or Tableau
        "rk4", "heun3", "heun2", "euler", "bs3", "dopri5", or a :class:`dlra.substeps.Tableau`.
    rtol, atol : float, or one per member of a system
        Truncation tolerance max(atol, rtol ‖Y‖_F) of every R. Not a tolerance of the time step.
    min_rank, max_rank : int, or one per member
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given, in the stages too.

    Notes
    -----
    The order of the tableau, for the projected flow also with a large normal component of F. Needs F(t, Y) V and
    F(t, Y)ᴴ U only, one evaluation a stage; sums stay factored, of rank at most (2s + 1) r. Keeps symmetry; local
    errors are estimated where the tableau embeds a second scheme.

    **Where Y₀ has a smaller rank than r** (zero singular values), the tangent space misses directions and the order
    falls to 1: take a first small step with :class:`AugmentedBUG`, or use :class:`RungeKuttaBUG`. Explicit, hence
    useless for stiff fields. With ``tableau="euler"`` the step is Y₁ = R(Y₀ + h P(Y₀) F(Y₀)), as that of
    :class:`ParallelBUG` with Euler substeps.

    References
    ----------
    E. Kieri, B. Vandereycken, Projection methods for dynamical low-rank approximation of high-dimensional problems,
    Comput. Methods Appl. Math. 19 (2019) 73-92.
    """

    name: ClassVar[str] = "projected-runge-kutta"
    tangent: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        scheme, Zs = self.scheme, []
        for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
            Y_i = self.retracted(Ys, h, row, Zs)[0] if any(row) else Ys
            (F_i,) = yield [Ask(stage(i), t + c * h, Y_i)]
            Zs.append(tuple(_projected(t + c * h, i, Y, F) for Y, F in zip(Y_i, F_i, strict=True)))
        Y1, discarded, error = self.retracted(Ys, h, scheme.b, Zs, scheme.error)
        return StepResult(Y1, discarded, error=error)


def _projected(t: float, i: int, Y: Any, F: Any) -> Any:
    """P(Y) F; F itself for a dense member."""
    if not isinstance(Y, LowRank):
        checked(t, i, F)
        return F
    FV = F @ Y._V
    FhU = FV if one_sided(Y) else F.H @ Y._U
    checked(t, i, FV, FhU)
    return tangent_vector(Y, FV, FhU, H(Y._U) @ FV)
