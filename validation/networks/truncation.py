"""Local, global and iterative truncation at equal numbers of parameters, on FCN-8 trained on MNIST.

Structure-preserving network compression via low-rank induced training through linear layers composition (LoRITa),
section 4 and appendix A: LSVT, GSVT and ISVT (500 parameters a round, 120 training samples).

``python -m validation.networks.lorita run --depths 8 --nets FOLDER`` trains the networks, ``python -m
validation.networks.truncation run --nets FOLDER`` truncates them and keeps the results in
``validation/networks/results``; ``... pages`` writes docs/networks-truncation.md and its picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dlra import compress, nn
from validation import pages
from validation.benchmarks.machine import describe
from validation.networks.lorita import FACTORS, best_decay, name
from validation.networks.tables import RESULTS, keep

SHARES = (0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05)
TUNED = (0.2, 0.1, 0.05)
"""Shares of parameters after whose truncation the network is trained for one more epoch too."""
RULES = ("lsvt", "gsvt", "isvt")


def run(path: Path, seed: int) -> dict[str, Any]:
    """All truncations of one network."""
    data, net = nn.datasets.mnist(flatten=True), nn.load(path)
    test = (data.x_test, data.y_test)
    points = []
    for share in SHARES:
        wanted = int(share * net.parameter_count())
        again = {
            "x": data.x_train, "y": data.y_train, "loss": nn.CrossEntropyLoss(), "optimizer": nn.Adam(3e-4),
            "epochs": 1, "batch_size": 256, "rng": seed,
        }  # fmt: skip
        options: dict[str, Any] = {
            "parameters": wanted, "data": test, "fine_tune": again if share in TUNED else None,
        }  # fmt: skip
        for rule in RULES:
            if rule == "isvt":
                result = compress.isvt(net, data.x_train, data.y_train, rng=seed, **options)
            else:
                result = getattr(compress, rule)(net, **options)
            r = result.report
            points.append(
                {
                    "rule": rule, "share": share, "parameters": r.parameters_after, "flops": r.flops_after,
                    "truncated": r.accuracy_truncated, "tuned": r.accuracy_tuned, "ranks": list(result.net.ranks),
                    "seconds": r.seconds,
                }
            )  # fmt: skip
    return {"net": path.stem, "accuracy": net.score(*test), "dense": net.parameter_count(), "points": points,
            "machine": describe()}  # fmt: skip


def file(factors: int, seed: int) -> str:
    """Where the results of one network are kept."""
    return f"truncation-fcn8-n{factors}-seed{seed}.json"


def results(factors: int) -> list[dict[str, Any]]:
    """Of all seeds that are there."""
    return [
        json.loads(p.read_text()) for p in sorted(RESULTS.glob(file(factors, 0).replace("seed0", "seed*")))
    ]


def accuracies(found: list[dict[str, Any]], rule: str, share: float, which: str) -> np.ndarray:
    """In percent, one for each seed."""
    return np.array(
        [100 * p[which] for r in found for p in r["points"] if p["rule"] == rule and p["share"] == share]
    )


def page() -> None:
    """docs/networks-truncation.md and its picture."""
    drawn, axes = pages.figure(1, len(FACTORS), (11, 3.8))
    parts: list[str] = []
    verdicts: dict[tuple[str, float], list[float]] = {}
    for factors, axis in zip(FACTORS, axes, strict=True):
        found = results(factors)
        if not found:
            continue
        for rule, colour, marker in zip(RULES, pages.COLOURS, pages.MARKERS, strict=False):
            table = np.array([accuracies(found, rule, share, "truncated") for share in SHARES])
            mean, spread = table.mean(axis=1), table.std(axis=1, ddof=1) if len(found) > 1 else 0.0
            shares = [100 * share for share in SHARES]
            axis.errorbar(
                shares,
                mean,
                yerr=spread,
                color=colour,
                marker=marker,
                markersize=4,
                capsize=2,
                label=rule.upper(),
            )
        axis.set(title=f"FCN-8, N = {factors}", xlabel="parameters (% of the dense)", xscale="log")
        pages.decades(axis.xaxis, 5, 60)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        rows = []
        for share in SHARES:
            values = {rule: accuracies(found, rule, share, "truncated") for rule in RULES}
            row = [f"{100 * share:g} %", *(pages.shown(values[rule], 1) for rule in RULES)]
            tuned = share in TUNED
            row += [
                pages.shown(accuracies(found, rule, share, "tuned"), 2) if tuned else "" for rule in RULES
            ]
            rows.append(row)
            for which in ("truncated", "tuned") if tuned else ("truncated",):
                each = {rule: accuracies(found, rule, share, which) for rule in RULES}
                gain = each["isvt"] - np.maximum(each["lsvt"], each["gsvt"])
                verdicts.setdefault((which, share), []).extend(gain.tolist())
        seconds = [
            p["seconds"] for r in found for p in r["points"] if p["rule"] == "isvt" and p["tuned"] is None
        ]
        whole = pages.shown([100 * r["accuracy"] for r in found], 2)
        parts += [
            f"## N = {factors}",
            f"{len(found)} networks of {found[0]['dense']} weights, accuracy {whole} % before. An iterative truncation "
            f"took {pages.shown(seconds, 1)} s.",
            pages.table(
                ["parameters", *(r.upper() for r in RULES), *(f"{r.upper()}, tuned" for r in RULES)], rows
            ),
        ]
    axes[0].set_ylabel("test accuracy (%)")
    pages.save(drawn, "truncation-rules.png")
    pages.write(
        "networks-truncation.md",
        [
            "# Local, global and iterative truncation",
            "Written by `python -m validation.networks.truncation pages` from `validation/networks/results`, made by "
            "`... run`. FCN-8 (784-96-...-96-10, eight layers) trained on MNIST as products of N factors ([composed "
            "layers](networks-lorita.md)), then truncated to equal numbers of parameters, biases not counted: LSVT "
            "with one share of singular values for all layers, GSVT, and ISVT with 500 parameters a round and 120 "
            "training samples. Test accuracy in percent right after the truncation, mean and standard deviation over "
            "the seeds, and for some after one more epoch of Adam (3e-4) at these ranks.",
            "![Accuracy against parameters for the three rules](images/truncation-rules.png)",
            "What ISVT gains over the better of the other two, all networks together (points of accuracy: mean, and in "
            "how many cases it is positive):",
            pages.table(
                ["parameters", "truncated", "", "one epoch later", ""],
                [
                    [
                        f"{100 * share:g} %",
                        *_gain(verdicts, "truncated", share),
                        *_gain(verdicts, "tuned", share),
                    ]
                    for share in SHARES
                ],
            ),
            *parts,
            f"Last run on {describe()}.",
        ],
    )


def _gain(verdicts: dict[tuple[str, float], list[float]], which: str, share: float) -> tuple[str, str]:
    gains = verdicts.get((which, share), [])
    return (f"{np.mean(gains):+.1f}", f"{sum(g > 0 for g in gains)} of {len(gains)}") if gains else ("", "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--nets", type=Path, required=True, help="folder with the networks")
    one.add_argument("--factors", type=int, nargs="*", choices=FACTORS, default=list(FACTORS))
    one.add_argument("--seeds", type=int, nargs="*", default=[0])
    commands.add_parser("pages")
    given = parser.parse_args()
    if given.command == "pages":
        page()
        return
    for seed in given.seeds:
        for factors in given.factors:
            path = given.nets / f"{name(8, factors, best_decay(8, factors), seed)}.h5"
            if not (RESULTS / file(factors, seed)).exists():
                keep(file(factors, seed), run(path, seed))
                print(file(factors, seed), flush=True)


if __name__ == "__main__":
    main()
