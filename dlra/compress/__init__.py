"""How far a matrix is from one of low rank, and which ranks to keep of a trained network.

The measures (:func:`nuclear_norm` to :func:`two_level_l1`) are functions of the singular values; the rules
(:func:`local_ranks`, :func:`global_ranks`, :func:`iterative_ranks`) choose one rank for each layer. They return ranks
only: :func:`dlra.nn.to_lowrank` truncates a network to them.
"""

from __future__ import annotations

from dlra.compress.measures import (
    effective_rank,
    gini,
    hoyer,
    nuclear_norm,
    schatten_norm,
    sorted_l1,
    two_level_l1,
)
from dlra.compress.ranks import global_ranks, iterative_ranks, local_ranks

__all__ = [
    "effective_rank",
    "gini",
    "global_ranks",
    "hoyer",
    "iterative_ranks",
    "local_ranks",
    "nuclear_norm",
    "schatten_norm",
    "sorted_l1",
    "two_level_l1",
]
