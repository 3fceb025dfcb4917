"""Layers, losses and networks: gradients, nothing m x n formed, array libraries, counts, copies, bad input."""

from __future__ import annotations

import importlib.util
import tracemalloc

import numpy as np
import pytest
from helpers import get_library, random_lowrank
from nn_helpers import bits, dense, distance, labelled, members, network

import dlra
from dlra import AugmentedBUG, LowRank, nn
from dlra.field import Value
from dlra.nn._layer import Layer
from dlra.nn.layers import check_rank
from validation.networks.tables import PAPER, sizes

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
SIZES = (13, 11, 7, 4)
RANKS = {"dense": (None, None, None), "low": (3, 2, 4), "mixed": (5, None, 2)}


def problem(kind="low", activation="tanh", loss=CE, rows=9, dtype="float64", bias=True):
    rng = np.random.default_rng(3)
    net = network(SIZES, RANKS[kind], activation, dtype, bias=bias)
    x, y = labelled(rng, rows, SIZES[0], SIZES[-1], dtype)
    return net, x, y if loss is CE else rng.standard_normal((rows, SIZES[-1])).astype(dtype)


# ---- gradients


@pytest.mark.parametrize("rows", [9, 1])
@pytest.mark.parametrize("loss", [CE, MSE])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("kind", ["dense", "mixed"])
def test_gradient_equals_central_differences(kind, activation, loss, rows):
    """In random directions of all members, dense ones through arbitrary (full-rank) perturbations of the weight."""
    net, x, y = problem(kind, activation, loss, rows)
    value, gradient = net.loss_and_gradient(x, y, loss)
    assert value == pytest.approx(loss(net.predict(x), y), rel=1e-14)
    flat = net.to_dense()
    rng = np.random.default_rng(8)
    parts = [*map(dense, gradient.weights), *gradient.biases]
    for i, G in enumerate(parts):
        E = rng.standard_normal(G.shape)
        E /= np.linalg.norm(E)
        step, ends = 1e-5, []
        for sign in (1, -1):
            Ys = list(flat.members)
            Ys[i] = Ys[i] + sign * step * E
            ends.append(loss(flat.with_members(Ys).predict(x), y))
        expected = (ends[0] - ends[1]) / (2 * step)
        assert abs(expected - np.sum(G * E)) <= 1e-7 * max(np.linalg.norm(G), 1e-2), i


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("loss", [CE, MSE])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("rows", [9, 1])
def test_gradient_equals_torch(rows, activation, loss, dtype, tolerance):
    torch = pytest.importorskip("torch")
    net, x, y = problem("mixed", activation, loss, rows, dtype)
    value, gradient = net.loss_and_gradient(x, y, loss)
    flat = [torch.tensor(a, requires_grad=True) for a in members(net)]
    z = torch.tensor(x)
    for i in range(3):
        z = torch.nn.functional.linear(z, flat[i], flat[3 + i])
        z = getattr(torch, activation)(z) if i < 2 else z
    theirs = torch.nn.functional.cross_entropy if loss is CE else torch.nn.functional.mse_loss
    expected = theirs(z, torch.tensor(y))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=tolerance)
    found = [*map(dense, gradient.weights), *gradient.biases]
    assert all(a.dtype == dtype for a in found)
    assert distance(found, [p.grad.numpy() for p in flat]) < tolerance


@pytest.mark.parametrize("loss", [CE, MSE])
def test_lowrank_gradient_projects_onto_K_L_and_S(loss):
    """G V, GᵀU and UᵀGV equal those of the dense gradient, and central differences by K, L and S."""
    net, x, y = problem("low", "sigmoid", loss)
    G = net.loss_and_gradient(x, y, loss)[1].weights
    full = net.to_dense().loss_and_gradient(x, y, loss)[1].weights
    rng = np.random.default_rng(1)
    for i, (W, g, f) in enumerate(zip(net.weights, G, full, strict=True)):
        assert isinstance(g, LowRank) and isinstance(f, np.ndarray)
        U, S, V = W.factors
        found = {"K": dense(g @ V), "L": dense(g.H @ U), "S": dense(U.T @ (g @ V))}
        assert distance(list(found.values()), [f @ V, f.T @ U, U.T @ f @ V]) < 1e-13
        for name, D in found.items():
            E = rng.standard_normal(D.shape)
            E /= np.linalg.norm(E)
            ends = []
            for step in (1e-5, -1e-5):
                if name == "K":
                    Z = LowRank(U @ S + step * E, np.eye(S.shape[0]), V)
                elif name == "L":
                    Z = LowRank(U, np.eye(S.shape[0]), V @ S.T + step * E)
                else:
                    Z = LowRank(U, S + step * E, V)
                ends.append(loss(net.with_weights({i: Z}).predict(x), y))
            assert abs((ends[0] - ends[1]) / 2e-5 - np.sum(D * E)) <= 1e-7 * np.linalg.norm(D), (i, name)


@pytest.mark.parametrize("first", [(), (nn.Flatten(),), (nn.Tanh(), nn.Flatten())])
def test_layers_before_the_first_weight_change_nothing_but_the_input(first):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((6, 2, 3, 2)) if first else rng.standard_normal((6, 12))
    kept = images.copy()
    core = (nn.LowRankLinear(12, 8, 3, dtype="float64", rng=1), nn.ReLU(), nn.ReLU(), nn.Flatten(),
            nn.Linear(8, 3, dtype="float64", rng=2), nn.ReLU())  # fmt: skip
    net, y = nn.Sequential(*first, *core), rng.integers(3, size=6)
    flat = (np.tanh(images) if len(first) == 2 else images).reshape(6, 12)
    value, gradient = net.loss_and_gradient(images, y, CE)
    expected, theirs = nn.Sequential(core).loss_and_gradient(flat, y, CE)
    assert np.array_equal(images, kept), "the caller's array was overwritten"
    net.predict(images), net.score(images, y)
    assert np.array_equal(images, kept), "predict overwrote the caller's array"
    assert value == pytest.approx(expected, rel=1e-14)
    assert distance([*map(dense, gradient.weights)], [*map(dense, theirs.weights)]) < 1e-13


@pytest.mark.parametrize(
    "first", [(nn.ReLU(),), (nn.Flatten(), nn.ReLU()), (nn.Flatten(), nn.Flatten(), nn.ReLU())]
)
def test_first_layer_relu_leaves_the_input_alone(first):
    x = -np.ones((3, 5))
    net = nn.Sequential(*first, nn.Linear(5, 2, dtype="float64", rng=0))
    net.predict(x), net.loss_and_gradient(x, np.zeros(3, dtype=int), CE)
    assert (x == -1).all()


def test_losses_at_extreme_outputs():
    z = np.array([[1e4, 0.0, -1e4], [-745.0, 800.0, 0.0]])
    value, derivative = CE.with_derivative(z, np.array([2, 1]))
    assert value == pytest.approx((2e4 + 0.0) / 2) and np.isfinite(derivative).all()
    assert derivative[0] == pytest.approx([0.5, 0.0, -0.5])
    assert np.isfinite(nn.Sigmoid().forward(np.array([-1e6, 1e6]), (), False)[0]).all()
    assert MSE(np.array([[1.0], [3.0]]), np.array([0.0, 0.0])) == 5.0  # a vector for one output


@pytest.mark.parametrize("fresh", [True, False])
def test_gradient_remembers_products_only_with_its_own_bases(fresh):
    """The products with the bases of the weight are at hand; other bases, equal in part or in shape, must not get
    them, in whatever order they come."""
    net, x, y = problem("low", "tanh")
    rng = np.random.default_rng(1)
    G = net.loss_and_gradient(x, y, CE)[1].weights
    for i, W in enumerate(net.weights):
        U, _, V = W.factors
        pairs = [
            (U, V),
            (U.copy(), V.copy()),
            (rng.standard_normal(U.shape), rng.standard_normal(V.shape)),
            (np.hstack([U, U[:, :1]]), np.hstack([V, rng.standard_normal((V.shape[0], 2))])),
            (np.hstack([U[:, ::-1], U]), np.hstack([V[:, ::-1], V])),
            (U[:, :1], V[:, ::-1]),
            (U, V),
        ]
        for P, Q in pairs:
            g = net.loss_and_gradient(x, y, CE)[1].weights[i] if fresh else G[i]
            full = dense(g)
            value = Value(g, g.dtype)
            assert (
                distance([value @ Q, value.H @ P, P.T @ (value @ Q)], [full @ Q, full.T @ P, P.T @ full @ Q])
                < 1e-13
            )
            for other, matrix in ((2.0 * g, 2 * full), (-g, -full), (g - 0.5 * W, full - 0.5 * dense(W))):
                other = Value(other, g.dtype)
                assert distance([other @ Q, other.H @ P], [matrix @ Q, matrix.T @ P]) < 1e-12


# ---- nothing of size out x in


@pytest.mark.parametrize("optimizer", [nn.Adam(1e-3), nn.SGD(1e-3)])
@pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")
def test_training_step_of_an_enormous_layer(optimizer):
    m, n, r, batch = 300_000, 200_000, 5, 4
    net = nn.Sequential(
        nn.LowRankLinear(n, m, r, rng=0), nn.Tanh(), nn.LowRankLinear(m, 4, 2, dtype="float32", rng=1)
    )
    x = np.random.default_rng(2).standard_normal((batch, n)).astype("float32")
    y = np.array([0, 1, 2, 3])
    tracemalloc.start()
    try:
        nn.train(
            net, x, y, loss=CE, optimizer=optimizer, method=AugmentedBUG(rtol=0.01), epochs=1, batch_size=4
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    numbers = 12 * (m + n) * r + 6 * batch * (m + n)
    assert peak < 4 * numbers
    assert net.weights[0].shape == (m, n) and net.ranks[0] <= 2 * r


# ---- array libraries


def several_layers(dtype):
    """Every kind of layer without a kernel; the data are 8 x 3 x 2."""
    return nn.Sequential(
        nn.Flatten(), nn.LowRankLinear(6, 5, 2, dtype=dtype, rng=0), nn.ReLU(),
        nn.LowRankLinear(5, 5, 2, dtype=dtype, rng=1), nn.Tanh(), nn.Linear(5, 4, dtype=dtype, rng=2), nn.Sigmoid(),
        nn.LowRankLinear(4, 3, 2, False, dtype=dtype, rng=3),
    )  # fmt: skip


def images(dtype):
    rng = np.random.default_rng(4)
    return rng.standard_normal((8, 3, 2)).astype(dtype), rng.integers(3, size=8)


def check_training(library, dtype, tolerance, method):
    ours, (x, y) = several_layers(dtype), images(dtype)
    tx, ty = library.asarray(x), library.asarray(y)
    theirs = ours.to(tx)
    for net, a, b in ((ours, x, y), (theirs, tx, ty)):
        nn.train(net, a, b, loss=CE, optimizer=nn.Momentum(0.1, lam=1.0), method=method, epochs=1, batch_size=4,
                 rng=7)  # fmt: skip
    assert owned(library, theirs) and theirs.ranks == ours.ranks
    assert distance([on_host(library, a) for a in theirs.members], members(ours)) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_gradient_and_training_equal_numpy_in_every_library(library, dtype, tolerance):
    ours, (x, y) = several_layers(dtype), images(dtype)
    tx, ty = library.asarray(x), library.asarray(y)
    theirs = ours.to(tx)
    assert owned(library, theirs)
    assert np.array_equal(on_host(library, theirs.weights[0].U), ours.weights[0].U)
    value, gradient = ours.loss_and_gradient(x, y, CE)
    value2, gradient2 = theirs.loss_and_gradient(tx, ty, CE)
    assert value2 == pytest.approx(value, rel=tolerance)
    for a, b in zip(
        (*gradient2.weights, *gradient2.biases), (*gradient.weights, *gradient.biases), strict=True
    ):
        assert distance([on_host(library, a)], [dense(b)]) < tolerance
    if library.name != "jax" or dtype == "float64":  # JAX compiles every operation once a shape and dtype
        check_training(library, dtype, 10 * tolerance, dlra.BUG())


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-4)])
def test_adaptive_training_equals_numpy(eager_library, dtype, tolerance):
    check_training(eager_library, dtype, tolerance, AugmentedBUG(rtol=1e-3))


@pytest.mark.parametrize("loss", [CE, MSE])
def test_predict_and_evaluate_equal_numpy(eager_library, loss):
    ours, (x, y) = several_layers("float64"), images("float64")
    y = y if loss is CE else x[:, :, 0].copy()
    tx, ty = eager_library.asarray(x), eager_library.asarray(y)
    theirs = ours.to(tx)
    assert distance([on_host(eager_library, theirs.predict(tx))], [ours.predict(x)]) < 1e-12
    assert theirs.score(tx, ty) == pytest.approx(ours.score(x, y), rel=1e-12)
    assert nn.evaluate(theirs, tx, ty, loss) == pytest.approx(nn.evaluate(ours, x, y, loss), rel=1e-12)


@pytest.mark.parametrize(
    "optimizer", [nn.SGD(0.1, weight_decay=0.1), nn.Adam(0.01, weight_decay=0.1, decoupled=True)]
)
@pytest.mark.parametrize("method", [dlra.ParallelBUG(rtol=0.05, c=0.1), dlra.Galerkin()])
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_other_optimizers_equal_numpy(eager_library, optimizer, method):
    rng = np.random.default_rng(4)
    ours = nn.Sequential(
        nn.LowRankLinear(6, 5, 2, dtype="float64", rng=0), nn.Tanh(), nn.Linear(5, 2, dtype="float64", rng=2)
    )
    x, y = rng.standard_normal((8, 6)), rng.standard_normal((8, 2))
    theirs = ours.to(eager_library.asarray(x))
    pair = eager_library.asarray(x), eager_library.asarray(y)
    for net, a, b in ((ours, x, y), (theirs, *pair)):
        nn.train(net, a, b, loss=MSE, optimizer=optimizer, method=method, epochs=1, batch_size=4, rng=7)
    assert owned(eager_library, theirs)
    assert distance([on_host(eager_library, a) for a in theirs.members], members(ours)) < 1e-9


def on_host(library, a):
    a = a.to_dense() if isinstance(a, LowRank) else a
    return np.asarray(library.to_numpy(a))


def owned(library, net):
    arrays = [f for Y in net.members for f in (Y.factors if isinstance(Y, LowRank) else (Y,))]
    return all(library.owns(a) for a in arrays)


@pytest.mark.skipif(
    importlib.util.find_spec("array_api_strict") is None, reason="array-api-strict is not installed"
)
def test_arrays_of_another_library_are_refused():
    strict = get_library("strict")
    net, x, y = problem()
    with pytest.raises(TypeError, match=r"x must be an array of numpy.*net\.to\(x\)"):
        net.predict(strict.asarray(x))
    with pytest.raises(TypeError, match="y must be an array of numpy"):
        net.loss_and_gradient(x, strict.asarray(y), CE)
    with pytest.raises(TypeError, match="one dtype and one array library"):
        nn.Sequential(nn.Linear(3, 3, rng=0), *net.to(strict.asarray(x)).layers)


# ---- counts


@pytest.mark.parametrize("table", [5, 6, 7])
def test_parameter_counts_of_the_paper(table):
    for tau, (_, _, ranks, evaluation, training) in PAPER[table].items():
        if table == 7:  # the smallest layer has full rank, but counts as low-rank
            net = nn.lenet5(rank=ranks, rng=0)
        else:
            net = nn.mlp(sizes(table), rank=[*ranks[:-1], None], rng=0)
        assert net.ranks == tuple(ranks)
        assert net.parameter_count() == evaluation, tau
        assert net.parameter_count("stored" if table == 7 else "training") == training, tau


def test_parameter_count_of_dense_networks():
    net = nn.mlp((7, 5, 3), rng=0)
    assert net.parameter_count() == net.parameter_count("training") == net.parameter_count("stored") == 50
    assert net.parameter_count(biases=True) == 58 and net.compression() == 0.0
    low = nn.mlp((7, 5, 3), rank=2, rng=0)
    assert low.ranks == (2, 3) and low.parameter_count() == 2 * 12 + 15
    assert low.compression() == pytest.approx(1 - 39 / 50)
    with pytest.raises(ValueError, match="phase must be"):
        net.parameter_count("train")


def test_flops_of_dense_layers_by_hand():
    net = nn.mlp((784, 500, 10), rng=0)
    assert net.flops() == 2 * 784 * 500 + 2 * 500 * 10 == 794_000
    assert net.flops((784,)) == net.flops([784]) == 794_000
    assert [layer.flops((n,)) for layer, n in zip(net.layers, (784, 500, 500), strict=True)] == [
        784_000,
        0,
        10_000,
    ]
    assert nn.Sequential(nn.Flatten(), *net.layers).flops() == 794_000
    assert nn.Sequential(nn.Flatten(), *net.layers).flops((1, 28, 28)) == 794_000


def test_flops_of_lenet5_by_hand():
    # 20 x 25 at 24 x 24 pixels, 50 x 500 at 8 x 8, 500 x 800 and 10 x 500; 2 for a multiply-add
    dense = nn.lenet5(rng=0)
    assert dense.flops((1, 28, 28)) == 576_000 + 3_200_000 + 800_000 + 10_000
    low = nn.lenet5(rank=(5, 10, 20, None), rng=0)
    # 5 (20 + 25) at 576 pixels, 10 (50 + 500) at 64, 20 (500 + 800)
    assert low.flops((1, 28, 28)) == 259_200 + 704_000 + 52_000 + 10_000
    assert low.parameter_count() == 225 + 5500 + 26_000 + 5000
    assert low.parameter_count("dense") == dense.parameter_count() == 430_500


def test_flops_of_a_low_rank_layer_are_what_loops_count():
    class Counted:
        """Numbers of which additions and multiplications are counted."""

        operations = 0

        def __init__(self, value):
            self.value = value

        def __add__(self, other):
            Counted.operations += 1
            return Counted(self.value + other.value)

        def __mul__(self, other):
            Counted.operations += 1
            return Counted(self.value * other.value)

    layer = nn.LowRankLinear(7, 5, rank=2, dtype="float64", rng=0)
    Y = layer.weight
    x = np.random.default_rng(1).standard_normal(7)
    z = x
    for A in (Y.V.T, Y.U @ Y.S):
        numbers = [Counted(v) for v in z]
        sums = []
        for row in A:
            total = Counted(0.0)
            for a, b in zip(row, numbers, strict=True):
                total = total + Counted(a) * b
            sums.append(total)
        z = [s.value for s in sums]
    assert Counted.operations == layer.flops((7,)) == 2 * 2 * 12
    assert z == pytest.approx(layer.weight.to_dense() @ x, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.lenet5(rng=0).flops(),
            ValueError,
            r"shape is missing: Conv2d\(1, 20, 5\).*\(1, 28, 28\)",
        ),
        (lambda: nn.lenet5(rng=0).flops((3, 28, 28)), ValueError, "takes inputs of shape"),
        (lambda: nn.mlp((7, 3), rng=0).flops((8,)), ValueError, r"takes inputs of shape \(batch, 7\)"),
        (lambda: nn.mlp((7, 3), rng=0).flops(7), TypeError, "shape must be a tuple such as"),
        (lambda: nn.mlp((7, 3), rng=0).flops((7.0,)), TypeError, r"shape\[0\] must be an int"),
        (lambda: nn.lenet5(rng=0).flops((1, 0, 28)), ValueError, r"shape\[1\] must be at least 1"),
        (lambda: nn.MaxPool2d(2).flops((3,)), ValueError, "takes inputs of shape"),
    ],
)
def test_flops_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- copies


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_split_is_two_layers_that_do_the_same(library, dtype, rng):
    net = network((9, 8, 6, 4), (3, None, 2), dtype=dtype).to(library.asarray(np.zeros(1)))
    before = bits(net.to(np.zeros(1)))
    two = net.split()
    assert [type(layer).__name__ for layer in two.layers] == [
        "Linear", "Linear", "Tanh", "Linear", "Tanh", "Linear", "Linear",
    ]  # fmt: skip
    assert [tuple(W.shape) for W in two.weights] == [(3, 9), (8, 3), (6, 8), (2, 6), (4, 2)]
    assert len(two.biases) == 3, "the bias is that of the second layer"
    assert two.parameter_count(biases=True) == net.parameter_count(biases=True) and two.flops() == net.flops()
    x = rng.standard_normal((5, 9)).astype(dtype)
    y, z = (library.to_numpy(n.predict(library.asarray(x))) for n in (net, two))
    assert distance([y], [z]) < 20 * np.finfo(dtype).eps
    right, left = (library.to_numpy(W) for W in two.weights[:2])
    assert right @ right.T == pytest.approx(left.T @ left, abs=1e-5), "both factors have the same share"
    assert bits(net.to(np.zeros(1))) == before


def test_split_keeps_ranks_that_are_not_full():
    """A zero singular value is a column of the factors all the same."""
    Y = LowRank(np.eye(6)[:, :3], np.diag([2.0, 1.0, 0.0]), np.eye(5)[:, :3])
    net = nn.Sequential(nn.LowRankLinear(5, 6, rank=3, dtype="float64", rng=0)).with_weights({0: Y})
    assert [W.shape for W in net.split().weights] == [(3, 5), (6, 3)]


def test_with_weights_keeps_arrays_exactly():
    net = problem("low")[0]
    rng = np.random.default_rng(0)
    W, Z = rng.standard_normal((11, 13)), random_lowrank(rng, 7, 11, 5)
    other = net.with_weights({0: W, 1: Z, -1: net.weights[-1]})
    assert other.weights[0] is W and other.weights[1] is Z and other.ranks == (11, 5, 4)
    assert type(other.layers[0]) is nn.Linear and type(other.layers[2]) is nn.LowRankLinear
    assert net.ranks == (3, 2, 4), "the network itself was changed"
    assert other.biases[0] is net.biases[0]
    with pytest.raises(IndexError, match="no weight 3"):
        net.with_weights({3: W})
    with pytest.raises(ValueError, match=r"weight 0 must have shape \(11, 13\), got \(13, 11\)"):
        net.with_weights({0: W.T})
    with pytest.raises(TypeError, match="weight 0 must be a LowRank or an array"):
        net.with_weights({0: W.tolist()})
    with pytest.raises(TypeError, match="dtype"):
        net.with_weights({0: W.astype("float32")})


def test_to_dense_and_astype():
    net, x, _ = problem("low")
    flat = net.to_dense()
    assert all(isinstance(W, np.ndarray) for W in flat.weights)
    assert distance([flat.predict(x)], [net.predict(x)]) < 1e-13
    single = net.astype("float32")
    assert single.dtype == "float32" and single.ranks == net.ranks
    assert distance([single.predict(x.astype("float32"))], [net.predict(x)]) < 1e-5
    with pytest.raises(TypeError, match="float32 or float64"):
        net.astype("float16")
    with pytest.raises(TypeError, match=r"dtype of the network, float32.*astype"):
        single.predict(x)


def test_to_lowrank():
    rng = np.random.default_rng(0)
    net = problem("dense")[0]
    values = [np.linalg.svd(W, compute_uv=False) for W in net.weights]
    cut = nn.to_lowrank(net, rank=3)
    assert cut.ranks == (3, 3, 3)
    for W, Y, s in zip(net.weights, cut.weights, values, strict=True):
        assert np.linalg.norm(W - Y.to_dense()) == pytest.approx(np.linalg.norm(s[3:]), rel=1e-10)
    assert net.ranks == (11, 7, 4) and isinstance(net.weights[0], np.ndarray)
    mixed = nn.to_lowrank(net, rank=[5, None, 2])
    assert mixed.ranks == (5, 7, 2) and mixed.weights[1] is net.weights[1]
    assert nn.to_lowrank(net, rank=[5, None, 4], rtol=0.5).ranks[1] == 7, "None leaves a weight as it is"
    for rtol in (0.1, 0.4):
        ranks = tuple(
            int(min(r for r in range(1, len(s) + 1) if np.linalg.norm(s[r:]) <= rtol * np.linalg.norm(s)))
            for s in values
        )
        assert nn.to_lowrank(net, rtol=rtol).ranks == ranks
    for budget in (80, 100, 171):
        small = nn.to_lowrank(net, parameters=budget)
        spent = sum(r * sum(W.shape) for r, W in zip(small.ranks, net.weights, strict=True))
        assert spent <= budget and spent > budget - 24
        kept = min(s[r - 1] for s, r in zip(values, small.ranks, strict=True) if r > 1)
        fits = [
            s[r]
            for s, r, W in zip(values, small.ranks, net.weights, strict=True)
            if r < len(s) and spent + sum(W.shape) <= budget
        ]
        assert all(v <= kept for v in fits)
    low = net.with_weights({0: random_lowrank(rng, 11, 13, 6)})
    assert nn.to_lowrank(low, rank=4).ranks == (4, 4, 4)
    assert nn.to_lowrank(low, rank=20).weights[0] is low.weights[0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "give rank, rtol or parameters"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": [1, 2]}, "one for each of 3 weights, got 2"),
        ({"rank": [12, 2, 2]}, r"rank\[0\] must not exceed min\(out, in\) = 11"),
        ({"rtol": 1.0}, "rtol must be below 1"),
        ({"rtol": -0.1}, "rtol must be finite and >= 0"),
        ({"rank": 3, "parameters": 100}, "parameters does not go with"),
        ({"parameters": 10}, "not enough: rank 1 in each low-rank layer takes 53"),
    ],
)
def test_to_lowrank_refuses(options, error):
    with pytest.raises(ValueError, match=error):
        nn.to_lowrank(problem("dense")[0], **options)


def test_score_of_labels_and_numbers(rng):
    net, x, y = problem(rows=50)
    z = net.predict(x)
    assert net.score(x, y) == np.mean(z.argmax(axis=1) == y)
    assert net.score(x, z.argmax(axis=1)) == 1.0
    t = z + 0.3 * rng.standard_normal(z.shape)
    expected = np.mean(1 - ((z - t) ** 2).sum(axis=0) / ((t - t.mean(axis=0)) ** 2).sum(axis=0))
    assert net.score(x, t) == pytest.approx(expected, rel=1e-12)
    assert net.score(x, z) == 1.0
    with pytest.raises(ValueError, match="one target for each of 50 rows"):
        net.score(x, y[:-1])


@pytest.mark.parametrize("spoil", [lambda y: y[:, None], lambda y: y[0], lambda y: np.zeros((50, 3))])
def test_score_of_targets_that_do_not_fit(spoil):
    net, x, y = problem(rows=50)
    with pytest.raises(ValueError, match="y must"):
        net.score(x, spoil(y))


@pytest.mark.parametrize(("m", "n"), [(6, 11), (11, 6)])
def test_large_batches_are_not_multiplied_by_the_core(m, n, monkeypatch, rng):
    """Every row costs 2r (m + n), and 2r² more only where there are no more rows than the core is worth."""
    net = network((n, m), (4,))
    x = rng.standard_normal((7, n))
    expected = [x[:5] @ dense(net.weights[0]).T + net.biases[0], x @ dense(net.weights[0]).T + net.biases[0]]
    seen, forward = [], nn.LowRankLinear.forward
    monkeypatch.setattr(
        nn.LowRankLinear, "forward", lambda self, *a: seen.append(a[1][0]) or forward(self, *a)
    )
    assert distance([net.predict(x[:5]), net.predict(x)], expected) < 1e-14
    assert nn.evaluate(net, x, expected[1], nn.MSELoss())[0] < 1e-28
    few, many, evaluated = (W._S for W in seen)
    assert few is not None and many is None and evaluated is None


def test_predict_in_pieces_equals_one_piece(monkeypatch, rng):
    net = problem("mixed", "relu")[0]
    x, y = labelled(rng, 53, 13, 4)
    whole, loss, score = net.predict(x), nn.evaluate(net, x, y, CE), net.score(x, y)
    monkeypatch.setattr("dlra.nn.network._ROWS", 10)
    assert distance([net.predict(x)], [whole]) < 1e-14
    assert nn.evaluate(net, x, y, CE) == pytest.approx(loss, rel=1e-13) and net.score(x, y) == score
    assert loss == pytest.approx((CE(whole, y), score), rel=1e-13)


def test_starts():
    """The truncated start has the singular values of the best approximation of a dense start."""
    dense_start = nn.Linear(400, 300, rng=0, dtype="float64").weight
    s = np.linalg.svd(dense_start, compute_uv=False)
    low = nn.LowRankLinear(400, 300, 40, rng=1, dtype="float64").weight
    assert np.linalg.svd(low.S, compute_uv=False) == pytest.approx(s[:40], rel=0.03)
    norms = {
        start: nn.LowRankLinear(400, 300, 40, start=start, rng=1).weight.norm()
        for start in ("half-scale", "same-variance")
    }
    assert norms["same-variance"] == pytest.approx(np.linalg.norm(dense_start), rel=0.01)
    assert norms["half-scale"] == pytest.approx(norms["same-variance"] / 2, rel=1e-5)
    assert np.std(nn.Linear(400, 300, init="xavier", rng=0).weight) == pytest.approx(
        (2 / 700) ** 0.5, rel=0.02
    )
    assert np.std(nn.Linear(400, 300, init="lecun", rng=0).weight) == pytest.approx(400**-0.5, rel=0.02)
    assert np.std(dense_start) == pytest.approx(200**-0.5, rel=0.02)


def test_same_seed_same_bits():
    a, b = (nn.mlp((9, 8, 7), rank=3, rng=4) for _ in range(2))
    assert all(np.array_equal(p, q) for p, q in zip(members(a), members(b), strict=True))
    shared = np.random.default_rng(4)
    c, d = nn.Linear(9, 8, rng=shared), nn.Linear(9, 8, rng=shared)
    assert not np.array_equal(c.weight, d.weight)


# ---- bad input


@pytest.mark.parametrize(
    ("make", "kind", "error"),
    [
        (lambda: nn.Linear(0, 3), ValueError, "in_features must be at least 1, got 0"),
        (lambda: nn.Linear(3, 2.5), TypeError, "out_features"),
        (lambda: nn.LowRankLinear(3, 5, 4), ValueError, r"rank must not exceed min\(out, in\) = 3"),
        (lambda: nn.LowRankLinear(3, 5, 0), ValueError, "rank must be at least 1"),
        (lambda: nn.Linear(3, 5, dtype="int32"), TypeError, "float32 or float64, got 'int32'"),
        (lambda: nn.Linear(3, 5, init="kaiming"), ValueError, "init must be one of he, xavier, lecun"),
        (lambda: nn.LowRankLinear(3, 5, 2, start="cold"), ValueError, "start must be one of truncated"),
        (lambda: nn.Linear(3, 5, rng="seed"), TypeError, "rng must be a numpy.random.Generator"),
        (lambda: nn.Sequential(), ValueError, "at least one layer with a weight"),
        (lambda: nn.Sequential(nn.ReLU()), ValueError, "at least one layer with a weight"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU), TypeError, "layer 1.*an instance is wanted, not the class"),
        (lambda: nn.Sequential(nn.Linear(3, 4), np.tanh), TypeError, "layer 1 of Sequential must be a layer"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(5, 2)), ValueError, r"of shape \(batch, 5\)"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, dtype="float64")), TypeError, "one dtype"),
        (lambda: nn.mlp((3,)), ValueError, "at least inputs and outputs"),
        (lambda: nn.mlp((3, 4, 2), rank=[1]), ValueError, "one for each of 2 layers, got 1"),
        (lambda: nn.mlp((3, 4, 2), activation="gelu"), ValueError, "activation must be one of relu"),
    ],
)  # fmt: skip
def test_bad_networks(make, kind, error):
    with pytest.raises(kind, match=error):
        make()


@pytest.mark.parametrize(
    ("spoil", "loss", "kind", "error"),
    [
        (lambda x, y: (x[:, :-1], y), CE, ValueError, r"takes inputs of shape \(batch, 13\), got \(batch, 12\)"),
        (lambda x, y: (x[0], y), CE, ValueError, "x must be a batch"),
        (lambda x, y: (x.tolist(), y), CE, TypeError, "x must be an array, got list"),
        (lambda x, y: (x.astype("float32"), y), CE, TypeError, "x must have the dtype of the network, float64"),
        (lambda x, y: (x[:0], y[:0]), CE, ValueError, "x is empty"),
        (lambda x, y: (x, y[:-1]), CE, ValueError, "same number of rows, got 9 and 8"),
        (lambda x, y: (x, y + 1), CE, ValueError, r"labels must lie in 0 \.\.\. 3"),
        (lambda x, y: (x, y - 4), CE, ValueError, r"labels must lie in 0 \.\.\. 3"),
        (lambda x, y: (x, y.astype(float)), CE, TypeError, "integers 0 ... 3.*astype"),
        (lambda x, y: (x, y[:, None]), CE, ValueError, "vector of labels"),
        (lambda x, y: (x, x[:, :3]), MSE, ValueError, r"\(batch, 4\), got \(9, 3\)"),
        (lambda x, y: (x, x[:, :4].astype("float32")), MSE, TypeError, "y must have the dtype of the network"),
        (lambda x, y: (x, y), nn.MSELoss, TypeError, "loss must be a loss"),
        (lambda x, y: (x, y), "mse", TypeError, "loss must be a loss"),
    ],
)  # fmt: skip
def test_bad_batches(spoil, loss, kind, error):
    net, x, _ = problem()
    x, y = spoil(x, np.array([0, 1, 2, 3, 0, 1, 2, 3, 3]))
    with pytest.raises(kind, match=error):
        net.loss_and_gradient(x, y, loss)


def test_images_without_flatten():
    with pytest.raises(ValueError, match="flatten images first"):
        nn.Sequential(nn.Linear(12, 2, rng=0)).predict(np.zeros((3, 1, 4, 3), dtype="float32"))


@pytest.mark.parametrize("rank", [True, 2.0, "3"])
def test_rank_that_is_no_int(rank):
    with pytest.raises(TypeError, match="rank"):
        check_rank(rank, 5, 5)


class Identity(Layer):
    """A layer of a user, which hands its input on."""

    def forward(self, x, parameters, reuse):
        return x, None

    def backward(self, delta, tape, parameters, wants_dx):
        return delta, ()

    def output_shape(self, shape):
        return shape


@pytest.mark.parametrize("before", [[], [nn.Flatten()], [nn.ReLU(), Identity()]])
def test_layers_do_not_overwrite_what_is_not_theirs(before):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 4))
    net = nn.Sequential(*before, Identity(), nn.ReLU(), nn.Linear(4, 3, dtype="float64", rng=0))
    kept = x.copy()
    net.predict(x)
    net.loss_and_gradient(x, rng.integers(3, size=5), nn.CrossEntropyLoss())
    assert np.array_equal(x, kept)
