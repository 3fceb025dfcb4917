"""What several test modules share: array libraries behind one small interface, and random low-rank matrices."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from dlra import LowRank
from validation.manufactured import normal, random_orthonormal  # noqa: F401  (for the tests)

DTYPES = ("float32", "float64", "complex64", "complex128")

M, N, R = 12, 9, 3
"""The shape most tests use: JAX compiles every operation once a shape."""

LIBRARIES = ("numpy", "strict", "strict-device1", "torch", "jax", "cupy")
"""Names of the array libraries, as :func:`get_library` takes them; "strict" is array-api-strict."""


@dataclass(frozen=True)
class Library:
    """An array library and the device on which the tests use it.

    ``xp`` is its array API namespace and ``device`` what its creation functions take.
    """

    name: str
    xp: Any
    device: Any = None

    def asarray(self, a: Any, dtype: str | None = None) -> Any:
        """Copy a NumPy array (or list) to an array of the library on its device, keeping the dtype."""
        host = np.array(a, dtype=dtype)
        if self.name == "numpy":
            return host
        result = self.xp.asarray(host, device=self.device)
        assert str(result.dtype).rpartition(".")[2] == host.dtype.name, "the library changed the dtype"
        return result

    def dtype(self, name: str) -> Any:
        """The library's own dtype object of that name."""
        return getattr(self.xp, name)

    def to_numpy(self, a: Any) -> np.ndarray:
        """Copy an array of the library to NumPy."""
        return to_numpy(a)

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is an array of this library on this device."""
        import array_api_compat

        if not array_api_compat.is_array_api_obj(a):
            return False
        found = array_api_compat.array_namespace(a).__name__.removeprefix("array_api_compat.")
        here = found == self.xp.__name__.removeprefix("array_api_compat.")
        return here and (self.device is None or array_api_compat.device(a) == self.device)

    def __repr__(self) -> str:
        return self.name


@cache
def get_library(name: str) -> Library:
    """The library of that name; skips the running test where it cannot be used."""
    if name == "numpy":
        return Library(name, np)
    module = {"strict": "array_api_strict", "strict-device1": "array_api_strict"}.get(name, name)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if module == "array_api_strict":
        import array_api_strict

        device = array_api_strict.Device("device1" if name == "strict-device1" else "CPU_DEVICE")
        return Library(name, array_api_strict, device)
    if name == "torch":
        import array_api_compat.torch
        import torch

        return Library(name, array_api_compat.torch, torch.device("cpu"))
    if name == "jax":
        import jax

        return Library(name, jax.numpy, jax.devices("cpu")[0])
    if name == "cupy":
        import cupy

        if not cupy.cuda.is_available():  # the import succeeds on a machine without a GPU
            pytest.skip("no usable CUDA device")
        import array_api_compat.cupy

        return Library(name, array_api_compat.cupy, cupy.cuda.Device(0))
    raise ValueError(f"unknown library {name!r}; known are {', '.join(LIBRARIES)}")


def to_numpy(a: Any) -> np.ndarray:
    """Copy an array of any library to NumPy."""
    module = type(a).__module__.partition(".")[0]
    if module == "cupy":
        return a.get()
    if module == "torch":
        return a.detach().cpu().resolve_conj().resolve_neg().numpy().copy()
    if module == "array_api_strict":
        import array_api_strict

        return np.array(a.to_device(array_api_strict.Device("CPU_DEVICE")))
    return np.array(a)


def dense(Y: Any) -> np.ndarray:
    """Any matrix (LowRank, lazy sum, sparse, array of any library) as a dense NumPy array."""
    if isinstance(Y, LowRank):
        U, S, V = (to_numpy(a) for a in (Y.U, Y.S, Y.V))
        return U @ S @ V.conj().T
    if hasattr(Y, "to_dense") and type(Y).__module__.startswith("dlra"):
        return to_numpy(Y.to_dense())
    return Y.toarray() if hasattr(Y, "toarray") else to_numpy(Y)


def is_complex(dtype: Any) -> bool:
    return np.dtype(dtype).kind == "c"


def eps(dtype: Any) -> float:
    """Spacing of the numbers of that dtype (given by name) at 1."""
    return float(np.finfo(dtype).eps)


def random_lowrank(
    rng: np.random.Generator,
    m: int,
    n: int,
    r: int,
    dtype: Any = "float64",
    library: Library | None = None,
    decay: float = 0.5,
) -> LowRank:
    """A random m x n LowRank with orthonormal factors and a dense core of singular values ``decay**j``.

    The core is neither diagonal nor symmetric (nor real, for a complex dtype), so that no wrong transpose or
    missing conjugation stays hidden. ``library`` None is NumPy.
    """
    wide = "complex128" if is_complex(dtype) else "float64"
    P, Q = random_orthonormal(rng, r, r, wide), random_orthonormal(rng, r, r, wide)
    core = ((P * decay ** np.arange(r)) @ Q.conj().T).astype(dtype)
    library = library or get_library("numpy")
    U, V = random_orthonormal(rng, m, r, dtype), random_orthonormal(rng, n, r, dtype)
    return LowRank(library.asarray(U), library.asarray(core), library.asarray(V))


def orthonormality(Q: Any) -> float:
    """The 2-norm of QᴴQ - I, formed in double precision."""
    Q = to_numpy(Q)
    Q = Q.astype("complex128" if is_complex(Q.dtype) else "float64")
    if Q.shape[1] == 0:
        return 0.0
    return float(np.linalg.norm(Q.conj().T @ Q - np.eye(Q.shape[1]), 2))


def relative_error(a: Any, b: Any) -> float:
    """Frobenius norm of a - b over that of b, in double precision; of a where b is zero."""
    a, b = (np.asarray(dense(x)) for x in (a, b))
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape} differ"
    wide = "complex128" if is_complex(a.dtype) or is_complex(b.dtype) else "float64"
    a, b = a.astype(wide), b.astype(wide)
    scale = np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / (scale if scale > 0 else 1.0))
