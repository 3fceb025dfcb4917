"""Seconds a training step and a prediction take: the network of Tables 3 and 4 of the low-rank training paper.

784 - 5 x 5120 - 10, batches of 500 (S. Schotthöfer et al., Low-rank lottery tickets, NeurIPS 2022, section 6.2):
low-rank steps of several ranks, everything included, next to the same network dense in dlra and in PyTorch, in one run.

``python -m validation.benchmarks.training [--threads 2] [--ranks 5 10 ...] [--steps 10] [--no-page]``
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import dlra
from dlra import nn
from validation import pages
from validation.benchmarks.machine import describe

SIZES = (784, *[5120] * 5, 10)
BATCH = 500
PREDICTED = 10_000
GOALS = {20: 0.05, 40: 0.08, 160: 0.25}


def seconds(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median and spread (half the interquartile range) of the wall time, after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return middle, (high - low) / 2


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch of the size of MNIST's, and data to predict."""
    x = rng.random((BATCH, SIZES[0]), dtype=np.float32)
    return x, rng.integers(10, size=BATCH), rng.random((PREDICTED, SIZES[0]), dtype=np.float32)


def ours(
    rank: int | None, x: Any, y: Any, z: Any, steps: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """A training step with AugmentedBUG, which augments and truncates to the same rank, and Adam; a prediction."""
    from dlra.nn.trainer import Trainer

    net = nn.mlp(SIZES, rank=rank, rng=0)
    method = dlra.AugmentedBUG(rtol=1e-6, max_rank=rank) if rank else dlra.AugmentedBUG()
    trainer = Trainer(
        net,
        x,
        y,
        loss=nn.CrossEntropyLoss(),
        optimizer=nn.Adam(1e-4),
        method=method,
        epochs=1,
        batch_size=BATCH,
        rng=0,
    )
    return seconds(lambda: trainer._step(x, y), steps), seconds(lambda: net.predict(z), max(2, steps // 2))


def theirs(x: Any, y: Any, z: Any, steps: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """The same with dense weights in PyTorch."""
    import torch

    layers: list[Any] = []
    for n, m in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(n, m), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer, loss = torch.optim.Adam(net.parameters(), lr=1e-4), torch.nn.CrossEntropyLoss()
    tx, ty, tz = (torch.from_numpy(a) for a in (x, y, z))

    def step() -> None:
        optimizer.zero_grad()
        value = loss(net(tx), ty)
        value.backward()
        optimizer.step()

    def predict() -> None:
        with torch.no_grad():
            net(tz)

    return seconds(step, steps), seconds(predict, max(2, steps // 2))


def epochs(ranks: list[int | None]) -> str:
    """Seconds an epoch of MNIST takes on a small network: a table over ranks, None for dense weights."""
    if not (os.environ.get("DLRA_DATA") or ""):
        return "Not measured: MNIST is found through DLRA_DATA, which is not set."
    mnist, rows = nn.datasets.mnist(), []
    dense = 0.0
    for rank in ranks:
        net = nn.mlp((784, 500, 500, 500, 500, 10), rank=rank, rng=0)
        history = nn.train(
            net, mnist.x_train, mnist.y_train, loss=nn.CrossEntropyLoss(), optimizer=nn.Adam(1e-3), epochs=3,
            method=dlra.AugmentedBUG(rtol=0.09, max_rank=rank) if rank else dlra.AugmentedBUG(), batch_size=256,
            validation=(mnist.x_test, mnist.y_test), rng=0,
        )  # fmt: skip
        best = min(history.seconds)
        dense = dense or best
        rows.append([
            "dense" if rank is None else str(rank), str(list(history.ranks[-1])), f"{best:.2f}", f"{best / dense:.2f}",
            f"{history.validation_accuracy[-1]:.2%}",
        ])  # fmt: skip
        print(rows[-1], flush=True)
    return pages.table(
        ["rank at the start", "after 3 epochs", "s an epoch", "ratio to dense", "accuracy"], rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ranks", type=int, nargs="*", default=[5, 10, 20, 40, 80, 160, 320])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--no-page", action="store_true")
    parser.add_argument("--no-dense", action="store_true")
    given = parser.parse_args()
    from threadpoolctl import threadpool_limits

    x, y, z = data(np.random.default_rng(0))
    rows, torch_times = [], None
    with threadpool_limits(given.threads):
        if not given.no_dense:
            import torch

            torch.set_num_threads(given.threads)
            torch_times = theirs(x, y, z, max(3, given.steps // 2))
        for rank in [*given.ranks, *([] if given.no_dense else [None])]:
            train, predict = ours(rank, x, y, z, given.steps if rank else max(3, given.steps // 2))
            ratios = ["", ""] if torch_times is None else [
                f"{train[0] / torch_times[0][0]:.3f}", f"{predict[0] / torch_times[1][0]:.3f}"
            ]  # fmt: skip
            rows.append([
                "dense" if rank is None else str(rank), f"{train[0]:.3f} ± {train[1]:.3f}", ratios[0],
                "" if rank is None else str(GOALS.get(rank, "")), f"{predict[0]:.3f} ± {predict[1]:.3f}", ratios[1],
            ])  # fmt: skip
            print(rows[-1], flush=True)
    if torch_times is not None:
        (a, da), (b, db) = torch_times
        rows.append(["dense, PyTorch", f"{a:.3f} ± {da:.3f}", "1", "", f"{b:.3f} ± {db:.3f}", "1"])
    columns = [
        "rank",
        "s a step",
        "ratio to PyTorch",
        "goal",
        f"s to predict {PREDICTED}",
        "ratio to PyTorch",
    ]
    table = pages.table(columns, rows)
    print(table)
    with threadpool_limits(1):
        small = epochs([None, 100, 70, 50, 26])
    print(small)
    if not given.no_page:
        pages.write("measured-training.md", [
            "# Seconds a training step takes",
            f"784 - 5 x 5120 - 10, batches of {BATCH}, float32, Adam; AugmentedBUG with a tolerance, so that bases are "
            "augmented and truncated in every step, everything included. Written by "
            "`python -m validation.benchmarks.training`; "
            f"medians of {given.steps} steps with half the interquartile range, {given.threads} threads "
            f"({describe()}). PyTorch runs its dense network with its own Adam in the same process.",
            table,
            "784-500-500-500-500-10 on MNIST, Adam 1e-3, batches of 256, tau = 0.09, one thread; the fastest of three "
            "epochs, and the test accuracy after them.",
            small,
        ])  # fmt: skip


if __name__ == "__main__":
    main()
