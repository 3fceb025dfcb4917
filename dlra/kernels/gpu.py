"""Linear algebra without a decision on the host, for arrays on a GPU, and what is written for CUDA.

Reading a number from a device waits for all that was asked of it before. So bases have a width here that follows from
shapes alone: directions that an input lacks are completed, and a truncation drops them later as zero singular values.
:func:`augment` and :func:`orthonormalize` are written for any array library; the other functions take CuPy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from dlra.backend import Array, H, astype, device, dtype_name, eps, eye, hermitian_part, namespace, zeros

__all__ = ["adam", "augment", "momentum", "orthonormalize", "svd"]

LARGEST = 64
"""Largest number of rows and columns that :func:`svd` takes."""
SWEEPS = 30
"""Sweeps over all pairs of columns after which :func:`svd` gives up; 6 to 12 are usual."""
THREADS = 256
"""Threads a matrix; each warp of 32 rotates one pair of columns at a time."""


def augment(U0: Array, X: Array) -> Array:
    """Return an orthonormal basis of a width known beforehand that begins with U0 and whose span contains X.

    Parameters
    ----------
    U0 : array, shape (..., m, r)
        Orthonormal columns; one matrix or a stack.
    X : array, shape (..., m, k)
        New directions of any scale.

    Returns
    -------
    U : array, shape (..., m, min(m, r + k))
        ``U[..., :r]`` is U0 to the last bit. Each column of X lies in the span to about 100 eps of its norm; columns
        below the smallest normal number over eps count as zero. NaN or infinite entries of X make columns NaN.

    Notes
    -----
    X, with columns of length one, is projected off U0 and multiplied by the inverse Cholesky factor of its Gram matrix,
    shifted by some 100 eps so that it exists (T. Fukaya, R. Kannan, Y. Nakatsukasa, Y. Yamamoto, Y. Yanagisawa, SIAM J.
    Sci. Comput. 42 (2020) A477-A503), as often as the worst condition asks for; two Newton-Schulz steps remove
    what the shift has left. Noise of 8 eps in X bounds that condition and completes what X lacks. No step is taken
    with [U0 | X], whose condition number grows as X tends to zero.
    """
    new = _appended(U0, X)
    return U0 if new is None else namespace(U0, X).concat((U0, new), axis=-1)


def orthonormalize(X: Array) -> Array:
    """Return orthonormal columns, as many as X has (at most m), whose span contains X (shape (..., m, k))."""
    Q = _appended(None, X)
    return X if Q is None else Q


def _appended(U0: Array | None, X: Array) -> Array | None:
    """The columns beyond U0 of :func:`augment`; None where there are none."""
    xp = namespace(X)
    m, r = X.shape[-2], 0 if U0 is None else U0.shape[-1]
    k = min(X.shape[-1], m - r)
    if k == 0:
        return None
    unit = eps(X)
    shift = (16 * (k + r) + math.sqrt(m)) * unit
    identity = eye(k, X)
    W = _off(U0, _unit_columns(X[..., :k]) + (8 * unit) * _noise(m, k, X))
    W = _unit_columns(W)
    smallest = (0.02 * unit) ** 2  # eigenvalue of the Gram matrix of W
    while smallest < 0.1:
        W = _off(U0, W)
        gram = H(W) @ W
        W = W @ H(xp.linalg.inv(xp.linalg.cholesky(hermitian_part(gram) + shift * identity)))
        smallest /= shift
    for _ in range(2):
        W = _off(U0, W)
        W = W + W @ (0.5 * (identity - H(W) @ W))
    return W


def _off(U0: Array | None, W: Array) -> Array:
    return W if U0 is None else W - U0 @ (H(U0) @ W)


def _unit_columns(W: Array) -> Array:
    """W with columns of length one; those too small for that become zero, those with NaN or infinity NaN."""
    xp = namespace(W)
    largest = xp.max(abs(W), axis=-2, keepdims=True)
    vanishing = largest <= float(np.finfo(dtype_name(W.dtype)).tiny) / eps(W)
    keep = astype(~vanishing, W.dtype)
    W = W / astype(xp.where(vanishing, xp.ones_like(largest), largest), W.dtype) * keep
    length = xp.linalg.vector_norm(W, axis=-2, keepdims=True)
    return W / astype(xp.where(vanishing, xp.ones_like(length), length), W.dtype)


def _noise(m: int, k: int, like: Array) -> Array:
    """An m x k matrix of entries that look random, with columns of length about one: the same for the same shape."""
    xp, where = namespace(like), device(like)
    rows = xp.arange(1, m + 1, dtype=xp.int64, device=where)[:, None]
    columns = xp.arange(1, k + 1, dtype=xp.int64, device=where)[None, :] * 40503 % 65537
    return (astype(rows * columns % 65537, like.dtype) / 65537.0 - 0.5) * math.sqrt(12.0 / m)


def svd(A: Array) -> tuple[Array, Array, Array, Array]:
    """Return reduced singular value decompositions of a stack of small matrices, in one launch.

    By one-sided Jacobi rotations (``jacobi.cu``), a block a matrix. Nothing is read on the host, and nothing raised.

    Parameters
    ----------
    A : CuPy array, shape (b, p, q), p and q at most 64
        float32, float64, complex64 or complex128.

    Returns
    -------
    U : array, shape (b, p, k), k = min(p, q)
    s : array, shape (b, k)
        Descending. A column that is small as such keeps the digits of its singular value.
    Vh : array, shape (b, k, q)
    flag : array of int32, shape (b,)
        0 where all is well, 1 where the sweeps did not do, 2 where A is not finite (the results are NaN there).
    """
    return decomposed(A, _launched)


def decomposed(A: Array, launched: Callable[..., None]) -> tuple[Array, Array, Array, Array]:
    """As :func:`svd`; ``launched(name, A, U, s, Vh, V, flag, sweeps)`` runs the kernel of that name."""
    if A.ndim != 3 or max(A.shape[1:]) > LARGEST or 0 in A.shape:
        raise ValueError(
            f"A must be a stack of matrices of at most {LARGEST} rows and columns, not empty, got {A.shape}"
        )
    xp = namespace(A)
    wide = A.shape[1] < A.shape[2]
    B = xp.asarray(H(A) if wide else A, copy=True, order="C")
    count, _, columns = B.shape
    U, Vh, V = zeros(B.shape, B), zeros((count, columns, columns), B), zeros((count, columns, columns), B)
    real = dtype_name(B.dtype).replace("complex128", "float64").replace("complex64", "float32")
    s = xp.zeros((count, columns), dtype=getattr(xp, real))
    flag = xp.zeros((count,), dtype=xp.int32)
    launched(f"svd_{dtype_name(B.dtype)}", B, U, s, Vh, V, flag, SWEEPS)
    return (H(Vh), s, H(U), flag) if wide else (U, s, Vh, flag)


def shared_bytes(rows: int, columns: int, itemsize: int) -> int:
    """The shared memory of a block: the matrix, lengths and room for a row each, places and two notes."""
    return rows * columns * itemsize + (rows + columns) * itemsize + (columns + 2) * 4


def source() -> str:
    """The text of the CUDA kernels."""
    return resources.files("dlra.kernels").joinpath("jacobi.cu").read_text(encoding="utf-8")


@lru_cache(maxsize=8)
def _kernel(name: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(), options=("-std=c++17",)).get_function(name)


def _launched(name: str, A: Array, U: Array, s: Array, Vh: Array, V: Array, flag: Array, sweeps: int) -> None:
    kernel, (count, rows, columns) = _kernel(name), A.shape
    memory = shared_bytes(rows, columns, A.dtype.itemsize)
    if memory > 48 * 1024:  # more has to be asked for
        kernel.max_dynamic_shared_size_bytes = memory
    sizes = (np.int32(rows), np.int32(columns), np.int32(sweeps))
    kernel((count,), (THREADS,), (A, U, s, Vh, V, flag, *sizes), shared_mem=memory)


MOMENTUM = """
T change = rate * f;
M = mu * M + change;
X = lam * change + share * M;
"""
"""One entry of :class:`dlra.nn.Momentum`: slope f, memory M, increment X; share = 1 - lam + lam mu."""

ADAM = """
T old1 = beta1 * w1, old2 = beta2 * w2;
m = (old1 * m + gain1 * f) / (old1 + gain1);
v = (old2 * v + gain2 * f * f) / (old2 + gain2);
X = rate * m / (sqrt(v) + small);
"""
"""One entry of :class:`dlra.nn.Adam`: slope f, means m and v of weights w1 and w2, increment X; gain = 1 - beta."""


@lru_cache(maxsize=2)
def _elementwise(name: str) -> Any:
    import cupy

    if name == "momentum":
        given, made, before = "T f, T old, T rate, T mu, T lam, T share", "T X, T M", "M = old;"
        return cupy.ElementwiseKernel(given, made, before + MOMENTUM, name)
    given = "T f, T old_m, T old_v, T w1, T w2, T rate, T beta1, T beta2, T gain1, T gain2, T small"
    return cupy.ElementwiseKernel(given, "T X, T m, T v", "m = old_m; v = old_v;" + ADAM, name)


def momentum(slope: Array, M: Array, rate: float, mu: float, lam: float) -> tuple[Array, Array]:
    """Return the increment and the new memory of :class:`dlra.nn.Momentum` (real CuPy arrays) in one pass."""
    return _elementwise("momentum")(slope, M, rate, mu, lam, 1 - lam + lam * mu)


def adam(
    slope: Array,
    m: Array,
    v: Array,
    w1: Array,
    w2: Array,
    rate: float,
    beta1: float,
    beta2: float,
    small: float,
) -> tuple[Array, Array, Array]:
    """Return the increment and the new m and v of :class:`dlra.nn.Adam` (real CuPy arrays) in one pass.

    ``w1`` and ``w2``, of the shape of the slope or one number each, are the weights before; the new ones are
    ``beta1 * w1 + (1 - beta1)`` and the like.
    """
    return _elementwise("adam")(slope, m, v, w1, w2, rate, beta1, beta2, 1 - beta1, 1 - beta2, small)
