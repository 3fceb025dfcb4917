"""The errors and the warning class of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlra.compress.truncation import Compressed
    from dlra.nn.history import History
    from dlra.solution import Solution

__all__ = ["DlraWarning", "SolveError", "TrainingError"]


class DlraWarning(UserWarning):
    """Something works, but probably not as intended; the text names the remedy."""


class SolveError(RuntimeError):
    """A run broke off after it had started.

    The text names the time, the step, the rank and the stage at which it happened, and the cause; an
    exception raised by the field is chained as ``__cause__``.

    Attributes
    ----------
    solution : Solution or None
        All that was computed before the failure (``status == -1``); None where a single :func:`dlra.step`
        failed.
    """

    def __init__(self, message: str, solution: Solution | None = None):
        super().__init__(message)
        self.solution = solution


class TrainingError(RuntimeError):
    """A training broke off after it had started.

    The text names the epoch, the batch, the layer or the stage at which it happened, and the cause. The network keeps
    the weights of the last good step.

    Attributes
    ----------
    history : History or None
        The epochs that were completed; ``history.net`` is the network.
    compressed : Compressed or None
        Where the training was the ``fine_tune`` of a truncation: what was truncated, before this training.
    """

    def __init__(self, message: str, history: History | None = None):
        super().__init__(message)
        self.history = history
        self.compressed: Compressed | None = None


class StageError(Exception):
    """A failure inside one step; the time loop turns it into a :class:`SolveError`. Internal."""

    def __init__(self, t: float, stage: str, reason: str):
        super().__init__(f"stage {stage} at t = {t:.10g}: {reason}")
        self.t, self.stage, self.reason = t, stage, reason
