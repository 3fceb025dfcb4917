"""All ways to a small network on one footing: FCN-8 on MNIST.

``python -m validation.networks.comparison run`` runs ``dlra.compress.compare`` and keeps what it has found in
``validation/networks/results``; ``... pages`` writes docs/networks-compression.md and its picture.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from dlra import compress, nn, plot
from validation import pages
from validation.benchmarks.machine import describe
from validation.networks.tables import RESULTS, keep

FILE = "comparison-fcn8.json"
METHODS = (
    "dlrt", "lorita2", "lorita3", "svd", "svd-training", "nuclear", "hoyer", "gini", "effective-rank",
)  # fmt: skip


def run(methods: list[str], epochs: int, seeds: list[int]) -> None:
    """The comparison; a seed is kept as soon as it is done, its methods in the place of what the file has of them."""
    data = nn.datasets.mnist(flatten=True)
    for seed in seeds:
        file = FILE.replace(".json", f"-seed{seed}.json")
        found = compress.compare(data, _network, methods, epochs=epochs, seeds=[seed])
        print(found.table(), flush=True)
        if (RESULTS / file).exists():
            before = compress.Comparison.from_dict(json.loads((RESULTS / file).read_text()))
            for name in ("trainings", "points", "failures"):
                others = [one for one in getattr(before, name) if one.method not in methods]
                setattr(found, name, [*getattr(found, name), *others])
            known = set(found.settings) & set(before.settings) - {
                "methods",
                "strengths",
                "targets",
                "left_out",
            }
            if any(found.settings[k] != before.settings[k] for k in known):
                raise SystemExit(f"{file} has other settings; remove it first")
            if not found.settings["targets"]:  # dlrt alone has none
                found.settings["targets"] = before.settings["targets"]
            found.settings["strengths"] = {**before.settings["strengths"], **found.settings["strengths"]}
            found.settings["methods"] = [m for m in METHODS if m in {*methods, *before.settings["methods"]}]
        keep(file, {**found.to_dict(), "machine": describe()})


def _network(rng: Any) -> nn.Sequential:
    return nn.fcn(8, rng=rng)


def merged() -> tuple[compress.Comparison, str]:
    """All seeds as one comparison, and the machine of the last."""
    parts = [
        json.loads(path.read_text()) for path in sorted(RESULTS.glob(FILE.replace(".json", "-seed*.json")))
    ]
    found = compress.Comparison.from_dict(parts[0])
    for part in parts[1:]:
        other = compress.Comparison.from_dict(part)
        found.trainings += other.trainings
        found.points += other.points
        found.failures += other.failures
        found.warnings += other.warnings
    found.settings["seeds"] = [seed for part in parts for seed in part["settings"]["seeds"]]
    return found, parts[-1]["machine"]


def page() -> None:
    """docs/networks-compression.md and its picture."""
    found, machine = merged()
    settings = found.settings
    plot.save(found.plot(), pages.folder("images") / "compression-methods.png")
    dense = settings["parameters"]
    rows = []
    for row in found.rows():
        seconds = f"{row.training_seconds:.0f} + {row.seconds:.0f}"
        rows.append(
            [row.method, row.setting, f"{row.parameters:.0f}", f"{row.parameters / dense:.1%}", f"{row.flops:.0f}",
             *(_percent(found, row, name) for name in ("accuracy_full", "accuracy", "accuracy_tuned")), seconds]
        )  # fmt: skip
    pages.write(
        "networks-compression.md",
        [
            "# Ways to a small network, compared",
            "Written by `python -m validation.networks.comparison pages` from `validation/networks/results`, made by "
            "`... run`, which calls `compress.compare`; `dlra compare mnist --net fcn8` does the same. FCN-8, "
            f"784-96-...-96-10, {dense} weights, on MNIST. All methods start from the same weights, see the same "
            f"batches for {settings['epochs']} epochs of {settings['optimizer']} with the same learning rates (from "
            f"{settings['lr']:g} to zero like a cosine) and weight decay {settings['weight_decay']:g}; they are "
            f"truncated by {settings['rule'].upper()} to the same shares of the parameters, the last layer left as it "
            f"is, and what results is trained for {settings['fine_tune']} epoch more at the ranks it has. Low-rank "
            "training (dlrt) truncates while it trains: each τ is a training. Seeds "
            f"{', '.join(map(str, settings['seeds']))}; mean ± standard deviation on the 10 000 test images.",
            "![Test accuracy against parameters](images/compression-methods.png)",
            best(found),
            "Seconds are those of the training (once for all truncations of a method) + those of truncation and "
            "fine-tuning, with one BLAS thread; the seeds ran side by side on the two cores.",
            pages.table(
                ["method", "setting", "parameters", "share", "FLOPs", "whole", "truncated", "tuned", "seconds"], rows
            ),
            *(["Failed: " + "; ".join(f"{f.method}, {f.stage}: {f.message}" for f in found.failures)]
              if found.failures else []),
            f"Last run on {machine}.",
        ],
    )  # fmt: skip


def best(found: compress.Comparison) -> str:
    """At some numbers of parameters, the methods in the order of their best final accuracy."""
    lines = []
    dense = found.settings["parameters"]
    for share in (0.1, 0.2, 0.3):
        final: dict[str, float] = {}
        for row in found.rows():
            if row.parameters <= share * dense * 1.001:
                accuracy = row.accuracy_tuned or row.accuracy
                final[row.method] = max(final.get(row.method, 0.0), accuracy[0])
        ordered = sorted(final, key=lambda name: -final[name])
        listed = ", ".join(f"{name} {100 * final[name]:.2f}" for name in ordered)
        lines.append(f"* at most {share:.0%} of the parameters: {listed}")
    return (
        "Best test accuracy (percent, mean over the seeds, after fine-tuning where there is one):\n\n"
        + "\n".join(lines)
    )


def _percent(found: compress.Comparison, row: compress.Row, name: str) -> str:
    """An accuracy of all seeds in percent."""
    points = [p for p in found.points if (p.method, p.setting) == (row.method, row.setting)]
    known = [100 * getattr(p, name) for p in points if getattr(p, name) is not None]
    return pages.shown(known, 2) if known else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--methods", nargs="*", default=list(METHODS))
    one.add_argument("--seeds", type=int, nargs="*", default=[0])
    one.add_argument("--epochs", type=int, default=10)
    commands.add_parser("pages")
    given = parser.parse_args()
    if given.command == "pages":
        page()
    else:
        run(given.methods, given.epochs, given.seeds)


if __name__ == "__main__":
    main()
