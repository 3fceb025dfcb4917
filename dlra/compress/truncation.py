"""Truncate the weights of a trained network: locally (LSVT), globally (GSVT), iteratively (ISVT), and say what it did.

Each chooses the ranks by a rule of :mod:`dlra.compress.ranks`, cuts the singular value decompositions of the weights to
them, and may train the result. The network given is never changed.

References
----------
Structure-preserving network compression via low-rank induced training through linear layers composition (LoRITa),
section 4 and appendix A. X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep learning,
arXiv:2303.13635, section II-C.
"""

from __future__ import annotations

import inspect
import itertools
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dlra._factors import check_int
from dlra.backend import Array, all_finite, device, dtype_name, is_array, kind, namespace, picked, to_host
from dlra.compress.measures import counted
from dlra.compress.ranks import (
    Ranks,
    check_one,
    check_share,
    global_ranks,
    iterative_ranks,
    local_ranks,
    truncated_count,
)
from dlra.compress.report import LayerReport, Report
from dlra.errors import DlraWarning, TrainingError
from dlra.integrators import AugmentedBUG
from dlra.lowrank import LowRank
from dlra.nn._batches import is_finite
from dlra.nn._layer import WeightLayer, check_layers, check_size, generator
from dlra.nn.convolution import Conv2d
from dlra.nn.losses import CrossEntropyLoss, Loss, MSELoss
from dlra.nn.network import Sequential, check_shape
from dlra.nn.pruning import decomposed
from dlra.nn.ranks import cut
from dlra.nn.trainer import Trainer, evaluate, train

__all__ = ["Compressed", "gsvt", "isvt", "lsvt"]

Values = list[np.ndarray]


class Compressed(NamedTuple):
    """A truncated network, and the :class:`~dlra.compress.Report` of what was done to it.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import lsvt
    >>> result = lsvt(nn.mlp((64, 200, 10), rng=0), rank=5)
    >>> result.net.ranks, round(result.report.parameters_drop, 1)
    ((5, 5), 84.0)
    """

    net: Sequential
    report: Report

    def __str__(self) -> str:
        return str(self.report)

    def __repr__(self) -> str:
        before, after = self.report.parameters_before, self.report.parameters_after
        return f"Compressed({self.report.method}: {before} → {after} parameters, ranks {self.net.ranks})"


def lsvt(
    net: Sequential,
    rank: int | None = None,
    *,
    share: float | None = None,
    threshold: float | None = None,
    parameters: int | None = None,
    layers: Iterable[int] | None = None,
    data: tuple[Any, Any] | None = None,
    loss: Loss | None = None,
    input_shape: tuple[int, ...] | None = None,
    fine_tune: dict[str, Any] | None = None,
) -> Compressed:
    """Truncate each weight of a network by itself (local singular value truncation).

    Give one of ``rank``, ``share``, ``threshold`` and ``parameters``. With the first three a weight of which something
    is dropped becomes low-rank, also where its factors take more parameters than the matrix; the report says so.

    Parameters
    ----------
    net : Sequential
        Dense or low-rank; it is not changed. Weights that are products are multiplied out first.
    rank : int, optional
        Of every weight; one of lower rank keeps it.
    share : float, optional
        Of the number of singular values of each weight, in (0, 1], rounded to the nearest integer, at least one.
    threshold : float, optional
        In (0, 1): the largest singular value dropped is at most this share of the largest of the weight.
    parameters : int, optional
        Of all weights of the network together, as ``net.parameter_count()``: the largest common share with which they
        take no more. A weight whose factors would not be smaller stays as it is.
    layers : iterable of int, optional
        Which of ``net.weights`` to truncate; default all with at least two rows and columns.
    data : (x, y), optional
        On which the report gives loss and accuracy: before, truncated, tuned.
    loss : Loss, optional
        Default cross entropy where targets are labels, squared error where they are numbers.
    input_shape : tuple of int, optional
        Of an input without the batch axis, for FLOPs; known from ``data``, or where all layers are fully connected.
    fine_tune : dict, optional
        Arguments of :func:`dlra.nn.train`, which then trains the truncated network: ``{"x": x, "y": y, "optimizer":
        nn.Adam(1e-3), "epochs": 3, "batch_size": 64}``. ``method`` is ``AugmentedBUG()`` by default, which keeps the
        ranks.

    Returns
    -------
    Compressed
        (net, report). ``print(result)`` shows the report.

    Raises
    ------
    TypeError, ValueError
        Before anything is computed, where arguments do not fit.
    TrainingError
        ``fine_tune`` failed. Its ``compressed`` is the (net, report) before this training.

    Notes
    -----
    Cut to rank r, a weight is its best approximation of that rank (Eckart and Young): the error in the Frobenius norm
    is the root of the sum of the squares of the singular values dropped.

    Singular values below max(m, n) eps σ₁ are rounding errors: a weight that is truncated keeps none of them, whatever
    the rule; nor does one that would stay as it is but takes fewer parameters without them.

    References
    ----------
    LoRITa, section 4; for ``threshold`` Ou et al., section II-C.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import lsvt
    >>> small, report = lsvt(nn.mlp((64, 200, 10), rng=0), rank=5)
    >>> small.ranks, report.parameters_before, report.parameters_after
    ((5, 5), 14800, 2370)
    """
    options = check_one(rank=rank, share=share, threshold=threshold, parameters=parameters)
    task = _Task(net, layers, data, loss, input_shape, fine_tune)
    target = task.target(parameters)

    def rule(values: Values) -> Ranks:
        return local_ranks(
            values, rank=rank, share=share, threshold=threshold, parameters=target, shapes=task.shapes,
            present=task.present,
        )  # fmt: skip

    return task.run("lsvt", options, rule)


def gsvt(
    net: Sequential,
    share: float | None = None,
    *,
    threshold: float | None = None,
    parameters: int | None = None,
    separate: bool = True,
    layers: Iterable[int] | None = None,
    data: tuple[Any, Any] | None = None,
    loss: Loss | None = None,
    input_shape: tuple[int, ...] | None = None,
    fine_tune: dict[str, Any] | None = None,
) -> Compressed:
    """Keep the largest singular values of all weights together (global singular value truncation).

    Those of each weight are divided by its largest, so that the ranks do not depend on the scale of a layer; each
    weight keeps at least that one. Give one of ``share``, ``threshold`` and ``parameters``.

    Parameters
    ----------
    net : Sequential
        Dense or low-rank; it is not changed.
    share : float, optional
        Of the number of all singular values, in (0, 1], rounded to the nearest integer.
    threshold : float, optional
        In (0, 1]: normalised singular values from it on are kept. That compares each weight with itself only, as
        :func:`lsvt` does, which drops those up to it.
    parameters : int, optional
        Of all weights of the network together, as ``net.parameter_count()``: the largest share with which they take no
        more. A weight whose factors would not be smaller stays as it is.
    separate : bool
        Whether convolutions and fully connected layers are two groups, each of which keeps the share, as in the paper.
    layers, data, loss, input_shape, fine_tune
        See :func:`lsvt`.

    Returns
    -------
    Compressed
        (net, report). ``print(result)`` shows the report.

    Raises
    ------
    TypeError, ValueError
        Before anything is computed, where arguments do not fit.
    TrainingError
        ``fine_tune`` failed. Its ``compressed`` is the (net, report) before this training.

    References
    ----------
    LoRITa, section 4; for ``separate`` section 5.1.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import gsvt
    >>> small, report = gsvt(nn.lenet5(rng=0), 0.2)
    >>> small.ranks
    (2, 12, 92, 10)
    """
    options = check_one(share=share, threshold=threshold, parameters=parameters)
    if not isinstance(separate, bool):
        raise TypeError(f"separate must be True or False, got {separate!r}")
    task = _Task(net, layers, data, loss, input_shape, fine_tune)
    target = task.target(parameters)

    def rule(values: Values) -> Ranks:
        return global_ranks(
            values, share=share, threshold=threshold, parameters=target, groups=task.kinds if separate else None,
            shapes=task.shapes, present=task.present,
        )  # fmt: skip

    return task.run("gsvt", {**options, "separate": separate}, rule)


def isvt(
    net: Sequential,
    x: Array,
    y: Array,
    *,
    loss: Loss | None = None,
    parameters: int | None = None,
    share: float | None = None,
    per_round: int = 500,
    samples: int = 120,
    layers: Iterable[int] | None = None,
    rng: Any = None,
    data: tuple[Any, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    fine_tune: dict[str, Any] | None = None,
) -> Compressed:
    """Truncate, round by round, the weight where that raises the loss least (iterative singular value truncation).

    In each round every weight is tried with ``per_round`` parameters less, on some of the training data, until the
    target is reached; see :func:`iterative_ranks` for how they are counted. Give ``parameters`` or ``share``.

    Parameters
    ----------
    net : Sequential
        Dense or low-rank; it is not changed.
    x, y : arrays
        Training data.
    loss : Loss, optional
        Default cross entropy where targets are labels, squared error where they are numbers.
    parameters : int, optional
        Of all weights of the network together, as ``net.parameter_count()``.
    share : float, optional
        Of those it has now, in (0, 1], rounded to the nearest integer.
    per_round : int
        Parameters to save in a round.
    samples : int
        Rows of x, drawn without replacement, on which the loss is taken; all where there are no more.
    rng : numpy.random.Generator or int, optional
        Draws the rows.
    layers, data, input_shape
        See :func:`lsvt`.
    fine_tune : dict, optional
        See :func:`lsvt`; x and y are those given where it names none.

    Returns
    -------
    Compressed
        (net, report). ``print(result)`` shows the report.

    Raises
    ------
    TypeError, ValueError
        Before anything is computed, where arguments do not fit.
    TrainingError
        ``fine_tune`` failed. Its ``compressed`` is the (net, report) before this training.

    References
    ----------
    LoRITa, appendix A.

    Examples
    --------
    >>> from dlra import nn
    >>> from dlra.compress import isvt
    >>> data = nn.datasets.digits()
    >>> small, report = isvt(nn.mlp((64, 100, 10), rng=0), data.x_train, data.y_train, parameters=3000, rng=1)
    >>> report.parameters_before, small.parameter_count() <= 3000
    (7400, True)
    """
    options = check_one(parameters=parameters, share=share)
    per_round, samples = check_size(per_round, "per_round"), check_size(samples, "samples")
    task = _Task(net, layers, data, loss, input_shape, fine_tune, (x, y))
    if share is not None:
        parameters = int(check_share(share) * task.net.parameter_count() + 0.5)
        task.target(parameters, f"share={share}, {parameters} parameters,")
    target = task.target(parameters)
    draw = generator(rng)
    if samples < x.shape[0]:
        rows = draw.choice(x.shape[0], samples, replace=False)
        x, y = picked(x, rows), picked(y, rows)
    assert target is not None

    def rule(values: Values) -> Ranks:
        return iterative_ranks(
            task.shapes, loss=lambda ranks: task.loss(task.cut(ranks).predict(x), y), parameters=target,
            per_round=per_round, ranks=[len(s) for s in values], present=task.present,
        )  # fmt: skip

    return task.run("isvt", {**options, "per_round": per_round, "samples": min(samples, x.shape[0])}, rule)


class _Task:
    """A truncation: its arguments, checked, and what the rules need to know of the weights that are truncated."""

    def __init__(
        self, net: Any, layers: Any, data: Any, loss: Any, input_shape: Any, fine_tune: Any, given: Any = None
    ):
        if not isinstance(net, Sequential):
            raise TypeError(f"net must be a dlra.nn.Sequential, got {kind(net)}")
        self.net = net.merge()
        self.weighted = self.net._weighted
        self.left: dict[int, str] = {}
        self.chosen = self._chosen(layers)
        self.layers = [self.weighted[i] for i in self.chosen]
        self.shapes = [(m, n) for m, n in (layer.weight.shape for layer in self.layers)]
        self.present = [layer.parameter_count() for layer in self.layers]
        self.kinds = [_kind(layer) for layer in self.layers]
        for i, layer in zip(self.chosen, self.layers, strict=True):
            parts = layer.weight.factors if isinstance(layer.weight, LowRank) else (layer.weight,)
            if not all(map(all_finite, parts)):
                raise ValueError(f"weight {i}, of {layer!r}, contains NaN or infinite values")

        if loss is not None and not isinstance(loss, Loss):
            raise TypeError(f"loss must be a loss of dlra.nn, e.g. CrossEntropyLoss(), got {loss!r}")
        targets = next((pair[1] for pair in (given, data) if _is_pair(pair)), None)
        self.loss: Loss = loss if loss is not None else _loss_for(targets)
        self._check_pair(given, ("x", "y"))
        self._check_pair(data, ("x of data", "y of data"))
        self.data = data
        self.fine_tune = self._checked_fine_tune(fine_tune, loss, given)
        self.input_shape = self._shape(input_shape, [data, given, (fine_tune or {}).get("x")])
        self.asked = None if layers is None else list(self.chosen)
        self.full: list[LowRank] = []

    # ---- checks

    def _chosen(self, layers: Any) -> list[int]:
        count = len(self.weighted)
        small = {
            i: f"a weight of {m} x {n} has no lower rank"
            for i, (m, n) in enumerate(layer.weight.shape for layer in self.weighted)
            if min(m, n) < 2
        }
        if layers is None:
            self.left = small
            chosen = [i for i in range(count) if i not in small]
            if not chosen:
                raise ValueError(
                    f"the network has no weight with at least two rows and columns, only "
                    f"{[tuple(layer.weight.shape) for layer in self.weighted]}: nothing can be truncated"
                )
            return chosen
        chosen = check_layers(layers, count)
        for i in chosen:
            if i in small:
                raise ValueError(f"layers names weight {i}, but {small[i]}; leave it out")
        self.left = {i: "not among layers" for i in range(count) if i not in chosen}
        return chosen

    def _check_pair(self, pair: Any, names: tuple[str, str]) -> None:
        if pair is None:
            return
        if not _is_pair(pair):
            raise TypeError(
                f"data must be a pair (x, y), e.g. data=(data.x_test, data.y_test), got {kind(pair)}"
            )
        self.net.check_batch(pair[0], pair[1], self.loss, names)
        for a, name in zip(pair, names, strict=True):
            if not is_finite(a):
                raise ValueError(f"{name} contains NaN or infinite values")

    def _shape(self, shape: Any, sources: list[Any]) -> tuple[int, ...] | None:
        """Shape of an input, where it is known."""
        if shape is not None:
            shape = check_shape(shape, "input_shape")
            self.net.flops(shape)
            return shape
        for source in sources:
            x = source[0] if _is_pair(source) else source
            if is_array(x):
                return tuple(x.shape[1:])
        return None

    def _checked_fine_tune(self, given: Any, loss: Any, training: Any) -> dict[str, Any] | None:
        """The arguments of train, tried on a network with low-rank weights in the place of those to be truncated."""
        if given is None:
            return None
        if not isinstance(given, dict):
            raise TypeError(
                f"fine_tune must be a dict of arguments of nn.train, e.g. {{'x': x, 'y': y, 'optimizer': "
                f"nn.Adam(1e-3), 'epochs': 3, 'batch_size': 64}}, got {kind(given)}"
            )
        known = [name for name in inspect.signature(train).parameters if name != "net"]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise TypeError(
                f"fine_tune has {unknown[0]!r}, which nn.train does not take; it takes {', '.join(known)}"
            )
        options: dict[str, Any] = {"method": AugmentedBUG()}
        if training is not None and "x" not in given:
            options |= {"x": training[0], "y": training[1]}
        options |= given
        missing = [name for name in ("x", "optimizer", "epochs") if name not in options]
        if missing:
            raise TypeError(f"fine_tune needs {', '.join(missing)}, as nn.train does")
        options.setdefault("loss", loss if loss is not None else _loss_for(options.get("y")))
        trial = {"y": None} | {name: a for name, a in options.items() if name not in ("progress", "resume")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DlraWarning)
            Trainer(self._stand_in(), **trial)
        return options

    def _stand_in(self) -> Sequential:
        like = self.net._like
        xp = namespace(like)

        def ones(n: int) -> Array:
            return xp.ones((n, 1), dtype=like.dtype, device=device(like))

        pairs = zip(self.chosen, self.shapes, strict=True)
        return self.net.with_weights({i: LowRank(ones(m), None, ones(n)) for i, (m, n) in pairs})

    def target(self, parameters: Any, name: str | None = None) -> int | None:
        """What a target for all weights leaves to those that are truncated."""
        if parameters is None:
            return None
        total = self.net.parameter_count()
        rest = total - sum(self.present)
        least = rest + sum(map(truncated_count, self.shapes, itertools.repeat(1), self.present))
        if not least <= check_int(parameters, "parameters") <= total:
            raise ValueError(
                f"{name or f'parameters={parameters}'} must lie between {least}, what rank 1 in every layer that is "
                f"truncated takes, and {total}, what the network has now"
            )
        return parameters - rest

    # ---- work

    def run(self, method: str, options: dict[str, Any], rule: Callable[[Values], Ranks]) -> Compressed:
        """Truncate by a rule for the ranks, train, and report."""
        if method != "isvt":  # options out of range are found on any singular values
            rule([np.ones(layer.rank) for layer in self.layers])
        before = self._evaluated(self.net)
        began = time.perf_counter()
        self.full = [decomposed(layer.weight) for layer in self.layers]
        diagonals = [namespace(Y.S).linalg.diagonal(Y.S) for Y in self.full]
        values = [to_host(s).astype(np.float64) for s in diagonals]
        ranks = self._significant(rule(values), diagonals)
        net = self.cut(ranks)
        seconds = time.perf_counter() - began
        truncated = self._evaluated(net)
        report = Report(
            method, self._options(options), self._by_layer(net, values, ranks), before[0], truncated[0], None,
            before[1], truncated[1], None, None if self.data is None else self.loss.classifies, seconds, None,
        )  # fmt: skip
        if self.fine_tune is None:
            return Compressed(net, report)
        began = time.perf_counter()
        try:
            history = train(net, **self.fine_tune)
        except TrainingError as error:
            error.compressed = Compressed(self.cut(ranks), report)
            error.add_note("The network as it was truncated, before fine_tune, is error.compressed.net.")
            raise
        seconds = time.perf_counter() - began
        loss, accuracy = self._evaluated(net)
        report = replace(
            report, layers=self._by_layer(net, values, ranks), loss_tuned=loss, accuracy_tuned=accuracy,
            seconds_tuning=seconds, tuning_status=history.status, tuning_message=history.message,
        )  # fmt: skip
        return Compressed(net, report)

    def _significant(self, ranks: Ranks, values: list[Array]) -> Ranks:
        """Ranks without directions that are rounding errors, of weights that are truncated or are smaller without."""
        most = [
            max(1, int(np.count_nonzero(counted(s, m)))) for s, m in zip(values, self.shapes, strict=True)
        ]
        return tuple(
            min(r, k) if r < layer.rank or truncated_count(layer.weight.shape, k, p) < p else r
            for r, k, layer, p in zip(ranks, most, self.layers, self.present, strict=True)
        )

    def cut(self, ranks: Ranks) -> Sequential:
        """The network with the weights cut to these ranks; those of full rank are left as they are."""
        return self.net.with_weights(
            {
                i: cut(Y, r)
                for i, Y, r in zip(self.chosen, self.full, ranks, strict=True)
                if r < self.weighted[i].rank
            }
        )

    def _evaluated(self, net: Sequential) -> tuple[float | None, float | None]:
        return (None, None) if self.data is None else evaluate(net, self.data[0], self.data[1], self.loss)

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        found = {name: _as_python(value) for name, value in options.items()}
        if self.asked is not None:
            found["layers"] = self.asked
        if self.fine_tune is not None:
            shown = {
                name: value for name, value in self.fine_tune.items() if name not in ("x", "y", "validation")
            }
            found["fine_tune"] = {
                name: value if isinstance(value, (str, type(None))) else _as_python(value)
                for name, value in shown.items()
            }
        return found

    def _by_layer(self, net: Sequential, values: Values, ranks: Ranks) -> tuple[LayerReport, ...]:
        chosen = dict(zip(self.chosen, zip(values, ranks, strict=True), strict=True))
        flops = zip(self._flops(self.net), self._flops(net), strict=True)
        found = []
        for i, (old, new, (flops_old, flops_new)) in enumerate(
            zip(self.weighted, net._weighted, flops, strict=True)
        ):
            s, r = chosen.get(i, (np.ones(1), 1))
            m, n = old.weight.shape
            counts = old.parameter_count(), new.parameter_count()
            dropped = r < len(s)
            if i in self.left:
                note = f"left alone: {self.left[i]}"
            elif not dropped and old.is_lowrank:
                note = "nothing dropped"
            elif not dropped:
                note = f"nothing dropped (factors save below rank {-(-m * n // (m + n))})"
            elif counts[1] > counts[0]:
                note = f"more parameters than before: {counts[1]} for {counts[0]}"
            else:
                note = ""
            found.append(
                LayerReport(
                    i, repr(old), _kind(old), (m, n), old.rank, new.rank, *counts, flops_old, flops_new,
                    _norm(s[r:] / s[0]) / _norm(s / s[0]) if dropped and s[0] > 0 else 0.0,
                    float(s[r] / s[0]) if dropped and s[0] > 0 else 0.0, dropped, note,
                )
            )  # fmt: skip
        return tuple(found)

    def _flops(self, net: Sequential) -> list[int | None]:
        """Of each weight."""
        if self.input_shape is None:
            shapes = [layer.input_shape for layer in net._weighted]
            return [
                None if shape is None else layer.flops(shape)
                for layer, shape in zip(net._weighted, shapes, strict=True)
            ]
        return [
            layer.flops(shape)
            for layer, shape in net._inputs(self.input_shape)
            if isinstance(layer, WeightLayer)
        ]


def _kind(layer: WeightLayer) -> str:
    return "convolution" if isinstance(layer, Conv2d) else "linear"


def _norm(s: np.ndarray) -> float:
    return float(np.linalg.norm(s))


def _as_python(value: Any) -> Any:
    """A NumPy number as one of Python; of other things than numbers how they are written."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (int, float)) else repr(value)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, (tuple, list)) and len(pair) == 2


def _loss_for(y: Any) -> Loss:
    """Squared error for numbers, otherwise cross entropy."""
    return MSELoss() if is_array(y) and dtype_name(y.dtype).startswith("float") else CrossEntropyLoss()
