"""The dynamical randomised singular value decomposition (DRSVD)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.backend import Array, H, norm
from dlra.integrators._base import Members, advanced
from dlra.integrators._equations import low_members
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._sketch import Randomized, corange_equation, generator
from dlra.linalg import qr
from dlra.lowrank import BOTH, LowRank


@dataclass(frozen=True, repr=False)
class RandomizedSVD(Randomized):
    """The dynamical randomised singular value decomposition: the range of Y(t₁) by sketching, then one equation in it.

    One step from Y₀ = U₀ S₀ V₀ᴴ of rank r, with an oversampling p:

    1. Rangefinder. Ω Gaussian of r + p columns, Q₂ = orth [V₀, Ω]; B-step: B' = F(t, B Q₂ᴴ) Q₂ from Y₀Q₂;
       Q = orth [U₀, B(t₁)], of at most 2r + p columns. Then ``power`` times: C-step with Q, Q₂ = orth [V₀, C(t₁)];
       B-step with Q₂, Q = orth [U₀, B(t₁)].
    2. C-step: C' = F(t, Q Cᴴ)ᴴ Q from Y₀ᴴQ.
    3. Y₁ = Q C(t₁)ᴴ, its singular value decomposition truncated to the tolerance (to rank r where there is none).

    Parameters
    ----------
    oversampling : int
        p.
    power : int
        Number of power iterations.
    failure_probability : float
        With a tolerance, the rangefinder enlarges its bases until ⌈-log₁₀ ``failure_probability``⌉ Gaussian probes
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
    Made for few long steps, h = T even, with an accurate substep ("exponential", "adaptive"): then close to the best
    approximation of Y(T) for linear fields. Order 1 against the solution itself, up to what its rank leaves out (higher
    where it has rank r); not against the projected flow Ẏ = P(Y) F. Robust to small singular values, no equation solved
    backward. Costs 2 + 2 ``power`` small equations of width 2r + p a step, against three of :class:`AugmentedBUG`. Does
    not keep symmetry.

    Results depend on random numbers: ``rng=`` of :func:`dlra.solve` seeds them.

    The paper begins with Ω alone and augments by U₀ at the end; here every basis is augmented. Y₀ is then
    compressed without loss, and one evaluation of F serves the first slopes of all equations.

    References
    ----------
    B. Carrel, Randomized methods for dynamical low-rank approximation (2024), arXiv:2410.17091.
    """

    name: ClassVar[str] = "randomized-svd"
    order: ClassVar[int] = 1

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        (F0,) = yield [Ask("start", t, Ys)]
        Qs = yield from self._range(t, h, Ys, field, F0, generator(field), left=True, extra=self.oversampling)
        c = corange_equation(Ys, Qs, field, F0, dense=True)
        dC = yield from self._substep(t, h, c)
        Y_hat, cores = _factorised(Ys, Qs, advanced(c.X, dC))
        Y1, discarded = self.truncated(Ys, Y_hat, cores)
        return StepResult(Y1, discarded, _normal(Ys, c.first(t, rest=bool(field.linear))))


def _factorised(Ys: Members, Qs: list[Array], X: list[Array]) -> tuple[Members, list[Array]]:
    """Q C(t₁)ᴴ as bases and core, with C = V R: Q Rᴴ Vᴴ; the unknowns of dense members are the last ones."""
    Y_hat, cores, dense = list(Ys), list(Ys), [i for i, Y in enumerate(Ys) if not isinstance(Y, LowRank)]
    for i, Q, C in zip(low_members(Ys), Qs, X[: len(Qs)], strict=True):
        V, R = qr(C)
        Y_hat[i], cores[i] = LowRank._make(Q, None, V, BOTH), H(R)
    for i, y in zip(dense, X[len(Qs) :], strict=True):
        cores[i] = y
    return tuple(Y_hat), cores


def _normal(Ys: Members, slopes: list[Array] | None) -> float:
    """‖Ũᴴ F (I - V₀V₀ᴴ)‖ over all members from the slopes Fᴴ [U₀ | Ũ] of the C-equation."""
    if slopes is None:
        return math.nan
    parts = []
    for i, F in zip(low_members(Ys), slopes, strict=False):
        G = F[:, Ys[i].rank :]
        parts.append(norm(G - Ys[i]._V @ (H(Ys[i]._V) @ G)))
    return math.hypot(*parts)
