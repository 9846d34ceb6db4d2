"""What the three providers of one configuration share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from leadertag.errors import BackendUnavailable
from leadertag.providers import BackendContext

from leadertag_zookeeper import settings as settings_module
from leadertag_zookeeper.client import ANY, Operation, commit, create, look, put
from leadertag_zookeeper.link import Link
from leadertag_zookeeper.names import Names
from leadertag_zookeeper.session import Session
from leadertag_zookeeper.settings import Settings


class Backend:
    """The link for everything that hangs on no session, and the process's own session."""

    def __init__(self, settings: Settings) -> None:
        """Does no I/O."""
        self.settings = settings
        self.names = Names(settings.prefix)
        self.where = f"zookeeper at {settings.hosts[0]}"
        self.process = os.urandom(8).hex()
        self.session = Session(self)
        self.locks_here = False
        """Whether the locks are in ZooKeeper too, and not in another backend."""
        self._mutex = threading.Lock()
        self._link: Link | None = None
        self._prepared = False

    @classmethod
    def of(cls, context: BackendContext) -> Backend:
        """Return the backend of a context, made at the first call; ConfigError when wrong."""
        return context.shared("zookeeper", lambda: cls(settings_module.read(context.settings)))

    def link(self) -> Link:
        """Return the link; made, not yet connected, when there is none."""
        with self._mutex:
            if self._link is None:
                self._link = Link(self.settings, self.settings.session(0))
            return self._link

    def close(self) -> None:
        """Close it; a later request makes another one. Locks, their session, all stays."""
        self.session.leave()
        with self._mutex:
            link, self._link = self._link, None
        if link is not None:
            link.end()  # nothing hangs on it

    # -- writing -----------------------------------------------------------------------

    def prepare(self) -> None:
        """See that the nodes above what is going to be written are there."""
        if self._prepared:
            return
        link, folders = self.link(), self.names.folders()
        found = link.ask(*(look(path) for path in folders))
        for path, present in zip(folders, found, strict=True):
            if present is None:
                commit(link, create(path, b""))  # done by another one meanwhile: as good
        self._prepared = True

    def commit(self, operations: Sequence[Operation]) -> int:
        """Do all or nothing, on no session; return the transaction, 0 for nothing."""
        self.prepare()
        return self.noted(commit(self.link(), operations))

    def noted(self, done: int) -> int:
        """Return the outcome; after a failure the nodes above are looked for again."""
        self._prepared = self._prepared and bool(done)
        return done

    def told_locks(self) -> Operation:
        """Tell those who watch locks; part of each transaction that changes a view."""
        return put(self.names.locks, b"", ANY)

    def hurry(self, deadline: float, what: str) -> None:
        """Raise BackendUnavailable when it is past the deadline."""
        if time.monotonic() > deadline:
            raise BackendUnavailable(f"{self.where}: {what} is changed by others all the time")

    def deadline(self, timeout: float = 0.0) -> float:
        """Return when ``timeout`` seconds, or the time limit of a request, will have passed."""
        return time.monotonic() + (timeout or self.settings.timeout)
