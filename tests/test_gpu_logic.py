"""What runs on a GPU, tested without one: array-api-strict's second device stands for it.

Host reads are counted, failures in steps of which nothing was tested must be found again and named, and bases of a
width that shapes tell must be orthonormal for whatever they are made of.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, get_library, to_numpy
from hypothesis import given
from hypothesis import strategies as st

import dlra
from dlra import _run, backend, linalg
from dlra.kernels import gpu
from dlra.lowrank import BOTH, LEFT, RIGHT

H, STEPS = 0.01, 40


@pytest.fixture
def device(monkeypatch):
    """array-api-strict's second device, whose numbers are left there."""
    library = get_library("strict-device1")
    monkeypatch.setattr(backend, "_waits", lambda a: True)
    return library


@pytest.fixture(params=["errors", "garbage"])
def broken_down(request, monkeypatch):
    """What a decomposition of NaN does: NumPy raises an error, cuSOLVER returns what it has."""
    if request.param == "errors":
        return
    linear = get_library("strict").xp.linalg

    def quiet(name):
        original = getattr(linear, name)

        def function(A, **options):
            try:
                return original(A, **options)
            except np.linalg.LinAlgError:
                return original(get_library("strict-device1").asarray(np.eye(A.shape[-1])), **options)

        monkeypatch.setattr(linear, name, function)

    for name in ("cholesky", "inv", "svd", "eigh"):
        quiet(name)


@contextlib.contextmanager
def host_reads():
    """Count how often numbers of array-api-strict come to the host."""
    array = type(get_library("strict").asarray([1.0]))
    names = ("__float__", "__bool__", "__int__", "__index__", "__complex__", "to_device")
    originals = {name: getattr(array, name) for name in names}
    reads: list[str] = []

    def counted(name: str) -> Any:
        def method(self, *args, **options):
            reads.append(name)
            return originals[name](self, *args, **options)

        return method

    try:
        for name in names:
            setattr(array, name, counted(name))
        yield reads
    finally:
        for name, original in originals.items():
            setattr(array, name, original)


class Problem:
    """Ẏ = A Y + Y B on a device, with a state of rank 3 whose singular values decrease slowly."""

    def __init__(self, library, m=20, n=16, rank=3, hermitian=False):
        rng = np.random.default_rng(5)
        n = m if hermitian else n
        A, B = rng.standard_normal((m, m)) / 8, rng.standard_normal((n, n)) / 8
        U, V = (np.linalg.qr(rng.standard_normal((size, rank)))[0] for size in (m, n))
        S = np.diag(10.0 ** -np.arange(rank)) + 1e-3
        if hermitian:
            B, V = A.T, U
        self.A, self.B, U, V, S = (library.asarray(np.ascontiguousarray(a)) for a in (A, B, U, V, S))
        self.Y0 = dlra.LowRank(U, S, U if hermitian else V)
        self.calls = 0

    def value(self, Y):
        self.calls += 1
        return dlra.matmul(self.A, Y) + dlra.matmul(Y, self.B)

    def solve(self, method, steps=STEPS, F=None, symmetric=False, **options):
        F = dlra.factored(F or (lambda t, Y: self.value(Y)), symmetric=symmetric)
        options.setdefault("t_eval", [steps * H])
        return dlra.solve(F, (0.0, steps * H), self.Y0, method, dt=H, **options)


FIXED = {
    "augmented-euler": dlra.AugmentedBUG(substep="euler"),
    "augmented-rk4": dlra.AugmentedBUG(substep="rk4"),
    "bug": dlra.BUG(),
    "parallel": dlra.ParallelBUG(),
    "projector-splitting": dlra.ProjectorSplitting(),
    "galerkin": dlra.Galerkin(),
}
FREE = {
    "augmented-euler": dlra.AugmentedBUG(substep="euler", rtol=1e-3),
    "augmented-rk4": dlra.AugmentedBUG(substep="rk4", rtol=1e-3),
    "augmented-max-rank": dlra.AugmentedBUG(max_rank=4),
    "parallel": dlra.ParallelBUG(rtol=1e-3),
    "parallel-atol": dlra.ParallelBUG(atol=1e-3),
}


def by_name(methods):
    return pytest.mark.parametrize("method", methods.values(), ids=methods.keys())


@pytest.fixture
def at_once(monkeypatch):
    """A function that runs another one with all tests in every step."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(_run, "defers", lambda a: False)
            return function()

    return run


def warns_nothing_new(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dlra.DlraWarning)
        return function()


def reads_of(run) -> int:
    with host_reads() as reads:
        warns_nothing_new(run)
    return len(reads)


# ---- how often the host waits


@by_name(FIXED)
def test_a_step_of_fixed_rank_reads_nothing(device, method):
    problem = Problem(device)
    few, many = (reads_of(lambda steps=steps: problem.solve(method, steps)) for steps in (10, STEPS))
    assert many == few


@by_name(FREE)
def test_a_step_of_free_rank_reads_once(device, method):
    problem = Problem(device)
    few, many = (reads_of(lambda steps=steps: problem.solve(method, steps)) for steps in (10, STEPS))
    assert many - few == STEPS - 10


def test_symmetric_fields_too(device):
    problem = Problem(device, hermitian=True)
    for method, expected in ((dlra.AugmentedBUG(), 0), (dlra.AugmentedBUG(rtol=1e-3), STEPS - 10)):
        few, many = (
            reads_of(lambda steps=steps, method=method: problem.solve(method, steps, symmetric=True))
            for steps in (10, STEPS)
        )
        assert many - few == expected


@by_name({"fixed": dlra.AugmentedBUG(), "free": dlra.AugmentedBUG(rtol=1e-3)})
def test_members_of_a_system_are_read_together(device, method):
    problem = Problem(device)
    dense = device.asarray(np.ones((4, 4)))

    def F(t, Ys):
        return [problem.value(Ys[0]), problem.value(Ys[1]), -1.0 * Ys[2]]

    def run(steps):
        return dlra.solve(
            dlra.factored(F),
            (0, steps * H),
            [problem.Y0, problem.Y0, dense],
            method,
            dt=H,
            t_eval=[steps * H],
        )

    few, many = (reads_of(lambda steps=steps: run(steps)) for steps in (10, STEPS))
    assert many - few == (STEPS - 10 if method.is_free else 0)


@by_name({"fixed": dlra.AugmentedBUG(), "free": dlra.AugmentedBUG(rtol=1e-3)})
def test_a_system_of_dense_members_only(device, method):
    Y0 = [device.asarray(np.ones((4, 3))), device.asarray(np.ones((3, 2)))]
    sol = dlra.solve(lambda Ys: [-Y for Y in Ys], (0, 3 * H), Y0, method, dt=H, t_eval=[3 * H])
    assert np.allclose(to_numpy(sol.y_final[0]), np.exp(-3 * H), rtol=H**2)


def test_every_fiftieth_step_is_read(device):
    problem = Problem(device)
    counts = [reads_of(lambda s=s: problem.solve(dlra.BUG(), s)) for s in (45, 50, 51, 100, 101, 120)]
    assert [count - counts[0] for count in counts] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("what", ["callback", "events", "iterate", "save", "t_eval"])
def test_a_state_that_is_handed_out_costs_one_read(device, what):
    problem, seen = Problem(device), []

    def look(state):
        seen.append((state.errors.truncation, state.errors.normal, state.rank))

    def run(steps):
        span, F = (0.0, steps * H), dlra.factored(lambda t, Y: problem.value(Y))
        options: Any = {
            "callback": {"callback": look, "t_eval": [steps * H]},
            "events": {"events": dlra.Event(lambda state: look(state) or 1.0), "t_eval": [steps * H]},
            "iterate": {},
            "save": {"save": look},
            "t_eval": {"t_eval": [k * H for k in range(1, steps + 1)]},
        }[what]
        if what == "iterate":
            for state in dlra.iterate(F, span, problem.Y0, dlra.AugmentedBUG(), dt=H):
                look(state)
            return
        look_at = dlra.solve(F, span, problem.Y0, dlra.AugmentedBUG(), dt=H, **options)
        seen.extend(zip(look_at.errors.truncation, look_at.errors.normal, look_at.rank, strict=True))

    few, many = (reads_of(lambda steps=steps: run(steps)) for steps in (5, 15))
    assert many - few == 10
    assert all(isinstance(value, float) for *values, _ in seen for value in values)


# ---- what comes out


@by_name({**FIXED, **{f"free-{name}": method for name, method in FREE.items()}})
@pytest.mark.parametrize("keep", [False, True], ids=["last", "all"])
def test_results_are_those_of_immediate_tests(device, at_once, method, keep):
    problem = Problem(device)
    options = {"t_eval": None} if keep else {}
    ahead, plain = (
        warns_nothing_new(run)
        for run in (
            lambda: problem.solve(method, 60, **options),
            lambda: at_once(lambda: problem.solve(method, 60, **options)),
        )
    )
    assert ahead.nsteps == plain.nsteps == 60 and ahead.nfev == plain.nfev
    assert np.array_equal(ahead.t, plain.t) and np.array_equal(ahead.rank, plain.rank)
    for name in ("truncation", "normal"):
        np.testing.assert_allclose(ahead.errors[name], plain.errors[name], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(ahead.errors.local[name], plain.errors.local[name], rtol=1e-12, atol=1e-15)
    for Y, Z in zip([*ahead.y, ahead.y_final], [*plain.y, plain.y_final], strict=True):
        assert all(
            np.array_equal(to_numpy(a), to_numpy(b)) for a, b in zip(Y.factors, Z.factors, strict=True)
        )


@by_name(FIXED)
def test_results_are_those_of_numpy(device, method):
    there = warns_nothing_new(lambda: Problem(device).solve(method))
    host = Problem(get_library("numpy"))
    here = warns_nothing_new(lambda: host.solve(method))
    U, S, V = map(to_numpy, there.y_final.factors)
    np.testing.assert_allclose(U @ S @ V.T, here.y_final.to_dense(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(there.errors.truncation, here.errors.truncation, rtol=1e-6, atol=1e-12)


def test_states_between_reads_are_not_kept(device, monkeypatch):
    taken = []
    accept = _run.Run._accept
    monkeypatch.setattr(
        _run.Run, "_accept", lambda self, step, *rest: taken.append(step) or accept(self, step, *rest)
    )
    Problem(device).solve(dlra.BUG(), 60)
    assert [len(step.earlier) + 1 for step in taken] == [1, 49, 10]
    assert all(step.result.Ys and not any(each.result.Ys for each in step.earlier) for step in taken)


def test_a_resumed_run_has_the_same_bits(device, tmp_path):
    problem, path = Problem(device), tmp_path / "run.h5"
    whole = problem.solve(dlra.AugmentedBUG(), 60)
    F = dlra.factored(lambda t, Y: problem.value(Y))
    options = {"method": dlra.AugmentedBUG(), "dt": H, "checkpoint": dlra.Checkpoint(path, every=7)}
    dlra.solve(F, (0.0, 0.6), problem.Y0, t_eval=[0.6], max_steps=24, throw=False, **options)
    resumed = dlra.solve(F, (0.0, 0.6), problem.Y0, t_eval=[0.6], resume=path, **options)
    assert (resumed.nsteps, resumed.nfev) == (whole.nsteps, whole.nfev)
    for a, b in zip(resumed.y_final.factors, whole.y_final.factors, strict=True):
        assert np.array_equal(to_numpy(a), to_numpy(b))


# ---- failures


STAGES = {"K": RIGHT, "L": LEFT, "S": BOTH}


def failing(problem, t, kind, failure):
    """F, which fails at the first evaluation after t of this kind of state."""

    def F(time, Y):
        if time > t and Y._orthonormal == kind:
            return failure(problem.value(Y))
        return problem.value(Y)

    return F


def nan(G):
    return float("nan") * G


def infinite(G):
    return float("inf") * G


def raises(G):
    raise ZeroDivisionError("as asked")


@pytest.mark.parametrize("failure", [nan, infinite, raises])
@pytest.mark.parametrize("stage", STAGES)
@by_name({"augmented": dlra.AugmentedBUG(), "free": dlra.AugmentedBUG(rtol=1e-3), "bug": dlra.BUG(),
          "parallel": dlra.ParallelBUG(), "projector-splitting": dlra.ProjectorSplitting()})  # fmt: skip
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_failure_is_found_and_named(device, broken_down, at_once, method, stage, failure):
    problem = Problem(device)
    F = failing(problem, 8.2 * H, STAGES[stage], failure)

    def run():
        return problem.solve(method, 12, F, t_eval=None, throw=False)

    ahead, plain = run(), at_once(run)
    assert ahead.message == plain.message
    assert "step 9 (h = 0.01), rank 3" in ahead.message and f"stage {stage}" in ahead.message
    assert (ahead.status, ahead.nsteps, ahead.nfev) == (-1, 8, plain.nfev)
    assert ahead.t_final == plain.t_final and len(ahead.y) == len(plain.y) == 9
    assert np.array_equal(to_numpy(ahead.y_final.U), to_numpy(plain.y_final.U))


@pytest.mark.parametrize("substep", ["euler", "rk4"])
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_growth_is_noticed(device, at_once, substep):
    problem = Problem(device)

    def run():
        return problem.solve(dlra.AugmentedBUG(substep=substep), 40, lambda t, Y: -9e4 * Y, throw=False)

    ahead, plain = run(), at_once(run)
    assert "the solution blows up" in ahead.message and ahead.message == plain.message
    assert ahead.nsteps == plain.nsteps


def test_the_warning_of_a_rank_too_small_comes_once(device, at_once):
    def found(run):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
        return [(str(w.message).partition("of norm")[0], w.filename) for w in caught]

    problem = Problem(device)
    grow = device.asarray(np.random.default_rng(3).standard_normal((20, 16)))

    def run():
        problem.solve(dlra.AugmentedBUG(), 20, lambda t, Y: (10.0 if t > 0.1 else 0.0) * grow)

    assert found(run) == found(lambda: at_once(run))
    assert len(found(run)) == 1 and found(run)[0][1] == __file__


def test_ctrl_c_keeps_what_is_done(device, at_once):
    problem = Problem(device)

    def F(t, Y):
        if t > 33.2 * H:
            raise KeyboardInterrupt
        return problem.value(Y)

    def run():
        return problem.solve(dlra.AugmentedBUG(), 60, F, t_eval=None)

    ahead, plain = run(), at_once(run)
    assert (ahead.status, ahead.nsteps, ahead.message) == (1, 33, plain.message)
    assert np.array_equal(to_numpy(ahead.y_final.U), to_numpy(plain.y_final.U))


def test_max_steps(device, at_once):
    problem = Problem(device)

    def run():
        return problem.solve(dlra.BUG(), 60, max_steps=23, throw=False)

    assert run().message == at_once(run).message and run().nsteps == 23


def test_a_core_that_is_not_finite_has_no_rank(device):
    S = device.asarray(np.asarray([[1.0, np.nan], [0.0, 1.0]]))
    for hermitian in (False, True):
        sizes = linalg.decompose(S, hermitian).sizes
        assert np.isnan(to_numpy(sizes)).all()
        with pytest.raises(FloatingPointError, match="not finite"):
            linalg.truncation_rank(sizes, 1e-3, 0.0, 1, None)
        assert linalg.truncation_rank(sizes, 0.0, 0.0, 1, 1)[0] == 1


# ---- bases of a width that shapes tell


def directions(kind: str, rng, U0: np.ndarray, k: int) -> np.ndarray:
    m, r = U0.shape
    X = rng.standard_normal((m, k))
    if U0.dtype.kind == "c":
        X = X + 1j * rng.standard_normal((m, k))
    if kind == "zero":
        X = 0.0 * X
    elif kind == "dependent":
        X = X[:, :1] @ X[:1, :]
    elif kind == "inside":
        X = U0 @ X[:r, :]
    elif kind == "nearly inside":
        X = U0 @ X[:r, :] + 1e-6 * X
    elif kind == "graded":
        X = X * 10.0 ** (-20.0 * np.arange(k) / max(k - 1, 1))
    elif kind == "graded values":
        P, s, Qh = np.linalg.svd(X, full_matrices=False)
        X = (P * 10.0 ** (-20.0 * np.arange(len(s)) / max(len(s) - 1, 1))) @ Qh
    elif kind == "tiny":
        X = 1e-25 * X
    elif kind == "huge":
        X = 1e25 * X
    elif kind == "units":
        X = np.eye(m, k)
    return X.astype(U0.dtype)


KINDS = (
    "random",
    "zero",
    "dependent",
    "inside",
    "nearly inside",
    "graded",
    "graded values",
    "tiny",
    "huge",
    "units",
)


@given(
    st.sampled_from(DTYPES), st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 12), st.integers(1, 150),
    st.integers(0, 2**31),
)  # fmt: skip
def test_bases_of_fixed_width(dtype, kind, r, k, more, seed):
    rng = np.random.default_rng(seed)
    m = r + more
    U0 = np.linalg.qr(directions("random", rng, np.zeros((m, 0), dtype), r))[0].astype(dtype)
    X = directions(kind, rng, U0, k)
    U = gpu.augment(U0, X)
    unit = np.finfo(dtype).eps
    assert U.shape == (m, min(m, r + k)) and U.dtype == U0.dtype
    assert np.array_equal(U[:, :r], U0)
    before = np.linalg.norm(U0.conj().T @ U0 - np.eye(r), 2)
    assert np.linalg.norm(U.conj().T @ U - np.eye(U.shape[1]), 2) <= 20 * unit + 2 * before
    wide = X.astype(np.complex128)
    rest = np.linalg.norm(wide - U @ (U.conj().T @ wide), axis=0)
    assert np.all(rest <= 500 * unit * np.linalg.norm(wide, axis=0))
    alone = gpu.orthonormalize(X)
    assert alone.shape == (m, min(m, k))
    assert np.linalg.norm(alone.conj().T @ alone - np.eye(min(m, k)), 2) <= 20 * unit


def test_wide_bases_of_fixed_width():
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        U0 = np.linalg.qr(rng.standard_normal((3000, 64)))[0].astype(dtype)
        for kind in KINDS:
            X = directions(kind, rng, U0, 64)
            U = gpu.augment(U0, X)
            assert np.linalg.norm(U.conj().T @ U - np.eye(128), 2) <= 20 * np.finfo(dtype).eps, (dtype, kind)


@pytest.mark.parametrize("name", ["numpy", "strict-device1"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stacks_of_bases(name, dtype):
    library, rng = get_library(name), np.random.default_rng(1)
    U0 = np.linalg.qr(rng.standard_normal((3, 40, 5)))[0].astype(dtype)
    X = np.stack([directions(kind, rng, U0[0], 4) for kind in ("random", "zero", "dependent")])
    U = to_numpy(gpu.augment(library.asarray(U0), library.asarray(X)))
    assert U.shape == (3, 40, 9)
    for i in range(3):
        assert np.linalg.norm(U[i].conj().T @ U[i] - np.eye(9), 2) <= 20 * np.finfo(dtype).eps
        alone = to_numpy(gpu.augment(library.asarray(U0[i]), library.asarray(X[i])))
        np.testing.assert_allclose(abs(alone.conj().T @ U[i]), np.eye(9), atol=1e6 * np.finfo(dtype).eps)


def test_what_is_not_finite_stays_so():
    for bad in (np.nan, np.inf, -np.inf):
        X = np.ones((30, 2))
        X[4, 1] = bad
        with np.errstate(all="ignore"):
            unit = gpu._unit_columns(X)
        assert not np.isfinite(unit[4, 1]) and np.isfinite(unit[:, 0]).all()


def test_nothing_is_read_for_a_basis(device):
    rng = np.random.default_rng(0)
    U0 = device.asarray(np.linalg.qr(rng.standard_normal((30, 4)))[0])
    X = device.asarray(rng.standard_normal((30, 4)))
    with host_reads() as reads:
        gpu.augment(U0, X)
    assert not reads
