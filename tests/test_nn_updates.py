"""Compiled steps of optimisers: the generic ones to the last bit, in every memory order; what they may overwrite."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nn_helpers import bits, network

import dlra
from dlra import DlraWarning, nn
from dlra.errors import TrainingError
from dlra.kernels import _compiled
from dlra.nn import _training, optimizers
from dlra.nn.optimizers import Memory
from dlra.nn.trainer import Trainer

updates = pytest.importorskip("dlra.kernels.updates", exc_type=ImportError)

OPTIMIZERS = {
    "Adam": nn.Adam(0.01),
    "Adam, options": nn.Adam(0.01, 0.8, 0.95, 1e-3, weight_decay=0.1),
    "AdamW": nn.Adam(0.01, weight_decay=0.1, decoupled=True),
    "heavy ball": nn.Momentum(0.1),
    "Nesterov": nn.Momentum(0.1, 0.8, lam=1.0),
}
LAYOUTS = {
    "by rows": np.ascontiguousarray,
    "by columns": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": lambda a: _read_only(a),
}
shapes = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9)))


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def fused(optimizer):
    return updates.adam if isinstance(optimizer, nn.Adam) else updates.momentum


def arrays(increment, memory):
    return [increment, *memory.moments, *memory.squares]


def state(optimizer, shape, moves, dtype, rng):
    """A slope, a memory after a few steps and an unknown."""
    X, *slopes = (rng.standard_normal(shape).astype(dtype) for _ in range(4))
    memory = optimizer.empty(X, moves)
    for slope in slopes[1:]:
        _, memory = optimizer.increment(0.1, slope, memory, X)
    return slopes[0], memory, X


@given(
    st.sampled_from(sorted(OPTIMIZERS)), shapes, st.booleans(), st.sampled_from(["float32", "float64"]),
    st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=7, max_size=7), st.integers(0, 99),
)  # fmt: skip
def test_fused_steps_are_the_generic_ones(name, shape, moves, dtype, layouts, seed):
    optimizer = OPTIMIZERS[name]
    slope, memory, X = state(optimizer, shape, moves, dtype, np.random.default_rng(seed))
    expected = arrays(*type(optimizer).generic(optimizer, 0.03, slope, memory, X))
    laid = (LAYOUTS[layout] for layout in layouts)
    slope, X = next(laid)(slope), next(laid)(X)
    memory = Memory(*(tuple(next(laid)(a) for a in part) for part in memory))
    before = [a.copy() for a in arrays(slope, memory)]
    found = arrays(*fused(optimizer)(optimizer, 0.03, slope, memory, X))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == dtype
        np.testing.assert_array_max_ulp(a, b, 2)
    for a, b in zip(arrays(slope, memory), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("moves", [False, True])
def test_large_arrays_in_pieces(name, moves, monkeypatch, rng):
    optimizer = OPTIMIZERS[name]
    slope, memory, X = state(optimizer, (37, 41), moves, "float32", rng)
    whole = arrays(*fused(optimizer)(optimizer, 0.03, slope, memory, X))
    monkeypatch.setattr(updates, "_PARALLEL", 100)
    for threads in (2, 3, 7):
        monkeypatch.setattr(updates, "blas_threads", lambda threads=threads: threads)
        pieces = arrays(*fused(optimizer)(optimizer, 0.03, slope, memory, X))
        for a, b in zip(pieces, whole, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("order", "CF")
def test_spare_arrays_take_the_results(name, order, rng):
    optimizer = OPTIMIZERS[name]
    slope, memory, X = (
        a if isinstance(a, Memory) else np.asarray(a, order=order)
        for a in state(optimizer, (7, 5), False, "float64", rng)
    )
    memory = Memory(*(tuple(np.asarray(a, order=order) for a in part) for part in memory))
    expected = arrays(*fused(optimizer)(optimizer, 0.03, slope, memory, X))
    count = 1 + len(memory.moments) + len(memory.squares[:1])
    unfit = [np.ones(35), np.ones((7, 5), "float32"), _read_only(np.ones((7, 5), order=order))]
    spare = [np.full((7, 5), np.nan, order=order) for _ in range(count)]
    found = arrays(*fused(optimizer)(optimizer, 0.03, slope, memory, X, [*unfit, *spare]))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(any(a is b for b in found) for a in spare)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numbers_that_are_none_are_passed_on(name, rng):
    optimizer = OPTIMIZERS[name]
    slope, memory, X = state(optimizer, (6, 5), True, "float64", rng)
    slope[1, 2], slope[3, 4] = np.nan, np.inf
    with np.errstate(all="ignore"):
        expected = arrays(*type(optimizer).generic(optimizer, 0.03, slope, memory, X))
    for a, b in zip(arrays(*fused(optimizer)(optimizer, 0.03, slope, memory, X)), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_compiled_steps_are_taken(monkeypatch):
    """Large arrays of NumPy only, in one precision."""
    monkeypatch.setattr(optimizers, "_FUSED", 30)
    a, b = np.ones((6, 5)), np.ones((6, 5), "float32")
    assert optimizers._fused(a, a) is updates and optimizers._fused(b) is updates
    for refused in ((a[:5],), (a, b), (a.astype("complex128"),), (a.astype("float16"),), ([1.0],)):
        assert optimizers._fused(*refused) is None
    with monkeypatch.context() as m:
        m.setattr(_compiled, "module", lambda name: None)
        slope, memory, X = a, nn.Adam(0.1).empty(a, False), a
        without = arrays(*nn.Adam(0.1).increment(0.1, slope, memory, X))
    for p, q in zip(arrays(*nn.Adam(0.1).increment(0.1, slope, memory, X)), without, strict=True):
        np.testing.assert_array_equal(p, q)


def test_what_cannot_be_compiled_is_computed_by_the_generic_version(monkeypatch, rng):
    from numba.core.errors import TypingError

    def broken(*_):
        raise TypingError("no such thing")

    for name in ("Adam", "heavy ball"):
        optimizer = OPTIMIZERS[name]
        given_ = state(optimizer, (6, 5), False, "float64", rng)
        kernel = fused(optimizer).__name__
        monkeypatch.setattr(updates, f"_{kernel}", broken)
        wrapped = _compiled.with_twin(type(optimizer).generic)(fused(optimizer).__wrapped__)
        monkeypatch.setattr(updates, kernel, wrapped)
        monkeypatch.setattr(optimizers, "_FUSED", 1)
        with pytest.warns(DlraWarning, match=f"could not compile dlra.kernels.updates.{kernel}"):
            found = arrays(*optimizer.increment(0.03, *given_))
        with warnings.catch_warnings(action="error"):
            optimizer.increment(0.03, *given_)
        for a, b in zip(found, arrays(*type(optimizer).generic(optimizer, 0.03, *given_)), strict=True):
            np.testing.assert_array_equal(a, b)


# ---- in a training


def trainer(optimizer):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((60, 12)), rng.integers(3, size=60)
    return Trainer(
        network((12, 14, 9, 3), (None, 4, None)), x, y, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=9,
        batch_size=20, method=dlra.AugmentedBUG(rtol=0.05), rng=0,
    )  # fmt: skip


def steps(training, count):
    """So many steps on one batch; the trained parameters as bytes."""
    for _ in range(count):
        training._step(training.data.x[:20], training.data.y[:20])
    return bits(training.net)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_training_is_the_same_with_and_without(name, monkeypatch):
    expected = steps(trainer(OPTIMIZERS[name]), 6)
    monkeypatch.setattr(optimizers, "_FUSED", 1)
    assert steps(trainer(OPTIMIZERS[name]), 6) == expected
    monkeypatch.setattr(_training, "_LARGE", 1)
    assert steps(trainer(OPTIMIZERS[name]), 6) == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_a_step_that_is_cut_short_leaves_weights_and_memory(name, error, at, monkeypatch):
    """And steps after it are those of a training without it, though large arrays are used again."""
    monkeypatch.setattr(optimizers, "_FUSED", 1)
    monkeypatch.setattr(_training, "_LARGE", 1)
    optimizer = OPTIMIZERS[name]
    expected = steps(trainer(optimizer), 6)
    training = trainer(optimizer)
    for _ in range(3):
        weights = steps(training, 1)
        memory = [a for m in training.memory["S"] for part in m for a in part]
        before, calls, increment = [a.copy() for a in memory], 0, type(optimizer).increment

        def stopping(*args, increment=increment, **options):
            nonlocal calls
            calls += 1
            result = increment(*args, **options)
            if calls == at + 1:
                raise error
            return result

        with monkeypatch.context() as m:
            m.setattr(type(optimizer), "increment", stopping)
            with pytest.raises((KeyboardInterrupt, TrainingError)):
                steps(training, 1)
        assert bits(training.net) == weights
        for a, b in zip(memory, before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert steps(training, 3) == expected


def test_memory_is_used_again(monkeypatch):
    """From the third step on, no new arrays for the moments of dense weights."""
    monkeypatch.setattr(optimizers, "_FUSED", 1)
    monkeypatch.setattr(_training, "_LARGE", 100)
    training, seen = trainer(nn.Adam(0.01)), []
    for _ in range(6):
        steps(training, 1)
        seen.append(training.memory["S"][0].moments[0])
    assert len({id(a) for a in seen}) <= 4
    weights = [training.net.weights[0].copy(), training.net.weights[0]]
    steps(training, 4)
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_memory_of_another_shape_is_left_to_the_generic_version(name, monkeypatch):
    """Compiled code would read beyond its end."""
    optimizer = OPTIMIZERS[name]
    X = np.ones((200, 200))
    for moves in (True, False):
        with pytest.raises(ValueError, match="could not be broadcast"):
            optimizer.increment(0.1, X, optimizer.empty(X[:100], moves), X)
    monkeypatch.setattr(updates, "_each_piece", lambda *arguments: pytest.fail("compiled"))
    memory = optimizer.empty(X[:1], True)
    for ours, generic in zip(
        arrays(*optimizer.increment(0.1, X, memory, X)),
        arrays(*optimizer.generic(0.1, X, memory, X)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, generic)


def test_weights_of_two_shapes_are_left_to_the_generic_version():
    optimizer, X = nn.Adam(0.01), np.random.default_rng(0).uniform(0.1, 1, (200, 200))
    entrywise, single = optimizer.empty(X, True), optimizer.empty(X, False)
    memory = Memory(single.moments, (*single.squares[:2], entrywise.squares[2] + X))
    for ours, generic in zip(
        arrays(*optimizer.increment(0.1, X, memory, X)),
        arrays(*optimizer.generic(0.1, X, memory, X)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, generic)
