"""CPU seconds of a run, and how far a result is from a reference."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dlra
from validation import pages
from validation.benchmarks.machine import describe

SHORT = 1.0
"""Runs up to so many seconds are repeated, and the best of three is taken."""


class Timed(NamedTuple):
    """A result and its CPU seconds."""

    value: Any
    seconds: float


def timed(run: Callable[[], Any], repeats: int = 3) -> Timed:
    """CPU seconds of a run: the best of three where it is short."""
    best, value = np.inf, None
    for _ in range(repeats):
        start = time.process_time()
        value = run()
        best = min(best, time.process_time() - start)
        if best > SHORT:
            break
    return Timed(value, best)


@contextmanager
def one_thread() -> Any:
    """One BLAS thread and no warnings of dlra."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", dlra.DlraWarning)
        yield


def distance(Y: Any, reference: np.ndarray) -> float:
    """Relative Frobenius distance from a dense reference."""
    dense = Y.to_dense() if isinstance(Y, dlra.LowRank) else Y
    return float(np.linalg.norm(dense - reference) / np.linalg.norm(reference))


def profile(run: Callable[[], Any], most: int = 10) -> str:
    """A table of the functions in which a run spends its time, by their own share of it."""
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.enable()
    run()
    profiler.disable()
    stats: dict[Any, Any] = pstats.Stats(profiler).__dict__["stats"]
    total = sum(entry[2] for entry in stats.values())
    heaviest = sorted(stats.items(), key=lambda item: -item[1][2])[:most]
    rows = [
        [f"`{Path(where).stem}: {name}`", str(entry[0]), f"{entry[2] / total:.0%}"]
        for (where, _, name), entry in heaviest
    ]
    return pages.table(["function", "calls", "share"], rows)


def conditions(command: str) -> str:
    """A paragraph that says by what, how and on what the numbers of a page were made."""
    return (
        f"Written by `{command}`. CPU seconds (`time.process_time`) on one BLAS thread, after a warm-up, best of three "
        f"where a run takes less than {SHORT:g} s; errors are relative Frobenius norms. Compare ratios: absolute times "
        f"are of one machine ({describe()})."
    )
