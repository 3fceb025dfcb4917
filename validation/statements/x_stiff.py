"""Beyond the papers: projector splitting and stiff fields.

**Statement.** The middle substep of projector splitting, S' = -Uᴴ F(U S Vᴴ) V, runs backward in time. Where F contracts
at rates up to λ it lets differences of S grow, by as much as e^{λh}; the bases that the K-step has found are
not those of the exact solution once F has a part normal to the tangent space, and the difference is what grows. The
steps of augmented BUG go forward only: with A, B negative semidefinite, and the linear part solved exactly,

    Y' = AY + YB + G,   G constant:   |Y₁| <= |Y₀| + h |G|    for every h.

**Source.** C. Lubich, I. V. Oseledets, A projector-splitting integrator for dynamical low-rank approximation, BIT 54
(2014) 171-188, for the method; G. Ceruti, J. Kusch, C. Lubich, A rank-adaptive robust integrator for dynamical low-rank
approximation, BIT 62 (2022) 1149-1174, for steps that go forward only.

**Assumptions.** A and B negative semidefinite; the small equations solved exactly (exponential substeps, which they are
for constant G).

**Constants.** The S-equation of augmented BUG is S' = ÛᴴAÛ S + S V̂ᴴBV̂ + ÛᴴGV̂ with compressions that are negative
semidefinite as well, so |S(h)| <= |S(0)| + h |G|, and |S(0)| = |Y₀|; truncation only removes. (Derived.)

**Use.** Declare the stiff linear part with ``SemiLinear`` and use augmented BUG. Projector splitting is for
conservative problems, where nothing contracts and going backward costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank, ProjectorSplitting, SemiLinear
from validation.checks import Finding, Inequality, check
from validation.families import dense_start
from validation.manufactured import random_orthonormal

RATES = (1.0, 1e1, 1e2, 1e3)


def _problem(fastest: float, seed: int) -> tuple[SemiLinear, LowRank, float]:
    """Y' = AY + YA + G with rates up to 2 ``fastest``, G constant and of full rank: field, start, |G|."""
    rng, n = np.random.default_rng(seed), 24
    Q = random_orthonormal(rng, n, n)
    A = -(Q * np.geomspace(1e-2, fastest, n)) @ Q.T
    P, R = random_orthonormal(rng, n, n), random_orthonormal(rng, n, n)
    G = (P * 0.5 ** np.arange(n)) @ R.T
    return SemiLinear(A, A, G), dense_start(rng, n, n, (1.0, 0.5, 0.2, 0.1)), float(np.linalg.norm(G))


@check("x-stiff-forward", "augmented BUG on stiff fields: |Y₁| <= |Y₀| + h |G| for every h", expect="sharp")
def forward(quick: bool) -> Iterator[Finding]:
    """Rates up to 2, 20, 200 and 2000, one step of h = 1 and of h = 1e-3, exact small equations. Sharp for short steps
    with slow rates."""
    for fastest in RATES:
        field, Y0, size = _problem(fastest, 0)
        for h in (1e-3, 1.0):
            Y1 = dlra.step(field, 0.0, h, Y0, AugmentedBUG(substep="exponential", max_rank=8))
            yield Inequality(f"rates up to {2 * fastest:g}, h = {h:g}", Y1.norm(), Y0.norm() + h * size)


@check("x-stiff-backward", "projector splitting on stiff fields exceeds |Y₀| + h |G|", expect="holds")
def backward(quick: bool) -> Iterator[Finding]:
    """|Y₀| + |G| on the left, one step of projector splitting with h = 1 and exact small equations on the right: with
    rates of some thousands it is above the bound of augmented BUG by tens of orders of magnitude. (With rates of 200 it
    is still below.)"""
    for fastest in (1e3, 3e3):
        for order in (1, 2):
            field, Y0, size = _problem(fastest, 0)
            Y1 = dlra.step(field, 0.0, 1.0, Y0, ProjectorSplitting(order, substep="exponential"))
            yield Inequality(f"order {order}, rates up to {2 * fastest:g}", 1e20 * (Y0.norm() + size), Y1.norm())
