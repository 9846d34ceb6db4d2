"""Starts, ends and stops server processes so that none outlives the tests.

A process is only ever signalled by the Popen that started it (or its group, while
that Popen still keeps the id from being used again).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

POLL_INTERVAL = 0.02  # seconds
_TAIL_BYTES = 4000

# Run between setpriv and the server: when the tests died before the death signal was
# set, none will come, and the parent is another by now.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'

# The kernel's parent-death signal follows the *thread* that forked. One thread that
# lives as long as the interpreter forks for all, so that a test may start servers
# from a short-lived thread of its own.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class ServerFailed(Exception):
    """A server ended early or did not become ready; the message ends with its log."""


def wait_until(
    predicate: Callable[[], object], timeout: float, what: str, interval: float = POLL_INTERVAL
) -> None:
    """Polls until the predicate is true; AssertionError naming `what` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)


class ServerProcess:
    """One server process in a group of its own, its output in a log file.

    SIGKILL reaches it when the test process dies, however that dies.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`env` is added to the environment of the tests. Starts nothing yet."""
        self.argv = [str(word) for word in argv]
        self.log = log
        self.name = name or Path(self.argv[0]).name
        self._env = env or {}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int:
        """The process id; ServerFailed before the first start."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """As Popen.returncode; None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Starts the process and returns at once; see `wait_ready`."""
        if self.running:
            raise ServerFailed(f"{self.name} is running already")
        self._paused = False
        self._process = _spawner.submit(self._spawn).result()

    def wait_ready(self, ready: Callable[[], object], timeout: float = 15.0) -> None:
        """Waits until `ready()` is true; an OSError from it counts as not yet.

        Raises ServerFailed, with the tail of the log, when the process ends or
        `timeout` seconds pass.
        """
        deadline = time.monotonic() + timeout
        while not _answers(ready):
            if not self.running:
                raise self._failure(f"ended with status {self.exit_status}")
            if time.monotonic() >= deadline:
                raise self._failure(f"not ready within {timeout:g} s")
            time.sleep(POLL_INTERVAL)

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, as an init system would; SIGKILL when that takes longer than `timeout`."""
        if not self.running:
            return
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            self._started().wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self._paused = False

    def kill(self) -> None:
        """SIGKILL to the whole group, and waits for the end. Harmless when it has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._paused = False

    def pause(self) -> None:
        """SIGSTOP; returns when the process has stopped."""
        self.signal(signal.SIGSTOP)
        # WNOWAIT leaves an exit to Popen, should the process end right now.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT after `pause`; harmless otherwise."""
        if self._paused and self.running:
            self.signal(signal.SIGCONT)
        self._paused = False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone; ServerFailed when it has ended."""
        process = self._started()
        if process.poll() is not None:
            raise self._failure(f"has ended with status {process.returncode}")
        process.send_signal(number)

    def log_tail(self) -> str:
        """The last 4,000 bytes of the log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL_BYTES))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ServerFailed("setpriv (util-linux) is needed to start servers")
        # Each executes the next in its own place: the process id stays. This instead of
        # preexec_fn, which is unsafe in a process with threads.
        shell = ("sh", "-c", _UNLESS_ORPHANED, str(os.getpid()))
        launcher = (setpriv, "--pdeathsig", "KILL", "--", *shell)
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [*launcher, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                cwd=self._cwd,
                process_group=0,
            )

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed(f"{self.name} was never started")
        return self._process

    def _failure(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self.name} {what}; end of {self.log}:\n{self.log_tail()}")


def _answers(ready: Callable[[], object]) -> bool:
    try:
        return bool(ready())
    except OSError:
        return False
