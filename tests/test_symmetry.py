"""Symmetric fields: one side is computed for both, and states stay Hermitian to the last bit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import M, R, dense, eps, normal, orthonormality, random_orthonormal, relative_error
from manufactured import bits
from numpy.linalg import eigvalsh, norm
from scipy.sparse.linalg import aslinearoperator

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    DlraWarning,
    Galerkin,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectorSplitting,
    SecondOrderParallelBUG,
    SemiLinear,
    Solution,
    factored,
    problems,
)
from dlra.integrators import by_name, names

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

KEEPING = [name for name in names() if by_name(name).keeps_symmetry]
OTHERS = [name for name in names() if not by_name(name).keeps_symmetry]
VARIANTS = {
    **{name: by_name(name) for name in KEEPING},
    "midpoint-bug-4r": MidpointBUG(bases="4r"),
    "second-order-parallel-bug-3r": SecondOrderParallelBUG(bases="3r"),
    "projected-exponential-1": by_name("projected-exponential", order=1),
}
every_keeper = pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS.keys())
REAL_AND_COMPLEX = pytest.mark.parametrize("dtype", ["float64", "complex128"])


def hermitian(rng, m=M, r=R, dtype="float64", library=None) -> LowRank:
    """A Hermitian matrix with eigenvalues of both signs, a dense core and one array for both sides."""
    Q = random_orthonormal(rng, r, r, dtype)
    core = (Q * np.array([1.0, -0.5, 0.25, 0.125][:r])) @ Q.conj().T
    core = (core + core.conj().T) / 2
    U = random_orthonormal(rng, m, r, dtype)
    if library is not None:
        U, core = library.asarray(U), library.asarray(core.astype(dtype))
    return LowRank(U, core, U)


def field_of(rng, dtype="float64", m=M, library=None, calls=None):
    """The function A Y + Y Aᴴ + cos(t) C Cᴴ of a LowRank, exactly symmetric."""
    A, C = normal(rng, (m, m), dtype) / 3, normal(rng, (m, 2), dtype) / 3
    if library is not None:
        A, C = library.asarray(A), library.asarray(C)
    AH = A.conj().T if library is None else library.xp.asarray(library.xp.conj(A).T, copy=True)

    def F(t, Y):
        if calls is not None:
            calls.append(t)
        return dlra.matmul(A, Y) + dlra.matmul(Y, AH) + math.cos(t) * LowRank(C, None, C)

    return F


def is_hermitian(Y: LowRank) -> bool:
    """V is U, and S equals its adjoint to the last bit."""
    S = np.asarray(Y.S)
    return Y.V is Y.U and np.array_equal(S, S.conj().T)


# ---- the same result, to the last bit Hermitian --------------------------------------------------------------


def test_which_methods_keep_symmetry():
    assert set(OTHERS) == {
        "projector-splitting",
        "randomized-svd",
        "generalized-nystrom",
        "interpolatory-cur",
    }


@REAL_AND_COMPLEX
@pytest.mark.parametrize("substep", ["auto", "euler"])
@every_keeper
def test_one_side_gives_the_result_of_two(method, dtype, substep):
    if substep != "auto":
        if not hasattr(method, "substep"):
            pytest.skip("a method without substep")
        method = replace(method, substep=substep)
    rng = np.random.default_rng(1)
    F, Y0 = field_of(rng, dtype), hermitian(rng, dtype=dtype)
    one = dlra.solve(factored(F, symmetric=True), (0.2, 0.5), Y0, method, dt=0.1)
    two = dlra.solve(factored(F), (0.2, 0.5), Y0, method, dt=0.1)
    assert all(is_hermitian(Y) for Y in one.y) and len(one.y) == 4
    assert not any(Y.V is Y.U for Y in two.y[1:])
    assert relative_error(one.y_final, two.y_final) < (1e-7 if method == MidpointBUG(bases="4r") else 1e-11)
    assert relative_error(one.y_final, Y0) > 1e-2
    assert orthonormality(one.y_final.U) < 1e-13
    if not math.isnan(two.errors.normal[-1]):
        assert one.errors.normal[-1] == pytest.approx(two.errors.normal[-1], rel=1e-6)


@every_keeper
def test_many_steps_with_a_tolerance_keep_every_bit(method):
    rng = np.random.default_rng(2)
    F, Y0 = factored(field_of(rng, "complex128"), symmetric=True), hermitian(rng, dtype="complex128")
    if isinstance(method, dlra.integrators.RankAdaptive):
        method = replace(method, rtol=1e-4, max_rank=6)
    solution = dlra.solve(F, (0, 1), Y0, method, dt=0.05)
    assert all(is_hermitian(Y) for Y in solution.y)
    assert orthonormality(solution.y_final.U) < 1e-13


@pytest.mark.parametrize("method", KEEPING)
def test_values_may_be_dense_arrays(method):
    rng = np.random.default_rng(3)
    F, Y0 = field_of(rng, "complex128"), hermitian(rng, dtype="complex128")
    given = factored(lambda t, Y: F(t, Y).to_dense(), symmetric=True)
    one, two = (dlra.solve(f, (0, 0.2), Y0, method, dt=0.1) for f in (given, factored(F)))
    assert is_hermitian(one.y_final) and relative_error(one.y_final, two.y_final) < 1e-11


@REAL_AND_COMPLEX
@pytest.mark.parametrize("substep", ["auto", "exponential-euler", "implicit", "rk4", "adaptive"])
@pytest.mark.parametrize(
    "method",
    [BUG(), AugmentedBUG(), ParallelBUG(), MidpointBUG(), SecondOrderParallelBUG(), Galerkin()],
    ids=lambda m: m.name,
)
def test_a_stiff_part_on_one_side(method, substep, dtype):
    rng = np.random.default_rng(4)
    A = np.diag(-np.arange(float(M))).astype(dtype) + normal(rng, (M, M), dtype) / 5
    C, Y0 = normal(rng, (M, 2), dtype), hermitian(rng, dtype=dtype)
    method = replace(method, substep=substep)

    def final(symmetric):
        F = SemiLinear(A, A.conj().T, LowRank(C, None, C), symmetric=symmetric)
        return dlra.solve(F, (0, 0.1), Y0, method, dt=0.05).y_final

    one, two = final(True), final(False)
    assert is_hermitian(one) and relative_error(one, two) < 1e-10
    assert relative_error(one, Y0) > 1e-2


def test_libraries_stay_one_sided(library):
    rng = np.random.default_rng(5)
    dtype = "float64" if library.name == "jax" else "complex64"
    F, Y0 = field_of(rng, dtype, library=library), hermitian(rng, dtype=dtype, library=library)
    methods = [AugmentedBUG()] if library.name == "jax" else VARIANTS.values()
    for method in methods:
        Y = dlra.solve(factored(F, symmetric=True), (0, 0.1), Y0, method, dt=0.1).y_final
        assert Y.V is Y.U and all(library.owns(a) and a.dtype == Y0.dtype for a in Y.factors)
        S = library.to_numpy(Y.S)
        assert np.array_equal(S, S.conj().T)
        expected = dlra.solve(factored(F), (0, 0.1), Y0, method, dt=0.1).y_final
        assert relative_error(Y, expected) < (1e-11 if dtype == "float64" else 5e-5)
        assert orthonormality(Y.U) < 20 * eps(dtype)


# ---- half the cost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "two_sided", "one_sided"),
    [
        (BUG(), 11, 8),
        (AugmentedBUG(), 10, 7),
        (ParallelBUG(), 10, 7),
        (SecondOrderParallelBUG(), 10, 7),
        (MidpointBUG(), 14, 11),
        (Galerkin(), 4, 4),
    ],
    ids=lambda m: getattr(m, "name", m),
)
def test_the_l_equation_is_left_out(method, two_sided, one_sided):
    rng, calls = np.random.default_rng(6), []
    F, Y0 = field_of(rng, calls=calls), hermitian(rng)
    for symmetric, count in ((True, one_sided), (False, two_sided)):
        calls.clear()
        solution = dlra.solve(factored(F, symmetric=symmetric), (0, 0.2), Y0, method, dt=0.1)
        assert len(calls) == solution.nfev == 2 * count


class Counting:
    """A symmetric matrix that counts the columns it is multiplied with."""

    def __init__(self, A):
        self.A, self.shape, self.dtype, self.columns = A, A.shape, A.dtype, 0

    def __matmul__(self, X):
        self.columns += X.shape[1]
        return self.A @ X

    @property
    def H(self):
        return self


def test_products_are_halved():
    rng = np.random.default_rng(7)
    A, Y0 = normal(rng, (M, M)), hermitian(rng)
    found = {}
    for symmetric in (True, False):
        counting = Counting(A + A.T)
        F = factored(lambda t, Y, counting=counting: counting, symmetric=symmetric)
        dlra.step(F, 0.0, 0.1, Y0, by_name("projected-runge-kutta", tableau="rk4"))
        found[symmetric] = counting.columns
    assert found[True] <= 0.6 * found[False]


# ---- where it begins and ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", KEEPING)
def test_a_field_that_is_declared_but_not_symmetric_is_refused(method):
    rng = np.random.default_rng(8)
    B, Y0 = normal(rng, (M, M)), hermitian(rng)
    F = factored(lambda t, Y: B @ Y, symmetric=True)
    with pytest.raises(
        ValueError, match=r"declared symmetric, but F\(t, Y\) of a Hermitian Y is not.*symmetric"
    ):
        dlra.solve(F, (0, 0.2), Y0, method, dt=0.1)
    with pytest.raises(ValueError, match="declared symmetric"):
        dlra.solve(F, (0, 0.2), Y0, method, rtol=1e-3)
    with pytest.raises(ValueError, match="declared symmetric"):
        dlra.step(F, 0.0, 0.1, Y0, method)


def test_the_transpose_is_not_the_adjoint():
    """A Y + Y Aᵀ of a complex A is not symmetric in the sense of Hermitian matrices."""
    rng = np.random.default_rng(9)
    A, Y0 = normal(rng, (M, M), "complex128"), hermitian(rng, dtype="complex128")
    with pytest.raises(ValueError, match="declared symmetric"):
        dlra.step(factored(lambda Y: A @ Y + Y @ A.T, symmetric=True), 0.0, 0.1, Y0)
    with pytest.raises(ValueError, match=r"symmetric=True needs B = Aᴴ"):
        SemiLinear(A, A.T, symmetric=True)
    with pytest.raises(ValueError, match=r"symmetric=True needs B = Aᴴ"):
        SemiLinear(A, symmetric=True)


@pytest.mark.parametrize("method", ["augmented-bug", "projected-runge-kutta", "midpoint-bug"])
def test_an_unsymmetric_start_goes_on_two_sides(method):
    rng = np.random.default_rng(10)
    F = field_of(rng)
    U, V = random_orthonormal(rng, M, R), random_orthonormal(rng, M, R)
    for Y0 in (LowRank(U, np.diag([1.0, 0.5, 0.2]), V), LowRank(U, normal(rng, (R, R)), U)):
        declared, plain = (
            dlra.solve(factored(F, symmetric=s), (0, 0.2), Y0, method, dt=0.1) for s in (True, False)
        )
        assert bits(declared.y_final) == bits(plain.y_final) and declared.nfev == plain.nfev
        assert not any(Y.V is Y.U for Y in declared.y[1:])
        assert norm(dense(declared.y_final) - dense(declared.y_final).T) > 0.1


def test_a_hermitian_start_in_other_factors_is_recognised():
    """V another array, or spanning the same range in other coordinates, or signs in V instead of S."""
    rng = np.random.default_rng(11)
    F, Y0 = factored(field_of(rng), symmetric=True), hermitian(rng)
    P = random_orthonormal(rng, R, R)
    signs = np.diag([1.0, -1.0, 1.0])
    expected = dlra.step(F, 0.0, 0.1, Y0)
    for same in (
        LowRank(Y0.U, Y0.S, Y0.U.copy()),
        LowRank(Y0.U, Y0.S @ P, Y0.U @ P),
        LowRank(Y0.U @ signs, signs @ Y0.S, Y0.U),
        LowRank.from_dense(dense(Y0), rank=R),
    ):
        Y1 = dlra.step(F, 0.0, 0.1, same)
        assert is_hermitian(Y1) and relative_error(Y1, expected) < 1e-12


def test_a_slightly_unsymmetric_start_warns_and_goes_on_two_sides():
    rng = np.random.default_rng(12)
    F, Y0 = factored(field_of(rng), symmetric=True), hermitian(rng)
    nearly = LowRank(Y0.U, Y0.S + 1e-9 * normal(rng, (R, R)), Y0.U)
    with pytest.warns(
        DlraWarning, match=r"declared symmetric, but Y0 differs.*\(Y0 \+ Y0\.H\) / 2"
    ) as caught:
        Y1 = dlra.step(F, 0.0, 0.1, nearly)
    assert len(caught) == 1 and Y1.V is not Y1.U
    mended = dlra.step(F, 0.0, 0.1, ((nearly + nearly.H) * 0.5).truncate(max_rank=R))
    assert is_hermitian(mended) and relative_error(Y1, mended) < 1e-8


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods_give_their_ordinary_result(method):
    rng = np.random.default_rng(13)
    F, Y0 = field_of(rng), hermitian(rng)
    one, two = (
        dlra.solve(factored(F, symmetric=s), (0, 0.2), Y0, method, dt=0.1, rng=1) for s in (True, False)
    )
    assert bits(one.y_final) == bits(two.y_final) and one.nfev == two.nfev
    assert one.y_final.V is not one.y_final.U


def test_splitting_of_a_declared_field_keeps_its_order():
    rng = np.random.default_rng(14)
    F, Y0 = factored(field_of(rng), symmetric=True), hermitian(rng)
    coarse, fine, finest = (
        dense(dlra.solve(F, (0, 0.4), Y0, ProjectorSplitting(), dt=h).y_final) for h in (0.1, 0.05, 0.0125)
    )
    assert norm(coarse - finest) > 3.4 * norm(fine - finest) > 0


def test_an_undeclared_field_stays_on_two_sides_even_if_y0_has_one_array():
    rng = np.random.default_rng(15)
    B, Y0 = normal(rng, (M, M)) / 3, hermitian(rng)
    expected = dlra.step(factored(lambda Y: B @ Y), 0.0, 0.1, LowRank(Y0.U, Y0.S, Y0.U.copy()))
    for method in ("augmented-bug", "projected-runge-kutta"):
        Y1 = dlra.step(factored(lambda Y: B @ Y), 0.0, 0.1, Y0, method)
        assert Y1.V is not Y1.U and norm(dense(Y1) - dense(Y1).T) > 1e-2
        if method == "augmented-bug":
            assert relative_error(Y1, expected) < 1e-14


def test_members_of_a_system_are_one_sided_one_by_one():
    rng = np.random.default_rng(16)
    A, B = normal(rng, (M, M)) / 3, normal(rng, (M, M)) / 3
    U, V = random_orthonormal(rng, M, R), random_orthonormal(rng, M, R)
    Ys = [hermitian(rng), LowRank(U, np.diag([1.0, 0.5, 0.2]), V), normal(rng, (M, M)), np.ones(4)]

    def F(t, Ys):
        P, Q, W, b = Ys
        return [A @ P + P @ A.T + float(b.sum()) * P, B @ Q + Q @ B.T, -W - W.T, -b]

    for method in ("augmented-bug", "bug", "projected-runge-kutta", "parallel-bug", "midpoint-bug"):
        one, two = (
            dlra.solve(factored(F, symmetric=s), (0, 0.2), Ys, method, dt=0.1).y_final for s in (True, False)
        )
        assert is_hermitian(one[0]) and one[1].V is not one[1].U
        for a, b in zip(one, two, strict=True):
            assert relative_error(a, b) < 1e-12


# ---- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["augmented-bug", "projected-runge-kutta"])
def test_a_resumed_run_stays_one_sided_and_has_the_same_bits(method, tmp_path):
    pytest.importorskip("h5py")
    rng, calls = np.random.default_rng(17), []
    F, Y0 = factored(field_of(rng, calls=calls), symmetric=True), hermitian(rng)
    whole = dlra.solve(F, (0, 0.5), Y0, method, dt=0.125)
    dlra.solve(F, (0, 0.25), Y0, method, dt=0.125, checkpoint=tmp_path / "run.h5")
    calls.clear()
    resumed = dlra.solve(F, (0, 0.5), Y0, method, dt=0.125, resume=tmp_path / "run.h5")
    assert bits(resumed.y) == bits(whole.y) and all(is_hermitian(Y) for Y in resumed.y)
    assert len(calls) == whole.nfev / 2 and resumed.nfev == whole.nfev


def test_a_saved_solution_keeps_one_array_for_both_sides(tmp_path):
    pytest.importorskip("h5py")
    rng = np.random.default_rng(18)
    F, Y0 = field_of(rng), hermitian(rng)
    for symmetric in (True, False):
        solution = dlra.solve(factored(F, symmetric=symmetric), (0, 0.2), Y0, dt=0.1)
        solution.save(tmp_path / "solution.h5")
        loaded = Solution.load(tmp_path / "solution.h5")
        assert bits(loaded.y) == bits(solution.y)
        assert all((Y.V is Y.U) == (Z.V is Z.U) for Y, Z in zip(loaded.y, solution.y, strict=True))
        assert (loaded.y_final.V is loaded.y_final.U) == symmetric
        again = dlra.step(factored(F, symmetric=symmetric), 0.2, 0.1, loaded.y_final)
        assert bits(again) == bits(dlra.step(factored(F, symmetric=symmetric), 0.2, 0.1, solution.y_final))


# ---- definiteness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("substep", ["auto", "exponential-euler"])
@pytest.mark.parametrize("method", [AugmentedBUG(rtol=1e-8), AugmentedBUG(), BUG()], ids=repr)
def test_the_lyapunov_solution_stays_positive_semidefinite(method, substep):
    """The exact Galerkin flow keeps P(t) ⪰ 0, and truncation drops small eigenvalues only."""
    problem = problems.heat_lyapunov(n=64)
    method = replace(method, substep=substep)
    solution = dlra.solve(problem.F, (0, 0.1), problem.Y0(10), method, dt=0.02)
    for Y in solution.y:
        assert is_hermitian(Y)
        spectrum = eigvalsh(Y.S)
        assert spectrum[0] > -1e-14 * spectrum[-1]


def test_eigenvalues_of_both_signs_are_kept_by_modulus():
    """Truncation orders by modulus; a negative eigenvalue that is large is no small one."""
    rng = np.random.default_rng(19)
    U = random_orthonormal(rng, M, 4)
    Y0 = LowRank(U, np.diag([1.0, -0.9, 0.5, -0.1]), U)
    Y1 = dlra.step(factored(lambda Y: -0.1 * Y, symmetric=True), 0.0, 1.0, Y0, AugmentedBUG(max_rank=2))
    assert is_hermitian(Y1) and eigvalsh(Y1.S) == pytest.approx(
        np.exp(-0.1) * np.array([-0.9, 1.0]), rel=1e-6
    )


# ---- operators known by their action -------------------------------------------------------------------------------


def test_an_operator_that_is_not_the_adjoint_is_noticed():
    rng = np.random.default_rng(40)
    A, B = (aslinearoperator(normal(rng, (M, M))) for _ in range(2))
    Y0 = hermitian(rng)
    with pytest.raises(ValueError, match=r"symmetric=True needs B = Aᴴ|declared symmetric"):
        dlra.step(SemiLinear(A, B, symmetric=True), 0.0, 0.1, Y0)


@REAL_AND_COMPLEX
@pytest.mark.parametrize("substep", ["exponential", "implicit", "rk4"])
def test_a_hermitian_action_for_both_sides_is_computed_once(substep, dtype):
    rng = np.random.default_rng(41)
    X = normal(rng, (M, M), dtype)
    A, Y0 = -(X @ X.conj().T) / M, hermitian(rng, dtype=dtype)
    action = dlra.Action(
        M,
        lambda X: A @ X,
        solve=lambda s, X: np.linalg.solve(np.eye(M) - s * A, X),
        hermitian=True,
        dtype=dtype,
    )
    C, method = normal(rng, (M, 2), dtype) / 10, AugmentedBUG(substep=substep, max_rank=9)
    fields = [SemiLinear(X, X, LowRank(C, None, C), symmetric=True) for X in (action, A)]
    found, expected = (dlra.solve(F, (0, 0.2), Y0, method, dt=0.1).y_final for F in fields)
    assert is_hermitian(found)
    assert relative_error(found, expected) < 1e-7
