"""The command ``dlra compare`` with its options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from dlra._cli.exits import FAILED, exit_on_error
from dlra._cli.options import OUTPUT, Debug, Progress, Quiet, end, tell, wants_progress
from dlra.compress import _defaults as defaults


def _joined(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


_METHODS, _OPTIMIZER, _PLACE = "Network and methods", "Training", "Data"


def compare(
    data_set: Annotated[
        str,
        Argument(metavar="DATASET", help="mnist, fashion-mnist or digits (of scikit-learn, 8 x 8 pixels)."),
    ],
    net: Annotated[
        str,
        Option(
            help="fcn6, fcn8 or fcn10 (so many fully connected layers of width 96), lenet-300-100, lenet5, or mlp.",
            rich_help_panel=_METHODS,
        ),
    ] = "fcn8",
    layers: Annotated[
        str | None,
        Option(
            metavar="SIZES",
            help="Of mlp: the sizes of the hidden layers, e.g. 500,500.",
            rich_help_panel=_METHODS,
        ),
    ] = None,
    methods: Annotated[
        str,
        Option(
            help="dlrt, loritaN (N = 1, 2, ...), svd, nuclear, schatten, effective-rank, hoyer, gini, svd-training.",
            rich_help_panel=_METHODS,
        ),
    ] = _joined(defaults.METHODS),
    targets: Annotated[
        str | None,
        Option(
            metavar="SHARES",
            help=f"Shares of the parameters to truncate to. Default: those of {_joined(defaults.TARGETS)} that leave a "
            "rank of 1 to every weight.",
            rich_help_panel=_METHODS,
        ),
    ] = None,
    rule: Annotated[
        str,
        Option(
            help="How ranks are chosen: gsvt (over all weights), lsvt (each by itself) or isvt (by the loss, 500 "
            "parameters a round, which is coarse for networks of few thousands).",
            rich_help_panel=_METHODS,
        ),
    ] = defaults.RULE,
    taus: Annotated[
        str, Option(metavar="TAUS", help="Of dlrt: a training for each.", rich_help_panel=_METHODS)
    ] = _joined(defaults.TAUS),
    strength: Annotated[
        list[str] | None,
        Option(
            metavar="METHOD=NUMBER",
            help="Strength of the regulariser of a method that is compared, e.g. nuclear=1e-4; may be repeated.",
            rich_help_panel=_METHODS,
        ),
    ] = None,
    keep_last: Annotated[
        bool,
        Option(
            "--keep-last/--truncate-last",
            help="Whether the last weight, that of the outputs, stays dense in all methods.",
            rich_help_panel=_METHODS,
        ),
    ] = True,
    epochs: Annotated[
        int,
        Option(min=1, help="Passes over the training images, of each training.", rich_help_panel=_OPTIMIZER),
    ] = defaults.EPOCHS,
    fine_tune: Annotated[
        int,
        Option(
            min=0,
            help="Epochs more of every network that results, that of dlrt too, at its ranks; 0 for none.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = defaults.FINE_TUNE,
    batch_size: Annotated[
        int, Option(min=1, help="Images per gradient evaluation.", rich_help_panel=_OPTIMIZER)
    ] = defaults.BATCH_SIZE,
    optimizer: Annotated[
        str, Option(help="adam, momentum or sgd.", rich_help_panel=_OPTIMIZER)
    ] = defaults.OPTIMIZER,
    lr: Annotated[
        float,
        Option(
            help="Learning rate at the start; it falls to zero like a cosine. The default is for adam.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = defaults.LR,
    weight_decay: Annotated[
        float, Option(help="Of all matrices that are trained.", rich_help_panel=_OPTIMIZER)
    ] = defaults.WEIGHT_DECAY,
    seeds: Annotated[
        str,
        Option(
            metavar="SEEDS",
            help="How many, counted from 0; or which, separated by commas. All methods of a seed have the same start "
            "and the same batches.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = "1",
    data: Annotated[
        Path | None,
        Option(
            metavar="DIRECTORY",
            help="Folder with the four IDX files, plain or .gz. Default: as of 'dlra train'.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    dtype: Annotated[str, Option(help="float32 or float64.", rich_help_panel=_PLACE)] = "float32",
    threads: Annotated[
        int | None,
        Option(
            min=1,
            help="Threads of the linear algebra (needs threadpoolctl). Default: as of 'dlra train'.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    out: Annotated[
        Path,
        Option(
            metavar="DIRECTORY",
            help="Where report.html, results.json and the pictures go. An earlier comparison there is overwritten.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("comparison"),
    json: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="results.json also here; - for standard output (the summary then goes to standard error).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    progress: Progress = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare ways to a small network on one footing: the same start, batches, epochs and learning rates.

    Trains by every method for --epochs, truncates to several sizes, trains every network that results, that of dlrt
    too, for --fine-tune epochs more at its ranks, and writes a report with pictures. For example:

    dlra compare mnist --net fcn8 --methods dlrt,lorita3,svd,nuclear --seeds 3

    dlra compare digits --net mlp --layers 48,48 --batch-size 64 --out digits
    """
    given = dict(locals())
    from dlra._cli import comparing_report
    from dlra._cli.comparing import CompareSettings, Comparing

    given["strength"] = strength or []
    given["progress"] = wants_progress(progress, quiet)
    with exit_on_error(debug, bad_input=True):
        task = Comparing(CompareSettings(**given))
    with exit_on_error(debug, os_errors=FAILED):
        outcome = task.run()
        tell(outcome, comparing_report, quiet, json)
    end(outcome)
