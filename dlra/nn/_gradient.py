"""The gradient by a weight as a matrix that remembers its products."""

from __future__ import annotations

from typing import Any

from dlra.backend import Array, namespace
from dlra.lazy import LazySum, compressed
from dlra.lowrank import LowRank

__all__ = ["Penalised", "RowProduct"]


class RowProduct(LowRank):
    """G = DᵀX for rows D (B x m) and X (B x n): a LowRank(Dᵀ, None, Xᵀ) of inner dimension B.

    The forward pass has computed X V₀ and the backward pass D U₀ for the bases of the weight. These are what the K- and
    the L-step need, and the leading columns of what the S-step needs in bases that begin with U₀ and V₀; each further
    pass over D or X would cost as much as one of those. Where G is smaller than either of them, and the products of a
    step would cost more than G itself (the small kernels of convolutions, which see a row per pixel), G is formed.
    """

    __slots__ = ("_columns", "_formed", "_rows")
    _columns: tuple[Array, Array] | None
    _rows: tuple[Array, Array] | None
    _formed: Array | None

    @staticmethod
    def of(D: Array, X: Array, columns: Any = None, rows: Any = None) -> RowProduct:
        """DᵀX; ``columns`` is (V, X V) and ``rows`` (U, D U) where they are known."""
        self = object.__new__(RowProduct)
        self._U, self._S, self._V, self._orthonormal = D.T, None, X.T, 0
        self._columns, self._rows, self._formed = columns, rows, None
        if columns is not None:
            (m, n), r = self.shape, columns[0].shape[1]
            if max(m, n) <= D.shape[0] and m * n < 2 * r * (m + n):
                self._formed = D.T @ X
        return self

    def _apply(self, X: Array) -> Array:
        return self._U @ self._seen_by_columns(X) if self._formed is None else self._formed @ X

    def _apply_adjoint(self, X: Array) -> Array:
        return self._V @ self._seen_by_rows(X) if self._formed is None else self._formed.T @ X

    def _compressed(self, U: Array, V: Array) -> Array:
        if self._formed is not None:
            return U.T @ (self._formed @ V)
        return self._seen_by_rows(U).T @ self._seen_by_columns(V)

    def _seen_by_columns(self, V: Array) -> Array:
        """X V."""
        self._columns = _extended(self._columns, V, self._V.T)
        return self._columns[1]

    def _seen_by_rows(self, U: Array) -> Array:
        """D U."""
        self._rows = _extended(self._rows, U, self._U.T)
        return self._rows[1]

    def __reduce__(self) -> Any:
        return LowRank, (self._U, None, self._V)


RowProduct.__name__ = "LowRank"  # what users see


def _extended(known: tuple[Array, Array] | None, basis: Array, rows: Array) -> tuple[Array, Array]:
    """(basis, rows @ basis), from what is known of the leading columns of the basis."""
    if known is None:
        return basis, rows @ basis
    old, product = known
    if basis is old:
        return known
    r = old.shape[1]
    if basis.shape[1] <= r:
        return basis, rows @ basis
    xp = namespace(basis)
    if not bool(xp.all(basis[:, :r] == old)):
        return basis, rows @ basis
    return basis, xp.concat((product, rows @ basis[:, r:]), axis=1)


class Penalised(LazySum):
    """Minus the gradient of a loss minus that of a penalty, both of low rank: each keeps its own way to products."""

    def _compressed(self, U: Array, V: Array) -> Array:
        (_, flow), (c, slope) = self.terms
        return compressed(flow, U, V) + c * compressed(slope, U, V)
