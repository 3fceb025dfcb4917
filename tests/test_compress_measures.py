"""Measures of low rank: values by definition, invariances, every array library, and what they refuse."""

from __future__ import annotations

import inspect
import math
import re
from functools import partial

import numpy as np
import pytest
from helpers import dense, eps, normal, random_lowrank, random_orthonormal, relative_error
from hypothesis import given
from hypothesis import strategies as st

from dlra import LowRank, LowRankStack, compress
from dlra.compress import (
    effective_rank,
    gini,
    hoyer,
    nuclear_norm,
    schatten_norm,
    sorted_l1,
    two_level_l1,
)

S = np.array([4.0, 2.0, 1.0, 0.5, 0.0, 0.0])
WEIGHTS = [3.0, 2.5, 2.0, 1.0, 1.0, 0.0]

BY_DEFINITION = {
    "nuclear_norm": (nuclear_norm, lambda s: s.sum()),
    "schatten_0.3": (partial(schatten_norm, p=0.3), lambda s: (s**0.3).sum() ** (1 / 0.3)),
    "schatten_1": (partial(schatten_norm, p=1), lambda s: s.sum()),
    "schatten_2": (partial(schatten_norm, p=2), lambda s: math.sqrt((s**2).sum())),
    "schatten_3": (partial(schatten_norm, p=3), lambda s: (s**3).sum() ** (1 / 3)),
    "schatten_inf": (partial(schatten_norm, p=math.inf), lambda s: s.max()),
    "effective_rank": (
        effective_rank,
        lambda s: math.exp(-sum(x / s.sum() * math.log(x / s.sum()) for x in s if x > 0)),
    ),
    "hoyer": (
        hoyer,
        lambda s: (math.sqrt(len(s)) - s.sum() / math.sqrt((s**2).sum())) / (math.sqrt(len(s)) - 1),
    ),
    "gini": (
        gini,
        lambda s: 1 - 2 * sum(x / s.sum() * (len(s) - i + 0.5) / len(s) for i, x in enumerate(sorted(s), 1)),
    ),
    "sorted_l1": (partial(sorted_l1, weights=WEIGHTS), lambda s: (np.array(WEIGHTS) * s).sum()),
    "two_level_l1": (partial(two_level_l1, rho=1.5, count=2), lambda s: 1.5 * s[:2].sum() + s[2:].sum()),
}
SCALE_FREE = (effective_rank, hoyer, gini)

each_measure = pytest.mark.parametrize(("measure", "definition"), BY_DEFINITION.values(), ids=BY_DEFINITION)


def matrix(s, m, n, dtype="float64", seed=0):
    """U diag(s) Vᴴ."""
    rng = np.random.default_rng(seed)
    U, V = random_orthonormal(rng, m, len(s), dtype), random_orthonormal(rng, n, len(s), dtype)
    return (U * s) @ V.conj().T


@each_measure
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_by_definition(measure, definition, dtype):
    for m, n in ((6, 6), (9, 6), (6, 9)):
        assert measure(matrix(S, m, n, dtype)) == pytest.approx(definition(S), rel=1e-12)


@each_measure
def test_every_library_and_dtype_gives_a_float(typed_library, measure, definition):
    library, dtype = typed_library
    rng = np.random.default_rng(1)
    core = matrix(S[:4], 4, 4, dtype)
    U, V = random_orthonormal(rng, 9, 4, dtype), random_orthonormal(rng, 6, 4, dtype)
    factors = [library.asarray(a.astype(dtype)) for a in (U, core, V)]
    for A in (library.asarray((U @ core @ V.conj().T).astype(dtype)), LowRank(*factors)):
        value = measure(A)
        assert type(value) is float
        assert value == pytest.approx(definition(S), rel=200 * eps(dtype))


@each_measure
def test_a_lowrank_gives_what_its_dense_matrix_gives(measure, definition, rng):
    """Factors that are not orthonormal, a core that is not diagonal, rectangular, or absent; of too high a rank."""
    U, V = normal(rng, (9, 3)), normal(rng, (6, 3))
    wide = LowRank(np.hstack([U, U]), normal(rng, (6, 5)), np.hstack([V, V[:, :2]]))
    for Y in (
        LowRank(U, normal(rng, (3, 3)), V),
        LowRank(U, None, V),
        wide,
        LowRank(U, normal(rng, (3, 3)), V).T,
    ):
        assert measure(Y) == pytest.approx(measure(Y.to_dense()), rel=1e-11)


def test_a_lowrank_is_never_made_dense(rng, monkeypatch):
    def refused(self):
        raise AssertionError("made dense")

    Y = random_lowrank(rng, 40, 30, 3)
    monkeypatch.setattr(LowRank, "to_dense", refused)
    assert nuclear_norm(Y) == pytest.approx(float(np.sum(Y.singular_values())), rel=1e-13)
    assert 1 <= effective_rank(Y) <= 3


@pytest.mark.parametrize("measure", SCALE_FREE)
def test_scale_free(measure):
    A = matrix(S, 8, 6)
    for c in (-3.0, 1e-200, 1e200):
        assert measure(c * A) == pytest.approx(measure(A), rel=1e-12)
    assert measure(A.astype("float32") * np.float32(1e-30)) == pytest.approx(measure(A), rel=1e-4)


def test_norms_scale_with_the_matrix():
    A = matrix(S, 8, 6)
    for norm_of in (nuclear_norm, lambda A: schatten_norm(A, 0.5), lambda A: sorted_l1(A, WEIGHTS)):
        assert norm_of(1e200 * A) == pytest.approx(1e200 * norm_of(A), rel=1e-12)
    assert schatten_norm(A, 1e-3) == math.inf, "more than the largest float"


@pytest.mark.parametrize("N", [2, 5, 30])
def test_extremes(N):
    one, equal = np.zeros(N), np.full(N, 3.0)
    one[0] = 7.0
    for make in (np.diag, lambda s: matrix(s, N, N + 3)):
        assert effective_rank(make(one)) == pytest.approx(1.0, abs=1e-12)
        assert effective_rank(make(equal)) == pytest.approx(N, rel=1e-12)
        assert hoyer(make(one)) == pytest.approx(1.0, rel=1e-12)
        assert hoyer(make(equal)) == pytest.approx(0.0, abs=1e-12)
        assert gini(make(one)) == pytest.approx(1 - 1 / N, rel=1e-12)
        assert gini(make(equal)) == pytest.approx(0.0, abs=1e-12)


def test_signs_do_not_count():
    assert hoyer(np.diag([1.0, -1.0])) == pytest.approx(0.0, abs=1e-15)
    assert gini(np.diag([1.0, -1.0, 1j])) == pytest.approx(0.0, abs=1e-15)


def test_rounding_errors_count_as_zero_singular_values():
    """0.1 is the power: 1e-17^0.1 is 0.02, for each of 37 zeros."""
    A = matrix(np.array([1.0, 0.5, 0.25]), 40, 40)
    exact = (1 + 0.5**0.1 + 0.25**0.1) ** 10
    assert schatten_norm(A, 0.1) == pytest.approx(exact, rel=1e-12)
    assert schatten_norm(A.astype("float32"), 0.1) == pytest.approx(exact, rel=1e-5)


def test_zero_matrix_and_one_row():
    zero = np.zeros((4, 3))
    assert nuclear_norm(zero) == schatten_norm(zero, 0.5) == sorted_l1(zero, [1, 1, 1]) == 0.0
    assert two_level_l1(zero, 2.0, count=1) == 0.0
    row = np.array([[3.0, 4.0]])
    assert effective_rank(row) == 1.0 and gini(row) == 0.0 and nuclear_norm(row) == 5.0
    for measure in SCALE_FREE:
        with pytest.raises(ValueError, match=rf"{measure.__name__} is not defined for the zero matrix"):
            measure(zero)
    with pytest.raises(ValueError, match=r"hoyer needs min\(m, n\) >= 2.*got A of shape \(1, 2\)"):
        hoyer(row)


def test_two_level_of_a_count_or_a_share():
    A = np.diag(S)
    assert two_level_l1(A, 2.0, count=3) == two_level_l1(A, 2.0, share=0.5) == 14.5
    assert two_level_l1(A, 2.0, count=1) == 11.5 and two_level_l1(A, 2.0, share=1) == 15.0
    assert two_level_l1(A, 2.0, count=0) == two_level_l1(A, 1.0, count=4) == nuclear_norm(A)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda A: nuclear_norm([[1.0]]), TypeError, "A must be an array or a LowRank, got list"),
        (lambda A: nuclear_norm(A[0]), ValueError, r"A must be a matrix, got an array of shape \(6,\)"),
        (lambda A: nuclear_norm(A.astype(int)), TypeError, "A must have dtype .*got int64"),
        (lambda A: nuclear_norm(A[:0]), ValueError, r"A must not be empty, got shape \(0, 6\)"),
        (lambda A: gini(A * np.nan), ValueError, "A contains NaN or infinite"),
        (lambda A: gini(LowRank(A, A / 0, A)), ValueError, "A.S contains NaN or infinite"),
        (lambda A: schatten_norm(A, 0), ValueError, "p must be positive"),
        (lambda A: schatten_norm(A, -1.0), ValueError, "p must be positive.*got -1"),
        (lambda A: schatten_norm(A, math.nan), ValueError, "p must be positive"),
        (lambda A: schatten_norm(A, "1"), TypeError, "p must be a real number, got '1'"),
        (lambda A: sorted_l1(A, [1, 2]), ValueError, r"weights must be min\(m, n\) = 6 numbers"),
        (lambda A: sorted_l1(A, "x"), TypeError, "weights must be a sequence"),
        (lambda A: sorted_l1(A, range(6)), ValueError, "weights must be finite, >= 0 and descending"),
        (lambda A: sorted_l1(A, [1, 1, 1, 1, 1, -1]), ValueError, "weights must be finite, >= 0"),
        (lambda A: sorted_l1(A, [math.nan] * 6), ValueError, "weights must be finite"),
        (lambda A: two_level_l1(A, 0.5, count=1), ValueError, "rho must be finite and at least 1, got 0.5"),
        (lambda A: two_level_l1(A, 2.0, count=7), ValueError, "count must lie between 0 and .*= 6, got 7"),
        (lambda A: two_level_l1(A, 2.0, count=1.5), TypeError, "count must be an int, got 1.5"),
        (lambda A: two_level_l1(A, 2.0, share=1.5), ValueError, r"share must lie in \[0, 1\], got 1.5"),
        (lambda A: two_level_l1(A, 2.0, share="x"), TypeError, "share must be a real number"),
        (lambda A: two_level_l1(A, 2.0), ValueError, "give count or share"),
        (lambda A: two_level_l1(A, 2.0, count=1, share=0.5), ValueError, "give count or share"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(np.diag(S))


MEASURES = ("nuclear_norm", "schatten_norm", "effective_rank", "hoyer", "gini", "sorted_l1", "two_level_l1")


def test_public_names_are_documented():
    """Each with an example; a measure with the equation that defines it."""
    for name in compress.__all__:
        assert ">>>" in inspect.getdoc(getattr(compress, name)), name
    for name in MEASURES:
        sections = inspect.getdoc(getattr(compress, name)).split("References\n----------\n")
        assert len(sections) == 2 and re.match(r"Ou et al., equation \(\d\d\)", sections[1]), name


def test_a_schatten_norm_is_infinite_only_beyond_the_floats():
    tiny = 1e-200 * np.diag([1.0, 0.5, 0.25])
    assert 1e270 < schatten_norm(tiny, 1e-3) < 1e290
    assert schatten_norm(np.diag([1.0, 0.5, 0.25]), 1e-3) == math.inf


def test_hoyer_is_never_below_zero():
    assert all(hoyer(np.eye(n) * 0.1) >= 0 for n in range(2, 40))


def test_overflow_is_infinite_without_a_warning(recwarn):
    assert sorted_l1(1e308 * np.eye(3), [3.0, 2.0, 1.0]) == math.inf
    assert not recwarn


def test_missing_weights():
    with pytest.raises(TypeError, match="weights must be a sequence of real numbers, got None"):
        sorted_l1(np.eye(3), None)


# ---- gradients

FULL = np.array([4.0, 2.7, 1.6, 0.9, 0.5, 0.2])
SCALE_FREE_NAMES = ("effective_rank", "hoyer", "gini")
CONVEX = (
    "nuclear_norm",
    "schatten_1",
    "schatten_2",
    "schatten_3",
    "schatten_inf",
    "sorted_l1",
    "two_level_l1",
)


def slope(f, h=2e-3):
    """f'(0) by central differences of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def product(G, X):
    """Re tr(GᴴX)."""
    return float(np.vdot(dense(G), dense(X)).real)


def factored(rng, m, n, r, dtype="float64"):
    """Rank r, on factors that are not orthonormal."""
    return LowRank(normal(rng, (m, r), dtype), normal(rng, (r, r), dtype), normal(rng, (n, r), dtype))


@each_measure
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradient_against_central_differences(measure, definition, dtype, rng):
    for m, n in ((6, 6), (9, 6), (6, 9)):
        A = matrix(FULL, m, n, dtype)
        value, G = measure(A, return_gradient=True)
        assert type(value) is float and value == pytest.approx(measure(A), rel=1e-13)
        assert type(G) is np.ndarray and G.dtype == A.dtype and G.shape == A.shape
        for _ in range(3):
            X = normal(rng, (m, n), dtype)
            X = X / np.linalg.norm(X)
            wanted = slope(lambda h, A=A, X=X: measure(A + h * X))
            assert product(G, X) == pytest.approx(wanted, rel=1e-6, abs=1e-8 * np.linalg.norm(G))


@each_measure
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradient_of_a_lowrank_by_its_core(measure, definition, dtype, rng):
    """Among matrices on the bases of G; rank 3 of 6."""
    for m, n in ((6, 6), (9, 6), (6, 9)):
        Y = factored(rng, m, n, 3, dtype)
        value, G = measure(Y, return_gradient=True)
        assert type(G) is LowRank and G.rank == 3 and G.dtype == Y.dtype
        assert value == pytest.approx(measure(Y), rel=1e-12)
        for Q, factor in ((G.U, Y.U), (G.V, Y.V)):
            assert np.linalg.norm(Q.conj().T @ Q - np.eye(3)) < 1e-14
            assert np.linalg.norm(factor - Q @ (Q.conj().T @ factor)) < 1e-13 * np.linalg.norm(factor)
        S = G.U.conj().T @ Y.to_dense() @ G.V
        X = normal(rng, (3, 3), dtype)
        wanted = slope(lambda h, G=G, S=S, X=X: measure(LowRank(G.U, S + h * X, G.V)))
        assert np.vdot(G.S, X).real == pytest.approx(wanted, rel=1e-6, abs=1e-7 * np.linalg.norm(G.S))


@each_measure
def test_gradient_of_a_lowrank_is_that_of_its_dense_matrix(measure, definition, rng):
    """Ranks that differ, a core that is rectangular or absent, rank-deficient, more columns than rows."""
    U, V = normal(rng, (9, 3)), normal(rng, (6, 3))
    for Y in (
        LowRank(U, normal(rng, (3, 3)), V),
        LowRank(U, None, V),
        LowRank(U, normal(rng, (3, 2)), V[:, :2]),
        LowRank(np.hstack([U, U]), normal(rng, (6, 5)), np.hstack([V, V[:, :2]])),
        LowRank(normal(rng, (9, 8)), normal(rng, (8, 8)), normal(rng, (6, 8))),
        LowRank(U, normal(rng, (3, 3)), V).T,
    ):
        value, G = measure(Y, return_gradient=True)
        wanted, direct = measure(Y.to_dense(), return_gradient=True)
        assert value == pytest.approx(wanted, rel=1e-11)
        assert relative_error(G, direct) < 1e-9


@each_measure
def test_gradient_keeps_orthonormal_factors(measure, definition, rng):
    known = random_lowrank(rng, 9, 6, 3).truncate()
    for Y in (known, LowRank(*known.factors), random_lowrank(rng, 9, 6, 3)):
        G = measure(Y, return_gradient=True)[1]
        assert G.U is Y.U and G.V is Y.V


def test_gradient_of_a_large_lowrank(rng):
    """Of 4e9 entries."""
    Y = LowRank(normal(rng, (80_000, 3)), None, normal(rng, (50_000, 3)))
    for measure in (nuclear_norm, effective_rank, gini):
        value, G = measure(Y, return_gradient=True)
        assert value == pytest.approx(measure(Y), rel=1e-12) and G.shape == Y.shape


@each_measure
def test_gradient_in_every_library_and_dtype(typed_library, measure, definition):
    library, dtype = typed_library
    wide = "complex128" if dtype.startswith("complex") else "float64"
    core = matrix(S[:4], 4, 4, wide)
    rng = np.random.default_rng(1)
    U, V = random_orthonormal(rng, 9, 4, wide), random_orthonormal(rng, 6, 4, wide)
    exact = measure(U @ core @ V.conj().T, return_gradient=True)[1]
    factors = [library.asarray(a.astype(dtype)) for a in (U, core, V)]
    A = library.asarray((U @ core @ V.conj().T).astype(dtype))
    value, G = measure(A, return_gradient=True)
    assert type(value) is float and library.owns(G) and G.dtype == A.dtype
    assert relative_error(G, exact) < 500 * eps(dtype)
    value, G = measure(LowRank(*factors), return_gradient=True)
    assert type(value) is float and type(G) is LowRank and all(library.owns(a) for a in G.factors)
    assert G.dtype == A.dtype and relative_error(G, exact) < 500 * eps(dtype)


@given(data=st.data())
@each_measure
def test_gradients_of_any_shape(measure, definition, data):
    """<G, A> is the value of a norm and 0 otherwise, also for matrices of low rank; c A has the gradient G or G/c."""
    m, n = (data.draw(st.integers(6, 12)) for _ in range(2))
    if sorted((m, n))[0] > 6:
        m = 6  # the weights are six
    r = data.draw(st.integers(1, 6))
    dtype = data.draw(st.sampled_from(["float64", "complex128"]))
    name = next(k for k, v in BY_DEFINITION.items() if v[0] is measure)
    Y = factored(np.random.default_rng(data.draw(st.integers(0, 2**20))), m, n, r, dtype)
    c = data.draw(st.sampled_from([1e-3, 0.5, 7.0, 1e100]))
    for A in (Y, Y.to_dense()):
        value, G = measure(A, return_gradient=True)
        size = np.linalg.norm(dense(G)) * np.linalg.norm(dense(A))
        degree = 0 if name in SCALE_FREE_NAMES else 1
        assert abs(product(G, A) - degree * value) <= 1e-10 * max(size, 1)
        scaled = measure(c * A, return_gradient=True)[1]
        assert np.linalg.norm(dense(scaled) * c ** (1 - degree) - dense(G)) <= 1e-8 * (
            np.linalg.norm(dense(G)) + size * 1e-6
        )


def test_gradients_known_by_hand(rng):
    A = matrix(FULL, 8, 6, "complex128")
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    assert relative_error(nuclear_norm(A, return_gradient=True)[1], U @ Vh) < 1e-13
    assert relative_error(schatten_norm(A, 2, return_gradient=True)[1], A / np.linalg.norm(A)) < 1e-13
    assert relative_error(schatten_norm(A, math.inf, return_gradient=True)[1], U[:, :1] @ Vh[:1]) < 1e-13
    top = two_level_l1(A, 3.0, count=2, return_gradient=True)[1]
    assert relative_error(top, U @ Vh + 2 * U[:, :2] @ Vh[:2]) < 1e-13
    row = np.array([[3.0, -4.0]])
    assert relative_error(nuclear_norm(row, return_gradient=True)[1], row / 5) < 1e-15
    for measure in (effective_rank, gini):
        assert not measure(row, return_gradient=True)[1].any()


@pytest.mark.parametrize("name", CONVEX)
def test_gradients_of_norms_are_subgradients(name, rng):
    """f(B) >= f(A) + <G, B - A>, at singular values that are equal, or zero."""
    measure = BY_DEFINITION[name][0]
    for s in ([2.0] * 6, [3.0, 3.0, 1.0, 1.0, 0.0, 0.0], [1.0, 0, 0, 0, 0, 0], [0.0] * 6):
        A = matrix(np.array(s), 7, 6)
        value, G = measure(A, return_gradient=True)
        for size in (1e-3, 1.0, 1e3):
            B = A + size * normal(rng, (7, 6))
            assert measure(B) >= value + product(G, B - A) - 1e-12 * measure(B)


@each_measure
def test_zero_singular_values_have_derivative_zero(measure, definition):
    A = matrix(S, 9, 6)
    G = measure(A, return_gradient=True)[1]
    U, _, Vh = np.linalg.svd(A)
    assert np.linalg.norm(U[:, 4:].T @ G) < 1e-13 * np.linalg.norm(G)
    assert np.linalg.norm(G @ Vh[4:].T) < 1e-13 * np.linalg.norm(G)
    noisy = A + 1e-17 * np.ones((9, 6))
    assert relative_error(measure(noisy, return_gradient=True)[1], G) < 1e-10


def test_gradients_at_zero_and_at_equal_values():
    zero = np.zeros((4, 3))
    empty = LowRank(np.zeros((4, 2)), None, np.zeros((3, 2)))
    for A in (zero, empty):
        for norm_of in (nuclear_norm, partial(schatten_norm, p=0.5), partial(schatten_norm, p=math.inf)):
            value, G = norm_of(A, return_gradient=True)
            assert value == 0.0 and G.shape == (4, 3) and not dense(G).any()
        for measure in SCALE_FREE:
            with pytest.raises(ValueError, match="is not defined for the zero matrix"):
                measure(A, return_gradient=True)
    for measure in (effective_rank, hoyer):
        assert np.linalg.norm(measure(0.3 * np.eye(5), return_gradient=True)[1]) < 1e-14
    G = gini(0.3 * np.eye(4), return_gradient=True)[1]
    wanted = (1 - np.array([1, 3, 5, 7]) / 4) / 1.2
    assert np.allclose(np.sort(np.linalg.svdvals(G)), np.sort(abs(wanted)), atol=1e-14)


def test_large_and_small_gradients(recwarn):
    A = matrix(FULL, 8, 6)
    for measure in SCALE_FREE:
        G = measure(A, return_gradient=True)[1]
        for c in (1e-200, 1e200):
            scaled = measure(c * A, return_gradient=True)[1]
            assert np.linalg.norm(c * scaled - G) < 1e-11 * np.linalg.norm(G)
        single = A.astype("float32") * np.float32(1e-30)
        scaled = measure(single, return_gradient=True)[1]
        assert scaled.dtype == np.float32
        assert np.linalg.norm(1e-30 * scaled.astype(float) - G) < 1e-4 * np.linalg.norm(G)
        with pytest.raises(ValueError, match=r"from .* exceeds the range of float32: scale A up"):
            measure(np.diag(np.array([2e-40, 1e-40, 0.0], dtype="float32")), return_gradient=True)
    for large in (1e308 * np.eye(6), np.float32(3e38) * np.eye(6, dtype="float32")):
        for norm_of in (nuclear_norm, partial(schatten_norm, p=2), partial(sorted_l1, weights=WEIGHTS)):
            G = norm_of(large, return_gradient=True)[1]
            assert np.isfinite(G).all() and G.any() and G.dtype == large.dtype
    with pytest.raises(ValueError, match="exceeds the range of float64"):
        schatten_norm(A, 1e-3, return_gradient=True)
    assert not recwarn


def test_gradient_is_asked_for_by_keyword():
    with pytest.raises(TypeError, match="positional argument"):
        nuclear_norm(np.eye(2), True)


def test_a_stack_is_no_matrix(rng):
    with pytest.raises(ValueError, match=r"A must be a matrix, got a stack of shape \(2, 5, 4\)"):
        nuclear_norm(LowRankStack(normal(rng, (2, 5, 2)), None, normal(rng, (2, 4, 2))))
