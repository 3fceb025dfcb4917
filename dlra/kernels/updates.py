"""Steps of optimisers in one pass over memory: :mod:`dlra.nn.optimizers`, compiled for arrays of NumPy.

Every entry is computed by the operations of the generic version in their order, so that results agree to the last bit.
Arrays that lie in one order in memory, by rows or by columns, are read as they lie, others are copied first. Large ones
are cut into as many pieces as NumPy's BLAS has threads. ``python -m validation.benchmarks.training`` measures the gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlra.kernels._compiled import jit, with_twin
from dlra.kernels.threads import blas_threads, share
from dlra.nn.optimizers import Adam, Memory, Momentum

_PARALLEL = 1 << 20
"""Number of entries from which threads pay (docs/measured-thresholds.md)."""


@with_twin(Momentum.generic)
def momentum(
    optimizer: Momentum, h: float, slope: Any, memory: Memory, X: Any, spare: Sequence[Any] = ()
) -> tuple[Any, Memory]:
    """See :class:`dlra.nn.optimizers.Momentum`."""
    (f, M), increment, M1 = _flat((slope, memory.moments[0]), 2, spare)
    mu, lam = optimizer.mu, optimizer.lam
    constants = _constants(slope, h, mu, lam, 1 - lam + lam * mu)
    _each_piece(_momentum, (f, M, increment.reshape(-1, order="A"), M1.reshape(-1, order="A")), constants)
    return increment, Memory((M1,))


@with_twin(Adam.generic)
def adam(
    optimizer: Adam, h: float, slope: Any, memory: Memory, X: Any, spare: Sequence[Any] = ()
) -> tuple[Any, Memory]:
    """See :class:`dlra.nn.optimizers.Adam`."""
    (m,), (v, w1, w2) = memory
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    decay = h * optimizer.weight_decay if optimizer.decoupled and X.ndim == 2 else 0.0
    constants = _constants(slope, h, beta1, 1 - beta1, beta2, 1 - beta2, optimizer.eps, decay)
    operands = (slope, X if decay else slope, m, v)
    if w1.size == 1 < slope.size:  # one weight for all entries
        old1, old2 = beta1 * w1, beta2 * w2
        w1, w2 = old1 + (1 - beta1), old2 + (1 - beta2)
        weights = tuple(w.reshape(-1)[0] for w in (old1, w1, old2, w2))
        flat, *new = _flat(operands, 3, spare)
        _each_piece(_adam, (*flat, *(a.reshape(-1, order="A") for a in new)), constants + weights)
        increment, m, v = new
    else:
        flat, *new = _flat((*operands, w1, w2), 5, spare)
        _each_piece(_adam_entrywise, (*flat, *(a.reshape(-1, order="A") for a in new)), constants)
        increment, m, v, w1, w2 = new
    return increment, Memory((m,), (v, w1, w2))


@jit(error_model="numpy")
def _momentum(f, M, increment, M1, h, mu, lam, share):  # pragma: no cover - compiled
    for i in range(f.size):
        step = h * f[i]
        moment = mu * M[i] + step
        M1[i] = moment
        increment[i] = lam * step + share * moment


@jit(error_model="numpy")
def _adam(
    f, X, m, v, increment, m1, v1, h, beta1, rest1, beta2, rest2, eps, decay, old1, w1, old2, w2
):  # pragma: no cover - compiled
    for i in range(f.size):
        mean = (old1 * m[i] + rest1 * f[i]) / w1
        square = (old2 * v[i] + rest2 * f[i] * f[i]) / w2
        m1[i], v1[i] = mean, square
        increment[i] = h * mean / (np.sqrt(square) + eps) - decay * X[i]


@jit(error_model="numpy")
def _adam_entrywise(
    f, X, m, v, w1, w2, increment, m1, v1, w1_1, w2_1, h, beta1, rest1, beta2, rest2, eps, decay
):  # pragma: no cover - compiled
    for i in range(f.size):
        old1, old2 = beta1 * w1[i], beta2 * w2[i]
        new1, new2 = old1 + rest1, old2 + rest2
        mean = (old1 * m[i] + rest1 * f[i]) / new1
        square = (old2 * v[i] + rest2 * f[i] * f[i]) / new2
        m1[i], v1[i], w1_1[i], w2_1[i] = mean, square, new1, new2
        increment[i] = h * mean / (np.sqrt(square) + eps) - decay * X[i]


def _constants(like: np.ndarray, *values: float) -> tuple[Any, ...]:
    """Numbers in the precision of the arrays, as NumPy takes Python's."""
    return tuple(map(like.dtype.type, values))


def _flat(arrays: tuple[np.ndarray, ...], count: int, spare: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """The arrays as vectors, all by rows or all by columns, and ``count`` arrays of that order for results.

    Those of ``spare`` that fit are overwritten; fresh memory takes several times as long to write as used one.
    """
    order = "F" if all(a.flags.f_contiguous for a in arrays) else "C"
    like = arrays[0]
    vectors = [a.astype(like.dtype.newbyteorder("="), copy=False).ravel(order) for a in arrays]
    results = [a for a in spare if _fits(a, like.shape, vectors[0].dtype, order)][:count]
    while len(results) < count:
        results.append(np.empty(like.shape, vectors[0].dtype, order))
    return vectors, *results


def _fits(a: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, order: str) -> bool:
    contiguous = a.flags.f_contiguous if order == "F" else a.flags.c_contiguous
    return a.shape == shape and a.dtype == dtype and contiguous and a.flags.writeable


def _each_piece(
    kernel: Callable[..., None], arrays: tuple[np.ndarray, ...], constants: tuple[Any, ...]
) -> None:
    """Run a kernel on all entries; large arrays in pieces at the same time."""
    size = arrays[0].size
    if size < _PARALLEL:
        kernel(*arrays, *constants)
        return
    count = blas_threads()
    length = math.ceil(size / count / 16) * 16
    share(count, lambda i: kernel(*(a[i * length : (i + 1) * length] for a in arrays), *constants))
