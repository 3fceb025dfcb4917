"""Matrix differential equations with known solutions, and comparisons of runs, shared by the tests of methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers import is_complex, normal, random_orthonormal, to_numpy

from dlra import LowRank, SemiLinear, Solution, factored


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
        return Z if is_complex(self.dtype) else Z.real

    def factors(self, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U(t), the singular values, V(t)."""
        return self._rotated(0, t), np.exp(0.5 * t) * self.sigma, self._rotated(1, t)

    def __call__(self, t: float) -> np.ndarray:
        U, s, V = self.factors(t)
        return (U * s) @ V.conj().T

    def _g(self, Y: np.ndarray) -> np.ndarray:
        if not is_complex(self.dtype):
            return np.sin(2 * Y)
        return np.sin(2 * Y.real) + 1j * np.cos(Y.real + Y.imag) * Y.imag

    def F(self, t: float, Y: np.ndarray) -> np.ndarray:
        """The field, of a dense array."""
        A = self(t)
        return self._W[0] @ A + 0.5 * A - A @ self._W[1] + self._g(Y) - self._g(A)

    def state(self, t: float = 0.0, extra: int = 0) -> LowRank:
        """A(t) as a LowRank of rank r + extra: orthonormal factors, the additional singular values zero."""
        U, s, V = self.factors(t)
        core = np.zeros((self.r + extra, self.r + extra), dtype=self.dtype)
        core[range(self.r), range(self.r)] = s
        rng = np.random.default_rng(5)
        U, V = (_completed(Q, normal(rng, (len(Q), extra), self.dtype)) for Q in (U, V))
        return LowRank(U, core, V)


def _completed(Q: np.ndarray, X: np.ndarray) -> np.ndarray:
    for _ in range(2):
        X = X - Q @ (Q.conj().T @ X)
    return np.concatenate([Q, np.linalg.qr(X)[0]], axis=1)


class Heat:
    """Y' = A Y + Y A + C Cᵀ with A the second difference on a grid: stiff, and solved exactly by eigenvectors.

    The grid x_i = -π + i Δx, i = 0, ..., n-1, Δx = 2π/(n+1), is not symmetric: on a symmetric one the initial value
    (odd) and the source (even) would be orthogonal, and no method of this kind would see the source at the start.
    """

    def __init__(self, n: int):
        dx = 2 * np.pi / (n + 1)
        x = -np.pi + dx * np.arange(n)
        self.A = (
            np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
        ) / dx**2
        k = np.arange(1, 11)
        C = 10.0 ** (-(k - 1) / 2) * np.exp(-k * x[:, None] ** 2)
        C /= np.sqrt(np.linalg.norm(C.T @ C))
        self.source = LowRank(C, None, C)
        k = np.arange(1, 21)
        sines = np.sin(k * x[:, None])
        self._start = LowRank(sines, np.diag(np.where(k == 1, 1.0, 5 * np.exp(-(7 + 0.5 * (k - 2))))), sines)
        self._eigen = np.linalg.eigh(self.A)

    @property
    def F(self) -> SemiLinear:
        """The field with its stiff linear part declared."""
        return SemiLinear(self.A, self.A, self.source)

    @property
    def plain(self) -> Any:
        """The same field, not declaring anything."""
        return factored(lambda t, Y: self.A @ Y + Y @ self.A + self.source)

    def state(self, rank: int) -> LowRank:
        return self._start.truncate(max_rank=rank)

    def __call__(self, t: float) -> np.ndarray:
        w, Q = self._eigen
        rates = w[:, None] + w
        start, source = (Q.T @ M.to_dense() @ Q for M in (self._start, self.source))
        return Q @ (np.exp(rates * t) * start + np.expm1(rates * t) / rates * source) @ Q.T


def projected_flow(F: Any, Y: np.ndarray, rank: int, t0: float, t1: float, steps: int) -> np.ndarray:
    """Integrate Y' = P(Y) F(t, Y), the flow that low-rank integrators approximate, densely: RK4 with projections."""

    def nearest(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        U, s, Vh = np.linalg.svd(Y)
        return U[:, :rank], s[:rank], Vh[:rank]

    def slope(t: float, Y: np.ndarray) -> np.ndarray:
        U, s, Vh = nearest(Y)
        G = F(t, (U * s) @ Vh)
        left, right = U @ (U.conj().T @ G), (G @ Vh.conj().T) @ Vh
        return left + right - U @ (U.conj().T @ right)

    h = (t1 - t0) / steps
    for i in range(steps):
        t = t0 + i * h
        k1 = slope(t, Y)
        k2 = slope(t + h / 2, Y + h / 2 * k1)
        k3 = slope(t + h / 2, Y + h / 2 * k2)
        k4 = slope(t + h, Y + h * k3)
        U, s, Vh = nearest(Y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        Y = (U * s) @ Vh
    return Y


def slopes(steps: Any, errors: Any) -> np.ndarray:
    """Observed orders between successive numbers of steps."""
    steps, errors = np.asarray(steps, dtype=float), np.asarray(errors)
    return np.log(errors[:-1] / errors[1:]) / np.log(steps[1:] / steps[:-1])


def bits(value: Any) -> Any:
    """Anything a run returns, in a form that compares equal exactly where all bits agree."""
    if isinstance(value, LowRank):
        return ("LowRank", *(bits(factor) for factor in value.factors))
    if isinstance(value, (list, tuple)):
        return tuple(bits(item) for item in value)
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    a = to_numpy(value)
    return a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes()


def solution_bits(solution: Solution) -> dict[str, Any]:
    """All of a Solution, as :func:`bits`."""
    errors, local = solution.errors, solution.errors.local
    assert local is not None
    return {
        "t": bits(solution.t),
        "y": bits(solution.y),
        "rank": bits(
            list(map(int, solution.rank)) if isinstance(solution.rank, np.ndarray) else solution.rank
        ),
        "errors": bits([part[name] for part in (errors, local) for name in ("time", "truncation", "normal")]),
        "y_final": bits(solution.y_final),
        "t_final": solution.t_final,
        "saved": bits(solution.saved),
        "t_events": solution.t_events,
        "y_events": bits(solution.y_events),
        "nfev": solution.nfev,
        "nsteps": solution.nsteps,
        "status": solution.status,
        "message": solution.message,
    }
