"""Measures of how near a matrix is to one of low rank: functions of its singular values.

Each takes a matrix, an array or a LowRank, and uses all N = min(m, n) singular values σ₁ ≥ ... ≥ σ_N ≥ 0, zeros
included, so that a LowRank gives what its dense matrix gives. A LowRank is never made dense: its singular values are
those of the core after its factors are orthonormalised. Singular values below max(m, n) eps σ₁, which are rounding
errors in the precision of the matrix, count as zero: a small power of them would not be small.

Norms (:func:`nuclear_norm`, :func:`schatten_norm`, :func:`sorted_l1`, :func:`two_level_l1`) scale with the matrix and
are small for matrices that are small. The others do not change under scaling, and only tell how the singular values
are distributed: :func:`effective_rank` is to be minimised, :func:`gini` and :func:`hoyer` are to be maximised.

References
----------
X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep learning: making a balance between compact
architecture and fast training, arXiv:2303.13635, section II-C, equations (17) to (23).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from dlra._checks import check_number
from dlra._factors import check_dtype, check_int
from dlra.backend import Array, all_finite, eps, is_array, kind, to_host
from dlra.linalg import svdvals
from dlra.lowrank import LowRank

__all__ = [
    "effective_rank",
    "gini",
    "hoyer",
    "nuclear_norm",
    "schatten_norm",
    "sorted_l1",
    "two_level_l1",
]


def nuclear_norm(A: Array | LowRank) -> float:
    """Return ‖A‖_* = σ₁ + ... + σ_N.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)

    Returns
    -------
    float
        From ‖A‖_F to √N ‖A‖_F. Smaller is nearer to low rank among matrices of one Frobenius norm; by itself it shrinks
        large singular values as much as small ones.

    References
    ----------
    Ou et al., equation (18), of the singular values.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import nuclear_norm
    >>> nuclear_norm(np.diag([3.0, -4.0]))
    7.0
    """
    return _powers(_singular_values(A), 1.0)


def schatten_norm(A: Array | LowRank, p: float) -> float:
    """Return the Schatten norm ‖A‖_p = (Σ σ_iᵖ)^(1/p).

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
    p : float
        Positive. 1 is the nuclear norm, 2 the Frobenius norm, ``math.inf`` the spectral norm; below 1 it is no norm
        (the triangle inequality fails), and the nearer to 0, the more it counts singular values instead of adding them.

    Returns
    -------
    float
        ``math.inf`` where it exceeds the range of floats. Smaller is nearer to low rank for p < 2, among matrices of
        one Frobenius norm.

    Notes
    -----
    A product of N factors with A = R₁ ... R_N costs at least p Σ ‖R_i‖_F²/2 = ‖A‖_pᵖ in weight decay, with p = 2/N:
    that is why decay on composed layers lowers the rank.

    References
    ----------
    Ou et al., equation (17), of the singular values. F. Shang, Y. Liu, J. Cheng, Unified scalable
    equivalent formulations for Schatten quasi-norms, arXiv:1606.00668.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import schatten_norm
    >>> round(schatten_norm(np.diag([9.0, 4.0]), 0.5), 12)
    25.0
    """
    p = check_number(p, "p")
    if not p > 0:
        raise ValueError(f"p must be positive (math.inf for the spectral norm), got {p}")
    return _powers(_singular_values(A), p)


def effective_rank(A: Array | LowRank) -> float:
    """Return the effective rank exp(-Σ q_i log q_i) with q_i = σ_i/‖σ‖₁, where 0 log 0 = 0.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
        Not zero.

    Returns
    -------
    float
        From 1, for rank 1, to N, where all singular values are equal; never above the rank. To be minimised for low
        rank.

    References
    ----------
    Ou et al., equation (23), after O. Roy, M. Vetterli, The effective rank: a measure of effective dimensionality,
    EUSIPCO 2007, 606-610.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import effective_rank
    >>> round(effective_rank(np.diag([1.0, 1.0, 0.0])), 12)
    2.0
    """
    return _effective_rank(_nonzero(_singular_values(A), "effective_rank"))


def hoyer(A: Array | LowRank) -> float:
    """Return the Hoyer measure (√N - ‖σ‖₁/‖σ‖₂)/(√N - 1).

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
        Not zero, and neither a row nor a column: N = min(m, n) >= 2.

    Returns
    -------
    float
        From 0, where all singular values are equal, to 1, for rank 1. To be maximised for low rank.

    References
    ----------
    Ou et al., equation (22), after P. O. Hoyer, Non-negative matrix factorization with sparseness constraints, J. Mach.
    Learn. Res. 5 (2004) 1457-1469.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import hoyer
    >>> hoyer(np.diag([2.0, 0.0, 0.0, 0.0]))
    1.0
    """
    s = _singular_values(A)
    if len(s) < 2:
        raise ValueError(
            f"hoyer needs min(m, n) >= 2 singular values: with one it is 0/0, got A of shape {tuple(A.shape)}"
        )
    return _hoyer(_nonzero(s, "hoyer"))


def gini(A: Array | LowRank) -> float:
    """Return the Gini index 1 - 2 Σ (x_i/‖x‖₁) (N - i + 1/2)/N of the singular values in ascending order x.

    It is twice the area between the diagonal and the Lorenz curve (the share of the sum that the smallest i of N values
    make up).

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
        Not zero.

    Returns
    -------
    float
        From 0, where all singular values are equal, to 1 - 1/N, for rank 1. To be maximised for low rank.

    References
    ----------
    Ou et al., equation (21), after S. Rickard, Sparse sources are separated sources, EUSIPCO 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import gini
    >>> round(gini(np.diag([1.0, 2.0, 3.0, 4.0, 10.0])), 12)
    0.4
    """
    return _gini(_nonzero(_singular_values(A), "gini"))


def sorted_l1(A: Array | LowRank, weights: Any) -> float:
    """Return the sorted ℓ₁ norm λ₁σ₁ + ... + λ_Nσ_N: the larger the singular value, the larger its weight.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
    weights : sequence of N = min(m, n) floats
        λ₁ ≥ ... ≥ λ_N ≥ 0, which makes it convex.

    Returns
    -------
    float
        From λ_N ‖A‖_* to λ₁ ‖A‖_*; smaller is better.

    References
    ----------
    Ou et al., equation (19), there without saying that |x_i| descends as λ_i does; M. Bogdan, E. van den
    Berg, W. Su, E. Candès, Statistical estimation and testing via the sorted ℓ₁ norm, arXiv:1310.1969.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import sorted_l1
    >>> sorted_l1(np.diag([1.0, 3.0]), [2.0, 1.0])
    7.0
    """
    s = _singular_values(A)
    try:
        given = np.asarray(to_host(weights) if is_array(weights) else weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"weights must be a sequence of real numbers, got {weights!r}") from None
    if weights is None:
        raise TypeError("weights must be a sequence of real numbers, got None")
    if given.shape != s.shape:
        raise ValueError(
            f"weights must be min(m, n) = {len(s)} numbers for A of shape {tuple(A.shape)}, got shape {given.shape}"
        )
    if not np.all(np.isfinite(given)) or given[-1] < 0 or np.any(np.diff(given) > 0):
        raise ValueError(f"weights must be finite, >= 0 and descending, got {given.tolist()}")
    return _weighted(s, given)


def two_level_l1(
    A: Array | LowRank, rho: float, *, count: int | None = None, share: float | None = None
) -> float:
    """Return the two-level ℓ₁ norm ρ (σ₁ + ... + σ_k) + σ_{k+1} + ... + σ_N.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
    rho : float
        Weight of the k largest singular values, at least 1; with a smaller one it is no norm.
    count : int, optional
        k, from 0 to N = min(m, n).
    share : float, optional
        k as a share of N, from 0 to 1, rounded to the nearest integer. Give count or share.

    Returns
    -------
    float
        From ‖A‖_* to ρ ‖A‖_*; smaller is better.

    References
    ----------
    Ou et al., equation (20), which does not say that ρ must not be below 1; X. Huang, Y. Liu, L. Shi, S. Van Huffel,
    J. A. K. Suykens, Two-level ℓ₁ minimization for compressed sensing, Signal Process. 108 (2015) 459-475.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.compress import two_level_l1
    >>> two_level_l1(np.diag([1.0, 3.0]), rho=2.0, count=1)
    7.0
    """
    s = _singular_values(A)
    rho = check_number(rho, "rho")
    if not 1 <= rho < math.inf:
        raise ValueError(f"rho must be finite and at least 1, got {rho}")
    if (count is None) == (share is None):
        raise ValueError(f"give count or share, and not both; got count={count!r} and share={share!r}")
    if share is not None:
        part = check_number(share, "share")
        if not 0 <= part <= 1:
            raise ValueError(f"share must lie in [0, 1], got {share}")
        k = int(part * len(s) + 0.5)
    else:
        k = check_int(count, "count")
        if not 0 <= k <= len(s):
            raise ValueError(f"count must lie between 0 and min(m, n) = {len(s)}, got {k}")
    return _weighted(s, np.where(np.arange(len(s)) < k, rho, 1.0))


# ---- of the singular values, descending and on the host


def _singular_values(A: Any) -> np.ndarray:
    """All min(m, n) of them, in double precision on the host."""
    if isinstance(A, LowRank):
        parts = {"A.U": A.U, "A.S": A.S, "A.V": A.V}
    elif not is_array(A):
        raise TypeError(f"A must be an array or a LowRank, got {kind(A)}")
    elif A.ndim != 2:
        raise ValueError(f"A must be a matrix, got an array of shape {tuple(A.shape)}")
    else:
        check_dtype(A, "A")
        parts = {"A": A}
    if min(A.shape) < 1:
        raise ValueError(f"A must not be empty, got shape {tuple(A.shape)}")
    for name, part in parts.items():
        if not all_finite(part):
            raise ValueError(f"{name} contains NaN or infinite values")
    values = A.singular_values() if isinstance(A, LowRank) else svdvals(A)
    s = np.zeros(min(A.shape))
    s[: values.shape[0]] = to_host(values)
    s[s < max(A.shape) * eps(next(iter(parts.values()))) * s[0]] = 0.0
    return s


def _nonzero(s: np.ndarray, measure: str) -> np.ndarray:
    """The singular values divided by the largest."""
    if not s[0] > 0:
        raise ValueError(f"{measure} is not defined for the zero matrix; got A = 0")
    return s / s[0]


def _powers(s: np.ndarray, p: float) -> float:
    largest = float(s[0])
    if largest == 0 or p == math.inf:
        return largest
    total = float(np.sum((s / largest) ** p))
    if p == 1:
        return largest * total
    try:
        return largest * total ** (1 / p)
    except OverflowError:  # the power alone may be too large where the product is not
        exponent = math.log(largest) + math.log(total) / p
        return math.exp(exponent) if exponent < math.log(sys.float_info.max) else math.inf


def _effective_rank(s: np.ndarray) -> float:
    q = s[s > 0] / np.sum(s)
    return float(np.exp(-np.sum(q * np.log(q))))


def _hoyer(s: np.ndarray) -> float:
    root = math.sqrt(len(s))
    return max(0.0, float((root - np.sum(s) / math.sqrt(np.sum(s * s))) / (root - 1)))


def _gini(s: np.ndarray) -> float:
    N = len(s)
    x = s[::-1]
    return float(1 - 2 * np.sum(x / np.sum(x) * (N - np.arange(1, N + 1) + 0.5)) / N)


def _weighted(s: np.ndarray, weights: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.sum(weights * s))
