"""Which error bounds say something about a run: the constants of the theorems, estimated along its trajectory.

The bounds for low-rank integrators contain four constants: a bound B of F, its Lipschitz constant L, the part eps of F
that is normal to the tangent space, and the truncation tolerance theta. :func:`diagnose` measures what can be seen of
them at the states of a run and evaluates the bounds. A bound that is larger than what is known anyway says nothing;
that is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra import _checks, control
from dlra.backend import H, eps, gaussian, is_array, namespace, norm
from dlra.errors import SolveError, StageError
from dlra.field import CallError, Field, Value, operands_hint
from dlra.lowrank import LowRank
from dlra.solution import Solution

__all__ = ["Bound", "Diagnosis", "diagnose"]

PROBES = 16
"""Gaussian vectors that estimate a norm where it cannot be computed."""


@dataclass(frozen=True)
class Bound:
    """A bound of a theorem, evaluated.

    Attributes
    ----------
    name : str
    source : str
        Where it is proved.
    value : float
        The right side.
    trivial : float
        What is known without it.
    promise : str
        What it says of the value, in words.
    proved_for : tuple of str
        The integrators for which it is proved; for others it is a comparison.
    """

    name: str
    source: str
    value: float
    trivial: float
    promise: str
    proved_for: tuple[str, ...] = ("AugmentedBUG",)

    @property
    def says_something(self) -> bool:
        """Whether it is below what is known without it."""
        return bool(self.value < self.trivial)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What can be seen of the constants along a trajectory, and what the bounds make of them.

    ``print`` it: the constants, the bounds that say something with what they promise, those that do not, and advice.

    Attributes
    ----------
    t : array, shape (k,)
        The times looked at.
    bound, tangential, normal : arrays, shape (k,)
        ‖F‖, ‖P(Y) F‖ and ‖F - P(Y) F‖ there (Frobenius norms over all members).
    lipschitz : array, shape (k,)
        How fast F changes there: the norm of its derivative, from differences of F by a few steps of the power method
        in directions of rank 1. Far from normal operators it is larger than this.
    mu : array, shape (k - 1,)
        Re ⟨F(t, Y) - F(t, Z), Y - Z⟩ / ‖Y - Z‖² for neighbouring states: the one-sided Lipschitz constant, as far
        as the trajectory shows it.
    span, h, theta : float
        Length of the run, its mean step, and what truncation dropped in the mean step.
    rank : int
        The largest rank at these times, over all members.
    method : str
    gradient : bool
        Whether F is minus the gradient of a loss.

    Notes
    -----
    The theorems ask for constants everywhere; these are those of the visited states, so they are lower estimates, and a
    bound evaluated with them is an estimate of the bound.
    """

    t: np.ndarray
    bound: np.ndarray
    tangential: np.ndarray
    normal: np.ndarray
    lipschitz: np.ndarray
    mu: np.ndarray
    span: float
    h: float
    theta: float
    rank: int
    method: str = ""
    gradient: bool = False

    @property
    def B(self) -> float:
        """The largest ‖F‖ seen."""
        return float(np.max(self.bound))

    @property
    def L(self) -> float:
        """The largest rate of change of F seen."""
        return float(max(np.max(self.lipschitz), np.max(abs(self.mu), initial=0.0)))

    @property
    def eps(self) -> float:
        """The largest normal component seen."""
        return float(np.max(self.normal))

    @property
    def growth(self) -> float:
        """By what the trajectory shows errors to grow: the largest mu seen, L where nothing is seen."""
        return float(np.max(self.mu)) if len(self.mu) else self.L

    def local_error(self, h: float) -> float:
        """The bound of what a step of length h of augmented BUG adds, without truncation.

        (1 + 1/√2) L B h² + eps h: the local error bound of Hnatiuk et al., section 4, sharpened (docs, theory).
        """
        return (1 + math.sqrt(0.5)) * self.L * self.B * h * h + self.eps * abs(h)

    @property
    def bounds(self) -> list[Bound]:
        """The bounds, evaluated for this run."""
        trivial = 2 * self.B * self.span
        slow, fast = _grown(self.growth, self.span), _grown(self.L, self.span)
        h, theta = self.h, self.theta
        local = self.local_error(h) / h
        c = math.exp(min(self.L * h, 700.0))
        printed = (
            2 * (1 + self.L * h * c) * (3 * c + 4) * self.eps
            + 2 * self.B * self.L * ((1 + self.L * h * c) * (4 * c + 9) + c) * h
        )
        error = "the error at the end is at most"
        found = [
            Bound(
                "theorem 1, constants as printed",
                "Schotthöfer et al. 2022",
                fast * (printed + theta / h),
                trivial,
                error,
                ("BUG", "AugmentedBUG"),
            ),
            Bound(
                "sharper constants, growth by L",
                "after Hnatiuk et al. 2024, section 4",
                fast * (local + theta / h),
                trivial,
                error,
            ),
            Bound(
                "sharper constants, growth by mu",
                "the same, if errors grow as neighbouring states do",
                slow * (local + theta / h),
                trivial,
                error,
            ),
            Bound(
                "its part eps",
                "the same",
                slow * self.eps,
                trivial,
                "smaller steps and tolerances alone do not promise less than",
            ),
        ]
        if self.gradient:
            found.append(
                Bound(
                    "theorem 5.3, sharpened",
                    "after Hnatiuk et al. 2024",
                    self._descent(),
                    0.0,
                    "a step changes the loss by at most",
                )
            )
        return found

    def _descent(self) -> float:
        """The bound of how the loss changes in a step: -h ‖PF‖² + h eps² + h² L ‖F‖²/2 + B theta at the worst state."""
        h = self.h
        change = -h * self.tangential**2 + h * self.normal**2 + 0.5 * h * h * self.lipschitz * self.bound**2
        return float(np.max(change + self.bound * self.theta))

    def advice(self) -> list[str]:
        """What the terms of the bound say about dt, the truncation tolerance and the rank."""
        h = self.h
        terms = {
            "the length of the steps": (self.local_error(h) / h - self.eps),
            "the normal component of F": self.eps,
            "truncation": self.theta / h,
        }
        largest = max(terms, key=lambda name: terms[name])
        share = terms[largest] / (sum(terms.values()) or 1.0)
        said = [
            f"{share:.0%} of the bound is due to {largest}; per unit of time: {terms['the length of the steps']:.1e} "
            f"from the steps, {self.eps:.1e} from the normal component, {self.theta / h:.1e} from truncation"
        ]
        if self.L * h > 1:
            said.append(
                f"L h = {self.L * h:.1e}: the fastest part of F is not resolved; unless it is declared "
                f"(dlra.SemiLinear) or solved implicitly, take dt below {1 / self.L:.1e}"
            )
        if largest == "truncation":
            said.append(
                f"theta/h dominates: a smaller step makes it worse; take theta below {self.local_error(h):.1e} (of the "
                f"order of h²) for steps of {h:.1e}"
            )
        elif largest == "the normal component of F":
            said.append(f"the rank {self.rank} is too small for F: no smaller step helps, a higher rank does")
        elif share < 1:
            better = h * max(self.eps, self.theta / h) / terms[largest] if terms[largest] else h
            if better > 0:
                said.append(
                    f"a smaller dt helps, down to about {better:.1e}, where the other terms take over"
                )
        if self.gradient:
            said.append(self._descent_advice())
        return said

    def _descent_advice(self) -> str:
        """Below which theta and h the loss is promised to fall."""
        gain = self.tangential**2 - self.normal**2
        if np.min(gain) <= 0:
            return (
                "where the normal component of the gradient is as large as the tangential one, no descent is promised: "
                "a higher rank, or the parallel integrator, whose steps stay in the tangent space"
            )
        longest = float(np.min(gain / (0.5 * self.lipschitz * self.bound**2 + 1e-300)))
        room = float(np.min((self.h * gain - 0.5 * self.h**2 * self.lipschitz * self.bound**2) / self.bound))
        return f"the loss is promised to fall for dt below {longest:.1e}" + (
            f" and, at the present dt, truncation below {room:.1e}" if room > 0 else ""
        )

    def __str__(self) -> str:
        lines = [
            f"{len(self.t)} states of t = {self.t[0]:g} ... {self.t[-1]:g}"
            + (f", {self.method}" if self.method else "")
            + f": h = {self.h:.2g}, theta = {self.theta:.1e}, rank up to {self.rank}",
            f"  B   = {self.B:.3g}  (largest norm of F)",
            f"  L   = {self.L:.3g}  (its largest rate of change)",
            f"  mu  = {self.growth:.3g}  (one-sided, between neighbouring states)",
            f"  eps = {self.eps:.3g}  (largest normal component, {self.eps / self.B if self.B else 0:.1%} of B)",
            "  (seen at these states: lower estimates of the constants in the theorems)",
        ]
        telling = [b for b in self.bounds if b.says_something]
        silent = [b for b in self.bounds if not b.says_something]
        name = self.method.split("(")[0]
        lines.append("bounds that say something:" if telling else "no bound says anything here.")
        for b in telling:
            other = f"; proved for {' and '.join(b.proved_for)}" if name and name not in b.proved_for else ""
            lines.append(f"  {b.promise} {b.value:.3g}: {b.name} ({b.source}{other})")
        if silent:
            lines.append("bounds that say nothing here, being above what is known without them:")
            lines += [f"  {b.name}: {b.value:.3g}, known: {b.trivial:.3g}" for b in silent]
        return "\n".join([*lines, *(f"- {text}" for text in self.advice())])


def diagnose(
    F: Any,
    run: Solution | Iterable[Any],
    *,
    args: tuple[Any, ...] = (),
    states: int = 20,
    gradient: bool = False,
    h: float | None = None,
    theta: float | None = None,
) -> Diagnosis:
    """Estimate the constants of the error bounds along a trajectory.

    Parameters
    ----------
    F : callable, Factored or SemiLinear
        The field, as in :func:`dlra.solve`; of a :class:`dlra.SemiLinear` the whole, stiff part included.
    run : Solution, or iterable of (t, Y) or of State
        The trajectory. A Solution also tells the steps and what truncation dropped.
    args : tuple
        Extra arguments of F.
    states : int
        Look at so many of them at most, evenly spaced. Each costs about eight evaluations of F.
    gradient : bool
        F is minus the gradient of a loss: evaluate the bound of its descent too.
    h, theta : float
        Length of a step and its truncation tolerance, where they should be others than those of the Solution (its mean
        step, the mean of what was dropped) or of the states (the mean distance of their times, 0).

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        Bad input, among it a trajectory without states or with times that stand still.
    SolveError
        F failed at one of the states.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> A = np.diag([-1.0, -2.0, -3.0, -4.0])
    >>> Y0 = dlra.LowRank.from_dense(np.outer([1.0, 2, 3, 4], [1.0, 1, 1, 1]), rank=1)
    >>> sol = dlra.solve(lambda Y: A @ Y, (0, 1), Y0, dt=0.01)
    >>> found = dlra.diagnostics.diagnose(lambda Y: A @ Y, sol)
    >>> 3 < found.L < 4.001, found.eps < 1e-12
    (True, True)
    """
    if isinstance(states, bool) or not isinstance(states, int) or states < 1:
        raise ValueError(f"states must be a positive int, the number of states to look at, got {states!r}")
    times, members = _trajectory(run)
    _, system = _checks.check_state(members[0])
    chosen = np.unique(np.linspace(0, len(times) - 1, min(states, len(times))).round().astype(int))
    picked = [(times[i], tuple(_checks.check_state(members[i])[0])) for i in chosen]
    field = Field(F, picked[0][1], args, system)
    if field.increments:
        raise TypeError("Increments gives integrals only; diagnose needs values of F: give F = A' itself")
    looked = [_look(field, t, Ys) for t, Ys in picked]
    mu = [
        _one_sided(field, t, Ys, G, Zs)
        for (t, Ys), (G, *_), (_, Zs) in zip(picked[:-1], looked[:-1], picked[1:], strict=True)
    ]
    span, step, dropped = _lengths(run, times)
    bound, tangential, normal, rate = np.asarray([row[1:] for row in looked]).T
    return Diagnosis(
        t=np.asarray([t for t, _ in picked]),
        bound=bound,
        tangential=tangential,
        normal=normal,
        lipschitz=rate,
        mu=np.asarray([m for m in mu if m is not None]),
        span=span,
        h=_positive(h, "h") if h is not None else step,
        theta=_not_negative(theta, "theta") if theta is not None else dropped,
        rank=max(Y.rank for _, Ys in picked for Y in Ys if isinstance(Y, LowRank)),
        method=run.method if isinstance(run, Solution) else "",
        gradient=bool(gradient),
    )


# ---- along the trajectory


def _trajectory(run: Any) -> tuple[list[float], list[Any]]:
    """Times and states of what was given."""
    if isinstance(run, Solution):
        if not run.y:
            raise ValueError(
                "the Solution holds no states (save= replaced them): diagnose needs the states themselves"
            )
        return [float(t) for t in run.t], list(run.y)
    if isinstance(run, (str, bytes)) or not isinstance(run, Iterable):
        raise TypeError(f"run must be a Solution, or an iterable of (t, Y), got {type(run).__name__}")
    pairs = [(s.t, s.y) if hasattr(s, "errors") else s for s in run]
    if not pairs:
        raise ValueError("run holds no states; give at least one pair (t, Y)")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"run must hold pairs (t, Y) or states, got {type(pair).__name__}")
    return [_checks.check_number(t, "t") for t, _ in pairs], [Y for _, Y in pairs]


def _lengths(run: Any, times: list[float]) -> tuple[float, float, float]:
    """Length of the run, of its mean step, and what truncation dropped in the mean step."""
    if isinstance(run, Solution):
        start = run.t_start if math.isfinite(run.t_start) else times[0]
        span, steps = abs(run.t_final - start), max(run.nsteps, 1)
        total = float(np.asarray(run.errors.truncation)[-1])
        span = span or abs(times[-1] - times[0])
        if span == 0:
            raise ValueError("the run has no length: t_final is t_start")
        return span, span / steps, total / steps
    span = abs(times[-1] - times[0])
    if span == 0:
        raise ValueError(
            "run must hold states at two times at least; of a single one nothing can be said about errors"
        )
    return span, span / (len(times) - 1), 0.0


def _look(field: Field, t: float, Ys: tuple[Any, ...]) -> tuple[Any, float, float, float, float]:
    """F at a state, its norm, the norms of its tangential and normal part, and its rate of change."""
    Gs = _value(field, t, Ys)
    whole, normal = [], []
    for Y, G in zip(Ys, Gs, strict=True):
        if isinstance(Y, LowRank):
            size, outside = _norms(Y, G)
            whole.append(size)
            normal.append(min(outside, size))
        else:
            whole.append(norm(G))
    size, outside = math.hypot(*whole), math.hypot(*normal)
    tangential = math.sqrt(max(size**2 - outside**2, 0.0))
    rate = control.fastest_rate(lambda Zs: _value(field, t, Zs), Ys, Gs)
    return Gs, size, tangential, outside, rate


def _value(field: Field, t: float, Ys: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return field(t, Ys)
    except CallError as error:
        cause = error.__cause__
        assert cause is not None
        text = f"F raised {type(cause).__name__}: {cause}{operands_hint(cause)}"
        raise SolveError(f"diagnose: {StageError(t, 'start', text)}") from cause


def _norms(Y: LowRank, G: Value) -> tuple[float, float]:
    """‖G‖ and ‖(I - UUᴴ) G (I - VVᴴ)‖: exact for arrays and LowRank values, else estimated with Gaussian vectors."""
    matrix = G.matrix
    U, _, V = Y.factors
    if isinstance(matrix, LowRank):
        A, S, B = matrix.factors
        off = LowRank._make(A - U @ (H(U) @ A), S, B - V @ (H(V) @ B))
        return matrix.norm(), off.norm()
    if is_array(matrix):
        off = matrix - U @ (H(U) @ matrix)
        return norm(matrix), norm(off - (off @ V) @ H(V))
    size = norm(G @ gaussian(Y._V, PROBES, (1,))) / math.sqrt(PROBES)
    return size, control.normal_estimate(Y, G, (2,), PROBES)[0]


def _one_sided(field: Field, t: float, Ys: Any, Gs: Any, Zs: Any) -> float | None:
    """Re ⟨F(t, Z) - F(t, Y), Z - Y⟩ / ‖Z - Y‖²; None where the states are the same to rounding."""
    change = control.difference(Zs, Ys)
    size = math.hypot(*(Y.norm() if isinstance(Y, LowRank) else norm(Y) for Y in Ys))
    if change <= 1e3 * max(eps(Y._U if isinstance(Y, LowRank) else Y) for Y in Ys) * size:
        return None
    at = _value(field, t, Zs)
    total = 0.0
    for Y, Z, G, K in zip(Ys, Zs, Gs, at, strict=True):
        for X, sign in ((Z, 1.0), (Y, -1.0)):
            total += sign * (_inner(X, K) - _inner(X, G))
    return total / change**2


def _inner(X: Any, G: Any) -> float:
    """Re ⟨X, G⟩."""
    if isinstance(X, LowRank):
        U, S, V = X.factors
        return _sum_of_products(U @ S, G @ V)
    return _sum_of_products(X, G)


def _sum_of_products(A: Any, B: Any) -> float:
    xp = namespace(A)
    product = xp.conj(A) * B if "complex" in str(A.dtype) else A * B
    return float(xp.real(xp.sum(product))) if "complex" in str(product.dtype) else float(xp.sum(product))


def _grown(rate: float, span: float) -> float:
    """(e^{rate T} - 1)/rate: what an error rate of one adds up to."""
    x = rate * span
    return span if abs(x) < 1e-12 else span * math.expm1(min(x, 700.0)) / x


def _positive(value: Any, name: str) -> float:
    value = _checks.check_number(value, name)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value


def _not_negative(value: Any, name: str) -> float:
    value = _checks.check_number(value, name)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value}")
    return value
