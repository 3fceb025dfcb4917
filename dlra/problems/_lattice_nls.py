"""Nonlinear Schrödinger equation on a two-dimensional lattice."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra._entrywise import entrywise
from dlra.backend import Array, conj
from dlra.field import factored
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import banded, place, size
from dlra.problems._problem import Problem, norm, quadratic, quartic, svd_of
from dlra.problems._trajectory import trajectory
from dlra.semilinear import SemiLinear

STRENGTH = 0.1


def lattice_nls(n: int = 50, *, backend: Any = "numpy", dtype: Any = None, device: Any = None) -> Problem:
    """Nonlinear Schrödinger equation on an n x n lattice, Y' = i/2 (A Y + Y A) + 0.1 i |Y|² Y.

    A = tridiag(1, 0, 1) couples neighbours, with zero outside; |Y|² Y is taken entry by entry; t from 0 to 5. Y(0) is
    the sum of two Gaussians of rank one, exp(-((j - a)² + (k - b)²)/σ²), j, k = 1, ..., n, around (a, b) = (0.6 n, 0.5
    n) and (0.5 n, 0.4 n), σ = 0.1 n. It has rank 2; ``Y0(rank)`` completes the bases with the directions of the field
    there. Still the zero singular values cost projected Runge-Kutta methods their order: take a short step with another
    method first.

    Conserved exactly by the equation: the observables ``norm`` ‖Y‖ and ``energy`` ½ Re⟨Y, A Y + Y A⟩ + 0.05 Σ|Y_jk|⁴.
    The linear part is declared (:class:`~dlra.SemiLinear`); it is skew-Hermitian and not stiff, |λ| <= 2. The rest is
    computed from samples of rows and columns (:func:`dlra.entrywise`, relative tolerance 1e-10), and so is the quartic
    part of the energy: O((m + n) k (r + k)) for |Y|² Y of rank k.

    Parameters
    ----------
    n : int
        Lattice points in each direction, at least 4.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. A is sparse on NumPy and
        CuPy and dense elsewhere.
    dtype : str, optional
        ``"complex128"`` (default) or ``"complex64"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)``, t >= 0: the full equation by an embedded Runge-Kutta method of order 8 with
        tolerance 1e-11.

    References
    ----------
    E. Kieri, C. Lubich, H. Walach, Discretized dynamical low-rank approximation in the presence of small singular
    values, SIAM J. Numer. Anal. 54 (2016) 1020-1038, https://doi.org/10.1137/15M1026791; E. Kieri, B. Vandereycken,
    Projection methods for dynamical low-rank approximation of high-dimensional problems, Comput. Methods Appl. Math.
    19 (2019) 73-92, https://doi.org/10.1515/cmam-2018-0029.
    """
    n = size(n, "n", 4)
    where = place("lattice-nls", backend, dtype, device, complex_valued=True)
    A_host = banded({1: 1.0, -1: 1.0}, n)
    A = where.matrix(A_host)
    half = where.matrix(A_host * 0.5j)
    index = np.arange(1.0, n + 1)

    def rest(t: float, Y: Any) -> Any:
        return entrywise(_cubic, Y) * (STRENGTH * 1j)

    def dense(t: float, Y: Array) -> Array:
        return matmul(half, Y) + Y @ half + rest(t, Y)

    def energy(t: float, Y: Any) -> float:
        return 0.5 * quadratic(Y, A, A) + 0.5 * STRENGTH * quartic(Y)

    def gaussians(centres: tuple[float, float]) -> np.ndarray:
        return np.exp(-(((index[:, None] - n * np.array(centres)) / (0.1 * n)) ** 2))

    left, right = gaussians((0.6, 0.5)), gaussians((0.5, 0.4))

    def initial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        U, s, V = svd_of(left, np.eye(2), right)
        return U.astype(complex), s, V.astype(complex)

    def slope() -> LowRank:
        Y = LowRank(left, None, right)
        return (
            LowRank(A_host @ left, None, right) + LowRank(left, None, A_host @ right)
        ) * 0.5j + Y * Y * Y * (STRENGTH * 1j)

    def rhs(Y: np.ndarray) -> np.ndarray:
        return 0.5j * (A_host @ Y + Y @ A_host) + STRENGTH * 1j * _cubic(Y)

    return Problem(
        name="lattice-nls",
        description="Nonlinear Schrödinger equation on a lattice, Y' = i/2 (A Y + Y A) + 0.1 i |Y|^2 Y",
        F=SemiLinear(half, half, factored(rest)),
        dense=dense,
        t_span=(0.0, 5.0),
        shape=(n, n),
        observables={"norm": norm, "energy": energy},
        defaults={"rank": min(12, n), "dt": 0.05, "method": "augmented-bug"},
        x=index,
        y=index,
        labels=("j", "k"),
        quantity="ψ",
        place=where,
        initial=initial,
        slope=slope,
        solution=trajectory("lattice-nls", rhs, (left @ right.T).astype(complex)),
    )


def _cubic(y: Array) -> Array:
    return y * conj(y) * y
