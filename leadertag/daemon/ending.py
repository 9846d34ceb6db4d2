"""Making sure that a daemon does not act any more: neither itself nor a hook of its own.

The daemon is ended through a pidfd. Its workers end themselves, with the hook that they
run, as soon as it is gone; but not while they are stopped (SIGSTOP to the whole unit, a
debugger), and the command of a ``promote`` would then run on beside the demotion. So they
are continued, waited for, and ended if need be. What a hook has left running when it was
done is not touched, as always.

Nothing but the standard library is imported: the guardian lives on little.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

REAP = 5.0
"""Seconds that the end of a killed daemon is waited for."""
WORKERS_REAP = 0.5
"""Seconds that its workers have to end by themselves: they need a few milliseconds."""
_WORKER = b"leadertag.hooks.worker"


def pid_of(pidfd: int) -> int:
    """Return the process id behind a pidfd; 0 when that process has ended, or for no pidfd."""
    with suppress(OSError), open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return max(0, int(line.split()[1]))
    return 0


def end_daemon(pidfd: int, pid: int) -> None:
    """End that daemon, and see to it that its workers end; returns when they have.

    ``pid`` is what it had while it lived; 0 where it was never known.
    """
    with suppress(ProcessLookupError):  # it has ended, and has been reaped
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait_for([pidfd], REAP)  # a pidfd reads as ready when its process has ended
    if pid:
        _end_workers(pid)


def _end_workers(daemon: int) -> None:
    workers = dict(_workers_of(daemon))
    try:
        for fd in workers:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGCONT)
        for fd in _wait_for(list(workers), WORKERS_REAP):
            from leadertag.hooks.processes import end_tree

            end_tree(workers[fd], [workers[fd]])
    finally:
        for fd in workers:
            os.close(fd)


def _workers_of(daemon: int) -> Iterator[tuple[int, int]]:
    """Find the workers of a daemon, living or dead: each as a pidfd and a process id.

    They tell whose they are in their command line, which outlives the daemon.
    """
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid != os.geteuid():
                continue
            fd = os.pidfd_open(int(name))  # first, so that what is read is about this one
            if _is_worker(name, daemon):
                yield fd, int(name)
            else:
                os.close(fd)


def _is_worker(name: str, daemon: int) -> bool:
    with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
        words = file.read().rstrip(b"\0").split(b"\0")
        return _WORKER in words and words[-1] == str(daemon).encode()
    return False


def _wait_for(pidfds: list[int], seconds: float) -> list[int]:
    """Wait for the end of processes; return those that have not ended in time."""
    deadline, left = time.monotonic() + seconds, set(pidfds)
    poller = select.poll()
    for fd in left:
        poller.register(fd, select.POLLIN)
    while left and (rest := deadline - time.monotonic()) > 0:
        for fd, _ in poller.poll(rest * 1000):
            poller.unregister(fd)
            left.discard(fd)
    return sorted(left)
