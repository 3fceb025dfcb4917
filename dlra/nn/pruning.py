"""Truncate a trained network: every weight to a low-rank one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlra import linalg
from dlra._factors import check_int
from dlra.backend import to_host
from dlra.lowrank import LowRank
from dlra.nn.network import Sequential
from dlra.nn.ranks import ParameterBudget

__all__ = ["to_lowrank"]


def to_lowrank(
    net: Sequential,
    rank: int | Sequence[int | None] | None = None,
    rtol: float = 0.0,
    *,
    parameters: int | None = None,
) -> Sequential:
    """Return a copy of a network whose weights are truncated singular value decompositions.

    Give one of ``rank``, ``rtol`` and ``parameters`` (``rank`` and ``rtol`` together: no more than either allows).
    Weights of which nothing would be dropped stay as they are.

    Parameters
    ----------
    net : Sequential
        Dense or low-rank; it is not changed.
    rank : int or sequence, optional
        For all weights, or one for each; None in a sequence leaves a weight as it is.
    rtol : float
        Drop from each weight the largest tail of singular values of norm at most rtol ‖W‖_F.
    parameters : int, optional
        Keep the largest singular values of all weights together, each of an m x n weight at m + n parameters. A weight
        whose rank r would need r (m + n) ≥ m n parameters still counts so.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> from dlra import nn
    >>> net = nn.mlp((784, 500, 500, 10), rng=0)
    >>> nn.to_lowrank(net, rank=50).ranks
    (50, 50, 10)
    """
    if not isinstance(net, Sequential):
        raise TypeError(f"to_lowrank takes a dlra.nn.Sequential, got {type(net).__name__}")
    weights = net.weights
    linalg.check_rank_options(rtol, 0.0, 1, None)
    if rtol >= 1:
        raise ValueError(f"rtol must be below 1 (a share of the norm of each weight), got {rtol}")
    if parameters is not None and (rank is not None or rtol > 0):
        raise ValueError("parameters does not go with rank or rtol; give one")
    if parameters is None and rank is None and rtol == 0:
        raise ValueError("give rank, rtol or parameters: what shall be kept?")
    bounds = _bounds(rank, weights)
    full = [
        None if r is None and rank is not None else decomposed(W)
        for W, r in zip(weights, bounds, strict=True)
    ]
    if parameters is not None:
        budget = ParameterBudget(parameters)
        shapes = [W.shape for W in weights]
        budget.check(shapes)
        values = [to_host(Y.singular_values()).astype(float) for Y in full if Y is not None]
        bounds = list(budget.ranks(values, shapes))
    replaced = {}
    for i, (W, Y, bound) in enumerate(zip(weights, full, bounds, strict=True)):
        Z = None if Y is None else Y.truncate(rtol=rtol, max_rank=bound)
        if Z is not None and Z.rank < (W.rank if isinstance(W, LowRank) else min(W.shape)):
            replaced[i] = Z
    return net.with_weights(replaced)


def decomposed(W: Any) -> LowRank:
    """The singular value decomposition of a weight, with all its singular values."""
    if isinstance(W, LowRank):
        return W.truncate(min_rank=W.rank)
    return LowRank.from_dense(W, rank=min(W.shape))


def _bounds(rank: Any, weights: tuple[Any, ...]) -> list[int | None]:
    """The largest rank of each weight, None where there is no bound."""
    if rank is None:
        return [None] * len(weights)
    if isinstance(rank, (list, tuple)):
        if len(rank) != len(weights):
            raise ValueError(
                f"rank must be an int or one for each of {len(weights)} weights, got {len(rank)} values"
            )
        given = list(rank)
    else:
        given = [rank] * len(weights)
    for i, r in enumerate(given):
        if r is not None and check_int(r, "rank") < 1:
            raise ValueError(f"rank must be at least 1, got {r}")
        if isinstance(rank, (list, tuple)) and r is not None and r > min(weights[i].shape):
            raise ValueError(f"rank[{i}] must not exceed min(out, in) = {min(weights[i].shape)}, got {r}")
    return given
