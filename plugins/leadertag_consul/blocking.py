"""Consul's blocking queries, with the traps that its documentation and experience name."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from leadertag.errors import BackendError
from leadertag.providers import Watch
from leadertag_consul.client import Answer, ConsulClient

LONGEST = 8.0
"""Seconds that one read may wait. A read that was forwarded to a server which was then lost
without a word tells nothing for as long as it may wait: who has to succeed would not notice."""
_CALM = 0.05
"""Seconds between two reads that brought nothing new, so that no busy cluster makes us spin."""


class BlockingRead:
    """One path, read whenever it has changed, over one connection of its own."""

    def __init__(
        self, client: ConsulClient, path: str | Callable[[], str], params: Mapping[str, object]
    ) -> None:
        """``path`` may be a function: for one that has to be asked for, at the first read."""
        self._client = client.dedicated()
        self._path = path
        self._params = params
        self._index = 0

    def read(self, timeout: float) -> Answer:
        """Return the answer once its index has moved, or after ``timeout`` seconds.

        The first call, and the first after an error, answers at once. Whether it says
        anything new is for its reader to see: a cache may repeat an index that has moved.
        """
        params = dict(self._params)
        if self._index:
            # Consul adds up to a sixteenth of its own.
            wait = min(timeout, LONGEST) * 16 / 17
            params |= {"index": self._index, "wait": f"{max(1, int(wait * 1000))}ms"}
        before, self._index = self._index, 0  # should this fail, the next one starts over
        path = self._path if isinstance(self._path, str) else self._path()
        answer = self._client.get(path, params)
        if answer.index >= before:  # else (a restored snapshot) start over, from index 0
            self._index = max(answer.index, 1)  # 0 would make the next read return at once
        return answer

    def abort(self) -> None:
        """End a read under way in another thread, and all later ones."""
        self._client.abort()


class BlockingWatch(Watch):
    """A watch on one blocking read; subclasses make snapshots of its answers."""

    def __init__(self, read: BlockingRead) -> None:
        self._read = read
        self._closed = threading.Event()
        self._last: Mapping[str, Any] | None = None

    def poll(self, timeout: float) -> Mapping[str, Any] | None:
        """Return the next snapshot that differs from the last one; see :class:`Watch`."""
        deadline = time.monotonic() + timeout
        if self._closed.is_set():
            return None
        try:
            if (missed := self._missed()) is not None:
                return self._new(missed)
            snapshot = self._new(self._snapshot(self._read.read(timeout)))
        except BackendError:
            self._last = None
            if self._closed.is_set():
                return None
            raise
        if snapshot is None:
            # Also where nothing came: a cache may answer at once what Consul would wait with.
            self._closed.wait(min(_CALM, max(0.0, deadline - time.monotonic())))
        return snapshot

    def close(self) -> None:
        """End the watch, also out of the middle of a poll."""
        self._closed.set()
        self._read.abort()

    def _new(self, snapshot: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if snapshot == self._last:
            return None
        self._last = snapshot
        return snapshot

    @abstractmethod
    def _snapshot(self, answer: Answer) -> Mapping[str, Any]:
        """Make the whole snapshot of an answer."""

    def _missed(self) -> Mapping[str, Any] | None:
        """Return a newer snapshot that came by another way, if any."""
        return None
