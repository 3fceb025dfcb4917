"""The results of ``dlra solve``: a summary to read, and the files asked for.

The JSON file holds one object. Numbers that are not finite or not known are null.

=================== ====================================================================
problem, method     names; the method with its options, as Python writes it
options             what the run was asked for: problem options, backend, dtype, device,
                    t_start, t_end, dt (null where the steps adapt), rank (at the start),
                    rtol and atol of the time step, seed
t, rank             times and ranks: every step, or 2001 of them where there are more
observables         name to list, one number per time
errors              time, truncation, normal: the error budget, a list each, one per time
singular_values     of the final state
reference_error     relative distance (Frobenius) of the final state from the reference
nfev, nsteps        evaluations of F, steps
nrejected           attempts that were rejected, where the steps adapt
seconds             wall time of the run
status, message     0 done, 1 stopped early, -1 failed; and why
warnings            texts
files               the other files written
versions            dlra, python, numpy, scipy and the array library
=================== ====================================================================
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from typing import Any

import numpy as np

import dlra
from dlra._cli.task import Outcome
from dlra._plain import plain
from dlra._progress import budget_text

_LIBRARIES = {"cupy": ("cupy-cuda12x", "cupy-cuda13x", "cupy"), "torch": ("torch",), "jax": ("jax",)}


def write_files(outcome: Outcome) -> None:
    """Write the files asked for; ``-`` puts JSON on standard output."""
    settings = outcome.task.settings
    if settings.out is not None:
        outcome.stored.save(settings.out)
    if settings.plot is not None:
        from dlra import plot

        plot.save(plot.overview(outcome.series, outcome.task.problem), settings.plot)
    if settings.json is not None:
        text = _json(record(outcome))
        if settings.json == "-":
            sys.stdout.write(text)
        else:
            with open(settings.json, "w", encoding="utf-8") as file:
                file.write(text)


def record(outcome: Outcome) -> dict[str, Any]:
    """The object of the JSON file."""
    task, series = outcome.task, outcome.series
    settings, errors, saved = task.settings, outcome.series.errors, outcome.series.saved or []
    return {
        "problem": task.problem.name,
        "method": series.method,
        "options": {
            "problem": task.options,
            "backend": settings.backend,
            "dtype": task.problem.place.dtype,
            "device": settings.device,
            "t_start": task.t_span[0],
            "t_end": task.t_span[1],
            "dt": task.dt,
            "rank": task.Y0.rank,
            "rtol": settings.rtol,
            "atol": settings.atol,
            "seed": settings.seed,
        },
        "t": series.t,
        "rank": series.rank,
        "observables": {name: [entry[name] for entry in saved] for name in task.problem.observables},
        "errors": {"time": errors.time, "truncation": errors.truncation, "normal": errors.normal},
        "singular_values": saved[-1]["singular_values"],
        "reference_error": outcome.reference_error,
        "nfev": series.nfev,
        "nsteps": series.nsteps,
        "nrejected": series.nrejected,
        "seconds": outcome.seconds,
        "status": series.status,
        "message": series.message,
        "warnings": outcome.warnings,
        "files": _files(outcome),
        "versions": versions(settings.backend),
    }


def versions(backend: str) -> dict[str, str]:
    """Versions of what computed the result."""
    found = {"dlra": dlra.__version__, "python": platform.python_version()}
    for name in ("numpy", "scipy"):
        found[name] = metadata.version(name)
    for distribution in _LIBRARIES.get(backend, ()):
        try:
            found[backend] = metadata.version(distribution)
            break
        except metadata.PackageNotFoundError:
            continue
    return found


def summary(outcome: Outcome) -> str:
    """What ``dlra solve`` prints."""
    task, series = outcome.task, outcome.series
    problem, settings = task.problem, task.settings
    m, n = problem.shape
    where = settings.backend if settings.device is None else f"{settings.backend} on {settings.device}"
    low, high, end = min(series.rank), max(series.rank), series.rank[-1]
    t0, t1 = task.t_span
    rows = [
        ("problem", f"{m} x {n}, {problem.place.dtype}, {where}"),
        ("method", f"{series.method}, {_steps(outcome)}, t = {t0:g} to {t1:g}"),
        ("result", series.message if outcome.failure is None else f"failed at t = {series.t_final:.6g}"),
        ("steps", f"{_taken(outcome)}, {series.nfev} evaluations of F, {_seconds(outcome.seconds)}"),
        (
            "rank",
            f"{end}" if low == high else f"{series.rank[0]} at the start, {high} at most, {end} at the end",
        ),
    ]
    final = series.errors
    budget = budget_text(dlra.ErrorBudget(final.time[-1], final.truncation[-1], final.normal[-1]))
    if budget:
        rows.append(("error budget", budget))
    if outcome.reference_error is not None:
        rows.append(("error", f"{outcome.reference_error:.2e} relative to the reference solution"))
    text = f"{problem.name}: {problem.description}\n\n"
    text += "".join(f"  {name:<14}{value}\n" for name, value in rows)
    text += "\n" + _observable_table(outcome)
    files = _files(outcome)
    if files:
        text += "\n" + "".join(f"  {'wrote' if i == 0 else '':<14}{name}\n" for i, name in enumerate(files))
    return text


def _steps(outcome: Outcome) -> str:
    """How the steps were chosen."""
    settings, dt = outcome.task.settings, outcome.task.dt
    if dt is not None:
        return f"dt = {dt:g}"
    given = [
        f"{name} = {value:g}" for name in ("rtol", "atol") if (value := getattr(settings, name)) is not None
    ]
    return f"steps for {', '.join(given)}"


def _taken(outcome: Outcome) -> str:
    """The number of steps; where they adapt, also their lengths and the rejected ones."""
    series = outcome.series
    if outcome.task.dt is not None or series.nsteps == 0:
        return f"{series.nsteps}"
    lengths = np.abs(np.diff(series.t))
    return (
        f"{series.nsteps} of length {lengths.min():.2g} to {lengths.max():.2g}, {series.nrejected} rejected"
    )


def _observable_table(outcome: Outcome) -> str:
    """Start, end and change of every observable."""
    saved = outcome.series.saved or []
    width = max([len(name) for name in outcome.task.problem.observables] + [12]) + 2
    text = f"  {'observable':<{width}}{'start':>14}{'end':>14}{'change':>12}{'relative':>12}\n"
    for name in outcome.task.problem.observables:
        values = np.asarray([entry[name] for entry in saved])
        start, end = values[0], values[-1]
        known = abs(start) > 1e-6 * np.nanmax(np.abs(values), initial=0.0)  # else relative to rounding
        relative = f"{(end - start) / abs(start):+.1e}" if known else "-"
        text += f"  {name:<{width}}{start:>14.7g}{end:>14.7g}{end - start:>+12.1e}{relative:>12}\n"
    return text


def _files(outcome: Outcome) -> list[str]:
    settings = outcome.task.settings
    given = (settings.out, settings.plot, settings.json, settings.checkpoint)
    return [str(path) for path in given if path is not None and path != "-"]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _json(found: dict[str, Any]) -> str:
    """An object as strict JSON, one line per key."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(plain(value), allow_nan=False, ensure_ascii=False)}"
        for key, value in found.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"
