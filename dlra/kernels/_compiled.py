"""Functions compiled by numba: how they are compiled, and what answers where they cannot be."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from dlra.errors import DlraWarning


@lru_cache(maxsize=16)
def module(name: str) -> Any:
    """The module ``dlra.kernels.<name>``; None where numba, which it needs, is missing, broken or switched off."""
    return importlib.import_module(f"dlra.kernels.{name}") if _numba_works() else None


@lru_cache(maxsize=1)
def _numba_works() -> bool:
    """Whether numba can be imported and compiles; a DlraWarning where it is installed and cannot be imported."""
    try:
        import numba
    except Exception as error:  # a NumPy that is too new for it, a shared library that is missing
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if (missing or "").partition(".")[0] not in ("numba", "llvmlite"):
            warnings.warn(
                f"numba is installed but could not be imported ({type(error).__name__}: {_first_line(error)}); the "
                f"slower NumPy versions are used instead. Check the installation of numba (pip install 'dlra[fast]')",
                DlraWarning,
                stacklevel=2,
            )
        return False
    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


def jit(function: Any = None, **options: Any) -> Any:
    """``numba.njit`` without the global lock, with a cache on disk where one can be written."""
    import numba

    if function is None:
        return functools.partial(jit, **options)
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # no directory for the cache can be written
        return numba.njit(nogil=True, **options)(function)


def with_twin(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function that rests on compiled ones: where they fail to compile, ``twin`` answers.

    Then one DlraWarning says so, and the compiled version is not tried again. What ``twin`` itself raises, and errors
    about the values of the arguments, pass.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        broken = False

        @functools.wraps(function)
        def answered(*args: Any, **options: Any) -> Any:
            nonlocal broken
            if not broken:
                try:
                    return function(*args, **options)
                except _failures() as error:
                    broken = True
                    warnings.warn(
                        f"numba could not compile {function.__module__}.{function.__name__} "
                        f"({type(error).__name__}: {_first_line(error)}); the slower NumPy version is used instead. "
                        f"Check the installation of numba (pip install 'dlra[fast]') and that NUMBA_CACHE_DIR, if set, "
                        f"can be written",
                        DlraWarning,
                        stacklevel=2,
                    )
            return twin(*args, **options)

        return answered

    return decorate


@lru_cache(maxsize=1)
def _failures() -> tuple[type[BaseException], ...]:
    """What numba raises where it cannot compile or load a compiled function."""
    from numba.core.errors import NumbaError

    return (NumbaError, OSError, ImportError, RuntimeError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def plain(a: np.ndarray) -> np.ndarray:
    """The array as compiled code takes it: C-contiguous, in the byte order of the machine; itself where it is so."""
    return np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("="))
