"""Matrix differential equations with known solutions, and comparisons of runs, shared by the tests of methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers import to_numpy

from dlra import LowRank, SemiLinear, Solution, factored
from validation.flows import projected_flow
from validation.manufactured import Moving, Rotating, slopes

__all__ = ["Heat", "Moving", "Rotating", "bits", "projected_flow", "slopes", "solution_bits"]


class Heat:
    """Y' = A Y + Y A + C Cᵀ with A the second difference on a grid: stiff, and solved exactly by eigenvectors.

    The grid x_i = -π + i Δx, i = 0, ..., n-1, Δx = 2π/(n+1), is not symmetric: on a symmetric one the initial value
    (odd) and the source (even) would be orthogonal, and no method of this kind would see the source at the start.
    """

    def __init__(self, n: int):
        dx = 2 * np.pi / (n + 1)
        x = -np.pi + dx * np.arange(n)
        self.A = (
            np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
        ) / dx**2
        k = np.arange(1, 11)
        C = 10.0 ** (-(k - 1) / 2) * np.exp(-k * x[:, None] ** 2)
        C /= np.sqrt(np.linalg.norm(C.T @ C))
        self.source = LowRank(C, None, C)
        k = np.arange(1, 21)
        sines = np.sin(k * x[:, None])
        self._start = LowRank(sines, np.diag(np.where(k == 1, 1.0, 5 * np.exp(-(7 + 0.5 * (k - 2))))), sines)
        self._eigen = np.linalg.eigh(self.A)

    @property
    def F(self) -> SemiLinear:
        """The field with its stiff linear part declared."""
        return SemiLinear(self.A, self.A, self.source)

    @property
    def plain(self) -> Any:
        """The same field, not declaring anything."""
        return factored(lambda t, Y: self.A @ Y + Y @ self.A + self.source)

    def state(self, rank: int) -> LowRank:
        return self._start.truncate(max_rank=rank)

    def __call__(self, t: float) -> np.ndarray:
        w, Q = self._eigen
        rates = w[:, None] + w
        start, source = (Q.T @ M.to_dense() @ Q for M in (self._start, self.source))
        return Q @ (np.exp(rates * t) * start + np.expm1(rates * t) / rates * source) @ Q.T


def bits(value: Any) -> Any:
    """Anything a run returns, in a form that compares equal exactly where all bits agree."""
    if isinstance(value, LowRank):
        return ("LowRank", *(bits(factor) for factor in value.factors))
    if isinstance(value, (list, tuple)):
        return tuple(bits(item) for item in value)
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    a = to_numpy(value)
    return a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes()


def solution_bits(solution: Solution) -> dict[str, Any]:
    """All of a Solution, as :func:`bits`."""
    errors, local = solution.errors, solution.errors.local
    assert local is not None
    return {
        "t": bits(solution.t),
        "y": bits(solution.y),
        "rank": bits(
            list(map(int, solution.rank)) if isinstance(solution.rank, np.ndarray) else solution.rank
        ),
        "errors": bits([part[name] for part in (errors, local) for name in ("time", "truncation", "normal")]),
        "y_final": bits(solution.y_final),
        "t_final": solution.t_final,
        "saved": bits(solution.saved),
        "t_events": solution.t_events,
        "y_events": bits(solution.y_events),
        "nfev": solution.nfev,
        "nsteps": solution.nsteps,
        "status": solution.status,
        "message": solution.message,
    }
