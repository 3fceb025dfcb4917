"""Integrators for matrix differential equations on low-rank factors.

Each is a frozen dataclass of options; one file each, reading like the box in its paper. A step speaks a small
protocol, so that other code can supply the values of F: see :class:`Ask`, :func:`drive` and "Write your own
integrator" in the documentation.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from dlra.integrators._base import Integrator, RankAdaptive, WithSubstep, advanced, augmented, with_cores
from dlra.integrators._equations import Equation, k_equation, l_equation, one_sided, s_equation
from dlra.integrators._protocol import Ask, StepResult, drive, together
from dlra.integrators.augmented_bug import AugmentedBUG
from dlra.integrators.bug import BUG
from dlra.integrators.galerkin import Galerkin
from dlra.integrators.generalized_nystrom import GeneralizedNystrom
from dlra.integrators.interpolatory_cur import InterpolatoryCUR
from dlra.integrators.interpolatory_runge_kutta import InterpolatoryRungeKutta
from dlra.integrators.midpoint_bug import MidpointBUG
from dlra.integrators.parallel_bug import ParallelBUG
from dlra.integrators.projected_exponential import ProjectedExponential
from dlra.integrators.projected_runge_kutta import ProjectedRungeKutta
from dlra.integrators.projector_splitting import ProjectorSplitting
from dlra.integrators.randomized_svd import RandomizedSVD
from dlra.integrators.runge_kutta_bug import RungeKuttaBUG
from dlra.integrators.second_order_parallel_bug import SecondOrderParallelBUG
from dlra.integrators.step_truncation import StepTruncation

__all__ = [
    "BUG",
    "AugmentedBUG",
    "ParallelBUG",
    "MidpointBUG",
    "SecondOrderParallelBUG",
    "RungeKuttaBUG",
    "ProjectorSplitting",
    "ProjectedRungeKutta",
    "ProjectedExponential",
    "StepTruncation",
    "RandomizedSVD",
    "GeneralizedNystrom",
    "InterpolatoryCUR",
    "InterpolatoryRungeKutta",
    "Galerkin",
    "Ask",
    "Equation",
    "Integrator",
    "RankAdaptive",
    "StepResult",
    "WithSubstep",
    "advanced",
    "augmented",
    "by_name",
    "drive",
    "k_equation",
    "l_equation",
    "names",
    "one_sided",
    "s_equation",
    "together",
    "with_cores",
]

_METHODS: dict[str, type[Integrator]] = {
    cls.name: cls
    for cls in (
        BUG,
        AugmentedBUG,
        ParallelBUG,
        MidpointBUG,
        SecondOrderParallelBUG,
        RungeKuttaBUG,
        ProjectorSplitting,
        ProjectedRungeKutta,
        ProjectedExponential,
        StepTruncation,
        RandomizedSVD,
        GeneralizedNystrom,
        InterpolatoryCUR,
        InterpolatoryRungeKutta,
        Galerkin,
    )
}


def names() -> list[str]:
    """Return the names of all methods, as :func:`dlra.solve` takes them."""
    return list(_METHODS)


def by_name(method: Any, **options: Any) -> Integrator:
    """Return the integrator of a name (with options), or the integrator object itself.

    Raises
    ------
    ValueError
        Unknown name; the text lists the known ones.
    TypeError
        Neither a name nor an integrator, or an unknown option.
    """
    if isinstance(method, Integrator):
        return method
    if isinstance(method, str):
        if method not in _METHODS:
            close = difflib.get_close_matches(_hyphenated(method), _METHODS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown method {method!r}; known are {', '.join(map(repr, _METHODS))}{hint}")
        return _METHODS[method](**options)
    if isinstance(method, type) and issubclass(method, Integrator):
        raise TypeError(
            f"method must be an integrator object or a name: write {method.__name__}(), with parentheses"
        )
    raise TypeError(
        f"method must be a name ({', '.join(map(repr, _METHODS))}) or an integrator object, got {method!r}"
    )


def _hyphenated(name: str) -> str:
    """AugmentedBUG, augmented_bug -> augmented-bug."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).replace("_", "-").lower()
