"""Optimal cooling of steel profiles: a differential Riccati equation with real finite-element data."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from dlra.backend import Array, to_host
from dlra.field import factored
from dlra.lazy import apply, apply_adjoint
from dlra.lowrank import LowRank
from dlra.problems._place import place
from dlra.problems._problem import Problem, norm, nothing, trace
from dlra.problems._steel import SteelModel, mass_solver
from dlra.semilinear import SemiLinear


def steel_riccati(
    data: int | str | os.PathLike[str] = 371,
    *,
    backend: Any = "numpy",
    dtype: Any = None,
    device: Any = None,
) -> Problem:
    """Optimal cooling of a steel profile: its feedback gain over time, a differential Riccati equation.

    The model of :func:`steel_lyapunov`, E x' = A x + B u, y = C x with seven inputs and six outputs, controlled
    so that ∫ |y|² + |u|² is least over a horizon of length t. The least cost from x is xᵀE P(t) E x with

        E P' E = CᵀC + Aᵀ P E + E P A - E P B Bᵀ P E,    P(0) = 0,    t from 0 to 4500 (seconds),

    and the optimal input is u = -K(t) x with the gain K = Bᵀ P E, t being the time to go. Multiplied by E⁻¹ from both
    sides,

        P' = E⁻¹A P + P Aᵀ E⁻ᵀ + (E⁻¹Cᵀ)(E⁻¹Cᵀ)ᵀ - (P B)(P B)ᵀ,

    whose linear part is declared stiff (:class:`~dlra.SemiLinear`); the rest has rank 13 whatever the rank of P. With
    these weights control is dear: the quadratic term changes P(4500) by 2e-4. The numerical rank of P(4500), by the
    tail of its singular values relative to ‖P‖_F, is 36, 55, 71 at 1e-4, 1e-6, 1e-8 (371 unknowns) and 43, 65, 85 (1357
    unknowns).

    Start with rank 40 or more even where a tolerance governs the rank, as for :func:`steel_lyapunov`: P(0) = 0
    and the source have rank 6, and a step at most doubles the rank.

    Parameters
    ----------
    data : 371 or path
        As for :func:`steel_lyapunov`.
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. A and E are sparse on
        NumPy and CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)``, t >= 0, is exact up to rounding: the linear-fractional flow over a short time from a power
        series in the generalised eigenvectors of A and E, then doubled until t (0.7 s for 371 unknowns, 30 s for 1357).
        Observables: ``gain``, the Frobenius norm of K, ``norm`` and ``trace``; ``problem.output(P)`` is the whole
        matrix K, inputs x n.

    Raises
    ------
    ValueError, FileNotFoundError
        A file that is missing or not of that form; the text names the file and the key.

    References
    ----------
    P. Benner, J. Saak, A semi-discretized heat transfer model for optimal cooling of
    steel profiles, in: Dimension Reduction of Large-Scale Systems, Springer, 2005, 353-356,
    https://doi.org/10.1007/3-540-27909-1_19. The data come from M-M.E.S.S., BSD 2-clause licence
    (``dlra/problems/data/NOTICE.txt``). Doubling: B. D. O. Anderson, Second-order convergent algorithms for the
    steady-state Riccati equation, Int. J. Control 28 (1978) 295-306, https://doi.org/10.1080/00207177808922455.
    """
    model = SteelModel.load(data)
    where = place("steel-riccati", backend, dtype, device)
    A, E = where.matrix(model.A), where.matrix(model.E)
    EC_host = model.solve_mass(model.C.T)
    EC, B = where.array(EC_host), where.array(model.B)
    n = model.n
    mass_solve = mass_solver(model, E, where)
    source = LowRank(EC, None, EC)

    def rest(t: float, P: Any) -> Any:
        if isinstance(P, LowRank):
            return source - LowRank(apply(P, B), None, apply_adjoint(P, B))
        return EC @ EC.T - (P @ B) @ (B.T @ P)

    def dense(t: float, P: Array) -> Array:
        return mass_solve(A @ P) + mass_solve(A @ P.T).T + rest(t, P)

    def output(P: Any) -> np.ndarray:
        return to_host(E @ apply_adjoint(P, B)).T  # E is symmetric

    def gain(t: float, P: Any) -> float:
        return float(np.linalg.norm(output(P)))

    def solution(t: float) -> np.ndarray:
        if t < 0:
            raise ValueError(f"the reference of steel-riccati starts at t = 0, got t = {t}")
        rates, X = model.modes
        return X @ riccati_from_zero(rates, X.T @ model.C.T, X.T @ model.B, t) @ X.T

    index = np.arange(1.0, n + 1)
    return Problem(
        name="steel-riccati",
        description="Optimal feedback for a cooling steel profile (differential Riccati equation)",
        F=SemiLinear(A, A.T, factored(rest, symmetric=True), E=E, symmetric=True),
        dense=dense,
        t_span=(0.0, 4500.0),
        shape=(n, n),
        observables={"gain": gain, "norm": norm, "trace": trace},
        defaults={"rank": min(40, n), "dt": 45.0, "method": "augmented-bug", "rank_rtol": 1e-6},
        x=index,
        y=index,
        labels=("node", "node"),
        quantity="P",
        symmetric=True,
        output=output,
        place=where,
        initial=nothing(n),
        slope=lambda: LowRank(EC_host, None, EC_host),
        solution=solution,
    )


def riccati_from_zero(rates: np.ndarray, G: np.ndarray, B: np.ndarray, t: float) -> np.ndarray:
    """X(t) of X' = Λ X + X Λ + G Gᵀ - X B Bᵀ X, X(0) = 0, with Λ = diag(rates) <= 0.

    The flow of any start is X₀ -> Γ + Eᵀ X₀ (I + Ω X₀)⁻¹ E, and flows over one time compose to that over twice the
    time. Γ and Ω only ever grow, and E is carried as D + F with D = e^{tΛ}: nothing cancels, also where t ‖Λ‖ is 10⁵.
    """
    n = len(rates)
    scale = math.sqrt(np.linalg.norm(G.T @ G) / np.linalg.norm(B.T @ B)) if t else 1.0
    G, B = G / math.sqrt(scale), B * math.sqrt(scale)  # X = scale times the unknown: both terms of one size
    speed = np.abs(rates).max() + np.linalg.norm(G, 2) * np.linalg.norm(B, 2)
    doublings = max(0, math.ceil(math.log2(t * speed))) if t * speed > 0 else 0
    h = t / 2**doublings
    F, Omega, Gamma = _short_flow(rates, G, B, h)
    eye = np.eye(n)
    for _ in range(doublings):
        D = np.exp(h * rates)
        E = F + np.diag(D)
        inner = Omega @ Gamma
        solved = np.linalg.solve(eye + inner, np.concatenate((E, Omega @ E.T, inner @ E), axis=1))
        KE, K_Omega_Et, loss = solved[:, :n], solved[:, n : 2 * n], solved[:, 2 * n :]
        Gamma = Gamma + E.T @ (Gamma @ KE)
        Omega = Omega + E @ K_Omega_Et
        F = D[:, None] * F + F * D + F @ F - E @ loss
        Gamma, Omega = 0.5 * (Gamma + Gamma.T), 0.5 * (Omega + Omega.T)
        h *= 2
    return scale * Gamma


def _short_flow(
    rates: np.ndarray, G: np.ndarray, B: np.ndarray, h: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F, Ω and Γ of the flow over a time h with h ‖Λ‖ <= 1.

    With X = V U⁻¹: U' = -Λ U + B Bᵀ V, V' = G Gᵀ U + Λ V. The series of its exponential without that of the diagonal
    part, term by term.
    """
    n = len(rates)
    diagonal = h * np.concatenate((-rates, rates))
    power = np.ones(2 * n)
    term = np.zeros((2 * n, 2 * n))
    R = np.zeros((2 * n, 2 * n))

    def coupled(M: np.ndarray) -> np.ndarray:
        return h * np.concatenate((B @ (B.T @ M[n:]), G @ (G.T @ M[:n])))

    for k in range(1, 60):
        term = (diagonal[:, None] * term + coupled(term) + coupled(np.diag(power))) / k
        power = power * diagonal / k
        R = R + term
        if np.linalg.norm(term) <= 1e-17 * np.linalg.norm(R):
            break
    D = np.exp(h * rates)
    E = np.linalg.inv(np.diag(1 / D) + R[:n, :n])
    return -(E @ R[:n, :n]) * D, E @ R[:n, n:], R[n:, :n] @ E
