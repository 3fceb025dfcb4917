"""Networks of the literature."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from dlra.nn._layer import Layer, check_size, generator
from dlra.nn.layers import Flatten, Linear, LowRankLinear, ReLU, Sigmoid, Tanh
from dlra.nn.network import Sequential

__all__ = ["fcn", "lenet5", "lenet_300_100", "mlp"]

NAMES = ("fcn6", "fcn8", "fcn10", "lenet-300-100", "lenet5", "mlp")
"""The networks that :func:`by_name` knows."""

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


def fcn(
    layers: int = 8,
    width: int = 96,
    rank: int | Sequence[int | None] | None = None,
    *,
    inputs: int = 784,
    classes: int = 10,
    dtype: Any = "float32",
    rng: Any = None,
) -> Sequential:
    """Return a fully connected network of so many layers, all of one width but the last, with ReLU between them.

    Parameters
    ----------
    layers : int
        Number of weights: ``inputs`` to ``width``, ``width`` to ``width``, ..., ``width`` to ``classes``.
    width : int
    rank : int, sequence or None
        As in :func:`mlp`.
    inputs, classes : int
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential

    References
    ----------
    LoRITa, section 5.1 and Table 1a: FCN6, FCN8 and FCN10, of width 96.

    Examples
    --------
    >>> from dlra import nn
    >>> [W.shape for W in nn.fcn(layers=3, rng=0).weights]
    [(96, 784), (96, 96), (10, 96)]
    """
    layers, width = check_size(layers, "layers"), check_size(width, "width")
    inputs, classes = check_size(inputs, "inputs"), check_size(classes, "classes")
    return mlp((inputs, *[width] * (layers - 1), classes), rank, dtype=dtype, rng=rng)


def lenet_300_100(
    rank: int | Sequence[int | None] | None = None,
    *,
    inputs: int = 784,
    classes: int = 10,
    dtype: Any = "float32",
    rng: Any = None,
) -> Sequential:
    """Return a fully connected network with hidden layers of 300 and 100, with ReLU between them.

    Parameters
    ----------
    rank : int, sequence or None
        As in :func:`mlp`.
    inputs, classes : int
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86 (1998) 2278-2324.

    Examples
    --------
    >>> from dlra import nn
    >>> nn.lenet_300_100(rng=0).parameter_count()
    266200
    """
    inputs, classes = check_size(inputs, "inputs"), check_size(classes, "classes")
    return mlp((inputs, 300, 100, classes), rank, dtype=dtype, rng=rng)


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


def by_name(
    name: str, image: tuple[int, ...], *, hidden: Sequence[int] | None = None, classes: int = 10,
    dtype: Any = "float32", rng: Any = None,
) -> Sequential:  # fmt: skip
    """A dense network by its name.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    image : tuple of int
        Shape of an input; "lenet5" takes (1, 28, 28), the others rows.
    hidden : sequence of int, optional
        Sizes of the hidden layers of "mlp", which needs them; the others are what they are.
    classes : int
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    if (name == "mlp") != (hidden is not None):
        raise ValueError(
            "mlp needs hidden, the sizes of its hidden layers"
            if hidden is None
            else f"hidden goes with mlp only, {name} is what it is"
        )
    options: dict[str, Any] = {"classes": classes, "dtype": dtype, "rng": rng}
    if name == "lenet5":
        if tuple(image) != (1, 28, 28):
            raise ValueError(f"lenet5 takes images of shape (1, 28, 28), got {tuple(image)}")
        return lenet5(**options)
    if len(image) != 1:
        raise ValueError(f"{name} takes rows, give the number of pixels as (n,), got {tuple(image)}")
    if hidden is not None:
        return mlp((image[0], *hidden, classes), dtype=dtype, rng=rng)
    if name == "lenet-300-100":
        return lenet_300_100(inputs=image[0], **options)
    return fcn(int(name.removeprefix("fcn")), inputs=image[0], **options)


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
