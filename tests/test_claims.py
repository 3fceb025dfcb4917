"""What the papers claim of each integrator: exactness, Euler identities, orders, robustness, conservation, ranks."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from helpers import dense, is_complex, normal, random_lowrank, random_orthonormal, relative_error
from manufactured import Heat, Moving, Rotating, projected_flow, slopes
from numpy.linalg import norm

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    DlraWarning,
    Galerkin,
    LowRank,
    MidpointBUG,
    ParallelBUG,
    ProjectedRungeKutta,
    ProjectorSplitting,
    RungeKuttaBUG,
    SecondOrderParallelBUG,
    SolveError,
    factored,
    problems,
)
from dlra.integrators import drive

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

LIE, STRANG, JUMP = (ProjectorSplitting(order=order) for order in (1, 2, 4))
MOVING_BASES = [BUG(), AugmentedBUG(), LIE, STRANG, JUMP]
PARALLEL = ParallelBUG()
SECOND_ORDER = [
    MidpointBUG(),
    MidpointBUG(bases="4r"),
    SecondOrderParallelBUG(bases="3r"),
    SecondOrderParallelBUG(),
]
ROBUST = [BUG(), AugmentedBUG(), LIE, STRANG, PARALLEL, *SECOND_ORDER]
SHAPES = [(14, 9), (9, 14), (12, 12)]
REAL_AND_COMPLEX = pytest.mark.parametrize("dtype", ["float64", "complex128"])


def methods(*which):
    return pytest.mark.parametrize(
        "method",
        which,
        ids=[f"{m.name}-{getattr(m, 'bases', '') or getattr(m, 'order', '')}".strip("-") for m in which],
    )


def final(F, span, Y0, method, dt) -> np.ndarray:
    return dense(dlra.solve(F, span, Y0, method, dt=dt, t_eval=[span[1]]).y_final)


# ---- exactness -----------------------------------------------------------------------------------------------


@REAL_AND_COMPLEX
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@methods(*MOVING_BASES)
def test_a_moving_matrix_of_rank_r_is_followed_exactly_whatever_the_step(method, shape, dtype):
    A = Moving(*shape, 3, dtype)
    assert norm(np.tril(A.state(0.2).S, -1)) > 0.1, "a diagonal core would hide a wrong M"
    for F in (factored(lambda t, Y: A.rate(t)), lambda t, Y: A.rate(t).to_dense()):
        for h in (1e-3, 0.5, 3.0, -1.0):
            Y1 = dlra.step(F, 0.2, h, A.state(0.2), method)
            assert relative_error(Y1, A(0.2 + h)) < 2e-14


@methods(*MOVING_BASES)
def test_exactness_survives_many_steps(method):
    A = Moving(14, 9, 3, "complex128")
    assert (
        relative_error(final(lambda t, Y: dense(A.rate(t)), (0, 2), A.state(0), method, 0.05), A(2.0)) < 1e-12
    )


def test_exactness_needs_exact_increments():
    """A' of degree 6 in t: Simpson's rule (rk4) leaves its own error, the adaptive substep its tolerance."""
    A = Moving(10, 8, 2)
    F = factored(lambda t, Y: A.rate(t**3) * (3 * t**2))
    errors = {
        s: relative_error(dlra.step(F, 0.0, 1.0, A.state(0.0), BUG(substep=s)), A(1.0))
        for s in ("rk4", "adaptive")
    }
    assert errors["rk4"] > 1e-3 and errors["adaptive"] < 1e-8


@REAL_AND_COMPLEX
@methods(PARALLEL, *SECOND_ORDER)
def test_the_zero_block_and_the_midpoint_rule_are_not_exact(method, dtype):
    """The step of the exact ones is exact up to the quadrature of A', which the adaptive substep makes exact."""
    A = Rotating(14, 9, [1.0, 0.5, 0.25], dtype)

    def rate(t, Y):
        return A._W[0] @ A(t) + 0.5 * A(t) - A(t) @ A._W[1]

    def error(method, h):
        method = replace(method, substep="adaptive")
        return relative_error(dlra.step(rate, 0.2, h, A.state(0.2), method), A(0.2 + h))

    assert all(error(exact, 0.5) < 1e-9 for exact in (BUG(), AugmentedBUG(), LIE))
    least = {"parallel-bug": 1e-2, "midpoint-bug": 1e-5, "second-order-parallel-bug": 1e-6}[method.name]
    assert least < error(method, 0.5) < 0.05
    if getattr(method, "bases", "") != "4r" or method.name != "midpoint-bug":  # it loses columns as h falls
        local = math.log2(error(method, 0.2) / error(method, 0.1))
        assert local > method.order + 0.7, "but of its order plus one locally"


@REAL_AND_COMPLEX
def test_galerkin_is_exact_in_fixed_bases_only(dtype):
    A, rng = Moving(12, 9, 3, dtype), np.random.default_rng(3)
    Y0, core = random_lowrank(rng, 12, 9, 3, dtype), normal(rng, (3, 3), dtype)
    rate = factored(lambda t, Y: LowRank(Y0.U, core * 3 * t**2, Y0.V))
    expected = dense(Y0) + Y0.U @ (core * 0.7**3) @ Y0.V.conj().T
    assert relative_error(dlra.step(rate, 0.0, 0.7, Y0, Galerkin()), expected) < 1e-14
    moved = dlra.step(factored(lambda t, Y: A.rate(t)), 0.0, 0.7, A.state(0.0), Galerkin())
    assert relative_error(moved, A(0.7)) > 0.1


@methods(LIE, STRANG, JUMP)
def test_splitting_is_exact_on_sylvester_linear_fields_up_to_its_substep(method):
    rng = np.random.default_rng(4)
    A, B = normal(rng, (9, 9)) / 5, normal(rng, (7, 7)) / 5
    Y0 = random_lowrank(rng, 9, 7, 3)
    scipy_linalg = pytest.importorskip("scipy.linalg")
    expected = scipy_linalg.expm(0.5 * A) @ dense(Y0) @ scipy_linalg.expm(0.5 * B)
    F = factored(lambda Y: A @ Y + Y @ B)
    assert relative_error(dlra.step(F, 0.0, 0.5, Y0, replace(method, substep="adaptive")), expected) < 1e-9
    assert relative_error(dlra.step(F, 0.0, 0.5, Y0, replace(method, substep="euler")), expected) > 1e-3


# ---- Euler identities ----------------------------------------------------------------------------------------


def orthonormal_basis(*columns) -> np.ndarray:
    return np.linalg.qr(np.concatenate(columns, axis=1))[0]


@REAL_AND_COMPLEX
@pytest.mark.parametrize(("m", "n", "r"), [(14, 9, 3), (9, 14, 3), (12, 12, 4), (9, 7, 5)], ids=str)
@pytest.mark.parametrize("h", [1e-6, 0.1, 10.0])
def test_augmented_euler_step_is_a_projected_euler_step(m, n, r, dtype, h):
    """Y₁* = Y₀ + h P_Û F(Y₀) P_V̂ before truncation, from a single evaluation of F; also where 2r > min(m, n)."""
    rng = np.random.default_rng(10)
    B, C, Q = (normal(rng, shape, dtype) for shape in ((m, m), (n, n), (m, n)))
    calls = []

    def F(t, Y):
        calls.append(t)
        return np.cos(t) * B @ Y @ C + Q

    Y0 = random_lowrank(rng, m, n, r, dtype)
    G = F(0.3, dense(Y0))
    calls.clear()
    Y1 = dlra.step(F, 0.3, h, Y0, AugmentedBUG(substep="euler", max_rank=2 * r))
    assert calls == [0.3]
    U, V = orthonormal_basis(Y0.U, G @ Y0.V), orthonormal_basis(Y0.V, G.conj().T @ Y0.U)
    expected = dense(Y0) + h * (U @ (U.conj().T @ G @ V) @ V.conj().T)
    assert relative_error(Y1, expected) < 1e-13
    assert Y1.rank == min(2 * r, m, n)


@REAL_AND_COMPLEX
@pytest.mark.parametrize(("m", "n", "r"), [(14, 9, 3), (9, 14, 3), (12, 12, 4), (9, 7, 5)], ids=str)
@pytest.mark.parametrize("h", [1e-6, 0.1, 10.0])
def test_parallel_euler_step_is_a_step_along_the_tangent(m, n, r, dtype, h):
    """Y₁* = Y₀ + h P(Y₀) F(Y₀) before truncation, from one evaluation; truncated, the one-stage projected method."""
    rng = np.random.default_rng(14)
    Q, Y0 = normal(rng, (m, n), dtype), random_lowrank(rng, m, n, r, dtype)
    calls = []

    def F(t, Y):
        calls.append(t)
        return np.cos(t) * Q + Y

    G = F(0.3, dense(Y0))
    calls.clear()
    Y1 = dlra.step(F, 0.3, h, Y0, ParallelBUG(substep="euler", max_rank=2 * r))
    assert calls == [0.3]
    left, right = Y0.U @ (Y0.U.conj().T @ G), (G @ Y0.V) @ Y0.V.conj().T
    expected = dense(Y0) + h * (left + right - Y0.U @ (Y0.U.conj().T @ right))
    assert relative_error(Y1, expected) < 1e-13
    assert Y1.rank == min(2 * r, m, n)
    truncated = dlra.step(F, 0.3, h, Y0, ParallelBUG(substep="euler"))
    projected = dlra.step(F, 0.3, h, Y0, ProjectedRungeKutta("euler"))
    assert truncated.rank == r and relative_error(truncated, projected) < 1e-13
    assert relative_error(truncated, expected) > 1e-2 * min(h, 1.0) ** 2


@REAL_AND_COMPLEX
def test_augmented_euler_is_one_stage_runge_kutta_bug_and_parallel_is_not(dtype):
    rng = np.random.default_rng(15)
    Q, Y0 = normal(rng, (12, 9), dtype), random_lowrank(rng, 12, 9, 3, dtype)
    augmented, parallel, one_stage = (
        dlra.step(lambda Y: Q + Y, 0.0, 0.1, Y0, method)
        for method in (AugmentedBUG(substep="euler"), ParallelBUG(substep="euler"), RungeKuttaBUG("euler"))
    )
    assert relative_error(augmented, one_stage) < 1e-13 < 1e-3 < relative_error(parallel, one_stage)


@REAL_AND_COMPLEX
def test_bug_euler_step_projects_onto_the_new_bases(dtype):
    """Y₁ = P_U₁ (Ỹ + h F(Ỹ)) P_V₁ with Ỹ = P_U₁ Y₀ P_V₁ and U₁, V₁ spanning K₀ + hG V₀ and L₀ + hGᴴU₀."""
    rng = np.random.default_rng(11)
    B, Q = normal(rng, (9, 9), dtype), normal(rng, (9, 12), dtype)
    h, Y0 = 0.1, random_lowrank(rng, 9, 12, 3, dtype)
    A0 = dense(Y0)
    G = B @ A0 + Q
    U, V = orthonormal_basis((A0 + h * G) @ Y0.V), orthonormal_basis((A0 + h * G).conj().T @ Y0.U)
    P, R = U @ U.conj().T, V @ V.conj().T
    projected = P @ A0 @ R
    expected = projected + h * P @ (B @ projected + Q) @ R
    Y1 = dlra.step(lambda Y: B @ Y + Q, 0.0, h, Y0, BUG(substep="euler"))
    assert relative_error(Y1, expected) < 1e-13


def test_truncation_drops_what_it_reports_and_as_much_as_it_may():
    """‖Y* - Y₁‖ is the norm of the dropped singular values, at most theta; with the next one it would exceed it."""
    rng = np.random.default_rng(12)
    Q, Y0 = normal(rng, (12, 9)), random_lowrank(rng, 12, 9, 3)
    full = dlra.step(lambda Y: Q, 0.0, 0.1, Y0, AugmentedBUG(substep="euler", max_rank=6))
    sigma = np.linalg.svd(dense(full), compute_uv=False)[:6]
    ranks = set()
    for theta in [
        *(0.999 * np.sqrt(np.cumsum(sigma[::-1] ** 2))),
        *(1.001 * np.sqrt(np.cumsum(sigma[::-1] ** 2))[:-1]),
    ]:
        solution = dlra.solve(lambda Y: Q, (0, 0.1), Y0, AugmentedBUG(substep="euler", atol=theta), dt=0.1)
        rank, dropped = solution.y_final.rank, norm(dense(solution.y_final) - dense(full))
        assert dropped == pytest.approx(float(norm(sigma[rank:])), rel=1e-10, abs=1e-14)
        assert solution.errors.truncation[-1] == pytest.approx(dropped, rel=1e-9, abs=1e-13)
        assert dropped <= theta and norm(sigma[rank - 1 :]) > theta
        ranks.add(rank)
    assert ranks == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_bases_hold_the_slopes_for_any_step(dtype):
    """The reason why bases are made from increments: from [K₁ | U₀] they lose up to all of the tangent part."""
    rng = np.random.default_rng(13)
    Y0 = random_lowrank(rng, 40, 30, 4, dtype)
    G = normal(rng, (40, 30), dtype)
    for h in (1.0, 1e-2, 1e-4, 1e-6, 1e-8):
        Y1 = dlra.step(lambda Y, G=G: G, 0.0, h, Y0, AugmentedBUG(substep="euler", max_rank=8))
        U, V = (np.asarray(Q, dtype="complex128") for Q in (Y1.U, Y1.V))
        for Q, slope in ((U, G @ Y0.V), (V, G.conj().T @ Y0.U)):
            slope = slope.astype("complex128")
            assert norm(slope - Q @ (Q.conj().T @ slope)) < 3e-6 * norm(slope)


# ---- order ---------------------------------------------------------------------------------------------------

ORDERS = [
    (BUG(), 1, (8, 16, 32, 64)),
    (AugmentedBUG(), 1, (8, 16, 32, 64)),
    (LIE, 1, (8, 16, 32, 64)),
    (STRANG, 2, (8, 16, 32)),
    (JUMP, 4, (4, 8, 16)),
]
ORDER_NAMES = ["bug", "augmented", "lie", "strang", "triple-jump"]
by_order = pytest.mark.parametrize(("method", "order", "steps"), ORDERS, ids=ORDER_NAMES)
DROPPING = [(PARALLEL, 1, (8, 16, 32, 64)), *((method, 2, (8, 16, 32)) for method in SECOND_ORDER)]
DROPPING_NAMES = ["parallel", "midpoint-3r", "midpoint-4r", "second-3r", "second-4r"]
by_order_and_more = pytest.mark.parametrize(
    ("method", "order", "steps"), ORDERS + DROPPING, ids=ORDER_NAMES + DROPPING_NAMES
)


@REAL_AND_COMPLEX
@by_order_and_more
def test_order_against_a_solution_of_rank_r(method, order, steps, dtype):
    A = Rotating(10, 8, [1.0, 0.5, 0.25], dtype)
    errors = [relative_error(final(A.F, (0, 1), A.state(), method, 1 / N), A(1.0)) for N in steps]
    assert np.all(slopes(steps, errors) > order - 0.2), errors
    assert errors[-1] < {1: 5e-3, 2: 1e-3, 4: 1e-5}[order]


def leaving_the_manifold():
    """A field with a normal component of order one, an initial value of rank 2, and the projected flow at t = 1/2."""
    rng = np.random.default_rng(20)
    B, Q = normal(rng, (8, 8)) / 3, normal(rng, (8, 7))
    Y0 = random_lowrank(rng, 8, 7, 2)
    Y0 = LowRank(Y0.U, Y0.S + np.eye(2), Y0.V)

    def F(t, Y):
        return B @ Y + 0.3 * Y * Y + np.cos(t) * Q

    G = F(0.0, dense(Y0))
    normal_part = G - Y0.U @ Y0.U.T @ G
    assert norm(normal_part - normal_part @ Y0.V @ Y0.V.T) > 1, "the normal component must matter"
    return F, Y0, projected_flow(F, dense(Y0), 2, 0.0, 0.5, 400)


@by_order
def test_order_against_the_projected_flow_when_the_field_leaves_the_manifold(method, order, steps):
    """With a normal component of order one the methods follow Y' = P(Y) F; the BUG family at order one."""
    F, Y0, flow = leaving_the_manifold()
    errors = [relative_error(final(F, (0, 0.5), Y0, method, 0.5 / N), flow) for N in steps]
    assert np.all(slopes(steps, errors) > order - 0.25), errors
    assert errors[-1] < {1: 5e-2, 2: 2e-3, 4: 2e-5}[order]


@methods(PARALLEL, *SECOND_ORDER)
def test_order_drops_to_one_where_the_normal_component_is_of_order_one(method):
    """Theory, and no fault: their error is bounded by ε h + h² only."""
    F, Y0, flow = leaving_the_manifold()
    steps = (16, 32, 64)
    errors = [relative_error(final(F, (0, 0.5), Y0, method, 0.5 / N), flow) for N in steps]
    assert np.all(abs(slopes(steps, errors) - 1) < 0.1), errors
    assert 1e-4 < errors[-1] < 2e-2


@methods(*SECOND_ORDER)
def test_the_term_of_first_order_is_proportional_to_the_normal_component(method):
    """Where the field is tangent but for a part ε, halving ε halves what is left at small h."""

    def error(tail):
        A = Rotating(12, 10, [1.0, 0.5, tail])
        Y0 = A.state().truncate(max_rank=2)
        flow = projected_flow(A.F, dense(Y0), 2, 0.0, 1.0, 200)
        return norm(final(A.F, (0, 1), Y0, method, 1 / 80) - flow)

    assert error(1e-1) > 5 * error(1e-2)


# ---- robustness ----------------------------------------------------------------------------------------------


def factor_ode(F, Y0: LowRank, t0: float, t1: float, steps: int) -> np.ndarray:
    """The textbook alternative, without dlra: RK4 on the equations of U, S, V, which need S⁻¹."""

    def rate(t, U, S, V):
        G = F(t, U @ S @ V.T)
        inverse = np.linalg.inv(S)
        left, right = G @ V, G.T @ U
        return (left - U @ (U.T @ left)) @ inverse, U.T @ left, (right - V @ (V.T @ right)) @ inverse.T

    X, h = (Y0.U, Y0.S, Y0.V), (t1 - t0) / steps
    for i in range(steps):
        t = t0 + i * h
        k1 = rate(t, *X)
        k2 = rate(t + h / 2, *(x + h / 2 * k for x, k in zip(X, k1, strict=True)))
        k3 = rate(t + h / 2, *(x + h / 2 * k for x, k in zip(X, k2, strict=True)))
        k4 = rate(t + h, *(x + h * k for x, k in zip(X, k3, strict=True)))
        X = tuple(
            x + h / 6 * (a + 2 * b + 2 * c + d) for x, a, b, c, d in zip(X, k1, k2, k3, k4, strict=True)
        )
    U, S, V = X
    return U @ S @ V.T


SMALLEST = (1e-1, 1e-4, 1e-8, 1e-12)


@methods(*ROBUST)
def test_errors_do_not_grow_as_singular_values_vanish(method):
    errors = []
    for sigma in SMALLEST:
        A = Rotating(12, 10, [1.0, 0.5, sigma])
        errors.append(norm(final(A.F, (0, 1), A.state(), method, 1 / 20) - A(1.0)))
    assert errors[0] < 2e-2
    assert max(errors) < 1.5 * errors[0], errors


def test_a_method_with_an_inverse_core_does_lose_accuracy():
    """The control of the test above: it would notice."""
    errors = []
    with np.errstate(all="ignore"):
        for sigma in SMALLEST:
            A = Rotating(12, 10, [1.0, 0.5, sigma])
            try:
                error = norm(factor_ode(A.F, A.state(), 0, 1, 20) - A(1.0))
            except np.linalg.LinAlgError:  # S has become singular
                error = math.inf
            errors.append(error if math.isfinite(error) else math.inf)
    assert errors[0] < 1e-4
    assert errors[-1] > 100 * errors[0], errors


@methods(*ROBUST)
def test_errors_do_not_grow_with_too_high_a_rank(method):
    """Rank 6 for a solution of rank 3: three singular values are zero at the start, and small ever after."""
    A = Rotating(12, 10, [1.0, 0.5, 0.25])
    exact, over = (
        norm(final(A.F, (0, 1), A.state(extra=extra), method, 1 / 20) - A(1.0)) for extra in (0, 3)
    )
    assert over < 1.5 * exact


def test_the_zero_block_of_parallel_bug_wins_where_the_start_nearly_has_lower_rank():
    """Growing from tiny singular values needs Ũᴴ F Ṽ, which the fixed-rank parallel method never sees in a step."""
    rng = np.random.default_rng(21)
    U, V = random_orthonormal(rng, 12, 3), random_orthonormal(rng, 10, 3)
    target = U @ np.diag([1.0, 0.8, 0.6]) @ V.T
    Y0 = LowRank(U, np.diag([1.0, 1e-8, 1e-9]), V)
    turned = LowRank(random_orthonormal(rng, 12, 3), Y0.S, random_orthonormal(rng, 10, 3))
    F = lambda t, Y: 2 * (target - Y)  # noqa: E731
    exact = target + math.exp(-2.0) * (dense(turned) - target)
    parallel, augmented = (
        norm(final(F, (0, 1), turned, method, 0.1) - exact) for method in (PARALLEL, AugmentedBUG())
    )
    assert parallel > 1.5 * augmented


def test_the_triple_jump_keeps_the_accuracy_of_strang_where_it_loses_its_order():
    """Order four is a classical order: with tiny singular values it is not seen, yet nothing breaks."""
    for sigma in (1e-1, 1e-8):
        A = Rotating(12, 10, [1.0, 0.5, sigma])
        jump, strang = (
            norm(final(A.F, (0, 1), A.state(), method, 1 / 20) - A(1.0)) for method in (JUMP, STRANG)
        )
        assert jump < strang


def test_too_low_a_rank_costs_the_normal_component_and_no_more():
    """Error c·ε of a problem with a tail of size ε that rank 2 cannot hold."""
    errors = {}
    for tail in (1e-2, 1e-4):
        A = Rotating(12, 10, [1.0, 0.5, tail])
        errors[tail] = norm(final(A.F, (0, 1), A.state().truncate(max_rank=2), STRANG, 1 / 80) - A(1.0))
        assert tail < errors[tail] < 20 * tail
    assert errors[1e-2] > 20 * errors[1e-4]


# ---- conservation --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schroedinger():
    return problems.schroedinger(n=30)


def drifts(problem, method, dt, rank=8) -> tuple[float, float]:
    """Largest relative deviations of norm and energy over the unit interval."""
    Y0 = problem.Y0(rank)
    mass, energy = problem.observables["norm"], problem.observables["energy"]
    m0, e0 = mass(0.0, Y0), energy(0.0, Y0)
    found = [0.0, 0.0]
    for state in dlra.iterate(problem.F, (0, 1), Y0, method, dt=dt):
        found[0] = max(found[0], abs(mass(state.t, state.y) / m0 - 1))
        found[1] = max(found[1], abs(energy(state.t, state.y) / e0 - 1))
    return found[0], found[1]


def test_augmented_bug_keeps_norm_and_energy_up_to_its_tolerance(schroedinger):
    mass, energy = drifts(schroedinger, AugmentedBUG(atol=1e-6, substep="adaptive"), 0.1)
    assert mass < 1e-8 and energy < 1e-8
    coarse, _ = drifts(schroedinger, AugmentedBUG(atol=1e-2, substep="adaptive"), 0.1)
    assert 1e-6 < coarse < 1e-2, "a larger tolerance must show"


def test_splitting_keeps_norm_and_energy_to_the_accuracy_of_its_substep(schroedinger):
    mass, energy = drifts(schroedinger, replace(STRANG, substep="adaptive"), 0.1)
    assert mass < 1e-8 and energy < 1e-8
    steps = (10, 20, 40)
    for method in (LIE, STRANG):
        found = np.array([drifts(schroedinger, method, 1 / N) for N in steps])
        assert found[-1].max() < 1e-5
        assert np.all(slopes(steps, found[:, 0]) > 4.5), "rk4 loses norm at its fifth order"


def test_fixed_rank_bug_drifts_at_first_order(schroedinger):
    steps = (25, 50, 100)
    mass = [drifts(schroedinger, BUG(), 1 / N)[0] for N in steps]
    assert mass[-1] > 1e-4
    assert np.all(abs(slopes(steps, mass) - 1) < 0.2), mass


@methods(*SECOND_ORDER[:2])
def test_midpoint_bug_keeps_norm_and_energy_up_to_its_tolerance(schroedinger, method):
    mass, energy = drifts(schroedinger, replace(method, atol=1e-6, substep="adaptive"), 0.1)
    assert mass < 1e-8 and energy < 1e-8
    coarse, _ = drifts(schroedinger, replace(method, atol=1e-2, substep="adaptive"), 0.1)
    assert 1e-6 < coarse < 1e-2, "a larger tolerance must show"


@methods(*SECOND_ORDER[2:])
def test_second_order_parallel_bug_keeps_the_norm_to_the_fourth_order(schroedinger, method):
    steps = (10, 20, 40)
    mass = [
        drifts(schroedinger, replace(method, atol=1e-12, substep="adaptive"), 1 / N, 12)[0] for N in steps
    ]
    assert 1e-9 < mass[-1] < 1e-4
    assert np.all(slopes(steps, mass) > 3.2), mass


def test_parallel_bug_does_not_keep_the_norm(schroedinger):
    """Neither by its substep nor by its tolerance: the zero block. What is dropped is of second order a step."""
    mass = [drifts(schroedinger, replace(PARALLEL, substep="adaptive"), 1 / N)[0] for N in (10, 40)]
    assert mass[1] > 1e-4
    best = drifts(schroedinger, AugmentedBUG(substep="adaptive", atol=1e-6), 0.1)[0]
    assert drifts(schroedinger, replace(PARALLEL, atol=1e-6, substep="adaptive"), 0.1)[0] > 1e4 * best


@pytest.mark.slow
def test_a_fixed_tolerance_makes_small_steps_worse(schroedinger):
    """The error bound has a term theta/h; theta = O(h²) avoids it."""
    exact = schroedinger.reference(1.0)

    def error(N, theta):
        return norm(
            final(schroedinger.F, (0, 1), schroedinger.Y0(12), AugmentedBUG(atol=theta), 1 / N) - exact
        )

    fixed = [error(N, 1e-6) for N in (50, 100, 200, 400)]
    assert fixed[-1] > 1.5 * fixed[0], fixed
    coupled = [error(N, 4e-3 / N**2) for N in (50, 100, 200, 400)]
    assert coupled[-1] < 0.5 * coupled[0], coupled


# ---- gradient flows ------------------------------------------------------------------------------------------


def weighted_least_squares(rng, m, n):
    """L(Y) = ½‖W ∘ (Y - A)‖² with weights in [0.2, 1], and -∇L."""
    A, W = normal(rng, (m, n)), 0.2 + 0.8 * rng.random((m, n))
    return lambda Y: 0.5 * norm(W * (dense(Y) - A)) ** 2, lambda t, Y: -(W**2) * (Y - A)


def test_augmented_bug_descends_gradient_flows():
    """L(Y₁) ≤ L(Y₀) - α²h + βθ: α the least ‖P_Û F P_V̂‖ along the S-flow, β the largest ‖F‖ on the truncated bit."""
    worst = 0.0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        L, F = weighted_least_squares(rng, 10, 8)
        Y0 = random_lowrank(rng, 10, 8, 2)
        for h in (0.05, 0.5, 5.0):
            full = dlra.step(F, 0.0, h, Y0, AugmentedBUG(substep="adaptive", max_rank=4))
            U, V = full.U, full.V
            start = LowRank(U, U.T @ dense(Y0) @ V, V)  # the augmented bases hold Y0
            assert relative_error(start, Y0) < 1e-12
            flow = dlra.solve(F, (0, h), start, Galerkin(), dt=h / 20)
            alpha = min(norm(U.T @ F(0, dense(Y)) @ V) for Y in flow.y)
            Y1, theta = full.truncate(max_rank=2), norm(np.linalg.svd(full.S, compute_uv=False)[2:])
            line = [(1 - s) * dense(full) + s * dense(Y1) for s in np.linspace(0, 1, 20)]
            beta = max(norm(F(0, Y)) for Y in line)
            promised = alpha**2 * h
            assert L(full) <= L(Y0) - promised * (1 - 1e-6)
            assert (
                L(dlra.step(F, 0.0, h, Y0, AugmentedBUG(substep="adaptive")))
                <= L(Y0) - promised + 1.001 * beta * theta
            )
            worst = max(worst, promised / (L(Y0) - L(full)))
    assert worst > 0.5, "the bound must be near the truth somewhere, or the test says nothing"


# ---- symmetry ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1], ids=["symmetric", "skew-symmetric"])
@REAL_AND_COMPLEX
def test_bug_family_keeps_symmetry_and_lie_splitting_does_not(sign, dtype):
    rng = np.random.default_rng(30)
    B, U = normal(rng, (10, 10), dtype) / 4, random_orthonormal(rng, 10, 4, dtype)
    core = normal(rng, (4, 4), dtype) / 3
    Y0 = LowRank(U, core + sign * core.conj().T, U)

    def F(t, Y):  # F(Yᴴ) = F(Y)ᴴ and F(-Y) = -F(Y)
        return B @ Y + Y @ B.conj().T + 0.1 * Y * abs(Y) ** 2

    def asymmetry(method):
        Y = final(F, (0, 0.5), Y0, method, 0.025)
        return norm(Y - sign * Y.conj().T) / norm(Y)

    assert asymmetry(BUG()) < 1e-13
    assert asymmetry(AugmentedBUG()) < 1e-13
    for method in (AugmentedBUG(rtol=1e-3), PARALLEL, ParallelBUG(rtol=1e-3), *SECOND_ORDER):
        assert asymmetry(method) < 1e-12
    assert asymmetry(LIE) > 1e-6


# ---- non-autonomous fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize("substep", ["auto", "heun", "rk4", "adaptive", "exponential"])
@methods(*MOVING_BASES, Galerkin(), PARALLEL, *SECOND_ORDER)
def test_x_prime_is_t_gives_half_t_squared(method, substep):
    """Wrong nodes c_i show here and nowhere else."""
    rng = np.random.default_rng(40)
    u, v = normal(rng, (7, 1)), normal(rng, (5, 1))
    Y0 = LowRank.from_dense(0.5 * u @ v.T, rank=1)
    Y1 = dlra.solve(lambda t, Y: t * u @ v.T, (1, 3), Y0, replace(method, substep=substep), dt=0.7).y_final
    assert relative_error(Y1, 4.5 * u @ v.T) < 1e-14
    euler = dlra.solve(lambda t, Y: t * u @ v.T, (1, 3), Y0, replace(method, substep="euler"), dt=0.7).y_final
    if isinstance(method, SecondOrderParallelBUG | MidpointBUG):
        return  # its own nodes are seen above; Euler substeps are of order one only
    assert relative_error(euler, 4.5 * u @ v.T) > 0.01


# ---- ranks ---------------------------------------------------------------------------------------------------


def growing(rng, m=20, n=16):
    """A field of full rank, so that the rank wants to grow."""
    B, Q = normal(rng, (m, m)) / 6, normal(rng, (m, n))
    return lambda t, Y: B @ Y + Q


@methods(*MOVING_BASES, Galerkin(), PARALLEL, *SECOND_ORDER)
def test_the_rank_stays_as_given(method, rng):
    F, Y0 = growing(rng), random_lowrank(rng, 20, 16, 4)
    asked = []
    recorded = factored(lambda t, Y: (asked.append(Y.rank), F(t, Y.to_dense()))[1])
    solution = dlra.solve(recorded, (0, 0.5), Y0, method, dt=0.1)
    assert set(solution.rank) == {4}
    widths = {"augmented-bug": 8, "second-order-parallel-bug": 8, "midpoint-bug": 12}  # of the S-equation
    assert max(asked) == (12 if method == MidpointBUG() else widths.get(method.name, 4))
    assert all(Y.U.shape == (20, 4) and Y.S.shape == (4, 4) and Y.V.shape == (16, 4) for Y in solution.y)


def test_the_rank_stays_even_where_less_would_do():
    A = Rotating(12, 10, [1.0, 0.5])
    solution = dlra.solve(A.F, (0, 0.5), A.state(extra=4), AugmentedBUG(), dt=0.1)
    assert set(solution.rank) == {6}


def test_a_tolerance_frees_the_rank_and_max_rank_caps_it(rng):
    F, Y0 = growing(rng), random_lowrank(rng, 20, 16, 4)

    def ranks(**options):
        return dlra.solve(F, (0, 0.5), Y0, AugmentedBUG(**options), dt=0.1).rank.tolist()

    free = ranks(rtol=1e-8)
    assert free[:2] == [4, 8] and 8 < free[2] <= 16 and free[-1] == 16
    assert ranks(rtol=1e-8, max_rank=10) == [4, 8, 10, 10, 10, 10]
    assert ranks(max_rank=10) == [4, 8, 10, 10, 10, 10]
    assert ranks(rtol=0.5)[-1] < 4
    assert ranks(rtol=0.999999) == [4, 1, 1, 1, 1, 1]
    assert ranks(rtol=0.999999, min_rank=3) == [4, 3, 3, 3, 3, 3]
    assert ranks(max_rank=2) == [4, 2, 2, 2, 2, 2]


@methods(PARALLEL, *SECOND_ORDER)
def test_a_tolerance_frees_the_rank_of_every_truncating_method(method, rng):
    F, Y0 = growing(rng), random_lowrank(rng, 20, 16, 4)

    def ranks(**options):
        return dlra.solve(F, (0, 0.5), Y0, replace(method, **options), dt=0.1).rank.tolist()

    assert ranks(rtol=1e-8)[-1] == 16 and max(ranks(rtol=1e-8, max_rank=10)) == 10
    assert ranks(max_rank=2) == [4, 2, 2, 2, 2, 2]
    assert ranks(rtol=0.999999, min_rank=3) == [4, 3, 3, 3, 3, 3]


def widths_of_k(method, F, Y0, h=0.1) -> tuple[list[int], LowRank]:
    """The ranks from which a step of parallel BUG starts its K-equations: one entry without rejection."""
    field, seen = dlra.field.Field(F, (Y0,)), []

    def evaluate(ask):
        if ask.stage == "K":
            seen.append(ask.Ys[0].V.shape[1])
        return field(ask.t, ask.Ys)

    result = drive(method.step(0.0, h, (Y0,), field), evaluate)
    return list(dict.fromkeys(seen)), result.Ys[0]


def test_parallel_bug_rejects_a_step_whose_bases_are_saturated(rng):
    """Criterion (a): the new rank is 2r. With c = inf the other one is off."""
    B, C, Y0 = normal(rng, (20, 20)) / 4, normal(rng, (16, 16)) / 4, random_lowrank(rng, 20, 16, 2)
    F = lambda Y: B @ np.sin(9 * Y) @ C  # noqa: E731
    widths, Y1 = widths_of_k(ParallelBUG(atol=1e-10, c=math.inf), F, Y0)
    assert widths == [2, 4, 8, 16] and Y1.rank == 16, "and there is no room for more"
    limited, Y1 = widths_of_k(ParallelBUG(atol=1e-10, c=math.inf, max_rank=8), F, Y0)
    assert limited == [2, 4, 8] and Y1.rank == 8
    assert widths_of_k(ParallelBUG(atol=1e-10, c=math.inf, max_rank=7), F, Y0)[0] == [2, 4]
    assert widths_of_k(ParallelBUG(atol=1e-10, c=math.inf, max_rank=3), F, Y0)[0] == [2]
    assert widths_of_k(ParallelBUG(max_rank=16), F, Y0)[0] == [2], "without a tolerance nothing is rejected"
    assert widths_of_k(ParallelBUG(atol=10.0, c=math.inf), F, Y0)[0] == [2], "nothing is saturated"


def test_parallel_bug_rejects_a_step_that_would_miss_the_normal_component(rng):
    """Criterion (b): h ‖Ũᴴ F(t₀, Y₀) Ṽ‖ > c theta."""
    Q, Y0 = normal(rng, (20, 16)), random_lowrank(rng, 20, 16, 2, decay=1.0)
    F = lambda Y: Q - Y  # noqa: E731
    h = 0.01
    eta = dlra.solve(F, (0, h), Y0, ParallelBUG(), dt=h).errors.local.normal[1]
    theta = 0.2
    few = widths_of_k(ParallelBUG(atol=theta, c=1.01 * h * eta / theta), F, Y0, h)
    many = widths_of_k(ParallelBUG(atol=theta, c=0.99 * h * eta / theta), F, Y0, h)
    assert few[0] == [2] and few[1].rank < 4, "so that criterion (a) is silent"
    assert many[0][:2] == [2, 4]
    assert widths_of_k(ParallelBUG(c=1e-9), F, Y0, h)[0] == [2], "without a tolerance nothing is rejected"
    assert widths_of_k(ParallelBUG(atol=theta, c=1e-9, max_rank=7), F, Y0, h)[0] == [2, 4]
    assert widths_of_k(ParallelBUG(atol=theta, c=1e-9, max_rank=3), F, Y0, h)[0] == [2]


def test_a_rejected_parallel_step_starts_again_from_the_same_state(rng):
    """With wider bases it sees all of F, which the plain step does not; only its length is left as an error."""
    Q, Y0 = normal(rng, (20, 6)) @ normal(rng, (6, 16)) / 4, random_lowrank(rng, 20, 16, 2)
    F = lambda Y: Q - Y  # noqa: E731
    exact = Q + math.exp(-0.1) * (dense(Y0) - Q)
    rejecting, plain = (
        relative_error(dlra.step(F, 0.0, 0.1, Y0, method), exact)
        for method in (ParallelBUG(atol=1e-8), ParallelBUG(max_rank=16))
    )
    assert rejecting < 1e-6 < 0.05 < plain


@pytest.mark.parametrize("theta", [{"rtol": 1e-16}, {"atol": 1e-300}, {"rtol": 1e-15, "atol": 1e-15}])
def test_tiny_tolerances_are_harmless(theta):
    A = Rotating(12, 10, [1.0, 0.5])
    solution = dlra.solve(A.F, (0, 1), A.state(), AugmentedBUG(**theta), dt=0.02)
    assert 2 <= solution.rank[-1] <= 10
    assert relative_error(solution.y_final, A(1.0)) < 5e-3


def test_the_rank_falls_again_when_it_may():
    """A source of rank 4 that is switched off, and decay to a state of rank 1."""
    rng = np.random.default_rng(50)
    s, u = normal(rng, (20, 4)), normal(rng, (20, 1))
    one, four = u @ u.T, s @ s.T
    F = lambda t, Y: 10 * (one - Y) + (four if t < 0.5 else 0)  # noqa: E731
    solution = dlra.solve(F, (0, 5), LowRank.from_dense(one, rank=1), AugmentedBUG(rtol=1e-6), dt=0.05)
    assert max(solution.rank) >= 5 and solution.rank[-1] == 1
    assert relative_error(solution.y_final, one) < 1e-6


def test_rank_options_go_to_members_one_by_one(rng):
    F = [growing(rng), growing(rng, 12, 9)]
    system = lambda t, Ys: [f(t, Y) for f, Y in zip(F, Ys, strict=True)]  # noqa: E731
    Ys = [random_lowrank(rng, 20, 16, 3), random_lowrank(rng, 12, 9, 3)]
    method = AugmentedBUG(rtol=[1e-8, 0.0], max_rank=[None, 4], min_rank=(1, 2), atol=0.0)
    solution = dlra.solve(system, (0, 0.3), Ys, method, dt=0.1)
    first, second = zip(*solution.rank, strict=True)
    assert first[:2] == (3, 6) and first[-1] > 8 and second == (3, 4, 4, 4)
    with pytest.raises(ValueError, match="3 members, but the state has 2"):
        dlra.solve(system, (0, 0.3), Ys, AugmentedBUG(rtol=[1e-8] * 3), dt=0.1)
    with pytest.raises(ValueError, match="one length"):
        AugmentedBUG(rtol=[1e-8] * 3, max_rank=[4] * 2)
    with pytest.raises(ValueError, match="max_rank"):
        AugmentedBUG(min_rank=[1, 5], max_rank=[4, 4])


def test_min_rank_must_fit_the_matrix(rng):
    with pytest.raises(ValueError, match=r"min\(m, n\) = 9"):
        dlra.step(lambda Y: Y, 0.0, 0.1, random_lowrank(rng, 12, 9, 3), AugmentedBUG(rtol=1e-3, min_rank=10))


# ---- stiff problems ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heat() -> Heat:
    return Heat(256)


def test_augmented_bug_with_exact_linear_part_on_the_heat_equation(heat):
    """No step size limit: 10 steps where explicit methods need thousands; order one in the (tiny) rest."""
    exact = heat(0.1)
    errors = [
        relative_error(final(heat.F, (0, 0.1), heat.state(20), AugmentedBUG(), h), exact)
        for h in (0.1, 0.01, 0.001)
    ]
    assert errors[0] < 1e-5
    assert errors[1] < 1e-6, "about 3e-7"
    assert errors[2] < errors[1] / 3


def test_fixed_rank_bug_with_exact_linear_part_on_the_heat_equation(heat):
    """No step size limit either, but an error that stays where it is: the projection of Y₀ onto the new bases."""
    errors = [
        relative_error(final(heat.F, (0, 0.1), heat.state(20), BUG(), h), heat(0.1)) for h in (0.1, 0.01)
    ]
    assert max(errors) < 5e-4


def test_a_stiff_part_and_a_constant_cost_one_evaluation_a_step(heat):
    solution = dlra.solve(heat.F, (0, 0.1), heat.state(20), AugmentedBUG(), dt=0.05)
    assert solution.nfev == 2 == solution.nsteps


def test_splitting_warns_where_the_stiff_part_is_declared(heat):
    for method in (LIE, STRANG, JUMP):
        with pytest.warns(DlraWarning, match=r"backward in time.*AugmentedBUG"):
            dlra.step(heat.F, 0.0, 1e-5, heat.state(5), method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dlra.step(heat.F, 0.0, 1e-5, heat.state(5), AugmentedBUG())
        dlra.step(heat.plain, 0.0, 1e-5, heat.state(5), STRANG)


@methods(MidpointBUG(), MidpointBUG(bases="4r"), SecondOrderParallelBUG(), PARALLEL)
def test_the_other_bug_methods_on_the_heat_equation(heat, method):
    """No step size limit. With large steps only augmented and midpoint BUG are accurate, for want of a zero block."""
    exact = heat(0.1)
    coarse, fine = (
        relative_error(final(heat.F, (0, 0.1), heat.state(20), method, h), exact) for h in (0.1, 0.01)
    )
    augmented = relative_error(final(heat.F, (0, 0.1), heat.state(20), AugmentedBUG(), 0.1), exact)
    if method.name == "midpoint-bug":
        assert max(coarse, fine) < 1e-5
    else:
        assert coarse > 100 * augmented and fine < 1e-2


@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
@pytest.mark.parametrize("method", [LIE, STRANG, AugmentedBUG(), BUG()], ids=lambda m: repr(m))
@pytest.mark.parametrize("declared", [True, False])
def test_explicit_substeps_on_the_heat_equation_fail_with_a_remedy(heat, method, declared):
    F = heat.F if declared else heat.plain
    with pytest.raises(SolveError, match=r"the solution blows up.*SemiLinear.*exponential") as caught:
        dlra.solve(F, (0, 0.1), heat.state(20), replace(method, substep="rk4"), dt=0.01)
    solution = caught.value.solution
    assert solution.status == -1 and 2 <= len(solution.t) < 11
    for part in (method.name, f"t = {solution.t[-1]:.10g}", f"step {len(solution.t)}", "rank 20", "stage"):
        assert part in str(caught.value)
    assert is_complex(solution.y[0].dtype) is False and all(np.isfinite(Y.S).all() for Y in solution.y)


@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_the_backward_step_is_the_reason(heat):
    """Explicit substeps small enough for the forward equations: fine for augmented BUG, blow-up for splitting."""
    assert (
        relative_error(final(heat.plain, (0, 0.01), heat.state(20), AugmentedBUG(), 1e-4), heat(0.01)) < 1e-5
    )
    explicit = dlra.solve(heat.plain, (0, 0.01), heat.state(20), LIE, dt=1e-3, throw=False)
    assert relative_error(explicit.y_final, heat(0.01)) > 1
