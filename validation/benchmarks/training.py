"""Training: steps, predictions and epochs beside PyTorch and scikit-learn, and the compiled steps of the optimisers.

The network of Tables 3 and 4 of the low-rank training paper, 784 - 5 x 5120 - 10 with batches of 500 (S. Schotthöfer et
al., Low-rank lottery tickets, NeurIPS 2022, section 6.2): low-rank steps of several ranks, everything included, next to
the same network dense in dlra and in PyTorch. Epochs of 784 - 4 x 500 - 10 on MNIST (found through DLRA_DATA), next to
PyTorch and the MLPClassifier of scikit-learn.

``python -m validation.benchmarks training [--threads 2] [--quick]``
"""

from __future__ import annotations

import itertools
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np

import dlra
from dlra import nn
from validation import pages
from validation.benchmarks.results import Headline, compare, milliseconds, number, pinned, publish

BATCH = 500
SMALL, SMALL_BATCH, EPOCHS = (784, 500, 500, 500, 500, 10), 256, 3
STEP_GOALS = {20: 0.05, 40: 0.08, 160: 0.25, None: 1.2}
"""What a step of this rank may cost, in steps of PyTorch on the dense network; None: dense."""
PREDICTION_GOALS = {20: 0.02}

Row = dict[str, Any]


def measure(quick: bool, threads: int) -> dict[str, list[Row]]:
    """All parts."""
    width, rows = (512, 500) if quick else (5120, 10_000)
    ranks = [20] if quick else [5, 10, 20, 40, 80, 160, 320]
    with pinned(threads):
        data = {
            "steps": steps((784, *[width] * 5, 10), rows, [*ranks, None]),
            "updates": updates(2_000 if quick else 5120),
        }
    with pinned(1):
        data["epochs"] = epochs([None, 70] if quick else [None, 100, 70, 50, 26], 2560 if quick else None)
    return data


def steps(sizes: tuple[int, ...], predicted: int, ranks: list[int | None]) -> list[Row]:
    """A training step and a prediction: low-rank ones, None for dense, and PyTorch's on the dense network."""
    rng = np.random.default_rng(0)
    x, y = rng.random((BATCH, sizes[0]), dtype=np.float32), rng.integers(10, size=BATCH)
    z = rng.random((predicted, sizes[0]), dtype=np.float32)
    runs = {("dlra", rank): ours(sizes, rank, x, y, z) for rank in ranks}
    runs["PyTorch", None] = theirs(sizes, x, y, z)
    names = {f"{library} {rank}": (library, rank) for library, rank in runs}
    step = compare({name: runs[key][0] for name, key in names.items()})
    predict = compare({name: runs[key][1] for name, key in names.items()}, least=3)
    reference = "PyTorch None"
    return [
        {
            "library": library, "rank": rank, "step": step[name], "step over PyTorch": step[name].over(step[reference]),
            "rows": predicted, "predict": predict[name], "predict over PyTorch": predict[name].over(predict[reference]),
        }
        for name, (library, rank) in names.items()
    ]  # fmt: skip


def ours(
    sizes: tuple[int, ...], rank: int | None, x: Any, y: Any, z: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A training step with AugmentedBUG, which augments and truncates to the same rank, and Adam; a prediction."""
    from dlra.nn.trainer import Trainer

    net = nn.mlp(sizes, rank=rank, rng=0)
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


def theirs(sizes: tuple[int, ...], x: Any, y: Any, z: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same with dense weights in PyTorch."""
    import torch

    net, step = _torch(sizes, 1e-4)
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


def epochs(ranks: list[int | None], rows: int | None = None) -> list[Row]:
    """Epochs of MNIST (or of so many rows of it) on the small network, and the test accuracy after three of them.

    None is a dense weight. Nothing where MNIST is not found.
    """
    if not os.environ.get("DLRA_DATA"):
        return []
    mnist: Any = nn.datasets.mnist()
    if rows is not None:
        mnist = types.SimpleNamespace(
            x_train=mnist.x_train[:rows],
            y_train=mnist.y_train[:rows],
            x_test=mnist.x_test,
            y_test=mnist.y_test,
        )
    runs = {f"dlra {rank}": ({"library": "dlra", "rank": rank}, *_our_epochs(mnist, rank)) for rank in ranks}
    for library, make in (("PyTorch", _torch_epochs), ("scikit-learn", _sklearn_epochs)):
        runs[library] = ({"library": library, "rank": None}, *make(mnist))
    times = compare({name: epoch for name, (_, epoch, _) in runs.items()}, 0.0, EPOCHS, warm=False)
    return [
        {
            **what, "epoch": times[name], "over dense": times[name].over(times["dlra None"]),
            "over PyTorch": times[name].over(times["PyTorch"]), **result(),
        }
        for name, (what, _, result) in runs.items()
    ]  # fmt: skip


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


def updates(size: int) -> list[Row]:
    """Steps of Adam, AdamW and Momentum on a core and on dense weights, compiled and generic."""
    given = {
        "Adam": nn.Adam(1e-3), "AdamW": nn.Adam(1e-3, weight_decay=0.1, decoupled=True), "Momentum": nn.Momentum(0.1)
    }  # fmt: skip
    rng, rows = np.random.default_rng(0), []
    for shape, core in (((140, 140), True), ((500, 784), False), ((size, size), False)):
        slope, X = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        for name, optimizer in given.items():
            _, memory = optimizer.increment(1e-3, slope, optimizer.empty(X, core), X)
            spare = [np.empty_like(X) for _ in range(3)]
            arguments = (1e-3, slope, memory, X)
            times = compare({
                "compiled": lambda o=optimizer, a=arguments, s=spare: o.increment(*a, s),
                "generic": lambda o=optimizer, a=arguments: type(o).generic(o, *a),
            }, 0.3)  # fmt: skip
            rows.append({"optimizer": name, "shape": list(shape), "core": core, **times})
    return rows


def tables(data: dict[str, list[Row]]) -> list[str]:
    """The page."""
    parts = [
        f"784 - 5 x 5120 - 10, batches of {BATCH}, single precision, Adam. AugmentedBUG with a tolerance, so that "
        "bases are augmented and truncated in every step; ratios to the dense network in PyTorch.",
        pages.table(
            ["network", "a step / ms", "ratio", "prediction / ms", "ratio"],
            [
                [
                    _name(row), milliseconds(row["step"]), number(row["step over PyTorch"]),
                    milliseconds(row["predict"]), number(row["predict over PyTorch"]),
                ]
                for row in data["steps"]
            ],
        ),
        f"784-500-500-500-500-10 on MNIST, Adam 1e-3, batches of {SMALL_BATCH}, tau = 0.09 and no rank above that of "
        f"the start, one thread; accuracy on the test data after {EPOCHS} epochs.",
        pages.table(
            ["network", "ranks", "an epoch / s", "ratio to dense", "ratio to PyTorch", "accuracy"],
            [
                [
                    _name(row), ", ".join(map(str, row.get("ranks", ()))), number(row["epoch"].median),
                    number(row["over dense"]), number(row["over PyTorch"]), f"{row['accuracy']:.2%}",
                ]
                for row in data["epochs"]
            ],
        ) if data["epochs"] else "Not measured: MNIST is found through DLRA_DATA, which is not set.",
        "A step of an optimiser on one weight in single precision: compiled, in one pass over memory, and by the "
        "operations of the array library.",
        pages.table(
            ["optimiser", "weight", "compiled / ms", "generic / ms", "gain"],
            [
                [
                    row["optimizer"], f"{'core ' if row['core'] else ''}{row['shape'][0]} x {row['shape'][1]}",
                    milliseconds(row["compiled"]), milliseconds(row["generic"]),
                    number(row["generic"].over(row["compiled"])),
                ]
                for row in data["updates"]
            ],
        ),
    ]  # fmt: skip
    return parts


def _name(row: Row) -> str:
    if row["library"] != "dlra":
        return f"dense, {row['library']}"
    return "dense" if row["rank"] is None else f"rank {row['rank']}"


def headlines(data: dict[str, list[Row]]) -> list[Headline]:
    """What has a goal, and what goals were set for."""
    found = []
    for row in data["steps"]:
        if row["library"] == "dlra" and row["rank"] in STEP_GOALS:
            goal, what = STEP_GOALS[row["rank"]], f"training step, {_name(row)}, in steps of dense PyTorch"
            found.append(Headline(what, row["step over PyTorch"], goal, "at most"))
        if row["library"] == "dlra" and row["rank"] in PREDICTION_GOALS:
            goal, what = (
                PREDICTION_GOALS[row["rank"]],
                f"prediction, {_name(row)}, in predictions of dense PyTorch",
            )
            found.append(Headline(what, row["predict over PyTorch"], goal, "at most"))
    for row in data["epochs"]:
        if row["rank"] == 70:
            found.append(
                Headline("epoch of MNIST from rank 70, in dense epochs", row["over dense"], 1.0, "at most")
            )
            found.append(
                Headline("epoch of MNIST from rank 70, in dense epochs of PyTorch", row["over PyTorch"])
            )
    return found


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page and numbers."""
    data = measure(quick, threads)
    publish(
        "training", "Measured: training",
        "What a step of training costs on low-rank weights: forward and backward pass, K-, L- and S-step, "
        "orthonormalisation, Adam and truncation.",
        tables(data), data, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
