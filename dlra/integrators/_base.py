"""What integrators share: options, their checks, and the move of a state into augmented bases."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from dlra import linalg, substeps
from dlra.backend import (
    Array,
    H,
    deferred_norm,
    defers,
    eps,
    hermitian_part,
    hypot,
    namespace,
    norm,
    together,
    weak,
    zeros,
)
from dlra.errors import DlraWarning
from dlra.integrators._equations import Equation, cores_of, of_stack, one_sided
from dlra.integrators._protocol import Ask, StepResult, Steps
from dlra.lowrank import BOTH, LowRank

Members = tuple[Any, ...]


@dataclass(frozen=True)
class Integrator(ABC):
    """One step of a method: options only, no state."""

    name: ClassVar[str]
    order: ClassVar[int]
    """Order of convergence, which the choice of the step length rests on."""
    moves_bases: ClassVar[bool] = True
    takes_increments: ClassVar[bool] = False
    """Whether integrals of F over the step do instead of values (:class:`dlra.Increments`)."""
    takes_stacks: ClassVar[bool] = False
    """Whether the state may be a :class:`dlra.LowRankStack`."""
    keeps_symmetry: ClassVar[bool] = False
    """Whether states stay Hermitian under a symmetric field, so that one side needs to be computed only."""

    def __post_init__(self) -> None:  # noqa: B027
        """Check the options."""

    @abstractmethod
    def step(self, t: float, h: float, Ys: Members, field: Any) -> Steps[StepResult]:
        """Advance Ys from t to t + h (h < 0 goes backward).

        Parameters
        ----------
        t, h : float
        Ys : tuple
            Members: LowRank with orthonormal U and V, or plain arrays.
        field : Field
            Tells what F declares about itself (``field.linear``); it is not called.

        Yields
        ------
        list of Ask
            Independent questions for F; a list with one tuple of values per Ask is sent back.

        Returns
        -------
        StepResult
        """

    def check(self, Ys: Members, field: Any) -> None:
        """Raise an error, or warn, where the options do not fit the state or the field. Called once before a run."""
        if any(isinstance(Y, LowRank) and Y.ndim == 3 for Y in Ys):
            check_stack(self)
        if field.increments and not self.takes_increments:
            raise TypeError(
                f"{type(self).__name__} needs values of F, but Increments gives integrals only; use BUG, AugmentedBUG, "
                f"ParallelBUG, ProjectorSplitting or Galerkin"
            )

    def prepared(self, Ys: Members, field: Any) -> Members:
        """Ys as the steps of a run want it: Hermitian members of a symmetric field with one array for both sides,
        all others with two."""
        return tuple(
            _sided(Y, symmetric and self.keeps_symmetry) if isinstance(Y, LowRank) else Y
            for Y, symmetric in zip(Ys, field.symmetric, strict=True)
        )

    def is_explicit(self, field: Any) -> bool:
        """Whether steps that are too long for the field make the method unstable."""
        return True

    def identity(self) -> str:
        """The method and its options, the same in every process (objects of foreign classes by their class)."""
        options = ", ".join(f"{f.name}={_shown(getattr(self, f.name))}" for f in fields(self))
        return f"{type(self).__qualname__}({options})"

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class WithSubstep(Integrator):
    """A method with small equations to solve."""

    substep: Any = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        substeps.resolve(self.substep)

    def _substep(self, t: float, h: float, equation: Equation) -> Steps[list[Array]]:
        """Increments of the unknowns; an equation without any (K and L of dense members) asks for nothing."""
        if equation.count == 0:
            return _nothing()
        steps = (
            equation.solved(t, h) if equation.increments else substeps.resolve(self.substep)(t, h, equation)
        )
        return _hermitian(steps, equation.hermitian) if any(equation.hermitian) else steps

    def _joined(self, h: float, Y_hat: Members, increments: list[Array]) -> list[Array]:
        """The increments of whole cores that were put together from several equations: a substep that remembers
        earlier ones (the optimiser of a training) has its say on them here."""
        joined = getattr(substeps.resolve(self.substep), "joined", None)
        return increments if joined is None else joined(h, Y_hat, increments)

    def is_explicit(self, field: Any) -> bool:
        return substeps.is_explicit(substeps.resolve(self.substep), bool(field.linear))


@dataclass(frozen=True, repr=False)
class RankAdaptive(Integrator):
    """A method that truncates. Each option is a value, or a sequence with one value per member of a system."""

    rtol: float | Sequence[float] = field(default=0.0, kw_only=True)
    atol: float | Sequence[float] = field(default=0.0, kw_only=True)
    min_rank: int | Sequence[int] = field(default=1, kw_only=True)
    max_rank: int | Sequence[int | None] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for options in self._options(_count(self._given())):
            linalg.check_rank_options(*options)
        super().__post_init__()

    def check(self, Ys: Members, field: Any) -> None:
        count = _count(self._given())
        if count not in (None, len(Ys)):
            raise ValueError(f"rank options are given for {count} members, but the state has {len(Ys)}")
        for Y, (rtol, atol, min_rank, max_rank) in zip(Ys, self._options(len(Ys)), strict=True):
            if min_rank > 1 and rtol == atol == 0 and max_rank is None:
                warnings.warn(
                    f"min_rank={min_rank} has no effect: without rtol, atol or max_rank the rank stays that of Y0",
                    DlraWarning,
                    stacklevel=4,
                )
            if isinstance(Y, LowRank) and min_rank > min(Y.shape[-2:]):
                raise ValueError(
                    f"min_rank must not exceed min(m, n) = {min(Y.shape[-2:])} of Y0, got {min_rank}"
                )
        super().check(Ys, field)

    @property
    def has_tolerance(self) -> bool:
        """Whether a tolerance for the rank is given."""
        if self.rtol == self.atol == 0:
            return False
        return any(any(g) if isinstance(g, Sequence) else g != 0 for g in (self.rtol, self.atol))

    @property
    def is_free(self) -> bool:
        """Whether the rank may change."""
        bounds = self.max_rank if isinstance(self.max_rank, Sequence) else [self.max_rank]
        return self.has_tolerance or any(bound is not None for bound in bounds)

    def options(self, i: int) -> tuple[float, float, int, int | None]:
        """The options rtol, atol, min_rank, max_rank of member i."""
        rtol, atol, min_rank, max_rank = (g[i] if _is_sequence(g) else g for g in self._given())
        return rtol, atol, min_rank, max_rank

    def truncated(self, Ys: Members, Y_hat: Members, cores: list[Array]) -> tuple[Members, Any]:
        """Truncate Y_hat with new cores; Ys is the state before the step. Dense members are replaced."""
        return self.truncated_with(Ys, Y_hat, cores, [])[:2]

    def truncated_with(
        self, Ys: Members, Y_hat: Members, cores: list[Array], others: list[Any]
    ) -> tuple[Members, Any, list[Any], list[float | None]]:
        """As :meth:`truncated`, with other numbers that are needed on the host, and the norms of the new members.

        Where the arrays defer and a rank is free, all singular values and these numbers come in one transfer, which
        tells the norms as well; elsewhere they are None.
        """
        spectra: list[Any] = []
        for Y, core in zip(Y_hat, cores, strict=True):
            single = isinstance(Y, LowRank) and core.ndim == 2
            spectra.append(linalg.decompose(core, Y._V is Y._U) if single else None)
        sizes: list[Any] = [None if spectral is None else spectral.sizes for spectral in spectra]
        at_once = defers(cores[0]) and cores[0].ndim < 3 and self.is_free
        if at_once:
            sizes, others = _together(sizes, others)
        Y1s, discarded = list(cores), []
        norms: list[float | None] = [None] * len(cores)
        for i, (rtol, atol, min_rank, max_rank) in enumerate(self._options(len(Ys))):
            Y = Y_hat[i]
            if not isinstance(Y, LowRank):
                continue
            if rtol == 0 and atol == 0 and max_rank is None:  # the rank stays as it was given
                min_rank = max_rank = Ys[i].rank
            if spectra[i] is None:  # a stack
                Y1s[i], dropped = linalg.svd_truncate(Y, Y._U, cores[i], Y._V, rtol, atol, min_rank, max_rank)
            else:
                rank, dropped = linalg.truncation_rank(sizes[i], rtol, atol, min_rank, max_rank)
                Y1s[i] = linalg.cut(Y, Y._U, Y._V, spectra[i], rank)
                if at_once:
                    norms[i] = norm(sizes[i][:rank])
            discarded.append(dropped)
        return tuple(Y1s), hypot(*discarded), others, norms

    def _given(self) -> tuple[Any, ...]:
        return self.rtol, self.atol, self.min_rank, self.max_rank

    def _options(self, count: int | None) -> list[tuple[Any, ...]]:
        given = self._given()
        if not any(map(_is_sequence, given)):
            return [given] * (count or 1)
        columns = [list(g) if _is_sequence(g) else [g] * (count or 1) for g in given]
        return list(zip(*columns, strict=True))


def check_stack(integrator: Integrator) -> None:
    """Raise a TypeError where the method, or its substep, does not advance stacks."""
    from dlra.integrators import _METHODS

    name = type(integrator).__name__
    if not integrator.takes_stacks:
        known = [cls.__name__ for cls in _METHODS.values() if cls.takes_stacks]
        raise TypeError(
            f"{name} advances one matrix at a time, and Y0 is a LowRankStack; methods for stacks are {', '.join(known)}"
        )
    if isinstance(integrator, WithSubstep):
        substep = substeps.resolve(integrator.substep)
        if not isinstance(substep, (substeps.RungeKutta, substeps.Auto)):
            raise TypeError(
                f"substep={integrator.substep!r} advances one matrix at a time, and Y0 is a LowRankStack; "
                f'substeps for stacks are "euler", "heun", "rk4" and "auto" (rk4)'
            )


def _nothing() -> Steps[list[Array]]:
    return []
    yield


def _hermitian(steps: Steps[list[Array]], which: list[bool]) -> Steps[list[Array]]:
    """The result of these steps, with some of the arrays made Hermitian to the last bit."""
    increments = yield from steps
    return [hermitian_part(dX) if made else dX for dX, made in zip(increments, which, strict=True)]


def _together(sizes: list[Any], others: list[Any]) -> tuple[list[Any], list[Any]]:
    """Singular values (None for dense members) and other numbers, all on the host."""
    low = [i for i, sigma in enumerate(sizes) if sigma is not None]
    *found, others = together([*(sizes[i] for i in low), *others], len(low))
    sizes = [None] * len(sizes)
    for i, sigma in zip(low, found, strict=True):
        linalg.check_spectrum(sigma)
        sizes[i] = sigma
    return sizes, others


def augmented(Ys: Members, dK: list[Array], dL: list[Array]) -> Members:
    """Carry Ys into the bases Û = [U₀ | ·] ∋ dK and V̂ = [V₀ | ·] ∋ dL, unchanged: Ŝ = [[S₀, 0], [0, 0]].

    ``dL`` lacks one-sided members, as the L-equation does.
    """
    left, right = iter(dK), iter(dL)
    out = []
    for Y in Ys:
        if isinstance(Y, LowRank):
            augment = _augment_on_device if defers(Y._U) and Y._U.ndim == 2 else linalg.augment
            U = augment(Y._U, next(left))
            V = U if one_sided(Y) else augment(Y._V, next(right))
            Y = LowRank._make(U, linalg.embed(Y.S, U.shape[-1], V.shape[-1]), V, BOTH)
        out.append(Y)
    return tuple(out)


def _augment_on_device(U0: Array, X: Array) -> Array:
    """:func:`dlra.linalg.augment` with a basis of the width that shapes tell: no decision on the host."""
    from dlra.kernels import gpu

    return gpu.augment(U0, X)


def parallel_cores(
    Ys: Members, Y_hat: Members, S: list[Array], dK: list[Array], dL: list[Array]
) -> list[Array]:
    """Put the cores of the parallel integrators together: [[S(t₁), L(t₁)ᴴ Ṽ], [Ũᴴ K(t₁), 0]].

    Ys carry the bases of the small equations, Y_hat those augmented by Ũ and Ṽ; Ũᴴ K(t₁) = Ũᴴ dK, because Ũ is
    orthogonal to the range of K(t₀). With dS in the place of S these are the increments of the cores.
    """
    left, right = iter(dK), iter(dL)
    cores = []
    for Y, Z, core in zip(Ys, Y_hat, S, strict=True):
        if isinstance(Y, LowRank):
            *stack, p, q = core.shape
            below = H(Z._U[..., p:]) @ next(left)
            beside = H(below) if one_sided(Y) else H(next(right)) @ Z._V[..., q:]
            xp = namespace(core)
            zero = zeros((*stack, below.shape[-2], beside.shape[-1]), core)
            core = xp.concat((xp.concat((core, beside), axis=-1), xp.concat((below, zero), axis=-1)), axis=-2)
        cores.append(core)
    return cores


def truncated_to(Y: Any, Z: Any) -> Any:
    """Z, which has orthonormal factors, truncated to the rank of Y; a dense member as it is."""
    if not isinstance(Z, LowRank):
        return Z
    return linalg.svd_truncate(Z, Z._U, Z.S, Z._V, 0.0, 0.0, Y.rank, Y.rank)[0]


def deferred_size(Ys: Members) -> Any:
    """:func:`state_norm`, as a 0-d array where the state defers."""
    return hypot(*map(deferred_norm, cores_of(Ys)))


def state_norm(Ys: Members) -> float:
    """‖Y‖ over all members, low-rank ones with orthonormal factors."""
    return math.hypot(*map(norm, cores_of(Ys)))


def where_not_finite(Ys: Members) -> str:
    """Name the members of a stack whose norms are not finite; an empty string for other states."""
    return of_stack(Ys[0]._U, Ys[0].S) if isinstance(Ys[0], LowRank) else ""


def with_cores(Ys: Members, cores: list[Array]) -> Members:
    """Ys with new cores in the same orthonormal bases; dense members are replaced."""
    return tuple(
        LowRank._make(Y._U, core, Y._V, BOTH) if isinstance(Y, LowRank) else core
        for Y, core in zip(Ys, cores, strict=True)
    )


def known_start(t: float, Ys: Members, field: Any) -> Steps[Members | None]:
    """Ask for F(t, Ys); None where the field has no values."""
    if getattr(field, "increments", False):
        return None
    (F0,) = yield [Ask("start", t, Ys)]
    return F0


def advanced(X: list[Array], dX: list[Array]) -> list[Array]:
    """X + dX, per unknown."""
    return [x + d for x, d in zip(X, dX, strict=True)]


def normal_component(Ys: Members, slopes: list[Array] | None) -> Any:
    """‖Ũᴴ F Ṽ‖ from the first slopes of the S-equation in augmented bases: the part of F that tangent vectors
    miss."""
    if slopes is None:
        return math.nan
    parts = [
        deferred_norm(F[..., Y._U.shape[-1] :, Y._V.shape[-1] :])
        for Y, F in zip(Ys, slopes, strict=True)
        if isinstance(Y, LowRank)
    ]
    return hypot(*parts)


def _sided(Y: LowRank, symmetric: bool) -> LowRank:
    """Y with V the very array U where it is Hermitian and the field symmetric, else with two arrays."""
    if symmetric:
        core = Y.S if Y._V is Y._U else Y.S @ (H(Y._V) @ Y._U)
        core = hermitian_part(core)
        size = norm(Y.S)
        same = Y._V is Y._U
        asymmetry = norm(Y.S - core) if same else (Y - LowRank._make(Y._U, core, Y._U)).norm()
        if asymmetry <= 100 * eps(core) * size:
            return LowRank._make(Y._U, core, Y._U, BOTH)
        if asymmetry <= 1e-6 * size:
            warnings.warn(
                f"the field is declared symmetric, but Y0 differs from its adjoint by {asymmetry / size:.1e} ‖Y0‖: "
                f"both sides are computed; start from (Y0 + Y0.H) / 2 to halve the cost",
                DlraWarning,
                stacklevel=5,
            )
    if Y._V is not Y._U:
        return Y
    return LowRank._make(Y._U, Y.S, namespace(Y._V).asarray(Y._V, copy=True), BOTH)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_shown(v) for v in value)})"
    value = weak(value)
    plain = value is None or isinstance(value, (bool, int, float, str)) or is_dataclass(value)
    return repr(value) if plain else getattr(value, "__qualname__", type(value).__qualname__)


def _is_sequence(value: Any) -> bool:
    return not isinstance(value, (int, float, str, type(None))) and isinstance(value, Sequence)


def _count(given: tuple[Any, ...]) -> int | None:
    counts = {len(g) for g in given if _is_sequence(g)}
    if len(counts) > 1:
        raise ValueError(f"rank options per member need one length, got lengths {sorted(counts)}")
    return counts.pop() if counts else None
