"""Reference flows on dense matrices, norms and projections, and exact expectations over all minibatches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dlra import LowRank
from validation.manufactured import completed, normal

__all__ = [
    "choice",
    "complement",
    "compressed",
    "growth",
    "norm",
    "normal_part",
    "projected_flow",
    "relative",
    "rk4",
    "tangent",
    "tree",
]

Matrix = np.ndarray


def norm(X: Any) -> float:
    """The Frobenius norm."""
    return float(np.linalg.norm(X))


def relative(A: Any, B: Any) -> float:
    """|A - B| / |B|; |A| where B is zero."""
    return norm(np.subtract(A, B)) / (norm(B) or 1.0)


def growth(L: float, T: float) -> float:
    """(e^{LT} - 1)/L, by which errors of one a unit of time add up under a Lipschitz constant L; T for L = 0."""
    return math.expm1(L * T) / L if L else T


def compressed(U: Matrix, V: Matrix, Z: Matrix) -> Matrix:
    """P_U Z P_V for orthonormal U and V."""
    return U @ (U.conj().T @ Z @ V) @ V.conj().T


def complement(rng: np.random.Generator, U: Matrix, columns: int) -> Matrix:
    """So many random orthonormal columns, orthogonal to those of U."""
    return completed(U, normal(rng, (len(U), columns), U.dtype))[:, U.shape[1] :]


def rk4(F: Callable[[Matrix], Matrix], Y: Matrix, h: float, steps: int) -> Matrix:
    """The flow of Y' = F(Y) over a time h, by the classical Runge-Kutta scheme in so many steps."""
    for _ in range(steps):
        Y = _rk4_step(lambda t, Z: F(Z), 0.0, Y, h / steps)
    return Y


def projected_flow(
    F: Callable[[float, Matrix], Matrix], Y: Matrix, rank: int, t0: float, t1: float, steps: int
) -> Matrix:
    """The flow of Y' = P(Y) F(t, Y), which low-rank integrators approximate, in so many steps of the classical
    Runge-Kutta scheme, each followed by a projection on the matrices of this rank."""

    def nearest(Y: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        U, s, Vh = np.linalg.svd(Y)
        return U[:, :rank], s[:rank], Vh[:rank]

    def slope(t: float, Y: Matrix) -> Matrix:
        U, s, Vh = nearest(Y)
        return _on_tangent_space(U, Vh.conj().T, F(t, (U * s) @ Vh))

    h = (t1 - t0) / steps
    for i in range(steps):
        U, s, Vh = nearest(_rk4_step(slope, t0 + i * h, Y, h))
        Y = (U * s) @ Vh
    return Y


def _rk4_step(F: Callable[[float, Matrix], Matrix], t: float, Y: Matrix, h: float) -> Matrix:
    k1 = F(t, Y)
    k2 = F(t + h / 2, Y + h / 2 * k1)
    k3 = F(t + h / 2, Y + h / 2 * k2)
    k4 = F(t + h, Y + h * k3)
    return Y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def tangent(Y: LowRank, Z: Matrix) -> Matrix:
    """P(Y) Z, the orthogonal projection on the tangent space at Y, equation (3.6)."""
    U, _, V = Y.factors
    return _on_tangent_space(U, V, Z)


def _on_tangent_space(U: Matrix, V: Matrix, Z: Matrix) -> Matrix:
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
