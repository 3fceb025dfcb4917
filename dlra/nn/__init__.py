"""Networks whose weight matrices stay on low-rank factors, trained by the integrators of the package.

Gradients are written by hand. The gradient of a fully connected layer is δᵀx, a low-rank matrix, so that a network is a
coupled vector field like any other; :func:`train` drives an integrator with it, :func:`gradient_flow` gives it to
:func:`dlra.solve`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlra.nn import datasets, schedules
    from dlra.nn._storage import load
    from dlra.nn.composed import (
        ComposedConv2d,
        ComposedLinear,
        SVDConv2d,
        SVDLinear,
        to_composed,
        to_svd,
    )
    from dlra.nn.convolution import AvgPool2d, Conv2d, LowRankConv2d, MaxPool2d
    from dlra.nn.estimators import LowRankMLPClassifier, LowRankMLPRegressor
    from dlra.nn.history import Epoch, History
    from dlra.nn.layers import Flatten, Linear, LowRankLinear, ReLU, Sigmoid, Tanh
    from dlra.nn.losses import CrossEntropyLoss, MSELoss
    from dlra.nn.models import fcn, lenet5, lenet_300_100, mlp
    from dlra.nn.network import Gradient, Sequential, gradient_flow
    from dlra.nn.optimizers import SGD, Adam, Momentum
    from dlra.nn.pruning import to_lowrank
    from dlra.nn.ranks import ParameterBudget, TiedTolerance
    from dlra.nn.regularizers import Regularizer
    from dlra.nn.subspace import Subspace, Trajectory, to_vector, train_in_subspace, with_vector
    from dlra.nn.trainer import evaluate, train

_HOME = {
    "_storage": ("load",),
    "composed": ("ComposedConv2d", "ComposedLinear", "SVDConv2d", "SVDLinear", "to_composed", "to_svd"),
    "convolution": ("AvgPool2d", "Conv2d", "LowRankConv2d", "MaxPool2d"),
    "estimators": ("LowRankMLPClassifier", "LowRankMLPRegressor"),
    "history": ("Epoch", "History"),
    "layers": ("Flatten", "Linear", "LowRankLinear", "ReLU", "Sigmoid", "Tanh"),
    "losses": ("CrossEntropyLoss", "MSELoss"),
    "models": ("fcn", "lenet5", "lenet_300_100", "mlp"),
    "network": ("Gradient", "Sequential", "gradient_flow"),
    "optimizers": ("SGD", "Adam", "Momentum"),
    "pruning": ("to_lowrank",),
    "ranks": ("ParameterBudget", "TiedTolerance"),
    "regularizers": ("Regularizer",),
    "subspace": ("Subspace", "Trajectory", "to_vector", "train_in_subspace", "with_vector"),
    "trainer": ("evaluate", "train"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("datasets", "schedules")

__all__ = [
    "Adam",
    "AvgPool2d",
    "ComposedConv2d",
    "ComposedLinear",
    "Conv2d",
    "CrossEntropyLoss",
    "Epoch",
    "Flatten",
    "Gradient",
    "History",
    "Linear",
    "LowRankConv2d",
    "LowRankLinear",
    "LowRankMLPClassifier",
    "LowRankMLPRegressor",
    "MSELoss",
    "MaxPool2d",
    "Momentum",
    "ParameterBudget",
    "ReLU",
    "Regularizer",
    "SGD",
    "SVDConv2d",
    "SVDLinear",
    "Sequential",
    "Sigmoid",
    "Subspace",
    "Tanh",
    "TiedTolerance",
    "Trajectory",
    "datasets",
    "evaluate",
    "fcn",
    "gradient_flow",
    "lenet5",
    "lenet_300_100",
    "load",
    "mlp",
    "schedules",
    "to_composed",
    "to_lowrank",
    "to_svd",
    "to_vector",
    "train",
    "train_in_subspace",
    "with_vector",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"dlra.nn.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dlra.nn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dlra.nn.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
