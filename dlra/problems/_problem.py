"""What a problem is: a field, an initial value on factors, a reference, observables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlra._entrywise import entrywise
from dlra._factors import check_int
from dlra.backend import Array, H, conj, is_complex, namespace, to_host
from dlra.backend import norm as array_norm
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import Place

__all__ = ["Problem"]

_KEPT = 8  # reference solutions kept per problem


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Problem:
    """A named matrix differential equation Y' = F(t, Y), ready for :func:`dlra.solve`.

    Made by the factories of :mod:`dlra.problems`; they say what equation it is and what is exact.

    Attributes
    ----------
    name : str
        As on the command line, e.g. ``"landau-damping"``.
    description : str
        One line.
    F : Factored or SemiLinear
        The field, for :func:`dlra.solve`; works on factors.
    dense : callable
        ``dense(t, A)``: the same field on a dense array, an array.
    t_span : (float, float)
        Start, and the end usual in the literature.
    shape : (int, int)
        Of Y.
    observables : dict
        Name to function of (t, Y), Y a :class:`~dlra.LowRank` or a dense array, that returns a Python float.
        Computed from the factors at O((m + n) r) unless the factory says otherwise.
    output : callable or None
        ``output(Y)``: what one wants to know of Y, a NumPy array (the factory says what); else None.
    defaults : dict
        Sensible ``rank``, ``dt`` and ``method`` for :func:`dlra.solve` over ``t_span``, and where the rank
        should adapt ``rank_rtol``.
    x, y : ndarray
        Coordinates of the rows and columns, on the host, for pictures.
    labels : (str, str)
        What ``x`` and ``y`` are.
    quantity : str
        What the entries of Y are.
    symmetric : bool
        Whether Y(t) is symmetric; then ``Y0(rank)`` has V = U.
    place : Place
        Array library, dtype and device.
    initial : callable
        ``initial()``: singular value decomposition (U, s, V) of the initial value, with V rather than Vᴴ, as
        host arrays; of rank 0 where it is zero.
    slope : callable or None
        ``slope()``: F(t₀, Y(t₀)) on the host, a LowRank or an array, where the initial value has low rank.
    solution : callable or None
        ``solution(t)``: the reference solution on the host in double precision.

    Examples
    --------
    >>> from dlra import problems
    >>> problem = problems.rotation(n=60)
    >>> problem.Y0(4)
    LowRank(shape=(60, 60), rank=4, dtype=float64)
    """

    name: str
    description: str
    F: Any
    dense: Callable[[float, Array], Array]
    t_span: tuple[float, float]
    shape: tuple[int, int]
    observables: dict[str, Callable[[float, Any], float]]
    defaults: dict[str, Any]
    x: np.ndarray
    y: np.ndarray
    labels: tuple[str, str]
    quantity: str
    symmetric: bool = False
    output: Callable[[Any], np.ndarray] | None = None
    place: Place
    initial: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]
    slope: Callable[[], Any] | None = None
    solution: Callable[[float], np.ndarray] | None = None
    _cache: dict[Any, Any] = field(default_factory=dict)

    def Y0(self, rank: int) -> LowRank:
        """Return the initial value with exactly the given rank and orthonormal factors.

        The best approximation of rank ``rank``. Where the initial value itself has lower rank, the bases are
        completed by the range and corange of F(t₀, Y(t₀)), most important directions first, then by random
        directions from a fixed seed, and the core is padded with zeros.

        Parameters
        ----------
        rank : int
            Between 1 and min(m, n).

        Returns
        -------
        LowRank
            In the array library, dtype and device of the problem.
        """
        rank = check_int(rank, "rank")
        if not 1 <= rank <= min(self.shape):
            raise ValueError(
                f"rank must lie between 1 and min(m, n) = {min(self.shape)} for {self.name}, got {rank}"
            )
        if "initial" not in self._cache:
            self._cache["initial"] = self.initial()
        U, s, V = self._cache["initial"]
        core = np.zeros((rank, rank), dtype=U.dtype)
        known = min(rank, len(s))
        core[range(known), range(known)] = s[:known]
        if rank > len(s):
            U, V = self._completed(U, V, rank)
        array = self.place.array
        left = array(U[:, :rank])
        return LowRank(left, array(core), left if self.symmetric else array(V[:, :rank]))

    def reference(self, t: float) -> Array | None:
        """Return the reference solution at time t, a dense array of the problem's library; None without one.

        Computed in double precision when first asked for; the latest few are kept.
        """
        if self.solution is None:
            return None
        t = float(t)
        if not math.isfinite(t):
            raise ValueError(f"t must be finite, got {t}")
        kept = self._cache.setdefault("reference", {})
        if t not in kept:
            while len(kept) >= _KEPT:
                del kept[next(iter(kept))]
            kept[t] = self.place.array(self.solution(t))
        return kept[t]

    def _completed(self, U: np.ndarray, V: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Complete the bases of the initial value to the given rank, on the host."""
        left, right = _residual_ranges(U, V, self.slope()) if self.slope is not None else (U[:, :0], V[:, :0])
        rng = np.random.default_rng(0)
        U1 = _complete(U, left, rank, rng)
        if self.symmetric:
            return U1, U1
        return U1, _complete(V, right, rank, rng)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Problem({self.name!r}, {m} x {n}, {self.place.dtype} on {self.place.library})"


def _residual_ranges(U: np.ndarray, V: np.ndarray, G: Any) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of the ranges of (I - U Uᴴ) G and (I - V Vᴴ) Gᴴ, by descending singular values."""
    if isinstance(G, LowRank):
        G = G.orthonormalized()
        L, C, R = G.U, G.S, G.V
    else:
        L, C, R = np.eye(G.shape[0]), G, np.eye(G.shape[1])
    scale = np.linalg.norm(C)

    def basis(Q: np.ndarray, X: np.ndarray) -> np.ndarray:
        W, s, _ = np.linalg.svd(X - Q @ (Q.conj().T @ X), full_matrices=False)
        return W[:, s > 1e-12 * scale]

    return basis(U, L @ C), basis(V, R @ C.conj().T)


def _complete(Q: np.ndarray, X: np.ndarray, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal columns of which the first are Q, then X, then random ones."""
    missing = rank - Q.shape[1]
    random = rng.standard_normal((Q.shape[0], max(0, missing - X.shape[1])))
    added = np.concatenate((X[:, :missing], random), axis=1).astype(Q.dtype)
    for _ in range(2):
        added, _ = np.linalg.qr(added - Q @ (Q.conj().T @ added))
    return np.concatenate((Q, added), axis=1)


def svd_of(L: np.ndarray, C: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular value decomposition (U, s, V) of L C Rᴴ, cut to its numerical rank."""
    Y = LowRank(L, C, R).truncate(rtol=1e-15)
    return Y.U, np.diagonal(Y.S), Y.V


def norm(t: float, Y: Any) -> float:
    """Frobenius norm."""
    return float(Y.norm()) if isinstance(Y, LowRank) else array_norm(Y)


def trace(t: float, Y: Any) -> float:
    """Trace."""
    if isinstance(Y, LowRank):
        U, S, V = Y.factors
        total = namespace(U).sum((U @ S) * conj(V))
        return float(namespace(U).real(total) if is_complex(total) else total)
    return float(np.trace(to_host(Y)).real)


def quadratic(Y: Any, A: Any, B: Any = None) -> float:
    """Re⟨Y, A Y + Y B⟩ for Hermitian matrices A and B (None for zero)."""
    if isinstance(Y, LowRank):
        U, S, V = Y.factors
        left = H(U) @ (A @ U) @ S @ (H(V) @ V)
        if B is not None:
            left = left + H(U) @ U @ S @ (H(V) @ (B @ V))
        return real_inner(S, left)
    return real_inner(Y, matmul(A, Y) if B is None else matmul(A, Y) + Y @ B)


def real_inner(A: Array, B: Array) -> float:
    """Re⟨A, B⟩ of two arrays."""
    xp = namespace(A, B)
    product = xp.conj(A) * B
    return float(xp.sum(xp.real(product) if xp.isdtype(product.dtype, "complex floating") else product))


def quartic(Y: Any) -> float:
    """Σ |Y_ij|⁴; of a LowRank from samples of its rows and columns, to about 1e-10."""
    return norm(0.0, entrywise(_square, Y)) ** 2


def _square(y: Array) -> Array:
    return y * y


def nothing(n: int) -> Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the function ``initial`` of an n x n problem that starts from zero."""
    return lambda: (np.zeros((n, 0)), np.zeros(0), np.zeros((n, 0)))
