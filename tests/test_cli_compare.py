"""dlra compare: the folder it writes, what it prints and refuses, on the digits of scikit-learn."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import re

import pytest

from dlra._cli import comparing_report
from dlra.compress import Comparison, comparison

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
from typer.testing import CliRunner

from dlra.cli import app

TINY = (
    "compare digits --net mlp --layers 24,20 --batch-size 256 --epochs 1 --targets 0.3,0.5 --taus 0.2 --lr 0.01"
).split()
FILES = {"report.html", "results.json", "accuracy.png", "retained.png", "decay.png"}


def dlra_command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments):
    result = dlra_command(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


DRAWN = comparing_report._png


@pytest.fixture(autouse=True)
def _in_empty_directory_without_drawing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparing_report, "_png", lambda draw: b"a picture")


def files(folder="comparison"):
    return set(os.listdir(folder))


def read(folder="comparison"):
    with open(f"{folder}/results.json", encoding="utf-8") as file:
        return json.load(file, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_folder_with_report_numbers_and_pictures(monkeypatch):
    monkeypatch.setattr(comparing_report, "_png", DRAWN)
    result = done(*TINY, "--methods", "dlrt,lorita2,svd", "--seeds", 2)
    assert files() == FILES
    found = read()
    assert found["data_set"] == "digits"
    assert found["images"] == {"training": 1348, "test": 449}
    assert found["network"] == "mlp 24,20"
    assert {os.path.basename(name) for name in found["files"]} == FILES
    again = Comparison.from_dict(found["comparison"])
    assert [t.method for t in again.trainings] == ["dlrt", "lorita2", "svd"] * 2
    assert len(again.points) == 2 * (1 + 2 + 2)
    assert again.settings["methods"] == ["dlrt", "lorita2", "svd"]
    assert len(found["rows"]) == 5
    text = result.stdout
    assert text.startswith(
        "digits, mlp 24,20: 2216 parameters, 4432 FLOPs; 1348 images for training, 449 for testing"
    )
    for line in again.table().splitlines():
        assert line in text
    assert "wrote comparison/report.html" in text.replace(os.sep, "/")
    with open("comparison/report.html", encoding="utf-8") as file:
        page = file.read()
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 3
    for name in ("accuracy.png", "retained.png", "decay.png"):
        with open(f"comparison/{name}", "rb") as file:
            assert base64.b64encode(file.read()).decode() in images
    assert "http" not in page  # nothing is fetched
    for point in again.points[:3]:
        assert f"<td>{point.parameters:,}</td>" in page or point.method != "svd"
    for row in again.rows():
        assert f"{100 * row.accuracy[0]:.2f}" in page
        assert " ".join(map(str, row.ranks)) in page


def test_quiet_and_json_on_standard_output():
    result = done(*TINY, "--methods", "svd", "--fine-tune", 0, "--quiet", "--json", "-")
    assert json.loads(result.stdout) == read()
    assert result.stderr == ""
    assert all(point["accuracy_tuned"] is None for point in read()["comparison"]["points"])
    done(*TINY, "--methods", "svd", "--fine-tune", 0, "--quiet", "--json", "also.json")
    assert "also.json" in read()["files"]
    with open("also.json", encoding="utf-8") as file:
        assert json.load(file) == read()


def test_options_arrive():
    done(
        *TINY, "--methods", "nuclear,gini", "--strength", "nuclear=1e-3", "--strength", "gini=0.5", "--rule", "lsvt",
        "--optimizer", "momentum", "--weight-decay", 0, "--seeds", "4,7", "--truncate-last", "--fine-tune", 0,
        "--dtype", "float64", "--out", "x", "--quiet",
    )  # fmt: skip
    settings = read("x")["comparison"]["settings"]
    expected = {
        "strengths": {"nuclear": 1e-3, "gini": 0.5}, "rule": "lsvt", "optimizer": "momentum", "weight_decay": 0.0,
        "seeds": [4, 7], "keep_last": False, "fine_tune": 0, "dtype": "float64", "lr": 0.01, "targets": [0.3, 0.5],
        "taus": [0.2], "epochs": 1, "batch_size": 256,
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


def test_defaults_are_those_of_the_library():
    import inspect

    from dlra._cli.comparing_commands import compare as command

    shown, taken = inspect.signature(command).parameters, inspect.signature(comparison.compare).parameters
    for name in ("epochs", "fine_tune", "batch_size", "optimizer", "lr", "weight_decay", "rule", "keep_last"):
        assert shown[name].default == taken[name].default
    for name in ("methods", "taus"):
        assert shown[name].default == ",".join(map(str, taken[name].default))
    assert shown["seeds"].default == str(taken["seeds"].default)


def test_notes_are_in_the_summary_and_the_report():
    result = done(
        "compare", "digits", "--net", "mlp", "--layers", "24,20", "--batch-size", 256, "--epochs", 1,
        "--methods", "svd", "--fine-tune", 0,
    )  # fmt: skip
    with open("comparison/report.html", encoding="utf-8") as file:
        page = file.read()
    for text in (result.stdout, page):
        assert "Of the default targets left out: 5 %, 10 %, since rank 1 in every weight" in text


def test_failure_of_a_method_is_in_the_report_and_the_exit_code():
    result = dlra_command(*TINY, "--methods", "svd,nuclear", "--strength", "nuclear=1e300", "--quiet")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: nuclear, seed 0, training: TrainingError: ")
    assert files() == FILES
    (failure,) = read()["comparison"]["failures"]
    with open("comparison/report.html", encoding="utf-8") as file:
        page = file.read()
    assert "Failed: nuclear, seed 0, training" in page
    assert failure["method"] == "nuclear"
    assert len(read()["comparison"]["points"]) == 2


def test_nothing_finished_still_writes_a_report():
    done(*TINY, "--methods", "svd", "--quiet", "--fine-tune", 0)
    result = dlra_command(*TINY, "--methods", "nuclear", "--strength", "nuclear=1e300")
    assert result.exit_code == 1
    assert files() == {"report.html", "results.json"}  # no picture of another run
    assert read()["comparison"]["points"] == []


SVD = [*TINY, "--methods", "svd", "--fine-tune", 0]


def content(folder="comparison"):
    found = {}
    for name in files(folder):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


@pytest.fixture
def disk_with_room_for(monkeypatch):
    """A function of the size in bytes above which no file can be written."""

    def full_above(size):
        class Limited(io.FileIO):
            def write(self, data):
                if len(data) <= size:
                    return super().write(data)
                super().write(data[:10])
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(
            comparing_report, "open", lambda path, mode: Limited(path, mode.replace("b", "")), raising=False
        )

    return full_above


def test_a_full_disk_leaves_the_earlier_comparison(disk_with_room_for):
    """Without the numbers nothing is touched; the summary is printed all the same."""
    done(*SVD)
    before = content()
    disk_with_room_for(0)
    result = dlra_command(*SVD, "--lr", 1e-3, "--json", "also.json")
    assert result.exit_code == 1
    path = os.path.join("comparison", "results.json")
    assert result.stderr == f"error: cannot write {path}: No space left on device\n"
    assert "svd" in result.stdout
    assert "nothing was written" in result.stdout
    assert content() == before
    assert set(os.listdir()) == {"comparison"}  # no temporary file


def test_numbers_are_written_where_there_is_no_room_for_the_page(disk_with_room_for, monkeypatch):
    done(*SVD, "--lr", 1e-3)
    disk_with_room_for(60_000)
    monkeypatch.setattr(comparing_report, "_png", lambda draw: bytes(50_000))  # of three in the page
    result = dlra_command(*SVD)
    assert result.exit_code == 1
    path = os.path.join("comparison", "report.html")
    assert result.stderr == f"error: cannot write {path}: No space left on device\n"
    assert f"wrote {os.path.join('comparison', 'results.json')}" in result.stdout
    assert read()["comparison"]["settings"]["lr"] == 0.01
    assert files() == FILES - {"report.html"}  # the earlier one does not belong to these numbers


def test_an_error_while_drawing_loses_neither_numbers_nor_other_pictures(monkeypatch):
    from dlra import plot

    done(*SVD, "--lr", 1e-3)
    monkeypatch.setattr(comparing_report, "_png", lambda draw: draw())
    for name in ("accuracy_against_parameters", "singular_value_decay"):
        monkeypatch.setattr(plot, name, lambda *_: b"new")

    def broken(curves):
        raise ValueError("no axes")

    monkeypatch.setattr(plot, "retained_singular_values", broken)
    result = dlra_command(*SVD)
    assert result.exit_code == 1
    assert "cannot draw retained.png: ValueError: no axes" in result.stderr
    assert "wrote comparison" in result.stdout
    assert files() == FILES - {"retained.png"}  # the earlier one is gone
    assert read()["comparison"]["settings"]["lr"] == 0.01
    assert content()["decay.png"] == b"new"
    with open("comparison/report.html", encoding="utf-8") as file:
        assert file.read().count("<img") == 2


def test_an_error_of_the_comparison_loses_nothing_that_is_done(monkeypatch):
    real, calls = comparison.train, []

    def broken(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("no memory")
        return real(*arguments, **options)

    monkeypatch.setattr(comparison, "train", broken)
    result = dlra_command(*TINY, "--methods", "svd,lorita2", "--fine-tune", 0)
    assert result.exit_code == 1
    assert "MemoryError: no memory" in result.stderr
    assert [t["method"] for t in read()["comparison"]["trainings"]] == ["svd"]
    assert files() == FILES


def test_own_folder_is_overwritten_and_another_is_not():
    done(*TINY, "--methods", "svd", "--fine-tune", 0, "--quiet")
    with open("comparison/notes.txt", "w") as file:
        file.write("mine")
    done(*TINY, "--methods", "lorita2", "--fine-tune", 0, "--quiet")
    assert files() == FILES | {"notes.txt"}
    assert read()["comparison"]["settings"]["methods"] == ["lorita2"]
    os.mkdir("photos")
    for text in ("{}", "no json"):
        with open("photos/results.json", "w") as file:
            file.write(text)
        assert "--out photos: not empty, and not a folder that 'dlra compare' has written" in refused(
            *TINY, "--out", "photos"
        )
    os.mkdir("empty")
    done(*TINY, "--methods", "svd", "--fine-tune", 0, "--quiet", "--out", "empty")


def refused(*arguments):
    """The single line of a command with a bad argument, which has done nothing."""
    before = set(os.listdir())
    result = dlra_command(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert set(os.listdir()) == before
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["compare", "cifar"], "DATASET must be one of mnist, fashion-mnist, digits, got 'cifar'"),
        ([*TINY, "--net", "vgg"], "--net must be one of fcn6, fcn8"),
        (["compare", "digits", "--net", "mlp"], "--net mlp needs --layers"),
        (["compare", "digits", "--layers", "3"], "--layers goes with --net mlp only; fcn8 is what it is"),
        (["compare", "digits", "--net", "lenet5"], "--net lenet5 takes images of 28 x 28 pixels"),
        ([*TINY, "--layers", "3,x"], "--layers takes whole numbers, separated by commas, e.g. 500,500, got '3,x'"),
        ([*TINY, "--layers", "3,0"], "--layers: every size must be at least 1, got '3,0'"),
        ([*TINY, "--methods", "svd,lora"], "--methods must be among dlrt, lorita1"),
        ([*TINY, "--methods", ""], "--methods must be among"),
        ([*TINY, "--targets", "0.01"], "--targets has 0.01, but rank 1"),
        ([*TINY, "--targets", "ten"], "--targets takes numbers, separated by commas, e.g. 0.1,0.2, got 'ten'"),
        ([*TINY, "--taus", "2"], "--taus must lie strictly between 0 and 1, got 2"),
        ([*TINY, "--rule", "svt"], "--rule must be one of 'gsvt', 'lsvt', 'isvt', got 'svt'"),
        ([*TINY, "--strength", "nuclear"], "--strength takes METHOD=NUMBER, e.g. nuclear=1e-4, got 'nuclear'"),
        ([*TINY, "--strength", "nuclear=much"], "--strength takes METHOD=NUMBER"),
        ([*TINY, "--strength", "svd=1"], "--strength has 'svd', which is no method with a regulariser"),
        ([*TINY, "--strength", "hoyer=1"], "--strength has 'hoyer', which is not among the methods dlrt"),
        ([*TINY, "--strength", "gini=-1"], "--strength gini must be positive and finite, got -1"),
        ([*TINY, "--strength", "gini=1", "--strength", "gini=2"], "--strength gini is given twice"),
        ([*TINY, "--seeds", "many"], "--seeds takes whole numbers"),
        ([*TINY, "--seeds", "1,1"], "--seeds must be different whole numbers"),
        ([*TINY, "--lr", "0"], "--lr must be positive and finite, got 0"),
        ([*TINY, "--weight-decay", "-1"], "--weight-decay must be finite and >= 0"),
        ([*TINY, "--optimizer", "lion"], "--optimizer must be one of"),
        ([*TINY, "--batch-size", "5000"], "--batch-size must not exceed the number of training rows, 1348, got 5000"),
        ([*TINY, "--dtype", "float16"], "--dtype must be one of float32, float64, got 'float16'"),
        ([*TINY, "--out", "no/where"], "--out no/where: there is no directory no; create it first"),
        ([*TINY, "--json", "no/x.json"], "there is no directory no"),
        ([*TINY, "--json", "new", "--out", "new"], "--json new: --out new writes there"),
        (["compare", "mnist", "--data", "nowhere"], "--data"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, text, monkeypatch):
    monkeypatch.setattr(comparison, "train", lambda *_, **__: pytest.fail("work was done"))
    assert text in refused(*arguments).replace(os.sep, "/")


@pytest.mark.parametrize("name", ["report.html", "results.json", "accuracy.png"])
def test_files_of_the_folder_are_not_for_json(name, monkeypatch):
    monkeypatch.setattr(comparison, "train", lambda *_, **__: pytest.fail("work was done"))
    os.mkdir("a")
    os.symlink("a", "b")
    assert f"--json b/{name}: --out a writes there; give another file" in refused(
        *TINY, "--out", "a", "--json", f"b/{name}"
    )


def test_a_directory_in_the_place_of_a_picture(monkeypatch):
    done(*SVD, "--quiet")
    os.remove("comparison/accuracy.png")
    os.mkdir("comparison/accuracy.png")
    monkeypatch.setattr(comparison, "train", lambda *_, **__: pytest.fail("work was done"))
    assert "--out comparison: accuracy.png in it is a directory; give another folder" in refused(*TINY)


def test_a_file_is_no_folder():
    with open("file", "w"):
        pass
    assert "--out file: a file; give the path of a folder" in refused(*TINY, "--out", "file")


def test_ctrl_c_writes_what_is_done_and_exits_with_130(monkeypatch):
    real, calls = comparison.train, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(comparison, "train", interrupted)
    result = dlra_command(*TINY, "--methods", "svd,lorita2", "--fine-tune", 0)
    assert result.exit_code == 130, result.stderr
    assert "Interrupted by Ctrl-C after 1 trainings." in result.stdout
    found = Comparison.from_dict(read()["comparison"])
    assert found.message == "Interrupted by Ctrl-C after 1 trainings."
    assert (len(found.trainings), len(found.points)) == (1, 2)
    assert files() == FILES
    with open("comparison/report.html", encoding="utf-8") as file:
        assert "Interrupted by Ctrl-C" in file.read()


def test_ctrl_c_before_anything_is_done_writes_nothing(monkeypatch):
    done(*SVD, "--quiet")
    before = content()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "train", interrupted)
    result = dlra_command(*TINY, "--json", "also.json")
    assert result.exit_code == 130
    assert "nothing was written" in result.stdout
    assert content() == before
    assert dlra_command(*TINY, "--quiet", "--out", "new").exit_code == 130
    assert set(os.listdir()) == {"comparison"}


def test_progress_on_standard_error():
    pytest.importorskip("rich")
    result = done(*TINY, "--methods", "svd", "--progress", "--quiet")
    assert result.stdout == ""
    assert "epoch 1/1" in result.stderr
