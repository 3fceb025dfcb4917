"""The pictures of ``dlra demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlra import _axes as draw
from dlra import _panels as panels
from dlra import plot
from dlra.backend import to_host
from dlra.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlra.demo import Landau, Steel


def landau_wave(landau: Landau) -> Figure:
    """The perturbation in phase space at three times, and the amplitude of the field with the fitted decay."""
    from dlra.demo import FREQUENCY, RATE

    with plot.styled():
        figure = plot.new_figure(10.0, 6.4)
        upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1))
        last = len(landau.stored.t) - 1
        chosen = [0, last // 2, last]
        axes = upper.subplots(1, 3, sharey=True)
        upper.suptitle("density of electrons, less its mean over x")
        shown = None
        waves = [_perturbation(landau.stored.y[i]) for i in chosen]
        top = max(np.abs(wave).max() for wave in waves)
        x, v = landau.problem.x, landau.problem.y
        for ax, i, wave in zip(axes, chosen, waves, strict=True):
            extent = (x[0], x[-1] + x[1] - x[0], v[0], v[-1])
            shown = ax.imshow(
                wave.T, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-top, vmax=top,
                interpolation="bilinear",
            )  # fmt: skip
            ax.set(title=f"t = {landau.stored.t[i]:g}", xlabel="x (Debye lengths)", ylim=(-4, 4))
            ax.set_xticks(range(0, 13, 4))
            ax.grid(False)
        axes[0].set_ylabel("v (thermal velocities)")
        bar = upper.colorbar(shown, ax=axes, aspect=15, pad=0.02)
        bar.formatter.set_powerlimits((0, 0))

        ax = lower.subplots()
        t, field = landau.series.t, landau.observable("electric_field")
        ax.semilogy(t, field, color=draw.BLUE, label="electric field, amplitude |E|")
        rate, frequency = landau.fit
        decay = np.exp(rate * t)
        settled = t >= 0.1 * t[-1]
        height = (field / decay)[settled].max()
        label = (
            f"fitted decay: rate {rate:.5f}, frequency {frequency:.5f} (theory: {RATE:.5f}, {FREQUENCY:.5f})"
        )
        ax.semilogy(t, height * decay, color=draw.ORANGE, ls="--", label=label.replace("-", "\N{MINUS SIGN}"))
        ax.set(xlabel="time (inverse plasma frequencies)", ylabel="|E|", xlim=(0, t[-1]))
        ax.set_ylim(top=8 * field.max())
        ax.legend(loc="upper right")
    return figure


def steel(steel: Steel) -> Figure:
    """Rank over time, covariance of the outputs, error against the exact solution, singular values."""
    with plot.styled():
        figure = plot.new_figure(10.0, 6.6)
        (rank, outputs), (error, values) = figure.subplots(2, 2)
        t, tolerance = steel.series.t, rf"$10^{{{round(np.log10(steel.tolerance))}}}$"
        rank.step(t[1:], steel.series.rank[1:], where="post", color=draw.BLUE)
        rank.set(ylabel="rank of P", ylim=(0, None), title=f"rank for a tolerance of {tolerance}")

        times = steel.stored.t[1:]
        assert steel.problem.output is not None
        variances = np.asarray([np.diagonal(steel.problem.output(P)) for P in steel.stored.y[1:]])
        for i, column in enumerate(variances.T):
            outputs.loglog(
                times, column, color=draw.COLORS[i], ls=("-", "--")[i % 2], label=f"output {i + 1}"
            )
        outputs.set(ylabel="variance", title="diagonal of the output covariance C P Cᵀ")
        outputs.legend(ncols=2)

        error.loglog(times, steel.errors[1:], "o-", color=draw.BLUE, label="computed P")
        error.axhline(steel.tolerance, color=draw.ORANGE, ls="--", label=f"tolerance {tolerance}")
        error.set(ylabel="relative error", title="distance from the exact solution")
        error.set_ylim(0.1 * steel.tolerance, 10 * max(steel.tolerance, steel.errors[1:].max()))
        error.legend()

        j = np.arange(1, len(steel.exact) + 1)
        values.semilogy(j, steel.exact, color=draw.ORANGE, label="exact")
        computed = to_host(steel.stored.y_final.singular_values())
        values.semilogy(j[: len(computed)], computed, "o", color=draw.BLUE, ms=3, label="computed")
        values.set(
            xlabel="j", ylabel=r"$\sigma_j$", xlim=(0, 100), ylim=(1e-9 * steel.exact[0], 3 * steel.exact[0]),
            title=f"singular values of P at t = {steel.stored.t_final:g} s",
        )  # fmt: skip
        values.legend()
        for ax in (rank, outputs, error):
            ax.set(xlabel="time (s)", xscale="log")
    return figure


def numerics(series: Solution, time: str = "t") -> Figure:
    """Rank, error budget and singular values over time."""
    with plot.styled():
        figure = plot.new_figure(12.0, 3.6)
        axes = figure.subplots(1, 3)
        panels.rank(axes[0], series)
        panels.error_budget(axes[1], series)
        panels.values_over_time(axes[2], *panels.spectra(series))
        for ax in axes:
            ax.set_xlabel(time)
    return figure


def _perturbation(f: Any) -> np.ndarray:
    """F minus its mean over the rows, from the factors."""
    U, S, V = (to_host(factor) for factor in f.factors)
    return (U - U.mean(axis=0)) @ S @ V.T
