"""What a convolution costs, forward and backward, dense and low-rank, beside PyTorch's; and the gain of compiled parts.

The layers are those of LeNet5 with a batch of 128 in single precision. Backward gives the derivatives by kernel and
bias, and by the input where the layer is not the first. The derivative by a low-rank kernel is the pair of its factors,
which costs nothing; "with products" adds G V and Gᵀ U, which a step of training asks of it. Channels come first in
memory for ours, batch entries for PyTorch, as either leaves them to the next layer. "Generic" is the array API alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from dlra.kernels import _compiled
from dlra.lazy import apply
from dlra.nn import _patches, _pooling
from dlra.nn._patches import Windows
from dlra.nn.convolution import Conv2d, LowRankConv2d
from validation import pages
from validation.benchmarks.machine import describe

BATCH = 128
LAYERS = ((1, 28, 20), (20, 12, 50))
KERNEL = 5
RANKS = (5, 10, 20)
THREADS = 1


def milliseconds(runs: dict[str, Callable[[], Any]], repeats: int = 21) -> dict[str, float]:
    """Median wall-clock milliseconds of several runs, interleaved."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(values)) for name, values in times.items()}


@contextmanager
def threads(count: int) -> Any:
    """So many threads for BLAS and PyTorch."""
    from threadpoolctl import threadpool_limits

    torch = _torch()
    before = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(count)
    with threadpool_limits(count):
        yield
    if torch:
        torch.set_num_threads(before)


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def images(*shape: int) -> np.ndarray:
    """Random N x C x H x W, channels first in memory."""
    N, C, *size = shape
    x = np.random.default_rng(0).standard_normal((C, N, *size)).astype("float32")
    return x.transpose(1, 0, 2, 3)


def generic(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same run without compiled parts."""

    def without() -> Any:
        with mock.patch.object(_compiled, "module", return_value=None):
            return run()

    return without


def passes(layer: Any, x: np.ndarray, delta: np.ndarray, first: bool, products: bool = False) -> Any:
    """Forward and backward through a layer, as a function without arguments."""

    def run() -> Any:
        _, tape = layer.forward(x, layer.parameters, False)
        G = layer.backward(delta, tape, layer.parameters, not first)[1][0]
        if products:
            return apply(G, layer.weight.V), apply(G.T, layer.weight.U)
        return G

    return run


def torch_passes(layer: Any, x: np.ndarray, delta: np.ndarray, first: bool) -> Any:
    """The same by PyTorch."""
    torch = _torch()
    tx, td = (torch.tensor(np.ascontiguousarray(a)) for a in (x, delta))
    tw, tb = (torch.tensor(a, requires_grad=True) for a in (layer.kernel, layer.bias))
    tx.requires_grad_(not first)

    def run() -> Any:
        tx.grad = tw.grad = tb.grad = None
        torch.nn.functional.conv2d(tx, tw, tb).backward(td)

    return run


def layers() -> str:
    """Forward and backward of whole layers."""
    rows = []
    for C, H, F in LAYERS:
        first = C == 1
        x = images(BATCH, C, H, H)
        dense = Conv2d(C, F, KERNEL, rng=0)
        delta = images(BATCH, *dense.output_shape((C, H, H)))
        compiled = {"dense": passes(dense, x, delta, first)}
        for r in (r for r in RANKS if r <= dense.rank):
            layer = LowRankConv2d(C, F, KERNEL, r, rng=0)
            compiled[f"rank {r}"] = passes(layer, x, delta, first)
            compiled[f"rank {r}, with products"] = passes(layer, x, delta, first, products=True)
        runs = dict(compiled)
        runs |= {f"{name} generic": generic(run) for name, run in compiled.items()}
        if _torch():
            runs["torch"] = torch_passes(dense, x, delta, first)
        ms = milliseconds(runs)
        for name in compiled:
            torch = f"{ms['torch']:.1f}" if name == "dense" and "torch" in ms else ""
            rows.append(
                [f"{C} x {H} x {H} to {F}", name, f"{ms[name]:.1f}", f"{ms[name + ' generic']:.1f}", torch]
            )
    return pages.table(["layer", "kernel", "ours / ms", "generic / ms", "PyTorch conv2d / ms"], rows)


def parts() -> str:
    """The functions that have a compiled version."""
    rows = []
    for C, H in ((1, 28), (20, 12)):
        windows, x = Windows((KERNEL, KERNEL)), images(BATCH, C, H, H)
        patches = _patches.unfold(x, windows)
        rows += [
            _part(f"unfold, {C} x {H} x {H}", lambda x=x, w=windows: _patches.unfold(x, w)),
            _part(
                f"fold, {C} x {H} x {H}",
                lambda p=patches, x=x, w=windows: _patches.fold(p, x.shape, w),
            ),
        ]
    for size, stride in ((2, 2), (3, 2)):
        windows, x = Windows((size, size), (stride, stride)), images(BATCH, 20, 24, 24)
        y, where = _pooling.max_pool(x, windows)
        name = f"{size} x {size} every {stride}, 20 x 24 x 24"
        rows += [
            _part(f"maximum, {name}", lambda x=x, w=windows: _pooling.max_pool(x, w)),
            _part(
                "its gradient",
                lambda y=y, at=where, x=x, w=windows: _pooling.max_pool_gradient(y, at, x.shape, w),
            ),
            _part(
                "gradient of the mean",
                lambda y=y, x=x, w=windows: _pooling.average_pool_gradient(y, x.shape, w),
            ),
        ]
    return pages.table(["function", "compiled / ms", "generic / ms", "gain"], rows)


def _part(name: str, run: Callable[[], Any]) -> list[str]:
    ms = milliseconds({"compiled": run, "generic": generic(run)})
    gain = ms["generic"] / ms["compiled"]
    return [name, f"{ms['compiled']:.2f}", f"{ms['generic']:.2f}", f"{gain:.1f}"]


def main() -> None:
    with threads(THREADS):
        print(
            f"Convolutions, batch of {BATCH}, kernel {KERNEL} x {KERNEL}, single precision; {THREADS} thread for all;"
        )
        print("medians of interleaved runs.\n")
        print(layers())
        print(parts())


if __name__ == "__main__":
    print(describe(), end="\n\n")
    main()
