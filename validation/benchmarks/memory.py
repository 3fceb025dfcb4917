"""Memory of a long run that stores only its end: peak of traced allocations, in units of (m + n) r numbers."""

from __future__ import annotations

import tracemalloc

import numpy as np

import dlra


def measure(n: int = 20_000, r: int = 10, steps: int = 10_000) -> tuple[float, float]:
    """Return the peak during the first and during the last tenth of the run, each in units of (m + n) r doubles."""
    rng = np.random.default_rng(0)
    rates = -np.linspace(0.0, 1.0, n)[:, None]
    b = rng.standard_normal((n, 1)) / np.sqrt(n)
    source = dlra.LowRank(b, None, b)
    F = dlra.factored(lambda t, Y: rates * Y + Y * rates.T + np.cos(t) * source)
    U, V = (np.linalg.qr(rng.standard_normal((n, r)))[0] for _ in range(2))
    Y0 = dlra.LowRank(U, np.diag(0.5 ** np.arange(r)), V)
    unit = 2 * n * r * 8
    peaks: list[float] = []

    def watch(state: dlra.State) -> None:
        if state.step % (steps // 10) == 0:
            peaks.append((tracemalloc.get_traced_memory()[1] - start) / unit)
            tracemalloc.reset_peak()

    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    dt = 1e-3
    dlra.solve(
        F,
        (0.0, steps * dt),
        Y0,
        dlra.AugmentedBUG(substep="euler"),
        dt=dt,
        t_eval=[steps * dt],
        callback=watch,
    )
    tracemalloc.stop()
    return peaks[0], peaks[-1]


def main() -> None:
    """Print the peaks."""
    first, last = measure()
    print(
        "10 000 augmented BUG steps at m = n = 20 000, r = 10, only the end stored; peak in units of (m + n) r numbers"
    )
    print(f"first tenth of the run: {first:.1f}   last tenth: {last:.1f}   (goal: flat, below 20)")


if __name__ == "__main__":
    main()
