"""The second-order parallel BUG integrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.backend import Array, H
from dlra.integrators._base import (
    Members,
    RankAdaptive,
    WithSubstep,
    advanced,
    augmented,
    normal_component,
    parallel_cores,
)
from dlra.integrators._equations import k_equation, l_equation, low_members, one_sided, s_equation
from dlra.integrators._protocol import Ask, StepResult, Steps, together
from dlra.linalg import orthonormalize


@dataclass(frozen=True, repr=False)
class SecondOrderParallelBUG(RankAdaptive, WithSubstep):
    """The second-order robust parallel basis-update & Galerkin integrator.

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r, with F₀ = F(t₀, Y₀):

    1. Û₀ = orth [U₀, F₀V₀], V̂₀ = orth [V₀, F₀ᴴU₀], Ŝ₀ = [[S₀, 0], [0, 0]], of at most 2r columns.
    2. Concurrently the K-step: K' = F(t, K V̂₀ᴴ) V̂₀ from Û₀Ŝ₀, the L-step: L' = F(t, Û₀ Lᴴ)ᴴ Û₀ from V̂₀Ŝ₀ᴴ, and the
       S-step: S' = Û₀ᴴ F(t, Û₀ S V̂₀ᴴ) V̂₀ from Ŝ₀.
    3. Û = [Û₀, Ũ] = orth [Û₀, K(t₁)], V̂ = [V̂₀, Ṽ] = orth [V̂₀, L(t₁)] with at most 4r columns; ``bases="3r"`` takes
       K(t₁) V̂₀ᴴV* and L(t₁) Û₀ᴴU* instead, of r columns each, with V* = orth (V₀S₀ᴴ + h/2 F₀ᴴU₀) and U* = orth
       (U₀S₀ + h/2 F₀V₀). Ŝ = [[S(t₁), L(t₁)ᴴ Ṽ], [Ũᴴ K(t₁), 0]].
    4. Truncate the SVD of Ŝ to the tolerance (to rank r where there is none).

    Parameters
    ----------
    bases : {"4r", "3r"}
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
    = O(h³). Keeps (skew-)symmetry, and the norm of conservative problems up to theta + O(h⁴); solves no equation
    backward. Not exact for F = A'(t). On stiff parabolic problems with large steps it is far less accurate than
    :class:`AugmentedBUG` or :class:`MidpointBUG`: the zero block of Ŝ.

    References
    ----------
    J. Kusch, Second-order robust parallel integrators for dynamical low-rank approximation, BIT Numer. Math. 65 (2025),
    arXiv:2403.02834.
    """

    name: ClassVar[str] = "second-order-parallel-bug"
    order: ClassVar[int] = 2
    keeps_symmetry: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    bases: str = "4r"

    def __post_init__(self) -> None:
        if self.bases not in ("3r", "4r"):
            raise ValueError(f'bases of SecondOrderParallelBUG must be "4r" or "3r", got {self.bases!r}')
        super().__post_init__()

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        (F0,) = yield [Ask("start", t, Ys)]
        k0, l0 = k_equation(Ys, field, F0), l_equation(Ys, field, F0)
        FV, FU = k0.first(t) or [], l0.first(t) or []
        Y0_hat = augmented(Ys, FV, FU)

        s = s_equation(Y0_hat, field, F0)
        dK, dL, dS = yield from together(
            self._substep(t, h, k_equation(Y0_hat, field, F0)),
            self._substep(t, h, l_equation(Y0_hat, field, F0)),
            self._substep(t, h, s),
        )
        new_K, new_L = dK, dL
        if self.bases == "3r":
            low = low_members(Ys)
            V_star = advanced(l0.X, [h / 2 * G for G in FU])
            U_star = advanced(k0.X, [h / 2 * G for G in FV])
            two_sided = [i for i in low if not one_sided(Ys[i])]
            of_V = dict(zip(low, U_star, strict=True)) | dict(zip(two_sided, V_star, strict=True))
            new_K = [_seen(dK_i, Y0_hat[i]._V, of_V[i]) for i, dK_i in zip(low, dK, strict=True)]
            of_U = dict(zip(low, U_star, strict=True))
            new_L = [_seen(dL_i, Y0_hat[i]._U, of_U[i]) for i, dL_i in zip(two_sided, dL, strict=True)]
        Y_hat = augmented(Y0_hat, new_K, new_L)
        cores = parallel_cores(Y0_hat, Y_hat, advanced(s.X, dS), dK, dL)
        Y1, discarded = self.truncated(Ys, Y_hat, cores)
        return StepResult(Y1, discarded, normal_component(Ys, s.first(t, rest=bool(field.linear))))


def _seen(dK: Array, basis: Array, star: Array) -> Array:
    """The increment of K(t₁) V̂₀ᴴ V* with V* = orth(star)."""
    return dK @ (H(basis) @ orthonormalize(star))
