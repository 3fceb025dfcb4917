"""How low-rank weights should start: the three starts of LowRankLinear compared on MNIST.

``python -m validation.networks.starts [--epochs 3] [--seeds 3]`` prints a table and writes it to
docs/networks-starts.md.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np

import dlra
from dlra import nn
from dlra.nn._layer import STARTS
from validation import pages

SIZES = (784, 500, 500, 500, 500, 10)
CASES: dict[str, tuple[int, Any]] = {
    "adaptive, tau 0.09, from rank 100": (100, dlra.AugmentedBUG(rtol=0.09)),
    "adaptive, tau 0.15, from rank 50": (50, dlra.AugmentedBUG(rtol=0.15)),
    "fixed rank 20": (20, dlra.AugmentedBUG()),
}


def accuracy(data: Any, start: str, rank: int, method: Any, epochs: int, seed: int) -> tuple[float, float]:
    """Test accuracy after the first and the last epoch."""
    net = nn.mlp(SIZES, rank=rank, start=start, rng=seed)
    history = nn.train(
        net, data.x_train, data.y_train, loss=nn.CrossEntropyLoss(), optimizer=nn.Adam(1e-3), method=method,
        epochs=epochs, batch_size=256, validation=(data.x_test, data.y_test), rng=seed,
    )  # fmt: skip
    return history.validation_accuracy[0], history.validation_accuracy[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    data = nn.datasets.mnist()
    print(f"| case | start | accuracy after 1 epoch | after {given.epochs} |\n|---|---|---|---|")
    for (case, (rank, method)), start in itertools.product(CASES.items(), STARTS):
        runs = np.array([accuracy(data, start, rank, method, given.epochs, s) for s in range(given.seeds)])
        first, last = (pages.shown(100 * column, 2) for column in runs.T)
        print(f"| {case} | {start} | {first} % | {last} % |", flush=True)


if __name__ == "__main__":
    main()
