"""The gallery: six runs with their pictures and numbers, ``python -m validation.gallery``.

Writes ``docs/gallery.md`` and ``docs/images/gallery-*.png``. The page shows the functions below that do the runs; all
numbers on it are those of the run that wrote it.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from dlra import _axes as draw
from dlra import plot
from dlra._cli.task import limited_threads

DOCS = Path(__file__).resolve().parents[1] / "docs"
RATE, FREQUENCY = -0.15336, 1.41566
"""The least damped root of the dispersion relation at wave number 0.5."""
GROWTH = 0.22584
"""The unstable root of the dispersion relation of the two beams."""


@dataclass(frozen=True)
class Example:
    """A run: its title, the problem in three lines, the function, its picture, and what is seen."""

    name: str
    title: str
    about: str
    run: Callable[[], dict[str, Any]]
    picture: Callable[..., Any]
    seen: Callable[..., str]


# ---- the runs, as the page shows them


def landau() -> dict[str, Any]:
    problem = dlra.problems.landau_damping(alpha=0.001)
    field = problem.observables["electric_field"]

    sol = dlra.solve(
        problem.F,
        (0, 40),
        problem.Y0(2),
        "runge-kutta-bug",
        rtol=1e-5,
        save=lambda state: field(state.t, state.y),
    )
    rate, frequency = dlra.problems.landau_rate(sol.t, sol.saved)
    return {"sol": sol, "rate": rate, "frequency": frequency}


def two_stream() -> dict[str, Any]:
    problem = dlra.problems.two_stream()
    field, energy = problem.observables["electric_field"], problem.observables["electric_energy"]
    method = dlra.RungeKuttaBUG(rtol=1e-6, max_rank=30)

    def solve(**steps: Any) -> dlra.Solution:
        def save(state: dlra.State) -> tuple[float, float]:
            return field(state.t, state.y), energy(state.t, state.y)

        return dlra.solve(problem.F, (0, 40), problem.Y0(2), method, save=save, **steps)

    sol = solve(rtol=1e-6)
    loose = solve(
        rtol=1e-3, callback=lambda state: state.t > 20
    )  # a time tolerance far above that of the rank
    amplitude, energies = np.array(sol.saved).T
    linear = (sol.t > 12) & (
        sol.t < 12 + 3 * 2 * np.pi / 1.339
    )  # three periods of the superposed oscillation
    growth = np.polyfit(sol.t[linear], np.log(amplitude[linear]), 1)[0]
    return {
        "sol": sol, "loose": loose, "problem": problem, "amplitude": amplitude, "energy": energies, "growth": growth
    }  # fmt: skip


def steel() -> dict[str, Any]:
    problem = dlra.problems.steel_riccati()  # finite elements of a rail, 371 unknowns, 7 inputs

    sol = dlra.solve(problem.F, (0, 4500), problem.Y0(40), "midpoint-bug", rtol=1e-4)
    assert problem.output is not None
    K = problem.output(sol.y_final)  # the feedback u = -K x for a horizon of 4500 s
    exact = problem.reference(4500)
    return {"sol": sol, "problem": problem, "K": K, "exact": exact}


def allen_cahn() -> dict[str, Any]:
    problem = dlra.problems.allen_cahn(n=128)
    A = problem.F.A  # 0.01 times the second difference

    def rest(t: float, Y: Any) -> Any:
        return Y - dlra.entrywise(lambda y: y**3, Y)  # the cube of each entry, from a few rows and columns

    F = dlra.SemiLinear(A, A, dlra.factored(rest))
    sol = dlra.solve(F, (0, 10), problem.Y0(10), "midpoint-bug", rtol=1e-3)
    return {"sol": sol, "problem": problem}


def schroedinger() -> dict[str, Any]:
    problem = dlra.problems.schroedinger(n=100)
    norm, energy = problem.observables["norm"], problem.observables["energy"]
    methods = {
        "AugmentedBUG(atol=1e-6)": dlra.AugmentedBUG(atol=1e-6, substep="adaptive"),
        "ProjectorSplitting()": dlra.ProjectorSplitting(substep="adaptive"),
        "MidpointBUG(atol=1e-6)": dlra.MidpointBUG(atol=1e-6, substep="adaptive"),
        "BUG()": dlra.BUG(substep="adaptive"),
        "SecondOrderParallelBUG(atol=1e-6)": dlra.SecondOrderParallelBUG(atol=1e-6, substep="adaptive"),
    }

    runs = {}
    for name, method in methods.items():
        runs[name] = dlra.solve(
            problem.F, (0, 1), problem.Y0(12), method, dt=0.02,
            save=lambda state: (norm(state.t, state.y), energy(state.t, state.y)),
        )  # fmt: skip
    return {"runs": runs, "problem": problem}


def riccati() -> dict[str, Any]:
    problem = dlra.problems.riccati(n=200)
    runs = {}
    for rtol in (1e-2, 1e-3, 1e-4, 1e-5):
        runs[rtol] = dlra.solve(problem.F, (0, 0.1), problem.Y0(20), "midpoint-bug", rtol=rtol)
    return {"runs": runs, "problem": problem}


# ---- pictures


def steps_and_ranks(figure: Any, columns: int = 3) -> tuple[Any, Any, list[Any]]:
    """Axes: one for the run, of full width less one column, and two for step lengths and ranks."""
    grid = figure.add_gridspec(2, columns)
    main = figure.add_subplot(grid[:, :-1])
    steps = figure.add_subplot(grid[0, -1])
    return main, steps, [figure.add_subplot(grid[1, -1])]


def evolution(steps: Any, ranks: Any, sol: Any, unit: str = "t") -> None:
    """The lengths of the steps and the ranks over time."""
    steps.step(sol.t[1:], np.abs(np.diff(sol.t)), color=draw.BLUE, lw=1)
    steps.set(title="length of the step", yscale="log")
    ranks.step(sol.t, sol.rank, where="post", color=draw.ORANGE, lw=1.2)
    ranks.set(title="rank", xlabel=unit, ylim=(0, None))
    ranks.yaxis.set_major_locator(draw.integers())


def landau_picture(sol: Any, rate: float, frequency: float) -> Any:
    """The field with the decay of theory; steps and ranks."""
    figure = plot.new_figure(9.6, 4.2)
    main, steps, (ranks,) = steps_and_ranks(figure)
    field = np.asarray(sol.saved)
    main.semilogy(sol.t, field, color=draw.BLUE, label="electric field, amplitude |E|")
    decay = np.exp(RATE * sol.t)
    height = (field / decay)[sol.t > 4].max()
    main.semilogy(sol.t, height * decay, "--", color=draw.ORANGE, label=f"theory: decay at rate {RATE}")
    main.set(xlabel="t", ylabel="|E|", ylim=(None, 8 * field.max()))
    main.legend(loc="upper right")
    evolution(steps, ranks, sol)
    return figure


def two_stream_picture(sol: Any, loose: Any, problem: Any, amplitude: Any, energy: Any, growth: float) -> Any:
    """Growth of the field beside theory; phase space at the end; steps and ranks."""
    figure = plot.new_figure(12.0, 4.2)
    grid = figure.add_gridspec(2, 3)
    field, space = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 1])
    field.semilogy(sol.t, amplitude, color=draw.BLUE, label="electric field, amplitude |E|")
    middle = np.argmin(abs(sol.t - 20))
    linear = (sol.t > 5) & (sol.t < 34)
    line = amplitude[middle] * np.exp(GROWTH * (sol.t - sol.t[middle]))
    field.semilogy(sol.t[linear], line[linear], "--", color=draw.ORANGE, label=f"theory: rate {GROWTH}")
    field.set(xlabel="t", ylabel="|E|", title="growth and saturation")
    field.legend(loc="lower right")
    draw.image(figure, space, sol.y_final, "f", sol.t_final, problem)
    ranks = figure.add_subplot(grid[1, 2])
    evolution(figure.add_subplot(grid[0, 2]), ranks, sol)
    ranks.lines[0].set_label("rtol = 1e-6")
    ranks.step(loose.t, loose.rank, "--", where="post", color=draw.GREEN, label="rtol = 1e-3")
    ranks.legend(loc="lower right")
    return figure


def steel_picture(sol: Any, problem: Any, K: Any, exact: Any) -> Any:
    """Gains over the horizon, gains of the nodes, steps and ranks."""
    figure = plot.new_figure(12.0, 4.2)
    grid = figure.add_gridspec(2, 3)
    over, nodes = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 1])
    gains = np.array([np.linalg.norm(problem.output(P), axis=1) for P in sol.y])
    for i, column in enumerate(gains.T):
        over.plot(sol.t, column, ".-", color=draw.COLORS[i], label=f"input {i + 1}")
    over.set(xlabel="horizon (s)", title="norm of the gain of each input")
    over.legend(ncols=2, loc="upper left")
    over.set_ylim(0, 1.45 * gains.max())
    top = np.quantile(np.abs(K), 0.99)
    shown = nodes.imshow(
        K,
        aspect="auto",
        cmap="RdBu_r",
        vmin=-top,
        vmax=top,
        interpolation="nearest",
        extent=(1, K.shape[1], 7.5, 0.5),
    )
    nodes.set(xlabel="node", ylabel="input", title=f"gain K at {sol.t_final:g} s")
    nodes.grid(False)
    figure.colorbar(shown, ax=nodes, location="bottom", aspect=40)
    steps, ranks = figure.add_subplot(grid[0, 2]), figure.add_subplot(grid[1, 2])
    evolution(steps, ranks, sol, "horizon (s)")
    for ax in (steps, ranks):
        ax.set_xscale("log")
    return figure


def allen_cahn_picture(sol: Any, problem: Any) -> Any:
    """Three states; energy; steps and ranks."""
    figure = plot.new_figure(12.0, 6.2)
    upper, lower = figure.subfigures(2, 1)
    axes = upper.subplots(1, 3)
    for ax, t in zip(axes, (0, 5, 10), strict=True):
        i = int(np.argmin(abs(sol.t - t)))
        draw.image(upper, ax, sol.y[i], "u", float(round(sol.t[i], 2)), problem)
    energy, steps, ranks = lower.subplots(1, 3)
    values = [problem.observables["energy"](t, Y) for t, Y in zip(sol.t, sol.y, strict=True)]
    energy.plot(sol.t, values, color=draw.BLUE)
    energy.set(xlabel="t", title="energy")
    evolution(steps, ranks, sol)
    steps.set_xlabel("t")
    return figure


def schroedinger_picture(runs: dict[str, Any], problem: Any) -> Any:
    """Drift of norm and energy over time."""
    figure = plot.new_figure(10.5, 4.2)
    for k, (ax, what) in enumerate(zip(figure.subplots(1, 2, sharey=True), ("norm", "energy"), strict=True)):
        for i, (name, sol) in enumerate(runs.items()):
            ax.semilogy(
                sol.t[1:], np.maximum(drift(sol, k)[1:], 1e-16), ("-", "-", "--", "-", "-")[i], color=draw.COLORS[i],
                label=name if k == 0 else None,
            )  # fmt: skip
        ax.set(xlabel="t", title=f"drift of the {what}, relative")
    figure.legend(loc="outside lower center", ncols=3)
    figure.axes[0].set_ylim(1e-13, 1)
    return figure


def drift(sol: Any, k: int) -> np.ndarray:
    """Relative change of the k-th of the saved numbers."""
    values = np.array(sol.saved)[:, k]
    return np.abs(values - values[0]) / abs(values[0])


def riccati_picture(runs: dict[float, Any], problem: Any) -> Any:
    """Errors over tolerances, steps and ranks over time."""
    figure = plot.new_figure(12.0, 3.9)
    final, steps, ranks = figure.subplots(1, 3)
    rtols, errors = np.array(list(runs)), [relative_error(sol, problem) for sol in runs.values()]
    final.loglog(rtols, errors, "o-", color=draw.BLUE, label="error at t = 0.1")
    final.loglog(rtols, rtols, "--", color=draw.ORANGE, label="error = rtol")
    final.set(xlabel="rtol", title="relative error at the end")
    final.legend()
    for i, (rtol, sol) in enumerate(runs.items()):
        exponent = round(np.log10(rtol))
        color, label = draw.COLORS[i], rf"rtol = $10^{{{exponent}}}$"
        steps.loglog(sol.t[1:], np.diff(sol.t), ".", ms=3, color=color, label=label)
        ranks.semilogx(sol.t[1:], sol.rank[1:], color=color, lw=1, drawstyle="steps-pre")
    steps.set(xlabel="t", title="length of the step")
    steps.legend()
    ranks.set(xlabel="t", title="rank", ylim=(0, None))
    return figure


def relative_error(sol: Any, problem: Any, exact: Any = None) -> float:
    """Relative distance (Frobenius) of the end from the reference."""
    exact = problem.reference(sol.t_final) if exact is None else exact
    return float(np.linalg.norm(sol.y_final.to_dense() - exact) / np.linalg.norm(exact))


# ---- what is seen


def table(*rows: tuple[Any, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = [" | ".join(map(str, row)) for row in rows]
    return "\n".join([f"| {head} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in rest)])


def about_steps(sol: Any) -> list[tuple[str, Any]]:
    """Rows of a table about an adaptive run."""
    lengths, ranks = np.abs(np.diff(sol.t)), np.asarray(sol.rank)
    time, truncation, normal = (
        sol.errors[part][-1] / sol.y_final.norm() for part in ("time", "truncation", "normal")
    )
    return [
        ("steps", f"{sol.nsteps}, and {sol.nrejected} rejected"),
        ("length of the steps", f"{lengths.min():.2g} to {lengths.max():.2g}"),
        ("rank", f"{ranks[0]} at the start, {ranks.max()} at most, {ranks[-1]} at the end"),
        ("evaluations of F", sol.nfev),
        (
            "error budget, relative to the norm at the end",
            f"time {time:.1e}, truncation {truncation:.1e}, normal {normal:.1e}",
        ),
    ]


def landau_seen(sol: Any, rate: float, frequency: float) -> str:
    """Rates beside theory."""
    return table(
        ("", "measured", "theory", "deviation"),
        ("damping rate", f"{rate:.5f}", RATE, f"{abs(rate / RATE - 1):.1e}"),
        ("frequency", f"{frequency:.5f}", FREQUENCY, f"{abs(frequency / FREQUENCY - 1):.1e}"),
        *((name, value, "", "") for name, value in about_steps(sol)),
    )


def two_stream_seen(sol: Any, loose: Any, problem: Any, amplitude: Any, energy: Any, growth: float) -> str:
    """Growth beside theory, saturation."""
    top = int(np.argmax(energy))
    return table(
        ("", "measured", "theory", "deviation"),
        ("growth rate", f"{growth:.4f}", GROWTH, f"{abs(growth / GROWTH - 1):.1e}"),
        ("first maximum of the electric energy", f"{energy[top]:.3g} at t = {sol.t[top]:.1f}", "", ""),
        *((name, value, "", "") for name, value in about_steps(sol)),
        *(
            (f"rank at t = {t}; with rtol = 1e-3", f"{rank_at(sol, t)}; {rank_at(loose, t)}", "", "")
            for t in (5, 10, 15)
        ),
    )


def rank_at(sol: Any, t: float) -> int:
    """The rank at the stored time next to t."""
    return int(sol.rank[np.argmin(np.abs(sol.t - t))])


def steel_seen(sol: Any, problem: Any, K: Any, exact: Any) -> str:
    """Errors of P and of the gain."""
    gain = problem.output(exact)
    return table(
        ("", "measured"),
        ("relative error of P(4500)", f"{relative_error(sol, problem, exact):.1e}"),
        ("relative error of the gain K", f"{np.linalg.norm(K - gain) / np.linalg.norm(gain):.1e}"),
        ("only one side is computed (`V is U`)", str(sol.y_final.V is sol.y_final.U)),
        *about_steps(sol),
    )


def allen_cahn_seen(sol: Any, problem: Any) -> str:
    """Error, energy, cost of the cube."""
    energies = [problem.observables["energy"](t, Y) for t, Y in zip(sol.t, sol.y, strict=True)]
    cube = dlra.entrywise(lambda y: y**3, sol.y_final)
    return table(
        ("", "measured"),
        ("relative error at t = 10", f"{relative_error(sol, problem):.1e}"),
        ("energy", f"{energies[0]:.4g} to {energies[-1]:.4g}"),
        ("steps in which the energy rose by more than 1e-6 of the total fall", rises(energies)),
        ("rank of the cube of Y(10)", f"{cube.rank}; the exact product of factors has {sol.rank[-1] ** 3}"),
        *about_steps(sol),
    )


def rises(values: list[float]) -> int:
    """How often a falling quantity rises by more than 1e-6 of its fall."""
    return int(np.sum(np.diff(values) > 1e-6 * (values[0] - values[-1])))


def schroedinger_seen(runs: dict[str, Any], problem: Any) -> str:
    """Drifts and errors of all methods."""
    rows = [("method", "drift of the norm", "drift of the energy", "relative error at t = 1")]
    for name, sol in runs.items():
        error = relative_error(sol, problem)
        rows.append((f"`{name}`", f"{drift(sol, 0).max():.1e}", f"{drift(sol, 1).max():.1e}", f"{error:.1e}"))
    return table(*rows)


def riccati_seen(runs: dict[float, Any], problem: Any) -> str:
    """Errors, steps and ranks by tolerance."""
    rows = [
        ("rtol", "relative error at the end", "estimate, relative", "steps", "rejected", "rank at the end")
    ]
    for rtol, sol in runs.items():
        error, size = relative_error(sol, problem), sol.y_final.norm()
        estimate = sol.errors.time[-1] / size
        rows.append(
            (f"{rtol:.0e}", f"{error:.1e}", f"{estimate:.1e}", sol.nsteps, sol.nrejected, sol.rank[-1])
        )
    return table(*rows)


# ---- the page

EXAMPLES = (
    Example(
        "landau",
        "Landau damping: steps and rank that adapt",
        """A wave in a plasma fades though nothing dissipates. The density of electrons $f(x, v)$ is a
matrix, $x$ in its rows and $v$ in its columns, and obeys $\\dot f = -v\\,\\partial_x f + E\\,\\partial_v f$
with the field $E$ of its own charge; on factors the right-hand side has rank $2r$. Linear theory knows rate
and frequency of the decay.""",
        landau,
        landau_picture,
        landau_seen,
    ),
    Example(
        "two-stream",
        "Two-stream instability: a rank that grows",
        """The same equations, started from two beams of electrons that run through each other. A tiny
perturbation grows at a rate that linear theory knows, until it traps the beams and rolls them up into a
vortex. The start has rank two, the vortex full rank: `max_rank` caps it.""",
        two_stream,
        two_stream_picture,
        two_stream_seen,
    ),
    Example(
        "steel",
        "Cooling of a steel profile: feedback gain",
        """The optimal cooling of a rail is a linear feedback $u = -K x$ of its temperatures; the gain
$K = B^{\\mathrm T} P E$ comes from the symmetric solution $P(t)$ of a stiff differential Riccati equation, with
finite-element matrices and a mass matrix $E$. Time is the horizon of the control; $P(0) = 0$.""",
        steel,
        steel_picture,
        steel_seen,
    ),
    Example(
        "allen-cahn",
        "Allen-Cahn equation: an entrywise nonlinearity",
        """Two phases separate: $\\dot Y = A Y + Y A + Y - Y^3$, with the cube of each entry. The diffusion
is declared as stiff linear part; the cube is computed from samples of rows and columns. The equation is a
gradient flow: its energy falls.""",
        allen_cahn,
        allen_cahn_picture,
        allen_cahn_seen,
    ),
    Example(
        "schroedinger",
        "Schrödinger equation: what is conserved",
        """A linear Schrödinger equation on a 100 x 100 lattice, $\\dot Y = -\\mathrm i\\,(D Y + Y D + V Y V)$,
conserves norm and energy. Methods differ in whether they do: those whose bases contain the old ones
lose what truncation drops, those that replace the bases lose more.""",
        schroedinger,
        schroedinger_picture,
        schroedinger_seen,
    ),
    Example(
        "riccati",
        "Riccati equation: the tolerance and the error",
        """$\\dot X = A X + X A + C - X^2$, $X(0) = 0$, with the stiff $A$ of a heat equation: the value
function of its optimal control. It grows from zero within $10^{-3}$ and then settles, so that steps of
equal length would waste most of the effort. The reference is exact.""",
        riccati,
        riccati_picture,
        riccati_seen,
    ),
)

COMMENTS = {
    "landau": """No step and no rank was given. After the start the steps stay near the stability limit of the
explicit method; the rank follows a truncation tolerance that is tied to the length of the step.""",
    "two-stream": """The rank follows the rolling up of the phase space until the cap; from there on truncation
and the normal component dominate the budget, and the vortex is as good as its rank allows. Growth rate and
saturation are right. The method is explicit: once fast modes are there, stability limits the steps, and some
are rejected. A time tolerance far *above* the tolerance of the rank (`rtol=1e-3`, dashed) is a mistake: the
errors it admits are noise of full rank, which the rank tolerance keeps.""",
    "steel": """The steps grow with the horizon, as the fast modes settle; equal ones would be too long for the
beginning or wasted on the end.""",
    "allen-cahn": """The field evaluates the nonlinearity on a few rows and columns only; nothing is formed.""",
    "schroedinger": """`AugmentedBUG` and `MidpointBUG` keep both to what truncation drops and the substep leaves;
projector splitting to the accuracy of the substep, in the fixed rank 12; `BUG` projects its state onto new
bases and drifts at first order; the second-order parallel method conserves the norm up to order four in the
step. All with `dt = 0.02`.""",
    "riccati": """The error falls with the tolerance and stays below it: local errors of this dissipative equation
decay. Steps grow by orders of magnitude; the rank falls with time and rises with the accuracy asked
for.""",
}

HEAD = """# Gallery

Six problems, each with the code that was run, the picture it gave, and the numbers measured. Written by
`python -m validation.gallery`; the runs take a minute or two together on one thread. The problems are described in
{py:mod}`dlra.problems`, the methods are compared under [Which integrator](which-integrator.md) and
[Measured: error against time](measured.md).
"""


def section(example: Example) -> str:
    """Run an example, draw its picture, and return its part of the page."""
    with limited_threads(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        found = example.run()
        seconds = time.perf_counter() - start
    with plot.styled():
        plot.save(example.picture(**found), DOCS / "images" / f"gallery-{example.name}.png")
    warned = sorted({str(w.message) for w in caught if issubclass(w.category, dlra.DlraWarning)})
    return "\n".join(
        [
            f"## {example.title}\n",
            example.about,
            f"""
```{{literalinclude}} ../validation/gallery.py
:pyobject: {example.run.__name__}
```

![](images/gallery-{example.name}.png)

{example.seen(**found)}

{COMMENTS[example.name]} The run took {seconds:.2g} s.
""",
            *(f"> DlraWarning: {text}\n" for text in warned),
        ]
    )


def main() -> None:
    """Run all examples, or print the sections of those named on the command line."""
    chosen = sys.argv[1:]
    sections = [section(example) for example in EXAMPLES if not chosen or example.name in chosen]
    text = "\n".join([HEAD, *sections])
    if chosen:
        print(text)
    else:
        (DOCS / "gallery.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
