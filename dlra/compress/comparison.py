"""Ways to a small network on one footing: low-rank training, and training that prepares a truncation, side by side."""

from __future__ import annotations

import contextlib
import json
import math
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dlra._checks import check_callable, check_number
from dlra._factors import check_int
from dlra.backend import kind
from dlra.compress.ranks import singular_values
from dlra.compress.truncation import gsvt, isvt, lsvt
from dlra.errors import DlraWarning
from dlra.integrators import AugmentedBUG
from dlra.lowrank import LowRank
from dlra.nn._layer import check_size, factored_count
from dlra.nn.composed import to_composed, to_svd
from dlra.nn.history import History
from dlra.nn.losses import CrossEntropyLoss
from dlra.nn.network import Sequential
from dlra.nn.optimizers import SGD, Adam, Momentum, Optimizer
from dlra.nn.regularizers import Regularizer
from dlra.nn.schedules import Cosine
from dlra.nn.trainer import evaluate, train

__all__ = ["Comparison", "Failure", "Point", "Row", "Training", "compare"]

METHODS = ("dlrt", "lorita2", "lorita3", "svd", "nuclear", "effective-rank")
TARGETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
TAUS = (0.05, 0.1, 0.2, 0.3)
RETAINED = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Shares of the singular values at which a trained network is looked at without training it further."""

STRENGTHS = {
    "nuclear": 1e-3,
    "schatten": 1e-4,
    "effective-rank": 1e-4,
    "hoyer": 1e-2,
    "gini": 1e-2,
    "svd-training": 1e-1,
}
SCHATTEN_P = 0.5
ORTHOGONALITY = 1.0
OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "momentum": Momentum, "sgd": SGD}
RULES = ("gsvt", "lsvt", "isvt")
_LORITA = re.compile(r"lorita([1-9][0-9]?)")


class Training(NamedTuple):
    """A network as it was trained, before any truncation.

    Attributes
    ----------
    method : str
    seed : int
    tau : float or None
        Tolerance of low-rank training.
    seconds : float
        Of training, without looking at test data.
    loss, accuracy : float
        On the test data; weights that were trained as products are multiplied out.
    parameters : int
        As evaluated.
    ranks : tuple of int
    training_loss : tuple of float
        After each epoch.
    singular_values : tuple of tuples of float
        Of each weight, descending.
    retained : tuple of (float, float)
        Shares of the singular values, and the accuracy with only these kept, without further training.
    """

    method: str
    seed: int
    tau: float | None
    seconds: float
    loss: float
    accuracy: float
    parameters: int
    ranks: tuple[int, ...]
    training_loss: tuple[float, ...]
    singular_values: tuple[tuple[float, ...], ...]
    retained: tuple[tuple[float, float], ...]


class Point(NamedTuple):
    """A small network.

    Attributes
    ----------
    method : str
    seed : int
    target : float
        The share of the parameters that was asked for; tau of low-rank training.
    parameters : int
        As evaluated.
    flops : int
        Of one sample, 2 for each multiply-add.
    ranks : tuple of int
    accuracy_full : float
        Before truncation; of low-rank training, which has none, that of its result.
    accuracy : float
        After truncation.
    accuracy_tuned : float or None
        After fine-tuning; None where there was none.
    seconds : float
        Of truncation and fine-tuning.
    """

    method: str
    seed: int
    target: float
    parameters: int
    flops: int
    ranks: tuple[int, ...]
    accuracy_full: float
    accuracy: float
    accuracy_tuned: float | None
    seconds: float

    @property
    def setting(self) -> str:
        """What tells it from the other points of its method."""
        return f"tau {self.target:g}" if self.method == "dlrt" else f"{100 * self.target:.4g} %"


class Failure(NamedTuple):
    """What a method could not do.

    Attributes
    ----------
    method : str
    seed : int
    stage : str
        "training", or the point that is missing.
    message : str
    """

    method: str
    seed: int
    stage: str
    message: str


class Row(NamedTuple):
    """A setting of a method, over all seeds; pairs are mean and standard deviation, the latter 0 for one seed.

    Attributes
    ----------
    method, setting : str
    target : float
    seeds : int
        How many.
    parameters, flops : float
        Means.
    ranks : tuple of int
        Of the first seed.
    accuracy_full, accuracy : (float, float)
    accuracy_tuned : (float, float) or None
    training_seconds, seconds : float
        Means: of training, and of truncation and fine-tuning.
    """

    method: str
    setting: str
    target: float
    seeds: int
    parameters: float
    flops: float
    ranks: tuple[int, ...]
    accuracy_full: tuple[float, float]
    accuracy: tuple[float, float]
    accuracy_tuned: tuple[float, float] | None
    training_seconds: float
    seconds: float


@dataclass
class Comparison:
    """What :func:`compare` has found.

    Attributes
    ----------
    settings : dict
        What was asked for, and the parameters and FLOPs of the dense network.
    trainings : list of Training
    points : list of Point
    failures : list of Failure
    warnings : list of str
        What the trainings warned of, each with its method.
    message : str
        Why it ended before its end; empty where it did not.
    """

    settings: dict[str, Any]
    trainings: list[Training] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    message: str = ""

    @property
    def methods(self) -> list[str]:
        """Those of which there is something to show, in the order in which they were asked for."""
        known = {one.method for one in (*self.trainings, *self.points)}
        return [name for name in self.settings["methods"] if name in known]

    def rows(self) -> list[Row]:
        """The points, averaged over the seeds."""
        groups: dict[tuple[str, float], list[Point]] = {}
        for point in self.points:
            groups.setdefault((point.method, point.target), []).append(point)
        order = {name: i for i, name in enumerate(self.settings["methods"])}
        return [self._row(groups[key]) for key in sorted(groups, key=lambda k: (order[k[0]], k[1]))]

    def _row(self, group: list[Point]) -> Row:
        first = group[0]
        tuned = [p.accuracy_tuned for p in group if p.accuracy_tuned is not None]
        times = [
            t.seconds
            for t in self.trainings
            for p in group
            if (t.method, t.seed) == (p.method, p.seed) and t.tau in (None, p.target)
        ]
        return Row(
            first.method, first.setting, first.target, len(group),
            statistics.fmean(p.parameters for p in group), statistics.fmean(p.flops for p in group), first.ranks,
            _spread([p.accuracy_full for p in group]), _spread([p.accuracy for p in group]),
            _spread(tuned) if tuned else None, statistics.fmean(times) if times else math.nan,
            statistics.fmean(p.seconds for p in group),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """All of it as numbers, strings, lists and dicts, numbers that are not finite as None."""
        return _plain(
            {
                "settings": self.settings,
                "trainings": [one._asdict() for one in self.trainings],
                "points": [one._asdict() for one in self.points],
                "failures": [one._asdict() for one in self.failures],
                "warnings": self.warnings,
                "message": self.message,
            }
        )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Comparison:
        """The inverse of :meth:`to_dict`."""
        return cls(
            dict(table["settings"]),
            [Training(**{k: _revived(v) for k, v in one.items()}) for one in table["trainings"]],
            [Point(**{k: _revived(v) for k, v in one.items()}) for one in table["points"]],
            [Failure(**one) for one in table["failures"]],
            list(table["warnings"]),
            table["message"],
        )

    def to_json(self, path: Any) -> None:
        """Write :meth:`to_dict` to a file."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    @classmethod
    def from_json(cls, path: Any) -> Comparison:
        """Read what :meth:`to_json` has written."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def table(self) -> str:
        """The rows as a text: accuracies in percent, of seconds those of training + those after it."""
        rows = [
            ("method", "setting", "parameters", "share", "full", "truncated", "tuned", "seconds", "ranks")
        ]
        dense = self.settings["parameters"]
        for row in self.rows():
            rows.append(
                (
                    row.method, row.setting, f"{row.parameters:.0f}", f"{row.parameters / dense:.1%}",
                    _percent(row.accuracy_full), _percent(row.accuracy), _percent(row.accuracy_tuned),
                    f"{row.training_seconds:.3g} + {row.seconds:.2g}", " ".join(map(str, row.ranks)),
                )
            )  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True)]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
        lines += [f"{f.method}, seed {f.seed}, {f.stage}: {f.message}" for f in self.failures]
        return "\n".join([*lines, self.message] if self.message else lines)

    def plot(self) -> Any:
        """Return a matplotlib figure: accuracy against parameters, of all methods."""
        from dlra import plot

        return plot.accuracy_against_parameters(self)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failures" if self.failures else ""
        return (
            f"Comparison({', '.join(self.methods) or 'nothing done'}: {len(self.trainings)} trainings, "
            f"{len(self.points)} points{failed})"
        )


def compare(
    data: Sequence[Any],
    net: Sequential | Callable[[np.random.Generator], Sequential],
    methods: Sequence[str] = METHODS,
    *,
    epochs: int = 10,
    batch_size: int = 256,
    optimizer: str = "adam",
    lr: float = 2e-3,
    weight_decay: float = 1e-4,
    targets: Sequence[float] | None = None,
    rule: str = "gsvt",
    taus: Sequence[float] = TAUS,
    strengths: Mapping[str, float] | None = None,
    keep_last: bool = True,
    fine_tune: int = 1,
    seeds: int | Iterable[int] = 1,
    callback: Callable[[Training | Point | Failure], Any] | None = None,
    progress: bool = False,
) -> Comparison:
    """Compare ways to a network of few parameters: the same start, batches, epochs, optimiser and learning rates.

    "dlrt" trains low-rank factors whose ranks adapt, once for each tau. Every other method trains once, multiplies out
    weights that are products, and truncates to each target by the same rule. What results is trained for some epochs
    more, at the ranks it has, with a learning rate that falls from the same value again.

    =================== ================================================================================
    "dlrt"              low-rank factors from the start, ``AugmentedBUG(rtol=tau)``
    "loritaN"           each weight a product of N factors, whose decay is a Schatten penalty; N = 1, 2, ...
    "svd"               dense weights
    "nuclear", "schatten", "effective-rank", "hoyer", "gini"
                        dense weights, with that :class:`~dlra.nn.Regularizer` (Schatten with p = 1/2)
    "svd-training"      weights U diag(s) Vᵀ, three arrays, the sum of |s| and the distance of U and V from
                        orthonormal columns penalised
    =================== ================================================================================

    Ctrl-C ends the comparison and returns what is done. A training that diverges, or a point that cannot be computed,
    is put into ``failures``, and the others go on.

    Parameters
    ----------
    data : Dataset or sequence of four arrays
        x_train, y_train, x_test, y_test in the library and dtype of the network; labels.
    net : Sequential, or a function of a Generator that returns one
        Of plain dense layers, before training; it is not changed. A function gives each seed its own start.
    methods : sequence of str
    epochs : int
        Of each training.
    batch_size : int
    optimizer : {"adam", "momentum", "sgd"}
    lr : float
        Learning rate at the start; it falls to zero like a cosine. The default is for Adam.
    weight_decay : float
        Of all matrices that are trained.
    targets : sequence of float, optional
        Shares of the parameters of the dense weights, in (0, 1). Default those of 0.05, 0.1, 0.15, 0.2, 0.3 and 0.5
        that leave a rank of 1 to every weight.
    rule : {"gsvt", "lsvt", "isvt"}
        How the ranks are chosen: see :func:`gsvt`, :func:`lsvt`, :func:`isvt`.
    taus : sequence of float
        In (0, 1), for "dlrt".
    strengths : dict, optional
        Method -> strength of its regulariser, in the place of the default: nuclear {nuclear}, schatten {schatten},
        effective-rank {effective}, hoyer {hoyer}, gini {gini}, svd-training {svd}.
    keep_last : bool
        Leave the last of several weights, that of the outputs, as it is: dense, not regularised, not truncated.
    fine_tune : int
        Epochs at the ranks that were found; 0 for none.
    seeds : int or iterable of int
        How many, counted from 0, or which: of the start, where net is a function, and of the batches.
    callback : callable, optional
        Receives each :class:`Training`, :class:`Point` and :class:`Failure`; ends the comparison by returning True.
    progress : bool
        A progress bar on standard error. Needs rich.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        Before anything is computed, where arguments do not fit.

    Notes
    -----
    The default strengths were found by short trainings of :func:`dlra.nn.fcn` on 50 000 training images of MNIST (3
    epochs, one seed, three strengths a factor of 10 apart): those with the highest accuracy on the other 10 000 at a
    tenth of the parameters, after fine-tuning, among those that lost at most one point before truncation. The default
    learning rate is the largest of three, a factor of 2 apart, with which the accuracy before truncation of "svd",
    "lorita2", "lorita3" and "dlrt" had not begun to fall. Other networks and data want others.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import compare
    >>> found = compare(
    ...     nn.datasets.digits(),
    ...     nn.mlp((64, 48, 48, 10), rng=0),
    ...     ["svd", "lorita2"],
    ...     epochs=2,
    ...     batch_size=64,
    ...     targets=[0.2],
    ... )
    >>> found
    Comparison(svd, lorita2: 2 trainings, 2 points)
    """
    run = _Run(
        data, net, methods, epochs=epochs, batch_size=batch_size, optimizer=optimizer, lr=lr,
        weight_decay=weight_decay, targets=targets, rule=rule, taus=taus, strengths=strengths,
        keep_last=keep_last, fine_tune=fine_tune, seeds=seeds, callback=callback,
    )  # fmt: skip
    if not progress:
        return run.run()
    from dlra.nn._progress import Stages

    with Stages(run.work) as bar:
        return run.run(bar)


if compare.__doc__:  # absent with python -OO
    for _name, _key in (
        ("nuclear", "nuclear"), ("schatten", "schatten"), ("effective", "effective-rank"), ("hoyer", "hoyer"),
        ("gini", "gini"), ("svd", "svd-training"),
    ):  # fmt: skip
        compare.__doc__ = compare.__doc__.replace(f"{{{_name}}}", f"{STRENGTHS[_key]:g}")


class _Stopped(Exception):
    """The callback has had enough."""


class _Run:
    """A comparison: its arguments, checked, and what is done so far."""

    def __init__(
        self, data: Any, net: Any, methods: Any, *, epochs: Any, batch_size: Any, optimizer: Any, lr: Any,
        weight_decay: Any, targets: Any, rule: Any, taus: Any, strengths: Any, keep_last: Any, fine_tune: Any,
        seeds: Any, callback: Any,
    ):  # fmt: skip
        self.methods = _checked_methods(methods)
        self.epochs, self.batch_size = check_size(epochs, "epochs"), check_size(batch_size, "batch_size")
        self.fine_tune = check_int(fine_tune, "fine_tune")
        if self.fine_tune < 0:
            raise ValueError(f"fine_tune must be a number of epochs >= 0 (0 for none), got {fine_tune}")
        self.seeds = _checked_seeds(seeds)
        self.optimizer, self.lr = _choice(optimizer, "optimizer", tuple(OPTIMIZERS)), _positive(lr, "lr")
        self.weight_decay = check_number(weight_decay, "weight_decay")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and >= 0, got {weight_decay}")
        self.rule = _choice(rule, "rule", RULES)
        self.taus = _checked_shares(taus, "taus")
        self.strengths = _checked_strengths(strengths)
        check_callable(callback, "callback", "what has been finished")
        self.callback = callback
        self.net = net
        start = self._start(self.seeds[0])
        self.x, self.y, self.x_test, self.y_test = _checked_data(data, start)
        if self.batch_size > self.x.shape[0]:
            raise ValueError(
                f"batch_size must not exceed the number of training rows, {self.x.shape[0]}, got {batch_size}"
            )
        if not isinstance(keep_last, bool):
            raise TypeError(f"keep_last must be True or False, got {keep_last!r}")
        count = len(start.weights)
        self.layers = [
            i for i in range(max(1, count - 1) if keep_last else count) if min(start.weights[i].shape) > 1
        ]
        if not self.layers:
            raise ValueError(
                f"net must have weights of at least two rows and columns to truncate, it has "
                f"{[tuple(W.shape) for W in start.weights]}"
            )
        self.targets = _checked_targets(targets, start, self.layers)
        shape = tuple(self.x.shape[1:])
        self.shape = shape
        self.found = Comparison(
            {
                "methods": list(self.methods), "epochs": self.epochs, "batch_size": self.batch_size,
                "optimizer": self.optimizer, "lr": self.lr, "weight_decay": self.weight_decay,
                "targets": list(self.targets), "rule": self.rule, "taus": list(self.taus),
                "strengths": {name: self.strengths[name] for name in self.methods if name in self.strengths},
                "keep_last": keep_last, "fine_tune": self.fine_tune, "seeds": list(self.seeds),
                "net": [repr(layer) for layer in start.layers],
                "dtype": start.dtype, "parameters": start.parameter_count(), "flops": start.flops(shape),
            }
        )  # fmt: skip
        self.bar: Any = None

    @property
    def work(self) -> int:
        """Epochs of all trainings."""
        low = len(self.taus) * (self.epochs + self.fine_tune) if "dlrt" in self.methods else 0
        others = sum(name != "dlrt" for name in self.methods)
        return len(self.seeds) * (low + others * (self.epochs + len(self.targets) * self.fine_tune))

    def run(self, bar: Any = None) -> Comparison:
        """Do it; what is done survives a failure and Ctrl-C."""
        self.bar = bar
        try:
            for seed in self.seeds:
                start = self._start(seed)
                for method in self.methods:
                    if method == "dlrt":
                        for tau in self.taus:
                            with self._kept(method, seed, f"training with tau {tau:g}"):
                                self._low_rank(start, seed, tau)
                    else:
                        self._truncating(start, method, seed)
        except KeyboardInterrupt:
            self.found.message = f"Interrupted by Ctrl-C after {len(self.found.trainings)} trainings."
        except _Stopped:
            self.found.message = f"Stopped by the callback after {len(self.found.trainings)} trainings."
        return self.found

    # ---- methods

    def _low_rank(self, start: Sequential, seed: int, tau: float) -> None:
        weights = start.weights
        net = start.with_weights(
            {i: LowRank.from_dense(weights[i], rank=min(weights[i].shape)) for i in self.layers}
        )
        history = self._train(net, seed, self.epochs, f"dlrt {tau:g}", method=AugmentedBUG(rtol=tau))
        net = _multiplied_out(history.net)
        training = self._training("dlrt", seed, tau, net, history)
        self.found.trainings.append(training)
        self._tell(training)
        with self._kept("dlrt", seed, f"training after tau {tau:g}"):
            point = self._finished(net, training, tau, f"dlrt {tau:g}", 0.0)
            self.found.points.append(point)
            self._tell(point)

    def _truncating(self, start: Sequential, method: str, seed: int) -> None:
        training = None
        with self._kept(method, seed, "training"):
            net, options = self._prepared(start, method, seed)
            history = self._train(net, seed, self.epochs, method, **options)
            net = _multiplied_out(history.net.merge())
            training = self._training(method, seed, None, net, history)
            self.found.trainings.append(training)
            self._tell(training)
        if training is None:
            if self.bar is not None:
                self.bar.advance(len(self.targets) * self.fine_tune)
            return
        for target in self.targets:
            with self._kept(method, seed, f"truncation to {100 * target:.4g} %"):
                point = self._point(net, training, target)
                self.found.points.append(point)
                self._tell(point)

    def _prepared(self, start: Sequential, method: str, seed: int) -> tuple[Sequential, dict[str, Any]]:
        """The network to be trained, and the options of its training."""
        if lorita := _LORITA.fullmatch(method):
            return to_composed(start, int(lorita[1]), layers=self.layers, rng=_rng(seed, 3)), {}
        if method == "svd":
            return start.copy(), {}
        strength = self.strengths[method]
        options: dict[str, Any] = {"layers": self.layers}
        if method == "svd-training":
            regularizer = Regularizer("nuclear", strength, orthogonality=ORTHOGONALITY, **options)
            return to_svd(start, layers=self.layers), {"regularizer": regularizer}
        if method == "schatten":
            options["p"] = SCHATTEN_P
        return start.copy(), {"regularizer": Regularizer(method, strength, **options)}

    def _point(self, net: Sequential, training: Training, target: float) -> Point:
        began = time.perf_counter()
        parameters = int(target * self.found.settings["parameters"])
        if self.rule == "isvt":
            small = isvt(
                net, self.x, self.y, parameters=parameters, layers=self.layers, rng=_rng(training.seed, 4)
            ).net
        else:
            small = _RULE[self.rule](net, parameters=parameters, layers=self.layers).net
        text = f"{training.method} at {100 * target:.4g} %"
        return self._finished(small, training, target, text, time.perf_counter() - began)

    def _finished(
        self, small: Sequential, training: Training, target: float, text: str, seconds: float
    ) -> Point:
        """The point of a small network, which is trained for some epochs more at its ranks."""
        accuracy, tuned = self._accuracy(small), None
        if self.fine_tune:
            history = self._train(
                small.copy(), training.seed, self.fine_tune, text, stream=2, method=AugmentedBUG()
            )
            small, seconds = history.net, seconds + sum(history.seconds)
            tuned = self._accuracy(small)
        return Point(
            training.method, training.seed, target, small.parameter_count(), small.flops(self.shape),
            tuple(small.ranks), training.accuracy, accuracy, tuned, seconds,
        )  # fmt: skip

    # ---- parts

    def _start(self, seed: int) -> Sequential:
        net = self.net
        if isinstance(net, Sequential):
            return _checked_net(net)
        if not callable(net):
            raise TypeError(
                f"net must be a dlra.nn.Sequential or a function of a Generator that returns one, got {kind(net)}"
            )
        made = net(_rng(seed, 0))
        if not isinstance(made, Sequential):
            raise TypeError(f"the function net must return a dlra.nn.Sequential, got {kind(made)}")
        return _checked_net(made)

    def _train(
        self, net: Sequential, seed: int, epochs: int, text: str, stream: int = 1, **options: Any
    ) -> History:
        steps = epochs * math.ceil(self.x.shape[0] / self.batch_size)
        schedule = Cosine(self.lr, steps) if steps > 1 else self.lr
        name = f"seed {seed}, {text}" if len(self.seeds) > 1 else text
        if self.bar is not None:
            self.bar.show(name)
        with self._noted(name, stream == 1):
            history = train(
                net, self.x, self.y, loss=CrossEntropyLoss(), epochs=epochs, batch_size=self.batch_size,
                optimizer=OPTIMIZERS[self.optimizer](schedule, weight_decay=self.weight_decay),
                rng=_rng(seed, stream),
                callback=None if self.bar is None else lambda epoch: self.bar.epoch(name, epoch, epochs), **options,
            )  # fmt: skip
        if history.status == 1:
            raise KeyboardInterrupt
        return history

    def _training(
        self, method: str, seed: int, tau: float | None, net: Sequential, history: History
    ) -> Training:
        loss, accuracy = evaluate(net, self.x_test, self.y_test, CrossEntropyLoss())
        if not math.isfinite(loss):
            raise ArithmeticError(f"the trained network has the loss {loss} on the test data")
        curve = []
        if method != "dlrt":
            cut = _RULE.get(self.rule, gsvt)
            curve = [
                (share, self._accuracy(cut(net, share=share, layers=self.layers).net)) for share in RETAINED
            ]
        values = tuple(tuple(float(v) for v in s) for s in singular_values(net))
        return Training(
            method, seed, tau, sum(history.seconds), loss, accuracy, net.parameter_count(), tuple(net.ranks),
            tuple(history.loss), values, tuple(curve),
        )  # fmt: skip

    def _accuracy(self, net: Sequential) -> float:
        return evaluate(net, self.x_test, self.y_test, CrossEntropyLoss())[1]

    def _tell(self, finished: Any) -> None:
        if self.callback is not None and self.callback(finished):
            raise _Stopped

    @contextlib.contextmanager
    def _noted(self, name: str, kept: bool) -> Any:
        """Keep what a training warns of; after truncation it has a loss that is low, and rises, by chance."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DlraWarning)
            try:
                yield
            finally:
                of_training = [w for w in caught if issubclass(w.category, DlraWarning)]
                others = [w for w in caught if not issubclass(w.category, DlraWarning)]
        if kept:
            self.found.warnings += [f"{name}: {w.message}" for w in of_training]
        for w in others:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)

    @contextlib.contextmanager
    def _kept(self, method: str, seed: int, stage: str) -> Any:
        """Put an error into the failures and go on."""
        try:
            yield
        except _Stopped:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or "no message"
            failure = Failure(method, seed, stage, f"{type(error).__name__}: {text}")
            self.found.failures.append(failure)
            self._tell(failure)


_RULE: dict[str, Callable[..., Any]] = {"gsvt": gsvt, "lsvt": lsvt}


def _multiplied_out(net: Sequential) -> Sequential:
    """The network with dense weights where the factors take as many parameters."""
    return net.with_weights(
        {
            i: W.to_dense()
            for i, W in enumerate(net.weights)
            if isinstance(W, LowRank) and factored_count(W.shape, W.rank) >= W.shape[0] * W.shape[1]
        }
    )


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream])


# ---- checks


def _checked_methods(methods: Any) -> tuple[str, ...]:
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise TypeError(f"methods must be a list of names, e.g. ['dlrt', 'svd'], got {methods!r}")
    if not methods:
        raise ValueError("methods must name at least one method, got none")
    for name in methods:
        if not isinstance(name, str) or not (name in ("dlrt", "svd", *STRENGTHS) or _LORITA.fullmatch(name)):
            raise ValueError(
                f"methods must be among dlrt, lorita1, lorita2, ..., svd, {', '.join(STRENGTHS)}, got {name!r}"
            )
    if len(set(methods)) < len(methods):
        raise ValueError(f"methods must name each method once, got {list(methods)}")
    return tuple(methods)


def _checked_seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, str):
        raise TypeError(f"seeds must be a number of seeds or a list of them, got {seeds!r}")
    if hasattr(seeds, "__iter__"):
        chosen = tuple(check_int(s, "an entry of seeds") for s in seeds)
        if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
            raise ValueError(f"seeds must be different whole numbers >= 0, at least one, got {list(chosen)}")
        return chosen
    return tuple(range(check_size(seeds, "seeds")))


def _checked_shares(shares: Any, name: str) -> tuple[float, ...]:
    if isinstance(shares, str) or not hasattr(shares, "__iter__"):
        raise TypeError(f"{name} must be a list of numbers in (0, 1), got {shares!r}")
    chosen = tuple(check_number(s, f"an entry of {name}") for s in shares)
    if not chosen:
        raise ValueError(f"{name} must have at least one number, got none")
    for share in chosen:
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {share:g}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{name} must be different numbers, got {list(chosen)}")
    return tuple(sorted(chosen))


def _checked_targets(targets: Any, net: Sequential, layers: list[int]) -> tuple[float, ...]:
    counts = [m * n for m, n in (W.shape for W in net.weights)]
    total = sum(counts)
    least = sum(
        min(count, factored_count(W.shape, 1)) if i in layers else count
        for i, (count, W) in enumerate(zip(counts, net.weights, strict=True))
    )
    needed = (
        f"rank 1 in every weight that is truncated takes {least} of {total} parameters, a share of "
        f"{least / total:.3g}"
    )
    chosen = _checked_shares(TARGETS if targets is None else targets, "targets")
    reached = tuple(share for share in chosen if int(share * total) >= least)
    if targets is not None and len(reached) < len(chosen):
        raise ValueError(f"targets has {chosen[0]:g}, but {needed}; give larger ones")
    if not reached:
        raise ValueError(f"targets: of the defaults none is possible, since {needed}; give others")
    return reached


def _checked_strengths(strengths: Any) -> dict[str, float]:
    if strengths is None:
        return dict(STRENGTHS)
    if not isinstance(strengths, Mapping):
        raise TypeError(
            f"strengths must be a dict, method -> number, e.g. {{'nuclear': 1e-4}}, got {strengths!r}"
        )
    for name in strengths:
        if name not in STRENGTHS:
            raise ValueError(
                f"strengths has {name!r}, which is no method with a regulariser; they are {', '.join(STRENGTHS)}"
            )
    given = {name: _positive(value, f"strengths[{name!r}]") for name, value in strengths.items()}
    return {**STRENGTHS, **given}


def _checked_net(net: Sequential) -> Sequential:
    for i, layer in enumerate(net._weighted):
        if layer.is_lowrank or len(layer.matrices) != 1:
            raise ValueError(
                f"net must have plain dense layers, from which each method makes its own, but weight {i} is that of "
                f"{layer!r}; give net.merge().to_dense()"
            )
    return net


def _checked_data(data: Any, net: Sequential) -> tuple[Any, Any, Any, Any]:
    if not isinstance(data, (tuple, list)) or len(data) != 4:
        raise TypeError(
            f"data must be a Dataset of dlra.nn.datasets or (x_train, y_train, x_test, y_test), got {kind(data)}"
        )
    x, y, x_test, y_test = data
    for pair, use in (((x, y), "train"), ((x_test, y_test), "test")):
        names = (f"x_{use} of data", f"y_{use} of data")
        try:
            net.check_batch(*pair, CrossEntropyLoss(), names)
        except (TypeError, ValueError) as error:
            if any(name in str(error) for name in names):
                raise
            raise type(error)(f"{names[0]} does not fit the network: {error}") from error
    return x, y, x_test, y_test


def _choice(value: Any, name: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return value


def _positive(value: Any, name: str) -> float:
    number = check_number(value, name)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number


# ---- numbers


def _spread(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _percent(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    return f"{100 * pair[0]:.2f}" + (f" ± {100 * pair[1]:.2f}" if pair[1] else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _revived(value: Any) -> Any:
    return tuple(_revived(v) for v in value) if isinstance(value, list) else value
