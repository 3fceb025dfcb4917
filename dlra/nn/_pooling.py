"""Largest entries and means of windows of images, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlra.backend import Array, added_at, device, from_host, namespace, zeros
from dlra.nn._patches import Windows, compiled, padded


def max_pool(x: Array, windows: Windows) -> tuple[Array, Array]:
    """Return the largest entry of every window.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    windows : Windows
        Padding counts as minus infinity.

    Returns
    -------
    y : array, shape (N, C, OH, OW)
        NaN where the window contains one.
    where : array of integers, shape (N, C, OH, OW)
        Which entry of the window it is, row by row: the first of several, never one of the padding; the last NaN (as
        PyTorch has it).
    """
    fast = compiled(x)
    return max_pool_generic(x, windows) if fast is None else fast.max_pool(x, windows)


def max_pool_gradient(delta: Array, where: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Return the derivative by x, for the derivative delta by the output of :func:`max_pool`."""
    fast = compiled(delta)
    if fast is None:
        return max_pool_gradient_generic(delta, where, shape, windows)
    return fast.max_pool_gradient(delta, where, shape, windows)


def average_pool(x: Array, windows: Windows) -> Array:
    """Return the mean of every window, padding counted as zeros: N x C x H x W to N x C x OH x OW.

    A compiled version was slower than NumPy's vector instructions.
    """
    first, *others = windows.entries(windows.counts(*x.shape[-2:]))
    x = padded(x, windows.padding, 0.0)
    total = namespace(x).asarray(x[first], copy=True)
    for entry in others:
        total += x[entry]
    return total * (1.0 / math.prod(windows.kernel))


def average_pool_gradient(delta: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Return the derivative by x, for the derivative delta by the output of :func:`average_pool`."""
    fast = compiled(delta)
    if fast is None:
        return average_pool_gradient_generic(delta, shape, windows)
    return fast.average_pool_gradient(delta, shape, windows)


# ---- for any array library


def max_pool_generic(x: Array, windows: Windows) -> tuple[Array, Array]:
    """:func:`max_pool` for any array library."""
    xp = namespace(x)
    counts = windows.counts(*x.shape[-2:])
    first, *others = windows.entries(counts)
    x = padded(x, windows.padding, -math.inf)
    y = xp.asarray(x[first], copy=True)  # never the memory of x
    where = xp.zeros(y.shape, dtype=getattr(xp, position_dtype(windows)), device=device(x))
    where = where + from_host(_first_inside(windows, counts), x)
    for i, entry in enumerate(others, 1):
        candidate = x[entry]
        better = (candidate > y) | xp.isnan(candidate)
        y = xp.where(better, candidate, y)
        where = xp.where(better, xp.full_like(where, i), where)
    return y, where


def max_pool_gradient_generic(delta: Array, where: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """:func:`max_pool_gradient` for any array library."""
    xp = namespace(delta)
    nothing = xp.zeros_like(delta)
    return _spread(lambda i: xp.where(where == i, delta, nothing), delta, shape, windows)


def average_pool_gradient_generic(delta: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """:func:`average_pool_gradient` for any array library."""
    share = delta * (1.0 / math.prod(windows.kernel))
    return _spread(lambda i: share, delta, shape, windows)


def _spread(part: Any, delta: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Add part(i) to the entries of images that entry i of the kernel meets."""
    N, C, H, W = shape
    P, Q = windows.padding
    x = zeros((N, C, H + 2 * P, W + 2 * Q), delta)
    for i, entry in enumerate(windows.entries(windows.counts(H, W))):
        x = added_at(x, entry, part(i))
    return x[:, :, P : P + H, Q : Q + W]


def _first_inside(windows: Windows, counts: tuple[int, int]) -> np.ndarray:
    """The first entry of every window that lies in the image, OH x OW."""
    rows, columns = (
        np.maximum(p - s * np.arange(count), 0)
        for p, s, count in zip(windows.padding, windows.stride, counts, strict=True)
    )
    return (windows.kernel[1] * rows[:, None] + columns).astype(position_dtype(windows))


def position_dtype(windows: Windows) -> str:
    """The integers that tell the entries of a window."""
    return "uint8" if math.prod(windows.kernel) <= 256 else "int32"
