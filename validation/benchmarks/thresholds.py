"""The constants that choose between ways: every way beside the others, on both sides of each constant.

A way is forced by other values of the constants themselves, so that it is the library's own code that runs. What
decides about threads is measured with two, everything else with as many as all benchmarks.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import dlra
from dlra import _stacks, _step, linalg, nn
from dlra.kernels import batched, lapack, tall, updates
from dlra.nn import optimizers
from validation import pages
from validation.benchmarks.gpu import factored_problem
from validation.benchmarks.kernels import DTYPES, directions, gaussian
from validation.benchmarks.results import Headline, compare, number, pinned, publish
from validation.benchmarks.steps import ROOT

AS_IS = "dlra"
"""The way that the constants choose."""
Run = Callable[[], Any]


class Case(NamedTuple):
    """Where, in columns of a table, and the ways there."""

    at: dict[str, Any]
    ways: dict[str, Run]


class Threshold(NamedTuple):
    """A constant, what it chooses, and cases around it.

    ``chosen`` is the way taken, ``once`` the seconds that the way beyond the constant costs beside its own time.
    """

    module: ModuleType
    name: str
    about: str
    cases: Iterator[Case]
    seconds: float = 0.25
    chosen: str = AS_IS
    once: float = 0.0


def forced(run: Run, module: ModuleType, **values: Any) -> Run:
    """The run with other values of constants."""
    before = {name: getattr(module, name) for name in values}

    def changed() -> Any:
        vars(module).update(values)
        try:
            return run()
        finally:
            vars(module).update(before)

    return changed


def measured(threshold: Threshold, quick: bool) -> dict[str, Any]:
    """A row for each case: the times, the fastest way, and how many times longer the chosen one takes.

    That is a median over the rounds, and, as ``surely``, what three quarters of them exceed.
    """
    rows = []
    for case in list(threshold.cases)[:: 3 if quick else 1]:
        times = compare(case.ways, 0.0 if quick else threshold.seconds, least=3 if quick else 5)
        ways = [name for name in times if name != AS_IS]
        fastest = min(ways, key=lambda name: times[name].median)
        ratios = np.divide(times[threshold.chosen].samples, times[fastest].samples)
        over, surely = np.median(ratios), np.quantile(ratios, 0.25)
        rows.append({"at": case.at, "times": times, "fastest": fastest, "over": over, "surely": surely})
    return {
        "name": f"{threshold.module.__name__}.{threshold.name}", "value": getattr(threshold.module, threshold.name),
        "about": threshold.about, "once": threshold.once, "rows": rows,
    }  # fmt: skip


# ---- bases


def around(value: float, *factors: float) -> list[int]:
    """So many times the value each, in two digits."""
    return [int(float(f"{value * factor:.2g}")) for factor in factors]


def _products(value: int, ranks: Sequence[int], *factors: float) -> list[tuple[int, int]]:
    """(m, r) with m q² around the value, q = 2r."""
    return [(m, r) for r in ranks for m in around(value / (4 * r**2), *factors)]


def _rows(value: int, ranks: Sequence[int], *factors: float) -> list[tuple[int, int]]:
    """(m, r) with m around the value."""
    return [(m, r) for r in ranks for m in around(value, *factors)]


AUGMENT = {
    "_WRAPPERS": (
        DTYPES, ("gaussian",), _products(linalg._WRAPPERS, (5, 20), 0.5, 0.9, 1.1, 3.0),
        "m q², q columns in all, up to which one factorisation by LAPACK serves.",
    ),
    "_TALL": (
        ("float64", "complex128"), ("gaussian", "dependent"), _rows(linalg._TALL, (10, 20, 50), 0.9, 1.1, 2.0),
        "Rows from which products in blocks serve, in double precision.",
    ),
    "_PRODUCTS": (
        ("float64", "complex128"), ("gaussian",),
        [(m, r) for m, r in _products(linalg._PRODUCTS, (5, 10, 20), 0.5, 0.9, 1.1, 3.0) if m > linalg._TALL],
        "m q² from which products in blocks serve, in double precision.",
    ),
    "_PRODUCTS_SINGLE": (
        ("float32",), ("gaussian", "dependent"),
        [(m, r) for m, r in _products(linalg._PRODUCTS_SINGLE, (10, 20), 0.5, 0.9, 1.1, 3.0) if m > linalg._TALL],
        "The same in single precision.",
    ),
    "_FEW": (
        ("float64", "float32"), ("gaussian",), [(m, r) for r in (4, 5, 6) for m in (4000, 12_000)],
        "Columns in all, q, up to which one factorisation by LAPACK serves for any number of rows.",
    ),
}  # fmt: skip


def bases() -> Iterator[Threshold]:
    """What ``augment`` chooses."""
    for name, (dtypes, kinds, sizes, about) in AUGMENT.items():
        cases = (
            Case(
                {"dtype": dtype, "X": kind, "m": m, "r": r, "m q²": 4 * m * r**2},
                augmentations(dtype, kind, m, r),
            )
            for dtype in dtypes
            for kind in kinds
            for m, r in sizes
        )
        yield Threshold(linalg, name, about, cases)
    yield Threshold(
        tall, "_SHORT",
        "Rows from which X with nearly dependent columns is split by eigenvectors of its Gram matrix; below, "
        "Householder QR after the products that have found it out.",
        (
            Case(
                {"dtype": dtype, "m": m, "r": r},
                {
                    "products": forced(run, tall, _SHORT=0), "Householder QR": forced(run, tall, _SHORT=math.inf),
                    AS_IS: forced(run, tall),
                },
            )
            for dtype in ("float64", "complex128")
            for m, r in _rows(tall._SHORT, (10, 20), 0.5, 0.9, 1.1, 2.5)
            for run in [augmentation(dtype, "dependent", m, r)]
        ),
    )  # fmt: skip


def augmentation(dtype: str, kind: str, m: int, r: int) -> Run:
    """``augment`` of m x r by as many columns, which may be nearly dependent."""
    rng = np.random.default_rng(0)
    U0 = np.linalg.qr(gaussian(rng, m, r, dtype))[0]
    if kind == "dependent":
        rough = math.sqrt(np.finfo(dtype).eps)
        X = gaussian(rng, m, 1, dtype) + (rough * gaussian(rng, m, r, dtype)).astype(dtype)
    else:
        X = directions(kind, m, r, dtype, rng)
    return lambda: linalg.augment(U0, X)


def augmentations(dtype: str, kind: str, m: int, r: int) -> dict[str, Run]:
    """Its ways."""
    run, never, always = augmentation(dtype, kind, m, r), math.inf, -1
    blocks = forced(run, linalg, _TALL=always, _PRODUCTS=always, _PRODUCTS_SINGLE=always)
    return {
        "LAPACK": forced(run, linalg, _TALL=never, _WRAPPERS=never),
        "projection": forced(run, linalg, _TALL=never, _WRAPPERS=always, _FEW=always),
        "blocks": forced(blocks, tall, _SHORT=0),
        AS_IS: forced(run, linalg),
    }


# ---- factorisations and products


def factorisations() -> Iterator[Threshold]:
    """What ``qr`` and ``svd`` choose, and the blocks of a tall QR factorisation."""

    def qr(dtype: str, m: int, r: int) -> dict[str, Run]:
        A = gaussian(np.random.default_rng(0), m, r, dtype)
        run: Run = lambda: linalg.qr(A)  # noqa: E731
        return {
            "NumPy": lambda: np.linalg.qr(A), "LAPACK": forced(run, linalg, _LARGE=math.inf),
            "blocks": forced(run, linalg, _LARGE=0), AS_IS: forced(run, linalg),
        }  # fmt: skip

    yield Threshold(
        linalg, "_LARGE", "Entries from which a QR factorisation is one of blocks of rows.",
        (
            Case({"dtype": dtype, "m": m, "r": r, "entries": m * r}, qr(dtype, m, r))
            for dtype in ("float64", "float32")
            for r in (20, 50)
            for m in around(linalg._LARGE / r, 0.2, 0.8, 1.2)
        ),
    )  # fmt: skip

    def heights(m: int, r: int) -> dict[str, Run]:
        A = gaussian(np.random.default_rng(0), m, r, "float64")
        return {
            f"{height:,}": forced(lambda: lapack.tall_qr(A), lapack, _BLOCK=height)
            for height in _quarters(lapack._BLOCK)
        }

    yield Threshold(
        lapack, "_BLOCK", "Rows of the blocks of a tall QR factorisation, double precision.",
        (Case({"m": m, "r": r}, heights(m, r)) for m, r in ((100_000, 10), (60_000, 20), (25_000, 50))),
        chosen=f"{lapack._BLOCK:,}",
    )  # fmt: skip

    def products(name: str, dtype: str, m: int, r: int) -> dict[str, Run]:
        rng = np.random.default_rng(0)
        U, X = (np.linalg.qr(gaussian(rng, m, r, dtype))[0] for _ in range(2))
        P = np.linalg.qr(gaussian(rng, r, r, dtype))[0][:, : r // 2].copy()
        function = getattr(linalg, name)
        run: Run = lambda: function(U, X if name == "inner" else P)  # noqa: E731
        return {
            "whole": forced(run, linalg, _CACHED=math.inf), "blocks": forced(run, linalg, _CACHED=0),
            AS_IS: forced(run, linalg),
        }  # fmt: skip

    yield Threshold(
        linalg, "_CACHED",
        "Entries of m x r from which its products are made of blocks of rows: with r x r/2 (`times`), with itself "
        "(`inner`), with r x r/2 and corrected (`rotate`).",
        (
            Case({"what": name, "dtype": dtype, "m": m, "r": r, "entries": m * r}, products(name, dtype, m, r))
            for name in ("times", "inner", "rotate")
            for dtype, r, factors in (
                ("float64", 20, (0.4, 0.9, 1.1, 4, 20)), ("float64", 60, (0.9, 1.2)), ("float32", 20, (0.9, 1.1, 4)),
            )
            for m in around(linalg._CACHED / r, *factors)
        ),
        0.15,
    )  # fmt: skip


def _quarters(value: int) -> tuple[int, int, int]:
    return value // 4, value, value * 4


def blocks() -> Iterator[Threshold]:
    """How high the blocks of products are."""
    for name, sizes, about in (
        (
            "_CACHED", (10, 20, 30, 200),
            "Entries of a block of [U₀ | X], for few columns and for very many; `augment`, double precision, 10⁶ "
            "entries.",
        ),
        ("_PRODUCT", (40, 70, 100, 140), "Multiplications in the product of a block, for many columns."),
    ):  # fmt: skip
        values = _quarters(getattr(tall, name))
        cases = (
            Case(
                {"m": 10**6 // q, "q": q},
                {f"{value:,}": forced(run, tall, **{name: value}) for value in values},
            )
            for q in sizes
            for run in [augmentation("float64", "gaussian", 10**6 // q, q // 2)]
        )
        yield Threshold(tall, name, about, cases, 0.5, chosen=f"{values[1]:,}")


# ---- stacks and training


def stacks() -> Iterator[Threshold]:
    """When singular values of stacks come from compiled code."""

    def ways(dtype: str, n: int, b: int, **values: float) -> dict[str, Run]:
        A = gaussian(np.random.default_rng(0), b * n, n, dtype).reshape(b, n, n)
        return {
            "LAPACK": lambda: np.linalg.svd(A, full_matrices=False), "compiled": lambda: batched.svd(A),
            AS_IS: forced(lambda: linalg.svd_stack(A), _stacks, **values),
        }  # fmt: skip

    yield Threshold(
        _stacks, "_WIDEST", "Size up to which members of a stack, b of n x n, are decomposed by compiled code. dlra "
        "looks for NaN besides, some microseconds that smallest stacks feel. Here with numba loaded.",
        (
            Case({"dtype": dtype, "n": n, "b": b}, ways(dtype, n, b, _LEAST_WORK=0))
            for dtype in DTYPES
            for n in around(_stacks._WIDEST[dtype], 0.1, 0.4, 0.9, 1.1)
            for b in (4, 16, 64)
        ),
        0.15,
    )  # fmt: skip
    yield Threshold(
        _stacks, "_LEAST_USE",
        "The part of the lanes of a vector, 8 in double and 16 in single precision, that a stack must fill for that.",
        (
            Case(
                {"dtype": dtype, "n": n, "b": b, "use": f"{_stacks._use(b, np.dtype(dtype)):.2f}"},
                ways(dtype, n, b, _LEAST_WORK=0),
            )
            for dtype, members in (("float64", (2, 4, 5, 8, 9, 12)), ("float32", (4, 6, 8, 10, 16, 18)))
            for n in (10, 20)
            for b in members
        ),
        0.15,
    )  # fmt: skip
    yield Threshold(
        _stacks, "_LEAST_WORK", "b (20 + n²) from which it pays to load numba for a stack.",
        (
            Case({"n": n, "b": b, "work": b * (20 + n * n)}, ways("float64", n, b))
            for n, b in ((4, 16), (4, 48), (4, 64), (10, 8), (10, 16), (10, 24), (20, 8))
        ),
        0.15, once=loading("dlra.kernels.batched", "dlra._stacks"),
    )  # fmt: skip


def training() -> Iterator[Threshold]:
    """Compiled steps of optimisers."""
    yield Threshold(
        optimizers, "_FUSED",
        "Entries from which a step of an optimiser is compiled; from there on it pays to load numba.",
        (
            Case(
                {"optimiser": name, "dtype": "float32", "entries": n * n},
                {
                    "generic": forced(run, optimizers, _FUSED=math.inf), "compiled": forced(run, optimizers, _FUSED=0),
                    AS_IS: forced(run, optimizers),
                },
            )
            for name in ("Adam", "Momentum")
            for n in around(math.sqrt(optimizers._FUSED), 0.25, 0.5, 0.9, 1.1, 2.0)
            for run in [update(name, n)]
        ),
        0.15, once=loading("dlra.kernels.updates", "dlra.nn.optimizers"),
    )  # fmt: skip


def update(name: str, n: int) -> Run:
    """A step for a core, n x n."""
    optimizer = {"Adam": nn.Adam(1e-3), "Momentum": nn.Momentum(0.1)}[name]
    rng = np.random.default_rng(0)
    slope, X = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    _, memory = optimizer.increment(1e-3, slope, optimizer.empty(X, True), X)
    return lambda: optimizer.increment(1e-3, slope, memory, X)


def loading(compiled: str, other: str) -> float:
    """Seconds that a fresh interpreter needs longer for one module than for another."""
    codes = {"generic": f"import {other}", "compiled": f"import {compiled}"}
    runs = {
        name: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        for name, code in codes.items()
    }
    times = compare(runs, 0.0, least=3)
    return min(times["compiled"].samples) - min(times["generic"].samples)


# ---- threads


def two_threads() -> Iterator[Threshold]:
    """What decides about threads."""

    def ways(run: Run, module: ModuleType, name: str, first: str, then: str) -> dict[str, Run]:
        return {
            first: forced(run, module, **{name: math.inf}), then: forced(run, module, **{name: 0}),
            AS_IS: forced(run, module),
        }  # fmt: skip

    yield Threshold(
        tall, "_SHARED",
        "Two threads: entries of [U₀ | X] from which threads of Python visit a part of the blocks each; below, one "
        "visits all. `augment`, double precision.",
        (
            Case({"m": m, "r": r, "entries": 2 * m * r}, ways(run, tall, "_SHARED", "one visits all", "each a part"))
            for r, factors in ((20, (0.2, 0.8, 1.2, 4)), (50, (0.8, 2)))
            for m in around(tall._SHARED / (2 * r), *factors)
            for run in [augmentation("float64", "gaussian", m, r)]
        ),
    )  # fmt: skip

    def qr(m: int, r: int) -> dict[str, Run]:
        A = gaussian(np.random.default_rng(0), m, r, "float64")
        run: Run = lambda: linalg.qr(A)  # noqa: E731
        return {
            "NumPy": lambda: np.linalg.qr(A), "LAPACK": forced(run, lapack, _TINY=math.inf),
            AS_IS: forced(run, lapack),
        }  # fmt: skip

    yield Threshold(
        lapack, "_TINY",
        "Two threads: entries up to which SciPy's LAPACK serves, whose BLAS has threads beside those of NumPy's.",
        (
            Case({"m": m, "r": r, "entries": m * r}, qr(m, r))
            for r in (20,)
            for m in around(lapack._TINY / r, 0.2, 0.9, 1.1, 2, 10)
        ),
    )  # fmt: skip

    def step(F: Any, Y0: dlra.LowRank) -> Run:
        method, h = dlra.AugmentedBUG(substep="euler"), 1e-4
        return lambda: dlra.solve(F, (0.0, 3 * h), Y0, method, dt=h, t_eval=[3 * h])

    def problems(n: int, r: int) -> Iterator[tuple[str, Any, dlra.LowRank]]:
        F, Y0 = factored_problem(np, n, r)
        yield "factors", F, Y0
        A = np.random.default_rng(0).standard_normal((n, n)) / n
        yield "products with n x n", dlra.factored(lambda Y: A @ Y), Y0

    yield Threshold(
        _step, "SMALL",
        "Two threads: rows and columns up to which a step runs on one. Three steps of augmented BUG with Euler "
        "substeps, r = 20; F costs little on factors, or is a product with a dense matrix.",
        (
            Case({"F": name, "m = n": n}, ways(step(F, Y0), _step, "SMALL", "one thread", "two threads"))
            for n in around(_step.SMALL, 0.2, 0.5, 0.9, 1.1, 2, 4)
            for name, F, Y0 in problems(n, 20)
        ),
        0.5,
    )  # fmt: skip
    yield Threshold(
        updates, "_PARALLEL",
        "Two threads: entries from which a compiled step of an optimiser runs on both. Adam, single precision.",
        (
            Case({"entries": n * n}, ways(update("Adam", n), updates, "_PARALLEL", "one thread", "two threads"))
            for n in around(math.sqrt(updates._PARALLEL), 0.5, 0.9, 1.1, 2)
        ),
    )  # fmt: skip


def measure(quick: bool, threads: int) -> list[dict[str, Any]]:
    """All constants."""
    with pinned(threads):
        found = [
            measured(threshold, quick)
            for group in (bases, factorisations, blocks, stacks, training)
            for threshold in group()
        ]
    if (os.cpu_count() or 1) > 1:
        with pinned(2):
            found += [measured(threshold, quick) for threshold in two_threads()]
    return found


def tables(data: Sequence[Mapping[str, Any]]) -> list[str]:
    """The page."""
    parts = [
        f"Times are milliseconds. The column {AS_IS} is the way that the constants choose, as users get it; each other "
        "one a way that is forced. *Over the fastest*: how many times longer the choice takes than the fastest way; "
        "where it is that way itself, what is left is noise. The sentences count what three quarters of the rounds "
        "exceed. Gaussian X, or one whose columns are the same up to "
        "√eps (dependent); m x r augmented by as many columns, q = 2r."
    ]
    for found in data:
        rows = found["rows"]
        ways = list(rows[0]["times"])
        parts += [
            f"## `{found['name']}` = {_text(found['value'])}",
            f"{found['about']} {_verdict(found)}",
            pages.table(
                [*rows[0]["at"], *ways, "fastest", "over the fastest"],
                [
                    [
                        *map(_text, row["at"].values()), *(number(1e3 * row["times"][way].median) for way in ways),
                        row["fastest"], f"{row['over']:.2f}",
                    ]
                    for row in rows
                ],
            ),
        ]  # fmt: skip
    return parts


def _verdict(found: Mapping[str, Any]) -> str:
    rows = found["rows"]
    if found["once"]:
        beyond = [row for row in rows if list(row["at"].values())[-1] >= found["value"]]
        steps = [found["once"] / _saved(row) for row in beyond]
        return (
            f"To load the compiled one takes {number(found['once'])} s, which these sizes save in "
            f"{number(float(np.median(steps)))} steps (median)."
        )
    row = max(rows, key=lambda row: row["surely"])
    if row["surely"] <= 1.05:
        return "No choice is surely slower than another way by more than 5 %."
    where = ", ".join(f"{name} {_text(value)}" for name, value in row["at"].items())
    return f"The worst choice takes {row['surely']:.2f} times as long as the fastest way or longer ({where})."


def _saved(row: Mapping[str, Any]) -> float:
    first, *_ = row["times"].values()
    return max(first.median - row["times"]["compiled"].median, 1e-9)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def headlines(data: Sequence[Mapping[str, Any]]) -> list[Headline]:
    """The worst choice, and how many cost more than a fifth."""
    surely = [row["surely"] for found in data if not found["once"] for row in found["rows"]]
    what = "time of the way that a threshold chooses over that of the fastest"
    return [
        Headline(f"{what}, worst of {len(surely)} cases", float(max(surely)), unit=" x"),
        Headline(f"{what}: cases above 1.2", 100 * float(np.mean(np.greater(surely, 1.2))), unit=" %"),
    ]


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page and numbers."""
    data = measure(quick, threads)
    publish(
        "thresholds", "Measured: thresholds",
        "The constants by which dlra chooses between ways to compute the same, with every way on both sides of each. "
        "They were set on one machine; the page shows what they cost on this one.",
        tables(data), {"constants": data}, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
