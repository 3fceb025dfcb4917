"""The results of ``dlra train``, ``evaluate`` and ``prune``: a summary to read, and the files asked for.

The JSON file holds one object. Numbers that are not finite or not known are null; what a command has
nothing to say about is left out.

=================== ====================================================================
data_set            name; images: their numbers for training, validation and testing
layers              the layers, as Python writes them
options             method (by epoch), truncation, optimizer, batch_size, epochs, seed, backend, device, dtype
history             epoch, loss, accuracy, validation_loss, validation_accuracy, ranks,
                    parameters, learning_rate, seconds: a list each, one entry per epoch
validation          what the columns of that name were computed on: "test" (for the record) or "validation"
networks            for each network (trained; before, truncated, retrained): loss and accuracy on the test images,
                    seconds to predict them, ranks, parameters and compression as evaluated, trained and stored
steps, nfev         steps, gradient evaluations
seconds             wall time of the training, with the looks at validation images
status, message     0 done, 1 stopped early, -1 failed; and why
warnings, files     texts; the other files written
versions            dlra, python, numpy, scipy and the array library
=================== ====================================================================
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
from typing import Any

from dlra._cli.report import _json, _seconds, versions
from dlra._cli.training import Outcome, Tested

_COLUMNS = (
    "epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "ranks", "parameters", "learning_rate",
    "seconds",
)  # fmt: skip
_USES = ("training", "validation", "test")
_PHASES = ("evaluation", "training", "stored")


def write_files(outcome: Outcome) -> None:
    """Write the files asked for; ``-`` puts JSON on standard output."""
    settings = outcome.task.settings
    if getattr(settings, "out", None) is not None:
        outcome.tested[-1].net.save(settings.out, about={"data_set": outcome.task.data_set})
    if _plotted(outcome):
        from dlra import plot

        figure = plot.training(outcome.history, validation=outcome.task.chosen_by)
        plot.save(figure, settings.plot)
    if settings.json == "-":
        sys.stdout.write(_json(record(outcome)))
    elif settings.json is not None:
        with open(settings.json, "w", encoding="utf-8") as file:
            file.write(_json(record(outcome)))


def record(outcome: Outcome) -> dict[str, Any]:
    """The object of the JSON file."""
    task, history = outcome.task, outcome.history
    found: dict[str, Any] = {
        "data_set": task.data_set,
        "images": {name: n for name, n in zip(_USES, task.counts, strict=True) if n},
        "layers": [repr(layer) for layer in outcome.tested[-1].net.layers],
        "networks": {tested.name: _numbers(tested) for tested in outcome.tested},
    }
    if history is not None:
        found |= {
            "options": _options(outcome),
            "history": {name: getattr(history, name) for name in _COLUMNS},
            "validation": task.chosen_by,
            "steps": history.steps,
            "nfev": history.nfev,
            "seconds": outcome.seconds,
            "status": history.status,
            "message": history.message,
        }
    return found | {
        "warnings": outcome.warnings,
        "files": _files(outcome),
        "versions": versions(task.settings.backend),
    }


def _numbers(tested: Tested) -> dict[str, Any]:
    net = tested.net
    return {
        "loss": tested.loss,
        "accuracy": tested.accuracy,
        "predict_seconds": tested.seconds,
        "ranks": list(net.ranks),
        "parameters": {phase: net.parameter_count(phase) for phase in ("dense", *_PHASES)},
        "compression": {phase: net.compression(phase) for phase in _PHASES},
    }


def _options(outcome: Outcome) -> dict[str, Any]:
    task, settings = outcome.task, outcome.task.settings
    return {
        "method": {str(epoch): repr(method) for epoch, method in task.methods.items()},
        "truncation": None if task.truncation is None else repr(task.truncation),
        "optimizer": task.optimizer.identity(),
        "batch_size": settings.batch_size,
        "epochs": task.trainer.epochs,
        "seed": settings.seed,
        "backend": settings.backend,
        "device": settings.device,
        "dtype": outcome.tested[-1].net.dtype,
    }


def summary(outcome: Outcome) -> str:
    """What the command prints."""
    task, net = outcome.task, outcome.tested[-1].net
    text = f"{task.data_set}: {_images(task)}\n\n"
    rows = [("network", f"{_shape(net)}, {net.dtype}, {_place(task.settings)}")]
    if outcome.history is not None:
        rows += _course(outcome)
    if len(outcome.tested) == 1:
        rows += _single(outcome.tested[0], task)
        text += _lines(rows) + "\n" + _counts(net)
    else:
        text += _lines(rows) + "\n" + _comparison(outcome.tested)
    files = _files(outcome)
    if files:
        text += "\n" + "".join(f"  {'wrote' if i == 0 else '':<14}{name}\n" for i, name in enumerate(files))
    return text


def _images(task: Any) -> str:
    train, held, test = task.counts
    size = " x ".join(map(str, task.image)) if len(task.image) > 1 else f"{task.image[0]} pixels"
    uses = [(train, "for training"), (held, "for validation"), (test, "for testing")]
    return ", ".join(f"{count} {use}" for count, use in uses if count) + f"; images of {size}"


def _shape(net: Any) -> str:
    """The sizes of a network: inputs and outputs of its weights, or their shapes."""
    shapes = [tuple(W.shape) for W in net.weights]
    chained = all(m == n for (m, _), (_, n) in itertools.pairwise(shapes))
    if chained:
        return "-".join(map(str, (shapes[0][1], *(m for m, _ in shapes))))
    return "weights " + ", ".join(f"{m} x {n}" for m, n in shapes)


def _place(settings: Any) -> str:
    return settings.backend if settings.device is None else f"{settings.backend} on {settings.device}"


def _course(outcome: Outcome) -> list[tuple[str, str]]:
    """How the training went."""
    task, history = outcome.task, outcome.history
    methods = [
        f"{method!r}{'' if epoch == 0 else f' after epoch {epoch}'}" for epoch, method in task.methods.items()
    ]
    if task.truncation is not None:
        methods.append(repr(task.truncation))
    rows = [
        ("method", ", ".join(methods)),
        ("optimiser", f"{_brief(task.optimizer)}, batches of {task.settings.batch_size}"),
        ("result", "failed, see below" if outcome.failure is not None else history.message),
    ]
    each = history.nfev / history.steps if history.steps else 0.0
    text = f"{history.steps} steps, {each:.3g} gradient evaluation{'' if each == 1 else 's'} each"
    if history.seconds:
        text += f", {_seconds(statistics.median(history.seconds))} an epoch, {_seconds(outcome.seconds)}"
    rows.append(("training", text))
    if history.loss:
        rows.append(
            ("", f"loss {history.loss[-1]:.4f}, accuracy {history.accuracy[-1]:.2%} in the last epoch")
        )
        if task.chosen_by == "validation" and history.best_epoch is not None:
            best = history.best_epoch - 1
            rows.append(
                (
                    "validation",
                    f"loss {history.validation_loss[best]:.4f}, accuracy {history.validation_accuracy[best]:.2%} "
                    f"after epoch {best + 1}, the best",
                )
            )
    return rows


def _brief(optimizer: Any) -> str:
    """The optimiser with its learning rate and the options that are not the default."""
    shown = [
        f"{f.name}={getattr(optimizer, f.name)!r}"
        for f in dataclasses.fields(optimizer)
        if f.name == "lr" or getattr(optimizer, f.name) != f.default
    ]
    return f"{type(optimizer).__name__}({', '.join(shown)})"


def _single(tested: Tested, task: Any) -> list[tuple[str, str]]:
    ranks = _text(tested.net.ranks)
    start = getattr(task, "start_ranks", None)
    if start is not None and start != tested.net.ranks:
        ranks += f" (at the start {_text(start)})"
    images = task.counts[2]
    return [
        (
            "test",
            f"loss {tested.loss:.4f}, accuracy {tested.accuracy:.2%}, {images} predictions in {tested.seconds:.2g} s",
        ),
        ("ranks", ranks),
    ]


def _counts(net: Any) -> str:
    """Parameters and compression of one network."""
    text = f"  {'parameters':<14}{'number':>12}{'compression':>14}\n"
    text += f"  {'dense':<14}{net.parameter_count('dense'):>12}\n"
    for phase in ("evaluation", "training"):
        text += f"  {phase:<14}{net.parameter_count(phase):>12}{net.compression(phase):>14.1%}\n"
    return text


def _comparison(tested: list[Tested]) -> str:
    """A row per network."""
    text = (
        f"  {'':<14}{'loss':>8}{'accuracy':>10}{'parameters':>12}{'compression':>13}{'predict':>12}  ranks\n"
    )
    for one in tested:
        predicted = f"{one.seconds:.2g} s"
        text += (
            f"  {one.name:<14}{one.loss:>8.4f}{one.accuracy:>10.2%}{one.net.parameter_count():>12}"
            f"{one.net.compression():>13.1%}{predicted:>12}  {_text(one.net.ranks)}\n"
        )
    return text


def _text(ranks: tuple[int, ...]) -> str:
    return " ".join(map(str, ranks))


def _lines(rows: list[tuple[str, str]]) -> str:
    return "".join(f"  {name:<14}{value}\n" for name, value in rows)


def _plotted(outcome: Outcome) -> bool:
    history = outcome.history
    return getattr(outcome.task.settings, "plot", None) is not None and bool(
        history is not None and history.epoch
    )


def _files(outcome: Outcome) -> list[str]:
    settings = outcome.task.settings
    given = [getattr(settings, "out", None), settings.plot if _plotted(outcome) else None]
    given += [settings.json, getattr(settings, "checkpoint", None)]
    return [str(path) for path in given if path is not None and path != "-"]
