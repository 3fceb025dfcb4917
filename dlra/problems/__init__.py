"""Named matrix differential equations: field on factors, initial value, observables, reference solution.

``dlra.problems.landau_damping(nx=64, nv=256)`` and the like return a :class:`Problem`. All factories take the
keyword-only arguments ``backend`` ("numpy", "cupy", "torch", "jax", or an array API namespace), ``dtype`` and
``device``. By name, as on the command line: ``dlra.problems.get("landau-damping", nx=32)``; :func:`names`
lists them.

Examples
--------
>>> from dlra import problems
>>> problem = problems.heat_lyapunov(n=64)
>>> Y0 = problem.Y0(rank=8)
>>> problem.F(0.0, Y0).shape
(64, 64)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlra.problems._allen_cahn import allen_cahn
from dlra.problems._burgers import burgers_uncertain
from dlra.problems._heat_lyapunov import heat_lyapunov
from dlra.problems._lattice_nls import lattice_nls
from dlra.problems._plane_source import plane_source
from dlra.problems._problem import Problem
from dlra.problems._riccati import riccati
from dlra.problems._rotation import rotation
from dlra.problems._schroedinger import schroedinger
from dlra.problems._steel import steel_lyapunov
from dlra.problems._steel_riccati import steel_riccati
from dlra.problems._vlasov_poisson import DampingFit, landau_damping, landau_rate, two_stream

__all__ = [
    "DampingFit",
    "Problem",
    "allen_cahn",
    "burgers_uncertain",
    "get",
    "heat_lyapunov",
    "landau_damping",
    "landau_rate",
    "lattice_nls",
    "names",
    "plane_source",
    "riccati",
    "rotation",
    "schroedinger",
    "steel_lyapunov",
    "steel_riccati",
    "two_stream",
]

_FACTORIES: dict[str, Callable[..., Problem]] = {
    "allen-cahn": allen_cahn,
    "burgers-uncertain": burgers_uncertain,
    "heat-lyapunov": heat_lyapunov,
    "landau-damping": landau_damping,
    "lattice-nls": lattice_nls,
    "plane-source": plane_source,
    "riccati": riccati,
    "rotation": rotation,
    "schroedinger": schroedinger,
    "steel-lyapunov": steel_lyapunov,
    "steel-riccati": steel_riccati,
    "two-stream": two_stream,
}


def names() -> tuple[str, ...]:
    """Return the names of all problems, with hyphens."""
    return tuple(_FACTORIES)


def get(name: str, **options: Any) -> Problem:
    """Make a problem by its name, with hyphens or underscores.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **options
        For the factory of that name.

    Raises
    ------
    ValueError
        An unknown name, or an option that the factory does not have.
    """
    import difflib
    import inspect

    factory = _FACTORIES.get(name.replace("_", "-").lower()) if isinstance(name, str) else None
    if factory is None:
        close = difflib.get_close_matches(str(name), _FACTORIES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown problem {name!r}: {hint}the problems are {', '.join(_FACTORIES)}")
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"problem {name!r} has no option {option!r}; it has {', '.join(known)}")
    return factory(**options)
