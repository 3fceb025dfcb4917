"""What the randomised integrators share: equations compressed to given bases, and the dynamical rangefinder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra._factors import check_int
from dlra.backend import Array, H, dtype_name, eps, from_host, is_complex, namespace, norm, to_host
from dlra.integrators._base import Members, RankAdaptive, WithSubstep, advanced
from dlra.integrators._equations import Equation, k_equation, l_equation, low_members, s_equation
from dlra.integrators._protocol import Steps
from dlra.linalg import augment, rotate, svd
from dlra.lowrank import LEFT, RIGHT, LowRank


def range_equation(
    Ys: Members, Qs: list[Array], field: Any, start: Members | None = None, dense: bool = False
) -> Equation:
    """B' = F(t, B Qᴴ) Q, B(t₀) = Y₀ Q (m x k), for orthonormal Q (n x k).

    Dense members stay fixed, or (``dense``) copies of them advance with it, as the last unknowns.
    """
    equation = k_equation(_compressed(Ys, None, Qs), field, start)
    return _named("B", _with_dense(equation, Ys, start) if dense else equation)


def corange_equation(
    Ys: Members, Qs: list[Array], field: Any, start: Members | None = None, dense: bool = False
) -> Equation:
    """C' = F(t, Q Cᴴ)ᴴ Q, C(t₀) = Y₀ᴴ Q (n x k), for orthonormal Q (m x k); dense members as in the B-equation."""
    equation = l_equation(_compressed(Ys, Qs, None), field, start)
    return _named("C", _with_dense(equation, Ys, start) if dense else equation)


def core_equation(
    Ys: Members, Q1s: list[Array], Q2s: list[Array], field: Any, start: Members | None = None
) -> Equation:
    """D' = Q₁ᴴ F(t, Q₁ D Q₂ᴴ) Q₂, D(t₀) = Q₁ᴴ Y₀ Q₂; dense members advance with it, as they are."""
    return _named("D", s_equation(_compressed(Ys, Q1s, Q2s), field, start))


@dataclass(frozen=True, repr=False)
class Randomized(RankAdaptive, WithSubstep):
    """A method that finds the range of Y(t₁) by sketching."""

    oversampling: int = 5
    power: int = 1
    failure_probability: float = 1e-6

    def __post_init__(self) -> None:
        for name, value in (("oversampling", self.oversampling), ("power", self.power)):
            if check_int(value, name) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if not 0.0 < self.failure_probability < 1.0:
            raise ValueError(f"failure_probability must lie between 0 and 1, got {self.failure_probability}")
        super().__post_init__()

    def _range(
        self, t: float, h: float, Ys: Members, field: Any, F0: Members, rng: Any, left: bool, extra: int
    ) -> Steps[list[Array]]:
        """Bases Q = [U₀ | ·] of the range of Y(t₁) for the LowRank members, or (not ``left``) of its corange.

        All bases begin with U₀ or V₀, so that Y₀ is compressed without loss and F(t₀, Y₀) serves all equations. With
        a tolerance, Gaussian probes estimate what Q misses, and the bases grow until that is within the tolerance.
        """
        if left:
            near, far, equation, dual = "_U", "_V", range_equation, corange_equation
        else:
            near, far, equation, dual = "_V", "_U", corange_equation, range_equation
        low = [Ys[i] for i in low_members(Ys)]
        options = [self._options(len(Ys))[i] for i in low_members(Ys)]
        limits, counts = [], []
        for Y, (rtol, atol, min_rank, max_rank) in zip(low, options, strict=True):
            tolerance, capped = rtol > 0 or atol > 0, max_rank is not None
            limits.append(min(*Y.shape, max_rank + extra if capped else Y.shape[0]))
            rank = max(Y.rank, min_rank) if tolerance else max_rank if capped else Y.rank
            counts.append(min(limits[-1], rank + extra))
        U0s, V0s = [getattr(Y, near) for Y in low], [getattr(Y, far) for Y in low]

        omegas = [gaussian(rng, count, V) for count, V in zip(counts, V0s, strict=True)]
        Q2s = [augment(V, omega) for V, omega in zip(V0s, omegas, strict=True)]
        dB = yield from self._substep(t, h, equation(Ys, Q2s, field, F0))
        Qs = _leading(U0s, dB, counts)
        for _ in range(self.power):
            dC = yield from self._substep(t, h, dual(Ys, Qs, field, F0))
            Q2s = _leading(V0s, dC, counts)
            dB = yield from self._substep(t, h, equation(Ys, Q2s, field, F0))
            Qs = _leading(U0s, dB, counts)

        probes = math.ceil(-math.log10(self.failure_probability))
        while any(
            (rtol > 0 or atol > 0) and count < limit
            for (rtol, atol, _, _), count, limit in zip(options, counts, limits, strict=True)
        ):
            omegas = [gaussian(rng, probes, V) for V in V0s]
            Q2s = [augment(Q2, omega) for Q2, omega in zip(Q2s, omegas, strict=True)]
            b = equation(Ys, Q2s, field, F0)
            dB = yield from self._substep(t, h, b)
            missed = [
                count < limit and _missed(B, Q, Q2, omega) > _bound(norm(B), rtol, atol, eps(B))
                for B, Q, Q2, omega, (rtol, atol, _, _), count, limit in zip(
                    advanced(b.X, dB), Qs, Q2s, omegas, options, counts, limits, strict=True
                )
            ]
            if not any(missed):
                break
            counts = [
                min(limit, count + max(probes, count // 2)) if grow else count
                for count, limit, grow in zip(counts, limits, missed, strict=True)
            ]
            Qs = _leading(U0s, dB, counts)
            dC = yield from self._substep(t, h, dual(Ys, Qs, field, F0))
            Q2s = _leading(V0s, dC, counts)
        return Qs


def generator(field: Any) -> np.random.Generator:
    """The source of randomness of a run; a fixed one for a single step outside of it."""
    return np.random.default_rng(0) if field.rng is None else field.rng


_SAFETY = 10.0 * math.sqrt(2.0 / math.pi)
"""‖(I - Q Qᴴ) Y‖₂ is at most this times the largest ‖(I - Q Qᴴ) Y ω‖ of k Gaussian vectors, but for a probability of
10⁻ᵏ (N. Halko, P. G. Martinsson, J. A. Tropp, SIAM Rev. 53 (2011) 217-288, section 4.3)."""


def _bound(size: float, rtol: float, atol: float, eps: float) -> float:
    """What probes may miss of a matrix of this norm, for the rest to lie within the tolerance."""
    if rtol == atol == 0:
        return math.inf
    return max(max(atol, rtol * size) / _SAFETY, 10 * eps * size)


def gaussian(rng: np.random.Generator, count: int, like: Array) -> Array:
    """A Gaussian matrix with ``count`` columns and the rows, library and dtype of ``like``, drawn on the host."""
    shape = (like.shape[0], count)
    omega = rng.standard_normal(shape)
    if is_complex(like):
        omega = (omega + 1j * rng.standard_normal(shape)) / math.sqrt(2.0)
    return from_host(omega.astype(dtype_name(like.dtype)), like)


def _named(stage: str, equation: Equation) -> Equation:
    equation.stage = stage
    return equation


def _with_dense(equation: Equation, Ys: Members, start: Members | None) -> Equation:
    """The equation together with those of the dense members."""
    low = len(equation.X)
    dense = [i for i in range(len(Ys)) if i not in low_members(Ys)]
    if not dense:
        return equation

    def lift(X: list[Array]) -> Members:
        members = list(equation.lift(X[:low]))
        for i, y in zip(dense, X[low:], strict=True):
            members[i] = y
        return tuple(members)

    def project(values: Members, rest: bool) -> list[Array]:
        return [*equation._project(values, rest), *(values[i] for i in dense)]

    X = [*equation.X, *(Ys[i] for i in dense)]
    return Equation(equation.stage, X, lift, project, None, equation.constant, start)


def _leading(U0s: list[Array], increments: list[Array], counts: list[int]) -> list[Array]:
    """Bases [U₀ | W] per member, with W the ``count`` leading left singular vectors of (I - U₀U₀ᴴ) dX."""
    out = []
    for U0, dX, count in zip(U0s, increments, counts, strict=True):
        r, Q = U0.shape[1], augment(U0, dX)
        if Q.shape[1] > r + count:
            W = Q[:, r:]
            P, _, _ = svd(H(W) @ dX)
            Q = namespace(Q).concat((U0, rotate(W, P[:, :count])), axis=1)
        out.append(Q)
    return out


def _missed(B: Array, Q: Array, Q2: Array, omega: Array) -> float:
    """The largest ‖(I - Q Qᴴ) Y ω‖ of the columns ω, which lie in the range of Q₂; B = Y Q₂."""
    E = B @ (H(Q2) @ omega)
    E = E - Q @ (H(Q) @ E)
    return float(np.max(np.linalg.norm(to_host(E), axis=0)))


def _compressed(Ys: Members, Q1s: list[Array] | None, Q2s: list[Array] | None) -> Members:
    """Q₁Q₁ᴴ Y Q₂Q₂ᴴ with Q₁ and Q₂ as bases; without one of them that side stays as it is."""
    out = list(Ys)
    for k, i in enumerate(low_members(Ys)):
        U, S, V = Ys[i].factors
        if Q1s is not None:
            U, S = Q1s[k], (H(Q1s[k]) @ U) @ S
        if Q2s is not None:
            V, S = Q2s[k], S @ (H(V) @ Q2s[k])
        out[i] = LowRank._make(U, S, V, LEFT | RIGHT)
    return tuple(out)
