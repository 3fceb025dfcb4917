"""Differential Riccati equation of optimal control of a one-dimensional heat equation."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from dlra.backend import Array
from dlra.field import factored
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import place, size
from dlra.problems._problem import Problem, norm, nothing, trace
from dlra.semilinear import SemiLinear

OBSERVATIONS = 9


def riccati(n: int = 200, *, backend: Any = "numpy", dtype: Any = None, device: Any = None) -> Problem:
    """Differential Riccati equation of a heat equation, stiff: X' = A X + X A + C - X², X(0) = 0.

    A is the finite-volume discretisation of u -> ∂ₓ(α ∂ₓu) - u, α(x) = 2 + cos 2πx, on the interior points x_i =
    i/(n+1), i = 1, ..., n, of (0, 1) with zero boundary values: (n+1)² times the differences of fluxes with α at the
    midpoints, minus the identity. C = cᵀc has rank 9; the rows of c are the functions 1, √2 cos 2πkx and √2 sin 2πkx,
    k = 1, ..., 4, at the points. t from 0 to 0.1.

    X(t) is the value function of the linear-quadratic regulator for x' = A x + u, y = c x with unit weights: symmetric
    and positive semidefinite, growing monotonically from 0 to the stabilising solution of A X + X A + C = X². As in
    the literature c carries no quadrature weight, so that ‖C‖ grows like n and the quadratic term is the stronger
    the finer the grid. The slowest rates are about 20 on each side, the fastest 12 (n+1)²: the linear part is
    declared stiff (:class:`~dlra.SemiLinear`), the rest C - X² has rank 9 + r on factors.

    Start with rank 20 or more even where a tolerance governs the rank: X(0) = 0 and the source have rank 9, and a
    step at most doubles the rank.

    Parameters
    ----------
    n : int
        Grid points, at least 10.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. A is sparse on NumPy and
        CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)``, t >= 0, is exact up to rounding: the difference to the stabilising solution X∞ obeys a
        Riccati equation without source, E' = (A - X∞) E + E (A - X∞) - E², whose inverse is linear; A - X∞ is
        symmetric, and X∞ comes from Newton's method. Observables: ``norm`` and ``trace``.

    References
    ----------
    A. Ostermann, C. Piazzola, H. Walach, Convergence of a low-rank Lie-Trotter splitting for stiff matrix
    differential equations, SIAM J. Numer. Anal. 57 (2019) 1947-1966, https://arxiv.org/abs/1803.10473. The example
    goes back to H. Mena, A. Ostermann, L.-M. Pfurtscheller, C. Piazzola, https://arxiv.org/abs/1705.10175.
    """
    n = size(n, "n", 10)
    where = place("riccati", backend, dtype, device)
    x = np.arange(1, n + 1) / (n + 1)
    diagonal, off = _diffusion(n)
    A = where.matrix(_tridiagonal(diagonal, off))

    k = np.arange(1, OBSERVATIONS // 2 + 1)
    waves = np.sqrt(2) * np.concatenate(
        (np.cos(2 * np.pi * x[:, None] * k), np.sin(2 * np.pi * x[:, None] * k)), 1
    )
    c_host = np.concatenate((np.ones((n, 1)), waves), axis=1)  # cᵀ, n x 9
    c = where.array(c_host)
    source = LowRank(c, None, c)

    def rest(t: float, X: Any) -> Any:
        return source - X @ X if isinstance(X, LowRank) else c @ c.T - X @ X

    def dense(t: float, X: Array) -> Array:
        return matmul(A, X) + X @ A + rest(t, X)

    @functools.cache
    def stationary() -> _Stationary:
        from scipy.linalg import eigh_tridiagonal

        rates, Q = eigh_tridiagonal(diagonal, off)
        return _Stationary(rates, Q, Q.T @ c_host)

    def solution(t: float) -> np.ndarray:
        if t < 0:
            raise ValueError(f"the reference of riccati starts at t = 0, got t = {t}")
        return stationary().transient(t)

    return Problem(
        name="riccati",
        description="Differential Riccati equation of a heat equation (stiff), X' = A X + X A + C - X^2",
        F=SemiLinear(A, A, factored(rest, symmetric=True), symmetric=True),
        dense=dense,
        t_span=(0.0, 0.1),
        shape=(n, n),
        observables={"norm": norm, "trace": trace},
        defaults={"rank": min(20, n), "dt": 0.001, "method": "augmented-bug"},
        x=x,
        y=x,
        labels=("x", "x"),
        quantity="X",
        symmetric=True,
        place=where,
        initial=nothing(n),
        slope=lambda: LowRank(c_host, None, c_host),
        solution=solution,
    )


def _diffusion(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal and off-diagonal of A."""
    edges = (np.arange(n + 1) + 0.5) / (n + 1)
    flux = (n + 1) ** 2 * (2 + np.cos(2 * np.pi * edges))
    return -(flux[:-1] + flux[1:]) - 1, flux[1:-1]


def _tridiagonal(diagonal: np.ndarray, off: np.ndarray) -> Any:
    from scipy import sparse

    return sparse.diags_array([off, diagonal, off], offsets=[-1, 0, 1], format="csr")  # pyright: ignore[reportArgumentType]


class _Stationary:
    """The stabilising solution X∞ of A X + X A + C = X², and from it the solution that starts at 0.

    A = Q diag(rates) Qᵀ, C = Q G Gᵀ Qᵀ. Completing the square, X∞ = A + (A² + C)^{1/2}; that loses digits like
    eps ‖A‖/‖X∞‖, which two steps of Newton's method bring back.
    """

    def __init__(self, rates: np.ndarray, Q: np.ndarray, G: np.ndarray):
        C = G @ G.T
        squares, W = np.linalg.eigh(np.diag(rates**2) + C)
        X = np.diag(rates) + (W * np.sqrt(squares)) @ W.T
        for _ in range(2):
            residual = rates[:, None] * X + X * rates + C - X @ X
            decay, W = self._closed_loop(rates, X)
            X = X + W @ ((W.T @ residual @ W) / (decay[:, None] + decay)) @ W.T
            X = 0.5 * (X + X.T)
        self._decay, W = self._closed_loop(rates, X)
        self._W = Q @ W
        self._X = W.T @ X @ W

    @staticmethod
    def _closed_loop(rates: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of X - A."""
        return np.linalg.eigh(X - np.diag(rates))

    def transient(self, t: float) -> np.ndarray:
        """X(t) = X∞ - e^{-tB} X∞ (I - w X∞)⁻¹ e^{-tB}, B = X∞ - A, w = ∫ e^{-2sB} ds, written without cancellation."""
        B, X = self._decay, self._X
        m, w = np.expm1(-B * t), -np.expm1(-2 * B * t) / (2 * B)
        wX = w[:, None] * X
        grown = X @ np.linalg.solve(np.eye(len(B)) - wX, wX)  # X∞ (I - w X∞)⁻¹ - X∞
        mi, mj = m[:, None], m
        E = (mi + mj + mi * mj) * X + (1 + mi) * (1 + mj) * grown
        E = -self._W @ E @ self._W.T
        return 0.5 * (E + E.T)
