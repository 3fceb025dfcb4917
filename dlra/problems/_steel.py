"""Cooling of steel profiles: equations of optimal control with real finite-element data."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlra.backend import Array, namespace, to_host
from dlra.lowrank import LowRank
from dlra.problems._place import Place, place
from dlra.problems._problem import Problem, norm, nothing, trace
from dlra.semilinear import SemiLinear

_SHIPPED = Path(__file__).with_name("data") / "rail_371.npz"


def steel_lyapunov(
    data: int | str | os.PathLike[str] = 371,
    *,
    backend: Any = "numpy",
    dtype: Any = None,
    device: Any = None,
) -> Problem:
    """Cooling of a steel profile: its controllability Gramian over time, a differential Lyapunov equation.

    The heat equation in the cross section of a rail, cooled through seven parts of its boundary and observed
    by six temperature differences, in linear finite elements: E x' = A x + B u, y = C x with symmetric
    positive definite E and negative definite A. With white noise in the inputs u the covariance P(t) of the
    temperatures x obeys

        P' = E⁻¹A P + P Aᵀ E⁻ᵀ + (E⁻¹B)(E⁻¹B)ᵀ,    P(0) = 0,    t from 0 to 4500 (seconds),

    and C P Cᵀ is the covariance of the outputs. The slowest time constant is 9.4e4 s, the fastest 0.95 s for 371
    unknowns. The numerical rank of P(4500), by the tail of its singular values relative to ‖P‖_F, is 41, 62,
    81 at 1e-4, 1e-6, 1e-8 (371 unknowns) and 47, 72, 96 (1357 unknowns).

    Start with rank 40 or more even where a tolerance governs the rank. P(0) = 0 and the source have rank 7, a step at
    most doubles the rank, and the fast modes fill the first step at once: from rank 7 with dt = 45 the first state is
    wrong by 23 %, of which the slow modes remember 2e-3 at the end; from rank 40 the error is 1.3e-6 all along
    (tolerance 1e-6).

    Parameters
    ----------
    data : 371 or path
        The number of unknowns of the data shipped with the library, or an npz file of the same form: ``n``,
        ``E_data``, ``E_indices``, ``E_indptr`` and ``A_data``, ``A_indices``, ``A_indptr`` (compressed sparse
        rows of symmetric n x n matrices), ``B`` (n x inputs), ``C`` (outputs x n).
    backend : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, or an array API namespace. A and E are sparse on
        NumPy and CuPy and dense elsewhere.
    dtype : str, optional
        ``"float64"`` (default) or ``"float32"``.
    device : optional
        As the library takes it, or by name.

    Returns
    -------
    Problem
        ``reference(t)`` is exact, through the generalised eigenvectors of A and E (made once: 0.1 s for 371
        unknowns). Observables: ``output_covariance``, the trace of C P Cᵀ, ``norm`` and ``trace``;
        ``problem.output(P)`` is the whole matrix C P Cᵀ.

    Raises
    ------
    ValueError, FileNotFoundError
        A file that is missing or not of that form; the text names the file and the key.

    References
    ----------
    P. Benner, J. Saak, A semi-discretized heat transfer model for optimal cooling of
    steel profiles, in: Dimension Reduction of Large-Scale Systems, Springer, 2005, 353-356,
    https://doi.org/10.1007/3-540-27909-1_19. The data come from M-M.E.S.S., BSD 2-clause licence
    (``dlra/problems/data/NOTICE.txt``).
    """
    model = SteelModel.load(data)
    where = place("steel-lyapunov", backend, dtype, device)
    A, E = where.matrix(model.A), where.matrix(model.E)
    EB_host = model.solve_mass(model.B)
    EB, C = where.array(EB_host), where.array(model.C)
    n = model.n
    mass_solve = mass_solver(model, E, where)

    def dense(t: float, P: Array) -> Array:
        return mass_solve(A @ P) + mass_solve(A @ P.T).T + EB @ EB.T

    def output(P: Any) -> np.ndarray:
        if isinstance(P, LowRank):
            U, S, V = P.factors
            return to_host((C @ U) @ S @ (C @ V).T)
        return to_host(C @ P @ C.T)

    def output_covariance(t: float, P: Any) -> float:
        return float(np.trace(output(P)))

    def solution(t: float) -> np.ndarray:
        rates, X = model.modes
        G = X.T @ model.B
        total = rates[:, None] + rates
        return X @ (np.expm1(total * t) / total * (G @ G.T)) @ X.T

    index = np.arange(1.0, n + 1)
    return Problem(
        name="steel-lyapunov",
        description="Covariance of the temperatures in a cooling steel profile (differential Lyapunov equation)",
        F=SemiLinear(A, A.T, LowRank(EB, None, EB), E=E, symmetric=True),
        dense=dense,
        t_span=(0.0, 4500.0),
        shape=(n, n),
        observables={"output_covariance": output_covariance, "norm": norm, "trace": trace},
        defaults={"rank": min(40, n), "dt": 45.0, "method": "augmented-bug", "rank_rtol": 1e-6},
        x=index,
        y=index,
        labels=("node", "node"),
        quantity="P",
        symmetric=True,
        output=output,
        place=where,
        initial=nothing(n),
        slope=lambda: LowRank(EB_host, None, EB_host),
        solution=solution,
    )


def mass_solver(model: SteelModel, E: Any, where: Place) -> Any:
    """Return the function Z -> E⁻¹Z on arrays of the problem's library."""
    if where.xp is np:
        return lambda Z: model.solve_mass(Z, where.dtype)
    E = where.array(model.E.toarray())
    return lambda Z: namespace(E).linalg.solve(E, Z)


@dataclass(frozen=True, eq=False)
class SteelModel:
    """The matrices of E x' = A x + B u, y = C x, on the host."""

    n: int
    E: Any
    A: Any
    B: np.ndarray
    C: np.ndarray
    file: Path

    @classmethod
    def load(cls, data: Any) -> SteelModel:
        """Read the shipped data (371) or a file, and check it."""
        if isinstance(data, (str, os.PathLike)):
            file = Path(data)
        elif isinstance(data, (int, np.integer)) and data == 371:
            file = _SHIPPED
        else:
            raise ValueError(
                f"data must be 371 (shipped with the library) or the path of an npz file, got {data!r}"
            )
        if not file.is_file():
            raise FileNotFoundError(
                f"no steel profile data at {file}; give 371 (shipped) or the path of an npz file"
            )
        found = _read(file)
        n = found["n"]
        if n.shape != () or n.dtype.kind not in "iu" or n < 1:
            raise ValueError(
                f"{file}: key 'n' must be one positive integer, got {n.dtype} of shape {n.shape}"
            )
        n = int(n)
        matrices = {name: _sparse(file, found, name, n) for name in "EA"}
        B, C = found["B"], found["C"]
        if B.ndim != 2 or B.shape[0] != n or B.shape[1] < 1:
            raise ValueError(f"{file}: key 'B' must have shape (n, inputs) with n = {n}, got {B.shape}")
        if C.ndim != 2 or C.shape[1] != n or C.shape[0] < 1:
            raise ValueError(f"{file}: key 'C' must have shape (outputs, n) with n = {n}, got {C.shape}")
        if matrices["E"].diagonal().min() <= 0:
            raise ValueError(f"{file}: E must be positive definite, but its diagonal is not positive")
        return cls(n, matrices["E"], matrices["A"], B.astype(float), C.astype(float), file)

    @functools.cached_property
    def _factors(self) -> dict[str, Any]:
        return {}

    def solve_mass(self, Z: np.ndarray, dtype: str = "float64") -> np.ndarray:
        """Return E⁻¹Z on the host, by one sparse factorisation per dtype."""
        if dtype not in self._factors:
            from scipy.sparse.linalg import splu

            self._factors[dtype] = splu(self.E.astype(dtype).tocsc())
        return self._factors[dtype].solve(np.asfortranarray(Z))

    @functools.cached_property
    def modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues λ and eigenvectors X of A X = E X diag(λ) with XᵀE X = I."""
        from scipy.linalg import LinAlgError, eigh

        try:
            return eigh(self.A.toarray(), self.E.toarray())
        except LinAlgError as error:
            raise ValueError(f"{self.file}: E must be positive definite ({error})") from error


_KEYS = ("n", *(f"{M}_{part}" for M in "EA" for part in ("data", "indices", "indptr")), "B", "C")


def _read(file: Path) -> dict[str, np.ndarray]:
    import zipfile

    try:
        with np.load(file, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise ValueError("a single array")
            missing = [key for key in _KEYS if key not in archive.files]
            if missing:
                raise KeyError(missing[0])
            found = {key: archive[key] for key in _KEYS}
    except KeyError as error:
        raise ValueError(f"{file}: key {error} is missing; expected {', '.join(_KEYS)}") from None
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is not a readable npz archive of numbers: {error}") from error
    for key, value in found.items():
        integers = key.endswith(("indices", "indptr"))
        if value.dtype.kind not in ("iu" if integers else "iuf"):
            wanted = "integers" if integers else "real numbers"
            raise ValueError(f"{file}: key {key!r} must hold {wanted}, got {value.dtype}")
        if not np.isfinite(value).all():
            raise ValueError(f"{file}: key {key!r} holds values that are not finite")
    return found


def _sparse(file: Path, found: dict[str, np.ndarray], name: str, n: int) -> Any:
    """Put together a symmetric n x n matrix in compressed sparse rows, checked."""
    from scipy import sparse

    data, indices, indptr = (found[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    if data.ndim != 1 or indices.shape != data.shape:
        raise ValueError(
            f"{file}: keys '{name}_data' and '{name}_indices' must be vectors of one length, got shapes {data.shape} "
            f"and {indices.shape}"
        )
    if indptr.shape != (n + 1,) or indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        raise ValueError(
            f"{file}: key '{name}_indptr' must hold n + 1 = {n + 1} numbers ascending from 0 to {len(data)}, "
            f"the number of entries; got shape {indptr.shape}"
        )
    if len(indices) and (indices.min() < 0 or indices.max() >= n):
        raise ValueError(f"{file}: key '{name}_indices' must lie in 0 ... n - 1 = {n - 1}")
    M = sparse.csr_array(
        (data.astype(float), indices.astype(np.int64), indptr.astype(np.int64)), shape=(n, n)
    )
    if M.nnz == 0 or abs(M - M.T).max() > 1e-12 * abs(M).max():
        raise ValueError(f"{file}: {name} must be symmetric and not zero")
    return M
