"""The only file that knows array libraries: namespace, dtype, device, transfer.

Everything else calls the functions of the `array API standard <https://data-apis.org/array-api>`_ on the
namespace returned by :func:`namespace`, which is inferred from the arrays themselves; there is no global
switch. NumPy arrays are answered by NumPy itself (which implements the standard since 2.0), the others by
``array_api_compat``.
"""

from __future__ import annotations

import cmath
import math
import sys
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any

import numpy as np

Array = Any
"""An array of a supported library."""

DTYPES = ("float32", "float64", "complex64", "complex128")
"""The supported element types."""


def namespace(*arrays: Array) -> Any:
    """Return the array API namespace shared by the given arrays (TypeError where they differ or are no arrays)."""
    for a in arrays:
        if type(a) is not np.ndarray:
            return _foreign_namespace(*arrays)
    return np


def _foreign_namespace(*arrays: Array) -> Any:
    import array_api_compat

    found = {}
    for a in arrays:
        if type(a) is np.ndarray:
            found[np] = a
        else:
            try:
                xp = array_api_compat.array_namespace(a)
            except TypeError:
                raise TypeError(
                    f"expected an array of NumPy, CuPy, PyTorch, JAX or another array API library, got {kind(a)}"
                ) from None
            found[np if xp.__name__ == "array_api_compat.numpy" else xp] = a
    if len(found) > 1:
        raise TypeError(
            "arrays of different libraries do not mix: got "
            + " and ".join(sorted(library(a) for a in found.values()))
            + "; convert them to one library first"
        )
    return next(iter(found))


def is_array(a: Any) -> bool:
    """Tell whether ``a`` is an array of a supported library (a NumPy scalar, a masked array or a list is not)."""
    if type(a) is np.ndarray:
        return True
    known = _ARRAY_TYPES.get(type(a))
    if known is None:
        import array_api_compat

        known = array_api_compat.is_array_api_obj(a) and not (isinstance(a, np.generic) or is_masked(a))
        _ARRAY_TYPES[type(a)] = known
    return known


_ARRAY_TYPES: dict[type, bool] = {np.ndarray: True}  # what the slow question has answered, by type


def is_masked(a: Any) -> bool:
    """Tell whether ``a`` is a masked array of NumPy, without importing ``numpy.ma``."""
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(a, ma.MaskedArray)


def is_sparse(a: Any) -> bool:
    """Tell whether ``a`` is a sparse matrix or array of SciPy or CuPy, without importing either."""
    for module in ("scipy.sparse", "cupyx.scipy.sparse"):
        sparse = sys.modules.get(module)
        if sparse is not None and sparse.issparse(a):
            return True
    return False


def is_linear_operator(a: Any) -> bool:
    """Tell whether ``a`` is a ``LinearOperator`` of SciPy or CuPy, without importing either."""
    for module in ("scipy.sparse.linalg", "cupyx.scipy.sparse.linalg"):
        linalg = sys.modules.get(module)
        if linalg is not None and isinstance(a, linalg.LinearOperator):
            return True
    return False


def is_scalar(a: Any) -> bool:
    """Tell whether ``a`` is a number: Python's, NumPy's, or a 0-d array of any library."""
    return isinstance(a, (int, float, complex, np.number)) or (getattr(a, "ndim", None) == 0 and is_array(a))


def weak(c: Any) -> Any:
    """Return a NumPy scalar as a Python number, which scales an array without widening its dtype."""
    return c.item() if isinstance(c, (np.generic, np.ndarray)) else c


def library(a: Array) -> str:
    """Return the name of the library of ``a``, with its device where that is not the only one."""
    name = type(a).__module__.partition(".")[0]
    name = {"jaxlib": "jax"}.get(name, name)
    return name if isinstance(a, np.ndarray) else f"{name} ({device(a)})"


def device(a: Array) -> Any:
    """Return the device of ``a``, as creation functions take it."""
    if type(a) is np.ndarray:
        return "cpu"
    import array_api_compat

    return array_api_compat.device(a)


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype of any library, e.g. ``"float32"``."""
    return _dtype_name(type(dtype), dtype)


@lru_cache(maxsize=256)
def _dtype_name(_: type, dtype: Any) -> str:
    """As above; with the type in front, dtypes of two libraries are never compared with each other."""
    name = getattr(dtype, "name", None)
    return name if isinstance(name, str) else str(dtype).rpartition(".")[2]


def is_complex(a: Array) -> bool:
    """Tell whether the elements of ``a`` are complex."""
    if type(a) is np.ndarray:
        return a.dtype.kind == "c"
    return dtype_name(a.dtype).startswith("complex")


def same_dtype(a: Any, b: Any) -> bool:
    """Tell whether two dtypes (of one library or several) are the same."""
    return a is b or a == b or dtype_name(a) == dtype_name(b)


@lru_cache(maxsize=64)
def _eps(name: str) -> float:
    return float(np.finfo(name).eps)


def eps(a: Array) -> float:
    """Return the unit roundoff spacing of the elements of ``a``."""
    return _eps(dtype_name(a.dtype))


def tight(a: Array) -> float:
    """Return the relative tolerance of approximations that shall not be noticed: 1e-10 in double, 1e-5 in single
    precision."""
    return 1e-10 if eps(a) < 1e-10 else 1e-5


def H(a: Array) -> Array:
    """Return the conjugate transpose of a matrix, or of each of a stack (the standard has no ``.mH``)."""
    if type(a) is np.ndarray:
        return a.mT.conj() if a.dtype.kind == "c" else a.mT
    return namespace(a).conj(a).mT if is_complex(a) else a.mT


def hermitian_part(a: Array) -> Array:
    """Return (a + aᴴ) / 2, Hermitian to the last bit."""
    return 0.5 * (a + H(a))


def conj(a: Array) -> Array:
    """Return the entrywise conjugate; real arrays as they are."""
    return namespace(a).conj(a) if is_complex(a) else a


def eye(n: int, like: Array) -> Array:
    """Return the n x n identity in the library, dtype and device of ``like``; one for each of a stack."""
    if type(like) is np.ndarray and like.ndim == 2:
        return np.eye(n, dtype=like.dtype)
    xp = namespace(like)
    identity = xp.eye(n, dtype=like.dtype, device=device(like))
    return identity if like.ndim == 2 else xp.broadcast_to(identity, (*like.shape[:-2], n, n))


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Return zeros in the library, dtype and device of ``like``."""
    return namespace(like).zeros(shape, dtype=like.dtype, device=device(like))


def astype(a: Array, dtype: Any) -> Array:
    """Cast ``a`` to ``dtype``, given as a dtype of its library or by name."""
    if type(a) is np.ndarray:
        return a.astype(dtype_name(dtype), copy=False)
    xp = namespace(a)
    return xp.astype(a, getattr(xp, dtype_name(dtype)), copy=False)


def promoted(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays in one dtype where their library does not promote in products by itself (PyTorch)."""
    first = arrays[0]
    if type(first) is np.ndarray or all(same_dtype(a.dtype, first.dtype) for a in arrays[1:]):
        return arrays
    dtype = namespace(*arrays).result_type(*(a.dtype for a in arrays))
    return tuple(astype(a, dtype) for a in arrays)


def product(A: Array, B: Array) -> Array:
    """Return A @ B for arrays of one library, of the same dtype or not."""
    A, B = promoted(A, B)
    return A @ B


def from_host(a: np.ndarray, like: Array) -> Array:
    """Move a host array into the library and device of ``like``, keeping its dtype."""
    if type(like) is np.ndarray:
        return a
    return namespace(like).asarray(np.ascontiguousarray(a), device=device(like))


def picked(a: Array, indices: np.ndarray) -> Array:
    """Return the entries along the first axis that have these (host) indices."""
    if type(a) is np.ndarray:
        return a[indices]
    return namespace(a).take(a, from_host(indices, a), axis=0)


def added_at(a: Array, index: Any, values: Array) -> Array:
    """Return ``a`` with ``values`` added at an index (slices); ``a`` itself is changed where its library can."""
    if hasattr(a, "at"):  # JAX
        return a.at[index].add(values)
    a[index] += values
    return a


def replaced_at(a: Array, index: Any, values: Array) -> Array:
    """Return ``a`` with other values at an index (slices); ``a`` itself is changed where its library can."""
    if hasattr(a, "at"):
        return a.at[index].set(values)
    a[index] = values
    return a


def gaussian(like: Array, columns: int, seed: tuple[int, ...]) -> Array:
    """Return a Gaussian matrix with as many rows as ``like``, in its library; the same for the same seed."""
    omega = np.random.default_rng(seed).standard_normal((like.shape[-2], columns))
    return from_host(omega.astype(dtype_name(like.dtype)), like)


def to_host(a: Array) -> np.ndarray:
    """Copy an array of any library to a NumPy array on the host."""
    if type(a) is np.ndarray:
        return a
    module = type(a).__module__.partition(".")[0]
    if module == "cupy":
        return a.get()
    if module == "torch":
        return a.detach().cpu().resolve_conj().numpy()
    try:
        return np.asarray(a)
    except RuntimeError:  # array-api-strict off its CPU device
        import array_api_strict

        return np.asarray(a.to_device(array_api_strict.Device("CPU_DEVICE")))


def scalar(a: Array) -> float:
    """Return a 0-d real array as a Python float (on a GPU this waits for the device)."""
    return float(a)


def defers(a: Array) -> bool:
    """Tell whether numbers of ``a`` are left on its device: on a GPU, reading one waits for all work before it."""
    return type(a) is not np.ndarray and _waits(a)


def _waits(a: Array) -> bool:
    """Whether reading a number of this array, of another library than NumPy, waits for a device."""
    module = type(a).__module__.partition(".")[0]
    if module == "torch":
        return a.device.type not in ("cpu", "meta")
    if module in ("jax", "jaxlib"):
        return any(place.platform != "cpu" for place in a.devices())
    return module == "cupy"


def deferred_norm(a: Array) -> Any:
    """Return :func:`norm`, as a 0-d array where ``a`` defers (then without care for squares that overflow)."""
    if not defers(a):
        return norm(a)
    xp = namespace(a)
    return xp.linalg.vector_norm(xp.reshape(a, (-1,)))


def hypot(*values: Any) -> Any:
    """Return √(Σ v²) of floats as a float, of floats and 0-d arrays as a 0-d array."""
    for v in values:
        if type(v) is not float and is_array(v):
            break
    else:
        return math.hypot(*values)
    if len(values) == 1:
        return abs(values[0])
    return namespace(v).sqrt(reduce(lambda total, square: total + square, (v * v for v in values)))


def numbers(values: Sequence[Any]) -> Sequence[float]:
    """Return floats and 0-d arrays as floats; what is on a device comes in one transfer."""
    arrays = [v for v in values if type(v) is not float and is_array(v)]
    if not arrays:
        return values
    host = iter(to_host(namespace(*arrays).stack(arrays)).tolist())
    return [next(host) if is_array(v) else v for v in values]


def together(arrays: Sequence[Any], vectors: int) -> list[Any]:
    """Return the first so many arrays, which are vectors, on the host, and the list of all other numbers as floats.

    There is one transfer for all of them.
    """
    flat = [namespace(a).reshape(a, (-1,)) for a in arrays if is_array(a)]
    if not flat:
        return [*arrays[:vectors], list(arrays[vectors:])]
    host = to_host(namespace(*flat).concat(flat))
    pieces = iter(np.split(host, np.cumsum([a.shape[0] for a in flat])[:-1]))
    found = [next(pieces) if is_array(a) else a for a in arrays]
    return [*found[:vectors], [float(v[0]) if is_array(v) else v for v in found[vectors:]]]


def all_finite(a: Array) -> bool:
    """Tell whether all elements are finite (on a GPU this waits for the device)."""
    if type(a) is np.ndarray:
        flat = a.ravel("K")
        if cmath.isfinite(np.vdot(flat, flat)):  # the common case, at a tenth of isfinite(a).all()
            return True
        return bool(np.isfinite(a).all())
    xp = namespace(a)
    return bool(xp.all(xp.isfinite(a)))


def norm(a: Array) -> float:
    """Return the Frobenius norm of a matrix (or the norm of a vector) as a Python float.

    Entries whose squares overflow or underflow are scaled first: near 1e20 or 1e-20 that happens in single
    precision already.
    """
    value = _plain_norm(a)
    if _SAFE_NORM <= value < math.inf or _smallest_norm(dtype_name(a.dtype)) <= value < math.inf:
        return value
    largest = scalar(namespace(a).max(abs(a))) if math.prod(a.shape) else 0.0
    least = tiny(dtype_name(a.dtype))
    if 0.0 < largest < least:  # a complex number over a subnormal one may be NaN
        return least * norm(a * (1 / least))
    return largest * _plain_norm(a / largest) if 0.0 < largest < math.inf else largest


_SAFE_NORM = 1e-15
"""A norm whose square is free of underflow in every precision."""


def _plain_norm(a: Array) -> float:
    if type(a) is np.ndarray:
        flat = a.ravel("K")
        return math.sqrt(np.vdot(flat, flat).real)  # unlike other products this overflows without a warning
    xp = namespace(a)
    return scalar(xp.linalg.vector_norm(xp.reshape(a, (-1,))))


@lru_cache(maxsize=64)
def tiny(name: str) -> float:
    """The smallest number that is not subnormal, a power of two."""
    return float(np.finfo(name).tiny)


@lru_cache(maxsize=64)
def _smallest_norm(name: str) -> float:
    """The smallest norm whose square is free of underflow."""
    info = np.finfo(name)
    return math.sqrt(float(info.tiny) / float(info.eps))


def norms(a: Array) -> Array:
    """Return the Frobenius norms of a stack of matrices, as an array; free of overflow and underflow."""
    xp = namespace(a)
    if xp is np:
        flat = np.reshape(a, (a.shape[0], -1))
        plain = np.sqrt(np.vecdot(flat, flat).real)
        if np.all((plain >= _smallest_norm(dtype_name(a.dtype))) & (plain < math.inf)):
            return plain
    largest = xp.max(abs(a), axis=(-2, -1))
    scale = xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones_like(largest))
    return scale * xp.linalg.matrix_norm(a / astype(scale, a.dtype)[..., None, None])


def contiguous(a: Array) -> Array:
    """Return ``a`` in C order; itself where it is so already."""
    if memory_order(a) == "C":
        return a
    xp = namespace(a)
    return xp.reshape(xp.reshape(a, (-1,)), a.shape)


def memory_order(a: Array) -> str:
    """Return "C" or "F" for the memory order of a contiguous matrix, "" for a strided view."""
    flags = getattr(a, "flags", None)
    if flags is not None and (type(a) is np.ndarray or hasattr(flags, "c_contiguous")):
        return "C" if flags.c_contiguous else "F" if flags.f_contiguous else ""
    if hasattr(a, "is_contiguous"):
        return "C" if a.is_contiguous() else "F" if a.mT.is_contiguous() else ""
    return "C"


def kind(a: Any) -> str:
    """Describe a value in an error message: its type, and shape and dtype where it has them."""
    text = type(a).__name__
    if getattr(a, "shape", None) is not None:
        text += f" of shape {tuple(a.shape)}"
    if getattr(a, "dtype", None) is not None:
        text += f" and dtype {dtype_name(a.dtype)}"
    if is_masked(a):
        text += " (its mask would be ignored: give A.filled(...), A.data or the rows that are whole)"
    return text
