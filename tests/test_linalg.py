"""Orthonormalise, augment, truncate, rotate: orthonormal to a few ulp whatever the input."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    DTYPES,
    M,
    N,
    R,
    eps,
    get_library,
    normal,
    orthonormality,
    random_lowrank,
    random_orthonormal,
    relative_error,
    to_numpy,
)
from hypothesis import given
from hypothesis import strategies as st

from dlra import LowRank, linalg
from dlra.backend import norm

# array-api-strict squares the entries before a norm that overflows is scaled
pytestmark = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value) encountered in multiply:RuntimeWarning"
)

SCALES = {
    "float32": (1e-30, 1e-22, 1e-8, 1.0, 1e20, 1e30),
    "complex64": (1e-30, 1e-22, 1e-8, 1.0, 1e20, 1e30),
    "float64": (1e-290, 1e-170, 1e-8, 1.0, 1e160, 1e290),
    "complex128": (1e-290, 1e-170, 1e-8, 1.0, 1e160, 1e290),
}


def wide(a):
    """The same numbers in double precision, real or complex."""
    a = to_numpy(a)
    return a.astype("complex128" if a.dtype.kind == "c" else "float64")


def distance_to_span(X, Q) -> float:
    """‖X - QQᴴX‖ / ‖X‖ in double precision, safe for any scale of X."""
    X, Q = wide(X), wide(Q)
    largest = np.max(np.abs(X), initial=0.0)
    if largest == 0.0:
        return 0.0
    X = X / largest
    return float(np.linalg.norm(X - Q @ (Q.conj().T @ X)) / np.linalg.norm(X))


def check_basis(Q, *, like, columns) -> None:
    """Orthonormal to a few ulp, of the dtype of ``like``, at most ``columns`` columns."""
    assert Q.dtype == like.dtype
    assert Q.shape[0] == like.shape[0]
    assert Q.shape[1] <= min(columns, like.shape[0])
    assert orthonormality(Q) <= 30 * eps(to_numpy(Q).dtype)


# ---- orthonormalize ------------------------------------------------------------------------------------------


def test_orthonormalize_spans_the_range_at_any_scale(typed_library, rng):
    library, dtype = typed_library
    for scale in SCALES[dtype]:
        host = (scale * normal(rng, (M, R), dtype)).astype(dtype)
        A = library.asarray(host)
        Q = linalg.orthonormalize(A)
        assert library.owns(Q)
        check_basis(Q, like=A, columns=R)
        assert Q.shape[1] == R, f"independent columns were dropped at scale {scale}"
        assert distance_to_span(A, Q) <= 20 * eps(dtype)


def test_orthonormalize_drops_dependent_columns_at_any_scale(typed_eager_library, rng):
    library, dtype = typed_eager_library
    for scale in SCALES[dtype]:
        B = random_orthonormal(rng, M, 2, dtype)
        A = library.asarray((scale * (B @ np.array([[1, 0, 1], [0, 1, -2]]))).astype(dtype))
        Q = linalg.orthonormalize(A)
        check_basis(Q, like=A, columns=R)
        assert Q.shape[1] == 2, f"rank {Q.shape[1]} at scale {scale}"
        assert distance_to_span(A, Q) <= 20 * eps(dtype)


@pytest.mark.parametrize("condition", [1e2, 1e8, 1e12, 1e16, 1e30])
def test_orthonormalize_is_orthonormal_for_any_condition_number(library, rng, condition):
    # A Gram matrix would have the square of this condition number
    A = random_orthonormal(rng, M, R) * np.geomspace(1, 1 / condition, R) @ random_orthonormal(rng, R, R).T
    Q = linalg.orthonormalize(library.asarray(A))
    check_basis(Q, like=library.asarray(A), columns=R)
    assert distance_to_span(A, Q) <= 20 * eps("float64")


def test_orthonormalize_columns_of_very_different_scale(library, rng):
    A = normal(rng, (M, R)) * np.array([1e-290, 1e290, 1.0])
    Q = linalg.orthonormalize(library.asarray(A))
    check_basis(Q, like=library.asarray(A), columns=R)
    assert distance_to_span(A, Q) <= 20 * eps("float64")
    assert distance_to_span(A[:, 1:2], Q) <= 20 * eps("float64")


def test_orthonormalize_special_shapes(eager_library, rng):
    zero = linalg.orthonormalize(eager_library.asarray(np.zeros((5, 3))))
    assert zero.shape == (5, 0)
    empty = linalg.orthonormalize(eager_library.asarray(np.zeros((5, 0))))
    assert empty.shape == (5, 0)
    fat = eager_library.asarray(normal(rng, (3, 7)))
    Q = linalg.orthonormalize(fat)
    check_basis(Q, like=fat, columns=7)
    assert Q.shape == (3, 3)
    one = linalg.orthonormalize(eager_library.asarray([[-2.0]]))
    assert one.shape == (1, 1) and abs(abs(float(one[0, 0])) - 1) < 1e-15


def test_a_dependence_hidden_from_the_diagonal_of_r():
    # Kahan's matrix: no diagonal entry of R is small although the matrix is close to singular
    n, angle = 60, 1.2
    s, c = np.sin(angle), np.cos(angle)
    A = np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    A = np.vstack([A, np.zeros((5, n))])
    Q = linalg.orthonormalize(A)
    check_basis(Q, like=A, columns=n)
    assert distance_to_span(A, Q) <= 20 * eps("float64")


# ---- augment -------------------------------------------------------------------------------------------------


def check_augmented(U, U0, X, *, dtype) -> None:
    r, k = U0.shape[1], X.shape[1]
    check_basis(U, like=U0, columns=r + k)
    assert to_numpy(U)[:, :r].tobytes() == to_numpy(U0).tobytes(), (
        "the leading columns are not U0, bit for bit"
    )
    assert distance_to_span(X, U) <= 20 * eps(dtype)


def test_augment_keeps_u0_and_spans_x_at_any_scale(typed_library, rng):
    library, dtype = typed_library
    U0 = library.asarray(random_orthonormal(rng, M, R, dtype))
    for scale in SCALES[dtype]:
        X = library.asarray((scale * normal(rng, (M, R), dtype)).astype(dtype))
        U = linalg.augment(U0, X)
        assert library.owns(U)
        check_augmented(U, U0, X, dtype=dtype)
        assert U.shape == (M, 2 * R), f"directions were lost at scale {scale}"
        np.testing.assert_allclose(wide(U).conj().T @ wide(U0), np.eye(2 * R, R), atol=30 * eps(dtype))


@pytest.mark.parametrize("share", [1.0, 1e-4, 1e-8])
def test_augment_keeps_the_new_part_of_an_increment(typed_library, rng, share):
    """The part of X outside span U0 is found to rounding of X, though it be a small share of it."""
    library, dtype = typed_library
    host_U0 = random_orthonormal(rng, M, R, dtype)
    new = random_orthonormal(rng, M, R, dtype)
    X = host_U0 @ normal(rng, (R, R), dtype) + np.asarray(share, dtype=host_U0.real.dtype) * new
    for scale in (1.0, 1e-8):
        scaled = (scale * X).astype(dtype)
        U = linalg.augment(library.asarray(host_U0), library.asarray(scaled))
        check_augmented(U, library.asarray(host_U0), library.asarray(scaled), dtype=dtype)


def test_increments_keep_their_digits_in_single_precision(eager_library, rng):
    """An increment 1e-8 of the state is represented to rounding of itself; [K1 | U0] would lose it all."""
    U0 = random_orthonormal(rng, 50, 5, "float32")
    for size in (1e-2, 1e-4, 1e-8, 1e-12):
        dK = (size * normal(rng, (50, 5))).astype("float32")
        U = linalg.augment(eager_library.asarray(U0), eager_library.asarray(dK))
        assert distance_to_span(dK, U) <= 4e-7


@pytest.mark.parametrize("size", [1e-8, 1e-10, 1e-15, 1e-100])
def test_augment_stays_orthonormal_where_cholesky_breaks_down(library, rng, size):
    """cond [U0 | K1] grows as 1/size when K1 is U0 S0 and a small increment."""
    U0 = random_orthonormal(rng, M, R)
    U = linalg.augment(library.asarray(U0), library.asarray(size * normal(rng, (M, R))))
    assert U.shape == (M, 2 * R)
    assert orthonormality(U) <= 1e-14
    K1 = U0 @ normal(rng, (R, R)) + size * normal(rng, (M, R))
    U = linalg.augment(library.asarray(U0), library.asarray(K1))
    assert orthonormality(U) <= 1e-14
    assert distance_to_span(K1, U) <= 20 * eps("float64")


def test_augment_drops_what_is_already_there(library, rng):
    U0 = random_orthonormal(rng, M, R)
    inside = library.asarray(U0 @ normal(rng, (R, R)))
    assert linalg.augment(library.asarray(U0), inside).shape == (M, R)
    x = normal(rng, (M, 1))
    twice = library.asarray(np.hstack([x, 3 * x, x + U0[:, :1]]))
    U = linalg.augment(library.asarray(U0), twice)
    assert U.shape == (M, R + 1)
    check_augmented(U, library.asarray(U0), twice, dtype="float64")
    assert linalg.augment(library.asarray(U0), library.asarray(np.zeros((M, R)))).shape == (M, R)
    assert linalg.augment(library.asarray(U0), library.asarray(np.zeros((M, 0)))).shape == (M, R)


def test_augment_never_exceeds_the_number_of_rows(eager_library, rng):
    U0 = eager_library.asarray(random_orthonormal(rng, 6, 4))
    X = eager_library.asarray(normal(rng, (6, 5)))
    U = linalg.augment(U0, X)
    assert U.shape == (6, 6)
    check_augmented(U, U0, X, dtype="float64")
    full = eager_library.asarray(random_orthonormal(rng, 4, 4))
    assert linalg.augment(full, eager_library.asarray(normal(rng, (4, 2)))).shape == (4, 4)


@given(data=st.data())
def test_augment_and_orthonormalize_for_any_input(data):
    dtype = data.draw(st.sampled_from(DTYPES), label="dtype")
    m = data.draw(st.integers(1, 14), label="m")
    r = data.draw(st.integers(1, m), label="r")
    k = data.draw(st.integers(0, 16), label="k")
    inner = data.draw(st.integers(0, min(m, k)), label="rank of X")
    low = -25 if dtype in ("float32", "complex64") else -280
    exponents = data.draw(
        st.lists(st.integers(low, -low), min_size=k, max_size=k), label="scales of the columns"
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    U0 = random_orthonormal(rng, m, r, dtype)
    scales = np.asarray(10.0 ** np.asarray(exponents, dtype=float)).astype(U0.real.dtype)
    X = ((normal(rng, (m, inner), dtype) @ normal(rng, (inner, k), dtype)) * scales).astype(dtype)
    if not np.all(np.isfinite(X)):
        return
    check_augmented(linalg.augment(U0, X), U0, X, dtype=dtype)
    Q = linalg.orthonormalize(X)
    check_basis(Q, like=X, columns=k)
    assert distance_to_span(X, Q) <= 20 * eps(dtype)


# ---- what they refuse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_not_dropped(library, rng, bad):
    host = normal(rng, (M, R))
    host[2, 1] = bad
    with pytest.raises(ValueError, match=r"A contains NaN or infinite values"):
        linalg.orthonormalize(library.asarray(host))
    U0 = library.asarray(random_orthonormal(rng, M, R))
    with pytest.raises(ValueError, match=r"X contains NaN or infinite values"):
        linalg.augment(U0, library.asarray(host))


def test_wrong_arguments_are_named(library):
    A = library.asarray(np.eye(3))
    with pytest.raises(TypeError, match=r"A must be an array.*list"):
        linalg.orthonormalize([[1.0]])
    with pytest.raises(
        ValueError, match=r"A must be a matrix of shape \(m, r\), got an array of shape \(3,\)"
    ):
        linalg.orthonormalize(A[0, :])
    with pytest.raises(
        ValueError, match=r"same number of rows, got U0 of shape \(3, 3\) and X of shape \(2, 3\)"
    ):
        linalg.augment(A, A[:2, :])
    with pytest.raises(TypeError, match=r"X must be an array"):
        linalg.augment(A, None)


def test_two_libraries_do_not_mix(foreign):
    with pytest.raises(TypeError, match=r"different libraries do not mix"):
        linalg.augment(np.eye(3)[:, :1], foreign.asarray(np.ones((3, 1))))


# ---- truncate ------------------------------------------------------------------------------------------------


def with_singular_values(rng, s, library=None, dtype="float64", m=M, n=N) -> LowRank:
    """U S Vᴴ of these singular values, with a dense core and factors that are not orthonormal."""
    r = len(s)
    P, Q = random_orthonormal(rng, r, r, dtype), random_orthonormal(rng, r, r, dtype)
    core = (P * np.asarray(s, dtype=P.real.dtype)) @ Q.conj().T
    TU, TV = (normal(rng, (r, r), dtype) + 3 * np.eye(r) for _ in range(2))
    U, V = random_orthonormal(rng, m, r, dtype) @ TU, random_orthonormal(rng, n, r, dtype) @ TV
    core = np.linalg.solve(TU, core) @ np.linalg.inv(TV).conj().T
    library = library or get_library("numpy")
    return LowRank(*(library.asarray(a.astype(dtype)) for a in (U, core, V)))


@pytest.mark.parametrize(
    ("s", "options", "expected"),
    [
        # the tail counts as a whole: sqrt(3^2 + 4^2) = 5
        ((10, 4, 3), {"atol": 5.0 + 1e-9}, 1),
        ((10, 4, 3), {"atol": 4.9}, 2),
        ((10, 4, 3), {"atol": 2.9}, 3),
        # value by value 4 <= 4.5 and 3 <= 4.5 would both go
        ((10, 4, 3), {"atol": 4.5}, 2),
        # relative to the norm of Y, not to its largest singular value
        ((3, 4), {"rtol": 0.61}, 1),
        ((3, 4), {"rtol": 0.59}, 2),
        # the larger of the two tolerances
        ((10, 4, 3), {"atol": 0.1, "rtol": 0.5}, 1),
        ((10, 4, 3), {"atol": 6.0, "rtol": 1e-3}, 1),
        # bounds
        ((10, 4, 3), {"atol": 100.0}, 1),
        ((10, 4, 3), {"atol": 100.0, "min_rank": 2}, 2),
        ((10, 4, 3), {"max_rank": 2}, 2),
        ((10, 4, 3), {"atol": 5.1, "max_rank": 2}, 1),
        ((10, 4, 3), {"min_rank": 3, "max_rank": 3}, 3),
        ((10, 4, 3), {"min_rank": 7}, 3),
        ((10, 4, 3), {"max_rank": 7}, 3),
        ((10, 4, 3), {}, 3),
        ((1, 1, 1, 1), {"atol": 1.5}, 2),
    ],
)
def test_truncation_rule(rng, s, options, expected):
    check_truncation(with_singular_values(rng, s), s, options, expected)


def test_truncation_rule_in_every_library(eager_library, rng):
    for options, expected in (({"atol": 5.0 + 1e-9}, 1), ({"rtol": 0.3}, 2)):
        check_truncation(with_singular_values(rng, (10, 4, 3), eager_library), (10, 4, 3), options, expected)


def check_truncation(Y, s, options, expected):
    Y1, discarded = linalg.truncate(Y, **options)
    kept = np.sort(np.asarray(s, dtype=float))[::-1]
    assert Y1.rank == expected
    np.testing.assert_allclose(discarded, np.linalg.norm(kept[expected:]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.diag(to_numpy(Y1.S)), kept[:expected], rtol=1e-12)
    assert np.count_nonzero(to_numpy(Y1.S) - np.diag(np.diag(to_numpy(Y1.S)))) == 0
    assert max(orthonormality(Y1.U), orthonormality(Y1.V)) < 1e-14
    error = np.linalg.norm(to_numpy(Y1.to_dense()) - to_numpy(Y.to_dense()))
    np.testing.assert_allclose(error, discarded, rtol=1e-12, atol=1e-12)


@given(
    s=st.lists(st.floats(1e-8, 1e8), min_size=1, max_size=8),
    rtol=st.floats(0, 1.5),
    atol=st.floats(0, 1e8),
    min_rank=st.integers(1, 9),
    extra=st.none() | st.integers(0, 9),
)
def test_the_dropped_tail_is_the_largest_allowed(s, rtol, atol, min_rank, extra):
    s = np.sort(np.asarray(s))[::-1]
    max_rank = None if extra is None else min_rank + extra
    rank, discarded = linalg.truncation_rank(s, rtol, atol, min_rank, max_rank)
    theta = max(atol, rtol * np.linalg.norm(s))
    slack = 1e-12 * np.linalg.norm(s)
    np.testing.assert_allclose(discarded, np.linalg.norm(s[rank:]), rtol=1e-12)
    assert min(min_rank, s.size) <= rank <= min(max_rank or s.size, s.size)
    if rank > min_rank:  # dropping one more would exceed the tolerance
        assert np.linalg.norm(s[rank - 1 :]) >= theta - slack
    if rank < s.size and rank != max_rank:  # what was dropped is within it
        assert np.linalg.norm(s[rank:]) <= theta + slack


def test_truncation_is_the_best_approximation(typed_eager_library, rng):
    library, dtype = typed_eager_library
    Y = with_singular_values(rng, (5, 2, 1), library, dtype)
    best = np.linalg.svd(wide(Y.to_dense()))
    expected = (best[0][:, :2] * best[1][:2]) @ best[2][:2]
    Y1, _ = linalg.truncate(Y, max_rank=2)
    assert library.owns(Y1.U) and Y1.dtype == Y.dtype
    assert relative_error(Y1, expected) <= 100 * eps(dtype)


def test_truncate_zero_keeps_one_direction(eager_library):
    zero = LowRank(*(eager_library.asarray(np.zeros(shape)) for shape in ((M, R), (R, R), (N, R))))
    Y1, discarded = linalg.truncate(zero, rtol=1e-3)
    assert Y1.rank == 1 and discarded == 0.0
    assert orthonormality(Y1.U) < 1e-15 and not np.any(to_numpy(Y1.to_dense()))


def test_truncate_huge_and_tiny_matrices(typed_library, rng):
    library, dtype = typed_library
    for scale in SCALES[dtype]:
        Y = random_lowrank(rng, M, N, R, dtype, library, decay=0.1)
        Y = LowRank(Y.U, library.asarray((scale * to_numpy(Y.S)).astype(dtype)), Y.V)
        Y1, discarded = linalg.truncate(Y, rtol=0.05)
        assert Y1.rank == 2, f"at scale {scale}"
        np.testing.assert_allclose(
            discarded, 0.01 * scale, rtol=1e-3 if "32" in dtype or "64" in dtype else 1e-9
        )


# ---- rotate, embed, block_diagonal, norm ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotate_keeps_orthonormality_over_many_steps(rng, dtype):
    U = random_orthonormal(rng, 30, 5, dtype)
    P = random_orthonormal(rng, 5, 5, dtype)
    Q = U
    for _ in range(10_000):
        Q = linalg.rotate(Q, P)
    assert Q.dtype == np.dtype(dtype)
    assert orthonormality(Q) <= 10 * eps(dtype)
    assert distance_to_span(U, Q) <= 3e3 * eps(dtype), "the span drifted"


def test_rotate_in_every_library(eager_library, rng):
    U, P = random_orthonormal(rng, M, R, "complex128"), random_orthonormal(rng, R, R, "complex128")
    assert relative_error(linalg.rotate(eager_library.asarray(U), eager_library.asarray(P)), U @ P) < 1e-15


def test_embed_and_block_diagonal(eager_library, rng):
    A, B = normal(rng, (2, 3), "complex128"), normal(rng, (1, 2), "complex128")
    S = linalg.embed(eager_library.asarray(A), 4, 5)
    expected = np.zeros((4, 5), dtype=complex)
    expected[:2, :3] = A
    np.testing.assert_array_equal(to_numpy(S), expected)
    D = linalg.block_diagonal(eager_library.asarray(A), eager_library.asarray(B))
    expected = np.zeros((3, 5), dtype=complex)
    expected[:2, :3], expected[2:, 3:] = A, B
    np.testing.assert_array_equal(to_numpy(D), expected)
    assert eager_library.owns(S) and eager_library.owns(D)


def test_norm_neither_overflows_nor_underflows(typed_eager_library):
    library, dtype = typed_eager_library
    for scale in SCALES[dtype]:
        A = library.asarray(np.full((3, 3), scale, dtype=dtype))
        np.testing.assert_allclose(norm(A) / scale, 3.0, rtol=1e-6)
    assert norm(library.asarray(np.zeros((3, 3), dtype=dtype))) == 0.0
    assert norm(library.asarray(np.zeros((3, 0), dtype=dtype))) == 0.0
    assert np.isnan(norm(library.asarray(np.full((2, 2), np.nan, dtype=dtype))))
    assert norm(library.asarray(np.asarray([[np.inf, 1.0]], dtype=dtype))) == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["random", "tiny", "graded", "dependent", "inside", "mixed"])
def test_tall_matrices_are_augmented_as_well_by_products(monkeypatch, rng, dtype, case):
    """Block Gram-Schmidt beyond some number of rows: the same span as Householder QR, as orthonormal."""
    m, r = 400, 8
    U0, X = random_orthonormal(rng, m, r, dtype), normal(rng, (m, r), dtype)
    X = {
        "random": X,
        "tiny": U0 + 1e-3 * eps(dtype) ** 0.5 * X,
        "graded": X * 10.0 ** -np.arange(r),
        "dependent": np.repeat(X[:, : r // 2], 2, axis=1),
        "inside": U0 @ X[:r],
        "mixed": np.concatenate((U0[:, :4], 1e-12 * X[:, 4:]), axis=1),
    }[case].astype(dtype)
    expected = linalg.augment(U0, X)
    monkeypatch.setattr(linalg, "_TALL", 10)
    U = linalg.augment(U0, X)
    assert U.shape == expected.shape and np.array_equal(U[:, :r], U0)
    assert orthonormality(U) <= 40 * eps(dtype)
    assert distance_to_span(X, U) <= 40 * eps(dtype)
