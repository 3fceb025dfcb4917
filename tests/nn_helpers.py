"""Small networks with dense cores, and their gradients as dense matrices."""

from __future__ import annotations

import numpy as np
from helpers import random_lowrank

from dlra import LowRank, nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def network(sizes, ranks, activation="tanh", dtype="float64", seed=0, bias=True, decay=0.6):
    """Fully connected layers; rank None is a dense weight. Cores are dense, biases are not zero."""
    rng = np.random.default_rng(seed)
    layers, weights = [], {}
    for i, (n, m, r) in enumerate(zip(sizes[:-1], sizes[1:], ranks, strict=True)):
        layer = (
            nn.Linear(n, m, bias, dtype=dtype, rng=rng)
            if r is None
            else nn.LowRankLinear(n, m, r, bias, dtype=dtype, rng=rng)
        )
        if bias:
            layer.bias = (0.3 * rng.standard_normal(m)).astype(dtype)
        if r is not None:
            weights[i] = random_lowrank(rng, m, n, r, dtype, decay=decay)
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(layers[:-1]).with_weights(weights)


def labelled(rng, rows, features, classes, dtype="float64"):
    """Random inputs and labels."""
    return rng.standard_normal((rows, features)).astype(dtype), rng.integers(classes, size=rows)


def dense(W):
    """A weight, or the gradient by one, as a matrix."""
    return W.to_dense() if isinstance(W, LowRank) else np.asarray(W)


def flow(net, x, y, loss):
    """Minus the gradient by all members, dense."""
    gradient = net.loss_and_gradient(x, y, loss)[1]
    return [-dense(G) for G in (*gradient.weights, *gradient.biases)]


def members(net):
    """All parameters, dense."""
    return [dense(Y) for Y in net.members]


def distance(a, b):
    """The largest relative error of corresponding matrices."""
    return max(
        float(np.linalg.norm(p - q) / max(np.linalg.norm(q), 1e-300)) for p, q in zip(a, b, strict=True)
    )


def bits(net):
    """All parameters as bytes, factor by factor."""
    out = []
    for Y in net.members:
        for a in Y.factors if isinstance(Y, LowRank) else (Y,):
            out.append((a.dtype.name, a.shape, np.ascontiguousarray(a).tobytes()))
    return out


def blobs(rows=120, features=10, classes=3, seed=5, dtype="float64"):
    """Classes that can be told apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=rows)
    centres = 2 * rng.standard_normal((classes, features))
    return (centres[y] + rng.standard_normal((rows, features))).astype(dtype), y
