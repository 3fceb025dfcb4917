"""Steppers for the small K-, L- and S-equations.

A substep is a callable ``substep(t, h, equation)`` that returns a generator: it yields lists of
:class:`~dlra.integrators.Ask`, receives values of F, and returns the increments X(t + h) - X(t) of the
unknowns of the :class:`~dlra.integrators.Equation`. Increments are accumulated from slopes, never formed as a
difference: they span the new directions of the basis, and a difference would lose them when h is small.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from dlra._factors import check_int
from dlra.backend import Array, all_finite, astype, dtype_name, eps, is_array, is_complex, namespace, norm
from dlra.errors import StageError
from dlra.integrators._equations import Equation
from dlra.integrators._protocol import Steps
from dlra.phi import Coordinates, SylvesterFlow

__all__ = ["TABLEAUX", "Adaptive", "Exponential", "RungeKutta", "Tableau", "resolve", "tableau"]

Slopes = list[Array]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta scheme.

    Parameters
    ----------
    a : sequence of rows
        Strictly lower triangular coefficients, shape (s, s); or without the zeros, row i of i entries.
    b : sequence, length s
        Weights; their sum is 1.
    order : int
        Order of convergence; it is believed, not checked.
    error : sequence, length s, optional
        Weights b - b̂ of the difference to an embedded scheme, for an error estimate; their sum is 0.

    Notes
    -----
    The nodes c are the row sums of a, the first column included.

    Examples
    --------
    >>> from dlra.substeps import Tableau
    >>> Tableau([[0, 0], [2 / 3, 0]], [1 / 4, 3 / 4], order=2).c
    (0.0, 0.6666666666666666)
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int
    error: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        set_field = functools.partial(object.__setattr__, self)  # the class is frozen
        set_field("b", _numbers("b", self.b))
        set_field("a", _strictly_lower(self.a, len(self.b)))
        if not math.isclose(sum(self.b), 1.0, rel_tol=1e-12):
            raise ValueError(f"the weights b of a Tableau must sum to 1, got {sum(self.b)}")
        set_field("order", check_int(self.order, "order of a Tableau"))
        if self.order < 1:
            raise ValueError(f"order of a Tableau must be at least 1, got {self.order}")
        if self.error is not None:
            set_field("error", _numbers("error", self.error))
            if len(self.error) != len(self.b) or abs(sum(self.error)) > 1e-12:
                raise ValueError(
                    f"error of a Tableau must be one weight of b - b̂ for each of {len(self.b)} stages, of sum 0, "
                    f"got {self.error}"
                )

    @property
    def c(self) -> tuple[float, ...]:
        """Nodes."""
        return tuple(float(sum(row)) for row in self.a)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """A row of a tableau as finite floats."""
    try:
        row = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise TypeError(f"{name} of a Tableau must be a sequence of numbers, got {values!r}") from None
    if not all(map(math.isfinite, row)):
        raise ValueError(f"{name} of a Tableau must be finite, got {row}")
    return row


def _strictly_lower(a: Any, stages: int) -> tuple[tuple[float, ...], ...]:
    """Rows of a tableau, row i of i entries; zeros on and above the diagonal may be given or left out."""
    try:
        rows = [_numbers(f"a[{i}]", row) for i, row in enumerate(a)]
    except TypeError as error:
        raise TypeError(f"a of a Tableau must be a matrix or a sequence of rows ({error})") from None
    if len(rows) != stages or any(len(row) not in (i, stages) for i, row in enumerate(rows)):
        raise ValueError(
            f"a Tableau needs rows a[i] of length i, or of length s with zeros from the diagonal on, and one weight "
            f"b[i] for each; got rows of lengths {[len(row) for row in rows]} and {stages} weights"
        )
    if any(any(row[i:]) for i, row in enumerate(rows)):
        raise ValueError(
            "the rows a of a Tableau have entries on or above the diagonal: the scheme is implicit, and only explicit "
            "ones serve here (strictly lower triangular a)"
        )
    return tuple(row[:i] for i, row in enumerate(rows))


EULER = Tableau(((),), (1.0,), 1)
HEUN = Tableau(((), (1.0,)), (0.5, 0.5), 2, (-0.5, 0.5))
"""With the Euler scheme embedded."""
HEUN3 = Tableau(((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), 3, (1 / 4, -1 / 2, 1 / 4))
"""K. Heun, Z. Math. Phys. 45 (1900) 23-38; embedded is the scheme of order 2 with weights 0, 1/2, 1/2."""
RK4 = Tableau(((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4)
BOGACKI_SHAMPINE = Tableau(
    ((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0.0),
    3,
    (-5 / 72, 1 / 12, 1 / 9, -1 / 8),
)
"""P. Bogacki and L. F. Shampine, Appl. Math. Lett. 2 (1989) 321-325."""
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

TABLEAUX: dict[str, Tableau] = {
    "rk4": RK4,
    "heun3": HEUN3,
    "heun2": HEUN,
    "euler": EULER,
    "bs3": BOGACKI_SHAMPINE,
    "dopri5": DORMAND_PRINCE,
}


def tableau(scheme: Any) -> Tableau:
    """Return the :class:`Tableau` with this name, or the Tableau itself.

    Raises
    ------
    ValueError
        Unknown name; the text lists the known ones.
    TypeError
        Neither a name nor a Tableau.
    """
    if isinstance(scheme, str):
        if scheme not in TABLEAUX:
            raise ValueError(f"unknown tableau {scheme!r}; known are {', '.join(TABLEAUX)}")
        return TABLEAUX[scheme]
    if not isinstance(scheme, Tableau):
        raise TypeError(
            f"tableau must be one of {', '.join(TABLEAUX)}, or a dlra.substeps.Tableau(a, b, order), got {scheme!r}"
        )
    return scheme


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
