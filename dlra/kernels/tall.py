"""Orthonormal bases of tall matrices, from products of blocks of rows that stay in cache.

A block of rows of [U₀ | X] is read, multiplied by itself, and later multiplied by a small matrix in its place: three
visits to the data, all of them matrix products. What is decided in between rests on Gram matrices, and each basis is
corrected by what its own Gram matrix was measured to be. A Cholesky factorisation serves where the part of X orthogonal
to U₀ has columns that, scaled to length one, are far from dependent; elsewhere eigenvectors separate what can be
orthonormalised at once from what is left, which goes through the same again (compare A. Stathopoulos, K. Wu, SIAM J.
Sci. Comput. 23 (2002) 2165-2182).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlra.backend import H, eps
from dlra.kernels import lapack, threads

_PRODUCT = 1_000_000
"""Multiplications in the product of a block: OpenBLAS does without copies up to there (docs/measured-thresholds.md)."""
_CACHED = 60_000
"""Most entries of a block: half of a second-level cache of a megabyte (docs/measured-thresholds.md)."""
_SUMMED = 128
"""Rows whose products are summed by BLAS, in the precision of the matrix."""
_SHARED = 1_000_000
"""Entries of a matrix from which on several threads visit it (docs/measured-thresholds.md)."""
_SHORT = 2000
"""Rows below which Householder QR is faster for nearly dependent columns (docs/measured-thresholds.md)."""
_ROUNDS = 8
_SAFE = {"f": (1e-20, 1e20), "d": (1e-200, 1e200)}
"""Bounds of ‖X‖², by precision, within which squares of what counts neither overflow nor vanish."""


_Read = Callable[[slice, int], np.ndarray]
"""Gives rows of a matrix, until it is asked for others of the same part."""


def takes(A: object, B: object = None) -> bool:
    """Whether these are NumPy arrays of one floating-point type, in the byte order of the machine."""
    if type(A) is not np.ndarray or A.dtype.char not in "fdFD" or not A.dtype.isnative:
        return False
    return B is None or (type(B) is np.ndarray and B.dtype == A.dtype)


def augmented(U0: np.ndarray, X: np.ndarray) -> np.ndarray | None:
    """[U₀ | Q] with an orthonormal basis Q of the part of X orthogonal to U₀; None where another way is better.

    Parameters
    ----------
    U0 : array, shape (m, r)
        Orthonormal columns; r may be 0.
    X : array, shape (m, k)
        r + k < m. Directions below 10 eps ‖X‖ are left out.

    Raises
    ------
    ValueError
        NaN or infinite entries.
    """
    r, k = U0.shape[1], X.shape[1]
    read = _stacked(U0, X, 0)
    gram = _measured(read, X.shape[0], r + k, k, X.dtype)
    size = _squared(gram[r:])
    low, high = _SAFE[X.dtype.char.lower()]
    if not low < size < high:
        largest = float(np.max(np.abs(X)))
        if not math.isfinite(largest):
            raise ValueError("X contains NaN or infinite values")
        if largest == 0:
            return U0
        read = _stacked(U0, X, -math.frexp(largest)[1])
        gram = _measured(read, X.shape[0], r + k, k, X.dtype)
        size = _squared(gram[r:])
    if not np.isfinite(gram).all():
        raise ValueError("U0 contains NaN or infinite values")
    smallest = 8 * eps(X) * math.sqrt(size)
    Z = np.empty((X.shape[0], r + k), dtype=X.dtype)
    count = _orthonormalized(Z, read, gram, smallest)
    if count is None:
        return None
    return Z if count == r + k else Z[:, :count].copy()  # without the memory of columns that were dropped


def product(U: np.ndarray, P: np.ndarray) -> np.ndarray:
    """U P for tall U and small P."""
    out = np.empty((U.shape[0], P.shape[1]), dtype=U.dtype)

    def visit(rows: slice, part: int) -> None:
        np.matmul(U[rows], P, out=out[rows])

    _visited(visit, *U.shape)
    return out


def inner(U: np.ndarray, X: np.ndarray) -> np.ndarray:
    """UᴴX for tall U and X, summed up in double precision."""
    if U.shape[0] != X.shape[0]:
        raise ValueError(f"UᴴX needs as many rows of U as of X, got shapes {U.shape} and {X.shape}")
    gram = _Gram(U.shape[1], X.shape[1], U.dtype)
    _visited(lambda rows, part: gram.add(part, U[rows], X[rows]), U.shape[0], max(U.shape[1], X.shape[1]))
    return gram.value.astype(U.dtype, copy=False)


def rotated(U: np.ndarray, P: np.ndarray, tolerance: float) -> np.ndarray:
    """U P for tall U and small P; Q (3 I - QᴴQ) / 2 in the place of Q = U P where ‖QᴴQ - I‖ > ``tolerance``."""
    k = P.shape[1]
    Q, gram = np.empty((U.shape[0], k), dtype=U.dtype), _Gram(k, k, U.dtype)

    def visit(rows: slice, part: int) -> None:
        block = np.matmul(U[rows], P, out=Q[rows])
        gram.add(part, block, block)

    _visited(visit, *U.shape)
    loss = gram.value - np.eye(k)
    if not math.sqrt(_norm2(loss)) <= tolerance:
        _transformed(Q, 0, np.eye(k) - 0.5 * loss, 0)
    return Q


def _orthonormalized(Z: np.ndarray, read: _Read | None, gram: np.ndarray, smallest: float) -> int | None:
    """Write [U₀ | Q] into Z, of which ``read`` gives blocks of [U₀ | X], and ``gram`` = [U₀ | X]ᴴX.

    Directions shorter than ``smallest`` are dropped. Returns how many columns of Z are the basis now; None where there
    is no way on.
    """
    done = gram.shape[0] - gram.shape[1]
    for _ in range(_ROUNDS):
        T, left = _first_factor(gram, done, smallest, eps(Z))
        if left and Z.shape[0] < _SHORT:
            return None
        new = T.shape[1] - left
        gram = _transformed(Z, done, _off_basis(gram, done, T), T.shape[1], read)
        read = None
        M, loss = _correction(gram[: done + new, :new], done)
        if not loss < 0.5:
            return None
        done += new
        P = _longer(gram[done:, new:], smallest) if left else gram[:0, :0]
        if P.shape[1]:
            gram = _transformed(Z, done - new, _blocks(M, P), P.shape[1])
        else:
            if loss > 10 * eps(Z) * math.sqrt(new):
                _transformed(Z, done - new, M, 0)
            return done
    return None


def _first_factor(gram: np.ndarray, done: int, smallest: float, unit: float) -> tuple[np.ndarray, int]:
    """T such that (I - QQᴴ) X T is orthonormal to some digits, but for so many last columns that must wait.

    Q and X are the first ``done`` and the other columns of Z; ``gram`` = ZᴴX.
    """
    A, G = gram[:done], gram[done:]
    C = G - H(A) @ A
    lengths = np.sqrt(np.real(G.diagonal()))
    if lengths.min() > smallest:
        factor = lapack.cholesky(C / np.outer(lengths, lengths))
        if factor is not None and _is_safe(*factor, lengths, smallest, unit):
            return H(factor[1]) / lengths[:, None], 0
    squares, P = np.linalg.eigh(C)
    left = int(np.count_nonzero(squares <= max(smallest**2, unit**0.8 * _squared(G))))
    return np.concatenate((P[:, left:] / np.sqrt(squares[left:]), P[:, :left]), axis=1), left


def _is_safe(L: np.ndarray, inverse: np.ndarray, lengths: np.ndarray, smallest: float, unit: float) -> bool:
    """Whether X N⁻¹ L⁻ᴴ, with N = diag(lengths), is nearly orthonormal and spans X to a few units of roundoff.

    C = N L Lᴴ N has errors of ``unit`` beside N², which the heights of columns over those before them must exceed, as
    ``smallest`` in X. Column j of the product has an error of about ``unit`` times the length of column j of L⁻ᴴ, and
    X one of that times the length of row j of LᴴN.
    """
    heights = np.real(L.diagonal())
    if heights.min() ** 2 <= 1e3 * unit or (heights * lengths).min() <= smallest:
        return False
    errors = np.sum(np.abs(inverse) ** 2, axis=1) @ np.sum(np.abs(L * lengths[:, None]) ** 2, axis=0)
    return errors <= 30.0**2 * _norm2(lengths)


def _correction(gram: np.ndarray, done: int) -> tuple[np.ndarray, float]:
    """M such that Z M is orthonormal, and how far the columns of Z beyond the first ``done`` are from that."""
    A, G = gram[:done], gram[done:]
    if G.shape[0] == 0:
        return gram, 0.0
    identity = np.eye(G.shape[0])
    loss = math.sqrt(_norm2(A) + _norm2(G - identity))
    if not loss < 0.5:
        return gram, loss
    factor = lapack.cholesky(G - H(A) @ A)
    return (gram, math.inf) if factor is None else (_off_basis(gram, done, H(factor[1])), loss)


def _off_basis(gram: np.ndarray, done: int, T: np.ndarray) -> np.ndarray:
    """M with Z M = (I - QQᴴ) X T."""
    return np.concatenate((-gram[:done] @ T, T))


def _longer(gram: np.ndarray, smallest: float) -> np.ndarray:
    """Coefficients of the combinations of columns with this Gram matrix that are longer than ``smallest``."""
    squares, P = np.linalg.eigh(gram)
    return P[:, squares > smallest**2]


def _blocks(M: np.ndarray, P: np.ndarray) -> np.ndarray:
    """The block diagonal matrix of both."""
    rows, columns = M.shape
    out = np.zeros((rows + P.shape[0], columns + P.shape[1]), dtype=M.dtype)
    out[:rows, :columns] = M
    out[rows:, columns:] = P
    return out


# ---- visits to the data


def _stacked(U0: np.ndarray, X: np.ndarray, exponent: int) -> _Read:
    """Blocks of rows of [U₀ | 2^exponent X], which is never put together as a whole."""
    r, q = U0.shape[1], U0.shape[1] + X.shape[1]

    blocks: dict[int, np.ndarray] = {}

    def read(rows: slice, part: int) -> np.ndarray:
        new = X[rows]
        if part not in blocks:  # the first block of a part is the largest
            blocks[part] = np.empty((new.shape[0], q), dtype=X.dtype)
        block = blocks[part][: new.shape[0]]
        block[:, :r] = U0[rows]
        block[:, r:] = new if exponent == 0 else _scaled(new, exponent)
        return block

    return read


def _measured(read: _Read, m: int, q: int, k: int, dtype: np.dtype) -> np.ndarray:
    """ZᴴX of an m x q matrix Z that is read in blocks, with X its last k columns."""
    gram = _Gram(q, k, dtype)

    def visit(rows: slice, part: int) -> None:
        block = read(rows, part)
        with np.errstate(over="ignore", invalid="ignore"):  # noticed by the trace
            gram.add(part, block, block[:, q - k :])

    _visited(visit, m, q)
    return gram.value


def _transformed(
    Z: np.ndarray, start: int, M: np.ndarray, measured: int, read: _Read | None = None
) -> np.ndarray:
    """Replace the columns of Z from ``start`` on by Z M; return ZᴴX for the last so many of the new ones.

    With ``read`` Z is nothing yet, and comes from there.
    """
    rows_of_M, columns = M.shape
    stop = start + columns
    M = M.astype(Z.dtype)
    gram = _Gram(stop, measured, Z.dtype)

    def visit(rows: slice, part: int) -> None:
        block = Z[rows]
        if read is None:
            block[:, start:stop] = block[:, :rows_of_M] @ M
        else:
            old = read(rows, part)
            block[:, :start] = old[:, :start]
            block[:, start:stop] = old @ M
        if measured:
            gram.add(part, block[:, :stop], block[:, stop - measured : stop])

    _visited(visit, *Z.shape)
    return gram.value


def _visited(visit: Callable[[slice, int], None], m: int, q: int) -> None:
    """Call ``visit`` with blocks of the rows of an m x q matrix, and 0, or the number of the part they belong to.

    A block is too small to be shared by threads of BLAS: where it has several, as many of Python's visit a part each.
    """
    height = 2 * _PRODUCT // q**2
    height = min(_CACHED // q, height) if height >= 96 else max(_CACHED // q, 96)
    count = threads.blas_threads()
    if count == 1 or m * q < _SHARED:
        with threads.one_thread(everything=count > 1):
            for start in range(0, m, height):
                visit(slice(start, start + height), 0)
        return
    edges = [height * (-(-m // height) * i // count) for i in range(count)] + [m]

    def visit_part(i: int) -> None:
        for start in range(edges[i], edges[i + 1], height):
            visit(slice(start, min(start + height, edges[i + 1])), i)

    threads.share(count, visit_part)


class _Gram:
    """Sums of products of blocks, for each part of the rows.

    Equal rows make rounding errors of equal sign: the products of a hundred rows are summed in double precision, and
    sums of sums in pairs, so that errors grow with the logarithm of the number of rows.
    """

    def __init__(self, rows: int, columns: int, dtype: np.dtype):
        self._shape, self._is_complex = (rows, columns), dtype.kind == "c"
        self._wide = np.dtype(np.complex128 if self._is_complex else np.float64)
        self._sums: dict[int, list[np.ndarray | None]] = {}  # of 1, 2, 4, ... blocks

    def add(self, part: int, Z: np.ndarray, X: np.ndarray) -> None:
        """Add ZᴴX (its conjugate, where the numbers are complex)."""
        X = np.conj(X) if self._is_complex else X
        count = Z.shape[0] // _SUMMED
        even = count * _SUMMED
        total = Z[even:].T @ X[even:]
        if count:
            products = np.matmul(
                Z[:even].reshape(count, _SUMMED, -1).mT, X[:even].reshape(count, _SUMMED, -1)
            )
            total = total + np.add.reduce(products, axis=0, dtype=self._wide)
        sums = self._sums.setdefault(part, [])
        for i, other in enumerate(sums):
            if other is None:
                sums[i] = total
                return
            total, sums[i] = other + total, None
        sums.append(total)

    @property
    def value(self) -> np.ndarray:
        """The sum, of parts in their order."""
        total = np.zeros(self._shape, self._wide)
        with np.errstate(over="ignore", invalid="ignore"):
            for part in sorted(self._sums):
                for one in self._sums[part]:
                    total = total if one is None else total + one
        return total.conj()


def _squared(gram: np.ndarray) -> float:
    """‖X‖² from XᴴX."""
    return float(np.trace(gram).real)


def _scaled(X: np.ndarray, exponent: int) -> np.ndarray:
    """2^exponent X."""
    if X.dtype.kind == "c":
        return np.ldexp(np.real(X), exponent) + 1j * np.ldexp(np.imag(X), exponent)
    return np.ldexp(X, exponent)


def _norm2(a: np.ndarray) -> float:
    return float(np.vdot(a, a).real)
