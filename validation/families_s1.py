"""Fields with known constants beyond those of ``validation.families``: complex ones, and losses that are not convex."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra import nn
from validation.families import Family
from validation.manufactured import normal

__all__ = ["quadratic_form", "softmax_layer", "tangent_field_of"]

Matrix = np.ndarray


def tangent_field_of(dtype: Any, m: int, n: int, *, eps: float = 0.0, seed: int = 0) -> Family:
    """``tangent_field`` in any dtype: F = A(Y) N + N B(Y) + eps E, N = Y/√(1 + |Y|²), A(Y) = sin x A₁ + cos x A₂ with
    x = Re⟨G₁, Y⟩, B(Y) alike; |A₁| = |A₂| = |B₁| = |B₂| = 1/√8 in the spectral norm, |G₁| = |G₂| = |E| = 1.

    |A(Y)| <= √(|A₁|² + |A₂|²) = 1/2, and so |B(Y)|: bound 1 + eps. |A(Y) - A(Z)| <= |Y - Z|/2, and N is bounded by 1
    and Lipschitz with 1: Lipschitz constant 2.
    """
    rng = np.random.default_rng(seed)

    def sized(shape: tuple[int, int], size: float, spectral: bool) -> Matrix:
        X = normal(rng, shape, dtype)
        return X * (size / (np.linalg.norm(X, 2) if spectral else np.linalg.norm(X)))

    A1, A2 = (sized((m, m), 8**-0.5, True) for _ in range(2))
    B1, B2 = (sized((n, n), 8**-0.5, True) for _ in range(2))
    G1, G2, E = (sized((m, n), 1.0, False) for _ in range(3))

    def F(Y: Matrix) -> Matrix:
        N = Y / np.sqrt(1 + np.linalg.norm(Y) ** 2)
        x, y = (float(np.real(np.vdot(G, Y))) for G in (G1, G2))
        tangent = (np.sin(x) * A1 + np.cos(x) * A2) @ N + N @ (np.sin(y) * B1 + np.cos(y) * B2)
        return tangent + eps * E if eps else tangent

    return Family([F], B=1.0 + eps, L=2.0, eps=eps, C=0.0, shape=(m, n), mean=F)


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
