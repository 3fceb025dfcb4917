"""dlra.entrywise and dlra.entrywise_product against the same functions of the dense matrices."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from helpers import DTYPES, M, N, R, eps, is_complex, orthonormality, random_lowrank, relative_error, to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import dlra
from dlra import DlraWarning, LowRank
from dlra._entrywise import entrywise, entrywise_product

DEFAULT_RTOL = {"float32": 1e-5, "complex64": 1e-5, "float64": 1e-10, "complex128": 1e-10}

FUNCTIONS = {
    "cube": lambda y: y * y * y,
    "cubic Schroedinger": lambda y: abs(y) ** 2 * y,
    "exp": np.exp,
    "sin": lambda y: np.sin(2 * y),
    "rational": lambda y: 1 / (4 + y * y),
}


def gaussians(m, n, r, dtype="float64", library=None, seed=0):
    """A sum of r Gaussians with phases on a grid: smooth, so that its functions have low rank."""
    rng = np.random.default_rng(seed)
    x, y = np.linspace(-1, 1, m)[:, None], np.linspace(-1, 1, n)[:, None]
    centres, widths = rng.uniform(-0.7, 0.7, (2, r)), rng.uniform(0.3, 0.8, (2, r))
    U, V = np.exp(-(((x - centres[0]) / widths[0]) ** 2)), np.exp(-(((y - centres[1]) / widths[1]) ** 2))
    if is_complex(dtype):
        U = U * np.exp(1j * x * rng.standard_normal(r))
    U = (U * rng.uniform(-1, 1, r)).astype(dtype)
    V = V.astype(dtype)
    return LowRank(U, None, V) if library is None else LowRank(library.asarray(U), None, library.asarray(V))


def dense(Y):
    return Y.to_dense() if isinstance(Y, LowRank) else Y


def check(f, *matrices, within, **options):
    """The result for the matrices, within 3/2 of that relative error (it is controlled by an estimate)."""
    Z = entrywise(f, *matrices, **options)
    assert isinstance(Z, LowRank) and Z.shape == matrices[0].shape
    assert relative_error(Z.to_dense(), f(*map(dense, matrices))) <= 1.5 * within
    assert max(orthonormality(Z.U), orthonormality(Z.V)) < 100 * eps(Z.U.dtype)
    return Z


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(220, 170), (120, 400)])
def test_functions_of_smooth_matrices(name, dtype, shape):
    rtol = DEFAULT_RTOL[dtype]
    Y = gaussians(*shape, 4, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z = check(FUNCTIONS[name], Y, within=rtol)
    assert Z.U.dtype == Y.U.dtype
    best = LowRank.from_dense(FUNCTIONS[name](Y.to_dense()), rtol=rtol).rank
    assert best <= Z.rank + 1 and Z.rank <= best + 2


def test_every_library(typed_library):
    library, dtype = typed_library
    Y = gaussians(90, 70, 3, dtype, library)
    Z = entrywise(lambda y: y * y * y, Y)
    assert library.owns(Z.U) and library.owns(Z.V) and Z.dtype == Y.dtype
    assert relative_error(Z, to_numpy(Y.to_dense()) ** 3) <= 1.5 * DEFAULT_RTOL[dtype]
    assert Z.rank < 20
    P = entrywise_product(Y, Z)
    assert library.owns(P.U) and P.dtype == Y.dtype
    assert relative_error(P, to_numpy(Y.to_dense()) * to_numpy(Z.to_dense())) <= 200 * eps(dtype)


def test_small_matrices_of_every_library(typed_eager_library, rng):
    library, dtype = typed_eager_library
    Y = random_lowrank(rng, M, N, R, dtype, library)
    Z = entrywise(lambda y: y * y, Y)
    assert library.owns(Z.U) and Z.dtype == Y.dtype
    assert relative_error(Z, to_numpy(Y.to_dense()) ** 2) <= DEFAULT_RTOL[dtype]


@settings(max_examples=40)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(1, 6),
    st.floats(0, 15),
    st.sampled_from(DTYPES),
    st.sampled_from(["cube", "exp", "cubic Schroedinger"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_shape_rank_and_grading(m, n, r, decades, dtype, name, smooth, seed):
    """The singular values of Y fall over up to 15 decades; random factors as well as smooth ones."""
    r = min(m, n, r)
    rng = np.random.default_rng(seed)
    Y = gaussians(m, n, r, dtype, seed=seed) if smooth else random_lowrank(rng, m, n, r, dtype)
    Y = Y.orthonormalized()
    scale = 10.0 ** (-decades * np.arange(r) / max(r - 1, 1))
    Y = LowRank(Y.U, (np.sqrt(m * n) * np.diag(scale)).astype(dtype), Y.V)
    f = FUNCTIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DlraWarning)
        Z = entrywise(f, Y)
    # a margin for features that the samples underestimate, and for roundoff that exp amplifies
    assert relative_error(Z, f(Y.to_dense())) <= 20 * DEFAULT_RTOL[dtype]


def test_tolerances_and_ranks():
    Y = gaussians(300, 300, 5)
    A = np.exp(Y.to_dense())
    for rtol in (1e-2, 1e-4, 1e-8, 1e-12):
        Z = check(np.exp, Y, within=rtol, rtol=rtol)
        assert Z.rank <= LowRank.from_dense(A, rtol=rtol).rank + 2
    Z = entrywise(np.exp, Y, rtol=0.0, atol=1e-3)
    assert np.linalg.norm(Z.to_dense() - A) <= 1.5e-3
    exact = entrywise(np.exp, Y, rtol=0.0)
    assert relative_error(exact, A) < 1e-12 and exact.rank < 60


def test_single_precision_to_roundoff():
    Y = gaussians(600, 500, 5, "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z = entrywise(np.exp, Y, rtol=0.0)
    assert relative_error(Z, np.exp(Y.to_dense().astype("float64"))) < 1e-5
    assert Z.rank < 60


def test_same_input_same_output():
    Y = gaussians(200, 300, 4)
    Z, X = entrywise(np.sin, Y), entrywise(np.sin, Y)
    assert np.array_equal(Z.U, X.U) and np.array_equal(Z.S, X.S) and np.array_equal(Z.V, X.V)


def test_cost_grows_linearly():
    """Entries evaluated: a multiple of (m + n) times the rank of the result, whatever the size."""
    evaluated = {}
    for n in (500, 2000):
        count = 0

        def f(y):
            nonlocal count
            count += y.size
            return np.exp(y)

        Z = entrywise(f, gaussians(n, n, 4))
        evaluated[n] = count / (2 * n * Z.rank)
    assert max(evaluated.values()) < 4, evaluated


def test_special_matrices():
    zero = LowRank(np.zeros((100, 3)), None, np.zeros((80, 3)))
    Y = gaussians(100, 80, 3)
    for f, A, expected in [
        (np.exp, zero, 1),
        (lambda y: y**3, zero, 1),
        (lambda y: 0 * y, Y, 1),
        (lambda y: 0 * y + 2, Y, 1),
        (lambda y: y, Y, 3),
        (lambda y: y**2, Y, 6),
    ]:
        Z = check(f, A, within=1e-10)
        assert Z.rank == expected
    one = LowRank(Y.U[:, :1], None, Y.V[:, :1])
    assert check(lambda y: y**3, one, within=1e-10).rank == 1
    row = LowRank(np.ones((1, 1)), None, np.linspace(0, 1, 50)[:, None])
    assert check(np.exp, row, within=1e-10).rank == 1


@pytest.mark.parametrize("width", [0.003, 0.01])
@pytest.mark.parametrize("amplitude", [1.0, 1e-3])
def test_localized_feature_is_not_missed(width, amplitude):
    """A bump of a few entries, on a smooth background and alone."""
    n = 600
    x = np.linspace(-1, 1, n)
    bump = amplitude * LowRank(
        np.exp(-(((x - 0.217) / width) ** 2))[:, None], None, np.exp(-(((x + 0.641) / width) ** 2))[:, None]
    )
    check(np.expm1, bump, within=1e-10)
    check(np.expm1, bump + gaussians(n, n, 4), within=1e-10)


def test_factors_as_integrators_give_them():
    """K V₀ᴴ without a core, sums of matrices with common factors, directions below roundoff."""
    Y = gaussians(250, 200, 4).truncate()
    K = LowRank(Y.U @ Y.S, None, Y.V)
    total = Y - 0.5 * K + LowRank(Y.U @ Y.S, None, Y.V) * 1e-3
    for X in (K, total, Y.T, Y.H):
        check(FUNCTIONS["cube"], X, within=1e-10)
    noisy = LowRank(Y.U, np.diag([1.0, 1e-17, 0.0, 1e-30]), Y.V)
    assert check(FUNCTIONS["cube"], noisy, within=1e-10).rank == 1
    hermitian = LowRank(Y.U, np.diag([3.0, -2.0, 1.0, -0.5]), Y.U)
    check(np.exp, hermitian, within=1e-10)


def test_several_matrices():
    Y, X, W = (gaussians(200, 150, r, seed=r) for r in (4, 3, 2))
    check(lambda y, x: y * np.exp(x), Y, X, within=1e-10)
    check(lambda y, x, w: np.sin(y) * x - w**2, Y, X, W, within=1e-10)
    check(lambda y, x: y * x, Y, gaussians(200, 150, 2, "complex128"), within=1e-10)


def test_complex_function_of_a_real_matrix():
    for dtype, name in (("float64", "complex128"), ("float32", "complex64")):
        Y = gaussians(150, 120, 3, dtype)
        Z = check(lambda y: np.exp(1j * y), Y, within=DEFAULT_RTOL[dtype])
        assert Z.dtype == name
        back = check(lambda z: abs(z), Z, within=DEFAULT_RTOL[dtype])
        assert back.dtype == dtype and back.rank == 1


def test_dense_arrays_give_dense_arrays(rng):
    A, B = rng.standard_normal((2, 7, 5))
    np.testing.assert_array_equal(entrywise(lambda a, b: a * b**2, A, B), A * B**2)
    np.testing.assert_array_equal(entrywise_product(A, B, A), A * B * A)


def test_max_rank_bounds_and_warns():
    Y = gaussians(400, 300, 4)
    f = lambda y: np.maximum(y - 0.3, 0)  # noqa: E731
    with pytest.warns(DlraWarning, match=r"max_rank=12 has an estimated error of .* above the tolerance"):
        Z = entrywise(f, Y, max_rank=12)
    assert Z.rank == 12
    best = np.linalg.svd(f(Y.to_dense()), compute_uv=False)
    error = np.linalg.norm(Z.to_dense() - f(Y.to_dense()))
    assert error < 3 * np.linalg.norm(best[12:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert entrywise(lambda y: y**2, Y, max_rank=12).rank == 10


def test_no_low_rank(rng):
    """The sine of a random matrix: everything is sampled, and said where it is large."""
    for n in (60, 300):
        Y = random_lowrank(rng, n, n, 3) * n
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Z = entrywise(np.sin, Y)
        assert relative_error(Z, np.sin(Y.to_dense())) <= 1.01e-10
        assert [w.category for w in caught] == ([DlraWarning] if n > 256 else [])
        assert all("all 300 x 300 entries" in str(w.message) for w in caught)


def test_noise_does_not_sample_everything(rng):
    noise = iter(range(10**6))

    def f(y):
        return y**2 + 1e-9 * np.random.default_rng(next(noise)).standard_normal(y.shape)

    with pytest.warns(DlraWarning, match="entrywise has an estimated error of"):
        Z = entrywise(f, gaussians(800, 800, 3))
    assert Z.rank < 300


def test_a_failure_of_f_passes_through():
    def f(y):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        entrywise(f, gaussians(50, 50, 2))


@pytest.mark.parametrize("n", [12, 200])
@pytest.mark.parametrize(
    ("f", "error", "match"),
    [
        (lambda y: y - y.mean(), ValueError, "f must act entry by entry"),
        (lambda y: y / np.abs(y).sum(axis=0), ValueError, "f must act entry by entry"),
        (lambda y: np.cumsum(y, axis=0), ValueError, "f must act entry by entry"),
        (lambda y: np.sort(y, axis=1), ValueError, "f must act entry by entry"),
        (lambda y: y[::-1] * 1.0, ValueError, "f must act entry by entry"),
        (lambda y: y[:1], ValueError, r"f returned an array of shape \(1, "),
        (lambda y: float(y.sum()), TypeError, "f returned float, expected an array"),
        (lambda y: None, TypeError, "f returned NoneType"),
        (lambda y: y > 0, TypeError, "f returned dtype bool"),
        (lambda y: y.astype("float32"), TypeError, "f returned dtype float32, expected that of the block"),
        (lambda y: y * np.nan, ValueError, "f returned NaN or infinite values"),
    ],
)
def test_functions_that_are_none(n, f, error, match):
    with pytest.raises(error, match=match):
        entrywise(f, gaussians(n, n + 1, 2))


def test_another_library_returned():
    import torch

    with pytest.raises(TypeError, match="f returned an array of torch"):
        entrywise(lambda y: torch.asarray(y), gaussians(50, 50, 2))


@pytest.mark.parametrize("function", [lambda *a: entrywise(lambda *b: b[0], *a), entrywise_product])
def test_bad_matrices(function, rng):
    Y = random_lowrank(rng, M, N, R)
    A = Y.to_dense()
    lazy = Y + A
    for matrices, error, match in [
        ((lazy, Y), TypeError, "known by its products only.*from_dense"),
        ((Y, A), TypeError, "all as dense arrays.*from_dense"),
        ((scipy.sparse.csr_array(A), Y), TypeError, "takes LowRank matrices"),
        ((Y, Y.T), ValueError, r"one shape, got \(12, 9\) and \(9, 12\)"),
        ((Y, Y.astype("float32")), TypeError, "one precision"),
        ((Y * np.inf, Y), ValueError, "NaN or infinite"),
    ]:
        with np.errstate(all="ignore"), pytest.raises(error, match=match):
            function(*matrices)


def test_bad_options(rng):
    Y = random_lowrank(rng, M, N, R)
    with pytest.raises(ValueError, match="rtol must be"):
        entrywise(np.exp, Y, rtol=-1.0)
    with pytest.raises(ValueError, match="max_rank must be at least 1"):
        entrywise(np.exp, Y, max_rank=0)
    with pytest.raises(TypeError, match="atol must be a number"):
        entrywise_product(Y, Y, atol="small")


def test_inside_an_integrator():
    """Allen-Cahn with a sampled cube instead of a dense one."""
    problem = dlra.problems.allen_cahn(n=64)
    Y0 = problem.Y0(8)
    method = dlra.AugmentedBUG(rtol=1e-9)

    def solve(cube):
        F = dlra.SemiLinear(problem.F.A, problem.F.B, dlra.factored(lambda t, Y: Y - cube(Y)))
        return dlra.solve(F, (0.0, 0.2), Y0, method, dt=0.05).y[-1]

    sampled = solve(lambda Y: entrywise(lambda y: y**3, Y))
    exact = solve(lambda Y: entrywise_product(Y, Y, Y))
    assert relative_error(sampled, exact) < 1e-8


# ---- the entrywise product


@settings(max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 1e-3]),
    st.integers(0, 2**32 - 1),
)
def test_product(m, n, r, q, dtype, rtol, seed):
    rng = np.random.default_rng(seed)
    Y, Z = (random_lowrank(rng, m, n, min(m, n, k), dtype) for k in (r, q))
    tolerance = 1.01 * rtol + 200 * eps(dtype)
    for X in (Z, Y):
        P = entrywise_product(Y, X, rtol=rtol)
        assert P.dtype == Y.dtype and orthonormality(P.U) < 100 * eps(dtype)
        assert relative_error(P, Y.to_dense() * X.to_dense()) <= tolerance
    A, B = Y.to_dense(), Y.to_dense() * Z.to_dense()
    error = np.linalg.norm(entrywise_product(Y, Z, Y, rtol=rtol).to_dense() - A * B)
    # of the first product, times Y; of the second
    assert error <= tolerance * (np.linalg.norm(B) * np.abs(A).max() + np.linalg.norm(A * B))


def test_product_drops_what_does_not_matter():
    Y = gaussians(500, 400, 12).truncate()
    P = entrywise_product(Y, Y, rtol=1e-8)
    assert relative_error(P, Y.to_dense() ** 2) <= 1.01e-8
    assert P.rank <= LowRank.from_dense(Y.to_dense() ** 2, rtol=1e-8).rank + 1
    assert entrywise_product(Y, Y, max_rank=5).rank == 5


def test_product_of_real_and_complex(rng):
    Y, Z = random_lowrank(rng, M, N, R), random_lowrank(rng, M, N, R, "complex128")
    for a, b in ((Y, Z), (Z, Y)):
        P = entrywise_product(a, b)
        assert P.dtype == "complex128"
        assert relative_error(P, a.to_dense() * b.to_dense()) < 1e-13


def test_product_with_disjoint_supports():
    Y = LowRank(np.eye(6)[:, :1], None, np.eye(5)[:, :1])
    Z = LowRank(np.eye(6)[:, 1:2], None, np.eye(5)[:, 1:2])
    P = entrywise_product(Y, Z)
    assert P.rank == 1 and P.norm() == 0
