"""dlra.plot: what the pictures show. Figures are looked at through their axes, lines and images."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import dlra
from dlra import LowRank, problems

matplotlib = pytest.importorskip("matplotlib")
from dlra import plot  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error")


def random_lowrank(rng, m=8, n=6, rank=3, dtype="float64"):
    factors = [rng.standard_normal(shape) for shape in ((m, rank), (rank, rank), (n, rank))]
    if dtype.startswith("complex"):
        factors = [a + 1j * rng.standard_normal(a.shape) for a in factors]
    return LowRank(*(a.astype(dtype) for a in factors))


@pytest.fixture(scope="module")
def rotation():
    problem = problems.rotation(n=20)
    return problem, dlra.solve(problem.F, problem.t_span, problem.Y0(6), dlra.AugmentedBUG(rtol=1e-3), dt=0.1)


@pytest.fixture(scope="module")
def system():
    rng = np.random.default_rng(0)
    Y0 = [random_lowrank(rng), random_lowrank(rng, 5, 4, 2), rng.standard_normal(3)]
    field = dlra.factored(lambda t, Ys: [-1.0 * Y for Y in Ys])
    return dlra.solve(field, (0, 1), Y0, dt=0.25)


def decay(Y0, **options):
    return dlra.solve(dlra.factored(lambda Y: -1.0 * Y), (0, 1), Y0, dt=0.25, **options)


def drawn(figure, layout=False):
    """The figure after drawing, where most mistakes show; without the layout, which takes longer than the rest."""
    if not layout:
        figure.set_layout_engine("none")
    figure.canvas.draw()
    return figure


def panels(figure):
    """The axes but for colour bars."""
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>" and not hasattr(ax, "_colorbar")]


def is_png(path):
    from matplotlib.image import imread

    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and imread(path).ndim == 3


# ---- one function at a time


def test_rank_shows_the_ranks_at_integer_ticks(rotation):
    _, solution = rotation
    (ax,) = drawn(plot.rank(solution)).axes
    (line,) = ax.lines
    assert np.array_equal(line.get_xdata(), solution.t)
    assert np.array_equal(line.get_ydata(), solution.rank)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t", "rank")
    assert all(float(tick).is_integer() for tick in ax.get_yticks())
    assert ax.get_ylim()[0] == 0


def test_error_budget_leaves_out_what_is_unknown(rotation):
    _, solution = rotation
    (ax,) = drawn(plot.error_budget(solution)).axes
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["truncation", "normal component"]  # the time part is NaN with a fixed step
    assert ax.get_yscale() == "log"
    shown = ax.lines[0].get_ydata()
    assert np.isnan(shown[0])  # zero at the start
    assert np.allclose(shown[1:], solution.errors.truncation[1:])


def test_error_budget_without_any_known_part_says_so(rng):
    solution = decay(random_lowrank(rng), method="bug")
    (ax,) = drawn(plot.error_budget(solution)).axes
    assert not ax.lines and "no part is known" in ax.texts[0].get_text()
    assert len(panels(plot.overview(solution))) == 4  # and the overview leaves the panel out


def test_error_budget_with_a_time_part(rotation):
    _, solution = rotation
    errors = solution.errors
    known = dlra.ErrorBudget(np.linspace(0, 1e-5, len(solution.t)), errors.truncation, errors.normal)
    from dataclasses import replace

    (ax,) = plot.error_budget(replace(solution, errors=known)).axes
    assert ax.lines[0].get_label() == "time step"


def test_observables_come_from_the_problem(rotation):
    problem, solution = rotation
    (ax,) = drawn(plot.observables(solution, problem)).axes
    assert ax.get_ylabel() == "norm"
    assert np.allclose(ax.lines[0].get_ydata(), [Y.norm() for Y in solution.y])


def test_observables_come_from_saved_dicts(rng):
    solution = decay(random_lowrank(rng), save=lambda s: {"norm": s.y.norm(), "text": "x"})
    (ax,) = drawn(plot.observables(solution)).axes
    assert ax.get_ylabel() == "norm" and np.allclose(ax.lines[0].get_ydata()[0], solution.saved[0]["norm"])


def test_observables_come_from_saved_numbers(rng):
    (ax,) = plot.observables(decay(random_lowrank(rng), save=lambda s: s.y.norm())).axes
    assert ax.get_ylabel() == "saved"


def test_observables_choose_their_axes():
    from dataclasses import replace

    t = np.linspace(0, 1, 11)
    solution = decay(LowRank.from_dense(np.eye(3), rank=1))
    saved = [
        {
            "kept_mass": 2 + 1e-9 * x,
            "decaying": 10 ** (-5 * x),
            "signed": x - 0.5,
            "constant": 3.0,
            "zero": 0.0,
        }
        for x in t
    ]
    solution = replace(solution, t=t, saved=saved, y=[])
    axes = drawn(plot.observables(solution)).axes
    assert axes[0].get_ylabel() == "relative change of kept mass"
    assert np.allclose(axes[0].lines[0].get_ydata(), 5e-10 * t, atol=1e-15)
    assert [ax.get_yscale() for ax in axes] == ["linear", "log", "linear", "linear", "linear"]
    assert len(plot.observables(solution, names=["signed"]).axes) == 1


def test_singular_values_of_the_end_and_over_time(rotation):
    _, solution = rotation
    end, course = drawn(plot.singular_values(solution)).axes
    expected = np.linalg.svd(solution.y_final.to_dense(), compute_uv=False)
    assert np.allclose(end.lines[0].get_ydata(), expected[: solution.y_final.rank])
    assert end.get_yscale() == course.get_yscale() == "log"
    assert len(course.lines) == solution.rank.max()
    ends = np.isnan(course.lines[-1].get_ydata())
    assert np.array_equal(ends, solution.rank < solution.rank.max())  # nothing is drawn beyond the rank


def test_singular_values_over_time_from_saved_entries(rng):
    def save(state):
        return {"singular_values": state.y.singular_values()}

    assert len(plot.singular_values(decay(random_lowrank(rng), save=save)).axes) == 2
    assert len(plot.singular_values(decay(random_lowrank(rng), save=lambda s: None)).axes) == 1


def test_zero_singular_values_do_not_break_the_log_axis():
    Y0 = LowRank(np.eye(4)[:, :3], np.diag([1.0, 0.0, 0.0]), np.eye(5)[:, :3])
    solution = decay(Y0)
    end, course = drawn(plot.singular_values(solution)).axes
    assert np.isnan(end.lines[0].get_ydata()[1:]).all()
    assert course.get_ylim()[0] > 0


def test_a_solution_that_is_zero_is_drawn():
    solution = decay(LowRank(np.eye(4)[:, :2], np.zeros((2, 2)), np.eye(5)[:, :2]))
    end, course = drawn(plot.singular_values(solution)).axes
    assert "above zero" in end.texts[0].get_text() and "all zero" in course.texts[0].get_text()
    drawn(plot.state(solution))


def test_state_in_phase_space():
    problem = problems.landau_damping(nx=16, nv=32)
    solution = dlra.solve(problem.F, (0, 0.1), problem.Y0(3), dt=0.05)
    figure = drawn(plot.state(solution, problem))
    ax = panels(figure)[0]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("x", "v", "f at t = 0.1")
    (picture,) = ax.get_images()
    assert np.allclose(picture.get_array(), solution.y_final.to_dense().T)
    assert picture.origin == "lower"
    assert picture.get_extent()[2:] == pytest.approx([-6, 6])  # v runs upward, to the edges of the cells
    assert plot.state(solution, problem, index=0).axes[0].get_title() == "f at t = 0"
    assert plot.state(solution, problem, index=-2).axes[0].get_title() == "f at t = 0.05"


def test_state_as_matrix_with_both_signs(rng):
    solution = decay(random_lowrank(rng))
    ax = panels(drawn(plot.state(solution)))[0]
    (picture,) = ax.get_images()
    assert np.allclose(picture.get_array(), solution.y_final.to_dense())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("column", "row")
    low, high = picture.get_clim()
    assert low == -high  # zero is white


def test_a_density_with_an_undershoot_keeps_its_colours(rng):
    for lowest, colours in ((-0.1, "viridis"), (-0.5, "RdBu_r")):
        A = rng.random((6, 5))
        A[0, 0], A[1, 1] = 1.0, lowest
        solution = decay(LowRank.from_dense(A, rank=5))
        assert panels(plot.state(solution))[0].get_images()[0].get_cmap().name == colours


def test_complex_state_by_modulus(rng):
    solution = decay(random_lowrank(rng, dtype="complex128"))
    ax = panels(drawn(plot.state(solution)))[0]
    assert ax.get_title() == "|Y| at t = 1"
    assert np.allclose(ax.get_images()[0].get_array(), np.abs(solution.y_final.to_dense()))


def test_large_matrices_are_thinned_on_their_factors(rng, monkeypatch):
    solution = decay(random_lowrank(rng, 4000, 20, 2))
    corner = solution.y_final[3999, 19]
    monkeypatch.setattr(LowRank, "to_dense", lambda self: pytest.fail("the matrix was formed"))
    picture = panels(plot.state(solution))[0].get_images()[0]
    assert picture.get_array().shape == (1000, 20)
    assert picture.get_extent() == [0.5, 20.5, 4000.5, 0.5]
    assert picture.get_array()[-1, -1] == pytest.approx(corner)


# ---- overview


def test_overview_of_a_problem(rotation):
    problem, solution = rotation
    figure = drawn(plot.overview(solution, problem))
    labels = [ax.get_ylabel() for ax in panels(figure)]
    assert labels == ["row", "$\\sigma_j$ at t = 1", "singular values", "rank", "accumulated error", "norm"]
    assert problem.description in figure.get_suptitle() and "AugmentedBUG" in figure.get_suptitle()


def test_overview_leaves_out_what_was_not_stored(rng):
    solution = decay(random_lowrank(rng), save=lambda s: None)
    assert [ax.get_ylabel() for ax in panels(plot.overview(solution))] == [
        "row", "$\\sigma_j$ at t = 1", "rank",
    ]  # fmt: skip


def test_overview_of_a_loaded_solution(rotation, tmp_path):
    pytest.importorskip("h5py")
    problem, solution = rotation
    solution.save(tmp_path / "s.h5")
    figure = plot.overview(dlra.Solution.load(tmp_path / "s.h5"), problem)
    assert len(figure.axes) == len(plot.overview(solution, problem).axes)


def test_no_texts_overlap_and_nothing_is_cut_off():
    problem = problems.landau_damping(nx=16, nv=32)
    solution = dlra.solve(problem.F, (0, 2), problem.Y0(5), dt=0.05)
    figure = drawn(plot.overview(solution, problem), layout=True)
    boxes = []
    for ax in panels(figure):
        assert ax.get_ylabel() or ax.get_title()
        boxes += [
            text.get_window_extent() for text in (ax.xaxis.label, ax.yaxis.label, ax.title) if text.get_text()
        ]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_one_stored_state(rng):
    solution = decay(random_lowrank(rng), t_eval=[1.0])
    assert len(plot.singular_values(solution).axes) == 1
    (ax,) = drawn(plot.rank(solution)).axes
    assert ax.lines[0].get_marker() == "o"  # a line through one point would be invisible
    drawn(plot.error_budget(solution))
    drawn(plot.overview(solution))


def test_ten_thousand_stored_states():
    from dataclasses import replace

    solution = decay(LowRank.from_dense(np.eye(3), rank=2))
    count, part = 10_000, np.linspace(1e-12, 1e-3, 10_000)
    solution = replace(
        solution, t=np.linspace(0, 1, count), y=[solution.y_final] * count, rank=np.full(count, 2),
        errors=dlra.ErrorBudget(np.full(count, np.nan), part, part),
    )  # fmt: skip
    problem = problems.rotation(n=3)
    figure = drawn(plot.overview(solution, problem))
    norm = next(ax for ax in panels(figure) if "norm" in ax.get_ylabel())
    assert len(norm.lines[0].get_xdata()) == 2000
    assert norm.lines[0].get_xdata()[-1] == 1


def test_graded_times_get_a_logarithmic_axis(rng):
    times = np.concatenate(([0.0], np.geomspace(1e-4, 1, 20)))
    (ax,) = drawn(plot.rank(decay(random_lowrank(rng), t_eval=times))).axes
    assert ax.get_xscale() == "log"


def test_backward_time(rng):
    solution = dlra.solve(dlra.factored(lambda Y: -1.0 * Y), (1, 0), random_lowrank(rng), dt=0.25)
    drawn(plot.rank(solution))
    drawn(plot.singular_values(solution))


# ---- systems, dtypes, array libraries


def test_system_has_one_line_per_member(system):
    (ax,) = drawn(plot.rank(system)).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Y[0]", "Y[1]", "Y[2]"]
    assert [line.get_ydata()[0] for line in ax.lines] == list(system.rank[0])
    assert len({line.get_linestyle() for line in ax.lines}) == 3  # equal ranks stay visible
    end, _ = drawn(plot.singular_values(system)).axes
    assert len(end.lines) == 2  # the vector has none
    assert len(panels(plot.state(system))) == 3
    drawn(plot.overview(system))


def test_system_of_many_members(rng):
    Y0 = [random_lowrank(rng, 4, 3, 2, dtype="complex64") for _ in range(12)]
    solution = dlra.solve(dlra.factored(lambda t, Ys: [-1.0 * Y for Y in Ys]), (0, 1), Y0, dt=0.5)
    figure = plot.state(solution)
    assert len(panels(figure)) == 9 and "first 9 of 12" in figure.get_suptitle()
    assert panels(figure)[0].get_title() == "|Y[0]| at t = 1"
    assert len(drawn(plot.rank(solution)).axes[0].lines) == 12
    assert len(plot.singular_values(solution).axes[1].lines) == 24


def test_system_without_low_rank_members(rng):
    solution = dlra.solve(
        dlra.factored(lambda t, Ys: [-1.0 * Ys[0]]), (0, 1), [rng.standard_normal((3, 2))], dt=0.5
    )
    with pytest.raises(ValueError, match="no low-rank member"):
        plot.singular_values(solution)
    assert len(panels(plot.overview(solution))) == 2


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision(rng, dtype):
    solution = decay(random_lowrank(rng, dtype=dtype))
    drawn(plot.overview(solution))


def test_torch(rng):
    torch = pytest.importorskip("torch")
    Y0 = LowRank(*(torch.asarray(a) for a in random_lowrank(rng).factors))
    solution = decay(Y0)
    picture = panels(drawn(plot.overview(solution)))[0].get_images()[0]
    assert np.allclose(picture.get_array(), solution.y_final.to_dense().numpy())


# ---- files, errors, the surroundings


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "PNG"])
def test_save(rotation, tmp_path, suffix):
    path = tmp_path / f"rank.{suffix}"
    plot.save(plot.rank(rotation[1]), path)
    assert path.stat().st_size > 1000
    if suffix == "png":
        assert is_png(path)


def test_save_to_a_wrong_place(rotation, tmp_path):
    figure = plot.rank(rotation[1])
    with pytest.raises(ValueError, match="suffix must be one of .*png.*got 'h5'"):
        plot.save(figure, tmp_path / "a.h5")
    with pytest.raises(OSError, match="missing"):
        plot.save(figure, tmp_path / "missing" / "a.png")


def test_errors_name_the_remedy(rotation, rng):
    problem, solution = rotation
    saved = decay(random_lowrank(rng), save=lambda s: None)
    with pytest.raises(TypeError, match="expected a dlra.Solution, got LowRank"):
        plot.rank(solution.y_final)
    with pytest.raises(ValueError, match="no observables: give the problem"):
        plot.observables(solution)
    with pytest.raises(ValueError, match="no observables"):
        plot.observables(saved, problem)
    with pytest.raises(ValueError, match="no observable 'mass'; there are norm"):
        plot.observables(solution, problem, names=["mass"])
    with pytest.raises(ValueError, match="no stored states"):
        plot.state(saved, index=0)
    with pytest.raises(IndexError, match="index 99 of 11"):
        plot.state(solution, index=99)


def test_no_stored_times(rng):
    def fails(t, Y):
        if t > 0.3:
            raise RuntimeError("no")
        return -1.0 * Y

    solution = dlra.solve(
        dlra.factored(fails), (0, 1), random_lowrank(rng), dt=0.25, t_eval=[1.0], throw=False
    )
    assert len(solution.t) == 0
    for function in (plot.rank, plot.error_budget):
        with pytest.raises(ValueError, match="no stored times"):
            function(solution)
    drawn(plot.overview(solution))


def test_style_is_not_left_behind(rotation):
    before = dict(matplotlib.rcParams)
    drawn(plot.overview(rotation[1]))
    assert dict(matplotlib.rcParams) == before


CODE = """
import builtins, sys
import numpy as np, dlra
assert "matplotlib" not in sys.modules
solution = dlra.solve(lambda Y: -Y, (0, 1), dlra.LowRank.from_dense(np.eye(3), rank=1), dt=0.5)
dlra.plot.save(dlra.plot.overview(solution), sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""


def run_python(code, *args):
    environment = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_headless_and_without_pyplot(tmp_path):
    done = run_python(CODE, tmp_path / "a.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert is_png(tmp_path / "a.png")


def test_without_matplotlib(monkeypatch, rotation):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "dlra\[plot\]"'):
        plot.rank(rotation[1])
