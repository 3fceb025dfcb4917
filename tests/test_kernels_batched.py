"""Stacks of small matrices: orthonormal to a few ulp, small singular values to their last digits, no member dropped."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest
from helpers import DTYPES, eps, get_library, normal, random_orthonormal, to_numpy
from hypothesis import given
from hypothesis import strategies as st

from dlra import DlraWarning, linalg
from dlra.kernels import _compiled, threads

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


# ---- array libraries and layouts -----------------------------------------------------------------------------


def test_every_library_and_dtype(typed_library, rng):
    library, dtype = typed_library
    A = normal(rng, (64, 6, 5), dtype)
    answers = linalg.svd_stack(library.asarray(A))
    assert all(library.owns(a) for a in answers)
    check_svd(A, *map(to_numpy, answers))
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
    assert np.array_equal(A, B)


def test_a_list_of_matrices_of_different_shapes(rng):
    shapes = [(5, 5), (3, 7), (5, 5), (60, 60), (1, 1)] + [(5, 5)] * 50
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


# ---- which code answers --------------------------------------------------------------------------------------


def test_where_compiled_code_answers(monkeypatch, rng):
    asked = []

    class Module:
        @staticmethod
        def svd(A):
            asked.append("svd")
            return (*np.linalg.svd(A, full_matrices=False), np.ones(A.shape[0], bool))

    monkeypatch.setattr(_compiled, "module", lambda name: Module if name == "batched" else None)
    linalg.svd_stack(normal(rng, (64, 20, 20)))
    linalg.svd_stack([normal(rng, (10, 10)) for _ in range(32)])
    assert asked == ["svd", "svd"]
    linalg.svd_stack(normal(rng, (1, 20, 20)))
    linalg.svd_stack(normal(rng, (64, 65, 65)))
    linalg.svd_stack([normal(rng, (n, n)) for n in range(5, 10)])
    linalg.svd_stack(normal(rng, (8, 500, 3)))
    linalg.svd_stack(normal(rng, (8, 10, 10)))  # not worth compiling
    linalg.svd_stack(normal(rng, (64, 2, 3)))
    linalg.svd_stack([normal(rng, (10, 10)) for _ in range(8)])
    assert asked == ["svd", "svd"]


def test_without_numba(monkeypatch, rng):
    monkeypatch.setattr(_compiled, "module", lambda name: None)
    A = normal(rng, (64, 6, 4))
    check_svd(A, *linalg.svd_stack(A))


def test_what_cannot_be_compiled_is_computed_by_numpy(monkeypatch, rng):
    from numba.core.errors import TypingError

    def broken(*_):
        raise TypingError("no such type\nmore lines")

    A = normal(rng, (64, 6, 4))
    monkeypatch.setattr(batched, "_svds", broken)
    monkeypatch.setattr(batched, "svd", _compiled.with_twin(batched.svd_by_numpy)(batched.svd.__wrapped__))
    with pytest.warns(
        DlraWarning, match=r"could not compile dlra.kernels.batched.svd \(TypingError: no such type\)"
    ):
        check_svd(A, *linalg.svd_stack(A))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_svd(A, *linalg.svd_stack(A))


@pytest.mark.parametrize("case", ["broken", "switched off"])
def test_where_numba_does_not_work(case, tmp_path):
    """Broken as where NumPy is newer than it supports: one warning. The numbers are LAPACK's."""
    if case == "broken":
        (tmp_path / "numba.py").write_text(
            "raise ImportError('Numba needs NumPy 2.2 or less')", encoding="utf-8"
        )
    code = f"""
        import os, sys, warnings
        os.environ["NUMBA_DISABLE_JIT"] = "1"
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np
        from dlra.kernels import _compiled
        from dlra.linalg import svd_stack
        A = np.random.default_rng(0).standard_normal((64, 9, 9))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                assert np.array_equal(svd_stack(A)[1], np.linalg.svd(A)[1])
            assert _compiled.module("updates") is None
        print(*(f"{{type(w.message).__name__}}: {{w.message}}" for w in caught))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = "DlraWarning: numba is installed but could not be imported (ImportError: Numba needs"
    assert done.stdout.count("DlraWarning") == done.stdout.count(shown) == (case == "broken")


# ---- threads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("available", [2, 3, 7])
def test_threads_share_the_members(available, monkeypatch, rng):
    A = normal(rng, (37, 6, 5))
    expected = batched.svd(A)
    counts, share = [], batched.share
    monkeypatch.setattr(batched, "_SECONDS_A_THREAD", 1e-12)
    monkeypatch.setattr(batched, "blas_threads", lambda: available)
    monkeypatch.setattr(batched, "share", lambda count, work: (counts.append(count), share(count, work)))
    for x, y in zip(expected, batched.svd(A), strict=True):
        assert np.array_equal(x, y)
    assert counts == [min(available, 5)]


def test_a_failure_in_another_thread_is_raised(monkeypatch):
    monkeypatch.setattr(batched, "blas_threads", lambda: 4)

    def work(start, stop):
        if start > 0:
            raise MemoryError(f"members {start} to {stop}")

    with pytest.raises(MemoryError, match="members 8 to 16"):
        batched._shared(16, 8, 1.0, work)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_work_is_shared(count):
    """Each piece once, all at the same time, on threads of which one is the caller's; BLAS has one thread then."""
    seen = {}
    together = threading.Barrier(count)

    def work(i):
        together.wait(timeout=60)
        seen[i] = threading.get_ident(), threads.blas_threads()

    before = threads.blas_threads()
    threads.share(count, work)
    assert sorted(seen) == list(range(count)) and seen[0][0] == threading.get_ident()
    assert len({ident for ident, _ in seen.values()}) == count
    assert all(blas == 1 for _, blas in seen.values()) or count == 1
    assert threads.blas_threads() == before


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_exceptions_come_when_all_have_ended(failing):
    ended = []
    last = threading.Event()

    def work(i):
        if i == failing:
            last.set()
            raise MemoryError(f"piece {i}")
        last.wait(timeout=60)
        time.sleep(0.02)
        ended.append(i)

    before = threads.blas_threads()
    with pytest.raises(MemoryError, match=f"piece {failing}"):
        threads.share(3, work)
    assert sorted(ended) == [i for i in range(3) if i != failing]
    assert threads.blas_threads() == before


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
    with pytest.raises(ValueError, match="A contains NaN or infinite values in member 6 of the stack"):
        linalg.svd_stack(A)
    with pytest.raises(ValueError, match=r"A\[6\] contains NaN"):
        linalg.svd_stack(list(A))


@pytest.mark.parametrize("b", [2, 64])
def test_no_singular_value_is_minus_zero(b):
    """LAPACK gives some."""
    for dtype in ("float32", "complex128"):
        for A in (np.zeros((b, 4, 4)), np.eye(4) * np.array([1, 1, 0, 0]) * np.ones((b, 1, 1))):
            assert not np.signbit(linalg.svd_stack(-A.astype(dtype))[1]).any()


def test_what_does_not_converge_is_named(monkeypatch, rng):
    A = np.stack([np.eye(10)] * 29)
    A[9] = normal(rng, (10, 10))
    monkeypatch.setattr(batched, "_SWEEPS", 1)
    with pytest.raises(np.linalg.LinAlgError, match="members 8, .* of the stack did not converge"):
        linalg.svd_stack(A)


def test_the_kernel_ends_whatever_comes(rng):
    """The public functions refuse these; nothing loops on them."""
    for bad in (np.nan, np.inf):
        A = normal(rng, (9, 5, 5))
        A[3, 2, 2] = bad
        U, s, _, _ = batched.svd(A)
        others = [i for i in range(9) if i != 3]
        assert np.isfinite(s[others]).all() and orthonormality(U[others]) < 1e-14


def test_bad_arguments():
    A = np.ones((3, 4, 2))
    for broken, error, text in (
        (A[0], ValueError, r"A must be a stack of matrices of shape .*got an array of shape \(4, 2\)"),
        (A.astype("int64"), TypeError, "A must have dtype float32, .*got int64; cast it"),
        ("A", TypeError, "A must be an array of shape .*got str"),
        ([A[0], A[0, :, 0]], TypeError, r"A\[1\] must be a matrix, got ndarray of shape \(4,\)"),
        ([A[0].astype("int64")], TypeError, r"A\[0\] must have dtype .*got int64"),
    ):
        with pytest.raises(error, match=text):
            linalg.svd_stack(broken)
