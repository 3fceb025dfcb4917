"""The threads of BLAS: how many there are, and one while small matrices are at work.

NumPy and SciPy bring a BLAS each, with threads of their own. Those of one that has done something large go on waiting
for work for some milliseconds, on processors that the other one wants; and matrices of a few thousand entries gain
nothing from a second thread but the cost of waking it. So LAPACK routines, which are SciPy's, run on one thread, and
so do all products of a small problem. What the caller has set is put back after every step, and seen by other threads
that integrate at the same time only as long as a step of any of them lasts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any


def lapack_has_one() -> bool:
    """Whether SciPy's BLAS runs on one thread, or is that of NumPy."""
    pools = _pools()
    return pools is not None and all(pool.threads == 1 for pool in pools[1])


def blas_threads() -> int:
    """Threads of NumPy's BLAS; 1 where that cannot be told."""
    pools = _pools()
    return 1 if pools is None else max((pool.threads for pool in pools[0]), default=1)


class one_thread:
    """A context in which SciPy's BLAS runs on one thread; where ``everything`` is true, NumPy's as well."""

    __slots__ = ("_held", "_pools")

    def __init__(self, everything: bool):
        pools = _pools() or ((), ())
        self._pools = pools[0] + pools[1] if everything else pools[1]
        self._held = False

    def __enter__(self) -> None:
        self._held = True
        for pool in self._pools:
            pool.hold(id(self))

    def __exit__(self, *_: object) -> None:
        for pool in self._pools:
            pool.release(id(self))
        self._held = False

    def __del__(self) -> None:
        if self._held:
            self.__exit__()  # Ctrl-C may come between __enter__ and what follows it


class _Pool:
    """The threads of one BLAS library, and who wants it to have one."""

    def __init__(self, controller: Any):
        self._lock, self._get = threading.Lock(), controller.get_num_threads
        # The public setter of threadpoolctl ignores all threads but the first that calls it.
        self._set = getattr(controller, "_real_set_num_threads", controller.set_num_threads)
        self._holders: set[int] = set()
        self._before = 1
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    @property
    def threads(self) -> int:
        return self._get()

    def hold(self, holder: int) -> None:
        with self._lock:
            if not self._holders:
                self._before = self.threads
            self._holders.add(holder)
            if self._before != 1:
                self._set(1)

    def release(self, holder: int) -> None:
        with self._lock:
            if holder not in self._holders:
                return
            self._holders.remove(holder)
            if not self._holders and self._before != 1:
                self._set(self._before)

    def _forked(self) -> None:
        """The steps of the parent are not those of the child."""
        self._lock = threading.Lock()
        if self._holders:
            self._holders.clear()
            self._set(self._before)


@lru_cache(maxsize=1)
def _pools() -> tuple[tuple[_Pool, ...], tuple[_Pool, ...]] | None:
    """The BLAS of NumPy and that of SciPy (which may be the same); None without threadpoolctl."""
    import scipy.linalg  # noqa: F401 - loads its BLAS

    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    found = [pool for pool in ThreadpoolController().lib_controllers if pool.user_api == "blas"]
    own = [pool for pool in found if "scipy.libs" in (pool.filepath or "")]
    return tuple(_Pool(pool) for pool in found if pool not in own), tuple(map(_Pool, own))


def share(count: int, work: Callable[[int], object]) -> None:
    """Call ``work(0)``, ..., ``work(count - 1)`` at the same time, with BLAS on one thread for each of them.

    The caller's thread does the first one. An exception of any is raised when all have ended.
    """
    if count == 1:
        work(0)
        return
    with one_thread(everything=True), ThreadPoolExecutor(count - 1) as pool:
        others = [pool.submit(work, i) for i in range(1, count)]
        work(0)
    for other in others:
        other.result()
