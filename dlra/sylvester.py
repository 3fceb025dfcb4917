"""The operator 𝓛(X) = L X + X R of a small equation, and the functions of it that substeps need."""

from __future__ import annotations

import functools
from typing import Any

from dlra.backend import Array, astype, dtype_name, eps, is_array, is_complex, namespace, norm, product, tight
from dlra.krylov import SHIFT, NoConvergence, thin_function
from dlra.phi import Coordinates, SylvesterFlow

__all__ = ["Sylvester"]

_SCHUR = 1500
"""Largest size at which a matrix without well-conditioned eigenvectors is brought to Schur form."""


class Sylvester:
    """𝓛(X) = L X + X R for unknowns like X.

    L is None, a small array or a :class:`~dlra.semilinear.StiffOperator`, R is None or a small array. Where L has a
    dense decomposition, functions of 𝓛 are entrywise in coordinates; else they come from rational Krylov subspaces.

    Parameters
    ----------
    pair : (L, R) or None
        None stands for zero.
    like : array
        An unknown: fixes shape, dtype, library.
    rtol : float, optional
        Tolerance of the Krylov approximations; None for 1e-10 in double and 1e-5 in single precision.
    """

    def __init__(self, pair: Any, like: Array, rtol: float | None = None):
        self._left, self._right = (None, None) if pair is None else pair
        self._like = like
        self._rtol = tight(like) if rtol is None else rtol
        self._thin = self._left is not None and not is_array(self._left) and not self._left.decomposes

    def image(self, X: Array) -> Array:
        """𝓛(X)."""
        total = None
        if self._left is not None:
            total = product(self._left, X) if is_array(self._left) else self._left.apply(X)
        if self._right is not None:
            right = product(X, self._right)
            total = right if total is None else total + right
        return 0.0 * X if total is None else self._cast(total)

    def phi1(self, h: float, Z: Array) -> Array:
        """phi₁(h𝓛) Z with phi₁(z) = (eᶻ - 1)/z."""
        return self._function(SHIFT * h, Z, lambda flow, Z: flow.phi(h, Z))

    def phi2(self, h: float, Z: Array) -> Array:
        """phi₂(h𝓛) Z with phi₂(z) = (phi₁(z) - 1)/z."""
        return self._function(SHIFT * h, Z, lambda flow, Z: flow.phi(h, 0.0 * Z, Z))

    def resolvent(self, s: float, Z: Array) -> Array:
        """(I - s𝓛)⁻¹ Z."""
        thin = self._thin
        if not thin and self._left is not None and not is_array(self._left):
            thin = not self._flow.diagonal and Z.shape[0] > _SCHUR
        X = self._function(s, Z, lambda flow, Z: flow.resolvent(s, Z), thin)
        if thin:
            image = s * self.image(X)
            residual, size = norm(X - image - Z), norm(X) + norm(image) + norm(Z)
            if not residual <= 1e3 * max(self._rtol, eps(Z)) * size:
                raise NoConvergence(f"the residual of a Krylov solve is {residual / size:.1e} of its terms")
        return X

    def _function(self, s: float, Z: Array, function: Any, thin: bool | None = None) -> Array:
        """A function of 𝓛, given in coordinates, applied to Z; ``s`` is a good pole for Krylov subspaces."""
        if not (self._thin if thin is None else thin):
            return self._in_coordinates(self._flow, Z, function)

        def small(left: Coordinates, Z: Array) -> Array:
            return self._in_coordinates(SylvesterFlow(left, self._right_coordinates), Z, function)

        return self._cast(thin_function(self._left, Z, s, small, self._rtol))

    def _in_coordinates(self, flow: SylvesterFlow, Z: Array, function: Any) -> Array:
        return self._cast(flow.leave(function(flow, flow.enter(Z)), not is_complex(Z)))

    @functools.cached_property
    def _right_coordinates(self) -> Coordinates | None:
        return None if self._right is None else Coordinates.of(self._right)

    @functools.cached_property
    def _flow(self) -> SylvesterFlow:
        left = self._left
        if left is not None:
            left = Coordinates.of(left) if is_array(left) else left.coordinates(self._like)
        return SylvesterFlow(left, self._right_coordinates)

    def _cast(self, Z: Array) -> Array:
        """In the dtype of the unknown: a real one stays real."""
        like = self._like
        if is_complex(Z) and not is_complex(like):
            Z = namespace(Z).real(Z)
        return Z if dtype_name(Z.dtype) == dtype_name(like.dtype) else astype(Z, like.dtype)
