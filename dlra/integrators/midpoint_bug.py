"""The midpoint BUG integrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlra import linalg
from dlra.integrators._base import (
    Members,
    RankAdaptive,
    WithSubstep,
    advanced,
    augmented,
    normal_component,
    truncated_to,
    with_cores,
)
from dlra.integrators._equations import k_equation, l_equation, one_sided, s_equation
from dlra.integrators._protocol import Ask, StepResult, Steps, together
from dlra.lowrank import BOTH, LowRank


@dataclass(frozen=True, repr=False)
class MidpointBUG(RankAdaptive, WithSubstep):
    """The midpoint basis-update & Galerkin integrator, of second order.

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r:

    1. A step of the augmented BUG integrator over h/2 to Y_m = U_m S_m V_mᴴ, without truncation and of rank 2r
       (``bases="4r"``), or truncated to rank r (``"3r"``).
    2. F_m = F(t₀ + h/2, Y_m); Ū = orth [U₀, U_m, h F_m V_m], V̄ = orth [V₀, V_m, h F_mᴴ U_m], of at most 4r (3r)
       columns.
    3. One Galerkin step over the whole interval: S' = Ūᴴ F(t, Ū S V̄ᴴ) V̄ from Ūᴴ Y₀ V̄ = [[S₀, 0], [0, 0]].
    4. Truncate the SVD of S(t₁) to the tolerance (to rank r where there is none).

    Parameters
    ----------
    bases : {"3r", "4r"}
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
    Order 2 where the normal component ε of F is small, of order h ε else; robust to small singular values; take theta
    = O(h³). Y₀ lies in the bases of the Galerkin step, hence norm and energy of conservative problems are kept up to
    theta. Keeps (skew-)symmetry; solves no equation backward. Not exact for F = A'(t).

    With 4r some columns of the bases are at rounding level: two correct computations may differ by far more than
    roundoff (2e-9 was seen).

    References
    ----------
    G. Ceruti, L. Einkemmer, J. Kusch, C. Lubich, A robust second-order low-rank BUG integrator based on the midpoint
    rule, BIT Numer. Math. 64 (2024) 30, arXiv:2402.08607.
    """

    name: ClassVar[str] = "midpoint-bug"
    order: ClassVar[int] = 2
    keeps_symmetry: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    bases: str = "3r"

    def __post_init__(self) -> None:
        if self.bases not in ("3r", "4r"):
            raise ValueError(f'bases of MidpointBUG must be "3r" or "4r", got {self.bases!r}')
        super().__post_init__()

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        (F0,) = yield [Ask("start", t, Ys)]
        dK, dL = yield from together(
            self._substep(t, h / 2, k_equation(Ys, field, F0)),
            self._substep(t, h / 2, l_equation(Ys, field, F0)),
        )
        Y_hat = augmented(Ys, dK, dL)
        s = s_equation(Y_hat, field, F0)
        dS = yield from self._substep(t, h / 2, s)
        Y_m = with_cores(Y_hat, advanced(s.X, dS))
        if self.bases == "3r":
            Y_m = tuple(truncated_to(Y, Z) for Y, Z in zip(Ys, Y_m, strict=True))

        (F_m,) = yield [Ask("midpoint", t + h / 2, Y_m)]
        Y_bar = tuple(
            _in_bases(Y, Z, G, h) if isinstance(Y, LowRank) else Y
            for Y, Z, G in zip(Ys, Y_m, F_m, strict=True)
        )
        s = s_equation(Y_bar, field, F0)
        dS = yield from self._substep(t, h, s)
        Y1, discarded = self.truncated(Ys, Y_bar, advanced(s.X, dS))
        return StepResult(Y1, discarded, normal_component(Ys, s.first(t, rest=bool(field.linear))))


def _in_bases(Y: LowRank, Y_m: LowRank, F_m: Any, h: float) -> LowRank:
    """Y₀ in the bases [U₀, U_m, h F_m V_m] and [V₀, V_m, h F_mᴴ U_m]."""
    U = linalg.augment(linalg.augment(Y._U, Y_m._U), h * (F_m @ Y_m._V))
    V = U if one_sided(Y) else linalg.augment(linalg.augment(Y._V, Y_m._V), h * (F_m.H @ Y_m._U))
    return LowRank._make(U, linalg.embed(Y.S, U.shape[-1], V.shape[-1]), V, BOTH)
