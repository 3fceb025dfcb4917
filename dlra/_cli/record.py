"""What ``dlra solve`` keeps of a run: observables at many steps, the state itself at few."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

import dlra
from dlra.backend import to_host
from dlra.problems import Problem
from dlra.solution import Solution, State

SERIES = 2000  # at most so many steps, and the start, are recorded over time
STATES = 11  # so many states are stored by default


class Recorder:
    """The ``save`` function of the run: observables at many steps, the state itself at few."""

    def __init__(
        self,
        problem: Problem,
        steps: int | None,
        *,
        identity: Any = None,
        states: int | None = None,
        every: int | None = None,
        t_span: tuple[float, float] = (0.0, 1.0),
        resumed_at: float | None = None,
    ):
        """Record a run of so many steps (None: unknown), storing ``states`` states or each ``every``-th.

        Where the number of steps is unknown, every one is recorded and states are stored evenly over ``t_span``.
        """
        self._problem, self._identity, self._every = problem, identity, every
        self._series = None if steps is None else spread(steps, SERIES + 1)
        count = STATES if states is None else states
        self._states = {steps or 0} if count == 1 else spread(steps or 0, count)
        self._intervals, self._t_span, self._reached = count - 1, t_span, -1
        if steps is None:
            self._states = set()
            self._reached = -1 if resumed_at is None else self._interval(resumed_at)

    def __call__(self, state: State) -> dict[str, Any] | None:
        """The record of a state, None where it is left out."""
        keep = state.step % self._every == 0 if self._every else self._is_due(state)
        if not (keep or self._series is None or state.step in self._series):
            return None
        record = self._record(state.t, state.y)
        if state.step == 0 and self._identity is not None:
            record["task"] = self._identity
        if keep:
            record["y"] = state.y
        return record

    def _is_due(self, state: State) -> bool:
        """Whether the state is one of those to store."""
        if self._series is not None or self._intervals == 0:  # of one state, that is the last
            return state.step in self._states
        before, self._reached = self._reached, max(self._reached, self._interval(state.t))
        return self._reached > before

    def _interval(self, t: float) -> int:
        """The number of the interval between two times to store at that contains t."""
        t0, t1 = self._t_span
        return math.floor(self._intervals * (t - t0) / (t1 - t0) + 1e-9) if self._intervals else 0

    def _record(self, t: float, y: Any) -> dict[str, Any]:
        observables = {name: float(function(t, y)) for name, function in self._problem.observables.items()}
        return {"observables": observables, "singular_values": to_host(y.singular_values()).astype(float)}

    def split(self, solution: Solution) -> tuple[Solution, Solution]:
        """Take the records apart: the solution over time without states, and that of the stored states.

        The last state is in both, even where a run broke off between two records.
        """
        records = list(solution.saved or [])
        if records[-1] is None or "y" not in records[-1]:
            records[-1] = {**self._record(solution.t_final, solution.y_final), "y": solution.y_final}
        kept = [i for i, record in enumerate(records) if record is not None]
        series = _part(solution, kept)
        series.saved = [
            {**records[i]["observables"], "singular_values": records[i]["singular_values"]} for i in kept
        ]
        kept = [i for i in kept if "y" in records[i]]
        stored = _part(solution, kept)
        stored.y = [records[i]["y"] for i in kept]
        stored.saved = [records[i]["observables"] for i in kept]
        return series, stored


def step_count(t_span: tuple[float, float], dt: float | None) -> int | None:
    """How many steps the run will take; None where that is unknown. Malformed values are left to solve."""
    if dt is None or not math.isfinite(dt) or dt <= 0 or not math.isfinite(t_span[1] - t_span[0]):
        return None
    return max(1, math.ceil(abs(t_span[1] - t_span[0]) / dt * (1 - 1e-9)))


def spread(steps: int, count: int) -> set[int]:
    """At most ``count`` of the steps 0, ..., steps, evenly, with both ends."""
    return set(np.linspace(0, steps, min(count, steps + 1)).round().astype(int).tolist())


def _part(solution: Solution, index: list[int]) -> Solution:
    """A solution at some of its stored times, without states."""
    errors = solution.errors
    budget = dlra.ErrorBudget(errors.time[index], errors.truncation[index], errors.normal[index])
    if errors.local is not None:
        local = errors.local
        parts = (local.time[index], local.truncation[index], local.normal[index])
        budget = dataclasses.replace(budget, local=dlra.ErrorBudget(*parts))
    return dataclasses.replace(solution, t=solution.t[index], y=[], rank=solution.rank[index], errors=budget)
