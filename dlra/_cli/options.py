"""What the commands that compute have in common: options, and how they end."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer import Option

from dlra._cli.exits import INTERRUPTED

OUTPUT = "Output"
"""The panel of the help that these options stand in."""

CheckpointEvery = Annotated[float, Option(metavar="SECONDS", help="How often.", rich_help_panel=OUTPUT)]
Progress = Annotated[
    bool | None,
    Option("--progress/--no-progress", help="Progress bar. Default: on a terminal.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[
    bool, Option("--quiet", "-q", help="Print nothing unless something fails.", rich_help_panel=OUTPUT)
]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT)]


def wants_progress(progress: bool | None, quiet: bool) -> bool:
    """Whether a bar is shown: where nothing is said, on a terminal."""
    return sys.stderr.isatty() and not quiet if progress is None else progress


def tell(outcome: Any, report: Any, quiet: bool, json: str | None) -> None:
    """Write the files of an outcome, print its summary and its warnings, raise its failure."""
    report.write_files(outcome)
    if not quiet:
        typer.echo(report.summary(outcome), err=json == "-", nl=False)
        for text in outcome.warnings:
            typer.echo(f"warning: {text}", err=True)
    if outcome.failure is not None:
        raise outcome.failure


def end(outcome: Any) -> None:
    """Exit with the code of an interruption where there was one."""
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
