"""Measures of low rank: values by definition, invariances, every array library, and what they refuse."""

from __future__ import annotations

import inspect
import math
import re

import numpy as np
import pytest
from helpers import eps, normal, random_lowrank, random_orthonormal

from dlra import LowRank, compress
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
    "schatten_0.3": (lambda A: schatten_norm(A, 0.3), lambda s: (s**0.3).sum() ** (1 / 0.3)),
    "schatten_1": (lambda A: schatten_norm(A, 1), lambda s: s.sum()),
    "schatten_2": (lambda A: schatten_norm(A, 2), lambda s: math.sqrt((s**2).sum())),
    "schatten_inf": (lambda A: schatten_norm(A, math.inf), lambda s: s.max()),
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
    "sorted_l1": (lambda A: sorted_l1(A, WEIGHTS), lambda s: (np.array(WEIGHTS) * s).sum()),
    "two_level_l1": (lambda A: two_level_l1(A, 1.5, count=2), lambda s: 1.5 * s[:2].sum() + s[2:].sum()),
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
