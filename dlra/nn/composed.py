"""Layers whose weight is trained as a product: composed layers (LoRITa) and layers in singular value form.

At inference both are the plain layers that :meth:`merge` returns, of low rank where that takes fewer parameters. Their
gradients come from that by the weight, G = dL/dW: for W = W¹ W² ... Wᴺ the derivative by Wʲ is
(W¹ ... Wʲ⁻¹)ᵀ G (Wʲ⁺¹ ... Wᴺ)ᵀ, and for W = U diag(s) Vᵀ those by U, s and V are G V diag(s), diag(UᵀGV) and
Gᵀ U diag(s).

References
----------
Structure-preserving network compression via low-rank induced training through linear layers composition (LoRITa),
section 4.1; H. Yang et al., Learning low-rank deep neural networks via singular vector orthogonality regularization and
singular value sparsification, CVPR workshops 2020, arXiv:2004.09031.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import Any

import numpy as np

from dlra.backend import Array, dtype_name, from_host, kind, namespace
from dlra.linalg import svd
from dlra.lowrank import LowRank
from dlra.nn._layer import Layer, Parameters, WeightLayer, check_layers, check_size, factored_count, generator
from dlra.nn.convolution import Conv2d
from dlra.nn.layers import Linear, check_rank
from dlra.nn.network import Sequential
from dlra.nn.pruning import decomposed
from dlra.nn.ranks import cut

__all__ = ["ComposedConv2d", "ComposedLinear", "SVDConv2d", "SVDLinear", "to_composed", "to_svd"]


class _Product(WeightLayer):
    """A layer whose weight is a product of :attr:`matrices`."""

    _matrices: tuple[Array, ...]

    @property
    def matrices(self) -> tuple[Array, ...]:
        return self._matrices

    @cached_property
    def weight(self) -> Any:  # type: ignore[override]
        """The product, formed when it is first asked for."""
        return self.compose(self._matrices)

    def merge(self) -> WeightLayer:
        if factored_count(self.shape, self.rank) < math.prod(self.shape):
            return self.with_weight(self._factored())
        return self.with_weight(self.weight.to_dense() if self.is_lowrank else self.weight)

    def split(self) -> tuple[Layer, ...]:
        return self.merge().split()

    def parameter_count(self, phase: str = "evaluation") -> int:
        if phase == "evaluation":
            return min(factored_count(self.shape, self.rank), math.prod(self.shape))
        return super().parameter_count(phase)

    @abstractmethod
    def _factored(self) -> LowRank:
        """The weight as two factors of :attr:`rank` columns, where that is less than both of its sides."""

    @classmethod
    def from_config(cls, config: dict[str, Any], members: Parameters) -> Any:
        count = cls._trained(members)
        layer = super().from_config(config, (None, *members[count:]))
        del vars(layer)["weight"]
        vars(layer).update(_matrices=tuple(members[:count]))
        return layer

    @staticmethod
    @abstractmethod
    def _trained(members: Parameters) -> int:
        """How many of the members are matrices; the bias, where there is one, comes after them."""

    def with_matrices(self, matrices: tuple[Any, ...], bias: Array | None) -> WeightLayer:
        options = {name: value for name, value in vars(self).items() if name != "weight"}
        layer = object.__new__(type(self))
        vars(layer).update(options, _matrices=tuple(matrices), bias=bias)
        return layer

    def with_parameters(self, weight: Any, bias: Array | None) -> WeightLayer:
        layer = super().with_parameters(weight, bias)
        del vars(layer)["_matrices"]
        return layer


class _Composed(_Product):
    """W = W¹ W² ... Wᴺ."""

    @property
    def factors(self) -> int:
        """N."""
        return len(self._matrices)

    @property
    def shape(self) -> tuple[int, int]:
        return self._matrices[0].shape[0], self._matrices[-1].shape[1]

    @property
    def rank(self) -> int:
        """The largest rank that the product can have: the smallest of all its dimensions."""
        return min(min(W.shape) for W in self._matrices)

    def compose(self, matrices: tuple[Any, ...]) -> Array:
        return reduce(lambda A, B: A @ B, matrices)

    def _factored(self) -> LowRank:
        W = self._matrices
        between = [A.shape[1] for A in W[:-1]]
        place = between.index(min(between)) + 1
        return LowRank._make(self.compose(W[:place]), None, self.compose(W[place:]).T, 0)

    def pull_back(self, gradient: Any, matrices: tuple[Any, ...]) -> tuple[Any, ...]:
        rests = [*itertools.accumulate(reversed(matrices[1:]), lambda rest, W: W @ rest)][::-1]  # Wʲ⁺¹ ... Wᴺ
        out, left = [], gradient  # (W¹ ... Wʲ⁻¹)ᵀ G
        for W, rest in zip(matrices, rests, strict=False):
            out.append(left @ rest.T)
            left = W.T @ left
        return *out, left

    @staticmethod
    def _trained(members: Parameters) -> int:
        return len(members) - (members[-1].ndim == 1)

    def _start(self, weight: np.ndarray, factors: Any, inner: Any, rng: np.random.Generator) -> None:
        factors = check_size(factors, "factors")
        self._matrices = balanced_factors(weight, factors, check_inner(inner, factors, *weight.shape), rng)


class ComposedLinear(_Composed, Linear):
    """A fully connected layer y = x Wᵀ + b whose weight is trained as a product W = W¹ W² ... Wᴺ.

    Decay of the factors is a Schatten penalty of W with exponent p = 2/N, which lowers its rank: Σ ‖Wʲ‖_F² ≥ N ‖W‖_pᵖ,
    with equality for balanced factors. The start is that of :class:`Linear`, split into balanced factors, so that
    W is the same for every N. W is formed once for each batch, whatever its size.

    Parameters
    ----------
    in_features, out_features : int
    factors : int
        N; 1 is a plain layer.
    bias : bool
    inner : int, optional
        Rows of W², ..., Wᴺ. Default min(out_features, in_features), the smallest that leaves W unrestricted; the paper
        has in_features. With less, the rank of W is at most so much.
    init : {"he", "xavier", "lecun"}
        Variance of the entries of W at the start; see :class:`Linear`.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    matrices : tuple of arrays
        W¹ (out_features x inner), W², ..., Wᴺ⁻¹ (inner x inner), Wᴺ (inner x in_features).
    weight : array, shape (out_features, in_features)
        Their product.
    bias : array, shape (out_features,), or None

    References
    ----------
    LoRITa, equation (3) and Proposition 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import nn
    >>> layer = nn.ComposedLinear(784, 96, factors=3, rng=0)
    >>> [W.shape for W in layer.matrices]
    [(96, 96), (96, 96), (96, 784)]
    >>> np.allclose(layer.weight, nn.Linear(784, 96, rng=0).weight, atol=1e-6)
    True
    >>> layer.merge()
    Linear(784, 96)
    """

    def __init__(
        self, in_features: int, out_features: int, factors: int = 2, bias: bool = True, *, inner: int | None = None,
        init: str = "he", dtype: Any = "float32", rng: Any = None,
    ):  # fmt: skip
        rng = generator(rng)
        super().__init__(in_features, out_features, bias, init=init, dtype=dtype, rng=rng)
        self._start(vars(self).pop("weight"), factors, inner, rng)

    def __repr__(self) -> str:
        return _named(Linear.__repr__(self), self)


class ComposedConv2d(_Composed, Conv2d):
    """A convolution of images whose kernel, as a matrix W of F x CJK, is trained as a product W = W¹ W² ... Wᴺ.

    See :class:`ComposedLinear`. The matrix is the transpose of the mode-4 unfolding of a kernel J x K x C x F.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size : int or pair of int
        J and K.
    factors : int
        N; 1 is a plain layer.
    stride, padding, dilation : int or pair of int
    bias : bool
    inner : int, optional
        Rows of W², ..., Wᴺ. Default min(F, CJK).
    init : {"he", "xavier", "lecun"}
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    matrices : tuple of arrays
        W¹ (F x inner), W², ..., Wᴺ⁻¹ (inner x inner), Wᴺ (inner x CJK).
    weight : array, shape (F, CJK)
        Their product.
    bias : array, shape (F,), or None
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, factors: int = 2, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, bias: bool = True, *, inner: int | None = None, init: str = "he",
        dtype: Any = "float32", rng: Any = None,
    ):  # fmt: skip
        rng = generator(rng)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            bias,
            init=init,
            dtype=dtype,
            rng=rng,
        )
        self._start(vars(self).pop("weight"), factors, inner, rng)

    def __repr__(self) -> str:
        return _named(Conv2d.__repr__(self), self)


class _SingularValues(_Product):
    """W = U diag(s) Vᵀ."""

    @property
    def shape(self) -> tuple[int, int]:
        U, _, V = self._matrices
        return U.shape[0], V.shape[0]

    @property
    def rank(self) -> int:
        return self._matrices[1].shape[0]

    def compose(self, matrices: tuple[Any, ...]) -> LowRank:
        U, s, V = matrices
        return LowRank._make(U * s, None, V, 0)

    def _factored(self) -> LowRank:
        return self.weight

    def pull_back(self, gradient: Any, matrices: tuple[Any, ...]) -> tuple[Any, ...]:
        U, s, V = matrices
        GV = gradient._apply(V)
        return GV * s, namespace(U).sum(U * GV, axis=0), gradient._apply_adjoint(U * s)

    def penalised(self, regularizer: Any, matrices: tuple[Any, ...]) -> tuple[Any, ...]:
        U, s, V = matrices
        dU, dV = (regularizer.orthogonality_penalty(A)[1] for A in (U, V))
        return dU, regularizer.of_values(s, self.shape)[1], dV

    @staticmethod
    def _trained(members: Parameters) -> int:
        return 3

    def _start(self, weight: np.ndarray, rank: Any) -> None:
        rank = min(weight.shape) if rank is None else check_rank(rank, *weight.shape)
        U, s, Vh = svd(weight)
        self._matrices = (U[:, :rank], s[:rank], Vh[:rank].T)


class SVDLinear(_SingularValues, Linear):
    """A fully connected layer y = x Wᵀ + b whose weight is trained as W = U diag(s) Vᵀ, three arrays.

    Nothing keeps U and V orthonormal, nor s positive, but a :class:`Regularizer` with ``orthogonality``; with it |s| is
    near the singular values, and a penalty of them needs no decomposition. Weight decay acts on all three arrays, but
    decoupled decay (``Adam(decoupled=True)``) leaves s alone.

    Parameters
    ----------
    in_features, out_features : int
    rank : int, optional
        Number of singular values, at most min(out_features, in_features), the default.
    bias : bool
    init : {"he", "xavier", "lecun"}
        Variance of the entries of a dense start, whose truncated singular value decomposition is the start.
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    matrices : tuple of arrays
        U (out_features x rank), s (rank), V (in_features x rank).
    weight : LowRank, shape (out_features, in_features)
    bias : array, shape (out_features,), or None

    References
    ----------
    H. Yang et al., arXiv:2004.09031, section 3.

    Examples
    --------
    >>> from dlra import nn
    >>> layer = nn.SVDLinear(100, 30, rank=20, rng=0)
    >>> [a.shape for a in layer.matrices]
    [(30, 20), (20,), (100, 20)]
    >>> layer.merge()
    LowRankLinear(100, 30, rank=20)
    >>> nn.SVDLinear(100, 30, rng=0).merge()  # factors of rank 30 are larger than the matrix
    Linear(100, 30)
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int | None = None, bias: bool = True, *, init: str = "he",
        dtype: Any = "float32", rng: Any = None,
    ):  # fmt: skip
        super().__init__(in_features, out_features, bias, init=init, dtype=dtype, rng=rng)
        self._start(vars(self).pop("weight"), rank)


class SVDConv2d(_SingularValues, Conv2d):
    """A convolution of images whose kernel, as a matrix of F x CJK, is trained as W = U diag(s) Vᵀ, three arrays.

    See :class:`SVDLinear`.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size : int or pair of int
        J and K.
    rank : int, optional
        Number of singular values, at most min(F, CJK), the default.
    stride, padding, dilation : int or pair of int
    bias : bool
    init : {"he", "xavier", "lecun"}
    dtype : {"float32", "float64"}
    rng : numpy.random.Generator or int, optional
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, rank: int | None = None, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, bias: bool = True, *, init: str = "he", dtype: Any = "float32",
        rng: Any = None,
    ):  # fmt: skip
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            bias,
            init=init,
            dtype=dtype,
            rng=rng,
        )
        self._start(vars(self).pop("weight"), rank)


def to_composed(
    net: Sequential,
    factors: int = 2,
    *,
    inner: int | None = None,
    layers: Sequence[int] | None = None,
    rng: Any = None,
) -> Sequential:
    """Return a copy of a network whose weights are trained as products of several factors; it computes the same.

    Parameters
    ----------
    net : Sequential
        Of plain layers, dense or low-rank, as it is before or after training.
    factors : int
        N of W = W¹ W² ... Wᴺ. The factors are balanced: all have the N-th roots of the singular values of W as their
        own, so that Σ ‖Wʲ‖_F² is the smallest possible, N ‖W‖_pᵖ with p = 2/N.
    inner : int, optional
        As of :class:`ComposedLinear`. Where it is smaller than the rank of a weight, that weight is truncated.
    layers : sequence of int, optional
        Indices in ``net.weights``; default all.
    rng : numpy.random.Generator or int, optional
        Of the random rotations between the factors, which do not change the product.

    Returns
    -------
    Sequential

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit; a layer that is a product already (``net.merge()`` undoes that).

    Examples
    --------
    >>> from dlra import nn
    >>> nn.to_composed(nn.mlp((784, 96, 10), rng=0), factors=3, rng=0)
    Sequential(
      ComposedLinear(784, 96, factors=3),
      ReLU(),
      ComposedLinear(96, 10, factors=3),
    )
    """
    rng, factors = generator(rng), check_size(factors, "factors")

    def matrices(layer: WeightLayer) -> tuple[Array, ...]:
        return balanced_factors(layer.weight, factors, check_inner(inner, factors, *layer.shape), rng)

    return _converted(net, "to_composed", layers, (ComposedConv2d, ComposedLinear), matrices)


def to_svd(net: Sequential, rank: int | None = None, *, layers: Sequence[int] | None = None) -> Sequential:
    """Return a copy of a network whose weights are trained in singular value form, W = U diag(s) Vᵀ.

    Parameters
    ----------
    net : Sequential
        Of plain layers, dense or low-rank.
    rank : int, optional
        Number of singular values kept of each weight, at most; default all.
    layers : sequence of int, optional
        Indices in ``net.weights``; default all.

    Returns
    -------
    Sequential
        Computes the same where nothing is dropped.

    Examples
    --------
    >>> from dlra import nn
    >>> nn.to_svd(nn.mlp((784, 96, 10), rng=0), rank=20).ranks
    (20, 10)
    """
    rank = None if rank is None else check_size(rank, "rank")

    def matrices(layer: WeightLayer) -> tuple[Array, ...]:
        Y = decomposed(layer.weight)
        Y = Y if rank is None else cut(Y, rank)
        return Y._U, Y.singular_values(), Y._V

    return _converted(net, "to_svd", layers, (SVDConv2d, SVDLinear), matrices)


def _converted(net: Any, name: str, layers: Any, kinds: tuple[Any, Any], matrices: Any) -> Sequential:
    """A copy of a network with some layers as products of ``matrices(layer)``, convolutions of kinds[0]."""
    if not isinstance(net, Sequential):
        raise TypeError(f"{name} takes a dlra.nn.Sequential, got {kind(net)}")
    chosen = check_layers(layers, len(net._weighted))
    places = [i for i, layer in enumerate(net.layers) if isinstance(layer, WeightLayer)]
    new = list(net.layers)
    for k in chosen:
        layer = new[places[k]]
        if isinstance(layer, _Product):
            raise ValueError(
                f"layer {k} is {layer!r}, a product already; give net.merge(), or leave it out of layers"
            )
        product = object.__new__(kinds[0] if isinstance(layer, Conv2d) else kinds[1])
        vars(product).update({key: value for key, value in vars(layer).items() if key != "weight"})
        product._matrices = matrices(layer)
        new[places[k]] = product
    return Sequential(new)


def check_inner(inner: Any, factors: int, m: int, n: int) -> int:
    """Return the inner dimension of the factors of an m x n weight."""
    if inner is None:
        return min(m, n)
    if factors == 1:
        raise ValueError(
            f"inner is a dimension between factors: it needs factors >= 2, got factors=1, inner={inner}"
        )
    return check_size(inner, "inner")


def balanced_factors(W: Any, factors: int, inner: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Factors W¹ W² ... Wᴺ of W that have the N-th roots of its singular values; the N = 1 of them is W itself.

    With an inner dimension smaller than the rank of W, those of its best approximation of that rank.
    """
    if factors == 1:
        return (W.to_dense() if isinstance(W, LowRank) else W,)
    Y = decomposed(W)
    U, s, Vh = Y._U, Y.singular_values(), Y._V.T
    k = min(inner, s.shape[0])
    roots = s[:k] ** (1.0 / factors)
    dtype = dtype_name(U.dtype)
    Q = [
        from_host(np.linalg.qr(rng.standard_normal((inner, k)))[0].astype(dtype), U)
        for _ in range(factors - 1)
    ]
    left = [U[:, :k], *Q]
    right = [*(q.T for q in Q), Vh[:k, :]]
    return tuple((A * roots) @ B for A, B in zip(left, right, strict=True))


def _named(text: str, layer: _Composed) -> str:
    """The representation of a plain layer, with the number of factors and what else there is to say of them."""
    inner = layer._matrices[0].shape[1] if layer.factors > 1 else min(layer.shape)
    extra = f"factors={layer.factors}" + (f", inner={inner}" if inner != min(layer.shape) else "")
    head, bias, tail = text.partition(", bias=False")
    return f"{head}, {extra}{bias}{tail}" if bias else f"{text[:-1]}, {extra})"
