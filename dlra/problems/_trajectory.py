"""Reference solutions by an accurate integration of the full equation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_KEPT = 8


def trajectory(
    name: str, F: Callable[[np.ndarray], np.ndarray], start: np.ndarray
) -> Callable[[float], np.ndarray]:
    """Return the function t -> Y(t) for Y' = F(Y), Y(0) = start, on dense host arrays; ``name`` is for errors.

    An embedded Runge-Kutta method of order 8 (DOP853) with tolerance 1e-11, from the latest time known. The first few
    times asked for are kept.
    """
    reached = {0.0: start}

    def solution(t: float) -> np.ndarray:
        from scipy.integrate import solve_ivp

        if t < 0:
            raise ValueError(f"the reference of {name} starts at t = 0, got t = {t}")
        known = max(s for s in reached if s <= t)
        if known < t:
            scale = np.abs(start).max()
            run = solve_ivp(
                lambda _, y: F(y.reshape(start.shape)).ravel(),
                (known, t),
                reached[known].ravel(),
                "DOP853",
                t_eval=[t],
                rtol=1e-11,
                atol=1e-13 * scale,
            )
            if len(reached) >= _KEPT:
                del reached[max(reached)]
            reached[t] = run.y[:, -1].reshape(start.shape)
        return reached[t]

    return solution
