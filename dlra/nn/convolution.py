"""Convolutions and pooling, with their gradients by hand.

A convolution is a product with patches: with the kernel as a matrix W, F x CJK, and the patches of all images as rows,

    (Z * W)(n, f, u, v) = sum_{c,j,k} W(f, (c,j,k)) patches((n,u,v), (c,j,k))
                        = sum_{p,q} U(f, p) S(p, q) sum_{c,j,k} V((c,j,k), q) patches((n,u,v), (c,j,k)),

so that a kernel of low rank is applied factor by factor and its gradient has factors as that of a fully connected layer
has, with the N·OH·OW patches in the place of the batch (S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti,
F. Tudisco, Adv. Neural Inf. Process. Syst. 35 (2022), appendix 6.6, where the index u - j has to read u + j: this is a
cross-correlation, as in PyTorch).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from dlra.backend import Array, namespace
from dlra.lowrank import LowRank
from dlra.nn._gradient import RowProduct
from dlra.nn._layer import (
    Layer,
    Parameters,
    WeightLayer,
    check_layer_dtype,
    check_size,
    dense_start,
    generator,
    lowrank_start,
    summed,
    variance,
)
from dlra.nn._patches import Pair, Windows, fold, unfold
from dlra.nn._pooling import average_pool, average_pool_gradient, max_pool, max_pool_gradient
from dlra.nn.layers import check_rank

__all__ = ["AvgPool2d", "Conv2d", "LowRankConv2d", "MaxPool2d"]

BLOCK = 1 << 20
"""Bytes of the patches that the derivative by the input forms at a time on the CPU: they stay in cache."""


class Conv2d(WeightLayer):
    """A convolution of images with a dense kernel: N x C x H x W to N x F x OH x OW.

    As in PyTorch it is a cross-correlation, and OH = (H + 2 padding - dilation (J - 1) - 1) // stride + 1.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size : int or pair of int
        J and K.
    stride, padding, dilation : int or pair of int
    bias : bool
    init : {"he", "xavier", "lecun"}
        Variance of the Gaussian entries of the kernel at the start: 2/CJK, 2/(CJK + FJK) or 1/CJK. The bias starts
        at zero.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    weight : array, shape (F, C·J·K)
        The kernel as a matrix; of a kernel F x C x J x K it is the ``reshape(F, -1)``.
    bias : array, shape (F,), or None
    """

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, bias: bool = True, *, init: str = "he", dtype: Any = "float32", rng: Any = None,
    ):  # fmt: skip
        sizes, var, dtype = self._set_options(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, init, dtype
        )
        self.weight = dense_start(*sizes, var, dtype, generator(rng))

    def _set_options(
        self, in_channels: Any, out_channels: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
        bias: bool, init: str, dtype: Any,
    ) -> tuple[Pair, float, str]:  # fmt: skip
        """Set all but the weight; return its shape, the variance of its entries and its dtype."""
        C, F = check_size(in_channels, "in_channels"), check_size(out_channels, "out_channels")
        self.kernel_size = J, K = _pair(kernel_size, "kernel_size")
        self.stride = _pair(stride, "stride")
        self.padding = _pair(padding, "padding", least=0)
        self.dilation = _pair(dilation, "dilation")
        dtype = check_layer_dtype(dtype)
        self.bias = np.zeros(F, dtype=dtype) if bias else None
        return (F, C * J * K), variance(init, F, C * J * K, F * J * K), dtype

    @classmethod
    def _kinds(cls) -> tuple[type[WeightLayer], type[WeightLayer]]:
        return LowRankConv2d, Conv2d

    def _pointwise(self, weight: Array, bias: Array | None) -> Layer:
        config = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
        pairs = {name: (value, value) for name, value in config.items()}
        return Conv2d.from_config(pairs, (weight,) if bias is None else (weight, bias))

    @property
    def kernel(self) -> Array:
        """The kernel, F x C x J x K, of a dense layer (TypeError for a low-rank one, which has none)."""
        if isinstance(self.weight, LowRank):
            raise TypeError(
                f"{self!r} keeps its kernel as factors; for an array use weight.to_dense(), or net.to_dense() first"
            )
        F = self.shape[0]
        return namespace(self.weight).reshape(self.weight, (F, self._channels, *self.kernel_size))

    @property
    def _channels(self) -> int:
        return self.shape[1] // math.prod(self.kernel_size)

    @property
    def _windows(self) -> Windows:
        return Windows(self.kernel_size, self.stride, self.padding, self.dilation)

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        weight, bias = (*parameters, None)[:2]
        xp, windows = namespace(x), self._windows
        patches = unfold(x, windows)
        y, seen = _times_columns(weight, patches.T)
        if bias is not None:
            y += bias[:, None]
        F, N, (OH, OW) = y.shape[0], x.shape[0], windows.counts(*x.shape[2:])
        return xp.permute_dims(xp.reshape(y, (F, N, OH, OW)), (1, 0, 2, 3)), (patches, seen, tuple(x.shape))

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        weight, (patches, seen, shape) = parameters[0], tape
        xp = namespace(delta)
        rows = xp.reshape(xp.permute_dims(delta, (1, 0, 2, 3)), (delta.shape[1], -1)).T
        if not isinstance(weight, LowRank):
            dx = _input_gradient(weight.T, rows.T, shape, self._windows) if wants_dx else None
            gradient = rows.T @ patches
        else:
            z = weight._U.T @ rows.T
            Sz = z if weight._S is None else weight._S.T @ z
            dx = _input_gradient(weight._V, Sz, shape, self._windows) if wants_dx else None
            gradient = RowProduct.of(rows, patches, (weight._V, seen), (weight._U, z.T))
        return dx, (gradient, summed(rows)) if len(parameters) == 2 else (gradient,)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[0] != self._channels:
            raise ValueError(
                f"{self!r} takes inputs of shape (batch, {self._channels}, height, width), got "
                f"(batch, {', '.join(map(str, shape))})" + _channel_hint(shape, self._channels)
            )
        return (self.shape[0], *_checked_counts(self, self._windows, shape))

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation")}

    @classmethod
    def from_config(cls, config: dict[str, Any], members: Parameters) -> Layer:
        return super().from_config({name: tuple(pair) for name, pair in config.items()}, members)

    def __repr__(self) -> str:
        parts = [str(self._channels), str(self.shape[0]), _short(self.kernel_size)]
        parts += [f"rank={self.rank}"] if self.is_lowrank else []
        parts += [
            f"{name}={_short(getattr(self, name))}"
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
            if getattr(self, name) != (default, default)
        ]
        parts += [] if self.bias is not None else ["bias=False"]
        return f"{type(self).__name__}({', '.join(parts)})"


class LowRankConv2d(Conv2d):
    """A convolution of images with a kernel that is, as a matrix F x CJK, W = U S Vᵀ of low rank.

    The kernel is never formed: patches meet V first, then S and U.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size : int or pair of int
        J and K.
    rank : int
        Rank at the start, at most min(F, CJK). Training with an adaptive method changes it.
    stride, padding, dilation : int or pair of int
    bias : bool
    init : {"he", "xavier", "lecun"}
        Variance of the entries of a dense start, which ``start`` refers to.
    start : {"truncated", "half-scale", "same-variance"}
        How W starts; see :class:`~dlra.nn.LowRankLinear`.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    weight : LowRank, shape (F, C·J·K)
    bias : array, shape (F,), or None
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, rank: int, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, bias: bool = True, *, init: str = "he", start: str = "truncated",
        dtype: Any = "float32", rng: Any = None,
    ):  # fmt: skip
        sizes, var, dtype = self._set_options(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, init, dtype
        )
        rank = check_rank(rank, *sizes)
        self.weight = lowrank_start(*sizes, rank, var, start, dtype, generator(rng))


def _times_columns(W: Any, X: Array) -> tuple[Array, Array | None]:
    """W X for columns X, and XᵀV where W is a LowRank, whose right factor comes first."""
    if not isinstance(W, LowRank):
        return W @ X, None
    seen = W._V.T @ X
    left = W._U if W._S is None else W._U @ W._S  # there are many more columns than filters
    return left @ seen, seen.T


def _input_gradient(left: Array, D: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """The derivative by images of this shape, fold(left @ D), for D with N·OH·OW columns."""
    if type(D) is not np.ndarray:
        return fold((left @ D).T, shape, windows)
    N, C, H, W = shape
    positions = D.shape[1] // N if N else 1
    step = max(1, BLOCK // (left.shape[0] * positions * D.itemsize))
    dx = np.empty((C, N, H, W), dtype=D.dtype)
    for n in range(0, N, step):
        part = left @ D[:, n * positions : (n + step) * positions]
        images = fold(part.T, (part.shape[1] // positions, C, H, W), windows)
        dx[:, n : n + step] = images.transpose(1, 0, 2, 3)
    return dx.transpose(1, 0, 2, 3)


# ---- pooling


class _Pool2d(Layer):
    """Windows laid on every channel of images."""

    fresh = True

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        self.kernel_size = _pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else _pair(stride, "stride")
        self.padding = _pair(padding, "padding", least=0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"padding of a pooling must be at most half of kernel_size = {_short(self.kernel_size)}, got "
                f"{_short(self.padding)}"
            )
        self._windows = Windows(self.kernel_size, self.stride, self.padding)

    @abstractmethod
    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]: ...

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise ValueError(
                f"{self!r} takes inputs of shape (batch, channels, height, width), got "
                f"(batch, {', '.join(map(str, shape))})"
            )
        return (shape[0], *_checked_counts(self, self._windows, shape))

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding")}

    def __repr__(self) -> str:
        parts = [_short(self.kernel_size)]
        parts += [f"stride={_short(self.stride)}"] if self.stride != self.kernel_size else []
        parts += [f"padding={_short(self.padding)}"] if self.padding != (0, 0) else []
        return f"{type(self).__name__}({', '.join(parts)})"


class MaxPool2d(_Pool2d):
    """The largest entry of every window; its gradient goes to the first of several equal ones.

    Parameters
    ----------
    kernel_size : int or pair of int
    stride : int or pair of int, optional
        As ``kernel_size`` where it is not given.
    padding : int or pair of int
        At most half of ``kernel_size``; counts as minus infinity.
    """

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        y, where = max_pool(x, self._windows)
        return y, (where, tuple(x.shape))

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        where, shape = tape
        return (max_pool_gradient(delta, where, shape, self._windows) if wants_dx else None), ()


class AvgPool2d(_Pool2d):
    """The mean of every window.

    Parameters
    ----------
    kernel_size : int or pair of int
    stride : int or pair of int, optional
        As ``kernel_size`` where it is not given.
    padding : int or pair of int
        At most half of ``kernel_size``; zeros, which count in the mean.
    """

    def forward(self, x: Array, parameters: Parameters, reuse: bool) -> tuple[Array, Any]:
        return average_pool(x, self._windows), tuple(x.shape)

    def backward(
        self, delta: Array, tape: Any, parameters: Parameters, wants_dx: bool
    ) -> tuple[Array | None, Parameters]:
        return (average_pool_gradient(delta, tape, self._windows) if wants_dx else None), ()


# ---- checks


def _pair(value: Any, name: str, least: int = 1) -> Pair:
    """Return an int, or a pair of them, as a pair."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} must be an int or a pair of them, got {len(value)} values")
        first, second = value
    else:
        first = second = value
    return check_size(first, name, least), check_size(second, name, least)


def _short(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else str(pair)


def _checked_counts(layer: Layer, windows: Windows, shape: tuple[int, ...]) -> Pair:
    counts = windows.counts(*shape[1:])
    if min(counts) < 1:
        extent = [d * (k - 1) + 1 for k, d in zip(windows.kernel, windows.dilation, strict=True)]
        with_padding = [s + 2 * p for s, p in zip(shape[1:], windows.padding, strict=True)]
        raise ValueError(
            f"the kernel of {layer!r} covers {extent[0]} x {extent[1]} pixels, more than the "
            f"{with_padding[0]} x {with_padding[1]} of its input with padding; take a smaller kernel or more padding"
        )
    return counts


def _channel_hint(shape: tuple[int, ...], channels: int) -> str:
    if len(shape) == 2 and channels == 1:
        return "; give images their channel axis: x[:, None]"
    if len(shape) == 3 and shape[2] == channels:
        return "; channels come before height and width"
    return ""
