"""Vlasov-Poisson equations in one space and one velocity dimension."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dlra.backend import Array, to_host
from dlra.field import factored
from dlra.lazy import matmul
from dlra.lowrank import LowRank
from dlra.problems._place import Place, banded, place, positive, size
from dlra.problems._problem import Problem, norm


def landau_damping(
    nx: int = 64,
    nv: int = 256,
    *,
    alpha: float = 0.01,
    k: float = 0.5,
    v_max: float = 6.0,
    backend: Any = "numpy",
    dtype: Any = None,
    device: Any = None,
) -> Problem:
    """Landau damping: a plasma wave fades though nothing dissipates (Vlasov-Poisson, 1x1v).

    The electrons' density f(x, v) over a uniform background of ions, in units of Debye length and plasma
    frequency:

        ∂f/∂t = -v ∂f/∂x + E ∂f/∂v,    ∂E/∂x = 1 - ∫ f dv,    ∫ E dx = 0,
        f(0) = (1 + α cos kx) e^{-v²/2}/√(2π),

    x in [0, 2π/k) periodic, v in [-v_max, v_max], t from 0 to 40.

    For small α the amplitude of E oscillates and decays as the least damped root ω of the dispersion relation
    says: for k = 0.5 at rate -0.15336 with frequency 1.41566 (its energy at twice that). :func:`landau_rate`
    measures both.

    Y is f, an nx x nv matrix. Derivatives in x by the Fourier differentiation matrix; in v by central
    differences of fourth order, periodic, at the midpoints v_j = -v_max + (j + ½)Δv. The semi-discrete field
    conserves mass and the L² norm exactly, momentum and total energy up to f(±v_max), 6e-9 of its maximum:
    everything beyond that is the integrator's. As a LowRank the field has rank 2 r: -(∂ₓU) S (v∘V)ᵀ + (E∘U) S
    (∂ᵥV)ᵀ, with E from the density U S (Vᵀ1) Δv.

    Explicit substeps are stable for dt max|k| v_max < 2.8 (rk4), max|k| = k (nx/2 - 1): dt < 0.030 at the
    defaults. The grid in v sends the initial state back at the recurrence time 2π/(k Δv), 268 at the
    defaults. Y(0) has rank one, the solution to t = 40 numerical rank 4, 7, 9 at relative 1e-4, 1e-6, 1e-8;
    so a fixed rank of 5 to 10 suffices. A rank tolerance must stay well below dt·α, or the perturbation is
    truncated away.

    Parameters
    ----------
    nx, nv : int
        Grid points in x and v, at least 4 and 6.
    alpha, k : float
        Amplitude and wave number of the perturbation. At α = 0.01 the nonlinear terms already shift the
        measured rate by 0.2 %; the theory is that of α → 0.
    v_max : float
        Where the velocities end.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. The derivative in v is
        sparse on NumPy and CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        Observables: ``electric_field``, the amplitude 2|Ê(k)| of the fundamental mode; ``electric_energy``
        ½∫E² dx; ``mass`` ∫f, ``momentum`` ∫vf, ``kinetic_energy`` ½∫v²f, ``total_energy`` and ``l2_norm``. No
        closed solution exists: ``reference(t)`` is None.

    References
    ----------
    L. Einkemmer, C. Lubich, A low-rank projector-splitting integrator for the
    Vlasov-Poisson equation, SIAM J. Sci. Comput. 40 (2018) B1330-B1360, https://doi.org/10.1137/18M116383X.
    Mass, momentum and energy under rank truncation: L. Einkemmer, I. Joseph, J. Comput. Phys. 443 (2021)
    110495, https://doi.org/10.1016/j.jcp.2021.110495.
    """
    v_max = positive(v_max, "v_max")
    return _vlasov_poisson(
        name="landau-damping",
        description="Landau damping of an electron plasma wave (Vlasov-Poisson, 1x1v)",
        sizes=(nx, nv),
        perturbation=(positive(alpha, "alpha"), positive(k, "k")),
        v_max=v_max,
        equilibrium=_maxwellian,
        where=place("landau-damping", backend, dtype, device),
        t_end=40.0,
        rank=10,
    )


def two_stream(
    nx: int = 64,
    nv: int = 256,
    *,
    alpha: float = 0.001,
    k: float = 0.2,
    v0: float = 2.4,
    v_max: float = 9.0,
    backend: Any = "numpy",
    dtype: Any = None,
    device: Any = None,
) -> Problem:
    """Two-stream instability: two electron beams roll up into a vortex in phase space (Vlasov-Poisson, 1x1v).

    The equations and the discretisation of :func:`landau_damping`, from

        f(0) = (1 + α cos kx) (e^{-(v - v₀)²/2} + e^{-(v + v₀)²/2}) / (2√(2π)),

    x in [0, 2π/k), v in [-v_max, v_max], t from 0 to 40. With k = 0.2 and v₀ = 2.4 the field grows at rate 0.22584,
    the unstable root of the dispersion relation (an oscillation of frequency 1.339 that hardly decays is
    superposed: fit over whole periods of it), until it traps the beams at t = 35.5 with electric energy 3.58.

    Rank: the solution has 5, 9, 37 at t = 10, 20, 30 for a relative tail of 1e-6, and full rank after saturation
    (nx = 64). A fixed rank of 10 gives the linear phase but a maximum late and too high (4.1 at t = 45.7), 20 the
    right one. A relative rank tolerance of 1e-6 follows the rank; 1e-4 truncates the perturbation away in the
    first steps, and nothing ever grows.

    Parameters
    ----------
    nx, nv, alpha, k, v_max, backend, dtype, device
        As for :func:`landau_damping`. Stable with rk4 for dt < 0.050 at the defaults.
    v0 : float
        Mean velocity of the beams, ±v₀.

    Returns
    -------
    Problem
        With the observables of :func:`landau_damping`; ``reference(t)`` is None.

    References
    ----------
    L. Einkemmer, C. Lubich, SIAM J. Sci. Comput. 40 (2018) B1330-B1360, https://doi.org/10.1137/18M116383X.
    """
    v_max, v0 = positive(v_max, "v_max"), positive(v0, "v0")
    return _vlasov_poisson(
        name="two-stream",
        description="Two-stream instability of electron beams (Vlasov-Poisson, 1x1v)",
        sizes=(nx, nv),
        perturbation=(positive(alpha, "alpha"), positive(k, "k")),
        v_max=v_max,
        equilibrium=lambda v: 0.5 * (_maxwellian(v - v0) + _maxwellian(v + v0)),
        where=place("two-stream", backend, dtype, device),
        t_end=40.0,
        rank=20,
    )


class DampingFit(NamedTuple):
    """What :func:`landau_rate` returns."""

    rate: float
    """Exponential rate of the amplitude, negative for damping."""
    frequency: float
    """Angular frequency of the oscillation of the field."""


def landau_rate(
    times: Any, amplitude: Any, *, start: float | None = None, stop: float | None = None
) -> DampingFit:
    """Fit damping rate and frequency of an oscillating, decaying (or growing) electric field.

    The maxima of log|amplitude| are located by parabolas through three samples; the rate is the slope of the
    least-squares line through their heights, and the frequency π over the least-squares spacing of their
    times, as |cos ωt| has two maxima a period.

    Parameters
    ----------
    times, amplitude : array_like, shape (n,)
        The field's amplitude, signed or not (``problem.observables["electric_field"]``; not its energy), at
        ascending times that resolve the oscillation: 20 samples a period or more.
    start, stop : float, optional
        Use only maxima in this interval. By default the first tenth of the times is left out: other modes
        decay there.

    Returns
    -------
    DampingFit
        ``(rate, frequency)``.

    Raises
    ------
    ValueError
        Where the data are malformed or have fewer than three maxima.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra.problems import landau_rate
    >>> t = np.linspace(0, 30, 1501)
    >>> rate, frequency = landau_rate(t, np.exp(-0.1533 * t) * np.cos(1.4156 * t))
    >>> round(rate, 4), round(frequency, 4)
    (-0.1533, 1.4156)
    """
    t, a = np.asarray(times, dtype=float), np.abs(np.asarray(amplitude, dtype=float))
    if t.ndim != 1 or t.shape != a.shape:
        raise ValueError(
            f"times and amplitude must be vectors of one length, got shapes {t.shape} and {a.shape}"
        )
    if not (np.isfinite(t).all() and np.isfinite(a).all()) or (np.diff(t) <= 0).any():
        raise ValueError("times must ascend, and times and amplitude must be finite")
    y = np.log(np.maximum(a, np.finfo(float).tiny))
    i = 1 + np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]))
    left, right = (y[i] - y[i - 1]) / (t[i] - t[i - 1]), (y[i + 1] - y[i]) / (t[i + 1] - t[i])
    curvature = (right - left) / (t[i + 1] - t[i - 1])  # Newton's form of the parabola; negative at a maximum
    peak = 0.5 * (t[i - 1] + t[i]) - left / (2 * curvature)
    height = y[i - 1] + (peak - t[i - 1]) * (left + curvature * (peak - t[i]))
    first = start if start is not None else t[0] + 0.1 * (t[-1] - t[0]) if len(t) else 0.0
    used = (peak >= first) & (peak <= (math.inf if stop is None else stop))
    peak, height = peak[used], height[used]
    if len(peak) < 3:
        raise ValueError(
            f"the amplitude has {len(peak)} maxima in the interval used, and a fit needs three: run longer, "
            f"sample more finely, or widen start and stop"
        )
    rate = np.polyfit(peak - peak[0], height, 1)[0]
    spacing = np.polyfit(np.arange(len(peak)), peak, 1)[0]
    return DampingFit(float(rate), float(np.pi / spacing))


def _maxwellian(v: np.ndarray) -> np.ndarray:
    return np.exp(-(v**2) / 2) / np.sqrt(2 * np.pi)


def _vlasov_poisson(
    *,
    name: str,
    description: str,
    sizes: tuple[int, int],
    perturbation: tuple[float, float],
    v_max: float,
    equilibrium: Any,
    where: Place,
    t_end: float,
    rank: int,
) -> Problem:
    nx, nv = size(sizes[0], "nx", 4), size(sizes[1], "nv", 6)
    alpha, k = perturbation
    dx, dv = 2 * np.pi / k / nx, 2 * v_max / nv
    x, v = dx * np.arange(nx), -v_max + dv * (np.arange(nv) + 0.5)
    density, profile = 1 + alpha * np.cos(k * x), equilibrium(v)

    D, integral = _fourier(nx, k)
    Dv = _central_difference(nv) / dv
    rhs = _field(Place(np, "float64"), D, integral, Dv, v, dv)
    initial_factors = _normalised(density), _normalised(profile)
    scale = np.linalg.norm(density) * np.linalg.norm(profile)

    def initial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return initial_factors[0], np.array([scale]), initial_factors[1]

    def slope() -> LowRank:
        U, V = initial_factors
        return rhs(0.0, LowRank(U, np.array([[scale]]), V))

    field = _field(where, D, integral, Dv, v, dv)
    return Problem(
        name=name,
        description=description,
        F=factored(field),
        dense=field,
        t_span=(0.0, t_end),
        shape=(nx, nv),
        observables=_observables(where, integral, x, v, k, dx, dv),
        defaults={
            "rank": min(rank, nx, nv),
            "dt": _stable_step(k * ((nx - 1) // 2) * v_max),
            "method": "augmented-bug",
        },
        x=x,
        y=v,
        labels=("x", "v"),
        quantity="f",
        place=where,
        initial=initial,
        slope=slope,
    )


def _field(where: Place, D: np.ndarray, integral: np.ndarray, Dv: Any, v: np.ndarray, dv: float) -> Any:
    """Return F(t, f) = -v ∂f/∂x + E ∂f/∂v for a LowRank or a dense array f."""
    minus_D, Dv = where.array(-D), where.matrix(Dv)
    speeds, quadrature = where.array(v[None, :]), where.array(np.full(len(v), dv))
    poisson = where.array(-integral)

    def rhs(t: float, f: Any) -> Any:
        E = poisson @ (f @ quadrature)  # ∂E/∂x = 1 - ∫ f dv without its mean
        return matmul(minus_D, f) * speeds + matmul(Dv, f.T).T * E[:, None]

    return rhs


def _observables(
    where: Place, integral: np.ndarray, x: np.ndarray, v: np.ndarray, k: float, dx: float, dv: float
) -> dict[str, Any]:
    quadrature = where.array(np.full(len(v), dv))
    first, second = where.array(v * dv), where.array(0.5 * v**2 * dv)

    def electric(f: Any) -> np.ndarray:
        return -integral @ to_host(f @ quadrature).astype(float)

    def moment(weights: Array, f: Any) -> float:
        return dx * float(np.sum(to_host(f @ weights), dtype=float))

    def electric_field(t: float, f: Any) -> float:
        return float(2 / len(x) * abs(np.exp(-1j * k * x) @ electric(f)))

    def electric_energy(t: float, f: Any) -> float:
        return float(0.5 * dx * np.sum(electric(f) ** 2))

    def kinetic_energy(t: float, f: Any) -> float:
        return moment(second, f)

    return {
        "electric_field": electric_field,
        "electric_energy": electric_energy,
        "mass": lambda t, f: moment(quadrature, f),
        "momentum": lambda t, f: moment(first, f),
        "kinetic_energy": kinetic_energy,
        "total_energy": lambda t, f: kinetic_energy(t, f) + electric_energy(t, f),
        "l2_norm": lambda t, f: math.sqrt(dx * dv) * norm(t, f),
    }


def _stable_step(frequency: float) -> float:
    """0.02, or where rk4 needs a shorter step for this frequency, that, rounded down to two digits."""
    limit = 2.5 / frequency
    unit = 10.0 ** (math.floor(math.log10(limit)) - 1)
    return min(0.02, math.floor(limit / unit) * unit)


def _normalised(a: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a))[:, None]


def _fourier(n: int, k: float) -> tuple[np.ndarray, np.ndarray]:
    """Derivative and antiderivative (of zero mean) of n values over one period 2π/k, as matrices.

    Both are skew-symmetric, annihilate constants and, for even n, the mode that alternates from point to
    point.
    """
    numbers = np.fft.fftfreq(n, 1 / n)
    if n % 2 == 0:
        numbers[n // 2] = 0
    inverse = np.divide(1, numbers, out=np.zeros(n), where=numbers != 0)
    modes = np.fft.fft(np.eye(n), axis=0)

    def skew(symbol: np.ndarray) -> np.ndarray:
        M = np.fft.ifft(symbol[:, None] * modes, axis=0).real
        return 0.5 * (M - M.T)

    return skew(1j * k * numbers), skew(-1j / k * inverse)


def _central_difference(n: int) -> Any:
    """The first derivative on n periodic points of spacing 1, of fourth order."""
    near, far = 2 / 3, -1 / 12
    return banded(
        {1: near, 2: far, 1 - n: near, 2 - n: far, -1: -near, -2: -far, n - 1: -near, n - 2: -far}, n
    )
