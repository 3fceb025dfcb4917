"""Section 5.3, lemmas 5.13 and 5.14, theorem 5.15: convergence of stochastic unified momentum in fixed bases.

**Statement.** With X_t, Y_t from (5.24), and learning rates of infinite sum and finite sum of squares (5.19): the
series

    1.  Σ_t Σ_{s≤t} μ^{t-s} h_s²
    2.  Σ_k Σ_{t<k} μ^{k-t} E|X_t|²
    3.  Σ_t E|Y_{t+1} - Y_t|²                                                          (lemma 5.13)

converge;

    -E⟨F(Y_t), X_t⟩ ≤ -Σ_{s≤t} μ^{t-s} h_s E|P_U F(Y_s) P_V|² + 2L Σ_{s<t} μ^{t-s} E|X_s|²
                      + Lλ²B² Σ_{s<t} μ^{t-s} h_s²                                       (lemma 5.14)

and, for a loss that is not negative and h_{t-1}/h_t → 1,  E|P_U F(Y_t) P_V| → 0           (theorem 5.15).

**Source.** A. Hnatiuk, J. Kusch, L. Kusch, N. R. Gauger, A. Walther, Stochastic aspects of dynamical low-rank
approximation in the context of machine learning (2024).

**Assumptions.** Fixed bases; |P_U f P_V| ≤ B (for lemma 5.13, E|P_U f P_V|² ≤ B²); F Lipschitz with L; fresh
minibatches.

**Constants.** From the proof: E|X_t|² ≤ B²/(1-μ) Σ_{s≤t} μ^{t-s} h_s²; the three series are at most Σh²/(1-μ),
μB²/(1-μ)³ Σh² and 2B² [λ² + (1-λ+λμ)²/(1-μ)²] Σh². For the heavy ball, λ = 0, the 2L of lemma 5.14 may be L, because
Y_{t+1} - Y_t = X_t (derived), with equality for the loss |Y - A|²/2. (5.29):

    E L(Y_{t+1}) - E L(Y_t) ≤ -λ h_t E|PFP|² - (1-λ+λμ) Σ_{s≤t} μ^{t-s} h_s E|PFP|² + c_t,
    c_t = L/2 E|Y_{t+1} - Y_t|² + (1-λ+λμ) (2L Σ_{s<t} μ^{t-s} E|X_s|² + Lλ²B² Σ_{s<t} μ^{t-s} h_s²).

(5.31) divides by 1-λ+λμ, which is zero for λ = 1/(1-μ); the term with λ makes up for it (derived): (1 + λμ) Σ h_t
E|PFP|² ≤ L(Y₀) + Σ c_t, and so a finite version of the limit. Since |P_U F P_V| ≤ B, E|PFP|² ≤ B E|PFP| → 0: theorem
5.15 does say something of squares, other than the paper's remark on it. For h_t ~ t^-p, 1/2 < p < 1, and f_i = a_i -
S, E|PFP|² ~ h_t (derived).

**Use.** Momentum in the core converges in the mean for the last iterate, not just a subsequence, with steps as for
SGD; the constants grow like 1/(1-μ)³, so that h must be smaller by that much for the bound to say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dlra import Galerkin, LowRank
from dlra.nn.optimizers import Memory, Momentum
from dlra.nn.schedules import RobbinsMonro
from validation.checks import Finding, Identity, Inequality, Slope, check
from validation.descent import Trained, moment, rates
from validation.families import Family, dense_start, quadratic_sum, root_sylvester
from validation.flows import norm, tree


def _filtered(mu: float, values: np.ndarray) -> np.ndarray:
    """Σ_{s≤t} μ^{t-s} v_s for all t."""
    out, total = np.empty(len(values)), 0.0
    for t, v in enumerate(values.tolist()):
        total = mu * total + v
        out[t] = total
    return out


# ---- lemma 5.13


@check("s2-5-13", "Lemma 5.13: sums of |X|² and of |Y_{t+1} - Y_t|²", expect="sharp")
def lemma_5_13(quick: bool) -> Iterator[Finding]:
    """Slopes of norm B = 1 in the coordinates of the core, given to Momentum: constant ones, for which the bounds are
    nearly attained where h_t falls slowly, and random ones; right sides from the formula of h_t."""
    steps = 1000 if quick else 10000
    schedule = RobbinsMonro(0.1, 0.6, 200.0)
    h = rates(schedule, steps)
    rng = np.random.default_rng(11)
    for mu, lam in ((0.9, 5.0), (0.9, 0.0), (0.5, 1.0)):
        for kind in ("constant", "random"):
            optimizer = Momentum(schedule, mu=mu, lam=lam)
            core = np.zeros((2, 2))
            memory = optimizer.empty(core, True)
            X2, increment2 = np.empty(steps), np.empty(steps)
            for t in range(steps):
                G = np.ones((2, 2)) if kind == "constant" else rng.standard_normal((2, 2))
                step, memory = optimizer.increment(optimizer.rate(t), G / norm(G), memory, core)
                X2[t], increment2[t] = norm(memory.moments[0]) ** 2, norm(step) ** 2
            label = f"{kind}, μ = {mu:g}, λ = {lam:g}"
            squares = float(h @ h)
            single = _filtered(mu, h**2) / (1 - mu)
            worst = int(np.argmax(X2 / single))
            yield Inequality(f"|X_t|², t = {worst}, {label}", float(X2[worst]), float(single[worst]))
            yield Inequality(f"Σ|X|², {label}", float(np.sum(X2)), squares / (1 - mu) ** 2)
            second = float(np.sum(_filtered(mu, X2)[:-1]) * mu)
            yield Inequality(f"item 2, {label}", second, mu * squares / (1 - mu) ** 3)
            third = 2 * (lam**2 + (1 - lam + lam * mu) ** 2 / (1 - mu) ** 2) * squares
            yield Inequality(f"item 3, {label}", float(np.sum(increment2)), third)


# ---- lemma 5.14 and (5.29)


@dataclass(frozen=True)
class _Last:
    """What the last step was: of its start F, f, and its end."""

    aligned: float = 0.0
    """⟨F(Y_t), X_t⟩."""
    X2: float = 0.0
    increment2: float = 0.0
    """|Y_{t+1} - Y_t|²."""
    product: float = 0.0
    """⟨F, P f P⟩."""
    square: float = 0.0
    """|P F P|²."""
    largest: float = 0.0
    """|P f P|."""


@dataclass
class _Paths:
    """Expectations over all paths, per step; B is the largest |P f P|."""

    steps: int
    values: dict[str, np.ndarray] = field(default_factory=dict)
    loss: np.ndarray = field(default_factory=lambda: np.zeros(0))
    B: float = 0.0

    def __post_init__(self) -> None:
        names = ("aligned", "X2", "increment2", "product", "square")
        self.values = {name: np.zeros(self.steps) for name in names}
        self.loss = np.zeros(self.steps + 1)


def _paths(family: Family, Y0: LowRank, optimizer: Momentum, steps: int) -> _Paths:
    trained = Trained(Galerkin(), optimizer)
    U, _, V = Y0.factors

    def advance(state: tuple, t: int, i: int) -> tuple:
        Y, memory, _ = state
        Z = Y.to_dense()
        F, f = U.T @ family.F(Z) @ V, U.T @ family.samples[i](Z) @ V
        Y1, memory = trained.step(family.samples[i], t, Y, memory)
        X = U.T @ moment(Y1, memory) @ V
        last = _Last(
            float(np.vdot(F, X)),
            norm(X) ** 2,
            norm(Y1.to_dense() - Z) ** 2,
            float(np.vdot(F, f)),
            norm(F) ** 2,
            norm(f),
        )
        return Y1, memory, last

    out = _Paths(steps)
    for t, p, (Y, _, last) in tree((Y0, {}, _Last()), steps, len(family.samples), advance):
        out.loss[t] += p * family.loss(Y.to_dense())
        out.B = max(out.B, last.largest)
        if t:
            for name, values in out.values.items():
                values[t - 1] += p * getattr(last, name)
    return out


SCHEDULE = RobbinsMonro(0.1, 1.0, 5.0)
MU = 0.9


@check(
    "s2-5-14-heavy-ball",
    "Lemma 5.14 for the heavy ball, λ = 0, with L in the place of 2L",
    expect="sharp",
)
def heavy_ball(quick: bool) -> Iterator[Finding]:
    """All paths of two samples, five steps, through the training of cores; quadratic losses: equality. Left is
    -E⟨F, X⟩ + Σ μ^{t-s} h_s E|PFP|²."""
    steps = 5
    h = rates(SCHEDULE, steps)
    for shape in ((8, 8), (9, 7)):
        rng = np.random.default_rng(12)
        Y0 = dense_start(rng, *shape, (1.0, 0.5))
        family = quadratic_sum([rng.standard_normal(shape) for _ in range(2)])
        paths = _paths(family, Y0, Momentum(SCHEDULE, mu=MU, lam=0.0), steps)
        v = paths.values
        gradients = _filtered(MU, h * v["square"])
        left = -v["aligned"] + gradients
        right = _filtered(MU, v["X2"]) - v["X2"]
        known = _filtered(MU, h) * paths.B**2 + gradients
        for t in range(1, steps):
            yield Inequality(
                f"{shape[0]} x {shape[1]}, t = {t}",
                float(left[t]),
                float(right[t]),
                trivial=float(known[t]),
                rounding=1e-13,
            )


@check(
    "s2-5-14",
    "Lemma 5.14 and (5.29): E⟨F, X⟩ and the descent with momentum",
    expect="holds",
    adjusted="was: sharp; through L for 2L with λ = 0, which is a check of its own now",
)
def lemma_5_14(quick: bool) -> Iterator[Finding]:
    """All paths of a random loss of four samples, five steps, through the training of cores; λ = 0, 1, 3, of which each
    is the equality E⟨F, PfP⟩ = E|PFP|², lemma 5.14 (left is -E⟨F, X⟩ + Σ μ^{t-s} h_s E|PFP|²) and (5.29)."""
    k = 3 if quick else 5
    h = rates(SCHEDULE, k)
    for lam in (0.0, 1.0, 3.0):
        family = root_sylvester(8, 8, eps=0.05, g=0.3, seed=4)
        Y0 = dense_start(np.random.default_rng(4), 8, 8, (2.0, 1.0))
        paths = _paths(family, Y0, Momentum(SCHEDULE, mu=MU, lam=lam), k)
        v, rest, L = paths.values, 1 - lam + lam * MU, family.L
        for t in range(k):
            off = abs(v["product"][t] - v["square"][t]) / v["square"][t]
            yield Identity(f"E⟨F, PfP⟩ = E|PFP|², λ = {lam:g}, t = {t}", float(off))
        gradients = _filtered(MU, h * v["square"])
        moments = _filtered(MU, v["X2"]) - v["X2"]
        squares = _filtered(MU, h**2) - h**2
        left = -v["aligned"] + gradients
        right = 2 * L * moments + L * lam**2 * paths.B**2 * squares
        known = _filtered(MU, h) * paths.B**2 + gradients
        for t in range(1, k):
            yield Inequality(
                f"(5.14), λ = {lam:g}, t = {t}", float(left[t]), float(right[t]), trivial=float(known[t])
            )
        left = paths.loss[1:] - paths.loss[:-1] + lam * h * v["square"] + rest * gradients
        right = L / 2 * v["increment2"] + rest * right
        for t in range(k):
            promised = lam * h[t] * v["square"][t] + rest * gradients[t]
            yield Inequality(
                f"(5.29), λ = {lam:g}, t = {t}", float(left[t]), float(right[t]), trivial=float(promised)
            )


# ---- theorem 5.15


def _second_moments(optimizer: Momentum, steps: int, s: float, d: float) -> np.ndarray:
    """E|PFP|² of all steps for f_i = a_i - S with a_i = ā ± s, from |S₀ - ā| = d.

    An increment is linear in (S - ā, X, noise): its coefficients are those of Momentum.increment at unit vectors, a
    new 2 x 2 recursion in each step.
    """
    error, memory, noise = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    xx, xm, mm = d**2, 0.0, 0.0
    out = np.empty(steps)
    for t in range(steps):
        out[t] = xx
        step, new = optimizer.increment(optimizer.rate(t), noise - error, Memory((memory,)), error)
        a, b, n = (error + step).tolist()
        c, e, k = new.moments[0].tolist()
        xx, xm, mm = (
            a * a * xx + 2 * a * b * xm + b * b * mm + n * n * s * s,
            a * c * xx + (a * e + b * c) * xm + b * e * mm + n * k * s * s,
            c * c * xx + 2 * c * e * xm + e * e * mm + k * k * s * s,
        )
    return out


@check("s2-5-15", "Theorem 5.15: E|P_U F(Y_t) P_V|² → 0 under (5.19)", expect="holds")
def theorem_5_15(quick: bool) -> Iterator[Finding]:
    """Exact second moments of a quadratic loss with two samples, μ = 0.9, λ = 0 (heavy ball), 1 (Nesterov), 10 (the
    end of the range, where (5.31) divides by zero), h_t = h₀/(1 + t/t₀)^p: the rate -p of the last iterate, and the
    finite version of the limit, its sums from the formula of h_t, beside |PFP|² at the start: it says something for λ =
    10 only, the constants of the other two are too large for this many steps. A constant step and steps of finite sum
    do not have the rate."""
    steps = 20000 if quick else 60000
    mu, s, d = 0.9, 0.5, 1.0
    for lam in (0.0, 1.0, 10.0):
        schedule = RobbinsMonro(0.05, 0.75, 10.0)
        e = _second_moments(Momentum(schedule, mu=mu, lam=lam), steps, s, d)
        at = np.geomspace(steps // 50, steps - 1, 8).astype(int)
        yield Slope.of(
            f"E|PFP|², λ = {lam:g}", (at + 10.0).tolist(), e[at].tolist(), -0.75, x_name="t", y_name="E|PFP|²"
        )
        h = rates(schedule, steps)
        rest, B2, squares = 1 - lam + lam * mu, float(np.max(e)) + s**2, float(h @ h)
        c = B2 * (lam**2 + rest**2 / (1 - mu) ** 2)  # L/2 of item 3
        c += rest * (2 * mu * B2 / (1 - mu) ** 3 + lam**2 * B2 * mu / (1 - mu))
        right = ((d**2 + s**2) / 2 + c * squares) / ((1 + lam * mu) * float(np.sum(h)))
        yield Inequality(f"min E|PFP|², λ = {lam:g}", float(np.min(e)), right, trivial=d**2)
