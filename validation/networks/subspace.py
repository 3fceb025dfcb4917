"""Training in a subspace: how few directions hold the training of a compressed network, and what BFGS makes of them.

The experiment of section IV of X. Ou, Z. Chen, C. Zhu, Y. Liu, Low rank optimization for efficient deep learning:
making a balance between compact architecture and fast training, arXiv:2303.13635 (Figures 8 and 9): LeNet-300-100 on
MNIST, its first two layers replaced by truncated singular value decompositions, fine-tuned; the parameters on the way
projected onto their principal directions. Then training in such a subspace by BFGS beside training in all parameters
(T. Li et al., Low dimensional trajectory hypothesis is true: DNNs can be trained in tiny subspaces, arXiv:2103.11154).

``python -m validation.networks.subspace run [--kinds errors search] [--seeds 0 1 2]`` keeps the results in
``validation/networks/results``; ``... pages`` writes docs/subspace.md and its pictures from what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlra import nn
from validation import pages
from validation.benchmarks.machine import describe
from validation.networks.tables import RESULTS, keep

SIZES = (784, 300, 100, 10)
RANKS = (5, 10, 15, 20, 30, 50, 80, None)
"""None is the network that is not compressed."""
OPTIMIZERS = {"Adam": nn.Adam(1e-3), "SGD": nn.SGD(0.05)}
ROWS = 20_000
BATCH = 128
BEFORE = 5
"""Epochs of the dense network before it is compressed."""
EPOCHS = 12
"""Epochs of fine-tuning: with the start 13 snapshots, one an epoch."""
PARTS = 4
"""Snapshots an epoch of the longer series: with the start 49."""
MANY = (*range(1, 16), 20, 25, 30, 35, 40)

SAMPLED = 4
"""Epochs of training in all parameters whose snapshots, ten an epoch, span the subspace of the search."""
SEARCHES = ((5, ROWS), (10, ROWS), (20, ROWS), (40, ROWS), (10, ROWS // 4), (40, ROWS // 4))
"""Dimension, and rows on which BFGS minimises the loss."""
ITERATIONS = 20


def data() -> Any:
    """MNIST, of whose training images the first so many are taken."""
    mnist = nn.datasets.mnist()
    return mnist._replace(x_train=mnist.x_train[:ROWS], y_train=mnist.y_train[:ROWS])


class Parts:
    """Batches of a training that counts a part of an epoch as one: each call gives those of the next part."""

    def __init__(self, x: np.ndarray, y: np.ndarray, parts: int, seed: int):
        self.x, self.y, self.parts, self.rng = x, y, parts, np.random.default_rng(seed)
        self.waiting: list[list[np.ndarray]] = []

    def __call__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if not self.waiting:
            order = self.rng.permutation(len(self.x))
            batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
            cuts = np.linspace(0, len(batches), self.parts + 1).round().astype(int)
            self.waiting = [batches[i:j] for i, j in itertools.pairwise(cuts)]
        for rows in self.waiting.pop(0):
            yield self.x[rows], self.y[rows]


def trained(
    net: nn.Sequential, mnist: Any, optimizer: Any, epochs: int, parts: int, seed: int, callback: Any = None
) -> nn.History:
    """Train in place; the history has a row for each part of an epoch."""
    source = Parts(mnist.x_train, mnist.y_train, parts, seed)
    return nn.train(
        net, source, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=epochs * parts, callback=callback,
        validation=(mnist.x_test, mnist.y_test),
    )  # fmt: skip


def compressed(net: nn.Sequential, rank: int | None) -> nn.Sequential:
    """The first two layers as two plain ones each, with balanced factors U √S and √S Vᵀ."""
    return net.copy() if rank is None else nn.to_lowrank(net, rank=(rank, rank, None)).split()


def errors_of(snapshots: list[np.ndarray], dimensions: Any) -> list[dict[str, float]]:
    """Of the last snapshot and in the mean over all, for each dimension."""
    rows = []
    whole = nn.Subspace.from_snapshots(snapshots)
    size, moved = (float(np.linalg.norm(w)) for w in (snapshots[-1], snapshots[-1] - snapshots[0]))
    for dimension in dimensions:
        dimension = min(dimension, whole.dimension)
        subspace = nn.Subspace(whole.mean, whole.basis[:, :dimension], whole.explained[:dimension])
        errors = [subspace.error(w) for w in snapshots]
        rows.append(
            {
                "dimension": dimension,
                "final": errors[-1],
                "mean": float(np.mean(errors)),
                "of what moved": errors[-1] * size / moved,
                "explained": float(np.sum(subspace.explained)),
            }
        )
    return rows


def errors(optimizer: str, seed: int) -> dict[str, Any]:
    """Figures 8 and 9 for one seed: normalised errors at all ranks and dimensions."""
    mnist = data()
    dense = nn.mlp(SIZES, rng=seed)
    trained(dense, mnist, OPTIMIZERS[optimizer], BEFORE, 1, seed)
    cases = []
    for rank in RANKS:
        net, trajectory = compressed(dense, rank), nn.Trajectory()
        before = net.score(mnist.x_test, mnist.y_test)
        trajectory.record(net)
        history = trained(net, mnist, OPTIMIZERS[optimizer], EPOCHS, PARTS, seed + 100, trajectory)
        w = trajectory.snapshots
        few = w[::PARTS]
        cases.append(
            {
                "rank": rank,
                "parameters": net.parameter_count(biases=True),
                "before": before,
                "after": history.validation_accuracy[-1],
                "moved": float(np.linalg.norm(w[-1] - w[0]) / np.linalg.norm(w[-1])),
                "snapshots": [len(few), len(w)],
                "few": errors_of(few, range(1, 16)),
                "many": errors_of(w, MANY),
            }
        )
        few5, many5 = (next(r["final"] for r in cases[-1][k] if r["dimension"] == 5) for k in ("few", "many"))
        print(f"{optimizer} seed {seed} rank {rank}: {before:.4f} -> {history.validation_accuracy[-1]:.4f}, error in 5 "
              f"dimensions {few5:.4f}, of all snapshots {many5:.4f}", flush=True)  # fmt: skip
    return {
        "optimizer": repr(OPTIMIZERS[optimizer]), "seed": seed, "before": dense.score(mnist.x_test, mnist.y_test),
        "cases": cases, "machine": describe(),
    }  # fmt: skip


def search(optimizer: str, seed: int) -> dict[str, Any]:
    """Training in all parameters, and BFGS in subspaces of its first epochs."""
    mnist = data()
    loss = nn.CrossEntropyLoss()
    net, trajectory = nn.mlp(SIZES, rng=seed), nn.Trajectory()
    trajectory.record(net)
    parts = 10
    history = trained(net, mnist, OPTIMIZERS[optimizer], EPOCHS, parts, seed, trajectory)
    seconds = np.cumsum(history.seconds)
    sampled = SAMPLED * parts
    snapshots = trajectory.snapshots[: sampled + 1]
    start = nn.with_vector(net, snapshots[-1])
    runs = []
    for dimension, rows in SEARCHES:
        began = time.perf_counter()
        subspace = nn.Subspace.from_snapshots(snapshots, dimension)
        found = nn.train_in_subspace(
            start,
            mnist.x_train[:rows],
            mnist.y_train[:rows],
            loss=loss,
            subspace=subspace,
            max_iterations=ITERATIONS,
        )
        spent = time.perf_counter() - began
        value, right = nn.evaluate(found.net, mnist.x_test, mnist.y_test, loss)
        runs.append(
            {
                "dimension": dimension, "rows": rows, "accuracy": right, "validation_loss": value,
                "loss": nn.evaluate(found.net, mnist.x_train, mnist.y_train, loss)[0],
                "seconds": spent, "iterations": found.steps, "passes": found.nfev * rows / ROWS,
                "message": found.message,
            }
        )  # fmt: skip
        print(f"{optimizer} seed {seed}: {dimension} dimensions, {rows} rows: {right:.4f} in {spent:.1f} s, "
              f"{found.nfev} evaluations", flush=True)  # fmt: skip
    return {
        "optimizer": repr(OPTIMIZERS[optimizer]), "seed": seed, "parts": parts,
        "accuracy": history.validation_accuracy, "validation_loss": history.validation_loss,
        "seconds": seconds.tolist(), "runs": runs, "machine": describe(),
        "loss": nn.evaluate(net, mnist.x_train, mnist.y_train, loss)[0],
        "loss after sampling": nn.evaluate(start, mnist.x_train, mnist.y_train, loss)[0],
    }  # fmt: skip


EXAMPLE = """```python
from dlra import nn

data, loss = nn.datasets.digits(), nn.CrossEntropyLoss()
net, trajectory = nn.mlp((64, 50, 10), rng=0), nn.Trajectory()
trajectory.record(net)
nn.train(
    net,
    data.x_train,
    data.y_train,
    loss=loss,
    optimizer=nn.Adam(1e-3),
    epochs=10,
    batch_size=64,
    callback=trajectory,
    rng=0,
)
subspace = nn.Subspace.from_snapshots(trajectory, dimension=4)
history = nn.train_in_subspace(net, data.x_train, data.y_train, loss=loss, subspace=subspace)
print(subspace)
print(history.loss[-1] < history.loss[0], history.net is not net)
```

<!-- output -->
```text
Subspace(dimension 4 of 3760, 0.9... of the variance)
True True
```"""

KINDS = {"errors": errors, "search": search}


def results(kind: str, optimizer: str) -> list[dict[str, Any]]:
    """The results of all seeds that are there."""
    found = sorted(RESULTS.glob(f"subspace-{kind}-{optimizer.lower()}-seed*.json"))
    return [json.loads(path.read_text()) for path in found]


def at(kind: str, optimizer: str, series: str, rank: int | None, dimension: int, what: str) -> np.ndarray:
    """One number of all seeds."""
    cases = [next(c for c in r["cases"] if c["rank"] == rank) for r in results(kind, optimizer)]
    return np.array([next(row[what] for row in c[series] if row["dimension"] == dimension) for c in cases])


def error(optimizer: str, series: str, rank: int | None, dimension: int, what: str = "final") -> np.ndarray:
    """Normalised errors of all seeds; where the snapshots have fewer directions, of all of these."""
    most = SNAPSHOTS[series] - 1
    return at("errors", optimizer, series, rank, min(dimension, most), what)


SNAPSHOTS = {"few": EPOCHS + 1, "many": EPOCHS * PARTS + 1}


def percent(values: Any, digits: int) -> str:
    """Mean and standard deviation over the seeds in percent."""
    return f"{pages.shown(100 * np.asarray(values), digits)} %"


def described(optimizer: str) -> str:
    """An optimiser with its learning rate."""
    return results("errors", optimizer)[0]["optimizer"].partition(",")[0] + ")"


def label(rank: int | None) -> str:
    """The name of a network."""
    return "base" if rank is None else str(rank)


def draw_errors() -> None:
    """The pictures in the place of Figures 8 and 9."""
    drawn, axes = pages.figure(1, 2, (10, 4))
    places = np.arange(len(RANKS))
    for axis, (series, count) in zip(axes, SNAPSHOTS.items(), strict=True):
        for k, optimizer in enumerate(OPTIMIZERS):
            for what, line in (("final", "-"), ("mean", ":")):
                values = [error(optimizer, series, rank, 5, what) for rank in RANKS]
                axis.errorbar(
                    places, [v.mean() for v in values], [pages.deviation(v) for v in values], color=pages.COLOURS[k],
                    marker=pages.MARKERS[k], linestyle=line, capsize=3,
                    label=f"{optimizer}, {'last snapshot' if what == 'final' else 'mean of all'}",
                )  # fmt: skip
        axis.set_xticks(places, [label(r) for r in RANKS])
        axis.set(
            xlabel="rank of the first two layers", title=f"5 dimensions, {count} snapshots", ylim=(0, None)
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("normalised error")
    axes[0].legend(fontsize=8)
    pages.save(drawn, "subspace-rank.png")
    drawn, axes = pages.figure(2, 2, (10, 7.5))
    some = (5, 10, 20, 50, None)
    for i, optimizer in enumerate(OPTIMIZERS):
        for j, (series, count) in enumerate(SNAPSHOTS.items()):
            axis = axes[2 * i + j]
            dimensions = [d for d in (range(5, 16) if series == "few" else MANY) if d >= 5]
            for k, rank in enumerate(some):
                values = [error(optimizer, series, rank, d) for d in dimensions]
                axis.errorbar(
                    dimensions, [v.mean() for v in values], [pages.deviation(v) for v in values],
                    color=pages.COLOURS[k], marker=pages.MARKERS[k], markersize=4, capsize=2,
                    label="base" if rank is None else f"rank {rank}",
                )  # fmt: skip
            axis.set(
                xlabel="dimension of the subspace", title=f"{optimizer}, {count} snapshots", ylim=(0, None)
            )
            axis.set_ylabel("normalised error" if j == 0 else "")
            axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    pages.save(drawn, "subspace-dimension.png")


def draw_search() -> None:
    """Accuracy over passes through the training rows: in all parameters, and in subspaces."""
    drawn, axes = pages.figure(1, len(OPTIMIZERS), (10, 4.6))
    lines: list[Any] = []
    for axis, optimizer in zip(axes, OPTIMIZERS, strict=True):
        found = results("search", optimizer)
        lines = []
        for k, r in enumerate(found):
            epochs = np.arange(1, len(r["accuracy"]) + 1) / r["parts"]
            lines += axis.plot(
                epochs, r["accuracy"], color="0.65", linewidth=1, label="all parameters" if k == 0 else None
            )
            for c, (dimension, rows) in enumerate(SEARCHES):
                run = next(q for q in r["runs"] if (q["dimension"], q["rows"]) == (dimension, rows))
                lines += axis.plot(
                    SAMPLED + run["passes"], run["accuracy"], color=pages.COLOURS[c], marker=pages.MARKERS[c],
                    linestyle="", label=f"{dimension} dimensions, {rows} rows" if k == 0 else None,
                )  # fmt: skip
        lines.append(
            axis.axvline(SAMPLED, color="0.3", linewidth=0.8, linestyle=":", label="end of sampling")
        )
        low = min(q["accuracy"] for r in found for q in r["runs"])
        high = max(max(r["accuracy"]) for r in found)
        axis.set(
            xlabel="passes through the training rows", title=f"sampled by {optimizer}", xlim=(0, None),
            ylim=(low - 0.012, high + 0.003),
        )  # fmt: skip
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy")
    named = [line for line in lines if not line.get_label().startswith("_")]
    drawn.legend(handles=named, loc="outside lower center", ncols=4, fontsize=8)
    pages.save(drawn, "subspace-search.png")


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's ρ."""
    a, b = (np.argsort(np.argsort(v)).astype(float) for v in (a, b))
    return float(np.corrcoef(a, b)[0, 1])


def compared() -> list[dict[str, Any]]:
    """What the survey says of Figures 8 and 9, in numbers for each optimiser and series."""
    ranks = [r for r in RANKS if r is not None]
    rows = []
    for optimizer in OPTIMIZERS:
        for series, count in SNAPSHOTS.items():
            five, eleven = (np.array([error(optimizer, series, r, d).mean() for r in ranks]) for d in (5, 11))
            share = [error(optimizer, series, r, 5, "of what moved").mean() for r in ranks]
            way = [five[i] / share[i] for i in range(len(ranks))]
            rows.append(
                {
                    "optimizer": optimizer, "snapshots": count, "error": rank_correlation(ranks, five),
                    "line": float(np.corrcoef(ranks, five)[0, 1]) ** 2, "way": rank_correlation(ranks, way),
                    "share": rank_correlation(ranks, share), "gain": five - eleven, "left": eleven / five,
                }
            )  # fmt: skip
    return rows


def verdicts() -> str:
    """The two statements of the survey beside what is measured."""
    ranks = [r for r in RANKS if r is not None]
    names = (
        "optimiser", "snapshots", "ρ of error", "R² of a line", "ρ of way / ‖w‖", "ρ of the share missed",
        f"fall of the error from 5 to 11 dimensions, rank {ranks[0]}", f"rank {ranks[-1]}",
        f"error left, rank {ranks[0]}", f"rank {ranks[-1]}",
    )  # fmt: skip
    rows = [
        [
            r["optimizer"], str(r["snapshots"]), f"{r['error']:+.2f}", f"{r['line']:.2f}", f"{r['way']:+.2f}",
            f"{r['share']:+.2f}", f"{r['gain'][0]:.4f}", f"{r['gain'][-1]:.4f}", f"{r['left'][0]:.2f}",
            f"{r['left'][-1]:.2f}",
        ]
        for r in compared()
    ]  # fmt: skip
    return pages.table(names, rows)


def conclusion() -> str:
    """What follows from the table of verdicts."""
    rows = compared()

    def where(holds: Any) -> str:
        names = [f"{r['optimizer']}, {r['snapshots']} snapshots" for r in rows if holds(r)]
        return f"in {len(names)} of {len(rows)} rows" + (f" ({'; '.join(names)})" if names else "")

    text = (
        f"(a): the error grows as the rank falls (ρ < -0.7) {where(lambda r: r['error'] < -0.7)}, and shrinks with it "
        f"(ρ > 0.7) {where(lambda r: r['error'] > 0.7)}. (b): from 5 to 11 dimensions the error falls by more at the "
        f"lowest rank than at the highest {where(lambda r: r['gain'][0] > r['gain'][-1])}; the share of it that is "
        f"left is larger at the lowest rank {where(lambda r: r['left'][0] > r['left'][-1])}.\n\nThe normalised error "
        "is a product of two things: how far fine-tuning moves the parameters, relative to ‖w‖, and the share of that "
        "way that the subspace misses. Only the second says how few directions hold the training."
    )
    _, many = SNAPSHOTS
    for optimizer in OPTIMIZERS:
        ends = [
            [error(optimizer, many, r, 5, "of what moved").mean() for r in RANKS if r],
            [
                (error(optimizer, many, r, 5) / error(optimizer, many, r, 5, "of what moved")).mean()
                for r in RANKS
                if r
            ],
        ]
        text += (
            f" With {optimizer} and {SNAPSHOTS[many]} snapshots the way falls from {ends[1][0]:.2f} ‖w‖ at rank "
            f"{RANKS[0]} to {ends[1][-1]:.2f} at rank {RANKS[-2]}, while the share missed goes from "
            f"{ends[0][0]:.3f} to "
            f"{ends[0][-1]:.3f}."
        )
    base = " and ".join(f"{error(o, many, None, 5, 'of what moved').mean():.3f} ({o})" for o in OPTIMIZERS)
    correlations = [r["share"] for r in rows]
    grows = where(lambda r: r["share"] < 0)
    text += (
        f" Among the compressed networks the share missed grows as the rank falls {grows} (ρ from "
        f"{min(correlations):+.2f} to {max(correlations):+.2f}); that of the network that is not compressed is {base}."
    )
    return text


def saved(result: dict[str, Any], run: dict[str, Any], unit: str) -> float:
    """The share of seconds or passes saved to the accuracy of a search, beside training in all parameters; NaN where
    that does not reach it."""
    parts = result["parts"]
    course = {
        "seconds": result["seconds"],
        "passes": [(i + 1) / parts for i in range(len(result["accuracy"]))],
    }[unit]
    spent = course[SAMPLED * parts - 1] + run[unit]
    reached = [t for t, a in zip(course, result["accuracy"], strict=True) if a >= run["accuracy"]]
    return 1 - spent / reached[0] if reached else math.nan


def table_of_searches(optimizer: str) -> str:
    """Accuracy, losses and time, in all parameters and in subspaces."""
    found = results("search", optimizer)
    last = SAMPLED * found[0]["parts"] - 1

    def row(name: str, accuracy: Any, test: Any, train: Any, seconds: Any, rest: list[str]) -> list[str]:
        return [
            name, percent(accuracy, 2), pages.shown(test, 3), pages.shown(train, 3),
            f"{np.mean(seconds):.1f}", *rest,
        ]  # fmt: skip

    def share(pairs: Any, unit: str) -> str:
        values = np.array([saved(r, q, unit) for r, q in pairs])
        return "not reached" if np.isnan(values).any() else percent(values, 0)

    rows = [
        row(
            f"all parameters, {epochs} epochs", [r["accuracy"][i] for r in found],
            [r["validation_loss"][i] for r in found], [r[loss] for r in found], [r["seconds"][i] for r in found],
            [str(epochs), "", ""],
        )
        for epochs, i, loss in ((SAMPLED, last, "loss after sampling"), (EPOCHS, -1, "loss"))
    ]  # fmt: skip
    for i, (dimension, count) in enumerate(SEARCHES):
        runs = [r["runs"][i] for r in found]
        pairs = list(zip(found, runs, strict=True))
        rows.append(
            row(
                f"BFGS, {dimension} dimensions, {count} rows", [q["accuracy"] for q in runs],
                [q["validation_loss"] for q in runs], [q["loss"] for q in runs],
                [r["seconds"][last] + q["seconds"] for r, q in pairs],
                [f"{SAMPLED + np.mean([q['passes'] for q in runs]):.1f}", share(pairs, "seconds"),
                 share(pairs, "passes")],
            )
        )  # fmt: skip
    names = ("", "test accuracy", "test loss", "loss on all training rows", "seconds", "passes", "seconds saved",
             "passes saved")  # fmt: skip
    return pages.table(names, rows)


def page() -> None:
    """docs/subspace.md and its pictures."""
    draw_errors()
    draw_search()
    machine = results("search", "Adam")[0]["machine"]
    seeds = len(results("errors", "Adam"))
    few, many = SNAPSHOTS.values()
    ratios = [(error(o, "many", r, 12) / error(o, "many", r, 11)).mean() for o in OPTIMIZERS for r in RANKS]
    twelve = f"{min(ratios):.2f} to {max(ratios):.2f} times that at 11, at all ranks"
    parts = [
        "# Training in a subspace",
        "Does the training of a network move in few directions, still so when the network is compressed, and can one "
        "train in these directions alone? The survey X. Ou, Z. Chen, C. Zhu, Y. Liu, *Low rank optimization for "
        "efficient deep learning: making a balance between compact architecture and fast training* "
        "([arXiv:2303.13635](https://arxiv.org/abs/2303.13635)), section IV, says yes, less, and yes. This page "
        "repeats its experiment on LeNet-300-100 with `nn.Trajectory` and `nn.Subspace`, and measures "
        "`nn.train_in_subspace`. Written by `python -m validation.networks.subspace pages` from "
        f"`validation/networks/results`; the numbers there are made by `... run`. {seeds} seeds, mean ± standard "
        f"deviation; the first {ROWS} images of MNIST train, accuracy is on the 10 000 test images. Last run on "
        f"{machine}.",
        EXAMPLE,
        "## The errors of a fixed dimension",
        f"A dense network 784-300-100-10 is trained for {BEFORE} epochs, its first two layers are replaced by "
        "truncated singular value decompositions (two plain layers each), and all parameters, biases too, are "
        f"fine-tuned for {EPOCHS} epochs in batches of {BATCH}, by `{described('Adam')}` or by `{described('SGD')}` "
        "throughout. The normalised error is ‖w - P w‖ / ‖w‖, with P the projection onto the mean and the leading "
        f"principal directions of the snapshots: one an epoch ({few} with the start), or {PARTS} an epoch ({many}).",
        "![normalised error against rank](images/subspace-rank.png)",
        "![normalised error against dimension](images/subspace-dimension.png)",
        "The survey says that (a) the error increases almost linearly as the rank decreases, and (b) a higher "
        "dimension helps the highly compressed network more. Measured, at the last snapshot, over the ranks "
        f"{', '.join(str(r) for r in RANKS if r)} (ρ is Spearman's rank correlation: -1 where the error grows with "
        "every fall of the rank, +1 where it shrinks; the share missed is ‖w - P w‖ over the distance from the start "
        "to the end of the fine-tuning):",
        verdicts(),
        conclusion(),
    ]
    for optimizer in OPTIMIZERS:
        found = results("errors", optimizer)
        rows = []
        for rank in RANKS:
            cases = [next(c for c in r["cases"] if c["rank"] == rank) for r in found]
            rows.append(
                [
                    label(rank), str(cases[0]["parameters"]), percent([c["before"] for c in cases], 2),
                    percent([c["after"] for c in cases], 2),
                    f"{np.mean([c['moved'] for c in cases]):.3f}", pages.shown(error(optimizer, "few", rank, 5), 4),
                    pages.shown(error(optimizer, "few", rank, 11), 4), f"{error(optimizer, 'few', rank, 12).max():.0e}",
                    *(pages.shown(error(optimizer, "many", rank, d), 4) for d in (5, 12, 40)),
                    pages.shown(error(optimizer, "many", rank, 5, "of what moved"), 3),
                ]
            )  # fmt: skip
        names = (
            f"rank, parameters, accuracy truncated, fine-tuned, way / ‖w‖, {few} snapshots: 5 dim., 11 dim., 12 dim., "
            f"{many} snapshots: 5 dim., 12 dim., 40 dim., share missed (5 dim.)"
        )
        parts += [f"### {optimizer}", pages.table(names.split(", "), rows)]
    parts += [
        "## What the survey leaves open",
        "- The number of snapshots. Its Figure 9 has no error from 12 dimensions on, at any rank. That is what 13 "
        "snapshots give whatever the network is (12, if no mean is subtracted): k snapshots lie in their mean and k - "
        f"1 directions. It says nothing about redundancy: with {many} snapshots the error at 12 dimensions is "
        f"{twelve}.\n- The optimiser, its learning rate, and the number of epochs before and after the compression.\n- "
        "What is projected: factors or products, with biases or without, all layers or the two compressed ones; and "
        "how the singular values are shared between the factors, which changes ‖w‖. Here √S goes to each side.\n- "
        "Whether the mean is subtracted, which snapshot the error is that of, and the spread over seeds.",
        "## BFGS in the subspace",
        f"The dense network is trained for {SAMPLED} epochs with ten snapshots each; their principal directions span "
        f"the subspace, in which BFGS takes at most {ITERATIONS} iterations from the last snapshot. The survey reports "
        "35 % of the time of SGD saved, in training that takes far longer than here. Seconds include sampling and the "
        "decomposition of the snapshots; other programs ran on the machine, so that passes are the better measure: an "
        "epoch is one, and so is an evaluation of the loss and its gradient on all rows. What is saved is relative to "
        "the first tenth of an epoch at which training in all parameters reaches the accuracy of the search; negative "
        "where the search takes longer.",
        "![accuracy over passes](images/subspace-search.png)",
    ]
    for optimizer in OPTIMIZERS:
        parts += [f"### Sampled by {optimizer}", table_of_searches(optimizer)]
    parts.append(summary())
    pages.write("subspace.md", parts)


def summary() -> str:
    """What follows from the tables of searches."""
    parts = []
    for optimizer in OPTIMIZERS:
        found = results("search", optimizer)
        last = SAMPLED * found[0]["parts"] - 1
        whole = [i for i, (_, rows) in enumerate(SEARCHES) if rows == ROWS]
        best = max(whole, key=lambda i: np.mean([r["runs"][i]["accuracy"] for r in found]))
        gain = np.array([r["runs"][best]["accuracy"] - r["accuracy"][last] for r in found])
        more = np.array([r["accuracy"][-1] - r["runs"][best]["accuracy"] for r in found])
        shares = [saved(r, q, "passes") for r in found for q in r["runs"]]
        faster = sum(s > 0 for s in shares) + sum(math.isnan(s) for s in shares)
        parts.append(
            f"Sampled by {optimizer}, the best of the searches on all rows ({SEARCHES[best][0]} dimensions) adds "
            f"{percent(gain, 2)} to the accuracy of the last snapshot; {EPOCHS - SAMPLED} more epochs in all "
            f"parameters end {percent(more, 2)} above it. {faster} of {len(shares)} searches need fewer "
            "passes to their "
            f"accuracy than training in all parameters to the same."
        )
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    one.add_argument("--optimizers", nargs="*", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    one.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    commands.add_parser("pages")
    given = parser.parse_args()
    if given.command == "pages":
        page()
        return
    for seed in given.seeds:
        for optimizer in given.optimizers:
            for kind in given.kinds:
                keep(f"subspace-{kind}-{optimizer.lower()}-seed{seed}.json", KINDS[kind](optimizer, seed))


if __name__ == "__main__":
    main()
