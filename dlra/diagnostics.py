"""Which error bounds say something about a run: the constants of the theorems, estimated along its trajectory.

The bounds for low-rank integrators contain four constants: a bound B of F, its Lipschitz constant L, the part ε of F
that is normal to the tangent space, and the truncation tolerance ϑ. :func:`diagnose` measures what can be seen of them
at the states of a run and evaluates the bounds. A bound that is larger than what is known anyway says nothing, and is
listed as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra import _checks, control
from dlra._factors import check_int
from dlra._step import first_value, solve_error
from dlra.backend import H, dtype_name, eps, is_array, namespace, norm
from dlra.errors import SolveError, StageError
from dlra.field import Field, Value
from dlra.integrators import Ask
from dlra.integrators._base import state_norm
from dlra.lowrank import LowRank
from dlra.solution import Solution

__all__ = ["Bound", "Diagnosis", "diagnose"]

PROBES = 16
"""Gaussian vectors that estimate a norm where it cannot be computed."""

STEP = math.hypot(0.5 + math.sqrt(0.5), 1.0)
"""The local error of augmented BUG is at most STEP L B h² + ε h (docs, theory)."""

HNATIUK = "after A. Hnatiuk et al., Stochastic aspects of dynamical low-rank approximation, 2024"
SCHOTTHOEFER = "S. Schotthöfer et al., Low-rank lottery tickets, NeurIPS 2022, theorem 1"


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
    field_norm, tangential, normal : arrays, shape (k,)
        ‖F‖, ‖P(Y) F‖ and ‖F - P(Y) F‖ there (Frobenius norms over all members).
    lipschitz : array, shape (k,)
        How fast F changes there: the norm of its derivative, from differences of F by a few steps of the power method
        in directions of rank 1. Far from normal operators it is larger than this.
    mu : array
        Re ⟨F(t, Y) - F(t, Z), Y - Z⟩ / ‖Y - Z‖² for neighbouring states that differ: the one-sided Lipschitz constant,
        as far as the trajectory shows it; of -F for a run backward in time.
    dropped : array, shape (k,)
        What truncation dropped since the time before (the first: since the start of the run).
    start, span : float
        Where the run began, and its length.
    h : float
        Length of the steps; of steps of different lengths Σ h²/Σ h, which is what bounds of first order see.
    rank : int
        The largest rank at these times, over all members.
    full_rank : bool
        Whether the rank of every member is min(m, n) at the last of these times.
    method : str
    adaptive : bool
        Whether the run chose its steps by a tolerance.
    stiff : bool
        Whether F has a declared stiff linear part (:class:`dlra.SemiLinear`).
    gradient : bool
        Whether F is minus the gradient of a loss.

    Notes
    -----
    The theorems ask for constants everywhere; these are those of the visited states, so they are lower estimates, and a
    bound evaluated with them is an estimate of the bound.
    """

    t: np.ndarray
    field_norm: np.ndarray
    tangential: np.ndarray
    normal: np.ndarray
    lipschitz: np.ndarray
    mu: np.ndarray
    dropped: np.ndarray
    start: float
    span: float
    h: float
    rank: int
    full_rank: bool = False
    method: str = ""
    adaptive: bool = False
    stiff: bool = False
    gradient: bool = False

    @property
    def B(self) -> float:
        """The largest ‖F‖ seen."""
        return float(np.max(self.field_norm))

    @property
    def L(self) -> float:
        """The largest rate of change of F seen."""
        return float(max(np.max(self.lipschitz), np.max(abs(self.mu), initial=0.0)))

    @property
    def eps(self) -> float:
        """The largest normal component seen."""
        return float(np.max(self.normal))

    @property
    def theta(self) -> float:
        """What truncation dropped in a step, on average up to the last of these times."""
        elapsed = abs(self.t[-1] - self.start)
        return float(np.sum(self.dropped)) * self.h / elapsed if elapsed else 0.0

    @property
    def growth(self) -> float:
        """Growth rate of errors seen along the trajectory: the largest mu, or L where no two states differ."""
        return float(np.max(self.mu)) if len(self.mu) else self.L

    def local_error(self, h: float) -> float:
        """Return the bound of what a step of length h of augmented BUG adds, without truncation.

        1.57 L B h² + ε h: the local error bound of Hnatiuk et al., section 4, sharpened (docs, theory).
        """
        return STEP * self.L * self.B * h * h + self.eps * abs(h)

    @property
    def bounds(self) -> list[Bound]:
        """The bounds, evaluated for this run."""
        return _error_bounds(self) + ([_descent_bound(self)] if self.gradient else [])

    @property
    def advice(self) -> list[str]:
        """What the terms of the bounds say about the step, the truncation tolerance and the rank."""
        return _error_advice(self) + ([_descent_advice(self)] if self.gradient else [])

    def __str__(self) -> str:
        where = f"{len(self.t)} states of t = {self.t[0]:g} ... {self.t[-1]:g}"
        lines = [
            ", ".join(filter(None, (where, self.method)))
            + f": h = {self.h:.2g}, theta = {self.theta:.1e}, rank up to {self.rank}",
            f"  B   = {self.B:.3g}  (largest norm of F)",
            f"  L   = {self.L:.3g}  (its largest rate of change)",
            f"  mu  = {self.growth:.3g}  (one-sided, between neighbouring states)",
            f"  eps = {self.eps:.3g}  (largest normal component, {self.eps / self.B if self.B else 0:.1%} of B)",
            "  (seen at these states: lower estimates of the constants in the theorems)",
        ]
        bounds = self.bounds
        telling = [b for b in bounds if b.says_something]
        silent = [b for b in bounds if not b.says_something]
        name = self.method.split("(")[0]
        lines.append("bounds that say something:" if telling else "no bound says anything here.")
        for b in telling:
            other = f"; proved for {' and '.join(b.proved_for)}" if name and name not in b.proved_for else ""
            lines.append(f"  {b.promise} {b.value:.3g}: {b.name}{other}")
        if silent:
            lines.append("bounds that say nothing here, being above what is known without them:")
            lines += [f"  {b.name}: {b.value:.3g}, known: {b.trivial:.3g}" for b in silent]
        return "\n".join([*lines, *(f"- {text}" for text in self.advice)])


# ---- bounds


def _error_bounds(d: Diagnosis) -> list[Bound]:
    """Bounds of the error at the end."""
    projects = d.method.startswith("BUG(")  # fixed-rank BUG projects the start on the new bases
    trivial = (1 + math.sqrt(3) if projects else 2.0) * d.B * d.span + float(np.sum(d.dropped))
    if d.stiff:
        return [
            Bound(
                "the normal component and truncation alone, growth by mu",
                HNATIUK + ", section 4, without its term for the length of the steps",
                _summed(d, d.growth, d.normal),
                trivial,
                "apart from what the steps add, the error at the end is at most",
            )
        ]
    error = "the error at the end is at most"
    steps = STEP * d.lipschitz * d.field_norm * d.h
    Lh = d.lipschitz * d.h
    e = np.exp(np.minimum(Lh, 700.0))
    c1 = 2 * (1 + Lh * e) * (3 * e + 4)
    c2 = 2 * d.field_norm * d.lipschitz * ((1 + Lh * e) * (4 * e + 9) + e)
    return [
        Bound(
            "theorem 1 of Schotthöfer et al. as printed",
            SCHOTTHOEFER,
            _summed(d, d.L, c1 * d.normal + c2 * d.h),
            trivial,
            error,
            ("BUG", "AugmentedBUG"),
        ),
        Bound(
            "sharper constants, growth by L",
            HNATIUK + ", section 4, sharpened",
            _summed(d, d.L, steps + d.normal),
            trivial,
            error,
        ),
        Bound(
            "sharper constants, growth by mu, if all errors grow as those between neighbouring states",
            HNATIUK + ", section 4, sharpened",
            _summed(d, d.growth, steps + d.normal),
            trivial,
            error,
        ),
        Bound(
            "its normal component, growth by mu",
            HNATIUK + ", section 4, the term with ε",
            _summed(d, d.growth, d.normal, truncated=False),
            trivial,
            "of this, shorter steps alone do not remove",
        ),
    ]


def _summed(d: Diagnosis, growth: float, rates: np.ndarray, truncated: bool = True) -> float:
    """Errors that arise at these rates, and by truncation, grown to the end: Lady Windermere's fan."""
    elapsed = np.abs(np.concatenate(([d.start], d.t)) - d.start)
    elapsed = np.append(elapsed, d.span)
    weight = np.exp(np.minimum(growth * (d.span - elapsed), 700.0))
    total = float(np.trapezoid(weight * np.concatenate((rates[:1], rates, rates[-1:])), elapsed))
    if truncated:  # each loss counts from the worse end of its interval
        total += float(np.sum(np.maximum(weight[:-2], weight[1:-1]) * d.dropped))
    return total


def _descent_terms(d: Diagnosis) -> tuple[np.ndarray, np.ndarray, str]:
    """Per state what a short step gains in the loss, a unit of time; the factor of h² that it loses; the theorem."""
    euler = "substep='euler'" in d.method
    curvature = (0.5 if euler else 2.0) * d.lipschitz * d.field_norm**2
    misses = 0.0 if d.method.startswith("ParallelBUG") else d.normal**2
    return d.tangential**2 - misses, curvature, "theorem 5.3" if euler else "theorem 5.1"


def _descent_bound(d: Diagnosis) -> Bound:
    """-h (‖PF‖² - ε²) + h² c L B² + B ϑ at the worst state; c is 1/2 for Euler substeps, 2 for exact ones."""
    gain, curvature, theorem = _descent_terms(d)
    change = -d.h * gain + d.h**2 * curvature + d.field_norm * d.theta
    return Bound(
        f"{theorem} of Hnatiuk et al., sharpened",
        HNATIUK + f", {theorem}",
        float(np.max(change)),
        0.0,
        "a step changes the loss by at most",
        ("AugmentedBUG", "ParallelBUG"),
    )


# ---- advice


def _error_advice(d: Diagnosis) -> list[str]:
    h, tolerances = d.h, "rtol or atol of the method"
    steps = 0.0 if d.stiff else d.local_error(h) / h - d.eps
    noise = 1e3 * np.finfo(np.float64).eps * d.B
    normal = float(np.mean(d.normal))
    terms = {"the length of the steps": steps, "the normal component of F": normal, "truncation": d.theta / h}
    total = sum(terms.values())
    said = []
    if d.stiff:
        said.append(
            "F has a stiff part that is integrated exactly: the bounds contain its rate L and do not cover that; judge "
            "the steps by their error estimate (solve with rtol in the place of dt)"
        )
    if total <= noise:
        return [
            *said,
            "F hardly changes the state" if d.B == 0 else "the bound is at the level of rounding errors",
        ]
    largest = max(terms, key=lambda name: terms[name])
    said.append(
        f"{terms[largest] / total:.0%} of the bound is due to {largest}; per unit of time: {steps:.1e} from the steps, "
        f"{normal:.1e} from the normal component, {d.theta / h:.1e} from truncation"
    )
    if not d.stiff and d.L * h > 1:
        said.append(
            f"L h = {d.L * h:.1e}: the fastest part of F is not resolved; declare it (dlra.SemiLinear) or solve it "
            f"implicitly, or take steps below {1 / d.L:.1e}"
        )
    shorter = "a smaller rtol" if d.adaptive else "a smaller dt"
    if largest == "truncation":
        said.append(f"take a smaller {tolerances}: a step should drop less than {steps * h + normal * h:.1e}")
    elif largest == "the length of the steps":
        limit = h * (normal + terms["truncation"]) / steps
        until = f", down to steps of about {limit:.1e}" if limit > 1e-3 * h else ""
        said.append(f"{shorter} lowers the bound{until}")
    if normal > 0.05 * total and d.full_rank:
        said.append(
            "the rank is full at the end: the normal component belongs to earlier states; start with more"
        )
    elif normal > 0.05 * total and "tol=" in d.method:
        said.append(
            f"new directions of size h eps = {h * normal:.1e} are lost where that is below the truncation tolerance: "
            f"if the rank does not grow, a smaller {tolerances} lowers eps, and shorter steps do not"
        )
    elif normal > 0.05 * total:
        said.append(f"the rank {d.rank} leaves a part of F out: a higher one helps, shorter steps do not")
    return said


def _descent_advice(d: Diagnosis) -> str:
    """Below which ϑ and h the loss is promised to fall."""
    gain, curvature, _ = _descent_terms(d)
    if np.min(gain) <= 0:
        parallel = d.method.startswith("ParallelBUG")
        remedy = "" if parallel else "; the parallel integrator does without that term"
        return (
            "where the normal component of the gradient is as large as the tangential one, no descent is promised"
            + remedy
        )
    longest = float(np.min(gain / np.maximum(curvature, 1e-300)))
    room = float(np.min((d.h * gain - d.h**2 * curvature) / d.field_norm))
    return f"the loss is promised to fall for steps below {longest:.1e}" + (
        f" and, at the present ones, truncation below {room:.1e}" if room > 0 else ""
    )


def diagnose(
    F: Any,
    run: Solution | Iterable[Any],
    *,
    args: tuple[Any, ...] = (),
    max_states: int = 20,
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
    max_states : int
        Look at so many of them at most: the first two, where the rank may jump, and others evenly spaced. Each costs
        about eight evaluations of F.
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
    if check_int(max_states, "max_states") < 2:
        raise ValueError(f"max_states must be at least 2, the number of states to look at, got {max_states}")
    times, members = _trajectory(run)
    if isinstance(members[0], LowRank) and members[0].ndim == 3:
        raise TypeError(
            "diagnose looks at one problem, and the states are stacks; give its own field and solution.member(i)"
        )
    _, system = _checks.check_state(members[0])
    last, count = len(times) - 1, min(max_states, len(times))
    others = np.linspace(1, last, count - 1) if count > 2 else [last]
    chosen = np.unique([0, *np.round(others).astype(int)])
    picked = [(times[i], _alike(members[i], members[0], i)) for i in chosen]
    field = Field(F, picked[0][1], args, system)
    if field.increments:
        raise TypeError("Increments gives integrals only; diagnose needs values of F: give F = A' itself")
    largest = max(state_norm(Ys) for _, Ys in picked) or 1.0
    looked = [_look(field, t, Ys, largest) for t, Ys in picked]
    forward = 1.0 if times[-1] >= times[0] else -1.0
    mu = [
        _one_sided(field, t, Ys, G, Zs)
        for (t, Ys), (G, *_), (_, Zs) in zip(picked[:-1], looked[:-1], picked[1:], strict=True)
    ]
    start, span, step, dropped = _lengths(run, times, chosen)
    step = _positive(h, "h") if h is not None else step
    if theta is not None:
        taken = np.diff([times[i] for i in chosen], prepend=start)
        dropped = _not_negative(theta, "theta") / step * np.abs(taken)
    norms, tangential, normal, rate = np.asarray([row[1:] for row in looked]).T
    low = [Y for Y in picked[-1][1] if isinstance(Y, LowRank)]
    return Diagnosis(
        t=np.asarray([t for t, _ in picked]),
        field_norm=norms,
        tangential=tangential,
        normal=normal,
        lipschitz=rate,
        mu=np.asarray([forward * m for m in mu if m is not None]),
        dropped=dropped,
        start=start,
        span=span,
        h=step,
        rank=max((Y.rank for _, Ys in picked for Y in Ys if isinstance(Y, LowRank)), default=0),
        full_rank=bool(low) and all(Y.rank == min(Y.shape) for Y in low),
        method=run.method if isinstance(run, Solution) else "",
        adaptive=isinstance(run, Solution) and bool(np.isfinite(np.asarray(run.errors.time)[-1])),
        stiff=bool(field.linear),
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
    times = [_checks.check_number(t, "t") for t, _ in pairs]
    for i, t in enumerate(times):
        if not math.isfinite(t):
            raise ValueError(f"the times of run must be finite, got {t} at position {i}")
    return times, [Y for _, Y in pairs]


def _alike(Y: Any, first: Any, i: int) -> tuple[Any, ...]:
    """The members of a state, which must be those of the first one in shape and dtype."""
    (Ys, system), (Zs, whole) = _checks.check_state(Y), _checks.check_state(first)
    kinds = [[(tuple(Z.shape), dtype_name(Z.dtype)) for Z in several] for several in (Ys, Zs)]
    if system != whole or kinds[0] != kinds[1]:
        raise ValueError(
            f"all states of run must be of one kind, but that at position {i} has shapes and dtypes {kinds[0]} and the "
            f"first one {kinds[1]}"
        )
    return tuple(Ys)


def _lengths(run: Any, times: list[float], chosen: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Start and length of the run, length of its steps, and what truncation dropped up to each of the chosen states."""
    if not isinstance(run, Solution):
        span = abs(times[-1] - times[0])
        if span == 0:
            raise ValueError(
                "run must hold states at two times at least; of one nothing can be said about errors"
            )
        return times[0], span, span / (len(times) - 1), np.zeros(len(chosen))
    start = run.t_start if math.isfinite(run.t_start) else times[0]
    span = abs(run.t_final - start)
    if span == 0:
        raise ValueError("the run has no length: t_final is t_start")
    steps = np.abs(np.diff(times))
    every = len(steps) == run.nsteps  # all states are stored, the initial one too
    h = float(np.sum(steps**2) / np.sum(steps)) if every else span / max(run.nsteps, 1)
    return start, span, h, np.diff(np.asarray(run.errors.truncation, dtype=np.float64)[chosen], prepend=0.0)


def _look(
    field: Field, t: float, Ys: tuple[Any, ...], largest: float
) -> tuple[Any, float, float, float, float]:
    """F at a state, its norm, the norms of its tangential and normal part, and its rate of change.

    ``largest`` is the norm of the largest state of the run: one of them may be zero.
    """
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
    share = min(outside / size, 1.0) if size else 0.0
    tangential = size * math.sqrt((1 - share) * (1 + share))
    rate = control.fastest_rate(lambda Zs: _value(field, t, Zs), Ys, Gs, largest)
    if not math.isfinite(size + outside + rate):
        text = "F produced NaN or infinite values at this state or near it"
        raise SolveError(f"diagnose: {StageError(t, 'start', text)}")
    return Gs, size, tangential, outside, rate


def _value(field: Field, t: float, Ys: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return first_value(field, Ask("start", t, Ys), 0)
    except StageError as error:
        raise solve_error(error, "diagnose") from error.__cause__


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
    return control.size_estimate(Y, G, PROBES), control.normal_estimate(Y, G, (2,), PROBES)[0]


def _one_sided(field: Field, t: float, Ys: Any, Gs: Any, Zs: Any) -> float | None:
    """Re ⟨F(t, Z) - F(t, Y), Z - Y⟩ / ‖Z - Y‖²; None where the states are the same to rounding."""
    change = control.difference(Zs, Ys)
    size = math.hypot(*(Y.norm() if isinstance(Y, LowRank) else norm(Y) for Y in Ys))
    if change <= 1e3 * max(eps(Y._U if isinstance(Y, LowRank) else Y) for Y in Ys) * size:
        return None
    at = _value(field, t, Zs)
    total = 0.0
    for Y, Z, G, K in zip(Ys, Zs, Gs, at, strict=True):
        for X, scale in ((Z, 1.0 / change), (Y, -1.0 / change)):
            total += _inner(X * scale, K) - _inner(X * scale, G)
    return total / change


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
