"""The projected exponential Runge-Kutta methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from dlra import linalg
from dlra.backend import Array, H, hermitian_part, is_complex, namespace, norm, tight
from dlra.errors import StageError
from dlra.integrators._base import Members, RankAdaptive, state_norm
from dlra.integrators._equations import one_sided
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._runge_kutta import checked, low_rank_sum, tangent_vector
from dlra.krylov import SHIFT, NoConvergence, two_sided_function
from dlra.lowrank import BOTH, LowRank
from dlra.phi import Coordinates, SylvesterFlow


@dataclass(frozen=True, repr=False)
class ProjectedExponential(RankAdaptive):
    """The projected exponential Runge-Kutta methods PERK1 and PERK2 for Ẏ = 𝓛(Y) + G(t, Y), 𝓛(Y) = A Y + Y B.

    One step from Y₀ of rank r, with R the truncated SVD and P(Y) the projection onto the tangent space at Y:

    1. E = e^{h𝓛} Y₀ + h phi₁(h𝓛) P(Y₀) G(t₀, Y₀); PERK1 ends with Y₁ = R(E).
    2. Ỹ = R(E), Y₁ = R(E + h phi₂(h𝓛) [P(Ỹ) G(t₁, Ỹ) - P(Y₀) G(t₀, Y₀)]).

    The functions of 𝓛 are taken from rational Krylov subspaces for A and for Bᴴ, which begin with the ranges of their
    arguments and grow until the change is below ``krylov_rtol``; the small equation in them is solved exactly.

    Parameters
    ----------
    order : {2, 1}
    krylov_rtol : float, optional
        Tolerance of the functions of 𝓛, relative to Y₀ and their results; None for 1e-10 in double and 1e-5 in
        single precision.
    rtol, atol : float
        Truncation tolerance theta = max(atol, rtol ‖Y‖_F): the norm of what R may drop. Not a tolerance of the time
        step.
    min_rank, max_rank : int
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given.

    Notes
    -----
    Order 1 and 2 independent of the stiffness of 𝓛 (order 2 proved under conditions on G) against the flow of
    P(Y)(𝓛(Y) + G); 𝓛(Y) is tangent at Y, so that only G is projected. Robust to small singular values; keeps symmetry.
    Without a declared linear part (:class:`dlra.SemiLinear`) these are the projected Euler and Heun schemes. The bases
    of the Krylov subspaces have several times 2r (6r) columns: a step costs several steps of :class:`AugmentedBUG`.

    References
    ----------
    B. Carrel, B. Vandereycken, Projected exponential methods for stiff dynamical low-rank approximation problems,
    arXiv:2312.00172.
    """

    name: ClassVar[str] = "projected-exponential"
    keeps_symmetry: ClassVar[bool] = True

    order: int = 2  # pyright: ignore[reportIncompatibleVariableOverride]
    krylov_rtol: float | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2) or isinstance(self.order, bool):
            raise ValueError(f"order of ProjectedExponential must be 1 or 2, got {self.order!r}")
        if self.krylov_rtol is not None and not 0 < self.krylov_rtol < 1:
            raise ValueError(f"krylov_rtol must lie in (0, 1), got {self.krylov_rtol!r}")
        super().__post_init__()

    def is_explicit(self, field: Any) -> bool:
        return not field.linear

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        (F0,) = yield [Ask("start", t, Ys)]
        Z0 = tuple(_projected_rest(t, 0, Y, F) for Y, F in zip(Ys, F0, strict=True))
        operators = field.linear or (None,) * len(Ys)
        E = tuple(
            self._function(t, h, pair, _flow_of_sum, Y, Z)
            for pair, Y, Z in zip(operators, Ys, Z0, strict=True)
        )
        Y1, discarded = self._retracted(Ys, E)
        if self.order == 1:
            return StepResult(Y1, discarded)

        (F1,) = yield [Ask("stage 2", t + h, Y1)]
        Z1 = tuple(_projected_rest(t + h, 1, Y, F) for Y, F in zip(Y1, F1, strict=True))
        sizes = [state_norm((Y,)) for Y in Ys]
        D = tuple(
            _difference(Y, a, b, 0.1 * self._tolerance(Y) / abs(h))
            for Y, a, b in zip(Ys, Z1, Z0, strict=True)
        )
        C = tuple(
            self._function(t, h, pair, _correction, Z, Z, size)
            for pair, Z, size in zip(operators, D, sizes, strict=True)
        )
        total = tuple(
            _joined(low_rank_sum(a, 1.0, (1.0,), [b], None, False)) if isinstance(a, LowRank) else a + b
            for a, b in zip(E, C, strict=True)
        )
        Y1, discarded = self._retracted(Ys, total)
        return StepResult(Y1, discarded)

    def _tolerance(self, Y: Any) -> float:
        if self.krylov_rtol is not None:
            return self.krylov_rtol
        return tight(Y._U if isinstance(Y, LowRank) else Y)

    def _retracted(self, Ys: Members, Zs: Members) -> tuple[Members, float]:
        return self.truncated(Ys, Zs, [Z.S if isinstance(Z, LowRank) else Z for Z in Zs])

    def _function(
        self,
        t: float,
        h: float,
        pair: Any,
        function: Callable[..., Array],
        Y: Any,
        Z: Any,
        size: float = 1e-300,
    ) -> Any:
        """``function`` of h𝓛 and the coordinates of Y and Z in common bases, as a LowRank with orthonormal bases."""
        left, right = (None, None) if pair is None else pair
        if not isinstance(Y, LowRank):
            return function(SylvesterFlow(None, None), h, Y, Z)
        U, V, y, z = _common_bases(Y, Z)

        def small(A: Coordinates, B: Coordinates) -> Array:
            flow, shape = SylvesterFlow(A, B), (A.rows, B.rows)
            a, b = (flow.enter(linalg.embed(core, *shape)) for core in (y, z))
            core = flow.leave(function(flow, h, a, b), not is_complex(U))
            core = core if is_complex(U) or not is_complex(core) else namespace(core).real(core)
            return hermitian_part(core) if V is U else core

        try:
            Q, core, P = two_sided_function(left, right, U, V, SHIFT * h, small, self._tolerance(Y), size)
        except NoConvergence as error:
            raise StageError(t, "linear part", f"{error}; reduce dt, or loosen krylov_rtol") from None
        return LowRank._make(Q, core, P, BOTH)


def _flow_of_sum(flow: SylvesterFlow, h: float, Y: Array, Z: Array) -> Array:
    """e^{h𝓛} Y + h phi₁(h𝓛) Z = Y + h phi₁(h𝓛) (𝓛(Y) + Z)."""
    return Y + h * flow.phi(h, flow.apply(Y) + Z)


def _correction(flow: SylvesterFlow, h: float, _: Array, Z: Array) -> Array:
    """The correction h phi₂(h𝓛) Z."""
    return h * flow.phi(h, 0.0 * Z, Z)


def _projected_rest(t: float, i: int, Y: Any, F: Any) -> Any:
    """P(Y) G with G the value F without the stiff linear part; F itself for a dense member."""
    if not isinstance(Y, LowRank):
        checked(t, i, F)
        return F
    G = F.rest
    if G is None:
        return 0.0 * Y
    C = G @ Y._V
    R = C if one_sided(Y) else G.H @ Y._U
    checked(t, i, C, R)
    return tangent_vector(Y, C, R, H(Y._U) @ C)


def _difference(Y: Any, a: Any, b: Any, negligible: float) -> Any:
    """Return a - b with orthonormal bases, without a part of at most ``negligible`` times ‖Y‖."""
    if not isinstance(Y, LowRank):
        return a - b
    bases, core, _ = low_rank_sum(a, 1.0, (-1.0,), [b], None, False)
    return linalg.svd_truncate(bases, bases._U, core, bases._V, 0.0, negligible * norm(Y.S), 1, None)[0]


def _joined(parts: tuple[LowRank, Array, float]) -> LowRank:
    bases, core, _ = parts
    return LowRank._make(bases._U, core, bases._V, BOTH)


def _common_bases(Y: LowRank, Z: LowRank) -> tuple[Array, Array, Array, Array]:
    """Orthonormal bases U and V of the ranges of Y (whose bases lead) and Z, and the cores of both in them."""
    if Z is Y:
        return Y._U, Y._V, Y.S, Y.S
    r = Y.rank  # tangent vectors at Y begin with its bases
    U = linalg.augment(Y._U, Z._U[:, r:])
    V = U if one_sided(Y) else linalg.augment(Y._V, Z._V[:, r:])
    core = (H(U) @ Z._U) @ Z.S @ H(H(V) @ Z._V)
    return U, V, linalg.embed(Y.S, *core.shape), core
