"""Checkpoints: the same bits after any interruption, the cadence, refusals, a full disk."""

from __future__ import annotations

import errno
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from helpers import M, N, R, get_library, normal, random_lowrank
from hypothesis import given, settings
from hypothesis import strategies as st
from manufactured import bits, solution_bits

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    Checkpoint,
    Event,
    Galerkin,
    LowRank,
    ProjectorSplitting,
    SemiLinear,
    SolveError,
    _files,
    factored,
)

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

pytest.importorskip("h5py")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


@dataclass(frozen=True)
class Case:
    """A run: its arguments for solve, dt = 0.1 over (0, 1)."""

    F: object
    Y0: object
    options: dict

    def solve(self, **more):
        given = {"t_span": (0, 1), "dt": 0.1, **self.options, **more}
        return dlra.solve(self.F, Y0=self.Y0, **given)


def field(rng, m=9, n=7, dtype="float64"):
    B, Q = normal(rng, (m, m), dtype) / 3, normal(rng, (m, n), dtype)
    return lambda t, Y: B @ Y + math.cos(t) * Q + 0.1 * Y * Y


def case(dtype="float64", Y0=None, **options) -> Case:
    rng = np.random.default_rng(1)
    return Case(field(rng, dtype=dtype), random_lowrank(rng, 9, 7, 3, dtype) if Y0 is None else Y0, options)


def coupled() -> Case:
    rng = np.random.default_rng(2)
    F = field(rng, 6, 5)
    Ys = [random_lowrank(rng, 6, 5, 2), random_lowrank(rng, 5, 4, 2), normal(rng, (6, 5)), normal(rng, (6,))]

    def system(t, Ys):
        Y, Z, W, b = Ys
        return [F(t, Y) + W, Z * Y.sum() / 20, np.sin(Y), -b * b[0]]

    return Case(system, Ys, {"method": AugmentedBUG(rtol=1e-3), "events": Event(lambda s: s.y[3][0] - 0.1)})


def stiff() -> Case:
    rng = np.random.default_rng(3)
    A, B = normal(rng, (9, 9)), normal(rng, (7, 7))
    return Case(
        SemiLinear(A, B, lambda t, Y: math.cos(t) * Y),
        random_lowrank(rng, 9, 7, 3),
        {"method": AugmentedBUG(rtol=1e-4)},
    )


def fortran() -> Case:
    """Factors in every memory order: products of other strides may differ in the last bit."""
    Y0 = case().Y0
    Y0 = LowRank(np.asfortranarray(Y0.U), np.asfortranarray(Y0.S), np.repeat(Y0.V, 2, axis=1)[:, ::2])
    return case(Y0=Y0, method="galerkin")


CASES = {
    "bug": lambda: case(method=BUG()),
    "augmented": lambda: case(method=AugmentedBUG()),
    "augmented-rtol": lambda: case(method=AugmentedBUG(rtol=1e-2)),
    "lie": lambda: case(method=ProjectorSplitting(order=1)),
    "strang": lambda: case(method=ProjectorSplitting()),
    "triple-jump": lambda: case(method=ProjectorSplitting(order=4, substep="heun")),
    "galerkin": lambda: case(method=Galerkin()),
    "adaptive": lambda: case(method=BUG(substep=dlra.substeps.Adaptive(rtol=1e-5))),
    "complex": lambda: case("complex128", method=AugmentedBUG(rtol=1e-2)),
    "single": lambda: case("float32", method=AugmentedBUG(rtol=1e-2)),
    "fortran": fortran,
    "stiff": stiff,
    "coupled": coupled,
    "backward": lambda: case(t_span=(0, -1)),
    "events": lambda: case(events=[Event(lambda s: s.y.norm() - 2), Event(lambda s: math.sin(20 * s.t), direction=1)]),
    "terminal": lambda: case(events=Event(lambda s: s.t - 0.83, terminal=True)),
    "t_eval": lambda: case(t_eval=[0.0, 0.15, 0.61, 1.0]),
    "save": lambda: case(save=lambda s: {"t": s.t, "norm": (s.y.norm(), s.rank), "U": s.y.U}),
    "save-lowrank": lambda: case(save=lambda s: [LowRank(2 * s.y.U, None, s.y.V), s.y], t_eval=[0.2, 0.7]),
    "rng": lambda: case(rng=7),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_has_the_bits_of_the_uninterrupted_one(name, tmp_path):
    """Stopped after 1, 4 and 7 steps: states, times, ranks, errors, events, what was saved, nfev."""
    path, run = tmp_path / "run.h5", CASES[name]()
    full = solution_bits(run.solve())
    for stop in (1, 4, 7):
        first = run.solve(checkpoint=path, callback=lambda s, stop=stop: s.step == stop)
        assert first.status == 1 and first.nsteps == stop
        assert solution_bits(run.solve(resume=path)) == full
    assert solution_bits(run.solve(checkpoint=Checkpoint(path, every=1))) == full, "writing changes nothing"
    if name != "terminal":  # there one resumes to go on
        assert solution_bits(run.solve(resume=path)) == full, "from its very end"


@pytest.mark.parametrize("name", ["augmented-rtol", "coupled", "events", "save", "t_eval", "stiff"])
def test_resuming_again_and_again(name, tmp_path):
    path, run = tmp_path / "run.h5", CASES[name]()
    run.solve(checkpoint=path, callback=lambda s: True)
    for _ in range(8):
        solution = run.solve(checkpoint=path, resume=path, callback=lambda s: True)
        assert solution.status == 1
    assert solution.nsteps == 9
    assert solution_bits(run.solve(resume=Checkpoint(path))) == solution_bits(run.solve())


def test_other_libraries(foreign, tmp_path):
    path, library = tmp_path / "run.h5", foreign
    rng = np.random.default_rng(4)
    B = library.asarray(normal(rng, (M, M), "float64") / 3)
    Ys = [random_lowrank(rng, M, N, R, "float64", library), library.asarray(normal(rng, (M,), "float64"))]
    run = Case(
        factored(lambda t, Ys: [dlra.matmul(B, Ys[0]), dlra.matmul(B, Ys[1])]), Ys,
        {"method": AugmentedBUG(substep="euler"), "save": lambda s: (s.t, s.y[1], s.y[0]), "dt": 0.25},
    )  # fmt: skip
    full = run.solve()
    run.solve(checkpoint=path, callback=lambda s: s.step == 2)
    resumed = run.solve(resume=path)
    assert solution_bits(resumed) == solution_bits(full)
    Y, b = resumed.y_final
    assert all(library.owns(a) for a in (*Y.factors, b))
    assert all(library.owns(saved[1]) and library.owns(saved[2].U) for saved in resumed.saved)


@cache
def with_event() -> tuple[Case, dict]:
    """A case, and the bits of its solution."""
    run = case(method=AugmentedBUG(rtol=1e-2, substep="heun"), events=Event(lambda s: math.sin(6 * s.t)))
    return run, solution_bits(run.solve())


@settings(max_examples=15)
@given(call=st.integers(5, 40), kind=st.sampled_from([KeyboardInterrupt, ArithmeticError]))
def test_whatever_evaluation_is_hit_the_run_goes_on_from_the_last_whole_step(call, kind, tmp_path_factory):
    """Ctrl-C or an exception in the middle of a step: its evaluations and its events are not counted twice."""
    path = tmp_path_factory.mktemp("hit") / "run.h5"
    run, full = with_event()
    calls = []

    def hit(t, Y):
        calls.append(t)
        if len(calls) == call:
            raise kind
        return run.F(t, Y)

    broken = replace(run, F=hit).solve(checkpoint=Checkpoint(path, every=1000), throw=False)
    assert broken.status == (1 if kind is KeyboardInterrupt else -1)
    assert broken.nfev == call and path.exists()
    assert solution_bits(run.solve(resume=path)) == full


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ArithmeticError])
@pytest.mark.parametrize("where", ["save", "event", "callback"])
def test_a_users_function_that_is_hit(where, kind, tmp_path):
    """In save the state counts as not yet reached: the resumed run saves it."""
    path = tmp_path / "run.h5"
    options = {"method": "galerkin", "save": lambda s: s.t, "events": Event(lambda s: math.sin(7 * s.t))}
    full = case(**options).solve()

    def hit(function):
        def wrapped(state):
            if state.t > 0.45:
                raise kind
            return function(state)

        return wrapped

    broken = dict(options)
    if where == "save":
        broken["save"] = hit(options["save"])
    elif where == "event":
        broken["events"] = Event(hit(options["events"].function))
    else:
        broken["callback"] = hit(lambda s: None)
    part = case(**broken).solve(checkpoint=path, throw=False)
    assert part.nsteps == (5 if where == "callback" else 4)
    assert solution_bits(case(**options).solve(resume=path)) == solution_bits(full)


def test_steps_after_a_terminal_event_have_the_right_length(tmp_path):
    """Resumed without waiting for it: from the event on, dt by dt."""
    path = tmp_path / "run.h5"
    stop, go_on = (Event(lambda s, a=a: s.t - a, terminal=True) for a in (0.43, 5.0))
    case(events=stop).solve(checkpoint=path)
    solution = case(events=go_on).solve(resume=path)
    assert np.allclose(solution.t, [0, 0.1, 0.2, 0.3, 0.4, 0.43, 0.53, 0.63, 0.73, 0.83, 0.93, 1.0])
    assert solution.t[-1] == 1.0 and solution.nsteps == 11


def test_t1_may_be_extended(tmp_path):
    path, run = tmp_path / "run.h5", case()
    run.solve(checkpoint=path)
    longer = run.solve(t_span=(0, 2), resume=path)
    assert longer.t[:11].tolist() == run.solve().t.tolist()
    assert longer.t[-1] == 2.0 and longer.nsteps == 20 and longer.status == 0
    once = run.solve(t_span=(0, 2))
    assert np.allclose(longer.t, once.t, rtol=1e-14)
    assert bits(longer.y[:11]) == bits(once.y[:11])
    a_bit = run.solve(t_span=(0, 1 + 1e-11), resume=path)
    assert a_bit.t[-1] == 1 + 1e-11, "even by less than what counts as a step elsewhere"


def test_iterate_resumes_too(tmp_path):
    path = tmp_path / "run.h5"
    run = case()
    states = list(dlra.iterate(run.F, (0, 1), run.Y0, dt=0.1))
    for state in dlra.iterate(run.F, (0, 1), run.Y0, dt=0.1, checkpoint=path):
        if state.step == 4:
            break
    del state
    resumed = list(dlra.iterate(run.F, (0, 1), run.Y0, dt=0.1, resume=path))
    assert [s.step for s in resumed] == [4, 5, 6, 7, 8, 9, 10], "first where the run goes on"
    assert bits([s.y for s in resumed]) == bits([s.y for s in states[4:]])
    assert bits([s.errors.normal for s in resumed]) == bits([s.errors.normal for s in states[4:]])
    with pytest.raises(ValueError, match="stored"):
        run.solve(resume=path)


def test_memory_order_is_restored(tmp_path):
    path = tmp_path / "run.h5"
    run = fortran()
    for state in dlra.iterate(run.F, (0, 1), run.Y0, "galerkin", dt=0.1, checkpoint=path):
        if state.step == 2:
            break
    resumed = next(dlra.iterate(run.F, (0, 1), run.Y0, "galerkin", dt=0.1, resume=path))
    for a, b in zip(state.y.factors, resumed.y.factors, strict=True):
        assert a.strides == b.strides and a.tobytes() == b.tobytes()
    assert state.y.U.flags.f_contiguous and not state.y.U.flags.c_contiguous


# ---- when it is written --------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch) -> list[int]:
    """The steps of all checkpoints written."""
    steps, write = [], _files.write
    monkeypatch.setattr(
        _files, "write", lambda path, kind, tree: (steps.append(tree["nsteps"]), write(path, kind, tree))
    )
    return steps


def test_cadence_in_steps(written, tmp_path):
    path = tmp_path / "run.h5"
    case().solve(checkpoint=Checkpoint(path, every=3))
    assert written == [1, 4, 7, 10]
    written.clear()
    case().solve(checkpoint=Checkpoint(path, every=4))
    assert written == [1, 5, 9, 10], "and at the end"
    written.clear()
    case().solve(checkpoint=Checkpoint(path, every=4), resume=path)
    assert written == [10], "the file given is written even where nothing was left to do"


def test_cadence_in_seconds(written, tmp_path, monkeypatch):
    path, clock = tmp_path / "run.h5", [0.0]
    monkeypatch.setattr("dlra.checkpoint.time.monotonic", lambda: clock[0])

    def tick(state):
        clock[0] += 4.0

    case().solve(checkpoint=path, callback=tick)
    assert written == [1, 4, 7, 10], "every 10 s by default"
    written.clear()
    case().solve(checkpoint=Checkpoint(path, every=4.5), callback=tick)
    assert written == [1, 3, 5, 7, 9, 10]


def test_the_file_exists_after_the_first_step_and_stays(tmp_path):
    path, seen = tmp_path / "run.h5", []
    case().solve(checkpoint=str(path), callback=lambda s: seen.append(path.exists()))
    assert seen == [False] + [True] * 9 and path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.parametrize("how", ["Ctrl-C", "failure", "callback", "event", "max_steps"])
def test_the_end_is_written_however_it_comes(how, written, tmp_path):
    path, run = tmp_path / "run.h5", case()

    def F(t, Y):
        if t > 0.45 and how in ("Ctrl-C", "failure"):
            raise KeyboardInterrupt if how == "Ctrl-C" else ArithmeticError
        return run.F(t, Y)

    options = {"callback": {"callback": lambda s: s.step == 4}, "max_steps": {"max_steps": 4}}
    options["event"] = {"events": Event(lambda s: s.t - 0.33, terminal=True)}
    replace(run, F=F).solve(checkpoint=path, throw=False, **options.get(how, {}))
    assert written == [1, 4] and _files.read(path, "checkpoint")["nsteps"] == 4


def test_a_run_that_fails_at_once_leaves_an_earlier_checkpoint_alone(tmp_path):
    """A mistake in a second attempt must not cost the work of the first."""
    path, run = tmp_path / "run.h5", case()
    run.solve(checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="None; is a return"):
        replace(run, F=lambda t, Y: None).solve(checkpoint=path)
    with pytest.raises(SolveError, match="ZeroDivisionError"):
        replace(run, F=lambda t, Y: 1 / 0).solve(checkpoint=path)
    with pytest.raises(ValueError, match="dt"):
        run.solve(checkpoint=path, dt=-1)
    assert path.read_bytes() == before


# ---- kill -9 -------------------------------------------------------------------------------------------------

PROGRAM = textwrap.dedent(
    """
    import sys, time
    import numpy as np
    import dlra

    def arguments():
        rng = np.random.default_rng(11)
        B, Q = rng.standard_normal((12, 12)) / 3, rng.standard_normal((12, 9))
        Y0 = dlra.LowRank.from_dense(rng.standard_normal((12, 9)), rank=3)
        F = lambda t, Y: B @ Y - Y + np.cos(t) * Q
        return F, (0, 7), Y0, dlra.AugmentedBUG(rtol=1e-2)

    def options():
        return dict(
            dt=0.02, events=dlra.Event(lambda s: np.sin(3 * s.t)), save=lambda s: (s.t, s.y.norm(), s.y.U[0])
        )

    def main(path, resume):
        F, span, Y0, method = arguments()

        def slow(t, Y):
            time.sleep(5e-4)
            return F(t, Y)

        dlra.solve(
            slow, span, Y0, method, checkpoint=dlra.Checkpoint(path, every=1),
            resume=path if resume else None, **options(),
        )
        print("done")

    if __name__ == "__main__":
        main(sys.argv[1], sys.argv[2] == "resume")
    """
)


def kill_and_resume(path, times, seed):
    """Start, kill at a random moment after the first checkpoint, resume, ..., finish here; return the steps reached."""
    rng = np.random.default_rng(seed)
    reached = []
    for i in range(times):
        mode = "resume" if i else "start"
        child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), mode], stdout=subprocess.PIPE)
        try:
            stamp = path.stat().st_mtime_ns if path.exists() else None
            deadline = time.monotonic() + 60
            while not path.exists() or path.stat().st_mtime_ns == stamp:
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.2))
            assert child.poll() is None, "it was not killed: make the run longer"
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate()
        assert child.returncode == -signal.SIGKILL
        reached.append(_files.read(path, "checkpoint")["nsteps"])
    assert reached == sorted(set(reached)), "each attempt got on"
    return reached


def check_killed(path, times, seed):
    space = {"__name__": "program"}
    exec(PROGRAM, space)
    F, span, Y0, method = space["arguments"]()
    full = dlra.solve(F, span, Y0, method, **space["options"]())
    reached = kill_and_resume(path, times, seed)
    assert reached[-1] < full.nsteps
    resumed = dlra.solve(F, span, Y0, method, checkpoint=path, resume=path, **space["options"]())
    assert solution_bits(resumed) == solution_bits(full)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file is left for good"


@posix
def test_kill_9_and_resume_gives_the_same_bits(tmp_path):
    check_killed(tmp_path / "run.h5", 3, 1)


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_kill_9_twenty_times(tmp_path, seed):
    check_killed(tmp_path / "run.h5", 5, 10 + seed)


@posix
def test_ctrl_c_of_another_process_writes_a_checkpoint(tmp_path):
    """SIGINT: the run ends normally, and its file has the last step, not the last one that was due."""
    path = tmp_path / "run.h5"
    program = PROGRAM.replace("every=1)", "every=1000)")
    child = subprocess.Popen([sys.executable, "-c", program, str(path), "start"], stdout=subprocess.PIPE)
    try:
        while not path.exists():
            assert child.poll() is None
            time.sleep(0.002)
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0 and out == b"done\n"
    assert _files.read(path, "checkpoint")["nsteps"] > 1


# ---- refusals ------------------------------------------------------------------------------------------------


@pytest.fixture
def half(tmp_path):
    path = tmp_path / "run.h5"
    case().solve(checkpoint=path, callback=lambda s: s.step == 5)
    return path


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"dt": 0.2}, r"dt = 0.1, this run has 0.2"),
        ({"method": "bug"}, r"method = .AugmentedBUG\(.*\)., this run has .BUG\("),
        ({"method": AugmentedBUG(rtol=1e-3)}, r"method = .*rtol=0.001"),
        ({"method": AugmentedBUG(substep="heun")}, "heun"),
        ({"t_span": (0.5, 1)}, r"t0 = 0.0, this run has 0.5"),
        ({"t_span": (0, -1)}, r"direction"),
        ({"t_eval": [1.0]}, r"t_eval = None, this run has \[1.0\]"),
        ({"save": lambda s: s.t}, "save = False, this run has True"),
        ({"events": Event(lambda s: 1.0)}, "events = 0, this run has 1"),
        ({"t_span": (0, 0.4)}, r"at t = 0.5, beyond t1 = 0.4; give a later t1"),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value)),
)
def test_a_different_run_is_refused_naming_what_differs(other, text, half):
    before = half.read_bytes()
    with pytest.raises(ValueError, match=f"resume: the checkpoint is .*{text}"):
        case().solve(resume=half, checkpoint=half, **other)
    assert half.read_bytes() == before


def test_another_kind_of_state_is_refused(half, rng):
    F = lambda t, Y: Y  # noqa: E731
    for Y0, text in (
        (random_lowrank(rng, 9, 7, 3, "float32"), r"dtype = 'float64', this run has 'float32'"),
        (random_lowrank(rng, 9, 7, 3, "complex128"), r"dtype = 'float64', this run has 'complex128'"),
        (random_lowrank(rng, 7, 9, 3), r"shapes = \[\[9, 7\]\], this run has \[\[7, 9\]\]"),
        (
            random_lowrank(rng, 9, 7, 3, library=get_library("strict")),
            r"library = 'numpy', this run has 'array_api_strict'",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            dlra.solve(F, (0, 1), Y0, dt=0.1, resume=half)
    with pytest.raises(ValueError, match="system = False, this run has True"):
        dlra.solve(F, (0, 1), [random_lowrank(rng, 9, 7, 3)], dt=0.1, resume=half)


def test_every_member_of_a_system_must_have_its_dtype(tmp_path, rng):
    path = tmp_path / "run.h5"
    Ys = [random_lowrank(rng, 6, 5, 2), normal(rng, (4,))]
    dlra.solve(lambda Ys: Ys, (0, 1), Ys, dt=0.5, checkpoint=path)
    other = [Ys[0], Ys[1].astype("float32")]
    with pytest.raises(ValueError, match="dtype = .*float64.*float64.*float32"):
        dlra.solve(lambda Ys: Ys, (0, 2), other, dt=0.5, resume=path)


def test_another_initial_value_is_refused_but_not_its_rounding_errors(half, rng):
    """The state comes from the file; Y0 says that it is the same run."""
    run, Y0 = case(), case().Y0
    with pytest.raises(ValueError, match="Y0 = .*norm.*, this run has"):
        replace(run, Y0=random_lowrank(rng, 9, 7, 3)).solve(resume=half)
    with pytest.raises(ValueError, match="Y0 = "):
        replace(run, Y0=-1 * Y0).solve(resume=half)
    full = run.solve()
    for same in (
        Y0 * (1 + 1e-14),
        LowRank(2 * Y0.U, Y0.S / 2, Y0.V),
        LowRank.from_dense(Y0.to_dense(), rank=3),
    ):
        assert bits(replace(run, Y0=same).solve(resume=half).y[5:]) == bits(full.y[5:])


def test_files_that_are_no_checkpoints_are_refused(half, tmp_path):
    run = case()
    solution = tmp_path / "solution.h5"
    run.solve().save(solution)
    torn = tmp_path / "torn.h5"
    torn.write_bytes(half.read_bytes()[:-100])
    foreign = tmp_path / "foreign.h5"
    foreign.write_bytes(b"a,b\n1,2\n" * 100)
    for path, error, text in (
        (tmp_path / "nowhere.h5", FileNotFoundError, r"there is no file .*nowhere.h5"),
        (tmp_path, IsADirectoryError, "is a directory"),
        (solution, ValueError, r"holds a solution, not a checkpoint"),
        (torn, ValueError, "torn"),
        (foreign, ValueError, "foreign: not an HDF5 file"),
        (half, None, ""),
    ):
        if error is None:
            assert run.solve(resume=path).status == 0
            continue
        with pytest.raises(error, match=text):
            run.solve(resume=path)
    with pytest.raises(ValueError, match="holds a checkpoint, not a solution"):
        dlra.Solution.load(half)


@pytest.mark.parametrize(("schema", "age"), [(_files.SCHEMA - 1, "older"), (_files.SCHEMA + 1, "newer")])
def test_a_file_of_another_schema_is_refused(schema, age, half, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_files, "SCHEMA", schema)
        case().solve(checkpoint=half)
    with pytest.raises(ValueError, match=f"of {age} format"):
        case().solve(resume=half)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda path: Checkpoint(3), TypeError, "path of a Checkpoint must be a path, got int"),
        (
            lambda path: Checkpoint(path, every="10 s"),
            TypeError,
            r"seconds \(a float\) or steps \(an int\), got '10 s'",
        ),
        (lambda path: Checkpoint(path, every=True), TypeError, "every"),
        (lambda path: Checkpoint(path, every=0), ValueError, "positive and finite, got 0"),
        (lambda path: Checkpoint(path, every=math.inf), ValueError, "finite"),
        (
            lambda path: case().solve(checkpoint=path / "no" / "such" / "run.h5"),
            FileNotFoundError,
            "create the directory",
        ),
        (lambda path: case().solve(checkpoint=path), IsADirectoryError, "directory"),
        (
            lambda path: case().solve(resume=[1]),
            TypeError,
            "resume must be the path of a checkpoint, got list",
        ),
    ],
)
def test_bad_paths_and_cadences(make, error, text, tmp_path):
    with pytest.raises(error, match=text):
        make(tmp_path)


# ---- a full disk ---------------------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch):
    """A disk that can be full: then the data of a file cannot be brought to it."""
    fsync, state = os.fsync, {"full": False}

    def failing(descriptor):
        if state["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(_files.os, "fsync", failing)
    return state


def test_a_full_disk_in_mid_run_loses_nothing(disk, tmp_path):
    path, run, full = tmp_path / "run.h5", case(), case().solve()
    kept = []

    def fill(state):
        if state.step == 5:
            kept.append(path.read_bytes())
            disk["full"] = True

    with pytest.raises(
        SolveError, match=r"the checkpoint at t = 0.5, step 5, rank 3 could not be written.*space"
    ) as caught:
        run.solve(checkpoint=Checkpoint(path, every=1), callback=fill)
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.ENOSPC
    solution = caught.value.solution
    assert solution.status == -1 and bits(solution.y) == bits(full.y[:6])
    assert path.read_bytes() == kept[0] and [p.name for p in tmp_path.iterdir()] == ["run.h5"]
    disk["full"] = False
    assert solution_bits(run.solve(resume=path)) == solution_bits(full), "from step 4"


def test_a_full_disk_at_the_end_keeps_the_whole_solution(disk, tmp_path):
    path, full = tmp_path / "run.h5", case().solve()
    solution = case().solve(
        checkpoint=path, callback=lambda s: disk.update(full=s.step > 1) and None, throw=False
    )
    assert (
        solution.status == -1 and "step 10" in solution.message and "could not be written" in solution.message
    )
    assert bits(solution.y) == bits(full.y)


def test_a_full_disk_does_not_hide_why_the_run_failed(disk, tmp_path):
    run = case()

    def F(t, Y):
        if t > 0.45:
            disk["full"] = True
            raise ArithmeticError("the real reason")
        return run.F(t, Y)

    with pytest.raises(
        SolveError, match=r"ArithmeticError: the real reason. Besides, the checkpoint .* not be written"
    ):
        replace(run, F=F).solve(checkpoint=tmp_path / "run.h5")


def test_a_full_disk_at_ctrl_c(disk, tmp_path):
    run = case()

    def F(t, Y):
        if t > 0.45:
            disk["full"] = True
            raise KeyboardInterrupt
        return run.F(t, Y)

    with pytest.raises(SolveError, match="step 4.*could not be written") as caught:
        replace(run, F=F).solve(checkpoint=tmp_path / "run.h5")
    assert len(caught.value.solution.y) == 5


def test_what_a_file_cannot_hold_is_said_at_the_first_checkpoint(tmp_path):
    with pytest.raises(SolveError, match=r"checkpoint at t = 0.1, step 1.*saved.*object") as caught:
        case(save=lambda s: object()).solve(checkpoint=tmp_path / "run.h5")
    assert len(caught.value.solution.saved) == 2
