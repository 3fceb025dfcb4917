"""The panels of the pictures of a Solution and of a training, and the numbers in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlra import _axes as draw
from dlra.backend import to_host
from dlra.lowrank import LowRank
from dlra.solution import Solution

_POINTS = 2000  # at most so many stored states are evaluated for a line


# ---- numbers


def members(y: Any) -> list[tuple[str, Any]]:
    """The matrices of a state with their names: one without a name, or ``Y[0]``, ``Y[1]``, ..."""
    if isinstance(y, LowRank) and y.ndim == 3:
        raise TypeError(
            "the states are stacks, and a picture shows one matrix at a time: plot solution.member(i)"
        )
    return [(f"Y[{i}]", member) for i, member in enumerate(y)] if isinstance(y, list) else [("", y)]


def ranks(solution: Solution) -> np.ndarray:
    """Ranks, shape (states, members)."""
    return np.asarray(solution.rank).reshape(len(solution.t), -1)


def singular_values(member: Any) -> np.ndarray | None:
    """Singular values of a low-rank member on the host, None for an array."""
    if not isinstance(member, LowRank):
        return None
    return to_host(member.singular_values()).astype(float)


def spectra(solution: Solution) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Times, and per low-rank member its singular values at those times, shape (times, largest rank).

    From the stored states, or from the entries "singular_values" of the dicts that ``save`` returned; NaN
    beyond the rank. Without either there are no times.
    """
    index = draw.thinned(len(solution.t), 500)
    if solution.y:
        named = [name for name, member in members(solution.y[0]) if isinstance(member, LowRank)]
        rows = [
            [s for _, member in members(solution.y[i]) if (s := singular_values(member)) is not None]
            for i in index
        ]
    elif saved := _saved(solution, "singular_values"):
        named, rows = [""], [[np.asarray(saved[i], dtype=float)] for i in index]
    else:
        return np.zeros(0), []
    tables = []
    for j, name in enumerate(named):
        table = np.full((len(rows), max(len(row[j]) for row in rows)), np.nan)
        for i, row in enumerate(rows):
            table[i, : len(row[j])] = row[j]
        tables.append((name, table))
    return np.asarray(solution.t)[index], tables


def observed(solution: Solution, problem: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Times and observables: what ``save`` returned, or the problem's at the stored states; maybe nothing."""
    t = np.asarray(solution.t, dtype=float)
    if solution.saved and all(isinstance(entry, dict) for entry in solution.saved):
        names = [name for name, value in solution.saved[0].items() if _is_number(value)]
        series = {name: np.asarray(_saved(solution, name), dtype=float) for name in names}
        return t, {name: values for name, values in series.items() if len(values)}
    if solution.saved and all(_is_number(value) for value in solution.saved):
        return t, {"saved": np.asarray(solution.saved, dtype=float)}
    if problem is None or not solution.y:
        return t[:0], {}
    index = draw.thinned(len(t), _POINTS)
    return t[index], {
        name: np.asarray([function(t[i], solution.y[i]) for i in index], dtype=float)
        for name, function in problem.observables.items()
    }


def _saved(solution: Solution, name: str) -> list[Any]:
    """One entry of the dicts that ``save`` returned; empty where some lack it."""
    saved = solution.saved or []
    return [entry[name] for entry in saved] if all(isinstance(e, dict) and name in e for e in saved) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def low_rank_members(solution: Solution) -> list[tuple[str, np.ndarray]]:
    """Names and singular values of the low-rank members of the final state."""
    found = ((name, singular_values(member)) for name, member in members(solution.y_final))
    return [(name, s) for name, s in found if s is not None]


# ---- panels


def image(figure: Any, axes: Any, name: str, member: Any, t: float, problem: Any) -> None:
    """Draw a member of a state as an image."""
    fits = problem is not None and tuple(member.shape) == tuple(problem.shape)
    name = name or ("Y" if problem is None else problem.quantity)
    draw.image(figure, axes, member, name, t, problem if fits else None)


def rank(axes: Any, solution: Solution) -> None:
    """Draw the ranks over time."""
    table = ranks(solution)
    names = [f"Y[{i}]" for i in range(table.shape[1])]
    draw.lines(axes, solution.t, list(table.T), names, drawstyle="steps-post")
    axes.set(ylabel="rank", ylim=(0, 1.08 * table.max() + 0.5))
    axes.yaxis.set_major_locator(draw.integers())
    draw.time_axis(axes, solution.t)


def known_errors(solution: Solution) -> dict[str, np.ndarray]:
    """The parts of the error budget that are known and not zero throughout."""
    errors = solution.errors
    parts = {"time step": errors.time, "truncation": errors.truncation, "normal component": errors.normal}
    return {name: part for name, part in parts.items() if np.nansum(part) > 0}


def error_budget(axes: Any, solution: Solution) -> None:
    """Draw the error budget over time."""
    known = known_errors(solution)
    if not known:
        draw.message(axes, "error budget:\nno part is known and above zero")
        return
    draw.lines(axes, solution.t, list(known.values()), list(known), log=True, decades=10)
    axes.legend()
    axes.set_ylabel("accumulated error")
    draw.time_axis(axes, solution.t)


def final_values(axes: Any, solution: Solution) -> None:
    """Draw the singular values of the final state."""
    found = low_rank_members(solution)
    longest = max(len(s) for _, s in found)
    columns = [np.append(s, np.full(longest - len(s), np.nan)) for _, s in found]
    draw.lines(axes, np.arange(1, longest + 1), columns, [n for n, _ in found], log=True, marker="o")
    if axes.lines:
        axes.xaxis.set_major_locator(draw.integers())
        axes.set(xlabel="j", ylabel=rf"$\sigma_j$ at t = {solution.t_final:.6g}")


def values_over_time(axes: Any, t: np.ndarray, tables: list[tuple[str, np.ndarray]]) -> None:
    """Draw singular values over time: in the colours of a scale, or one colour per member of a system."""
    top = max(np.nanmax(table) for _, table in tables)
    if not top > 0:
        draw.message(axes, "singular values:\nall zero")
        return
    for i, (name, table) in enumerate(tables):
        count = table.shape[1]
        colors = draw.shades(count) if len(tables) == 1 else [draw.COLORS[i % len(draw.COLORS)]] * count
        for j, column in enumerate(np.where(table > 0, table, np.nan).T):
            (line,) = axes.plot(t, column, color=colors[j], lw=1.1, label=name if j == 0 else None)
            if len(tables) == 1 and j in (0, count - 1):
                _label_end(axes, line, rf"$\sigma_{{{j + 1}}}$")
    axes.set_yscale("log")
    draw.limit_decades(axes, top, 16)
    if len(tables) > 1:
        axes.legend(ncols=1 + len(tables) // 9)
    axes.set_ylabel("singular values")
    draw.time_axis(axes, t)


def _label_end(axes: Any, line: Any, text: str) -> None:
    """Write a name where a line ends."""
    x, y = line.get_data()
    known = np.flatnonzero(np.isfinite(y))
    if len(known):
        place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        axes.annotate(text, (x[known[-1]], y[known[-1]]), color=line.get_color(), **place)


# ---- panels of a training

_HANDLE = 3.4  # length of lines in legends: dashes show beside a marker


def training_loss(axes: Any, histories: Any, names: list[str], validation: str) -> None:
    """Draw the loss over the epochs, on a logarithmic axis where it spans a decade."""
    _both(axes, histories, names, ("loss", "validation_loss"), validation)
    values = np.concatenate([line.get_ydata() for line in axes.lines] or [np.ones(1)])
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > 10 * known.min():
        axes.set_yscale("log")
    axes.set_ylabel("loss")


def training_accuracy(axes: Any, histories: Any, names: list[str], validation: str) -> None:
    """Draw the accuracy over the epochs, in percent; R² where targets are numbers."""
    percent = all(h.classifies for h in histories)
    _both(axes, histories, names, ("accuracy", "validation_accuracy"), validation, 100.0 if percent else 1.0)
    axes.set_ylabel("accuracy in %" if percent else "R²")


def _both(
    axes: Any, histories: Any, names: list[str], columns: tuple[str, str], validation: str, scale: float = 1.0
) -> None:
    """Draw one quantity on training data (solid) and on validation data (dashed), where it is known."""
    single = len(histories) == 1
    for i, (history, name) in enumerate(zip(histories, names, strict=True)):
        for j, (column, data) in enumerate(zip(columns, ("training", validation), strict=True)):
            y = scale * np.asarray(getattr(history, column), dtype=float)
            if not np.isfinite(y).any():
                continue
            color = draw.COLORS[j] if single else draw.color(i, len(histories))
            draw.epochs(
                axes, history.epoch, y, data if single else f"{name}, {data}", color=color, ls=("-", "--")[j]
            )
    if not axes.lines:
        draw.message(axes, f"no {columns[0]} is known")
        return
    if len(axes.lines) > 1:
        axes.legend(ncols=1 + len(axes.lines) // 9, handlelength=_HANDLE)
    _epoch_axis(axes)


def training_ranks(axes: Any, histories: Any, names: list[str]) -> None:
    """Draw the rank of every weight over the epochs; of several trainings all in the colour of the training."""
    single = len(histories) == 1
    top = 0
    for i, (history, name) in enumerate(zip(histories, names, strict=True)):
        table = np.asarray(history.ranks, dtype=float)
        top, count = max(top, table.max()), table.shape[1]
        for j, column in enumerate(table.T):
            if single:
                look = {"color": draw.color(j, count), "ls": draw.dash(j)}
                label = f"weight {j + 1}{_dense_mark(history, j)}"
            else:
                look = {"color": draw.color(i, len(histories)), "ls": draw.dash(j), "lw": 1.2}
                label = name if j == 0 else None
            draw.epochs(axes, history.epoch, column, label, **look)
    axes.set(ylabel="rank", ylim=(0, 1.08 * top + 0.5))
    axes.yaxis.set_major_locator(draw.integers())
    count = len(histories[0].ranks[0]) if single else len(histories)
    if single and count > len(draw.COLORS):
        draw.scale_bar(axes, count, "weight")
    elif count > 1 or not single:
        axes.set_ylim(0, (1.08 + 0.09 * -(-count // 2)) * top + 0.5)  # room for the names
        axes.legend(loc="upper right", ncols=2, handlelength=_HANDLE)
    _epoch_axis(axes)


def _dense_mark(history: Any, j: int) -> str:
    weights = () if history.net is None else history.net.weights
    return " (dense)" if j < len(weights) and not isinstance(weights[j], LowRank) else ""


def training_parameters(axes: Any, histories: Any, names: list[str]) -> None:
    """Draw the parameters of all weights as they are evaluated, with the compression on the right."""
    for i, (history, name) in enumerate(zip(histories, names, strict=True)):
        y = np.asarray(history.parameters, dtype=float)
        draw.epochs(axes, history.epoch, y, name, color=draw.color(i, len(histories)))
    top = max(max(history.parameters) for history in histories)
    axes.set(ylabel="parameters of the weights", ylim=(0, 1.08 * top))
    axes.yaxis.set_major_formatter(draw.engineering())
    if len(histories) > 1:
        axes.legend()
    _epoch_axis(axes)
    dense = {0 if history.net is None else history.net.parameter_count("dense") for history in histories}
    if len(dense) == 1 and (count := dense.pop()):
        right = axes.secondary_yaxis(
            "right", functions=(lambda p: 100 * (1 - p / count), lambda c: count * (1 - c / 100))
        )
        right.set_ylabel("compression in %")
        right.spines[:].set_visible(False)


def _epoch_axis(axes: Any) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(draw.integers())
