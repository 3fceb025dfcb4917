"""The linear algebra of stacks: many small matrices at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlra.backend import (
    DTYPES,
    Array,
    all_finite,
    dtype_name,
    eps,
    is_array,
    is_complex,
    kind,
    namespace,
    scalar,
    to_host,
    zeros,
)
from dlra.kernels import _compiled

_WIDEST = {"float32": 80, "float64": 44, "complex64": 48, "complex128": 26}
"""Size of square matrices up to which singular values by compiled code take less time than those of LAPACK."""

_TALL = 200
"""Number of rows beyond which NumPy arrays are augmented one by one."""

_LEAST_USE = 0.6
"""Part of the lanes of a vector that a stack must fill."""


def svd_stack(A: Array | Sequence[Array]) -> Any:
    """Return the reduced singular value decompositions of many small matrices, U diag(s) Vᴴ each.

    Parameters
    ----------
    A : array, shape (b, p, q), or sequence of arrays, shapes (p_i, q_i)
        Real or complex, of any supported library.

    Returns
    -------
    U : array, shape (b, p, k), k = min(p, q)
        Orthonormal columns, also where singular values are zero.
    s : array, shape (b, k)
        Singular values, real, descending; accurate to a few units of roundoff of the largest one of their matrix.
    Vh : array, shape (b, k, q)
        Orthonormal rows.
        For a sequence, a list of such triples in its order, each as of one matrix.

    Raises
    ------
    ValueError
        Where ``A`` contains NaN or infinite values; the message names the member.
    numpy.linalg.LinAlgError
        Where the iteration for a member does not converge.

    Notes
    -----
    Stacks of NumPy arrays up to about 40 x 40 are decomposed by the one-sided Jacobi method, 8 or 16 of them in the
    lanes of one vector. It gives also the small singular values with high relative accuracy where the matrix is a
    well-conditioned one with scaled columns or rows (Z. Drmač, K. Veselić, SIAM J. Matrix Anal. Appl. 29 (2008)
    1322-1362). The first call compiles for some seconds; numba keeps the result on disk. All other stacks go to the
    ``linalg.svd`` of their library.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.linalg import svd_stack
    >>> svd_stack(np.stack([np.eye(2), 3 * np.eye(2)]))[1]
    array([[1., 1.],
           [3., 3.]])
    """
    if isinstance(A, (list, tuple)):
        return _svd_list(A)
    _check_stack(A, "A", "(b, p, q)")
    return _svd(A)


def orthonormalize_stack(A: Array) -> Array:
    """Return orthonormal bases that contain the ranges of many matrices.

    Parameters
    ----------
    A : array, shape (b, m, r)
        Real or complex, of any supported library.

    Returns
    -------
    Q : array, shape (b, m, min(m, r))
        Orthonormal columns. Unlike :func:`orthonormalize` none is dropped: where columns of a member depend on each
        other, other directions take their places, so that all members keep one shape.

    Raises
    ------
    ValueError
        Where ``A`` contains NaN or infinite values; the message names the member.
    """
    _check_stack(A, "A", "(b, m, r)")
    _check_finite(A, "A")
    b, m, r = A.shape
    if 0 in (b, m, r):
        return zeros((b, m, min(m, r)), A)
    if _is_small(A, m, r):
        kernel = _compiled.module("batched")
        if kernel is not None:
            return kernel.basis(A[:, :, :0], A)
    return _householder(_unit_columns(A))


def augment_stack(U0: Array, X: Array) -> Array:
    """Return orthonormal bases that begin with ``U0`` and whose spans contain ``X``, for many matrices.

    Parameters
    ----------
    U0 : array, shape (b, m, r)
        Orthonormal columns.
    X : array, shape (b, m, k), r + k <= m
        New directions of any scale.

    Returns
    -------
    U : array, shape (b, m, r + k)
        ``U[:, :, :r]`` is ``U0`` to the last bit. Unlike :func:`augment` no direction is dropped: where those of X lie
        in the span of U0 and of each other, others take their places, so that all members keep one shape.

    Raises
    ------
    ValueError
        Where the shapes do not fit, or ``X`` contains NaN or infinite values; the message names the member.
    """
    _check_stack(U0, "U0", "(b, m, r)")
    _check_stack(X, "X", "(b, m, k)")
    xp = namespace(U0, X)
    (b, m, r), k = U0.shape, X.shape[2]
    if X.shape[:2] != (b, m):
        raise ValueError(
            f"U0 and X need the same number of members and rows, got U0 of shape {tuple(U0.shape)} and X of shape "
            f"{tuple(X.shape)}"
        )
    if r + k > m:
        raise ValueError(
            f"U0 and X must not have more columns together than rows, got {r} + {k} columns of {m} rows; use "
            f"dlra.linalg.augment, which drops what does not fit, for each member"
        )
    if dtype_name(U0.dtype) != dtype_name(X.dtype):
        raise TypeError(
            f"U0 and X need one dtype, got {dtype_name(U0.dtype)} and {dtype_name(X.dtype)}; convert one of them"
        )
    _check_finite(X, "X")
    if k == 0 or b == 0:
        return xp.concat((U0, X), axis=2)
    if _is_small(X, m, r + k):
        kernel = _compiled.module("batched")
        if kernel is not None:
            return kernel.basis(U0, X)
    if type(X) is np.ndarray and m > _TALL:
        return _one_by_one(U0, X)
    return augmented(U0, X)


def augmented(U0: Array, X: Array) -> Array:
    """As :func:`augment_stack`, for all array libraries and sizes."""
    xp, X = namespace(U0, X), _unit_columns(X)
    new = _householder(X - U0 @ (_adjoint(U0) @ X))
    lost = _adjoint(U0) @ new
    size = scalar(xp.max(xp.linalg.vector_norm(lost, axis=(1, 2)))) if math.prod(lost.shape) else 0.0
    if size > 0.5:
        new = _householder(xp.concat((U0, X), axis=2))[:, :, U0.shape[2] :]
    elif size**2 > 0.1 * eps(X):
        new = _householder(new - U0 @ lost)
    else:
        new = new - U0 @ lost
    return xp.concat((U0, new), axis=2)


def _one_by_one(U0: np.ndarray, X: np.ndarray) -> np.ndarray:
    """As :func:`augmented`, by :func:`dlra.linalg.augment` for members of which it drops nothing."""
    from dlra import linalg  # which takes this module's functions

    X = _unit_columns(X)
    Q = np.empty((*X.shape[:2], U0.shape[2] + X.shape[2]), X.dtype)
    for i in range(Q.shape[0]):
        basis = linalg.augment(U0[i], X[i])
        Q[i] = basis if basis.shape == Q.shape[1:] else augmented(U0[i : i + 1], X[i : i + 1])[0]
    return Q


def _householder(A: Array) -> Array:
    """The orthonormal factors of QR factorisations, with full rank whatever A is."""
    if type(A) is not np.ndarray:
        return namespace(A).linalg.qr(A, mode="reduced")[0]
    from dlra import linalg  # which takes this module's functions

    return np.stack([linalg.qr(a)[0] for a in A])


def _unit_columns(X: Array) -> Array:
    """X with columns scaled so that no square over- or underflows."""
    xp = namespace(X)
    largest = xp.max(abs(X), axis=1, keepdims=True)
    return X / xp.where(largest > 0, largest, xp.ones_like(largest))


def _svd(A: Array) -> tuple[Array, Array, Array]:
    _check_finite(A, "A")
    b, p, q = A.shape
    if type(A) is np.ndarray and A.size and _jacobi_wins(b, p, q, A.dtype):
        kernel = _compiled.module("batched")
        if kernel is not None:
            U, s, Vh, converged = kernel.svd(A)
            if not converged.all():
                failed = int(np.argmin(converged))
                raise np.linalg.LinAlgError(
                    f"the singular value decomposition of member {failed} of the stack did not converge"
                )
            return U, s, Vh
    U, s, Vh = namespace(A).linalg.svd(A, full_matrices=False)
    return U, s, Vh


def _jacobi_wins(b: int, p: int, q: int, dtype: np.dtype) -> bool:
    widest = _WIDEST[dtype.newbyteorder("=").name]
    return max(p, q) <= 64 and _use(b, dtype) >= max(_LEAST_USE, min(p, q) / widest)


def _is_small(X: Array, m: int, n: int) -> bool:
    """Whether a basis with n columns comes faster from compiled code."""
    if type(X) is not np.ndarray or not 0 < n <= m or m * n > 2000:
        return False
    return X.size > 0 and _use(X.shape[0], X.dtype) >= 0.5


def _use(b: int, dtype: np.dtype) -> float:
    """The part of the lanes that a stack fills."""
    lanes = 64 // np.finfo(dtype).dtype.itemsize
    return b / (lanes * -(-b // lanes))


def _svd_list(matrices: Sequence[Array]) -> list[tuple[Array, Array, Array]]:
    for i, A in enumerate(matrices):
        if not is_array(A) or A.ndim != 2:
            raise TypeError(f"A[{i}] must be a matrix, got {kind(A)}")
        _check_dtype(A, f"A[{i}]")
        if not all_finite(A):
            raise ValueError(f"A[{i}] contains NaN or infinite values")
    groups: dict[Any, list[int]] = {}
    for i, A in enumerate(matrices):
        small = type(A) is np.ndarray
        groups.setdefault((tuple(A.shape), A.dtype.newbyteorder("=").name) if small else i, []).append(i)
    found: list[Any] = [None] * len(matrices)
    from dlra import linalg  # which takes this module's functions

    for key, members in groups.items():
        A = matrices[members[0]]
        if not isinstance(key, int) and _jacobi_wins(len(members), A.shape[0], A.shape[1], A.dtype):
            results = zip(*_svd(np.stack([matrices[i] for i in members])), strict=True)
        else:
            results = (linalg.svd(matrices[i]) for i in members)
        for i, result in zip(members, results, strict=True):
            found[i] = result
    return found


def _adjoint(A: Array) -> Array:
    if type(A) is np.ndarray:
        return A.swapaxes(1, 2).conj()
    return namespace(A).conj(A).mT if is_complex(A) else A.mT


def _check_stack(A: Array, name: str, shape: str) -> None:
    if not is_array(A):
        raise TypeError(f"{name} must be an array of shape {shape}, got {kind(A)}")
    if A.ndim != 3:
        raise ValueError(
            f"{name} must be a stack of matrices of shape {shape}, got an array of shape {tuple(A.shape)}"
        )
    _check_dtype(A, name)


def _check_dtype(A: Array, name: str) -> None:
    if dtype_name(A.dtype) not in DTYPES:
        raise TypeError(
            f"{name} must be of dtype {', '.join(DTYPES)}, got {dtype_name(A.dtype)}; convert it first"
        )


def _check_finite(A: Array, name: str) -> None:
    if not all_finite(A):
        broken = [i for i in range(A.shape[0]) if not np.isfinite(to_host(A[i, :, :])).all()]
        raise ValueError(f"{name} contains NaN or infinite values in member {broken[0]} of the stack")
