"""The lock provider: rows of the table ``locks``, held by rows of the table ``sessions``."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple, Self

from leadertag.errors import Changed, Conflict, LeaseLost
from leadertag.model import Characteristic, Lease, LockView, Phase, Record
from leadertag.plan import PLAN, Note, Plan
from leadertag.providers import BackendContext, LockProvider, Watch
from leadertag_local.client import LocalClient, count, session_beat
from leadertag_local.watch import LocalWatch


class LocalLock(LockProvider):
    """Locks between the processes of one host.

    A session outlives its process: a one-shot ``check`` keeps it over many runs. It ends by
    :meth:`end`, or when nobody has kept it alive for its ``ttl``; that is decided by whoever
    looks, by the host's one clock, so an expired lock is free without anybody's doing.
    """

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {Characteristic.NATIVE_WATCH, Characteristic.SERVER_SIDE_EXPIRY}
    )

    def __init__(self, client: LocalClient) -> None:
        self._client = client
        self._store = client.store
        client.locks_here = True

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """See :class:`leadertag_local.settings.LocalSettings` for what can be set."""
        return cls(LocalClient.of(context))

    def close(self) -> None:
        """Close the idle connections. The session lives on."""
        self._store.close()

    def open(self, owner: str, *, ttl: float, session: str = "") -> str:
        """Start a session, or take up one of the same owner that is still alive."""
        client = self._client
        with self._store.write() as database:
            at = client.clock.now()
            client.tidy(database)
            known = database.execute(
                "SELECT 1 FROM sessions WHERE id = ? AND owner = ?", (session, owner)
            ).fetchone()
            if known:
                database.execute("UPDATE sessions SET ttl = ? WHERE id = ?", (ttl, session))
            else:
                session = os.urandom(16).hex()
                database.execute("INSERT INTO sessions VALUES (?, ?, ?)", (session, owner, ttl))
            client.beats.write(session_beat(session), at)
        client.session = session
        return session

    def keep_alive(self) -> None:
        """Overwrite the session's sign of life; raises LeaseLost when it has expired.

        The time is taken before the look at the session: a process that is stopped between
        the two writes a time that is as old as its stop.
        """
        client = self._client
        at = client.clock.now()
        with self._store.read() as database:
            client.demand_session(database, client.session)
        client.beats.write(session_beat(client.session), at)

    def end(self) -> None:
        """Forget the session; locks that still hang on it are free, without a mark."""
        session, self._client.session = self._client.session, ""
        if session:
            with self._store.write() as database:
                self._client.forget_session(database, session)

    def acquire(self, seen: LockView, record: Record) -> Lease | LockView:
        """Take the lock if it still is what was seen, and free."""
        client, key = self._client, seen.key
        with self._store.write() as database:
            client.demand_session(database, client.session)
            row = _row(database, key)
            view = _view(client, database, key, row)[0]
            if view.foreign:
                raise Conflict(f"{self._store.path}: lock {key!r} has a value of somebody else")
            if not view.free or view.index != seen.index:
                return view
            if row and row.holder:
                # Expired, but still noted. Ending that session for good makes the loss final
                # for its process, should it be woken up only now.
                client.forget_session(database, row.holder)
            term = count(database, "term")
            return _write(database, key, client.session, term, record)

    def confirm(self, leases: Sequence[Lease]) -> frozenset[str]:
        """Look at the locks and the session in one reading transaction."""
        client, own = self._client, self._client.session
        held = set()
        with self._store.read() as database:
            if not own or not client.lives(database, own):
                return frozenset()
            for lease in leases:
                row = _row(database, lease.key)
                if row and row.term == lease.term and row.holder == lease.session == own:
                    held.add(lease.key)
        return frozenset(held)

    def update(self, lease: Lease, record: Record) -> Lease:
        """Compare the index and replace the record; the term stays."""
        with self._store.write() as database:
            self._client.demand_session(database, lease.session)
            return rewrite(database, lease, record)

    def release(self, lease: Lease, record: Record) -> None:
        """Compare the index, write the last record and free the lock."""
        with self._store.write() as database:
            self._client.demand_session(database, lease.session)
            _compare(database, lease.key, lease.index, lease.session, lease.term)
            _write(database, lease.key, "", lease.term, record)

    def discard(self, view: LockView) -> None:
        """Compare the index and free the lock; raises LeaseLost when it changed."""
        with self._store.write() as database:
            self._client.demand_session(database, view.holder)
            _compare(database, view.key, view.index, view.holder)
            database.execute(
                "UPDATE locks SET idx = ?, holder = '' WHERE key = ?",
                (count(database, "index"), view.key),
            )

    def adopt(self, view: LockView, record: Record) -> Lease:
        """Compare the index and write the record of the restarted process."""
        with self._store.write() as database:
            self._client.demand_session(database, view.holder)
            row = _compare(database, view.key, view.index, view.holder)
            return _write(database, view.key, view.holder, row.term, record)

    def read(self, key: str) -> LockView:
        """Read one lock and its plan, of one moment."""
        with self._store.read() as database:
            return _view(self._client, database, key, _row(database, key))[0]

    def watch(self, keys: Sequence[str]) -> Watch:
        """Watch the locks, their plans, and the moments at which they would expire."""
        client, wanted = self._client, tuple(keys)

        def look(database: sqlite3.Connection) -> tuple[Mapping[str, LockView], float | None]:
            seen = {key: _view(client, database, key, _row(database, key)) for key in wanted}
            due = [expires for _, expires in seen.values() if expires is not None]
            return {key: view for key, (view, _) in seen.items()}, min(due, default=None)

        return LocalWatch(client, look)

    def read_note(self, key: str, name: str) -> Note:
        """Read a row of the table ``notes``."""
        with self._store.read() as database:
            return _note(database, key, name)

    def write_note(self, key: str, name: str, note: Note) -> Note:
        """Compare the index and replace or remove the row; its counter is the notes' own."""
        with self._store.write() as database:
            if _note(database, key, name).index != note.index:
                raise Changed(
                    f"{self._store.path}: {name} of lock {key!r} has changed since it was read"
                )
            if not note.value:
                database.execute("DELETE FROM notes WHERE key = ? AND name = ?", (key, name))
                return Note()
            written = Note(note.value, count(database, "note"))
            database.execute(
                "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?)",
                (key, name, written.index, written.value),
            )
            return written


class LockRow(NamedTuple):
    """What stands in the table. ``released``: freed by :meth:`LocalLock.release`."""

    idx: int
    holder: str
    term: int
    released: int
    value: bytes


def rewrite(database: sqlite3.Connection, lease: Lease, record: Record) -> Lease:
    """Replace the record of a lease that holds, else raise LeaseLost."""
    _compare(database, lease.key, lease.index, lease.session, lease.term)
    return _write(database, lease.key, lease.session, lease.term, record)


def demand_lock(database: sqlite3.Connection, lease: Lease) -> None:
    """Raise LeaseLost unless the lock is held by that session with that term."""
    row = _row(database, lease.key)
    if row is None or row.holder != lease.session or row.term != lease.term:
        raise LeaseLost(f"lock {lease.key!r}: term {lease.term} is over")


def _row(database: sqlite3.Connection, key: str) -> LockRow | None:
    row = database.execute(
        "SELECT idx, holder, term, released, value FROM locks WHERE key = ?", (key,)
    ).fetchone()
    return LockRow(*row) if row else None


def _compare(
    database: sqlite3.Connection, key: str, index: int, holder: str, term: int | None = None
) -> LockRow:
    row = _row(database, key)
    if row is None or row.holder != holder or row.idx != index:
        raise LeaseLost(f"lock {key!r}: it changed since it was read (index {index})")
    if term is not None and row.term != term:
        raise LeaseLost(f"lock {key!r}: term {term} is over")
    return row


def _write(database: sqlite3.Connection, key: str, holder: str, term: int, record: Record) -> Lease:
    record = replace(record, term=term)
    index = count(database, "index")
    database.execute(
        "INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?, ?, ?)",
        (key, index, holder, term, not holder, record.encode()),
    )
    return Lease(key, term, index, holder, record)


def _view(
    client: LocalClient, database: sqlite3.Connection, key: str, row: LockRow | None
) -> tuple[LockView, float | None]:
    """Return the lock as it stands now, and when it would expire if it is held."""
    plan = Plan.decode(_note(database, key, PLAN))
    if row is None:
        return LockView(key, plan=plan), None
    expires = client.expires(database, row.holder) if row.holder else None
    if expires is not None and client.clock.now() > expires:
        expires = None
    record = Record.decode(row.value)
    if record and expires is None and not row.released and record.phase is Phase.RELEASED:
        # Lost after all, whatever its holder wrote into it: the mark must not be believed.
        record = replace(record, phase=Phase.ELECTED)
    holder = row.holder if expires is not None else ""
    return LockView(key, row.idx, holder, record, record is None, plan), expires


def _note(database: sqlite3.Connection, key: str, name: str) -> Note:
    row = database.execute(
        "SELECT value, idx FROM notes WHERE key = ? AND name = ?", (key, name)
    ).fetchone()
    return Note(*row) if row else Note()
