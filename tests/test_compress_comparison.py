"""dlra.compress.compare: the same footing for all methods, what is kept when one fails, its pictures."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

from dlra import DlraWarning, nn
from dlra.compress import Comparison, Failure, Point, Training, _defaults, compare, comparison, gsvt
from dlra.lowrank import LowRank

pytest.importorskip("sklearn")

ALL = (
    "dlrt", "lorita1", "lorita2", "lorita3", "svd", "nuclear", "schatten", "effective-rank", "hoyer", "gini",
    "svd-training",
)  # fmt: skip
FAST = {"epochs": 1, "batch_size": 128, "targets": [0.3], "taus": [0.2]}


@pytest.fixture(scope="module")
def data():
    return nn.datasets.digits()


def start(rng):
    return nn.mlp((64, 24, 20, 10), rng=rng)


@pytest.fixture(scope="module")
def found(data):
    return compare(data, start, ALL, **FAST | {"targets": [0.3, 0.5], "epochs": 2, "batch_size": 64}, lr=1e-2)


def tiny(**options):
    """A comparison of few numbers."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 8)).astype("float32"), rng.integers(3, size=30)
    given = {"epochs": 1, "batch_size": 10, "targets": [0.6], "fine_tune": 0}
    return compare((x, y, x, y), nn.mlp((8, 7, 6, 3), rng=0), **given | options)


# ---- the numbers


def test_every_method_gives_its_points(found):
    assert not found.failures
    assert found.methods == list(ALL)
    assert [t.method for t in found.trainings] == list(ALL)
    total = 64 * 24 + 24 * 20 + 200
    assert all(t.parameters == total for t in found.trainings if t.method != "dlrt")
    for point in found.points:
        assert point.accuracy_full == next(t.accuracy for t in found.trainings if t.method == point.method)
        assert point.flops == 2 * point.parameters
        assert 0 <= point.accuracy <= 1
        assert 0 <= point.accuracy_tuned <= 1
        if point.method == "dlrt":
            training = next(t for t in found.trainings if t.method == "dlrt")
            assert (point.target, point.ranks, point.accuracy) == (0.2, training.ranks, training.accuracy)
        else:
            assert point.parameters <= point.target * total
            assert point.ranks[-1] == 10
    assert len(found.points) == 1 + 2 * (len(ALL) - 1)
    assert max(p.accuracy_tuned or 0 for p in found.points) > 0.5


def test_all_methods_start_from_the_same_weights(data):
    """A training that cannot move shows where it starts."""
    found = compare(data, start, ALL, **FAST | {"taus": [1e-6], "fine_tune": 0}, lr=1e-12, weight_decay=0.0)
    net = start(np.random.default_rng([0, 0]))
    expected = [np.linalg.svd(W, compute_uv=False) for W in net.weights]
    for training in found.trainings:
        assert training.accuracy == pytest.approx(net.score(data.x_test, data.y_test), abs=0.005)
        for s, exact in zip(training.singular_values, expected, strict=True):
            assert np.allclose(s, exact, rtol=1e-4, atol=1e-5 * exact[0]), training.method


def test_a_training_and_its_truncation_are_those_of_the_library(data, found):
    training = next(t for t in found.trainings if t.method == "svd")
    points = [p for p in found.points if p.method == "svd"]
    net = start(np.random.default_rng([0, 0]))
    steps = math.ceil(1348 / 64)

    def fit(net, epochs, stream, **options):
        return nn.train(
            net, data.x_train, data.y_train, loss=nn.CrossEntropyLoss(), epochs=epochs, batch_size=64,
            optimizer=nn.Adam(nn.schedules.Cosine(1e-2, epochs * steps), weight_decay=1e-4),
            rng=np.random.default_rng([0, stream]), **options,
        )  # fmt: skip

    history = fit(net, 2, 1)
    assert training.training_loss == tuple(history.loss)
    assert training.accuracy == net.score(data.x_test, data.y_test)
    for share, accuracy in training.retained:
        assert accuracy == gsvt(net, share=share, layers=[0, 1]).net.score(data.x_test, data.y_test)
    for point in points:
        small = gsvt(net, parameters=int(point.target * 2216), layers=[0, 1]).net
        assert (point.ranks, point.parameters) == (tuple(small.ranks), small.parameter_count())
        assert point.accuracy == small.score(data.x_test, data.y_test)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DlraWarning)
            fit(small, 1, 2, method="augmented-bug")
        assert point.accuracy_tuned == small.score(data.x_test, data.y_test)


def test_one_factor_is_dense_training(found):
    """Same start, same batches, same optimiser: the same bits."""
    svd, lorita = (
        next(t for t in found.trainings if t.method == name)._replace(method="", seconds=0.0)
        for name in ("svd", "lorita1")
    )
    assert svd == lorita


def test_regularisers_and_products_change_the_training(found):
    losses = {t.training_loss for t in found.trainings}
    assert len(losses) == len(ALL) - 1  # svd and lorita1 are the same


def test_low_rank_training_counts_dense_where_factors_are_no_smaller(data):
    found = compare(data, start, ["dlrt"], **FAST | {"taus": [1e-6, 0.4]})
    full, small = found.points
    assert (full.target, full.parameters) == (1e-6, 64 * 24 + 24 * 20 + 200)
    assert small.ranks[0] < 24
    assert small.parameters == small.ranks[0] * 88 + small.ranks[1] * 44 + 200


def test_low_rank_training_shows_the_ranks_that_were_trained(monkeypatch, data):
    """Where factors are no smaller than the weight too; it is trained on at this rank."""
    real, trained = comparison.train, []

    def spied(net, *arguments, **options):
        history = real(net, *arguments, **options)
        trained.append(tuple(history.net.ranks))
        return history

    monkeypatch.setattr(comparison, "train", spied)
    found = compare(data, start, ["dlrt"], **FAST | {"taus": [0.12]})
    (training,), (point,) = found.trainings, found.points
    assert trained == [training.ranks, point.ranks]
    assert point.ranks == training.ranks
    assert 64 * 24 / 88 <= training.ranks[0] < 24
    assert point.parameters == training.parameters == 64 * 24 + min(480, training.ranks[1] * 44) + 200
    assert point.flops == 2 * point.parameters
    note = "dlrt: weights whose factors would be no smaller count dense, whatever their rank."
    assert found.table().splitlines()[-1] == note
    assert note not in compare(data, start, ["dlrt"], **FAST | {"taus": [0.5]}).table()


def test_the_last_weight_is_truncated_where_asked_for(data):
    found = compare(
        data, start, ["dlrt", "lorita2", "svd"], **FAST | {"targets": [0.1], "taus": [0.5]}, keep_last=False,
    )  # fmt: skip
    assert not found.failures
    for point in found.points:
        assert point.ranks[-1] < 10, point.method


@pytest.mark.parametrize("rule", ["lsvt", "isvt"])
def test_rules(data, rule):
    found = compare(data, start, ["svd"], **FAST, rule=rule, fine_tune=0)
    (point,) = found.points
    assert not found.failures
    net = start(np.random.default_rng([0, 0]))
    assert point.accuracy_tuned is None
    assert point.parameters <= 0.3 * net.parameter_count()
    if rule == "lsvt":
        shares = [r / min(W.shape) for r, W in zip(point.ranks[:2], net.weights[:2], strict=True)]
        assert shares[0] == pytest.approx(shares[1], abs=0.06)  # one share for all weights


def test_seeds(data):
    found = compare(data, start, ["svd"], **FAST, seeds=[3, 5], fine_tune=0)
    again = compare(data, start, ["svd"], **FAST, seeds=[5], fine_tune=0)
    assert [t.seed for t in found.trainings] == [3, 5]
    first, second = found.trainings
    assert first.training_loss != second.training_loss
    assert second._replace(seconds=0.0) == again.trainings[0]._replace(seconds=0.0)
    (row,) = found.rows()
    values = [p.accuracy for p in found.points]
    assert row.seeds == 2
    assert row.accuracy == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_network_given_stays_as_it_is(data):
    net = start(0)
    before = [np.array(W) for W in net.weights]
    compare(data, net, ["dlrt", "svd", "lorita2", "svd-training"], **FAST)
    assert all(np.array_equal(W, B) for W, B in zip(net.weights, before, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_libraries(eager_library, dtype):
    rng = np.random.default_rng(0)
    x = eager_library.asarray(rng.standard_normal((20, 8)).astype(dtype))
    y = eager_library.asarray(rng.integers(3, size=20))
    net = nn.mlp((8, 7, 6, 3), dtype=dtype, rng=0).to(x)
    found = compare(
        (x, y, x, y), net, ["dlrt", "lorita2", "svd-training", "nuclear"], epochs=1, batch_size=10, targets=[0.6],
    )  # fmt: skip
    assert not found.failures
    assert len(found.points) == 4 + 3
    json.dumps(found.to_dict(), allow_nan=False)


def test_convolutions(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 1, 28, 28)).astype("float32"), rng.integers(10, size=8)
    net = nn.lenet5(rng=0)
    monkeypatch.setattr(comparison, "RETAINED", (0.2, 1.0))  # each share is a truncation
    found = compare((x, y, x, y), net, ["svd", "lorita2"], epochs=1, batch_size=8, targets=[0.2], fine_tune=0)
    assert not found.failures
    for point in found.points:
        assert point.parameters <= 0.2 * 430_500
        assert point.flops < net.flops((1, 28, 28)) == found.settings["flops"]


def test_images_and_default_targets(data):
    """Of the default targets those are taken that are possible."""
    found = compare(data, start, ["svd"], epochs=1, batch_size=256, fine_tune=0)
    assert found.settings["targets"] == [0.15, 0.2, 0.3, 0.5]
    with_last = compare(data, start, ["svd"], epochs=1, batch_size=256, fine_tune=0, keep_last=False)
    assert with_last.settings["targets"] == [0.1, 0.15, 0.2, 0.3, 0.5]
    assert str(found).splitlines()[-1] == (
        "Of the default targets left out: 5 %, 10 %, since rank 1 in every weight that is truncated takes 332 of 2216 "
        "parameters, a share of 0.15."
    )
    asked = compare(data, start, ["svd"], **FAST, fine_tune=0)
    assert "left out" not in asked.table()
    x, y = np.zeros((5, 3), "float32"), np.zeros(5, int)
    options = {"epochs": 1, "batch_size": 5, "keep_last": False, "fine_tune": 0}
    narrow = nn.mlp((3, 2, 3), rng=0)  # no default share leaves a rank of 1
    with pytest.raises(
        ValueError, match="targets: of the defaults none is possible, since rank 1 .* takes 10 of 12"
    ):
        compare((x, y, x, y), narrow, ["dlrt", "svd"], **options)
    truncating_nothing = compare((x, y, x, y), narrow, ["dlrt"], **options)
    assert truncating_nothing.settings["targets"] == []
    assert "left out" not in truncating_nothing.table()


def test_a_share_is_not_rounded_to_one_less():
    for count in (100, 116, 2216, 430_500):
        for hundredths in range(1, 100):
            assert comparison._part(hundredths / 100, count) == hundredths * count // 100
        for part in range(1, min(count, 500)):
            assert comparison._part(part / count, count) == part


def test_rows_belong_to_their_trainings():
    """Of low-rank training each tau has its own."""
    found = made()
    first, *_, last = found.trainings
    found.trainings[0], found.trainings[-1] = first._replace(seconds=5.0), last._replace(seconds=3.0)
    found.trainings.append(first._replace(tau=0.3, seconds=100.0))
    rows = {(row.method, row.target): row for row in found.rows()}
    assert list(rows) == [("dlrt", 0.1), ("svd", 0.1), ("svd", 0.5)]
    assert rows["dlrt", 0.1].training_seconds == 3.0  # of 5 and 1
    assert rows["svd", 0.5].training_seconds == 2.0  # of 1 and 3
    assert [row.setting for row in rows.values()] == ["tau 0.1", "10 %", "50 %"]


# ---- what goes wrong on the way


def test_divergence_of_one_method_is_recorded_and_the_others_go_on():
    found = tiny(methods=["svd", "nuclear", "lorita2"], strengths={"nuclear": 1e300})
    assert found.methods == ["svd", "lorita2"]
    assert len(found.points) == 2
    (failure,) = found.failures
    assert failure[:3] == ("nuclear", 0, "training")
    assert failure.message.startswith("TrainingError: ")
    assert failure.message in found.table()
    assert "1 failures" in repr(found)


def test_failure_of_a_point_is_recorded_and_the_others_go_on(monkeypatch):
    real = comparison._RULE["gsvt"]

    def broken(net, *, parameters=None, **options):
        if parameters == int(0.7 * 116):
            raise np.linalg.LinAlgError("SVD did not converge")
        return real(net, parameters=parameters, **options)

    monkeypatch.setitem(comparison._RULE, "gsvt", broken)
    found = tiny(methods=["svd"], targets=[0.6, 0.7, 0.8])
    assert [p.target for p in found.points] == [0.6, 0.8]
    assert found.failures == [Failure("svd", 0, "truncation to 70 %", "LinAlgError: SVD did not converge")]


def test_ctrl_c_keeps_what_is_done(monkeypatch):
    real, calls = comparison.train, []

    def interrupted(*arguments, **options):
        history = real(*arguments, **options)
        calls.append(1)
        if len(calls) == 2:  # train returns what it has
            history.status = 1
        return history

    monkeypatch.setattr(comparison, "train", interrupted)
    found = tiny(methods=["svd", "nuclear", "lorita2"])
    assert [t.method for t in found.trainings] == ["svd"]
    assert len(found.points) == 1
    assert not found.failures
    assert found.message == "Interrupted by Ctrl-C after 1 trainings."
    assert found.table().endswith(found.message)


def test_ctrl_c_between_trainings():
    def callback(finished):
        if isinstance(finished, Point):
            raise KeyboardInterrupt

    found = tiny(methods=["svd", "nuclear"], callback=callback)
    assert (len(found.trainings), len(found.points)) == (1, 1)
    assert found.message.startswith("Interrupted")


def test_callback_receives_everything_and_may_stop():
    seen = []
    found = tiny(methods=["dlrt", "svd"], taus=[0.1], callback=seen.append)
    assert [type(one) for one in seen] == [Training, Point, Training, Point]
    assert [one.method for one in seen] == ["dlrt", "dlrt", "svd", "svd"]
    assert not found.message
    stopped = tiny(
        methods=["svd", "nuclear"], callback=lambda finished: np.bool_(isinstance(finished, Point))
    )
    assert [t.method for t in stopped.trainings] == ["svd"]
    assert stopped.message == "Stopped by the callback after 1 trainings."
    full = tiny(methods=["svd"], callback=lambda finished: "a text that print would return None for")
    assert len(full.points) == 1
    assert not full.message


@pytest.mark.parametrize("kind", [Training, Point, Failure])
def test_error_of_the_callback_is_raised_with_what_is_done(kind):
    error = ValueError("the caller's")

    def callback(finished):
        if isinstance(finished, kind):
            raise error

    with pytest.raises(ValueError, match="the caller's") as caught:
        tiny(methods=["svd", "nuclear", "lorita2"], strengths={"nuclear": 1e300}, callback=callback)
    assert caught.value is error
    assert "comparison" in error.__notes__[0]
    found = error.comparison
    assert [f.method for f in found.failures] == (["nuclear"] if kind is Failure else [])
    assert (len(found.trainings), len(found.points)) == ((1, 0) if kind is Training else (1, 1))
    assert found.message == "Ended by ValueError after 1 trainings."


def test_unexpected_errors_are_raised_with_what_is_done(monkeypatch):
    real = comparison.to_composed
    monkeypatch.setattr(comparison, "to_composed", lambda *_, **__: real(3))
    with pytest.raises((TypeError, AttributeError)) as caught:
        tiny(methods=["svd", "lorita2"])
    assert len(caught.value.comparison.points) == 1


def test_a_seed_without_a_start_is_recorded_and_the_others_go_on():
    calls = []

    def net(rng):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no such file")
        return nn.mlp((8, 7, 6, 3) if len(calls) < 4 else (8, 7, 3), rng=rng)

    seen = []
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 8)).astype("float32"), rng.integers(3, size=30)
    found = compare(
        (x, y, x, y), net, ["dlrt", "svd"], epochs=1, batch_size=10, taus=[0.2], targets=[0.6], fine_tune=0,
        seeds=4, callback=seen.append,
    )  # fmt: skip
    assert len(calls) == 4  # the first start, with which all was checked, is the one that is used
    assert [t.seed for t in found.trainings] == [0, 0, 2, 2]
    assert [f[:3] for f in found.failures] == [("net", 1, "start"), ("net", 3, "start")]
    assert found.failures[0].message == "RuntimeError: no such file"
    assert "ValueError: net must have the same layers for every seed" in found.failures[1].message
    assert [one for one in seen if isinstance(one, Failure)] == found.failures
    assert found.failures[0].message in found.table()


def test_progress_reaches_its_end_where_methods_fail(monkeypatch):
    """Epochs that are left out are counted too."""
    pytest.importorskip("rich")
    from dlra.nn import _progress

    bars = []

    class Seen(_progress.Stages):
        def __init__(self, work):
            super().__init__(work)
            bars.append(self)

    monkeypatch.setattr(_progress, "Stages", Seen)
    broken = {"gsvt": lambda *_, **__: 1 / 0}
    monkeypatch.setattr(comparison, "_RULE", broken)
    found = tiny(methods=["dlrt", "svd"], taus=[0.1, 0.2], fine_tune=2, epochs=3, progress=True)
    assert [f.method for f in found.failures] == ["svd"]
    task = bars[0]._bar.tasks[0]
    assert task.completed == task.total == 2 * (3 + 2) + 3 + 2


def test_warnings_of_trainings_are_kept_with_their_method():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tiny(methods=["dlrt"], taus=[0.9], epochs=2)
    assert all(text.startswith("dlrt 0.9: ") for text in found.warnings)
    assert Comparison.from_dict(found.to_dict()).warnings == found.warnings


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"methods": "svd"}, TypeError, r"methods must be a list of names.*got 'svd'"),
        ({"methods": []}, ValueError, "methods must name at least one"),
        ({"methods": ["svd", "lora"]}, ValueError, r"methods must be among dlrt, lorita1.*got 'lora'"),
        ({"methods": ["lorita0"]}, ValueError, "got 'lorita0'"),
        ({"methods": ["svd", "svd"]}, ValueError, "each method once"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"batch_size": 31}, ValueError, "batch_size must not exceed the number of training rows, 30, got 31"),
        ({"optimizer": "adagrad"}, ValueError, "optimizer must be one of 'adam', 'momentum', 'sgd', got 'adagrad'"),
        ({"lr": 0.0}, ValueError, "lr must be positive and finite, got 0.0"),
        ({"lr": "fast"}, TypeError, "lr must be"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be finite and >= 0, got -1.0"),
        ({"targets": [0.01]}, ValueError, r"targets has 0.01, but rank 1 in every weight .* takes 46 of 116"),
        ({"targets": [1.0]}, ValueError, "targets must lie strictly between 0 and 1, got 1"),
        ({"targets": 0.5}, TypeError, "targets must be a list of numbers"),
        ({"targets": [0.5, 0.5]}, ValueError, "targets must be different"),
        ({"rule": "svt"}, ValueError, "rule must be one of 'gsvt', 'lsvt', 'isvt', got 'svt'"),
        ({"taus": [0.0]}, ValueError, "taus must lie strictly between 0 and 1, got 0"),
        ({"strengths": {"svd": 1.0}}, ValueError, "strengths has 'svd', which is no method with a regulariser"),
        ({"strengths": {"gini": -1}}, ValueError, r"strengths\['gini'\] must be positive and finite, got -1"),
        ({"strengths": {"gini": 1}}, ValueError, "strengths has 'gini', which is not among the methods svd"),
        ({"strengths": 1.0}, TypeError, "strengths must be a dict"),
        ({"keep_last": 1}, TypeError, "keep_last must be True or False, got 1"),
        ({"fine_tune": -1}, ValueError, "fine_tune must be a number of epochs >= 0"),
        ({"seeds": 0}, ValueError, "seeds"),
        ({"seeds": [1, 1]}, ValueError, r"seeds must be different whole numbers >= 0.*got \[1, 1\]"),
        ({"seeds": "3"}, TypeError, "seeds must be a number of seeds or a list"),
        ({"callback": 3}, TypeError, "callback"),
    ],
)  # fmt: skip
def test_bad_input(options, error, text, monkeypatch):
    monkeypatch.setattr(comparison, "train", lambda *_, **__: pytest.fail("work was done"))
    with pytest.raises(error, match=text):
        tiny(**{"methods": ["svd"]} | options)


def not_finite(place):
    """A network with a NaN in one of its two weights and two biases."""
    net = nn.mlp((8, 6, 3), rng=0)
    net.members[place][(0,) * net.members[place].ndim] = math.nan
    return net


@pytest.mark.parametrize(
    ("net", "error", "text"),
    [
        (3, TypeError, "net must be a dlra.nn.Sequential or a function of a Generator"),
        (lambda rng: None, TypeError, "the function net must return a dlra.nn.Sequential"),
        (nn.mlp((8, 6, 3), rank=2, rng=0), ValueError, "net must have plain dense layers.*weight 0"),
        (nn.to_composed(nn.mlp((8, 6, 3), rng=0), 2), ValueError, "plain dense layers.*merge"),
        (nn.mlp((9, 6, 3), rng=0), ValueError, "x_train of data"),
        (nn.mlp((8, 1), rng=0), ValueError, "at least two rows and columns"),
        (not_finite(0), ValueError, "net must start from finite numbers, but its parameter 0 has NaN"),
        (
            lambda rng: not_finite(2),
            ValueError,
            "net must start from finite numbers, but its parameter 2 has NaN",
        ),
    ],
)
def test_bad_networks(net, error, text, monkeypatch):
    monkeypatch.setattr(comparison, "train", lambda *_, **__: pytest.fail("work was done"))
    x, y = np.zeros((30, 8), "float32"), np.zeros(30, int)
    with pytest.raises(error, match=text):
        compare((x, y, x, y), net, ["svd"], epochs=1, batch_size=10)


def test_bad_data():
    net, x, y = nn.mlp((8, 6, 3), rng=0), np.zeros((30, 8), "float32"), np.zeros(30, int)
    for data, error, text in (
        ((x, y), TypeError, "data must be a Dataset"),
        ((x, y, x[:, :7], y), ValueError, "x_test of data"),
        ((x, y, x, y[:5]), ValueError, "x_test of data and y_test of data need the same number"),
        ((x.astype("float64"), y, x, y), TypeError, "x_train of data"),
    ):
        with pytest.raises(error, match=text):
            compare(data, net, ["svd"], epochs=1, batch_size=10)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_data_that_is_not_finite(place, value, monkeypatch):
    monkeypatch.setattr(comparison, "train", lambda *_, **__: pytest.fail("work was done"))
    data = [np.zeros((30, 8), "float32"), np.zeros(30, int), np.zeros((30, 8), "float32"), np.zeros(30, int)]
    data[place][7, 3] = value
    name = ("x_train of data", "", "x_test of data")[place]
    with pytest.raises(ValueError, match=f"{name} contains NaN or infinite values; remove"):
        compare(data, nn.mlp((8, 6, 3), rng=0), ["svd"], epochs=1, batch_size=10)


# ---- what is kept


def test_json_and_back(found, tmp_path):
    path = tmp_path / "found.json"
    found.to_json(path)
    again = Comparison.from_json(path)
    assert again == found
    assert again.rows() == found.rows()
    assert again.trainings[0].singular_values == found.trainings[0].singular_values


def test_table_shows_the_numbers(found):
    lines = found.table().splitlines()
    assert len(lines) == 1 + len(found.points)
    assert lines[0].split() == [
        "method", "setting", "parameters", "share", "full", "truncated", "tuned", "seconds", "ranks",
    ]  # fmt: skip
    assert str(found) == found.table()
    point = next(p for p in found.points if p.method == "nuclear")
    line = next(line for line in lines if line.startswith("nuclear"))
    for shown in (str(point.parameters), f"{100 * point.accuracy:.2f}", f"{100 * point.accuracy_tuned:.2f}"):
        assert shown in line


def test_documentation_shows_the_defaults():
    text = " ".join(compare.__doc__.split())
    listed = text.partition("in the place of the default: ")[2].partition(". ")[0]
    shown = dict(pair.rsplit(" ", 1) for pair in listed.split(", "))
    assert {name: float(number) for name, number in shown.items()} == _defaults.STRENGTHS
    *most, last = (f"{share:g}" for share in _defaults.TARGETS)
    assert f"Default those of {', '.join(most)} and {last} that leave" in text


def test_named_networks():
    from dlra.nn import models

    assert [W.shape for W in nn.fcn(4, 96, rng=0).weights] == [(96, 784), (96, 96), (96, 96), (10, 96)]
    assert nn.fcn(1, inputs=5, classes=2, rng=0).weights[0].shape == (2, 5)
    assert nn.fcn(3, 20, rank=4, inputs=64, rng=0).ranks == (4, 4, 10)
    assert [W.shape for W in nn.lenet_300_100(inputs=64, rng=0).weights] == [(300, 64), (100, 300), (10, 100)]
    for name in models.NAMES:
        image, hidden = (
            ((1, 28, 28), None) if name == "lenet5" else ((64,), (5, 6) if name == "mlp" else None)
        )
        net = models.by_name(name, image, hidden=hidden, dtype="float64", rng=0)
        assert net.dtype == "float64"
        assert not any(isinstance(W, LowRank) for W in net.weights)
    assert len(models.by_name("fcn10", (784,), rng=0).weights) == 10
    for arguments, text in (
        ({"name": "vgg", "image": (4,)}, "name must be one of fcn6"),
        ({"name": "mlp", "image": (4,)}, "mlp needs hidden"),
        ({"name": "fcn8", "image": (4,), "hidden": (3,)}, "hidden goes with mlp only"),
        ({"name": "lenet5", "image": (1, 8, 8)}, r"\(1, 28, 28\)"),
        ({"name": "fcn6", "image": (1, 28, 28)}, "fcn6 takes rows"),
    ):
        with pytest.raises(ValueError, match=text):
            models.by_name(**arguments)


# ---- pictures


@pytest.fixture
def plot():
    pytest.importorskip("matplotlib")
    from dlra import plot

    return plot


def made(seeds=2, tuned=True):
    """A comparison of known numbers."""
    settings = {
        "methods": ["dlrt", "svd"], "parameters": 1000, "flops": 2000, "fine_tune": int(tuned),
    }  # fmt: skip
    result = Comparison(settings)
    values = ((4.0, 2.0, 1.0), (2.0, 1.0, 0.0))
    for seed in range(seeds):
        shift = 0.01 * seed
        result.trainings += [
            Training("dlrt", seed, 0.1, 1.0, 0.1, 0.9 + shift, 300, (3, 2), (0.5,), values, ()),
            Training(
                "svd", seed, None, 1.0, 0.1, 0.98, 1000, (3, 3), (0.5,), values, ((0.1, 0.88 - shift), (1.0, 0.98)),
            ),
        ]  # fmt: skip
        more = 0.92 + shift if tuned else None
        result.points.append(Point("dlrt", seed, 0.1, 300, 600, (3, 2), 0.9 + shift, 0.9 + shift, more, 1.0))
        for target, accuracy in ((0.1, 0.8 + shift), (0.5, 0.97)):
            after = accuracy + 0.01 if tuned else None
            result.points.append(
                Point("svd", seed, target, int(1000 * target), 1, (1, 2), 0.98, accuracy, after, 1.0)
            )
    return result


def curves(axes):
    """Name -> (x, y, half lengths of the bars) of the error bars of axes."""
    out = {}
    for container in axes.containers:
        line, _, bars = container.lines
        segments = bars[0].get_segments() if bars else []
        out[container.get_label()] = (
            line.get_xdata(), line.get_ydata(), [abs(s[1][1] - s[0][1]) / 2 for s in segments],
        )  # fmt: skip
    return out


def test_accuracy_against_parameters(plot):
    figure = plot.accuracy_against_parameters(made())
    figure.canvas.draw()
    left, right = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["truncated", "truncated and trained 1 epoch more"]
    assert left.get_xscale() == left.get_yscale() == "log"
    low, high = left.get_ylim()
    assert low > high  # errors, so that accuracy rises
    x, error, bars = curves(left)["svd"]
    assert list(x) == [100, 500]
    assert error == pytest.approx([19.5, 3.0])
    assert bars == pytest.approx([100 * np.std([0.8, 0.81], ddof=1), 0.0])
    assert curves(right)["svd"][1] == pytest.approx([18.5, 2.0])
    assert curves(left)["dlrt"][1] == pytest.approx([9.5])
    assert curves(right)["dlrt"][1] == pytest.approx([7.5])
    (full,) = (line for line in left.lines if line.get_markerfacecolor() == "none")
    assert (list(np.ravel(full.get_xdata())), np.ravel(full.get_ydata())) == ([1000], pytest.approx([2.0]))
    ticks = dict(zip(left.get_yticks(), (t.get_text() for t in left.get_yticklabels()), strict=True))
    assert len(ticks) >= 3
    assert all(100 - place == pytest.approx(float(text)) for place, text in ticks.items())
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["dlrt", "svd"]


def test_one_panel_and_no_bars_without_tuning_and_seeds(plot):
    figure = plot.accuracy_against_parameters(made(seeds=1, tuned=False))
    (ax,) = figure.axes
    assert ax.get_title() == ""
    assert curves(ax)["svd"][2] == []
    assert made(1).plot().axes


def test_perfect_accuracy_is_shown(plot):
    found = made(1, False)
    found.points = [point._replace(accuracy=1.0) for point in found.points]
    figure = plot.accuracy_against_parameters(found)
    figure.canvas.draw()
    _, y, _ = curves(figure.axes[0])["svd"]
    assert (y > 0).all()


def test_retained_singular_values(plot):
    figure = plot.retained_singular_values(made())
    figure.canvas.draw()
    (ax,) = figure.axes
    assert list(curves(ax)) == ["svd"]
    x, drop, bars = curves(ax)["svd"]
    assert list(x) == pytest.approx([10, 100])
    assert drop == pytest.approx([10.5, 0.0])
    assert bars == pytest.approx([100 * np.std([0.88, 0.87], ddof=1), 0.0])
    # the colour of a method is the same in both pictures
    other = plot.accuracy_against_parameters(made()).axes[0]
    color = {c.get_label(): c.lines[0].get_color() for c in other.containers}["svd"]
    assert ax.containers[0].lines[0].get_color() == color
    for rule, shown in (("gsvt", "gsvt"), ("lsvt", "lsvt"), ("isvt", "gsvt")):
        given = made()
        given.settings["rule"] = rule
        (ax,) = plot.retained_singular_values(given).axes
        assert ax.get_xlabel() == f"singular values kept by {shown}, in %"
    named = plot.retained_singular_values({"a": ([10, 50], [3, 1]), "b": ([10, 50], [2, 0], [0.5, 0.1])})
    assert list(curves(named.axes[0])) == ["a", "b"]


def test_singular_value_decay(plot):
    net = nn.mlp((6, 5, 3), rng=0)
    figure = plot.singular_value_decay([net, [[4.0, 2.0, 0.0], [1.0]]], ["net", "lists"])
    figure.canvas.draw()
    first, second = figure.axes
    assert [ax.get_title() for ax in (first, second)] == ["weight 1", "weight 2"]
    s = np.linalg.svd(net.weights[0], compute_uv=False)
    assert np.allclose(first.lines[0].get_ydata(), s / s[0], rtol=1e-5)
    assert np.array_equal(first.lines[1].get_ydata(), [1.0, 0.5, np.nan], equal_nan=True)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["net", "lists"]
    many = plot.singular_value_decay([[[1.0]] * 30, [[1.0]] * 2])
    assert len(many.axes) == 12


@pytest.mark.parametrize(
    ("name", "arguments", "error", "text"),
    [
        ("accuracy_against_parameters", [3], TypeError, "expected a dlra.compress.Comparison, got int"),
        ("accuracy_against_parameters", [Comparison({"methods": []})], ValueError, "no points.*nothing was computed"),
        ("retained_singular_values", [[1, 2]], TypeError, "mapping"),
        ("retained_singular_values", [{}], ValueError, "nothing to show"),
        ("retained_singular_values", [{"a": [1]}], TypeError, r"curves\['a'\] must be \(shares, drops\)"),
        ("retained_singular_values", [{"a": ([1, 2], [1])}], ValueError, r"curves\['a'\].*one length"),
        ("retained_singular_values", [{"a": ([0, 2], [1, 1])}], ValueError, "positive shares"),
        ("singular_value_decay", [nn.mlp((3, 2), rng=0)], TypeError, "nets must be a list of networks"),
        ("singular_value_decay", [[]], TypeError, "nets must be a list"),
        ("singular_value_decay", [[[[1.0]]], ["a", "b"]], ValueError, "names must name each of 1 networks, got 2"),
        ("singular_value_decay", [[[[1.0]]], "a"], TypeError, "names must be a sequence"),
        ("singular_value_decay", [[[[1.0, 2.0]]]], ValueError, "weight 0 of '1' must be a vector of descending"),
        ("singular_value_decay", [[[[math.nan]]]], ValueError, "descending singular values"),
        ("singular_value_decay", [[3]], TypeError, "'1' must be a network or a list"),
    ],
)  # fmt: skip
def test_pictures_of_nothing(plot, name, arguments, error, text):
    with pytest.raises(error, match=text):
        getattr(plot, name)(*arguments)
