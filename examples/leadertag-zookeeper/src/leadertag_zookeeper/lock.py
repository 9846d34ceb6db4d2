"""The lock provider: a record that stays, and an ephemeral node on the holder's session.

Every write is one transaction that checks the record's version and that the holder's node is
there, so a message that arrives late changes nothing: whoever took the lock in between has
written the record. What is compared with a lease is not the version, which begins anew if an
operator deletes the node, but the transaction that wrote the record (its mzxid), read just
before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from leadertag.errors import Changed, Conflict, LeaseLost
from leadertag.model import Characteristic, Lease, LockView, Phase, Record
from leadertag.plan import PLAN, Note, Plan
from leadertag.providers import BackendContext, LockProvider, Watch

from leadertag_zookeeper.backend import Backend
from leadertag_zookeeper.client import (
    Heard,
    Node,
    Operation,
    Stat,
    check,
    children,
    commit,
    create,
    delete,
    look,
    node_of,
    put,
    read,
    stat_of,
    sync,
    write,
)
from leadertag_zookeeper.link import Link
from leadertag_zookeeper.session import Session
from leadertag_zookeeper.watch import ZooKeeperWatch

_FREED = b"\nfreed"
"""How a record ends that was written by a release: its phase alone is not believed."""
LONGEST_NOTE = 900 * 1024
"""Bytes. A server breaks the connection over a request of more than a MiB (jute.maxbuffer)."""


class ZooKeeperLock(LockProvider):
    """Mutual exclusion by an ephemeral node; terms are transaction ids."""

    contract: ClassVar[int] = 1
    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {
            Characteristic.CROSS_HOST,
            Characteristic.NATIVE_WATCH,
            Characteristic.SERVER_SIDE_EXPIRY,
        }
    )

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._names = backend.names
        backend.locks_here = True

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the connections. The session lives on, and every lock with it."""
        self._backend.close()

    # -- the session -------------------------------------------------------------------

    def open(self, owner: str, *, ttl: float, session: str = "") -> str:
        """Start the session, or take ``session`` up again if it still lives."""
        return self._backend.session.open(ttl, session)

    def keep_alive(self) -> None:
        """Keep the session from expiring. kazoo pings, but only for as long as this is called."""
        self._backend.session.keep()

    def session_expiry(self, ttl: float) -> float:
        """Return the session's life, the time for which kazoo pings alone, and a tick.

        A server sees up to a tick late that a session has expired.
        """
        life = self._backend.settings.session(ttl)
        return life + Session.patience(life) + self._backend.settings.tick

    def end(self) -> None:
        """Close the session; locks that still hang on it are free, without a mark."""
        self._backend.session.end()

    # -- taking and giving ----------------------------------------------------------------

    def acquire(self, seen: LockView, record: Record) -> Lease | LockView:
        """Take the lock if it still is what was seen, and free, in one transaction.

        Its id is the term. It cannot stand in a record that is written by that very
        transaction: a record with term 0 stands for the term of its own writing.
        """
        backend, key, link = self._backend, seen.key, self._backend.session.link()
        backend.prepare()
        found = look_at(backend, link, key)
        if seen.foreign or found.view.foreign:
            raise self._foreign(key)
        if found.view.index != seen.index or not found.view.free:
            return found.view
        name = backend.session.name
        taking = [
            *write(self._names.record(key), replace(record, term=0).encode(), found.record),
            *create(self._names.holder(key), name.encode(), ephemeral=True),
            backend.told_locks(),
        ]
        term = backend.noted(commit(link, taking))
        if not term:
            return look_at(backend, link, key).view
        return Lease(key, term, term, name, replace(record, term=term))

    def _foreign(self, key: str) -> Conflict:
        return Conflict(
            f"lock {key}: {self._names.record(key)} at {self._backend.where} holds a value that "
            "is not leadertag's: delete that node, or choose another prefix"
        )

    def update(self, lease: Lease, record: Record) -> Lease:
        """Replace the record; the term stays."""
        record = replace(record, term=lease.term)
        index = self._write(lease, record.encode())
        return replace(lease, index=index, record=record)

    def release(self, lease: Lease, record: Record) -> None:
        """Write the last record, marked, and delete the holder's node."""
        value = replace(record, term=lease.term).encode() + _FREED
        self._write(lease, value, delete(self._names.holder(lease.key)))

    def _write(self, lease: Lease, value: bytes, *also: Operation) -> int:
        """Write the record of a lock that is held, in one transaction with ``also``."""
        fence, record = fenced(self._backend, lease)
        link = self._backend.session.link()
        replacing = put(self._names.record(lease.key), value, record.version)
        done = commit(link, [*fence, replacing, *also, self._backend.told_locks()])
        if not done:
            raise lost(lease)
        return done

    def discard(self, view: LockView) -> None:
        """Delete the holder's node, if it is this session's and the lock is what was seen."""
        link = self._backend.session.link()
        found = look_at(self._backend, link, view.key)
        mine = found.holder is not None and found.view.holder == self._backend.session.name
        if not mine or found.view.index != view.index:
            raise LeaseLost(f"lock {view.key} is not held by this session, or changed since")
        unchanged = [check(self._names.record(view.key), found.record.version)] if (
            found.record) else []  # fmt: skip
        freeing = delete(self._names.holder(view.key))
        if not commit(link, [*unchanged, freeing, self._backend.told_locks()]):
            raise LeaseLost(f"lock {view.key} has changed since it was read")

    def adopt(self, view: LockView, record: Record) -> Lease:
        """Take up a lock of this same session; its term stays, ``record`` replaces the old."""
        self._backend.session.link()
        term = view.record.term if view.record else 0
        if view.holder != self._backend.session.name or not term:
            raise LeaseLost(f"lock {view.key} is not held by this session with a term")
        return self.update(Lease(view.key, term, view.index, view.holder, record), record)

    # -- looking ----------------------------------------------------------------------------

    def confirm(self, leases: Sequence[Lease]) -> frozenset[str]:
        """Return the keys still held with those terms: read after a sync, in the session."""
        name = self._backend.session.name
        mine = [lease for lease in leases if name and lease.session == name]
        if not mine:
            return frozenset()
        places = [look(self._names.holder(lease.key)) for lease in mine]
        try:
            found = self._backend.session.link().ask(sync(self._names.locks), *places)[1:]
        except LeaseLost:
            return frozenset()
        stats = [stat_of(answer) for answer in found]
        return frozenset(
            lease.key for lease, stat in zip(mine, stats, strict=True)
            if stat and (stat.created, stat.session) == (lease.term, lease.session)
        )  # fmt: skip

    def read(self, key: str) -> LockView:
        """Read one lock and its plan."""
        return look_at(self._backend, self._backend.link(), key).view

    def watch(self, keys: Sequence[str]) -> Watch:
        """Watch two nodes, however many locks: one is written with each change of any lock,
        the other tells of holders that vanish."""
        wanted = tuple(keys)

        def load(heard: Heard) -> Mapping[str, Any]:
            self._backend.link().ask(
                look(self._names.locks, heard),
                look(self._names.holders, heard),  # it may not be there yet
                children(self._names.holders, heard),
            )
            return {
                found.view.key: found.view
                for found in looks_at(self._backend, self._backend.link(), wanted)
            }

        return ZooKeeperWatch(load)

    # -- notes ------------------------------------------------------------------------------

    def read_note(self, key: str, name: str) -> Note:
        """Read a note, a node of its own."""
        path = self._names.note(key, name)
        return _note(node_of(self._backend.link().ask(sync(path), read(path))[1]))

    def write_note(self, key: str, name: str, note: Note) -> Note:
        """Replace a note by comparing the version of what was read just before.

        One that is removed leaves an empty node: its versions must not begin anew.
        """
        path = self._names.note(key, name)
        if len(note.value) > LONGEST_NOTE:
            raise Conflict(
                f"{name} of {key} ({path} at {self._backend.where}): {len(note.value)} bytes are "
                f"too much for a note; at most {LONGEST_NOTE} are kept"
            )
        found = node_of(self._backend.link().ask(sync(path), read(path))[1])
        done = 0
        if _note(found).index == note.index:
            if not note.value and not note.index:
                return Note()  # there is nothing, and there shall be nothing
            tell = [self._backend.told_locks()] if name == PLAN else []
            writing = write(path, note.value, found.stat if found else None)
            done = self._backend.commit([*writing, *tell])
        if not done:
            raise Changed(
                f"{name} of {key} ({path} at {self._backend.where}) has changed since it was read"
            )
        return Note(note.value, done) if note.value else Note()


# -- what a lock is made of --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A lock, and the stats that a transaction has to compare."""

    view: LockView
    record: Stat | None
    holder: Stat | None


def look_at(backend: Backend, link: Link, key: str) -> Found:
    """Read one lock, linearizably."""
    return looks_at(backend, link, (key,))[0]


def looks_at(backend: Backend, link: Link, keys: Sequence[str]) -> list[Found]:
    """Read some locks, as they all were at one moment.

    A read is of one node. So the node that is written with every change is read before and
    after: if it is the same, so was all that was read in between. (A holder's node vanishes
    without a write; what is left of that lock does not change with it.)
    """
    names, deadline = backend.names, backend.deadline()
    requests = [sync(names.locks), look(names.locks)]
    for key in keys:
        requests += [look(names.holder(key)), read(names.record(key)), read(names.note(key, PLAN))]
    requests.append(look(names.locks))
    while True:
        answers = link.ask(*requests)
        if stat_of(answers[1]) == stat_of(answers[-1]):
            break
        backend.hurry(deadline, names.locks)
    parts = answers[2:-1]
    return [
        _found(key, stat_of(parts[3 * n]), node_of(parts[3 * n + 1]), node_of(parts[3 * n + 2]))
        for n, key in enumerate(keys)
    ]


def _found(key: str, holder: Stat | None, record: Node | None, plan: Node | None) -> Found:
    view = _view(key, holder, record, Plan.decode(_note(plan)))
    return Found(view, record.stat if record else None, holder)


def _view(key: str, holder: Stat | None, record: Node | None, plan: Plan) -> LockView:
    """Return a lock as its nodes have it. A record that somebody deleted is no record."""
    name = holder.session if holder else ""
    if record is None or not record.value:
        return LockView(key, holder.created if holder else 0, name, plan=plan)
    index = record.stat.modified
    known = Record.decode(record.value.removesuffix(_FREED))
    if known is None:
        return LockView(key, index, name, foreign=True, plan=plan)
    if not known.term:
        known = replace(known, term=index)
    if not holder and known.phase is Phase.RELEASED and not record.value.endswith(_FREED):
        # Lost after all, whatever its holder wrote into it: that is no mark.
        known = replace(known, phase=Phase.ELECTED)
    return LockView(key, index, name, known, plan=plan)


def _note(node: Node | None) -> Note:
    return Note(node.value, node.stat.modified) if node and node.value else Note()


def fenced(
    backend: Backend, lease: Lease, *, unwritten: bool = True
) -> tuple[list[Operation], Stat]:
    """Return what a transaction has to check so that it does nothing without the lock.

    And the record's stat. Raises LeaseLost when it is not held any more; with ``unwritten``
    also when its record is not the lease's.
    """
    if lease.session != backend.session.name:
        raise LeaseLost(f"lock {lease.key}: not held by this process's session")
    found = look_at(backend, backend.session.link(), lease.key)
    holder, record = found.holder, found.record
    held = holder and (holder.created, holder.session) == (lease.term, lease.session)
    if not held or record is None or (unwritten and record.modified != lease.index):
        raise lost(lease)
    names = backend.names
    return [check(names.record(lease.key), record.version), check(names.holder(lease.key))], record


def lost(lease: Lease) -> LeaseLost:
    """Return the error for a transaction that was refused."""
    return LeaseLost(
        f"lock {lease.key} is not held any more with term {lease.term}, or has changed since"
    )
