"""The report of a run: JSON, plots, one HTML page, a table for the terminal, and the page of the documentation."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import math
import re
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from validation import pages, statements
from validation.benchmarks.machine import describe
from validation.checks import Check, Counterexample, Finding, Identity, Inequality, Result, Slope
from validation.mutants import MUTANTS
from validation.running import Run

__all__ = ["as_dict", "check_means", "console_table", "markdown", "write", "write_json"]

HERE = Path(__file__).parent


# ---- numbers


def number(x: float) -> str:
    """Two significant digits."""
    if math.isnan(x):
        return "-"
    if x == 0 or 1e-3 <= abs(x) < 1e4:
        return f"{x:.2g}" if abs(x) < 100 else f"{x:.0f}"
    return f"{x:.1e}"


def ratio(x: float) -> str:
    """A ratio, with three digits where they matter."""
    if math.isnan(x):
        return "-"
    return f"{x:.3f}" if 0.01 <= abs(x) < 100 else f"{x:.0e}"


def tightest(findings: Iterable[Finding]) -> Inequality | Counterexample | Identity | None:
    """The finding that stands for all in a table: the inequality or counterexample of the largest ratio that is not
    vacuous, else of the largest ratio; the worst identity where there is none."""
    kinds = [f for f in findings if not isinstance(f, Slope)]
    unequal = [f for f in kinds if f.kind != "identity"]
    telling = [f for f in unequal if not (isinstance(f, Inequality) and f.vacuous)]
    candidates = telling or unequal or kinds
    return max(candidates, key=lambda f: -math.inf if math.isnan(f.ratio) else f.ratio, default=None)


def slopes(findings: Iterable[Finding]) -> str:
    """Wanted and seen slopes: "2 (1.99 to 2.00)"; "≥ 1 (1.32)" for one-sided claims."""
    seen: dict[str, list[float]] = {}
    for f in findings:
        if isinstance(f, Slope):
            seen.setdefault(f"{'≥ ' if f.at_least else ''}{f.wanted:.3g}", []).append(f.seen)
    return ", ".join(f"{wanted} ({_range(values)})" for wanted, values in seen.items())


def _range(values: list[float]) -> str:
    low, high = (f"{x:.2f}" for x in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


SHOWN = 6
"""Findings that the page shows at once; the others unfold."""


def telling(findings: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """The findings in two parts: what is wrong, slopes, and the tightest of the others; and the rest."""
    if len(findings) <= SHOWN + 2:
        return findings, []
    first = [f for f in findings if not f.ok or isinstance(f, Slope)][: 2 * SHOWN]
    others = [f for f in findings if f not in first and not isinstance(f, Slope)]
    vacuous = [f for f in others if isinstance(f, Inequality) and f.vacuous]
    ranked = [f for f in others if f not in vacuous]
    ranked.sort(key=lambda f: -1.0 if math.isnan(f.ratio) else f.ratio, reverse=True)  # type: ignore[union-attr]
    chosen = ranked[:SHOWN] + vacuous[:2]
    shown = [f for f in findings if f in first or f in chosen]
    return shown, [f for f in findings if f not in shown]


def killed(result: Result) -> str:
    """How many of the mutants that it met a check kills."""
    met = [m for m in result.mutants if m.how != "raises"]
    return f"{len(result.kills)} of {len(met)}"


# ---- the whole as a tree


def as_dict(run: Run) -> dict[str, Any]:
    """The run as a tree of plain values."""
    return {
        "quick": run.quick,
        "complete": run.complete,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
        "seconds": round(run.seconds, 1),
        "with": {"dlra": dlra.__version__, "machine": describe()},
        "complaints": run.complaints(),
        "statements": [
            {"module": module, "checks": [_check(run, check) for check in several]}
            for module, several in run.wanted.items()
        ],
        "mutants": {
            name: {"description": MUTANTS[name].description, "killed_by": by}
            for name, by in run.killers().items()
        },
    }


def _check(run: Run, check: Check) -> dict[str, Any]:
    head = {"name": check.name, "title": check.title, "expected": check.expect}
    if check.adjusted:
        head["adjusted"] = check.adjusted
    if check.cannot_fail:
        head["cannot_fail"] = check.cannot_fail
    result = run.results.get(check.name)
    if result is None:
        return {**head, "verdict": None}
    return {
        **head,
        "verdict": result.verdict,
        "as_expected": run.as_expected(check),
        "reason": result.reason,
        "seconds": round(result.seconds, 2),
        "findings": [_finding(f) for f in result.findings],
        "mutants": [{"mutant": m.mutant, "how": m.how, "by": m.by} for m in result.mutants],
    }


def _finding(f: Finding) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": f.kind, "label": f.label, "ok": f.ok}
    if isinstance(f, Slope):
        return row | {"wanted": f.wanted, "seen": _plain(f.seen), "at_least": f.at_least, "x_name": f.x_name,
                      "y_name": f.y_name, "x": list(f.x), "y": [_plain(y) for y in f.y]}  # fmt: skip
    row |= {"left": _plain(f.left), "right": _plain(f.right), "ratio": _plain(f.ratio)}
    return row | {"vacuous": f.vacuous} if isinstance(f, Inequality) else row


def _plain(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


# ---- files


def write(run: Run, folder: Path, page: bool = True) -> None:
    """Write ``results.json``, and with ``page`` the plots and ``report.html``, each in one piece."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(run, folder / "results.json")
    if page:
        drawn = plots(run, folder / "plots")
        _replace(folder / "report.html", html(run, drawn))


def write_json(run: Run, path: Path) -> None:
    """Write the run as JSON."""
    _replace(path, json.dumps(as_dict(run), indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, content: str | bytes) -> None:
    """Write a file so that an interruption leaves the former one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    new.replace(path)


def plots(run: Run, folder: Path) -> dict[str, bytes]:
    """Draw the slopes of each check in one log-log picture; the pictures by name of the check.

    Pictures of an earlier run of other checks go. A picture that cannot be drawn is left out, and its check says so.
    """
    drawn = {}
    folder.mkdir(parents=True, exist_ok=True)
    for check in run.checks():
        result = run.results.get(check.name)
        lines = tuple(f for f in result.findings if isinstance(f, Slope)) if result else ()
        if lines:
            try:
                drawn[check.name] = picture = plot(lines)
            except Exception as error:
                assert result is not None
                result.reason = result.reason or f"no picture: {type(error).__name__}: {error}"
                continue
            _replace(folder / f"{check.name}.png", picture)
    for module in statements.modules():
        for check in statements.known(module):
            if check.name not in drawn:
                (folder / f"{check.name}.png").unlink(missing_ok=True)
    return drawn


@cache  # a page is written many times in a run
def plot(lines: tuple[Slope, ...]) -> bytes:
    """A PNG of slopes, each with a dashed line of the wanted slope; one panel for each pair of axes."""
    by_axes: dict[tuple[str, str], list[Slope]] = {}
    for line in lines:
        by_axes.setdefault((line.x_name, line.y_name), []).append(line)
    columns = min(len(by_axes), 2)
    rows = -(-len(by_axes) // columns)
    figure, axes = pages.figure(rows, columns, (7.6 * columns, 3.4 * rows))
    for spare in axes[len(by_axes) :]:
        spare.set_visible(False)
    for axis, ((x_name, y_name), group) in zip(axes, by_axes.items(), strict=False):
        values = []
        for i, line in enumerate(group):
            x, y = np.asarray(line.x), np.asarray(line.y)
            shown = np.isfinite(y) & (y > 0)
            if not shown.any():
                continue
            x, y = x[shown], y[shown]
            colour = pages.COLOURS[i % len(pages.COLOURS)]
            wanted = f"{'≥ ' if line.at_least else ''}{line.wanted:g}"
            axis.loglog(x, y, pages.MARKERS[i % len(pages.MARKERS)] + "-", color=colour, markersize=4, linewidth=1.2,
                        label=f"{line.label}: {line.seen:.2f} ({wanted})")  # fmt: skip
            guide = np.exp(np.mean(np.log(y))) * (x / np.exp(np.mean(np.log(x)))) ** line.wanted
            axis.loglog(x, guide, "--", color=colour, linewidth=0.8, alpha=0.7)
            values += [*y]
        axis.set_xlabel(x_name)
        axis.set_ylabel(y_name)
        xs = [x for line in group for x in line.x]
        pages.decades(axis.xaxis, min(xs), max(xs))
        if values:
            pages.decades(axis.yaxis, min(values), max(values))
        axis.grid(True, which="major", alpha=0.25)
        legend = axis.legend(fontsize=7, title="slope seen (wanted)", title_fontsize=7, loc="upper left",
                    bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def check_means(folder: Path, json_file: Path | None) -> None:
    """Complain before a run where its report could not be written.

    Raises
    ------
    ImportError, OSError
    """
    if importlib.util.find_spec("jinja2") is None:
        raise ImportError("the page needs jinja2: pip install --group validation (in a clone of dlra)")
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / "results.json", *([] if json_file is None else [json_file])):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(
                f"{path} is a folder, and the results are to be written to a file of this name"
            )
        probe = path.with_name(path.name + ".new")
        probe.write_text("")
        probe.unlink()


def html(run: Run, drawn: dict[str, bytes]) -> str:
    """The page, with its pictures inside."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "ratio": ratio, "prose": prose}
    images = {name: base64.b64encode(png).decode() for name, png in drawn.items()}
    killers = run.killers()
    return environment.get_template("report.html").render(
        run=run,
        mutants=MUTANTS,
        killers=killers,
        fates={name: {m.mutant: m.how for m in result.mutants} for name, result in run.results.items()},
        images=images,
        telling=telling,
        when=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.started)),
        version=dlra.__version__,
        machine=describe(),
        counts=counts(run),
        summary=summary(run),
        columns=COLUMNS,
        row=row,
        paper=statements.paper,
    )


def prose(text: str) -> Any:
    """A docstring as HTML: paragraphs, bold between double stars, code between backticks, indented blocks as is."""
    from markupsafe import Markup, escape

    lines = text.strip("\n").splitlines()
    indent = min((len(s) - len(s.lstrip()) for s in lines[1:] if s.strip()), default=0)
    lines = lines[:1] + [s[indent:] for s in lines[1:]]
    out = []
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        if all(s.startswith("    ") for s in block.splitlines()):
            body = escape("\n".join(s[4:] for s in block.splitlines()))
            out.append(f"<pre>{body}</pre>")
            continue
        words = str(escape(block))
        words = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", words, flags=re.S)
        words = re.sub(r"``?([^`]+)``?", r"<code>\1</code>", words)
        items = re.split(r"\n(?=[*-] )", words)
        if len(items) > 1 or words.startswith(("* ", "- ")):
            head = [] if words.startswith(("* ", "- ")) else [f"<p>{items.pop(0)}</p>"]
            out += [*head, "<ul>", *(f"<li>{item[2:]}</li>" for item in items), "</ul>"]
        else:
            out.append(f"<p>{words}</p>")
    return Markup("\n".join(out))


def counts(run: Run) -> dict[str, int]:
    """How often each verdict occurs."""
    found: dict[str, int] = {}
    for result in run.results.values():
        found[result.verdict] = found.get(result.verdict, 0) + 1
    return found


# ---- terminal and documentation

COLUMNS = (
    "check",
    "statement",
    "left side",
    "right side",
    "ratio",
    "slope wanted (seen)",
    "mutants killed",
    "verdict",
)


def row(run: Run, check: Check) -> list[str]:
    """A check as a row of the table."""
    result = run.results.get(check.name)
    if result is None:
        return [check.name, check.title, "", "", "", "", "", "not run"]
    f = tightest(result.findings)
    numbers = ["", "", ""] if f is None else [number(f.left), number(f.right), ratio(f.ratio)]
    mark = "" if run.as_expected(check) else " (!)"
    return [check.name, check.title, *numbers, slopes(result.findings), killed(result), result.verdict + mark]


def summary(run: Run) -> str:
    """Whether all is as recorded, in a sentence; empty where it is not, or not known yet."""
    if run.complaints() or not run.complete:
        return ""
    adjusted = sum(1 for check in run.checks() if check.adjusted)
    after = f" ({adjusted} of them after an adjustment, which the check tells)" if adjusted else ""
    noticed = ", and every broken variant is noticed by at least one check" if run.whole else ""
    return f"All verdicts are as recorded{after}{noticed}."


def console_table(run: Run) -> Any:
    """The table for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(
            name, no_wrap=name == "check", justify="right" if "side" in name or name == "ratio" else "left"
        )
    for check in run.checks():
        if check.name in run.results:
            table.add_row(*row(run, check), style=None if run.as_expected(check) else "bold red")
    return table


def markdown(run: Run) -> str:
    """The page of the documentation: verdicts, adjusted expectations, mutants."""
    parts = [
        "# Measured: verdicts on the statements",
        f"Written by `python -m validation --docs`{' (quick)' if run.quick else ''} on "
        f"{time.strftime('%Y-%m-%d', time.gmtime(run.started))}, {describe()}, "
        f"{run.seconds / 60:.0f} minutes. Left and right side are those of the tightest case that is not vacuous "
        f"(of an identity: its error and what it may be). Mutants are broken variants of the integrators: how many a "
        f"check notices, of those that it meets. What the statements mean: [theory](theory.md).",
        summary(run) or "\n".join(f"* Not as recorded: {text}" for text in run.complaints()) or "Not finished.",
    ]  # fmt: skip
    last = ""
    for module, several in run.wanted.items():
        if statements.paper(module) != last:
            last = statements.paper(module)
            parts.append(f"## {last}")
        head = several[0].statement.strip().splitlines()[0].rstrip(".")
        rows = [[f"`{check.name}`", *map(_cell, row(run, check)[1:])] for check in several]
        parts += [f"### {head}", f"`validation/statements/{module}.py`", pages.table(COLUMNS, rows)]
    changed = [c for c in run.checks() if c.adjusted]
    if changed:
        parts += [
            "## Expectations that were changed after a first result",
            "\n".join(f"* `{c.name}`: {c.adjusted}" for c in changed),
        ]
    blind = [c for c in run.checks() if c.cannot_fail]
    if blind:
        parts += ["## Checks that cannot fail", "They count for nothing.",
                  "\n".join(f"* `{c.name}`: {c.cannot_fail}" for c in blind)]  # fmt: skip
    parts += [
        "## Broken variants",
        "Each is injected from outside into the code that the checks call: that of dlra, but for the choice of the "
        "minibatches in the enumeration of paths.",
        pages.table(
            ["variant", "what is broken", "killed by"],
            [
                [name, _cell(MUTANTS[name].description), ", ".join(by) or "**none**"]
                for name, by in run.killers().items()
            ],
        ),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|*_<`])", r"\\\1", text)
