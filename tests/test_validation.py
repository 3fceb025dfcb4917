"""``python -m validation``: verdicts, mutants, broken modules, interrupted runs; and every statement."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dlra
from validation import flows, mutants, pages, report, running, statements
from validation.checks import (
    Check,
    Counterexample,
    Fate,
    Identity,
    Inequality,
    Result,
    Slope,
    check,
    verdict,
)
from validation.networks import measures, subspace

HELD = Inequality("a", 1.0, 2.0)
TIGHT = Inequality("b", 1.9, 2.0)
EMPTY = Inequality("c", 1.0, 2.0, trivial=1.5)
WRONG = Inequality("d", 2.1, 2.0)
FOUND = Counterexample("e", 2.0, 1.0)
LINE = Slope.of("f", [1, 2, 4], [1, 4, 16], 2.0)


@pytest.mark.parametrize(
    ("findings", "expect", "found"),
    [
        ([HELD], "holds", "holds"),
        ([HELD, TIGHT], "holds", "sharp"),
        ([HELD, WRONG], "holds", "violated"),
        ([EMPTY], "holds", "vacuous here"),
        ([EMPTY, HELD], "holds", "holds"),
        ([Inequality("tight, but vacuous", 1.9, 2.0, trivial=2.0), HELD], "sharp", "holds"),
        ([FOUND], "holds", "fails as printed"),
        ([FOUND, WRONG], "fails as printed", "violated"),
        ([Counterexample("none", 1.0, 2.0)], "fails as printed", "violated"),
        ([Counterexample("rounding", 1.0 + 1e-15, 1.0)], "fails as printed", "violated"),
        ([HELD], "corrected form holds", "corrected form holds"),
        ([WRONG], "corrected form holds", "violated"),
        ([LINE], "holds", "holds"),
        ([Identity("i", 2e-13)], "holds", "violated"),
        ([Identity("nan", math.nan)], "holds", "violated"),
        ([Inequality("nan", math.nan, 1.0)], "holds", "violated"),
        ([], "holds", "violated"),
    ],
)
def test_verdict(findings, expect, found):
    assert verdict(findings, expect) == found


def test_slopes_are_those_of_the_logarithms():
    assert LINE.seen == pytest.approx(2.0)
    assert not Slope.of("shallow", [1, 2, 4], [1, 2, 4], 2.0).ok
    assert not Slope.of("steep", [1, 2, 4], [1, 4, 16], 1.0).ok
    assert Slope.of("one-sided", [1, 2, 4], [1, 4, 16], 1.0, at_least=True).ok
    assert not Slope.of("zero", [1, 2, 4], [1, 0, 16], 1.0, at_least=True).ok


def test_a_slope_needs_two_points():
    assert math.isnan(Slope.of("one", [1.0], [1.0], 1.0).seen)
    assert math.isnan(Slope.of("negative", [-1.0, 1.0], [1.0, 2.0], 1.0).seen)


def test_what_both_sides_have_anyway_makes_nothing_sharp():
    theta = Inequality("theta", 1.0, 1.1, base=0.95)
    assert theta.ratio == pytest.approx(1 / 3)
    assert verdict([theta], "holds") == "holds"


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="there is a check 's2-eq-3-7' already"):
        check("s2-eq-3-7", "again", expect="holds")(lambda quick: iter(()))


def test_a_verdict_that_cannot_be_expected_is_refused():
    with pytest.raises(ValueError, match=r"expect must be one of holds, .* got 'true'"):
        check("x", "x", expect="true")


def state_of(place):
    owner, name = place
    return vars(owner)[name]


def test_mutants_are_injected_and_removed():
    places = {place for m in mutants.MUTANTS.values() for place in m.places}
    before = {(id(owner), name): vars(owner)[name] for owner, name in places}
    for name, m in mutants.MUTANTS.items():
        with mutants.broken(name):
            assert all(state_of(place) is not before[id(place[0]), place[1]] for place in m.places)
        with pytest.raises(KeyError, match="inside"), mutants.broken(name):
            raise KeyError("inside")
    with mutants.touched() as met:
        pass
    assert met == set()
    assert all(vars(owner)[name] is before[id(owner), name] for owner, name in places)


def test_mutants_have_descriptions_and_their_own_names():
    assert all(m.description.endswith(".") and m.places for m in mutants.MUTANTS.values())
    with pytest.raises(ValueError, match="two mutants"):
        mutants.mutant(next(iter(mutants.MUTANTS)))(lambda original: original)


def test_touched_names_what_a_run_meets():
    Y0 = dlra.LowRank.from_dense(np.diag([3.0, 2.0, 1.0, 0.0, 0.0]), rank=3)
    with mutants.touched() as met:
        dlra.step(lambda t, Y: -Y, 0.0, 0.1, Y0, dlra.AugmentedBUG(substep="euler"))
    assert {"no augmentation", "ascent in S", "transposed L-step"} <= met
    assert (
        not {"forward middle step", "cropped moments", "lost conjugation", "truncation value by value"} & met
    )


def test_the_tree_enumerates_independent_minibatches():
    leaves = [(p, s) for t, p, s in flows.tree((), 3, 2, lambda s, t, i: (*s, i)) if t == 3]
    assert len({s for _, s in leaves}) == 8
    assert sum(p for p, _ in leaves) == 1.0
    with mutants.broken("reused minibatch"):
        again = {s for t, _, s in flows.tree((), 3, 2, lambda s, t, i: (*s, i)) if t == 3}
    assert again == {(0, 0, 0), (1, 1, 1)}


def test_the_reference_flow_has_order_four():
    A = np.asarray([[0.0, 1.0], [-1.0, 0.0]])
    exact = np.asarray([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]])
    errors = [np.linalg.norm(flows.rk4(lambda Y: A @ Y, np.eye(2), 1.0, k) - exact) for k in (8, 16)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.1)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"'nix'.*there are: .*s2_identities") as caught:
        running.chosen(["nix", "s2_identities"], quick=True)
    assert "'s2_identities'" not in str(caught.value)


BROKEN = '''"""A module for a test."""
from validation.checks import Identity, check

@check("t-good", "good", expect="holds", cannot_fail="a test")
def good(quick):
    """Protocol."""
    yield Identity("same", 0.0)

@check("t-raises", "raises", expect="holds")
def raises(quick):
    """Protocol."""
    yield Identity("same", 0.0)
    raise RuntimeError("no such luck")

@check("t-blind", "kills nothing", expect="holds")
def blind(quick):
    """Protocol."""
    yield Identity("same", 0.0)

@check("t-wrong", "wrong", expect="sharp")
def wrong(quick):
    """Protocol."""
    yield Identity("same", 1.0)
'''


@pytest.fixture
def invented(tmp_path, monkeypatch):
    """Two modules of statements in the place of the real ones: one does not import, one breaks in parts."""
    (tmp_path / "t_broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "t_parts.py").write_text(BROKEN)
    monkeypatch.setattr(statements, "__path__", [str(tmp_path)])
    yield tmp_path
    for name in ("t_broken", "t_parts"):
        sys.modules.pop(f"validation.statements.{name}", None)
    from validation import checks

    checks._REGISTERED.pop("validation.statements.t_parts", None)


def test_what_is_broken_is_reported_and_the_rest_runs(invented, tmp_path):
    run = running.chosen([], quick=True)
    running.execute(run, 0, lambda check, result: None)
    verdicts = {name: result.verdict for name, result in run.results.items()}
    assert verdicts == {"t-good": "holds", "t-raises": "broken", "t-blind": "holds", "t-wrong": "violated"}
    text = "\n".join(run.complaints())
    assert "t_broken: cannot be imported: ModuleNotFoundError" in text
    assert "t-raises: broken, expected: holds (RuntimeError: no such luck [t_parts.py, line 13])" in text
    assert "t-blind: kills no broken variant" in text
    assert "t-wrong: violated, expected: sharp (same: left 1.000e+00, right 1.000e-13)" in text
    assert "killed by no check" in text
    assert "t-good" not in text
    marks = {check.name: report.row(run, check)[-1] for check in run.checks()}
    assert marks == {
        "t-good": "holds",
        "t-raises": "broken (!)",
        "t-blind": "holds (!)",
        "t-wrong": "violated (!)",
    }
    report.write(run, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    tree = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "no such luck" in page
    assert tree["complete"]
    assert tree["complaints"] == run.complaints()


def test_a_part_of_a_run_does_not_miss_mutants(invented):
    run = running.chosen(["t-good"], quick=True)
    running.execute(run, 0, lambda check, result: None)
    assert run.complaints() == []


def test_an_interrupted_run_keeps_what_is_finished(invented, tmp_path):
    run = running.chosen(["t_parts"], quick=True)

    def stop(check, result):
        if check.name == "t-raises":
            raise KeyboardInterrupt

    running.execute(run, 0, stop)
    assert run.interrupted
    assert not run.complete
    assert list(run.results) == ["t-good", "t-raises"]
    report.write(run, tmp_path / "out")
    assert "not finished: 2 of 4" in (tmp_path / "out" / "report.html").read_text()


def test_tables_show_the_tightest_case_and_the_slopes():
    f = report.tightest([HELD, TIGHT, Inequality("vacuous", 5.0, 5.0, trivial=1.0), LINE])
    assert f is TIGHT
    assert report.tightest([EMPTY]) is EMPTY
    assert report.tightest([LINE]) is None
    assert report.slopes([LINE, LINE]) == "2 (2.00)"
    assert report.slopes([LINE, Slope.of("x", [1, 2], [1, 3], 2.0)]) == "2 (1.58 to 2.00)"
    result = Result("x", "holds", [HELD], [Fate("a", "killed"), Fate("b", "raises"), Fate("c", "survives")])
    assert report.killed(result) == "1 of 2"


def test_plots_are_pictures():
    picture = report.plot((LINE, Slope.of("a$\\frac$b", [1, 2], [3, math.nan], 1.0, x_name="eps")))
    assert picture.startswith(b"\x89PNG")


def test_docstrings_become_prose():
    text = report.prose("A title.\n\n    x <= y\n\n**Source.** `f` of\n\n* one\n* two\n")
    assert "<pre>x &lt;= y</pre>" in text
    assert "<b>Source.</b>" in text
    assert text.count("<li>") == 2


def test_pages_have_the_names_that_the_documentation_uses(tmp_path):
    run = running.chosen(["s2-eq-3-7", "x-stiff-forward"], quick=True)
    running.execute(run, 0, lambda check, result: None)
    text = report.markdown(run)
    assert "| `s2-eq-3-7` |" in text
    assert "## S2: A. Hnatiuk" in text
    assert text.index("## S2") < text.index("## Beyond the papers")
    assert "All verdicts are as recorded." in text
    page = report.html(run, {})
    assert 'id="s2-eq-3-7"' in page
    assert "All verdicts are as recorded." in page


def test_text_in_tables_is_not_markup():
    assert report._cell("E|P*f_iP*|² < `x`") == "E\\|P\\*f\\_iP\\*\\|² \\< \\`x\\`"


def test_an_adjusted_expectation_is_told():
    result = Result("t", "holds", [HELD], [Fate("frozen bases", "killed")])
    one = Check("t", "T", "holds", lambda quick: iter(()), __name__, adjusted="was: sharp")
    run = running.Run(True, {"t": [one]}, results={"t": result}, whole=False)
    assert (
        report.summary(run)
        == "All verdicts are as recorded (1 of them after an adjustment, which the check tells)."
    )
    assert report.summary(running.Run(True, {"t": [one]}, whole=False)) == ""  # not finished: nothing is said
    other = Result("t", "sharp", [TIGHT], [Fate("frozen bases", "killed")])
    assert report.row(running.Run(True, {"t": [one]}, results={"t": other}), one)[-1] == "sharp (!)"


def test_many_findings_show_the_tightest_first():
    many = [Inequality(str(i), float(i), 100.0) for i in range(30)]
    shown, rest = report.telling([*many, LINE, WRONG])
    assert {f.label for f in shown} == {"24", "25", "26", "27", "28", "29", "f", "d"}
    assert len(shown) + len(rest) == 32
    assert report.telling(many[:8]) == (many[:8], [])


# ---- the command


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "validation", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=250,
        **options,
    )


def test_the_command_runs_one_check_and_writes_the_report(tmp_path):
    done = command(
        "--quick", "--only", "s2-eq-3-7", "--out", tmp_path / "r", "--json", tmp_path / "x.json", "--jobs", 1
    )
    assert done.returncode == 0, done.stderr
    tree = json.loads((tmp_path / "x.json").read_text())
    assert [c["verdict"] for s in tree["statements"] for c in s["checks"]] == ["holds"]
    assert (tmp_path / "r" / "report.html").exists()


def test_the_command_refuses_unknown_names(tmp_path):
    done = command("--only", "nothing", "--out", tmp_path)
    assert done.returncode == 2
    assert "no statement or check of the name 'nothing'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_lists_names():
    done = command("--list", "--only", "x_stiff")
    assert done.returncode == 0
    assert "x-stiff-forward" in done.stdout


def test_the_command_fails_before_it_computes(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("--quick", "--out", tmp_path / "file")
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "folder").mkdir()
    done = command("--quick", "--out", tmp_path / "r", "--json", tmp_path / "folder")
    assert done.returncode == 2
    assert "is a folder" in done.stderr
    done = command("--docs", "--only", "x_stiff", "--out", tmp_path / "r")
    assert done.returncode == 2
    assert "leave --only away" in done.stderr


DEADLY = '''"""A module for a test."""
import os, pathlib, time
from validation.checks import Identity, check

for k in range(4):
    @check(f"d-{k}", "good", expect="holds", cannot_fail="a test")
    def good(quick, k=k):
        """Protocol."""
        if k == 1:
            os.kill(os.getpid(), 9)
        time.sleep(0.2)
        yield Identity("same", 0.0)
'''


def test_a_worker_that_dies_takes_only_its_own_check_along(tmp_path):
    """In processes of their own: a copy of validation with one module of statements."""
    root = Path(__file__).parents[1]
    shutil.copytree(
        root / "validation",
        tmp_path / "validation",
        ignore=shutil.ignore_patterns("s?_*", "x_*", "__pycache__"),
    )
    (tmp_path / "validation" / "statements" / "d_deadly.py").write_text(DEADLY)
    done = command("--out", tmp_path / "r", "--jobs", 2, cwd=tmp_path)
    tree = json.loads((tmp_path / "r" / "results.json").read_text())
    verdicts = {c["name"]: c["verdict"] for s in tree["statements"] for c in s["checks"]}
    assert verdicts == {"d-0": "holds", "d-1": "broken", "d-2": "holds", "d-3": "holds"}
    assert done.returncode == 1
    assert "its process died" in done.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_a_report(tmp_path):
    """With worker processes."""
    words = [sys.executable, "-m", "validation", "--quick", "--out", str(tmp_path), "--jobs", "2"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        time.sleep(0.2)
        if (tmp_path / "results.json").exists():
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert "not finished" in (tmp_path / "report.html").read_text()


# ---- the statements themselves

CHECKS: list[Check] = [c for module in statements.modules() for c in statements.checks(module)]


def test_checks_have_names_of_their_own_and_a_statement():
    names = [c.name for c in CHECKS]
    assert len(set(names)) == len(names)
    for c in CHECKS:
        assert c.protocol, c.name
        assert all(f"**{word}.**" in c.statement for word in ("Statement", "Source", "Assumptions")), c.module


@pytest.mark.parametrize("which", CHECKS, ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore")
def test_statement(which):
    """The unbroken code gives the recorded verdict."""
    with np.errstate(all="ignore"):
        findings = list(which.measure(True))
    wrong = [f for f in findings if not f.ok]
    assert not wrong, wrong[0]
    assert verdict(findings, which.expect) == which.expect


@pytest.mark.slow
def test_every_mutant_is_killed_and_every_check_can_fail(tmp_path):
    done = command("--quick", "--out", tmp_path, "--jobs", 2)
    assert done.returncode == 0, done.stderr[-3000:]


def test_means_are_shown_with_the_deviation_of_the_sample():
    assert pages.shown([1.0, 2.0, 3.0], 2) == pages.shown(np.asarray([1.0, 2.0, 3.0]), 2) == "2.00 ± 1.00"
    assert pages.shown([0.5], 1) == "0.5" and pages.deviation([0.5]) == 0
    assert subspace.percent([0.1, 0.3], 0) == "20 ± 14 %"
    assert measures.over(1) == "of one seed" and measures.over(3).endswith("over 3 seeds")
