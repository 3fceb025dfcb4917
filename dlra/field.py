"""What F may be, and how it is asked for F(t, Y).

A user gives a plain callable of a dense array, :func:`factored` (a callable of a :class:`~dlra.LowRank`), a
:class:`~dlra.SemiLinear`, or any of the first two for a list of matrices. A :class:`Field` hides the
difference from the integrators: they hand over a tuple of members and receive a tuple of :class:`Value`.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from dlra import lazy
from dlra.backend import (
    DTYPES,
    Array,
    H,
    astype,
    dtype_name,
    is_array,
    is_linear_operator,
    is_masked,
    is_sparse,
    kind,
    library,
    namespace,
    same_dtype,
)
from dlra.errors import DlraWarning
from dlra.increments import Increments
from dlra.lowrank import LowRank, any_factor, library_of
from dlra.semilinear import SemiLinear

__all__ = ["Factored", "Field", "Value", "factored"]

Member = Any
"""A member of the state: a LowRank, or a plain array."""


class Factored:
    """A field declared with :func:`factored`; calling it calls the function."""

    def __init__(self, function: Callable[..., Any], symmetric: bool = False):
        if not callable(function):
            raise TypeError(f"factored takes a callable F(t, Y) or F(Y), got {kind(function)}")
        self.function = function
        self.symmetric = symmetric
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"factored({getattr(self.function, '__qualname__', self.function)!s})"


def factored(F: Callable[..., Any], *, symmetric: bool = False) -> Factored:
    """Declare that F works on low-rank factors. Usable as a decorator.

    Parameters
    ----------
    F : callable
        ``F(t, Y)`` or ``F(Y)`` (see :func:`dlra.solve`), called with a :class:`~dlra.LowRank` Y, shape (m,
        n), whose factors need not be orthonormal. Returns the m x n matrix F as anything that can do
        ``G @ X`` and ``G.H @ X``: a LowRank, a sparse matrix, a ``LinearOperator``, an array, or a sum of
        those, which stays lazy. For a coupled system it is called with a list and returns a list.
    symmetric : bool
        Whether F(t, Yᴴ) = F(t, Y)ᴴ. A Hermitian Y0 then stays Hermitian to the last bit, with V the very array U,
        at about half the cost, under every method that keeps symmetry (all but ProjectorSplitting, RandomizedSVD,
        GeneralizedNystrom and InterpolatoryCUR). For a coupled system it holds for every member; of a stack both
        sides are computed.

    Returns
    -------
    Factored

    Examples
    --------
    The same expression works with and without ``factored``, at cost O((m + n) r) and O(m n):

    >>> import numpy as np
    >>> from dlra import factored
    >>> A, C = np.diag([-1.0, -2.0, -3.0]), np.ones((3, 1))
    >>> F = factored(lambda t, Y: A @ Y + Y @ A.T + C @ C.T)
    """
    if isinstance(F, SemiLinear):
        raise TypeError("a SemiLinear is a field already, and works on factors: give it to solve as it is")
    return F if isinstance(F, Factored) and F.symmetric == bool(symmetric) else Factored(F, bool(symmetric))


class Value:
    """The value G = F(t, Y) for one low-rank member, known by its products.

    ``G @ X`` and ``G.H @ X`` give thin arrays in the dtype of the state, ``G.rows(i)`` and ``G.columns(j)``
    samples, and ``G.rest`` the value without the declared stiff linear part (G itself where there is none).
    """

    __slots__ = ("_exact", "dtype", "matrix")

    def __init__(self, matrix: Any, dtype: Any, exact: bool = False):
        self.matrix = matrix
        self.dtype = dtype
        self._exact = exact  # whether the matrix is known to be of this dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of G."""
        return tuple(self.matrix.shape)

    def __matmul__(self, X: Array) -> Array:
        Z = lazy.apply(self.matrix, X)
        return Z if Z.dtype == self.dtype else astype(Z, self.dtype)

    @property
    def H(self) -> _Adjoint:
        """The conjugate transpose, for ``G.H @ X``."""
        return _Adjoint(self)

    @property
    def rest(self) -> Value | None:
        """The value without the stiff linear part; None where nothing is left."""
        return self

    def compressed(self, U: Array, V: Array) -> Array:
        """UᴴGV."""
        if self._exact or same_dtype(self.matrix.dtype, self.dtype):
            return lazy.compressed(self.matrix, U, V)
        return H(U) @ (self @ V)  # in the dtype of the state from the first product on

    def rows(self, indices: Array) -> Array:
        """Rows with the given indices, as an array."""
        return self._cast(lazy.rows(self.matrix, indices))

    def columns(self, indices: Array) -> Array:
        """Columns with the given indices, as an array."""
        return self._cast(lazy.columns(self.matrix, indices))

    def _cast(self, Z: Array) -> Array:
        return Z if Z.dtype == self.dtype else astype(Z, self.dtype)


class _Adjoint:
    __slots__ = ("value",)

    def __init__(self, value: Value):
        self.value = value

    def __matmul__(self, X: Array) -> Array:
        value = self.value
        Z = lazy.apply_adjoint(value.matrix, X)
        return Z if Z.dtype == value.dtype else astype(Z, value.dtype)


class _SemiLinearValue(Value):
    """Value of a SemiLinear: the full matrix is put together only if somebody asks for it."""

    __slots__ = ("_Y", "_full", "_rest", "_semilinear")

    def __init__(self, semilinear: SemiLinear, Y: LowRank, rest: Value | None):
        self._semilinear, self._Y, self._rest, self._full = semilinear, Y, rest, None
        self.dtype, self._exact = Y.dtype, False

    @property
    def shape(self) -> tuple[int, ...]:
        return self._Y.shape

    @property
    def matrix(self) -> Any:  # type: ignore[override]
        if self._full is None:
            linear = self._semilinear.linear_part(self._Y)
            self._full = linear if self._rest is None else linear + self._rest.matrix
        return self._full

    @property
    def rest(self) -> Value | None:
        return self._rest


class CallError(Exception):
    """The user's function raised ``__cause__``. Internal."""


class Field:
    """A vector field as the integrators see it, bound to the kind of state it will be asked about.

    Parameters
    ----------
    F : callable, Factored or SemiLinear
        As given by the user.
    Ys : tuple of members
        The initial state: fixes shapes, dtype and library.
    args : tuple
        Extra arguments of F.
    system : bool
        Whether F takes and returns lists.

    Attributes
    ----------
    nfev : int
        Number of evaluations so far.
    constant_rest : bool
        Whether the field is its stiff linear part and a constant.
    increments : bool
        Whether the field knows its integrals only (:class:`dlra.Increments`).
    symmetric : tuple of bool
        Per member whether F(t, Yᴴ) = F(t, Y)ᴴ.
    linear : tuple
        Per member the pair of :class:`~dlra.semilinear.StiffOperator` or None, or () where no member has one.
    """

    def __init__(self, F: Any, Ys: tuple[Member, ...], args: tuple[Any, ...] = (), system: bool = False):
        if not isinstance(args, tuple):
            raise TypeError(
                f"args must be a tuple of extra arguments for F, got {kind(args)}; write args=(value,)"
            )
        self.F = F
        self.system = system
        self.rng: Any = None  # source of randomness for methods that draw
        self.deferred = False  # whether NaN and infinite values are noticed later, in the result of a step
        self.nfev = 0
        self.linear: tuple[Any, ...] = ()
        self.symmetric = tuple(
            bool(getattr(F, "symmetric", False)) and len(Y.shape) == 2 and Y.shape[0] == Y.shape[1]
            for Y in Ys
        )
        self._warned = False
        if isinstance(F, (SemiLinear, Increments)) and len(Ys[0].shape) == 3 and not system:
            raise TypeError(
                f"{type(F).__name__} is a field for one matrix, but Y0 is a stack of {Ys[0].shape[0]}; give a plain F "
                f"or dlra.factored(F), or solve for one member at a time"
            )
        self.increments = isinstance(F, Increments)
        if self.increments and (system or not isinstance(Ys[0], LowRank)):
            raise TypeError("Increments is a field for one matrix; Y0 must be a single LowRank")
        if isinstance(F, SemiLinear):
            if system or not isinstance(Ys[0], LowRank):
                raise TypeError("SemiLinear is a field for one matrix; Y0 must be a single LowRank")
            F.check_state(Ys[0])
            self.linear = (F.operators,)
            source = F.G
        else:
            source = F
        self._factored = isinstance(source, Factored)
        if self.increments and args:
            raise TypeError(
                "args are given, but A of Increments takes times only; use functools.partial(A, ...)"
            )
        self.constant_rest = isinstance(F, SemiLinear) and F.is_constant
        if self.constant_rest:
            if args:
                raise TypeError("args are given, but G of SemiLinear is constant and takes none")
            self._constant = None if source is None else self._admit(source, Ys[0], "G of SemiLinear")
            self._call = None
        elif not self.increments:
            self._call = bind(source, args)

    def __call__(self, t: float, Ys: tuple[Member, ...], t1: float | None = None) -> tuple[Any, ...]:
        """Evaluate at (t, Ys): a tuple with a :class:`Value` for each LowRank, an array for each array.

        ``t1``: the integral from t to t1 instead, of :class:`dlra.Increments`.
        """
        self.nfev += 1
        if t1 is not None:
            return (self._admit(_called(self.F.between, t, t1), Ys[0], "the increment of A"),)
        if isinstance(self.F, SemiLinear):
            Y = Ys[0]
            rest = (
                self._constant
                if self._call is None
                else self._admit(_called(self._call, t, self._shown(Y)), Y)
            )
            return (_SemiLinearValue(self.F, Y, rest),)
        if not self.system:
            return (self._admit(_called(self._call, t, self._shown(Ys[0])), Ys[0]),)
        values = _called(self._call, t, [self._shown(Y) for Y in Ys])
        if not isinstance(values, (list, tuple)):
            raise TypeError(
                f"F of a coupled system of {len(Ys)} members must return a list, got {kind(values)}"
            )
        if len(values) != len(Ys):
            raise ValueError(f"F returned {len(values)} matrices for a coupled system of {len(Ys)} members")
        return tuple(
            self._admit(G, Y, f"F's return value[{i}]")
            for i, (G, Y) in enumerate(zip(values, Ys, strict=True))
        )

    def _shown(self, Y: Member) -> Any:
        """Y as F wants to see it."""
        if not isinstance(Y, LowRank):
            return namespace(Y).asarray(Y, copy=True)  # F may work in place
        return Y if self._factored else Y.to_dense()

    def _admit(self, G: Any, Y: Member, name: str = "F's return value") -> Any:
        """Check what F returned for the member Y, and wrap it."""
        like = Y._U if isinstance(Y, LowRank) else Y
        if (
            isinstance(G, LowRank)
            and type(any_factor(G)) is type(like)
            and G.shape == Y.shape
            and G.dtype == like.dtype
        ):
            return Value(G, like.dtype, exact=True) if isinstance(Y, LowRank) else G.to_dense()
        if isinstance(G, (np.ndarray, np.generic)) and type(G) is not np.ndarray and not is_masked(G):
            G = np.asarray(G)  # SciPy's sparse matrices of the older kind add to arrays as an np.matrix
        self._check(G, Y, like, name)
        if is_array(G):  # a copy, because F may reuse its buffer; integers are cast
            supported = dtype_name(G.dtype) in DTYPES
            G = namespace(G).asarray(G, copy=True) if supported else astype(G, like.dtype)
        elif is_sparse(G):
            G = G.copy()  # type: ignore[union-attr]
        if isinstance(Y, LowRank):
            return Value(G, like.dtype)
        G = lazy.dense(G)
        return G if same_dtype(G.dtype, like.dtype) else astype(G, like.dtype)

    def _check(self, G: Any, Y: Member, like: Array, name: str) -> None:
        if G is None:
            raise TypeError(f"{name} is None; is a return statement missing?")
        known = is_array(G) or is_sparse(G) or is_linear_operator(G) or isinstance(G, lazy.Operand)
        if not known and (
            is_masked(G) or not (hasattr(G, "__matmul__") and hasattr(G, "shape") and hasattr(G, "dtype"))
        ):
            raise TypeError(
                f"{name} must be a matrix (array, sparse matrix, LinearOperator, LowRank or a sum of those), "
                f"got {kind(G)}"
            )
        if tuple(G.shape) != tuple(Y.shape):
            raise ValueError(f"{name} must have the shape of Y, {tuple(Y.shape)}, got {tuple(G.shape)}")
        for part in [term for _, term in G.terms] if isinstance(G, lazy.LazySum) else [G]:
            home = library_of(part, like)
            if home != library(like):
                raise TypeError(
                    f"{name} is {kind(part)} of {home}, but Y0 of {library(like)}; bring both to one library and device"
                )
        got, wanted = dtype_name(G.dtype), dtype_name(like.dtype)  # type: ignore[union-attr]
        if is_array(G) and got not in DTYPES and not got.startswith(("int", "uint", "bool", "float")):
            raise TypeError(f"{name} must hold numbers, got dtype {got}")
        if "complex" in got and "complex" not in wanted:
            raise TypeError(
                f"{name} is {got} but Y0 is {wanted}: start from a complex state, Y0.astype('complex128') "
                f"(or 'complex64')"
            )
        if got in ("float64", "complex128") and wanted in ("float32", "complex64") and not self._warned:
            self._warned = True
            warnings.warn(
                f"F returns {got} for a {wanted} Y0; its values are cast to {wanted}. Give the constants inside F the "
                f"dtype {wanted}, or start from Y0.astype('{got}')",
                DlraWarning,
                stacklevel=2,
            )


def _called(function: Any, t: float, argument: Any) -> Any:
    """Call the user's function; what it raises is marked, to tell it from complaints about what it returns."""
    try:
        return function(t, argument)
    except Exception as error:
        raise CallError from error


def bind(F: Any, args: tuple[Any, ...]) -> Callable[[float, Any], Any]:
    """Return F as a function of (t, Y), by the number of its required positional parameters."""
    function = F.function if isinstance(F, Factored) else F
    if not callable(function):
        raise TypeError(f"F must be callable, F(t, Y) or F(Y), or a dlra.SemiLinear, got {kind(function)}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return lambda t, Y: function(t, Y, *args)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    keyword_only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if keyword_only:
        raise TypeError(
            f"F must not require keyword arguments, got a function that requires {', '.join(keyword_only)}; "
            f"fix them with functools.partial(F, {keyword_only[0]}=...)"
        )
    extra = len(args)
    if variadic and required <= 2:  # *args takes what is in args
        required = extra + (required or 2)
    if required == 2 + extra:
        return (lambda t, Y: function(t, Y, *args)) if args else function
    if required == 1 + extra:
        return (lambda _, Y: function(Y, *args)) if args else (lambda _, Y: function(Y))
    shown = ", ".join(p.name for p in positional) or "nothing"
    raise TypeError(
        "F must take (t, Y) or (Y)"
        + (f" and the {extra} extra arguments in args" if extra else "")
        + f", got a function of {required} required positional arguments ({shown}); further arguments go in args=(...)"
    )


def operands_hint(error: BaseException) -> str:
    """Return a remedy for an operator that did not recognise a LowRank, or the reverse, or an empty string."""
    text = str(error)
    if isinstance(error, AttributeError) and hasattr(LowRank, error.name or ""):
        return "; a plain F receives the dense array: declare F with dlra.factored(F) to receive a LowRank"
    met = isinstance(error, (TypeError, ValueError)) and ("LowRank" in text or "LazySum" in text)
    if not met or "dlra.matmul" in text or "does not support" in text:
        return ""
    return (
        "; an operator that does not know LowRank (SciPy's LinearOperator, array-api-strict) is applied with "
        "dlra.matmul(A, Y)"
    )


def members_hint(error: BaseException) -> str:
    """Return a remedy for an array that was taken for one number, where F receives a stack, or an empty string."""
    text = str(error).lower()
    taken = ("truth value", "boolean value", "can be converted", "cannot be converted", "0 dimensions")
    if not isinstance(error, (TypeError, ValueError, RuntimeError)) or not any(
        part in text for part in taken
    ):
        return ""
    return (
        "; F receives all members of a stack at once: a norm of it, Y.norm(), has one number for each member; take "
        "Y.norm().max() for one number of all, np.where for a condition on each"
    )
