"""Broken variants of dlra, injected from outside: each replaces a function or a method while a check runs.

A mutant is a list of places (an object and the name of its attribute) and what stands there instead. The checks do not
know of them. :func:`touched` tells which mutants a run would meet at all, :func:`broken` runs with one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlra import linalg
from dlra.backend import H, namespace
from dlra.compress import measures
from dlra.compress import ranks as kept_ranks
from dlra.integrators import (
    _equations,
    augmented_bug,
    bug,
    galerkin,
    midpoint_bug,
    parallel_bug,
    projected_runge_kutta,
    projector_splitting,
    runge_kutta_bug,
    second_order_parallel_bug,
)
from dlra.integrators._protocol import Ask, StepResult
from dlra.integrators._runge_kutta import ExplicitRungeKutta
from dlra.lowrank import BOTH, LowRank
from dlra.nn import _batches, _training, composed, convolution, layers, losses, optimizers, pruning, schedules
from dlra.nn._gradient import RowProduct
from dlra.nn.network import Sequential
from validation import flows

Place = tuple[Any, str]


@dataclass(frozen=True)
class Mutant:
    """A deliberate break.

    Attributes
    ----------
    name, description : str
    places : tuple of (object, attribute)
        What is replaced.
    broken : callable
        ``broken(original)`` returns the replacement.
    matters : callable or None
        Whether a call with these arguments can differ from the original at all; None: always.
    """

    name: str
    description: str
    places: tuple[Place, ...]
    broken: Callable[[Callable[..., Any]], Callable[..., Any]]
    matters: Callable[..., bool] | None = None


MUTANTS: dict[str, Mutant] = {}


def mutant(
    name: str, *places: Place, matters: Callable[..., bool] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``broken(original)``; its docstring is the description."""

    def register(broken: Callable[..., Any]) -> Callable[..., Any]:
        if name in MUTANTS:
            raise ValueError(f"there are two mutants {name!r}")
        MUTANTS[name] = Mutant(name, " ".join((broken.__doc__ or "").split()), places, broken, matters)
        return broken

    return register


@contextlib.contextmanager
def _replaced(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes for the time of the block; of classes, where they stand in the class itself."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in replacements]
    try:
        for owner, name, value in replacements:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def broken(name: str) -> contextlib.AbstractContextManager[None]:
    """Run a block with a mutant."""
    m = MUTANTS[name]
    return _replaced([(owner, attribute, m.broken(vars(owner)[attribute])) for owner, attribute in m.places])


@contextlib.contextmanager
def touched() -> Iterator[set[str]]:
    """Run a block unbroken, and collect the names of the mutants that it would have met."""
    seen: set[str] = set()
    by_place: dict[tuple[int, str], list[Mutant]] = {}
    owners: dict[tuple[int, str], Any] = {}
    for m in MUTANTS.values():
        for owner, attribute in m.places:
            by_place.setdefault((id(owner), attribute), []).append(m)
            owners[id(owner), attribute] = owner

    def watched(original: Callable[..., Any], mutants: list[Mutant]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            for m in mutants:
                if m.name not in seen and (m.matters is None or m.matters(*args, **options)):
                    seen.add(m.name)
            return original(*args, **options)

        return call

    replacements = [
        (owners[key], key[1], watched(vars(owners[key])[key[1]], mutants))
        for key, mutants in by_place.items()
    ]
    with _replaced(replacements):
        yield seen


# ---- bases

AUGMENTED = tuple(
    (module, "augmented") for module in (augmented_bug, parallel_bug, midpoint_bug, second_order_parallel_bug)
)
IN_BASES = (bug, "_in_bases")


@mutant("frozen bases", *AUGMENTED, IN_BASES)
def _(original: Any) -> Any:
    """The bases of the start stay: Û = U₀, V̂ = V₀."""
    return lambda Ys, *_: Ys


@mutant("no augmentation", (augmented_bug, "augmented"))
def _(original: Any) -> Any:
    """Û = orth K(t₁) and V̂ = orth L(t₁) in the place of bases that contain U₀ and V₀; the core is M S₀ Nᴴ."""

    def augmented(Ys: Any, dK: Any, dL: Any) -> Any:
        left, right = iter(dK), iter(dL)
        out = []
        for Y in Ys:
            if isinstance(Y, LowRank):
                U = linalg.qr(Y._U @ Y.S + next(left))[0]
                V = linalg.qr(Y._V @ H(Y.S) + next(right))[0]
                Y = LowRank._make(U, (H(U) @ Y._U) @ Y.S @ (H(Y._V) @ V), V, BOTH)
            out.append(Y)
        return tuple(out)

    return augmented


@mutant("M = N = I, augmented", (augmented_bug, "augmented"))
def _(original: Any) -> Any:
    """The new bases are orth [K(t₁), U₀] and orth [L(t₁), V₀], but the core moves into them as if U₀ and V₀ were
    their leading columns."""

    def augmented(Ys: Any, dK: Any, dL: Any) -> Any:
        left, right = iter(dK), iter(dL)
        out = []
        for Y in Ys:
            if isinstance(Y, LowRank):
                xp = namespace(Y._U)
                U = linalg.qr(xp.concat((Y._U @ Y.S + next(left), Y._U), axis=1))[0]
                V = linalg.qr(xp.concat((Y._V @ H(Y.S) + next(right), Y._V), axis=1))[0]
                Y = LowRank._make(U, linalg.embed(Y.S, U.shape[1], V.shape[1]), V, BOTH)
            out.append(Y)
        return tuple(out)

    return augmented


@mutant("M = N = I, fixed rank", IN_BASES)
def _(original: Any) -> Any:
    """Fixed-rank BUG takes S₀ into the new bases unchanged."""

    def in_bases(Y: Any, K: Any, L: Any) -> Any:
        return LowRank._make(linalg.qr(next(K))[0], Y.S, linalg.qr(next(L))[0], BOTH)

    return in_bases


def _is_single(Ys: Any, *_: Any) -> bool:
    return any(isinstance(Y, LowRank) and Y._U.dtype.itemsize in (4,) for Y in Ys)


@mutant("bases from [U₀, K(t₁)]", *AUGMENTED, matters=_is_single)
def _(original: Any) -> Any:
    """Bases are augmented by K(t₁) and L(t₁) in the place of their increments: in single precision the new directions
    lose their digits where the step is small."""

    def augmented(Ys: Any, dK: Any, dL: Any) -> Any:
        low = [Y for Y in Ys if isinstance(Y, LowRank)]
        K = [Y._U @ Y.S + d for Y, d in zip(low, dK, strict=True)]
        L = [Y._V @ H(Y.S) + d for Y, d in zip(low, dL, strict=True)]
        return original(Ys, K, L)

    return augmented


# ---- small equations

PRODUCT = (_equations, "_product")


def _square_l_step(value: Any, X: Any, height: int, rest: bool, adjoint: bool = False) -> bool:
    return adjoint and height == X.shape[0] and value.shape[0] == value.shape[1]


@mutant("transposed L-step", PRODUCT, matters=_square_l_step)
def _(original: Any) -> Any:
    """The L-step uses F U₀ in the place of Fᴴ U₀ (square matrices)."""

    def product(value: Any, X: Any, height: int, rest: bool, adjoint: bool = False) -> Any:
        square = value.shape[0] == value.shape[1]
        return original(value, X, height, rest, adjoint and not square)

    return product


def _complex_l_step(value: Any, X: Any, height: int, rest: bool, adjoint: bool = False) -> bool:
    return adjoint and "complex" in str(X.dtype)


@mutant("lost conjugation", PRODUCT, matters=_complex_l_step)
def _(original: Any) -> Any:
    """The L-step uses Fᵀ U₀ in the place of Fᴴ U₀ (complex matrices)."""

    def product(value: Any, X: Any, height: int, rest: bool, adjoint: bool = False) -> Any:
        if not adjoint:
            return original(value, X, height, rest, adjoint)
        xp = namespace(X)
        return xp.conj(original(value, xp.conj(X), height, rest, adjoint))

    return product


@mutant(
    "ascent in S",
    *((module, "s_equation") for module in (augmented_bug, parallel_bug, bug, galerkin)),
)
def _(original: Any) -> Any:
    """The S-step goes uphill: S' = -Ûᴴ F V̂."""
    return lambda Ys, field, start=None, backward=False: original(Ys, field, start, not backward)


@mutant("forward middle step", (projector_splitting, "s_equation"))
def _(original: Any) -> Any:
    """Projector splitting advances S forward where it must go backward."""
    return lambda Ys, field, start=None, backward=False: original(Ys, field, start, False)


@mutant("half an S-step", *((module, "advanced") for module in (augmented_bug, bug, parallel_bug)))
def _(original: Any) -> Any:
    """Only half of the increments is added."""
    return lambda X, dX: original(X, [d / 2 for d in dX])


@mutant("stages in the bases of the start", (runge_kutta_bug, "augmented"), (midpoint_bug, "augmented"))
def _(original: Any) -> Any:
    """The stages of midpoint and Runge-Kutta BUG keep the bases of the start."""
    return lambda Ys, *_: Ys


# ---- truncation

TRUNCATION = (linalg, "truncation_rank")


def _has_tolerance(s: Any, rtol: float, atol: float, *_: Any) -> bool:
    return rtol > 0 or atol > 0


def _ruled(keep: Callable[[np.ndarray, float], int]) -> Callable[[Any], Any]:
    """A truncation by another rule; ``keep(s, theta)`` gives the rank."""

    def broken(original: Any) -> Any:
        def truncation_rank(
            s: Any, rtol: float, atol: float, min_rank: int, max_rank: int | None
        ) -> tuple[int, float]:
            if not _has_tolerance(s, rtol, atol):
                return original(s, rtol, atol, min_rank, max_rank)
            sigma = np.asarray(s, dtype=np.float64)
            theta = max(atol, rtol * float(np.linalg.norm(sigma)))
            rank = min(max(keep(sigma, theta), min_rank), len(sigma))
            return original(s, 0.0, 0.0, rank, rank if max_rank is None else min(rank, max_rank))

        return truncation_rank

    return broken


def _tails(s: np.ndarray) -> np.ndarray:
    return np.hypot.accumulate(s[::-1])[::-1]


@mutant("truncation value by value", TRUNCATION, matters=_has_tolerance)
def _(original: Any) -> Any:
    """Each singular value below theta is dropped, whatever they add up to."""
    return _ruled(lambda s, theta: int(np.count_nonzero(s > theta)))(original)


@mutant("truncation by the square", TRUNCATION, matters=_has_tolerance)
def _(original: Any) -> Any:
    """The sum of squares of what is dropped is compared with theta in the place of its square."""
    return _ruled(lambda s, theta: int(np.count_nonzero(_tails(s) ** 2 > theta)))(original)


@mutant("truncation by the sum", TRUNCATION, matters=_has_tolerance)
def _(original: Any) -> Any:
    """The sum of what is dropped is compared with theta: fewer than possible are dropped."""
    return _ruled(lambda s, theta: int(np.count_nonzero(np.cumsum(s[::-1])[::-1] > theta)))(original)


# ---- optimisers

MOMENTUM = (optimizers.Momentum, "increment")


def _shrinks(self: Any, P: Any, Q: Any) -> bool:
    return bool(self.moments) and not (P is None and Q is None)


@mutant("cropped moments", (optimizers.Memory, "rotate"), matters=_shrinks)
def _(original: Any) -> Any:
    """Where bases change, moments keep their leading block instead of being rotated."""

    def rotate(self: Any, P: Any, Q: Any) -> Any:
        rows = slice(None) if P is None else slice(P.shape[1])
        columns = slice(None) if Q is None else slice(Q.shape[1])
        return optimizers.Memory(*(tuple(X[rows, columns] for X in part) for part in self))

    return rotate


@mutant("stale moments", MOMENTUM)
def _(original: Any) -> Any:
    """The increment uses the momentum of the step before."""

    def increment(self: Any, h: float, slope: Any, memory: Any, X: Any) -> Any:
        _, new = original(self, h, slope, memory, X)
        old = memory.moments[0]
        return self.lam * h * slope + (1 - self.lam + self.lam * self.mu) * old, new

    return increment


@mutant("learning rate outside the momentum", MOMENTUM)
def _(original: Any) -> Any:
    """M ← mu M + f and X ← X + h (lam f + (1 - lam + lam mu) M): not the same where h varies."""

    def increment(self: Any, h: float, slope: Any, memory: Any, X: Any) -> Any:
        M = self.mu * memory.moments[0] + slope
        return h * (self.lam * slope + (1 - self.lam + self.lam * self.mu) * M), optimizers.Memory((M,))

    return increment


@mutant("momentum goes uphill", MOMENTUM)
def _(original: Any) -> Any:
    """M ← mu M - h f."""

    def increment(self: Any, h: float, slope: Any, memory: Any, X: Any) -> Any:
        step = h * slope
        M = self.mu * memory.moments[0] - step
        return self.lam * step + (1 - self.lam + self.lam * self.mu) * M, optimizers.Memory((M,))

    return increment


STEPS = (schedules.RobbinsMonro, "_value")


@mutant("constant step", STEPS)
def _(original: Any) -> Any:
    """The learning rate stays that of the first iteration, where it must decrease."""
    return lambda self, t: original(self, 0)


@mutant("summable steps", STEPS)
def _(original: Any) -> Any:
    """The learning rate falls like its square: its sum is finite."""
    return lambda self, t: original(self, t) ** 2 / original(self, 0)


# ---- networks


@mutant("transposed core gradient", (RowProduct, "_compressed"))
def _(original: Any) -> Any:
    """The gradient by the core of a low-rank layer is transposed."""

    def compressed(self: Any, U: Any, V: Any) -> Any:
        core = original(self, U, V)
        return core.T if core.shape[0] == core.shape[1] else 2 * core

    return compressed


@mutant("flipped kernel", (convolution, "unfold"))
def _(original: Any) -> Any:
    """Each patch is read backwards: a true convolution, where the layers are cross-correlations."""

    def unfold(x: Any, windows: Any) -> Any:
        rows = original(x, windows)
        by_channel = rows.reshape(*rows.shape[:-1], x.shape[1], -1)
        return by_channel[..., ::-1].reshape(rows.shape)

    return unfold


def _has_factors(self: Any, gradient: Any, matrices: Any) -> bool:
    return len(matrices) > 1


@mutant("factor gradients without the left factors", (composed._Composed, "pull_back"), matters=_has_factors)
def _(original: Any) -> Any:
    """The factors on the left of the one by which is differentiated are left out, where the shapes allow it."""

    def pull_back(self: Any, gradient: Any, matrices: Any) -> Any:
        out = original(self, gradient, matrices)
        bare = gradient
        for W in reversed(matrices[1:]):
            bare = bare @ W.T
        return tuple(bare if g.shape == bare.shape else g for g in out)

    return pull_back


def _is_composed(self: Any, net: Any, *_: Any) -> bool:
    return len(net.matrices) > len(net.weights)


@mutant("decay of the first factor only", (_training.Batch, "__init__"), matters=_is_composed)
def _(original: Any) -> Any:
    """Weight decay counts one matrix for each layer."""

    def __init__(self: Any, net: Any, *rest: Any) -> None:
        original(self, net, *rest)
        self._weights = len(net.weights)

    return __init__


@mutant("parameters without the core", (Sequential, "parameter_count"))
def _(original: Any) -> Any:
    """The parameters of training leave out the (2r)² entries of the augmented cores."""

    def parameter_count(self: Any, phase: str = "evaluation", **options: Any) -> int:
        count = original(self, phase, **options)
        if phase == "training":
            count -= sum((2 * W.rank) ** 2 for W in self.weights if isinstance(W, LowRank))
        return count

    return parameter_count


# ---- minibatches


@mutant("reused minibatch", (flows, "choice"))
def _(original: Any) -> Any:
    """Every step uses the minibatch of the first one."""
    return lambda path: path[0]


# ---- one step: gradients and ranks


def _counts(t: float, Ys: Any, field: Any) -> bool:
    return hasattr(getattr(field, "F", None), "asked")


@mutant("three gradients", (augmented_bug, "known_start"), (parallel_bug, "known_start"), matters=_counts)
def _(original: Any) -> Any:
    """The K-, L- and S-step each ask for F at the start, in the place of sharing one value."""

    def known_start(t: float, Ys: Any, field: Any) -> Any:
        return None
        yield

    return known_start


def _drops_all(s: Any, rtol: float, atol: float, *_: Any) -> bool:
    size = float(np.linalg.norm(np.asarray(s, dtype=np.float64)))
    return _has_tolerance(s, rtol, atol) and max(atol, rtol * size) >= size


@mutant("rank zero", TRUNCATION, matters=_drops_all)
def _(original: Any) -> Any:
    """Truncation may drop everything."""
    return lambda s, rtol, atol, min_rank, max_rank: original(s, rtol, atol, 0, max_rank)


# ---- losses


@mutant(
    "derivative summed over the batch",
    (losses.CrossEntropyLoss, "with_derivative"),
    (losses.MSELoss, "with_derivative"),
)
def _(original: Any) -> Any:
    """The loss is a mean over the batch, its derivative a sum."""

    def with_derivative(self: Any, z: Any, y: Any) -> tuple[float, Any]:
        value, derivative = original(self, z, y)
        return value, z.shape[0] * derivative

    return with_derivative


# ---- measures of low rank, and which ranks are kept


@mutant("diagonal of the core", (LowRank, "singular_values"))
def _(original: Any) -> Any:
    """The diagonal of the core stands for its singular values."""
    return lambda self: np.sort(np.abs(np.diagonal(self.orthonormalized().S)))[::-1]


@mutant("zeros left out", (measures, "_gini"), (measures, "_hoyer"), (measures, "_effective_rank"))
def _(original: Any) -> Any:
    """Singular values that are zero do not count."""

    def without_zeros(s: Any) -> Any:
        value, slope = original(s[s > 0] if np.count_nonzero(s) > 1 else s)
        return value, np.concatenate([slope, np.zeros(len(s) - len(slope))])

    return without_zeros


@mutant("Gini index the other way round", (measures, "_gini"))
def _(original: Any) -> Any:
    """Singular values in descending order stand where (21) wants ascending ones."""
    return lambda s: original(s[::-1])


@mutant("Hoyer measure of squares", (measures, "_hoyer"))
def _(original: Any) -> Any:
    """The squares of the singular values in the place of these."""
    return lambda s: original(s * s)


@mutant("binary logarithm", (measures, "_effective_rank"))
def _(original: Any) -> Any:
    """The exponential of the entropy in bits."""

    def of_bits(s: Any) -> Any:
        value, slope = original(s)
        power = 1 / np.log(2)
        return value**power, power * value ** (power - 1) * slope

    return of_bits


@mutant("Schatten norm of 2p", (measures, "_powers"))
def _(original: Any) -> Any:
    """The norm of twice the exponent."""
    return lambda s, p: original(s, 2 * p)


@mutant("ascending weights", (measures, "_weighted"))
def _(original: Any) -> Any:
    """The largest weight for the smallest singular value."""
    return lambda s, weights: original(s, weights[::-1])


@mutant("derivative by the shares", (measures, "_gini"), (measures, "_effective_rank"))
def _(original: Any) -> Any:
    """The derivative of a measure of the shares σ_i/‖σ‖₁, as if the sum stayed the same."""

    def by_shares(s: Any) -> Any:
        value, slope = original(s)
        rest = 1 - value if original.__name__ == "_gini" else -value * (np.log(value) - 1)
        return value, slope - rest / np.sum(s)

    return by_shares


@mutant("V for Vᴴ", (pruning, "decomposed"), matters=lambda W: W.shape[0] == W.shape[1])
def _(original: Any) -> Any:
    """What svd returns as Vᴴ is taken for V (square weights)."""

    def decomposed(W: Any) -> Any:
        Y = original(W)
        square = Y.V.shape[0] == Y.V.shape[1]
        return LowRank._make(Y.U, Y.S, Y.V.mT, BOTH) if square else Y

    return decomposed


@mutant("layers not normalised", (kept_ranks, "_normalised"))
def _(original: Any) -> Any:
    """Singular values of all layers are compared as they are."""
    return lambda s: s


@mutant("factors counted above break-even", (kept_ranks, "truncated_count"))
def _(original: Any) -> Any:
    """A weight counts r (m + n) even where that exceeds m n."""
    return lambda shape, rank, whole: rank * sum(shape)


# ---- weight decay and activations


def _decays(self: Any, net: Any, loss: Any, weight_decay: float, *_: Any) -> bool:
    return weight_decay > 0


@mutant("half the weight decay", (_training.Batch, "__init__"), matters=_decays)
def _(original: Any) -> Any:
    """The gradient of half the squared norm is taken for that of the squared norm."""
    return lambda self, net, loss, weight_decay, *rest: original(self, net, loss, weight_decay / 2, *rest)


@mutant("no weight decay", (_training.Batch, "__init__"), matters=_decays)
def _(original: Any) -> Any:
    """Weights do not decay."""
    return lambda self, net, loss, weight_decay, *rest: original(self, net, loss, 0.0, *rest)


@mutant("smooth ReLU", (layers.ReLU, "forward"))
def _(original: Any) -> Any:
    """(x + √(x² + 1))/2 in the place of max(x, 0): not positively homogeneous."""

    def forward(self: Any, x: Any, parameters: Any, reuse: bool) -> Any:
        y = (x + (x * x + 1) ** 0.5) / 2
        return y, y

    return forward


@mutant("factors never larger than the matrix", (Sequential, "parameter_count"))
def _(original: Any) -> Any:
    """A low-rank weight counts no more than the dense one would."""

    def parameter_count(self: Any, phase: str = "evaluation", **options: Any) -> int:
        surplus = (W.rank * (W.shape[0] + W.shape[1]) - W.shape[0] * W.shape[1] for W in self.weights
                   if isinstance(W, LowRank))  # fmt: skip
        return original(self, phase, **options) - sum(max(0, s) for s in surplus)

    return parameter_count


# ---- other integrators


def _is_stage(self: Any, Ys: Any, h: float, weights: Any, Zs: Any, error: Any = None) -> bool:
    return tuple(weights) != tuple(self.scheme.b)


@mutant("stages that stay at the start", (ExplicitRungeKutta, "retracted"), matters=_is_stage)
def _(original: Any) -> Any:
    """All stages of a Runge-Kutta scheme are evaluated at Y₀."""

    def retracted(self: Any, Ys: Any, h: float, weights: Any, Zs: Any, error: Any = None) -> Any:
        if _is_stage(self, Ys, h, weights, Zs):
            return Ys, 0.0, 0.0
        return original(self, Ys, h, weights, Zs, error)

    return retracted


@mutant("tangent projection without the third term", (projected_runge_kutta, "tangent_vector"))
def _(original: Any) -> Any:
    """U UᴴF + F V Vᴴ in the place of U UᴴF + F V Vᴴ - U UᴴF V Vᴴ."""
    return lambda Y, C, R, X: original(Y, C, R, 0.0 * X)


def _has_values(self: Any, t: float, h: float, Ys: Any, field: Any) -> bool:
    return not field.increments


@mutant("inverse of the core", (bug.BUG, "step"), matters=_has_values)
def _(original: Any) -> Any:
    """Euler's method for U' = (I - UUᴴ) F V S⁻¹, V' alike and S' = UᴴFV in the place of fixed-rank BUG: of first order
    too, but with constants that grow as singular values fall."""

    def step(self: Any, t: float, h: float, Ys: Any, field: Any) -> Any:
        values = yield [Ask("start", t, Ys)]
        new = []
        for Y, F in zip(Ys, values[0], strict=True):
            if not isinstance(Y, LowRank):
                new.append(Y + h * F)
                continue
            U, S, V = Y.factors
            FV, FhU = F @ V, F.H @ U
            inverse = np.linalg.inv(S)
            X = H(U) @ FV
            U1 = linalg.qr(U + h * (FV - U @ X) @ inverse)
            V1 = linalg.qr(V + h * (FhU - V @ H(X)) @ H(inverse))
            new.append(LowRank._make(U1[0], U1[1] @ (S + h * X) @ H(V1[1]), V1[0], BOTH))
        return StepResult(tuple(new))

    return step


# ---- how batches are drawn


@mutant(
    "shuffled in the place of drawn", (_batches.Rows, "order"), matters=lambda self, rng: self.replacement
)
def _(original: Any) -> Any:
    """An epoch goes through a permutation of the rows in the place of drawing them with replacement."""
    return lambda self, rng: rng.permutation(self.rows)


@mutant("first batch repeated", (_batches.Rows, "batches"), matters=lambda self, *_: self.steps > 1)
def _(original: Any) -> Any:
    """All steps of an epoch use its first batch."""

    def batches(self: Any, order: Any, done: int) -> Any:
        first = next(original(self, order, 0))
        return (first for _ in range(self.steps - done))

    return batches
