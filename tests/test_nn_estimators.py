"""LowRankMLPClassifier and LowRankMLPRegressor: scikit-learn's rules, and what they promise beyond them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason='scikit-learn is missing: pip install "dlra[learn]"')

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import dlra
from dlra import AugmentedBUG, DlraWarning, nn
from dlra.nn import LowRankMLPClassifier, LowRankMLPRegressor
from dlra.nn.schedules import Cosine

BOTH = [LowRankMLPClassifier, LowRankMLPRegressor]
SMALL = {"hidden_layer_sizes": (10,), "max_iter": 15, "learning_rate_init": 0.05, "batch_size": 20}


@parametrize_with_checks(
    [
        LowRankMLPClassifier(**SMALL),
        LowRankMLPRegressor(**SMALL),
        LowRankMLPRegressor(**(SMALL | {"dtype": "float64", "hidden_layer_sizes": (10, 10)})),
    ]
)
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning", "ignore:overflow:RuntimeWarning")
def test_rules_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x / 16, y, random_state=0, stratify=y)


@pytest.fixture
def points(rng):
    """Two classes of points in the plane that a line does not separate, and a number for each."""
    x = rng.uniform(-1, 1, (120, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(int), np.sin(3 * x[:, 0]) + x[:, 1]


def quick(cls, **options):
    return cls(**({"hidden_layer_sizes": (12, 12), "max_iter": 3, "random_state": 0} | options))


def targets(cls, points):
    return points[1] if cls is LowRankMLPClassifier else points[2]


# ---- what they learn


def test_grid_search_over_the_tolerance_in_a_pipeline(digits):
    x_train, x_test, y_train, y_test = digits
    model = LowRankMLPClassifier((50, 50), learning_rate_init=1e-2, max_iter=12, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model), {"lowrankmlpclassifier__rtol": [0.1, 0.5]}, cv=2, n_jobs=2
    )
    search.fit(x_train, y_train)
    assert search.best_params_ == {"lowrankmlpclassifier__rtol": 0.1}
    assert search.score(x_test, y_test) > 0.93


def test_regressor_learns_several_outputs(points):
    x, _, y = points
    Y = np.column_stack([y, -2 * y, x[:, 0] ** 2])
    model = quick(LowRankMLPRegressor, hidden_layer_sizes=(40,), max_iter=200, learning_rate_init=1e-2)
    assert model.fit(x, Y).score(x, Y) > 0.97
    assert model.predict(x).shape == (120, 3)


def test_larger_tolerances_give_smaller_ranks(digits):
    x, _, y, _ = digits
    ranks = [
        quick(LowRankMLPClassifier, hidden_layer_sizes=(60, 60), rtol=rtol).fit(x, y).ranks_
        for rtol in (0.05, 0.15, 0.4)
    ]
    assert all(a > b > c for a, b, c in zip(*(r[:-1] for r in ranks), strict=True))
    assert {r[-1] for r in ranks} == {10}


@pytest.mark.parametrize("seed", range(6))
def test_few_features_keep_all_their_directions(rng, seed):
    x = rng.standard_normal((200, 2))
    y = (x[:, 0] > 0) + 2 * (x[:, 1] > 0)
    model = LowRankMLPClassifier(
        (10, 10), max_iter=15, learning_rate_init=0.03, batch_size=20, random_state=seed
    )
    assert model.fit(x, y).ranks_[0] == 2
    assert model.score(x, y) > 0.9


# ---- reproducibility, copies


@pytest.mark.parametrize("cls", BOTH)
def test_a_seed_fixes_every_bit(cls, points):
    y = targets(cls, points)
    options = {"early_stopping": True, "batch_size": 30}
    a, b = (quick(cls, **options).fit(points[0], y) for _ in range(2))
    c = quick(cls, **options, random_state=1).fit(points[0], y)
    assert a.loss_curve_ == b.loss_curve_ != c.loss_curve_
    assert a.history_.validation_loss == b.history_.validation_loss
    method = "predict_proba" if cls is LowRankMLPClassifier else "predict"
    assert np.array_equal(getattr(a, method)(points[0]), getattr(b, method)(points[0]))


def test_random_state_none_follows_the_seed_of_numpy(points):
    runs = []
    for _ in range(2):
        np.random.seed(5)  # noqa: NPY002  (scikit-learn's None is the global state)
        first, second = (
            quick(LowRankMLPRegressor, random_state=None).fit(points[0], points[2]) for _ in "12"
        )
        assert first.loss_curve_ != second.loss_curve_
        runs.append(first.loss_curve_)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("cls", BOTH)
def test_pickle_and_clone(cls, points):
    model = quick(cls, method=AugmentedBUG(rtol=0.2), learning_rate_init=Cosine(0.01, 50))
    model.fit(points[0], targets(cls, points))
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(model.predict(points[0]), again.predict(points[0]))
    assert again.history_.to_dict() == model.history_.to_dict()
    assert again.history_.net is again.net_
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "net_")
    assert fresh.fit(points[0], targets(cls, points)).loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_mapped_from_a_file_predict(points, tmp_path, dtype):
    joblib = pytest.importorskip("joblib")
    model = quick(LowRankMLPRegressor, dtype=dtype).fit(points[0], points[2])
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert np.array_equal(mapped.predict(points[0]), model.predict(points[0]))


# ---- labels, probabilities


@pytest.mark.parametrize(
    "names", [np.array(["no", "yes"]), np.array(["b", "a"], dtype=object), np.array([7, -3]), [True, False]]
)
def test_labels_of_any_kind(points, names):
    x, k, _ = points
    y = np.asarray(names)[k]
    options = {"max_iter": 60, "learning_rate_init": 0.02}
    model = quick(LowRankMLPClassifier, **options).fit(x, y)
    assert model.classes_.tolist() == sorted(names)
    assert model.score(x, y) > 0.9
    assert set(model.predict(x)) == set(names)


def test_probabilities(digits):
    x, x_test, y, _ = digits
    model = quick(LowRankMLPClassifier, max_iter=10, learning_rate_init=0.02).fit(x, y)
    p, log_p = model.predict_proba(x_test), model.predict_log_proba(x_test)
    assert p.shape == (len(x_test), 10) and p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.log(p), log_p, rtol=1e-12, atol=1e-14)
    assert np.array_equal(model.classes_[p.argmax(axis=1)], model.predict(x_test))
    z = model.net_.predict(x_test.astype("float32"))
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_far_inputs_overflow_no_probability(points):
    model = quick(LowRankMLPClassifier).fit(points[0], points[1])
    p, log_p = (f(1e6 * points[0]) for f in (model.predict_proba, model.predict_log_proba))
    assert np.all(np.isfinite(log_p)) and np.all(np.abs(p.sum(axis=1) - 1) < 1e-14)


@pytest.mark.parametrize("cls", BOTH)
def test_predictions_of_a_row_do_not_depend_on_its_neighbours(cls, digits):
    x, _, y, _ = digits
    model = quick(cls, hidden_layer_sizes=(200, 200), max_iter=2).fit(x, y)
    method = model.predict_log_proba if cls is LowRankMLPClassifier else model.predict
    whole = method(x[:100])
    single = np.concatenate([method(x[i : i + 1]) for i in range(100)])
    np.testing.assert_allclose(single, whole, rtol=1e-11, atol=1e-13)


# ---- small and odd data


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("hidden", [(), (5,), 5, (1, 1)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (4, 1)])
@pytest.mark.filterwarnings("ignore::dlra.DlraWarning")
def test_tiny_data(cls, hidden, rows, columns):
    x = np.arange(1.0, rows * columns + 1).reshape(rows, columns)
    y = np.ones(rows)
    model = quick(cls, hidden_layer_sizes=hidden).fit(x, y)
    assert model.predict(x).shape == (rows,)
    assert len(model.ranks_) == (1 if isinstance(hidden, int) else len(hidden)) + 1
    if cls is LowRankMLPClassifier:
        assert np.array_equal(model.predict(x), y) and np.all(model.predict_proba(x) == 1)


@pytest.mark.parametrize("shape", [(120,), (120, 1), (120, 2)])
def test_predictions_have_the_shape_of_y(points, shape):
    y = np.resize(points[2], shape)
    assert quick(LowRankMLPRegressor).fit(points[0], y).predict(points[0][:7]).shape == (7, *shape[1:])


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("bad", ["sparse", "nan", "missing column", "too large"])
def test_data_are_refused_with_the_errors_of_scikit_learn(cls, points, bad):
    from scipy.sparse import csr_array

    x, y = points[0].copy(), targets(cls, points)
    if bad == "sparse":
        with pytest.raises(TypeError, match="Sparse data was passed for X"):
            quick(cls).fit(csr_array(x), y)
    elif bad == "missing column":
        with pytest.raises(ValueError, match="X has 1 features, but .* is expecting 2 features"):
            quick(cls).fit(x, y).predict(x[:, :1])
    else:
        x[3, 1] = np.nan if bad == "nan" else 1e300
        with pytest.raises(
            ValueError, match="contains NaN" if bad == "nan" else r"too large for dtype\('float32'\)"
        ):
            quick(cls).fit(x, y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_targets_too_large_for_the_dtype_are_refused(points):
    with pytest.raises(
        ValueError, match=r"Input y contains infinity or a value too large for dtype\('float32'\)"
    ):
        quick(LowRankMLPRegressor).fit(points[0], 1e300 * points[2])


def test_continuous_labels_are_refused(points):
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        quick(LowRankMLPClassifier).fit(points[0], points[2])


@pytest.mark.parametrize("cls", BOTH)
def test_unfitted(cls, points):
    with pytest.raises(NotFittedError):
        cls().predict(points[0])


# ---- parameters


BAD = [
    ({"hidden_layer_sizes": (10, 0)}, ValueError, r"hidden_layer_sizes\[1\] must be at least 1, got 0"),
    ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes must be an int or a sequence of int"),
    ({"rtol": -0.1}, ValueError, "rtol must be finite and >= 0"),
    ({"rtol": 1.0}, ValueError, "rtol of AugmentedBUG must be below 1"),
    ({"rtol": "0.1"}, TypeError, "rtol must be a number"),
    ({"rtol": (0.1, 0.1)}, ValueError, "rtol of AugmentedBUG must be a number or one for each of 3 weights"),
    ({"rank": 0}, ValueError, "rank must be at least 1, got 0"),
    ({"rank": (3,)}, ValueError, "one int for each of 2 hidden layers, got 1"),
    ({"rank": (3, 4)}, ValueError, r"rank\[0\] must not exceed 2, the smaller side of the 12 x 2 weight"),
    ({"max_rank": 0}, ValueError, "max_rank must be at least 1"),
    ({"max_rank": 5, "method": AugmentedBUG(rtol=0.1)}, ValueError, "max_rank=5 has no effect with method="),
    ({"max_rank": 5, "method": "galerkin"}, ValueError, "max_rank=5 has no effect with method='galerkin'"),
    ({"activation": "logistic"}, ValueError, "activation must be one of 'relu', 'tanh', 'sigmoid'"),
    ({"solver": "lbfgs"}, ValueError, "solver must be one of 'adam', 'momentum', 'sgd', got 'lbfgs'"),
    ({"solver": ["adam"]}, ValueError, "solver must be one of"),
    ({"learning_rate_init": 0}, ValueError, "learning_rate_init must be positive"),
    ({"learning_rate_init": "constant"}, TypeError, "learning_rate_init, if no schedule, must be a real number"),
    ({"alpha": -1}, ValueError, "alpha must be at least 0"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"batch_size": "all"}, ValueError, 'batch_size must be an int or "auto", got \'all\''),
    ({"batch_size": None}, ValueError, 'batch_size must be an int or "auto", got None'),
    ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
    ({"max_iter": 2.5}, TypeError, "max_iter must be an int"),
    ({"early_stopping": 1}, TypeError, "early_stopping must be True or False"),
    ({"early_stopping": True, "validation_fraction": 1.0}, ValueError, "validation_fraction must lie between 0 and 1"),
    ({"early_stopping": True, "n_iter_no_change": 0}, ValueError, "n_iter_no_change must be at least 1"),
    ({"early_stopping": True, "validation_fraction": 0.999}, ValueError, "early_stopping=True cannot set"),
    ({"method": "augmentedbug"}, ValueError, "did you mean 'augmented-bug'"),
    ({"method": AugmentedBUG}, TypeError, "with parentheses"),
    ({"dtype": "float16"}, ValueError, 'dtype must be "float32" or "float64"'),
    ({"dtype": None}, ValueError, 'dtype must be "float32" or "float64"'),
    ({"verbose": 2}, TypeError, "verbose must be True or False"),
    ({"random_state": "seed"}, ValueError, "seed"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "message"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_parameters_are_named(points, options, kind, message):
    model = quick(LowRankMLPClassifier, **options)
    with pytest.raises(kind, match=message):
        model.fit(points[0], points[1])
    assert not hasattr(model, "net_")


def test_parameters_are_kept_as_they_are():
    sizes, rate = [10, 10], np.float32(0.1)
    model = LowRankMLPRegressor(sizes, learning_rate_init=rate)
    assert model.hidden_layer_sizes is sizes and model.learning_rate_init is rate


@pytest.mark.parametrize(
    "options",
    [
        {"method": "parallel-bug"}, {"method": "bug"}, {"method": "projector-splitting", "solver": "sgd"},
        {"method": {0: AugmentedBUG(rtol=0.2), 2: "galerkin"}}, {"solver": "momentum", "alpha": 1e-3},
        {"hidden_layer_sizes": np.array([12, 12])}, {"rank": (2, 9)}, {"rtol": (0.1, 0.2, 0.0)},
        {"rtol": np.array(3 * [0.1])},
        {"dtype": np.float64}, {"learning_rate_init": Cosine(0.1, 30)}, {"batch_size": 7},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("cls", BOTH)
def test_parameters_in_all_their_forms(cls, points, options):
    y = targets(cls, points)
    model = quick(cls, **options).fit(points[0], y)
    assert model.n_iter_ == len(model.loss_curve_) == len(model.history_) == 3
    assert model.loss_ == model.loss_curve_[-1] < np.inf
    assert model.net_.dtype == np.dtype(model.dtype).name


@pytest.mark.parametrize("method", [None, "augmented-bug", "parallel-bug"])
def test_rank_options_reach_the_method(digits, method):
    x, _, y, _ = digits
    options = {"hidden_layer_sizes": (60, 60), "max_iter": 1, "method": method}
    free = quick(LowRankMLPClassifier, **options, rtol=0.02).fit(x, y)
    bound = quick(LowRankMLPClassifier, **options, rtol=0.02, max_rank=5).fit(x, y)
    coarse = quick(LowRankMLPClassifier, **options, rtol=0.5).fit(x, y)
    assert min(free.ranks_[:2]) > 20 and bound.ranks_[:2] == (5, 5) and max(coarse.ranks_[:2]) < 20


@pytest.mark.parametrize(
    ("options", "ranks"),
    [({}, (64, 64)), ({"rank": 20}, (20, 20)), ({"rank": (30, 70)}, (30, 70)), ({"max_rank": 9}, (9, 9))],
)
def test_rank_at_the_start(rng, options, ranks):
    x, y = rng.standard_normal((50, 90)), rng.standard_normal(50)
    still = {"rtol": 0, "learning_rate_init": 1e-9, "max_iter": 1, "hidden_layer_sizes": (100, 80)}
    assert quick(LowRankMLPRegressor, **(still | options)).fit(x, y).ranks_ == (*ranks, 1)


@pytest.mark.parametrize("cls", BOTH)
def test_early_stopping_takes_the_best_epoch(cls, points):
    x, y = points[0], targets(cls, points)
    noise = np.random.default_rng(1).permutation(y)  # nothing to learn: the validation loss soon rises
    model = quick(
        cls, early_stopping=True, validation_fraction=0.25, n_iter_no_change=4, max_iter=300,
        hidden_layer_sizes=(40, 40), learning_rate_init=0.02,
    ).fit(x, noise)  # fmt: skip
    assert model.n_iter_ == model.history_.best_epoch + 4 < 300
    assert model.ranks_ == model.history_.ranks[model.history_.best_epoch - 1]
    assert not np.isnan(model.history_.validation_loss).any()


def test_alpha_shrinks_the_weights(points):
    x, _, y = points
    options = {"solver": "sgd", "learning_rate_init": 0.05, "max_iter": 40}
    norms = [
        float(np.linalg.norm(quick(LowRankMLPRegressor, **options, alpha=a).fit(x, y).net_.weights[-1]))
        for a in (0.0, 1.0)
    ]
    assert norms[1] < 0.5 * norms[0]


def test_a_batch_larger_than_the_data_is_cut_with_a_warning(points):
    x, y, _ = points
    with pytest.warns(DlraWarning, match="batch_size=500 exceeds the 120 rows") as caught:
        model = quick(LowRankMLPClassifier, batch_size=500).fit(x, y)
    assert caught[0].filename == __file__
    assert model.history_.steps == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quick(LowRankMLPClassifier).fit(x, y).history_.steps == 3


def test_frozen_ranks_are_told(points):
    with pytest.warns(DlraWarning, match="cannot grow"):
        quick(LowRankMLPRegressor, rank=1, learning_rate_init=1e-6).fit(points[0], points[2])


def test_unscaled_inputs_fail_with_the_error_of_train(points):
    options = {"solver": "sgd", "learning_rate_init": 1e6, "max_iter": 20}
    with pytest.raises(dlra.TrainingError, match="smaller learning rate"), np.errstate(all="ignore"):
        quick(LowRankMLPRegressor, **options).fit(points[0], points[2])


@pytest.mark.parametrize("epochs", [0, 2])
def test_ctrl_c_keeps_what_there_is(points, monkeypatch, epochs):
    x, _, y = points
    calls = []

    def interrupted(t):
        calls.append(t)
        if t >= epochs * 2:
            raise KeyboardInterrupt
        return 1e-3

    model = quick(LowRankMLPRegressor, max_iter=9, batch_size=60, learning_rate_init=interrupted)
    if epochs == 0:
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y)
    else:
        with pytest.warns(DlraWarning, match="Interrupted by Ctrl-C in epoch 3"):
            model.fit(x, y)
        assert model.n_iter_ == 2 and model.predict(x).shape == y.shape


# ---- imports


def test_the_package_does_not_import_scikit_learn():
    code = "import sys, dlra.nn; dlra.nn.train; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "dlra.nn.estimators")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    for name in ("LowRankMLPClassifier", "LowRankMLPRegressor"):
        monkeypatch.delitem(vars(nn), name, raising=False)
        with pytest.raises(ImportError, match=r'pip install "dlra\[learn\]"'):
            getattr(nn, name)
