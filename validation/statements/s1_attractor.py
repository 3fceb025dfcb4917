"""Appendix 6.4: what the attractor of the low-rank flow minimises.

**Statement.** "At the attractor, i.e., when Ẇ_k = 0, the last condition [that Ẇ minimises |Ẇ + ∇L(W)| over the tangent
space] ensures that the attractor minimizes |∇L(W_k(t))|. That is, the attractor is the optimal low-rank subnetwork in
the sense that it picks the network with minimal gradient."

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, appendix 6.4, after (13).

**Assumptions.** None stated. Here L(Y) = |D ∘ (Y - A)|²/2 on 2 x 2 matrices of rank one, positive weights D: a smooth,
strictly convex loss.

**Constants.** At the attractor P(W) ∇L(W) = 0, and no more: |∇L| is that of the normal part, which differs from one
stationary point to another and is smallest at none of them. What replaces the claim: stationary points of L on the
manifold, P(W) ∇L(W) = 0; among attractors those of smallest loss are the best, not those of smallest gradient.
Y = s u(φ) v(ψ)ᵀ with all angles on a grid is exhaustive; the best s is that of a quadratic, for the loss and for |∇L|².

With steps of length h (derived): P(W) ∇L(W) = 0 is where BUG, and AugmentedBUG with Euler steps, come to rest, since
P(W)(Y* - W) = -h P(W) ∇L(W) by (5.13) of A. Hnatiuk et al. (2024). AugmentedBUG with an exact S-flow rests where
P(W)(Y* - W) = 0 for a Y* that has also moved along the normal part N of ∇L: P(W) ∇L(W) = h P(W) H N/2 + O(h²), with H
the second derivative of L.

**Use.** The size of the full gradient at the end of a low-rank training is no measure of its quality. A stationary
point shows in P(W) ∇L(W) (the projected gradient that the K- and L-step see).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import dlra
from dlra import BUG, AugmentedBUG, LowRank
from validation.checks import Counterexample, Finding, Inequality, Slope, check
from validation.families import dense_start
from validation.flows import normal_part, tangent

Matrix = np.ndarray
D = np.array([[1.0, 3.0], [0.5, 1.5]])
A = np.array([[1.0, 0.6], [-0.8, 1.2]])


def _grid(count: int) -> np.ndarray:
    """u(φ) v(ψ)ᵀ for all pairs of count angles in [0, π): signs are left to s."""
    angles = np.pi * np.arange(count) / count
    u = np.stack([np.cos(angles), np.sin(angles)])
    return np.einsum("ia,jb->abij", u, u).reshape(-1, 2, 2)


def _smallest(weight: np.ndarray, directions: np.ndarray) -> float:
    """The smallest |weight ∘ (s E - A)| over all s and all directions E."""
    b = (weight * A).ravel()
    E = (weight * directions).reshape(-1, 4)
    along = (E @ b) ** 2 / np.einsum("ij,ij->i", E, E)
    return float(np.sqrt(np.min(b @ b - along)))


def _field(t: float, Y: np.ndarray) -> np.ndarray:
    return -(D**2) * (Y - A)


def _end(method: Any, dt: float, Y0: LowRank, T: float = 60.0) -> LowRank:
    """Where the steps come to rest."""
    return dlra.solve(_field, (0.0, T), Y0, method, dt=dt).y[-1]


def _start(seed: int) -> LowRank:
    return dense_start(np.random.default_rng(seed), 2, 2, (1.0,))


def _slope(Y: LowRank) -> Matrix:
    """P(Y) ∇L(Y)."""
    return tangent(Y, -_field(0.0, Y.to_dense()))


@check(
    "s1-attractor",
    "6.4: the attractor has the smallest gradient of all low-rank matrices",
    expect="fails as printed",
)
def attractor(quick: bool) -> Iterator[Finding]:
    """The flow is integrated with BUG until it stands still, from several starts; the attractor of smallest loss is the
    global minimum of the loss over all angles. Its gradient is compared with the smallest one over all angles."""
    directions = _grid(200 if quick else 1000)
    best = _smallest(D, directions) ** 2 / 2
    least = _smallest(D**2, directions)
    found: list[tuple[float, float]] = []
    for seed in range(2 if quick else 4):
        end = _end(BUG(substep="rk4"), 0.1, _start(seed))
        Y, rest = end.to_dense(), float(np.linalg.norm(_slope(end)))
        size = float(np.linalg.norm(_field(0.0, Y)))
        found.append((float(np.linalg.norm(D * (Y - A)) ** 2 / 2), size))
        yield Inequality(f"start {seed}: |P ∇L| at the end", rest, 1e-9, trivial=size)
    loss, size = min(found)
    yield Inequality("its loss, and the smallest over all angles", loss, best, rounding=1e-12)
    yield Counterexample(
        "|∇L| at the global minimum of the loss, and the smallest over all angles", size, least
    )


@check(
    "s1-attractor-of-steps", "6.4: P(W) ∇L(W) = 0 where the steps come to rest", expect="corrected form holds"
)
def of_steps(quick: bool) -> Iterator[Finding]:
    """|P ∇L| where the integrators stand still, with steps of a finite length: zero for BUG, and for AugmentedBUG with
    Euler steps. For AugmentedBUG with exact substeps it is of first order in h, and P ∇L - h P H N/2 of second."""
    for name, method in (("BUG", BUG(substep="rk4")), ("AugmentedBUG, Euler", AugmentedBUG(substep="euler"))):
        Y = _end(method, 0.1, _start(0))
        size = float(np.linalg.norm(_field(0.0, Y.to_dense())))
        yield Inequality(name, float(np.linalg.norm(_slope(Y))), 1e-9, trivial=size)
    rest = _end(BUG(substep="rk4"), 0.1, _start(0))
    hs = (0.04, 0.02) if quick else (0.04, 0.02, 0.01)
    slopes, beyond = [], []
    for h in hs:
        Y = _end(AugmentedBUG(substep="rk4"), h, rest, 30.0)
        N = normal_part(Y, -_field(0.0, Y.to_dense()))
        slopes.append(float(np.linalg.norm(_slope(Y))))
        beyond.append(float(np.linalg.norm(_slope(Y) - h / 2 * tangent(Y, D**2 * N))))
    yield Slope.of("AugmentedBUG, rk4", hs, slopes, 1.0, y_name="|P ∇L|")
    yield Slope.of("AugmentedBUG, rk4", hs, beyond, 2.0, y_name="|P ∇L - h P H N/2|")
