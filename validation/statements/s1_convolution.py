"""Appendix 6.6, (19) and (20): convolutions on the factors of the reshaped kernel.

**Statement.** For a kernel W of F filters C x J x K and images Z,

    (Z*W)(n, f, u, v) = Σ_j Σ_k Σ_c W(f, c, j, k) Z(n, c, u - j, v - k)                                          (19)
                      = Σ_p U(f, p) Σ_q S(p, q) Σ_j Σ_k Σ_c V((c, j, k), q) Z_unfolded(n, (c, j, k), (u, v))      (20)

where W reshaped to F x CJK is U S Vᵀ, and Z_unfolded are the patches that PyTorch's unfold gives.

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, appendix 6.6.

**Assumptions.** None on Z and W. In (19) u and v run where u - j and v - k are pixels; indices from 0 here.

**Constants.** None: identities. But patches of unfold hold the pixels at u + j, v + k (times the dilation, plus stride
and padding), so that (20) is the cross-correlation

    Σ_j Σ_k Σ_c W(f, c, j, k) Z(n, c, u + j, v + k),

and (19) as printed differs from it: it is (20) for the kernel reversed in j and k, on shifted positions.

**Use.** LowRankConv2d computes what PyTorch's conv2d does. Kernels from a program that convolves in the sense of (19)
are to be flipped first; for training from scratch it makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from dlra import LowRank, nn
from validation.checks import Counterexample, Finding, Identity, check
from validation.families import dense_start
from validation.flows import norm, relative

Pair = tuple[int, int]


def _layer(C: int, F: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Any, LowRank]:
    """A low-rank convolution without bias, and its weight, of rank 3 with a dense core."""
    W = dense_start(np.random.default_rng(F), F, C * kernel[0] * kernel[1], (1.0, 0.5, 0.2))
    layer = nn.LowRankConv2d(C, F, kernel, 3, stride, padding, dilation, bias=False, dtype="float64", rng=0)
    return nn.Sequential(layer).with_weights({0: W}), W


def correlated(
    W: np.ndarray, Z: np.ndarray, stride: Pair, padding: Pair, dilation: Pair, sign: int = 1
) -> np.ndarray:
    """The sums over j, k, c in so many words, for a kernel F x C x J x K; ``sign`` -1 reads Z at u - j, v - k, from the
    first u and v on where these are pixels."""
    N, C, H, Wd = Z.shape
    _, _, J, K = W.shape
    Z = np.pad(Z, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    (H, Wd), reach = Z.shape[2:], (dilation[0] * (J - 1), dilation[1] * (K - 1))
    out = np.zeros((N, W.shape[0], (H - reach[0] - 1) // stride[0] + 1, (Wd - reach[1] - 1) // stride[1] + 1))
    for a, b, j, k, c in product(range(out.shape[2]), range(out.shape[3]), range(J), range(K), range(C)):
        u, v = a * stride[0], b * stride[1]
        if sign < 0:
            u, v = u + reach[0], v + reach[1]
        pixel = Z[:, c, u + sign * dilation[0] * j, v + sign * dilation[1] * k]
        out[:, :, a, b] += pixel[:, None] * W[None, :, c, j, k]
    return out


CASES = (
    # images, filters, kernel, stride, padding, dilation
    ((2, 3, 7, 6), 5, (3, 2), (1, 1), (0, 0), (1, 1)),
    ((1, 1, 8, 8), 4, (3, 3), (2, 1), (1, 2), (1, 1)),
    ((2, 2, 9, 7), 4, (2, 3), (1, 2), (0, 1), (2, 1)),
)


@check(
    "s1-convolution",
    "Appendix 6.6, (20): the factored unfold is the sum over u + j, v + k",
    expect="corrected form holds",
)
def factored(quick: bool) -> Iterator[Finding]:
    """LowRankConv2d against loops over pixels with the formed kernel; strides, padding and dilation too."""
    for shape, F, kernel, stride, padding, dilation in CASES[: 2 if quick else 3]:
        Z = np.random.default_rng(1).standard_normal(shape)
        net, W = _layer(shape[1], F, kernel, stride, padding, dilation)
        dense = W.to_dense().reshape(F, shape[1], *kernel)
        reference = correlated(dense, Z, stride, padding, dilation)
        yield Identity(
            f"images {shape}, kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}",
            relative(net.predict(Z), reference),
        )


@check(
    "s1-convolution-printed",
    "Appendix 6.6, (19): Z at u - j, v - k is what (20) computes",
    expect="fails as printed",
)
def printed(quick: bool) -> Iterator[Finding]:
    """|(20) - (19)| against rounding, 1e-13 |(20)|; and what makes the two agree: the kernel reversed."""
    for shape, F, kernel, stride, padding, dilation in CASES[:1]:
        Z = np.random.default_rng(1).standard_normal(shape)
        net, W = _layer(shape[1], F, kernel, stride, padding, dilation)
        dense = W.to_dense().reshape(F, shape[1], *kernel)
        seen = net.predict(Z)
        reversed_ = correlated(dense[:, :, ::-1, ::-1], Z, stride, padding, dilation, sign=-1)
        yield Identity("(19) with the kernel reversed", relative(reversed_, seen))
        literal = correlated(dense, Z, stride, padding, dilation, sign=-1)
        yield Counterexample(f"images {shape}, kernel {kernel}", norm(seen - literal), 1e-13 * norm(seen))
