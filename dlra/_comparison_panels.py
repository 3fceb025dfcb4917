"""The panels of the pictures of comparisons: accuracy against parameters and retained singular values, their decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlra import _axes as draw

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_TICKS = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)
_FLOOR = 0.02  # of an error in percent, which may be 0


def look(i: int) -> dict[str, Any]:
    """Colour, marker and dashes of line i: where colours come again, markers and dashes do not."""
    return {
        "color": draw.COLORS[i % len(draw.COLORS)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "ls": draw.dash(i + i // len(draw.COLORS)),
        "ms": 5,
    }


def accuracies(axes: Any, comparison: Any, tuned: bool) -> None:
    """Draw the accuracy of all methods over the parameters: truncated, or fine-tuned; full networks as open markers."""
    methods, rows = comparison.methods, comparison.rows()
    dense = comparison.settings["parameters"]
    for i, method in enumerate(methods):
        style = look(i)
        shown = []
        for row in rows:
            if row.method == method:
                pair = row.accuracy_tuned if tuned else row.accuracy
                if pair is not None:
                    shown.append((row.parameters, *pair))
        shown.sort()
        if shown:
            x, mean, spread = (np.asarray(column) for column in zip(*shown, strict=True))
            error = np.maximum(100 * (1 - mean), _FLOOR)
            bars = np.stack([np.minimum(100 * spread, 0.9 * error), 100 * spread])
            axes.errorbar(
                x, error, bars if bars.any() else None, label=method, capsize=2.5, elinewidth=1.0, **style
            )
        full = [t.accuracy for t in comparison.trainings if t.method == method and method != "dlrt"]
        if full:
            error = max(100 * (1 - float(np.mean(full))), _FLOOR)
            axes.plot(
                dense, error, color=style["color"], marker=style["marker"], ls="", ms=6, mfc="none",
                label=None if shown else method,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("parameters of the weights")
    _parameter_ticks(axes, dense)


def accuracy_axis(axes: Sequence[Any]) -> None:
    """Let the axes, which show errors in percent, share a logarithmic scale that reads as accuracy."""
    values = [v for ax in axes for line in ax.lines for v in np.ravel(line.get_ydata()) if np.isfinite(v)]
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    low, high = max(low / 1.15, 0.7 * _FLOOR), min(high * 1.15, 110.0)
    ticks = [t for t in _ticks(100 - high, 100 - low)]
    for ax in axes:
        ax.set_yscale("log")
        ax.set_ylim(high, low)
        ax.set_yticks([100 - t for t in ticks], [f"{t:g}" for t in ticks])
        ax.set_yticks([], minor=True)


def _ticks(low: float, high: float) -> list[float]:
    """Round accuracies between two, spread over the errors that they leave."""
    found = [t for t in _TICKS if low <= t <= high]
    if len(found) >= 4:
        return found
    errors = (
        0.1,
        0.2,
        0.3,
        0.5,
        0.7,
        1,
        1.5,
        2,
        2.5,
        3,
        4,
        5,
        6,
        7,
        8,
        10,
        15,
        20,
        30,
        40,
        50,
        60,
        70,
        80,
        90,
    )
    fine = [100 - e for e in reversed(errors) if low <= 100 - e <= high]
    return fine[:: -(-len(fine) // 8)] if fine else found


def _parameter_ticks(axes: Any, dense: int) -> None:
    """Round numbers, and shares of the dense network on top."""
    low, high = axes.get_xlim()
    marks = [m * 10.0**e for e in range(1, 12) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(marks, [draw.engineering()(m) for m in marks])
    axes.set_xticks([], minor=True)
    top = axes.secondary_xaxis(
        "top", functions=(lambda p: 100 * np.asarray(p) / dense, lambda s: np.asarray(s) * dense / 100)
    )
    shares = [s for s in (1, 2, 5, 10, 20, 50, 100) if low <= s * dense / 100 <= high]
    top.set_xticks(shares, [f"{s} %" for s in shares])
    top.set_xticks([], minor=True)
    top.spines[:].set_visible(False)
    top.tick_params(length=0, labelcolor="0.4", labelsize=8.5)


def drops(
    axes: Any, curves: dict[str, tuple[Any, Any, Any]], places: Sequence[int], rule: str | None = None
) -> None:
    """Draw the loss of accuracy in points over the share of singular values that a rule keeps, in percent; ``places``
    say which colour each curve has."""
    for i, (name, (shares, drop, spread)) in zip(places, curves.items(), strict=True):
        bars = spread if np.any(spread) else None
        axes.errorbar(shares, drop, bars, label=name, capsize=2.5, elinewidth=1.0, **look(i))
    top = max(float(np.max(drop)) for _, drop, _ in curves.values())
    low = min(float(np.min(drop)) for _, drop, _ in curves.values())
    axes.set_yscale("symlog", linthresh=1.0, linscale=1.0)
    ticks = [t for t in (-10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100) if low - 0.3 <= t <= 1.05 * top + 0.3]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylim(max(top * 1.2, 1.2), min(low * 1.2, -0.3))
    axes.axhline(0, color="0.5", lw=0.8, zorder=0)
    axes.set_xscale("log")
    known = sorted({float(s) for shares, _, _ in curves.values() for s in shares})
    marks = [m for m in (1, 2, 5, 10, 20, 50, 100) if known[0] <= m <= known[-1]]
    axes.set_xticks(marks, [f"{m:g}" for m in marks])
    axes.set_xticks([], minor=True)
    by = "" if rule is None else f" by {rule}"
    axes.set(xlabel=f"singular values kept{by}, in %", ylabel="drop of accuracy, in points")
    axes.legend(ncols=1 + len(curves) // 7)


def decay(axes: Any, spectra: Sequence[Any], names: Sequence[str], weight: int) -> None:
    """Draw the singular values of one weight of several networks, divided by the largest."""
    for i, (values, name) in enumerate(zip(spectra, names, strict=True)):
        if values is None:
            continue
        s = np.asarray(values, dtype=float)
        y = np.where(s > 0, s / s[0] if s[0] > 0 else s, np.nan)
        style = look(i) | {"ms": 4, "markevery": max(1, len(s) // 8)}
        axes.plot(np.arange(1, len(s) + 1), y, label=name, lw=1.3, **style)
    axes.set_yscale("log")
    draw.limit_decades(axes, 1.0, 8)
    axes.set_ylim(min(axes.get_ylim()[0], 0.09), 1.4)
    axes.minorticks_off()
    axes.set(title=f"weight {weight + 1}", xlabel="j")
    axes.xaxis.set_major_locator(draw.integers())
