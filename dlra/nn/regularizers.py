"""Penalties on the singular values of weights, added to the loss: training that is aware of the compression after it.

References
----------
X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep learning: making a balance between compact
architecture and fast training, arXiv:2303.13635, sections II-B and II-C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dlra._checks import check_number
from dlra._factors import check_dtype, check_int
from dlra.backend import (
    Array,
    H,
    all_finite,
    device,
    dtype_name,
    eye,
    from_host,
    is_array,
    kind,
    library,
    namespace,
    norm,
    to_host,
)
from dlra.compress import measures
from dlra.linalg import BOTH, _diagonal, inner
from dlra.lowrank import LowRank
from dlra.nn.optimizers import described

__all__ = ["Regularizer"]

Shape = tuple[int, int]


class _Measure(NamedTuple):
    """What makes the function of singular values, the options it needs, and what is special about it."""

    of: Callable[..., measures.Function]
    options: tuple[str, ...] = ()
    maximised: bool = False
    scale_free: bool = False


_MEASURES = {
    "nuclear": _Measure(measures.nuclear_of),
    "schatten": _Measure(measures.schatten_of, ("p",)),
    "effective-rank": _Measure(measures.effective_rank_of, scale_free=True),
    "hoyer": _Measure(measures.hoyer_of, maximised=True, scale_free=True),
    "gini": _Measure(measures.gini_of, maximised=True, scale_free=True),
    "sorted-l1": _Measure(measures.sorted_l1_of, ("weights",)),
    "two-level-l1": _Measure(measures.two_level_l1_of, ("rho", "share")),
}


@dataclass(frozen=True)
class Regularizer:
    """A penalty for low rank, λ f(W) for each weight W, that is added to the loss.

    Parameters
    ----------
    measure : str or callable
        One of "nuclear", "schatten" (needs p), "effective-rank", "hoyer", "gini", "sorted-l1" (needs weights) and
        "two-level-l1" (needs rho and share), the measures of :mod:`dlra.compress`. The norms and the effective rank are
        minimised, f = measure; Hoyer measure and Gini index are maximised, f = 1 - measure. A callable
        ``f(W, return_gradient=True)`` returns (value, G), the value to be minimised and its derivative by W, an array
        or a LowRank, of the shape of W.
    strength : float
        λ >= 0. Norms grow with the weights, the other measures do not.
    p : float, optional
        Of the Schatten norm, positive.
    weights : sequence of floats or callable, optional
        Of the sorted ℓ₁ norm: descending weights, for matrices with as many singular values, min(m, n), or
        ``weights(N)`` that gives N of them.
    rho, share : float, optional
        Of the two-level ℓ₁ norm: the weight, at least 1, of the largest singular values, and which share of all these
        are.
    layers : sequence of ints, optional
        Indices in ``net.weights``. Without, all weights for which the measure is defined: Hoyer's is not for one row or
        column.
    orthogonality : float
        λ_o >= 0, for layers that train W = U diag(s) Vᵀ: adds λ_o (‖UᵀU - I‖_F² + ‖VᵀV - I‖_F²)/r².

    Notes
    -----
    The gradients of the named measures lie in the column and row spaces of a weight (:mod:`dlra.compress.measures`):
    they add no directions. A dense m x n weight costs one singular value decomposition a step, a low-rank one that of
    its r x r core; W = U diag(s) Vᵀ costs none: |s| stand for its singular values, and are
    near them as far as ``orthogonality`` holds U and V.

    References
    ----------
    Ou et al., arXiv:2303.13635, section II-C. Orthogonality: H. Yang, M. Tang, W. Wen, F. Yan, D. Hu, A. Li, H. Li,
    Y. Chen, Learning low-rank deep neural networks via singular vector orthogonality regularization and singular value
    sparsification, CVPR workshops 2020, arXiv:2004.09031.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import nn
    >>> value, G = nn.Regularizer("nuclear", 0.1).penalty(np.diag([3.0, 1.0]))
    >>> round(value, 12)
    0.4
    >>> G
    array([[0.1, 0. ],
           [0. , 0.1]])
    """

    measure: str | Callable[..., Any]
    strength: float
    p: float | None = field(default=None, kw_only=True)
    weights: Sequence[float] | Callable[[int], Any] | None = field(default=None, kw_only=True)
    rho: float | None = field(default=None, kw_only=True)
    share: float | None = field(default=None, kw_only=True)
    layers: Sequence[int] | None = field(default=None, kw_only=True)
    orthogonality: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        known = self.measure in _MEASURES if isinstance(self.measure, str) else callable(self.measure)
        if not known:
            raise (ValueError if isinstance(self.measure, str) else TypeError)(
                f"measure of Regularizer must be a callable or one of {', '.join(map(repr, _MEASURES))}, "
                f"got {self.measure!r}"
            )
        for name in ("strength", "orthogonality"):
            value = check_number(getattr(self, name), f"{name} of Regularizer")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} of Regularizer must be finite and >= 0, got {value}")
            object.__setattr__(self, name, value)
        wanted = _MEASURES[self.measure].options if isinstance(self.measure, str) else ()
        for name in ("p", "weights", "rho", "share"):
            if (getattr(self, name) is None) == (name in wanted):
                does = "needs" if name in wanted else "does not take"
                raise ValueError(f"the measure {self.measure!r} of Regularizer {does} {name}")
        if "weights" in wanted and not callable(self.weights):
            given = np.asarray(to_host(self.weights) if is_array(self.weights) else self.weights)
            measures.sorted_l1_of((max(given.size, 1),) * 2, given)
            object.__setattr__(self, "weights", tuple(map(float, given.tolist())))
        elif wanted and "weights" not in wanted:
            self._function((1, 1))
        if self.layers is not None:
            object.__setattr__(self, "layers", _indices(self.layers))

    def check(self, shapes: list[Shape]) -> None:
        """Raise a ValueError where this cannot be applied to weights of these shapes."""
        for i in self.layers or ():
            if i >= len(shapes):
                raise ValueError(
                    f"layers of Regularizer has the index {i}, but the network has {len(shapes)} weights: "
                    f"give indices up to {len(shapes) - 1}"
                )
        chosen = [shape for i, shape in enumerate(shapes) if self.applies(i, shape)]
        if not callable(self.measure):
            for shape in chosen:
                self._function(shape)
        if isinstance(self.weights, tuple) and not chosen:
            raise ValueError(
                f"weights of Regularizer are {len(self.weights)} numbers, but no weight has so many singular values; "
                f"min(m, n) are {[min(shape) for shape in shapes]}: give a callable weights(N)"
            )

    def applies(self, i: int, shape: Shape) -> bool:
        """Whether the penalty counts for the i-th weight, of this shape."""
        if self.layers is not None:
            return i in self.layers
        if isinstance(self.weights, tuple):
            return min(shape) == len(self.weights)
        return self.measure != "hoyer" or min(shape) >= 2

    def penalty(self, W: Array | LowRank) -> tuple[float, Any]:
        """Return λ f(W) and its derivative by W.

        Parameters
        ----------
        W : array or LowRank, shape (m, n)

        Returns
        -------
        value : float
        G : array or LowRank, shape (m, n)
            As W; of a LowRank in orthonormal bases of its column and row spaces.

        Raises
        ------
        ValueError
            W is zero, and the measure is none of the norms; or NaN; or the derivative exceeds the range of its dtype.
        """
        shape = measures.shape_of(W)
        if not callable(self.measure):
            return measures.measured(W, self._function(shape), True)
        value, G = self._asked(W)
        return value, self.strength * G

    def of_values(self, s: Array, shape: Shape) -> tuple[float, Array]:
        """Return λ f(W) for W = U diag(s) Vᵀ with orthonormal U and V, and its derivative by s.

        Parameters
        ----------
        s : array, shape (r,)
            In any order and of any sign: the singular values are |s|, and as many zeros as make min(m, n) of them. A
            callable measure gets I diag(s) Iᵀ, of this shape, in the place of W.
        shape : tuple of ints
            (m, n).

        Returns
        -------
        value : float
        g : array, shape (r,)
        """
        if not is_array(s):
            raise TypeError(f"s must be an array, got {kind(s)}")
        if s.ndim != 1 or not 1 <= s.shape[0] <= min(shape):
            raise ValueError(
                f"s must be a vector of 1 to min(m, n) = {min(shape)} numbers for a weight of shape {tuple(shape)}, "
                f"got shape {tuple(s.shape)}"
            )
        check_dtype(s, "s")
        if callable(self.measure):
            return self._of_diagonal(s, shape)
        if not all_finite(s):
            raise ValueError("s contains NaN or infinite values")
        host = to_host(s)
        size = abs(host)
        order = np.argsort(-size, kind="stable")
        value, slope = measures.derivative(self._function(shape), measures.counted(size[order], shape), s)
        g = np.zeros(host.shape)
        g[order] = slope[: len(order)]
        return value, from_host((g * np.sign(host)).astype(dtype_name(s.dtype)), s)

    def orthogonality_penalty(self, U: Array) -> tuple[float, Array]:
        """Return λ_o ‖UᴴU - I‖_F²/r² and its derivative by U, an array of shape (m, r)."""
        _, r = measures.shape_of(U)
        excess = inner(U, U) - eye(r, U)
        weight, size = self.orthogonality / r**2, norm(excess)
        return weight * (size * size), 4 * weight * (U @ excess)

    def identity(self) -> str:
        """The measure and its options, the same in every process."""
        return described(self)

    def _function(self, shape: Shape) -> measures.Function:
        """The penalty as a function of all singular values of a matrix of this shape."""
        name = str(self.measure)
        chosen = _MEASURES[name]
        options = {option: getattr(self, option) for option in chosen.options}
        if callable(self.weights):
            options["weights"] = self.weights(min(shape))
        function = chosen.of(shape, **options)

        def penalty(s: np.ndarray) -> tuple[float, np.ndarray]:
            if chosen.scale_free and not s[0] > 0:
                raise ValueError(
                    f"the Regularizer {name!r} is not defined for a weight that is zero: start from other weights, "
                    "leave its layer out (layers=...), or take a norm ('nuclear')"
                )
            value, slope = function(s)
            if chosen.maximised:
                value, slope = 1 - value, -slope
            return self.strength * value, self.strength * slope

        return penalty

    def _asked(self, W: Array | LowRank) -> tuple[float, Any]:
        """λ f(W) and the derivative of f of a callable measure."""
        assert callable(self.measure)
        result = self.measure(W, return_gradient=True)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"measure of Regularizer must return (value, G), got {kind(result)}")
        value, G = result
        if not (is_array(G) or isinstance(G, LowRank)) or tuple(G.shape) != tuple(W.shape):
            raise ValueError(
                f"measure of Regularizer must return the derivative by W as an array or a LowRank of shape "
                f"{tuple(W.shape)}, got {kind(G)}"
            )
        like, given = (a._U if isinstance(a, LowRank) else a for a in (W, G))
        if dtype_name(given.dtype) != dtype_name(like.dtype) or library(given) != library(like):
            raise TypeError(
                f"measure of Regularizer must return the derivative in the dtype and library of the weight, "
                f"{dtype_name(like.dtype)} of {library(like)}, got {dtype_name(given.dtype)} of {library(given)}"
            )
        return self.strength * float(value), G.to_dense() if isinstance(G, LowRank) and is_array(W) else G

    def _of_diagonal(self, s: Array, shape: Shape) -> tuple[float, Array]:
        xp, r = namespace(s), s.shape[0]
        U, V = (xp.eye(n, r, dtype=s.dtype, device=device(s)) for n in shape)
        value, G = self._asked(LowRank._make(U, _diagonal(xp, s, U), V, BOTH))
        core = G._compressed(U, V) if isinstance(G, LowRank) else H(U) @ (G @ V)
        return value, self.strength * xp.linalg.diagonal(core)


def _indices(layers: Any) -> tuple[int, ...]:
    if isinstance(layers, (str, int)) or not hasattr(layers, "__iter__"):
        raise TypeError(f"layers of Regularizer must be a sequence of indices of net.weights, got {layers!r}")
    indices = tuple(check_int(i, "an index in layers of Regularizer") for i in layers)
    if not indices or min(indices) < 0 or len(set(indices)) < len(indices):
        raise ValueError(
            f"layers of Regularizer must be different indices of net.weights, from 0, got {list(indices)}"
        )
    return indices
