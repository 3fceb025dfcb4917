"""Training: one step as its paper writes it, rank adaptation, the loop over epochs, failures, bad input."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from nn_helpers import bits, blobs, dense, distance, flow, labelled, members, network

import dlra
from dlra import AugmentedBUG, DlraWarning, LowRank, TrainingError, nn

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def train(net, x, y, **options):
    """nn.train with what most tests do not care about."""
    defaults = {"loss": CE, "optimizer": nn.SGD(0.1), "method": AugmentedBUG(), "epochs": 1, "rng": 0}
    if y is not None:
        defaults["batch_size"] = len(x)
    return nn.train(net, x, y, **{**defaults, **options})


# ---- one step on all rows

SHAPES = {
    "rectangular": ((13, 11, 7, 4), (3, 2, 2)),
    "square": ((6, 6, 6, 6), (3, 2, 2)),
    "mixed": ((9, 8, 8, 5), (3, None, 2)),
}
H = 0.3


@pytest.fixture(params=[(s, loss) for s in SHAPES for loss in ("ce", "mse")], ids="-".join)
def start(request):
    """A network with dense cores, data, and a loss."""
    sizes, ranks = SHAPES[request.param[0]]
    net = network(sizes, ranks, "sigmoid", seed=4)
    net = net.with_members([Y.orthonormalized() if isinstance(Y, LowRank) else Y for Y in net.members])
    for W in net.weights:
        if isinstance(W, LowRank):
            assert np.linalg.norm(W.S - np.diag(np.diag(W.S))) > 0.05 * W.norm(), "the core must be dense"
    x, y = labelled(np.random.default_rng(6), 12, sizes[0], sizes[-1])
    if request.param[1] == "mse":
        y = np.random.default_rng(7).standard_normal((12, sizes[-1]))
    return net, x, y, CE if request.param[1] == "ce" else MSE


def orth(*blocks):
    U, s, _ = np.linalg.svd(np.hstack(blocks), full_matrices=False)
    return U[:, s > 1e-12 * s[0]]


def onto(Q):
    return Q @ Q.T


def stepped(start, method, h=H):
    """The flow at the start, all parameters before and after one step, and the history."""
    net, x, y, loss = start
    before, F = net.copy(), flow(net, x, y, loss)
    history = train(net, x, y, loss=loss, method=method, optimizer=nn.SGD(h))
    assert history.steps == 1 and history.net is net
    return F, before, net, history


@pytest.mark.parametrize("options", [{"max_rank": 100}, {"rtol": 1e-14}])
def test_augmented_step(start, options):
    """Y₁ = Y₀ + h P_Û f P_V̂ with Û = orth [U₀, f V₀], V̂ = orth [V₀, fᵀU₀]."""
    F, before, net, history = stepped(start, AugmentedBUG(**options))
    assert history.nfev == 1
    for Y0, f, Y1 in zip(before.members, F, members(net), strict=True):
        expected = dense(Y0) + H * f
        if isinstance(Y0, LowRank):
            U, _, V = Y0.factors
            expected = dense(Y0) + H * onto(orth(U, f @ V)) @ f @ onto(orth(V, f.T @ U))
        assert distance([Y1], [expected]) < 1e-12
        assert distance([dense(Y0)], [Y1]) > 1e-4, "the step is too small to be seen"


def test_parallel_step(start):
    """Y₁ = Y₀ + h P(Y₀) f with the tangent projection P(Y₀) f = U₀U₀ᵀf + f V₀V₀ᵀ - U₀U₀ᵀ f V₀V₀ᵀ."""
    F, before, net, history = stepped(start, dlra.ParallelBUG(max_rank=100, c=np.inf))
    assert history.nfev == 1
    for Y0, f, Y1 in zip(before.members, F, members(net), strict=True):
        expected = dense(Y0) + H * f
        if isinstance(Y0, LowRank):
            P, Q = onto(Y0.factors[0]), onto(Y0.factors[2])
            expected = dense(Y0) + H * (P @ f + f @ Q - P @ f @ Q)
        assert distance([Y1], [expected]) < 1e-12


def test_augmented_step_at_fixed_rank_is_the_best_approximation(start):
    F, before, net, _ = stepped(start, AugmentedBUG())
    assert net.ranks == before.ranks
    for Y0, f, Y1 in zip(before.weights, F, net.weights, strict=False):
        if isinstance(Y0, LowRank):
            U, _, V = Y0.factors
            full = dense(Y0) + H * onto(orth(U, f @ V)) @ f @ onto(orth(V, f.T @ U))
            P, s, Qt = np.linalg.svd(full)
            r = Y0.rank
            assert distance([dense(Y1)], [P[:, :r] * s[:r] @ Qt[:r]]) < 1e-11


def test_galerkin_step_keeps_the_bases_bit_for_bit(start):
    F, before, net, history = stepped(start, dlra.Galerkin())
    assert history.nfev == 1
    for Y0, f, Y1 in zip(before.members, F, net.members, strict=True):
        if isinstance(Y0, LowRank):
            U, S, V = Y0.factors
            assert np.array_equal(Y1.U, U) and np.array_equal(Y1.V, V)
            assert distance([Y1.S], [S + H * U.T @ f @ V]) < 1e-12
        else:
            assert distance([Y1], [Y0 + H * f]) < 1e-12


def test_bug_step(start):
    """K and L in Euler steps, then S from the projection of Y₀ with the gradient there."""
    net, x, y, loss = start
    F, before, net, history = stepped(start, dlra.BUG())
    assert history.nfev == 2
    bases, middle = [], []
    for Y0, f in zip(before.members, F, strict=True):
        if isinstance(Y0, LowRank):
            U, S, V = Y0.factors
            U1, V1 = np.linalg.qr(U @ S + H * f @ V)[0], np.linalg.qr(V @ S.T + H * f.T @ U)[0]
            bases.append((U1, V1))
            middle.append(LowRank(U1, U1.T @ U @ S @ V.T @ V1, V1))
        else:
            bases.append(None)
            middle.append(Y0)
    F1 = flow(before.with_members(middle), x, y, loss)
    for Z, f, B, Y1 in zip(middle, F1, bases, members(net), strict=True):
        expected = dense(Z) + H * (f if B is None else onto(B[0]) @ f @ onto(B[1]))
        assert distance([Y1], [expected]) < 1e-11


@pytest.mark.parametrize("order", [1, 2])
def test_projector_splitting_step_equals_dlra_step(start, order):
    net, x, y, loss = start
    F = nn.gradient_flow(net, x, y, loss)
    method = dlra.ProjectorSplitting(order=order, substep="euler")
    expected = dlra.step(F, 0.0, H, list(net.members), method)
    train(net, x, y, loss=loss, method=dlra.ProjectorSplitting(order=order), optimizer=nn.SGD(H))
    assert distance(members(net), [dense(Y) for Y in expected]) < 1e-12


@pytest.mark.parametrize(
    ("method", "options"),
    [(m, o) for m in (AugmentedBUG, dlra.ParallelBUG, dlra.MidpointBUG) for o in ({}, {"rtol": 0.02})]
    + [(dlra.BUG, {}), (dlra.Galerkin, {})],
)
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_training_equals_solve(start, method, options):
    """Five epochs of one batch are five steps of solve on the gradient flow."""
    net, x, y, loss = start
    F = nn.gradient_flow(net, x, y, loss)
    sol = dlra.solve(F, (0, 0.5), list(net.members), method(substep="euler", **options), dt=0.1)
    history = train(net, x, y, loss=loss, method=method(**options), epochs=5)
    assert history.steps == 5
    assert distance(members(net), [dense(Y) for Y in sol.y[-1]]) < 1e-11
    assert net.ranks == tuple(
        Y.rank if isinstance(Y, LowRank) else min(Y.shape) for Y in sol.y[-1] if Y.ndim == 2
    )


@pytest.mark.parametrize(
    "optimizer", [nn.SGD(0.05), nn.Momentum(0.05), nn.Adam(0.01)], ids=lambda o: type(o).__name__
)
@pytest.mark.parametrize(
    ("method", "evaluations"),
    [(AugmentedBUG(rtol=0.01), 1), (dlra.ParallelBUG(rtol=0.01), 1), (dlra.BUG(), 2), (dlra.Galerkin(), 1)],
    ids=lambda v: getattr(v, "name", v),
)
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_gradient_evaluations(method, evaluations, optimizer):
    x, y = blobs()
    history = train(
        network((10, 12, 3), (4, 3)), x, y, method=method, optimizer=optimizer, epochs=2, batch_size=40
    )
    assert (history.steps, history.nfev) == (6, 6 * evaluations)


@pytest.mark.parametrize("name", [i for i in dlra.integrators.__all__ if isinstance(getattr(dlra.integrators, i), type)
                                  and issubclass(getattr(dlra.integrators, i), dlra.integrators.Integrator)
                                  and hasattr(getattr(dlra.integrators, i), "name")])  # fmt: skip
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_gradient_descent_works_with_every_integrator(name):
    x, y = blobs()
    net = network((10, 12, 3), (4, None), decay=0.9)
    method = getattr(dlra.integrators, name)()
    history = train(net, x, y, method=method, optimizer=nn.SGD(0.1), epochs=6, batch_size=40)
    assert history.loss[-1] < 0.9 * history.loss[0]


# ---- ranks


def tail_rank(s, theta):
    return next(r for r in range(1, len(s) + 1) if np.linalg.norm(s[r:]) <= theta)


def one_step_unadapted(net, x, y, h):
    other = net.copy()
    train(other, x, y, method=AugmentedBUG(max_rank=100), optimizer=nn.SGD(h))
    return other


@pytest.fixture
def wide():
    """A network with slowly decaying cores, and data."""
    net = network((13, 11, 7, 4), (6, 5, 3), seed=4, decay=0.7)
    return net, *labelled(np.random.default_rng(6), 12, 13, 4)


@pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")
@pytest.mark.parametrize("rtol", [0.05, 0.3, (0.05, 0.3, 0.6)])
def test_rtol_is_a_share_of_each_weight(wide, rtol):
    net, x, y = wide
    full = one_step_unadapted(net, x, y, 0.2)
    train(net, x, y, method=AugmentedBUG(rtol=rtol), optimizer=nn.SGD(0.2))
    check_truncated(net, full, lambda i, s: np.broadcast_to(rtol, 3)[i] * np.linalg.norm(s))


@pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")
@pytest.mark.parametrize("atol", [0.05, 0.4, [0.4, 0.05, 0.6]])
def test_atol_is_absolute(wide, atol):
    net, x, y = wide
    full = one_step_unadapted(net, x, y, 0.2)
    train(net, x, y, method=AugmentedBUG(atol=atol), optimizer=nn.SGD(0.2))
    check_truncated(net, full, lambda i, s: np.broadcast_to(atol, 3)[i])


@pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")
@pytest.mark.parametrize(("c", "h"), [(1.0, 0.2), (10.0, 0.2), (10.0, 0.1)])
def test_tied_tolerance_is_c_h_squared(wide, c, h):
    net, x, y = wide
    full = one_step_unadapted(net, x, y, h)
    train(net, x, y, truncation=nn.TiedTolerance(c), optimizer=nn.SGD(h))
    check_truncated(net, full, lambda i, s: c * h * h)


def check_truncated(net, full, theta):
    """Each weight is the truncation of the one before truncation, to the tolerance."""
    for i, (Y, Z) in enumerate(zip(net.weights, full.weights, strict=True)):
        P, s, Qt = np.linalg.svd(dense(Z))
        r = tail_rank(s, theta(i, s[: Z.rank]))
        assert Y.rank == r, i
        assert distance([dense(Y)], [P[:, :r] * s[:r] @ Qt[:r]]) < 1e-10


@pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")
def test_tied_tolerance_follows_a_schedule(wide):
    net, x, y = wide
    history = train(
        net, x, y, truncation=nn.TiedTolerance(5.0), optimizer=nn.SGD(lambda t: 0.3 / (1 + t)), epochs=9
    )
    assert sum(history.ranks[0]) < sum(history.ranks[-1])


def test_min_and_max_rank(wide):
    net, x, y = wide
    history = train(net, x, y, method=AugmentedBUG(rtol=0.9, min_rank=(4, 1, 2), max_rank=(9, 9, None)), epochs=3,
                    optimizer=nn.SGD(0.01))  # fmt: skip
    assert history.ranks[-1] == (4, 1, 2)
    train(net, x, y, method=AugmentedBUG(rtol=1e-13, max_rank=[5, 6, None]), epochs=4)
    assert net.ranks == (5, 6, 4)


class Watch(nn.MSELoss):
    """Notes what the network looks like at each evaluation."""

    def __init__(self, see):
        self.see = see

    def with_derivative(self, z, y):
        self.see()
        return super().with_derivative(z, y)


@pytest.mark.parametrize("budget", [60, 97, 130, 200])
def test_parameter_budget_is_never_exceeded(budget):
    x, _ = blobs()
    y = np.random.default_rng(0).standard_normal((120, 3))
    net = network((10, 12, 11, 3), (6, 5, None), decay=0.9)
    seen = []

    def see():
        seen.append(sum(W.rank * sum(W.shape) for W in net.weights if isinstance(W, LowRank)))

    train(
        net,
        x,
        y,
        loss=Watch(see),
        truncation=nn.ParameterBudget(budget),
        optimizer=nn.Adam(0.01),
        epochs=3,
        batch_size=20,
    )
    assert seen[0] == 6 * 22 + 5 * 23 and len(seen) == 18
    assert max(seen[1:]) <= budget and max(seen[1:]) > budget - 24
    assert min(net.ranks) >= 1 and isinstance(net.weights[2], np.ndarray)


def test_parameter_budget_keeps_the_largest_singular_values(wide):
    net, x, y = wide
    full = one_step_unadapted(net, x, y, 0.2)
    train(net, x, y, truncation=nn.ParameterBudget(120), optimizer=nn.SGD(0.2))
    values = [np.linalg.svd(dense(W), compute_uv=False)[: W.rank] for W in full.weights]
    spent = sum(r * sum(W.shape) for r, W in zip(net.ranks, net.weights, strict=True))
    kept = min(s[r - 1] for s, r in zip(values, net.ranks, strict=True) if r > 1)
    for s, r, Y, Z in zip(values, net.ranks, net.weights, full.weights, strict=True):
        P, t, Qt = np.linalg.svd(dense(Z))
        assert distance([dense(Y)], [P[:, :r] * t[:r] @ Qt[:r]]) < 1e-10
        assert r == len(s) or s[r] <= kept or spent + sum(Y.shape) > 120


def test_budget_in_a_phase_that_does_not_truncate():
    """Cores of Galerkin and BUG are dense: cutting their leading block would not be a truncation."""
    x, y = blobs()
    net = network((10, 12, 3), (6, 3), decay=0.9)
    before, plain = net.copy(), net.copy()
    train(plain, x, y, method=dlra.Galerkin(), optimizer=nn.SGD(1e-6))
    methods = {0: dlra.Galerkin(), 1: AugmentedBUG()}
    train(net, x, y, method=methods, truncation=nn.ParameterBudget(80), optimizer=nn.SGD(1e-6))
    best = [np.linalg.svd(dense(W), compute_uv=False) for W in before.weights]
    for W, Z, s in zip(before.weights, net.weights, best, strict=True):
        assert np.linalg.norm(dense(W) - dense(Z)) <= 1.1 * np.linalg.norm(s[Z.rank :]) + 1e-4


@pytest.mark.filterwarnings("ignore:the ranks of weights:dlra.DlraWarning")
def test_methods_by_epoch():
    """Ranks adapt, then stay, then only the cores move."""
    x, y = blobs()
    net = network((10, 12, 12, 3), (6, 6, 2), decay=0.9)
    seen = []
    history = train(
        net, x, y, optimizer=nn.Adam(0.02), epochs=6, batch_size=30,
        method={0: AugmentedBUG(rtol=0.3), 2: AugmentedBUG(), 4: dlra.Galerkin()},
        callback=lambda row: seen.append(row.net.copy()),
    )  # fmt: skip
    assert history.ranks[0] != (6, 6, 2)
    assert history.ranks[1] == history.ranks[2] == history.ranks[3] == history.ranks[5]
    for i in range(3):
        a, b, c, d = (seen[k].weights[i] for k in (2, 3, 4, 5))
        assert not np.array_equal(a.U, b.U), "bases move in the second phase"
        assert np.array_equal(b.U, c.U) and np.array_equal(c.U, d.U) and np.array_equal(c.V, d.V)
        assert not np.array_equal(c.S, d.S)


@pytest.mark.parametrize("optimizer", [nn.SGD(1e-6), nn.Adam(1e-6)])
def test_frozen_ranks_give_a_warning_once(optimizer):
    x, y = blobs(features=20)
    net = network((20, 15, 3), (2, None), decay=1.0)
    with pytest.warns(
        DlraWarning, match=r"ranks of weights 0 \(rank 2\) cannot grow.*TiedTolerance"
    ) as found:
        train(net, x, y, optimizer=optimizer, method=AugmentedBUG(rtol=0.2), epochs=3, batch_size=30)
    assert len(found) == 1 and net.ranks == (2, 3)


def test_warning_points_at_the_call():
    x, y = blobs(features=20)
    net = network((20, 15, 3), (2, None), decay=1.0)
    with pytest.warns(DlraWarning) as found:
        nn.train(
            net, x, y, loss=CE, optimizer=nn.SGD(1e-6), method=AugmentedBUG(rtol=0.2), epochs=1, batch_size=30
        )
    assert found[0].filename == __file__


@pytest.mark.parametrize(
    "options",
    [
        {"method": AugmentedBUG(rtol=0.1)},
        {"method": AugmentedBUG(rtol=0.2, max_rank=2), "optimizer": nn.SGD(1e-6), "ranks": (2, None)},
        {"method": AugmentedBUG(), "ranks": (2, None)},
        {"truncation": nn.TiedTolerance(1.0)},
        {"truncation": nn.ParameterBudget(200)},
    ],
    ids=["adaptive", "at max_rank", "fixed", "tied", "budget"],
)
def test_no_warning_in_an_ordinary_run(options):
    x, y = blobs(features=20)
    net = network((20, 15, 3), options.get("ranks", (5, None)), decay=0.6)
    options = {k: v for k, v in options.items() if k != "ranks"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(net, x, y, epochs=4, batch_size=30, **{"optimizer": nn.Adam(0.01), **options})


# ---- the loop


def test_history():
    x, y = blobs(rows=100)
    net = network((10, 12, 3), (4, 3))
    initial = net.copy()
    rows = []
    history = train(net, x, y, optimizer=nn.Adam(0.02), method=AugmentedBUG(rtol=0.1), epochs=4, batch_size=30,
                    validation=(x[:40], y[:40]), callback=rows.append)  # fmt: skip
    assert (history.steps, history.nfev, history.status, history.success) == (16, 16, 0, True)
    assert history.message == "All 4 epochs done." and history.net is net and len(history) == 4
    assert history.epoch == [1, 2, 3, 4] and all(s > 0 for s in history.seconds)
    for name in (
        "loss",
        "accuracy",
        "validation_loss",
        "validation_accuracy",
        "ranks",
        "parameters",
        "learning_rate",
    ):
        column = getattr(history, name)
        assert len(column) == 4 and column == [getattr(row, name) for row in rows] == [
            getattr(r, name) for r in history
        ]
    assert (
        rows[-1].net is net
        and history.ranks[-1] == net.ranks
        and history.parameters[-1] == net.parameter_count()
    )
    assert history.validation_loss[-1] == pytest.approx(CE(net.predict(x[:40]), y[:40]), rel=1e-12)
    assert history.validation_accuracy[-1] == net.score(x[:40], y[:40])
    assert history.best_epoch == 1 + int(np.argmin(history.validation_loss))
    assert history.learning_rate == [0.02] * 4 and history.accuracy[-1] > 0.8
    assert "4 epochs" in repr(history) and "validation accuracy" in repr(history)
    whole = train(initial.copy(), x, y, epochs=1)
    assert whole.loss[0] == pytest.approx(CE(initial.predict(x), y), rel=1e-12), (
        "the loss is the one before the step"
    )
    assert (
        whole.accuracy[0] == initial.score(x, y)
        and np.isnan(whole.validation_loss[0])
        and whole.best_epoch is None
    )


def test_epoch_means_weigh_batches_by_their_rows():
    x, y = blobs(rows=50)
    net = network((10, 3), (2,))
    history = train(net.copy(), x, y, optimizer=nn.SGD(1e-12), batch_size=30)
    assert history.loss[0] == pytest.approx(CE(net.predict(x), y), rel=1e-9)
    assert history.accuracy[0] == net.score(x, y)


def test_history_of_numbers_and_as_json(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5))
    y = x @ rng.standard_normal((5, 2))
    net = network((5, 2), (2,))
    history = train(net, x, y, loss=MSE, epochs=20, validation=(x, y))
    assert all(np.isnan(history.accuracy)) and history.validation_accuracy[-1] == pytest.approx(
        net.score(x, y)
    )
    assert history.validation_accuracy[-1] > 0.5
    table = history.to_dict()
    again = nn.History.from_dict(net, table)
    assert again.to_dict() == table and again.ranks == history.ranks and np.isnan(again.accuracy).all()
    history.to_json(tmp_path / "history.json")
    assert '"accuracy": [\n  null' in (tmp_path / "history.json").read_text()


def test_callback_stops():
    x, y = blobs()
    history = train(network((10, 3), (2,)), x, y, epochs=9, callback=lambda row: row.epoch == 3)
    assert (len(history), history.status, history.message) == (
        3,
        1,
        "The callback stopped the training after epoch 3.",
    )
    assert len(train(network((10, 3), (2,)), x, y, epochs=3, callback=lambda row: "yes")) == 3


@pytest.mark.parametrize("rises", [True, False])
def test_patience_gives_the_weights_of_the_best_epoch(rises):
    """The learning rate explodes after epoch 4, or never."""
    x, y = blobs()
    net, seen = network((10, 12, 3), (4, 3)), []
    lr = (lambda t: 0.05 if t < 4 else 3.0 * (t - 3)) if rises else 0.05
    history = train(net, x, y, optimizer=nn.SGD(lr), epochs=12, patience=2, validation=(x, y),
                    callback=lambda row: seen.append(row.net.copy()))  # fmt: skip
    best = history.best_epoch
    assert bits(net) == bits(seen[best - 1])
    assert nn.evaluate(net, x, y, CE)[0] == min(history.validation_loss)
    if rises:
        assert history.status == 1 and len(history) == best + 2 < 12
        assert f"that of epoch {best}, whose weights the network has" in history.message
    else:
        assert history.status == 0 and len(history) == best == 12


@pytest.mark.parametrize("replacement", [False, True])
def test_batches(replacement):
    """Each row once an epoch in another order; or independent draws."""
    x, y = np.arange(50.0)[:, None] * np.ones((1, 4)), np.zeros(50, dtype=int)
    seen, forward = [], nn.Linear.forward
    net = network((4, 2), (1,))

    class Note(nn.Tanh):
        def forward(self, x, parameters, reuse):
            seen.append(x[:, 0].copy())
            return super().forward(x, parameters, reuse)

    net = nn.Sequential(Note(), *net.layers)
    history = train(net, x, y, epochs=2, batch_size=20, replacement=replacement, rng=3)
    assert nn.Linear.forward is forward
    sizes = [len(rows) for rows in seen]
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert history.steps == 6
    if replacement:
        assert sizes == [20] * 6 and len(np.unique(first)) < 50
    else:
        assert sizes == [20, 20, 10] * 2
        assert np.array_equal(np.sort(first), np.arange(50)) and np.array_equal(
            np.sort(second), np.arange(50)
        )
        assert not np.array_equal(first, np.arange(50))
    assert not np.array_equal(first, second)


def test_rng():
    x, y = blobs()

    def run(rng):
        net = network((10, 3), (2,))
        train(net, x, y, epochs=2, batch_size=30, rng=rng)
        return bits(net)

    assert run(1) == run(1) == run(np.random.default_rng(1)) != run(2)


def test_iterables_of_batches():
    x, y = blobs()
    batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 120, 50)]
    ends = []
    for source in (batches, lambda: iter(batches), lambda: (b for b in batches)):
        net = network((10, 12, 3), (4, 3))
        history = train(net, source, None, epochs=3)
        assert history.steps == 9 and len(history) == 3
        ends.append(bits(net))
    assert ends[0] == ends[1] == ends[2]


def test_iterator_that_is_read_once():
    x, y = blobs()
    net = network((10, 12, 3), (4, 3))
    with pytest.raises(
        TrainingError, match=r"no batches in epoch 2.*a function that returns an iterator, or epochs=1"
    ) as error:
        train(net, ((x[i : i + 50], y[i : i + 50]) for i in range(0, 120, 50)), None, epochs=2)
    assert len(error.value.history) == 1 and error.value.history.status == -1
    assert train(net, ((x, y) for _ in range(2)), None).steps == 2


def test_bad_batch_of_an_iterable():
    x, y = blobs()
    with pytest.raises(TypeError, match=r"batches \(x, y\), but batch 1 is"):
        train(network((10, 3), (2,)), [x[:3]], None)
    with pytest.raises(TrainingError, match=r"epoch 1, batch 2 .*batches \(x, y\), but batch 2 is"):
        train(network((10, 3), (2,)), [(x, y), x[:3]], None)
    with pytest.raises(TrainingError, match=r"y of batch 2 holds labels from 0 to 3"):
        train(network((10, 3), (2,)), [(x, y), (x[:2], np.array([0, 3]))], None)
    with pytest.raises(TrainingError, match="epoch 1, batch 2 .*the data x"):
        train(network((10, 3), (2,)), [(x, y), (x * np.nan, y)], None)
    with pytest.raises(TrainingError, match="no batches in epoch 1"):
        train(network((10, 3), (2,)), [], None)


def test_progress_writes_to_stderr_only(capfd):
    x, y = blobs()
    train(network((10, 3), (2,)), x, y, epochs=2, batch_size=30, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "epoch 2/2" in err and "ranks 2" in err
    train(network((10, 3), (2,)), x, y, epochs=2, batch_size=30)
    assert capfd.readouterr() == ("", "")


# ---- interruption and failure


class Stopping(nn.Tanh):
    """Raises an error in its forward pass number ``at``."""

    def __init__(self, at, error=KeyboardInterrupt):
        self.at, self.error, self.calls = at, error, 0

    def forward(self, x, parameters, reuse):
        self.calls += 1
        if self.calls == self.at:
            raise self.error("stopped")
        return super().forward(x, parameters, reuse)


def test_interrupt_in_the_middle_of_an_epoch():
    x, y = blobs()
    plain, net = network((10, 12, 3), (4, 3)), network((10, 12, 3), (4, 3))
    train(plain, x, y, optimizer=nn.SGD(lambda t: 0.1 if t < 6 else 1e-300), epochs=2, batch_size=30)
    net = nn.Sequential(net.layers[0], Stopping(7), net.layers[2])
    history = train(net, x, y, epochs=9, batch_size=30)
    assert (history.status, len(history)) == (1, 1)
    assert history.message == "Interrupted by Ctrl-C in epoch 2, batch 3."
    assert distance(members(net), members(plain)) < 1e-12


def test_steps_of_an_interrupted_training():
    x, y = blobs()
    net = network((10, 12, 3), (4, 3))
    history = train(nn.Sequential(net.layers[0], Stopping(7), net.layers[2]), x, y, epochs=9, batch_size=30)
    assert (history.steps, history.nfev) == (6, 6)


def test_interrupt_in_a_callback():
    def callback(row):
        raise KeyboardInterrupt

    x, y = blobs()
    net = network((10, 3), (2,))
    history = train(net, x, y, epochs=9, callback=callback)
    assert history.status == 1 and len(history) == 1 and history.steps == 1
    assert nn.evaluate(net, x, y, CE)[0] < history.loss[0]


def test_error_in_a_callback_passes_through():
    def callback(row):
        raise ZeroDivisionError

    x, y = blobs()
    with pytest.raises(ZeroDivisionError):
        train(network((10, 3), (2,)), x, y, epochs=9, callback=callback)


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        (AugmentedBUG(rtol=0.1), nn.SGD),
        (AugmentedBUG(rtol=0.1), nn.Momentum),
        (dlra.BUG(), nn.Momentum),
        (dlra.ProjectorSplitting(order=1), nn.SGD),
        (dlra.ParallelBUG(), nn.Momentum),
    ],
    ids=lambda v: getattr(v, "name", None) or v.__name__,
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_huge_learning_rate(method, optimizer):
    x, _ = blobs()
    y = np.random.default_rng(0).standard_normal((120, 3))
    net = network((10, 12, 3), (4, 3), "relu")
    lr = [1e-2] * 4 + [1e40] * 20
    states = []

    def rate(t):
        states.append(bits(net))
        return lr[t]

    with pytest.raises(
        TrainingError, match=r"epoch \d, batch \d \(iteration \d+, learning rate .*smaller learning rate"
    ) as error:
        train(net, x, y, loss=MSE, optimizer=optimizer(rate), method=method, epochs=6, batch_size=30)
    message, history = str(error.value), error.value.history
    assert "in layer" in message or "in the loss" in message or "in the step" in message
    assert all(np.isfinite(a).all() for a in members(net))
    assert bits(net) == states[-1], "the network has the weights of the last good step"
    assert history.net is net and history.status == -1 and history.message.startswith("Failed in epoch")
    assert len(history) == history.steps // 4 >= 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_loss_that_overflows_while_its_gradient_does_not():
    x, y = blobs()[0], np.full((120, 3), 1e200)
    net = network((10, 3), (2,))
    before = net.copy()
    with pytest.raises(TrainingError, match="epoch 1, batch 1 .*the loss is not finite"):
        train(net, x, y, loss=MSE, optimizer=nn.SGD(1e-300))
    assert distance(members(net), members(before)) == 0.0


def test_nan_in_the_forward_pass_names_the_layer():
    class Breaking(Stopping):
        def forward(self, x, parameters, reuse):
            self.calls += 1
            y, tape = nn.Tanh.forward(self, x, parameters, reuse)
            return (y * np.nan, tape) if self.calls >= self.at else (y, tape)

    x, y = blobs()
    net = network((10, 12, 3), (4, 3))
    net = nn.Sequential(net.layers[0], Breaking(6), net.layers[2])
    with pytest.raises(TrainingError, match=r"epoch 2, batch 2 \(iteration 5.*in layer 1, Breaking") as error:
        train(net, x, y, epochs=4, batch_size=30)
    assert len(error.value.history) == 1 and error.value.history.steps == 5


@pytest.mark.parametrize("where", ["U", "S", "dense", "bias"])
def test_nan_weights_are_refused_before_training(where):
    net = network((10, 12, 3), (4, None))
    W = net.weights[0]
    if where in "US":
        U, S, V = (a.copy() for a in W.factors)
        (U if where == "U" else S)[1, 2] = np.nan
        net = net.with_weights({0: LowRank._make(U, S, V, 3)})
    elif where == "dense":
        net = net.with_weights({1: net.weights[1] * np.nan})
    else:
        net = net.with_members([*net.weights, net.biases[0] * np.nan, net.biases[1]])
    with pytest.raises((ValueError, TrainingError), match="NaN|not finite"):
        train(net, *blobs())


def test_error_in_a_layer():
    x, y = blobs()
    net = network((10, 12, 3), (4, 3))
    net = nn.Sequential(net.layers[0], Stopping(3, ZeroDivisionError), net.layers[2])
    with pytest.raises(TrainingError, match=r"epoch 1, batch 3.*ZeroDivisionError: stopped") as error:
        train(net, x, y, batch_size=30)
    assert isinstance(error.value.__cause__, ZeroDivisionError) and error.value.history.steps == 2


# ---- bad input, before anything is computed


def nan_at(a, i=3):
    a = a.copy()
    a[i] = np.nan
    return a


BAD = [
    ({"x": lambda x, y: x[:, :5]}, ValueError, r"takes inputs of shape \(batch, 10\), got \(batch, 5\)"),
    ({"x": lambda x, y: x.astype("float32")}, TypeError, "x must have the dtype of the network"),
    ({"x": lambda x, y: x.tolist()}, TypeError, "convert lists with numpy.asarray"),
    ({"x": lambda x, y: nan_at(x)}, ValueError, "x contains NaN or infinite values"),
    ({"x": lambda x, y: x[:0], "y": lambda x, y: y[:0]}, ValueError, "x is empty"),
    ({"y": lambda x, y: y + 3}, ValueError, r"labels must lie in 0 \.\.\. 2"),
    ({"y": lambda x, y: y - 1}, ValueError, "labels from -1"),
    ({"y": lambda x, y: y.astype(float)}, TypeError, "class labels"),
    ({"y": lambda x, y: y[:-1]}, ValueError, "same number of rows, got 120 and 119"),
    ({"y": lambda x, y: None}, TypeError, "y is missing"),
    ({"y": lambda x, y: y.tolist()}, TypeError, "y must be an array of class labels"),
    ({"y": lambda x, y: nan_at(x[:, :3]), "loss": MSE}, ValueError, "y contains NaN"),
    ({"y": lambda x, y: x[:, :2], "loss": MSE}, ValueError, r"\(batch, 3\), got \(120, 2\)"),
    ({"validation": lambda x, y: (nan_at(x), y)}, ValueError, "validation contains NaN"),
    ({"validation": lambda x, y: (x, y + 1)}, ValueError, "y of validation holds labels"),
    ({"validation": lambda x, y: (x[:, :4], y)}, ValueError, "takes inputs of shape"),
    ({"validation": lambda x, y: x}, TypeError, r"validation must be a pair \(x, y\)"),
    ({"validation": lambda x, y: (x[:0], y[:0])}, ValueError, "x of validation is empty"),
    ({"batch_size": 121}, ValueError, "batch_size must not exceed the number of rows, 120, got 121"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"batch_size": None}, TypeError, "batch_size is missing"),
    ({"batch_size": 2.5}, TypeError, "batch_size"),
    ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
    ({"epochs": 2.5}, TypeError, "epochs"),
    ({"patience": 2}, ValueError, "patience needs validation"),
    ({"patience": 0, "validation": lambda x, y: (x, y)}, ValueError, "patience must be at least 1"),
    ({"rng": "seed"}, TypeError, "rng must be"),
    ({"callback": 3}, TypeError, "callback"),
    ({"loss": "mse"}, TypeError, "loss must be a loss of dlra.nn"),
    ({"loss": nn.MSELoss}, TypeError, "loss must be a loss of dlra.nn"),
    ({"optimizer": "adam"}, TypeError, "optimizer must be SGD, Momentum or Adam"),
    ({"optimizer": nn.Adam}, TypeError, "optimizer must be SGD, Momentum or Adam"),
    ({"method": 3}, TypeError, "method"),
    ({"method": "adam"}, ValueError, "adam"),
    ({"method": AugmentedBUG(rtol=1.0)}, ValueError, "rtol of AugmentedBUG must be below 1"),
    ({"method": AugmentedBUG(rtol=(0.1, 2.0))}, ValueError, "rtol of AugmentedBUG must be below 1"),
    ({"method": AugmentedBUG(rtol=(0.1, 0.1, 0.1))}, ValueError, "one for each of 2 weights, got 3"),
    ({"method": AugmentedBUG(substep="rk4")}, ValueError, 'leave substep of AugmentedBUG at "auto"'),
    ({"method": dlra.ProjectorSplitting(substep="euler")}, ValueError, "leave substep"),
    ({"method": dlra.ProjectorSplitting(), "optimizer": nn.Adam()}, TypeError, "Adam does not work with Proj"),
    ({"method": dlra.MidpointBUG(), "optimizer": nn.Momentum(0.1)}, TypeError, "Momentum does not work with Mid"),
    ({"method": {1: AugmentedBUG()}}, ValueError, "must say what epoch 0 begins with"),
    ({"method": {}}, ValueError, "must say what epoch 0 begins with"),
    ({"method": {0: AugmentedBUG(), -1: dlra.BUG()}}, ValueError, "at least 0"),
    ({"method": {0: AugmentedBUG(), "1": dlra.BUG()}}, TypeError, "an epoch in the dict of methods"),
    ({"method": {0: AugmentedBUG(), 1: AugmentedBUG(rtol=1.5)}}, ValueError, "rtol of AugmentedBUG must be below 1"),
    ({"truncation": 0.1}, TypeError, "truncation must be TiedTolerance"),
    ({"truncation": nn.TiedTolerance(1.0), "method": AugmentedBUG(rtol=0.1)}, ValueError, "place of the rank options"),
    ({"truncation": nn.TiedTolerance(1.0), "method": dlra.BUG()}, ValueError, "needs a method that adapts ranks"),
    ({"truncation": nn.ParameterBudget(30)}, ValueError, "a budget of 30 parameters is not enough: rank 1 .* takes 37"),
    ({"checkpoint": "/nowhere/at/all.h5"}, FileNotFoundError, "create the directory"),
    ({"resume": "/nowhere/at/all.h5"}, FileNotFoundError, "there is no file"),
    ({"resume": 3}, TypeError, "resume must be the path"),
    ({"x": lambda x, y: [(x, y)], "y": lambda x, y: None}, ValueError, "batch_size and replacement do not go with"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind", "error"), BAD, ids=[f"{i}-{'-'.join(c)}" for i, (c, _, _) in enumerate(BAD)]
)
def test_bad_input(changes, kind, error, monkeypatch):
    x, y = blobs()
    net = network((10, 12, 3), (4, 3))
    before = bits(net)
    options = {k: v(x, y) if callable(v) and k in ("x", "y", "validation") else v for k, v in changes.items()}
    options = {"x": x, "y": y, "batch_size": 30, **options}
    monkeypatch.setattr("dlra.nn.trainer.step", lambda *a: pytest.fail("training has started"))
    with pytest.raises(kind, match=error):
        train(net, **options)
    assert bits(net) == before


def test_net_that_is_none():
    x, y = blobs()
    with pytest.raises(TypeError, match=r"net must be a dlra\.nn\.Sequential"):
        train([nn.Linear(10, 3)], x, y)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (nn.TiedTolerance, {"c": 0.0}), (nn.TiedTolerance, {"c": -1}), (nn.TiedTolerance, {"c": float("nan")}),
        (nn.ParameterBudget, {"parameters": 0}), (nn.ParameterBudget, {"parameters": 10, "min_rank": 0}),
        (AugmentedBUG, {"rtol": -0.1}), (AugmentedBUG, {"rtol": float("nan")}),
    ],
)  # fmt: skip
def test_rules_out_of_range(make, options):
    with pytest.raises(ValueError, match="must be (positive|at least 1|finite)"):
        make(**options)


def test_default_method_is_augmented():
    x, y = blobs()
    a, b = network((10, 12, 3), (4, 3)), network((10, 12, 3), (4, 3))
    train(a, x, y, method=None, epochs=2)
    train(b, x, y, method=AugmentedBUG(rtol=0.1), epochs=2)
    assert bits(a) == bits(b)


def test_import_is_light():
    """The trainer loads neither SciPy nor numba nor h5py."""
    code = "import sys, dlra.nn.trainer; print([m for m in ('scipy', 'numba', 'h5py', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"\[\]\n", out)
