"""What ``dlra compare`` does: check the arguments, compare; every error names the option."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlra._cli.settings import Settings, check_files
from dlra._cli.task import _limited_threads, _noted_warnings
from dlra._cli.training_settings import blamed, check_choice, flag_of, load_data
from dlra.errors import TrainingError

FILES = ("report.html", "results.json", "accuracy.png", "retained.png", "decay.png")
"""All that a comparison may write into its folder."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """The arguments of ``dlra compare``."""

    data_set: str
    net: str
    layers: str | None
    methods: str
    targets: str | None
    rule: str
    taus: str
    strength: list[str]
    keep_last: bool
    epochs: int
    fine_tune: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float
    seeds: str
    data: Path | None
    dtype: str
    threads: int | None
    out: Path
    json: str | None
    progress: bool
    quiet: bool
    debug: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a comparison."""

    task: Comparing
    comparison: Any
    seconds: float
    warnings: list[str]
    problems: list[Exception] = field(default_factory=list)
    """What ended the comparison before its end, or kept files from being written."""
    files: list[Path] = field(default_factory=list)
    """Those that were written."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.comparison.message.startswith("Interrupted")

    @property
    def empty(self) -> bool:
        """Whether there is nothing that an earlier comparison could be replaced by."""
        found = self.comparison
        return not (found.trainings or found.points or found.failures)

    @property
    def failure(self) -> Exception | None:
        """What is raised when all files are written."""
        if self.problems:
            return self.problems[0]
        failures = self.comparison.failures
        if not failures:
            return None
        first = failures[0]
        more = f"; {len(failures) - 1} more in the report" if len(failures) > 1 else ""
        return TrainingError(f"{first.method}, seed {first.seed}, {first.stage}: {first.message}{more}")


class Comparing:
    """``dlra compare``: everything is checked when it is made."""

    def __init__(self, settings: CompareSettings):
        from dlra import plot
        from dlra.compress.comparison import Run
        from dlra.nn import models

        self.settings = settings
        check_choice("--dtype", settings.dtype, ("float32", "float64"))
        check_choice("--net", settings.net, models.NAMES)
        if settings.layers is not None and settings.net != "mlp":
            raise ValueError(f"--layers goes with --net mlp only; {settings.net} is what it is")
        if settings.layers is None and settings.net == "mlp":
            raise ValueError("--net mlp needs --layers, the sizes of its hidden layers, e.g. 500,500")
        hidden = None if settings.layers is None else _numbers("--layers", settings.layers, int, "500,500")
        with blamed("--layers"):
            for size in hidden or ():
                if size < 1:
                    raise ValueError(f"every size must be at least 1, got {settings.layers!r}")
        plot.check_target("picture.png")
        check_files(Settings(problem="", json=settings.json))
        check_folder(settings.out)
        check_json(settings.json, settings.out)
        seeds = _numbers("--seeds", settings.seeds, int, "3 or 0,1,2")
        options: dict[str, Any] = {
            "targets": None
            if settings.targets is None
            else _numbers("--targets", settings.targets, float, "0.1,0.2"),
            "taus": _numbers("--taus", settings.taus, float, "0.1,0.2"),
            "strengths": _strengths(settings.strength),
            "seeds": seeds[0] if len(seeds) == 1 and "," not in settings.seeds else seeds,
        }
        data = load_data(
            settings.data_set, settings.data, flatten=settings.net != "lenet5", dtype=settings.dtype
        )
        image = tuple(data.x_train.shape[1:])
        if settings.net == "lenet5" and image != (1, 28, 28):
            raise ValueError(
                f"--net lenet5 takes images of 28 x 28 pixels, those of {settings.data_set} have "
                f"{image[1]} x {image[2]}"
            )
        self.counts = (len(data.y_train), len(data.y_test))

        def start(rng: Any) -> Any:
            return models.by_name(settings.net, image, hidden=hidden, dtype=settings.dtype, rng=rng)

        names = [name.strip() for name in settings.methods.split(",")]
        try:
            self.work = Run(
                data, start, names, epochs=settings.epochs, batch_size=settings.batch_size,
                optimizer=settings.optimizer, lr=settings.lr, weight_decay=settings.weight_decay, rule=settings.rule,
                keep_last=settings.keep_last, fine_tune=settings.fine_tune, callback=None, **options,
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise type(error)(_with_flag(str(error))) from error
        self.side = max(side for W in start(0).weights for side in W.shape)

    def run(self) -> Outcome:
        """Train, truncate, train on."""
        from dlra.nn._progress import Stages

        began = time.perf_counter()
        limited = _limited_threads(self.settings.threads, (self.side, self.side))
        bar = Stages(self.work.work) if self.settings.progress else contextlib.nullcontext()
        problems: list[Exception] = []
        with _noted_warnings() as noted, limited, bar as shown:
            try:
                self.work.run(shown)
            except Exception as error:  # what is done is written all the same
                problems.append(error)
        comparison = self.work.found
        texts = [*comparison.warnings, *noted]
        return Outcome(self, comparison, time.perf_counter() - began, texts, problems)


def check_folder(folder: Path) -> None:
    """Refuse a folder that could not be written to, or that holds something else.

    Raises
    ------
    OSError, ValueError
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder}: a file; give the path of a folder")
    if not folder.exists():
        if not folder.parent.is_dir():
            raise FileNotFoundError(f"--out {folder}: there is no directory {folder.parent}; create it first")
        if not os.access(folder.parent, os.W_OK):
            raise PermissionError(f"--out {folder}: {folder.parent} is not writable")
        return
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--out {folder}: not writable")
    for name in FILES:
        if (folder / name).is_dir():
            raise IsADirectoryError(f"--out {folder}: {name} in it is a directory; give another folder")
    if any(folder.iterdir()) and not _is_comparison(folder / "results.json"):
        raise ValueError(
            f"--out {folder}: not empty, and not a folder that 'dlra compare' has written; give another one"
        )


def check_json(path: str | None, folder: Path) -> None:
    """Refuse a file that the comparison writes into its folder, or that is its folder.

    Raises
    ------
    ValueError
    """
    if path in (None, "-"):
        return
    real = Path(path or "").resolve()
    if real in (folder.resolve(), *((folder / name).resolve() for name in FILES)):
        raise ValueError(
            f"--json {path}: --out {folder} writes there; give another file, or leave --json out: the folder has "
            "results.json anyway"
        )


def _is_comparison(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get("comparison"), dict)


def _numbers(flag: str, text: str, make: type, example: str) -> list[Any]:
    """Numbers separated by commas."""
    what = "whole numbers" if make is int else "numbers"
    try:
        return [make(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{flag} takes {what}, separated by commas, e.g. {example}, got {text!r}") from None


def _strengths(pairs: list[str]) -> dict[str, float]:
    """METHOD=NUMBER, several times."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            value = float(text) if equals else None
        except ValueError:
            value = None
        if value is None or not name:
            raise ValueError(f"--strength takes METHOD=NUMBER, e.g. nuclear=1e-4, got {pair!r}")
        if name in found:
            raise ValueError(f"--strength {name} is given twice")
        found[name] = value
    return found


_NAMED = re.compile(
    r"(?:an entry of )?"
    r"(methods|epochs|batch_size|optimizer|lr|weight_decay|targets|rule|taus|strengths|fine_tune|seeds)"
    r"\b(?:\['([a-z0-9-]+)'\])?"
)


def _with_flag(text: str) -> str:
    """The text of an error with the option in the place of the argument that it begins with."""
    found = _NAMED.match(text)
    if found is None:
        return text
    flag = "--strength" if found[1] == "strengths" else flag_of(found[1])
    return flag + (f" {found[2]}" if found[2] else "") + text[found.end() :]
