"""The time loop: the grid, states, events, callbacks, failures, interruption, the error budget."""

from __future__ import annotations

import io
import math
import re
import signal
import threading
import time
import tracemalloc
import warnings
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from helpers import dense, normal, random_lowrank, relative_error
from manufactured import bits, solution_bits
from numpy.linalg import norm

import dlra
from dlra import BUG, AugmentedBUG, Event, Galerkin, LowRank, ProjectorSplitting, SolveError, factored

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

METHODS = [BUG(), AugmentedBUG(), AugmentedBUG(rtol=1e-3), ProjectorSplitting(), Galerkin()]
every_method = pytest.mark.parametrize("method", METHODS, ids=repr)
ONE = LowRank(np.eye(4, 1), np.ones((1, 1)), np.eye(3, 1))
"""The matrix with a single one: problems of numbers."""


def number(Y) -> float:
    return float((Y.U[:1] @ Y.S @ Y.V[:1].T)[0, 0])


def scalar(f):
    """The field of the ordinary equation x' = f(t, x), x the entry of a multiple of ONE."""
    return factored(lambda t, Y: ONE * f(t, number(Y)))


def problem(rng=None):
    """A field of full rank with an effect on every entry, and a start of rank 3."""
    rng = rng or np.random.default_rng(1)
    B, Q = normal(rng, (9, 9)) / 3, normal(rng, (9, 7))
    return lambda t, Y: B @ Y + math.cos(t) * Q, random_lowrank(rng, 9, 7, 3)


# ---- the grid ------------------------------------------------------------------------------------------------


def test_steps_have_the_length_asked_for_and_the_last_one_is_shortened():
    F, Y0 = problem()
    t = dlra.solve(F, (0, 1), Y0, dt=0.3).t
    assert t[-1] == 1.0 and len(t) == 5
    assert np.allclose(np.diff(t), [0.3, 0.3, 0.3, 0.1])
    t = dlra.solve(F, (0.5, 0.6), Y0, dt=7).t
    assert t.tolist() == [0.5, 0.6]


def test_no_sliver_is_left_by_rounding():
    """Where dt divides the span the number of steps is exact, though sums of 0.1 are not."""
    for span, dt, count in (
        ((0, 1), 0.1, 10),
        ((0, 0.3), 0.1, 3),
        ((1, 2.1), 0.1, 11),
        ((3, -4), 0.007, 1000),
    ):
        grid = dlra.solve(
            factored(lambda Y: Y), span, ONE, Galerkin(substep="euler"), dt=dt, save=lambda s: None
        ).t
        assert len(grid) == count + 1 and grid[-1] == span[1]
        assert np.allclose(
            grid, span[0] + math.copysign(dt, span[1] - span[0]) * np.arange(count + 1), rtol=1e-12
        )


def test_backward_time():
    F, Y0 = problem()
    there = dlra.solve(F, (0, 1), Y0, Galerkin(), dt=0.01, t_eval=[1.0])
    back = dlra.solve(F, (1, 0), there.y_final, Galerkin(), dt=0.01)
    assert relative_error(back.y_final, Y0) < 1e-9
    assert back.t[0] == 1 and back.t[-1] == 0 and np.all(np.diff(back.t) < 0)
    assert dlra.solve(F, (1, 0), Y0, dt=0.1, t_eval=[0.55, 0.2]).t.tolist() == [0.55, 0.2]


def test_t_eval_is_landed_on_exactly():
    F, Y0 = problem()
    times = [0.0, 0.1, 1 / 3, math.pi / 4, 0.99999, 1.0]
    solution = dlra.solve(F, (0, 1), Y0, dt=0.07, t_eval=times)
    assert solution.t.tolist() == times
    asked = []
    dlra.solve(
        lambda t, Y: (asked.append(t), F(t, Y))[1],
        (0, 1),
        Y0,
        Galerkin(substep="euler"),
        dt=0.07,
        t_eval=times,
    )
    assert set(times[:-1]) <= set(asked), "steps begin at these floats, bit for bit"
    gaps = np.diff(sorted({*asked, 1.0}))
    assert gaps.max() < 0.07 * (1 + 1e-8)


def test_t_eval_changes_the_steps_only_by_landing():
    """Between the points the steps have the length dt, counted from the last point."""
    F, Y0 = problem()
    steps = [s.t for s in dlra.iterate(F, (0, 1), Y0, dt=0.3)]
    assert np.allclose(steps, [0, 0.3, 0.6, 0.9, 1.0])
    seen = []
    dlra.solve(F, (0, 1), Y0, dt=0.3, t_eval=[0.5], callback=lambda s: seen.append(s.t))
    assert np.allclose(seen, [0.3, 0.5, 0.8, 1.0])


@pytest.mark.parametrize(
    "times", [[0.0], [1.0], [0.5], [0.0, 1.0], (0.25,), np.array([0.25, 0.5], dtype="float32")], ids=str
)
def test_only_what_t_eval_names_is_stored(times):
    F, Y0 = problem()
    solution = dlra.solve(F, (0, 1), Y0, dt=0.1, t_eval=times)
    assert solution.t.tolist() == [float(t) for t in times]
    assert len(solution.y) == len(solution.rank) == len(solution.errors.truncation) == len(times)
    assert solution.t_final == 1.0 and solution.y_final.shape == (9, 7)
    if 0.0 in solution.t:
        assert relative_error(solution.y[0], Y0) < 1e-15


def test_integer_times_and_numpy_numbers_are_fine():
    F, Y0 = problem()
    one = dlra.solve(F, (0, 1), Y0, dt=0.25)
    other = dlra.solve(F, np.array([0, 1]), Y0, dt=np.float64(0.25))
    assert solution_bits(one) == solution_bits(other)


# ---- states --------------------------------------------------------------------------------------------------


@every_method
def test_solve_only_collects_what_iterate_yields(method):
    F, Y0 = problem()
    solution = dlra.solve(F, (0, 1), Y0, method, dt=0.15)
    states = list(dlra.iterate(F, (0, 1), Y0, method, dt=0.15))
    assert [s.t for s in states] == solution.t.tolist()
    assert bits([s.y for s in states]) == bits(solution.y)
    assert [s.step for s in states] == list(range(8)) and [s.rank for s in states] == list(solution.rank)
    assert bits([s.errors.truncation for s in states]) == bits(list(solution.errors.truncation))
    assert bits(solution.y[-1]) == bits(solution.y_final) and solution.t_final == 1.0
    chosen = list(dlra.iterate(F, (0, 1), Y0, method, dt=0.15, t_eval=[0.0, 0.4, 1.0]))
    assert [s.t for s in chosen] == [0.0, 0.4, 1.0] and chosen[1].step == 3


@every_method
def test_a_step_is_the_first_step_of_a_run_bit_for_bit(method):
    F, Y0 = problem()
    for h, span in ((0.25, (0.5, 2)), (-0.25, (0.5, -2))):
        solution = dlra.solve(F, span, Y0, method, dt=0.25)
        assert bits(dlra.step(F, 0.5, h, Y0, method)) == bits(solution.y[1])
    Y = Y0
    for t in (0.5, 0.75, 1.0):
        Y = dlra.step(F, t, 0.25, Y, method)
    assert bits(Y) == bits(dlra.solve(F, (0.5, 1.25), Y0, method, dt=0.25).y_final), "and so on"


def test_iterate_is_lazy_but_complains_at_once():
    calls = []
    states = dlra.iterate(factored(lambda Y: (calls.append(1), Y)[1]), (0, 1), ONE, "galerkin", dt=0.1)
    assert not calls
    next(states)
    assert not calls
    next(states)
    assert len(calls) == 4
    with pytest.raises(ValueError, match="dt"):
        dlra.iterate(lambda Y: Y, (0, 1), ONE, dt=-1)


def test_extra_arguments_and_arity():
    expected = bits(dlra.solve(lambda t, Y: -3.0 * Y, (0, 1), ONE, dt=0.5).y)
    assert bits(dlra.solve(lambda t, Y, a, b: -a * Y, (0, 1), ONE, dt=0.5, args=(3.0, None)).y) == expected
    assert bits(dlra.solve(lambda Y, a: -a * Y, (0, 1), ONE, dt=0.5, args=(3.0,)).y) == expected
    assert bits(dlra.solve(lambda Y, a=3.0: -a * Y, (0, 1), ONE, dt=0.5).y) == expected
    assert bits([dlra.step(lambda t, Y, a: -a * Y, 0.0, 0.5, ONE, args=(3.0,))]) == bits(
        [dlra.step(lambda Y: -3.0 * Y, 0.0, 0.5, ONE)]
    )


def test_y0_need_not_have_orthonormal_factors_and_is_not_changed(rng):
    F, _ = problem()
    U, V = normal(rng, (9, 2)), normal(rng, (7, 2))
    K = LowRank(U.copy(), None, V.copy())
    other = LowRank.from_dense(U @ V.T, rank=2)
    one, two = (dlra.solve(F, (0, 1), Y, dt=0.1).y_final for Y in (K, other))
    assert relative_error(one, two) < 1e-12
    assert np.array_equal(K.U, U) and np.array_equal(K.V, V)


# ---- events --------------------------------------------------------------------------------------------------

OSCILLATOR = scalar(lambda t, x: math.cos(t))  # x = sin(t) + 1, x - 1 vanishes at multiples of pi


def crossing(state) -> float:
    return number(state.y) - 1.0


def test_events_are_located_to_1e_9():
    """Where x = 1 + sin t falls and rises through 1; rk4 is exact enough for the comparison with pi."""
    solution = dlra.solve(OSCILLATOR, (0.1, 7), ONE * (1 + math.sin(0.1)), dt=0.05, events=Event(crossing))
    assert len(solution.t_events) == 1 and len(solution.t_events[0]) == 2
    assert np.allclose(solution.t_events[0], [math.pi, 2 * math.pi], atol=2e-9, rtol=0)
    assert [abs(number(Y) - 1) < 2e-9 for Y in solution.y_events[0]] == [True, True]
    coarse = dlra.solve(
        scalar(lambda t, x: 1.0), (0, 10), ONE * 0.0, dt=7, events=Event(lambda t, Y: number(Y) - math.e)
    )
    assert coarse.t_events[0] == pytest.approx([math.e], abs=1e-9), "within long steps too"


def test_event_directions():
    found = dlra.solve(
        OSCILLATOR, (0.1, 7), ONE * (1 + math.sin(0.1)), dt=0.05,
        events=[Event(crossing, direction=-1), Event(crossing, direction=1), Event(crossing)],
    ).t_events  # fmt: skip
    assert [np.round(t, 6).tolist() for t in found] == [[3.141593], [6.283185], [3.141593, 6.283185]]


def test_a_terminal_event_ends_the_run_there():
    event = Event(crossing, terminal=True, direction=1)
    solution = dlra.solve(
        OSCILLATOR,
        (0.1, 70),
        ONE * (1 + math.sin(0.1)),
        dt=0.05,
        events=[event, Event(lambda s: crossing(s) - 0.5)],
    )
    assert solution.status == 1 and solution.success and "Event 0" in solution.message
    assert (
        solution.t_final == solution.t[-1] == solution.t_events[0][0] == pytest.approx(2 * math.pi, abs=2e-9)
    )
    assert bits(solution.y_final) == bits(solution.y_events[0][0]) == bits(solution.y[-1])
    assert crossing(dlra.State(0, solution.y_final, 0, 1, None)) >= 0, "on the far side"
    assert len(solution.t_events[1]) == 2


def test_the_first_of_several_terminal_events_wins():
    grow = scalar(lambda t, x: 1.0)
    events = [Event(lambda t, Y, a=a: number(Y) - a, terminal=True) for a in (0.7, 0.3, 0.5)]
    solution = dlra.solve(grow, (0, 2), ONE * 0.0, dt=1.0, events=events)
    assert solution.t_final == pytest.approx(0.3, abs=1e-9) and "Event 1" in solution.message
    assert [len(t) for t in solution.t_events] == [0, 1, 0]


def test_events_that_are_not_terminal_leave_the_trajectory_alone():
    F, Y0 = problem()
    levels = [Event(lambda s, a=a: s.y.norm() - a) for a in (1.5, 2.0)]
    watched = dlra.solve(F, (0, 1), Y0, dt=0.1, events=levels)
    assert all(len(t) == 1 for t in watched.t_events), "they did happen"
    alone = dlra.solve(F, (0, 1), Y0, dt=0.1)
    assert bits(watched.y) == bits(alone.y) and watched.t.tolist() == alone.t.tolist()
    assert bits(watched.errors.truncation) == bits(alone.errors.truncation)
    assert watched.nfev > alone.nfev and watched.nsteps == alone.nsteps


def test_an_event_at_the_start_or_on_a_grid_point_counts_once():
    grow = scalar(lambda t, x: 1.0)
    at = lambda a: Event(lambda t, Y: number(Y) - a)  # noqa: E731
    exact = Galerkin(substep="euler")
    solution = dlra.solve(grow, (0, 1), ONE * 0.0, exact, dt=0.25, events=[at(0.0), at(0.5), at(1.0)])
    assert [len(t) for t in solution.t_events] == [0, 1, 1]
    assert solution.t_events[1] == pytest.approx([0.5], abs=1e-9) and solution.t_events[2] == pytest.approx(
        [1.0]
    )


def test_events_backward_in_time():
    shrink = scalar(lambda t, x: 1.0)
    solution = dlra.solve(
        shrink, (2, 0), ONE * 2.0, dt=0.3, events=Event(lambda t, Y: number(Y) - 1.25, terminal=True)
    )
    assert solution.t_final == pytest.approx(1.25, abs=1e-9) and solution.status == 1


def test_event_functions_see_a_state():
    seen = []
    F, Y0 = problem()
    dlra.solve(
        F,
        (0, 0.2),
        Y0,
        dt=0.1,
        events=Event(lambda state: seen.append((state.t, state.step, state.rank)) or 1.0),
    )
    assert seen == [(0.0, 0, 3), (0.1, 1, 3), (0.2, 2, 3)]


# ---- save, callback, max_steps -------------------------------------------------------------------------------


def test_save_replaces_the_storing_of_states():
    F, Y0 = problem()
    solution = dlra.solve(F, (0, 1), Y0, dt=0.25, save=lambda s: (s.t, s.y.norm()))
    full = dlra.solve(F, (0, 1), Y0, dt=0.25)
    assert solution.y == [] and solution.saved == [(t, Y.norm()) for t, Y in zip(full.t, full.y, strict=True)]
    assert solution.t.tolist() == full.t.tolist() and solution.rank.tolist() == full.rank.tolist()
    assert bits(solution.y_final) == bits(full.y_final) and full.saved is None
    few = dlra.solve(F, (0, 1), Y0, dt=0.25, save=lambda s: s.t, t_eval=[0.0, 0.4])
    assert few.saved == [0.0, 0.4] == few.t.tolist()


def test_a_callback_that_returns_true_stops():
    F, Y0 = problem()
    seen = []
    solution = dlra.solve(F, (0, 1), Y0, dt=0.1, callback=lambda s: seen.append(s.step) or s.t > 0.35)
    assert seen == [1, 2, 3, 4] and solution.nsteps == 4 and solution.status == 1 and solution.success
    assert "callback" in solution.message and "t = 0.4" in solution.message
    assert bits(solution.y) == bits(dlra.solve(F, (0, 1), Y0, dt=0.1).y[:5])


@pytest.mark.parametrize("what", ["callback", "save", "event"])
def test_an_exception_in_a_users_function_keeps_what_was_computed(what):
    F, Y0 = problem()

    def function(state):
        if state.t > 0.45:
            raise ZeroDivisionError("my own fault")
        return 0

    given = {"events": Event(function)} if what == "event" else {what: function}
    with pytest.raises(
        SolveError, match=rf"{what}.* raised ZeroDivisionError at t = 0.5, step 5, rank 3: my own"
    ) as caught:
        dlra.solve(F, (0, 1), Y0, dt=0.1, **given)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    solution = caught.value.solution
    full = dlra.solve(F, (0, 1), Y0, dt=0.1)
    kept = len(solution.t)
    assert kept == (6 if what == "callback" else 5) and solution.status == -1
    assert solution.t.tolist() == full.t[:kept].tolist()
    assert solution.nsteps == kept - 1 and solution.t_final == solution.t[-1]
    if what != "save":
        assert bits(solution.y) == bits(full.y[:kept])


def test_max_steps():
    F, Y0 = problem()
    with pytest.raises(
        SolveError, match=r"max_steps = 3 .*t1 = 1.*t = 0.3, step 3, rank 3; raise max_steps or dt"
    ) as caught:
        dlra.solve(F, (0, 1), Y0, dt=0.1, max_steps=3)
    solution = caught.value.solution
    assert solution.nsteps == 3 and solution.status == -1 and not solution.success and len(solution.y) == 4
    assert dlra.solve(F, (0, 1), Y0, dt=0.1, max_steps=10).status == 0


def test_progress_goes_to_standard_error_and_changes_nothing():
    pytest.importorskip("rich")
    F, Y0 = problem()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        shown = dlra.solve(F, (0, 1), Y0, AugmentedBUG(rtol=1e-3), dt=0.1, progress=True)
    quiet = dlra.solve(F, (0, 1), Y0, AugmentedBUG(rtol=1e-3), dt=0.1)
    assert solution_bits(shown) == solution_bits(quiet)
    assert out.getvalue() == ""
    for part in ("t = 1", "step 10", f"rank {quiet.rank[-1]}", "truncation", "normal"):
        assert part in err.getvalue()
    assert "nan" not in err.getvalue()


def test_progress_of_a_failing_run_and_of_a_system():
    pytest.importorskip("rich")
    with redirect_stderr(io.StringIO()) as err:
        solution = dlra.solve(lambda Y: 1 / 0, (0, 1), ONE, dt=0.1, progress=True, throw=False)
        system = dlra.solve(lambda Ys: Ys, (0, -1), [ONE, ONE], dt=0.5, progress=True)
    assert solution.status == -1 and system.status == 0
    assert "(1, 1)" in err.getvalue()


# ---- failures ------------------------------------------------------------------------------------------------


def failing_at_call(k, F):
    calls = []

    def failing(t, Y):
        calls.append(t)
        if len(calls) == k:
            raise ArithmeticError(f"call number {k}")
        return F(t, Y)

    return failing


STAGES = {1: "start", 2: "K", 3: "L", 4: "K", 8: "S", 10: "S"}


@pytest.mark.parametrize(("call", "stage"), STAGES.items())
@pytest.mark.parametrize("step", [1, 4])
def test_an_exception_in_f_is_wrapped_with_its_place(call, stage, step):
    """Call 10 (step - 1) + call of augmented BUG with rk4 substeps: t, step, rank and stage are named."""
    F, Y0 = problem()
    failing = failing_at_call(10 * (step - 1) + call, F)
    text = rf"augmented-bug failed at t = {0.1 * (step - 1):.10g}, step {step} \(h = 0.1\), rank 3, stage {stage} at"
    with pytest.raises(SolveError, match=text + r".*F raised ArithmeticError: call number") as caught:
        dlra.solve(failing, (0, 1), Y0, dt=0.1)
    assert isinstance(caught.value.__cause__, ArithmeticError)
    solution = caught.value.solution
    full = dlra.solve(F, (0, 1), Y0, dt=0.1)
    assert bits(solution.y) == bits(full.y[:step]) and solution.t.tolist() == full.t[:step].tolist()
    assert solution.nfev == 10 * (step - 1) + call and solution.nsteps == step - 1
    assert solution.message == str(caught.value)


def test_throw_false_returns_the_same_solution():
    F, Y0 = problem()
    solution = dlra.solve(failing_at_call(25, F), (0, 1), Y0, dt=0.1, throw=False)
    with pytest.raises(SolveError) as caught:
        dlra.solve(failing_at_call(25, F), (0, 1), Y0, dt=0.1)
    assert solution_bits(solution) == solution_bits(caught.value.solution)
    assert solution.status == -1 and not solution.success and "stage L" in solution.message
    with pytest.raises(ValueError, match="dt"):
        dlra.solve(F, (0, 1), Y0, dt=0.0, throw=False)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@every_method
def test_a_field_that_turns_nan_in_mid_run(method, bad):
    F, Y0 = problem()
    broken = lambda t, Y: F(t, Y) if t < 0.52 else bad * Y  # noqa: E731
    with np.errstate(all="ignore"), pytest.raises(SolveError, match="F produced NaN or infinite") as caught:
        dlra.solve(broken, (0, 1), Y0, method, dt=0.1)
    text, solution = str(caught.value), caught.value.solution
    found = re.search(
        r"failed at t = 0\.5, step 6 \(h = 0\.1\), rank (\d+), stage ([KLS]) at t = ([\d.]+):", text
    )
    assert found, text
    assert int(found[1]) == solution.rank[-1] and float(found[3]) >= 0.52
    assert bits(solution.y) == bits(dlra.solve(F, (0, 1), Y0, method, dt=0.1).y[:6])


@every_method
def test_a_blow_up_is_noticed_before_it_overflows(method):
    """An explicit substep on Y' = -1000 (Y - Q) with dt = 0.1: amplification 4e6 a step."""
    Q, Y0 = normal(np.random.default_rng(2), (9, 7)), random_lowrank(np.random.default_rng(3), 9, 7, 3)
    with pytest.raises(SolveError, match=r"the solution blows up.*(reduce dt|SemiLinear)") as caught:
        dlra.solve(lambda Y: -1000 * (Y - Q), (0, 10), Y0, method, dt=0.1)
    solution = caught.value.solution
    assert 2 < len(solution.t) < 8 and solution.y_final.norm() < 1e150
    assert f"step {len(solution.t)}" in str(caught.value)


def test_a_norm_that_overflows_is_a_blow_up_too():
    """In one step, so that no history of growth tells; all entries are still finite."""
    Y0 = LowRank(np.eye(4, 2), np.zeros((2, 2)), np.eye(3, 2))
    F = factored(lambda t, Y: LowRank(Y0.U, 1.5e308 * np.eye(2), Y0.V))
    with pytest.raises(
        SolveError, match=r"stage end of step at t = 1: the solution blows up: its norm overflows"
    ) as caught:
        dlra.solve(F, (0, 1), Y0, Galerkin(substep="euler"), dt=1.0)
    assert len(caught.value.solution.y) == 1


def test_fast_but_honest_growth_is_no_blow_up():
    """A factor of 50 a step, and a start from (nearly) nothing."""
    solution = dlra.solve(factored(lambda Y: 4 * Y), (0, 10), ONE, "galerkin", dt=1.0)
    assert solution.y_final.norm() > 1e12
    solution = dlra.solve(lambda t, Y: np.ones((4, 3)), (0, 1), ONE * 0.0, dt=0.1)
    assert relative_error(solution.y_final, np.ones((4, 3))) < 1e-12


def test_a_step_that_fails():
    with pytest.raises(
        SolveError, match=r"from t = 2 with h = 0.1, rank 1, stage start at t = 2: F raised"
    ) as caught:
        dlra.step(lambda Y: [][0], 2.0, 0.1, ONE)
    assert caught.value.solution is None and isinstance(caught.value.__cause__, IndexError)


def test_a_failure_outside_f_names_the_stage_too():
    def broken(t, h, equation):
        if equation.stage == "S":
            yield [equation.ask(t, equation.X)]
            raise np.linalg.LinAlgError("SVD did not converge")
        (values,) = yield [equation.ask(t, equation.X)]
        return [h * k for k in equation.slopes(t, values)]

    F, Y0 = problem()
    with pytest.raises(
        SolveError, match=r"step 1 .*rank 3, stage S at t = 0: .*SVD did not converge"
    ) as caught:
        dlra.solve(F, (0, 1), Y0, BUG(substep=broken), dt=0.1)
    assert isinstance(caught.value.__cause__, np.linalg.LinAlgError) and len(caught.value.solution.y) == 1


def test_failures_of_iterate():
    F, Y0 = problem()
    states = dlra.iterate(failing_at_call(25, F), (0, 1), Y0, dt=0.1)
    assert [next(states).step for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SolveError, match="step 3") as caught:
        next(states)
    assert caught.value.solution is None


def test_a_warning_that_was_made_an_error_is_raised_as_it_is():
    Y0 = random_lowrank(np.random.default_rng(1), 9, 7, 3, "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(dlra.DlraWarning, match="cast to float32"):
            dlra.solve(lambda Y: -Y.astype("float64"), (0, 1), Y0, dt=0.5)


def test_what_f_returns_is_checked_before_anything_else_happens():
    F, Y0 = problem()
    for bad, error, text in (
        (lambda t, Y: None, TypeError, "None; is a return statement missing"),
        (lambda t, Y: Y.T, ValueError, r"shape of Y, \(9, 7\), got \(7, 9\)"),
        (lambda t, Y: 1j * Y, TypeError, "astype"),
        (lambda t, Y: "Y", TypeError, "must be a matrix"),
        (lambda t, Y: 3.0, TypeError, "must be a matrix"),
    ):
        with pytest.raises(error, match=text):
            dlra.solve(bad, (0, 1), Y0, dt=0.1)
    later = lambda t, Y: F(t, Y) if t < 0.25 else None  # noqa: E731
    with pytest.raises(SolveError, match=r"step 3.*None; is a return") as caught:
        dlra.solve(later, (0, 1), Y0, dt=0.1)
    assert len(caught.value.solution.t) == 3


# ---- interruption --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["F", "callback", "save", "event"])
def test_ctrl_c_returns_what_was_computed(where):
    F, Y0 = problem()

    def interrupt(state):
        if state.t > 0.45:
            raise KeyboardInterrupt
        return 0

    def interrupted(t, Y):
        if where == "F" and t > 0.45:
            raise KeyboardInterrupt
        return F(t, Y)

    given = {
        "F": {},
        "callback": {"callback": interrupt},
        "save": {"save": interrupt},
        "event": {"events": Event(interrupt)},
    }
    solution = dlra.solve(interrupted, (0, 1), Y0, dt=0.1, **given[where])
    assert solution.status == 1 and solution.success
    kept = 6 if where == "callback" else 5
    assert len(solution.t) == kept == solution.nsteps + 1 and solution.t_final == solution.t[-1]
    assert f"Ctrl-C at t = {solution.t_final:g}, step {solution.nsteps}" in solution.message
    if where != "save":
        assert bits(solution.y) == bits(dlra.solve(F, (0, 1), Y0, dt=0.1).y[:kept])


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX signals")
def test_a_real_interrupt_at_any_moment_leaves_a_consistent_solution():
    """The signal of Ctrl-C, sent at random moments from another thread."""
    F, Y0 = problem()
    started = time.perf_counter()
    full = dlra.solve(F, (0, 10), Y0, dt=0.01, events=Event(lambda s: s.y.norm() - 3))
    duration = time.perf_counter() - started
    rng, hit = np.random.default_rng(4), 0
    main = threading.get_ident()
    for delay in rng.uniform(0.0, 0.8 * duration, size=8):
        timer = threading.Timer(delay, lambda: signal.pthread_kill(main, signal.SIGINT))
        try:
            timer.start()
            solution = dlra.solve(F, (0, 10), Y0, dt=0.01, events=Event(lambda s: s.y.norm() - 3))
            timer.join()
        except KeyboardInterrupt:  # before or after the run
            continue
        finally:
            timer.cancel()
        hit += solution.status == 1
        k = len(solution.t)
        assert (
            k
            == len(solution.y)
            == len(solution.rank)
            == len(solution.errors.truncation)
            == solution.nsteps + 1
        )
        assert solution.t.tolist() == full.t[:k].tolist() and bits(solution.y) == bits(full.y[:k])
        assert solution.t_final == solution.t[-1] and bits(solution.y_final) == bits(solution.y[-1])
        assert solution.t_events[0] == [t for t in full.t_events[0] if t <= solution.t_final]
    assert hit >= 3


# ---- the error budget ----------------------------------------------------------------------------------------


def test_the_error_budget_sums_what_each_step_knows():
    F, Y0 = problem()
    solution = dlra.solve(F, (0, 1), Y0, AugmentedBUG(rtol=0.2), dt=0.1)
    errors = solution.errors
    dropped = []
    for t, Y in zip(solution.t[:-1], solution.y[:-1], strict=True):
        untouched = dlra.step(F, t, 0.1, Y, AugmentedBUG(max_rank=2 * Y.rank))
        dropped.append(
            relative_error(dlra.step(F, t, 0.1, Y, AugmentedBUG(rtol=0.2)), untouched)
            * norm(dense(untouched))
        )
    assert np.allclose(errors.local.truncation[1:], dropped, rtol=1e-6, atol=1e-14)
    assert np.allclose(errors.truncation[1:], np.cumsum(dropped), rtol=1e-6)
    assert np.allclose(errors.normal[1:], np.cumsum(0.1 * errors.local.normal[1:]), rtol=1e-9)
    assert np.isnan(errors.time).all() and np.isnan(errors.total).all(), "a fixed step has no estimate: not 0"
    assert errors["truncation"] is errors.truncation
    assert errors.truncation[0] == errors.normal[0] == 0 and errors.truncation[-1] > 0
    with pytest.raises(KeyError, match="time, truncation, normal"):
        errors["rank"]


def test_the_truncation_of_a_system_is_the_norm_over_its_members():
    F, Y0 = problem()
    method = AugmentedBUG(rtol=0.3)
    one = dlra.solve(F, (0, 0.1), Y0, method, dt=0.1).errors.truncation[-1]
    two = dlra.solve(
        lambda t, Ys: [F(t, Y) for Y in Ys], (0, 0.1), [Y0, Y0], method, dt=0.1
    ).errors.truncation[-1]
    assert one > 0 and two == pytest.approx(math.sqrt(2) * one)


def test_backward_runs_add_up_positive_normal_components():
    F, Y0 = problem()
    assert dlra.solve(F, (1, 0), Y0, dt=0.1).errors.normal[-1] > 0


# ---- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"dt": 0}, ValueError, "dt must be positive and finite.*got 0"),
        ({"dt": -0.1}, ValueError, "direction comes from t_span.*-0.1"),
        ({"dt": math.nan}, ValueError, "dt"),
        ({"dt": math.inf}, ValueError, "dt"),
        ({"dt": "0.1"}, TypeError, "dt must be a real number.*'0.1'"),
        ({"dt": True}, TypeError, "dt"),
        ({"dt": None, "rtol": 0.0}, ValueError, "both 0"),
        ({"rtol": 1e-3}, ValueError, r"do not go with dt.*AugmentedBUG\(rtol"),
        ({"atol": 1e-3}, ValueError, "do not go with dt"),
        ({"t_span": (0, 0)}, ValueError, "t_span must have positive length"),
        ({"t_span": (0, math.inf)}, ValueError, "t_span must be finite"),
        ({"t_span": 1.0}, ValueError, r"t_span must be a pair \(t0, t1\), got 1.0"),
        ({"t_span": (0, 1, 2)}, ValueError, "pair"),
        ({"t_span": ("a", 1)}, TypeError, "t0 of t_span"),
        (
            {"t_eval": [0.5, 1.5]},
            ValueError,
            r"t_eval must lie within t_span = \(0.0, 1.0\), got values from 0.5 to 1.5",
        ),
        ({"t_eval": [0.5, 0.25]}, ValueError, "strictly ascending"),
        ({"t_eval": [0.5, 0.5]}, ValueError, "strictly ascending"),
        ({"t_eval": []}, ValueError, "at least one time"),
        ({"t_eval": [[0.5]]}, ValueError, "vector"),
        ({"t_eval": [math.nan]}, ValueError, "t_eval"),
        ({"t_eval": "now"}, TypeError, "sequence of real numbers"),
        ({"method": "rk4"}, ValueError, "unknown method 'rk4'; known are"),
        ({"method": None}, TypeError, "method must be a name"),
        ({"max_steps": 0}, ValueError, "at least 1, got 0"),
        ({"max_steps": 1.5}, TypeError, "max_steps must be an int or None"),
        ({"events": lambda s: 0}, TypeError, "dlra.Event"),
        ({"save": 1}, TypeError, "save must be a function of the state"),
        ({"callback": "stop"}, TypeError, "callback must be a function"),
        ({"args": 3.0}, TypeError, r"args=\(value,\)"),
        ({"F": 1.0}, TypeError, "F must be callable"),
        ({"F": lambda: 0}, TypeError, r"F must take \(t, Y\) or \(Y\)"),
        ({"F": lambda t, Y, a: 0}, TypeError, "3 required positional"),
        ({"Y0": np.ones((4, 3))}, TypeError, r"LowRank.from_dense\(Y0, rank=...\)"),
        ({"Y0": []}, ValueError, "empty list"),
        ({"Y0": [1.0]}, TypeError, r"Y0\[0\] must be a LowRank or an array"),
        (
            {"Y0": LowRank(np.ones((4, 1)) * math.nan, None, np.ones((3, 1)))},
            ValueError,
            r"Y0.U contains NaN",
        ),
        ({"Y0": LowRank(np.ones((2, 3)), None, np.ones((2, 3)))}, ValueError, r"more than min\(m, n\) = 2"),
        ({"checkpoint": 3}, TypeError, "path"),
        ({"resume": 3}, TypeError, "resume must be the path"),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:40] if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_at_once_with_a_remedy(given, error, text):
    calls = []
    arguments = {
        "F": lambda t, Y: (calls.append(t), Y)[1],
        "t_span": (0.0, 1.0),
        "Y0": ONE,
        "dt": 0.1,
        **given,
    }
    with pytest.raises(error, match=text):
        dlra.solve(**arguments)
    assert not calls


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Event(1.0), TypeError, "function of an Event must be callable"),
        (lambda: Event(len, direction=2), ValueError, "-1, 0 or 1, got 2"),
        (lambda: dlra.step(lambda Y: Y, 0.0, 0.0, ONE), ValueError, "nonzero"),
        (lambda: dlra.step(lambda Y: Y, math.nan, 0.1, ONE), ValueError, "t must be finite"),
        (lambda: dlra.step(lambda Y: Y, 0.0, "h", ONE), TypeError, "h must be a real number"),
    ],
)
def test_bad_events_and_steps(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("value", ["high", None, 1j, np.ones(3)], ids=str)
def test_an_event_must_return_a_real_number(value):
    F, Y0 = problem()
    with pytest.raises(SolveError, match=r"event 0 raised TypeError.*must return a real number"):
        dlra.solve(F, (0, 1), Y0, dt=0.1, events=Event(lambda s: value))


def test_an_event_that_is_nan_is_an_error_not_silence():
    F, Y0 = problem()
    with pytest.raises(SolveError, match=r"event 0 is NaN at t = 0.3, step 3, rank 3"):
        dlra.solve(F, (0, 1), Y0, dt=0.1, events=Event(lambda s: math.nan if s.t > 0.25 else 1.0))


# ---- memory --------------------------------------------------------------------------------------------------


def memory_peak(n, r, steps, substep="auto") -> float:
    """Peak of what a run allocates, in units of (m + n) r numbers."""
    rng = np.random.default_rng(5)
    Y0 = LowRank(normal(rng, (n, r)), None, normal(rng, (n, r))).orthonormalized()
    u = normal(rng, (n, 1)) / math.sqrt(n)
    F = factored(lambda t, Y: LowRank(u, None, u) - 0.5 * Y)
    method = AugmentedBUG(substep=substep)

    def run(steps):
        end = 1e-3 * steps
        return dlra.solve(F, (0, end), Y0, method, dt=1e-3, t_eval=[end])

    run(2)  # what is loaded or cached once
    tracemalloc.start()
    try:
        solution = run(steps)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert solution.nsteps == steps and len(solution.y) == 1
    return peak / (8 * 2 * n * r)


def test_memory_stays_flat_where_only_the_end_is_stored():
    short, longer = memory_peak(1000, 10, 10), memory_peak(1000, 10, 150)
    assert longer < 20 and longer < 1.1 * short, (short, longer)


def test_memory_is_a_few_copies_of_the_factors():
    assert memory_peak(20_000, 10, 5) < 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_of_ten_thousand_steps():
    assert memory_peak(20_000, 10, 10_000, "euler") < 20
