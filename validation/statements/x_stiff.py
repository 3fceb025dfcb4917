"""Beyond the papers: projector splitting and stiff fields.

**Statement.** The middle substep of projector splitting, S' = -Uᴴ F(U S Vᴴ) V, runs backward in time. Where F contracts
at rates up to λ it lets differences of S grow, by as much as e^{λh}; the bases that the K-step has found are not those
of the exact solution once F has a part normal to the tangent space, and the difference is what grows. The steps of
augmented BUG go forward only: with A, B negative semidefinite, and the linear part solved exactly,

    Y' = AY + YB + G,   G constant:   |Y₁| - |Y₀| ≤ h |G|    for every h.

**Source.** C. Lubich, I. V. Oseledets, A projector-splitting integrator for dynamical low-rank approximation, BIT 54
(2014) 171-188, for the method; G. Ceruti, J. Kusch, C. Lubich, A rank-adaptive robust integrator for dynamical low-rank
approximation, BIT 62 (2022) 1149-1174, for steps that go forward only.

**Assumptions.** A and B negative semidefinite; the small equations solved exactly (exponential substeps, which they are
for constant G).

**Constants.** The S-equation of augmented BUG is S' = ÛᴴAÛ S + S V̂ᴴBV̂ + ÛᴴGV̂ with compressions that are negative
semidefinite as well, so |S(h)| ≤ |S(0)| + h |ÛᴴGV̂|, and |S(0)| = |Y₀|; truncation only removes. It is attained for A =
B = 0 and G a multiple of Y₀, where Y₁ = Y₀ + hG. With a negative definite A + B of rates above ρ, Duhamel's formula
gives |S(h)| ≤ e^{-ρh} |S(0)| + (1 - e^{-ρh}) |G|/ρ, again attained, by A = B = -ρI/2 and such a G; there Y₁ = e^{-ρh}
Y₀ + (1 - e^{-ρh}) G/ρ for every tangent G, G = U₀X + ZV₀ᴴ, because the new bases hold its range. For projector
splitting the same estimate of its substeps gives |Y₁| ≤ e^{λh} (|Y₀| + 3h |G|). (Derived.)

**Use.** Declare the stiff linear part with ``SemiLinear`` and use augmented BUG. Projector splitting is for
conservative problems, where nothing contracts and going backward costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank, ProjectorSplitting, SemiLinear
from validation.checks import Finding, Identity, Inequality, check
from validation.families import dense_start
from validation.flows import norm, relative, tangent
from validation.manufactured import normal, random_orthonormal

RATES = (1.0, 1e1, 1e2, 1e3)
BUG = AugmentedBUG(substep="exponential", max_rank=8)


def problem(fastest: float, size: float = 1.0) -> tuple[SemiLinear, LowRank, float]:
    """Y' = AY + YA + G with rates from 0.02 to 2 ``fastest``, G constant and of full rank: field, start with singular
    values up to ``size``, |G|."""
    rng, n = np.random.default_rng(0), 24
    Q = random_orthonormal(rng, n, n)
    A = -(Q * np.geomspace(1e-2, fastest, n)) @ Q.T
    P, R = random_orthonormal(rng, n, n), random_orthonormal(rng, n, n)
    G = (P * 0.5 ** np.arange(n)) @ R.T
    sigma = [size * s for s in (1.0, 0.5, 0.2, 0.1)]
    return SemiLinear(A, A, G), dense_start(rng, n, n, sigma), norm(G)


@check("x-stiff-forward", "Augmented BUG on stiff fields: |Y₁| - |Y₀| ≤ h |G| for every h", expect="sharp")
def forward(quick: bool) -> Iterator[Finding]:
    """A = B = -ρI/2, 24 x 24 and 24 x 16, real and complex: Duhamel's formula to rounding for a tangent G and for G =
    cY₀, and for the latter with ρ = 0 all of h |G|. Then a full-rank G, rates up to 2, 20, 200 and 2000, one step of h
    = 1e-3, 0.1 and 1, from |Y₀| near 1, 1e-3 and 1e-6: starts so small that they do not dominate both sides. Ratios are
    those of |Y₁| - |Y₀| to h |G|."""
    rng = np.random.default_rng(1)
    for dtype in ("complex128", "float64"):
        for m, n in ((24, 16), (24, 24)):
            Y0 = dense_start(rng, m, n, (1.0, 0.5, 0.2, 0.1), dtype)
            along, across = Y0.to_dense(), tangent(Y0, normal(rng, (m, n), dtype))
            for rho, h, c in ((0.0, 0.5, 3.0), (0.0, 1e-3, 0.1), (8.0, 0.1, 20.0), (500.0, 1.0, 1e3)):
                A, B = (-rho / 2 * np.eye(k, dtype=dtype) for k in (m, n))
                decay, gain = np.exp(-rho * h), -np.expm1(-rho * h) / rho if rho else h
                for kind, G in (("tangent", c * across), (f"{c:g} Y₀", c * along)):
                    Y1 = dlra.step(SemiLinear(A, B, G), 0.0, h, Y0, BUG)
                    where = f"G = {kind}, ρ = {rho:g}, h = {h:g}, {m} x {n}, {dtype}"
                    yield Identity(
                        f"Duhamel, {where}", relative(Y1.to_dense(), decay * along + gain * G), 1e-12
                    )
                    bound = norm(along) + h * norm(G)
                    yield Inequality(where, Y1.norm(), bound, base=norm(along), rounding=1e-12 * bound)
    for fastest in RATES[::2] if quick else RATES:
        for start in (1.0, 1e-3, 1e-6):
            field, Y0, size = problem(fastest, start)
            for h in (1e-3, 0.1, 1.0):
                Y1 = dlra.step(field, 0.0, h, Y0, BUG)
                where = f"rates up to {2 * fastest:g}, h = {h:g}, |Y₀| = {Y0.norm():.1g}"
                yield Inequality(where, Y1.norm(), Y0.norm() + h * size, base=Y0.norm())


@check(
    "x-stiff-backward", "Projector splitting on stiff fields: |Y₁| - |Y₀| above 1e20 h |G|", expect="holds"
)
def backward(quick: bool) -> Iterator[Finding]:
    """The same field with rates up to 2000 and 6000, one step of projector splitting with h = 1 and exact small
    equations: |Y₁| is above 1e20 (|Y₀| + h |G|), but no further than going backward explains, in logarithms: λh + log
    (|Y₀| + 3h |G|) with λ = 2000 and 6000. With rates of 200 it stays below |Y₀| + h |G|."""
    for fastest in (1e3, 3e3):
        for order in (1, 2):
            field, Y0, size = problem(fastest)
            Y1 = dlra.step(field, 0.0, 1.0, Y0, ProjectorSplitting(order, substep="exponential"))
            where = f"order {order}, rates up to {2 * fastest:g}"
            yield Inequality(f"far above |Y₀| + |G|, {where}", 1e20 * (Y0.norm() + size), Y1.norm())
            most = 2 * fastest + float(np.log(Y0.norm() + 3 * size))
            yield Inequality(f"log |Y₁|, {where}", float(np.log(Y1.norm())), most)
