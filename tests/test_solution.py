"""The Solution: what it says of a run, and its file."""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
import pytest
from helpers import M, N, R, dense, normal, random_lowrank, to_numpy
from manufactured import bits, solution_bits

import dlra
from dlra import AugmentedBUG, ErrorBudget, Event, LowRank, Solution, SolveError, State, factored

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")


def solved(dtype="float64", **options) -> Solution:
    rng = np.random.default_rng(1)
    B, Y0 = normal(rng, (9, 9), dtype) / 3, random_lowrank(rng, 9, 7, 3, dtype)
    return dlra.solve(lambda t, Y: B @ Y + math.sin(t), (0, 1), Y0, **{"dt": 0.25, **options})


def coupled(**options) -> Solution:
    rng = np.random.default_rng(2)
    Ys = [random_lowrank(rng, 9, 7, 3), normal(rng, (5,)), random_lowrank(rng, 4, 6, 2)]
    return dlra.solve(lambda Ys: [-Y for Y in Ys], (0, 1), Ys, **{"dt": 0.25, **options})


# ---- what it says --------------------------------------------------------------------------------------------


def test_the_parts_of_a_solution():
    s = solved()
    assert s.t.tolist() == [0, 0.25, 0.5, 0.75, 1] and s.t.dtype == np.float64
    assert len(s.y) == 5 and all(isinstance(Y, LowRank) and Y.shape == (9, 7) for Y in s.y)
    assert s.rank.tolist() == [3] * 5 and s.rank.dtype == np.int64
    assert (s.nsteps, s.nfev, s.status, s.success, s.message) == (4, 40, 0, True, "Reached t = 1.")
    assert s.t_final == 1.0 and bits(s.y_final) == bits(s.y[-1])
    assert s.saved is None and s.t_events == [] and s.y_events == []
    assert s.method.startswith("AugmentedBUG(") and solved(method="bug").method.startswith("BUG(")
    for part in (s.errors.time, s.errors.truncation, s.errors.normal, s.errors.total, s.errors.local.normal):
        assert part.shape == (5,)


def test_the_parts_of_a_systems_solution():
    s = coupled()
    assert s.rank == [(3, 5, 2)] * 5, "a plain array counts with the smaller of its dimensions"
    assert all(isinstance(y, list) and [type(m) for m in y] == [LowRank, np.ndarray, LowRank] for y in s.y)
    assert [m.shape for m in s.y_final] == [(9, 7), (5,), (4, 6)]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, ("t = 1,", "rank 3", "4 steps", "40 evaluations", "5 states")),
        ({"t_eval": [0.5]}, ("t = 1,", "rank 3", "4 steps", "1 state ")),
        ({"callback": lambda s: s.t > 0.4}, ("stopped", "t = 0.5", "2 steps", "20 evaluations", "3 states")),
        ({"max_steps": 1, "throw": False}, ("failed", "t = 0.25", "1 step")),
        ({"t_eval": [1.0], "callback": lambda s: True}, ("rank -", "t = 0.25", "0 states")),
    ],
    ids=["end", "t_eval", "callback", "failed", "nothing"],
)
def test_its_repr_is_one_line(options, parts):
    text = repr(solved(**options))
    assert text.startswith("Solution(") and "\n" not in text and len(text) < 120
    for part in parts:
        assert part in text


def test_a_run_that_stored_nothing():
    stopped = solved(callback=lambda s: True, t_eval=[1.0])
    assert stopped.t.shape == (0,) and stopped.y == [] and stopped.rank.shape == (0,)
    assert stopped.t_final == 0.25 and stopped.y_final.rank == 3
    assert "rank (3, 5, 2)" in repr(coupled())


@pytest.mark.parametrize(("status", "success"), [(0, True), (1, True), (-1, False)])
def test_success_means_not_failed(status, success):
    s = solved()
    s.status = status
    assert s.success is success


def test_an_error_budget_is_the_sum_of_its_parts():
    budget = ErrorBudget(time=1e-3, truncation=2e-3, normal=4e-3)
    assert budget.total == pytest.approx(7e-3) == budget["total"] and budget["normal"] == 4e-3
    after = budget.after(-0.5, 1e-3, 2.0, 3e-3)
    assert (after.time, after.truncation, after.normal) == pytest.approx((4e-3, 3e-3, 4e-3 + 1.0))
    assert (after.local.time, after.local.truncation, after.local.normal) == (3e-3, 1e-3, 2.0)
    assert math.isnan(ErrorBudget().after(0.1, 0.0, 0.0).time) and math.isnan(ErrorBudget().total)
    with pytest.raises(KeyError, match="'size'"):
        budget["size"]


def test_states_are_small_and_frozen():
    state = next(dlra.iterate(lambda Y: Y, (0, 1), LowRank(np.eye(3, 1), None, np.eye(2, 1)), dt=0.1))
    assert isinstance(state, State) and (state.t, state.step, state.rank) == (0.0, 0, 1)
    with pytest.raises(AttributeError):
        state.t = 1.0


# ---- its file ------------------------------------------------------------------------------------------------

h5 = pytest.importorskip("h5py")

SOLUTIONS = {
    "plain": solved,
    "complex": lambda: solved("complex128", method=AugmentedBUG(rtol=1e-3)),
    "single": lambda: solved("float32"),
    "t_eval": lambda: solved(t_eval=[0.0, 0.3]),
    "nothing stored": lambda: solved(t_eval=[1.0], callback=lambda s: True),
    "save": lambda: solved(save=lambda s: {"t": s.t, "more": [s.rank, "text", None, (1j, s.y.U)]}),
    "events": lambda: solved(
        events=[Event(lambda s: s.t - 0.6), Event(lambda s: s.y.norm() - 1.1, terminal=True)]
    ),
    "system": coupled,
    "system with events": lambda: coupled(events=Event(lambda s: s.t - 0.3)),
    "failed": lambda: solved(max_steps=2, throw=False),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_file_keeps_every_bit(name, tmp_path):
    path, solution = tmp_path / "solution.h5", SOLUTIONS[name]()
    solution.save(path)
    loaded = Solution.load(str(path))
    assert isinstance(loaded, Solution)
    assert solution_bits(loaded) == solution_bits(solution)
    assert repr(loaded) == repr(solution) and loaded.method == solution.method
    assert type(loaded.rank) is type(solution.rank) and type(loaded.saved) is type(solution.saved)
    if loaded.y and isinstance(loaded.y[0], LowRank):
        assert loaded.y_final.norm() == pytest.approx(solution.y_final.norm(), rel=1e-6)
    loaded.save(path)
    assert solution_bits(Solution.load(path)) == solution_bits(solution)


def test_low_rank_matrices_among_the_saved_ones_come_back(tmp_path):
    """Also those whose factors are not orthonormal, or whose core is the identity."""
    path = tmp_path / "solution.h5"
    K = lambda s: LowRank(3 * s.y.U, None, s.y.V + 1)  # noqa: E731
    solution = solved(save=lambda s: (s.t, {"K": K(s), "Y": [s.y]}))
    solution.save(path)
    loaded = Solution.load(path).saved
    assert bits(loaded) == bits(solution.saved)
    for (_, a), (_, b) in zip(loaded, solution.saved, strict=True):
        assert a["K"].norm() == b["K"].norm() == pytest.approx(np.linalg.norm(dense(a["K"])))
        assert a["Y"][0].norm() == b["Y"][0].norm()


def test_arrays_of_other_libraries_are_copied_to_the_host(foreign, tmp_path):
    path, rng = tmp_path / "solution.h5", np.random.default_rng(3)
    Y0 = random_lowrank(rng, M, N, R, library=foreign)
    for save in (None, lambda s: [s.y.V, s.y]):
        solution = dlra.solve(
            factored(lambda Y: -1.0 * Y), (0, 1), Y0, AugmentedBUG(substep="euler"), dt=0.5, save=save,
            events=Event(lambda s: s.t - 0.7),
        )  # fmt: skip
        solution.save(path)
        loaded = Solution.load(path)
        assert solution_bits(loaded) == solution_bits(solution)
        assert type(loaded.y_final.U) is np.ndarray and type(loaded.y_events[0][0].U) is np.ndarray
        if save:
            assert type(loaded.saved[0][0]) is np.ndarray and type(loaded.saved[0][1].U) is np.ndarray
    assert foreign.owns(solution.y_final.U) and np.array_equal(to_numpy(solution.y_final.U), loaded.y_final.U)


def test_what_a_file_cannot_hold_is_named(tmp_path):
    path = tmp_path / "solution.h5"
    solved().save(path)
    before = path.read_bytes()
    Pair = namedtuple("Pair", "a b")
    for thing, name in ((object(), "object"), ({1, 2}, "set"), (Pair(1, 2), "Pair"), (lambda: 0, "function")):
        with pytest.raises(TypeError, match=rf"cannot store saved\[0\]\[.what.\].*{name}"):
            solved(save=lambda s, thing=thing: {"what": thing}).save(path)
    assert path.read_bytes() == before


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "solution.h5"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Solution.load(path)
    solved(checkpoint=path)
    with pytest.raises(ValueError, match="holds a checkpoint, not a solution"):
        Solution.load(path)
    solved().save(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="torn"):
        Solution.load(path)
    path.write_text("t,y\n0,1\n")
    with pytest.raises(ValueError, match="foreign"):
        Solution.load(path)
    with pytest.raises(FileNotFoundError, match="create the directory"):
        solved().save(tmp_path / "no" / "solution.h5")


def test_the_partial_solution_of_a_failure_can_be_saved(tmp_path):
    with pytest.raises(SolveError) as caught:
        solved(max_steps=2)
    caught.value.solution.save(tmp_path / "part.h5")
    assert Solution.load(tmp_path / "part.h5").message == str(caught.value)


# ---- a-posteriori bounds -----------------------------------------------------------------------------------------


def test_an_error_of_the_start_grows_from_t0_on():
    """Also where t_eval leaves the initial state out."""
    Y0 = random_lowrank(np.random.default_rng(3), 9, 7, 3)
    for t_eval in ([1.0], [0.5, 1.0], None):
        s = dlra.solve(factored(lambda t, Y: 0.1 * Y), (0, 1), Y0, rtol=1e-6, t_eval=t_eval)
        bound = s.error_bound(5.0, initial=1e-3)
        assert bound.shape == s.t.shape
        assert np.all(bound >= 0.999e-3 * np.exp(5 * s.t)), (bound, s.t)
        assert bound[-1] < 1.1 * (1e-3 + float(s.errors.total[-1])) * math.exp(5)


def test_bounds_for_contracting_and_for_wildly_growing_fields():
    Y0 = random_lowrank(np.random.default_rng(3), 9, 7, 3)
    s = dlra.solve(factored(lambda t, Y: -Y), (0, 1), Y0, rtol=1e-6, t_eval=[0.5, 1.0])
    bound = s.error_bound(-3.0, initial=1.0)
    assert np.allclose(bound, np.exp(-3 * s.t), rtol=1e-3)
    assert s.error_bound(1e6, initial=1.0)[-1] == math.inf
    assert np.all(s.error_bound(-1e6, initial=1.0) < 1e-3)
    backward = dlra.solve(factored(lambda t, Y: -Y), (1, 0), Y0, rtol=1e-6, t_eval=[0.0])
    assert backward.error_bound(2.0, initial=1e-3)[-1] >= 0.999e-3 * math.exp(2)


@pytest.mark.filterwarnings("ignore:the step from t = .* drops")
@pytest.mark.parametrize("mu", ["5", None, True, [1.0], 1j])
def test_a_rate_that_is_no_number_is_refused(mu):
    with pytest.raises(TypeError, match="mu must be a number"):
        solved().error_bound(mu)


@pytest.mark.filterwarnings("ignore:the step from t = .* drops")
@pytest.mark.parametrize("initial", [-1e-3, math.nan])
def test_an_error_of_the_start_is_not_negative(initial):
    with pytest.raises(ValueError, match="initial"):
        solved().error_bound(1.0, initial=initial)
