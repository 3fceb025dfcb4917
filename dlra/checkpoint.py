"""Checkpoints: when they are written and what they hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run writes its state.

    Written after the first step, then at the cadence given, at the end, on Ctrl-C and on failure; each time
    the whole file is replaced atomically, so that it can be read at any moment, and it stays when the run is
    over.

    Parameters
    ----------
    path : path
        An HDF5 file; needs h5py (``pip install "dlra[files]"``).
    every : float or int
        A float counts seconds, an int counts steps. Default: 10.0 seconds.

    Examples
    --------
    >>> import dlra
    >>> dlra.Checkpoint("run.h5", every=500)  # steps
    Checkpoint(path='run.h5', every=500)
    """

    path: str | os.PathLike[str]
    every: float | int = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            raise TypeError(f"path of a Checkpoint must be a path, got {type(self.path).__name__}")
        if isinstance(self.every, bool) or not isinstance(self.every, (int, float)):
            raise TypeError(f"every must be seconds (a float) or steps (an int), got {self.every!r}")
        if not 0 < self.every < float("inf"):
            raise ValueError(f"every must be positive and finite, got {self.every}")


class Clock:
    """Decides when the next checkpoint is due."""

    def __init__(self, checkpoint: Checkpoint):
        self.path = checkpoint.path
        self._every = checkpoint.every
        self._last_time = time.monotonic()
        self._last_step: int | None = None

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint is due after this step; the first step of a run always is."""
        if self._last_step is None:
            return True
        if isinstance(self._every, int):
            return step - self._last_step >= self._every
        return time.monotonic() - self._last_time >= self._every

    def written(self, step: int) -> None:
        """Note that a checkpoint of this step has been written."""
        self._last_step, self._last_time = step, time.monotonic()

    def is_current(self, step: int) -> bool:
        """Tell whether the file already holds this step."""
        return self._last_step == step


def check_resume(path: Any, kind: str = "checkpoint") -> dict[str, Any]:
    """Read the checkpoint given as ``resume``, or raise the error that says why it cannot be used.

    ``kind``: "checkpoint" of a run of solve, or "training".
    """
    from dlra import _files

    if isinstance(path, Checkpoint):
        path = path.path
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"resume must be the path of a checkpoint, got {type(path).__name__}")
    return _files.read(path, kind)


def check_same_run(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise a ValueError naming what differs between the run of a checkpoint and the one that wants to resume it."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"resume: the checkpoint is of a run with {name} = {found.get(name)!r}, this run has {value!r}; "
                f"give the arguments of the interrupted run, or drop resume"
            )
