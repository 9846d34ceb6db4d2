"""The lock provider: a record that stays, and a holder key that hangs on the session's lease.

Every write is one transaction that compares the revision which created the holder key (the
term) and the one that last wrote the record (the index), so a message that arrives late
changes nothing. Both keys, and the notes, are watched as one range: etcd tells changes of
one transaction together, so nobody ever sees a released lock without its mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from leadertag.errors import Changed, Conflict, LeaseLost
from leadertag.model import Characteristic, Lease, LockView, Phase, Record
from leadertag.plan import PLAN, Note, Plan
from leadertag.providers import BackendContext, LockProvider, Watch
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import OPERATIONS, Entry, Span, created, delete, modified, put
from leadertag_etcd.leases import KeptLease
from leadertag_etcd.settings import SHORTEST_TTL
from leadertag_etcd.watch import EtcdWatch

_FREED = b',"freed":true}'
"""How a record ends that was written by a release: its phase alone is not believed."""
LONGEST_NOTE = 1024 * 1024
"""Bytes. etcd itself takes no request of more than one and a half MiB, unless told to."""


class EtcdLock(LockProvider):
    """Mutual exclusion by create revisions."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {
            Characteristic.CROSS_HOST,
            Characteristic.NATIVE_WATCH,
            Characteristic.SERVER_SIDE_EXPIRY,
        }
    )
    requires: ClassVar[tuple[str, ...]] = ("etcd3", "grpc")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._names = backend.names
        backend.locks_here = True

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the connection. The session lives on, and every lock with it."""
        self._client.close()

    # -- the session -------------------------------------------------------------------

    def open(self, owner: str, *, ttl: float, session: str = "") -> str:
        """Start the session, a lease, or take ``session`` up again if it still lives."""
        life, kept = _life(ttl), self._backend.session
        lease = _lease_of(session)
        if not (lease and kept.adopt(lease, life)):
            kept.grant(life)
        return kept.name

    def keep_alive(self) -> None:
        """Start the lease's time anew: 0 raft entries, proves nothing."""
        self._backend.session.keep()

    def session_expiry(self, ttl: float) -> float:
        """Return the lease's life and the second within which etcd sees that it has passed.

        A new etcd leader starts the time of all leases anew.
        """
        return _life(ttl) + 1.0

    def end(self) -> None:
        """Revoke the lease; locks that still hang on it are free, without a mark."""
        session = self._backend.session
        lease = session.id
        if lease:
            session.forget(lease)
            try:
                self._client.revoke(lease)
            except LeaseLost:
                return  # ended already

    # -- taking and giving ----------------------------------------------------------------

    def acquire(self, seen: LockView, record: Record) -> Lease | LockView:
        """Take the lock if it still is what was seen, and free, in one transaction.

        Its revision is the term. It cannot stand in a record that is written by that very
        transaction: a record with term 0 stands for the term of its own revision.
        """
        if seen.foreign:
            raise self._foreign(seen.key)
        key, session = seen.key, self._backend.session
        lease = session.demand()
        record_key, holder_key = self._names.record(key), self._names.holder(key)
        term = self._client.commit(
            [created(holder_key, 0), modified(record_key, seen.index)],
            [
                put(record_key, replace(record, term=0).encode()),
                put(holder_key, f"{lease:x}".encode(), lease=lease),
            ],
        )
        if not term:
            view = self.read(key)
            if view.foreign:
                raise self._foreign(key)
            return view
        return Lease(key, term, term, f"{lease:x}", replace(record, term=term))

    def _foreign(self, key: str) -> Conflict:
        return Conflict(
            f"{self._names.record(key)} in {self._backend.where} holds a value that is not "
            "leadertag's: delete that key, or choose another prefix"
        )

    def update(self, lease: Lease, record: Record) -> Lease:
        """Replace the record; the term stays."""
        record = replace(record, term=lease.term)
        operation = put(self._names.record(lease.key), record.encode())
        index = self._client.commit(held(self._backend, lease), [operation])
        if not index:
            raise lost(lease)
        return replace(lease, index=index, record=record)

    def release(self, lease: Lease, record: Record) -> None:
        """Write the last record, marked, and delete the holder key."""
        value = replace(record, term=lease.term).encode()[:-1] + _FREED
        operations = [
            put(self._names.record(lease.key), value),
            delete(self._names.holder(lease.key)),
        ]
        if not self._client.commit(held(self._backend, lease), operations):
            raise lost(lease)

    def discard(self, view: LockView) -> None:
        """Delete the holder key, if it is this session's and the lock is what was seen."""
        session = self._backend.session.demand()
        holder_key, record_key = self._names.holder(view.key), self._names.record(view.key)
        _, (holders, records) = self._client.read(Span.key(holder_key), Span.key(record_key))
        present = _view(view.key, *holders[:1], record=records[0] if records else None)
        if not holders or holders[0].lease != session or present.index != view.index:
            raise LeaseLost(f"lock {view.key} is not held by this session, or changed since")
        compares = [
            created(holder_key, holders[0].created),
            modified(record_key, records[0].modified if records else 0),
        ]
        if not self._client.commit(compares, [delete(holder_key)]):
            raise LeaseLost(f"lock {view.key} has changed since it was read")

    def adopt(self, view: LockView, record: Record) -> Lease:
        """Take up a lock of this same session; its term stays, ``record`` replaces the old."""
        session = self._backend.session
        session.demand()
        term = view.record.term if view.record else 0
        if view.holder != session.name or not term:
            raise LeaseLost(f"lock {view.key} is not held by this session with a term")
        return self.update(Lease(view.key, term, view.index, view.holder, record), record)

    # -- looking ----------------------------------------------------------------------------

    def confirm(self, leases: Sequence[Lease]) -> frozenset[str]:
        """Return the keys still held with those terms, by linearizable reads.

        The session has to have been kept alive within half of its life as well: a lease
        that is past that is kept alive here first, and one that is gone holds nothing.
        """
        session = self._backend.session
        mine = [lease for lease in leases if session.name and lease.session == session.name]
        if not mine or not _is_kept(session):
            return frozenset()
        held: set[str] = set()
        for start in range(0, len(mine), OPERATIONS):
            held |= self._confirm(mine[start : start + OPERATIONS])
        return frozenset(held)

    def _confirm(self, leases: list[Lease]) -> set[str]:
        spans = [Span.key(self._names.holder(lease.key)) for lease in leases]
        _, found = self._client.read(*spans)
        return {
            lease.key
            for lease, entries in zip(leases, found, strict=True)
            if entries and entries[0].created == lease.term
            and f"{entries[0].lease:x}" == lease.session
        }  # fmt: skip

    def read(self, key: str) -> LockView:
        """Read one lock and its plan, of one revision."""
        _, found = self._client.read(*(Span.key(place) for place in self._places(key)))
        holder, record, plan = (entries[0] if entries else None for entries in found)
        return _view(key, holder, record=record, plan=plan)

    def _places(self, key: str) -> tuple[str, str, str]:
        """Return the keys that make up a lock's view: holder, record, plan."""
        names = self._names
        return names.holder(key), names.record(key), names.note(key, PLAN)

    def watch(self, keys: Sequence[str]) -> Watch:
        """Watch all locks of the prefix, and their plans, as one range."""
        places = {key: self._places(key) for key in keys}
        concerned = {place for three in places.values() for place in three}

        def make(entries: Mapping[str, Entry]) -> Mapping[str, Any]:
            return {
                key: _view(key, entries.get(holder), record=entries.get(record),
                           plan=entries.get(plan))
                for key, (holder, record, plan) in places.items()
            }  # fmt: skip

        span = Span.under(self._names.locks)
        return EtcdWatch(self._backend, [span], concerned.__contains__, make)

    # -- notes ------------------------------------------------------------------------------

    def read_note(self, key: str, name: str) -> Note:
        """Read a note, a key of its own."""
        _, (entries,) = self._client.read(Span.key(self._names.note(key, name)))
        return _note(entries[0] if entries else None)

    def write_note(self, key: str, name: str, note: Note) -> Note:
        """Replace or remove a note by comparing the revision that last wrote it."""
        place = self._names.note(key, name)
        if len(note.value) > LONGEST_NOTE:
            raise Conflict(
                f"{place} in {self._backend.where}: {len(note.value)} bytes are too much for a "
                f"note; at most {LONGEST_NOTE} are kept"
            )
        if not note.value and not note.index:  # nothing to write; a comparison alone may be stale
            unchanged = not self.read_note(key, name).index
            revision = 0
        else:
            operation = put(place, note.value) if note.value else delete(place)
            revision = self._client.commit([modified(place, note.index)], [operation])
            unchanged = revision > 0
        if not unchanged:
            raise Changed(f"{place} in {self._backend.where} has changed since it was read")
        return Note(note.value, revision) if note.value else Note()


def held(backend: Backend, lease: Lease) -> list[Any]:
    """Return the comparisons that hold while the lock is held and its record unchanged.

    Raises LeaseLost for a lease of another session.
    """
    if lease.session != backend.session.name:
        raise LeaseLost(f"lock {lease.key}: not held by this process's session")
    names = backend.names
    return [
        created(names.holder(lease.key), lease.term),
        modified(names.record(lease.key), lease.index),
    ]


def lost(lease: Lease) -> LeaseLost:
    """Return the error for a transaction that was refused."""
    return LeaseLost(
        f"lock {lease.key} is not held any more with term {lease.term}, or has changed since"
    )


def _note(entry: Entry | None) -> Note:
    return Note(entry.value, entry.modified) if entry else Note()


def _view(
    key: str, holder: Entry | None = None, *, record: Entry | None, plan: Entry | None = None
) -> LockView:
    """Return a lock as its keys have it. A record that somebody deleted is no record."""
    name, asked = f"{holder.lease:x}" if holder else "", Plan.decode(_note(plan))
    if record is None:
        return LockView(key, holder.modified if holder else 0, name, plan=asked)
    known = Record.decode(record.value)
    if known is None:
        return LockView(key, record.modified, name, foreign=True, plan=asked)
    if not known.term:
        known = replace(known, term=record.modified)
    if not holder and known.phase is Phase.RELEASED and not record.value.endswith(_FREED):
        # Lost after all, whatever its holder wrote into it: that is no mark.
        known = replace(known, phase=Phase.ELECTED)
    return LockView(key, record.modified, name, known, plan=asked)


def _is_kept(session: KeptLease) -> bool:
    if not session.due(2.0):
        return True
    try:
        session.keep()
    except LeaseLost:
        return False
    return True


def _life(ttl: float) -> int:
    return max(SHORTEST_TTL, math.ceil(ttl))


def _lease_of(session: str) -> int:
    """Return the lease that a session's name stands for, 0 for what is none."""
    try:
        lease = int(session, 16)
    except ValueError:
        return 0
    return lease if 0 < lease < 1 << 63 else 0
