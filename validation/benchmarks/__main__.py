"""Run benchmarks: ``python -m validation.benchmarks [NAMES] [--quick] [--out DIR] [--threads N]``."""

from __future__ import annotations

import importlib
import inspect
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from validation import pages
from validation.benchmarks.machine import describe
from validation.benchmarks.results import pinned, summary

NAMES = (
    "kernels", "changes", "thresholds", "steps", "scaling", "whole_runs", "stacks", "convolution", "training",
    "stiff", "nonlinear", "work_precision", "gpu",
)  # fmt: skip
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def run(name: str, quick: bool, threads: int) -> str:
    """Run one benchmark; returns what became of it."""
    module = importlib.import_module(f"validation.benchmarks.{name}")
    takes = inspect.signature(module.main).parameters
    if quick and "quick" not in takes:
        return "has no quick form: left out"
    given: dict[str, Any] = {"quick": quick, "threads": threads}
    with pinned(threads):
        module.main(**{option: value for option, value in given.items() if option in takes})
    return "done"


@app.command()
def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"What to run, of {', '.join(NAMES)}; without, all.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run of about two minutes; its numbers mean little.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where pages, numbers and pictures go; docs/ where not given, benchmark-report/ for a quick run.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="Threads of BLAS, numba, PyTorch and JAX.")
    ] = 1,
) -> None:
    """Measure speed and memory beside what else one would use.

    Exit code 1 where a benchmark failed, 2 for an unknown name.
    """
    for name in names or ():
        if name not in NAMES:
            typer.echo(f"error: no benchmark {name!r}; there are {', '.join(NAMES)}", err=True)
            raise typer.Exit(2)
    arguments, sys.argv = sys.argv, sys.argv[:1]  # of this command, not of the benchmarks
    folder = out or (Path("benchmark-report") if quick else pages.DOCS)
    print(describe(), end="\n\n", flush=True)
    ends = {}
    try:
        with pages.written_to(folder):
            for name in names or NAMES:
                begin = time.perf_counter()
                try:
                    ends[name] = run(name, quick, threads)
                except Exception:
                    traceback.print_exc()
                    ends[name] = "failed"
                ends[name] += f" ({time.perf_counter() - begin:.0f} s)"
            summary()
    finally:
        sys.argv = arguments
    print((folder / "measured" / "headlines.md").read_text())
    for name, end in ends.items():
        print(f"{name}: {end}")
    if any(end.startswith("failed") for end in ends.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
