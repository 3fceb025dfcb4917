"""The demonstration behind ``dlra demo``: a plasma and an engineering problem, beside what theory says.

1. Landau damping of a plasma wave: rate and frequency against the dispersion relation, conservation, rank.
2. The Gramian of a cooling steel profile from real finite-element data: rank by tolerance, error against the
   exact solution, covariance of the outputs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from dlra import problems
from dlra._cli.record import Recorder
from dlra._cli.task import limited_threads
from dlra.solution import Solution

__all__ = ["Demo"]

RATE, FREQUENCY = -0.15336, 1.41566  # the least damped root of the dispersion relation at k = 0.5


@dataclass(frozen=True)
class Landau:
    """The wave: numbers over time, stored states, what was measured."""

    problem: problems.Problem
    series: Solution
    stored: Solution
    fit: problems.DampingFit
    seconds: float

    def observable(self, name: str) -> np.ndarray:
        """An observable at every step."""
        return np.asarray([entry[name] for entry in self.series.saved or []])

    def drift(self, name: str) -> float:
        """Largest change of an observable, relative to its start."""
        values = self.observable(name)
        return float(np.abs(values - values[0]).max() / abs(values[0]))


@dataclass(frozen=True)
class Steel:
    """The Gramian: numbers over time, stored states, distances from the exact solution."""

    problem: problems.Problem
    series: Solution
    stored: Solution
    tolerance: float
    errors: np.ndarray
    """Relative distance of each stored state from the exact solution; NaN at the start, which is zero."""
    exact: np.ndarray
    """Singular values of the exact solution at the end."""
    output_error: float
    seconds: float

    def best(self, rank: int) -> float:
        """Relative distance of the exact solution from its best approximation of a rank."""
        return float(np.linalg.norm(self.exact[rank:]) / np.linalg.norm(self.exact))

    @property
    def exact_rank(self) -> int:
        """The smallest rank that reaches the tolerance."""
        return next(r for r in range(len(self.exact)) if self.best(r) <= self.tolerance)


def landau_damping(dt: float = 0.025, t_end: float = 40.0) -> Landau:
    """Solve Landau damping with a wave so small that linear theory holds."""
    problem = problems.landau_damping(alpha=0.001)
    record = Recorder(problem, round(t_end / dt), states=5)
    start = time.perf_counter()
    solution = dlra.solve(
        problem.F, (0.0, t_end), problem.Y0(2), dlra.AugmentedBUG(rtol=1e-9), dt=dt, save=record
    )
    seconds = time.perf_counter() - start
    series, stored = record.split(solution)
    amplitude = [entry["electric_field"] for entry in series.saved or []]
    return Landau(problem, series, stored, problems.landau_rate(series.t, amplitude), seconds)


def steel_gramian(steps: int = 150, tolerance: float = 1e-6) -> Steel:
    """Solve for the Gramian of the steel profile, with steps that grow with time from 0.1 s on.

    The fast modes settle within seconds, the slow ones take a day: steps of equal length would waste most of
    the effort, and still miss the beginning.
    """
    problem = problems.steel_lyapunov()
    end = problem.t_span[1]
    times = np.concatenate(([0.0], np.geomspace(0.1, end, steps)))
    times[-1] = end
    record = Recorder(problem, steps, states=1 + steps // 5)
    start = time.perf_counter()
    solution = dlra.solve(
        problem.F, (0.0, end), problem.Y0(7), dlra.AugmentedBUG(rtol=tolerance), dt=end,
        t_eval=times, save=record,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    series, stored = record.split(solution)
    errors = [_distance(problem, t, P) for t, P in zip(stored.t, stored.y, strict=True)]
    exact = problem.reference(end)
    assert exact is not None and problem.output is not None
    outputs, exact_outputs = problem.output(stored.y_final), problem.output(exact)
    output_error = float(np.linalg.norm(outputs - exact_outputs) / np.linalg.norm(exact_outputs))
    values = np.linalg.svd(exact, compute_uv=False)
    return Steel(problem, series, stored, tolerance, np.asarray(errors), values, output_error, seconds)


def _distance(problem: problems.Problem, t: float, P: Any) -> float:
    exact = problem.reference(t)
    assert exact is not None
    scale = np.linalg.norm(exact)
    return float(np.linalg.norm(P.to_dense() - exact) / scale) if scale > 0 else float("nan")


class Demo:
    """Both problems, their pictures and files.

    Parameters
    ----------
    out : path
        Directory for pictures and files; made where it is missing.

    Raises
    ------
    OSError
        The directory cannot be made or written to.
    ImportError
        matplotlib or h5py is missing; the text names the extra.
    """

    def __init__(self, out: str | os.PathLike[str]):
        from dlra import _files, plot

        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        plot.check_target(self.out / "landau.png")
        _files.check_target(self.out / "landau.h5")

    def run(self, say: Callable[[str], Any]) -> None:
        """Solve, report line by line through ``say``, and write the files."""
        from dlra import _demo_pictures as pictures
        from dlra import plot

        start = time.perf_counter()
        say(f"dlra {dlra.__version__}: two matrix differential equations on low-rank factors\n")
        with limited_threads(1):
            say("1  Landau damping: a plasma wave fades though nothing dissipates")
            landau = landau_damping()
            say(landau_report(landau))
            plot.save(pictures.landau_wave(landau), self.out / "landau.png")
            plot.save(pictures.numerics(landau.series), self.out / "landau-numerics.png")
            landau.stored.save(self.out / "landau.h5")

            say("2  Cooling of a steel profile: covariance of its temperatures under random cooling")
            steel = steel_gramian()
            say(steel_report(steel))
            plot.save(pictures.steel(steel), self.out / "steel.png")
            plot.save(pictures.numerics(steel.series, "time (s)"), self.out / "steel-numerics.png")
            steel.stored.save(self.out / "steel.h5")

        say(
            f"Done in {time.perf_counter() - start:.0f} s. Pictures and solutions are in {self.out.resolve()}:"
        )
        say("   landau.png   landau-numerics.png   steel.png   steel-numerics.png   landau.h5   steel.h5")


def landau_report(landau: Landau) -> str:
    """What is printed about the wave."""
    m, n = landau.problem.shape
    rank = landau.series.rank
    rows = [
        ("damping rate of |E|", landau.fit.rate, RATE),
        ("frequency of E", landau.fit.frequency, FREQUENCY),
    ]
    lines = [
        f"   density of electrons on {m} x {n} points, t = 0 to {landau.series.t_final:g} in {landau.series.nsteps} "
        f"steps, {landau.seconds:.1f} s",
        "",
        f"   {'':<25}{'measured':>12}{'theory':>12}{'deviation':>12}",
        *(f"   {name:<25}{x:>12.5f}{y:>12.5f}{100 * (x - y) / abs(y):>+10.3f} %" for name, x, y in rows),
        f"   {'drift of mass, relative':<25}{landau.drift('mass'):>12.1e}{0:>12}",
        f"   {'drift of energy, relative':<25}{landau.drift('total_energy'):>12.1e}{0:>12}",
        f"   {'rank':<25}{f'{rank[0]} to {rank.max()}':>12}   {_share(landau.stored.y_final):.0f} % of the numbers of "
        f"the full matrix",
        "",
    ]
    return "\n".join(lines)


def steel_report(steel: Steel) -> str:
    """What is printed about the Gramian."""
    P, problem = steel.stored.y_final, steel.problem
    assert problem.output is not None
    covariance, exact = problem.output(P), problem.output(problem.reference(problem.t_span[1]))
    scale = 10.0 ** np.floor(np.log10(np.abs(covariance).max()))
    rank = steel.series.rank
    best = steel.best(P.rank)
    norm, exact_norm = P.norm(), np.linalg.norm(steel.exact)
    trace, exact_trace = np.trace(covariance), np.trace(exact)
    lines = [
        f"   covariance P of {problem.shape[0]} temperatures, t = 0 to {steel.series.t_final:g} s in "
        f"{steel.series.nsteps} growing steps, {steel.seconds:.1f} s",
        "",
        f"   {'':<25}{'computed':>12}{'exact':>12}{'error':>12}{'at best':>12}",
        f"   {f'rank, tolerance {steel.tolerance:.0e}':<25}{P.rank:>12}{steel.exact_rank:>12}",
        f"   {'norm of P':<25}{norm:>12.5e}{exact_norm:>12.5e}{steel.errors[-1]:>12.1e}{best:>12.1e}",
        f"   {'trace of C P Cᵀ':<25}{trace:>12.5e}{exact_trace:>12.5e}{steel.output_error:>12.1e}",
        f"   (error: of the whole matrix, relative; at best: the exact P cut to rank {P.rank};",
        f"   the rank has grown from {rank[0]})",
        "",
        f"   covariance C P Cᵀ of the outputs, in units of {scale:.0e}:",
        *("    " + "".join(f"{x:>10.4f}" for x in row) for row in covariance / scale),
        "",
    ]
    return "\n".join(lines)


def _share(Y: Any) -> float:
    """Numbers held by a LowRank, in percent of those of the full matrix."""
    (m, n), r = Y.shape, Y.rank
    return 100 * ((m + n) * r + r * r) / (m * n)
