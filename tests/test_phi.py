"""The functions phi₁ and phi₂, the flow of a Sylvester operator, and fields with a stiff linear part."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from helpers import (
    DTYPES,
    dense,
    eps,
    get_library,
    is_complex,
    normal,
    random_lowrank,
    random_orthonormal,
    relative_error,
    to_numpy,
)

import dlra
from dlra import AugmentedBUG, DlraWarning, Galerkin, LowRank, SemiLinear, factored, semilinear
from dlra.backend import dtype_name
from dlra.phi import Coordinates, SylvesterFlow, phi_functions

# ---- phi₁ and phi₂ of numbers ------------------------------------------------------------------------------------

MAGNITUDES = np.concatenate([np.geomspace(1e-12, 1e6, 55), [0.999999, 1.0, 1.000001, 2 * np.pi]])
DIRECTIONS = {"negative": -1.0, "imaginary": 1j, "minus imaginary": -1j, "left half plane": np.exp(2.5j)}


def phi_reference(z):
    """phi₁, phi₂ and eᶻ with 60 digits."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        z = mpmath.mpmathify(complex(z))
        phi1 = mpmath.expm1(z) / z
        phi2 = (phi1 - 1) / z
        return complex(phi1), complex(phi2), abs(complex(mpmath.exp(z)))


def check_phi(z, phi1, phi2, precision) -> None:
    for point, value1, value2 in zip(z, phi1, phi2, strict=True):
        exact1, exact2, exponential = phi_reference(point)
        size = max(abs(point), 1.0)
        assert abs(value1 - exact1) <= 20 * precision * (1 + exponential) / size, point
        assert abs(value2 - exact2) <= 20 * precision * (1 + (1 + exponential) / size) / size, point


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_phi_of_arguments_from_tiny_to_huge(direction):
    z = MAGNITUDES * DIRECTIONS[direction]
    check_phi(z, *phi_functions(z, z), eps("float64"))


def test_phi_of_positive_arguments():
    z = np.concatenate([MAGNITUDES[MAGNITUDES < 1], np.linspace(1.0, 700.0, 30)])
    for point, value1, value2 in zip(z, *phi_functions(z, z), strict=True):
        exact1, exact2, _ = phi_reference(point)
        assert abs(value1 / exact1.real - 1) < 1e-13 and abs(value2 / exact2.real - 1) < 1e-13


def test_phi_in_single_precision():
    for z in ((-MAGNITUDES).astype("float32"), (1j * MAGNITUDES).astype("complex64")):
        phi1, phi2 = phi_functions(z, z)
        assert phi1.dtype == phi2.dtype == z.dtype
        check_phi(z, phi1, phi2, eps("float32"))


def test_phi_at_zero_and_without_an_operator():
    phi1, phi2 = phi_functions(np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(phi1, np.ones(3))
    np.testing.assert_array_equal(phi2, 0.5 * np.ones(3))
    assert phi_functions(0.0, np.zeros(3)) == (1.0, 0.5)


def test_phi_in_every_library(library):
    for z in (np.array([-1e5, -3.0, -0.5, -1e-9, 0.0, 0.5]), np.array([-4j, 0.3j, 1e-8j, -2 + 1j, 0j, 60j])):
        expected = phi_functions(z, z)
        got = phi_functions(library.asarray(z), library.asarray(z))
        for a, b in zip(got, expected, strict=True):
            assert library.owns(a)
            np.testing.assert_allclose(to_numpy(a), b, rtol=1e-14, atol=1e-15)


# ---- the flow of Z' = L Z + Z R ----------------------------------------------------------------------------------


def phi_matrices(L, R, h, m, n):
    """phi₁(h𝓛) and phi₂(h𝓛) through the exponential of a block matrix with the Kronecker sum of L and R."""
    L = np.zeros((m, m)) if L is None else L
    R = np.zeros((n, n)) if R is None else R
    K = np.kron(np.eye(n), L) + np.kron(R.T, np.eye(m))
    I, O = np.eye(m * n), np.zeros((m * n, m * n))
    blocks = scipy.linalg.expm(np.block([[h * K, I, O], [O, O, I], [O, O, O]]))
    return blocks[: m * n, m * n : 2 * m * n], blocks[: m * n, 2 * m * n :]


def apply_to(matrix, Z):
    """A matrix that acts on the columns of Z, one below the other."""
    return (matrix @ Z.ravel(order="F")).reshape(Z.shape, order="F")


def phi_of_operator(L, R, h, Z1, Z2):
    """phi₁(h𝓛) Z1 + phi₂(h𝓛) Z2."""
    phi1, phi2 = phi_matrices(L, R, h, *Z1.shape)
    return apply_to(phi1, Z1) + apply_to(phi2, Z2)


def jordan(n):
    return -0.5 * np.eye(n) + 3 * np.eye(n, k=1)


def operator(rng, kind, n):
    """A random n x n matrix of a kind."""
    if kind == "none":
        return None
    if kind == "zero":
        return np.zeros((n, n))
    if kind == "jordan":
        return jordan(n)
    if kind == "triangular":
        return -np.triu(np.ones((n, n))) * np.arange(1.0, n + 1)
    wide = "complex128" if kind in ("complex hermitian", "complex skew", "complex") else "float64"
    A = normal(rng, (n, n), wide)
    if "hermitian" in kind:
        return (A + A.conj().T) / 2
    if "skew" in kind:
        return (A - A.conj().T) / 2
    if kind == "stiff":
        Q = random_orthonormal(rng, n, n)
        return -(Q * np.geomspace(0.01, 2e3, n)) @ Q.T
    return A


KINDS = (
    "none", "zero", "hermitian", "complex hermitian", "skew", "complex skew", "stiff", "jordan", "triangular", "real",
    "complex",
)  # fmt: skip


@pytest.mark.parametrize("right", KINDS)
@pytest.mark.parametrize("left", KINDS)
def test_flow_against_the_exponential_of_the_kronecker_sum(rng, left, right):
    m, n = 5, 4
    L, R = operator(rng, left, m), operator(rng, right, n)
    for h in (0.3, -0.01, 1e-7):
        phi1, phi2 = phi_matrices(L, R, h, m, n)
        for dtype in ("float64", "complex128"):
            Z1, Z2 = normal(rng, (m, n), dtype), normal(rng, (m, n), dtype)
            flow = SylvesterFlow(*(None if A is None else Coordinates.of(A) for A in (L, R)))
            got = flow.leave(flow.phi(h, flow.enter(Z1), flow.enter(Z2)))
            assert relative_error(got, apply_to(phi1, Z1) + apply_to(phi2, Z2)) < 1e-12
            got = flow.leave(flow.phi(h, flow.enter(Z1)))
            assert relative_error(got, apply_to(phi1, Z1)) < 1e-12
            applied = flow.leave(flow.apply(flow.enter(Z1)))
            expected = (0 if L is None else L @ Z1) + (0 if R is None else Z1 @ R)
            assert np.linalg.norm(applied - expected) <= 1e-13 * (1 + np.linalg.norm(expected))


def test_flow_of_a_jordan_block_at_many_sizes(rng):
    """Far from normal: the exponential grows before it decays."""
    L, Z = jordan(8), normal(rng, (8, 3))
    for h in (1e-6, 0.1, 1.0, 7.3, 40.0):
        flow = SylvesterFlow(Coordinates.of(L), None)
        exact = phi_of_operator(L, None, h, Z, Z)
        assert relative_error(flow.phi(h, Z, Z), exact) < 1e-11, h


@pytest.mark.parametrize("sign", [1, -1])
def test_coordinates_find_hermitian_and_skew_matrices(rng, sign):
    for dtype in ("float64", "complex128", "float32", "complex64"):
        A = normal(rng, (6, 6), dtype)
        A = A + sign * A.conj().T
        noise = eps(dtype) * normal(rng, (6, 6), dtype)
        found = Coordinates.of((A + noise).astype(dtype))
        assert found.eigenvalues is not None
        values = np.asarray(found.eigenvalues)
        assert np.all((values.imag if sign == 1 else values.real) == 0)
        general = Coordinates.of((A + 1e-3 * normal(rng, (6, 6), dtype)).astype(dtype))
        assert general.eigenvalues is None or np.iscomplexobj(general.eigenvalues)


def test_negated_coordinates(rng):
    for kind in ("hermitian", "skew", "jordan"):
        A = operator(rng, kind, 5)
        Z = normal(rng, (5, 2))
        flow = SylvesterFlow(Coordinates.of(A).negated(), None)
        got = flow.leave(flow.phi(0.4, flow.enter(Z)))
        assert relative_error(got, phi_of_operator(-A, None, 0.4, Z, 0 * Z)) < 1e-13


def test_exponentials_of_one_step_size_are_kept():
    coordinates = Coordinates.of(jordan(5))
    first = coordinates.exponentials(0.1, 3)
    assert coordinates.exponentials(0.1, 3) is first
    coordinates.exponentials(0.2, 3)
    assert coordinates.exponentials(0.1, 3) is first
    coordinates.exponentials(0.3, 3)
    assert len(coordinates._exponentials) <= 2, "they must not pile up in a run with many step sizes"


# ---- the exponential substep in full bases is the exact flow -------------------------------------------------------


def full_state(rng, m, n, dtype="float64", library=None) -> LowRank:
    """A state of full rank: Galerkin in its bases loses nothing."""
    return random_lowrank(rng, m, n, min(m, n), dtype, library, decay=0.8)


def exact_affine(A, B, G, E, h, Y):
    """Y(h) of Ẏ = E⁻¹A Y + Y B E⁻ᴴ + G for a constant G."""
    m, n = Y.shape
    left = np.zeros((m, m)) if A is None else A if E is None else np.linalg.solve(E, A)
    right = np.zeros((n, n)) if B is None else B if E is None else np.linalg.solve(E, B.conj().T).conj().T
    rate = left @ Y + Y @ right + G
    return Y + h * phi_of_operator(left, right, h, rate, 0 * rate)


def spd(rng, n, dtype="float64"):
    A = normal(rng, (n, n), dtype)
    return (A @ A.conj().T / n + np.eye(n)).astype(dtype)


MASSES = {
    "none": lambda rng, n: None,
    "spd": spd,
    "sparse spd": lambda rng, n: sp.csc_array(2 * np.eye(n) + 0.3 * (np.eye(n, k=1) + np.eye(n, k=-1))),
    "complex hpd": lambda rng, n: spd(rng, n, "complex128"),
    "nonsymmetric": lambda rng, n: normal(rng, (n, n)) + 4 * np.eye(n),
    "sparse nonsymmetric": lambda rng, n: sp.csr_matrix(np.eye(n) + 0.4 * np.eye(n, k=1)),
}


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize(
    "kind", ["hermitian", "skew", "complex skew", "jordan", "stiff", "sparse", "one-sided", "right-sided"]
)
def test_full_rank_step_is_exact(rng, kind, mass):
    n = 6
    E = MASSES[mass](rng, n)
    A = operator(rng, kind if kind in KINDS else "stiff", n)
    B = operator(rng, "jordan" if kind == "hermitian" else "hermitian", n)
    if kind in ("stiff", "sparse"):
        B = A.conj().T
    A, B = (None if kind == "right-sided" else A), (None if kind == "one-sided" else B)
    given = [sp.csr_array(M) if kind == "sparse" else M for M in (A, B)]
    host_E = None if E is None else dense(E)
    complex_case = any(M is not None and is_complex(M.dtype) for M in (A, B, host_E))
    dtype = "complex128" if complex_case else "float64"
    Y, G = full_state(rng, n, n, dtype), normal(rng, (n, n), dtype)
    F = SemiLinear(*given, G, E=E)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for h in (0.05, -1e-3):
            got = dlra.step(F, 0.0, h, Y, Galerkin(substep="exponential"))
            assert dtype_name(got.dtype) == dtype, "a real state stays real"
            assert relative_error(got, exact_affine(A, B, G, host_E, h, dense(Y))) < 1e-11


@pytest.mark.parametrize("kind", ["hermitian", "skew", "jordan"])
def test_full_rank_step_in_every_library(library, rng, kind):
    """Dense operators: real results of complex coordinates, and real with complex sides, need care in some."""
    if library.name == "jax" and kind != "hermitian":
        pytest.skip("one case is enough where every operation is compiled")
    n = 4 if library.name == "jax" else 6
    dtype = "float64"
    A, B = operator(rng, kind, n), operator(rng, "skew" if kind == "hermitian" else "hermitian", n)
    Y, G = full_state(rng, n, n, dtype, library), normal(rng, (n, n), dtype)
    a, b, g = (library.asarray(M) for M in (A, B, G))
    got = dlra.step(SemiLinear(a, b, g), 0.0, 0.1, Y, Galerkin(substep="exponential"))
    assert library.owns(got.U) and library.owns(got.S) and dtype_name(got.dtype) == dtype
    assert relative_error(got, exact_affine(A, B, G, None, 0.1, dense(Y))) < 1e-12


def test_mass_matrix_in_every_library(library, rng):
    n = 4
    A, E = operator(rng, "hermitian", n), spd(rng, n)
    Y, G = full_state(rng, n, n, "float64", library), normal(rng, (n, n))
    F = SemiLinear(library.asarray(A), library.asarray(A), library.asarray(G), E=library.asarray(E))
    got = dlra.step(F, 0.0, 0.1, Y, Galerkin(substep="exponential"))
    assert library.owns(got.S)
    assert relative_error(got, exact_affine(A, A, G, E, 0.1, dense(Y))) < 1e-12


@pytest.mark.parametrize("kind", ["hermitian", "skew", "jordan"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_stays_single(rng, kind, dtype):
    n = 6
    A, B = (operator(rng, k, n).astype("float32") for k in (kind, "skew"))
    Y, G = full_state(rng, n, n, dtype), normal(rng, (n, n), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = dlra.step(
            SemiLinear(A, B, G, E=spd(rng, n, "float32")), 0.0, 0.1, Y, Galerkin(substep="exponential")
        )
    assert all(dtype_name(a.dtype) == dtype for a in got.factors)
    E = spd(np.random.default_rng(0), n)
    got = dlra.step(SemiLinear(A, B, G, E=E.astype("float32")), 0.0, 0.1, Y, Galerkin(substep="exponential"))
    expected = exact_affine(
        *(M.astype("complex128") for M in (A, B, G, E)), 0.1, dense(Y).astype("complex128")
    )
    assert relative_error(got, expected) < 1e-5


@pytest.mark.parametrize("name", ["numpy", "torch", "strict"])
def test_wider_operators_warn_and_are_cast(name, rng):
    library, n = get_library(name), 6
    A = operator(rng, "skew", n)
    Y = full_state(rng, n, n, "float32", library)
    with pytest.warns(DlraWarning, match=r"A of SemiLinear is float64 and Y0 float32.*astype"):
        got = dlra.step(SemiLinear(library.asarray(A)), 0.0, 0.1, Y, Galerkin(substep="exponential"))
    assert dtype_name(got.dtype) == "float32"
    assert relative_error(got, scipy.linalg.expm(0.1 * A) @ dense(Y)) < 1e-5


def test_exponential_step_of_the_whole_method_is_exact_too(rng):
    """K-, L- and S-equation treat the operators in their own coordinates."""
    n = 8
    A, B = operator(rng, "stiff", n), operator(rng, "skew", n)
    Y, G = full_state(rng, n, n), normal(rng, (n, n))
    got = dlra.step(SemiLinear(A, B, G), 0.0, 0.1, Y, AugmentedBUG())
    assert relative_error(got, exact_affine(A, B, G, None, 0.1, dense(Y))) < 1e-11


# ---- the linear part and its decomposition --------------------------------------------------------------------------


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_linear_part(rng, mass, dtype):
    n = 6
    E = MASSES[mass](rng, n)
    if E is not None and is_complex(E.dtype):
        dtype = "complex128"
    A, B = normal(rng, (n, n), dtype), normal(rng, (n, n), dtype)
    host_E = np.eye(n) if E is None else dense(E)
    low = random_lowrank(rng, n, n, 2, dtype)
    Y = dense(low)
    left, right = np.linalg.solve(host_E, A) @ Y, Y @ np.linalg.solve(host_E, B.conj().T).conj().T
    for convert in (lambda M: M, sp.csr_array, sp.coo_matrix, spla.aslinearoperator):
        a, b = convert(A), convert(B)
        for F, expected in (
            (SemiLinear(a, b, E=E), left + right),
            (SemiLinear(a, E=E), left),
            (SemiLinear(None, b, E=E), right),
        ):
            assert isinstance(F(0.0, low), LowRank)
            assert relative_error(F(0.0, low), expected) < 1e-13
            assert relative_error(F(0.0, Y), expected) < 1e-13


@pytest.mark.parametrize("convert", [lambda M: M, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("mass_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_mass_matrices_of_every_precision(rng, convert, mass_dtype, dtype):
    E, X = spd(rng, 5, mass_dtype), normal(rng, (5, 2), dtype)
    got = semilinear.Solver(convert(E))(X)
    assert got.dtype == np.result_type(E, X)
    assert relative_error(got, np.linalg.solve(E, X)) < 100 * max(eps(dtype), eps(mass_dtype))


def test_shared_decomposition_where_b_is_the_adjoint_of_a(rng):
    A = normal(rng, (5, 5), "complex128")
    for convert in (lambda M: M, sp.csr_array, sp.csc_matrix):
        F = SemiLinear(convert(A), convert(A.conj().T))
        assert F.operators[0] is F.operators[1]
        F = SemiLinear(convert(A), convert(A.T))
        assert F.operators[0] is not F.operators[1]


class Counter:
    """Counts the calls of a function with matrices of one size."""

    def __init__(self, function, n):
        self.function, self.n, self.calls = function, n, 0

    def __call__(self, A, *args, **kwargs):
        self.calls += A.shape[-1] == self.n
        return self.function(A, *args, **kwargs)


@pytest.mark.parametrize(("two", "expected"), [(False, 1), (True, 2)])
def test_the_decomposition_is_made_once(rng, monkeypatch, two, expected):
    n = 20
    A, B = operator(rng, "stiff", n), operator(rng, "skew", n)
    counter = Counter(np.linalg.eigh, n)
    monkeypatch.setattr(np.linalg, "eigh", counter)
    F = SemiLinear(A, B if two else A.T, factored(lambda t, Y: -0.1 * Y))
    assert counter.calls == 0, "not before it is needed"
    Y = random_lowrank(rng, n, n, 3)
    dlra.solve(F, (0, 0.1), Y, substep_method := AugmentedBUG(substep="exponential"), dt=0.05)
    assert counter.calls == expected
    dlra.solve(F, (0, 0.1), Y, substep_method, dt=0.02)
    dlra.step(F, 0.0, 0.3, Y)
    assert counter.calls == expected, "a later solve must reuse it"


def test_explicit_substeps_need_no_decomposition(rng, monkeypatch):
    def refuse(*_):
        raise AssertionError("decomposed")

    monkeypatch.setattr(np.linalg, "eigh", refuse)
    A = 0.1 * operator(rng, "hermitian", 6)
    Y = random_lowrank(rng, 6, 6, 2)
    got = dlra.step(SemiLinear(A), 0.0, 0.01, Y, AugmentedBUG(substep="rk4"))
    assert relative_error(got, scipy.linalg.expm(0.01 * A) @ dense(Y)) < 1e-6


def test_the_mass_matrix_is_factorised_once(rng, monkeypatch):
    import scipy.linalg as module

    counter = Counter(module.lu_factor, 6)
    monkeypatch.setattr(module, "lu_factor", counter)
    F = SemiLinear(operator(rng, "hermitian", 6), E=normal(rng, (6, 6)) + 5 * np.eye(6))
    Y = random_lowrank(rng, 6, 6, 2)
    for _ in range(3):
        F(0.0, Y)
    assert counter.calls == 1


def test_beyond_the_size_for_dense_decompositions_come_krylov_subspaces(rng, monkeypatch):
    Y, A = random_lowrank(rng, 30, 30, 2), -np.diag(np.arange(30.0) ** 2)
    expected = dlra.step(SemiLinear(A), 0.0, 0.1, Y)
    monkeypatch.setattr(semilinear, "MAX_DENSE", 5)
    F = SemiLinear(A)
    assert relative_error(dlra.step(F, 0.0, 0.1, Y), dense(expected)) < 1e-8
    assert F.operators[0]._coordinates is None


def test_a_linear_operator_is_treated_by_its_action(rng):
    Y = random_lowrank(rng, 6, 6, 2)
    F = SemiLinear(spla.aslinearoperator(-np.eye(6)))
    for substep in ("exponential", "rk4"):
        got = dlra.step(F, 0.0, 0.1, Y, AugmentedBUG(substep=substep))
        assert relative_error(got, np.exp(-0.1) * dense(Y)) < 1e-6


# ---- what SemiLinear refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"A": None}, ValueError, "SemiLinear needs A or B; without a linear part give the plain F"),
        ({"A": [[1.0]]}, TypeError, r"A must be a square matrix \(dense, sparse, .*got list"),
        ({"A": 3.0}, TypeError, "A must be .*got float"),
        ({"A": np.ones((3, 2))}, ValueError, r"A must be a square matrix, got shape \(3, 2\)"),
        ({"A": np.ones(3)}, ValueError, r"A must be a square matrix, got shape \(3,\)"),
        (
            {"A": np.eye(3), "B": np.ones((2, 3))},
            ValueError,
            r"B must be a square matrix, got shape \(2, 3\)",
        ),
        ({"A": np.eye(3), "B": "text"}, TypeError, "B must be .*got str"),
        ({"A": LowRank(np.ones((3, 1)), None, np.ones((3, 1)))}, TypeError, "A must be .*got LowRank"),
        (
            {"A": np.eye(3), "E": np.eye(4)},
            ValueError,
            r"E must be .* of the shape of A and B, got .*\(4, 4\)",
        ),
        (
            {"A": np.eye(3), "E": spla.aslinearoperator(np.eye(3))},
            ValueError,
            "E must be a dense or sparse matrix",
        ),
        ({"A": np.eye(3), "B": np.eye(4), "E": np.eye(3)}, ValueError, "E must be .*shape of A and B"),
        ({"A": np.eye(3), "G": 3.0}, TypeError, r"G must be a callable G\(t, Y\).*got float"),
        ({"A": np.eye(3), "G": "text"}, TypeError, "G must be a callable.*got str"),
        ({"A": np.eye(3), "G": np.ones(3)}, TypeError, r"G must be .*got ndarray of shape \(3,\)"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        SemiLinear(**arguments)


@pytest.mark.parametrize(
    ("F", "error", "text"),
    [
        (SemiLinear(np.eye(5)), ValueError, r"A of SemiLinear has shape \(5, 5\), but Y0 has shape \(6, 4\)"),
        (SemiLinear(None, np.eye(6)), ValueError, r"B of SemiLinear has shape \(6, 6\), but Y0"),
        (SemiLinear(1j * np.eye(6)), TypeError, r"A of SemiLinear is complex128 but Y0 is float64.*astype"),
        (SemiLinear(np.eye(6), E=1j * np.eye(6)), TypeError, "E of SemiLinear is complex128"),
        (SemiLinear(sp.csr_array(1j * np.eye(6))), TypeError, "A of SemiLinear is complex128"),
    ],
)
def test_operators_that_do_not_fit_the_state(rng, F, error, text):
    with pytest.raises(error, match=text):
        dlra.step(F, 0.0, 0.1, random_lowrank(rng, 6, 4, 2))


def test_operators_of_another_library(foreign, rng):
    Y = random_lowrank(rng, 6, 4, 2)
    Z = random_lowrank(rng, 6, 4, 2, "float64", foreign)
    for F, state in (
        (SemiLinear(foreign.asarray(np.eye(6))), Y),
        (SemiLinear(np.eye(6)), Z),
        (SemiLinear(sp.csr_array(np.eye(6))), Z),
    ):
        with pytest.raises(
            TypeError, match=r"A of SemiLinear is .* of .*, but Y0 of .*; bring both to one library"
        ):
            dlra.step(F, 0.0, 0.1, state)


def test_a_singular_mass_matrix_is_an_error(rng):
    Y = random_lowrank(rng, 6, 6, 2)
    singular = np.diag([1.0, 1, 1, 1, 1, 0])
    for E in (singular, sp.csc_array(singular)):
        with pytest.raises(ValueError, match="E of SemiLinear is singular"):
            dlra.step(SemiLinear(np.eye(6), E=E), 0.0, 0.1, Y, AugmentedBUG(substep="rk4"))


def test_repr():
    text = repr(SemiLinear(np.eye(3), E=np.eye(3)))
    assert text.startswith("SemiLinear(A=ndarray of shape (3, 3)") and "E=" in text and "B=" not in text
