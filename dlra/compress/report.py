"""What a truncation did to a network, layer by layer: to read, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from dataclasses import dataclass
from typing import Any

from dlra._plain import plain

__all__ = ["LayerReport", "Report"]

WIDTH = 100
"""Columns of the table."""


@dataclass(frozen=True)
class LayerReport:
    """What was done to the weight of one layer.

    Attributes
    ----------
    index : int
        In ``net.weights``.
    layer : str
        The layer before, as Python writes it.
    kind : {"linear", "convolution"}
    shape : (m, n)
        Of the weight; F x CJK of a convolution.
    rank_before, rank_after : int
        In the network given and in the one returned; min(m, n) of a dense weight.
    parameters_before, parameters_after : int
        As evaluated: mn of a dense weight, r (m + n) of a low-rank one.
    flops_before, flops_after : int or None
        Of one sample, 2 for each multiply-add; None where the size of the images is not known.
    error : float
        ‖W - W_r‖_F/‖W‖_F of the truncation, before any training; 0 where nothing was dropped.
    ratio : float
        The largest singular value dropped over the largest one.
    truncated : bool
        Whether singular values were dropped.
    note : str
        Why the weight was left alone, or that it takes more parameters than before; otherwise empty.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import lsvt
    >>> row = lsvt(nn.mlp((64, 200, 10), rng=0), rank=5).report.layers[0]
    >>> row.layer, row.rank_before, row.rank_after
    ('Linear(64, 200)', 64, 5)
    """

    index: int
    layer: str
    kind: str
    shape: tuple[int, int]
    rank_before: int
    rank_after: int
    parameters_before: int
    parameters_after: int
    flops_before: int | None
    flops_after: int | None
    error: float
    ratio: float
    truncated: bool
    note: str


@dataclass(frozen=True)
class Report:
    """What a truncation did to a network. ``print(report)`` shows a table of at most 100 columns.

    Attributes
    ----------
    method : {"lsvt", "gsvt", "isvt"}
    options : dict
        What was asked for, as numbers, strings, lists and dicts.
    layers : tuple of LayerReport
        One for each of ``net.weights``.
    loss_before, loss_truncated, loss_tuned : float or None
        On the data given, of the network given, truncated, and trained afterwards; None where it was not asked for.
    accuracy_before, accuracy_truncated, accuracy_tuned : float or None
        The share of rows classified right; R² for targets that are numbers.
    classifies : bool or None
        Which of the two.
    seconds : float
        Of decompositions and choice of ranks.
    seconds_tuning : float or None
        Of the training afterwards.
    tuning_status : int or None
        Of its :class:`~dlra.nn.History`: 0 all epochs done, 1 stopped by its callback, early stopping or Ctrl-C.
    tuning_message : str
        Of its History; empty where there was none.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import nn
    >>> from dlra.compress import lsvt
    >>> W = np.diag([8.0, 4.0, 1.0])
    >>> net = nn.Sequential(nn.Linear(3, 3, dtype="float64", rng=0)).with_weights({0: W})
    >>> print(lsvt(net, rank=1).report)  # doctest: +ELLIPSIS
    lsvt(rank=1): 1 of 1 weights truncated in ... s
         layer          rank  parameters    FLOPs  error  ratio
      0  Linear(3, 3)  3 → 1       9 → 6  18 → 12  0.458    0.5
      parameters  9 → 6, 33.3 % fewer
      FLOPs       18 → 12, 33.3 % fewer
    """

    method: str
    options: dict[str, Any]
    layers: tuple[LayerReport, ...]
    loss_before: float | None
    loss_truncated: float | None
    loss_tuned: float | None
    accuracy_before: float | None
    accuracy_truncated: float | None
    accuracy_tuned: float | None
    classifies: bool | None
    seconds: float
    seconds_tuning: float | None
    tuning_status: int | None = None
    tuning_message: str = ""

    @property
    def ranks_before(self) -> tuple[int, ...]:
        """Of all weights of the network given."""
        return tuple(layer.rank_before for layer in self.layers)

    @property
    def ranks_after(self) -> tuple[int, ...]:
        """Of all weights of the network returned."""
        return tuple(layer.rank_after for layer in self.layers)

    @property
    def loss_after(self) -> float | None:
        """Of the network returned, on the data given."""
        return self.loss_truncated if self.loss_tuned is None else self.loss_tuned

    @property
    def accuracy_after(self) -> float | None:
        """Of the network returned, on the data given."""
        return self.accuracy_truncated if self.accuracy_tuned is None else self.accuracy_tuned

    @property
    def parameters_before(self) -> int:
        """Of all weights, as ``net.parameter_count()``."""
        return sum(layer.parameters_before for layer in self.layers)

    @property
    def parameters_after(self) -> int:
        """Of all weights, as ``net.parameter_count()``."""
        return sum(layer.parameters_after for layer in self.layers)

    @property
    def parameters_drop(self) -> float:
        """In percent of those before; negative where there are more."""
        return _drop(self.parameters_before, self.parameters_after)

    @property
    def flops_before(self) -> int | None:
        """Of one sample, as ``net.flops(shape)``; None where the size of the images is not known."""
        return _total([layer.flops_before for layer in self.layers])

    @property
    def flops_after(self) -> int | None:
        """Of one sample, as ``net.flops(shape)``; None where the size of the images is not known."""
        return _total([layer.flops_after for layer in self.layers])

    @property
    def flops_drop(self) -> float | None:
        """In percent of those before; negative where there are more."""
        before, after = self.flops_before, self.flops_after
        return None if before is None or after is None else _drop(before, after)

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes, those of the layers included, as numbers, strings, lists and dicts."""
        found = dataclasses.asdict(self)
        for name in ("parameters", "flops"):
            for part in ("before", "after", "drop"):
                found[f"{name}_{part}"] = getattr(self, f"{name}_{part}")
        for name in ("ranks_before", "ranks_after", "loss_after", "accuracy_after"):
            found[name] = getattr(self, name)
        return plain(found)

    def to_json(self, path: Any) -> None:
        """Write :meth:`to_dict` to a file; numbers that are not finite become null."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def __str__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self.options.items() if name != "fine_tune"]
        options = ", ".join(given)
        count = sum(layer.truncated for layer in self.layers)
        lines = _wrapped(
            f"{self.method}({options}): {count} of {len(self.layers)} weights truncated in {self.seconds:.2g} s"
        )
        lines += _table(self.layers)
        for layer in self.layers:
            if layer.note:
                lines += _wrapped(f"{layer.index}: {layer.note}", "  ")
        lines += [f"  parameters  {_change(self.parameters_before, self.parameters_after)}"]
        before, after = self.flops_before, self.flops_after
        if before is None or after is None:
            lines += ["  FLOPs       not known without input_shape=(channels, height, width)"]
        else:
            lines += [f"  FLOPs       {_change(before, after)}"]
        if self.loss_before is not None:
            losses = (self.loss_before, self.loss_truncated, self.loss_tuned)
            scores = (self.accuracy_before, self.accuracy_truncated, self.accuracy_tuned)
            known = [f"{loss:.4g}" for loss in losses if loss is not None]
            form = ".2%" if self.classifies else ".4f"
            shown = [f"{score:{form}}" for score in scores if score is not None]
            stages = "before → truncated" + (" → tuned" if len(known) == 3 else "")
            lines += [f"  loss        {' → '.join(known)} ({stages})"]
            lines += [f"  {'accuracy' if self.classifies else 'R²':<12}{' → '.join(shown)}"]
        if self.seconds_tuning is not None:
            message = f": {self.tuning_message}" if self.tuning_message else ""
            lines += _wrapped(f"tuning      {self.seconds_tuning:.2g} s{message}", "  ")
        return "\n".join(lines)


def _table(layers: tuple[LayerReport, ...]) -> list[str]:
    rows = [("", "layer", "rank", "parameters", "FLOPs", "error", "ratio")]
    for layer in layers:
        known = layer.flops_before is not None and layer.flops_after is not None
        rows.append(
            (
                str(layer.index),
                layer.layer,
                _arrow(layer.rank_before, layer.rank_after),
                _arrow(layer.parameters_before, layer.parameters_after),
                _arrow(layer.flops_before, layer.flops_after) if known else "?",
                f"{layer.error:.3g}" if layer.truncated else "",
                f"{layer.ratio:.3g}" if layer.truncated else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    others = sum(widths) - widths[1] + 2 * len(widths)
    widths[1] = min(widths[1], WIDTH - others)
    lines = []
    for row in rows:
        name = row[1] if len(row[1]) <= widths[1] else row[1][: widths[1] - 1] + "…"
        cells = [row[0].rjust(widths[0]), name.ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _arrow(before: int | None, after: int | None) -> str:
    return _short(before) if before == after else f"{_short(before)} → {_short(after)}"


def _short(count: int | None) -> str:
    """A count in at most seven characters."""
    if count is None or count < 10_000_000:
        return str(count)
    power = min((len(str(count)) - 1) // 3, 5)
    return f"{count / 1000**power:.4g}{' kMGTP'[power]}"


def _change(before: int, after: int) -> str:
    drop = _drop(before, after)
    if after == before:
        return f"{before}, as before"
    return f"{before} → {after}, {abs(drop):.1f} % {'fewer' if after < before else 'MORE than before'}"


def _drop(before: int, after: int) -> float:
    return 100.0 * (before - after) / before


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "   ")
