"""The time loop: solve, iterate, step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dlra import _checks as checks
from dlra import integrators
from dlra._checks import Event
from dlra.backend import all_finite, dtype_name, library, norm
from dlra.checkpoint import Checkpoint, Clock, check_resume, check_same_run
from dlra.errors import SolveError, StageError
from dlra.field import CallError, Field, operands_hint
from dlra.integrators import Ask, Integrator, StepResult, drive
from dlra.lowrank import LowRank
from dlra.solution import (
    ErrorBudget,
    Record,
    Solution,
    State,
    compact,
    pack_state,
    portable,
    unpack_state,
)

__all__ = ["iterate", "solve", "step"]

_REMEDY = (
    "If the step is too large for an explicit substep, reduce dt, or declare the stiff linear part with "
    'dlra.SemiLinear(A, B, G) and use substep="exponential"'
)
_GRID = (
    1e-9  # a step may be longer by this share of itself, so that rounding does not add a sliver at the end
)


def solve(
    F: Any,
    t_span: Sequence[float],
    Y0: Any,
    method: str | Integrator = "augmented-bug",
    *,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t_eval: Any = None,
    args: tuple[Any, ...] = (),
    events: Event | Sequence[Event] | None = None,
    save: Callable[[State], Any] | None = None,
    callback: Callable[[State], Any] | None = None,
    progress: bool = False,
    max_steps: int | None = None,
    checkpoint: Any = None,
    resume: Any = None,
    throw: bool = True,
    rng: Any = None,
) -> Solution:
    """Solve the matrix differential equation Ẏ = F(t, Y), Y(t0) = Y0, on low-rank factors.

    Parameters
    ----------
    F : callable, Factored or SemiLinear
        A plain callable receives the dense array Y, shape (m, n), and returns one: any F works, at O(m n) a
        call. ``dlra.factored(F)`` receives the :class:`LowRank`, at O((m + n) r); :class:`dlra.SemiLinear`
        also declares a stiff linear part. With 2 + len(args) required positional parameters it is called F(t,
        Y, *args), with 1 + len(args) F(Y, *args). A coupled system receives and returns a list.
    t_span : (float, float)
        From t0 to t1; t1 < t0 goes backward.
    Y0 : LowRank, or list of LowRank and arrays
        Initial value; a list makes a coupled system. Its library, device and dtype are those of the result.
    method : str or Integrator
        A name such as "augmented-bug", or an object such as ``dlra.AugmentedBUG(rtol=1e-6)``.
    dt : float
        Step length, > 0. The last step before t1 (and before each time of ``t_eval``) is shortened to hit it.
    rtol, atol : float, optional
        Tolerances of the time step (not of the rank); refused together with dt. Steps chosen by themselves
        are not there yet.
    t_eval : sequence of float, optional
        Times to store, landed on exactly. Default: every accepted state.
    args : tuple
        Extra arguments of F.
    events : Event or list of Event, optional
        See :class:`dlra.Event`.
    save : callable, optional
        ``save(state)`` is stored in ``Solution.saved`` instead of the state.
    callback : callable, optional
        ``callback(state)`` after each accepted step; the run stops where it returns True.
    progress : bool
        Show a progress bar: t, step, rank, error budget, remaining time. Needs rich
        (``pip install "dlra[cli]"``).
    max_steps : int, optional
        Fail when this many steps have not reached t1.
    checkpoint : path or Checkpoint, optional
        Write the state to this HDF5 file after the first step, every 10 s, at the end, on Ctrl-C and on
        failure.
    resume : path, optional
        Continue from a checkpoint with the bits of the uninterrupted run. Give the same arguments; t1 may
        differ.
    throw : bool
        Whether a failure raises (default) or returns the partial Solution with ``status == -1``.
    rng : Generator or int, optional
        Source of randomness for methods that draw; its state is kept in checkpoints.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError, TypeError
        Bad input, named with its value, what was expected and the remedy, before any work starts.
    SolveError
        A failure after that: an exception in F, NaN, blow-up, max_steps. Names t, step, rank and stage; the
        part already computed is its ``solution``.

    Notes
    -----
    Ctrl-C returns what has been computed, with ``status == 1``.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> A = np.asarray([[0.0, 1.0], [-1.0, 0.0]])
    >>> Y0 = dlra.LowRank.from_dense(np.eye(2)[:, :1] @ np.ones((1, 3)), rank=1)
    >>> sol = dlra.solve(dlra.factored(lambda Y: A @ Y), (0, 1), Y0, dt=0.01)
    >>> bool(abs(sol.y_final.to_dense()[0, 0] - np.cos(1)) < 1e-9)
    True
    """
    run = _Run(
        F, t_span, Y0, method, dt=dt, rtol=rtol, atol=atol, t_eval=t_eval, args=args, events=events, save=save,
        callback=callback, max_steps=max_steps, checkpoint=checkpoint, resume=resume, rng=rng, keep=True,
    )  # fmt: skip
    states = run.states()
    if progress:
        from dlra._progress import shown

        states = shown(states, run.t0, run.t1)
    try:
        for _ in states:
            pass
    except KeyboardInterrupt:
        run.interrupted()
    except SolveError as error:
        error.solution = run.solution(-1, str(error))
        if throw:
            raise
        return error.solution
    return run.solution(run.status, run.message)


def iterate(
    F: Any,
    t_span: Sequence[float],
    Y0: Any,
    method: str | Integrator = "augmented-bug",
    *,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t_eval: Any = None,
    args: tuple[Any, ...] = (),
    events: Event | Sequence[Event] | None = None,
    max_steps: int | None = None,
    checkpoint: Any = None,
    resume: Any = None,
    rng: Any = None,
) -> Iterator[State]:
    """Yield the states of a run one at a time: the initial one, then each accepted one.

    Parameters are those of :func:`solve`; with ``t_eval`` only the states at those times are yielded. Nothing
    is stored: ``solve`` only collects what this yields. Bad input raises at once, not at the first ``next``.

    Yields
    ------
    State

    Raises
    ------
    SolveError
        As :func:`solve`, with ``solution`` None.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> Y0 = dlra.LowRank.from_dense(np.ones((3, 2)), rank=1)
    >>> [round(state.t, 2) for state in dlra.iterate(lambda Y: -Y, (0, 0.2), Y0, dt=0.1)]
    [0.0, 0.1, 0.2]
    """
    run = _Run(
        F, t_span, Y0, method, dt=dt, rtol=rtol, atol=atol, t_eval=t_eval, args=args, events=events, save=None,
        callback=None, max_steps=max_steps, checkpoint=checkpoint, resume=resume, rng=rng, keep=False,
    )  # fmt: skip
    return run.selected()


def step(
    F: Any,
    t: float,
    h: float,
    Y: Any,
    method: str | Integrator = "augmented-bug",
    *,
    args: tuple[Any, ...] = (),
) -> Any:
    """Do one step of a method from t to t + h; never retried.

    Parameters
    ----------
    F : callable, Factored or SemiLinear
        As in :func:`solve`.
    t, h : float
        h < 0 goes backward.
    Y : LowRank, or list of LowRank and arrays
    method : str or Integrator
    args : tuple
        Extra arguments of F.

    Returns
    -------
    LowRank, or list
        The state at t + h, like Y.

    Raises
    ------
    ValueError, TypeError
        Bad input.
    SolveError
        A failure in the step.
    """
    t, h = checks.check_number(t, "t"), checks.check_number(h, "h")
    if not math.isfinite(t) or not math.isfinite(h) or h == 0:
        raise ValueError(f"t must be finite and h finite and nonzero, got t = {t} and h = {h}")
    Ys, system = checks.check_state(Y)
    integrator = integrators.by_name(method)
    field = Field(F, Ys, args, system)
    integrator.check(Ys, field)
    try:
        result = _advance(integrator, field, t, h, Ys, first=True)
    except StageError as error:
        text = (
            f"{integrator.name} failed in the step from t = {t:.10g} with h = {h:.6g}, "
            f"{_rank_text(Ys, system)}, {error}"
        )
        raise SolveError(f"{text}. {_REMEDY}" if error.__cause__ is None else text) from error.__cause__
    return list(result.Ys) if system else result.Ys[0]


class _Run:
    """One run: its arguments, checked, and its state."""

    def __init__(
        self, F: Any, t_span: Any, Y0: Any, method: Any, *, dt: Any, rtol: Any, atol: Any, t_eval: Any, args: Any,
        events: Any, save: Any, callback: Any, max_steps: Any, checkpoint: Any, resume: Any, rng: Any, keep: bool,
    ):  # fmt: skip
        self.t0, self.t1 = checks.check_t_span(t_span)
        self.dt = checks.check_dt(dt, rtol, atol)
        self.t_eval = checks.check_t_eval(t_eval, self.t0, self.t1)
        self.events = checks.check_events(events)
        self.max_steps = checks.check_step_limit(max_steps)
        checks.check_callable(save, "save", "the state")
        checks.check_callable(callback, "callback", "the state")
        self.save, self.callback = save, callback
        self.integrator = integrators.by_name(method)
        self.Ys, self.system = checks.check_state(Y0)
        self.field = Field(F, self.Ys, args, self.system)
        self.integrator.check(self.Ys, self.field)
        self.rng = np.random.default_rng(rng)
        self.field.rng = self.rng

        self.t, self.nsteps, self.budget = self.t0, 0, ErrorBudget()
        self._anchor, self._since = self.t0, 0  # steps since the last time that was landed on
        self._norms: list[float] = []
        self.status, self.message = 0, f"Reached t = {self.t1:g}."
        self.record = Record() if keep else None
        self.t_events: list[list[float]] = [[] for _ in self.events]
        self.y_events: list[list[Any]] = [[] for _ in self.events]
        self._resumed = resume is not None
        if resume is not None:
            self._restore(check_resume(resume))
        self._clock = None
        if checkpoint is not None:
            self._clock = Clock(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
            from dlra import _files

            _files.check_target(self._clock.path)

    # ---- the loop

    def states(self) -> Iterator[State]:
        """Advance to t1, yielding every accepted state; the first is where the run starts."""
        state = self.state()
        if not self._resumed:
            self._store(state)
        yield state
        values = self._event_values(state)
        try:
            for h, target, landed in self._grid():
                if self.max_steps is not None and self.nsteps >= self.max_steps:
                    raise SolveError(
                        f"max_steps = {self.max_steps} steps did not reach t1 = {self.t1:g}: stopped at "
                        f"t = {self.t:.10g}, step {self.nsteps}, {_rank_text(self.Ys, self.system)}; "
                        f"raise max_steps or dt"
                    )
                result = self._step(h)
                t_new, stopped_by = target, None
                if self.events:
                    result, t_new, stopped_by, values = self._locate_events(h, target, result, values)
                self._accept(result, t_new, h if stopped_by is None else t_new - self.t, landed)
                state = self.state()
                self._store(state)
                if stopped_by is not None:
                    self.status, self.message = 1, f"Event {stopped_by} stopped the run at t = {self.t:.10g}."
                elif self.callback is not None and self._call(self.callback, "callback", state):
                    self.status, self.message = 1, f"The callback stopped the run at t = {self.t:.10g}."
                if self._clock is not None and self._clock.due(self.nsteps):
                    self._write_checkpoint()
                yield state
                if self.status == 1:
                    return
        finally:
            if self._clock is not None and not self._clock.is_current(self.nsteps):
                self._write_checkpoint()

    def selected(self) -> Iterator[State]:
        """The states a user of ``iterate`` asked for."""
        wanted = None if self.t_eval is None else set(self.t_eval)
        for state in self.states():
            if wanted is None or state.t in wanted:
                yield state

    def _grid(self) -> Iterator[tuple[float, float, bool]]:
        """Yield (h, the time it leads to, whether that is a time to land on) from the present state on."""
        direction = math.copysign(1.0, self.t1 - self.t0)
        targets = [t for t in [*(self.t_eval or []), self.t1] if direction * (t - self.t) > 0]
        for target in dict.fromkeys(targets):
            anchor = self._anchor
            count = max(1, math.ceil(abs(target - anchor) / self.dt * (1 - _GRID)))
            for k in range(self._since + 1, count + 1):
                t_new = target if k == count else anchor + direction * k * self.dt
                yield t_new - self.t, t_new, k == count

    def _step(self, h: float) -> StepResult:
        try:
            result = _advance(self.integrator, self.field, self.t, h, self.Ys, first=self.nsteps == 0)
            self._check_growth(h, result.Ys)
            return result
        except StageError as error:
            text = (
                f"{self.integrator.name} failed at t = {self.t:.10g}, step {self.nsteps + 1} (h = {h:.6g}), "
                f"{_rank_text(self.Ys, self.system)}, {error}"
            )
            raise SolveError(f"{text}. {_REMEDY}" if error.__cause__ is None else text) from error.__cause__

    def _check_growth(self, h: float, Ys: tuple[Any, ...]) -> None:
        """Notice an unstable run long before it overflows: three steps in a row, each with a hundredfold norm."""
        self._norms = [*self._norms[-3:], _state_norm(Ys)]
        if len(self._norms) == 4 and all(
            0 < 100 * a < b for a, b in zip(self._norms, self._norms[1:], strict=False)
        ):
            raise StageError(
                self.t + h, "end of step", f"the solution blows up: its norm grew from {self._norms[0]:.2g} to "
                f"{self._norms[-1]:.2g} within three steps"
            )  # fmt: skip

    def _accept(self, result: StepResult, t: float, h: float, landed: bool) -> None:
        self.Ys = tuple(compact(Y) for Y in result.Ys)
        self.budget = self.budget.after(h, result.discarded, result.normal)
        self.t = t
        self.nsteps += 1
        self._anchor, self._since = (t, 0) if landed else (self._anchor, self._since + 1)

    def state(self) -> State:
        """The present state, as users see it."""
        y = list(self.Ys) if self.system else self.Ys[0]
        return State(self.t, y, self.nsteps, checks.rank_of(self.Ys, self.system), self.budget)

    # ---- events

    def _event_values(self, state: State) -> list[float]:
        return [self._call(event.value, f"event {i}", state) for i, event in enumerate(self.events)]

    def _locate_events(
        self, h: float, target: float, result: StepResult, before: list[float]
    ) -> tuple[StepResult, float, int | None, list[float]]:
        """Find the sign changes within a step; the step is cut at the first terminal one."""
        after = self._event_values(self._trial_state(target, result))
        found = []
        for i, event in enumerate(self.events):
            rising = before[i] < 0 <= after[i]
            falling = before[i] > 0 >= after[i]
            if (rising and event.direction >= 0) or (falling and event.direction <= 0):
                found.append((*self._bisect(i, h, target, result, before[i]), i))
        stopped_by = None
        for t, located, i in sorted(found, key=lambda item: abs(item[0] - self.t)):
            self.t_events[i].append(t)
            self.y_events[i].append(self._trial_state(t, located).y)
            if self.events[i].terminal:
                result, target, stopped_by = located, t, i
                break
        return result, target, stopped_by, after

    def _bisect(
        self, i: int, h: float, target: float, result: StepResult, before: float
    ) -> tuple[float, StepResult]:
        """The step from the present state to where event i changes sign, on the far side of it."""
        low, high, t_high = 0.0, 1.0, target
        while high - low > 1e-10 and abs(h) * (high - low) > 4 * math.ulp(max(abs(self.t), abs(target))):
            middle = 0.5 * (low + high)
            t_middle = self.t + middle * h
            trial = self._step_quietly(middle * h)
            value = self._call(self.events[i].value, f"event {i}", self._trial_state(t_middle, trial))
            if value * before > 0:
                low = middle
            else:
                high, t_high, result = middle, t_middle, trial
        return t_high, result

    def _step_quietly(self, h: float) -> StepResult:
        """A trial step, which leaves no trace in the watch over the norm."""
        norms = self._norms
        try:
            return self._step(h)
        finally:
            self._norms = norms

    def _trial_state(self, t: float, result: StepResult) -> State:
        y = list(result.Ys) if self.system else result.Ys[0]
        return State(t, y, self.nsteps + 1, checks.rank_of(result.Ys, self.system), self.budget)

    # ---- what the user gets

    def _call(self, function: Callable[[State], Any], what: str, state: State) -> Any:
        try:
            return function(state)
        except Exception as error:
            raise SolveError(
                f"{what} raised {type(error).__name__} at t = {state.t:.10g}, step {state.step}, "
                f"rank {state.rank}: {error}"
            ) from error

    def _store(self, state: State) -> None:
        if self.record is None or (self.t_eval is not None and state.t not in self._wanted()):
            return
        save = None if self.save is None else lambda s: self._call(self.save, "save", s)  # type: ignore[arg-type]
        self.record.store(state, save)

    def _wanted(self) -> set[float]:
        if not hasattr(self, "_wanted_times"):
            self._wanted_times = set(self.t_eval or [])
        return self._wanted_times

    def interrupted(self) -> None:
        """Note a Ctrl-C."""
        self.status = 1
        self.message = f"Interrupted by Ctrl-C at t = {self.t:.10g}, step {self.nsteps}."

    def solution(self, status: int, message: str) -> Solution:
        """The Solution of what has been computed."""
        assert self.record is not None
        record = self.record
        return Solution(
            t=np.asarray(record.t, dtype=np.float64),
            y=list(record.y),
            rank=list(record.rank) if self.system else np.asarray(record.rank, dtype=np.int64),
            errors=record.budget(),
            y_final=self.state().y,
            t_final=self.t,
            nfev=self.field.nfev,
            nsteps=self.nsteps,
            status=status,
            message=message,
            method=repr(self.integrator),
            saved=None if self.save is None else list(record.saved),
            t_events=self.t_events,
            y_events=self.y_events,
        )

    # ---- checkpoints

    def _identity(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the run that resumes it."""
        like = [Y._U if isinstance(Y, LowRank) else Y for Y in self.Ys]
        return {
            "method": repr(self.integrator),
            "t0": self.t0,
            "direction": math.copysign(1.0, self.t1 - self.t0),
            "dt": self.dt,
            "shapes": [list(Y.shape) for Y in self.Ys],
            "dtype": dtype_name(like[0].dtype),
            "library": library(like[0]).partition(" ")[0],
            "system": self.system,
            "t_eval": self.t_eval,
            "save": self.save is not None,
            "events": len(self.events),
            "stored": self.record is not None,
        }

    def _write_checkpoint(self) -> None:
        from dlra import _files

        assert self._clock is not None
        record = self.record or Record()
        tree = {
            "identity": self._identity(),
            "Ys": [pack_state(Y) for Y in self.Ys],
            "t": self.t,
            "nsteps": self.nsteps,
            "anchor": self._anchor,
            "since": self._since,
            "norms": self._norms,
            "nfev": self.field.nfev,
            "budget": [self.budget.time, self.budget.truncation, self.budget.normal],
            "local": None if self.budget.local is None else [*_parts(self.budget.local)],
            "rng": self.rng.bit_generator.state,
            "t_events": self.t_events,
            "y_events": [[pack_state(y) for y in states] for states in self.y_events],
            "record": {
                "t": record.t,
                "y": [pack_state(y) for y in record.y],
                "rank": record.rank,
                "errors": np.asarray(record.errors, dtype=np.float64).reshape(-1, 6),
                "saved": [portable(value) for value in record.saved],
            },
        }
        try:
            _files.write(self._clock.path, "checkpoint", tree)
        except (OSError, TypeError) as error:
            raise SolveError(
                f"the checkpoint at t = {self.t:.10g}, step {self.nsteps}, "
                f"{_rank_text(self.Ys, self.system)} could not be written: {error}"
            ) from error
        self._clock.written(self.nsteps)

    def _restore(self, tree: dict[str, Any]) -> None:
        check_same_run(tree["identity"], self._identity())
        direction = math.copysign(1.0, self.t1 - self.t0)
        if direction * (self.t1 - tree["t"]) < 0:
            raise ValueError(
                f"resume: the checkpoint is at t = {tree['t']}, beyond t1 = {self.t1}; give a later t1"
            )
        like = [Y._U if isinstance(Y, LowRank) else Y for Y in self.Ys]
        self.Ys = tuple(unpack_state(Y, a) for Y, a in zip(tree["Ys"], like, strict=True))
        self.t, self.nsteps = tree["t"], tree["nsteps"]
        self._anchor, self._since, self._norms = tree["anchor"], tree["since"], list(tree["norms"])
        self.field.nfev = tree["nfev"]
        local = None if tree["local"] is None else ErrorBudget(*tree["local"])
        self.budget = dataclasses.replace(ErrorBudget(*tree["budget"]), local=local)
        self.rng.bit_generator.state = tree["rng"]
        self.t_events = [list(times) for times in tree["t_events"]]
        self.y_events = [[unpack_state(y, like[0]) for y in states] for states in tree["y_events"]]
        if self.record is not None:
            stored = tree["record"]
            self.record.t = list(stored["t"])
            self.record.y = [unpack_state(y, like[0]) for y in stored["y"]]
            self.record.rank = list(stored["rank"])
            self.record.errors = [tuple(row) for row in stored["errors"].tolist()]
            self.record.saved = list(stored["saved"])


def _advance(
    integrator: Integrator, field: Field, t: float, h: float, Ys: tuple[Any, ...], *, first: bool
) -> StepResult:
    """Do one step; whatever goes wrong becomes a StageError, except complaints about F's first return value."""
    stage = "start"

    def evaluate(ask: Ask) -> Any:
        nonlocal stage
        stage = ask.stage
        try:
            return field(ask.t, ask.Ys)
        except CallError as error:
            cause = error.__cause__
            assert cause is not None
            reason = f"F raised {type(cause).__name__}: {cause}{operands_hint(cause)}"
            raise StageError(ask.t, ask.stage, reason) from cause
        except (TypeError, ValueError) as error:
            if first and field.nfev == 1:
                raise
            raise StageError(ask.t, ask.stage, str(error)) from error

    calls = field.nfev
    try:
        result = drive(integrator.step(t, h, Ys, field), evaluate)
    except StageError:
        raise
    except Exception as error:
        if first and field.nfev - calls <= 1 and isinstance(error, (TypeError, ValueError)):
            raise
        raise StageError(t, stage, f"the linear algebra failed ({type(error).__name__}: {error})") from error
    if not all(all_finite(Y.S if isinstance(Y, LowRank) else Y) for Y in result.Ys):
        raise StageError(t + h, "end of step", "the result is not finite")
    return result


def _state_norm(Ys: tuple[Any, ...]) -> float:
    return math.hypot(*(norm(Y.S if isinstance(Y, LowRank) else Y) for Y in Ys))


def _rank_text(Ys: tuple[Any, ...], system: bool) -> str:
    return f"rank {checks.rank_of(Ys, system)}"


def _parts(budget: ErrorBudget) -> tuple[float, float, float]:
    return budget.time, budget.truncation, budget.normal
