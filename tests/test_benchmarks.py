"""The benchmarks: that they measure by their convention, that what they leave can be read, and that pages show it."""

from __future__ import annotations

import importlib
import json
import math
import re
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from dlra import linalg
from dlra.kernels import lapack, tall
from validation import pages
from validation.benchmarks import bare, gpu, kernels, results, scaling, stacks, steps, thresholds, whole_runs
from validation.benchmarks.results import Headline, Timing, compare, number

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECORDS = sorted((DOCS / "measured").glob("*.json"))


@pytest.fixture
def folder(tmp_path):
    with pages.written_to(tmp_path):
        yield tmp_path


# ---- the convention


def test_timing_gives_medians_and_ratios_of_rounds():
    a, b = Timing((1.0, 2.0, 30.0, 4.0, 5.0)), Timing((2.0, 4.0, 60.0, 8.0, 10.0))
    assert a.median == 4.0
    assert a.spread == pytest.approx(1.5)
    assert a.over(b) == 0.5
    assert a.record() == {"seconds": 4.0, "spread": 1.5, "rounds": 5}


def test_ratio_is_taken_within_rounds():
    """A machine that slows down in the middle of a round changes that ratio only."""
    ours, theirs = Timing((1.0, 1.0, 10.0, 10.0, 10.0)), Timing((3.0, 3.0, 3.0, 30.0, 30.0))
    assert theirs.over(ours) == 3.0


def test_candidates_take_turns():
    seen = []
    runs = {name: lambda name=name: (seen.append(name), time.sleep(0.003)) for name in "ab"}
    times = compare(runs, 0.0, least=4)
    rounds = seen[4:]  # each is called twice before: to warm up, and to see how long it takes
    assert rounds == list("abbaabba")
    assert all(len(t.samples) == 4 and t.median >= 0.003 for t in times.values())


def test_short_runs_are_repeated_within_a_sample():
    calls = 0

    def run():
        nonlocal calls
        calls += 1

    compare({"short": run}, 0.0, least=3)
    assert calls > 3 * 100


def test_collector_is_on_again_after_a_failure():
    import gc

    with pytest.raises(ZeroDivisionError):
        compare({"bad": lambda: 1 / 0}, 0.0, warm=False)
    assert gc.isenabled()


def test_threads_are_pinned_and_given_back():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    numba = pytest.importorskip("numba")
    import scipy.linalg  # noqa: F401

    numbas = numba.get_num_threads()  # loads its pool

    def counts():
        return sorted(pool["num_threads"] for pool in threadpoolctl.threadpool_info())

    before = counts()
    with results.pinned(1):
        assert set(counts()) == {1}
        assert numba.get_num_threads() == 1
    assert counts() == before
    assert numba.get_num_threads() == numbas


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.0, "12345"), (0.00123, "0.00123"),
     (4.6e-7, "4.6e-07"), (math.nan, "-"), (math.inf, "-")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_headlines_know_whether_their_goal_is_met():
    assert Headline("speed", 2.0, 1.5).met is True
    assert Headline("speed", 1.0, 1.5).met is False
    assert Headline("cost", 1.0, 1.5, "at most").met is True
    assert Headline("cost", 2.0, 1.5, "at most").met is False
    assert Headline("speed", 2.0).met is None
    assert Headline("cost", 2.0, 1.5, "at most", " x").cells() == [
        "cost",
        "2.00 x",
        "at most 1.50 x",
        "missed",
    ]


def published(name="some_thing", quick=False, data=None, headlines=()):
    data = {"row": {"time": Timing((1.0, 2.0)), "n": np.int64(3)}} if data is None else data
    headlines = headlines or [Headline("speed", 2.0, 1.5)]
    results.publish(
        name, "Measured: this", "About.", ["| a |\n|---|\n"], data, headlines, threads=1, quick=quick
    )


def test_numbers_tables_and_headlines_are_written(folder, capsys):
    published()
    published("other", headlines=[Headline("cost", 3.0, 1.0, "at most")])
    results.summary()
    record = json.loads((folder / "measured/some_thing.json").read_text())
    assert record["data"]["row"] == {"time": {"seconds": 1.5, "spread": 0.25, "rounds": 2}, "n": 3}
    assert record["headlines"][0]["met"] is True
    assert {"processor", "cores", "numpy", "blas", "date"} <= set(record["machine"])
    page = (folder / "measured-some-thing.md").read_text()
    assert page.startswith("# Measured: this\n")
    assert "1 thread for" in page and "quick run" not in page
    assert page in capsys.readouterr().out.replace("\n\n\n", "\n\n") + "\n"
    summary = (folder / "measured/headlines.md").read_text()
    assert "| speed | 2.00 | at least 1.50 | met | [Measured: this](measured-some-thing.md) |" in summary
    assert "| cost | 3.00 | at most 1.00 | missed |" in summary


def test_quick_runs_say_so(folder):
    published(quick=True)
    results.summary()
    assert "A quick run" in (folder / "measured-some-thing.md").read_text()
    assert "quick runs" in (folder / "measured/headlines.md").read_text()


def test_nan_is_refused_in_json(folder):
    with pytest.raises(ValueError, match="JSON"):
        published(data={"x": math.nan})


def test_busy_machine_is_noted(monkeypatch, folder):
    monkeypatch.setattr(results.os, "getloadavg", lambda: (3.2, 0.0, 0.0))
    published()
    assert "was busy (load average 3.2)" in (folder / "measured-some-thing.md").read_text()


# ---- what is measured


@pytest.mark.parametrize("kind", kernels.KINDS)
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_kernel_rows(dtype, kind, monkeypatch):
    monkeypatch.setattr(kernels, "SQUARE", 50)
    row = kernels.measure_augment(dtype, 60, 4, kind, 0.0)
    assert set(row["times"]) == {"dlra", "numpy", "scipy", "lapack", "gemm"}
    assert row["columns"] == (
        6 if kind == "deficient" else 7 if (dtype, kind) == ("float32", "graded") else 8
    )
    eps = np.finfo(dtype).eps
    assert row["loss"] < 30 * eps and row["residual"] < 30 * eps
    assert row["numpy / dlra"] == pytest.approx(row["times"]["numpy"].over(row["times"]["dlra"]))
    other = kernels.measure_orthonormalize(dtype, 60, 4, kind, 0.0)
    assert other["columns"] == row["columns"] - 4


def test_lapack_and_numpy_find_the_same_basis():
    rng = np.random.default_rng(0)
    for dtype in kernels.DTYPES:
        A = kernels.gaussian(rng, 30, 6, dtype)
        Q = kernels.lapack_qr(dtype)(np.array(A, order="F"))
        assert np.allclose(abs(np.linalg.qr(A)[0].conj().T @ Q), np.eye(6), atol=1e-5)
        assert kernels.loss(Q) < 30 * np.finfo(dtype).eps


def test_rate_of_a_kernel_counts_complex_operations_four_times(monkeypatch):
    monkeypatch.setattr(kernels, "SQUARE", 50)
    for dtype, factor in (("float64", 1), ("complex128", 4)):
        row = kernels.measure_truncate(dtype, 60, 4, 0.0)
        assert row["gflops"] * 1e9 * row["times"]["dlra"].median == pytest.approx(factor * 8 * 60 * 16)
        assert kernels.square_product(dtype, 50)[1] == factor * 2 * 50**3


def test_ways_are_forced_and_constants_put_back():
    constants = {name: getattr(linalg, name) for name in thresholds.AUGMENT}
    ways = thresholds.augmentations("float64", "gaussian", 900, 3)
    called = {name: _called(way) for name, way in ways.items()}
    assert called == {
        "LAPACK": ["stacked_qr"], "projection": ["_appended"], "blocks": ["augmented"], "dlra": ["stacked_qr"],
    }  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        thresholds.forced(lambda: 1 / 0, linalg, _TALL=1, _PRODUCTS=2)()
    assert {name: getattr(linalg, name) for name in constants} == constants
    with pytest.raises(AttributeError):
        thresholds.forced(lambda: None, linalg, _TAL=1)


def test_cases_lie_on_both_sides_of_a_constant():
    assert thresholds.around(800, 0.9, 1.1) == [720, 880]
    assert thresholds.around(123_456, 0.5, 2) == [62_000, 250_000]
    for name, (_, _, sizes, _) in thresholds.AUGMENT.items():
        value = getattr(linalg, name)
        of = [2 * r if name == "_FEW" else m if name == "_TALL" else 4 * m * r**2 for m, r in sizes]
        assert min(of) < value < max(of), name


def _called(way):
    """Which functions a run of ``augment`` reaches."""
    places = ((lapack, "stacked_qr"), (linalg, "_appended"), (tall, "augmented"), (linalg, "complement"))
    with ExitStack() as stack:
        spies = {
            name: stack.enter_context(mock.patch.object(module, name, wraps=getattr(module, name)))
            for module, name in places
        }
        way()
    return [name for name, spy in spies.items() if spy.called]


def test_a_choice_is_compared_with_the_fastest_way():
    def sleeping(seconds):
        return lambda: time.sleep(seconds)

    case = thresholds.Case(
        {"n": 1}, {"slow": sleeping(0.03), "fast": sleeping(0.005), thresholds.AS_IS: sleeping(0.03)}
    )
    found = thresholds.measured(thresholds.Threshold(linalg, "_TALL", "About.", iter([case])), quick=True)
    (row,) = found["rows"]
    assert found["name"] == "dlra.linalg._TALL" and found["value"] == linalg._TALL
    assert row["fastest"] == "fast" and 1.5 < row["surely"] <= row["over"]
    assert "(n 1)" in thresholds.tables([found])[2]
    worst, above = thresholds.headlines([found])
    assert worst.measured == row["surely"] and above.measured == 100


def test_thresholds_of_the_page_are_those_of_the_code():
    """Who changes a constant measures again."""
    path = DOCS / "measured/thresholds.json"
    if not path.is_file():
        pytest.skip("nothing has been measured")
    for found in json.loads(path.read_text())["data"]["constants"]:
        module, _, name = found["name"].rpartition(".")
        assert getattr(importlib.import_module(module), name) == found["value"], found["name"]


def test_stacks_and_loops_are_measured():
    pytest.importorskip("numba")
    with results.pinned(1):
        row = stacks.measure_solve(20, 2, 3, 0.0)  # asserts that both agree
    assert row["gain"] > 0 and row["loop"].median > 0
    cores = stacks.measure_svd(8, 4, "complex128", 0.0)
    bases = stacks.measure_augment(4, 20, 2, 2, "float32", 0.0)
    layers = stacks.measure_layers((2, 2, 3), "float64", 0.0)
    data = {"solve": [row], "svd": [cores], "augment": [bases], "layers": [layers]}
    assert "| complex128 | 4 | 8 |" in "\n".join(stacks.tables(data))
    assert stacks._each({"a": Timing((2.0, 4.0))}, {"a": 2}) == {"a": Timing((1.0, 2.0))}


def test_nothing_is_published_without_a_gpu(folder, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "device", lambda: None)
    gpu.main(quick=True)
    assert "nothing was measured" in capsys.readouterr().out
    assert not list(folder.iterdir())


def test_tables_of_a_gpu(monkeypatch):
    """On the host, with NumPy in the place of CuPy."""
    monkeypatch.setattr(gpu, "STACKS", ((2, 4),))
    monkeypatch.setattr(gpu, "SIZES", (50,))
    monkeypatch.setattr(gpu, "RANK", 3)
    monkeypatch.setattr(gpu.gpu, "svd", lambda A: np.linalg.svd(A, full_matrices=False))
    waits = []
    with results.pinned(1):
        data = gpu.measure(np, lambda: waits.append(1), 60, 0.0)
    assert len(waits) > 100
    augment, step = data["tall"]
    assert augment["times the limit"] > 0.5 and step["times the limit"] > 0.5
    assert "| 2 of 4 x 4 |" in "\n".join(gpu.tables(data))
    assert [headline.unit for headline in gpu.headlines(data)] == [" x"] * 3


def test_loops_and_dlra_agree():
    """The measurement itself asserts that, for every method."""
    rows = steps.measure_loops(30, 3, 0.0)
    assert [row["method"] for row in rows] == list(steps.METHODS)
    assert "dlra / special" in rows[0]


@pytest.mark.parametrize("name", ["augmented", "fixed_rank", "parallel", "splitting"])
def test_loops_that_differ_are_noticed(name, monkeypatch):
    method, loop = next(pair for pair in steps.METHODS.values() if pair[1] is getattr(bare, name))
    broken = {name: (method, lambda F, h, U, S, V: loop(F, h * 1.0001, U, S, V))}
    monkeypatch.setattr(steps, "METHODS", broken)
    with pytest.raises(AssertionError):
        steps.measure_loops(30, 3, 0.0)


def test_constant_field_stays_away_from_the_bases():
    """Its range must not get into the bases, or steps would become cheaper and cheaper."""
    F, Y0, factors = steps.constant_field(60, 50, 4)
    with results.pinned(1):
        step = steps.stepper(F, Y0, steps.dlra.AugmentedBUG(substep="euler"))
        for _ in range(200):
            state = step()
    P = np.linalg.qr(factors[0])[0]
    assert np.linalg.norm(P.T @ state.y.U, 2) < 0.9
    assert state.rank == 4


def test_work_is_the_sum_of_its_table():
    m, n, r = 7, 5, 3
    assert steps.work(m, n, r) == sum(c * k * r**2 for k in (m, n) for c in (2, 2, 12, 2, 4))


def test_slope_of_a_power():
    x = [1.0, 2.0, 4.0, 8.0, 16.0]
    y = [100.0, *(3 * v**1.7 for v in x[1:])]
    assert scaling.slope(x, y, 2.0) == pytest.approx(1.7)


def test_memory_of_a_fresh_process():
    peaks = scaling.memory(20_000, 20, 1)
    assert 3 < peaks["traced"] < 15  # Y0, the factors of F, the new bases
    assert 3 < peaks["resident"] < 30


def test_memory_of_a_long_run():
    with results.pinned(1):
        found = scaling.measure_long_run(300, 4, 50)
    assert 0 < found["last"] < 2 * found["first"]


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([0.5, 2.0, 8.0], 2.0**6), ([2.0, 3.0, 8.0], 0.0), ([0.1, 0.2, 0.9], None), ([0.5, 2.0, 0.5, 2.0], 2.0**10)],
)  # fmt: skip
def test_crossover_is_the_last_one(ratios, expected):
    found = whole_runs.crossover([2**5, 2**7, 2**9, 2**11][: len(ratios)], ratios)
    assert found == (None if expected is None else pytest.approx(expected))


def test_crossover_in_words():
    entry = {"n": [32, 64], "ratio": [1.0, 2.0], "crossover": 41.3}
    assert whole_runs.said("solve_ivp RK45", entry) == "Below n = 41 solve_ivp RK45 is faster."
    assert "up to n = 64" in whole_runs.said("x", entry | {"crossover": None})
    assert "from n = 32 on" in whole_runs.said("x", entry | {"crossover": 0.0})


@pytest.mark.parametrize("case", whole_runs.CASES, ids=lambda case: case.name)
def test_dense_fields_are_those_of_the_problems(case):
    """Written with shifted arrays, for NumPy, PyTorch and JAX."""
    problem = case.make(12)
    Y = (
        np.random.default_rng(0)
        .standard_normal((12, 12))
        .astype(problem.dense(0.0, whole_runs.start(problem)).dtype)
    )
    expected = problem.dense(0.0, Y)
    size = np.linalg.norm(expected)
    f = case.dense(np.asarray, whole_runs.neighbours_of(np, case.periodic), problem)
    assert np.linalg.norm(f(Y) - expected) < 1e-13 * size
    torch = pytest.importorskip("torch")
    f = case.dense(torch.as_tensor, whole_runs.neighbours_of(torch, case.periodic), problem)
    assert np.linalg.norm(f(torch.as_tensor(Y)).numpy() - expected) < 1e-13 * size
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        f = case.dense(jax.numpy.asarray, whole_runs.jax_neighbours_of(case.periodic), problem)
        assert np.linalg.norm(np.asarray(f(jax.numpy.asarray(Y))) - expected) < 1e-13 * size


def test_runs_are_those_within_the_target(monkeypatch, capsys):
    monkeypatch.setattr(whole_runs.importlib.util, "find_spec", lambda name: None)
    case = next(case for case in whole_runs.CASES if case.stiff)
    rows = whole_runs.measure_case(case, 24, 0.0)
    assert {row["solver"].split()[0] for row in rows} == {"dlra", "solve_ivp"}
    for row in rows:
        assert row["error"] <= case.target
        assert row["time"].median > 0
    assert sum(row["best of dlra"] for row in rows) == 1
    found = whole_runs.crossovers(rows)
    assert set(found[case.name]) == {"solve_ivp RK45", "solve_ivp BDF"}


def test_slow_runs_are_given_up(monkeypatch):
    f, reset = whole_runs.watched(lambda Y: Y)
    assert f(1) == 1
    monkeypatch.setattr(whole_runs, "LIMIT", -1.0)
    reset()
    with pytest.raises(whole_runs.TookTooLong):
        f(1)


@pytest.mark.slow
def test_rivals_reach_the_target():
    pytest.importorskip("diffrax")
    pytest.importorskip("torchdiffeq")
    for case in whole_runs.CASES:
        n = 40 if case.name == "schroedinger" else 24
        rows = {row["solver"]: row for row in whole_runs.measure_case(case, n, 0.0, every=3)}
        for name, row in rows.items():
            if not name.startswith("dlra"):
                assert row["error"] <= case.target, name
        assert rows["diffrax Dopri5"]["compiling"] > 0


# ---- the runner


@pytest.fixture
def runner():
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    app = importlib.import_module("validation.benchmarks.__main__").app
    return lambda *words: CliRunner().invoke(app, list(words))


def test_runner_refuses_unknown_names(runner):
    found = runner("kernel")
    assert found.exit_code == 2
    assert "no benchmark 'kernel'" in found.output and "kernels" in found.output


def test_runner_writes_numbers_pages_and_headlines(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "SIZES", ((20, 2), (30, 2)))
    large, loops = steps.measure_large, steps.measure_loops
    monkeypatch.setattr(steps, "measure_large", lambda n, r, seconds: large(200, 3, 0.0))
    monkeypatch.setattr(steps, "measure_loops", lambda n, r, seconds: loops(n, r, 0.0))
    monkeypatch.setattr(steps, "measure_import", lambda repeats: {"numpy": 0.1, "dlra": 0.05, "used": 0.15})
    before = {path: path.stat().st_mtime for path in DOCS.rglob("measured*")}
    found = runner("steps", "--quick", "--out", str(tmp_path))
    assert found.exit_code == 0, found.output
    assert json.loads((tmp_path / "measured/steps.json").read_text())["quick"] is True
    assert "## Beside hand-written loops" in (tmp_path / "measured-steps.md").read_text()
    assert "import dlra" in (tmp_path / "measured/headlines.md").read_text()
    assert {path: path.stat().st_mtime for path in DOCS.rglob("measured*")} == before


def test_runner_goes_on_after_a_failure(runner, tmp_path, monkeypatch):
    def broken(quick=False, threads=1):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(kernels, "main", broken)
    monkeypatch.setattr(steps, "main", lambda quick=False, threads=1: published("steps", quick=quick))
    found = runner("kernels", "steps", "--quick", "--out", str(tmp_path))
    assert found.exit_code == 1
    assert "kernels: failed" in found.output and "steps: done" in found.output


def test_runner_leaves_out_what_has_no_quick_form(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "main", lambda: pytest.fail("must not run"))
    found = runner("steps", "--quick", "--out", str(tmp_path))
    assert found.exit_code == 0
    assert "steps: has no quick form" in found.output


@pytest.mark.parametrize("name", importlib.import_module("validation.benchmarks.__main__").NAMES)
def test_every_name_is_a_benchmark(name):
    assert callable(importlib.import_module(f"validation.benchmarks.{name}").main)


@pytest.mark.slow
def test_pictures_are_drawn(folder, monkeypatch):
    monkeypatch.setattr(kernels, "SIZES", ((100, 5), (200, 5)))
    monkeypatch.setattr(
        scaling, "memory", lambda n, r: {"n": n, "r": r, "steps": 3, "traced": 7.0, "resident": 8.0}
    )
    monkeypatch.setattr(whole_runs, "CASES", tuple(case for case in whole_runs.CASES if case.stiff))
    for module in (kernels, scaling, whole_runs):
        module.main(quick=True)
    assert {path.name for path in (folder / "images").iterdir()} == {
        "kernels-roofline.png", "scaling.png", "whole-runs.png",
    }  # fmt: skip


# ---- the pages


def test_performance_page_names_files_that_exist():
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w./-]+\.(?:md|png|json))[^)]*\)", text)
    named += re.findall(r"^```\{include\} (\S+)$", text, re.M)
    assert "measured/headlines.md" in named
    for name in named:
        assert (DOCS / name).is_file(), name
    for module in re.findall(r"validation/benchmarks/(\w+)\.py", text):
        assert importlib.util.find_spec(f"validation.benchmarks.{module}")


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_fit_their_pages(path):
    record = json.loads(path.read_text())
    assert record["name"] == path.stem
    page = (DOCS / results.page_of(path.stem)).read_text(encoding="utf-8")
    assert page.startswith(f"# {record['title']}\n")
    assert results.conditions(record) in page
    for image in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (DOCS / image).is_file()
    for headline in record["headlines"]:
        met = headline.pop("met")
        assert Headline(**headline).met == met


def test_headlines_are_those_of_the_records(tmp_path):
    if not RECORDS:
        pytest.skip("nothing has been measured")
    (tmp_path / "measured").mkdir()
    for path in RECORDS:
        (tmp_path / "measured" / path.name).write_text(path.read_text())
    with pages.written_to(tmp_path):
        results.summary()
    assert (tmp_path / "measured/headlines.md").read_text() == (DOCS / "measured/headlines.md").read_text()
