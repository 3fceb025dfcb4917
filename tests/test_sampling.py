"""Index selection and interpolation: conditioning, exactness on the subspace, oversampling, bad input."""

import numpy as np
import pytest
from helpers import DTYPES, M, R, eps, random_orthonormal, to_numpy
from hypothesis import given
from hypothesis import strategies as st

from dlra.sampling import interpolation, oversampled, qdeim


def inverse_norm(U, p):
    return 1 / np.linalg.svd(to_numpy(U)[p], compute_uv=False)[-1]


def test_qdeim_interpolates_exactly_in_every_library(typed_library, rng):
    library, dtype = typed_library
    U = library.asarray(random_orthonormal(rng, M, R, dtype))
    p = qdeim(U)
    assert isinstance(p, np.ndarray) and p.dtype.kind == "i" and len(set(p.tolist())) == R
    P = interpolation(U, p)
    assert library.owns(P) and P.dtype == U.dtype and tuple(P.shape) == (M, R)
    A = to_numpy(U) @ rng.standard_normal((R, 5))
    assert np.linalg.norm(to_numpy(P) @ A[p] - A) <= 100 * eps(dtype) * np.linalg.norm(A)
    np.testing.assert_allclose(to_numpy(P)[p], np.eye(R), atol=100 * eps(dtype))


def test_oversampling_in_every_library(typed_eager_library, rng):
    library, dtype = typed_eager_library
    U = library.asarray(random_orthonormal(rng, M, R, dtype))
    p = qdeim(U, R + 4)
    assert p[:R].tolist() == qdeim(U).tolist() and len(set(p.tolist())) == R + 4
    P = interpolation(U, p)
    assert library.owns(P) and P.dtype == U.dtype and tuple(P.shape) == (M, R + 4)
    expected = to_numpy(U) @ np.linalg.pinv(to_numpy(U)[p])
    np.testing.assert_allclose(to_numpy(P), expected, atol=100 * eps(dtype))


@given(
    st.integers(1, 12),
    st.integers(0, 40),
    st.integers(0, 10),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
)
def test_bounds_hold_and_oversampling_never_hurts(r, extra, more, dtype, seed):
    m = r + extra
    U = random_orthonormal(np.random.default_rng(seed), m, r, dtype)
    p = qdeim(U)
    before = inverse_norm(U, p)
    assert before <= np.sqrt((m - r + 1) * (4.0**r + 6 * r - 1)) / 3 * (1 + 1e-4)
    norms = [before]
    for count in range(r + 1, min(r + more, m) + 1):
        q = qdeim(U, count)
        assert q[:r].tolist() == p.tolist() and np.unique(q).size == count
        norms.append(inverse_norm(U, q))
    assert np.all(np.diff(norms) <= 100 * eps(dtype) * before)
    if norms[1:] and r + more >= m:
        assert norms[-1] == pytest.approx(1, abs=100 * eps(dtype))  # all rows: U itself


def test_oversampling_takes_the_row_of_largest_leverage(rng):
    U = random_orthonormal(rng, 60, 6, "complex128")
    p = qdeim(U)
    for _ in range(8):
        C = U @ np.linalg.pinv(U[p])
        leverage = np.linalg.norm(C, axis=1)
        leverage[p] = 0
        grown = oversampled(U, p, p.size + 1)
        assert grown[-1] == np.argmax(leverage)
        p = grown
    assert p.tolist() == qdeim(U, 14).tolist()
    shrinkage = inverse_norm(U, p) / inverse_norm(U, qdeim(U))
    assert shrinkage < 0.7, shrinkage


def test_extreme_rows_come_first():
    U = np.linalg.qr(np.stack([np.eye(200)[137], np.linspace(1, 2, 200)], axis=1))[0]
    assert 137 in qdeim(U)
    weighted = U * np.asarray([1.0, 1e-12])
    assert qdeim(weighted)[0] == 137 and qdeim(U, 1).size == 1


def test_the_choice_depends_on_the_space_only(rng):
    U = random_orthonormal(rng, 50, 5, "complex128")
    W = random_orthonormal(rng, 5, 5, "complex128")
    assert qdeim(U).tolist() == qdeim(U @ W).tolist()
    assert qdeim(U, 9).tolist() == qdeim(U @ W, 9).tolist()


def test_dependent_columns_still_give_distinct_indices():
    U = np.ones((9, 3))
    assert np.unique(qdeim(U, 6)).size == 6
    with pytest.raises(ValueError, match="do not determine"):
        interpolation(U, qdeim(U))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda U: qdeim([[1.0]]), TypeError, "U must be an array"),
        (lambda U: qdeim(U.T), ValueError, "tall matrix"),
        (lambda U: qdeim(U * np.nan), ValueError, "NaN"),
        (lambda U: qdeim(U, 0), ValueError, "count must lie between 1 and the 12"),
        (lambda U: qdeim(U, 2.0), TypeError, "count must be an int"),
        (lambda U: oversampled(U, qdeim(U), 2), ValueError, "count must lie between the 3"),
        (lambda U: oversampled(U, [0, 0, 1], 5), ValueError, "distinct"),
        (lambda U: interpolation(U, [0, 1]), ValueError, "at least as many"),
        (lambda U: interpolation(U, [0, 1, 12]), ValueError, "from 0 to 11"),
        (lambda U: interpolation(U, [0.5, 1.0, 2.0]), TypeError, "row indices"),
    ],
)
def test_bad_input(rng, call, error, match):
    with pytest.raises(error, match=match):
        call(random_orthonormal(rng, M, R))
