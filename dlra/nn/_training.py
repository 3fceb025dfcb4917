"""One step of a training: an integrator whose substep is an optimiser, asked about one batch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dlra._step import advance
from dlra.backend import Array, H, norm
from dlra.field import Value
from dlra.integrators import BUG, AugmentedBUG, Galerkin, Integrator, ParallelBUG, StepResult
from dlra.integrators._base import RankAdaptive, WithSubstep
from dlra.integrators._equations import Equation, cores_of
from dlra.integrators._protocol import Steps
from dlra.lowrank import LowRank
from dlra.nn._gradient import Penalised
from dlra.nn.losses import Loss
from dlra.nn.network import Sequential
from dlra.nn.optimizers import Memory, Optimizer

Members = tuple[Any, ...]
State = dict[str, list[Memory]]
"""What an optimiser remembers: per kind of unknown ("K", "L", "S") one Memory for each of them."""

WITH_MEMORY: tuple[type[Integrator], ...] = (AugmentedBUG, ParallelBUG, BUG, Galerkin)
"""Integrators in which an optimiser that remembers earlier gradients can take the place of the substep."""


_LARGE = 1 << 16
"""Number of entries of a dense member from which memory is used again rather than allocated anew."""


class Batch:
    """A batch as the field of a step: it answers every question of the step with the gradient on the same data."""

    increments = False
    constant_rest = False
    linear: tuple[Any, ...] = ()

    def __init__(
        self,
        net: Sequential,
        loss: Loss,
        weight_decay: float,
        rng: np.random.Generator,
        regularizer: Any = None,
    ):
        self.net, self._loss, self.rng = net, loss, rng
        self.symmetric = (False,) * len(net.members)
        self._decay, self._weights = weight_decay, len(net.matrices)
        self._regularizer = regularizer
        self.nfev = 0
        self.load(None, None)

    def load(self, x: Any, y: Any) -> None:
        """Take the next batch."""
        self.x, self.y = x, y
        self.loss: float = float("nan")
        """The loss at the start of the step, and the outputs of the network there."""
        self.outputs: Any = None

    def __call__(self, t: float, Ys: Members, t1: float | None = None) -> Members:
        self.nfev += 1
        value, flow, outputs = self.net._derivatives(Ys, self.x, self.y, self._loss, -1.0)
        if self.outputs is None:
            self.loss, self.outputs = value, outputs
        if self._decay:
            for i, W in enumerate(Ys[: self._weights]):
                flow[i] = flow[i] - self._decay * W
        if self._regularizer is not None:
            self._penalise(flow, Ys)
        return tuple(
            Value(f, Y.dtype) if isinstance(Y, LowRank) else f for f, Y in zip(flow, Ys, strict=True)
        )

    def _penalise(self, flow: list[Any], Ys: Members) -> None:
        """Subtract the gradient of the penalty from the flow."""
        first = 0
        for i, layer in enumerate(self.net._weighted):
            places = range(first, first := first + len(layer.matrices))
            if self._regularizer.applies(i, layer.shape):
                slopes = layer.penalised(self._regularizer, tuple(Ys[k] for k in places))
                for k, G in zip(places, slopes, strict=True):
                    low = isinstance(Ys[k], LowRank)
                    flow[k] = Penalised([(1.0, flow[k]), (-1.0, G)]) if low else flow[k] - G


class OptimizerSubstep:
    """An optimiser in the place of the substep of an integrator.

    In methods that augment their bases, K and L take plain Euler steps: only raw slopes make a basis that contains the
    range of the gradient. The optimiser acts on the core. In fixed-rank BUG it acts on K, L and S, each with its own
    memory; dense members advance with S.

    Within a step the memory of its start stays as it is (a method may repeat its stages in wider bases);
    :meth:`finished` gives the new one, in the bases of the result.
    """

    def __init__(self, optimizer: Optimizer, method: Integrator):
        self._optimizer = optimizer
        self._parallel = isinstance(method, ParallelBUG)
        self._euler = ("K", "L", "S") if self._parallel else ("K", "L")
        if isinstance(method, BUG):
            self._euler = ()
        self._augments = isinstance(method, (AugmentedBUG, ParallelBUG))
        self._start: Members = ()
        self._bases: Members = ()
        self._before: State = {}
        self._after: State = {}
        self._increment: dict[int, Array] = {}
        self._spare: dict[int, list[Array]] = {}
        self.news: list[float] = []
        """Per low-rank member a bound of the singular values that the step can have added: the norm of what it has
        added outside both old bases; outside one of them in parallel BUG, which adds nothing outside both."""

    def begin(self, Ys: Members, memory: State) -> None:
        """Prepare for a step from Ys."""
        self._spare = self._unused(Ys, memory)
        self._start, self._bases, self._before, self._after = Ys, Ys, memory, {}

    def _unused(self, Ys: Members, memory: State) -> dict[int, list[Array]]:
        """Per dense member the arrays of the last step that nobody reads any more: its increment and one of its two
        memories, that of the end where the step failed, otherwise that of the start."""
        spare = {}
        for i, Y in enumerate(Ys):
            if not isinstance(Y, LowRank) and i in self._increment:
                kept = {id(a) for part in memory["S"][i] for a in part} if "S" in memory else set()
                last = [self._increment.pop(i)]
                for state in (self._before, self._after):
                    last += [a for part in (state["S"][i] if "S" in state else ()) for a in part]
                spare[i] = [a for a in {id(a): a for a in last}.values() if id(a) not in kept]
        return spare

    def __call__(self, t: float, h: float, equation: Equation) -> Steps[list[Array]]:
        slopes = equation.first(t)
        if slopes is None:
            (values,) = yield [equation.ask(t, equation.X)]
            slopes = equation.slopes(t, values)
        if equation.stage in self._euler:
            return [h * slope for slope in slopes]
        if equation.stage == "S":
            return self._on_cores(h, equation.lift(equation.X), equation.X, slopes)
        return self._increments(
            equation.stage, h, equation.X, slopes, self._memory(equation.stage, equation.X)
        )

    def joined(self, h: float, Y_hat: Members, increments: list[Array]) -> list[Array]:
        """Increments of cores that the integrator has put together from Euler steps (parallel BUG)."""
        return self._on_cores(h, Y_hat, cores_of(Y_hat), [d / h for d in increments])

    def _on_cores(self, h: float, Y_hat: Members, X: list[Array], slopes: list[Array]) -> list[Array]:
        memory = [
            self._carried(m, Y, Z)
            for m, Y, Z in zip(self._memory("S", self._start), self._start, Y_hat, strict=True)
        ]
        self._bases = Y_hat
        increments = self._increments("S", h, X, slopes, memory)
        self.news = [
            self._news(d, *Y.S.shape)
            for Y, d in zip(self._start, increments, strict=True)
            if isinstance(Y, LowRank)
        ]
        return increments

    def _news(self, d: Array, p: int, q: int) -> float:
        if self._parallel:
            return math.hypot(norm(d[p:, :q]), norm(d[:p, q:]))
        return norm(d[p:, q:])

    def _increments(
        self, stage: str, h: float, X: list[Array], slopes: list[Array], memory: list[Memory]
    ) -> list[Array]:
        pairs = []
        for i, (slope, m, x) in enumerate(zip(slopes, memory, X, strict=True)):
            spare = self._spare.pop(i, None) if stage == "S" else None
            options = {} if spare is None else {"spare": spare}
            pairs.append(self._optimizer.increment(h, slope, m, x, **options))
        self._after[stage] = [m for _, m in pairs]
        if stage == "S" and self._optimizer.remembers:
            self._increment = {
                i: d
                for i, ((d, _), Y) in enumerate(zip(pairs, self._start, strict=True))
                if not isinstance(Y, LowRank) and type(d) is np.ndarray and d.size >= _LARGE
            }
        return [d for d, _ in pairs]

    def _memory(self, stage: str, like: Any) -> list[Memory]:
        """The memory at the start of the step, empty before the first."""
        if stage in self._before:
            return self._before[stage]
        return [
            self._optimizer.empty(
                Y.S if isinstance(Y, LowRank) else Y, stage != "S" or isinstance(Y, LowRank)
            )
            for Y in like
        ]

    def _carried(self, memory: Memory, Y: Any, Z: Any) -> Memory:
        """The memory of a core in the bases of Y, in those of Z."""
        if not isinstance(Y, LowRank):
            return memory
        if self._augments:
            return memory.pad(*Z.S.shape)
        return memory.rotate(change(Y._U, Z._U), change(Y._V, Z._V))

    def finished(self, Ys: Members) -> State:
        """The memory after the step, in the bases of its result."""
        if not self._optimizer.remembers:
            return {}
        memory = {
            "S": [
                m.rotate(change(Z._U, Y._U), change(Z._V, Y._V)) if isinstance(Y, LowRank) else m
                for m, Z, Y in zip(self._after["S"], self._bases, Ys, strict=True)
            ]
        }
        pairs = [(Y, Z) for Y, Z in zip(self._start, Ys, strict=True) if isinstance(Y, LowRank)]
        if "K" in self._after:
            memory["K"] = [
                m.rotate(None, change(Y._V, Z._V)) for m, (Y, Z) in zip(self._after["K"], pairs, strict=True)
            ]
            memory["L"] = [
                m.rotate(None, change(Y._U, Z._U)) for m, (Y, Z) in zip(self._after["L"], pairs, strict=True)
            ]
        return memory


def change(U: Array, U1: Array) -> Array | None:
    """UᴴU₁, which takes coordinates in the basis U₁ to those in U; None where the bases are the same array."""
    return None if U1 is U else H(U) @ U1


def trained_method(
    method: Any, optimizer: Optimizer, net: Sequential
) -> tuple[Integrator, OptimizerSubstep | None]:
    """The integrator with the optimiser in the place of its substep, and that substep.

    Raises
    ------
    TypeError, ValueError
        A substep was given; the optimiser does not work with the integrator; options out of range.
    """
    from dlra.integrators import by_name

    method = _with_all_members(by_name(method), net)
    if isinstance(method, RankAdaptive):
        for i in range(len(net.matrices)):
            rtol = method.options(i)[0]
            if rtol >= 1:
                raise ValueError(
                    f"rtol of {type(method).__name__} must be below 1 (tau, a share of the norm of each weight), "
                    f"got {rtol}"
                )
    if isinstance(method, WithSubstep) and method.substep != "auto":
        raise ValueError(
            f"in training the optimiser takes the place of the substep; leave substep of {type(method).__name__} at "
            f'"auto", got {method.substep!r}'
        )
    if isinstance(method, WITH_MEMORY):
        substep = OptimizerSubstep(optimizer, method)
        return dataclasses.replace(method, substep=substep), substep  # type: ignore[call-arg]
    if optimizer.remembers or (optimizer.weight_decay and getattr(optimizer, "decoupled", False)):
        raise TypeError(
            f"{type(optimizer).__name__} does not work with {type(method).__name__}, whose stages leave no place for a "
            f"memory of earlier gradients; use SGD, or one of {', '.join(c.__name__ for c in WITH_MEMORY)}"
        )
    if isinstance(method, WithSubstep):
        method = dataclasses.replace(method, substep="euler")
    return method, None


def _with_all_members(method: Integrator, net: Sequential) -> Integrator:
    """Rank options that are given one per weight, extended to all members."""
    if not isinstance(method, RankAdaptive):
        return method
    layers, biases = net._weighted, len(net.biases)
    filled = {}
    for name, rest in (("rtol", 0.0), ("atol", 0.0), ("min_rank", 1), ("max_rank", None)):
        given = getattr(method, name)
        if isinstance(given, (list, tuple)):
            if len(given) != len(layers):
                raise ValueError(
                    f"{name} of {type(method).__name__} must be a number or one for each of {len(layers)} weights, got "
                    f"{len(given)}"
                )
            each = [value for value, layer in zip(given, layers, strict=True) for _ in layer.matrices]
            filled[name] = (*each, *[rest] * biases)
    return dataclasses.replace(method, **filled) if filled else method


def step(
    method: Integrator,
    substep: OptimizerSubstep | None,
    batch: Batch,
    t: float,
    h: float,
    Ys: Members,
    memory: State,
) -> StepResult:
    """One step from Ys with learning rate h; failures are StageErrors."""
    if substep is not None:
        substep.begin(Ys, memory)
    return advance(method, batch, t, h, Ys, first=False)  # type: ignore[arg-type]
