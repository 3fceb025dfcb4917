"""Drawing into given axes: the style of all pictures, lines, one quantity over time, a matrix as an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlra.backend import to_host
from dlra.lowrank import LowRank

BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, "#000000", "#7F7F7F")
"""Okabe and Ito's colours, which people with colour vision deficiencies can tell apart, and grey."""

_DASHES = ("-", "--", "-.", ":")
_UNDERSHOOT = 0.25  # a density may fall below zero by this share of its maximum and still count as positive
_PIXELS = 1000  # at most so many rows and columns of a matrix are shown


def style() -> dict[str, Any]:
    """The matplotlib settings of all pictures."""
    from cycler import cycler

    return {
        "axes.axisbelow": True,
        "axes.formatter.use_mathtext": True,
        "axes.grid": True,
        "axes.labelsize": 10,
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.facecolor": "white",
        "figure.titlesize": 12,
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "grid.alpha": 0.3,
        "grid.linewidth": 0.6,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "mathtext.fontset": "dejavusans",
        "savefig.dpi": 160,
    }


# ---- lines


def lines(axes: Any, t: Any, columns: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """Draw one line per column, with a legend where there are several, on a linear or (``log=True``) logarithmic axis.

    A lone point is drawn as a marker. Values that are not finite, and those <= 0 on a logarithmic axis, leave
    gaps; where nothing is left the axes say so. A logarithmic axis shows ``decades`` (16) below the largest
    value, no more.
    """
    log, decades = options.pop("log", False), options.pop("decades", 16)
    t = np.asarray(t, dtype=float)
    tables = [np.asarray(column, dtype=float) for column in columns]
    tables = [np.where(np.isfinite(y) & ((y > 0) | (not log)), y, np.nan) for y in tables]
    if not any(np.isfinite(y).any() for y in tables):
        message(axes, "no values above zero" if log else "no known values")
        return
    colors = shades(len(tables)) if len(tables) > len(COLORS) else COLORS
    for i, (y, name) in enumerate(zip(tables, names, strict=True)):
        look = {"color": colors[i], "ls": _DASHES[i % len(_DASHES)], "label": name, **options}
        if not _adjacent(np.isfinite(y)):
            look["marker"] = "o"
        axes.plot(t, y, **look)
    if log:
        axes.set_yscale("log")
        limit_decades(axes, np.nanmax([np.nanmax(y, initial=0.0) for y in tables]), decades)
    if len(tables) > 1:
        axes.legend(ncols=1 + len(tables) // 9)


def limit_decades(axes: Any, top: float, decades: float) -> None:
    """Let a logarithmic axis show no more than the decades below its largest value."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, top * 10.0**-decades), high)


def shades(count: int) -> Any:
    """Colours of a scale, dark to light, for many lines in an order."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.9, count))


def color(i: int, count: int) -> Any:
    """The colour of line i of so many: of the few, or of a scale."""
    return COLORS[i] if count <= len(COLORS) else shades(count)[i]


def dash(i: int) -> str:
    """The dashes of line i."""
    return _DASHES[i % len(_DASHES)]


def epochs(axes: Any, epoch: Any, y: Any, label: str | None, **look: Any) -> None:
    """Draw one value per epoch, with markers where there are few."""
    y = np.asarray(y, dtype=float)
    axes.plot(
        epoch, np.where(np.isfinite(y), y, np.nan), label=label, marker="o" if len(y) <= 20 else None, **look
    )


def scale_bar(axes: Any, count: int, label: str) -> None:
    """Explain the colours of ``count`` lines, numbered from 1, by a bar at the right of the axes."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    colors = ScalarMappable(
        BoundaryNorm(np.arange(0.5, count + 1), count), ListedColormap([tuple(c) for c in shades(count)])
    )
    inner = axes.get_subplotspec().subgridspec(1, 2, width_ratios=(16, 1), wspace=0.02)
    axes.set_subplotspec(inner[0])
    bar = axes.figure.colorbar(colors, cax=axes.figure.add_subplot(inner[1]), label=label)
    bar.minorticks_off()
    bar.locator = integers()
    bar.update_ticks()


def engineering() -> Any:
    """Tick labels 200k, 1.2M."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def integers() -> Any:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def time_axis(axes: Any, t: Any) -> None:
    """Label the time axis; logarithmic where most of the times lie in the first twentieth of the run."""
    t = np.asarray(t, dtype=float)
    axes.set_xlabel("t")
    if len(t) >= 10 and t[0] >= 0 and np.median(t) - t[0] < 0.05 * (t[-1] - t[0]):
        axes.set_xscale("log", nonpositive="mask")


def _adjacent(known: np.ndarray) -> bool:
    """Tell whether some two neighbours are known, so that a line is visible."""
    return bool((known[1:] & known[:-1]).any())


def message(axes: Any, text: str) -> None:
    """Say in empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.4", wrap=True)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def quantity(axes: Any, t: Any, values: Any, name: str) -> None:
    """Draw one observable over time, as it is best seen.

    Nearly conserved: the change relative to the start. Positive and over two decades or more: a logarithmic
    axis. Else as it is.
    """
    values = np.asarray(values, dtype=float)
    finite = values[np.isfinite(values)]
    label = name.replace("_", " ")
    spread, scale = (np.ptp(finite), np.abs(finite).max()) if len(finite) else (0.0, 0.0)
    if spread < 1e-3 * scale and len(values) > 1 and np.isfinite(values[0]) and values[0] != 0:
        lines(axes, t, [(values - values[0]) / abs(values[0])], [name])
        axes.set_ylabel(f"relative change of {label}")
        if spread == 0:
            axes.set_ylim(-1e-15, 1e-15)
    else:
        positive = len(finite) > 1 and finite.min() > 0 and finite.max() > 100 * finite.min()
        lines(axes, t, [values], [name], log=positive)
        axes.set_ylabel(label)
    if axes.get_yscale() == "linear" and axes.lines:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4))
    time_axis(axes, t)


# ---- a matrix as an image


def image(figure: Any, axes: Any, member: Any, name: str, t: float, problem: Any = None) -> None:
    """Draw a matrix: over the coordinates of the problem where there are some, else as rows and columns.

    Complex entries by their modulus; entries of both signs in colours symmetric about zero. Of more than 1000
    rows or columns some are left out, on the factors.
    """
    m, n = member.shape if member.ndim == 2 else (member.shape[0], 1)
    rows, columns = thinned(m, _PIXELS), thinned(n, _PIXELS)
    A = entries(member, rows, columns)
    if np.iscomplexobj(A):
        A, name = np.abs(A), f"|{name}|"
    axes.set_title(f"{name} at t = {t:.6g}")
    A = A.astype(float)
    top = float(np.abs(A).max()) or 1.0
    if A.min() < -_UNDERSHOOT * top:
        colors = {"cmap": "RdBu_r", "vmin": -top, "vmax": top}
    else:
        colors = {"cmap": "viridis", "vmin": A.min() if A.min() > 0.5 * top else min(0.0, A.min())}
    if problem is not None and not _numbered(problem):
        x, y = np.asarray(problem.x)[rows], np.asarray(problem.y)[columns]
        extent = (*_edges(x), *_edges(y))
        shown = axes.imshow(
            A.T, origin="lower", extent=extent, aspect="auto", interpolation="nearest", **colors
        )
        axes.set(xlabel=problem.labels[0], ylabel=problem.labels[1])
    else:
        extent = (0.5, n + 0.5, m + 0.5, 0.5)
        shown = axes.imshow(A, extent=extent, aspect="auto", interpolation="nearest", **colors)
        labels = ("row", "column") if problem is None else problem.labels
        axes.set(xlabel=labels[1], ylabel=labels[0])
        axes.xaxis.set_major_locator(integers())
        axes.yaxis.set_major_locator(integers())
    axes.grid(False)
    axes.spines[:].set_visible(True)
    inner = axes.get_subplotspec().subgridspec(1, 2, width_ratios=(16, 1), wspace=0.02)
    axes.set_subplotspec(
        inner[0]
    )  # the bar takes its room from the image, not from the whole column of panels
    figure.colorbar(shown, cax=figure.add_subplot(inner[1]))


def entries(member: Any, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some entries of a LowRank or an array, as a host array."""
    if isinstance(member, LowRank):
        U, S, V = (to_host(factor) for factor in member.factors)
        return U[rows] @ S @ V[columns].conj().T
    A = to_host(member)
    return A.reshape(A.shape[0], -1)[np.ix_(rows, columns)]


def _numbered(problem: Any) -> bool:
    """Tell whether the coordinates only count rows and columns."""
    return all(np.array_equal(c, np.arange(1, len(c) + 1)) for c in (problem.x, problem.y))


def _edges(x: np.ndarray) -> tuple[float, float]:
    """The outer edges of cells around equidistant points."""
    half = 0.5 * (x[-1] - x[0]) / (len(x) - 1) if len(x) > 1 else 0.5
    return float(x[0] - half), float(x[-1] + half)


def thinned(count: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` of ``count`` states, the first and the last among them."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.arange(0)
    )
