"""Checks of the factors of a LowRank."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.backend import DTYPES, Array, device, dtype_name, is_array, kind, namespace, same_dtype


def check_int(value: Any, name: str) -> int:
    """Return ``value`` as an int, or raise a TypeError naming it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {value!r} ({type(value).__name__})")
    return int(value)


_WANTED = {2: "a matrix", 3: "a stack of matrices, an array of three dimensions"}


def _hint(name: str, a: Any, ndim: int) -> str:
    if ndim == 2 and a.ndim == 3:
        return "; for many matrices at once use LowRankStack(U, S, V)"
    if ndim == 3 and a.ndim == 2 and name != "S":
        return "; for one matrix use LowRank(U, S, V), for several of them LowRankStack.stack([Y1, Y2, ...])"
    return (
        f"; for a vector of singular values use {'LowRank' if ndim == 2 else 'LowRankStack'}.from_svd(U, s, Vh)"
        * (name == "S" and a.ndim == ndim - 1)
    )


def check_dtype(A: Array, name: str) -> None:
    """Raise a TypeError unless the dtype of ``A`` is supported."""
    if dtype_name(A.dtype) not in DTYPES:
        raise TypeError(
            f"{name} must have dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {dtype_name(A.dtype)}; "
            f"cast it with astype"
        )


def check_singular_values(s: Array, U: Array) -> None:
    """Raise a TypeError where singular values lose digits in the dtype of ``U``."""
    name = dtype_name(s.dtype)
    known = name in DTYPES and same_dtype(namespace(s, U).result_type(s.dtype, U.dtype), U.dtype)
    if not known and not name.startswith(("int", "uint")):
        raise TypeError(
            f"s has dtype {name}, U {dtype_name(U.dtype)}; cast it with s.astype(U.dtype), or U and Vh to its dtype"
        )


def check_factors(U: Any, S: Any, V: Any, ndim: int = 2) -> None:
    """Raise the error that says what is wrong with the factors of a LowRank (``ndim`` 3: of a stack), if any."""
    given = [(name, a) for name, a in (("U", U), ("S", S), ("V", V)) if not (name == "S" and a is None)]
    for name, a in given:
        if not is_array(a):
            raise TypeError(f"{name} must be an array, got {kind(a)}")
    namespace(*(a for _, a in given))
    for name, a in given:
        check_dtype(a, name)
        if a.ndim != ndim:
            raise ValueError(
                f"{name} must be {_WANTED[ndim]}, got an array of shape {tuple(a.shape)}{_hint(name, a, ndim)}"
            )
        if a.shape[:-2] != U.shape[:-2]:
            raise ValueError(
                f"factors need one for each of {U.shape[0]} matrices, got U {tuple(U.shape)} and {name} "
                f"{tuple(a.shape)}"
            )
    (m, r1), (n, r2) = U.shape[-2:], V.shape[-2:]
    core = (r1, r2) if S is None else tuple(S.shape[-2:])
    if core != (r1, r2) or (S is None and r1 != r2):
        hint = ""
        if core[1] == n or (S is None and n == r1):
            hint = "; V has shape (n, r), not (r, n): for Vh as svd returns it use LowRank.from_svd(U, s, Vh)"
        shown = "None (identity)" if S is None else str(core)
        raise ValueError(
            f"factors do not fit: U {(m, r1)}, S {shown}, V {(n, r2)}; expected U (m, r), S (r, r), V (n, r){hint}"
        )
    if 0 in U.shape or 0 in V.shape:
        raise ValueError(f"factors must not be empty, got U {tuple(U.shape)} and V {tuple(V.shape)}")
    for name, a in given[1:]:
        if dtype_name(a.dtype) != dtype_name(U.dtype):
            raise TypeError(
                f"factors need one dtype, got U {dtype_name(U.dtype)} and {name} {dtype_name(a.dtype)}; "
                f"cast with astype"
            )
        if type(U) is not np.ndarray and device(a) != device(U):
            raise ValueError(f"factors need one device, got U on {device(U)} and {name} on {device(a)}")
