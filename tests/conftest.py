"""Fixtures of all tests: the array libraries, and hypothesis' settings."""

from __future__ import annotations

import os

import numpy as np
import pytest
from helpers import DTYPES, LIBRARIES, Library, get_library
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def _usable(name: str):
    """Yield the library of that name; JAX computes in double precision meanwhile."""
    library = get_library(name)
    if name != "jax":
        yield library
        return
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield library
    jax.config.update("jax_enable_x64", before)


def _parameters(names):
    return [pytest.param(name, marks=pytest.mark.gpu if name == "cupy" else ()) for name in names]


@pytest.fixture(scope="module", params=_parameters(LIBRARIES))
def library(request) -> Library:
    """Every array library: NumPy, array-api-strict on both of its devices, PyTorch, JAX, CuPy."""
    yield from _usable(request.param)


@pytest.fixture(scope="module", params=_parameters(name for name in LIBRARIES if name != "numpy"))
def foreign(request) -> Library:
    """Every array library but NumPy."""
    yield from _usable(request.param)


@pytest.fixture(scope="module", params=_parameters(name for name in LIBRARIES if name != "jax"))
def eager_library(request) -> Library:
    """Every array library but JAX, which compiles each operation once for every shape and dtype."""
    yield from _usable(request.param)


def _typed_parameters(names):
    """Every library with every dtype; JAX with one that is single and complex."""
    for name in names:
        for dtype in ("complex64",) if name == "jax" else DTYPES:
            yield pytest.param(
                (name, dtype), id=f"{name}-{dtype}", marks=pytest.mark.gpu if name == "cupy" else ()
            )


@pytest.fixture(scope="module", params=_typed_parameters(LIBRARIES))
def typed_library(request):
    """A pair (library, dtype name)."""
    name, dtype = request.param
    for library in _usable(name):
        yield library, dtype


@pytest.fixture(scope="module", params=_typed_parameters(name for name in LIBRARIES if name != "jax"))
def typed_eager_library(request):
    """A pair (library, dtype name), without JAX."""
    name, dtype = request.param
    for library in _usable(name):
        yield library, dtype


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)
