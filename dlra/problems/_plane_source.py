"""Radiative transfer in slab geometry: the plane source."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.backend import to_host
from dlra.field import factored
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import banded, place, size
from dlra.problems._problem import Problem, norm
from dlra.problems._trajectory import trajectory

HALF_WIDTH = 5.0
PULSE = 0.03  # standard deviation of the source
BACKGROUND = 1e-4
SCATTERING = 1.0
CFL = 0.99
FLUXES = ("lax-friedrichs", "upwind")


def plane_source(
    nx: int = 2001,
    moments: int = 2001,
    *,
    flux: str = "lax-friedrichs",
    backend: Any = "numpy",
    dtype: Any = None,
    device: Any = None,
) -> Problem:
    """Plane source: particles from a pulse at x = 0 fly apart and scatter (radiative transfer, slab geometry).

    The angular flux ψ(x, μ), μ in [-1, 1] the cosine of the direction, at unit speed and with isotropic scattering:

        ∂ψ/∂t = -μ ∂ψ/∂x - σ_s (ψ - ½ ∫ ψ dμ),    σ_s = 1,
        ψ(0) = max(1e-4, exp(-x²/(2s²))/(s√(2π))),    s = 0.03,

    x in [-5, 5], t from 0 to 1. Y is the nx x moments matrix of the coefficients of ψ at the grid points in normalised
    Legendre polynomials √(k + ½) P_k(μ) (the P_N equations, N = moments - 1):

        Y' = -D Y A + Δx/2 D₂ Y M - σ_s Y (I - e₀e₀ᵀ)

    with D the central difference, D₂ the second one, zero outside, and A = tridiag with (k+1)/√((2k+1)(2k+3)) beside
    its diagonal, the multiplication by μ. The stabilisation M is the identity (``flux="lax-friedrichs"``, the speed
    being at most 1), or |A| (``"upwind"``, as in the paper cited): the latter is dense, moments² numbers, and makes a
    product with a field cost O(moments² r) instead of O((nx + moments) r).

    Explicit steps are stable up to Δt = Δx (Euler) or 1.39 Δx (rk4); the default is 0.99 Δx. Y(0) has rank one, Y(1)
    numerical rank 23, 36, 46, 55 at relative 1e-2, 1e-4, 1e-6, 1e-8 (at the defaults). The errors of 200 truncations
    add up: with augmented BUG a relative rank tolerance of 1e-2, as in the paper, keeps rank 9 and leaves an error of
    34 % in Y and 8 % in the scalar flux; 1e-4 keeps rank 30 and leaves 1.6e-3 and 2e-5.

    Parameters
    ----------
    nx, moments : int
        Grid points, at least 4, and Legendre polynomials, at least 2.
    flux : {"lax-friedrichs", "upwind"}
        The stabilisation.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. D, D₂ and A are sparse on
        NumPy and CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``problem.output(Y)`` is the scalar flux ½ ∫ ψ dμ at the grid points. Observables: ``norm`` and ``mass``, the
        integral of the scalar flux, constant but for what the background loses at the ends. ``reference(t)``, t >= 0:
        the full equation by an embedded Runge-Kutta method of order 8 with tolerance 1e-11, two minutes and 1 GB at the
        defaults.

    References
    ----------
    G. Ceruti, J. Kusch, C. Lubich, A parallel rank-adaptive integrator for dynamical low-rank approximation, SIAM J.
    Sci. Comput. 46 (2024) B205-B228, https://arxiv.org/abs/2304.05660. The benchmark: B. D. Ganapol, Analytical
    benchmarks for nuclear engineering applications, OECD/NEA 6292 (2008).
    """
    nx, moments = size(nx, "nx", 4), size(moments, "moments", 2)
    if flux not in FLUXES:
        raise ValueError(f"flux must be {FLUXES[0]!r} or {FLUXES[1]!r}, got {flux!r}")
    where = place("plane-source", backend, dtype, device)
    x = np.linspace(-HALF_WIDTH, HALF_WIDTH, nx)
    dx = 2 * HALF_WIDTH / (nx - 1)
    D_host = banded({1: 0.5, -1: -0.5}, nx) / dx
    D2_host = banded({0: -1.0, 1: 0.5, -1: 0.5}, nx) / dx
    A_host, M_host = _streaming(moments, flux)
    scattered_host = SCATTERING * np.array([[0.0] + [1.0] * (moments - 1)])

    def field(D: Any, D2: Any, A: Any, M: Any, scattered: Any) -> Any:
        def rhs(t: float, Y: Any) -> Any:
            smoothed = matmul(D2, Y)
            return (smoothed if M is None else smoothed @ M) - matmul(D, Y) @ A - Y * scattered

        return rhs

    host = field(D_host, D2_host, A_host, M_host, scattered_host)
    rhs = field(
        where.matrix(D_host),
        where.matrix(D2_host),
        where.matrix(A_host),
        None if M_host is None else where.array(M_host),
        where.array(scattered_host),
    )
    first = where.array(np.eye(1, moments)[0])

    def output(Y: Any) -> np.ndarray:
        return to_host(Y @ first) / np.sqrt(2)

    def mass(t: float, Y: Any) -> float:
        return dx * float(np.sum(output(Y), dtype=float))

    pulse = np.maximum(BACKGROUND, np.exp(-(x**2) / (2 * PULSE**2)) / (PULSE * np.sqrt(2 * np.pi)))
    start = np.sqrt(2) * pulse
    isotropic = np.eye(moments, 1)

    def initial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scale = np.linalg.norm(start)
        return start[:, None] / scale, np.array([scale]), isotropic

    return Problem(
        name="plane-source",
        description="Plane source in slab geometry (radiative transfer, moments in the angle)",
        F=factored(rhs),
        dense=rhs,
        t_span=(0.0, 1.0),
        shape=(nx, moments),
        observables={"norm": norm, "mass": mass},
        defaults={
            "rank": min(30, nx, moments),
            "dt": CFL * dx,
            "method": "augmented-bug",
            "rank_rtol": 1e-4,
        },
        x=x,
        y=np.arange(moments, dtype=float),
        labels=("x", "degree"),
        quantity="u",
        output=output,
        place=where,
        initial=initial,
        slope=lambda: host(0.0, LowRank(start[:, None], None, isotropic)),
        solution=trajectory("plane-source", lambda Y: host(0.0, Y), start[:, None] * isotropic.T),
    )


def _streaming(moments: int, flux: str) -> tuple[Any, np.ndarray | None]:
    """A, and the matrix M of the stabilisation (None for the identity)."""
    from scipy import sparse
    from scipy.linalg import eigh_tridiagonal

    k = np.arange(moments - 1)
    beside = (k + 1) / np.sqrt((2 * k + 1) * (2 * k + 3))
    A = sparse.diags_array([beside, beside], offsets=[-1, 1], format="csr")  # pyright: ignore[reportArgumentType]
    if flux == "lax-friedrichs":
        return A, None
    nodes, T = eigh_tridiagonal(np.zeros(moments), beside)
    return A, (T * np.abs(nodes)) @ T.T
