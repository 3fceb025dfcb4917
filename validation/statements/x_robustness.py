"""Beyond the four papers: errors that do not grow as singular values go to zero.

**Statement.** For Lipschitz continuous, bounded F whose part normal to the tangent spaces is at most eps, the error on
[0, T] is at most c₀ δ₀ + c₁ eps + c₂ hᵖ, with constants that depend on the bounds of F and on T, but not on the
singular values of the solution: p = 1 for projector splitting, fixed-rank, augmented and parallel BUG, p = 2 for
midpoint and second-order parallel BUG.

**Source.** E. Kieri, C. Lubich, H. Walach, Discretized dynamical low-rank approximation in the presence of small
singular values, SIAM J. Numer. Anal. 54 (2016) 1020-1038. G. Ceruti, C. Lubich, BIT Numer. Math. 62 (2022) 23-44. G.
Ceruti, J. Kusch, C. Lubich, BIT Numer. Math. 62 (2022) 1149-1174, and 64 (2024), A parallel rank-adaptive integrator
for dynamical low-rank approximation, SIAM J. Sci. Comput. 46 (2024) B205-B228. G. Ceruti, L. Einkemmer, J. Kusch, C.
Lubich, A robust second-order low-rank BUG integrator based on the midpoint rule, BIT Numer. Math. 64 (2024) 30.

**Assumptions.** Those of the sources. The field is F(t, Y) = A'(t) + g(Y) - g(A(t)) with an entrywise g and A(t) of
rank r, so that eps = 0 along the solution; the second order of Strang splitting is observed there, not proved.

**Constants.** Unknown; the statement is that they do not depend on σ_min. Hence two slopes: the error in h, p at σ_min
= 0.1, and the error in σ_min at a fixed h, at least 0 over nine decades: it must not grow as σ_min falls (constants
that grow like 1/σ_min would give -1), but may fall.

**Use.** There is no need to keep singular values away from zero, nor to invert cores: take the rank a little too high.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from dlra import (
    BUG,
    AugmentedBUG,
    MidpointBUG,
    ParallelBUG,
    ProjectorSplitting,
    SecondOrderParallelBUG,
)
from dlra.integrators import WithSubstep
from validation.checks import Finding, Slope, check
from validation.manufactured import Rotating
from validation.properties import error, final, shown


def settled(method: Any) -> Any:
    """The method with substeps of fourth order, whose error does not count beside its own."""
    return replace(method, substep="rk4") if isinstance(method, WithSubstep) else method


@lru_cache(maxsize=16)
def solution(smallest: float, dtype: str) -> Rotating:
    """A(t), 20 x 20 with three singular values down to this one."""
    return Rotating(20, 20, np.geomspace(1.0, smallest, 3), dtype)


def errors(method: Any, smallest: float, steps: Sequence[int], dtype: str) -> list[float]:
    """At t = 1, relative, for so many steps."""
    A = solution(smallest, dtype)
    return [error(final(A.F, A.state(), settled(method), 1 / k), A(1.0)) for k in steps]


def robustness(methods: Sequence[tuple[Any, int]], quick: bool) -> Iterator[Finding]:
    """20 x 20, complex and real, three singular values from 1 to σ_min.

    Slope in h with 20 and 40 steps (80 too in full) at σ_min = 0.1, slopes in σ_min from 0.1 to 1e-10 with 10 steps
    (and with 40 in full).
    """
    steps = (20, 40) if quick else (20, 40, 80)
    sigmas = (1e-1, 1e-4, 1e-10) if quick else (1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
    for dtype in ("complex128",) if quick else ("complex128", "float64"):
        for method, p in methods:
            where = f"{shown(method).strip('`')}, {dtype}"
            yield Slope.of(f"in h, {where}", [1 / k for k in steps], errors(method, 0.1, steps, dtype), p)
            for k in (10,) if quick else (10, 40):
                several = [errors(method, s, (k,), dtype)[0] for s in sigmas]
                yield Slope.of(
                    f"in σ_min, h = 1/{k}, {where}", sigmas, several, 0.0, x_name="sigma_min", at_least=True
                )


@check("x-robust-bug", "Fixed-rank BUG: error O(h) whatever σ_min", expect="holds")
def fixed_rank(quick: bool) -> Iterator[Finding]:
    yield from robustness([(BUG(), 1)], quick)


@check("x-robust-augmented-bug", "Augmented and parallel BUG: error O(h) whatever σ_min", expect="holds")
def augmented(quick: bool) -> Iterator[Finding]:
    yield from robustness([(AugmentedBUG(), 1), (ParallelBUG(), 1)], quick)


@check(
    "x-robust-second-order-bug",
    "Midpoint, second-order parallel BUG: error O(h²) whatever σ_min",
    expect="holds",
)
def second_order(quick: bool) -> Iterator[Finding]:
    methods: list[tuple[Any, int]] = [(MidpointBUG(), 2), (SecondOrderParallelBUG(), 2)]
    if not quick:
        methods += [(MidpointBUG(bases="4r"), 2), (SecondOrderParallelBUG(bases="3r"), 2)]
    yield from robustness(methods, quick)


@check(
    "x-robust-splitting",
    "Projector splitting: error O(h), of Strang's kind O(h²), whatever σ_min",
    expect="holds",
)
def splitting(quick: bool) -> Iterator[Finding]:
    yield from robustness([(ProjectorSplitting(1), 1), (ProjectorSplitting(2), 2)], quick)


for _measure in (fixed_rank, augmented, second_order, splitting):
    _measure.__doc__ = robustness.__doc__
