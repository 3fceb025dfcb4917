"""Measures of how near a matrix is to one of low rank: functions of its singular values.

Each takes a matrix, an array or a LowRank, and uses all N = min(m, n) singular values σ₁ ≥ ... ≥ σ_N ≥ 0, zeros
included, so that a LowRank gives what its dense matrix gives. A LowRank is never made dense: its singular values are
those of the core after its factors are orthonormalised. Singular values below max(m, n) eps σ₁, which are rounding
errors in the precision of the matrix, count as zero: a small power of them would not be small.

Norms (:func:`.nuclear_norm`, :func:`.schatten_norm`, :func:`.sorted_l1`, :func:`.two_level_l1`) scale with the matrix
and are small for matrices that are small. The others do not change under scaling, and only tell how the singular values
are distributed: :func:`.effective_rank` is to be minimised, :func:`.gini` and :func:`.hoyer` are to be maximised.

With ``return_gradient=True`` each returns (value, G), where G is the derivative by the matrix with respect to the real
inner product Re tr(GᴴX): for A = U diag(σ) Vᴴ and a measure f(σ) it is U diag(∂f/∂σ) Vᴴ. Of an array it is an array of
the same library, dtype and device. Of a LowRank it is a LowRank in orthonormal bases of its column and row spaces, at
O((m + n) r² + r³): in its own U and V where they are orthonormal. For norms <G, A> = f(A), for the others 0.

Singular values that count as zero get the derivative 0, so that G lies in those two spaces. Where the measure has a
kink (all but Schatten norms with p > 1), its slopes in the two directions away from zero are opposite, and 0 lies
between them: for norms G is the subgradient of smallest norm there. These slopes are infinite for the effective rank
and for Schatten norms with p < 1. Where singular values are equal, :func:`.gini`, :func:`.sorted_l1`,
:func:`.two_level_l1` and the spectral norm have one-sided derivatives only. G then takes equal ones in the order, and
with the singular vectors, that the decomposition gives, which for the norms is one subgradient of several.

References
----------
X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep learning: making a balance between compact
architecture and fast training, arXiv:2303.13635, section II-C, equations (17) to (23).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from dlra._checks import check_number, orthonormal
from dlra._factors import check_dtype, check_int
from dlra.backend import Array, all_finite, dtype_name, eps, from_host, is_array, kind, to_host
from dlra.linalg import BOTH, svd, svdvals
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


def nuclear_norm(A: Array | LowRank, *, return_gradient: bool = False) -> Any:
    """Return ‖A‖_* = σ₁ + ... + σ_N.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, nuclear_of)


def schatten_norm(A: Array | LowRank, p: float, *, return_gradient: bool = False) -> Any:
    """Return the Schatten norm ‖A‖_p = (Σ σ_iᵖ)^(1/p).

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
    p : float
        Positive. 1 is the nuclear norm, 2 the Frobenius norm, ``math.inf`` the spectral norm; below 1 it is no norm
        (the triangle inequality fails), and the nearer to 0, the more it counts singular values instead of adding them.
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, schatten_of, p=p)


def effective_rank(A: Array | LowRank, *, return_gradient: bool = False) -> Any:
    """Return the effective rank exp(-Σ q_i log q_i) with q_i = σ_i/‖σ‖₁, where 0 log 0 = 0.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
        Not zero.
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, effective_rank_of)


def hoyer(A: Array | LowRank, *, return_gradient: bool = False) -> Any:
    """Return the Hoyer measure (√N - ‖σ‖₁/‖σ‖₂)/(√N - 1).

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
        Not zero, and neither a row nor a column: N = min(m, n) >= 2.
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, hoyer_of)


def gini(A: Array | LowRank, *, return_gradient: bool = False) -> Any:
    """Return the Gini index 1 - 2 Σ (x_i/‖x‖₁) (N - i + 1/2)/N of the singular values in ascending order x.

    It is twice the area between the diagonal and the Lorenz curve (the share of the sum that the smallest i of N values
    make up).

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
        Not zero.
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, gini_of)


def sorted_l1(A: Array | LowRank, weights: Any, *, return_gradient: bool = False) -> Any:
    """Return the sorted ℓ₁ norm λ₁σ₁ + ... + λ_Nσ_N: the larger the singular value, the larger its weight.

    Parameters
    ----------
    A : array or LowRank, shape (m, n)
    weights : sequence of N = min(m, n) floats
        λ₁ ≥ ... ≥ λ_N ≥ 0, which makes it convex.
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, sorted_l1_of, weights=weights)


def two_level_l1(
    A: Array | LowRank,
    rho: float,
    *,
    count: int | None = None,
    share: float | None = None,
    return_gradient: bool = False,
) -> Any:
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
    return_gradient : bool
        Whether to return (value, G) with the derivative G by A, an array or a LowRank like A; see
        :mod:`dlra.compress.measures`.

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
    return _measured(A, return_gradient, two_level_l1_of, rho=rho, count=count, share=share)


# ---- the functions of the singular values of a matrix of some shape, and what they refuse

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Of all singular values of a matrix, descending and on the host: the value, and the derivative by each of them."""


def nuclear_of(shape: tuple[int, ...]) -> Function:
    """For :func:`nuclear_norm`."""
    return lambda s: _powers(s, 1.0)


def schatten_of(shape: tuple[int, ...], p: Any) -> Function:
    """For :func:`schatten_norm`."""
    p = check_number(p, "p")
    if not p > 0:
        raise ValueError(f"p must be positive (math.inf for the spectral norm), got {p}")
    return lambda s: _powers(s, p)


def effective_rank_of(shape: tuple[int, ...]) -> Function:
    """For :func:`effective_rank`."""
    return _scale_free(_effective_rank, "effective_rank")


def hoyer_of(shape: tuple[int, ...]) -> Function:
    """For :func:`hoyer`."""
    if min(shape) < 2:
        raise ValueError(
            f"hoyer needs min(m, n) >= 2 singular values: with one it is 0/0, got A of shape {tuple(shape)}"
        )
    return _scale_free(_hoyer, "hoyer")


def gini_of(shape: tuple[int, ...]) -> Function:
    """For :func:`gini`."""
    return _scale_free(_gini, "gini")


def sorted_l1_of(shape: tuple[int, ...], weights: Any) -> Function:
    """For :func:`sorted_l1`."""
    N = min(shape)
    if weights is None:
        raise TypeError("weights must be a sequence of real numbers, got None")
    try:
        given = np.asarray(to_host(weights) if is_array(weights) else weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"weights must be a sequence of real numbers, got {weights!r}") from None
    if given.shape != (N,):
        raise ValueError(
            f"weights must be min(m, n) = {N} numbers for A of shape {tuple(shape)}, got shape {given.shape}"
        )
    if not np.all(np.isfinite(given)) or given[-1] < 0 or np.any(np.diff(given) > 0):
        raise ValueError(f"weights must be finite, >= 0 and descending, got {given.tolist()}")
    return lambda s: _weighted(s, given)


def two_level_l1_of(shape: tuple[int, ...], rho: Any, count: Any = None, share: Any = None) -> Function:
    """For :func:`two_level_l1`."""
    N = min(shape)
    rho = check_number(rho, "rho")
    if not 1 <= rho < math.inf:
        raise ValueError(f"rho must be finite and at least 1, got {rho}")
    if (count is None) == (share is None):
        raise ValueError(f"give count or share, and not both; got count={count!r} and share={share!r}")
    if share is not None:
        part = check_number(share, "share")
        if not 0 <= part <= 1:
            raise ValueError(f"share must lie in [0, 1], got {share}")
        k = int(part * N + 0.5)
    else:
        k = check_int(count, "count")
        if not 0 <= k <= N:
            raise ValueError(f"count must lie between 0 and min(m, n) = {N}, got {k}")
    weights = np.where(np.arange(N) < k, rho, 1.0)
    return lambda s: _weighted(s, weights)


def _scale_free(function: Function, measure: str) -> Function:
    """A function that does not change under scaling, of the singular values divided by the largest."""

    def scaled(s: np.ndarray) -> tuple[float, np.ndarray]:
        if not s[0] > 0:
            raise ValueError(
                f"{measure} is not defined for the zero matrix; got A = 0: leave it out, or take a norm instead"
            )
        value, slope = function(s / s[0])
        with np.errstate(over="ignore"):
            return value, slope / s[0]

    return scaled


def _powers(s: np.ndarray, p: float) -> tuple[float, np.ndarray]:
    largest = float(s[0])
    if largest == 0 or p == math.inf:
        return largest, np.where(np.arange(len(s)) < 1, 1.0, 0.0)
    x = s / largest
    sums = np.sum(x**p)
    with np.errstate(over="ignore"):
        slope = np.where(x > 0, x, 1.0) ** (p - 1) * sums ** (1 / p - 1)
    total = float(sums)
    if p == 1:
        return largest * total, slope
    try:
        return largest * total ** (1 / p), slope
    except OverflowError:  # the power alone may be too large where the product is not
        exponent = math.log(largest) + math.log(total) / p
        return math.exp(exponent) if exponent < math.log(sys.float_info.max) else math.inf, slope


def _effective_rank(s: np.ndarray) -> tuple[float, np.ndarray]:
    total = np.sum(s)
    q = s / total
    logs = np.log(np.where(q > 0, q, 1.0))
    entropy = -np.sum(q * logs)
    value = np.exp(entropy)
    return float(value), -value * (logs + entropy) / total


def _hoyer(s: np.ndarray) -> tuple[float, np.ndarray]:
    root = math.sqrt(len(s))
    one, two = np.sum(s), math.sqrt(np.sum(s * s))
    return max(0.0, float((root - one / two) / (root - 1))), (one / two * s / two - 1) / (two * (root - 1))


def _gini(s: np.ndarray) -> tuple[float, np.ndarray]:
    N, total = len(s), np.sum(s)
    weights = (2 * np.arange(N) + 1) / N
    mean = np.sum(weights * (s / total))
    return float(1 - mean), (mean - weights) / total


def _weighted(s: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    with np.errstate(over="ignore"):
        return float(np.sum(weights * s)), weights


# ---- of a matrix


def _measured(A: Any, return_gradient: bool, of: Callable[..., Function], **options: Any) -> Any:
    return measured(A, of(shape_of(A), **options), return_gradient)


def shape_of(A: Any) -> tuple[int, int]:
    """Return (m, n), or raise the error that says why A is no matrix of a supported dtype."""
    if not isinstance(A, LowRank) and not is_array(A):
        raise TypeError(f"A must be an array or a LowRank, got {kind(A)}")
    if A.ndim != 2:
        raise ValueError(
            f"A must be a matrix, got {'a stack' if isinstance(A, LowRank) else 'an array'} of shape {tuple(A.shape)}"
        )
    check_dtype(A, "A")
    if min(A.shape) < 1:
        raise ValueError(f"A must not be empty, got shape {tuple(A.shape)}")
    m, n = A.shape
    return m, n


def measured(A: Array | LowRank, function: Function, return_gradient: bool) -> Any:
    """Return the value of a function of the singular values of A; with its derivative G by A where that is wanted."""
    low = isinstance(A, LowRank)
    for name, part in {"A.U": A.U, "A.S": A.S, "A.V": A.V}.items() if low else (("A", A),):
        if not all_finite(part):
            raise ValueError(f"{name} contains NaN or infinite values")
    if not return_gradient:
        return function(counted(A.singular_values() if low else svdvals(A), A.shape))[0]
    Y = orthonormal(A) if low else None
    P, values, Qh = svd(A if Y is None else Y.S)
    s = counted(values, A.shape)
    value, slope = derivative(function, s, values)
    rank = int(np.count_nonzero(s))
    factor = from_host(slope[:rank].astype(dtype_name(P.dtype)), P)
    core = (P[:, :rank] * factor[None, :]) @ Qh[:rank, :]
    return value, core if Y is None else LowRank._make(Y.U, core, Y.V, BOTH)


def counted(values: Array, shape: tuple[int, ...]) -> np.ndarray:
    """All min(m, n) singular values in double precision on the host, those that are rounding errors as zeros."""
    s = np.zeros(min(shape))
    s[: values.shape[0]] = to_host(values)
    s[s < max(shape) * eps(values) * s[0]] = 0.0
    return s


def derivative(function: Function, s: np.ndarray, like: Array) -> tuple[float, np.ndarray]:
    """Return the value at singular values s, and the derivative, 0 at zeros; it must fit into the dtype of ``like``."""
    value, slope = function(s)
    slope = np.where(s > 0, slope, 0.0)
    largest, name = float(np.max(abs(slope))), dtype_name(like.dtype)
    if not largest <= float(np.finfo(name).max):
        raise ValueError(
            f"the derivative at singular values from {s[0]:.3g} down to {np.min(s[s > 0]):.3g} exceeds the range of "
            f"{name}: scale A up, cast it to double precision, or take a larger p for a Schatten norm"
        )
    return value, slope
