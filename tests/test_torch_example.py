"""The example that trains a network of PyTorch: its weights are those of dlra.nn.train."""

from __future__ import annotations

import dataclasses
import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest
from nn_helpers import dense, distance, members, network

import dlra
from dlra import LowRank, nn

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

EXAMPLE = Path(__file__).resolve().parents[1] / "docs/examples/torch_mlp.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("torch_mlp", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_torch(a):
    if isinstance(a, LowRank):
        return LowRank(*(torch.from_numpy(f.copy()) for f in a.factors))
    return torch.from_numpy(a.copy())


def twin(net, example):
    """The network in PyTorch: low-rank layers of the example, dense ones of PyTorch."""
    layers = []
    for layer in net.layers:
        if isinstance(layer, nn.LowRankLinear):
            layers.append(example.LowRankLinear(in_torch(layer.weight), in_torch(layer.bias)))
        elif isinstance(layer, nn.Linear):
            layers.append(torch.nn.Linear(*layer.weight.shape[::-1], dtype=torch.float64))
            layers[-1].weight.data, layers[-1].bias.data = in_torch(layer.weight), in_torch(layer.bias)
        else:
            layers.append(getattr(torch.nn, type(layer).__name__)())
    return torch.nn.Sequential(*layers)


def members_of(twin):
    """All parameters, dense, ordered as those of dlra.nn."""
    layers = [layer for layer in twin if hasattr(layer, "weight")]
    return [
        np.asarray(dense(p) if isinstance(p, LowRank) else p.detach())
        for p in (*(layer.weight for layer in layers), *(layer.bias for layer in layers))
    ]


@pytest.mark.parametrize(
    ("method", "ranks"),
    [
        pytest.param(dlra.AugmentedBUG(rtol=0.1), (45, 45, None), id="ranks-fall"),
        pytest.param(dlra.AugmentedBUG(rtol=1e-3), (3, 4, 3), id="ranks-rise"),
        pytest.param(dlra.AugmentedBUG(), (12, 8, None), id="ranks-stay"),
        pytest.param(dlra.BUG(), (12, 8, None), id="two-gradients-a-step"),
    ],
)
def test_weights_are_those_of_train(example, method, ranks):
    data = nn.datasets.digits(dtype="float64")
    order = np.random.default_rng(0).permutation(len(data.x_train))
    batches = [(data.x_train[rows], data.y_train[rows]) for rows in np.array_split(order, 21)]
    sizes = (64, 48, 48, 10)  # where a weight is square, a wrong transpose has the right shape
    net = network(sizes, ranks, activation="relu", decay=0.95)
    other, start = twin(net, example), net.ranks

    nn.train(net, batches, loss=nn.CrossEntropyLoss(), optimizer=nn.SGD(0.1), method=method, epochs=1)
    euler = dataclasses.replace(method, substep="euler")
    example.train(other, [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches], 0.1, euler)

    found = [layer.weight.rank for layer in example.lowrank_layers(other)]
    assert found == [W.rank for W in net.weights if isinstance(W, LowRank)]
    if getattr(method, "rtol", 0):
        assert all(a != b for a, b in zip(net.ranks[:2], start[:2], strict=True))
    assert distance(members_of(other), members(net)) < 1e-10


def test_example_runs(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    words = capsys.readouterr().out.split()
    assert words[0] == "ranks" and float(words[-1]) > 0.93
