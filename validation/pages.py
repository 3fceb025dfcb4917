"""Markdown pages in ``docs/``: tables, and figures drawn without a display."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
_FOLDER = ContextVar("_FOLDER", default=DOCS)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8A6D3B")
MARKERS = "osD^v<>P*Xhp"


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Let pages and pictures go to another folder than ``docs/``."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def folder(*parts: str) -> Path:
    """The folder of the pages or one below it, made where it is missing."""
    path = _FOLDER.get().joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def shown(values: Sequence[float] | Any, digits: int) -> str:
    """The mean and, where there is more than one value, the standard deviation of the sample."""
    spread = f" ± {deviation(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def deviation(values: Sequence[float] | Any) -> float:
    """The standard deviation of a sample, 0 of one value."""
    return statistics.stdev(map(float, values)) if len(values) > 1 else 0.0


def write(name: str, parts: Iterable[str]) -> None:
    """Write ``docs/name`` from its parts, with a blank line between them."""
    (folder() / name).write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A matplotlib Figure without a display, and its axes in one flat list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, list(drawn.subplots(rows, columns, squeeze=False).flat)


def save(drawn: Any, name: str) -> None:
    """Write a figure to ``docs/images/name``."""
    drawn.savefig(folder("images") / name, dpi=100)


def decades(axis: Any, low: float, high: float, most: int = 6) -> None:
    """Ticks of a logarithmic axis that do not overlap: powers of ten where there are two or more in range, thinned
    to at most so many, and 1, 2, 5 times them where the range is narrow."""
    import math

    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    wide = math.log10(high / low) >= 2
    ticks = [m * 10.0**k for k in range(first, last + 1) for m in ((1,) if wide else (1, 2, 5))]
    ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
    ticks = ticks[:: -(-len(ticks) // most)] if ticks else [low]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _label(value, powers=high / low >= 1e3)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _label(value: float, powers: bool) -> str:
    if not powers and 0.0009 < value < 1001:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else f"${mantissa}\\cdot {power}$"
