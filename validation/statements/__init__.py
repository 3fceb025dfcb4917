"""One module a statement, or a family of them: the statement in the notation of its paper, its assumptions and
constants, then the checks (:func:`validation.checks.check`)."""

from __future__ import annotations

import importlib
import pkgutil

from validation.checks import Check, checks_of

__all__ = ["PAPERS", "checks", "known", "modules", "paper"]

PAPERS = {
    "s1": "S1: S. Schotthöfer et al., Low-rank lottery tickets, NeurIPS 2022, appendix",
    "s2": "S2: A. Hnatiuk et al., Stochastic aspects of dynamical low-rank approximation, 2024",
    "s3": "S3: low-rank induced training through linear layers composition (LoRITa)",
    "s4": "S4: X. Ou et al., Low rank optimization for efficient deep learning",
    "x": "Beyond the papers",
}
"""Where the statements come from, by the first part of the names of their modules."""

ORDER = (
    "s1_local_error", "s1_global_error", "s1_descent", "s1_attractor", "s1_gradients", "s1_convolution",
    "s1_parameters", "s2_identities", "s2_truncation", "s2_local_error", "s2_global_error",
    "s2_sgd_descent_flow", "s2_sgd_descent_step", "s2_sgd_iterates", "s2_sgd_limit", "s2_sgd_parallel",
    "s2_momentum_identities", "s2_momentum_convergence", "s3_composition", "s3_truncation", "s4_measures",
    "x_exactness", "x_orders", "x_robustness", "x_conservation", "x_stiff",
)  # fmt: skip
"""The modules as the papers go; others follow in alphabetical order."""


def modules() -> list[str]:
    """Names of the modules, in the order of the report."""
    found = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def paper(module: str) -> str:
    """Where the statements of a module come from."""
    return PAPERS.get(module.split("_")[0], PAPERS["x"])


def checks(module: str) -> list[Check]:
    """The checks of a module, which is imported; what it raises is passed on."""
    full = f"{__name__}.{module}"
    importlib.import_module(full)
    return checks_of(full)


def known(module: str) -> list[Check]:
    """The checks of a module that has been imported already; none of others."""
    return checks_of(f"{__name__}.{module}")
