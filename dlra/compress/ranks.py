"""Which ranks to keep of the weights of a trained network: singular value truncation, local, global and iterative.

The rules take what :func:`singular_values` gives and return one rank for each layer, in the same order;
``dlra.nn.to_lowrank(net, rank=ranks)`` truncates the network.

References
----------
Structure-preserving network compression via low-rank induced training through linear layers composition (LoRITa),
section 4 and appendix A: LSVT, GSVT and ISVT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlra._checks import check_number
from dlra._factors import check_int
from dlra.backend import is_array, kind, to_host
from dlra.linalg import svdvals
from dlra.lowrank import LowRank
from dlra.nn.network import Sequential

__all__ = ["global_ranks", "iterative_ranks", "local_ranks", "singular_values"]

Ranks = tuple[int, ...]


def singular_values(net: Sequential) -> list[np.ndarray]:
    """Return the singular values of each weight of a network.

    Parameters
    ----------
    net : Sequential

    Returns
    -------
    list of arrays
        One for each of ``net.weights``, in their order: float64 vectors on the host, descending. A dense m x n weight
        has min(m, n); a low-rank one is not made dense and has those of its core, at most as many as its rank.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import singular_values
    >>> net = nn.Sequential(nn.LowRankLinear(20, 30, rank=4, rng=0), nn.ReLU(), nn.Linear(30, 10, rng=0))
    >>> [s.shape for s in singular_values(net)]
    [(4,), (10,)]
    """
    if not isinstance(net, Sequential):
        raise TypeError(f"singular_values takes a dlra.nn.Sequential, got {kind(net)}")
    values = (W.singular_values() if isinstance(W, LowRank) else svdvals(W) for W in net.weights)
    return [to_host(s).astype(np.float64) for s in values]


def local_ranks(values: Sequence[Any], *, rank: int | None = None, share: float | None = None) -> Ranks:
    """Return the ranks of local truncation (LSVT): each layer by itself.

    Parameters
    ----------
    values : sequence of vectors
        The singular values of each layer, in any order; those of a network from :func:`singular_values`.
    rank : int, optional
        For every layer; a layer with fewer singular values keeps them all.
    share : float, optional
        Of the number of singular values of each layer, in (0, 1], rounded to the nearest integer; at least one is kept.
        Give rank or share.

    Returns
    -------
    tuple of int

    Notes
    -----
    The truncation of a layer W to rank r is its best approximation of that rank: the error ‖W - W_r‖_F is the root of
    the sum of the squares of the singular values dropped.

    Examples
    --------
    >>> from dlra.compress import local_ranks
    >>> local_ranks([[5.0, 1.0, 0.1, 0.0], [2.0, 1.0]], share=0.5)
    (2, 1)
    """
    layers = _descending(values)
    if (rank is None) == (share is None):
        raise ValueError(f"give rank or share, and not both; got rank={rank!r} and share={share!r}")
    if rank is not None:
        if check_int(rank, "rank") < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        return tuple(min(int(rank), len(s)) for s in layers)
    part = _check_share(share)
    return tuple(max(1, int(part * len(s) + 0.5)) for s in layers)


def global_ranks(
    values: Sequence[Any], *, share: float | None = None, threshold: float | None = None
) -> Ranks:
    """Return the ranks of global truncation (GSVT): the largest singular values of all layers, each layer normalised.

    The singular values of each layer are divided by its largest one, so that the ranks do not depend on the scale of a
    layer, and sorted together. Every layer keeps at least its largest.

    Parameters
    ----------
    values : sequence of vectors
        The singular values of each layer, in any order; those of a network from :func:`singular_values`.
    share : float, optional
        Of the number of all singular values, in (0, 1], rounded to the nearest integer; values that are equal are kept
        in the order of their number in the layer, then of the layers.
    threshold : float, optional
        In (0, 1]: normalised values from it on are kept. Give share or threshold.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> from dlra.compress import global_ranks
    >>> global_ranks([[5.0, 4.0, 3.0], [0.002, 0.0001]], share=0.8)
    (3, 1)
    >>> global_ranks([[5.0, 4.0, 3.0], [0.002, 0.0001]], threshold=0.7)
    (2, 1)
    """
    layers = [_normalised(s) for s in _descending(values)]
    if (share is None) == (threshold is None):
        raise ValueError(f"give share or threshold, and not both; got {share!r} and {threshold!r}")
    if threshold is not None:
        least = check_number(threshold, "threshold")
        if not 0 < least <= 1:
            raise ValueError(f"threshold must lie in (0, 1], of the largest of each layer, got {threshold}")
        return tuple(max(1, int(np.count_nonzero(s >= least))) for s in layers)
    wanted = int(_check_share(share) * sum(len(s) for s in layers) + 0.5)
    ranks = [1] * len(layers)
    order = sorted((-x, k, i) for i, s in enumerate(layers) for k, x in enumerate(s) if k > 0)
    for _, _, i in order[: max(0, wanted - len(layers))]:
        ranks[i] += 1
    return tuple(ranks)


def iterative_ranks(
    shapes: Sequence[tuple[int, int]],
    *,
    loss: Callable[[Ranks], float],
    parameters: int,
    per_round: int = 500,
    ranks: Sequence[int] | None = None,
) -> Ranks:
    """Return the ranks of iterative truncation (ISVT): in each round from the layer where it costs the least.

    In each round every layer that can is tried at the largest rank that saves ``per_round`` parameters, and the one is
    truncated whose truncation leaves the smallest loss. Where none can save so many, all are tried at rank 1. This goes
    on until no more than ``parameters`` are left.

    Parameters
    ----------
    shapes : sequence of (m, n)
        Of the weights: ``[W.shape for W in net.weights]``.
    loss : callable
        ``loss(ranks)`` is the loss of the network truncated to these ranks, on some of the training data. It is called
        once for each layer in each round; the paper takes 120 samples.
    parameters : int
        Of all weights together, counted as below.
    per_round : int
        Parameters to save in a round.
    ranks : sequence of int, optional
        Where to start; default the full ranks.

    Returns
    -------
    tuple of int
        Each either the full rank min(m, n), which stands for a weight left dense, or one whose factors are smaller than
        the matrix.

    Raises
    ------
    ValueError
        ``parameters`` is less than rank 1 in every layer takes.

    Notes
    -----
    A dense m x n weight counts mn parameters and its factors of rank r count r (m + n), which is less only for r <
    mn/(m + n). The paper removes 500 parameters a round by dropping singular values, m + n parameters each; counted so,
    the first rounds save nothing: at r >= mn/(m + n) the factors are larger than the matrix that they replace. Here a
    weight counts min(mn, r (m + n)), so that the first truncation of a dense layer takes it below mn/(m + n) at once.

    Examples
    --------
    >>> from dlra.compress import iterative_ranks
    >>> iterative_ranks([(20, 20), (20, 20)], loss=lambda ranks: -ranks[0], parameters=600, per_round=100)
    (20, 4)
    """
    sizes = _check_shapes(shapes)
    now = _check_ranks(ranks, sizes)
    if not callable(loss):
        raise TypeError(f"loss must be a function of the ranks, got {kind(loss)}")
    per_round = check_int(per_round, "per_round")
    if per_round < 1:
        raise ValueError(f"per_round must be at least 1, got {per_round}")
    least = sum(_count(1, size) for size in sizes)
    if check_int(parameters, "parameters") < least:
        raise ValueError(
            f"parameters must be at least {least}, what rank 1 in every layer takes, got {parameters}"
        )
    while sum(map(_count, now, sizes)) > parameters:
        lower = [_lower(rank, size, per_round) for rank, size in zip(now, sizes, strict=True)]
        if not any(lower):
            lower = [_lower(rank, size, 1) and 1 for rank, size in zip(now, sizes, strict=True)]
        candidates = [(*now[:i], rank, *now[i + 1 :]) for i, rank in enumerate(lower) if rank]
        losses = [_value(loss, ranks) for ranks in candidates]
        if min(losses) == math.inf:
            raise ValueError(f"loss is infinite whichever layer is truncated further, from the ranks {now}")
        now = candidates[losses.index(min(losses))]
    return now


def _count(rank: int, shape: tuple[int, int]) -> int:
    """The parameters of a weight truncated to this rank: of its factors, or of the matrix where that is smaller."""
    m, n = shape
    return min(m * n, rank * (m + n))


def _lower(rank: int, shape: tuple[int, int], wanted: int) -> int:
    """The largest rank that saves so many parameters, 0 where none does."""
    return max(0, (_count(rank, shape) - wanted) // sum(shape))


def _value(loss: Callable[[Ranks], float], ranks: Ranks) -> float:
    given = loss(ranks)
    try:
        value = float(to_host(given)) if is_array(given) else float(given)
    except (TypeError, ValueError) as error:
        raise TypeError(f"loss must return a real number, got {kind(given)} for the ranks {ranks}") from error
    if math.isnan(value) or value == -math.inf:
        raise ValueError(f"loss returned {value} for the ranks {ranks}")
    return value


def _descending(values: Any) -> list[np.ndarray]:
    """The singular values of each layer in double precision, descending."""
    if is_array(values) or isinstance(values, (str, dict)) or not hasattr(values, "__iter__"):
        raise TypeError(f"values must be a list with the singular values of each layer, got {kind(values)}")
    layers = []
    for i, given in enumerate(values):
        try:
            s = np.asarray(to_host(given) if is_array(given) else given, dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"values[{i}] must be a vector of singular values, got {kind(given)}") from None
        if s.ndim != 1 or s.size == 0:
            raise ValueError(
                f"values[{i}] must be a vector of at least one singular value, got shape {s.shape}"
            )
        if not np.all(np.isfinite(s)) or np.any(s < 0):
            raise ValueError(f"values[{i}] must be finite and not negative, got {s.min()} to {s.max()}")
        layers.append(np.sort(s)[::-1])
    if not layers:
        raise ValueError("values is empty; it must hold the singular values of at least one layer")
    return layers


def _normalised(s: np.ndarray) -> np.ndarray:
    """Divided by the largest; zeros stay."""
    return s / s[0] if s[0] > 0 else s


def _check_share(share: Any) -> float:
    part = check_number(share, "share")
    if not 0 < part <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    return part


def _check_shapes(shapes: Any) -> list[tuple[int, int]]:
    try:
        pairs = [(m, n) for m, n in shapes]
    except (TypeError, ValueError) as error:
        raise type(error)(f"shapes must be a list of pairs (m, n), got {shapes!r}") from None
    sizes = [
        (check_int(m, f"shapes[{i}][0]"), check_int(n, f"shapes[{i}][1]")) for i, (m, n) in enumerate(pairs)
    ]
    if not sizes or min(map(min, sizes)) < 1:
        raise ValueError(f"shapes must hold at least one pair of positive sizes (m, n), got {shapes!r}")
    return sizes


def _check_ranks(ranks: Any, sizes: list[tuple[int, int]]) -> Ranks:
    if ranks is None:
        return tuple(min(size) for size in sizes)
    if not hasattr(ranks, "__iter__"):
        raise TypeError(f"ranks must be a sequence with one rank for each layer, got {kind(ranks)}")
    now = tuple(check_int(r, f"ranks[{i}]") for i, r in enumerate(ranks))
    if len(now) != len(sizes):
        raise ValueError(f"ranks must have one rank for each of {len(sizes)} layers, got {len(now)}")
    for i, (r, size) in enumerate(zip(now, sizes, strict=True)):
        if not 1 <= r <= min(size):
            raise ValueError(f"ranks[{i}] must lie between 1 and min(m, n) = {min(size)}, got {r}")
    return now
