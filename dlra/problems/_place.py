"""Where a problem lives: array library, dtype and device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from dlra.backend import Array, dtype_name

_REAL = ("float32", "float64")
_COMPLEX = ("complex64", "complex128")
_BACKENDS = {
    "numpy": "numpy",
    "cupy": "array_api_compat.cupy",
    "torch": "array_api_compat.torch",
    "jax": "jax.numpy",
}


@dataclass(frozen=True)
class Place:
    """An array library, a dtype (by name) and a device; moves data from the host there."""

    xp: Any
    dtype: str
    device: Any = None

    @property
    def library(self) -> str:
        """Name of the array library."""
        name = self.xp.__name__
        return name.removeprefix("array_api_compat.").partition(".")[0]

    def array(self, a: Any) -> Array:
        """Move a host array there, cast to the dtype."""
        host = np.array(a, dtype=self.dtype, order="C")
        if self.xp is np:
            return host
        moved = self.xp.asarray(host, device=self.device)
        if dtype_name(moved.dtype) != self.dtype:
            hint = (
                '; call jax.config.update("jax_enable_x64", True) first, or ask for dtype="float32" (or "complex64")'
                if self.xp.__name__.startswith("jax")
                else ""
            )
            raise ValueError(f"{self.xp.__name__} made {dtype_name(moved.dtype)} of {self.dtype}{hint}")
        return moved

    def matrix(self, a: Any) -> Any:
        """Move a SciPy sparse array there: CSR on NumPy and CuPy, a dense array on the other libraries."""
        if self.xp is np:
            return a.tocsr().astype(self.dtype)
        if self.xp.__name__ == "array_api_compat.cupy":
            from cupyx.scipy.sparse import csr_matrix  # pyright: ignore[reportMissingImports]

            with self._cupy_device():
                return csr_matrix(a.tocsr().astype(self.dtype))
        return self.array(a.toarray())

    def _cupy_device(self) -> Any:
        import cupy  # pyright: ignore[reportMissingImports]

        return self.device if self.device is not None else cupy.cuda.Device()


def place(name: str, backend: Any, dtype: Any, device: Any, *, complex_valued: bool = False) -> Place:
    """Resolve the arguments ``backend``, ``dtype`` and ``device`` of the problem ``name``."""
    allowed = _COMPLEX if complex_valued else _REAL
    kind = "complex" if complex_valued else "real"
    if dtype is None:
        wanted = allowed[1]
    else:
        wanted = np.dtype(dtype).name if isinstance(dtype, type) else dtype
        wanted = wanted if isinstance(wanted, str) else dtype_name(wanted)
        if wanted not in allowed:
            raise ValueError(
                f"{name} is {kind}: dtype must be {allowed[0]!r} or {allowed[1]!r}, got {dtype!r}"
            )
    xp = _namespace(backend)
    return Place(xp, wanted, _device(xp, device))


def _namespace(backend: Any) -> Any:
    import importlib

    if isinstance(backend, ModuleType) or (not isinstance(backend, str) and hasattr(backend, "asarray")):
        if backend.__name__ in _BACKENDS:  # numpy, cupy, torch, jax themselves
            return _namespace(backend.__name__)
        if not hasattr(backend, "asarray"):
            raise ValueError(f"backend must be an array library, got module {backend.__name__!r}")
        return np if backend.__name__ == "array_api_compat.numpy" else backend
    if backend not in _BACKENDS:
        raise ValueError(
            f"backend must be one of {', '.join(map(repr, _BACKENDS))} or an array API namespace, got {backend!r}"
        )
    try:
        xp = importlib.import_module(_BACKENDS[backend])
    except ImportError as error:
        raise ValueError(
            f"backend {backend!r} is not usable here: {error}; install it, or take 'numpy'"
        ) from error
    if backend == "cupy" and not _cuda_usable():
        raise ValueError("backend 'cupy' is installed but finds no usable GPU; take backend='numpy'")
    return xp


def _cuda_usable() -> bool:
    import cupy  # pyright: ignore[reportMissingImports]

    try:
        return bool(cupy.cuda.is_available())
    except Exception:
        return False


def _device(xp: Any, device: Any) -> Any:
    """Turn a device given by name or number into what the library takes."""
    if device is None:
        return None
    name = xp.__name__
    try:
        if xp is np:
            if device != "cpu":
                raise ValueError("NumPy has only 'cpu'")
            return None
        if name == "array_api_compat.cupy" and isinstance(device, (int, str)):
            import cupy  # pyright: ignore[reportMissingImports]

            return cupy.cuda.Device(0 if device == "cuda" else int(str(device).removeprefix("cuda:")))
        if name.startswith("jax") and isinstance(device, str):
            import jax  # pyright: ignore[reportMissingImports]

            kind, _, number = device.partition(":")
            return jax.devices(kind)[int(number or 0)]
        if name == "array_api_strict" and isinstance(device, str):
            return xp.Device(device)
    except Exception as error:
        raise ValueError(f"device {device!r} is not one of {name}: {error}") from error
    return device


def size(value: Any, name: str, least: int) -> int:
    """Check a size given by the user."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def positive(value: Any, name: str) -> float:
    """Check a positive physical parameter given by the user."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)


def banded(diagonals: dict[int, float], n: int) -> Any:
    """Return the n x n sparse matrix with constant values on the given diagonals, offset to value."""
    from scipy import sparse

    values, offsets = list(diagonals.values()), list(diagonals)
    return sparse.diags_array(values, offsets=offsets, shape=(n, n), format="csr")  # pyright: ignore[reportArgumentType]
