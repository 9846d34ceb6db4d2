"""A watch: a replica of some keys, kept by the stream, and what is made of it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leadertag.errors import LeaderTagError, PermissionDenied
from leadertag.providers import Watch
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import Entry, Span
from leadertag_etcd.stream import Anew, Broken, Change, Subscription

Make = Callable[[Mapping[str, Entry]], Mapping[str, Any]]
"""Makes a snapshot of the keys that concern the watch."""
LOOK_AGAIN = 5.0
"""Seconds after which a watch that was told nothing looks for itself: a stream may have fallen
silent (seen with etcd 3.4 after changes of its leader) without having ended."""
AGAIN = 1.0
"""Seconds: a stream that breaks sooner than that after a reading is reported, not retried."""


class EtcdWatch(Watch):
    """Snapshots of what ``make`` returns, each time that it differs from the last one."""

    def __init__(
        self, backend: Backend, spans: Sequence[Span], concerns: Callable[[str], bool], make: Make
    ) -> None:
        """``concerns`` tells which keys of the spans count. Does no I/O."""
        self._backend = backend
        self._spans = tuple(spans)
        self._concerns = concerns
        self._make = make
        self._inbox: queue.SimpleQueue[tuple[Subscription, Any] | None] = queue.SimpleQueue()
        self._subscriptions: list[Subscription] = []
        self._entries: dict[str, Entry] = {}
        self._last: Mapping[str, Any] | None = None
        self._closed = False
        self._loaded_at = 0.0
        self._heard_at = 0.0

    def poll(self, timeout: float) -> Mapping[str, Any] | None:
        """See :meth:`leadertag.providers.Watch.poll`."""
        deadline = time.monotonic() + timeout
        try:
            while not self._closed:
                if not self._subscriptions:
                    self._load()
                    changed = True
                else:
                    changed = self._wait(min(deadline, self._heard_at + LOOK_AGAIN))
                    changed = self._look_again() or changed
                if changed and (snapshot := self._make(self._entries)) != self._last:
                    self._last = snapshot
                    return snapshot
                if time.monotonic() >= deadline:
                    return None
            return None
        except LeaderTagError:
            self._last = None
            self._unsubscribe()
            raise
        finally:
            if self._closed:
                self._unsubscribe()

    def close(self) -> None:
        """See :meth:`leadertag.providers.Watch.close`."""
        self._closed = True
        self._inbox.put(None)
        self._unsubscribe()

    def _read(self) -> int:
        """Read everything that concerns it; returns the revision."""
        revision, found = self._backend.client.read(*self._spans)
        self._entries = {
            entry.key: entry for entries in found for entry in entries if self._concerns(entry.key)
        }
        self._heard_at = time.monotonic()
        return revision

    def _look_again(self) -> bool:
        """After a silence, read; what nobody has told of ends the subscriptions.

        Something may just be under way: then that costs a subscription, and nothing else.
        """
        if not self._subscriptions or time.monotonic() < self._heard_at + LOOK_AGAIN:
            return False
        before = self._entries
        self._read()
        if self._entries == before:
            return False
        self._unsubscribe()
        return True

    def _load(self) -> None:
        """Read everything, and have told what happens from then on."""
        revision = self._read()
        for span in self._spans:
            subscription = self._backend.stream.subscribe(span, revision + 1, self._inbox)
            self._subscriptions.append(subscription)
        self._loaded_at = time.monotonic()

    def _wait(self, deadline: float) -> bool:
        """Wait for one item; tell whether anything that counts has changed."""
        try:
            item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return False
        if item is None:
            return False
        self._heard_at = time.monotonic()
        subscription, news = item
        if subscription not in self._subscriptions:
            return False  # of a subscription that has ended since
        if isinstance(news, Broken):
            self._unsubscribe()
            young = time.monotonic() - self._loaded_at < AGAIN
            if isinstance(news.error, PermissionDenied) or (
                young and not isinstance(news.error, Anew)
            ):
                raise news.error
            return False  # read anew at the next turn: another member may well answer
        return any([self._apply(change) for change in news])

    def _apply(self, change: Change) -> bool:
        if not self._concerns(change.key):
            return False
        if change.entry is None:
            self._entries.pop(change.key, None)
        else:
            self._entries[change.key] = change.entry
        return True

    def _unsubscribe(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            self._backend.stream.unsubscribe(subscription)
