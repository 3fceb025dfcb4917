"""Reference flows on dense matrices, projections, and exact expectations over all minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dlra import LowRank

__all__ = ["choice", "normal_part", "rk4", "tangent", "tree"]

Matrix = np.ndarray


def rk4(F: Callable[[Matrix], Matrix], Y: Matrix, h: float, steps: int) -> Matrix:
    """The flow of Y' = F(Y) over a time h, by the classical Runge-Kutta scheme in so many steps."""
    s = h / steps
    for _ in range(steps):
        k1 = F(Y)
        k2 = F(Y + s / 2 * k1)
        k3 = F(Y + s / 2 * k2)
        k4 = F(Y + s * k3)
        Y = Y + s / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return Y


def tangent(Y: LowRank, Z: Matrix) -> Matrix:
    """P(Y) Z, the orthogonal projection on the tangent space at Y, equation (3.6)."""
    U, _, V = Y.factors
    left, right = U @ (U.conj().T @ Z), (Z @ V) @ V.conj().T
    return left + right - U @ (U.conj().T @ right)


def normal_part(Y: LowRank, Z: Matrix) -> Matrix:
    """Z - P(Y) Z."""
    return Z - tangent(Y, Z)


def choice(path: tuple[int, ...]) -> int:
    """Which minibatch the last step of a path uses: drawn afresh in every step."""
    return path[-1]


def tree(
    start: Any, depth: int, samples: int, advance: Callable[[Any, int, int], Any]
) -> Iterator[tuple[int, float, Any]]:
    """All states of a random iteration, with their probabilities: minibatches drawn independently, with replacement.

    Parameters
    ----------
    start : state
    depth : int
        Number of steps.
    samples : int
        Number of minibatches, equally probable.
    advance : callable
        ``advance(state, t, i)`` does step t with minibatch i.

    Yields
    ------
    t : int
        From 0.
    probability : float
        samples⁻ᵗ.
    state
    """
    level: list[tuple[tuple[int, ...], Any]] = [((), start)]
    for t in range(depth + 1):
        for _, state in level:
            yield t, float(samples) ** -t, state
        if t < depth:
            level = [
                ((*path, i), advance(state, t, choice((*path, i))))
                for path, state in level
                for i in range(samples)
            ]
