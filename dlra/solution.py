"""What a run returns: states, the error budget, and the Solution."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlra.backend import Array, contiguous, from_host, is_array, kind, memory_order, namespace, to_host
from dlra.lowrank import LowRank

if TYPE_CHECKING:
    from dlra.diagnostics import Diagnosis

__all__ = ["ErrorBudget", "Solution", "State"]


@dataclass(frozen=True, eq=False)
class ErrorBudget:
    """Where the error of a run comes from: numbers at one state, or arrays over the stored states.

    Attributes
    ----------
    time : float or array
        Estimated local errors of the time steps, summed since t0. NaN with a fixed step, which has no
        estimate (:meth:`Solution.diagnosed` puts a bound in its place).
    truncation : float or array
        Frobenius norms of what truncation dropped, summed since t0.
    normal : float or array
        |h| ‖Ũᴴ F Ṽ‖ summed since t0: the part of F normal to the tangent space, as far as the method sees it
        in its augmented bases. NaN where it sees none.
    local : ErrorBudget or None
        The same three for the last step alone, ``normal`` without the factor |h|.
    """

    time: Any = float("nan")
    truncation: Any = 0.0
    normal: Any = 0.0
    local: ErrorBudget | None = field(default=None, repr=False)

    @property
    def total(self) -> Any:
        """Sum of the three parts; NaN where one of them is unknown."""
        return self.time + self.truncation + self.normal

    def __getitem__(self, name: str) -> Any:
        if name not in ("time", "truncation", "normal", "total", "local"):
            raise KeyError(f"an error budget has time, truncation, normal, total and local, not {name!r}")
        return getattr(self, name)

    def after(self, h: float, discarded: float, normal: float, time: float = float("nan")) -> ErrorBudget:
        """The budget after one more step of length h."""
        return ErrorBudget(
            self.time + time,
            self.truncation + discarded,
            self.normal + abs(h) * normal,
            ErrorBudget(time, discarded, normal),
        )


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """An accepted state.

    Attributes
    ----------
    t : float
    y : LowRank, or list of members for a coupled system
    step : int
        Number of steps taken so far; 0 for the initial state.
    rank : int, or tuple for a coupled system
        A plain array counts with the smaller of its dimensions.
    errors : ErrorBudget
    """

    t: float
    y: Any
    step: int
    rank: Any
    errors: ErrorBudget


@dataclass(eq=False)
class Solution:
    """The result of :func:`dlra.solve`.

    Attributes
    ----------
    t : array, shape (k,)
        Times of the stored states: all accepted ones, or those of ``t_eval``.
    y : list of LowRank, length k
        The stored states (lists of members for a coupled system); empty where ``save`` replaced the storing.
    rank : array of int, shape (k,)
        Their ranks; a list of tuples for a coupled system.
    errors : ErrorBudget
        The error budget, as arrays of shape (k,).
    y_final : LowRank
        The last accepted state, at ``t_final``, whether stored or not.
    t_final : float
    saved : list or None
        Results of ``save``, one per stored time.
    t_events, y_events : list of lists
        Times and states of each event.
    nfev, nsteps : int
        Evaluations of F and accepted steps; nfev includes rejected ones and the location of events.
    t_start : float
        Where the run began, t0.
    nrejected : int
        Rejected attempts, where the step adapts.
    status : int
        0: the end of ``t_span`` was reached; 1: stopped by an event, the callback or Ctrl-C; -1: failed.
    message : str
    method : str
        The integrator and its options.
    """

    t: np.ndarray
    y: list[Any]
    rank: Any
    errors: ErrorBudget
    y_final: Any
    t_final: float
    nfev: int
    nsteps: int
    status: int
    message: str
    nrejected: int = 0
    t_start: float = float("nan")
    method: str = ""
    saved: list[Any] | None = None
    t_events: list[list[float]] = field(default_factory=list)
    y_events: list[list[Any]] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the run reached its end or was stopped on request."""
        return self.status >= 0

    def member(self, i: int) -> Solution:
        """Return the solution of one member of a run whose states are stacks (:class:`dlra.LowRankStack`).

        Its states are cut to their own ranks. Its ``errors``, evaluations and events are those of the whole run: the
        norms over all members, which bound those of each.

        Raises
        ------
        TypeError
            The states are no stacks.
        IndexError
            There is no such member.
        """
        if isinstance(self.y_final, list) or getattr(self.y_final, "ndim", 2) != 3:
            raise TypeError(
                "member is for runs from a LowRankStack, and the states of this one are no stacks"
            )
        y = [Y[i] for Y in self.y]
        return replace(
            self,
            y=y,
            y_final=self.y_final[i],
            rank=np.asarray([Y.rank for Y in y], dtype=np.int64) if y else self.rank,
            y_events=[[Y[i] for Y in states] for states in self.y_events],
        )

    def error_bound(self, mu: float, initial: float = 0.0) -> np.ndarray:
        """A-posteriori bound for the Frobenius norm of the error at the stored times, from the error budget.

        An error made at time s has grown by at most e^{μ|t-s|} at time t, where

            Re ⟨F(t, Y) - F(t, Z), Y - Z⟩ <= μ ‖Y - Z‖²  (in the direction of time; for a run backward for -F).

        The budget holds estimates, so this is a bound as far as those are upper estimates; where the rank of Y0 is
        that of the exact initial value and the steps adapt, it was above the true error in more than 95 % of random
        problems (``python -m validation.adaptive``).

        Parameters
        ----------
        mu : float
            One-sided Lipschitz constant of F (negative where F contracts), or a Lipschitz constant.
        initial : float
            Error of Y0.

        Returns
        -------
        array, shape (k,)
            NaN where a part of the budget is unknown (the time part with a fixed step).
        """
        if isinstance(mu, bool) or not isinstance(mu, (int, float, np.number)):
            raise TypeError(
                f"mu must be a number, the one-sided Lipschitz constant of F, got {type(mu).__name__}"
            )
        if not 0 <= initial < math.inf:
            raise ValueError(f"initial must be the norm of the error of Y0, finite and >= 0, got {initial}")
        times = np.concatenate(([self.t_start if math.isfinite(self.t_start) else self.t[0]], self.t))
        totals = np.concatenate(([0.0], np.asarray(self.errors.total, dtype=np.float64)))
        bound = np.empty(len(times))
        bound[0] = initial
        with np.errstate(over="ignore"):
            growth = np.exp(float(mu) * np.abs(np.diff(times)))
        for i, factor in enumerate(growth):  # what was added in between counts from its worst moment
            added = totals[i + 1] - totals[i]
            bound[i + 1] = sum(g * x for g, x in ((factor, bound[i]), (max(1.0, factor), added)) if x != 0)
        return bound[1:]

    def diagnosed(self, found: Diagnosis) -> Solution:
        """Return the solution with the parts of ``errors`` that the run could not estimate taken from a bound.

        With a fixed step nothing estimates the time part: in its place comes the bound 1.57 L B h² of the local error
        of augmented BUG, with the constants that :func:`dlra.diagnostics.diagnose` has seen; in the place of a normal
        part that the method does not see, ε a unit of time. With a declared stiff part the time part stays unknown: the
        bound does not cover it.

        Parameters
        ----------
        found : dlra.diagnostics.Diagnosis
            Of this solution.

        Returns
        -------
        Solution
            The states are shared; :meth:`error_bound` then gives numbers.

        Raises
        ------
        ValueError
            ``found`` belongs to another run (method or length differ).
        """
        from dlra.diagnostics import Diagnosis

        if not isinstance(found, Diagnosis):
            raise TypeError(
                f"found must be a Diagnosis, dlra.diagnostics.diagnose(F, solution), got {kind(found)}"
            )
        span = abs(self.t_final - self.t_start)
        if found.method != self.method or not math.isclose(found.span, span, rel_tol=1e-9):
            raise ValueError(
                f"found belongs to another run: {found.method or 'no Solution'} over a time of {found.span:g}, this "
                f"one is {self.method} over {span:g}; give diagnose(F, this solution)"
            )
        h = span / max(self.nsteps, 1)
        per_time = math.nan if found.stiff else found.local_error(h) / h - found.eps
        elapsed = np.abs(self.t - self.t_start)
        local = self.errors.local or ErrorBudget()
        return replace(
            self,
            errors=ErrorBudget(
                _filled(self.errors.time, per_time * elapsed),
                self.errors.truncation,
                _filled(self.errors.normal, found.eps * elapsed),
                ErrorBudget(
                    _filled(local.time, np.where(elapsed > 0, per_time * h, math.nan)),
                    local.truncation,
                    _filled(local.normal, np.where(elapsed > 0, found.eps, math.nan)),
                ),
            ),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an HDF5 file, atomically: a failure leaves an earlier file as it was.

        Arrays of other libraries are copied to the host.

        Raises
        ------
        TypeError
            Where ``saved`` holds objects that a file cannot hold (numbers, strings, arrays and nested lists,
            tuples and dicts of those can be held).
        ImportError
            Without h5py: ``pip install "dlra[files]"``.
        """
        from dlra import _files

        _files.write(path, "solution", pack_solution(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Solution:
        """Read a file written by :meth:`save`; the states come back as NumPy arrays.

        Raises
        ------
        ValueError
            The file is torn, not one of ours, of another kind or of another schema; the text says which.
        """
        from dlra import _files

        return unpack_solution(_files.read(path, "solution"))

    def __repr__(self) -> str:
        state = {0: "reached the end", 1: "stopped", -1: "failed"}[self.status]
        stored = f"{len(self.t)} state{'' if len(self.t) == 1 else 's'} stored"
        rank = self.rank[-1] if len(self.rank) else "-"
        return (
            f"Solution({state}, t = {self.t_final:g}, rank {rank}, {self.nsteps} steps, {self.nfev} evaluations, "
            f"{stored})"
        )


def _filled(part: Any, otherwise: Any) -> np.ndarray:
    """A part of a budget, with what stands for the entries that are unknown."""
    return np.where(np.isnan(part), otherwise, part)


@dataclass
class Record:
    """The stored part of a run, growing with it."""

    t: list[float] = field(default_factory=list)
    y: list[Any] = field(default_factory=list)
    rank: list[Any] = field(default_factory=list)
    errors: list[tuple[float, ...]] = field(default_factory=list)
    saved: list[Any] = field(default_factory=list)

    def store(self, state: State, save: Any) -> None:
        """Keep a state, or what ``save`` makes of it."""
        if save is not None:
            self.saved.append(save(state))
        else:
            self.y.append(state.y)
        self.t.append(state.t)
        self.rank.append(state.rank)
        self.errors.append(_budget_row(state.errors))

    def first(self, count: int) -> Record:
        """A copy of the first entries."""
        return Record(
            self.t[:count], self.y[:count], self.rank[:count], self.errors[:count], self.saved[:count]
        )

    def budget(self) -> ErrorBudget:
        """The stored error budgets as arrays."""
        return _budget(np.asarray(self.errors, dtype=np.float64).reshape(-1, 6).T)


def _budget_row(errors: ErrorBudget) -> tuple[float, ...]:
    local = errors.local or ErrorBudget()
    return (errors.time, errors.truncation, errors.normal, local.time, local.truncation, local.normal)


def _budget(columns: Any) -> ErrorBudget:
    return ErrorBudget(columns[0], columns[1], columns[2], ErrorBudget(*columns[3:6]))


# ---- states and solutions as trees of host arrays, for files


def _pack(a: Array) -> np.ndarray:
    host = to_host(a)
    if a.ndim == 2 and memory_order(a) == "F" and not host.flags.f_contiguous:
        host = np.asfortranarray(host)
    return host


def _unpack(a: np.ndarray, like: Array | None) -> Array:
    if like is None or type(like) is np.ndarray:
        return a
    if a.ndim == 2 and a.flags.f_contiguous and not a.flags.c_contiguous:
        return from_host(np.ascontiguousarray(a.T), like).mT
    return from_host(a, like)


def compact(Y: Any) -> Any:
    """Y with every factor contiguous, so that a file can restore it bit for bit, strides included."""
    if isinstance(Y, LowRank):
        tidy = _compact if Y.ndim == 2 else contiguous
        U, S = tidy(Y._U), tidy(Y.S)
        V = U if Y._V is Y._U else tidy(Y._V)
        return Y if (U is Y._U and S is Y._S and V is Y._V) else LowRank._make(U, S, V, Y._orthonormal)
    return _compact(Y)


def _compact(a: Array) -> Array:
    return a if memory_order(a) else namespace(a).asarray(a, copy=True)


def pack_solution(solution: Solution) -> dict[str, Any]:
    """A Solution as a tree."""
    return {
        "t": solution.t,
        "y": [portable(y) for y in solution.y],
        "rank": solution.rank,
        "errors": np.asarray(_budget_row(solution.errors)),
        "y_final": portable(solution.y_final),
        "t_final": solution.t_final,
        "nfev": solution.nfev,
        "nsteps": solution.nsteps,
        "nrejected": solution.nrejected,
        "t_start": solution.t_start,
        "status": solution.status,
        "message": solution.message,
        "method": solution.method,
        "saved": None if solution.saved is None else [portable(value) for value in solution.saved],
        "t_events": solution.t_events,
        "y_events": [[portable(y) for y in states] for states in solution.y_events],
    }


def unpack_solution(tree: dict[str, Any]) -> Solution:
    """The inverse of :func:`pack_solution`."""
    return Solution(
        **{
            **tree,
            "y": [revived(y) for y in tree["y"]],
            "saved": None if tree["saved"] is None else [revived(value) for value in tree["saved"]],
            "errors": _budget(tree["errors"]),
            "y_final": revived(tree["y_final"]),
            "y_events": [[revived(y) for y in states] for states in tree["y_events"]],
        }
    )


def portable(value: Any) -> Any:
    """A result of ``save`` with every LowRank and every array of another library in a form that a file can hold."""
    if isinstance(value, LowRank):
        core = None if value._S is None else _pack(value._S)
        right = None if value._V is value._U else _pack(value._V)  # one array for both sides stays one
        return {_LOWRANK: [_pack(value._U), core, right, value._orthonormal]}
    if type(value) is dict:
        return {key: portable(v) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(portable(v) for v in value)
    return {_ARRAY: _pack(value)} if is_array(value) and type(value) is not np.ndarray else value


def revived(value: Any, like: Array | None = None) -> Any:
    """The inverse of :func:`portable`; what was of another library comes in that of ``like`` (None: NumPy)."""
    if type(value) is dict:
        if list(value) == [_LOWRANK]:
            *factors, orthonormal = value[_LOWRANK]
            U, S, V = (None if a is None else _unpack(a, like) for a in factors)
            return LowRank._make(U, S, U if V is None else V, orthonormal)
        if list(value) == [_ARRAY]:
            return _unpack(value[_ARRAY], like)
        return {key: revived(v, like) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(revived(v, like) for v in value)
    return value


_LOWRANK, _ARRAY = "dlra:LowRank", "dlra:array"
