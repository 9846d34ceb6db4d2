"""Watches: ZooKeeper tells once that something has changed; then everything is read again."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

from leadertag.errors import LeaderTagError
from leadertag.providers import Watch

from leadertag_zookeeper.client import Heard

Load = Callable[[Heard], Mapping[str, Any]]
"""Asks to be told of the next change, and then reads a snapshot."""


class ZooKeeperWatch(Watch):
    """Snapshots of what ``load`` returns, each time that it differs from the last one."""

    def __init__(self, load: Load) -> None:
        """Does no I/O."""
        self._load = load
        self._inbox: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._last: Mapping[str, Any] | None = None
        self._dirty = True
        self._closed = False

    def poll(self, timeout: float) -> Mapping[str, Any] | None:
        """See :meth:`leadertag.providers.Watch.poll`."""
        deadline = time.monotonic() + timeout
        while not self._closed:
            if self._dirty:
                snapshot = self._read()
                if snapshot != self._last:
                    self._last = snapshot
                    return snapshot
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._wait(left)
        return None

    def close(self) -> None:
        """See :meth:`leadertag.providers.Watch.close`."""
        self._closed = True
        self._inbox.put(False)

    def _read(self) -> Mapping[str, Any]:
        while not self._inbox.empty():  # whatever it was, it is read now
            self._inbox.get_nowait()
        try:
            snapshot = self._load(self._hear)
        except LeaderTagError:
            self._last = None
            raise
        self._dirty = False
        return snapshot

    def _wait(self, left: float) -> None:
        try:
            self._dirty = self._inbox.get(timeout=left)
        except queue.Empty:
            return

    def _hear(self, event: Any) -> None:
        # Also of a connection that broke: what happened meanwhile is told by nobody else.
        self._inbox.put(True)
