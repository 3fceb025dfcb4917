"""Training in a subspace: the trajectory of a training, its principal directions, and quasi-Newton steps in them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dlra import linalg
from dlra._checks import check_callable, check_number
from dlra.backend import (
    Array,
    all_finite,
    dtype_name,
    eps,
    from_host,
    is_array,
    kind,
    namespace,
    norm,
    to_host,
)
from dlra.errors import TrainingError
from dlra.lowrank import LowRank
from dlra.nn._batches import is_finite
from dlra.nn._layer import check_input, check_size
from dlra.nn.history import Epoch, History
from dlra.nn.losses import Loss, accuracy
from dlra.nn.network import Sequential, pieces
from dlra.nn.trainer import checked_pair, evaluate

__all__ = ["Subspace", "Trajectory", "to_vector", "train_in_subspace", "with_vector"]

METHODS = ("BFGS", "L-BFGS-B")


def to_vector(net: Sequential) -> Array:
    """Return all parameters of a network as one vector: ``net.members`` flattened, one after the other.

    Parameters
    ----------
    net : Sequential
        With plain weights.

    Returns
    -------
    array, shape (parameters,)
        New memory in the dtype and library of the network.

    Raises
    ------
    TypeError
        A weight is a LowRank, whose parameters are no fixed set of numbers: its factors turn and its rank may change.

    Examples
    --------
    >>> from dlra import nn
    >>> net = nn.mlp((4, 3, 2), rng=0)
    >>> nn.to_vector(net).shape
    (23,)
    """
    _check_plain(net)
    return _joined(net.members)


def with_vector(net: Sequential, vector: Array) -> Sequential:
    """Return a copy of a network with other parameters; the inverse of :func:`to_vector`.

    Parameters
    ----------
    net : Sequential
        With plain weights; it is not changed.
    vector : array, shape (parameters,)
        In the dtype and library of the network.
    """
    _check_plain(net)
    check_input(vector, "vector", net._like)
    size = sum(math.prod(a.shape) for a in net.members)
    if tuple(vector.shape) != (size,):
        raise ValueError(f"vector must have one number for each of {size} parameters, got {kind(vector)}")
    return net.with_members(_separated(net, _joined((vector,))))


class Trajectory:
    """The parameters of a network on the way through a training, as vectors.

    Give it as ``callback`` to :func:`train`; for the start call :meth:`record` before. Several snapshots an epoch: an
    epoch is what ``train`` is given as one, so let x be a function that returns some of the batches at each call.

    Parameters
    ----------
    every : int
        Record every so many epochs.

    Attributes
    ----------
    snapshots : list of arrays, shape (parameters,)
        As of :func:`to_vector`.

    Examples
    --------
    >>> from dlra import nn
    >>> data = nn.datasets.digits()
    >>> net, trajectory = nn.mlp((64, 20, 10), rng=0), nn.Trajectory()
    >>> trajectory.record(net)
    >>> history = nn.train(
    ...     net,
    ...     data.x_train,
    ...     data.y_train,
    ...     loss=nn.CrossEntropyLoss(),
    ...     optimizer=nn.Adam(1e-3),
    ...     epochs=6,
    ...     batch_size=64,
    ...     callback=trajectory,
    ...     rng=0,
    ... )
    >>> len(trajectory)
    7
    """

    def __init__(self, every: int = 1):
        self.every = check_size(every, "every")
        self.snapshots: list[Array] = []

    def record(self, net: Sequential) -> None:
        """Add the parameters of a network.

        Raises
        ------
        TypeError, ValueError
            A weight is a LowRank; other parameters than those of earlier snapshots.
        """
        vector = to_vector(net)
        if self.snapshots:
            first = self.snapshots[0]
            check_input(vector, "a snapshot", first)
            if vector.shape != first.shape:
                raise ValueError(
                    f"the network has {vector.shape[0]} parameters, but earlier snapshots have {first.shape[0]}; take "
                    f"one Trajectory for each network"
                )
        self.snapshots.append(vector)

    def __call__(self, epoch: Epoch) -> None:
        if epoch.epoch % self.every == 0:
            self.record(epoch.net)

    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.snapshots)

    def __repr__(self) -> str:
        size = f" of {self.snapshots[0].shape[0]} parameters" if self.snapshots else ""
        return f"Trajectory({len(self)} snapshots{size})"


@dataclass(frozen=True, eq=False)
class Subspace:
    """An affine subspace of the parameters of a network: w = mean + basis c, with few coordinates c.

    Parameters
    ----------
    mean : array, shape (parameters,)
        A point of it.
    basis : array, shape (parameters, dimension)
        Orthonormal columns.
    explained : array, shape (dimension,), optional
        The share of the variance of snapshots along each direction.

    Raises
    ------
    TypeError, ValueError
        Shapes, dtypes or libraries that do not fit; a basis that is not orthonormal.

    Examples
    --------
    >>> import numpy as np
    >>> from dlra import nn
    >>> subspace = nn.Subspace.from_snapshots([np.full(100, t) for t in (0.0, 1.0, 4.0)], dimension=1)
    >>> subspace
    Subspace(dimension 1 of 100, 1 of the variance)
    >>> subspace.error(np.full(100, 9.0)) < 1e-15
    True
    """

    mean: Array
    basis: Array
    explained: Any = None

    def __post_init__(self) -> None:
        for name, a, axes in (("mean", self.mean, 1), ("basis", self.basis, 2)):
            if not is_array(a) or a.ndim != axes or dtype_name(a.dtype) not in ("float32", "float64"):
                raise TypeError(
                    f"{name} of a Subspace must be a float32 or float64 array with {axes} axes, got {kind(a)}"
                )
        namespace(self.mean, self.basis)
        if dtype_name(self.mean.dtype) != dtype_name(self.basis.dtype):
            raise TypeError(
                f"mean and basis need one dtype, got {dtype_name(self.mean.dtype)} and {dtype_name(self.basis.dtype)}; "
                f"cast one"
            )
        if self.basis.shape[0] != self.mean.shape[0] or self.basis.shape[1] < 1:
            raise ValueError(
                f"basis must have {self.mean.shape[0]} rows, as mean has entries, and at least one column, got "
                f"{kind(self.basis)}"
            )
        defect = float(np.max(np.abs(_gram(self.basis) - np.eye(self.dimension))))
        if not defect <= 1000 * eps(self.basis):
            raise ValueError(
                f"basis must have orthonormal columns, but the largest entry of |BᵀB - I| is {defect:.1e}; give "
                f"dlra.linalg.orthonormalize(basis)"
            )

    @classmethod
    def from_snapshots(
        cls, snapshots: Trajectory | Sequence[Array], dimension: int | None = None
    ) -> Subspace:
        """Return the principal subspace of snapshots: their mean and the leading directions of their differences to it.

        Parameters
        ----------
        snapshots : Trajectory or sequence of arrays, shape (parameters,)
            At least two.
        dimension : int, optional
            At most the number of snapshots less one. Default: all directions that are more than roundoff; then all
            snapshots lie in the subspace.

        Returns
        -------
        Subspace
            Of the affine subspaces of that dimension the one nearest to the snapshots, in the sum of squared distances.

        Raises
        ------
        ValueError
            The snapshots do not have so many directions.

        Notes
        -----
        The left singular vectors of the p x k matrix of the centred snapshots, by Householder QR and the singular value
        decomposition of its k x k factor. Subspaces of trainings by principal component analysis: T. Li, L. Tan,
        Z. Huang, Q. Tao, Y. Liu, X. Huang, Low dimensional trajectory hypothesis is true: DNNs can be trained in tiny
        subspaces, IEEE Trans. Pattern Anal. Mach. Intell. 45 (2023) 3411-3420, arXiv:2103.11154.
        """
        vectors = _checked_snapshots(snapshots)
        most = min(len(vectors) - 1, vectors[0].shape[0])
        dimension = None if dimension is None else check_size(dimension, "dimension")
        if dimension is not None and dimension > most:
            raise ValueError(
                f"{len(vectors)} snapshots of {vectors[0].shape[0]} parameters have at most {most} directions from "
                f"their mean, got dimension={dimension}; take a smaller one, or record more snapshots"
            )
        xp = namespace(vectors[0])
        A = xp.stack(vectors, axis=1)
        mean = xp.mean(A, axis=1)
        Q, R = linalg.qr(A - mean[:, None])
        U, s, _ = linalg.svd(R)
        sizes = to_host(s).astype(np.float64)
        found = int(np.count_nonzero(sizes[:most] > 10 * eps(A) * norm(A)))
        if not found:
            raise ValueError(
                "the snapshots differ from their mean by no more than roundoff: they have no direction; record them "
                "while the training moves"
            )
        if dimension is None:
            dimension = found
        if dimension > found:
            raise ValueError(
                f"the snapshots have only {found} directions from their mean that are more than roundoff, got "
                f"dimension={dimension}; take a smaller one"
            )
        sizes = sizes / sizes[0]
        explained = sizes[:dimension] ** 2 / np.sum(sizes**2)
        return cls(mean, Q @ U[:, :dimension], explained)

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return self.basis.shape[1]

    def coordinates(self, vector: Array) -> Array:
        """Return the coordinates of the point of the subspace nearest to a vector: basisᵀ (w - mean)."""
        self._check(vector)
        return self.basis.T @ (vector - self.mean)

    def vector(self, coordinates: Array) -> Array:
        """Return the point with these coordinates: mean + basis c."""
        check_input(coordinates, "coordinates", self.basis)
        if tuple(coordinates.shape) != (self.dimension,):
            raise ValueError(
                f"coordinates must be a vector of {self.dimension} numbers, got {kind(coordinates)}"
            )
        return self.mean + self.basis @ coordinates

    def project(self, vector: Array) -> Array:
        """Return the point of the subspace nearest to a vector, P w."""
        return self.vector(self.coordinates(vector))

    def error(self, vector: Array) -> float:
        """Return the normalised error ‖w - P w‖ / ‖w‖ of a vector of parameters."""
        distance, size = norm(vector - self.project(vector)), norm(vector)
        if not 0 < size < math.inf:
            raise ValueError(f"the normalised error needs a vector with 0 < ‖w‖ < ∞, got ‖w‖ = {size}")
        return distance / size

    def _check(self, vector: Any) -> None:
        check_input(vector, "vector", self.mean)
        if tuple(vector.shape) != tuple(self.mean.shape):
            raise ValueError(
                f"vector must have {self.mean.shape[0]} entries, as the subspace has parameters, got {kind(vector)}"
            )

    def __repr__(self) -> str:
        share = "" if self.explained is None else f", {float(np.sum(self.explained)):.4g} of the variance"
        return f"Subspace(dimension {self.dimension} of {self.mean.shape[0]}{share})"


def train_in_subspace(
    net: Sequential,
    x: Array,
    y: Array,
    *,
    loss: Loss,
    subspace: Subspace,
    method: str = "BFGS",
    max_iterations: int = 100,
    gtol: float = 1e-5,
    validation: tuple[Any, Any] | None = None,
    callback: Callable[[Epoch], Any] | None = None,
) -> History:
    """Minimise the loss of a network over a subspace of its parameters by a quasi-Newton method.

    The loss is that of all rows given, which go through the network in pieces of 1024; its gradient by the coordinates
    is basisᵀ ∇. For a quicker search give a fixed sample of the rows. The start is the projection of the parameters of
    the network; to start at these, take ``Subspace(nn.to_vector(net), subspace.basis)``. Ctrl-C ends the search and
    returns what has been done, with ``status`` 1.

    A step to a point where the loss or its gradient is NaN or infinite is not taken: the line search tries a shorter
    one. Where that ends the search before it has converged, ``status`` is -1, and the network is that of the last
    iteration.

    Parameters
    ----------
    net : Sequential
        With plain weights; it is not changed.
    x, y : arrays
        In the dtype and library of the network.
    loss : Loss
    subspace : Subspace
        In the dtype and library of the network.
    method : {"BFGS", "L-BFGS-B"}
        Of ``scipy.optimize.minimize``; the coordinates and the approximate Hessian are in double precision.
    max_iterations : int
    gtol : float
        Converged where no derivative by a coordinate is larger. "L-BFGS-B" also ends where an iteration lowers the loss
        by less than the unit roundoff of the network, relatively.
    validation : (x, y), optional
        Looked at after each iteration.
    callback : callable, optional
        Receives an :class:`Epoch` for the start and after each iteration; stops the search by returning True.

    Returns
    -------
    History
        A new network as ``.net``; one row for the start, epoch 0, and for each iteration: the loss (and accuracy) after
        it, on all rows given, a learning rate of NaN, the seconds of the iteration without validation. ``nfev`` counts
        evaluations of the loss with its gradient, ``message`` says why the search ended: with a float32 network that
        is often the "precision loss" of SciPy, which is no failure there, the differences of the loss being no more
        than roundoff before the gradient is below ``gtol``. The coordinates are
        ``subspace.coordinates(nn.to_vector(history.net))``.

    Raises
    ------
    ValueError, TypeError
        Before anything is computed, where arguments do not fit.
    TrainingError
        The loss or its gradient is NaN or infinite at the start.

    Notes
    -----
    T. Li et al., Low dimensional trajectory hypothesis is true: DNNs can be trained in tiny subspaces, IEEE Trans.
    Pattern Anal. Mach. Intell. 45 (2023) 3411-3420, arXiv:2103.11154 (there with an approximate Hessian updated on
    batches).

    Examples
    --------
    >>> from dlra import nn
    >>> data, loss = nn.datasets.digits(), nn.CrossEntropyLoss()
    >>> net, trajectory = nn.mlp((64, 20, 10), rng=0), nn.Trajectory()
    >>> options = dict(loss=loss, optimizer=nn.Adam(1e-3), epochs=6, batch_size=64, rng=0)
    >>> before = nn.train(net, data.x_train, data.y_train, callback=trajectory, **options)
    >>> subspace = nn.Subspace.from_snapshots(trajectory, dimension=4)
    >>> history = nn.train_in_subspace(net, data.x_train, data.y_train, loss=loss, subspace=subspace)
    >>> history.loss[-1] < before.loss[-1]
    True
    """
    _check_plain(net)
    if not isinstance(subspace, Subspace):
        raise TypeError(f"subspace must be a dlra.nn.Subspace, got {kind(subspace)}")
    start = to_vector(net)
    check_input(subspace.mean, "the mean of the subspace", net._like)
    if subspace.mean.shape != start.shape:
        raise ValueError(
            f"the subspace is one of {subspace.mean.shape[0]} parameters, but the network has {start.shape[0]}"
        )
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    max_iterations = check_size(max_iterations, "max_iterations")
    gtol = check_number(gtol, "gtol")
    if not 0 <= gtol < math.inf:
        raise ValueError(f"gtol must be finite and >= 0, got {gtol}")
    net.check_batch(x, y, loss)
    for name, a in (("x", x), ("y", y)):
        if not is_finite(a):
            raise ValueError(f"{name} contains NaN or infinite values; remove or replace these rows")
    validation = None if validation is None else checked_pair(net, validation, loss)
    check_callable(callback, "callback", "the epoch")
    return _Search(net, x, y, loss, subspace, validation, callback).run(method, max_iterations, gtol)


class _Point(NamedTuple):
    """The loss at some coordinates, its gradient by them, and the share of rows that are classified right."""

    value: float
    gradient: np.ndarray
    right: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value) and bool(np.isfinite(self.gradient).all())


class _Search:
    """The minimisation over the coordinates: the function that SciPy asks, and the rows of the history."""

    def __init__(
        self, net: Sequential, x: Array, y: Array, loss: Loss, subspace: Subspace,
        validation: tuple[Any, Any] | None, callback: Any,
    ):  # fmt: skip
        self.net, self.x, self.y, self.loss, self.subspace = net, x, y, loss, subspace
        self.validation, self.callback = validation, callback
        self.history = History(net.copy(), classifies=loss.classifies)
        self._points: dict[bytes, _Point] = {}
        self._reached = np.zeros(subspace.dimension)
        self._beyond = -1
        self._began = time.perf_counter()

    def run(self, method: str, max_iterations: int, gtol: float) -> History:
        from scipy.optimize import minimize

        history = self.history
        options: dict[str, Any] = {"maxiter": max_iterations, "gtol": gtol}
        if method == "L-BFGS-B":
            options["ftol"] = eps(self.subspace.mean)
        try:
            with np.errstate(all="ignore"):
                start = to_host(self.subspace.coordinates(to_vector(self.net))).astype(np.float64)
                if not self._at(start).is_finite:
                    raise self._failed_start(start)
            self._row(start)
            with np.errstate(over="ignore", invalid="ignore"):
                found = minimize(self, start, jac=True, method=method, callback=self._after, options=options)
            history.message = f"{method}: {found.message}"
            steep = bool(np.max(np.abs(self._at(self._reached).gradient)) > gtol)
            if steep and found.status != 1 and self._beyond >= len(history) - 1:  # 1: max_iterations are done
                raise _Beyond
        except _Beyond:
            history.status = -1
            history.message = (
                f"{method} finds no better point after iteration {len(history) - 1}: the loss or its gradient is "
                f"NaN or infinite on the way."
            )
        except _Stopped:
            history.status = 1
            history.message = f"The callback stopped the search after iteration {len(history) - 1}."
        except KeyboardInterrupt:
            history.status = 1
            place = f"after iteration {len(history) - 1}" if len(history) else "at the start"
            history.message = f"Interrupted by Ctrl-C {place}."
        history.steps = max(0, len(history) - 1)
        return history

    def __call__(self, c: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss on all rows at these coordinates, and its gradient by them.

        Where one is not finite, those of the parabola along the step from the point that the search has reached which
        starts with slope zero and rises by what the gradient there promises as descent: any line search rejects it.
        """
        point = self._at(c)
        if point.is_finite:
            return point.value, point.gradient
        self._beyond = len(self.history)
        reached = self._at(self._reached)
        step = c - self._reached
        size = float(np.linalg.norm(step))
        rise = abs(float(reached.gradient @ step)) + abs(reached.value) * eps(self.subspace.mean)
        if not (0 < size < math.inf and math.isfinite(rise)):
            raise _Beyond
        return reached.value + rise, 2 * rise / size * (step / size)

    def _at(self, c: np.ndarray) -> _Point:
        """The point at these coordinates, which is computed once."""
        key = c.tobytes()
        if key not in self._points:
            self._points[key] = self._evaluated(c)
        return self._points[key]

    def _evaluated(self, c: np.ndarray) -> _Point:
        members = _separated(self.net, self._vector(c))
        rows = self.x.shape[0]
        value, right, total = 0.0, 0, None
        for part in pieces(rows):
            xi, yi = self.x[part, ...], self.y[part, ...]
            share = xi.shape[0] / rows
            one, gradient, z = self.net._derivatives(members, xi, yi, self.loss, 1.0)
            value += share * one
            right += accuracy(z, yi) if self.loss.classifies else 0
            gradient = share * _joined(gradient)
            total = gradient if total is None else total + gradient
        self.history.nfev += 1
        gradient = to_host(self.subspace.basis.T @ total).astype(np.float64)
        return _Point(value, gradient, right / rows if self.loss.classifies else math.nan)

    def _vector(self, c: np.ndarray) -> Array:
        like = self.subspace.mean
        return self.subspace.vector(from_host(c.astype(dtype_name(like.dtype)), like))

    def _after(self, intermediate_result: Any) -> None:  # SciPy asks for this name
        self._row(np.array(intermediate_result.x))

    def _row(self, c: np.ndarray) -> None:
        """Add a row to the history."""
        history, point = self.history, self._at(c)
        if not point.is_finite:
            raise _Beyond
        net = with_vector(self.net, self._vector(c))
        seconds = time.perf_counter() - self._began
        check_loss = check_accuracy = math.nan
        if self.validation is not None:
            check_loss, check_accuracy = evaluate(net, *self.validation, self.loss)
        row = Epoch(
            len(history), point.value, point.right, check_loss, check_accuracy, net.ranks, net.parameter_count(),
            math.nan, seconds, net,
        )  # fmt: skip
        history.net = net
        history.append(row)
        self._reached, self._points = c, {c.tobytes(): point}
        stop = False if self.callback is None else self.callback(row)
        self._began = time.perf_counter()
        if isinstance(stop, (bool, np.bool_)) and stop:
            raise _Stopped

    def _failed_start(self, c: np.ndarray) -> TrainingError:
        history, w = self.history, self._vector(c)
        history.status = -1
        if not all_finite(w):
            where = "the parameters of the network or the subspace"
        else:
            with np.errstate(all="ignore"):
                where = self.net.with_members(_separated(self.net, w))._not_finite(self.x, self.y, self.loss)
        history.message = f"The loss or its gradient is not finite at the start, first in {where}."
        return TrainingError(
            f"training in the subspace failed at the start, the projection of the network: the loss or its gradient is "
            f"NaN or infinite, first in {where}; scale the data, or take a float64 network",
            history,
        )


class _Stopped(Exception):
    """The callback of the user stopped the search."""


class _Beyond(Exception):
    """The search has nowhere to go but to points where the loss or its gradient is not finite."""


def _check_plain(net: Any) -> None:
    """Raise the error that says why the parameters of net are no vector, if they are none."""
    if not isinstance(net, Sequential):
        raise TypeError(f"net must be a dlra.nn.Sequential, got {kind(net)}")
    for i, member in enumerate(net.members):
        if isinstance(member, LowRank):
            raise TypeError(
                f"weight {i} of the network is low-rank (rank {member.rank}): its factors are no fixed set of numbers. "
                f"Take net.split(), in which each such layer is two plain ones, or net.to_dense()"
            )


def _checked_snapshots(snapshots: Any) -> list[Array]:
    """The snapshots as a list of vectors of one length, dtype and library."""
    if isinstance(snapshots, (Trajectory, list, tuple)):
        vectors = list(snapshots)
    else:
        raise TypeError(f"snapshots must be a Trajectory or a sequence of vectors, got {kind(snapshots)}")
    if len(vectors) < 2:
        raise ValueError(f"at least two snapshots are needed, got {len(vectors)}")
    for i, w in enumerate(vectors):
        if not is_array(w) or w.ndim != 1 or dtype_name(w.dtype) not in ("float32", "float64"):
            raise TypeError(f"snapshot {i} must be a float32 or float64 vector, got {kind(w)}")
        check_input(w, f"snapshot {i}", vectors[0])
        if w.shape != vectors[0].shape:
            raise ValueError(
                f"snapshot {i} has {w.shape[0]} entries, but the first has {vectors[0].shape[0]}"
            )
        if not all_finite(w):
            raise ValueError(f"snapshot {i} contains NaN or infinite values")
    return vectors


def _joined(members: Sequence[Array]) -> Array:
    """Arrays flattened, one after the other, in new memory."""
    xp = namespace(members[0])
    return xp.concat([xp.reshape(a, (-1,)) for a in members])


def _separated(net: Sequential, vector: Array) -> tuple[Array, ...]:
    """A vector cut into arrays with the shapes of the members of a network."""
    members, first = [], 0
    for a in net.members:
        end = first + math.prod(a.shape)
        members.append(namespace(vector).reshape(vector[first:end], tuple(a.shape)))
        first = end
    return tuple(members)


def _gram(B: Array) -> np.ndarray:
    """BᵀB in double precision, in single precision with sums of a few thousand rows only."""
    xp, (rows, columns), height = namespace(B), B.shape, 4096
    whole = rows // height * height
    blocks = xp.reshape(B[:whole, :], (whole // height, height, columns))
    parts = to_host(xp.matmul(xp.permute_dims(blocks, (0, 2, 1)), blocks)).astype(np.float64)
    rest = to_host(B[whole:, :].T @ B[whole:, :]).astype(np.float64)
    return np.sum(parts, axis=0) + rest
