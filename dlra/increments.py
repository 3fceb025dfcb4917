"""Fields F = A'(t) given through values or increments of A only."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dlra.backend import DTYPES, astype, dtype_name, is_array, is_sparse, kind, namespace

__all__ = ["Increments"]


class Increments:
    """The field F(t) = A'(t) of a matrix A(t) of which only values, or differences, are known.

    The small equations of a step then have the exact solutions X(t₁) = X(t₀) + projection of A(t₁) - A(t₀), whatever
    substep is named. BUG, AugmentedBUG and ProjectorSplitting reproduce A(t) to rounding at every step as long as its
    rank is that of the state, and follow its best approximations closely else: low-rank approximation of a stream of
    matrices, without derivatives.

    Parameters
    ----------
    A : callable
        ``A(t)``, the matrix at time t, or ``A(t0, t1)``, the difference A(t1) - A(t0): an array, a sparse matrix, a
        LowRank, or a ``LinearOperator``. It is called with the times of the steps (and of the stages of a splitting)
        only. Called with one argument or two by the number of its required positional parameters.

    Notes
    -----
    For the methods whose equations are all small: BUG, AugmentedBUG, ParallelBUG, ProjectorSplitting and Galerkin, with
    a given dt. The others need values of F.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> def A(t):
    ...     return np.outer(np.cos(t + np.arange(5.0)), np.exp(t * np.arange(4.0)))
    >>> solution = dlra.solve(dlra.Increments(A), (0, 1), dlra.LowRank.from_dense(A(0), rank=1), dt=0.25)
    >>> bool(abs(solution.y_final.to_dense() - A(1)).max() < 1e-12)
    True
    """

    def __init__(self, A: Callable[..., Any]):
        if not callable(A):
            raise TypeError(f"Increments takes a callable A(t) or A(t0, t1), got {kind(A)}")
        self.A = A
        self._differences = _required(A) == 2
        self._values: dict[float, Any] = {}
        self._shape: tuple[int, ...] = ()

    def between(self, t0: float, t1: float) -> Any:
        """A(t1) - A(t0)."""
        if self._differences:
            return self.A(t0, t1)
        before, after = self._value(t0), self._value(t1)
        for t, value in ((t0, before), (t1, after)):
            if tuple(getattr(value, "shape", ())) != self._shape:
                raise ValueError(
                    f"A(t) of Increments must be a matrix of one shape at all times, {self._shape} at first, got "
                    f"{kind(value)} at t = {t}"
                )
        return after - before

    def _value(self, t: float) -> Any:
        """A(t); the last few values are kept, because the equations of a step ask for the same ones."""
        if t not in self._values:
            while len(self._values) >= 3:
                del self._values[next(iter(self._values))]
            value = self.A(t)
            if is_array(
                value
            ):  # a copy, because A may reuse its buffer; floating point, because integers wrap around
                known = dtype_name(value.dtype) in DTYPES
                value = namespace(value).asarray(value, copy=True) if known else astype(value, "float64")
            elif is_sparse(value):
                value = value.astype("float64") if value.dtype.kind in "biu" else value.copy()
            if not self._shape:
                self._shape = tuple(getattr(value, "shape", ()))
            self._values[t] = value
        return self._values[t]

    def __repr__(self) -> str:
        return f"Increments({getattr(self.A, '__qualname__', self.A)!s})"


def _required(A: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(A).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    if required not in (1, 2):
        raise TypeError(
            f"A of Increments must take (t) or (t0, t1), got a callable of {required} required arguments"
        )
    return required
