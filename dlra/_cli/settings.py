"""The arguments of ``dlra solve``, and their checks before any work starts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlra import integrators, substeps


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of ``dlra solve``; None where one was not given."""

    problem: str
    options: list[str] = field(default_factory=list)
    backend: str = "numpy"
    dtype: str | None = None
    device: str | None = None
    threads: int | None = None
    method: str | None = None
    substep: str | None = None
    order: int | None = None
    tableau: str | None = None
    bases: str | None = None
    rejection: float | None = None
    oversampling: int | None = None
    power: int | None = None
    failure_probability: float | None = None
    krylov_rtol: float | None = None
    seed: int | None = None
    dt: float | None = None
    t_end: float | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int | None = None
    rank: int | None = None
    rank_rtol: float | None = None
    rank_atol: float | None = None
    min_rank: int | None = None
    max_rank: int | None = None
    plot: Path | None = None
    json: str | None = None
    out: Path | None = None
    states: int | None = None
    every: int | None = None
    checkpoint: Path | None = None
    checkpoint_every: float = 10.0
    resume: Path | None = None
    reference: bool | None = None
    progress: bool = False
    quiet: bool = False
    debug: bool = False

    @property
    def adaptive(self) -> bool:
        """Whether the steps are chosen by a tolerance."""
        return self.rtol is not None or self.atol is not None


_FLAGS = {"rtol": "--rank-rtol", "atol": "--rank-atol", "c": "--rejection"}
_CHOSEN = (
    "substep",
    "order",
    "tableau",
    "bases",
    "oversampling",
    "power",
    "failure_probability",
    "krylov_rtol",
)


def check_times(settings: Settings) -> None:
    """Refuse tolerances of the time step beside a given step."""
    if settings.dt is not None and settings.adaptive:
        raise ValueError(
            "--rtol and --atol are tolerances of the time step and do not go with --dt; for tolerances of the rank "
            "give --rank-rtol or --rank-atol, for steps that adapt leave out --dt"
        )


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Parse NAME=VALUE: a whole number, a number, or else a text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or not text:
            raise ValueError(f"--set takes NAME=VALUE, e.g. --set n=200, got {pair!r}")
        if name in ("backend", "dtype", "device"):
            raise ValueError(f"--set {name}: use --{name}")
        if name in options:
            raise ValueError(f"--set {name} is given twice")
        options[name] = text
        for number in (int, float):
            with contextlib.suppress(ValueError):
                options[name] = number(text)
                break
    return options


def method_of(settings: Settings, defaults: dict[str, Any]) -> Any:
    """The integrator with its options, or an error naming the option it does not have."""
    name = settings.method or defaults["method"]
    given = {
        "rtol": settings.rank_rtol,
        "atol": settings.rank_atol,
        "min_rank": settings.min_rank,
        "max_rank": settings.max_rank,
        "c": settings.rejection,
        **{name: getattr(settings, name) for name in _CHOSEN},
    }
    options = {key: value for key, value in given.items() if value is not None}
    known = {f.name for f in dataclasses.fields(integrators.by_name(name))}
    for key in options:
        if key not in known:
            flag = _FLAGS.get(key, f"--{key.replace('_', '-')}")
            have = [m for m in integrators.names() if key in _option_names(m)]
            raise ValueError(
                f"{flag}: method {name!r} has no such option; {', '.join(have)} {'has' if len(have) == 1 else 'have'}"
            )
    if "tableau" in options and options["tableau"] not in substeps.TABLEAUX:
        known_ones = ", ".join(substeps.TABLEAUX)
        raise ValueError(f"--tableau: unknown tableau {options['tableau']!r}; known are {known_ones}")
    freed = settings.rank is not None or settings.adaptive or "rtol" in options or "atol" in options
    if "rank_rtol" in defaults and "rtol" in known and not freed:
        options["rtol"] = defaults["rank_rtol"]
    return integrators.by_name(name, **options)


def _option_names(method: str) -> set[str]:
    return {f.name for f in dataclasses.fields(integrators.by_name(method))}


def check_files(settings: Settings) -> None:
    """Refuse paths that could not be written, and libraries that lack, before the work is done."""
    if settings.states is not None and settings.every is not None:
        raise ValueError("--states and --every exclude each other")
    outputs = {
        "--plot": settings.plot,
        "--json": None if settings.json in (None, "-") else Path(settings.json or ""),
        "--out": settings.out,
        "--checkpoint": settings.checkpoint,
    }
    given = {flag: path for flag, path in outputs.items() if path is not None}
    for flag, path in given.items():
        if path.is_dir():
            raise IsADirectoryError(f"{flag} {path}: a directory; give the path of a file")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{flag} {path}: there is no directory {path.parent}; create it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(f"{flag} {path}: not writable")
    resolved = [path.resolve() for path in given.values()]
    if len(set(resolved)) < len(resolved):
        raise ValueError(f"{', '.join(given)} name one file twice")
    if settings.plot is not None:
        from dlra import plot

        plot.check_target(settings.plot)
    for path in (settings.out, settings.checkpoint):
        if path is not None:
            from dlra import _files

            _files.check_target(path)
