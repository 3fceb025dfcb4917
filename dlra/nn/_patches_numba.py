"""Compiled versions of the functions of _patches.py and _pooling.py, for NumPy arrays in single and double precision.

They visit images one by one, so that an image stays in cache while its windows are read or summed up, and add in the order
of the generic versions: results agree to the last bit. All run on the calling thread.
``python -m validation.benchmarks.convolution`` measures what they gain.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from dlra.nn._patches import Windows
from dlra.nn._pooling import position_dtype


def _jit(function: Any) -> Any:
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no directory for the cache can be written
        return numba.njit(nogil=True)(function)


# ---- patches


def unfold(x: np.ndarray, windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._patches.unfold`."""
    N, C, H, W = x.shape
    OH, OW = windows.counts(H, W)
    images, channels_first = _images(x)
    steps = (N, 1) if channels_first else (1, C)
    patches = np.empty((C, *windows.kernel, N, OH, OW), dtype=x.dtype)
    _unfold(images, steps, patches, *windows[1:])
    return patches.reshape(-1, N * OH * OW).T


def fold(rows: np.ndarray, shape: tuple[int, ...], windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._patches.fold`."""
    N, C, H, W = shape
    patches = np.ascontiguousarray(rows.T).reshape(C, *windows.kernel, N, *windows.counts(H, W))
    x = np.empty((C, N, H, W), dtype=rows.dtype)
    _fold(patches, x, *windows[1:])
    return x.transpose(1, 0, 2, 3)


@_jit
def _inside(at, stride, padding, dilation, size, count):  # pragma: no cover - compiled
    """The range of positions whose entry ``at`` of the kernel meets the image rather than its padding."""
    shift = at * dilation - padding
    first = min(count, max(0, (-shift + stride - 1) // stride))
    last = min(count, (size - 1 - shift) // stride + 1)
    return shift, first, max(first, last)


@_jit
def _unfold(images, steps, patches, strides, padding, dilation):  # pragma: no cover - compiled
    C, J, K, N, OH, OW = patches.shape
    _, H, W = images.shape
    s, t = np.uintp(strides[0]), np.uintp(strides[1])
    x, out = images.reshape(-1), patches.reshape(-1)
    to = np.uintp(0)
    for c in range(C):
        for j in range(J):
            row, top, bottom = _inside(j, strides[0], padding[0], dilation[0], H, OH)
            for k in range(K):
                column, left, right = _inside(k, strides[1], padding[1], dilation[1], W, OW)
                within = top == 0 and left == 0 and bottom == OH and right == OW
                length = np.uintp(right - left)
                for n in range(N):
                    if not within:
                        for v in range(np.uintp(OH * OW)):
                            out[to + v] = 0
                    start = (c * steps[0] + n * steps[1]) * H * W + left * strides[1] + column
                    for u in range(top, bottom):
                        source = np.uintp(start + (u * strides[0] + row) * W)
                        target = to + np.uintp(u * OW + left)
                        if t == 1:
                            for v in range(length):
                                out[target + v] = x[source + v]
                        else:
                            for v in range(length):
                                out[target + v] = x[source + v * t]
                    to += np.uintp(OH * OW)


@_jit
def _fold(patches, images, strides, padding, dilation):  # pragma: no cover - compiled
    C, J, K, N, OH, OW = patches.shape
    _, _, H, W = images.shape
    t = np.uintp(strides[1])
    x, values = images.reshape(-1), patches.reshape(-1)
    for c in range(C):
        for n in range(N):
            image = (c * N + n) * H * W
            for v in range(np.uintp(image), np.uintp(image + H * W)):
                x[v] = 0
            for j in range(J):
                row, top, bottom = _inside(j, strides[0], padding[0], dilation[0], H, OH)
                for k in range(K):
                    column, left, right = _inside(k, strides[1], padding[1], dilation[1], W, OW)
                    length = np.uintp(right - left)
                    first = (((c * J + j) * K + k) * N + n) * OH * OW + left
                    start = image + left * strides[1] + column
                    for u in range(top, bottom):
                        source = np.uintp(first + u * OW)
                        target = np.uintp(start + (u * strides[0] + row) * W)
                        if t == 1:
                            for v in range(length):
                                x[target + v] += values[source + v]
                        else:
                            for v in range(length):
                                x[target + v * t] += values[source + v]


# ---- pooling: image by image, in whichever order they lie


def max_pool(x: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """See :func:`dlra.nn._pooling.max_pool`."""
    images, channels_first = _images(x)
    counts = windows.counts(*x.shape[2:])
    y = np.empty((len(images), *counts), dtype=x.dtype)
    where = np.empty(y.shape, dtype=position_dtype(windows))
    _max_pool(images, y, where, *windows[:3])
    return tuple(_batch(a, x.shape, channels_first) for a in (y, where))  # pyright: ignore[reportReturnType]


def max_pool_gradient(
    delta: np.ndarray, where: np.ndarray, shape: tuple[int, ...], windows: Windows
) -> np.ndarray:
    """See :func:`dlra.nn._pooling.max_pool_gradient`."""
    positions, channels_first = _images(where)
    x = np.empty((len(positions), *shape[2:]), dtype=delta.dtype)
    _max_pool_gradient(_as_images(delta, channels_first), positions, x, *windows[:3])
    return _batch(x, shape, channels_first)


def average_pool(x: np.ndarray, windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._pooling.average_pool`."""
    images, channels_first = _images(x)
    y = np.empty((len(images), *windows.counts(*x.shape[2:])), dtype=x.dtype)
    _average_pool(images, y, _share(x, windows), *windows[:3])
    return _batch(y, x.shape, channels_first)


def average_pool_gradient(delta: np.ndarray, shape: tuple[int, ...], windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._pooling.average_pool_gradient`."""
    images, channels_first = _images(delta)
    x = np.empty((len(images), *shape[2:]), dtype=delta.dtype)
    _average_pool_gradient(images, x, _share(delta, windows), *windows[:3])
    return _batch(x, shape, channels_first)


def _share(x: np.ndarray, windows: Windows) -> Any:
    return x.dtype.type(1.0 / (windows.kernel[0] * windows.kernel[1]))


@_jit
def _max_pool(images, y, where, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = y.shape
    _, H, W = images.shape
    J, K = kernel
    for i in range(count):
        for u in range(OH):
            row = u * strides[0] - padding[0]
            for v in range(OW):
                column = v * strides[1] - padding[1]
                j, k = max(0, -row), max(0, -column)
                largest = images[i, row + j, column + k]
                at = j * K + k
                for j in range(max(0, -row), min(J, H - row)):
                    for k in range(max(0, -column), min(K, W - column)):
                        value = images[i, row + j, column + k]
                        if value > largest or value != value:
                            largest = value
                            at = j * K + k
                y[i, u, v] = largest
                where[i, u, v] = at


@_jit
def _max_pool_gradient(delta, where, x, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = delta.shape
    for i in range(count):
        x[i, :, :] = 0
        for u in range(OH):
            for v in range(OW):
                j, k = divmod(np.int64(where[i, u, v]), kernel[1])
                x[i, u * strides[0] - padding[0] + j, v * strides[1] - padding[1] + k] += delta[i, u, v]


@_jit
def _average_pool(images, y, share, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = y.shape
    _, H, W = images.shape
    zero = share - share
    for i in range(count):
        for u in range(OH):
            row = u * strides[0] - padding[0]
            for v in range(OW):
                column = v * strides[1] - padding[1]
                total = zero
                for j in range(max(0, -row), min(kernel[0], H - row)):
                    for k in range(max(0, -column), min(kernel[1], W - column)):
                        total += images[i, row + j, column + k]
                y[i, u, v] = total * share


@_jit
def _average_pool_gradient(delta, x, share, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = delta.shape
    _, H, W = x.shape
    J, K = kernel
    for i in range(count):
        x[i, :, :] = 0
        for j in range(J):
            row, top, bottom = _inside(j, strides[0], padding[0], 1, H, OH)
            for k in range(K):
                column, left, right = _inside(k, strides[1], padding[1], 1, W, OW)
                for u in range(top, bottom):
                    for v in range(left, right):
                        x[i, u * strides[0] + row, v * strides[1] + column] += delta[i, u, v] * share


# ---- memory orders


def _images(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """Images one after the other in memory, and whether those of a channel (rather than of a batch entry) lie together."""
    N, C, H, W = x.shape
    swapped = x.transpose(1, 0, 2, 3)
    channels_first = swapped.flags.c_contiguous
    return (swapped if channels_first else np.ascontiguousarray(x)).reshape(N * C, H, W), channels_first


def _as_images(x: np.ndarray, channels_first: bool) -> np.ndarray:
    """Images one after the other in memory, in a given order."""
    if channels_first:
        x = x.transpose(1, 0, 2, 3)
    return np.ascontiguousarray(x).reshape(-1, *x.shape[2:])


def _batch(images: np.ndarray, shape: tuple[int, ...], channels_first: bool) -> np.ndarray:
    """Back from images to N x C x H x W."""
    N, C = shape[:2]
    if channels_first:
        return images.reshape(C, N, *images.shape[1:]).transpose(1, 0, 2, 3)
    return images.reshape(N, C, *images.shape[1:])
