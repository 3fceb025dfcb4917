"""What a step of dlra costs beside a bare hand-written NumPy loop of the same algorithm.

Both integrate Ẏ = A Y + Y Aᵀ + C Cᵀ with tridiagonal A (a dense array up to n = 500, sparse above) by the augmented
BUG integrator with Runge-Kutta 4 substeps at fixed rank. The first bare loop takes a general F on raw factors, as dlra
does; the second is written for this one problem, with A and C projected onto the bases once a step. Neither checks
anything, counts anything, or keeps its bases orthonormal over many steps.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp

import dlra

SIZES = ((100, 5), (500, 10), (2000, 20))


def problem(n: int, r: int) -> tuple[Any, np.ndarray, dlra.LowRank]:
    """A (sparse, non-stiff), C and the initial value."""
    rng = np.random.default_rng(0)
    diagonals = [np.full(n - 1, 0.5), np.full(n, -1.0), np.full(n - 1, 0.5)]
    A: Any = sp.diags_array(diagonals, offsets=[-1, 0, 1]).tocsr()  # type: ignore[arg-type]
    if n <= 500:
        A = A.toarray()
    C = rng.standard_normal((n, 2)) / np.sqrt(n)
    U, V = (np.linalg.qr(rng.standard_normal((n, r)))[0] for _ in range(2))
    return A, C, dlra.LowRank(U, np.diag(0.5 ** np.arange(r)) + 0.1 * rng.standard_normal((r, r)), V)


def rk4(f: Any, h: float, X: np.ndarray, k1: np.ndarray) -> np.ndarray:
    """The increment of the classical Runge-Kutta step, given its first slope."""
    k2 = f(X + 0.5 * h * k1)
    k3 = f(X + 0.5 * h * k2)
    k4 = f(X + h * k3)
    return h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def bare_step(
    A: Any, C: np.ndarray, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray
) -> tuple[np.ndarray, ...]:
    """One augmented BUG step, written for this problem in plain NumPy."""
    r = U0.shape[1]

    VAV, CV = V0.T @ (A @ V0), C.T @ V0

    def f_K(K: np.ndarray) -> np.ndarray:
        return A @ K + K @ VAV.T + C @ CV

    dK = rk4(f_K, h, U0 @ S0, f_K(U0 @ S0))
    UAU, CU = U0.T @ (A @ U0), C.T @ U0

    def f_L(L: np.ndarray) -> np.ndarray:
        return A @ L + L @ UAU.T + C @ CU

    dL = rk4(f_L, h, V0 @ S0.T, f_L(V0 @ S0.T))
    U = np.concatenate((U0, np.linalg.qr(np.concatenate((U0, dK), axis=1))[0][:, r:]), axis=1)
    V = np.concatenate((V0, np.linalg.qr(np.concatenate((V0, dL), axis=1))[0][:, r:]), axis=1)
    left, right, source = U.T @ (A @ U), V.T @ (A @ V), (U.T @ C) @ (V.T @ C).T
    S = np.zeros((2 * r, 2 * r))
    S[:r, :r] = S0

    def f_S(S: np.ndarray) -> np.ndarray:
        return left @ S + S @ right.T + source

    P, s, Qt = np.linalg.svd(S + rk4(f_S, h, S, f_S(S)))
    return U @ P[:, :r], np.diag(s[:r]), V @ Qt[:r].T


def bare_step_general(
    F: Any, h: float, U0: np.ndarray, S0: np.ndarray, V0: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The same step for a general factored F, given as a function (U, S, V) -> factors (P, M, Q) of F = P M Qᵀ."""
    r = U0.shape[1]

    identity = np.eye(r)

    def f_K(K: np.ndarray) -> np.ndarray:
        P, M, Q = F(K, identity, V0)
        return P @ (M @ (Q.T @ V0))

    def f_L(L: np.ndarray) -> np.ndarray:
        P, M, Q = F(U0, identity, L)
        return Q @ (M.T @ (P.T @ U0))

    P, M, Q = F(U0, S0, V0)  # one evaluation serves all three first slopes
    dK = rk4(f_K, h, U0 @ S0, P @ (M @ (Q.T @ V0)))
    dL = rk4(f_L, h, V0 @ S0.T, Q @ (M.T @ (P.T @ U0)))
    U = np.concatenate((U0, np.linalg.qr(np.concatenate((U0, dK), axis=1))[0][:, r:]), axis=1)
    V = np.concatenate((V0, np.linalg.qr(np.concatenate((V0, dL), axis=1))[0][:, r:]), axis=1)

    def f_S(S: np.ndarray) -> np.ndarray:
        P, M, Q = F(U, S, V)
        return U.T @ (P @ (M @ (Q.T @ V)))

    S = np.zeros((2 * r, 2 * r))
    S[:r, :r] = S0
    first = U.T @ (P @ (M @ (Q.T @ V)))
    P, s, Qt = np.linalg.svd(S + rk4(f_S, h, S, first))
    return U @ P[:, :r], np.diag(s[:r]), V @ Qt[:r].T


def factored_by_hand(A: Any, C: np.ndarray) -> Any:
    """F on raw factors: [A U, U, C] diag(S, S, I) [V, A V, C]ᵀ."""
    k = C.shape[1]

    def F(U: np.ndarray, S: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, ...]:
        p, q = S.shape
        M = np.zeros((2 * p + k, 2 * q + k))
        M[:p, :q] = S
        M[p : 2 * p, q : 2 * q] = S
        M[2 * p :, 2 * q :] = np.eye(k)
        return np.concatenate((A @ U, U, C), axis=1), M, np.concatenate((V, A @ V, C), axis=1)

    return F


def measure(n: int, r: int, seconds: float = 2.0) -> dict[str, float]:
    """Median seconds a step: dlra, the general bare loop, and the bare loop written for this problem, interleaved."""
    A, C, Y0 = problem(n, r)
    h = 1e-3
    source = dlra.LowRank(C, None, C)
    AT = A.T if n <= 500 else A.T.tocsr()
    F = dlra.factored(lambda Y: A @ Y + Y @ AT + source)
    by_hand = factored_by_hand(A, C)
    method = dlra.AugmentedBUG(substep="rk4")

    def run_dlra(steps: int) -> Any:
        return dlra.solve(F, (0.0, steps * h), Y0, method, dt=h, t_eval=[steps * h]).y_final

    def run_bare(step: Any) -> Any:
        def run(steps: int) -> Any:
            U, S, V = Y0.U, Y0.S, Y0.V
            for _ in range(steps):
                U, S, V = step(U, S, V)
            return dlra.LowRank(U, S, V)

        return run

    runs = {
        "dlra": run_dlra,
        "bare": run_bare(lambda U, S, V: bare_step_general(by_hand, h, U, S, V)),
        "bare, this problem only": run_bare(lambda U, S, V: bare_step(A, C, h, U, S, V)),
    }
    results = [run(3).to_dense() for run in runs.values()]
    assert all(np.allclose(results[0], other, rtol=0, atol=1e-12) for other in results[1:])
    steps = 20 if n < 1000 else 5
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["dlra"]) < 5:
        for name, run in runs.items():
            start = time.perf_counter()
            run(steps)
            times[name].append((time.perf_counter() - start) / steps)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    """Print the ratios."""
    from threadpoolctl import threadpool_limits

    print(
        "augmented BUG, rk4 substeps, fixed rank, factored F, one BLAS thread; microseconds a step (median)"
    )
    with threadpool_limits(1):
        for n, r in SIZES:
            t = measure(n, r)
            print(
                f"m = n = {n:5d}, r = {r:2d}: dlra {1e6 * t['dlra']:9.0f}   bare loop {1e6 * t['bare']:9.0f}"
                f"   ratio {t['dlra'] / t['bare']:.2f}   (loop for this problem only "
                f"{1e6 * t['bare, this problem only']:9.0f}, ratio {t['dlra'] / t['bare, this problem only']:.2f})"
            )


if __name__ == "__main__":
    main()
