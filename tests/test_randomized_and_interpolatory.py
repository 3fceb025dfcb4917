"""Randomised integrators, and what the interpolatory ones converge to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import (
    M,
    N,
    R,
    eps,
    normal,
    orthonormality,
    random_lowrank,
    random_orthonormal,
    relative_error,
)
from manufactured import Heat, Moving, Rotating, bits, slopes
from numpy.linalg import inv, norm, svd

import dlra
from dlra import LowRank, SemiLinear, factored
from dlra.field import Field
from dlra.integrators import drive
from dlra.integrators._sketch import (
    _missed,
    corange_equation,
    core_equation,
    gaussian,
    range_equation,
)
from dlra.integrators.generalized_nystrom import GeneralizedNystrom
from dlra.integrators.interpolatory_cur import InterpolatoryCUR
from dlra.integrators.interpolatory_runge_kutta import InterpolatoryRungeKutta
from dlra.integrators.randomized_svd import RandomizedSVD
from dlra.sampling import qdeim

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

CLASSES = (RandomizedSVD, GeneralizedNystrom)
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)


def H(A):
    return A.conj().T


def one_step(method, F, t, h, Ys, rng=None):
    """The StepResult of one step, and the questions that were asked."""
    Ys = Ys if isinstance(Ys, tuple) else (Ys,)
    field, asks = Field(F, Ys, system=len(Ys) > 1), []
    field.rng = rng

    def evaluate(ask):
        asks.append(ask)
        return field(ask.t, ask.Ys)

    return drive(method.step(t, h, Ys, field), evaluate), asks


# ---- the equations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_compressed_equations(dtype):
    """Start, lift, projection and linear part of B, C and D, against their formulas on dense arrays."""
    rng = np.random.default_rng(0)
    A, B, G = normal(rng, (M, M), dtype), normal(rng, (N, N), dtype), normal(rng, (M, N), dtype)
    Y0 = random_lowrank(rng, M, N, R, dtype)
    Q1, Q2 = random_orthonormal(rng, M, 5, dtype), random_orthonormal(rng, N, 4, dtype)
    field = Field(SemiLinear(A, B, lambda t, Y: G + t * Y), (Y0,))
    Y = Y0.to_dense()

    def F(Y):
        return A @ Y + Y @ B + G + 0.3 * Y

    b, c = range_equation((Y0,), [Q2], field), corange_equation((Y0,), [Q1], field)
    d = core_equation((Y0,), [Q1], [Q2], field)
    cases = [
        (b, "B", Y @ Q2, lambda X: X @ H(Q2), lambda Z: Z @ Q2),
        (c, "C", H(Y) @ Q1, lambda X: Q1 @ H(X), lambda Z: H(Z) @ Q1),
        (d, "D", H(Q1) @ Y @ Q2, lambda X: Q1 @ X @ H(Q2), lambda Z: H(Q1) @ Z @ Q2),
    ]
    for equation, name, start, lift, project in cases:
        assert equation.stage == name
        X = normal(rng, start.shape, dtype)
        assert relative_error(equation.X[0], start) < 1e-14
        ask = equation.ask(0.3, [X])
        assert ask.stage == name and relative_error(ask.Ys[0], lift(X)) < 1e-14
        values = field(ask.t, ask.Ys)
        assert relative_error(equation.slopes(0.3, values)[0], project(F(lift(X)))) < 1e-13
        rest = equation.slopes(0.3, values, rest=True)[0]
        left, right = equation.linear[0]
        linear = (left @ X if isinstance(left, np.ndarray) else left.apply(X)) + X @ right
        assert relative_error(rest + linear, project(F(lift(X)))) < 1e-13


def test_gaussian_matrices():
    like = random_lowrank(np.random.default_rng(1), 400, 9, 2, "complex64").U
    omega = gaussian(np.random.default_rng(2), 50, like)
    assert omega.dtype == "complex64" and omega.shape == (400, 50)
    assert abs(np.mean(np.abs(omega) ** 2) - 1) < 0.03
    assert abs(np.mean(omega.real * omega.imag)) < 0.02
    real = gaussian(np.random.default_rng(2), 50, like.real.astype("float64"))
    assert real.dtype == "float64" and abs(real.std() - 1) < 0.03


# ---- one step --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heat():
    return Heat(96)


@every_class
@pytest.mark.parametrize("rank", [6, 10, 16])
@pytest.mark.parametrize("power", [0, 1])
def test_one_step_over_the_whole_time(heat, cls, rank, power):
    """Stiff and solved in one step: near the best approximation, and far better than the truncated start allows
    for many steps."""
    exact = heat(0.1)
    method = cls(power=power, max_rank=rank)
    found = relative_error(dlra.step(heat.F, 0.0, 0.1, heat.state(20), method), exact)
    tail = norm(svd(exact)[1][rank:]) / norm(exact)
    assert 0.999 * tail < found < 3 * tail + (1e-9 if power else 1e-8)


@every_class
def test_exact_where_the_range_is_found(cls):
    """F = A'(t) of rank at most the width of the sketch; A cubic in t, so that the substep is exact."""
    A = Moving(14, 12, 3)
    Y1 = dlra.step(factored(lambda t, Y: A.rate(t)), 0.0, 0.7, A.state(0.0), cls())
    assert relative_error(Y1, A(0.7)) < 1e-12


@every_class
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(12, 9, 3), (9, 12, 3), (9, 9, 9), (7, 4, 2), (1, 5, 1)], ids=str)
def test_exact_for_full_width_and_any_shape(cls, dtype, shape):
    """With sketches as wide as the matrix nothing is compressed: the step is that of the substep."""
    rng = np.random.default_rng(3)
    Y0, B = random_lowrank(rng, *shape, dtype), normal(rng, (shape[0], shape[0]), dtype) / 3
    h = 0.1
    one = cls(oversampling=20, substep="euler", max_rank=min(shape[:2]))
    two = dlra.step(lambda t, Y: B @ Y + Y * Y, 0.0, h, Y0, one)
    Y = Y0.to_dense()
    assert relative_error(two, Y + h * (B @ Y + Y * Y)) < 1e-12
    assert max(orthonormality(two.U), orthonormality(two.V)) < 1e-14


@every_class
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_order_and_robustness(cls, dtype):
    """At least of order 1 whatever the singular values; also from an over-approximated rank, and backward."""
    for sigma, extra in (([1.0, 0.5, 0.25], 0), ([1.0, 1e-6, 1e-12], 0), ([1.0, 0.5, 0.25], 3)):
        problem, steps = Rotating(16, 14, sigma, dtype), (8, 16)
        runs = [dlra.solve(problem.F, (0, 1), problem.state(extra=extra), cls(), dt=1 / n) for n in steps]
        found = [norm(run.y[-1].to_dense() - problem(1)) for run in runs]
        assert runs[-1].y[-1].rank == 3 + extra
        assert found[-1] < 1e-3 and slopes(steps, found)[-1] > 0.9
    back = dlra.solve(problem.F, (1, 0), problem.state(1.0), cls(), dt=1 / 16).y[-1]
    assert relative_error(back, problem(0.0)) < 1e-3


# ---- randomness ------------------------------------------------------------------------------------------------


@every_class
def test_reproducible_by_rng(cls):
    problem = Rotating(16, 14, 0.5 ** np.arange(3))

    def run(rng):
        return dlra.solve(problem.F, (0, 0.4), problem.state(), cls(), dt=0.1, rng=rng).y[-1]

    assert bits(run(7)) == bits(run(7)) == bits(run(np.random.default_rng(7)))
    assert bits(run(7)) != bits(run(8))
    assert relative_error(run(7), run(8)) < 1e-3
    step = [dlra.step(problem.F, 0.0, 0.1, problem.state(), cls()) for _ in range(2)]
    assert bits(step[0]) == bits(step[1])


@every_class
def test_draws_from_the_generator_of_the_run_alone(cls):
    rng, Y0 = np.random.default_rng(5), random_lowrank(np.random.default_rng(6), M, N, R)
    states = [rng.bit_generator.state["state"]["state"]]
    first, _ = one_step(cls(), lambda t, Y: -Y * Y, 0.0, 0.1, Y0, rng)
    states.append(rng.bit_generator.state["state"]["state"])
    second, _ = one_step(cls(), lambda t, Y: -Y * Y, 0.0, 0.1, Y0, np.random.default_rng(5))
    assert states[0] != states[1]
    assert bits(first.Ys[0]) == bits(second.Ys[0])


def test_sketches_of_range_and_corange_are_independent():
    """For a square matrix as well: the same random numbers for both would be a poor Nyström sketch."""
    Y0 = random_lowrank(np.random.default_rng(7), 12, 12, 2)
    _, asks = one_step(GeneralizedNystrom(), lambda t, Y: Y * Y, 0.0, 0.1, Y0)
    b, c = asks[1].Ys[0], asks[2].Ys[0]
    assert (asks[1].stage, asks[2].stage) == ("B", "C")
    omega_right, omega_left = b.V[:, 2:], c.U[:, 2:]
    assert norm(H(omega_right) @ Y0.V) < 1e-13 and norm(H(omega_left) @ Y0.U) < 1e-13
    k = min(omega_right.shape[1], omega_left.shape[1])
    assert svd(H(omega_right[:, :k]) @ omega_left[:, :k])[1][-1] < 0.9


# ---- rank ------------------------------------------------------------------------------------------------------


@every_class
@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-8])
def test_tolerance(heat, cls, tol):
    """The rank falls to what the tolerance asks for, in one step."""
    Y1 = dlra.step(heat.F, 0.0, 0.1, heat.state(20), cls(rtol=tol))
    exact = heat(0.1)
    sigma = svd(exact)[1]
    needed = int(np.sum(np.sqrt(np.cumsum(sigma[::-1] ** 2))[::-1] > tol * norm(exact)))
    assert relative_error(Y1, exact) < 1.5 * tol
    assert needed <= Y1.rank <= needed + 1


@every_class
def test_rank_grows_in_one_step(cls):
    """From rank 1 to 12 with an oversampling of 1: the probes see what the first sketches missed."""
    rng = np.random.default_rng(8)
    U, V = random_orthonormal(rng, 60, 12), random_orthonormal(rng, 50, 12)
    C = LowRank(U, np.diag(2.0 ** -np.arange(12)), V)
    Y0 = LowRank(U[:, :1].copy(), np.eye(1), V[:, :1].copy())
    F = factored(lambda t, Y: C + 0.0 * Y)
    exact = (Y0 + C).to_dense()

    def end(**options):
        return dlra.step(F, 0.0, 1.0, Y0, cls(oversampling=1, **options))

    assert end().rank == 1
    whole = end(rtol=1e-10)
    assert whole.rank == 12 and relative_error(whole, exact) < 1e-12
    for options, rank in (({"max_rank": 7}, 7), ({"rtol": 1e-10, "max_rank": 6}, 6), ({"rtol": 0.9}, 1)):
        Y1 = end(**options)
        assert Y1.rank == rank
        assert norm(Y1.to_dense() - exact) < 1.5 * norm(svd(exact)[1][rank:])
    assert end(rtol=0.9, min_rank=4).rank == 4


@every_class
@pytest.mark.parametrize("power", [0, 1])
def test_probes_enlarge_the_sketch_until_the_tolerance_is_met(cls, power):
    """Singular values that decay slowly, found from rank 1 with an oversampling of 1."""
    rng = np.random.default_rng(14)
    U, V = random_orthonormal(rng, 60, 40, "complex128"), random_orthonormal(rng, 50, 40, "complex128")
    sigma = 0.8 ** np.arange(40)
    C = LowRank(U, np.diag(sigma).astype("complex128"), V)
    Y0 = LowRank(U[:, :1].copy(), np.full((1, 1), 1e-8 + 0j), V[:, :1].copy())
    Y1 = dlra.step(factored(lambda t, Y: C), 0.0, 1.0, Y0, cls(oversampling=1, power=power, rtol=1e-3))
    needed = int(np.sum(np.sqrt(np.cumsum(sigma[::-1] ** 2))[::-1] > 1e-3 * norm(sigma)))
    assert needed <= Y1.rank <= needed + 1
    assert relative_error(Y1, C) < 1.3e-3


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_what_probes_see(dtype):
    rng = np.random.default_rng(15)
    Y, Q = normal(rng, (M, N), dtype), random_orthonormal(rng, M, 4, dtype)
    omega = normal(rng, (N, 2), dtype)
    Q2 = dlra.linalg.augment(random_orthonormal(rng, N, 3, dtype), omega)
    expected = np.max(norm((np.eye(M) - Q @ H(Q)) @ Y @ omega, axis=0))
    assert _missed(Y @ Q2, Q, Q2, omega) == pytest.approx(expected)


@every_class
def test_discarded_norm_and_normal_component(cls):
    rng = np.random.default_rng(9)
    Y0, G = random_lowrank(rng, M, N, R, "complex128"), random_lowrank(rng, M, N, 2, "complex128")
    result, asks = one_step(cls(), factored(lambda t, Y: G), 0.0, 0.1, Y0)
    assert result.discarded == pytest.approx(norm(svd((Y0 + 0.1 * G).to_dense())[1][R:]), rel=1e-6)
    U, _, V = Y0.factors
    normal_part = (np.eye(M) - U @ H(U)) @ G.to_dense() @ (np.eye(N) - V @ H(V))
    assert result.normal == pytest.approx(norm(normal_part), rel=1e-6)
    assert math.isnan(result.error)
    assert asks[0].stage == "start" and {ask.stage for ask in asks[1:]} <= {"B", "C", "D"}


@every_class
def test_one_evaluation_serves_all_first_slopes(cls):
    """With Euler substeps a step costs one evaluation; Y₀ lies in all bases, to the last bit."""
    Y0 = random_lowrank(np.random.default_rng(10), 20, 18, R)
    result, asks = one_step(cls(substep="euler"), lambda t, Y: Y * Y, 0.0, 0.1, Y0)
    assert len(asks) == 1 and asks[0].Ys[0] is Y0
    exact = Y0.to_dense() + 0.1 * Y0.to_dense() ** 2
    best = norm(svd(exact)[1][R:])
    assert norm(result.Ys[0].to_dense() - exact) < 1.1 * best


# ---- arrays and systems ----------------------------------------------------------------------------------------


@every_class
@pytest.mark.parametrize("options", [{}, {"rtol": 1e-2}], ids=str)
def test_every_library_and_dtype(cls, typed_library, options):
    library, dtype = typed_library
    rng = np.random.default_rng(11)
    Y0, B = random_lowrank(rng, M, N, R, dtype, library), normal(rng, (M, M), dtype) / 3
    A = library.asarray(B)
    method = cls(substep="heun", **options)
    Y1 = dlra.step(factored(lambda t, Y: dlra.matmul(A, Y) + (0.5 * t) * Y), 0.1, 0.1, Y0, method)
    assert all(library.owns(a) and str(a.dtype).endswith(dtype) for a in Y1.factors)
    assert max(orthonormality(Y1.U), orthonormality(Y1.V)) < 20 * eps(dtype)
    start = LowRank(*(library.to_numpy(a).astype("complex128") for a in Y0.factors))
    if "complex" not in dtype:  # the same numbers are drawn in double precision
        start = LowRank(*(a.real for a in start.factors))
    wide = B.astype(start.dtype)
    expected = dlra.step(factored(lambda t, Y: wide @ Y + (0.5 * t) * Y), 0.1, 0.1, start, method)
    assert relative_error(Y1, expected) < 200 * eps(dtype)


@every_class
def test_coupled_systems(cls):
    """Two LowRank members and a dense one; the widths of their sketches differ."""
    rng = np.random.default_rng(12)
    A = normal(rng, (M, M), "complex128") / 4
    Y0 = (
        random_lowrank(rng, M, N, R, "complex128"),
        np.ones((2, 1)),
        random_lowrank(rng, N, 30, 2, "complex128"),
    )

    def F(t, Ys):
        X, b, Z = Ys
        return [A @ X + float(b[0, 0]) * X, -t * b, (-1j * float(b[1, 0])) * Z]

    run = dlra.solve(factored(F), (0, 1), list(Y0), cls(), dt=1 / 8).y[-1]
    reference = dlra.solve(factored(F), (0, 1), list(Y0), "augmented-bug", dt=1 / 64).y[-1]
    assert [Y.rank for Y in (run[0], run[2])] == [R, 2]
    for a, b in zip(run, reference, strict=True):
        assert relative_error(a, b) < 1e-3
    tight = dlra.solve(factored(F), (0, 0.2), list(Y0), cls(rtol=1e-16), dt=0.1)  # below rounding
    assert relative_error(tight.y[-1][2], Y0[2].to_dense() * np.exp(-0.1987j)) < 1e-2
    capped = dlra.solve(factored(F), (0, 0.2), list(Y0), cls(rtol=1e-6, max_rank=(2, None, 3)), dt=0.1)
    assert [Y.rank for Y in (capped.y[-1][0], capped.y[-1][2])] == [2, 2]


@every_class
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"oversampling": -1}, ValueError, "oversampling must not be negative, got -1"),
        ({"oversampling": 1.5}, TypeError, "oversampling must be an int"),
        ({"power": -1}, ValueError, "power must not be negative"),
        ({"failure_probability": 0.0}, ValueError, "failure_probability must lie between 0 and 1, got 0.0"),
        ({"substep": "rk5"}, ValueError, "unknown substep"),
        ({"rtol": -1.0}, ValueError, "rtol"),
    ],
)
def test_errors_of_options(cls, options, error, text):
    with pytest.raises(error, match=text):
        cls(**options)


@every_class
def test_options_are_shown(cls):
    assert repr(cls()) == f"{cls.__name__}()"
    assert "power=2" in repr(cls(power=2))
    assert cls().order == 1 and not cls.keeps_symmetry


# ---- what the interpolatory methods converge to ----------------------------------------------------------------


def interpolated_flow(F, Y0, t1, steps):
    """Ẏ = P̃(Y) F(t, Y) by the classical scheme on dense arrays, indices chosen anew at every evaluation."""
    r, Y, h = Y0.rank, Y0.to_dense(), t1 / steps

    def nearest(Y):
        U, s, Vh = svd(Y)
        return U[:, :r], s[:r], H(Vh[:r])

    def slope(t, Y):
        U, s, V = nearest(Y)
        Z, p, q = F(t, (U * s) @ H(V)), qdeim(U), qdeim(V)
        left, right = U @ inv(U[p]), V @ inv(V[q])
        return left @ Z[p] + (Z[:, q] - left @ Z[np.ix_(p, q)]) @ H(right)

    for i in range(steps):
        t = i * h
        k1 = slope(t, Y)
        k2 = slope(t + h / 2, Y + h / 2 * k1)
        k3 = slope(t + h / 2, Y + h / 2 * k2)
        U, s, V = nearest(Y + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(t + h, Y + h * k3)))
        Y = (U * s) @ H(V)
    return Y


@pytest.mark.parametrize(("dtype", "seed"), [("float64", 1), ("complex128", 3)])
def test_interpolatory_runge_kutta_converges_to_the_interpolated_flow(dtype, seed):
    """With a normal component of order one, from seeds for which the indices stay; where they change, the flow has a
    kink."""
    problem = Rotating(16, 14, 0.5 ** np.arange(3), dtype, seed=seed)
    E = normal(np.random.default_rng(13), (16, 14), dtype)

    def F(t, Y):
        return problem.F(t, Y) + np.cos(5 * t) * E / norm(E)

    flow, steps = interpolated_flow(F, problem.state(), 0.1, 100), (2, 4, 8)
    ends = [
        dlra.solve(F, (0, 0.1), problem.state(), InterpolatoryRungeKutta(), dt=0.1 / n).y[-1] for n in steps
    ]
    found = [norm(end.to_dense() - flow) for end in ends]
    assert found[-1] < 1e-6 and slopes(steps, found)[-1] > 3.5


def test_cur_stays_near_the_best_approximation():
    """The full solution, not a projected flow: with a normal component the error is a multiple of the best one."""
    A = Moving(20, 18, 2)
    Y0 = A.state(0.0).truncate(max_rank=2)
    F = factored(lambda t, Y: 1e-2 * A.rate(t))
    exact = Y0.to_dense() + 1e-2 * (A(1.0) - A(0.0))
    best = norm(svd(exact)[1][2:])
    end = dlra.solve(F, (0, 1), Y0, InterpolatoryCUR(), dt=0.1).y[-1].to_dense()
    assert best < norm(end - exact) < 20 * best
    rich = dlra.solve(F, (0, 1), Y0, InterpolatoryCUR(rtol=1e-10), dt=0.1).y[-1]
    assert 4 <= rich.rank <= 6 and relative_error(rich, exact) < 1e-8
