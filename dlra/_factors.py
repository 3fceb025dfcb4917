"""Checks of the factors of a LowRank."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.backend import DTYPES, Array, device, dtype_name, is_array, kind, namespace


def check_int(value: Any, name: str) -> int:
    """Return ``value`` as an int, or raise a TypeError naming it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {value!r} ({type(value).__name__})")
    return int(value)


def check_dtype(A: Array, name: str) -> None:
    """Raise a TypeError unless the dtype of ``A`` is supported."""
    if dtype_name(A.dtype) not in DTYPES:
        raise TypeError(
            f"{name} must have dtype {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, got {dtype_name(A.dtype)}; "
            f"cast it with astype"
        )


def check_factors(U: Any, S: Any, V: Any) -> None:
    """Raise the error that says what is wrong with the factors of a LowRank, if anything is."""
    given = [(name, a) for name, a in (("U", U), ("S", S), ("V", V)) if not (name == "S" and a is None)]
    for name, a in given:
        if not is_array(a):
            raise TypeError(f"{name} must be an array, got {kind(a)}")
    namespace(*(a for _, a in given))
    for name, a in given:
        check_dtype(a, name)
        if a.ndim != 2:
            hint = "; for a vector of singular values use LowRank.from_svd(U, s, Vh)" if name == "S" else ""
            raise ValueError(f"{name} must be a matrix, got an array of shape {tuple(a.shape)}{hint}")
    (m, r1), (n, r2) = U.shape, V.shape
    core = (r1, r2) if S is None else tuple(S.shape)
    if core != (r1, r2) or (S is None and r1 != r2):
        hint = ""
        if V.shape[0] == core[1] or (S is None and V.shape[0] == r1):
            hint = "; V has shape (n, r), not (r, n): for Vh as svd returns it use LowRank.from_svd(U, s, Vh)"
        shown = "None (identity)" if S is None else str(tuple(S.shape))
        raise ValueError(
            f"factors do not fit: U {(m, r1)}, S {shown}, V {(n, r2)}; expected U (m, r), S (r, r), V (n, r){hint}"
        )
    if min(m, n, r1, r2) < 1:
        raise ValueError(f"factors must not be empty, got U {(m, r1)} and V {(n, r2)}")
    for name, a in given[1:]:
        if dtype_name(a.dtype) != dtype_name(U.dtype):
            raise TypeError(
                f"factors need one dtype, got U {dtype_name(U.dtype)} and {name} {dtype_name(a.dtype)}; "
                f"cast with astype"
            )
        if type(U) is not np.ndarray and device(a) != device(U):
            raise ValueError(f"factors need one device, got U on {device(U)} and {name} on {device(a)}")
