"""The parallel rank-adaptive BUG integrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dlra.backend import norms, to_host
from dlra.integrators._base import (
    Members,
    RankAdaptive,
    WithSubstep,
    advanced,
    augmented,
    known_start,
    normal_component,
    parallel_cores,
)
from dlra.integrators._equations import cores_of, k_equation, l_equation, s_equation
from dlra.integrators._protocol import StepResult, Steps, together
from dlra.lowrank import LowRank


@dataclass(frozen=True, repr=False)
class ParallelBUG(RankAdaptive, WithSubstep):
    """The parallel rank-adaptive basis-update & Galerkin integrator.

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r:

    1. Concurrently the K-step: K' = F(t, K V₀ᴴ) V₀ from U₀S₀, the L-step: L' = F(t, U₀ Lᴴ)ᴴ U₀ from V₀S₀ᴴ, and the
       S-step: S' = U₀ᴴ F(t, U₀ S V₀ᴴ) V₀ from S₀.
    2. Û = [U₀, Ũ] = orth [U₀, K(t₁)], V̂ = [V₀, Ṽ] = orth [V₀, L(t₁)],
       Ŝ = [[S(t₁), L(t₁)ᴴ Ṽ], [Ũᴴ K(t₁), 0]].
    3. Truncate the SVD of Ŝ to the tolerance theta (to rank r where there is none).
    4. Reject where the new rank is 2r, or h ‖Ũᴴ F(t₀, Y₀) Ṽ‖ > c theta: repeat the step from Y₀ in the bases Û and V̂,
       of rank 2r.

    Parameters
    ----------
    c : float
        Factor of the second rejection criterion; ``math.inf`` switches it off.
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
    Order 1, robust to small singular values; keeps (skew-)symmetry; solves no equation backward, and none of more than
    r columns. Rejection applies only with a tolerance, and as long as 2r ≤ min(m, n, max_rank).

    Not exact for F = A'(t), because of the zero block of Ŝ. For the same reason the fixed-rank method starts badly
    from a matrix that nearly has lower rank. With Euler substeps a step costs one evaluation, and Y₁ = Y₀ + h P(Y₀)
    F(Y₀) before truncation.

    References
    ----------
    G. Ceruti, J. Kusch, C. Lubich, A parallel rank-adaptive integrator for dynamical low-rank approximation, SIAM J.
    Sci. Comput. 46 (2024) B205-B228, arXiv:2304.05660.
    """

    name: ClassVar[str] = "parallel-bug"
    order: ClassVar[int] = 1
    takes_increments: ClassVar[bool] = True
    keeps_symmetry: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    c: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.c, bool) or not isinstance(self.c, (int, float)) or not self.c > 0:
            raise ValueError(f"c of ParallelBUG must be a positive number, got {self.c!r}")
        super().__post_init__()

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        F0 = yield from known_start(t, Ys, field)
        while True:
            dK, dL, dS = yield from together(
                self._substep(t, h, k_equation(Ys, field, F0)),
                self._substep(t, h, l_equation(Ys, field, F0)),
                self._substep(t, h, s_equation(Ys, field, F0)),
            )
            Y_hat = augmented(Ys, dK, dL)
            increments = self._joined(h, Y_hat, parallel_cores(Ys, Y_hat, dS, dK, dL))
            cores = advanced(cores_of(Y_hat), increments)
            slopes = s_equation(Y_hat, field, F0).first(t, rest=bool(field.linear))
            slopes_of = slopes or [None] * len(Ys)
            options = self._options(len(Ys))
            normals = [_normal(*member) for member in zip(Ys, slopes_of, options, strict=True)]
            Y1, discarded, normals, sizes = self.truncated_with(Ys, Y_hat, cores, normals)
            wanting = [
                self._wants_more(h, *member)
                for member in zip(Ys, Y_hat, Y1, slopes_of, normals, sizes, options, strict=True)
            ]
            if not any(wanting):
                return StepResult(Y1, discarded, normal_component(Ys, slopes))
            Ys = tuple(Z if wants else Y for Y, Z, wants in zip(Ys, Y_hat, wanting, strict=True))

    def _wants_more(
        self, h: float, Y: Any, Y_hat: Any, Y1: Any, slope: Any, normal: Any, size: float | None, options: Any
    ) -> bool:
        """Whether a member asks for wider bases, and there is room for them."""
        rtol, atol, _, max_rank = options
        if not isinstance(Y, LowRank) or (rtol == 0 and atol == 0):
            return False
        room = 2 * Y.rank <= min(*Y.shape[-2:], *(() if max_rank is None else (max_rank,)))
        if not room or Y_hat.rank == Y.rank:
            return False
        if Y.ndim == 3:  # the worst member decides
            theta = np.maximum(atol, rtol * to_host(Y1.norm()))
            missed = abs(h) * to_host(norms(slope[..., Y.rank :, Y.rank :])) > self.c * theta
            return Y1.rank == 2 * Y.rank or bool(missed.any())
        theta = max(atol, rtol * (Y1.norm() if size is None else size))
        return Y1.rank == 2 * Y.rank or abs(h) * normal > self.c * theta


def _normal(Y: Any, slope: Any, options: Any) -> Any:
    """The normal component of a member, where the second criterion asks for it."""
    rtol, atol, *_ = options
    if slope is None or (rtol == 0 and atol == 0) or not isinstance(Y, LowRank) or Y.ndim == 3:
        return 0.0
    return normal_component((Y,), [slope])
