"""The integrators against their boxes in the papers, over all array libraries, for systems, and as a protocol."""

from __future__ import annotations

import functools
import math
import types
import warnings
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import (
    DTYPES,
    M,
    N,
    R,
    dense,
    eps,
    get_library,
    is_complex,
    normal,
    orthonormality,
    random_lowrank,
    random_orthonormal,
    relative_error,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from manufactured import bits
from numpy.linalg import norm, qr, svd

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
    SolveError,
    factored,
    substeps,
)
from dlra.field import Field, Value
from dlra.integrators import Ask, Integrator, StepResult, by_name, drive, names, together
from dlra.integrators._base import normal_component
from dlra.substeps import Adaptive

pytestmark = pytest.mark.filterwarnings("ignore:about .* is normal to the tangent space")

LIE, STRANG, JUMP = (ProjectorSplitting(order=order) for order in (1, 2, 4))
METHODS = {
    "bug": BUG(),
    "augmented": AugmentedBUG(),
    "lie": LIE,
    "strang": STRANG,
    "triple-jump": JUMP,
    "galerkin": Galerkin(),
    "parallel": ParallelBUG(),
    "midpoint-3r": MidpointBUG(),
    "midpoint-4r": MidpointBUG(bases="4r"),
    "second-3r": SecondOrderParallelBUG(bases="3r"),
    "second-4r": SecondOrderParallelBUG(),
}
REPRODUCIBLE = {"midpoint-4r": 1e-7}
"""How well two correct computations agree where columns of the bases are at rounding level."""
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


# ---- the boxes of the papers, transcribed for dense arrays -----------------------------------------------------


def H(A):
    return A.conj().T


def euler(f, t, h, X):
    return X + h * f(t, X)


def rk4(f, t, h, X):
    k1 = f(t, X)
    k2 = f(t + h / 2, X + h / 2 * k1)
    k3 = f(t + h / 2, X + h / 2 * k2)
    return X + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(t + h, X + h * k3))


def bug_box(F, t, h, U0, S0, V0, flow):
    U1 = qr(flow(lambda t, K: F(t, K @ H(V0)) @ V0, t, h, U0 @ S0))[0]
    V1 = qr(flow(lambda t, L: H(F(t, U0 @ H(L))) @ U0, t, h, V0 @ H(S0)))[0]
    start = (H(U1) @ U0) @ S0 @ H(H(V1) @ V0)
    return U1 @ flow(lambda t, S: H(U1) @ F(t, U1 @ S @ H(V1)) @ V1, t, h, start) @ H(V1)


def augmented_box(F, t, h, U0, S0, V0, flow):
    K1 = flow(lambda t, K: F(t, K @ H(V0)) @ V0, t, h, U0 @ S0)
    L1 = flow(lambda t, L: H(F(t, U0 @ H(L))) @ U0, t, h, V0 @ H(S0))
    U, V = qr(np.hstack([K1, U0]))[0], qr(np.hstack([L1, V0]))[0]
    start = (H(U) @ U0) @ S0 @ H(H(V) @ V0)
    P, s, Qh = svd(flow(lambda t, S: H(U) @ F(t, U @ S @ H(V)) @ V, t, h, start))
    r = S0.shape[0]
    return (U @ P[:, :r] * s[:r]) @ (Qh[:r] @ H(V))


def ksl(F, t, h, U0, S0, V0, flow):
    U1, S = qr(flow(lambda t, K: F(t, K @ H(V0)) @ V0, t, h, U0 @ S0))
    S = flow(lambda t, S: -H(U1) @ F(t, U1 @ S @ H(V0)) @ V0, t, h, S)
    V1, R = qr(flow(lambda t, L: H(F(t, U1 @ H(L))) @ U1, t, h, V0 @ H(S)))
    return U1, H(R), V1


def lsk(F, t, h, U0, S0, V0, flow):
    V1, R = qr(flow(lambda t, L: H(F(t, U0 @ H(L))) @ U0, t, h, V0 @ H(S0)))
    S = flow(lambda t, S: -H(U0) @ F(t, U0 @ S @ H(V1)) @ V1, t, h, H(R))
    U1, S1 = qr(flow(lambda t, K: F(t, K @ H(V1)) @ V1, t, h, U0 @ S))
    return U1, S1, V1


def strang(F, t, h, U, S, V, flow):
    return lsk(F, t + h / 2, h / 2, *ksl(F, t, h / 2, U, S, V, flow), flow)


def lie_box(F, t, h, U, S, V, flow):
    U, S, V = ksl(F, t, h, U, S, V, flow)
    return U @ S @ H(V)


def strang_box(F, t, h, U, S, V, flow):
    U, S, V = strang(F, t, h, U, S, V, flow)
    return U @ S @ H(V)


def jump_box(F, t, h, U, S, V, flow):
    g = 1 / (2 - 2 ** (1 / 3))
    for weight in (g, 1 - 2 * g, g):
        U, S, V = strang(F, t, weight * h, U, S, V, flow)
        t = t + weight * h
    return U @ S @ H(V)


def galerkin_box(F, t, h, U, S, V, flow):
    return U @ flow(lambda t, S: H(U) @ F(t, U @ S @ H(V)) @ V, t, h, S) @ H(V)


def nearest(U, S, V, r):
    P, s, Qh = svd(S)
    return U @ P[:, :r], np.diag(s[:r]), V @ H(Qh[:r])


def parallel_core(F, t, h, U0, S0, V0, flow, narrow=(None, None)):
    """The common part of the parallel integrators; ``narrow``: factors Û₀ᴴU* and V̂₀ᴴV* of the 3r variant."""
    K1 = flow(lambda t, K: F(t, K @ H(V0)) @ V0, t, h, U0 @ S0)
    L1 = flow(lambda t, L: H(F(t, U0 @ H(L))) @ U0, t, h, V0 @ H(S0))
    S1 = flow(lambda t, S: H(U0) @ F(t, U0 @ S @ H(V0)) @ V0, t, h, S0)
    left, right = narrow
    K2, L2 = K1 if right is None else K1 @ right, L1 if left is None else L1 @ left
    U = qr(np.hstack([U0, K2]))[0][:, U0.shape[1] :]
    V = qr(np.hstack([V0, L2]))[0][:, V0.shape[1] :]
    core = np.block([[S1, H(L1) @ V], [H(U) @ K1, np.zeros((U.shape[1], V.shape[1]))]])
    return np.hstack([U0, U]), core, np.hstack([V0, V])


def parallel_box(F, t, h, U0, S0, V0, flow):
    U, S, V = nearest(*parallel_core(F, t, h, U0, S0, V0, flow), S0.shape[0])
    return U @ S @ H(V)


def second_box(F, t, h, U0, S0, V0, flow, narrow=False):
    r, F0 = S0.shape[0], F(t, U0 @ S0 @ H(V0))
    U = np.hstack([U0, qr(np.hstack([U0, F0 @ V0]))[0][:, r:]])
    V = np.hstack([V0, qr(np.hstack([V0, H(F0) @ U0]))[0][:, r:]])
    S = H(U) @ U0 @ S0 @ H(V0) @ V
    stars = (None, None)
    if narrow:
        U_star, V_star = qr(U0 @ S0 + h / 2 * F0 @ V0)[0], qr(V0 @ H(S0) + h / 2 * H(F0) @ U0)[0]
        stars = (H(U) @ U_star, H(V) @ V_star)
    U, S, V = nearest(*parallel_core(F, t, h, U, S, V, flow, stars), r)
    return U @ S @ H(V)


def midpoint_box(F, t, h, U0, S0, V0, flow, narrow=False):
    r = S0.shape[0]
    K = flow(lambda t, K: F(t, K @ H(V0)) @ V0, t, h / 2, U0 @ S0)
    L = flow(lambda t, L: H(F(t, U0 @ H(L))) @ U0, t, h / 2, V0 @ H(S0))
    U, V = qr(np.hstack([U0, K]))[0], qr(np.hstack([V0, L]))[0]
    start = H(U) @ U0 @ S0 @ H(V0) @ V
    S = flow(lambda t, S: H(U) @ F(t, U @ S @ H(V)) @ V, t, h / 2, start)
    if narrow:
        U, S, V = nearest(U, S, V, r)
    F_m = F(t + h / 2, U @ S @ H(V))
    left, right = ([U0, U], [V0, V]) if narrow else ([U], [V])  # without truncation they contain U₀ and V₀
    U, V = qr(np.hstack([*left, F_m @ V]))[0], qr(np.hstack([*right, H(F_m) @ U]))[0]
    start = H(U) @ U0 @ S0 @ H(V0) @ V
    U, S, V = nearest(U, flow(lambda t, S: H(U) @ F(t, U @ S @ H(V)) @ V, t, h, start), V, r)
    return U @ S @ H(V)


BOXES = {
    "bug": bug_box,
    "augmented": augmented_box,
    "lie": lie_box,
    "strang": strang_box,
    "triple-jump": jump_box,
    "galerkin": galerkin_box,
    "parallel": parallel_box,
    "midpoint-3r": functools.partial(midpoint_box, narrow=True),
    "midpoint-4r": midpoint_box,
    "second-3r": functools.partial(second_box, narrow=True),
    "second-4r": second_box,
}


def nonlinear(rng, m, n, dtype):
    """A field that depends on t and Y in every way that a method could get wrong; entrywise nonlinear."""
    B, C, Q = normal(rng, (m, m), dtype) / 3, normal(rng, (n, n), dtype) / 3, normal(rng, (m, n), dtype)
    return lambda t, Y: np.cos(3 * t) * B @ Y + Y @ C * t + np.sin(t) * Q + 0.3 * Y * Y


@pytest.mark.parametrize("h", [0.1, -0.3])
@pytest.mark.parametrize("flow", [euler, rk4], ids=["euler", "rk4"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(9, 7, 3), (7, 9, 3), (8, 8, 3), (5, 6, 4), (16, 14, 3)], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_the_box_in_the_paper(name, shape, dtype, flow, h):
    rng = np.random.default_rng(1)
    F, Y0 = nonlinear(rng, *shape[:2], dtype), random_lowrank(rng, *shape, dtype)
    method = replace(METHODS[name], substep=flow.__name__)
    expected = BOXES[name](F, 0.4, h, *Y0.factors, flow)
    assert relative_error(dlra.step(F, 0.4, h, Y0, method), expected) < 1e-13
    assert relative_error(expected, Y0) > 1e-2


@pytest.mark.parametrize(
    ("name", "substep", "count"),
    [
        ("augmented", "euler", 1),
        ("augmented", "heun", 4),
        ("augmented", "rk4", 10),
        ("bug", "euler", 2),
        ("bug", "heun", 5),
        ("bug", "rk4", 11),
        ("lie", "euler", 3),
        ("lie", "rk4", 12),
        ("strang", "rk4", 24),
        ("triple-jump", "rk4", 72),
        ("galerkin", "euler", 1),
        ("galerkin", "rk4", 4),
        ("parallel", "euler", 1),
        ("parallel", "rk4", 10),
        ("midpoint-3r", "euler", 2),
        ("midpoint-3r", "rk4", 14),
        ("midpoint-4r", "heun", 6),
        ("second-3r", "heun", 4),
        ("second-4r", "euler", 1),
        ("second-4r", "rk4", 10),
    ],
)
def test_f_is_evaluated_once_per_distinct_point(name, substep, count, rng):
    calls = []
    F = factored(lambda t, Y: (calls.append(1), Y)[1])
    solution = dlra.solve(
        F, (0, 1), random_lowrank(rng, 9, 7, 2), replace(METHODS[name], substep=substep), dt=0.5
    )
    assert len(calls) == solution.nfev == 2 * count


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    rank=st.integers(1, 4),
    name=st.sampled_from(list(METHODS)),
    dtype=st.sampled_from(["float64", "complex128"]),
    h=st.floats(0.01, 0.5),
)
def test_the_step_depends_on_the_matrix_and_not_on_its_factors(seed, shape, rank, name, dtype, h):
    """Y₀ = (U P)(Pᴴ S Q)(V Q)ᴴ for unitary P and Q gives the same Y₁, with orthonormal factors."""
    rng = np.random.default_rng(seed)
    m, n, r = *shape, min(rank, *shape)
    F, Y0 = nonlinear(rng, m, n, dtype), random_lowrank(rng, m, n, r, dtype)
    P, Q = (random_orthonormal(rng, r, r, dtype) for _ in range(2))
    rotated = LowRank(Y0.U @ P, H(P) @ Y0.S @ Q, Y0.V @ Q)
    first, second = (dlra.step(F, 0.1, h, Y, METHODS[name]) for Y in (Y0, rotated))
    assert relative_error(second, first) < REPRODUCIBLE.get(name, 1e-11)
    assert orthonormality(first.U) < 1e-13 and orthonormality(first.V) < 1e-13


@every_method
def test_a_field_may_be_dense_or_factored(method, rng):
    """The same expression both ways, to rounding."""
    B, C, D = normal(rng, (12, 12)) / 3, normal(rng, (9, 9)) / 3, normal(rng, (12, 9))
    c, d = normal(rng, (12, 2)), normal(rng, (9, 2))

    def F(t, Y):
        return B @ Y + Y @ C.T + c @ d.T + math.sin(t) * D

    def G(t, Y):
        return B @ Y + Y @ C.T + LowRank(c, None, d) + math.sin(t) * D

    Y0 = random_lowrank(rng, 12, 9, 3)
    one, other, third = (
        dlra.solve(f, (0, 1), Y0, method, dt=0.1).y_final for f in (F, factored(F), factored(G))
    )
    assert relative_error(other, one) < 1e-12
    assert relative_error(third, one) < 1e-12


@every_method
def test_nothing_is_formed_that_is_not_thin(method):
    """A field of size 10^5 x 10^5: any dense array would need 80 GB."""
    n = 100_000
    rng = np.random.default_rng(3)
    Y0 = LowRank(normal(rng, (n, 2)), None, normal(rng, (n, 2)))
    u = normal(rng, (n, 1))
    F = factored(lambda t, Y: -Y + LowRank(u, None, u))
    Y1 = dlra.step(F, 0.0, 0.1, Y0, method)
    assert Y1.shape == (n, n) and Y1.rank == 2


@every_method
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_factors_stay_orthonormal_over_many_steps(method, dtype):
    rng = np.random.default_rng(5)
    W = normal(rng, (20, 20), dtype)
    W = (W - H(W)) / norm(W)
    F = factored(lambda t, Y: W @ Y - Y @ W)
    method = replace(method, substep="heun")
    Y = dlra.solve(F, (0, 40), random_lowrank(rng, 20, 20, 4, dtype), method, dt=0.5, t_eval=[40]).y_final
    assert max(orthonormality(Y.U), orthonormality(Y.V)) < 20 * eps(dtype)


# ---- array libraries -----------------------------------------------------------------------------------------


def linear_field(rng, library, dtype, m=M, n=N):
    """B Y + Y C + cos(t) Q in a library, factored and of plain arrays."""
    B, C, Q = normal(rng, (m, m), dtype) / 3, normal(rng, (n, n), dtype) / 3, normal(rng, (m, n), dtype)
    B, C, Q = (library.asarray(a) for a in (B, C, Q))

    def F(t, Y):
        return dlra.matmul(B, Y) + dlra.matmul(Y, C) + math.cos(t) * Q

    return F


def semilinear_field(rng, library, dtype, m=M, n=N):
    """A stiff part with a symmetric side and one that is not, and a field G."""
    A = np.diag(-np.arange(float(m))).astype(dtype)
    B, Q = normal(rng, (n, n), dtype), normal(rng, (m, n), dtype)
    A, B, Q = (library.asarray(a) for a in (A, B, Q))
    return SemiLinear(A, B, factored(lambda t, Y: 0.1 * Y + math.cos(t) * Q))


def run_in(library, make, dtype, method, steps):
    rng = np.random.default_rng(7)
    F = make(rng, library, dtype)
    Y0 = random_lowrank(rng, M, N, R, dtype, library)
    return Y0, dlra.solve(F, (0, 0.1 * steps), Y0, method, dt=0.1).y_final


def check_library(library, make, dtype, method, tolerance, steps=2):
    """A run in a library keeps dtype, device and orthonormality, and agrees with NumPy in double precision."""
    Y0, Y = run_in(library, make, dtype, method, steps)
    assert all(library.owns(a) and a.dtype == Y0.dtype == library.dtype(dtype) for a in Y.factors)
    assert orthonormality(Y.U) < 20 * eps(dtype) and orthonormality(Y.V) < 20 * eps(dtype)
    wide = "complex128" if is_complex(dtype) else "float64"
    _, expected = run_in(get_library("numpy"), make, dtype, method, steps)
    assert relative_error(Y, expected) < (tolerance if dtype == wide else 1e-4)


def factored_field(*given):
    return factored(linear_field(*given))


@every_method
def test_libraries_agree_and_dtype_and_device_stay(library, method):
    dtypes = ("float64",) if library.name == "jax" else DTYPES  # JAX compiles everything anew for each dtype
    steps = 1 if method == JUMP else 2
    for dtype in dtypes:
        check_library(library, factored_field, dtype, method, 1e-12, steps)
    if library.name != "jax":
        check_library(library, linear_field, "complex64", method, 1e-12, steps)


SUBSTEPS = ["auto", "euler", "heun", "rk4", Adaptive(rtol=1e-4), "exponential", "exponential-euler"]


@pytest.mark.filterwarnings("ignore:ProjectorSplitting")
@pytest.mark.parametrize("substep", SUBSTEPS, ids=str)
@pytest.mark.parametrize(
    ("method", "dtype"),
    [(AugmentedBUG(max_rank=4), "float64"), (LIE, "complex128")],
    ids=["augmented", "lie"],
)
def test_libraries_agree_with_every_substep(library, substep, method, dtype):
    dtype = "float64" if library.name == "jax" else dtype
    check_library(library, semilinear_field, dtype, replace(method, substep=substep), 1e-11, steps=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ProjectorSplitting")
@every_method
@pytest.mark.parametrize("dtype", DTYPES)
def test_libraries_agree_in_all_combinations(library, method, dtype):
    for make in (factored_field, linear_field):
        check_library(library, make, dtype, method, 1e-12, steps=5)
    for substep in SUBSTEPS:
        check_library(library, semilinear_field, dtype, replace(method, substep=substep), 1e-11, steps=3)


def test_systems_run_in_every_library(library):
    rng = np.random.default_rng(8)
    Y0 = [random_lowrank(rng, M, N, R, library=library), library.asarray(normal(rng, (M,)))]
    B = library.asarray(normal(rng, (M, M)) / 3)

    def F(t, Ys):
        Y, b = Ys
        return [dlra.matmul(B, Y), dlra.matmul(B, b) * math.cos(t)]

    for method in METHODS.values():
        Y, b = dlra.solve(factored(F), (0, 0.5), Y0, method, dt=0.25).y_final
        assert all(library.owns(a) for a in (*Y.factors, b)) and b.shape == (M,)


# ---- coupled systems -----------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("substep", ["rk4", "adaptive", "exponential"])
def test_a_system_of_one_member_is_the_single_problem_bit_for_bit(method, substep, rng):
    F, Y0 = nonlinear(rng, 9, 7, "complex128"), random_lowrank(rng, 9, 7, 3, "complex128")
    method = replace(method, substep=substep)
    single = dlra.solve(F, (0, 0.4), Y0, method, dt=0.1)
    system = dlra.solve(lambda t, Ys: [F(t, Ys[0])], (0, 0.4), [Y0], method, dt=0.1)
    assert bits([y[0] for y in system.y]) == bits(single.y)
    assert system.nfev == single.nfev and system.rank == [(r,) for r in single.rank]
    assert bits(system.errors.truncation) == bits(single.errors.truncation)
    assert isinstance(system.y_final, list)
    step = dlra.step(lambda t, Ys: [F(t, Ys[0])], 0.0, 0.1, [Y0], method)
    assert isinstance(step, list) and bits(step[0]) == bits(single.y[1])


@every_method
def test_members_that_do_not_interact_go_their_own_way_bit_for_bit(method, rng):
    F = [nonlinear(rng, 9, 7, "float64"), nonlinear(rng, 6, 8, "float64")]
    Ys = [random_lowrank(rng, 9, 7, 3), random_lowrank(rng, 6, 8, 2)]
    system = dlra.solve(
        lambda t, Ys: [f(t, Y) for f, Y in zip(F, Ys, strict=True)], (0, 0.4), Ys, method, dt=0.1
    )
    for i in range(2):
        alone = dlra.solve(F[i], (0, 0.4), Ys[i], method, dt=0.1)
        assert bits([y[i] for y in system.y]) == bits(alone.y)
        assert system.nfev == alone.nfev, "one call of F serves all members"


@pytest.mark.parametrize("name", ["bug", "lie", "strang", "triple-jump", "galerkin", "augmented", "parallel"])
def test_a_coupled_system_is_one_block_diagonal_problem(name, rng):
    """Y = diag(Y₁, Y₂): the methods see the same equations, coupled through F."""
    B = [normal(rng, (5, 5)), normal(rng, (4, 4))]
    Q = [normal(rng, (5, 6)), normal(rng, (4, 3))]

    def system(t, Ys):
        first, second = Ys
        return [
            np.cos(norm(second) ** 2) * B[0] @ first + t * Q[0],
            np.sin(first.sum()) * B[1] @ second - Q[1],
        ]

    def block(A, C):
        return np.block([[A, np.zeros((A.shape[0], C.shape[1]))], [np.zeros((C.shape[0], A.shape[1])), C]])

    def single(t, Y):
        return block(*system(t, [Y[:5, :6], Y[5:, 6:]]))

    Ys = [random_lowrank(rng, 5, 6, 2), random_lowrank(rng, 4, 3, 1)]
    Y0 = LowRank(*(block(a, b) for a, b in zip(Ys[0].factors, Ys[1].factors, strict=True)))
    one, many = METHODS[name], METHODS[name]
    if name in ("augmented", "parallel"):  # truncation alone tells members apart: none here
        one, many = replace(one, max_rank=6), replace(many, max_rank=[4, 2])
    steps = 1 if name in ("augmented", "parallel") else 5
    expected = dlra.solve(single, (0, 0.1 * steps), Y0, one, dt=0.1).y_final
    found = dlra.solve(system, (0, 0.1 * steps), Ys, many, dt=0.1).y_final
    assert relative_error(block(dense(found[0]), dense(found[1])), expected) < 1e-12


@pytest.mark.parametrize(
    ("name", "order", "steps"),
    [
        ("bug", 1, (20, 40, 80)),
        ("augmented", 1, (20, 40, 80)),
        ("lie", 1, (20, 40, 80)),
        ("strang", 2, (10, 20, 40)),
        ("parallel", 1, (20, 40, 80)),
        ("midpoint-3r", 2, (10, 20, 40)),
        ("second-4r", 2, (10, 20, 40)),
    ],
)
def test_a_low_rank_member_coupled_to_a_dense_one_and_a_bias(name, order, steps):
    """Orders hold for the whole system; the full rank makes the low-rank member exact up to the step."""
    rng = np.random.default_rng(9)
    B, u = normal(rng, (5, 5)) / 2, normal(rng, (5,))

    def F(t, Ys):
        Y, W, b = Ys
        return [B @ Y + 0.5 * W * Y + np.outer(b, np.ones(4)), np.sin(Y) - t * W, Y @ np.ones(4) / 4 - b * u]

    Ys = [random_lowrank(rng, 5, 4, 2), normal(rng, (5, 4)), normal(rng, (5,))]
    full = LowRank.from_dense(dense(Ys[0]) + np.eye(5, 4), rank=4)
    reference = dlra.solve(F, (0, 1), [full, *Ys[1:]], AugmentedBUG(), dt=1.0, t_eval=[1])
    # rank 4 = min(m, n): every method reduces to the ordinary equation, whose solution a fine rk4 gives
    A = [dense(full), *Ys[1:]]
    for i in range(400):
        A = _rk4_of_system(F, i / 400, 1 / 400, A)

    def error(N):
        found = dlra.solve(F, (0, 1), [full, *Ys[1:]], METHODS[name], dt=1 / N, t_eval=[1]).y_final
        return max(relative_error(a, b) for a, b in zip(found, A, strict=True))

    errors = [error(N) for N in steps]
    assert errors[0] < 0.1 and max(errors[i + 1] / errors[i] for i in range(2)) < 2 ** (0.2 - order), errors
    assert [np.ndim(y) for y in reference.y_final[1:]] == [2, 1] and reference.rank == [(4, 4, 5)]


def _rk4_of_system(F, t, h, A):
    def moved(c, K):
        return [a + c * k for a, k in zip(A, K, strict=True)]

    k1 = F(t, A)
    k2 = F(t + h / 2, moved(h / 2, k1))
    k3 = F(t + h / 2, moved(h / 2, k2))
    k4 = F(t + h, moved(h, k3))
    return [a + h / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(A, k1, k2, k3, k4, strict=True)]


def test_dense_members_stand_still_in_k_and_l_and_advance_once_with_s(rng):
    asked = []

    def F(t, Ys):
        return [Ys[0], np.ones(3)]

    def evaluate(ask):
        asked.append((ask.stage, ask.Ys[1].tolist()))
        return tuple(Field(F, Ys, (), True)(ask.t, ask.Ys))

    Ys = (random_lowrank(rng, 6, 5, 2), np.zeros(3))
    field = Field(F, Ys, (), True)
    result = drive(AugmentedBUG().step(0.0, 1.0, Ys, field), evaluate)
    assert all(b == [0, 0, 0] for stage, b in asked if stage in ("start", "K", "L"))
    assert [b[0] for stage, b in asked if stage == "S"] == [0.5, 0.5, 1.0]
    assert np.allclose(result.Ys[1], 1, rtol=1e-15)


@every_method
def test_a_system_of_plain_arrays_alone_is_an_ordinary_equation(method):
    solution = dlra.solve(lambda t, Ys: [-Ys[0]], (0, 1), [np.ones((3, 2))], method, dt=0.1)
    assert np.allclose(solution.y_final[0], np.exp(-1), rtol=1e-6, atol=0)


def test_what_f_of_a_system_must_return(rng):
    Ys = [random_lowrank(rng, 6, 5, 2), random_lowrank(rng, 4, 5, 2)]
    with pytest.raises(TypeError, match="must return a list"):
        dlra.step(lambda t, Ys: Ys[0], 0.0, 0.1, Ys)
    with pytest.raises(ValueError, match="1 matrices for a coupled system of 2"):
        dlra.step(lambda t, Ys: Ys[:1], 0.0, 0.1, Ys)
    with pytest.raises(ValueError, match=r"\[1\].*shape"):
        dlra.step(lambda t, Ys: [Ys[0], Ys[0]], 0.0, 0.1, Ys)


# ---- the protocol --------------------------------------------------------------------------------------------

NOTHING_DECLARED = types.SimpleNamespace(linear=(), constant_rest=False)


class Products:
    """What a foreign framework may answer with: no more than G @ X and G.H @ X."""

    def __init__(self, A, adjoint=None):
        self._A, self._adjoint = A, adjoint

    def __matmul__(self, X):
        return self._A @ X

    @property
    def H(self):
        return Products(H(self._A))


@every_method
def test_a_foreign_driver_supplies_the_values(method, rng):
    F, Y0 = nonlinear(rng, 9, 7, "complex128"), random_lowrank(rng, 9, 7, 3, "complex128")
    count = 0

    def evaluate(ask):
        nonlocal count
        count += 1
        assert isinstance(ask, Ask) and len(ask.Ys) == 1
        return (Products(F(ask.t, ask.Ys[0].to_dense())),)

    result = drive(method.step(0.2, 0.1, (Y0,), NOTHING_DECLARED), evaluate)
    assert isinstance(result, StepResult)
    expected = dlra.solve(F, (0.2, 0.3), Y0, method, dt=0.1)
    assert relative_error(result.Ys[0], expected.y_final) < 1e-14
    assert count == expected.nfev


def asked_by(method, Y0) -> list[list[tuple[str, float]]]:
    """The stages and times of all questions of a step from 0 to 1, those asked together in one list."""
    steps, log = method.step(0.0, 1.0, (Y0,), NOTHING_DECLARED), []
    try:
        asks = next(steps)
        while True:
            log.append([(ask.stage, ask.t) for ask in asks])
            asks = steps.send([(Products(dense(ask.Ys[0])),) for ask in asks])
    except StopIteration:
        return log


def test_stages_are_labelled_and_k_and_l_are_asked_together(rng):
    Y0 = random_lowrank(rng, 6, 5, 2)
    pairs = [[("K", t), ("L", t)] for t in (0.5, 0.5, 1.0)]
    assert asked_by(AugmentedBUG(), Y0) == [[("start", 0.0)], *pairs, *([("S", t)] for t in (0.5, 0.5, 1.0))]
    assert asked_by(BUG(), Y0) == [[("start", 0.0)], *pairs, *([("S", t)] for t in (0.0, 0.5, 0.5, 1.0))]
    assert asked_by(Galerkin(), Y0) == [[("S", t)] for t in (0.0, 0.5, 0.5, 1.0)]
    assert asked_by(replace(LIE, substep="heun"), Y0) == [[(s, t)] for s in "KSL" for t in (0.0, 1.0)]
    halves = [[(s, t)] for s in "KSL" for t in (0.0, 0.5)] + [[(s, t)] for s in "LSK" for t in (0.5, 1.0)]
    assert asked_by(replace(STRANG, substep="heun"), Y0) == halves
    triples = [[(s, t) for s in "KLS"] for t in (0.5, 0.5, 1.0)]
    for method in (ParallelBUG(), SecondOrderParallelBUG(), SecondOrderParallelBUG(bases="3r")):
        assert asked_by(method, Y0) == [[("start", 0.0)], *triples]
    first = [*([("K", t), ("L", t)] for t in (0.25, 0.25, 0.5)), *([("S", t)] for t in (0.25, 0.25, 0.5))]
    last = [[("midpoint", 0.5)], *([("S", t)] for t in (0.5, 0.5, 1.0))]
    for bases in ("3r", "4r"):
        assert asked_by(MidpointBUG(bases=bases), Y0) == [[("start", 0.0)], *first, *last]
    g = 1 / (2 - 2 ** (1 / 3))
    starts = [t for [(stage, t)] in asked_by(replace(JUMP, substep="euler"), Y0) if stage == "S"]
    assert starts == pytest.approx([0, g / 2, g, 1 / 2, 1 - g, 1 - g / 2])


def test_points_of_k_and_l_stages_hold_one_factor_fixed(rng):
    Y0, points = random_lowrank(rng, 6, 5, 2), {}

    def evaluate(ask):
        points.setdefault(ask.stage, []).append(ask.Ys[0])
        return (Products(dense(ask.Ys[0])),)

    drive(AugmentedBUG().step(0.0, 0.1, (Y0,), NOTHING_DECLARED), evaluate)
    assert points["start"] == [Y0]
    assert all(Y.V is Y0.V for Y in points["K"]) and all(Y.U is Y0.U for Y in points["L"])
    assert all(bits(Y.U[:, :2]) == bits(Y0.U) and bits(Y.V[:, :2]) == bits(Y0.V) for Y in points["S"])


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("parallel", {"K": 2, "L": 2, "S": 2}),
        ("midpoint-3r", {"K": 2, "L": 2, "S": [4, 6], "midpoint": 2}),
        ("midpoint-4r", {"K": 2, "L": 2, "S": [4, 8], "midpoint": 4}),
        ("second-3r", {"K": 4, "L": 4, "S": 4}),
        ("second-4r", {"K": 4, "L": 4, "S": 4}),
    ],
)
def test_the_widths_of_the_equations_are_those_of_the_paper(name, widths, rng):
    F, Y0, found = nonlinear(rng, 20, 18, "float64"), random_lowrank(rng, 20, 18, 2), {}

    def evaluate(ask):
        (Y,) = ask.Ys
        found.setdefault(ask.stage, []).append(Y.V.shape[1] if ask.stage == "K" else Y.U.shape[1])
        return (Products(F(ask.t, dense(Y))),)

    drive(METHODS[name].step(0.0, 0.1, (Y0,), NOTHING_DECLARED), evaluate)
    del found["start"]
    assert {stage: sorted(set(seen)) for stage, seen in found.items()} == {
        stage: width if isinstance(width, list) else [width] for stage, width in widths.items()
    }
    result = dlra.step(F, 0.0, 0.1, Y0, replace(METHODS[name], max_rank=18))
    assert result.rank == {"parallel": 4, "midpoint-3r": 6, "second-3r": 6}.get(name, 8)


def test_lazy_outer_products_can_answer(rng):
    """A network answers with its batch of (delta, x): F = -deltaᵀx is never formed."""
    delta, x = normal(rng, (7, 9)), normal(rng, (7, 6))
    Y0 = random_lowrank(rng, 9, 6, 2)
    gradient = LowRank(-delta.T, None, x.T)
    value = Value(gradient, Y0.dtype)
    result = drive(
        AugmentedBUG(substep="euler").step(0.0, 0.1, (Y0,), NOTHING_DECLARED), lambda ask: (value,)
    )
    expected = dlra.step(lambda Y: -delta.T @ x, 0.0, 0.1, Y0, AugmentedBUG(substep="euler"))
    assert relative_error(result.Ys[0], expected) < 1e-13


def test_together_runs_generators_of_different_lengths_in_lockstep():
    def steps(label, count):
        total = 0
        for _ in range(count):
            (value,) = yield [Ask(label, 0.0, ())]
            total += value
        return label, total

    batches = []

    def run():
        return (yield from together(steps("a", 1), steps("b", 3), steps("c", 0)))

    generator, answer = run(), 0
    asks = next(generator)
    while True:
        batches.append([ask.stage for ask in asks])
        answers = [answer := answer + 1 for _ in asks]
        try:
            asks = generator.send(answers)
        except StopIteration as stop:
            result = stop.value
            break
    assert result == [("a", 1), ("b", 2 + 3 + 4), ("c", 0)]
    assert batches == [["a", "b"], ["b"], ["b"]]


def test_the_normal_component_is_what_tangent_vectors_miss(rng):
    """‖Ũᴴ F Ṽ‖ in the augmented bases; none is reported where a method does not see it."""
    Q, Y0 = normal(rng, (9, 7)), random_lowrank(rng, 9, 7, 3)
    tangent = Y0.U @ (Y0.U.T @ Q) + (Q - Y0.U @ (Y0.U.T @ Q)) @ Y0.V @ Y0.V.T
    rest = Q - tangent
    U, V = (qr(np.hstack(pair))[0][:, 3:] for pair in ((Y0.U, Q @ Y0.V), (Y0.V, Q.T @ Y0.U)))
    seen = norm(U.T @ rest @ V)
    for substep in ("euler", "rk4"):
        solution = dlra.solve(lambda Y: Q, (0, 0.2), Y0, AugmentedBUG(substep=substep), dt=0.1)
        assert solution.errors.local.normal[1] == pytest.approx(seen, rel=1e-9)
        assert solution.errors.normal[1] == pytest.approx(0.1 * seen, rel=1e-9)
        assert solution.errors.normal[2] > solution.errors.normal[1]
    for method in (ParallelBUG(substep="euler"), SecondOrderParallelBUG()):
        solution = dlra.solve(lambda Y: Q, (0, 0.1), Y0, method, dt=0.1)
        assert solution.errors.local.normal[1] == pytest.approx(seen, rel=1e-9)
    wider = dlra.solve(lambda Y: Q, (0, 0.1), Y0, MidpointBUG(), dt=0.1).errors.local.normal[1]
    assert seen < wider < 1.01 * norm(rest), "midpoint BUG sees it in wider bases"
    inside = dlra.solve(lambda Y: tangent, (0, 0.1), Y0, AugmentedBUG(), dt=0.1)
    assert inside.errors.normal[1] < 1e-14
    for method in (BUG(), LIE, Galerkin()):
        assert math.isnan(dlra.solve(lambda Y: Q, (0, 0.1), Y0, method, dt=0.1).errors.normal[1])


# ---- options -------------------------------------------------------------------------------------------------


def test_methods_are_known_by_name():
    assert {"bug", "augmented-bug", "parallel-bug", "projector-splitting", "galerkin"} <= set(names())
    assert by_name("bug") == BUG() and by_name("projector-splitting") == ProjectorSplitting(order=2)
    assert by_name("augmented-bug", rtol=1e-3) == AugmentedBUG(rtol=1e-3)
    assert by_name(LIE) is LIE
    with pytest.raises(ValueError, match=r"unknown method 'BUG'.*'bug', 'augmented-bug'"):
        by_name("BUG")
    with pytest.raises(TypeError, match=r"AugmentedBUG\(\), with parentheses"):
        by_name(AugmentedBUG)
    with pytest.raises(TypeError, match="got 3"):
        by_name(3)
    assert by_name("midpoint-bug", bases="4r") == MidpointBUG(bases="4r")
    assert by_name("second-order-parallel-bug") == SecondOrderParallelBUG(bases="4r")
    for cls in (
        BUG,
        AugmentedBUG,
        ProjectorSplitting,
        Galerkin,
        ParallelBUG,
        MidpointBUG,
        SecondOrderParallelBUG,
    ):
        assert getattr(dlra, cls.__name__) is cls and issubclass(cls, Integrator)


def test_integrators_are_small_frozen_objects():
    method = AugmentedBUG(rtol=1e-6, max_rank=20)
    assert repr(method) == "AugmentedBUG(rtol=1e-06, max_rank=20)"
    assert repr(ProjectorSplitting()) == "ProjectorSplitting()" and repr(LIE) == "ProjectorSplitting(order=1)"
    assert method == AugmentedBUG(rtol=1e-6, max_rank=20) and hash(method) == hash(
        AugmentedBUG(rtol=1e-6, max_rank=20)
    )
    with pytest.raises(FrozenInstanceError):
        method.rtol = 1.0


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ProjectorSplitting(order=3), ValueError, r"1, 2 or 4, got 3"),
        (lambda: ProjectorSplitting(order=True), ValueError, "order"),
        (lambda: AugmentedBUG(rtol=-1.0), ValueError, r"rtol must be finite and >= 0.*-1"),
        (lambda: AugmentedBUG(atol=math.nan), ValueError, "atol"),
        (lambda: AugmentedBUG(rtol="1e-3"), TypeError, "rtol must be a number"),
        (lambda: AugmentedBUG(max_rank=0), ValueError, "max_rank must be at least 1"),
        (lambda: AugmentedBUG(max_rank=2.0), TypeError, "max_rank must be an int"),
        (lambda: AugmentedBUG(min_rank=5, max_rank=4), ValueError, "min_rank must not exceed max_rank"),
        (lambda: BUG(substep="rk5"), ValueError, r"unknown substep 'rk5'; known are auto, euler"),
        (lambda: BUG(substep=4), TypeError, "substep must be one of"),
        (lambda: BUG(rtol=1e-3), TypeError, "rtol"),
        (lambda: ParallelBUG(c=0.0), ValueError, r"\bc\b.*0"),
        (lambda: ParallelBUG(c="1"), ValueError, r"\bc\b"),
        (lambda: ParallelBUG(c=math.nan), ValueError, r"\bc\b.*nan"),
        (lambda: MidpointBUG(bases="2r"), ValueError, r"\"3r\" or \"4r\", got '2r'"),
        (lambda: SecondOrderParallelBUG(bases=4), ValueError, r"\"4r\" or \"3r\", got 4"),
    ],
)
def test_options_out_of_range(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_an_integrator_of_ones_own(rng):
    """The ten lines of the documentation: explicit Euler on the dense matrix, truncated."""

    class TruncatedEuler(Integrator):
        name = "truncated-euler"

        def step(self, t, h, Ys, field):
            ((G,),) = yield [Ask("start", t, Ys)]
            (Y,) = Ys
            X = Y.to_dense() + h * (G @ np.eye(Y.shape[1]))
            return StepResult((LowRank.from_dense(X, rank=Y.rank),))

    B, Y0 = normal(rng, (6, 6)), random_lowrank(rng, 6, 5, 2)
    solution = dlra.solve(lambda Y: B @ Y, (0, 0.2), Y0, TruncatedEuler(), dt=0.1)
    Id = np.eye(6)
    assert relative_error(solution.y_final, (Id + 0.1 * B) @ (Id + 0.1 * B) @ dense(Y0)) < 1e-13
    assert solution.nfev == 2 and "TruncatedEuler(" in solution.method


# ---- explicit or not, wide or not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("substep", ["exponential", "exponential-euler", "implicit", "rk4", "auto"])
def test_without_a_linear_part_every_scheme_of_fixed_length_is_explicit(substep):
    assert substeps.is_explicit(substeps.resolve(substep), False)
    assert substeps.is_explicit(substeps.resolve(substep), True) == (substep == "rk4")
    Y0 = random_lowrank(np.random.default_rng(50), M, N, 2)
    F = factored(lambda t, Y: -3e3 * Y)
    with pytest.raises(SolveError, match="blows up.*explicit method"):
        dlra.solve(F, (0, 10), Y0, AugmentedBUG(substep=substep), dt=0.1)


def test_the_normal_component_where_the_sides_have_different_widths():
    rng = np.random.default_rng(51)
    Y = LowRank(random_orthonormal(rng, M, 4), normal(rng, (4, 2)), random_orthonormal(rng, N, 2))
    slope = normal(rng, (7, 5))
    assert normal_component((Y,), [slope]) == pytest.approx(np.linalg.norm(slope[4:, 2:]))


def test_a_fixed_rank_that_cannot_hold_the_solution_is_noticed_once():
    rng = np.random.default_rng(52)
    Q, Y0 = normal(rng, (M, 4)) @ normal(rng, (4, N)), random_lowrank(rng, M, N, 2)
    with pytest.warns(DlraWarning) as caught:
        dlra.solve(factored(lambda t, Y: Q), (0, 1), Y0, AugmentedBUG(), dt=0.1)
    assert sum("cannot hold the solution" in str(w.message) for w in caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dlra.solve(factored(lambda t, Y: -Y), (0, 1), Y0, AugmentedBUG(), dt=0.1)


@pytest.mark.filterwarnings("ignore:the step from t = .* drops")
def test_a_sparse_field_may_rewrite_one_matrix():
    rng = np.random.default_rng(53)
    pattern = sp.random_array((M, N), density=0.4, rng=rng, format="csr")
    Y0, one = random_lowrank(rng, M, N, 3), pattern.copy()

    def fresh(t, Y):
        result = pattern.copy()
        result.data *= math.cos(5 * t)
        return result

    def rewritten(t, Y):
        one.data[...] = pattern.data * math.cos(5 * t)
        return one

    for method in ("augmented-bug", "midpoint-bug", "projected-runge-kutta", "step-truncation"):
        first, other = (
            dlra.solve(factored(F), (0, 1), Y0, method, dt=0.25).y_final for F in (fresh, rewritten)
        )
        assert bits(first) == bits(other), method
