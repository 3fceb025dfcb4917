"""Interpolatory projected Runge-Kutta methods (PRK-DEIM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.backend import H
from dlra.integrators._base import Members
from dlra.integrators._equations import one_sided
from dlra.integrators._indices import Indices, check_oversampling
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._runge_kutta import ExplicitRungeKutta, checked, stage, tangent_vector
from dlra.lazy import take
from dlra.lowrank import LowRank


@dataclass(frozen=True, repr=False)
class InterpolatoryRungeKutta(ExplicitRungeKutta):
    """The projected Runge-Kutta methods with oblique projections, which look at a few rows and columns of F.

    With the tableau (a, b, c), and R the truncated singular value decomposition, at the stages i = 1, ..., s from
    Y₁ = Y₀:

    1. Yᵢ = U S Vᴴ; row indices p = QDEIM(U), column indices q = QDEIM(V); M = U U[p]⁺, N = V V[q]⁺.
    2. Zᵢ = M F[p, :] + (F[:, q] - M F[p, q]) Nᴴ with F = F(t₀ + cᵢh, Yᵢ): the projection onto the tangent space at
       Yᵢ that interpolates F at the rows p and the columns q.
    3. Yᵢ₊₁ = R(Y₀ + h Σⱼ aᵢ₊₁,ⱼ Zⱼ), and at last Y(t₁) ≈ R(Y₀ + h Σⱼ bⱼ Zⱼ).

    Parameters
    ----------
    tableau : str or Tableau
        "rk4", "heun3", "heun2", "euler", "bs3", "dopri5", or a :class:`dlra.substeps.Tableau`.
    oversampling : int
        How many rows and columns are looked at beyond r; the projection then fits them by least squares.
    rtol, atol : float, or one per member of a system
        Truncation tolerance max(atol, rtol ‖Y‖_F) of every R. Not a tolerance of the time step.
    min_rank, max_rank : int, or one per member
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given, in the stages too.

    Notes
    -----
    Only r (+ ``oversampling``) rows and columns of F(t, Y) are formed: for an entrywise nonlinear F that costs
    O((m + n) r²) where :class:`ProjectedRungeKutta` needs all m n entries. Indices are chosen at every step, and anew
    at a stage where ‖U[p]⁺‖ or ‖V[q]⁺‖ has doubled: a needless change within a step would disturb the order conditions.

    **Converges to the interpolated flow Ẏ = P̃(Y) F(t, Y), not to the projected one**: with the order of the tableau
    as long as the indices do not change, and with an error proportional to the normal component of F against the
    full equation. Where the solution has rank r both agree. Explicit, hence useless for stiff fields. Keeps
    symmetry; local errors are estimated where the tableau embeds a second scheme.

    References
    ----------
    B. Carrel, D. Kressner, H. Y. Lam, B. Vandereycken, Interpolatory dynamical low-rank approximation: theoretical
    foundations and algorithms (2025), arXiv:2510.19518; Z. Drmač, S. Gugercin, SIAM J. Sci. Comput. 38 (2016)
    A631-A648 (QDEIM).
    """

    name: ClassVar[str] = "interpolatory-runge-kutta"
    tangent: ClassVar[bool] = True

    oversampling: int = 0

    def __post_init__(self) -> None:
        check_oversampling(self.oversampling)
        super().__post_init__()

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        scheme, Zs = self.scheme, []
        choices = [(Indices(self.oversampling), Indices(self.oversampling)) for _ in Ys]
        for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
            Y_i = self.retracted(Ys, h, row, Zs)[0] if any(row) else Ys
            (F_i,) = yield [Ask(stage(i), t + c * h, Y_i)]
            members = zip(Y_i, F_i, choices, strict=True)
            Zs.append(tuple(_interpolated(t + c * h, i, Y, F, *chosen) for Y, F, chosen in members))
        Y1, discarded, error = self.retracted(Ys, h, scheme.b, Zs, scheme.error)
        return StepResult(Y1, discarded, error=error)


def _interpolated(t: float, i: int, Y: Any, F: Any, rows_of: Indices, columns_of: Indices) -> Any:
    """P̃(Y) F; F itself for a dense member."""
    if not isinstance(Y, LowRank):
        checked(t, i, F)
        return F
    p, PU = rows_of(Y._U)
    rows = F.rows(p)
    if one_sided(Y):
        checked(t, i, rows)
        C = R = H(PU @ rows)
        return tangent_vector(Y, C, R, (PU @ take(rows, p, 1)) @ H(PU))
    q, QV = columns_of(Y._V)
    columns = F.columns(q)
    checked(t, i, rows, columns)
    return tangent_vector(Y, columns @ H(QV), H(PU @ rows), (PU @ take(rows, q, 1)) @ H(QV))
