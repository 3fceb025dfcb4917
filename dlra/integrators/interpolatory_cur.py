"""The interpolatory CUR integrator (TDB-CUR)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dlra.backend import Array, H, norm
from dlra.integrators._base import Members
from dlra.integrators._indices import Indices, check_oversampling
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._runge_kutta import (
    ExplicitRungeKutta,
    Weights,
    checked,
    dense_error,
    dense_sum,
    stage,
)
from dlra.lazy import columns, rows
from dlra.linalg import qr
from dlra.lowrank import BOTH, LowRank


@dataclass(frozen=True, repr=False)
class InterpolatoryCUR(ExplicitRungeKutta):
    """The time-dependent CUR integrator: a Runge-Kutta step of the full equation, known by a few rows and columns.

    With the tableau (a, b, c) and column indices q = QDEIM(V₀), every sum G = Y₀ + h Σⱼ aᵢⱼ F(t₀ + cⱼh, Yⱼ), and the
    last one with the weights bⱼ, is replaced by a matrix of low rank:

    1. Q = orth G[:, q].
    2. Row indices p = QDEIM(Q), Z = Q[p]⁺ G[p, :], so that G ≈ Q Z interpolates G at the columns q and, where no row is
       added, the rows p.
    3. The singular value decomposition of Z is truncated: Yᵢ = Q R(Z).

    Parameters
    ----------
    tableau : str or Tableau
        "rk4", "heun3", "heun2", "euler", "bs3", "dopri5", or a :class:`dlra.substeps.Tableau`.
    oversampling : int
        How many rows are looked at beyond the columns of Q, for a fit by least squares; and how many columns beyond r
        where the rank may change: the room for it to grow in one step.
    rtol, atol : float, or one per member of a system
        Truncation tolerance max(atol, rtol ‖Y‖_F) of every stage. Not a tolerance of the time step.
    min_rank, max_rank : int, or one per member
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given, in the stages too.

    Notes
    -----
    The order of the tableau where the solution has rank r, otherwise down to a small multiple of the best
    approximation error per step. Only r columns and r + ``oversampling`` rows of F(t, Y) are formed (as many columns,
    and ``oversampling`` more rows, where the rank may change): for an entrywise nonlinear F that costs
    O((m + n) r²). No tangent space, hence robust to small singular values. Explicit, hence useless for stiff fields;
    does not keep symmetry. Local errors are estimated where the tableau embeds a second scheme.

    Indices are chosen at every step, and p anew at a stage where ‖Q[p]⁺‖ has doubled: a needless change within a step
    would disturb the order conditions. So do columns beyond r, to order 3 or so, where the solution has rank r: that
    is why there are none where the rank is fixed.

    References
    ----------
    M. Donello, G. Palkar, M. H. Naderi, D. C. Del Rey Fernández, H. Babaee, Oblique projection for scalable
    rank-adaptive reduced-order modelling of nonlinear stochastic partial differential equations with time-dependent
    bases, Proc. R. Soc. A 479 (2023) 20230320.
    """

    name: ClassVar[str] = "interpolatory-cur"
    keeps_symmetry: ClassVar[bool] = False

    oversampling: int = 5

    def __post_init__(self) -> None:
        check_oversampling(self.oversampling)
        super().__post_init__()

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        scheme, Fs = self.scheme, []
        chosen = [self._choice(Y, *options) for Y, options in zip(Ys, self._options(len(Ys)), strict=True)]
        for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
            Y_i = self._interpolated(t, h, Ys, chosen, row, Fs)[0] if any(row) else Ys
            (F_i,) = yield [Ask(stage(i), t + c * h, Y_i)]
            Fs.append(F_i)
        Y1, discarded, error = self._interpolated(t, h, Ys, chosen, scheme.b, Fs, scheme.error)
        return StepResult(Y1, discarded, error=error)

    def _choice(self, Y: Any, rtol: float, atol: float, _: int, max_rank: int | None) -> Any:
        """Column indices q, r of them and more where the rank may change, and the choice of p; None for a dense
        member."""
        if not isinstance(Y, LowRank):
            return None
        fixed = rtol == atol == 0 and max_rank is None
        return Indices(0 if fixed else self.oversampling)(Y._V)[0], Indices(self.oversampling)

    def _interpolated(
        self,
        t: float,
        h: float,
        Ys: Members,
        chosen: list[Any],
        weights: Weights,
        Fs: list[Members],
        error: Weights | None = None,
    ) -> tuple[Members, float, float]:
        """The sums G of all members in low-rank form, with the norms of what is truncated and of h Σ eⱼ Fⱼ."""
        bases, cores, errors = [], [], []
        for k, (Y, choice) in enumerate(zip(Ys, chosen, strict=True)):
            values = [F[k] for F in Fs]
            if choice is None:
                basis, core = Y, dense_sum(Y, h, weights, values)
                checked(t, len(Fs) - 1, core)
                estimate = dense_error(h, error, values)
            else:
                basis, core, estimate = _cur(t, h, Y, choice, weights, values, error)
            bases.append(basis)
            cores.append(core)
            errors.append(estimate)
        Y1, discarded = self.truncated(Ys, tuple(bases), cores)
        return Y1, discarded, math.hypot(*errors)


def _cur(
    t: float,
    h: float,
    Y: LowRank,
    choice: tuple[np.ndarray, Indices],
    weights: Weights,
    Fs: list[Any],
    error: Weights | None,
) -> tuple[LowRank, Array, float]:
    """G ≈ Q Z as orthonormal bases (a LowRank of which only they count) and a core, with the norm of h Σ eⱼ Fⱼ."""
    q, p_of = choice
    G_q = dense_sum(columns(Y, q), h, weights, [F.columns(q) for F in Fs])
    checked(t, len(Fs) - 1, G_q)
    Q, _ = qr(G_q)
    p, P = p_of(Q)  # P = Q[p]⁺
    F_p = [F.rows(p) for F in Fs]
    Z = P @ dense_sum(rows(Y, p), h, weights, F_p)
    checked(t, len(Fs) - 1, Z)
    estimate = math.nan if error is None else norm(P @ dense_sum(0.0 * F_p[0], h, error, F_p))
    V, core = qr(H(Z))
    return LowRank._make(Q, None, V, BOTH), H(core), estimate
