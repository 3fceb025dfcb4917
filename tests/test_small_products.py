"""Small matrices of NumPy: what stands for ``@``, NumPy's decompositions and ``isfinite`` gives the same, however they
lie in memory."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import DTYPES, eps, random_orthonormal
from hypothesis import given
from hypothesis import strategies as st

from dlra import LowRank, linalg
from dlra.backend import all_finite, norm


def _read_only(a):
    a = a.copy()
    a.setflags(write=False)
    return a


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "read-only": _read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}
layouts, dtypes, sizes = st.sampled_from(list(LAYOUTS)), st.sampled_from(DTYPES), st.integers(1, 12)


def _gaussian(seed, dtype, *shape):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else a).astype(dtype)


def _close(a, b, dtype, scale):
    assert a.shape == b.shape and a.dtype.newbyteorder("=") == np.dtype(dtype)
    assert np.linalg.norm(a - b) <= 50 * eps(dtype) * scale


@given(dtypes, layouts, layouts, sizes, sizes, sizes, st.integers(0, 999))
def test_products(dtype, one, other, m, r, k, seed):
    A, B, X = (_gaussian(seed + i, dtype, *s) for i, s in enumerate(((m, r), (r, k), (m, k))))
    a, b, x = LAYOUTS[one](A), LAYOUTS[other](B), LAYOUTS[other](X)
    _close(linalg.times(a, b), A @ B, dtype, norm(A) * norm(B))
    _close(linalg.inner(a, x), A.conj().T @ X, dtype, norm(A) * norm(X))
    Y = LowRank(A, None, B.conj().T)
    _close((Y @ LAYOUTS[one](B.conj().T)).to_dense(), A @ B @ B.conj().T, dtype, norm(A) * norm(B) ** 2)
    _close((LAYOUTS[one](A.conj().T) @ Y).to_dense(), A.conj().T @ A @ B, dtype, norm(A) ** 2 * norm(B))


@given(dtypes, layouts, sizes, sizes, st.integers(0, 999))
def test_singular_value_decompositions(dtype, layout, m, n, seed):
    A = _gaussian(seed, dtype, m, n)
    U, s, Vh = linalg.svd(LAYOUTS[layout](A))
    _close((U * s) @ Vh, A, dtype, norm(A))
    assert np.allclose(s, np.linalg.svd(A, compute_uv=False), rtol=0, atol=50 * eps(dtype) * norm(A))
    for Q in (U, Vh.conj().T):
        _close(Q.conj().T @ Q, np.eye(min(m, n)), dtype, m + n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_decomposition_of_nan_is_an_error(dtype):
    A = _gaussian(0, dtype, 4, 4)
    A[1, 2] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="did not converge"):
        linalg.svd(A)


@given(dtypes, layouts, sizes, sizes, st.integers(0, 999))
def test_rotations_stay_orthonormal(dtype, layout, m, r, seed):
    r = min(m, r)
    rng = np.random.default_rng(seed)
    U, P = random_orthonormal(rng, m, r, dtype), random_orthonormal(rng, r, r, dtype)
    Q = linalg.rotate(LAYOUTS[layout](U), LAYOUTS[layout](P))
    _close(Q, U @ P, dtype, r)
    _close(Q.conj().T @ Q, np.eye(r), dtype, r)


@pytest.mark.filterwarnings("error")
@given(dtypes, layouts, sizes, sizes, st.sampled_from([np.nan, np.inf, -np.inf]), st.booleans(), st.data())
def test_what_is_not_finite_is_found(dtype, layout, m, n, bad, imaginary, data):
    A = _gaussian(m + n, dtype, m, n) * np.dtype(dtype).type(np.sqrt(np.finfo(dtype).max))
    assert all_finite(LAYOUTS[layout](A)), "squares that overflow are no reason"
    part = A.imag if imaginary and dtype.startswith("complex") else A.real
    part[data.draw(st.integers(0, m - 1)), data.draw(st.integers(0, n - 1))] = bad
    assert not all_finite(LAYOUTS[layout](A))
    assert not norm(LAYOUTS[layout](A)) < np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-14, 1.0, 1e18, 1e30])
def test_norms_at_every_scale(dtype, scale):
    A = _gaussian(1, dtype, 7, 3)
    A *= np.finfo(dtype).dtype.type(scale)
    expected = np.linalg.norm(A.astype("complex128"))
    assert abs(norm(A) - expected) <= 20 * eps(dtype) * expected
