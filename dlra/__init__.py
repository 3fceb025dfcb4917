"""dlra: numerical integrators for matrix differential equations Ẏ = F(t, Y) on low-rank factors Y = U S Vᴴ.

Start with :func:`solve`; the documentation has a quickstart, a page on which integrator to choose, and the API.
Importing the package loads nothing else: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlra import compress, diagnostics, integrators, linalg, nn, plot, problems, substeps
    from dlra._checks import Event
    from dlra._citations import citation
    from dlra._entrywise import entrywise, entrywise_product
    from dlra._solve import iterate, solve, step
    from dlra.action import Action
    from dlra.checkpoint import Checkpoint
    from dlra.errors import DlraWarning, SolveError, TrainingError
    from dlra.field import factored
    from dlra.increments import Increments
    from dlra.integrators import (
        BUG,
        AugmentedBUG,
        Galerkin,
        GeneralizedNystrom,
        InterpolatoryCUR,
        InterpolatoryRungeKutta,
        MidpointBUG,
        ParallelBUG,
        ProjectedExponential,
        ProjectedRungeKutta,
        ProjectorSplitting,
        RandomizedSVD,
        RungeKuttaBUG,
        SecondOrderParallelBUG,
        StepTruncation,
    )
    from dlra.lazy import LazySum, matmul
    from dlra.lowrank import LowRank
    from dlra.semilinear import SemiLinear
    from dlra.solution import ErrorBudget, Solution, State
    from dlra.stack import LowRankStack

__version__ = "0.1.0"

_HOME = {
    "_checks": ("Event",),
    "_citations": ("citation",),
    "_entrywise": ("entrywise", "entrywise_product"),
    "action": ("Action",),
    "_solve": ("iterate", "solve", "step"),
    "checkpoint": ("Checkpoint",),
    "errors": ("DlraWarning", "SolveError", "TrainingError"),
    "field": ("factored",),
    "increments": ("Increments",),
    "integrators": (
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
    ),
    "lazy": ("LazySum", "matmul"),
    "lowrank": ("LowRank",),
    "semilinear": ("SemiLinear",),
    "solution": ("ErrorBudget", "Solution", "State"),
    "stack": ("LowRankStack",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("compress", "diagnostics", "integrators", "linalg", "nn", "plot", "problems", "substeps")

__all__ = [
    "Action",
    "AugmentedBUG",
    "BUG",
    "Checkpoint",
    "DlraWarning",
    "ErrorBudget",
    "Event",
    "Galerkin",
    "GeneralizedNystrom",
    "Increments",
    "InterpolatoryCUR",
    "InterpolatoryRungeKutta",
    "LazySum",
    "LowRank",
    "LowRankStack",
    "MidpointBUG",
    "ParallelBUG",
    "ProjectedExponential",
    "ProjectedRungeKutta",
    "ProjectorSplitting",
    "RandomizedSVD",
    "RungeKuttaBUG",
    "SecondOrderParallelBUG",
    "SemiLinear",
    "Solution",
    "SolveError",
    "State",
    "StepTruncation",
    "TrainingError",
    "citation",
    "compress",
    "diagnostics",
    "entrywise",
    "entrywise_product",
    "factored",
    "integrators",
    "iterate",
    "linalg",
    "matmul",
    "nn",
    "plot",
    "problems",
    "solve",
    "step",
    "substeps",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"dlra.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dlra' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dlra.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
