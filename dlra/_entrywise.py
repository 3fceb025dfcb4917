"""Functions of the entries of low-rank matrices, from some of their rows and columns."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from dlra import linalg
from dlra.backend import (
    DTYPES,
    Array,
    H,
    all_finite,
    dtype_name,
    eps,
    eye,
    from_host,
    is_array,
    kind,
    library,
    namespace,
    norm,
    tight,
    to_host,
    zeros,
)
from dlra.errors import DlraWarning
from dlra.lazy import LazySum, take
from dlra.linalg import BOTH
from dlra.lowrank import LowRank, any_factor
from dlra.sampling import pivots

__all__ = ["entrywise", "entrywise_product"]

CHECKS = 12  # rows, and as many columns, that judge an approximation
WIDE = 256  # a matrix that is sampled entirely is worth a warning where min(m, n) is larger


def entrywise(
    f: Callable[..., Array],
    Y: Any,
    *more: Any,
    rtol: float | None = None,
    atol: float = 0.0,
    max_rank: int | None = None,
) -> Any:
    """Return the matrix with the entries f(Y_ij), or f(Y_ij, Z_ij, ...), as a LowRank, without forming Y.

    The matrix is approximated from some of its columns and rows, where f is evaluated: a column basis Q is fitted to
    the rows sampled, and columns and rows are added where the residual on further rows and columns is large, until it
    is small there. If f(Y) has low rank k to the tolerance, this costs O((m + n) k (r + k)).

    Parameters
    ----------
    f : callable
        ``f(y)`` receives a block of Y, a dense array of its library and dtype, and returns an array of the same shape:
        it must act entry by entry. As many arguments as there are matrices.
    Y, *more : LowRank, shape (m, n)
        Of one shape and library. If all of them are dense arrays, the result is ``f(Y, *more)``, so that a field
        written with this function works both ways.
    rtol, atol : float
        The error in the Frobenius norm is to be at most ``max(atol, rtol ‖f(Y)‖_F)``, as estimated from rows and
        columns that did not take part in the fit; the result is truncated to that. ``rtol`` None stands for 1e-10 in
        double and 1e-5 in single precision: some digits above roundoff, which f may have amplified. An estimate below
        50 units of roundoff counts as zero.
    max_rank : int, optional
        Bound for the rank of the result.

    Returns
    -------
    LowRank
        With orthonormal U and V and S = diag(singular values); a dense array for dense arrays. The dtype is that of the
        values of f: a complex f of a real matrix gives a complex one.

    Raises
    ------
    TypeError
        Where f returns something else than an array of that library, or of another precision; where Y is neither
        LowRank nor dense.
    ValueError
        Where f returns another shape, NaN or infinite values, or does not act entry by entry.

    Warns
    -----
    DlraWarning
        Where the tolerance is not reached with ``max_rank``, or for noise in the values of f; the text tells the
        estimated error. Also where f(Y) has no low rank and min(m, n) > 256.

    Notes
    -----
    Where half of the columns or rows would be needed, all of Y is formed and decomposed, for O(m n min(m, n)): f(Y) has
    no low rank then, and ``max_rank`` avoids it.

    Rows and columns are compared by the leverage of the factors of Y (where does Y have features?), and drawn from a
    generator with a fixed seed: the same input gives the same result. A feature of f(Y) on a few entries that no
    feature of Y hints at may be missed. On a GPU, indices are chosen on the host, to which samples are copied.

    References
    ----------
    M. Donello, G. Palkar, M. H. Naderi, D. C. Del Rey Fernández, H. Babaee, Oblique projection for scalable
    rank-adaptive reduced-order modelling of nonlinear stochastic partial differential equations with time-dependent
    bases, Proc. R. Soc. A 479 (2023) 20230320, https://doi.org/10.1098/rspa.2023.0320 (columns, then rows, by
    interpolation); M. Bebendorf, Approximation of boundary element matrices, Numer. Math. 86 (2000) 565,
    https://doi.org/10.1007/PL00005410 (adding crosses where the residual is large).

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import LowRank
    >>> from dlra._entrywise import entrywise
    >>> x = np.linspace(0, 1, 200)
    >>> Y = LowRank(np.stack([x, x**2], axis=1), None, np.stack([1 - x, x], axis=1))
    >>> Z = entrywise(np.exp, Y)
    >>> Z.rank < 12, bool(np.allclose(Z.to_dense(), np.exp(Y.to_dense()), atol=1e-9))
    (True, True)
    """
    matrices = _check_matrices((Y, *more), "entrywise")
    if rtol is not None or atol != 0 or max_rank is not None:
        linalg.check_rank_options(0.0 if rtol is None else rtol, atol, 1, max_rank)
    if not isinstance(Y, LowRank):
        return f(Y, *more)
    return _Cross(f, matrices, rtol, atol, max_rank).result()


class _Cross:
    """The approximation Q Z, Z = Q[p]⁺ f(Y)[p], of f(Y), growing by columns (in Q) and rows (p)."""

    def __init__(
        self,
        f: Callable[..., Array],
        matrices: list[LowRank],
        rtol: float | None,
        atol: float,
        max_rank: int | None,
    ):
        self.f = f
        self.matrices = [_significant(Y) for Y in matrices]
        self.shape = m, n = matrices[0].shape
        self.half = min(m, n) // 2
        unit = eps(self.matrices[0]._U)
        self.rtol = tight(self.matrices[0]._U) if rtol is None else rtol
        self.roundoff = 50 * unit
        self.atol, self.max_rank = atol, max_rank
        self.limit = self.half if max_rank is None else min(self.half, 2 * max_rank + CHECKS)
        self.pairs = [(Y._U, Y._V @ H(Y.S)) for Y in self.matrices]  # Y = left rightᴴ
        self.like: Array | None = None  # a value of f

    def result(self) -> LowRank:
        m, n = self.shape
        rng = np.random.default_rng(0)
        left = _Indices([Y._U for Y in self.matrices], rng)
        right = _Indices([Y._V for Y in self.matrices], rng)
        start = sum(_rank(Y, 0.1 * self.rtol) for Y in self.matrices) + CHECKS
        if start > self.half:
            return self._whole()
        C = self.columns(right.first(min(start, self.limit)))
        scale = norm(C)
        Q = _basis(C, scale)
        p = np.concatenate((left.pivots(H(to_host(Q)), Q.shape[1]), left.first(start // 2)))
        R = self.rows(p)
        errors: list[float] = []
        while True:
            Z = _fit(Q, p, R)
            size = norm(Z)
            goal = max(0.5 * self.atol, 0.5 * self.rtol * size, self.roundoff * size)
            # the residual on further rows, and where it is small there, on further columns
            i, weight = left.draw(CHECKS)
            sampled, values = [i], [self.rows(i)]
            E, X = [values[0] - take(Q, i, 0) @ Z], []
            error = _estimate(E[0], weight, 1)
            if error <= goal:
                j, weight = right.draw(CHECKS)
                X = [self.columns(j) - Q @ take(Z, j, 1)]
                error = _estimate(X[0], weight, 0)
                if error <= goal:
                    return self._truncated(Q, Z, error)
            errors.append(error)
            k = Q.shape[1]
            if k >= self.limit:
                break
            if (
                len(errors) > 2
                and 0.3 * errors[-3] < error < math.sqrt(eps(Z)) * size
                and self.half > WIDE // 2
            ):
                return self._truncated(Q, Z, error)  # what is left is no feature, but noise of f
            # columns where the rows show the largest residual, then rows where those columns do
            grow = min(_growth(k, error, size, goal), self.limit - k)
            if grow > CHECKS:
                sampled.append(left.draw(grow - CHECKS)[0])
                values.append(self.rows(sampled[-1]))
                E.append(values[-1] - take(Q, sampled[-1], 0) @ Z)
            residual = to_host(_joined(E, 0))
            j = right.pivots(residual, grow, 0.2 * goal * math.sqrt(residual.shape[0] / (m * n)))
            if j.size:
                X.append(self.columns(j) - Q @ take(Z, j, 1))
            if not X:
                break
            new = _joined(X, 1)
            sampled.append(left.pivots(H(to_host(new)), new.shape[1]))
            if sampled[-1].size:
                values.append(self.rows(sampled[-1]))
            p, R = np.concatenate((p, *sampled)), _joined([R, *values], 0)
            scale = max(scale, size)
            Q = _joined([Q, _basis(new, scale, Q)], 1)
            if p.size + CHECKS >= m:
                return self._whole()
        if self.limit == self.half:
            return self._whole()
        return self._truncated(Q, Z, error)

    def rows(self, i: np.ndarray) -> Array:
        """f(Y)[i, :]."""
        return self._values([take(A, i, 0) @ H(B) for A, B in self.pairs])

    def columns(self, j: np.ndarray) -> Array:
        """f(Y)[:, j]."""
        return self._values([A @ H(take(B, j, 0)) for A, B in self.pairs])

    def _values(self, blocks: list[Array]) -> Array:
        if self.like is not None:
            if 0 in blocks[0].shape:  # all rows or columns have been sampled
                return zeros(tuple(blocks[0].shape), self.like)
            return self._checked(self.f(*blocks), blocks[0])
        # the first time, a few entries are evaluated on their own as well
        rows, columns = (
            np.linspace(0, size - 1, min(4, (size + 1) // 2)).astype(int) for size in blocks[0].shape
        )
        few = [take(take(B, rows, 0), columns, 1) for B in blocks]
        values = self.like = self._checked(self.f(*blocks), blocks[0])
        alone = self._checked(self.f(*few), few[0])
        difference = norm(take(take(values, rows, 0), columns, 1) - alone)
        if not difference <= math.sqrt(eps(values)) * norm(alone):
            raise ValueError(
                "f must act entry by entry: it gives other values on some entries of a block than on the whole block "
                "(a sum, norm, mean or sort over rows or columns, or random numbers?)"
            )
        return values

    def _checked(self, values: Any, block: Array) -> Array:
        """The values of f on a block, or the error that says what is wrong with them."""
        expected = f"an array like the block it received, {kind(block)}"
        if not is_array(values):
            raise TypeError(f"f returned {kind(values)}, expected {expected}")
        if library(values) != library(block):
            raise TypeError(f"f returned an array of {library(values)}, expected one of {library(block)}")
        if tuple(values.shape) != tuple(block.shape):
            raise ValueError(
                f"f returned an array of shape {tuple(values.shape)}, expected {expected}: f must act entry by entry"
            )
        name = dtype_name(values.dtype)
        if name not in DTYPES or eps(values) != eps(block):
            raise TypeError(
                f"f returned dtype {name}, expected that of the block, {dtype_name(block.dtype)}, or its real or "
                f"complex counterpart; cast the result, or the constants in f, to it"
            )
        if self.like is not None and values.dtype != self.like.dtype:
            raise TypeError(
                f"f returned dtype {dtype_name(self.like.dtype)} for one block and {name} for another; cast to one of "
                f"them"
            )
        if not all_finite(values):
            raise ValueError(
                f"f returned NaN or infinite values for finite entries of Y, in a block of shape {tuple(block.shape)}"
            )
        return values

    def _truncated(self, Q: Array, Z: Array, error: float) -> LowRank:
        m, n = self.shape
        if Q.shape[1] == 0:
            return LowRank._make(eye(m, Z)[:, :1], zeros((1, 1), Z), eye(n, Z)[:, :1], BOTH)
        QZ, RZ = linalg.qr(H(Z))
        size = norm(RZ)
        tolerance = max(self.atol, self.rtol * size)
        theta = max(tolerance - error if error < tolerance else tolerance, eps(Z) * size)
        Y1, dropped = linalg.svd_truncate(self.matrices[0], Q, H(RZ), QZ, 0.0, theta, 1, self.max_rank)
        total = math.hypot(error, dropped)
        if total > 1.001 * max(tolerance, 1.5 * self.roundoff * size):
            self._warn(total, size, tolerance)
        return Y1

    def _whole(self) -> LowRank:
        """All of f(Y), decomposed."""
        m, n = self.shape
        A = self._values([A @ H(B) for A, B in self.pairs])
        size = norm(A)
        tolerance = max(self.atol, self.rtol * size)
        U, s, Vh = linalg.svd(A)
        rank, dropped = linalg.truncation_rank(s, 0.0, tolerance, 1, self.max_rank)
        if dropped > 1.001 * tolerance:
            self._warn(dropped, size, tolerance)
        elif self.half > WIDE // 2:
            warnings.warn(
                f"entrywise evaluated all {m} x {n} entries, since the error estimated from a part of them did not "
                f"reach the tolerance {tolerance:.1g}, for which f(Y) has rank {rank}; raise rtol or atol, or bound "
                f"max_rank",
                DlraWarning,
                stacklevel=4,
            )
        core = linalg._diagonal(namespace(A), s[:rank], A)
        return LowRank._make(U[:, :rank], core, H(Vh[:rank, :]), BOTH)

    def _warn(self, error: float, size: float, tolerance: float) -> None:
        bound, remedy = "", ""
        if self.max_rank is not None:
            bound, remedy = f" with max_rank={self.max_rank}", "max_rank, "
        warnings.warn(
            f"entrywise{bound} has an estimated error of {error:.1g} (relative {error / size if size else 0.0:.1g}), "
            f"above the tolerance {tolerance:.1g}; raise {remedy}rtol or atol",
            DlraWarning,
            stacklevel=5,
        )


class _Indices:
    """The choice of rows (or columns): those where the factors U of the matrices are extreme, and others drawn by
    their leverage among those that are left; none twice."""

    def __init__(self, factors: list[Array], rng: np.random.Generator):
        host = [to_host(U) for U in factors]
        self.U = np.concatenate(host, axis=1, dtype=np.result_type(np.float64, *host))
        self.gram = H(self.U) @ self.U  # of the rows that are left
        self.rng = rng
        self.size = self.U.shape[0]
        self.rank = min(self.U.shape)
        self.free = np.ones(self.size, dtype=bool)

    def first(self, count: int) -> np.ndarray:
        """Extreme rows of U, as many as it has columns, and others by leverage: up to ``count`` that are new."""
        chosen = self.pivots(H(self.U), min(count, self.rank))
        return np.concatenate((chosen, self.draw(count - chosen.size)[0])) if count > chosen.size else chosen

    def pivots(self, A: np.ndarray, count: int, least: float = 0.0) -> np.ndarray:
        """The first pivot columns of A that are new and add at least that much."""
        if 0 in A.shape:
            return np.zeros(0, dtype=np.intp)
        found, added = pivots(A, count)
        return self._claim(found[added >= least])

    def draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most ``count`` new indices, and the weights by which values summed over them estimate the sum over all."""
        free = np.flatnonzero(self.free)
        if count < 1 or free.size == 0:
            return np.zeros(0, dtype=np.intp), np.zeros(0)
        eigenvalues, P = np.linalg.eigh(self.gram)
        P /= np.sqrt(np.maximum(eigenvalues, 100 * eps(P) * max(float(eigenvalues[-1]), 1e-30)))
        leverage = np.square(np.abs(self.U @ P)).sum(axis=1)[free]
        p = 0.5 / free.size + 0.5 * leverage / max(float(leverage.sum()), 1e-30)
        total = np.cumsum(p)
        points = (np.arange(count) + self.rng.random(count)) * (total[-1] / count)
        drawn, times = np.unique(np.searchsorted(total[:-1], points, side="right"), return_counts=True)
        index, weight = free[drawn], times * total[-1] / (count * p[drawn])
        return self._claim(index), weight

    def _claim(self, index: np.ndarray) -> np.ndarray:
        index = index[self.free[index]]
        self.free[index] = False
        self.gram -= H(self.U[index]) @ self.U[index]
        return index


def _fit(Q: Array, p: np.ndarray, R: Array) -> Array:
    """Z for which Q[p] Z is closest to R."""
    if Q.shape[1] == 0:
        return zeros((0, R.shape[1]), R)
    W, T = linalg.qr(take(Q, p, 0))
    return namespace(T).linalg.solve(T, H(W)) @ R


def _basis(X: Array, scale: float, Q: Array | None = None) -> Array:
    """An orthonormal basis of the columns of X, less those of Q, to roundoff of ``scale``."""
    again = Q is not None and Q.shape[1] > 0
    if again:
        X = X - Q @ (H(Q) @ X)
    if scale == 0 or X.shape[1] == 0:
        return X[:, :0]
    W, T = linalg.qr(X)
    W = linalg._independent(W, T, scale)
    if (
        again and W.shape[1]
    ):  # once more at the length of one: small columns of X have lost the orthogonality to Q
        W, _ = linalg.qr(W - Q @ (H(Q) @ W))
    return W


def _estimate(E: Array, weight: np.ndarray, axis: int) -> float:
    """The Frobenius norm of a matrix of which E holds some rows (axis 1: sum along them) or columns (axis 0)."""
    if 0 in E.shape:
        return 0.0
    magnitude = np.abs(to_host(E)).astype(np.float64, copy=False)
    return math.sqrt(float(weight @ np.square(magnitude).sum(axis=axis)))


def _growth(k: int, error: float, size: float, tolerance: float) -> int:
    """How many columns to add to k, if the error goes on to decay as it did from ``size``."""
    decades, reached = (
        math.log(size / tolerance) if tolerance else math.inf,
        math.log(size / error) if size > error else 0.0,
    )
    missing = k * (1.2 * (decades + 1) / reached - 1) if reached > 0 else k
    return int(min(max(CHECKS, missing), max(k, CHECKS)))


def _joined(blocks: list[Array], axis: int) -> Array:
    return blocks[0] if len(blocks) == 1 else namespace(*blocks).concat(blocks, axis=axis)


def _rank(Y: LowRank, rtol: float) -> int:
    """How many directions of Y with a diagonal core matter to a tolerance."""
    s = np.abs(np.diagonal(to_host(Y.S)))
    return int(np.count_nonzero(s > rtol * s[0]))


def _significant(Y: LowRank) -> LowRank:
    """Y with orthonormal factors and diagonal core, without directions below roundoff."""
    if not all(all_finite(A) for A in (Y._U, Y.S, Y._V)):
        raise ValueError("Y contains NaN or infinite values")
    return linalg.truncate(Y, rtol=0.1 * eps(Y._U))[0]


def entrywise_product(
    Y: Any, Z: Any, *more: Any, rtol: float = 0.0, atol: float = 0.0, max_rank: int | None = None
) -> Any:
    """Return the entrywise product Y ∘ Z ∘ ... of low-rank matrices, truncated after each factor.

    ``Y * Z`` is exact and has rank r_Y r_Z; here the sum of the products of singular pairs, over which it runs, leaves
    out those that do not matter, and the rest is truncated.

    Parameters
    ----------
    Y, Z, *more : LowRank, shape (m, n)
        Of one shape and library. If all of them are dense arrays, the result is their product.
    rtol, atol : float
        The error of each product in the Frobenius norm is at most ``max(atol, rtol ‖Y ∘ Z‖_F)``; with 0, what lies
        below roundoff of the largest term is dropped.
    max_rank : int, optional
        Bound for the rank of each product.

    Returns
    -------
    LowRank
        With orthonormal U and V and S = diag(singular values); a dense array for dense arrays.

    Notes
    -----
    Costs O((m + n) k²), where k <= r_Y r_Z is the number of pairs kept; half as many pairs where Z is Y, the same
    object.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import LowRank
    >>> from dlra._entrywise import entrywise_product
    >>> x = np.linspace(0, 1, 50)
    >>> Y = LowRank(np.stack([x, x**2], axis=1), None, np.stack([1 - x, x], axis=1))
    >>> entrywise_product(Y, Y).rank, (Y * Y).rank
    (3, 4)
    """
    first, *others = matrices = _check_matrices((Y, Z, *more), "entrywise_product")
    linalg.check_rank_options(rtol, atol, 1, max_rank)
    if not isinstance(Y, LowRank):
        return functools.reduce(lambda A, B: A * B, matrices)
    result = _significant(first)
    for i, factor in enumerate(others):
        same = i == 0 and factor is first
        result = _product(result, result if same else _significant(factor), rtol, atol, max_rank)
    return result


def _product(Y: LowRank, Z: LowRank, rtol: float, atol: float, max_rank: int | None) -> LowRank:
    """Σ s_i t_j (u_i ∘ w_j)(v_i ∘ x_j)ᴴ for the singular value decompositions Σ s_i u_i v_iᴴ of Y and Σ t_j w_j x_jᴴ of
    Z."""
    s, t = (np.real(np.diagonal(to_host(A.S))) for A in (Y, Z))
    i, j = (index.ravel() for index in np.indices((s.size, t.size)))
    times = np.ones(i.size)
    if Z is Y:
        i, j, times = i[i <= j], j[i <= j], np.where(i == j, 1.0, 2.0)[i <= j]
    # squared norms of the columns u_i ∘ w_j and v_i ∘ x_j of all pairs, at the cost of one product each
    squares = [[np.square(np.abs(to_host(A))) for A in (B._U, B._V)] for B in (Y, Z)]
    left, right = (np.asarray(a.T @ b, dtype=np.float64)[i, j] for a, b in zip(*squares, strict=True))
    weight = times * s[i] * t[j]
    terms = np.abs(weight) * np.sqrt(left * right)
    order = np.argsort(-terms, kind="stable")
    tail = np.cumsum(terms[order][::-1])[::-1]  # tail[k]: bound for the norm of all terms from the k-th on
    unit = eps(Y._U)
    for level in (0.1 * rtol, 0.0):
        bound = max(level, unit) * float(terms.max()) + 0.1 * atol
        kept = order[: max(1, int(np.count_nonzero(tail > bound)))]
        left_out = float(tail[kept.size]) if kept.size < order.size else 0.0
        U = take(Y._U, i[kept], 1) * take(Z._U, j[kept], 1)
        V = take(Y._V, i[kept], 1) * take(Z._V, j[kept], 1)
        U = U * from_host(weight[kept][None, :].astype(s.dtype), U)
        full = LowRank._make(U, None, V).orthonormalized()
        tolerance = max(atol, rtol * full.norm())
        if left_out <= 0.5 * tolerance or level == 0.0:
            break
    return linalg.truncate(full, 0.0, max(0.0, tolerance - left_out), 1, max_rank)[0]


def _check_matrices(matrices: tuple[Any, ...], caller: str) -> list[Any]:
    """Check that the matrices are all LowRank or all dense, of one shape and library."""
    low = [isinstance(Y, LowRank) for Y in matrices]
    for Y, is_low in zip(matrices, low, strict=True):
        if isinstance(Y, LazySum):
            raise TypeError(
                f"{caller} needs the entries of its matrices, and {Y!r} is a sum known by its products only; make its "
                f"dense terms LowRank with LowRank.from_dense(A, rank=...) before adding them, or give Y.to_dense()"
            )
        if is_low and Y.ndim == 3:
            raise TypeError(
                f"{caller} takes one matrix at a time, got {kind(Y)}; for all members of a stack write "
                f"LowRankStack.stack([{caller}(..., y) for y in Y]), or give solve the plain function"
            )
        if not is_low and not (is_array(Y) and Y.ndim in (2, 3)):
            raise TypeError(
                f"{caller} takes LowRank matrices, or dense arrays of shape (m, n) only, got {kind(Y)}"
            )
    if any(low) and not all(low):
        raise TypeError(
            f"{caller} takes all matrices as LowRank or all as dense arrays, got "
            f"{' and '.join(kind(Y) for Y in matrices)}; use LowRank.from_dense(A, rank=...) or Y.to_dense()"
        )
    shapes = [tuple(Y.shape) for Y in matrices]
    if len(set(shapes)) > 1:
        raise ValueError(f"{caller} needs matrices of one shape, got {' and '.join(map(str, shapes))}")
    arrays = [any_factor(Y) if isinstance(Y, LowRank) else Y for Y in matrices]
    namespace(*arrays)
    if len({eps(a) for a in arrays if dtype_name(a.dtype) in DTYPES}) > 1:
        raise TypeError(
            f"{caller} needs matrices of one precision, got {' and '.join(dtype_name(a.dtype) for a in arrays)}; cast "
            f"with astype"
        )
    return list(matrices)
