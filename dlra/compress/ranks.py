"""Which ranks to keep of the weights of a trained network: singular value truncation, local, global and iterative.

The rules take what :func:`singular_values` gives and return one rank for each layer, in the same order;
``dlra.nn.to_lowrank(net, rank=ranks)`` truncates the network. :func:`~dlra.compress.lsvt`,
:func:`~dlra.compress.gsvt` and :func:`~dlra.compress.isvt` do both.

References
----------
Structure-preserving network compression via low-rank induced training through linear layers composition (LoRITa),
section 4 and appendix A: LSVT, GSVT and ISVT. X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep
learning, arXiv:2303.13635, section II-C: the indicator by the spectral norm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dlra._checks import check_number
from dlra._factors import check_int
from dlra.backend import is_array, kind, to_host
from dlra.linalg import svdvals
from dlra.lowrank import LowRank
from dlra.nn._layer import factored_count
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


def local_ranks(
    values: Sequence[Any],
    *,
    rank: int | None = None,
    share: float | None = None,
    threshold: float | None = None,
    parameters: int | None = None,
    shapes: Sequence[tuple[int, int]] | None = None,
    present: Sequence[int] | None = None,
) -> Ranks:
    """Return the ranks of local truncation (LSVT): each layer by itself.

    Give one of ``rank``, ``share``, ``threshold`` and ``parameters``.

    Parameters
    ----------
    values : sequence of vectors
        The singular values of each layer, in any order; those of a network from :func:`singular_values`.
    rank : int, optional
        For every layer; a layer with fewer singular values keeps them all.
    share : float, optional
        Of the number of singular values of each layer, in (0, 1], rounded to the nearest integer; at least one is kept.
    threshold : float, optional
        In (0, 1): singular values up to this share of the largest of the layer are dropped, so that ‖W - W_r‖ ≤
        threshold ‖W‖ in the spectral norm.
    parameters : int, optional
        Of all weights together, counted as :func:`iterative_ranks` counts them: the largest share that takes no more.
        A layer of which the factors would not be smaller keeps all its singular values, and stands for a weight left as
        it is.
    shapes : sequence of (m, n), optional
        Of the weights; wanted with ``parameters``.
    present : sequence of int, optional
        What each weight takes as it is, with ``parameters``; default mn. For one that is low-rank already, r (m + n).

    Returns
    -------
    tuple of int

    Notes
    -----
    The truncation of a layer W to rank r is its best approximation of that rank: the error ‖W - W_r‖_F is the root of
    the sum of the squares of the singular values dropped, and that in the spectral norm the largest of them.

    Examples
    --------
    >>> from dlra.compress import local_ranks
    >>> local_ranks([[5.0, 1.0, 0.1, 0.0], [2.0, 1.0]], share=0.5)
    (2, 1)
    """
    layers = _descending(values)
    check_one(rank=rank, share=share, threshold=threshold, parameters=parameters)
    if parameters is not None:
        each = [[i] for i in range(len(layers))]
        return _fitting(layers, each, parameters, shapes, present)
    if threshold is not None:
        least = check_number(threshold, "threshold")
        if not 0 < least < 1:
            raise ValueError(f"threshold must lie in (0, 1), of the largest of each layer, got {threshold}")
        return tuple(max(1, int(np.count_nonzero(s > least * s[0]))) for s in layers)
    if rank is not None:
        if check_int(rank, "rank") < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        return tuple(min(int(rank), len(s)) for s in layers)
    part = check_share(share)
    return tuple(max(1, int(part * len(s) + 0.5)) for s in layers)


def global_ranks(
    values: Sequence[Any],
    *,
    share: float | None = None,
    threshold: float | None = None,
    parameters: int | None = None,
    groups: Sequence[Any] | None = None,
    shapes: Sequence[tuple[int, int]] | None = None,
    present: Sequence[int] | None = None,
) -> Ranks:
    """Return the ranks of global truncation (GSVT): the largest singular values of all layers, each layer normalised.

    The singular values of each layer are divided by its largest one, so that the ranks do not depend on the scale of a
    layer, and sorted together. Every layer keeps at least its largest. Give one of ``share``, ``threshold`` and
    ``parameters``.

    Parameters
    ----------
    values : sequence of vectors
        The singular values of each layer, in any order; those of a network from :func:`singular_values`.
    share : float, optional
        Of the number of all singular values, in (0, 1], rounded to the nearest integer; values that are equal are kept
        in the order of their number in the layer, then of the layers.
    threshold : float, optional
        In (0, 1]: normalised values from it on are kept.
    parameters : int, optional
        Of all weights together: the largest share that takes no more; see :func:`local_ranks`, also for ``shapes`` and
        ``present``.
    groups : sequence, optional
        A label for each layer, such as its kind: layers of one label are sorted together, and the share is that of each
        group. Default: all layers are one.

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
    check_one(share=share, threshold=threshold, parameters=parameters)
    together = _grouped(groups, len(layers))
    if parameters is not None:
        return _fitting(layers, together, parameters, shapes, present)
    if threshold is not None:
        least = check_number(threshold, "threshold")
        if not 0 < least <= 1:
            raise ValueError(f"threshold must lie in (0, 1], of the largest of each layer, got {threshold}")
        return tuple(max(1, int(np.count_nonzero(s >= least))) for s in layers)
    part, ranks = check_share(share), [1] * len(layers)
    for group in together:
        wanted = int(part * sum(len(layers[i]) for i in group) + 0.5)
        for i in _order(layers, group)[: max(0, wanted - len(group))]:
            ranks[i] += 1
    return tuple(ranks)


def iterative_ranks(
    shapes: Sequence[tuple[int, int]],
    *,
    loss: Callable[[Ranks], float],
    parameters: int,
    per_round: int = 500,
    ranks: Sequence[int] | None = None,
    present: Sequence[int] | None = None,
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
    present : sequence of int, optional
        What each weight takes as it is; default mn. For one that is low-rank already, r (m + n).

    Returns
    -------
    tuple of int
        Each either that of the start, which stands for a weight left as it is, or one whose factors are smaller.

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
    (20, 5)
    """
    sizes = _check_shapes(shapes)
    now = _check_ranks(ranks, sizes)
    if not callable(loss):
        raise TypeError(f"loss must be a function of the ranks, got {kind(loss)}")
    per_round = check_int(per_round, "per_round")
    if per_round < 1:
        raise ValueError(f"per_round must be at least 1, got {per_round}")
    whole = _check_present(present, sizes)

    def count(rank: int, i: int) -> int:
        return truncated_count(sizes[i], rank, whole[i])

    def lower(i: int, wanted: int) -> int:
        """The largest rank that saves so many parameters, 0 where none does."""
        return max(0, (count(now[i], i) - wanted) // factored_count(sizes[i], 1))

    least = sum(count(1, i) for i in range(len(sizes)))
    if check_int(parameters, "parameters") < least:
        raise ValueError(
            f"parameters must be at least {least}, what rank 1 in every layer takes, got {parameters}"
        )
    while (excess := sum(map(count, now, range(len(now)))) - parameters) > 0:
        found = [lower(i, min(per_round, excess)) for i in range(len(now))]
        if not any(found):
            found = [min(1, lower(i, 1)) for i in range(len(now))]
        candidates = [(*now[:i], rank, *now[i + 1 :]) for i, rank in enumerate(found) if rank]
        losses = [_value(loss, ranks) for ranks in candidates]
        if min(losses) == math.inf:
            raise ValueError(f"loss is infinite whichever layer is truncated further, from the ranks {now}")
        now = candidates[losses.index(min(losses))]
    return now


def truncated_count(shape: tuple[int, int], rank: int, whole: int) -> int:
    """Parameters of a weight cut to a rank, which stays as it is where factors would not be smaller."""
    return min(whole, factored_count(shape, rank))


def _order(layers: list[np.ndarray], group: list[int]) -> list[int]:
    """The layers of a group in the order in which they receive one more rank, the largest value first."""
    order = sorted((-x, k, i) for i in group for k, x in enumerate(layers[i]) if k > 0)
    return [i for _, _, i in order]


def _fitting(
    layers: list[np.ndarray], groups: list[list[int]], parameters: Any, shapes: Any, present: Any
) -> Ranks:
    """The ranks of the largest share, common to all groups, that takes no more parameters."""
    if shapes is None:
        raise ValueError("shapes is missing: parameters counts the weights by their shapes (m, n)")
    sizes = _check_shapes(shapes)
    if len(sizes) != len(layers):
        raise ValueError(f"shapes must have one pair for each of {len(layers)} layers, got {len(sizes)}")
    whole = _check_present(present, sizes)

    def counts(ranks: list[int]) -> list[int]:
        return [truncated_count(size, r, w) for w, size, r in zip(whole, sizes, ranks, strict=True)]

    ranks = [1] * len(layers)
    least = sum(counts(ranks))
    if check_int(parameters, "parameters") < least:
        raise ValueError(
            f"parameters must be at least {least}, what rank 1 in every layer takes, got {parameters}"
        )
    steps = []  # at which share which layer receives one more
    for group in groups:
        total = sum(len(layers[i]) for i in group)
        for wanted, i in enumerate(_order(layers, group), len(group) + 1):
            steps.append((Fraction(2 * wanted - 1, 2 * total), i))
    for _, at_once in itertools.groupby(sorted(steps), key=lambda step: step[0]):
        further = list(ranks)
        for _, i in at_once:
            further[i] += 1
        if sum(counts(further)) > parameters:
            break
        ranks = further
    kept = [c >= w for c, w in zip(counts(ranks), whole, strict=True)]
    return tuple(len(s) if k else r for s, k, r in zip(layers, kept, ranks, strict=True))


def _grouped(groups: Any, count: int) -> list[list[int]]:
    """The numbers of the layers of each group."""
    if groups is None:
        return [list(range(count))]
    if isinstance(groups, str) or not hasattr(groups, "__iter__"):
        raise TypeError(f"groups must be a sequence with a label for each layer, got {kind(groups)}")
    labels = list(groups)
    if len(labels) != count:
        raise ValueError(f"groups must have a label for each of {count} layers, got {len(labels)}")
    return [[i for i in range(count) if labels[i] == label] for label in dict.fromkeys(labels)]


def check_one(**given: Any) -> dict[str, Any]:
    """Return the one of these options that is not None, or raise a ValueError."""
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) != 1:
        *names, last = given
        got = ", ".join(f"{name}={value!r}" for name, value in found.items()) or "none"
        raise ValueError(f"give one of {', '.join(names)} and {last}, got {got}")
    return found


def _check_present(present: Any, sizes: list[tuple[int, int]]) -> list[int]:
    if present is None:
        return [m * n for m, n in sizes]
    if not hasattr(present, "__iter__"):
        raise TypeError(f"present must be a sequence with one number for each layer, got {kind(present)}")
    whole = [check_int(p, f"present[{i}]") for i, p in enumerate(present)]
    if len(whole) != len(sizes) or min(whole) < 1:
        raise ValueError(f"present must be a positive number for each of {len(sizes)} layers, got {whole}")
    return whole


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


def check_share(share: Any) -> float:
    """Return a share in (0, 1]."""
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
