"""Training with a penalty of the singular values of weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import dense
from nn_helpers import blobs, network

import dlra
from dlra import LowRank, nn
from dlra.compress import effective_rank, gini, hoyer, nuclear_norm

CE = nn.CrossEntropyLoss()
MEASURES = {"nuclear": nuclear_norm, "effective-rank": effective_rank, "hoyer": hoyer, "gini": gini}


def mixed(dtype="float64"):
    """A dense, a low-rank, a composed layer and one in singular value form."""
    return nn.Sequential(
        nn.Linear(10, 9, dtype=dtype, rng=0), nn.Tanh(), nn.LowRankLinear(9, 8, 4, dtype=dtype, rng=1), nn.Tanh(),
        nn.ComposedLinear(8, 7, 3, dtype=dtype, rng=2), nn.Tanh(), nn.SVDLinear(7, 3, dtype=dtype, rng=3),
    )  # fmt: skip


def penalty(net, regularizer):
    """The sum over all weights, from their dense matrices; of the layer in singular value form from |s|."""
    sign = -1 if regularizer.measure in ("hoyer", "gini") else 1
    total = 0.0
    for i, layer in enumerate(net._weighted):
        if not regularizer.applies(i, layer.shape):
            continue
        W = dense(layer.weight)
        if isinstance(layer, nn.SVDLinear):
            U, s, V = layer.matrices
            r = len(s)
            W = np.zeros(W.shape)
            np.fill_diagonal(W, s)
            excess = [np.linalg.norm(A.T @ A - np.eye(r)) ** 2 for A in (U, V)]
            total += regularizer.orthogonality * sum(excess) / r**2
        total += regularizer.strength * sign * MEASURES[regularizer.measure](W)
    return total


@pytest.mark.parametrize("measure", MEASURES)
def test_a_step_descends_the_loss_with_its_penalty(measure):
    """Dense members move by -h times the derivative of the loss plus the penalty, found by differences."""
    x, y = blobs()
    regularizer = nn.Regularizer(measure, 0.3, orthogonality=0.7)
    net = mixed()
    rng = np.random.default_rng(0)
    members = [Y if isinstance(Y, LowRank) else Y + 0.1 * rng.standard_normal(Y.shape) for Y in net.members]
    net, after = net.with_members(members), net.with_members(members)
    nn.train(
        after, x, y, loss=CE, optimizer=nn.SGD(1e-3), method=dlra.AugmentedBUG(), regularizer=regularizer, epochs=1,
        batch_size=len(x), rng=0,
    )  # fmt: skip

    def objective(state):
        other = net.with_members(state)
        return CE(other.predict(x), y) + penalty(other, regularizer)

    for i, (Y, Z) in enumerate(zip(net.members, after.members, strict=True)):
        if isinstance(Y, LowRank):
            continue
        D, h = rng.standard_normal(Y.shape), 1e-6
        slope = (
            objective([*net.members[:i], Y + h * D, *net.members[i + 1 :]])
            - objective([*net.members[:i], Y - h * D, *net.members[i + 1 :]])
        ) / (2 * h)
        assert float(np.sum(D * (Z - Y))) / -1e-3 == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("method", [dlra.AugmentedBUG(), dlra.ParallelBUG(), dlra.Galerkin()])
def test_the_core_of_a_low_rank_weight_follows_the_gradient_of_its_measure(measure, method):
    """With a loss that does not depend on the weight, a step is one of gradient descent on the core."""
    net = network((6, 5, 4), (3, None), bias=False)
    net = net.with_weights({1: np.zeros((4, 5))})
    x, y = blobs(features=6, classes=4)
    W = net.weights[0]
    _, G = nn.Regularizer(measure, 0.2).penalty(W)
    nn.train(
        net, x, y, loss=CE, optimizer=nn.SGD(0.05), method=method, epochs=1, batch_size=len(x), rng=0,
        regularizer=nn.Regularizer(measure, 0.2, layers=[0]),
    )  # fmt: skip
    np.testing.assert_allclose(net.weights[0].to_dense(), (W - 0.05 * G).to_dense(), atol=1e-13)
    better = MEASURES[measure](net.weights[0]) - MEASURES[measure](W)
    assert better > 0 if measure in ("hoyer", "gini") else better < 0


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("form", ["dense", "low-rank", "composed", "svd"])
def test_training_lowers_the_rank_that_it_measures(measure, form):
    x, y = blobs()
    results = []
    for strength in (0.0, 0.02):
        net = nn.mlp((10, 12, 12, 3), dtype="float64", rng=0)
        if form == "low-rank":
            net = nn.to_lowrank(net, rank=[8, 8, None])
        elif form != "dense":
            net = nn.to_composed(net, 2, rng=0) if form == "composed" else nn.to_svd(net)
        regularizer = nn.Regularizer(measure, strength, orthogonality=1.0 if form == "svd" else 0.0)
        history = nn.train(
            net, x, y, loss=CE, optimizer=nn.Adam(0.01), method=dlra.AugmentedBUG(), epochs=20, batch_size=40, rng=1,
            regularizer=regularizer,
        )  # fmt: skip
        value = [MEASURES[measure](W) for W in net.weights]
        results.append(-sum(value) if measure in ("hoyer", "gini") else sum(value))
        assert history.accuracy[-1] > 0.9
    assert results[1] < results[0] - 0.02 * abs(results[0])


def test_orthogonality_keeps_the_singular_vectors_orthonormal():
    x, y = blobs()
    errors = []
    for orthogonality in (0.0, 10.0):
        net = nn.to_svd(nn.mlp((10, 12, 3), dtype="float64", rng=0))
        nn.train(
            net, x, y, loss=CE, optimizer=nn.Adam(0.01), epochs=30, batch_size=40, rng=1,
            regularizer=nn.Regularizer("nuclear", 1e-3, orthogonality=orthogonality),
        )  # fmt: skip
        U, _, V = net._weighted[0].matrices
        errors.append(max(np.linalg.norm(A.T @ A - np.eye(A.shape[1])) for A in (U, V)))
    assert errors[1] < 0.02 * errors[0]


def test_the_loss_that_is_reported_is_that_of_the_data():
    x, y = blobs()
    net = nn.mlp((10, 8, 3), dtype="float64", rng=0)
    before = nn.evaluate(net, x, y, CE)[0]
    history = nn.train(
        net, x, y, loss=CE, optimizer=nn.SGD(1e-3), epochs=1, batch_size=len(x), rng=0,
        regularizer=nn.Regularizer("nuclear", 5.0),
    )  # fmt: skip
    assert history.loss[0] == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_trains_as_numpy(eager_library, dtype):
    x, y = blobs(dtype=dtype)
    ours = mixed(dtype)
    theirs = ours.to(eager_library.asarray(x, dtype))
    regularizer = nn.Regularizer("effective-rank", 0.01, orthogonality=0.5)
    options = {
        "loss": CE,
        "optimizer": nn.SGD(0.05),
        "method": dlra.AugmentedBUG(),
        "epochs": 1,
        "batch_size": 60,
    }
    for net, a, b in ((ours, x, y), (theirs, eager_library.asarray(x, dtype), eager_library.asarray(y))):
        nn.train(net, a, b, rng=2, regularizer=regularizer, **options)
    for a, b in zip(theirs.members, ours.members, strict=True):
        a = a.to_dense() if isinstance(a, LowRank) else a
        assert eager_library.owns(a)
        np.testing.assert_allclose(
            eager_library.to_numpy(a), dense(b), atol=1e-12 if dtype == "float64" else 2e-5
        )


def test_resuming_checks_the_regularizer(tmp_path):
    pytest.importorskip("h5py")
    x, y = blobs()
    options = {"loss": CE, "optimizer": nn.Adam(0.01), "batch_size": 40, "rng": 1}
    regularizer = nn.Regularizer("gini", 0.01)
    whole, half = (nn.mlp((10, 8, 3), dtype="float64", rng=0) for _ in range(2))
    nn.train(whole, x, y, epochs=4, regularizer=regularizer, **options)
    nn.train(half, x, y, epochs=2, regularizer=regularizer, checkpoint=tmp_path / "c.h5", **options)
    again = nn.mlp((10, 8, 3), dtype="float64", rng=0)
    nn.train(again, x, y, epochs=4, regularizer=regularizer, resume=tmp_path / "c.h5", **options)
    assert all(np.array_equal(a, b) for a, b in zip(whole.members, again.members, strict=True))
    with pytest.raises(ValueError, match="regularizer"):
        nn.train(again, x, y, epochs=4, resume=tmp_path / "c.h5", **options)


@pytest.mark.parametrize(
    ("regularizer", "error", "message"),
    [
        ("nuclear", TypeError, r"regularizer must be a Regularizer of dlra\.nn"),
        (nn.Regularizer("nuclear", 0.1, orthogonality=1.0), ValueError, "layers in singular value form.*to_svd"),
        (nn.Regularizer("nuclear", 0.1, layers=[2]), ValueError, "the network has 2 weights"),
    ],
)  # fmt: skip
def test_bad_regularizers_are_refused_before_training(regularizer, error, message):
    x, y = blobs()
    net = nn.to_composed(nn.mlp((10, 8, 3), dtype="float64", rng=0), 3, rng=0)
    with pytest.raises(error, match=message):
        nn.train(net, x, y, loss=CE, optimizer=nn.SGD(0.1), epochs=1, batch_size=40, regularizer=regularizer)


def test_a_weight_that_becomes_zero_is_named():
    x, y = blobs()
    net = nn.mlp((10, 8, 3), dtype="float64", rng=0).with_weights({0: np.zeros((8, 10))})
    with pytest.raises(dlra.TrainingError, match=r"epoch 1, batch 1.*zero"):
        nn.train(
            net, x, y, loss=CE, optimizer=nn.SGD(0.1), epochs=1, batch_size=40,
            regularizer=nn.Regularizer("effective-rank", math.pi),
        )  # fmt: skip


@pytest.mark.parametrize("form", ["array", "low-rank"])
def test_a_measure_of_ones_own(form):
    """‖W‖_F²/2, whose derivative is W: weight decay."""

    def squares(W, return_gradient):
        A = W.to_dense() if isinstance(W, LowRank) else W
        return 0.5 * float(np.sum(A * A)), LowRank.from_dense(
            A, rank=min(A.shape)
        ) if form == "low-rank" else A

    x, y = blobs()
    nets = [nn.mlp((10, 8, 3), dtype="float64", rng=0) for _ in range(2)]
    options = {"loss": CE, "epochs": 2, "batch_size": 40, "rng": 1}
    nn.train(nets[0], x, y, optimizer=nn.SGD(0.1), regularizer=nn.Regularizer(squares, 0.3), **options)
    nn.train(nets[1], x, y, optimizer=nn.SGD(0.1, weight_decay=0.3), **options)
    for a, b in zip(nets[0].members, nets[1].members, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_measure_of_another_dtype_does_not_change_the_network(dtype):
    x, y = blobs(dtype="float32")
    net = nn.mlp((10, 8, 3), rng=0)
    regularizer = nn.Regularizer(lambda W, return_gradient: (0.0, np.zeros(W.shape, dtype=dtype)), 0.1)
    with pytest.raises(dlra.TrainingError, match=rf"float32 of numpy, got {dtype} of numpy"):
        nn.train(net, x, y, loss=CE, optimizer=nn.SGD(0.1), epochs=1, batch_size=40, regularizer=regularizer)
    assert net.dtype == "float32"
