"""Rows that determine a subspace: index selection and interpolation for methods that look at a few rows and columns.

For U (m x r) with orthonormal columns and indices p, the oblique projector M P, with M = U U[p]⁺ and (P A) = A[p],
reproduces every matrix in the range of U from its rows p, and ‖A - M A[p]‖ <= ‖U[p]⁺‖ ‖A - U UᴴA‖ for any other (in the
2-norm): good indices keep ‖U[p]⁺‖ small. Indices are chosen on the host, on a copy of U: from a GPU that transfers
m r numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra._factors import check_int
from dlra.backend import Array, H, all_finite, eps, is_array, kind, namespace, to_host
from dlra.lazy import take
from dlra.linalg import qr

__all__ = ["interpolation", "oversampled", "qdeim"]


def qdeim(U: Array, count: int | None = None) -> np.ndarray:
    """Return row indices at which ``U`` is well conditioned: the first pivots of the column-pivoted QR of Uᴴ.

    Parameters
    ----------
    U : array, shape (m, r), r <= m
        A basis, orthonormal for the bound below to hold. Columns may be weighted (``U @ S``): the first indices then
        follow the heavy directions.
    count : int, optional
        How many indices; None for r. Beyond r they are added by :func:`oversampled`.

    Returns
    -------
    p : NumPy array of int, shape (count,)
        Distinct, in the order of choice. ‖U[p]⁻¹‖₂ <= sqrt(m - r + 1) sqrt(4ʳ + 6r - 1) / 3 for count = r; usually it
        is of the order of sqrt(m r).

    Notes
    -----
    Costs O(m r²). The pivots depend on the space and not on the basis that represents it, but for rounding.

    References
    ----------
    Z. Drmač, S. Gugercin, A new selection operator for the discrete empirical interpolation method, SIAM J. Sci.
    Comput. 38 (2016) A631, https://doi.org/10.1137/15M1019271.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.sampling import qdeim
    >>> qdeim(np.asarray([[0.0, 0.6], [1.0, 0.0], [0.0, 0.8]])).tolist()
    [1, 2]
    """
    m, r = _check_basis(U)
    count = r if count is None else check_int(count, "count")
    if not 1 <= count <= m:
        raise ValueError(f"count must lie between 1 and the {m} rows of U, got {count}")
    p, _ = pivots(H(to_host(U)), min(count, r))
    return oversampled(U, p, count) if count > r else p


def oversampled(U: Array, p: np.ndarray, count: int) -> np.ndarray:
    """Return ``p`` with further row indices of ``U``, chosen one by one so that ‖U[p]⁺‖ shrinks.

    The next row is always the one of largest leverage uᵢ (U[p]ᴴU[p])⁻¹ uᵢᴴ, that is the one that interpolation from
    the rows so far amplifies most; it is also the one that increases det(U[p]ᴴU[p]) most.

    Parameters
    ----------
    U : array, shape (m, r)
    p : array of int, shape (k,), k >= r
        Distinct indices on the host, with U[p] of rank r: those of :func:`qdeim`.
    count : int
        Number of indices wanted, from k to m.

    Returns
    -------
    NumPy array of int, shape (count,)
        Begins with ``p``.

    Notes
    -----
    Costs O(m r²) at first and O(m r) for each further index, in double precision on the host.

    References
    ----------
    A. Mikhalev, I. V. Oseledets, Rectangular maximum-volume submatrices and their applications, Linear Algebra Appl.
    538 (2018) 187, https://doi.org/10.1016/j.laa.2017.10.014.
    """
    m, r = _check_basis(U)
    p = _check_indices(p, m, r)
    count = check_int(count, "count")
    if not p.size <= count <= m:
        raise ValueError(
            f"count must lie between the {p.size} indices given and the {m} rows of U, got {count}"
        )
    if count == p.size:
        return p
    wide = to_host(U)
    wide = wide.astype(np.result_type(wide.dtype, np.float64), copy=False)
    # rows of C: uᵢ R⁻¹ with U[p] = Q R, so that the leverage is their squared norm; R may be singular to rounding
    C = wide @ np.linalg.pinv(np.linalg.qr(wide[p], mode="r"))
    leverage = np.square(C.real).sum(axis=1)
    if C.dtype.kind == "c":
        leverage += np.square(C.imag).sum(axis=1)
    leverage[p] = -1.0
    chosen = list(p)
    updates: list[tuple[np.ndarray, float]] = []  # (U[p]ᴴU[p])⁻¹ after each new row, by Sherman and Morrison
    while True:
        i = int(np.argmax(leverage))
        chosen.append(i)
        if len(chosen) == count:
            return np.asarray(chosen)
        row = C[i].conj()
        column = C @ row
        for earlier, scale in updates:
            column -= earlier * (scale * earlier[i].conj())
        scale = 1.0 / (1.0 + leverage[i])
        leverage -= scale * np.square(np.abs(column))
        updates.append((column, scale))
        leverage[chosen] = -1.0


def interpolation(U: Array, p: np.ndarray) -> Array:
    """Return M = U U[p]⁺, which extends rows p to all rows: M A[p] = A for every A in the range of ``U``.

    Parameters
    ----------
    U : array, shape (m, r)
        Orthonormal columns.
    p : array of int, shape (k,), k >= r
        Distinct row indices on the host. Where k > r, A is fitted to its rows p by least squares.

    Returns
    -------
    M : array, shape (m, k)
        In the library, dtype and device of ``U``. M[p] is the identity where k = r.

    Raises
    ------
    ValueError
        Where U[p] is singular, so that the rows p do not determine a matrix in the range of ``U``.
    """
    m, r = _check_basis(U)
    p = _check_indices(p, m, r)
    Q, R = qr(take(U, p, 0))
    diagonal = np.abs(np.diagonal(to_host(R)))
    if not diagonal.min() > eps(U) * diagonal.max():
        raise ValueError(
            f"the rows p do not determine the columns of U: U[p] of shape {(p.size, r)} is singular; "
            f"choose p = qdeim(U), with orthonormal U"
        )
    return U @ namespace(U).linalg.solve(R, H(Q))


def pivots(A: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first ``count`` pivot columns of a host matrix, and what each adds: the moduli of the diagonal of
    R, descending."""
    from scipy.linalg import get_lapack_funcs

    (geqp3,) = get_lapack_funcs(("geqp3",), (A,))
    _, _, _, work, _ = geqp3(
        A, lwork=-1
    )  # the workspace of the blocked algorithm, ten times faster than the least
    R, order, _, _, _ = geqp3(A, lwork=int(work[0].real))
    added = np.abs(np.diagonal(R))[:count]
    return order[: added.size].astype(np.intp) - 1, added


def _check_basis(U: Any) -> tuple[int, int]:
    if not is_array(U):
        raise TypeError(f"U must be an array of shape (m, r), got {kind(U)}")
    if U.ndim != 2 or not 1 <= U.shape[1] <= U.shape[0]:
        raise ValueError(f"U must be a tall matrix, shape (m, r) with 1 <= r <= m, got {kind(U)}")
    if not all_finite(U):
        raise ValueError("U contains NaN or infinite values")
    return U.shape[0], U.shape[1]


def _check_indices(p: Any, m: int, r: int) -> np.ndarray:
    index = np.asarray(p)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise TypeError(f"p must be a vector of row indices on the host, got {kind(index)}")
    if index.size < r:
        raise ValueError(f"p must have at least as many indices as U has columns, {r}, got {index.size}")
    if index.min() < 0 or index.max() >= m or np.unique(index).size < index.size:
        raise ValueError(f"p must be distinct row indices from 0 to {m - 1}, got {index.tolist()}")
    return index
