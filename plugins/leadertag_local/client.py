"""What the lock, registry and query provider of one process share."""

from __future__ import annotations

import os
import sqlite3

from leadertag.errors import LeaseLost
from leadertag.providers import BackendContext
from leadertag_local.beats import Beats, BootClock, Clock
from leadertag_local.settings import LocalSettings, read_settings
from leadertag_local.store import Store

_LEFT_BEHIND = 3600.0
"""Seconds after which the last sign of life of something unknown is swept away."""


class LocalClient:
    """One process's access to one file: settings, store, signs of life, session."""

    def __init__(self, settings: LocalSettings, clock: Clock | None = None) -> None:
        """Does no I/O."""
        self.settings = settings
        self.clock: Clock = clock or BootClock()
        self.store = Store(settings.path, own_folder=settings.own_folder, timeout=settings.timeout)
        self.beats = Beats(self.store.beats_folder, self.clock)
        self.session = ""
        self.locks_here = False
        """Whether the locks are in this file too, and not in another backend."""
        self._process = (0, "")

    @classmethod
    def of(cls, context: BackendContext) -> LocalClient:
        """Return the one client of a context, made at the first call."""
        return context.shared(
            "local", lambda: cls(read_settings(context.settings, context.environ))
        )

    @property
    def process(self) -> str:
        """The name of this process's sign of life; a forked child has another."""
        if self._process[0] != os.getpid():
            self._process = (os.getpid(), f"process-{os.urandom(8).hex()}")
        return self._process[1]

    def expires(self, database: sqlite3.Connection, session: str) -> float | None:
        """Return when the session ends unless it is kept alive; ``None`` when it is gone.

        May lie in the past: then it has expired, but nobody has swept it away yet.
        """
        row = database.execute("SELECT ttl FROM sessions WHERE id = ?", (session,)).fetchone()
        beat = self.beats.read(session_beat(session)) if row else None
        return None if beat is None else beat + float(row[0])

    def lives(self, database: sqlite3.Connection, session: str) -> bool:
        """Whether that session is alive now."""
        expires = self.expires(database, session)
        return expires is not None and self.clock.now() <= expires

    def demand_session(self, database: sqlite3.Connection, wanted: str) -> None:
        """Raise LeaseLost unless ``wanted`` is this process's own session, and alive."""
        if not self.session or wanted != self.session:
            raise LeaseLost(f"{self.store.path}: not held by this process's session")
        if not self.lives(database, wanted):
            raise LeaseLost(f"{self.store.path}: the session {wanted} has expired")

    def tidy(self, database: sqlite3.Connection) -> None:
        """Forget expired sessions, and signs of life that belong to nothing any more."""
        sessions = [row[0] for row in database.execute("SELECT id FROM sessions")]
        for session in sessions:
            if not self.lives(database, session):
                self.forget_session(database, session)
        known = {
            *(session_beat(row[0]) for row in database.execute("SELECT id FROM sessions")),
            *(row[0] for row in database.execute("SELECT beat FROM instances")),
            *(row[0] for row in database.execute("SELECT owner FROM gates")),
        }
        now = self.clock.now()
        for name in self.beats.names():
            if name not in known and not self.beats.fresh(name, _LEFT_BEHIND, now):
                self.beats.remove(name)

    def forget_session(self, database: sqlite3.Connection, session: str) -> None:
        """End a session: its locks are free from now on, without a mark."""
        database.execute("DELETE FROM sessions WHERE id = ?", (session,))
        self.beats.remove(session_beat(session))


def session_beat(session: str) -> str:
    """Return the name of a session's sign of life."""
    return f"session-{session}"


def count(database: sqlite3.Connection, name: str) -> int:
    """Raise a counter and return it. Within a writing transaction, so never twice the same."""
    database.execute("UPDATE counters SET value = value + 1 WHERE name = ?", (name,))
    row = database.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return int(row[0])
