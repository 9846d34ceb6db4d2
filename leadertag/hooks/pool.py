"""Worker processes, started ahead: a failover does not wait for a Python to start.

There are two lanes that share no worker: the actions, and the informational hooks, so
that however many of these hang, no demotion waits for one.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from leadertag.hooks.processes import end_tree, status_text
from leadertag.hooks.wire import Channel, Message

_log = logging.getLogger("leadertag.hooks")

# A busy worker may well be free sooner than a new one has started (about 0.1 s).
_PATIENCE = 0.03
# A waiting or reading thread looks this often for what it was not woken for.
_TICK = 0.25
# How long the end of a killed process is waited for, and how often it is looked for.
_REAP, _REAP_TICK = 1.0, 0.001
_SEND = 1.0
_KEPT_OUTPUT = 8 * 1024


class Lane(Enum):
    """Which hooks share workers."""

    ACTION = "action"
    INFORMATION = "information"


class WorkerLost(Exception):
    """The worker process ended in the middle of a call."""

    def __init__(self, how: str, *, began: bool) -> None:
        """``began`` is whether the hook had begun to run."""
        super().__init__(how)
        self.began = began


class CallOverdue(Exception):
    """The deadline of a call passed."""


class WorkerProcess:
    """One worker process as the daemon sees it. One thread uses it; any may end it."""

    def __init__(self, lane: Lane, hooks: list[str]) -> None:
        """Start it and let it import some hooks; raises OSError. Does not wait for it."""
        self.lane = lane
        mine, theirs = socket.socketpair()
        reading, writing = os.pipe()
        arguments = [str(theirs.fileno()), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                # -P: a module in the working directory must not be taken for a library.
                [sys.executable, "-P", "-m", "leadertag.hooks.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            mine.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        os.set_blocking(reading, False)
        mine.settimeout(_SEND)
        self._output = reading
        self._channel = Channel(mine)
        self._groups: set[int] = set()
        self._began = False
        self._ending = threading.Lock()
        self._ended = False
        with suppress(OSError):  # whoever calls a worker that died at once will be told
            self._channel.send({"do": "preload", "path": sys.path, "hooks": hooks})

    @property
    def pid(self) -> int:
        """The process id, which is also its session and process group."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether the process still runs and was not ended on purpose."""
        return not self._ended and not self._gone()

    def call(
        self, request: Message, deadline: float, on_output: Callable[[bytes], None]
    ) -> Message:
        """Send a request and return its reply.

        Raises WorkerLost when the process ended, CallOverdue at the deadline (monotonic
        seconds). The process must then be ended; it may still be running the hook.
        """
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLIN)
        poller.register(self._output, select.POLLIN)
        reply = None
        self._began = False
        try:
            self._channel.send(request)
            while reply is None:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    raise CallOverdue
                # Asked before reading: what it said before its end is still to be read.
                gone = self._gone()
                ready = poller.poll(0 if gone else min(rest, _TICK) * 1000)
                if any(fd == self._channel.fileno() for fd, _ in ready):
                    reply = self._reply(self._channel.receive())
                elif gone:
                    raise EOFError
                self._drain(on_output)
        except (EOFError, OSError, ValueError) as error:
            raise WorkerLost(self._how_it_ended(), began=self._began) from error
        finally:
            self._drain(on_output)
        return reply

    def _reply(self, messages: list[Message]) -> Message | None:
        reply = None
        for message in messages:
            if "group" in message:
                group = message["group"]
                if not isinstance(group, int) or group == os.getpgrp():
                    raise ValueError(f"a worker's process group cannot be {group!r}")
                change = self._groups.add if message.get("running") else self._groups.discard
                change(group)
            elif "began" in message:
                self._began = True
            elif isinstance(message.get("ok"), bool):
                reply = {"message": "", **message}
            else:
                raise ValueError("a worker sent what is no reply")
        return reply

    def _drain(self, on_output: Callable[[bytes], None]) -> None:
        # Bounded, since a process that never stops writing must not keep us here.
        for _ in range(16):
            try:
                data = os.read(self._output, 64 * 1024)
            except OSError:
                return
            if not data:
                return
            on_output(data)

    def _gone(self) -> bool:
        """Whether the process has ended; leaves it unreaped, so that its id stays its own."""
        if self._process.returncode is not None:
            return True
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return True

    def _how_it_ended(self) -> str:
        self.end()
        status = self._process.returncode
        return "did not end" if status is None else status_text(status)

    def kill(self) -> None:
        """Kill it with all that runs on its behalf; harmless when it has ended. Never waits."""
        with self._ending:
            self._ended = True
            # Only while its process id is still its own.
            if self._process.returncode is None:
                end_tree(self.pid, [self.pid, *self._groups])

    def end(self) -> None:
        """Kill it, and wait for its end."""
        self.kill()
        self._reap()

    def close(self) -> None:
        """Give everything back, when no thread uses it any more. An idle one ends by itself:

        what its hooks left running on purpose is not touched.
        """
        self._channel.close()
        if not self._reap():
            with self._ending:
                self._ended = True
                self._process.kill()
            self._reap()
        os.close(self._output)

    def _reap(self) -> bool:
        deadline = time.monotonic() + _REAP
        while not self._gone() and time.monotonic() < deadline:
            # Waits without the lock, so that a kill from elsewhere is never kept waiting.
            time.sleep(_REAP_TICK)
        with self._ending:
            return self._process.poll() is not None


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
                    self._changed.wait(min(rest, _TICK))
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
            worker = crew.idle.pop()
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
