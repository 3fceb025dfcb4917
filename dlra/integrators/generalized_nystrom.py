"""The dynamical generalised Nyström method (DGN)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dlra.backend import Array, H, eps, norm, to_host
from dlra.integrators._base import Members, advanced, normal_component
from dlra.integrators._equations import low_members
from dlra.integrators._protocol import Ask, StepResult, Steps, together
from dlra.integrators._sketch import Randomized, corange_equation, core_equation, generator, range_equation
from dlra.linalg import qr, svd
from dlra.lowrank import BOTH, LowRank


@dataclass(frozen=True, repr=False)
class GeneralizedNystrom(Randomized):
    """The dynamical generalised Nyström method: range and corange of Y(t₁) by sketching, then three equations.

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r, with an oversampling p:

    1. Rangefinder (see :class:`RandomizedSVD`): Q₁ = orth [U₀, ·] of at most 2r + p columns. Independently the same
       for the corange: Q₂ = orth [V₀, ·] of at most 2r + 2p columns.
    2. Independently of each other the B-step: B' = F(t, B Q₂ᴴ) Q₂ from Y₀Q₂; the C-step: C' = F(t, Q₁ Cᴴ)ᴴ Q₁ from
       Y₀ᴴQ₁; the D-step: D' = Q₁ᴴ F(t, Q₁ D Q₂ᴴ) Q₂ from Q₁ᴴY₀Q₂.
    3. Y₁ = B D⁺ Cᴴ at t₁ with the pseudo-inverse of rank r (of full numerical rank where the rank may change), its
       singular value decomposition truncated to the tolerance (to rank r where there is none).

    Parameters
    ----------
    oversampling : int
        p.
    power : int
        Number of power iterations of the rangefinders.
    failure_probability : float
        With a tolerance, the rangefinders enlarge their bases until ⌈-log₁₀ ``failure_probability``⌉ Gaussian probes
        see no more than that outside of them.
    rtol, atol : float, or one per member of a system
        Truncation tolerance max(atol, rtol ‖Y‖_F). Not a tolerance of the time step.
    min_rank, max_rank : int, or one per member
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given.
    substep : str or object
        Stepper of the small equations: "auto", "euler", "heun", "rk4", "adaptive", "exponential",
        "exponential-euler", "implicit".

    Notes
    -----
    Made for few long steps, h = T even, with an accurate substep ("exponential", "adaptive"). Order 1 (higher where
    the solution has rank r), robust to small singular values, no equation solved backward. B and C reach beyond the
    bases Q₁ and Q₂, so that sketches that miss something cost less than in :class:`RandomizedSVD`; the price is
    5 + 4 ``power`` small equations a step, of which many are independent. Does not keep symmetry.

    Results depend on random numbers: ``rng=`` of :func:`dlra.solve` seeds them.

    The paper begins with Gaussian sketches alone and augments by U₀ and V₀ at the end; here every basis is
    augmented.

    References
    ----------
    B. Carrel, Randomized methods for dynamical low-rank approximation (2024), arXiv:2410.17091.
    """

    name: ClassVar[str] = "generalized-nystrom"
    order: ClassVar[int] = 1

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        (F0,) = yield [Ask("start", t, Ys)]
        p, rng = self.oversampling, generator(field)
        Q1s, Q2s = yield from together(
            self._range(t, h, Ys, field, F0, rng, left=True, extra=p),
            self._range(t, h, Ys, field, F0, rng, left=False, extra=2 * p),
        )
        b = range_equation(Ys, Q2s, field, F0, dense=True)
        c = corange_equation(Ys, Q1s, field, F0, dense=True)
        d = core_equation(Ys, Q1s, Q2s, field, F0)
        dB, dC, dD = yield from together(*(self._substep(t, h, equation) for equation in (b, c, d)))
        B, C, D = advanced(b.X, dB), advanced(c.X, dC), advanced(d.X, dD)
        Y_hat, cores, options, tails = list(Ys), D, self._options(len(Ys)), []
        for k, i in enumerate(low_members(Ys)):
            rtol, atol, _, rank = options[i]
            rank = Ys[i].rank if rtol == atol == 0 and rank is None else rank
            Y_hat[i], cores[i], dropped = _nystrom(B[k], C[k], D[i], rank)
            tails.append(dropped)
        Y1, discarded = self.truncated(Ys, tuple(Y_hat), cores)
        return StepResult(
            Y1, math.hypot(discarded, *tails), normal_component(Ys, d.first(t, rest=bool(field.linear)))
        )


def _nystrom(B: Array, C: Array, D: Array, rank: int | None) -> tuple[LowRank, Array, float]:
    """B D⁺ Cᴴ as orthonormal bases (a LowRank of which only they count) and a core, with the norm of what is dropped
    of D, so that D⁺ is at most of rank ``rank``."""
    (U, R), (V, T), (P, s, Qh) = qr(B), qr(C), svd(D)
    sigma = to_host(s)
    k = int(np.count_nonzero(sigma[:rank] > 10 * eps(D) * sigma[0]))
    core = (R @ H(Qh[:k, :])) @ (H(T @ P[:, :k]) / s[:k, None])
    return LowRank._make(U, None, V, BOTH), core, norm(sigma[k:])
