"""Random steps of low-rank integrators on finite sums: expected loss, the local constants of descent theorems, training
with momentum."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlra
from dlra import LowRank
from dlra.nn._training import OptimizerSubstep, State
from dlra.nn.optimizers import Momentum
from dlra.nn.schedules import RobbinsMonro
from validation.families import Family, dense_start, quadratic_sum
from validation.flows import norm, normal_part, tangent
from validation.manufactured import normal

__all__ = [
    "Step",
    "Trained",
    "advanced",
    "critical_point",
    "loss_step",
    "moment",
    "rates",
    "starts",
    "tangent_target",
]

Matrix = np.ndarray
Map = Callable[[Matrix], Matrix]


def advanced(f: Map, h: float, Y: LowRank, method: Any) -> LowRank:
    """One step of a method with a sample f."""
    return dlra.step(lambda t, Z: f(Z), 0.0, h, Y, method)


def rates(schedule: RobbinsMonro, steps: int) -> np.ndarray:
    """The learning rates h_t = h₀/(1 + t/t₀)^p, from their formula and not from what the schedule gives."""
    return schedule.lr / (1 + np.arange(steps) / schedule.t0) ** schedule.power


def tangent_target(rng: np.random.Generator, Y0: LowRank, length: float = 1.0) -> Matrix:
    """A random tangent vector at Y₀ of this norm."""
    G = tangent(Y0, normal(rng, Y0.shape, "float64"))
    return G * (length / norm(G))


def critical_point() -> tuple[Family, LowRank]:
    """Y₀ of rank 1 with P(Y₀) F = 0, and three samples whose new bases see F where f opposes it.

    F = ρ e₂e₂ᵀ. The first sample opens e₂ on both sides and has f₂₂ = -c; the two others open mostly e₃, and carry
    what makes the mean of f₂₂ equal to ρ.
    """
    a, b, rho, c = 1.0, 3.0, 0.1, 0.15
    Y0 = LowRank(np.eye(8)[:, :1], np.ones((1, 1)), np.eye(8)[:, :1])
    targets = []
    for f21, f31, f22 in ((a, 0.0, -c), (-a / 2, b, (3 * rho + c) / 2), (-a / 2, -b, (3 * rho + c) / 2)):
        f = np.zeros((8, 8))
        f[1, 0] = f[0, 1] = f21
        f[2, 0] = f[0, 2] = f31
        f[1, 1] = f22
        targets.append(Y0.to_dense() + f)
    return quadratic_sum(targets), Y0


@dataclass(frozen=True)
class Step:
    """What a step from Y₀ with each of the samples gives. P* is the projection on the bases before truncation.

    Attributes
    ----------
    h, theta : float
        Step length, truncation tolerance.
    loss, expected : float
        L(Y₀) and E L(Y₁).
    projected : float
        |P(Y₀) F(Y₀)|².
    alpha2 : float
        (|U₀ᵀ F|² + |F V₀|²)/2, the α² of theorem 5.1.
    B, eps : float
        Largest |f_i|, |F| at Y₀ and |F| on the segments from Y* to Y₁; largest normal part of F, f_i at Y₀.
    normal : float
        |R| E |r|, with the normal parts at Y₀.
    increment2 : float
        E |Y* - Y₀|²/h²; E |P* f P*|² for Euler substeps.
    product : float
        E ⟨F(Y₀), Y* - Y₀⟩/h; E ⟨F, P* f P*⟩ for Euler substeps.
    dropped : float
        E |Y* - Y₁|.
    """

    h: float
    theta: float
    loss: float
    expected: float
    projected: float
    alpha2: float
    B: float
    eps: float
    normal: float
    increment2: float
    product: float
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
        norm(family.F(a + s * (b - a))) for a, b in zip(before, after, strict=True) for s in between
    ]
    rest = [norm(normal_part(Y0, f)) for f in fs]
    R = norm(normal_part(Y0, F))
    U, _, V = Y0.factors
    return Step(
        h=h,
        theta=theta,
        loss=family.loss(Z0),
        expected=float(np.mean([family.loss(Z) for Z in after])),
        projected=norm(tangent(Y0, F)) ** 2,
        alpha2=(norm(U.T @ F) ** 2 + norm(F @ V) ** 2) / 2,
        B=max(norm(F), *map(norm, fs), *on_segments),
        eps=max(R, *rest),
        normal=R * float(np.mean(rest)),
        increment2=float(np.mean([norm(Z - Z0) ** 2 for Z in before])) / h**2,
        product=float(np.mean([np.vdot(F, Z - Z0) for Z in before])) / h,
        dropped=float(np.mean([norm(a - b) for a, b in zip(before, after, strict=True)])),
    )


def starts(count: int, shapes: Sequence[tuple[int, int]], sigma: Sequence[float]) -> list[LowRank]:
    """Starts with these singular values and dense cores, of alternating shapes."""
    return [
        dense_start(np.random.default_rng(100 + i), *shapes[i % len(shapes)], sigma) for i in range(count)
    ]


class Trained:
    """An integrator driven by an optimiser as a training does it, for any field."""

    def __init__(self, method: Any, optimizer: Momentum):
        self.optimizer = optimizer
        self.substep = OptimizerSubstep(optimizer, method)
        self.method = dataclasses.replace(method, substep=self.substep)

    def step(self, f: Map, t: int, Y: LowRank, memory: State) -> tuple[LowRank, State]:
        """Y_{t+1} and the memory in its bases."""
        self.substep.begin((Y,), memory)
        Y1 = advanced(f, self.optimizer.rate(t), Y, self.method)
        return Y1, self.substep.finished((Y1,))


def moment(Y: LowRank, memory: State) -> Matrix:
    """The memory X of a momentum as a matrix; zero before the first step."""
    U, _, V = Y.factors
    return U @ memory["S"][0].moments[0] @ V.conj().T if memory else np.zeros(Y.shape)
