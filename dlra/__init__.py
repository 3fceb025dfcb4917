"""dlra: numerical integrators for matrix differential equations Ẏ = F(t, Y) on low-rank factors Y = U S Vᴴ.

Start with :func:`solve`; the documentation has a quickstart, a page on which integrator to choose, and the
API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlra import integrators, linalg, substeps
from dlra._checks import Event
from dlra._solve import iterate, solve, step
from dlra.checkpoint import Checkpoint
from dlra.errors import DlraWarning, SolveError
from dlra.field import factored
from dlra.integrators import BUG, AugmentedBUG, Galerkin, ProjectorSplitting
from dlra.lazy import LazySum, matmul
from dlra.lowrank import LowRank
from dlra.semilinear import SemiLinear
from dlra.solution import ErrorBudget, Solution, State

if TYPE_CHECKING:
    from dlra import plot as plot
    from dlra import problems as problems

__version__ = "0.1.0"

__all__ = [
    "BUG",
    "AugmentedBUG",
    "Checkpoint",
    "DlraWarning",
    "ErrorBudget",
    "Event",
    "Galerkin",
    "LazySum",
    "LowRank",
    "ProjectorSplitting",
    "SemiLinear",
    "Solution",
    "SolveError",
    "State",
    "factored",
    "integrators",
    "iterate",
    "linalg",
    "matmul",
    "solve",
    "step",
    "substeps",
]


def __getattr__(name: str) -> Any:
    """Import the parts that few runs need when they are first used."""
    if name in ("plot", "problems"):
        import importlib

        return importlib.import_module(f"dlra.{name}")
    raise AttributeError(f"module 'dlra' has no attribute {name!r}")
