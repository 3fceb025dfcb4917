"""Matrix differential equations with known solutions, shared by the validation scripts and the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlra import LowRank, SemiLinear

__all__ = ["Moving", "Rotating", "direction", "normal", "completed", "random_orthonormal", "slopes"]

Field = Callable[[float, np.ndarray], np.ndarray]


def normal(rng: np.random.Generator, shape: Any, dtype: Any = "float64") -> np.ndarray:
    """Standard normal numbers, complex where the dtype is."""
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = (a + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return np.asarray(a, dtype=dtype)


def random_orthonormal(rng: np.random.Generator, m: int, r: int, dtype: Any = "float64") -> np.ndarray:
    """A random m x r matrix with orthonormal columns."""
    wide = "complex128" if np.dtype(dtype).kind == "c" else "float64"
    return np.linalg.qr(normal(rng, (m, r), wide))[0].astype(dtype)


def direction(m: int, n: int, dtype: Any = "float64", seed: int = 7) -> np.ndarray:
    """A matrix of norm one in no particular direction."""
    E = normal(np.random.default_rng(seed), (m, n), dtype)
    return E / np.linalg.norm(E)


class Moving:
    """A(t) = U(t) S V(t)ᴴ of rank r, cubic in t, and the field F = A'(t) that produces it.

    S is dense, U quadratic and V linear in t, so that Simpson's rule integrates A' exactly.
    """

    def __init__(self, m: int, n: int, r: int, dtype: str = "float64", seed: int = 0):
        rng = np.random.default_rng(seed)
        self._U = [c * normal(rng, (m, r), dtype) for c in (1.0, 0.5, 0.3)]
        self._V = [c * normal(rng, (n, r), dtype) for c in (1.0, 0.5)]
        self._S = normal(rng, (r, r), dtype)

    def _factors(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        return self._U[0] + t * self._U[1] + t * t * self._U[2], self._V[0] + t * self._V[1]

    def __call__(self, t: float) -> np.ndarray:
        U, V = self._factors(t)
        return U @ self._S @ V.conj().T

    def rate(self, t: float) -> LowRank:
        """A'(t) as a LowRank of rank 2r."""
        U, V = self._factors(t)
        return LowRank(self._U[1] + 2 * t * self._U[2], self._S, V) + LowRank(U, self._S, self._V[1])

    def state(self, t: float) -> LowRank:
        """A(t) with orthonormal factors and a dense core."""
        U, V = self._factors(t)
        (QU, RU), (QV, RV) = np.linalg.qr(U), np.linalg.qr(V)
        return LowRank(QU, RU @ self._S @ RV.conj().T, QV)


class Rotating:
    """The nonlinear field F(t, Y) = A'(t) + g(Y) - g(A(t)), whose solution A(t) has exactly the rank r.

    A(t) = e^{tW₁} U₀ diag(sigma) V₀ᴴ e^{-tW₂} e^{t/2} with skew-Hermitian W₁, W₂, and g an entrywise function.
    """

    def __init__(self, m: int, n: int, sigma: Any, dtype: str = "float64", seed: int = 1):
        rng = np.random.default_rng(seed)
        self.r, self.sigma, self.dtype = len(sigma), np.asarray(sigma), dtype
        self._W = [self._skew(rng, k) for k in (m, n)]
        self._Q = [random_orthonormal(rng, k, self.r, dtype) for k in (m, n)]
        self._eigen = [np.linalg.eigh(1j * W) for W in self._W]

    def _skew(self, rng: np.random.Generator, k: int) -> np.ndarray:
        W = normal(rng, (k, k), self.dtype)
        W = W - W.conj().T
        return W / np.linalg.norm(W, 2)

    def _rotated(self, i: int, t: float) -> np.ndarray:
        w, X = self._eigen[i]
        Z = X @ (np.exp(-1j * t * w)[:, None] * (X.conj().T @ self._Q[i]))
        return Z if np.dtype(self.dtype).kind == "c" else np.real(Z)

    def factors(self, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U(t), the singular values, V(t)."""
        return self._rotated(0, t), np.exp(0.5 * t) * self.sigma, self._rotated(1, t)

    def __call__(self, t: float) -> np.ndarray:
        U, s, V = self.factors(t)
        return (U * s) @ V.conj().T

    def _g(self, Y: np.ndarray) -> np.ndarray:
        if np.dtype(self.dtype).kind != "c":
            return np.sin(2 * Y)
        return np.sin(2 * np.real(Y)) + 1j * np.cos(np.real(Y) + np.imag(Y)) * np.imag(Y)

    def F(self, t: float, Y: np.ndarray) -> np.ndarray:
        """The field, of a dense array."""
        A = self(t)
        return self._W[0] @ A + 0.5 * A - A @ self._W[1] + self._g(Y) - self._g(A)

    def leaving(self, eps: float) -> Field:
        """The field plus eps E with |E| = 1, of which most is normal: its solution leaves the rank."""
        E = direction(len(self._W[0]), len(self._W[1]), self.dtype)
        return lambda t, Y: self.F(t, Y) + eps * E

    def semilinear(self, F: Field) -> SemiLinear:
        """A field with the rotation declared as its stiff linear part."""
        left, right = self._W[0], -self._W[1]
        return SemiLinear(left, right, lambda t, Y: F(t, Y) - left @ Y - Y @ right)

    def rate(self, t: float) -> np.ndarray:
        """A'(t), whose bases move through all directions, where those of :class:`Moving` stay in a few."""
        A = self(t)
        return self._W[0] @ A + 0.5 * A - A @ self._W[1]

    def state(self, t: float = 0.0, extra: int = 0) -> LowRank:
        """A(t) as a LowRank of rank r + extra: orthonormal factors, the additional singular values zero."""
        U, s, V = self.factors(t)
        core = np.zeros((self.r + extra, self.r + extra), dtype=self.dtype)
        core[range(self.r), range(self.r)] = s
        rng = np.random.default_rng(5)
        U, V = (completed(Q, normal(rng, (len(Q), extra), self.dtype)) for Q in (U, V))
        return LowRank(U, core, V)


def completed(Q: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Orthonormal columns that begin with Q and span X too."""
    for _ in range(2):
        X = X - Q @ (Q.conj().T @ X)
    return np.concatenate([Q, np.linalg.qr(X)[0]], axis=1)


def slopes(steps: Any, errors: Any) -> np.ndarray:
    """Observed orders between successive numbers of steps."""
    steps, errors = np.asarray(steps, dtype=float), np.asarray(errors)
    return np.log(errors[:-1] / errors[1:]) / np.log(steps[1:] / steps[:-1])
