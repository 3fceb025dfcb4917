"""What a comparison of ways to a small network has found."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dlra._plain import plain
from dlra.nn._layer import factored_count

__all__ = ["Comparison", "Failure", "Point", "Row", "Training"]


class Training(NamedTuple):
    """A network as it was trained, before any truncation.

    Attributes
    ----------
    method : str
    seed : int
    tau : float or None
        Tolerance of low-rank training.
    seconds : float
        Of training, without looking at test data.
    loss, accuracy : float
        On the test data; weights that were trained as products are multiplied out.
    parameters : int
        As evaluated.
    ranks : tuple of int
        As trained; where factors of such a rank are no smaller than the weight, it counts dense.
    training_loss : tuple of float
        After each epoch.
    singular_values : tuple of tuples of float
        Of each weight, descending.
    retained : tuple of (float, float)
        Shares of the singular values, and the accuracy with only these kept, without further training; by the rule of
        the comparison, but by gsvt where that is isvt, which knows no share of singular values.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import compare
    >>> data, net = nn.datasets.digits(), nn.mlp((64, 32, 10), rng=0)
    >>> found = compare(data, net, ["svd"], epochs=1, batch_size=64, targets=[0.5])
    >>> found.trainings[0].parameters, found.trainings[0].ranks
    (2368, (32, 10))
    """

    method: str
    seed: int
    tau: float | None
    seconds: float
    loss: float
    accuracy: float
    parameters: int
    ranks: tuple[int, ...]
    training_loss: tuple[float, ...]
    singular_values: tuple[tuple[float, ...], ...]
    retained: tuple[tuple[float, float], ...]


class Point(NamedTuple):
    """A small network.

    Attributes
    ----------
    method : str
    seed : int
    target : float
        The share of the parameters that was asked for; tau of low-rank training.
    parameters : int
        As evaluated.
    flops : int
        Of one sample, 2 for each multiply-add.
    ranks : tuple of int
        See :class:`Training`.
    accuracy_full : float
        Before truncation; of low-rank training, which has none, that of its result.
    accuracy : float
        After truncation.
    accuracy_tuned : float or None
        After fine-tuning; None where there was none.
    seconds : float
        Of truncation and fine-tuning.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import compare
    >>> data, net = nn.datasets.digits(), nn.mlp((64, 32, 10), rng=0)
    >>> found = compare(data, net, ["svd"], epochs=1, batch_size=64, targets=[0.5])
    >>> found.points[0].setting, found.points[0].parameters <= 0.5 * 2368
    ('50 %', True)
    """

    method: str
    seed: int
    target: float
    parameters: int
    flops: int
    ranks: tuple[int, ...]
    accuracy_full: float
    accuracy: float
    accuracy_tuned: float | None
    seconds: float

    @property
    def setting(self) -> str:
        """What tells it from the other points of its method."""
        return f"tau {self.target:g}" if self.method == "dlrt" else f"{100 * self.target:.4g} %"


class Failure(NamedTuple):
    """What a method could not do.

    Attributes
    ----------
    method : str
        "net" where it is the start that a seed does not have.
    seed : int
    stage : str
        "start", "training", or the point that is missing.
    message : str

    Examples
    --------
    >>> from dlra.compress import Failure
    >>> Failure("svd", 0, "training", "TrainingError: training failed in epoch 1, batch 3").stage
    'training'
    """

    method: str
    seed: int
    stage: str
    message: str


class Row(NamedTuple):
    """A setting of a method, over all seeds; pairs are mean and standard deviation, the latter 0 for one seed.

    Attributes
    ----------
    method, setting : str
    target : float
    seeds : int
        How many.
    parameters, flops : float
        Means.
    ranks : tuple of int
        Of the first seed.
    accuracy_full, accuracy : (float, float)
    accuracy_tuned : (float, float) or None
    training_seconds, seconds : float
        Means: of training, and of truncation and fine-tuning.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import compare
    >>> data, net = nn.datasets.digits(), nn.mlp((64, 32, 10), rng=0)
    >>> found = compare(data, net, ["svd"], epochs=1, batch_size=64, targets=[0.5])
    >>> row = found.rows()[0]
    >>> row.method, row.seeds, row.accuracy_tuned[1]
    ('svd', 1, 0.0)
    """

    method: str
    setting: str
    target: float
    seeds: int
    parameters: float
    flops: float
    ranks: tuple[int, ...]
    accuracy_full: tuple[float, float]
    accuracy: tuple[float, float]
    accuracy_tuned: tuple[float, float] | None
    training_seconds: float
    seconds: float


@dataclass
class Comparison:
    """What :func:`compare` has found.

    Attributes
    ----------
    settings : dict
        What was asked for, and the parameters and FLOPs of the dense network.
    trainings : list of Training
    points : list of Point
    failures : list of Failure
    warnings : list of str
        What the trainings warned of, each with its method.
    message : str
        Why it ended before its end; empty where it did not.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import compare
    >>> data, net = nn.datasets.digits(), nn.mlp((64, 32, 10), rng=0)
    >>> found = compare(data, net, ["svd"], epochs=1, batch_size=64, targets=[0.5])
    >>> found
    Comparison(svd: 1 trainings, 1 points)
    >>> print(found)  # doctest: +ELLIPSIS
    method  setting  parameters  share ...
    """

    settings: dict[str, Any]
    trainings: list[Training] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    message: str = ""

    @property
    def methods(self) -> list[str]:
        """Those of which there is something to show, in the order in which they were asked for."""
        known = {one.method for one in (*self.trainings, *self.points)}
        return [name for name in self.settings["methods"] if name in known]

    def rows(self) -> list[Row]:
        """The points, averaged over the seeds."""
        groups: dict[tuple[str, float], list[Point]] = {}
        for point in self.points:
            groups.setdefault((point.method, point.target), []).append(point)
        order = {name: i for i, name in enumerate(self.settings["methods"])}
        return [self._row(groups[key]) for key in sorted(groups, key=lambda k: (order[k[0]], k[1]))]

    def _row(self, group: list[Point]) -> Row:
        first = group[0]
        tuned = [p.accuracy_tuned for p in group if p.accuracy_tuned is not None]
        times = [
            t.seconds
            for t in self.trainings
            for p in group
            if (t.method, t.seed) == (p.method, p.seed) and t.tau in (None, p.target)
        ]
        return Row(
            first.method, first.setting, first.target, len(group),
            statistics.fmean(p.parameters for p in group), statistics.fmean(p.flops for p in group), first.ranks,
            _spread([p.accuracy_full for p in group]), _spread([p.accuracy for p in group]),
            _spread(tuned) if tuned else None, statistics.fmean(times) if times else math.nan,
            statistics.fmean(p.seconds for p in group),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """All of it as numbers, strings, lists and dicts, numbers that are not finite as None."""
        return plain(
            {
                "settings": self.settings,
                "trainings": [one._asdict() for one in self.trainings],
                "points": [one._asdict() for one in self.points],
                "failures": [one._asdict() for one in self.failures],
                "warnings": self.warnings,
                "message": self.message,
            }
        )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Comparison:
        """The inverse of :meth:`to_dict`."""
        return cls(
            dict(table["settings"]),
            [Training(**{k: _revived(v) for k, v in one.items()}) for one in table["trainings"]],
            [Point(**{k: _revived(v) for k, v in one.items()}) for one in table["points"]],
            [Failure(**one) for one in table["failures"]],
            list(table["warnings"]),
            table["message"],
        )

    def to_json(self, path: Any) -> None:
        """Write :meth:`to_dict` to a file."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    @classmethod
    def from_json(cls, path: Any) -> Comparison:
        """Read what :meth:`to_json` has written."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def table(self) -> str:
        """The rows as a text: accuracies in percent, of seconds those of training + those after it."""
        rows = [
            ("method", "setting", "parameters", "share", "full", "truncated", "tuned", "seconds", "ranks")
        ]
        dense = self.settings["parameters"]
        for row in self.rows():
            rows.append(
                (
                    row.method, row.setting, f"{row.parameters:.0f}", f"{row.parameters / dense:.1%}",
                    percent(row.accuracy_full), percent(row.accuracy), percent(row.accuracy_tuned),
                    f"{row.training_seconds:.3g} + {row.seconds:.2g}", " ".join(map(str, row.ranks)),
                )
            )  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True)]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
        lines += [
            *self.notes(),
            *(f"{f.method}, seed {f.seed}, {f.stage}: {f.message}" for f in self.failures),
        ]
        return "\n".join([*lines, self.message] if self.message else lines)

    def notes(self) -> list[str]:
        """What is to be known about the rows: targets that were left out, weights that count dense."""
        shapes = self.settings.get("shapes", ())
        dense = {
            point.method
            for point in self.points
            for r, (m, n) in zip(point.ranks, shapes, strict=False)
            if r < min(m, n) and factored_count((m, n), r) >= m * n
        }
        notes = [self.settings["left_out"]] if self.settings.get("left_out") else []
        if dense:
            names = ", ".join(name for name in self.settings["methods"] if name in dense)
            notes.append(
                f"{names}: weights whose factors would be no smaller count dense, whatever their rank."
            )
        return notes

    def plot(self) -> Any:
        """Return a matplotlib figure: accuracy against parameters, of all methods."""
        from dlra import plot

        return plot.accuracy_against_parameters(self)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failures" if self.failures else ""
        return (
            f"Comparison({', '.join(self.methods) or 'nothing done'}: {len(self.trainings)} trainings, "
            f"{len(self.points)} points{failed})"
        )


# ---- numbers


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def percent(pair: tuple[float, float] | None, none: str = "") -> str:
    """Mean and standard deviation in percent, the latter where there is one."""
    if pair is None:
        return none
    return f"{100 * pair[0]:.2f}" + (f" ± {100 * pair[1]:.2f}" if pair[1] else "")


def _revived(value: Any) -> Any:
    return tuple(_revived(v) for v in value) if isinstance(value, list) else value
