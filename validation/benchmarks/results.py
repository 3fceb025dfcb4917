"""The convention of the benchmarks: how they measure, and what they leave behind.

A benchmark pins the threads of everything that has any, warms up, and repeats its candidates in turns, so that whatever
else the machine does hits all of them. Times are wall-clock medians with half the interquartile range as spread; ratios
are medians over the rounds, each of which compares runs that followed each other. :func:`publish` writes the numbers to
``measured/NAME.json`` and the tables to ``measured-NAME.md``; :func:`summary` gathers the headlines of all JSON
files, with their goals, into ``measured/headlines.md``, which ``performance.md`` includes.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import dlra
from validation import pages
from validation.benchmarks.machine import facts

SAMPLE = 2e-3
"""A sample lasts at least so many seconds: shorter runs are repeated within it."""


@dataclass(frozen=True)
class Timing:
    """Seconds a run, one entry a round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    @property
    def spread(self) -> float:
        """Half the interquartile range."""
        low, high = np.quantile(self.samples, (0.25, 0.75))
        return float(high - low) / 2

    def over(self, other: Timing) -> float:
        """How many times longer than another: the median over the rounds."""
        return float(np.median(np.divide(self.samples, other.samples)))

    def record(self) -> dict[str, float | int]:
        """Median, spread and rounds, for JSON."""
        return {"seconds": self.median, "spread": self.spread, "rounds": len(self.samples)}


def compare(
    runs: Mapping[str, Callable[[], Any]], seconds: float = 1.0, least: int = 5, warm: bool = True
) -> dict[str, Timing]:
    """Time several runs in turns, for so many seconds in all and at least so many rounds."""
    calls = {name: _calls(run) if warm else 1 for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    end = time.perf_counter() + seconds
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while time.perf_counter() < end or len(samples[order[0]]) < least:
            for name in order:
                run, count = runs[name], calls[name]
                start = time.perf_counter()
                for _ in range(count):
                    run()
                samples[name].append((time.perf_counter() - start) / count)
            order.reverse()
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def _calls(run: Callable[[], Any]) -> int:
    """Warm up; how often to call the run within a sample."""
    run()
    start = time.perf_counter()
    run()
    return max(1, math.ceil(SAMPLE / max(time.perf_counter() - start, 1e-7)))


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """So many threads for all BLAS libraries, numba, PyTorch, and JAX where it has not computed yet (it cannot be told
    later); no warnings of dlra."""
    import numba
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be limited)
    from threadpoolctl import threadpool_limits

    before = numba.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(threads))
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        stack.callback(numba.set_num_threads, before)
        stack.enter_context(_environment(NPROC=str(threads), OMP_NUM_THREADS=str(threads)))
        stack.enter_context(_torch_threads(threads))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", dlra.DlraWarning)
        yield


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Headline:
    """A number that a reader should see first, with its goal where it has one; ``sense`` is "at least" or "at most"."""

    what: str
    measured: float
    goal: float | None = None
    sense: str = "at least"
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.measured >= self.goal if self.sense == "at least" else self.measured <= self.goal

    def cells(self) -> list[str]:
        """What, measured, goal, verdict."""
        goal = "" if self.goal is None else f"{self.sense} {number(self.goal)}{self.unit}"
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        return [self.what, f"{number(self.measured)}{self.unit}", goal, verdict]


def number(value: float) -> str:
    """Three digits or so."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.1e}" if digits > 6 or digits < -4 else f"{value:.{max(digits, 0)}f}"


def publish(
    name: str,
    title: str,
    about: str,
    parts: Iterable[str],
    data: Mapping[str, Any],
    headlines: Iterable[Headline],
    *,
    threads: int,
    quick: bool,
) -> None:
    """Write ``measured/NAME.json`` and ``measured-NAME.md``, and print the tables."""
    machine = facts()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    record = {
        "name": name,
        "title": title,
        "command": f"python -m validation.benchmarks {name}",
        "machine": machine,
        "threads": threads,
        "load": round(load, 2),
        "quick": quick,
        "headlines": [asdict(h) | {"met": h.met} for h in headlines],
        "data": data,
    }
    text = json.dumps(record, indent=1, allow_nan=False, default=_plain) + "\n"
    (pages.folder("measured") / f"{name}.json").write_text(text)
    parts = [f"# {title}", about, conditions(record), *parts]
    pages.write(page_of(name), parts)
    print("\n\n".join(part.strip("\n") for part in parts), end="\n\n", flush=True)


def page_of(name: str) -> str:
    """The page of a benchmark."""
    return f"measured-{name.replace('_', '-')}.md"


def _plain(value: Any) -> Any:
    if isinstance(value, Timing):
        return value.record()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong in JSON")


def conditions(record: Mapping[str, Any]) -> str:
    """A paragraph that says by what, how and on what the numbers of a page were made."""
    machine, threads = record["machine"], record["threads"]
    text = (
        f"Written by `{record['command']}`; the numbers are in `docs/measured/{record['name']}.json`. Wall-clock "
        f"medians of interleaved runs after a warm-up, ± half the interquartile range; {threads} "
        f"{'thread' if threads == 1 else 'threads'} for everything that has any. Compare ratios: absolute times are of "
        "one machine ({processor}, {cores} cores, Python {python}, NumPy {numpy}, {blas}, {date}).".format(
            **machine
        )
    )
    if record["load"] > threads + 0.5:
        text += f" The machine was busy (load average {record['load']:.1f}): good to a factor of two."
    if record["quick"]:
        text += " **A quick run**, which shows that everything works: its numbers mean little."
    return text


def milliseconds(timing: Timing) -> str:
    """A cell: median ± spread."""
    return f"{number(1e3 * timing.median)} ± {number(1e3 * timing.spread)}"


def summary() -> None:
    """Gather the headlines of all JSON files of the folder into ``measured/headlines.md``."""
    folder = pages.folder("measured")
    rows, notes = [], set()
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        for h in record["headlines"]:
            met = h.pop("met")
            headline = Headline(**h)
            assert headline.met == met
            rows.append([*headline.cells(), f"[{record['title']}]({page_of(record['name'])})"])
        machine = record["machine"]
        threads = f"{record['threads']} thread" + "s" * (record["threads"] != 1)
        notes.add(f"{machine['processor']}, {machine['blas']}, {threads}")
        if record["quick"]:
            notes.add("quick runs, whose numbers mean little")
    if not rows:
        (folder / "headlines.md").write_text("Nothing has been measured.\n")
        return
    text = pages.table(["what", "measured", "goal", "", "page"], rows) + f"\nOn {'; '.join(sorted(notes))}.\n"
    (folder / "headlines.md").write_text(text)
