"""Step-truncation methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

from dlra.backend import Array, H, astype, is_array, is_sparse, kind, norm, same_dtype
from dlra.integrators._base import Members
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.integrators._runge_kutta import ExplicitRungeKutta, checked, stage
from dlra.lazy import LazySum, dense
from dlra.lowrank import LowRank


@dataclass(frozen=True, repr=False)
class StepTruncation(ExplicitRungeKutta):
    """The step-truncation methods: an explicit Runge-Kutta step of the full equation, truncated at every stage.

    With the tableau (a, b, c) and R the truncated singular value decomposition:

    1. Fⱼ = F(t₀ + cⱼh, Yⱼ), Yᵢ = R(Y₀ + h Σⱼ aᵢⱼ Fⱼ) for the stages i = 1, ..., s (Y₁ = Y₀).
    2. Y(t₁) ≈ R(Y₀ + h Σⱼ bⱼ Fⱼ).

    Parameters
    ----------
    tableau : str or Tableau
        "rk4", "heun3", "heun2", "euler", "bs3", "dopri5", or a :class:`dlra.substeps.Tableau`.
    rtol, atol : float, or one per member of a system
        Truncation tolerance max(atol, rtol ‖Y‖_F) of every R. Not a tolerance of the time step.
    min_rank, max_rank : int, or one per member
        Bounds of the rank. With no tolerance and no ``max_rank`` the rank stays as it was given, in the stages too.

    Notes
    -----
    The order of the tableau where the solution has rank r; with a normal component ε of F, the distance to the
    projected flow Ẏ = P(Y) F is O(ε h). Nothing is projected: directions outside the tangent space enter at once,
    also from a start of lower rank. Keeps symmetry; local errors are estimated where the tableau embeds a second
    scheme. Explicit, hence useless for stiff fields.

    **F(t, Y) is needed whole**, not only its products. A LowRank, or a sum of LowRank, stays factored, and the cost
    is O((m + n) R²) with the sum R of the ranks of all Fⱼ and Y₀. An array or a sparse matrix, also as a term of a
    sum, makes the step dense, as does a plain callable. A SciPy ``LinearOperator`` is a TypeError: use
    :class:`ProjectedRungeKutta`.

    References
    ----------
    A. Rodgers, A. Dektor, D. Venturi, Adaptive integration of nonlinear evolution equations on tensor manifolds,
    J. Sci. Comput. 92 (2022) 39, arXiv:2008.00155; E. Kieri, B. Vandereycken, Comput. Methods Appl. Math. 19 (2019)
    73-92.
    """

    name: ClassVar[str] = "step-truncation"

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        scheme, Fs = self.scheme, []
        for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
            Y_i = self.retracted(Ys, h, row, Fs)[0] if any(row) else Ys
            (values,) = yield [Ask(stage(i), t + c * h, Y_i)]
            Fs.append(tuple(_whole(t + c * h, i, Y, F) for Y, F in zip(Ys, values, strict=True)))
        Y1, discarded, error = self.retracted(Ys, h, scheme.b, Fs, scheme.error)
        parts = [_normal_part(Y, F) for Y, F in zip(Ys, Fs[0], strict=True) if isinstance(Y, LowRank)]
        return StepResult(Y1, discarded, math.hypot(*parts), error)


def _whole(t: float, i: int, Y: Any, value: Any) -> Any:
    """The value as a LowRank or an array, in the dtype of the state."""
    if not isinstance(Y, LowRank):
        checked(t, i, value)
        return value
    F = _formed(value.matrix)
    if not same_dtype(F.dtype, Y.dtype):
        F = F.astype(Y.dtype) if isinstance(F, LowRank) else astype(F, Y.dtype)
    checked(t, i, *(F.factors if isinstance(F, LowRank) else [F]))
    return F


def _formed(F: Any) -> Any:
    if isinstance(F, LazySum):
        terms = [(c, _formed(G)) for c, G in F.terms]
        if not all(isinstance(G, LowRank) for _, G in terms):
            terms = [(c, dense(G)) for c, G in terms]
        return reduce(lambda a, b: a + b, (c * G for c, G in terms))
    if is_sparse(F):
        return dense(F)
    if not (isinstance(F, LowRank) or is_array(F)):
        raise TypeError(
            f"StepTruncation needs F(t, Y) whole, as a LowRank, an array or a sparse matrix, got {kind(F)}, of which "
            f"only products are known; return a LowRank (dlra.matmul(A, Y) applies an operator to Y), or use "
            f"ProjectedRungeKutta or RungeKuttaBUG, which need products only"
        )
    return F


def _normal_part(Y: LowRank, F: Any) -> float:
    """‖(I - U Uᴴ) F (I - V Vᴴ)‖."""
    if isinstance(F, LowRank):
        U, S, V = F.factors
        return LowRank._make(_complement(Y._U, U), S, _complement(Y._V, V)).norm()
    return norm(H(_complement(Y._V, H(_complement(Y._U, F)))))


def _complement(U: Array, X: Array) -> Array:
    return X - U @ (H(U) @ X)
