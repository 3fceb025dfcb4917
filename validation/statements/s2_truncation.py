"""Section 3.2, inequality (3.8): what truncation drops.

**Statement.** "Determine the maximal set of singular values σ_i of S* satisfying Σσ_i² ≤ ϑ²" and remove it; then

    |U* S* V*ᵀ - U₁ S₁ V₁ᵀ| ≤ ϑ                                   (3.8)

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024), Algorithm 3.1 and (3.8).

**Assumptions.** None. The set of most elements is meant, hence the smallest singular values: a set that is maximal for
inclusion might contain a large one. One singular value must stay, even if |S*| ≤ ϑ: as printed the rule may remove all
of them, and from rank zero no step comes back (K and L have no columns).

**Constants.** Derived: U*, V* and the singular vectors are orthonormal, so the left side is (Σ removed σ_i²)^½,
an equality; it is at most ϑ; and it is maximal, i.e. the tail that begins one singular value earlier exceeds ϑ.

**Use.** ϑ is the Frobenius norm of what one step may drop, not a bound for single values and not a squared norm: n
values of size 0.9 ϑ stay, all but one. With k steps, at most k ϑ is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank
from dlra.linalg import truncate
from validation.checks import Finding, Identity, Inequality, check
from validation.families import complex_field, dense_start, tangent_field
from validation.flows import norm

Matrix = np.ndarray
ROUNDING = 1e-14


def spectra(quick: bool) -> Iterator[tuple[str, np.ndarray, float]]:
    """Singular values, and ϑ: clusters just below ϑ, spectra of size 1e-3, tails on either side of ϑ, random ones."""
    yield "five at 0.9 ϑ", np.array([1.0, 0.09, 0.09, 0.09, 0.09, 0.09]), 0.1
    yield "tail 0.9 ϑ, ϑ = 1e-2", np.array([1.0, 0.5, 0.1, 0.006, 0.005, 0.004]), 1e-2
    yield "tail 0.7 ϑ, sum 1.2 ϑ", np.array([1.0, 0.5, 0.04, 0.04, 0.04]), 0.1
    yield "sizes around 1e-3", np.array([3.0, 2.0, 1.5, 1.0, 0.5, 0.2]) * 1e-3, 1.2e-3
    yield "next tail 1.001 ϑ", np.array([10.0, 4.0, 3.0]), 5.0 / 1.001
    rng = np.random.default_rng(4)
    for i in range(20 if quick else 200):
        k = int(rng.integers(2, 13))
        s = np.sort(10.0 ** -rng.uniform(0, rng.uniform(0.5, 4), size=k))[::-1]
        yield f"random {i}", s, norm(s) * 10.0 ** -rng.uniform(0.1, 3.0)


def starts(quick: bool) -> Iterator[tuple[str, LowRank, np.ndarray, float, dict[str, Any]]]:
    """Matrices with these singular values and a dense core, real and complex, square and not; ϑ as atol and as rtol."""
    rng = np.random.default_rng(5)
    for i, (label, s, theta) in enumerate(spectra(quick)):
        n = len(s) + 4
        Y = dense_start(rng, n + i % 3, n, s.tolist(), "complex128" if i % 2 else "float64")
        options = {"rtol": theta / norm(s)} if i % 4 >= 2 else {"atol": theta}
        yield f"{label}, {next(iter(options))}", Y, s, theta, options


def tail(s: np.ndarray, rank: int) -> float:
    """(Σ s_i²)^½ over i > rank."""
    return norm(s[rank:])


def equality_case() -> LowRank:
    """Singular values 10, 4, 3: the tail of 4 and 3 is 5."""
    eye = np.eye(6)
    return LowRank(eye[:, [4, 0, 2]], np.diag([10.0, 4.0, 3.0]), eye[:, [1, 5, 3]])


@check("s2-eq-3-8", "(3.8): |Y* - Y₁| = (Σ removed σ²)^½ ≤ ϑ", expect="sharp")
def dropped(quick: bool) -> Iterator[Finding]:
    """dlra.linalg.truncate on matrices with known singular values; what it says it has discarded, the difference of the
    dense matrices, and the tail of the known values agree. (10, 4, 3) with ϑ = 5, but for roundoff, is
    the case of equality."""
    for label, Y, s, theta, options in starts(quick):
        Y1, discarded = truncate(Y, **options)
        difference = norm(Y.to_dense() - Y1.to_dense())
        yield Inequality(label, difference, theta, trivial=norm(s), rounding=ROUNDING * norm(s))
        yield Identity(f"tail: {label}", abs(difference - tail(s, Y1.rank)) / norm(s))
        yield Identity(f"discarded: {label}", abs(difference - discarded) / norm(s))
    Y = equality_case()
    Y1, _ = truncate(Y, atol=5.0 * (1 + ROUNDING))
    yield Inequality("(10, 4, 3), ϑ = 5", norm(Y.to_dense() - Y1.to_dense()), 5.0, trivial=norm(Y.S))
    yield Identity("(10, 4, 3), ϑ = 5: rank 1", float(abs(Y1.rank - 1)))


@check(
    "s2-eq-3-8-maximal",
    "As many singular values as possible are removed: the next tail exceeds ϑ",
    expect="sharp",
)
def maximal(quick: bool) -> Iterator[Finding]:
    """ϑ < (σ_r² + σ_{r+1}² + ...)^½ where r > 1 values are kept, from the known values; the kept ones are the
    largest."""
    for label, Y, s, theta, options in starts(quick):
        Y1, _ = truncate(Y, **options)
        if Y1.rank > 1:
            yield Inequality(label, theta, tail(s, Y1.rank - 1), rounding=ROUNDING * norm(s))
        kept = np.linalg.svd(Y1.to_dense(), compute_uv=False)[: Y1.rank]
        yield Identity(f"largest kept: {label}", norm(kept - s[: Y1.rank]) / norm(s))


@check("s2-eq-3-8-rank-one", "One singular value stays where |S*| ≤ ϑ", expect="holds")
def rank_one(quick: bool) -> Iterator[Finding]:
    """ϑ from |S*| to 1000 |S*|, in dlra.linalg.truncate and in a step: rank 1, by the largest value, and (3.8)
    holds."""
    rng = np.random.default_rng(6)
    for dtype in ("float64", "complex128"):
        s = np.array([0.8, 0.5, 0.1])
        Y = dense_start(rng, 9, 9, s.tolist(), dtype)
        for factor in (1.0 + 1e-12, 1000.0) if quick else (1.0 + 1e-12, 2.0, 30.0, 1000.0):
            theta = factor * norm(s)
            Y1, _ = truncate(Y, atol=theta)
            label = f"{dtype}, ϑ = {factor:g} |S*|"
            yield Identity(f"rank: {label}", float(abs(Y1.rank - 1)))
            yield Identity(f"σ₁: {label}", abs(Y1.norm() - s[0]))
            yield Inequality(f"(3.8): {label}", norm(Y.to_dense() - Y1.to_dense()), theta)
            Y2 = dlra.step(lambda t, X: -X, 0.0, 0.1, Y, AugmentedBUG(substep="euler", atol=theta))
            yield Identity(f"step, rank: {label}", float(abs(Y2.rank - 1)))


@check("s2-eq-3-8-step", "(3.8) in a step: |Y* - Y₁| ≤ ϑ, and no more could be removed", expect="sharp")
def in_a_step(quick: bool) -> Iterator[Finding]:
    """Steps with atol = ϑ beside the untruncated step from the same start, Euler and Runge-Kutta substeps. ϑ lies
    just above and just below tails of Y*, and between them."""
    rng = np.random.default_rng(7)
    several = [(12, 12, "float64"), (14, 9, "complex128")]
    for m, n, dtype in several if quick else [*several, (24, 24, "complex128"), (20, 30, "float64")]:
        Y0 = dense_start(rng, m, n, (1.0, 0.5, 0.2, 0.1), dtype)
        if dtype == "complex128":
            f = complex_field(m, n, seed=n)
        else:
            f = tangent_field(m, n, eps=1.0, g=0.5, a=2.0, b=2.0, seed=n).samples[0]
        for h in (0.02, 0.5):
            for substep in ("euler", "rk4"):
                options: dict[str, Any] = {"substep": substep}
                Y = dlra.step(lambda t, Y, f=f: f(Y), 0.0, h, Y0, AugmentedBUG(max_rank=8, **options))
                s = np.linalg.svd(Y.S, compute_uv=False)
                for rank in range(1, len(s)):
                    for factor in (1.001, 0.999, 1.1):
                        theta = factor * tail(s, rank)
                        method = AugmentedBUG(atol=theta, **options)
                        Y1 = dlra.step(lambda t, Y, f=f: f(Y), 0.0, h, Y0, method)
                        label = f"{m} x {n}, h = {h:g}, {substep}, ϑ = {factor:g} tail after {rank}"
                        difference, rounding = norm(Y.to_dense() - Y1.to_dense()), ROUNDING * norm(s)
                        yield Inequality(label, difference, theta, trivial=norm(s), rounding=rounding)
                        yield Identity(f"tail: {label}", abs(difference - tail(s, Y1.rank)) / norm(s))
                        if Y1.rank > 1:
                            right = tail(s, Y1.rank - 1)
                            yield Inequality(f"maximal: {label}", theta, right, rounding=rounding)
