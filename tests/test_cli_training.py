"""dlra train, evaluate and prune: what they do, print, write and refuse, on the digits of scikit-learn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dlra import nn

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("h5py")
from typer.testing import CliRunner

from dlra.cli import app

TINY = "train digits --layers 24 --batch-size 128 --lr 0.02".split()
KEYS = {
    "data_set", "images", "layers", "networks", "options", "history", "validation", "steps", "nfev", "seconds",
    "status", "message", "warnings", "files", "versions",
}  # fmt: skip


def dlra_command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments):
    result = dlra_command(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def recorded(*arguments):
    """The JSON of a command, strictly parsed."""
    text = done(*arguments, "--json", "-", "--quiet").stdout
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def refused(*arguments):
    """The single line of a command with a bad argument."""
    result = dlra_command(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that knows the digits somewhat."""
    path = tmp_path_factory.mktemp("model") / "model.h5"
    done(*TINY, "--epochs", 8, "--rank", 12, "--out", path, "--quiet")
    return path


# ---- train


def test_train_learns_and_says_so():
    result = done(*TINY, "--epochs", 8, "--rank", "12", "--tau", "0.2")
    text = result.stdout
    assert text.startswith("digits: 1348 for training, 449 for testing")
    for expected in (
        "64-24-10, float32, numpy", "AugmentedBUG(rtol=0.2)", "Adam(lr=0.02), batches of 128", "All 8 epochs done.",
        "88 steps, 1 gradient evaluation each", "449 predictions", "(at the start 12 10)", "compression",
    ):  # fmt: skip
        assert expected in text
    assert max(len(line) for line in text.splitlines()) <= 110
    assert result.stderr == ""
    accuracy = float(text.split("test  ")[1].split("accuracy ")[1].split("%")[0])
    assert 85 < accuracy < 100


def test_quiet_prints_nothing():
    result = done(*TINY, "--epochs", 1, "--quiet")
    assert result.stdout == result.stderr == ""


def test_json_agrees_with_the_saved_network():
    found = recorded(*TINY, "--epochs", 2, "--rank", 8, "--tau", "0", "--out", "net.h5")
    assert set(found) == KEYS
    assert found["images"] == {"training": 1348, "test": 449}
    assert found["files"] == ["net.h5"]
    assert (found["steps"], found["nfev"], found["status"]) == (22, 22, 0)
    history = found["history"]
    assert history["epoch"] == [1, 2]
    assert history["ranks"] == [[8, 10], [8, 10]]
    net = nn.load("net.h5")
    data = nn.datasets.digits()
    loss, accuracy = nn.evaluate(net, data.x_test, data.y_test, nn.CrossEntropyLoss())
    tested = found["networks"]["trained"]
    assert (tested["loss"], tested["accuracy"]) == (loss, accuracy)
    assert (
        history["validation_accuracy"][-1] == accuracy
    )  # without validation images the test images are looked at
    assert found["validation"] == "test"
    assert tested["ranks"] == list(net.ranks)
    assert tested["parameters"] == {
        "dense": 64 * 24 + 240, "evaluation": net.parameter_count(), "training": net.parameter_count("training"),
        "stored": net.parameter_count("stored"),
    }  # fmt: skip
    assert tested["compression"]["evaluation"] == net.compression()


def test_same_seed_same_result_and_another_seed_another():
    runs = [recorded(*TINY, "--epochs", 1, "--seed", seed)["history"]["loss"] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_validation_images_are_held_out_and_stop_the_training():
    found = recorded(
        *TINY, "--epochs", 30, "--lr", "0.05", "--validation-share", "0.25", "--patience", 1, "--rank", 8
    )
    assert found["images"] == {"training": 1011, "validation": 337, "test": 449}
    assert found["validation"] == "validation"
    assert found["status"] == 1
    assert "Stopped after epoch" in found["message"]
    assert len(found["history"]["epoch"]) < 30
    text = done(*TINY, "--epochs", 2, "--validation-share", "0.25").stdout
    assert "337 for validation" in text
    assert "the best" in text


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ((), {"0": "AugmentedBUG(rtol=0.09)"}),
        (("--tau", "0"), {"0": "AugmentedBUG()"}),
        (("--atol", "0.5", "--max-rank", "9"), {"0": "AugmentedBUG(atol=0.5, max_rank=9)"}),
        (("--min-rank", "2"), {"0": "AugmentedBUG(rtol=0.09, min_rank=2)"}),
        (("--method", "parallel-bug"), {"0": "ParallelBUG(rtol=0.09)"}),
        (("--method", "bug"), {"0": "BUG()"}),
        (("--method", "projector-splitting", "--optimizer", "sgd"), {"0": "ProjectorSplitting()"}),
        (("--dense",), {"0": "AugmentedBUG()"}),
        (
            ("--fix-after", "1", "--fine-tune-after", "2"),
            {"0": "AugmentedBUG(rtol=0.09)", "1": "AugmentedBUG()", "2": "Galerkin()"},
        ),
    ],
)
def test_methods(options, method):
    found = recorded(*TINY, "--epochs", 3, *options)
    assert found["options"]["method"] == method
    assert len(found["history"]["loss"]) == 3


def test_ranks_stay_after_they_are_fixed():
    options = (*TINY, "--epochs", 3, "--tau", "0.3", "--lr", "0.01")
    ranks = recorded(*options, "--fix-after", 1)["history"]["ranks"]
    free = recorded(*options)["history"]["ranks"]
    assert ranks[0] == ranks[1] == ranks[2] == free[0]
    assert free[2] != free[0]


def test_rules_for_the_ranks():
    found = recorded(*TINY, "--epochs", 1, "--budget", "500", "--min-rank", "2")
    assert found["options"]["truncation"] == "ParameterBudget(parameters=500, min_rank=2)"
    assert 2 <= found["history"]["ranks"][-1][0] <= 500 // (64 + 24)
    tied = recorded(*TINY, "--epochs", 1, "--tied", "20000")
    assert tied["options"]["truncation"] == "TiedTolerance(c=20000.0)"
    assert tied["history"]["ranks"][-1][0] < 24


@pytest.mark.parametrize(
    ("rank", "layers", "ranks"),
    [
        ("5", ["LowRankLinear(64, 24, rank=5)", "LowRankLinear(24, 12, rank=5)", "Linear(12, 10)"], [5, 5, 10]),
        ("5,4", ["LowRankLinear(64, 24, rank=5)", "LowRankLinear(24, 12, rank=4)", "Linear(12, 10)"], [5, 4, 10]),
        ("dense,4,3", ["Linear(64, 24)", "LowRankLinear(24, 12, rank=4)", "LowRankLinear(12, 10, rank=3)"], [24, 4, 3]),
    ],
)  # fmt: skip
def test_ranks_at_the_start(rank, layers, ranks):
    command = "train digits --layers 24,12 --epochs 1 --tau 0 --activation tanh --start truncated".split()
    found = recorded(*command, "--rank", rank)
    assert found["layers"] == [layers[0], "Tanh()", layers[1], "Tanh()", layers[2]]
    assert found["history"]["ranks"] == [ranks]


@pytest.mark.parametrize(
    ("options", "optimizer", "last_rate"),
    [
        ((), "Adam(lr=0.001, ", 1e-3),
        (("--lr", "0.01", "--weight-decay", "1e-4"), "Adam(lr=0.01, weight_decay=0.0001, ", 0.01),
        (("--optimizer", "sgd"), "SGD(lr=0.2, ", 0.2),
        (("--optimizer", "momentum", "--mu", "0.8", "--lam", "1"), "Momentum(lr=0.05, ", 0.05),
        (("--schedule", "exponential", "--decay", "0.5"), "Adam(lr=ExponentialDecay(", 1e-3 * 0.5 ** (21 / 11)),
        (("--schedule", "cosine", "--lr-end", "5e-4"), "Adam(lr=Cosine(lr=0.001, steps=22, floor=0.0005)", None),
        (("--schedule", "step", "--milestones", "1"), "Adam(lr=StepDecay(", 1e-4),
        (("--schedule", "robbins-monro", "--power", "1", "--t0", "2"), "Adam(lr=RobbinsMonro(", 1e-3 / (1 + 21 / 22)),
    ],
)  # fmt: skip
def test_optimisers_and_schedules(options, optimizer, last_rate):
    found = recorded(*"train digits --layers 24 --batch-size 128 --epochs 2".split(), *options)
    assert found["options"]["optimizer"].startswith(optimizer)
    if last_rate is not None:
        assert found["history"]["learning_rate"][-1] == pytest.approx(last_rate)


def test_picture():
    pytest.importorskip("matplotlib")
    done(*TINY, "--epochs", 1, "--plot", "a.png", "--quiet")
    with open("a.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"


def test_double_precision_and_another_library():
    found = recorded(*TINY, "--epochs", 1, "--dtype", "float64")
    assert found["options"]["dtype"] == "float64"
    pytest.importorskip("torch")
    other = recorded(*TINY, "--epochs", 1, "--dtype", "float64", "--backend", "torch", "--out", "net.h5")
    assert other["history"]["loss"] == pytest.approx(found["history"]["loss"], rel=1e-8)
    assert "torch" in other["versions"]
    assert type(nn.load("net.h5").weights[1]) is np.ndarray


def test_a_training_that_blows_up_is_a_failure():
    result = dlra_command(*TINY[:-1], "1e9", "--optimizer", "sgd")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: training failed in epoch 1")
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback():
    result = dlra_command(*TINY, "--tau", "2", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


# ---- checkpoints and Ctrl-C


def test_resume_continues_bit_for_bit():
    options = (*TINY, "--validation-share", "0.2")
    whole = recorded(*options, "--epochs", 4, "--out", "whole.h5")
    done(*options, "--epochs", 2, "--checkpoint", "c.h5", "--quiet")
    resumed = recorded(*options, "--epochs", 4, "--resume", "c.h5", "--out", "resumed.h5")
    assert resumed["history"]["loss"] == whole["history"]["loss"]
    for a, b in zip(nn.load("whole.h5").members, nn.load("resumed.h5").members, strict=True):
        a, b = (W if isinstance(W, np.ndarray) else W.to_dense() for W in (a, b))
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "named"),
    [(("--tau", "0.3"), "method"), (("--batch-size", "64"), "data"), (("--layers", "25"), "shapes")],
)
def test_resume_refuses_another_training(options, named):
    done(*TINY, "--epochs", 1, "--checkpoint", "c.h5", "--quiet")
    text = refused(*TINY, "--epochs", 2, "--resume", "c.h5", *options)
    assert text.startswith("error: --resume: the checkpoint is of a run with " + named)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_writes_what_there_is_and_exits_with_130():
    command = [
        sys.executable,
        "-c",
        "from dlra.cli import main; main()",
        *TINY,
        "--epochs",
        "100000",
        "--out",
        "net.h5",
    ]
    command += ["--checkpoint", "c.h5", "--checkpoint-every", "0.05", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if os.path.exists("c.h5"):
            break
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Interrupted by Ctrl-C in epoch" in out
    assert "Traceback" not in error
    assert nn.load("net.h5").ranks[1] == 10


# ---- evaluate


def test_evaluate_agrees_with_the_library(model):
    found = recorded("evaluate", model)
    data, net = nn.datasets.digits(), nn.load(model)
    tested = found["networks"]["network"]
    assert found["data_set"] == "digits"
    assert tested["accuracy"] == net.score(data.x_test, data.y_test) > 0.85
    assert tested["ranks"] == list(net.ranks)
    assert tested["predict_seconds"] > 0
    assert "history" not in found
    text = done("evaluate", model).stdout
    assert f"accuracy {tested['accuracy']:.2%}" in text
    assert "449 predictions in" in text


def test_evaluate_needs_the_name_of_the_data_only_where_the_file_has_none(model):
    nn.load(model).save("plain.h5")
    text = refused("evaluate", "plain.h5")
    assert "--data-set" in text
    assert "plain.h5" in text
    done("evaluate", "plain.h5", "--data-set", "digits")


def test_evaluate_of_a_network_for_other_images():
    nn.mlp((10, 5, 10), 3, rng=0).save("other.h5")
    text = refused("evaluate", "other.h5", "--data-set", "digits")
    assert "other.h5 does not take the images of digits" in text


# ---- prune


def test_prune_and_retrain(model):
    options = ("--rank", 5, "--retrain", 4, "--lr", "5e-3", "--batch-size", 128, "--out", "small.h5")
    found = recorded("prune", model, *options)
    before, truncated, retrained = (found["networks"][k] for k in ("before", "truncated", "retrained"))
    assert before["accuracy"] == recorded("evaluate", model)["networks"]["network"]["accuracy"]
    assert truncated["ranks"] == retrained["ranks"] == [5, 5]
    assert retrained["accuracy"] > truncated["accuracy"] < before["accuracy"]
    assert found["options"]["method"] == {"0": "AugmentedBUG()"}
    data = nn.datasets.digits()
    cut = nn.to_lowrank(nn.load(model), rank=5)
    assert truncated["accuracy"] == cut.score(data.x_test, data.y_test)
    assert recorded("evaluate", "small.h5")["networks"]["network"]["accuracy"] == retrained["accuracy"]
    text = done("prune", model, *options).stdout
    for row in ("before", "truncated", "retrained", "wrote"):
        assert f"\n  {row}" in text


@pytest.mark.parametrize(
    ("options", "check"),
    [
        (("--tau", "0.4"), lambda r, p: r[0] < 12),
        (("--parameters", "600"), lambda r, p: p <= 600),
        (("--rank", "3,keep"), lambda r, p: r == [3, 10]),
        (("--rank", "3,2"), lambda r, p: r == [3, 2]),
    ],
)
def test_prune_without_retraining(model, options, check):
    found = recorded("prune", model, *options)
    assert list(found["networks"]) == ["before", "truncated"]
    truncated = found["networks"]["truncated"]
    assert check(truncated["ranks"], truncated["parameters"]["evaluation"])


# ---- bad arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--tau 1", "--tau"), ("--tau -0.1", "--tau"), ("--tau nan", "--tau"), ("--atol -1", "--atol"),
        ("--atol inf", "--atol"), ("--tied 0", "--tied"), ("--tied 1 --budget 9", "--tied"),
        ("--tied 1 --tau 0.1", "--tau"), ("--budget 500 --max-rank 4", "--max-rank"), ("--budget 5", "--budget"),
        ("--budget 500 --fix-after 1", "--fix-after"), ("--min-rank 5 --max-rank 4", "--min-rank"),
        ("--min-rank 25", "--min-rank"), ("--rank 0", "--rank"), ("--rank 5,x", "--rank"), ("--rank 5,5,5", "--rank"),
        ("--rank 5,11", "--rank"), ("--rank x", "--rank"), ("--layers 24,", "--layers"), ("--layers 0", "--layers"),
        ("--activation gelu", "--activation"), ("--start zero", "--start"), ("--model resnet", "--model"),
        ("--model lenet5", "--layers"), ("--method nonsense", "--method"), ("--method bug --tau 0.1", "--tau"),
        ("--method bug --max-rank 3", "--max-rank"), ("--method bug --budget 600", "--budget"),
        ("--method projector-splitting", "--method"), ("--fix-after 10", "--fix-after"),
        ("--fine-tune-after 10", "--fine-tune-after"), ("--fix-after 3 --fine-tune-after 2", "--fix-after"),
        ("--dense --rank 3", "--rank"), ("--dense --tau 0.1", "--tau"), ("--dense --fix-after 1", "--fix-after"),
        ("--batch-size 5000", "--batch-size"), ("--optimizer lbfgs", "--optimizer"), ("--lr 0", "--lr"),
        ("--lr nan", "--lr"), ("--mu 0.5", "--mu"), ("--optimizer momentum --mu 1", "--mu"),
        ("--optimizer momentum --lam 11", "--lam"), ("--weight-decay -1", "--weight-decay"),
        ("--schedule linear", "--schedule"), ("--decay 0.5", "--decay"),
        ("--schedule exponential --decay 1", "--decay"), ("--schedule step", "--milestones"),
        ("--schedule step --milestones 5,3", "--milestones"),
        ("--schedule step --milestones a", "--milestones"), ("--milestones 3", "--milestones"),
        ("--schedule cosine --lr-end 1", "--lr-end"), ("--lr-end 0.1", "--lr-end"), ("--power 1", "--power"),
        ("--schedule robbins-monro --power 0.5", "--power"), ("--schedule robbins-monro --t0 0", "--t0"),
        ("--patience 2", "--patience"), ("--validation-share 1", "--validation-share"),
        ("--validation-share 0.0001", "--validation-share"), ("--dtype float16", "--dtype"),
        ("--backend tensorflow", "--backend"), ("--device cuda:0", "--device"), ("--data .", "--data"),
        ("--out nowhere/a.h5", "--out"), ("--plot a.xyz", "--plot"), ("--json nowhere/a.json", "--json"),
        ("--json a --out a", "--out"), ("--checkpoint nowhere/a.h5", "--checkpoint"),
        ("--checkpoint a.h5 --checkpoint-every 0", "--checkpoint-every"), ("--resume missing.h5", "--resume"),
    ],
)  # fmt: skip
def test_train_names_the_bad_option(arguments, named):
    assert named in refused(*"train digits --layers 24".split(), *arguments.split())


@pytest.mark.parametrize(
    "option", ["--epochs", "--batch-size", "--min-rank", "--budget", "--patience", "--threads"]
)
def test_counts_must_be_positive(option):
    result = dlra_command("train", "digits", option, "0")
    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("train cifar10", "DATASET"), ("train mnist --data nowhere", "--data"), ("evaluate missing.h5", "MODEL"),
        ("evaluate .", "MODEL"), ("prune missing.h5 --rank 3", "MODEL"),
    ],
)  # fmt: skip
def test_what_there_is_not(arguments, named):
    assert named in refused(*arguments.split())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "--rank"), ("--rank 3 --tau 0.1", "--tau"), ("--rank 3 --parameters 500", "--parameters"),
        ("--tau 0", "--tau"), ("--tau 1", "--tau"), ("--rank 3,3,3", "--rank"), ("--rank x", "--rank"),
        ("--parameters 5", "--parameters"), ("--rank 3 --lr 0.1", "--lr"), ("--rank 3 --plot a.png", "--plot"),
        ("--rank 3 --retrain 1 --lr -1", "--lr"), ("--rank 3 --retrain 1 --batch-size 5000", "--batch-size"),
        ("--rank 3 --data-set cifar10", "--data-set"),
    ],
)  # fmt: skip
def test_prune_names_the_bad_option(model, arguments, named):
    assert named in refused("prune", model, *arguments.split())


# ---- MNIST


def test_lenet5_on_a_folder_of_files():
    data = nn.datasets.digits(flatten=False)
    write_idx("train", data.x_train[:64], data.y_train[:64])
    write_idx("t10k", data.x_test[:32], data.y_test[:32])
    options = "--data . --model lenet5 --epochs 1 --batch-size 32 --rank 5 --out net.h5".split()
    found = recorded("train", "mnist", *options)
    assert found["images"] == {"training": 64, "test": 32}
    again = recorded("evaluate", "net.h5", "--data", ".")
    assert again["networks"]["network"]["loss"] == found["networks"]["trained"]["loss"]


def write_idx(name, x, y):
    """Write digits and labels as two files in the form of MNIST."""
    pixels = np.pad(
        np.rint(255 * np.kron(x[:, 0], np.ones((1, 3, 3)))).astype(np.uint8), ((0, 0), (2, 2), (2, 2))
    )
    with open(f"{name}-images-idx3-ubyte", "wb") as file:
        file.write(np.array([0x803, len(x), 28, 28], dtype=">i4").tobytes() + pixels.tobytes())
    with open(f"{name}-labels-idx1-ubyte", "wb") as file:
        file.write(np.array([0x801, len(y)], dtype=">i4").tobytes() + y.astype(np.uint8).tobytes())


@pytest.mark.slow
def test_mnist_is_learnt():
    if not os.environ.get("DLRA_DATA"):
        pytest.skip("DLRA_DATA is not set: no MNIST")
    found = recorded(*"train mnist --layers 100,100 --epochs 3 --lr 3e-3".split())
    assert found["networks"]["trained"]["accuracy"] > 0.96
