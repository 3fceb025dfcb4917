"""Pictures of a :class:`~dlra.Solution`: rank, error budget, observables, singular values, the solution itself; of a
training: loss, accuracy, ranks, parameters.

Each function returns a :class:`matplotlib.figure.Figure`; nothing is shown and nothing global is touched, so
they work without a display. Needs matplotlib: ``pip install "dlra[plot]"``.

Examples
--------
>>> import dlra
>>> from dlra import problems
>>> problem = problems.rotation(n=20)
>>> solution = dlra.solve(problem.F, problem.t_span, problem.Y0(5), dt=0.05)
>>> figure = dlra.plot.overview(solution, problem)
>>> dlra.plot.save(figure, "rotation.png")  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dlra import _axes as draw
from dlra import _panels as panels
from dlra.lowrank import LowRank
from dlra.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlra.nn import History
    from dlra.problems import Problem

__all__ = ["error_budget", "observables", "overview", "rank", "save", "singular_values", "state", "training"]

_MEMBERS = 9  # of a coupled system at most so many matrices are shown

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _styled(function: _Function) -> _Function:
    """Check the argument and apply the common style while the figure is made."""

    @functools.wraps(function)
    def make(solution: Solution, *args: Any, **options: Any) -> Any:
        if not isinstance(solution, Solution):
            raise TypeError(f"expected a dlra.Solution, got {type(solution).__name__}")
        with styled():
            return function(solution, *args, **options)

    return make  # type: ignore[return-value]


@_styled
def rank(solution: Solution, problem: Problem | None = None) -> Figure:
    """Rank over time; one line per member of a coupled system.

    Parameters
    ----------
    solution : Solution
    problem : Problem, optional
        Not needed; accepted so that all functions of this module are called alike.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        A solution without stored times.
    """
    _check_times(solution)
    figure = new_figure(5.6, 3.6)
    panels.rank(figure.subplots(), solution)
    return figure


@_styled
def error_budget(solution: Solution, problem: Problem | None = None) -> Figure:
    """The error budget over time, summed since the start: time step, truncation, normal component.

    Parts that are unknown (NaN) are left out: that of the time steps where their length is fixed, and the
    normal component where the method does not see it.

    Parameters
    ----------
    solution : Solution
    problem : Problem, optional
        Not needed.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        A solution without stored times.
    """
    _check_times(solution)
    figure = new_figure(5.6, 3.6)
    panels.error_budget(figure.subplots(), solution)
    return figure


@_styled
def observables(
    solution: Solution, problem: Problem | None = None, names: Iterable[str] | None = None
) -> Figure:
    """Observables over time, one panel each.

    What hardly changes (by less than 1e-3) is shown as its change relative to the start; what is positive and
    spans two decades on a logarithmic axis.

    Parameters
    ----------
    solution : Solution
        With stored states, or one whose ``save`` returned numbers or dicts of numbers: these are shown then.
    problem : Problem, optional
        Whose observables are computed at the stored states (2000 of them, where there are more).
    names : iterable of str, optional
        Which ones; all by default.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        Neither stored states with a problem nor saved dicts; an unknown name.
    """
    t, values = panels.observed(solution, problem)
    if not values:
        raise ValueError(
            "no observables: give the problem and a solution with stored states, or a solution whose save returned "
            "dicts of numbers, e.g. save=lambda s: {'norm': s.y.norm()}"
        )
    chosen = list(values) if names is None else list(names)
    for name in chosen:
        if name not in values:
            raise ValueError(f"no observable {name!r}; there are {', '.join(values)}")
    figure, axes = _grid(len(chosen))
    for ax, name in zip(axes, chosen, strict=True):
        draw.quantity(ax, t, values[name], name)
    return figure


@_styled
def singular_values(solution: Solution, problem: Problem | None = None) -> Figure:
    """Singular values: of the final state, and over the stored states.

    Parameters
    ----------
    solution : Solution
        Where no states are stored the second panel is left out, unless ``save`` returned dicts with an entry
        "singular_values".
    problem : Problem, optional
        Not needed.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        A system without a low-rank member.
    """
    if not panels.low_rank_members(solution):
        raise ValueError("no singular values: the solution has no low-rank member")
    t, tables = panels.spectra(solution)
    figure = new_figure(5.6 if len(t) < 2 else 10.0, 3.8)
    axes = figure.subplots(1, 1 if len(t) < 2 else 2, squeeze=False)[0]
    panels.final_values(axes[0], solution)
    if len(t) > 1:
        panels.values_over_time(axes[1], t, tables)
    return figure


@_styled
def state(solution: Solution, problem: Problem | None = None, index: int | None = None) -> Figure:
    """A state as an image, over the coordinates of the problem (the phase space, for Vlasov-Poisson).

    Complex entries are shown by their modulus. Of more than 1000 rows or columns some are left out; the
    matrix is not formed.

    Parameters
    ----------
    solution : Solution
    problem : Problem, optional
        Gives coordinates and names; rows and columns are numbered without.
    index : int, optional
        Of the stored state, negative from the end; the final state by default.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError, IndexError
        An index where no states are stored, or beyond them.
    """
    t, y = solution.t_final, solution.y_final
    if index is not None:
        if not solution.y:
            raise ValueError("no stored states to take one from: leave index out for the final state")
        if not -len(solution.y) <= index < len(solution.y):
            raise IndexError(f"index {index} of {len(solution.y)} stored states")
        t, y = float(solution.t[index]), solution.y[index]
    found = panels.members(y)
    shown = found[:_MEMBERS]
    figure, axes = _grid(len(shown), width=5.0, height=4.0)
    for ax, (name, member) in zip(axes, shown, strict=True):
        panels.image(figure, ax, name, member, t, problem)
    if len(found) > len(shown):
        figure.suptitle(f"the first {len(shown)} of {len(found)} matrices")
    return figure


@_styled
def overview(solution: Solution, problem: Problem | None = None) -> Figure:
    """All of it in one picture: the final state, singular values, rank, error budget, observables.

    Panels that the solution has no data for are left out.

    Parameters
    ----------
    solution : Solution
    problem : Problem, optional
        Gives coordinates, names and observables.

    Returns
    -------
    Figure
    """
    parts: list[Callable[[Any, Any], None]] = []
    name, member = next(
        (pair for pair in panels.members(solution.y_final) if isinstance(pair[1], LowRank)),
        panels.members(solution.y_final)[0],
    )

    def final(figure: Any, ax: Any) -> None:
        panels.image(figure, ax, name, member, solution.t_final, problem)

    parts.append(final)
    if panels.low_rank_members(solution):
        parts.append(lambda figure, ax: panels.final_values(ax, solution))
        times, tables = panels.spectra(solution)
        if len(times) > 1:
            parts.append(lambda figure, ax: panels.values_over_time(ax, times, tables))
    if len(solution.t):
        parts.append(lambda figure, ax: panels.rank(ax, solution))
        if panels.known_errors(solution):
            parts.append(lambda figure, ax: panels.error_budget(ax, solution))
    t, values = panels.observed(solution, problem)
    for key, series in values.items():
        parts.append(lambda figure, ax, key=key, series=series: draw.quantity(ax, t, series, key))

    figure, axes = _grid(len(parts))
    for ax, part in zip(axes, parts, strict=True):
        part(figure, ax)
    title = problem.description if problem is not None else ""
    figure.suptitle("\n".join(filter(None, (title, solution.method))))
    return figure


def training(
    history: History | Sequence[History],
    labels: Sequence[str] | None = None,
    *,
    validation: str = "validation",
) -> Figure:
    """A training over its epochs: loss, accuracy, the ranks of all weights, parameters and compression.

    What is unknown (NaN) is left out: the accuracy where targets are numbers, the second lines without validation data.
    Of several trainings each has one colour.

    Parameters
    ----------
    history : History, or a sequence of them
    labels : sequence of str, optional
        Names of several trainings.
    validation : str
        What the validation data are called, for example "test".

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        A history without epochs; another number of labels than of histories.
    """
    from dlra.nn.history import History

    histories = [history] if isinstance(history, History) else history
    if not isinstance(histories, (list, tuple)) or not all(isinstance(h, History) for h in histories):
        raise TypeError(
            f"expected a dlra.nn.History or a list of them, got {history!r:.60} ({type(history).__name__})"
        )
    if not histories:
        raise ValueError("no histories to show")
    if isinstance(labels, str):
        raise TypeError(f"labels must be a sequence with one name per history, got {labels!r}")
    names = list(labels) if labels is not None else [str(i + 1) for i in range(len(histories))]
    if len(names) != len(histories):
        raise ValueError(f"labels must name each of {len(histories)} histories, got {len(names)}")
    for name, one in zip(names, histories, strict=True):
        if not one.epoch:
            which = f" {name!r}" if len(histories) > 1 else ""
            raise ValueError(f"the history{which} has no epochs: {one.message or 'nothing was trained'}")
    with styled():
        figure, axes = _grid(4, width=4.9, height=3.3)
        panels.training_loss(axes[0], histories, names, validation)
        panels.training_accuracy(axes[1], histories, names, validation)
        panels.training_ranks(axes[2], histories, names)
        panels.training_parameters(axes[3], histories, names)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file; the suffix (png, pdf, svg) chooses the format.

    Raises
    ------
    ValueError
        A suffix that matplotlib does not know.
    OSError
        The directory does not exist, or cannot be written to.
    """
    check_target(path)
    with styled():
        figure.savefig(path, format=Path(path).suffix[1:].lower())


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise the error that :func:`save` would raise for this name, before there is anything to lose."""
    _matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    suffix, known = Path(path).suffix[1:].lower(), FigureCanvasBase.get_supported_filetypes()
    if suffix not in known:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(sorted(known))}, got {suffix!r}")


def styled() -> Any:
    """The context in which all pictures are made: matplotlib with the common style, restored afterwards."""
    return _matplotlib().rc_context(draw.style())


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ImportError('dlra.plot needs matplotlib: pip install "dlra[plot]"') from None
    return matplotlib


def new_figure(width: float, height: float) -> Any:
    """An empty figure, of so many inches, that knows no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    FigureCanvasAgg(figure)
    return figure


def _grid(count: int, width: float = 4.0, height: float = 3.1) -> tuple[Any, list[Any]]:
    """A figure with ``count`` axes in rows of at most four (three, where that leaves no gap)."""
    columns = min(count, 3 if count in (3, 5, 6, 9) else 2 if count == 4 else 4)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows + 0.4)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _check_times(solution: Solution) -> None:
    if len(solution.t) == 0:
        raise ValueError("the solution has no stored times: it failed before the first time of t_eval")
