"""The CUDA kernels, compiled by the host's compiler: threads of the machine stand for those of a block.

Tests that need a GPU compare the kernels there with NumPy.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from helpers import DTYPES, get_library
from hypothesis import given, settings
from hypothesis import strategies as st

from dlra.kernels import gpu
from dlra.nn import Adam, Momentum

BLOCK = r"""
#include <barrier>
#include <cmath>
#include <cstddef>
#include <thread>
#include <vector>
#define LANES 1
#define __device__
#define __global__
struct Index { int x; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim;
static std::barrier<>* meeting;
static double* shared;
static inline void __syncthreads() { meeting->arrive_and_wait(); }
#define SHARED(name) double* name = shared
using std::hypot; using std::sqrt;
"""

DRIVER = r"""
template <typename Kernel, typename... Arguments>
static void launch(int count, int threads, int bytes, Kernel kernel, Arguments... arguments)
{
    std::vector<double> room(bytes / sizeof(double) + 2, 1e300);
    for (blockIdx.x = 0; blockIdx.x < count; blockIdx.x++) {
        std::barrier<> all(threads);
        meeting = &all; shared = room.data(); blockDim.x = threads;
        std::vector<std::thread> team;
        for (int i = 0; i < threads; i++)
            team.emplace_back([=, &all] { threadIdx.x = i; kernel(arguments...); all.arrive_and_drop(); });
        for (auto& member : team) member.join();
    }
}
#define RUN(name, T, R) \
    extern "C" void run_##name(int count, int threads, int bytes, T* A, T* U, R* s, T* Vh, T* V, int* flag, int rows, \
                               int columns, int sweeps) \
    { launch(count, threads, bytes, name, A, U, s, Vh, V, flag, rows, columns, sweeps); }
RUN(svd_float32, Real<float>, float)
RUN(svd_float64, Real<double>, double)
RUN(svd_complex64, Complex<float>, float)
RUN(svd_complex128, Complex<double>, double)
template <typename T>
static void momentum(int n, const T* fs, T* Ms, T* Xs, T rate, T mu, T lam, T share)
{
    for (int i = 0; i < n; i++) { T f = fs[i]; T &M = Ms[i], &X = Xs[i]; MOMENTUM }
}
template <typename T>
static void adam(int n, const T* fs, T* ms, T* vs, const T* w1s, const T* w2s, T* Xs, T rate, T beta1, T beta2,
                 T gain1, T gain2, T small)
{
    for (int i = 0; i < n; i++) {
        T f = fs[i], w1 = w1s[i], w2 = w2s[i];
        T &m = ms[i], &v = vs[i], &X = Xs[i];
        ADAM
    }
}
#define EACH(name, T) \
    extern "C" void momentum_##name(int n, T* f, T* M, T* X, T rate, T mu, T lam, T share) \
    { momentum<T>(n, f, M, X, rate, mu, lam, share); } \
    extern "C" void adam_##name(int n, T* f, T* m, T* v, T* w1, T* w2, T* X, T rate, T beta1, T beta2, T gain1, \
                                T gain2, T small) \
    { adam<T>(n, f, m, v, w1, w2, X, rate, beta1, beta2, gain1, gain2, small); }
EACH(float32, float)
EACH(float64, double)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The kernels as a library of the host."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("gpu")
    texts = "".join(
        f"#define {name} {' '.join(text.split())}\n"
        for name, text in (("MOMENTUM", gpu.MOMENTUM), ("ADAM", gpu.ADAM))
    )
    (folder / "block.cpp").write_text(BLOCK + gpu.source() + texts + DRIVER, encoding="utf-8")
    command = [
        compiler,
        "-std=c++20",
        "-O1",
        "-shared",
        "-fPIC",
        "-pthread",
        "-Wall",
        "-Werror",
        "-o",
        "block.so",
    ]
    made = subprocess.run([*command, "block.cpp"], cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return ctypes.CDLL(str(folder / "block.so"))


def launcher(compiled, threads=1):
    """What :func:`dlra.kernels.gpu.decomposed` launches."""

    def launched(name, A, U, s, Vh, V, flag, sweeps):
        count, rows, columns = A.shape
        arrays = (A, U, s, Vh, V, flag)
        assert all(a.flags.c_contiguous for a in arrays)
        size = gpu.shared_bytes(rows, columns, A.dtype.itemsize)
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
        getattr(compiled, f"run_{name}")(count, threads, size, *pointers, rows, columns, sweeps)

    return launched


def matrices(kind: str, rng, shape, dtype) -> np.ndarray:
    A = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        A = A + 1j * rng.standard_normal(shape)
    p, q = shape[-2:]
    if kind == "zero":
        A = 0.0 * A
    elif kind == "rank one":
        A = A[..., :, :1] @ A[..., :1, :]
    elif kind == "graded columns":
        A = A * 10.0 ** (-16.0 * np.arange(q) / q)
    elif kind == "graded":
        A = 10.0 ** (-16.0 * np.arange(p) / p)[:, None] * A * 10.0 ** (-16.0 * np.arange(q) / q)
    elif kind == "some zero columns":
        A[..., ::2] = 0.0
    elif kind == "padded":
        A[..., p // 2 :, :] = 0.0
        A[..., q // 2 :] = 0.0
    elif kind == "diagonal":
        A = np.broadcast_to(np.eye(p, q), shape).copy()
    elif kind == "tiny":
        A = 1e-36 * A
    elif kind == "huge":
        A = 1e36 * A
    return A.astype(dtype)


KINDS = (
    "random", "zero", "rank one", "graded columns", "graded", "some zero columns", "padded", "diagonal", "tiny", "huge",
)  # fmt: skip


def check(A, U, s, Vh, flag):
    """That U diag(s) Vh is a singular value decomposition of A to a few units of roundoff, like NumPy's."""
    unit, k = np.finfo(A.dtype).eps, s.shape[-1]
    assert U.dtype == Vh.dtype == A.dtype and np.all(flag == 0)
    wide = A.astype(np.complex128)
    largest = np.maximum(np.linalg.norm(wide, axis=(-2, -1)), np.finfo(A.dtype).tiny)
    expected = np.linalg.svd(wide, compute_uv=False)
    assert np.all(np.diff(s, axis=-1) <= 0) and np.all(s >= 0)
    assert np.all(np.max(abs(s - expected), axis=-1) <= 30 * unit * largest)
    back = (U.astype(np.complex128) * s[..., None, :]) @ Vh
    assert np.all(np.linalg.norm(back - wide, axis=(-2, -1)) <= 60 * unit * largest)
    for left, right in zip(U, Vh, strict=True):
        assert np.linalg.norm(left.conj().T @ left - np.eye(k)) <= 10 * (k + 1) * unit
        assert np.linalg.norm(right @ right.conj().T - np.eye(k)) <= 10 * (k + 1) * unit


@given(
    st.sampled_from(DTYPES), st.sampled_from(KINDS), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20),
    st.integers(0, 2**31),
)  # fmt: skip
def test_singular_values(compiled, dtype, kind, count, p, q, seed):
    A = matrices(kind, np.random.default_rng(seed), (count, p, q), dtype)
    check(A, *gpu.decomposed(A, launcher(compiled)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_values_of_the_largest_matrices(compiled, dtype):
    rng = np.random.default_rng(2)
    for kind in KINDS:
        A = matrices(kind, rng, (1, 64, 64), dtype)
        check(A, *gpu.decomposed(A, launcher(compiled)))


@settings(max_examples=15)
@given(
    st.sampled_from(DTYPES), st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 12), st.integers(2, 5)
)
def test_threads_of_a_block_work_together(compiled, dtype, kind, p, q, threads):
    A = matrices(kind, np.random.default_rng(7), (2, p, q), dtype)
    check(A, *gpu.decomposed(A, launcher(compiled, threads)))


def test_small_singular_values_keep_their_digits(compiled):
    rng = np.random.default_rng(0)
    scales = 10.0 ** -np.arange(0.0, 150.0, 15.0)
    A = np.linalg.qr(rng.standard_normal((1, 10, 10)))[0] * scales
    np.testing.assert_allclose(gpu.decomposed(A, launcher(compiled))[1][0], scales, rtol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_flagged(compiled, dtype, bad):
    A = matrices("random", np.random.default_rng(0), (3, 6, 5), dtype)
    A[1, 2, 3] = bad
    U, s, Vh, flag = gpu.decomposed(A, launcher(compiled, 3))
    assert flag.tolist() == [0, 2, 0]
    assert all(np.isnan(a[1]).all() and np.isfinite(a[0]).all() for a in (U, s, Vh))


def test_sweeps_are_bounded(compiled, monkeypatch):
    monkeypatch.setattr(gpu, "SWEEPS", 1)
    A = matrices("random", np.random.default_rng(0), (2, 30, 30), "float64")
    assert gpu.decomposed(A, launcher(compiled))[3].tolist() == [1, 1]


def test_memory_layouts(compiled):
    A = matrices("random", np.random.default_rng(0), (4, 7, 5), "float64")
    expected = gpu.decomposed(A, launcher(compiled))[1]
    other = np.asfortranarray(A)
    reversed_twice = A[::-1, ::-1].copy()[::-1, ::-1]
    frozen = A.copy()
    frozen.flags.writeable = False
    for B in (other, reversed_twice, frozen):
        before = B.copy()
        assert np.array_equal(gpu.decomposed(B, launcher(compiled))[1], expected)
        assert np.array_equal(B, before)


@pytest.mark.parametrize("shape", [(65, 3), (1, 65, 3), (1, 3, 65), (0, 3, 3), (2, 0, 3)])
def test_stacks_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="A must be a stack of matrices"):
        gpu.decomposed(np.ones(shape), lambda *_: None)


# ---- optimisers


def pointers(*arrays):
    return (ctypes.c_void_p(a.ctypes.data) for a in arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_updates_are_those_of_the_optimisers(compiled, dtype):
    rng = np.random.default_rng(0)
    number = ctypes.c_float if dtype == "float32" else ctypes.c_double
    X = rng.standard_normal((6, 5)).astype(dtype)
    first, second = Momentum(lr=0.1, mu=0.8, lam=0.3), Adam(lr=0.1)
    memory = (first.empty(X, True), second.empty(X, True))
    (M,), (m,), (v, *_) = memory[0].moments, memory[1].moments, memory[1].squares
    M, m, v = M.copy(), m.copy(), v.copy()
    for _ in range(4):
        f = rng.standard_normal(X.shape).astype(dtype)
        moved, after = first.increment(0.1, f, memory[0], X)
        result = np.empty_like(f)
        getattr(compiled, f"momentum_{dtype}")(
            f.size, *pointers(f, M, result), *map(number, (0.1, 0.8, 0.3, 0.94))
        )
        np.testing.assert_allclose(result, moved, rtol=20 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
        np.testing.assert_allclose(
            M, after.moments[0], rtol=20 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps
        )
        shifted, then = second.increment(0.1, f, memory[1], X)
        w = [np.ascontiguousarray(np.broadcast_to(a, f.shape)) for a in memory[1].squares[1:]]
        beta1, beta2 = second.beta1, second.beta2
        options = map(number, (0.1, beta1, beta2, 1 - beta1, 1 - beta2, second.eps))
        getattr(compiled, f"adam_{dtype}")(f.size, *pointers(f, m, v, *w, result), *options)
        np.testing.assert_allclose(result, shifted, rtol=50 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
        np.testing.assert_allclose(
            v, then.squares[0], rtol=50 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps
        )
        memory = (after, then)


# ---- on a GPU


@pytest.fixture(scope="module")
def cupy():
    return get_library("cupy")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_values_on_a_gpu(cupy, dtype):
    rng = np.random.default_rng(2)
    for kind in KINDS:
        for shape in ((5, 64, 64), (3, 33, 20), (3, 20, 33), (2, 1, 1)):
            A = matrices(kind, rng, shape, dtype)
            check(A, *(cupy.to_numpy(a) for a in gpu.svd(cupy.asarray(A))))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_bases_on_a_gpu(cupy, dtype):
    rng = np.random.default_rng(0)
    U0 = np.linalg.qr(rng.standard_normal((2, 5000, 16)))[0].astype(dtype)
    X = rng.standard_normal((2, 5000, 16)).astype(dtype)
    X[0, :, 3], X[1] = X[0, :, 2], 0
    for Q, expected in (
        (cupy.to_numpy(gpu.augment(cupy.asarray(U0), cupy.asarray(X))), 32),
        (cupy.to_numpy(gpu.orthonormalize(cupy.asarray(X))), 16),
    ):
        for basis in Q:
            assert np.linalg.norm(basis.conj().T @ basis - np.eye(expected), 2) <= 20 * np.finfo(dtype).eps


@pytest.mark.gpu
def test_updates_on_a_gpu(cupy):
    rng = np.random.default_rng(0)
    f, M, m = (rng.standard_normal((6, 5)) for _ in range(3))
    v, w1, w2 = rng.random((6, 5)), rng.random((6, 5)), rng.random((6, 5))
    from dlra.nn.optimizers import Memory

    moved, after = Momentum(lr=0.1, mu=0.8, lam=0.3).increment(0.1, f, Memory((M,)), f)
    found = gpu.momentum(cupy.asarray(f), cupy.asarray(M), 0.1, 0.8, 0.3)
    for a, b in zip(found, (moved, after.moments[0]), strict=True):
        np.testing.assert_allclose(cupy.to_numpy(a), b, rtol=1e-13)
    adam = Adam(lr=0.1)
    moved, after = adam.increment(0.1, f, Memory((m,), (v, w1, w2)), f)
    found = gpu.adam(*map(cupy.asarray, (f, m, v, w1, w2)), 0.1, adam.beta1, adam.beta2, adam.eps)
    for a, b in zip(found, (moved, after.moments[0], after.squares[0]), strict=True):
        np.testing.assert_allclose(cupy.to_numpy(a), b, rtol=1e-13)
