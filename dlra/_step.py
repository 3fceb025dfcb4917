"""One step of an integrator, with every failure labelled."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from dlra._checks import orthonormal, rank_of
from dlra.backend import all_finite, eps, gaussian, norm, numbers
from dlra.control import normal_estimate
from dlra.errors import DlraWarning, SolveError, StageError
from dlra.field import CallError, Field, members_hint, operands_hint
from dlra.integrators import Ask, Integrator, StepResult, drive, one_sided
from dlra.integrators._base import where_not_finite
from dlra.integrators._equations import cores_of
from dlra.kernels.threads import one_thread
from dlra.lowrank import LowRank
from dlra.solution import compact

REMEDY = (
    "If the step is too large for an explicit substep, reduce dt, or declare the stiff linear part with "
    'dlra.SemiLinear(A, B, G) and use substep="exponential"'
)

SMALL = 1000
"""Rows and columns up to which a step, F included, runs on one BLAS thread (docs/measured-thresholds.md)."""


def evaluate(field: Field, ask: Ask, *, first: bool = False) -> tuple[Any, ...]:
    """F at the point asked for; what F raises becomes a StageError.

    ``first``: nothing has been computed yet, so that complaints about what F returns are those of bad input.
    """
    try:
        values = field(ask.t, ask.Ys, ask.t1)
    except CallError as error:
        cause = error.__cause__
        assert cause is not None
        stacked = isinstance(ask.Ys[0], LowRank) and ask.Ys[0].ndim == 3
        hint = operands_hint(cause) or (members_hint(cause) if stacked else "")
        reason = f"F raised {type(cause).__name__}: {cause}{hint}"
        raise StageError(ask.t, ask.stage, reason) from cause
    except (TypeError, ValueError) as error:
        if first and field.nfev == 1:
            raise InputError(error) from error
        raise StageError(ask.t, ask.stage, str(error)) from error
    if first and field.nfev == 1:
        check_symmetry(ask.Ys, values)
    return values


def first_value(field: Field, ask: Ask, step: int) -> tuple[Any, ...]:
    """F at the start of a step; complaints about the very first value of a run stay what they are."""
    try:
        return evaluate(field, ask, first=step == 0)
    except InputError as error:
        raise error.args[0] from error.args[0].__cause__


class InputError(Exception):
    """Carries the complaint about F's very first return value through the code that labels failures. Internal."""


def advance(
    integrator: Integrator,
    field: Field,
    t: float,
    h: float,
    Ys: tuple[Any, ...],
    *,
    first: bool,
    probe: bool = False,
    start: tuple[Any, ...] | None = None,
    deferred: bool = False,
) -> StepResult:
    """Do one step; whatever goes wrong becomes a StageError, except complaints about F's first return value.

    ``probe``: warn where F(t, Ys) is mostly invisible to the method. ``start``: F(t, Ys), where it is known.
    ``deferred``: nothing is tested for NaN, and the norms of the result may be 0-d arrays.
    """
    stage = "start"

    def answer(ask: Ask) -> Any:
        nonlocal stage
        stage = ask.stage
        if start is not None and stage == "start":
            return start
        values = evaluate(field, ask, first=first)
        if probe and field.nfev == 1:
            warn_of_blindness(integrator, Ys, values)
        return values

    field.deferred = deferred
    try:
        with few_threads(Ys):
            result = drive(integrator.step(t, h, Ys, field), answer)
    except InputError as error:
        raise error.args[0] from error.args[0].__cause__
    except (StageError, DlraWarning):  # a warning that was made an error stays what it is
        raise
    except Exception as error:
        raise StageError(t, stage, f"{type(error).__name__}: {error}") from error
    finally:
        field.deferred = False
    Ys = tuple(compact(orthonormal(Y) if isinstance(Y, LowRank) else Y) for Y in result.Ys)
    if deferred:
        return replace(result, Ys=Ys)
    if not all(map(all_finite, cores_of(result.Ys))):
        raise StageError(t + h, "end of step", f"the result is not finite{where_not_finite(result.Ys)}")
    return StepResult(Ys, *numbers((result.discarded, result.normal, result.error)))


def few_threads(Ys: tuple[Any, ...]) -> AbstractContextManager[None]:
    """The threads of BLAS that suit a state: one for matrices whose products gain nothing from more."""
    first = Ys[0]
    if type(first._U if isinstance(first, LowRank) else first) is not np.ndarray:
        return nullcontext()
    return one_thread(max(max(Y.shape[-2:], default=0) for Y in Ys) <= SMALL)


def check_symmetry(Ys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
    """Raise a ValueError where a field that is declared symmetric has a value that is not Hermitian."""
    for Y, value in zip(Ys, values, strict=True):
        if not one_sided(Y):
            continue
        omega = gaussian(Y._U, 1, (0,))
        image = value @ omega
        asymmetry = norm(image - value.H @ omega)
        if asymmetry > 1e4 * eps(omega) * norm(image):
            raise InputError(
                ValueError(
                    f"the field is declared symmetric, but F(t, Y) of a Hermitian Y is not: F and its adjoint differ "
                    f"by about {asymmetry / norm(image):.1e}; drop symmetric=True, or mend F"
                )
            )


def warn_of_blindness(integrator: Integrator, Ys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
    """Warn where most of F(t0, Y0) is normal to the tangent space at Y0, and so invisible to the method.

    The share ‖(I - UUᴴ) F (I - VVᴴ)‖ / ‖F‖ is estimated with one random vector.
    """
    if not integrator.moves_bases:
        return
    for i, (Y, value) in enumerate(zip(Ys, values, strict=True)):
        if not isinstance(Y, LowRank):
            continue
        whole = norm(value @ gaussian(Y._V, 1, (0,)))
        normal, _ = normal_estimate(Y, value, (0,), 1)
        if whole > 0 and normal > 0.7 * whole:
            which = f"Y0[{i}]" if len(Ys) > 1 else "Y0"
            warnings.warn(
                f"about {min(1.0, normal / whole):.0%} of F(t0, Y0) is normal to the tangent space at {which} "
                f"(rank {Y.rank}) and invisible to the first step; start from more directions, e.g. from {which} + "
                f"1e-10 * (the source in F), or from a higher rank",
                DlraWarning,
                stacklevel=2,
            )


def solve_error(error: StageError, where: str) -> SolveError:
    """Return the SolveError for a failed stage; ``where`` says in which step. Raise it from ``error.__cause__``."""
    text = f"{where}, {error}"
    unstable = any(word in error.reason for word in ("NaN", "not finite", "blows up"))
    return SolveError(f"{text}. {REMEDY}" if unstable and error.__cause__ is None else text)


def rank_text(Ys: tuple[Any, ...], system: bool) -> str:
    """The rank of a state, for messages."""
    return f"rank {rank_of(Ys, system)}"
