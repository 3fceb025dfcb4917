"""One module a statement, or a family of them: the statement in the notation of its paper, its assumptions and
constants, then the checks (:func:`validation.checks.check`)."""

from __future__ import annotations

import importlib
import pkgutil

from validation.checks import Check, checks_of

__all__ = ["checks", "known", "modules"]


def modules() -> list[str]:
    """Names of the modules, in the order of the report: papers S1 to S4, then what goes beyond them."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__))


def checks(module: str) -> list[Check]:
    """The checks of a module, which is imported; what it raises is passed on."""
    full = f"{__name__}.{module}"
    importlib.import_module(full)
    return checks_of(full)


def known(module: str) -> list[Check]:
    """The checks of a module that has been imported already; none of others."""
    return checks_of(f"{__name__}.{module}")
