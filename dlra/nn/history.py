"""What a training returns: one row per epoch, and the network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from dlra._plain import plain

if TYPE_CHECKING:
    from dlra.nn.network import Sequential

__all__ = ["Epoch", "History"]


class Epoch(NamedTuple):
    """One epoch of a training, as the callback receives it.

    Attributes
    ----------
    epoch : int
        From 1.
    loss, accuracy : float
        Means over the batches of the epoch, each before the step on it; accuracy is NaN where the targets are no
        labels.
    validation_loss, validation_accuracy : float
        After the epoch; NaN without validation data. For targets that are numbers the accuracy is R².
    ranks : tuple of int
        Of all weights, after the epoch.
    parameters : int
        Evaluation count of the weights, after the epoch.
    learning_rate : float
        Of the last step.
    seconds : float
        Of training, without the validation.
    net : Sequential
        The network that is trained.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    ranks: tuple[int, ...]
    parameters: int
    learning_rate: float
    seconds: float
    net: Any = None


@dataclass
class History:
    """The course of a training; each list has one entry per epoch, with the meaning it has in :class:`Epoch`.

    Attributes
    ----------
    epoch, loss, accuracy, validation_loss, validation_accuracy, ranks, parameters, learning_rate, seconds : list
    net : Sequential
        The network that was trained.
    steps : int
        Number of steps.
    nfev : int
        Number of gradient evaluations (one forward and one backward pass each).
    status : int
        0 all epochs done, 1 stopped by the callback, early stopping or Ctrl-C, -1 failed.
    message : str
    classifies : bool
        Whether the targets are labels; if not, what is called accuracy is R².
    kept_epoch : int or None
        The epoch whose weights the network has, where early stopping has brought back earlier ones than the last.
    best_epoch : int or None
        The epoch with the lowest validation loss, where there is validation data.
    """

    net: Sequential
    epoch: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    ranks: list[tuple[int, ...]] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    nfev: int = 0
    status: int = 0
    message: str = ""
    classifies: bool = True
    kept_epoch: int | None = None

    def append(self, row: Epoch) -> None:
        """Add an epoch."""
        for name in _COLUMNS:
            getattr(self, name).append(getattr(row, name))

    @property
    def success(self) -> bool:
        """Whether the training did not fail."""
        return self.status >= 0

    @property
    def best_epoch(self) -> int | None:
        known = [(v, e) for v, e in zip(self.validation_loss, self.epoch, strict=True) if not math.isnan(v)]
        return min(known)[1] if known else None

    def __len__(self) -> int:
        return len(self.epoch)

    def __iter__(self) -> Iterator[Epoch]:
        for row in zip(*(getattr(self, name) for name in _COLUMNS), strict=True):
            yield Epoch(*row, net=None)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain lists, those that are not finite as None."""
        table = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "net"}
        return {name: plain(value) for name, value in table.items()}

    @classmethod
    def from_dict(cls, net: Any, table: dict[str, Any]) -> History:
        """The inverse of :meth:`to_dict`."""
        history = cls(net)
        for f in fields(cls):
            if f.name != "net":
                value = table[f.name]
                setattr(history, f.name, _revived(f.name, value) if isinstance(value, list) else value)
        return history

    def to_json(self, path: Any) -> None:
        """Write :meth:`to_dict` to a file."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def plot(self) -> Any:
        """Return a matplotlib figure: loss, accuracy, ranks and compression over the epochs."""
        from dlra import plot

        return plot.training(self)

    def __repr__(self) -> str:
        if not self.epoch:
            return f"History(no epochs, {self.message!r})"
        at = -1 if self.kept_epoch is None else self.epoch.index(self.kept_epoch)
        accuracy, name = self.validation_accuracy[at], "validation "
        if math.isnan(accuracy):
            accuracy, name = self.accuracy[at], ""
        shown = (
            ""
            if math.isnan(accuracy)
            else f", {name}{'accuracy' if self.classifies else 'R²'} {accuracy:.4f}"
        )
        kept = "" if self.kept_epoch is None else f", weights of epoch {self.kept_epoch}"
        return (
            f"History({len(self)} epochs{kept}, loss {self.loss[at]:.4g}{shown}, ranks {self.ranks[at]}, "
            f"{self.parameters[at]} parameters)"
        )


_COLUMNS = [name for name in Epoch._fields if name != "net"]


def _revived(name: str, column: list[Any]) -> list[Any]:
    if name == "ranks":
        return [tuple(row) for row in column]
    return [math.nan if value is None else value for value in column]
