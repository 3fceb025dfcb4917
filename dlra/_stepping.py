"""How a run gets from one accepted state to the next: with steps of a given length, or of a length chosen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from dlra import control
from dlra._step import advance, first_value
from dlra.backend import Array, eps, norm
from dlra.errors import DlraWarning, StageError
from dlra.field import Field
from dlra.integrators import Ask, Integrator, RankAdaptive, StepResult
from dlra.integrators._base import deferred_size, state_norm
from dlra.krylov import NoConvergence
from dlra.lowrank import LowRank
from dlra.sylvester import Sylvester

_GRID = (
    1e-9  # a step may be longer by this share of itself, so that rounding does not add a sliver at the end
)
_EVERY = 50
"""The fastest rate of the field is looked at every so many steps."""
_ROUGHLY = 1e-2
"""Tolerance of functions of a large operator where only the order of magnitude matters."""
Members = tuple[Any, ...]


@dataclass(frozen=True)
class Taken:
    """A step that was accepted: its result, its length, and where it leads."""

    result: StepResult
    h: float
    t: float
    landed: bool
    """Whether ``t`` is a time to land on."""
    time_error: float = math.nan
    normal: float = math.nan
    """Normal component of F, as the error budget wants it."""
    earlier: tuple[Taken, ...] = ()
    """The steps before it that become part of the run together with it."""
    size: float | None = None
    """The norm of the result, where it is known."""


class FixedSteps:
    """Steps of length dt on a grid that is anchored at the last time that was landed on."""

    rejected = 0

    def __init__(self, integrator: Integrator, field: Field, dt: float):
        self.integrator, self.field, self.dt = integrator, field, dt
        self._anchor, self._since = 0.0, 0  # the anchor, and steps since then
        self._said = False  # whether a warning has been given
        self._may_drop = isinstance(integrator, RankAdaptive) and not integrator.has_tolerance

    def start(self, t: float) -> None:
        """Begin at time t."""
        self._anchor, self._since = t, 0

    def grid(self, t: float, targets: list[float]) -> Iterator[tuple[float, float, bool]]:
        """Yield (h, the time it leads to, whether that is a time to land on) from t on."""
        for target in targets:
            anchor, direction = self._anchor, math.copysign(1.0, target - t)
            steps = abs(target - anchor) / self.dt
            count = max(self._since + 1, math.ceil(steps - max(_GRID, 4 * math.ulp(steps))))
            for k in range(self._since + 1, count + 1):
                t_new = target if k == count else anchor + direction * k * self.dt
                yield t_new - t, t_new, k == count
                t = t_new

    def take(self, t: float, h: float, Ys: Members, step: int) -> StepResult:
        """One step of length h, as events want to try it."""
        return advance(self.integrator, self.field, t, h, Ys, first=step == 0, probe=step == 0)

    def accepted(self, t: float, h: float, target: float, landed: bool, Ys: Members, step: int) -> Taken:
        """The step from t to target."""
        if self.field.increments:
            return self._follow(t, h, target, landed, Ys, step)
        result = self.take(t, h, Ys, step)
        size = state_norm(result.Ys)
        self.notice_dropped(t, result, size)
        return Taken(result, h, target, landed, normal=result.normal, size=size)

    def ahead(self, t: float, h: float, target: float, landed: bool, Ys: Members) -> tuple[Taken, Any]:
        """The step from t to target, of which nothing has been tested and the norms may be 0-d arrays, and the norm
        of where it leads."""
        result = advance(self.integrator, self.field, t, h, Ys, first=False, deferred=True)
        return Taken(result, h, target, landed, normal=result.normal), deferred_size(result.Ys)

    def _follow(self, t: float, h: float, target: float, landed: bool, Ys: Members, step: int) -> Taken:
        """A step after a matrix A(t): what its increment brings that is new is first taken into the bases."""
        (Y,), (G,) = Ys, first_value(self.field, Ask("start", t, Ys, t + h), step)
        largest, limit = Y.rank, 0.0
        if isinstance(self.integrator, RankAdaptive) and self.integrator.is_free:
            rtol, atol, _, max_rank = self.integrator.options(0)
            largest = _largest(Y, max_rank)
            limit = max(atol, rtol * norm(Y.S), 10 * eps(Y._U) * norm(Y.S))
        Y, normal = control.wide_enough(Y, G, limit, largest, (step,))
        result = self.take(t, h, (Y,), step)
        size = state_norm(result.Ys)
        if normal > 0.05 * size and not self._said:
            self._said = True
            warnings.warn(
                f"at t = {target:.6g} a part of A of norm {normal:.2g} appears (the state has norm {size:.2g}) that "
                f"the bases do not hold, and is lost; let the rank adapt (AugmentedBUG(rtol=...)), or raise it",
                DlraWarning,
                stacklevel=7,
            )
        return Taken(result, h, target, landed, normal=normal / abs(h))

    def notice_dropped(self, t: float, result: StepResult, size: float) -> None:
        """Warn, once, where a truncation to a prescribed rank drops a good part of the state (``size``: its norm)."""
        if self._may_drop and not self._said and result.discarded > 0.01 * size:
            self._said = True
            warnings.warn(
                f"the step from t = {t:.6g} drops a part of norm {result.discarded:.2g} (the state has norm "
                f"{size:.2g}): its rank cannot hold the solution; start from a higher one, or let it adapt "
                f"(rtol=... of the method)",
                DlraWarning,
                stacklevel=7,
            )

    def after(self, taken: Taken) -> None:
        """Note that a step has become part of the run."""
        if taken.landed:
            self._anchor, self._since = taken.t, 0
        else:
            self._since += 1 + len(taken.earlier)

    def memory(self) -> list[float]:
        """What a checkpoint must hold."""
        return [self._anchor, float(self._since)]

    def restore(self, memory: list[float]) -> None:
        """Take up what :meth:`memory` gave."""
        self._anchor, self._since = memory[0], int(memory[1])


class AdaptiveSteps:
    """Steps whose length follows from tolerances, with rejection, and bases that are widened where they are too small.

    The error of a step is the estimate built into the method where that is of order 4 or more, else it comes from
    step doubling: the step is done at once and in two halves, and the halves are kept.
    """

    def __init__(self, integrator: Integrator, field: Field, rtol: float, atol: float, span: float):
        self.integrator, self.field = integrator, field
        self._embedded = _has_estimate(integrator)
        order = integrator.order - 1 if self._embedded else integrator.order
        self.control = control.StepControl(rtol, atol, span, order)
        self._free = isinstance(integrator, RankAdaptive)
        self._tied = isinstance(integrator, RankAdaptive) and not integrator.has_tolerance
        self._h: float | None = None
        self._ratio = 1.0  # error over allowance of the last step
        self._t = 0.0
        self._spent = 0.0  # what short steps have been allowed beyond their share
        self._lost = 0.0  # the normal component, summed over the steps
        self._pending: Any = None  # what becomes of the four when the step under way becomes part of the run
        self._said: set[str] = set()  # warnings that have been given
        self._wide: Members | None = None  # the bases from which the step under way was done
        self.rejected = 0

    def start(self, t: float) -> None:
        """Begin at time t."""
        self._t = t

    def grid(self, t: float, targets: list[float]) -> Iterator[tuple[float, float, bool]]:
        """Yield the next step to try: (h, the time it leads to, whether that is a time to land on)."""
        for target in targets:
            while self._t != target:
                left = target - self._t
                h = left if self._h is None else math.copysign(self._h, left)
                if abs(left) <= abs(h) * (1 + _GRID):
                    yield left, target, True
                else:
                    h = 0.5 * left if abs(left) < 2 * abs(h) else h
                    yield h, self._t + h, False

    def take(self, t: float, h: float, Ys: Members, step: int) -> StepResult:
        """A step of length h as the one just accepted: in two halves, or at once, and from the same bases."""
        return self._trial(t, h, self._wide or Ys, step, None, state_norm(Ys))[0]

    def accepted(self, t: float, h: float, target: float, landed: bool, Ys: Members, step: int) -> Taken:
        """The step from t towards target, as long as the tolerance allows."""
        start = first_value(self.field, Ask("start", t, Ys), step)
        self._notice_stiffness(t, h, Ys, start, step)
        size, whole = state_norm(Ys), math.hypot(*map(control.size_estimate, Ys, start))
        planned, tried, rejected = self._h, False, self.rejected
        if planned is None:
            planned = self.control.first(size, whole)
            if planned < abs(h):
                h = math.copysign(planned, h)
                target, landed = t + h, False
        while True:
            if abs(h) <= 16 * math.ulp(max(abs(t), abs(t + h))):
                raise StageError(t, "step size", _TOO_SMALL)
            scale = max(size, abs(h) * whole)  # the state may grow from nothing
            if not math.isfinite(scale):
                raise StageError(t, "step size", "the solution blows up: its norm overflows")
            wide, normal = self._widened(Ys, start, h, scale, step)
            try:
                result, error, saturated = self._trial(t, h, wide, step, start, scale)
            except StageError as failure:
                if failure.__cause__ is not None:  # not the length of the step, but the user's own exception
                    raise
                result, error, saturated = None, math.inf, False
            if result is not None and saturated and (wider := self._joined(wide, result)) is not None:
                Ys, rejected = wider, rejected + 1
                continue
            scale = scale if result is None else max(scale, state_norm(result.Ys))
            allowed = max(self.control.allowed(h, scale, self._spent), 10 * _roundoff(Ys) * scale)
            ratio = error / allowed if allowed > 0 else (0.0 if error == 0 else math.inf)
            factor = self.control.factor(ratio, self._ratio)
            if result is not None and ratio <= 1:
                proposal = abs(h) * (min(factor, 1.0) if tried else factor)
                proposal = max(proposal, planned) if abs(h) < planned and not tried else proposal
                self._wide, self._pending = wide, (proposal, ratio, self._lost + abs(h) * normal, rejected)
                self._notice_small_bases(target, scale, self._lost + abs(h) * normal)
                return Taken(result, h, target, landed, result.error, normal)
            h *= min(factor, 0.9)
            target, landed, tried = t + h, False, True
            rejected += 1

    def after(self, taken: Taken) -> None:
        """Note that a step has become part of the run."""
        self._t, self._wide = taken.t, None
        self._h, self._ratio, self._lost, self.rejected = self._pending
        self._spent += self.control.excess(taken.h)

    def memory(self) -> list[float]:
        """What a checkpoint must hold."""
        return [
            math.nan if self._h is None else self._h,
            self._ratio,
            float(self.rejected),
            self._lost,
            self._spent,
        ]

    def restore(self, memory: list[float]) -> None:
        """Take up what :meth:`memory` gave."""
        self._h = None if math.isnan(memory[0]) else memory[0]
        self._ratio, self.rejected, self._lost, self._spent = memory[1], int(memory[2]), memory[3], memory[4]

    # ---- one attempt

    def _trial(
        self, t: float, h: float, Ys: Members, step: int, start: Members | None, scale: float
    ) -> tuple[StepResult, float, bool]:
        """The result of a step, its error, and whether a truncation would have kept all there was."""
        first = step == 0 and start is None
        if self._embedded:
            result = advance(self._method(h, scale), self.field, t, h, Ys, first=first, start=start)
            return result, result.error, _saturated(Ys, result.Ys)
        half = self._method(h / 2, scale)
        whole = advance(self._method(h, scale), self.field, t, h, Ys, first=first, start=start)
        one = advance(half, self.field, t, h / 2, Ys, first=False, start=start)
        two = advance(half, self.field, t + h / 2, h / 2, one.Ys, first=False)
        truncated = whole.discarded + one.discarded + two.discarded
        difference, fraction = control.difference(whole.Ys, two.Ys), 2.0**self.integrator.order - 1
        normal = one.normal if math.isnan(two.normal) else max(one.normal, two.normal)
        result = StepResult(two.Ys, one.discarded + two.discarded, normal, difference / fraction)
        return (
            result,
            max(0.0, difference - truncated) / fraction,
            _saturated(Ys, one.Ys) or _saturated(one.Ys, two.Ys),
        )

    def _method(self, h: float, scale: float) -> Integrator:
        """The method, with the truncation tolerance that belongs to a step of length h."""
        if not self._tied:
            return self.integrator
        return replace(self.integrator, atol=control.KAPPA * self.control.allowed(h, scale, self._spent))  # type: ignore[call-arg]

    def _notice_stiffness(self, t: float, h: float, Ys: Members, start: Members, step: int) -> None:
        """Warn, once, where stability seems to limit the steps of an explicit method."""
        if step < 3 * _EVERY or step % _EVERY or not self.integrator.is_explicit(self.field):
            return
        try:
            rate = control.fastest_rate(lambda Zs: self.field(t, Zs), Ys, start)
        except Exception:  # F may not like a state that is off its way; the run itself will tell
            return
        if not abs(h) * rate > 1 or "stiff" in self._said:
            return
        self._said.add("stiff")
        warnings.warn(
            f"F has rates of about {rate:.2g} and the steps have length {abs(h):.2g}: where the fast part is "
            f"dissipative the problem is stiff, and stability limits the steps of an explicit method. Then declare "
            f'its linear part with dlra.SemiLinear(A, B, G) and use a method with substep="exponential" or "implicit"',
            DlraWarning,
            stacklevel=7,
        )

    def _notice_small_bases(self, t: float, size: float, lost: float) -> None:
        """Warn, once, where the normal component has cost much more than the tolerance."""
        if lost <= 10 * (self.control.atol + self.control.rtol * size) or "rank" in self._said:
            return
        self._said.add("rank")
        remedy = "raise max_rank" if self._free else "take a higher rank, or a method that adapts it"
        warnings.warn(
            f"by t = {t:.6g} the part of F that is normal to the tangent space adds up to {lost:.1e}, more "
            f"than ten times the tolerance: no step is short enough to help; {remedy}",
            DlraWarning,
            stacklevel=7,
        )

    # ---- bases

    def _widened(
        self, Ys: Members, start: Members, h: float, size: float, step: int
    ) -> tuple[Members, float]:
        """Ys in bases wide enough for the field, and the estimated normal component that is left."""
        allowed = self.control.allowed(h, size, self._spent)
        out, left = [], []
        for i, (Y, G) in enumerate(zip(Ys, start, strict=True)):
            if isinstance(Y, LowRank):
                limit = max(allowed, self._theta(i, Y)) / (abs(h) * math.sqrt(len(Ys)))
                largest = Y.rank + self._room(i, Y) if self._free else Y.rank
                Y, normal = control.wide_enough(Y, G, limit, largest, (step, i), self._damping(i, h, Y))
                left.append(normal)
            out.append(Y)
        return tuple(out), math.hypot(*left)

    def _damping(self, i: int, h: float, Y: LowRank) -> tuple[control.Damping | None, control.Damping | None]:
        """What the stiff linear part, where the method treats it exactly or implicitly, leaves of a source."""
        sides = self.field.linear[i] if self.field.linear else None
        if sides is None or self.integrator.is_explicit(self.field):
            return None, None

        def damping(operator: Any) -> control.Damping | None:
            if operator is None:
                return None

            def damped(X: Array) -> Array:
                try:
                    return Sylvester((operator, None), X, _ROUGHLY).phi1(h, X)
                except NoConvergence:
                    return X

            return damped

        left, right = map(damping, sides)
        return left, right

    def _joined(self, Ys: Members, result: StepResult) -> Members | None:
        """Ys in bases that contain those of a saturated result; None where there is no room."""
        out = []
        for i, (Y, Z) in enumerate(zip(Ys, result.Ys, strict=True)):
            if isinstance(Y, LowRank) and Z.rank >= 2 * Y.rank and self._room(i, Y) >= Y.rank:
                Y = control.joined(Y, Z)
            out.append(Y)
        return tuple(out) if any(a is not b for a, b in zip(out, Ys, strict=True)) else None

    def _room(self, i: int, Y: LowRank) -> int:
        """By how many columns the bases of a member may grow."""
        assert isinstance(self.integrator, RankAdaptive)
        return _largest(Y, self.integrator.options(i)[3]) - Y.rank

    def _theta(self, i: int, Y: LowRank) -> float:
        """The truncation tolerance that the user gave."""
        if not self._free or self._tied:
            return 0.0
        assert isinstance(self.integrator, RankAdaptive)
        rtol, atol, *_ = self.integrator.options(i)
        return max(atol, rtol * norm(Y.S))


_TOO_SMALL = (
    "the tolerance asks for steps below the resolution of t; the problem is singular here, the tolerance is too small "
    "for the method or the dtype, or the field is stiff: then declare its stiff linear part, dlra.SemiLinear(A, B, G)"
)


def check_tolerance(rtol: float, atol: float, Ys: Members) -> float:
    """Return rtol, raised to what the dtype can give, with a warning."""
    least = 50 * _roundoff(Ys)
    if rtol >= least or atol > 0:
        return rtol
    warnings.warn(
        f"rtol={rtol:g} is below what the dtype can give; steps are chosen for rtol={least:.1g}",
        DlraWarning,
        stacklevel=5,
    )
    return least


def _has_estimate(integrator: Integrator) -> bool:
    """Whether the method has an embedded estimate that is worth its cost: of order 4 per unit of time, or more."""
    scheme = getattr(integrator, "scheme", None)  # of the Runge-Kutta families
    return scheme is not None and scheme.error is not None and scheme.order >= 5


def _largest(Y: LowRank, max_rank: int | None) -> int:
    """The largest rank that Y may have."""
    return min(*Y.shape, *(() if max_rank is None else (max_rank,)))


def _saturated(before: Members, after: Members) -> bool:
    return any(
        isinstance(Y, LowRank) and Z.rank >= 2 * Y.rank and Z.rank < min(Z.shape)
        for Y, Z in zip(before, after, strict=True)
    )


def _roundoff(Ys: Members) -> float:
    return max(eps(Y._U if isinstance(Y, LowRank) else Y) for Y in Ys)
