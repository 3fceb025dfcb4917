"""Bad input: the error names the argument, the value that came and the remedy, before any work starts."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import M, N, R, normal, random_lowrank, random_orthonormal

import dlra
from dlra import (
    BUG,
    AugmentedBUG,
    Checkpoint,
    Event,
    Galerkin,
    LowRank,
    ProjectorSplitting,
    SemiLinear,
    SolveError,
    factored,
    integrators,
    linalg,
)

CALLS: list[float] = []


def F(t, Y):
    CALLS.append(t)
    return [-y for y in Y] if isinstance(Y, list) else -Y


def G(Y):
    CALLS.append(0.0)
    return -Y


def state(dtype="float64", seed=0) -> LowRank:
    return random_lowrank(np.random.default_rng(seed), M, N, R, dtype)


def spoilt(which, value) -> LowRank:
    factors = [np.array(a) for a in state().factors]
    factors["USV".index(which)][0, 0] = value
    return LowRank(*factors)


ENTRIES = {
    "solve": lambda **kw: dlra.solve(**kw),
    "solve without throwing": lambda **kw: dlra.solve(**kw, throw=False),
    "iterate": lambda **kw: dlra.iterate(**kw),  # at once, not at the first next()
}

# what differs from a good call, the exception, and what its text must say
RUN = [
    # time
    ({"t_span": (0,)}, ValueError, r"t_span must be a pair \(t0, t1\), got \(0,\)"),
    ({"t_span": (0, 1, 2)}, ValueError, r"t_span must be a pair \(t0, t1\), got \(0, 1, 2\)"),
    ({"t_span": 1.0}, ValueError, r"t_span must be a pair .*got 1\.0"),
    ({"t_span": None}, ValueError, "t_span must be a pair .*got None"),
    ({"t_span": ("a", 1)}, TypeError, r"t0 of t_span must be a real number, got 'a' \(str\)"),
    ({"t_span": (0, 1j)}, TypeError, r"t1 of t_span must be a real number, got 1j"),
    ({"t_span": (0, np.inf)}, ValueError, r"t_span must be finite, got \(0\.0, inf\)"),
    ({"t_span": (np.nan, 1)}, ValueError, r"t_span must be finite, got \(nan, 1\.0\)"),
    ({"t_span": (1, 1)}, ValueError, r"t_span must have positive length, got \(1\.0, 1\.0\)"),
    ({"dt": None, "rtol": 0}, ValueError, "rtol and atol are both 0"),
    ({"dt": None, "rtol": -1e-6}, ValueError, "rtol must be finite and >= 0"),
    ({"dt": None, "rtol": 1.5}, ValueError, "rtol must be below 1"),
    ({"dt": None, "atol": float("nan")}, ValueError, "atol must be finite"),
    ({"dt": 0}, ValueError, r"dt must be positive and finite \(the direction comes from t_span\), got 0"),
    ({"dt": -0.1}, ValueError, r"dt must be positive and finite .*got -0\.1"),
    ({"dt": np.nan}, ValueError, "dt must be positive and finite .*got nan"),
    ({"dt": np.inf}, ValueError, "dt must be positive and finite .*got inf"),
    ({"dt": "0.1"}, TypeError, r"dt must be a real number, got '0\.1' \(str\)"),
    ({"dt": 1j}, TypeError, "dt must be a real number, got 1j"),
    ({"dt": True}, TypeError, "dt must be a real number, got True"),
    ({"dt": [0.1]}, TypeError, "dt must be a real number, got .* "),
    (
        {"rtol": 1e-6},
        ValueError,
        r"rtol and atol .* time step and do not go with dt.*AugmentedBUG\(rtol=\.\.\.\)",
    ),
    (
        {"atol": 1e-6},
        ValueError,
        r"rtol and atol .* time step and do not go with dt.*AugmentedBUG\(rtol=\.\.\.\)",
    ),
    ({"rtol": "1e-6", "dt": None}, TypeError, "rtol must be a real number"),
    (
        {"t_eval": [2.0]},
        ValueError,
        r"t_eval must lie within t_span = \(0\.0, 1\.0\), got values from 2\.0 to 2\.0",
    ),
    ({"t_eval": [-0.5, 0.5]}, ValueError, r"t_eval must lie within t_span .*from -0\.5 to 0\.5"),
    ({"t_eval": [0.5, np.nan]}, ValueError, "t_eval must lie within t_span .*nan"),
    ({"t_eval": [0.5, 0.2]}, ValueError, r"t_eval must be strictly ascending.* got 0\.2 after 0\.5"),
    ({"t_eval": [0.1, 0.5, 0.5]}, ValueError, r"t_eval must be strictly ascending.* got 0\.5 after 0\.5"),
    (
        {"t_span": (1, 0), "t_eval": [0.2, 0.5]},
        ValueError,
        r"strictly descending, as the run goes from 1\.0 to 0\.0; got 0\.5 after 0\.2",
    ),
    ({"t_eval": []}, ValueError, r"t_eval must be a vector of at least one time, got shape \(0,\)"),
    ({"t_eval": 0.5}, ValueError, r"t_eval must be a vector .*got shape \(\)"),
    ({"t_eval": [[0.1], [0.2]]}, ValueError, r"t_eval must be a vector .*got shape \(2, 1\)"),
    ({"t_eval": "now"}, TypeError, "t_eval must be a sequence of real numbers, got 'now'"),
    ({"t_eval": ["now"]}, TypeError, "t_eval must be a sequence of real numbers, got .*now"),
    ({"t_eval": [1j]}, TypeError, "t_eval must be a sequence of real numbers, got .*1j"),
    # the initial value
    (
        {"Y0": np.ones((M, N))},
        TypeError,
        rf"Y0 .*dense array of shape \({M}, {N}\); use LowRank\.from_dense\(Y0, rank=",
    ),
    ({"Y0": None}, TypeError, r"Y0 must be a LowRank, got NoneType; make one with LowRank\(U, S, V\)"),
    ({"Y0": 3.0}, TypeError, "Y0 must be a LowRank, got float"),
    (
        {"Y0": sp.csr_array(np.ones((M, N)))},
        TypeError,
        rf"Y0 must be a LowRank, got csr_array of shape \({M}, {N}\)",
    ),
    ({"Y0": state() + np.ones((M, N))}, TypeError, "Y0 must be a LowRank, got LazySum"),
    ({"Y0": []}, ValueError, "Y0 is an empty list; a coupled system needs at least one matrix"),
    ({"Y0": [state(), None]}, TypeError, r"Y0\[1\] must be a LowRank or an array, got NoneType"),
    ({"Y0": [[1.0, 2.0], [3.0, 4.0]]}, TypeError, r"Y0\[0\] must be a LowRank or an array, got list"),
    (
        {"Y0": [np.ones((2, 2), dtype=int)]},
        TypeError,
        r"Y0\[0\] must have dtype .*got int64; cast it with astype",
    ),
    ({"Y0": [state(), np.ones(3, dtype="float16")]}, TypeError, r"Y0\[1\] must have dtype .*got float16"),
    ({"Y0": spoilt("U", np.nan)}, ValueError, r"Y0\.U contains NaN or infinite values"),
    ({"Y0": spoilt("S", np.inf)}, ValueError, r"Y0\.S contains NaN or infinite values"),
    ({"Y0": spoilt("V", -np.inf)}, ValueError, r"Y0\.V contains NaN or infinite values"),
    ({"Y0": [state(), spoilt("S", np.nan)]}, ValueError, r"Y0\[1\]\.S contains NaN"),
    ({"Y0": [state(), np.array([1.0, np.nan])]}, ValueError, r"Y0\[1\] contains NaN"),
    (
        {"Y0": LowRank(np.ones((2, 3)), None, np.ones((4, 3)))},
        ValueError,
        r"Y0 has factors of rank 3, more than min\(m, n\) = 2; take Y0\.truncate\(\)",
    ),
    # the field
    ({"F": None}, TypeError, "F must be callable, .*got NoneType"),
    ({"F": np.eye(M)}, TypeError, rf"F must be callable, .*got ndarray of shape \({M}, {M}\)"),
    ({"F": "rotation"}, TypeError, "F must be callable, .*got str"),
    ({"F": lambda: None}, TypeError, r"F must take \(t, Y\) or \(Y\), got a function of 0 required"),
    ({"F": lambda a, b, c: None}, TypeError, r"3 required positional arguments \(a, b, c\).*args"),
    ({"F": factored(lambda a, b, c: None)}, TypeError, r"3 required positional arguments \(a, b, c\)"),
    (
        {"F": G, "args": (1.0,)},
        TypeError,
        r"F must take .* and the 1 extra arguments in args, got .* of 1 required",
    ),
    ({"args": 3.0}, TypeError, r"args must be a tuple .*got float; write args=\(value,\)"),
    ({"args": [3.0]}, TypeError, r"args must be a tuple .*got list"),
    (
        {"F": SemiLinear(np.eye(M + 1), None, F)},
        ValueError,
        rf"A of SemiLinear has shape \({M + 1}, {M + 1}\), but Y0",
    ),
    (
        {"F": SemiLinear(1j * np.eye(M), None, F)},
        TypeError,
        "A of SemiLinear is complex128 but Y0 is float64.*astype",
    ),
    ({"F": SemiLinear(np.eye(M)), "Y0": [state()]}, TypeError, "SemiLinear is a field for one matrix"),
    ({"F": SemiLinear(np.eye(M), None, lambda: None)}, TypeError, r"F must take \(t, Y\) or \(Y\)"),
    (
        {"F": SemiLinear(np.eye(M), None, np.ones((N, M)))},
        ValueError,
        "G of SemiLinear must have the shape of Y",
    ),
    # the method
    (
        {"method": "rk45"},
        ValueError,
        "unknown method 'rk45'; known are 'bug', 'augmented-bug', ",
    ),
    (
        {"method": "augmented_bug"},
        ValueError,
        "unknown method 'augmented_bug'; .*did you mean 'augmented-bug'",
    ),
    ({"method": AugmentedBUG}, TypeError, r"method must be an integrator object .*write AugmentedBUG\(\)"),
    ({"method": None}, TypeError, "method must be a name .*or an integrator object, got None"),
    ({"method": 3}, TypeError, "method must be a name .*got 3"),
    (
        {"method": AugmentedBUG(rtol=0.1, min_rank=N + 1)},
        ValueError,
        rf"min_rank must not exceed .*{N} of Y0, got {N + 1}",
    ),
    (
        {"method": AugmentedBUG(rtol=(0.1, 0.2))},
        ValueError,
        "rank options are given for 2 members, but the state has 1",
    ),
    # the rest
    ({"events": 3}, TypeError, r"events must be dlra\.Event\(function, .*got int"),
    ({"events": lambda state: 1.0}, TypeError, r"events must be dlra\.Event\(function, .*got function"),
    ({"events": [Event(lambda state: 1.0), 3]}, TypeError, "events must be .*got int"),
    ({"max_steps": 0}, ValueError, "max_steps must be at least 1, got 0"),
    ({"max_steps": 1.5}, TypeError, r"max_steps must be an int or None, got 1\.5"),
    ({"max_steps": True}, TypeError, "max_steps must be an int or None, got True"),
    ({"checkpoint": 5}, TypeError, "path of a Checkpoint must be a path, got int"),
    (
        {"checkpoint": "/no/such/place/run.h5"},
        OSError,
        "/no/such/place/run.h5: create the directory /no/such/place",
    ),
    ({"resume": 5}, TypeError, "resume must be the path of a checkpoint, got int"),
    ({"resume": "/no/such/place/run.h5"}, OSError, "there is no file /no/such/place/run.h5"),
    ({"resume": __file__}, ValueError, "is foreign: not an HDF5 file; give a file written by"),
]


def title(case) -> str:
    given = case[0] if isinstance(case, tuple) else case
    if isinstance(given, dict):
        return "-".join(f"{name}={type(value).__name__}" for name, value in given.items())
    return str(given)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("case", RUN, ids=title)
def test_a_run(entry, case):
    changes, error, text = case
    CALLS.clear()
    given = {"F": F, "t_span": (0, 1), "Y0": state(), "dt": 0.5} | changes
    with pytest.raises(error, match=text) as caught:
        ENTRIES[entry](**given)
    assert not isinstance(caught.value, SolveError)
    assert CALLS == [], "F was called before the input was checked"


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"save": 3}, TypeError, "save must be a function of the state, got int"),
        ({"save": "all"}, TypeError, "save must be a function of the state, got str"),
        ({"callback": 3}, TypeError, "callback must be a function of the state, got int"),
        ({"tol": 1e-3}, TypeError, "tol"),
    ],
)
def test_arguments_of_solve_alone(changes, error, text):
    CALLS.clear()
    with pytest.raises(error, match=text):
        dlra.solve(F, (0, 1), state(), dt=0.5, **changes)
    assert CALLS == []


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"t": "now"}, TypeError, r"t must be a real number, got 'now' \(str\)"),
        ({"t": np.nan}, ValueError, "t must be finite and h finite and nonzero, got t = nan"),
        ({"t": np.inf}, ValueError, "t must be finite and h finite and nonzero, got t = inf"),
        ({"h": 0}, ValueError, r"h finite and nonzero, got t = 0\.0 and h = 0\.0"),
        ({"h": np.nan}, ValueError, "h finite and nonzero, got .*h = nan"),
        ({"h": None}, TypeError, r"h must be a real number, got None \(NoneType\)"),
        ({"h": True}, TypeError, "h must be a real number, got True"),
        ({"Y": np.ones((M, N))}, TypeError, r"dense array of shape .*LowRank\.from_dense\(Y0, rank="),
        ({"Y": None}, TypeError, "Y0 must be a LowRank, got NoneType"),
        ({"Y": spoilt("S", np.nan)}, ValueError, "contains NaN or infinite values"),
        ({"F": None}, TypeError, "F must be callable"),
        ({"F": lambda: None}, TypeError, r"F must take \(t, Y\) or \(Y\)"),
        ({"args": 3.0}, TypeError, "args must be a tuple"),
        ({"method": "euler"}, ValueError, "unknown method 'euler'; known are"),
        ({"method": BUG}, TypeError, r"write BUG\(\), with parentheses"),
        ({"method": AugmentedBUG(rtol=0.1, min_rank=20)}, ValueError, "min_rank must not exceed"),
    ],
)
def test_a_step(changes, error, text):
    CALLS.clear()
    given = {"F": F, "t": 0, "h": 0.1, "Y": state()} | changes
    with pytest.raises(error, match=text) as caught:
        dlra.step(**given)
    assert not isinstance(caught.value, SolveError)
    assert CALLS == []


# ---- options of methods, events, checkpoints ---------------------------------------------------------------------

OPTIONS = [
    (
        AugmentedBUG,
        {"rtol": -1e-3},
        ValueError,
        r"rtol must be finite and >= 0 \(a truncation tolerance\), got -0\.001",
    ),
    (AugmentedBUG, {"rtol": np.nan}, ValueError, "rtol must be finite and >= 0 .*got nan"),
    (AugmentedBUG, {"atol": np.inf}, ValueError, "atol must be finite and >= 0 .*got inf"),
    (AugmentedBUG, {"rtol": "small"}, TypeError, "rtol must be a number, got str"),
    (AugmentedBUG, {"rtol": True}, TypeError, "rtol must be a number, got bool"),
    (AugmentedBUG, {"rtol": 1j}, TypeError, "rtol must be a number, got complex"),
    (AugmentedBUG, {"rtol": (0.1, -0.1)}, ValueError, r"rtol must be .*got -0\.1"),
    (AugmentedBUG, {"min_rank": 0}, ValueError, "min_rank must be at least 1, got 0"),
    (AugmentedBUG, {"min_rank": 2.0}, TypeError, r"min_rank must be an int, got 2\.0 \(float\)"),
    (AugmentedBUG, {"min_rank": None}, TypeError, r"min_rank must be an int, got None"),
    (AugmentedBUG, {"max_rank": 0}, ValueError, "max_rank must be at least 1, got 0"),
    (AugmentedBUG, {"max_rank": -3}, ValueError, "max_rank must be at least 1, got -3"),
    (AugmentedBUG, {"max_rank": True}, TypeError, "max_rank must be an int, got True"),
    (AugmentedBUG, {"max_rank": "8"}, TypeError, r"max_rank must be an int, got '8' \(str\)"),
    (
        AugmentedBUG,
        {"min_rank": 5, "max_rank": 3},
        ValueError,
        "min_rank must not exceed max_rank, got min_rank=5 and max_rank=3",
    ),
    (
        AugmentedBUG,
        {"rtol": (0.1, 0.2), "max_rank": (3, 4, 5)},
        ValueError,
        r"need one length, got lengths \[2, 3\]",
    ),
    (AugmentedBUG, {"tolerance": 0.1}, TypeError, "tolerance"),
    (ProjectorSplitting, {"order": 3}, ValueError, "order of ProjectorSplitting must be 1, 2 or 4, got 3"),
    (
        ProjectorSplitting,
        {"order": "2"},
        ValueError,
        "order of ProjectorSplitting must be 1, 2 or 4, got '2'",
    ),
    (ProjectorSplitting, {"order": True}, ValueError, "order of ProjectorSplitting must be .*got True"),
    (ProjectorSplitting, {"rtol": 0.1}, TypeError, "rtol"),
    (BUG, {"rtol": 0.1}, TypeError, "rtol"),
    (Galerkin, {"max_rank": 3}, TypeError, "max_rank"),
    (Event, {"function": 3.0}, TypeError, "function of an Event must be callable, got float"),
    (Event, {"function": F, "direction": 2}, ValueError, "direction of an Event must be -1, 0 or 1, got 2"),
    (Event, {"function": F, "direction": "up"}, ValueError, "direction of an Event must be .*got 'up'"),
    (Checkpoint, {"path": 3}, TypeError, "path of a Checkpoint must be a path, got int"),
    (Checkpoint, {"path": "a.h5", "every": 0}, ValueError, "every must be positive and finite, got 0"),
    (
        Checkpoint,
        {"path": "a.h5", "every": -1.0},
        ValueError,
        r"every must be positive and finite, got -1\.0",
    ),
    (Checkpoint, {"path": "a.h5", "every": np.nan}, ValueError, "every must be positive and finite, got nan"),
    (Checkpoint, {"path": "a.h5", "every": np.inf}, ValueError, "every must be positive and finite, got inf"),
    (
        Checkpoint,
        {"path": "a.h5", "every": "10s"},
        TypeError,
        r"every must be seconds \(a float\) or steps \(an int\), got '10s'",
    ),
    (Checkpoint, {"path": "a.h5", "every": True}, TypeError, "every must be seconds .*got True"),
    (factored, {"F": 3.0}, TypeError, r"factored takes a callable F\(t, Y\) or F\(Y\), got float"),
    (factored, {"F": np.eye(2)}, TypeError, r"factored takes a callable .*got ndarray of shape \(2, 2\)"),
    (SemiLinear, {"A": None}, ValueError, "SemiLinear needs A or B"),
    (SemiLinear, {"A": "laplace"}, TypeError, r"A must be a square matrix \(dense, sparse, .*got str"),
    (SemiLinear, {"A": np.ones((2, 3))}, ValueError, r"A must be a square matrix, got shape \(2, 3\)"),
    (SemiLinear, {"A": np.eye(2), "B": np.ones((2, 3))}, ValueError, "B must be a square matrix"),
    (
        SemiLinear,
        {"A": np.eye(2), "E": np.eye(3)},
        ValueError,
        r"E must be .*shape of A and B, got .*\(3, 3\)",
    ),
    (SemiLinear, {"A": np.eye(2), "G": 3.0}, TypeError, "G must be a callable .*got float"),
    (
        integrators.by_name,
        {"method": "bug", "substep": "rk5"},
        ValueError,
        "unknown substep 'rk5'; known are auto, euler",
    ),
    (integrators.by_name, {"method": "bug", "rank": 3}, TypeError, "rank"),
]
OPTIONS += [
    (method, {"substep": substep}, error, text)
    for method in (BUG, AugmentedBUG, ProjectorSplitting, Galerkin)
    for substep, error, text in (
        ("rk5", ValueError, "unknown substep 'rk5'; known are auto, euler, heun, rk4, adaptive, exponential"),
        (None, TypeError, "substep must be one of auto, euler.* or a substep object, got None"),
        (4, TypeError, "substep must be one of .*got 4"),
        (dlra.substeps.Adaptive, TypeError, "substep must be one of .*got <class"),
    )
]


@pytest.mark.parametrize(
    ("make", "options", "error", "text"),
    OPTIONS,
    ids=[f"{getattr(make, '__name__', make)}-{title(options)}" for make, options, _, _ in OPTIONS],
)
def test_options(make, options, error, text):
    with pytest.raises(error, match=text):
        make(**options)


# ---- LowRank -------------------------------------------------------------------------------------------------------

U, S, V = state().factors
ONES = np.ones

LOW_RANK = [
    (lambda: LowRank(U.tolist(), S, V), TypeError, "U must be an array, got list"),
    (lambda: LowRank(None, S, V), TypeError, "U must be an array, got NoneType"),
    (lambda: LowRank(U, 3.0, V), TypeError, "S must be an array, got float"),
    (lambda: LowRank(U, S, sp.csr_array(V)), TypeError, "V must be an array, got csr_array"),
    (lambda: LowRank(state(), S, V), TypeError, "U must be an array, got LowRank"),
    (
        lambda: LowRank(U, ONES(R), V),
        ValueError,
        r"S must be a matrix, got .*\(3,\); .*use LowRank\.from_svd\(U, s, Vh\)",
    ),
    (lambda: LowRank(U[:, 0], S, V), ValueError, rf"U must be a matrix, got an array of shape \({M},\)"),
    (
        lambda: LowRank(U, S, V.T),
        ValueError,
        r"V has shape \(n, r\), not \(r, n\): for Vh .*use LowRank\.from_svd",
    ),
    (lambda: LowRank(U, None, V.T), ValueError, r"for Vh as svd returns it use LowRank\.from_svd"),
    (
        lambda: LowRank(U, None, V[:, :2]),
        ValueError,
        rf"factors do not fit: U \({M}, 3\), S None .*V \({N}, 2\); expected",
    ),
    (
        lambda: LowRank(U, S[:2], V),
        ValueError,
        rf"factors do not fit: U \({M}, 3\), S \(2, 3\), V \({N}, 3\); expected U \(m, r\)",
    ),
    (lambda: LowRank(U[:, :0], None, V[:, :0]), ValueError, rf"factors must not be empty, got U \({M}, 0\)"),
    (lambda: LowRank(U[:0], S, V), ValueError, "factors must not be empty"),
    (
        lambda: LowRank(U.astype("float32"), S, V),
        TypeError,
        "factors need one dtype, got U float32 and S float64; cast with astype",
    ),
    (lambda: LowRank(U, S, V + 0j), TypeError, "factors need one dtype, got U float64 and V complex128"),
    (
        lambda: LowRank(U.astype(int), None, V.astype(int)),
        TypeError,
        "U must have dtype float32, .*got int64; cast it with astype",
    ),
    (lambda: LowRank(U.astype("float16"), S, V), TypeError, "U must have dtype .*got float16"),
    (lambda: LowRank(U.astype(object), S, V), TypeError, "U must have dtype .*got object"),
    (
        lambda: LowRank.from_svd(U, S, V.T),
        ValueError,
        r"s must be the vector of singular values, shape \(r,\), got ndarray of shape \(3, 3\)",
    ),
    (
        lambda: LowRank.from_svd(U, [1.0, 2.0, 3.0], V.T),
        ValueError,
        "s must be the vector of singular values, .*got list",
    ),
    (
        lambda: LowRank.from_svd(U, ONES(R), V),
        ValueError,
        r"Vh must have shape \(r, n\) with r = 3 .*full_matrices=False",
    ),
    (lambda: LowRank.from_svd(U[:, :2], ONES(R), V.T), ValueError, r"U must have shape \(m, r\) with r = 3"),
    (lambda: LowRank.from_dense([[1.0]]), TypeError, "A must be a dense array, got list"),
    (lambda: LowRank.from_dense(state()), TypeError, "A must be a dense array, got LowRank"),
    (
        lambda: LowRank.from_dense(sp.csr_array(ONES((3, 2)))),
        TypeError,
        "A must be a dense array, got csr_array",
    ),
    (lambda: LowRank.from_dense(ONES(3)), ValueError, r"A must be a matrix, got an array of shape \(3,\)"),
    (
        lambda: LowRank.from_dense(ONES((3, 2), dtype=int)),
        TypeError,
        "A must have dtype .*got int64; cast it with astype",
    ),
    (lambda: LowRank.from_dense(np.full((3, 2), np.nan)), ValueError, "A contains NaN or infinite values"),
    (lambda: LowRank.from_dense(np.full((3, 2), np.inf)), ValueError, "A contains NaN or infinite values"),
    (
        lambda: LowRank.from_dense(ONES((3, 2)), rank=0),
        ValueError,
        r"rank must lie between 1 and min\(m, n\) = 2, got 0",
    ),
    (
        lambda: LowRank.from_dense(ONES((3, 2)), rank=3),
        ValueError,
        r"rank must lie between 1 and min\(m, n\) = 2, got 3",
    ),
    (
        lambda: LowRank.from_dense(ONES((3, 2)), rank=1.0),
        TypeError,
        r"rank must be an int, got 1\.0 \(float\)",
    ),
    (lambda: LowRank.from_dense(ONES((3, 2)), rtol=-1), ValueError, "rtol must be finite and >= 0 .*got -1"),
    (lambda: state().truncate(rtol=-1), ValueError, "rtol must be finite and >= 0 .*got -1"),
    (lambda: state().truncate(atol=np.nan), ValueError, "atol must be finite and >= 0 .*got nan"),
    (lambda: state().truncate(max_rank=0), ValueError, "max_rank must be at least 1, got 0"),
    (lambda: state().truncate(max_rank=1.5), TypeError, "max_rank must be an int"),
    (
        lambda: state().truncate(min_rank=3, max_rank=2),
        ValueError,
        "min_rank must not exceed max_rank, got min_rank=3 and max_rank=2",
    ),
    (
        lambda: linalg.truncate(ONES((3, 2))),
        TypeError,
        r"Y must be a LowRank, got ndarray .*use LowRank\.from_dense\(Y, rank=",
    ),
    (lambda: state().astype("int32"), TypeError, "dtype must be one of float32, .*got 'int32'"),
    (lambda: state("complex128").astype("float64"), TypeError, "complex128 LowRank does not cast to float64"),
]


@pytest.mark.parametrize(
    "case", range(len(LOW_RANK)), ids=[re.sub(r"\W+", "-", text[:40]) for _, _, text in LOW_RANK]
)
def test_low_rank_matrices(case):
    make, error, text = LOW_RANK[case]
    with pytest.raises(error, match=text):
        make()


# ---- mistakes of a newcomer, seen from solve -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda Y: np.sin(Y), r"LowRank does not support np\.sin.*dlra\.entrywise.*to_dense"),
        (lambda Y: Y**3, r"LowRank does not support \*\* 3.*dlra\.entrywise.*to_dense"),
        (lambda Y: -Y + 1, r"LowRank does not support \+ a number.*to_dense"),
        (lambda Y: Y / np.max(Y), r"np\.max.*dlra\.entrywise.*to_dense"),
        (lambda Y: Y if np.all(Y < 9) else -Y, r"comparison.*to_dense"),
    ],
)
def test_what_a_factored_field_cannot_do(function, text):
    with pytest.raises(SolveError, match=text) as caught:
        dlra.solve(factored(function), (0, 1), state(), dt=0.5)
    assert isinstance(caught.value.__cause__, TypeError)
    assert "without dlra.factored" in str(caught.value)
    dlra.step(
        function, 0.0, 0.01, state(), BUG(substep="euler")
    )  # the plain function is the remedy, and works


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_failures_name_their_place_and_keep_what_was_computed():
    """An exception in F, NaN in mid-run: t, step, rank, stage."""
    for bad in (
        functools.partial(np.full, fill_value=np.nan),
        functools.partial(np.full, fill_value=np.inf),
        None,
    ):

        def broken(t, Y, bad=bad):
            if t > 0.4:
                if bad is None:
                    raise ZeroDivisionError("no table for this t")
                return bad(Y.shape)
            return -Y

        with pytest.raises(SolveError, match=rf"t = 0\.4.*step 5 .*rank {R}.*stage ") as caught:
            dlra.solve(broken, (0, 1), state(), dt=0.1)
        solution = caught.value.solution
        assert solution.status == -1 and not solution.success
        assert solution.t.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4]) and len(solution.y) == 5
        assert isinstance(caught.value.__cause__, ZeroDivisionError) == (bad is None)


def test_blow_up_is_an_error_that_names_the_remedy():
    """An explicit method on a stiff problem."""
    A = -1e4 * np.diag(np.arange(1.0, M + 1))
    with pytest.raises(SolveError, match=r"t = .*step .*rank.*(reduce dt|SemiLinear)") as caught:
        dlra.solve(factored(lambda Y: A @ Y), (0, 100), state(), dt=1.0)
    assert caught.value.solution is not None


def test_members_of_a_system_are_named_and_libraries_do_not_mix(foreign, rng):
    Ys = [state(), random_lowrank(rng, M, N, R, "float64", foreign)]
    CALLS.clear()
    with pytest.raises(TypeError, match="arrays of different libraries do not mix"):
        dlra.solve(F, (0, 1), Ys, dt=0.5)
    with pytest.raises(TypeError, match="arrays of different libraries do not mix"):
        dlra.solve(F, (0, 1), [state(), foreign.asarray(normal(rng, (3, 3)))], dt=0.5)
    assert CALLS == []


def test_members_of_several_precisions_keep_them():
    Ys = [state("float32"), state("complex128"), np.ones(3, dtype="float32")]
    out = dlra.step(F, 0.0, 0.1, Ys)
    assert [str(Y.dtype) for Y in out] == ["float32", "complex128", "float32"]


def test_the_state_may_have_any_factors(rng):
    """Not bad input: factors that are not orthonormal, a rectangular core, a matrix of lower rank than its factors."""
    Q = random_orthonormal(rng, M, 2)
    for Y0 in (
        LowRank(3 * Q, None, normal(rng, (N, 2))),
        LowRank(Q, normal(rng, (2, 4)), normal(rng, (N, 4))),
        LowRank(np.hstack([Q, Q]), np.eye(4), normal(rng, (N, 4))),
        LowRank(np.zeros((M, 2)), np.zeros((2, 2)), np.zeros((N, 2))),
    ):
        out = dlra.step(F, 0.0, 0.1, Y0)
        assert out.rank == Y0.rank
        np.testing.assert_allclose(out.to_dense(), np.exp(-0.1) * Y0.to_dense(), atol=1e-5)
