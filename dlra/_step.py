"""One step of an integrator, with every failure labelled."""

from __future__ import annotations

from typing import Any

from dlra._checks import orthonormal, rank_of
from dlra.backend import all_finite
from dlra.errors import SolveError, StageError
from dlra.field import CallError, Field, operands_hint
from dlra.integrators import Ask, Integrator, StepResult, drive
from dlra.lowrank import LowRank
from dlra.solution import compact

REMEDY = (
    "If the step is too large for an explicit substep, reduce dt, or declare the stiff linear part with "
    'dlra.SemiLinear(A, B, G) and use substep="exponential"'
)


def advance(
    integrator: Integrator, field: Field, t: float, h: float, Ys: tuple[Any, ...], *, first: bool
) -> StepResult:
    """Do one step; whatever goes wrong becomes a StageError, except complaints about F's first return value."""
    stage, complaint = "start", None

    def evaluate(ask: Ask) -> Any:
        nonlocal stage, complaint
        stage = ask.stage
        try:
            return field(ask.t, ask.Ys)
        except CallError as error:
            cause = error.__cause__
            assert cause is not None
            reason = f"F raised {type(cause).__name__}: {cause}{operands_hint(cause)}"
            raise StageError(ask.t, ask.stage, reason) from cause
        except (TypeError, ValueError) as error:
            if first and field.nfev == 1:
                complaint = error
                raise
            raise StageError(ask.t, ask.stage, str(error)) from error

    try:
        result = drive(integrator.step(t, h, Ys, field), evaluate)
    except StageError:
        raise
    except Exception as error:
        if error is complaint:
            raise
        raise StageError(t, stage, f"{type(error).__name__}: {error}") from error
    if not all(all_finite(Y.S if isinstance(Y, LowRank) else Y) for Y in result.Ys):
        raise StageError(t + h, "end of step", "the result is not finite")
    Ys = tuple(compact(orthonormal(Y) if isinstance(Y, LowRank) else Y) for Y in result.Ys)
    return StepResult(Ys, result.discarded, result.normal)


def solve_error(error: StageError, where: str) -> SolveError:
    """Return the SolveError for a failed stage; ``where`` says in which step. Raise it from ``error.__cause__``."""
    text = f"{where}, {error}"
    return SolveError(f"{text}. {REMEDY}" if error.__cause__ is None else text)


def rank_text(Ys: tuple[Any, ...], system: bool) -> str:
    """The rank of a state, for messages."""
    return f"rank {rank_of(Ys, system)}"
