"""Optimisers: against PyTorch, on full-rank factors, their memory when bases move, learning rates."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import random_orthonormal
from hypothesis import given
from hypothesis import strategies as st
from nn_helpers import dense, distance, labelled, members, network

import dlra
from dlra import AugmentedBUG, LowRank, nn
from dlra.nn.optimizers import Memory

CE = nn.CrossEntropyLoss()
SIZES = (13, 11, 7, 4)

# ---- against PyTorch, on dense networks


def torch_run(torch, net, x, y, batch, epochs, seed, make):
    """The same batches through torch.optim; weights decay, biases do not."""
    flat = [torch.tensor(a, requires_grad=True) for a in members(net)]
    weights, biases = flat[: len(net.weights)], flat[len(net.weights) :]
    optimizer = make(torch.optim, weights, biases)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for i in range(0, len(x), batch):
            rows = order[i : i + batch]
            z = torch.tensor(x[rows])
            for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
                z = torch.nn.functional.linear(z, W, b)
                z = torch.tanh(z) if k < len(weights) - 1 else z
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(z, torch.tensor(y[rows])).backward()
            optimizer.step()
    return [p.detach().numpy() for p in flat]


def groups(weights, biases, decay):
    return [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]


PAIRS = {
    "SGD": (nn.SGD(0.2), lambda o, w, b: o.SGD([*w, *b], lr=0.2)),
    "SGD, decay": (nn.SGD(0.2, weight_decay=0.1), lambda o, w, b: o.SGD(groups(w, b, 0.1), lr=0.2)),
    "heavy ball": (nn.Momentum(0.05), lambda o, w, b: o.SGD([*w, *b], lr=0.05, momentum=0.9)),
    "heavy ball, decay": (
        nn.Momentum(0.05, 0.8, weight_decay=0.1),
        lambda o, w, b: o.SGD(groups(w, b, 0.1), lr=0.05, momentum=0.8),
    ),
    "Nesterov": (
        nn.Momentum(0.05, lam=1.0),
        lambda o, w, b: o.SGD([*w, *b], lr=0.05, momentum=0.9, nesterov=True),
    ),
    "Adam": (nn.Adam(0.01), lambda o, w, b: o.Adam([*w, *b], lr=0.01)),
    "Adam, options": (
        nn.Adam(0.01, 0.8, 0.95, 1e-3),
        lambda o, w, b: o.Adam([*w, *b], lr=0.01, betas=(0.8, 0.95), eps=1e-3),
    ),
    "Adam, decay": (nn.Adam(0.01, weight_decay=0.1), lambda o, w, b: o.Adam(groups(w, b, 0.1), lr=0.01)),
    "AdamW": (
        nn.Adam(0.01, weight_decay=0.1, decoupled=True),
        lambda o, w, b: o.AdamW(groups(w, b, 0.1), lr=0.01),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", [AugmentedBUG(), dlra.BUG(), dlra.ParallelBUG(), dlra.Galerkin()])
def test_dense_networks_train_as_in_torch(name, method):
    torch = pytest.importorskip("torch")
    ours, theirs = PAIRS[name]
    net = network(SIZES, (None, None, None))
    x, y = labelled(np.random.default_rng(1), 35, 13, 4)
    expected = torch_run(torch, net, x, y, 9, 5, 3, theirs)
    history = nn.train(net, x, y, loss=CE, optimizer=ours, method=method, epochs=5, batch_size=9, rng=3)
    assert history.steps == 20
    assert distance(members(net), expected) < 1e-10


# ---- on factors


@pytest.mark.parametrize("lam", [0.0, 1.0, 0.4])
@pytest.mark.parametrize(
    "method", [AugmentedBUG(), dlra.ParallelBUG(), AugmentedBUG(max_rank=20), dlra.Galerkin()]
)
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_momentum_at_full_rank_equals_dense(lam, method, decay):
    """Bases of a square weight of full rank are complete; their rotation must not be seen."""
    low = network((8, 8, 8), (8, 8), seed=2, decay=0.8)
    flat = low.to_dense()
    x, y = labelled(np.random.default_rng(1), 30, 8, 8)
    for net in (low, flat):
        nn.train(net, x, y, loss=CE, optimizer=nn.Momentum(0.1, lam=lam, weight_decay=decay), method=method, epochs=6,
                 batch_size=10, rng=3)  # fmt: skip
    assert low.ranks == (8, 8)
    assert distance(members(low), members(flat)) < 1e-10


@pytest.mark.parametrize(
    "optimizer",
    [nn.SGD(0.1), nn.Momentum(0.05), nn.Adam(0.01), nn.Adam(0.01, weight_decay=0.1, decoupled=True)],
)
@pytest.mark.parametrize(
    "method",
    [AugmentedBUG(rtol=0.02), dlra.ParallelBUG(rtol=0.02), dlra.BUG(), dlra.Galerkin()],
    ids=lambda m: m.name,
)
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_the_loss_falls(method, optimizer):
    net = network((10, 12, 3), (4, 3), seed=1)
    x, y = separable()
    history = nn.train(net, x, y, loss=CE, optimizer=optimizer, method=method, epochs=8, batch_size=20, rng=0)
    assert history.loss[-1] < 0.75 * history.loss[0]


def separable():
    rng = np.random.default_rng(5)
    y = rng.integers(3, size=120)
    return 2 * rng.standard_normal((3, 10))[y] + rng.standard_normal((120, 10)), y


def test_weight_decay_alone_shrinks_lowrank_weights():
    """Without a gradient W ← (1 - h decay) W for the plain and the decoupled form; biases stay."""
    net = network((6, 5, 2), (3, 2), "relu")
    net = net.with_members([*net.weights, -10 + 0 * net.biases[0], net.biases[1]])  # ReLU passes nothing
    x, y = np.zeros((4, 6)), np.zeros((4, 2))
    still = net.with_members([*net.weights, net.biases[0], 0 * net.biases[1]])
    for optimizer in (nn.SGD(0.1, weight_decay=0.5), nn.Adam(0.1, weight_decay=0.5, decoupled=True)):
        a = still.copy()
        nn.train(
            a,
            x,
            y,
            loss=nn.MSELoss(),
            optimizer=optimizer,
            method=AugmentedBUG(),
            epochs=3,
            batch_size=4,
            rng=0,
        )
        assert distance([dense(W) for W in a.weights], [0.95**3 * dense(W) for W in still.weights]) < 1e-12
        assert distance(a.biases[:1], still.biases[:1]) == 0.0


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_momentum_in_K_L_and_S_of_BUG(lam):
    """Three steps written out: each of K, L and S has a memory, which moves with the basis in its columns."""
    h, mu = 0.2, 0.9
    net = network((9, 8, 5), (3, 2), seed=3)
    net = net.with_members([Y.orthonormalized() if isinstance(Y, LowRank) else Y for Y in net.members])
    x, y = labelled(np.random.default_rng(1), 12, 9, 5)

    def slopes(Ws, bs):
        gradient = net.with_members([*Ws, *bs]).loss_and_gradient(x, y, CE)[1]
        return [-dense(G) for G in gradient.weights], [-b for b in gradient.biases]

    def move(f, M):
        M = mu * M + h * f
        return lam * h * f + (1 - lam + lam * mu) * M, M

    Ws, bs = list(net.weights), list(net.biases)
    mK, mL, mS, mb = ([0.0] * 2 for _ in range(4))
    for _ in range(3):
        F, _ = slopes(Ws, bs)
        middle, old = [], Ws
        for i, (W, f) in enumerate(zip(Ws, F, strict=True)):
            U, S, V = W.factors
            dK, mK[i] = move(f @ V, mK[i])
            dL, mL[i] = move(f.T @ U, mL[i])
            U1, V1 = np.linalg.qr(U @ S + dK)[0], np.linalg.qr(V @ S.T + dL)[0]
            middle.append(LowRank(U1, U1.T @ U @ S @ V.T @ V1, V1))
        F, fb = slopes(middle, bs)
        Ws = []
        for i, (W, Z, f) in enumerate(zip(old, middle, F, strict=True)):
            U1, S, V1 = Z.factors
            P, Q = W.factors[0].T @ U1, W.factors[2].T @ V1
            dS, mS[i] = move(U1.T @ f @ V1, P.T @ mS[i] @ Q if np.ndim(mS[i]) else 0.0)
            mK[i], mL[i] = mK[i] @ Q, mL[i] @ P
            Ws.append(LowRank(U1, S + dS, V1))
            db, mb[i] = move(fb[i], mb[i])
            bs[i] = bs[i] + db
    nn.train(
        net, x, y, loss=CE, optimizer=nn.Momentum(h, mu, lam), method="bug", epochs=3, batch_size=12, rng=0
    )
    assert distance(members(net), [*map(dense, Ws), *bs]) < 1e-11


@pytest.mark.parametrize("name", ["Adam", "heavy ball"])
def test_galerkin_moves_cores_as_a_dense_network_in_these_coordinates(name):
    """In fixed bases the cores are trained entry by entry, as torch would train them."""
    torch = pytest.importorskip("torch")
    ours, theirs = PAIRS[name]
    net = network((9, 8, 5), (3, 2), seed=3)
    net = net.with_members([Y.orthonormalized() if isinstance(Y, LowRank) else Y for Y in net.members])
    x, y = labelled(np.random.default_rng(1), 12, 9, 5)
    cores = [torch.tensor(W.S, requires_grad=True) for W in net.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in net.biases]
    sides = [(torch.tensor(W.U), torch.tensor(W.V)) for W in net.weights]
    optimizer = theirs(torch.optim, cores, biases)
    for _ in range(10):
        z = torch.tensor(x)
        for i, (S, b, (U, V)) in enumerate(zip(cores, biases, sides, strict=True)):
            z = torch.nn.functional.linear(z, U @ S @ V.T, b)
            z = torch.tanh(z) if i == 0 else z
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(z, torch.tensor(y)).backward()
        optimizer.step()
    nn.train(net, x, y, loss=CE, optimizer=ours, method="galerkin", epochs=10, batch_size=12, rng=0)
    assert distance([W.S for W in net.weights], [S.detach().numpy() for S in cores]) < 1e-10
    assert distance(net.biases, [b.detach().numpy() for b in biases]) < 1e-10


# ---- the memory of an optimiser


sides = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


@given(sides, st.integers(0, 2**32 - 1))
def test_rotate_moves_moments_like_the_unknown_and_keeps_squares_positive(shape, seed):
    rng = np.random.default_rng(seed)
    m, n, p, q = shape
    X, v = rng.standard_normal((m, n)), rng.standard_normal((m, n)) ** 2
    P, Q = random_orthonormal(rng, m, min(m, p), "float64"), random_orthonormal(rng, n, min(n, q), "float64")
    (moment,), (square, constant) = Memory((X,), (v, np.full((m, n), 2.5))).rotate(P, Q)
    assert np.allclose(moment, P.T @ X @ Q, atol=1e-14)
    assert np.allclose(square, (P**2).T @ v @ Q**2, atol=1e-13) and (square >= 0).all()
    assert np.allclose(constant, 2.5, rtol=1e-13)
    (left,), (one,) = Memory((X,), (v,)).rotate(P, None)
    assert np.allclose(left, P.T @ X, atol=1e-14) and np.allclose(one, (P**2).T @ v, atol=1e-13)
    same = Memory((X,), (v,)).rotate(None, None)
    assert same.moments[0] is X and same.squares[0] is v


@given(sides, st.integers(0, 2**32 - 1))
def test_pad_then_rotate_back_is_the_identity(shape, seed):
    """Into bases of which the old ones are the leading columns, and back."""
    rng = np.random.default_rng(seed)
    m, n, p, q = shape
    X, v = rng.standard_normal((m, n)), rng.standard_normal((m, n)) ** 2
    padded = Memory((X,), (v,)).pad(m + p, n + q)
    assert padded.moments[0].shape == (m + p, n + q)
    assert np.array_equal(padded.moments[0][:m, :n], X) and np.count_nonzero(padded.moments[0]) == X.size
    back = padded.rotate(np.eye(m + p, m), np.eye(n + q, n))
    assert np.array_equal(back.moments[0], X) and np.array_equal(back.squares[0], v)


def test_cropping_instead_of_rotating_is_wrong():
    """After a truncation the leading block of the memory is another matrix than the memory itself."""
    rng = np.random.default_rng(0)
    S = (
        random_orthonormal(rng, 6, 6, "float64")
        * 2.0 ** -np.arange(6)
        @ random_orthonormal(rng, 6, 6, "float64").T
    )
    P, _, Qt = np.linalg.svd(S)
    P, Q, M = P[:, :3], Qt[:3].T, S + 0.01 * rng.standard_normal((6, 6))
    rotated = Memory((M,)).rotate(P, Q).moments[0]
    assert np.linalg.norm(P @ rotated @ Q.T - M) < 0.2 * np.linalg.norm(M)
    assert np.linalg.norm(P @ M[:3, :3] @ Q.T - M) > np.linalg.norm(M)


def test_new_directions_have_their_own_bias_correction():
    """An entry that starts at step k moves as an entry that starts at step 0 does."""
    adam, rng = nn.Adam(0.1), np.random.default_rng(0)
    slopes = rng.standard_normal((5, 4, 4))
    X = np.zeros((2, 2))
    memory = adam.empty(X, True)
    for slope in slopes[:3]:
        _, memory = adam.increment(0.1, slope[:2, :2], memory, X)
    memory = memory.pad(4, 4)
    assert (memory.squares[1][2:] == 0).all() and (memory.squares[1][:2, :2] > 0).all()
    fresh = adam.empty(np.zeros((4, 4)), True)
    for slope in slopes[3:]:
        increment, memory = adam.increment(0.1, slope, memory, np.zeros((4, 4)))
        alone, fresh = adam.increment(0.1, slope, fresh, np.zeros((4, 4)))
        assert np.array_equal(increment[2:], alone[2:]) and np.array_equal(increment[:, 2:], alone[:, 2:])
        assert not np.allclose(increment[:2, :2], alone[:2, :2])
    m = sum(0.9 ** (4 - k) * 0.1 * s for k, s in enumerate(slopes)) / (1 - 0.9**5)
    v = sum(0.999 ** (4 - k) * 0.001 * s**2 for k, s in enumerate(slopes)) / (1 - 0.999**5)
    expected = 0.1 * m / (np.sqrt(v) + 1e-8)
    assert np.allclose(increment[:2, :2], expected[:2, :2], rtol=1e-12)


@pytest.mark.parametrize(
    "method", [AugmentedBUG(rtol=0.05), dlra.ParallelBUG(rtol=0.05), dlra.BUG()], ids=lambda m: m.name
)
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_squares_stay_positive_in_training(method, monkeypatch):
    seen, increment = [], nn.Adam.increment

    def watched(self, h, slope, memory, X):
        seen.append(min(float(a.min()) for a in memory.squares))
        assert all(m.shape == slope.shape for m in memory.moments)
        return increment(self, h, slope, memory, X)

    monkeypatch.setattr(nn.Adam, "increment", watched)
    x, y = separable()
    nn.train(network((10, 12, 3), (4, 3)), x, y, loss=CE, optimizer=nn.Adam(0.02), method=method, epochs=4,
             batch_size=20, rng=0)  # fmt: skip
    assert len(seen) >= 24 * 4 and min(seen) >= 0.0 and max(seen) > 0.0


# ---- learning rates


def test_schedules_count_iterations_from_zero():
    asked = []

    def lr(t):
        asked.append(t)
        return 0.1 / (1 + t)

    net = network((6, 5, 3), (2, None))
    x, y = labelled(np.random.default_rng(1), 10, 6, 3)
    history = nn.train(
        net, x, y, loss=CE, optimizer=nn.SGD(lr), epochs=2, batch_size=4, method="augmented-bug", rng=0
    )
    assert sorted(set(asked)) == list(range(6)) and history.learning_rate == [0.1 / 3, 0.1 / 6]


def test_constant_schedule_equals_number():
    x, y = labelled(np.random.default_rng(1), 10, 6, 3)
    nets = [network((6, 5, 3), (2, None)) for _ in range(2)]
    for net, lr in zip(nets, (0.05, lambda t: np.float64(0.05)), strict=True):
        nn.train(
            net,
            x,
            y,
            loss=CE,
            optimizer=nn.Momentum(lr),
            method="augmented-bug",
            epochs=2,
            batch_size=4,
            rng=0,
        )
    assert distance(*map(members, nets)) == 0.0


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 3])
def test_schedule_that_gives_no_positive_number(bad, at):
    net = network((6, 5, 3), (2, None))
    x, y = labelled(np.random.default_rng(1), 12, 6, 3)
    optimizer = nn.SGD(lambda t: bad if t == at else 0.1)
    with pytest.raises(
        ValueError if at == 0 else dlra.TrainingError,
        match=rf"schedule lr must return positive, finite numbers, got {bad} at iteration {at}",
    ):
        nn.train(net, x, y, loss=CE, optimizer=optimizer, method="bug", epochs=2, batch_size=4, rng=0)
    assert all(np.isfinite(a).all() for a in members(net))


def test_schedule_that_gives_no_number():
    with pytest.raises(TypeError, match="must return a number, got 'fast' at iteration 7"):
        nn.SGD(lambda t: "fast").rate(7)


@pytest.mark.parametrize(
    ("make", "kind", "error"),
    [
        (lambda: nn.SGD(0.0), ValueError, "lr = 0.0 is out of range"),
        (lambda: nn.SGD(-1), ValueError, "lr = -1.0 is out of range"),
        (lambda: nn.Adam(float("nan")), ValueError, "lr = nan"),
        (lambda: nn.Adam("fast"), TypeError, "lr must be a number"),
        (lambda: nn.SGD(0.1, weight_decay=-0.1), ValueError, "weight_decay = -0.1"),
        (lambda: nn.Momentum(0.1, mu=1.0), ValueError, r"mu = 1.0 is out of range: it must lie in \[0, 1\)"),
        (lambda: nn.Momentum(0.1, mu=0.5, lam=2.1), ValueError, "lam = 2.1"),
        (lambda: nn.Adam(beta1=1.0), ValueError, "beta1"),
        (lambda: nn.Adam(beta2=-0.1), ValueError, "beta2"),
        (lambda: nn.Adam(eps=0.0), ValueError, "eps"),
    ],
)
def test_bad_options(make, kind, error):
    with pytest.raises(kind, match=error):
        make()
