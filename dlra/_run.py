"""The time loop: from state to state, with events, storing and checkpoints."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dlra import _checks as checks
from dlra import integrators
from dlra._step import rank_text, solve_error
from dlra._stepping import AdaptiveSteps, FixedSteps, Taken, check_tolerance
from dlra.backend import H, defers, dtype_name, library, numbers, to_host
from dlra.checkpoint import Checkpoint, Clock, check_resume, check_same_run
from dlra.errors import DlraWarning, SolveError, StageError
from dlra.field import Field
from dlra.integrators import StepResult
from dlra.integrators._base import state_norm, where_not_finite
from dlra.integrators._equations import cores_of
from dlra.lowrank import LowRank
from dlra.semilinear import SemiLinear
from dlra.solution import (
    ErrorBudget,
    Record,
    Solution,
    State,
    portable,
    revived,
)

_READ_EVERY = 50
"""Where numbers are left on a device, they are read at least every so many steps."""


class Run:
    """One run: its arguments, checked, and its state."""

    def __init__(
        self, F: Any, t_span: Any, Y0: Any, method: Any, *, dt: Any, rtol: Any, atol: Any, t_eval: Any, args: Any,
        events: Any, save: Any, callback: Any, max_steps: Any, checkpoint: Any, resume: Any, rng: Any, keep: bool,
    ):  # fmt: skip
        self.t0, self.t1 = checks.check_t_span(t_span)
        self.dt, (rtol, atol) = checks.check_dt(dt, rtol, atol)
        checks.check_resolution(self.dt, self.t0, self.t1)
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
        self.Ys = self.integrator.prepared(self.Ys, self.field)
        if self.dt is None and self.field.increments:
            raise ValueError(
                "dt is missing: Increments has no local errors by which to choose steps; give dt=..."
            )
        if self.dt is None and len(self.Ys[0].shape) == 3 and not self.system:
            raise ValueError(
                "dt is missing: a stack is solved with given steps, the same for all members; give dt=..., or solve "
                "for one member at a time to let each choose its steps"
            )
        if self.dt is None:
            self.tolerances: Any = [rtol, atol]
            rtol = check_tolerance(rtol, atol, self.Ys)
            span = abs(self.t1 - self.t0)
            self._steps: Any = AdaptiveSteps(self.integrator, self.field, rtol, atol, span)
        else:
            self.tolerances = None
            self._warn_if_unstable(F, self.dt)
            self._steps = FixedSteps(self.integrator, self.field, self.dt)
        self._steps.start(self.t0)
        self._defers = (
            self.dt is not None
            and not self.field.increments
            and not any(isinstance(Y, LowRank) and Y.ndim == 3 for Y in self.Ys)
            and any(map(defers, cores_of(self.Ys)))
        )
        self.rng = np.random.default_rng(rng)
        self.field.rng = self.rng

        self.t, self.nsteps = self.t0, 0
        self.budget = ErrorBudget(time=0.0) if self.dt is None else ErrorBudget()
        self._norms = [state_norm(self.Ys)]
        self._start = _description(self.Ys)
        self._stored, self._nfev, self._rng_state = 0, 0, self.rng.bit_generator.state
        self.status, self.message = 0, f"Reached t = {self.t1:g}."
        self.record = Record() if keep else None
        self.t_events: list[list[float]] = [[] for _ in self.events]
        self.y_events: list[list[Any]] = [[] for _ in self.events]
        self._resumed = resume is not None
        if resume is not None:
            self._restore(check_resume(resume))
        self._clock, self._unwritable = None, False
        if checkpoint is not None:
            self._clock = Clock(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
            from dlra import _files

            _files.check_target(self._clock.path)

    def _warn_if_unstable(self, F: Any, dt: float) -> None:
        if isinstance(F, SemiLinear) and self.integrator.is_explicit(self.field) and dt * F.rate > 6:
            warnings.warn(
                f"dt times the fastest rate of the declared linear part is about {dt * F.rate:.2g}, beyond what "
                f'an explicit substep can bear (about 2.8); take substep="auto" or "exponential", or a smaller dt',
                DlraWarning,
                stacklevel=4,
            )

    # ---- the loop

    def states(self) -> Generator[State, None, None]:
        """Advance to t1, yielding every accepted state; the first is where the run starts."""
        state = self.state()
        if not self._resumed:
            self._stored += self._store(state)
        yield state
        values = self._event_values(state)
        try:
            for taken, norms in self._taken():
                stopped_by, happened = None, []
                if self.events:
                    taken, stopped_by, happened, values = self._locate_events(taken, values)
                state = self._accept(taken, norms, happened)
                if stopped_by is not None:
                    self.status, self.message = 1, f"Event {stopped_by} stopped the run at t = {self.t:.10g}."
                elif self.callback is not None and _is_true(self._call(self.callback, "callback", state)):
                    self.status, self.message = 1, f"The callback stopped the run at t = {self.t:.10g}."
                if self._clock is not None and self._clock.due(self.nsteps):
                    self._write_checkpoint()
                yield state
                if self.status == 1:
                    break
        except BaseException as error:
            self._write_last_checkpoint(error)
            raise
        self._write_last_checkpoint()

    def selected(self) -> Iterator[State]:
        """The states a user of ``iterate`` asked for."""
        wanted = None if self.t_eval is None else set(self.t_eval)
        for state in self.states():
            if wanted is None or state.t in wanted:
                yield state

    def _targets(self) -> list[float]:
        """The times to land on from the present state on."""
        direction = math.copysign(1.0, self.t1 - self.t0)
        targets = [t for t in [*(self.t_eval or []), self.t1] if direction * (t - self.t) > 0]
        return list(dict.fromkeys(targets))

    def _taken(self) -> Iterator[tuple[Taken, list[float]]]:
        """The steps, each to become part of the run before the next is asked for; with the latest norms."""
        grid = self._steps.grid(self.t, self._targets())
        for stretch in self._stretches(grid) if self._defers else zip(grid, strict=False):
            if self.max_steps is not None and self.nsteps >= self.max_steps:
                raise SolveError(
                    f"max_steps = {self.max_steps} steps did not reach t1 = {self.t1:g}: stopped at "
                    f"t = {self.t:.10g}, step {self.nsteps}, {rank_text(self.Ys, self.system)}; "
                    f"raise max_steps{'' if self.dt is None else ' or dt'}"
                )
            interrupt = None
            if self._defers and self.nsteps > 0:  # the first step warns, and complains about input
                leap, interrupt = self._leap(stretch)
                if leap is not None:
                    stretch = stretch[len(leap[0].earlier) + 1 :]
                    yield leap
            if interrupt is not None:
                raise interrupt
            for planned in stretch:
                yield self._step(*planned)

    def _stretches(self, grid: Iterator[Any]) -> Iterator[list[Any]]:
        """The steps to do, in lists: as many in each as nobody looks at in between."""
        stretch, end = [], self.nsteps
        for planned in grid:
            stretch.append(planned)
            end += 1
            if (
                self._is_watched
                or planned[2]
                or end in (1, self.max_steps)
                or end % _READ_EVERY == 0
                or (self._clock is not None and self._clock.due(end))
            ):
                yield stretch
                stretch, end = [], self.nsteps

    @property
    def _is_watched(self) -> bool:
        """Whether somebody looks at every state."""
        keeps_all = self.t_eval is None and (self.record is None or self.save is not None)
        return keeps_all or bool(self.events) or self.callback is not None

    def _leap(
        self, stretch: Sequence[Any]
    ) -> tuple[tuple[Taken, list[float]] | None, KeyboardInterrupt | None]:
        """All steps of a stretch, with one transfer from the device at its end; None where anything is wrong.

        Then nothing has happened: the stretch is to be done again, with all tests. Ctrl-C ends it early.
        """
        t, Ys, interrupt, begin = self.t, self.Ys, None, self._marks()
        done: list[
            tuple[Taken, Any, Any]
        ] = []  # each step, the norm it leads to, and marks: all three, or none
        keeps = self.record is not None and self.t_eval is None
        try:
            for planned in stretch:
                taken, size = self._steps.ahead(t, *planned, Ys)
                done.append((taken, size, self._marks()))
                if len(done) > 1 and not keeps:
                    earlier, *rest = done[-2]
                    done[-2] = (replace(earlier, result=replace(earlier.result, Ys=())), *rest)
                t, Ys = taken.t, taken.result.Ys
        except KeyboardInterrupt as error:
            interrupt = error
            self._go_back(done[-1][2] if done else begin)
        except Exception:
            self._go_back(begin)
            return None, None
        if not done:
            return None, interrupt
        try:
            host = iter(
                numbers([a for taken, size, _ in done for a in (size, taken.result.discarded, taken.normal)])
            )
        except KeyboardInterrupt as error:
            self._go_back(begin)
            return None, error
        norms, sizes, unread = self._norms, [], []
        for taken, *_ in done:
            size, result = next(host), replace(taken.result, discarded=next(host), normal=next(host))
            unread.append(replace(taken, result=result, normal=result.normal))
            try:
                norms = self._checked_growth(taken.t, norms, size, ())
            except StageError:
                self._go_back(begin)
                return None, interrupt
            sizes.append(size)
        self._notice_dropped(unread, sizes)
        return (replace(unread[-1], earlier=tuple(unread[:-1])), norms), interrupt

    def _notice_dropped(self, unread: list[Taken], sizes: list[float]) -> None:
        for t, taken, size in zip((self.t, *(each.t for each in unread)), unread, sizes, strict=False):
            self._steps.notice_dropped(t, taken.result, size)

    def _marks(self) -> tuple[Any, int]:
        """How far the source of randomness and the count of evaluations are."""
        return self.rng.bit_generator.state, self.field.nfev

    def _go_back(self, marks: tuple[Any, int]) -> None:
        self.rng.bit_generator.state, self.field.nfev = marks

    def _step(self, h: float, target: float, landed: bool) -> tuple[Taken, list[float]]:
        """The step from the present state, and the latest norms with its own."""
        try:
            taken = self._steps.accepted(self.t, h, target, landed, self.Ys, self.nsteps)
            Ys = taken.result.Ys
            size = state_norm(Ys) if taken.size is None else taken.size
            return taken, self._checked_growth(self.t + taken.h, self._norms, size, Ys)
        except StageError as error:
            raise self._located(error, h) from error.__cause__

    def _trial_step(self, h: float) -> StepResult:
        """A step of any length from the present state."""
        state = self.rng.bit_generator.state
        try:
            return self._steps.take(self.t, h, self.Ys, self.nsteps)
        except StageError as error:
            raise self._located(error, h) from error.__cause__
        finally:
            self.rng.bit_generator.state = state

    def _located(self, error: StageError, h: float) -> SolveError:
        """The error that says where a step failed."""
        where = (
            f"{self.integrator.name} failed at t = {self.t:.10g}, step {self.nsteps + 1} (h = {h:.6g}), "
            f"{rank_text(self.Ys, self.system)}"
        )
        return solve_error(error, where)

    def _checked_growth(self, t: float, norms: list[float], size: float, Ys: tuple[Any, ...]) -> list[float]:
        """The latest norms with that of a step to t. Notice an unstable explicit run long before it overflows: three
        steps, each with a hundredfold norm."""
        norms = [*norms[-3:], size]
        if not math.isfinite(size):
            raise StageError(
                t,
                "end of step",
                f"the solution blows up: its norm overflows{where_not_finite(Ys) if Ys else ''}",
            )
        suspect = len(norms) == 4 and all(0 < 100 * a < b for a, b in itertools.pairwise(norms))
        if suspect and self.dt is not None and self.integrator.is_explicit(self.field):
            raise StageError(
                t, "end of step", f"the solution blows up: its norm grew from {norms[0]:.2g} to "
                f"{norms[-1]:.2g} within three steps, as it does where a problem is too stiff for an explicit method"
            )  # fmt: skip
        return norms

    def _accept(self, taken: Taken, norms: list[float], happened: list[tuple[int, float, Any]]) -> State:
        """Make a step part of the run, and return its state.

        Only the assignments at the end, between which no Ctrl-C can come, change what a Solution or a
        checkpoint shows: neither that nor an exception in ``save`` leaves half a step behind.
        """
        stored, budget, step = self._stored, self.budget, self.nsteps
        for each in taken.earlier:
            budget, step = _budget_after(budget, each), step + 1
            if each.result.Ys:
                stored += self._store(self._state(each.t, each.result.Ys, step, budget))
        state = self._taken_state(taken)
        stored += self._store(state)
        t_events, y_events = self.t_events, self.y_events
        if happened:
            t_events = [[*old, *(t for j, t, _ in happened if j == i)] for i, old in enumerate(t_events)]
            y_events = [[*old, *(y for j, _, y in happened if j == i)] for i, old in enumerate(y_events)]
        nfev = self.field.nfev
        rng_state = None if self._clock is None else self.rng.bit_generator.state
        self.Ys, self.t, self.nsteps, self.budget = taken.result.Ys, taken.t, state.step, state.errors
        self._norms = norms
        self._steps.after(taken)
        self._stored, self.t_events, self.y_events = stored, t_events, y_events
        self._nfev, self._rng_state = nfev, rng_state
        return state

    def state(self) -> State:
        """The present state, as users see it."""
        return self._state(self.t, self.Ys, self.nsteps, self.budget)

    def _state(self, t: float, Ys: tuple[Any, ...], step: int, budget: ErrorBudget) -> State:
        return State(t, list(Ys) if self.system else Ys[0], step, checks.rank_of(Ys, self.system), budget)

    # ---- events

    def _event_values(self, state: State) -> list[float]:
        return [self._event_value(i, state) for i in range(len(self.events))]

    def _event_value(self, i: int, state: State) -> float:
        value = self._call(self.events[i].value, f"event {i}", state)
        if math.isnan(value):
            raise SolveError(f"event {i} is NaN at t = {state.t:.10g}, step {state.step}, rank {state.rank}")
        return value

    def _locate_events(
        self, taken: Taken, before: list[float]
    ) -> tuple[Taken, int | None, list[tuple[int, float, Any]], list[float]]:
        """Find the sign changes within a step, which is cut at the first terminal one.

        Returns the step, the terminal event, all events as (number, time, state), and the values of their
        functions.
        """
        after = self._event_values(self._taken_state(taken))
        found = []
        for i, event in enumerate(self.events):
            rising = before[i] < 0 <= after[i]
            falling = before[i] > 0 >= after[i]
            if (rising and event.direction >= 0) or (falling and event.direction <= 0):
                found.append((self._bisect(i, taken, before[i]), i))
        stopped_by, happened = None, []
        for located, i in sorted(found, key=lambda item: abs(item[0].t - self.t)):
            happened.append((i, located.t, self._taken_state(located).y))
            if self.events[i].terminal:
                taken, stopped_by = replace(located, landed=True), i
                break
        return taken, stopped_by, happened, after

    def _bisect(self, i: int, taken: Taken, before: float) -> Taken:
        """The step from the present state to where event i changes sign, on the far side of it."""
        h, low, high, located = taken.h, 0.0, 1.0, taken
        while high - low > 1e-10 and abs(h) * (high - low) > 4 * math.ulp(max(abs(self.t), abs(taken.t))):
            middle = 0.5 * (low + high)
            trial = replace(
                taken,
                result=self._trial_step(middle * h),
                h=middle * h,
                t=self.t + middle * h,
                landed=False,
                size=None,
            )
            if self._event_value(i, self._taken_state(trial)) * before > 0:
                low = middle
            else:
                high, located = middle, trial
        return located

    def _taken_state(self, taken: Taken) -> State:
        """The state to which a step leads."""
        budget = self.budget
        for each in (*taken.earlier, taken):
            budget = _budget_after(budget, each)
        return self._state(taken.t, taken.result.Ys, self.nsteps + len(taken.earlier) + 1, budget)

    # ---- what the user gets

    def _call(self, function: Callable[[State], Any], what: str, state: State) -> Any:
        try:
            return function(state)
        except Exception as error:
            raise SolveError(
                f"{what} raised {type(error).__name__} at t = {state.t:.10g}, step {state.step}, "
                f"rank {state.rank}: {error}"
            ) from error

    def _store(self, state: State) -> int:
        """Store a state where that is asked for; return how many states that are."""
        if self.record is None or (self.t_eval is not None and state.t not in self._wanted()):
            return 0
        save = None if self.save is None else lambda s: self._call(self.save, "save", s)  # type: ignore[arg-type]
        self.record.store(state, save)
        return 1

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
        record = self.record.first(self._stored)
        return Solution(
            t=np.asarray(record.t, dtype=np.float64),
            y=record.y,
            rank=record.rank if self.system else np.asarray(record.rank, dtype=np.int64),
            errors=record.budget(),
            y_final=self.state().y,
            t_final=self.t,
            t_start=self.t0,
            nfev=self.field.nfev,
            nsteps=self.nsteps,
            nrejected=self._steps.rejected,
            status=status,
            message=message,
            method=repr(self.integrator),
            saved=None if self.save is None else record.saved,
            t_events=self.t_events,
            y_events=self.y_events,
        )

    # ---- checkpoints

    def _identity(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the run that resumes it."""
        like = [Y._U if isinstance(Y, LowRank) else Y for Y in self.Ys]
        return {
            "system": self.system,
            "method": self.integrator.identity(),
            "field": type(self.field.F).__name__,
            "t0": self.t0,
            "direction": math.copysign(1.0, self.t1 - self.t0),
            "dt": self.dt,
            "tolerances": self.tolerances,
            "shapes": [list(Y.shape) for Y in self.Ys],
            "dtype": [dtype_name(a.dtype) for a in like] if self.system else dtype_name(like[0].dtype),
            "library": library(like[0]).partition(" ")[0],
            "t_eval": self.t_eval,
            "save": self.save is not None,
            "events": len(self.events),
            "stored": self.record is not None,
            "Y0": self._start,
        }

    def _write_checkpoint(self) -> None:
        from dlra import _files

        assert self._clock is not None
        record = (self.record or Record()).first(self._stored)
        tree = {
            "identity": self._identity(),
            "Ys": [portable(Y) for Y in self.Ys],
            "t": self.t,
            "nsteps": self.nsteps,
            "steps": self._steps.memory(),
            "norms": self._norms,
            "nfev": self._nfev,
            "budget": [self.budget.time, self.budget.truncation, self.budget.normal],
            "local": None if self.budget.local is None else [*_parts(self.budget.local)],
            "rng": self._rng_state,
            "t_events": self.t_events,
            "y_events": [[portable(y) for y in states] for states in self.y_events],
            "record": {
                "t": record.t,
                "y": [portable(y) for y in record.y],
                "rank": record.rank,
                "errors": np.asarray(record.errors, dtype=np.float64).reshape(-1, 6),
                "saved": [portable(value) for value in record.saved],
            },
        }
        try:
            _files.write(self._clock.path, "checkpoint", tree)
        except (OSError, TypeError) as error:
            self._unwritable = True
            raise SolveError(
                f"the checkpoint at t = {self.t:.10g}, step {self.nsteps}, "
                f"{rank_text(self.Ys, self.system)} could not be written: {error}"
            ) from error
        self._clock.written(self.nsteps)

    def _write_last_checkpoint(self, error: BaseException | None = None) -> None:
        """Write the state of a run that ends, unless the file has it, cannot be written, or not a step was done."""
        if self._clock is None or self._unwritable or self.nsteps == 0 or self._clock.is_current(self.nsteps):
            return
        try:
            self._write_checkpoint()
        except SolveError as failure:
            if isinstance(error, SolveError):  # what ended the run comes first
                raise SolveError(f"{error}. Besides, {failure}") from error
            raise

    def _restore(self, tree: dict[str, Any]) -> None:
        check_same_run(tree["identity"], self._identity())
        direction = math.copysign(1.0, self.t1 - self.t0)
        if direction * (self.t1 - tree["t"]) < 0:
            raise ValueError(
                f"resume: the checkpoint is at t = {tree['t']}, beyond t1 = {self.t1}; give a later t1"
            )
        like = [Y._U if isinstance(Y, LowRank) else Y for Y in self.Ys]
        self.Ys = tuple(revived(Y, a) for Y, a in zip(tree["Ys"], like, strict=True))
        self.t, self.nsteps = tree["t"], tree["nsteps"]
        self._norms = list(tree["norms"])
        self._steps.start(self.t)
        self._steps.restore(tree["steps"])
        self.field.nfev = self._nfev = tree["nfev"]
        local = None if tree["local"] is None else ErrorBudget(*tree["local"])
        self.budget = dataclasses.replace(ErrorBudget(*tree["budget"]), local=local)
        self.rng.bit_generator.state = self._rng_state = tree["rng"]
        self.t_events = [list(times) for times in tree["t_events"]]
        self.y_events = [[revived(y, like[0]) for y in states] for states in tree["y_events"]]
        if self.record is not None:
            stored = tree["record"]
            self._stored = len(stored["t"])
            self.record.t = list(stored["t"])
            self.record.y = [revived(y, like[0]) for y in stored["y"]]
            self.record.rank = list(stored["rank"])
            self.record.errors = [tuple(row) for row in stored["errors"].tolist()]
            self.record.saved = [revived(value, like[0]) for value in stored["saved"]]


def _budget_after(budget: ErrorBudget, taken: Taken) -> ErrorBudget:
    return budget.after(taken.h, taken.result.discarded, taken.normal, taken.time_error)


def _parts(budget: ErrorBudget) -> tuple[float, float, float]:
    return budget.time, budget.truncation, budget.normal


def _description(Ys: tuple[Any, ...]) -> list[str]:
    """Norm and one weighted sum of every member, to four digits.

    They tell initial values apart, but not their rounding errors, which must not matter: an initial value that
    comes from a threaded decomposition has other bits each time.
    """
    texts = []
    for Y in Ys:
        if isinstance(Y, LowRank):
            U, S, V = (to_host(a) for a in Y.factors)
            left, right = (np.cos(np.arange(A.shape[-2]))[None, :] @ A for A in (U, V))
            entries = left @ S @ H(right)
            total = np.cos(np.arange(entries.size)) @ entries.ravel()
        else:
            total = np.cos(np.arange(math.prod(Y.shape))) @ to_host(Y).ravel()
        size = state_norm((Y,))
        share = np.round(complex(total) / size, 4) + 0.0 if size > 0 else 0.0
        texts.append(f"norm {size:.4g}, weighted sum {share:.4g}")
    return texts


def _is_true(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) and bool(value)
