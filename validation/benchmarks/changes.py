"""What the kernels bring to a step: each is put in its place one after the other, beside a step without any.

The generic code that stands in for them is what other array libraries use. A profile says what dominates a step before
and after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import dlra
from dlra import lazy, linalg
from dlra.kernels import lapack
from dlra.lowrank import LowRank
from validation import pages
from validation.benchmarks import bare
from validation.benchmarks.results import Headline, compare, milliseconds, pinned, publish
from validation.benchmarks.steps import constant_field, stepper
from validation.benchmarks.timing import profile

CHANGES: tuple[tuple[str, tuple[tuple[Any, str, Any], ...]], ...] = (
    ("UᴴFV of factors from small products", ((LowRank, "_compressed", lazy.Operand._compressed),)),
    ("bases of tall matrices in blocks of rows", ((linalg, "_is_tall", lambda U0, X: False),)),
    ("products and rotations in blocks of rows", ((linalg, "_CACHED", math.inf),)),
    ("LAPACK without wrappers", ((lapack, "usable", lambda entries: False),)),
)
"""Each with the patches that undo it."""


@contextmanager
def without(first: int) -> Iterator[None]:
    """Without the changes from that one on."""
    with ExitStack() as stack:
        for _, patches in CHANGES[first:]:
            for patched in patches:
                stack.enter_context(patch.object(*patched))
        yield


def problems(quick: bool) -> list[tuple[str, Any, dlra.LowRank, Any]]:
    """Name, field, start and method."""
    n = 10_000 if quick else 100_000
    name = f"Euler substeps, constant F of rank 20, n = {n:,}, r = 20"
    found = [(name, *constant_field(n, n, 20)[:2], dlra.AugmentedBUG(substep="euler"))]
    for n, r in ((100, 5),) if quick else ((2000, 20), (100, 5)):
        A, C, Y0 = bare.problem(n, r)
        name = f"Runge-Kutta 4 substeps, Ẏ = A Y + Y Aᵀ + C Cᵀ, n = {n:,}, r = {r}"
        found.append((name, bare.field(A, C), Y0, dlra.AugmentedBUG(substep="rk4")))
    return found


def steps(count: int, F: Any, Y0: dlra.LowRank, method: Any) -> Callable[[], None]:
    """A function that does the next step of a run with so many changes."""
    with without(count):
        advance = stepper(F, Y0, method)

    def run() -> None:
        with without(count):
            advance()

    return run


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """Times of a step with the first 0, 1, ... changes, and profiles of the first and the last."""
    rows = []
    for name, F, Y0, method in problems(quick):
        runs = {str(count): steps(count, F, Y0, method) for count in range(len(CHANGES) + 1)}
        times = compare(runs, 0.5 if quick else 6.0)
        several = range(5 if Y0.shape[0] > 1000 else 200)
        first, *_, last = runs.values()
        profiles = [
            profile(lambda run=run, several=several: [run() for _ in several], 6) for run in (first, last)
        ]
        rows.append({"problem": name, "times": times, "profiles": profiles})
    return rows


def tables(rows: list[dict[str, Any]]) -> list[str]:
    """The page."""
    parts = []
    for row in rows:
        times = row["times"]
        names = ["none", *(f"+ {what}" for what, _ in CHANGES)]
        cells = [
            [name, milliseconds(times[str(k)]), f"{times['0'].over(times[str(k)]):.2f}"]
            for k, name in enumerate(names)
        ]
        before, after = row["profiles"]
        parts += [
            f"## {row['problem']}",
            pages.table(["kernels", "ms a step", "faster than without, x"], cells),
            "Where the time of a step goes without kernels:", before,
            "and with all of them:", after,
        ]  # fmt: skip
    return parts


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page and numbers."""
    with pinned(threads):
        rows = measure(quick)
    found = [
        Headline(
            f"kernels, a step of augmented BUG ({row['problem']}): times faster than without",
            row["times"]["0"].over(row["times"][str(len(CHANGES))]), unit=" x",
        )
        for row in rows
    ]  # fmt: skip
    publish(
        "changes", "Measured: what the kernels bring",
        "A step of augmented BUG with NumPy arrays, first by the generic code that other array libraries use, then "
        "with one kernel after the other in its place. Times include some ten microseconds for putting them there.",
        tables(rows), {"changes": [what for what, _ in CHANGES], "rows": rows}, found, threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
