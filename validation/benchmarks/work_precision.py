"""Error against time: every integrator on four problems, beside scipy's solve_ivp on the dense matrix.

Writes ``docs/measured.md`` and ``docs/images/work-precision.png``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from validation.benchmarks.machine import describe

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Case:
    """A problem with the methods and steps to try on it."""

    title: str
    make: Callable[[], Any]
    rank: int
    t1: float
    steps: tuple[float, ...]
    methods: tuple[Any, ...]
    dense: tuple[tuple[str, float], ...] = (("RK45", 1e-3), ("RK45", 1e-6), ("RK45", 1e-9))


@dataclass(frozen=True)
class Row:
    """One measured run."""

    method: str
    setting: str
    error: float
    seconds: float
    steps: int | None
    rank: int | None


def cases() -> list[Case]:
    """The problems, chosen so that the lot takes a few minutes on one core."""
    smooth = (dlra.BUG(), dlra.AugmentedBUG(), dlra.ProjectorSplitting(1), dlra.ProjectorSplitting(2))
    return [
        Case(
            "Schrödinger, n = 256, r = 20",
            lambda: dlra.problems.schroedinger(n=256),
            20,
            1.0,
            (0.04, 0.02, 0.01),
            (*smooth, dlra.ProjectorSplitting(4)),
        ),
        Case(
            "Heat-Lyapunov (stiff), n = 256, r = 20",
            dlra.problems.heat_lyapunov,
            20,
            0.1,
            (0.02, 0.01, 0.005),
            (dlra.BUG(), dlra.AugmentedBUG()),
            (("RK45", 1e-6), ("BDF", 1e-6)),
        ),
        Case(
            "Allen-Cahn, n = 128, r = 10",
            dlra.problems.allen_cahn,
            10,
            10.0,
            (0.1, 0.05, 0.02),
            (dlra.BUG(), dlra.AugmentedBUG()),
        ),
        Case(
            "Rotation, n = 60, r = 16",
            dlra.problems.rotation,
            16,
            1.0,
            (0.1, 0.05, 0.02),
            smooth,
        ),
    ]


def measure(case: Case) -> list[Row]:
    """Run all methods of a case and the dense solver."""
    problem = case.make()
    reference = np.asarray(problem.reference(case.t1))
    scale = np.linalg.norm(reference)
    Y0 = problem.Y0(case.rank)
    best = np.linalg.svd(reference, compute_uv=False)
    rows = [
        Row(
            f"best approximation of rank {case.rank}",
            "",
            float(np.linalg.norm(best[case.rank :]) / scale),
            0.0,
            None,
            None,
        )
    ]
    for method in case.methods:
        for dt in case.steps:
            span = (0.0, case.t1)
            dlra.solve(problem.F, (0.0, dt), Y0, method, dt=dt)  # warm up, as for the dense solver
            start = time.perf_counter()
            solution = dlra.solve(problem.F, span, Y0, method, dt=dt, t_eval=[case.t1])
            seconds = time.perf_counter() - start
            error = float(np.linalg.norm(solution.y_final.to_dense() - reference) / scale)
            rows.append(
                Row(repr(method), f"dt = {dt:g}", error, seconds, solution.nsteps, int(solution.rank[-1]))
            )
    rows.extend(dense_run(problem, case.t1, reference, *setting) for setting in case.dense)
    return rows


def dense_run(problem: Any, t1: float, reference: np.ndarray, solver: str, rtol: float) -> Row:
    """Run SciPy's solve_ivp on all m n entries."""
    from scipy.integrate import solve_ivp

    A0 = np.asarray(problem.reference(0.0))

    def f(t: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(problem.dense(t, y.reshape(A0.shape))).ravel()

    options: dict[str, Any] = {}
    if solver == "BDF":
        from scipy import sparse

        A, identity = problem.F.A, sparse.identity(A0.shape[0], format="csr")
        jacobian = sparse.csc_matrix(sparse.kron(A, identity) + sparse.kron(identity, A))
        options = {"jac": jacobian}
    y0 = A0.ravel()
    solve_ivp(f, (0.0, 1e-3 * t1), y0, method=solver, rtol=rtol, atol=rtol * 1e-3, **options)  # warm up
    start = time.perf_counter()
    result = solve_ivp(f, (0.0, t1), y0, method=solver, rtol=rtol, atol=rtol * 1e-3, t_eval=[t1], **options)
    seconds = time.perf_counter() - start
    error = float(np.linalg.norm(result.y[:, -1].reshape(A0.shape) - reference) / np.linalg.norm(reference))
    return Row(f"solve_ivp {solver}, dense", f"rtol = {rtol:g}", error, seconds, None, None)


def table(title: str, rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [
        f"## {title}",
        "",
        "| method | setting | relative error | seconds | per step |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        per_step = "" if row.steps is None else f"{row.seconds / row.steps:.1e}"
        seconds = "" if row.seconds == 0 else f"{row.seconds:.3g}"
        lines.append(f"| {row.method} | {row.setting} | {row.error:.1e} | {seconds} | {per_step} |")
    return "\n".join(lines) + "\n"


def picture(results: dict[str, list[Row]], path: Path) -> None:
    """Error against seconds, one panel a problem."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
    names = list(dict.fromkeys(row.method for rows in results.values() for row in rows if row.seconds > 0))
    styles = {name: (colours[i % len(colours)], "osD^v<>*"[i % 8]) for i, name in enumerate(names)}
    for axes, (title, rows) in zip(figure.subplots(2, 2).flat, results.items(), strict=True):
        for name in dict.fromkeys(row.method for row in rows if row.seconds > 0):
            own = [row for row in rows if row.method == name]
            colour, marker = styles[name]
            axes.loglog(
                [r.seconds for r in own], [r.error for r in own], marker=marker, color=colour, label=name,
                linestyle="--" if name.startswith("solve_ivp") else "-",
            )  # fmt: skip
        axes.axhline(rows[0].error, color="0.6", linewidth=1, label="best approximation of this rank")
        axes.set(title=title, xlabel="seconds, whole run", ylabel="relative error at the end")
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and write the page and the picture."""
    from threadpoolctl import threadpool_limits

    results = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", dlra.DlraWarning)
        for case in cases():
            results[case.title] = measure(case)
            print(table(case.title, results[case.title]))
    picture(results, DOCS / "images" / "work-precision.png")
    head = (
        "# Measured: error against time\n\n"
        "Written by `python -m validation.benchmarks.work_precision`. Whole runs on one BLAS thread, decompositions\n"
        "of the linear part not counted; relative Frobenius errors at the end against the reference. Each run was\n"
        "timed once, on a machine that was doing other work as well, so that times are good to a factor of two.\n"
        f"Compare ratios: absolute times are of one machine ({describe()}).\n\n![](images/work-precision.png)\n\n"
    )
    (DOCS / "measured.md").write_text(head + "\n".join(table(title, rows) for title, rows in results.items()))


if __name__ == "__main__":
    main()
