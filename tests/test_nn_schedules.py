"""Schedules of the learning rate: their values, the condition of Robbins and Monro, and wrong options."""

from __future__ import annotations

import itertools
import math
import pickle
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from dlra.nn.schedules import Constant, Cosine, ExponentialDecay, RobbinsMonro, Schedule, StepDecay, Warmup

ALL = [
    Constant(0.1),
    RobbinsMonro(0.1, power=0.75, t0=20.0),
    ExponentialDecay(0.1, 0.5, every=10),
    ExponentialDecay(0.1, 0.5, every=10, staircase=True),
    StepDecay(0.1, 0.1, (30, 60)),
    Cosine(0.1, 100),
    Cosine(0.1, 100, floor=0.01),
    Warmup(Cosine(0.1, 100), 7),
]


def values(schedule, ts):
    return [schedule(t) for t in ts]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), {0: 0.3, 10**9: 0.3}),
        (RobbinsMonro(0.1), {0: 0.1, 1: 0.05, 9: 0.01}),
        (RobbinsMonro(0.2, power=0.75, t0=10), {0: 0.2, 10: 0.2 / 2**0.75, 150: 0.2 / 8}),
        (ExponentialDecay(0.4, 0.25), {0: 0.4, 1: 0.1, 3: 0.00625}),
        (ExponentialDecay(0.4, 0.25, every=4), {0: 0.4, 2: 0.2, 3: 0.4 * 0.25**0.75, 4: 0.1}),
        (ExponentialDecay(0.4, 0.25, every=4, staircase=True), {0: 0.4, 3: 0.4, 4: 0.1, 7: 0.1, 8: 0.025}),
        (StepDecay(1.0, 0.5, [3, 5]), {0: 1, 2: 1, 3: 0.5, 4: 0.5, 5: 0.25, 99: 0.25}),
        (StepDecay(1.0, 0.5, ()), {0: 1, 99: 1}),
        (Cosine(0.2, 6), {0: 0.2, 2: 0.15, 3: 0.1, 4: 0.05, 5: 0.1 * (1 - math.sqrt(0.75))}),
        (Cosine(0.2, 4, floor=0.1), {0: 0.2, 2: 0.15, 3: 0.15 - math.sqrt(0.00125), 99: 0.15 - math.sqrt(0.00125)}),
        (Cosine(0.2, 1), {0: 0.2, 5: 0.2}),
        (Warmup(0.5, 4), {0: 0.1, 1: 0.2, 3: 0.4, 4: 0.5, 100: 0.5}),
        (Warmup(StepDecay(0.4, 0.5, [2]), 3), {0: 0.1, 2: 0.3, 3: 0.4, 4: 0.4, 5: 0.2}),
        (Warmup(lambda t: 2.0 + t, 1), {0: 1.0, 1: 2.0, 5: 6.0}),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_values(schedule, expected):
    got = values(schedule, expected)
    assert all(type(h) is float for h in got)
    assert got == pytest.approx(list(expected.values()), rel=1e-14)


@pytest.mark.parametrize("power", [0.51, 0.75, 1.0])
def test_robbins_monro_satisfies_its_condition(power):
    """(5.19): over blocks [2^k, 2^(k+1)) the sums of h grow or stay, those of h² fall geometrically."""
    schedule = RobbinsMonro(1.0, power=power, t0=1.0)
    h = np.array(values(schedule, range(2**14)))
    blocks = [slice(2**k, 2 ** (k + 1)) for k in range(6, 14)]
    sums = np.array([h[b].sum() for b in blocks])
    squares = np.array([(h[b] ** 2).sum() for b in blocks])
    assert np.all(sums[1:] >= sums[:-1] * 0.999)
    # Up to the 1 in 1 + t a block is to the one before it as 2^(1 - 2 power).
    np.testing.assert_allclose(squares[1:] / squares[:-1], 2 ** (1 - 2 * power), rtol=0.03)
    assert np.all(squares[1:] / squares[:-1] < 1)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_value_object(schedule):
    assert isinstance(schedule, Schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    again = eval(repr(schedule))
    assert again == schedule and hash(again) == hash(schedule)
    assert len(set(ALL)) == len(ALL)
    name = next(iter(schedule.__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(schedule, name, 1.0)


@pytest.mark.parametrize(
    "schedule",
    [*ALL, ExponentialDecay(1.0, 0.1), StepDecay(1.0, 1e-300, (1, 2, 3)), Cosine(1e-3, 10**12)],
    ids=repr,
)
def test_positive_and_not_above_the_start(schedule):
    h = values(schedule, [*range(200), 10**5, 10**12 - 1, 10**12, 10**15])
    assert all(sys.float_info.min <= value <= 1.0 and math.isfinite(value) for value in h)
    if not isinstance(schedule, Warmup):
        assert all(b <= a for a, b in itertools.pairwise(h))


def test_cosine_keeps_its_last_value_and_does_not_cancel():
    schedule = Cosine(1.0, 10**8)
    last = schedule(10**8 - 1)
    assert last == pytest.approx((math.pi / 2 / 10**8) ** 2, rel=1e-12)
    assert schedule(10**8) == schedule(10**10) == last


@pytest.mark.parametrize("h", [-1.0, 0.0, math.nan])
def test_warmup_does_not_mend_a_wrong_schedule(h):
    np.testing.assert_equal(Warmup(lambda t: h, 2)(5), h)


@pytest.mark.parametrize("make", ["SGD", "Momentum", "Adam"])
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_optimisers_take_schedules(make, schedule):
    optimizers = pytest.importorskip("dlra.nn.optimizers")
    assert getattr(optimizers, make)(lr=schedule).lr == schedule


def test_options_become_plain_numbers():
    schedule = StepDecay(np.float32(0.5), np.float64(0.25), np.array([2, 4]))
    assert repr(schedule) == "StepDecay(lr=0.5, factor=0.25, milestones=(2, 4))"
    assert repr(ExponentialDecay(1, 0.5, np.int64(3), np.True_)) == (
        "ExponentialDecay(lr=1.0, factor=0.5, every=3, staircase=True)"
    )
    assert Warmup(1, 2) == Warmup(Constant(1.0), 2)
    assert schedule(np.int64(3)) == 0.125


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Constant(0), ValueError, "lr of Constant must be positive and finite, got 0"),
        (lambda: Constant(-1.0), ValueError, "lr of Constant must be positive"),
        (lambda: Constant(math.nan), ValueError, "lr of Constant must be positive"),
        (lambda: Constant("0.1"), TypeError, "lr of Constant must be a real number"),  # pyright: ignore
        (lambda: Constant(True), TypeError, "lr of Constant must be a real number"),
        (lambda: RobbinsMonro(math.inf), ValueError, "lr of RobbinsMonro must be positive"),
        (lambda: RobbinsMonro(0.1, power=0.5), ValueError, "1/2 < power <= 1, got 0.5"),
        (lambda: RobbinsMonro(0.1, power=1.01), ValueError, "1/2 < power <= 1, got 1.01"),
        (lambda: RobbinsMonro(0.1, t0=0), ValueError, "t0 of RobbinsMonro must be positive"),
        (lambda: ExponentialDecay(0.1, 1.0), ValueError, "factor of ExponentialDecay must be below 1"),
        (lambda: ExponentialDecay(0.1, 0.0), ValueError, "factor of ExponentialDecay must be positive"),
        (lambda: ExponentialDecay(0.1, 0.5, every=0), ValueError, "every of ExponentialDecay must be at least 1"),
        (lambda: ExponentialDecay(0.1, 0.5, every=1.5), TypeError, "every of ExponentialDecay must be an int"),
        (lambda: ExponentialDecay(0.1, 0.5, staircase=1), TypeError, "staircase of ExponentialDecay must be"),
        (lambda: StepDecay(0.1, 2.0, (1,)), ValueError, "factor of StepDecay must be below 1"),
        (lambda: StepDecay(0.1, 0.5, 30), TypeError, "milestones of StepDecay must be a sequence"),
        (lambda: StepDecay(0.1, 0.5, (1.0,)), TypeError, "a milestone of StepDecay must be an int"),
        (lambda: StepDecay(0.1, 0.5, (3, 3)), ValueError, "strictly ascending, got \\(3, 3\\)"),
        (lambda: StepDecay(0.1, 0.5, (0, 3)), ValueError, "must be positive and strictly ascending"),
        (lambda: Cosine(0.1, 0), ValueError, "steps of Cosine must be at least 1"),
        (lambda: Cosine(0.1, 10, floor=0.1), ValueError, "0 <= floor < lr = 0.1, got 0.1"),
        (lambda: Cosine(0.1, 10, floor=-0.1), ValueError, "0 <= floor < lr"),
        (lambda: Cosine(0.1, 10, floor=math.nan), ValueError, "0 <= floor < lr"),
        (lambda: Warmup("linear", 10), TypeError, "schedule of Warmup, where it is not a function"),
        (lambda: Warmup(-0.1, 10), ValueError, "lr of Constant must be positive"),
        (lambda: Warmup(0.1, 0), ValueError, "steps of Warmup must be at least 1"),
    ],
)  # fmt: skip
def test_wrong_options(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize(
    ("t", "error"), [(1.0, TypeError), (True, TypeError), (None, TypeError), (-1, ValueError)]
)
def test_wrong_iteration(schedule, t, error):
    with pytest.raises(error, match="t must be"):
        schedule(t)
