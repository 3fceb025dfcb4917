"""Penalties for low rank: their values and derivatives, what they do when descended, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from helpers import dense, eps, normal, random_lowrank, random_orthonormal, relative_error
from hypothesis import given
from hypothesis import strategies as st

from dlra import LowRank, compress, nn

SHAPE = (9, 6)
WEIGHTS = (3.0, 2.5, 2.0, 1.0, 1.0, 0.5)
VALUES = np.array([0.9, -4.0, 0.2, 1.6, -2.7, 0.5])

CASES = {
    "nuclear": ({}, compress.nuclear_norm),
    "schatten": ({"p": 0.5}, partial(compress.schatten_norm, p=0.5)),
    "effective-rank": ({}, compress.effective_rank),
    "hoyer": ({}, compress.hoyer),
    "gini": ({}, compress.gini),
    "sorted-l1": ({"weights": WEIGHTS}, partial(compress.sorted_l1, weights=WEIGHTS)),
    "two-level-l1": ({"rho": 2.0, "share": 0.5}, partial(compress.two_level_l1, rho=2.0, share=0.5)),
}
MAXIMISED = ("hoyer", "gini")

each_case = pytest.mark.parametrize(("name", "options", "measure"), [(k, *v) for k, v in CASES.items()])


def svd_of(s, m, n, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return (
        random_orthonormal(rng, m, len(s), dtype),
        s.astype(dtype),
        random_orthonormal(rng, n, len(s), dtype),
    )


def slope(f, h=1e-3):
    """f'(0) by central differences of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def squares(W, return_gradient=False):
    """‖W‖_F²/2, a measure of one's own."""
    value = 0.5 * (W.norm() if isinstance(W, LowRank) else float(np.linalg.norm(W))) ** 2
    return (value, W) if return_gradient else value


@each_case
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_penalty_of_a_weight(name, options, measure, dtype, rng):
    """Of norms and of the effective rank λ times them, of Hoyer's and Gini's measure λ (1 - measure)."""
    Y = random_lowrank(rng, *SHAPE, 4, dtype)
    for W in (normal(rng, SHAPE, dtype), Y):
        value, G = nn.Regularizer(name, 0.3, **options).penalty(W)
        wanted, slopes = measure(W, return_gradient=True)
        if name in MAXIMISED:
            wanted, slopes = 1 - wanted, -1 * slopes
        assert type(value) is float and value == pytest.approx(0.3 * wanted, rel=1e-13)
        assert type(G) is type(W) and relative_error(G, 0.3 * slopes) < 1e-13
    assert G.U is Y.U and G.V is Y.V


@each_case
def test_descent_lowers_the_rank(name, options, measure, rng):
    """Steps of steepest descent at a constant norm of W, dense and on factors: the effective rank falls."""
    regularizer = nn.Regularizer(name, 1.0, **options)
    U, s, V = svd_of(np.array([3.0, 2.0, 1.5, 0.9, 0.6, 0.4]), *SHAPE)
    for W in ((U * s) @ V.T, LowRank(U, np.diag(s), V)):
        size = np.linalg.norm(dense(W))
        before, first = compress.effective_rank(W), regularizer.penalty(W)[0]
        for _ in range(20):
            G = regularizer.penalty(W)[1]
            W = W - (0.02 * size / np.linalg.norm(dense(G))) * G
            W = W * (size / np.linalg.norm(dense(W)))
        assert regularizer.penalty(W)[0] < first
        assert compress.effective_rank(W) < before - 0.01


@each_case
def test_of_values_is_the_penalty_of_the_matrix(name, options, measure):
    """Unordered values of both signs, as many as min(m, n), and fewer: the rest are zeros."""
    regularizer = nn.Regularizer(name, 0.3, **options)
    for s in (VALUES, VALUES[:4], VALUES[:1], np.array([1.0, 0.0, -2.0])):
        U, s, V = svd_of(s, *SHAPE)
        value, g = regularizer.of_values(s, SHAPE)
        wanted, G = regularizer.penalty((U * s) @ V.T)
        assert type(value) is float and value == pytest.approx(wanted, rel=1e-12, abs=1e-15)
        assert g.shape == s.shape and np.allclose(g, np.diagonal(U.T @ G @ V), rtol=1e-11, atol=1e-12)


@each_case
def test_of_values_against_central_differences(name, options, measure, rng):
    regularizer = nn.Regularizer(name, 0.3, **options)
    for s in (VALUES, VALUES[:4]):
        _, g = regularizer.of_values(s, SHAPE)
        for _ in range(3):
            x = rng.standard_normal(s.shape)
            wanted = slope(lambda h, s=s, x=x: regularizer.of_values(s + h * x, SHAPE)[0])
            assert float(g @ x) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@each_case
def test_values_that_are_rounding_errors_count_as_zero(name, options, measure):
    regularizer = nn.Regularizer(name, 0.3, **options)
    for dtype, small in (("float64", 1e-17), ("float32", 1e-8)):
        s = np.array([1.0, small, -2.0, 0.0], dtype=dtype)
        value, g = regularizer.of_values(s, SHAPE)
        wanted, slopes = regularizer.of_values(s[[0, 2]], SHAPE)
        assert value == wanted and g[1] == g[3] == 0.0 and np.array_equal(g[[0, 2]], slopes)


@given(data=st.data())
@each_case
def test_of_values_in_any_order(name, options, measure, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    r = data.draw(st.integers(1, 6))
    s, order = rng.standard_normal(r), rng.permutation(r)
    signs = rng.choice([-1.0, 1.0], r)
    regularizer = nn.Regularizer(name, data.draw(st.sampled_from([0.0, 1e-3, 2.0])), **options)
    value, g = regularizer.of_values(s, SHAPE)
    other, turned = regularizer.of_values((signs * s)[order], SHAPE)
    assert other == pytest.approx(value, rel=1e-13)
    assert np.allclose(turned, (signs * g)[order], rtol=1e-13, atol=0)


@each_case
def test_every_library_and_dtype(typed_eager_library, name, options, measure, rng):
    library, dtype = typed_eager_library
    regularizer = nn.Regularizer(name, 0.3, **options, orthogonality=0.5)
    U, s, V = svd_of(VALUES, *SHAPE, dtype="complex128" if dtype.startswith("complex") else "float64")
    exact, slopes = regularizer.of_values(s, SHAPE)
    there = library.asarray(s.astype(dtype))
    value, g = regularizer.of_values(there, SHAPE)
    assert library.owns(g) and g.dtype == there.dtype and value == pytest.approx(exact, rel=50 * eps(dtype))
    assert relative_error(g, slopes) < 50 * eps(dtype)
    W = library.asarray(((U * s) @ V.conj().T).astype(dtype))
    value, G = regularizer.penalty(W)
    assert library.owns(G) and G.dtype == W.dtype and value == pytest.approx(exact, rel=200 * eps(dtype))
    tall = library.asarray((2 * U).astype(dtype))
    value, G = regularizer.orthogonality_penalty(tall)
    assert type(value) is float and value == pytest.approx(0.5 * 9 * 6 / 36, rel=50 * eps(dtype))
    assert library.owns(G) and G.dtype == tall.dtype
    assert relative_error(G, 4 * 0.5 * 2 * 3 / 36 * U) < 50 * eps(dtype)


def test_jax(monkeypatch):
    jax = pytest.importorskip("jax")
    s = jax.numpy.asarray(VALUES, dtype="float32")
    value, g = nn.Regularizer("gini", 0.3, orthogonality=1.0).of_values(s, SHAPE)
    assert isinstance(g, jax.Array) and g.dtype == "float32"
    assert value == pytest.approx(0.3 * (1 - compress.gini(np.diag(VALUES))), rel=1e-6)
    value, G = nn.Regularizer("gini", 0.3, orthogonality=1.0).orthogonality_penalty(
        2 * jax.numpy.eye(5)[:, :3]
    )
    assert value == pytest.approx(3.0, rel=1e-6) and isinstance(G, jax.Array)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_orthogonality(dtype, rng):
    """λ_o ‖UᴴU - I‖²/r², zero for orthonormal columns, against central differences."""
    regularizer = nn.Regularizer("nuclear", 0.0, orthogonality=0.7)
    U = normal(rng, (8, 3), dtype)
    value, G = regularizer.orthogonality_penalty(U)
    assert value == pytest.approx(0.7 * np.linalg.norm(U.conj().T @ U - np.eye(3)) ** 2 / 9, rel=1e-13)
    for _ in range(3):
        X = normal(rng, (8, 3), dtype)
        wanted = slope(lambda h, X=X: regularizer.orthogonality_penalty(U + h * X)[0])
        assert np.vdot(G, X).real == pytest.approx(wanted, rel=1e-8)
    value, G = regularizer.orthogonality_penalty(random_orthonormal(rng, 8, 3, dtype))
    assert value < 1e-28 and np.linalg.norm(G) < 1e-14
    assert nn.Regularizer("nuclear", 1.0).orthogonality_penalty(U)[0] == 0.0


def test_a_measure_of_ones_own(rng):
    regularizer = nn.Regularizer(squares, 0.3)
    Y = random_lowrank(rng, *SHAPE, 3)
    for W in (normal(rng, SHAPE), Y):
        value, G = regularizer.penalty(W)
        assert value == pytest.approx(0.15 * np.linalg.norm(dense(W)) ** 2, rel=1e-13)
        assert relative_error(G, 0.3 * dense(W)) < 1e-14
    value, g = regularizer.of_values(VALUES, SHAPE)
    assert value == pytest.approx(0.15 * VALUES @ VALUES) and np.allclose(g, 0.3 * VALUES, rtol=1e-13)
    seen = []

    def watched(W, return_gradient):
        seen.append(W)
        return 1.0, W.to_dense()

    _, g = nn.Regularizer(watched, 2.0).of_values(VALUES[:4], (5, 7))
    assert np.allclose(g, 2 * VALUES[:4]) and seen[0].shape == (5, 7)
    same = nn.Regularizer(compress.effective_rank, 0.3)
    by_name = nn.Regularizer("effective-rank", 0.3)
    for a, b in zip(same.of_values(VALUES, SHAPE), by_name.of_values(VALUES, SHAPE), strict=True):
        assert np.allclose(a, b, rtol=1e-11)


def test_which_layers():
    shapes = [(10, 1), (20, 10), (1, 20), (6, 8)]

    def chosen(regularizer):
        regularizer.check(shapes)
        return [i for i, shape in enumerate(shapes) if regularizer.applies(i, shape)]

    assert chosen(nn.Regularizer("nuclear", 1.0)) == [0, 1, 2, 3]
    assert chosen(nn.Regularizer("effective-rank", 1.0)) == [0, 1, 2, 3]
    assert chosen(nn.Regularizer("hoyer", 1.0)) == [1, 3]
    assert chosen(nn.Regularizer("gini", 1.0, layers=[3, 0])) == [0, 3]
    assert chosen(nn.Regularizer("sorted-l1", 1.0, weights=WEIGHTS)) == [3]
    assert chosen(nn.Regularizer("sorted-l1", 1.0, weights=lambda N: np.arange(N, 0, -1))) == [0, 1, 2, 3]
    assert chosen(nn.Regularizer(squares, 1.0, layers=np.arange(2))) == [0, 1]
    nn.Regularizer("hoyer", 1.0).check([(3, 1)])


@pytest.mark.parametrize(
    ("regularizer", "error", "message"),
    [
        (
            nn.Regularizer("nuclear", 1.0, layers=[0, 4]),
            ValueError,
            "index 4, but the network has 3 weights.*to 2",
        ),
        (nn.Regularizer("hoyer", 1.0, layers=[2]), ValueError, r"hoyer needs min\(m, n\) >= 2.*\(1, 20\)"),
        (
            nn.Regularizer("sorted-l1", 1.0, weights=WEIGHTS, layers=[0]),
            ValueError,
            r"weights must be min\(m, n\) = 10 numbers",
        ),
        (
            nn.Regularizer("sorted-l1", 1.0, weights=[1.0, 0.5]),
            ValueError,
            r"weights of Regularizer are 2 numbers, but no weight.*\[10, 6, 1\].*weights\(N\)",
        ),
        (
            nn.Regularizer("sorted-l1", 1.0, weights=lambda N: [1.0, 0.5]),
            ValueError,
            r"weights must be min\(m, n\) = 10 numbers",
        ),
    ],
)
def test_what_a_network_does_not_allow(regularizer, error, message):
    with pytest.raises(error, match=message):
        regularizer.check([(20, 10), (6, 8), (1, 20)])


@pytest.mark.parametrize("name", ["effective-rank", "hoyer", "gini"])
def test_a_weight_that_is_zero(name):
    regularizer = nn.Regularizer(name, 1.0)
    for call in (
        lambda: regularizer.penalty(np.zeros(SHAPE)),
        lambda: regularizer.penalty(LowRank(np.zeros((9, 2)), None, np.zeros((6, 2)))),
        lambda: regularizer.of_values(np.zeros(3), SHAPE),
    ):
        with pytest.raises(ValueError, match=rf"'{name}' is not defined for a weight that is zero: .*layers"):
            call()
    value, G = nn.Regularizer("nuclear", 1.0).penalty(np.zeros(SHAPE))
    assert value == 0.0 and not G.any()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            ("rank", 1.0),
            {},
            ValueError,
            "measure of Regularizer must be a callable or one of 'nuclear'.*got 'rank'",
        ),
        (
            (None, 1.0),
            {},
            TypeError,
            "measure of Regularizer must be a callable or one of 'nuclear'.*got None",
        ),
        (("nuclear", -1.0), {}, ValueError, "strength of Regularizer must be finite and >= 0, got -1"),
        (("nuclear", math.inf), {}, ValueError, "strength of Regularizer must be finite"),
        (("nuclear", math.nan), {}, ValueError, "strength of Regularizer must be finite"),
        (("nuclear", "1"), {}, TypeError, "strength of Regularizer must be a real number, got '1'"),
        (
            ("nuclear", 1.0),
            {"orthogonality": -1},
            ValueError,
            "orthogonality of Regularizer must be finite and >= 0",
        ),
        (("nuclear", 1.0), {"p": 1.0}, ValueError, "'nuclear' of Regularizer does not take p"),
        ((squares, 1.0), {"p": 1.0}, ValueError, "of Regularizer does not take p"),
        (("schatten", 1.0), {}, ValueError, "'schatten' of Regularizer needs p"),
        (("schatten", 1.0), {"p": 0}, ValueError, "p must be positive"),
        (("sorted-l1", 1.0), {}, ValueError, "needs weights"),
        (
            ("sorted-l1", 1.0),
            {"weights": [1.0, 2.0]},
            ValueError,
            "weights must be finite, >= 0 and descending",
        ),
        (("sorted-l1", 1.0), {"weights": []}, ValueError, "weights must be"),
        (("sorted-l1", 1.0), {"weights": [[1.0]]}, ValueError, "weights must be"),
        (("sorted-l1", 1.0), {"weights": "heavy"}, TypeError, "weights must be a sequence of real numbers"),
        (("two-level-l1", 1.0), {"rho": 2.0}, ValueError, "needs share"),
        (("two-level-l1", 1.0), {"rho": 0.5, "share": 0.5}, ValueError, "rho must be finite and at least 1"),
        (("two-level-l1", 1.0), {"rho": 2.0, "share": 2}, ValueError, r"share must lie in \[0, 1\]"),
        (("nuclear", 1.0), {"layers": 1}, TypeError, "layers of Regularizer must be a sequence of indices"),
        (("nuclear", 1.0), {"layers": []}, ValueError, "layers of Regularizer must be different indices"),
        (("nuclear", 1.0), {"layers": [1, 1]}, ValueError, "layers of Regularizer must be different indices"),
        (("nuclear", 1.0), {"layers": [-1]}, ValueError, "layers of Regularizer must be different indices"),
        (("nuclear", 1.0), {"layers": [0.5]}, TypeError, "an index in layers of Regularizer must be an int"),
    ],
)
def test_refused_options(arguments, options, error, message):
    with pytest.raises(error, match=message):
        nn.Regularizer(*arguments, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r.penalty(np.ones(3)), ValueError, "must be a matrix"),
        (lambda r: r.penalty(np.full((3, 3), np.nan)), ValueError, "contains NaN"),
        (lambda r: r.of_values([1.0], SHAPE), TypeError, "s must be an array, got list"),
        (lambda r: r.of_values(np.ones((2, 2)), SHAPE), ValueError, r"s must be a vector of 1 to .* = 6"),
        (lambda r: r.of_values(np.ones(7), SHAPE), ValueError, r"s must be a vector .*got shape \(7,\)"),
        (lambda r: r.of_values(np.ones(0), SHAPE), ValueError, "s must be a vector"),
        (lambda r: r.of_values(np.ones(2, dtype=int), SHAPE), TypeError, "s must have dtype"),
        (lambda r: r.of_values(np.array([1.0, np.inf]), SHAPE), ValueError, "s contains NaN or infinite"),
        (lambda r: r.orthogonality_penalty(np.ones(3)), ValueError, "must be a matrix"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.Regularizer("nuclear", 1.0, orthogonality=1.0))


def test_a_callable_that_returns_something_else():
    with pytest.raises(TypeError, match=r"measure of Regularizer must return \(value, G\), got float"):
        nn.Regularizer(lambda W, return_gradient: 1.0, 1.0).penalty(np.eye(3))
    with pytest.raises(ValueError, match=r"as an array or a LowRank of shape \(3, 3\), got .*\(2, 2\)"):
        nn.Regularizer(lambda W, return_gradient: (1.0, np.eye(2)), 1.0).penalty(np.eye(3))


def test_it_is_a_value():
    one = nn.Regularizer("sorted-l1", 1, weights=np.array([2.0, 1.0]), layers=[1, 0])
    assert one == nn.Regularizer("sorted-l1", 1.0, weights=(2.0, 1.0), layers=(1, 0))
    assert hash(one) == hash(nn.Regularizer("sorted-l1", 1.0, weights=(2.0, 1.0), layers=(1, 0)))
    assert "weights=(2.0, 1.0)" in one.identity() and "strength=1.0" in one.identity()
    assert nn.Regularizer(squares, 1.0).identity().startswith("Regularizer(measure=squares, strength=1.0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.strength = 2.0


def test_it_is_imported_when_asked_for():
    code = "import sys, dlra.nn; assert 'dlra.nn.regularizers' not in sys.modules; dlra.nn.Regularizer('gini', 1.0)"
    subprocess.run([sys.executable, "-c", code], check=True)
