"""Steppers for the small K-, L- and S-equations.

A substep is a callable ``substep(t, h, equation)`` that returns a generator: it yields lists of
:class:`~dlra.integrators.Ask`, receives values of F, and returns the increments X(t + h) - X(t) of the
unknowns of the :class:`~dlra.integrators.Equation`. Increments are accumulated from slopes, never formed as a
difference: they span the new directions of the basis, and a difference would lose them when h is small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dlra.backend import Array, all_finite, astype, dtype_name, eps, is_array, is_complex, namespace, norm
from dlra.errors import StageError
from dlra.integrators._equations import Equation
from dlra.integrators._protocol import Steps
from dlra.phi import Coordinates, SylvesterFlow

__all__ = ["Adaptive", "Exponential", "RungeKutta", "Tableau", "resolve"]

Slopes = list[Array]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta scheme.

    Parameters
    ----------
    a : tuple of tuples
        Strictly lower triangular coefficients; row i has i entries.
    b : tuple
        Weights.
    order : int
    error : tuple, optional
        Weights of the difference to an embedded scheme, for an error estimate.

    The nodes c are the row sums of a, the first column included.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int
    error: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.a) != len(self.b) or any(len(row) != i for i, row in enumerate(self.a)):
            raise ValueError("a Tableau needs rows a[i] of length i and one weight b[i] for each")
        if not math.isclose(sum(self.b), 1.0, rel_tol=1e-12):
            raise ValueError(f"the weights b of a Tableau must sum to 1, got {sum(self.b)}")

    @property
    def c(self) -> tuple[float, ...]:
        """Nodes."""
        return tuple(sum(row) for row in self.a)


EULER = Tableau(((),), (1.0,), 1)
HEUN = Tableau(((), (1.0,)), (0.5, 0.5), 2)
RK4 = Tableau(((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4)
DORMAND_PRINCE = Tableau(
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    5,
    (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)
"""J. R. Dormand and P. J. Prince, J. Comput. Appl. Math. 6 (1980) 19-26; the last stage is the first of the
next step."""


@dataclass(frozen=True)
class RungeKutta:
    """One step of an explicit Runge-Kutta scheme over the whole interval of the substep."""

    tableau: Tableau

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[Slopes]:
        slopes = yield from _stages(self.tableau, t, h, equation, equation.X, equation.first(t))
        return _combine(h, self.tableau.b, slopes)


@dataclass(frozen=True)
class Adaptive:
    """Dormand-Prince 5(4) with as many inner steps as the tolerance asks for; meant for tight reference runs.

    Parameters
    ----------
    rtol : float, optional
        Bound for the error of an inner step relative to the norm of all unknowns together; None for 1e-10 in
        double and 1e-5 in single precision.
    atol : float
        Absolute part of the bound.
    """

    rtol: float | None = None
    atol: float = 0.0

    def __post_init__(self) -> None:
        if self.rtol is not None and not 0 <= self.rtol < 1:
            raise ValueError(f"rtol of the adaptive substep must lie in [0, 1), got {self.rtol}")
        if not 0 <= self.atol < math.inf:
            raise ValueError(f"atol of the adaptive substep must be finite and >= 0, got {self.atol}")

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[Slopes]:
        X0 = equation.X
        rtol = (1e-10 if eps(X0[0]) < 1e-10 else 1e-5) if self.rtol is None else self.rtol
        tableau, end, step = DORMAND_PRINCE, t + h, h
        increments = [0.0 * X for X in X0]
        resolution = 4 * eps(X0[0]) * _norm(X0)  # of X0 + increments, also where X has decayed
        X, first = X0, equation.first(t)
        while True:
            last = abs(end - t) <= abs(step) * (1 + 1e-12)
            step = end - t if last else step
            if abs(step) <= 16 * math.ulp(max(abs(t), abs(end))):
                raise StageError(
                    t,
                    equation.stage,
                    "the adaptive substep needs steps below the resolution of t: the problem is stiff or singular "
                    'here; declare its stiff linear part (dlra.SemiLinear, substep="exponential")',
                )
            slopes = yield from _stages(tableau, t, step, equation, X, first)
            first = slopes[0]  # known, should the step be rejected
            trial = _combine(step, tableau.b, slopes)
            assert tableau.error is not None
            error = _norm(_combine(step, tableau.error, slopes))
            moved = [a + d for a, d in zip(increments, trial, strict=True)]
            new = [a + d for a, d in zip(X0, moved, strict=True)]
            bound = max(self.atol + rtol * max(_norm(X), _norm(new)), resolution)
            if error <= bound:
                t, X, increments, first = t + step, new, moved, slopes[-1]
                if last:
                    return increments
            growth = 5.0 if error == 0 else 0.9 * (bound / error) ** 0.2
            step *= min(5.0, max(0.2, growth)) if math.isfinite(growth) else 0.2


@dataclass(frozen=True)
class Exponential:
    """One step of an exponential Runge-Kutta scheme: the stiff linear part exactly, the rest to order 1 or 2.

    With F = 𝓛 + N: the exponential Euler step X + h phi₁(h𝓛) F(X) (order 1), followed by the correction
    h phi₂(h𝓛) (N₁ - N₀) (order 2; S. M. Cox and P. C. Matthews, J. Comput. Phys. 176 (2002) 430-455). Where
    no linear part is declared these are the Euler and Heun schemes.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order of the exponential substep must be 1 or 2, got {self.order}")

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[Slopes]:
        X0 = equation.X
        N0 = equation.first(t, rest=True)
        if N0 is None:
            (values,) = yield [equation.ask(t, X0)]
            N0 = equation.slopes(t, values, rest=True)
        flows = [_flow(pair, X) for pair, X in zip(equation.linear or [None] * len(X0), X0, strict=True)]
        F0 = [flow.apply(flow.enter(X)) + flow.enter(N) for flow, X, N in zip(flows, X0, N0, strict=True)]
        increments = [_leave(flow, h * flow.phi(h, F), X) for flow, F, X in zip(flows, F0, X0, strict=True)]
        if not all(all_finite(dX) for dX in increments):
            raise StageError(
                t, equation.stage, "the exponential of the stiff linear part overflows; reduce dt"
            )
        if self.order == 1 or equation.constant:  # with a constant N both orders are exact
            return increments
        (values,) = yield [equation.ask(t + h, [X + dX for X, dX in zip(X0, increments, strict=True)])]
        N1 = equation.slopes(t + h, values, rest=True)
        corrections = [
            _leave(flow, h * flow.phi(h, 0.0 * D, D), X)
            for flow, D, X in zip(
                flows, [f.enter(b - a) for f, a, b in zip(flows, N0, N1, strict=True)], X0, strict=True
            )
        ]
        return [dX + c for dX, c in zip(increments, corrections, strict=True)]


@dataclass(frozen=True)
class Auto:
    """Exponential where the field declares a stiff linear part, else the classical Runge-Kutta scheme."""

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[Slopes]:
        return (Exponential() if equation.linear is not None else RungeKutta(RK4))(t, h, equation)


NAMES: dict[str, Any] = {
    "auto": Auto(),
    "euler": RungeKutta(EULER),
    "heun": RungeKutta(HEUN),
    "rk4": RungeKutta(RK4),
    "adaptive": Adaptive(),
    "exponential": Exponential(2),
    "exponential-euler": Exponential(1),
}


def resolve(substep: Any) -> Any:
    """Return the substep with this name, or the object itself.

    Raises
    ------
    ValueError
        Unknown name; the text lists the known ones.
    TypeError
        Neither a name nor callable.
    """
    if isinstance(substep, str):
        if substep not in NAMES:
            raise ValueError(f"unknown substep {substep!r}; known are {', '.join(NAMES)}")
        return NAMES[substep]
    if isinstance(substep, type) or not callable(substep):
        raise TypeError(f"substep must be one of {', '.join(NAMES)}, or a substep object, got {substep!r}")
    return substep


def is_explicit(substep: Any, linear: bool) -> bool:
    """Whether a substep is one step of an explicit scheme, for a field with or without a stiff linear part."""
    return isinstance(substep, RungeKutta) or (isinstance(substep, Auto) and not linear)


def _stages(
    tableau: Tableau, t: float, h: float, equation: Equation, X: list[Array], first: Slopes | None
) -> Steps[list[Slopes]]:
    """The slopes of all stages from X."""
    slopes: list[Slopes] = []
    for c, row in zip(tableau.c, tableau.a, strict=True):
        if not slopes and first is not None:
            slopes.append(first)
            continue
        point = [x + d for x, d in zip(X, _combine(h, row, slopes), strict=True)] if slopes else X
        (values,) = yield [equation.ask(t + c * h, point)]
        slopes.append(equation.slopes(t + c * h, values))
    return slopes


def _combine(h: float, weights: tuple[float, ...], slopes: list[Slopes]) -> Slopes:
    """H times the weighted sum of slopes, per unknown; zero weights cost nothing."""
    used = [(h * w, k) for w, k in zip(weights, slopes, strict=True) if w != 0.0] or [(0.0, slopes[0])]
    out = []
    for i in range(len(slopes[0])):
        total = used[0][0] * used[0][1][i]
        for w, k in used[1:]:
            total += w * k[i]  # total is a new array, so that this may happen in place
        out.append(total)
    return out


def _norm(X: list[Array]) -> float:
    return math.hypot(*(norm(x) for x in X))


def _flow(pair: Any, X: Array) -> SylvesterFlow:
    if pair is None:
        return SylvesterFlow(None, None)
    left, right = (_coordinates(side, X) for side in pair)
    return SylvesterFlow(left, right)


def _coordinates(side: Any, like: Array) -> Coordinates | None:
    if side is None:
        return None
    return Coordinates.of(side) if is_array(side) else side.coordinates(like)


def _leave(flow: SylvesterFlow, Z: Array, like: Array) -> Array:
    """Back from coordinates, in the dtype of the unknown (a real unknown stays real)."""
    Z = flow.leave(Z)
    if is_complex(Z) and not is_complex(like):
        Z = namespace(Z).real(Z)
    return Z if dtype_name(Z.dtype) == dtype_name(like.dtype) else astype(Z, like.dtype)
