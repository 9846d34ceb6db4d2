"""All processes of one leadertag, as a supervisor sees them: daemon, guardian, workers, hooks."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.tools.leadertag import Daemon

GUARDIAN = b"leadertag.daemon.guardian"


class Process:
    """One process, by a descriptor: a later process of the same id is never meant."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError when it has ended already."""
        self.pid = pid
        self.command = Path(f"/proc/{pid}/cmdline").read_bytes()
        self._fd = os.pidfd_open(pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; harmless when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def ended(self, timeout: float = 0.0) -> bool:
        """Whether it has ended, waiting for that so many seconds."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(timeout * 1000))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


@contextmanager
def unit_of(daemon: Daemon) -> Iterator[list[Process]]:
    """The daemon, which has to run, and all that it has started: it comes first."""
    found = [Process(daemon.process.pid)]
    try:
        for process in found:
            for child in _children(process.pid):
                with suppress(OSError):
                    found.append(Process(child))
        yield found
    finally:
        for process in found:
            process.close()


def guardian_in(unit: list[Process]) -> Process:
    """The guardian among them."""
    return next(process for process in unit if GUARDIAN in process.command)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            children += map(int, text.split())
    return children
