"""dlra.plot.training: what the pictures of trainings show."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from dlra import nn

matplotlib = pytest.importorskip("matplotlib")
from dlra import plot  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error")


def made(epochs=3, weights=2, *, net=None, validation=True, accuracy=True, scale=1.0):
    """A history of so many epochs, with ranks that fall."""
    history = nn.History(net)
    for e in range(epochs):
        loss, right = scale * 2.0**-e, 1 - 0.5 * 2.0**-e
        ranks = tuple(max(2, 10 * (j + 1) - e) for j in range(weights))
        history.append(
            nn.Epoch(
                e + 1, loss, right if accuracy else math.nan, 1.1 * loss if validation else math.nan,
                0.9 * right if validation and accuracy else math.nan, ranks, 100 * sum(ranks), 0.1, 1.0,
            )
        )  # fmt: skip
    return history


def net_of(rank=3):
    return nn.mlp((20, 15, 10), rank, rng=0)


def drawn(figure):
    figure.canvas.draw()
    return figure


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def legend(axes):
    return [] if axes.get_legend() is None else [text.get_text() for text in axes.get_legend().get_texts()]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_four_panels_show_the_columns():
    history = made(net=net_of())
    figure = drawn(plot.training(history))
    loss, accuracy, ranks, parameters = figure.axes[:4]
    assert [ax.get_xlabel() for ax in figure.axes[:4]] == ["epoch"] * 4
    assert np.array_equal(lines(loss)["training"].get_xdata(), [1, 2, 3])
    assert np.array_equal(lines(loss)["training"].get_ydata(), history.loss)
    assert np.array_equal(lines(loss)["validation"].get_ydata(), history.validation_loss)
    assert np.allclose(lines(accuracy)["training"].get_ydata(), 100 * np.array(history.accuracy))
    assert np.allclose(lines(accuracy)["validation"].get_ydata(), 100 * np.array(history.validation_accuracy))
    assert [list(line.get_ydata()) for line in ranks.lines] == [[10, 9, 8], [20, 19, 18]]
    assert legend(ranks) == ["weight 1", "weight 2 (dense)"]
    assert list(parameters.lines[0].get_ydata()) == history.parameters
    assert ranks.get_ylim()[0] == parameters.get_ylim()[0] == 0


def test_compression_on_the_right_belongs_to_the_parameters_on_the_left():
    history = made(net=net_of())
    dense = 20 * 15 + 15 * 10
    axes = drawn(plot.training(history)).axes[3]
    (right,) = axes.child_axes
    assert right.get_ylabel() == "compression in %"
    for percent in (100, 0, -300):
        height = right.transData.transform((0, percent))[1]
        assert height == pytest.approx(axes.transData.transform((0, dense * (1 - percent / 100)))[1])


def test_without_a_network_there_is_no_compression():
    assert drawn(plot.training(made())).axes[3].child_axes == []


def test_validation_can_have_another_name():
    assert legend(plot.training(made(), validation="test").axes[0]) == ["training", "test"]


def test_what_is_unknown_is_left_out():
    figure = drawn(plot.training(made(validation=False, accuracy=False)))
    assert list(lines(figure.axes[0])) == ["training"]
    assert legend(figure.axes[0]) == []
    assert figure.axes[1].lines[:] == []
    assert texts(figure.axes[1]) == ["no accuracy is known"]


def test_gaps_where_single_values_are_unknown():
    history = made(4)
    history.validation_loss[1] = math.nan
    history.validation_loss[2] = math.inf
    y = lines(drawn(plot.training(history)).axes[0])["validation"].get_ydata()
    assert list(np.isfinite(y)) == [True, False, False, True]


def test_one_epoch_is_a_marker():
    figure = drawn(plot.training(made(1, net=net_of())))
    for axes in figure.axes[:4]:
        assert all(line.get_marker() == "o" for line in axes.lines)
        assert len(axes.lines) >= 1
        low, high = axes.get_xlim()
        assert [t for t in axes.get_xticks() if low <= t <= high] == [1]


@pytest.mark.parametrize(("epochs", "scale"), [(3, "linear"), (8, "log")])
def test_the_loss_is_logarithmic_where_it_spans_a_decade(epochs, scale):
    assert drawn(plot.training(made(epochs))).axes[0].get_yscale() == scale


def test_twenty_weights_have_a_scale_of_colours():
    figure = drawn(plot.training(made(40, 20)))
    ranks = figure.axes[2]
    assert len({tuple(line.get_color()) for line in ranks.lines}) == 20
    assert legend(ranks) == []
    (bar,) = [ax for ax in figure.axes if ax.get_ylabel() == "weight"]
    ticks = bar.get_yticks()
    assert all(float(t).is_integer() for t in ticks)
    boxes = [ax.get_window_extent() for ax in (ranks, bar, figure.axes[3])]
    assert boxes[0].x1 < boxes[1].x0 < boxes[1].x1 < boxes[2].x0


def test_names_of_weights_do_not_cover_the_lines():
    ranks = drawn(plot.training(made(5, 6))).axes[2]
    box = ranks.get_legend().get_window_extent()
    top = max(line.get_ydata().max() for line in ranks.lines)
    assert ranks.transData.transform((1, top))[1] < box.y0


def test_several_trainings_have_a_colour_each():
    pair = [made(net=net_of()), made(5, net=net_of(), scale=2.0)]
    figure = drawn(plot.training(pair, labels=["a", "b"]))
    loss, _, ranks, parameters = figure.axes[:4]
    assert list(lines(loss)) == ["a, training", "a, validation", "b, training", "b, validation"]
    colors = [line.get_color() for line in loss.lines]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    assert [line.get_linestyle() for line in loss.lines] == ["-", "--", "-", "--"]
    assert legend(ranks) == legend(parameters) == ["a", "b"]
    assert [line.get_color() for line in ranks.lines] == colors
    assert len(parameters.child_axes) == 1


def test_compression_is_left_out_where_the_networks_have_several_sizes():
    pair = [made(net=net_of()), made(net=nn.mlp((20, 10), rng=0))]
    assert drawn(plot.training(pair)).axes[3].child_axes == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ValueError, "no histories"),
        ((3,), TypeError, "History"),
        (([made(), 3],), TypeError, "History"),
        ((nn.History(None),), ValueError, "no epochs"),
        (([made(), nn.History(None)], ["a", "b"]), ValueError, "'b' has no epochs"),
        (([made(), made()], ["a"]), ValueError, "each of 2"),
        (([made(), made()], "ab"), TypeError, "labels"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.training(*arguments)


def test_history_plots_itself_and_the_picture_is_written(tmp_path):
    data = nn.datasets.digits()
    history = nn.train(
        nn.mlp((64, 20, 10), 8, rng=0), data.x_train, data.y_train, loss=nn.CrossEntropyLoss(), optimizer=nn.Adam(5e-3),
        method="augmented-bug", epochs=2, batch_size=128, validation=(data.x_test, data.y_test), rng=0,
    )  # fmt: skip
    before = dict(matplotlib.rcParams)
    plot.save(history.plot(), tmp_path / "a.png")
    assert os.path.getsize(tmp_path / "a.png") > 20_000
    assert dict(matplotlib.rcParams) == before


def test_no_display_is_needed():
    code = (
        "import sys; from dlra import nn, plot; h = nn.History(None);"
        "h.append(nn.Epoch(1, 1.0, 0.5, 1.0, 0.5, (3,), 10, 0.1, 1.0)); plot.training(h);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "DISPLAY": ""})
