"""Progress bars: what all have, and that of solve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from typing import Any

from dlra.solution import ErrorBudget, State


def shown(states: Generator[State, None, None], t0: float, t1: float) -> Generator[State, None, None]:
    """Pass the states on, showing t, step, rank, error budget and the remaining time on standard error."""
    bar = opened(
        "t = {task.fields[t]:.5g}",
        "step {task.fields[step]}  rank {task.fields[rank]}  {task.fields[budget]}",
    )
    with contextlib.closing(states), bar:
        task = bar.add_task("", total=abs(t1 - t0), t=t0, step=0, rank="", budget="")
        for state in states:
            bar.update(
                task,
                completed=abs(state.t - t0),
                t=state.t,
                step=state.step,
                rank=state.rank,
                budget=budget_text(state.errors),
            )
            yield state


def opened(*texts: str) -> Any:
    """A bar of rich on standard error: texts, the last of them behind the bar, and the times spent and left."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
    except ImportError:
        raise ImportError('progress=True needs rich: pip install "dlra[cli]"') from None
    return Progress(
        *texts[:-1], BarColumn(), texts[-1], TimeElapsedColumn(), "left", TimeRemainingColumn(),
        console=Console(stderr=True), refresh_per_second=5,
    )  # fmt: skip


def budget_text(errors: ErrorBudget) -> str:
    """The known parts of an error budget, in one line."""
    parts = {"time": errors.time, "truncation": errors.truncation, "normal": errors.normal}
    return "  ".join(f"{name} {value:.1e}" for name, value in parts.items() if not math.isnan(value))
