"""The projector-splitting (KSL) integrator."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.backend import H
from dlra.errors import DlraWarning
from dlra.integrators._base import Members, WithSubstep, advanced, with_cores
from dlra.integrators._equations import (
    Equation,
    k_equation,
    l_equation,
    low_members,
    replaced,
    s_equation,
)
from dlra.integrators._protocol import StepResult, Steps
from dlra.linalg import qr
from dlra.lowrank import BOTH, LowRank

_GAMMA = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))


@dataclass(frozen=True, repr=False)
class ProjectorSplitting(WithSubstep):
    """The projector-splitting integrator of order 1, 2 or 4.

    The Lie step (KSL) from Y₀ = U₀ S₀ V₀ᴴ, all three flows over the same interval:

    1. K' = F(t, K V₀ᴴ) V₀ from U₀S₀; QR: U₁ Ŝ = K(t₁).
    2. S' = -U₁ᴴ F(t, U₁ S V₀ᴴ) V₀ from Ŝ, to S̃.
    3. L' = F(t, U₁ Lᴴ)ᴴ U₁ from V₀ S̃ᴴ; QR: V₁ S₁ᴴ = L(t₁).

    The Strang step is KSL over h/2 followed by its adjoint LSK over h/2; the step of order 4 is the triple
    jump of Strang steps with weights g, 1 - 2g, g, g = 1/(2 - 2^(1/3)).

    Parameters
    ----------
    order : {2, 1, 4}
    substep : str or object
        Stepper of the small equations: "auto", "euler", "heun", "rk4", "adaptive", "exponential",
        "exponential-euler", "implicit".

    Notes
    -----
    Fixed rank, no truncation. Robust to small singular values: order 1 is proved, order 2 observed; order 4
    is classical only. Exact for F = A'(t) with rank A(t) = r where U(t₁)ᴴU(t₀) and V(t₁)ᴴV(t₀) are
    invertible, and for F = A Y + Y B up to the substep. Keeps norm and energy of the linear Schrödinger
    equation to the accuracy of the substep; does not keep symmetry.

    **The S-step runs backward.** It is ill-posed for dissipative F: on stiff parabolic problems it is
    thousands of times less accurate than :class:`AugmentedBUG`, or unstable. A :class:`~dlra.DlraWarning` is
    given where the field declares a stiff linear part.

    References
    ----------
    C. Lubich, I. V. Oseledets, A projector-splitting integrator for dynamical low-rank approximation, BIT
    Numer. Math. 54 (2014) 171-188, arXiv:1301.1058; E. Kieri, C. Lubich, H. Walach, SIAM J. Numer. Anal. 54
    (2016) 1020-1038; H. Yoshida, Phys. Lett. A 150 (1990) 262-268 (triple jump).
    """

    name: ClassVar[str] = "projector-splitting"
    takes_stacks: ClassVar[bool] = True

    takes_increments: ClassVar[bool] = True

    order: int = 2  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 4) or isinstance(self.order, bool):
            raise ValueError(f"order of ProjectorSplitting must be 1, 2 or 4, got {self.order!r}")
        super().__post_init__()

    def check(self, Ys: Members, field: Any) -> None:
        super().check(Ys, field)
        if field.linear and not field.F.is_skew:
            warnings.warn(
                "ProjectorSplitting solves its S-step backward in time, which is ill-posed for the stiff linear part "
                "that this field declares; AugmentedBUG has no backward step",
                DlraWarning,
                stacklevel=4,
            )

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        if self.order == 1:
            Ys = yield from self._ksl(t, h, Ys, field)
        elif self.order == 2:
            Ys = yield from self._strang(t, h, Ys, field)
        else:
            for weight in (_GAMMA, 1.0 - 2.0 * _GAMMA, _GAMMA):
                Ys = yield from self._strang(t, weight * h, Ys, field)
                t = t + weight * h
        return StepResult(Ys)

    def _strang(self, t: float, h: float, Ys: Members, field: Any) -> Steps[Members]:
        Ys = yield from self._ksl(t, h / 2, Ys, field)
        return (yield from self._lsk(t + h / 2, h / 2, Ys, field))

    def _ksl(self, t: float, h: float, Ys: Members, field: Any) -> Steps[Members]:
        Ys = yield from self._k_step(t, h, Ys, field)
        Ys = yield from self._s_step(t, h, Ys, field)
        return (yield from self._l_step(t, h, Ys, field))

    def _lsk(self, t: float, h: float, Ys: Members, field: Any) -> Steps[Members]:
        Ys = yield from self._l_step(t, h, Ys, field)
        Ys = yield from self._s_step(t, h, Ys, field)
        return (yield from self._k_step(t, h, Ys, field))

    def _k_step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[Members]:
        K = yield from self._advanced(t, h, k_equation(Ys, field))
        low, new = low_members(Ys), []
        for i, K_i in zip(low, K, strict=True):
            U, R = qr(K_i)
            new.append(LowRank._make(U, R, Ys[i]._V, BOTH))
        return replaced(Ys, low, new)

    def _s_step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[Members]:
        S = yield from self._advanced(t, h, s_equation(Ys, field, backward=True))
        return with_cores(Ys, S)

    def _l_step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[Members]:
        L = yield from self._advanced(t, h, l_equation(Ys, field))
        low, new = low_members(Ys), []
        for i, L_i in zip(low, L, strict=True):
            V, R = qr(L_i)
            new.append(LowRank._make(Ys[i]._U, H(R), V, BOTH))
        return replaced(Ys, low, new)

    def _advanced(self, t: float, h: float, equation: Equation) -> Steps[list[Any]]:
        increments = yield from self._substep(t, h, equation)
        return advanced(equation.X, increments)
