"""Which ranks to keep: local, global and iterative truncation of singular values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlra import LowRank, nn
from dlra.compress import global_ranks, iterative_ranks, local_ranks, singular_values

VALUES = [[5.0, 4.0, 3.0, 0.0], [0.002, 0.0001], [1.0, 1.0, 1.0]]

layers = st.lists(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8), min_size=1, max_size=5
)  # of singular values


def test_singular_values_of_a_network(monkeypatch):
    net = nn.Sequential(nn.LowRankLinear(9, 8, rank=3, rng=0), nn.Tanh(), nn.Linear(8, 5, rng=1))
    exact = [np.linalg.svd(W.to_dense() if isinstance(W, LowRank) else W)[1] for W in net.weights]
    monkeypatch.setattr(LowRank, "to_dense", None)  # the low-rank weight is not made dense
    found = singular_values(net)
    assert [s.shape for s in found] == [(3,), (5,)]
    for s, t in zip(found, exact, strict=True):
        assert type(s) is np.ndarray and s.dtype == np.float64 and np.all(np.diff(s) <= 0)
        assert s == pytest.approx(t[: len(s)], rel=1e-5)


def test_singular_values_are_on_the_host(library):
    found = singular_values(nn.mlp((9, 8, 5), rank=3, rng=0).to(library.asarray(np.zeros(1))))
    assert all(type(s) is np.ndarray for s in found)


def test_local_ranks():
    assert local_ranks(VALUES, rank=2) == (2, 2, 2)
    assert local_ranks(VALUES, rank=3) == (3, 2, 3)
    assert local_ranks(VALUES, share=0.5) == (2, 1, 2)
    assert local_ranks(VALUES, share=0.01) == (1, 1, 1)
    assert local_ranks(VALUES, share=1) == (4, 2, 3)


def test_local_ranks_by_the_spectral_norm():
    """The largest value dropped is at most the threshold of the largest; one more would not be."""
    assert local_ranks(VALUES, threshold=0.7) == (2, 1, 3)
    assert local_ranks(VALUES, threshold=0.6) == (2, 1, 3), "3 of 5 is dropped: it is the threshold"
    assert local_ranks(VALUES, threshold=0.59) == (3, 1, 3)
    assert local_ranks([[0.0, 0.0]], threshold=0.5) == (1,)


def test_ranks_by_a_target_by_hand():
    values = [np.arange(10, 0, -1.0), np.arange(4, 0, -1.0)]
    shapes = [(10, 10), (4, 20)]
    # 20 and 24 parameters a rank, 100 and 80 as they are; shares 0, 0.15, 0.25, 0.35, 0.375, 0.45, 0.625, 0.875
    steps = {
        44: (1, 1), 64: (2, 1), 84: (3, 1), 104: (4, 1), 128: (4, 2), 148: (10, 2), 172: (10, 3), 180: (10, 4),
    }  # fmt: skip
    for (parameters, ranks), further in zip(steps.items(), [*[*steps][1:], 10**6], strict=True):
        assert local_ranks(values, parameters=parameters, shapes=shapes) == ranks
        assert local_ranks(values, parameters=further - 1, shapes=shapes) == ranks
    # low-rank already, at rank 10: 200 as it is
    present = [200, 80]
    assert local_ranks(values, parameters=148, shapes=shapes, present=present) == (5, 2)
    assert local_ranks(values, parameters=280, shapes=shapes, present=present) == (10, 4)
    # all together: 0.9, 0.8, of the second 0.75, 0.7, ...
    assert global_ranks(values, parameters=103, shapes=shapes) == (3, 1)
    assert global_ranks(values, parameters=108, shapes=shapes) == (3, 2)


def test_global_ranks_of_groups():
    assert global_ranks(VALUES, share=5 / 9, groups=["a", "a", "a"]) == global_ranks(VALUES, share=5 / 9)
    assert global_ranks(VALUES, share=0.5, groups=[0, 1, 0]) == (1, 1, 3)
    assert global_ranks(VALUES, share=0.5, groups=[0, 1, 2]) == local_ranks(VALUES, share=0.5)
    assert global_ranks(VALUES, threshold=0.7, groups=[0, 1, 2]) == (2, 1, 3)


def test_low_rank_weights_count_their_factors():
    """600 parameters at rank 15 of a 20 x 20 weight, of which a round takes 100, the last one what is left."""
    options = {"loss": lambda ranks: ranks[1], "parameters": 500, "per_round": 100}
    shapes = [(20, 20), (20, 20)]
    assert iterative_ranks(shapes, ranks=(5, 15), present=[200, 600], **options) == (5, 7)
    assert iterative_ranks(shapes, ranks=(5, 15), **options) == (5, 7)
    options["parameters"] = 800
    assert iterative_ranks(shapes, ranks=(5, 15), present=[200, 600], **options) == (5, 15)
    options["parameters"] = 799
    assert iterative_ranks(shapes, ranks=(5, 15), present=[200, 600], **options) == (5, 14)


def test_global_ranks_by_share():
    assert global_ranks(VALUES, share=1.0) == (4, 2, 3)
    assert global_ranks(VALUES, share=5 / 9) == (1, 1, 3), "the equal values of the last layer come first"
    assert global_ranks(VALUES, share=7 / 9) == (3, 1, 3)
    assert global_ranks(VALUES, share=8 / 9) == (3, 2, 3)
    assert global_ranks(VALUES, share=0.01) == (1, 1, 1), "each keeps one"


def test_global_ranks_by_threshold():
    assert global_ranks(VALUES, threshold=0.7) == (2, 1, 3)
    assert global_ranks(VALUES, threshold=0.05) == (3, 2, 3)
    assert global_ranks(VALUES, threshold=1) == (1, 1, 3)
    assert global_ranks([[0.0, 0.0], [1.0]], threshold=0.5) == (1, 1)


@given(layers, st.floats(0.01, 1.0), st.data())
def test_global_ranks_do_not_depend_on_the_scale_or_order_of_a_layer(values, share, data):
    scaled = [
        data.draw(st.permutations([x * 2.0**k for x in s]))
        for s, k in zip(
            values,
            data.draw(st.lists(st.integers(-30, 30), min_size=len(values), max_size=len(values))),
            strict=True,
        )
    ]
    ranks = global_ranks(values, share=share)
    assert global_ranks(scaled, share=share) == ranks
    assert global_ranks(scaled, threshold=share) == global_ranks(values, threshold=share)
    assert all(1 <= r <= len(s) for r, s in zip(ranks, values, strict=True))
    total = sum(map(len, values))
    assert sum(ranks) == max(len(values), int(share * total + 0.5))


@given(layers, st.floats(0.01, 1.0))
def test_global_ranks_keep_nothing_smaller_than_what_they_drop(values, share):
    ranks = global_ranks(values, share=share)
    normalised = [np.sort(s)[::-1] / max(s) for s in values]
    kept = [s[1:r] for s, r in zip(normalised, ranks, strict=True)]
    dropped = [s[r:] for s, r in zip(normalised, ranks, strict=True)]
    assert min(map(min, filter(len, kept)), default=1.0) >= max(map(max, filter(len, dropped)), default=0.0)


def test_values_of_any_library(library):
    values = [library.asarray(s, "float32") for s in VALUES]
    assert global_ranks(values, share=7 / 9) == (3, 1, 3) and local_ranks(values, rank=2) == (2, 2, 2)


SHAPES = [(40, 30), (30, 30), (10, 30)]


def count(ranks, shapes=SHAPES):
    return sum(min(m * n, r * (m + n)) for r, (m, n) in zip(ranks, shapes, strict=True))


def test_iterative_ranks_saves_in_every_round():
    seen = []

    def loss(ranks):
        seen.append(ranks)
        return sum(math.exp(-r) for r in ranks)

    ranks = iterative_ranks(SHAPES, loss=loss, parameters=1000, per_round=100)
    assert count(ranks) <= 1000
    now, rounds = (30, 30, 10), 0
    while now != ranks:
        tried, seen = seen[:3], seen[3:]
        tried = [c for c in tried if sum(a != b for a, b in zip(c, now, strict=True)) == 1]
        best = min(tried, key=lambda c: sum(math.exp(-r) for r in c))
        assert count(now) - count(best) >= 100
        now, rounds = best, rounds + 1
    assert not seen and rounds >= 5


def test_iterative_ranks_takes_a_dense_layer_below_break_even_at_once():
    ranks = iterative_ranks([(40, 40)], loss=lambda ranks: 0.0, parameters=1599, per_round=1)
    assert ranks == (19,), "20 (40 + 40) = 1600 = 40 · 40 would save nothing"
    assert iterative_ranks([(40, 40)], loss=lambda ranks: 0.0, parameters=1600) == (40,), "nothing to do"
    for parameters in range(200, 2500, 100):
        for r, (m, n) in zip(iterative_ranks(SHAPES, loss=sum, parameters=parameters), SHAPES, strict=True):
            assert r == min(m, n) or r * (m + n) < m * n


def test_iterative_ranks_goes_down_to_rank_one_and_starts_where_told():
    assert iterative_ranks(SHAPES, loss=sum, parameters=170) == (1, 1, 1)
    assert iterative_ranks(SHAPES, loss=sum, parameters=400, ranks=(3, 2, 1)) == (3, 2, 1)
    assert iterative_ranks(SHAPES, loss=lambda r: -r[0], parameters=300, ranks=(3, 2, 1), per_round=1) == (
        2,
        1,
        1,
    )
    assert iterative_ranks([(1, 5)], loss=sum, parameters=6) == (1,), (
        "a row: rank 1 takes more than the row itself"
    )


def test_with_a_network():
    """Layers of very different scale and importance: the loss decides, and what is left dense stays dense."""
    net = nn.mlp((30, 40, 30, 4), rng=0)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((50, 30)).astype("float32"), rng.integers(4, size=50)
    shapes = [W.shape for W in net.weights]

    def loss(ranks):
        return nn.to_lowrank(net, rank=ranks).loss_and_gradient(x, y, nn.CrossEntropyLoss())[0]

    ranks = iterative_ranks(shapes, loss=loss, parameters=1200, per_round=200)
    cut = nn.to_lowrank(net, rank=ranks)
    assert cut.ranks == ranks and cut.parameter_count() <= 1200


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: local_ranks(VALUES), ValueError, "give one of rank, share, threshold and parameters"),
        (
            lambda: local_ranks(VALUES, rank=2, share=0.5),
            ValueError,
            "give one of rank, share, threshold and parameters",
        ),
        (lambda: local_ranks(VALUES, rank=0), ValueError, "rank must be at least 1, got 0"),
        (lambda: local_ranks(VALUES, rank=1.5), TypeError, "rank must be an int"),
        (lambda: local_ranks(VALUES, share=0.0), ValueError, r"share must lie in \(0, 1\], got 0"),
        (lambda: local_ranks([], rank=1), ValueError, "values is empty"),
        (lambda: local_ranks(np.eye(3), rank=1), TypeError, "values must be a list with the singular values"),
        (
            lambda: local_ranks([1.0, 2.0], rank=1),
            ValueError,
            r"values\[0\] must be a vector .*got shape \(\)",
        ),
        (lambda: local_ranks([["a"]], rank=1), TypeError, r"values\[0\] must be a vector of singular values"),
        (
            lambda: local_ranks([[1.0], [-1.0]], rank=1),
            ValueError,
            r"values\[1\] must be finite and not negative",
        ),
        (lambda: local_ranks([[math.nan]], rank=1), ValueError, r"values\[0\] must be finite"),
        (lambda: global_ranks(VALUES), ValueError, "give one of share, threshold and parameters"),
        (lambda: local_ranks(VALUES, threshold=1.0), ValueError, r"threshold must lie in \(0, 1\), of"),
        (lambda: local_ranks(VALUES, parameters=9), ValueError, "shapes is missing"),
        (
            lambda: local_ranks(VALUES, parameters=9, shapes=SHAPES[:1]),
            ValueError,
            "pair for each of 3 layers",
        ),
        (lambda: global_ranks(VALUES, share=0.5, groups="abc"), TypeError, "groups must be a sequence"),
        (
            lambda: global_ranks(VALUES, share=0.5, groups=[1]),
            ValueError,
            "a label for each of 3 layers, got 1",
        ),
        (
            lambda: local_ranks(VALUES, parameters=9, shapes=SHAPES, present=[1, 2]),
            ValueError,
            "present must be a positive number for each of 3 layers",
        ),
        (
            lambda: local_ranks(VALUES, parameters=9, shapes=SHAPES, present=7),
            TypeError,
            "present must be a sequence",
        ),
        (lambda: local_ranks(VALUES, parameters=9, shapes=SHAPES), ValueError, "at least 170, what rank 1"),
        (lambda: global_ranks(VALUES, threshold=2.0), ValueError, r"threshold must lie in \(0, 1\]"),
        (
            lambda: iterative_ranks(SHAPES, loss=1.0, parameters=500),
            TypeError,
            "loss must be a function of the ranks",
        ),
        (lambda: iterative_ranks(SHAPES, loss=sum, parameters=169), ValueError, "at least 170, what rank 1"),
        (
            lambda: iterative_ranks(SHAPES, loss=sum, parameters=500, per_round=0),
            ValueError,
            "per_round must be at least 1",
        ),
        (
            lambda: iterative_ranks(SHAPES, loss=sum, parameters=500, ranks=(1, 1)),
            ValueError,
            "one rank for each of 3 layers",
        ),
        (
            lambda: iterative_ranks(SHAPES, loss=sum, parameters=500, ranks=(1, 1, 11)),
            ValueError,
            r"min\(m, n\) = 10, got 11",
        ),
        (
            lambda: iterative_ranks([3, 4], loss=sum, parameters=500),
            TypeError,
            "shapes must be a list of pairs",
        ),
        (
            lambda: iterative_ranks([(3, 4, 5)], loss=sum, parameters=500),
            ValueError,
            "shapes must be a list of pairs",
        ),
        (lambda: iterative_ranks([(0, 4)], loss=sum, parameters=500), ValueError, "positive sizes"),
        (
            lambda: iterative_ranks(SHAPES, loss=lambda r: math.nan, parameters=500),
            ValueError,
            "loss returned nan",
        ),
        (
            lambda: iterative_ranks(SHAPES, loss=lambda r: None, parameters=500),
            TypeError,
            "loss must return a real number",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_loss_raises_is_passed_on():
    def loss(ranks):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="^mine$"):
        iterative_ranks([(20, 20)], loss=loss, parameters=100)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"loss": lambda ranks: math.inf},
            ValueError,
            "loss is infinite whichever layer is truncated further",
        ),
        ({"loss": lambda ranks: -math.inf}, ValueError, "loss returned -inf for the ranks"),
        ({"loss": lambda ranks: "low"}, TypeError, "loss must return a real number, got str for the ranks"),
        ({"ranks": 5}, TypeError, "ranks must be a sequence with one rank for each layer, got int"),
        ({"ranks": [20, 0]}, ValueError, r"ranks\[1\] must lie between 1 and min\(m, n\) = 20, got 0"),
        ({"ranks": [20, 2.0]}, TypeError, r"ranks\[1\] must be an int"),
    ],
)
def test_messages_name_the_place(options, error, text):
    given = {"loss": lambda ranks: 0.0, "parameters": 100, **options}
    with pytest.raises(error, match=text):
        iterative_ranks([(20, 20), (20, 20)], **given)
