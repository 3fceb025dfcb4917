"""Galerkin: fixed bases, only the core moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlra.integrators._base import Members, WithSubstep, advanced, with_cores
from dlra.integrators._equations import s_equation
from dlra.integrators._protocol import StepResult, Steps


@dataclass(frozen=True, repr=False)
class Galerkin(WithSubstep):
    """The Galerkin method in fixed bases: S' = Uᴴ F(t, U S Vᴴ) V.

    Parameters
    ----------
    substep : str or object
        Stepper of the S-equation: "auto", "euler", "heun", "rk4", "adaptive", "exponential",
        "exponential-euler", "implicit".

    Notes
    -----
    Solves the problem projected onto span U ⊗ span V, to the order of the substep; whatever leaves these
    spans is lost. The second phase of low-rank training ("S-fine-tuning"), and a baseline that shows what
    moving bases are worth.
    """

    name: ClassVar[str] = "galerkin"
    order: ClassVar[int] = 1
    moves_bases: ClassVar[bool] = False
    takes_increments: ClassVar[bool] = True
    keeps_symmetry: ClassVar[bool] = True
    takes_stacks: ClassVar[bool] = True

    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        s = s_equation(Ys, field)
        dS = yield from self._substep(t, h, s)
        return StepResult(with_cores(Ys, advanced(s.X, dS)))
