"""Training in a subspace: parameters as vectors, trajectories, principal subspaces, quasi-Newton steps in them."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from helpers import eps, to_numpy
from hypothesis import given
from hypothesis import strategies as st
from nn_helpers import bits, blobs, network

from dlra import nn
from dlra.errors import TrainingError
from dlra.nn import subspace as module
from validation.networks.subspace import Parts

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def dense_net(dtype="float64", bias=True, seed=0):
    return network((10, 6, 3), (None, None), dtype=dtype, bias=bias, seed=seed)


def snapshots_of(rank, count, size=40, seed=0, dtype="float64"):
    """Vectors whose differences to their mean have a rank."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((size, rank))
    return [(3 + basis @ rng.standard_normal(rank)).astype(dtype) for _ in range(count)]


def subspace_of(net, dimension=3, seed=1, centre=None):
    """A random subspace through the parameters of a network, or through another point."""
    w = nn.to_vector(net)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((w.size, dimension)))[0]
    return nn.Subspace(w if centre is None else centre, basis.astype(w.dtype))


# ---- vectors


@pytest.mark.parametrize("bias", [True, False])
def test_vector_and_back(library, bias):
    host = dense_net(bias=bias)
    net = host.to(library.asarray(np.zeros(1)))
    w = nn.to_vector(net)
    assert library.owns(w)
    assert np.array_equal(to_numpy(w), np.concatenate([a.ravel() for a in host.members]))
    again = nn.with_vector(net, 2 * w)
    assert all(library.owns(a) for a in again.members)
    for a, b in zip(again.members, host.members, strict=True):
        assert np.array_equal(to_numpy(a), 2 * b)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in net.layers]


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_vectors_share_no_memory_with_a_network(name):
    net = nn.Sequential(nn.Linear(4, 3, bias=False, rng=0))  # one member: nothing to put together
    if name == "torch":
        net = net.to(pytest.importorskip("torch").zeros(1))
    w = nn.to_vector(net)
    other = nn.with_vector(net, w)
    before = to_numpy(net.members[0]).copy()
    w[...] = 7.0
    assert np.array_equal(to_numpy(net.members[0]), before)
    assert np.array_equal(to_numpy(other.members[0]), before)


def test_convolutions_have_vectors():
    net = nn.lenet5(rng=0)
    assert nn.to_vector(net).shape == (net.parameter_count(biases=True),)
    assert bits(nn.with_vector(net, nn.to_vector(net))) == bits(net)


def test_layers_trained_as_products_have_vectors():
    """Their parameters are the matrices that are trained, not the product."""
    x, y = blobs()
    net = nn.Sequential(
        nn.ComposedLinear(10, 6, factors=2, dtype="float64", rng=0), nn.Tanh(),
        nn.SVDLinear(6, 3, rank=2, dtype="float64", rng=1),
    )  # fmt: skip
    w = nn.to_vector(net)
    assert w.shape == (sum(a.size for a in net.members),) and bits(nn.with_vector(net, w)) == bits(net)
    search = module._Search(net, x, y, CE, subspace_of(net), None, None)
    difference = (search(np.asarray([0.0, 1e-5, 0.0]))[0] - search(np.asarray([0.0, -1e-5, 0.0]))[0]) / 2e-5
    assert search(np.zeros(3))[1][1] == pytest.approx(difference, abs=1e-9)


# ---- trajectories


def test_trajectory_records_epochs():
    x, y = blobs()
    net, all_of_them, some = dense_net(), nn.Trajectory(), nn.Trajectory(every=2)
    all_of_them.record(net)
    seen = [nn.to_vector(net)]

    def callback(epoch):
        seen.append(nn.to_vector(epoch.net))
        all_of_them(epoch)
        some(epoch)

    nn.train(
        net, x, y, loss=CE, optimizer=nn.Momentum(0.1), epochs=5, batch_size=16, callback=callback, rng=0
    )
    assert len(all_of_them) == 6 and len(some) == 2
    assert all(np.array_equal(a, b) for a, b in zip(all_of_them, seen, strict=True))
    assert len({a.tobytes() for a in seen}) == 6, "snapshots do not follow the network"
    assert np.array_equal(some.snapshots[0], seen[2]) and np.array_equal(some.snapshots[1], seen[4])


def test_parts_of_an_epoch_are_the_rows_once_each():
    """How validation records several snapshots an epoch: an epoch of train is a part of one."""
    rows = np.arange(1000)
    source = Parts(rows, rows, parts=3, seed=0)
    parts = [np.concatenate([x for x, _ in source()]) for _ in range(6)]
    for epoch in (parts[:3], parts[3:]):
        assert np.array_equal(np.sort(np.concatenate(epoch)), rows)
    assert not np.array_equal(parts[0], parts[3]) and min(map(len, parts)) > 200


def test_trajectory_does_not_stop_a_training():
    x, y = blobs()
    history = nn.train(
        dense_net(),
        x,
        y,
        loss=CE,
        optimizer=nn.SGD(0.1),
        epochs=3,
        batch_size=60,
        callback=nn.Trajectory(),
        rng=0,
    )
    assert history.status == 0 and len(history) == 3


# ---- subspaces


@given(
    p=st.integers(2, 30),
    k=st.integers(2, 9),
    data=st.data(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_principal_subspace_is_the_nearest(p, k, data, dtype):
    """Orthonormal; the error of the snapshots is the tail of the singular values; P is a projection."""
    dimension = data.draw(st.integers(1, min(p, k - 1)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    W = (5 * rng.standard_normal((p, 1)) + rng.standard_normal((p, k))).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    subspace = nn.Subspace.from_snapshots(list(W.T), dimension)
    assert subspace.dimension == dimension and subspace.basis.dtype == dtype and subspace.mean.dtype == dtype
    assert np.linalg.norm(subspace.basis.T @ subspace.basis - np.eye(dimension)) < 50 * eps
    centred = W.astype(float) - W.astype(float).mean(axis=1, keepdims=True)
    s = np.linalg.svd(centred)[1]
    missed = np.stack([w - subspace.project(w) for w in W.T], axis=1)
    scale = float(np.linalg.norm(W))
    assert np.linalg.norm(missed) == pytest.approx(np.linalg.norm(s[dimension:]), abs=50 * eps * scale)
    assert subspace.explained == pytest.approx(s[:dimension] ** 2 / np.sum(s**2), abs=1000 * eps)
    w = rng.standard_normal(p).astype(dtype)
    once = subspace.project(w)
    assert np.linalg.norm(subspace.project(once) - once) < 50 * eps * (np.linalg.norm(w) + scale)
    assert np.linalg.norm(subspace.basis.T @ (w - once)) < 50 * eps * (np.linalg.norm(w) + scale)
    c = subspace.coordinates(once)
    assert np.linalg.norm(subspace.vector(c) - once) < 50 * eps * (np.linalg.norm(w) + scale)
    assert subspace.error(w) == pytest.approx(
        np.linalg.norm(w - once) / np.linalg.norm(w), rel=1e-3, abs=50 * eps
    )


@pytest.mark.parametrize(("dtype", "roundoff"), [("float64", 1e-14), ("float32", 1e-6)])
def test_error_vanishes_from_the_rank_of_the_snapshots_on(dtype, roundoff):
    snapshots = snapshots_of(rank=4, count=9, dtype=dtype)
    largest = [
        max(nn.Subspace.from_snapshots(snapshots, d).error(w) for w in snapshots) for d in (1, 2, 3, 4)
    ]
    assert largest[2] > 1e-2 and largest[3] < roundoff
    assert nn.Subspace.from_snapshots(snapshots, 4).explained.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"only 4 directions .* dimension=5"):
        nn.Subspace.from_snapshots(snapshots, 5)


def test_all_snapshots_less_one_are_enough_for_any_trajectory():
    """Whatever the network: k snapshots lie in a subspace of dimension k - 1."""
    rng = np.random.default_rng(0)
    snapshots = [rng.standard_normal(200) for _ in range(8)]
    subspace = nn.Subspace.from_snapshots(snapshots)
    assert subspace.dimension == 7
    assert max(subspace.error(w) for w in snapshots) < 1e-14
    assert max(nn.Subspace.from_snapshots(snapshots, 6).error(w) for w in snapshots) > 1e-2


def test_the_default_dimension_is_that_of_the_snapshots():
    snapshots = snapshots_of(rank=3, count=8)
    subspace = nn.Subspace.from_snapshots(snapshots)
    assert subspace.dimension == 3 and max(subspace.error(w) for w in snapshots) < 1e-14
    assert nn.Subspace.from_snapshots([snapshots[0]] * 3 + [snapshots[1]]).dimension == 1


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_explained_does_not_depend_on_the_scale(scale):
    snapshots = snapshots_of(rank=5, count=7)
    expected = nn.Subspace.from_snapshots(snapshots, 3).explained
    found = nn.Subspace.from_snapshots([scale * w for w in snapshots], 3).explained
    assert found == pytest.approx(expected, rel=1e-12) and 0.5 < found.sum() < 1


@pytest.mark.parametrize("p", [300, 4096, 266_610])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bases_are_held_to_roundoff_of_any_length(eager_library, p, dtype):
    """The scalar product of long vectors in single precision is worse than the vectors."""
    given = np.linalg.qr(np.random.default_rng(0).standard_normal((p, 2)))[0]
    given[:, 1] = p**-0.5 * np.sign(np.arange(p) % 2 - 0.5)
    given[:, 0] -= given[:, 1] * (given[:, 1] @ given[:, 0])
    given[:, 0] /= np.linalg.norm(given[:, 0])
    mean, basis = eager_library.asarray(np.zeros(p, dtype)), eager_library.asarray(given.astype(dtype))
    assert nn.Subspace(mean, basis).dimension == 2
    for scale in (1.015, 1 + 1e4 * eps(dtype)):
        with pytest.raises(ValueError, match="orthonormal columns"):
            nn.Subspace(mean, basis * scale)


def test_subspaces_of_any_library(eager_library):
    snapshots = [eager_library.asarray(w) for w in snapshots_of(rank=3, count=6)]
    expected = nn.Subspace.from_snapshots(snapshots_of(rank=3, count=6), 2)
    subspace = nn.Subspace.from_snapshots(snapshots, 2)
    assert eager_library.owns(subspace.mean) and eager_library.owns(subspace.basis)
    w = snapshots_of(rank=5, count=1, seed=4)[0]
    found = subspace.project(eager_library.asarray(w))
    assert eager_library.owns(found)
    assert to_numpy(found) == pytest.approx(expected.project(w), abs=1e-12)
    assert subspace.error(eager_library.asarray(w)) == pytest.approx(expected.error(w))


# ---- training


@pytest.mark.parametrize("loss", [CE, MSE])
@pytest.mark.parametrize("rows", [120, 1100])
def test_gradient_in_coordinates_equals_differences(loss, rows):
    """Also where the rows go through in two pieces of different size."""
    x, y = blobs(rows=rows)
    y = y if loss is CE else np.random.default_rng(2).standard_normal((rows, 3))
    net = dense_net()
    search = module._Search(net, x, y, loss, subspace_of(net), None, None)
    c = np.asarray([0.3, -0.2, 0.5])
    value, gradient = search(c)
    at = nn.with_vector(net, search.subspace.vector(c))
    assert value == pytest.approx(loss(at.predict(x), y), rel=1e-13)
    for i, e in enumerate(np.eye(3)):
        difference = (search(c + 1e-5 * e)[0] - search(c - 1e-5 * e)[0]) / 2e-5
        assert gradient[i] == pytest.approx(difference, abs=1e-8)
    assert search.history.nfev == 7


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_quadratic_is_solved_exactly(method):
    """Gradient descent on one layer with the squared error: the Hessian has two eigenvalues (one of the first input and
    the bias, one of the second), so that the trajectory lies in a plane, which contains the minimiser."""
    x = np.asarray([(a, b) for a in (-1.0, 1.0) for b in (-2.0, 2.0)])
    best = nn.Sequential(nn.Linear(2, 3, dtype="float64", rng=1))
    y = best.predict(x)
    net, trajectory = nn.Sequential(nn.Linear(2, 3, dtype="float64", rng=2)), nn.Trajectory()
    net = nn.with_vector(net, nn.to_vector(net) + 1.0)
    before = bits(net)
    trajectory.record(net)
    course = net.copy()
    nn.train(
        course, x, y, loss=MSE, optimizer=nn.SGD(0.05), epochs=5, batch_size=4, callback=trajectory, rng=0
    )
    with pytest.raises(ValueError, match="only 2 directions"):
        nn.Subspace.from_snapshots(trajectory, 3)
    subspace = nn.Subspace.from_snapshots(trajectory, 2)
    assert subspace.error(nn.to_vector(best)) < 1e-12
    assert nn.Subspace.from_snapshots(trajectory, 1).error(nn.to_vector(best)) > 1e-2
    history = nn.train_in_subspace(net, x, y, loss=MSE, subspace=subspace, method=method, gtol=1e-12)
    assert history.success and history.status == 0 and method in history.message
    assert np.linalg.norm(nn.to_vector(history.net) - nn.to_vector(best)) < 1e-6
    assert history.loss[-1] < 1e-13 < 1e-3 < nn.evaluate(course, x, y, MSE)[0]
    assert bits(net) == before and history.net is not net


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_quadratic_is_solved_within_the_subspace(method):
    """The minimiser over the subspace, from the normal equations."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 4)), rng.standard_normal((50, 2))
    net = nn.Sequential(nn.Linear(4, 2, dtype="float64", rng=2))
    subspace = subspace_of(net)
    outputs = [nn.with_vector(net, subspace.mean + b).predict(x).ravel() for b in subspace.basis.T]
    residual = net.predict(x).ravel()
    A = np.stack(outputs, axis=1) - residual[:, None]
    expected = np.linalg.lstsq(A, y.ravel() - residual, rcond=None)[0]
    history = nn.train_in_subspace(net, x, y, loss=MSE, subspace=subspace, method=method, gtol=1e-10)
    assert subspace.coordinates(nn.to_vector(history.net)) == pytest.approx(expected, abs=1e-8)
    assert subspace.error(nn.to_vector(history.net)) < 1e-15


def test_starts_at_the_projection():
    x, y = blobs()
    net = dense_net()
    subspace = subspace_of(net, centre=nn.to_vector(dense_net(seed=9)))
    seen = []
    history = nn.train_in_subspace(
        net, x, y, loss=CE, subspace=subspace, max_iterations=3, callback=seen.append
    )
    start = nn.with_vector(net, subspace.project(nn.to_vector(net)))
    assert history.epoch == [0, 1, 2, 3] and history.steps == 3
    assert history.loss[0] == pytest.approx(nn.evaluate(start, x, y, CE)[0], rel=1e-12)
    assert bits(seen[0].net) == bits(start)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_history(method, tmp_path):
    x, y = blobs(rows=1100)
    net, trajectory = dense_net(dtype="float32"), nn.Trajectory()
    x = x.astype("float32")
    held = (x[:100], y[:100])
    seen = []
    history = nn.train_in_subspace(
        net, x, y, loss=CE, subspace=subspace_of(net, 4), method=method, max_iterations=6, validation=held,
        callback=lambda e: (trajectory(e), seen.append(e))[0],
    )  # fmt: skip
    assert len(history) == len(seen) == len(trajectory) == 7 and history.nfev >= 7
    assert all(b <= a for a, b in zip(history.loss[:-1], history.loss[1:], strict=True))
    for row, epoch, w in zip(history, seen, trajectory, strict=True):
        assert [*map(repr, row[:-1])] == [*map(repr, epoch[:-1])] and np.array_equal(
            nn.to_vector(epoch.net), w
        )
        loss, accuracy = nn.evaluate(epoch.net, x, y, CE)
        assert row.loss == pytest.approx(loss, rel=1e-5) and row.accuracy == pytest.approx(
            accuracy, abs=1e-12
        )
        assert (row.validation_loss, row.validation_accuracy) == nn.evaluate(epoch.net, *held, CE)
        assert math.isnan(row.learning_rate) and row.seconds >= 0
    assert bits(history.net) == bits(seen[-1].net)
    history.to_json(tmp_path / "history.json")
    assert json.loads((tmp_path / "history.json").read_text())["epoch"] == list(range(7))


def test_rows_are_weighted_as_in_one_batch():
    """The loss of 2049 rows, whose last piece is one row."""
    x, y = blobs(rows=2049)
    net = dense_net()
    search = module._Search(net, x, y, CE, subspace_of(net), None, None)
    value, gradient = search(np.zeros(3))
    whole, parts, _ = net._derivatives(net.members, x, y, CE, 1.0)
    assert value == pytest.approx(whole, rel=1e-13)
    expected = search.subspace.basis.T @ np.concatenate([np.ravel(g) for g in parts])
    assert gradient == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_in_any_library(library, dtype):
    x, y = blobs()
    host = dense_net(dtype)
    subspace = subspace_of(host)
    expected = nn.train_in_subspace(host, x.astype(dtype), y, loss=CE, subspace=subspace, max_iterations=4)
    like = library.asarray(np.zeros(1))
    theirs = nn.Subspace(library.asarray(subspace.mean), library.asarray(subspace.basis))
    history = nn.train_in_subspace(
        host.to(like),
        library.asarray(x.astype(dtype)),
        library.asarray(y),
        loss=CE,
        subspace=theirs,
        max_iterations=4,
    )
    assert all(library.owns(a) for a in history.net.members) and history.net.dtype == dtype
    assert history.loss == pytest.approx(expected.loss, rel=1e-9 if dtype == "float64" else 1e-3)
    assert history.loss[-1] < 0.9 * history.loss[0]


def test_callback_stops():
    x, y = blobs()
    net = dense_net()
    options = dict(loss=CE, subspace=subspace_of(net))
    history = nn.train_in_subspace(net, x, y, callback=lambda e: e.epoch == 2, **options)
    assert history.status == 1 and history.epoch == [0, 1, 2] and "iteration 2" in history.message
    assert bits(history.net) == bits(nn.train_in_subspace(net, x, y, max_iterations=2, **options).net)
    history = nn.train_in_subspace(net, x, y, callback=lambda e: True, **options)
    assert history.status == 1 and history.epoch == [0]

    def interrupt(epoch):
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    history = nn.train_in_subspace(net, x, y, callback=interrupt, **options)
    assert history.status == 1 and "Ctrl-C" in history.message and history.epoch == [0, 1]


class Narrow(nn.MSELoss):
    """A loss that is not finite, or whose gradient is not, where an output is at ``bound`` or beyond."""

    def __init__(self, bound, value, slope):
        self.bound, self.value, self.slope = bound, value, slope

    def with_derivative(self, z, y):
        value, delta = super().with_derivative(z, y)
        return (value, delta) if z.max() < self.bound else (value + self.value, delta + self.slope)


NOT_FINITE = [(math.nan, math.nan), (math.nan, 0.0), (math.inf, 0.0), (math.inf, math.nan), (0.0, math.nan)]


def narrow(bound, value, slope, method, gtol=1e-5):
    """The search for the output 0.15 from 0, whose first step goes beyond the bound."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False, dtype="float64", rng=0))
    net = nn.with_vector(net, np.asarray([0.0]))
    subspace = nn.Subspace(np.asarray([0.0]), np.asarray([[1.0]]))
    x, y = np.ones((1, 1)), np.full((1, 1), 0.15)
    history = nn.train_in_subspace(
        net, x, y, loss=Narrow(bound, value, slope), subspace=subspace, method=method, gtol=gtol
    )
    assert np.isfinite(history.loss).all() and np.isfinite(nn.to_vector(history.net)).all()
    return history


@pytest.mark.parametrize(("value", "slope"), NOT_FINITE)
@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_steps_to_where_the_loss_is_not_finite_are_shortened(method, value, slope):
    history = narrow(0.2, value, slope, method)
    assert history.status == 0 and history.loss[-1] < 1e-9 and history.nfev > len(history)
    short = narrow(0.2, value, slope, method, gtol=0.25)
    assert short.status == 0 and len(short) == 2 < short.nfev, "converged in the iteration that met the wall"


@pytest.mark.parametrize(("value", "slope"), NOT_FINITE)
def test_no_line_search_accepts_a_point_that_is_not_finite(value, slope):
    """What is said of it rises along the step from the point last reached, and falls back to it."""
    net = nn.Sequential(nn.Linear(2, 1, bias=False, dtype="float64", rng=0))
    net = nn.with_vector(net, np.zeros(2))
    subspace = nn.Subspace(np.zeros(2), np.eye(2))
    loss = Narrow(1.0, value, slope)
    search = module._Search(net, np.ones((1, 2)), np.full((1, 1), 5.0), loss, subspace, None, None)
    beyond = np.asarray([1.0, 3.0])
    for reached in (np.zeros(2), np.asarray([0.2, 0.3])):
        search._row(reached)
        low, slopes = search(reached)
        high, back = search(beyond)
        step = beyond - reached
        assert high - low == pytest.approx(-slopes @ step) and back @ step == pytest.approx(2 * (high - low))
    for place in (beyond, np.asarray([0.0, math.nan])):
        with pytest.raises(module._Beyond):
            search._row(place)
    assert len(search.history) == 2


@pytest.mark.parametrize(("value", "slope"), NOT_FINITE)
@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_a_search_that_ends_at_a_wall_has_not_converged(method, value, slope):
    """The minimiser is beyond the wall: the loss at the wall is a bound of what can be reached."""
    history = narrow(0.1, value, slope, method)
    assert history.status == -1 and not history.success and "NaN or infinite" in history.message
    assert len(history) > 1 and history.loss[-1] < 0.7 * history.loss[0]
    assert all(b <= a for a, b in zip(history.loss[:-1], history.loss[1:], strict=True))
    assert 0.5 * 0.05**2 < history.loss[-1] == nn.MSELoss()(history.net.predict(np.ones((1, 1))), [[0.15]])


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B"])
def test_a_start_enclosed_by_points_that_are_not_finite_is_kept(method):
    history = narrow(1e-300, math.nan, math.nan, method)
    assert history.status == -1 and history.epoch == [0] and history.steps == 0
    assert nn.to_vector(history.net) == [0.0]


def test_interrupted_before_the_first_iteration(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    x, y = blobs()
    net = dense_net()
    before = bits(net)
    for name, place in (("_evaluated", module._Search), ("evaluate", module)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, interrupt)
            history = nn.train_in_subspace(net, x, y, loss=CE, subspace=subspace_of(net), validation=(x, y))
        assert history.status == 1 and len(history) == history.steps == 0
        assert history.message == "Interrupted by Ctrl-C at the start."
        assert history.net is not net and bits(history.net) == bits(net) == before


def test_a_start_that_is_not_finite_is_reported():
    x, y = blobs()
    net = dense_net("float32")
    x = x.astype("float32")
    subspace = subspace_of(net)
    huge = nn.with_vector(net, np.full_like(nn.to_vector(net), 1e38))
    options = dict(loss=MSE, subspace=nn.Subspace(nn.to_vector(huge), subspace.basis))
    with pytest.raises(TrainingError, match="at the start.*NaN or infinite, first in layer") as caught:
        nn.train_in_subspace(huge, x, np.zeros((120, 3), "float32"), **options)
    assert caught.value.history.status == -1 and not caught.value.history.success
    broken = nn.with_vector(net, np.full_like(nn.to_vector(net), math.nan))
    with pytest.raises(TrainingError, match="the parameters of the network"):
        nn.train_in_subspace(broken, x, y, loss=CE, subspace=subspace)


def test_nothing_heavy_is_imported():
    import subprocess

    code = "import sys; from dlra import nn; nn.Subspace; sys.exit('scipy.optimize' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- bad input


def test_lowrank_weights_are_refused_with_the_remedy():
    net = nn.mlp((10, 6, 3), rank=2, rng=0)
    x, y = blobs(dtype="float32")
    subspace = subspace_of(nn.mlp((10, 6, 3), rng=0))
    for run in (
        lambda: nn.to_vector(net),
        lambda: nn.with_vector(net, np.zeros(3)),
        lambda: nn.Trajectory().record(net),
        lambda: nn.train_in_subspace(net, x, y, loss=CE, subspace=subspace),
    ):
        with pytest.raises(TypeError, match=r"weight 0 .* low-rank .*net\.split\(\)"):
            run()
    split = net.split()
    nn.Trajectory().record(split)
    assert bits(nn.with_vector(split, nn.to_vector(split))) == bits(split)


def test_bad_vectors():
    net = dense_net()
    for wrong, error, text in (
        (np.zeros(5), ValueError, r"87 parameters, got ndarray of shape \(5,\)"),
        (np.zeros((87, 1)), ValueError, "87 parameters"),
        (np.zeros(87, "float32"), TypeError, "float64, got float32"),
        ([0.0] * 87, TypeError, "must be an array, got list"),
    ):
        with pytest.raises(error, match=text):
            nn.with_vector(net, wrong)
    with pytest.raises(TypeError, match="must be a dlra.nn.Sequential"):
        nn.to_vector([np.zeros(3)])


def test_bad_trajectories():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        nn.Trajectory(every=0)
    trajectory = nn.Trajectory()
    trajectory.record(dense_net())
    with pytest.raises(
        ValueError, match="has 65 parameters, but earlier snapshots have 87; take one Trajectory"
    ):
        trajectory.record(network((4, 9, 2), (None,) * 2))
    with pytest.raises(TypeError, match="float64, got float32"):
        trajectory.record(dense_net("float32"))


@pytest.mark.parametrize(
    ("snapshots", "dimension", "error", "text"),
    [
        ([np.ones(5)], None, ValueError, "at least two snapshots are needed, got 1"),
        ("abc", None, TypeError, "Trajectory or a sequence of vectors, got str"),
        ([np.ones(5), np.zeros(4)], None, ValueError, "snapshot 1 has 4 entries"),
        ([np.ones(5), np.zeros(5, "float32")], None, TypeError, "snapshot 1 must have the dtype"),
        ([np.ones(5), np.zeros((5, 1))], None, TypeError, "snapshot 1 must be a float32 or float64 vector"),
        ([np.ones(5), np.full(5, np.nan)], None, ValueError, "snapshot 1 contains NaN"),
        (
            [np.ones(5), np.zeros(5)],
            2,
            ValueError,
            "2 snapshots of 5 parameters have at most 1 .* got dimension=2",
        ),
        ([np.ones(5), np.zeros(5)], 0, ValueError, "dimension must be at least 1, got 0"),
        ([np.ones(5), np.zeros(5)], 1.0, TypeError, "dimension"),
        ([np.ones(5)] * 3, 1, ValueError, "they have no direction; record them while"),
        ([np.ones(5)] * 3, None, ValueError, "they have no direction; record them while"),
    ],
)
def test_bad_snapshots(snapshots, dimension, error, text):
    with pytest.raises(error, match=text):
        nn.Subspace.from_snapshots(snapshots, dimension)


@pytest.mark.parametrize(
    ("mean", "basis", "error", "text"),
    [
        ([0.0], np.ones((1, 1)), TypeError, "mean of a Subspace .* got list"),
        (np.zeros(2), np.ones(2), TypeError, "basis of a Subspace .* 2 axes"),
        (np.zeros(2), np.eye(2, dtype="float32"), TypeError, "mean and basis need one dtype"),
        (np.zeros(3), np.eye(2), ValueError, "basis must have 3 rows"),
        (np.zeros(2), np.zeros((2, 0)), ValueError, "at least one column"),
        (np.zeros(2), 2 * np.eye(2), ValueError, "orthonormal columns.*orthonormalize"),
        (np.zeros(2), np.full((2, 1), np.nan), ValueError, "orthonormal columns"),
    ],
)
def test_bad_subspaces(mean, basis, error, text):
    with pytest.raises(error, match=text):
        nn.Subspace(mean, basis)


def test_bad_points_of_a_subspace():
    subspace = nn.Subspace(np.zeros(3), np.eye(3)[:, :2])
    with pytest.raises(ValueError, match="vector must have 3 entries"):
        subspace.project(np.zeros(4))
    with pytest.raises(ValueError, match="coordinates must be a vector of 2"):
        subspace.vector(np.zeros(3))
    for wrong in (np.zeros(3), np.full(3, np.nan)):
        with pytest.raises(ValueError, match="normalised error needs a vector"):
            subspace.error(wrong)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"subspace": None}, TypeError, "subspace must be a dlra.nn.Subspace, got NoneType"),
        (
            {"subspace": nn.Subspace(np.zeros(3), np.eye(3))},
            ValueError,
            "one of 3 parameters, but the network has 87",
        ),
        ({"method": "CG"}, ValueError, "method must be one of BFGS, L-BFGS-B, got 'CG'"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be at least 1"),
        ({"gtol": -1.0}, ValueError, "gtol must be finite and >= 0"),
        ({"gtol": "small"}, TypeError, "gtol must be a real number"),
        ({"x": np.full((120, 10), np.nan)}, ValueError, "x contains NaN"),
        ({"x": np.zeros((120, 10), "float32")}, TypeError, "x must have the dtype of the network"),
        ({"y": None}, TypeError, "y must be an array"),
        ({"loss": None}, TypeError, "loss must be a loss"),
        ({"validation": 3}, TypeError, "validation must be a pair"),
        ({"callback": 3}, TypeError, "callback must be a function of the epoch"),
        ({"net": None}, TypeError, "net must be a dlra.nn.Sequential"),
    ],
)
def test_bad_arguments_of_a_search(change, error, text):
    x, y = blobs()
    net = dense_net()
    given = {"net": net, "x": x, "y": y, "loss": CE, "subspace": subspace_of(net), **change}
    with pytest.raises(error, match=text):
        nn.train_in_subspace(given.pop("net"), given.pop("x"), given.pop("y"), **given)


def test_single_precision_subspaces_need_single_precision_networks():
    x, y = blobs()
    with pytest.raises(
        TypeError, match="the mean of the subspace must have the dtype of the network, float64"
    ):
        nn.train_in_subspace(dense_net(), x, y, loss=CE, subspace=subspace_of(dense_net("float32")))
