"""Seconds a training step, a prediction and an epoch take, beside PyTorch and scikit-learn.

The network of Tables 3 and 4 of the low-rank training paper, 784 - 5 x 5120 - 10 with batches of 500 (S. Schotthöfer et
al., Low-rank lottery tickets, NeurIPS 2022, section 6.2): low-rank steps of several ranks, everything included, next to
the same network dense in dlra and in PyTorch. Epochs of 784 - 4 x 500 - 10 on MNIST, next to PyTorch and the
MLPClassifier of scikit-learn. The compiled steps of the optimisers, next to the generic ones.

``python -m validation.benchmarks.training [--threads 2] [--ranks 5 10 ...] [--steps 10] [--only PART ...] [--no-page]``
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
SMALL, SMALL_BATCH, EPOCHS = (784, 500, 500, 500, 500, 10), 256, 3
PARTS = ("steps", "epochs", "updates")

Row = dict[str, Any]
"""A measurement: times in seconds, as JSON takes them."""
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


def steps(threads: int, ranks: list[int | None], count: int) -> list[Row]:
    """A training step and a prediction of the large network: low-rank ones, None for dense, and PyTorch's."""
    from threadpoolctl import threadpool_limits

    x, y, z = data(np.random.default_rng(0))
    rows = []
    with threadpool_limits(threads):
        for rank in ranks:
            rows.append(
                {"library": "dlra", "rank": rank, **_measured(*ours(rank, x, y, z), count if rank else 3)}
            )
            print(rows[-1], flush=True)
        if None in ranks:
            import torch

            torch.set_num_threads(threads)
            rows.append({"library": "PyTorch", "rank": None, **_measured(*theirs(x, y, z), 3)})
            print(rows[-1], flush=True)
    return rows


def _measured(step: Callable[[], Any], predict: Callable[[], Any], count: int) -> Row:
    (a, da), (b, db) = seconds(step, count), seconds(predict, max(2, count // 2))
    return {"step": a, "step_spread": da, "predict": b, "predict_spread": db}


def ours(rank: int | None, x: Any, y: Any, z: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
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
    return lambda: trainer._step(x, y), lambda: net.predict(z)


def theirs(x: Any, y: Any, z: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same with dense weights in PyTorch."""
    import torch

    net, step = _torch(SIZES, 1e-4)
    tx, ty, tz = (torch.from_numpy(a) for a in (x, y, z))

    def predict() -> None:
        with torch.no_grad():
            net(tz)

    return lambda: step(tx, ty), predict


def _torch(sizes: tuple[int, ...], rate: float) -> tuple[Any, Callable[[Any, Any], None]]:
    """A dense network and its step with Adam."""
    import torch

    layers: list[Any] = []
    for n, m in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(n, m), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer, loss = torch.optim.Adam(net.parameters(), lr=rate), torch.nn.CrossEntropyLoss()

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

    return net, step


def epochs(ranks: list[int | None]) -> list[Row]:
    """The fastest of three epochs of MNIST on the small network, one thread, and the test accuracy after them.

    The networks take turns, epoch by epoch, so that all of them meet the same load of the machine. None is a dense
    weight.
    """
    from threadpoolctl import threadpool_limits

    mnist, rows, runs = nn.datasets.mnist(), [], []
    with threadpool_limits(1):
        for rank in ranks:
            runs.append(({"library": "dlra", "rank": rank}, *_our_epochs(mnist, rank)))
        for library, make in (("PyTorch", _torch_epochs), ("scikit-learn", _sklearn_epochs)):
            runs.append(({"library": library, "rank": None}, *make(mnist)))
        times: list[list[float]] = [[] for _ in runs]
        for _ in range(EPOCHS):
            for (_, epoch, _), took in zip(runs, times, strict=True):
                start = time.perf_counter()
                epoch()
                took.append(time.perf_counter() - start)
        for (what, _, result), took in zip(runs, times, strict=True):
            rows.append({**what, "epoch": min(took), **result()})
            print(rows[-1], flush=True)
    return rows


Epochs = tuple[Callable[[], Any], Callable[[], Row]]
"""An epoch of training, and what is to be said after all of them."""


def _our_epochs(mnist: Any, rank: int | None) -> Epochs:
    from dlra.nn.trainer import Trainer

    net = nn.mlp(SMALL, rank=rank, rng=0)
    method = dlra.AugmentedBUG(rtol=0.09, max_rank=rank) if rank else dlra.AugmentedBUG()
    trainer = Trainer(
        net, mnist.x_train, mnist.y_train, loss=nn.CrossEntropyLoss(), optimizer=nn.Adam(1e-3), method=method,
        epochs=EPOCHS, batch_size=SMALL_BATCH, rng=0,
    )  # fmt: skip
    return (
        lambda: trainer._run_epoch(None),
        lambda: {"ranks": list(net.ranks), "accuracy": net.score(mnist.x_test, mnist.y_test)},
    )


def _torch_epochs(mnist: Any) -> Epochs:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, step = _torch(SMALL, 1e-3)
    x, y, z, labels = (torch.from_numpy(np.asarray(a)) for a in (
        mnist.x_train, mnist.y_train.astype(np.int64), mnist.x_test, mnist.y_test.astype(np.int64)
    ))  # fmt: skip

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(SMALL_BATCH):
            step(x[rows], y[rows])

    def result() -> Row:
        with torch.no_grad():
            return {"accuracy": float((net(z).argmax(1) == labels).float().mean())}

    return epoch, result


def _sklearn_epochs(mnist: Any) -> Epochs:
    from sklearn.neural_network import MLPClassifier

    size: Any = SMALL_BATCH
    net = MLPClassifier(SMALL[1:-1], alpha=0.0, batch_size=size, learning_rate_init=1e-3, random_state=0)
    classes = np.arange(10)
    return (
        lambda: net.partial_fit(mnist.x_train, mnist.y_train, classes=classes),
        lambda: {"accuracy": float(net.score(mnist.x_test, mnist.y_test))},
    )


def updates(threads: int) -> list[Row]:
    """Steps of Adam, AdamW and Momentum on one weight, compiled and generic, in turns."""
    from threadpoolctl import threadpool_limits

    given = {
        "Adam": nn.Adam(1e-3), "AdamW": nn.Adam(1e-3, weight_decay=0.1, decoupled=True), "Momentum": nn.Momentum(0.1)
    }  # fmt: skip
    rng, rows = np.random.default_rng(0), []
    with threadpool_limits(threads):
        for shape, core in (((140, 140), True), ((500, 784), False), ((5120, 5120), False)):
            slope, X = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
            for name, optimizer in given.items():
                _, memory = optimizer.increment(1e-3, slope, optimizer.empty(X, core), X)
                spare = [np.empty_like(X) for _ in range(3)]
                runs: dict[str, Callable[[], Any]] = {
                    "compiled": lambda o=optimizer, m=memory, s=spare, f=slope, x=X: o.increment(
                        1e-3, f, m, x, s
                    ),
                    "generic": lambda o=optimizer, m=memory, f=slope, x=X: type(o).generic(o, 1e-3, f, m, x),
                }
                times = {kind: [] for kind in runs}
                for _ in range(5 if X.size > 10**6 else 50):
                    for kind, run in runs.items():
                        start = time.perf_counter()
                        run()
                        times[kind].append(time.perf_counter() - start)
                best = {kind: min(took) for kind, took in times.items()}
                rows.append({"optimizer": name, "shape": list(shape), "core": core, **best})
                print(rows[-1], flush=True)
    return rows


# ---- tables


def table_of_steps(rows: list[Row]) -> str:
    """Ratios are those to PyTorch."""
    dense = next((row for row in rows if row["library"] == "PyTorch"), None)

    def ratio(row: Row, key: str) -> str:
        return "" if dense is None else f"{row[key] / dense[key]:.3f}"

    return pages.table(
        ["network", "s a step", "ratio to PyTorch", "goal", f"s to predict {PREDICTED}", "ratio to PyTorch"],
        [
            [
                _name(row), f"{row['step']:.3f} ± {row['step_spread']:.3f}", ratio(row, "step"),
                str(GOALS.get(row["rank"], "")), f"{row['predict']:.3f} ± {row['predict_spread']:.3f}",
                ratio(row, "predict"),
            ]
            for row in rows
        ],
    )  # fmt: skip


def table_of_epochs(rows: list[Row]) -> str:
    """Ratios to the dense networks of dlra and of PyTorch."""
    dense = {row["library"]: row["epoch"] for row in rows if row["rank"] is None}
    return pages.table(
        ["network", f"ranks after {EPOCHS} epochs", "s an epoch", "ratio to dense", "ratio to PyTorch", "accuracy"],
        [
            [
                _name(row), ", ".join(map(str, row.get("ranks", ()))), f"{row['epoch']:.2f}",
                f"{row['epoch'] / dense['dlra']:.2f}", f"{row['epoch'] / dense['PyTorch']:.2f}",
                f"{row['accuracy']:.2%}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def table_of_updates(rows: list[Row]) -> str:
    """Milliseconds."""
    return pages.table(
        ["optimiser", "weight", "compiled / ms", "generic / ms", "gain"],
        [
            [
                row["optimizer"], f"{'core ' if row['core'] else ''}{row['shape'][0]} x {row['shape'][1]}",
                f"{1e3 * row['compiled']:.3f}", f"{1e3 * row['generic']:.3f}",
                f"{row['generic'] / row['compiled']:.1f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _name(row: Row) -> str:
    if row["library"] != "dlra":
        return f"dense, {row['library']}"
    return "dense" if row["rank"] is None else f"rank {row['rank']}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ranks", type=int, nargs="*", default=[5, 10, 20, 40, 80, 160, 320])
    parser.add_argument("--small-ranks", type=int, nargs="*", default=[100, 70, 50, 26])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--no-page", action="store_true")
    parser.add_argument("--no-dense", action="store_true")
    given = parser.parse_args()
    dense = [] if given.no_dense else [None]
    tables = {}
    if "steps" in given.only:
        tables["steps"] = table_of_steps(steps(given.threads, [*given.ranks, *dense], given.steps))
    if "epochs" in given.only:
        if os.environ.get("DLRA_DATA"):
            tables["epochs"] = table_of_epochs(epochs([None, *given.small_ranks]))
        else:
            tables["epochs"] = "Not measured: MNIST is found through DLRA_DATA, which is not set."
    if "updates" in given.only:
        tables["updates"] = table_of_updates(updates(given.threads))
    for table in tables.values():
        print(table)
    if not given.no_page and set(tables) == set(PARTS):
        pages.write("measured-training.md", [
            "# Seconds a training step takes",
            f"784 - 5 x 5120 - 10, batches of {BATCH}, float32, Adam; AugmentedBUG with a tolerance, so that bases are "
            "augmented and truncated in every step, everything included. Written by "
            "`python -m validation.benchmarks.training`; "
            f"medians of {given.steps} steps with half the interquartile range, {given.threads} threads "
            f"({describe()}). PyTorch runs its dense network with its own Adam in the same process.",
            tables["steps"],
            "784-500-500-500-500-10 on MNIST, Adam 1e-3, batches of 256, tau = 0.09 and no rank above that of the "
            "start, one thread; the fastest of three epochs, all networks in turns, and the test accuracy after them.",
            tables["epochs"],
            f"A step of an optimiser on one weight in single precision, {given.threads} threads: compiled, in one pass "
            "over memory, and by the operations of the array library.",
            tables["updates"],
        ])  # fmt: skip


if __name__ == "__main__":
    main()
