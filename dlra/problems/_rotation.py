"""A rotating matrix with known low-rank solution."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.field import factored
from dlra.lazy import matmul
from dlra.problems._place import place, size
from dlra.problems._problem import Problem, norm


def rotation(n: int = 60, *, backend: Any = "numpy", dtype: Any = None, device: Any = None) -> Problem:
    """A growing, rotating matrix with prescribed singular values: Y' = W₁ Y + Y + Y W₂ᵀ.

    Its solution is A(t) = e^{tW₁} eᵗ D e^{tW₂ᵀ} with D = diag(2⁻ʲ), j = 1, ..., n, and skew-symmetric W₁, W₂,
    drawn from a fixed seed and scaled to spectral norm 1 (the scale is this library's choice); t from 0 to 1.
    The singular values of A(t) are eᵗ 2⁻ʲ, so that the error of the best approximation of rank r is known: eᵗ
    2⁻ʳ/√3, nearly. Splitting methods are exact on this field up to their substeps, which hides their order.

    Parameters
    ----------
    n : int
        Rows and columns, at least 2.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)`` is exact. Observable: ``norm``, eᵗ‖D‖ for the exact solution.

    References
    ----------
    E. Kieri, C. Lubich, H. Walach, Discretized dynamical low-rank approximation in the
    presence of small singular values, SIAM J. Numer. Anal. 54 (2016) 1020-1038,
    https://doi.org/10.1137/15M1026791; G. Ceruti, C. Lubich, An unconventional robust integrator for
    dynamical low-rank approximation, BIT Numer. Math. 62 (2022) 23-44,
    https://doi.org/10.1007/s10543-021-00873-0.
    """
    n = size(n, "n", 2)
    where = place("rotation", backend, dtype, device)
    rng = np.random.default_rng(0)
    skew = [_skew(rng, n) for _ in range(2)]
    W1, W2T = where.array(skew[0]), where.array(skew[1].T)
    singular_values = 2.0 ** -np.arange(1.0, n + 1)

    def rhs(t: float, Y: Any) -> Any:
        return matmul(W1, Y) + Y + Y @ W2T

    def solution(t: float) -> np.ndarray:
        from scipy.linalg import expm

        return np.exp(t) * (expm(t * skew[0]) * singular_values) @ expm(t * skew[1]).T

    index = np.arange(1.0, n + 1)
    return Problem(
        name="rotation",
        description="Rotating matrix with singular values e^t 2^-j, Y' = W1 Y + Y + Y W2^T",
        F=factored(rhs),
        dense=rhs,
        t_span=(0.0, 1.0),
        shape=(n, n),
        observables={"norm": norm},
        defaults={"rank": min(10, n), "dt": 0.05, "method": "augmented-bug"},
        x=index,
        y=index,
        labels=("row", "column"),
        quantity="Y",
        place=where,
        initial=lambda: (np.eye(n), singular_values, np.eye(n)),
        solution=solution,
    )


def _skew(rng: np.random.Generator, n: int) -> np.ndarray:
    W = rng.standard_normal((n, n))
    W = W - W.T
    return W / np.linalg.norm(W, 2)
