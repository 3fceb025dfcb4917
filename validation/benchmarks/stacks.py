"""Many problems at once: ``dlra.solve`` from a stack beside a loop of ``dlra.solve`` over its members.

Ẏᵢ = pᵢ (A Yᵢ + Yᵢ Aᵀ) + C Dᵀ, i = 1, ..., b, with a tridiagonal A (a dense array), by the augmented BUG integrator with
Runge-Kutta 4 substeps at fixed rank. The loop solves for some of the problems, as its time for one does not depend on
their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import dlra
from validation.benchmarks.results import compare, number, pinned

SIZES = ((50, 3), (50, 10), (100, 5), (200, 10))
COUNTS = (1, 8, 32, 256)
STEPS, H = 5, 1e-3
MOST = 8
"""Problems in the loop."""


def problem(n: int, r: int, b: int) -> tuple[Any, Any, dlra.LowRankStack]:
    """The field of all problems, a function that gives that of one, and the initial values."""
    rng = np.random.default_rng(0)
    A = 0.5 * (np.eye(n, k=1) + np.eye(n, k=-1)) - np.eye(n)
    C = dlra.LowRank(rng.standard_normal((n, 2)) / n**0.5, None, rng.standard_normal((n, 2)) / n**0.5)
    p = np.linspace(0.5, 1.5, b)
    U, V = (np.linalg.qr(rng.standard_normal((b, n, r)))[0] for _ in range(2))
    Y0 = dlra.LowRankStack(U, np.diag(0.5 ** np.arange(r)) + 0.1 * rng.standard_normal((b, r, r)), V)

    def single(i: int) -> Any:
        q = float(p[i])
        return dlra.factored(lambda Y: q * (A @ Y + Y @ A.T) + C)

    return dlra.factored(lambda Y: p * (A @ Y + Y @ A.T) + C), single, Y0


def measure(n: int, r: int, b: int, seconds: float = 2.0) -> dict[str, Any]:
    """Seconds for each problem and step, stack and loop, and their ratio over the rounds."""
    F, single, Y0 = problem(n, r, b)
    members = list(Y0[:MOST])
    method, end = dlra.AugmentedBUG(substep="rk4"), STEPS * H

    def stack() -> Any:
        return dlra.solve(F, (0.0, end), Y0, method, dt=H, t_eval=[end]).y_final

    def loop() -> list[Any]:
        return [
            dlra.solve(single(i), (0.0, end), Y, method, dt=H, t_eval=[end]).y_final
            for i, Y in enumerate(members)
        ]

    together = stack()
    for Y, Z in zip(together[:MOST], loop(), strict=True):
        assert (Y - Z).norm() <= 1e-12 * Z.norm()
    times = compare({"stack": stack, "loop": loop}, seconds)
    share = len(members) / b
    return {
        "n": n, "r": r, "b": b, "stack": times["stack"].median / (b * STEPS),
        "loop": times["loop"].median / (len(members) * STEPS), "ratio": times["loop"].over(times["stack"]) / share,
    }  # fmt: skip


def main(quick: bool = False, threads: int = 1) -> None:
    """Print the times."""
    print(f"augmented BUG, rk4 substeps, fixed rank, factored F, {threads} thread(s); µs a problem and step")
    with pinned(threads):
        for n, r in SIZES[:1] if quick else SIZES:
            for b in COUNTS[:2] if quick else COUNTS:
                row = measure(n, r, b, 0.2 if quick else 2.0)
                print(
                    f"m = n = {n:3d}, r = {r:2d}, b = {b:3d}: stack {1e6 * row['stack']:7.0f}   "
                    f"loop {1e6 * row['loop']:7.0f}   ratio {number(row['ratio'])}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
