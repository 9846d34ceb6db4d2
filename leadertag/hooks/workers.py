"""One worker process, as whoever has started it sees it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from leadertag.hooks.processes import end_tree, status_text
from leadertag.hooks.wire import Channel, Message

TICK = 0.25
"""Seconds after which a waiting or reading thread looks for what it was not woken for."""
# How long the end of a killed process is waited for, and how often it is looked for.
_REAP, _REAP_TICK = 1.0, 0.001
_SEND = 1.0


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
        self._ready = False
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

    @property
    def ready(self) -> bool:
        """Whether it has imported what it was told to. Only for whoever uses it, or the pool."""
        return self.await_ready(0.0)

    def await_ready(self, deadline: float) -> bool:
        """Wait until it has started; returns whether it has by then (monotonic seconds)."""
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLIN)
        while not self._ready:
            rest = max(0.0, deadline - time.monotonic())
            try:
                if not poller.poll(rest * 1000):
                    return False
                self._reply(self._channel.receive())
            except (EOFError, OSError, ValueError):
                return False  # it has ended: whoever calls it is told
        return True

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
                ready = poller.poll(0 if gone else min(rest, TICK) * 1000)
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
            elif "ready" in message:
                self._ready = True
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
