"""The progress bars of train and compare."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from dlra._progress import opened


class _Progress:
    """A bar on standard error while the context lasts."""

    _bar: Any

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class Bar(_Progress):
    """A bar with loss, accuracy, ranks and compression."""

    def __init__(self, epochs: int):
        self._bar = opened("epoch {task.fields[epoch]}", "{task.fields[text]}")
        self._epochs = epochs
        self._task = self._bar.add_task("", total=None, epoch=f"1/{epochs}", text="")

    def show(self, epoch: int, sums: Any, steps: int | None, net: Any) -> None:
        """Show the state after a batch."""
        accuracy = f"  accuracy {sums.right / sums.rows:.4f}" if sums.right else ""
        ranks = " ".join(map(str, net.ranks))
        self._bar.update(
            self._task,
            total=None if steps is None else self._epochs * steps,
            completed=0 if steps is None else epoch * steps + sums.batches,
            epoch=f"{epoch + 1}/{self._epochs}",
            text=f"loss {sums.loss / sums.rows:.4f}{accuracy}  ranks {ranks}  compression {net.compression():.1%}",
        )


class Stages(_Progress):
    """A bar over the epochs of several trainings, with what is being done."""

    def __init__(self, work: int):
        self._bar = opened("{task.fields[text]}")
        self._task = self._bar.add_task("", total=work, text="")

    def show(self, text: str) -> None:
        """Say what has begun."""
        self._bar.update(self._task, text=text)

    def epoch(self, text: str, epoch: Any, epochs: int) -> None:
        """Count an epoch of a training."""
        told = f"{text}: epoch {epoch.epoch}/{epochs}, loss {epoch.loss:.4f}"
        self._bar.update(self._task, advance=1, text=told)

    def advance(self, epochs: int) -> None:
        """Count epochs that are left out."""
        self._bar.update(self._task, advance=epochs)
