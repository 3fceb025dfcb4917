"""Schedules of the learning rate: functions of the iteration t = 0, 1, 2, ..., given to an optimiser as ``lr``.

Training is integration with the learning rate as the step size, h_t in the notation of Hnatiuk et al. Their convergence
results for stochastic gradients, and the rules of Robbins and Monro before them, ask for

    sum h_t = ∞  and  sum h_t² < ∞                                                              (5.19)

of which only :class:`RobbinsMonro` satisfies both.

Every schedule is a frozen dataclass: it has a ``repr`` with its options, can be compared, hashed and pickled, and its
values are positive.

References
----------
A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank approximation in the
context of machine learning (2024), section 5.
H. Robbins, S. Monro, A stochastic approximation method, Ann. Math. Statist. 22 (1951), 400-407.
"""

from __future__ import annotations

import bisect
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra._checks import check_number
from dlra._factors import check_int

__all__ = ["Constant", "Cosine", "ExponentialDecay", "RobbinsMonro", "Schedule", "StepDecay", "Warmup"]

_LEAST = sys.float_info.min


class Schedule(ABC):
    """A learning rate as a function of the iteration."""

    def __call__(self, t: int) -> float:
        """Return the learning rate of iteration t.

        Parameters
        ----------
        t : int
            Number of iterations before this one, over all epochs.

        Returns
        -------
        float
            Positive; where a decay would underflow, the smallest normal number.
        """
        if isinstance(t, bool) or not isinstance(t, (int, np.integer)):
            raise TypeError(f"t must be an int, the iteration from 0, got {t!r} ({type(t).__name__})")
        if t < 0:
            raise ValueError(f"t must be at least 0, the first iteration, got {t}")
        return self._value(int(t))

    @abstractmethod
    def _value(self, t: int) -> float:
        """The learning rate of iteration t."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate always: what an optimiser makes of a number.

    Parameters
    ----------
    lr : float
        Learning rate, positive.
    """

    lr: float

    def __post_init__(self) -> None:
        _set_positive(self, "lr")

    def _value(self, t: int) -> float:
        return self.lr


@dataclass(frozen=True)
class RobbinsMonro(Schedule):
    """h_t = lr / (1 + t/t0)^power, a decay by a power with 1/2 < power <= 1.

    Then sum h_t = ∞ and sum h_t² < ∞, condition (5.19) of Hnatiuk et al. Under it, and the other assumptions of their
    section 5, the projected gradient of stochastic gradient descent on low-rank factors comes arbitrarily close to zero
    in expectation (corollary 5.10).

    Parameters
    ----------
    lr : float
        Learning rate at t = 0, positive.
    power : float
        Above 1/2, so that the squares have a finite sum, and at most 1, so that the rates have none.
    t0 : float
        Iterations after which the learning rate has fallen by the factor 2^-power, positive.

    Examples
    --------
    >>> h = RobbinsMonro(0.1, t0=100)
    >>> h(0), h(100), h(300)
    (0.1, 0.05, 0.025)
    """

    lr: float
    power: float = 1.0
    t0: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "power", "t0"):
            _set_positive(self, name)
        if not 0.5 < self.power <= 1:
            raise ValueError(
                f"power of RobbinsMonro must satisfy 1/2 < power <= 1, got {self.power}: up to 1/2 the squares of the "
                f"learning rates have no finite sum, above 1 the learning rates themselves have one"
            )

    def _value(self, t: int) -> float:
        return _above_zero(self.lr / (1 + t / self.t0) ** self.power)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """h_t = lr factor^(t/every). Its sum is finite, so it does not satisfy (5.19): training may stop short.

    Parameters
    ----------
    lr : float
        Learning rate at t = 0, positive.
    factor : float
        0 < factor < 1.
    every : int
        Iterations after which the learning rate has fallen by ``factor``.
    staircase : bool
        Whether it falls at these iterations only, and is constant between them.
    """

    lr: float
    factor: float
    every: int = 1
    staircase: bool = False

    def __post_init__(self) -> None:
        _set_positive(self, "lr")
        _set_factor(self)
        _set_count(self, "every")
        if not isinstance(self.staircase, (bool, np.bool_)):
            raise TypeError(f"staircase of ExponentialDecay must be True or False, got {self.staircase!r}")
        object.__setattr__(self, "staircase", bool(self.staircase))

    def _value(self, t: int) -> float:
        return _above_zero(self.lr * self.factor ** (t // self.every if self.staircase else t / self.every))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """The learning rate falls by a factor at each of some iterations, and is constant from the last one on.

    Parameters
    ----------
    lr : float
        Learning rate before the first milestone, positive.
    factor : float
        0 < factor < 1.
    milestones : sequence of int
        Iterations, ascending and positive: at t = milestones[0] the learning rate is lr factor for the first time.
    """

    lr: float
    factor: float
    milestones: tuple[int, ...]

    def __post_init__(self) -> None:
        _set_positive(self, "lr")
        _set_factor(self)
        try:
            given = tuple(self.milestones)
        except TypeError:
            raise TypeError(
                f"milestones of StepDecay must be a sequence of int, got {self.milestones!r}"
            ) from None
        milestones = tuple(check_int(t, "a milestone of StepDecay") for t in given)
        if any(t >= s for t, s in zip((0, *milestones), milestones, strict=False)):
            raise ValueError(
                f"milestones of StepDecay must be positive and strictly ascending, got {milestones}"
            )
        object.__setattr__(self, "milestones", milestones)

    def _value(self, t: int) -> float:
        return _above_zero(self.lr * self.factor ** bisect.bisect_right(self.milestones, t))


@dataclass(frozen=True)
class Cosine(Schedule):
    """h_t = floor + (lr - floor) (1 + cos(π t / steps)) / 2 for t < steps, then constant.

    The formula reaches ``floor`` at t = steps, which a run of ``steps`` iterations does not; later iterations keep the
    learning rate of iteration steps - 1. So all values are above ``floor``, and positive also where that is 0.

    Parameters
    ----------
    lr : float
        Learning rate at t = 0, positive.
    steps : int
        Iterations of the whole run.
    floor : float
        0 <= floor < lr.

    References
    ----------
    I. Loshchilov, F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation (5), without
    restarts.
    """

    lr: float
    steps: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        _set_positive(self, "lr")
        _set_count(self, "steps")
        floor = check_number(self.floor, "floor of Cosine")
        if not 0 <= floor < self.lr:
            raise ValueError(f"floor of Cosine must satisfy 0 <= floor < lr = {self.lr}, got {floor}")
        object.__setattr__(self, "floor", floor)

    def _value(self, t: int) -> float:
        left = max(self.steps - t, 1)
        # (1 + cos(π - a)) / 2 = sin²(a/2), which does not cancel
        return _above_zero(
            self.floor + (self.lr - self.floor) * math.sin(math.pi * left / (2 * self.steps)) ** 2
        )


@dataclass(frozen=True)
class Warmup(Schedule):
    """A linear rise over the first iterations, then another schedule from its start.

    h_t = schedule(0) (t + 1) / (steps + 1) for t < steps, and schedule(t - steps) from there on.

    Parameters
    ----------
    schedule : Schedule, callable or float
        Any function t -> float will do; a number stands for :class:`Constant`.
        What it returns is not checked here; the optimiser does.
    steps : int
        Iterations of the rise.

    Examples
    --------
    >>> h = Warmup(0.1, steps=4)
    >>> [round(h(t), 3) for t in range(6)]
    [0.02, 0.04, 0.06, 0.08, 0.1, 0.1]
    """

    schedule: Any
    steps: int

    def __post_init__(self) -> None:
        if not callable(self.schedule):
            check_number(self.schedule, "schedule of Warmup, where it is not a function of t,")
            object.__setattr__(self, "schedule", Constant(self.schedule))
        _set_count(self, "steps")

    def _value(self, t: int) -> float:
        if t >= self.steps:
            return float(self.schedule(t - self.steps))
        return float(self.schedule(0)) * ((t + 1) / (self.steps + 1))


def _above_zero(lr: float) -> float:
    return max(lr, _LEAST)


# ---- options


def _set_positive(schedule: Schedule, name: str) -> None:
    """Check an option that must be positive and finite, and keep it as a float."""
    label = f"{name} of {type(schedule).__name__}"
    value = check_number(getattr(schedule, name), label)
    if not 0 < value < math.inf:
        raise ValueError(f"{label} must be positive and finite, got {value}")
    object.__setattr__(schedule, name, value)


def _set_factor(schedule: Schedule) -> None:
    _set_positive(schedule, "factor")
    factor = getattr(schedule, "factor")  # noqa: B009  (not an attribute of every Schedule)
    if factor >= 1:
        raise ValueError(
            f"factor of {type(schedule).__name__} must be below 1, got {factor}; for a rate that does "
            f"not fall use Constant"
        )


def _set_count(schedule: Schedule, name: str) -> None:
    """Check an option that counts iterations, and keep it as an int."""
    label = f"{name} of {type(schedule).__name__}"
    value = check_int(getattr(schedule, name), label)
    if value < 1:
        raise ValueError(f"{label} must be at least 1 iteration, got {value}")
    object.__setattr__(schedule, name, value)
