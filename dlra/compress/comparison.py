"""Ways to a small network on one footing: low-rank training, and training that prepares a truncation, side by side."""

from __future__ import annotations

import contextlib
import math
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from dlra._checks import check_callable, check_number
from dlra._factors import check_int
from dlra.backend import all_finite, kind
from dlra.compress import _defaults as defaults
from dlra.compress.comparison_results import Comparison, Failure, Point, Training
from dlra.compress.ranks import singular_values, truncated_count
from dlra.compress.truncation import gsvt, isvt, lsvt
from dlra.errors import DlraWarning, TrainingError
from dlra.integrators import AugmentedBUG
from dlra.lowrank import LowRank
from dlra.nn._batches import is_finite
from dlra.nn._layer import check_size, factored_count
from dlra.nn.composed import to_composed, to_svd
from dlra.nn.history import History
from dlra.nn.losses import CrossEntropyLoss
from dlra.nn.network import Sequential
from dlra.nn.optimizers import SGD, Adam, Momentum, Optimizer
from dlra.nn.regularizers import Regularizer
from dlra.nn.schedules import Cosine
from dlra.nn.trainer import evaluate, train

__all__ = ["compare"]

RETAINED = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Shares of the singular values at which a trained network is looked at without training it further."""

SCHATTEN_P = 0.5
ORTHOGONALITY = 1.0
OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "momentum": Momentum, "sgd": SGD}
RULES = ("gsvt", "lsvt", "isvt")
_LORITA = re.compile(r"lorita([1-9][0-9]?)")
_FAILURES = (TrainingError, ArithmeticError, ValueError, np.linalg.LinAlgError)
_Result = TypeVar("_Result")


def compare(
    data: Sequence[Any],
    net: Sequential | Callable[[np.random.Generator], Sequential],
    methods: Sequence[str] = defaults.METHODS,
    *,
    epochs: int = defaults.EPOCHS,
    batch_size: int = defaults.BATCH_SIZE,
    optimizer: str = defaults.OPTIMIZER,
    lr: float = defaults.LR,
    weight_decay: float = defaults.WEIGHT_DECAY,
    targets: Sequence[float] | None = None,
    rule: str = defaults.RULE,
    taus: Sequence[float] = defaults.TAUS,
    strengths: Mapping[str, float] | None = None,
    keep_last: bool = True,
    fine_tune: int = defaults.FINE_TUNE,
    seeds: int | Iterable[int] = 1,
    callback: Callable[[Training | Point | Failure], Any] | None = None,
    progress: bool = False,
) -> Comparison:
    """Compare ways to a network of few parameters: the same start, batches, epochs, optimiser and learning rates.

    "dlrt" trains low-rank factors whose ranks adapt, once for each tau. Every other method trains once, multiplies out
    weights that are products, and truncates to each target by the same rule. Each of these trainings takes ``epochs``;
    every network that results, also of "dlrt", is then trained for ``fine_tune`` epochs more, at the ranks it has,
    with a learning rate that falls from the same value again. A weight whose factors would be no smaller counts dense.

    * "dlrt": low-rank factors from the start, ``AugmentedBUG(rtol=tau)``;
    * "loritaN": each weight a product of N factors, whose decay is a Schatten penalty, N = 1, 2, ...;
    * "svd": dense weights;
    * "nuclear", "schatten", "effective-rank", "hoyer", "gini": dense weights, with that :class:`~dlra.nn.Regularizer`
      (Schatten with p = 1/2);
    * "svd-training": weights U diag(s) Vᵀ, three arrays, the sum of the sizes of s and the distance of U and V from
      orthonormal columns penalised.

    Ctrl-C ends the comparison and returns what is done. A training that diverges, a point that cannot be computed, or
    a start that the function net does not give is put into ``failures``, and the others go on. Any other exception
    that is raised on the way, for example by the callback, has what is done as its attribute ``comparison``.

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
        that leave a rank of 1 to every weight; the table names the others.
    rule : {"gsvt", "lsvt", "isvt"}
        How the ranks are chosen: see :func:`gsvt`, :func:`lsvt`, :func:`isvt`. The last saves 500 parameters in each
        of its rounds, which is coarse for networks of few thousands.
    taus : sequence of float
        In (0, 1), for "dlrt".
    strengths : dict, optional
        Method, one of those compared -> strength of its regulariser, in the place of the default: nuclear 0.001,
        schatten 0.0001, effective-rank 0.0001, hoyer 0.01, gini 0.01, svd-training 0.1.
    keep_last : bool
        Leave the last of several weights, that of the outputs, as it is: dense, not regularised, not truncated.
    fine_tune : int
        Epochs at the ranks that were found; 0 for none.
    seeds : int or iterable of int
        How many, counted from 0, or which: of the start, where net is a function, and of the batches.
    callback : callable, optional
        Receives each :class:`Training`, :class:`Point` and :class:`Failure`; ends the comparison by returning True.
        What it raises is raised.
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
    The default strengths and learning rate were chosen by hand after short trainings of :func:`dlra.nn.fcn` on MNIST,
    on images that are neither for training nor for testing. Other networks and data want others.

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
    run = Run(
        data, net, methods, epochs=epochs, batch_size=batch_size, optimizer=optimizer, lr=lr,
        weight_decay=weight_decay, targets=targets, rule=rule, taus=taus, strengths=strengths,
        keep_last=keep_last, fine_tune=fine_tune, seeds=seeds, callback=callback,
    )  # fmt: skip
    if not progress:
        return run.run()
    from dlra.nn._progress import Stages

    with Stages(run.work) as bar:
        return run.run(bar)


class _Stopped(Exception):
    """The callback has had enough."""


class Run:
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
        self.strengths = _checked_strengths(strengths, self.methods)
        check_callable(callback, "callback", "what has been finished")
        self.callback = callback
        self.net = net
        self.first = start = self._made(self.seeds[0])
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
        self.targets, left_out = _checked_targets(targets, self.methods, start, self.layers)
        shape = tuple(self.x.shape[1:])
        self.shape = shape
        self.found = Comparison(
            {
                "methods": list(self.methods), "epochs": self.epochs, "batch_size": self.batch_size,
                "optimizer": self.optimizer, "lr": self.lr, "weight_decay": self.weight_decay,
                "targets": list(self.targets), "left_out": left_out, "rule": self.rule, "taus": list(self.taus),
                "strengths": {name: self.strengths[name] for name in self.methods if name in self.strengths},
                "keep_last": keep_last, "fine_tune": self.fine_tune, "seeds": list(self.seeds),
                "net": [repr(layer) for layer in start.layers],
                "shapes": [list(W.shape) for W in start.weights],
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
        """Do it; what is done survives a failure, Ctrl-C and, as ``.comparison``, any exception."""
        self.bar = bar
        try:
            for seed in self.seeds:
                self._run_seed(seed)
        except KeyboardInterrupt:
            self.found.message = f"Interrupted by Ctrl-C after {len(self.found.trainings)} trainings."
        except _Stopped:
            self.found.message = f"Stopped by the callback after {len(self.found.trainings)} trainings."
        except BaseException as error:
            self.found.message = (
                f"Ended by {type(error).__name__} after {len(self.found.trainings)} trainings."
            )
            with contextlib.suppress(AttributeError, TypeError):  # exceptions may refuse attributes
                error.comparison = self.found  # pyright: ignore[reportAttributeAccessIssue]
                error.add_note("What was compared until then is the attribute comparison of this exception.")
            raise
        return self.found

    def _run_seed(self, seed: int) -> None:
        try:
            start = self._start(seed)
        except Exception as error:  # the function net is the caller's
            self._keep(_failure("net", seed, "start", error))
            self._advance(self.work // len(self.seeds))
            return
        for method in self.methods:
            if method == "dlrt":
                for tau in self.taus:
                    self._low_rank(start, seed, tau)
            else:
                self._truncating(start, method, seed)

    # ---- methods

    def _low_rank(self, start: Sequential, seed: int, tau: float) -> None:
        def trained() -> tuple[Sequential, Training]:
            weights = start.weights
            net = start.with_weights(
                {i: LowRank.from_dense(weights[i], rank=min(weights[i].shape)) for i in self.layers}
            )
            history = self._train(net, seed, self.epochs, f"dlrt {tau:g}", method=AugmentedBUG(rtol=tau))
            return history.net, self._training("dlrt", seed, tau, history.net, history)

        done = self._attempt("dlrt", seed, f"training with tau {tau:g}", trained)
        if done is None:
            self._advance(self.fine_tune)
            return
        net, training = done
        self._keep(training)
        point = self._attempt(
            "dlrt", seed, f"training after tau {tau:g}",
            lambda: self._finished(net, training, tau, f"dlrt {tau:g}", 0.0),
        )  # fmt: skip
        if point is not None:
            self._keep(point)

    def _truncating(self, start: Sequential, method: str, seed: int) -> None:
        def trained() -> tuple[Sequential, Training]:
            net, options = self._prepared(start, method, seed)
            history = self._train(net, seed, self.epochs, method, **options)
            net = history.net.merge()
            return net, self._training(method, seed, None, net, history)

        done = self._attempt(method, seed, "training", trained)
        if done is None:
            self._advance(len(self.targets) * self.fine_tune)
            return
        net, training = done
        self._keep(training)
        for target in self.targets:
            stage = f"truncation to {100 * target:.4g} %"
            point = self._attempt(
                method, seed, stage, lambda target=target: self._point(net, training, target)
            )
            if point is not None:
                self._keep(point)

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
        parameters = _part(target, self.found.settings["parameters"])
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
        counted = _multiplied_out(small)
        return Point(
            training.method, training.seed, target, counted.parameter_count(), counted.flops(self.shape),
            tuple(small.ranks), training.accuracy, accuracy, tuned, seconds,
        )  # fmt: skip

    # ---- parts

    def _start(self, seed: int) -> Sequential:
        """The network that a seed starts from: the same layers for all seeds."""
        if seed == self.seeds[0]:
            return self.first
        made = self._made(seed)
        layers, expected = (
            [repr(layer) for layer in made.layers],
            [repr(layer) for layer in self.first.layers],
        )
        if layers != expected:
            raise ValueError(
                f"net must have the same layers for every seed, that of seed {self.seeds[0]} has {expected}, that of "
                f"seed {seed} {layers}"
            )
        made.check_batch(self.x, self.y, CrossEntropyLoss(), ("x_train of data", "y_train of data"))
        return made

    def _made(self, seed: int) -> Sequential:
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
            method, seed, tau, sum(history.seconds), loss, accuracy, _multiplied_out(net).parameter_count(),
            tuple(net.ranks), tuple(history.loss), values, tuple(curve),
        )  # fmt: skip

    def _accuracy(self, net: Sequential) -> float:
        return evaluate(net, self.x_test, self.y_test, CrossEntropyLoss())[1]

    def _attempt(self, method: str, seed: int, stage: str, work: Callable[[], _Result]) -> _Result | None:
        """What work returns; where it fails None, and a failure is kept."""
        try:
            return work()
        except _FAILURES as error:
            failure = _failure(method, seed, stage, error)
        self._keep(failure)
        return None

    def _keep(self, one: Training | Point | Failure) -> None:
        """Add to what is found, and tell the callback."""
        found = self.found
        if isinstance(one, Training):
            found.trainings.append(one)
        elif isinstance(one, Point):
            found.points.append(one)
        else:
            found.failures.append(one)
        stop = False if self.callback is None else self.callback(one)
        if isinstance(stop, (bool, np.bool_)) and stop:
            raise _Stopped

    def _advance(self, epochs: int) -> None:
        """Let the bar pass epochs that are left out."""
        if self.bar is not None:
            self.bar.advance(epochs)

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


def _failure(method: str, seed: int, stage: str, error: Exception) -> Failure:
    text = " ".join(str(error).split()) or "no message"
    return Failure(method, seed, stage, f"{type(error).__name__}: {text}")


def _part(share: float, count: int) -> int:
    """So many of count, at most its share, which rounding does not make one less: 29 are 0.29 of 100."""
    return math.floor(share * count * (1 + 1e-12))


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream])


# ---- checks


def _checked_methods(methods: Any) -> tuple[str, ...]:
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise TypeError(f"methods must be a list of names, e.g. ['dlrt', 'svd'], got {methods!r}")
    if not methods:
        raise ValueError("methods must name at least one method, got none")
    for name in methods:
        if not isinstance(name, str) or not (
            name in ("dlrt", "svd", *defaults.STRENGTHS) or _LORITA.fullmatch(name)
        ):
            raise ValueError(
                f"methods must be among dlrt, lorita1, lorita2, ..., svd, {', '.join(defaults.STRENGTHS)}, got {name!r}"
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


def _checked_targets(
    targets: Any, methods: tuple[str, ...], net: Sequential, layers: list[int]
) -> tuple[tuple[float, ...], str]:
    """The shares that are possible, and which of the defaults are not; none where nothing is truncated."""
    if targets is None and methods == ("dlrt",):
        return (), ""
    counts = [m * n for m, n in (W.shape for W in net.weights)]
    total = sum(counts)
    least = sum(
        truncated_count(W.shape, 1, count) if i in layers else count
        for i, (count, W) in enumerate(zip(counts, net.weights, strict=True))
    )
    needed = (
        f"rank 1 in every weight that is truncated takes {least} of {total} parameters, a share of "
        f"{least / total:.3g}"
    )
    chosen = _checked_shares(defaults.TARGETS if targets is None else targets, "targets")
    reached = tuple(share for share in chosen if _part(share, total) >= least)
    if targets is not None and len(reached) < len(chosen):
        raise ValueError(f"targets has {chosen[0]:g}, but {needed}; give larger ones")
    if not reached:
        raise ValueError(f"targets: of the defaults none is possible, since {needed}; give others")
    lost = ", ".join(f"{100 * share:.4g} %" for share in chosen if share not in reached)
    return reached, f"Of the default targets left out: {lost}, since {needed}." if lost else ""


def _checked_strengths(strengths: Any, methods: tuple[str, ...]) -> dict[str, float]:
    if strengths is None:
        return dict(defaults.STRENGTHS)
    if not isinstance(strengths, Mapping):
        raise TypeError(
            f"strengths must be a dict, method -> number, e.g. {{'nuclear': 1e-4}}, got {strengths!r}"
        )
    for name in strengths:
        if name not in defaults.STRENGTHS:
            raise ValueError(
                f"strengths has {name!r}, which is no method with a regulariser; they are "
                f"{', '.join(defaults.STRENGTHS)}"
            )
    given = {name: _positive(value, f"strengths[{name!r}]") for name, value in strengths.items()}
    for name in given:
        if name not in methods:
            raise ValueError(
                f"strengths has {name!r}, which is not among the methods {', '.join(methods)}; add it there"
            )
    return {**defaults.STRENGTHS, **given}


def _checked_net(net: Sequential) -> Sequential:
    for i, layer in enumerate(net._weighted):
        if layer.is_lowrank or len(layer.matrices) != 1:
            raise ValueError(
                f"net must have plain dense layers, from which each method makes its own, but weight {i} is that of "
                f"{layer!r}; give net.merge().to_dense()"
            )
    for i, a in enumerate(net.members):
        if not all_finite(a):
            raise ValueError(
                f"net must start from finite numbers, but its parameter {i} has NaN or infinite values"
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
        for name, a in zip(names, pair, strict=True):
            if not is_finite(a):
                raise ValueError(f"{name} contains NaN or infinite values; remove or replace these rows")
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
