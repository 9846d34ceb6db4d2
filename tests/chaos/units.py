"""Processes of a node, and who starts them again: what systemd is on a real host."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos.clock import now
from tests.chaos.evidence import Writer
from tests.tools.processes import ServerFailed, ServerProcess

TEND_EVERY = 0.05
"""Seconds between two looks at whether everything runs that should."""


class Unit:
    """One process that is started again some seconds after it ended, unless it is held down.

    Any thread may call it. Whatever happens to the process is written down.
    """

    def __init__(
        self, node: str, kind: str, argv: Sequence[str], folder: Path, journal: Writer, *,
        back_after: float, env: Mapping[str, str] | None = None,
        on_start: Callable[[int], None] = lambda pid: None,
    ) -> None:  # fmt: skip
        self.node, self.kind = node, kind
        self.process = ServerProcess(argv, folder / f"{kind}.log", name=f"{kind}-{node}", env=env)
        self._journal = journal
        self._back_after = back_after
        self._on_start = on_start
        self._mutex = threading.RLock()
        self._wanted = False
        self._ended_at: float | None = None

    def start(self) -> None:
        """Start it, unless it runs, and keep it running."""
        with self._mutex:
            self._wanted = True
            self._note_end()
            if not self.process.running:
                self.process.start()
                self._ended_at = None
                self._on_start(self.process.pid)
                self._note("up", pid=self.process.pid)

    def hold_down(self) -> None:
        """Do not start it again before `start`."""
        self._wanted = False

    def tend(self) -> None:
        """Start it again if it is time."""
        with self._mutex:
            self._note_end()
            due = None if self._ended_at is None else self._ended_at + self._back_after
            if self._wanted and due is not None and now() >= due:
                self.start()

    def kill(self) -> None:
        """SIGKILL to the process alone, and wait for its end."""
        with self._mutex, suppress(ServerFailed):
            self.process.signal(signal.SIGKILL)
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            self._note_end()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing when it has ended."""
        with self._mutex, suppress(ServerFailed):
            self.process.signal(number)

    def pause(self) -> None:
        """SIGSTOP; returns when it has stopped."""
        with self._mutex, suppress(ServerFailed):
            self.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        with self._mutex:
            self.process.resume()

    def close(self) -> None:
        """End it with all of its group, for good."""
        with self._mutex:
            self._wanted = False
            self.process.kill()

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self.process.running

    def _note_end(self) -> None:
        started = self.process.exit_status is not None
        if started and self._ended_at is None:
            self._ended_at = now()
            self._note("down", status=self.process.exit_status)

    def _note(self, what: str, **fields: Any) -> None:
        self._journal.write("unit", node=self.node, unit=self.kind, what=what, **fields)


class Tender:
    """The thread that tends all units."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Tend no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TEND_EVERY):
            for unit in self._units:
                unit.tend()


def marked(mark: str, word: bytes) -> list[int]:
    """Processes whose environment has the mark and whose command line has the word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            named = word in (folder / "cmdline").read_bytes()
            if named and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return sorted(found)
