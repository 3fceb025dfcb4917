"""Rules for the length of steps and for the bases they start from.

The step length is controlled by the error per unit of time, so that the errors of all steps add up to the tolerance and
the final error is proportional to it. Two other sources of error are kept below the same allowance: what truncation
drops (its tolerance is tied to the step: the error bounds contain theta/h), and the part of F that is normal to the
tangent space, which no small step reduces; there the bases are widened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlra import linalg
from dlra.backend import Array, H, eps, gaussian, norm
from dlra.integrators import one_sided
from dlra.integrators._base import state_norm
from dlra.lowrank import BOTH, LowRank

__all__ = ["StepControl", "normal_estimate", "wide_enough"]

KAPPA = 0.1
"""Share of the allowance that truncation may take: theta = kappa tol h / |t₁ - t₀|."""

_POWER = 6
"""Steps of the power method that estimates the fastest rate of a field."""

PROBES = 4
"""Random vectors that estimate the norm of the normal component."""


Damping = Callable[[Array], Array]
"""What a side of the stiff linear part makes of a constant source over a step, divided by the length of the step."""


@dataclass(frozen=True)
class StepControl:
    """A controller of proportional-integral type for the error per unit of time.

    Attributes
    ----------
    rtol, atol : float
        The errors of all steps may add up to atol + rtol ‖Y‖.
    span : float
        |t₁ - t₀|.
    order : int
        Order of the error estimate per unit of time: it falls like h^order.
    """

    rtol: float
    atol: float
    span: float
    order: int

    SAFETY = 0.9
    LARGEST, SMALLEST = 5.0, 0.2
    FLOOR = 1e-3
    """A step shorter than this share of the span is allowed as much as one of this length: else an initial layer
    would have to be resolved to a tolerance that vanishes with its length."""

    def allowed(self, h: float, size: float, spent: float = 0.0) -> float:
        """What a step of length h may contribute to the error of a state of norm ``size``.

        ``spent`` is what short steps have had beyond their share of the span; when it reaches 1, as much as all shares
        together, that is over.
        """
        share = abs(h) / self.span
        return (self.atol + self.rtol * size) * (max(share, self.FLOOR) if spent < 1 else share)

    def excess(self, h: float) -> float:
        """What a step of length h has beyond its share of the span."""
        return max(0.0, self.FLOOR - abs(h) / self.span)

    def factor(self, ratio: float, before: float) -> float:
        """By how much the next step is longer, from error/allowance of this step and of the one before.

        K. Gustafsson, M. Lundh, G. Söderlind, A PI stepsize control for the numerical solution of ordinary differential
        equations, BIT 28 (1988) 270-287.
        """
        if not math.isfinite(ratio):
            return self.SMALLEST
        ratio, before = (
            max(ratio, 1e-8),
            max(before, 0.1),
        )  # far below the allowance there is noise, not a trend
        integral, proportional = 0.7 / self.order, 0.4 / self.order
        if ratio > 1:  # a rejected step says all
            integral, proportional = 1.0 / self.order, 0.0
        return min(self.LARGEST, max(self.SMALLEST, self.SAFETY * ratio**-integral * before**proportional))

    def first(self, size: float, slope: float) -> float:
        """Length of a first step: the state may change by a hundredth."""
        if slope > 0 and size > 0:
            return min(0.01 * size / slope, 0.1 * self.span)
        return 1e-3 * self.span


def normal_estimate(
    Y: LowRank, G: Any, seed: tuple[int, ...], columns: int = PROBES, damped: Damping | None = None
) -> tuple[float, Array]:
    """Estimate ‖(I - UUᴴ) G (I - VVᴴ)‖, the part of G normal to the tangent space at Y, with Gaussian vectors.

    ``damped`` is applied to the columns of that part: what a stiff linear part would leave of it.
    Returns the estimate (unbiased in its square) and the image of the vectors, shape (m, columns).
    """
    omega = gaussian(Y._V, columns, seed)
    image = G @ (omega - Y._V @ (H(Y._V) @ omega))
    image = image - Y._U @ (H(Y._U) @ image)
    image = image if damped is None else damped(image)
    return norm(image) / math.sqrt(columns), image


def widened(
    Y: LowRank, G: Any, columns: int, seed: tuple[int, ...], damped: tuple[Damping | None, Damping | None]
) -> LowRank:
    """Y in bases widened by directions of the range and corange of the normal part of G: a randomised range finder.

    N. Halko, P.-G. Martinsson, J. A. Tropp, Finding structure with randomness, SIAM Rev. 53 (2011) 217-288.
    """
    _, image = normal_estimate(Y, G, seed, columns, damped[0])
    U = linalg.augment(Y._U, image)
    if one_sided(Y):
        V = U
    else:
        omega = gaussian(Y._U, columns, (*seed, 1))
        image = G.H @ (omega - Y._U @ (H(Y._U) @ omega))
        image = image - Y._V @ (H(Y._V) @ image)
        V = linalg.augment(Y._V, image if damped[1] is None else damped[1](image))
    return _in_bases(Y, U, V)


def wide_enough(
    Y: LowRank,
    G: Any,
    limit: float,
    largest: int,
    seed: tuple[int, ...],
    damped: tuple[Damping | None, Damping | None] = (None, None),
) -> tuple[LowRank, float]:
    """Y in bases, of at most ``largest`` columns, outside of which G is normal by no more than ``limit``.

    Returns it with the estimated normal component that is left.
    """
    normal, _ = normal_estimate(Y, G, seed, damped=damped[0])
    tries = 0
    while normal > limit and Y.rank < largest:
        tries += 1
        wider = widened(Y, G, min(max(PROBES, Y.rank), largest - Y.rank), (*seed, tries), damped)
        if wider.rank == Y.rank:
            break
        Y = wider
        normal, _ = normal_estimate(Y, G, (*seed, tries, 1), damped=damped[0])
    return Y, normal


def joined(Y: LowRank, Z: LowRank) -> LowRank:
    """Y in bases that also contain those of Z."""
    U = linalg.augment(Y._U, Z._U)
    return _in_bases(Y, U, U if one_sided(Y) else linalg.augment(Y._V, Z._V))


def _in_bases(Y: LowRank, U: Array, V: Array) -> LowRank:
    """Y in bases that begin with its own, made equally wide: integrators start from a square core."""
    p, q = U.shape[1], V.shape[1]
    width = min(p, q)
    left = U[:, :width]
    right = left if V is U else V[:, :width]  # one array for both sides stays one
    return LowRank._make(left, linalg.embed(Y.S, width, width), right, BOTH)


def difference(Ys: tuple[Any, ...], Zs: tuple[Any, ...]) -> float:
    """‖Y - Z‖ over all members."""
    return math.hypot(
        *((Y - Z).norm() if isinstance(Y, LowRank) else norm(Y - Z) for Y, Z in zip(Ys, Zs, strict=True))
    )


def size_estimate(Y: Any, G: Any, columns: int = PROBES) -> float:
    """Estimate ‖G‖, with so many Gaussian vectors for the member of a LowRank Y."""
    if not isinstance(Y, LowRank):
        return norm(G)
    return norm(G @ gaussian(Y._V, columns, (1,))) / math.sqrt(columns)


def fastest_rate(
    evaluate: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    Ys: tuple[Any, ...],
    Gs: tuple[Any, ...],
    size: float | None = None,
) -> float:
    """Estimate the norm of the derivative of F at Y from its value G there, by the power method on differences of F.

    The directions have rank 1: of each difference the part along one singular pair, itself found by the power method.
    ``size`` is the norm that the differences are small beside; that of the state where it is not given.
    """
    size = max(state_norm(Ys) if size is None else size, 1e-300)
    step = max(math.sqrt(eps(Y._U if isinstance(Y, LowRank) else Y)) for Y in Ys) * size
    directions: list[Any] = [
        LowRank._make(gaussian(Y._U, 1, (4,)), None, gaussian(Y._V, 1, (5,)))
        if isinstance(Y, LowRank)
        else Y / max(norm(Y), 1e-300)
        for Y in Ys
    ]
    rate = 0.0
    for _ in range(_POWER):
        length = math.hypot(
            *(norm(X._U) * norm(X._V) if isinstance(X, LowRank) else norm(X) for X in directions)
        )
        if not 0.0 < length < math.inf:
            break
        moved = tuple(Y + (step / length) * X for Y, X in zip(Ys, directions, strict=True))
        changed = []
        for X, K, G in zip(directions, evaluate(moved), Gs, strict=True):
            if isinstance(X, LowRank):
                v = X._V / max(norm(X._V), 1e-300)
                u = K @ v - G @ v
                u = u / max(norm(u), 1e-300)
                X = LowRank._make(u, None, K.H @ u - G.H @ u)
            else:
                X = K - G
            changed.append(X)
        directions = changed
        rate = math.hypot(*(norm(X._V if isinstance(X, LowRank) else X) for X in directions)) / step
    return rate
