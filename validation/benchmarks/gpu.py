"""What dlra does on an NVIDIA GPU through CuPy.

Bases of tall factors beside the time that their bytes need to pass through memory, singular values of stacks of small
matrices beside CuPy's own, a step of augmented BUG with Euler substeps beside the same limit, and the size from which
on the GPU is faster than NumPy. Without a GPU it says so, and neither measures nor writes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dlra
from dlra.kernels import gpu
from validation import pages
from validation.benchmarks.results import Headline, compare, milliseconds, number, pinned, publish

RANK = 64
STACKS = ((16, 8), (256, 16), (256, 32), (1024, 64))
SIZES = (100, 1_000, 10_000, 100_000)
STEPS = 20


def device() -> str | None:
    """The name of the GPU; None where there is none that CuPy can use."""
    try:
        import cupy
    except ImportError:
        return None
    if not cupy.cuda.is_available():
        return None
    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def ended(run: Callable[[], Any], wait: Callable[[], None]) -> Callable[[], None]:
    """The run to the end of what it asks the device for."""

    def whole() -> None:
        run()
        wait()

    return whole


def factored_problem(xp: Any, n: int, r: int) -> tuple[Any, dlra.LowRank]:
    """A field on factors of rank 2 r that costs a few products, and a state of rank r, in this library."""
    rng = np.random.default_rng(0)
    b = xp.asarray(rng.standard_normal((n, r)) / np.sqrt(n))
    d = xp.asarray(rng.random((n, 1)))
    U = xp.asarray(np.linalg.qr(rng.standard_normal((n, r)))[0])
    S = xp.asarray(np.diag(0.9 ** np.arange(r)))
    source = dlra.LowRank(b, None, b)
    return dlra.factored(lambda Y: source - d * Y), dlra.LowRank(U, S, U.copy())


def steps(xp: Any, n: int, r: int, wait: Callable[[], None]) -> Callable[[], None]:
    """So many steps of augmented BUG with Euler substeps at fixed rank."""
    F, Y0 = factored_problem(xp, n, r)
    method = dlra.AugmentedBUG(substep="euler")
    h = 1e-3
    return ended(lambda: dlra.solve(F, (0.0, STEPS * h), Y0, method, dt=h, t_eval=[STEPS * h]), wait)


def measure(xp: Any, wait: Callable[[], None], rows: int, seconds: float) -> dict[str, Any]:
    """All parts; ``rows`` is the number of rows of the tall factors."""
    rng = np.random.default_rng(0)
    tall = rng.standard_normal((rows, 2 * RANK))
    U0, X = xp.asarray(np.linalg.qr(tall[:, :RANK])[0]), xp.asarray(tall[:, RANK:])
    item = 8 * rows * RANK
    runs = {
        "copy": ended(U0.copy, wait),
        "augment": ended(lambda: gpu.augment(U0, X), wait),
        "step": steps(xp, rows, RANK, wait),
    }
    times = compare(runs, seconds, least=3)
    moved = {  # bytes, with those of a copy as their unit
        "augment": 4 * item,  # U0 and X read, the basis of twice the width written
        "step": 12 * item * STEPS,  # U, V, two factors of F read; two bases written, read and rotated
    }
    tall_rows = [
        {
            "what": what,
            "time": times[what],
            "times the limit": times[what].over(times["copy"]) * 2 * item / count,
        }
        for what, count in moved.items()
    ]
    stacks = []
    for count, n in STACKS:
        A = xp.asarray(rng.standard_normal((count, n, n)))
        pair = compare(
            {
                "own": ended(lambda A=A: gpu.svd(A), wait),
                "library": ended(lambda A=A: xp.linalg.svd(A, full_matrices=False), wait),
            },
            seconds,
        )
        stacks.append({"count": count, "n": n, **pair, "gain": pair["library"].over(pair["own"])})
    growth = []
    for n in SIZES:
        pair = compare(
            {"NumPy": steps(np, n, 20, lambda: None), "GPU": steps(xp, n, 20, wait)}, seconds, least=3
        )
        growth.append({"n": n, **pair, "gain": pair["NumPy"].over(pair["GPU"])})
    return {
        "rows": rows, "bytes a second": 2 * item / times["copy"].median, "tall": tall_rows, "stacks": stacks,
        "growth": growth,
    }  # fmt: skip


def tables(data: dict[str, Any]) -> list[str]:
    """The page."""
    return [
        f"A copy moves {number(data['bytes a second'] / 1e9)} GB/s. The limit is the time that the bytes of a task, "
        "read and written once, need at that rate.",
        f"## Tall factors, m = n = {data['rows']:,}, r = {RANK}, double precision",
        f"Augmentation by as many columns, and {STEPS} steps of augmented BUG with Euler substeps.",
        pages.table(
            ["what", "ms", "times the limit"],
            [[row["what"], milliseconds(row["time"]), number(row["times the limit"])] for row in data["tall"]],
        ),
        "## Stacks of small matrices",
        "Singular values in one launch of dlra's kernel, and by `cupy.linalg.svd`.",
        pages.table(
            ["stack", "one launch / ms", "CuPy / ms", "CuPy x"],
            [
                [
                    f"{row['count']} of {row['n']} x {row['n']}", milliseconds(row["own"]),
                    milliseconds(row["library"]), number(row["gain"]),
                ]
                for row in data["stacks"]
            ],
        ),
        "## From which size on",
        f"{STEPS} steps with Euler substeps, r = 20.",
        pages.table(
            ["m = n", "NumPy / ms", "GPU / ms", "NumPy x"],
            [
                [f"{row['n']:,}", milliseconds(row["NumPy"]), milliseconds(row["GPU"]), number(row["gain"])]
                for row in data["growth"]
            ],
        ),
    ]  # fmt: skip


def headlines(data: dict[str, Any]) -> list[Headline]:
    """How far from the limit of memory, and the gain over NumPy at the largest size."""
    last = data["growth"][-1]
    return [
        *(
            Headline(f"GPU, {row['what']}: times the limit by bandwidth", row["times the limit"], unit=" x")
            for row in data["tall"]
        ),
        Headline(
            f"GPU, a step, m = n = {last['n']:,}, r = 20: times faster than NumPy", last["gain"], unit=" x"
        ),
    ]


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page and numbers; without a GPU say that there is none."""
    name = device()
    if name is None:
        print("No usable CUDA device with CuPy here: nothing was measured.", end="\n\n")
        return
    import cupy

    wait = cupy.cuda.get_current_stream().synchronize
    with pinned(threads):
        data = measure(cupy, wait, 10**5 if quick else 10**6, 0.05 if quick else 1.0)
    publish(
        "gpu", "Measured: on a GPU", f"{name}, CuPy {cupy.__version__}.",
        tables(data), data | {"device": name, "cupy": cupy.__version__}, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
