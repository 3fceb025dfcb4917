"""Layers trained as products: gradients, starts, merging, training, files, every array library."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import dense
from hypothesis import given
from hypothesis import strategies as st
from nn_helpers import blobs, labelled, members, network

import dlra
from dlra import LowRank, nn
from dlra.compress import schatten_norm

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def composed(dtype="float64"):
    return nn.Sequential(
        nn.ComposedConv2d(2, 3, 2, 2, dtype=dtype, rng=0), nn.Tanh(), nn.SVDConv2d(3, 4, 2, 3, dtype=dtype, rng=1),
        nn.Sigmoid(), nn.Flatten(), nn.ComposedLinear(16, 6, 3, inner=4, dtype=dtype, rng=2), nn.Tanh(),
        nn.SVDLinear(6, 5, 4, False, dtype=dtype, rng=3), nn.Tanh(), nn.ComposedLinear(5, 3, 1, dtype=dtype, rng=4),
    )  # fmt: skip


def randomised(net, rng):
    """All members Gaussian: nothing is balanced, orthonormal, ordered or positive."""
    return net.with_members([0.5 * rng.standard_normal(Y.shape).astype(net.dtype) for Y in net.members])


def images(rng, dtype="float64", rows=7):
    return rng.standard_normal((rows, 2, 4, 4)).astype(dtype), rng.integers(3, size=rows)


# ---- gradients


@pytest.mark.parametrize("loss", [CE, MSE])
def test_gradients_by_all_members_agree_with_differences(rng, loss):
    net = randomised(composed(), rng)
    x, y = images(rng)
    y = y if loss is CE else rng.standard_normal((7, 3))
    gradient = net.loss_and_gradient(x, y, loss)[1]
    assert len(gradient.members) == len(net.members) == 2 + 3 + 3 + 3 + 1 + 4
    for i, (Y, G) in enumerate(zip(net.members, gradient.members, strict=True)):
        D, h = rng.standard_normal(Y.shape), 1e-6

        def value(s, i=i, Y=Y, D=D):
            moved = [*net.members[:i], Y + s * D, *net.members[i + 1 :]]
            return net.with_members(moved).loss_and_gradient(x, y, loss)[0]

        assert (value(h) - value(-h)) / (2 * h) == pytest.approx(float(np.sum(D * G)), rel=1e-6, abs=1e-9)


def test_gradients_by_weights_are_those_of_the_merged_network(rng):
    net = randomised(composed(), rng)
    x, y = images(rng)
    ours, theirs = (each.loss_and_gradient(x, y, CE)[1] for each in (net, net.merge()))
    for a, b in zip((*ours.weights, *ours.biases), (*theirs.weights, *theirs.biases), strict=True):
        np.testing.assert_allclose(dense(a), dense(b), atol=1e-13)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_chain_rule_for_every_shape(n, m, factors, inner, seed):
    """<dW, G> = Σ <dWʲ, Gʲ> for the increment dW of the product."""
    rng = np.random.default_rng(seed)
    inner = inner if factors > 1 else None
    layer = nn.ComposedLinear(n, m, factors, inner=inner, dtype="float64", rng=rng)
    W = tuple(rng.standard_normal(a.shape) for a in layer.matrices)
    G = rng.standard_normal((m, n))
    h = 1e-6
    for j, Gj in enumerate(layer.pull_back(G, W)):
        D = rng.standard_normal(W[j].shape)
        up, down = (layer.compose((*W[:j], W[j] + s * D, *W[j + 1 :])) for s in (h, -h))
        assert np.sum(G * (up - down)) / (2 * h) == pytest.approx(np.sum(Gj * D), rel=1e-6, abs=1e-7)


# ---- starts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_start_is_the_same_for_every_number_of_factors(dtype):
    W = nn.Linear(40, 30, dtype=dtype, rng=0).weight
    K = nn.Conv2d(3, 20, 3, dtype=dtype, rng=0).weight
    for factors in (1, 2, 3, 4):
        linear = nn.ComposedLinear(40, 30, factors, dtype=dtype, rng=0)
        conv = nn.ComposedConv2d(3, 20, 3, factors, dtype=dtype, rng=0)
        for layer, plain in ((linear, W), (conv, K)):
            assert len(layer.matrices) == layer.factors == factors
            assert {a.dtype.name for a in (*layer.matrices, layer.bias, layer.weight)} == {dtype}
            np.testing.assert_allclose(layer.weight, plain, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("factors", [2, 3, 5])
@pytest.mark.parametrize("inner", [None, 50])
def test_the_start_has_the_smallest_decay_that_its_weight_allows(factors, inner):
    layer = nn.ComposedLinear(40, 30, factors, inner=inner, dtype="float64", rng=0)
    norms = [np.sum(W * W) for W in layer.matrices]
    p = 2 / factors
    np.testing.assert_allclose(norms, schatten_norm(layer.weight, p) ** p, rtol=1e-12)


def test_inner_dimensions():
    layer = nn.ComposedLinear(8, 6, 3, inner=10, rng=0)
    assert [W.shape for W in layer.matrices] == [(6, 10), (10, 10), (10, 8)] and layer.rank == 6
    layer = nn.ComposedLinear(8, 6, 2, inner=3, rng=0)
    assert [W.shape for W in layer.matrices] == [(6, 3), (3, 8)] and layer.rank == 3
    best = LowRank.from_dense(nn.Linear(8, 6, rng=0).weight, rank=3).to_dense()
    np.testing.assert_allclose(layer.weight, best, atol=1e-6)


def test_start_in_singular_value_form():
    layer = nn.SVDLinear(8, 6, 3, dtype="float64", rng=0)
    U, s, V = layer.matrices
    best = LowRank.from_dense(nn.Linear(8, 6, dtype="float64", rng=0).weight, rank=3)
    np.testing.assert_allclose(layer.weight.to_dense(), best.to_dense(), atol=1e-14)
    np.testing.assert_allclose(s, best.singular_values(), rtol=1e-13)
    assert np.linalg.norm(U.T @ U - np.eye(3)) + np.linalg.norm(V.T @ V - np.eye(3)) < 1e-13
    assert nn.SVDLinear(8, 6, rng=0).rank == 6 and nn.SVDConv2d(2, 3, 2, rng=0).rank == 3


# ---- merging and converting


def test_merging_changes_the_form_only(rng):
    net = randomised(composed(), rng)
    x, _ = images(rng)
    merged = net.merge()
    assert [type(layer).__name__ for layer in merged._weighted] == [
        "Conv2d", "Conv2d", "LowRankLinear", "Linear", "Linear",
    ]  # fmt: skip
    np.testing.assert_allclose(merged.predict(x), net.predict(x), atol=1e-13)
    np.testing.assert_allclose(net.to_dense().predict(x), net.predict(x), atol=1e-13)
    assert not any(layer.is_lowrank for layer in net.to_dense()._weighted)
    assert net.parameter_count() == merged.parameter_count() == 24 + 48 + 4 * 22 + 30 + 15
    assert net.ranks == (3, 3, 4, 4, 3) and merged.ranks == (3, 4, 4, 5, 3)
    assert merged.merge().weights[0] is merged.weights[0]
    trained = sum(A.size for A in net.matrices)
    assert net.parameter_count("training") == net.parameter_count("stored") == trained
    assert net.parameter_count("dense") == sum(m * n for m, n in (W.shape for W in net.weights))
    shape = tuple(x.shape[1:])
    split = net.split()
    assert net.flops(shape) == merged.flops(shape) == split.flops(shape)
    assert split.parameter_count() == net.parameter_count() and not any(
        la.is_lowrank for la in split._weighted
    )
    np.testing.assert_allclose(split.predict(x), net.predict(x), atol=1e-13)


@pytest.mark.parametrize("factors", [2, 3, 4])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_narrow_product_merges_to_factors(rng, factors, at):
    """Wherever its smallest dimension is, and only where factors of that rank are smaller than the matrix."""
    layer = nn.ComposedLinear(9, 8, factors, False, dtype="float64", rng=0)
    sizes = [8, *[8] * (factors - 1), 9]
    sizes[1 + at % (factors - 1)] = 3
    shapes = itertools.pairwise(sizes)
    layer = layer.with_matrices(tuple(rng.standard_normal(shape) for shape in shapes), None)
    merged = layer.merge()
    assert type(merged) is nn.LowRankLinear and merged.rank == layer.rank == 3
    np.testing.assert_allclose(merged.weight.to_dense(), layer.weight, rtol=1e-10, atol=1e-10)
    assert merged.parameter_count() == layer.parameter_count() == 3 * 17
    wide = nn.ComposedLinear(9, 8, factors, inner=5, rng=0)
    assert type(wide.merge()) is nn.Linear and wide.parameter_count() == 72


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_to_composed_keeps_the_function(rng, factors):
    net = network((7, 6, 5, 4), (2, None, 3))
    x, _ = labelled(rng, 9, 7, 4)
    before = [dense(W).copy() for W in net.weights]
    result = nn.to_composed(net, factors, rng=1)
    assert [len(layer.matrices) for layer in result._weighted] == [factors] * 3
    np.testing.assert_allclose(result.predict(x), net.predict(x), atol=1e-12)
    assert all(np.array_equal(dense(W), B) for W, B in zip(net.weights, before, strict=True))
    partly = nn.to_composed(net, factors, layers=[-1], rng=1)
    assert [type(layer).__name__ for layer in partly._weighted] == [
        "LowRankLinear", "Linear", "ComposedLinear",
    ]  # fmt: skip


def test_to_svd_keeps_the_function_or_the_best_approximation(rng):
    net = network((7, 6, 5, 4), (2, None, 3))
    x, _ = labelled(rng, 9, 7, 4)
    np.testing.assert_allclose(nn.to_svd(net).predict(x), net.predict(x), atol=1e-12)
    cut = nn.to_svd(net, 2)
    assert cut.ranks == (2, 2, 2)
    np.testing.assert_allclose(cut.predict(x), nn.to_lowrank(net, 2).predict(x), atol=1e-12)
    lenet = nn.to_svd(nn.lenet5(dtype="float64", rng=0))
    images = rng.standard_normal((2, 1, 28, 28))
    np.testing.assert_allclose(
        lenet.predict(images), nn.lenet5(dtype="float64", rng=0).predict(images), atol=1e-12
    )


def test_a_weight_that_is_given_makes_a_plain_layer(rng):
    net = composed()
    W = rng.standard_normal((6, 16))
    changed = net.with_weights({2: W, 3: rng.standard_normal((5, 6))})
    assert [type(layer).__name__ for layer in changed._weighted][2:4] == ["Linear", "Linear"]
    assert changed.weights[2] is W and len(changed.matrices) == 2 + 3 + 1 + 1 + 1
    low = net.with_weights({2: LowRank.from_dense(W, rank=2)})
    assert type(low._weighted[2]) is nn.LowRankLinear and type(net._weighted[2]) is nn.ComposedLinear


# ---- training


def test_a_step_of_gradient_descent_with_decay(rng):
    net = randomised(composed(), rng)
    x, y = images(rng)
    expected = []
    for i, (Y, G) in enumerate(zip(net.members, net.loss_and_gradient(x, y, CE)[1].members, strict=True)):
        decay = 0.3 * Y if i < len(net.matrices) else 0.0
        expected.append(Y - 0.1 * (G + decay))
    nn.train(net, x, y, loss=CE, optimizer=nn.SGD(0.1, weight_decay=0.3), epochs=1, batch_size=7, rng=0)
    for a, b in zip(net.members, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)


def test_one_factor_trains_as_the_plain_layer():
    x, y = blobs()
    plain = nn.mlp((10, 8, 3), dtype="float64", rng=0)
    one = nn.to_composed(plain, 1)
    for net in (plain, one):
        nn.train(net, x, y, loss=CE, optimizer=nn.Adam(0.01), epochs=3, batch_size=40, rng=1)
    for a, b in zip(members(plain), members(one), strict=True):
        assert np.array_equal(a, b)


def test_gradient_flow_keeps_the_factors_balanced(rng):
    """d/dt (Wʲᵀ Wʲ - Wʲ⁺¹ Wʲ⁺¹ᵀ) = 0 along the flow."""
    net = nn.Sequential(nn.ComposedLinear(4, 3, 3, False, dtype="float64", rng=0))
    x, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    F = nn.gradient_flow(net, x, y, MSE)
    end = dlra.solve(F, (0, 2.0), list(net.members), "augmented-bug", dt=0.02).y[-1]
    for A, B in itertools.pairwise(end):
        np.testing.assert_allclose(A.T @ A, B @ B.T, atol=1e-8)
    assert MSE(net.with_members(end).predict(x), y) < 0.9 * MSE(net.predict(x), y)


def test_mixed_with_low_rank_layers_options_go_to_their_layers():
    """Options given one per weight meet the right member, although a product has several."""
    x, y = blobs()
    net = nn.Sequential(
        nn.ComposedLinear(10, 8, 3, dtype="float64", rng=0), nn.ReLU(),
        nn.LowRankLinear(8, 8, 6, dtype="float64", rng=1), nn.ReLU(),
        nn.LowRankLinear(8, 8, 6, dtype="float64", rng=2), nn.ReLU(), nn.Linear(8, 3, dtype="float64", rng=3),
    )  # fmt: skip
    method = dlra.AugmentedBUG(rtol=(0.0, 0.9, 0.0, 0.0), max_rank=(None, None, 4, None))
    nn.train(net, x, y, loss=CE, optimizer=nn.Adam(0.01), method=method, epochs=1, batch_size=40, rng=0)
    assert net.ranks[1] <= 2 and net.ranks[2] == 4 and net.ranks[0] == 8
    with pytest.raises(ValueError, match="one for each of 4 weights, got 7"):
        nn.train(
            net, x, y, loss=CE, optimizer=nn.Adam(0.01), method=dlra.AugmentedBUG(rtol=[0.1] * 7), epochs=1,
            batch_size=40,
        )  # fmt: skip


def test_frozen_ranks_are_found_behind_a_product():
    """Ranks at the beginning of an epoch are those of members, of which a product has several."""
    x, y = blobs()
    net = nn.Sequential(
        nn.ComposedLinear(10, 8, 3, dtype="float64", rng=0), nn.ReLU(),
        nn.LowRankLinear(8, 8, 3, dtype="float64", rng=1), nn.ReLU(), nn.Linear(8, 3, dtype="float64", rng=2),
    )  # fmt: skip
    with pytest.warns(dlra.DlraWarning, match=r"the ranks of weights 1 \(rank 3\) cannot grow"):
        nn.train(
            net, x, y, loss=CE, optimizer=nn.SGD(1e-6), method=dlra.AugmentedBUG(rtol=0.1), epochs=1, batch_size=40,
            rng=0,
        )  # fmt: skip


def test_a_parameter_budget_is_for_trained_low_rank_weights():
    x, y = blobs()
    net = nn.to_svd(nn.mlp((10, 8, 3), dtype="float64", rng=0))
    with pytest.raises(ValueError, match="this network trains none"):
        nn.train(
            net,
            x,
            y,
            loss=CE,
            optimizer=nn.SGD(0.1),
            truncation=nn.ParameterBudget(60),
            epochs=1,
            batch_size=40,
        )


@pytest.mark.parametrize("factors", [2, 6, 10])
def test_factors_of_a_low_rank_weight_have_no_more_decay_than_it_needs(factors):
    """The zero singular values of a single precision weight are rounding errors, whose N-th roots are not small."""
    W = nn.LowRankLinear(40, 30, 2, rng=0)
    net = nn.to_composed(nn.Sequential(W), factors, rng=0)
    p = 2 / factors
    least = factors * float(np.sum(W.weight.singular_values() ** p))
    assert sum(float(np.sum(A * A)) for A in net.matrices) == pytest.approx(least, rel=1e-5)


def test_to_svd_keeps_zero_singular_values():
    net = nn.Sequential(nn.Linear(6, 5, rng=0)).with_weights({0: np.zeros((5, 6), dtype="float32")})
    assert nn.to_svd(net).ranks == (5,)


@pytest.mark.filterwarnings("ignore")
def test_a_blow_up_names_the_layer():
    x, y = blobs()
    net = nn.Sequential(
        nn.ComposedLinear(10, 8, 3, dtype="float64", rng=0), nn.ReLU(),
        nn.ComposedLinear(8, 3, 3, dtype="float64", rng=0),
    )  # fmt: skip
    with pytest.raises(dlra.TrainingError, match=r"layer [02], ComposedLinear"):
        nn.train(net, x, y, loss=CE, optimizer=nn.SGD(1e3), epochs=30, batch_size=40, rng=0)


def test_resumed_training_has_the_same_bits(tmp_path):
    pytest.importorskip("h5py")
    x, y = blobs()
    whole, first = composed_mlp(), composed_mlp()
    options = {"loss": CE, "optimizer": nn.Adam(0.01, weight_decay=1e-3), "batch_size": 40, "rng": 1}
    nn.train(whole, x, y, epochs=4, **options)
    nn.train(first, x, y, epochs=2, checkpoint=tmp_path / "c.h5", **options)
    again = composed_mlp()
    nn.train(again, x, y, epochs=4, resume=tmp_path / "c.h5", **options)
    assert all(np.array_equal(a, b) for a, b in zip(whole.members, again.members, strict=True))
    with pytest.raises(ValueError, match=r"layers|shapes"):
        nn.train(nn.mlp((10, 8, 3), dtype="float64"), x, y, epochs=4, resume=tmp_path / "c.h5", **options)


def composed_mlp():
    return nn.Sequential(
        nn.ComposedLinear(10, 8, 3, dtype="float64", rng=0), nn.ReLU(), nn.SVDLinear(8, 3, dtype="float64", rng=1)
    )  # fmt: skip


# ---- files and array libraries


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_and_casts(tmp_path, dtype, rng):
    pytest.importorskip("h5py")
    net = randomised(composed(dtype), rng)
    x, _ = images(rng, dtype)
    net.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert repr(again) == repr(net)
    assert all(np.array_equal(a, b) for a, b in zip(again.members, net.members, strict=True))
    assert np.array_equal(again.predict(x), net.predict(x))
    other = {"float32": "float64", "float64": "float32"}[dtype]
    assert {str(Y.dtype) for Y in net.astype(other).members} == {other}


def test_every_library_gives_the_numbers_of_numpy(eager_library, rng):
    net = randomised(composed(), rng)
    x, y = images(rng)
    like = eager_library.asarray(x)
    theirs, ty = net.to(like), eager_library.asarray(y)
    ours = net.loss_and_gradient(x, y, CE)[1]
    gradient = theirs.loss_and_gradient(like, ty, CE)[1]
    for a, b in zip(gradient.members, ours.members, strict=True):
        assert eager_library.owns(a)
        np.testing.assert_allclose(eager_library.to_numpy(a), b, atol=1e-13)
    options = {
        "loss": CE,
        "optimizer": nn.Adam(0.01, weight_decay=0.1),
        "epochs": 2,
        "batch_size": 4,
        "rng": 5,
    }
    nn.train(net, x, y, **options)
    nn.train(theirs, like, ty, **options)
    for a, b in zip(theirs.members, net.members, strict=True):
        assert eager_library.owns(a)
        np.testing.assert_allclose(eager_library.to_numpy(a), b, atol=1e-10)
    again = nn.to_svd(nn.to_composed(theirs.merge(), 2, rng=0).merge())
    np.testing.assert_allclose(eager_library.to_numpy(again.predict(like)), net.merge().predict(x), atol=1e-9)


# ---- bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.ComposedLinear(4, 3, 0), ValueError, "factors must be at least 1, got 0"),
        (lambda: nn.ComposedLinear(4, 3, 2.0), TypeError, "factors"),
        (lambda: nn.ComposedLinear(4, 3, 2, inner=0), ValueError, "inner must be at least 1, got 0"),
        (lambda: nn.ComposedLinear(4, 3, 1, inner=2), ValueError, "needs factors >= 2, got factors=1, inner=2"),
        (lambda: nn.to_composed(nn.mlp((4, 3)), 1, inner=2), ValueError, "needs factors >= 2"),
        (lambda: nn.ComposedLinear(0, 3), ValueError, "in_features must be at least 1"),
        (lambda: nn.ComposedConv2d(1, 2, 3, init="normal"), ValueError, "init must be one of he"),
        (lambda: nn.SVDLinear(4, 3, 4), ValueError, r"rank must not exceed min\(out, in\) = 3"),
        (lambda: nn.SVDConv2d(1, 2, 3, 0), ValueError, "rank must be at least 1"),
        (lambda: nn.to_composed("net"), TypeError, "to_composed takes a dlra.nn.Sequential, got str"),
        (lambda: nn.to_composed(nn.mlp((4, 3)), 2, layers=[1]), IndexError, "names weight 1, but the network has 1"),
        (lambda: nn.to_composed(nn.mlp((4, 3)), 2, layers=[0, -1]), ValueError, "none twice"),
        (lambda: nn.to_composed(nn.mlp((4, 3)), 2, layers=0), TypeError, "sequence of indices of weights, got 0"),
        (lambda: nn.to_composed(nn.to_composed(nn.mlp((4, 3)))), ValueError, r"a product already; give net\.merge"),
        (lambda: nn.to_svd(nn.mlp((4, 3)), 0), ValueError, "rank must be at least 1"),
        (lambda: nn.Sequential(nn.ComposedLinear(4, 3)).with_members([1, 2, 3]), TypeError, "weight 0 must be"),
        (lambda: nn.Sequential(nn.ComposedLinear(4, 3)).with_members([]), ValueError, "2 matrices and then 1 biases"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
