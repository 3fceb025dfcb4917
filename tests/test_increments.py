"""Fields known by values or differences of A(t) only, and what to cite."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
import scipy.sparse
from helpers import dense, relative_error
from manufactured import Moving, bits
from numpy.linalg import norm, svd
from scipy.sparse.linalg import aslinearoperator

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    DlraWarning,
    Galerkin,
    Increments,
    LowRank,
    ParallelBUG,
    ProjectorSplitting,
)
from dlra.integrators import Integrator, by_name, names

EXACT = [BUG(), AugmentedBUG(), *(ProjectorSplitting(order=k) for k in (1, 2, 4))]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("substep", ["auto", "euler", "exponential"])
@pytest.mark.parametrize("method", EXACT, ids=lambda m: f"{m.name}-{m.order}")
def test_a_stream_of_matrices_of_rank_r_is_reproduced(method, substep, dtype):
    """To rounding at every step, whatever the step, also where A' does not exist."""
    A, rng = Moving(12, 9, 3, dtype), np.random.default_rng(1)
    walk = np.concatenate([[0.0], np.cumsum(rng.standard_normal(8) ** 2 / 8)])
    by_value = Increments(lambda t: A(np.interp(t, np.arange(9.0), walk)))
    method = type(method)(
        **{k: getattr(method, k) for k in ("order",) if "order" in method.__dict__}, substep=substep
    )
    solution = dlra.solve(by_value, (0, 8), A.state(0), method, dt=1.0)
    for t, Y in zip(solution.t, solution.y, strict=True):
        assert relative_error(Y, A(walk[int(t)])) < 1e-11


@pytest.mark.parametrize("form", ["dense", "sparse", "low-rank", "operator"])
def test_values_and_differences_in_every_form(form):
    A = Moving(12, 9, 3)
    wrap = {
        "dense": lambda X: X,
        "sparse": scipy.sparse.csr_array,
        "low-rank": LowRank.from_dense,
        "operator": aslinearoperator,
    }[form]
    expected = dlra.solve(Increments(A.__call__), (0, 1), A.state(0), dt=0.25).y_final
    by_difference = Increments(lambda t0, t1: wrap(A(t1) - A(t0)))
    assert relative_error(dlra.solve(by_difference, (0, 1), A.state(0), dt=0.25).y_final, expected) < 1e-12
    if form != "operator":
        by_value = dlra.solve(Increments(lambda t: wrap(A(t))), (0, 1), A.state(0), dt=0.25)
        assert relative_error(by_value.y_final, expected) < 1e-12
    backward = dlra.solve(by_difference, (1, 0), A.state(1), dt=0.25).y_final
    assert relative_error(backward, A(0)) < 1e-12


def test_a_is_called_at_the_times_of_the_steps_only_and_not_more_than_once():
    A, calls = Moving(12, 9, 3), []
    for method in (AugmentedBUG(), BUG(), ParallelBUG()):
        calls.clear()
        dlra.solve(Increments(lambda t: (calls.append(t), A(t))[1]), (0, 1), A.state(0), method, dt=0.25)
        assert sorted(calls) == [0, 0.25, 0.5, 0.75, 1]
    calls.clear()
    solution = dlra.solve(
        Increments(lambda t0, t1: (calls.append((t0, t1)), A(t1) - A(t0))[1]), (0, 1), A.state(0), dt=0.5
    )
    assert set(calls) == {(0, 0.5), (0.5, 1)} and solution.nfev == len(calls)


@pytest.mark.parametrize("method", [*EXACT, ParallelBUG()], ids=lambda m: f"{m.name}-{m.order}")
def test_matrices_of_higher_rank_are_followed_closely(method):
    """Within a small factor of the best approximation."""
    A, B = Moving(12, 9, 3), Moving(12, 9, 4, seed=1)
    noisy = lambda t: A(t) + 1e-4 * B(t)  # noqa: E731
    Y0 = LowRank.from_dense(noisy(0.0), rank=3)
    Y = dlra.solve(Increments(noisy), (0, 1), Y0, method, dt=0.02).y_final
    best = norm(svd(noisy(1.0), compute_uv=False)[3:])
    error = norm(dense(Y) - noisy(1.0))
    assert best <= error < (20 * best if method.name != "parallel-bug" else 0.1 * norm(noisy(1.0)))


def test_parallel_bug_and_galerkin_take_increments_but_are_not_exact():
    A = Moving(12, 9, 3)
    for method in (ParallelBUG(), Galerkin()):
        if not method.takes_increments:
            continue
        error = relative_error(
            dlra.solve(Increments(A.__call__), (0, 1), A.state(0), method, dt=0.5).y_final, A(1)
        )
        assert 1e-6 < error < 2


def test_the_rank_follows_a_tolerance():
    A, B = Moving(12, 9, 2), Moving(12, 9, 2, seed=3)
    stream = Increments(lambda t: A(t) + max(0.0, t - 0.5) * B(t))
    solution = dlra.solve(stream, (0, 1), A.state(0), AugmentedBUG(rtol=1e-8), dt=0.125)
    assert solution.rank[solution.t <= 0.5].tolist() == [2] * 5 and 4 <= solution.rank[-1] <= 8
    assert relative_error(solution.y_final, A(1) + 0.5 * B(1)) < 0.1, (
        "the part of B normal to A comes a step late"
    )


def test_resumed_runs_have_the_same_bits(tmp_path):
    pytest.importorskip("h5py")
    A = Moving(12, 9, 3)
    whole = dlra.solve(Increments(A.__call__), (0, 1), A.state(0), dt=0.125)
    dlra.solve(Increments(A.__call__), (0, 0.5), A.state(0), dt=0.125, checkpoint=tmp_path / "run.h5")
    resumed = dlra.solve(Increments(A.__call__), (0, 1), A.state(0), dt=0.125, resume=tmp_path / "run.h5")
    assert bits(resumed.y) == bits(whole.y)


@pytest.mark.parametrize("name", [name for name in names() if not by_name(name).takes_increments])
def test_methods_that_need_values_of_f_say_so(name):
    A = Moving(12, 9, 3)
    with pytest.raises(TypeError, match=r"needs values of F, but Increments gives integrals only; use BUG"):
        dlra.solve(Increments(A.__call__), (0, 1), A.state(0), name, dt=0.5)


def test_bad_input():
    A = Moving(12, 9, 3)
    with pytest.raises(TypeError, match=r"takes a callable A\(t\) or A\(t0, t1\)"):
        Increments(A(0.0))
    with pytest.raises(TypeError, match=r"\(t\) or \(t0, t1\), got a callable of 3"):
        Increments(lambda a, b, c: None)
    with pytest.raises(ValueError, match=r"dt is missing"):
        dlra.solve(Increments(A.__call__), (0, 1), A.state(0), rtol=1e-3)
    with pytest.raises(TypeError, match="one matrix"):
        dlra.solve(Increments(A.__call__), (0, 1), [A.state(0)], dt=0.5)
    with pytest.raises(TypeError, match="args are given"):
        dlra.solve(Increments(A.__call__), (0, 1), A.state(0), dt=0.5, args=(1,))
    with pytest.raises(ValueError, match="increment of A must have the shape"):
        dlra.solve(Increments(lambda t0, t1: np.zeros((3, 3))), (0, 1), A.state(0), dt=0.5)
    with pytest.raises(dlra.SolveError, match="F produced NaN"):
        dlra.solve(Increments(lambda t0, t1: np.full((12, 9), math.nan)), (0, 1), A.state(0), dt=0.5)
    with pytest.raises(dlra.SolveError, match="ZeroDivisionError"):
        dlra.solve(Increments(lambda t0, t1: A(t0) * (1 / int(t0))), (0, 1), A.state(0), dt=0.5)


# ---- citations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_method_has_a_citation(name):
    text = dlra.citation(name)
    assert text == dlra.citation(by_name(name)) == dlra.citation(type(by_name(name)))
    for entry in text.split("\n\n"):
        assert re.match(r"@(article|misc)\{\w+,\n", entry) and entry.endswith("\n}")
        for field in ("author", "title", "year"):
            assert re.search(rf"^  {field} +=", entry, re.MULTILINE)
        assert entry.count("{") == entry.count("}")
    year = re.search(r"year += \{(\d+)\}", text)
    assert year and 2007 <= int(year[1]) <= 2026
    if name != "galerkin":  # whose docstring needs no reference
        surname = re.search(r"author += \{([^,]+),", text)
        assert surname and surname[1] in (type(by_name(name)).__doc__ or ""), "as in the docstring"


def test_citations_differ_and_default_to_the_default_method():
    assert dlra.citation() == dlra.citation("augmented-bug")
    assert len({dlra.citation(name).partition(",")[0] for name in names()}) >= len(names()) - 3


def test_an_integrator_of_ones_own_is_refused():
    class Mine(Integrator):
        name, order = "mine", 1

        def step(self, t, h, Ys, field):
            yield []

    for method in (Mine, Mine()):
        with pytest.raises(ValueError, match="no citation is known for Mine"):
            dlra.citation(method)
    with pytest.raises(ValueError, match="unknown method"):
        dlra.citation("nothing")
    with pytest.raises(TypeError):
        dlra.citation(3)


# ---- frames as they come -----------------------------------------------------------------------------------------


def frames(count=5):
    """Frames of rank 1 with entries up to 255, rising and falling."""
    a, b = np.arange(1, 13), np.arange(1, 10)
    return [np.outer(a, b) * (1 + k % 2) for k in range(count)]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64"])
def test_integer_frames_do_not_wrap_around(dtype):
    films = frames()
    Y0 = LowRank.from_dense(films[0].astype("float64"), rank=1)
    solution = dlra.solve(Increments(lambda t: films[round(t)].astype(dtype)), (0, 4), Y0, dt=1.0)
    for t, Y in zip(solution.t, solution.y, strict=True):
        assert relative_error(Y, films[round(t)].astype("float64")) < 1e-12


def test_frames_of_booleans():
    on = np.zeros((12, 9), dtype=bool)
    on[2:5, 3:6] = True
    films = [on, on & (np.arange(9) != 4), on]
    Y0 = LowRank.from_dense(on.astype("float64"), rank=1)
    solution = dlra.solve(Increments(lambda t: films[round(t)]), (0, 2), Y0, dt=1.0)
    for film, Y in zip(films, solution.y, strict=True):
        assert relative_error(Y, film.astype("float64")) < 1e-12


@pytest.mark.parametrize("method", EXACT, ids=lambda m: f"{m.name}-{m.order}")
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "sparse"])
def test_a_buffer_that_is_refilled(form, method):
    A = Moving(12, 9, 3)
    buffer = form(A(0.0))

    def refilled(t):
        (buffer if form is np.asarray else buffer.data)[...] = (
            form(A(t)) if form is np.asarray else form(A(t)).data
        )
        return buffer

    solution = dlra.solve(Increments(refilled), (0, 1), A.state(0), method, dt=0.25)
    assert relative_error(solution.y_final, A(1)) < 1e-11


@pytest.mark.parametrize(
    ("value", "shape"),
    [(np.ones((1, 9)), r"\(1, 9\)"), (2.0, "2.0|float"), (np.ones(()), r"\(\)|0-d|scalar")],
)
@pytest.mark.parametrize("whole", [True, False], ids=["values", "differences"])
def test_a_matrix_of_the_wrong_shape_is_named(whole, value, shape):
    """It would broadcast."""
    field = Increments((lambda t: value) if whole else (lambda t0, t1: value))
    with pytest.raises((TypeError, ValueError), match=rf"\bA\b.*({shape})"):
        dlra.solve(field, (0, 1), Moving(12, 9, 3).state(0), dt=0.5)


# ---- jumps -------------------------------------------------------------------------------------------------------


def jump():
    """A matrix of rank 1, joined at once by another one orthogonal to it on both sides."""
    rng = np.random.default_rng(30)
    U, V = (np.linalg.qr(rng.standard_normal((k, 2)))[0] for k in (12, 9))
    A = [np.outer(U[:, 0], V[:, 0]), np.outer(U[:, 0], V[:, 0]) + np.outer(U[:, 1], V[:, 1])]
    return (lambda t: A[int(t > 0.5)]), LowRank(U[:, :1], None, V[:, :1])


def test_a_jump_to_new_directions_is_followed_where_the_rank_is_free():
    A, Y0 = jump()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = dlra.solve(Increments(A), (0, 1), Y0, AugmentedBUG(rtol=1e-6), dt=0.25)
    assert solution.rank.tolist() == [1, 1, 1, 2, 2]
    for t, Y in zip(solution.t, solution.y, strict=True):
        assert relative_error(Y, A(t)) < 1e-10
    assert np.all(np.isfinite(solution.errors.normal))


@pytest.mark.parametrize("method", EXACT, ids=lambda m: f"{m.name}-{m.order}")
def test_a_jump_that_is_lost_is_warned_about_once(method):
    A, Y0 = jump()
    with pytest.warns(DlraWarning, match=r"A|bases|normal") as caught:
        solution = dlra.solve(Increments(A), (0, 1), Y0, method, dt=0.25)
    assert len([w for w in caught if issubclass(w.category, DlraWarning)]) == 1
    assert solution.rank.tolist() == [1] * 5
    assert np.all(np.isfinite(solution.errors.normal)) and solution.errors.normal[-1] > 0.3
