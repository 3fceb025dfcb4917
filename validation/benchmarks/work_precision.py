"""Error against time: every integrator on six problems, beside scipy's solve_ivp on the dense matrix.

Writes ``docs/measured.md`` and ``docs/images/work-precision.png``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlra
from dlra import SolveError, problems
from validation import pages
from validation.benchmarks.timing import conditions, distance, one_thread, timed

LIMIT = 15.0
"""A run is stopped after so many CPU seconds, and its method is not refined further."""

SUBSTEPS = (
    dlra.BUG(),
    dlra.AugmentedBUG(),
    dlra.ParallelBUG(),
    dlra.MidpointBUG(),
    dlra.SecondOrderParallelBUG(),
    dlra.RandomizedSVD(),
    dlra.GeneralizedNystrom(),
)
EXPONENTIAL = (dlra.ProjectedExponential(1), dlra.ProjectedExponential(2))
SPLITTING = (dlra.ProjectorSplitting(1), dlra.ProjectorSplitting(2), dlra.ProjectorSplitting(4))
EXPLICIT = (
    dlra.RungeKuttaBUG(),
    dlra.ProjectedRungeKutta(),
    dlra.StepTruncation(),
    dlra.InterpolatoryCUR(),
    dlra.InterpolatoryRungeKutta(),
)
STYLES = {repr(method): i for i, method in enumerate((*SUBSTEPS, *EXPONENTIAL, *SPLITTING, *EXPLICIT))}


@dataclass(frozen=True)
class Case:
    """A problem with the methods and settings to try on it; ``unit`` is "dt" or "rtol"."""

    title: str
    make: Callable[[], Any]
    rank: int
    t1: float
    unit: str
    settings: tuple[float, ...]
    methods: tuple[Any, ...]
    dense: tuple[tuple[str, float], ...] = (("RK45", 1e-3), ("RK45", 1e-6), ("RK45", 1e-9))


@dataclass(frozen=True)
class Row:
    """One measured run."""

    method: str
    setting: str
    error: float
    seconds: float
    steps: int | None = None
    rank: int | None = None
    note: str = ""


def cases() -> list[Case]:
    """The problems, chosen so that the lot takes ten minutes or less on one core."""
    adaptive = tuple(m for m in (*SUBSTEPS[1:5], *EXPONENTIAL))
    stiff = (("RK45", 1e-6), ("BDF", 1e-6))
    return [
        Case("Heat-Lyapunov (stiff), n = 256, r = 20", lambda: problems.heat_lyapunov(256), 20, 0.1, "dt",
             (0.1, 0.05, 0.02, 0.01, 0.005), (*SUBSTEPS, *EXPONENTIAL), stiff),
        Case("Riccati (stiff), n = 200, rank by tolerance", lambda: problems.riccati(200), 20, 0.1, "rtol",
             (1e-2, 1e-3, 1e-4, 1e-5), adaptive, ()),
        Case("Schrödinger, n = 200, r = 20", lambda: problems.schroedinger(200), 20, 1.0, "dt", (0.2, 0.1, 0.04, 0.02),
             (*SUBSTEPS, EXPONENTIAL[1], *SPLITTING, *EXPLICIT)),
        Case("Lattice NLS, n = 50, r = 12", lambda: problems.lattice_nls(50), 12, 5.0, "dt", (0.5, 0.2, 0.1, 0.05),
             (*SUBSTEPS, *EXPONENTIAL, *SPLITTING, *EXPLICIT)),
        Case("Allen-Cahn, n = 64, r = 10", lambda: problems.allen_cahn(64), 10, 10.0, "dt", (0.5, 0.2, 0.1),
             (*SUBSTEPS, *EXPONENTIAL, *EXPLICIT)),
        Case("Landau damping, 32 x 64, r = 8", lambda: problems.landau_damping(32, 64), 8, 5.0, "dt",
             (0.05, 0.025, 0.0125), (*SUBSTEPS, *SPLITTING, *EXPLICIT)),
    ]  # fmt: skip


def reference_of(problem: Any, t1: float) -> np.ndarray:
    """The problem's own reference, or the full equation by an embedded Runge-Kutta method of order 8."""
    own = problem.reference(t1)
    if own is not None:
        return np.asarray(own)
    from scipy.integrate import solve_ivp

    Y0 = _start(problem)
    run = solve_ivp(lambda t, y: np.asarray(problem.dense(t, y.reshape(Y0.shape))).ravel(), (0.0, t1), Y0.ravel(),
                    method="DOP853", rtol=1e-11, atol=1e-13, t_eval=[t1])  # fmt: skip
    return run.y[:, -1].reshape(Y0.shape)


def _start(problem: Any) -> np.ndarray:
    """The initial value, dense."""
    U, s, V = problem.initial()
    return (U * s) @ V.conj().T


def measure(case: Case) -> list[Row]:
    """Run all methods of a case and the dense solver."""
    problem = case.make()
    reference = reference_of(problem, case.t1)
    scale = np.linalg.norm(reference)
    best = np.linalg.svd(reference, compute_uv=False)
    rows = []
    if case.unit == "dt":
        floor = float(np.linalg.norm(best[case.rank :]) / scale)
        rows.append(Row(f"best approximation of rank {case.rank}", "", floor, 0.0))
    for method in case.methods:
        for setting in case.settings:
            row = run(case, problem, method, setting, reference)
            rows.append(row)
            print(case.title, row, flush=True)
            if row.note == "stopped":
                break
    rows += [dense_run(problem, case.t1, reference, *setting) for setting in case.dense]
    return rows


def run(case: Case, problem: Any, method: Any, setting: float, reference: np.ndarray) -> Row:
    """One method with one setting."""
    Y0 = problem.Y0(case.rank)
    options: dict[str, Any] = {case.unit: setting}
    label = f"{case.unit} = {setting:g}"

    def go() -> Any:
        start = time.process_time()
        return dlra.solve(
            problem.F, (0.0, case.t1), Y0, method, t_eval=[case.t1], rng=0,
            callback=lambda state: time.process_time() - start > LIMIT, **options,
        )  # fmt: skip

    try:
        if case.unit == "dt":
            dlra.solve(problem.F, (0.0, setting), Y0, method, dt=setting, rng=0)  # warm up
        solution, seconds = timed(go)
    except (SolveError, TypeError) as failure:
        note = "unstable" if isinstance(failure, SolveError) else "F has no rows and columns"
        return Row(repr(method), label, np.nan, np.nan, note=note)
    if solution.t_final != case.t1:
        return Row(repr(method), label, np.nan, seconds, solution.nsteps, note="stopped")
    error = distance(solution.y_final, reference)
    return Row(
        repr(method), label, error, seconds, solution.nsteps, int(solution.rank[-1]),
        "" if np.isfinite(error) and error < 10 else "unstable",
    )  # fmt: skip


def dense_run(problem: Any, t1: float, reference: np.ndarray, solver: str, rtol: float) -> Row:
    """Run SciPy's solve_ivp on all m n entries."""
    from scipy.integrate import solve_ivp

    A0 = _start(problem)

    def f(t: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(problem.dense(t, y.reshape(A0.shape))).ravel()

    options: dict[str, Any] = {}
    if solver == "BDF":
        from scipy import sparse

        A, identity = problem.F.A, sparse.identity(A0.shape[0], format="csr")
        jacobian = sparse.csc_matrix(sparse.kron(A, identity) + sparse.kron(identity, A))
        options = {"jac": jacobian}
    y0 = A0.ravel()
    result, seconds = timed(
        lambda: solve_ivp(
            f, (0.0, t1), y0, method=solver, rtol=rtol, atol=rtol * 1e-3, t_eval=[t1], **options
        )
    )
    error = distance(result.y[:, -1].reshape(A0.shape), reference)
    return Row(f"solve_ivp {solver}, dense", f"rtol = {rtol:g}", error, seconds)


def table(title: str, rows: list[Row]) -> str:
    """A Markdown table under its heading."""
    cells = [
        [row.method if row.seconds == 0 else f"`{row.method}`" if "dense" not in row.method else row.method,
         row.setting, row.note or f"{row.error:.1e}", "" if not row.seconds > 0 else f"{row.seconds:.3g}",
         "" if row.steps is None else str(row.steps), "" if row.rank is None else str(row.rank)]
        for row in rows
    ]  # fmt: skip
    return f"## {title}\n\n" + pages.table(
        ["method", "setting", "relative error", "seconds", "steps", "rank"], cells
    )


def picture(results: dict[str, list[Row]]) -> None:
    """Error against seconds, one panel a problem."""
    drawn, axes = pages.figure(3, 2, (13, 15))
    handles: dict[str, Any] = {}
    for axis, (title, rows) in zip(axes, results.items(), strict=True):
        shown = [row for row in rows if row.seconds > 0 and not row.note]
        for name in dict.fromkeys(row.method for row in shown):
            own = [row for row in shown if row.method == name]
            dense = "dense" in name
            k = 2 * ("BDF" in name) if dense else STYLES[name]
            (handles[name],) = axis.loglog(
                [r.seconds for r in own], [r.error for r in own], label=name, linewidth=1.3, markersize=6,
                marker="12"[k // 2] if dense else pages.MARKERS[k % len(pages.MARKERS)],
                color="0.35" if dense else pages.COLOURS[k % len(pages.COLOURS)],
                linestyle=":" if dense else ("-", "--", "-.")[k // len(pages.COLOURS)],
            )  # fmt: skip
        if rows[0].seconds == 0:
            handles["best approximation of this rank"] = axis.axhline(rows[0].error, color="0.6", linewidth=1)
        errors = [row.error for row in shown] + [rows[0].error] * (rows[0].seconds == 0)
        times = [row.seconds for row in shown]
        x, y = ((min(v) / 1.5, max(v) * 1.5) for v in (times, errors))
        axis.set(
            title=title, xlabel="CPU seconds, whole run", ylabel="relative error at the end", xlim=x, ylim=y
        )
        pages.decades(axis.xaxis, *x)
        pages.decades(axis.yaxis, *y)
        axis.grid(True, alpha=0.3)
    drawn.legend(handles=list(handles.values()), labels=list(handles), loc="outside lower center", ncols=4)
    pages.save(drawn, "work-precision.png")


def main(chosen: tuple[str, ...] = ()) -> None:
    """Measure, print and write the page and the picture; with words, only the cases whose titles have one of them."""
    with one_thread():
        results = {
            case.title: measure(case)
            for case in cases()
            if not chosen or any(w in case.title for w in chosen)
        }
    if chosen:
        return
    picture(results)
    pages.write(
        "measured.md",
        [
            "# Measured: error against time",
            conditions("python -m validation.benchmarks.work_precision")
            + " Decompositions of the linear part are "
            f"made before and not counted. Runs are stopped after {LIMIT:g} s. Methods that are explicit in the linear "
            "part, and projector splitting, are left out of the two stiff problems.",
            "![Error against time](images/work-precision.png)",
            *(table(title, rows) for title, rows in results.items()),
        ],
    )


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
