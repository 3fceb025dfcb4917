"""Allen-Cahn equation in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra._entrywise import entrywise
from dlra.backend import Array
from dlra.field import factored
from dlra.lazy import matmul
from dlra.problems._place import banded, place, size
from dlra.problems._problem import Problem, norm, quadratic, quartic
from dlra.problems._trajectory import trajectory
from dlra.semilinear import SemiLinear

DIFFUSIVITY = 0.01


def allen_cahn(n: int = 128, *, backend: Any = "numpy", dtype: Any = None, device: Any = None) -> Problem:
    """Allen-Cahn equation of phase separation, Y' = A Y + Y A + Y - Y³ (the cube entry by entry).

    A is 0.01 times the periodic second difference on x = linspace(0, 2π, n), both ends included, so that
    first and last point are neighbours at distance Δx = 2π/(n - 1) like all others; t from 0 to 10. Y(0) has
    the entries

        u(x, y) = 2 e^{-tan² x} sin x sin y / (1 + e^{|1/sin(-x/2)|} + e^{|1/sin(-y/2)|}).

    The equation is the gradient flow of the observable ``energy``, -½⟨Y, A Y + Y A + Y⟩ + ¼ Σ Y_ij⁴, which
    falls. The linear part A Y + Y A is declared stiff (:class:`~dlra.SemiLinear`); in the rest Y - Y³ the cube is
    computed from samples of rows and columns (:func:`dlra.entrywise`, relative tolerance 1e-10), and so is the quartic
    part of ``energy``: O(n k (r + k)) for a cube of rank k.

    Parameters
    ----------
    n : int
        Grid points in each direction, at least 4.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. A is sparse on NumPy and
        CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)``, t >= 0: the full equation by an embedded Runge-Kutta method of order 8 with
        tolerance 1e-11, a second or so at n = 128. Observables: ``norm`` and ``energy``.

    References
    ----------
    A. Rodgers, D. Venturi, Implicit integration of nonlinear evolution equations on
    tensor manifolds, J. Sci. Comput. 97 (2023) 33, https://doi.org/10.1007/s10915-023-02352-w; B. Carrel, B.
    Vandereycken, https://arxiv.org/abs/2312.00172, whose initial value this is.
    """
    n = size(n, "n", 4)
    where = place("allen-cahn", backend, dtype, device)
    x = np.linspace(0, 2 * np.pi, n)
    A_host = banded({0: -2.0, 1: 1.0, -1: 1.0, 1 - n: 1.0, n - 1: 1.0}, n) * (
        DIFFUSIVITY / (x[1] - x[0]) ** 2
    )
    A = where.matrix(A_host)

    def rest(t: float, Y: Any) -> Any:
        return Y - entrywise(_cube, Y)

    def dense(t: float, Y: Array) -> Array:
        return matmul(A, Y) + Y @ A + rest(t, Y)

    def energy(t: float, Y: Any) -> float:
        return 0.25 * quartic(Y) - 0.5 * (norm(t, Y) ** 2 + quadratic(Y, A, A))

    def rhs(u: np.ndarray) -> np.ndarray:
        return A_host @ u + u @ A_host + u - _cube(u)

    initial_value = _initial_value(x)

    def initial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        U, s, Vh = np.linalg.svd(initial_value)
        return U, s, Vh.T

    return Problem(
        name="allen-cahn",
        description="Allen-Cahn equation, Y' = A Y + Y A + Y - Y^3",
        F=SemiLinear(A, A, factored(rest)),
        dense=dense,
        t_span=(0.0, 10.0),
        shape=(n, n),
        observables={"norm": norm, "energy": energy},
        defaults={"rank": min(10, n), "dt": 0.02, "method": "augmented-bug"},
        x=x,
        y=x,
        labels=("x", "y"),
        quantity="u",
        place=where,
        initial=initial,
        solution=trajectory("allen-cahn", rhs, initial_value),
    )


def _cube(u: Array) -> Array:
    return u * u * u


def _initial_value(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        wall = np.abs(1 / np.sin(-x / 2))  # infinite at the ends, where u vanishes
    damping = np.exp(-np.logaddexp(0.0, np.logaddexp(wall[:, None], wall)))
    return 2 * (np.exp(-(np.tan(x) ** 2)) * np.sin(x))[:, None] * np.sin(x) * damping
