"""Fields and losses whose constants are known by proof, not by measurement.

Every family is a finite sum: samples f_i with mean F, all bounded by B, Lipschitz with constant L, with a part normal
to the tangent space of at most eps at every matrix of the rank in question, and |F - f_i| ≤ C. Frobenius norms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlra import LowRank, nn
from validation.manufactured import normal, random_orthonormal

__all__ = [
    "Family",
    "complex_field",
    "dense_start",
    "quadratic_form",
    "quadratic_sum",
    "root_sylvester",
    "softmax_layer",
    "tangent_field",
]

Matrix = np.ndarray
Map = Callable[[Matrix], Matrix]


@dataclass(frozen=True)
class Family:
    """A finite sum of fields with its constants.

    Attributes
    ----------
    samples : list of callables
        f_i(Y); F is their mean.
    B, L, eps, C : float
        Bound and Lipschitz constant of F and of all f_i; bound of their normal parts; bound of |F - f_i|.
    losses : list of callables or None
        Losses with f_i = -grad L_i, where there are any; the loss L is their mean, and not negative.
    shape : tuple of int
    """

    samples: list[Map]
    B: float
    L: float
    eps: float
    C: float
    shape: tuple[int, int]
    losses: list[Callable[[Matrix], float]] = field(default_factory=list)
    mean: Map | None = None
    """F, where it is cheaper than the mean of the samples."""

    def F(self, Y: Matrix) -> Matrix:
        """The mean field."""
        if self.mean is not None:
            return self.mean(Y)
        return sum((f(Y) for f in self.samples[1:]), self.samples[0](Y)) / len(self.samples)

    def loss(self, Y: Matrix) -> float:
        """The mean loss."""
        return float(np.mean([loss(Y) for loss in self.losses]))

    def of_lemma_3(self, h: float) -> tuple[float, float]:
        """ĉ₁ and ĉ₂: the fixed-rank integrator is wrong by at most h (ĉ₁ ε + ĉ₂ h) after one step, by Lemma 3 of
        S. Schotthöfer et al. (2022)."""
        x, e = self.L * h, np.exp(self.L * h)
        c1 = 2 * (1 + x * e) * (3 * e + 4)
        c2 = 2 * self.B * self.L * ((1 + x * e) * (4 * e + 9) + e)
        return float(c1), float(c2)


def dense_start(
    rng: np.random.Generator, m: int, n: int, sigma: Sequence[float], dtype: Any = "float64"
) -> LowRank:
    """A start with these singular values and a dense core: a diagonal one hides a wrong M S Nᴴ."""
    r = len(sigma)
    P, Q = (random_orthonormal(rng, r, r, dtype) for _ in range(2))
    core = ((P * np.asarray(sigma)) @ Q.conj().T).astype(dtype)
    return LowRank(random_orthonormal(rng, m, r, dtype), core, random_orthonormal(rng, n, r, dtype))


def _semidefinite(rng: np.random.Generator, n: int, largest: float) -> Matrix:
    X = rng.standard_normal((n, n))
    A = X @ X.T
    return A * (largest / np.linalg.norm(A, 2))


def root_sylvester(
    m: int, n: int, *, eps: float, g: float, terms: int = 3, pairs: int = 2, seed: int = 0, scale: float = 1.0
) -> Family:
    """Losses L_i(Y) = sum_j √(1 + ⟨Y, A_jY + YB_j⟩) ± g √(1 + ⟨Y, C_kY + YD_k⟩) + eps √(1 + |Y - Z|²), all of
    A, B, C, D positive semidefinite.

    The gradient of √(1 + ⟨Y, AY + YB⟩) is (AY + YB)/√(1 + ...), a tangent vector at Y whatever its rank, bounded by √λ
    and Lipschitz with λ = λmax(A) + λmax(B); the last term is bounded by eps. The signs cancel in the mean, which is
    convex and not negative. With one term alone, a K-step finds the exact range: take two at least.
    """
    rng = np.random.default_rng(seed)
    A = [(_semidefinite(rng, m, scale / 2), _semidefinite(rng, n, scale / 2)) for _ in range(terms)]
    K = [(_semidefinite(rng, m, scale / 2), _semidefinite(rng, n, scale / 2)) for _ in range(pairs)]
    Z = rng.standard_normal((m, n))

    def root(P: tuple[Matrix, Matrix], Y: Matrix) -> tuple[float, Matrix]:
        PY = P[0] @ Y + Y @ P[1]
        value = float(np.sqrt(1 + np.vdot(Y, PY)))
        return value, PY / value

    def near(Y: Matrix) -> tuple[float, Matrix]:
        value = float(np.sqrt(1 + np.linalg.norm(Y - Z) ** 2))
        return value, (Y - Z) / value

    def common(Y: Matrix) -> tuple[float, Matrix]:
        parts = [root(P, Y) for P in A]
        value, gradient = sum(p[0] for p in parts), sum(p[1] for p in parts)
        if eps:
            v, G = near(Y)
            value, gradient = value + eps * v, gradient + eps * G
        return float(value), np.asarray(gradient)

    def sample(P: tuple[Matrix, Matrix], s: float) -> Map:
        return lambda Y: -(common(Y)[1] + s * g * root(P, Y)[1])

    def loss(P: tuple[Matrix, Matrix], s: float) -> Callable[[Matrix], float]:
        return lambda Y: common(Y)[0] + s * g * root(P, Y)[0]

    lam = [float(np.linalg.eigvalsh(P[0])[-1] + np.linalg.eigvalsh(P[1])[-1]) for P in A]
    noise = max(float(np.linalg.eigvalsh(P[0])[-1] + np.linalg.eigvalsh(P[1])[-1]) for P in K)
    signs = [(P, s) for P in K for s in (1.0, -1.0)] if g else [(K[0], 1.0)]
    return Family(
        [sample(*ps) for ps in signs],
        B=sum(np.sqrt(lam)) + g * np.sqrt(noise) + eps,
        L=sum(lam) + g * noise + eps,
        eps=eps,
        C=g * np.sqrt(noise),
        shape=(m, n),
        losses=[loss(*ps) for ps in signs],
        mean=lambda Y: -common(Y)[1],
    )


def tangent_field(
    m: int,
    n: int,
    *,
    eps: float = 0.0,
    g: float = 0.0,
    a: float = 0.5,
    b: float = 0.5,
    seed: int = 0,
    dtype: Any = "float64",
) -> Family:
    """F = A(Y) N + N B(Y) + eps E with N = Y/√(1 + |Y|²), A(Y) = sin x A₁ + cos x A₂ for x = Re⟨G₁, Y⟩, B(Y) alike
    with G₂; |E| = 1. Two samples f = F ± g (C N + N D). Not a gradient.

    |sin x A₁ + cos x A₂| ≤ √(|A₁|² + |A₂|²) = a in the spectral norm, N is bounded by 1 and Lipschitz with 1, and x
    changes by at most |G| |Y - Z|: bound a + b + eps, Lipschitz constant (a + b)(1 + |G|); the noise adds g (|C| + |D|)
    to both.
    """
    rng = np.random.default_rng(seed)

    def sized(shape: tuple[int, int], size: float, order: int | str) -> Matrix:
        X = normal(rng, shape, dtype)
        return X * (size / np.linalg.norm(X, order))  # type: ignore[call-overload]

    A1, A2 = (sized((m, m), a / np.sqrt(2), 2) for _ in range(2))
    B1, B2 = (sized((n, n), b / np.sqrt(2), 2) for _ in range(2))
    C, D = sized((m, m), 0.5, 2), sized((n, n), 0.5, 2)
    G = [sized((m, n), 1.0, "fro") for _ in range(2)]
    E = sized((m, n), 1.0, "fro")

    def mean(Y: Matrix) -> Matrix:
        N = Y / np.sqrt(1 + np.linalg.norm(Y) ** 2)
        x, y = (float(np.real(np.vdot(X, Y))) for X in G)
        return (
            (np.sin(x) * A1 + np.cos(x) * A2) @ N
            + N @ (np.sin(y) * B1 + np.cos(y) * B2)
            + (eps * E if eps else 0.0)
        )

    def sample(s: float) -> Map:
        def f(Y: Matrix) -> Matrix:
            N = Y / np.sqrt(1 + np.linalg.norm(Y) ** 2)
            return mean(Y) + s * g * (C @ N + N @ D)

        return f

    return Family(
        [sample(1.0), sample(-1.0)] if g else [mean],
        B=a + b + eps + g,
        L=2 * (a + b) + g,
        eps=eps,
        C=g,
        shape=(m, n),
        mean=mean,
    )


def quadratic_sum(targets: Sequence[Matrix]) -> Family:
    """L_i(Y) = |Y - A_i|²/2, f_i = A_i - Y: L = 1 exactly. B, eps and C depend on where one is: infinite here, to be
    measured at the points visited."""
    A = [np.asarray(target) for target in targets]
    mean = sum(A[1:], A[0]) / len(A)

    def sample(T: Matrix) -> Map:
        return lambda Y: T - Y

    def loss(T: Matrix) -> Callable[[Matrix], float]:
        return lambda Y: 0.5 * float(np.linalg.norm(Y - T) ** 2)

    return Family(
        [sample(T) for T in A],
        B=np.inf,
        L=1.0,
        eps=np.inf,
        C=np.inf,
        shape=A[0].shape,
        losses=[loss(T) for T in A],
        mean=lambda Y: mean - Y,
    )


def quadratic_form(m: int, n: int, *, convex: bool, seed: int = 0) -> Family:
    """L(Y) = ⟨Y - Z, A (Y - Z) B⟩/2 with symmetric A and B, |A| = |B| = 1 in the spectral norm: L = 1. Semidefinite A
    and B make it convex; otherwise they are indefinite, and L is not bounded below. B, eps: infinite here, to be
    measured.
    """
    rng = np.random.default_rng(seed)

    def symmetric(k: int) -> Matrix:
        X = rng.standard_normal((k, k))
        X = X @ X.T if convex else X + X.T
        return X / np.linalg.norm(X, 2)

    A, B, Z = symmetric(m), symmetric(n), rng.standard_normal((m, n))

    def F(Y: Matrix) -> Matrix:
        return -A @ (Y - Z) @ B

    def loss(Y: Matrix) -> float:
        return 0.5 * float(np.vdot(Y - Z, A @ (Y - Z) @ B))

    return Family([F], B=np.inf, L=1.0, eps=np.inf, C=0.0, shape=(m, n), losses=[loss], mean=F)


def softmax_layer(m: int, n: int, *, batch: int = 30, seed: int = 0) -> Family:
    """The cross entropy of one fully connected layer z = Y x with m classes, as dlra.nn computes it.

    The derivative by z of one sample is a difference of two probability vectors, at most √2; its Jacobian is at most
    1/2. So B = √2 max |x|, and L = λmax(XᵀX/batch)/2 for rows x of X. Convex, not negative. eps: infinite here.
    """
    rng = np.random.default_rng(seed)
    X, y, entropy = rng.standard_normal((batch, n)), rng.integers(m, size=batch), nn.CrossEntropyLoss()

    def F(Y: Matrix) -> Matrix:
        return -entropy.with_derivative(X @ Y.T, y)[1].T @ X

    return Family(
        [F],
        B=float(np.sqrt(2) * np.linalg.norm(X, axis=1).max()),
        L=float(np.linalg.norm(X, 2)) ** 2 / batch / 2,
        eps=np.inf,
        C=0.0,
        shape=(m, n),
        losses=[lambda Y: entropy(X @ Y.T, y)],
        mean=F,
    )


def complex_field(m: int, n: int, seed: int = 0) -> Map:
    """A nonlinear complex field without structure, for identities."""
    rng = np.random.default_rng(seed)
    A, B = (normal(rng, (k, k), "complex128") / np.sqrt(k) for k in (m, n))
    return lambda Y: A @ Y + Y @ B + np.sin(np.real(Y)) + 1j * np.real(Y) * np.imag(Y)
