"""A node that says that this process lives, as long as somebody in it keeps saying so."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from leadertag.errors import BackendError, BackendUnavailable, LeaseLost

from leadertag_zookeeper.backend import Backend
from leadertag_zookeeper.client import commit, create, delete, look, stat_of
from leadertag_zookeeper.link import Link, name_of
from leadertag_zookeeper.session import Fed


class Presence:
    """An ephemeral node on a session of its own. All methods from any thread."""

    def __init__(self, backend: Backend, path: str, life: float) -> None:
        """``life`` of the session in seconds; unsaid for half of it, it is let go. No I/O."""
        self._backend = backend
        self.path = path
        self.life = backend.settings.session(life)
        self.patience = self.life / 2
        self._mutex = threading.Lock()
        self._link: Link | None = None
        self._fed: Fed | None = None
        self._seen_at = 0.0

    def say(self, *, at_most_every: float = 0.0) -> None:
        """Say so; the node is looked at unless that was done so shortly before."""
        with self._mutex:
            if self._fed is not None:
                self._fed.feed()
            if self._link is not None and time.monotonic() - self._seen_at < at_most_every:
                return
            if not self._stands():
                self._stand()
            self._seen_at = time.monotonic()

    def _stands(self) -> bool:
        if self._link is None:
            return False
        try:
            stat = stat_of(self._link.ask(look(self.path))[0])
            return stat is not None and stat.session == name_of(self._link.identity()[0])
        except LeaseLost:
            return False

    def _stand(self) -> None:
        """Make the node, in place of one on a session that was lost, on a new session."""
        self._backend.prepare()
        if self._link is None or self._link.over:
            self._drop()
            self._link = Link(self._backend.settings, self.life, bound=True)
            self._fed = Fed(self._link, self.patience)
        link, done = self._link, 0
        with suppress(LeaseLost):
            old = stat_of(link.ask(look(self.path))[0])
            forget = [delete(self.path)] if old else []
            done = commit(link, [*forget, *create(self.path, b"", ephemeral=True)])
        if not self._backend.noted(done):
            raise BackendUnavailable(f"{self._backend.where}: {self.path} could not be made")

    def leave(self) -> None:
        """Close the connection; the node goes when the session has expired."""
        with self._mutex:
            self._drop()

    def _drop(self) -> None:
        link, self._link, self._fed = self._link, None, None
        if link is not None:
            with suppress(BackendError):
                link.leave()
