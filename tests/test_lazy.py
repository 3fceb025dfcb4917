"""Lazy sums and the products of everything a factored field may return."""

from __future__ import annotations

import operator

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
    is_complex,
    normal,
    random_lowrank,
    relative_error,
    to_numpy,
)
from hypothesis import given
from hypothesis import strategies as st

import dlra
from dlra import LazySum, LowRank, lazy
from dlra.backend import dtype_name

KINDS = ("array", "lowrank", "csr", "csc", "coo", "csr matrix", "linear operator")
FORMATS = {
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "csr matrix": sp.csr_matrix,
    "linear operator": spla.aslinearoperator,
}


def matrix(rng, kind, m, n, dtype):
    """A random matrix of a kind, and the same as a NumPy array."""
    if kind == "lowrank":
        Y = random_lowrank(rng, m, n, min(m, n, R), dtype)
        return Y, dense(Y)
    A = normal(rng, (m, n), dtype)
    if kind not in ("array", "linear operator"):
        A = A * (rng.random((m, n)) < 0.5)
    return FORMATS.get(kind, lambda A: A)(A), A


def close(a, b, dtype="float64", scale=1.0) -> bool:
    return np.linalg.norm(dense(a) - dense(b)) <= 300 * eps(dtype) * scale * (1 + np.linalg.norm(dense(b)))


def check_products(G, expected, rng, dtype) -> None:
    """Every question that an integrator asks."""
    m, n = expected.shape
    X, Z = normal(rng, (n, 2), dtype), normal(rng, (m, 2), dtype)
    x, z = X[:, 0].copy(), Z[:, 0].copy()
    assert close(lazy.apply(G, X), expected @ X, dtype)
    assert close(lazy.apply(G, x), expected @ x, dtype)
    assert close(lazy.apply_adjoint(G, Z), expected.conj().T @ Z, dtype)
    assert close(lazy.apply_adjoint(G, z), expected.conj().T @ z, dtype)
    assert close(lazy.apply(lazy.adjoint(G), Z), expected.conj().T @ Z, dtype)
    i, j = np.array([0, m - 1, 0]), np.array([n - 1, 0])
    assert close(lazy.rows(G, i), expected[i], dtype)
    assert close(lazy.columns(G, j), expected[:, j], dtype)
    assert close(lazy.dense(G), expected, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(M, N), (N, N)], ids=["rectangular", "square"])
def test_products_of_every_kind(rng, kind, dtype, shape):
    G, expected = matrix(rng, kind, *shape, dtype)
    check_products(G, expected, rng, dtype)


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_sums_of_every_pair(rng, first, second):
    """With a LowRank in front, as the terms of a field meet it."""
    for dtype in ("float64", "complex128"):
        Y = random_lowrank(rng, M, N, R, dtype)
        (A, DA), (B, DB) = matrix(rng, first, M, N, dtype), matrix(rng, second, M, N, dtype)
        check_products(Y + A - B, dense(Y) + DA - DB, rng, dtype)
        check_products(Y - 2 * (Y + A) + B, -dense(Y) - 2 * DA + DB, rng, dtype)


def a_sum(rng, dtype="complex128", m=M, n=N):
    """A sum of every kind, with complex coefficients where the dtype is complex."""
    c = 0.5 - 2j if is_complex(dtype) else -1.5
    total, expected = LazySum([(1.0, random_lowrank(rng, m, n, R, dtype))]), None
    expected = dense(total)
    for kind in KINDS:
        G, D = matrix(rng, kind, m, n, dtype)
        total, expected = c * (total + G), c * (expected + D)
    return total, np.asarray(expected, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_a_long_sum(rng, dtype):
    total, expected = a_sum(rng, dtype)
    assert isinstance(total, LazySum) and total.shape == (M, N) and len(total.terms) == len(KINDS) + 1
    assert dtype_name(total.dtype) == dtype
    check_products(total, expected, rng, dtype)
    check_products(total.H, expected.conj().T, rng, dtype)
    check_products(total.T, expected.T, rng, dtype)
    check_products(total.conj(), expected.conj(), rng, dtype)
    check_products(np.conj(total), expected.conj(), rng, dtype)


def test_algebra_of_sums(rng):
    total, D = a_sum(rng)
    other, E = a_sum(rng)
    for result, expected in (
        (total + other, D + E),
        (total - other, D - E),
        (-total, -D),
        (np.negative(total), -D),
        (3 * total, 3 * D),
        (total * (1 - 1j), (1 - 1j) * D),
        (total / 4, D / 4),
        (np.float64(2) * total, 2 * D),
        (total / np.float64(2), D / 2),
        (E + total, E + D),
        (E - total, E - D),
        (total + E, D + E),
        (total - E, D - E),
        (sum([total, other]), D + E),
        (sp.csr_array(E) - total, E - D),
        (total + spla.aslinearoperator(E), D + E),
    ):
        assert isinstance(result, LazySum)
        assert close(result, expected, scale=np.linalg.norm(D))


def test_products_from_both_sides_stay_lazy(rng):
    total, D = a_sum(rng)
    A, B = normal(rng, (M, M), "complex128"), normal(rng, (N, N), "complex128")
    Y, Z = random_lowrank(rng, M, M, R, "complex128"), random_lowrank(rng, N, N, R, "complex128")
    for result, expected in (
        (A @ total, A @ D),
        (total @ B, D @ B),
        (sp.csr_array(A) @ total, A @ D),
        (total @ sp.csc_array(B), D @ B),
        (dlra.matmul(spla.aslinearoperator(A), total), A @ D),
        (total @ spla.aslinearoperator(B), D @ B),
        (Y @ total, dense(Y) @ D),
        (total @ Z, D @ dense(Z)),
        (A @ total @ B, A @ D @ B),
    ):
        assert isinstance(result, LazySum)
        assert close(result, expected, scale=np.linalg.norm(expected))
    x, y = normal(rng, N, "complex128"), normal(rng, M, "complex128")
    assert close(total @ x, D @ x, scale=10) and close(y @ total, y @ D, scale=10)
    assert isinstance(total @ x, np.ndarray)


def test_a_low_rank_factor_makes_every_term_low_rank(rng):
    total, _ = a_sum(rng)
    assert all(isinstance(G, LowRank) for _, G in (total @ random_lowrank(rng, N, N, 2, "complex128")).terms)


def test_sums_in_every_library(typed_library, rng):
    library, dtype = typed_library
    Y = random_lowrank(rng, M, N, R, dtype, library)
    D, A = normal(rng, (M, N), dtype), normal(rng, (M, M), dtype)
    d, a = library.asarray(D), library.asarray(A)
    total = 2 * (Y + d) - Y / 4
    expected = 2 * (dense(Y) + D) - dense(Y) / 4
    X, Z = normal(rng, (N, R), dtype), normal(rng, (M, R), dtype)
    for result, wanted in (
        (total.to_dense(), expected),
        (lazy.apply(total, library.asarray(X)), expected @ X),
        (lazy.apply_adjoint(total, library.asarray(Z)), expected.conj().T @ Z),
        (lazy.apply(total.H, library.asarray(Z)), expected.conj().T @ Z),
        (lazy.apply(total.T, library.asarray(Z)), expected.T @ Z),
        (lazy.rows(total, np.array([1, 0])), expected[[1, 0]]),
        (lazy.columns(total, np.array([2])), expected[:, [2]]),
        (lazy.dense(dlra.matmul(a, total)), A @ expected),
        (total @ library.asarray(X)[:, 0], expected @ X[:, 0]),
    ):
        assert library.owns(result) and dtype_name(result.dtype) == dtype
        assert relative_error(result, wanted) <= 200 * eps(dtype)


def test_arrays_of_two_precisions_in_every_library(eager_library, rng):
    """Where a library does not promote in products (PyTorch), it is done for it."""
    for dtype_G, dtype_X, wanted in (
        ("float64", "float32", "float64"),
        ("float32", "float64", "float64"),
        ("float32", "complex64", "complex64"),
        ("complex64", "float64", "complex128"),
    ):
        G, X = normal(rng, (M, N), dtype_G), normal(rng, (N, R), dtype_X)
        Z = normal(rng, (M, R), dtype_X)
        g = eager_library.asarray(G)
        product, adjoint = (
            lazy.apply(g, eager_library.asarray(X)),
            lazy.apply_adjoint(g, eager_library.asarray(Z)),
        )
        assert dtype_name(product.dtype) == dtype_name(adjoint.dtype) == wanted
        assert relative_error(product, G @ X) < 1e-6 and relative_error(adjoint, G.conj().T @ Z) < 1e-6


@pytest.mark.parametrize(
    ("coefficient", "dtypes", "expected"),
    [
        (1.0, ("float64", "float64"), "float64"),
        (1.0, ("float32", "float64"), "float64"),
        (1.0, ("float64", "complex64"), "complex128"),
        (1.0, ("float64", "int64"), "float64"),
        (1j, ("float32", "float32"), "complex64"),
        (1j, ("float64", "float64"), "complex128"),
    ],
)
def test_dtype_of_a_sum(rng, coefficient, dtypes, expected):
    """It decides whether a complex F meets a real Y0, so that it must know complex coefficients."""
    A, B = ((10 * normal(rng, (M, N))).astype(dtype) for dtype in dtypes)
    total = coefficient * LazySum([(1.0, A), (1.0, B)])
    assert dtype_name(total.dtype) == expected
    assert dtype_name(total.to_dense().dtype) == expected


def test_complex_coefficients_are_conjugated(rng):
    A = normal(rng, (M, N))
    total = (1 + 2j) * LazySum([(1.0, A), (3j, A)])
    expected = (1 + 2j) * (1 + 3j) * A
    check_products(total, expected, rng, "complex128")
    assert (
        close(total.H, expected.conj().T)
        and close(total.T, expected.T)
        and close(total.conj(), expected.conj())
    )


class Custom:
    """A matrix of the user's own: shape, dtype, @ and .H or .T."""

    def __init__(self, A, adjoint=None):
        self._A = A
        self.shape, self.dtype = A.shape, A.dtype
        if adjoint is not None:
            setattr(self, adjoint, Custom(A.conj().T if adjoint == "H" else A.T))

    def __matmul__(self, X):
        return self._A @ X


@pytest.mark.parametrize(("dtype", "adjoint"), [("complex128", "H"), ("float64", "H"), ("float64", "T")])
def test_matrices_of_the_user(rng, dtype, adjoint):
    A = normal(rng, (M, N), dtype)
    check_products(Custom(A, adjoint), A, rng, dtype)


def test_a_complex_matrix_of_the_user_needs_its_adjoint(rng):
    with pytest.raises(TypeError, match=r"complex Custom in a field needs \.H"):
        lazy.apply_adjoint(Custom(normal(rng, (M, N), "complex128"), "T"), np.ones((M, 1)))


def test_shapes_in_a_sum_must_agree(rng):
    total, _ = a_sum(rng)
    with pytest.raises(ValueError, match=rf"one shape, got \({M}, {N}\) and ndarray of shape \({N}, {M}\)"):
        total + np.ones((N, M))
    with pytest.raises(ValueError, match="one shape"):
        random_lowrank(rng, M, N, R) - sp.csr_array(np.ones((M, N + 1)))


@pytest.mark.parametrize("other", [3.0, None, "text", np.ones(3), [1.0]])
def test_unknown_operands(rng, other):
    total, _ = a_sum(rng)
    for operation in (operator.add, operator.sub):
        with pytest.raises(TypeError):
            operation(total, other)
        with pytest.raises(TypeError):
            operation(other, total)


def test_a_sum_is_not_changed_by_its_uses(rng):
    total, D = a_sum(rng)
    count = len(total.terms)
    _ = total + total, 2 * total, -total, total.H, total @ np.eye(N), total - D
    assert len(total.terms) == count and close(total, D, scale=np.linalg.norm(D))
    again = total
    again += D
    assert len(total.terms) == count


def test_repr():
    assert repr(LazySum([(1.0, np.ones((3, 2)))])) == "LazySum(shape=(3, 2), terms=[ndarray])"


def test_matmul_of_what_is_already_known(rng):
    Y = random_lowrank(rng, M, N, R)
    A = normal(rng, (M, M))
    assert isinstance(dlra.matmul(A, Y), LowRank)
    assert isinstance(dlra.matmul(Y.T, A), LowRank)
    np.testing.assert_array_equal(dlra.matmul(A, dense(Y)), A @ dense(Y))
    np.testing.assert_array_equal(dlra.matmul(sp.csr_array(A), dense(Y)), sp.csr_array(A) @ dense(Y))
    assert close(dlra.matmul(spla.aslinearoperator(A), dense(Y)), A @ dense(Y))


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    coefficients=st.lists(st.complex_numbers(max_magnitude=3, allow_nan=False), min_size=5, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_any_sum_agrees_with_its_dense_twin(kinds, dtype, shape, coefficients, seed):
    rng = np.random.default_rng(seed)
    first = random_lowrank(rng, *shape, 1, dtype)
    total, expected = LazySum([(1.0, first)]), dense(first)
    for kind, c in zip(kinds, coefficients, strict=False):
        G, D = matrix(rng, kind, *shape, dtype)
        c = c if is_complex(dtype) else c.real
        total, expected = c * total + G, (c * expected + D).astype(dtype)
    check_products(total, expected, rng, dtype)


@pytest.mark.gpu
def test_sparse_matrices_of_cupy(rng):
    library = get_library("cupy")
    import cupyx.scipy.sparse as csp

    A = normal(rng, (M, M)) * (rng.random((M, M)) < 0.3)
    Y = random_lowrank(rng, M, N, R, "float64", library)
    a = csp.csr_matrix(library.asarray(A))
    assert relative_error(to_numpy((dlra.matmul(a, Y)).to_dense()), A @ dense(Y)) < 1e-14
