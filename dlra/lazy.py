"""Matrices known only by their products: what a factored field may return.

A value G of a factored field is asked for ``G @ X`` and ``Gᴴ @ X`` with tall, thin X and for a few rows or
columns, never for its entries. The functions here put those questions to an array, a sparse matrix, a SciPy
``LinearOperator``, a :class:`~dlra.LowRank`, or a :class:`LazySum` of those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlra.backend import (
    Array,
    H,
    conj,
    device,
    dtype_name,
    is_array,
    is_complex,
    is_linear_operator,
    is_scalar,
    is_sparse,
    kind,
    namespace,
    product,
    promoted,
    weak,
)

__all__ = ["LazySum", "Operand", "matmul"]


class Operand:
    """Base of the matrices that are not stored entry by entry: hands operators over, and refuses to densify."""

    __slots__ = ()
    shape: tuple[int, ...]
    __array_priority__ = 1000.0

    def _apply(self, X: Array) -> Array:
        raise NotImplementedError

    def _apply_adjoint(self, X: Array) -> Array:
        raise NotImplementedError

    def _compressed(self, U: Array, V: Array) -> Array:
        return H(U) @ self._apply(V)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Take over ``array @ Y``, ``array + Y``, ``number * Y``; any other ufunc is a TypeError that says
        what to do."""
        reflected = _REFLECTED.get(ufunc)
        if reflected is not None and method == "__call__" and not kwargs and inputs[1] is self:
            return getattr(self, reflected)(inputs[0])
        if method == "__call__" and not kwargs and inputs[0] is self:
            if ufunc is np.conjugate:
                return self.conj()  # type: ignore[attr-defined]
            if ufunc is np.negative:
                return -self  # type: ignore[operator]
        self._refuse(f"np.{ufunc.__name__}")

    def __array_function__(self, function: Callable[..., Any], *_: Any) -> Any:
        """Answer ``np.shape(Y)`` and ``np.ndim(Y)``; any other function is a TypeError that says what to do."""
        if function is np.shape:
            return self.shape
        if function is np.ndim:
            return len(self.shape)
        module = getattr(function, "__module__", "").replace("numpy", "np", 1) or "np"
        known = function is np.linalg.norm and hasattr(self, "norm")
        self._refuse(f"{module}.{function.__name__}", "use Y.norm()" if known else "")

    def _refuse(self, what: str, remedy: str = "") -> Any:
        if remedy:
            raise TypeError(f"{type(self).__name__} does not support {what}: {remedy}")
        sampled = (
            "" if isinstance(self, LazySum) else "use dlra.entrywise(f, Y) for a function of each entry, "
        )
        size = " x ".join(map(str, self.shape))
        raise TypeError(
            f"{type(self).__name__} does not support {what}, which needs all {size} entries: {sampled}apply it to "
            f"Y.to_dense() (m n numbers), or give solve the plain function, without dlra.factored, which receives "
            f"the dense array"
        )

    def __iter__(self) -> Any:
        self._refuse("iteration (max, min, sum, list, ...)")

    def __pow__(self, exponent: Any) -> Any:
        self._refuse(f"** {exponent}")

    def __rtruediv__(self, other: Any) -> Any:
        self._refuse("division by it")

    def __abs__(self) -> Any:
        self._refuse("abs")

    def __bool__(self) -> Any:
        self._refuse("a truth value")

    def __float__(self) -> Any:
        self._refuse("conversion to a number")

    def __lt__(self, other: Any) -> Any:
        self._refuse("comparison")

    __rpow__ = __pow__

    def __eq__(self, other: object) -> Any:
        self._refuse("==", "compare (Y - Z).norm() with a tolerance, or identity with `is`")

    __hash__ = object.__hash__
    __le__ = __gt__ = __ge__ = __lt__
    __complex__ = __int__ = __float__


_REFLECTED: dict[Any, str] = {
    np.matmul: "__rmatmul__",
    np.add: "__radd__",
    np.subtract: "__rsub__",
    np.multiply: "__rmul__",
}


class LazySum(Operand):
    """The sum c₁G₁ + c₂G₂ + ... of matrices of different kinds, never formed.

    Arises where a field adds an array, a sparse matrix or a ``LinearOperator`` to a :class:`~dlra.LowRank`.

    Parameters
    ----------
    terms : list of (scalar, matrix)
        All of one shape (m, n); in a sum with stacks (b, m, n) a single matrix counts for each of the b.
    """

    __slots__ = ("shape", "terms")

    def __init__(self, terms: list[tuple[Any, Any]]):
        self.terms = terms
        self.shape = max((tuple(G.shape) for _, G in terms), key=len)
        for _, G in terms:  # one matrix stands for each of a stack
            if tuple(G.shape) != self.shape[-len(G.shape) :]:
                raise ValueError(f"matrices in a sum need one shape, got {self.shape} and {kind(G)}")

    @property
    def dtype(self) -> Any:
        """The dtype of the sum, as NumPy promotes those of its terms and factors."""
        names = [dtype_name(G.dtype) for _, G in self.terms]
        if any(isinstance(c, complex) or (is_array(c) and is_complex(c)) for c, _ in self.terms):
            names.append("complex64")
        wanted = np.result_type(*names)
        return next((G.dtype for _, G in self.terms if dtype_name(G.dtype) == wanted.name), wanted)

    @property
    def H(self) -> LazySum:
        """Conjugate transpose."""
        return LazySum([(_conjugate(c), adjoint(G)) for c, G in self.terms])

    @property
    def T(self) -> LazySum:
        """Transpose."""
        return LazySum([(c, G.T) for c, G in self.terms])

    def conj(self) -> LazySum:
        """Entrywise conjugate."""
        return self.H.T

    def __add__(self, other: Any) -> LazySum:
        terms = terms_of(other)
        return NotImplemented if terms is None else LazySum(self.terms + terms)

    def __radd__(self, other: Any) -> Any:
        if is_scalar(other) and other == 0:
            return self
        terms = terms_of(other)
        return NotImplemented if terms is None else LazySum(terms + self.terms)

    def __sub__(self, other: Any) -> LazySum:
        terms = terms_of(other)
        return NotImplemented if terms is None else self + LazySum(terms) * -1

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __neg__(self) -> LazySum:
        return self * -1

    def __mul__(self, c: Any) -> LazySum:
        if not is_scalar(c):
            self._refuse("entrywise products")
        return LazySum([(weak(c) * a, G) for a, G in self.terms])

    __rmul__ = __mul__

    def __truediv__(self, c: Any) -> LazySum:
        if not is_scalar(c):
            self._refuse("entrywise division")
        return self * (1 / c)

    def __matmul__(self, B: Any) -> Any:
        if getattr(B, "ndim", 2) == 1:
            return apply(self, B)
        return LazySum([(c, matmul(G, B)) for c, G in self.terms])

    def __rmatmul__(self, A: Any) -> Any:
        if getattr(A, "ndim", 2) == 1:
            return conj(apply_adjoint(self, conj(A)))
        return LazySum([(c, matmul(A, G)) for c, G in self.terms])

    def _apply(self, X: Array) -> Array:
        return _sum_of((c, apply(term, X)) for c, term in self.terms)

    def _apply_adjoint(self, X: Array) -> Array:
        return _sum_of((_conjugate(c), apply_adjoint(term, X)) for c, term in self.terms)

    def to_dense(self) -> Array:
        """Return the sum as an array (m n numbers)."""
        total = None
        for c, G in self.terms:
            term = c * dense(G)
            total = term if total is None else total + term
        return total

    def __repr__(self) -> str:
        return f"LazySum(shape={self.shape}, terms=[{', '.join(type(G).__name__ for _, G in self.terms)}])"


def terms_of(G: Any) -> list[tuple[Any, Any]] | None:
    """Return G as the terms of a :class:`LazySum`, or None where it is no matrix."""
    if isinstance(G, LazySum):
        return G.terms
    if isinstance(G, Operand) or is_sparse(G) or is_linear_operator(G) or (is_array(G) and G.ndim in (2, 3)):
        return [(1.0, G)]
    return None


def matmul(A: Any, B: Any) -> Any:
    """Return ``A @ B`` for any mix of arrays, sparse matrices, ``LinearOperator``, :class:`~dlra.LowRank` and
    sums.

    The same as ``A @ B`` wherever Python lets the two meet. SciPy's ``LinearOperator`` and array-api-strict
    refuse operands they do not know before a LowRank is asked; for those, write ``dlra.matmul(A, Y)``. On a
    dense Y it is the plain product, so that a field written with it works both ways.

    Parameters
    ----------
    A, B : matrix
        Of shapes (p, m) and (m, n).

    Returns
    -------
    LowRank where one of the two is a LowRank, LazySum where one is a LazySum, else what ``A @ B`` gives.
    """
    if isinstance(A, Operand):
        return A @ B
    if isinstance(B, Operand):
        return B.__rmatmul__(A)  # type: ignore[attr-defined]
    if is_linear_operator(A) and is_sparse(B):  # SciPy would take the sparse matrix for an array of objects
        return A @ _as_linear_operator(B)
    if is_sparse(A) and is_linear_operator(B):
        return _as_linear_operator(A) @ B
    return A @ B


def _as_linear_operator(A: Any) -> Any:
    if type(A).__module__.startswith("cupyx"):
        from cupyx.scipy.sparse.linalg import aslinearoperator  # pyright: ignore[reportMissingImports]
    else:
        from scipy.sparse.linalg import aslinearoperator
    return aslinearoperator(A)


def apply(G: Any, X: Array) -> Array:
    """Return the array G X for a tall, thin array (or vector) X."""
    if isinstance(G, Operand):
        return G._apply(X)
    return product(G, X) if is_array(G) else times(G, X)


def times(G: Any, X: Array) -> Array:
    """Return the array G X for a sparse matrix or an operator G, which may meet a stack X of shape (b, n, r)."""
    if X.ndim < 3:
        return G @ X
    xp, (b, n, r) = namespace(X), X.shape
    side_by_side = xp.reshape(xp.permute_dims(X, (1, 0, 2)), (n, b * r))
    return xp.permute_dims(xp.reshape(G @ side_by_side, (G.shape[0], b, r)), (1, 0, 2))


def apply_adjoint(G: Any, X: Array) -> Array:
    """Return the array Gᴴ X for a tall, thin array (or vector) X."""
    if isinstance(G, Operand):
        return G._apply_adjoint(X)
    if is_sparse(G):
        return (
            times(G.T, X) if G.dtype.kind != "c" else conj(times(G.T, conj(X)))
        )  # conjugates X rather than G
    if is_array(G):
        G, X = promoted(G, X)
        return H(H(X) @ G) if X.ndim > 1 else conj(conj(X) @ G)
    return times(adjoint(G), X)


def compressed(G: Any, U: Array, V: Array) -> Array:
    """Return the array UᴴGV for tall, thin arrays U and V."""
    return G._compressed(U, V) if isinstance(G, Operand) else H(U) @ apply(G, V)


def adjoint(G: Any) -> Any:
    """Return Gᴴ as a matrix of the same kind."""
    if is_array(G):
        return H(G)
    if is_sparse(G):
        return G.T.conj()
    try:
        return G.H
    except AttributeError:
        if np.dtype(getattr(G, "dtype", "complex128")).kind == "c":
            raise TypeError(
                f"a complex {type(G).__name__} in a field needs .H (its conjugate transpose)"
            ) from None
        return G.T


def rows(G: Any, indices: Array) -> Array:
    """Return the rows of G with the given indices (an integer array on the host) as an array."""
    return _sample(G, indices, 0)


def columns(G: Any, indices: Array) -> Array:
    """Return the columns of G with the given indices (an integer array on the host) as an array."""
    return _sample(G, indices, 1)


def _sample(G: Any, indices: Array, axis: int) -> Array:
    if isinstance(G, LazySum):
        return _sum_of((c, _sample(term, indices, axis)) for c, term in G.terms)
    if isinstance(G, Operand):
        return (G[indices, :] if axis == 0 else G[:, indices]).to_dense()  # type: ignore[index]
    if is_sparse(G):
        G = G.tocsr() if axis == 0 else G.tocsc()
        return (G[indices, :] if axis == 0 else G[:, indices]).toarray()
    if is_array(G):
        return take(G, indices, axis)
    m, n = G.shape
    unit = np.eye(m if axis == 0 else n, dtype=G.dtype)[:, indices]
    return H(apply_adjoint(G, unit)) if axis == 0 else apply(G, unit)


def take(A: Array, indices: Any, axis: int) -> Array:
    """Return the rows (axis 0) or columns (axis 1) of an array with the given host indices or slice."""
    if isinstance(indices, slice):
        return A[indices, ...] if axis == 0 else A[:, indices]
    if type(A) is np.ndarray:
        return A[indices, ...] if axis == 0 else A[:, indices]
    xp = namespace(A)

    index = np.asarray(indices)
    if index.dtype == bool:
        index = np.flatnonzero(index)
    return xp.take(A, xp.asarray(index, device=device(A)), axis=axis)


def dense(G: Any) -> Array:
    """Return G as an array."""
    if is_array(G):
        return G
    if is_sparse(G):
        return G.toarray()
    if isinstance(G, Operand):
        return G.to_dense()  # type: ignore[attr-defined]
    return G @ np.eye(G.shape[1], dtype=G.dtype)


def _conjugate(c: Any) -> Any:
    return conj(c) if is_array(c) else c.conjugate()


def _sum_of(weighted: Any) -> Array:
    total = None
    for c, value in weighted:
        term = value if isinstance(c, float) and c == 1.0 else c * value
        total = term if total is None else total + term
    return total
