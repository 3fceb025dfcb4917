"""Appendix 6.4: what the attractor of the low-rank flow minimises.

**Statement.** "At the attractor, i.e., when Ẇ_k = 0, the last condition [that Ẇ minimises |Ẇ + ∇L(W)| over the tangent
space] ensures that the attractor minimizes |∇L(W_k(t))|. That is, the attractor is the optimal low-rank subnetwork in
the sense that it picks the network with minimal gradient."

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, appendix 6.4, after (13).

**Assumptions.** None stated. Here L(Y) = |D ∘ (Y - A)|²/2 with positive weights D, a smooth, strictly convex loss; for
the claim itself on 2 x 2 matrices of rank one.

**Constants.** At the attractor P(W) ∇L(W) = 0, and no more: |∇L| is that of the normal part, which differs from one
stationary point to another and is smallest at none of them. What replaces the claim: stationary points of L on the
manifold, P(W) ∇L(W) = 0; among attractors those of smallest loss are the best, not those of smallest gradient.
Y = s u(φ) v(ψ)ᵀ with all angles on a grid is exhaustive; the best s is that of a quadratic, for the loss and for |∇L|².

With steps of length h (derived): P(W) ∇L(W) = 0 is where BUG, and AugmentedBUG with Euler steps, come to rest, since
P(W)(Y* - W) = -h P(W) ∇L(W) by (5.13) of A. Hnatiuk et al. (2024).

AugmentedBUG with an exact S-flow rests where P(W)(Y* - W) = 0, too, but Y* has moved along the normal part N of ∇L as
well, as far as the augmented bases see it. Let Π Z = P_Û Z P_V̂ and H be the second derivative of L. The S-flow
Y' = -Π ∇L(Y) from W gives

    Y* - W = -h Π ∇L + h² Π H Π ∇L/2 + O(h³).

K(h) lies in the range of Û, and K(h) - K(0) = -h ∇L V₀ + O(h²) |∇L V₀|, alike for L(h): P Π ∇L = P ∇L + O(h) |P ∇L|,
and Π ∇L = Π N + O(|P ∇L|). So, where it rests,

    P(W) ∇L(W) = h P Π H Π N/2 + O(h²);

for a quadratic loss with 0 ≤ H ≤ λ and x = hλ the difference is at most

    (1/2 + 1/√2) x |P ∇L| + x²/6 |Π ∇L|,

from the remainders of e^{-z}: |(1 - e^{-z})/z - 1| ≤ z/2 in K(h) and in L(h), where the two are (1 - P_Û) ∇L V₀ and
U₀ᵀ ∇L (1 - P_V̂), the squares of which add up; h P Π H Π P ∇L/2; and |(1 - e^{-z})/z - 1 + z/2| ≤ z²/6 in the S-flow.
Hence P ∇L is at most of first order in h, and of second where P Π H Π N vanishes (H a multiple of the identity is
enough).

Π is the identity only if the augmented bases span everything, 2r ≥ max(m, n): there P ∇L = h P H N/2 + O(h²), and the
points of rest are isolated in general. Else Û and V̂ hold r directions of N at most, those in which the last steps have
moved, and of P(W)(Y* - W) only the part in the bases has to vanish: in general there are whole families of points of
rest, and which one is reached depends on the start and on h.

**Use.** The size of the full gradient at the end of a low-rank training is no measure of its quality. A stationary
point shows in P(W) ∇L(W) (the projected gradient that the K- and L-step see). BUG, and AugmentedBUG with Euler steps,
drive it to zero at any h. AugmentedBUG with accurate substeps stops at O(h) beside a stationary point, and at low rank
not always at the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any

import numpy as np

import dlra
from dlra import BUG, AugmentedBUG, LowRank
from validation.checks import Counterexample, Finding, Inequality, Slope, check
from validation.families import dense_start
from validation.flows import compressed, norm, normal_part, tangent
from validation.manufactured import random_orthonormal

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


def _end(method: Any, dt: float, Y0: LowRank, T: float = 60.0, field: Any = _field) -> LowRank:
    """Where the steps come to rest."""
    return dlra.solve(field, (0.0, T), Y0, method, dt=dt).y[-1]


def _start(seed: int) -> LowRank:
    return dense_start(np.random.default_rng(seed), 2, 2, (1.0,))


def _slope(Y: LowRank) -> Matrix:
    """P(Y) ∇L(Y)."""
    return tangent(Y, -_field(0.0, Y.to_dense()))


@check(
    "s1-attractor",
    "Appendix 6.4: the attractor has the smallest gradient of all low-rank matrices",
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
        Y, rest = end.to_dense(), norm(_slope(end))
        size = norm(_field(0.0, Y))
        found.append((norm(D * (Y - A)) ** 2 / 2, size))
        yield Inequality(f"start {seed}: |P ∇L| at the end", rest, 1e-9, trivial=size)
    loss, size = min(found)
    yield Inequality("its loss, and the smallest over all angles", loss, best, rounding=1e-12)
    yield Counterexample(
        "|∇L| at the global minimum of the loss, and the smallest over all angles", size, least
    )


@check(
    "s1-attractor-of-steps",
    "Appendix 6.4: P(W) ∇L(W) = 0 where BUG, and AugmentedBUG with Euler steps, rest",
    expect="corrected form holds",
)
def of_steps(quick: bool) -> Iterator[Finding]:
    """|P ∇L| where the integrators stand still, with steps of a finite length."""
    for name, method in (("BUG", BUG(substep="rk4")), ("AugmentedBUG, Euler", AugmentedBUG(substep="euler"))):
        Y = _end(method, 0.1, _start(0))
        size = norm(_field(0.0, Y.to_dense()))
        yield Inequality(name, norm(_slope(Y)), 1e-9, trivial=size)


def _at_rest(
    F: Callable[[Matrix], Matrix], H: Callable[[Matrix], Matrix], Y: LowRank, h: float, T: float
) -> tuple[LowRank, Matrix, Matrix, Matrix, float]:
    """Where AugmentedBUG with accurate substeps rests: W, P ∇L, h P Π H Π N/2, h P H N/2, |Π ∇L|."""
    rank, whole = Y.rank, min(*Y.shape, 2 * Y.rank)
    W = _end(AugmentedBUG(substep="rk4", max_rank=rank), h, Y, T, lambda t, Y: F(Y))
    U, _, V = dlra.step(lambda t, Y: F(Y), 0.0, h, W, AugmentedBUG(substep="rk4", max_rank=whole)).factors
    gradient = -F(W.to_dense())
    N = normal_part(W, gradient)
    seen = compressed(U, V, H(compressed(U, V, N)))
    P = tangent(W, gradient)
    return W, P, h / 2 * tangent(W, seen), h / 2 * tangent(W, H(N)), norm(compressed(U, V, gradient))


def _coupled() -> tuple[Callable[[Matrix], Matrix], Callable[[Matrix], Matrix], LowRank]:
    """F = -H(Y - A) on 5 x 4 matrices of two diagonal blocks, 2 x 2 and 3 x 2, which H couples, H; and a start of rank
    one in the first block. So are then all steps, and Û and V̂ span that block, whatever the start."""
    rng = np.random.default_rng(5)
    inside = np.zeros((5, 4), dtype=bool)
    inside[:2, :2] = inside[2:, 2:] = True
    X = random_orthonormal(rng, 10, 10)
    Q = (X * np.linspace(0.5, 2.0, 10)) @ X.T
    target = np.where(inside, rng.standard_normal((5, 4)), 0.0)
    target[:2, :2] = [[2.0, 0.3], [-0.2, 0.7]]

    def H(Z: Matrix) -> Matrix:
        HZ = np.array(Z)
        HZ[inside] = Q @ Z[inside]
        return HZ

    e = np.eye(5, 1) + 0.3 * np.eye(5, 1, -1)
    return lambda Y: -H(Y - target), H, LowRank(e / norm(e), np.ones((1, 1)), np.eye(4, 1))


@check(
    "s1-attractor-accurate-steps",
    "Appendix 6.4, derived: P ∇L = h P Π H Π N/2 + O(h²) where AugmentedBUG with accurate substeps rests",
    expect="holds",
)
def accurate(quick: bool) -> Iterator[Finding]:
    """The difference of the two sides where AugmentedBUG stands still; each h starts where the one before rests. The
    inequality: weighted losses with 2r below m and n and nothing particular. Slopes: 2 x 2 matrices of rank one, where
    Π is the identity, and 5 x 4 ones in which a block of 2 x 2 is all that the bases ever see (with H N in the place of
    Π H Π N the difference is of first order there)."""
    for m, n, r in ((7, 5, 2), (6, 6, 1)):
        rng = np.random.default_rng(m + n)
        sigma = (*np.linspace(3.0, 2.0, r), *(0.8 * 0.7 ** np.arange(min(m, n) - r)))
        weights, A0 = rng.uniform(0.7, 1.4, (m, n)) ** 2, dense_start(rng, m, n, sigma).to_dense()
        W = dense_start(rng, m, n, (1.0, 0.7)[:r])
        for h in (0.1,) if quick else (0.1, 0.05, 0.02):
            W, P, seen, _, size = _at_rest(
                lambda Y: -weights * (Y - A0),  # noqa: B023
                lambda X: weights * X,  # noqa: B023
                W, h, 20.0,
            )  # fmt: skip
            x, left = h * float(weights.max()), norm(P - seen)
            right = (1 / 2 + sqrt(1 / 2)) * x * norm(P) + x * x / 6 * size
            yield Inequality(f"{m} x {n}, rank {r}, h = {h:g}", left, right, trivial=norm(P) + norm(seen))
    hs = (0.06, 0.03) if quick else (0.06, 0.03, 0.015)
    E, Z = np.array([[1.2, 2.2], [1.0, 0.8]]), np.array([[2.5, 0.9], [-0.4, 0.8]])
    cases = [("2 x 2", lambda Y: -E * (Y - Z), lambda X: E * X, _start(0)), ("5 x 4", *_coupled())]
    for name, F, H, Y0 in cases:
        sizes, beyond, without = [], [], []
        W = Y0
        for h in hs:
            W, P, seen, all_of_it, _ = _at_rest(F, H, W, h, 12.0 if sizes else 24.0)
            sizes.append(norm(P))
            beyond.append(norm(P - seen))
            without.append(norm(P - all_of_it))
        yield Slope.of(f"{name}, |P ∇L - h P Π H Π N/2|", hs, beyond, 2.0, y_name="|P ∇L - h P Π H Π N/2|")
        yield Slope.of(f"{name}, |P ∇L|", hs, sizes, 1.0, y_name="|P ∇L|")
        if name != "2 x 2":
            yield Slope.of(f"{name}, |P ∇L - h P H N/2|", hs, without, 1.0, y_name="|P ∇L - h P H N/2|")
