"""What the methods built on an explicit Runge-Kutta scheme share: the tableau, and linear combinations of low-rank
increments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

from dlra import linalg, substeps
from dlra.backend import Array, H, all_finite, eye, hermitian_part, namespace, norm
from dlra.errors import StageError
from dlra.integrators._base import Members, RankAdaptive
from dlra.integrators._equations import of_stack, one_sided
from dlra.lowrank import BOTH, LowRank

Weights = Sequence[float]


@dataclass(frozen=True, repr=False)
class ExplicitRungeKutta(RankAdaptive):
    """A method whose stages are those of an explicit Runge-Kutta scheme."""

    keeps_symmetry: ClassVar[bool] = True
    tangent: ClassVar[bool] = False
    """Whether the first increment is a :func:`tangent_vector` at the state, in bases that begin with its own."""

    tableau: Any = "rk4"

    def __post_init__(self) -> None:
        substeps.tableau(self.tableau)
        super().__post_init__()

    @property
    def scheme(self) -> substeps.Tableau:
        """The tableau."""
        return substeps.tableau(self.tableau)

    @property
    def order(self) -> int:  # type: ignore[override]
        """Order of the tableau."""
        return self.scheme.order

    def retracted(
        self, Ys: Members, h: float, weights: Weights, Zs: list[Members], error: Weights | None = None
    ) -> tuple[Members, float, float]:
        """R(Y + h Σ wⱼ Zⱼ) for all members, with the norms of what R drops and of h Σ eⱼ Zⱼ (NaN without e).

        R is the truncated singular value decomposition. Increments Zⱼ of a LowRank may be LowRank or arrays.
        """
        bases, cores, errors = [], [], []
        for i, Y in enumerate(Ys):
            basis, core, estimate = _sum(Y, h, weights, [Z[i] for Z in Zs], error, self.tangent)
            bases.append(basis)
            cores.append(core)
            errors.append(estimate)
        Y1, discarded = self.truncated(Ys, tuple(bases), cores)
        return Y1, discarded, math.hypot(*errors)


def stage(i: int) -> str:
    """The name of the stage of index i: that of the first says that its value may be known."""
    return "start" if i == 0 else f"stage {i + 1}"


def checked(t: float, i: int, *arrays: Array) -> None:
    """Raise a StageError unless all arrays, got from a value of F, are finite."""
    if not all(map(all_finite, arrays)):
        which = next((of_stack(A, A) for A in arrays if A.ndim == 3 and not all_finite(A)), "")
        raise StageError(t, stage(i), f"F produced NaN or infinite values{which}")


def tangent_vector(Y: LowRank, C: Array, R: Array, X: Array) -> LowRank:
    """Return U Rᴴ + C Vᴴ - U X Vᴴ in the form [U, K] [[M, I], [I, 0]] [V, L]ᴴ with UᴴK = 0 and VᴴL = 0.

    C: m x r, R: n x r, X: r x r. With C = FV, R = FᴴU and X = UᴴFV this is the orthogonal projection of F onto the
    tangent space at Y = U S Vᴴ. Where one side of Y stands for both, R = C.
    """
    U, V = Y._U, Y._V
    xp = namespace(U)
    inner = H(U) @ C
    K = C - U @ inner
    left = xp.concat((U, K), axis=-1)
    if one_sided(Y):
        right, M = left, hermitian_part(2 * inner - X)
    else:
        outer = H(V) @ R
        right, M = xp.concat((V, R - V @ outer), axis=-1), inner + H(outer) - X
    r1, r2 = M.shape[-2:]
    above = xp.concat((M, eye(r1, U)), axis=-1)
    core = xp.concat((above, linalg.embed(eye(r2, U), r2, r1 + r2)), axis=-2)
    return LowRank._make(left, core, right)


def dense_sum(Y: Array, h: float, weights: Weights, Zs: Sequence[Array]) -> Array:
    """Y + h Σ wⱼ Zⱼ for arrays; zero weights cost nothing."""
    return reduce(lambda total, term: total + (h * term[0]) * term[1], _used(weights, Zs), Y)


def dense_error(h: float, error: Weights | None, Zs: Sequence[Array]) -> float:
    """‖h Σ eⱼ Zⱼ‖ for arrays; NaN without e."""
    return math.nan if error is None else norm(dense_sum(0.0 * Zs[0], h, error, Zs))


def _sum(
    Y: Any, h: float, weights: Weights, Zs: list[Any], error: Weights | None, tangent: bool
) -> tuple[Any, Array, float]:
    """Y + h Σ wⱼ Zⱼ as orthonormal bases (a LowRank of which only they count) and a core, with ‖h Σ eⱼ Zⱼ‖.

    The sum of a dense member stands in the place of the core.
    """
    if not isinstance(Y, LowRank):
        return Y, dense_sum(Y, h, weights, Zs), dense_error(h, error, Zs)
    if not all(isinstance(Z, LowRank) for Z in Zs):
        Zs = [Z.to_dense() if isinstance(Z, LowRank) else Z for Z in Zs]
        A = dense_sum(Y.to_dense(), h, weights, Zs)
        return *_factorised(Y, A), dense_error(h, error, Zs)
    return low_rank_sum(Y, h, weights, Zs, error, tangent)


def low_rank_sum(
    Y: LowRank, h: float, weights: Weights, Zs: list[LowRank], error: Weights | None, tangent: bool
) -> tuple[LowRank, Array, float]:
    """Householder QR of the stacked factors; all that remains is small."""
    terms, rows = [Y, *Zs], [[1.0, *(h * w for w in weights)]]
    if error is not None:
        rows.append([0.0, *(h * e for e in error)])
    used = [k for k in range(len(terms)) if any(row[k] for row in rows)]
    blocks = [[row[k] * terms[k].S for k in used] for row in rows]
    if used[:2] == [0, 1] and tangent:
        blocks = [[linalg.embed(y, *z.shape[-2:]) + z, *rest] for y, z, *rest in blocks]
        used = used[1:]
    xp = namespace(Y._U)
    Q, R = linalg.qr(xp.concat([terms[k]._U for k in used], axis=-1))
    if one_sided(Y):
        P, right = Q, H(Q) @ xp.concat([terms[k]._V for k in used], axis=-1)
    else:
        P, right = linalg.qr(xp.concat([terms[k]._V for k in used], axis=-1))
    cores = [R @ reduce(linalg.block_diagonal, cores) @ H(right) for cores in blocks]
    if one_sided(Y):
        cores = [hermitian_part(core) for core in cores]
    estimate = math.nan if error is None else norm(cores[1])
    return LowRank._make(Q, None, P, BOTH), cores[0], estimate


def _factorised(Y: LowRank, A: Array) -> tuple[LowRank, Array]:
    """A dense matrix with the bases and the small core that the truncation asks for."""
    m, n = A.shape[-2:]
    if one_sided(Y):
        identity = eye(m, A)
        return LowRank._make(identity, None, identity, BOTH), hermitian_part(A)
    if m >= n:
        Q, R = linalg.qr(A)
        return LowRank._make(Q, None, eye(n, A), BOTH), R
    Q, R = linalg.qr(H(A))
    return LowRank._make(eye(m, A), None, Q, BOTH), H(R)


def _used(weights: Weights, Zs: Sequence[Any]) -> list[tuple[float, Any]]:
    return [(w, Z) for w, Z in zip(weights, Zs, strict=True) if w != 0.0]
