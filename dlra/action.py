"""A square matrix given by its action, and by solves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlra.backend import Array, dtype_name, is_array, kind
from dlra.lazy import Operand

__all__ = ["Action"]


class Action(Operand):
    """A square matrix M known by what it does to thin arrays, for the stiff linear part of a field.

    Parameters
    ----------
    n : int
        Its size.
    apply : callable
        ``apply(X)``: M X for an array X of shape (n, r).
    adjoint : callable, optional
        ``adjoint(X)``: Mᴴ X. Needed where M acts from the right; not where ``hermitian``.
    solve : callable, optional
        ``solve(s, X)``: (I - s M)⁻¹ X for a real number s, or (E - s M)⁻¹ X with a mass matrix E. With it the
        exponential and the implicit substep use rational Krylov subspaces, whose size does not grow with ‖M‖.
    solve_adjoint : callable, optional
        The same with Mᴴ, where M acts from the right and is not Hermitian.
    hermitian : bool
        Whether M = Mᴴ.
    dtype : dtype or str
        Of its entries.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> d = -np.arange(1.0, 6.0)[:, None]
    >>> A = dlra.Action(5, lambda X: d * X, solve=lambda s, X: X / (1 - s * d), hermitian=True)
    >>> F = dlra.SemiLinear(A, A)
    >>> Y0 = dlra.LowRank(np.ones((5, 1)), None, np.ones((5, 1)))
    >>> solution = dlra.solve(F, (0, 1), Y0, "midpoint-bug", rtol=1e-6)
    >>> bool(abs(solution.y_final.to_dense()[0, 0] - np.exp(-2)) < 1e-5)
    True
    """

    __slots__ = ("_adjoint", "_function", "_solve", "_solve_adjoint", "dtype", "hermitian", "shape")

    def __init__(
        self,
        n: int,
        apply: Callable[[Array], Array],
        *,
        adjoint: Callable[[Array], Array] | None = None,
        solve: Callable[[float, Array], Array] | None = None,
        solve_adjoint: Callable[[float, Array], Array] | None = None,
        hermitian: bool = False,
        dtype: Any = "float64",
    ):
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"n of an Action must be a positive int, got {n!r}")
        given = {"apply": apply, "adjoint": adjoint, "solve": solve, "solve_adjoint": solve_adjoint}
        for name, function in given.items():
            if not callable(function) and not (function is None and name != "apply"):
                raise TypeError(f"{name} of an Action must be callable, got {kind(function)}")
        self.shape = (int(n), int(n))
        self.dtype = np.dtype(dtype if isinstance(dtype, str) else dtype_name(dtype))
        self.hermitian = bool(hermitian)
        self._function, self._adjoint = apply, apply if hermitian else adjoint
        self._solve, self._solve_adjoint = solve, solve if hermitian else solve_adjoint

    @property
    def solve(self) -> Callable[[float, Array], Array] | None:
        """``solve(s, X)``, or None."""
        return self._solve

    @property
    def H(self) -> Action:
        """Conjugate transpose."""
        if self.hermitian:
            return self
        if self._adjoint is None:
            raise ValueError("the adjoint of this Action is needed: give it adjoint=..., or hermitian=True")
        return Action(
            self.shape[0], self._adjoint, adjoint=self._function, solve=self._solve_adjoint,
            solve_adjoint=self._solve, dtype=self.dtype,
        )  # fmt: skip

    def is_adjoint_of(self, other: Action) -> bool:
        """Whether this was made as ``other.H``."""
        return self._function is other._adjoint and self._adjoint is other._function

    def _apply(self, X: Array) -> Array:
        result = self._function(X)
        if not is_array(result) or tuple(result.shape) != tuple(X.shape):
            raise ValueError(
                f"apply of an Action must return an array of the shape of its argument, {tuple(X.shape)}, "
                f"got {kind(result)}"
            )
        return result

    def _apply_adjoint(self, X: Array) -> Array:
        return self.H._apply(X)

    def __matmul__(self, B: Any) -> Any:
        from dlra.lowrank import LowRank

        if isinstance(B, LowRank):
            return LowRank._make(self._apply(B._U), B._S, B._V)
        return self._apply(B) if is_array(B) else NotImplemented

    def __rmatmul__(self, A: Any) -> Any:
        from dlra.lowrank import LowRank

        if isinstance(A, LowRank):
            return LowRank._make(A._U, A._S, self.H._apply(A._V))
        return NotImplemented

    def __repr__(self) -> str:
        solves = "" if self._solve is None else ", with solves"
        return f"Action({self.shape[0]} x {self.shape[0]}{', Hermitian' if self.hermitian else ''}{solves})"
