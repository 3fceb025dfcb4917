"""``python -m validation``: verdicts, mutants, broken modules, interrupted runs; and every statement."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import dlra
from validation import flows, mutants, report, running, statements
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
    running.execute(run, 1, lambda check, result: None)
    verdicts = {name: result.verdict for name, result in run.results.items()}
    assert verdicts == {"t-good": "holds", "t-raises": "broken", "t-blind": "holds", "t-wrong": "violated"}
    text = "\n".join(run.complaints())
    assert "t_broken: cannot be imported: ModuleNotFoundError" in text
    assert "t-raises: broken, expected: holds (RuntimeError: no such luck [t_parts.py, line 13])" in text
    assert "t-blind: kills no broken variant" in text
    assert "t-wrong: violated, expected: sharp (same: left 1.000e+00, right 1.000e-13)" in text
    assert "killed by no check" in text
    assert "t-good" not in text
    report.write(run, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    tree = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "no such luck" in page
    assert tree["complete"]
    assert tree["complaints"] == run.complaints()


def test_a_part_of_a_run_does_not_miss_mutants(invented):
    run = running.chosen(["t-good"], quick=True)
    running.execute(run, 1, lambda check, result: None)
    assert run.complaints() == []


def test_an_interrupted_run_keeps_what_is_finished(invented, tmp_path):
    run = running.chosen(["t_parts"], quick=True)

    def stop(check, result):
        if check.name == "t-raises":
            raise KeyboardInterrupt

    running.execute(run, 1, stop)
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
    assert report.slopes([LINE]) == "2 (2.00)"
    result = Result("x", "holds", [HELD], [Fate("a", "killed"), Fate("b", "raises"), Fate("c", "survives")])
    assert report.killed(result) == "1 of 2"


def test_plots_are_pictures():
    picture = report.plot([LINE, Slope.of("other axes", [1, 2], [3, math.nan], 1.0, x_name="eps")])
    assert picture.startswith(b"\x89PNG")


def test_docstrings_become_prose():
    text = report.prose("A title.\n\n    x <= y\n\n**Source.** `f` of\n\n* one\n* two\n")
    assert "<pre>x &lt;= y</pre>" in text
    assert "<b>Source.</b>" in text
    assert text.count("<li>") == 2


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
