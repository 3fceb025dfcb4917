"""Integrators built on explicit Runge-Kutta schemes: projected, step truncation, BUG, interpolatory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from helpers import (
    M,
    N,
    R,
    dense,
    eps,
    normal,
    orthonormality,
    random_lowrank,
    random_orthonormal,
    relative_error,
)
from manufactured import Moving, Rotating, projected_flow, slopes
from numpy.linalg import inv, norm, qr, svd
from scipy.linalg import expm

import dlra
from dlra import LowRank, SemiLinear, factored
from dlra.field import Field
from dlra.integrators import Ask, drive
from dlra.integrators.augmented_bug import AugmentedBUG
from dlra.integrators.interpolatory_cur import InterpolatoryCUR
from dlra.integrators.interpolatory_runge_kutta import InterpolatoryRungeKutta
from dlra.integrators.parallel_bug import ParallelBUG
from dlra.integrators.projected_runge_kutta import ProjectedRungeKutta
from dlra.integrators.runge_kutta_bug import RungeKuttaBUG
from dlra.integrators.step_truncation import StepTruncation
from dlra.sampling import qdeim
from dlra.substeps import TABLEAUX, Tableau, tableau

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

CLASSES = (
    ProjectedRungeKutta,
    StepTruncation,
    RungeKuttaBUG,
    InterpolatoryRungeKutta,
    InterpolatoryCUR,
)
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
symmetric_class = pytest.mark.parametrize("cls", CLASSES[:-1], ids=lambda cls: cls.name)

FULL = Tableau(((), (0.4,), (0.9, -0.2), (0.3, 0.2, 0.4)), (0.1, 0.2, 0.3, 0.4), 1, (0.1, -0.2, 0.3, -0.2))
"""A scheme of low order in which no coefficient is zero, so that none can be left out unseen."""


# ---- tableaux --------------------------------------------------------------------------------------------------


def weights_satisfy(scheme, b, order):
    """The order conditions of all rooted trees of up to four nodes, and of the bushy tree of five."""
    s = len(scheme.b)
    A = np.array([[*row, *[0.0] * (s - len(row))] for row in scheme.a])
    b, c = np.array(b), A.sum(axis=1)
    conditions = [
        (1, np.ones(s), 1),
        (2, c, 1 / 2),
        (3, c**2, 1 / 3),
        (3, A @ c, 1 / 6),
        (4, c**3, 1 / 4),
        (4, c * (A @ c), 1 / 8),
        (4, A @ c**2, 1 / 12),
        (4, A @ A @ c, 1 / 24),
        (5, c**4, 1 / 5),
    ]
    return all(abs(b @ v - value) < 1e-14 for k, v, value in conditions if k <= order)


@pytest.mark.parametrize("name", TABLEAUX)
def test_tableaux_have_their_order_and_embed_a_lower_one(name):
    scheme = tableau(name)
    assert weights_satisfy(scheme, scheme.b, scheme.order)
    assert not weights_satisfy(scheme, scheme.b, scheme.order + 1) or scheme.order == 5
    assert scheme.c == pytest.approx([sum(row) for row in scheme.a])
    if scheme.error is not None:
        embedded = np.subtract(scheme.b, scheme.error)
        assert weights_satisfy(scheme, embedded, scheme.order - 1)
        assert not weights_satisfy(scheme, embedded, scheme.order)


def test_names_of_tableaux_and_their_forms():
    assert set(TABLEAUX) >= {"rk4", "heun3", "heun2", "euler"}
    assert ProjectedRungeKutta().scheme is tableau("rk4")
    ragged = Tableau(((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), 3, (1 / 4, -1 / 2, 1 / 4))
    square = Tableau(
        np.array([[0, 0, 0], [1 / 3, 0, 0], [0, 2 / 3, 0]]),
        np.array([1 / 4, 0, 3 / 4]),
        np.int64(3),
        [1 / 4, -1 / 2, 1 / 4],
    )
    assert ragged == square == tableau("heun3")
    assert hash(ragged) == hash(square)
    assert tableau(square) is square
    assert all(type(x) is float for x in (*square.b, *square.c, *square.a[2]))
    assert "array" not in repr(square)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: tableau("rk5"), ValueError, "unknown tableau 'rk5'; known are rk4, heun3"),
        (lambda: tableau(4), TypeError, "tableau must be one of rk4.*got 4"),
        (lambda: Tableau([[0.5]], [1.0], 2), ValueError, "implicit.*only explicit"),
        (lambda: Tableau(np.eye(2) / 2, [0.5, 0.5], 2), ValueError, "implicit"),
        (lambda: Tableau([[0, 1], [0, 0]], [0.5, 0.5], 2), ValueError, "implicit"),
        (lambda: Tableau([[], [1.0]], [0.5, 0.4], 2), ValueError, "sum to 1, got 0.9"),
        (
            lambda: Tableau([[], [1.0, 0.0, 0.0]], [0.5, 0.5], 2),
            ValueError,
            "rows of lengths .0, 3. and 2 weights",
        ),
        (lambda: Tableau([[], [1.0]], [1.0], 2), ValueError, "one weight"),
        (
            lambda: Tableau([[], [1.0]], [0.5, 0.5], 0),
            ValueError,
            "order of a Tableau must be at least 1, got 0",
        ),
        (lambda: Tableau([[], [1.0]], [0.5, 0.5], 2.0), TypeError, "order of a Tableau must be an int"),
        (lambda: Tableau([[], [math.nan]], [0.5, 0.5], 2), ValueError, "finite"),
        (lambda: Tableau([[], ["x"]], [0.5, 0.5], 2), TypeError, "a\\[1\\].*numbers"),
        (lambda: Tableau(3, [0.5, 0.5], 2), TypeError, "matrix"),
        (lambda: Tableau([[], [1.0]], [0.5, 0.5], 2, (0.5, 0.5)), ValueError, "sum 0"),
        (lambda: Tableau([[], [1.0]], [0.5, 0.5], 2, (0.0,)), ValueError, "2 stages"),
        (lambda: ProjectedRungeKutta("rk5"), ValueError, "unknown tableau"),
        (lambda: RungeKuttaBUG(rtol=-1.0), ValueError, "rtol"),
        (lambda: InterpolatoryCUR(oversampling=-1), ValueError, "oversampling must not be negative"),
        (lambda: InterpolatoryRungeKutta(oversampling=0.5), TypeError, "oversampling must be an int"),
    ],
)
def test_errors_of_tableaux_and_options(make, error, text):
    with pytest.raises(error, match=text):
        make()


@every_class
def test_options_are_shown_and_identify_the_method(cls):
    assert repr(cls()) == f"{cls.__name__}()"
    assert repr(cls("heun2", rtol=0.1)) == f"{cls.__name__}(rtol=0.1, tableau='heun2')"
    assert "tableau=heun2" in cls("heun2").identity().replace("'", "")
    assert cls("heun2").order == 2 and cls().order == 4 and cls(FULL).order == 1


# ---- the boxes of the papers, transcribed for dense arrays -----------------------------------------------------


def H(A):
    return A.conj().T


def best(A, r):
    U, s, Vh = svd(A)
    return U[:, :r], np.diag(s[:r]), H(Vh[:r])


def full(U, S, V):
    return U @ S @ H(V)


def projected(U, V, F):
    return U @ (H(U) @ F) + (F - U @ (H(U) @ F)) @ V @ H(V)


class Kept:
    """QDEIM indices, kept while U[p] has half the smallest singular value that it had when they were chosen."""

    def __init__(self):
        self.bound = math.inf

    def __call__(self, U):
        if not self.bound < math.inf or svd(U[self.p])[1][-1] < self.bound:
            self.p = qdeim(U)
            self.bound = svd(U[self.p])[1][-1] / 2
        return self.p


def interpolation():
    rows, columns = Kept(), Kept()

    def interpolated(U, V, F):
        p, q = rows(U), columns(V)
        Mu, Mv = U @ inv(U[p]), V @ inv(V[q])
        return Mu @ F[p] + (F[:, q] - Mu @ F[np.ix_(p, q)]) @ H(Mv)

    return interpolated


def projection_box(projection):
    def box(F, t, h, Y, scheme):
        Y0, r, Z, project, Yi = full(*Y), Y[1].shape[0], [], projection(), Y
        for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
            if i:
                Yi = best(Y0 + h * sum(a * z for a, z in zip(row, Z, strict=True)), r)
            U, _, V = Yi
            Z.append(project(U, V, F(t + c * h, full(*Yi))))
        return full(*best(Y0 + h * sum(b * z for b, z in zip(scheme.b, Z, strict=True)), r))

    return box


def orth(*blocks):
    U, s, _ = svd(np.hstack(blocks), full_matrices=False)
    return U[:, s > 1e-11 * s[0]]


def bug_box(F, t, h, Y, scheme):
    Y0, K, Us, Vs = full(*Y), [], [Y[0]], [Y[2]]

    def galerkin(weights):
        U, V = orth(*Us), orth(*Vs)
        G = Y0 + h * sum((w * k for w, k in zip(weights, K, strict=True)), 0 * Y0)
        return best(U @ H(U) @ G @ V @ H(V), Y[1].shape[0])

    for c, row in zip(scheme.c, scheme.a, strict=True):
        U, S, V = galerkin(row)
        K.append(F(t + c * h, full(U, S, V)))
        Us += [U, K[-1] @ V]
        Vs += [V, H(K[-1]) @ U]
    return full(*galerkin(scheme.b))


def cur_box(F, t, h, Y, scheme):
    Y0, q, p_of, K = full(*Y), qdeim(Y[2]), Kept(), []

    def cur(weights):
        G = Y0 + h * sum(w * k for w, k in zip(weights, K, strict=True))
        Q = qr(G[:, q])[0]
        p = p_of(Q)
        return Q @ inv(Q[p]) @ G[p]

    for i, (c, row) in enumerate(zip(scheme.c, scheme.a, strict=True)):
        K.append(F(t + c * h, cur(row) if i else Y0))
    return cur(scheme.b)


BOXES = {
    ProjectedRungeKutta: (ProjectedRungeKutta(FULL), projection_box(lambda: projected)),
    StepTruncation: (StepTruncation(FULL), projection_box(lambda: lambda U, V, F: F)),
    RungeKuttaBUG: (RungeKuttaBUG(FULL), bug_box),
    InterpolatoryRungeKutta: (InterpolatoryRungeKutta(FULL), projection_box(interpolation)),
    InterpolatoryCUR: (InterpolatoryCUR(FULL, oversampling=0), cur_box),
}


def nonlinear(rng, m, n, dtype):
    """A field that depends on t and Y in every way that a method could get wrong; entrywise nonlinear."""
    B, C, Q = normal(rng, (m, m), dtype) / 3, normal(rng, (n, n), dtype) / 3, normal(rng, (m, n), dtype)
    return lambda t, Y: np.cos(3 * t) * B @ Y + Y @ C * t + np.sin(t) * Q + 0.3 * Y * Y


@every_class
@pytest.mark.parametrize("h", [0.02, -0.03])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(25, 21, 3), (21, 25, 3), (20, 20, 3), (5, 6, 4)], ids=str)
def test_a_step_is_the_box_in_the_paper(cls, shape, dtype, h):
    rng = np.random.default_rng(1)
    F, Y0 = nonlinear(rng, *shape[:2], dtype), random_lowrank(rng, *shape, dtype)
    method, box = BOXES[cls]
    for scheme in (FULL, tableau("heun3")):
        expected = box(F, 0.4, h, Y0.factors, scheme)
        assert relative_error(dlra.step(F, 0.4, h, Y0, replace(method, tableau=scheme)), expected) < 2e-12
        assert relative_error(expected, Y0) > 1e-3


@every_class
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_factored_and_plain_fields_agree(cls, dtype):
    rng = np.random.default_rng(2)
    Y0, A, C = (
        random_lowrank(rng, M, N, R, dtype),
        normal(rng, (M, M), dtype),
        random_lowrank(rng, M, N, 2, dtype),
    )
    plain = dlra.step(lambda t, Y: A @ Y + np.cos(t) * C.to_dense(), 0.3, 0.1, Y0, cls())
    low = dlra.step(factored(lambda t, Y: A @ Y + float(np.cos(t)) * C), 0.3, 0.1, Y0, cls())
    assert relative_error(low, plain) < 1e-12
    assert low.rank == R and max(orthonormality(low.U), orthonormality(low.V)) < 1e-14


@every_class
def test_evaluations_and_their_order(cls):
    Y0 = random_lowrank(np.random.default_rng(3), M, N, R)
    field = Field(lambda t, Y: Y + t, (Y0,))
    asks: list[Ask] = []

    def evaluate(ask):
        asks.append(ask)
        return field(ask.t, ask.Ys)

    Ys = (Y0,)
    drive(cls("heun3").step(2.0, 0.3, Ys, field), evaluate)
    assert [ask.stage for ask in asks] == ["start", "stage 2", "stage 3"]
    assert [ask.t for ask in asks] == pytest.approx([2.0, 2.1, 2.2])
    assert asks[0].Ys is Ys
    assert all(ask.Ys[0].rank == R for ask in asks)


# ---- order -----------------------------------------------------------------------------------------------------


def errors(method, problem, steps, **start):
    exact, Y0 = problem(1.0), problem.state(**start)
    return [norm(dlra.solve(problem.F, (0, 1), Y0, method, dt=1 / n).y[-1].to_dense() - exact) for n in steps]


@every_class
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", TABLEAUX)
def test_order_where_the_solution_has_rank_r(cls, name, dtype):
    """The BUG bases differ from stage to stage, which costs a scheme of order 5 one order."""
    order = min(tableau(name).order, 4 if cls is RungeKuttaBUG else 5)
    problem, steps = Rotating(16, 14, 0.5 ** np.arange(3), dtype), (8, 16) if order < 5 else (16, 32)
    slope = slopes(steps, errors(cls(name), problem, steps))[-1]
    assert order - 0.3 < slope < order + 0.6


@pytest.mark.parametrize("name", ["heun2", "heun3", "rk4"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_projected_methods_keep_their_order_for_the_projected_flow(name, dtype):
    """With a normal component of order one; step truncation and BUG methods converge to it with order 1."""
    rng = np.random.default_rng(4)
    m, n, r = 12, 10, 2
    A, B, Q = (normal(rng, shape, dtype) for shape in ((m, m), (n, n), (m, n)))
    Y0 = random_lowrank(rng, m, n, r, dtype)

    def F(t, Y):
        return (A @ Y + Y @ B) / 4 + np.cos(2 * t) * Q / 4

    flow, steps = projected_flow(F, Y0.to_dense(), r, 0, 0.4, 400), (4, 8, 16)

    def convergence(cls):
        ends = [dlra.solve(F, (0, 0.4), Y0, cls(name), dt=0.4 / k).y[-1].to_dense() for k in steps]
        return slopes(steps, [norm(end - flow) for end in ends])[-1]

    assert abs(convergence(ProjectedRungeKutta) - tableau(name).order) < 0.35
    assert 0.7 < convergence(StepTruncation) < 1.5
    assert 0.7 < convergence(RungeKuttaBUG) < 1.5


@every_class
@pytest.mark.parametrize("name", [name for name in TABLEAUX if name != "euler"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_nodes_of_a_field_that_depends_on_time_only(cls, name, dtype):
    """X' = t W has the solution X₀ + t²/2 W, exact for order 2; W is tangent at X₀."""
    rng = np.random.default_rng(5)
    Y0 = random_lowrank(rng, M, N, R, dtype)
    W = LowRank(Y0.U, normal(rng, (R, R), dtype), Y0.V)
    Y1 = dlra.step(factored(lambda t, Y: t * W), 0.0, 0.8, Y0, cls(name))
    assert relative_error(Y1, Y0 + 0.32 * W) < 1e-13


@pytest.mark.parametrize("cls", [StepTruncation, RungeKuttaBUG], ids=lambda cls: cls.name)
@pytest.mark.parametrize("sigma", [1e-1, 1e-6, 1e-12])
def test_small_singular_values_do_no_harm(cls, sigma):
    problem, steps = Rotating(16, 14, np.geomspace(1, sigma, 4)), (8, 16)
    found = errors(cls(), problem, steps)
    assert found[-1] < 2e-5 and slopes(steps, found)[-1] > 3.7
    assert errors(cls(), problem, (16,), extra=2)[0] < 2e-5


@every_class
def test_runs_backward(cls):
    problem = Rotating(16, 14, 0.5 ** np.arange(3))
    back = dlra.solve(problem.F, (1, 0), problem.state(1.0), cls(), dt=1 / 16).y[-1]
    assert relative_error(back, problem(0.0)) < 1e-4


# ---- identities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(12, 9, 3), (9, 9, 4), (5, 6, 4)], ids=str)
def test_euler_identities(shape, dtype):
    """One-stage RK-BUG is the augmented BUG with Euler substeps, one-stage projected RK the parallel BUG."""
    rng = np.random.default_rng(6)
    F, Y0, h = nonlinear(rng, *shape[:2], dtype), random_lowrank(rng, *shape, dtype), 0.2
    bug, augmented = (
        dlra.step(F, 0.1, h, Y0, m) for m in (RungeKuttaBUG("euler"), AugmentedBUG(substep="euler"))
    )
    assert relative_error(bug, augmented) < 1e-13
    projected_step = dlra.step(F, 0.1, h, Y0, ProjectedRungeKutta("euler"))
    U, _, V = Y0.factors
    expected = best(Y0.to_dense() + h * projected(U, V, F(0.1, Y0.to_dense())), shape[2])
    assert relative_error(projected_step, full(*expected)) < 1e-13
    assert relative_error(projected_step, dlra.step(F, 0.1, h, Y0, ParallelBUG(substep="euler"))) < 1e-13


@symmetric_class
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("options", [{}, {"rtol": 1e-3, "max_rank": 6}], ids=str)
def test_one_side_stands_for_both(cls, dtype, options):
    rng = np.random.default_rng(7)
    A, C, Q = (
        normal(rng, (M, M), dtype) / 3,
        normal(rng, (M, 2), dtype) / 3,
        random_orthonormal(rng, M, R, dtype),
    )
    S = np.diag([1.0, -0.5, 0.2]).astype(dtype)

    def function(t, Y):
        return A @ Y + Y @ H(A) + float(np.cos(t)) * LowRank(C, None, C)

    def one_step(Y, symmetric):
        field, method = Field(factored(function, symmetric=symmetric), (Y,)), cls("bs3", **options)
        return drive(
            method.step(0.2, 0.05, method.prepared((Y,), field), field), lambda ask: field(ask.t, ask.Ys)
        )

    one, two = one_step(LowRank(Q, S, Q), True), one_step(LowRank(Q, S, Q.copy()), False)
    assert one.Ys[0].V is one.Ys[0].U and two.Ys[0].V is not two.Ys[0].U
    assert np.array_equal(one.Ys[0].S, H(one.Ys[0].S))
    assert relative_error(one.Ys[0], two.Ys[0]) < 1e-12
    assert one.error == pytest.approx(two.error) and one.discarded == pytest.approx(two.discarded, rel=1e-6)
    assert one.normal == pytest.approx(two.normal, nan_ok=True)
    plain = Field(lambda t, Y: A @ Y + Y @ H(A) + C @ H(C), (one.Ys[0],))
    again = drive(cls("heun2").step(0, 0.1, one.Ys, plain), lambda ask: plain(ask.t, ask.Ys))
    assert again.Ys[0].V is again.Ys[0].U
    assert relative_error(again.Ys[0].H, again.Ys[0]) < 1e-14


# ---- what a step reports ---------------------------------------------------------------------------------------


@every_class
@pytest.mark.parametrize(("name", "power"), [("heun2", 2), ("heun3", 3), ("bs3", 3), ("dopri5", 5)])
def test_embedded_estimate_of_the_local_error(cls, name, power):
    problem = Rotating(16, 14, 0.5 ** np.arange(3))
    field, found = Field(problem.F, (problem.state(),)), []
    for h in (0.1, 0.05):
        steps = cls(name).step(0.0, h, (problem.state(),), field)
        found.append(drive(steps, lambda ask: field(ask.t, ask.Ys)).error)
    assert found[0] > 0 and abs(np.log2(found[0] / found[1]) - power) < 0.5


@every_class
def test_no_estimate_without_embedded_scheme(cls):
    problem = Rotating(16, 14, 0.5 ** np.arange(3))
    field = Field(problem.F, (problem.state(),))
    result = drive(cls().step(0.0, 0.1, (problem.state(),), field), lambda ask: field(ask.t, ask.Ys))
    assert math.isnan(result.error)


@pytest.mark.parametrize("form", ["factored", "plain", "sparse"])
@pytest.mark.parametrize("cls", [StepTruncation, RungeKuttaBUG], ids=lambda cls: cls.name)
def test_normal_component_and_discarded_norm(cls, form):
    rng = np.random.default_rng(8)
    Y0, G = random_lowrank(rng, M, N, R, "complex128"), random_lowrank(rng, M, N, 5, "complex128")
    U, _, V = Y0.factors
    D = G.to_dense()
    F = {
        "factored": factored(lambda t, Y: G),
        "plain": lambda t, Y: D,
        "sparse": factored(lambda t, Y: scipy.sparse.csr_array(D)),
    }[form]
    field = Field(F, (Y0,))
    result = drive(cls("heun2").step(0.0, 0.1, (Y0,), field), lambda ask: field(ask.t, ask.Ys))
    expected = norm((np.eye(M) - U @ H(U)) @ D @ (np.eye(N) - V @ H(V)))
    if cls is StepTruncation:
        assert result.normal == pytest.approx(expected)
        assert result.discarded == pytest.approx(norm(svd(Y0.to_dense() + 0.1 * D)[1][R:]))
    else:  # what the bases see of it
        assert 0 < result.normal < expected * (1 + 1e-12)


# ---- rank ------------------------------------------------------------------------------------------------------


@every_class
def test_rank_options(cls):
    """A tolerance lets the rank rise and fall; max_rank caps it, and all stages too."""
    rng = np.random.default_rng(9)
    U, V = random_orthonormal(rng, 20, 8), random_orthonormal(rng, 18, 8)
    Y0 = LowRank(U[:, :4].copy(), np.diag([1.0, 0.5, 1e-7, 1e-8]), V[:, :4].copy())
    F = factored(
        lambda t, Y: LowRank(U[:, 4:6], np.eye(2), V[:, 4:6]) + LowRank(U[:, :2], np.eye(2), V[:, 4:6])
    )
    seen = []

    def spy(t, Y):
        seen.append(Y.rank)
        return F(t, Y)

    def rank(**options):
        seen.clear()
        return dlra.solve(factored(spy), (0, 1), Y0, cls("heun2", **options), dt=0.25).y[-1].rank

    assert rank() == 4 and set(seen) == {4}
    assert rank(rtol=1e-3) == 4 or cls is InterpolatoryRungeKutta
    assert rank(rtol=0.9) == 1
    assert rank(rtol=1e-3, min_rank=3) >= 3
    assert rank(rtol=1e-3, max_rank=1) == 1 and max(seen[1:]) == 1
    assert rank(max_rank=3) == 3 and max(seen[1:]) == 3
    assert rank(max_rank=6) <= 6


@pytest.mark.parametrize("cls", [StepTruncation, RungeKuttaBUG, InterpolatoryCUR], ids=lambda cls: cls.name)
def test_rank_follows_the_solution(cls):
    """The rank of A(t) grows from 2 to 4; the error stays near the tolerance."""
    A = Moving(20, 18, 4)
    Y0 = A.state(0.0).truncate(max_rank=2)
    shift = Y0 - A.state(0.0)
    run = dlra.solve(factored(lambda t, Y: A.rate(t) - shift), (0, 1), Y0, cls(rtol=1e-8), dt=0.1)
    assert run.y[0].rank == 2 and 4 <= run.y[-1].rank <= 6
    assert relative_error(run.y[-1], A(1.0)) < 1e-5


# ---- arrays, systems, fields -----------------------------------------------------------------------------------


@every_class
def test_every_library_and_dtype(cls, typed_library):
    library, dtype = typed_library
    rng = np.random.default_rng(10)
    Y0, B = random_lowrank(rng, M, N, R, dtype, library), normal(rng, (M, M), dtype) / 3
    A = library.asarray(B)
    Y1 = dlra.step(factored(lambda t, Y: dlra.matmul(A, Y) + (0.5 * t) * Y), 0.1, 0.1, Y0, cls("heun2"))
    assert all(library.owns(a) and str(a.dtype).endswith(dtype) for a in Y1.factors)
    assert max(orthonormality(Y1.U), orthonormality(Y1.V)) < 20 * eps(dtype)
    start = LowRank(*(library.to_numpy(a).astype("complex128") for a in Y0.factors))
    expected = dlra.step(
        factored(lambda t, Y: B.astype("complex128") @ Y + (0.5 * t) * Y), 0.1, 0.1, start, cls("heun2")
    )
    assert relative_error(Y1, expected) < 100 * eps(dtype)


@every_class
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_small_steps_in_single_precision(cls, dtype):
    """Increments keep their digits when h is small: measured relative to h."""
    rng = np.random.default_rng(11)
    Y0, G = random_lowrank(rng, M, N, R, dtype), random_lowrank(rng, M, N, R, dtype)
    G = LowRank(Y0.U, G.S, G.V) + LowRank(G.U, G.S, Y0.V)
    h = 1e-3
    Y1 = dlra.step(factored(lambda t, Y: G), 0.0, h, Y0, cls())
    change = (dense(Y1).astype("complex128") - dense(Y0)) / h
    assert norm(change - dense(G)) < 2e-2 * norm(dense(G))


@every_class
def test_coupled_systems(cls):
    """Two LowRank members and a dense one, advanced by one scheme; order 4 for all of them."""
    rng = np.random.default_rng(12)
    A, B = normal(rng, (M, M), "complex128") / 4, normal(rng, (N, N), "complex128") / 4
    Y0 = [
        random_lowrank(rng, M, N, R, "complex128"),
        np.ones((2, 1)),
        random_lowrank(rng, N, M, 2, "complex128"),
    ]

    def F(t, Ys):
        X, b, Z = Ys
        return [A @ X + float(b[0, 0]) * X, -t * b, B @ Z - float(b[1, 0]) * Z]

    integral = math.sqrt(math.pi / 2) * math.erf(1 / math.sqrt(2))  # of exp(-t²/2), the dense member
    exact = [
        expm(A + integral * np.eye(M)) @ Y0[0].to_dense(),
        math.exp(-0.5) * Y0[1],
        expm(B - integral * np.eye(N)) @ Y0[2].to_dense(),
    ]
    found = []
    for steps in (8, 16):
        ends = dlra.solve(factored(F), (0, 1), Y0, cls(), dt=1 / steps).y[-1]
        assert [end.rank for end in (ends[0], ends[2])] == [R, 2]
        found.append([norm(dense(a) - b) for a, b in zip(ends, exact, strict=True)])
    assert np.all(slopes((8, 16), np.array(found)) > 3.7)
    plain = dlra.solve(lambda t, Ys: F(t, Ys), (0, 1), Y0, cls(), dt=1 / 8).y[-1]
    low = dlra.solve(factored(F), (0, 1), Y0, cls(), dt=1 / 8).y[-1]
    assert all(relative_error(a, b) < 1e-12 for a, b in zip(plain, low, strict=True))


@every_class
def test_rank_options_per_member(cls):
    rng = np.random.default_rng(13)
    Y0 = [random_lowrank(rng, M, N, 4), random_lowrank(rng, N, M, 3)]
    run = dlra.solve(
        factored(lambda t, Ys: [-Y for Y in Ys]), (0, 0.2), Y0, cls("heun2", max_rank=(2, None)), dt=0.1
    )
    assert [Y.rank for Y in run.y[-1]] == [2, 3]


@every_class
def test_semilinear_fields(cls):
    """The linear part is included in every product and sample."""
    rng = np.random.default_rng(14)
    A, B, C = normal(rng, (M, M)) / 3, normal(rng, (N, N)) / 3, random_lowrank(rng, M, N, 1)
    Y0, E = random_lowrank(rng, M, N, R), np.diag(1.0 + np.arange(M) / M)
    for field, function in (
        (SemiLinear(A, B, C), lambda t, Y: A @ Y + Y @ B + C),
        (SemiLinear(A, B), lambda t, Y: A @ Y + Y @ B),
        (SemiLinear(A, None, factored(lambda t, Y: t * Y), E=E), lambda t, Y: inv(E) @ A @ Y + t * Y),
    ):
        with_linear, without = (dlra.step(F, 0.2, 0.1, Y0, cls()) for F in (field, factored(function)))
        assert relative_error(with_linear, without) < 1e-12


def test_only_a_few_rows_and_columns_are_asked_for():
    """A value that knows nothing but its rows and columns is enough for the interpolatory methods."""
    rng = np.random.default_rng(15)
    Y0, asked = random_lowrank(rng, 40, 30, R), []

    class Sampled:
        shape, dtype = (40, 30), np.dtype("float64")

        def __init__(self, Y):
            self._Y = Y

        def rows(self, p):
            asked.append(len(p))
            return np.sin(self._Y[p, :].to_dense())

        def columns(self, q):
            asked.append(len(q))
            return np.sin(self._Y[:, q].to_dense())

    for method, most in (
        (InterpolatoryRungeKutta(), R),
        (InterpolatoryRungeKutta(oversampling=2), R + 2),
        (InterpolatoryCUR(), R + 5),
        (InterpolatoryCUR(oversampling=0), R),
    ):
        asked.clear()
        field = Field(lambda t, Y: np.sin(Y), (Y0,))
        Y1 = drive(method.step(0.0, 0.1, (Y0,), field), lambda ask: (Sampled(ask.Ys[0]),)).Ys[0]
        assert relative_error(Y1, dlra.step(lambda t, Y: np.sin(Y), 0.0, 0.1, Y0, method)) < 1e-13
        assert max(asked) == most


# ---- the limits that the docstrings name -----------------------------------------------------------------------


def test_projected_methods_lose_their_order_from_a_start_of_lower_rank():
    """Zero singular values: the tangent space misses directions. Step truncation and BUG methods do not mind."""
    rng, steps = np.random.default_rng(16), (8, 16)
    start, B = random_lowrank(rng, 16, 14, 2).to_dense(), random_lowrank(rng, 16, 14, 4).to_dense()
    Y0, exact = LowRank.from_dense(start, rank=6), np.e * start + (np.e - 1) * B

    def convergence(cls):
        ends = [dlra.solve(lambda t, Y: Y + B, (0, 1), Y0, cls(), dt=1 / n).y[-1].to_dense() for n in steps]
        return slopes(steps, [norm(end - exact) for end in ends])[-1]

    assert convergence(ProjectedRungeKutta) < 2
    assert convergence(StepTruncation) > 3.7


@pytest.mark.parametrize("epsilon", [1e-1, 1e-3])
def test_interpolated_flow_differs_from_the_projected_one_by_the_normal_component(epsilon):
    problem = Rotating(16, 14, 0.5 ** np.arange(3))
    E = normal(np.random.default_rng(18), (16, 14))
    E /= norm(E)

    def F(t, Y):
        return problem.F(t, Y) + epsilon * np.cos(5 * t) * E

    flow = projected_flow(F, problem.state().to_dense(), 3, 0, 1, 200)
    end = dlra.solve(F, (0, 1), problem.state(), InterpolatoryRungeKutta(), dt=1 / 32).y[-1]
    distance = norm(end.to_dense() - flow)
    assert 1e-2 * epsilon < distance < 10 * epsilon
    finer = dlra.solve(F, (0, 1), problem.state(), InterpolatoryRungeKutta(), dt=1 / 64).y[-1]
    assert norm((end - finer).to_dense()) < 0.2 * distance


def test_step_truncation_takes_whole_values_only():
    rng = np.random.default_rng(19)
    Y0, G, D = random_lowrank(rng, M, M, R), random_lowrank(rng, M, M, 2), normal(rng, (M, M))
    S = scipy.sparse.csr_array(np.diag(np.arange(1.0, M + 1)))
    expected = dlra.step(lambda t, Y: Y + S.toarray() + D + 2 * G.to_dense(), 0.0, 0.1, Y0, StepTruncation())
    mixed = dlra.step(factored(lambda t, Y: Y + S + D + 2 * G), 0.0, 0.1, Y0, StepTruncation())
    assert relative_error(mixed, expected) < 1e-13
    operator = scipy.sparse.linalg.aslinearoperator(S)
    for F in (lambda t, Y: operator, lambda t, Y: Y + operator, lambda t, Y: 2 * (G - operator)):
        field = Field(factored(F), (Y0,))
        with pytest.raises(TypeError, match="needs F\\(t, Y\\) whole.*LinearOperator.*ProjectedRungeKutta"):
            drive(
                StepTruncation().step(0.0, 0.1, (Y0,), field), lambda ask, field=field: field(ask.t, ask.Ys)
            )
        assert dlra.step(factored(F), 0.0, 0.01, Y0, ProjectedRungeKutta()).rank == R


def test_step_truncation_of_low_rank_values_never_forms_a_matrix():
    """200 000 x 150 000 would be 240 GB."""
    rng = np.random.default_rng(20)
    U, V = random_orthonormal(rng, 200_000, 2), random_orthonormal(rng, 150_000, 2)
    Y0 = LowRank(U, np.diag([1.0, 0.5]), V)
    for cls in (
        StepTruncation,
        ProjectedRungeKutta,
        RungeKuttaBUG,
        InterpolatoryRungeKutta,
        InterpolatoryCUR,
    ):
        Y1 = dlra.step(factored(lambda t, Y: -1.0 * Y), 0.0, 0.1, Y0, cls("euler"))
        assert (Y1 - 0.9 * Y0).norm() < 1e-12


@every_class
def test_values_that_are_not_finite_are_labelled_with_their_stage(cls):
    Y0 = random_lowrank(np.random.default_rng(21), M, N, R)

    def F(t, Y):
        return Y * (math.nan if t > 0 else 1.0)

    with pytest.raises(dlra.SolveError, match="stage stage 2|stage 2.*NaN"):
        dlra.step(F, 0.0, 0.1, Y0, cls())
