"""Many matrices of one shape and rank: the state of many independent problems that are solved at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dlra import _stacks, linalg
from dlra._factors import check_dtype, check_factors, check_int, check_singular_values
from dlra.backend import (
    Array,
    H,
    all_finite,
    conj,
    device,
    dtype_name,
    gaussian,
    is_array,
    is_linear_operator,
    is_scalar,
    is_sparse,
    kind,
    namespace,
    norms,
    to_host,
)
from dlra.lazy import times
from dlra.linalg import BOTH, LEFT, RIGHT
from dlra.lowrank import LowRank, _check_product, _pick, _Sum, _unified, any_factor

__all__ = ["LowRankStack"]


class LowRankStack(LowRank):
    """Matrices Yᵢ = Uᵢ Sᵢ Vᵢᴴ, i = 0, ..., b - 1, of one shape m x n and with factors of one rank.

    The state of b independent problems that :func:`dlra.solve` advances together, with operations on whole stacks: for
    small matrices much faster than one after the other. Immutable. What :class:`LowRank` can do a stack can do for
    all its members at once, at their places; what it refuses a stack refuses.

    Parameters
    ----------
    U : array, shape (b, m, r)
        Left factors. Need not have orthonormal columns.
    S : array, shape (b, r, r), or None
        The cores; None for identities.
    V : array, shape (b, n, r)
        Right factors; note Vᴴ in the product. All three share one array library, device and dtype.

    Raises
    ------
    TypeError
        Factors that are no arrays, of several libraries, or of unsupported or different dtypes.
    ValueError
        Shapes that do not fit together, or several devices.

    Notes
    -----
    Operators, besides those of LowRank: ``Y + Z`` and ``Y * Z`` with a LowRank Z, which counts for every member;
    ``A @ Y`` and ``Y @ B`` with arrays of shape (b, ...), one matrix for each member, or one array, sparse matrix or
    ``LinearOperator`` for all (SciPy refuses ``L @ Y`` with a ``LinearOperator`` L: write ``dlra.matmul(L, Y)``);
    ``c * Y`` with an array of shape (b,) or (b, 1, 1), one number for each member, or of shape (b, m, 1) or (b, 1, n).
    ``Y[i]`` is a member, as a LowRank; ``Y[i:j]`` and ``Y[[i, j, ...]]`` are stacks.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import LowRank, LowRankStack
    >>> one, two = (LowRank.from_dense(np.eye(4, 3), rank=k) for k in (1, 2))
    >>> Y = LowRankStack.stack([one, two])
    >>> Y
    LowRankStack(shape=(2, 4, 3), rank=2, dtype=float64)
    >>> Y[0]
    LowRank(shape=(4, 3), rank=1, dtype=float64)
    >>> (np.asarray([1.0, 10.0]) * Y).norm().round(4)
    array([ 1.    , 14.1421])
    """

    __slots__ = ()

    def __init__(self, U: Array, S: Array | None, V: Array):
        check_factors(U, S, V, ndim=3)
        self._U, self._S, self._V, self._orthonormal = U, S, V, 0

    @classmethod
    def stack(cls, matrices: Sequence[LowRank]) -> LowRankStack:
        """Stack LowRank matrices of one shape, dtype and library.

        Those of lower rank than the others get zero singular values, in any orthonormal directions.

        Raises
        ------
        TypeError, ValueError
            Something else than LowRank matrices, or several shapes, dtypes, libraries or devices.
        """
        if isinstance(matrices, (LowRank, str)) or not isinstance(matrices, Sequence):
            raise TypeError(f"matrices must be a list of LowRank, got {kind(matrices)}")
        if not matrices:
            raise ValueError("matrices is empty; a stack needs at least one LowRank")
        for i, Y in enumerate(matrices):
            if not isinstance(Y, LowRank) or isinstance(Y, LowRankStack):
                raise TypeError(
                    f"matrices[{i}] must be a LowRank, got {kind(Y)}; make one with LowRank.from_dense(A, rank=...)"
                )
        first = matrices[0]
        xp = namespace(*(Y._U for Y in matrices))
        for i, Y in enumerate(matrices):
            if Y.shape != first.shape:
                raise ValueError(
                    f"matrices of a stack need one shape, got {first.shape} and matrices[{i}] of shape {Y.shape}"
                )
            if dtype_name(Y.dtype) != dtype_name(first.dtype):
                raise TypeError(
                    f"matrices of a stack need one dtype, got {dtype_name(first.dtype)} and matrices[{i}] of "
                    f"{dtype_name(Y.dtype)}; cast with astype"
                )
            if device(Y._U) != device(first._U):
                raise ValueError(
                    f"matrices of a stack need one device, got {device(first._U)} and matrices[{i}] on {device(Y._U)}"
                )
        rank = max(Y.rank for Y in matrices)
        padded = [_padded(Y, min(rank, *Y.shape)) for Y in matrices]
        factors = [xp.stack([Y.factors[k] for Y in padded]) for k in range(3)]
        known = BOTH
        for Y in padded:
            known &= Y._orthonormal
        return LowRank._make(*factors, known)  # type: ignore[return-value]

    @classmethod
    def from_svd(cls, U: Array, s: Array, Vh: Array) -> LowRankStack:
        """Build from stacked singular value decompositions, as ``np.linalg.svd(A, full_matrices=False)`` returns them.

        Parameters
        ----------
        U : array, shape (b, m, r)
        s : array, shape (b, r)
        Vh : array, shape (b, r, n)
            **Vᴴ**, not V.
        """
        for name, a, ndim in (("U", U, 3), ("s", s, 2), ("Vh", Vh, 3)):
            if not is_array(a) or a.ndim != ndim:
                raise ValueError(f"{name} must be an array of {ndim} dimensions, got {kind(a)}")
        if not U.shape[-1] == s.shape[-1] == Vh.shape[-2]:
            raise ValueError(
                f"U (b, m, r), s (b, r) and Vh (b, r, n) must share r, got {tuple(U.shape)}, {tuple(s.shape)} and "
                f"{tuple(Vh.shape)}; use svd(A, full_matrices=False) and cut all three to the rank wanted"
            )
        if not U.shape[0] == s.shape[0] == Vh.shape[0]:
            raise ValueError(f"U, s and Vh must share b, got {U.shape[0]}, {s.shape[0]} and {Vh.shape[0]}")
        check_singular_values(s, U)
        return cls(U, linalg._diagonal(namespace(s), s, U), H(Vh))

    @classmethod
    def from_dense(
        cls, A: Array, rank: int | None = None, rtol: float = 0.0, atol: float = 0.0
    ) -> LowRankStack:
        """Return the best approximations of the matrices of a dense array (truncated singular value decompositions).

        Parameters
        ----------
        A : array, shape (b, m, n)
        rank : int, optional
            Rank of the result; None for the largest that a member needs for the tolerances.
        rtol, atol : float
            Of every member drop a tail of Frobenius norm at most ``max(atol, rtol ‖Aᵢ‖_F)``.
        """
        if not is_array(A):
            raise TypeError(f"A must be a dense array, got {kind(A)}")
        if A.ndim != 3 or 0 in A.shape:
            raise ValueError(
                f"A must be a stack of matrices, shape (b, m, n), got an array of shape {tuple(A.shape)}"
            )
        check_dtype(A, "A")
        full = min(A.shape[-2:])
        if rank is not None and not 1 <= check_int(rank, "rank") <= full:
            raise ValueError(f"rank must lie between 1 and min(m, n) = {full}, got {rank}")
        linalg.check_rank_options(rtol, atol, 1, None)
        if not all_finite(A):
            xp = namespace(A)
            broken = _stacks.members(~xp.all(xp.isfinite(A), axis=(1, 2)))
            raise ValueError(f"A contains NaN or infinite values in {broken} of the stack")
        U, s, Vh = linalg.svd(A)
        exact = rank is not None and rtol == 0 and atol == 0
        keep, _ = linalg.truncation_rank(s, rtol, atol, rank if exact else 1, rank)  # type: ignore[arg-type]
        core = linalg._diagonal(namespace(A), s[..., :keep], A)
        return LowRank._make(U[..., :keep], core, H(Vh[..., :keep, :]), BOTH)  # type: ignore[return-value]

    # ---- what it is

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """``(b, m, n)``."""
        return self._U.shape[0], self._U.shape[-2], self._V.shape[-2]

    @property
    def ndim(self) -> int:
        """Number of dimensions, 3."""
        return 3

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks to which ``Y[i]`` is cut: without the rows and columns at the end of a core that are all zero."""
        if self._U.shape[-1] != self._V.shape[-1] or self._S is None:
            return (self.rank,) * len(self)
        used = to_host(self._S) != 0
        used = used.any(axis=1) | used.any(axis=2)
        return tuple(max(1, self.rank - int(np.argmax(row[::-1]))) if row.any() else 1 for row in used)

    def norm(self) -> Array:  # type: ignore[override]
        """Frobenius norms of the members, an array of shape (b,)."""
        return norms(self.orthonormalized().S)

    def __len__(self) -> int:
        """The number of members, b."""
        return self.shape[0]

    def __iter__(self) -> Iterator[LowRank]:
        """The members, in order."""
        for i, rank in enumerate(self.ranks):
            yield self._member(i, rank)

    def __getitem__(self, key: Any) -> Any:
        """``Y[i]``: a member, a LowRank cut to its own rank; with a slice or a vector of indices a stack of some."""
        if isinstance(key, tuple):
            raise IndexError(
                "a LowRankStack takes one index, that of a member; for entries of one write Y[i][j, k]"
            )
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            if not -len(self) <= key < len(self):
                raise IndexError(f"member {key} is out of range for a stack of {len(self)}")
            i = int(key) % len(self)
            return self._member(i, self[i : i + 1].ranks[0])
        U, S, V = (None if a is None else _pick(a, key, "member") for a in (self._U, self._S, self._V))
        if U.shape[0] == 0:  # type: ignore[union-attr]
            raise IndexError(f"{key!r} selects no member of a stack of {len(self)}")
        return LowRank._make(U, S, V, self._orthonormal)

    def _member(self, i: int, rank: int) -> LowRank:
        if self._S is None:
            return LowRank._make(self._U[i, ...], None, self._V[i, ...], self._orthonormal)
        S = self._S[i, ...]
        if S.shape[0] != S.shape[1]:
            return LowRank._make(self._U[i, ...], S, self._V[i, ...], self._orthonormal)
        return LowRank._make(self._U[i, :, :rank], S[:rank, :rank], self._V[i, :, :rank], self._orthonormal)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The stack itself as an object, as NumPy sees a LowRank: nothing is densified, and no member taken apart."""
        if dtype is not None and np.dtype(dtype) != np.dtype(object):
            self._refuse("conversion to an array")
        whole = np.empty((), dtype=object)
        whole[()] = self
        return whole

    # ---- algebra

    def __mul__(self, other: Any) -> LowRank:
        if not is_array(other) or is_scalar(other):
            return super().__mul__(other)
        b, m, n = self.shape
        shape = tuple(other.shape)
        if shape in ((b,), (b, 1, 1)):
            return self._scaled(namespace(other, any_factor(self)).reshape(other, (b, 1, 1)))
        if shape in ((m, 1), (b, m, 1)):
            return _unified(other * self._U, self._S, self._V, self._orthonormal & RIGHT)
        if shape in ((1, n), (b, 1, n)):
            return _unified(self._U, self._S, conj(other).mT * self._V, self._orthonormal & LEFT)
        return self._refuse(
            f"* {kind(other)} (a number, a LowRank, or an array of shape (b,) = ({b},), (b, 1, 1), (b, m, 1) or "
            f"(b, 1, n) would do)"
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> LowRank:
        if is_scalar(other):
            return super().__truediv__(other)
        if not is_array(other):
            self._refuse(f"/ {kind(other)}")
        return self * (1 / other)

    def _times(self, B: Any) -> Any:
        if is_array(B) and B.ndim == 1:
            return self._apply(B[:, None])[..., 0]
        if is_array(B):
            self._check_count(B)
            return _unified(self._U, self._S, H(H(self._V) @ B), self._orthonormal & LEFT)
        if is_sparse(B):
            return _unified(self._U, self._S, conj(times(B.T, conj(self._V))), self._orthonormal & LEFT)
        if is_linear_operator(B):
            return _unified(self._U, self._S, times(B.H, self._V), self._orthonormal & LEFT)
        return super()._times(B)

    def __rmatmul__(self, A: Any) -> Any:
        if not (is_array(A) or is_sparse(A) or is_linear_operator(A)):
            return NotImplemented
        try:
            if A.ndim == 1:
                return conj(self._apply_adjoint(conj(A)[:, None]))[..., 0]
            if is_array(A):
                self._check_count(A)
            image = A @ self._U if is_array(A) else times(A, self._U)
            return _unified(image, self._S, self._V, self._orthonormal & RIGHT)
        except Exception:
            _check_product(A, self)
            raise

    def _check_count(self, A: Array) -> None:
        """Raise where an array is neither one matrix nor one for each member."""
        if A.ndim not in (2, 3) or (A.ndim == 3 and A.shape[0] != len(self)):
            raise ValueError(
                f"a factor of a stack of {len(self)} must be one matrix or {len(self)} of them, shape (b, ., .), got "
                f"{kind(A)}"
            )


class StackSum(_Sum, LowRankStack):
    """A sum of stacks whose factors are joined when asked for."""

    __slots__ = ()


StackSum.__name__ = "LowRankStack"  # what users see in messages


def _padded(Y: LowRank, rank: int) -> LowRank:
    """Y with factors of so many columns: more with zero singular values, or, where it has too many, fewer."""
    if Y.rank == rank and Y._U.shape[1] == Y._V.shape[1]:
        return Y
    if Y.rank > rank or Y._U.shape[1] != Y._V.shape[1]:
        Y = linalg.truncate(Y, min_rank=min(rank, Y.rank), max_rank=min(rank, Y.rank))[0]
    Y = Y.orthonormalized()
    U, V = (_completed(Q, rank) for Q in (Y._U, Y._V))
    return LowRank._make(U, linalg.embed(Y.S, rank, rank), V, BOTH)


def _completed(Q: Array, rank: int) -> Array:
    """Orthonormal columns Q, and as many more that it has ``rank``."""
    attempt = 0
    while Q.shape[1] < rank:
        Q = linalg.augment(Q, gaussian(Q, rank - Q.shape[1], (attempt,)))
        attempt += 1
    return Q
