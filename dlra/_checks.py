"""Checks of the arguments of solve, iterate and step, made before any work starts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra import linalg
from dlra._factors import check_dtype
from dlra.backend import H, all_finite, eps, eye, is_array, kind, namespace, norm, to_host
from dlra.linalg import BOTH
from dlra.lowrank import LowRank

__all__ = ["Event"]


@dataclass(frozen=True)
class Event:
    """Something to look out for: a sign change of a function of the state.

    Parameters
    ----------
    function : callable
        ``function(state)`` or ``function(t, Y)``, returning a real number; an event is a change of its sign
        from one accepted state to the next. Its time is located by bisection on the step.
    terminal : bool
        Whether the run stops there.
    direction : {0, 1, -1}
        1 counts changes from negative to positive only, -1 the others, 0 both.
    """

    function: Callable[..., Any]
    terminal: bool = False
    direction: int = 0

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function of an Event must be callable, got {kind(self.function)}")
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"direction of an Event must be -1, 0 or 1, got {self.direction!r}")

    def value(self, state: Any) -> float:
        """The function at a state."""
        result = self.function(state.t, state.y) if _takes_two(self.function) else self.function(state)
        try:
            return float(result)
        except (TypeError, ValueError):
            hint = "; make one of several, e.g. with .max()" if getattr(result, "ndim", 0) else ""
            raise TypeError(
                f"function of an Event must return a real number, got {kind(result)}{hint}"
            ) from None


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return (
        sum(
            p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in parameters
        )
        == 2
    )


def check_events(events: Any) -> list[Event]:
    """Return events as a list."""
    if events is None:
        return []
    given = list(events) if isinstance(events, (list, tuple)) else [events]
    for event in given:
        if not isinstance(event, Event):
            raise TypeError(
                f"events must be dlra.Event(function, terminal=False, direction=0), or a list, got {kind(event)}"
            )
    return given


def check_number(value: Any, name: str) -> float:
    """Return a real number as a float (NaN and infinity pass)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {value!r} ({type(value).__name__})")
    return float(value)


def check_t_span(t_span: Any) -> tuple[float, float]:
    """Return (t0, t1)."""
    try:
        t0, t1 = t_span
    except (TypeError, ValueError):
        raise ValueError(f"t_span must be a pair (t0, t1), got {t_span!r}") from None
    t0, t1 = check_number(t0, "t0 of t_span"), check_number(t1, "t1 of t_span")
    if not (math.isfinite(t0) and math.isfinite(t1)):
        raise ValueError(f"t_span must be finite, got {(t0, t1)}")
    if t0 == t1:
        raise ValueError(f"t_span must have positive length, got {(t0, t1)}")
    return t0, t1


def check_dt(dt: Any, rtol: Any, atol: Any) -> tuple[float | None, tuple[float, float]]:
    """Return the step length, None for steps that adapt, and the tolerances of the time step."""
    if dt is not None and (rtol is not None or atol is not None):
        raise ValueError(
            "rtol and atol of solve are tolerances of the time step and do not go with dt; for a tolerance of the rank "
            "(truncation) give it to the method, e.g. method=dlra.AugmentedBUG(rtol=...)"
        )
    if dt is not None:
        value = check_number(dt, "dt")
        if not 0 < value < math.inf:
            raise ValueError(f"dt must be positive and finite (the direction comes from t_span), got {dt}")
        return value, (0.0, 0.0)
    tolerances = (
        check_number(1e-4 if rtol is None else rtol, "rtol"),
        check_number(0.0 if atol is None else atol, "atol"),
    )
    for name, value in zip(("rtol", "atol"), tolerances, strict=True):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and >= 0 (a tolerance of the time step), got {value}")
    if tolerances[0] >= 1:
        raise ValueError(f"rtol must be below 1 (a tolerance relative to the norm of Y), got {tolerances[0]}")
    if tolerances == (0.0, 0.0):
        raise ValueError("rtol and atol are both 0, which no step can meet; give one of them, or dt")
    return None, tolerances


def check_resolution(dt: float | None, t0: float, t1: float) -> None:
    """Raise a ValueError where steps of length dt would not move t."""
    if dt is not None and dt <= 4 * math.ulp(max(abs(t0), abs(t1))):
        raise ValueError(f"dt = {dt} is below the resolution of t in t_span = {(t0, t1)}; take a larger dt")


def check_t_eval(t_eval: Any, t0: float, t1: float) -> list[float] | None:
    """Return t_eval as a list of floats, in the order of the run."""
    if t_eval is None:
        return None
    try:
        times = np.asarray(to_host(t_eval) if is_array(t_eval) else t_eval, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"t_eval must be a sequence of real numbers, got {t_eval!r}") from None
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"t_eval must be a vector of at least one time, got shape {times.shape}")
    direction = math.copysign(1.0, t1 - t0)
    if (
        not np.all(np.isfinite(times))
        or np.any(direction * (times - t0) < 0)
        or np.any(direction * (t1 - times) < 0)
    ):
        raise ValueError(
            f"t_eval must lie within t_span = {(t0, t1)}, got values from {times.min()} to {times.max()}"
        )
    wrong = np.flatnonzero(direction * np.diff(times) <= 0)
    if wrong.size:
        order = "ascending" if direction > 0 else "descending"
        raise ValueError(
            f"t_eval must be strictly {order}, as the run goes from {t0} to {t1}; "
            f"got {times[wrong[0] + 1]} after {times[wrong[0]]}"
        )
    return times.tolist()


def check_step_limit(max_steps: Any) -> int | None:
    """Return max_steps."""
    if max_steps is None:
        return None
    if isinstance(max_steps, bool) or not isinstance(max_steps, (int, np.integer)):
        raise TypeError(f"max_steps must be an int or None, got {max_steps!r}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    return int(max_steps)


def check_callable(value: Any, name: str, takes: str) -> None:
    """Raise a TypeError unless ``value`` is None or callable."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function of {takes}, got {kind(value)}")


def check_state(Y0: Any) -> tuple[tuple[Any, ...], bool]:
    """Return the members of Y0, low-rank ones with orthonormal factors, and whether it is a system."""
    system = isinstance(Y0, (list, tuple))
    given = tuple(Y0) if system else (Y0,)
    if not given:
        raise ValueError("Y0 is an empty list; a coupled system needs at least one matrix")
    names = [f"Y0[{i}]" for i in range(len(given))] if system else ["Y0"]
    for name, Y in zip(names, given, strict=True):
        if isinstance(Y, LowRank):
            if system and Y.ndim == 3:
                raise TypeError(
                    f"{name} is a LowRankStack, and a coupled system takes single matrices; give a stack alone, or one "
                    f"member at a time"
                )
            if Y.rank > min(Y.shape[-2:]):
                raise ValueError(
                    f"{name} has factors of rank {Y.rank}, more than min(m, n) = {min(Y.shape[-2:])}; take "
                    f"{name}.truncate()"
                )
        elif not is_array(Y):
            raise TypeError(
                f"{name} must be a LowRank{' or an array' if system else ''}, got {kind(Y)}; "
                f"make one with LowRank(U, S, V) or LowRank.from_dense(A, rank=...)"
            )
        elif not system:
            raise TypeError(
                f"Y0 must be a LowRank, got a dense array of shape {tuple(Y.shape)}; "
                f"use LowRank.from_dense(Y0, rank=...)"
            )
        else:
            check_dtype(Y, name)
            if Y.ndim == 0:
                raise ValueError(f"{name} is an array of no dimension; give it shape (1,)")
        for label, a in zip("USV", Y.factors, strict=True) if isinstance(Y, LowRank) else [("", Y)]:
            if not all_finite(a):
                raise ValueError(f"{name}{'.' + label if label else ''} contains NaN or infinite values")
    namespace(*(Y._U if isinstance(Y, LowRank) else Y for Y in given))
    return tuple(orthonormal(Y) if isinstance(Y, LowRank) else Y for Y in given), system


def orthonormal(Y: LowRank) -> LowRank:
    """Y with orthonormal factors and a square core, of the same rank; its own factors where they already are so."""
    if Y._U.shape[-1] != Y._V.shape[-1]:
        return linalg.truncate(Y, min_rank=Y.rank, max_rank=Y.rank)[0]
    if Y._orthonormal == BOTH:
        return Y
    if all(
        norm(H(Q) @ Q - eye(Q.shape[-1], Q)) <= 50 * eps(Q) * Q.shape[-1] * math.prod(Q.shape[:-2]) ** 0.5
        for Q in (Y._U, Y._V)
    ):
        return LowRank._make(Y._U, Y.S, Y._V, BOTH)
    return Y.orthonormalized()


def rank_of(Ys: tuple[Any, ...], system: bool) -> Any:
    """The rank of a state as users see it: an int, or a tuple for a system."""
    ranks = tuple(Y.rank if isinstance(Y, LowRank) else min(Y.shape, default=1) for Y in Ys)
    return ranks if system else ranks[0]
