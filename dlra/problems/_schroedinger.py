"""Discrete linear Schrödinger equation in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.backend import H
from dlra.field import factored
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import banded, place, size
from dlra.problems._problem import Problem, norm, quadratic, real_inner


def schroedinger(n: int = 100, *, backend: Any = "numpy", dtype: Any = None, device: Any = None) -> Problem:
    """Discrete linear Schrödinger equation on an n x n lattice.

    Y' = -i (D Y + Y Dᵀ + V Y V) with D = tridiag(-1/2, 1, -1/2) (kinetic energy on a lattice of spacing 1,
    zero outside) and the torsional potential V = diag(1 - cos x_j), x_j = 2πj/n, j = -n/2, ..., n/2 - 1; t
    from 0 to 1. Y(0) = U₀ S₀ V₀ᴴ with random complex orthonormal U₀, V₀ from a fixed seed and singular values
    10⁻ʲ, normalised to ‖Y(0)‖ = 1.

    Conserved exactly by the equation: the observables ``norm`` ‖Y‖ and ``energy`` Re⟨Y, D Y + Y Dᵀ + V Y V⟩.

    Parameters
    ----------
    n : int
        Lattice points in each direction, at least 2.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. D is sparse on NumPy and
        CuPy and dense elsewhere.
    dtype : str, optional
        ``"complex128"`` (default) or ``"complex64"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)`` is exact to rounding: the action of the exponential of the n² x n² sparse matrix.

    References
    ----------
    G. Ceruti, J. Kusch, C. Lubich, A rank-adaptive robust integrator for dynamical
    low-rank approximation, BIT Numer. Math. 62 (2022) 1149-1174, https://doi.org/10.1007/s10543-021-00907-7;
    the reference solution: A. H. Al-Mohy, N. J. Higham, SIAM J. Sci. Comput. 33 (2011) 488-511,
    https://doi.org/10.1137/100788860.
    """
    n = size(n, "n", 2)
    where = place("schroedinger", backend, dtype, device, complex_valued=True)
    D_host = banded({0: 1.0, 1: -0.5, -1: -0.5}, n)
    x = 2 * np.pi / n * (np.arange(n) - n // 2)
    potential = 1 - np.cos(x)
    D = where.matrix(D_host)
    column, row = where.array(potential[:, None]), where.array(potential[None, :])

    def hamiltonian(Y: Any) -> Any:
        return matmul(D, Y) + Y @ D + Y * column * row

    def rhs(t: float, Y: Any) -> Any:
        return hamiltonian(Y) * (-1j)

    def energy(t: float, Y: Any) -> float:
        if not isinstance(Y, LowRank):
            return real_inner(Y, hamiltonian(Y))
        U, S, V = Y.factors
        return quadratic(Y, D, D) + real_inner(S, H(U) @ (column * U) @ S @ (H(V) @ (column * V)))

    def initial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        U, V = (
            np.linalg.qr(rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))[0] for _ in range(2)
        )
        s = 10.0 ** -np.arange(1.0, n + 1)
        return U, s / np.linalg.norm(s), V

    def solution(t: float) -> np.ndarray:
        from scipy import sparse
        from scipy.sparse.linalg import expm_multiply

        eye, P = sparse.eye_array(n), sparse.diags_array(potential)
        total = sparse.kron(D_host, eye) + sparse.kron(eye, D_host) + sparse.kron(P, P)
        U, s, V = initial()
        return expm_multiply(-1j * t * total.tocsr(), ((U * s) @ V.conj().T).ravel()).reshape(n, n)

    return Problem(
        name="schroedinger",
        description="Discrete linear Schrödinger equation, Y' = -i (D Y + Y D + V Y V)",
        F=factored(rhs),
        dense=rhs,
        t_span=(0.0, 1.0),
        shape=(n, n),
        observables={"norm": norm, "energy": energy},
        defaults={"rank": min(12, n), "dt": 0.01, "method": "augmented-bug"},
        x=x,
        y=x,
        labels=("x", "y"),
        quantity="ψ",
        place=where,
        initial=initial,
        solution=solution,
    )
