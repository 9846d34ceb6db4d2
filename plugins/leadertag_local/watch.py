"""A watch: woken by writers, and by itself when something is due to expire."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from leadertag.errors import LeaderTagError
from leadertag.providers import Watch
from leadertag_local.client import LocalClient
from leadertag_local.store import Connection
from leadertag_local.wakeups import Wakeup

Look = Callable[[sqlite3.Connection], tuple[Mapping[str, Any], float | None]]
"""Returns the snapshot, and when it may change by time alone."""

MISSED = 1.0
"""Seconds between two looks at whether a wake-up was missed.

Only a writer that is killed between its commit and its pokes causes that. The look is one
number in shared memory; only when it has changed are the tables read.
"""
_AFTER = 0.001  # something that expires at a moment has expired just after it


class LocalWatch(Watch):
    """Snapshots of what ``look`` returns, each time that it differs from the last one."""

    def __init__(self, client: LocalClient, look: Look, *, missed: float = MISSED) -> None:
        """Does no I/O: that is for the thread that polls."""
        self._client = client
        self._look = look
        self._missed = missed
        self._lock = threading.Lock()
        self._closed = False
        self._polling = False
        self._wakeup: Wakeup | None = None
        self._connection: Connection | None = None
        self._last: Mapping[str, Any] | None = None
        self._due: float | None = None
        self._version = 0

    def poll(self, timeout: float) -> Mapping[str, Any] | None:
        """See :meth:`leadertag.providers.Watch.poll`."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._polling = True
        try:
            return self._wait_for_change(deadline)
        except LeaderTagError:
            self._start_over()
            raise
        finally:
            with self._lock:
                self._polling = False
                if self._closed:
                    self._dispose()

    def close(self) -> None:
        """See :meth:`leadertag.providers.Watch.close`."""
        with self._lock:
            self._closed = True
            if not self._polling:
                self._dispose()
            elif self._wakeup is not None:
                self._wakeup.close()

    def _wait_for_change(self, deadline: float) -> Mapping[str, Any] | None:
        look = True
        while not self._closed:
            wakeup, connection = self._ready()
            if look and self._changed(connection):
                return self._last
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                break
            woken = wakeup.wait(min(left, self._pause()))
            look = woken or self._due_now() or self._missed_one(connection)
        return None

    def _ready(self) -> tuple[Wakeup, Connection]:
        if self._connection is not None and not self._connection.current():
            self._start_over()
        if self._connection is None:
            self._connection = self._client.store.connect()
        if self._wakeup is not None and not self._wakeup.intact():
            self._wakeup.close()
            self._wakeup = None
        if self._wakeup is None:
            # Made before the first look, so that no commit after that look goes unnoticed.
            self._wakeup = Wakeup(self._client.store.watchers_folder)
        return self._wakeup, self._connection

    def _changed(self, connection: Connection) -> bool:
        with self._client.store.translated():
            self._version = connection.data_version()
            with connection.transaction("BEGIN") as database:
                snapshot, self._due = self._look(database)
        changed = self._last is None or snapshot != self._last
        self._last = snapshot
        return changed

    def _due_now(self) -> bool:
        return self._due is not None and self._client.clock.now() > self._due

    def _missed_one(self, connection: Connection) -> bool:
        with self._client.store.translated():
            return connection.data_version() != self._version

    def _pause(self) -> float:
        if self._due is None:
            return self._missed
        return max(0.0, min(self._missed, self._due - self._client.clock.now() + _AFTER))

    def _start_over(self) -> None:
        self._last = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _dispose(self) -> None:
        self._start_over()
        if self._wakeup is not None:
            self._wakeup.close()
