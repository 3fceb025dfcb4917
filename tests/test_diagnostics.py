"""dlra.diagnostics: constants against their exact values, bounds against true errors, odd input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import normal, random_orthonormal

import dlra
from dlra import LowRank, diagnostics
from dlra.diagnostics import diagnose
from validation.families import dense_start, root_sylvester, tangent_field
from validation.flows import normal_part, rk4


def state(m=12, n=9, r=3, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return dense_start(rng, m, n, np.linspace(1.0, 0.3, r), dtype)


def trajectory(F, Y0, times=(0.0, 0.1, 0.2)):
    return [(t, dlra.step(F, 0.0, t, Y0) if t else Y0) for t in times]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("form", ["dense", "factored", "sparse", "sum"])
def test_constants_of_a_linear_field(dtype, form):
    rng = np.random.default_rng(1)
    A, B = (normal(rng, (k, k), dtype) for k in (12, 9))
    C = normal(rng, (12, 1), dtype), normal(rng, (9, 1), dtype)
    source = LowRank(C[0], None, C[1])
    Y0 = state(dtype=dtype)
    exact = lambda Y: A @ Y + Y @ B + source.to_dense()  # noqa: E731
    if form == "dense":
        F = exact
    else:
        left = sp.csr_array(A) if form == "sparse" else A
        F = dlra.factored(lambda Y: left @ Y + Y @ B + source)
        if form == "sum":  # a value of which only products are known
            F = dlra.factored(lambda Y: left @ Y + Y @ B + sp.csr_array(source.to_dense()))
    found = diagnose(F, trajectory(exact, Y0))
    L = np.linalg.svd(np.kron(A, np.eye(9)) + np.kron(np.eye(12), B.T))[1][0]
    assert 0.4 * L < found.L <= L * (1 + 1e-6)
    G = exact(Y0.to_dense())
    loose = 0.6 if form == "sum" else 1e-10  # estimated with random vectors
    assert found.field_norm[0] == pytest.approx(np.linalg.norm(G), rel=loose)
    assert found.normal[0] == pytest.approx(np.linalg.norm(normal_part(Y0, G)), rel=loose)
    assert found.tangential[0] ** 2 + found.normal[0] ** 2 == pytest.approx(found.field_norm[0] ** 2)


def test_mu_of_a_symmetric_linear_field_lies_in_its_spectrum():
    A = -np.diag(np.linspace(1.0, 4.0, 12))
    found = diagnose(lambda Y: A @ Y, dlra.solve(lambda Y: A @ Y, (0, 3), state(), dt=0.1), max_states=8)
    assert len(found.mu) == 7
    assert np.all((found.mu >= -4) & (found.mu <= -1))
    assert found.growth == np.max(found.mu)
    assert 3.5 < found.L <= 4 + 1e-6
    assert found.mu[-1] > found.mu[0]  # what decays slowly remains


def test_a_time_dependent_field_does_not_disturb_mu():
    F = lambda t, Y: 100 * np.cos(50 * t) * np.ones((12, 9)) - Y  # noqa: E731
    found = diagnose(F, [(t, state() * (1 + t)) for t in (0.0, 0.1, 0.3)])
    assert found.mu == pytest.approx([-1.0, -1.0])


def test_all_libraries_agree(library):
    Y0, A = state(), np.diag(np.linspace(-1.0, -2.0, 12))
    xA = library.asarray(A)
    Y = LowRank(*(library.asarray(X) for X in Y0.factors))
    for form in (lambda F: F, dlra.factored):
        reference = diagnose(form(lambda Y: dlra.matmul(A, Y)), [(0.0, Y0), (1.0, Y0 * 0.5)])
        found = diagnose(form(lambda Y: dlra.matmul(xA, Y)), [(0.0, Y), (1.0, Y * 0.5)])
        assert found.field_norm == pytest.approx(reference.field_norm, rel=1e-10)
        assert found.normal == pytest.approx(reference.normal, abs=1e-12)
        assert found.mu == pytest.approx(reference.mu, rel=1e-10)
        assert found.lipschitz == pytest.approx(reference.lipschitz, rel=0.2)


def test_estimates_stay_below_constants_that_are_proved():
    for seed in range(5):
        family = tangent_field(12, 9, eps=0.05, seed=seed)
        sol = dlra.solve(family.F, (0, 1), state(seed=seed), dt=0.05)
        found = diagnose(family.F, sol)
        assert found.B <= family.B
        assert found.L <= family.L * (1 + 1e-6)
        assert found.eps <= family.eps
        assert found.growth <= family.L


@pytest.mark.parametrize("eps", [0.0, 0.05])
@pytest.mark.parametrize("method", [dlra.AugmentedBUG(atol=1e-5), dlra.AugmentedBUG(atol=1e-3)], ids=str)
def test_bounds_that_say_something_are_above_the_true_error(eps, method):
    family = tangent_field(12, 9, eps=eps, seed=3)
    Y0 = state()
    sol = dlra.solve(family.F, (0, 1), Y0, method, dt=0.01)
    error = np.linalg.norm(sol.y_final.to_dense() - rk4(family.F, Y0.to_dense(), 1.0, 200))
    found = diagnose(family.F, sol)
    telling = [b for b in found.bounds[:3] if b.says_something]
    assert telling
    assert all(b.value > error for b in telling)
    text = str(found)
    assert "bounds that say something:" in text
    assert f"theta = {found.theta:.1e}" in text


def test_a_vacuous_bound_is_listed_as_saying_nothing():
    family = tangent_field(12, 9, eps=0.0, seed=3)
    sol = dlra.solve(family.F, (0, 1), state(), dt=0.5)
    found = diagnose(family.F, sol)
    printed = found.bounds[0]
    assert not printed.says_something
    assert printed.value > printed.trivial == pytest.approx(2 * found.B * found.span + np.sum(found.dropped))
    head, tail = str(found).split("bounds that say nothing here")
    assert printed.name in tail
    assert printed.name not in head


def test_advice_names_the_term_that_dominates():
    family = tangent_field(12, 9, eps=0.0, seed=3)
    run = dlra.solve(family.F, (0, 1), state(), dlra.AugmentedBUG(atol=1e-9), dt=0.01)
    assert "of the bound is due to the length of the steps" in diagnose(family.F, run).advice[0]
    assert "take a smaller rtol or atol of the method" in " ".join(diagnose(family.F, run, theta=1.0).advice)
    noisy = tangent_field(12, 9, eps=5.0, seed=3)
    run = dlra.solve(noisy.F, (0, 1), state(), dt=1e-3)
    assert "the rank 3 leaves a part of F out" in " ".join(diagnose(noisy.F, run).advice)
    fast = lambda Y: -500 * Y  # noqa: E731
    assert "L h = 5.0e+00" in " ".join(diagnose(fast, [(0.0, state()), (1.0, state() * 0.9)], h=0.01).advice)


def test_descent_is_promised_where_it_happens_only():
    family = root_sylvester(12, 9, eps=0.01, g=0.0, seed=2)
    Y0 = state() * 5.0
    sol = dlra.solve(family.F, (0, 1), Y0, dlra.AugmentedBUG(substep="euler"), dt=0.02)
    found = diagnose(family.F, sol, gradient=True)
    promise = found.bounds[-1]
    losses = [family.loss(Y.to_dense()) for Y in sol.y]
    assert promise.says_something
    assert np.max(np.diff(losses)) <= promise.value < 0
    assert "promised to fall for steps below" in found.advice[-1]
    G, Z0 = np.random.default_rng(0).standard_normal((12, 9)), state(r=1)
    still = diagnose(lambda Y: G, [(0.0, Z0), (1.0, Z0 * 1.1)], gradient=True)
    assert not still.bounds[-1].says_something
    assert "no descent is promised" in still.advice[-1]


def test_a_semilinear_field_counts_with_its_stiff_part():
    A = -np.diag(np.linspace(1.0, 900.0, 12))
    F = dlra.SemiLinear(A, None, lambda t, Y: np.sin(Y))
    sol = dlra.solve(F, (0, 0.1), state(), dlra.AugmentedBUG(rtol=1e-6), dt=0.01)
    assert diagnose(F, sol).L > 500


def test_coupled_systems_with_dense_members():
    rng = np.random.default_rng(0)
    Z0 = rng.standard_normal(5)
    F = lambda t, Ys: [-Ys[0], -2 * Ys[1]]  # noqa: E731
    sol = dlra.solve(F, (0, 1), [state(), Z0], dt=0.1)
    found = diagnose(F, sol)
    assert found.field_norm[0] == pytest.approx(math.hypot(state().norm(), 2 * np.linalg.norm(Z0)))
    assert pytest.approx(2.0, rel=0.1) == found.L
    assert found.rank == 3
    assert found.eps < 1e-13


@pytest.mark.parametrize(("shape", "r"), [((7, 7), 7), ((5, 1), 1), ((1, 6), 1), ((40, 3), 3)])
def test_extreme_shapes(shape, r):
    Y0 = LowRank(random_orthonormal(np.random.default_rng(0), shape[0], r), np.eye(r),
                 random_orthonormal(np.random.default_rng(1), shape[1], r))  # fmt: skip
    found = diagnose(lambda Y: np.sin(Y), [(0.0, Y0), (0.5, Y0 * 0.7)])
    assert np.isfinite(found.L)
    assert found.eps <= found.B
    if r == min(shape):
        assert found.eps < 1e-13


def test_a_zero_field_and_a_state_that_stands_still():
    found = diagnose(lambda Y: 0 * Y, [(0.0, state()), (1.0, state())])
    assert found.B == found.L == found.eps == 0
    assert len(found.mu) == 0
    assert "no bound says anything here" in str(found)


def test_a_fixed_step_gets_a_time_part():
    family = tangent_field(12, 9, eps=0.05, seed=3)
    sol = dlra.solve(family.F, (0, 1), state(), dlra.AugmentedBUG(atol=1e-6), dt=0.05)
    assert np.isnan(sol.errors.total[-1])
    found = diagnose(family.F, sol)
    full = sol.diagnosed(found)
    assert full.errors.time[-1] == pytest.approx(diagnostics.STEP * found.L * found.B * 0.05)
    assert np.array_equal(full.errors.normal, sol.errors.normal)  # what was seen stays
    assert np.all(np.diff(full.errors.total) > 0)
    exact = rk4(family.F, state().to_dense(), 1.0, 200)
    error = np.linalg.norm(sol.y_final.to_dense() - exact)
    assert error < full.error_bound(found.growth)[-1]
    assert np.isnan(sol.error_bound(found.growth)[-1])
    fixed = dlra.solve(family.F, (0, 1), state(), "bug", dt=0.05)
    found = diagnose(family.F, fixed)
    assert fixed.diagnosed(found).errors.normal[-1] == pytest.approx(found.eps)


def test_iterated_states_will_do():
    F = lambda t, Y: -Y  # noqa: E731
    found = diagnose(F, list(dlra.iterate(F, (0, 1), state(), dt=0.1)), max_states=4)
    assert len(found.t) == 4
    assert found.span == pytest.approx(1.0)
    assert found.h == pytest.approx(0.1)


def test_a_tolerance_that_is_given_counts_in_every_step():
    found = diagnose(lambda Y: -Y, dlra.solve(lambda Y: -Y, (0, 1), state(), dt=0.05), theta=0.3)
    assert found.theta == pytest.approx(0.3)
    assert np.sum(found.dropped) == pytest.approx(0.3 * 20)


def test_extra_arguments():
    assert (
        pytest.approx(3) == diagnose(lambda t, Y, k: -k * Y, [(0, state()), (1, state() * 2)], args=(3.0,)).L
    )


F = lambda t, Y: -Y  # noqa: E731


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: diagnose(F, []), ValueError, "run holds no states"),
        (lambda: diagnose(F, 3), TypeError, r"run must be a Solution, or an iterable of \(t, Y\), got int"),
        (lambda: diagnose(F, [state()]), TypeError, r"run must hold pairs \(t, Y\) or states, got LowRank"),
        (lambda: diagnose(F, [(0.0, state())]), ValueError, "states at two times at least"),
        (lambda: diagnose(F, [(0.0, state()), (0.0, state())]), ValueError, "states at two times at least"),
        (lambda: diagnose(F, [(0.0, np.eye(3)), (1.0, np.eye(3))]), TypeError, "LowRank"),
        (lambda: diagnose(F, [(0.0, state()), (1.0, state())], max_states=1), ValueError, "max_states must be at"),
        (lambda: diagnose(F, [(0.0, state()), (1.0, state())], h=-1.0), ValueError, "h must be positive"),
        (lambda: diagnose(F, [(0.0, state()), (1.0, state())], theta=-1.0), ValueError, "theta must be finite"),
        (lambda: diagnose(F, [("now", state()), (1.0, state())]), TypeError, "t must be a real number"),
        (lambda: diagnose(F, [(np.nan, state()), (1.0, state())]), ValueError, "must be finite, got nan at position 0"),
        (lambda: diagnose(F, [(0.0, state()), (1.0, state(8))]), ValueError, "at position 1 has shapes and dtypes"),
        (lambda: diagnose(F, [(0.0, state()), (1.0, state(dtype="complex128"))]), ValueError, "of one kind"),
        (lambda: diagnose(F, [(0.0, state()), (1.0, [state()])]), ValueError, "of one kind"),
        (lambda: diagnose(3, [(0.0, state()), (1.0, state())]), TypeError, "F must be callable"),
        (lambda: diagnose(lambda t, Y: Y[:3], [(0.0, state()), (1.0, state())]), ValueError, "shape of Y"),
        (lambda: diagnose(lambda t, Y: 1 / 0, [(0.0, state()), (1.0, state())]), dlra.SolveError, "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_solution_without_states_is_refused():
    sol = dlra.solve(F, (0, 1), state(), dt=0.5, save=lambda s: s.t)
    with pytest.raises(ValueError, match="the Solution holds no states"):
        diagnose(F, sol)


def test_increments_are_refused():
    Y = state().to_dense()
    A = dlra.Increments(lambda t: (1 + t) * Y)
    with pytest.raises(TypeError, match="give F = A' itself"):
        diagnose(A, [(0.0, state()), (1.0, state())])


def test_it_is_found_under_its_name():
    assert dlra.diagnostics is diagnostics


def by_hand(**changes):
    """A Diagnosis of round numbers."""
    options = {
        "t": np.asarray([0.0, 1.0, 2.0]), "field_norm": np.asarray([5.0, 5.0, 4.0]),
        "normal": np.asarray([0.5, 0.25, 0.0]), "tangential": np.asarray([4.9, 4.9, 4.0]),
        "lipschitz": np.asarray([1.0, 2.0, 1.5]), "mu": np.asarray([-1.0, -0.5]),
        "dropped": np.asarray([0.0, 0.01, 0.01]), "start": 0.0, "span": 2.0, "h": 0.01, "rank": 3,
    }  # fmt: skip
    return diagnostics.Diagnosis(**{**options, **changes})


def test_constants_are_the_largest_seen():
    d = by_hand()
    assert (d.B, d.L, d.eps, d.growth) == (5.0, 2.0, 0.5, -0.5)
    assert d.theta == pytest.approx(1e-4)
    assert by_hand(mu=np.asarray([-3.0, -4.0])).L == 4.0  # a rate seen between states counts too
    assert by_hand(mu=np.asarray([])).growth == 2.0
    assert d.local_error(0.1) == pytest.approx(math.hypot(0.5 + 0.5**0.5, 1) * 2 * 5 * 0.01 + 0.05)


def test_bounds_are_what_the_formulas_say():
    d = by_hand()
    printed, sharp, seen, normal = d.bounds
    grown = {rate: np.exp(rate * np.asarray([2.0, 1.0, 0.0])) for rate in (2.0, -0.5)}
    step = math.hypot(0.5 + 0.5**0.5, 1) * np.asarray([5.0, 10.0, 6.0]) * 0.01

    def fan(rate, rates, dropped):
        w = grown[rate] * rates
        return (w[0] + 2 * w[1] + w[2]) / 2 + dropped

    eps = np.asarray([0.5, 0.25, 0.0])
    fast = 0.01 * (math.exp(4) + math.exp(2))  # each loss grown from the worse end of its interval
    slow = 0.01 * (math.exp(-0.5) + 1)
    assert sharp.value == pytest.approx(fan(2.0, step + eps, fast))
    assert seen.value == pytest.approx(fan(-0.5, step + eps, slow))
    assert normal.value == pytest.approx(fan(-0.5, eps, 0.0))
    Lh = np.asarray([0.01, 0.02, 0.015])
    e = np.exp(Lh)
    c1 = 2 * (1 + Lh * e) * (3 * e + 4)
    c2 = 2 * np.asarray([5.0, 10.0, 6.0]) * ((1 + Lh * e) * (4 * e + 9) + e)
    assert printed.value == pytest.approx(fan(2.0, c1 * eps + c2 * 0.01, fast))
    assert sharp.trivial == pytest.approx(2 * 5 * 2 + 0.02)
    assert by_hand(method="BUG()").bounds[0].trivial == pytest.approx((1 + 3**0.5) * 5 * 2 + 0.02)


def test_what_was_not_looked_at_counts_with_its_neighbour():
    still = {"mu": np.asarray([0.0]), "lipschitz": np.zeros(3), "normal": np.ones(3), "dropped": np.zeros(3)}
    whole, part = by_hand(**still), by_hand(**still, t=np.asarray([0.5, 1.0, 1.5]))
    assert whole.bounds[3].value == pytest.approx(2.0)
    assert part.bounds[3].value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("method", "factor", "missed"),
    [
        ("AugmentedBUG(substep='euler')", 0.5, 1.0), ("AugmentedBUG()", 2.0, 1.0), ("", 2.0, 1.0),
        ("ParallelBUG(substep='euler')", 0.5, 0.0),
    ],
)  # fmt: skip
def test_descent_follows_the_substeps(method, factor, missed):
    bound = by_hand(gradient=True, method=method, normal=np.asarray([0.5, 0.25, 2.0])).bounds[-1]
    changes = [-0.01 * t * t + missed * 0.01 * n * n + factor * 1e-4 * L * B * B + B * 1e-4
               for t, n, L, B in ((4.9, 0.5, 1, 5), (4.9, 0.25, 2, 5), (4.0, 2.0, 1.5, 4))]  # fmt: skip
    assert bound.value == pytest.approx(max(changes))


def test_advice_has_numbers_that_follow():
    d = by_hand(h=0.1, normal=np.asarray([0.01, 0.0, 0.0]), dropped=np.zeros(3), gradient=True,
                method="AugmentedBUG(substep='euler')")  # fmt: skip
    steps = d.local_error(0.1) / 0.1 - 0.01
    assert (
        f"a smaller dt lowers the bound, down to steps of about {0.1 * (0.01 / 3) / steps:.1e}" in d.advice[1]
    )
    assert "a smaller rtol lowers" in by_hand(h=0.1, adaptive=True).advice[1]
    longest = min((4.9**2 - 1e-4) / (0.5 * 1 * 25), 4.9**2 / (0.5 * 2 * 25), 16 / (0.5 * 1.5 * 16))
    assert f"promised to fall for steps below {longest:.1e}" in d.advice[-1]


def test_advice_fits_the_method():
    large = {"normal": np.full(3, 3.0), "tangential": np.full(3, 4.0)}
    fixed = by_hand(method="BUG()", **large).advice[1]
    assert "the rank 3 leaves a part of F out: a higher one helps" in fixed
    free = by_hand(method="AugmentedBUG(rtol=0.01)", **large).advice[1]
    assert (
        "new directions of size h eps = 3.0e-02 are lost where that is below the truncation tolerance" in free
    )
    full = by_hand(method="AugmentedBUG(rtol=0.01)", full_rank=True, **large).advice[1]
    assert "the rank is full at the end" in full
    assert "higher" not in full
    stiff = by_hand(stiff=True).advice
    assert "stiff part that is integrated exactly" in stiff[0]
    assert not any("SemiLinear" in text or "dt lowers" in text for text in stiff)
    assert len(by_hand(stiff=True).bounds) == 1


def test_rounding_errors_are_no_normal_component():
    found = diagnose(lambda Y: -Y, dlra.solve(lambda Y: -Y, (0, 1), state(), dt=0.01))
    assert found.eps < 1e-14
    assert found.advice[-1] == "a smaller dt lowers the bound"


def test_complex_fields():
    found = diagnose(
        lambda Y: (-1 + 5j) * Y, [(0.0, state(dtype="complex128")), (1.0, state(dtype="complex128", r=2))]
    )
    assert found.mu == pytest.approx([-1.0])
    assert abs(-1 + 5j) == pytest.approx(found.L)
    assert found.rank == 3


def test_backward_runs_grow_where_forward_ones_decay():
    sol = dlra.solve(lambda Y: -8 * Y, (1, 0), state(), dt=0.01)
    found = diagnose(lambda Y: -8 * Y, sol)
    assert found.mu == pytest.approx(np.full(len(found.mu), 8.0))
    exact = state().to_dense() * math.exp(8)
    assert np.linalg.norm(sol.y_final.to_dense() - exact) < found.bounds[2].value


def test_early_states_are_looked_at_and_the_last():
    sol = dlra.solve(lambda Y: -Y, (0, 1), state(), dt=0.01)
    found = diagnose(lambda Y: -Y, sol, max_states=5)
    assert found.t == pytest.approx([0.0, 0.01, 0.34, 0.67, 1.0])
    assert diagnose(lambda Y: -Y, sol, max_states=2).t == pytest.approx([0.0, 1.0])


def test_truncation_does_not_depend_on_what_is_stored():
    family = tangent_field(12, 9, eps=0.5, seed=3)
    method = dlra.AugmentedBUG(atol=0.01)
    whole, part = (
        diagnose(family.F, dlra.solve(family.F, (0, 1), state(), method, dt=0.05, t_eval=t))
        for t in (None, [0.5])
    )
    assert 0.3 * whole.theta < part.theta < 3 * whole.theta


def test_steps_of_different_lengths_count_with_their_squares():
    family = tangent_field(12, 9, eps=0.0, seed=3)
    sol = dlra.solve(family.F, (0, 1), state(), rtol=1e-4)
    steps = np.diff(sol.t)
    found = diagnose(family.F, sol)
    assert found.h == pytest.approx(np.sum(steps**2))
    assert found.adaptive


@pytest.mark.parametrize("scale", [1e-160, 1e160])
def test_extreme_scales(scale):
    A = np.diag(np.linspace(-1.0, -2.0, 12))
    found = diagnose(lambda Y: A @ Y, [(0.0, state() * scale), (1.0, state() * (0.5 * scale))])
    plain = diagnose(lambda Y: A @ Y, [(0.0, state()), (1.0, state() * 0.5)])
    assert found.mu == pytest.approx(plain.mu, rel=1e-6)
    assert plain.B * scale == pytest.approx(found.B)
    assert found.tangential == pytest.approx(plain.tangential * scale)


def test_nan_of_the_field_is_a_failure():
    with pytest.raises(dlra.SolveError, match="NaN or infinite values at this state or near it"):
        diagnose(lambda t, Y: Y * (np.nan if t > 0 else 1.0), [(0.0, state()), (1.0, state())])


def test_dense_members_alone():
    found = diagnose(lambda Ys: [-Ys[0]], [(0.0, [np.ones((3, 2))]), (1.0, [np.full((3, 2), 0.5)])])
    assert found.rank == 0
    assert pytest.approx(1.0) == found.L


def test_a_diagnosis_of_another_run_is_refused():
    F = lambda Y: -Y  # noqa: E731
    sol = dlra.solve(F, (0, 1), state(), dt=0.1)
    other = diagnose(F, dlra.solve(F, (0, 2), state(), dt=0.1))
    with pytest.raises(ValueError, match="found belongs to another run"):
        sol.diagnosed(other)
    with pytest.raises(TypeError, match="found must be a Diagnosis"):
        sol.diagnosed(None)
    with pytest.raises(ValueError, match="BUG"):
        sol.diagnosed(diagnose(F, dlra.solve(F, (0, 1), state(), "bug", dt=0.1)))
    longer = sol.diagnosed(diagnose(F, sol, h=0.5))
    assert longer.errors.time[-1] == pytest.approx(sol.diagnosed(diagnose(F, sol)).errors.time[-1])
    assert np.isnan(longer.errors.local.time[0])  # no step was made there


def test_a_stiff_part_leaves_the_time_part_unknown():
    F = dlra.SemiLinear(-np.diag(np.linspace(1.0, 900.0, 12)), None, lambda t, Y: np.sin(Y))
    sol = dlra.solve(F, (0, 0.1), state(), dlra.AugmentedBUG(rtol=1e-6), dt=0.01)
    found = diagnose(F, sol)
    assert found.stiff
    assert np.isnan(sol.diagnosed(found).errors.time[-1])


@pytest.mark.parametrize("later", [0.0, 0.5])
def test_a_zero_state_has_a_rate_too(later):
    Y0 = state(r=2)
    zero = LowRank(Y0.U, np.zeros((2, 2)), Y0.V)
    found = diagnose(lambda Y: np.ones((12, 9)) - 3 * Y, [(0.0, zero), (1.0, Y0 * later)])
    assert found.lipschitz == pytest.approx([3.0, 3.0], rel=1e-5)
    assert found.field_norm[0] == pytest.approx(math.sqrt(12 * 9))


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision(dtype):
    def seen(dtype):
        A = np.diag(np.linspace(-1.0, -6.0, 12)).astype(dtype)
        return diagnose(lambda Y: A @ Y, [(0.0, state(dtype=dtype)), (1.0, state(dtype=dtype) * 0.5)])

    single, double = seen(dtype), seen({"float32": "float64", "complex64": "complex128"}[dtype])
    assert single.field_norm == pytest.approx(double.field_norm, rel=1e-5)
    assert single.mu == pytest.approx(double.mu, rel=1e-4)
    assert single.lipschitz == pytest.approx(double.lipschitz, rel=1e-2)
    assert single.eps < 1e-5
