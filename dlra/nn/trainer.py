"""train: the loop over epochs and batches."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from dlra._checks import check_callable
from dlra.backend import Array, all_finite, is_array, kind, library, to_host
from dlra.checkpoint import Checkpoint, Clock, check_resume, check_same_run
from dlra.errors import DlraWarning, StageError, TrainingError
from dlra.integrators import AugmentedBUG, Integrator
from dlra.integrators._base import RankAdaptive, state_norm
from dlra.linalg import svdvals
from dlra.lowrank import LowRank
from dlra.nn._batches import Batches, Rows, Sums, is_finite
from dlra.nn._layer import check_size, generator
from dlra.nn._training import Batch, OptimizerSubstep, State, step, trained_method
from dlra.nn.history import Epoch, History
from dlra.nn.losses import Loss, accuracy, r_squared
from dlra.nn.network import Sequential, pieces
from dlra.nn.optimizers import Memory, Optimizer
from dlra.nn.ranks import ParameterBudget, TiedTolerance
from dlra.solution import portable, revived

__all__ = ["evaluate", "train"]


def train(
    net: Sequential,
    x: Any,
    y: Any = None,
    *,
    loss: Loss,
    optimizer: Optimizer,
    method: Any = None,
    epochs: int,
    batch_size: int | None = None,
    validation: tuple[Any, Any] | None = None,
    truncation: TiedTolerance | ParameterBudget | None = None,
    regularizer: Any = None,
    replacement: bool = False,
    patience: int | None = None,
    rng: Any = None,
    callback: Callable[[Epoch], Any] | None = None,
    progress: bool = False,
    checkpoint: Any = None,
    resume: Any = None,
) -> History:
    """Train a network with a low-rank integrator; the network is changed in place.

    One call is one training: moments and the iteration of schedules begin anew with the next. Ctrl-C ends it and
    returns what has been done, with ``status`` 1.

    Training is integration of the gradient flow: a step of the integrator is a step of the training, its step length
    the learning rate, and the optimiser takes the place of the substep. All questions of a step are answered on the
    same batch; with AugmentedBUG and ParallelBUG there is one, that is one forward and one backward pass a step.

    Parameters
    ----------
    net : Sequential
    x, y : arrays
        All data, in the dtype and library of the network; or x an iterable of batches (x, y), or a function without
        arguments that returns such an iterable for each epoch, and y None.
    loss : Loss
    optimizer : SGD, Momentum or Adam
    method : integrator, name, or dict
        Default ``AugmentedBUG(rtol=0.1)``: rtol is tau, the share of the norm of each weight that a truncation may
        drop; ``atol`` is an absolute tolerance. Rank options may be sequences with one value for each weight. A dict
        {epoch: method} switches methods at the beginning of these epochs (counted from 0), for example ``{0:
        AugmentedBUG(rtol=0.1), 5: AugmentedBUG(), 8: Galerkin()}``: ranks adapt, then stay, then only the cores move.
        Momentum and Adam work with AugmentedBUG, ParallelBUG, BUG and Galerkin, SGD with every integrator.
    epochs : int
    batch_size : int
        At most the number of rows; the last batch of an epoch may be smaller. Wanted with arrays, not with an iterable
        of batches.
    validation : (x, y), optional
        Looked at after each epoch.
    truncation : TiedTolerance or ParameterBudget, optional
        A rule for the ranks instead of the tolerances of the method: theta = c h² with the learning rate h, or the
        largest singular values of all layers within a number of parameters.
    regularizer : Regularizer, optional
        A penalty of the singular values of the weights, added to the loss that is minimised, not to the one reported.
    replacement : bool
        Draw each batch from all rows with replacement, independently (as convergence theory assumes), instead of
        going through a random permutation in each epoch.
    patience : int, optional
        Stop when the validation loss has not fallen for so many epochs, and give the network the weights of the best
        one.
    rng : numpy.random.Generator or int, optional
        Source of permutations and samples.
    callback : callable, optional
        Receives an :class:`Epoch` after each epoch; stops the training by returning True.
    progress : bool
        A progress bar with loss, accuracy, ranks and compression on standard error. Needs rich.
    checkpoint : path or dlra.Checkpoint, optional
        Written after the first step, then every 10 seconds, at the end and on Ctrl-C. Needs h5py.
    resume : path, optional
        Continue from a checkpoint, with the same arguments: the same bits result as without interruption. ``epochs``
        may be larger (the same bits as in a longer training follow where ``patience`` is not used, at whose end the
        network receives the best weights).

    Returns
    -------
    History
        One entry per epoch, and the network as ``.net``.

    Raises
    ------
    ValueError, TypeError
        Before anything is computed, where arguments do not fit.
    TrainingError
        The loss or a gradient became NaN, or a step failed. The network keeps the weights of the last good step.

    Warns
    -----
    DlraWarning
        The ranks of some layers cannot grow, because the truncation tolerance exceeds all that a step adds.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import AugmentedBUG, nn
    >>> data = nn.datasets.digits()
    >>> net = nn.Sequential(nn.LowRankLinear(64, 100, rank=20, rng=0), nn.ReLU(), nn.Linear(100, 10, rng=1))
    >>> history = nn.train(
    ...     net,
    ...     data.x_train,
    ...     data.y_train,
    ...     loss=nn.CrossEntropyLoss(),
    ...     optimizer=nn.Adam(3e-3),
    ...     method=AugmentedBUG(rtol=0.1),
    ...     epochs=10,
    ...     batch_size=64,
    ...     validation=(data.x_test, data.y_test),
    ...     rng=2,
    ... )
    >>> history.validation_accuracy[-1] > 0.9
    True
    """
    trainer = Trainer(
        net, x, y, loss=loss, optimizer=optimizer, method=method, epochs=epochs, batch_size=batch_size,
        validation=validation, truncation=truncation, regularizer=regularizer, replacement=replacement,
        patience=patience, rng=rng, callback=callback, checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    if not progress:
        return trainer.run()
    from dlra.nn._progress import Bar

    with Bar(trainer.epochs) as bar:
        return trainer.run(bar)


def evaluate(net: Sequential, x: Array, y: Array, loss: Loss) -> tuple[float, float]:
    """Return the loss and the accuracy of a network on data, which goes through in pieces of 1024 rows.

    Parameters
    ----------
    net : Sequential
    x, y : arrays
        In the dtype and library of the network; labels or numbers, as the loss takes them.
    loss : Loss

    Returns
    -------
    loss : float
    accuracy : float
        The share of rows classified right; R² for targets that are numbers.

    Raises
    ------
    TypeError, ValueError
        x or y do not fit the network or the loss.
    """
    net.check_batch(x, y, loss)
    total, right, outputs = 0.0, 0, []
    for rows, z in zip(pieces(x.shape[0]), net._outputs(x), strict=True):
        yi = y[rows, ...]
        total += loss(z, yi) * z.shape[0]
        if loss.classifies:
            right += accuracy(z, yi)
        else:
            outputs.append(to_host(z))
    if loss.classifies:
        return total / x.shape[0], right / x.shape[0]
    return total / x.shape[0], r_squared(np.concatenate(outputs), to_host(y))


class Trainer:
    """A training: its arguments, checked, and its state."""

    def __init__(
        self, net: Any, x: Any, y: Any, *, loss: Any, optimizer: Any, method: Any, epochs: Any, batch_size: Any = None,
        validation: Any = None, truncation: Any = None, regularizer: Any = None, replacement: Any = False,
        patience: Any = None, rng: Any = None, callback: Any = None, checkpoint: Any = None, resume: Any = None,
    ):  # fmt: skip
        if not isinstance(net, Sequential):
            raise TypeError(f"net must be a dlra.nn.Sequential, got {kind(net)}")
        if not isinstance(loss, Loss):
            raise TypeError(f"loss must be a loss of dlra.nn, e.g. CrossEntropyLoss(), got {loss!r}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be SGD, Momentum or Adam of dlra.nn, e.g. Adam(1e-3), got {optimizer!r}"
            )
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.epochs = check_size(epochs, "epochs")
        self.rng = generator(rng)
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement must be True or False, got {replacement!r}")
        self.data: Rows | Batches
        if is_array(x):
            self.data = Rows(net, x, y, loss, batch_size, replacement)
        else:
            self.data = Batches(net, x, y, loss, batch_size, replacement)
        self.validation = None if validation is None else checked_pair(net, validation, loss)
        self.patience = None if patience is None else check_size(patience, "patience")
        if patience is not None and validation is None:
            raise ValueError("patience needs validation=(x, y): it watches the validation loss")
        check_callable(callback, "callback", "the epoch")
        self.callback = callback
        self.truncation = _checked_truncation(truncation, net)
        self.regularizer = _checked_regularizer(regularizer, net)
        self._schedule = self._methods(method)
        self._rate = optimizer.rate(0)

        self.batch = Batch(net, loss, optimizer.gradient_decay, self.rng, self.regularizer)
        self.Ys: tuple[Any, ...] = tuple(
            Y.orthonormalized() if isinstance(Y, LowRank) else Y for Y in net.members
        )
        self._check_start()
        self._start_norm = state_norm(self.Ys)
        self.memory: State = {}
        self.t, self.epoch = 0, 0
        self.history = History(net, classifies=loss.classifies)
        self._sums = Sums()
        self._best: tuple[float, int, Any] = (math.inf, 0, None)
        self._begun = _ranks(self.Ys)
        self._largest_news: list[float] = []
        self._order: np.ndarray | None = None
        self._seconds = 0.0
        self._warned = False
        self._first_loss = math.nan
        self._nfev, self._rng_state = 0, self.rng.bit_generator.state
        self._clock: Clock | None = None
        self._written: tuple[int, int] | None = None
        if checkpoint is not None:
            self._clock = Clock(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
            from dlra import _files

            _files.check_target(self._clock.path)
        if resume is not None:  # last: nothing is changed by arguments that are refused
            self._restore(check_resume(resume, "training"))

    # ---- methods

    def _methods(self, method: Any) -> dict[int, tuple[Integrator, OptimizerSubstep | None]]:
        """Which method takes over at which epoch, with the optimiser in it."""
        default = AugmentedBUG(rtol=0.1) if self.truncation is None else AugmentedBUG()
        given = method if isinstance(method, dict) else {0: default if method is None else method}
        if 0 not in given:
            raise ValueError(
                f"a dict of methods must say what epoch 0 begins with, got epochs {sorted(given, key=str)}"
            )
        for epoch in given:
            check_size(epoch, "an epoch in the dict of methods", 0)
        trained = {e: trained_method(m, self.optimizer, self.net) for e, m in sorted(given.items())}
        if self.truncation is not None:
            for m, _ in trained.values():
                if isinstance(m, RankAdaptive) and m.is_free:
                    raise ValueError(
                        f"truncation={self.truncation!r} takes the place of the rank options of {type(m).__name__}; "
                        f"leave rtol, atol and max_rank out"
                    )
            if not any(isinstance(m, RankAdaptive) for m, _ in trained.values()):
                raise ValueError(
                    f"truncation={self.truncation!r} needs a method that adapts ranks, e.g. AugmentedBUG()"
                )
        return trained

    def _current(self, h: float) -> tuple[Integrator, OptimizerSubstep | None]:
        """The method of this epoch, with the rank options of this step."""
        method, substep = self._schedule[max(e for e in self._schedule if e <= self.epoch)]
        if self.truncation is not None and isinstance(method, RankAdaptive):
            method = dataclasses.replace(method, **self.truncation.options(h))
        return method, substep

    def _check_start(self) -> None:
        for method, _ in self._schedule.values():
            method.check(self.Ys, self.batch)
        for i, Y in enumerate(self.Ys):
            if not all_finite(Y._U if isinstance(Y, LowRank) else Y):
                raise ValueError(f"parameter {i} of the network contains NaN or infinite values")

    # ---- the loop

    def run(self, bar: Any = None) -> History:
        """Train to the last epoch."""
        try:
            while self.epoch < self.epochs and self.history.status == 0:
                self._run_epoch(bar)
        except KeyboardInterrupt:
            self.history.status, self.history.message = 1, f"Interrupted by Ctrl-C in {self._place()}."
            self.history.steps, self.history.nfev = self.t, self._nfev
            self._write_last()
        except BaseException:
            self._write_last()
            raise
        else:
            if not self.history.message:
                self.history.message = f"All {self.epochs} epochs done."
            self._write_last()
        return self.history

    def _run_epoch(self, bar: Any) -> None:
        if self._order is None:
            self._begin_epoch()
        began, before = time.perf_counter(), self._seconds
        for x, y in self._batches():
            self._step(x, y)
            self._seconds = before + time.perf_counter() - began
            if self.data.resumable:
                self._write_if_due()
            if bar is not None:
                bar.show(self.epoch, self._sums, self.data.steps, self.net)
        if self._sums.batches == 0:
            raise TrainingError(
                f"x gave no batches in epoch {self.epoch + 1}: an iterator can be read once only; give a list of "
                f"batches, a function that returns an iterator, or epochs={self.epoch}",
                self._failed("no batches"),
            )
        self._end_epoch()

    def _batches(self) -> Iterator[tuple[Array, Array]]:
        """The batches of this epoch that are not done yet; failures of their source are labelled."""
        source = self.data.batches(self._order, self._sums.batches)
        while True:
            try:
                item = next(source, None)
            except Exception as error:
                if self.t == 0 and isinstance(error, (TypeError, ValueError)):  # bad input, before any work
                    raise
                raise self._stopped(f"x raised {type(error).__name__}: {error}") from error
            if item is None:
                return
            yield item

    def _begin_epoch(self) -> None:
        order = self.data.order(self.rng)
        self._sums, self._seconds = Sums(), 0.0
        self._begun, self._largest_news = _ranks(self.Ys), []
        self._order, self._rng_state = order, self.rng.bit_generator.state

    def _step(self, x: Array, y: Array) -> None:
        """One step on a batch; afterwards the network has its result."""
        try:
            h = self.optimizer.rate(self.t)
        except Exception as error:
            raise self._stopped(f"the schedule raised {type(error).__name__}: {error}") from error
        method, substep = self._current(h)
        self.batch.load(x, y)
        try:
            result = step(method, substep, self.batch, float(self.t), h, self.Ys, self.memory)
            if not math.isfinite(self.batch.loss):
                raise StageError(self.t, "loss", "the loss is not finite")
            self._check_growth(result.Ys)
        except StageError as error:
            raise self._failure(error, h) from error.__cause__
        Ys = result.Ys
        if self.truncation is not None and isinstance(method, RankAdaptive):
            Ys = self.truncation.applied(Ys)
        memory = {} if substep is None else substep.finished(Ys)
        news = [] if substep is None else substep.news
        news = [max(pair) for pair in zip(self._largest_news or news, news, strict=True)]
        if self.t == 0:
            self._first_loss = self.batch.loss
        sums = self._sums.with_batch(self.batch.loss, self._right(y), x.shape[0])
        # all at once: Ctrl-C leaves no half step behind
        self.Ys, self.memory, self.t, self._sums, self._nfev, self._rate, self._rng_state = (
            Ys, memory, self.t + 1, sums, self.batch.nfev, h, self.rng.bit_generator.state
        )  # fmt: skip
        self._largest_news = news
        self.net._set(Ys)

    def _check_growth(self, Ys: tuple[Any, ...]) -> None:
        """Notice a training that diverges before it overflows: weights a million times as large as at the start."""
        size = state_norm(Ys)
        if size > 1e6 * max(1.0, self._start_norm):
            owners = self.net._owners
            norms = [state_norm((Y,)) for Y in Ys[: len(owners)]]
            layer = owners[norms.index(max(norms))]
            raise StageError(
                self.t,
                "end of step",
                f"the training blows up: the norm of the parameters grew from {self._start_norm:.2g} to {size:.2g}, "
                f"most in layer {self.net.layers.index(layer)}, {layer!r}",
            )

    def _right(self, y: Array) -> int:
        return accuracy(self.batch.outputs, y) if self.loss.classifies else 0

    def _end_epoch(self) -> None:
        """Look at the validation data, write the row of the history, decide whether to go on."""
        check_loss = check_accuracy = math.nan
        if self.validation is not None:
            check_loss, check_accuracy = evaluate(self.net, *self.validation, self.loss)
        sums = self._sums
        row = Epoch(
            self.epoch + 1, sums.loss / sums.rows, sums.right / sums.rows if self.loss.classifies else math.nan,
            check_loss, check_accuracy, self.net.ranks, self.net.parameter_count(), self._rate, self._seconds, self.net,
        )  # fmt: skip
        method, _ = self._current(self._rate)
        if self.patience is not None and check_loss < self._best[0]:
            self._best = (check_loss, self.epoch + 1, self.Ys)
        self.history.steps, self.history.nfev = self.t, self._nfev
        self.history.append(row)
        self.epoch, self._order, self._sums = self.epoch + 1, None, Sums()
        if self.validation is not None and not math.isfinite(check_loss):
            why = f"the loss on the validation data is {check_loss} after epoch {self.epoch}; look at their scale"
            raise self._stopped(why)
        if not all(
            all_finite(a) for memories in self.memory.values() for m in memories for part in m for a in part
        ):
            why = f"the memory of {self.optimizer!r} overflows; scale the data, or use a float64 network"
            raise self._stopped(why)
        self._write_if_due()
        if not self._warn_if_rising():
            self._warn_if_frozen(method)
        stop = False if self.callback is None else self.callback(row)
        if isinstance(stop, (bool, np.bool_)) and stop:
            self.history.status = 1
            self.history.message = f"The callback stopped the training after epoch {self.epoch}."
        if self.patience is not None:
            self._be_patient()

    def _be_patient(self) -> None:
        assert self.patience is not None
        best, at, Ys = self._best
        over = self.epoch - at >= self.patience
        if Ys is not None and (over or self.epoch == self.epochs or self.history.status):
            self.Ys = Ys
            self.memory = {}  # it belongs to other bases
            self.history.kept_epoch = at
            self._written = None  # a file has other weights
            self.net._set(Ys)
        if over and self.history.status == 0:
            self.history.status = 1
            self.history.message = (
                f"Stopped after epoch {self.epoch}: the validation loss has not fallen below {best:.4g}, that of epoch "
                f"{at}, whose weights the network has."
            )

    def _warn_if_rising(self) -> bool:
        """Warn, once, where the loss of an epoch is well above that of the first batch."""
        loss = self.history.loss[-1]
        rising = loss > 1.5 * self._first_loss + 0.1 * abs(self._first_loss)
        if rising and not self._warned:
            self._warned = True
            warnings.warn(
                f"the loss rises: {self._first_loss:.3g} on the first batch, {loss:.3g} in epoch {self.epoch}, "
                f"ranks {self.net.ranks}; the learning rate {self._rate:.3g} is probably too large",
                DlraWarning,
                stacklevel=6,
            )
        return rising

    def _warn_if_frozen(self, method: Integrator) -> None:
        """Warn where the tolerance discards all that steps add to the bases, though it is not what limits the rank."""
        if self._warned or not isinstance(method, RankAdaptive) or not self._largest_news:
            return
        frozen, low = [], 0
        for i, Y in enumerate(self.Ys):
            if not isinstance(Y, LowRank):
                continue
            news, low = self._largest_news[low], low + 1
            rtol, atol, _, max_rank = method.options(i)
            s = to_host(svdvals(Y.S)).astype(float)
            theta = max(atol, rtol * float(np.linalg.norm(s)))
            full = Y.rank >= min(*Y.shape, *(() if max_rank is None else (max_rank,)))
            if not full and Y.rank == self._begun[i] and 0 < news < theta and s[-1] > 2 * theta:
                frozen.append((self.net._weighted.index(self.net._owners[i]), Y.rank, theta, news))
        if frozen and not isinstance(self.truncation, ParameterBudget):
            self._warned = True
            i, _, theta, news = frozen[0]
            remedy = (
                "take a smaller tolerance or a larger learning rate, or tie the tolerance to the learning rate: "
                "truncation=TiedTolerance(c)"
            )
            if isinstance(self.truncation, TiedTolerance):
                remedy = "take a smaller c of TiedTolerance"
            layers = ", ".join(f"{j} (rank {r})" for j, r, _, _ in frozen)
            warnings.warn(
                f"the ranks of weights {layers} cannot grow: what a step adds in new directions, at most {news:.1e} in "
                f"weight {i} in epoch {self.epoch}, is below the truncation tolerance {theta:.1e} and always "
                f"dropped. Start from a higher rank, or {remedy}",
                DlraWarning,
                stacklevel=6,
            )

    # ---- failures

    def _place(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self._sums.batches + 1}"

    def _failure(self, error: StageError, h: float) -> TrainingError:
        """The error for a failed step, with the layer where things went wrong."""
        where, why = "", error.reason
        if any(word in error.reason for word in ("NaN", "not finite", "infinite")):
            with np.errstate(all="ignore"):
                where = f" in {self.net._not_finite(self.batch.x, self.batch.y, self.loss)}"
        if "data" not in where:
            why += "; take a smaller learning rate, or look at the data"
        return TrainingError(
            f"training failed in {self._place()} (iteration {self.t}, learning rate {h:.3g}, ranks {self.net.ranks}), "
            f"stage {error.stage}{where}: {why}. The network keeps the weights of the last good step",
            self._failed(why),
        )

    def _stopped(self, why: str) -> TrainingError:
        """The error for a failure between steps."""
        return TrainingError(
            f"training stopped in {self._place()} (iteration {self.t}): {why}. The network has the weights of the last "
            "step",
            self._failed(why),
        )

    def _failed(self, why: str) -> History:
        self.history.status, self.history.message = -1, f"Failed in {self._place()}: {why}"
        self.history.steps, self.history.nfev = self.t, self._nfev
        return self.history

    # ---- checkpoints

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What must agree between a checkpoint and the training that resumes it."""
        return {
            "layers": [repr(type(layer).__name__) + repr(layer.config()) for layer in self.net.layers],
            "shapes": [list(Y.shape) for Y in self.Ys],
            "dtype": self.net.dtype,
            "library": library(self.net._like).partition(" ")[0],
            "loss": repr(self.loss),
            "optimizer": self.optimizer.identity(),
            "method": {str(e): _identity_of(m) for e, (m, _) in self._schedule.items()},
            "truncation": repr(self.truncation),
            "regularizer": None if self.regularizer is None else self.regularizer.identity(),
            "data": self.data.identity(),
            "patience": self.patience,
        }

    def _write_checkpoint(self) -> None:
        from dlra import _files

        assert self._clock is not None
        tree = {
            "identity": self._identity,
            "Ys": [portable(Y) for Y in self.Ys],
            "memory": {name: [portable([list(part) for part in m]) for m in ms] for name, ms in self.memory.items()},
            "t": self.t,
            "epoch": self.epoch,
            "order": self._order,
            "sums": list(dataclasses.astuple(self._sums)),
            "seconds": self._seconds,
            "nfev": self._nfev,
            "rng": self._rng_state,
            "history": self.history.to_dict(),
            "begun": list(self._begun),
            "news": list(self._largest_news),
            "warned": self._warned,
            "first_loss": self._first_loss,
            "best": [*self._best[:2], None if self._best[2] is None else [portable(Y) for Y in self._best[2]]],
        }  # fmt: skip
        try:
            _files.write(self._clock.path, "training", tree)
        except (OSError, TypeError) as error:
            self._clock = None  # do not try again on the way out
            raise TrainingError(
                f"the checkpoint in {self._place()} could not be written: {error}", self._failed(str(error))
            ) from error
        self._clock.written(self.t)
        self._written = (self.t, self.epoch)

    def _write_if_due(self) -> None:
        if self._clock is not None and self._clock.due(self.t):
            self._write_checkpoint()

    def _write_last(self) -> None:
        """Write the state in which the training ends, unless nothing was done or the file has it."""
        halfway = self._order is not None
        if self._clock is None or self.t == 0 or (halfway and not self.data.resumable):
            return
        if self._written != (self.t, self.epoch):
            self._write_checkpoint()

    def _restore(self, tree: dict[str, Any]) -> None:
        check_same_run(tree["identity"], self._identity)
        if self.epochs < tree["epoch"]:
            raise ValueError(
                f"epochs = {self.epochs}, but the checkpoint has done {tree['epoch']}; give as many, or drop resume"
            )
        like = self.net._like
        self.Ys = tuple(revived(Y, like) for Y in tree["Ys"])
        self.memory = {
            name: [Memory(*(tuple(part) for part in revived(m, like))) for m in memories]
            for name, memories in tree["memory"].items()
        }
        self.net._set(self.Ys)
        self.t, self.epoch, self._order = tree["t"], tree["epoch"], tree["order"]
        self._sums, self._seconds = Sums(*tree["sums"]), tree["seconds"]
        self.batch.nfev = self._nfev = tree["nfev"]
        self.rng.bit_generator.state = self._rng_state = tree["rng"]
        self.history = History.from_dict(self.net, tree["history"])
        self.history.status, self.history.message = 0, ""
        self._begun, self._largest_news = tuple(tree["begun"]), list(tree["news"])
        self._warned, self._first_loss = tree["warned"], tree["first_loss"]
        loss, at, Ys = tree["best"]
        self._best = (loss, at, None if Ys is None else tuple(revived(Y, like) for Y in Ys))


def _ranks(Ys: tuple[Any, ...]) -> tuple[int, ...]:
    """The rank of every low-rank member, 0 for the others."""
    return tuple(Y.rank if isinstance(Y, LowRank) else 0 for Y in Ys)


def checked_pair(net: Sequential, pair: Any, loss: Loss) -> tuple[Any, Any]:
    """Return validation data as a pair (x, y)."""
    try:
        x, y = pair
    except (TypeError, ValueError):
        raise TypeError(f"validation must be a pair (x, y), got {kind(pair)}") from None
    net.check_batch(x, y, loss, ("x of validation", "y of validation"))
    if not is_finite(x) or not is_finite(y):
        raise ValueError("validation contains NaN or infinite values")
    return x, y


def _checked_truncation(truncation: Any, net: Sequential) -> Any:
    if truncation is not None and not isinstance(truncation, (TiedTolerance, ParameterBudget)):
        raise TypeError(
            f"truncation must be TiedTolerance(c) or ParameterBudget(parameters), got {truncation!r}"
        )
    if truncation is not None and not any(isinstance(W, LowRank) for W in net.matrices):
        raise ValueError(
            f"truncation={truncation!r} needs low-rank weights, but this network trains none; give it a rank, "
            f"or convert it with nn.to_lowrank"
        )
    if isinstance(truncation, ParameterBudget):
        truncation.check([W.shape for W in net.matrices if isinstance(W, LowRank)])
    return truncation


def _checked_regularizer(regularizer: Any, net: Sequential) -> Any:
    if regularizer is None:
        return None
    from dlra.nn.composed import SVDConv2d, SVDLinear
    from dlra.nn.regularizers import Regularizer

    if not isinstance(regularizer, Regularizer):
        raise TypeError(
            f'regularizer must be a Regularizer of dlra.nn, e.g. Regularizer("nuclear", 1e-4), got {regularizer!r}'
        )
    regularizer.check([layer.shape for layer in net._weighted])
    if regularizer.orthogonality and not any(
        isinstance(layer, (SVDConv2d, SVDLinear)) for layer in net.layers
    ):
        raise ValueError(
            "orthogonality of the regularizer concerns layers in singular value form, which the network has none of: "
            "convert it with nn.to_svd, or leave orthogonality out"
        )
    return regularizer if regularizer.strength or regularizer.orthogonality else None


def _identity_of(method: Integrator) -> str:
    """The method without the optimiser in it, which is compared separately."""
    if hasattr(method, "substep"):
        method = dataclasses.replace(method, substep="auto")  # type: ignore[call-arg]
    return method.identity()
