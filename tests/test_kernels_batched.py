"""Stacks of small matrices: orthonormal to a few ulp, small singular values to their last digits, no member dropped."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest
from helpers import DTYPES, eps, get_library, normal, random_orthonormal, to_numpy
from hypothesis import given
from hypothesis import strategies as st

from dlra import DlraWarning, _stacks, linalg
from dlra.kernels import _compiled

batched = pytest.importorskip("dlra.kernels.batched", exc_type=ImportError)

LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
    "backwards": lambda a: a[:, ::-1].copy()[:, ::-1],
    "members last": lambda a: np.moveaxis(np.moveaxis(a, 0, 2).copy(), 2, 0),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": lambda a: _read_only(a),
}
SCALES = {"float32": (1e-36, 1.0, 1e36), "float64": (1e-300, 1.0, 1e300)}
members, sizes, dtypes = st.integers(1, 19), st.integers(1, 12), st.sampled_from(DTYPES)


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def single(dtype):
    return "float32" if dtype in ("float32", "complex64") else "float64"


def wide(a):
    a = to_numpy(a)
    return a.astype("complex128" if a.dtype.kind == "c" else "float64")


def adjoint(A):
    return A.swapaxes(1, 2).conj()


def orthonormality(Q) -> float:
    Q = wide(Q)
    return float(np.max(np.abs(adjoint(Q) @ Q - np.eye(Q.shape[2])), initial=0.0))


def check_svd(A, U, s, Vh) -> None:
    """A = U diag(s) Vᴴ to a few units of roundoff of its largest entry, with orthonormal factors."""
    b, p, q = A.shape
    k = min(p, q)
    assert (U.shape, s.shape, Vh.shape) == ((b, p, k), (b, k), (b, k, q))
    assert U.dtype == Vh.dtype == A.dtype and s.dtype == A.real.dtype
    unit = eps(A.dtype.name)
    assert np.isfinite(s).all() and (s >= 0).all() and (np.diff(s) <= 0).all()
    assert orthonormality(U) <= 30 * unit and orthonormality(adjoint(Vh)) <= 30 * unit
    largest = np.max(np.abs(wide(A)), axis=(1, 2), keepdims=True)
    largest[largest == 0] = 1
    again = (wide(U) * (s / largest[:, :, 0])[:, None, :]) @ wide(Vh)
    assert np.max(np.abs(again - wide(A) / largest)) <= 20 * max(p, q) * unit


def check_basis(U0, X, Q) -> None:
    """[U0 | new], orthonormal, with X in its span."""
    r = U0.shape[2]
    assert Q.shape == (*U0.shape[:2], r + X.shape[2]) and Q.dtype == X.dtype
    assert np.array_equal(Q[:, :, :r], U0)
    unit = eps(X.dtype.name)
    assert orthonormality(Q) <= 30 * unit
    largest = np.max(np.abs(X), axis=1, keepdims=True, initial=0.0)
    X = wide(X / np.where(largest > 0, largest, 1))
    assert np.max(np.abs(X - wide(Q) @ (adjoint(wide(Q)) @ X)), initial=0.0) <= 20 * max(X.shape[1:]) * unit


# ---- singular values -----------------------------------------------------------------------------------------


@given(members, sizes, sizes, dtypes, st.integers(0, 2), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_decompositions_of_any_shape_scale_and_rank(b, p, q, dtype, scale, rank, seed):
    rng = np.random.default_rng(seed)
    A = normal(rng, (b, p, q), dtype)
    if rank < min(p, q):
        A = normal(rng, (b, p, rank), dtype) @ normal(rng, (b, rank, q), dtype)
    A = (A * np.asarray(SCALES[single(dtype)][scale] / 100, dtype=dtype)).astype(dtype)
    U, s, Vh, converged = batched.svd(A)
    assert converged.all()
    check_svd(A, U, s, Vh)
    expected = np.linalg.svd(A, compute_uv=False)
    assert np.all(np.abs(s - expected) <= 20 * max(p, q) * eps(dtype) * expected[:, :1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [20, 40, 64])
def test_larger_matrices(n, dtype, rng):
    A = normal(rng, (9, n, n), dtype)
    U, s, Vh, converged = batched.svd(A)
    assert converged.all()
    check_svd(A, U, s, Vh)
    expected = np.linalg.svd(A.astype("complex128" if dtype[0] == "c" else "float64"), compute_uv=False)
    assert np.all(np.abs(s - expected) <= n * eps(dtype) * expected[:, :1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_matrices(dtype, rng):
    integers = rng.integers(-1, 2, (9, 7, 7)).astype(dtype)
    repeated = normal(rng, (9, 7, 7), dtype)
    repeated[:, :, 3] = repeated[:, :, 5]
    repeated[:, :, 1] = 0
    kahan = np.diag(0.3 ** np.arange(7)) @ (np.eye(7) - np.triu(np.full((7, 7), 0.95), 1))
    unitary = random_orthonormal(rng, 7, 7, dtype)
    single_entry = np.zeros((7, 7))
    single_entry[4, 2] = -3
    for A in (
        np.zeros((9, 7, 7)),
        np.ones((9, 7, 5)),
        integers,
        repeated,
        kahan[None],
        unitary[None],
        np.eye(7)[None],
        np.eye(7)[None] + 1e-9,
        single_entry[None],
    ):
        A = np.asarray(A).astype(dtype)
        U, s, Vh, converged = batched.svd(A)
        assert converged.all()
        check_svd(A, U, s, Vh)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_singular_values_keep_their_digits(dtype, rng):
    """D₁ B D₂ with well-conditioned B: relative to 450 digits, where LAPACK's are off by orders of magnitude."""
    mpmath = pytest.importorskip("mpmath")
    n, span = 7, 200 if single(dtype) == "float64" else 25
    grades = 10.0 ** -np.linspace(0, span, n)
    B = normal(rng, (n, n), dtype) + 3 * np.eye(n)
    root = np.sqrt(grades)
    stack = np.stack(
        [
            B * grades,
            grades[:, None] * B,
            root[:, None] * B * root,
            root[rng.permutation(n), None] * B * root[rng.permutation(n)],
            (B * grades)[:, rng.permutation(n)],
        ]
    ).astype(dtype)
    U, s, Vh, converged = batched.svd(stack)
    assert converged.all()
    check_svd(stack, U, s, Vh)
    with mpmath.workdps(2 * span + 50):
        for A, values in zip(stack, s, strict=True):
            exact = mpmath.matrix([[mpmath.mpmathify(complex(x)) for x in row] for row in A])
            squares = mpmath.eigh(exact.H * exact, eigvals_only=True)
            for value, square in zip(values, sorted(squares, key=mpmath.re, reverse=True), strict=True):
                expected = mpmath.sqrt(mpmath.re(square))
                assert abs(mpmath.mpf(float(value)) - expected) <= 100 * n * eps(dtype) * expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_outside_the_usual_range(dtype):
    info = np.finfo(dtype)
    A = np.asarray([[[info.max / 4, 0], [0, 4]], [[info.smallest_subnormal, 0], [0, 0]]], dtype=dtype)
    s = batched.svd(A)[1]
    assert np.array_equal(s[0], np.asarray([info.max / 4, 4])) and s[1, 0] == info.smallest_subnormal


# ---- bases ---------------------------------------------------------------------------------------------------


@given(members, st.integers(0, 6), st.integers(1, 6), st.integers(0, 6), dtypes, st.integers(0, 2**32 - 1))
def test_bases_of_any_shape_and_dependence(b, r, k, more, dtype, seed):
    rng = np.random.default_rng(seed)
    m = r + k + more
    U0 = np.stack([random_orthonormal(rng, m, r, dtype) for _ in range(b)])
    X = normal(rng, (b, m, k), dtype)
    tiny, _, huge = SCALES[single(dtype)]
    for column, case in enumerate(rng.integers(0, 7, k)):
        inside = np.sum(U0, axis=2) if r else X[:, :, 0]
        X[:, :, column] = {
            1: 0 * X[:, :, column],
            2: X[:, :, 0],
            3: X[:, :, column] * np.asarray(tiny, dtype),
            4: X[:, :, column] * np.asarray(huge / 100, dtype),
            5: inside + 10 * np.asarray(eps(dtype), dtype) * X[:, :, column],
            6: inside,
        }.get(case, X[:, :, column])
    for answer in (batched.basis, _stacks.augmented, linalg.augment_stack):
        check_basis(U0, X, answer(U0, X))


@pytest.mark.parametrize("layout", ["plain", *LAYOUTS])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tall_members(dtype, layout, rng):
    """One of them depends on itself, one lies in the span of U0, one is zero."""
    U0 = np.stack([random_orthonormal(rng, 900, 3, dtype) for _ in range(5)])
    X = normal(rng, (5, 900, 4), dtype)
    X[1, :, 2] = X[1, :, 0]
    X[2] = U0[2] @ normal(rng, (3, 4), dtype)
    X[3] = 0
    X[4, :, 1] *= np.asarray(SCALES[single(dtype)][0], dtype)
    put = LAYOUTS.get(layout, np.asarray)
    check_basis(U0, X, linalg.augment_stack(put(U0), put(X)))
    Q = linalg.orthonormalize_stack(put(X))
    assert orthonormality(Q) <= 30 * eps(dtype) and Q.shape == X.shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_earlier_columns_leave_far_below_roundoff(dtype, rng):
    """Its square is a number of few digits, or none."""
    left = 1e-21 if single(dtype) == "float32" else 1e-161
    X = np.zeros((16, 6, 3), dtype)
    X[:, 0, :] = 1
    X[:, 1, 1] = left
    X[:, 2, 2] = left * 1e-5
    U0 = np.zeros((16, 6, 0), dtype)
    for answer in (batched.basis, _stacks.augmented):
        check_basis(U0, X, answer(U0, X))
    X = np.repeat(normal(rng, (16, 30, 1), dtype), 25, axis=2)
    U0 = np.stack([random_orthonormal(rng, 30, 2, dtype) for _ in range(16)])
    check_basis(U0, X, batched.basis(U0, X))


@given(members, sizes, sizes, dtypes, st.integers(0, 2**32 - 1))
def test_orthonormalize_stack_contains_the_range(b, m, r, dtype, seed):
    rng = np.random.default_rng(seed)
    A = normal(rng, (b, m, r), dtype)
    A[:, :, r // 2] = A[:, :, 0]
    Q = linalg.orthonormalize_stack(A)
    assert Q.shape == (b, m, min(m, r)) and orthonormality(Q) <= 30 * eps(dtype)
    assert np.max(np.abs(wide(A) - wide(Q) @ (adjoint(wide(Q)) @ wide(A)))) <= 40 * max(m, r) * eps(dtype)


@pytest.mark.parametrize("m", [60, 700])
def test_independent_directions_give_the_bases_of_numpy(m, rng):
    """Householder QR is unique up to signs; the generic version of augmentation spans the same."""
    U0 = np.stack([random_orthonormal(rng, m, 4) for _ in range(5)])
    X = normal(rng, (5, m, 3))
    new = [answer(U0, X)[:, :, 4:] for answer in (batched.basis, _stacks.augmented)]
    assert np.max(np.abs(new[0] @ adjoint(new[0]) - new[1] @ adjoint(new[1]))) <= 1e-14
    Q, expected = batched.basis(U0[:, :, :0], X), np.linalg.qr(X)[0]
    assert np.max(np.abs(Q - expected)) <= 1e-14


# ---- array libraries and layouts -----------------------------------------------------------------------------


def test_every_library_and_dtype(typed_library, rng):
    library, dtype = typed_library
    A = normal(rng, (8, 6, 5), dtype)
    U0 = np.stack([random_orthonormal(rng, 6, 2, dtype) for _ in range(8)])
    X = A[:, :, :3].copy()
    X[:, :, 1] = 0
    answers = linalg.svd_stack(library.asarray(A))
    assert all(library.owns(a) for a in answers)
    check_svd(A, *map(to_numpy, answers))
    Q = linalg.augment_stack(library.asarray(U0), library.asarray(X))
    assert library.owns(Q)
    check_basis(U0, X, to_numpy(Q))
    Q = linalg.orthonormalize_stack(library.asarray(A))
    assert library.owns(Q) and Q.shape == (8, 6, 5)
    assert orthonormality(to_numpy(Q)) <= 30 * eps(dtype)
    inside = U0 @ normal(rng, (8, 2, 3), dtype)
    check_basis(U0, inside, to_numpy(linalg.augment_stack(library.asarray(U0), library.asarray(inside))))
    results = linalg.svd_stack([library.asarray(a) for a in (A[0], A[1, :4], A[2])])
    for a, result in zip((A[0], A[1, :4], A[2]), results, strict=True):
        assert all(library.owns(x) for x in result)
        check_svd(a[None], *(to_numpy(x)[None] for x in result))


@given(st.sampled_from(sorted(LAYOUTS)), dtypes, sizes, sizes, st.integers(0, 2**32 - 1))
def test_every_layout_gives_the_same_numbers(layout, dtype, p, q, seed):
    rng = np.random.default_rng(seed)
    A = normal(rng, (9, p, q), dtype)
    B = LAYOUTS[layout](A)
    for x, y in zip(batched.svd(A), batched.svd(B), strict=True):
        assert np.array_equal(x, y)
    if q < p:
        U0 = np.stack([random_orthonormal(rng, p, 1, dtype) for _ in range(9)])
        X = A[:, :, : p - 1]
        plain = batched.basis(U0, np.ascontiguousarray(X))
        assert np.array_equal(plain, batched.basis(LAYOUTS[layout](U0), LAYOUTS[layout](X)))
    assert np.array_equal(A, B)


def test_a_list_of_matrices_of_different_shapes(rng):
    shapes = [(5, 5), (3, 7), (5, 5), (60, 60), (1, 1)] + [(5, 5)] * 7
    matrices = [normal(rng, shape) for shape in shapes]
    matrices[4] = matrices[4].astype("float32")
    results = linalg.svd_stack(matrices)
    assert isinstance(results, list)
    for A, (U, s, Vh) in zip(matrices, results, strict=True):
        check_svd(A[None], U[None], s[None], Vh[None])
    assert linalg.svd_stack([]) == []
    U, s, Vh = linalg.svd_stack((matrices[0], np.ones((3, 0))))[1]
    assert (U.shape, s.shape, Vh.shape) == ((3, 0), (0,), (0, 0))


@pytest.mark.parametrize("shape", [(0, 4, 3), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_empty_stacks(shape):
    A = np.zeros(shape)
    b, p, q = shape
    k = min(p, q)
    U, s, Vh = linalg.svd_stack(A)
    assert (U.shape, s.shape, Vh.shape) == ((b, p, k), (b, k), (b, k, q))
    assert linalg.orthonormalize_stack(A).shape == (b, p, k)
    if p == 4:
        assert linalg.augment_stack(np.zeros((b, 4, 0)), A).shape == (b, 4, q)


# ---- which code answers --------------------------------------------------------------------------------------


def test_where_compiled_code_answers(monkeypatch, rng):
    asked = []

    class Module:
        @staticmethod
        def svd(A):
            asked.append("svd")
            return (*np.linalg.svd(A, full_matrices=False), np.ones(A.shape[0], bool))

        @staticmethod
        def basis(U0, X):
            asked.append("basis")
            return np.zeros((*U0.shape[:2], U0.shape[2] + X.shape[2]))

    monkeypatch.setattr(_compiled, "module", lambda name: Module if name == "batched" else None)
    linalg.svd_stack(normal(rng, (64, 20, 20)))
    linalg.svd_stack([normal(rng, (10, 10)) for _ in range(8)])
    assert asked == ["svd", "svd"]
    linalg.svd_stack(normal(rng, (1, 20, 20)))
    linalg.svd_stack(normal(rng, (64, 65, 65)))
    linalg.svd_stack([normal(rng, (n, n)) for n in range(5, 10)])
    linalg.svd_stack(normal(rng, (8, 500, 3)))
    assert asked == ["svd", "svd"]
    linalg.augment_stack(np.zeros((8, 20, 0)), normal(rng, (8, 20, 5)))
    linalg.orthonormalize_stack(normal(rng, (8, 20, 5)))
    assert asked[2:] == ["basis", "basis"]
    linalg.augment_stack(np.zeros((8, 2000, 0)), normal(rng, (8, 2000, 5)))
    linalg.orthonormalize_stack(normal(rng, (8, 4, 5)))
    linalg.orthonormalize_stack(normal(rng, (1, 20, 5)))
    assert len(asked) == 4


def test_without_numba(monkeypatch, rng):
    monkeypatch.setattr(_compiled, "module", lambda name: None)
    A = normal(rng, (16, 6, 4))
    check_svd(A, *linalg.svd_stack(A))
    U0 = np.stack([random_orthonormal(rng, 6, 2) for _ in range(16)])
    check_basis(U0, A, linalg.augment_stack(U0, A))


def test_what_cannot_be_compiled_is_computed_by_numpy(monkeypatch, rng):
    from numba.core.errors import TypingError

    def broken(*_):
        raise TypingError("no such type\nmore lines")

    A = normal(rng, (16, 6, 4))
    U0 = np.stack([random_orthonormal(rng, 6, 2) for _ in range(16)])
    monkeypatch.setattr(batched, "_svds", broken)
    monkeypatch.setattr(batched, "_bases", broken)
    monkeypatch.setattr(batched, "svd", _compiled.with_twin(batched.svd_by_numpy)(batched.svd.__wrapped__))
    monkeypatch.setattr(batched, "basis", _compiled.with_twin(_stacks.augmented)(batched.basis.__wrapped__))
    with pytest.warns(
        DlraWarning, match=r"could not compile dlra.kernels.batched.svd \(TypingError: no such type\)"
    ):
        check_svd(A, *linalg.svd_stack(A))
    with pytest.warns(DlraWarning, match=r"could not compile dlra.kernels.batched.basis"):
        check_basis(U0, A, linalg.augment_stack(U0, A))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_svd(A, *linalg.svd_stack(A))
        check_basis(U0, A, linalg.augment_stack(U0, A))


# ---- threads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_share_the_members(threads, monkeypatch, rng):
    A = normal(rng, (37, 6, 5))
    U0 = np.stack([random_orthonormal(rng, 6, 1) for _ in range(37)])
    expected = (*batched.svd(A), batched.basis(U0, A))
    started = []
    monkeypatch.setattr(batched, "_SECONDS_A_THREAD", 1e-12)
    monkeypatch.setattr(batched, "blas_threads", lambda: threads)
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (started.append(self), start(self)))
    for x, y in zip(expected, (*batched.svd(A), batched.basis(U0, A)), strict=True):
        assert np.array_equal(x, y)
    assert len(started) == 2 * (min(threads, 5) - 1)


def test_a_failure_in_another_thread_is_raised(monkeypatch):
    monkeypatch.setattr(batched, "blas_threads", lambda: 4)

    def work(start, stop):
        if start > 0:
            raise MemoryError(f"members {start} to {stop}")

    with pytest.raises(MemoryError, match="members 8 to 16"):
        batched._shared(16, 8, 1.0, work)


def test_threads_of_the_caller_stay_as_they_are(rng):
    import numba
    from threadpoolctl import threadpool_info, threadpool_limits

    before = numba.get_num_threads()
    for count in (1, 2):
        with threadpool_limits(count, "blas"):
            pools = [pool["num_threads"] for pool in threadpool_info()]
            linalg.svd_stack(normal(rng, (200, 20, 20)))
            assert batched.blas_threads() == count and numba.get_num_threads() == before
            assert [pool["num_threads"] for pool in threadpool_info()] == pools


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_forked_children_and_several_callers():
    """Both end the process where numba's own threads are used."""
    code = """
        import os, threading, warnings
        import numpy as np
        from dlra.kernels import batched
        from dlra.linalg import svd_stack
        batched._SECONDS_A_THREAD = 1e-9
        batched.blas_threads = lambda: 2
        A = np.random.default_rng(0).standard_normal((32, 8, 8))
        s = svd_stack(A)[1]
        callers = [threading.Thread(target=lambda: [svd_stack(A) for _ in range(20)]) for _ in range(3)]
        [caller.start() for caller in callers]
        [caller.join() for caller in callers]
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(svd_stack(A)[1], s) else 1)
        print("ended with", os.waitpid(child, 0)[1])
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "ended with 0", done.stderr


# ---- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("n", [4, 70])
def test_values_that_are_not_finite(n, name, bad, rng):
    library = get_library(name)
    host = normal(rng, (9, n, 3))
    host[6, 2, 1] = bad
    A = library.asarray(host)
    U0 = library.asarray(np.zeros((9, n, 1)))
    with pytest.raises(ValueError, match="A contains NaN or infinite values in member 6 of the stack"):
        linalg.svd_stack(A)
    with pytest.raises(ValueError, match="A contains NaN or infinite values in member 6 of the stack"):
        linalg.orthonormalize_stack(A)
    with pytest.raises(ValueError, match="X contains NaN or infinite values in member 6 of the stack"):
        linalg.augment_stack(U0, A)
    with pytest.raises(ValueError, match=r"A\[6\] contains NaN"):
        linalg.svd_stack(list(A))


def test_what_does_not_converge_is_named(monkeypatch, rng):
    A = np.stack([np.eye(4)] * 11)
    A[9] = normal(rng, (4, 4))
    monkeypatch.setattr(batched, "_SWEEPS", 1)
    with pytest.raises(np.linalg.LinAlgError, match="member 8 of the stack did not converge"):
        linalg.svd_stack(A)


def test_the_kernel_ends_whatever_comes(rng):
    """The public functions refuse these; nothing loops on them."""
    for bad in (np.nan, np.inf):
        A = normal(rng, (9, 5, 5))
        A[3, 2, 2] = bad
        U, s, _, _ = batched.svd(A)
        batched.basis(A[:, :, :0], A)
        others = [i for i in range(9) if i != 3]
        assert np.isfinite(s[others]).all() and orthonormality(U[others]) < 1e-14


def test_bad_arguments():
    A = np.ones((3, 4, 2))
    for function in (linalg.svd_stack, linalg.orthonormalize_stack):
        with pytest.raises(
            ValueError, match=r"A must be a stack of matrices of shape .*got an array of shape \(4, 2\)"
        ):
            function(A[0])
        with pytest.raises(TypeError, match="A must be of dtype float32, .*got int64; convert it first"):
            function(A.astype("int64"))
        with pytest.raises(TypeError, match="A must be an array of shape .*got str"):
            function("A")
    with pytest.raises(TypeError, match=r"A\[1\] must be a matrix, got ndarray of shape \(4,\)"):
        linalg.svd_stack([A[0], A[0, :, 0]])
    with pytest.raises(TypeError, match=r"A\[0\] must be of dtype .*got int64"):
        linalg.svd_stack([A[0].astype("int64")])
    with pytest.raises(ValueError, match="same number of members and rows"):
        linalg.augment_stack(A, A[:, :3])
    with pytest.raises(ValueError, match="same number of members and rows"):
        linalg.augment_stack(A, A[:2])
    with pytest.raises(
        ValueError, match=r"not have more columns together than rows, got 2 \+ 3 columns of 4 rows"
    ):
        linalg.augment_stack(A, np.ones((3, 4, 3)))
    with pytest.raises(TypeError, match="U0 and X need one dtype, got float64 and float32"):
        linalg.augment_stack(A, A.astype("float32"))
    with pytest.raises(TypeError, match="arrays of different libraries do not mix"):
        linalg.augment_stack(A, get_library("strict").asarray(A))
