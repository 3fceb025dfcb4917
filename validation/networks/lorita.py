"""Training by the composition of linear layers (LoRITa) on real MNIST, next to its paper.

Structure-preserving network compression via low-rank induced training through linear layers composition (LoRITa),
Table 1a, Figure 3 and Figure 6: fully connected networks of 6, 8 and 10 layers of width 96, each weight trained as a
product of N = 1, 2, 3 factors, then truncated.

``python -m validation.networks.lorita tune`` finds learning rate and weight decay on a part of the training images;
``... run`` trains with what it has found, on all of them, and truncates; both keep their results in
``validation/networks/results``. ``... pages`` writes docs/networks-lorita.md and its pictures from what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from dlra import nn
from dlra.compress import global_ranks, local_ranks, singular_values
from validation.benchmarks.machine import describe
from validation.networks.tables import RESULTS, keep

WIDTH, BATCH = 96, 256
DEPTHS, FACTORS = (6, 8, 10), (1, 2, 3)
DECAYS = (5e-6, 1e-5, 5e-5, 1e-4, 2e-4)
"""The grid of the paper, which has 2e-4 twice."""
RATES = (1e-3, 3e-3, 1e-2)
PAPER = {6: (0.983, 0.982, 0.977), 8: (0.983, 0.982, 0.977), 10: (0.983, 0.981, 0.977)}
SHARES = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 1.0)


def network(depth: int, factors: int, seed: int) -> nn.Sequential:
    """A fully connected network of so many layers, which for every number of factors starts at the same weights."""
    return nn.to_composed(nn.mlp((784, *[WIDTH] * (depth - 1), 10), rng=seed), factors, rng=seed)


def trained(
    net: nn.Sequential, x: Any, y: Any, check: Any, rate: float, decay: float, epochs: int, seed: int
) -> nn.History:
    """Adam with a learning rate that falls to zero like a cosine."""
    steps = epochs * math.ceil(len(x) / BATCH)
    return nn.train(
        net, x, y, loss=nn.CrossEntropyLoss(), epochs=epochs, batch_size=BATCH, validation=check, rng=seed,
        optimizer=nn.Adam(nn.schedules.Cosine(rate, steps), weight_decay=decay),
    )  # fmt: skip


# ---- choosing the learning rate and the decay


def tune(depth: int, factors: int, rate: float, decay: float, epochs: int) -> float:
    """Accuracy on 10 000 training images that are held back."""
    data = nn.datasets.mnist(flatten=True)
    x, y = data.x_train, data.y_train
    order = np.random.default_rng(0).permutation(len(x))
    held, rest = order[:10_000], order[10_000:]
    net = network(depth, factors, 0)
    history = trained(net, x[rest], y[rest], (x[held], y[held]), rate, decay, epochs, 0)
    return history.validation_accuracy[-1]


def tuned() -> dict[str, Any]:
    """What has been tried: {"depth-factors-rate-decay": accuracy}."""
    path = RESULTS / "lorita-tuning.json"
    return json.loads(path.read_text()) if path.exists() else {}


def tuning(depths: list[int], epochs: int) -> None:
    """The rates with the middle decay on the deepest network, then all decays with the best rate of each N."""
    for depth, factors, rate, decay in _trials(depths):
        key = f"{depth}-{factors}-{rate:g}-{decay:g}"
        found = tuned()
        if key not in found:
            found[key] = tune(depth, factors, rate, decay, epochs)
            keep("lorita-tuning.json", found)
            print(key, found[key], flush=True)


def _trials(depths: list[int]) -> Any:
    for factors in FACTORS:
        for rate in RATES:
            yield 10, factors, rate, 1e-4
    for depth in depths:
        for factors in FACTORS:
            for decay in DECAYS:
                yield depth, factors, best_rate(factors), decay


def best_rate(factors: int) -> float:
    """The learning rate with the highest accuracy."""
    return max(RATES, key=lambda rate: tuned()[f"10-{factors}-{rate:g}-0.0001"])


def best_decay(depth: int, factors: int) -> float:
    """The decay with the highest accuracy."""
    return max(DECAYS, key=lambda decay: tuned()[f"{depth}-{factors}-{best_rate(factors):g}-{decay:g}"])


# ---- training and truncation


def run(depth: int, factors: int, decay: float, seed: int, epochs: int, nets: Path | None) -> dict[str, Any]:
    """One training, and the accuracy after truncation of its merged network."""
    data = nn.datasets.mnist(flatten=True)
    net, rate = network(depth, factors, seed), best_rate(factors)
    history = trained(net, data.x_train, data.y_train, (data.x_test, data.y_test), rate, decay, epochs, seed)
    net = net.merge()
    if nets is not None:
        nets.mkdir(parents=True, exist_ok=True)
        net.save(nets / f"{name(depth, factors, decay, seed)}.h5")
    values = singular_values(net)
    curves: dict[str, list[list[float]]] = {"lsvt": [], "gsvt": []}
    for share in SHARES:
        for rule, ranks in (
            ("lsvt", local_ranks(values, share=share)),
            ("gsvt", global_ranks(values, share=share)),
        ):
            retained = float(np.mean([r / len(s) for r, s in zip(ranks, values, strict=True)]))
            accuracy = nn.to_lowrank(net, rank=ranks).score(data.x_test, data.y_test)
            curves[rule].append([share, retained, accuracy])
    return {
        "depth": depth, "factors": factors, "decay": decay, "rate": rate, "seed": seed, "epochs": epochs,
        "accuracy": history.validation_accuracy, "loss": history.loss, "seconds": sum(history.seconds),
        "curves": curves,
        "values": [[float(f"{v:.4g}") for v in s] for s in values[:2]], "machine": describe(),
    }  # fmt: skip


def name(depth: int, factors: int, decay: float, seed: int) -> str:
    """What a training is called."""
    return f"lorita-fcn{depth}-n{factors}-decay{decay:g}-seed{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("tune", "run"):
        one = commands.add_parser(command)
        one.add_argument("--depths", type=int, nargs="*", choices=DEPTHS, default=list(DEPTHS))
        one.add_argument("--epochs", type=int, default=6 if command == "tune" else 20)
    one.add_argument("--factors", type=int, nargs="*", choices=FACTORS, default=list(FACTORS))
    one.add_argument("--seeds", type=int, nargs="*", default=[0])
    one.add_argument("--decay", type=float, help="default: the best one of the grid")
    one.add_argument("--nets", type=Path, help="folder in which to keep the networks")
    commands.add_parser("pages")
    given = parser.parse_args()
    if given.command == "tune":
        tuning(given.depths, given.epochs)
    elif given.command == "run":
        for seed in given.seeds:
            for depth in given.depths:
                for factors in given.factors:
                    decay = given.decay or best_decay(depth, factors)
                    file = f"{name(depth, factors, decay, seed)}.json"
                    if (RESULTS / file).exists():
                        continue
                    began = time.perf_counter()
                    result = run(depth, factors, decay, seed, given.epochs, given.nets)
                    keep(file, result)
                    print(
                        file, f"{result['accuracy'][-1]:.4f} {time.perf_counter() - began:.0f} s", flush=True
                    )


if __name__ == "__main__":
    main()
