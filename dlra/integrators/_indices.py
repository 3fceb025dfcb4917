"""Row indices that hold for all stages of a step, unless they have become bad."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra._factors import check_int
from dlra.backend import Array, H, to_host
from dlra.lazy import take
from dlra.linalg import svdvals
from dlra.sampling import interpolation, qdeim


class Indices:
    """QDEIM indices p of one basis U after another; kept while ‖U[p]⁺‖ is at most twice what it was at their choice.

    A change of indices between two stages disturbs the order conditions of the scheme: that step alone then has a
    local error of order h² or h³, often larger than the sum of all others.
    """

    def __init__(self, oversampling: int):
        self._oversampling = oversampling
        self._p = np.zeros(0, dtype=int)
        self._smallest = 0.0  # singular value of U[p] at the choice

    def __call__(self, U: Array) -> tuple[np.ndarray, Array]:
        """Indices p, r + oversampling of them, and U[p]⁺."""
        count = min(U.shape[1] + self._oversampling, U.shape[0])
        if self._p.size != count or not _smallest(U, self._p) >= 0.5 * self._smallest:
            self._p = qdeim(U, count)
            self._smallest = _smallest(U, self._p)
        return self._p, H(U) @ interpolation(U, self._p)


def check_oversampling(oversampling: Any) -> None:
    """Raise an error unless ``oversampling`` is an int >= 0."""
    if check_int(oversampling, "oversampling") < 0:
        raise ValueError(f"oversampling must not be negative, got {oversampling}")


def _smallest(U: Array, p: np.ndarray) -> float:
    return float(to_host(svdvals(take(U, p, 0)))[-1])
