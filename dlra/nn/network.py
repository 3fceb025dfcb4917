"""Sequential: a network as a list of layers, and as a coupled vector field of its parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dlra._factors import check_int
from dlra.backend import Array, all_finite, dtype_name, is_array, kind, library, namespace
from dlra.field import Factored, factored
from dlra.lowrank import LowRank
from dlra.nn._layer import Layer, WeightLayer, cast, check_input, check_layer_dtype, check_size, moved
from dlra.nn.losses import Loss, accuracy, r_squared

__all__ = ["Gradient", "Sequential", "gradient_flow"]

_ROWS = 1024
"""Rows that predict and score send through the network at once."""


@dataclass(frozen=True)
class Gradient:
    """The gradient of a loss by the parameters of a network.

    Attributes
    ----------
    weights : tuple
        dL/dW in the order of ``net.weights``: a LowRank δᵀx (inner dimension: the rows of the batch, times the pixels
        of the output in a convolution) for low-rank weights, an array for dense ones.
    biases : tuple of arrays
        In the order of ``net.biases``.
    members : tuple
        In the order of ``net.members``: where a weight is a product of several matrices that are trained, by each of
        them; otherwise what ``weights`` and ``biases`` have.
    """

    weights: tuple[Any, ...]
    biases: tuple[Array, ...]
    members: tuple[Any, ...] = ()


class Sequential:
    """A network of layers applied one after the other.

    Parameters
    ----------
    *layers : Layer
        Or one iterable of layers.

    Raises
    ------
    TypeError
        Something that is no layer; parameters of several dtypes or libraries.
    ValueError
        No layers; layers whose sizes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import nn
    >>> net = nn.Sequential(nn.LowRankLinear(784, 500, rank=20, rng=0), nn.ReLU(), nn.Linear(500, 10, rng=1))
    >>> net
    Sequential(
      LowRankLinear(784, 500, rank=20),
      ReLU(),
      Linear(500, 10),
    )
    >>> net.ranks
    (20, 10)
    >>> net.predict(np.zeros((3, 784), dtype=np.float32)).shape
    (3, 10)
    """

    def __init__(self, *layers: Any):
        if len(layers) == 1 and not isinstance(layers[0], Layer) and isinstance(layers[0], Iterable):
            layers = tuple(layers[0])
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                hint = "; an instance is wanted, not the class" if isinstance(layer, type) else ""
                raise TypeError(f"layer {i} of Sequential must be a layer of dlra.nn, got {layer!r}{hint}")
        self.layers: tuple[Layer, ...] = tuple(copy.copy(layer) for layer in layers)
        if not self._weighted:
            raise ValueError("Sequential needs at least one layer with a weight")
        first = self._like
        for layer in self._weighted:
            for p in layer.members:
                a = p._U if isinstance(p, LowRank) else p
                if dtype_name(a.dtype) != dtype_name(first.dtype) or library(a) != library(first):
                    raise TypeError(
                        "the layers of a network need one dtype and one array library, got "
                        f"{dtype_name(first.dtype)} of "
                        f"{library(first)} and {dtype_name(a.dtype)} of {library(a)} ({layer!r})"
                    )
        self._check_chain()

    # ---- what it is

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Layer:
        return self.layers[i]

    @property
    def _weighted(self) -> list[WeightLayer]:
        return [layer for layer in self.layers if isinstance(layer, WeightLayer)]

    @property
    def _owners(self) -> list[WeightLayer]:
        """The layer to which each of the matrices belongs."""
        return [layer for layer in self._weighted for _ in layer.matrices]

    @property
    def _like(self) -> Array:
        """An array in the dtype and library of the network."""
        first = self._weighted[0].matrices[0]
        return first._U if isinstance(first, LowRank) else first

    @property
    def dtype(self) -> str:
        """Name of the dtype of the parameters."""
        return dtype_name(self._like.dtype)

    @property
    def weights(self) -> tuple[Any, ...]:
        """The weight of each layer that has one, out x in (F x CJK for a convolution): a LowRank or an array.

        Of a layer whose weight is a product it is the product.
        """
        return tuple(layer.weight for layer in self._weighted)

    @property
    def matrices(self) -> tuple[Any, ...]:
        """What is trained of the weights, layer by layer: the weight itself, or the matrices whose product it is."""
        return tuple(matrix for layer in self._weighted for matrix in layer.matrices)

    @property
    def biases(self) -> tuple[Array, ...]:
        """The bias of each layer that has one."""
        return tuple(layer.bias for layer in self._weighted if layer.bias is not None)

    @property
    def members(self) -> tuple[Any, ...]:
        """All parameters as the members of a coupled system: the matrices, then the biases."""
        return (*self.matrices, *self.biases)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank of each weight; min(out, in) where it is dense."""
        return tuple(layer.rank for layer in self._weighted)

    def parameter_count(self, phase: str = "evaluation", *, biases: bool = False) -> int:
        """Return the number of parameters of the weights.

        Parameters
        ----------
        phase : {"evaluation", "training", "stored", "dense"}
            What a low-rank weight of rank r counts: as it is evaluated, K Vᵀ, r (m + n); as the augmented integrator
            trains it, with bases of 2r columns, 2r (m + n) + (2r)²; as it is stored, r (m + n) + r²; as a dense
            weight, which counts m n. Of a weight that is trained as a product all matrices count where it is trained
            and stored.
        biases : bool
            Whether biases are counted too.

        Notes
        -----
        The first two are the counts of S. Schotthöfer et al., Low-rank lottery tickets, NeurIPS 2022, Tables 5 and 6.
        """
        total = sum(layer.parameter_count(phase) for layer in self._weighted)
        return total + (sum(b.shape[0] for b in self.biases) if biases else 0)

    def compression(self, phase: str = "evaluation") -> float:
        """Return 1 - parameters / parameters of the dense network (weights only); negative where it needs more."""
        return 1.0 - self.parameter_count(phase) / self.parameter_count("dense")

    def flops(self, shape: tuple[int, ...] | None = None) -> int:
        """Return the multiplications and additions of all weights for one sample.

        A multiply-add counts 2; counters that report multiply-adds (ptflops) give half of it. Biases, activations and
        pooling are not counted. A low-rank weight counts as it is evaluated, K Vᵀ: 2r (m + n) where a dense one counts
        2mn, in a convolution for every pixel of the output.

        Parameters
        ----------
        shape : tuple of int, optional
            Of an input, without the batch axis: ``(1, 28, 28)``. Inferred where the first weight is that of a fully
            connected layer.

        Raises
        ------
        ValueError
            ``shape`` is missing, or the network does not take such inputs.

        Examples
        --------
        >>> from dlra import nn
        >>> nn.mlp((784, 500, 10), rng=0).flops()
        794000
        >>> nn.lenet5(rank=5, rng=0).flops((1, 28, 28))
        634200
        """
        known = None if shape is None else check_shape(shape)
        return sum(layer.flops(given) for layer, given in self._inputs(known))

    # ---- what it does

    def predict(self, x: Array) -> Array:
        """Return the outputs of the last layer, shape (batch, ...), for a batch x.

        A classifier's outputs are the logits; ``net.predict(x).argmax(axis=1)`` are the labels. Large batches go
        through in pieces of 1024 rows.
        """
        self._check_x(x, "x")
        outputs = list(self._outputs(x))
        return outputs[0] if len(outputs) == 1 else namespace(x).concat(outputs, axis=0)

    __call__ = predict

    def score(self, x: Array, y: Array) -> float:
        """Return the share of rows classified right, for integer labels y; R² otherwise."""
        z = self.predict(x)
        labels = is_array(y) and dtype_name(y.dtype).startswith(("int", "uint"))
        shapes = [z.shape[:1]] if labels else [z.shape, z.shape[:1]] if z.shape[1:] == (1,) else [z.shape]
        if not is_array(y) or tuple(y.shape) not in [tuple(shape) for shape in shapes]:
            raise ValueError(
                f"y must be an array with one target for each of {x.shape[0]} rows of x, labels or numbers of shape "
                f"{tuple(z.shape)}, got {kind(y)}"
            )
        return accuracy(z, y) / x.shape[0] if labels else r_squared(z, y)

    def loss_and_gradient(self, x: Array, y: Array, loss: Loss) -> tuple[float, Gradient]:
        """Return the loss, a mean over the batch, and its gradient by all parameters: one forward, one backward pass.

        Parameters
        ----------
        x : array, shape (batch, features) or (batch, channels, height, width)
            In the dtype and library of the network.
        y : array
            Labels (:class:`CrossEntropyLoss`) or numbers (:class:`MSELoss`).
        loss : Loss

        Returns
        -------
        loss : float
        gradient : Gradient
            dL/dW; the low-rank ones as δᵀx, never formed.
        """
        self.check_batch(x, y, loss)
        value, weights, biases, _ = self._differentiated(self._by_layer(self.members), x, y, loss, 1.0)
        members = (*self._pulled_back(weights, self.matrices), *biases)
        return value, Gradient(tuple(weights), tuple(biases), members)

    def check_batch(self, x: Any, y: Any, loss: Any, names: tuple[str, str] = ("x", "y")) -> None:
        """Raise the error that says why (x, y) is not a batch for this network and loss, if it is none."""
        if not isinstance(loss, Loss):
            raise TypeError(f"loss must be a loss of dlra.nn, e.g. CrossEntropyLoss(), got {loss!r}")
        shape = self._check_x(x, names[0])
        loss.check_targets(y, shape, self._like, names[1])
        if y.shape[0] != x.shape[0]:
            raise ValueError(
                f"{names[0]} and {names[1]} need the same number of rows, got {x.shape[0]} and {y.shape[0]}"
            )

    # ---- copies

    def astype(self, dtype: Any) -> Sequential:
        """Return a copy in "float32" or "float64"."""
        name = check_layer_dtype(dtype)
        return self._mapped(lambda p: cast(p, name))

    def to(self, like: Array) -> Sequential:
        """Return a copy whose parameters are arrays of the library and device of the array ``like``."""
        if not is_array(like):
            raise TypeError(
                f"to takes an array, whose library and device the network shall have, got {kind(like)}"
            )
        return self._mapped(lambda p: moved(p, like))

    def to_dense(self) -> Sequential:
        """Return a copy with dense weights."""
        net = self.merge()
        return net.with_weights(
            {i: W.to_dense() for i, W in enumerate(net.weights) if isinstance(W, LowRank)}
        )

    def merge(self) -> Sequential:
        """Return a copy of plain layers: each weight that is trained as a product becomes one matrix.

        It is a LowRank where the inner dimensions of the product are so small that two factors take fewer parameters.
        """
        net = self.copy()
        net.layers = tuple(la.merge() if isinstance(la, WeightLayer) else la for la in self.layers)
        return net

    def split(self) -> Sequential:
        """Return a copy with dense weights in which each low-rank layer is two layers: first Vᵀ, then U.

        A fully connected layer becomes two, a convolution with r filters is followed by one with kernels 1 x 1; the
        bias is that of the second. The outputs are the same to rounding, and so are :meth:`parameter_count` and
        :meth:`flops`. The singular values are shared by both factors, P Σ^½ and Σ^½ Qᵀ: of all factors with this
        product these have the least norms together, that is the least weight decay.
        """
        return type(self)(part for layer in self.layers for part in layer.split())

    def copy(self) -> Sequential:
        """Return a copy; parameters, which nothing changes in place, are shared."""
        return self._mapped(lambda p: p)

    def with_weights(self, weights: dict[int, Any]) -> Sequential:
        """Return a copy with some weights replaced.

        Parameters
        ----------
        weights : dict
            Index in ``net.weights`` -> LowRank or array of the same shape. Each is kept exactly: a dense array makes
            the layer a dense one.
        """
        if not isinstance(weights, dict):
            raise TypeError(f"weights must be a dict {{index: matrix}}, got {kind(weights)}")
        net = self.copy()
        layers = net._weighted
        if len({i % len(layers) for i in weights}) < len(weights):
            raise ValueError(f"with_weights names a weight twice: {list(weights)}")
        for i, W in weights.items():
            if not -len(layers) <= check_int(i, "an index of with_weights") < len(layers):
                raise IndexError(f"there is no weight {i}: the network has {len(layers)}")
            if not isinstance(W, LowRank) and not is_array(W):
                raise TypeError(f"weight {i} must be a LowRank or an array, got {kind(W)}")
            if tuple(W.shape) != layers[i].shape:
                raise ValueError(f"weight {i} must have shape {layers[i].shape}, got {tuple(W.shape)}")
            a = W._U if isinstance(W, LowRank) else W
            check_input(a, f"weight {i}", self._like)
            layers[i] = layers[i].with_weight(W)
        replaced = iter(layers)
        net.layers = tuple(next(replaced) if isinstance(la, WeightLayer) else la for la in net.layers)
        return net

    def with_members(self, members: Any) -> Sequential:
        """Return a copy with these parameters, ordered as :attr:`members`."""
        members = tuple(members)
        count = len(self.matrices)
        if len(members) != len(self.members):
            raise ValueError(
                f"members must be {count} matrices and then {len(self.biases)} biases, got {len(members)}"
            )
        for i, (given, old) in enumerate(zip(members, self.members, strict=True)):
            name = f"weight {i}" if i < count else f"bias {i - count}"
            if i < count and not isinstance(given, LowRank) and not is_array(given):
                raise TypeError(f"{name} must be a LowRank or an array, got {kind(given)}")
            check_input(given._U if i < count and isinstance(given, LowRank) else given, name, self._like)
            if tuple(given.shape) != tuple(old.shape):
                raise ValueError(f"{name} must have shape {tuple(old.shape)}, got {tuple(given.shape)}")
        net = self.copy()
        net._set(members)
        return net

    def save(self, path: Any, about: dict[str, Any] | None = None) -> None:
        """Write layers and parameters to an HDF5 file, for :func:`dlra.nn.load`. Needs h5py.

        Parameters
        ----------
        path : path
        about : dict, optional
            What else the file shall say, for whoever opens it: numbers, strings, arrays, lists and dicts of these.
        """
        from dlra.nn._storage import save

        save(self, path, about)

    def __repr__(self) -> str:
        return "\n".join(["Sequential(", *(f"  {layer!r}," for layer in self.layers), ")"])

    # ---- inside

    def _mapped(self, function: Callable[[Any], Any]) -> Sequential:
        net = object.__new__(type(self))
        net.layers = tuple(
            layer.with_matrices(
                tuple(map(function, layer.matrices)), None if layer.bias is None else function(layer.bias)
            )
            if isinstance(layer, WeightLayer)
            else layer
            for layer in self.layers
        )
        return net

    def _set(self, members: tuple[Any, ...]) -> None:
        """Replace the parameters by these, ordered as :attr:`members`."""
        parts = self._parts(members)
        self.layers = tuple(
            layer.with_matrices(*next(parts)) if isinstance(layer, WeightLayer) else layer
            for layer in self.layers
        )

    def _parts(self, members: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """The matrices and the bias (or None) of each layer with a weight, from members."""
        layers = self._weighted
        matrices = iter(members)
        own = [tuple(next(matrices) for _ in layer.matrices) for layer in layers]
        return zip(own, (None if layer.bias is None else next(matrices) for layer in layers), strict=True)

    def _by_layer(self, members: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What :meth:`Layer.forward` of each layer takes, from members."""
        parts = self._parts(members)
        out: list[tuple[Any, ...]] = []
        for layer in self.layers:
            if not isinstance(layer, WeightLayer):
                out.append(())
            else:
                matrices, bias = next(parts)
                weight = layer.compose(matrices)
                out.append((weight,) if bias is None else (weight, bias))
        return out

    def _pulled_back(self, gradients: list[Any], matrices: tuple[Any, ...]) -> list[Any]:
        """The derivatives by the matrices, from those by the weights."""
        rest = iter(matrices)
        out: list[Any] = []
        for layer, gradient in zip(self._weighted, gradients, strict=True):
            out += layer.pull_back(gradient, tuple(next(rest) for _ in layer.matrices))
        return out

    def _forward(self, parameters: list[tuple[Any, ...]], x: Array) -> tuple[Array, list[Any]]:
        """The outputs and the tapes of all layers."""
        tapes, reuse = [], False
        for layer, own in zip(self.layers, parameters, strict=True):
            x, tape = layer.forward(x, own, reuse)
            tapes.append(tape)
            reuse = layer.fresh
        return x, tapes

    def _outputs(self, x: Array) -> Iterator[Array]:
        """The outputs of the last layer, in pieces of rows that fit into memory."""
        parameters = [tuple(_fused(p, x.shape[0]) for p in own) for own in self._by_layer(self.members)]
        for rows in pieces(x.shape[0]):
            yield self._applied(x[rows, ...], parameters)

    def _applied(self, x: Array, parameters: list[tuple[Any, ...]]) -> Array:
        reuse = False
        for layer, own in zip(self.layers, parameters, strict=True):
            x, _ = layer.forward(x, own, reuse)
            reuse = layer.fresh
        return x

    def _derivatives(
        self, members: tuple[Any, ...], x: Array, y: Array, loss: Loss, sign: float
    ) -> tuple[float, list[Any], Array]:
        """The loss, its derivatives by all members (times sign), and the outputs."""
        value, weights, biases, z = self._differentiated(self._by_layer(members), x, y, loss, sign)
        return value, self._pulled_back(weights, members) + biases, z

    def _differentiated(
        self, parameters: list[tuple[Any, ...]], x: Array, y: Array, loss: Loss, sign: float
    ) -> tuple[float, list[Any], list[Any], Array]:
        """The loss, its derivatives by all weights and by all biases (times sign), and the outputs."""
        z, tapes = self._forward(parameters, x)
        value, delta = loss.with_derivative(z, y)
        if sign != 1.0:
            delta = sign * delta
        first = next(i for i, layer in enumerate(self.layers) if isinstance(layer, WeightLayer))
        gradients: list[tuple[Any, ...]] = []
        for i in range(len(self.layers) - 1, first - 1, -1):
            delta, gradient = self.layers[i].backward(delta, tapes[i], parameters[i], i > first)
            gradients.append(gradient)
        weights, biases = [], []
        for gradient in reversed(gradients):
            weights += gradient[:1]
            biases += gradient[1:]
        return value, weights, biases, z

    def _check_chain(self) -> None:
        """Check that consecutive layers fit, as far as that can be said without an input."""
        shape: tuple[int, ...] | None = None
        for layer in self.layers:
            if shape is None and isinstance(layer, WeightLayer):
                shape = layer.input_shape
            if shape is not None:
                shape = layer.output_shape(shape)

    def _inputs(self, shape: tuple[int, ...] | None) -> Iterator[tuple[Layer, tuple[int, ...]]]:
        """The layers, from the first with a weight on where no shape is given, with the shapes of their inputs."""
        layers = self.layers
        if shape is None:
            first = self._weighted[0]
            shape, layers = first.input_shape, layers[layers.index(first) :]
            if shape is None:
                raise ValueError(
                    f"shape is missing: {first!r}, the first layer with a weight, takes images of any size; give "
                    "(channels, height, width) of an input, e.g. shape=(1, 28, 28)"
                )
        for layer in layers:
            yield layer, shape
            shape = layer.output_shape(shape)

    def _check_x(self, x: Any, name: str) -> tuple[int, ...]:
        """Check a batch of inputs; return the shape of an output."""
        check_input(x, name, self._like)
        if x.ndim < 2:
            raise ValueError(
                f"{name} must be a batch, shape (batch, features) or (batch, channels, height, width), got {kind(x)}"
            )
        if x.shape[0] == 0:
            raise ValueError(f"{name} is empty: shape {tuple(x.shape)}")
        shape = tuple(x.shape[1:])
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def _not_finite(self, x: Array, y: Array, loss: Loss) -> str:
        """Say where something that is not finite arises first, for a batch on which the loss or the gradient is not."""
        if not all_finite(x):
            return "the data x"
        x0 = x
        for i, (layer, own) in enumerate(zip(self.layers, self._by_layer(self.members), strict=True)):
            x, _ = layer.forward(x, own, False)
            if not all_finite(x):
                return f"layer {i}, {layer!r}"
        value, gradients, _, _ = self._differentiated(self._by_layer(self.members), x0, y, loss, 1.0)
        if not math.isfinite(value):
            return "the loss"
        for layer, G in reversed(list(zip(self._weighted, gradients, strict=True))):
            if not all(all_finite(a) for a in ((G.U, G.V) if isinstance(G, LowRank) else (G,))):
                return f"the gradient of layer {self.layers.index(layer)}, {layer!r}"
        return "the step"


def _fused(p: Any, rows: int) -> Any:
    """A parameter for an evaluation of so many rows: where there are more than a low-rank weight has in its smaller
    factor, its core is multiplied into that once, not into every row."""
    if not isinstance(p, LowRank) or p._S is None or rows <= min(p.shape):
        return p
    if p.shape[0] <= p.shape[1]:
        return LowRank._make(p._U @ p._S, None, p._V)
    return LowRank._make(p._U, None, p._V @ p._S.T)


def check_shape(shape: Any, name: str = "shape") -> tuple[int, ...]:
    """Return the shape of an input without the batch axis as a tuple of positive ints."""
    if not isinstance(shape, (tuple, list)) or not shape:
        raise TypeError(f"{name} must be a tuple such as (784,) or (1, 28, 28), got {shape!r}")
    return tuple(check_size(size, f"{name}[{i}]") for i, size in enumerate(shape))


def pieces(rows: int) -> Iterator[slice]:
    """Cut rows into pieces that fit into memory."""
    for i in range(0, rows, _ROWS):
        yield slice(i, min(i + _ROWS, rows))


def gradient_flow(net: Sequential, x: Array, y: Array, loss: Loss) -> Factored:
    """Return the gradient flow of a loss as a coupled field for :func:`dlra.solve`.

    Parameters
    ----------
    net : Sequential
        Says what the layers are; its parameters do not matter.
    x, y : arrays
        The data, all of which is used in every evaluation.
    loss : Loss

    Returns
    -------
    F : factored field
        F(t, Ys) = -dL/dYs for a list Ys ordered as ``net.members``; start from ``list(net.members)``.

    Examples
    --------
    >>> import dlra, numpy as np
    >>> from dlra import nn
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((50, 8)), rng.integers(3, size=50)
    >>> net = nn.Sequential(
    ...     nn.LowRankLinear(8, 6, rank=2, dtype="float64", rng=0),
    ...     nn.Tanh(),
    ...     nn.Linear(6, 3, dtype="float64", rng=1),
    ... )
    >>> F = nn.gradient_flow(net, x, y, nn.CrossEntropyLoss())
    >>> sol = dlra.solve(F, (0, 1), list(net.members), "augmented-bug", dt=0.1)
    >>> net.with_members(sol.y[-1]).ranks
    (2, 3)
    """
    net.check_batch(x, y, loss)

    shapes = [tuple(Y.shape) for Y in net.members]

    def F(_: float, Ys: Any) -> list[Any]:
        given = [tuple(Y.shape) for Y in Ys] if isinstance(Ys, (list, tuple)) else kind(Ys)
        if given != shapes:
            raise ValueError(
                f"the state must be list(net.members), {len(net.matrices)} matrices and then {len(net.biases)} biases "
                f"of shapes {shapes}, got {given}"
            )
        return net._derivatives(tuple(Ys), x, y, loss, -1.0)[1]

    return factored(F)
