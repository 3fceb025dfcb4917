"""Pictures of a :class:`~dlra.Solution`: rank, error budget, observables, singular values, the solution itself; of a
training: loss, accuracy, ranks, parameters; of a comparison of ways to small networks.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dlra import _axes as draw
from dlra import _comparison_panels as compared
from dlra import _panels as panels
from dlra.lowrank import LowRank
from dlra.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlra.compress import Comparison
    from dlra.nn import History, Sequential
    from dlra.problems import Problem

__all__ = [
    "accuracy_against_parameters",
    "error_budget",
    "observables",
    "overview",
    "rank",
    "retained_singular_values",
    "save",
    "singular_value_decay",
    "singular_values",
    "state",
    "training",
]

_MEMBERS = 9  # of a coupled system at most so many matrices are shown
_WEIGHTS = 12  # of a network at most so many weights are shown

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


def accuracy_against_parameters(comparison: Comparison) -> Figure:
    """Accuracy on the test data over the number of parameters, of all methods of a comparison.

    The left panel shows networks as they are truncated, the right one after fine-tuning; without that there is one
    panel. Low-rank training truncates while it trains. The dense networks before truncation are open
    markers; bars are one standard deviation over the seeds. The distance from 100 % is on a logarithmic axis.

    Parameters
    ----------
    comparison : Comparison
        What :func:`dlra.compress.compare` returns.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        A comparison without points.
    """
    from dlra.compress.comparison_results import Comparison

    if not isinstance(comparison, Comparison):
        raise TypeError(f"expected a dlra.compress.Comparison, got {type(comparison).__name__}")
    if not comparison.points:
        raise ValueError(
            f"the comparison has no points to show: {comparison.message or _first_failure(comparison)}"
        )
    tuned = any(point.accuracy_tuned is not None for point in comparison.points)
    with styled():
        figure = new_figure(10.0 if tuned else 6.4, 4.6)
        axes = figure.subplots(1, 2 if tuned else 1, squeeze=False, sharey=True)[0]
        for ax, of_tuned in zip(axes, (False, True), strict=False):
            compared.accuracies(ax, comparison, of_tuned)
        compared.accuracy_axis(axes)
        axes[0].set_ylabel("accuracy in %")
        if tuned:
            epochs = comparison.settings["fine_tune"]
            axes[0].set_title("truncated")
            axes[1].set_title(f"truncated and trained {epochs} epoch{'s' if epochs > 1 else ''} more")
        _common_legend(figure, axes)
    return figure


def retained_singular_values(curves: Comparison | Mapping[str, Any]) -> Figure:
    """The drop of accuracy, without further training, over the share of the singular values that are kept.

    Parameters
    ----------
    curves : Comparison or mapping
        Of a comparison the trainings, averaged over the seeds, truncated by its rule, but by gsvt where that is isvt;
        or name -> (shares, drops) or (shares, drops, standard deviations), all in percent.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        Nothing to show; columns of different lengths.
    """
    from dlra.compress.comparison_results import Comparison

    if isinstance(curves, Comparison):
        table = _drops(curves)
        places = [curves.methods.index(name) for name in table]
        rule = "lsvt" if curves.settings.get("rule") == "lsvt" else "gsvt"
    elif isinstance(curves, Mapping):
        table = {str(name): _checked_curve(str(name), curve) for name, curve in curves.items()}
        places, rule = range(len(table)), None
    else:
        raise TypeError(
            f"curves must be a dlra.compress.Comparison or a mapping, name -> (shares, drops), got "
            f"{type(curves).__name__}"
        )
    if not table:
        raise ValueError("curves: no method was truncated, there is nothing to show")
    with styled():
        figure = new_figure(6.4, 4.4)
        compared.drops(figure.subplots(), table, places, rule)
    return figure


def singular_value_decay(
    nets: Sequence[Sequential | Sequence[Any]], names: Sequence[str] | None = None
) -> Figure:
    """The singular values of each weight of several networks, divided by the largest, one panel a weight.

    Parameters
    ----------
    nets : sequence
        Networks, or lists with the descending singular values of each weight. Of more than 12 weights some are left
        out.
    names : sequence of str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        Neither networks nor lists of vectors; another number of names than of networks.
    """
    from dlra.compress.ranks import singular_values as values_of
    from dlra.nn.network import Sequential

    if isinstance(nets, (str, Sequential)) or not isinstance(nets, (list, tuple)) or not nets:
        raise TypeError(f"nets must be a list of networks or of lists of singular values, got {nets!r:.60}")
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence with one name per network, got {names!r}")
    labels = [str(i + 1) for i in range(len(nets))] if names is None else list(names)
    if len(labels) != len(nets):
        raise ValueError(f"names must name each of {len(nets)} networks, got {len(labels)}")
    spectra = [
        values_of(one) if isinstance(one, Sequential) else _checked_values(name, one)
        for one, name in zip(nets, labels, strict=True)
    ]
    count = max(map(len, spectra))
    shown = list(draw.thinned(count, _WEIGHTS))
    with styled():
        figure, axes = _grid(len(shown), width=3.2, height=2.5)
        for ax, j in zip(axes, shown, strict=True):
            compared.decay(ax, [s[j] if j < len(s) else None for s in spectra], labels, int(j))
        for ax in axes[:: 3 if len(shown) in (3, 5, 6, 9) else 2 if len(shown) == 4 else 4]:
            ax.set_ylabel(r"$\sigma_j / \sigma_1$")
        if len(spectra) > 1:
            _common_legend(figure, axes)
    return figure


def _first_failure(comparison: Comparison) -> str:
    failed = comparison.failures
    return f"{failed[0].method}: {failed[0].message}" if failed else "nothing was computed"


def _common_legend(figure: Any, axes: Any) -> None:
    """One legend below all axes."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=min(len(named), 6),
        handlelength=3.4,
    )


def _drops(comparison: Comparison) -> dict[str, tuple[Any, Any, Any]]:
    """Per method shares of the singular values, means and standard deviations of the drop, in percent."""
    table = {}
    for method in comparison.methods:
        found = [t for t in comparison.trainings if t.method == method and t.retained]
        if found:
            drops = np.asarray([[100 * (t.accuracy - a) for _, a in t.retained] for t in found])
            shares = 100 * np.asarray([share for share, _ in found[0].retained])
            spread = drops.std(axis=0, ddof=1) if len(found) > 1 else np.zeros(len(shares))
            table[method] = (shares, drops.mean(axis=0), spread)
    return table


def _checked_curve(name: str, curve: Any) -> tuple[Any, Any, Any]:
    if not isinstance(curve, (tuple, list)) or len(curve) not in (2, 3):
        raise TypeError(
            f"curves[{name!r}] must be (shares, drops) or (shares, drops, deviations), got {curve!r:.60}"
        )
    columns = [np.asarray(column, dtype=float) for column in curve]
    if any(c.ndim != 1 or len(c) != len(columns[0]) or not len(c) for c in columns):
        raise ValueError(
            f"curves[{name!r}] must have vectors of one length, at least 1, got shapes {[c.shape for c in columns]}"
        )
    if not (columns[0] > 0).all():
        raise ValueError(f"curves[{name!r}] must have positive shares, in percent, got {columns[0].min():g}")
    return columns[0], columns[1], columns[2] if len(columns) == 3 else np.zeros(len(columns[0]))


def _checked_values(name: str, lists: Any) -> list[Any]:
    if not isinstance(lists, (list, tuple)) or not lists:
        raise TypeError(
            f"nets: {name!r} must be a network or a list with the singular values of each weight, got {lists!r:.60}"
        )
    values = [np.asarray(s, dtype=float) for s in lists]
    for j, s in enumerate(values):
        if s.ndim != 1 or not len(s) or not (s >= 0).all() or (np.diff(s) > 0).any():
            raise ValueError(
                f"nets: weight {j} of {name!r} must be a vector of descending singular values, got shape {s.shape}"
            )
    return values


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
