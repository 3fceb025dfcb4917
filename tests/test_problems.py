"""Named problems: fields, initial values, references, observables and the numbers known from the literature."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    LIBRARIES,
    dense,
    eps,
    orthonormality,
    random_lowrank,
    random_orthonormal,
    relative_error,
    to_numpy,
)

import dlra
from dlra import LowRank, SemiLinear, problems
from dlra.problems import landau_rate
from dlra.problems._problem import trace

SMALL = {
    "allen-cahn": {"n": 24},
    "burgers-uncertain": {"nx": 40, "samples": 30},
    "heat-lyapunov": {"n": 45},
    "landau-damping": {"nx": 12, "nv": 32},
    "lattice-nls": {"n": 20},
    "plane-source": {"nx": 41, "moments": 24},
    "riccati": {"n": 40},
    "rotation": {"n": 16},
    "schroedinger": {"n": 18},
    "steel-lyapunov": {},
    "steel-riccati": {},
    "two-stream": {"nx": 13, "nv": 30},
}
COMPLEX = {"lattice-nls", "schroedinger"}
LANDAU = complex(1.4156618886, -0.1533594669)  # least damped root for k = 0.5


def make(name: str, **options) -> problems.Problem:
    return problems.get(name, **{**SMALL[name], **options})


def natural(name: str, single: bool = False) -> str:
    return (
        ("complex64" if single else "complex128") if name in COMPLEX else "float32" if single else "float64"
    )


def state(problem: problems.Problem, rng, rank: int = 4) -> LowRank:
    """A random state with dense core, in the problem's dtype, of the size of its initial value."""
    Y = random_lowrank(rng, *problem.shape, rank, problem.place.dtype)
    return Y * max(problem.Y0(1).norm(), 1e-3)


every = pytest.mark.parametrize("name", problems.names())


# ---- registry


def test_registry_holds_every_problem():
    assert set(problems.names()) == set(SMALL)
    for name in problems.names():
        factory = getattr(problems, name.replace("-", "_"))
        assert factory.__name__ == name.replace("-", "_")
        assert make(name).name == name
    assert problems.get("landau_damping", nx=8, nv=16).shape == (8, 16)


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match=r"unknown problem 'landau-dumping': did you mean 'landau-damping'"):
        problems.get("landau-dumping")
    with pytest.raises(ValueError, match=r"unknown problem 3"):
        problems.get(3)
    with pytest.raises(ValueError, match=r"no option 'nvx'; it has nx, nv, alpha"):
        problems.get("landau-damping", nvx=4)


@every
def test_contract(name):
    problem = make(name)
    m, n = problem.shape
    t0, t1 = problem.t_span
    assert t0 == 0 and t1 > 0
    assert problem.x.shape == (m,) and problem.y.shape == (n,)
    assert len(problem.labels) == 2 and problem.quantity and problem.description
    assert 1 <= problem.defaults["rank"] <= min(m, n)
    assert 0 < problem.defaults["dt"] < t1
    dlra.solve(
        problem.F,
        (0.0, problem.defaults["dt"]),
        problem.Y0(problem.defaults["rank"]),
        method=problem.defaults["method"],
        dt=problem.defaults["dt"],
    )
    assert name in repr(problem)


# ---- the field


@every
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("rank", [1, 5])
def test_dense_is_the_factored_field(name, single, rank, rng):
    problem = make(name, dtype=natural(name, single))
    Y = state(problem, rng, rank)
    factored, full = problem.F(0.3, Y), problem.dense(0.3, Y.to_dense())
    assert full.dtype == problem.place.dtype and factored.dtype == problem.place.dtype
    # The terms of F cancel (A Y + Y A, the field E): rounding is relative to the terms, not to their sum.
    scale = np.linalg.norm(full)
    if isinstance(problem.F, SemiLinear):
        scale += sum(np.linalg.norm(dense(part)) for part in (problem.F.linear_part(Y), full))
    assert np.linalg.norm(dense(factored) - full) <= 300 * eps(problem.place.dtype) * scale


@every
def test_the_field_stays_on_factors(name, rng):
    problem = make(name)
    Y = state(problem, rng, 2)
    widths = {
        "allen-cahn": 6 + 4,  # the cube of a real matrix of rank 2 has rank 4
        "burgers-uncertain": 2 + 4,
        "heat-lyapunov": 14,
        "landau-damping": 4,
        "lattice-nls": 4 + 8,
        "plane-source": 6,
        "riccati": 15,
        "rotation": 6,
        "schroedinger": 6,
        "steel-lyapunov": 11,
        "steel-riccati": 17,
        "two-stream": 4,
    }
    value = problem.F(0.0, Y)
    assert isinstance(value, LowRank)
    assert value.rank <= widths[name]


def test_schroedinger_is_its_definition(rng):
    n = 9
    problem = problems.schroedinger(n=n)
    Y = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    D = np.eye(n) - 0.5 * np.eye(n, k=1) - 0.5 * np.eye(n, k=-1)
    V = np.diag(1 - np.cos(2 * np.pi * np.arange(-4, 5) / n))
    assert relative_error(problem.dense(0.0, Y), -1j * (D @ Y + Y @ D.T + V @ Y @ V)) < 1e-14


def test_allen_cahn_is_its_definition(rng):
    n = 16
    problem = problems.allen_cahn(n=n)
    u = rng.standard_normal((n, n))
    x = np.linspace(0, 2 * np.pi, n)
    neighbours = sum(np.roll(u, shift, axis) for shift in (1, -1) for axis in (0, 1))
    expected = 0.01 * (neighbours - 4 * u) / (x[1] - x[0]) ** 2 + u - u**3
    assert relative_error(problem.dense(0.0, u), expected) < 1e-13
    i, j = 5, 11
    start = (
        2 * np.exp(-(np.tan(x[i]) ** 2)) * np.sin(x[i]) * np.sin(x[j])
        / (1 + np.exp(abs(1 / np.sin(-x[i] / 2))) + np.exp(abs(1 / np.sin(-x[j] / 2))))
    )  # fmt: skip
    assert problem.reference(0.0)[i, j] == pytest.approx(start, rel=1e-12)


def test_heat_lyapunov_is_its_definition(rng):
    n = 45
    problem = problems.heat_lyapunov(n=n)
    dx = 2 * np.pi / (n + 1)
    A = (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) / dx**2
    x = problem.x
    assert np.allclose(np.diff(x), dx)
    C = np.stack([10 ** (-(k - 1) / 2) * np.exp(-k * x**2) for k in range(1, 11)], axis=1)
    source = C @ C.T / np.linalg.norm(C @ C.T)
    Y = rng.standard_normal((n, n))
    assert relative_error(problem.dense(0.0, Y), A @ Y + Y @ A + source) < 1e-13
    weights = [1.0] + [5 * math.exp(-(7 + 0.5 * (k - 2))) for k in range(2, 21)]
    start = sum(b * np.outer(np.sin(k * x), np.sin(k * x)) for k, b in enumerate(weights, 1))
    assert relative_error(problem.Y0(20), start) < 1e-13


def test_riccati_is_its_definition(rng):
    n = 40
    problem = problems.riccati(n=n)
    x, h = problem.x, 1 / (n + 1)
    assert x[0] == pytest.approx(h) and np.allclose(np.diff(x), h)
    X = rng.standard_normal((n, n))
    X += X.T

    def alpha(at: np.ndarray) -> np.ndarray:
        return (2 + np.cos(2 * np.pi * at))[:, None]

    padded = np.pad(X, ((1, 1), (0, 0)))
    A_X = (alpha(x + h / 2) * (padded[2:] - X) - alpha(x - h / 2) * (X - padded[:-2])) / h**2 - X
    phase = 2 * np.pi * np.arange(1, 5)[:, None] * x
    c = np.concatenate((np.ones((1, n)), np.sqrt(2) * np.cos(phase), np.sqrt(2) * np.sin(phase)))
    assert relative_error(problem.dense(0.0, X), A_X + A_X.T + c.T @ c - X @ X) < 1e-13


def test_steel_is_its_definition(rng):
    problem = problems.steel_lyapunov()
    E, A = problem.F.E, problem.F.A
    with np.load(Path(problems.__file__).with_name("data") / "rail_371.npz") as data:
        B = data["B"]
    X = rng.standard_normal((371, 4))
    P = X @ X.T
    value = problem.dense(0.0, P)
    expected = A @ P @ E + E @ P @ A + B @ B.T
    assert relative_error(E @ value @ E, expected) < 1e-11


def test_steel_riccati_is_its_definition(rng):
    problem = problems.steel_riccati()
    E, A = problem.F.E, problem.F.A
    with np.load(Path(problems.__file__).with_name("data") / "rail_371.npz") as data:
        B, C = data["B"], data["C"]
    P = LowRank(rng.standard_normal((371, 4)), None, rng.standard_normal((371, 4))) * 1e6
    A_P = P.to_dense()
    expected = A @ A_P @ E + E @ A_P @ A + C.T @ C - E @ A_P @ (B @ B.T) @ A_P @ E
    assert relative_error(E @ problem.dense(0.0, A_P) @ E, expected) < 1e-9
    assert relative_error(problem.output(P), B.T @ A_P @ E) < 1e-12
    assert problem.observables["gain"](0.0, P) == pytest.approx(np.linalg.norm(B.T @ A_P @ E), rel=1e-12)


vlasov = pytest.mark.parametrize("name", ["landau-damping", "two-stream"])


@vlasov
def test_vlasov_is_the_equation_of_electrons(name):
    # -v ∂f/∂x + E ∂f/∂v with ∂E/∂x = 1 - ∫ f dv, written down for f = (1 + ε cos kx) M(v): the signs matter.
    def error(nv: int) -> float:
        problem = problems.get(name, nx=16, nv=nv)
        x, v = problem.x[:, None], problem.y[None, :]
        k, size = 2 * np.pi / (16 * problem.x[1]), 0.3
        maxwellian = np.exp(-(v**2) / 2) / np.sqrt(2 * np.pi)
        f, E = (1 + size * np.cos(k * x)) * maxwellian, -size / k * np.sin(k * x)
        return relative_error(problem.dense(0.0, f), size * k * np.sin(k * x) * v * maxwellian - E * v * f)

    assert error(256) < 1e-5
    assert 14 < error(128) / error(256) < 17  # fourth order in the velocities


# ---- conservation


@vlasov
def test_vlasov_conserves(name, rng):
    problem = problems.get(name, nx=12, nv=40)
    f = rng.standard_normal(problem.shape)
    slope = problem.dense(0.0, f)
    scale = np.linalg.norm(slope)
    assert abs(slope.sum()) < 1e-13 * scale * f.size  # mass
    assert abs((f * slope).sum()) < 1e-13 * scale * np.linalg.norm(f)  # the L2 norm
    f = rng.standard_normal(problem.shape)
    f[:, :3] = f[:, -3:] = 0.0  # momentum and energy: exact away from the ends of the velocities
    f = f + 40 / problem.y.max() / 2 * (np.abs(problem.y) < 0.6 * problem.y.max())
    slope = problem.dense(0.0, f)

    def derivative(observable) -> float:  # exact, as the observables are at most quadratic
        return (observable(0.0, f + slope) - observable(0.0, f - slope)) / 2

    kinetic = derivative(problem.observables["kinetic_energy"])
    electric = derivative(problem.observables["electric_energy"])
    assert abs(kinetic) > 1e-2  # energy is exchanged
    assert derivative(problem.observables["total_energy"]) == pytest.approx(0.0, abs=1e-10 * abs(kinetic))
    assert electric == pytest.approx(-kinetic, rel=1e-9)
    speeds = problem.observables["momentum"](0.0, np.abs(f))
    assert derivative(problem.observables["momentum"]) == pytest.approx(
        0.0, abs=1e-10 * abs(speeds + kinetic)
    )
    assert derivative(problem.observables["mass"]) == pytest.approx(0.0, abs=1e-10 * abs(kinetic))


def test_vlasov_observables_of_the_start():
    problem = problems.landau_damping(nx=32, nv=128, alpha=0.02)
    Y, length = problem.Y0(3), 4 * np.pi
    seen = {name: observe(0.0, Y) for name, observe in problem.observables.items()}
    assert seen["mass"] == pytest.approx(length, rel=1e-8)
    assert seen["momentum"] == pytest.approx(0.0, abs=1e-13)
    assert seen["kinetic_energy"] == pytest.approx(length / 2, rel=1e-6)
    assert seen["electric_field"] == pytest.approx(0.02 / 0.5, rel=1e-8)
    assert seen["electric_energy"] == pytest.approx(0.5 * 0.04**2 * length / 2, rel=1e-8)
    assert seen["total_energy"] == pytest.approx(seen["kinetic_energy"] + seen["electric_energy"], rel=1e-14)
    norm = math.sqrt(length * (1 + 0.02**2 / 2) / (2 * math.sqrt(math.pi)))
    assert seen["l2_norm"] == pytest.approx(norm, rel=1e-8)


@vlasov
def test_default_step_is_stable(name):
    assert problems.get(name).defaults["dt"] == 0.02
    problem = problems.get(name, nx=250, nv=16)
    fastest = 2 * np.pi / (250 * problem.x[1]) * 124 * abs(problem.y).max()
    dt = problem.defaults["dt"]
    assert 2.0 < dt * fastest < 2.8
    Y0 = LowRank.from_dense(np.outer(np.cos(124 * np.pi * np.arange(250) / 125), np.eye(16)[-1]), rank=1)
    run = dlra.solve(problem.F, (0.0, 100 * dt), Y0, dt=dt)  # the fastest mode
    assert run.y[-1].norm() <= Y0.norm() * (1 + 1e-9)


def test_schroedinger_conserves_norm_and_energy(rng):
    problem = make("schroedinger")
    Y = state(problem, rng).to_dense()
    slope = problem.dense(0.0, Y)
    assert abs(np.vdot(Y, slope).real) < 1e-13 * np.linalg.norm(slope)
    energy = problem.observables["energy"]
    assert abs(energy(0.0, Y + slope) - energy(0.0, Y - slope)) < 1e-12 * energy(0.0, slope)
    assert energy(0.0, Y) == pytest.approx((1j * np.vdot(Y, slope)).real, rel=1e-12)


def test_allen_cahn_descends(rng):
    problem = make("allen-cahn")
    u = rng.standard_normal(problem.shape)
    slope, h = problem.dense(0.0, u), 1e-4
    energy = problem.observables["energy"]
    descent = (energy(0.0, u + h * slope) - energy(0.0, u - h * slope)) / (2 * h)
    assert descent == pytest.approx(-(np.linalg.norm(slope) ** 2), rel=1e-5)


# ---- observables


@every
def test_observables_agree_on_factors_and_arrays(name, rng):
    problem = make(name)
    Y = state(problem, rng)
    A, scale = Y.to_dense(), 1 + Y.norm()
    for observe in problem.observables.values():
        value = observe(0.0, Y)
        assert type(value) is float
        assert value == pytest.approx(observe(0.0, A), rel=1e-11, abs=1e-13 * scale)
    if "norm" in problem.observables:
        assert problem.observables["norm"](0.0, Y) == pytest.approx(np.linalg.norm(A), rel=1e-13)
    if "trace" in problem.observables:
        assert problem.observables["trace"](0.0, Y) == pytest.approx(np.trace(A), abs=1e-13 * scale)


def test_output_covariance():
    problem = make("steel-lyapunov")
    P = problem.reference(4500.0)
    with np.load(Path(problems.__file__).with_name("data") / "rail_371.npz") as data:
        C = data["C"]
    covariance = problem.output(LowRank.from_dense(P, rank=100))
    assert type(covariance) is np.ndarray and covariance.shape == (6, 6)
    assert relative_error(covariance, C @ P @ C.T) < 1e-8
    assert problem.observables["output_covariance"](0.0, P) == pytest.approx(np.trace(covariance), rel=1e-8)
    assert np.trace(covariance) == pytest.approx(9.5037543e-6, rel=1e-7)
    assert make("rotation").output is None


# ---- initial values


@every
@pytest.mark.parametrize("single", [False, True])
def test_initial_value(name, single):
    problem = make(name, dtype=natural(name, single))
    exact = make(name)
    A = exact.Y0(min(exact.shape)).to_dense()
    singular_values = np.linalg.svd(A, compute_uv=False)
    for rank in (1, 2, 3, 8, min(problem.shape) - 1, min(problem.shape)):
        Y = problem.Y0(rank)
        assert Y.rank == rank and Y.U.shape[1] == Y.S.shape[0] == Y.S.shape[1] == Y.V.shape[1] == rank
        assert Y.dtype == problem.place.dtype
        tolerance = 20 * eps(problem.place.dtype) * max(1, rank / 10)
        assert orthonormality(Y.U) < tolerance and orthonormality(Y.V) < tolerance
        best = np.linalg.norm(singular_values[rank:])
        error = np.linalg.norm(dense(Y).astype(A.dtype) - A)
        assert error <= best * (1 + 1e-6) + 20 * eps(problem.place.dtype) * singular_values[0]
        if problem.symmetric:
            assert Y.U is Y.V
        assert all(np.array_equal(a, b) for a, b in zip(Y.factors, problem.Y0(rank).factors, strict=True))


@every
def test_initial_value_is_the_reference_at_the_start(name):
    problem = make(name)
    A, R = problem.Y0(min(problem.shape)).to_dense(), problem.reference(0.0)
    if R is None:
        assert name in ("landau-damping", "two-stream")
        k = 2 * np.pi / (len(problem.x) * problem.x[1])
        density, alpha = A.sum(axis=1), {"landau-damping": 0.01, "two-stream": 0.001}[name]
        assert np.allclose(density / density.mean(), 1 + alpha * np.cos(k * problem.x), rtol=0, atol=1e-13)
    else:
        assert np.linalg.norm(A - R) <= 1e-13 * np.linalg.norm(R)


@every
def test_completion_holds_the_range_of_the_slope(name):
    # Where the initial value has low rank q, the next directions are those of F(t0, Y0): it is then tangent at Y0.
    problem = make(name)
    q = len(problem.initial()[1])
    if q == min(problem.shape):
        pytest.skip("the initial value has full rank")
    Y = problem.Y0(min(q + 25, min(problem.shape)))
    G = problem.dense(0.0, Y.to_dense())
    U, V = Y.U, Y.V
    outside = np.linalg.norm(G - U @ (U.conj().T @ G)), np.linalg.norm(G - (G @ V) @ V.conj().T)
    assert max(outside) < 1e-10 * np.linalg.norm(G)
    # ... and in the order of their weight: one fewer direction leaves what the singular values say
    U, G = problem.Y0(q + 1).U, problem.dense(0.0, Y.to_dense())
    known = Y.U[:, :q]
    rest = np.linalg.svd(G - known @ (known.conj().T @ G), compute_uv=False)
    assert np.linalg.norm(G - U @ (U.conj().T @ G), 2) == pytest.approx(
        rest[1], rel=1e-6, abs=1e-10 * rest[0]
    )


@every
@pytest.mark.parametrize("rank", [0, -1, 10_000])
def test_rank_out_of_range(name, rank):
    problem = make(name)
    with pytest.raises(
        ValueError, match=rf"rank must lie between 1 and min\(m, n\) = {min(problem.shape)}.*got {rank}"
    ):
        problem.Y0(rank)


def test_rank_no_int():
    with pytest.raises(TypeError, match="rank must be an int"):
        make("rotation").Y0(2.0)


# ---- references


@pytest.mark.parametrize(
    ("name", "t", "h"),
    [
        ("schroedinger", 0.6, 1e-4),
        ("rotation", 0.6, 1e-4),
        ("heat-lyapunov", 0.05, 1e-5),
        ("allen-cahn", 2.0, 1e-3),
        ("lattice-nls", 2.0, 1e-3),
        ("burgers-uncertain", 0.1, 1e-4),
        ("plane-source", 0.5, 1e-4),
        ("riccati", 0.02, 1e-5),
        ("steel-lyapunov", 1000.0, 1.0),
        ("steel-riccati", 3.0, 1e-3),
    ],
)
def test_reference_obeys_the_equation(name, t, h):
    problem = make(name)
    slope = (problem.reference(t + h) - problem.reference(t - h)) / (2 * h)
    assert relative_error(slope, problem.dense(t, problem.reference(t))) < 1e-6


def hamiltonian_riccati(A, C, D, t: float, steps: int) -> np.ndarray:
    """X(t) of X' = A X + X Aᵀ + C - X D X, X(0) = 0, as V U⁻¹ of a linear system, restarted after every step."""
    from scipy.linalg import expm

    n = len(A)
    P = expm(t / steps * np.block([[-A.T, D], [C, A]]))
    X = np.zeros((n, n))
    for _ in range(steps):
        U, V = P[:n, :n] + P[:n, n:] @ X, P[n:, :n] + P[n:, n:] @ X
        X = np.linalg.solve(U.T, V.T).T
    return X


@pytest.mark.parametrize("t", [1e-4, 0.01, 0.1])
def test_reference_of_riccati(t):
    problem = make("riccati")
    A, C = problem.F.A.toarray(), problem.dense(0.0, np.zeros(problem.shape))
    assert relative_error(problem.reference(t), hamiltonian_riccati(A, C, np.eye(40), t, 800)) < 1e-12


def test_reference_of_steel_riccati(steel_data, tmp_path):
    file = tmp_path / "small.npz"
    np.savez(file, **steel_data)
    problem = problems.steel_riccati(data=file)
    E, A, B, C = problem.F.E.toarray(), problem.F.A.toarray(), steel_data["B"], steel_data["C"]
    E_inverse = np.linalg.inv(E)
    for t in (0.01, 1.0, 300.0):  # the last in the stationary, ill-conditioned phase
        expected = hamiltonian_riccati(E_inverse @ A, E_inverse @ C.T @ C @ E_inverse, B @ B.T, t, 500)
        assert relative_error(problem.reference(t), expected) < (1e-9 if t > 1 else 1e-12)
    assert problem.output(problem.Y0(3)).shape == (2, 12)


def test_steel_riccati_by_tolerance():
    problem = problems.steel_riccati()
    R = problem.reference(450.0)
    method = dlra.AugmentedBUG(rtol=problem.defaults["rank_rtol"])
    run = dlra.solve(problem.F, (0.0, 450.0), problem.Y0(problem.defaults["rank"]), method=method, dt=90.0)
    assert relative_error(run.y[-1], R) < 1e-5
    assert relative_error(problem.output(run.y[-1]), problem.output(R)) < 1e-5


def test_riccati_by_augmented_bug():
    problem = problems.riccati()
    R = problem.reference(0.1)
    assert tail_ranks(R) == [11, 15, 20]
    Y0 = problem.Y0(problem.defaults["rank"])
    errors = []
    for dt in (0.002, 0.001):
        Y = dlra.solve(problem.F, problem.t_span, Y0, dt=dt).y[-1]
        assert Y.U is Y.V
        errors.append(relative_error(Y, R))
    assert errors[1] < 5e-7
    assert errors[0] / errors[1] > 3.5


def test_reference_of_rotation_has_its_singular_values():
    problem = make("rotation")
    s = np.linalg.svd(problem.reference(0.7), compute_uv=False)
    assert np.allclose(s, math.exp(0.7) * 2.0 ** -np.arange(1, 17), rtol=1e-10)


def test_reference_is_kept_and_checked():
    problem = make("steel-lyapunov")
    first = problem.reference(10.0)
    assert problem.reference(10.0) is first
    for t in range(20, 40):
        problem.reference(float(t))
    assert problem.reference(10.0) is not first  # only the latest few are kept
    with pytest.raises(ValueError, match="t must be finite"):
        problem.reference(math.inf)
    with pytest.raises(ValueError, match="starts at t = 0, got t = -1"):
        make("allen-cahn").reference(-1.0)
    assert make("two-stream").reference(1.0) is None


def test_reference_of_allen_cahn_does_not_depend_on_the_way_there():
    one, two = make("allen-cahn"), make("allen-cahn")
    for t in (*np.linspace(0.1, 3.0, 12), 0.5, 2.2):  # ascending and back, more times than are kept
        two.reference(t)
    assert relative_error(two.reference(4.0), one.reference(4.0)) < 1e-9


# ---- known numbers


def tail_ranks(P: np.ndarray) -> list[int]:
    s = np.linalg.svd(P, compute_uv=False)
    tails = np.sqrt(np.cumsum(s[::-1] ** 2))[::-1] / np.linalg.norm(s)
    return [int((tails > tolerance).sum()) for tolerance in (1e-4, 1e-6, 1e-8)]


def test_steel_ranks():
    assert tail_ranks(problems.steel_riccati().reference(4500.0)) == [36, 55, 71]
    assert tail_ranks(problems.steel_lyapunov().reference(4500.0)) == [41, 62, 81]


@pytest.mark.slow
def test_steel_ranks_of_the_finer_mesh():
    folder = os.environ.get("DLRA_DATA")
    file = Path(folder or "") / "rail" / "rail_1357.npz"
    if not folder or not file.is_file():
        pytest.skip("needs rail/rail_1357.npz in the folder that the environment variable DLRA_DATA names")
    problem = problems.steel_lyapunov(data=file)
    assert problem.shape == (1357, 1357)
    assert tail_ranks(problem.reference(4500.0)) == [47, 72, 96]
    assert tail_ranks(problems.steel_riccati(data=file).reference(4500.0)) == [43, 65, 85]


def test_steel_by_tolerance():
    problem = problems.steel_lyapunov()
    R = problem.reference(4500.0)
    method = dlra.AugmentedBUG(rtol=problem.defaults["rank_rtol"])
    run = dlra.solve(problem.F, problem.t_span, problem.Y0(problem.defaults["rank"]), method=method, dt=90.0)
    assert relative_error(run.y[-1], R) < 3e-6
    assert abs(run.rank[-1] - 62) <= 2
    assert relative_error(problem.output(run.y[-1]), problem.output(R)) < 1e-5


def test_heat_lyapunov_by_augmented_bug():
    problem = problems.heat_lyapunov()
    run = dlra.solve(problem.F, problem.t_span, problem.Y0(20), dt=0.01)
    assert relative_error(run.y[-1], problem.reference(0.1)) < 1e-6


def test_allen_cahn_by_augmented_bug():
    problem = problems.allen_cahn(n=64)
    Y0, R = problem.Y0(8), problem.reference(4.0)
    errors = [relative_error(dlra.solve(problem.F, (0.0, 4.0), Y0, dt=dt).y[-1], R) for dt in (0.1, 0.05)]
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] > 3.5  # the exponential substep's order 2 while the rank suffices


@pytest.mark.parametrize("name", ["allen-cahn", "lattice-nls"])
def test_cubes_are_sampled(name, monkeypatch):
    problem = problems.get(name, n=160)
    Y = LowRank.from_dense(problem.reference(0.0), rank=4)
    A, shapes = Y.to_dense(), []
    expected = problem.dense(0.0, A), problem.observables["energy"](0.0, A)
    monkeypatch.setattr(LowRank, "to_dense", lambda self: shapes.append(self.shape))
    value = problem.F(0.0, Y)
    assert problem.observables["energy"](0.0, Y) == pytest.approx(expected[1], rel=1e-9)
    assert not shapes  # nobody asked for all entries
    assert np.linalg.norm(dense(value) - expected[0]) < 1e-9 * np.linalg.norm(expected[0])


def test_lattice_nls_is_its_definition(rng):
    n = 12
    problem = problems.lattice_nls(n=n)
    Y = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    padded = np.pad(Y, 1)
    neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
    assert relative_error(problem.dense(0.0, Y), 0.5j * neighbours + 0.1j * abs(Y) ** 2 * Y) < 1e-14
    start = problems.lattice_nls().reference(0.0)
    for j, k in ((30, 25), (25, 20), (7, 44)):
        bumps = [np.exp(-((j - a) ** 2 + (k - b) ** 2) / 25) for a, b in ((30, 25), (25, 20))]
        assert start[j - 1, k - 1] == pytest.approx(sum(bumps), rel=1e-12)


def test_lattice_nls_conserves_norm_and_energy(rng):
    problem = make("lattice-nls")
    Y = rng.standard_normal(problem.shape) + 1j * rng.standard_normal(problem.shape)
    slope, energy, h = problem.dense(0.0, Y), problem.observables["energy"], 1e-5
    assert abs(np.vdot(Y, slope).real) < 1e-13 * np.linalg.norm(Y) * np.linalg.norm(slope)
    assert (
        abs(energy(0.0, Y + h * slope) - energy(0.0, Y - h * slope)) < 1e-8 * h * np.linalg.norm(slope) ** 2
    )


def test_lattice_nls_by_augmented_bug():
    problem = problems.lattice_nls()
    R, Y0 = problem.reference(1.0), problem.Y0(problem.defaults["rank"])
    errors = []
    for dt in (0.1, 0.05):
        run = dlra.solve(problem.F, (0.0, 1.0), Y0, dt=dt)
        errors.append(relative_error(run.y[-1], R))
        for name, observe in problem.observables.items():
            assert observe(1.0, run.y[-1]) == pytest.approx(observe(0.0, Y0), rel=1e-4), name
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] > 3.5  # the exponential substep's order 2


def test_burgers_is_its_definition(rng):
    nx, samples = 30, 7
    problem = problems.burgers_uncertain(nx=nx, samples=samples, viscosity=0.02)
    dx = problem.x[0]
    assert np.allclose(np.diff(problem.x, prepend=0.0, append=1.0), dx)
    u = rng.standard_normal((nx, samples))
    padded = np.pad(u, ((1, 1), (0, 0)))
    right, left = padded[2:], padded[:-2]
    expected = 0.02 * (right - 2 * u + left) / dx**2 - u * (right - left) / (2 * dx)
    assert relative_error(problem.dense(0.0, u), expected) < 1e-13


def test_burgers_starts_from_the_expansion():
    problem = problems.burgers_uncertain(nx=200, samples=4000, sigma=0.5)
    x, start = problem.x, problem.Y0(5).to_dense()
    assert np.linalg.matrix_rank(start, tol=1e-9) == 5
    mean = 0.5 * np.sin(2 * np.pi * x) * (np.exp(np.cos(2 * np.pi * x)) - 1.5)
    wave = 0.5 * np.sin(2 * np.pi * x)
    covariance = (
        wave[:, None] * wave * np.exp(-0.5 * (x[:, None] - x) ** 2)
    )  # but for the fifth mode and the sampling
    assert np.abs(start.mean(axis=1) - mean).max() < 0.02
    assert np.abs(np.cov(start) - covariance).max() < 0.05 * covariance.max()
    deviation = problem.observables["deviation"](0.0, problem.Y0(5))
    assert deviation == pytest.approx(math.sqrt(start.var(axis=1).sum() / 201), rel=1e-10)
    assert problem.observables["energy"](0.0, start) == pytest.approx(
        (start**2).mean(axis=1).sum() / 402, rel=1e-12
    )


def test_burgers_by_augmented_bug():
    problem = problems.burgers_uncertain()
    R = problem.reference(0.2)
    assert tail_ranks(R) == [3, 6, 9]
    errors = [
        relative_error(dlra.solve(problem.F, (0.0, 0.2), problem.Y0(8), dt=dt).y[-1], R)
        for dt in (0.004, 0.002)
    ]
    assert errors[1] < 5e-6
    assert errors[0] / errors[1] > 3.5


@pytest.mark.parametrize("flux", ["lax-friedrichs", "upwind"])
def test_plane_source_is_its_definition(flux, rng):
    # In directions, the nodes of Gauss' rule: streaming along each by an upwind or Lax-Friedrichs scheme; scattering.
    nx, moments = 21, 8
    problem = problems.plane_source(nx=nx, moments=moments, flux=flux)
    dx = problem.x[1] - problem.x[0]
    mu, weights = np.polynomial.legendre.leggauss(moments)
    degrees = np.arange(moments)
    P = np.polynomial.legendre.legvander(mu, moments - 1) * np.sqrt(degrees + 0.5)  # directions x degrees
    u = rng.standard_normal((nx, moments))
    psi = u @ P.T
    padded = np.pad(psi, ((1, 1), (0, 0)))
    right, left = padded[2:], padded[:-2]
    speed = np.abs(mu) if flux == "upwind" else 1.0
    streaming = -mu * (right - left) / (2 * dx) + speed * (right - 2 * psi + left) / (2 * dx)
    scattering = 0.5 * (psi @ weights)[:, None] - psi
    assert relative_error(problem.dense(0.0, u) @ P.T, streaming + scattering) < 1e-12
    assert relative_error(problem.output(u), 0.5 * psi @ weights) < 1e-13
    assert problem.observables["mass"](0.0, u) == pytest.approx(0.5 * dx * (psi @ weights).sum(), rel=1e-12)
    start = problem.reference(0.0) @ P.T
    assert np.allclose(start[10], 1 / (0.03 * math.sqrt(2 * math.pi))) and np.allclose(start[0], 1e-4)


def test_plane_source_by_augmented_bug():
    problem = problems.plane_source(nx=201, moments=101)
    R, dt = problem.reference(1.0), problem.defaults["dt"]
    run = dlra.solve(problem.F, problem.t_span, problem.Y0(20), dt=dt)
    assert relative_error(run.y[-1], R) < 5e-3
    mass = problem.observables["mass"]
    assert mass(1.0, run.y[-1]) == pytest.approx(mass(0.0, R), rel=2e-3)
    method = dlra.AugmentedBUG(rtol=problem.defaults["rank_rtol"])
    run = dlra.solve(problem.F, problem.t_span, problem.Y0(20), dt=dt, method=method)
    assert relative_error(problem.output(run.y[-1]), problem.output(R)) < 5e-3
    assert run.rank[-1] < 20


def test_schroedinger_by_augmented_bug():
    problem = problems.schroedinger(n=40)
    Y0 = problem.Y0(12)
    run = dlra.solve(problem.F, (0.0, 0.1), Y0, dt=0.01)
    assert relative_error(run.y[-1], problem.reference(0.1)) < 1e-5
    energy = problem.observables["energy"]
    assert energy(0.1, run.y[-1]) == pytest.approx(energy(0.0, Y0), rel=1e-6)


def field_amplitude(problem: problems.Problem, rank: int, dt: float, t1: float, **options):
    observe = problem.observables["electric_field"]
    run = dlra.solve(
        problem.F,
        (0.0, t1),
        problem.Y0(rank),
        method=dlra.AugmentedBUG(**options),
        dt=dt,
        save=lambda s: (s.t, observe(s.t, s.y)),
    )
    return np.array(run.saved).T


def test_landau_damping_rate_on_a_coarse_grid():
    problem = problems.landau_damping(nx=16, nv=64)
    t, amplitude = field_amplitude(problem, rank=5, dt=0.1, t1=30.0)
    rate, frequency = landau_rate(t, amplitude)
    assert rate == pytest.approx(LANDAU.imag, rel=0.01)
    assert frequency == pytest.approx(LANDAU.real, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [5, 10])
def test_landau_damping(rank):
    problem = problems.landau_damping()
    run = dlra.solve(
        problem.F,
        problem.t_span,
        problem.Y0(rank),
        dt=0.02,
        save=lambda s: (s.t, *(observe(s.t, s.y) for observe in problem.observables.values())),
    )
    t, *values = np.array(run.saved).T
    seen = dict(zip(problem.observables, values, strict=True))
    rate, frequency = landau_rate(t, seen["electric_field"])
    assert rate == pytest.approx(LANDAU.imag, rel=0.004)
    assert frequency == pytest.approx(LANDAU.real, rel=0.002)
    drift = {name: np.ptp(values) for name, values in seen.items()}
    assert drift["mass"] < 1e-8 * seen["mass"][0]
    assert drift["total_energy"] < 1e-7 * seen["total_energy"][0]
    assert drift["momentum"] < 1e-7
    assert drift["l2_norm"] < 1e-11


def dispersion(omega: complex, k: float, beams) -> complex:
    """The dielectric function of Maxwellian beams [(weight, velocity), ...] of unit temperature."""
    from scipy.special import wofz

    total = 1.0 + 0j
    for weight, velocity in beams:
        z = (omega / k - velocity) / math.sqrt(2)
        total += weight / k**2 * (1 + z * 1j * math.sqrt(math.pi) * wofz(z))
    return total


def newton(function, z: complex) -> complex:
    for _ in range(50):
        slope = (function(z + 1e-6) - function(z - 1e-6)) / 2e-6
        z -= function(z) / slope
    assert abs(function(z)) < 1e-10
    return z


def test_linear_theory():
    assert newton(lambda w: dispersion(w, 0.5, [(1.0, 0.0)]), 1.4 - 0.1j) == pytest.approx(LANDAU, abs=1e-8)


def test_two_stream_grows_as_linear_theory_says():
    growth = newton(lambda w: dispersion(w, 0.2, [(0.5, 2.4), (0.5, -2.4)]), 0.2j).imag
    assert growth == pytest.approx(0.22584, abs=1e-5)
    problem = problems.two_stream(nx=16, nv=128)
    t, amplitude = field_amplitude(problem, rank=8, dt=0.1, t1=29.1)
    used = t >= 15.0  # three periods of the oscillation superposed
    rate = np.polyfit(t[used], np.log(amplitude[used]), 1)[0]
    assert rate == pytest.approx(growth, rel=0.03)


def test_two_stream_needs_a_tolerance_below_its_perturbation():
    problem = problems.two_stream(nx=16, nv=64)
    for rtol, grows in ((1e-3, False), (1e-7, True)):
        _, amplitude = field_amplitude(problem, rank=3, dt=0.1, t1=20.0, rtol=rtol)
        assert (amplitude[-1] > 5 * amplitude[0]) == grows


@pytest.mark.slow
def test_two_stream_saturates():
    problem = problems.two_stream()
    energy = problem.observables["electric_energy"]
    run = dlra.solve(
        problem.F,
        problem.t_span,
        problem.Y0(problem.defaults["rank"]),
        dt=0.02,
        save=lambda s: (s.t, energy(s.t, s.y)),
    )
    t, values = np.array(run.saved).T
    assert t[np.argmax(values)] == pytest.approx(35.5, abs=0.3)  # as the full matrix, rk4, dt = 0.02
    assert values.max() == pytest.approx(3.578, rel=0.02)


# ---- the fit


def test_landau_rate_of_a_clean_signal():
    t = np.linspace(0.0, 40.0, 2001)
    for rate, frequency in ((-0.1533, 1.4156), (0.05, 2.0), (0.0, 0.7)):
        for phase in (0.0, 1.0):
            fit = landau_rate(t, 3e-3 * np.exp(rate * t) * np.cos(frequency * t + phase))
            assert fit.rate == pytest.approx(rate, abs=1e-5)
            assert fit.frequency == pytest.approx(frequency, rel=1e-5)
            assert type(fit.rate) is float and type(fit.frequency) is float


def test_landau_rate_of_uneven_times_and_noise(rng):
    t = np.sort(rng.uniform(0.0, 40.0, 1500))
    t = t[np.concatenate(([True], np.diff(t) > 5e-3))]
    signal = np.exp(-0.1533 * t) * np.abs(np.cos(1.4156 * t))
    assert landau_rate(t, signal) == pytest.approx((-0.1533, 1.4156), rel=1e-3)
    even = np.linspace(0.0, 30.0, 601)
    noisy = np.exp(-0.1533 * even) * np.abs(np.cos(1.4156 * even)) * (1 + 1e-5 * rng.standard_normal(601))
    assert landau_rate(even, noisy) == pytest.approx((-0.1533, 1.4156), rel=1e-2)


def test_landau_rate_uses_the_interval_asked_for():
    t = np.linspace(0.0, 60.0, 3001)
    signal = np.where(t < 30, np.exp(-0.2 * t), np.exp(-0.2 * 30 + 0.1 * (t - 30))) * np.abs(np.cos(1.5 * t))
    assert landau_rate(t, signal, stop=29.0).rate == pytest.approx(-0.2, abs=1e-3)
    assert landau_rate(t, signal, start=31.0).rate == pytest.approx(0.1, abs=1e-3)
    early = np.exp(-0.2 * t) * np.abs(np.cos(1.5 * t)) + np.where(t < 3.0, 0.5, 0.0)
    assert landau_rate(t, early, stop=40.0).rate == pytest.approx(
        -0.2, abs=1e-3
    )  # the first tenth is left out


@pytest.mark.parametrize(
    ("times", "amplitude", "words"),
    [
        ([0, 1, 2], [1, 2], "one length"),
        ([[0, 1]], [[1, 2]], "one length"),
        ([0, 2, 1], [1, 2, 1], "must ascend"),
        ([0, 1, 2], [1, math.nan, 1], "finite"),
        ([0, 1, 2, 3], [1, 2, 1, 1], "has 1 maxima .* needs three"),
        ([], [], "needs three"),
    ],
)
def test_landau_rate_errors(times, amplitude, words):
    with pytest.raises(ValueError, match=words):
        landau_rate(times, amplitude)


# ---- places: libraries, dtypes, devices


def on_libraries(names, jax=("rotation", "landau-damping")):
    """Every problem on every library but NumPy; JAX, which compiles each operation anew, is quick for a few only."""
    pairs = []
    for name in names:
        for library in LIBRARIES[1:]:
            slow = library == "jax" and name not in jax
            marks = [pytest.mark.gpu] * (library == "cupy") + [pytest.mark.slow] * slow
            pairs.append(pytest.param(name, library, marks=marks))
    return pytest.mark.parametrize(("name", "foreign"), pairs, indirect=["foreign"])


@on_libraries(problems.names())
def test_other_libraries(name, foreign):
    here = make(name)
    problem = make(name, backend=foreign.xp, device=foreign.device)
    Y, Z = here.Y0(6), problem.Y0(6)
    assert all(foreign.owns(a) for a in Z.factors)
    assert relative_error(Z, Y) <= 1e-15
    slope = problem.F(0.0, Z)
    reference = here.dense(0.0, Y.to_dense())
    scale = 1 + np.linalg.norm(dense(here.F.linear_part(Y))) if isinstance(here.F, SemiLinear) else 1.0
    error = np.linalg.norm(dense(slope) - reference)
    assert error <= 1e-12 * max(np.linalg.norm(reference), scale)
    full = problem.dense(0.0, Z.to_dense())
    assert foreign.owns(full)
    assert np.linalg.norm(to_numpy(full) - reference) <= 1e-12 * max(np.linalg.norm(reference), scale)
    for label, observe in problem.observables.items():
        value = observe(0.0, Z)
        assert type(value) is float
        assert value == pytest.approx(here.observables[label](0.0, Y), rel=1e-12, abs=1e-13)
        assert observe(0.0, Z.to_dense()) == pytest.approx(value, rel=1e-11, abs=1e-13)
    t = 0.1 * problem.t_span[1]
    if here.reference(t) is not None:
        assert foreign.owns(problem.reference(t))
        assert relative_error(problem.reference(t), here.reference(t)) <= 1e-13
    if problem.output is not None:
        assert relative_error(problem.output(Z), here.output(Y)) <= 1e-12


@on_libraries(["landau-damping", "heat-lyapunov"], jax=())
def test_steps_agree_between_libraries(name, foreign):
    here = make(name)
    problem = make(name, backend=foreign.xp, device=foreign.device)
    dt = here.defaults["dt"]
    runs = [dlra.solve(p.F, (0.0, 2 * dt), p.Y0(4), dt=dt) for p in (here, problem)]
    assert relative_error(runs[1].y[-1], runs[0].y[-1]) <= 1e-12


@every
def test_single_precision_stays_single(name):
    problem = make(name, dtype=natural(name, single=True))
    double = make(name)
    Y0 = problem.Y0(4)
    dt = problem.defaults["dt"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the step from .* drops")  # rank 4 is low for some
        run = dlra.solve(problem.F, (0.0, 2 * dt), Y0, dt=dt)
    expected = dlra.solve(double.F, (0.0, 2 * dt), double.Y0(4), dt=dt).y[-1]
    assert run.y[-1].dtype == natural(name, single=True)
    assert relative_error(run.y[-1], expected) < 1e-4
    R = problem.reference(2 * dt)
    assert R is None or R.dtype == natural(name, single=True)
    assert all(type(observe(0.0, Y0)) is float for observe in problem.observables.values())


def test_dtype_spellings():
    assert make("rotation", dtype=np.float32).Y0(2).dtype == np.float32
    assert make("rotation", dtype=np.dtype("float32")).Y0(2).dtype == np.float32
    assert make("schroedinger", dtype="complex64").Y0(2).dtype == np.complex64


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        (
            "schroedinger",
            {"dtype": "float64"},
            ValueError,
            "schroedinger is complex: dtype must be .*got 'float64'",
        ),
        (
            "rotation",
            {"dtype": "complex128"},
            ValueError,
            "rotation is real: dtype must be 'float32' or 'float64'",
        ),
        ("rotation", {"dtype": "int32"}, ValueError, "dtype must be"),
        (
            "rotation",
            {"backend": "tensorflow"},
            ValueError,
            "backend must be one of 'numpy', .*got 'tensorflow'",
        ),
        ("rotation", {"backend": math}, ValueError, "backend must be an array library, got module 'math'"),
        ("rotation", {"device": "cuda"}, ValueError, "device 'cuda' is not one of numpy"),
        ("rotation", {"n": 1}, ValueError, "n must be at least 2, got 1"),
        ("rotation", {"n": 8.0}, TypeError, "n must be an int"),
        ("allen-cahn", {"n": 3}, ValueError, "n must be at least 4"),
        ("plane-source", {"moments": 1}, ValueError, "moments must be at least 2"),
        (
            "plane-source",
            {"flux": "godunov"},
            ValueError,
            "flux must be 'lax-friedrichs' or 'upwind', got 'godunov'",
        ),
        ("burgers-uncertain", {"samples": 1}, ValueError, "samples must be at least 2"),
        ("burgers-uncertain", {"viscosity": -0.1}, ValueError, "viscosity must be positive"),
        ("landau-damping", {"nv": 5}, ValueError, "nv must be at least 6"),
        ("landau-damping", {"alpha": 0.0}, ValueError, "alpha must be positive and finite, got 0.0"),
        ("landau-damping", {"k": math.nan}, ValueError, "k must be positive and finite"),
        ("two-stream", {"v0": "fast"}, TypeError, "v0 must be a number, got 'fast'"),
        (
            "steel-lyapunov",
            {"data": 372},
            ValueError,
            "data must be 371 .* or the path of an npz file, got 372",
        ),
        (
            "steel-lyapunov",
            {"data": "nowhere.npz"},
            FileNotFoundError,
            "no steel profile data at nowhere.npz",
        ),
    ],
)
def test_bad_options(name, options, error, words):
    with pytest.raises(error, match=words):
        make(name, **options)


def test_gpu_backend_without_a_gpu():
    try:
        import cupy

        usable = cupy.cuda.is_available()
    except ImportError:
        usable = False
    if usable:
        pytest.skip("a GPU is there")
    with pytest.raises(ValueError, match="backend 'cupy' is .*take"):
        make("rotation", backend="cupy")


def test_jax_without_double_precision():
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX's own
            with pytest.raises(ValueError, match="jax_enable_x64"):
                make("rotation", backend="jax")
            assert make("rotation", backend="jax", dtype="float32").Y0(2).U.dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", before)


# ---- steel data from a file


@pytest.fixture
def steel_data() -> dict[str, np.ndarray]:
    from scipy import sparse

    n = 12
    E = sparse.diags_array([1.0, 4.0, 1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr") / 6
    A = sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr") * 1e-3
    rng = np.random.default_rng(0)
    data = {"n": np.int64(n), "B": rng.standard_normal((n, 2)), "C": rng.standard_normal((3, n))}
    for name, M in (("E", E), ("A", A)):
        data |= {f"{name}_data": M.data, f"{name}_indices": M.indices, f"{name}_indptr": M.indptr}
    return data


def test_steel_from_a_file(steel_data, tmp_path):
    file = tmp_path / "small.npz"
    np.savez(file, **steel_data)
    for path in (file, str(file)):
        problem = problems.steel_lyapunov(data=path)
        assert problem.shape == (12, 12)
        assert problem.output(problem.Y0(3)).shape == (3, 3)
        slope = (problem.reference(501.0) - problem.reference(499.0)) / 2
        assert relative_error(slope, problem.dense(0.0, problem.reference(500.0))) < 1e-5


def change(key, function):
    return lambda data: data | {key: function(data[key])}


def _first(value):
    def put(a):
        a = np.array(a)
        a.flat[0] = value
        return a

    return put


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: {k: v for k, v in data.items() if k != "A_indptr"}, "key 'A_indptr' is missing"),
        (change("B", lambda B: B[:-1]), r"key 'B' must have shape \(n, inputs\) with n = 12, got \(11, 2\)"),
        (change("C", lambda C: C.T), r"key 'C' must have shape \(outputs, n\) with n = 12"),
        (change("n", lambda n: np.array([12, 12])), "key 'n' must be one positive integer"),
        (change("n", lambda n: np.int64(13)), "key 'E_indptr' must hold n \\+ 1 = 14 numbers"),
        (change("n", lambda n: 12.0), "key 'n' must be one positive integer"),
        (change("A_data", _first(np.nan)), "key 'A_data' holds values that are not finite"),
        (change("B", _first(np.inf)), "key 'B' holds values that are not finite"),
        (change("A_data", lambda a: np.where(np.arange(len(a)) == 1, 7.0, a)), "A must be symmetric"),
        (change("E_data", lambda a: -a), "E must be positive definite"),
        (change("E_indices", _first(12)), "key 'E_indices' must lie in 0 ... n - 1 = 11"),
        (change("E_indices", lambda a: a.astype(float)), "key 'E_indices' must hold integers"),
        (change("E_data", lambda a: a[:-1]), "'E_data' and 'E_indices' must be vectors of one length"),
        (change("C", lambda C: C * 1j), "key 'C' must hold real numbers, got complex128"),
        (change("C", lambda C: np.array([[object()]])), "not a readable npz archive"),
    ],
)
def test_damaged_steel_files(steel_data, tmp_path, damage, words):
    file = tmp_path / "damaged.npz"
    np.savez(file, **damage(steel_data))
    with pytest.raises(ValueError, match=words) as caught:
        problems.steel_lyapunov(data=file)
    assert "damaged.npz" in str(caught.value)


def test_indefinite_mass_matrix(steel_data, tmp_path):
    file = tmp_path / "indefinite.npz"
    E = steel_data["E_data"].copy()
    E[:] = E.max()
    np.savez(file, **(steel_data | {"E_data": E}))
    with pytest.raises(ValueError, match="E must be positive definite"):
        problems.steel_lyapunov(data=file).reference(1.0)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04torn"])
def test_files_that_are_no_archives(tmp_path, content):
    file = tmp_path / "torn.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"torn.npz is not a readable npz archive"):
        problems.steel_lyapunov(data=file)


def test_single_array_is_no_archive(tmp_path):
    file = tmp_path / "array.npy"
    np.save(file, np.eye(3))
    with pytest.raises(ValueError, match=r"array.npy is not a readable npz archive"):
        problems.steel_lyapunov(data=file)


def test_notice_is_shipped():
    folder = Path(problems.__file__).with_name("data")
    text = (folder / "NOTICE.txt").read_text(encoding="utf-8")
    for words in ("M-M.E.S.S.", "BSD 2-clause", "Copyright 2009-2023 Jens Saak", "7.0164", "AS IS"):
        assert words in text


def test_the_trace_of_a_complex_matrix():
    """Of a Hermitian one: its real part, with the right factor conjugated."""
    rng = np.random.default_rng(60)
    U = random_orthonormal(rng, 9, 3, "complex128")
    Y = LowRank(U, np.diag([3.0, -1.0, 0.5]).astype("complex128"), U)
    assert trace(0.0, Y) == pytest.approx(2.5) == trace(0.0, dense(Y))
    phases = LowRank(U, None, U * np.exp(1j * np.arange(9))[:, None])
    assert trace(0.0, phases) == pytest.approx(float(np.trace(dense(phases)).real))
