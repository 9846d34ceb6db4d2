"""Worker processes, started ahead: a failover does not wait for a Python to start.

There are two lanes that share no worker: the actions, and the informational hooks, so
that however many of these hang, no demotion waits for one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from leadertag.hooks.workers import TICK, Lane, WorkerProcess

_log = logging.getLogger("leadertag.hooks")

# A busy worker may well be free sooner than a new one has started (about 0.1 s).
_PATIENCE = 0.03


@dataclass
class _Crew:
    """The workers of one lane: ``keep`` are kept when idle, there are never more than ``most``."""

    keep: int
    most: int
    idle: list[WorkerProcess] = field(default_factory=list)
    count: int = 0
    hooks: set[str] = field(default_factory=set)


class WorkerPool:
    """The worker processes of this process, for all its elections.

    ``size`` workers for actions are kept, and one for informational hooks. When more
    elections act at once than there are workers, more are started, up to a bound; they
    end when they are not needed any more.
    """

    def __init__(self, size: int = 2) -> None:
        self._crews = {
            Lane.ACTION: _Crew(keep=size, most=max(16, size)),
            Lane.INFORMATION: _Crew(keep=1, most=4),
        }
        self._changed = threading.Condition()
        self._busy: set[WorkerProcess] = set()
        self._closed = False

    def announce(self, lane: Lane, use: str) -> None:
        """Tell of a hook that will be called, so that workers import it ahead."""
        self._crews[lane].hooks.add(use)

    def warm(self) -> None:
        """Start workers ahead, for every lane that a hook was announced for; does not wait."""
        for lane, crew in self._crews.items():
            while crew.hooks and self._reserve(crew, crew.keep):
                worker = self._start(lane)
                if worker is None:
                    break
                self._put_back(worker)

    def wait_warm(self, timeout: float) -> bool:
        """Wait for the workers that were started ahead for actions.

        Until they have started and imported, a hook's time limit would have to cover that too.
        Returns whether all of them have; ``False`` when one has not within ``timeout`` seconds,
        or has ended.
        """
        deadline, crew = time.monotonic() + timeout, self._crews[Lane.ACTION]
        taken: list[WorkerProcess] = []
        try:
            while (worker := self._take_idle(crew)) is not None:
                taken.append(worker)
            return all([worker.await_ready(deadline) for worker in taken])
        finally:
            for worker in taken:
                self.give(worker)

    def _take_idle(self, crew: _Crew) -> WorkerProcess | None:
        with self._changed:
            return self._idle(crew)

    def take(
        self, lane: Lane, deadline: float, stop: Callable[[], bool] = lambda: False
    ) -> WorkerProcess | None:
        """Return a worker that nobody else uses until it is given back with :meth:`give`.

        ``None`` when there was none by the deadline (monotonic seconds; see ``inf``), when
        ``stop()`` became true (call :meth:`wake`), or when none can be started.
        """
        crew = self._crews[lane]
        patience = time.monotonic() + _PATIENCE
        while True:
            with self._changed:
                while not (self._closed or stop()):
                    worker = self._idle(crew)
                    if worker:
                        return worker
                    now = time.monotonic()
                    if now >= deadline:
                        return None
                    if crew.count < crew.most and (now >= patience or crew.count < crew.keep):
                        crew.count += 1
                        break
                    rest = deadline - now if now >= patience else min(deadline, patience) - now
                    self._changed.wait(min(rest, TICK))
                else:
                    return None
            return self._start(lane)

    def wake(self) -> None:
        """Let every waiting :meth:`take` look at its ``stop`` again."""
        with self._changed:
            self._changed.notify_all()

    def give(self, worker: WorkerProcess) -> None:
        """Take a worker back. One that was ended is replaced, one too many is let go."""
        crew = self._crews[worker.lane]
        usable = worker.usable
        with self._changed:
            spare = self._closed or len(crew.idle) >= crew.keep
            if usable and not spare:
                self._busy.discard(worker)
                crew.idle.append(worker)
                self._changed.notify()
                return
        self._let_go(worker)
        if not usable and self._reserve(crew, crew.keep):
            replacement = self._start(worker.lane)
            if replacement:
                self._put_back(replacement)

    def close(self) -> None:
        """End all workers; calls that are running fail."""
        with self._changed:
            self._closed = True
            busy = list(self._busy)
            idle = [worker for crew in self._crews.values() for worker in crew.idle]
            for crew in self._crews.values():
                crew.count -= len(crew.idle)
                crew.idle.clear()
            self._changed.notify_all()
        for worker in busy:
            worker.kill()  # whoever uses it gives it back, which closes it
        for worker in idle:
            worker.close()

    def _idle(self, crew: _Crew) -> WorkerProcess | None:
        while crew.idle:
            # One that is still starting only where there is no other.
            worker = next((one for one in reversed(crew.idle) if one.ready), crew.idle[-1])
            crew.idle.remove(worker)
            self._busy.add(worker)
            if worker.usable:
                return worker
            _log.warning("idle worker process %d has ended unexpectedly", worker.pid)
            self._busy.discard(worker)
            crew.count -= 1
            worker.end()
            worker.close()
        return None

    def _reserve(self, crew: _Crew, bound: int) -> bool:
        with self._changed:
            if self._closed or crew.count >= bound:
                return False
            crew.count += 1
            return True

    def _start(self, lane: Lane) -> WorkerProcess | None:
        """Start a worker whose place was reserved; it counts as busy."""
        crew = self._crews[lane]
        try:
            worker = WorkerProcess(lane, sorted(crew.hooks))
        except OSError as error:
            _log.error("no worker process can be started: %s", error.strerror or error)
            with self._changed:
                crew.count -= 1
            return None
        with self._changed:
            self._busy.add(worker)
        return worker

    def _put_back(self, worker: WorkerProcess) -> None:
        crew = self._crews[worker.lane]
        with self._changed:
            if not self._closed:
                self._busy.discard(worker)
                crew.idle.append(worker)
                self._changed.notify()
                return
        self._let_go(worker)

    def _let_go(self, worker: WorkerProcess) -> None:
        with self._changed:
            self._busy.discard(worker)
            self._crews[worker.lane].count -= 1
            self._changed.notify()
        if not worker.usable:
            worker.end()
        worker.close()
