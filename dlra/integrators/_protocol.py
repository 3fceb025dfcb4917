"""Reverse communication: how a step asks for values of F.

A step is a generator. It yields a list of :class:`Ask` (several where the evaluations are independent of each
other) and is sent a list with one tuple of values per Ask. Whoever drives the generator evaluates F: the time
loop of :func:`dlra.solve`, the trainer of a network, or a foreign framework.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

__all__ = ["Ask", "StepResult", "drive", "together"]


class Ask(NamedTuple):
    """A request for F(t, Ys).

    Attributes
    ----------
    stage : str
        "start", "K", "L", "S", or what else the method calls it.
    t : float
    Ys : tuple
        The members of the system, each a LowRank or a plain array.
    t1 : float or None
        Where it is given, the question is for the integral of F from t to t1 (fields that know only that:
        :class:`dlra.Increments`).
    """

    stage: str
    t: float
    Ys: tuple[Any, ...]
    t1: float | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step returns.

    Attributes
    ----------
    Ys : tuple
        The members after the step.
    discarded : float
        Norm of what the truncation dropped, over all members.
    normal : float
        The normal component of F seen by the step, ‖Ũᴴ F(t₀, Y₀) Ṽ‖ over all members; NaN where the method
        does not see it.
    error : float
        Norm of an estimate of the local error that the method has built in, over all members; NaN where it has
        none.
    """

    Ys: tuple[Any, ...]
    discarded: float = 0.0
    normal: float = float("nan")
    error: float = float("nan")


T = TypeVar("T")
Steps = Generator[list[Ask], list[Any], T]
"""A generator that asks for values of F and returns a T."""


def drive(steps: Steps[T], evaluate: Callable[[Ask], Any]) -> T:
    """Run a generator to its end, answering each of its questions with ``evaluate(ask)``."""
    try:
        asks = next(steps)
        while True:
            asks = steps.send([evaluate(ask) for ask in asks])
    except StopIteration as stop:
        return stop.value


def together(*several: Steps[Any]) -> Steps[list[Any]]:
    """Advance independent generators in lockstep: their questions go out in one list. Returns the list of
    their results."""
    results: list[Any] = [None] * len(several)
    running: list[tuple[int, Steps[Any], Any]] = [(i, steps, None) for i, steps in enumerate(several)]
    while True:
        questions: list[Ask] = []
        asked = []
        for i, steps, answers in running:
            try:
                asks = steps.send(answers)
            except StopIteration as stop:
                results[i] = stop.value
            else:
                asked.append((i, steps, len(questions), len(questions) + len(asks)))
                questions += asks
        if not asked:
            return results
        answers = yield questions
        running = [(i, steps, answers[start:end]) for i, steps, start, end in asked]
