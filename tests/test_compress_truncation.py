"""Truncation of trained networks, and the report of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from helpers import dense, eps, random_lowrank
from hypothesis import given
from hypothesis import strategies as st
from nn_helpers import bits, blobs, distance, network

from dlra import AugmentedBUG, LowRank, nn
from dlra.compress import (
    Compressed,
    Report,
    global_ranks,
    gsvt,
    isvt,
    local_ranks,
    lsvt,
    truncation,
)
from dlra.errors import TrainingError

CE = nn.CrossEntropyLoss()


def convolutional(dtype="float32", seed=0):
    """Images 2 x 9 x 8, one convolution low-rank, biases that are not zero."""
    rng = np.random.default_rng(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, dtype=dtype, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.LowRankConv2d(6, 5, (2, 3), rank=4, dtype=dtype, rng=rng), nn.Tanh(), nn.Flatten(),
        nn.Linear(30, 8, dtype=dtype, rng=rng), nn.Tanh(), nn.Linear(8, 3, dtype=dtype, rng=rng),
    )  # fmt: skip
    biases = [rng.standard_normal(b.shape).astype(dtype) for b in net.biases]
    return net.with_members((*net.weights, *biases))


def images(rows, dtype="float32", seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 2, 9, 8)).astype(dtype), rng.integers(3, size=rows)


def spectra(net):
    return [np.linalg.svd(dense(W), compute_uv=False) for W in net.weights]


def check_report(net, small, report, shape=None):
    """The totals are those of the networks, and so is every row."""
    assert (report.parameters_before, report.parameters_after) == (
        net.parameter_count(),
        small.parameter_count(),
    )
    assert tuple(row.rank_after for row in report.layers) == small.ranks
    assert tuple(row.rank_before for row in report.layers) == net.ranks
    assert [row.shape for row in report.layers] == [tuple(W.shape) for W in net.weights]
    assert report.parameters_drop == pytest.approx(
        100 * (1 - small.parameter_count() / net.parameter_count())
    )
    if shape is not None:
        assert (report.flops_before, report.flops_after) == (net.flops(shape), small.flops(shape))
        assert report.flops_drop == pytest.approx(100 * (1 - small.flops(shape) / net.flops(shape)))
    for row, old, new in zip(report.layers, net.weights, small.weights, strict=True):
        assert report.seconds_tuning is not None or row.truncated == (new is not old)
        assert ("left alone" in row.note or "nothing dropped" in row.note) == (not row.truncated)


# ---- identities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_are_those_of_eckart_and_young(library, dtype):
    host = network((9, 9, 7, 4), (None, 5, None), dtype=dtype)
    net = host.to(library.asarray(np.zeros(1)))
    before = bits(net.to(np.zeros(1)))
    small, report = lsvt(net, 2)
    assert isinstance(small, nn.Sequential) and small.dtype == dtype and small.ranks == (2, 2, 2)
    for row, W, Z, s in zip(report.layers, host.weights, small.weights, spectra(host), strict=True):
        assert isinstance(Z, LowRank) and all(library.owns(a) for a in Z.factors)
        error = np.linalg.norm(dense(W) - dense(Z)) / np.linalg.norm(dense(W))
        tail = math.sqrt(np.sum(s[2:] ** 2) / np.sum(s**2))
        assert error == pytest.approx(tail, rel=50 * eps(dtype)) and row.error == pytest.approx(
            tail, rel=50 * eps(dtype)
        )
        assert row.ratio == pytest.approx(s[2] / s[0], rel=50 * eps(dtype))
    for b, c in zip(host.biases, small.biases, strict=True):
        assert library.to_numpy(c).tobytes() == b.tobytes()
    assert bits(net.to(np.zeros(1))) == before, "the network given is as it was"
    check_report(net, small, report, (9,))


@pytest.mark.parametrize("rule", ["lsvt", "gsvt", "isvt"])
def test_the_network_given_keeps_its_bits(rule, eager_library):
    like = eager_library.asarray(np.zeros(1))
    net = convolutional().to(like)
    x, y = (eager_library.asarray(a) for a in images(20))
    before = bits(net.to(np.zeros(1)))
    tuning = {"x": x, "y": y, "optimizer": nn.Adam(1e-2), "epochs": 1, "batch_size": 10, "rng": 0}
    options = {"parameters": 200, "data": (x, y), "fine_tune": tuning}
    if rule == "isvt":
        small, report = isvt(net, x, y, rng=3, per_round=40, **options)
    else:
        small, report = getattr(truncation, rule)(net, **options)
    assert bits(net.to(np.zeros(1))) == before
    assert small.parameter_count() <= 200 < net.parameter_count()
    check_report(net, small, report, (2, 9, 8))
    assert (report.loss_before, report.accuracy_before) == nn.evaluate(net, x, y, CE)
    assert (report.loss_tuned, report.accuracy_tuned) == nn.evaluate(small, x, y, CE)
    assert report.loss_truncated not in (report.loss_before, report.loss_tuned)
    assert all(eager_library.owns(a) for W in small.weights if isinstance(W, LowRank) for a in W.factors)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_truncated_convolution_is_two_convolutions(dtype):
    net = convolutional(dtype)
    small, report = gsvt(net, 0.5, input_shape=(2, 9, 8))
    two = small.split()
    assert [type(layer).__name__ for layer in two.layers].count("Conv2d") == 4
    assert all(not isinstance(W, LowRank) for W in two.weights)
    x, _ = images(4, dtype)
    assert distance([two.predict(x)], [small.predict(x)]) < 50 * eps(dtype)
    assert (two.parameter_count(), two.flops((2, 9, 8))) == (report.parameters_after, report.flops_after)


# ---- local


def test_lsvt_by_rank_and_share():
    net = network((12, 10, 8, 5), (None, 6, None))
    assert lsvt(net, 7).net.ranks == (7, 6, 5)
    assert lsvt(net, rank=100).net.ranks == net.ranks
    assert lsvt(net, share=0.5).net.ranks == (5, 3, 3)
    assert lsvt(net, share=1).net.ranks == net.ranks
    assert lsvt(net, share=1e-9).net.ranks == (1, 1, 1)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_errors_do_not_depend_on_the_scale_of_a_weight(scale):
    net = network((12, 10, 8), (None, None))
    rows = lsvt(net.with_weights({0: scale * net.weights[0]}), 3).report.layers
    for row, expected in zip(rows, lsvt(net, 3).report.layers, strict=True):
        assert row.error == pytest.approx(expected.error, rel=1e-10) and 0 < row.error < 1
        assert row.ratio == pytest.approx(expected.ratio, rel=1e-10)


@pytest.mark.parametrize("threshold", [0.9, 0.5, 0.2, 1e-9])
def test_lsvt_by_the_spectral_norm(threshold):
    net = network((12, 10, 8, 5), (None, 6, None))
    small, report = lsvt(net, threshold=threshold)
    for row, s in zip(report.layers, spectra(net), strict=True):
        s = s[: row.rank_before]
        assert row.ratio <= threshold and s[row.rank_after - 1] / s[0] > threshold
        assert row.ratio == pytest.approx(s[row.rank_after] / s[0] if row.truncated else 0.0, rel=1e-12)
    if threshold == 1e-9:
        assert small.ranks == net.ranks


def test_ranks_asked_for_are_kept_and_growth_is_told():
    net = network((10, 10, 10), (None, None))
    small, report = lsvt(net, 8, layers=[-1])
    assert small.ranks == (10, 8) and isinstance(small.weights[1], LowRank)
    assert report.parameters_after == small.parameter_count() == 100 + 8 * 20 and report.parameters_drop < 0
    assert report.layers[1].note == "more parameters than before: 160 for 100"
    assert report.layers[0].note == "left alone: not among layers"
    assert "200 → 260, 30.0 % MORE than before" in str(report)


@given(
    st.lists(st.integers(2, 9), min_size=2, max_size=4),
    st.integers(0, 2**32 - 1),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_a_target_is_the_largest_share_that_fits(sizes, seed, part, lowrank):
    """No larger share, of the layers or of all together, takes as few parameters as the target."""
    rng = np.random.default_rng(seed)
    ranks = [
        int(rng.integers(1, min(pair) + 1)) if lowrank and rng.random() < 0.5 else None
        for pair in itertools.pairwise(sizes)
    ]
    net = network(sizes, ranks, seed=seed % 1000)
    values = [np.diag(truncation.decomposed(W).S) for W in net.weights]  # many are equal to rounding

    def count(found):
        """What these ranks take, a weight being left as it is where factors do not save."""
        return sum(
            min(layer.parameter_count(), r * sum(layer.weight.shape))
            for layer, r in zip(net._weighted, found, strict=True)
        )

    least, now = count([1] * len(ranks)), net.parameter_count()
    target = least + int(part * (now - least))
    for rule, chosen in ((lsvt, local_ranks), (gsvt, global_ranks)):
        small, report = rule(net, parameters=target)
        check_report(net, small, report, (sizes[0],))
        others = [count(chosen(values, share=share)) for share in np.linspace(0.001, 1, 300)]
        assert max(c for c in others if c <= target) <= small.parameter_count() <= target
        for W, old in zip(small.weights, net.weights, strict=True):
            assert W is old or isinstance(old, LowRank) or W.rank * sum(W.shape) < math.prod(W.shape)


# ---- directions that are rounding errors


def lowrank_net(dtype, ranks, sizes=(60, 80, 50, 40), scale=1.0):
    """Dense weights that are of these ranks, to rounding."""
    rng = np.random.default_rng(0)
    net = network(sizes, (None,) * len(ranks), dtype=dtype)
    products = [
        rng.standard_normal((m, r)).astype(dtype) @ rng.standard_normal((r, n)).astype(dtype)
        for (m, n), r in zip((W.shape for W in net.weights), ranks, strict=True)
    ]
    return net.with_weights({i: (scale * W).astype(dtype) for i, W in enumerate(products)})


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_directions_that_are_rounding_errors_are_dropped(dtype, scale):
    exact = (20, 5, 12)
    net = lowrank_net(dtype, exact, scale=scale)
    x, y = blobs(features=60, classes=40, dtype=dtype)
    least, most = 20 * 140 + 5 * 130 + 12 * 90, net.parameter_count()
    for options in (
        {"parameters": least + 500},
        {"parameters": (least + most) // 2},
        {"parameters": most},
        {"share": 0.7},
        {"share": 1.0},
        {"threshold": 1e-12},
    ):
        for rule in (lsvt, gsvt):
            small, report = rule(net, **options)
            assert all(r <= k for r, k in zip(small.ranks, exact, strict=True)), (rule, options, small.ranks)
            check_report(net, small, report, (60,))
            for row, r, k in zip(report.layers, small.ranks, exact, strict=True):
                assert (row.error < 100 * eps(dtype)) == (r == k)
        if "threshold" not in options:
            given = {k: v if k == "parameters" else 0.9 for k, v in options.items()}
            assert all(r <= k for r, k in zip(isvt(net, x, y, rng=0, **given).net.ranks, exact, strict=True))
    assert lsvt(net, rank=30).net.ranks == exact and lsvt(net, rank=3).net.ranks == (3, 3, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_weight_that_factors_would_not_make_smaller_stays(dtype):
    """Rank 18 of 20 x 20: the factors have 720 parameters; only where it is truncated is the rounding dropped."""
    net = lowrank_net(dtype, (18, 18), sizes=(20, 20, 20))
    small, report = lsvt(net, share=1.0)
    assert small.ranks == (20, 20) and small.weights[0] is net.weights[0]
    assert not any(row.truncated for row in report.layers)
    assert lsvt(net, share=0.5).net.ranks == (10, 10) and lsvt(net, rank=19).net.ranks == (18, 18)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_low_rank_weights_lose_directions_that_are_rounding_errors(dtype):
    net = network((30, 30, 30), (10, None), dtype=dtype)
    U, S, V = net.weights[0].factors
    S = S.copy()
    S[:, 4:] = 0
    net = net.with_weights({0: LowRank(U, S, V)})
    assert lsvt(net, share=1.0).net.ranks == (4, 30)


# ---- global


def test_gsvt_does_not_see_the_scale_of_a_layer():
    net = convolutional("float64")
    scaled = net.with_weights({i: 10.0 ** (3 * i - 4) * W for i, W in enumerate(net.weights)})
    for options in (
        {"share": 0.4},
        {"threshold": 0.6},
        {"parameters": 250},
        {"share": 0.4, "separate": False},
    ):
        assert gsvt(net, **options).net.ranks == gsvt(scaled, **options).net.ranks
    assert len(set(gsvt(net, 0.4).net.ranks)) > 1, "the ranks are not all the same"


def test_gsvt_counts_convolutions_and_other_layers_separately():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 2, dtype="float64", rng=0), nn.Flatten(), nn.Linear(36, 6, dtype="float64", rng=1),
        nn.Linear(6, 6, dtype="float64", rng=2),
    )  # fmt: skip
    values = [np.diag([1.0, 0.1, 0.09, 0.08]), np.zeros((6, 36)), np.eye(6) * np.linspace(1, 0.2, 6)]
    values[1][:, :6] = np.diag(np.linspace(1, 0.5, 6))
    net = net.with_weights(dict(enumerate(values)))
    assert gsvt(net, 0.5).net.ranks == (2, 4, 2), "2 of 4, 6 of 12"
    assert gsvt(net, 0.5, separate=False).net.ranks == (1, 4, 3), "8 of 16"
    assert [row.kind for row in gsvt(net, 0.5).report.layers] == ["convolution", "linear", "linear"]


# ---- iterative


def useless():
    """The second weight has rank one to rounding: cutting it changes no output."""
    net = network((12, 12, 12, 3), (None, None, None))
    return net.with_weights({1: random_lowrank(np.random.default_rng(5), 12, 12, 1).to_dense()})


def test_isvt_begins_where_it_costs_nothing():
    net = useless()
    x, _ = blobs(features=12)
    y = net.predict(x)
    small, report = isvt(net, x, y, parameters=3 * 12 + 144 + 24, per_round=20, rng=0)
    assert small.ranks == (12, 1, 3) and small.parameter_count() == 204
    assert small.weights[0] is net.weights[0] and small.weights[2] is net.weights[2]
    check_report(net, small, report, (12,))
    assert distance([small.predict(x)], [net.predict(x)]) < 1e-13


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_isvt_reaches_its_target_as_it_counts(share):
    net = network((12, 30, 20, 6), (None, 15, None))
    x, y = blobs(features=12, classes=6)
    now = net.parameter_count()
    assert now == 360 + 15 * 50 + 120
    small, report = isvt(net, x, y, share=share, per_round=60, rng=0)
    target = round(share * now)
    assert small.parameter_count() == report.parameters_after <= target
    assert small.parameter_count() > target - 60 - 50, "the last round takes no more than it has to"
    same = isvt(net, x, y, parameters=target, per_round=60, rng=0).net
    assert bits(same) == bits(small)


@pytest.mark.parametrize("share", [0.29, np.float32(0.29), 0.57, 0.58])
def test_a_share_is_not_rounded_down(share, monkeypatch):
    """0.29 · 100 = 28.999999999999996 in double precision."""
    net = network((10, 10), (None,))
    x, y = blobs(features=10, classes=10)
    seen = []
    original = truncation.iterative_ranks
    monkeypatch.setattr(
        truncation, "iterative_ranks", lambda *a, **k: seen.append(k["parameters"]) or original(*a, **k)
    )
    isvt(net, x, y, share=share, rng=0)
    assert seen == [round(100 * float(share))] and seen[0] / 100 == pytest.approx(float(share))


def test_isvt_draws_samples_by_rng(monkeypatch):
    net = network((12, 20, 3), (None, None))
    x, y = blobs(rows=300, features=12)
    seen = []
    original = nn.Sequential.predict
    monkeypatch.setattr(nn.Sequential, "predict", lambda self, x: seen.append(x) or original(self, x))
    report = isvt(net, x, y, share=0.5, rng=4).report
    assert report.options["samples"] == 120 and {len(a) for a in seen} == {120}
    assert all(a is seen[0] for a in seen), "one sample for all rounds"
    assert len(np.unique(seen[0], axis=0)) == 120
    first = seen.copy()
    isvt(net, x, y, share=0.5, rng=4)
    assert np.array_equal(seen[-1], first[0])
    isvt(net, x, y, share=0.5, rng=5)
    assert not np.array_equal(seen[-1], first[0])
    assert isvt(net, x[:50], y[:50], share=0.5, rng=5).report.options["samples"] == 50


def test_isvt_with_numbers_takes_the_squared_error():
    net = network((12, 10, 2), (None, None))
    x, _ = blobs(features=12)
    y = net.predict(x)
    report = isvt(net, x, y, share=0.7, data=(x, y), rng=0).report
    assert report.classifies is False and report.loss_before == 0 and report.accuracy_before == 1
    assert report.accuracy_truncated < 1 and "R²" in str(report)


# ---- training afterwards, evaluation


def test_fine_tuning_is_training_at_fixed_rank():
    net = network((10, 16, 3), (None, None))
    x, y = blobs()
    tuning = {"x": x, "y": y, "optimizer": nn.Momentum(0.05), "epochs": 2, "batch_size": 30, "rng": 7}
    small, report = lsvt(net, 2, fine_tune=tuning)
    by_hand = lsvt(net, 2).net
    nn.train(by_hand, loss=CE, method=AugmentedBUG(), **tuning)
    assert bits(small) == bits(by_hand) and small.ranks == (2, 2)
    assert report.seconds_tuning > 0 and report.loss_before is None and report.loss_tuned is None
    assert (
        report.options["fine_tune"]["method"] == "AugmentedBUG()" and "x" not in report.options["fine_tune"]
    )
    assert set(tuning) == {"x", "y", "optimizer", "epochs", "batch_size", "rng"}


@pytest.mark.parametrize("stop", ["Ctrl-C", "callback", None])
def test_the_report_says_how_the_training_ended(stop):
    def callback(epoch):
        if stop == "Ctrl-C":
            raise KeyboardInterrupt
        return stop is not None

    x, y = blobs()
    tuning = {"x": x, "y": y, "optimizer": nn.SGD(0.1), "epochs": 2, "batch_size": 30, "callback": callback}
    report = lsvt(network((10, 16, 3), (None, None)), 2, fine_tune=tuning, data=(x, y)).report
    words = {"Ctrl-C": "Interrupted by Ctrl-C", "callback": "callback", None: "All 2 epochs done."}[stop]
    assert report.tuning_status == (0 if stop is None else 1) and words in report.tuning_message
    (line,) = (line for line in str(report).splitlines() if line.startswith("  tuning"))
    assert line.endswith(report.tuning_message)
    assert report.to_dict()["tuning_message"] == report.tuning_message
    assert report.to_dict()["tuning_status"] == report.tuning_status
    plain = lsvt(network((10, 16, 3), (None, None)), 2).report
    assert plain.tuning_status is None and plain.tuning_message == "" and "tuning" not in str(plain)


def test_what_was_truncated_survives_a_training_that_fails():
    net = network((10, 16, 3), (None, None))
    x, y = blobs()
    tuning = {
        "x": [(x, y), (np.where(x > 0, 1e308, -1e308), y)],
        "optimizer": nn.SGD(0.1),
        "epochs": 1,
        "loss": CE,
    }
    expected = lsvt(net, 2, data=(x, y))
    with np.errstate(all="ignore"), pytest.raises(TrainingError) as caught:
        lsvt(net, 2, data=(x, y), fine_tune=tuning)
    small, report = caught.value.compressed
    assert bits(small) == bits(expected.net) and report.layers == expected.report.layers
    assert report.loss_truncated == expected.report.loss_truncated and report.loss_tuned is None
    assert bits(caught.value.history.net) != bits(small), "one step went well"
    assert "error.compressed" in caught.value.__notes__[0] and caught.value.history is not None
    assert "fine_tune" in report.options


def test_fine_tuning_may_change_ranks():
    net = network((10, 16, 3), (None, None))
    x, y = blobs()
    tuning = {"x": x, "y": y, "optimizer": nn.SGD(0.2), "epochs": 1, "batch_size": 30, "rng": 7}
    small, report = lsvt(net, 2, fine_tune={**tuning, "method": AugmentedBUG(rtol=0.01)})
    assert small.ranks != (2, 2)
    check_report(net, small, report, (10,))


def test_isvt_trains_on_its_data_by_default():
    net = network((10, 16, 3), (None, None))
    x, y = blobs()
    tuning = {"optimizer": nn.SGD(0.1), "epochs": 1, "batch_size": 40, "rng": 0}
    small, _ = isvt(net, x, y, share=0.5, rng=0, fine_tune=tuning)
    other, _ = isvt(net, x, y, share=0.5, rng=0, fine_tune={**tuning, "x": x, "y": y, "loss": CE})
    assert bits(small) == bits(other)


@pytest.mark.parametrize("rule", ["lsvt", "gsvt", "isvt"])
def test_products_are_multiplied_out_first(rule, rng):
    net = nn.Sequential(
        nn.ComposedConv2d(1, 4, 3, factors=3, rng=0), nn.Tanh(), nn.SVDConv2d(4, 3, 2, rng=1), nn.Flatten(),
        nn.ComposedLinear(12, 8, rng=2), nn.Tanh(), nn.SVDLinear(8, 6, rng=3),
    )  # fmt: skip
    before = bits(net)
    x, y = rng.standard_normal((30, 1, 5, 5)).astype("float32"), rng.integers(6, size=30)
    merged = net.merge()
    assert not any(isinstance(W, LowRank) for W in merged.weights), "of full rank, the factors are larger"
    assert merged.parameter_count() == 36 + 48 + 96 + 48
    if rule == "isvt":
        small, report = isvt(net, x, y, parameters=150, per_round=20, rng=0)
    else:
        small, report = getattr(truncation, rule)(net, parameters=150, input_shape=(1, 5, 5))
    assert bits(net) == before and small.parameter_count() <= 150
    check_report(merged, small, report, (1, 5, 5))
    assert {type(layer).__name__ for layer in small._weighted} <= {
        "Conv2d", "LowRankConv2d", "Linear", "LowRankLinear",
    }  # fmt: skip


# ---- report


def test_report_as_text_and_json(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(2, 130, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False, rng=0),
        nn.Flatten(), nn.Linear(130 * 16 * 24, 110, rng=1), nn.Linear(110, 1, rng=2),
    )  # fmt: skip
    small, report = gsvt(net, 0.1, input_shape=(2, 31, 28))
    check_report(net, small, report, (2, 31, 28))
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100 and "…" in text
    assert "2: left alone: a weight of 1 x 110 has no lower rank" in text
    assert text.splitlines()[0].startswith("gsvt(share=0.1, separate=True): 2 of 3 weights truncated")
    path = tmp_path / "report.json"
    report.to_json(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read == report.to_dict() == json.loads(json.dumps(report.to_dict()))
    assert read["parameters_after"] == small.parameter_count() and read["flops_before"] == net.flops(
        (2, 31, 28)
    )
    assert read["layers"][0]["shape"] == [130, 30] and read["loss_before"] is None
    assert isinstance(report, Report) and isinstance(lsvt(net, 2), Compressed)


@pytest.mark.parametrize(
    "options",
    [
        {"rank": np.int64(3)},
        {"share": np.float32(0.5)},
        {"share": np.float64(0.5), "layers": np.asarray([0, 1])},
        {"threshold": np.float16(0.5)},
        {"parameters": np.int32(150)},
    ],
)
def test_options_that_are_numpy_numbers_are_reported_as_numbers(options, tmp_path):
    x, y = blobs(features=12)
    tuning = {
        "x": x,
        "y": y,
        "optimizer": nn.SGD(np.float32(0.1)),
        "epochs": np.int64(1),
        "batch_size": np.int16(40),
    }
    report = lsvt(network((12, 10, 8), (None, None)), fine_tune=tuning, **options).report
    report.to_json(tmp_path / "a.json")
    read = json.loads((tmp_path / "a.json").read_text())
    (name, value), *_ = options.items()
    assert read["options"][name] == value.item() and type(report.options[name]) in (int, float)
    assert read["options"]["fine_tune"]["epochs"] == 1 and read["options"]["fine_tune"]["batch_size"] == 40
    assert "np." not in str(report)
    report = isvt(
        network((12, 10, 8), (None, None)), x, y, share=0.5, per_round=np.int64(9), samples=np.int64(20)
    ).report
    assert json.dumps(report.to_dict()["options"]) == '{"share": 0.5, "per_round": 9, "samples": 20}'


def test_a_file_is_not_lost_to_a_report_that_cannot_be_written(tmp_path):
    report = lsvt(network((12, 10, 8), (None, None)), 2).report
    report.to_json(tmp_path / "a.json")
    before = (tmp_path / "a.json").read_text()
    with pytest.raises(TypeError):
        dataclasses.replace(report, options={"rank": object()}).to_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == before


def test_a_result_shows_its_report():
    result = lsvt(network((64, 200, 10), (None, None)), 5)
    assert str(result) == str(result.report)
    assert repr(result) == "Compressed(lsvt: 14800 → 2370 parameters, ranks (5, 5))"


def test_not_finite_losses_are_null():
    net = network((6, 5, 3), (None, None))
    net = net.with_weights({0: 1e200 * net.weights[0], 1: 1e200 * net.weights[1]})
    x, _ = blobs(features=6)
    net = nn.Sequential(net.layers[0], net.layers[2])  # without the activation
    with np.errstate(all="ignore"):
        report = lsvt(net, 1, data=(x, np.zeros((120, 3)))).report
    assert report.loss_before == math.inf and report.to_dict()["loss_before"] is None


def test_flops_are_told_where_the_images_are_known():
    net = convolutional()
    rows = lsvt(net, 2).report.layers
    assert [row.flops_after for row in rows] == [None, None, 2 * 2 * 38, 2 * 2 * 11]
    assert lsvt(net, 2).report.flops_before is None and lsvt(net, 2).report.flops_drop is None
    assert "not known without input_shape" in str(lsvt(net, 2).report)
    x, y = images(5)
    assert lsvt(net, 2, data=(x, y)).report.flops_before == net.flops((2, 9, 8))
    assert isvt(net, x, y, share=0.9, rng=0).report.flops_before == net.flops((2, 9, 8))
    tuning = {"x": x, "y": y, "optimizer": nn.SGD(0.1), "epochs": 1, "batch_size": 5}
    assert lsvt(net, 2, fine_tune=tuning).report.flops_before == net.flops((2, 9, 8))


def test_a_zero_weight_and_one_of_rank_one():
    net = network((6, 5, 3), (None, 1)).with_weights({0: np.zeros((5, 6))})
    for rule in (lambda: lsvt(net, 2), lambda: gsvt(net, 0.4), lambda: lsvt(net, threshold=0.5)):
        small, report = rule()
        assert report.layers[0].error == report.layers[0].ratio == 0.0
        assert report.layers[0].truncated and not report.layers[1].truncated
        check_report(net, small, report, (6,))


def test_import_loads_nothing_large():
    code = (
        "import sys, dlra.compress as c; c.lsvt; c.Report; c.gini; dir(c)\n"
        "print([m for m in ('scipy', 'matplotlib', 'numba', 'h5py') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# ---- refused


NET = network((12, 10, 8, 1), (None, None, None))
X, Y = blobs(features=12, classes=1)
DIGITS = nn.datasets.digits()
TUNING = {"x": X, "y": Y, "optimizer": nn.SGD(0.1), "epochs": 1, "batch_size": 40}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lsvt(NET), ValueError, "give one of rank, share, threshold and parameters, got none"),
        (lambda: lsvt(NET, 2, share=0.5), ValueError, "give one of .*, got rank=2, share=0.5"),
        (lambda: gsvt(NET, 0.5, parameters=99), ValueError, "give one of share, threshold and parameters"),
        (lambda: isvt(NET, X, Y), ValueError, "give one of parameters and share, got none"),
        (lambda: lsvt(NET.weights[0], 2), TypeError, "net must be a dlra.nn.Sequential"),
        (lambda: lsvt(NET, 0), ValueError, "rank must be at least 1"),
        (lambda: lsvt(NET, 2.0), TypeError, "rank must be an int"),
        (lambda: lsvt(NET, share=0.0), ValueError, r"share must lie in \(0, 1\]"),
        (lambda: lsvt(NET, share=1.1), ValueError, r"share must lie in \(0, 1\]"),
        (lambda: gsvt(NET, math.nan), ValueError, r"share must lie in \(0, 1\]"),
        (lambda: isvt(NET, X, Y, share=-0.5), ValueError, r"share must lie in \(0, 1\]"),
        (lambda: lsvt(NET, threshold=1.0), ValueError, r"threshold must lie in \(0, 1\)"),
        (lambda: gsvt(NET, threshold=1.5), ValueError, r"threshold must lie in \(0, 1\]"),
        (lambda: lsvt(NET, parameters=209), ValueError, "parameters=209 must lie between 48, .*, and 208"),
        (lambda: gsvt(NET, parameters=47), ValueError, "parameters=47 must lie between 48"),
        (lambda: gsvt(NET, parameters=60.0), TypeError, "parameters must be an int"),
        (lambda: isvt(NET, X, Y, parameters=47), ValueError, "parameters=47 must lie between 48"),
        (lambda: isvt(NET, X, Y, share=0.2), ValueError, "share=0.2, 42 parameters, must lie between 48"),
        (lambda: isvt(NET, X, Y, share=0.5, per_round=0), ValueError, "per_round must be at least 1"),
        (lambda: isvt(NET, X, Y, share=0.5, samples=0), ValueError, "samples must be at least 1"),
        (lambda: isvt(NET, X, Y, share=0.5, rng="a"), TypeError, "rng must be"),
        (lambda: isvt(NET, X[:, :5], Y, share=0.5), ValueError, r"takes inputs of shape \(batch, 12\)"),
        (lambda: isvt(NET, X, Y[:5], share=0.5), ValueError, "x and y need the same number of rows"),
        (lambda: isvt(NET, X * math.nan, Y, share=0.5), ValueError, "x contains NaN"),
        (lambda: gsvt(NET, 0.5, separate=1), TypeError, "separate must be True or False"),
        (lambda: lsvt(NET, 2, layers=[3]), IndexError, "names weight 3, but the network has 3"),
        (lambda: lsvt(NET, 2, layers=[2]), ValueError, "weight 2, but a weight of 1 x 8 has no lower rank"),
        (lambda: lsvt(NET, 2, layers=[0, -3]), ValueError, r"none twice, got \[0, -3\]"),
        (lambda: lsvt(NET, 2, layers=[]), ValueError, "at least one weight"),
        (lambda: lsvt(NET, 2, layers=1), TypeError, "layers must be a sequence"),
        (lambda: lsvt(NET, 2, layers=[0.0]), TypeError, "an index in layers must be an int"),
        (lambda: lsvt(nn.mlp((5, 1)), 1), ValueError, r"nothing can be truncated|at least two rows"),
        (lambda: lsvt(NET, 2, data=X), TypeError, r"data must be a pair \(x, y\)"),
        (lambda: lsvt(NET, 2, data=DIGITS), TypeError, r"e.g. data=\(data.x_test, data.y_test\), got Dataset"),
        (lambda: lsvt(NET, 2, data=(X, Y[:3])), ValueError, "x of data and y of data need the same number"),
        (lambda: lsvt(NET, 2, data=(X * math.nan, Y)), ValueError, "x of data contains NaN"),
        (lambda: lsvt(NET, 2, data=(X, Y), loss="mse"), TypeError, "loss must be a loss of dlra.nn"),
        (lambda: lsvt(NET, 2, input_shape=(3,)), ValueError, "takes inputs of shape"),
        (lambda: lsvt(NET, 2, input_shape=12), TypeError, "input_shape must be a tuple"),
        (lambda: lsvt(NET, 2, fine_tune=3), TypeError, "fine_tune must be a dict of arguments of nn.train"),
        (lambda: lsvt(NET, 2, fine_tune={**TUNING, "lr": 1}), TypeError, "fine_tune has 'lr', which nn.train"),
        (lambda: lsvt(NET, 2, fine_tune={"x": X, "y": Y}), TypeError, "fine_tune needs optimizer, epochs"),
        (lambda: lsvt(NET, 2, fine_tune={**TUNING, "epochs": 0}), ValueError, "epochs must be at least 1"),
        (lambda: lsvt(NET, 2, fine_tune={**TUNING, "y": Y[:3]}), ValueError, "same number of rows"),
        (lambda: lsvt(NET, 2, fine_tune={**TUNING, "method": "euler"}), ValueError, "euler"),
        (
            lambda: lsvt(NET.with_weights({1: NET.weights[1] * math.nan}), 2),
            ValueError,
            r"weight 1, of Linear\(10, 8\), contains NaN",
        ),
    ],
)  # fmt: skip
def test_refused_before_any_work(call, error, message, monkeypatch):
    def never(*_):
        raise AssertionError("a decomposition was computed")

    monkeypatch.setattr(truncation, "decomposed", never)
    monkeypatch.setattr(truncation, "evaluate", never)
    with pytest.raises(error, match=message):
        call()


def test_a_target_counts_the_weights_left_alone_too():
    for small, report in (
        lsvt(NET, parameters=180, layers=[0]),
        gsvt(NET, parameters=180, layers=[0]),
        isvt(NET, X, Y, parameters=180, layers=[0], per_round=1, rng=0),
    ):
        assert small.ranks == (4, 8, 1) and small.parameter_count() == 88 + 80 + 8
        check_report(NET, small, report, (12,))


def test_targets_at_their_ends():
    assert lsvt(NET, parameters=208).net.ranks == NET.ranks
    assert lsvt(NET, parameters=48).net.parameter_count() == 48
    assert isvt(NET, X, Y, share=1, rng=0).net.ranks == NET.ranks
    assert isvt(NET, X, Y, parameters=48, rng=0).net.parameter_count() == 48
