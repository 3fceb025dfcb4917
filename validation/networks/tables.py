"""The tables of the paper on low-rank training, on real MNIST, next to its values.

S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, Low-rank lottery tickets: finding efficient low-rank
neural networks via matrix differential equations, NeurIPS 2022, arXiv:2205.13571, Tables 5 to 8.

``python -m validation.networks.tables run 5 --tau 0.09 --seeds 0 1`` trains and keeps the results in
``validation/networks/results``; ``... pages`` writes docs/networks-tables.md from what is there.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from dlra import nn
from validation import pages
from validation.benchmarks.machine import describe

RESULTS = Path(__file__).resolve().parent / "results"
PAPER: dict[int, dict[float, tuple[float, float, list[int], int, int]]] = {
    # tau: accuracy, its deviation (percent), ranks, parameters for evaluation and for training
    5: {
        0.03: (98.49, 0.02, [176, 170, 171, 174, 10], 745984, 1964540),
        0.05: (98.56, 0.02, [81, 104, 111, 117, 10], 441004, 1050556),
        0.07: (98.52, 0.08, [52, 67, 73, 72, 10], 283768, 633360),
        0.09: (98.34, 0.14, [35, 53, 51, 46, 10], 199940, 429884),
        0.11: (98.11, 0.46, [27, 40, 37, 38, 10], 154668, 324904),
        0.13: (97.50, 0.23, [20, 31, 32, 30, 10], 123680, 255500),
        0.15: (97.22, 0.29, [17, 25, 26, 24, 10], 101828, 207320),
        0.17: (96.90, 0.45, [13, 21, 24, 20, 10], 86692, 174728),
    },
    6: {
        0.03: (98.61, 0.07, [190, 190, 190, 190, 10], 1199520, 2968800),
        0.05: (98.59, 0.06, [124, 120, 125, 126, 10], 784000, 1805268),
        0.07: (98.58, 0.03, [76, 86, 85, 83, 10], 525280, 1151864),
        0.09: (98.49, 0.05, [56, 67, 63, 59, 10], 392000, 836460),
        0.11: (98.12, 0.21, [35, 49, 47, 43, 10], 280672, 584240),
        0.13: (97.95, 0.23, [29, 35, 38, 34, 10], 221088, 453000),
        0.15: (97.81, 0.17, [22, 29, 27, 27, 10], 172480, 348252),
        0.17: (97.40, 0.25, [17, 23, 22, 23, 10], 141120, 281724),
    },
    7: {
        0.11: (95.420, 1.865, [15, 46, 13, 10], 47975, 50585),
        0.15: (95.527, 1.297, [13, 31, 9, 10], 34435, 35746),
        0.20: (95.009, 1.465, [10, 20, 7, 10], 25650, 26299),
        0.30: (92.434, 1.757, [6, 9, 4, 10], 15520, 15753),
    },
}
PRUNED = {
    # rank: accuracy (percent) of the truncated singular value decomposition and after retraining, as printed
    100: (9.91, 98.16), 90: (9.67, 98.44), 80: (9.15, 98.47), 70: (9.83, 98.58), 60: (9.67, 98.41), 50: (9.83, 98.39),
    40: (10.64, 98.24), 30: (10.3, 98.24), 20: (9.15, 97.47), 10: (10.9, 95.36),
}  # fmt: skip
WIDTH = {5: 500, 6: 784}


def sizes(table: int) -> tuple[int, ...]:
    """The widths of the network of Table 5 or 6."""
    return (784, *[WIDTH[table]] * 4, 10)


SETTINGS = {
    # tau: rank at the start and at most, learning rate at the start, epochs
    0.03: (180, 2e-3, 5), 0.05: (110, 4e-3, 8), 0.07: (75, 6e-3, 8), 0.09: (55, 1e-2, 10), 0.11: (40, 1e-2, 10),
    0.13: (32, 1e-2, 10), 0.15: (26, 1e-2, 10), 0.17: (22, 1e-2, 10),
}  # fmt: skip
"""Found by a few short runs on one seed. Ranks can only fall: what a step adds in new directions is below tau ‖S‖."""


def trained(data: Any, net: nn.Sequential, method: Any, epochs: int, rate: float, seed: int) -> nn.History:
    """Adam in batches of 256, with a learning rate that falls exponentially to a fiftieth over all epochs."""
    steps = epochs * math.ceil(len(data.x_train) / 256)
    return nn.train(
        net, data.x_train, data.y_train, loss=nn.CrossEntropyLoss(),
        optimizer=nn.Adam(nn.schedules.ExponentialDecay(rate, 0.02 ** (1 / steps))), method=method, epochs=epochs,
        batch_size=256, validation=(data.x_test, data.y_test), rng=seed,
    )  # fmt: skip


def run(table: int, tau: float | None, seed: int, epochs: int | None = None) -> dict[str, Any]:
    """One training for Table 5, 6 or 7; tau None trains the dense network."""
    data = nn.datasets.mnist(flatten=table != 7)
    if tau is None:
        start, rate, most, method = None, 1e-3, 10, dlra.AugmentedBUG()
        net = nn.lenet5(rng=seed) if table == 7 else nn.mlp(sizes(table), rng=seed)
    elif table == 7:
        start, rate, most = PAPER[7][tau][2], 5e-3, 5
        method, net = dlra.AugmentedBUG(rtol=tau, max_rank=start), nn.lenet5(rank=start, rng=seed)
    else:
        start, rate, most = SETTINGS[tau]
        method, net = dlra.AugmentedBUG(rtol=tau, max_rank=start), nn.mlp(sizes(table), rank=start, rng=seed)
    epochs = epochs or most
    history = trained(data, net, method, epochs, rate, seed)
    return {
        "table": table, "tau": tau, "seed": seed, "epochs": epochs, "start": start, "rate": rate,
        "accuracy": history.validation_accuracy, "ranks": [list(r) for r in history.ranks], "loss": history.loss,
        "seconds": history.seconds, "evaluation": net.parameter_count(),
        "training": net.parameter_count("stored" if table == 7 else "training"),
        "dense": net.to_dense().parameter_count(), "machine": describe(),
    }  # fmt: skip


def prune(ranks: list[int], seed: int, epochs: int, retrain: int) -> dict[str, Any]:
    """Table 8: a dense network of width 784, truncated to each rank, then retrained at that rank."""
    data = nn.datasets.mnist()
    net = nn.mlp(sizes(6), rng=seed)
    trained(data, net, dlra.AugmentedBUG(), epochs, 1e-3, seed)
    rows = []
    for rank in ranks:
        pruned = nn.to_lowrank(net, rank=rank)
        before = pruned.score(data.x_test, data.y_test)
        history = trained(data, pruned, dlra.AugmentedBUG(), retrain, 3e-3, seed)
        rows.append(
            [rank, before, history.validation_accuracy[-1], pruned.parameter_count(), pruned.compression()]
        )
        print(f"rank {rank}: {before:.4f} -> {rows[-1][2]:.4f}", flush=True)
    return {
        "seed": seed, "epochs": epochs, "retrain": retrain, "dense": net.score(data.x_test, data.y_test), "rows": rows,
        "machine": describe(),
    }  # fmt: skip


def name(table: int, tau: float | None, seed: int) -> str:
    """The file that keeps a result."""
    return f"table{table}-{'dense' if tau is None else f'tau{tau:.2f}'}-seed{seed}.json"


def keep(file: str, result: dict[str, Any]) -> None:
    """Write a result."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / file).write_text(json.dumps(result) + "\n")


def results(table: int, tau: float | None) -> list[dict[str, Any]]:
    """The results of all seeds that are there."""
    pattern = name(table, tau, 0).replace("seed0", "seed*")
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def page() -> str:
    """docs/networks-tables.md."""
    parts = [
        "# Low-rank training on MNIST, next to the paper",
        "S. Schotthöfer, E. Zangrando, J. Kusch, G. Ceruti, F. Tudisco, *Low-rank lottery tickets*, NeurIPS 2022 "
        "([arXiv:2205.13571](https://arxiv.org/abs/2205.13571)), Tables 5 to 8. Written by `python -m "
        "validation.networks.tables pages` from `validation/networks/results`; each line there is made by `... run`. "
        "AugmentedBUG(rtol=tau), Adam with a learning rate that falls from 1e-3 to 1e-4, batches of 256; 60 000 images "
        "train, accuracy on the 10 000 test images after the last epoch, mean and standard deviation over the seeds. "
        "Eval. and train are parameter counts as in the paper, c.r. the share saved.",
    ]
    for table, title in (
        (5, "Table 5: 784-500-500-500-500-10"),
        (6, "Table 6: 784-784-784-784-784-10"),
        (7, "Table 7: LeNet5"),
    ):
        rows = []
        for tau in (None, *PAPER[table]):
            found = results(table, tau)
            if not found:
                continue
            final = 100 * np.array([r["accuracy"][-1] for r in found])
            last = found[0]
            ranks = np.mean([r["ranks"][-1] for r in found], axis=0).round().astype(int).tolist()
            dense = last["dense"]
            evaluation, training = (int(np.mean([r[k] for r in found])) for k in ("evaluation", "training"))
            row = [
                "dense" if tau is None else f"{tau:.2f}", f"{pages.shown(final, 2)} %", str(ranks), f"{evaluation}",
                f"{1 - evaluation / dense:.1%}",
                f"{training}", f"{1 - training / dense:.1%}", str(len(found)), str(last["epochs"]),
                "" if tau is None else str(last["start"]), f"{last['rate']:g}",
            ]  # fmt: skip
            if tau is None:
                row += ["98.54 %" if table == 5 else "98.53 %" if table == 6 else "", "", ""]
            else:
                accuracy, deviation, paper_ranks, count, _ = PAPER[table][tau]
                row += [f"{accuracy:.2f} ± {deviation:.2f} %", str(paper_ranks), f"{1 - count / dense:.1%}"]
            rows.append(row)
        columns = (
            "tau, accuracy, ranks, eval., c.r., train, c.r., seeds, epochs, start, rate, paper, ranks, c.r."
        )
        parts += [f"## {title}", pages.table(columns.split(", "), rows)]
    pruned = sorted(RESULTS.glob("table8-*.json"))
    if pruned:
        found = json.loads(pruned[0].read_text())
        parts += [
            "## Table 8: pruning a trained network of width 784",
            f"The dense network has {found['dense']:.2%} after {found['epochs']} epochs; each truncation is retrained "
            f"for {found['retrain']} epochs at its rank. The paper's column for the truncated singular value "
            "decomposition (about 10 %, chance) is not what a correct truncation gives; it is what multiplying by V "
            "instead of its transpose gives.",
            pages.table(
                ["rank", "SVD", "retrained", "parameters", "c.r.", "paper: SVD", "paper: retrained"],
                [
                    [
                        str(r),
                        f"{a:.2%}",
                        f"{b:.2%}",
                        str(p),
                        f"{c:.2%}",
                        f"{PRUNED[r][0]} %",
                        f"{PRUNED[r][1]} %",
                    ]
                    for r, a, b, p, c in found["rows"]
                ],
            ),
        ]
    parts.append(f"Last run on {describe()}.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("table", type=int, choices=(5, 6, 7, 8))
    one.add_argument(
        "--tau", type=float, nargs="*", help="default: all of the table; none for the dense network"
    )
    one.add_argument("--dense", action="store_true")
    one.add_argument("--seeds", type=int, nargs="*", default=[0])
    one.add_argument("--epochs", type=int, help="default: as recorded for each tau; 8 for table 8")
    one.add_argument("--retrain", type=int, default=2)
    commands.add_parser("pages")
    given = parser.parse_args()
    if given.command == "pages":
        (pages.DOCS / "networks-tables.md").write_text(page())
        return
    for seed in given.seeds:
        if given.table == 8:
            keep(f"table8-seed{seed}.json", prune(list(PRUNED), seed, given.epochs or 8, given.retrain))
            continue
        for tau in [None] if given.dense else given.tau or list(PAPER[given.table]):
            result = run(given.table, tau, seed, given.epochs)
            keep(name(given.table, tau, seed), result)
            print(
                f"table {given.table} tau {tau} seed {seed}: {result['accuracy'][-1]:.4f} (best "
                f"{max(result['accuracy']):.4f}) "
                f"{result['ranks'][-1]} {sum(result['seconds']):.0f} s", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
