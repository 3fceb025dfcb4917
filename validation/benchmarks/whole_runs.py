"""Whole runs at one error, beside the dense solvers of SciPy, diffrax (JAX) and torchdiffeq (PyTorch).

``python -m validation.benchmarks whole_runs``

Every candidate has a ladder of settings, from loose to tight (tolerances of the dense solvers in steps of √10, numbers
of steps of dlra), and the first whose error at the end is within the target is timed, all candidates in turns. Dense F
are written with shifted arrays in each library, which XLA fuses; solve_ivp gets the faster of that and products with
sparse matrices. All that dlra needs is in its time: the decomposition of a stiff linear part too. What JAX compiles is
not in that of diffrax, and stands apart. Packages that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlra
from dlra import problems
from validation import pages
from validation.benchmarks.nonlinear import with_linear_part
from validation.benchmarks.results import Headline, compare, number, pinned, publish
from validation.benchmarks.timing import distance

LIMIT = 60.0
"""A run is given up after so many seconds."""
STEPS = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    14,
    17,
    20,
    24,
    28,
    34,
    40,
    48,
    56,
    68,
    80,
    96,
    112,
    136,
    160,
    192,
    224,
    270,
    320,
)
TOLERANCES = tuple(10.0 ** (-k / 2) for k in range(2, 21))
Run = Callable[[Any], Any]
"""A solver: setting -> the end of the run, dense or LowRank."""


@dataclass(frozen=True)
class Case:
    """A problem; ``dense`` makes F of (library, neighbours, Problem), in whose arrays it then works."""

    name: str
    title: str
    make: Callable[[int], Any]
    sizes: tuple[int, ...]
    stated: tuple[int, ...]
    rank: int
    t1: float
    target: float
    methods: tuple[Any, ...]
    """Integrators; in a pair with a function that makes another F of the Problem."""
    dense: Callable[[Any, Any, Any], Callable[[Any], Any]]
    periodic: bool = False
    stiff: bool = False


def _schroedinger(asarray: Any, neighbours: Any, problem: Any) -> Callable[[Any], Any]:
    potential = 1 - np.cos(problem.x)
    diagonal = asarray(2 + potential[:, None] * potential[None, :])
    return lambda Y: (diagonal * Y - 0.5 * neighbours(Y)) * (-1j)


def _heat(asarray: Any, neighbours: Any, problem: Any) -> Callable[[Any], Any]:
    scale = float(problem.F.A[0, 1])
    source = asarray(problem.F.G.to_dense())
    return lambda Y: scale * (neighbours(Y) - 4 * Y) + source


def _allen_cahn(asarray: Any, neighbours: Any, problem: Any) -> Callable[[Any], Any]:
    scale = float(problem.F.A[0, 1])
    return lambda Y: scale * (neighbours(Y) - 4 * Y) + Y - Y * Y * Y


def _declared(problem: Any) -> dlra.SemiLinear:
    return with_linear_part(problem, problem.shape[0])


CASES = (
    Case(
        "schroedinger", "Schrödinger equation", problems.schroedinger, (50, 64, 100, 128, 256, 512), (100, 512), 20,
        1.0, 1e-4,
        (dlra.ProjectorSplitting(1), dlra.ProjectorSplitting(2), dlra.AugmentedBUG(),
         (dlra.ProjectorSplitting(1, substep="rk4"), _declared), (dlra.AugmentedBUG(substep="rk4"), _declared)),
        _schroedinger,
    ),
    Case(
        "heat-lyapunov", "Heat-Lyapunov equation (stiff)", problems.heat_lyapunov, (32, 64, 128, 256), (256,), 20,
        0.1, 1e-6, (dlra.AugmentedBUG(), dlra.RandomizedSVD()), _heat, stiff=True,
    ),
    Case(
        "allen-cahn", "Allen-Cahn equation", problems.allen_cahn, (32, 64, 128, 256, 512), (256, 512), 10, 10.0, 1e-4,
        (dlra.AugmentedBUG(), dlra.MidpointBUG()), _allen_cahn, periodic=True,
    ),
)  # fmt: skip


def start(problem: Any) -> np.ndarray:
    """The initial value, dense."""
    U, s, V = problem.initial()
    return np.ascontiguousarray((U * s) @ V.conj().T)


# ---- neighbours: the sum of the four entries beside each


def neighbours_of(xp: Any, periodic: bool) -> Callable[[Any], Any]:
    """With arrays that can be written to: those of NumPy and PyTorch."""

    def neighbours(Y: Any) -> Any:
        Z = xp.zeros((Y.shape[0] + 2, Y.shape[1] + 2), dtype=Y.dtype)
        Z[1:-1, 1:-1] = Y
        if periodic:
            Z[0, 1:-1], Z[-1, 1:-1], Z[1:-1, 0], Z[1:-1, -1] = Y[-1], Y[0], Y[:, -1], Y[:, 0]
        out = Z[:-2, 1:-1] + Z[2:, 1:-1]
        out += Z[1:-1, :-2]
        out += Z[1:-1, 2:]
        return out

    return neighbours


def jax_neighbours_of(periodic: bool) -> Callable[[Any], Any]:
    """In JAX, whose compiler makes one loop of it."""
    from jax import numpy as jnp

    def neighbours(Y: Any) -> Any:
        Z = jnp.pad(Y, 1, mode="wrap" if periodic else "constant")
        return Z[:-2, 1:-1] + Z[2:, 1:-1] + Z[1:-1, :-2] + Z[1:-1, 2:]

    return neighbours


# ---- solvers


class TookTooLong(Exception):
    """A run went over its limit."""


def watched(f: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[[], None]]:
    """F that stops a run which takes too long, and the function that starts its clock."""
    end = math.inf

    def limited(Y: Any) -> Any:
        if time.perf_counter() > end:
            raise TookTooLong
        return f(Y)

    def reset() -> None:
        nonlocal end
        end = time.perf_counter() + LIMIT

    return limited, reset


def ours(case: Case, problem: Any, method: Any, field: Callable[[Any], Any] | None = None) -> Run:
    """So many steps of dlra; the decompositions of a stiff part are made anew in every run."""
    Y0 = problem.Y0(min(case.rank, problem.shape[0] // 2))

    def run(steps: int) -> dlra.LowRank:
        F = problem.F if field is None else field(problem)
        if field is None and isinstance(F, dlra.SemiLinear):
            F = dlra.SemiLinear(F.A, F.B, F.G, symmetric=F.symmetric)
        return dlra.solve(F, (0.0, case.t1), Y0, method, dt=case.t1 / steps, t_eval=[case.t1], rng=0).y_final

    return run


def scipy_run(case: Case, problem: Any, solver: str) -> Run:
    """solve_ivp on the entries of the matrix; with the sparse Jacobian of the linear part for implicit solvers."""
    from scipy import sparse
    from scipy.integrate import solve_ivp

    Y0 = start(problem)
    shifted = case.dense(np.asarray, neighbours_of(np, case.periodic), problem)
    times = compare({"shifted": lambda: shifted(Y0), "sparse": lambda: problem.dense(0.0, Y0)}, 0.1)
    quicker = shifted if times["shifted"].over(times["sparse"]) < 1 else lambda Y: problem.dense(0.0, Y)
    f, reset = watched(quicker)
    options: dict[str, Any] = {}
    if solver == "BDF":
        A, one = problem.F.A, sparse.identity(Y0.shape[0], format="csr")
        options["jac"] = sparse.csc_matrix(sparse.kron(A, one) + sparse.kron(one, A))
    size = np.linalg.norm(Y0) / Y0.size**0.5

    def run(rtol: float) -> np.ndarray:
        reset()
        done = solve_ivp(
            lambda t, y: np.asarray(f(y.reshape(Y0.shape))).ravel(), (0.0, case.t1), Y0.ravel(), method=solver,
            rtol=rtol, atol=rtol * size, t_eval=[case.t1], **options,
        )  # fmt: skip
        return done.y[:, -1].reshape(Y0.shape) if done.success else np.full(Y0.shape, np.nan)

    return run


def diffrax_run(case: Case, problem: Any, solver: str) -> tuple[Run, float]:
    """The diffeqsolve of diffrax on the CPU, and the seconds to compile it; implicit solvers use GMRES."""
    import diffrax
    import jax
    from jax import numpy as jnp

    Y0 = start(problem)
    size = float(np.linalg.norm(Y0) / Y0.size**0.5)
    if solver == "Kvaerno5":
        import lineax
        import optimistix

        root = optimistix.Newton(
            rtol=1e-3, atol=1e-3 * size, linear_solver=lineax.GMRES(rtol=1e-4, atol=1e-4 * size)
        )
        method: Any = diffrax.Kvaerno5(root_finder=root)
    else:
        method = getattr(diffrax, solver)()
    with jax.enable_x64(True):
        f = case.dense(jnp.asarray, jax_neighbours_of(case.periodic), problem)
        term = diffrax.ODETerm(lambda t, y, args: f(y))
        y0 = jnp.asarray(Y0)

    def solved(y: Any, rtol: Any) -> Any:
        controller = diffrax.PIDController(rtol=rtol, atol=rtol * size)
        done = diffrax.diffeqsolve(
            term, method, 0.0, case.t1, None, y, stepsize_controller=controller, max_steps=100_000, throw=False,
            saveat=diffrax.SaveAt(t1=True),
        )  # fmt: skip
        assert done.ys is not None
        return done.ys[0], done.result == diffrax.RESULTS.successful

    begin = time.perf_counter()
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffrax warns that complex numbers are new to it
        compiled = jax.jit(solved).lower(y0, 1e-3).compile()
    seconds = time.perf_counter() - begin

    def run(rtol: float) -> np.ndarray:
        with jax.enable_x64(True):
            y, fine = compiled(y0, rtol)
            return np.asarray(y) if fine else np.full(Y0.shape, np.nan)

    return run, seconds


def torch_run(case: Case, problem: Any, solver: str) -> Run:
    """The odeint of torchdiffeq on the CPU."""
    import torch
    from torchdiffeq import odeint

    Y0 = start(problem)
    size = float(np.linalg.norm(Y0) / Y0.size**0.5)
    f, reset = watched(case.dense(torch.as_tensor, neighbours_of(torch, case.periodic), problem))
    y0, times = torch.as_tensor(Y0), torch.tensor([0.0, case.t1], dtype=torch.float64)

    def run(rtol: float) -> np.ndarray:
        reset()
        with torch.no_grad():
            ys: Any = odeint(lambda t, y: f(y), y0, times, rtol=rtol, atol=rtol * size, method=solver)
            return ys[-1].numpy()

    return run


def candidates(case: Case, problem: Any) -> dict[str, tuple[Callable[[], Any], tuple[Any, ...]]]:
    """Name -> how to set the solver up, and its settings from loose to tight."""
    found: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {}
    for given in case.methods:
        method, field = given if isinstance(given, tuple) else (given, None)
        label = f"dlra {method!r}{'' if field is None else ', linear part declared'}"
        found[label] = (lambda method=method, field=field: ours(case, problem, method, field)), STEPS
    for solver in ("RK45", "BDF") if case.stiff else ("RK45",):
        found[f"solve_ivp {solver}"] = (lambda solver=solver: scipy_run(case, problem, solver)), TOLERANCES
    if importlib.util.find_spec("diffrax"):
        for solver in ("Dopri5", "Kvaerno5") if case.stiff else ("Dopri5",):
            found[f"diffrax {solver}"] = (
                (lambda solver=solver: diffrax_run(case, problem, solver)),
                TOLERANCES,
            )
    if importlib.util.find_spec("torchdiffeq"):
        found["torchdiffeq dopri5"] = (lambda: torch_run(case, problem, "dopri5")), TOLERANCES
    return found


def first_within(
    run: Run, settings: Iterable[Any], reference: np.ndarray, target: float
) -> tuple[Any, float | None]:
    """The first setting whose error is within the target, and the error; None, None where none is."""
    for setting in settings:
        begin = time.perf_counter()
        try:
            error = distance(run(setting), reference)
        except (dlra.SolveError, TookTooLong, AssertionError):  # torchdiffeq asserts that steps do not vanish
            error = math.inf
        if error <= target:
            return setting, error
        if time.perf_counter() - begin > LIMIT:
            break
    return None, None


def measure_case(case: Case, n: int, seconds: float, every: int = 1) -> list[dict[str, Any]]:
    """Rows of one problem at one size: every candidate at the target error, or without times where it misses that.

    ``every``: how many settings to go on by.
    """
    problem = case.make(n)
    reference = np.asarray(problem.reference(case.t1))
    rows, runs = [], {}
    for name, (make, settings) in candidates(case, problem).items():
        run, compiling = made if isinstance(made := make(), tuple) else (made, None)
        setting, error = first_within(run, settings[::every], reference, case.target)
        rows.append({"problem": case.name, "n": n, "solver": name, "setting": setting, "error": error,
                     "compiling": compiling})  # fmt: skip
        if setting is not None:
            runs[name] = lambda run=run, setting=setting: run(setting)
    times = compare(runs, seconds, least=3, warm=False)
    ours_ = [(timing.median, name) for name, timing in times.items() if name.startswith("dlra")]
    best = min(ours_)[1] if ours_ else None
    for row in rows:
        timing = times.get(row["solver"])
        row["time"] = timing
        row["over dlra"] = None if timing is None or best is None else timing.over(times[best])
        row["best of dlra"] = row["solver"] == best
        print(n, row["solver"], row["setting"], row["error"], timing and f"{timing.median:.4f} s", flush=True)
    return rows


def crossover(sizes: list[int], ratios: list[float]) -> float | None:
    """The size from which on the other is slower: 0 where it always is, None where it never is at the end.

    Between two sizes the logarithm of the ratio is taken as linear in that of the size.
    """
    if ratios[-1] <= 1:
        return None
    for k in range(len(sizes) - 1, 0, -1):
        if ratios[k - 1] <= 1:
            a, b = np.log(ratios[k - 1]), np.log(ratios[k])
            return float(np.exp(np.interp(0.0, [a, b], np.log(sizes[k - 1 : k + 1]))))
    return 0.0


def crossovers(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per problem and rival: sizes, ratios and the crossover."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row["solver"].startswith("dlra") and row["over dlra"] is not None:
            entry = found.setdefault(row["problem"], {}).setdefault(row["solver"], {"n": [], "ratio": []})
            entry["n"].append(row["n"])
            entry["ratio"].append(row["over dlra"])
    for rivals in found.values():
        for entry in rivals.values():
            entry["crossover"] = crossover(entry["n"], entry["ratio"])
    return found


def said(rival: str, entry: dict[str, Any]) -> str:
    """The crossover in words."""
    sizes, n = entry["n"], entry["crossover"]
    if n is None:
        return f"{rival} is faster up to n = {sizes[-1]}, the largest size measured."
    if n == 0:
        return f"dlra is faster than {rival} from n = {sizes[0]} on, the smallest size measured."
    return f"Below n = {n:.0f} {rival} is faster."


def measure(quick: bool = False) -> dict[str, Any]:
    """All runs and the crossovers."""
    seconds = 0.1 if quick else 3.0
    rows = []
    for case in CASES:
        for n in (64,) if quick else case.sizes:
            rows += measure_case(case, n, seconds, every=4 if quick else 1)
    return {"runs": rows, "crossover": crossovers(rows)}


def headlines(data: dict[str, Any]) -> list[Headline]:
    """At the stated sizes: how much faster than each dense solver."""
    return [
        Headline(
            f"{case.title}, n = {n}, whole run at error {case.target:g}: times faster than {row['solver']}",
            row["over dlra"], unit=" x",
        )
        for case in CASES
        for n in case.stated
        for row in data["runs"]
        if (row["problem"], row["n"]) == (case.name, n) and not row["solver"].startswith("dlra")
        if row["over dlra"] is not None
    ]  # fmt: skip


def tables(data: dict[str, Any]) -> list[str]:
    """The page."""
    parts = ["![Seconds of a whole run against n](images/whole-runs.png)"]
    for case in CASES:
        rows = [row for row in data["runs"] if row["problem"] == case.name]
        cells = [
            [str(row["n"]), row["solver"] if row["solver"][:4] != "dlra" else _code(row["solver"]), *_cells(row)]
            for row in rows
        ]  # fmt: skip
        words = " ".join(said(*item) for item in data["crossover"].get(case.name, {}).items())
        parts += [
            f"## {case.title}",
            f"Rank {case.rank} (half of n where that is less), t from 0 to {case.t1:g}, relative error at most "
            f"{case.target:g} at the end. {words}",
            pages.table(
                ["n", "solver", "setting", "error", "seconds", "times the best of dlra", "to compile, s"], cells
            ),
        ]  # fmt: skip
    return parts


def _code(solver: str) -> str:
    """A method of dlra as code."""
    method, comma, more = solver.removeprefix("dlra ").partition(", linear")
    return f"`{method}`{comma}{more}"


def _cells(row: dict[str, Any]) -> list[str]:
    if row["time"] is None:
        return ["", "", "not reached", "", ""]
    ours_ = row["solver"].startswith("dlra")
    timing = row["time"]
    compiled = "" if row["compiling"] is None else number(row["compiling"])
    setting = f"{row['setting']} step{'s' * (row['setting'] > 1)}" if ours_ else f"rtol {row['setting']:.1e}"
    ratio = "" if row["over dlra"] is None else number(row["over dlra"])
    return [setting, f"{row['error']:.1e}", f"{number(timing.median)} ± {number(timing.spread)}",
            f"**{ratio}**" if row["best of dlra"] else ratio, compiled]  # fmt: skip


def picture(data: dict[str, Any]) -> None:
    """Seconds against n, one panel a problem; of dlra's methods the best."""
    drawn, axes = pages.figure(1, len(CASES), (5 * len(CASES), 5))
    styles: dict[str, int] = {"dlra": 0}
    for axis, case in zip(axes, CASES, strict=True):
        curves: dict[str, list[tuple[int, float]]] = {}
        for row in data["runs"]:
            if row["problem"] != case.name or row["time"] is None:
                continue
            name = row["solver"]
            if name.startswith("dlra"):
                if not row["best of dlra"]:
                    continue
                name = "dlra"
            curves.setdefault(name, []).append((row["n"], row["time"].median))
        for name, points in curves.items():
            k = styles.setdefault(name, len(styles))
            axis.loglog(
                *zip(*points, strict=True), label=name, marker=pages.MARKERS[k], color=pages.COLOURS[k],
                linewidth=2.5 if name == "dlra" else 1.3,
            )  # fmt: skip
        times = [seconds for points in curves.values() for _, seconds in points]
        sizes = sorted({n for points in curves.values() for n, _ in points})
        axis.set(
            xlabel="n", ylabel="seconds, whole run", title=f"{case.title}, error {case.target:g}",
            ylim=(min(times) / 2, max(times) * 2),
        )  # fmt: skip
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        pages.decades(axis.yaxis, min(times) / 2, max(times) * 2)
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize=9)
    pages.save(drawn, "whole-runs.png")


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page, numbers and picture."""
    with pinned(threads):
        data = measure(quick)
    picture(data)
    publish(
        "whole_runs", "Measured: whole runs",
        "Every solver at the loosest setting that reaches the error (tolerances in steps of √10, numbers of steps for "
        "dlra, fixed rank), all timed in turns. The dense ones advance all n² entries: `solve_ivp` of SciPy, "
        "`diffeqsolve` of diffrax, compiled by JAX (the time for that stands apart), and `odeint` of torchdiffeq, on "
        "the CPU. In the time of dlra is all that it needs, decompositions of linear parts too; ratios are to the best "
        "of its methods. Where the crossover lies depends on the error asked for and on the rank.",
        tables(data), data, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
