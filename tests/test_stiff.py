"""Large stiff operators, the implicit substep, operators given by their action, projected exponential methods."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import dense, normal, random_lowrank, random_orthonormal, relative_error
from manufactured import projected_flow, slopes
from scipy.linalg import expm, solve
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import dlra
from dlra import (
    Action,
    AugmentedBUG,
    LowRank,
    ProjectedExponential,
    ProjectedRungeKutta,
    ProjectorSplitting,
    SemiLinear,
    SolveError,
    problems,
    semilinear,
)
from dlra.substeps import Exponential, Implicit

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")
n = 80


def laplacian(size=n, shift=0.0):
    h = 1 / (size + 1)
    return (
        sp.diags_array([1.0, -2.0 - shift * h * h, 1.0], offsets=[-1, 0, 1], shape=(size, size)).tocsc()
        / h**2
    )


def mass(size=n):
    return sp.diags_array([1.0, 4.0, 1.0], offsets=[-1, 0, 1], shape=(size, size)).tocsc() / 6


def smooth(r=3, size=n, phase=0.0, dtype="float64"):
    x = np.linspace(0, 1, size + 2)[1:-1, None]
    U = np.linalg.qr(np.sin(np.pi * np.arange(1, r + 1) * x + phase) * np.exp(0.3 * x))[0].astype(dtype)
    return U * np.exp(1j * x) if dtype == "complex128" else U


@pytest.fixture
def krylov(monkeypatch):
    """Operators of any size count as large."""

    def switch(on=True):
        monkeypatch.setattr(semilinear, "MAX_DENSE", 0 if on else 6000)
        monkeypatch.setattr(semilinear, "MAX_SPARSE", 0 if on else 2000)

    return switch


# ---- Krylov subspaces against decompositions ---------------------------------------------------------------------


@pytest.mark.parametrize("substep", ["exponential", "exponential-euler", "implicit"])
@pytest.mark.parametrize("E", [None, mass()], ids=["", "mass"])
@pytest.mark.parametrize("symmetric", [True, False], ids=["one side", "two sides"])
@pytest.mark.parametrize("kind", ["real", "complex", "nonsymmetric"])
def test_krylov_subspaces_agree_with_decompositions(krylov, kind, symmetric, E, substep):
    A = laplacian(shift=10.0)
    if kind == "complex":
        A = (A + 30j * sp.eye_array(n)).tocsc()
    if kind == "nonsymmetric":
        A = (A + 20 * (n + 1) * sp.diags_array([-0.5, 0.5], offsets=[-1, 1], shape=(n, n))).tocsc()
    dtype = "complex128" if kind == "complex" else "float64"
    U = smooth(dtype=dtype)
    Y0 = LowRank(
        U, np.diag([1.0, 0.1, 0.01]).astype(dtype), U if symmetric else smooth(phase=0.4, dtype=dtype)
    )
    C = smooth(2, phase=0.2, dtype=dtype)
    found = {}
    for large in (True, False):
        krylov(large)
        F = SemiLinear(A, A.conj().T.tocsc(), LowRank(C, None, C), E=E, symmetric=symmetric)
        assert F.operators[0].decomposes is not large
        found[large] = dlra.solve(F, (0, 0.02), Y0, AugmentedBUG(substep=substep), dt=0.01).y_final
    assert relative_error(found[True], found[False]) < 1e-7
    assert relative_error(found[True], Y0) > 0.05
    assert (found[True].V is found[True].U) == symmetric


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
@pytest.mark.parametrize("which", [Exponential, Implicit], ids=lambda c: c.__name__)
def test_the_tolerance_of_the_krylov_subspaces_is_obeyed(krylov, which, rtol):
    A, Y0, C = laplacian(), LowRank(smooth(), None, smooth(phase=0.4)), smooth(2, phase=0.2)
    results = []
    for large, tolerance in ((True, rtol), (False, None)):
        krylov(large)
        method = AugmentedBUG(substep=which(rtol=tolerance), max_rank=6)
        results.append(dlra.step(SemiLinear(A, A, LowRank(C, None, C)), 0.0, 0.01, Y0, method))
    assert relative_error(*results) < 20 * rtol


def test_no_convergence_names_the_remedy(krylov):
    """Polynomial subspaces of an operator without solves, far too stiff for them."""
    big = 4000
    A = aslinearoperator(laplacian(big))
    rng = np.random.default_rng(1)
    Y0 = LowRank(random_orthonormal(rng, big, 2), None, random_orthonormal(rng, big, 2))
    with pytest.raises(
        SolveError, match=r"Krylov subspace.*above the tolerance.*take a smaller step.*dlra\.Action"
    ) as caught:
        dlra.solve(SemiLinear(A), (0, 1), Y0, dt=1.0)
    assert "stage K" in str(caught.value)
    with pytest.raises(SolveError, match=r"reduce dt, or loosen krylov_rtol"):
        dlra.solve(SemiLinear(A), (0, 1), Y0, ProjectedExponential(), dt=1.0)


@pytest.mark.parametrize("form", ["operator", "action", "action with solve"])
@pytest.mark.parametrize("substep", ["exponential", "implicit"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_operators_known_by_their_action(form, substep, dtype):
    size = 30
    A = laplacian(size).toarray().astype(dtype)
    A = A + (
        40 * (np.diag(np.ones(size - 1), 1) - np.diag(np.ones(size - 1), -1))
        + (20j if dtype != "float64" else 0)
    )
    AH, identity = A.conj().T, np.eye(size)
    given = {
        "operator": lambda M: aslinearoperator(M),
        "action": lambda M: Action(size, lambda X: M @ X, adjoint=lambda X: M.conj().T @ X, dtype=dtype),
        "action with solve": lambda M: Action(
            size, lambda X: M @ X, adjoint=lambda X: M.conj().T @ X, solve=lambda s, X: solve(identity - s * M, X),
            solve_adjoint=lambda s, X: solve(identity - s * M.conj().T, X), dtype=dtype,
        ),
    }[form]  # fmt: skip
    Y0 = LowRank(smooth(size=size, dtype=dtype), None, smooth(size=size, phase=0.4, dtype=dtype))
    method = AugmentedBUG(substep=substep)
    expected = dlra.solve(SemiLinear(A, AH), (0, 0.01), Y0, method, dt=0.005).y_final
    found = dlra.solve(SemiLinear(given(A), given(AH)), (0, 0.01), Y0, method, dt=0.005).y_final
    assert relative_error(found, expected) < 1e-7
    assert relative_error(expected, Y0) > 0.05


def test_factorisations_are_reused(krylov, monkeypatch):
    krylov()
    made = []
    original = semilinear.StiffOperator._shifted_solver
    monkeypatch.setattr(
        semilinear.StiffOperator, "_shifted_solver", lambda self, s: (made.append(s), original(self, s))[1]
    )
    A, Y0 = laplacian(), LowRank(smooth(), None, smooth())
    F = SemiLinear(A, A, symmetric=True)
    for _ in range(2):
        dlra.solve(F, (0, 0.01), Y0, AugmentedBUG(), dt=0.001)
    assert len(made) == 1, "one pole, one operator for both sides, two runs"
    dlra.solve(F, (0, 0.01), Y0, AugmentedBUG(), rtol=1e-3)
    assert len(made) < 12


# ---- the implicit substep ----------------------------------------------------------------------------------------


def test_the_implicit_substep_has_order_two():
    """At full rank nothing but the scheme is seen: against the exact solution of Y' = A Y + Y B + cos(t) Q."""
    rng = np.random.default_rng(2)
    A, B, Q = normal(rng, (6, 6)), normal(rng, (5, 5)), normal(rng, (6, 5))
    Y0 = random_lowrank(rng, 6, 5, 5)
    F = SemiLinear(A, B, lambda t, Y: math.cos(3 * t) * Q + np.sin(Y))
    steps = (20, 40, 80)
    reference = dlra.solve(F, (0, 1), Y0, AugmentedBUG(substep="adaptive"), dt=1 / 2, t_eval=[1]).y_final
    errors = [
        relative_error(
            dlra.solve(F, (0, 1), Y0, AugmentedBUG(substep="implicit"), dt=1 / N, t_eval=[1]).y_final,
            reference,
        )
        for N in steps
    ]
    assert np.all(abs(slopes(steps, errors) - 2) < 0.4), errors


@pytest.mark.parametrize("large", [True, False])
def test_the_implicit_substep_is_l_stable(krylov, large):
    """Modes of huge rates are gone after a step; an A-stable scheme that is not L-stable would keep them."""
    krylov(large)
    rates = -(10.0 ** np.linspace(6, 9, 20))
    A = sp.diags_array(rates).tocsc()
    rng = np.random.default_rng(3)
    Y0 = LowRank(random_orthonormal(rng, 20, 2), None, random_orthonormal(rng, 20, 2))
    Y1 = dlra.step(SemiLinear(A, A), 0.0, 1.0, Y0, AugmentedBUG(substep="implicit"))
    assert Y1.norm() < 1e-3 * Y0.norm()


def test_the_implicit_substep_on_the_heat_equation_and_with_chosen_steps():
    problem = problems.heat_lyapunov(n=64)
    for options in ({"dt": 0.0025}, {"rtol": 1e-3}):
        method = AugmentedBUG(substep="implicit")
        Y = dlra.solve(problem.F, (0, 0.1), problem.Y0(12), method, t_eval=[0.1], **options).y_final
        assert relative_error(Y, dense(problem.reference(0.1))) < 1e-2
        assert Y.V is Y.U


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_what_an_action_refuses():
    with pytest.raises(ValueError, match="n of an Action must be a positive int, got 0"):
        Action(0, lambda X: X)
    with pytest.raises(TypeError, match="apply of an Action must be callable"):
        Action(3, None)
    with pytest.raises(TypeError, match="solve of an Action must be callable"):
        Action(3, lambda X: X, solve=3)
    with pytest.raises(ValueError, match=r"adjoint of this Action is needed.*hermitian=True"):
        _ = Action(3, lambda X: X).H
    with pytest.raises(ValueError, match=r"adjoint of this Action is needed"):
        SemiLinear(None, Action(3, lambda X: X))
    Y0 = random_lowrank(np.random.default_rng(4), 3, 3, 1)
    with pytest.raises(
        (ValueError, SolveError), match="apply of an Action must return an array of the shape"
    ):
        dlra.step(SemiLinear(Action(3, lambda X: X[:2])), 0.0, 0.1, Y0)
    hermitian = Action(3, lambda X: 2 * X, hermitian=True)
    assert hermitian.H is hermitian and relative_error(hermitian @ Y0, 2 * dense(Y0)) < 1e-15
    assert relative_error(Y0 @ hermitian, 2 * dense(Y0)) < 1e-15


def test_what_semilinear_refuses():
    A, Y0 = laplacian(12), random_lowrank(np.random.default_rng(5), 12, 12, 2)
    with pytest.raises(ValueError, match=r"A must be a square matrix, got shape \(12, 9\)"):
        SemiLinear(np.ones((12, 9)))
    with pytest.raises(ValueError, match="B of SemiLinear is a LinearOperator without adjoint"):
        SemiLinear(None, LinearOperator((12, 12), matvec=lambda x: x, dtype="float64"))
    with pytest.raises(ValueError, match="E must be a dense or sparse matrix of the shape"):
        SemiLinear(A, E=np.eye(9))
    for form in (np.asarray, sp.csc_array):
        indefinite = form(np.diag([1.0] * 11 + [-1.0]))
        with pytest.raises(ValueError, match="Hermitian but indefinite"):
            dlra.step(SemiLinear(A, A, E=indefinite), 0.0, 0.1, Y0)
        with pytest.raises(ValueError, match="singular"):
            dlra.step(SemiLinear(A, A, E=form(np.diag([1.0] * 11 + [0.0]))), 0.0, 0.1, Y0)
    for which in (Exponential, Implicit):
        with pytest.raises(ValueError, match=r"rtol of the .* substep must lie in \(0, 1\), got 0"):
            which(rtol=0.0)


# ---- projected exponential methods ---------------------------------------------------------------------------------


def two_laplacians():
    """Two second differences and an initial value of rank 2."""
    A, B = laplacian(24).toarray(), laplacian(20).toarray()
    Y0 = LowRank(smooth(2, 24), np.diag([1.0, 0.5]), smooth(2, 20, 0.3))
    return A, B, Y0


@pytest.mark.parametrize(("order", "steps"), [(1, (8, 16, 32)), (2, (8, 16, 32))])
def test_orders_of_the_projected_exponential_methods(order, steps):
    """Against the projected flow, with a normal component of order one."""
    rng = np.random.default_rng(6)
    A, B, Y0 = two_laplacians()
    A, B = A / 50, B / 50  # so that the dense reference can be explicit
    Q = normal(rng, (24, 20)) / 5
    G = lambda t, Y: 0.5 * Y * Y + math.cos(2 * t) * Q  # noqa: E731
    flow = projected_flow(lambda t, Y: A @ Y + Y @ B + G(t, Y), dense(Y0), 2, 0.0, 0.4, 1600)
    errors = [
        relative_error(
            dlra.solve(
                SemiLinear(A, B, G), (0, 0.4), Y0, ProjectedExponential(order), dt=0.4 / N, t_eval=[0.4]
            ).y_final,
            flow,
        )
        for N in steps
    ]
    assert np.all(abs(slopes(steps, errors) - order) < 0.35), errors


def test_projected_exponential_is_exact_for_the_linear_part_alone():
    """Whatever the step and the stiffness; 𝓛(Y) is tangent."""
    A, B, Y0 = two_laplacians()
    for order in (1, 2):
        Y1 = dlra.step(SemiLinear(A, B), 0.0, 0.05, Y0, ProjectedExponential(order))
        assert relative_error(Y1, expm(0.05 * A) @ dense(Y0) @ expm(0.05 * B)) < 1e-8
    rough = dlra.step(SemiLinear(A, B), 0.0, 0.05, Y0, ProjectedExponential(1, krylov_rtol=1e-2))
    assert 1e-8 < relative_error(rough, expm(0.05 * A) @ dense(Y0) @ expm(0.05 * B)) < 0.1


@pytest.mark.parametrize(("order", "tableau"), [(1, "euler"), (2, "heun2")])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_without_linear_part_these_are_projected_runge_kutta_methods(order, tableau, dtype):
    rng = np.random.default_rng(7)
    B, Q = normal(rng, (12, 12), dtype) / 3, normal(rng, (12, 9), dtype)
    Y0 = random_lowrank(rng, 12, 9, 3, dtype)
    F = lambda t, Y: np.cos(3 * t) * B @ Y + Q  # noqa: E731
    one, other = (
        dlra.solve(F, (0.2, 0.5), Y0, method, dt=0.1).y_final
        for method in (ProjectedExponential(order), ProjectedRungeKutta(tableau))
    )
    assert relative_error(one, other) < 1e-11


def test_a_normal_component_is_not_followed_by_projected_methods():
    """Their limit: where P(Y₀) G = 0 the state stands still, whatever the step and max_rank."""
    U, V = np.eye(8, 3), np.eye(7, 3)
    Q = U[:, 1:] @ V[:, 1:].T
    Y0 = LowRank(U[:, :1], None, V[:, :1])
    for order in (1, 2):
        Y1 = dlra.step(
            SemiLinear(0.0 * np.eye(8), None, Q), 0.0, 0.5, Y0, ProjectedExponential(order, max_rank=3)
        )
        assert relative_error(Y1, Y0) < 1e-14


@pytest.mark.parametrize("bad", [{"order": 3}, {"order": True}, {"krylov_rtol": 0.0}, {"krylov_rtol": 2.0}])
def test_options_of_the_projected_exponential_methods(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ProjectedExponential(**bad)
    assert replace(ProjectedExponential(), order=1) == ProjectedExponential(1)


# ---- resolvents without eigenvectors -------------------------------------------------------------------------------


def test_a_resolvent_of_matrices_far_from_normal_is_that_in_complex_arithmetic():
    """No eigenvectors on the left, complex eigenvalues of a real matrix on the right."""
    rng = np.random.default_rng(20)
    A, B = -20 * np.eye(30) + 20 * np.eye(30, k=1), normal(rng, (24, 24))
    assert np.any(np.linalg.eigvals(B).imag != 0)
    Y0, method = random_lowrank(rng, 30, 24, 3), AugmentedBUG(substep="implicit")
    real = dlra.step(SemiLinear(A, B), 0.0, 0.25, Y0, method)
    assert real.dtype == np.float64
    A, B, Y0 = (X.astype("complex128") for X in (A, B, Y0))
    assert relative_error(real, dlra.step(SemiLinear(A, B), 0.0, 0.25, Y0, method)) < 1e-11
    assert relative_error(real, Y0) > 0.1


def test_the_implicit_substep_on_convection_and_diffusion():
    """A matrix of order 100 whose eigenvectors are useless; order two, against the exact solution."""
    m, C = 100, smooth(2, 100)
    A = (
        0.02 * laplacian(m) + 4 * (m + 1) * sp.diags_array([-0.5, 0.5], offsets=[-1, 1], shape=(m, m))
    ).toarray()
    Y0, steps = LowRank(smooth(size=m), None, C @ np.eye(2, 3) + smooth(size=m, phase=0.4)), (20, 40, 80)
    exact = expm(0.1 * A) @ dense(Y0) @ expm(0.1 * A.T)
    errors = [
        relative_error(
            dlra.solve(
                SemiLinear(A, A.T), (0, 0.1), Y0, AugmentedBUG(substep="implicit"), dt=0.1 / N, t_eval=[0.1]
            ).y_final,
            exact,
        )
        for N in steps
    ]
    assert np.all(abs(slopes(steps, errors) - 2) < 0.4), errors
    assert errors[-1] < 1e-2


# ---- operators that are not what they are said to be ---------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s, X, M: solve(np.eye(len(M)) + s * M, X),
        lambda s, X, M: X,
        lambda s, X, M: X[:3],
    ],
    ids=["sign", "identity", "shape"],
)
@pytest.mark.parametrize("substep", ["exponential", "implicit"])
def test_a_wrong_solve_of_an_action_is_noticed(substep, wrong):
    M = laplacian(30).toarray()
    A = Action(30, lambda X: M @ X, solve=lambda s, X: wrong(s, X, M), hermitian=True)
    Y0 = LowRank(smooth(size=30), None, smooth(size=30, phase=0.4))
    with pytest.raises((SolveError, ValueError), match="solve"):
        dlra.step(SemiLinear(A, A), 0.0, 0.01, Y0, AugmentedBUG(substep=substep))


@pytest.mark.filterwarnings("ignore:ProjectorSplitting solves its S-step backward")
@pytest.mark.parametrize(
    "method",
    [AugmentedBUG(substep="rk4"), ProjectorSplitting(), ProjectorSplitting(substep="rk4")],
    ids=repr,
)
def test_an_action_serves_explicit_substeps_and_splitting(method):
    M = laplacian(30).toarray() / 900
    A = Action(30, lambda X: M @ X, solve=lambda s, X: solve(np.eye(30) - s * M, X), hermitian=True)
    Y0 = LowRank(smooth(size=30), None, smooth(size=30, phase=0.4))
    fields = [SemiLinear(A, A), SemiLinear(M, M)]
    found, expected = (dlra.solve(F, (0, 0.5), Y0, method, dt=0.25).y_final for F in fields)
    assert relative_error(found, expected) < 1e-7 < relative_error(expected, Y0)


@pytest.mark.parametrize("form", ["action", "operator"])
@pytest.mark.parametrize("substep", ["rk4", "exponential"])
def test_an_operator_with_complex_values_for_a_real_state_is_an_error(form, substep):
    apply = lambda X: 1j * X  # noqa: E731
    A = {
        "action": lambda: Action(12, apply),
        "operator": lambda: LinearOperator((12, 12), matvec=apply, matmat=apply, dtype="float64"),
    }[form]()
    Y0 = random_lowrank(np.random.default_rng(21), 12, 9, 2)
    with pytest.raises((SolveError, TypeError, ValueError), match="complex"):
        dlra.solve(SemiLinear(A), (0, 0.1), Y0, AugmentedBUG(substep=substep), dt=0.1)


@pytest.mark.parametrize("form", [np.asarray, sp.csc_array, sp.dia_array], ids=lambda f: f.__name__)
@pytest.mark.parametrize("substep", ["exponential", "implicit", "rk4"])
def test_integer_matrices_count_as_real_ones(form, substep):
    A = (np.diag([-2] * 12) + np.eye(12, k=1) + np.eye(12, k=-1)).astype("int64")
    Y0, method = random_lowrank(np.random.default_rng(22), 12, 12, 2), AugmentedBUG(substep=substep)
    found, expected = (
        dlra.solve(SemiLinear(form(X), form(X)), (0, 0.2), Y0, method, dt=0.1).y_final
        for X in (A, A.astype("float64"))
    )
    assert relative_error(found, expected) < 1e-13


@pytest.mark.parametrize("which", ["A", "B", "E"])
@pytest.mark.parametrize("spoilt", ["object", "nan", "inf", "sparse nan"])
def test_entries_that_are_no_finite_numbers_are_refused(which, spoilt):
    good = {"A": -np.eye(12), "B": -np.eye(12), "E": np.eye(12)}
    bad = good[which].copy()
    if spoilt == "object":
        bad = bad.astype(object)
    else:
        bad[3, 3] = math.inf if spoilt == "inf" else math.nan
    good[which] = sp.csc_array(bad) if spoilt == "sparse nan" else bad
    Y0 = random_lowrank(np.random.default_rng(23), 12, 12, 2)
    with pytest.raises((TypeError, ValueError), match=rf"\b{which}\b"):
        dlra.solve(SemiLinear(good["A"], good["B"], E=good["E"]), (0, 0.1), Y0, dt=0.1)


@pytest.mark.parametrize("substep", ["exponential", "implicit", "rk4"])
@pytest.mark.parametrize("large", [True, False])
def test_a_mass_matrix_in_any_sparse_format(krylov, large, substep):
    krylov(large)
    A, Y0 = laplacian() / 1e4, LowRank(smooth(), None, smooth(phase=0.4))
    results = [
        dlra.step(SemiLinear(A, A, E=mass().asformat(form)), 0.0, 0.1, Y0, AugmentedBUG(substep=substep))
        for form in ("csc", "dia", "coo")
    ]
    assert all(relative_error(Y, results[0]) < 1e-12 for Y in results[1:])


@pytest.mark.parametrize("substep", ["exponential", "implicit", "rk4"])
def test_a_field_with_a_mass_matrix_pickles_after_use(krylov, substep):
    krylov()
    A, Y0 = laplacian() / 1e4, LowRank(smooth(), None, smooth(phase=0.4))
    F, method = SemiLinear(A, A, E=mass()), AugmentedBUG(substep=substep)
    expected = dlra.step(F, 0.0, 0.1, Y0, method)
    again = pickle.loads(pickle.dumps(F))
    assert relative_error(dlra.step(again, 0.0, 0.1, Y0, method), expected) < 1e-12


@pytest.mark.parametrize(
    ("substep", "h", "amplitude", "accuracy"),
    [("exponential", 1e-4, 1e-9, 1e-10), ("implicit", 0.01, 1e-6, 1e-9), ("exponential", 100.0, 1e-3, 2e-6)],
)
def test_polynomial_subspaces_do_not_stop_at_a_wrong_result(krylov, substep, h, amplitude, accuracy):
    """From an eigenvector and a small source, that they see late: right, or a failure that names the remedy."""
    krylov()
    A, x = laplacian(2000), np.linspace(0, 1, 2002)[1:-1, None]
    u, C = np.sin(np.pi * x), np.exp(-400 * (x - 0.3) ** 2)
    u, C = u / np.linalg.norm(u), C / np.linalg.norm(C)
    Y0, source, method = LowRank(u, None, u), LowRank(amplitude * C, None, u), AugmentedBUG(substep=substep)
    expected = dlra.step(SemiLinear(A, None, source), 0.0, h, Y0, method)
    text, error = "", 0.0
    try:
        found = dlra.step(SemiLinear(aslinearoperator(A), None, source), 0.0, h, Y0, method)
    except SolveError as failure:
        text = str(failure)
    else:
        error = (found - expected).norm()
    assert error < accuracy
    assert not text or ("Krylov" in text and "dlra.Action" in text)
    assert "declare" not in text, "it is declared"
    assert bool(text) == (amplitude > 1e-9)
