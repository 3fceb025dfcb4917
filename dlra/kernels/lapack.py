"""LAPACK without wrappers: on small matrices NumPy's cost as much as the work, and its QR factorisation reads the
matrix row by row where LAPACK wants columns.

The routines are SciPy's. Larger matrices come here only where its BLAS has one thread (:mod:`dlra.kernels.threads`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from dlra.kernels import threads

_TINY = 9000
"""Entries up to which OpenBLAS wakes no thread (docs/measured-thresholds.md)."""
_BLOCK = 800
"""Rows of a block of :func:`tall_qr` (docs/measured-thresholds.md)."""


@lru_cache(maxsize=64)
def _below_diagonal(rows: int, columns: int) -> np.ndarray:
    return np.tri(rows, columns, -1, dtype=bool)


class _Routines(NamedTuple):
    geqrf: Any
    orgqr: Any
    gesdd: Any
    gesdd_lwork: Any
    potrf: Any
    trtri: Any


@lru_cache(maxsize=4)
def _routines(char: str) -> _Routines:
    from scipy.linalg import get_lapack_funcs

    names = ("geqrf", "ungqr" if char in "FD" else "orgqr", "gesdd", "gesdd_lwork", "potrf", "trtri")
    return _Routines(*get_lapack_funcs(names, dtype=np.dtype(char)))


def usable(entries: int) -> bool:
    """Whether these routines may work on a matrix of so many entries."""
    return 0 < entries <= _TINY or (entries > 0 and threads.lapack_has_one())


def qr(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reduced Householder QR factorisation."""
    geqrf, orgqr = _routines(A.dtype.char)[:2]
    k, work = min(A.shape), 64 * A.shape[1]
    factored, tau, _, _ = geqrf(A, lwork=work)
    R = factored[:k].copy()
    R[_below_diagonal(*R.shape)] = 0
    Q, _, _ = orgqr(factored[:, :k], tau, lwork=work, overwrite_a=1)
    return Q, R


def tall_qr(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`qr`, for m much larger than r: of blocks of rows that stay in cache, and then of their factors R
    (J. Demmel, L. Grigori, M. Hoemmen, J. Langou, SIAM J. Sci. Comput. 34 (2012) A206-A239)."""
    m, r = A.shape
    count = max(1, m // max(_BLOCK, 4 * r))
    rows = [slice(m * i // count, m * (i + 1) // count) for i in range(count)]
    Q, heads = np.empty((m, r), dtype=A.dtype), np.empty((count * r, r), dtype=A.dtype)
    for i, part in enumerate(rows):
        Q[part], heads[i * r : (i + 1) * r] = qr(A[part])
    turn, R = qr(heads)
    for i, part in enumerate(rows):
        Q[part] = Q[part] @ turn[i * r : (i + 1) * r]
    return Q, R


def stacked_qr(U0: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q = [U₀ | Q₂] and R₂₂ (its upper triangle) of the QR factorisation of [U₀ | X] with orthonormal U₀."""
    geqrf, orgqr = _routines(X.dtype.char)[:2]
    (m, r), k = U0.shape, X.shape[1]
    Z = np.empty((m, r + k), dtype=X.dtype, order="F")
    Z[:, :r], Z[:, r:] = U0, X
    work = 64 * (r + k)
    factored, tau, _, _ = geqrf(Z, lwork=work, overwrite_a=1)
    R = factored[r : r + k, r:].copy()
    Q, _, _ = orgqr(factored, tau, lwork=work, overwrite_a=1)
    Q[:, :r] = U0
    return Q, R


@lru_cache(maxsize=64)
def _svd_work(char: str, rows: int, columns: int) -> int:
    return int(_routines(char).gesdd_lwork(rows, columns, full_matrices=0)[0].real)


def svd(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The reduced singular value decomposition."""
    char = A.dtype.char
    U, s, Vh, failed = _routines(char).gesdd(A, full_matrices=0, lwork=_svd_work(char, *A.shape))
    if failed:
        raise np.linalg.LinAlgError("the singular value decomposition did not converge")
    return U, s, Vh


def cholesky(C: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """L and L⁻¹ for Hermitian C = L Lᴴ; None where C is not positive definite."""
    if not usable(C.size):
        try:
            L = np.linalg.cholesky(C)
        except np.linalg.LinAlgError:
            return None
        return L, np.linalg.inv(L)
    routines = _routines(C.dtype.char)
    L, failed = routines.potrf(C, lower=1, clean=1)
    if failed:
        return None
    inverse, failed = routines.trtri(L, lower=1)
    return None if failed else (L, inverse)
