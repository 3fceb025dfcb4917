"""Steps chosen by a tolerance: whether the error is what was asked for, and the error budget an upper estimate.

``python -m validation.adaptive`` writes ``docs/adaptive.md`` and two pictures, in about ten minutes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlra
from dlra import (
    AugmentedBUG,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectedExponential,
    ProjectedRungeKutta,
    RungeKuttaBUG,
    SecondOrderParallelBUG,
    problems,
    solve,
)
from validation import pages
from validation.manufactured import normal, random_orthonormal

# ---- the error asked for, on the named problems

TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
MOST_STEPS, MOST_SECONDS = 400, 5.0
ASKED = 10.0
"""Largest error, in units of rtol ‖Y‖, that counts as what was asked for."""

STIFF = (AugmentedBUG(), ParallelBUG(), MidpointBUG(), ProjectedExponential(2))
SMOOTH = (
    AugmentedBUG(),
    MidpointBUG(),
    SecondOrderParallelBUG(),
    RungeKuttaBUG("dopri5"),
    ProjectedRungeKutta("dopri5"),
)
CASES: tuple[tuple[str, dict[str, Any], tuple[Any, ...]], ...] = (
    ("heat-lyapunov", {"n": 64}, STIFF),
    ("riccati", {"n": 100}, STIFF),
    ("steel-lyapunov", {}, STIFF),
    ("steel-riccati", {}, STIFF),
    ("allen-cahn", {"n": 64}, STIFF),
    ("burgers-uncertain", {"nx": 100, "samples": 30}, STIFF),
    ("lattice-nls", {"n": 30}, SMOOTH),
    ("schroedinger", {"n": 48}, SMOOTH),
    ("rotation", {}, SMOOTH),
    ("plane-source", {"nx": 101, "moments": 64}, SMOOTH),
)


@dataclass(frozen=True)
class Reached:
    """A run with a tolerance: its error over rtol ‖Y‖, steps, rank, seconds; None for a run that was cut off."""

    rtol: float
    ratio: float | None
    steps: int
    rank: int
    seconds: float
    why: str = ""


def run_case(name: str, options: dict[str, Any], method: Any) -> list[Reached]:
    """All tolerances that the method reaches, and the first that it does not."""
    problem = problems.get(name, **options)
    t0, t1 = problem.t_span
    reference = np.asarray(problem.reference(t1))
    out = []
    for rtol in TOLERANCES:
        Y0 = problem.Y0(start_rank(problem, rtol))
        start = time.process_time()
        cut = False

        def watch(state: Any, start: float = start) -> bool:
            return time.process_time() - start > MOST_SECONDS

        solution = solve(
            problem.F, (t0, t1), Y0, method, rtol=rtol, t_eval=[t1], max_steps=MOST_STEPS, callback=watch,
            rng=0, throw=False,
        )  # fmt: skip
        seconds = time.process_time() - start
        cut = solution.t_final != t1
        ratio = None
        if not cut:
            error = np.linalg.norm(solution.y_final.to_dense() - reference)
            ratio = float(error / (rtol * np.linalg.norm(reference)))
        why = "" if not cut else "time" if solution.status == 1 else "steps"
        if cut and solution.status == -1 and "max_steps" not in solution.message:
            why = "failed"
        out.append(Reached(rtol, ratio, solution.nsteps, int(solution.y_final.rank), seconds, why))
        if cut:
            break
    return out


def start_rank(problem: Any, rtol: float) -> int:
    """At least the default rank, and enough for the initial value to be known to rtol/100."""
    s = problem.initial()[1]
    tails = np.sqrt(np.cumsum(s[::-1] ** 2))[::-1] if len(s) else np.zeros(0)
    needed = int(np.sum(tails > 0.01 * rtol * (tails[0] if len(s) else 1.0)))
    return min(max(problem.defaults["rank"], needed), *problem.shape)


def named_problems() -> tuple[str, list[str], list[tuple[str, str, list[Reached]]]]:
    """Table, the pairs that miss what was asked, and all runs."""
    rows, missed, runs = [], [], []
    for name, options, methods in CASES:
        for method in methods:
            reached = run_case(name, options, method)
            runs.append((name, short(method), reached))
            cells = []
            for r in reached:
                cells.append(
                    f"({r.why})"
                    if r.ratio is None
                    else f"{r.ratio:.2g} [{r.steps}, {r.rank}, {r.seconds:.2g}]"
                )
                if r.why == "failed" or (r.ratio or 0.0) > ASKED:
                    missed.append(f"{name}, {short(method)}, rtol {r.rtol:g}: {r.ratio or r.why}")
            cells += [""] * (len(TOLERANCES) - len(cells))
            rows.append([name, short(method), *cells])
            print(" | ".join(rows[-1]), flush=True)
    return pages.table(["problem", "method", *(f"{t:g}" for t in TOLERANCES)], rows), missed, runs


def short(method: Any) -> str:
    """The method as code."""
    return f"`{type(method).__name__}" + (
        f"({method.tableau!r})`" if hasattr(method, "tableau")
        else f"({method.order})`" if isinstance(method, ProjectedExponential) else "()`"
    )  # fmt: skip


def picture_of_cases(runs: list[tuple[str, str, list[Reached]]]) -> None:
    """Error against tolerance, a panel a problem."""
    names = list(dict.fromkeys(name for name, _, _ in runs))
    methods = list(dict.fromkeys(method for _, method, _ in runs))
    drawn, axes = pages.figure(2, 5, (15, 6.4))
    limits = (3e-9, 3e-2)
    handles: dict[str, Any] = {}
    for axis, name in zip(axes, names, strict=True):
        axis.fill_between(limits, [1e-16, 1e-16], [10 * x for x in limits], color="0.93", zorder=0)
        axis.plot(limits, limits, color="0.5", linewidth=1)
        for own, method, reached in runs:
            done = [r for r in reached if r.ratio is not None]
            if own != name or not done:
                continue
            k = methods.index(method)
            (handles[method],) = axis.plot(
                [r.rtol for r in done],
                [r.ratio * r.rtol for r in done if r.ratio is not None],
                marker=pages.MARKERS[k], color=pages.COLOURS[k], markersize=5, linewidth=1.2, label=method.strip("`"),
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", xlim=limits, ylim=(1e-12, 1e-1), title=name)
        pages.decades(axis.xaxis, *limits, most=4)
        pages.decades(axis.yaxis, 1e-12, 1e-1)
        axis.grid(True, alpha=0.3)
    for axis in axes[5:]:
        axis.set_xlabel("rtol")
    for axis in (axes[0], axes[5]):
        axis.set_ylabel("relative error at the end")
    drawn.legend(handles=list(handles.values()), loc="outside lower center", ncols=4)
    pages.save(drawn, "adaptive-tolerance.png")


# ---- the error budget, on random problems

COUNT = 200


@dataclass(frozen=True)
class Random:
    """A random problem Y' = A Y + Y B + G(t, Y) with its one-sided Lipschitz constant, and how to solve it."""

    F: Callable[[float, np.ndarray], np.ndarray]
    Y0: LowRank
    T: float
    mu: float
    kind: str
    rtol: float
    method: Any


@dataclass(frozen=True)
class Judged:
    """The estimate and the true error of a random problem."""

    problem: Random
    bound: float
    error: float
    steps: int
    rank: int

    @property
    def ratio(self) -> float:
        """Estimate over true error."""
        return self.bound / self.error


METHODS = (
    AugmentedBUG(),
    ParallelBUG(),
    MidpointBUG(),
    SecondOrderParallelBUG(),
    RungeKuttaBUG("dopri5"),
    ProjectedRungeKutta("dopri5"),
)
KINDS = ("none", "constant", "oscillating", "sine", "cubic", "saturating")


def random_problem(seed: int) -> Random:
    """The problem of a seed: sizes 4 to 30, exact initial ranks 1 to 4, real or complex, every kind of G in turn."""
    rng = np.random.default_rng(seed)
    dtype = ("float64", "complex128")[int(rng.integers(2))]
    m, n = (int(k) for k in rng.integers(4, 31, 2))
    r = int(rng.integers(1, min(m, n, 5)))
    kind = KINDS[seed % len(KINDS)]
    A, B = (_matrix(rng, k, dtype) for k in (m, n))
    mu = _log_norm(A) + _log_norm(B)
    U, V = random_orthonormal(rng, m, r, dtype), random_orthonormal(rng, n, r, dtype)
    s = 10.0 ** -rng.uniform(0, 4, r)
    Y0 = LowRank(U, np.diag(s / np.linalg.norm(s)).astype(dtype), V)
    C = normal(rng, (m, 2), dtype) @ normal(rng, (n, 2), dtype).conj().T
    C *= rng.uniform(0.1, 1.0) / np.linalg.norm(C)
    E = normal(rng, (m, 2), dtype) @ normal(rng, (n, 2), dtype).conj().T
    E *= rng.uniform(0.1, 1.0) / np.linalg.norm(E)
    omega, c = rng.uniform(1, 5), rng.uniform(0.1, 1.0)

    def G(t: float, Y: np.ndarray) -> Any:
        if kind == "constant":
            return C
        if kind == "oscillating":
            return np.cos(omega * t) * C + np.sin(omega * t) * E
        if kind == "sine":  # Lipschitz constant c, of real and imaginary part
            return c * (np.sin(np.real(Y)) + (1j * np.sin(np.imag(Y)) if np.iscomplexobj(Y) else 0))
        if kind == "cubic":  # monotone: the gradient of -c/4 Σ |Y|⁴
            return -c * np.abs(Y) ** 2 * Y
        if kind == "saturating":  # the gradient of c √(1 + ‖Y‖²), between 0 and c
            return c * Y / np.sqrt(1 + np.linalg.norm(Y) ** 2) + C
        return 0.0

    mu += c if kind in ("sine", "saturating") else 0.0
    T = rng.uniform(0.3, 2.0)
    return Random(
        lambda t, Y: A @ Y + Y @ B + G(t, Y), Y0, T, mu, kind, 10.0 ** -rng.uniform(2, 6),
        METHODS[seed // len(KINDS) % len(METHODS)],
    )  # fmt: skip


def _matrix(rng: np.random.Generator, k: int, dtype: str) -> np.ndarray:
    """Random, normal or not, with damping or growth."""
    X = normal(rng, (k, k), dtype) / np.sqrt(k)
    if rng.integers(2):
        X = X - X.conj().T
    return rng.uniform(0.2, 1.0) * X + rng.uniform(-1.5, 0.5) * np.eye(k)


def _log_norm(A: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(0.5 * (A + A.conj().T))[-1])


def judge(problem: Random) -> Judged:
    """Solve, and compare the a-posteriori bound with the true error."""
    from scipy.integrate import solve_ivp

    Y = problem.Y0.to_dense()
    exact = solve_ivp(
        lambda t, y: np.asarray(problem.F(t, y.reshape(Y.shape))).ravel(),
        (0.0, problem.T), Y.ravel(), method="DOP853", rtol=1e-12, atol=1e-14,
    ).y[:, -1].reshape(Y.shape)  # fmt: skip
    solution = solve(problem.F, (0.0, problem.T), problem.Y0, problem.method, rtol=problem.rtol, rng=0)
    bound = float(solution.error_bound(problem.mu)[-1])
    error = float(np.linalg.norm(solution.y_final.to_dense() - exact))
    error = max(error, 1e-12 * float(np.linalg.norm(exact)))  # that of the reference
    return Judged(problem, bound, error, solution.nsteps, int(solution.rank[-1]))


def summary(judged: list[Judged]) -> tuple[str, str]:
    """What the random problems say, and a table by method and kind of G."""
    above = np.mean([j.ratio >= 1 for j in judged])
    mild = [j for j in judged if j.problem.mu * j.problem.T <= 1]
    close = np.mean([j.ratio <= 100 for j in mild])
    worst = sorted(judged, key=lambda j: j.ratio)
    text = (
        f"{len(judged)} problems: the bound is at or above the true error in {above:.1%} (asked: 95 %), smallest ratio "
        f"{worst[0].ratio:.2g}. In the {len(mild)} problems with µT ≤ 1 it is at most 100 times the true error in "
        f"{close:.1%} (asked: all), largest ratio {max(j.ratio for j in mild):.3g}; median "
        f"{np.median([j.ratio for j in mild]):.2g}. In all problems the largest ratio is {worst[-1].ratio:.3g}."
    )
    rows = []
    groups = [(short(m), [j for j in judged if j.problem.method is m]) for m in METHODS]
    groups += [(f"G {kind}", [j for j in judged if j.problem.kind == kind]) for kind in KINDS]
    for name, group in groups:
        ratios = np.array([j.ratio for j in group])
        own = np.array([j.ratio for j in group if j.problem.mu * j.problem.T <= 1])
        rows.append(
            [name, str(len(group)), f"{np.mean(ratios >= 1):.0%}", f"{ratios.min():.2g}", f"{np.median(ratios):.2g}",
             f"{np.mean(own <= 100):.0%}", f"{own.max():.3g}"]
        )  # fmt: skip
    columns = [
        "group",
        "problems",
        "bound ≥ error",
        "smallest ratio",
        "median",
        "≤ 100 where µT ≤ 1",
        "largest there",
    ]
    offenders = [j for j in judged if j.ratio < 1 or (j.problem.mu * j.problem.T <= 1 and j.ratio > 100)]
    listed = [
        [short(j.problem.method), j.problem.kind, f"{j.problem.rtol:.1e}", f"{j.problem.mu * j.problem.T:.2f}",
         f"{j.bound:.1e}", f"{j.error:.1e}", f"{j.ratio:.3g}", str(j.steps), str(j.rank)]
        for j in sorted(offenders, key=lambda j: j.ratio)
    ]  # fmt: skip
    if len(listed) > 30:
        listed = [*listed[:15], ["…"] * 9, *listed[-15:]]
    tables = pages.table(columns, rows)
    if listed:
        tables += "\nProblems outside of what was asked, by ratio:\n\n" + pages.table(
            ["method", "G", "rtol", "µT", "bound", "error", "ratio", "steps", "rank"], listed
        )
    return text, tables


def picture_of_bounds(judged: list[Judged]) -> None:
    """Bound against error, and the ratio against µT."""
    drawn, (left, right) = pages.figure(1, 2, (12, 5.2))
    for k, method in enumerate(METHODS):
        own = [j for j in judged if j.problem.method is method]
        style = {"color": pages.COLOURS[k], "marker": pages.MARKERS[k], "s": 22, "alpha": 0.8}
        left.scatter([j.error for j in own], [j.bound for j in own], label=short(method).strip("`"), **style)
        right.scatter([j.problem.mu * j.problem.T for j in own], [j.ratio for j in own], **style)
    low, high = (f([*(j.error for j in judged), *(j.bound for j in judged)]) for f in (min, max))
    limits = (low / 3, high * 3)
    left.fill_between(
        limits, limits, [100 * x for x in limits], color="0.93", zorder=0, label="within a factor 100"
    )
    left.plot(limits, limits, color="0.4", linewidth=1)
    left.set(
        xscale="log", yscale="log", xlim=limits, ylim=limits, xlabel="true error", ylabel="a-posteriori bound"
    )
    pages.decades(left.xaxis, *limits)
    pages.decades(left.yaxis, *limits)
    left.legend(fontsize=9)
    ratios = [j.ratio for j in judged]
    right.axhline(1, color="0.4", linewidth=1)
    right.axhspan(1, 100, color="0.93", zorder=0)
    right.axvline(1, color="0.4", linewidth=1, linestyle=":")
    bounds = (min(*ratios, 0.5) / 2, max(*ratios, 100) * 2)
    right.set(yscale="log", ylim=bounds, xlabel="µT", ylabel="bound / true error")
    pages.decades(right.yaxis, *bounds)
    for axis in (left, right):
        axis.grid(True, alpha=0.3)
    pages.save(drawn, "adaptive-bound.png")


def main() -> None:
    """Measure and write the page."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", dlra.DlraWarning)
        judged = [judge(random_problem(seed)) for seed in range(COUNT)]
        text, by_group = summary(judged)
        print(text, by_group, sep="\n", flush=True)
        reached, missed, runs = named_problems()
    picture_of_bounds(judged)
    picture_of_cases(runs)
    verdict = (
        "Every run that was not cut off is within ten times the tolerance."
        if not missed
        else "Not within ten times the tolerance: " + "; ".join(missed) + "."
    )
    largest = max(r.ratio for _, _, reached_by in runs for r in reached_by if r.ratio is not None)
    pages.write(
        "adaptive.md",
        [
            "# Measured: steps chosen by a tolerance",
            "Written by `python -m validation.adaptive`.",
            "## The error asked for",
            "`solve(..., rtol=...)` without `dt`, on every problem that has a reference: the final error in units of "
            "rtol ‖Y‖, and in brackets steps, final rank and CPU seconds. Where one of "
            f"{MOST_STEPS} steps or {MOST_SECONDS:g} s did not suffice, the cell says so and smaller tolerances were "
            "not tried: methods of first order need steps like 1/rtol. The run starts with the rank that "
            "represents the "
            f"initial value to rtol/100, at least the problem's default. {verdict} Largest: {largest:.2g}.",
            reached,
            "![Error against tolerance](images/adaptive-tolerance.png)",
            "The shaded part is within ten times the tolerance.",
            "## The error budget as a bound",
            "Random problems Ẏ = A Y + Y B + G(t, Y), of sizes 4 to 30, real and complex, started from exact initial "
            "values of rank 1 to 4, rtol between 1e-2 and 1e-6, with a known one-sided Lipschitz constant µ "
            "(logarithmic norms of A and B plus that of G): `Solution.error_bound(µ)` at the end, beside "
            "the distance to the "
            "solution of the full equation by an embedded Runge-Kutta method of order 8 with tolerance 1e-12.",
            text,
            by_group,
            "![Bound against true error](images/adaptive-bound.png)",
        ],
    )


if __name__ == "__main__":
    main()
