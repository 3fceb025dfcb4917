"""Functions of a large operator applied to thin matrices, by rational Krylov subspaces.

For 𝓛(X) = A X + X R with a large A (n x n, known by its action and by solves with I - s A) and a small R, f(𝓛) Z is
approximated from the range of Q, an orthonormal basis of span {Z, (I - sA)⁻¹Z, (I - sA)⁻²Z, ...}: Q f(𝓛_Q) QᴴZ with
𝓛_Q(X) = (QᴴAQ) X + X R. With one pole 1/s the solves share one factorisation, and the number of iterations does not
grow with ‖A‖. Without solves the subspaces are polynomial, span {Z, AZ, A²Z, ...}.

The error is estimated by the change from one iteration to the next, for polynomial subspaces also by the residual, and
the iteration goes on until that is below the tolerance.

See J. van den Eshof, M. Hochbruck, Preconditioning Lanczos approximations to the matrix exponential, SIAM J. Sci.
Comput. 27 (2006) 1438-1457; S. Güttel, Rational Krylov approximation of matrix functions, GAMM-Mitt. 36 (2013) 8-31.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dlra import linalg
from dlra.backend import Array, H, eps, namespace, norm, zeros
from dlra.phi import Coordinates

__all__ = ["NoConvergence", "thin_function", "two_sided_function"]

SHIFT = 0.15
"""The pole of the exponential over a step h, as a share of h: measured best for accuracies from 1e-6 to 1e-10."""

MAX_BLOCKS = {True: 40, False: 60}
"""Largest number of blocks of a rational (True) and of a polynomial subspace."""


class NoConvergence(Exception):
    """The error estimate did not fall below the tolerance."""


def thin_function(
    operator: Any, Z: Array, s: float, small: Callable[[Coordinates, Array], Array], rtol: float
) -> Array:
    """Approximate f(𝓛) Z for a thin Z, shape (n, r).

    Parameters
    ----------
    operator : StiffOperator
        A, with ``apply`` and, if ``solves``, ``solve(s, X)``.
    Z : array, shape (n, r)
    s : float
        The pole is 1/s.
    small : callable
        ``small(coordinates of QᴴAQ, QᴴZ)``: the coefficients f(𝓛_Q) QᴴZ.
    rtol : float
        Tolerance relative to the norm of the result; raised to 10 eps ‖sA‖, for the rounding errors of A change the
        result by as much.

    Raises
    ------
    NoConvergence
    """
    if norm(Z) == 0.0:
        return Z
    basis = linalg.complement(Z, [])
    rtol = max(rtol, _attainable(operator, s, basis))
    space, start = Subspace(operator, basis), H(basis) @ Z  # Z lies in the range of the first block
    previous, estimate = small(Coordinates.of(space.compressed), start), math.inf
    for _ in range(MAX_BLOCKS[operator.solves]):
        old = space.columns
        if not space.grow(s):
            return space.combination(previous)
        current = small(Coordinates.of(space.compressed), linalg.embed(start, space.columns, start.shape[1]))
        change = math.hypot(norm(current[:old, :] - previous), norm(current[old:, :]))
        if not operator.solves:  # polynomial subspaces may stand still long before they have converged
            change = max(change, abs(s) / SHIFT * norm(space.compressed[old:, :old] @ previous))
        estimate, previous = change / max(norm(current), 1e-300), current
        if estimate <= rtol:
            return space.combination(current)
    raise NoConvergence(_text(space.columns, estimate, rtol))


def two_sided_function(
    left: Any,
    right: Any,
    U: Array,
    V: Array,
    s: float,
    small: Callable[[Coordinates, Coordinates], Array],
    rtol: float,
    size: float = 1e-300,
) -> tuple[Array, Array, Array]:
    """Approximate f(𝓛) for 𝓛(X) = A X + X B with two large operators, from the ranges of U and V (orthonormal).

    ``small(coordinates of QᴴAQ, of PᴴBP)`` gives the core C of the result Q C Pᴴ, the leading columns of Q and P
    being U and V. The error is relative to the result, or to ``size`` where that is larger. ``left`` is A and
    ``right`` is Bᴴ, either may be None; V is U stands for B = Aᴴ and a Hermitian result.

    Returns
    -------
    Q, C, P
    """
    for operator, basis in ((left, U), (right, V)):
        if operator is not None:
            rtol = max(rtol, _attainable(operator, s, basis))
    Q = Subspace(left, U)
    P = Q if V is U else Subspace(right, V)
    previous, estimate = None, math.inf
    solves = all(operator is None or operator.solves for operator in (left, right))
    for _ in range(MAX_BLOCKS[solves]):
        A = Coordinates.of(Q.compressed)
        current = small(A, A if P is Q else Coordinates.of(H(P.compressed)))
        if previous is not None:
            change = norm(current - linalg.embed(previous, *current.shape))
            estimate = change / max(norm(current), size, 1e-300)
        if estimate <= rtol:
            break
        previous = current
        grown = [space.grow(s) for space in ([Q] if P is Q else [Q, P])]
        if not any(grown):
            break
    else:
        raise NoConvergence(_text(max(Q.columns, P.columns), estimate, rtol))
    xp = namespace(U)
    basis = xp.concat(Q.blocks, axis=1)[:, : current.shape[0]]
    return basis, current, basis if P is Q else xp.concat(P.blocks, axis=1)[:, : current.shape[1]]


class Subspace:
    """A Krylov subspace that grows block by block, with the compression of the operator.

    ``operator`` None stands for zero: the subspace does not grow.

    Attributes
    ----------
    blocks : list of arrays
        Orthonormal blocks.
    compressed : array
        QᴴAQ.
    columns : int
    """

    def __init__(self, operator: Any, basis: Array):
        self.operator, self.blocks, self.columns = operator, [basis], basis.shape[1]
        if operator is None:
            self.compressed = zeros((self.columns, self.columns), basis)
            return
        self._image = operator.apply(basis)
        self._images = [self._image]
        self.compressed = H(basis) @ self._image

    def grow(self, s: float) -> bool:
        """Add a block; tell whether there was one to add."""
        if self.operator is None:
            return False
        operator, last = self.operator, self.blocks[-1]
        new = linalg.complement(operator.solve(s, last) if operator.solves else self._image, self.blocks)
        if new.shape[1] == 0 or self.columns + new.shape[1] > new.shape[0]:  # an invariant subspace
            return False
        self._image = image = operator.apply(new)
        beside = _coefficients(self.blocks, image)
        below = H(beside) if operator.hermitian else H(_coefficients(self._images, new))
        self.compressed = _bordered(self.compressed, beside, below, H(new) @ image)
        self.blocks.append(new)
        self._images = [] if operator.hermitian else [*self._images, image]
        self.columns += new.shape[1]
        return True

    def combination(self, C: Array) -> Array:
        """Q C."""
        total, row = None, 0
        for block in self.blocks:
            term = block @ C[row : row + block.shape[1], :]
            total, row = term if total is None else total + term, row + block.shape[1]
        return total


def _attainable(operator: Any, s: float, like: Array) -> float:
    """The relative accuracy that rounding errors leave."""
    return 10 * eps(like) * abs(s) * operator.size(like)


def _text(columns: int, estimate: float, rtol: float) -> str:
    return (
        f"a Krylov subspace of {columns} columns leaves a relative error of about {estimate:.1e}, above the tolerance "
        f"{rtol:.1e}"
    )


def _coefficients(Q: list[Array], W: Array) -> Array:
    return namespace(W).concat([H(block) @ W for block in Q], axis=0)


def _bordered(A: Array, beside: Array, below: Array, corner: Array) -> Array:
    xp = namespace(A)
    return xp.concat((xp.concat((A, beside), axis=1), xp.concat((below, corner), axis=1)), axis=0)
