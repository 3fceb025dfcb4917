"""Losses: a mean over the batch, and its derivative by the outputs of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from dlra.backend import Array, dtype_name, from_host, is_array, kind, library, namespace, to_host
from dlra.nn._layer import check_plain

__all__ = ["CrossEntropyLoss", "Loss", "MSELoss"]


class Loss(ABC):
    """A loss; called with (outputs, targets) it is a number, the mean over the batch."""

    classifies = False
    """Whether targets are class labels, so that an accuracy makes sense."""

    def __call__(self, z: Array, y: Array) -> float:
        return self.with_derivative(z, y)[0]

    @abstractmethod
    def with_derivative(self, z: Array, y: Array) -> tuple[float, Array]:
        """Return the loss and its derivative by z, an array like z."""

    @abstractmethod
    def check_targets(self, y: Any, shape: tuple[int, ...], like: Array, name: str = "y") -> None:
        """Raise the error that says why y is not a batch of targets for outputs of this shape, if it is not.

        Parameters
        ----------
        y : array
        shape : tuple
            Shape of the outputs, without the batch axis.
        like : array
            A parameter of the network.
        name : str
            What the error calls y.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class CrossEntropyLoss(Loss):
    """Cross entropy of softmax(z) and class labels: mean of log Σ_k exp z_k - z_y.

    ``z`` are the outputs of the network before any softmax, shape (batch, classes); ``y`` labels 0 ... classes - 1 of
    an integer dtype, shape (batch,).
    """

    classifies = True

    def with_derivative(self, z: Array, y: Array) -> tuple[float, Array]:
        xp = namespace(z)
        z = z - xp.max(z, axis=1, keepdims=True)
        p = xp.exp(z)
        total = xp.sum(p, axis=1, keepdims=True)
        hot = _one_hot(y, z)
        losses = xp.log(total[:, 0]) - xp.sum(z * hot, axis=1)
        batch = z.shape[0]
        return float(xp.mean(losses)), (p / total - hot) / batch

    def check_targets(self, y: Any, shape: tuple[int, ...], like: Array, name: str = "y") -> None:
        if len(shape) != 1:
            raise ValueError(
                f"CrossEntropyLoss needs a network with outputs (batch, classes), this one has {shape}"
            )
        if not is_array(y) or not dtype_name(y.dtype).startswith(("int", "uint")):
            raise TypeError(
                f"{name} must be an array of class labels, integers 0 ... {shape[0] - 1}, got {kind(y)}; cast it with "
                f"astype('int64') if it holds labels, or take MSELoss for numbers"
            )
        check_plain(y, name)
        if type(y) is not np.ndarray and dtype_name(y.dtype) in ("uint16", "uint32", "uint64"):
            raise TypeError(
                f"{name} has dtype {dtype_name(y.dtype)}, which {library(y)} hardly supports; cast it to int64"
            )
        if y.ndim != 1:
            raise ValueError(f"{name} must be a vector of labels, shape (batch,), got {kind(y)}")
        _check_library(y, like, name)
        xp = namespace(y)
        if y.shape[0] and not (int(xp.min(y)) >= 0 and int(xp.max(y)) < shape[0]):
            raise ValueError(
                f"{name} holds labels from {int(xp.min(y))} to {int(xp.max(y))}, but the network has {shape[0]} "
                "outputs: "
                f"labels must lie in 0 ... {shape[0] - 1}"
            )


class MSELoss(Loss):
    """Mean squared error: the mean of (z - y)² over the batch and all outputs.

    ``y`` has the shape and dtype of the outputs ``z``; a vector serves for a network with one output.
    """

    def with_derivative(self, z: Array, y: Array) -> tuple[float, Array]:
        xp = namespace(z)
        difference = z - xp.reshape(y, z.shape)
        count = 1
        for length in z.shape:
            count *= length
        return float(xp.mean(difference * difference)), difference * (2.0 / count)

    def check_targets(self, y: Any, shape: tuple[int, ...], like: Array, name: str = "y") -> None:
        if not is_array(y):
            raise TypeError(f"{name} must be an array of targets, got {kind(y)}")
        check_plain(y, name)
        if tuple(y.shape[1:]) != shape and not (shape == (1,) and y.ndim == 1):
            raise ValueError(
                f"{name} must have the shape of the outputs of the network, (batch, {', '.join(map(str, shape))}), got "
                f"{tuple(y.shape)}"
            )
        if dtype_name(y.dtype) != dtype_name(like.dtype):
            raise TypeError(
                f"{name} must have the dtype of the network, {dtype_name(like.dtype)}, got {dtype_name(y.dtype)}; "
                "cast it "
                f"with astype"
            )
        _check_library(y, like, name)


def _one_hot(y: Array, z: Array) -> Array:
    """Rows of the identity, in the dtype of z."""
    if type(z) is np.ndarray:
        hot = np.zeros_like(z)
        hot[np.arange(len(y)), y] = 1
        return hot
    xp = namespace(z)
    classes = from_host(np.arange(z.shape[1]), z)
    return xp.astype(xp.astype(y, classes.dtype)[:, None] == classes[None, :], z.dtype)


def _check_library(y: Array, like: Array, name: str) -> None:
    if library(y) != library(like):
        raise TypeError(
            f"{name} must be an array of {library(like)}, as the network is, got {kind(y)} of {library(y)}"
        )


def accuracy(z: Array, y: Array) -> int:
    """Number of rows of z whose largest entry is at the label."""
    xp = namespace(z)
    return int(xp.count_nonzero(xp.argmax(z, axis=1) == y))


def r_squared(z: Array, y: Array) -> float:
    """1 - Σ (z - y)² / Σ (y - mean y)², averaged over the outputs as scikit-learn does."""
    z, y = (to_host(a).reshape(a.shape[0], -1).astype(float) for a in (z, y))
    residual, total = ((z - y) ** 2).sum(axis=0), ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    constant = total == 0
    scores = 1.0 - residual / np.where(constant, 1.0, total)
    return float(np.mean(np.where(constant, np.where(residual == 0, 1.0, 0.0), scores)))
