"""What ``dlra train``, ``evaluate`` and ``prune`` do: check the arguments, run, test the network."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlra._cli.task import _double_precision_in_jax, _limited_threads, _noted_warnings
from dlra._cli.training_settings import (
    EvaluateSettings,
    OptimizerSettings,
    PruneSettings,
    TrainSettings,
    blamed,
    check_choice,
    check_outputs,
    load_data,
    make_method,
    make_net,
    make_optimizer,
    parse_ranks,
    split,
    unused_optimizer_flags,
)
from dlra.backend import from_host, to_host
from dlra.errors import TrainingError
from dlra.lowrank import LowRank

_REPEATS = 3  # of a prediction that is timed; the fastest counts


@dataclass(frozen=True)
class Tested:
    """A network and what it does on the test images."""

    name: str
    net: Any
    loss: float
    accuracy: float
    seconds: float
    """Of predicting all of them."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    task: Any
    tested: list[Tested]
    """In the order in which the networks came about."""
    seconds: float = 0.0
    """Of training."""
    history: Any = None
    warnings: list[str] = field(default_factory=list)
    failure: TrainingError | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training."""
        return self.history is not None and self.history.message.startswith("Interrupted")


class _Task:
    """Data and networks in an array library."""

    settings: Any
    data_set: str
    pixels: str
    test: tuple[Any, Any]

    def _load(self, name: str, like: Any, flag: str) -> Any:
        """The data set, in the layout and dtype that the network takes."""
        data = load_data(name, self.settings.data, flatten=_is_flat(like), dtype=like.dtype, flag=flag)
        self.data_set, self.test = name, (data.x_test, data.y_test)
        return data

    def _move(self, dtype: str) -> None:
        """Find the array library and the device."""
        settings = self.settings
        check_choice("--backend", settings.backend, ("numpy", "cupy", "torch", "jax"))
        self._like = None
        if settings.backend == "numpy" and settings.device is None:
            return
        from dlra.problems._place import place

        if settings.backend == "jax" and dtype == "float64":
            _double_precision_in_jax()
        flag = (
            f"--device {settings.device}" if settings.device is not None else f"--backend {settings.backend}"
        )
        try:
            self._like = place(self.data_set, settings.backend, dtype, settings.device).array(
                np.zeros((1, 1))
            )
        except (RuntimeError, AssertionError) as error:  # how array libraries refuse a device they cannot use
            reason = f"{type(error).__name__}: {str(error).partition('. ')[0]}"
            raise ValueError(f"{flag}: {settings.backend} cannot use it ({reason})") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{flag}: {error}") from error

    def _there(self, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        """Images and labels in the array library of the network."""
        if self._like is None:
            return pair
        return from_host(pair[0], self._like), from_host(pair[1], self._like)

    def _net_there(self, net: Any) -> Any:
        return net if self._like is None else net.to(self._like)

    def _tested(self, name: str, net: Any) -> Tested:
        """Look at a network on the test images."""
        from dlra import nn

        x, y = self.test
        loss, accuracy = nn.evaluate(net, x, y, nn.CrossEntropyLoss())
        times = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            to_host(net.predict(x))
            times.append(time.perf_counter() - began)
        return Tested(name, net, loss, accuracy, min(times))

    def _limited(self, net: Any) -> contextlib.AbstractContextManager[Any]:
        sides = [side for W in net.weights for side in W.shape]
        return _limited_threads(self.settings.threads, (max(sides), max(sides)))

    def _trained(self, trainer: Any) -> tuple[Any, float, TrainingError | None]:
        """Run a training; a failure on the way is part of the outcome."""
        from dlra.nn._progress import Bar

        began = time.perf_counter()
        try:
            with Bar(trainer.epochs) if self.settings.progress else contextlib.nullcontext() as bar:
                history, failure = trainer.run(bar), None
        except TrainingError as error:
            if error.history is None or not error.history.epoch:
                raise
            history, failure = error.history, error
        return history, time.perf_counter() - began, failure


class Training(_Task):
    """``dlra train``: everything is checked when it is made."""

    def __init__(self, settings: TrainSettings):
        self.settings = settings
        check_choice("--dtype", settings.dtype, ("float32", "float64"))
        check_choice("--model", settings.model, ("mlp", "lenet5"))
        check_outputs(settings)
        methods, truncation = make_method(settings)
        if settings.patience is not None and settings.validation_share == 0:
            raise ValueError(
                "--patience needs --validation-share: to choose by the test images would spoil the test accuracy"
            )
        data = load_data(
            settings.data_set, settings.data, flatten=settings.model == "mlp", dtype=settings.dtype
        )
        self.data_set = settings.data_set
        self.image = tuple(data.x_train.shape[1:])
        for_net, for_batches = np.random.default_rng(settings.seed).spawn(2)
        net = make_net(settings, data, for_net)
        self._move(settings.dtype)
        _check_low_rank(settings, truncation, [W.shape for W in net.weights if isinstance(W, LowRank)])
        train, held = split(data, settings.validation_share)
        self.counts = (len(train[1]), 0 if held is None else len(held[1]), len(data.y_test))
        self.test = self._there((data.x_test, data.y_test))
        self.chosen_by = "test" if held is None else "validation"
        self.validation = self.test if held is None else self._there(held)
        self.start_ranks = net.ranks
        self.truncation = truncation
        self.optimizer = _optimizer(settings, len(train[1]), settings.epochs)
        with _noted_warnings() as self._warned:
            self.trainer = _trainer(
                settings, self._net_there(net), self._there(train), self.optimizer, methods, settings.epochs,
                for_batches, validation=self.validation, truncation=truncation, patience=settings.patience,
                checkpoint=_checkpoint(settings), resume=settings.resume,
            )  # fmt: skip
        self.methods = methods

    def run(self) -> Outcome:
        """Train, and look at the result on the test images."""
        with _noted_warnings() as noted, self._limited(self.trainer.net):
            history, seconds, failure = self._trained(self.trainer)
            tested = self._tested("trained", history.net)
        return Outcome(self, [tested], seconds, history, [*self._warned, *noted], failure)


class Evaluation(_Task):
    """``dlra evaluate``."""

    def __init__(self, settings: EvaluateSettings):
        self.settings = settings
        check_outputs(settings)
        net, name, flag = _read(settings)
        data = self._load(name, net, flag)
        self.image, self.counts = tuple(data.x_test.shape[1:]), (0, 0, len(data.y_test))
        self._move(net.dtype)
        self.net, self.test = self._net_there(net), self._there(self.test)
        _check_fits(self.net, self.test, settings.model, name)

    def run(self) -> Outcome:
        """Look at the network on the test images."""
        with _noted_warnings() as noted, self._limited(self.net):
            return Outcome(self, [self._tested("network", self.net)], warnings=noted)


class Pruning(_Task):
    """``dlra prune``."""

    def __init__(self, settings: PruneSettings):
        from dlra import nn

        self.settings = settings
        check_outputs(settings)
        net, name, flag = _read(settings)
        given = [f for f in ("rank", "tau", "parameters") if getattr(settings, f) is not None]
        if not given:
            raise ValueError("give --rank, --tau or --parameters: what shall be kept?")
        if len(given) > 1:
            raise ValueError(f"--{given[0]} and --{given[1]} exclude each other")
        if settings.tau is not None and not 0 < settings.tau < 1:
            raise ValueError(
                f"--tau must lie strictly between 0 and 1: it is a share of the norm of each weight, got {settings.tau}"
            )
        if settings.retrain is None and (unused := unused_optimizer_flags(settings)):
            raise ValueError(f"{unused[0]} goes with --retrain only")
        if settings.retrain is None and settings.plot is not None:
            raise ValueError("--plot shows the retraining; give --retrain, too")
        data = self._load(name, net, flag)
        self.image, self.counts = tuple(data.x_test.shape[1:]), (len(data.y_train), 0, len(data.y_test))
        self._move(net.dtype)
        self.net, self.test = self._net_there(net), self._there(self.test)
        _check_fits(self.net, self.test, settings.model, name)
        with blamed(f"--{given[0]}"):
            rank = None if settings.rank is None else parse_ranks(settings.rank, "keep")
            self.pruned = nn.to_lowrank(self.net, rank, settings.tau or 0.0, parameters=settings.parameters)
        self.trainer = None
        self.chosen_by = "test"
        if settings.retrain is not None:
            from dlra.integrators import AugmentedBUG

            self.start_ranks, self.methods, self.truncation = self.pruned.ranks, {0: AugmentedBUG()}, None
            self.optimizer = _optimizer(settings, len(data.y_train), settings.retrain)
            self.trainer = _trainer(
                settings, self.pruned.copy(), self._there((data.x_train, data.y_train)), self.optimizer,
                self.methods, settings.retrain, np.random.default_rng(settings.seed), validation=self.test,
            )  # fmt: skip

    def run(self) -> Outcome:
        """Look at the network before and after truncation and after retraining."""
        history, seconds, failure = None, 0.0, None
        with _noted_warnings() as noted, self._limited(self.net):
            tested = [self._tested("before", self.net), self._tested("truncated", self.pruned)]
            if self.trainer is not None:
                history, seconds, failure = self._trained(self.trainer)
                tested.append(self._tested("retrained", history.net))
        return Outcome(self, tested, seconds, history, noted, failure)


# ---- parts


def _optimizer(settings: OptimizerSettings, rows: int, epochs: int) -> Any:
    if settings.batch_size > rows:
        raise ValueError(
            f"--batch-size must not exceed the number of training images, {rows}, got {settings.batch_size}"
        )
    return make_optimizer(settings, -(-rows // settings.batch_size), epochs)


def _trainer(
    settings: OptimizerSettings, net: Any, data: tuple[Any, Any], optimizer: Any, methods: dict[int, Any], epochs: int,
    rng: Any, **options: Any,
) -> Any:  # fmt: skip
    """The training, with its arguments checked; errors name the options of the command."""
    from dlra import nn
    from dlra.nn.trainer import Trainer

    given: dict[str, Any] = {
        "truncation": None,
        "patience": None,
        "checkpoint": None,
        "resume": None,
        **options,
    }
    try:
        return Trainer(
            net, *data, loss=nn.CrossEntropyLoss(), optimizer=optimizer, method=methods, epochs=epochs,
            batch_size=settings.batch_size, replacement=False, rng=rng, callback=None, **given,
        )  # fmt: skip
    except (ValueError, TypeError, OSError) as error:
        text = str(error)
        for name, flag in _NAMES.items():
            if text.startswith(name):
                raise ValueError(flag + text.removeprefix(name)) from error
        if given["resume"] is not None and not isinstance(error, TypeError):
            raise ValueError(f"--resume: {text}") from error
        raise ValueError(f"--method: {text}") from error


_NAMES = {"resume: ": "--resume: ", "batch_size ": "--batch-size "}


def _check_low_rank(settings: TrainSettings, truncation: Any, shapes: list[tuple[int, int]]) -> None:
    """Refuse options of rank that the low-rank weights do not allow."""
    if settings.budget is not None:
        with blamed("--budget"):
            truncation.check(shapes)
    elif settings.min_rank is not None and shapes:
        most = min(min(shape) for shape in shapes)
        if settings.min_rank > most:
            raise ValueError(
                f"--min-rank must not exceed {most}, the largest rank of the smallest low-rank weight, got "
                f"{settings.min_rank}"
            )


def _checkpoint(settings: TrainSettings) -> Any:
    if settings.checkpoint is None:
        return None
    from dlra.checkpoint import Checkpoint

    with blamed("--checkpoint-every"):
        return Checkpoint(settings.checkpoint, every=float(settings.checkpoint_every))


def _is_flat(net: Any) -> bool:
    """Whether a network takes images as rows."""
    return not any(hasattr(layer, "kernel_size") for layer in net.layers)


def _check_fits(net: Any, test: tuple[Any, Any], path: Path, name: str) -> None:
    from dlra import nn

    try:
        net.check_batch(test[0][:1], test[1][:1], nn.CrossEntropyLoss())
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not take the images of {name}: {error}") from error


# ---- networks as files


def _read(settings: EvaluateSettings | PruneSettings) -> tuple[Any, str, str]:
    """The network of a file, the name of its data set, and where that name comes from."""
    from dlra import nn
    from dlra.nn._storage import about

    path = settings.model
    if path.is_dir():
        raise IsADirectoryError(f"MODEL {path}: a directory; give the path of a file")
    with blamed("MODEL"):
        net = nn.load(path)
        named = about(path).get("data_set")
    if settings.data_set is not None:
        return net, settings.data_set, "--data-set"
    if named is None:
        raise ValueError(
            f"{path} does not say which data the network is for (only 'dlra train' and 'dlra prune' write that); "
            f"give --data-set mnist, fashion-mnist or digits"
        )
    return net, named, f"{path}: the data set"
