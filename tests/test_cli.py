"""The dlra command: exit codes, summaries, files; run in process where that is possible."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import dlra
from dlra import integrators, problems

pytest.importorskip("typer")
from typer.testing import CliRunner

from dlra._cli.record import Recorder, spread
from dlra._cli.settings import Settings
from dlra._cli.task import Task
from dlra.cli import app

KEYS = {
    "problem", "method", "options", "t", "rank", "observables", "errors", "singular_values", "reference_error", "nfev",
    "nsteps", "nrejected", "seconds", "status", "message", "warnings", "files", "versions",
}  # fmt: skip

ROTATION = "solve rotation --set n=20 --rank 5 --dt 0.1".split()
UNSTABLE = "solve heat-lyapunov --set n=64 --rank 5 --substep rk4 --dt 0.05 --t-end 1".split()


def dlra_command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments):
    result = dlra_command(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def strictly(text):
    """Parse JSON that holds no NaN or Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def read(path):
    with open(path, encoding="utf-8") as file:
        return strictly(file.read())


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- solve


def test_summary():
    result = done(*ROTATION)
    text = result.stdout
    assert text.startswith("rotation: ")
    for expected in (
        "20 x 20, float64, numpy", "AugmentedBUG(), dt = 0.1, t = 0 to 1", "Reached t = 1.", "10, 100 evaluations of F",
        "relative to the reference solution", "truncation", "observable", "norm",
    ):  # fmt: skip
        assert expected in text
    assert max(len(line) for line in text.splitlines()) <= 110
    assert result.stderr == ""


def test_quiet_prints_nothing():
    result = done(*ROTATION, "--quiet", "--json", "a.json")
    assert result.stdout == result.stderr == ""


def test_json():
    done(*ROTATION, "--rank-rtol", "1e-3", "--json", "a.json")
    found = read("a.json")
    assert set(found) == KEYS
    assert found["problem"] == "rotation" and found["method"] == "AugmentedBUG(rtol=0.001)"
    assert found["options"]["problem"] == {"n": 20} and found["options"]["dt"] == 0.1
    assert len(found["t"]) == len(found["rank"]) == found["nsteps"] + 1 == 11
    assert [len(found["observables"]["norm"])] + [len(part) for part in found["errors"].values()] == [11] * 4
    assert found["errors"]["time"] == [None] * 11  # unknown with a fixed step
    assert len(found["singular_values"]) == found["rank"][-1]
    assert found["status"] == 0 and found["nfev"] == 100 and found["seconds"] > 0
    assert found["versions"]["dlra"] == dlra.__version__

    problem = problems.rotation(n=20)
    solution = dlra.solve(problem.F, (0, 1), problem.Y0(5), dlra.AugmentedBUG(rtol=1e-3), dt=0.1)
    assert found["t"] == solution.t.tolist() and found["rank"] == solution.rank.tolist()
    assert found["observables"]["norm"] == [Y.norm() for Y in solution.y]
    exact = problem.reference(1.0)
    error = np.linalg.norm(solution.y_final.to_dense() - exact) / np.linalg.norm(exact)
    assert found["reference_error"] == pytest.approx(error)


def test_json_on_standard_output():
    result = done(*ROTATION, "--json", "-")
    assert strictly(result.stdout)["problem"] == "rotation"
    assert "Reached t = 1." in result.stderr  # the summary makes way
    assert done(*ROTATION, "--json", "-", "--quiet").stderr == ""


def test_picture():
    done(*ROTATION, "--plot", "a.png")
    with open("a.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_stored_states():
    pytest.importorskip("h5py")
    done(*ROTATION, "--dt", "0.01", "--out", "a.h5", "--json", "a.json")
    stored = dlra.Solution.load("a.h5")
    assert np.allclose(stored.t, np.linspace(0, 1, 11)) and len(stored.y) == 11
    assert stored.nsteps == 100 and np.array_equal(stored.y[-1].to_dense(), stored.y_final.to_dense())
    series = read("a.json")
    assert len(series["t"]) == 101  # observables at every step
    assert stored.saved[3]["norm"] == series["observables"]["norm"][30] == stored.y[3].norm()


@pytest.mark.parametrize(
    ("option", "times"),
    [
        (["--states", "1"], [1.0]),
        (["--states", "3"], [0, 0.5, 1]),
        (["--every", "4"], [0, 0.4, 0.8, 1.0]),
        (["--states", "99"], np.linspace(0, 1, 11)),
    ],
)
def test_number_of_stored_states(option, times):
    pytest.importorskip("h5py")
    done(*ROTATION, *option, "--out", "a.h5")
    assert np.allclose(dlra.Solution.load("a.h5").t, times)


def test_long_runs_are_thinned():
    assert spread(10, 2001) == set(range(11))
    steps = spread(100_000, 2001)
    assert len(steps) == 2001 and {0, 100_000} <= steps
    record = Recorder(problems.rotation(n=4), 100_000, states=3)
    Y = problems.rotation(n=4).Y0(2)
    kept = [
        step for step in range(200) if record(dlra.State(0.0, Y, step, 2, dlra.ErrorBudget())) is not None
    ]
    assert kept == [0, 50, 100, 150]


def test_options_of_method_and_problem():
    method = ["--method", "projector-splitting", "--order", "1", "--substep", "heun", "--rank", "3"]
    where = ["--t-end", "-0.2", "--dt", "0.1", "--dtype", "float32", "--no-reference"]
    text = done("solve", "rotation", "--set", "n=12", *method, *where).stdout
    assert "12 x 12, float32" in text
    assert "ProjectorSplitting(order=1, substep='heun'), dt = 0.1, t = 0 to -0.2" in text
    assert "reference" not in text
    rank = ["--rank-atol", "1e-3", "--min-rank", "2", "--max-rank", "4"]
    text = done("solve", "rotation", "--set", "n=12", *rank, "--threads", "1").stdout
    assert "AugmentedBUG(atol=0.001, min_rank=2, max_rank=4)" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("midpoint-bug --bases 4r", "MidpointBUG(bases='4r')"),
        ("step-truncation --tableau heun3", "StepTruncation(tableau='heun3')"),
        ("parallel-bug --rejection 2 --rank-rtol 1e-3", "ParallelBUG(rtol=0.001, c=2.0)"),
        ("interpolatory-cur --oversampling 3", "InterpolatoryCUR(oversampling=3)"),
        ("projected-exponential --order 1 --krylov-rtol 1e-8", "ProjectedExponential(order=1, krylov_rtol=1e-08)"),
        (
            "randomized-svd --oversampling 2 --power 2 --failure-probability 1e-3",
            "RandomizedSVD(oversampling=2, power=2, failure_probability=0.001)",
        ),
    ],
)  # fmt: skip
def test_options_of_methods(arguments, text):
    where = ["--set", "n=12", "--rank", "4", "--dt", "0.1", "--t-end", "0.2"]
    shown = done("solve", "rotation", *where, "--method", *arguments.split()).stdout
    for part in (text.partition("(")[0], *text.partition("(")[2].rstrip(")").split(", ")):
        assert part in shown  # in whatever order


def test_seed():
    arguments = [*ROTATION, "--method", "randomized-svd", "--max-rank", "3", "--seed"]
    for seed in (1, 1, 2):
        done(*arguments, seed, "--json", f"{seed}.json", "-q")
    first, other = read("1.json"), read("2.json")
    assert first["options"]["seed"] == 1
    assert first["singular_values"] != other["singular_values"]
    done(*arguments, 1, "--json", "3.json", "-q")
    assert first["singular_values"] == read("3.json")["singular_values"]


# ---- steps that adapt

ADAPTIVE = "solve rotation --set n=20 --rank 15 --method midpoint-bug --rtol 1e-4".split()


def test_adaptive_steps():
    text = done(*ADAPTIVE, "--json", "a.json").stdout
    found = read("a.json")
    assert "MidpointBUG(), steps for rtol = 0.0001, t = 0 to 1" in text
    lengths = np.diff(found["t"])
    assert f"{found['nsteps']} of length {lengths.min():.2g} to {lengths.max():.2g}" in text
    assert f"{found['nrejected']} rejected" in text and "error budget  time " in text
    assert found["options"]["dt"] is None and found["options"]["rtol"] == 1e-4
    assert len(found["t"]) == found["nsteps"] + 1 and found["errors"]["time"][0] == 0
    assert 0 < found["errors"]["time"][-1] < 2e-4 and found["reference_error"] < 2e-4
    assert "steps for rtol = 0.0001, atol = 1" in done(*ADAPTIVE, "--atol", "1").stdout


@pytest.mark.parametrize(
    ("option", "count"), [(["--states", "1"], 1), (["--states", "3"], 3), (["--every", "9"], None)]
)
def test_stored_states_of_an_adaptive_run(option, count):
    pytest.importorskip("h5py")
    done(*ADAPTIVE, *option, "--out", "a.h5", "--json", "a.json")
    t, found = dlra.Solution.load("a.h5").t, read("a.json")
    assert t[-1] == 1.0 and set(t) <= set(found["t"])
    assert len(t) == (count or -(-found["nsteps"] // 9) + 1)
    if count == 3:
        assert t[0] == 0 and t[1] == min(s for s in found["t"] if s >= 0.5)


def test_resume_of_an_adaptive_run(monkeypatch):
    pytest.importorskip("h5py")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0.6)
        assert dlra_command(*ADAPTIVE, "--checkpoint", "c.h5").exit_code == 130
    done(*ADAPTIVE, "--resume", "c.h5", "--out", "resumed.h5", "--json", "resumed.json", "--states", "4")
    done(*ADAPTIVE, "--out", "whole.h5", "--json", "whole.json", "--states", "4")
    resumed, whole = read("resumed.json"), read("whole.json")
    for key in ("t", "rank", "observables", "errors", "nsteps", "nrejected"):
        assert resumed[key] == whole[key]
    late = [dlra.Solution.load(name).t[-2:].tolist() for name in ("resumed.h5", "whole.h5")]
    assert late[0] == late[1]


def test_a_tolerance_of_time_replaces_the_default_tolerance_of_rank():
    text = done("solve", "steel-lyapunov", "--t-end", "9", "--rtol", "0.1", "--no-reference").stdout
    assert "AugmentedBUG(), steps for rtol = 0.1" in text


def test_max_steps():
    result = dlra_command(*ADAPTIVE, "--max-steps", "3")
    assert result.exit_code == 1 and "max_steps = 3" in result.stderr


def test_default_rank_tolerance_gives_way_to_a_given_rank():
    arguments = ["solve", "steel-lyapunov", "--t-end", "45", "--no-reference"]
    assert "rtol=1e-06" in done(*arguments).stdout
    assert "rtol=1e-06" in done(*arguments, "--max-rank", "9").stdout
    assert "AugmentedBUG()," in done(*arguments, "--rank", "8").stdout


def test_complex_problem_without_reference_before_the_start():
    result = done("solve", "schroedinger", "--set", "n=12", "--rank", "3", "--dtype", "complex64")
    assert "complex64" in result.stdout and "relative to the reference" in result.stdout


def test_torch():
    pytest.importorskip("torch")
    done(*ROTATION, "--backend", "torch", "--device", "cpu", "--json", "a.json", "-q")
    found = read("a.json")
    assert "torch" in found["versions"] and found["reference_error"] < 0.1
    result = dlra_command(*ROTATION, "--backend", "torch", "--device", "nonsense")
    assert result.exit_code == 2 and "nonsense" in result.stderr


@pytest.mark.parametrize(("dtype", "expected"), [(None, "float64"), ("float32", "float32")])
def test_jax_in_double_precision(dtype, expected):
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        task = Task(Settings(problem="rotation", options=["n=6"], rank=2, backend="jax", dtype=dtype))
        assert task.Y0.U.dtype.name == expected
        assert jax.config.jax_enable_x64 == (dtype is None)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_warnings_are_one_line_each():
    arguments = ["solve", "heat-lyapunov", "--set", "n=32", "--rank", "4", "--method", "projector-splitting"]
    result = done(*arguments, "--json", "a.json")
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("warning: ProjectorSplitting")
    assert len(read("a.json")["warnings"]) == 1
    assert done(*arguments, "--quiet").stderr == ""


# ---- checkpoints


def interrupt_after(monkeypatch, t_stop):
    """Let F of every problem be interrupted by Ctrl-C once t_stop is passed."""
    get = problems.get

    def stopping(*arguments, **options):
        problem = get(*arguments, **options)

        def field(t, Y):
            if t > t_stop + 1e-9:
                raise KeyboardInterrupt
            return problem.dense(t, Y)  # of the rotation, works on factors too

        return replace(problem, F=dlra.factored(field))

    monkeypatch.setattr(problems, "get", stopping)


def test_resume(monkeypatch):
    pytest.importorskip("h5py")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0.5)
        assert dlra_command(*ROTATION, "--checkpoint", "c.h5", "--checkpoint-every", "9").exit_code == 130
    done(*ROTATION, "--resume", "c.h5", "--out", "resumed.h5", "--json", "resumed.json", "--every", "5")
    done(*ROTATION, "--out", "whole.h5", "--json", "whole.json", "--every", "5")
    resumed, whole = read("resumed.json"), read("whole.json")
    for key in ("t", "rank", "observables", "errors", "singular_values", "nsteps"):
        assert resumed[key] == whole[key]
    a, b = dlra.Solution.load("resumed.h5"), dlra.Solution.load("whole.h5")
    for y, z in [(a.y_final, b.y_final), (a.y[-1], b.y[-1])]:
        assert all(np.array_equal(x, w) for x, w in zip(y.factors, z.factors, strict=True))


def test_resume_in_another_library():
    pytest.importorskip("h5py")
    pytest.importorskip("torch")
    arguments = [*ROTATION, "--backend", "torch"]
    done(*arguments, "--t-end", "0.5", "--checkpoint", "c.h5")
    done(*arguments, "--resume", "c.h5", "--out", "a.h5")
    assert len(dlra.Solution.load("a.h5").y) == 11


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "n=21", "--rank", "5", "--dt", "0.1"], "options {'n': '20'}"),
        (["--set", "n=20", "--rank", "4", "--dt", "0.1"], "rank 5, this run has 4"),
        (["--set", "n=20", "--rank", "5", "--dt", "0.2"], "dt = 0.1"),
        (["--set", "n=20", "--rank", "5", "--dt", "0.1", "--t-end", "0.2"], "beyond t1"),
    ],
)
def test_resume_another_run(arguments, text):
    pytest.importorskip("h5py")
    done(*ROTATION, "--t-end", "0.5", "--checkpoint", "c.h5")
    result = dlra_command("solve", "rotation", *arguments, "--resume", "c.h5")
    assert result.exit_code == 2 and text in result.stderr


def test_resume_what_is_no_checkpoint_of_the_command():
    pytest.importorskip("h5py")
    problem = problems.rotation(n=20)
    dlra.solve(problem.F, (0, 0.2), problem.Y0(5), dt=0.1, checkpoint="library.h5", save=lambda s: s.t)
    with open("text.h5", "w") as file:
        file.write("no HDF5")
    for path, text in (("library.h5", "was not written by 'dlra solve"), ("text.h5", "not an HDF5 file"),
                       ("none.h5", "no file none.h5")):  # fmt: skip
        result = dlra_command(*ROTATION, "--resume", path)
        assert result.exit_code == 2 and text in result.stderr


# ---- failures


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nonsense"], "unknown problem 'nonsense'"),
        (["landau-dampng"], "did you mean 'landau-damping'"),
        (["rotation", "--method", "nonsense"], "unknown method"),
        (["rotation", "--rank", "0"], "rank must lie between"),
        (["rotation", "--rank", "61"], "got 61"),
        (["rotation", "--rank", "x"], "--rank"),
        (["rotation", "--dt", "0"], "dt must be positive"),
        (["rotation", "--dt", "-1"], "dt must be positive"),
        (["rotation", "--dt", "nan"], "dt must be positive"),
        (["rotation", "--rtol", "1e-4", "--dt", "0.1"], "tolerances of the rank give --rank-rtol"),
        (["rotation", "--atol", "1e-4", "--dt", "0.1"], "tolerances of the time step"),
        (["rotation", "--rtol", "0"], "rtol and atol are both 0"),
        (["rotation", "--rtol", "-1"], "rtol must be finite and >= 0"),
        (["rotation", "--tableau", "rk4"], "--tableau: method 'augmented-bug' has no such option; runge-kutta-bug,"),
        (["rotation", "--method", "runge-kutta-bug", "--tableau", "rk5"], "unknown tableau 'rk5'"),
        (["rotation", "--method", "midpoint-bug", "--bases", "5r"], '"3r" or "4r"'),
        (["rotation", "--method", "bug", "--rejection", "2"], "parallel-bug has"),
        (["rotation", "--max-steps", "0"], "--max-steps"),
        (["rotation", "--seed", "-1"], "--seed"),
        (["rotation", "--t-end", "0"], "positive length"),
        (["rotation", "--t-end", "inf"], "finite"),
        (["rotation", "--method", "bug", "--rank-rtol", "1e-3"], "--rank-rtol: method 'bug' has no such option"),
        (["rotation", "--method", "galerkin", "--max-rank", "3"], "--max-rank: method 'galerkin'"),
        (["rotation", "--order", "2"], "projector-splitting, projected-exponential have"),
        (["rotation", "--method", "projector-splitting", "--order", "3"], "1, 2 or 4"),
        (["rotation", "--substep", "rk5"], "rk5"),
        (["rotation", "--rank-rtol", "-1"], ">= 0"),
        (["rotation", "--min-rank", "4", "--max-rank", "3"], "min_rank must not exceed max_rank"),
        (["rotation", "--dtype", "complex128"], "rotation is real"),
        (["schroedinger", "--dtype", "float64"], "schroedinger is complex"),
        (["rotation", "--backend", "fortran"], "backend must be one of"),
        (["rotation", "--set", "n"], "--set takes NAME=VALUE"),
        (["rotation", "--set", "=3"], "--set takes NAME=VALUE"),
        (["rotation", "--set", "n=3", "--set", "n=4"], "given twice"),
        (["rotation", "--set", "dtype=float32"], "use --dtype"),
        (["rotation", "--set", "n=ten"], "n must be an int"),
        (["rotation", "--set", "n=1"], "n must be at least 2"),
        (["rotation", "--set", "m=3"], "no option 'm'"),
        (["steel-lyapunov", "--set", "data=none.npz"], "none.npz"),
        (["rotation", "--states", "0"], "--states"),
        (["rotation", "--states", "3", "--every", "2"], "exclude each other"),
        (["rotation", "--threads", "0"], "--threads"),
        (["rotation", "--json", "none/a.json"], "no directory none"),
        (["rotation", "--out", "."], "a directory"),
        (["rotation", "--plot", "a.xyz"], "suffix must be one of"),
        (["rotation", "--plot", "a.png", "--json", "a.png"], "name one file twice"),
        (["rotation", "--checkpoint", "c.h5", "--checkpoint-every", "0"], "must be positive"),
        (["rotation", "--nonsense"], "--nonsense"),
        (["rotation", "extra"], "extra"),
        ([], "PROBLEM"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, text):
    result = dlra_command("solve", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert text in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not os.listdir(".")  # nothing was written


def test_failure_in_a_run():
    pytest.importorskip("h5py")
    result = dlra_command(*UNSTABLE, "--json", "a.json", "--out", "a.h5")
    assert result.exit_code == 1
    warning, error = result.stderr.splitlines()
    assert warning.startswith("warning: dt times the fastest rate")
    assert error.startswith("error: augmented-bug failed at t = ")
    assert "failed at t = " in result.stdout
    found = read("a.json")
    assert found["status"] == -1 and found["message"].startswith("augmented-bug failed")
    assert len(found["t"]) == found["nsteps"] + 1 and found["reference_error"] is None
    assert dlra.Solution.load("a.h5").status == -1


def test_debug_shows_the_traceback():
    result = dlra_command(*UNSTABLE, "--debug", "--quiet")
    assert result.exit_code == 1 and "Traceback" in result.stderr and result.stdout == ""
    result = dlra_command("solve", "nonsense", "--debug")
    assert result.exit_code == 2 and "Traceback" in result.stderr
    assert dlra_command("problems", "nonsense", "--debug").exit_code == 2


def test_unexpected_errors_are_one_line(monkeypatch):
    monkeypatch.setattr(Recorder, "split", lambda *_: {}["gone"])
    result = dlra_command(*ROTATION)
    assert result.exit_code == 1
    assert result.stderr == "error: unexpected KeyError: 'gone' (--debug shows where)\n"


def test_files_that_fail_to_be_written(monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dlra.Solution, "save", full)
    pytest.importorskip("h5py")
    result = dlra_command(*ROTATION, "--out", "a.h5")
    assert result.exit_code == 1 and "No space left on device" in result.stderr


def test_interrupt_keeps_what_was_computed(monkeypatch):
    pytest.importorskip("h5py")
    interrupt_after(monkeypatch, 0.5)
    result = dlra_command(*ROTATION, "--json", "a.json", "--out", "a.h5", "--states", "2")
    assert result.exit_code == 130 and "Interrupted by Ctrl-C" in result.stdout
    found, stored = read("a.json"), dlra.Solution.load("a.h5")
    assert found["status"] == 1 and np.allclose(found["t"], np.linspace(0, 0.5, 6))
    assert np.allclose(stored.t, [0, 0.5])  # the last state is stored though it was not asked for


def test_interrupt_before_the_last_state_is_recorded(monkeypatch):
    original = Recorder.__call__

    def interrupted(self, state):
        if state.step == 5:
            raise KeyboardInterrupt
        return original(self, state)

    monkeypatch.setattr(Recorder, "__call__", interrupted)
    result = dlra_command(*ROTATION, "--json", "a.json")
    assert result.exit_code == 130
    found = read("a.json")
    assert len(found["t"]) == len(found["observables"]["norm"]) >= 5


# ---- the other commands


def test_problems():
    text = done("problems").stdout
    assert all(any(line.startswith(name) for line in text.splitlines()) for name in problems.names())
    assert re.search("^landau-damping +Landau damping: a plasma wave fades", text, re.M)


@pytest.mark.parametrize("name", problems.names())
def test_problem_page(name):
    problem = problems.get(name)
    text = done("problems", name).stdout
    for expected in (
        f"{problem.shape[0]} x {problem.shape[1]}",
        *problem.observables,
        f"rank {problem.defaults['rank']}",
    ):
        assert expected in text
    assert "``" not in text and ":func:" not in text and "Parameters" not in text


def test_unknown_problem():
    result = dlra_command("problems", "nonsense")
    assert result.exit_code == 2 and "unknown problem" in result.stderr


def test_methods():
    rows = {line.split()[0]: line for line in done("methods").stdout.splitlines()[1:16]}
    assert set(rows) == set(integrators.names())
    assert rows["midpoint-bug"].split()[1] == "2" and rows["runge-kutta-bug"].split()[1] == "4"
    assert all(len(line) <= 140 and len(line.split()) > 3 for line in rows.values())


@pytest.mark.parametrize("name", integrators.names())
def test_method_page(name):
    text = done("methods", name).stdout
    assert text.startswith(f"{name}, order {integrators.by_name(name).order}\n")
    for expected in (type(integrators.by_name(name)).__name__, "Notes", "Parameters"):
        assert expected in text
    assert "``" not in text and ":class:" not in text and "---" not in text


def test_cite():
    assert done("cite", "bug").stdout == dlra.citation("bug") + "\n"
    for command in ("cite", "methods"):
        result = dlra_command(command, "nonsense")
        assert result.exit_code == 2 and "unknown method" in result.stderr


def test_info():
    text = done("info").stdout
    for expected in (
        f"dlra  {dlra.__version__}".split()[1],
        "numpy",
        "cupy",
        "torch",
        "jax",
        "GPU",
        "cores",
        np.__version__,
    ):
        assert expected in text


def test_info_without_libraries(monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    text = done("info").stdout
    assert 'pip install "dlra[torch]"' in text and 'pip install "dlra[files]"' in text


def test_version_and_help():
    assert done("--version").stdout == f"dlra {dlra.__version__}\n"
    assert "Exit codes" in done("--help").stdout
    assert "--rank-rtol" in done("solve", "--help").stdout


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("matplotlib", ["--plot", "a.png"], "dlra[plot]"),
        ("h5py", ["--out", "a.h5"], "dlra[files]"),
        ("h5py", ["--checkpoint", "c.h5"], "dlra[files]"),
        ("threadpoolctl", ["--threads", "1"], "dlra[fast]"),
    ],
)
def test_missing_extras(monkeypatch, module, arguments, extra):
    monkeypatch.setitem(sys.modules, module, None)
    result = dlra_command(*ROTATION, *arguments)
    assert result.exit_code == 2 and f'pip install "{extra}"' in result.stderr


def run_python(*arguments):
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_without_typer():
    code = "import sys; sys.modules['typer'] = None; from dlra.cli import main; main()"
    result = run_python("-c", code)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == 'the dlra command needs typer: pip install "dlra[cli]"\n'


def test_as_a_module_on_a_terminal_without_unicode():
    result = run_python("-m", "dlra", "problems", "schroedinger")
    assert result.returncode == 0 and result.stdout.startswith("schroedinger") and result.stderr == ""


# ---- demo


def test_demo_in_a_place_that_cannot_be():
    with open("file", "w"):
        pass
    result = dlra_command("demo", "--out", "file")
    assert result.exit_code == 2 and "file" in result.stderr


@pytest.mark.slow
def test_demo():
    pytest.importorskip("h5py")
    pytest.importorskip("matplotlib")
    text = done("demo", "--out", "out/demo").stdout
    rows = {line[3:28].strip(): line[28:].split() for line in text.splitlines()}
    for name, theory in (("damping rate of |E|", -0.1533), ("frequency of E", 1.4156)):
        assert float(rows[name][0]) == pytest.approx(theory, rel=2e-3)
    assert float(rows["drift of mass, relative"][0]) < 1e-9
    assert float(rows["drift of energy, relative"][0]) < 1e-8
    assert abs(int(rows["rank, tolerance 1e-06"][0]) - 62) <= 2
    assert float(rows["norm of P"][2]) < 2e-6 and float(rows["trace of C P Cᵀ"][2]) < 5e-6
    names = ["landau-numerics.png", "landau.h5", "landau.png", "steel-numerics.png", "steel.h5", "steel.png"]
    assert sorted(os.listdir("out/demo")) == names
    assert all(name in text.splitlines()[-1] for name in names)
    assert dlra.Solution.load("out/demo/steel.h5").t_final == 4500
