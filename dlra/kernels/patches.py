"""Patches and pooling of images: :mod:`dlra.nn._patches` and :mod:`dlra.nn._pooling`, compiled for arrays of NumPy.

They visit images one by one, so that an image stays in cache while its windows are read or summed up, and add in the
order of the generic versions: results agree to the last bit. All run on the calling thread. Indices are unsigned,
because numba wraps signed ones around, which keeps loops from being vectorised: copying patches took ten times as long.
``python -m validation.benchmarks.convolution`` measures what they gain.
"""

from __future__ import annotations

import numpy as np

from dlra.kernels._compiled import jit, with_twin
from dlra.nn import _patches, _pooling
from dlra.nn._patches import Windows

# ---- patches


@with_twin(_patches.unfold_generic)
def unfold(x: np.ndarray, windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._patches.unfold`."""
    N, C, H, W = x.shape
    OH, OW = windows.counts(H, W)
    images, channels_first = _images(x)
    steps = (N, 1) if channels_first else (1, C)
    patches = np.empty((C, *windows.kernel, N, OH, OW), dtype=x.dtype)
    _unfold(images, steps, patches, *windows[1:])
    return patches.reshape(C * windows.kernel[0] * windows.kernel[1], N * OH * OW).T


@with_twin(_patches.fold_generic)
def fold(rows: np.ndarray, shape: tuple[int, ...], windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._patches.fold`."""
    N, C, H, W = shape
    patches = np.ascontiguousarray(rows.T).reshape(C, *windows.kernel, N, *windows.counts(H, W))
    x = np.empty((C, N, H, W), dtype=rows.dtype)
    _fold(patches, x, *windows[1:])
    return x.transpose(1, 0, 2, 3)


@jit
def _inside(at, stride, padding, dilation, size, count):  # pragma: no cover - compiled
    """The range of positions whose entry ``at`` of the kernel meets the image rather than its padding."""
    shift = at * dilation - padding
    first = min(count, max(0, (-shift + stride - 1) // stride))
    last = min(count, (size - 1 - shift) // stride + 1)
    return shift, first, max(first, last)


@jit
def _unfold(images, steps, patches, strides, padding, dilation):  # pragma: no cover - compiled
    C, J, K, N, OH, OW = patches.shape
    _, H, W = images.shape
    t = np.uintp(strides[1])
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


@jit
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


@with_twin(_pooling.max_pool_generic)
def max_pool(x: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """See :func:`dlra.nn._pooling.max_pool`."""
    images, channels_first = _images(x)
    counts = windows.counts(*x.shape[2:])
    y = np.empty((len(images), *counts), dtype=x.dtype)
    where = np.empty(y.shape, dtype=_pooling.position_dtype(windows))
    if windows == Windows((2, 2), (2, 2)):
        _max_pool_in_fours(images, y, where)
    else:
        _max_pool(images, y, where, *windows[:3])
    return tuple(_batch(a, x.shape, channels_first) for a in (y, where))  # pyright: ignore[reportReturnType]


@with_twin(_pooling.max_pool_gradient_generic)
def max_pool_gradient(
    delta: np.ndarray, where: np.ndarray, shape: tuple[int, ...], windows: Windows
) -> np.ndarray:
    """See :func:`dlra.nn._pooling.max_pool_gradient`."""
    positions, channels_first = _images(where)
    x = np.empty((len(positions), *shape[2:]), dtype=delta.dtype)
    _max_pool_gradient(_as_images(delta, channels_first), positions, x, *windows[:3])
    return _batch(x, shape, channels_first)


@with_twin(_pooling.average_pool_gradient_generic)
def average_pool_gradient(delta: np.ndarray, shape: tuple[int, ...], windows: Windows) -> np.ndarray:
    """See :func:`dlra.nn._pooling.average_pool_gradient`."""
    images, channels_first = _images(delta)
    x = np.empty((len(images), *shape[2:]), dtype=delta.dtype)
    share = delta.dtype.type(1.0 / (windows.kernel[0] * windows.kernel[1]))
    _average_pool_gradient(images, x, share, *windows[:3])
    return _batch(x, shape, channels_first)


@jit
def _max_pool(images, y, where, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = y.shape
    _, H, W = images.shape
    J, K = kernel
    x, out, at = images.reshape(-1), y.reshape(-1), where.reshape(-1)
    for i in range(count):
        for u in range(OH):
            top = u * strides[0] - padding[0]
            begin, end = max(0, -top), min(J, H - top)
            source, target = (i * H + top) * W, np.uintp((i * OH + u) * OW)
            for v in range(OW):
                left = v * strides[1] - padding[1]
                first, last = max(0, -left), min(K, W - left)
                largest, entry = -out.dtype.type(np.inf), begin * K + first
                for j in range(begin, end):
                    for k in range(first, last):
                        value = x[np.uintp(source + j * W + left + k)]
                        better = (value > largest) | (value != value)
                        largest = value if better else largest
                        entry = j * K + k if better else entry
                out[target + np.uintp(v)] = largest
                at[target + np.uintp(v)] = entry


@jit
def _max_pool_in_fours(images, y, where):  # pragma: no cover - compiled
    """Windows of 2 x 2 side by side: with constants for the sizes the loop is vectorised, ten times as fast."""
    count, OH, OW = y.shape
    _, H, W = images.shape
    x, out, at = images.reshape(-1), y.reshape(-1), where.reshape(-1)
    for i in range(count):
        for u in range(OH):
            source, target = np.uintp((i * H + 2 * u) * W), np.uintp((i * OH + u) * OW)
            for v in range(np.uintp(OW)):
                corner = source + np.uintp(2) * v
                largest, entry = x[corner], 0
                for j in range(2):
                    for k in range(2):
                        value = x[corner + np.uintp(j * W + k)]
                        better = (value > largest) | (value != value)
                        largest = value if better else largest
                        entry = 2 * j + k if better else entry
                out[target + v] = largest
                at[target + v] = entry


@jit
def _max_pool_gradient(delta, where, x, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = delta.shape
    _, H, W = x.shape
    out = x.reshape(-1)
    for i in range(count):
        for v in range(np.uintp(i * H * W), np.uintp((i + 1) * H * W)):
            out[v] = 0
        for u in range(OH - 1, -1, -1):  # backwards, so that entries of the kernel come in order
            for v in range(OW - 1, -1, -1):
                entry = np.int64(where[i, u, v])
                j = entry // kernel[1]
                k = entry - j * kernel[1]
                row, column = u * strides[0] - padding[0] + j, v * strides[1] - padding[1] + k
                out[np.uintp((i * H + row) * W + column)] += delta[i, u, v]


@jit
def _average_pool_gradient(delta, x, share, kernel, strides, padding):  # pragma: no cover - compiled
    count, OH, OW = delta.shape
    _, H, W = x.shape
    t = np.uintp(strides[1])
    values, out = delta.reshape(-1), x.reshape(-1)
    for i in range(count):
        for v in range(np.uintp(i * H * W), np.uintp((i + 1) * H * W)):
            out[v] = 0
        for j in range(kernel[0]):
            row, top, bottom = _inside(j, strides[0], padding[0], 1, H, OH)
            for k in range(kernel[1]):
                column, left, right = _inside(k, strides[1], padding[1], 1, W, OW)
                for u in range(top, bottom):
                    source = np.uintp((i * OH + u) * OW + left)
                    target = np.uintp((i * H + u * strides[0] + row) * W + left * strides[1] + column)
                    for v in range(np.uintp(right - left)):
                        out[target + v * t] += values[source + v] * share


# ---- memory orders


def _images(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """Images one after the other in memory, and whether channels (rather than batch entries) come first there."""
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
