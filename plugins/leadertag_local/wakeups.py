"""How a writer wakes the watches of all processes: a FIFO for each watch.

A FIFO whose reader is gone, however it died, refuses to be opened for writing; the next
writer then removes it. Nothing has to be repaired by hand, no limit of the kernel on
watches applies, and a wake-up costs a writer some microseconds a watch.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from contextlib import suppress

from leadertag.errors import BackendUnavailable

_FULL_ENOUGH = 4096


def poke(folder: str) -> None:
    """Wake every watch. Never fails: a watch that misses it looks again by itself."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith("."):
            continue  # being made; its first look at the database comes after this commit
        path = os.path.join(folder, name)
        try:
            file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads it any more
                with suppress(OSError):
                    os.unlink(path)
            continue
        with suppress(OSError):  # full: it is awake as it is
            os.write(file, b".")
        os.close(file)


class Wakeup:
    """The reading end. One thread waits; any thread may :meth:`close` it."""

    def __init__(self, folder: str) -> None:
        """Make the FIFO; raise BackendUnavailable."""
        name = os.urandom(8).hex()
        hidden, self._path = os.path.join(folder, "." + name), os.path.join(folder, name)
        try:
            os.mkfifo(hidden, 0o600)
            # Open at both ends: it never reads as closed, and close() can write to it.
            self._file = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            # Visible only now: a writer removes a FIFO that nobody reads.
            os.rename(hidden, self._path)
        except OSError as error:
            raise BackendUnavailable(f"{folder}: {error.strerror}") from error
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._lock = threading.Lock()
        self._waiting = False
        self._closed = False

    def intact(self) -> bool:
        """Whether writers can still find the FIFO: somebody may have tidied it away."""
        return os.path.exists(self._path)

    def wait(self, seconds: float) -> bool:
        """Wait to be woken, at most so long; tell whether it was. At once when closed."""
        with self._lock:
            if self._closed:
                return True
            self._waiting = True
        try:
            woken = bool(self._poll.poll(max(0.0, seconds) * 1000))
            if woken:
                with suppress(BlockingIOError):
                    os.read(self._file, _FULL_ENOUGH)
            return woken
        finally:
            with self._lock:
                self._waiting = False
                if self._closed:
                    self._dispose()

    def close(self) -> None:
        """Wake the waiting thread for the last time and remove the FIFO."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            # The descriptor is closed by whoever leaves last: closing it under a waiting
            # thread could make that thread wait on somebody else's file.
            if self._waiting:
                with suppress(OSError):
                    os.write(self._file, b".")
            else:
                self._dispose()

    def _dispose(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):
            os.close(self._file)
