"""Exponential integration of X' = L X + X R + N: the functions phi₁ and phi₂ of the Sylvester operator,
exactly.

For 𝓛(Z) = L Z + Z R and z → phi₁(z) = (eᶻ - 1)/z, phi₂(z) = (phi₁(z) - 1)/z, the increment of an exponential
Runge-Kutta step is h phi₁(h𝓛) F₀ + h phi₂(h𝓛)(N₁ - N₀) with F₀ = 𝓛(X₀) + N₀. Two ways to it:

* both sides Hermitian, skew-Hermitian, similar to such a matrix, or small with well-conditioned eigenvectors:
entrywise in eigenvector coordinates;
* else by doubling, phi(2z) from phi(z) and eᶻ, started by a Taylor series where ‖h𝓛‖ ≤ 1. Only products are
needed.

See M. Hochbruck and A. Ostermann, Exponential integrators, Acta Numerica 19 (2010) 209-286, sections 2 and 5.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from dlra.backend import (
    Array,
    H,
    astype,
    dtype_name,
    eps,
    eye,
    from_host,
    is_complex,
    namespace,
    norm,
    product,
    to_host,
)

_SMALL = 500
"""Largest size at which eigenvectors of a matrix without symmetry are tried."""
_CONDITION = 1e2
"""Largest condition number of eigenvectors that are used: the digits they may cost."""

_TAYLOR = 18  # terms of the Taylor series for ‖z‖ <= 1: the next one is below 1e-17


class Coordinates:
    """A matrix M prepared for its exponentials: M = X diag(λ) X⁻¹ where possible, else M itself.

    Attributes
    ----------
    eigenvalues : array or None
        λ; real for Hermitian, imaginary for skew-Hermitian M, complex for a small M with eigenvectors that are
        far from dependent; None else.
    """

    def __init__(
        self,
        matrix: Array | None,
        eigenvalues: Array | None = None,
        X: Array | None = None,
        inverse: Any = None,
    ):
        self.matrix: Any = matrix
        self.eigenvalues: Any = eigenvalues
        self._X = X
        self._inverse = inverse
        self._exponentials: dict[tuple[float, int], list[Array]] = {}

    @classmethod
    def of(cls, M: Array) -> Coordinates:
        """Prepare a dense square matrix."""
        xp = namespace(M)
        adjoint = H(M)
        scale = 100 * eps(M) * norm(M)
        if norm(M - adjoint) <= scale:
            eigenvalues, X = xp.linalg.eigh(0.5 * (M + adjoint))
            return cls(None, eigenvalues, X, H(X))
        if norm(M + adjoint) <= scale:
            M = M if is_complex(M) else astype(M, xp.result_type(M.dtype, xp.complex64))
            eigenvalues, X = xp.linalg.eigh(-0.5j * (M - H(M)))
            return cls(None, 1j * eigenvalues, X, H(X))
        if M.shape[0] <= _SMALL:
            found = _diagonalised(M)
            if found is not None:
                return found
        return cls(M)

    @functools.cached_property
    def schur(self) -> tuple[np.ndarray, np.ndarray]:
        """The complex Schur form M = P T Pᴴ on the host, as (T, P)."""
        from scipy.linalg import schur

        form = schur(to_host(self.matrix).astype(np.complex128), output="complex")
        return form[0], form[1]

    @property
    def rows(self) -> int:
        """Number of rows of M."""
        return (self.matrix if self.eigenvalues is None else self.eigenvalues).shape[0]

    def from_left(self, Z: Array) -> Array:
        """Coordinates X⁻¹ Z of a matrix on which M acts from the left."""
        return Z if self._X is None else product(self._inverse, Z)

    def to_left(self, Z: Array) -> Array:
        """Back: X Z."""
        return Z if self._X is None else product(self._X, Z)

    def from_right(self, Z: Array) -> Array:
        """Coordinates Z X of a matrix on which M acts from the right."""
        return Z if self._X is None else product(Z, self._X)

    def to_right(self, Z: Array) -> Array:
        """Back: Z X⁻¹."""
        return Z if self._X is None else product(Z, self._inverse)

    @property
    def is_real(self) -> bool:
        """Whether the coordinates of real matrices are real."""
        return self._X is None or not is_complex(self._X)

    def left(self, Z: Array) -> Array:
        """Action of M from the left, in coordinates."""
        return product(self.matrix, Z) if self.eigenvalues is None else self.eigenvalues[:, None] * Z

    def right(self, Z: Array) -> Array:
        """Action of M from the right, in coordinates."""
        return product(Z, self.matrix) if self.eigenvalues is None else Z * self.eigenvalues[None, :]

    def size(self) -> float:
        """A bound for the norm of M in its coordinates."""
        if self.eigenvalues is None:
            return norm(self.matrix)
        xp = namespace(self.eigenvalues)
        return float(xp.max(abs(self.eigenvalues))) if self.eigenvalues.shape[0] else 0.0

    def exponentials(self, step: float, doublings: int) -> list[Array]:
        """exp(2ᵏ step M) for k < doublings, in coordinates: vectors of the eigenvalues, or dense matrices.

        The dense ones of the last two step sizes are kept, so that a fixed step pays for them once.
        """
        if self.eigenvalues is not None:
            xp = namespace(self.eigenvalues)
            return [xp.exp((step * 2.0**k) * self.eigenvalues) for k in range(doublings)]
        key = (step, doublings)
        if key not in self._exponentials:
            small = step * self.matrix
            term = power = eye(small.shape[0], small)
            for k in range(1, _TAYLOR):
                power = (small @ power) / k
                term = term + power
            powers = [term]
            for _ in range(doublings - 1):
                powers.append(powers[-1] @ powers[-1])
            while len(self._exponentials) > 1:
                self._exponentials.pop(next(iter(self._exponentials)))
            self._exponentials[key] = powers
        return self._exponentials[key]

    def negated(self) -> Coordinates:
        """Coordinates of -M."""
        matrix = None if self.matrix is None else -self.matrix
        eigenvalues = None if self.eigenvalues is None else -self.eigenvalues
        return Coordinates(matrix, eigenvalues, self._X, self._inverse)


class SylvesterFlow:
    """The flow of Z' = L Z + Z R in the coordinates of both sides; ``None`` stands for a missing side."""

    def __init__(self, left: Coordinates | None, right: Coordinates | None):
        self._left, self._right = left, right

    def enter(self, Z: Array) -> Array:
        """Transform Z to coordinates."""
        Z = Z if self._left is None else self._left.from_left(Z)
        return Z if self._right is None else self._right.from_right(Z)

    def leave(self, Z: Array, real: bool = False) -> Array:
        """Transform back; ``real``: the matrices and Z before the transformation were real, so that the result is,
        and where the left coordinates are real, already what comes back from the right side."""
        if self._right is not None:
            Z = self._right.to_right(Z)
            if real and is_complex(Z) and (self._left is None or self._left.is_real):
                Z = namespace(Z).real(Z)
        return Z if self._left is None else self._left.to_left(Z)

    def apply(self, Z: Array) -> Array:
        """L Z + Z R, in coordinates."""
        total = 0.0 * Z
        if self._left is not None:
            total = total + self._left.left(Z)
        return total if self._right is None else total + self._right.right(Z)

    def phi(self, h: float, Z1: Array, Z2: Array | None = None) -> Array:
        """phi₁(h𝓛) Z1 + phi₂(h𝓛) Z2, in coordinates."""
        sides = [side for side in (self._left, self._right) if side is not None]
        if self.diagonal:
            z = 0.0
            if self._left is not None:
                z = z + h * self._left.eigenvalues[:, None]
            if self._right is not None:
                z = z + h * self._right.eigenvalues[None, :]
            phi1 = first_phi(z, Z1)
            return phi1 * Z1 if Z2 is None else phi1 * Z1 + second_phi(z, phi1, Z1) * Z2
        size = abs(h) * sum(side.size() for side in sides)
        doublings = max(0, math.ceil(math.log2(size))) if size > 0 else 0
        return self._phi_by_doubling(h / 2.0**doublings, doublings, Z1, Z2)

    def resolvent(self, s: float, Z: Array) -> Array:
        """(I - s𝓛)⁻¹ Z, in coordinates; on the host where a side has no eigenvectors."""
        if not self.diagonal:
            return self._resolvent_on_host(s, Z)
        z = 1.0
        if self._left is not None:
            z = z - s * self._left.eigenvalues[:, None]
        if self._right is not None:
            z = z - s * self._right.eigenvalues[None, :]
        return Z / z

    def _resolvent_on_host(self, s: float, Z: Array) -> Array:
        from scipy.linalg import get_lapack_funcs

        (trsyl,) = get_lapack_funcs(("trsyl",), dtype=np.complex128)

        real = not is_complex(Z) and all(side is None or side.is_real for side in (self._left, self._right))
        host = to_host(Z).astype(np.complex128)
        (T, P), (R, V) = (
            _schur(side, k) for side, k in zip((self._left, self._right), host.shape, strict=True)
        )
        X, scale, info = trsyl(np.eye(T.shape[0]) - s * T, -s * R, P.conj().T @ host @ V)
        if info < 0 or not scale > 0:
            raise FloatingPointError("a Sylvester equation of the implicit substep cannot be solved")
        X = P @ (X / scale) @ V.conj().T
        dtype = dtype_name(Z.dtype)
        return from_host(
            np.ascontiguousarray(X.real if real else X).astype(dtype if real else _complex(dtype)), Z
        )

    @property
    def diagonal(self) -> bool:
        """Whether both sides have eigenvectors."""
        return all(side is None or side.eigenvalues is not None for side in (self._left, self._right))

    def _phi_by_doubling(self, step: float, doublings: int, Z1: Array, Z2: Array | None) -> Array:
        first1, _ = self._phi_by_taylor(step, Z1)
        second1, second2 = (None, None) if Z2 is None else self._phi_by_taylor(step, Z2)
        left = None if self._left is None else self._left.exponentials(step, doublings)
        right = None if self._right is None else self._right.exponentials(step, doublings)

        def exponential(k: int, Z: Array) -> Array:
            if left is not None:
                Z = product(left[k], Z) if left[k].ndim == 2 else left[k][:, None] * Z
            if right is not None:
                Z = product(Z, right[k]) if right[k].ndim == 2 else Z * right[k][None, :]
            return Z

        for k in range(doublings):
            first1 = 0.5 * (exponential(k, first1) + first1)
            if second2 is not None:
                second2 = 0.25 * (exponential(k, second2) + second1 + second2)
                second1 = 0.5 * (exponential(k, second1) + second1)
        return first1 if second2 is None else first1 + second2

    def _phi_by_taylor(self, step: float, Z: Array) -> tuple[Array, Array]:
        """Both phi functions at step 𝓛, whose norm is at most 1, applied to Z."""
        phi1, phi2, term = Z, 0.5 * Z, Z
        for k in range(1, _TAYLOR):
            term = self.apply(term) * (step / (k + 1))  # (step 𝓛)ᵏ Z / (k+1)!
            phi1 = phi1 + term
            phi2 = phi2 + term / (k + 2)
        return phi1, phi2


def _schur(side: Coordinates | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The complex Schur form (T, P) on the host of a side of a Sylvester operator, in its coordinates."""
    if side is None:
        return np.zeros((n, n), dtype=np.complex128), np.eye(n)
    if side.eigenvalues is not None:
        return np.diag(to_host(side.eigenvalues).astype(np.complex128)), np.eye(n)
    return side.schur


def _complex(dtype: str) -> str:
    return "complex64" if dtype in ("float32", "complex64") else "complex128"


def _diagonalised(M: Array) -> Coordinates | None:
    """Coordinates of a small matrix by its eigenvectors, where they are far from dependent. On the host: the array API
    has no general ``eig``."""
    host = to_host(M).astype(np.complex128)
    eigenvalues, X = np.linalg.eig(host)
    if not np.linalg.cond(X) < _CONDITION:
        return None
    dtype = _complex(dtype_name(M.dtype))
    return Coordinates(None, *(from_host(a.astype(dtype), M) for a in (eigenvalues, X, np.linalg.inv(X))))


def phi_functions(z: Any, like: Array) -> tuple[Any, Any]:
    """phi₁ and phi₂ of an array of real or complex numbers, accurate for small and large arguments."""
    phi1 = first_phi(z, like)
    return phi1, second_phi(z, phi1, like)


def first_phi(z: Any, like: Array) -> Any:
    """phi₁(z) = (eᶻ - 1)/z, entrywise."""
    xp = namespace(like)
    if isinstance(z, float):
        return 1.0
    zero = z == 0
    return xp.where(zero, xp.ones_like(z), xp.expm1(z) / xp.where(zero, xp.ones_like(z), z))


def second_phi(z: Any, phi1: Any, like: Array) -> Any:
    """phi₂(z) = (phi₁(z) - 1)/z, entrywise, by its Taylor series where |z| < 1."""
    xp = namespace(like)
    if isinstance(z, float):
        return 0.5
    small = abs(z) < 1.0
    near = xp.where(small, z, xp.zeros_like(z))
    total = term = 0.5 * xp.ones_like(z)
    for k in range(3, _TAYLOR + 2):
        term = term * near / k
        total = total + term
    return xp.where(small, total, (phi1 - 1.0) / xp.where(small, xp.ones_like(z), z))
