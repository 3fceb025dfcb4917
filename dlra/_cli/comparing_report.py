"""The results of ``dlra compare``: a summary to read, and a folder with a page, pictures and numbers.

results.json holds one object. Numbers that are not finite or not known are null.

=================== ====================================================================
data_set            name; images: their numbers for training and testing
network             its name, with the sizes of the hidden layers of an mlp
comparison          settings, trainings, points, failures, warnings, message: the attributes of
                    dlra.compress.Comparison, which its from_dict takes
rows                the points averaged over the seeds
seconds             wall time of all of it
warnings, files     texts; the files that belong to it
versions            dlra, python, numpy, scipy
=================== ====================================================================
"""

from __future__ import annotations

import base64
import io
import os
import secrets
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from dlra._cli.comparing import FILES, Outcome
from dlra._cli.report import _json, _seconds, versions
from dlra.compress.comparison_results import percent

_CAPTIONS = {
    "accuracy.png": "Accuracy on the test images over the number of parameters: better is up and to the left. The "
    "distance from 100 % is on a logarithmic axis. Open markers are the networks before truncation; bars are one "
    "standard deviation over the seeds. dlrt truncates while it trains and is the same in both panels.",
    "retained.png": "The drop of accuracy when so many of the singular values are kept, without further training: by "
    "the rule of the comparison, but by gsvt where that is isvt. The further to the left a curve leaves zero, the "
    "fewer large singular values the training has left.",
    "decay.png": "The singular values of each weight after training, divided by the largest; of the first seed.",
}


def write_files(outcome: Outcome) -> None:
    """Write the folder, and the JSON file asked for; ``-`` puts it on standard output.

    The numbers first, then the page and the pictures; what an earlier comparison has left goes last. What cannot be
    written is put into ``outcome.problems`` and does not keep the rest from being written; without the numbers the
    folder stays as it is. Of a comparison that was interrupted before it had done anything, nothing is written.
    """
    if outcome.empty:
        return
    folder, given = outcome.task.settings.out, outcome.task.settings.json
    text = _json(record(outcome))

    def numbers() -> None:
        folder.mkdir(exist_ok=True)
        _replace(folder / "results.json", text.encode())

    attempt = _Attempts(outcome)
    attempt(folder / "results.json", numbers)
    if given == "-":
        sys.stdout.write(text)
    elif given is not None:
        attempt(Path(given), lambda: _overwrite(Path(given), text))
    if folder / "results.json" not in outcome.files:
        return
    pictures: dict[str, bytes] = {}
    for name, draw in _pictures(outcome.comparison).items():
        attempt.drawing(name, lambda name=name, draw=draw: pictures.update({name: _png(draw)}))
    attempt(
        folder / "report.html", lambda: _replace(folder / "report.html", page(outcome, pictures).encode())
    )
    for name, png in pictures.items():
        attempt(folder / name, lambda name=name, png=png: _replace(folder / name, png))
    for path in (folder / name for name in FILES):
        if path not in outcome.files and path.is_file():
            attempt.removing(path)


class _Attempts:
    """Do one thing after the other; what fails is kept as a problem of the outcome."""

    def __init__(self, outcome: Outcome):
        self.outcome = outcome

    def __call__(self, path: Path, write: Callable[[], Any]) -> None:
        """Write a file."""
        if self._done(f"cannot write {path}", write):
            self.outcome.files.append(path)

    def drawing(self, name: str, draw: Callable[[], Any]) -> None:
        """Draw a picture."""
        self._done(f"cannot draw {name}", draw)

    def removing(self, path: Path) -> None:
        """Remove a file that another comparison has left."""
        self._done(f"cannot remove {path}, which an earlier comparison has left", path.unlink)

    def _done(self, what: str, do: Callable[[], Any]) -> bool:
        try:
            do()
        except OSError as error:
            self.outcome.problems.append(OSError(f"{what}: {error.strerror or error}"))
        except Exception as error:
            problem = RuntimeError(f"{what}: {type(error).__name__}: {error}")
            problem.__cause__ = error
            self.outcome.problems.append(problem)
        else:
            return True
        return False


def _replace(path: Path, data: bytes) -> None:
    """Write a file all at once: the earlier one stays where that fails."""
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _overwrite(path: Path, text: str) -> None:
    """Write a file, which may be a device."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        _replace(path, text.encode())


def _pictures(comparison: Any) -> dict[str, Callable[[], Any]]:
    """What draws the pictures that there are numbers for."""
    from dlra import plot

    drawn: dict[str, Callable[[], Any]] = {}
    if comparison.points:
        drawn["accuracy.png"] = lambda: plot.accuracy_against_parameters(comparison)
    if any(training.retained for training in comparison.trainings):
        drawn["retained.png"] = lambda: plot.retained_singular_values(comparison)
    shown: dict[str, Any] = {}
    for method in comparison.methods:
        found = [t for t in comparison.trainings if t.method == method]
        if found:
            one = next((t for t in found if t.tau == 0.1), found[0])
            shown[method if one.tau is None else f"{method}, tau {one.tau:g}"] = one.singular_values
    if shown:
        drawn["decay.png"] = lambda: plot.singular_value_decay(list(shown.values()), list(shown))
    return drawn


def _png(draw: Callable[[], Any]) -> bytes:
    from dlra import plot

    buffer, figure = io.BytesIO(), draw()
    with plot.styled():
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def record(outcome: Outcome) -> dict[str, Any]:
    """The object of results.json."""
    task, comparison = outcome.task, outcome.comparison
    return {
        "data_set": task.settings.data_set,
        "images": dict(zip(("training", "test"), task.counts, strict=True)),
        "network": _network(task.settings),
        "comparison": comparison.to_dict(),
        "rows": [row._asdict() for row in comparison.rows()],
        "seconds": outcome.seconds,
        "warnings": outcome.warnings,
        "files": _files(outcome),
        "versions": versions("numpy"),
    }


def _network(settings: Any) -> str:
    return settings.net if settings.layers is None else f"{settings.net} {settings.layers}"


def _files(outcome: Outcome) -> list[str]:
    settings = outcome.task.settings
    found = [str(settings.out / name) for name in (*FILES[:2], *_pictures(outcome.comparison))]
    return found + ([settings.json] if settings.json not in (None, "-") else [])


def summary(outcome: Outcome) -> str:
    """What the command prints."""
    comparison = outcome.comparison
    text = f"{_headline(outcome)}\n\n"
    text += "".join(f"  {line}\n" for line in comparison.table().splitlines())
    page = outcome.task.settings.out / "report.html"
    written = page if page in outcome.files else next(iter(outcome.files), None)
    end = "nothing was written" if written is None else f"wrote {written}"
    return text + f"\n  {_seconds(outcome.seconds).strip()}; {end}\n"


def _headline(outcome: Outcome) -> str:
    task, found = outcome.task, outcome.comparison.settings
    count = len(found["seeds"])
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    return (
        f"{task.settings.data_set}, {_network(task.settings)}: {found['parameters']} parameters, {found['flops']} "
        f"FLOPs; {task.counts[0]} images for training, {task.counts[1]} for testing, {seeds}"
    )


# ---- the page

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; }
.wide { overflow-x: auto; }
th, td { text-align: right; padding: .15rem .7rem .15rem 0; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { color: #555; font-weight: 600; vertical-align: bottom; } .l { text-align: left; }
tr.first td { border-top: 2px solid #bbb; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { color: #555; max-width: 60rem; }
@media print { table { font-size: 8px; } }
.bad { background: #fff1ec; border-left: 4px solid #D55E00; padding: .4rem .8rem; margin: .5rem 0; }
"""


def page(outcome: Outcome, pictures: dict[str, bytes]) -> str:
    """The report as one HTML page, with its pictures inside."""
    comparison, settings = outcome.comparison, outcome.task.settings
    title = f"Ways to a small network: {_network(settings)} on {settings.data_set}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(_headline(outcome))}.</p>", _footing(comparison)]
    if comparison.message:
        parts.append(f'<p class="bad">{escape(comparison.message)} What was done until then:</p>')
    for failure in comparison.failures:
        text = f"{failure.method}, seed {failure.seed}, {failure.stage}: {failure.message}"
        parts.append(f'<p class="bad">Failed: {escape(text)}</p>')
    parts += [f"<p>Warning: {escape(text)}</p>" for text in outcome.warnings]
    if not pictures:
        parts.append("<p>Nothing was finished: there are no pictures.</p>")
    parts += [_figure(name, png) for name, png in pictures.items() if name == "accuracy.png"]
    parts += ["<h2>Small networks</h2>", _points(comparison), "<h2>Trainings</h2>", _trainings(comparison)]
    others = [_figure(name, png) for name, png in pictures.items() if name != "accuracy.png"]
    if others:
        parts += ["<h2>Singular values</h2>", *others]
    parts += ["<h2>Settings</h2>", _settings(comparison), _versions(outcome)]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _footing(comparison: Any) -> str:
    found = comparison.settings
    more = found["fine_tune"]
    text = (
        f"All methods start from the same dense network, see the same batches, and train for "
        f"{_epochs(found['epochs'])} with {found['optimizer']}, whose learning rate falls from {found['lr']:g} to "
        f"zero. Low-rank training (dlrt) has its ranks from its tolerance tau, and needs a training for each; of the "
        f"others each trained network is truncated by {found['rule']} to shares of the parameters."
    )
    if more:
        text += f" Every network that results is then trained for {_epochs(more)} more, at the ranks it has."
    if found["keep_last"] and len(found["net"]) > 1:
        text += " The last weight stays dense in all of them."
    return f"<p>{escape(text)}</p>"


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"


def _figure(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(name)}">\n'
        f"<figcaption>{escape(_CAPTIONS[name])}</figcaption></figure>"
    )


def _points(comparison: Any) -> str:
    found, rows = comparison.settings, []
    for row in comparison.rows():
        shares = [percent(pair, "–") for pair in (row.accuracy_full, row.accuracy, row.accuracy_tuned)]
        rows.append(
            (
                row.method, row.setting, f"{row.parameters:,.0f}", f"{row.parameters / found['parameters']:.1%}",
                f"{row.flops:,.0f}", f"{row.flops / found['flops']:.1%}", *shares, _time(row.training_seconds),
                _time(row.seconds), " ".join(map(str, row.ranks)),
            )
        )  # fmt: skip
    head = (
        "method", "setting", "parameters", "of dense", "FLOPs", "of dense", "accuracy before", "truncated",
        "fine-tuned", "training s", "after it s", "ranks",
    )  # fmt: skip
    notes = "".join(f"\n<p>{escape(note)}</p>" for note in comparison.notes())
    return (_table(head, rows, left=(0, 11)) if rows else "<p>None.</p>") + notes


def _trainings(comparison: Any) -> str:
    rows = [
        (
            t.method, "" if t.tau is None else f"{t.tau:g}", str(t.seed), f"{t.loss:.4f}", f"{100 * t.accuracy:.2f}",
            f"{t.parameters:,}", _time(t.seconds), " ".join(f"{v:.3f}" for v in t.training_loss),
        )
        for t in sorted(comparison.trainings, key=lambda t: comparison.settings["methods"].index(t.method))
    ]  # fmt: skip
    head = (
        "method",
        "tau",
        "seed",
        "test loss",
        "test accuracy",
        "parameters",
        "seconds",
        "loss after each epoch",
    )
    return _table(head, rows, left=(0, 7)) if rows else "<p>None.</p>"


def _settings(comparison: Any) -> str:
    rows = [
        (name.replace("_", " "), ", ".join(map(_text, value.items() if isinstance(value, dict) else value)))
        if isinstance(value, (list, dict))
        else (name.replace("_", " "), _text(value))
        for name, value in comparison.settings.items()
        if name != "left_out"  # a note
    ]
    return _table(("setting", "value"), rows, left=(0, 1), grouped=False)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return f"{value[0]} {value[1]:g}" if isinstance(value, tuple) else str(value)


def _versions(outcome: Outcome) -> str:
    found = ", ".join(f"{name} {version}" for name, version in versions("numpy").items())
    return f"<p>{escape(found)}; all of it took {escape(_seconds(outcome.seconds).strip())}.</p>"


def _table(head: Any, rows: Any, left: tuple[int, ...], grouped: bool = True) -> str:
    """An HTML table; a line stands before each new value of the first column."""
    kinds = ['class="l"' if i in left else "" for i in range(len(head))]

    def line(cells: Any, tag: str, mark: str = "") -> str:
        inner = "".join(f"<{tag} {k}>{escape(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True))
        return f"<tr{mark}>{inner}</tr>".replace(" >", ">")

    lines, last = [line(head, "th")], None
    for row in rows:
        lines.append(line(row, "td", ' class="first"' if grouped and row[0] != last else ""))
        last = row[0]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _time(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"
