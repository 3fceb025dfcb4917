"""Beyond the four papers: the order of each integrator, and the floor that the normal part of the field leaves.

**Statement.** Where the solution of Ẏ = F(t, Y) has rank r, the error of an integrator of order p is O(hᵖ). Where F has
a normal part, integrators of the flow of Ẏ = P(Y) F(t, Y) have the order that their theory gives there (midpoint,
second-order parallel, Runge-Kutta BUG and step truncation fall to order one, O(hε)). Against the solution of Ẏ = F
itself, which leaves the matrices of rank r, the error is O(ε + hᵖ): its floor is proportional to the normal part ε.

**Source.** For fixed-rank, augmented, parallel, midpoint and second-order parallel BUG, and for projector splitting,
the papers cited in the reference of each class of `dlra.integrators`; E. Kieri, B. Vandereycken, Projection methods for
dynamical low-rank approximation of high-dimensional problems, Comput. Methods Appl. Math. 19 (2019) 73-92, for
projected Runge-Kutta and the floor.

**Assumptions.** A field of class C^(p+1), substeps whose error does not count, singular values bounded from below for
orders above two. Random and interpolated bases jump from step to step, and with them the error: its slope is bounded
from below only. Nothing is claimed against the projected flow for interpolatory methods, which converge to another one,
and for the randomised singular value decomposition, each step of which may miss the best approximation by as much as
the normal part of the step, of the size of h.

**Constants.** Not explicit; the statement is the slope. The field is F(t, Y) = A'(t) + g(Y) - g(A(t)) + ε E with A(t)
of rank three, complex, 20 x 20, g entrywise and |E| = 1, of which most is normal. The orders expected are those of
`validation.properties.claims`.

**Use.** Halve h until the error stops falling: what is left is the floor, and only a higher rank lowers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from validation.checks import Finding, Slope, check
from validation.properties import at_one, claims, error, label, order_off, order_on, reference

FLOORS = (0.2, 0.1, 0.05)


def everything(method: Any) -> bool:
    """All variants in quick mode too."""
    return True


def nothing(method: Any) -> bool:
    """None in quick mode."""
    return False


def two_tableaux(method: Any) -> bool:
    """Of second and of fourth order."""
    return method.tableau in ("heun2", "rk4")


CHECKS: tuple[tuple[str, str, dict[str, Callable[[Any], bool]]], ...] = (
    ("x-order-bug", "Fixed-rank BUG: order 1, floor proportional to ε", {"BUG": everything}),
    (
        "x-order-augmented-bug",
        "Augmented BUG: order 1, floor proportional to ε",
        {"AugmentedBUG": everything},
    ),
    ("x-order-parallel-bug", "Parallel BUG: order 1, floor proportional to ε", {"ParallelBUG": everything}),
    (
        "x-order-midpoint-bug",
        "Midpoint BUG: order 2, 1 with a normal part, floor proportional to ε",
        {"MidpointBUG": lambda m: m.bases == "3r"},
    ),
    (
        "x-order-second-order-parallel-bug",
        "Second-order parallel BUG: order 2, 1 with a normal part",
        {"SecondOrderParallelBUG": lambda m: m.bases == "4r"},
    ),
    (
        "x-order-splitting",
        "Projector splitting: orders 1, 2 and 4, floor proportional to ε",
        {"ProjectorSplitting": lambda m: m.order < 4},
    ),
    (
        "x-order-runge-kutta-bug",
        "Runge-Kutta BUG: the order of its tableau up to 4, 1 with a normal part",
        {"RungeKuttaBUG": two_tableaux},
    ),
    (
        "x-order-projected",
        "Projected Runge-Kutta and exponential methods: their order on both",
        {"ProjectedRungeKutta": two_tableaux, "ProjectedExponential": nothing},
    ),
    (
        "x-order-truncation",
        "Step truncation and its kin: the order of the tableau at rank r",
        {
            "StepTruncation": two_tableaux,
            "RandomizedSVD": nothing,
            "GeneralizedNystrom": nothing,
            "InterpolatoryCUR": nothing,
            "InterpolatoryRungeKutta": nothing,
        },
    ),
)
"""Name, title, and the classes of methods with those of their variants that quick mode takes."""


def measured(classes: dict[str, Callable[[Any], bool]]) -> Callable[[bool], Iterator[Finding]]:
    """The check of these methods."""

    def measure(quick: bool) -> Iterator[Finding]:
        """Slopes of the error at t = 1: in h against A(t), of rank r, three step lengths; in h against the projected
        flow, |ε E| = 1; in ε = 0.2, 0.1, 0.05 against the flow itself, with a step whose error does not count beside
        the floor."""
        for claim in claims():
            brief = classes.get(type(claim.method).__name__)
            if brief is None or (quick and not brief(claim.method)):
                continue
            yield order_on(claim)
            if claim.off:
                yield order_off(claim)
            steps = 20 if claim.on > 1 else 40 if quick else 80
            e = [error(at_one(claim.method, eps, steps), reference(eps, 20)) for eps in FLOORS]
            yield Slope.of(f"floor in ε, {label(claim.method)}", FLOORS, e, 1.0, x_name="ε")

    return measure


for _name, _title, _classes in CHECKS:
    check(_name, _title, expect="holds")(measured(_classes))
