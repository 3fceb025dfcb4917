"""Steps of a length chosen by tolerances: accuracy, rejection, widened bases, warnings, files."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from helpers import M, N, dense, normal, orthonormality, random_lowrank, random_orthonormal, relative_error
from manufactured import bits, solution_bits
from numpy.linalg import norm

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    DlraWarning,
    Event,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectedExponential,
    ProjectedRungeKutta,
    ProjectorSplitting,
    RandomizedSVD,
    RungeKuttaBUG,
    SecondOrderParallelBUG,
    SemiLinear,
    SolveError,
    StepTruncation,
    control,
    factored,
    problems,
)
from dlra._stepping import AdaptiveSteps
from dlra.field import Value
from dlra.integrators import Ask, Integrator, StepResult

GROWING = [
    AugmentedBUG(),
    MidpointBUG(),
    SecondOrderParallelBUG(),
    RungeKuttaBUG(),
    ProjectedRungeKutta("dopri5"),
    StepTruncation("dopri5"),
]
growing = pytest.mark.parametrize("method", GROWING, ids=lambda m: m.name)


def known(seed=0, rank=4, dtype="float64"):
    """Y(t) = Y₀ + sin(t) Q with a Q of rank 4, normal to the tangent space at Y₀ of rank 1."""
    rng = np.random.default_rng(seed)
    Q = normal(rng, (M, rank), dtype) @ normal(rng, (rank, N), dtype)
    Y0 = random_lowrank(rng, M, N, 1, dtype)
    return factored(lambda t, Y: math.cos(t) * Q), Y0, lambda t: dense(Y0) + math.sin(t) * Q


# ---- accuracy ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rotation():
    return problems.rotation(n=30)


@pytest.fixture(scope="module")
def schroedinger():
    return problems.schroedinger(n=30)


def check_accuracy(problem, rank, span, method, rtol, **options):
    """The final error is at most ten times the tolerance, and the budget does not claim much less than there is."""
    solution = dlra.solve(
        problem.F, span, problem.Y0(rank), method, rtol=rtol, t_eval=[span[1]], max_steps=500, **options
    )
    reference = dense(problem.reference(span[1]))
    error = relative_error(solution.y_final, reference)
    assert error < 10 * rtol, (error, solution)
    budget = solution.errors
    assert 0 <= budget.time[-1] < 10 * rtol * norm(reference)
    assert budget.truncation[-1] < rtol * norm(reference)
    assert solution.t_final == span[1] and solution.status == 0
    return solution


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
@growing
def test_accuracy_on_rotation(rotation, method, rtol):
    if method.order == 1 and rtol < 1e-4:
        pytest.skip("too many steps for a method of first order")
    check_accuracy(rotation, 26, (0, 1), method, rtol)


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("method", [ProjectorSplitting(), BUG()], ids=lambda m: m.name)
def test_accuracy_with_fixed_rank(rotation, method, rtol):
    if method.order == 1 and rtol < 1e-4:
        pytest.skip("too many steps for a method of first order")
    solution = check_accuracy(rotation, 30, (0, 1), method, rtol)
    assert set(solution.rank) == {30}


@pytest.mark.parametrize(
    ("method", "rtol"),
    [
        (AugmentedBUG(), 1e-2),
        (MidpointBUG(), 1e-2),
        (MidpointBUG(), 1e-4),
        (SecondOrderParallelBUG(), 1e-3),
        (RungeKuttaBUG(), 1e-4),
        (RungeKuttaBUG(), 1e-6),
    ],
    ids=lambda v: getattr(v, "name", v),
)
def test_accuracy_on_the_schroedinger_equation(schroedinger, method, rtol):
    solution = check_accuracy(schroedinger, 20, (0, 1), method, rtol)
    assert solution.y_final.rank <= 30 and orthonormality(solution.y_final.U) < 1e-13


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("method", ["augmented-bug", "midpoint-bug", "projected-exponential"])
def test_accuracy_on_the_lyapunov_equation(method, rtol):
    """Stiff: the number of steps is that of the rest, not of the stiffness."""
    solution = check_accuracy(problems.heat_lyapunov(n=64), 20, (0, 0.1), method, rtol)
    assert solution.nsteps < 100
    assert all(Y.V is Y.U and np.array_equal(Y.S, Y.S.T) for Y in solution.y)


def test_accuracy_on_the_riccati_equation():
    problem = problems.riccati(n=32)
    t1 = min(0.05, problem.t_span[1])
    solution = check_accuracy(problem, 16, (0, t1), "midpoint-bug", 1e-4)
    assert solution.y_final.V is solution.y_final.U


def test_accuracy_on_the_steel_profile():
    """A mass matrix, and P(0) = 0: the state grows from nothing."""
    try:
        problem = problems.steel_lyapunov()
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(str(error))
    check_accuracy(problem, 8, (0, 200), "augmented-bug", 1e-3)


@pytest.mark.parametrize("method", [MidpointBUG(), RungeKuttaBUG()], ids=lambda m: m.name)
def test_a_smaller_tolerance_gives_a_proportional_error(rotation, method):
    """Error per unit step: the final error is proportional to the tolerance, whatever the order."""
    tolerances, exact = [1e-3, 1e-4, 1e-5, 1e-6], dense(rotation.reference(1.0))
    errors = [
        relative_error(dlra.solve(rotation.F, (0, 1), rotation.Y0(28), method, rtol=rtol).y_final, exact)
        for rtol in tolerances
    ]
    slope = np.polyfit(np.log10(tolerances), np.log10(errors), 1)[0]
    assert 0.6 < slope < 1.4, errors


@pytest.mark.parametrize(
    ("method", "tolerances"),
    [
        (AugmentedBUG(substep="euler"), (1e-2, 1e-3)),
        (MidpointBUG(), (1e-4, 1e-7)),
        (RungeKuttaBUG(), (1e-7, 1e-11)),
    ],
    ids=lambda v: getattr(v, "name", v),
)
def test_the_number_of_steps_follows_the_order(method, tolerances):
    """Steps ~ tol^(-1/p): with a wrong exponent the controller rejects often, or creeps."""
    rng = np.random.default_rng(1)
    W = normal(rng, (M, M))
    W = 3 * (W - W.T) / norm(W)
    F, Y0 = factored(lambda Y: W @ Y), random_lowrank(rng, M, M, 3)
    coarse, fine = (dlra.solve(F, (0, 1), Y0, method, rtol=rtol) for rtol in tolerances)
    order = math.log(tolerances[0] / tolerances[1]) / math.log(fine.nsteps / coarse.nsteps)
    assert abs(order / method.order - 1) < 0.35, (coarse.nsteps, fine.nsteps)
    assert fine.nrejected <= 0.1 * fine.nsteps + 3, (fine.nrejected, fine.nsteps)


def test_the_time_part_of_the_budget_is_about_the_true_error():
    rng = np.random.default_rng(2)
    W = normal(rng, (M, M))
    W = (W - W.T) / norm(W)
    w, X = np.linalg.eig(W)
    Y0 = random_lowrank(rng, M, M, 3)
    exact = np.real(X @ np.diag(np.exp(2 * w)) @ np.linalg.inv(X)) @ dense(Y0)
    for method in (AugmentedBUG(substep="euler"), RungeKuttaBUG("heun2"), ProjectedRungeKutta("bs3")):
        solution = dlra.solve(factored(lambda Y: W @ Y), (0, 2), Y0, method, rtol=1e-3)
        error, claimed = norm(dense(solution.y_final) - exact), solution.errors.time[-1]
        assert error < 3 * claimed + solution.errors.truncation[-1], (method, error, claimed)
        assert claimed < 30 * error and claimed < 1e-3 * norm(exact) * 1.5
        assert np.all(np.diff(solution.errors.time) >= 0) and solution.errors.time[0] == 0
    fixed = dlra.solve(factored(lambda Y: W @ Y), (0, 2), Y0, dt=0.5)
    assert math.isnan(fixed.errors.time[-1])


def test_what_truncation_drops_is_a_tenth_of_the_tolerance_at_most():
    """The truncation tolerance is tied to the step: its sum stays below 0.1 rtol ‖Y‖, but for the floor."""
    F, Y0, exact = known(rank=6)
    for rtol in (1e-2, 1e-4):
        solution = dlra.solve(F, (0, 1), Y0, MidpointBUG(), rtol=rtol)
        assert solution.errors.truncation[-1] < 0.2 * rtol * norm(exact(1))


def test_a_tolerance_of_the_rank_is_obeyed_as_it_is():
    """Given by the user it is not tied to the step."""
    F, Y0, _ = known(rank=6)
    free, coarse = (
        dlra.solve(F, (0, 1), Y0, method, rtol=1e-4) for method in (MidpointBUG(), MidpointBUG(rtol=0.3))
    )
    assert coarse.y_final.rank < free.y_final.rank <= 7


# ---- rank ----------------------------------------------------------------------------------------------------


@growing
def test_the_rank_grows_where_the_field_is_normal_to_the_start(method):
    """From rank 1 to 5 in the first step: without widened bases the tangent part alone would be followed."""
    F, Y0, exact = known()
    solution = dlra.solve(F, (0, 1), Y0, method, rtol=1e-5)
    assert solution.rank[0] == 1 and solution.rank[-1] == 5
    for t, Y in zip(solution.t, solution.y, strict=True):
        assert norm(dense(Y) - exact(t)) < 1e-4 * norm(exact(1))


@growing
def test_the_rank_grows_where_the_field_turns_to_new_directions_later(method):
    """A source that sets in smoothly at t = 0.5."""
    rng = np.random.default_rng(3)
    u, Q = normal(rng, (M, 1)) @ normal(rng, (1, N)), normal(rng, (M, 3)) @ normal(rng, (3, N))
    Y0 = LowRank.from_dense(u, rank=1)
    F = factored(lambda t, Y: u + 80 * max(t - 0.5, 0.0) ** 4 * Q)
    solution = dlra.solve(F, (0, 1), Y0, method, rtol=1e-4)
    assert relative_error(solution.y_final, 2 * u + 0.5 * Q) < 1e-3
    assert set(solution.rank[solution.t <= 0.5]) == {1} and solution.rank[-1] == 4


@growing
def test_the_rank_stays_below_max_rank(method):
    F, Y0, exact = known(rank=6)
    solution = dlra.solve(F, (0, 1), Y0, replace(method, max_rank=3), rtol=1e-3, max_steps=3000)
    assert max(solution.rank) == 3
    best = norm(np.linalg.svd(exact(1), compute_uv=False)[3:])
    assert norm(dense(solution.y_final) - exact(1)) < 10 * best
    assert solution.errors.normal[-1] > best / 10, "what max_rank leaves out is in the budget"


def test_widening_stops_at_the_size_of_the_matrix():
    rng = np.random.default_rng(4)
    Q, Y0 = normal(rng, (6, 5)), random_lowrank(rng, 6, 5, 1)
    solution = dlra.solve(lambda t, Y: math.cos(t) * Q, (0, 1), Y0, rtol=1e-6)
    assert solution.rank[-1] == 5
    assert relative_error(solution.y_final, dense(Y0) + math.sin(1) * Q) < 1e-5


def test_a_zero_start_grows():
    rng = np.random.default_rng(5)
    Q = normal(rng, (M, 2)) @ normal(rng, (2, N))
    Y0 = LowRank(random_orthonormal(rng, M, 1), np.zeros((1, 1)), random_orthonormal(rng, N, 1))
    for method in GROWING:
        solution = dlra.solve(
            factored(lambda t, Y: math.cos(t) * Q), (0, 1), Y0, method, rtol=1e-4, atol=1e-8
        )
        assert relative_error(solution.y_final, math.sin(1) * Q) < 1e-3


# ---- rejection and failure -----------------------------------------------------------------------------------


def test_too_long_a_step_is_rejected_and_the_run_recovers():
    """A bump that a long step does not see coming."""
    rng = np.random.default_rng(6)
    Q = normal(rng, (M, 2)) @ normal(rng, (2, N))
    Y0 = LowRank.from_dense(Q, rank=2)
    F = factored(lambda t, Y: Q / (1 + (50 * (t - 2)) ** 2))
    solution = dlra.solve(F, (0, 4), Y0, RungeKuttaBUG(), rtol=1e-6)
    assert solution.nrejected >= 3
    assert relative_error(solution.y_final, Q * (1 + 2 * math.atan(100) / 50)) < 1e-5
    lengths = np.diff(solution.t)
    assert lengths.max() > 20 * lengths[np.argmin(abs(solution.t[:-1] - 2))]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_from_too_long_a_step_is_rejected(value):
    """F is defined where ‖Y‖ < 3 only; long steps leave that set, the solution does not."""
    rng = np.random.default_rng(7)
    Y0 = random_lowrank(rng, M, N, 2)
    Y0 = Y0 * (1 / Y0.norm())
    seen = []

    def F(t, Y):
        seen.append(Y.norm() > 1.5)
        return (value if seen[-1] else -100.0) * Y

    solution = dlra.solve(factored(F), (0, 1), Y0, AugmentedBUG(substep="heun"), rtol=0.1, atol=0.5)
    assert any(seen) and solution.nrejected > 0 and solution.status == 0
    assert solution.y_final.norm() < 0.6


def test_nan_everywhere_ends_with_an_error_that_says_where():
    rng = np.random.default_rng(8)
    Y0 = random_lowrank(rng, M, N, 2)
    F = factored(lambda t, Y: (math.nan if t > 0.5 else 1.0) * Y)
    with pytest.raises(SolveError, match=r"step size at t = 0\.\d+.*below the resolution of t") as caught:
        dlra.solve(F, (0, 1), Y0, rtol=1e-3)
    solution = caught.value.solution
    assert solution.status == -1 and solution.t[-1] == pytest.approx(0.5, abs=1e-6)
    assert relative_error(solution.y_final, math.exp(0.5) * dense(Y0)) < 1e-2


def test_blow_up_in_finite_time():
    """Y' = Y² with Y0 = P/(rank one projection): Y(t) = P/(1 - t)."""
    u = np.ones((6, 1)) / math.sqrt(6)
    Y0 = LowRank(u, np.ones((1, 1)), u)
    for method in ("augmented-bug", RungeKuttaBUG(), "midpoint-bug"):
        failed = dlra.solve(
            factored(lambda Y: Y @ Y), (0, 2), Y0, method, rtol=1e-3, throw=False, max_steps=3000
        )
        assert failed.status == -1 and failed.t_final == pytest.approx(1.0, abs=0.02)
        text = failed.message
        assert ("below the resolution of t" in text and "singular" in text and "SemiLinear" in text) or (
            "overflow" in text
        )
        early = dlra.solve(factored(lambda Y: Y @ Y), (0, 0.9), Y0, method, rtol=1e-3)
        assert early.y_final.norm() == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("when", [1, 2, 7])
def test_an_exception_in_f_is_not_taken_for_too_long_a_step(when):
    rng, calls = np.random.default_rng(9), []

    def F(t, Y):
        calls.append(t)
        if len(calls) >= when:
            raise ZeroDivisionError("the user's own")
        return Y

    with pytest.raises(SolveError, match=r"F raised ZeroDivisionError: the user's own") as caught:
        dlra.solve(factored(F), (0, 1), random_lowrank(rng, M, N, 2), rtol=1e-3)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert len(calls) == when, "it is not tried again"


def test_bad_values_of_f_are_named_as_with_fixed_steps():
    Y0 = random_lowrank(np.random.default_rng(10), M, N, 2)
    with pytest.raises(ValueError, match="must have the shape of Y"):
        dlra.solve(lambda t, Y: Y[:2], (0, 1), Y0, rtol=1e-3)
    with pytest.raises(TypeError, match="is a return statement missing"):
        dlra.solve(lambda t, Y: None, (0, 1), Y0, rtol=1e-3)


def test_max_steps():
    F, Y0, _ = known()
    needed = dlra.solve(F, (0, 1), Y0, rtol=1e-4).nsteps
    assert dlra.solve(F, (0, 1), Y0, rtol=1e-4, max_steps=needed).status == 0
    with pytest.raises(SolveError, match=rf"max_steps = {needed - 1} steps did not reach") as caught:
        dlra.solve(F, (0, 1), Y0, rtol=1e-4, max_steps=needed - 1)
    assert "or dt" not in str(caught.value) and len(caught.value.solution.t) == needed


# ---- warnings ------------------------------------------------------------------------------------------------


def test_stiffness_is_noticed_and_names_the_remedy():
    n, rng = 30, np.random.default_rng(11)
    rates, U = -np.linspace(100, 2000, n), random_orthonormal(rng, n, 2)
    Q = LowRank(U, np.eye(2), random_orthonormal(rng, n, 2))
    source = LowRank(-rates[:, None] * U, None, Q.V)
    plain = factored(lambda Y: LowRank(rates[:, None] * Y.U, Y.S, Y.V) + source)
    with pytest.warns(DlraWarning, match=r"stiff.*dlra\.SemiLinear\(A, B, G\).*exponential") as caught:
        solution = dlra.solve(plain, (0, 0.4), 2 * Q, AugmentedBUG(), rtol=1e-2)
    assert sum("stiff" in str(w.message) for w in caught) == 1, "once a run"
    with warnings.catch_warnings():
        warnings.simplefilter("error", DlraWarning)
        declared = dlra.solve(SemiLinear(np.diag(rates), None, source), (0, 0.4), 2 * Q, rtol=1e-2)
    assert declared.nsteps < solution.nsteps / 2 and declared.nfev < solution.nfev / 10


def test_no_word_of_stiffness_where_accuracy_limits_the_steps():
    rng = np.random.default_rng(12)
    W = normal(rng, (M, M))
    W = 20 * (W - W.T) / norm(W)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DlraWarning)
        solution = dlra.solve(
            factored(lambda Y: W @ Y), (0, 1), random_lowrank(rng, M, M, 2), MidpointBUG(), rtol=1e-5
        )
    assert solution.nsteps > 40


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tolerance_below_the_dtype_warns_once_and_runs(dtype):
    _, Y0, exact = known()
    Y0 = Y0.astype(dtype)
    G = factored(lambda t, Y: np.asarray(math.cos(t), dtype) * (exact(math.pi / 2) - exact(0)).astype(dtype))
    rtol = {"float32": 1e-7, "float64": 1e-16}[dtype]
    with pytest.warns(DlraWarning, match=rf"rtol={rtol:g} is below what the dtype can give") as caught:
        solution = dlra.solve(G, (0, 0.1), Y0, RungeKuttaBUG(), rtol=rtol)
    assert sum("below what the dtype" in str(w.message) for w in caught) == 1
    assert relative_error(solution.y_final, exact(0.1)) < {"float32": 1e-4, "float64": 1e-12}[dtype]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DlraWarning)
        dlra.solve(G, (0, 0.1), Y0, RungeKuttaBUG(), rtol={"float32": 1e-4, "float64": 1e-10}[dtype])


# ---- times and events ----------------------------------------------------------------------------------------


def test_times_are_landed_on_and_do_not_spoil_the_step_length():
    F, Y0, exact = known()
    times = [0.0, 0.1, 0.1 + 1e-9, 0.5, math.sqrt(0.5), 1.0]
    solution = dlra.solve(F, (0, 1), Y0, MidpointBUG(), rtol=1e-5, t_eval=times)
    assert solution.t.tolist() == times and len(solution.y) == len(times)
    for t, Y in zip(times, solution.y, strict=True):
        assert norm(dense(Y) - exact(t)) < 1e-4 * norm(exact(1))
    free = dlra.solve(F, (0, 1), Y0, MidpointBUG(), rtol=1e-5)
    assert solution.nsteps < free.nsteps + 15


@pytest.mark.parametrize(
    "method", [MidpointBUG(), RungeKuttaBUG(), ProjectorSplitting()], ids=lambda m: m.name
)
def test_backward_in_time(method):
    rng = np.random.default_rng(13)
    W = normal(rng, (M, M)) / 4
    F, Y0 = factored(lambda t, Y: math.cos(t) * (W @ Y)), random_lowrank(rng, M, N, 3)
    there = dlra.solve(F, (0, 2), Y0, method, rtol=1e-6)
    back = dlra.solve(F, (2, 0), there.y_final, method, rtol=1e-6, t_eval=[1.5, 0.25, 0])
    assert relative_error(back.y_final, Y0) < 1e-4
    assert back.t.tolist() == [1.5, 0.25, 0] and back.errors.time[-1] > 0
    assert back.nsteps > 3


@pytest.mark.parametrize(
    "method", [AugmentedBUG(), MidpointBUG(), ProjectedRungeKutta("dopri5")], ids=lambda m: m.name
)
@pytest.mark.parametrize("when", [1e-4, 0.3])
def test_states_at_events_are_as_accurate_as_others(method, when):
    """Also within the first step, which starts from widened bases."""
    F, Y0, exact = known()
    for terminal in (True, False):
        solution = dlra.solve(
            F, (0, 0.5), Y0, method, rtol=1e-6, events=Event(lambda s: s.t - when, terminal=terminal)
        )
        (t,), (Y,) = solution.t_events[0], solution.y_events[0]
        assert t == pytest.approx(when, rel=1e-6)
        assert norm(dense(Y) - exact(t)) < 1e-5 * norm(exact(t))
        assert solution.t_final == (t if terminal else 0.5)


def test_a_nonterminal_event_leaves_the_trajectory_untouched():
    F, Y0, _ = known()
    plain = dlra.solve(F, (0, 1), Y0, MidpointBUG(), rtol=1e-4)
    watched = dlra.solve(F, (0, 1), Y0, MidpointBUG(), rtol=1e-4, events=Event(lambda s: s.t - 0.4))
    assert bits(watched.y) == bits(plain.y) and watched.t.tolist() == plain.t.tolist()


# ---- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [MidpointBUG(), ProjectedRungeKutta("dopri5"), ParallelBUG(), ProjectorSplitting()],
    ids=lambda m: m.name,
)
def test_a_resumed_run_has_the_same_bits(method, tmp_path):
    pytest.importorskip("h5py")
    rng = np.random.default_rng(14)
    A, Q = normal(rng, (M, M)), normal(rng, (M, 3)) @ normal(rng, (3, N))
    F = factored(lambda t, Y: A @ Y * math.cos(3 * t) + math.exp(-200 * (t - 0.5) ** 2) * 10 * Q)
    Y0 = random_lowrank(rng, M, N, 2)
    options = {"rtol": 3e-3 if method.order == 1 else 1e-4, "rng": 1}
    whole = dlra.solve(F, (0, 1), Y0, method, **options)
    assert whole.nrejected > 0 and whole.nsteps > 6
    stop = whole.nsteps // 2
    cut = dlra.solve(
        F, (0, 1), Y0, method, **options, checkpoint=tmp_path / "run.h5", callback=lambda s: s.step == stop
    )
    assert cut.nsteps == stop
    resumed = dlra.solve(F, (0, 1), Y0, method, **options, resume=tmp_path / "run.h5")
    assert solution_bits(resumed) == solution_bits(whole)
    assert resumed.nrejected == whole.nrejected
    with pytest.raises(ValueError, match=r"tolerance|rtol"):
        dlra.solve(F, (0, 1), Y0, method, rtol=1e-5, resume=tmp_path / "run.h5")


def test_iterate_gives_the_states_of_solve():
    F, Y0, _ = known()
    solution = dlra.solve(F, (0, 1), Y0, rtol=1e-3)
    states = list(dlra.iterate(F, (0, 1), Y0, rtol=1e-3))
    assert [s.t for s in states] == solution.t.tolist() and bits([s.y for s in states]) == bits(solution.y)
    assert states[-1].errors.time == solution.errors.time[-1] > 0 == states[0].errors.time


# ---- systems, libraries, precision ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [MidpointBUG(), RungeKuttaBUG(), ProjectorSplitting()], ids=lambda m: m.name
)
def test_systems(method):
    """A low-rank member driven by dense ones: sin, cos from b' = Jb."""
    rng = np.random.default_rng(15)
    Q = normal(rng, (M, 2)) @ normal(rng, (2, N))
    Y0 = LowRank.from_dense(Q, rank=2)

    def F(t, Ys):
        _, b = Ys
        return [b[0] * Q, np.array([-b[1], b[0]])]

    solution = dlra.solve(factored(F), (0, 2), [Y0, np.array([1.0, 0.0])], method, rtol=1e-5)
    Y, b = solution.y_final
    assert relative_error(Y, (1 + math.sin(2)) * Q) < 1e-4
    assert b == pytest.approx([math.cos(2), math.sin(2)], abs=1e-4)
    assert solution.errors.time[-1] > 0


def test_a_member_of_a_system_is_widened_alone():
    F, Y0, exact = known()
    rng = np.random.default_rng(16)
    Z0 = random_lowrank(rng, 8, 7, 2)
    system = factored(lambda t, Ys: [F(t, Ys[0]), -Ys[1]])
    solution = dlra.solve(system, (0, 1), [Y0, Z0], AugmentedBUG(), rtol=1e-4)
    assert solution.rank[-1] == (5, 2) and max(z for _, z in solution.rank) == 2
    assert relative_error(solution.y_final[0], exact(1)) < 1e-3
    assert relative_error(solution.y_final[1], math.exp(-1) * dense(Z0)) < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision(dtype):
    rng = np.random.default_rng(17)
    W = normal(rng, (M, M), "complex128")
    W = (W - W.conj().T) if dtype == "complex64" else np.real(W - W.T)
    W = (W / norm(W)).astype(dtype)
    Y0 = random_lowrank(rng, M, N, 3, dtype)
    wide = "complex128" if dtype == "complex64" else "float64"
    F = factored(lambda Y: W @ Y)
    solution = dlra.solve(F, (0, 2), Y0, MidpointBUG(), rtol=1e-3)
    G = factored(lambda Y: W.astype(wide) @ Y)
    expected = dlra.solve(G, (0, 2), Y0.astype(wide), RungeKuttaBUG(), rtol=1e-9)
    assert all(a.dtype == dtype for a in solution.y_final.factors)
    assert relative_error(solution.y_final, expected.y_final) < 1e-2


def test_libraries(eager_library):
    """The random vectors are the same in each library: so are the steps."""
    library, results = eager_library, {}
    rng = np.random.default_rng(18)
    Q, Y0 = normal(rng, (M, 4)) @ normal(rng, (4, N)), random_lowrank(rng, M, N, 1)
    for home in (None, library):
        q = Q if home is None else home.asarray(Q)
        start = Y0 if home is None else LowRank(*(home.asarray(a) for a in Y0.factors))
        results[home] = dlra.solve(
            factored(lambda t, Y, q=q: math.cos(t) * q), (0, 1), start, MidpointBUG(), rtol=1e-4
        )
    here, there = results[None], results[library]
    assert all(library.owns(a) for a in there.y_final.factors)
    assert relative_error(there.y_final, here.y_final) < 1e-10
    assert there.nsteps == here.nsteps and there.rank.tolist() == here.rank.tolist()


def test_jax():
    pytest.importorskip("jax")
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        u, v = jax.numpy.ones((M, 1)), jax.numpy.ones((N, 1))
        Y0 = LowRank(u, None, v)
        solution = dlra.solve(
            factored(lambda Y: -1.0 * Y), (0, 1), Y0, ProjectorSplitting(order=1), rtol=1e-2
        )
        assert relative_error(solution.y_final, math.exp(-1) * np.ones((M, N))) < 1e-2
    finally:
        jax.config.update("jax_enable_x64", before)


# ---- what the tests above notice -----------------------------------------------------------------------------


def test_an_integrator_of_ones_own_gets_its_steps_from_step_doubling():
    class Euler(Integrator):
        name, order = "dense-euler", 1

        def step(self, t, h, Ys, field):
            ((G,),) = yield [Ask("start", t, Ys)]
            X = Ys[0].to_dense() + h * (G @ np.eye(N))
            return StepResult((LowRank.from_dense(X, rank=Ys[0].rank),))

    Y0 = random_lowrank(np.random.default_rng(19), M, N, 2)
    solution = dlra.solve(factored(lambda Y: -Y), (0, 1), Y0, Euler(), rtol=1e-3)
    assert relative_error(solution.y_final, math.exp(-1) * dense(Y0)) < 5e-3
    assert solution.nsteps > 20


def invisible():
    """A field that is normal to the tangent space at the start: P(Y₀) F = 0."""
    U, V = np.eye(M, 3), np.eye(N, 3)  # so that P(Y₀) F has no rounding errors
    Q = U[:, 1:] @ V[:, 1:].T
    return factored(lambda t, Y: math.cos(t) * Q), LowRank(U[:, :1], None, V[:, :1]), Q


@growing
def test_a_field_that_no_tangent_vector_sees_is_followed(method):
    F, Y0, Q = invisible()
    solution = dlra.solve(F, (0, 1), Y0, method, rtol=1e-5)
    assert relative_error(solution.y_final, dense(Y0) + math.sin(1) * Q) < 1e-4
    assert solution.y_final.rank == 3


def test_without_widened_bases_it_is_not(monkeypatch):
    """The control of the tests of growing ranks: they would notice."""
    F, Y0, Q = invisible()
    monkeypatch.setattr(AdaptiveSteps, "_widened", lambda self, Ys, *_: (Ys, 0.0))
    solution = dlra.solve(F, (0, 1), Y0, AugmentedBUG(), rtol=1e-5)
    assert relative_error(solution.y_final, dense(Y0) + math.sin(1) * Q) > 0.1


@pytest.mark.parametrize("method", [m for m in GROWING if m.keeps_symmetry], ids=lambda m: m.name)
def test_widened_bases_of_a_symmetric_field_stay_one_array(method):
    rng = np.random.default_rng(22)
    Q, A = normal(rng, (M, 4), "complex128"), normal(rng, (M, M), "complex128") / 3
    u = random_orthonormal(rng, M, 1, "complex128")
    C = LowRank(Q, None, Q)
    F = factored(lambda t, Y: math.cos(t) * C + A @ Y + Y @ A.conj().T, symmetric=True)
    solution = dlra.solve(F, (0, 0.2), LowRank(u, None, u), method, rtol=1e-4)
    assert solution.y_final.rank > 4
    assert all(Y.V is Y.U and np.array_equal(Y.S, Y.S.conj().T) for Y in solution.y)


def test_the_controller():
    steps = control.StepControl(rtol=1e-3, atol=1e-6, span=10.0, order=2)
    assert steps.allowed(1.0, 5.0) == pytest.approx((1e-6 + 5e-3) / 10)
    assert steps.allowed(-1.0, 5.0) == steps.allowed(1.0, 5.0)
    assert steps.allowed(1e-9, 5.0) == pytest.approx((1e-6 + 5e-3) * 1e-3), "a floor for initial layers"
    assert steps.allowed(1e-9, 5.0, spent=1.0) == pytest.approx((1e-6 + 5e-3) * 1e-10), "not for ever"
    assert steps.excess(1e-3) == pytest.approx(9e-4) and steps.excess(1.0) == 0.0
    assert steps.factor(math.inf, 1.0) == steps.SMALLEST and steps.factor(0.0, 1.0) == steps.LARGEST
    assert steps.factor(4.0, 1e-3) == pytest.approx(0.9 / 2), "a rejected step forgets the past"
    assert steps.factor(0.25, 0.25) == pytest.approx(0.9 * 4 ** (0.3 / 2))
    assert steps.factor(0.5, 0.05) < steps.factor(0.5, 0.5), "a growing error makes it careful"


def test_the_estimate_of_the_normal_component_is_unbiased():
    rng = np.random.default_rng(20)
    for dtype in ("float64", "complex128"):
        Q, Y = normal(rng, (M, N), dtype), random_lowrank(rng, M, N, 3, dtype)
        rest = Q - Y.U @ (Y.U.conj().T @ Q)
        exact = norm(rest - rest @ Y.V @ Y.V.conj().T)
        found = [control.normal_estimate(Y, Q, (seed,))[0] ** 2 for seed in range(400)]
        assert math.sqrt(np.mean(found)) == pytest.approx(exact, rel=0.05)
        wide = control.widened(Y, Value(Q, Y.dtype), 4, (1,), (None, None))
        assert wide.rank == 7 and relative_error(wide, Y) < 1e-14
        assert bits(wide.U[:, :3]) == bits(Y.U) and bits(wide.V[:, :3]) == bits(Y.V)
        assert control.normal_estimate(wide, Q, (2,))[0] < exact


@pytest.mark.parametrize("where", ["save", "event"])
@pytest.mark.parametrize("method", [MidpointBUG(), ParallelBUG()], ids=lambda m: m.name)
def test_a_run_ended_by_a_users_function_resumes_with_the_same_bits(method, where, tmp_path):
    """The step length is that of the last state that became part of the run."""
    pytest.importorskip("h5py")
    rng = np.random.default_rng(14)
    A, Q = normal(rng, (M, M)), normal(rng, (M, 3)) @ normal(rng, (3, N))
    F = factored(lambda t, Y: A @ Y * math.cos(3 * t) + math.exp(-200 * (t - 0.5) ** 2) * 10 * Q)
    Y0, path, armed = random_lowrank(rng, M, N, 2), tmp_path / "run.h5", [False]

    def watch(state):
        if armed[0] and state.t > 0.55:
            raise ArithmeticError
        return state.t

    options = {"rtol": 3e-2 if method.order == 1 else 1e-4, "rng": 1}
    options |= {"save": watch} if where == "save" else {"events": Event(lambda s: watch(s) - 2.0)}
    whole = dlra.solve(F, (0, 1), Y0, method, **options)
    armed[0] = True
    part = dlra.solve(F, (0, 1), Y0, method, **options, checkpoint=path, throw=False)
    assert part.status == -1 and 3 < part.nsteps < whole.nsteps
    armed[0] = False
    resumed = dlra.solve(F, (0, 1), Y0, method, **options, resume=path)
    assert solution_bits(resumed) == solution_bits(whole) and resumed.nrejected == whole.nrejected


@pytest.mark.filterwarnings("ignore:overflow|invalid value")
@pytest.mark.parametrize(
    "method", [StepTruncation("dopri5"), ProjectedRungeKutta("dopri5")], ids=lambda m: m.name
)
def test_growth_beyond_the_largest_number(method):
    """Y' = 1000 Y overflows at t = 0.71."""
    Y0 = random_lowrank(np.random.default_rng(15), M, N, 2)
    with pytest.raises(SolveError) as caught:
        dlra.solve(factored(lambda t, Y: 1e3 * Y), (0, 2), Y0, method, rtol=1e-2)
    solution = caught.value.solution
    assert 0.5 < solution.t_final < 0.72 and math.isfinite(solution.y_final.norm())


@pytest.mark.parametrize("order", [1, 2])
def test_projected_exponential_steps_of_a_state_that_has_all_but_vanished(order):
    A = -np.diag(np.arange(1.0, M + 1))
    Y0 = 1e-270 * random_lowrank(np.random.default_rng(16), M, N, 2)
    for options in ({"rtol": 1e-3}, {"dt": 0.25}):
        method = ProjectedExponential(order)
        Y = dlra.solve(SemiLinear(A, None, lambda t, Y: 0.1 * Y), (0, 1), Y0, method, **options).y_final
        assert 0 < Y.norm() < Y0.norm()


@pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")
def test_a_nonterminal_event_leaves_the_random_numbers_untouched():
    F, Y0, _ = known()
    plain, watched = (
        dlra.solve(F, (0, 1), Y0, RandomizedSVD(max_rank=3), rng=3, events=events, dt=0.125)
        for events in (None, Event(lambda s: s.t - 0.41))
    )
    assert len(watched.t_events[0]) == 1
    assert bits(watched.y) == bits(plain.y) and watched.t.tolist() == plain.t.tolist()
