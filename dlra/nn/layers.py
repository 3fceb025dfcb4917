"""Fully connected layers and activations, with their gradients by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlra.backend import Array, namespace
from dlra.nn._layer import (
    Layer,
    Parameters,
    WeightLayer,
    apply_weight,
    check_layer_dtype,
    check_size,
    dense_start,
    generator,
    lowrank_start,
    summed,
    variance,
    weight_derivatives,
)

__all__ = ["Flatten", "Linear", "LowRankLinear", "ReLU", "Sigmoid", "Tanh"]


class Linear(WeightLayer):
    """A fully connected layer y = x Wᵀ + b with a dense weight.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    init : {"he", "xavier", "lecun"}
        Variance of the Gaussian entries of W at the start: 2/in, 2/(in + out) or 1/in. The bias starts at zero.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    weight : array, shape (out_features, in_features)
    bias : array, shape (out_features,), or None
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, init: str = "he", dtype: Any = "float32",
        rng: Any = None,
    ):  # fmt: skip
        n, m = check_size(in_features, "in_features"), check_size(out_features, "out_features")
        dtype = check_layer_dtype(dtype)
        self.weight = dense_start(m, n, variance(init, m, n), dtype, generator(rng))
        self.bias = np.zeros(m, dtype=dtype) if bias else None

    @classmethod
    def _kinds(cls) -> tuple[type[WeightLayer], type[WeightLayer]]:
        return LowRankLinear, Linear

    def _pointwise(self, weight: Array, bias: Array | None) -> Layer:
        return self.with_parameters(weight, bias)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.shape[1],)

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        weight, bias = (*parameters, None)[:2]
        y, seen = apply_weight(x, weight, bias)
        return y, (x, seen)

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        dx, gradient = weight_derivatives(delta, tape[0], tape[1], parameters[0], wants_dx)
        return dx, (gradient, summed(delta)) if len(parameters) == 2 else (gradient,)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        m, n = self.shape
        if shape != (n,):
            hint = "; flatten images first (Flatten)" if len(shape) == 3 and math.prod(shape) == n else ""
            raise ValueError(
                f"{self!r} takes inputs of shape (batch, {n}), got (batch, {_text(shape)}){hint}"
            )
        return (m,)

    def __repr__(self) -> str:
        m, n = self.shape
        rank = f", rank={self.rank}" if self.is_lowrank else ""
        return f"{type(self).__name__}({n}, {m}{rank}{'' if self.bias is not None else ', bias=False'})"


class LowRankLinear(Linear):
    """A fully connected layer y = x Wᵀ + b with W = U S Vᵀ of low rank.

    Nothing of size out x in is ever formed.

    Parameters
    ----------
    in_features, out_features : int
    rank : int
        Rank at the start, at most min(out_features, in_features). Training with an adaptive method changes it.
    bias : bool
    init : {"he", "xavier", "lecun"}
        Variance of the entries of a dense start, which ``start`` refers to.
    start : {"truncated", "half-scale", "same-variance"}
        How W starts: distributed as the best approximation of a dense start (measured on MNIST, this trains best where
        ranks adapt), or a random matrix of this rank with half the scale, or the variance, of a dense start.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    weight : LowRank, shape (out_features, in_features)
    bias : array, shape (out_features,), or None
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, bias: bool = True, *, init: str = "he",
        start: str = "truncated", dtype: Any = "float32", rng: Any = None,
    ):  # fmt: skip
        n, m = check_size(in_features, "in_features"), check_size(out_features, "out_features")
        rank = check_rank(rank, m, n)
        dtype = check_layer_dtype(dtype)
        self.weight = lowrank_start(m, n, rank, variance(init, m, n), start, dtype, generator(rng))
        self.bias = np.zeros(m, dtype=dtype) if bias else None


def check_rank(rank: Any, m: int, n: int) -> int:
    """Return the rank of an m x n weight as an int that is possible."""
    rank = check_size(rank, "rank")
    if rank > min(m, n):
        raise ValueError(f"rank must not exceed min(out, in) = {min(m, n)} of the weight, got {rank}")
    return rank


class Entrywise(Layer):
    """A function of each entry."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


class ReLU(Entrywise):
    """max(x, 0), entry by entry."""

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        if type(x) is np.ndarray:
            y = np.maximum(x, 0, out=x if reuse else None)
        else:
            y = namespace(x).clip(x, 0.0, None)
        return y, y

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        if type(delta) is np.ndarray:
            return np.multiply(delta, tape > 0, out=delta), ()
        xp = namespace(delta)
        return xp.where(tape > 0, delta, xp.zeros_like(delta)), ()


class Tanh(Entrywise):
    """tanh(x), entry by entry."""

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        y = namespace(x).tanh(x)
        return y, y

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        return delta * (1 - tape * tape), ()


class Sigmoid(Entrywise):
    """1 / (1 + exp(-x)), entry by entry."""

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        y = 0.5 * (1 + namespace(x).tanh(0.5 * x))  # never overflows
        return y, y

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        return delta * (tape * (1 - tape)), ()


class Flatten(Layer):
    """N x C x H x W (or any other shape) to N x CHW."""

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        return namespace(x).reshape(x, (x.shape[0], math.prod(x.shape[1:]))), x.shape

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        return namespace(delta).reshape(delta, tape), ()

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape)) if shape else "nothing"
