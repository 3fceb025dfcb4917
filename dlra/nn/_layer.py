"""What every layer of a network offers, and the weight matrices of those that have one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from dlra._factors import check_int
from dlra.backend import Array, astype, device, dtype_name, from_host, is_array, kind, library, namespace
from dlra.lowrank import LowRank
from dlra.nn._gradient import RowProduct

__all__ = ["Layer", "WeightLayer"]

Parameters = tuple[Any, ...]
"""(weight, bias), (weight,) or (): the parameters of a layer, each a LowRank or an array."""

DTYPES = ("float32", "float64")

PHASES = ("evaluation", "training", "stored", "dense")
"""What the parameters of a low-rank weight may be counted as."""


def factored_count(shape: tuple[int, int], rank: int) -> int:
    """The numbers in two factors of a matrix, K Vᵀ: r (m + n)."""
    m, n = shape
    return rank * (m + n)


class Layer(ABC):
    """One layer: its options and, where it has any, its parameters.

    :meth:`forward` and :meth:`backward` receive the parameters as an argument: an integrator asks for gradients at
    points that are not those the layer holds.
    """

    fresh = False
    """Whether the output is new memory that neither the tape nor anybody else holds, so that it may be overwritten."""

    @property
    def parameters(self) -> Parameters:
        """The parameters, in the order in which :meth:`forward` takes them."""
        return ()

    @abstractmethod
    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        """Apply the layer to a batch.

        Parameters
        ----------
        x : array, first axis the batch
        parameters : tuple
            As :attr:`parameters`.
        reuse : bool
            Whether nobody needs x any more, so that its memory may take the result.

        Returns
        -------
        y : array
        tape : object
            What :meth:`backward` needs.
        """

    @abstractmethod
    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        """Go back through the layer.

        Parameters
        ----------
        delta : array
            Derivative of the loss by the output; it may be overwritten.
        tape : object
            From :meth:`forward`.
        parameters : tuple
            Those given to :meth:`forward`.
        wants_dx : bool
            Whether the derivative by the input is wanted.

        Returns
        -------
        dx : array or None
            Derivative of the loss by the input.
        gradients : tuple
            Derivatives by the parameters: a LowRank where the parameter is one, otherwise an array.
        """

    @abstractmethod
    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the output, without the batch axis, for an input of this shape.

        Raises
        ------
        ValueError
            The layer does not take such an input.
        """

    @property
    def members(self) -> Parameters:
        """What is trained, and stored."""
        return ()

    def flops(self, shape: tuple[int, ...]) -> int:
        """Return the multiplications and additions of the weight for one sample.

        A multiply-add counts 2; counters that report multiply-adds (ptflops) give half of it. Biases, activations and
        pooling are not counted. A low-rank weight counts as it is evaluated, K Vᵀ: 2r (m + n) where a dense one counts
        2mn, in a convolution for every pixel of the output.

        Parameters
        ----------
        shape : tuple
            Of the input, without the batch axis.

        Raises
        ------
        ValueError
            The layer does not take such an input.
        """
        self.output_shape(shape)
        return 0

    def split(self) -> tuple[Layer, ...]:
        """Return the layer as layers with dense weights: two where the weight is low-rank, otherwise itself."""
        return (self,)

    def config(self) -> dict[str, Any]:
        """The options with which :meth:`from_config` makes the layer again (without :attr:`members`)."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any], members: Parameters) -> Layer:
        """Make a layer from its options and what it holds."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


class WeightLayer(Layer):
    """A layer with a weight matrix (out x in), dense or low-rank, and perhaps a bias (out).

    The options are those of the constructor but for the two sizes, ``rank``, ``bias``, ``init``, ``dtype`` and ``rng``,
    which only say what the first parameters are.
    """

    weight: Any
    bias: Array | None
    fresh = True

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of an input without the batch axis; None where several will do."""
        return None

    @property
    def matrices(self) -> tuple[Any, ...]:
        """What is trained: the weight itself, or the arrays whose product it is."""
        return (self.weight,)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight, out x in."""
        return tuple(self.weight.shape)

    @property
    def parameters(self) -> Parameters:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def members(self) -> Parameters:
        """What is trained, and stored: the matrices, then the bias."""
        return self.matrices if self.bias is None else (*self.matrices, self.bias)

    @property
    def is_lowrank(self) -> bool:
        """Whether the weight is a LowRank."""
        return isinstance(self.weight, LowRank)

    @property
    def rank(self) -> int:
        """Rank of the weight; min(out, in) where it is dense."""
        return self.weight.rank if isinstance(self.weight, LowRank) else min(self.weight.shape)

    def compose(self, matrices: tuple[Any, ...]) -> Any:
        """The weight, from :attr:`matrices`."""
        return matrices[0]

    def pull_back(self, gradient: Any, matrices: tuple[Any, ...]) -> tuple[Any, ...]:
        """The derivatives of the loss by :attr:`matrices`, from that by the weight."""
        return (gradient,)

    def penalised(self, regularizer: Any, matrices: tuple[Any, ...]) -> tuple[Any, ...]:
        """The derivatives of a penalty of the weight by :attr:`matrices`."""
        return self.pull_back(regularizer.penalty(self.compose(matrices))[1], matrices)

    def with_matrices(self, matrices: tuple[Any, ...], bias: Array | None) -> WeightLayer:
        """Return the layer with other :attr:`matrices` and another bias."""
        return self.with_parameters(matrices[0], bias)

    def with_weight(self, weight: Any) -> WeightLayer:
        """Return the plain layer with another weight."""
        return self.with_parameters(weight, self.bias)

    def merge(self) -> WeightLayer:
        """Return the plain layer that computes the same: one with the product where the weight is one."""
        return self.with_weight(self.weight)

    def parameter_count(self, phase: str = "evaluation") -> int:
        """Return the number of parameters of the weight; see :meth:`Sequential.parameter_count`."""
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(map(repr, PHASES))}, got {phase!r}")
        if phase in ("training", "stored") and len(self.matrices) > 1:
            return sum(math.prod(a.shape) for a in self.matrices)
        if phase == "dense" or not isinstance(self.weight, LowRank):
            return math.prod(self.shape)
        r = 2 * self.rank if phase == "training" else self.rank
        return factored_count(self.shape, r) + (0 if phase == "evaluation" else r * r)

    def flops(self, shape: tuple[int, ...]) -> int:
        return 2 * self.parameter_count() * math.prod(self.output_shape(shape)[1:])

    def split(self) -> tuple[Layer, ...]:
        if not isinstance(self.weight, LowRank):
            return (self.merge(),)
        Y = self.weight.truncate(min_rank=self.rank)
        xp = namespace(Y._U)
        roots = xp.sqrt(xp.linalg.diagonal(Y.S))
        return self.with_parameters((Y._V * roots).T, None), self._pointwise(Y._U * roots, self.bias)

    @abstractmethod
    def _pointwise(self, weight: Array, bias: Array | None) -> Layer:
        """The layer that applies a matrix to the outputs of this one, which are kept where they are."""

    def with_parameters(self, weight: Any, bias: Array | None) -> WeightLayer:
        """Return the plain layer with other parameters, of the low-rank kind where the weight is a LowRank."""
        layer = object.__new__(type(self)._kinds()[0 if isinstance(weight, LowRank) else 1])
        vars(layer).update(vars(self), weight=weight, bias=bias)
        return layer

    @classmethod
    @abstractmethod
    def _kinds(cls) -> tuple[type[WeightLayer], type[WeightLayer]]:
        """The low-rank and the dense class of this layer."""

    @classmethod
    def from_config(cls, config: dict[str, Any], members: Parameters) -> Layer:
        layer = object.__new__(cls)
        for name, value in config.items():
            setattr(layer, name, value)
        layer.weight, layer.bias = (*members, None)[:2]
        return layer


# ---- products with weights


def apply_weight(x: Array, W: Any, bias: Array | None) -> tuple[Array, Array | None]:
    """X Wᵀ + b for a batch of rows, and X V where W is a LowRank, whose right factor comes first."""
    if not isinstance(W, LowRank):
        y = x @ W.T
        if bias is not None:
            y += bias
        return y, None
    seen = x @ W._V
    z, U = seen if W._S is None else seen @ W._S.T, W._U
    if bias is not None:  # as one more column, rather than in another pass over y
        xp = namespace(z)
        ones = xp.ones((z.shape[0], 1), dtype=z.dtype, device=device(z))
        z, U = xp.concat((z, ones), axis=1), xp.concat((U, bias[:, None]), axis=1)
    return z @ U.T, seen


def weight_derivatives(
    delta: Array, x: Array, seen: Array | None, W: Any, wants_dx: bool
) -> tuple[Array | None, Any]:
    """The derivatives by x, delta W, and by W, deltaᵀ x: a LowRank of inner dimension the batch where W is one."""
    if not isinstance(W, LowRank):
        return delta @ W if wants_dx else None, delta.T @ x
    if not wants_dx:
        return None, RowProduct.of(delta, x, (W._V, seen))
    z = delta @ W._U
    dx = (z if W._S is None else z @ W._S) @ W._V.T
    return dx, RowProduct.of(delta, x, (W._V, seen), (W._U, z))


# ---- first values


def generator(rng: Any) -> np.random.Generator:
    """Return a generator for ``rng``: a Generator, a seed or None."""
    if isinstance(rng, (np.random.RandomState, str, float)):
        raise TypeError(f"rng must be a numpy.random.Generator, an int or None, got {kind(rng)}")
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise TypeError(f"rng must be a numpy.random.Generator, an int >= 0 or None, got {rng!r}") from None


def check_layer_dtype(dtype: Any) -> str:
    """Return the name of a dtype that layers may have."""
    try:
        name = "" if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = str(dtype).rpartition(".")[2]  # of another library
    if name not in DTYPES:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    return name


def check_size(value: Any, name: str, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``."""
    value = check_int(value, name)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def check_layers(layers: Any, count: int) -> list[int]:
    """Return indices of weights as a list of ints from 0 on, in ascending order; None for all."""
    if layers is None:
        return list(range(count))
    if isinstance(layers, (str, dict)) or not hasattr(layers, "__iter__"):
        raise TypeError(f"layers must be a sequence of indices of weights, got {layers!r}")
    chosen = [check_int(i, "an index in layers") for i in layers]
    for i in chosen:
        if not -count <= i < count:
            raise IndexError(f"layers names weight {i}, but the network has {count}")
    chosen = [i % count for i in chosen]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"layers must name at least one weight, and none twice, got {list(layers)}")
    return sorted(chosen)


GAINS = {"he": (2.0, 0), "xavier": (2.0, 1), "lecun": (1.0, 0)}
"""Variance of the entries: numerator, and whether (in + out) or in is the denominator."""


def variance(init: str, out: int, fan_in: int, fan_out: int | None = None) -> float:
    """Variance of the entries of a weight at the start.

    "he": 2/in (K. He et al., Proc. ICCV 2015, 1026-1034); "xavier": 2/(in + out) (X. Glorot, Y. Bengio, Proc. AISTATS
    2010, 249-256); "lecun": 1/in.
    """
    if init not in GAINS:
        raise ValueError(f"init must be one of {', '.join(GAINS)}, got {init!r}")
    gain, both = GAINS[init]
    return gain / (fan_in + (out if fan_out is None else fan_out) if both else fan_in)


def dense_start(out: int, fan: int, var: float, dtype: str, rng: np.random.Generator) -> Array:
    """A Gaussian weight matrix."""
    return (math.sqrt(var) * rng.standard_normal((out, fan))).astype(dtype)


STARTS = ("truncated", "half-scale", "same-variance")


def lowrank_start(
    out: int, fan: int, rank: int, var: float, start: str, dtype: str, rng: np.random.Generator
) -> LowRank:
    """A random LowRank in orthonormal factors; nothing of size out x fan is formed.

    "same-variance": a Gaussian core, scaled so that the entries of the weight have the variance of the dense start;
    "half-scale": half of that; "truncated": distributed as the best approximation of rank ``rank`` of the dense start,
    whose singular vectors are uniformly distributed, and whose largest singular values are near those quantiles of
    the Marchenko-Pastur law.
    """
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
    U = np.linalg.qr(rng.standard_normal((out, rank)))[0]
    V = np.linalg.qr(rng.standard_normal((fan, rank)))[0]
    if start == "truncated":
        S = np.diag(math.sqrt(var) * gaussian_singular_values(out, fan, rank))
    else:
        S = rng.standard_normal((rank, rank))
        S *= math.sqrt(var * out * fan) / np.linalg.norm(S) * (0.5 if start == "half-scale" else 1.0)
    return LowRank(U.astype(dtype), S.astype(dtype), V.astype(dtype)).orthonormalized()


def gaussian_singular_values(m: int, n: int, rank: int) -> np.ndarray:
    """The ``rank`` largest singular values that an m x n standard Gaussian matrix typically has, descending.

    Quantiles of the Marchenko-Pastur law for the eigenvalues of G Gᵀ.
    """
    small, large = min(m, n), max(m, n)
    low, high = (math.sqrt(large) - math.sqrt(small)) ** 2, (math.sqrt(large) + math.sqrt(small)) ** 2
    angle = np.linspace(0.0, math.pi, 4001)  # x = middle - half cos(angle) clears the roots at both ends
    x = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(angle)
    density = np.sin(angle) ** 2 / np.maximum(x, np.finfo(float).tiny)
    if low == 0.0:
        density[0] = density[1]
    mass = np.concatenate(([0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))))
    shares = 1.0 - (np.arange(rank) + 0.5) / small
    return np.sqrt(np.interp(shares, mass / mass[-1], x))


# ---- checks of arrays


def check_input(x: Any, name: str, like: Array) -> None:
    """Raise the error that says why x is no batch for parameters like ``like``, if it is none."""
    if not is_array(x):
        raise TypeError(f"{name} must be an array, got {kind(x)}")
    check_plain(x, name)
    if dtype_name(x.dtype) != dtype_name(like.dtype):
        got = dtype_name(x.dtype)
        remedy = f", or the network with net.astype({got!r})" if got in DTYPES else ""
        raise TypeError(
            f"{name} must have the dtype of the network, {dtype_name(like.dtype)}, got {got}; cast it{remedy}"
        )
    if library(x) != library(like):
        raise TypeError(
            f"{name} must be an array of {library(like)}, as the network is, got {kind(x)} of {library(x)}; move "
            f"it, or the network with net.to({name})"
        )


def check_plain(a: Array, name: str) -> None:
    """Raise a TypeError for a tensor that carries a graph of derivatives."""
    if getattr(a, "requires_grad", False):
        raise TypeError(
            f"{name} requires gradients of PyTorch, which are not used here; give {name}.detach()"
        )


def moved(a: Any, like: Array) -> Any:
    """A parameter in the library and on the device of ``like``, keeping its dtype."""
    from dlra.backend import to_host

    if isinstance(a, LowRank):
        U, V = (from_host(to_host(f), like) for f in (a._U, a._V))
        S = None if a._S is None else from_host(to_host(a._S), like)
        return LowRank._make(U, S, V, a._orthonormal)
    return from_host(to_host(a), like)


def cast(a: Any, dtype: str) -> Any:
    """A parameter in another precision."""
    if isinstance(a, LowRank):
        S = None if a._S is None else astype(a._S, dtype)
        return LowRank._make(astype(a._U, dtype), S, astype(a._V, dtype)).orthonormalized()
    return astype(a, dtype)


def summed(delta: Array) -> Array:
    """Sum over all but the last axis of a matrix of rows: the derivative by a bias."""
    return namespace(delta).sum(delta, axis=0)
