"""Patches of images as rows of a matrix, and back: a convolution is a product with them.

Images are N x C x H x W. All functions keep the channels first *in memory* (C x N x H x W), whatever the memory order
of their argument: then the patches of all images are one matrix, CJK x N·OH·OW, that needs no transposition before or
after a product with a weight, and the output of one layer is read by the next as it lies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dlra.backend import Array, added_at, device, namespace, replaced_at, zeros
from dlra.kernels import _compiled

Pair = tuple[int, int]


class Windows(NamedTuple):
    """Where a kernel is laid on images: pairs for the two directions, as in PyTorch."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def counts(self, height: int, width: int) -> Pair:
        """How many positions there are in either direction: OH and OW; less than one where the kernel does not fit."""
        J, K = (
            (size + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1
            for i, size in enumerate((height, width))
        )
        return J, K

    def entries(self, counts: Pair) -> list[tuple[Any, ...]]:
        """For each entry of the kernel, row by row, the index of all image entries that it meets.

        They are indices of padded images, and refer to the last two axes.
        """
        return [
            (
                ...,
                *(
                    slice(at * d, at * d + s * (count - 1) + 1, s)
                    for at, d, s, count in zip((j, k), self.dilation, self.stride, counts, strict=True)
                ),
            )
            for j in range(self.kernel[0])
            for k in range(self.kernel[1])
        ]


def unfold(x: Array, windows: Windows) -> Array:
    """Return the patches of images as rows.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    windows : Windows
        Kernel J x K.

    Returns
    -------
    array, shape (N·OH·OW, C·J·K)
        Row (n, u, v), column (c, j, k). It is the transpose of a matrix that is contiguous in memory.
    """
    fast = compiled(x)
    return unfold_generic(x, windows) if fast is None else fast.unfold(x, windows)


def fold(rows: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Add patches up to images: the adjoint of :func:`unfold`.

    Parameters
    ----------
    rows : array, shape (N·OH·OW, C·J·K)
    shape : tuple
        (N, C, H, W)
    windows : Windows

    Returns
    -------
    array, shape (N, C, H, W)
    """
    fast = compiled(rows)
    return fold_generic(rows, shape, windows) if fast is None else fast.fold(rows, shape, windows)


def unfold_generic(x: Array, windows: Windows) -> Array:
    """:func:`unfold` for any array library."""
    xp = namespace(x)
    N, C, H, W = x.shape
    J, K = windows.kernel
    counts = OH, OW = windows.counts(H, W)
    x = padded(xp.permute_dims(x, (1, 0, 2, 3)), windows.padding, 0.0)
    patches = xp.stack([x[entry] for entry in windows.entries(counts)], axis=1)
    return xp.reshape(patches, (C * J * K, N * OH * OW)).T


def fold_generic(rows: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """:func:`fold` for any array library."""
    xp = namespace(rows)
    N, C, H, W = shape
    (J, K), (P, Q) = windows.kernel, windows.padding
    counts = windows.counts(H, W)
    patches = xp.reshape(rows.T, (C, J * K, N, *counts))
    x = zeros((C, N, H + 2 * P, W + 2 * Q), rows)
    for i, entry in enumerate(windows.entries(counts)):
        x = added_at(x, entry, patches[:, i, ...])
    return xp.permute_dims(x[:, :, P : P + H, Q : Q + W], (1, 0, 2, 3))


def padded(x: Array, padding: Pair, value: float) -> Array:
    """Images with ``value`` around them."""
    P, Q = padding
    if P == Q == 0:
        return x
    *outer, H, W = x.shape
    frame = namespace(x).full((*outer, H + 2 * P, W + 2 * Q), value, dtype=x.dtype, device=device(x))
    return replaced_at(frame, (..., slice(P, P + H), slice(Q, Q + W)), x)


def compiled(x: Array) -> Any:
    """The module with compiled versions for arrays like ``x``; None where there is none."""
    if type(x) is np.ndarray and x.dtype.char in "fd" and x.dtype.isnative:
        return _compiled.module("patches")
    return None
