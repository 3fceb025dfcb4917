"""Orthonormalise, augment, truncate: the linear algebra of low-rank integrators, on arrays of any supported
library.

All functions are pure. Their bases are orthonormal to a few units of roundoff whatever the conditioning of the input:
they rest on Householder QR and, for tall matrices, on products whose result is measured and corrected; against a basis
that is kept on two rounds of either. Where the rank of the input must be decided, directions count as dependent below
``10 eps`` of the Frobenius norm of the input. Which way is the fastest for which size is measured by
``python -m validation.benchmarks thresholds``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlra._factors import check_dtype
from dlra.backend import (
    Array,
    H,
    all_finite,
    astype,
    deferred_norm,
    defers,
    dtype_name,
    eps,
    eye,
    is_array,
    kind,
    namespace,
    norm,
    same_dtype,
    tiny,
    to_host,
    zeros,
)
from dlra.kernels import lapack, tall

if TYPE_CHECKING:
    from dlra.lowrank import LowRank

__all__ = ["augment", "orthonormalize", "svd_stack", "truncate"]

_TALL = 800
"""Number of rows beyond which products beat Householder QR (docs/measured-thresholds.md)."""
_PRODUCTS = 1_500_000
"""Rows times squared columns beyond which NumPy arrays gain from products (docs/measured-thresholds.md)."""
_PRODUCTS_SINGLE = 5_000_000
"""The same in single precision (docs/measured-thresholds.md)."""
_WRAPPERS = 200_000
"""Rows times squared columns up to which one call of LAPACK beats several (docs/measured-thresholds.md)."""
_FEW = 10
"""Columns up to which that holds for any number of rows (docs/measured-thresholds.md)."""
_CACHED = 100_000
"""Entries of a matrix beyond which products with it are done in blocks of its rows (docs/measured-thresholds.md)."""
_TINY_SVD = 500
"""Entries up to which LAPACK finds singular values faster without the wrappers of NumPy."""
_LARGE = 1_000_000
"""Entries of a tall matrix beyond which its QR factorisation gains from blocks (docs/measured-thresholds.md)."""

LEFT, RIGHT, BOTH = 1, 2, 3
"""Which factors of a LowRank are known to have orthonormal columns: U, V, or both."""


def orthonormalize(A: Array) -> Array:
    """Return an orthonormal basis of the range of ``A``.

    Parameters
    ----------
    A : array, shape (m, r)
        Real or complex, of any supported library; need not have full rank. Of a stack, (b, m, r), the bases of all
        members are returned, with zero columns where one of them needs fewer.

    Returns
    -------
    Q : array, shape (m, k), k <= min(m, r)
        QᴴQ = I to a few units of roundoff and ‖A - Q QᴴA‖₂ <= 10 eps ‖A‖_F; k < r where columns of ``A`` depend
        on each other to that accuracy (k = 0 for a zero matrix).

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.linalg import orthonormalize
    >>> orthonormalize(np.asarray([[3.0, 6.0], [4.0, 8.0]])).shape
    (2, 1)
    """
    A = _checked(A, "A")
    if A.shape[-1] == 0:
        return A
    if A.ndim == 3:
        return _stacks_module().orthonormalize(A)
    if _is_tall(A[:, :0], A) and (Q := tall.augmented(A[:, :0], A)) is not None:
        return Q
    Q, R = qr(A)
    return _independent(Q, R, _finite_norm(R, "A"))


def augment(U0: Array, X: Array) -> Array:
    """Return an orthonormal basis that begins with ``U0`` and whose span contains ``X``.

    Parameters
    ----------
    U0 : array, shape (m, r)
        Orthonormal columns; with a stack (b, m, r) and X (b, m, k) every member is augmented, by zero columns where it
        needs fewer than others.
    X : array, shape (m, k)
        New directions of any scale: give increments (sums of slopes), not the advanced matrix, so that they
        keep all their digits when the step is small.

    Returns
    -------
    U : array, shape (m, q), r <= q <= min(m, r + k)
        ``U[:, :r]`` is ``U0`` to the last bit, so M = UᴴU0 is [I; 0] and a core is carried into the new basis
        by padding it with zeros. Directions of ``X`` that lie in the span of ``U0`` and of each other (below
        10 eps ‖X‖) are dropped.

    Notes
    -----
    X is projected off ``U0``, orthonormalised by Householder QR, and both once more where the first round has lost
    digits (columns of X that nearly lie in the span of ``U0``). Where X has too many columns for that, or hardly leaves
    the span, or the matrices are very small, Householder QR of [U0 | X], whose leading columns are replaced by ``U0``;
    for many rows products only (:mod:`dlra.kernels.tall`; :func:`complement` on other arrays than NumPy's, and where
    that gives up). A Cholesky factorisation of [U0 | X] would lose orthogonality: its condition number grows as X
    tends to zero.
    """
    U0, X = _checked(U0, "U0"), _checked(X, "X")
    if U0.shape[:-1] != X.shape[:-1]:
        raise ValueError(
            f"U0 and X need the same number of rows, got U0 of shape {tuple(U0.shape)} and X of shape {tuple(X.shape)}"
        )
    r = U0.shape[-1]
    if X.shape[-1] == 0 or (r >= U0.shape[0] and U0.ndim == 2):
        return U0
    xp = namespace(U0, X)
    if not same_dtype(U0.dtype, X.dtype):
        raise TypeError(
            f"U0 and X need one dtype, got {dtype_name(U0.dtype)} and {dtype_name(X.dtype)}; cast one with astype"
        )
    if U0.ndim == 3:
        return _stacks_module().augment(U0, X)
    by_products = _is_tall(U0, X)
    if by_products and (Q := tall.augmented(U0, X)) is not None:
        return Q
    scale = _finite_norm(X, "X")
    if 0 < scale < _smallest(X):  # subnormal numbers have too few digits to compute with
        X, scale = X * (1 / _smallest(X)), scale / _smallest(X)
    m, q = U0.shape[0], r + X.shape[1]
    if (m * q**2 <= _WRAPPERS or q <= _FEW) and q <= m and tall.takes(U0, X) and lapack.usable(m * q):
        Q, R = lapack.stacked_qr(U0, X)
        if min(map(abs, R.diagonal().tolist())) > 10 * eps(X) * scale:
            return Q
        return np.concatenate((U0, _independent(Q[:, r:], np.triu(R), scale)), axis=1)
    if m > q and (m > _TALL if xp is not np else by_products and m >= tall._SHORT):
        return xp.concat((U0, complement(X, [U0])), axis=1)
    new = _appended(U0, X, scale) if q <= m else None
    if new is None:
        Q, R = qr(xp.concat((U0, X), axis=1))
        new = _independent(Q[:, r:], R[r:, r:], scale)
    return xp.concat((U0, new), axis=1)


def _is_tall(U0: Array, X: Array) -> bool:
    """Whether :mod:`dlra.kernels.tall` is the fastest way to a basis of [U0 | X]."""
    m, q = U0.shape[0], U0.shape[1] + X.shape[1]
    if m <= _TALL or m <= 2 * q or not tall.takes(U0, X):
        return False
    return m * q**2 > (_PRODUCTS if X.dtype.char in "dD" else _PRODUCTS_SINGLE)


def _appended(U0: Array, X: Array, scale: float) -> Array | None:
    """An orthonormal basis of the part of X orthogonal to U0; None where it is too close to the span of U0 for that."""
    Q, R = qr(X - U0 @ (H(U0) @ X))
    Q = _independent(Q, R, scale)
    lost = H(U0) @ Q
    size = norm(lost)
    if size > 0.5:
        return None
    Q = Q - U0 @ lost
    return Q if size**2 <= 0.1 * eps(Q) else qr(Q)[0]


def complement(W: Array, Q: list[Array]) -> Array:
    """Return an orthonormal basis of the part of W orthogonal to the orthonormal blocks Q.

    What is roundoff of W (below 10 eps ‖W‖) is left out. Directions that the first projection leaves small are
    scaled up before the second one cleans them.
    """
    size = norm(W)
    if not math.isfinite(size):
        raise ValueError(
            "the matrix to orthonormalise contains NaN or infinite values, or its norm overflows"
        )
    if size > 0 and not eps(W) < size < 1 / eps(W):  # so that no square that counts overflows or vanishes
        W, size = W / size, 1.0
    W = _orthonormal_range(_orthogonalized(W, Q), 10 * eps(W) * size)
    return W if W.shape[1] == 0 else _unit_columns(_orthogonalized(W, Q), 0.5)


def _orthonormal_range(W: Array, smallest: float) -> Array:
    """An orthonormal basis of the range of W, without directions below ``smallest``.

    From the eigenvectors of the Gram matrix, twice (A. Stathopoulos, K. Wu, SIAM J. Sci. Comput. 23 (2002) 2165-2182):
    first for the directions that are large enough for that, then for what remains when these are projected out.
    """
    xp, found = namespace(W), []
    while W.shape[1] > 0:
        lengths, P = xp.linalg.eigh(H(W) @ W)
        host = to_host(lengths).astype(np.float64)
        if not host[-1] > smallest**2:
            break
        first = int(np.count_nonzero(host <= max(smallest**2, eps(W) ** 0.8 * host[-1])))
        block = _unit_columns(W @ (P[:, first:] / _root(lengths[first:], P)[None, :]), 0.0)
        found.append(block)
        W = W @ P[:, :first]
        if first:
            W = _orthogonalized(_orthogonalized(W, found), found)
    return W[:, :0] if not found else found[0] if len(found) == 1 else xp.concat(found, axis=1)


def _unit_columns(W: Array, least: float) -> Array:
    """W rotated and scaled to orthonormal columns, without those shorter than ``least``."""
    lengths, P = namespace(W).linalg.eigh(H(W) @ W)
    first = int(np.count_nonzero(to_host(lengths) < least**2)) if least > 0 else 0
    return W @ (P[:, first:] / _root(lengths[first:], P)[None, :])


def _root(lengths: Array, like: Array) -> Array:
    root = namespace(like).sqrt(lengths)
    return root if dtype_name(root.dtype) == dtype_name(like.dtype) else astype(root, like.dtype)


def _orthogonalized(W: Array, Q: list[Array]) -> Array:
    for block in Q:
        W = W - block @ (H(block) @ W)
    return W


def truncate(
    Y: LowRank, rtol: float = 0.0, atol: float = 0.0, min_rank: int = 1, max_rank: int | None = None
) -> tuple[LowRank, float]:
    """Truncate the singular value decomposition of ``Y``.

    The largest tail of singular values is dropped whose Frobenius norm is at most ``max(atol, rtol ‖Y‖_F)``;
    then no more than ``max_rank`` are kept, and never fewer than ``min_rank`` (as far as there are that
    many).

    Parameters
    ----------
    Y : LowRank, shape (m, n)
        Its factors need not be orthonormal.
    rtol, atol : float
        Truncation tolerances, relative to ‖Y‖_F and absolute.
    min_rank, max_rank : int
        Bounds for the new rank; None for no upper bound.

    Returns
    -------
    Y1 : LowRank
        Orthonormal U and V, and S = diag(singular values, descending).
    discarded : float
        ‖Y - Y1‖_F: the norm of the dropped tail.
    """
    if not hasattr(Y, "orthonormalized"):
        raise TypeError(f"Y must be a LowRank, got {kind(Y)}; use LowRank.from_dense(Y, rank=...)")
    check_rank_options(rtol, atol, min_rank, max_rank)
    U, S, V = Y.orthonormalized().factors
    Y1, discarded = svd_truncate(Y, U, S, V, rtol, atol, min_rank, max_rank)
    return Y1, float(discarded)


def svd_truncate(
    like: LowRank, U: Array, S: Array, V: Array, rtol: float, atol: float, min_rank: int, max_rank: int | None
) -> tuple[LowRank, float]:
    """As :func:`truncate`, for U S Vᴴ with orthonormal U, V; the result is made by the class of ``like``.

    Where V is U, the very same array, S is Hermitian, and so is the result, again with one array for both.
    """
    if S.ndim == 3:
        return _stacks_module().svd_truncate(like, U, S, V, rtol, atol, min_rank, max_rank)
    spectral = decompose(S, V is U)
    rank, discarded = truncation_rank(spectral.sizes, rtol, atol, min_rank, max_rank)
    return cut(like, U, V, spectral, rank), discarded


class Spectral(NamedTuple):
    """S = P diag(values) Qhᴴ by descending modulus: singular values, or eigenvalues of a Hermitian S without Qh.

    ``sizes`` are the singular values.
    """

    P: Array
    values: Array
    Qh: Array | None
    sizes: Array


def decompose(S: Array, hermitian: bool) -> Spectral:
    """The :class:`Spectral` of a core. Where S defers and is not finite, its values are NaN."""
    poison = None
    if defers(S):  # a decomposition of NaN may fail, or not end
        xp = namespace(S)
        poison = 0.0 * xp.sum(abs(S))
        S = xp.where(xp.isfinite(S), S, xp.zeros_like(S))
    if hermitian:
        xp = namespace(S)
        values, P = xp.linalg.eigh(S)
        order = xp.argsort(-abs(values))
        values, P, Qh = xp.take(values, order, axis=0), xp.take(P, order, axis=1), None
    else:
        P, values, Qh = svd(S)
    if poison is not None:
        values = values + poison
    return Spectral(P, values, Qh, abs(values) if hermitian else values)


def cut(like: LowRank, U: Array, V: Array, spectral: Spectral, rank: int) -> LowRank:
    """U P diag(values) Qh Vᴴ (U P diag(values) Pᴴ Uᴴ without Qh), truncated to a rank."""
    P, values, Qh, _ = spectral
    core = _diagonal(namespace(P), values[:rank], P)
    U1 = rotate(U, P[:, :rank])
    return like._make(U1, core, U1 if Qh is None else rotate(V, H(Qh[:rank, :])), BOTH)


def truncation_rank(
    s: Array, rtol: float, atol: float, min_rank: int, max_rank: int | None
) -> tuple[int, Any]:
    """Return the rank to keep of the descending singular values ``s`` and the norm of what is dropped.

    A prescribed rank (no tolerance) is decided from shapes alone; where ``s`` defers, the norm then is a 0-d array.
    """
    if s.ndim == 2:
        return _stacks_module().truncation_rank(s, rtol, atol, min_rank, max_rank)
    full = s.shape[0]
    waits = defers(s)
    if waits and rtol == 0 and atol == 0 and min_rank == max_rank:
        return min(min_rank, full), deferred_norm(s[min_rank:]) if min_rank < full else 0.0
    sigma = to_host(s).astype(np.float64, copy=False)
    if waits:
        check_spectrum(sigma)
    if rtol == 0 and atol == 0 and min_rank == max_rank:
        rank = min(min_rank, full)
        return rank, norm(sigma[rank:])
    tail = np.hypot.accumulate(sigma[::-1])[::-1]  # tail[k]: the norm of sigma[k:]
    rank = full
    if full:
        theta = max(atol, rtol * float(tail[0]))
        rank = int(np.count_nonzero(tail > theta))  # tails descend: the first one within theta is dropped
    rank = min(max(rank, min_rank), full if max_rank is None else max_rank, full)
    return rank, float(tail[rank]) if rank < full else 0.0


def check_spectrum(sigma: np.ndarray) -> None:
    """Raise a FloatingPointError where singular values are NaN: those of a core that is not finite."""
    if not np.isfinite(sigma).all():
        raise FloatingPointError("the core is not finite")


def rotate(U: Array, P: Array) -> Array:
    """Return ``U @ P`` for orthonormal U and P, kept orthonormal over any number of steps.

    One Newton-Schulz correction, Q (3 I - QᴴQ) / 2, removes the loss of orthogonality of the factors; without
    it the loss would add up by about one unit of roundoff a step.
    """
    if type(U) is np.ndarray and U.size > _CACHED and _in_blocks(U, P):
        return tall.rotated(U, P, 20 * eps(U) * math.sqrt(P.shape[1]))
    Q = times(U, P)
    Q += times(Q, _half_identity(Q) - 0.5 * inner(Q, Q))
    return Q


def _half_identity(Q: Array) -> Array:
    """I / 2 with as many columns as Q."""
    return _half_eye(Q.shape[1], Q.dtype) if type(Q) is np.ndarray else 0.5 * eye(Q.shape[1], Q)


@lru_cache(maxsize=64)
def _half_eye(n: int, dtype: Any) -> np.ndarray:
    half = 0.5 * np.eye(n, dtype=dtype)
    half.setflags(write=False)
    return half


def times(U: Array, P: Array) -> Array:
    """Return ``U @ P`` for a tall U and a small P."""
    if type(U) is type(P) is np.ndarray and U.ndim == P.ndim == 2:  # small ones in half the time of @
        return tall.product(U, P) if U.size > _CACHED and _in_blocks(U, P) else U.dot(P)
    return U @ P


def inner(U: Array, X: Array) -> Array:
    """Return UᴴX for tall U and X."""
    if type(U) is type(X) is np.ndarray and U.ndim == X.ndim == 2:
        if U.size > _CACHED and _in_blocks(U, X):
            return tall.inner(U, X)
        return (U.mT.conj() if U.dtype.kind == "c" else U.mT).dot(X)
    return H(U) @ X


def _in_blocks(U: np.ndarray, X: Array) -> bool:
    """Whether a product of a large U is faster in blocks of its rows."""
    return U.ndim == X.ndim == 2 and U.shape[0] > 20 * U.shape[1] and tall.takes(U, X)


def embed(S: Array, rows: int, columns: int) -> Array:
    """Return ``S`` in the leading corner of a rows x columns matrix of zeros."""
    *stack, p, q = S.shape
    if (p, q) == (rows, columns):
        return S
    xp = namespace(S)
    if xp is np:
        padded = np.zeros((*stack, rows, columns), dtype=S.dtype)
        padded[..., :p, :q] = S
        return padded
    below, right = zeros((*stack, rows - p, q), S), zeros((*stack, rows, columns - q), S)
    return xp.concat((xp.concat((S, below), axis=-2), right), axis=-1)


def block_diagonal(A: Array, B: Array) -> Array:
    """Return the block diagonal matrix of ``A`` and ``B``."""
    (*stack, a0, a1), (b0, b1) = A.shape, B.shape[-2:]
    xp = namespace(A, B)
    if xp is np:
        dtype = A.dtype if A.dtype == B.dtype else np.result_type(A, B)
        out = np.zeros((*stack, a0 + b0, a1 + b1), dtype=dtype)
        out[..., :a0, :a1] = A
        out[..., a0:, a1:] = B
        return out
    top = xp.concat((A, zeros((*stack, a0, b1), A)), axis=-1)
    return xp.concat((top, xp.concat((zeros((*stack, b0, a1), B), B), axis=-1)), axis=-2)


def qr(A: Array) -> tuple[Array, Array]:
    """Return the reduced Householder QR factorisation (Q: m x min(m, r), R: min(m, r) x r)."""
    A = _native(A)
    if A.ndim == 2 and tall.takes(A) and lapack.usable(A.size):
        return lapack.tall_qr(A) if A.size >= _LARGE and A.shape[0] > 16 * A.shape[1] else lapack.qr(A)
    Q, R = namespace(A).linalg.qr(A, mode="reduced")
    return Q, R


def svd(A: Array) -> tuple[Array, Array, Array]:
    """Return the reduced singular value decomposition (U, s descending, Vᴴ), or those of a stack."""
    if A.ndim == 3:
        return _stacks_module().svd(A)
    if type(A) is np.ndarray and A.dtype.char in "fdFD" and _takes_svd(A):
        return lapack.svd(A)
    U, s, Vh = namespace(A).linalg.svd(A, full_matrices=False)
    return U, s, Vh


def svd_stack(A: Array | Sequence[Array]) -> Any:
    """Return the reduced singular value decompositions of many small matrices, U diag(s) Vᴴ each.

    Parameters
    ----------
    A : array, shape (b, p, q), or sequence of arrays, shapes (p_i, q_i)
        float32, float64, complex64 or complex128, of any supported library.

    Returns
    -------
    U : array, shape (b, p, k), k = min(p, q)
        Orthonormal columns, also where singular values are zero.
    s : array, shape (b, k)
        Singular values, real, descending; accurate to a few units of roundoff of the largest one of their matrix,
        infinite where that exceeds the largest number of the dtype.
    Vh : array, shape (b, k, q)
        Orthonormal rows.
        For a sequence, a list of such triples in its order, each as of one matrix.

    Raises
    ------
    TypeError
        Where ``A`` is no array, or of another dtype.
    ValueError
        Where ``A`` has not three dimensions, or contains NaN or infinite values; the message names the member.
    numpy.linalg.LinAlgError
        Where the iteration for a member does not converge.

    Notes
    -----
    Stacks of NumPy arrays up to about 40 x 40 are decomposed by the one-sided Jacobi method, 8 or 16 of them in the
    lanes of one vector. It gives also the small singular values with high relative accuracy where the matrix is a
    well-conditioned one with scaled columns or rows (Z. Drmač, K. Veselić, SIAM J. Matrix Anal. Appl. 29 (2008)
    1322-1362). The first call compiles for some seconds; numba keeps the result on disk. Stacks that LAPACK decomposes
    within 0.2 ms (10 of 13 x 13), and all others, go to the ``linalg.svd`` of their library.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.linalg import svd_stack
    >>> svd_stack(np.stack([np.eye(2), 3 * np.eye(2)]))[1]
    array([[1., 1.],
           [3., 3.]])
    """
    return _stacks_module().svd_list(A) if isinstance(A, (list, tuple)) else _stacks_module().svd(A)


def _takes_svd(A: np.ndarray) -> bool:
    """Whether :func:`dlra.kernels.lapack.svd` beats NumPy's: where its wrappers cost, and in single precision, in which
    it works in double."""
    tiny = 0 < A.size <= _TINY_SVD
    return A.ndim == 2 and (tiny or (A.dtype.char in "fF" and lapack.usable(A.size)))


def svdvals(A: Array) -> Array:
    """Return the singular values, descending."""
    xp = namespace(A)
    return xp.linalg.svdvals(A)


def check_rank_options(rtol: float, atol: float, min_rank: int, max_rank: int | None) -> None:
    """Raise ValueError or TypeError naming the rank option that is out of range."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
            raise TypeError(f"{name} must be a number, got {kind(value)}")
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and >= 0 (a truncation tolerance), got {value}")
    for name, value in (("min_rank", min_rank), ("max_rank", max_rank)):
        if name == "max_rank" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name} must be an int, got {value!r} ({type(value).__name__})")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if max_rank is not None and min_rank > max_rank:
        raise ValueError(
            f"min_rank must not exceed max_rank, got min_rank={min_rank} and max_rank={max_rank}"
        )


def _finite_norm(R: Array, name: str) -> float:
    """The norm of a triangular factor; NaN must not pass for dependent columns."""
    scale = norm(R)
    if not math.isfinite(scale):
        raise ValueError(f"{name} contains NaN or infinite values")
    return scale


def _independent(Q: Array, R: Array, scale: float) -> Array:
    """Rotate ``Q`` to the directions that matter in ``Q @ R``, where the diagonal of R hints at dependent
    columns.

    The diagonal is a hint only: a dependence that it does not show leaves superfluous but orthonormal
    columns.
    """
    tolerance = 10 * eps(R) * scale
    xp = namespace(R)
    diagonal = abs(R.diagonal() if xp is np else xp.linalg.diagonal(R))
    if (
        diagonal.shape[0] == Q.shape[1]
        and scale > 0
        and float(diagonal.min() if xp is np else xp.min(diagonal)) > tolerance
    ):
        return Q
    if not all_finite(R):
        raise ValueError("U0 contains NaN or infinite values")
    W, s, _ = svd(R)
    return Q @ W[:, : int(np.count_nonzero(to_host(s) > tolerance))]


def _diagonal(xp: object, s: Array, like: Array) -> Array:
    """diag(s) in the dtype of ``like`` (s is real)."""
    if xp is np and s.ndim == 1:
        core = np.zeros((s.shape[0], s.shape[0]), dtype=like.dtype)
        core.reshape(-1)[:: s.shape[0] + 1] = s
        return core
    if s.dtype != like.dtype:
        s = astype(s, like.dtype)
    return eye(s.shape[-1], like) * s[..., None, :]


def _checked(A: Array, name: str) -> Array:
    """The matrix ``A``, in the byte order of the machine."""
    if type(A) is np.ndarray and A.ndim == 2 and A.dtype.char in "fdFD" and A.dtype.isnative:
        return A
    if not is_array(A):
        raise TypeError(f"{name} must be an array of shape (m, r), got {kind(A)}")
    if A.ndim not in (2, 3):
        raise ValueError(f"{name} must be a matrix of shape (m, r), got an array of shape {tuple(A.shape)}")
    if type(A) is not np.ndarray or A.dtype.char not in "fdFD":
        check_dtype(A, name)
    return _native(A)


def _smallest(A: Array) -> float:
    """The norm below which entries that count may be subnormal numbers."""
    return tiny(dtype_name(A.dtype)) / eps(A)


def _native(A: Array) -> Array:
    """A NumPy array in the byte order of the machine."""
    return A if type(A) is not np.ndarray or A.dtype.isnative else A.astype(A.dtype.newbyteorder("="))


def _stacks_module() -> Any:
    """The module for stacks of matrices, arrays of shape (b, m, r)."""
    from dlra import _stacks

    return _stacks
