"""Rules for the ranks of all layers together: a tolerance tied to the learning rate, a budget of parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra._factors import check_int
from dlra.backend import to_host
from dlra.linalg import BOTH, svdvals
from dlra.lowrank import LowRank
from dlra.nn._layer import factored_count

__all__ = ["ParameterBudget", "TiedTolerance"]

Members = tuple[Any, ...]


@dataclass(frozen=True)
class TiedTolerance:
    """The truncation tolerance theta_t = c h_t², with the learning rate h_t.

    The error bound of the augmented integrator has a term theta/h; with a fixed tolerance it grows as the learning rate
    falls, and new directions, whose size is about h, are all discarded once theta is larger. Tied, it falls like h.

    Parameters
    ----------
    c : float
        Positive. To begin with a tolerance like tau relative to a weight W, take c = tau ‖W‖ / h₀²: with tau = 0.1,
        ‖W‖ = 10 and h₀ = 3e-3 that is 1e5. With a c that is much smaller nothing is dropped, and ranks grow to the full
        ones.
    """

    c: float

    def __post_init__(self) -> None:
        if isinstance(self.c, bool) or not isinstance(self.c, (int, float, np.number)):
            raise TypeError(f"c of TiedTolerance must be a number, got {self.c!r}")
        if not 0 < self.c < math.inf:
            raise ValueError(f"c of TiedTolerance must be positive and finite, got {self.c}")

    def options(self, h: float) -> dict[str, Any]:
        """The rank options of a step with learning rate h."""
        return {"atol": float(self.c) * h * h}

    def applied(self, members: Members) -> Members:
        """Members after the step, as they are."""
        return members


@dataclass(frozen=True)
class ParameterBudget:
    """Keep the largest singular values of all layers together, as many as the parameters allow.

    A singular value of an m x n weight costs m + n parameters (evaluation count). Dense weights and biases do not
    count.

    Parameters
    ----------
    parameters : int
        Of all low-rank weights together.
    min_rank : int
        Each layer keeps so many.
    """

    parameters: int
    min_rank: int = 1

    def __post_init__(self) -> None:
        if check_int(self.parameters, "parameters of ParameterBudget") < 1:
            raise ValueError(f"parameters of ParameterBudget must be at least 1, got {self.parameters}")
        if check_int(self.min_rank, "min_rank of ParameterBudget") < 1:
            raise ValueError(f"min_rank of ParameterBudget must be at least 1, got {self.min_rank}")

    def check(self, shapes: list[tuple[int, int]]) -> None:
        """Raise a ValueError where the budget does not suffice for the lowest ranks of weights of these shapes."""
        least = sum(factored_count(shape, min(self.min_rank, *shape)) for shape in shapes)
        if self.parameters < least:
            raise ValueError(
                f"a budget of {self.parameters} parameters is not enough: rank {self.min_rank} in each low-rank "
                "layer takes "
                f"{least}"
            )

    def options(self, h: float) -> dict[str, Any]:
        """The rank options of a step: nothing that counts is dropped before all layers are seen together."""
        return {"rtol": 1e-12, "atol": 0.0, "max_rank": None}

    def applied(self, members: Members) -> Members:
        """Members, in truncated singular value decompositions, cut to the budget."""
        low = [Y for Y in members if isinstance(Y, LowRank)]
        values = [to_host(svdvals(Y.S)).astype(float) for Y in low]
        ranks = iter(self.ranks(values, [Y.shape for Y in low]))
        return tuple(cut(Y, next(ranks)) if isinstance(Y, LowRank) else Y for Y in members)

    def ranks(self, values: list[np.ndarray], shapes: list[tuple[int, int]]) -> list[int]:
        """The ranks that keep the largest of all these singular values (each list descending) within the budget."""
        ranks = [min(self.min_rank, len(s)) for s in values]
        spent = sum(map(factored_count, shapes, ranks))
        order = sorted(
            ((s, i, k) for i, column in enumerate(values) for k, s in enumerate(column) if k >= ranks[i]),
            key=lambda item: (-item[0], item[1], item[2]),
        )
        for _, i, k in order:
            cost = factored_count(shapes[i], 1)
            if k == ranks[i] and spent + cost <= self.parameters:  # a layer that is full stays closed
                ranks[i] += 1
                spent += cost
        return ranks


def cut(Y: LowRank, rank: int) -> LowRank:
    """The first columns of a truncated singular value decomposition."""
    if rank >= Y.rank:
        return Y
    return LowRank._make(Y._U[:, :rank], Y.S[:rank, :rank], Y._V[:, :rank], BOTH)
