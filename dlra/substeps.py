"""Steppers for the small K-, L- and S-equations.

A substep is a callable ``substep(t, h, equation)`` that returns a generator: it yields lists of
:class:`~dlra.integrators.Ask`, receives values of F, and returns the increments X(t + h) - X(t) of the
unknowns of the :class:`~dlra.integrators.Equation`. Increments are accumulated from slopes, never formed as a
difference: they span the new directions of the basis, and a difference would lose them when h is small.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dlra._factors import check_int
from dlra.backend import Array, all_finite, eps, norm, tight
from dlra.errors import StageError
from dlra.integrators._equations import Equation
from dlra.integrators._protocol import Steps
from dlra.krylov import NoConvergence
from dlra.sylvester import Sylvester

__all__ = ["TABLEAUX", "Adaptive", "Exponential", "Implicit", "RungeKutta", "Tableau", "resolve", "tableau"]

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

    @functools.cached_property
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
        return _stages(self.tableau, t, h, equation, None, equation.first(t), self.tableau.b)


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
        rtol = tight(X0[0]) if self.rtol is None else self.rtol
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


def _check_rtol(rtol: float | None, what: str) -> None:
    if rtol is not None and not 0 < rtol < 1:
        raise ValueError(f"rtol of {what} must lie in (0, 1), got {rtol}")


@dataclass(frozen=True)
class Exponential:
    """One step of an exponential Runge-Kutta scheme: the stiff linear part exactly, the rest to order 1 or 2.

    With F = 𝓛 + N: the exponential Euler step X + h phi₁(h𝓛) F(X) (order 1), followed by the correction
    h phi₂(h𝓛) (N₁ - N₀) (order 2; S. M. Cox and P. C. Matthews, J. Comput. Phys. 176 (2002) 430-455). Where
    no linear part is declared these are the Euler and Heun schemes.

    Parameters
    ----------
    order : {2, 1}
    rtol : float, optional
        Tolerance of the Krylov approximations for large operators; None for 1e-10 in double and 1e-5 in single
        precision.
    """

    order: int = 2
    rtol: float | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order of the exponential substep must be 1 or 2, got {self.order}")
        _check_rtol(self.rtol, "the exponential substep")

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[Slopes]:
        X0, operators = equation.X, _operators(equation, self.rtol)
        N0 = yield from _first_rest(t, equation)
        with _failing(t, equation, self):
            increments = [h * L.phi1(h, L.image(X) + N) for L, X, N in zip(operators, X0, N0, strict=True)]
        if not all(all_finite(dX) for dX in increments):
            raise StageError(
                t, equation.stage, "the exponential of the stiff linear part overflows; reduce dt"
            )
        if self.order == 1 or equation.constant:  # with a constant N both orders are exact
            return increments
        (values,) = yield [equation.ask(t + h, _sums(X0, increments))]
        N1 = equation.slopes(t + h, values, rest=True)
        with _failing(t, equation, self):
            corrections = [h * L.phi2(h, b - a) for L, a, b in zip(operators, N0, N1, strict=True)]
        return _sums(increments, corrections)


_GAMMA = 1.0 - math.sqrt(0.5)
_DELTA = 1.0 - 1.0 / (2.0 * _GAMMA)


@dataclass(frozen=True)
class Implicit:
    """One step of an implicit-explicit Runge-Kutta scheme of order 2: the stiff linear part implicitly and L-stably,
    the rest explicitly.

    With F = 𝓛 + N, gamma = 1 - 1/√2 and delta = 1 - 1/(2 gamma):

        (I - gamma h 𝓛) D₁ = gamma h (𝓛X + N₀),                                      N₁ = N(t + gamma h, X + D₁)
        (I - gamma h 𝓛) D₂ = h ((1 - gamma) 𝓛(X + D₁) + gamma 𝓛X + delta N₀ + (1 - delta) N₁)

    and the increment is D₂: the scheme (2, 2, 2) of U. M. Ascher, S. J. Ruuth, R. J. Spiteri, Implicit-explicit
    Runge-Kutta methods for time-dependent partial differential equations, Appl. Numer. Math. 25 (1997) 151-167. Where
    no linear part is declared it is an explicit scheme of order 2.

    Parameters
    ----------
    rtol : float, optional
        Tolerance of the Krylov solves for large operators; None for 1e-10 in double and 1e-5 in single precision.
    """

    rtol: float | None = None

    def __post_init__(self) -> None:
        _check_rtol(self.rtol, "the implicit substep")

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[Slopes]:
        X0, operators = equation.X, _operators(equation, self.rtol)
        N0 = yield from _first_rest(t, equation)
        with _failing(t, equation, self):
            LX = [L.image(X) for L, X in zip(operators, X0, strict=True)]
            D1 = [
                L.resolvent(_GAMMA * h, _GAMMA * h * (image + N))
                for L, image, N in zip(operators, LX, N0, strict=True)
            ]
        N1 = N0
        if not equation.constant:
            (values,) = yield [equation.ask(t + _GAMMA * h, _sums(X0, D1))]
            N1 = equation.slopes(t + _GAMMA * h, values, rest=True)
        with _failing(t, equation, self):
            return [
                L.resolvent(
                    _GAMMA * h, h * (image + (1 - _GAMMA) * L.image(D) + _DELTA * a + (1 - _DELTA) * b)
                )
                for L, image, D, a, b in zip(operators, LX, D1, N0, N1, strict=True)
            ]


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
    "implicit": Implicit(),
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
    return isinstance(substep, RungeKutta) or (
        isinstance(substep, (Auto, Exponential, Implicit)) and not linear
    )


def _stages(
    tableau: Tableau,
    t: float,
    h: float,
    equation: Equation,
    X: list[Array] | None,
    first: Slopes | None,
    weights: tuple[float, ...] | None = None,
) -> Steps[Any]:
    """The slopes of all stages from X, or from the initial value; with weights, h times their weighted sum.

    A declared linear part is applied in the coordinates of the equation, where its small side is projected once and
    for all stages.
    """
    slopes: list[Slopes] = []
    operators = None if equation.linear is None else _operators(equation, None)
    for c, row in zip(tableau.c, tableau.a, strict=True):
        if not slopes and first is not None:
            slopes.append(first)
            continue
        X = equation.X if X is None else X
        point = [x + d for x, d in zip(X, _combine(h, row, slopes), strict=True)] if slopes else X
        (values,) = yield [equation.ask(t + c * h, point)]
        stage = equation.slopes(t + c * h, values, rest=operators is not None)
        if operators is not None:
            stage = _sums([L.image(x) for L, x in zip(operators, point, strict=True)], stage)
        slopes.append(stage)
    return slopes if weights is None else _combine(h, weights, slopes)


def _combine(h: float, weights: tuple[float, ...], slopes: list[Slopes]) -> Slopes:
    """H times the weighted sum of slopes, per unknown; zero weights cost nothing."""
    out = None
    for w, k in zip(weights, slopes, strict=True):
        if w == 0.0:
            continue
        c = h * w
        if out is None:
            out = [c * x for x in k]
        else:
            for i, x in enumerate(k):
                out[i] += c * x  # a new array, so that this may happen in place
    return [0.0 * x for x in slopes[0]] if out is None else out


def _norm(X: list[Array]) -> float:
    return math.hypot(*(norm(x) for x in X))


def _sums(X: Slopes, Y: Slopes) -> Slopes:
    return [x + y for x, y in zip(X, Y, strict=True)]


def _operators(equation: Equation, rtol: float | None) -> list[Sylvester]:
    """The stiff linear part of each unknown."""
    pairs = equation.linear or [None] * len(equation.X)
    return [Sylvester(pair, X, rtol) for pair, X in zip(pairs, equation.X, strict=True)]


def _first_rest(t: float, equation: Equation) -> Steps[Slopes]:
    """The slopes at the initial value without the stiff linear part."""
    known = equation.first(t, rest=True)
    if known is not None:
        return known
    (values,) = yield [equation.ask(t, equation.X)]
    return equation.slopes(t, values, rest=True)


@contextlib.contextmanager
def _failing(t: float, equation: Equation, substep: Any) -> Iterator[None]:
    """Name the time and the stage of a failure in the stiff linear part."""
    try:
        yield
    except NoConvergence as error:
        raise StageError(
            t,
            equation.stage,
            f"{error}; take a smaller step, give A and B with solves (sparse matrices, or dlra.Action with solve=...) "
            f"where they have none, or loosen substep=dlra.substeps.{type(substep).__name__}(rtol=...)",
        ) from None
