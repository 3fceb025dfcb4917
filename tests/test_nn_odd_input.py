"""Odd input to networks and trainings: it works, or says what is wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from nn_helpers import labelled, members, network

import dlra
from dlra import DlraWarning, TrainingError, nn

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def problem(rows=40):
    x, y = labelled(np.random.default_rng(0), rows, 6, 3)
    return network((6, 5, 3), (4, None)), x, y


def train(net, x, y, **options):
    given = {
        "loss": CE,
        "optimizer": nn.SGD(0.05),
        "method": dlra.AugmentedBUG(rtol=0.01),
        "epochs": 2,
        "rng": 0,
    }
    given |= {} if y is None else {"batch_size": 10}
    return nn.train(net, x, y, **given | options)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_labels_of_eight_bits_and_many_classes(eager_library, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 6)), np.arange(7) % 3
    net = network((6, 300), (2,))
    expected, gradient = net.loss_and_gradient(x, y, CE)
    there = net.to(eager_library.asarray(x))
    value, found = there.loss_and_gradient(
        eager_library.asarray(x), eager_library.asarray(y.astype(dtype)), CE
    )
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        eager_library.to_numpy(found.biases[0]), gradient.biases[0], rtol=1e-10, atol=1e-14
    )


def test_a_warning_made_an_error_leaves_a_checkpoint_that_resumes(tmp_path):
    x, y = labelled(np.random.default_rng(0), 40, 6, 3)
    options = {"method": dlra.AugmentedBUG(rtol=0.3), "optimizer": nn.SGD(1e-7), "epochs": 3}
    path = tmp_path / "run.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("error", DlraWarning)
        with pytest.raises(DlraWarning, match="cannot grow"):
            train(network((6, 5, 3), (1, None)), x, y, checkpoint=path, **options)
    whole = network((6, 5, 3), (1, None))
    with pytest.warns(DlraWarning):
        train(whole, x, y, **options)
    net = network((6, 5, 3), (1, None))
    history = train(net, x, y, resume=path, **options)
    assert history.epoch == [1, 2, 3]
    assert all(np.array_equal(a, b) for a, b in zip(members(net), members(whole), strict=True))


def test_callback_that_returns_a_numpy_bool():
    net, x, y = problem()
    assert len(train(net, x, y, epochs=9, callback=lambda row: np.mean(row.ranks) < 99)) == 1


@pytest.mark.parametrize("epochs", [1, 2])
def test_resume_with_fewer_epochs(tmp_path, epochs):
    net, x, y = problem()
    train(net, x, y, epochs=3, checkpoint=tmp_path / "run.h5")
    net = network((6, 5, 3), (4, None))
    before = members(net)
    with pytest.raises(ValueError, match=f"epochs = {epochs}, but the checkpoint has done 3"):
        train(net, x, y, epochs=epochs, resume=tmp_path / "run.h5")
    with pytest.raises(FileNotFoundError):
        train(net, x, y, epochs=3, resume=tmp_path / "run.h5", checkpoint=tmp_path / "absent" / "run.h5")
    assert all(np.array_equal(a, b) for a, b in zip(members(net), before, strict=True))


def test_validation_loss_that_is_not_finite():
    x, y = np.ones((20, 6)), np.ones((20, 3))
    with pytest.raises(TrainingError, match="validation data is .* after epoch 1"), np.errstate(all="ignore"):
        train(network((6, 5, 3), (4, None)), x, y, loss=MSE, validation=(x, 1e200 * y))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m[:-1], ValueError, "2 matrices and then 2 biases, got 3"),
        (lambda m: [*m, m[0]], ValueError, "got 5"),
        (lambda m: [m[1], *m[1:]], ValueError, "weight 0 must have shape"),
        (lambda m: [*m[:3], m[2]], ValueError, "bias 1 must have shape"),
        (lambda m: [None, *m[1:]], TypeError, "weight 0 must be a LowRank or an array"),
        (lambda m: [*m[:3], m[3].astype("float32")], TypeError, "bias 1 must have the dtype"),
    ],
)
def test_members_are_checked(change, error, message):
    net, _, _ = problem()
    with pytest.raises(error, match=message):
        net.with_members(change(list(net.members)))


def test_weights_are_named_once():
    net, _, _ = problem()
    with pytest.raises(ValueError, match="a weight twice"):
        net.with_weights({0: net.weights[0], -2: net.weights[0]})
    with pytest.raises(TypeError, match="must be a dict"):
        net.with_weights([net.weights[0]])


def test_masked_arrays_are_refused():
    net, x, y = problem()
    with pytest.raises(
        TypeError, match="x and y must be arrays.* got MaskedArray .*its mask would be ignored"
    ):
        train(net, np.ma.masked_array(x, mask=x > 1), y)
    with pytest.raises(
        TypeError, match="y must be an array .* got MaskedArray .*its mask would be ignored.*filled"
    ):
        train(net, x, np.ma.masked_array(y, mask=y == 2))


def test_a_state_that_is_not_that_of_the_network():
    net, x, y = problem()
    F = nn.gradient_flow(net, x, y, CE)
    with pytest.raises(dlra.SolveError, match=r"must be list\(net.members\), 2 matrices and then 2 biases"):
        dlra.solve(F, (0, 0.1), list(net.weights), dt=0.1)


def test_functions_with_arguments_give_no_batches():
    net, x, y = problem()
    with pytest.raises(TypeError, match="a function without arguments"):
        train(net, lambda epoch: [(x, y)], None)


def test_a_loss_that_rises_is_reported():
    net, x, y = problem()
    with pytest.warns(DlraWarning, match="the loss rises: .* the learning rate 30 is probably too large"):
        train(net, x, y, optimizer=nn.SGD(30.0), epochs=3)


@pytest.mark.parametrize("truncation", [nn.TiedTolerance(1.0), nn.ParameterBudget(50)])
def test_rules_for_ranks_need_low_rank_weights(truncation):
    net, x, y = problem()
    with pytest.raises(ValueError, match="this network trains none"):
        train(net.to_dense(), x, y, truncation=truncation, method=None)
    assert train(net, x, y, truncation=truncation, method=None).status == 0


def test_failures_of_schedules_and_sources_are_labelled():
    net, x, y = problem()

    def rate(t):
        return 0.1 if t < 5 else 1 / 0

    with pytest.raises(TrainingError, match="epoch 2, batch 2 .*schedule raised ZeroDivisionError") as error:
        train(net, x, y, optimizer=nn.SGD(rate))
    assert len(error.value.history) == 1

    def source():
        yield x, y
        raise OSError("the disk is gone")

    with pytest.raises(TrainingError, match="epoch 1, batch 2 .*x raised OSError: the disk is gone"):
        train(net, source, None)
