"""Optimisers: what they are, what they remember, and how that moves when bases change.

An optimiser takes the place of the substep of an integrator: it turns slopes (minus the gradient, in the coordinates of
the unknown) into increments. Its memory is kept per unknown, in the same coordinates, and is carried over whenever the
bases change: padded with zeros when a basis is augmented, rotated when it is truncated or replaced.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np

from dlra.backend import Array, H, namespace, zeros
from dlra.kernels import _compiled
from dlra.linalg import embed

__all__ = ["SGD", "Adam", "Momentum", "Optimizer"]

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Optimizer(ABC):
    """How slopes become increments.

    Parameters
    ----------
    lr : float or callable
        The learning rate h_t, or a schedule t -> h_t, t counting iterations from 0 (:mod:`dlra.nn.schedules`).
    weight_decay : float
        Adds -weight_decay W to minus the gradient of every weight W (not of biases).
    """

    lr: float | Schedule
    weight_decay: float = field(default=0.0, kw_only=True)

    remembers = True
    """Whether increments depend on earlier slopes."""

    def __post_init__(self) -> None:
        if not callable(self.lr):
            _check(
                "lr",
                self.lr,
                0.0,
                math.inf,
                f"{type(self).__name__}(lr) takes a positive number or a schedule",
            )
        _check("weight_decay", self.weight_decay, 0.0, math.inf, "it must be a number >= 0", closed=True)

    def rate(self, t: int) -> float:
        """The learning rate at iteration t.

        Raises
        ------
        ValueError
            The schedule gives no positive number.
        """
        if not callable(self.lr):
            return float(self.lr)
        h = self.lr(t)
        try:
            h = float(h)
        except (TypeError, ValueError):
            raise TypeError(f"the schedule lr must return a number, got {h!r} at iteration {t}") from None
        if not 0 < h < math.inf:
            raise ValueError(
                f"the schedule lr must return positive, finite numbers, got {h} at iteration {t}"
            )
        return h

    @property
    def gradient_decay(self) -> float:
        """The part of the weight decay that belongs to the gradient."""
        return self.weight_decay

    @abstractmethod
    def empty(self, like: Array, moves: bool) -> Memory:
        """The memory of an unknown like this before the first step; ``moves``: whether its coordinates change."""

    @abstractmethod
    def increment(
        self, h: float, slope: Array, memory: Memory, X: Array, spare: Sequence[Array] = ()
    ) -> tuple[Array, Memory]:
        """The increment of the unknown X for a slope, and the new memory.

        All arrays stay as they are but those of ``spare``, whose memory the results may take.
        """

    def identity(self) -> str:
        """The optimiser and its options, the same in every process."""
        return described(self)


def described(options: Any) -> str:
    """A dataclass and its values; functions by their names, which unlike their representations never change."""
    shown = []
    for f in fields(options):
        value = getattr(options, f.name)
        plain = not callable(value) or is_dataclass(value)
        shown.append(
            f"{f.name}={value if plain else getattr(value, '__qualname__', type(value).__qualname__)}"
        )
    return f"{type(options).__name__}({', '.join(shown)})"


class Memory(NamedTuple):
    """What an optimiser remembers of one unknown X: arrays of the shape of X, in the coordinates of X.

    Attributes
    ----------
    moments : tuple of arrays
        Matrices that move like X itself.
    squares : tuple of arrays
        Averages of squares and the weights of averages, which must not become negative.
    """

    moments: tuple[Array, ...] = ()
    squares: tuple[Array, ...] = ()

    def pad(self, rows: int, columns: int) -> Memory:
        """Carry the memory into bases of which the present ones are the leading columns: zeros elsewhere."""
        return Memory(*(tuple(embed(a, rows, columns) for a in part) for part in self))

    def rotate(self, P: Array | None, Q: Array | None) -> Memory:
        """Carry the memory from bases U, V into U₁, V₁, with P = UᴴU₁ and Q = VᴴV₁ (None: the side stays).

        Moments become PᴴXQ; squares (P∘P̄)ᵀ X (Q∘Q̄), which keeps them non-negative and, where P and Q have orthonormal
        columns, averages them.
        """
        P2, Q2 = (None if A is None else abs(A) ** 2 for A in (P, Q))
        return Memory(
            tuple(_between(P, X, Q) for X in self.moments), tuple(_between(P2, X, Q2) for X in self.squares)
        )


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: X ← X + h f.

    With the augmented integrator one step is Y₁ = Y₀ + h P_Û f(Y₀) P_V̂ before truncation, with the parallel one
    Y₁ = Y₀ + h P(Y₀) f(Y₀).

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a schedule t -> float.
    weight_decay : float
    """

    remembers = False

    def empty(self, like: Array, moves: bool) -> Memory:
        return Memory()

    def increment(
        self, h: float, slope: Array, memory: Memory, X: Array, spare: Sequence[Array] = ()
    ) -> tuple[Array, Memory]:
        return h * slope, memory


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Stochastic unified momentum: M ← mu M + h f, X ← X + lam h f + (1 - lam + lam mu) M.

    ``lam=0`` is heavy ball, ``lam=1`` Nesterov's method.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a schedule t -> float.
    mu : float in [0, 1)
    lam : float in [0, 1/(1 - mu)]
    weight_decay : float

    References
    ----------
    Y. Yan, T. Yang, Z. Li, Q. Lin, Y. Yang, A unified analysis of stochastic momentum methods for deep learning, IJCAI
    2018, 2955-2961; on low-rank factors: equations (5.22) to (5.24) of the stochastic dynamical low-rank method.
    """

    mu: float = 0.9
    lam: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("mu", self.mu, 0.0, 1.0, "it must lie in [0, 1)", closed=True)
        _check(
            "lam", self.lam, 0.0, (1 + 1e-12) / (1 - self.mu), "it must lie in [0, 1/(1 - mu)]", closed=True
        )

    def empty(self, like: Array, moves: bool) -> Memory:
        return Memory((zeros(like.shape, like),))

    def increment(
        self, h: float, slope: Array, memory: Memory, X: Array, spare: Sequence[Array] = ()
    ) -> tuple[Array, Memory]:
        fast = _fused(slope, *memory.moments)
        return (fast.momentum if fast else Momentum.generic)(self, h, slope, memory, X, spare)

    def generic(
        self, h: float, slope: Array, memory: Memory, X: Array, spare: Sequence[Array] = ()
    ) -> tuple[Array, Memory]:
        """:meth:`increment` for any array library."""
        step = h * slope
        M = self.mu * memory.moments[0] + step
        return self.lam * step + (1 - self.lam + self.lam * self.mu) * M, Memory((M,))


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: X ← X + h m̂ / (√v̂ + eps), with running means m̂ and v̂ of f and of its square.

    Each entry has its own bias correction, since the entries that belong to new directions start later: what is kept is
    the weight that each mean has gathered, 1 - betaᵏ after k steps. On low-rank factors the method acts on the core,
    and depends on its coordinates.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a schedule t -> float.
    beta1, beta2 : float in [0, 1)
    eps : float
    weight_decay : float
        Added to the gradient, as in PyTorch's Adam; with ``decoupled=True`` the weights decay by h weight_decay
        instead, as in AdamW.
    decoupled : bool

    References
    ----------
    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015, arXiv:1412.6980; I. Loshchilov, F.
    Hutter, Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101.
    """

    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decoupled: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("beta1", self.beta1, 0.0, 1.0, "it must lie in [0, 1)", closed=True)
        _check("beta2", self.beta2, 0.0, 1.0, "it must lie in [0, 1)", closed=True)
        _check("eps", self.eps, 0.0, math.inf, "it must be positive")

    def empty(self, like: Array, moves: bool) -> Memory:
        zero = zeros(like.shape, like)
        weight = zero if moves else zeros((1,) * len(like.shape), like)
        return Memory((zero,), (zero, weight, weight))

    def increment(
        self, h: float, slope: Array, memory: Memory, X: Array, spare: Sequence[Array] = ()
    ) -> tuple[Array, Memory]:
        v, *weights = memory.squares
        fast = _fused(slope, X, *memory.moments, v, weights=weights)
        return (fast.adam if fast else Adam.generic)(self, h, slope, memory, X, spare)

    def generic(
        self, h: float, slope: Array, memory: Memory, X: Array, spare: Sequence[Array] = ()
    ) -> tuple[Array, Memory]:
        """:meth:`increment` for any array library."""
        (m,), (v, w1, w2) = memory
        xp = namespace(slope)
        old1, old2 = self.beta1 * w1, self.beta2 * w2
        w1, w2 = old1 + (1 - self.beta1), old2 + (1 - self.beta2)
        m = (old1 * m + (1 - self.beta1) * slope) / w1  # m and v are the means themselves, bias corrected
        v = (old2 * v + (1 - self.beta2) * slope * slope) / w2
        increment = h * m / (xp.sqrt(v) + self.eps)
        if self.decoupled and self.weight_decay and len(X.shape) == 2:  # biases do not decay
            increment = increment - (h * self.weight_decay) * X
        return increment, Memory((m,), (v, w1, w2))

    @property
    def gradient_decay(self) -> float:
        return 0.0 if self.decoupled else self.weight_decay


def _between(P: Array | None, X: Array, Q: Array | None) -> Array:
    """PᴴXQ."""
    X = X if P is None else H(P) @ X
    return X if Q is None else X @ Q


_FUSED = 1 << 14
"""Entries from which one pass over memory outweighs loading numba (docs/measured-thresholds.md)."""


def _fused(slope: Array, *others: Array, weights: Sequence[Array] = ()) -> Any:
    """The module with compiled versions for arrays like ``slope``; None where there is none.

    ``weights`` have one entry each, or the shape of the others.
    """
    if type(slope) is not np.ndarray or slope.size < _FUSED or slope.dtype.char not in "fd":
        return None
    if not all(type(a) is np.ndarray and a.dtype.char == slope.dtype.char for a in (*others, *weights)):
        return None
    single = all(a.size == 1 for a in weights)
    if any(a.shape != slope.shape for a in (others if single else (*others, *weights))):
        return None
    return _compiled.module("updates")


def _check(name: str, value: Any, low: float, high: float, what: str, closed: bool = False) -> None:
    """Raise the error for a number outside (low, high), or [low, high)."""
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not hasattr(value, "__float__")):
        raise TypeError(f"{name} must be a number: {what}, got {value!r}")
    value = float(value)
    if not (low <= value if closed else low < value) or not value < high:
        raise ValueError(f"{name} = {value} is out of range: {what}")
