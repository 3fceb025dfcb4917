"""The kernels behind augment, orthonormalize, qr, rotate and tall products, on NumPy arrays."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from helpers import DTYPES, eps, is_complex, orthonormality, random_orthonormal
from hypothesis import given, settings
from hypothesis import strategies as st

from dlra import linalg
from dlra.kernels import lapack, tall, threads

COLUMNS = (
    "gaussian",
    "graded",
    "mixed",
    "dependent",
    "zero",
    "within",
    "nearly within",
    "one huge",
    "one tiny",
)


def gaussian(rng, m, k, dtype):
    A = rng.standard_normal((m, k))
    return (A + 1j * rng.standard_normal((m, k)) if is_complex(dtype) else A).astype(dtype)


def columns(rng, kind, U0, k, dtype):
    """m x k columns that are in some way hard to orthonormalise."""
    m, r = U0.shape
    X = gaussian(rng, m, k, dtype)
    tiny, huge = np.finfo(dtype).tiny, np.sqrt(np.finfo(dtype).max)
    if kind == "graded":  # down to 1e-300 in double precision
        X = X * np.geomspace(1, tiny * 1e8, k).astype(dtype)
    elif kind == "mixed":
        X = (X * np.geomspace(1, 1e-12, k).astype(dtype)) @ random_orthonormal(rng, k, k, dtype)
    elif kind == "dependent":
        X = X[:, : (k + 1) // 2] @ gaussian(rng, (k + 1) // 2, k, dtype)
    elif kind == "zero":
        X[:, ::2] = 0
    elif kind in ("within", "nearly within"):
        X = (
            U0 @ gaussian(rng, r, k, dtype)
            + (0 if kind == "within" else np.sqrt(eps(dtype)).astype(dtype)) * X
        )
    elif kind in ("kahan", "triangular"):  # far from dependent one after the other, but not all together
        c, s = (np.cos(1.2), np.sin(1.2)) if kind == "kahan" else (0.3, 1.0)
        R = s ** np.arange(k)[:, None] * (np.eye(k) - c * np.triu(np.ones((k, k)), 1))
        X = np.linalg.qr(X)[0] @ R.astype(dtype)
    elif kind == "noise":  # directions of which each is too short to count
        X[:, k // 3 :] *= np.asarray(5 * eps(dtype), dtype)
    elif kind == "one huge":
        X[:, 0] *= huge.astype(dtype)
    elif kind == "one tiny":
        X[:, 0] *= (1e10 * tiny).astype(dtype)
    return X


def outside(Q, X, wide="float64"):
    """‖X - Q QᴴX‖₂ / ‖X‖ in a wider precision, without overflow."""
    wide = np.result_type(wide, np.complex64) if is_complex(Q.dtype) else np.dtype(wide)
    X = X.astype(wide)
    largest = np.max(np.abs(X), initial=0.0)
    if largest == 0:
        return 0.0
    X, Q = X / largest, Q.astype(wide)
    left = X - Q @ (Q.conj().T @ X)
    gram = (left.conj().T @ left / np.sum(np.abs(X) ** 2)).astype(np.complex128)
    return np.sqrt(max(0.0, np.linalg.eigvalsh(gram)[-1]))


def exact_orthonormality(Q):
    """‖QᴴQ - I‖ in extended precision: in double the sum over so many equal rows is wrong itself."""
    Q = Q.astype(np.clongdouble if is_complex(Q.dtype) else np.longdouble)
    return float(np.sqrt(np.sum(np.abs(Q.conj().T @ Q - np.eye(Q.shape[1])) ** 2)))


def allowed(Q):
    """1e-14 √q in double precision."""
    return 1e-14 * eps(Q.dtype) / eps("float64") * np.sqrt(Q.shape[1])


def is_basis(Q, U0, X):
    """The contract of augment."""
    r = U0.shape[1]
    assert Q.dtype == X.dtype and r <= Q.shape[1] <= r + X.shape[1]
    assert np.array_equal(Q[:, :r], U0)
    assert orthonormality(Q) <= allowed(Q)
    bound = 10 * eps(Q.dtype) + orthonormality(Q)  # Q Qᴴ is a projection up to that
    assert outside(Q, X) <= bound or outside(Q, X, "longdouble") <= bound


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(140, 3000),
    r=st.integers(0, 12),
    k=st.sampled_from([1, 2, 3, 5, 8, 12, 20, 50]),
    kind=st.sampled_from(COLUMNS),
    scale=st.sampled_from([1.0, 1e-30, 1e30, 1e-250, 1e250]),
    dtype=st.sampled_from(DTYPES),
    lapack_usable=st.booleans(),
)
def test_every_way_to_a_basis_keeps_the_contract(seed, m, r, k, kind, scale, dtype, lapack_usable):
    rng = np.random.default_rng(seed)
    U0 = random_orthonormal(rng, m, r, dtype) if r else np.empty((m, 0), dtype)
    if r == 0 and kind in ("within", "nearly within"):
        kind = "gaussian"
    if np.dtype(dtype).char in "fF":
        scale = float(np.clip(scale, 1e-10, 1e10))
    X = columns(rng, kind, U0, k, dtype) * np.asarray(scale if kind != "one huge" else 1.0).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        if not lapack_usable:
            patch.setattr(lapack, "usable", lambda entries: False)
        is_basis(linalg.augment(U0, X), U0, X)
        patch.setattr(tall, "_SHORT", 0)
        Q = tall.augmented(U0, X)
        assert Q is not None
        is_basis(Q, U0, X)
        is_basis(linalg.augment(U0, X), U0, X)
        if r == 0:
            Q = linalg.orthonormalize(X)
            is_basis(Q, U0, X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["kahan", "triangular"])
def test_columns_that_only_together_are_nearly_dependent(rng, dtype, kind):
    U0 = random_orthonormal(rng, 5000, 4, dtype)
    X = columns(rng, kind, U0[:, :0], 50, dtype)
    is_basis(tall.augmented(U0[:, :0], X), U0[:, :0], X)
    X = columns(rng, kind, U0, 50, dtype)
    is_basis(tall.augmented(U0, X), U0, X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [10_001, 70_001, 300_001])
def test_rows_that_are_all_the_same(dtype, m):
    ones, halves = np.ones((m, 1)), np.where(np.arange(m) < m // 2, 1.0, -1.0)[:, None]
    first = np.zeros((m, 1))
    first[0] = 1
    X = np.concatenate((ones, halves, 3 * ones + first), axis=1).astype(dtype)
    for U0 in (np.empty((m, 0), dtype), np.eye(m, 4, dtype=dtype)):
        Q = tall.augmented(U0, X[:, :1])
        assert exact_orthonormality(Q) <= allowed(Q)
        Q = tall.augmented(U0, X)
        assert exact_orthonormality(Q) <= allowed(Q)
    assert exact_orthonormality(tall.rotated(Q, np.eye(Q.shape[1], dtype=dtype), 0.0)) <= allowed(Q)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dependent", "within", "zero"])
def test_what_depends_is_dropped(rng, dtype, kind):
    U0 = random_orthonormal(rng, 2000, 6, dtype)
    X = columns(rng, kind, U0, 8, dtype)
    assert tall.augmented(U0, X).shape[1] == 6 + {"dependent": 4, "within": 0, "zero": 4}[kind]


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_and_generic_twin_span_the_same(rng, dtype):
    U0 = random_orthonormal(rng, 3000, 8, dtype)
    X = gaussian(rng, 3000, 6, dtype) * np.geomspace(1, 1e-3, 6).astype(dtype)
    fast, generic = tall.augmented(U0, X)[:, 8:], linalg.complement(X, [U0])
    assert fast.shape == generic.shape
    assert outside(generic, fast) <= 1e3 * eps(dtype) and outside(fast, generic) <= 1e3 * eps(dtype)


def layouts(A):
    """The same numbers, differently in memory."""
    padded = np.zeros((2 * A.shape[0], 3 * A.shape[1]), dtype=A.dtype)
    padded[::2, ::3] = A
    read_only = A.copy()
    read_only.flags.writeable = False
    yield "Fortran", np.asfortranarray(A)
    yield "strided", padded[::2, ::3]
    yield "negative strides", A[::-1, ::-1].copy()[::-1, ::-1]
    yield "read-only", read_only
    yield "big-endian", A.astype(A.dtype.newbyteorder(">"))


def close(A, B):
    """Equal up to rounding: products of other memory orders may be summed in another order."""
    return np.allclose(A, B, rtol=0, atol=100 * eps(A.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "same"), [(60, np.array_equal), (4000, close), (30_000, np.array_equal)])
def test_memory_layout_does_not_matter(rng, dtype, m, same):
    U0, X = random_orthonormal(rng, m, 7, dtype), gaussian(rng, m, 7, dtype)
    kept = U0.copy(), X.copy()
    basis, (Q, R), range_ = linalg.augment(U0, X), linalg.qr(X), linalg.orthonormalize(X)
    P = random_orthonormal(rng, 7, 5, dtype)
    for (name, U0_), (_, X_) in zip(layouts(U0), layouts(X), strict=True):
        assert same(linalg.augment(U0_, X_), basis), name
        assert np.array_equal(linalg.orthonormalize(X_), range_), name
        assert all(np.array_equal(a, b) for a, b in zip(linalg.qr(X_), (Q, R), strict=True)), name
        assert np.allclose(linalg.rotate(U0_, P), linalg.rotate(U0, P), rtol=0, atol=30 * eps(dtype)), name
        assert np.allclose(linalg.inner(U0_, X_), linalg.inner(U0, X), rtol=0, atol=1e3 * eps(dtype)), name
        assert np.allclose(linalg.times(U0_, R), linalg.times(U0, R), rtol=0, atol=1e3 * eps(dtype)), name
    assert np.array_equal(U0, kept[0]) and np.array_equal(X, kept[1]), "the arguments were overwritten"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("m", [50, 5000])
def test_nan_and_infinity_end_at_once(rng, bad, m):
    U0, X = random_orthonormal(rng, m, 5, "float64"), gaussian(rng, m, 5, "float64")
    X[m // 2, 3] = bad
    with pytest.raises(ValueError, match="X contains NaN or infinite values"):
        linalg.augment(U0, X)
    with pytest.raises(ValueError, match="A contains NaN or infinite values"):
        linalg.orthonormalize(X)


@pytest.mark.parametrize("m", [20, 700, 5000])
def test_a_broken_basis_is_named(rng, m):
    U0, X = random_orthonormal(rng, m, 5, "float64"), gaussian(rng, m, 5, "float64")
    U0[7, 2] = np.nan
    with pytest.raises(ValueError, match="U0 contains NaN or infinite values"):
        linalg.augment(U0, X)


def test_where_the_kernel_gives_up_the_twin_answers(rng, monkeypatch):
    U0, X = random_orthonormal(rng, 5000, 5, "float64"), gaussian(rng, 5000, 5, "float64")
    monkeypatch.setattr(tall, "_ROUNDS", 0)
    assert tall.augmented(U0, X) is None
    is_basis(linalg.augment(U0, X), U0, X)
    is_basis(linalg.orthonormalize(X), U0[:, :0], X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (3, 7), (40, 6), (9000, 3), (20_000, 60)])
def test_qr_without_wrappers(rng, dtype, shape):
    A = gaussian(rng, *shape, dtype)
    for Q, R in (lapack.qr(A), linalg.qr(A), *([lapack.tall_qr(A)] if shape[0] > shape[1] else [])):
        k = min(shape)
        assert Q.shape == (shape[0], k) and R.shape == (k, shape[1]) and Q.dtype == R.dtype == A.dtype
        assert orthonormality(Q) <= 30 * eps(dtype) * np.sqrt(k)
        assert np.linalg.norm(Q @ R - A) <= 30 * eps(dtype) * np.linalg.norm(A)
        assert np.array_equal(R, np.triu(R))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tall_qr_of_columns_of_any_condition(rng, dtype):
    A = gaussian(rng, 20_000, 12, dtype) @ np.diag(np.geomspace(1, eps(dtype) ** 2, 12)).astype(dtype)
    A = A @ random_orthonormal(rng, 12, 12, dtype)
    A[:, 5] = 0
    Q, R = lapack.tall_qr(A)
    assert orthonormality(Q) <= 30 * eps(dtype) * np.sqrt(12)
    assert np.linalg.norm(Q @ R - A) <= 30 * eps(dtype) * np.linalg.norm(A)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_in_blocks(rng, dtype):
    U, X, P = gaussian(rng, 30_000, 7, dtype), gaussian(rng, 30_000, 5, dtype), gaussian(rng, 7, 4, dtype)
    scale = eps(dtype) * np.linalg.norm(U)
    assert np.linalg.norm(tall.product(U, P) - U @ P) <= 10 * scale * np.linalg.norm(P)
    assert np.linalg.norm(tall.inner(U, X) - U.conj().T @ X) <= 10 * scale * np.linalg.norm(X)
    assert tall.inner(U, X).dtype == tall.product(U, P).dtype == U.dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotation_in_blocks_corrects_a_loss(rng, dtype):
    U, P = random_orthonormal(rng, 30_000, 8, dtype), random_orthonormal(rng, 8, 5, dtype)
    plain = tall.rotated(U, P, np.inf)
    assert np.allclose(plain, U @ P, rtol=0, atol=10 * eps(dtype))
    lost = U * np.asarray(1 + 1e3 * eps(dtype), dtype)
    assert orthonormality(tall.rotated(lost, P, np.inf)) > 200 * eps(dtype)
    assert orthonormality(linalg.rotate(lost, P)) <= 20 * eps(dtype) * np.sqrt(5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [50, 1500, 5000])
def test_subnormal_columns(rng, dtype, m):
    U0, X = random_orthonormal(rng, m, 4, dtype), gaussian(rng, m, 3, dtype)
    tiny = np.finfo(dtype).tiny
    small = (X * np.asarray(tiny * 2.0**-12, dtype)).astype(dtype)
    Q = linalg.augment(U0, small)
    assert Q.shape[1] == 7 and orthonormality(Q) <= allowed(Q)
    assert outside(Q, small / np.asarray(tiny, dtype)) <= 10 * eps(dtype) + orthonormality(Q)


@pytest.mark.parametrize(
    ("U0", "X", "message"),
    [
        (np.eye(9, 2), np.ones((9, 2), int), "X must have dtype float32, .* got int64"),
        (np.eye(9, 2, dtype=np.float16), np.ones((9, 2)), "U0 must have dtype float32, .* got float16"),
        (np.eye(9, 2, dtype=np.float32), np.ones((9, 2)), "one dtype, got float32 and float64"),
        (
            np.eye(9, 2),
            np.ma.masked_less(np.ones((9, 2)), 2),
            "X must be an array .* got MaskedArray .*filled",
        ),
        (np.eye(9, 2), np.full((9, 2), "a"), "X must have dtype float32"),
        (np.eye(9, 2), np.ones((9, 2), np.longdouble), "X must have dtype float32"),
    ],
)
def test_other_types_are_refused(U0, X, message):
    with pytest.raises(TypeError, match=message):
        linalg.augment(U0, X)


# ---- threads


@pytest.fixture
def two_threads():
    """NumPy's and SciPy's BLAS with two threads each."""
    controller = pytest.importorskip("threadpoolctl")
    with controller.threadpool_limits(2, user_api="blas"):
        if threads.blas_threads() != 2:
            pytest.skip("this BLAS cannot be given two threads")
        yield


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_parts_of_the_rows_on_several_threads(rng, dtype, two_threads):
    U0, X = random_orthonormal(rng, 100_000, 6, dtype), gaussian(rng, 100_000, 6, dtype)
    Q = tall.augmented(U0, X)
    is_basis(Q, U0, X)
    assert all(np.array_equal(tall.augmented(U0, X), Q) for _ in range(5)), "the bits depend on timing"
    P = gaussian(rng, 12, 12, dtype)
    assert np.allclose(tall.product(Q, P), Q @ P, rtol=0, atol=1e3 * eps(dtype))
    assert threads.blas_threads() == 2


def test_settings_come_back(two_threads):
    with threads.one_thread(everything=True):
        assert threads.blas_threads() == 1 and threads.lapack_has_one()
        with threads.one_thread(everything=False):
            assert threads.blas_threads() == 1
        assert threads.blas_threads() == 1
    assert threads.blas_threads() == 2 and not threads.lapack_has_one()
    with threads.one_thread(everything=False):
        assert threads.blas_threads() == 2 and threads.lapack_has_one()
    with pytest.raises(RuntimeError, match="halfway"), threads.one_thread(everything=True):
        raise RuntimeError("halfway")
    assert threads.blas_threads() == 2 and not threads.lapack_has_one()


def test_settings_come_back_after_an_interruption(two_threads, monkeypatch):
    first, second = (pools[0] for pools in threads._pools())
    monkeypatch.setattr(second, "hold", lambda holder: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), threads.one_thread(everything=True):
        pass
    assert first.threads == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_the_settings_of_its_parent_outside_of_steps(two_threads):
    with threads.one_thread(everything=True):
        child = os.fork()
        if child == 0:
            os._exit(threads.blas_threads())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_settings_come_back_when_steps_overlap(two_threads):
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with threads.one_thread(everything=True):
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with threads.one_thread(everything=True):
        other.start()
        inside.wait(10)
    assert threads.blas_threads() == 1, "another step still needs one thread"
    leave.set()
    other.join()
    assert threads.blas_threads() == 2
