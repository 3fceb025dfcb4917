"""Appendix 6.5: the gradients of the K-, L- and S-step.

**Statement.** For a network with layers z_ℓ = σ_ℓ(W_ℓ z_{ℓ-1} + b_ℓ), W_ℓ = K_ℓV_ℓᵀ = U_ℓL_ℓᵀ = U_ℓS_ℓV_ℓᵀ,

    ∂_K L = ∂_W L V,    ∂_L L = (∂_W L)ᵀ U,    ∂_S L = Uᵀ ∂_W L V,

"hence, the K-step can be computed by a forward evaluation of L and recording the gradient tape with respect to K".

**Source.** S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets, NeurIPS 2022,
arXiv:2205.13571, appendix 6.5.

**Assumptions.** Differentiable σ_ℓ.

**Constants.** None: identities. The displayed matrix formula,
∂_W L = ∂_{z_M} Lᵀ (σ'_ℓ ∘ Π_{α>ℓ} W_αᵀ ∘ σ'_α)ᵀ z_{ℓ-1}ᵀ, cannot be right: the bracket maps n_M to n_ℓ components, its
transpose n_ℓ to n_M, and the row ∂_{z_M} Lᵀ in front of it has n_M. With the n_ℓ x n_M matrix
D = σ'_ℓ ∘ W_{ℓ+1}ᵀ ∘ σ'_{ℓ+1} ∘ ... ∘ W_Mᵀ ∘ σ'_M it reads

    ∂_W L = (D ∂_{z_M} L) z_{ℓ-1}ᵀ,

an outer product for one sample, a sum of them for a batch. In the lines above it, ∂_L L needs U_{i k} and z_j in all
lines (the factor z is missing in the first, and δ_{km} was not used in the last), and ∂_S L its sums over m and n.

**Use.** One forward and one backward pass give all three gradients of a step, without forming ∂_W L: what
dlra.nn.train does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import dlra
from dlra import LowRank, nn
from validation.checks import Finding, Identity, check
from validation.families import dense_start
from validation.flows import norm, relative, tangent

Arrays = list[np.ndarray]


def _problem(widths: tuple[int, ...], batch: int) -> tuple[nn.Sequential, np.ndarray, np.ndarray]:
    """A tanh net with low-rank weights of rank 2 and dense cores, and a batch."""
    rng = np.random.default_rng(len(widths))
    layers: list[Any] = []
    for i, (n, m) in enumerate(pairwise(widths)):
        layers += [nn.LowRankLinear(n, m, rank=2, dtype="float64", rng=i), nn.Tanh()]
    net = nn.Sequential(*layers[:-1])
    weights = {i: dense_start(rng, W.shape[0], W.shape[1], (1.5, 0.7)) for i, W in enumerate(net.weights)}
    net = net.with_weights(weights)
    net = net.with_members((*net.weights, *(rng.standard_normal(b.shape) for b in net.biases)))
    return net, rng.standard_normal((batch, widths[0])), rng.integers(widths[-1], size=batch)


def cross_entropy(weights: Arrays, biases: Arrays, x: np.ndarray, y: np.ndarray) -> complex:
    """The mean loss of the tanh net, for complex weights: analytic in all of them."""
    z = x.T.astype(complex)
    for i, (W, b) in enumerate(zip(weights, biases, strict=True)):
        z = W @ z + b[:, None]
        if i < len(weights) - 1:
            z = np.tanh(z)
    return complex(np.mean(np.log(np.sum(np.exp(z), axis=0)) - z[y, np.arange(len(y))]))


def complex_step(value: Callable[[np.ndarray], complex], X: np.ndarray) -> np.ndarray:
    """The gradient of a real analytic function by the entries of X, free of cancellation."""
    G, s = np.empty(X.shape), 1e-40
    for place in np.ndindex(*X.shape):
        Z = X.astype(complex)
        Z[place] += 1j * s
        G[place] = value(Z).imag / s
    return G


@check("s1-gradients", "Appendix 6.5: ∂_K L = G V, ∂_L L = Gᵀ U, ∂_S L = Uᵀ G V", expect="holds")
def gradients(quick: bool) -> Iterator[Finding]:
    """Every layer of a tanh net (one of them square) with cross entropy; the loss as a function of K, L, S and W is
    differentiated by complex steps, independently of the package. Compared are the gradient G by W that one backward
    pass gives, and what the parallel integrator with Euler substeps makes of it in a step of length 1 without
    truncation: Y₀ - Y₁ = P(Y₀) G, of which the products with V, U and both are what the K-, L- and S-step have used."""
    for widths in ((5, 7, 7, 4), (6, 6, 3))[: 1 if quick else 2]:
        net, x, y = _problem(widths, 9)
        loss = nn.CrossEntropyLoss()
        gradient = net.loss_and_gradient(x, y, loss)[1].weights
        flow = nn.gradient_flow(net, x, y, loss)
        state = list(net.members)
        after = dlra.step(flow, 0.0, 1.0, state, dlra.ParallelBUG(substep="euler", max_rank=4))
        biases = [np.asarray(b) for b in net.biases]
        dense = [W.to_dense() for W in net.weights]
        for i, W in enumerate(net.weights):
            assert isinstance(W, LowRank)
            U, S, V = W.factors
            K, L = U @ S, V @ S.T

            def value(Z: np.ndarray, i: int = i, dense: Arrays = dense) -> complex:
                return cross_entropy([*dense[:i], Z, *dense[i + 1 :]], biases, x, y)  # noqa: B023

            by_K = complex_step(lambda K, V=V, value=value: value(K @ V.T), K)
            by_L = complex_step(lambda L, U=U, value=value: value(U @ L.T), L)
            by_S = complex_step(lambda S, U=U, V=V, value=value: value(U @ S @ V.T), S)
            moved = after[i].to_dense() - dense[i]
            size = norm(moved)
            label = f"layer {i + 1} of {widths}"
            yield Identity(f"{label}: S", norm(U.T @ moved @ V + by_S) / size)
            yield Identity(f"{label}: K", norm(moved @ V + by_K) / size)
            yield Identity(f"{label}: L", norm(moved.T @ U + by_L) / size)
            whole = complex_step(value, dense[i])
            G = gradient[i].to_dense()
            yield Identity(f"{label}: W", relative(G, whole))
            yield Identity(f"{label}: K from W", norm(G @ V - by_K) / norm(whole))
            yield Identity(f"{label}: step", norm(moved + tangent(W, whole)) / size)
