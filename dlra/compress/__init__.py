"""How far a matrix is from one of low rank, which ranks to keep of a trained network, and its truncation to them.

:func:`lsvt`, :func:`gsvt` and :func:`isvt` truncate a network, say in a :class:`Report` what that saves and costs, and
may train the result. The rules by which they choose one rank for each layer are functions too: :func:`local_ranks` and
:func:`global_ranks`, both from its :func:`singular_values`, and :func:`iterative_ranks`, from its loss.

The measures (:func:`nuclear_norm` to :func:`two_level_l1`) are functions of the singular values of a matrix.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlra.compress.comparison import compare
    from dlra.compress.comparison_results import Comparison, Failure, Point, Row, Training
    from dlra.compress.measures import (
        effective_rank,
        gini,
        hoyer,
        nuclear_norm,
        schatten_norm,
        sorted_l1,
        two_level_l1,
    )
    from dlra.compress.ranks import global_ranks, iterative_ranks, local_ranks, singular_values
    from dlra.compress.report import LayerReport, Report
    from dlra.compress.truncation import Compressed, gsvt, isvt, lsvt

_HOME = {
    "comparison": ("compare",),
    "comparison_results": ("Comparison", "Failure", "Point", "Row", "Training"),
    "measures": (
        "effective_rank", "gini", "hoyer", "nuclear_norm", "schatten_norm", "sorted_l1", "two_level_l1",
    ),
    "ranks": ("global_ranks", "iterative_ranks", "local_ranks", "singular_values"),
    "report": ("LayerReport", "Report"),
    "truncation": ("Compressed", "gsvt", "isvt", "lsvt"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Comparison",
    "Compressed",
    "Failure",
    "LayerReport",
    "Point",
    "Report",
    "Row",
    "Training",
    "compare",
    "effective_rank",
    "gini",
    "global_ranks",
    "gsvt",
    "hoyer",
    "isvt",
    "iterative_ranks",
    "local_ranks",
    "lsvt",
    "nuclear_norm",
    "schatten_norm",
    "singular_values",
    "sorted_l1",
    "two_level_l1",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dlra.compress' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dlra.compress.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
