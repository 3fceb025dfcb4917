"""One random step of a low-rank integrator on a finite sum: expected loss, and the local constants of descent
theorems."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlra
from dlra import LowRank
from validation.families import Family, dense_start
from validation.flows import normal_part, tangent
from validation.manufactured import normal

__all__ = ["Step", "advanced", "loss_step", "size", "starts", "tangent_target"]

Matrix = np.ndarray


def size(X: Matrix) -> float:
    """The Frobenius norm."""
    return float(np.linalg.norm(X))


def advanced(f: Callable[[Matrix], Matrix], h: float, Y: LowRank, method: Any) -> LowRank:
    """One step of a method with a sample f."""
    return dlra.step(lambda t, Z: f(Z), 0.0, h, Y, method)


def tangent_target(rng: np.random.Generator, Y0: LowRank, length: float = 1.0) -> Matrix:
    """A random tangent vector at Y₀ of this norm."""
    G = tangent(Y0, normal(rng, Y0.shape, "float64"))
    return G * (length / size(G))


@dataclass(frozen=True)
class Step:
    """What a step from Y₀ with each of the samples gives.

    Attributes
    ----------
    h, theta : float
        Step length, truncation tolerance.
    loss, expected : float
        L(Y₀) and E L(Y₁).
    projected : float
        |P(Y₀) F(Y₀)|².
    sides : float
        (|U₀ᵀ F|² + |F V₀|²)/2.
    B, eps : float
        Largest |f_i|, |F| at Y₀ and |F| on the segments from Y* to Y₁; largest normal part of F, f_i at Y₀.
    normal : float
        |R| E |r|, with the normal parts at Y₀.
    moved : float
        E |Y* - Y₀|²/h².
    along : float
        E ⟨F(Y₀), Y* - Y₀⟩/h.
    dropped : float
        E |Y* - Y₁|.
    """

    h: float
    theta: float
    loss: float
    expected: float
    projected: float
    sides: float
    B: float
    eps: float
    normal: float
    moved: float
    along: float
    dropped: float

    @property
    def excess(self) -> float:
        """E L(Y₁) - L(Y₀) + h |P(Y₀) F(Y₀)|²: what is missing in the descent of first order."""
        return self.expected - self.loss + self.h * self.projected

    @property
    def descent(self) -> float:
        """L(Y₀) - E L(Y₁)."""
        return self.loss - self.expected


def loss_step(
    family: Family, Y0: LowRank, h: float, method: Any, theta: float = 0.0, points: int = 5
) -> Step:
    """Do one step with each sample; the method is given without rank options, theta is the tolerance.

    Without a tolerance nothing is truncated. F is looked at in so many points of each segment from Y* to Y₁.
    """
    whole = dataclasses.replace(method, max_rank=min(2 * Y0.rank, *Y0.shape))
    cut = dataclasses.replace(method, atol=theta) if theta else whole
    Z0 = Y0.to_dense()
    F, fs = family.F(Z0), [f(Z0) for f in family.samples]
    before = [advanced(f, h, Y0, whole).to_dense() for f in family.samples]
    after = [advanced(f, h, Y0, cut).to_dense() for f in family.samples] if theta else before
    between: Sequence[float] = np.linspace(0.0, 1.0, points).tolist() if theta else []
    on_segments = [
        size(family.F(a + s * (b - a))) for a, b in zip(before, after, strict=True) for s in between
    ]
    rest = [size(normal_part(Y0, f)) for f in fs]
    R = size(normal_part(Y0, F))
    U, _, V = Y0.factors
    return Step(
        h=h,
        theta=theta,
        loss=family.loss(Z0),
        expected=float(np.mean([family.loss(Z) for Z in after])),
        projected=size(tangent(Y0, F)) ** 2,
        sides=(size(U.T @ F) ** 2 + size(F @ V) ** 2) / 2,
        B=max(size(F), *map(size, fs), *on_segments),
        eps=max(R, *rest),
        normal=R * float(np.mean(rest)),
        moved=float(np.mean([size(Z - Z0) ** 2 for Z in before])) / h**2,
        along=float(np.mean([np.vdot(F, Z - Z0) for Z in before])) / h,
        dropped=float(np.mean([size(a - b) for a, b in zip(before, after, strict=True)])),
    )


def starts(count: int, shapes: Sequence[tuple[int, int]], sigma: Sequence[float]) -> list[LowRank]:
    """Starts with these singular values and dense cores, of alternating shapes."""
    return [
        dense_start(np.random.default_rng(100 + i), *shapes[i % len(shapes)], sigma) for i in range(count)
    ]
