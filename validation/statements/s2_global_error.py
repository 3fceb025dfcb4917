"""Section 4: the global error, "directly follows from Lady Windermere's fan".

**Statement.** After n steps of size h = T/n, |W(T) - Y_n| is bounded by the local errors, carried on by the flow of F.

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024), end of Section 4, where no global bound is written down.

**Assumptions.** Those of the local error, at all Y_k; ε for the rank that Y_k has.

**Constants.** Derived: the fan compares the flows from Y_{k-1} over one step with Y_k, so that every local error is
that of a step with δ = 0, and the flow multiplies distances by e^{Lt} at most. With G = (e^{LT} - 1)/L and Σ h e^{L(T
- t_k)} ≤ G,

    |W(T) - Y_n| ≤ e^{LT} |W₀ - Y₀| + G [4LBh + 2ε + 4C + ϑ/h]              (local error as printed)
    |W(T) - Y_n| ≤ e^{LT} |W₀ - Y₀| + G [(1 + 1/√2)LBh + ε + C + ϑ/h]      (sharper; Euler substeps: ½LBh)

Where C = 0, 1.57 will do for 1 + 1/√2 (s2_local_error). Without all this |W(T) - Y_n| ≤ |W₀ - Y₀| + 2BT + nϑ.

Iterating the bound of the local error as it is displayed is something else: δ ← (3 + 3Lh)δ + 4LBh² + 2εh + 4Ch + ϑ
multiplies δ by more than 3ⁿ. For the tangent field below with ε = C = 0 and 64 steps it comes to more than 10²⁷, where
the fan as printed gives 0.05, the error is of the size of 10⁻⁶, and 1 is known without any of it.

The term in C is pathwise: it is attained where every step uses the same sample. With samples drawn afresh, the noise is
damped: for F(Y) = A - Y and f = F ± C T, T in the bases, Euler substeps give e ← (1 - h)e ± hC, hence in the limit the
mean square C² h/(2 - h), RMS ~ C √(h/2).

**Use.** The error of a run is at most proportional to h + ε + C + ϑ/h, whatever the singular values are: take ϑ of the
order of h². Noise does not sit on C but decreases like √h, as long as minibatches are drawn afresh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import dlra
from dlra import AugmentedBUG, LowRank
from validation.checks import Finding, Identity, Inequality, Slope, check
from validation.families import Family, dense_start, tangent_field
from validation.flows import complement, growth, norm, rk4, tree

Matrix = np.ndarray
T = 0.5
FACTORS = {"exact": 1 + math.sqrt(0.5), "Euler": 0.5}
SUBSTEPS: dict[str, Any] = {"exact": "rk4", "Euler": "euler"}


def run(family: Family, Y0: LowRank, n: int, theta: float, substep: Any = "rk4") -> Matrix:
    """Y_n after n steps over [0, T], with the same sample in all of them. The classical Runge-Kutta scheme stands for
    exact solutions of the small equations: its error, (Lh)⁵, is far below every bound here."""
    h, Y = T / n, Y0
    method = AugmentedBUG(substep=substep, atol=theta)
    for _ in range(n):
        Y = dlra.step(lambda t, X: family.samples[0](X), 0.0, h, Y, method)
    return Y.to_dense()


def fan(family: Family, h: float, theta: float, factor: float) -> float:
    """The sharper global bound with W₀ = Y₀."""
    return growth(family.L, T) * (factor * family.L * family.B * h + family.eps + family.C + theta / h)


def printed_fan(family: Family, h: float, theta: float) -> float:
    """The global bound with the local error as printed, W₀ = Y₀."""
    return growth(family.L, T) * (4 * family.L * family.B * h + 2 * family.eps + 4 * family.C + theta / h)


def trivial(family: Family, n: int, theta: float) -> float:
    """2BT + nϑ."""
    return 2 * family.B * T + n * theta


Case = tuple[str, dict[str, float], Callable[[float], float], float]
CASES: list[Case] = [
    ("ε = C = 0, ϑ = h²/10", {}, lambda h: h**2 / 10, 1.0),
    ("ε = 0.05, ϑ = 2εh", {"eps": 0.05}, lambda h: 0.1 * h, 0.0),
    ("C = 0.05, ϑ = h²/10", {"g": 0.05}, lambda h: h**2 / 10, 0.0),
]


def families(quick: bool, options: dict[str, float]) -> Iterator[tuple[str, Family, LowRank, Matrix]]:
    """Tangent fields, starts with σ_min = 1e-3, and W(T)."""
    for seed, (m, n) in enumerate([(14, 14)] if quick else [(14, 14), (18, 12)]):
        family = tangent_field(m, n, seed=seed, **options)
        Y0 = dense_start(np.random.default_rng(seed), m, n, (1.0, 0.5, 1e-3))
        yield f"{m} x {n}", family, Y0, rk4(family.F, Y0.to_dense(), T, 200)


def counts(quick: bool) -> tuple[int, ...]:
    """Numbers of steps, many first."""
    return (64, 32, 16) if quick else (256, 128, 64, 32, 16, 8)


@check("s2-4-global", "Fan with δ = 0: |W(T) - Y_n| ≤ G [4LBh + 2ε + 4C + ϑ/h]", expect="holds")
def global_error(quick: bool) -> Iterator[Finding]:
    """Tangent fields over T = 1/2, the same sample in all steps, one of ε and C switched on at a time. Slope 1 in h
    where ε = C = 0. With 2 steps the right side says nothing."""
    for label, options, theta, order in CASES:
        for shape, family, Y0, W in families(quick, options):
            errors = []
            for n in (*counts(quick), 2):
                h = T / n
                errors.append(norm(run(family, Y0, n, theta(h)) - W))
                right, known = printed_fan(family, h, theta(h)), trivial(family, n, theta(h))
                yield Inequality(f"{label}: {shape}, n = {n}", errors[-1], right, known)
            if order:
                hs = [T / n for n in counts(quick)]
                yield Slope.of(f"{label}: {shape}", hs, errors[: len(hs)], order)


@check(
    "s2-4-global-sharper", "Fan: |W(T) - Y_n| ≤ G [(1 + 1/√2)LBh + ε + C + ϑ/h]; Euler ½LBh", expect="holds"
)
def sharper_global_error(quick: bool) -> Iterator[Finding]:
    """As before, exact and Euler substeps. Slope 1 in h where ε = C = 0; small h: slope 1 in C, and in ε with ϑ =
    2εh."""
    for label, options, theta, order in CASES:
        for shape, family, Y0, W in families(quick, options):
            for name, substep in SUBSTEPS.items():
                errors = []
                for n in counts(quick):
                    h = T / n
                    errors.append(norm(run(family, Y0, n, theta(h), substep) - W))
                    right, known = fan(family, h, theta(h), FACTORS[name]), trivial(family, n, theta(h))
                    yield Inequality(f"{label}, {name}: {shape}, n = {n}", errors[-1], right, known)
                if order:
                    yield Slope.of(f"{label}, {name}: {shape}", [T / n for n in counts(quick)], errors, order)
    values, n = [0.2, 0.1, 0.05], 64 if quick else 256
    h = T / n
    for name, option, theta in (("C", "g", lambda C: h**2 / 10), ("ε", "eps", lambda eps: 2 * eps * h)):
        errors = []
        for value in values:
            for _, family, Y0, W in families(True, {option: value}):
                errors.append(norm(run(family, Y0, n, theta(value)) - W))
        yield Slope.of(f"plateau of {name}, n = {n}", values, errors, 1.0, x_name=name)


def attained(quick: bool) -> Iterator[tuple[str, Family, LowRank]]:
    """Fields whose errors add up over all steps, with B over the paths: F(Y) = LY with LT = 0.02, h² on; constant
    ones of L = 0: f = T₁ + εD with D normal at all Y_k, and F = f + C T₁."""
    for m, n in [(10, 10)] if quick else [(10, 10), (14, 9)]:
        Y0 = dense_start(np.random.default_rng(m), m, n, (1.0, 0.5, 0.2))
        U, _, V = Y0.factors
        rng = np.random.default_rng(m + 1)
        inner = np.outer(U[:, 0], V[:, 1])
        outer = np.outer(complement(rng, U, 1), complement(rng, V, 1))
        L, eps, C = 0.04, 0.5, 0.5
        B = L * math.exp(L * T) * Y0.norm()

        def linear(Y: Matrix, L: float = L) -> Matrix:
            return L * Y

        yield f"h²: F = LY, {m} x {n}", Family([linear], B, L, 0.0, 0.0, (m, n)), Y0

        def normal(Y: Matrix, G: Matrix = inner + eps * outer) -> Matrix:
            return G

        yield f"ε: {m} x {n}", Family([normal], math.hypot(1, eps), 0.0, eps, 0.0, (m, n)), Y0

        def sample(Y: Matrix, G: Matrix = inner) -> Matrix:
            return G

        def noisy(Y: Matrix, G: Matrix = inner * (1 + C)) -> Matrix:
            return G

        yield f"C: {m} x {n}", Family([sample], 1 + C, 0.0, 0.0, C, (m, n), mean=noisy), Y0


@check(
    "s2-4-global-attained", "Fan with Euler substeps, G [½LBh + ε + C]: each term is attained", expect="sharp"
)
def attained_global_error(quick: bool) -> Iterator[Finding]:
    """Linear growth with small LT for the term in h, constant fields for ε and C; rank fixed by the field, so that
    nothing is truncated."""
    for label, family, Y0 in attained(quick):
        W = rk4(family.F, Y0.to_dense(), T, 200)
        for n in (32, 4):
            h = T / n
            error = norm(run(family, Y0, n, 0.0, "euler") - W)
            right, known = fan(family, h, 0.0, 0.5), trivial(family, n, 0.0)
            yield Inequality(f"{label}, n = {n}", error, right, known, rounding=1e-12)


class Relaxation:
    """F(Y) = A - Y with A = Y₀, f = F ± C T with T = u vᵀ in the bases of A: the error stays a multiple of T."""

    def __init__(self, C: float):
        self.C = C
        self.A = dense_start(np.random.default_rng(9), 10, 8, (1.0, 0.5, 0.2))
        U, _, V = self.A.factors
        self.rest, self.T = self.A.to_dense(), np.outer(U[:, 0], V[:, 1])

    def step(self, Y: LowRank, h: float, i: int) -> LowRank:
        """One step of dlra with Euler substeps and sample i."""
        noise = (1 - 2 * i) * self.C * self.T
        return dlra.step(lambda t, X: self.rest - X + noise, 0.0, h, Y, AugmentedBUG(substep="euler"))

    def error(self, Y: LowRank) -> float:
        """⟨T, Y - A⟩, all of the error."""
        return float(np.vdot(self.T, Y.to_dense() - self.rest))

    def coefficients(self, h: float) -> tuple[float, float]:
        """The step is e ← q e ± g: q and g, read off two steps."""
        up, down = (self.step(self.A, h, i) for i in (0, 1))
        gain = (self.error(up) - self.error(down)) / 2
        again = [self.error(self.step(Y, h, 0)) for Y in (up, down)]
        return (again[0] - again[1]) / (2 * gain), gain


def mean_square(q: float, gain: float, n: int) -> float:
    """E e_n² from e₀ = 0, by its recursion."""
    v = 0.0
    for _ in range(n):
        v = q**2 * v + gain**2
    return v


@check(
    "s2-4-fresh-noise", "Fresh samples: RMS error at most C √(h/(2 - h)); the same sample: C", expect="sharp"
)
def fresh_noise(quick: bool) -> Iterator[Finding]:
    """Linear model. All 2⁶ paths of 6 steps are enumerated: mean square of the error against the recursion of second
    moments, whose two coefficients are read off steps of dlra, and against C²h²(1 - q²ⁿ)/(1 - q²), q = 1 - h. The
    recursion is then carried to T = 16: slope 1/2 in h. One sample in all steps, T = 4: slope 0."""
    C = 0.5
    model = Relaxation(C)
    for h in (0.25,) if quick else (0.5, 0.25, 0.125):
        q, gain = model.coefficients(h)
        yield Identity(f"e ← (1 - h)e ± hC, h = {h:g}", math.hypot(q - (1 - h), gain - h * C))
        states = tree(model.A, 6, 2, lambda Y, t, i, h=h: model.step(Y, h, i))
        last = [(p, model.error(Y), norm(Y.to_dense() - model.rest)) for t, p, Y in states if t == 6]
        enumerated = sum(p * length**2 for p, _, length in last)
        formula = C**2 * h**2 * (1 - (1 - h) ** 12) / (1 - (1 - h) ** 2)
        yield Identity(f"mean error 0, h = {h:g}", abs(sum(p * e for p, e, _ in last)) / C)
        yield Identity(f"enumeration and formula, h = {h:g}", abs(enumerated - formula) / formula)
        yield Identity(
            f"enumeration and recursion, h = {h:g}", abs(enumerated - mean_square(q, gain, 6)) / formula
        )
        right = C * math.sqrt(h / (2 - h))
        yield Inequality(f"6 steps, h = {h:g}", math.sqrt(enumerated), right, trivial=C * (1 - (1 - h) ** 6))
    hs, fresh, same = (1 / 16, 1 / 64, 1 / 256), [], []
    for h in hs:
        fresh.append(math.sqrt(mean_square(*model.coefficients(h), round(16 / h))))
        right = C * math.sqrt(h / (2 - h))
        yield Inequality(f"T = 16, h = {h:g}", fresh[-1], right, trivial=C, rounding=1e-10)
    yield Slope.of("fresh samples, T = 16", hs, fresh, 0.5, y_name="RMS error")
    coarse = (1 / 8, 1 / 16, 1 / 32)
    for h in coarse:
        Y = model.A
        for _ in range(round(4 / h)):
            Y = model.step(Y, h, 0)
        same.append(norm(Y.to_dense() - model.rest))
        yield Identity(f"one sample, h = {h:g}", abs(same[-1] - C * (1 - (1 - h) ** round(4 / h))) / C)
    yield Slope.of("one sample, T = 4", coarse, same, 0.0)
