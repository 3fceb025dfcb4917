"""Fields with a stiff linear part: Ẏ = E⁻¹A Y + Y B E⁻ᴴ + G(t, Y)."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np

from dlra import lazy
from dlra.action import Action
from dlra.backend import (
    DTYPES,
    Array,
    H,
    all_finite,
    astype,
    conj,
    dtype_name,
    eps,
    eye,
    gaussian,
    hermitian_part,
    is_array,
    is_complex,
    is_linear_operator,
    is_sparse,
    kind,
    library,
    namespace,
    norm,
    product,
    promoted,
)
from dlra.errors import DlraWarning
from dlra.lowrank import LowRank, _unified, library_of
from dlra.phi import Coordinates

__all__ = ["SemiLinear", "StiffOperator"]

MAX_DENSE, MAX_SPARSE = 6000, 2000
"""Largest sizes at which a dense and a sparse operator are decomposed densely; beyond come Krylov subspaces."""
_POWER = 12
"""Steps of the power method that estimates the norm of an operator."""
_KEPT = 4
"""Factorisations of I - sA kept per operator."""


class SemiLinear:
    """The field F(t, Y) = E⁻¹A Y + Y B E⁻ᴴ + G(t, Y), whose linear part may be stiff.

    Integrators with ``substep="auto"`` or ``"exponential"`` treat the linear part exactly and ask F only for
    G; every other substep evaluates the whole sum. The decompositions are made when first needed and live on
    this object, so that every later solve reuses them.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or :class:`dlra.Action`, shape (m, m), or None
        Acts from the left. Dense, SciPy or CuPy sparse, or known by its action only.
    B : array, sparse matrix, LinearOperator or :class:`dlra.Action`, shape (n, n), or None
        Acts from the right, Y B. An operator needs its adjoint.
    G : callable, factored, matrix or None
        The rest: any field (a plain callable gets the dense array), a constant matrix (LowRank, array,
        sparse), or None. It is **not** multiplied by E⁻¹.
    E : array or sparse matrix, of the shape of A and B, optional
        Mass matrix; factorised once, never inverted. Where B is given too, m = n.
    symmetric : bool
        Whether B = Aᴴ and G(t, Yᴴ) = G(t, Y)ᴴ, so that a Hermitian Y0 stays Hermitian: see
        :func:`dlra.factored`.

    Notes
    -----
    The exponential and implicit substeps work in eigenvector coordinates where A and B are Hermitian or
    skew-Hermitian (with E Hermitian positive definite: A Hermitian), at m² r operations a stage after one dense
    decomposition; with other dense matrices by doubling, which keeps log₂(h‖A‖) dense exponentials. Sparse matrices
    beyond n = 2000 and dense ones beyond n = 6000 are treated by rational Krylov subspaces, with sparse factorisations
    of I - sA that are kept, and an error estimate that is obeyed; operators without solves by polynomial subspaces,
    which need about √(h‖A‖) products.

    A field declared so is called like any other: ``F(t, Y)`` with a LowRank or a dense array.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import LowRank, SemiLinear
    >>> A = -np.diag(np.arange(1.0, 5.0))
    >>> b = np.ones((4, 1))
    >>> F = SemiLinear(A, A.T, LowRank(b, None, b))
    >>> F(0.0, LowRank(b, None, b)).rank
    3
    """

    def __init__(self, A: Any, B: Any = None, G: Any = None, *, E: Any = None, symmetric: bool = False):
        for name, M in (("A", A), ("B", B), ("E", E)):
            _check_square(name, M)
        same = B is A
        A, E = _admitted("A", A), _admitted("E", E)
        B = A if same else _admitted("B", B)
        _check_adjoint("B", B)
        if A is None and B is None:
            raise ValueError("SemiLinear needs A or B; without a linear part give the plain F to solve")
        if E is not None and (
            not (is_array(E) or is_sparse(E)) or any(M is not None and M.shape != E.shape for M in (A, B))
        ):
            raise ValueError(f"E must be a dense or sparse matrix of the shape of A and B, got {kind(E)}")
        if G is not None and not callable(G) and lazy.terms_of(G) is None:
            raise TypeError(
                f"G must be a callable G(t, Y), dlra.factored(G), a constant matrix or None, got {kind(G)}"
            )
        self.A, self.B, self.G, self.E = A, B, G, E
        self._definite = False  # whether E has been found to be so
        solve = self._solve = None if E is None else Solver(E)
        left = None if A is None else StiffOperator(A, E, solve)
        right = None
        if B is not None:
            same = left is not None and (_is_adjoint(B, A) or (symmetric and _acts_as_adjoint(B, A)))
            right = left if same else StiffOperator(lazy.adjoint(B), E, solve)
        if symmetric and right is not left:
            raise ValueError(
                "symmetric=True needs B = Aᴴ (bit by bit), so that A Y + Y B is Hermitian with Y"
            )
        self.symmetric = bool(symmetric)
        self.operators: tuple[StiffOperator | None, StiffOperator | None] = (left, right)
        """E⁻¹A and the adjoint E⁻¹Bᴴ of B E⁻ᴴ."""

    @property
    def is_constant(self) -> bool:
        """Whether G is a matrix or None rather than a field (a SciPy LinearOperator is callable, but a matrix)."""
        return self.G is None or lazy.terms_of(self.G) is not None

    @functools.cached_property
    def is_skew(self) -> bool:
        """Whether A and B are skew-Hermitian, so that the linear part is harmless in either direction of time."""
        known = all(M is None or is_array(M) or is_sparse(M) for M in (self.A, self.B))
        return known and self.E is None and all(M is None or _is_adjoint(-M, M) for M in (self.A, self.B))

    @functools.cached_property
    def rate(self) -> float:
        """A bound for the fastest rate of the linear part, ‖A‖_∞ + ‖B‖_∞; NaN with a mass matrix or operators."""
        if self.E is not None:
            return math.nan
        return sum(_row_sum(M) for M in (self.A, self.B) if M is not None)

    def linear_part(self, Y: Any) -> Any:
        """E⁻¹A Y + Y B E⁻ᴴ as a LowRank (for a LowRank Y) or a dense array."""
        left, right = self.operators
        parts = []
        if isinstance(Y, LowRank):
            if left is not None:
                parts.append(_unified(left.apply(Y._U), Y._S, Y._V))
            if right is not None:
                parts.append(_unified(Y._U, Y._S, right.apply(Y._V)))
        else:
            if left is not None:
                parts.append(left.apply(Y))
            if right is not None:
                parts.append(H(right.apply(H(Y))))
        return functools.reduce(lambda a, b: a + b, parts)

    def __call__(self, t: float, Y: Any, *args: Any) -> Any:
        """F(t, Y) for a LowRank or a dense array."""
        from dlra.field import Factored, bind

        linear = self.linear_part(Y)
        if self.G is None:
            return linear
        if self.is_constant:
            return linear + (self.G if isinstance(Y, LowRank) else lazy.dense(self.G))
        if isinstance(Y, LowRank) and not isinstance(self.G, Factored):
            return linear + bind(self.G, args)(t, Y.to_dense())
        return linear + bind(self.G, args)(t, Y)

    def _check_definite(self) -> None:
        if not self._definite:
            _check_definite(self.E)
            self._definite = True

    def check_state(self, Y: LowRank) -> None:
        """Raise an error, or warn, where the operators do not fit the state."""
        m, n = Y.shape
        if self._solve is not None:
            self._solve.factorise()
            self._check_definite()
        for name, M, size in (("A", self.A, m), ("B", self.B, n), ("E", self.E, n if self.A is None else m)):
            if M is None:
                continue
            if M.shape[0] != size:
                raise ValueError(
                    f"{name} of SemiLinear has shape {tuple(M.shape)}, but Y0 has shape {Y.shape}"
                )
            home = library_of(M, Y._U)
            if home != library(Y._U):
                raise TypeError(
                    f"{name} of SemiLinear is {kind(M)} of {home}, but Y0 of {library(Y._U)}; "
                    f"bring both to one library and device"
                )
            got, wanted = dtype_name(M.dtype), dtype_name(Y.dtype)
            if "complex" in got and "complex" not in wanted:
                raise TypeError(
                    f"{name} of SemiLinear is {got} but Y0 is {wanted}: start from Y0.astype('complex128')"
                )
            if got in ("float64", "complex128") and wanted in ("float32", "complex64"):
                warnings.warn(
                    f"{name} of SemiLinear is {got} and Y0 {wanted}: results are cast to {wanted}; "
                    f"cast {name} with astype",
                    DlraWarning,
                    stacklevel=3,
                )

    def __repr__(self) -> str:
        given = [
            f"{name}={kind(M)}" for name, M in (("A", self.A), ("B", self.B), ("E", self.E)) if M is not None
        ]
        return f"SemiLinear({', '.join(given)}, G={self.G if not self.is_constant else kind(self.G)})"


class StiffOperator:
    """One side E⁻¹M of a linear part: its action, solves with I - s E⁻¹M, and its decomposition, made once.

    Parameters
    ----------
    M : matrix, shape (n, n)
    E : matrix or None
    solve : Solver or None
        Solves with E.

    Attributes
    ----------
    decomposes : bool
        Whether functions of the operator come from a dense decomposition (else from Krylov subspaces).
    solves : bool
        Whether :meth:`solve` is to be had.
    """

    def __init__(self, M: Any, E: Any = None, solve: Solver | None = None):
        self._M, self._E, self._solve = M, E, solve
        self._coordinates: Coordinates | None = None
        self._shifted: dict[float, Any] = {}
        self._size: float | None = None
        given = is_array(M) or is_sparse(M)
        self.decomposes = given and M.shape[0] <= (MAX_DENSE if is_array(M) else MAX_SPARSE)
        self.solves = given or getattr(M, "solve", None) is not None

    def apply(self, X: Array) -> Array:
        """E⁻¹ M X for a tall, thin array X."""
        Z = lazy.apply(self._M, X)
        if is_complex(Z) and not is_complex(X) and not dtype_name(self._M.dtype).startswith("complex"):
            raise TypeError(
                f"{kind(self._M)} of SemiLinear returns complex values for a real state: start from "
                f"Y0.astype('complex128'), and give the operator a complex dtype"
            )
        return Z if self._solve is None else self._solve(Z)

    def compressed(self, U: Array) -> Array:
        """Uᴴ E⁻¹ M U: the operator in the basis U, r x r."""
        return product(H(U), self.apply(U))

    @functools.cached_property
    def hermitian(self) -> bool:
        """Whether E⁻¹M is known to be Hermitian."""
        M = self._M
        if self._E is not None:
            return False
        if is_sparse(M):
            return float(abs(M - M.conj().T).max()) <= 100 * np.finfo(M.dtype).eps * float(abs(M).max())
        return _hermitian(M) if is_array(M) else bool(getattr(M, "hermitian", False))

    def size(self, like: Array) -> float:
        """An estimate of the norm of E⁻¹M, by the power method; made once, in the library of ``like``."""
        if self._size is None:
            x = like[:, :1] + 0.5 * norm(like[:, :1]) * gaussian(like, 1, (3,)) / math.sqrt(like.shape[0])
            for _ in range(_POWER):
                length = norm(x)
                if length == 0.0:
                    break
                x = self.apply(x / length)
            self._size = 2.0 * norm(x)
        return self._size

    def solve(self, s: float, X: Array) -> Array:
        """(I - t E⁻¹M)⁻¹ X for a t within a factor of √2 of s, of the same sign: so few factorisations serve all s."""
        s = math.copysign(2.0 ** round(math.log2(abs(s))), s)
        if s not in self._shifted:
            if len(self._shifted) >= _KEPT:
                del self._shifted[next(iter(self._shifted))]
            self._shifted[s] = self._shifted_solver(s)
        if self._E is not None:
            X = lazy.apply(self._E, X)
        return self._shifted[s](X)

    def _shifted_solver(self, s: float) -> Any:
        M = self._M
        if not (is_array(M) or is_sparse(M)):
            return self._checked_solver(s)
        if self._E is not None:
            return Solver(self._E - s * M, "E - sA")
        if is_sparse(M):
            if type(M).__module__.startswith("cupyx"):
                from cupyx.scipy.sparse import identity  # pyright: ignore[reportMissingImports]
            else:
                from scipy.sparse import identity
            return Solver(identity(M.shape[0], dtype=M.dtype, format="csc") - s * M, "I - sA")
        return Solver(eye(M.shape[0], M) - s * M, "I - sA")

    def _checked_solver(self, s: float) -> Any:
        """The solver that an Action came with; its first result is tested."""
        tested = False

        def solve(X: Array) -> Array:
            nonlocal tested
            Z = self._M.solve(s, X)
            if not tested:
                if tuple(Z.shape) != tuple(X.shape):
                    raise ValueError(
                        f"solve of an Action must return an array of the shape of X, {tuple(X.shape)}, got {kind(Z)}"
                    )
                EZ = Z if self._E is None else lazy.apply(self._E, Z)
                MZ = s * lazy.apply(self._M, Z)
                residual = norm(EZ - MZ - X)
                if not residual <= 1e6 * eps(X) * (norm(EZ) + norm(MZ) + norm(X)):
                    name = "I" if self._E is None else "E"
                    raise ValueError(
                        f"solve(s, X) of an Action is not the inverse of {name} - s M: for s = {s:.3g} its residual is "
                        f"{residual / norm(X):.1e} ‖X‖; mind the sign"
                    )
                tested = True
            return Z

        return solve

    def coordinates(self, like: Array) -> Coordinates:
        """The decomposition, as arrays in the library of ``like``; made at the first call."""
        if self._coordinates is None:
            M = lazy.dense(self._M)
            self._coordinates = (
                Coordinates.of(M) if self._E is None else self._with_mass(M, lazy.dense(self._E))
            )
        return self._coordinates

    def _with_mass(self, M: Array, E: Array) -> Coordinates:
        """Coordinates of E⁻¹M: through E = L Lᴴ and the eigenvectors of L⁻¹ M L⁻ᴴ where both are Hermitian."""
        xp = namespace(M, E)
        M, E = promoted(M, E)
        if _hermitian(M) and _hermitian(E):
            try:
                L = xp.linalg.cholesky(E)
            except Exception:
                L = None  # not positive definite
            if L is not None and bool(xp.all(xp.isfinite(L))):
                half = xp.linalg.solve(L, M)
                eigenvalues, Q = xp.linalg.eigh(hermitian_part(xp.linalg.solve(L, H(half))))
                return Coordinates(None, eigenvalues, xp.linalg.solve(H(L), Q), H(Q) @ H(L))
        return Coordinates.of(xp.linalg.solve(E, M))


class Solver:
    """Solves E X = Z with a factorisation made once."""

    def __init__(self, E: Any, name: str = "E of SemiLinear"):
        self._E, self._name = E, name
        self._factors: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_factors": None}  # SuperLU objects do not pickle

    def factorise(self) -> None:
        """Make the LU factorisation, or raise a ValueError where E is singular."""
        if self._factors is not None:
            return
        if is_sparse(self._E):
            self._factors = _sparse_lu(self._E, self._name)
        elif type(self._E) is np.ndarray:
            from scipy.linalg import lu_factor

            with warnings.catch_warnings(action="ignore"):
                self._factors = lu_factor(self._E)
            if not np.all(np.diagonal(self._factors[0])):
                raise ValueError(f"{self._name} is singular")

    def __call__(self, Z: Array) -> Array:
        self.factorise()
        E = self._E
        if is_sparse(E):
            solve = self._factors.solve
            X = solve(Z.real) + 1j * solve(Z.imag) if is_complex(Z) and E.dtype.kind != "c" else solve(Z)
            return X.astype(np.result_type(E.dtype, Z.dtype), copy=False)
        if type(E) is np.ndarray:
            from scipy.linalg import lu_solve

            return lu_solve(self._factors, Z)
        return namespace(E, Z).linalg.solve(*promoted(E, Z))


def _sparse_lu(E: Any, name: str) -> Any:
    if type(E).__module__.startswith("cupyx"):
        from cupyx.scipy.sparse.linalg import splu  # pyright: ignore[reportMissingImports]
    else:
        from scipy.sparse.linalg import splu
    try:  # in double precision: SuperLU does not cast
        return splu(E.tocsc().astype(np.result_type(E.dtype, np.float64)))
    except RuntimeError:
        raise ValueError(f"{name} is singular") from None


def _hermitian(M: Array) -> bool:
    return norm(M - H(M)) <= 100 * eps(M) * norm(M)


def _is_adjoint(B: Any, A: Any) -> bool:
    """Tell whether B = Aᴴ entry by entry, so that one decomposition serves both sides."""
    if is_sparse(A) and is_sparse(B):
        return A.shape == B.shape and (abs(A - B.conj().T)).nnz == 0
    if isinstance(A, Action) and isinstance(B, Action):
        return (A is B and A.hermitian) or B.is_adjoint_of(A)
    if is_array(A) and is_array(B) and A.shape == B.shape and A.dtype == B.dtype:
        return bool(namespace(A, B).all(conj(B).mT == A))
    return False


def _acts_as_adjoint(B: Any, A: Any) -> bool:
    """Tell whether B = Aᴴ where one of them is a LinearOperator, from one random vector."""
    if not (is_linear_operator(A) or is_linear_operator(B)) or A.shape != B.shape:
        return False
    x = np.random.default_rng(0).standard_normal((A.shape[0], 1))
    expected = lazy.apply(A, x)
    return norm(lazy.apply_adjoint(B, x) - expected) <= 1e-10 * norm(expected)


def _admitted(name: str, M: Any) -> Any:
    """M with entries in floating point; raises where they are no finite numbers."""
    if not (is_array(M) or is_sparse(M)):
        return M
    if dtype_name(M.dtype) not in DTYPES:
        if not dtype_name(M.dtype).startswith(("int", "uint", "bool", "float")):
            raise TypeError(f"{name} of SemiLinear must hold numbers, got dtype {dtype_name(M.dtype)}")
        M = M.astype(np.float64) if is_sparse(M) else astype(M, "float64")
    entries = M.tocsr().data if is_sparse(M) else M
    if not all_finite(entries):
        raise ValueError(f"{name} of SemiLinear contains NaN or infinite values")
    return M


def _row_sum(M: Any) -> float:
    """The largest sum of moduli along a row."""
    if is_linear_operator(M) or isinstance(M, Action):
        return math.nan
    sums = abs(M).sum(axis=1) if is_sparse(M) else namespace(M).sum(abs(M), axis=1)
    return float(sums.max()) if is_sparse(M) else float(namespace(M).max(sums))


def _check_square(name: str, M: Any) -> None:
    if M is None:
        return
    if not (is_array(M) or is_sparse(M) or is_linear_operator(M) or isinstance(M, Action)):
        raise TypeError(
            f"{name} must be a square matrix (dense, sparse, a LinearOperator or a dlra.Action), got {kind(M)}"
        )
    if len(M.shape) != 2 or M.shape[0] != M.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {tuple(M.shape)}")


def _check_adjoint(name: str, M: Any) -> None:
    """Raise a ValueError where the adjoint of a LinearOperator is missing."""
    if not is_linear_operator(M):
        return
    try:
        M.rmatvec(np.zeros(M.shape[0], dtype=M.dtype))
    except NotImplementedError:
        raise ValueError(
            f"{name} of SemiLinear is a LinearOperator without adjoint, which acts on the rows of Y; "
            f"give it rmatvec or rmatmat"
        ) from None


def _check_definite(E: Any) -> None:
    """Raise a ValueError where E is Hermitian, but neither positive nor negative definite."""
    if is_sparse(E):
        E = E.tocsc()
        if type(E).__module__.startswith("cupyx") or abs(E - E.conj().T).max() > 0:
            return
        from scipy.sparse.linalg import splu

        options = {"SymmetricMode": True}
        try:
            lu = splu(E.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        except RuntimeError:  # a zero pivot
            signs, pivoted = np.zeros(1), False
        else:
            signs, pivoted = np.sign(lu.U.diagonal().real), not np.array_equal(lu.perm_r, lu.perm_c)
        definite = not pivoted and bool(np.all(signs == signs[0])) and signs[0] != 0
    else:
        if not _hermitian(E):
            return
        eigenvalues = namespace(E).linalg.eigvalsh(E)
        definite = float(eigenvalues[0]) * float(eigenvalues[-1]) > 0
    if not definite:
        raise ValueError(
            "E of SemiLinear is Hermitian but indefinite; a mass matrix must be positive definite (check its signs and "
            "its assembly)"
        )
