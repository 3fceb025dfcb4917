"""Networks and trainings as files: the same bits come back, an interrupted training goes on as if nothing had been."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import random_lowrank
from nn_helpers import bits, blobs, network

import dlra
from dlra import AugmentedBUG, Checkpoint, LowRank, TrainingError, _files, nn
from dlra.nn._storage import known_layers

pytest.importorskip("h5py")

CE = nn.CrossEntropyLoss()

# ---- networks


def every_layer(dtype="float64"):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, dtype=dtype, rng=0), nn.ReLU(), nn.MaxPool2d(2),
        nn.SVDConv2d(4, 4, 1, 3, dtype=dtype, rng=4), nn.ComposedConv2d(4, 4, 1, 3, dtype=dtype, rng=5),
        nn.LowRankConv2d(4, 5, 3, 3, stride=2, dtype=dtype, rng=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.LowRankLinear(5, 6, 2, dtype=dtype, rng=2), nn.Sigmoid(), nn.ComposedLinear(6, 6, dtype=dtype, rng=6),
        nn.SVDLinear(6, 6, bias=False, dtype=dtype, rng=7), nn.Linear(6, 3, False, dtype=dtype, rng=3),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_comes_back_bit_for_bit(tmp_path, dtype):
    net = every_layer(dtype)
    assert {type(layer).__name__ for layer in net.layers} == set(known_layers())
    x = np.random.default_rng(0).standard_normal((7, 1, 10, 10)).astype(dtype)
    net.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert repr(again) == repr(net) and [type(a) for a in again.layers] == [type(a) for a in net.layers]
    assert bits(again) == bits(net) and again.dtype == dtype
    assert np.array_equal(again.predict(x), net.predict(x))


def test_rank_seven_stays_rank_seven(tmp_path):
    net = network((20, 15, 3), (7, None))
    x, y = blobs(features=20)
    nn.train(
        net, x, y, loss=CE, optimizer=nn.Adam(0.01), method=AugmentedBUG(), epochs=1, batch_size=40, rng=0
    )
    net.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert again.ranks == (7, 3) and bits(again) == bits(net)
    assert np.array_equal(again.predict(x), net.predict(x)) and again.score(x, y) == net.score(x, y)
    nn.train(again, x, y, loss=CE, optimizer=nn.SGD(0.1), epochs=1, batch_size=40, rng=0)  # goes on


def test_a_weight_that_is_no_decomposition_is_kept_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    odd = LowRank(rng.standard_normal((15, 4)), rng.standard_normal((4, 4)), rng.standard_normal((20, 4)))
    net = network((20, 15, 3), (7, None)).with_weights({0: odd})
    net.save(tmp_path / "net.h5")
    assert bits(nn.load(tmp_path / "net.h5")) == bits(net)


def test_networks_of_other_libraries_come_back_as_numpy(tmp_path, eager_library):
    net = network((6, 5, 3), (2, None))
    net.to(eager_library.asarray(np.zeros(1))).save(tmp_path / "net.h5")
    assert bits(nn.load(tmp_path / "net.h5")) == bits(net)


def test_foreign_layer_is_refused_before_writing(tmp_path):
    class Cube(nn.Tanh):
        pass

    net = network((6, 5, 3), (2, None))
    with pytest.raises(TypeError, match=r"only layers of dlra\.nn can be stored, got Cube\(\)"):
        nn.Sequential(*net.layers[:1], Cube(), *net.layers[2:]).save(tmp_path / "net.h5")
    assert not list(tmp_path.iterdir())


def test_unknown_layer_in_a_file(tmp_path):
    path = tmp_path / "net.h5"
    network((6, 5, 3), (2, None)).save(path)
    tree = _files.read(path, "network")
    tree["layers"][1]["class"] = "Softplus"
    _files.write(path, "network", tree)
    with pytest.raises(
        ValueError, match="layer 1 of class Softplus, which this version of dlra does not know .*upgrade"
    ):
        nn.load(path)


def test_files_that_are_no_network(tmp_path):
    path = tmp_path / "net.h5"
    net = network((6, 5, 3), (2, None))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        nn.load(path)
    net.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(_files.FileFormatError, match="net.h5"):
        nn.load(path)
    path.write_bytes(whole[:-200] + bytes(x ^ 255 for x in whole[-200:]))
    with pytest.raises(_files.FileFormatError):
        nn.load(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(_files.FileFormatError, match="not an HDF5 file"):
        nn.load(path)
    Y = random_lowrank(np.random.default_rng(0), 5, 4, 2)
    dlra.solve(lambda t, Y: -1.0 * Y, (0, 1), Y, "augmented-bug", dt=0.5).save(path)
    with pytest.raises(_files.FileFormatError, match=r"solution.*Solution\.load"):
        nn.load(path)
    net.save(path)
    x, y = blobs(features=6)
    with pytest.raises(_files.FileFormatError, match=r"network.*dlra\.nn\.load"):
        nn.train(net, x, y, loss=CE, optimizer=nn.SGD(0.1), epochs=1, batch_size=9, resume=path)


# ---- trainings

RUNS = {
    "augmented, Adam": (AugmentedBUG(rtol=0.15), nn.Adam(0.02)),
    "BUG, momentum": (dlra.BUG(), nn.Momentum(0.02, lam=1.0)),
    "parallel, Adam": (dlra.ParallelBUG(rtol=0.15), nn.Adam(0.02, weight_decay=0.01, decoupled=True)),
    "Galerkin last": ({0: AugmentedBUG(rtol=0.15), 2: dlra.Galerkin()}, nn.Adam(0.02)),
}
STEPS = 4
"""Steps of an epoch."""

pytestmark = pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")


class Stop(nn.Tanh):
    """Raises an error in its forward pass number ``at``."""

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.at, self.error, self.calls = at, error, 0

    def forward(self, x, parameters, reuse):
        self.calls += 1
        if self.calls == self.at:
            raise self.error("stopped")
        return super().forward(x, parameters, reuse)


def run(
    path,
    name="augmented, Adam",
    *,
    at=None,
    error=KeyboardInterrupt,
    every=3,
    epochs=4,
    resume=False,
    **options,
):
    """Train on blobs with a checkpoint; returns the network and the history."""
    method, optimizer = RUNS[name]
    x, y = blobs(rows=100)
    net = network((10, 12, 3), (4, 3), seed=9)
    net = nn.Sequential(net.layers[0], Stop(at, error), net.layers[2])
    history = nn.train(
        net, x, y,
        **{"loss": CE, "optimizer": optimizer, "method": method, "epochs": epochs, "batch_size": 30, "rng": 3,
           "validation": (x[:40], y[:40]), "checkpoint": Checkpoint(path, every=1000 if resume else every),
           "resume": path if resume else None, **options},
    )  # fmt: skip
    return net, history


def state(path):
    """All that a checkpoint holds but for seconds, with arrays as bytes."""
    tree = _files.read(path, "training")
    del tree["seconds"], tree["history"]["seconds"]
    return plain(tree)


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    return repr(value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The state and the network after an uninterrupted run, by name."""
    found = {}
    for name in RUNS:
        path = tmp_path_factory.mktemp("whole") / "run.h5"
        net, history = run(path, name, every=1000)
        found[name] = bits(net), state(path), history
    return found


def check_same(path, net, history, expected):
    weights, tree, reference = expected
    assert bits(net) == weights, "the weights"
    found = state(path)
    assert found["memory"] == tree["memory"]
    for name in found:
        assert found[name] == tree[name], name
    assert history.steps == reference.steps == 4 * STEPS and history.status == 0


POINTS = [1 + STEPS // 2, STEPS + 2, 2 * STEPS + 3]
"""Steps before which a run breaks off, none at the beginning of an epoch."""


def forwards(name, step):
    """The forward pass with which step ``step`` (from 0) begins; validation takes one an epoch."""
    return step * (2 if name.startswith("BUG") else 1) + step // STEPS + 1


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("step", POINTS)
def test_resume_after_an_error_between_steps(tmp_path, name, step, whole):
    """What is written on the way out is the state after the last step."""
    path = tmp_path / "run.h5"
    stops = [step]

    class Rate:
        def __call__(self, t):
            if t in stops:
                raise ZeroDivisionError
            return 0.02

    with pytest.raises(TrainingError, match="schedule raised ZeroDivisionError"):
        raising(path, name, Rate())
    assert _files.read(path, "training")["t"] == step
    stops.clear()
    net, history = raising(path, name, Rate(), resume=True)
    assert bits(net) == whole[name][0]
    tree = state(path)
    for key in ("memory", "history", "rng", "t", "nfev", "Ys"):
        assert tree[key] == whole[name][1][key], key
    assert history.nfev == whole[name][2].nfev


def raising(path, name, rate, **options):
    return run(path, name, optimizer=dataclasses.replace(RUNS[name][1], lr=rate), **options)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_resume_after_an_error_in_the_callback(tmp_path, name, epoch, whole):
    path = tmp_path / "run.h5"

    def callback(row):
        if row.epoch == epoch:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(path, name, callback=callback)
    check_same(path, *run(path, name, resume=True), whole[name])


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("step", POINTS)
def test_resume_after_ctrl_c_in_the_middle_of_a_step(tmp_path, name, step, whole):
    path = tmp_path / "run.h5"
    _, history = run(path, name, at=forwards(name, step))
    assert history.status == 1 and _files.read(path, "training")["t"] == step
    net, history = run(path, name, resume=True)
    assert bits(net) == whole[name][0]
    tree = state(path)
    for key in ("memory", "rng", "t", "Ys", "order", "epoch"):
        assert tree[key] == whole[name][1][key], key
    for column in ("loss", "accuracy", "validation_loss", "ranks", "learning_rate"):
        assert getattr(history, column) == getattr(whole[name][2], column)


@pytest.mark.parametrize("step", POINTS)
def test_evaluations_of_a_broken_step_do_not_count(tmp_path, step, whole):
    path = tmp_path / "run.h5"
    name = "augmented, Adam"
    run(path, name, at=forwards(name, step))
    _, history = run(path, name, resume=True)
    assert history.nfev == whole[name][2].nfev


@pytest.mark.parametrize(("epoch", "every"), [(1, 3), (1, 1000), (2, 3), (2, 1000)])
def test_resume_after_ctrl_c_in_the_first_step_of_an_epoch(tmp_path, epoch, every, whole):
    """The permutation of the epoch has been drawn; that of the next one must not be the same."""
    path, name = tmp_path / "run.h5", "augmented, Adam"
    run(path, name, at=forwards(name, epoch * STEPS), every=every)
    net, _ = run(path, name, resume=True)
    assert bits(net) == whole[name][0]


@pytest.mark.parametrize("every", [1, 3, 5])
def test_resume_from_a_checkpoint_on_the_way(tmp_path, every, whole):
    """As after kill -9: the file is that of an earlier step, and nothing was written on the way out."""
    path, copy, name = tmp_path / "run.h5", tmp_path / "copy.h5", "augmented, Adam"
    seen = []

    def keep(row):
        seen.append(row.epoch)
        if row.epoch == 2:
            copy.write_bytes(path.read_bytes())

    run(path, name, every=every, callback=keep)
    t = _files.read(copy, "training")["t"]
    assert t == 1 + (2 * STEPS - 1) // every * every
    seen.clear()
    check_same(copy, *run(copy, name, every=every, resume=True), whole[name])


def test_more_epochs_equal_a_longer_run(tmp_path, whole):
    path, name = tmp_path / "run.h5", "augmented, Adam"
    run(path, name, epochs=2)
    check_same(path, *run(path, name, resume=True), whole[name])


@pytest.mark.parametrize("every", [3, 1000])
def test_resume_of_a_finished_run_does_nothing(tmp_path, every, whole):
    """Also where the last step was due for a checkpoint, which is written before the epoch ends."""
    path, name = tmp_path / "run.h5", "augmented, Adam"
    run(path, name, every=every)
    assert len(_files.read(path, "training")["history"]["epoch"]) == 4
    net, history = run(path, name, resume=True, at=1)
    assert bits(net) == whole[name][0] and len(history) == 4 and history.status == 0


def test_patience_goes_on_after_resume(tmp_path):
    """The best weights so far are in the checkpoint."""
    rate = lambda t: 0.05 if t < 6 else 3.0 * (t - 5)  # noqa: E731
    options = {"optimizer": nn.SGD(rate), "patience": 3, "epochs": 20}
    a, first = run(tmp_path / "a.h5", **options)
    assert first.status == 1 and len(first) < 20
    assert run(tmp_path / "b.h5", at=forwards("", first.best_epoch * STEPS + 3), **options)[1].status == 1
    b, second = run(tmp_path / "b.h5", resume=True, **options)
    assert bits(a) == bits(b) and second.message == first.message and second.best_epoch == first.best_epoch


def test_best_weights_are_known_when_the_callback_fails(tmp_path):
    """The epoch after which the callback raises an error is the best one; nothing is trained after it."""
    rate = lambda t: 0.05 if t < 2 * STEPS else 3.0 * (t - 7)  # noqa: E731
    options = {"optimizer": nn.SGD(rate), "patience": 2, "epochs": 20}
    a, first = run(tmp_path / "a.h5", **options)
    assert 1 < first.best_epoch < len(first) < 20

    def callback(row):
        if row.epoch == first.best_epoch:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "b.h5", callback=callback, **options)
    b, _ = run(tmp_path / "b.h5", resume=True, **options)
    assert bits(a) == bits(b)


def test_data_drawn_with_replacement(tmp_path):
    options = {"replacement": True}
    a, _ = run(tmp_path / "a.h5", **options)
    run(tmp_path / "b.h5", at=forwards("", 6), **options)
    b, _ = run(tmp_path / "b.h5", resume=True, **options)
    assert bits(a) == bits(b)


def test_iterables_resume_at_the_beginning_of_an_epoch(tmp_path):
    x, y = blobs(rows=100)
    batches = [(x[i : i + 30], y[i : i + 30]) for i in range(0, 100, 30)]

    def go(path, at=None, resume=None, epochs=4):
        net = network((10, 12, 3), (4, 3), seed=9)
        net = nn.Sequential(net.layers[0], Stop(at), net.layers[2])
        nn.train(
            net,
            batches,
            loss=CE,
            optimizer=nn.Adam(0.02),
            epochs=epochs,
            rng=3,
            checkpoint=path,
            resume=resume,
        )
        return bits(net)

    expected = go(tmp_path / "a.h5")
    go(tmp_path / "b.h5", epochs=2)
    assert go(tmp_path / "b.h5", resume=tmp_path / "b.h5") == expected


def test_iterables_are_written_between_epochs(tmp_path):
    """So that kill -9 does not lose all of a long training."""
    x, y = blobs(rows=100)
    path, seen = tmp_path / "run.h5", []
    nn.train(network((10, 12, 3), (4, 3)), [(x, y)] * 5, loss=CE, optimizer=nn.Adam(0.02), epochs=3, rng=3,
             checkpoint=Checkpoint(path, every=1), callback=lambda row: seen.append(path.exists()))  # fmt: skip
    assert seen[-1]


@pytest.mark.parametrize("every", [1, 7, 1000])
@pytest.mark.parametrize("arrays", [True, False])
def test_the_file_of_a_finished_run_has_the_best_weights(tmp_path, arrays, every):
    """Whatever the cadence: what a run with patience ends with is what resume brings back."""
    x, y = blobs(rows=100)
    path = tmp_path / "run.h5"
    data = (x, y) if arrays else ([(x[i : i + 30], y[i : i + 30]) for i in range(0, 100, 30)], None)
    rate = lambda t: 0.05 if t < 8 else 3.0 * (t - 7)  # noqa: E731

    def go(**options):
        net = network((10, 12, 3), (4, 3), seed=9)
        history = nn.train(
            net, *data, loss=CE, optimizer=nn.SGD(rate), epochs=6, patience=10, validation=(x, y), rng=3,
            batch_size=30 if arrays else None, checkpoint=Checkpoint(path, every=every), **options,
        )  # fmt: skip
        return net, history

    net, history = go()
    assert history.best_epoch < len(history) == 6
    again, resumed = go(resume=path)
    assert bits(again) == bits(net) and len(resumed) == 6


DIFFERENCES = {
    "method": ({"method": AugmentedBUG(rtol=0.2)}, "method"),
    "optimizer": ({"optimizer": nn.Adam(0.03)}, r"optimizer = .*lr=0\.02.*lr=0\.03"),
    "batch_size": ({"batch_size": 31}, "data"),
    "replacement": ({"replacement": True}, "data"),
    "patience": ({"patience": 2}, "patience"),
    "truncation": ({"method": AugmentedBUG(), "truncation": nn.TiedTolerance(1.0)}, "method|truncation"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_resume_with_other_arguments(tmp_path, name):
    path = tmp_path / "run.h5"
    run(path, epochs=1)
    options, error = DIFFERENCES[name]
    with pytest.raises(ValueError, match=rf"the checkpoint is of a run with ({error}).*drop resume"):
        run(path, resume=True, **options)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda net: nn.Sequential(net.layers[0], nn.ReLU(), net.layers[2]), "layers"),
        (lambda net: network((10, 11, 3), (4, 3)), "shapes|layers"),
        (lambda net: net.astype("float32"), "dtype"),
    ],
)
def test_resume_with_another_network(tmp_path, change, error):
    path = tmp_path / "run.h5"
    x, y = blobs()
    net = network((10, 12, 3), (4, 3))
    options = {"loss": CE, "optimizer": nn.SGD(0.1), "epochs": 1, "batch_size": 30}
    nn.train(net.copy(), x, y, checkpoint=path, **options)
    other = change(net)
    with pytest.raises(ValueError, match=f"the checkpoint is of a run with ({error})"):
        nn.train(other, x.astype(other.dtype), y, resume=path, **options)


def test_checkpoint_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(*a):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "write", fail)
    with pytest.raises(
        TrainingError, match="the checkpoint in epoch 1, batch 2 could not be written.*No space left"
    ) as error:
        run(tmp_path / "run.h5")
    assert error.value.history.steps == 1


@pytest.mark.slow
def test_resume_after_kill(tmp_path, whole):
    """kill -9 in the middle of a run, whose steps take a moment each."""
    path, name = tmp_path / "run.h5", "augmented, Adam"
    here = os.path.dirname(__file__)
    code = (
        "import time, test_nn_files as t\n"
        "before = t.nn.Tanh.forward\n"
        "def slow(*a):\n"
        "    time.sleep(0.1)\n"
        "    return before(*a)\n"
        "t.nn.Tanh.forward = slow\n"
        f"t.run({str(path)!r}, {name!r}, every=1)\n"
    )
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [here, os.path.dirname(here), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        began = time.monotonic()
        while time.monotonic() - began < 60:
            if path.exists() and _files.read(path, "training")["t"] >= 6:
                break
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 6 <= _files.read(path, "training")["t"] < 4 * STEPS
    check_same(path, *run(path, name, every=1, resume=True), whole[name])
    assert [p.name for p in tmp_path.iterdir() if not re.search(r"\.tmp$", p.name)] == ["run.h5"]
