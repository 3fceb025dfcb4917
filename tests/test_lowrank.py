"""LowRank: every operator against dense NumPy, truncation, slicing, and what it refuses."""

from __future__ import annotations

import copy
import operator
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from helpers import (
    DTYPES,
    M,
    N,
    R,
    dense,
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

import dlra
from dlra import LazySum, LowRank, lazy, linalg, lowrank
from dlra.backend import dtype_name, same_dtype


def loose(rng, m, n, r1, r2, dtype="float64", library=None, core=True) -> LowRank:
    """A LowRank of badly scaled, far from orthonormal factors, and a core of any shape or none."""
    library = library or get_library("numpy")
    U, V = 30 * normal(rng, (m, r1), dtype), normal(rng, (n, r2), dtype) / 7
    S = library.asarray(normal(rng, (r1, r2), dtype)) if core else None
    return LowRank(library.asarray(U.astype(dtype)), S, library.asarray(V.astype(dtype)))


def variants(rng, dtype, library, m=M, n=N) -> dict[str, LowRank]:
    """One matrix of each kind that the code treats differently (fewer for JAX, which compiles for each)."""
    some = {"rectangular core": loose(rng, m, n, R, 2, dtype, library)}
    if library.name != "jax":
        some["no core"] = loose(rng, m, n, 2, 2, dtype, library, core=False)
        some["orthonormal"] = random_lowrank(rng, m, n, R, dtype, library)
        some["known orthonormal"] = random_lowrank(rng, m, n, R, dtype, library).truncate()
        Q = some["known orthonormal"]
        K, L = library.asarray(normal(rng, (m, R), dtype)), library.asarray(normal(rng, (n, R), dtype))
        some["lift of the K-step"] = LowRank._make(K, None, Q.V, linalg.RIGHT)
        some["lift of the L-step"] = LowRank._make(Q.U, None, L, linalg.LEFT)
        some["orthonormal, no core"] = LowRank._make(Q.U, None, Q.V, linalg.BOTH)
        some["sum"] = random_lowrank(rng, m, n, 2, dtype, library) + loose(rng, m, n, 1, 2, dtype, library)
        some["sum without cores"] = some["no core"] + some["no core"]
    return some


def wide(Y) -> np.ndarray:
    """The dense matrix formed in double precision."""
    U, S, V = (to_numpy(a).astype("complex128") for a in Y.factors)
    D = U @ S @ V.conj().T
    return D if "complex" in dtype_name(Y.dtype) else D.real


def check(result, expected, library, dtype, tolerance=200) -> None:
    """``result`` is a LowRank of this library and dtype with the entries ``expected``."""
    assert isinstance(result, LowRank)
    assert library.owns(result.U) and library.owns(result.S) and library.owns(result.V)
    assert {
        dtype_name(a.dtype) for a in (result.dtype, result.U, result.S, result.V) if hasattr(a, "dtype")
    } == {dtype}
    assert result.shape == expected.shape
    for Q, side in ((result.U, linalg.LEFT), (result.V, linalg.RIGHT)):
        assert not result._orthonormal & side or orthonormality(Q) <= 50 * eps(dtype), "a wrong claim"
    assert relative_error(result, expected) <= tolerance * eps(dtype)
    assert relative_error(result.to_dense(), expected) <= tolerance * eps(dtype)


# ---- operators -----------------------------------------------------------------------------------------------

UNARY = {
    "T": lambda Y: Y.T,
    "H": lambda Y: Y.T.conj() if isinstance(Y, np.ndarray) else Y.H,
    "conj": lambda Y: Y.conj(),
    "neg": lambda Y: -Y,
    "pos": lambda Y: +Y,
    "double": lambda Y: 2 * Y,
    "times float": lambda Y: Y * 0.3,
    "divided": lambda Y: Y / 4,
    "numpy scalar": lambda Y: np.float64(0.5) * Y,
    "numpy scalar behind": lambda Y: Y * np.int64(3),
    "sum of a list": lambda Y: sum([Y, Y, -2.5 * Y]),
    "difference": lambda Y: Y - 0.25 * Y,
    "square": lambda Y: Y * Y,
    "gram": lambda Y: Y @ (Y.T.conj() if isinstance(Y, np.ndarray) else Y.H),
    "adjoint of a sum": lambda Y: (Y + 3 * Y).T,
}


@pytest.mark.parametrize("operation", UNARY)
def test_operators_of_one_matrix(typed_library, rng, operation):
    library, dtype = typed_library
    for Y in variants(rng, dtype, library).values():
        expected = UNARY[operation](wide(Y))
        check(UNARY[operation](Y), expected, library, dtype, tolerance=500)


BINARY = {
    "sum": operator.add,
    "difference": operator.sub,
    "entrywise product": operator.mul,
}


@pytest.mark.parametrize("operation", BINARY)
def test_operators_of_two_matrices(typed_library, rng, operation):
    library, dtype = typed_library
    some = variants(rng, dtype, library)
    partner = loose(rng, M, N, 2, R, dtype, library)
    for Y in some.values():
        result = BINARY[operation](Y, partner)
        check(result, BINARY[operation](wide(Y), wide(partner)), library, dtype, tolerance=500)
        if operation == "entrywise product":
            assert result.U.shape[1] == Y.U.shape[1] * partner.U.shape[1]


@pytest.mark.parametrize("square", [False, True])
def test_products_with_arrays(typed_library, rng, square):
    library, dtype = typed_library
    n = M if square else N
    A, B = normal(rng, (M, M), dtype), normal(rng, (n, n), dtype)
    x, y = normal(rng, n, dtype), normal(rng, M, dtype)
    a, b = library.asarray(A), library.asarray(B)
    for Y in variants(rng, dtype, library, n=n).values():
        D = dense(Y)
        check(dlra.matmul(a, Y), A @ D, library, dtype)
        check(Y @ b, D @ B, library, dtype)
        for product, expected in (
            (Y @ library.asarray(x), D @ x),
            (dlra.matmul(library.asarray(y), Y), y @ D),
            (lazy.apply(Y, b), D @ B),
            (lazy.apply_adjoint(Y, a), D.conj().T @ A),
            (lazy.apply(Y, Y.V), D @ to_numpy(Y.V)),
            (lazy.apply_adjoint(Y, Y.U), D.conj().T @ to_numpy(Y.U)),
        ):
            assert library.owns(product) and dtype_name(product.dtype) == dtype
            assert relative_error(product, expected) <= 200 * eps(dtype)


def test_products_of_two_low_rank_matrices(typed_library, rng):
    library, dtype = typed_library
    Z = loose(rng, N, M, 2, R, dtype, library)
    for Y in variants(rng, dtype, library).values():
        check(Y @ Z, dense(Y) @ dense(Z), library, dtype)
        check(Z @ Y, dense(Z) @ dense(Y), library, dtype)


def test_scaling_of_rows_and_columns(typed_library, rng):
    library, dtype = typed_library
    column, row = normal(rng, (M, 1), dtype), normal(rng, (1, N), dtype)
    for Y in variants(rng, dtype, library).values():
        check(Y * library.asarray(column), dense(Y) * column, library, dtype)
        check(Y * library.asarray(row), dense(Y) * row, library, dtype)


def test_scalars_of_the_library(library, rng):
    Y = random_lowrank(rng, M, N, R, "float64", library)
    c = library.asarray(np.float64(0.25))
    check(Y * c, 0.25 * dense(Y), library, "float64")
    check(Y / c, 4 * dense(Y), library, "float64")


def test_complex_numbers_make_a_real_matrix_complex(eager_library, rng):
    for single, wide in (("float32", "complex64"), ("float64", "complex128")):
        Y = random_lowrank(rng, M, N, R, single, eager_library)
        check((0.5 - 2j) * Y, (0.5 - 2j) * dense(Y), eager_library, wide)
        Y = loose(rng, M, N, 2, 2, single, eager_library, core=False)
        check(Y / 1j, dense(Y) / 1j, eager_library, wide)


def test_scalars_of_numpy_do_not_widen(eager_library, rng):
    Y = random_lowrank(rng, M, N, R, "float32", eager_library)
    for c in (np.float64(0.1), np.int64(2), 0.1, 2):
        check(c * Y, float(c) * dense(Y).astype("float64"), eager_library, "float32")
        check(Y / c, dense(Y).astype("float64") / float(c), eager_library, "float32")


def test_dtypes_promote_as_numpy_does(rng):
    Y = random_lowrank(rng, M, N, R, "float32")
    A, C = normal(rng, (M, M)), normal(rng, (N, N), "complex64")
    numpy = get_library("numpy")
    check(A @ Y, A @ wide(Y), numpy, "float64")
    check(Y @ C, wide(Y) @ C, numpy, "complex64")
    check(Y + Y.astype("complex128"), 2 * wide(Y), numpy, "complex128")
    check(Y * Y.astype("float64"), wide(Y) ** 2, numpy, "float64")


# ---- operators of other libraries hand over --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "cupy"])
def test_arrays_in_front_hand_over(name, rng):
    library = get_library(name)
    A, D, column = (
        normal(rng, (M, M), "float32"),
        normal(rng, (M, N), "float32"),
        normal(rng, (M, 1), "float32"),
    )
    Y = random_lowrank(rng, M, N, R, "float32", library)
    a, d = library.asarray(A), library.asarray(D)
    check(a @ Y, A @ dense(Y), library, "float32")
    check(library.asarray(column) * Y, column * dense(Y), library, "float32")
    check(library.asarray(np.float32(2)) * Y, 2 * dense(Y), library, "float32")
    for total, expected in (
        (d + Y, D + dense(Y)),
        (Y + d, D + dense(Y)),
        (d - Y, D - dense(Y)),
        (Y - d, dense(Y) - D),
    ):
        assert isinstance(total, LazySum), "the sum was formed"
        assert relative_error(total, expected) < 1e-6
    assert relative_error(library.asarray(A[0]) @ Y, A[0] @ dense(Y)) < 1e-6


@pytest.mark.parametrize("name", ["strict", "strict-device1"])
def test_array_api_strict_needs_matmul(name, rng):
    library = get_library(name)
    Y = random_lowrank(rng, M, N, R, "complex128", library)
    A, D = normal(rng, (M, M), "complex128"), normal(rng, (M, N), "complex128")
    with pytest.raises(TypeError, match="LowRank"):
        library.asarray(A) @ Y
    check(dlra.matmul(library.asarray(A), Y), A @ dense(Y), library, "complex128")
    assert relative_error(Y + library.asarray(D), dense(Y) + D) < 1e-15


def test_matmul_of_arrays_is_the_plain_product(library, rng):
    A, D = normal(rng, (M, M)), normal(rng, (M, N))
    product = dlra.matmul(library.asarray(A), library.asarray(D))
    assert library.owns(product) and relative_error(product, A @ D) < 1e-15


SPARSE = [sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.dia_array]


@pytest.mark.parametrize("kind", SPARSE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_products_with_sparse_matrices(rng, kind, dtype):
    numpy = get_library("numpy")
    A, B = (normal(rng, (k, k), dtype) * (rng.random((k, k)) < 0.3) for k in (M, N))
    a, b = kind(A), kind(B)
    for Y in variants(rng, dtype, numpy).values():
        check(a @ Y, A @ dense(Y), numpy, dtype)
        check(Y @ b, dense(Y) @ B, numpy, dtype)
        check(dlra.matmul(a, Y), A @ dense(Y), numpy, dtype)


@pytest.mark.parametrize("kind", SPARSE, ids=lambda kind: kind.__name__)
def test_sums_with_sparse_matrices(rng, kind):
    C = normal(rng, (M, N), "complex128") * (rng.random((M, N)) < 0.3)
    c = kind(C)
    Y = random_lowrank(rng, M, N, R, "complex128")
    for total, expected in (
        (c + Y, C + dense(Y)),
        (Y + c, C + dense(Y)),
        (c - Y, C - dense(Y)),
        (Y - c, dense(Y) - C),
    ):
        assert isinstance(total, LazySum)
        assert relative_error(total, expected) < 1e-14


def test_products_with_linear_operators(rng):
    A, B = normal(rng, (M, M), "complex128"), normal(rng, (N, N), "complex128")
    a, b = spla.aslinearoperator(A), spla.aslinearoperator(B)
    numpy = get_library("numpy")
    for Y in variants(rng, "complex128", numpy).values():
        check(dlra.matmul(a, Y), A @ dense(Y), numpy, "complex128")
        check(dlra.matmul(Y, b), dense(Y) @ B, numpy, "complex128")
        check(Y @ b, dense(Y) @ B, numpy, "complex128")
    with pytest.raises((TypeError, ValueError)):  # SciPy refuses before LowRank is asked
        a @ Y
    C = normal(rng, (M, N), "complex128")
    assert relative_error(Y + spla.aslinearoperator(C), dense(Y) + C) < 1e-14


# ---- sums stay lazy --------------------------------------------------------------------------------------------


def test_sums_of_many_terms_stay_lazy(typed_library, rng, monkeypatch):
    library, dtype = typed_library
    count = 4 if library.name == "jax" else 30
    terms = [random_lowrank(rng, M, N, R, dtype, library) for _ in range(count)]
    A, X, Z = (normal(rng, shape, dtype) for shape in ((M, M), (N, 2), (M, 2)))
    a, x, z = (library.asarray(B) for B in (A, X, Z))
    expected = sum(c * dense(Y) for c, Y in enumerate(terms, start=1))

    def refuse(*_):
        raise AssertionError("the factors of a sum were joined")

    with monkeypatch.context() as patch:
        patch.setattr(linalg, "block_diagonal", refuse)
        total = sum(c * Y for c, Y in enumerate(terms, start=1))
        assert isinstance(total, lowrank._Sum) and total.shape == (M, N) and same_dtype(total.dtype, dtype)
        results = [
            (lazy.apply(total, x), expected @ X),
            (lazy.apply_adjoint(total, z), expected.conj().T @ Z),
            (total @ x[:, 0], expected @ X[:, 0]),
            (lazy.apply(dlra.matmul(a, total) - total, x), (A @ expected - expected) @ X),
            (lazy.apply_adjoint(-0.5 * total, z), -0.5 * expected.conj().T @ Z),
        ]
    for result, wanted in results:
        assert library.owns(result)
        assert relative_error(result, wanted) <= 200 * eps(dtype)
    check(total, expected, library, dtype)
    assert total.rank == R * count


def test_a_sum_does_not_change_its_terms(rng):
    Y, Z = random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, R)
    first = Y + Z
    second = first + Y
    third = first - Z
    assert relative_error(first, dense(Y) + dense(Z)) < 1e-15
    assert relative_error(second, 2 * dense(Y) + dense(Z)) < 1e-15
    assert relative_error(third, dense(Y)) < 1e-15
    first += Z
    assert relative_error(third, dense(Y)) < 1e-15 and relative_error(first, dense(Y) + 2 * dense(Z)) < 1e-15


def test_a_sum_is_a_low_rank_matrix_to_its_user(rng):
    total = random_lowrank(rng, M, N, 2) + random_lowrank(rng, M, N, 1)
    assert repr(total) == f"LowRank(shape=({M}, {N}), rank=3, dtype=float64)"
    assert relative_error(pickle.loads(pickle.dumps(total)), total) == 0
    assert total.truncate(max_rank=2).rank == 2
    assert [a.shape for a in total.factors] == [(M, 3), (3, 3), (N, 3)]
    with pytest.raises(TypeError, match=r"^LowRank does not support np.sin.*to_dense"):
        np.sin(total)


# ---- norm, singular values, truncation -------------------------------------------------------------------------


def test_norm_and_singular_values(typed_library, rng):
    library, dtype = typed_library
    for Y in variants(rng, dtype, library).values():
        s = np.linalg.svd(dense(Y).astype("complex128"), compute_uv=False)
        values = Y.singular_values()
        assert library.owns(values)
        count = min(Y.U.shape[1], Y.V.shape[1])
        assert values.shape[0] >= min(M, N, count)
        got = np.zeros_like(s)
        got[: values.shape[0]] = to_numpy(values)
        np.testing.assert_allclose(got, s, atol=100 * eps(dtype) * s[0])
        assert isinstance(Y.norm(), float)
        np.testing.assert_allclose(Y.norm(), np.linalg.norm(s), rtol=100 * eps(dtype))


@pytest.mark.filterwarnings(
    "ignore:overflow encountered in multiply:RuntimeWarning"
)  # array-api-strict's squares
@pytest.mark.parametrize(
    ("dtype", "scales"), [("float32", (1e-30, 1e25, 1e30)), ("float64", (1e-280, 1e200, 1e290))]
)
def test_norm_of_huge_and_tiny_matrices(eager_library, rng, dtype, scales):
    for scale in scales:
        Y = random_lowrank(rng, M, N, R, dtype, eager_library)
        expected = scale * float(np.sqrt(1 + 0.25 + 0.0625))
        core = eager_library.asarray((scale * to_numpy(Y.S)).astype(dtype))
        assert abs(LowRank(Y.U, core, Y.V).norm() / expected - 1) < 1e-5
        # the same matrix from factors of opposite scale
        U, V = (
            eager_library.asarray((c * to_numpy(a)).astype(dtype))
            for c, a in ((scale, Y.U), (1 / scale, Y.V))
        )
        Z = LowRank(U, Y.S, V)
        assert abs(Z.norm() * scale / expected - 1) < 1e-5
        np.testing.assert_allclose(to_numpy(Z.singular_values()), [1, 0.5, 0.25], rtol=1e-5)
        assert relative_error(Z.truncate(), dense(Y)) < 1e-5


def test_orthonormalized(typed_eager_library, rng):
    library, dtype = typed_eager_library
    for Y in variants(rng, dtype, library).values():
        Q = Y.orthonormalized()
        assert max(orthonormality(Q.U), orthonormality(Q.V)) <= 30 * eps(dtype)
        check(Q, dense(Y), library, dtype)
        assert Q.orthonormalized() is Q


@pytest.mark.parametrize("dtype", DTYPES)
def test_truncate_does_not_change_what_it_may_not(rng, dtype):
    Y = random_lowrank(rng, M, N, 6, dtype, decay=0.1)
    assert relative_error(Y.truncate(), Y) <= 50 * eps(dtype)
    assert Y.truncate().rank == 6
    assert Y.truncate(rtol=0.5e-3).rank == 4
    assert Y.truncate(max_rank=2).rank == 2
    Z = loose(rng, M, N, 8, 8, dtype).truncate(rtol=100 * eps(dtype))
    assert max(orthonormality(Z.U), orthonormality(Z.V)) <= 30 * eps(dtype)


def test_truncate_of_factors_wider_than_the_matrix(eager_library, rng):
    Y = loose(rng, 3, 4, 5, 6, "float64", eager_library)
    Z = Y.truncate()
    assert Z.rank == 3 and Z.U.shape == (3, 3) and Z.V.shape == (4, 3)
    check(Z, dense(Y), eager_library, "float64")


# ---- construction --------------------------------------------------------------------------------------------


def test_from_svd_takes_what_svd_returns(typed_eager_library, rng):
    library, dtype = typed_eager_library
    A = normal(rng, (6, 6), dtype)  # square, so that V for Vh would fit
    U, s, Vh = np.linalg.svd(A)
    Y = LowRank.from_svd(library.asarray(U), library.asarray(s), library.asarray(Vh))
    check(Y, A, library, dtype)
    wrong = LowRank(library.asarray(U), library.asarray(np.diag(s).astype(dtype)), library.asarray(Vh))
    assert relative_error(wrong, A) > 0.1
    Y = LowRank.from_svd(library.asarray(U[:, :2]), library.asarray(s[:2]), library.asarray(Vh[:2]))
    assert Y.rank == 2 and Y.shape == (6, 6)


def test_from_dense(typed_eager_library, rng):
    library, dtype = typed_eager_library
    U, V = random_orthonormal(rng, M, N, dtype), random_orthonormal(rng, N, N, dtype)
    s = np.asarray([10.0, 4.0, 3.0, 1e-2, 0, 0, 0, 0, 0])
    A = ((U * s) @ V.conj().T).astype(dtype)
    a = library.asarray(A)
    check(LowRank.from_dense(a), A, library, dtype)
    for options, rank in (
        ({"rank": 2}, 2),
        ({"atol": 5.1}, 1),
        ({"rtol": 0.1}, 3),
        ({"rank": 1, "rtol": 0.1}, 1),
    ):
        Y = LowRank.from_dense(a, **options)
        assert Y.rank == rank, options
        assert max(orthonormality(Y.U), orthonormality(Y.V)) <= 30 * eps(dtype)
        error = np.linalg.norm(dense(Y) - A)
        np.testing.assert_allclose(error, np.linalg.norm(s[rank:]), rtol=1e-3)


def test_rank_given_to_from_dense_is_kept_for_a_matrix_of_lower_rank(eager_library):
    Y = LowRank.from_dense(eager_library.asarray(np.outer(np.ones(M), np.ones(N))), rank=3)
    assert Y.rank == 3 and orthonormality(Y.U) < 1e-14


SMALL = {
    "1 x 1": (1, 1, 1),
    "column": (7, 1, 1),
    "row": (1, 6, 1),
    "rank one": (7, 6, 1),
    "full rank": (5, 5, 5),
    "full rank, wide": (4, 6, 4),
}


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_small_and_full_rank_matrices(rng, shape, dtype):
    m, n, r = SMALL[shape]
    numpy = get_library("numpy")
    Y = random_lowrank(rng, m, n, r, dtype)
    D = dense(Y)
    A = normal(rng, (m, m), dtype)
    check(A @ Y, A @ D, numpy, dtype)
    check(Y + Y.T.T, 2 * D, numpy, dtype)
    check(Y * Y, D * D, numpy, dtype)
    check(Y.H, D.conj().T, numpy, dtype)
    check((Y + Y).truncate(rtol=1e-5), 2 * D, numpy, dtype)
    assert (Y + Y).truncate(rtol=1e-5).rank == r
    np.testing.assert_allclose(Y.norm(), np.linalg.norm(D), rtol=1e-5)


def test_the_zero_matrix(eager_library):
    zero = LowRank(*(eager_library.asarray(np.zeros(shape)) for shape in ((M, R), (R, R), (N, R))))
    assert zero.norm() == 0.0
    assert not np.any(to_numpy(zero.singular_values()))
    assert zero.truncate(rtol=1e-8).rank == 1
    assert not np.any(to_numpy((zero - zero).to_dense()))
    assert LowRank.from_dense(eager_library.asarray(np.zeros((M, N))), rtol=1e-8).rank == 1


def test_identity_core(eager_library, rng):
    Y = loose(rng, M, N, 2, 2, "float32", eager_library, core=False)
    np.testing.assert_array_equal(to_numpy(Y.S), np.eye(2, dtype="float32"))
    assert eager_library.owns(Y.S) and Y.rank == 2
    U, S, V = Y.factors
    assert U is Y.U and V is Y.V and S.shape == (2, 2)


# ---- slicing -------------------------------------------------------------------------------------------------

INDICES = {
    "slice": slice(2, 6),
    "step": slice(1, None, 3),
    "beyond the end": slice(4, 100),
    "negative": slice(-4, -1),
    "reversed": slice(None, None, -1),
    "reversed with a step": slice(7, 1, -2),
    "all": slice(None),
    "empty": slice(5, 2),
    "list": [3, 0, 3],
    "array": np.array([5, 1]),
    "negative array": np.array([-1, 2, -3]),
    "no index": np.array([], dtype=int),
    "mask": "mask",
}


@pytest.mark.parametrize("index", INDICES)
def test_rows_and_columns(eager_library, rng, index):
    for Y in (
        loose(rng, M, N, 2, R, "float32", eager_library),
        random_lowrank(rng, M, N, R, "complex128", eager_library),
    ):
        D, dtype = dense(Y), dtype_name(Y.dtype)
        i, j = INDICES[index], INDICES[index]
        if index == "mask":
            i, j = rng.random(M) < 0.5, rng.random(N) < 0.5
        check(Y[i], D[i], eager_library, dtype)
        check(Y[i, :], D[i], eager_library, dtype)
        check(Y[:, j], D[:, j], eager_library, dtype)
        check(Y[i, j], D[i][:, j], eager_library, dtype)


def test_integers_give_arrays(eager_library, rng):
    Y = random_lowrank(rng, M, N, R, "complex128", eager_library)
    D = dense(Y)
    for i, j in ((0, 0), (3, -1), (-M, N - 1), (np.int64(2), np.int32(-2))):
        for part, expected in (
            (Y[i], D[i]),
            (Y[i, :], D[i]),
            (Y[:, j], D[:, j]),
            (Y[i, j], D[i, j]),
            (Y[i, 1:4], D[i, 1:4]),
            (Y[[1, 4], j], D[[1, 4], j]),
        ):
            np.testing.assert_allclose(to_numpy(part), expected, rtol=1e-12, atol=1e-14)


def test_index_arrays_of_the_library(library, rng):
    Y = random_lowrank(rng, M, N, R, "float64", library)
    mask = np.arange(N) % 4 < 2
    for part, expected in (
        (Y[library.asarray(np.array([4, -2]))], dense(Y)[[4, -2]]),
        (Y[:, library.asarray(mask)], dense(Y)[:, mask]),
        (Y[::-5, 1:3], dense(Y)[::-5, 1:3]),
    ):
        check(part, expected, library, "float64")


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (M, IndexError, f"row {M} is out of range for {M} rows"),
        (-M - 1, IndexError, f"row {-M - 1} is out of range"),
        ((0, N), IndexError, f"column {N} is out of range for {N} columns"),
        ([0, M], IndexError, f"row indices from 0 to {M} are out of range for {M} rows"),
        ([-M - 1, 0], IndexError, "out of range"),
        (
            np.ones(M - 1, dtype=bool),
            IndexError,
            f"boolean row index needs one value for each of {M} rows, got {M - 1}",
        ),
        ((1, 2, 3), IndexError, r"Y\[i\] or Y\[i, j\], got 3"),
        (1.5, TypeError, "a row index must be an int, a slice or a vector of ints or bools, got 1.5"),
        (None, TypeError, "row index"),
        (Ellipsis, TypeError, "row index"),
        (np.zeros((2, 2), dtype=int), TypeError, "vector of ints or bools"),
        ((slice(None), "a"), TypeError, "a column index must be"),
    ],
)
def test_wrong_indices(eager_library, rng, key, error, text):
    Y = random_lowrank(rng, M, N, R, "float64", eager_library)
    with pytest.raises(error, match=text):
        Y[key]


# ---- it is immutable, and travels ----------------------------------------------------------------------------


def test_it_is_immutable(rng):
    Y = random_lowrank(rng, M, N, R)
    for name in ("U", "S", "V", "shape", "rank", "dtype", "T", "H", "factors"):
        with pytest.raises(AttributeError):
            setattr(Y, name, None)
        with pytest.raises(AttributeError):
            delattr(Y, name)
    with pytest.raises(AttributeError):
        Y.note = "new"
    with pytest.raises((TypeError, AttributeError)):
        Y[0, 0] = 1.0
    before = dense(Y)
    Z = Y
    Z += Y
    Z *= 2
    Z -= 0.5 * Y
    Z @= np.eye(N)
    assert relative_error(Z, 3.5 * before) < 1e-14
    np.testing.assert_array_equal(dense(Y), before)


def test_pickle_copy_and_deepcopy(library, rng):
    cases = [random_lowrank(rng, M, N, R, "float64", library)]
    if library.name != "jax":
        cases += [loose(rng, M, N, 2, 2, "complex64", library, core=False), cases[0].truncate()]
    for Y in cases:
        for again in (pickle.loads(pickle.dumps(Y)), copy.copy(Y), copy.deepcopy(Y)):
            assert type(again) is LowRank and again.dtype == Y.dtype and again.shape == Y.shape
            assert library.owns(again.U)
            np.testing.assert_array_equal(dense(again), dense(Y))
            assert again.rank == Y.rank
    assert copy.copy(Y).U is Y.U
    if library.name == "numpy":
        assert copy.deepcopy(Y).U is not Y.U


def test_astype(eager_library, rng):
    Y = random_lowrank(rng, M, N, R, "float64", eager_library)
    for dtype in ("float32", "complex64", "complex128", "float64"):
        for given_as in (dtype, np.dtype(dtype), getattr(np, dtype), eager_library.dtype(dtype)):
            check(Y.astype(given_as), dense(Y), eager_library, dtype)
    assert Y.astype("float64") is Y
    with pytest.raises(TypeError, match="complex128 LowRank does not cast to float64"):
        Y.astype("complex128").astype("float64")
    with pytest.raises(TypeError, match="dtype must be one of float32.*int32"):
        Y.astype("int32")


def test_repr(eager_library, rng):
    Y = random_lowrank(rng, M, N, R, "complex64", eager_library)
    assert repr(Y) == f"LowRank(shape=({M}, {N}), rank={R}, dtype=complex64)"
    assert Y.ndim == 2


# ---- what it cannot do ---------------------------------------------------------------------------------------


def test_nothing_densifies_unasked(rng):
    for Y in (random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, 1) + random_lowrank(rng, M, N, 1)):
        for name in (
            "__array__",
            "__array_interface__",
            "__array_struct__",
            "__buffer__",
            "__dlpack__",
            "__len__",
        ):
            assert not hasattr(Y, name), name


REFUSED = {
    "np.sin": lambda Y: np.sin(Y),
    "np.exp": lambda Y: np.exp(Y),
    "np.add with out": lambda Y: np.add(np.ones((M, N)), Y, out=np.ones((M, N))),
    "np.add.reduce": lambda Y: np.add.reduce(Y),
    "np.sum": lambda Y: np.sum(Y),
    "np.max": lambda Y: np.max(Y),
    "np.linalg.svd": lambda Y: np.linalg.svd(Y),
    "np.concatenate": lambda Y: np.concatenate([Y, Y]),
    "cube": lambda Y: Y**3,
    "exponent": lambda Y: 2**Y,
    "max": lambda Y: max(Y),
    "min": lambda Y: min(Y),
    "list": lambda Y: list(Y),
    "sum of rows": lambda Y: sum(Y),
    "abs": lambda Y: abs(Y),
    "greater": lambda Y: Y > 0,
    "less": lambda Y: Y < 1.0,
    "greater or equal": lambda Y: Y >= Y,
    "compared with an array": lambda Y: np.ones((M, N)) > Y,
    "float": lambda Y: float(Y),
    "int": lambda Y: int(Y),
    "complex": lambda Y: complex(Y),
    "truth": lambda Y: bool(Y),
    "not": lambda Y: not Y,
    "plus a number": lambda Y: Y + 1,
    "a number minus": lambda Y: 1 - Y,
    "minus a number": lambda Y: Y - 0.5,
    "divided by an array": lambda Y: Y / np.ones((M, N)),
    "an array divided": lambda Y: np.ones((M, N)) / Y,
    "a number divided": lambda Y: 1 / Y,
    "divided by itself": lambda Y: Y / Y,
    "times an array": lambda Y: Y * np.ones((M, N)),
    "an array times": lambda Y: np.ones((M, N)) * Y,
    "times a row too short": lambda Y: Y * np.ones((1, N - 1)),
    "times a list": lambda Y: Y * [1.0, 2.0],
    "times None": lambda Y: None * Y,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_cannot_do_names_the_ways_out(rng, what):
    C = np.ones((M, N))
    for Y in (random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, 1) + random_lowrank(rng, M, N, 1)):
        with pytest.raises(
            TypeError,
            match=rf"LowRank does not support .*{M} x {N} entries.*dlra\.entrywise\(f, Y\).*Y\.to_dense\(\)",
        ):
            REFUSED[what](Y)
    if what in {"plus a number", "a number minus", "minus a number"}:
        return
    with pytest.raises(TypeError, match=r"LazySum does not support .*to_dense") as caught:
        REFUSED[what](Y + C)
    assert "entrywise(" not in str(caught.value)  # which takes no lazy sum


def test_np_linalg_norm_points_to_the_method(rng):
    Y = random_lowrank(rng, M, N, R)
    with pytest.raises(TypeError, match=r"LowRank does not support np\.linalg\.norm: use Y\.norm\(\)"):
        np.linalg.norm(Y)
    with pytest.raises(TypeError, match=r"LazySum does not support np\.linalg\.norm.*to_dense"):
        np.linalg.norm(Y + np.ones((M, N)))


def test_equality_is_no_silent_no(rng):
    Y = random_lowrank(rng, M, N, R)
    for question in (lambda: Y == Y, lambda: Y != Y.T.T, lambda: dense(Y) == Y):
        with pytest.raises(TypeError, match="LowRank does not support (==|np.equal)"):
            question()
    assert len({Y, Y, Y.T}) == 2, "it is hashable, by identity"


@pytest.mark.parametrize("other", ["text", None, object(), [1.0], {}])
def test_unknown_operands_are_a_type_error(rng, other):
    for Y in (random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, 1) + random_lowrank(rng, M, N, 1)):
        for operation in (operator.add, operator.sub, operator.matmul):
            with pytest.raises(TypeError):
                operation(Y, other)
            with pytest.raises(TypeError):
                operation(other, Y)


def test_functions_of_other_libraries_are_a_type_error(foreign, rng):
    Y = random_lowrank(rng, M, N, R, "float64", foreign)
    with pytest.raises(TypeError, match="LowRank"):
        foreign.xp.sin(Y)
    for operation in (operator.mul, operator.truediv):
        with pytest.raises(TypeError, match="LowRank"):
            operation(foreign.asarray(np.ones((M, N))), Y)


def test_shapes_that_do_not_fit(library, rng):
    Y = random_lowrank(rng, M, N, R, "float64", library)
    wrong = library.asarray(np.ones((N + 1, M + 1)))
    Z = random_lowrank(rng, N + 1, M + 1, 2, "float64", library)
    for product in (lambda: Y @ wrong, lambda: dlra.matmul(wrong, Y), lambda: Y @ Z, lambda: Z @ Y):
        with pytest.raises(
            ValueError, match=rf"shapes do not fit in a product: .*({M}, {N}|{N + 1}, {M + 1})"
        ):
            product()
    for total in (lambda: Y + Z, lambda: Y - Z, lambda: Y * Z, lambda: Y + wrong, lambda: Y - wrong):
        with pytest.raises(ValueError, match=rf"one shape, got .*\({M}, {N}\).*\({N + 1}, {M + 1}\)"):
            total()
    stack = library.asarray(np.ones((2, M, M)))
    with pytest.raises(TypeError, match="does not support"):
        dlra.matmul(stack, Y)
    with pytest.raises((TypeError, ValueError)):
        Y @ library.asarray(np.ones((2, N, N)))


def test_mixed_libraries_are_a_type_error(foreign, rng):
    Y, Z = random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, R, "float64", foreign)
    for mixed in (
        lambda: LowRank(Y.U, Y.S, Z.V),
        lambda: LowRank(Z.U, Y.S, Z.V),
        lambda: Y + Z,
        lambda: Z - Y,
        lambda: (Y + Y) + Z,
        lambda: Y * Z,
    ):
        with pytest.raises(TypeError, match=r"arrays of different libraries do not mix: got .* and "):
            mixed()
    for mixed in (
        lambda: Y @ Z.H,
        lambda: Z.H @ Y,
        lambda: Y @ foreign.asarray(np.eye(N)),
        lambda: Z @ np.eye(N),
        lambda: dlra.matmul(np.eye(M), Z),
        lambda: dlra.matmul(foreign.asarray(np.eye(M)), Y),
    ):
        assert refused_or_of_one_library(mixed)


def refused_or_of_one_library(product) -> bool:
    """Some libraries take arrays of another one over; then the result is theirs altogether."""
    try:
        result = product()
    except TypeError as error:
        return "different libraries do not mix" in str(error)
    return len({type(a) for a in result.factors}) == 1


def test_mixed_devices_are_an_error():
    first, second = get_library("strict"), get_library("strict-device1")
    with pytest.raises(
        ValueError, match="factors need one device, got U on .*CPU_DEVICE.* and V on .*device1"
    ):
        LowRank(first.asarray(np.ones((4, 1))), None, second.asarray(np.ones((3, 1))))


# ---- laws, for any shape, rank and dtype -----------------------------------------------------------------------


@st.composite
def matrices(draw, count=1):
    """``count`` LowRank matrices of one random shape, of any rank, dtype, core and conditioning."""
    m, n = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    some = []
    for _ in range(count):
        r1, r2 = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        core = draw(st.booleans())
        Y = loose(rng, m, n, r1, r2 if core else r1, dtype, core=core)
        if draw(st.booleans()):
            Y = Y + loose(rng, m, n, 1, 1, dtype)
        some.append(Y)
    return (*some, rng)


def close(a, b, *scales) -> bool:
    """Equal up to rounding of numbers of this size."""
    a, b = dense(a), dense(b)
    return a.shape == b.shape and np.linalg.norm(a - b) <= 300 * eps(a.dtype) * max(1e-30, *scales)


@given(case=matrices(count=2), data=st.data())
def test_algebra(case, data):
    Y, Z, rng = case
    D, E = dense(Y), dense(Z)
    m = Y.shape[0]
    size = sum(np.linalg.norm(to_numpy(a)) for X in (Y, Z) for a in [X.U]) * 30
    size *= 1 + sum(np.linalg.norm(to_numpy(X.S)) * np.linalg.norm(to_numpy(X.V)) for X in (Y, Z))
    c = data.draw(st.floats(-4, 4))
    assert close(Y + c * Z, D + np.asarray(c, dtype=D.dtype) * E, size)
    assert close((Y - Z).H, (D - E).conj().T, size)
    assert close((Y @ Z.H), D @ E.conj().T, size**2)
    assert close((Y @ Z.H).H, Z @ Y.H, size**2)
    assert close(Y.T.conj(), Y.H, size)
    assert close(Y * Z, Z * Y, size**2)
    A = normal(rng, (m, m), D.dtype)
    assert close(A @ (Y + Z), A @ Y + A @ Z, size * np.linalg.norm(A))
    np.testing.assert_allclose(Y.norm(), np.linalg.norm(D), rtol=1e-4, atol=300 * eps(D.dtype) * size)


@given(case=matrices(), rtol=st.floats(0, 1), atol=st.floats(0, 100))
def test_truncation_keeps_its_promise(case, rtol, atol):
    Y, _ = case
    Z, discarded = linalg.truncate(Y, rtol=rtol, atol=atol)
    slack = 300 * eps(dense(Y).dtype) * (Y.norm() + 1e-30)
    assert discarded <= max(atol, rtol * Y.norm()) + slack
    assert abs(np.linalg.norm(dense(Y) - dense(Z)) - discarded) <= 10 * slack
    assert Z.rank <= min(*Y.shape, max(Y.U.shape[1], Y.V.shape[1]))
    assert max(orthonormality(Z.U), orthonormality(Z.V)) <= 50 * eps(dense(Y).dtype)
    s = np.diag(dense(Z.S)).real
    assert np.all(np.diff(s) <= 0)


@given(case=matrices(), data=st.data())
def test_slices_agree_with_numpy(case, data):
    Y, _ = case
    D = dense(Y)
    m, n = Y.shape
    size = np.linalg.norm(to_numpy(Y.U)) * (1 + np.linalg.norm(to_numpy(Y.S)) * np.linalg.norm(to_numpy(Y.V)))
    i, j = data.draw(st.slices(m)), data.draw(st.slices(n))
    assert close(Y[i, j], D[i, j], size)
    rows = data.draw(st.lists(st.integers(-m, m - 1), min_size=1, max_size=5))
    assert close(Y[rows], D[rows], size)
