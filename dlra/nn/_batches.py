"""Where batches come from, and what an epoch sums up over them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra.backend import Array, all_finite, dtype_name, kind, picked, to_host
from dlra.nn._layer import check_size
from dlra.nn.losses import Loss
from dlra.nn.network import Sequential

__all__ = ["Batches", "Rows", "Sums", "is_finite"]


@dataclass(frozen=True)
class Sums:
    """Sums over the batches of an epoch so far."""

    loss: float = 0.0
    right: int = 0
    rows: int = 0
    batches: int = 0

    def with_batch(self, loss: float, right: int, rows: int) -> Sums:
        """The sums with one more batch."""
        return Sums(self.loss + loss * rows, self.right + right, self.rows + rows, self.batches + 1)


class Rows:
    """Data as arrays, from which batches are drawn."""

    resumable = True

    def __init__(self, net: Sequential, x: Any, y: Any, loss: Loss, batch_size: Any, replacement: bool):
        if y is None:
            raise TypeError("y is missing: with x an array, y holds the targets")
        net.check_batch(x, y, loss)
        for name, a in (("x", x), ("y", y)):
            if not is_finite(a):
                raise ValueError(f"{name} contains NaN or infinite values; remove or replace these rows")
        if batch_size is None:
            raise TypeError("batch_size is missing: give the number of rows of a batch")
        self.x, self.y, self.rows = x, y, x.shape[0]
        self.size = check_size(batch_size, "batch_size")
        if self.size > self.rows:
            raise ValueError(f"batch_size must not exceed the number of rows, {self.rows}, got {self.size}")
        self.replacement = replacement
        self.steps = -(-self.rows // self.size)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The rows of one epoch, in the order in which batches take them."""
        if self.replacement:
            return rng.integers(self.rows, size=self.steps * self.size)
        return rng.permutation(self.rows)

    def batches(self, order: np.ndarray | None, done: int) -> Iterator[tuple[Array, Array]]:
        """The batches of an epoch that are not done yet."""
        assert order is not None
        for i in range(done * self.size, len(order), self.size):
            rows = order[i : i + self.size]
            yield picked(self.x, rows), picked(self.y, rows)

    def identity(self) -> Any:
        return ["rows", self.rows, self.size, self.replacement, self._digest()]

    def _digest(self) -> str:
        """Of the targets and some rows: tells data sets of one size apart."""
        some = np.linspace(0, self.rows - 1, min(self.rows, 64)).astype(np.int64)
        digest = hashlib.sha256(to_host(picked(self.x, some)).tobytes())
        digest.update(to_host(self.y).tobytes())
        return digest.hexdigest()[:16]


class Batches:
    """Data as an iterable of batches, or a function that returns one for each epoch."""

    resumable = False
    """Within an epoch; between epochs it is."""
    steps = None

    def __init__(self, net: Sequential, x: Any, y: Any, loss: Loss, batch_size: Any, replacement: bool):
        if y is not None or not (callable(x) or hasattr(x, "__iter__")) or isinstance(x, (str, bytes, dict)):
            hint = (
                "; convert lists with numpy.asarray" if isinstance(x, (list, tuple)) and y is not None else ""
            )
            raise TypeError(
                f"x and y must be arrays, or x an iterable of batches (x, y) and y None, got {kind(x)} and "
                f"{kind(y)}{hint}"
            )
        if batch_size is not None or replacement:
            raise ValueError(
                "batch_size and replacement do not go with an iterable of batches, which are what they are"
            )
        if callable(x) and not _takes_nothing(x):
            raise TypeError(
                f"x must be a function without arguments that returns an iterable of batches, got {x!r}"
            )
        self.net, self.loss, self.source = net, loss, x

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Nothing: the batches come as they come."""
        return np.zeros(0, dtype=np.int64)

    def batches(self, order: np.ndarray | None, done: int) -> Iterator[tuple[Array, Array]]:
        """The batches of an epoch, each checked."""
        source: Any = self.source() if callable(self.source) else self.source
        for i, item in enumerate(source):
            try:
                x, y = item
            except (TypeError, ValueError):
                raise TypeError(f"x must give batches (x, y), but batch {i + 1} is {kind(item)}") from None
            self.net.check_batch(x, y, self.loss, (f"x of batch {i + 1}", f"y of batch {i + 1}"))
            yield x, y

    def identity(self) -> Any:
        return ["batches"]


def is_finite(a: Array) -> bool:
    """Whether an array of numbers is finite; integers always are."""
    return not dtype_name(a.dtype).startswith(("float", "complex")) or all_finite(a)


def _takes_nothing(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
