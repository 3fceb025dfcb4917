"""Stacks: their algebra, and many problems at once against one problem after the other."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import random_lowrank
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    Galerkin,
    LowRank,
    LowRankStack,
    MidpointBUG,
    ParallelBUG,
    ProjectedRungeKutta,
    ProjectorSplitting,
    RungeKuttaBUG,
    SecondOrderParallelBUG,
    SolveError,
)
from dlra.integrators import _METHODS
from dlra.linalg import augment, orthonormalize, svd_truncate

B, M, N, R = 4, 12, 9, 3

METHODS = [
    BUG(),
    AugmentedBUG(),
    ParallelBUG(),
    MidpointBUG(),
    SecondOrderParallelBUG(),
    SecondOrderParallelBUG(bases="3r"),
    ProjectorSplitting(1),
    ProjectorSplitting(),
    ProjectorSplitting(4),
    RungeKuttaBUG(),
    RungeKuttaBUG(tableau="bs3"),
    ProjectedRungeKutta(),
    Galerkin(),
]
SUBSTEPS = ("euler", "heun", "rk4", "auto")
CASES = [
    replace(method, substep=substep) if substep != "auto" else method
    for method in METHODS
    for substep in (SUBSTEPS if hasattr(method, "substep") else ("auto",))
]
TOLERANCE = {"float32": 2e-5, "complex64": 2e-5, "float64": 1e-12, "complex128": 1e-12}


def numbers(rng, *shape, dtype="float64"):
    A = rng.standard_normal(shape)
    if "complex" in dtype:
        A = A + 1j * rng.standard_normal(shape)
    return A.astype(dtype)


def matrices(rng, b=B, m=M, n=N, r=R, dtype="float64"):
    return [random_lowrank(rng, m, n, r, dtype) for _ in range(b)]


def orthonormality(Y) -> float:
    """How far the bases of a stack are from orthonormal ones."""
    return max(np.abs(Q.conj().mT @ Q - np.eye(Q.shape[-1])).max() for Q in (Y.U, Y.V))


class Problem:
    """Ẏᵢ = pᵢ A Yᵢ + Yᵢ Bᵢ + C, with a Bᵢ for each member; all in one array library."""

    def __init__(self, rng, asarray=lambda a: a, b=B, m=M, n=N, r=R, dtype="float64"):
        self.b = b
        self.p = asarray(np.linspace(0.5, 1.5, b).astype(dtype))
        self.A, self.B = (asarray(numbers(rng, *s, dtype=dtype) / 4) for s in ((m, m), (b, n, n)))
        self.C = LowRank(
            asarray(0.05 * numbers(rng, m, 2, dtype=dtype)), None, asarray(numbers(rng, n, 2, dtype=dtype))
        )
        Ys = matrices(rng, b, m, n, r, dtype)
        self.members = [LowRank(*map(asarray, Y.factors)) for Y in Ys]
        self.Y0 = LowRankStack.stack(self.members)

    def stacked(self, t, Y):
        return dlra.matmul(self.A, Y) * self.p + Y @ self.B + self.C

    def plain(self, t, Y):
        return self.p[:, None, None] * (self.A @ Y) + Y @ self.B + self.C.to_dense()

    def single(self, i):
        p, B = self.p[i], self.B[i, ...]
        return dlra.factored(lambda t, Y: dlra.matmul(self.A, Y) * p + Y @ B + self.C)

    def one_by_one(self, method, t1=0.3, dt=0.1):
        return [dlra.solve(self.single(i), (0, t1), self.members[i], method, dt=dt) for i in range(self.b)]


def difference(library, Y, others) -> float:
    """The largest difference of entries between the members of a stack and the final values of single runs."""
    dense = library.to_numpy(Y.to_dense())
    return max(
        float(np.abs(dense[i] - library.to_numpy(sol.y_final.to_dense())).max())
        for i, sol in enumerate(others)
    )


class Host:
    """NumPy, where a test takes no other library."""

    to_numpy = staticmethod(np.asarray)


# ---- many problems at once


@pytest.mark.parametrize("method", CASES, ids=repr)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_every_member_has_the_result_of_its_own_run(method, dtype):
    problem = Problem(np.random.default_rng(1), dtype=dtype)
    singles = problem.one_by_one(method)
    for F in (problem.plain, dlra.factored(problem.stacked)):
        sol = dlra.solve(F, (0, 0.3), problem.Y0, method, dt=0.1)
        assert isinstance(sol.y_final, LowRankStack) and sol.y_final.rank == R
        assert difference(Host, sol.y_final, singles) < 1e-12
        assert sol.nfev == singles[0].nfev
        assert orthonormality(sol.y_final) < 1e-13


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_on_every_library_and_dtype(method, typed_eager_library):
    library, dtype = typed_eager_library
    problem = Problem(np.random.default_rng(2), library.asarray, b=2, dtype=dtype)
    sol = dlra.solve(dlra.factored(problem.stacked), (0, 0.1), problem.Y0, method, dt=0.1)
    assert all(library.owns(a) and str(a.dtype).endswith(dtype) for a in sol.y_final.factors)
    assert difference(library, sol.y_final, problem.one_by_one(method, 0.1)) < TOLERANCE[dtype]


def test_a_plain_field_on_every_library(library):
    problem = Problem(np.random.default_rng(2), library.asarray, b=2)
    sol = dlra.solve(problem.plain, (0, 0.1), problem.Y0, dt=0.1)
    assert library.owns(sol.y_final.U) and library.owns(sol.y_final.norm())
    singles = problem.one_by_one("augmented-bug", 0.1)
    assert difference(library, sol.y_final, singles) < 1e-12
    assert isinstance(sol.y_final[1], LowRank) and library.owns(sol.y_final[1].U)


@given(
    st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.sampled_from(METHODS),
    st.integers(0, 99),
)  # fmt: skip
def test_every_shape(b, m, n, r, method, seed):
    r = min(r, m, n)
    problem = Problem(np.random.default_rng(seed), b=b, m=m, n=n, r=r)
    sol = dlra.solve(problem.plain, (0, 0.1), problem.Y0, method, dt=0.1)
    assert difference(Host, sol.y_final, problem.one_by_one(method, 0.1)) < 1e-11


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_members_whose_bases_need_fewer_columns(method, rng):
    # K and L of the first stay in their ranges, those of the second leave it in one direction, the third in all
    problem = Problem(rng, b=3)
    u, v = numbers(rng, M, 1), numbers(rng, N, 1)
    fields = [
        lambda t, Y: -Y,
        lambda t, Y: -Y + LowRank(u, None, v),
        lambda t, Y: problem.A @ Y + Y @ problem.B[2],
    ]
    A = np.stack([-np.eye(M), -np.eye(M), problem.A])
    right, source = problem.B * np.asarray([0, 0, 1.0])[:, None, None], np.asarray([0, 1.0, 0])
    F = dlra.factored(lambda t, Y: A @ Y + Y @ right + source * LowRankStack(*[
        np.stack([a] * 3) for a in (u, np.ones((1, 1)), v)
    ]))  # fmt: skip
    sol = dlra.solve(F, (0, 0.3), problem.Y0, method, dt=0.1)
    singles = [
        dlra.solve(dlra.factored(G), (0, 0.3), Y, method, dt=0.1)
        for G, Y in zip(fields, problem.members, strict=True)
    ]
    assert difference(Host, sol.y_final, singles) < 1e-12
    assert orthonormality(sol.y_final) < 1e-13


@pytest.mark.parametrize("method", [m for m in METHODS if m != SecondOrderParallelBUG(bases="3r")], ids=repr)
def test_directions_that_a_member_does_not_need_take_no_part(method, rng):
    # what the chain e1 -> e4 -> e5 -> ... makes of the first member has one column only that leaves the range of U0
    chain = np.diag(np.ones(M - 4), -1)
    A = np.zeros((M, M))
    A[3:, 3:], A[3, 0] = chain, 1.0
    other = rng.standard_normal((M, M)) / 4
    start = [
        LowRank(np.eye(M, R), random_lowrank(rng, R, R, R).to_dense(), random_lowrank(rng, N, N, R).U),
        *matrices(rng, 1),
    ]
    sol = dlra.solve(
        dlra.factored(lambda Y: np.stack([A, other]) @ Y), (0, 1), LowRankStack.stack(start), method, dt=0.5
    )
    singles = [
        dlra.solve(dlra.factored(lambda Y, G=G: G @ Y), (0, 1), Y, method, dt=0.5)
        for G, Y in zip((A, other), start, strict=True)
    ]
    assert difference(Host, sol.y_final, singles) < 1e-12


def test_a_truncation_leaves_no_zero_columns(rng):
    U, V = (np.linalg.qr(rng.standard_normal((2, k, 4)))[0] for k in (M, N))
    S = np.zeros((2, 4, 4))
    S[0, 0, 0], S[1] = 2.0, rng.standard_normal((4, 4))
    U[0, :, 1:], V[0, :, 1:] = 0, 0
    Y, dropped = svd_truncate(LowRankStack(U, S, V), U, S, V, 0.0, 0.0, 4, 4)
    assert dropped == 0 and orthonormality(Y) < 1e-13
    assert np.abs(Y.to_dense() - U @ S @ V.mT).max() < 1e-13


def test_a_member_that_wants_wider_bases_gets_them(rng):
    method, start = ParallelBUG(rtol=1e-4), matrices(rng, 2)
    C = 10 * random_lowrank(rng, M, N, 3)
    F = dlra.factored(lambda Y: np.asarray([0.0, 1.0]) * (Y + C))
    stack = dlra.solve(F, (0, 0.01), LowRankStack.stack(start), method, dt=0.01)
    single = dlra.solve(dlra.factored(lambda Y: Y + C), (0, 0.01), start[1], method, dt=0.01)
    assert stack.nfev == single.nfev > 7 and stack.y_final.rank == single.y_final.rank
    assert np.abs(stack.y_final.to_dense()[1] - single.y_final.to_dense()).max() < 1e-12


def runge_kutta(F, A, h, steps):
    """The dense solution."""
    for _ in range(steps):
        k1 = F(0, A)
        k2 = F(0, A + h / 2 * k1)
        k3 = F(0, A + h / 2 * k2)
        A = A + h / 6 * (k1 + 2 * k2 + 2 * k3 + F(0, A + h * k3))
    return A


@pytest.mark.parametrize("method", [AugmentedBUG(), BUG(), MidpointBUG(), RungeKuttaBUG()], ids=repr)
def test_zero_members_and_members_of_lower_rank(method, rng):
    problem = Problem(rng, b=3)
    zero = LowRank(np.zeros((M, 1)), None, np.zeros((N, 1)))
    Y0 = LowRankStack.stack([zero, *matrices(rng, 1, r=1), problem.members[2]])
    assert Y0.ranks == (1, 1, R)
    sol = dlra.solve(problem.plain, (0, 0.1), Y0, method, dt=0.01)
    exact = runge_kutta(problem.plain, Y0.to_dense(), 0.01, 10)
    best = LowRankStack.from_dense(exact, rank=R)
    error, least = ((Y - LowRankStack.from_dense(exact)).norm() for Y in (sol.y_final, best))
    assert orthonormality(sol.y_final) < 1e-13
    assert np.all(error < 20 * least)


@pytest.mark.parametrize(
    "method", [AugmentedBUG, ParallelBUG, MidpointBUG, SecondOrderParallelBUG, RungeKuttaBUG]
)
def test_the_rank_is_the_largest_that_a_member_needs(method, rng):
    problem = Problem(rng)
    method = method(rtol=1e-6)
    sol = dlra.solve(problem.plain, (0, 0.2), problem.Y0, method, dt=0.02)
    exact = runge_kutta(problem.plain, problem.Y0.to_dense(), 0.02, 10)
    singles = problem.one_by_one(method, 0.2, 0.02)
    errors = np.linalg.norm(sol.y_final.to_dense() - exact, axis=(1, 2))
    single = [np.linalg.norm(s.y_final.to_dense() - A) for s, A in zip(singles, exact, strict=True)]
    assert R < sol.y_final.rank >= max(s.y_final.rank for s in singles)
    assert np.all(errors < 2 * np.asarray(single) + 1e-9)
    assert orthonormality(sol.y_final) < 1e-13


def test_truncation_is_within_the_tolerance_of_every_member(rng):
    scales = np.asarray([1e-6, 1.0, 1e6])
    decays = np.asarray([0.5, 0.1, 0.2])[:, None, None] ** np.arange(N)
    Y = scales * LowRankStack.from_dense(rng.standard_normal((3, M, N)) * decays)
    for rtol in (1e-1, 1e-3, 1e-5):
        Z = Y.truncate(rtol=rtol)
        dropped, size = (Y - Z).norm(), Y.norm()
        assert np.all(dropped <= rtol * size * (1 + 1e-9))
        needed = [Y[i].truncate(rtol=rtol).rank for i in range(3)]
        assert Z.rank == max(needed)
    assert Y.truncate(atol=1e-3).rank == Y[2].truncate(atol=1e-3).rank
    assert Y.truncate(rtol=1e-12, max_rank=2).rank == 2
    assert Y.truncate(rtol=0.9, min_rank=4).rank == 4


# ---- a run


def test_times_events_callbacks_and_what_is_stored(rng):
    problem = Problem(rng)
    event = dlra.Event(lambda t, Y: t - 0.25, terminal=True)
    seen = []
    sol = dlra.solve(
        problem.plain, (0, 0.4), problem.Y0, dt=0.1, t_eval=[0.1, 0.2], callback=lambda s: seen.append(s.y.norm())
    )  # fmt: skip
    assert [Y.shape for Y in sol.y] == [(B, M, N)] * 2 and len(seen) == 4 and seen[0].shape == (B,)
    assert list(sol.rank) == [R, R]
    sol = dlra.solve(problem.plain, (0, 0.4), problem.Y0, dt=0.1, events=event)
    assert abs(sol.t_final - 0.25) < 1e-8 and len(sol.y_events[0][0]) == B
    sol = dlra.solve(problem.plain, (0, 0.4), problem.Y0, dt=0.1, save=lambda s: s.y[1].norm())
    assert len(sol.saved) == 5
    states = list(dlra.iterate(problem.plain, (0, 0.4), problem.Y0, dt=0.1))
    assert [s.rank for s in states] == [R] * 5
    one = dlra.step(problem.plain, 0, 0.1, problem.Y0)
    assert np.array_equal(one.to_dense(), states[1].y.to_dense())
    backward = dlra.solve(problem.plain, (0.4, 0), states[-1].y, dt=0.1)
    assert backward.y_final.shape == (B, M, N)


def test_the_solution_of_a_member(rng):
    problem = Problem(rng)
    sol = dlra.solve(problem.plain, (0, 0.2), problem.Y0, AugmentedBUG(rtol=1e-9), dt=0.1)
    single = sol.member(2)
    assert (
        single.y_final.shape == (M, N)
        and len(single.y) == 3
        and list(single.rank) == [Y.rank for Y in single.y]
    )
    assert np.array_equal(single.y_final.to_dense(), sol.y_final.to_dense()[2])
    assert dlra.diagnostics.diagnose(problem.single(2), single).rank == single.rank.max()
    with pytest.raises(IndexError, match="member 4 is out of range for a stack of 4"):
        sol.member(4)
    with pytest.raises(TypeError, match="no stacks"):
        single.member(0)
    with pytest.raises(TypeError, match=r"solution\.member"):
        dlra.diagnostics.diagnose(problem.plain, sol)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_checkpoints_resume_to_the_same_bits_and_solutions_are_saved(method, rng, tmp_path):
    problem = Problem(rng)
    whole = dlra.solve(problem.plain, (0, 0.4), problem.Y0, method, dt=0.1)
    path = tmp_path / "run.h5"
    dlra.solve(problem.plain, (0, 0.2), problem.Y0, method, dt=0.1, checkpoint=path)
    resumed = dlra.solve(problem.plain, (0, 0.4), problem.Y0, method, dt=0.1, resume=path)
    for a, b in zip(whole.y_final.factors, resumed.y_final.factors, strict=True):
        assert np.array_equal(a, b)
    assert all(a.flags.c_contiguous for Y in whole.y for a in Y.factors)
    whole.save(tmp_path / "solution.h5")
    loaded = dlra.Solution.load(tmp_path / "solution.h5")
    assert isinstance(loaded.y_final, LowRankStack)
    assert all(np.array_equal(a.to_dense(), b.to_dense()) for a, b in zip(whole.y, loaded.y, strict=True))
    with pytest.raises(ValueError, match="resume"):
        dlra.solve(problem.plain, (0, 0.4), problem.Y0[:2], method, dt=0.1, resume=path)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_nan_in_a_member_names_it(method, rng):
    problem = Problem(rng)

    def F(t, Y):
        G = problem.plain(t, Y)
        if t > 0.05:
            G[1, 3, 2] = G[3, 0, 0] = np.nan
        return G

    with pytest.raises(
        SolveError, match=r"F produced NaN or infinite values in members 1, 3 of the stack"
    ) as e:
        dlra.solve(F, (0, 0.4), problem.Y0, method, dt=0.1)
    assert len(e.value.solution.y) >= 1 and np.all(np.isfinite(e.value.solution.y_final.norm()))


def test_a_member_that_blows_up_is_named(rng):
    problem = Problem(rng)

    def F(t, Y):
        return np.asarray([1.0, 1.0, 1e200, 1.0])[:, None, None] * Y

    with pytest.raises(SolveError, match="member 2 of the stack"), np.errstate(all="ignore"):
        dlra.solve(F, (0, 4), problem.Y0, AugmentedBUG(substep="euler"), dt=1.0)


def test_an_exception_in_the_field_is_passed_on(rng):
    with pytest.raises(SolveError, match="F raised ZeroDivisionError"):
        dlra.solve(lambda t, Y: Y / (1 // 0), (0, 1), Problem(rng).Y0, dt=0.1)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "strict"], indirect=True)
@pytest.mark.parametrize(
    "F",
    [
        dlra.factored(lambda t, Y: Y if Y.norm() > 0 else 0.0 * Y),
        dlra.factored(lambda t, Y: float(Y.norm()) * Y),
        lambda t, Y: 2.0 * Y if (abs(Y) > 1) else Y,
    ],
)
def test_one_number_of_all_members_is_asked_for_by_name(F, library, rng):
    Y0 = LowRankStack(*(library.asarray(a) for a in Problem(rng).Y0.factors))
    with pytest.raises(SolveError, match=r"all members of a stack at once.*Y\.norm\(\).*max\(\)"):
        dlra.solve(F, (0, 0.1), Y0, BUG(), dt=0.1)
    with pytest.raises(SolveError) as e:  # one matrix has one norm
        dlra.solve(lambda t, Y: 2.0 * Y if (abs(Y) > 1) else Y, (0, 0.1), Y0[0], BUG(), dt=0.1)
    assert "stack" not in str(e.value)


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_an_event_with_several_numbers_says_how_to_make_one(shape, rng):
    event = dlra.Event(lambda t, Y: np.ones(shape))
    with pytest.raises(
        SolveError, match=r"must return a real number, got ndarray of shape.*e\.g\..*\.max\(\)"
    ):
        dlra.solve(dlra.factored(lambda t, Y: Y), (0, 0.1), Problem(rng).Y0, BUG(), dt=0.1, events=event)


def test_a_masked_array_is_no_value_of_a_field(rng):
    Y0 = Problem(rng).Y0
    for Y in (Y0, Y0[0]):
        for F in (
            lambda t, Y: np.ma.masked_less(Y, 0),
            dlra.factored(lambda t, Y: np.ma.masked_less(Y.to_dense(), 0)),
        ):
            with pytest.raises(TypeError, match=r"must be a matrix .*got MaskedArray.*filled"):
                dlra.solve(F, (0, 0.1), Y, BUG(), dt=0.1)


def test_a_member_has_the_result_of_a_run_of_its_own_with_the_rank_of_the_stack(rng):
    """Also where ParallelBUG repeats steps in wider bases, until there is no room for them, and its error is larger."""
    n, dt, method = 20, 0.05, ParallelBUG(rtol=1e-8)
    D = rng.standard_normal((n, n)) / 5
    F = dlra.factored(lambda t, Y: D @ Y + Y @ D.T)
    starts = [random_lowrank(rng, n, n, 3) for _ in range(3)]
    sol = dlra.solve(F, (0, 4 * dt), LowRankStack.stack(starts), method, dt=dt)
    assert sol.rank[-1] > n / 2 > sol.rank[1]
    for i, Y in enumerate(starts):
        for k, rank in enumerate(sol.rank[1:]):
            own = replace(method, min_rank=int(rank), max_rank=None)
            Y = dlra.solve(F, (0, dt), Y, own, dt=dt).y_final
            assert Y.rank == rank
            assert (Y - sol.y[k + 1][i]).norm() < 1e-9 * Y.norm()


def test_a_linear_operator_from_the_left(rng):
    Y, A = pair(rng)[0], rng.standard_normal((M, M))
    assert np.abs(dlra.matmul(aslinearoperator(A), Y).to_dense() - A @ Y.to_dense()).max() < 1e-12


@pytest.mark.parametrize("name", [name for name, cls in _METHODS.items() if not cls.takes_stacks])
def test_methods_that_do_not_take_stacks_say_which_do(name, rng):
    with pytest.raises(TypeError, match="one matrix at a time.*BUG, AugmentedBUG, ParallelBUG"):
        dlra.solve(lambda t, Y: Y, (0, 1), Problem(rng).Y0, name, dt=0.1)


Y0 = LowRankStack.stack(matrices(np.random.default_rng(5)))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((lambda t, Y: Y, (0, 1), Y0), {}, ValueError, "dt is missing: a stack"),
        ((lambda t, Y: Y, (0, 1), [Y0, Y0]), {"dt": 0.1}, TypeError, r"Y0\[0\] is a LowRankStack"),
        ((dlra.SemiLinear(np.eye(M), np.eye(N)), (0, 1), Y0), {"dt": 0.1}, TypeError, "SemiLinear.*stack of 4"),
        ((dlra.Increments(lambda t: np.ones((M, N))), (0, 1), Y0), {"dt": 0.1}, TypeError, "Increments.*stack of 4"),
        ((lambda t, Y: Y[0], (0, 1), Y0), {"dt": 0.1}, ValueError, r"shape of Y, \(4, 12, 9\), got \(12, 9\)"),
        ((dlra.factored(lambda t, Y: Y[0]), (0, 1), Y0), {"dt": 0.1}, ValueError, r"shape of Y, \(4, 12, 9\)"),
        ((lambda t, Y: Y, (0, 1), Y0, BUG(substep="adaptive")), {"dt": 0.1}, TypeError, 'substeps for stacks are "eu'),
        ((lambda t, Y: Y, (0, 1), Y0, BUG(substep="implicit")), {"dt": 0.1}, TypeError, "'implicit' advances one"),
        ((lambda t, Y: Y, (0, 1), Y0, AugmentedBUG(rtol=[1e-3] * 4)), {"dt": 0.1}, ValueError, "given for 4 members"),
        ((lambda t, Y: Y, (0, 1), Y0, AugmentedBUG(rtol=0.1, min_rank=10)), {"dt": 0.1}, ValueError, "must not exceed"),
        ((lambda t, Y: 1j * Y, (0, 1), Y0), {"dt": 0.1}, TypeError, "start from a complex state"),
        ((lambda t, Y: Y, (0, 1), Y0 + Y0 + Y0 + Y0), {"dt": 0.1}, ValueError, r"rank 12, more than min\(m, n\) = 9"),
        ((lambda t, Y: Y, (0, 1), np.nan * Y0), {"dt": 0.1}, ValueError, "Y0.S contains NaN"),
    ],
)  # fmt: skip
def test_bad_runs(arguments, options, error, text):
    with pytest.raises(error, match=text):
        dlra.solve(*arguments, **options)


def test_a_symmetric_field_and_one_array_for_both_sides(rng):
    U = random_lowrank(rng, N, N, R).U
    Y0 = LowRankStack.stack([LowRank(U, np.diag([3.0, 2.0, 1.0]), U)] * 2)
    same = LowRankStack(Y0.U, Y0.S, Y0.U)
    A = rng.standard_normal((N, N))
    F = dlra.factored(lambda t, Y: A @ Y + Y @ A.T, symmetric=True)
    one = dlra.solve(F, (0, 0.1), LowRank(U, Y0[0].S, U), dt=0.05)
    for Y in (Y0, same):
        assert difference(Host, dlra.solve(F, (0, 0.1), Y, dt=0.05).y_final, [one, one]) < 1e-12
    assert np.all(same.truncate(max_rank=2).norm() > 3.6)


# ---- algebra


def pair(rng, dtype="float64"):
    return [LowRankStack.stack(matrices(rng, dtype=dtype)) for _ in range(2)]


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_algebra_agrees_with_dense_arrays(rng, dtype):
    Y, Z = pair(rng, dtype)
    y, z = Y.to_dense(), Z.to_dense()
    A, D = numbers(rng, M, M, dtype=dtype), numbers(rng, B, N, 5, dtype=dtype)
    one = random_lowrank(rng, M, N, 2, dtype)
    c, rows, columns = (
        numbers(rng, B, dtype=dtype),
        numbers(rng, M, 1, dtype=dtype),
        numbers(rng, B, 1, N, dtype=dtype),
    )
    x, w = numbers(rng, N, dtype=dtype), numbers(rng, M, dtype=dtype)
    S = sp.random_array((M, M), density=0.3, rng=rng, dtype="float64").astype(dtype).tocsr()
    T = sp.random_array((N, N), density=0.3, rng=rng, dtype="float64").astype(dtype).tocsr()
    cases = [
        (Y + Z, y + z), (Y - Z, y - z), (-Y, -y), (+Y, y), (2 * Y, 2 * y), (Y / 4, y / 4), (sum([Y, Z]), y + z),
        (c * Y, c[:, None, None] * y), (Y * c[:, None, None], c[:, None, None] * y), (Y / c, y / c[:, None, None]),
        (rows * Y, rows * y), (Y * columns, columns * y),
        (A @ Y, A @ y), (Y @ D, y @ D), (Y @ D[0], y @ D[0]), (Y @ x, y @ x), (w @ Y, w @ y),
        (S @ Y, S.toarray() @ y), (Y @ T, y @ T.toarray()), (dlra.matmul(aslinearoperator(S), Y), S.toarray() @ y),
        (dlra.matmul(Y, aslinearoperator(T)), y @ T.toarray()),
        (Y + one, y + one.to_dense()), (one - Y, one.to_dense() - y), (one + one + Y, 2 * one.to_dense() + y),
        (Y * Z, y * z), (Y * one, y * one.to_dense()), (one * Y, y * one.to_dense()),
        (Y @ Z.H, y @ z.conj().mT), (Y @ one.H, y @ one.to_dense().conj().T), (one.H @ Y, one.to_dense().conj().T @ y),
        (Y.T, y.mT), (Y.H, y.conj().mT), (Y.conj(), y.conj()), ((Y + Z).H, (y + z).conj().mT),
        (Y + z, y + z), (z - Y, z - y), (Y + z[0], y + z[0]), (Y + Z + S[:, :N] + z, y + 2 * z + S.toarray()[:, :N]),
        (2 * (Y + z[0]) @ D, 2 * (y + z[0]) @ D), (Y.truncate(), y), (Y.orthonormalized(), y),
        (Y.astype("complex128"), y),
        (LowRankStack.from_dense(y), y), (LowRankStack.from_svd(*np.linalg.svd(y, full_matrices=False)), y),
        (Y[1:3], y[1:3]), (Y[[2, 0]], y[[2, 0]]), (Y[-1], y[-1]), (Y[::-1], y[::-1]),
        (Y[np.asarray([True, False, False, True])], y[[0, 3]]), (pickle.loads(pickle.dumps(Y)), y),
        (LowRankStack(Y.U, None, Z.V), Y.U @ Z.V.conj().mT),
    ]  # fmt: skip
    for got, wanted in cases:
        array = got.to_dense() if hasattr(got, "to_dense") else got
        assert array.shape == wanted.shape == got.shape
        assert np.abs(array - wanted).max() < (1e-4 if dtype == "complex64" else 1e-12)
        assert np.ndim(got) == wanted.ndim
    for X in ((Y + Z), (Y - one), (c * (Y + Z)), Y + z):
        assert isinstance(X, (LowRankStack, dlra.LazySum))
    assert np.allclose(Y.norm(), np.linalg.norm(y, axis=(1, 2)), rtol=1e-5)
    assert np.allclose((Y + Z).norm(), np.linalg.norm(y + z, axis=(1, 2)), rtol=1e-5)
    assert np.allclose(Y.singular_values(), np.linalg.svd(y)[1][:, :R], rtol=1e-4)
    assert np.shape(Y) == Y.shape == (B, M, N) and np.ndim(Y) == Y.ndim == 3 and len(Y) == B
    assert len(list(Y)) == B and all(type(member) is LowRank for member in Y)
    assert np.all((1e-25 * Y).norm() > 0) and np.all(np.isfinite((np.float32(1e30) * Y).norm()))


def test_a_tall_matrix_that_counts_for_every_member(rng):
    one, Y = random_lowrank(rng, 30_000, 5, 5), LowRankStack.from_dense(rng.standard_normal((2, 30_000, 5)))
    X = rng.standard_normal((2, 5, 2))
    G = Y + np.zeros((30_000, 5)) + one
    assert np.allclose(G._apply(X), (Y.to_dense() + one.to_dense()) @ X)
    assert np.allclose(G._apply_adjoint(Y.U), (Y.to_dense() + one.to_dense()).mT @ Y.U)


def test_members_are_cut_to_their_ranks_and_stacked_again(rng):
    Ys = [random_lowrank(rng, M, N, r) for r in (1, 4, 2)]
    Y = LowRankStack.stack(Ys)
    assert Y.rank == 4 and Y.ranks == (1, 4, 2) and [y.rank for y in Y] == [1, 4, 2]
    assert all(np.allclose(a.to_dense(), b.to_dense()) for a, b in zip(Y, Ys, strict=True))
    assert orthonormality(Y) < 1e-13
    core = np.asarray([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    assert LowRankStack(Y.U[:2, :, :2], core, Y.V[:2, :, :2]).ranks == (2, 1)
    again = LowRankStack.stack(list(Y))
    assert np.allclose(again.to_dense(), Y.to_dense())
    wide = LowRankStack.stack(
        [LowRank(rng.standard_normal((3, 5)), None, rng.standard_normal((2, 5))), *matrices(rng, 1, 3, 2, 1)]
    )
    assert wide.rank == 2
    rectangular = LowRank(
        rng.standard_normal((M, 3)), rng.standard_normal((3, 2)), rng.standard_normal((N, 2))
    )
    assert np.allclose(LowRankStack.stack([rectangular])[0].to_dense(), rectangular.to_dense())


def test_layouts_do_not_matter(rng):
    Y = pair(rng)[0]
    U = np.ascontiguousarray(Y.U[:, ::-1, ::-1])[:, ::-1, ::-1]
    V = np.asfortranarray(Y.V)
    S = Y.S.copy()
    S.flags.writeable = False
    Z = LowRankStack(U, S, V)
    F = dlra.factored(lambda t, Y: Y @ np.eye(N) - 0.5 * Y)
    a, b = (dlra.solve(F, (0, 0.1), X, dt=0.1).y_final.to_dense() for X in (Y, Z))
    assert np.abs(a - b).max() < 1e-13


REFUSED = [
    (lambda Y: np.sin(Y), "np.sin"),
    (lambda Y: Y**2, r"\*\* 2"),
    (lambda Y: Y + 1, "a number"),
    (lambda Y: Y == Y, "=="),
    (lambda Y: bool(Y), "truth value"),
    (lambda Y: abs(Y), "abs"),
    (lambda Y: np.asarray(Y, dtype=float), "conversion to an array"),
    (lambda Y: np.sum(Y), "np.sum"),
    (lambda Y: Y * np.ones((B, M, N)), r"shape \(b,\) = \(4,\)"),
    (lambda Y: Y * np.ones(3), r"shape \(b,\) = \(4,\)"),
    (lambda Y: Y / Y, "/ LowRankStack"),
    (lambda Y: dlra.entrywise(np.exp, Y), "one matrix at a time"),
    (lambda Y: dlra.entrywise_product(Y, Y), "one matrix at a time"),
]


@pytest.mark.parametrize(("function", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_needs_all_entries_is_refused(function, text, rng):
    with pytest.raises(TypeError, match=text) as e:
        function(pair(rng)[0])
    assert "_Sum" not in str(e.value)


def test_bad_factors_and_indices(rng):
    Y, _ = pair(rng)
    U, S, V = Y.factors
    for build, error, text in [
        (lambda: LowRankStack(U[0], S, V), ValueError, r"U must be a stack.*got an array of shape \(12, 3\); for one"),
        (lambda: LowRankStack(U, S[:, 0], V), ValueError, r"S must be a stack.*LowRankStack.from_svd"),
        (lambda: LowRank(U, S, V), ValueError, r"U must be a matrix.*use LowRankStack\(U, S, V\)"),
        (lambda: LowRankStack(U, S[:2], V), ValueError, "one for each of 4 matrices"),
        (lambda: LowRankStack(U, S, V.mT), ValueError, "factors do not fit"),
        (lambda: LowRankStack(U, S, V.astype("float32")), TypeError, "one dtype"),
        (lambda: LowRankStack(U[:0], S[:0], V[:0]), ValueError, "must not be empty"),
        (lambda: LowRankStack([1], S, V), TypeError, "U must be an array"),
        (lambda: LowRankStack(np.ma.masked_less(U, 0), S, V), TypeError, r"U must be .* got MaskedArray.*filled"),
        (lambda: Y * np.ma.masked_less(np.ones(B), 0), TypeError, "MaskedArray"),
        (lambda: np.array([1, 2, 3, 4], object) * Y, TypeError, "a result of dtype object.*float32, float64.*astype"),
        (lambda: Y @ np.ones((N, N), object), TypeError, "a result of dtype object"),
        (lambda: Y / np.ones(B, np.longdouble), TypeError, "a result of dtype"),
        (lambda: Y[0] * np.ones((1, N), object), TypeError, "a result of dtype object"),
        (lambda: LowRankStack.from_svd(U.astype("f"), S[:, 0], V.mT.astype("f")), TypeError,
         r"s has dtype float64, U float32.*astype\(U.dtype\)"),
        (lambda: LowRankStack.from_svd(U, S[:, 0] + 0j, V.mT), TypeError, "s has dtype complex128, U float64"),
        (lambda: LowRankStack.from_svd(U, S[:, 0].astype(object), V.mT), TypeError, "s has dtype object"),
        (lambda: LowRank.from_svd(U[0].astype("f"), S[0, 0], V[0].T.astype("f")), TypeError, "s has dtype float64"),
        (lambda: LowRankStack.from_dense(np.array([np.eye(3), np.eye(3) / [1, 2, np.nan], np.eye(3) * 1e308])),
         ValueError, "A contains NaN or infinite values in member 1 of the stack"),
        (lambda: LowRankStack.stack([]), ValueError, "empty"),
        (lambda: LowRankStack.stack(Y), TypeError, "a list of LowRank"),
        (lambda: LowRankStack.stack([Y]), TypeError, r"matrices\[0\] must be a LowRank"),
        (lambda: LowRankStack.stack([Y[0], np.eye(3)]), TypeError, r"matrices\[1\] must be a LowRank"),
        (lambda: LowRankStack.stack([Y[0], Y[0].T]), ValueError, "one shape"),
        (lambda: LowRankStack.stack([Y[0], Y[0].astype("float32")]), TypeError, "one dtype"),
        (lambda: LowRankStack.from_dense(np.eye(3)), ValueError, "stack of matrices"),
        (lambda: LowRankStack.from_dense(np.ones((2, 3, 3)), rank=4), ValueError, "between 1 and"),
        (lambda: LowRankStack.from_svd(U, S, V.mT), ValueError, "s must be an array of 2"),
        (lambda: LowRankStack.from_svd(U, np.ones((B, 2)), V.mT), ValueError, "must share r"),
        (lambda: Y[0, 1], IndexError, r"Y\[i\]\[j, k\]"),
        (lambda: Y[4], IndexError, "member 4 is out of range"),
        (lambda: Y[4:], IndexError, "no member"),
        (lambda: Y + Y[:2], ValueError, "one shape"),
        (lambda: Y + Y[0].T, ValueError, "one shape"),
        (lambda: np.ones((2, M, M)) @ Y, ValueError, "one matrix or 4 of them"),
        (lambda: Y @ np.ones((1, N, N)), ValueError, "one matrix or 4 of them"),
        (lambda: np.ones((3, 4)) @ Y, ValueError, "do not fit in a product"),
        (lambda: Y @ np.ones((3, 4)), ValueError, "do not fit in a product"),
    ]:  # fmt: skip
        with pytest.raises(error, match=text):
            build()


# ---- bases of stacks


@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_bases_of_stacks_are_those_of_their_members(b, m, r, k, dependent, seed):
    rng = np.random.default_rng(seed)
    r = min(r, m)
    U0 = np.linalg.qr(rng.standard_normal((b, m, r)))[0]
    X = rng.standard_normal((b, m, k))
    X[0] = X[0] @ rng.standard_normal((k, k)) if dependent > k else X[0, :, :1] * np.ones(k)
    X[-1] = U0[-1] @ rng.standard_normal((r, k)) + 1e-9 * X[-1]
    U = augment(U0, X)
    assert np.array_equal(U[..., :r], U0)
    assert U.shape[-1] <= min(m, r + k)
    for i in range(b):
        live = np.linalg.norm(U[i], axis=0) > 0
        Q = U[i][:, live]
        assert np.abs(Q.T @ Q - np.eye(Q.shape[1])).max() < 1e-13
        assert np.linalg.norm(X[i] - Q @ (Q.T @ X[i])) <= 1e-13 * np.linalg.norm(X[i])
        assert Q.shape[1] == augment(U0[i], X[i]).shape[1]
    if k:
        Q = orthonormalize(X)
        assert np.linalg.norm(X - Q @ (Q.mT @ X)) <= 1e-13 * np.linalg.norm(X)


def test_bases_that_have_zero_columns_are_augmented(rng):
    U0 = np.linalg.qr(rng.standard_normal((2, 6, 4)))[0]
    U0[0, :, 2:] = 0
    X = rng.standard_normal((2, 6, 3))
    U = augment(U0, X)
    for i in range(2):
        assert np.linalg.norm(X[i] - U[i] @ (U[i].T @ X[i])) < 1e-13
        gram = U[i].T @ U[i]
        assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-13
        assert np.abs(np.diag(gram) * (1 - np.diag(gram))).max() < 1e-13
    with pytest.raises(ValueError, match="X contains NaN or infinite values in member 1 of the stack"):
        augment(U0, np.where(np.arange(2)[:, None, None] == 1, np.nan, X))
