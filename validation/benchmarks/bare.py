"""Hand-written NumPy loops of four integrators, to measure steps of dlra beside: no checks, no counts, no options.

They take a general F on raw factors: a function (U, S, V) -> (P, M, Q) with F = P M Qᵀ. Substeps are Runge-Kutta 4, the
rank is fixed, and F at the start of a step is used wherever it is needed, as dlra does. They do not keep their bases
orthonormal over many steps. :func:`augmented_special` is written for one problem: A and C are projected onto the bases
once a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

import dlra

Factors = tuple[np.ndarray, np.ndarray, np.ndarray]
Field = Callable[[np.ndarray, np.ndarray, np.ndarray], Factors]


def problem(n: int, r: int) -> tuple[Any, np.ndarray, dlra.LowRank]:
    """A (sparse, non-stiff; a dense array up to n = 500), C and the initial value of Ẏ = A Y + Y Aᵀ + C Cᵀ."""
    rng = np.random.default_rng(0)
    diagonals = [np.full(n - 1, 0.5), np.full(n, -1.0), np.full(n - 1, 0.5)]
    A: Any = sp.diags_array(diagonals, offsets=[-1, 0, 1]).tocsr()  # type: ignore[arg-type]
    if n <= 500:
        A = A.toarray()
    C = rng.standard_normal((n, 2)) / np.sqrt(n)
    U, V = (np.linalg.qr(rng.standard_normal((n, r)))[0] for _ in range(2))
    return A, C, dlra.LowRank(U, np.diag(0.5 ** np.arange(r)) + 0.1 * rng.standard_normal((r, r)), V)


def field(A: Any, C: np.ndarray) -> Any:
    """The same F for dlra."""
    source = dlra.LowRank(C, None, C)
    AT = A.T if isinstance(A, np.ndarray) else A.T.tocsr()
    return dlra.factored(lambda Y: A @ Y + Y @ AT + source)


def by_hand(A: Any, C: np.ndarray) -> Field:
    """The same F on raw factors: [A U, U, C] diag(S, S, I) [V, A V, C]ᵀ."""
    k = C.shape[1]

    def F(U: np.ndarray, S: np.ndarray, V: np.ndarray) -> Factors:
        p, q = S.shape
        M = np.zeros((2 * p + k, 2 * q + k))
        M[:p, :q] = S
        M[p : 2 * p, q : 2 * q] = S
        M[2 * p :, 2 * q :] = np.eye(k)
        return np.concatenate((A @ U, U, C), axis=1), M, np.concatenate((V, A @ V, C), axis=1)

    return F


def rk4(f: Any, h: float, X: np.ndarray, k1: np.ndarray) -> np.ndarray:
    """The increment of the classical Runge-Kutta step, given its first slope."""
    k2 = f(X + 0.5 * h * k1)
    k3 = f(X + 0.5 * h * k2)
    k4 = f(X + h * k3)
    return h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _k_slope(F: Field, V0: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    identity = np.eye(V0.shape[1])

    def slope(K: np.ndarray) -> np.ndarray:
        P, M, Q = F(K, identity, V0)
        return P @ (M @ (Q.T @ V0))

    return slope


def _l_slope(F: Field, U0: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    identity = np.eye(U0.shape[1])

    def slope(L: np.ndarray) -> np.ndarray:
        P, M, Q = F(U0, identity, L)
        return Q @ (M.T @ (P.T @ U0))

    return slope


def _s_slope(F: Field, U: np.ndarray, V: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def slope(S: np.ndarray) -> np.ndarray:
        P, M, Q = F(U, S, V)
        return (U.T @ P) @ (M @ (Q.T @ V))

    return slope


def _increments(
    F: Field, F0: Factors, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """K, dK, L, dL."""
    P, M, Q = F0
    K, L = U0 @ S0, V0 @ S0.T
    dK = rk4(_k_slope(F, V0), h, K, P @ (M @ (Q.T @ V0)))
    dL = rk4(_l_slope(F, U0), h, L, Q @ (M.T @ (P.T @ U0)))
    return K, dK, L, dL


def _extended(U0: np.ndarray, dK: np.ndarray) -> np.ndarray:
    Q = np.linalg.qr(np.concatenate((U0, dK), axis=1))[0]
    return np.concatenate((U0, Q[:, U0.shape[1] :]), axis=1)


def _truncated(U: np.ndarray, S: np.ndarray, V: np.ndarray, r: int) -> Factors:
    P, s, Qt = np.linalg.svd(S)
    return U @ P[:, :r], np.diag(s[:r]), V @ Qt[:r].T


def augmented(F: Field, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray) -> Factors:
    """One step of augmented BUG."""
    r = U0.shape[1]
    P, M, Q = F0 = F(U0, S0, V0)
    _, dK, _, dL = _increments(F, F0, h, U0, S0, V0)
    U, V = _extended(U0, dK), _extended(V0, dL)
    S = np.zeros((2 * r, 2 * r))
    S[:r, :r] = S0
    dS = rk4(_s_slope(F, U, V), h, S, (U.T @ P) @ (M @ (Q.T @ V)))
    return _truncated(U, S + dS, V, r)


def augmented_euler(F: Field, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray) -> Factors:
    """One step of augmented BUG with Euler substeps."""
    r = U0.shape[1]
    P, M, Q = F(U0, S0, V0)
    U = _extended(U0, h * (P @ (M @ (Q.T @ V0))))
    V = _extended(V0, h * (Q @ (M.T @ (P.T @ U0))))
    S = h * ((U.T @ P) @ (M @ (Q.T @ V)))
    S[:r, :r] += S0
    return _truncated(U, S, V, r)


def fixed_rank(F: Field, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray) -> Factors:
    """One step of fixed-rank BUG."""
    K, dK, L, dL = _increments(F, F(U0, S0, V0), h, U0, S0, V0)
    U, V = np.linalg.qr(K + dK)[0], np.linalg.qr(L + dL)[0]
    S = (U.T @ U0) @ S0 @ (V0.T @ V)
    slope = _s_slope(F, U, V)
    return U, S + rk4(slope, h, S, slope(S)), V


def parallel(F: Field, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray) -> Factors:
    """One step of parallel BUG."""
    r = U0.shape[1]
    P, M, Q = F0 = F(U0, S0, V0)
    _, dK, _, dL = _increments(F, F0, h, U0, S0, V0)
    dS = rk4(_s_slope(F, U0, V0), h, S0, (U0.T @ P) @ (M @ (Q.T @ V0)))
    U, V = _extended(U0, dK), _extended(V0, dL)
    S = np.zeros((2 * r, 2 * r))
    S[:r, :r] = S0 + dS
    S[r:, :r] = U[:, r:].T @ dK
    S[:r, r:] = dL.T @ V[:, r:]
    return _truncated(U, S, V, r)


def splitting(F: Field, h: float, U: np.ndarray, S: np.ndarray, V: np.ndarray) -> Factors:
    """One step of projector splitting of order 2: K, S, L, then L, S, K, over half a step each."""

    def k_step(U: np.ndarray, S: np.ndarray, V: np.ndarray) -> Factors:
        K, slope = U @ S, _k_slope(F, V)
        U, S = np.linalg.qr(K + rk4(slope, h / 2, K, slope(K)))
        return U, S, V

    def s_step(U: np.ndarray, S: np.ndarray, V: np.ndarray) -> Factors:
        slope = _s_slope(F, U, V)
        return U, S + rk4(slope, -h / 2, S, slope(S)), V

    def l_step(U: np.ndarray, S: np.ndarray, V: np.ndarray) -> Factors:
        L, slope = V @ S.T, _l_slope(F, U)
        V, R = np.linalg.qr(L + rk4(slope, h / 2, L, slope(L)))
        return U, R.T, V

    for part in (k_step, s_step, l_step, l_step, s_step, k_step):
        U, S, V = part(U, S, V)
    return U, S, V


def augmented_special(
    A: Any, C: np.ndarray, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray
) -> Factors:
    """One step of augmented BUG for Ẏ = A Y + Y Aᵀ + C Cᵀ only."""
    r = U0.shape[1]

    VAV, CV = V0.T @ (A @ V0), C.T @ V0

    def f_K(K: np.ndarray) -> np.ndarray:
        return A @ K + K @ VAV.T + C @ CV

    dK = rk4(f_K, h, U0 @ S0, f_K(U0 @ S0))
    UAU, CU = U0.T @ (A @ U0), C.T @ U0

    def f_L(L: np.ndarray) -> np.ndarray:
        return A @ L + L @ UAU.T + C @ CU

    dL = rk4(f_L, h, V0 @ S0.T, f_L(V0 @ S0.T))
    U, V = _extended(U0, dK), _extended(V0, dL)
    left, right, source = U.T @ (A @ U), V.T @ (A @ V), (U.T @ C) @ (V.T @ C).T
    S = np.zeros((2 * r, 2 * r))
    S[:r, :r] = S0

    def f_S(S: np.ndarray) -> np.ndarray:
        return left @ S + S @ right.T + source

    return _truncated(U, S + rk4(f_S, h, S, f_S(S)), V, r)
