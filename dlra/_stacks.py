"""Bases, decompositions and truncation of stacks of matrices, arrays of shape (b, m, r): all members at once.

All members have as many columns. Where a basis needs fewer (columns that depend on each other), the rest of them are
zero: they take part in no product, just as if they were not there. A truncation leaves none of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlra import linalg
from dlra._factors import check_dtype
from dlra.backend import (
    Array,
    H,
    all_finite,
    astype,
    eps,
    eye,
    is_array,
    kind,
    namespace,
    norm,
    norms,
    to_host,
)
from dlra.kernels import _compiled
from dlra.linalg import BOTH

if TYPE_CHECKING:
    from dlra.lowrank import LowRank

_WIDEST = {"float32": 80, "float64": 44, "complex64": 48, "complex128": 26}
"""Size of square matrices up to which compiled singular values beat LAPACK's (docs/measured-thresholds.md)."""
_LEAST_USE = 0.5
"""Part of the lanes of a vector that a stack must fill (docs/measured-thresholds.md)."""
_LEAST_WORK = 2000
"""b (20 + p q), about the tenths of a microsecond that LAPACK takes, from which a stack is worth loading numba
(docs/measured-thresholds.md)."""


def members(chosen: Any) -> str:
    """Name the members that a vector of bools chooses: "member 3", "members 0, 2, 5 and 17 more"."""
    found = np.flatnonzero(to_host(chosen)).tolist()
    shown = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return f"member{'' if len(found) == 1 else 's'} {shown}"


def not_finite(A: Array) -> Array:
    """Tell which matrices of a stack have a norm that is not finite."""
    return ~namespace(A).isfinite(norms(A))


def orthonormalize(A: Array) -> Array:
    """Bases of the ranges of A (b, m, r); zero columns where columns of a member depend on each other."""
    Q, R = linalg.qr(A)
    return _independent(Q, R, _scales(A, "A"))[0]


def augment(U0: Array, X: Array) -> Array:
    """Bases [U₀ | W], (b, m, q), whose span contains X; W has zero columns where a member needs fewer.

    X is projected off U₀ and orthonormalised by Householder QR as often as digits were lost.
    """
    (_, m, r), k = U0.shape, X.shape[-1]
    xp, scale = namespace(U0, X), _scales(X, "X")
    room = m - r if r + k <= m else m - _columns(U0)
    if min(k, room) == 0:
        return U0
    Q, R = linalg.qr(X - U0 @ (H(U0) @ X))
    Q, live = _independent(Q, R, scale, k > room)
    if live is not None and Q.shape[-1] > room:  # then the columns are in order, and the last ones zero
        Q, live = Q[..., :room], live[..., :room]
    for _ in range(3):
        lost = H(U0) @ Q
        Q = Q - U0 @ lost
        if norm(lost) ** 2 <= 0.1 * eps(Q):
            break
        Q = linalg.qr(Q)[0]
        Q = Q if live is None else Q * live
    return xp.concat((U0, Q), axis=-1)


def svd(A: Array) -> tuple[Array, Array, Array]:
    """As :func:`dlra.linalg.svd_stack`, for one array."""
    if not is_array(A):
        raise TypeError(f"A must be an array of shape (b, p, q), got {kind(A)}")
    if A.ndim != 3:
        raise ValueError(
            f"A must be a stack of matrices of shape (b, p, q), got an array of shape {tuple(A.shape)}"
        )
    check_dtype(A, "A")
    _check_finite(A, "A")
    kernel = _compiled.module("batched") if _jacobi_wins(A, *A.shape) else None
    if kernel is None:
        U, s, Vh = namespace(A).linalg.svd(A, full_matrices=False)
        return U, abs(s), Vh  # LAPACK may give -0.0
    U, s, Vh, converged = kernel.svd(A)
    if not converged.all():
        raise np.linalg.LinAlgError(
            f"the singular value decomposition of {members(~converged)} of the stack did not converge"
        )
    return U, s, Vh


def svd_list(matrices: Sequence[Array]) -> list[tuple[Array, Array, Array]]:
    """As :func:`dlra.linalg.svd_stack`, for a list: NumPy arrays of one shape and dtype together."""
    groups: dict[Any, list[int]] = {}
    for i, A in enumerate(matrices):
        if not is_array(A) or A.ndim != 2:
            raise TypeError(f"A[{i}] must be a matrix, got {kind(A)}")
        check_dtype(A, f"A[{i}]")
        if not all_finite(A):
            raise ValueError(f"A[{i}] contains NaN or infinite values")
        alike = type(A) is np.ndarray
        groups.setdefault((A.shape, A.dtype.newbyteorder("=")) if alike else i, []).append(i)
    found: dict[int, tuple[Array, Array, Array]] = {}
    for group in groups.values():
        first = matrices[group[0]]
        if _jacobi_wins(first, len(group), *first.shape):
            results = zip(*svd(np.stack([matrices[i] for i in group])), strict=True)
        else:
            results = (linalg.svd(matrices[i]) for i in group)
        found.update(zip(group, results, strict=True))
    return [found[i] for i in range(len(matrices))]


def _jacobi_wins(A: Array, b: int, p: int, q: int) -> bool:
    """Whether b matrices like A, p x q, are decomposed by compiled code in less time than by LAPACK."""
    if type(A) is not np.ndarray or 0 in (p, q) or max(p, q) > 64 or b * (20 + p * q) < _LEAST_WORK:
        return False
    return _use(b, A.dtype) >= max(_LEAST_USE, min(p, q) / _WIDEST[A.dtype.newbyteorder("=").name])


def _use(b: int, dtype: np.dtype) -> float:
    """The part of the lanes that a stack fills."""
    lanes = 64 // np.finfo(dtype).dtype.itemsize
    return b / (lanes * -(-b // lanes))


def svd_truncate(
    like: LowRank, U: Array, S: Array, V: Array, rtol: float, atol: float, min_rank: int, max_rank: int | None
) -> tuple[LowRank, float]:
    """U S Vᴴ truncated to the largest rank that a member needs; U and V may have zero columns where S has them."""
    largest = min(U.shape[-2], V.shape[-2])
    P, s, Qh = linalg.svd(S)
    rank, discarded = linalg.truncation_rank(
        s, rtol, atol, min_rank, largest if max_rank is None else min(max_rank, largest)
    )
    core = linalg._diagonal(namespace(S), s[..., :rank], S)
    factors = U @ P[..., :rank], V @ H(Qh[..., :rank, :])
    gaps = [eye(rank, Q) - H(Q) @ Q for Q in factors]
    if max(map(norm, gaps)) <= math.sqrt(eps(S)):
        U1, V1 = (Q + Q @ (0.5 * gap) for Q, gap in zip(factors, gaps, strict=True))
    else:  # singular vectors of the singular value zero in zero columns
        (U1, left), (V1, right) = map(linalg.qr, factors)
        core = left @ core @ H(right)
    return like._make(U1, core, V1, BOTH), discarded


def truncation_rank(
    s: Array, rtol: float, atol: float, min_rank: int, max_rank: int | None
) -> tuple[int, float]:
    """The largest rank that a row of ``s``, the descending singular values of a member, needs for its own tolerance.

    The norm of what is dropped is that over all members.
    """
    sigma = to_host(s).astype(np.float64, copy=False)
    full = sigma.shape[-1]
    rank = min(min_rank, full)
    if not (rtol == 0 and atol == 0 and min_rank == max_rank):
        tail = np.hypot.accumulate(sigma[:, ::-1], axis=1)[:, ::-1]
        theta = np.maximum(atol, rtol * tail[:, :1])
        rank = int(np.count_nonzero(tail > theta, axis=1).max(initial=0))
        rank = min(max(rank, min_rank), full if max_rank is None else max_rank, full)
    return rank, norm(sigma[:, rank:])


def _scales(X: Array, name: str) -> Array:
    """The norms of the members; NaN must not pass for dependent columns."""
    _check_finite(X, name)
    return norms(X)


def _check_finite(A: Array, name: str) -> None:
    if not all_finite(A):
        raise ValueError(f"{name} contains NaN or infinite values in {members(not_finite(A))} of the stack")


def _columns(U: Array) -> int:
    """The least number of columns that are not zero."""
    largest = to_host(namespace(U).max(abs(U), axis=-2))
    return int(np.count_nonzero(largest, axis=-1).min())


def _independent(Q: Array, R: Array, scale: Array, ordered: bool = False) -> tuple[Array, Array | None]:
    """Q rotated to the directions that matter in Q R, those first, the others zero; and which those are (None: all).

    ``ordered``: rotate Q also where the diagonal of R hints at no dependent columns.
    """
    xp = namespace(R)
    tolerance = (10 * eps(R) * scale)[:, None]
    keep = xp.all(abs(xp.linalg.diagonal(R)) > tolerance, axis=-1)
    if not ordered and bool(xp.all(keep)):
        return Q, None
    W, s, _ = linalg.svd(R)
    live = s > tolerance
    if not ordered:
        live = live | keep[:, None]
        W = xp.where(keep[:, None, None], eye(W.shape[-1], W), W)
    live = xp.where(live, xp.ones_like(s), xp.zeros_like(s))[:, None, :]
    live = live if live.dtype == Q.dtype else astype(live, Q.dtype)
    return (Q @ W) * live, live
