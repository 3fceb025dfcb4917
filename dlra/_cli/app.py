"""Commands and options of ``dlra``, and what its exit codes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

import dlra
from dlra import integrators, substeps
from dlra._cli import comparing_commands, training_commands
from dlra._cli.exits import FAILED, exit_on_error
from dlra._cli.options import OUTPUT, CheckpointEvery, Debug, Progress, Quiet, end, tell, wants_progress

app = typer.Typer(
    name="dlra",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Solve matrix differential equations, and train networks, on low-rank factors.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad arguments, 130 interrupted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dlra {dlra.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Solve matrix differential equations, and train networks, on low-rank factors."""


_STEP, _RANK, _PLACE, _FILES = "Time steps and method", "Rank", "Problem and array library", OUTPUT


@app.command()
def solve(
    problem: Annotated[str, Argument(metavar="PROBLEM", help="A name that 'dlra problems' lists.")],
    set_: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUE",
            help="Option of the problem, e.g. --set n=200; repeatable. 'dlra problems PROBLEM' lists them.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    backend: Annotated[
        str, Option(help="Array library: numpy, cupy, torch or jax.", rich_help_panel=_PLACE)
    ] = "numpy",
    dtype: Annotated[
        str | None,
        Option(
            help="float32, float64, complex64 or complex128, as the problem allows.", rich_help_panel=_PLACE
        ),
    ] = None,
    device: Annotated[
        str | None, Option(help="Device of the array library, e.g. cuda:0.", rich_help_panel=_PLACE)
    ] = None,
    threads: Annotated[
        int | None,
        Option(
            min=1,
            help="Threads of the linear algebra (needs threadpoolctl). Default: 1 up to 2000 rows and columns, where "
            "more only wait for each other; the library's choice beyond, or where OPENBLAS_NUM_THREADS or its like is "
            "set.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    method: Annotated[
        str | None,
        Option(
            help=f"One of {', '.join(integrators.names())}; 'dlra methods' describes them.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    substep: Annotated[
        str | None,
        Option(
            help=f"Stepper of the small equations: {', '.join(substeps.NAMES)}.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    order: Annotated[
        int | None,
        Option(
            help="Of projector-splitting: 1, 2 or 4; of projected-exponential: 1 or 2.", rich_help_panel=_STEP
        ),
    ] = None,
    tableau: Annotated[
        str | None,
        Option(
            help=f"Scheme of the Runge-Kutta methods: {', '.join(substeps.TABLEAUX)}.", rich_help_panel=_STEP
        ),
    ] = None,
    bases: Annotated[
        str | None,
        Option(help="Of midpoint-bug and second-order-parallel-bug: 3r or 4r.", rich_help_panel=_STEP),
    ] = None,
    rejection: Annotated[
        float | None,
        Option(
            help="Of parallel-bug: a step is repeated in wider bases where the normal component of F exceeds so many "
            "times the rank tolerance.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    oversampling: Annotated[
        int | None,
        Option(help="Of the randomised and interpolatory methods.", rich_help_panel=_STEP),
    ] = None,
    power: Annotated[
        int | None, Option(help="Power iterations of the randomised methods.", rich_help_panel=_STEP)
    ] = None,
    failure_probability: Annotated[
        float | None,
        Option(help="Of the rangefinder of the randomised methods.", rich_help_panel=_STEP),
    ] = None,
    krylov_rtol: Annotated[
        float | None,
        Option(help="Tolerance of the Krylov subspaces of projected-exponential.", rich_help_panel=_STEP),
    ] = None,
    seed: Annotated[
        int | None,
        Option(min=0, help="Of the randomised methods, for results that repeat.", rich_help_panel=_STEP),
    ] = None,
    dt: Annotated[
        float | None,
        Option(
            help="Step length. Default: the problem's; with --rtol or --atol the steps are chosen.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    t_end: Annotated[
        float | None,
        Option(
            help="Where to stop; before the start goes backward. Default: the problem's.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    rtol: Annotated[
        float | None,
        Option(
            help="Let the steps adapt: the errors of all may add up to so much, relative to the norm of the state. "
            "Not with --dt; --rank-rtol is the tolerance of the rank.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    atol: Annotated[
        float | None,
        Option(help="The same, absolutely; alone it leaves --rtol at 1e-4.", rich_help_panel=_STEP),
    ] = None,
    max_steps: Annotated[
        int | None, Option(min=1, help="Fail when so many steps have not sufficed.", rich_help_panel=_STEP)
    ] = None,
    rank: Annotated[
        int | None,
        Option(
            help="Initial rank, and the rank throughout unless a tolerance (of rank or time) or --max-rank frees it. "
            "Default: the problem's, with its rank tolerance where it has one.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    rank_rtol: Annotated[
        float | None,
        Option(help="What a step may truncate, relative to the norm of the state.", rich_help_panel=_RANK),
    ] = None,
    rank_atol: Annotated[
        float | None, Option(help="What a step may truncate, absolutely.", rich_help_panel=_RANK)
    ] = None,
    min_rank: Annotated[int | None, Option(help="The rank never falls below.", rich_help_panel=_RANK)] = None,
    max_rank: Annotated[int | None, Option(help="The rank never exceeds.", rich_help_panel=_RANK)] = None,
    plot: Annotated[
        Path | None,
        Option(metavar="FILE", help="Overview as a picture (png, pdf, svg).", rich_help_panel=_FILES),
    ] = None,
    json: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Numbers over time as JSON; - for standard output (the summary then goes to standard error).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", help="Stored states as HDF5, for dlra.Solution.load.", rich_help_panel=_FILES),
    ] = None,
    states: Annotated[
        int | None,
        Option(
            min=1,
            help="How many states to store in --out, evenly over the steps (over time where these adapt); 1 is the "
            "last. Default: 11.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    every: Annotated[
        int | None,
        Option(min=1, help="Store every so many steps, instead of --states.", rich_help_panel=_FILES),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write the state to this file while running.", rich_help_panel=_FILES),
    ] = None,
    checkpoint_every: CheckpointEvery = 10.0,
    resume: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Continue from this checkpoint; give the same arguments (--t-end may differ).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    reference: Annotated[
        bool | None,
        Option(
            "--reference/--no-reference",
            help="Compare the end with the reference solution, if there is one. Default: up to 1e6 entries.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    progress: Progress = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Solve one of the named problems and report rank, errors and observables.

    Observables and ranks are recorded at every step (at 2001 of them, where there are more); only a few
    states are stored. For example:

    dlra solve landau-damping --rank 10 --dt 0.02 --plot landau.png --json landau.json

    dlra solve riccati --method midpoint-bug --rtol 1e-5
    """
    given = dict(locals())
    from dlra._cli import report
    from dlra._cli.settings import Settings
    from dlra._cli.task import Task

    given["options"] = given.pop("set_") or []
    given["progress"] = wants_progress(progress, quiet)
    with exit_on_error(debug, bad_input=True):
        task = Task(Settings(**given))
    with exit_on_error(debug, bad_input=True, os_errors=FAILED):
        outcome = task.run()
    with exit_on_error(debug):
        tell(outcome, report, quiet, json)
    end(outcome)


app.command()(training_commands.train)
app.command()(training_commands.evaluate)
app.command()(training_commands.prune)
app.command()(comparing_commands.compare)


@app.command()
def problems(
    name: Annotated[str | None, Argument(metavar="[NAME]", help="Describe this one.")] = None,
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """List the named problems, or describe one: equation, options, defaults, observables."""
    from dlra._cli import info

    with exit_on_error(debug, bad_input=True):
        typer.echo(info.problem_list() if name is None else info.problem_page(name))


@app.command()
def methods(
    name: Annotated[str | None, Argument(metavar="[NAME]", help="Describe this one.")] = None,
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """List the integrators with their orders, or describe one: its step, options, properties, limits."""
    from dlra._cli import info

    with exit_on_error(debug, bad_input=True):
        typer.echo(info.method_list() if name is None else info.method_page(name))


@app.command()
def cite(
    method: Annotated[str, Argument(metavar="METHOD", help="A name that 'dlra methods' lists.")],
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Print the BibTeX entries of the publications that a method comes from."""
    with exit_on_error(debug, bad_input=True):
        typer.echo(dlra.citation(method))


@app.command(name="info")
def info_(debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Show versions, array libraries found and usable, threads and GPU."""
    from dlra._cli import info

    with exit_on_error(debug):
        typer.echo(info.environment())


@app.command()
def demo(
    out: Annotated[Path, Option(metavar="DIRECTORY", help="Where pictures and files go.")] = Path(
        "demo-output"
    ),
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Solve a plasma and an engineering problem, compare with theory, draw pictures; under a minute."""
    from dlra.demo import Demo

    with exit_on_error(debug, bad_input=True):
        show = Demo(out)
    with exit_on_error(debug):
        show.run(typer.echo)
