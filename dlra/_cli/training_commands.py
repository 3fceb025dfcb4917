"""The commands ``dlra train``, ``dlra evaluate`` and ``dlra prune`` with their options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from dlra._cli.exits import FAILED, exit_on_error
from dlra._cli.options import OUTPUT, CheckpointEvery, Debug, Progress, Quiet, end, tell, wants_progress

_NET, _RANK, _OPTIMIZER = "Network", "Rank and method", "Optimiser"
_PLACE, _FILES = "Data and array library", OUTPUT

_DataSet = Annotated[
    str, Argument(metavar="DATASET", help="mnist, fashion-mnist or digits (of scikit-learn, 8 x 8 pixels).")
]
_Model = Annotated[Path, Argument(metavar="MODEL", help="An HDF5 file of 'dlra train --out' or net.save.")]
_DataSetOption = Annotated[
    str | None,
    Option(
        "--data-set",
        metavar="NAME",
        help="mnist, fashion-mnist or digits. Default: that on which 'dlra train' trained the network.",
        rich_help_panel=_PLACE,
    ),
]
_Data = Annotated[
    Path | None,
    Option(
        metavar="DIRECTORY",
        help="Folder with the four IDX files, plain or .gz. Default: the folder named after the data set in the folder "
        "DLRA_DATA, else a cache, into which they are downloaded.",
        rich_help_panel=_PLACE,
    ),
]
_Backend = Annotated[str, Option(help="Array library: numpy, cupy, torch or jax.", rich_help_panel=_PLACE)]
_Device = Annotated[
    str | None, Option(help="Device of the array library, e.g. cuda:0.", rich_help_panel=_PLACE)
]
_Threads = Annotated[
    int | None,
    Option(
        min=1,
        help="Threads of the linear algebra (needs threadpoolctl). Default: 1 for weights up to 2000 x 2000, the "
        "library's choice beyond, or where OPENBLAS_NUM_THREADS or its like is set.",
        rich_help_panel=_PLACE,
    ),
]
_BatchSize = Annotated[int, Option(min=1, help="Images per gradient evaluation.", rich_help_panel=_OPTIMIZER)]
_OptimizerName = Annotated[
    str | None, Option(help="adam, momentum or sgd. Default: adam.", rich_help_panel=_OPTIMIZER)
]
_Lr = Annotated[
    float | None,
    Option(
        help="Learning rate, the step length of the integrator. Default: 1e-3 (adam), 0.05 (momentum), 0.2 (sgd).",
        rich_help_panel=_OPTIMIZER,
    ),
]
_Mu = Annotated[
    float | None,
    Option(
        help="Of momentum: the share of the memory that is kept. Default: 0.9.", rich_help_panel=_OPTIMIZER
    ),
]
_Lam = Annotated[
    float | None,
    Option(help="Of momentum: 0 heavy ball (the default), 1 Nesterov.", rich_help_panel=_OPTIMIZER),
]
_WeightDecay = Annotated[
    float | None,
    Option(help="Adds so many times the weights to the gradient. Default: 0.", rich_help_panel=_OPTIMIZER),
]
_Schedule = Annotated[
    str | None,
    Option(
        help="Of the learning rate: constant, exponential, cosine, step or robbins-monro. Default: constant.",
        rich_help_panel=_OPTIMIZER,
    ),
]
_Decay = Annotated[
    float | None,
    Option(
        help="Factor of exponential, per epoch (default 0.9), and of step, at each milestone (default 0.1).",
        rich_help_panel=_OPTIMIZER,
    ),
]
_Milestones = Annotated[
    str | None,
    Option(
        metavar="EPOCHS",
        help="Of step: the epochs after which the rate falls, e.g. 5,8.",
        rich_help_panel=_OPTIMIZER,
    ),
]
_LrEnd = Annotated[
    float | None,
    Option(help="Of cosine: what the rate falls to. Default: 0.", rich_help_panel=_OPTIMIZER),
]
_Power = Annotated[
    float | None,
    Option(
        help="Of robbins-monro: the rate is lr / (1 + epoch/t0)^power, 0.5 < power <= 1. Default: 1.",
        rich_help_panel=_OPTIMIZER,
    ),
]
_T0 = Annotated[
    float | None,
    Option(metavar="EPOCHS", help="Of robbins-monro: see --power. Default: 1.", rich_help_panel=_OPTIMIZER),
]
_Seed = Annotated[
    int,
    Option(
        min=0,
        help="Of the start and of the order of the batches: the same seed, the same result.",
        rich_help_panel=_OPTIMIZER,
    ),
]
_Plot = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="Loss, accuracy, ranks and parameters over the epochs as a picture (png, pdf, svg).",
        rich_help_panel=_FILES,
    ),
]
_Json = Annotated[
    str | None,
    Option(
        metavar="FILE",
        help="All numbers as JSON; - for standard output (the summary then goes to standard error).",
        rich_help_panel=_FILES,
    ),
]


def train(
    data_set: _DataSet,
    data: _Data = None,
    validation_share: Annotated[
        float,
        Option(
            help="Share of the training images to hold out for validation, the same ones whatever the seed. At 0 the "
            "test images are looked at after each epoch, for the record only; otherwise once, at the end.",
            rich_help_panel=_PLACE,
        ),
    ] = 0.0,
    backend: _Backend = "numpy",
    device: _Device = None,
    dtype: Annotated[str, Option(help="float32 or float64.", rich_help_panel=_PLACE)] = "float32",
    threads: _Threads = None,
    model: Annotated[
        str, Option(help="mlp (fully connected) or lenet5 (two convolutions).", rich_help_panel=_NET)
    ] = "mlp",
    layers: Annotated[
        str | None,
        Option(
            metavar="SIZES",
            help="Of mlp: the sizes of the hidden layers. Default: 500,500,500,500.",
            rich_help_panel=_NET,
        ),
    ] = None,
    activation: Annotated[
        str | None, Option(help="Of mlp: relu, tanh or sigmoid. Default: relu.", rich_help_panel=_NET)
    ] = None,
    start: Annotated[
        str | None,
        Option(
            help="How the low-rank weights start: truncated (as best approximation of a dense start; the default), "
            "same-variance or half-scale (random, with the variance of a dense start, or half its scale).",
            rich_help_panel=_NET,
        ),
    ] = None,
    dense: Annotated[
        bool, Option("--dense", help="Dense weights, for comparison.", rich_help_panel=_NET)
    ] = False,
    tau: Annotated[
        float | None,
        Option(
            help="What a step may truncate of each weight, as a share of its norm; 0 keeps the ranks. Default: 0.09 "
            "where the method adapts ranks and none of --atol, --tied and --budget is given.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    atol: Annotated[
        float | None, Option(help="The same, absolutely; the larger of both holds.", rich_help_panel=_RANK)
    ] = None,
    rank: Annotated[
        str | None,
        Option(
            metavar="RANK",
            help="Rank at the start: one for all weights but the last, which stays dense (cut to what each allows), or "
            "one for each, e.g. 50,50,20,dense. Default: 100.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    min_rank: Annotated[
        int | None, Option(min=1, help="Ranks never fall below.", rich_help_panel=_RANK)
    ] = None,
    max_rank: Annotated[int | None, Option(min=1, help="Ranks never exceed.", rich_help_panel=_RANK)] = None,
    tied: Annotated[
        float | None,
        Option(
            metavar="C",
            help="Truncation tolerance C h^2 with the learning rate h, instead of --tau.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    budget: Annotated[
        int | None,
        Option(
            min=1,
            metavar="N",
            help="Parameters of all low-rank weights together, instead of --tau: the largest singular values are kept.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    method: Annotated[
        str | None,
        Option(
            help="augmented-bug (the default), parallel-bug, bug or galerkin; with sgd any that 'dlra methods' lists.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    fix_after: Annotated[
        int | None,
        Option(min=1, metavar="EPOCH", help="Keep the ranks after this epoch.", rich_help_panel=_RANK),
    ] = None,
    fine_tune_after: Annotated[
        int | None,
        Option(
            min=1,
            metavar="EPOCH",
            help="Keep the bases, too, after this epoch: only cores, dense weights and biases are trained (galerkin).",
            rich_help_panel=_RANK,
        ),
    ] = None,
    epochs: Annotated[
        int, Option(min=1, help="Passes over the training images.", rich_help_panel=_OPTIMIZER)
    ] = 10,
    batch_size: _BatchSize = 256,
    optimizer: _OptimizerName = None,
    lr: _Lr = None,
    mu: _Mu = None,
    lam: _Lam = None,
    weight_decay: _WeightDecay = None,
    schedule: _Schedule = None,
    decay: _Decay = None,
    milestones: _Milestones = None,
    lr_end: _LrEnd = None,
    power: _Power = None,
    t0: _T0 = None,
    patience: Annotated[
        int | None,
        Option(
            min=1,
            metavar="EPOCHS",
            help="Stop when the validation loss has not fallen for so many epochs, and take the weights of the best. "
            "Needs --validation-share.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = None,
    seed: _Seed = 0,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", help="The network as HDF5, for dlra.nn.load.", rich_help_panel=_FILES),
    ] = None,
    plot: _Plot = None,
    json: _Json = None,
    checkpoint: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write the state to this file while training.", rich_help_panel=_FILES),
    ] = None,
    checkpoint_every: CheckpointEvery = 10.0,
    resume: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Continue from this checkpoint; give the same arguments (--epochs may be larger).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    progress: Progress = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network whose weights stay on low-rank factors.

    Reports the accuracy on the test images, the ranks, the parameters and the time. For example:

    dlra train mnist --tau 0.09 --out mnist.h5 --plot mnist.png

    dlra train digits --layers 64,64 --optimizer sgd --schedule cosine
    """
    _run("Training", "TrainSettings", dict(locals()))


def evaluate(
    model: _Model,
    data_set: _DataSetOption = None,
    data: _Data = None,
    backend: _Backend = "numpy",
    device: _Device = None,
    threads: _Threads = None,
    json: _Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Test a network: loss, accuracy, ranks, parameters and the time of a prediction.

    For example:

    dlra evaluate mnist.h5
    """
    _run("Evaluation", "EvaluateSettings", dict(locals()))


def prune(
    model: _Model,
    rank: Annotated[
        str | None,
        Option(
            metavar="RANK",
            help="Largest rank: one for all weights, or one for each, e.g. 50,50,20,keep.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    tau: Annotated[
        float | None,
        Option(help="What to drop of each weight, as a share of its norm.", rich_help_panel=_RANK),
    ] = None,
    parameters: Annotated[
        int | None,
        Option(
            min=1,
            metavar="N",
            help="Of all weights together: the largest singular values are kept.",
            rich_help_panel=_RANK,
        ),
    ] = None,
    data_set: _DataSetOption = None,
    data: _Data = None,
    backend: _Backend = "numpy",
    device: _Device = None,
    threads: _Threads = None,
    retrain: Annotated[
        int | None,
        Option(
            min=1,
            metavar="EPOCHS",
            help="Train so many epochs at the ranks that are left, with augmented-bug.",
            rich_help_panel=_OPTIMIZER,
        ),
    ] = None,
    batch_size: _BatchSize = 256,
    optimizer: _OptimizerName = None,
    lr: _Lr = None,
    mu: _Mu = None,
    lam: _Lam = None,
    weight_decay: _WeightDecay = None,
    schedule: _Schedule = None,
    decay: _Decay = None,
    milestones: _Milestones = None,
    lr_end: _LrEnd = None,
    power: _Power = None,
    t0: _T0 = None,
    seed: _Seed = 0,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", help="The truncated network as HDF5.", rich_help_panel=_FILES),
    ] = None,
    plot: _Plot = None,
    json: _Json = None,
    progress: Progress = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Truncate the weights of a trained network by their singular value decompositions, and retrain it.

    Give --rank, --tau or --parameters. For example:

    dlra prune mnist.h5 --rank 20 --retrain 2 --out small.h5
    """
    _run("Pruning", "PruneSettings", dict(locals()))


def _run(task_name: str, settings_name: str, given: dict[str, Any]) -> None:
    """Check the arguments, do the work, write the files, report."""
    from dlra._cli import training, training_report, training_settings

    if "progress" in given:
        given["progress"] = wants_progress(given["progress"], given["quiet"])
    debug = given["debug"]
    make_settings: Callable[..., Any] = getattr(training_settings, settings_name)
    make_task: Callable[..., Any] = getattr(training, task_name)
    with exit_on_error(debug, bad_input=True):
        task = make_task(make_settings(**given))
    with exit_on_error(debug, os_errors=FAILED):
        outcome = task.run()
        tell(outcome, training_report, given["quiet"], given["json"])
    end(outcome)
