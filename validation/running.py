"""Run checks, unbroken and with every mutant that they meet, in worker processes."""

from __future__ import annotations

import importlib
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, get_context
from typing import Any

import numpy as np

from validation import checks as kinds
from validation import statements
from validation.checks import Check, Fate, Result

__all__ = ["Run", "chosen", "run_check"]


@dataclass
class Run:
    """What is known of a run so far: results by module and check.

    Attributes
    ----------
    quick : bool
    wanted : dict
        Checks by module, in order.
    failed_modules : dict
        Modules that could not be imported, with the reason.
    results : dict
        By name of the check.
    """

    quick: bool
    wanted: dict[str, list[Check]]
    failed_modules: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    whole: bool = True
    """Whether all statements were asked for."""
    interrupted: bool = False
    started: float = field(default_factory=time.time)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every wanted check has a result."""
        return not self.interrupted and all(c.name in self.results for c in self.checks())

    def checks(self) -> Iterator[Check]:
        """All wanted checks."""
        for several in self.wanted.values():
            yield from several

    def as_expected(self, check: Check) -> bool:
        """Whether the verdict of a check is the recorded one, and it could have been another."""
        result = self.results.get(check.name)
        if result is None or result.verdict != check.expect:
            return False
        return bool(result.kills) != bool(check.cannot_fail)

    def complaints(self) -> list[str]:
        """Everything that is not as recorded: reasons for a failure of the run."""
        found = [f"{module}: cannot be imported: {why}" for module, why in self.failed_modules.items()]
        for check in self.checks():
            result = self.results.get(check.name)
            if result is None:
                continue
            if result.verdict != check.expect:
                why = f" ({result.reason})" if result.reason else _first_wrong(result)
                found.append(f"{check.name}: {result.verdict}, expected: {check.expect}{why}")
            elif not result.kills and not check.cannot_fail:
                found.append(f"{check.name}: kills no broken variant, so it could not fail")
            elif result.kills and check.cannot_fail:
                found.append(
                    f"{check.name}: is recorded as unable to fail, but kills {', '.join(result.kills)}"
                )
        if self.whole and self.complete:
            found += [f"the mutant {name!r} is killed by no check" for name in self.immortal()]
        return found

    def killers(self) -> dict[str, list[str]]:
        """Per mutant the names of the checks that kill it."""
        from validation.mutants import MUTANTS

        killers: dict[str, list[str]] = {name: [] for name in MUTANTS}
        for check in self.checks():
            for name in self.results[check.name].kills if check.name in self.results else []:
                killers[name].append(check.name)
        return killers

    def immortal(self) -> list[str]:
        """Mutants that no check kills."""
        return [name for name, by in self.killers().items() if not by]


def chosen(names: Sequence[str], quick: bool) -> Run:
    """The run of these modules or checks; of all of them where no name is given.

    Raises
    ------
    ValueError
        A name that is none; the message lists them.
    """
    run = Run(quick, {}, whole=not names)
    known: list[str] = []
    left = set(names)
    for module in statements.modules():
        try:
            several = statements.checks(module)
        except (Exception, SystemExit) as error:
            run.failed_modules[module] = f"{type(error).__name__}: {error}"
            known.append(module)
            left.discard(module)
            continue
        known += [module, *(c.name for c in several)]
        wanted = [c for c in several if not names or module in names or c.name in names]
        if wanted:
            run.wanted[module] = wanted
        left -= {module, *(c.name for c in several)}
    if left:
        unknown = ", ".join(repr(name) for name in sorted(left))
        raise ValueError(f"no statement or check of the name {unknown}; there are: {', '.join(known)}")
    if names:
        run.failed_modules = {m: why for m, why in run.failed_modules.items() if m in names}
    return run


def run_check(module: str, name: str, quick: bool) -> Result:
    """Run one check, unbroken and then with every mutant that it meets."""
    from validation.mutants import broken, touched

    importlib.import_module(f"validation.statements.{module}")
    check = next(c for c in statements.checks(module) if c.name == name)
    begun = time.perf_counter()
    result = Result(name, kinds.BROKEN)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            with touched() as met:
                result.findings = list(check.measure(quick))
            for f in result.findings:
                if not isinstance(f, kinds.Finding):
                    raise TypeError(f"a check must yield findings, got {type(f).__name__}")
            result.verdict = kinds.verdict(result.findings, check.expect)
        except (Exception, SystemExit) as error:
            result.findings = [f for f in result.findings if isinstance(f, kinds.Finding)]
            result.reason = f"{type(error).__name__}: {error} [{_where(error)}]"
            result.seconds = time.perf_counter() - begun
            return result
        if not result.findings:
            result.reason = "it yields no finding"
        for mutant in sorted(met):
            with broken(mutant):
                result.mutants.append(_fate(mutant, check, quick))
    result.seconds = time.perf_counter() - begun
    return result


def _fate(mutant: str, check: Check, quick: bool) -> Fate:
    """Run a check with a mutant until the first finding that is wrong."""
    try:
        for finding in check.measure(quick):
            if not finding.ok:
                return Fate(mutant, "killed", finding.label)
    except (Exception, SystemExit) as error:
        return Fate(mutant, "raises", f"{type(error).__name__}: {error}")
    return Fate(mutant, "survives")


def execute(run: Run, jobs: int, after: Callable[[Check, Result], None]) -> None:
    """Run everything that is wanted in so many worker processes; ``after`` is called with each result as it comes.

    Ctrl-C, or SIGTERM, ends the run, and what is finished stays. The workers ignore Ctrl-C: inside a check the solver
    would take it for the user's wish to stop there. Where a worker dies, the checks that were running go on alone, so
    that the one which kills its worker is known; the others follow. With ``jobs=0`` all run in this process, for a
    debugger.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for the workers, which are started afresh
    left = [(module, check) for module, several in run.wanted.items() for check in several]

    def done(check: Check, result: Result) -> None:
        run.results[check.name] = result
        run.seconds = time.time() - run.started
        after(check, result)

    before = signal.signal(signal.SIGTERM, _stop)
    try:
        if jobs == 0:
            for module, check in left:
                done(check, run_check(module, check.name, run.quick))
            return
        while left:
            for task in _execute(run.quick, jobs, left, done):
                if _execute(run.quick, 1, [task], done):
                    done(task[1], Result(task[1].name, kinds.BROKEN, reason="its process died"))
            left = [(module, check) for module, check in left if check.name not in run.results]
    except KeyboardInterrupt:
        run.interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


Task = tuple[str, Check]


def _execute(quick: bool, jobs: int, tasks: list[Task], done: Callable[[Check, Result], None]) -> list[Task]:
    """Run the tasks until all are done or a worker dies; the tasks that were running then are returned."""
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=ignore)
    waiting, running = list(reversed(tasks)), dict[Future[Result], Task]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                module, check = waiting.pop()
                running[pool.submit(run_check, module, check.name, quick)] = (module, check)
            for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                if isinstance(future.exception(), BrokenProcessPool):
                    return list(running.values())
                _, check = running.pop(future)
                done(check, _result(check.name, future))
        return []
    except BaseException:
        for worker in active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(name: str, future: Future[Result]) -> Result:
    try:
        return future.result()
    except Exception as error:  # a result that cannot be sent
        return Result(name, kinds.BROKEN, reason=f"{type(error).__name__}: {error}")


def _where(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(last.filename)}, line {last.lineno}"


def _first_wrong(result: Result) -> str:
    wrong: list[Any] = [f for f in result.findings if not f.ok]
    if not wrong:
        return ""
    f = wrong[0]
    if f.kind == "slope":
        return f" ({f.label}: slope {f.seen:.2f}, wanted {f.wanted:g})"
    return f" ({f.label}: left {f.left:.3e}, right {f.right:.3e})"
