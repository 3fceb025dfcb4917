"""Networks of the literature."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from dlra.nn._layer import Layer, check_size, generator
from dlra.nn.layers import Flatten, Linear, LowRankLinear, ReLU, Sigmoid, Tanh
from dlra.nn.network import Sequential

__all__ = ["lenet5", "mlp"]

ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid}


def mlp(
    sizes: Sequence[int],
    rank: int | Sequence[int | None] | None = None,
    *,
    activation: str = "relu",
    start: str = "truncated",
    dtype: Any = "float32",
    rng: Any = None,
) -> Sequential:
    """Return a fully connected network.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, outputs: ``(784, 500, 500, 500, 500, 10)``.
    rank : int, sequence or None
        Rank of the weights at the start: an int for all but the last layer, which stays dense, cut to what a
        layer allows; or one int, or None for a dense layer, for each of them. None: all dense.
    activation : {"relu", "tanh", "sigmoid"}
    start : str
        See :class:`LowRankLinear`.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential
    """
    sizes = [check_size(n, f"sizes[{i}]") for i, n in enumerate(sizes)]
    if len(sizes) < 2:
        raise ValueError(f"sizes must name at least inputs and outputs, got {sizes}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    rng = generator(rng)
    ranks = layer_ranks(rank, [(m, n) for n, m in itertools.pairwise(sizes)])
    layers: list[Layer] = []
    for i, (n, m) in enumerate(itertools.pairwise(sizes)):
        r = ranks[i]
        if r is None:
            layers.append(Linear(n, m, dtype=dtype, rng=rng))
        else:
            layers.append(LowRankLinear(n, m, r, start=start, dtype=dtype, rng=rng))
        layers.append(ACTIVATIONS[activation]())
    return Sequential(layers[:-1])


def lenet5(
    rank: int | Sequence[int | None] | None = None,
    *,
    classes: int = 10,
    start: str = "truncated",
    dtype: Any = "float32",
    rng: Any = None,
) -> Sequential:
    """Return LeNet5 for images 1 x 28 x 28, in the sizes of the low-rank literature.

    Two convolutions with kernels 5 x 5 and 20 and 50 filters, each followed by ReLU and 2 x 2 max pooling, then fully
    connected layers 800 to 500 to ``classes``: 430 500 weights.

    Parameters
    ----------
    rank : int, sequence or None
        As in :func:`mlp`, for the four weights of shapes 20 x 25, 50 x 500, 500 x 800 and classes x 500; an int holds
        for all but the last.
    classes : int
    start : str
        See :class:`LowRankLinear`.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86 (1998) 2278-2324; sizes as in S. Schotthöfer et al.,
    NeurIPS 2022, section 5.1.
    """
    from dlra.nn.convolution import Conv2d, LowRankConv2d, MaxPool2d

    classes, rng = check_size(classes, "classes"), generator(rng)
    ranks = layer_ranks(rank, [(20, 25), (50, 500), (500, 800), (classes, 500)])
    options = {"dtype": dtype, "rng": rng}

    def conv(i: int, channels: int, filters: int) -> Layer:
        r = ranks[i]
        if r is None:
            return Conv2d(channels, filters, 5, **options)
        return LowRankConv2d(channels, filters, 5, r, start=start, **options)

    def linear(i: int, n: int, m: int) -> Layer:
        r = ranks[i]
        return Linear(n, m, **options) if r is None else LowRankLinear(n, m, r, start=start, **options)

    return Sequential(
        conv(0, 1, 20), ReLU(), MaxPool2d(2), conv(1, 20, 50), ReLU(), MaxPool2d(2), Flatten(),
        linear(2, 800, 500), ReLU(), linear(3, 500, classes),
    )  # fmt: skip


def layer_ranks(rank: Any, shapes: list[tuple[int, int]]) -> list[int | None]:
    """The rank of each of these weights, None for a dense one."""
    if rank is None:
        return [None] * len(shapes)
    if isinstance(rank, (list, tuple)):
        if len(rank) != len(shapes):
            raise ValueError(
                f"rank must be an int or one for each of {len(shapes)} layers, got {len(rank)} values"
            )
        return [None if r is None else check_size(r, f"rank[{i}]") for i, r in enumerate(rank)]
    rank = check_size(rank, "rank")
    return [*(min(rank, m, n) for m, n in shapes[:-1]), None]
