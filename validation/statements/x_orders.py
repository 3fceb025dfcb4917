"""Beyond the four papers: the order of each integrator, and the floor that the normal part of the field leaves.

**Statement.** Where the solution of Ẏ = F(t, Y) has rank r, the error of an integrator of order p is O(hᵖ). Where F has
a normal part, integrators of the flow of Ẏ = P(Y) F(t, Y) have the order that their theory gives there (midpoint,
second-order parallel, Runge-Kutta BUG and step truncation fall to order one, O(h eps)). Against the solution of Ẏ = F
itself, which leaves the matrices of rank r, the error is O(eps + hᵖ): its floor is proportional to the normal part eps.

**Source.** For fixed-rank, augmented, parallel, midpoint and second-order parallel BUG, and for projector splitting,
the papers cited in the reference of each class of `dlra.integrators`; E. Kieri, B. Vandereycken, Projection methods for
dynamical low-rank approximation of high-dimensional problems, Comput. Methods Appl. Math. 19 (2019) 73-92, for
projected Runge-Kutta and the floor.

**Assumptions.** A field of class C^(p+1), substeps whose error does not count, singular values bounded from below for
orders above two.

**Constants.** Not explicit; the statement is the slope. The field is F(t, Y) = A'(t) + g(Y) - g(A(t)) + eps E with A(t)
of rank three, complex, 20 x 20, g entrywise and |E| = 1, of which most is normal.

**Use.** Take h until the error of order p is below the normal part: smaller steps gain nothing then, a higher rank
does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dlra import ProjectedExponential, ProjectorSplitting
from validation.checks import Finding, Slope, check
from validation.manufactured import Rotating, normal, projected_flow
from validation.properties import Claim, _semilinear, claims, error, final, shown, tight
from validation.statements.x_robustness import settled

STEPS = {1: (20, 40), 2: (20, 40), 3: (32, 64), 4: (32, 64), 5: (16, 32)}
"""Numbers of steps per order: small enough for the asymptotics, large enough for rounding."""
FLOORS = (0.2, 0.1, 0.05)
BOUNDS_ONLY = ("RandomizedSVD", "GeneralizedNystrom", "InterpolatoryCUR", "InterpolatoryRungeKutta")
"""Random or interpolated bases: they jump from step to step, and slopes are only bounded from below."""
NO_PROJECTION = ("RandomizedSVD", "InterpolatoryCUR", "InterpolatoryRungeKutta")
"""Methods that approximate another flow than Ẏ = P(Y) F."""

A = Rotating(20, 20, np.geomspace(1.0, 0.1, 3), "complex128")
_E = normal(np.random.default_rng(7), (20, 20), "complex128")
E = _E / np.linalg.norm(_E)


def field(eps: float) -> Callable[[float, np.ndarray], np.ndarray]:
    """F with the normal part eps E."""
    return lambda t, Y: A.F(t, Y) + eps * E


@lru_cache(maxsize=8)
def reference(eps: float, rank: int) -> np.ndarray:
    """Y(1) of the flow projected on this rank; of the flow itself for rank 20."""
    return projected_flow(field(eps), A(0.0), rank, 0.0, 1.0, 500 if rank < 20 else 200)


def run(method: Any, eps: float, steps: int) -> Any:
    """Y(1) by a method."""
    F = field(eps)
    if isinstance(method, ProjectedExponential):
        F = _semilinear(A, F)
    precise = tight if isinstance(method, ProjectorSplitting) and method.order == 4 else settled
    return final(F, A.state(), precise(method), 1 / steps)


def orders(several: Sequence[Claim], quick: bool) -> Iterator[Finding]:
    """Slopes of the error at t = 1: in h against A(t), of rank r; in h against the projected flow, |eps E| = 1; in eps
    = 0.2, 0.1, 0.05 against the flow itself, with a step whose error does not count beside the floor."""
    for claim in several:
        name = type(claim.method).__name__
        where, bound = shown(claim.method).strip("`"), name in BOUNDS_ONLY
        p = int(claim.on)
        steps = (8, 16) if isinstance(claim.method, ProjectorSplitting) and p == 4 else STEPS[p]
        e = [error(run(claim.method, 0.0, k), A(1.0)) for k in steps]
        yield Slope.of(f"rank r, {where}", [1 / k for k in steps], e, p, at_least=bound)
        if name not in NO_PROJECTION:
            p = int(claim.off)
            exact = reference(1.0, 3)
            steps = (12, 24) if isinstance(claim.method, ProjectorSplitting) and p == 4 else STEPS[p]
            e = [error(run(claim.method, 1.0, k), exact) for k in steps]
            yield Slope.of(f"projected flow, {where}", [1 / k for k in steps], e, p, at_least=bound)
        floors = FLOORS[::2] if quick else FLOORS
        k = 80 if claim.on == 1 else 20
        e = [error(run(claim.method, eps, k), reference(eps, 20)) for eps in floors]
        yield Slope.of(f"floor in eps, {where}", floors, e, 1.0, x_name="eps")


def chosen(*names: str, only: Callable[[Any], bool] | None = None) -> list[Claim]:
    """The claims for these classes."""
    return [
        claim
        for claim in claims()
        if type(claim.method).__name__ in names and (only is None or only(claim.method))
    ]


def tableau(*names: str) -> Callable[[Any], bool]:
    """Methods with one of these tableaux."""
    return lambda method: method.tableau in names


def in_quick(quick: bool, *names: str) -> Callable[[Any], bool] | None:
    """All tableaux in full, these in quick mode."""
    return tableau(*names) if quick else None


@check("x-order-bug", "Fixed-rank BUG: order 1, floor proportional to eps", expect="holds")
def bug(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("BUG"), quick)


@check("x-order-augmented-bug", "Augmented BUG: order 1, floor proportional to eps", expect="holds")
def augmented(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("AugmentedBUG"), quick)


@check("x-order-parallel-bug", "Parallel BUG: order 1, floor proportional to eps", expect="holds")
def parallel(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("ParallelBUG"), quick)


@check(
    "x-order-midpoint-bug",
    "Midpoint BUG: order 2, 1 with a normal part, floor proportional to eps",
    expect="holds",
)
def midpoint(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("MidpointBUG", only=lambda m: not quick or m.bases == "3r"), quick)


@check(
    "x-order-second-order-parallel-bug",
    "Second-order parallel BUG: order 2, 1 with a normal part",
    expect="holds",
)
def second_order_parallel(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("SecondOrderParallelBUG", only=lambda m: not quick or m.bases == "4r"), quick)


@check(
    "x-order-splitting", "Projector splitting: orders 1, 2 and 4, floor proportional to eps", expect="holds"
)
def splitting(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("ProjectorSplitting", only=lambda m: not quick or m.order < 4), quick)


@check(
    "x-order-runge-kutta-bug",
    "Runge-Kutta BUG: the order of its tableau up to 4, 1 with a normal part",
    expect="holds",
)
def runge_kutta_bug(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("RungeKuttaBUG", only=in_quick(quick, "heun2", "rk4")), quick)


@check(
    "x-order-projected", "Projected Runge-Kutta and exponential methods: their order on both", expect="holds"
)
def projected(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("ProjectedRungeKutta", only=in_quick(quick, "heun2", "rk4")), quick)
    if not quick:
        yield from orders(chosen("ProjectedExponential"), quick)


@check(
    "x-order-truncation", "Step truncation and its kin: the order of the tableau at rank r", expect="holds"
)
def truncation(quick: bool) -> Iterator[Finding]:
    yield from orders(chosen("StepTruncation", only=in_quick(quick, "heun2", "rk4")), quick)
    if not quick:
        yield from orders(chosen("RandomizedSVD", "GeneralizedNystrom"), quick)
        yield from orders(chosen("InterpolatoryCUR", "InterpolatoryRungeKutta"), quick)


for _measure in (bug, augmented, parallel, midpoint, second_order_parallel, splitting, runge_kutta_bug, projected,
                 truncation):  # fmt: skip
    _measure.__doc__ = orders.__doc__
