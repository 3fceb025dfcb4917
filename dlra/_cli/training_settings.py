"""The arguments of ``dlra train``, ``evaluate`` and ``prune``, and what they mean: every error names the option."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlra import integrators
from dlra._cli.settings import Settings, check_files

DATA_SETS = {"mnist": "mnist", "fashion-mnist": "fashion_mnist", "digits": "digits"}
MODELS = ("mlp", "lenet5")
START_RANK = 100
TAU = 0.09
RATES = {"adam": 1e-3, "momentum": 0.05, "sgd": 0.2}
LAYERS = "500,500,500,500"


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What all three commands take."""

    data: Path | None = None
    backend: str = "numpy"
    device: str | None = None
    threads: int | None = None
    json: str | None = None
    quiet: bool = False
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(_Common):
    """What says how to descend; None where it was not given."""

    batch_size: int = 256
    optimizer: str | None = None
    lr: float | None = None
    mu: float | None = None
    lam: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    decay: float | None = None
    milestones: str | None = None
    lr_end: float | None = None
    power: float | None = None
    t0: float | None = None
    seed: int = 0
    out: Path | None = None
    plot: Path | None = None
    progress: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainSettings(OptimizerSettings):
    """The arguments of ``dlra train``."""

    data_set: str
    validation_share: float = 0.0
    dtype: str = "float32"
    model: str = "mlp"
    layers: str | None = None
    activation: str | None = None
    start: str | None = None
    dense: bool = False
    tau: float | None = None
    atol: float | None = None
    rank: str | None = None
    min_rank: int | None = None
    max_rank: int | None = None
    tied: float | None = None
    budget: int | None = None
    method: str | None = None
    fix_after: int | None = None
    fine_tune_after: int | None = None
    epochs: int = 10
    patience: int | None = None
    checkpoint: Path | None = None
    checkpoint_every: float = 10.0
    resume: Path | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(_Common):
    """The arguments of ``dlra evaluate``."""

    model: Path
    data_set: str | None = None


@dataclass(frozen=True, kw_only=True)
class PruneSettings(OptimizerSettings):
    """The arguments of ``dlra prune``."""

    model: Path
    rank: str | None = None
    tau: float | None = None
    parameters: int | None = None
    data_set: str | None = None
    retrain: int | None = None


@contextlib.contextmanager
def blamed(flag: str) -> Iterator[None]:
    """Let errors of arguments name the option that they came from."""
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError) as error:
        kind = type(error) if type(error) in _PLAIN else ValueError
        raise kind(f"{flag}: {error}") from error


_PLAIN = (ValueError, TypeError, ImportError, FileNotFoundError, NotADirectoryError, OSError)


# ---- data


def load_data(name: str, folder: Path | None, *, flatten: bool, dtype: str, flag: str = "DATASET") -> Any:
    """The data set of that name."""
    from dlra.nn import datasets

    check_choice(flag, name, DATA_SETS)
    if name == "digits":
        if folder is not None:
            raise ValueError("--data: digits is part of scikit-learn and takes no folder; leave --data out")
        return datasets.digits(flatten=flatten, dtype=dtype)
    function = getattr(datasets, DATA_SETS[name])
    try:
        return function(folder, flatten=flatten, dtype=dtype)
    except (ValueError, ImportError, OSError) as error:
        text = str(error).replace(f"{DATA_SETS[name]}(path=...)", "--data")
        text = text.removeprefix("path: ").removeprefix("path ")
        kind = type(error) if type(error) in _PLAIN else OSError
        raise kind(f"--data: {text}" if folder is not None else text) from error


def split(data: Any, share: float) -> tuple[Any, Any]:
    """Training images and the share of them that is held out, as pairs (x, y); None in place of none."""
    import numpy as np

    if not 0 <= share < 1:
        raise ValueError(f"--validation-share must be at least 0 and below 1, got {share}")
    if share == 0:
        return (data.x_train, data.y_train), None
    count = len(data.y_train)
    held = round(share * count)
    if not 0 < held < count:
        raise ValueError(f"--validation-share {share} leaves {held} of {count} images for validation")
    order = np.random.default_rng(0).permutation(count)  # not of --seed: a resumed run must hold out the same
    out, kept = np.sort(order[:held]), np.sort(order[held:])
    return (data.x_train[kept], data.y_train[kept]), (data.x_train[out], data.y_train[out])


# ---- network


def make_net(settings: TrainSettings, data: Any, rng: Any) -> Any:
    """The network before training."""
    from dlra import nn
    from dlra.nn.models import ACTIVATIONS

    options: dict[str, Any] = {"dtype": settings.dtype, "rng": rng}
    if settings.start is not None:
        check_choice("--start", settings.start, ("same-variance", "half-scale", "truncated"))
        options["start"] = settings.start
    if settings.model == "lenet5":
        for flag, value in (("--layers", settings.layers), ("--activation", settings.activation)):
            if value is not None:
                raise ValueError(f"{flag} goes with --model mlp only; lenet5 is what it is")
        height, width = data.x_train.shape[-2:]
        if (height, width) != (28, 28):
            raise ValueError(
                f"--model lenet5 takes images of 28 x 28 pixels, those of {settings.data_set} have {height} x {width}"
            )
        shapes = [(20, 25), (50, 500), (500, 800), (10, 500)]
        return nn.lenet5(_start_ranks(settings, shapes), **options)
    sizes = [data.x_train.shape[1], *_whole_numbers("--layers", settings.layers or LAYERS), 10]
    activation = settings.activation or "relu"
    check_choice("--activation", activation, ACTIVATIONS)
    shapes = [(m, n) for n, m in itertools.pairwise(sizes)]
    return nn.mlp(sizes, _start_ranks(settings, shapes), activation=activation, **options)


def _start_ranks(settings: TrainSettings, shapes: list[tuple[int, int]]) -> Any:
    """The ranks at the start, as the models take them."""
    if settings.dense:
        return None
    if settings.rank is None:
        return START_RANK
    ranks = parse_ranks(settings.rank, "dense")
    if isinstance(ranks, int):
        return ranks
    if len(ranks) == len(shapes) - 1:
        ranks = [*ranks, None]
    if len(ranks) != len(shapes):
        raise ValueError(
            f"--rank takes one rank, or one for each of {len(shapes)} weights (the last may be left out, it is dense "
            f"then), got {len(ranks)}"
        )
    for r, (m, n) in zip(ranks, shapes, strict=True):
        if r is not None and r > min(m, n):
            raise ValueError(f"--rank: a weight of {m} x {n} has rank {min(m, n)} at most, got {r}")
    return ranks


def parse_ranks(text: str, keyword: str) -> int | list[int | None]:
    """One rank, or several separated by commas, None where ``keyword`` stands."""
    if "," not in text and text.strip() != keyword:
        return _whole_numbers("--rank", text)[0]
    parts = [part.strip() for part in text.split(",")]
    return [
        None if part == keyword else _whole_numbers("--rank", part, f" or {keyword!r}")[0] for part in parts
    ]


# ---- method


def make_method(settings: TrainSettings) -> tuple[Any, Any]:
    """The methods, from which epoch on, and the rule for the ranks if there is one."""
    from dlra import nn

    if settings.dense:
        _refuse_with_dense(settings)
        return {0: integrators.by_name("augmented-bug")}, None
    _check_numbers(settings)
    truncation = None
    with blamed("--tied"):
        if settings.tied is not None:
            truncation = nn.TiedTolerance(settings.tied)
    with blamed("--budget"):
        if settings.budget is not None:
            truncation = nn.ParameterBudget(settings.budget, settings.min_rank or 1)
    name = settings.method or "augmented-bug"
    check_choice("--method", name, integrators.names())
    known = {f.name for f in dataclasses.fields(integrators.by_name(name))}
    options = {"rtol": settings.tau, "atol": settings.atol, "max_rank": settings.max_rank}
    if settings.budget is None:
        options["min_rank"] = settings.min_rank
    options = {key: value for key, value in options.items() if value is not None}
    for key in options:
        if key not in known:
            raise ValueError(
                f"{_FLAGS[key]}: method {name!r} keeps the ranks; take a method that adapts them"
            )
    if truncation is not None and "rtol" not in known:
        flag = "--tied" if settings.tied is not None else "--budget"
        raise ValueError(f"{flag}: method {name!r} keeps the ranks; take a method that adapts them")
    if "rtol" in known and truncation is None and "rtol" not in options and "atol" not in options:
        options["rtol"] = TAU
    with blamed(f"--method {name}" if not options else " and ".join(_FLAGS[key] for key in options)):
        methods = {0: integrators.by_name(name, **options)}
    if settings.fix_after is not None:
        methods[settings.fix_after] = integrators.by_name(name)
    if settings.fine_tune_after is not None:
        methods[settings.fine_tune_after] = integrators.by_name("galerkin")
    return methods, truncation


_FLAGS = {"rtol": "--tau", "atol": "--atol", "min_rank": "--min-rank", "max_rank": "--max-rank"}


def _refuse_with_dense(settings: TrainSettings) -> None:
    names = (
        "rank", "tau", "atol", "min_rank", "max_rank", "tied", "budget", "method", "fix_after", "fine_tune_after",
        "start",
    )  # fmt: skip
    for name in names:
        if getattr(settings, name) is not None:
            raise ValueError(f"{flag_of(name)} does not go with --dense, where no weight is low-rank")


def _check_numbers(settings: TrainSettings) -> None:
    """Refuse what is out of range and what contradicts itself, among the options of rank."""
    if settings.tau is not None and not 0 <= settings.tau < 1:
        raise ValueError(
            f"--tau must lie in [0, 1): it is a share of the norm of each weight, got {settings.tau}"
        )
    if settings.atol is not None and not 0 <= settings.atol < math.inf:
        raise ValueError(f"--atol must be a number >= 0, got {settings.atol}")
    rules = [f"--{name}" for name in ("tied", "budget") if getattr(settings, name) is not None]
    if len(rules) > 1:
        raise ValueError("--tied and --budget exclude each other")
    for name in ("tau", "atol", "max_rank", "fix_after"):
        if rules and getattr(settings, name) is not None:
            raise ValueError(f"{flag_of(name)} does not go with {rules[0]}, which decides on the ranks alone")
    if settings.min_rank and settings.max_rank and settings.min_rank > settings.max_rank:
        raise ValueError(
            f"--min-rank must not exceed --max-rank, got {settings.min_rank} and {settings.max_rank}"
        )
    for name in ("fix_after", "fine_tune_after"):
        epoch = getattr(settings, name)
        if epoch is not None and epoch >= settings.epochs:
            raise ValueError(
                f"{flag_of(name)} must be below --epochs {settings.epochs}, or nothing comes after it, got {epoch}"
            )
    if settings.fix_after and settings.fine_tune_after and settings.fix_after >= settings.fine_tune_after:
        raise ValueError(
            f"--fix-after must be below --fine-tune-after, got {settings.fix_after} and {settings.fine_tune_after}"
        )


# ---- optimiser


def make_optimizer(settings: OptimizerSettings, steps: int, epochs: int) -> Any:
    """The optimiser with its schedule; ``steps`` of an epoch."""
    from dlra import nn

    name = settings.optimizer or "adam"
    check_choice("--optimizer", name, RATES)
    options: dict[str, Any] = {}
    if settings.weight_decay is not None:
        if not 0 <= settings.weight_decay < math.inf:
            raise ValueError(f"--weight-decay must be a number >= 0, got {settings.weight_decay}")
        options["weight_decay"] = settings.weight_decay
    for key in ("mu", "lam"):
        value = getattr(settings, key)
        if value is not None and name != "momentum":
            raise ValueError(f"--{key} goes with --optimizer momentum only")
        if value is not None:
            options[key] = value
    rate = RATES[name] if settings.lr is None else settings.lr
    if not 0 < rate < math.inf:
        raise ValueError(f"--lr must be positive and finite, got {rate}")
    schedule = _make_schedule(settings, rate, steps, epochs)
    kind = {"adam": nn.Adam, "momentum": nn.Momentum, "sgd": nn.SGD}[name]
    with blamed(" and ".join(f"--{key}" for key in ("mu", "lam") if key in options) or "--optimizer"):
        return kind(schedule, **options)


_SCHEDULES = {
    "constant": (),
    "exponential": ("decay",),
    "cosine": ("lr_end",),
    "step": ("decay", "milestones"),
    "robbins-monro": ("power", "t0"),
}


def _make_schedule(settings: OptimizerSettings, rate: float, steps: int, epochs: int) -> Any:
    """The learning rate, a number or a function of the iteration; the options count epochs."""
    from dlra.nn import schedules

    name = settings.schedule or "constant"
    check_choice("--schedule", name, _SCHEDULES)
    for key in ("decay", "milestones", "lr_end", "power", "t0"):
        if getattr(settings, key) is not None and key not in _SCHEDULES[name]:
            having = " or ".join(n for n, keys in _SCHEDULES.items() if key in keys)
            raise ValueError(f"{flag_of(key)} goes with --schedule {having} only")
    if settings.decay is not None and not 0 < settings.decay < 1:
        raise ValueError(f"--decay must lie strictly between 0 and 1, got {settings.decay}")
    if name == "exponential":
        return schedules.ExponentialDecay(
            rate, 0.9 if settings.decay is None else settings.decay, every=steps
        )
    if name == "cosine":
        end = settings.lr_end or 0.0
        if not 0 <= end < rate:
            raise ValueError(f"--lr-end must be at least 0 and below the learning rate {rate}, got {end}")
        return schedules.Cosine(rate, steps * epochs, end)
    if name == "step":
        if settings.milestones is None:
            raise ValueError(
                "--schedule step needs --milestones, the epochs after which the rate falls, e.g. 5,8"
            )
        marks = _whole_numbers("--milestones", settings.milestones)
        if sorted(set(marks)) != marks:
            raise ValueError(f"--milestones must ascend, got {settings.milestones}")
        return schedules.StepDecay(
            rate, 0.1 if settings.decay is None else settings.decay, tuple(m * steps for m in marks)
        )
    if name == "robbins-monro":
        power, t0 = (1.0 if v is None else v for v in (settings.power, settings.t0))
        if not 0.5 < power <= 1:
            raise ValueError(f"--power must be above 0.5 and at most 1, got {power}")
        if not 0 < t0 < math.inf:
            raise ValueError(f"--t0 must be a positive number of epochs, got {t0}")
        return schedules.RobbinsMonro(rate, power, t0 * steps)
    return rate


def unused_optimizer_flags(settings: OptimizerSettings) -> list[str]:
    """The optimiser options that were given."""
    names = (
        "optimizer", "lr", "mu", "lam", "weight_decay", "schedule", "decay", "milestones", "lr_end", "power", "t0",
    )  # fmt: skip
    return [flag_of(name) for name in names if getattr(settings, name) is not None]


# ---- checks


def flag_of(name: str) -> str:
    """The option with this Python name, as it is typed."""
    return f"--{name.replace('_', '-')}"


def check_choice(flag: str, value: str, known: Any) -> None:
    """Raise a ValueError for a name that is not known."""
    if value not in known:
        raise ValueError(f"{flag} must be one of {', '.join(known)}, got {value!r}")


def _whole_numbers(flag: str, text: str, other: str = "") -> list[int]:
    """Positive whole numbers separated by commas."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{flag} takes whole numbers{other}, separated by commas, e.g. {_EXAMPLES[flag]}, got {text!r}"
        ) from None
    if min(numbers) < 1:
        raise ValueError(f"{flag}: every number must be at least 1, got {text!r}")
    return numbers


_EXAMPLES = {"--layers": "500,500", "--rank": "50,50,20", "--milestones": "5,8"}


def check_outputs(settings: TrainSettings | EvaluateSettings | PruneSettings) -> None:
    """Refuse paths that could not be written, and libraries that lack, before the work is done."""
    if (path := getattr(settings, "plot", None)) is not None:
        from dlra import plot

        with blamed("--plot"):
            plot.check_target(path)
    out, plotted, checkpoint = (getattr(settings, name, None) for name in ("out", "plot", "checkpoint"))
    check_files(Settings(problem="", out=out, plot=plotted, json=settings.json, checkpoint=checkpoint))
