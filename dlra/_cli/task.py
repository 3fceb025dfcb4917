"""What ``dlra solve`` does: check the arguments, run, and keep observables at many steps and states at few."""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dlra
from dlra import problems
from dlra._cli.record import Recorder, step_count
from dlra._cli.settings import Settings, check_files, check_times, method_of, parse_options
from dlra.backend import to_host
from dlra.errors import DlraWarning, SolveError
from dlra.solution import Solution

_REFERENCE = 1_000_000  # matrices of more entries are not compared with the reference unless asked for
_SMALL = 2000  # up to so many rows and columns one thread is fastest
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    task: Task
    series: Solution
    """Ranks, errors and, as ``saved``, observables over time; no states but the final one."""
    stored: Solution
    """The stored states."""
    seconds: float
    reference_error: float | None
    """Relative distance (Frobenius) of the end from the reference solution; None where there is none."""
    warnings: list[str]
    failure: SolveError | None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return self.series.status == 1 and self.series.message.startswith("Interrupted")


class Task:
    """A problem, a method and what to record: everything is checked when it is made."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.options = parse_options(settings.options)
        check_times(settings)
        check_files(settings)
        if settings.backend == "jax" and settings.dtype not in ("float32", "complex64"):
            _double_precision_in_jax()
        self.problem = self._make_problem()
        defaults = self.problem.defaults
        self.method = method_of(settings, defaults)
        self.dt = settings.dt
        if self.dt is None and not settings.adaptive:
            self.dt = defaults["dt"]
        t0, t1 = self.problem.t_span
        self.t_span = (t0, t1 if settings.t_end is None else settings.t_end)
        self.Y0 = self.problem.Y0(defaults["rank"] if settings.rank is None else settings.rank)
        self.checkpoint = None
        if settings.checkpoint is not None:
            self.checkpoint = dlra.Checkpoint(settings.checkpoint, every=float(settings.checkpoint_every))
        self.start: float | None = None
        """Where the run to resume had stopped."""
        if settings.resume is not None:
            self.start = self._check_resume(settings.resume)

    def run(self) -> Outcome:
        """Run; a failure on the way is part of the outcome."""
        settings, failure = self.settings, None
        steps = step_count(self.t_span, self.dt)
        record = Recorder(
            self.problem, steps, identity=self.identity(), states=settings.states, every=settings.every,
            t_span=self.t_span, resumed_at=self.start,
        )  # fmt: skip
        with _noted_warnings() as noted, _limited_threads(settings.threads, self.problem.shape):
            start = time.perf_counter()
            try:
                solution = dlra.solve(
                    self.problem.F, self.t_span, self.Y0, self.method, dt=self.dt, rtol=settings.rtol,
                    atol=settings.atol, save=record, progress=settings.progress, checkpoint=self.checkpoint,
                    resume=settings.resume, max_steps=settings.max_steps, rng=settings.seed,
                )  # fmt: skip
            except SolveError as error:
                if error.solution is None:
                    raise
                solution, failure = error.solution, error
            seconds = time.perf_counter() - start
            series, stored = record.split(solution)
            distance = self._reference_error(solution) if failure is None else None
        return Outcome(self, series, stored, seconds, distance, noted, failure)

    def identity(self) -> dict[str, Any]:
        """What tells this task from others, kept in checkpoints."""
        options = {name: repr(value) for name, value in self.options.items()}
        return {"problem": self.problem.name, "options": options, "rank": self.Y0.rank}

    def _make_problem(self) -> problems.Problem:
        settings = self.settings
        place = {"backend": settings.backend, "dtype": settings.dtype, "device": settings.device}
        try:
            return problems.get(settings.problem, **self.options, **place)
        except (RuntimeError, AssertionError) as error:  # how array libraries refuse a device they cannot use
            if settings.device is None:
                raise
            reason = f"{type(error).__name__}: {str(error).partition('. ')[0]}"
            raise ValueError(
                f"--device {settings.device}: {settings.backend} cannot use it ({reason})"
            ) from error

    def _check_resume(self, path: Path) -> float:
        """Refuse a checkpoint of another problem, the rest is compared by solve; return the time it has reached."""
        from dlra.checkpoint import check_resume

        checkpoint = check_resume(path)
        saved = checkpoint["record"]["saved"]
        found = saved[0].get("task") if saved and isinstance(saved[0], dict) else None
        if found is None:
            raise ValueError(f"--resume: {path} was not written by 'dlra solve --checkpoint'")
        for key, value in self.identity().items():
            if found.get(key) != value:
                raise ValueError(
                    f"--resume: {path} is of a run with {key} {found.get(key)}, this run has {value}"
                )
        return checkpoint["t"]

    def _reference_error(self, solution: Solution) -> float | None:
        wanted = self.settings.reference
        if wanted is None:
            wanted = math.prod(self.problem.shape) <= _REFERENCE
        try:
            reference = self.problem.reference(solution.t_final) if wanted else None
        except (ValueError, KeyboardInterrupt):  # it does not reach there (t < 0), or it takes too long
            return None
        if reference is None:
            return None
        exact = to_host(reference)
        error = float(np.linalg.norm(to_host(solution.y_final.to_dense()) - exact))
        return error / (float(np.linalg.norm(exact)) or 1.0)


def _double_precision_in_jax() -> None:
    """Let JAX compute in double precision: a decision of this application, not of the library."""
    with contextlib.suppress(ImportError):  # that JAX is missing is told where it is used
        import jax

        jax.config.update("jax_enable_x64", True)


@contextlib.contextmanager
def _noted_warnings() -> Iterator[list[str]]:
    """Collect the texts of warnings of this library, each once; others are of no use to who types a command."""
    texts: list[str] = []

    def note(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, DlraWarning) and str(message) not in texts:
            texts.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield texts


def _limited_threads(threads: int | None, shape: tuple[int, int]) -> contextlib.AbstractContextManager[Any]:
    """Limit the threads of the BLAS libraries, which on small matrices mostly wait for each other."""
    if threads is not None:
        return limited_threads(threads, required=True)
    few = max(shape) <= _SMALL and not any(name in os.environ for name in _THREAD_VARIABLES)
    return limited_threads(1) if few else contextlib.nullcontext()


def limited_threads(threads: int, *, required: bool = False) -> contextlib.AbstractContextManager[Any]:
    """Limit the threads of the BLAS libraries; without threadpoolctl this does nothing, or is an error."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        if required:
            raise ImportError('--threads needs threadpoolctl: pip install "dlra[fast]"') from None
        return contextlib.nullcontext()
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be limited)

    return threadpool_limits(threads)
