"""The small equations of a step: the K-, L- and S-equation of one state or of many coupled ones.

With Y = U S Vᴴ the three are

* K-equation: K' = F(t, K V₀ᴴ) V₀,        K(t₀) = U₀ S₀   (m x r)
* L-equation: L' = F(t, U₀ Lᴴ)ᴴ U₀,       L(t₀) = V₀ S₀ᴴ  (n x r)
* S-equation: S' = Uᴴ F(t, U S Vᴴ) V,     S(t₀) given     (r x r)

An :class:`Equation` carries the thin unknowns of all members, so that a substep advances them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlra.backend import Array, H, all_finite, hermitian_part, zeros
from dlra.errors import StageError
from dlra.integrators._protocol import Ask, Steps
from dlra.linalg import inner, times
from dlra.lowrank import BOTH, LEFT, RIGHT, LowRank

__all__ = ["Equation", "k_equation", "l_equation", "one_sided", "s_equation"]

Members = tuple[Any, ...]


class Equation:
    """X' = project(F(t, lift(X))) for a list X of thin arrays.

    Attributes
    ----------
    stage : str
        "K", "L" or "S".
    X : list of arrays, or of pairs of arrays
        Initial values; a pair stands for a product, formed when it is first wanted.
    linear : list or None
        Per unknown the pair (L, R) of the stiff linear part X' = L X + X R + ... in the coordinates of the
        equation (a StiffOperator or a small array each, None for a missing side), or None; None where no
        member has one.
    constant : bool
        Whether the slopes without the stiff linear part are constant.
    start : tuple of values or None
        F at the initial value, where it is already known.
    hermitian : list of bool
        Per unknown whether it is the Hermitian core of a one-sided member.
    increments : bool
        Whether the field knows only its integrals, which are the increments of the unknowns.
    deferred : bool
        Whether NaN and infinite slopes are noticed later, in the result of the step.
    """

    def __init__(
        self,
        stage: str,
        X: list[Array] | list[tuple[Array, Array]],
        lift: Callable[[list[Array]], Members],
        project: Callable[[Members, bool], list[Array]],
        linear: list[Any] | None,
        constant: bool,
        start: Members | None,
        hermitian: list[bool] | None = None,
        increments: bool = False,
        deferred: bool = False,
    ):
        self.stage, self.lift, self.linear, self.constant = stage, lift, linear, constant
        self._X: list[Any] = list(X)
        self.hermitian = hermitian or [False] * len(X)
        self.increments = increments
        self._deferred = deferred
        self._project = project
        self._start = start
        self._first: dict[bool, list[Array]] = {}

    @property
    def X(self) -> list[Array]:
        """Initial values."""
        for i, x in enumerate(self._X):
            if isinstance(x, tuple):
                self._X[i] = times(*x)
        return self._X

    @property
    def count(self) -> int:
        """Number of unknowns."""
        return len(self._X)

    def ask(self, t: float, X: list[Array]) -> Ask:
        """The question for F at lift(X)."""
        return Ask(self.stage, t, self.lift(X))

    def solved(self, t: float, h: float) -> Steps[list[Array]]:
        """The increments over [t, t + h], of a field that knows its integrals."""
        (values,) = yield [Ask(self.stage, t, self.lift(self.X), t + h)]
        return self.slopes(t, values)

    def slopes(self, t: float, values: Members, rest: bool = False) -> list[Array]:
        """Project values of F (``rest``: without its stiff linear part) to slopes of the unknowns."""
        slopes = self._project(values, rest)
        for slope in () if self._deferred else slopes:
            if not all_finite(slope):
                Y = next(iter(self.lift(self.X)))
                which = of_stack(Y._U, slope) if isinstance(Y, LowRank) else ""
                raise StageError(t, self.stage, f"F produced NaN or infinite values{which}")
        return slopes

    def first(self, t: float, rest: bool = False) -> list[Array] | None:
        """The slopes at the initial value (``rest``: without the stiff linear part), or None where F is not
        known there."""
        if self._start is None:
            return None
        if rest not in self._first:
            self._first[rest] = self.slopes(t, self._start, rest)
        return self._first[rest]


def k_equation(Ys: Members, field: Any, start: Members | None = None) -> Equation:
    """The K-equation from Ys = (U₀ S₀ V₀ᴴ, ...); ``start``: values of F at Ys, if known. Dense members stay fixed."""
    low = low_members(Ys)

    def lift(K: list[Array]) -> Members:
        out = list(Ys)
        for i, K_i in zip(low, K, strict=True):
            out[i] = LowRank._make(K_i, None, Ys[i]._V, RIGHT)
        return tuple(out)

    def project(values: Members, rest: bool) -> list[Array]:
        return [_product(values[i], Ys[i]._V, Ys[i]._U.shape[0], rest) for i in low]

    linear = None
    if field.linear:
        linear = [_k_linear(field.linear[i], Ys[i]) for i in low]
    return Equation(
        "K",
        [(Ys[i]._U, Ys[i].S) for i in low],
        lift,
        project,
        linear,
        _constant(field),
        start,
        increments=_increments(field),
        deferred=getattr(field, "deferred", False),
    )


def l_equation(Ys: Members, field: Any, start: Members | None = None) -> Equation:
    """The L-equation from Ys = (U₀ S₀ V₀ᴴ, ...); ``start``: values of F at Ys, if known. Dense members stay fixed.

    One-sided members are left out: there L = K.
    """
    low = [i for i in low_members(Ys) if not one_sided(Ys[i])]

    def lift(L: list[Array]) -> Members:
        out = list(Ys)
        for i, L_i in zip(low, L, strict=True):
            out[i] = LowRank._make(Ys[i]._U, None, L_i, LEFT)
        return tuple(out)

    def project(values: Members, rest: bool) -> list[Array]:
        return [_product(values[i], Ys[i]._U, Ys[i]._V.shape[0], rest, adjoint=True) for i in low]

    linear = None
    if field.linear:
        linear = [_l_linear(field.linear[i], Ys[i]) for i in low]
    return Equation(
        "L",
        [(Ys[i]._V, H(Ys[i].S)) for i in low],
        lift,
        project,
        linear,
        _constant(field),
        start,
        increments=_increments(field),
        deferred=getattr(field, "deferred", False),
    )


def s_equation(Ys: Members, field: Any, start: Members | None = None, backward: bool = False) -> Equation:
    """The S-equation in the bases of Ys, from their cores; dense members advance with it, as they are.

    ``backward`` gives S' = -Uᴴ F V for the cores (projector splitting); dense members advance forward all the
    same. The slopes of one-sided members are made Hermitian to the last bit.
    """
    hermitian = [one_sided(Y) for Y in Ys]
    sign = -1.0 if backward else 1.0

    def lift(X: list[Array]) -> Members:
        return tuple(
            LowRank._make(Y._U, X_i, Y._V, BOTH) if isinstance(Y, LowRank) else X_i
            for Y, X_i in zip(Ys, X, strict=True)
        )

    def project(values: Members, rest: bool) -> list[Array]:
        slopes = []
        for Y, value, sided in zip(Ys, values, hermitian, strict=True):
            if isinstance(Y, LowRank):
                slope = _compressed(value, Y, rest)
                slope = hermitian_part(slope) if sided else slope
                slopes.append(-slope if backward else slope)
            else:
                slopes.append(value)
        return slopes

    linear = None
    if field.linear:
        linear = [
            _s_linear(operators, Y, sign) if isinstance(Y, LowRank) else None
            for operators, Y in zip(field.linear, Ys, strict=True)
        ]
    return Equation(
        "S",
        cores_of(Ys),
        lift,
        project,
        linear,
        _constant(field),
        start,
        hermitian,
        _increments(field),
        getattr(field, "deferred", False),
    )


def of_stack(like: Array, A: Array) -> str:
    """Name the members of a stack (``like`` is a factor of it) for which A has a norm that is not finite."""
    if like.ndim == 2:
        return ""
    from dlra._stacks import members, not_finite

    return f" in {members(not_finite(A))} of the stack"


def _constant(field: Any) -> bool:
    return bool(field.linear) and field.constant_rest


def _increments(field: Any) -> bool:
    return getattr(field, "increments", False)


def cores_of(Ys: Members) -> list[Array]:
    """The unknowns of the S-equation: cores, and dense members as they are."""
    return [Y.S if isinstance(Y, LowRank) else Y for Y in Ys]


def low_members(Ys: Members) -> list[int]:
    """Which members are LowRank."""
    return [i for i, Y in enumerate(Ys) if isinstance(Y, LowRank)]


def one_sided(Y: Any) -> bool:
    """Tell whether a member is U S Uᴴ with Hermitian S under a symmetric field, so that one side stands for both.

    Inside a run this is so exactly where V *is* U, the very same array.
    """
    return isinstance(Y, LowRank) and Y._V is Y._U


def replaced(Ys: Members, indices: list[int], new: list[Any]) -> Members:
    """Ys with the members of these indices replaced."""
    out = list(Ys)
    for i, Y in zip(indices, new, strict=True):
        out[i] = Y
    return tuple(out)


def _product(value: Any, X: Array, height: int, rest: bool, adjoint: bool = False) -> Array:
    """G @ X or Gᴴ @ X, for the whole value or for its rest."""
    G = value.rest if rest else value
    if G is None:
        return zeros((height, X.shape[1]), X)
    return (G.H if adjoint else G) @ X


def _compressed(value: Any, Y: LowRank, rest: bool) -> Array:
    """UᴴGV in the bases of Y, for the whole value or for its rest."""
    G = value.rest if rest else value
    if G is None:
        return zeros((Y._U.shape[1], Y._V.shape[1]), Y._U)
    if hasattr(G, "compressed"):
        return G.compressed(Y._U, Y._V)
    return inner(Y._U, G @ Y._V)


def _k_linear(operators: Any, Y: LowRank) -> Any:
    """(E⁻¹A, V₀ᴴ B E⁻ᴴ V₀)."""
    if operators is None:
        return None
    left, right = operators
    return left, None if right is None else H(right.compressed(Y._V))


def _l_linear(operators: Any, Y: LowRank) -> Any:
    """(E⁻¹Bᴴ, (U₀ᴴ E⁻¹A U₀)ᴴ)."""
    if operators is None:
        return None
    left, right = operators
    return right, None if left is None else H(left.compressed(Y._U))


def _s_linear(operators: Any, Y: LowRank, sign: float) -> Any:
    """(Uᴴ E⁻¹A U, Vᴴ B E⁻ᴴ V), times the sign of the equation."""
    if operators is None:
        return None
    left, right = operators
    L = None if left is None else sign * left.compressed(Y._U)
    if one_sided(Y):
        return L, H(L)
    return L, None if right is None else sign * H(right.compressed(Y._V))
