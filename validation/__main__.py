"""Check the statements: ``python -m validation [--quick] [--only NAME] [--json FILE]``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from validation import pages, report, running
from validation.checks import Check, Result

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="The same checks with fewer cases, in minutes.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A statement (module) or a check; may be given several times."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where report.html, results.json and plots/ go.")
    ] = Path("validation-report"),
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results here too.")] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Checks run at once, each on one BLAS thread; 0: in this process."
        ),
    ] = min(os.cpu_count() or 1, 8),
    docs: Annotated[bool, typer.Option("--docs", help="Write the page docs/verdicts.md.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List statements and checks, and end.")] = False,
) -> None:
    """Check statements on low-rank integrators and training, each also against broken variants of the integrators.

    Exit code 1 where a verdict differs from the recorded one, a check could not fail, a broken variant is noticed by no
    check, or the run was interrupted; 2 where the options are wrong or the report cannot be written.
    """
    console, errors = Console(), Console(stderr=True)

    def complain(text: str) -> None:
        errors.print(text, style="bold red", highlight=False, markup=False, soft_wrap=True)

    try:
        run = running.chosen(only or [], quick)
        if docs and only:
            raise ValueError("--docs writes the page of all statements: leave --only away")
    except ValueError as error:
        complain(f"error: {error}")
        raise typer.Exit(2) from None
    if names:
        for module, several in run.wanted.items():
            console.print(module, style="bold", highlight=False)
            for check in several:
                console.print(f"  {check.name}: {check.title}", highlight=False, markup=False)
        for text in run.complaints():
            complain(text)
        raise typer.Exit(1 if run.failed_modules else 0)
    try:
        report.check_means(out, json)
    except (ImportError, OSError) as error:
        complain(f"error: {error}")
        raise typer.Exit(2) from None
    total = sum(1 for _ in run.checks())
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
    ) as progress:
        bar = progress.add_task("checking", total=total)
        written = time.monotonic()

        def after(check: Check, result: Result) -> None:
            nonlocal written
            due = time.monotonic() - written > 15  # so that what is finished can be read meanwhile
            report.write(run, out, page=due)
            written = time.monotonic() if due else written
            progress.update(bar, advance=1, description=f"{check.name}: {result.verdict}")

        running.execute(run, jobs, after)
    report.write(run, out)
    if json is not None:
        report.write_json(run, json)
    if docs and not run.interrupted:
        pages.write("verdicts.md", [report.markdown(run)])
    wide = console if console.is_terminal else Console(width=200)
    wide.print(report.console_table(run))
    complaints = run.complaints()
    for text in complaints:
        complain(text)
    console.print(f"{len(run.results)} of {total} checks; the report: {out / 'report.html'}", highlight=False)
    if run.interrupted:
        complain("interrupted: the report holds what was finished")
    if complaints or run.interrupted:
        sys.exit(1)


if __name__ == "__main__":
    app()
