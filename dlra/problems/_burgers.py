"""Burgers' equation with an uncertain initial value."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra.backend import Array
from dlra.field import factored
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import banded, place, positive, size
from dlra.problems._problem import Problem, norm, svd_of
from dlra.problems._trajectory import trajectory
from dlra.semilinear import SemiLinear

MODES = 4


def burgers_uncertain(
    nx: int = 256,
    samples: int = 64,
    *,
    viscosity: float = 0.01,
    sigma: float = 0.001,
    backend: Any = "numpy",
    dtype: Any = None,
    device: Any = None,
) -> Problem:
    """Burgers' equation with an uncertain initial value, Y' = ν D₂ Y - Y ∘ (D₁ Y), a sample in every column.

    ∂u/∂t = ν ∂²u/∂x² - u ∂u/∂x on the interior points x_i = i/(nx + 1) of (0, 1) with zero boundary values, D₁ and D₂
    the central differences, ∘ the product entry by entry; t from 0 to 0.2. Sample ξ starts from

        u(x, 0) = sin 2πx (½ (e^{cos 2πx} - 3/2) + σ Σ √λ_k φ_k(x) ξ_k),    k = 1, ..., 4,

    with λ_k, φ_k the leading eigenvalues and functions of the covariance e^{-(x-y)²/2} (Karhunen-Loève expansion) and
    independent standard normal ξ_k from a fixed seed. Y(0) has rank 5 with singular values that fall to 7e-6 of the
    first, as the uncertainty is small; at t = 0.2 the numerical rank is 3, 6, 9 for relative tails of 1e-4, 1e-6, 1e-8.

    The diffusion is declared as stiff linear part (:class:`~dlra.SemiLinear`); the quadratic term is exact on factors,
    of rank r² and at cost O((nx + samples) r²).

    Parameters
    ----------
    nx, samples : int
        Grid points, at least 4, and samples, at least 2.
    viscosity, sigma : float
        ν and σ.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. D₁ and D₂ are sparse on
        NumPy and CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        Observables: ``norm``; ``energy``, the mean over the samples of ½ ∫ u² dx; ``deviation``, the root of the
        integral of the samples' variance. ``reference(t)``, t >= 0: the full equation by an embedded Runge-Kutta method
        of order 8 with tolerance 1e-11, half a second at the defaults.

    References
    ----------
    M. Donello, G. Palkar, M. H. Naderi, D. C. Del Rey Fernández, H. Babaee, Oblique projection for scalable
    rank-adaptive reduced-order modelling of nonlinear stochastic partial differential equations with time-dependent
    bases, Proc. R. Soc. A 479 (2023) 20230320, https://doi.org/10.1098/rspa.2023.0320; M. H. Naderi, S. Akhavan, H.
    Babaee, https://arxiv.org/abs/2408.16591.
    """
    nx, samples = size(nx, "nx", 4), size(samples, "samples", 2)
    viscosity, sigma = positive(viscosity, "viscosity"), positive(sigma, "sigma")
    where = place("burgers-uncertain", backend, dtype, device)
    dx = 1 / (nx + 1)
    x = dx * np.arange(1, nx + 1)
    D1_host = banded({1: 0.5, -1: -0.5}, nx) / dx
    D2_host = banded({0: -2.0, 1: 1.0, -1: 1.0}, nx) * (viscosity / dx**2)
    D1, D2 = where.matrix(D1_host), where.matrix(D2_host)
    L_host, R_host = _initial_value(x, samples, sigma)
    average = where.array(np.full(samples, 1 / samples))
    ones = where.array(np.ones((samples, 1)))

    def rest(t: float, Y: Any) -> Any:
        return -(Y * matmul(D1, Y))

    def dense(t: float, Y: Array) -> Array:
        return matmul(D2, Y) + rest(t, Y)

    def energy(t: float, Y: Any) -> float:
        return 0.5 * dx / samples * norm(t, Y) ** 2

    def deviation(t: float, Y: Any) -> float:
        if isinstance(Y, LowRank):
            U, S, V = Y.factors
            centred: Any = LowRank(U, S, V - ones @ (average @ V)[None, :])
        else:
            centred = Y - (Y @ average)[:, None]
        return float(np.sqrt(dx / samples)) * norm(t, centred)

    def slope() -> LowRank:
        Y = LowRank(L_host, None, R_host)
        return matmul(D2_host, Y) - Y * matmul(D1_host, Y)

    def rhs(Y: np.ndarray) -> np.ndarray:
        return D2_host @ Y - Y * (D1_host @ Y)

    return Problem(
        name="burgers-uncertain",
        description="Burgers' equation with uncertain initial value, a sample in every column",
        F=SemiLinear(D2, None, factored(rest)),
        dense=dense,
        t_span=(0.0, 0.2),
        shape=(nx, samples),
        observables={"norm": norm, "energy": energy, "deviation": deviation},
        defaults={"rank": min(8, nx, samples), "dt": 0.002, "method": "augmented-bug"},
        x=x,
        y=np.arange(1.0, samples + 1),
        labels=("x", "sample"),
        quantity="u",
        place=where,
        initial=lambda: svd_of(L_host, np.eye(L_host.shape[1]), R_host),
        slope=slope,
        solution=trajectory("burgers-uncertain", rhs, L_host @ R_host.T),
    )


def _initial_value(x: np.ndarray, samples: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Factors L (nx x 5) and R (samples x 5) of the initial value L Rᵀ."""
    count = min(MODES, samples - 1)
    eigenvalues, modes = np.linalg.eigh(np.exp(-0.5 * (x[:, None] - x) ** 2))
    modes = modes[:, : -count - 1 : -1]
    modes *= np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(count)])  # eigh leaves the sign open
    random = np.random.default_rng(0).standard_normal((samples, MODES))[:, :count]
    mean = 0.5 * (np.exp(np.cos(2 * np.pi * x)) - 1.5)
    modes = sigma * np.sqrt(eigenvalues[: -count - 1 : -1]) * modes
    L = np.sin(2 * np.pi * x)[:, None] * np.concatenate((mean[:, None], modes), axis=1)
    return L, np.concatenate((np.ones((samples, 1)), random), axis=1)
