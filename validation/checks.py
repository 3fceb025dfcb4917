"""What a check of a statement is: findings (inequalities, identities, slopes, counterexamples) and their verdict.

A check is a generator of findings, registered with :func:`check` in a module of ``validation.statements``. It calls the
integrators and the trainer of dlra; broken variants of these are injected from outside (``validation.mutants``) and the
check is run again: a variant is killed by the first finding that is not as it should be.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

__all__ = [
    "VERDICTS",
    "Check",
    "Counterexample",
    "Finding",
    "Identity",
    "Inequality",
    "Slope",
    "check",
    "verdict",
]

HOLDS, SHARP, VACUOUS = "holds", "sharp", "vacuous here"
FAILS, CORRECTED = "fails as printed", "corrected form holds"
VIOLATED, BROKEN = "violated", "broken"
VERDICTS = (HOLDS, SHARP, VACUOUS, FAILS, CORRECTED)
"""The verdicts that can be expected."""

SHARP_FROM = 0.9
"""Ratio of left to right side from which an inequality counts as sharp."""
IDENTITY = 1e-13
"""What the two sides of an identity may differ by, relative to their size."""
SLOPE = 0.1
"""What an observed slope may differ from the one of the theory."""


@dataclass(frozen=True)
class Inequality:
    """left <= right.

    Parameters
    ----------
    label : str
        The case: what was varied.
    left, right : float
    trivial : float
        What is known without the statement; where ``right`` is not below it, the statement says nothing here.
    base : float
        A part that both sides have anyway (the tolerance of a truncation, the error of the start): the ratio, and with
        it sharpness, is that of what is left of both sides without it.
    rounding : float
        Rounding errors of the two sides: left may exceed right by this, and by 1e-12 of the right side.
    """

    label: str
    left: float
    right: float
    trivial: float = math.inf
    base: float = 0.0
    rounding: float = 0.0

    kind: ClassVar[str] = "inequality"

    @property
    def ok(self) -> bool:
        return bool(self.left <= self.right + self.rounding + 1e-12 * abs(self.right))

    @property
    def ratio(self) -> float:
        """Left over right, both without ``base``; NaN where the right side is not above it."""
        return (self.left - self.base) / (self.right - self.base) if self.right > self.base else math.nan

    @property
    def vacuous(self) -> bool:
        return bool(self.right >= self.trivial)


@dataclass(frozen=True)
class Counterexample:
    """left > right, where the statement as printed claims left <= right."""

    label: str
    left: float
    right: float

    kind: ClassVar[str] = "counterexample"

    @property
    def ok(self) -> bool:
        return bool(self.left - self.right > 1e-12 * max(abs(self.left), abs(self.right)))

    @property
    def ratio(self) -> float:
        return self.left / self.right if self.right > 0 else math.nan


@dataclass(frozen=True)
class Identity:
    """Two sides that agree to rounding: their difference, relative to the size of what is compared."""

    label: str
    difference: float
    tolerance: float = IDENTITY

    kind: ClassVar[str] = "identity"

    @property
    def ok(self) -> bool:
        return bool(self.difference <= self.tolerance)

    @property
    def left(self) -> float:
        return self.difference

    @property
    def right(self) -> float:
        return self.tolerance

    @property
    def ratio(self) -> float:
        return self.difference / self.tolerance


@dataclass(frozen=True)
class Slope:
    """y ~ xᵖ: the slope of a straight line through the logarithms, beside the p of the theory.

    ``at_least``: steeper ones are as good (an upper bound, where nothing says that it is attained).
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    wanted: float
    x_name: str = "h"
    y_name: str = "error"
    within: float = SLOPE
    at_least: bool = False

    kind: ClassVar[str] = "slope"

    @classmethod
    def of(cls, label: str, x: Sequence[float], y: Sequence[float], wanted: float, **options: Any) -> Slope:
        """From any sequences."""
        return cls(label, tuple(map(float, x)), tuple(map(float, y)), wanted, **options)

    @property
    def seen(self) -> float:
        """The slope of the fitted line; NaN where there is none (fewer than two points, or numbers that are not
        positive and finite)."""
        x, y = np.asarray(self.x), np.asarray(self.y)
        if len(set(self.x)) < 2 or not all(np.all(np.isfinite(a)) and np.all(a > 0) for a in (x, y)):
            return math.nan
        return float(np.polyfit(np.log(x), np.log(y), 1)[0])

    @property
    def ok(self) -> bool:
        below = self.seen >= self.wanted - self.within
        return bool(below and (self.at_least or self.seen <= self.wanted + self.within))


Finding = Inequality | Counterexample | Identity | Slope


@dataclass(frozen=True)
class Check:
    """A check of a statement.

    Attributes
    ----------
    name : str
        Unique, lower-case with hyphens.
    title : str
        One line for the table.
    expect : str
        One of VERDICTS, recorded before the numbers were seen, or else with ``adjusted``.
    measure : callable
        ``measure(quick)`` yields findings; its docstring is the protocol.
    module : str
        Where it stands; the docstring of the module is the statement.
    adjusted : str
        Where the expectation was changed after the result was seen: what it was, and why it changed.
    cannot_fail : str
        Why no broken variant can be noticed here, where that is so: the check then counts for nothing.
    """

    name: str
    title: str
    expect: str
    measure: Callable[[bool], Iterator[Finding]]
    module: str
    adjusted: str = ""
    cannot_fail: str = ""

    @property
    def protocol(self) -> str:
        """What is done, in words."""
        return self.measure.__doc__ or ""

    @property
    def statement(self) -> str:
        """The statement, its source, assumptions and constants, in words."""
        return sys.modules[self.module].__doc__ or ""


_REGISTERED: dict[str, list[Check]] = {}


def check(
    name: str, title: str, *, expect: str, adjusted: str = "", cannot_fail: str = ""
) -> Callable[[Callable[[bool], Iterator[Finding]]], Callable[[bool], Iterator[Finding]]]:
    """Register a generator of findings, ``measure(quick)``, as a check of its module."""
    if expect not in VERDICTS:
        raise ValueError(f"expect must be one of {', '.join(VERDICTS)}, got {expect!r}")

    def register(measure: Callable[[bool], Iterator[Finding]]) -> Callable[[bool], Iterator[Finding]]:
        module = measure.__module__
        for other, several in _REGISTERED.items():
            if any(c.name == name for c in several):
                raise ValueError(f"there is a check {name!r} already, in {other}")
        _REGISTERED.setdefault(module, []).append(
            Check(name, title, expect, measure, module, adjusted, cannot_fail)
        )
        return measure

    return register


def checks_of(module: str) -> list[Check]:
    """The checks that a module has registered, in its order."""
    return list(_REGISTERED.get(module, []))


def verdict(findings: Sequence[Finding], expect: str) -> str:
    """What the findings say. ``expect`` decides only how a success is called: a corrected form is a success of a
    statement that the module has corrected."""
    if not findings or not all(finding.ok for finding in findings):
        return VIOLATED
    if any(isinstance(finding, Counterexample) for finding in findings):
        return FAILS
    if expect == CORRECTED:
        return CORRECTED
    inequalities = [finding for finding in findings if isinstance(finding, Inequality)]
    if inequalities and all(finding.vacuous for finding in inequalities):
        return VACUOUS
    if any(finding.ratio >= SHARP_FROM and not finding.vacuous for finding in inequalities):
        return SHARP
    return HOLDS


@dataclass
class Fate:
    """What a broken variant did to a check."""

    mutant: str
    how: str
    """"killed", "survives" or "raises"."""
    by: str = ""
    """The label of the first finding that was wrong, or the error."""


@dataclass
class Result:
    """What came of a check."""

    name: str
    verdict: str
    findings: list[Finding] = field(default_factory=list)
    mutants: list[Fate] = field(default_factory=list)
    reason: str = ""
    """Why it is broken."""
    seconds: float = 0.0

    @property
    def kills(self) -> list[str]:
        """Names of the variants that it kills."""
        return [m.mutant for m in self.mutants if m.how == "killed"]
