"""The Runge-Kutta basis-update & Galerkin integrators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

from dlra.backend import Array, H, hermitian_part, norm
from dlra.integrators._base import Members, advanced, augmented, normal_component
from dlra.integrators._equations import cores_of, one_sided
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._runge_kutta import ExplicitRungeKutta, Weights, checked, stage
from dlra.lowrank import LowRank


@dataclass(frozen=True, repr=False)
class RungeKuttaBUG(ExplicitRungeKutta):
    """The Runge-Kutta BUG integrators: at each stage, bases augmented by the slopes so far and a Galerkin sum.

    With the tableau (a, b, c) and R the truncated singular value decomposition, from Y₁ = Y₀ = U₀ S₀ V₀ᴴ and
    Û₁ = U₀, V̂₁ = V₀:

    1. Fⱼ = F(t₀ + cⱼh, Yⱼ), Ûⱼ₊₁ = orth [Ûⱼ, Fⱼ Vⱼ], V̂ⱼ₊₁ = orth [V̂ⱼ, Fⱼᴴ Uⱼ].
    2. Yᵢ = R(Ûᵢ Ûᵢᴴ (Y₀ + h Σⱼ aᵢⱼ Fⱼ) V̂ᵢ V̂ᵢᴴ) for the stages i = 2, ..., s.
    3. Y(t₁) ≈ the same with Ûₛ₊₁, V̂ₛ₊₁ and the weights bⱼ.

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
    The order of the tableau, up to 4, where the solution has rank r ("dopri5" shows order 4: the bases differ from
    stage to stage), down to a plateau set by the truncation; with a normal component ε of F, the distance to the
    projected flow Ẏ = P(Y) F is O(ε h). Robust to small singular values; no equation is solved backward. One
    evaluation of F a stage, known by its products only. The bases have at most (s + 1) r columns: Uⱼ lies in span Ûⱼ
    already. They contain the directions of every P(Yⱼ) Fⱼ, whatever its weight. Keeps symmetry; local errors are
    estimated where the tableau embeds a second scheme. Explicit, hence useless for stiff fields. With
    ``tableau="euler"`` the step is that of :class:`AugmentedBUG` with Euler substeps.

    References
    ----------
    F. Nobile, S. Riffaud, Robust high-order low-rank BUG integrators based on explicit Runge-Kutta methods (2025),
    arXiv:2502.07040.
    """

    name: ClassVar[str] = "runge-kutta-bug"
    takes_stacks: ClassVar[bool] = True

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        scheme, Y_hat, Fs = self.scheme, Ys, []
        for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
            Y_i = Ys
            if any(row):
                Y_i, _ = self.truncated(Ys, Y_hat, _advanced(Y_hat, _galerkin(h, row, Y_hat, Fs)))
            (F_i,) = yield [Ask(stage(i), t + c * h, Y_i)]
            Fs.append(F_i)
            Y_hat = augmented(Y_hat, *_directions(t + c * h, i, Y_i, F_i))
        Y1, discarded = self.truncated(Ys, Y_hat, _advanced(Y_hat, _galerkin(h, scheme.b, Y_hat, Fs)))
        normal = normal_component(Ys, [_projected(Y, F) for Y, F in zip(Y_hat, Fs[0], strict=True)])
        error = math.nan
        if scheme.error is not None:
            error = math.hypot(*map(norm, _galerkin(h, scheme.error, Y_hat, Fs)))
        return StepResult(Y1, discarded, normal, error)


def _directions(t: float, i: int, Ys: Members, Fs: Members) -> tuple[list[Array], list[Array]]:
    """F V of the LowRank members, and Fᴴ U of those that have two sides."""
    low = [(Y, F) for Y, F in zip(Ys, Fs, strict=True) if isinstance(Y, LowRank)]
    left = [F @ Y._V for Y, F in low]
    right = [F.H @ Y._U for Y, F in low if not one_sided(Y)]
    checked(t, i, *left, *right, *(F for Y, F in zip(Ys, Fs, strict=True) if not isinstance(Y, LowRank)))
    return left, right


def _galerkin(h: float, weights: Weights, Y_hat: Members, Fs: list[Members]) -> list[Array]:
    """The increments h Σ wⱼ Ûᴴ Fⱼ V̂ of all members."""
    increments = []
    for k, Y in enumerate(Y_hat):
        used = [(h * w) * _projected(Y, F[k]) for w, F in zip(weights, Fs, strict=True) if w != 0.0]
        increments.append(reduce(lambda a, b: a + b, used))
    return increments


def _advanced(Y_hat: Members, increments: list[Array]) -> list[Array]:
    return advanced(cores_of(Y_hat), increments)


def _projected(Y: Any, F: Any) -> Array:
    """Uᴴ F V; F itself for a dense member."""
    if not isinstance(Y, LowRank):
        return F
    core = H(Y._U) @ (F @ Y._V)
    return hermitian_part(core) if one_sided(Y) else core
