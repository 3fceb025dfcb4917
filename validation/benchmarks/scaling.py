"""How time and memory of a step grow with m + n and with r.

``python -m validation.benchmarks scaling``

Euler substeps and the F of :mod:`validation.benchmarks.steps` that costs nothing, so that only the integrator is
measured. Slopes are least-squares fits of the logarithms over the upper part of the range, where a step is more than
calls of functions. Memory is that of a fresh process: the peak of traced allocations, and that of the resident set
beyond what the process held after a small step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from validation import pages
from validation.benchmarks.results import Headline, Timing, compare, number, pinned, publish
from validation.benchmarks.steps import constant_field, stepper

METHODS: dict[str, Any] = {
    "augmented BUG": dlra.AugmentedBUG(substep="euler"),
    "BUG": dlra.BUG(substep="euler"),
    "projector splitting, order 1": dlra.ProjectorSplitting(1, substep="euler"),
}
SUMS = tuple(int(s) for s in np.round(np.logspace(3, 6, 13), -2))
RANKS = (5, 7, 10, 15, 20, 30, 40, 60, 80, 100, 140, 200)
SUMS_FROM, RANKS_FROM = 30_000, 40
"""Where the fits begin."""
GOAL = 12.0
"""Peak of memory, in units of (m + n) r numbers."""
FLAT = 1.05
"""Growth of that peak over a long run."""


def measure_time(m: int, n: int, r: int, seconds: float) -> dict[str, Timing]:
    """Seconds a step of every method."""
    F, Y0, _ = constant_field(m, n, r)
    return compare({name: stepper(F, Y0, method) for name, method in METHODS.items()}, seconds, least=3)


def slope(x: list[float], y: list[float], start: float) -> float:
    """The exponent of the power of x that fits y from a start on."""
    chosen = np.asarray(x) >= start
    return float(np.polyfit(np.log(np.asarray(x)[chosen]), np.log(np.asarray(y)[chosen]), 1)[0])


def measure_memory(n: int, r: int, steps: int, traced: bool) -> float:
    """Peak while this process makes F and Y0, m = n, and does steps of augmented BUG, in units of (m + n) r numbers.

    To be called in a fresh process, by :func:`memory`.
    """
    F, Y0, _ = constant_field(2000, 2000, r)  # loads and compiles what a step needs
    dlra.solve(F, (0.0, 1e-5), Y0, METHODS["augmented BUG"], dt=1e-5)
    before = _resident()
    if traced:
        tracemalloc.start()
    F, Y0, _ = constant_field(n, n, r)
    dlra.solve(F, (0.0, steps * 1e-5), Y0, METHODS["augmented BUG"], dt=1e-5, t_eval=[steps * 1e-5])
    peak = tracemalloc.get_traced_memory()[1] if traced else _peak() - before
    return peak / (2.0 * n * r * 8)


def _peak() -> int:
    """The largest resident set of this process, in bytes."""
    from resource import RUSAGE_SELF, getrusage

    found = _status("VmHWM")  # what getrusage says may be that of the parent, before exec
    return found or getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _resident() -> int:
    """The resident set of this process, in bytes; its largest where the system does not tell."""
    return _status("VmRSS") or _peak()


def _status(key: str) -> int:
    """An entry of Linux's status of this process, in bytes; 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def memory(n: int, r: int, steps: int = 3) -> dict[str, Any]:
    """Both peaks, each from a process of its own."""
    peaks = {}
    for traced in (True, False):
        code = (
            "from validation.benchmarks import scaling\nfrom validation.benchmarks.results import pinned\n"
            f"with pinned(1): print(scaling.measure_memory({n}, {r}, {steps}, {traced}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
        peaks["traced" if traced else "resident"] = json.loads(done.stdout)
    return {"n": n, "r": r, "steps": steps, **peaks}


def measure_long_run(n: int, r: int, steps: int) -> dict[str, Any]:
    """Peak of traced allocations in the first and in the last tenth of a run that stores only its end.

    Euler steps of augmented BUG for Ẏ = D Y + Y D + cos(t) b bᵀ with a diagonal D, in units of (m + n) r numbers.
    """
    rng = np.random.default_rng(0)
    rates = -np.linspace(0.0, 1.0, n)[:, None]
    b = rng.standard_normal((n, 1)) / np.sqrt(n)
    source = dlra.LowRank(b, None, b)
    F = dlra.factored(lambda t, Y: rates * Y + Y * rates.T + np.cos(t) * source)
    U, V = (np.linalg.qr(rng.standard_normal((n, r)))[0] for _ in range(2))
    Y0 = dlra.LowRank(U, np.diag(0.5 ** np.arange(r)), V)
    peaks: list[float] = []

    def watch(state: dlra.State) -> None:
        if state.step % (steps // 10) == 0:
            peaks.append((tracemalloc.get_traced_memory()[1] - start) / (2.0 * n * r * 8))
            tracemalloc.reset_peak()

    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    t1 = steps * 1e-3
    dlra.solve(F, (0.0, t1), Y0, METHODS["augmented BUG"], dt=1e-3, t_eval=[t1], callback=watch)
    tracemalloc.stop()
    return {"n": n, "r": r, "steps": steps, "first": peaks[0], "last": peaks[-1]}


def measure(quick: bool = False) -> dict[str, Any]:
    """All points and slopes."""
    sums, ranks = (SUMS[:9:4], RANKS[:8:3]) if quick else (SUMS, RANKS)
    seconds, n = (0.1, 1000) if quick else (2.0, 10_000)
    by_size = [{"m + n": s, "r": 20, "times": measure_time(s // 2, s - s // 2, 20, seconds)} for s in sums]
    by_rank = [{"m + n": 2 * n, "r": r, "times": measure_time(n, n, r, seconds)} for r in ranks]
    slopes = {}
    for name in METHODS:
        slopes[name] = {
            key: slope(
                [float(row[key]) for row in rows],
                [row["times"][name].median for row in rows],
                float(rows[0][key]) if quick else start,
            )
            for key, rows, start in (("m + n", by_size, SUMS_FROM), ("r", by_rank, RANKS_FROM))
        }
    return {
        "size": by_size,
        "rank": by_rank,
        "slopes": slopes,
        "memory": [memory(n, 20) for n in ((50_000,) if quick else (100_000, 1_000_000))],
        "long run": measure_long_run(2000, 10, 100) if quick else measure_long_run(20_000, 10, 2000),
    }


def headlines(data: dict[str, Any]) -> list[Headline]:
    """Slopes of augmented BUG, and its memory at the largest size."""
    slopes, largest = data["slopes"]["augmented BUG"], data["memory"][-1]
    n, r = largest["n"], largest["r"]
    long = data["long run"]
    where = f"augmented BUG, m = n = {n:,}, r = {r}: peak of memory in units of (m + n) r numbers"
    return [
        Headline("augmented BUG: time of a step grows like a power of m + n, namely", slopes["m + n"]),
        Headline("augmented BUG: time of a step grows like a power of r, namely", slopes["r"]),
        Headline(f"{where}, allocations", largest["traced"], GOAL, "at most"),
        Headline(f"{where}, resident", largest["resident"], GOAL, "at most"),
        Headline(
            f"{long['steps']:,} steps, only the end stored: peak of memory in the last tenth over that in the first",
            long["last"] / long["first"],
            FLAT,
            "at most",
            " x",
        ),
    ]


def tables(data: dict[str, Any]) -> list[str]:
    """The page."""
    parts = ["![Time of a step against m + n and against r](images/scaling.png)"]
    parts.append(
        pages.table(
            ["method", "power of m + n", "power of r"],
            [[name, f"{s['m + n']:.2f}", f"{s['r']:.2f}"] for name, s in data["slopes"].items()],
        )
    )
    for title, rows in (("## Against m + n", data["size"]), ("## Against r", data["rank"])):
        cells = [
            [
                f"{row['m + n']:,}",
                str(row["r"]),
                *(number(1e3 * row["times"][name].median) for name in METHODS),
            ]
            for row in rows
        ]
        parts += [title, pages.table(["m + n", "r", *(f"{name}, ms a step" for name in METHODS)], cells)]
    cells = [
        [f"{row['n']:,}", str(row["r"]), f"{row['traced']:.1f}", f"{row['resident']:.1f}", number(GOAL)]
        for row in data["memory"]
    ]
    parts += [
        "## Memory",
        f"Peak of {data['memory'][0]['steps']} steps of augmented BUG in a process of their own, in units of (m + n) r "
        "numbers of 8 bytes. The initial value and the factors of F, which must be there, are one unit each of it.",
        pages.table(["m = n", "r", "allocations (tracemalloc)", "resident set", "goal"], cells),
        "A run of {steps:,} such steps at m = n = {n:,}, r = {r}, with an F of rank {rank} made anew in each and only "
        "the end stored: {first:.1f} units in its first tenth, {last:.1f} in its last.".format(
            **data["long run"], rank=2 * data["long run"]["r"] + 1
        ),
    ]
    return parts


def picture(data: dict[str, Any]) -> None:
    """Both curves, with straight lines of the expected slopes."""
    drawn, axes = pages.figure(1, 2, (12, 5))
    shapes = (
        ("m + n", data["size"], 1, "r = 20"),
        ("r", data["rank"], 2, f"m = n = {data['rank'][0]['m + n'] // 2:,}"),
    )
    for axis, (key, rows, power, fixed) in zip(axes, shapes, strict=True):
        x = np.array([float(row[key]) for row in rows])
        every = []
        for k, name in enumerate(METHODS):
            y = np.array([row["times"][name].median for row in rows])
            every += list(y)
            label = f"{name}: slope {data['slopes'][name][key]:.2f}"
            axis.loglog(x, y, marker=pages.MARKERS[k], color=pages.COLOURS[k], label=label)
        last = rows[-1]["times"]["augmented BUG"].median
        axis.loglog(x, 0.4 * last * (x / x[-1]) ** power, color="0.5", linestyle=":", label=f"slope {power}")
        low, high = min(every) / 2, max(every) * 2
        axis.set(xlabel=key, ylabel="seconds a step", title=fixed, ylim=(low, high))
        pages.decades(axis.xaxis, float(x[0]) / 1.2, float(x[-1]) * 1.2)
        pages.decades(axis.yaxis, low, high)
        axis.grid(True, alpha=0.3)
        axis.legend(loc="upper left", fontsize=9)
    pages.save(drawn, "scaling.png")


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page, numbers and picture."""
    with pinned(threads):
        data = measure(quick)
    picture(data)
    publish(
        "scaling", "Measured: growth of time and memory",
        "Steps with Euler substeps at fixed rank and an F of the same rank that costs nothing, in double precision. "
        f"The slopes are fitted from m + n = {SUMS_FROM:,} and from r = {RANKS_FROM} on: below, a step is mostly calls "
        "of functions and, in r, bound by memory rather than by operations.",
        tables(data), data, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
