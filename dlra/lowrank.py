"""The matrix type Y = U S Vᴴ."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from dlra import linalg
from dlra._factors import check_dtype, check_factors, check_int, check_singular_values
from dlra.backend import (
    DTYPES,
    Array,
    H,
    all_finite,
    astype,
    conj,
    dtype_name,
    eye,
    is_array,
    is_complex,
    is_linear_operator,
    is_scalar,
    is_sparse,
    kind,
    library,
    namespace,
    norm,
    to_host,
    weak,
)
from dlra.lazy import LazySum, Operand, take, terms_of
from dlra.linalg import BOTH, LEFT, RIGHT

__all__ = ["LowRank"]


class LowRank(Operand):
    """An m x n matrix Y = U S Vᴴ of low rank, held by its factors.

    Immutable. The algebra below is exact and costs O((m + n) r); nothing ever forms the m n entries except
    :meth:`to_dense`. There is deliberately no conversion to an array behind the caller's back: ``np.sin(Y)``,
    ``Y**3`` and the like raise a TypeError.

    Parameters
    ----------
    U : array, shape (m, r)
        Left factor. Need not have orthonormal columns (``K Vᴴ`` or a gradient are LowRank too); integrators
        return orthonormal U and V.
    S : array, shape (r, r), or None
        The core; None for the identity, Y = U Vᴴ. Rectangular (r₁, r₂) where U and V have r₁ and r₂ columns.
    V : array, shape (n, r)
        Right factor. Note Vᴴ in the product: for NumPy's ``U, s, Vh = np.linalg.svd(A)`` use
        :meth:`from_svd`. All three share one array library, device and dtype (float32, float64, complex64
        or complex128).

    Raises
    ------
    TypeError
        Factors that are no arrays, of several libraries, or of unsupported or different dtypes.
    ValueError
        Shapes that do not fit together, or several devices.

    Notes
    -----
    Operators: ``+ -`` between LowRank (ranks add up; see :meth:`truncate`), ``*`` with a number, ``A @ Y``
    and ``Y @ B`` with arrays, sparse matrices, ``LinearOperator`` (through :func:`dlra.matmul`) and LowRank,
    all LowRank again; ``Y @ x`` with a vector is a vector. ``Y + A`` with an array, sparse matrix or
    ``LinearOperator`` is a lazy sum. ``Y * Z`` is the entrywise product with a LowRank, exact, of rank r_Y
    r_Z (truncate it); ``Y * x`` with an array of shape (m, 1) or (1, n) scales the rows or columns.
    ``Y[i, j]`` takes slices, integer or boolean index arrays (LowRank), or integers.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import LowRank
    >>> A = np.outer(np.arange(4.0), np.ones(3))
    >>> Y = LowRank.from_svd(*np.linalg.svd(A, full_matrices=False)).truncate(rtol=1e-12)
    >>> Y
    LowRank(shape=(4, 3), rank=1, dtype=float64)
    >>> np.allclose((2 * Y - Y @ np.eye(3)).to_dense(), A)
    True
    """

    __slots__ = ("_S", "_U", "_V", "_orthonormal")
    _U: Array
    _S: Array | None
    _V: Array
    _orthonormal: int

    def __init__(self, U: Array, S: Array | None, V: Array):
        check_factors(U, S, V)
        self._U, self._S, self._V, self._orthonormal = U, S, V, 0

    @staticmethod
    def _make(U: Array, S: Array | None, V: Array, orthonormal: int = 0) -> LowRank:
        """Wrap factors that are known to fit, without checks; ``orthonormal`` is 0, LEFT, RIGHT or BOTH."""
        self = object.__new__(LowRank if U.ndim == 2 else _stack_module().LowRankStack)
        self._U, self._S, self._V, self._orthonormal = U, S, V, orthonormal
        return self

    def __reduce__(self) -> Any:
        return _rebuild, (self._U, self._S, self._V, self._orthonormal)

    @classmethod
    def from_svd(cls, U: Array, s: Array, Vh: Array) -> LowRank:
        """Build from a singular value decomposition as ``np.linalg.svd(A, full_matrices=False)`` returns it.

        Parameters
        ----------
        U : array, shape (m, r)
        s : array, shape (r,)
            Singular values.
        Vh : array, shape (r, n)
            **Vᴴ**, not V: svd returns the conjugate transpose. With square factors, passing it as V to the
            constructor would be silently wrong.

        Returns
        -------
        LowRank
        """
        if not is_array(s) or s.ndim != 1:
            raise ValueError(f"s must be the vector of singular values, shape (r,), got {kind(s)}")
        if not is_array(Vh) or Vh.ndim != 2 or Vh.shape[0] != s.shape[0]:
            raise ValueError(
                f"Vh must have shape (r, n) with r = {s.shape[0]} singular values, got {kind(Vh)}; "
                f"use svd(A, full_matrices=False) and cut all three to the rank wanted"
            )
        if not is_array(U) or U.ndim != 2 or U.shape[1] != s.shape[0]:
            raise ValueError(f"U must have shape (m, r) with r = {s.shape[0]} singular values, got {kind(U)}")
        check_singular_values(s, U)
        return cls(U, linalg._diagonal(namespace(s), s, U), H(Vh))

    @classmethod
    def from_dense(cls, A: Array, rank: int | None = None, rtol: float = 0.0, atol: float = 0.0) -> LowRank:
        """Return the best approximation of a dense array (truncated singular value decomposition).

        Parameters
        ----------
        A : array, shape (m, n)
        rank : int, optional
            Rank of the result; None for the rank that the tolerances give.
        rtol, atol : float
            Drop the largest tail of Frobenius norm at most ``max(atol, rtol ‖A‖_F)``.

        Returns
        -------
        LowRank
            With orthonormal U, V and diagonal S.
        """
        if not is_array(A):
            raise TypeError(f"A must be a dense array, got {kind(A)}")
        if A.ndim != 2:
            raise ValueError(f"A must be a matrix, got an array of shape {tuple(A.shape)}")
        check_dtype(A, "A")
        if rank is not None and not 1 <= check_int(rank, "rank") <= min(A.shape):
            raise ValueError(f"rank must lie between 1 and min(m, n) = {min(A.shape)}, got {rank}")
        linalg.check_rank_options(rtol, atol, 1, None)
        if not all_finite(A):
            raise ValueError("A contains NaN or infinite values")
        U, s, Vh = linalg.svd(A)
        if rank is not None and rtol == 0 and atol == 0:
            keep = rank
        else:
            keep, _ = linalg.truncation_rank(s, rtol, atol, 1, rank)
        core = linalg._diagonal(namespace(A), s[:keep], A)
        return cls._make(U[:, :keep], core, H(Vh[:keep, :]), BOTH)

    # ---- what it is

    @property
    def U(self) -> Array:
        """Left factor, shape (m, r)."""
        return self._U

    @property
    def S(self) -> Array:
        """Core, shape (r, r); the identity where it was given as None."""
        return eye(self._U.shape[-1], self._U) if self._S is None else self._S

    @property
    def V(self) -> Array:
        """Right factor, shape (n, r); Y = U S Vᴴ."""
        return self._V

    @property
    def factors(self) -> tuple[Array, Array, Array]:
        """``(U, S, V)``."""
        return self._U, self.S, self._V

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """``(m, n)``."""
        return self._U.shape[0], self._V.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions, 2."""
        return 2

    @property
    def rank(self) -> int:
        """Number of columns of the factors (the smaller of the two for a rectangular core), an upper bound of
        the rank."""
        return min(self._U.shape[-1], self._V.shape[-1])

    @property
    def dtype(self) -> Any:
        """Element type, a dtype of the array library."""
        return self._U.dtype

    @property
    def T(self) -> LowRank:
        """Transpose (without conjugation)."""
        S = None if self._S is None else self._S.mT
        return LowRank._make(conj(self._V), S, conj(self._U), _SWAPPED[self._orthonormal])

    @property
    def H(self) -> LowRank:
        """Conjugate transpose."""
        S = None if self._S is None else H(self._S)
        return LowRank._make(self._V, S, self._U, _SWAPPED[self._orthonormal])

    def conj(self) -> LowRank:
        """Entrywise conjugate."""
        S = None if self._S is None else conj(self._S)
        return LowRank._make(conj(self._U), S, conj(self._V), self._orthonormal)

    def astype(self, dtype: Any) -> LowRank:
        """Cast the factors to ``dtype`` (a name such as ``"complex128"``, or a dtype of the library)."""
        if (
            dtype_name(np.dtype(dtype) if isinstance(dtype, type) else dtype) not in DTYPES
            and dtype not in DTYPES
        ):
            raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        name = (
            dtype
            if isinstance(dtype, str)
            else dtype_name(np.dtype(dtype) if isinstance(dtype, type) else dtype)
        )
        if dtype_name(self.dtype) == name:
            return self
        if "complex" in dtype_name(self.dtype) and "complex" not in name:
            raise TypeError(
                f"a {dtype_name(self.dtype)} LowRank does not cast to {name}: the imaginary part would be lost"
            )
        S = None if self._S is None else astype(self._S, name)
        return LowRank._make(astype(self._U, name), S, astype(self._V, name))

    def to_dense(self) -> Array:
        """Return the array U S Vᴴ (m n numbers)."""
        left, right = self._U, H(self._V)
        if self._S is None:
            return left @ right
        return (left @ self._S) @ right

    def norm(self) -> float:
        """Frobenius norm, from the factors."""
        return norm(self.orthonormalized().S)

    def singular_values(self) -> Array:
        """All ``min(m, n, rank)`` possibly nonzero singular values, descending."""
        return linalg.svdvals(self.orthonormalized().S)

    def orthonormalized(self) -> LowRank:
        """Return the same matrix with orthonormal U and V (itself where they are known to be so)."""
        if self._orthonormal == BOTH:
            return self
        QU, RU = linalg.qr(self._U)
        QV, RV = linalg.qr(self._V)
        left = RU if self._S is None else RU @ self._S
        return LowRank._make(QU, left @ H(RV), QV, BOTH)

    def truncate(
        self, rtol: float = 0.0, atol: float = 0.0, min_rank: int = 1, max_rank: int | None = None
    ) -> LowRank:
        """Return the truncated singular value decomposition: orthonormal U, V, diagonal S.

        Drops the largest tail of singular values whose Frobenius norm is at most ``max(atol, rtol ‖Y‖_F)``,
        keeps at most ``max_rank`` and never fewer than ``min_rank``. See :func:`dlra.linalg.truncate`, which
        also returns the error.
        """
        return linalg.truncate(self, rtol, atol, min_rank, max_rank)[0]

    # ---- algebra

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, LowRank):
            return self._lazy_sum(other, "+")
        shape = self.shape
        if other.shape != shape:
            if self.ndim != other.ndim:
                return _repeated(self, other) + _repeated(other, self)
            raise ValueError(f"LowRank matrices in a sum need one shape, got {shape} and {other.shape}")
        terms = [*self._terms] if isinstance(self, _Sum) else [self]
        if isinstance(other, _Sum):
            terms += other._terms
        else:
            terms.append(other)
        first, last = terms[0]._U, terms[-1]._U
        if not (type(first) is type(last) is np.ndarray):
            namespace(first, last)
        return _Sum.of(terms, shape)

    def __radd__(self, other: Any) -> Any:
        if is_scalar(other) and other == 0:  # the start value of sum()
            return self
        return self._lazy_sum(other, "+")

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, LowRank):
            return self + (-other)
        return self._lazy_sum(other, "-")

    def __rsub__(self, other: Any) -> Any:
        return (-self).__radd__(other)

    def _lazy_sum(self, other: Any, sign: str) -> Any:
        if is_scalar(other) and other == 0:
            return self
        terms = terms_of(other)
        if terms is None:
            if is_scalar(other):
                self._refuse(f"{sign} a number")
            return NotImplemented
        total = LazySum(terms)
        return LazySum([(1.0, self)]) + (total if sign == "+" else -total)

    def __neg__(self) -> LowRank:
        return self._scaled(-1.0)

    def __pos__(self) -> LowRank:
        return self

    def __mul__(self, other: Any) -> LowRank:
        if is_scalar(other):
            return self._scaled(weak(other))
        if isinstance(other, LowRank):
            return _entrywise_product(self, other)
        m, n = self.shape[-2:]
        if is_array(other) and tuple(other.shape) == (m, 1):
            return _unified(other * self._U, self._S, self._V, self._orthonormal & RIGHT)
        if is_array(other) and tuple(other.shape) == (1, n):
            return _unified(self._U, self._S, conj(other).mT * self._V, self._orthonormal & LEFT)
        return self._refuse(
            f"* {kind(other)} (a number, a LowRank, or an array of shape (m, 1) or (1, n) would do)"
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> LowRank:
        if not is_scalar(other):
            self._refuse(f"/ {kind(other)}")
        return self._scaled(1 / weak(other))

    def _scaled(self, c: Any) -> LowRank:
        if self._S is None:
            return _unified(c * self._U, None, self._V, self._orthonormal & RIGHT)
        core = c * self._S
        if core.dtype == self._U.dtype:
            return LowRank._make(self._U, core, self._V, self._orthonormal)
        return _unified(self._U, core, self._V)

    def __matmul__(self, B: Any) -> Any:
        if isinstance(B, LazySum):
            return B.__rmatmul__(self)
        try:
            return self._times(B)
        except Exception:
            _check_product(self, B)
            raise

    def _times(self, B: Any) -> Any:
        if isinstance(B, LowRank):
            if B.ndim != self.ndim:
                return _repeated(self, B) @ _repeated(B, self)
            core = H(self._V) @ B._U
            core = core if self._S is None else self._S @ core
            return _unified(self._U, core if B._S is None else core @ B._S, B._V)
        if type(B) is np.ndarray or is_array(B):
            if B.ndim != 2:
                return self._apply(B) if B.ndim == 1 else self._refuse(f"@ {kind(B)}")
            right = H(H(self._V) @ B) if is_complex(B) else linalg.times(B.mT, self._V)
            return _unified(self._U, self._S, right, self._orthonormal & LEFT)
        if is_sparse(B):
            return _unified(self._U, self._S, conj(B.T @ conj(self._V)), self._orthonormal & LEFT)
        if is_linear_operator(B):
            return _unified(self._U, self._S, B.H @ self._V, self._orthonormal & LEFT)
        return NotImplemented

    def __rmatmul__(self, A: Any) -> Any:
        if not (type(A) is np.ndarray or is_array(A) or is_sparse(A) or is_linear_operator(A)):
            return NotImplemented
        try:
            if A.ndim != 2:
                return conj(self._apply_adjoint(conj(A))) if A.ndim == 1 else self._refuse(f"{kind(A)} @ it")
            return _unified(linalg.times(A, self._U), self._S, self._V, self._orthonormal & RIGHT)
        except Exception:
            _check_product(A, self)
            raise

    def __getitem__(self, key: Any) -> Any:
        """Rows and columns: ``Y[i]``, ``Y[i, j]`` with slices, index arrays (LowRank) or integers (arrays)."""
        if isinstance(key, tuple) and len(key) != 2:
            raise IndexError(f"a LowRank takes one or two indices, Y[i] or Y[i, j], got {len(key)}")
        i, j = key if isinstance(key, tuple) else (key, slice(None))
        integer = [isinstance(index, (int, np.integer)) for index in (i, j)]
        picked = LowRank._make(_pick(self._U, i, "row"), self._S, _pick(self._V, j, "column"))
        if not any(integer):
            return picked
        entries = picked.to_dense()
        return entries[0, 0] if all(integer) else entries[0, :] if integer[0] else entries[:, 0]

    # ---- products with thin arrays, as integrators ask for them

    def _apply(self, X: Array) -> Array:
        if X is self._V and self._orthonormal & RIGHT:  # VᴴV = I: the K- and S-equations ask for exactly this
            return self._U if self._S is None else linalg.times(self._U, self._S)
        inner = linalg.inner(self._V, X)
        return linalg.times(self._U, inner if self._S is None else linalg.times(self._S, inner))

    def _apply_adjoint(self, X: Array) -> Array:
        if X is self._U and self._orthonormal & LEFT:  # UᴴU = I: the L-equation asks for exactly this
            return self._V if self._S is None else linalg.times(self._V, H(self._S))
        inner = linalg.inner(self._U, X)
        return linalg.times(self._V, inner if self._S is None else linalg.inner(self._S, inner))

    def _compressed(self, U: Array, V: Array) -> Array:
        left = None if U is self._U and self._orthonormal & LEFT else linalg.inner(U, self._U)
        right = None if V is self._V and self._orthonormal & RIGHT else linalg.inner(self._V, V)
        core = self._S if left is None or self._S is None else linalg.times(left, self._S)
        core = left if core is None else core
        if core is None:
            return eye(U.shape[-1], U) if right is None else right
        return core if right is None else linalg.times(core, right)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, rank={self.rank}, dtype={dtype_name(self.dtype)})"


_SWAPPED = (0, RIGHT, LEFT, BOTH)


def _rebuild(U: Array, S: Array | None, V: Array, orthonormal: int) -> LowRank:
    return LowRank._make(U, S, V, orthonormal)


def _unified(U: Array, S: Array | None, V: Array, orthonormal: int = 0) -> LowRank:
    """Wrap factors whose dtypes may differ after a product with an operator of another dtype."""
    if type(U) is not type(V):
        namespace(U, V)  # an operator of another library, which took the factor over
    dtype = U.dtype
    if V.dtype == dtype and (S is None or S.dtype == dtype):
        return LowRank._make(U, S, V, orthonormal)
    xp = namespace(U)
    dtype = functools.reduce(xp.result_type, [a.dtype for a in (U, S, V) if a is not None])
    if dtype_name(dtype) not in DTYPES:
        raise TypeError(
            f"a result of dtype {dtype_name(dtype)} is not supported, only {', '.join(DTYPES[:-1])} and {DTYPES[-1]}; "
            f"cast the other operand with astype"
        )
    return LowRank._make(
        astype(U, dtype), None if S is None else astype(S, dtype), astype(V, dtype), orthonormal
    )


class _Sum(LowRank):
    """A sum of LowRank whose factors [U₁ U₂ ...], diag(S₁, S₂, ...), [V₁ V₂ ...] are joined when asked for.

    Fields are sums, and integrators only ask for their products with thin arrays, which are cheaper term by term.
    """

    __slots__ = ("_factors", "_shape", "_terms")
    _factors: LowRank | None
    _shape: tuple[int, ...]
    _terms: list[LowRank]

    @staticmethod
    def of(terms: list[LowRank], shape: tuple[int, ...]) -> _Sum:
        """The sum of terms of this shape."""
        self = object.__new__(_Sum if len(shape) == 2 else _stack_module().StackSum)
        self._terms = terms
        self._shape = shape
        self._factors = None
        return self

    def _joined(self) -> LowRank:
        if self._factors is None:
            terms = self._terms
            xp = namespace(*(Y._U for Y in terms))
            core = None
            if any(Y._S is not None for Y in terms):
                core = functools.reduce(linalg.block_diagonal, [Y.S for Y in terms])
            U, V = xp.concat([Y._U for Y in terms], axis=-1), xp.concat([Y._V for Y in terms], axis=-1)
            self._factors = _unified(U, core, V)
        return self._factors

    _U = property(lambda self: self._joined()._U)  # type: ignore[assignment]
    _S = property(lambda self: self._joined()._S)  # type: ignore[assignment]
    _V = property(lambda self: self._joined()._V)  # type: ignore[assignment]
    _orthonormal = property(lambda self: 0)  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self._shape

    @property
    def dtype(self) -> Any:
        first = self._terms[0]._U.dtype
        for Y in self._terms[1:]:
            if Y._U.dtype != first:
                return self._U.dtype
        return first

    def _scaled(self, c: Any) -> LowRank:
        return _Sum.of([Y._scaled(c) for Y in self._terms], self._shape)

    def __rmatmul__(self, A: Any) -> Any:
        products = [Y.__rmatmul__(A) for Y in self._terms]
        return NotImplemented if products[0] is NotImplemented else _total(products)

    def __matmul__(self, B: Any) -> Any:
        return _total([Y @ B for Y in self._terms])

    def _apply(self, X: Array) -> Array:
        total = self._terms[0]._apply(X)
        for Y in self._terms[1:]:
            total = total + Y._apply(X)
        return total

    def _apply_adjoint(self, X: Array) -> Array:
        total = self._terms[0]._apply_adjoint(X)
        for Y in self._terms[1:]:
            total = total + Y._apply_adjoint(X)
        return total

    def _compressed(self, U: Array, V: Array) -> Array:
        total = self._terms[0]._compressed(U, V)
        for Y in self._terms[1:]:
            total = total + Y._compressed(U, V)
        return total


_Sum.__name__ = "LowRank"  # what users see in messages


def _stack_module() -> Any:
    """The module of the classes whose factors have three dimensions."""
    from dlra import stack

    return stack


def _total(terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _repeated(Y: LowRank, like: LowRank) -> LowRank:
    """Y itself, or where ``like`` is a stack and Y is not, a stack with Y at each place."""
    if like.ndim <= Y.ndim:
        return Y
    xp, b = namespace(Y._U), like.shape[0]
    U, S, V = (None if a is None else xp.broadcast_to(a, (b, *a.shape)) for a in (Y._U, Y._S, Y._V))
    return LowRank._make(U, S, V, Y._orthonormal)


def any_factor(Y: LowRank) -> Array:
    """Return one of the factors of Y, without joining those of a sum."""
    return Y._terms[0]._U if isinstance(Y, _Sum) else Y._U


def library_of(G: Any, like: Array) -> str:
    """Name the library and device of a matrix, as :func:`dlra.backend.library` does; a matrix of an unknown kind
    passes for one of ``like``."""
    if isinstance(G, LowRank):
        return library(any_factor(G))
    if is_array(G):
        return library(G)
    if is_sparse(G) or is_linear_operator(G):
        home = "cupy" if type(G).__module__.startswith("cupy") else "numpy"
        return library(like) if home == library(like).partition(" ")[0] else home
    return library(like)


def _entrywise_product(Y: LowRank, Z: LowRank) -> LowRank:
    """(U_Y S_Y V_Yᴴ) ∘ (U_Z S_Z V_Zᴴ) = (U_Y ⊙ U_Z)(S_Y ⊗ S_Z)(V_Y ⊙ V_Z)ᴴ with row-wise Kronecker products ⊙."""
    Y, Z = _repeated(Y, Z), _repeated(Z, Y)
    if Y.shape != Z.shape:
        raise ValueError(
            f"LowRank matrices in an entrywise product need one shape, got {Y.shape} and {Z.shape}"
        )
    xp = namespace(Y._U, Z._U)

    def rowwise(A: Array, B: Array) -> Array:
        return xp.reshape(A[..., :, None] * B[..., None, :], (*A.shape[:-1], A.shape[-1] * B.shape[-1]))

    core = None
    if Y._S is not None or Z._S is not None:
        SY, SZ = Y.S, Z.S
        core = xp.reshape(
            SY[..., :, None, :, None] * SZ[..., None, :, None, :],
            (*SY.shape[:-2], SY.shape[-2] * SZ.shape[-2], SY.shape[-1] * SZ.shape[-1]),
        )
    return _unified(rowwise(Y._U, Z._U), core, rowwise(Y._V, Z._V))


def _pick(factor: Array, index: Any, name: str) -> Array:
    size = factor.shape[0]
    if isinstance(index, slice):
        start, stop, step = index.indices(size)
        if step > 0:
            return factor[start : max(start, stop) : step, ...]
        return take(factor, np.arange(start, stop, step), 0)  # PyTorch has no negative steps
    if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
        if not -size <= index < size:
            raise IndexError(f"{name} {index} is out of range for {size} {name}s")
        start = int(index) % size
        return factor[start : start + 1, ...]
    indices = to_host(index) if is_array(index) else np.asarray(index)
    if indices.ndim != 1 or indices.dtype.kind not in "iub":
        raise TypeError(f"a {name} index must be an int, a slice or a vector of ints or bools, got {index!r}")
    if indices.dtype.kind == "b":
        if indices.shape[0] != size:
            raise IndexError(
                f"a boolean {name} index needs one value for each of {size} {name}s, got {indices.shape[0]}"
            )
        return take(factor, np.flatnonzero(indices), 0)
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise IndexError(
            f"{name} indices from {indices.min()} to {indices.max()} are out of range for {size} {name}s"
        )
    return take(factor, indices % size, 0)


def _check_product(A: Any, B: Any) -> None:
    """Raise the error that says why A @ B failed, where it is known."""
    a, b = getattr(A, "shape", None), getattr(B, "shape", None)
    if a and b and a[-1] != (b[-2] if len(b) > 1 else b[0]):
        raise ValueError(f"shapes do not fit in a product: {kind(A)} @ {kind(B)}")
    arrays = [any_factor(G) if isinstance(G, LowRank) else G for G in (A, B)]
    xp = namespace(*(a for a in arrays if is_array(a)))
    if any(is_sparse(a) for a in arrays) and xp is not np and not xp.__name__.endswith("cupy"):
        raise TypeError(
            f"SciPy's sparse matrices multiply NumPy arrays only, got {kind(A)} @ {kind(B)}; convert the sparse matrix "
            f"to a dense array of the library of the LowRank"
        )
