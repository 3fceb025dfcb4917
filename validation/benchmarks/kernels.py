"""Augment, orthonormalise, truncate: beside NumPy, SciPy and LAPACK, and beside the rate of matrix products.

``python -m validation.benchmarks kernels``

Operations are multiplications and additions of real numbers that the task needs by products alone: 12 m r² for
``augment`` of U0 (m x r) and X (m x r), which are two rounds of projection off U0 (4 m r² each) and of Gram matrix and
triangular solve (2 m r² each); 4 m r² for ``orthonormalize`` of m x r, two rounds of the latter; 4 m r² a side for the
rotation of 2r columns into r. Complex ones count four times. What a rival spends beyond that (Householder QR of [U0 |
X] takes 16 m r²) does not count for it: rates are of the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlra import LowRank, linalg
from validation import pages
from validation.benchmarks.results import Headline, Timing, compare, milliseconds, number, pinned, publish

SIZES = ((100, 5), (1000, 20), (10_000, 20), (10_000, 50), (100_000, 20), (100_000, 50))
GOALS = {
    (100, 5): 1.2,
    (1000, 20): 1.7,
    (10_000, 20): 2.5,
    (10_000, 50): 3.0,
    (100_000, 20): 4.0,
    (100_000, 50): 7.0,
}
"""How many times faster than ``numpy.linalg.qr`` augment shall be, in double precision."""
SHARE = 0.45
"""Of the rate of matrix products, for r >= 50."""
DTYPES = ("float64", "float32", "complex128")
KINDS = ("gaussian", "graded", "deficient")
CORES = (5, 10, 20, 50)
SQUARE = 500
"""Size of the matrices whose product gives the rate of matrix products."""


def weight(dtype: str) -> int:
    """Real operations an operation costs: 4 for complex numbers."""
    return 4 if np.dtype(dtype).kind == "c" else 1


def gaussian(rng: np.random.Generator, m: int, r: int, dtype: str) -> np.ndarray:
    """A random matrix, complex where the dtype is."""
    A = rng.standard_normal((m, r))
    if np.dtype(dtype).kind == "c":
        A = A + 1j * rng.standard_normal((m, r))
    return A.astype(dtype)


def directions(kind: str, m: int, r: int, dtype: str, rng: np.random.Generator) -> np.ndarray:
    """X: Gaussian; graded, with columns of length 1 down to 1e-8; deficient, with half of its columns dependent."""
    X = gaussian(rng, m, r, dtype)
    if kind == "graded":
        X = X * np.logspace(0, -8, r).astype(dtype)
    elif kind == "deficient":
        free = (r + 1) // 2
        X[:, free:] = X[:, :free] @ gaussian(rng, free, r - free, dtype)
    return X


def lapack_qr(dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """Q by LAPACK itself: geqrf and orgqr with their best workspace, in place, for arrays in Fortran order."""
    from scipy.linalg import get_lapack_funcs

    build = "ungqr" if np.dtype(dtype).kind == "c" else "orgqr"
    geqrf, orgqr = get_lapack_funcs(("geqrf", build), dtype=np.dtype(dtype))

    def Q_of(A: np.ndarray) -> np.ndarray:
        work = 64 * A.shape[1]
        factored, tau, _, _ = geqrf(A, lwork=work, overwrite_a=1)
        return orgqr(factored, tau, lwork=work, overwrite_a=1)[0]

    return Q_of


def stacked(U0: np.ndarray, X: np.ndarray, order: Any = "C") -> np.ndarray:
    """[U0 | X]."""
    out = np.empty((U0.shape[0], U0.shape[1] + X.shape[1]), dtype=U0.dtype, order=order)
    out[:, : U0.shape[1]] = U0
    out[:, U0.shape[1] :] = X
    return out


def square_product(dtype: str, size: int = SQUARE) -> tuple[Callable[[], Any], float]:
    """A product of square matrices and its number of real operations."""
    rng = np.random.default_rng(1)
    A, B = (gaussian(rng, size, size, dtype) for _ in range(2))
    C = np.empty_like(A)
    return lambda: np.matmul(A, B, out=C), 2.0 * weight(dtype) * size**3


def loss(Q: np.ndarray) -> float:
    """‖QᴴQ - I‖_F."""
    return float(np.linalg.norm(Q.conj().T @ Q - np.eye(Q.shape[1])))


def _compared(runs: dict[str, Callable[[], Any]], m: int, seconds: float) -> dict[str, Timing]:
    """Times of runs on matrices of m rows: the rounds of large ones are few, and steady."""
    return compare(runs, seconds, least=5 if m <= 10_000 else 3)


def measure_augment(dtype: str, m: int, r: int, kind: str, seconds: float) -> dict[str, Any]:
    """A row: ``augment`` beside QR of the stacked matrix by NumPy, SciPy and LAPACK; the product of square matrices."""
    import scipy.linalg

    rng = np.random.default_rng(0)
    U0 = np.linalg.qr(gaussian(rng, m, r, dtype))[0]
    X = directions(kind, m, r, dtype, rng)
    lapack = lapack_qr(dtype)
    product, count = square_product(dtype)
    runs: dict[str, Callable[[], Any]] = {
        "dlra": lambda: linalg.augment(U0, X),
        "numpy": lambda: np.linalg.qr(stacked(U0, X))[0],
        "scipy": lambda: scipy.linalg.qr(stacked(U0, X), mode="economic")[0],  # pyright: ignore[reportArgumentType]
        "lapack": lambda: lapack(stacked(U0, X, "F")),
        "gemm": product,
    }
    Q, theirs = runs["dlra"](), runs["numpy"]()
    left = X - Q @ (Q.conj().T @ X)
    times = _compared(runs, m, seconds)
    return {
        "dtype": dtype, "m": m, "r": r, "kind": kind, "columns": Q.shape[1],
        **_rates(times, 12.0 * weight(dtype) * m * r**2, count),
        "loss": loss(Q), "numpy loss": loss(theirs),
        "residual": float(np.linalg.norm(left) / np.linalg.norm(X)), "times": times,
    }  # fmt: skip


def measure_orthonormalize(dtype: str, m: int, r: int, kind: str, seconds: float) -> dict[str, Any]:
    """A row: ``orthonormalize`` beside QR of the same matrix."""
    import scipy.linalg

    X = directions(kind, m, r, dtype, np.random.default_rng(0))
    lapack = lapack_qr(dtype)
    product, count = square_product(dtype)
    runs: dict[str, Callable[[], Any]] = {
        "dlra": lambda: linalg.orthonormalize(X),
        "numpy": lambda: np.linalg.qr(X)[0],
        "scipy": lambda: scipy.linalg.qr(X, mode="economic")[0],  # pyright: ignore[reportArgumentType]
        "lapack": lambda: lapack(np.array(X, order="F")),
        "gemm": product,
    }
    Q, theirs = runs["dlra"](), runs["numpy"]()
    times = _compared(runs, m, seconds)
    return {
        "dtype": dtype, "m": m, "r": r, "kind": kind, "columns": Q.shape[1],
        **_rates(times, 4.0 * weight(dtype) * m * r**2, count),
        "loss": loss(Q), "numpy loss": loss(theirs), "times": times,
    }  # fmt: skip


def measure_truncate(dtype: str, m: int, r: int, seconds: float) -> dict[str, Any]:
    """A row: truncation of U S Vᴴ from rank 2r to r, m = n, orthonormal U and V, beside the same in plain NumPy."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(gaussian(rng, m, 2 * r, dtype))[0] for _ in range(2))
    S = gaussian(rng, 2 * r, 2 * r, dtype)
    Y = LowRank(U, S, V)
    product, count = square_product(dtype)

    def plain() -> Any:
        P, s, Qh = np.linalg.svd(S)
        return U @ P[:, :r], np.diag(s[:r]), V @ Qh[:r].conj().T

    runs: dict[str, Callable[[], Any]] = {
        "dlra": lambda: linalg.svd_truncate(Y, U, S, V, 0.0, 0.0, r, r),
        "numpy": plain,
        "gemm": product,
    }
    Y1 = runs["dlra"]()[0]
    times = _compared(runs, m, seconds)
    return {
        "dtype": dtype, "m": m, "r": r, **_rates(times, 8.0 * weight(dtype) * m * r**2, count),
        "loss": loss(Y1.U), "numpy loss": loss(plain()[0]), "times": times,
    }  # fmt: skip


def measure_svd(dtype: str, k: int, seconds: float) -> dict[str, Any]:
    """A row: the singular value decomposition of a core, k x k."""
    import scipy.linalg
    from scipy.linalg import get_lapack_funcs

    S = gaussian(np.random.default_rng(0), k, k, dtype)
    gesdd, query = get_lapack_funcs(("gesdd", "gesdd_lwork"), dtype=np.dtype(dtype))
    work = int(query(k, k, full_matrices=0)[0].real)
    runs: dict[str, Callable[[], Any]] = {
        "dlra": lambda: linalg.svd(S),
        "numpy": lambda: np.linalg.svd(S, full_matrices=False),
        "scipy": lambda: scipy.linalg.svd(S, full_matrices=False),
        "lapack": lambda: gesdd(S, full_matrices=0, lwork=work),
    }
    times = compare(runs, seconds)
    return {"dtype": dtype, "k": k, **_ratios(times), "times": times}


def _ratios(times: dict[str, Timing]) -> dict[str, float]:
    """How many times longer than dlra the others take."""
    return {
        f"{name} / dlra": t.over(times["dlra"]) for name, t in times.items() if name not in ("dlra", "gemm")
    }


def _rates(times: dict[str, Timing], operations: float, in_product: float) -> dict[str, float]:
    rate = operations / times["dlra"].median
    square = in_product / times["gemm"].median
    share = operations / in_product / times["dlra"].over(times["gemm"])
    return {"gflops": rate / 1e9, "gemm gflops": square / 1e9, "share of gemm": share, **_ratios(times)}


def measure_bandwidth(size: int = 8_000_000) -> float:
    """Bytes a second of a + b -> c, with arrays much larger than any cache."""
    a, b, c = (np.ones(size) for _ in range(3))
    times = compare({"add": lambda: np.add(a, b, out=c)}, 0.5)
    return 24.0 * size / times["add"].median


def measure(quick: bool = False) -> dict[str, Any]:
    """All rows."""
    sizes = SIZES[:2] if quick else SIZES
    dtypes = DTYPES
    seconds = 0.05 if quick else 1.0
    augment = [
        measure_augment(dtype, m, r, kind, seconds) for dtype in dtypes for kind in KINDS for m, r in sizes
    ]
    orthonormalize = [
        measure_orthonormalize(dtype, m, r, kind, seconds)
        for dtype in dtypes
        for kind in KINDS[:2]
        for m, r in sizes
    ]
    return {
        "bandwidth": measure_bandwidth(),
        "augment": augment,
        "orthonormalize": orthonormalize,
        "truncate": [measure_truncate(dtype, m, r, seconds) for dtype in dtypes for m, r in sizes],
        "svd": [measure_svd(dtype, 2 * r, min(seconds, 0.5)) for dtype in dtypes for r in CORES],
    }


def headlines(data: dict[str, Any]) -> list[Headline]:
    """The gain over NumPy at each size in double precision, the share of the products' rate, the worst loss."""
    rows = [row for row in data["augment"] if row["dtype"] == "float64" and row["kind"] == "gaussian"]
    found = [
        Headline(
            f"augment, m = {row['m']:,}, r = {row['r']}: times faster than `numpy.linalg.qr`",
            row["numpy / dlra"], GOALS[row["m"], row["r"]], "at least", " x",
        )
        for row in rows
    ]  # fmt: skip
    found += [
        Headline(
            f"augment, m = {row['m']:,}, r = {row['r']}: share of the rate of matrix products",
            100 * row["share of gemm"], 100 * SHARE, "at least", " %",
        )
        for row in rows if row["r"] >= 50
    ]  # fmt: skip
    worst = max(row["loss"] / np.finfo(row["dtype"]).eps / row["r"] ** 0.5 for row in data["augment"])
    found.append(Headline("augment: ‖QᴴQ - I‖ in units of eps √r, worst case of all", float(worst)))
    return found


def tables(data: dict[str, Any]) -> list[str]:
    """The page."""
    rates = {}
    for row in data["augment"]:
        rates.setdefault(row["dtype"], []).append(row["gemm gflops"])
    parts = [
        "Rate of matrix products in the same run: "
        + ", ".join(f"{dtype} {number(float(np.median(found)))} Gflop/s" for dtype, found in rates.items())
        + f"; memory: {number(data['bandwidth'] / 1e9)} GB/s. Columns with x say how many times longer the "
        "other takes. The loss of orthogonality is ‖QᴴQ - I‖ in the Frobenius norm.",
        "![Roofline: rate of each kernel against its arithmetic intensity](images/kernels-roofline.png)",
    ]
    for dtype in rates:
        rows = [
            [f"{row['m']:,}", str(row["r"]), milliseconds(row["times"]["dlra"]),
             *(f"{row[f'{other} / dlra']:.2f}" for other in ("numpy", "scipy", "lapack")),
             number(GOALS[row["m"], row["r"]]) if dtype == "float64" else "",
             number(row["gflops"]), f"{row['share of gemm']:.0%}",
             f"{SHARE:.0%}" if row["r"] >= 50 and dtype == "float64" else "",
             f"{row['loss']:.1e}", f"{row['numpy loss']:.1e}"]
            for row in data["augment"] if row["dtype"] == dtype and row["kind"] == "gaussian"
        ]  # fmt: skip
        parts += [
            f"## augment, {dtype}, Gaussian X",
            pages.table(
                ["m", "r", "dlra / ms", "NumPy x", "SciPy x", "LAPACK x", "goal, NumPy x", "Gflop/s",
                 "of products", "goal", "loss", "loss, NumPy"], rows,
            ),
        ]  # fmt: skip
    rows = [
        [row["kind"], row["dtype"], f"{row['m']:,}", str(row["r"]), str(row["columns"]),
         milliseconds(row["times"]["dlra"]), f"{row['numpy / dlra']:.2f}", f"{row['lapack / dlra']:.2f}",
         f"{row['loss']:.1e}", f"{row['numpy loss']:.1e}", f"{row['residual']:.1e}"]
        for row in data["augment"] if row["kind"] != "gaussian"
    ]  # fmt: skip
    parts += [
        "## augment, difficult X",
        "Graded: columns of length 1 down to 1e-8. Deficient: half of the columns depend on the others. Columns: of "
        "the basis that augment returns; NumPy's has always 2r, with arbitrary directions where X has none. The last "
        "column is ‖X - Q QᴴX‖ / ‖X‖.",
        pages.table(
            [
                "X",
                "dtype",
                "m",
                "r",
                "columns",
                "dlra / ms",
                "NumPy x",
                "LAPACK x",
                "loss",
                "loss, NumPy",
                "left of X",
            ],
            rows,
        ),
    ]
    rows = [
        [row["kind"], row["dtype"], f"{row['m']:,}", str(row["r"]), milliseconds(row["times"]["dlra"]),
         *(f"{row[f'{other} / dlra']:.2f}" for other in ("numpy", "scipy", "lapack")),
         f"{row['share of gemm']:.0%}", f"{row['loss']:.1e}"]
        for row in data["orthonormalize"]
    ]  # fmt: skip
    parts += [
        "## orthonormalize",
        "Of m x r, with a decision on the rank, beside QR without one.",
        pages.table(
            ["X", "dtype", "m", "r", "dlra / ms", "NumPy x", "SciPy x", "LAPACK x", "of products", "loss"],
            rows,
        ),
    ]
    rows = [
        [row["dtype"], f"{row['m']:,}", str(row["r"]), milliseconds(row["times"]["dlra"]),
         f"{row['numpy / dlra']:.2f}", f"{row['share of gemm']:.0%}", f"{row['loss']:.1e}", f"{row['numpy loss']:.1e}"]
        for row in data["truncate"]
    ]  # fmt: skip
    parts += [
        "## Truncation from rank 2r to r, m = n",
        "SVD of the core and rotation of both bases, beside the same two products in plain NumPy. dlra corrects the "
        "rotated bases by one Newton-Schulz step, so that their loss of orthogonality does not add up over steps; that "
        "takes as many operations again, which are not counted.",
        pages.table(
            ["dtype", "m", "r", "dlra / ms", "NumPy x", "of products", "loss of U", "loss, NumPy"], rows
        ),
    ]
    rows = [
        [row["dtype"], f"{row['k']} x {row['k']}", milliseconds(row["times"]["dlra"]),
         *(f"{row[f'{other} / dlra']:.2f}" for other in ("numpy", "scipy", "lapack"))]
        for row in data["svd"]
    ]  # fmt: skip
    parts += [
        "## SVD of the core",
        pages.table(["dtype", "core", "dlra / ms", "NumPy x", "SciPy x", "LAPACK x"], rows),
    ]
    return parts


def roofline(data: dict[str, Any]) -> None:
    """Draw the rate of each kernel in double precision against operations per byte that must move.

    Bytes: what goes in is read once, what comes out is written once.
    """
    drawn, (axis,) = pages.figure(1, 1, (9, 6))
    double = [row for row in data["augment"] if row["dtype"] == "float64"]
    peak = float(np.median([row["gemm gflops"] for row in double]))
    bandwidth = data["bandwidth"] / 1e9
    reach = np.logspace(-1.5, 2.5, 200)
    axis.loglog(
        reach, np.minimum(peak, bandwidth * reach), color="0.3", linewidth=2, label="matrix products; memory"
    )
    axis.axhline(
        SHARE * peak, color="0.6", linestyle=":", label=f"{100 * SHARE:.0f} % of the rate of matrix products"
    )
    kernels = {
        "augment": lambda r: 12 * r / 32,
        "orthonormalize": lambda r: 4 * r / 16,
        "truncate": lambda r: 4 * r / 24,
    }
    names = {size: pages.MARKERS[k] for k, size in enumerate(SIZES)}
    for k, (kernel, intensity) in enumerate(kernels.items()):
        rows = [
            row
            for row in data[kernel]
            if row["dtype"] == "float64" and row.get("kind", "gaussian") == "gaussian"
        ]
        for row in rows:
            size = row["m"], row["r"]
            axis.plot(
                intensity(row["r"]), row["gflops"], marker=names[size], color=pages.COLOURS[k], linestyle="",
                markersize=8, alpha=0.85,
            )  # fmt: skip
        axis.plot([], [], color=pages.COLOURS[k], linewidth=6, label=kernel)
    present = {(row["m"], row["r"]) for row in double}
    for (m, r), marker in names.items():
        if (m, r) in present:
            axis.plot([], [], marker=marker, color="0.4", linestyle="", label=f"m = {m:,}, r = {r}")
    low = min(row["gflops"] for kernel in kernels for row in data[kernel])
    axis.set(
        xlabel="operations per byte that must move", ylabel="Gflop/s",
        title="Kernels in double precision, under the roofs of this machine",
        xlim=(reach[0], reach[-1]), ylim=(low / 2, 2 * peak),
    )  # fmt: skip
    pages.decades(axis.xaxis, float(reach[0]), float(reach[-1]))
    pages.decades(axis.yaxis, low / 2, 2 * peak)
    axis.grid(True, alpha=0.3)
    axis.legend(loc="lower right", fontsize=9)
    pages.save(drawn, "kernels-roofline.png")


def main(quick: bool = False, threads: int = 1) -> None:
    """Measure, print, write page, numbers and picture."""
    with pinned(threads):
        data = measure(quick)
    roofline(data)
    publish(
        "kernels", "Measured: linear algebra",
        "`dlra.linalg.augment(U0, X)`, m x r each, beside QR of the stacked matrix [U0 | X]; `orthonormalize` and the "
        "truncation of a step. Operations are those that the task needs (12 m r² for augment, 4 m r² for "
        "orthonormalize and for each rotated basis; four times as many for complex numbers), not those that an "
        "algorithm spends.",
        tables(data), data, headlines(data), threads=threads, quick=quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
