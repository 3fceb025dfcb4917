"""Section 5, equations (5.9) and (5.13): what one step with Euler substeps is.

**Statement.** The rank-adaptive BUG step with Euler substeps gives, before truncation,

    Y* = Y₀ + h P_Û f(Y₀) P_V̂                                   (5.9)
    P(Y₀) [P_Û f(Y₀) P_V̂] = P(Y₀) f(Y₀)                         (5.13)

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024).

**Assumptions.** None: identities of exact arithmetic, for any f and any Y₀.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import dlra
from dlra import AugmentedBUG
from validation.checks import Finding, Identity, check
from validation.families import dense_start
from validation.flows import tangent


@check("s2-5-9", "(5.9), (5.13): Y* = Y₀ + h P_Û f(Y₀) P_V̂", expect="holds")
def euler_step(quick: bool) -> Iterator[Finding]:
    """Random f(Y₀), dense S₀, h from 1e-4 to 10; U* and V* are read off the untruncated result."""
    rng = np.random.default_rng(0)
    for h in (1e-4, 1e-1, 10.0):
        Y0 = dense_start(rng, 20, 20, (1.0, 0.5, 0.2))
        G = rng.standard_normal((20, 20))
        Y1 = dlra.step(lambda t, Y, G=G: G, 0.0, h, Y0, AugmentedBUG(substep="euler", max_rank=6))
        U, _, V = Y1.factors
        step = (Y1.to_dense() - Y0.to_dense()) / h
        size = np.linalg.norm(G) + np.linalg.norm(Y0.to_dense()) / h
        full = U @ (U.T @ G @ V) @ V.T
        yield Identity(f"(5.9), h = {h:g}", float(np.linalg.norm(step - full) / size))
        yield Identity(f"(5.13), h = {h:g}", float(np.linalg.norm(tangent(Y0, step - G)) / size))
