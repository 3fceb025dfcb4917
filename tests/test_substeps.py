"""Substeps: orders, tolerances, exactness of the exponential one, increments, objects of one's own."""

from __future__ import annotations

import math
import types
from dataclasses import FrozenInstanceError, dataclass, replace

import numpy as np
import pytest
from helpers import dense, normal, random_lowrank, random_orthonormal, relative_error
from manufactured import bits, slopes
from numpy.linalg import norm
from scipy import sparse
from scipy.linalg import expm
from scipy.sparse.linalg import aslinearoperator

import dlra
from dlra import AugmentedBUG, Galerkin, LowRank, SemiLinear, SolveError, factored
from dlra.field import Field
from dlra.integrators import drive, k_equation, s_equation
from dlra.substeps import Adaptive, Exponential, RungeKutta, Tableau, resolve

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

NAMES = ["auto", "euler", "heun", "rk4", "adaptive", "exponential", "exponential-euler"]
HEUN3 = Tableau(((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), 3)


def core_problem(dtype="float64", r=4):
    """The nonlinear equation S' = B S + S∘S/3 + cos(2t) Q in fixed bases, and a fine solution at t = 1."""
    rng = np.random.default_rng(1)
    U, V = random_orthonormal(rng, 7, r, dtype), random_orthonormal(rng, 6, r, dtype)
    B, Q, S0 = normal(rng, (r, r), dtype) / 2, normal(rng, (r, r), dtype) / 2, normal(rng, (r, r), dtype) / 2

    def f(t, S):
        return B @ S + S * S / 3 + math.cos(2 * t) * Q

    F = factored(lambda t, Y: LowRank(U, f(t, U.conj().T @ Y.U @ Y.S @ Y.V.conj().T @ V), V))
    S, h = S0, 1 / 1000
    for i in range(1000):
        t = i * h
        k1 = f(t, S)
        k2 = f(t + h / 2, S + h / 2 * k1)
        k3 = f(t + h / 2, S + h / 2 * k2)
        S = S + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(t + h, S + h * k3))
    return F, LowRank(U, S0, V), U @ S @ V.conj().T


# ---- order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    ("substep", "order"),
    [
        ("euler", 1),
        ("heun", 2),
        (RungeKutta(HEUN3), 3),
        ("rk4", 4),
        ("auto", 4),
        ("exponential", 2),
        ("exponential-euler", 1),
    ],
    ids=str,
)
def test_order_of_a_substep(substep, order, dtype):
    """Galerkin is the substep applied to the core. Without a linear part the exponential ones are Heun and Euler."""
    F, Y0, exact = core_problem(dtype)
    steps = (10, 20, 40)
    errors = [
        relative_error(
            dlra.solve(F, (0, 1), Y0, Galerkin(substep=substep), dt=1 / N, t_eval=[1]).y_final, exact
        )
        for N in steps
    ]
    assert np.all(abs(slopes(steps, errors) - order) < 0.25), errors


def test_a_named_substep_is_one_step_of_its_scheme():
    F, Y0, _ = core_problem()
    for substep, count in (
        ("euler", 1),
        ("heun", 2),
        ("rk4", 4),
        ("exponential", 2),
        ("exponential-euler", 1),
    ):
        assert dlra.solve(F, (0, 1), Y0, Galerkin(substep=substep), dt=1.0).nfev == count


@pytest.mark.parametrize(
    ("substep", "degree"), [("euler", 0), ("heun", 1), (RungeKutta(HEUN3), 2), ("rk4", 3)], ids=str
)
def test_nodes_are_those_of_the_quadrature(substep, degree, rng):
    """S' = tᵈ is integrated exactly up to the degree of the rule, and not beyond: wrong nodes c_i show here."""
    Y0 = random_lowrank(rng, 5, 4, 2)
    C = normal(rng, (2, 2))

    def error(d):
        F = factored(lambda t, Y: LowRank(Y0.U, C * t**d, Y0.V))
        Y1 = dlra.step(F, 1.0, 2.0, Y0, Galerkin(substep=substep))
        exact = dense(Y0) + (3 ** (d + 1) - 1) / (d + 1) * Y0.U @ C @ Y0.V.T
        return relative_error(Y1, exact)

    assert all(error(d) < 1e-14 for d in range(degree + 1))
    assert error(degree + 1) > 1e-3


# ---- adaptive ------------------------------------------------------------------------------------------------


def test_the_adaptive_substep_obeys_its_tolerance():
    F, Y0, exact = core_problem()
    found = []
    for rtol in (1e-3, 1e-6, 1e-9):
        solution = dlra.solve(F, (0, 1), Y0, Galerkin(substep=Adaptive(rtol=rtol)), dt=1.0)
        error = relative_error(solution.y_final, exact)
        assert error < 10 * rtol
        found.append((error, solution.nfev))
    assert found[0][0] > 10 * found[1][0] > 100 * found[2][0]
    assert found[0][1] < found[1][1] < found[2][1]
    by_default = dlra.solve(F, (0, 1), Y0, Galerkin(substep="adaptive"), dt=1.0)
    assert relative_error(by_default.y_final, exact) < 1e-9


def test_the_adaptive_substep_finds_its_own_steps():
    """One outer step over a transient: S' = a(t) S with a = 1 but for a peak of 500."""
    Y0, calls = LowRank(np.eye(3, 1), np.ones((1, 1)), np.eye(2, 1)), []

    def F(t, Y):
        calls.append(t)
        return Y * (1 + 500 * math.exp(-4000 * (t - 1) ** 2))

    Y1 = dlra.step(factored(F), 0.0, 2.0, Y0, Galerkin(substep=Adaptive(rtol=1e-8)))
    exact = 2 + 500 * math.sqrt(math.pi / 4000)
    assert math.log(Y1.S[0, 0]) == pytest.approx(exact, rel=1e-7)
    assert 4 * sum(abs(t - 1) < 0.1 for t in calls) > 3 * len(calls), "most of the work is at the peak"


def test_the_adaptive_substep_does_not_chase_errors_below_rounding():
    """Decay by e^-40 in one step: X₀ + dX resolves no more than 1e-16 of X₀, and the work must not explode."""
    Y0 = LowRank(np.eye(3, 1), np.ones((1, 1)), np.eye(2, 1))
    solution = dlra.solve(factored(lambda Y: -40 * Y), (0, 1), Y0, Galerkin(substep="adaptive"), dt=1.0)
    assert abs(solution.y_final.S[0, 0]) < 1e-14 and solution.nfev < 10_000


def test_the_adaptive_substep_goes_backward_and_starts_from_zero():
    F, Y0, _ = core_problem()
    there = dlra.step(F, 0.0, 1.0, Y0, Galerkin(substep="adaptive"))
    back = dlra.step(F, 1.0, -1.0, there, Galerkin(substep="adaptive"))
    assert relative_error(back, Y0) < 1e-8
    nothing = LowRank(Y0.U, 0 * Y0.S, Y0.V)
    source = factored(lambda t, Y: LowRank(Y0.U, math.exp(t) * Y0.S, Y0.V))
    grown = dlra.step(source, 0.0, 1.0, nothing, Galerkin(substep="adaptive"))
    assert relative_error(grown, (math.e - 1) * dense(Y0)) < 1e-9
    assert (
        dlra.step(factored(lambda t, Y: 0 * Y), 0.0, 1.0, nothing, Galerkin(substep="adaptive")).norm() == 0
    )


def test_an_absolute_tolerance_alone_suffices():
    F, Y0, exact = core_problem()
    tight, loose = (
        norm(dense(dlra.step(F, 0.0, 1.0, Y0, Galerkin(substep=Adaptive(rtol=0.0, atol=atol)))) - exact)
        for atol in (1e-10, 1e-3)
    )
    assert tight < 1e-9 and 1e-9 < loose < 1e-2


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_the_adaptive_substep_in_single_precision(dtype):
    F, Y0, exact = core_problem(dtype)
    solution = dlra.solve(F, (0, 1), Y0, Galerkin(substep="adaptive"), dt=1.0)
    assert relative_error(solution.y_final, exact) < 1e-4 and solution.nfev < 200


def test_a_singularity_stops_the_adaptive_substep():
    """S' = S² from S = 1 has a pole at t = 1."""
    Y0 = LowRank(np.eye(3, 1), np.ones((1, 1)), np.eye(2, 1))
    F = factored(lambda t, Y: LowRank(Y.U, Y.S * Y.S, Y.V))
    assert dlra.step(F, 0.0, 0.9, Y0, Galerkin(substep="adaptive")).S[0, 0] == pytest.approx(10, rel=1e-7)
    with (
        np.errstate(all="ignore"),
        pytest.raises(SolveError, match=r"stage S at t = (0.99|1).*SemiLinear") as caught,
    ):
        dlra.step(F, 0.0, 2.0, Y0, Galerkin(substep="adaptive"))
    assert "rank 1" in str(caught.value)


def test_a_system_advances_with_one_inner_step_and_one_error_norm():
    """The member that needs small steps rules: the quiet one is asked just as often."""
    Y0 = LowRank(np.eye(3, 1), np.ones((1, 1)), np.eye(2, 1))
    calls = []

    def F(t, Ys):
        calls.append(t)
        return [Ys[0] * (20 * math.cos(20 * t)), 0 * Ys[1]]

    loud, quiet = dlra.step(factored(F), 0.0, 1.0, [Y0, Y0], Galerkin(substep="adaptive"))
    assert loud.S[0, 0] == pytest.approx(math.exp(math.sin(20)), rel=1e-8)
    assert quiet.S[0, 0] == 1 and len(calls) > 200


# ---- exponential ---------------------------------------------------------------------------------------------


def symmetric(rng, n, dtype):
    M = normal(rng, (n, n), dtype)
    return -(M @ M.conj().T)


def skew(rng, n, dtype):
    M = normal(rng, (n, n), dtype)
    return 5 * (M - M.conj().T)


def general(rng, n, dtype):
    return 3 * normal(rng, (n, n), dtype)


def zero(rng, n, dtype):
    return np.zeros((n, n), dtype)


KINDS = [(symmetric, symmetric), (skew, symmetric), (general, general), (symmetric, general), (zero, skew)]
KINDS += [(general, None), (None, skew)]


def full_state(rng, m, n, dtype):
    """Of full rank, so that every method solves the equation itself."""
    return LowRank.from_dense(normal(rng, (m, n), dtype), rank=min(m, n))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    ("left", "right"),
    KINDS,
    ids=[f"{getattr(a, '__name__', '-')},{getattr(b, '__name__', '-')}" for a, b in KINDS],
)
@pytest.mark.parametrize("substep", ["auto", "exponential", "exponential-euler"])
def test_linear_equations_are_solved_exactly(left, right, substep, dtype):
    """Y' = A Y + Y B and with a constant source, whatever the step and its sign."""
    rng = np.random.default_rng(5)
    m, n = 6, 6
    A = None if left is None else left(rng, m, dtype)
    B = None if right is None else right(rng, n, dtype)
    C, Y0 = normal(rng, (m, n), dtype), full_state(rng, m, n, dtype)
    big = np.zeros((m * n, m * n), dtype)
    if A is not None:
        big = big + np.kron(A, np.eye(n))
    if B is not None:
        big = big + np.kron(np.eye(m), B.T)
    source = np.block([[big, C.reshape(-1, 1)], [np.zeros((1, m * n + 1))]])
    for h in (1e-3, 0.3, 1.5, -0.1):
        start = dense(Y0).ravel()
        homogeneous = (expm(h * big) @ start).reshape(m, n)
        with_source = (expm(h * source) @ np.append(start, 1))[:-1].reshape(m, n)
        method = Galerkin(substep=substep)
        assert relative_error(dlra.step(SemiLinear(A, B), 0.0, h, Y0, method), homogeneous) < 1e-11
        assert relative_error(dlra.step(SemiLinear(A, B, C), 0.0, h, Y0, method), with_source) < 1e-11


@pytest.mark.parametrize("method", [dlra.BUG(), AugmentedBUG(), Galerkin()], ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("left", "right"), KINDS[:5], ids=[f"{a.__name__},{b.__name__}" for a, b in KINDS[:5]]
)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_k_and_l_equations_treat_both_sides(method, left, right, dtype):
    """At full rank every method is exact, with a wrong side or conjugation in K or L none is."""
    rng = np.random.default_rng(6)
    A, B, Y0 = left(rng, 6, dtype), right(rng, 6, dtype), full_state(rng, 6, 6, dtype)
    expected = expm(0.2 * A) @ dense(Y0) @ expm(0.2 * B)
    assert relative_error(dlra.step(SemiLinear(A, B), 0.0, 0.2, Y0, method), expected) < 1e-11


@pytest.mark.filterwarnings("ignore:ProjectorSplitting")
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    "method", [dlra.BUG(), AugmentedBUG(), *(dlra.ProjectorSplitting(order=o) for o in (1, 2, 4))]
)
def test_low_rank_methods_with_exact_flows_agree_with_fine_explicit_ones(method, dtype):
    """At low rank: the stiff part in the coordinates of each equation, A and V₀ᴴBV₀, Bᴴ and U₀ᴴAᴴU₀, ÛᴴAÛ and V̂ᴴBV̂."""
    rng = np.random.default_rng(7)
    A, B, Y0 = general(rng, 7, dtype), general(rng, 6, dtype), random_lowrank(rng, 7, 6, 2, dtype)
    linear = SemiLinear(A, B, normal(rng, (7, 6), dtype))
    exact, fine = (dlra.step(linear, 0.0, 0.1, Y0, replace(method, substep=s)) for s in ("auto", "adaptive"))
    assert relative_error(exact, fine) < 1e-8


@pytest.mark.parametrize(("substep", "order"), [("exponential", 2), ("exponential-euler", 1)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_order_in_the_nonlinear_part(substep, order, dtype):
    """Of a stiff problem, whose linear part has the norm 400: h‖A‖ is large for all steps but G is what counts."""
    rng = np.random.default_rng(8)
    A = np.diag(-np.linspace(0, 400, 6)).astype(dtype)
    B, Q = skew(rng, 6, dtype), normal(rng, (6, 6), dtype)
    F = SemiLinear(A, B, lambda t, Y: 0.3 * Y * Y + math.cos(t) * Q)
    Y0 = full_state(rng, 6, 6, dtype)
    fine = dlra.step(F, 0.0, 1.0, Y0, Galerkin(substep="adaptive"))
    steps = (20, 40, 80)
    errors = [
        relative_error(
            dlra.solve(F, (0, 1), Y0, Galerkin(substep=substep), dt=1 / N, t_eval=[1]).y_final, fine
        )
        for N in steps
    ]
    assert np.all(slopes(steps, errors) > order - 0.25), errors
    assert errors[-1] < {1: 2e-2, 2: 1e-3}[order]


def test_auto_is_exponential_where_a_linear_part_is_declared():
    rng = np.random.default_rng(9)
    A, B = symmetric(rng, 6, "float64"), general(rng, 5, "float64")
    Y0 = random_lowrank(rng, 6, 5, 2)
    G = lambda Y: 0.1 * Y * Y  # noqa: E731
    declared, plain = SemiLinear(A, B, G), lambda t, Y: A @ Y + Y @ B + G(Y)
    for F, name in ((declared, "exponential"), (plain, "rk4")):
        auto, named = (dlra.step(F, 0.0, 0.01, Y0, AugmentedBUG(substep=s)) for s in ("auto", name))
        assert bits(auto) == bits(named)
    other = dlra.step(declared, 0.0, 0.01, Y0, AugmentedBUG(substep="rk4"))
    assert bits(other) != bits(dlra.step(declared, 0.0, 0.01, Y0, AugmentedBUG()))
    assert relative_error(other, dlra.step(plain, 0.0, 0.01, Y0, AugmentedBUG())) < 1e-13, (
        "explicit: the whole sum"
    )


def test_f_is_asked_only_for_what_is_not_linear():
    """With a constant G nothing but the start is evaluated; a callable G once more a stage."""
    rng = np.random.default_rng(10)
    A, C, Y0 = symmetric(rng, 6, "float64"), normal(rng, (6, 6)), random_lowrank(rng, 6, 6, 2)
    asked = []

    def G(t, Y):
        asked.append(t)
        return C

    def evaluations(G, substep="auto"):
        return dlra.solve(SemiLinear(A, A, G), (0, 1), Y0, AugmentedBUG(substep=substep), dt=1.0).nfev

    assert evaluations(None) == evaluations(C) == 1
    assert evaluations(G) == len(asked) == 4
    assert evaluations(G, "exponential-euler") == 1


@pytest.mark.parametrize(
    "form", [np.asarray, sparse.csr_array, sparse.csc_matrix], ids=["dense", "csr", "csc"]
)
def test_operators_may_be_sparse_and_have_a_mass_matrix(form):
    rng = np.random.default_rng(11)
    n = 8
    A = np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    E = np.eye(n) + 0.2 * np.diag(np.ones(n - 1), 1) + 0.2 * np.diag(np.ones(n - 1), -1)
    Y0 = full_state(rng, n, n, "float64")
    M = np.linalg.solve(E, A)
    for B, right in ((A.T, M.T), (None, np.zeros((n, n)))):
        F = SemiLinear(form(A), None if B is None else form(B), E=form(E))
        expected = expm(0.5 * M) @ dense(Y0) @ expm(0.5 * right)
        assert relative_error(dlra.step(F, 0.0, 0.5, Y0, AugmentedBUG()), expected) < 1e-12


def test_a_linear_operator_serves_every_substep():
    rng = np.random.default_rng(12)
    A, Y0 = symmetric(rng, 6, "float64") / 10, random_lowrank(rng, 6, 5, 2)
    F = SemiLinear(aslinearoperator(A), None)
    for substep, tolerance in (("rk4", 1e-14), ("exponential", 1e-9)):
        method = AugmentedBUG(substep=substep)
        got, expected = (dlra.step(f, 0.0, 0.1, Y0, method) for f in (F, SemiLinear(A, None)))
        assert relative_error(got, expected) < tolerance


def test_a_linear_part_can_belong_to_one_member_of_a_system():
    """Where a field declares one for a member and none for the others, a dense one among them."""
    rng = np.random.default_rng(13)
    A = symmetric(rng, 6, "float64") * 20
    stiff, other, bias = random_lowrank(rng, 6, 5, 2), random_lowrank(rng, 4, 3, 2), normal(rng, (3,))
    Ys = (stiff, other, bias)
    single = Field(SemiLinear(A, None, lambda t, Y: 0 * Y + t), (stiff,))
    plain = Field(lambda t, Ys: [-Y for Y in Ys], (other, bias), (), True)
    field = types.SimpleNamespace(linear=(single.linear[0], None, None), constant_rest=False)

    def evaluate(ask):
        return (*single(ask.t, ask.Ys[:1]), *plain(ask.t, ask.Ys[1:]))

    found = drive(AugmentedBUG().step(0.0, 0.1, Ys, field), evaluate).Ys
    alone = dlra.step(SemiLinear(A, None, lambda t, Y: 0 * Y + t), 0.0, 0.1, stiff, AugmentedBUG())
    rest = dlra.step(lambda t, Ys: [-Y for Y in Ys], 0.0, 0.1, [other, bias], AugmentedBUG(substep="heun"))
    assert relative_error(found[0], alone) < 1e-14
    assert all(relative_error(a, b) < 1e-14 for a, b in zip(found[1:], rest, strict=True))


def test_the_exponential_substep_stays_real_and_single():
    """A skew-symmetric operator has complex eigenvectors; float64 operators meet a float32 state."""
    rng = np.random.default_rng(14)
    A, Y0 = skew(rng, 6, "float32"), full_state(rng, 6, 6, "float32")
    Y1 = dlra.step(SemiLinear(A, None), 0.0, 0.1, Y0, AugmentedBUG())
    assert Y1.dtype == np.float32
    assert relative_error(Y1, expm(0.1 * A.astype(float)) @ dense(Y0)) < 1e-5
    with pytest.warns(dlra.DlraWarning, match="cast"):
        Y1 = dlra.step(SemiLinear(A.astype(float), None), 0.0, 0.1, Y0, AugmentedBUG())
    assert Y1.dtype == np.float32


# ---- increments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("substep", NAMES)
@pytest.mark.parametrize("declared", [False, True])
def test_increments_are_sums_of_slopes_and_not_differences(substep, declared):
    """X₀ of size 1e8, slopes of size 1, h = 1e-9: X₁ - X₀ would be lost altogether."""
    rng = np.random.default_rng(15)
    Y0 = 1e8 * random_lowrank(rng, 9, 7, 2)
    Y0 = LowRank(Y0.U, Y0.S, Y0.V)
    C = normal(rng, (9, 7))
    F = SemiLinear(np.zeros((9, 9)), None, lambda t, Y: C) if declared else lambda t, Y: C
    field = Field(F, (Y0,))
    start = field(0.0, (Y0,))
    equation = k_equation((Y0,), field, start)
    increments = drive(resolve(substep)(0.0, 1e-9, equation), lambda ask: field(ask.t, ask.Ys))
    assert relative_error(increments[0], 1e-9 * C @ Y0.V) < 1e-13


def test_a_known_first_slope_is_not_asked_for_again(rng):
    Y0 = random_lowrank(rng, 6, 5, 2)
    field = Field(lambda t, Y: -Y, (Y0,))
    counts = {}
    for substep in NAMES[1:]:
        for start in (None, field(0.0, (Y0,))):
            asked = []
            equation = s_equation((Y0,), field, start)
            drive(
                resolve(substep)(0.0, 0.1, equation),
                lambda ask, asked=asked: asked.append(ask.t) or field(ask.t, ask.Ys),
            )
            counts[substep, start is None] = len(asked)
            assert (0.0 in asked) == (start is None)
        assert counts[substep, True] == counts[substep, False] + 1


# ---- objects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Midpoint:
    """A substep of one's own, through the public parts of an equation."""

    def __call__(self, t, h, equation):
        slope = equation.first(t)
        if slope is None:
            (values,) = yield [equation.ask(t, equation.X)]
            slope = equation.slopes(t, values)
        middle = [X + h / 2 * k for X, k in zip(equation.X, slope, strict=True)]
        (values,) = yield [equation.ask(t + h / 2, middle)]
        return [h * k for k in equation.slopes(t + h / 2, values)]


def test_a_substep_of_ones_own():
    F, Y0, exact = core_problem()
    steps = (10, 20, 40)
    errors = [
        relative_error(
            dlra.solve(F, (0, 1), Y0, Galerkin(substep=Midpoint()), dt=1 / N, t_eval=[1]).y_final, exact
        )
        for N in steps
    ]
    assert np.all(abs(slopes(steps, errors) - 2) < 0.2), errors
    tableau = RungeKutta(Tableau(((), (0.5,)), (0.0, 1.0), 2))
    for method in (AugmentedBUG(), dlra.BUG(), dlra.ProjectorSplitting()):
        one, other = (dlra.step(F, 0.0, 0.1, Y0, replace(method, substep=s)) for s in (Midpoint(), tableau))
        assert relative_error(one, other) < 1e-14
    assert dlra.solve(F, (0, 1), Y0, AugmentedBUG(substep=Midpoint()), dt=1.0).nfev == 4
    assert repr(AugmentedBUG(substep=Midpoint())) == "AugmentedBUG(substep=Midpoint())"


def test_nodes_of_a_tableau_are_row_sums_with_the_first_column():
    assert HEUN3.c == pytest.approx((0, 1 / 3, 2 / 3))
    assert Tableau(((), (0.5,)), (0.0, 1.0), 2).c == (0, 0.5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tableau(((), (0.5, 0.5)), (0.5, 0.5), 2), "rows a"),
        (lambda: Tableau(((),), (0.5, 0.5), 2), "one weight"),
        (lambda: Tableau(((), (1.0,)), (0.5, 0.4), 2), "sum to 1, got 0.9"),
        (lambda: Adaptive(rtol=-1e-3), r"rtol.*\[0, 1\), got -0.001"),
        (lambda: Adaptive(rtol=math.nan), "rtol"),
        (lambda: Adaptive(atol=math.inf), "atol"),
        (lambda: Exponential(order=3), "1 or 2, got 3"),
    ],
)
def test_options_of_substeps(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_names_of_substeps():
    assert [type(resolve(name)).__name__ for name in NAMES] == (
        ["Auto", "RungeKutta", "RungeKutta", "RungeKutta", "Adaptive", "Exponential", "Exponential"]
    )
    assert resolve(Adaptive(rtol=1e-3)) == Adaptive(rtol=1e-3)
    with pytest.raises(FrozenInstanceError):
        Adaptive().rtol = 1.0
    with pytest.raises(TypeError, match="substep must be one of"):
        resolve(Adaptive)


def test_nothing_low_rank_needs_no_k_and_l_step():
    """A system of plain arrays: with any substep only the S-equation asks, after the one start."""
    for substep in NAMES:
        calls = []
        F = lambda t, Ys, calls=calls: (calls.append(t), [-Ys[0]])[1]  # noqa: E731
        dlra.step(F, 0.0, 0.1, [np.ones((3, 2))], AugmentedBUG(substep=substep))
        dlra.step(F, 0.0, 0.1, [np.ones((3, 2))], Galerkin(substep=substep))
        half = len(calls) // 2
        assert calls[:half] == calls[half:], substep
