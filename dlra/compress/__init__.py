"""How far a matrix is from one of low rank, and which ranks to keep of a trained network.

The measures (:func:`nuclear_norm` to :func:`two_level_l1`) are functions of the singular values of a matrix. The rules
choose one rank for each layer of a network: :func:`local_ranks` (LSVT), :func:`global_ranks` (GSVT), both from its
:func:`singular_values`, and :func:`iterative_ranks` (ISVT), from its loss. They return ranks only; to truncate a
network by one of them, give its ranks to :func:`dlra.nn.to_lowrank`.
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
from dlra.compress.ranks import global_ranks, iterative_ranks, local_ranks, singular_values

__all__ = [
    "effective_rank",
    "gini",
    "global_ranks",
    "hoyer",
    "iterative_ranks",
    "local_ranks",
    "nuclear_norm",
    "schatten_norm",
    "singular_values",
    "sorted_l1",
    "two_level_l1",
]
