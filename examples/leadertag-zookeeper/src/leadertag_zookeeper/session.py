"""The process's session: what its locks hang on, and how a restarted process takes it up.

Its *name* is its number, as the servers log it: everybody may see who holds a lock, and does
(``status``, the record of a switchover, log lines). Its password, without which nobody goes
on with a session, stands in a node of its own under ``sessions``, ephemeral on the session
itself and with the ACL of all other nodes. So it is no secret to whoever may write to the
locks, who could free them anyway; nobody else gets to see it, leadertag writes it to no file
and no log, and it is gone with the session. Whoever takes the session up puts its own process
into that node; the process that had it sees so before it would connect again.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from leadertag.errors import BackendError, LeaseLost

from leadertag_zookeeper.client import commit, create, look, node_of, put, read, sync
from leadertag_zookeeper.link import Identity, Link, name_of

if TYPE_CHECKING:
    from leadertag_zookeeper.backend import Backend

PATIENCE = 6.0
"""Seconds at least for which nobody may ask for a session before it is let go. The guardian
asks every three; a daemon three times in a session's life, when the time limit has passed."""


class Fed:
    """Lets a link live only while somebody asks for it: kazoo would ping for ever."""

    def __init__(self, link: Link, patience: float) -> None:
        self._patience = patience
        self._fed_at = time.monotonic()
        link.door.may_stay = self._is_fresh

    def feed(self) -> None:
        """Ask for it."""
        self._fed_at = time.monotonic()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._fed_at < self._patience


class Session:
    """One at a time. All methods from any thread."""

    def __init__(self, backend: Backend) -> None:
        """Does no I/O."""
        self._backend = backend
        self._mutex = threading.RLock()
        self._link: Link | None = None
        self._fed: Fed | None = None
        self.name = ""
        """``""`` for none."""

    @staticmethod
    def patience(life: float) -> float:
        """Return the seconds without a sign from the process after which a session is let go."""
        return max(0.6 * life, PATIENCE)

    def open(self, ttl: float, hint: str) -> str:
        """Start one, or take ``hint`` up if it still lives; return its name."""
        with self._mutex:
            if hint and hint == self.name:
                with suppress(LeaseLost):
                    self.keep()
                    return self.name
            self.leave()
            life = self._backend.settings.session(ttl)
            link = self._take_up(hint, life) or self._start(life)
            self._fed = Fed(link, self.patience(life))
            self._link, self.name = link, name_of(link.identity()[0])
            path, process = self._backend.names.session(self.name), self._backend.process
            link.door.may_enter = lambda: self._is_mine(link, path, process)
            return self.name

    def _start(self, life: float) -> Link:
        self._backend.prepare()
        link = Link(self._backend.settings, life, bound=True)
        try:
            identity = link.identity()
            path = self._backend.names.session(name_of(identity[0]))
            done = commit(link, create(path, self._owned(identity), ephemeral=True))
            if not self._backend.noted(done):
                raise BackendError(f"{self._backend.where}: {path} cannot be written")
        except BackendError:
            link.end()
            raise
        return link

    def _take_up(self, hint: str, life: float) -> Link | None:
        """Return a link in that session, ``None`` when it is gone."""
        if not hint.isalnum():
            return None
        path = self._backend.names.session(hint)
        for _ in range(2):  # the second time, if somebody else took it up at the same moment
            _, answer = self._backend.link().ask(sync(path), read(path))
            node = node_of(answer)
            identity = _identity(node.value) if node else None
            if node is None or identity is None or name_of(identity[0]) != hint:
                return None
            mine = [put(path, self._owned(identity), node.stat.version)]
            if self._backend.commit(mine):
                break
        else:
            return None
        link = Link(self._backend.settings, life, bound=True, resume=identity)
        try:
            link.ask(look(path))
        except LeaseLost:
            link.leave()
            return None
        except BackendError:
            link.leave()
            raise
        return link

    def _owned(self, identity: Identity) -> bytes:
        number, password = identity
        return json.dumps(
            {"session": number, "password": password.hex(), "process": self._backend.process}
        ).encode()

    def _is_mine(self, link: Link, path: str, process: str) -> bool:
        """Tell, before a broken connection is made again, whether the session still is ours.

        Two processes in one session would throw each other out for ever.
        """
        try:
            _, answer = self._backend.link().ask(sync(path), read(path))
        except BackendError:
            return False  # not known: kazoo tries again
        node = node_of(answer)
        if node is None:
            link.condemn("it has expired")
        elif _process(node.value) != process:
            link.condemn("another process has taken it up")
        else:
            return True
        return False

    def link(self) -> Link:
        """Return the link in the session; LeaseLost when there is none."""
        link, fed = self._link, self._fed
        if link is None or fed is None:
            raise LeaseLost(f"{self._backend.where}: no session is open")
        fed.feed()
        return link

    def keep(self) -> None:
        """Keep it alive; LeaseLost when it is gone. A read, so that somebody did answer."""
        self.link().ask(look(self._backend.names.session(self.name)))

    def end(self) -> None:
        """End it for good."""
        with self._mutex:
            link, self._link, self.name = self._link, None, ""
        if link is not None:
            link.end()

    def leave(self) -> None:
        """Close the connection, and leave the session to live out its time."""
        with self._mutex:
            link, self._link, self.name = self._link, None, ""
        if link is not None:
            link.leave()


def _identity(value: bytes) -> Identity | None:
    try:
        data = json.loads(value)
        return int(data["session"]), bytes.fromhex(data["password"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _process(value: bytes) -> object:
    try:
        return json.loads(value)["process"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
