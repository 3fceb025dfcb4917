"""The progress bar of train."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class Bar:
    """A bar with loss, accuracy, ranks and compression on standard error."""

    def __init__(self, epochs: int):
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        except ImportError:
            raise ImportError('progress=True needs rich: pip install "dlra[cli]"') from None
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=Console(stderr=True), refresh_per_second=5,
        )  # fmt: skip
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

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class Stages:
    """A bar over the epochs of several trainings on standard error, with what is being done."""

    def __init__(self, work: int):
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        except ImportError:
            raise ImportError('progress=True needs rich: pip install "dlra[cli]"') from None
        self._bar = Progress(
            BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=5,
        )  # fmt: skip
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

    def __enter__(self) -> Stages:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
