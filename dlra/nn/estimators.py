"""Fully connected networks on low-rank factors as estimators of scikit-learn."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_array, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'LowRankMLPClassifier and LowRankMLPRegressor need scikit-learn 1.6 or newer: pip install "dlra[learn]"'
    ) from error

from dlra._checks import check_number
from dlra.errors import DlraWarning
from dlra.integrators import AugmentedBUG, by_name
from dlra.integrators._base import RankAdaptive
from dlra.nn._layer import DTYPES, check_size
from dlra.nn.history import History
from dlra.nn.losses import CrossEntropyLoss, Loss, MSELoss
from dlra.nn.models import ACTIVATIONS, mlp
from dlra.nn.network import Sequential
from dlra.nn.optimizers import SGD, Adam, Momentum, Optimizer
from dlra.nn.trainer import train

__all__ = ["LowRankMLPClassifier", "LowRankMLPRegressor"]

_SOLVERS: dict[str, type[Optimizer]] = {"adam": Adam, "momentum": Momentum, "sgd": SGD}
_START_RANK = 64
_BATCH = 200
_ROWS = 4096
"""Rows that go through the network at once in double precision."""


@dataclass(frozen=True)
class _Options:
    """The parameters of an estimator, checked."""

    hidden: tuple[int, ...]
    ranks: int | tuple[int | None, ...]
    activation: str
    dtype: str
    optimizer: Optimizer
    method: Any
    epochs: int
    batch_size: int | None
    validation_fraction: float | None
    patience: int | None


class _LowRankMLP(BaseEstimator):
    """What classifier and regressor share: parameters, training, evaluation."""

    def __init__(
        self,
        hidden_layer_sizes: Any = (500, 500, 500, 500),
        *,
        rtol: Any = 0.1,
        rank: Any = None,
        max_rank: Any = None,
        activation: str = "relu",
        solver: str = "adam",
        learning_rate_init: Any = 1e-3,
        alpha: float = 0.0,
        batch_size: Any = "auto",
        max_iter: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        method: Any = None,
        dtype: Any = "float32",
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.rtol = rtol
        self.rank = rank
        self.max_rank = max_rank
        self.activation = activation
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.method = method
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    # ---- parameters

    def _options(self) -> _Options:
        """Check the parameters, before any work starts."""
        hidden = _checked_sizes(self.hidden_layer_sizes)
        batch_size = self.batch_size
        if batch_size != "auto" and (isinstance(batch_size, str) or batch_size is None):
            raise ValueError(f'batch_size must be an int or "auto", got {batch_size!r}')
        _check_flag(self.early_stopping, "early_stopping")
        _check_flag(self.verbose, "verbose")
        return _Options(
            hidden=hidden,
            ranks=self._checked_ranks(hidden),
            activation=_one_of(self.activation, ACTIVATIONS, "activation"),
            dtype=_checked_dtype(self.dtype),
            optimizer=self._checked_optimizer(),
            method=self._checked_method(),
            epochs=check_size(self.max_iter, "max_iter"),
            batch_size=None if batch_size == "auto" else check_size(batch_size, "batch_size"),
            validation_fraction=_checked_fraction(self.validation_fraction) if self.early_stopping else None,
            patience=check_size(self.n_iter_no_change, "n_iter_no_change") if self.early_stopping else None,
        )

    def _checked_ranks(self, hidden: tuple[int, ...]) -> int | tuple[int | None, ...]:
        """Ranks at the start, as mlp takes them."""
        if self.rank is None:
            bounds = [int(r) for r in _as_tuple(self.max_rank) if isinstance(r, (int, np.integer)) and r > 0]
            return min(_START_RANK, max(bounds, default=_START_RANK))
        if not isinstance(self.rank, (list, tuple, np.ndarray)):
            return check_size(self.rank, "rank")
        if len(self.rank) != len(hidden):
            raise ValueError(
                f"rank must be None, an int or one int for each of {len(hidden)} hidden layers, got "
                f"{len(self.rank)} values"
            )
        return tuple(check_size(r, f"rank[{i}]") for i, r in enumerate(self.rank))

    def _checked_optimizer(self) -> Optimizer:
        rate = self.learning_rate_init
        if (
            not callable(rate)
            and not 0 < check_number(rate, "learning_rate_init, if no schedule,") < math.inf
        ):
            raise ValueError(f"learning_rate_init must be positive and finite, got {rate}")
        alpha = check_number(self.alpha, "alpha")
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be at least 0 and finite (a weight decay), got {alpha}")
        return _SOLVERS[_one_of(self.solver, _SOLVERS, "solver")](self.learning_rate_init, weight_decay=alpha)

    def _checked_method(self) -> Any:
        """The integrator, with rtol and max_rank in it where it is given by name."""
        method: Any = self.method
        options = {"rtol": _plain(self.rtol), "max_rank": _plain(self.max_rank)}
        if method is None:
            return AugmentedBUG(**options)
        if isinstance(method, str):
            method = by_name(method)
            if isinstance(method, RankAdaptive):
                return dataclasses.replace(method, **options)
        if self.max_rank is not None:
            raise ValueError(
                f"max_rank={self.max_rank!r} has no effect with method={self.method!r}: only None and names of methods "
                "that adapt ranks take it; or give it to the integrator, e.g. AugmentedBUG(rtol=0.1, max_rank=50)"
            )
        return method if isinstance(method, dict) else by_name(method)

    # ---- training

    def _fit(self, X: np.ndarray, y: np.ndarray, outputs: int, loss: Loss, options: _Options) -> None:
        """Train a new network on data that are checked and cast."""
        random = check_random_state(self.random_state)
        rng = np.random.default_rng(random.randint(2**32, size=4, dtype=np.uint32))
        net = _network(options, X.shape[1], outputs, rng)
        validation = None
        if options.validation_fraction is not None:
            X, y, validation = _split(X, y, options.validation_fraction, loss.classifies, rng)
        history = train(
            net, X, y, loss=loss, optimizer=options.optimizer, method=options.method, epochs=options.epochs,
            batch_size=_batch(options.batch_size, len(X)), validation=validation, patience=options.patience, rng=rng,
            progress=bool(self.verbose),
        )  # fmt: skip
        self._keep(net, history)

    def _keep(self, net: Sequential, history: History) -> None:
        """Set the attributes that a training leaves."""
        if history.message.startswith("Interrupted"):
            if not len(history):
                raise KeyboardInterrupt(history.message)
            warnings.warn(
                f"{history.message} The estimator has the weights of then.", DlraWarning, stacklevel=4
            )
        self.net_ = net
        self.history_ = history
        self.ranks_ = net.ranks
        self.n_iter_ = len(history)
        self.loss_curve_ = list(history.loss)
        self.loss_ = history.loss[-1]

    # ---- evaluation

    def _outputs(self, X: Any) -> np.ndarray:
        """The outputs of the network in double precision, in which a row hardly feels the rows beside it."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self.net_.dtype, reset=False)
        net = self.net_.astype("float64")
        pieces = (X[i : i + _ROWS].astype(np.float64, copy=False) for i in range(0, len(X), _ROWS))
        return np.concatenate([net.predict(piece) for piece in pieces])


class LowRankMLPClassifier(ClassifierMixin, _LowRankMLP):
    """A classifier: a fully connected network on low-rank factors, trained by a rank-adaptive integrator.

    It minimises the cross entropy with :func:`train`. Inputs should be scaled, for example by ``StandardScaler`` in a
    pipeline. Sparse X is refused.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Width of each hidden layer. Their weights are low-rank; that of the last layer, which leads to the outputs, is
        dense. ``()`` is a linear model with a dense weight.
    rtol : float or sequence of float
        Truncation tolerance τ, 0 <= rtol < 1: each step drops at most this share of the Frobenius norm of each
        weight. The larger, the smaller the ranks and the cheaper the network. 0: ranks stay as they start, or grow
        to ``max_rank`` if that is given. A sequence has one value for each weight, the last included.
    rank : int, sequence of int or None
        Rank of the hidden weights at the start, or one for each. An int is cut to what a layer allows, min(in, out).
        None: min(in, out, 64), and not above ``max_rank``. The first weights are distributed as the best approximations
        of this rank of Gaussian ones (``start="truncated"`` of :class:`LowRankLinear`).
    max_rank : int, sequence or None
        Bound on the ranks; a sequence as for ``rtol``.
    activation : {"relu", "tanh", "sigmoid"}
    solver : {"adam", "momentum", "sgd"}
        Optimiser: :class:`Adam`, :class:`Momentum` (heavy ball, mu=0.9) or :class:`SGD`.
    learning_rate_init : float or callable
        Learning rate, or a schedule t -> float over the iterations (:mod:`dlra.nn.schedules`).
    alpha : float
        Weight decay: alpha W is added to the gradient of each weight W.
    batch_size : int or "auto"
        "auto": min(200, rows). More than there are rows: all rows, with a warning.
    max_iter : int
        Number of epochs. All are run, unless ``early_stopping`` ends the training.
    early_stopping : bool
        Set ``validation_fraction`` of the rows aside, stop when the loss on them has not fallen for
        ``n_iter_no_change`` epochs, and take the weights of the best epoch.
    validation_fraction : float
        Between 0 and 1.
    n_iter_no_change : int
        Used with ``early_stopping`` only.
    method : integrator, name, dict or None
        As in :func:`train`; None is ``AugmentedBUG(rtol=rtol, max_rank=max_rank)``. A name of a method that adapts
        ranks gets ``rtol`` and ``max_rank`` too; an integrator object, and each in a dict, has options of its own, and
        ``rtol`` is not used then.
    dtype : {"float32", "float64"}
        Precision of the training, to which X (and y, where it holds numbers) is cast. Predictions are evaluated in
        double precision.
    random_state : int, RandomState or None
        Source of the first weights, the batches and the validation rows; with an int, results are the same to the
        last bit.
    verbose : bool
        A progress bar on standard error. Needs rich.

    Attributes
    ----------
    classes_ : array
        Labels, sorted.
    net_ : Sequential
        The network.
    ranks_ : tuple of int
        Rank of each weight, the dense one of the last layer included: min(in, out).
    history_ : History
        Losses, ranks, parameters and seconds of each epoch.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Training loss of each epoch.
    loss_ : float
        The last of them.
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X has column names that are strings.

    Warns
    -----
    DlraWarning
        Ranks cannot grow (see :func:`train`); ``batch_size`` exceeds the number of rows; the training was interrupted.

    Examples
    --------
    >>> from dlra import nn
    >>> data = nn.datasets.digits()
    >>> model = nn.LowRankMLPClassifier(
    ...     (100,), rtol=0.1, learning_rate_init=5e-3, max_iter=20, random_state=0
    ... )
    >>> model.fit(data.x_train, data.y_train).score(data.x_test, data.y_test) > 0.93
    True
    """

    def fit(self, X: Any, y: Any) -> LowRankMLPClassifier:
        """Train a new network.

        Parameters
        ----------
        X : array-like, shape (rows, features)
        y : array-like, shape (rows,)
            Labels of any kind, two or more classes, or one.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            A parameter or the data do not fit.
        dlra.TrainingError
            The loss became NaN, for example because the inputs are not scaled.
        """
        options = self._options()
        X, y = validate_data(self, X, y, dtype=options.dtype)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._fit(X, labels.astype(np.int64), len(self.classes_), CrossEntropyLoss(), options)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, shape (rows, classes), float64, columns ordered as ``classes_``."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithms of :meth:`predict_proba`, which do not underflow."""
        z = self._outputs(X)
        z -= z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


class LowRankMLPRegressor(RegressorMixin, _LowRankMLP):
    """A regressor: a fully connected network on low-rank factors, trained by a rank-adaptive integrator.

    It minimises the mean squared error with :func:`train`. Nothing is scaled inside: scale X, for example by
    ``StandardScaler`` in a pipeline, and y, where it is far from mean 0 and variance 1, by
    ``TransformedTargetRegressor(regressor, transformer=StandardScaler())``. Sparse X is refused.

    Parameters and attributes are those of :class:`LowRankMLPClassifier`, without ``classes_``.

    Warns
    -----
    DlraWarning
        Ranks cannot grow (see :func:`train`); ``batch_size`` exceeds the number of rows; the training was interrupted.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import nn
    >>> x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    >>> y = np.sin(3 * x[:, 0]) + x[:, 1] ** 2
    >>> model = nn.LowRankMLPRegressor((50, 50), learning_rate_init=1e-2, batch_size=50, random_state=0)
    >>> model.fit(x, y).score(x, y) > 0.97
    True
    """

    def fit(self, X: Any, y: Any) -> LowRankMLPRegressor:
        """Train a new network.

        Parameters
        ----------
        X : array-like, shape (rows, features)
        y : array-like, shape (rows,) or (rows, outputs)

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            A parameter or the data do not fit.
        dlra.TrainingError
            The loss became NaN, for example because the inputs are not scaled.
        """
        options = self._options()
        X, y = validate_data(self, X, y, dtype=options.dtype, multi_output=True, y_numeric=True)
        y = check_array(y, dtype=options.dtype, ensure_2d=False, input_name="y")
        self._flat = y.ndim == 1
        self._fit(X, y, 1 if self._flat else y.shape[1], MSELoss(), options)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions, float64, shape (rows,) or (rows, outputs) as y had it."""
        z = self._outputs(X)
        return z[:, 0] if self._flat else z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


# ---- training


def _network(options: _Options, features: int, outputs: int, rng: np.random.Generator) -> Sequential:
    ranks = options.ranks
    if isinstance(ranks, tuple):
        sizes = zip((features, *options.hidden), options.hidden, ranks, strict=False)
        for i, (n, m, r) in enumerate(sizes):
            if r is not None and r > min(n, m):
                raise ValueError(
                    f"rank[{i}] must not exceed {min(n, m)}, the smaller side of the {m} x {n} weight of hidden layer "
                    f"{i}, got {r}"
                )
        ranks = (*ranks, None)
    return mlp(
        (features, *options.hidden, outputs),
        ranks,
        activation=options.activation,
        # a Gaussian core of full rank loses directions to rtol in the first step, and with few features for good
        start="truncated",
        dtype=options.dtype,
        rng=rng,
    )


def _split(
    X: np.ndarray, y: np.ndarray, fraction: float, stratify: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The rows to train on, and those for the validation."""
    try:
        rows, kept = train_test_split(
            np.arange(len(X)),
            test_size=fraction,
            random_state=int(rng.integers(2**32)),
            stratify=y if stratify else None,
        )
    except ValueError as error:
        raise ValueError(
            f"early_stopping=True cannot set validation_fraction={fraction} of {len(X)} rows aside: {error}"
        ) from error
    return X[rows], y[rows], (X[kept], y[kept])


def _batch(batch_size: int | None, rows: int) -> int:
    if batch_size is None:
        return min(_BATCH, rows)
    if batch_size > rows:
        warnings.warn(
            f"batch_size={batch_size} exceeds the {rows} rows there are to train on: each batch is all of them",
            DlraWarning,
            stacklevel=4,
        )
    return min(batch_size, rows)


# ---- checks of parameters


def _checked_sizes(given: Any) -> tuple[int, ...]:
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        return (check_size(given, "hidden_layer_sizes"),)
    if not isinstance(given, (list, tuple, np.ndarray)):
        raise TypeError(
            f"hidden_layer_sizes must be an int or a sequence of int, e.g. (100, 100), got {given!r} "
            f"({type(given).__name__})"
        )
    return tuple(check_size(n, f"hidden_layer_sizes[{i}]") for i, n in enumerate(given))


def _checked_fraction(value: Any) -> float:
    fraction = check_number(value, "validation_fraction")
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {fraction}")
    return fraction


def _checked_dtype(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if dtype is None or name not in DTYPES:
        raise ValueError(f'dtype must be "float32" or "float64", got {dtype!r}')
    return name


def _one_of(value: Any, known: Any, name: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return value


def _check_flag(value: Any, name: str) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple, np.ndarray)) else (value,)


def _plain(value: Any) -> Any:
    """An array as a tuple: options of integrators are values or sequences."""
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value
