"""The public functions: solve, iterate, step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dlra import _checks as checks
from dlra import integrators
from dlra._checks import Event
from dlra._run import Run
from dlra._step import advance, rank_text, solve_error
from dlra.errors import SolveError, StageError
from dlra.field import Field
from dlra.integrators import Integrator
from dlra.solution import Solution, State

__all__ = ["iterate", "solve", "step"]


def solve(
    F: Any,
    t_span: Sequence[float],
    Y0: Any,
    method: str | Integrator = "augmented-bug",
    *,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t_eval: Any = None,
    args: tuple[Any, ...] = (),
    events: Event | Sequence[Event] | None = None,
    save: Callable[[State], Any] | None = None,
    callback: Callable[[State], Any] | None = None,
    progress: bool = False,
    max_steps: int | None = None,
    checkpoint: Any = None,
    resume: Any = None,
    throw: bool = True,
    rng: Any = None,
) -> Solution:
    """Solve the matrix differential equation Ẏ = F(t, Y), Y(t0) = Y0, on low-rank factors.

    Parameters
    ----------
    F : callable, Factored or SemiLinear
        A plain callable receives the dense array Y, shape (m, n), and returns one: any F works, at O(m n) a
        call. ``dlra.factored(F)`` receives the :class:`LowRank`, at O((m + n) r); :class:`dlra.SemiLinear`
        also declares a stiff linear part. With 2 + len(args) required positional parameters it is called
        ``F(t, Y, *args)``, with 1 + len(args) ``F(Y, *args)``. A coupled system receives and returns a list, and
        problems that are solved together an array of shape (b, m, n) or a :class:`LowRankStack`.
    t_span : (float, float)
        From t0 to t1; t1 < t0 goes backward.
    Y0 : LowRank, LowRankStack, or list of LowRank and arrays
        Initial value; a list makes a coupled system, a stack independent problems that share dt and the rank.
        Its library, device and dtype are those of the result.
    method : str or Integrator
        A name such as "augmented-bug", or an object such as ``dlra.AugmentedBUG(rtol=1e-6)``.
    dt : float, optional
        Step length, > 0. The last step before t1 (and before each time of ``t_eval``) is shortened to hit it.
        Without dt the steps are chosen.
    rtol, atol : float, optional
        Tolerances of the time step (not of the rank), refused together with dt; None for 1e-4 and 0. The errors
        of all steps may add up to about atol + rtol ‖Y‖. They are estimated by an embedded scheme of order 5 where
        the method has one, else by step doubling (three steps for two halves). A method with rank options but
        without a rank tolerance then truncates to 0.1 of what a step is allowed, bases are widened where much of F
        is normal to the tangent space, and steps that saturate their bases are repeated: the rank follows the
        tolerance. A rank tolerance that is given is kept as it is.
    t_eval : sequence of float, optional
        Times to store, landed on exactly. Default: every accepted state.
    args : tuple
        Extra arguments of F.
    events : Event or list of Event, optional
        See :class:`dlra.Event`.
    save : callable, optional
        ``save(state)`` is stored in ``Solution.saved`` instead of the state.
    callback : callable, optional
        ``callback(state)`` after each accepted step; the run stops where it returns True.
    progress : bool
        Show a progress bar: t, step, rank, error budget, remaining time. Needs rich
        (``pip install "dlra[cli]"``).
    max_steps : int, optional
        Fail when this many steps have not reached t1.
    checkpoint : path or Checkpoint, optional
        Write the state to this HDF5 file after the first step, every 10 s, at the end, on Ctrl-C and on
        failure.
    resume : path, optional
        Continue from a checkpoint with the bits of the uninterrupted run. Give the same arguments; t1 may
        differ.
    throw : bool
        Whether a failure raises (default) or returns the partial Solution with ``status == -1``.
    rng : Generator or int, optional
        Source of randomness for methods that draw; its state is kept in checkpoints.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError, TypeError
        Bad input, named with its value, what was expected and the remedy, before any work starts.
    SolveError
        A failure after that: an exception in F, NaN, blow-up, max_steps. Names t, step, rank and stage; the
        part already computed is its ``solution``.

    Notes
    -----
    Ctrl-C returns what has been computed, with ``status == 1``.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> A = np.asarray([[0.0, 1.0], [-1.0, 0.0]])
    >>> Y0 = dlra.LowRank.from_dense(np.eye(2)[:, :1] @ np.ones((1, 3)), rank=1)
    >>> sol = dlra.solve(dlra.factored(lambda Y: A @ Y), (0, 1), Y0, dt=0.01)
    >>> bool(abs(sol.y_final.to_dense()[0, 0] - np.cos(1)) < 1e-9)
    True
    """
    run = Run(
        F, t_span, Y0, method, dt=dt, rtol=rtol, atol=atol, t_eval=t_eval, args=args, events=events, save=save,
        callback=callback, max_steps=max_steps, checkpoint=checkpoint, resume=resume, rng=rng, keep=True,
    )  # fmt: skip
    states = run.states()
    if progress:
        from dlra._progress import shown

        states = shown(states, run.t0, run.t1)
    try:
        with contextlib.closing(states):
            for _ in states:
                pass
    except KeyboardInterrupt:
        run.interrupted()
    except SolveError as error:
        error.solution = run.solution(-1, str(error))
        if throw:
            raise
        return error.solution
    return run.solution(run.status, run.message)


def iterate(
    F: Any,
    t_span: Sequence[float],
    Y0: Any,
    method: str | Integrator = "augmented-bug",
    *,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t_eval: Any = None,
    args: tuple[Any, ...] = (),
    events: Event | Sequence[Event] | None = None,
    max_steps: int | None = None,
    checkpoint: Any = None,
    resume: Any = None,
    rng: Any = None,
) -> Iterator[State]:
    """Yield the states of a run one at a time: the initial one, then each accepted one.

    Parameters are those of :func:`solve`; with ``t_eval`` only the states at those times are yielded. Nothing
    is stored: ``solve`` only collects what this yields. Bad input raises at once, not at the first ``next``.

    Yields
    ------
    State

    Raises
    ------
    SolveError
        As :func:`solve`, with ``solution`` None.

    Examples
    --------
    >>> import numpy as np
    >>> import dlra
    >>> Y0 = dlra.LowRank.from_dense(np.ones((3, 2)), rank=1)
    >>> [round(state.t, 2) for state in dlra.iterate(lambda Y: -Y, (0, 0.2), Y0, dt=0.1)]
    [0.0, 0.1, 0.2]
    """
    run = Run(
        F, t_span, Y0, method, dt=dt, rtol=rtol, atol=atol, t_eval=t_eval, args=args, events=events, save=None,
        callback=None, max_steps=max_steps, checkpoint=checkpoint, resume=resume, rng=rng, keep=False,
    )  # fmt: skip
    return run.selected()


def step(
    F: Any,
    t: float,
    h: float,
    Y: Any,
    method: str | Integrator = "augmented-bug",
    *,
    args: tuple[Any, ...] = (),
) -> Any:
    """Do one step of a method from t to t + h; never retried.

    Parameters
    ----------
    F : callable, Factored or SemiLinear
        As in :func:`solve`.
    t, h : float
        h < 0 goes backward.
    Y : LowRank, LowRankStack, or list of LowRank and arrays
    method : str or Integrator
    args : tuple
        Extra arguments of F.

    Returns
    -------
    LowRank, LowRankStack or list
        The state at t + h, like Y.

    Raises
    ------
    ValueError, TypeError
        Bad input.
    SolveError
        A failure in the step.
    """
    t, h = checks.check_number(t, "t"), checks.check_number(h, "h")
    if not math.isfinite(t) or not math.isfinite(h) or h == 0:
        raise ValueError(f"t must be finite and h finite and nonzero, got t = {t} and h = {h}")
    Ys, system = checks.check_state(Y)
    integrator = integrators.by_name(method)
    field = Field(F, Ys, args, system)
    integrator.check(Ys, field)
    Ys = integrator.prepared(Ys, field)
    try:
        result = advance(integrator, field, t, h, Ys, first=True)
    except StageError as error:
        where = f"{integrator.name} failed in the step from t = {t:.10g} with h = {h:.6g}, {rank_text(Ys, system)}"
        raise solve_error(error, where) from error.__cause__
    return list(result.Ys) if system else result.Ys[0]
