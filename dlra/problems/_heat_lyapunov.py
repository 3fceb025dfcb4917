"""Differential Lyapunov equation of the heat equation."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.backend import Array
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import banded, place, size
from dlra.problems._problem import Problem, norm, svd_of, trace
from dlra.semilinear import SemiLinear


def heat_lyapunov(n: int = 256, *, backend: Any = "numpy", dtype: Any = None, device: Any = None) -> Problem:
    """Differential Lyapunov equation of the heat equation, stiff: Y' = A Y + Y A + C Cᵀ.

    A = tridiag(1, -2, 1)/Δx² is the second derivative with zero boundary values, Δx = 2π/(n+1), and the grid is
    x_i = -π + i Δx, i = 0, ..., n - 1. C has the ten columns 10^{-(k-1)/2} e^{-k x²}, k = 1, ..., 10, so scaled
    that ‖C Cᵀ‖_F = 1. Y(0) = Σ b_k s_k s_kᵀ with s_k = sin(k x), k = 1, ..., 20 (those the grid resolves),
    b₁ = 1 and b_k = 5 e^{-(7 + (k-2)/2)}; t from 0 to 0.1. The fastest rate is 4/Δx² on each side, 1.3e4 in all
    for n = 256: explicit substeps need dt < 2e-4 there, the exponential one, which :class:`~dlra.SemiLinear`
    selects, has no such limit.

    The grid is not symmetric about 0, on purpose: on i = 1, ..., n the initial value would consist of odd functions
    and the source of even ones, so that C Cᵀ would be normal to the tangent space at Y(0) and stay invisible to every
    method that follows the projected flow.

    Parameters
    ----------
    n : int
        Grid points in each direction, at least 4.
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
        ``reference(t)`` is exact, through the sine basis in which A is diagonal. Observables: ``norm`` and
        ``trace``.

    References
    ----------
    B. Carrel, B. Vandereycken, Projected exponential methods for stiff dynamical
    low-rank approximation problems, https://arxiv.org/abs/2312.00172.
    """
    n = size(n, "n", 4)
    where = place("heat-lyapunov", backend, dtype, device)
    dx = 2 * np.pi / (n + 1)
    x = -np.pi + dx * np.arange(n)
    A_host = banded({0: -2.0, 1: 1.0, -1: 1.0}, n) / dx**2
    A = where.matrix(A_host)

    k = np.arange(1, 11)
    C_host = 10.0 ** (-(k - 1) / 2) * np.exp(-k * x[:, None] ** 2)
    C_host /= np.sqrt(np.linalg.norm(C_host.T @ C_host))
    C = where.array(C_host)
    source = LowRank(C, None, C)

    modes = np.arange(1, min(20, n // 2) + 1)
    sines = np.sin(modes * x[:, None])
    weights = np.where(modes == 1, 1.0, 5 * np.exp(-(7 + 0.5 * (modes - 2))))

    def initial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        U, s, _ = svd_of(sines, np.diag(weights), sines)  # symmetric and positive: V = U
        return U, s, U

    def slope() -> LowRank:
        AS = A_host @ sines
        core = np.diag(weights)
        return LowRank(AS, core, sines) + LowRank(sines, core, AS) + LowRank(C_host, None, C_host)

    def dense(t: float, Y: Array) -> Array:
        return matmul(A, Y) + Y @ A + C @ C.T

    def solution(t: float) -> np.ndarray:
        j = np.arange(1, n + 1)
        Q = np.sqrt(2 / (n + 1)) * np.sin(np.pi / (n + 1) * np.outer(j, j))
        rates = -4 / dx**2 * np.sin(np.pi / (2 * (n + 1)) * j) ** 2
        total = rates[:, None] + rates
        S, G = Q @ sines, Q @ C_host
        return Q @ (np.exp(total * t) * ((S * weights) @ S.T) + np.expm1(total * t) / total * (G @ G.T)) @ Q

    return Problem(
        name="heat-lyapunov",
        description="Differential Lyapunov equation of the heat equation (stiff), Y' = A Y + Y A + C C^T",
        F=SemiLinear(A, A, source, symmetric=True),
        dense=dense,
        t_span=(0.0, 0.1),
        shape=(n, n),
        observables={"norm": norm, "trace": trace},
        defaults={"rank": min(20, n), "dt": 0.01, "method": "augmented-bug"},
        x=x,
        y=x,
        labels=("x", "y"),
        quantity="Y",
        symmetric=True,
        place=where,
        initial=initial,
        slope=slope,
        solution=solution,
    )
