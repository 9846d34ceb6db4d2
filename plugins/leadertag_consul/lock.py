"""Locks: keys under ``<prefix>/locks/`` that hang on one session of the process.

Every write is a transaction that compares the key's index, so a message that arrives late
changes nothing. The term is the ModifyIndex of the acquisition: raft's own counter, which
strictly increases cluster-wide.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar, Self

from leadertag.errors import Changed, ConfigError, Conflict, LeaseLost
from leadertag.model import Characteristic, Lease, LockView, Phase, Record
from leadertag.plan import PLAN, Note, Plan
from leadertag.providers import BackendContext, LockProvider, Watch
from leadertag_consul.backend import Backend
from leadertag_consul.blocking import BlockingRead, BlockingWatch
from leadertag_consul.client import TXN_LIMIT, Answer, Refused
from leadertag_consul.guard import PREDECESSOR, PredecessorLock
from leadertag_consul.kv import Entry, entry_of, note_key, note_of, operation, swap, view_of

_SHORTEST_TTL, _LONGEST_TTL = 10.0, 86400.0  # Consul refuses anything else
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ConsulLock(LockProvider):
    """Mutual exclusion by Consul sessions."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {
            Characteristic.CROSS_HOST,
            Characteristic.NATIVE_WATCH,
            Characteristic.SERVER_SIDE_EXPIRY,
        }
    )

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._prefix = f"{backend.settings.prefix}/locks/"
        backend.locks_here = True
        self._session = ""
        self._guards: set[PredecessorLock] = set()
        self._terms: dict[str, tuple[str, int]] = {}

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the idle connections. The session lives on, and every lock with it."""
        self._client.close()

    # -- the session -------------------------------------------------------------------

    def open(self, owner: str, *, ttl: float, session: str = "") -> str:
        """Start the process's session, or take ``session`` up again if it still lives.

        Bound to ``serfHealth``, so that a dead node frees its locks within seconds. The
        TTL (at least 10 s, and Consul waits for twice that) is the last resort. Without
        lock delay: what a successor waits for is the lease, not a constant of Consul's.
        """
        self._backend.owner = owner
        if session and self._alive(session):
            self._session = session
            return session
        body = {
            "Name": f"leadertag {owner}",
            "NodeChecks": ["serfHealth"],
            "LockDelay": "0s",
            "Behavior": "release",
            "TTL": f"{int(min(max(ttl, _SHORTEST_TTL), _LONGEST_TTL) * 1000)}ms",
        }
        try:
            answer = self._client.put("/v1/session/create", body)
        except Refused as refused:
            # A node that the catalog knows without serf (just joined, or external).
            if "Missing check 'serfHealth'" not in refused.text:
                raise
            answer = self._client.put("/v1/session/create", {**body, "NodeChecks": []})
        self._session = str(answer.data["ID"])
        return self._session

    def session_expiry(self, ttl: float) -> float:
        """Twice the TTL: Consul's own promise. A dead node's goes sooner, with serfHealth."""
        return 2 * min(max(ttl, _SHORTEST_TTL), _LONGEST_TTL)

    def _alive(self, session: str) -> bool:
        if not _UUID.fullmatch(session):
            return False
        info = self._client.verb(lambda consul: consul.session.renew(session))
        # Another node's session would outlive this node: never take that one up.
        return info is not None and info["Node"] == self._backend.node.name

    def keep_alive(self) -> None:
        """Renew the session (and those of guards): 0 raft entries, proves nothing."""
        session = self._own()
        for guard in list(self._guards):
            guard.renew()
        if not self._client.verb(lambda consul: consul.session.renew(session)):
            raise LeaseLost(f"Consul session {session} is gone")

    def end(self) -> None:
        """Destroy the session. Its locks should be released by now: then nobody waits."""
        if self._session:
            session, self._session = self._session, ""
            self._client.verb(lambda consul: consul.session.destroy(session))

    def _own(self) -> str:
        if not self._session:
            raise LeaseLost("no Consul session is open")
        return self._session

    # -- taking and giving ----------------------------------------------------------------

    def acquire(self, seen: LockView, record: Record) -> Lease | LockView:
        """Take the lock that was ``seen`` free, in two transactions.

        The first takes it, if the key is still what was seen; its index is the term. The
        second writes that term into the record. Between the two the record has term 0,
        which is nobody's leadership; a process that dies there leaves a lock to discard.
        """
        if seen.foreign:
            raise self._foreign(seen.key)
        session, key = self._own(), self._prefix + seen.key
        guard = (
            operation("check-index", key, Index=seen.index)
            if seen.exists
            else operation("check-not-exists", key)
        )
        first = replace(record, term=0)
        lock = operation("lock", key, value=first.encode(), Session=session)
        outcome = self._client.txn([guard, lock])
        if not outcome.committed:
            if "invalid session" in outcome.reasons:
                raise LeaseLost(f"Consul session {session} is gone")
            return self._instead(seen.key)
        index = int(outcome.results[-1]["KV"]["ModifyIndex"])
        lease = Lease(seen.key, index, index, session, first)
        try:
            return self._replace(lease, replace(record, term=index))
        except LeaseLost:
            return self._instead(seen.key)

    def _instead(self, key: str) -> LockView:
        view = self.read(key)
        if view.foreign:
            raise self._foreign(key)
        return view

    def _foreign(self, key: str) -> Conflict:
        return Conflict(
            f"{self._prefix}{key} at {self._backend.settings.address} holds a value that is not "
            "leadertag's: delete that key, or choose another prefix"
        )

    def update(self, lease: Lease, record: Record) -> Lease:
        """Replace the record. A write that keeps the holder: compares index and session."""
        self._check_term(lease)
        return self._replace(lease, record)

    def _replace(self, lease: Lease, record: Record) -> Lease:
        key = self._prefix + lease.key
        outcome = self._client.txn(
            [
                operation("check-session", key, Session=lease.session),
                operation("cas", key, value=record.encode(), Index=lease.index),
            ]
        )
        if not outcome.committed:
            raise self._lost(lease, outcome.reasons)
        index = int(outcome.results[-1]["KV"]["ModifyIndex"])
        return replace(lease, index=index, record=record)

    def release(self, lease: Lease, record: Record) -> None:
        """Write the last record and free the lock in one transaction."""
        self._check_term(lease)
        self._unlock(lease.key, lease.index, lease.session, record.encode())

    def _unlock(self, key: str, index: int, session: str, value: bytes) -> None:
        full = self._prefix + key
        outcome = self._client.txn(
            [
                operation("check-index", full, Index=index),
                operation("unlock", full, value=value, Session=session),
            ]
        )
        if not outcome.committed:
            raise LeaseLost(f"lock {key} is not held any more: {outcome.reasons}")

    def _check_term(self, lease: Lease) -> None:
        """Raise LeaseLost unless the lock's record, at the lease's index, has its term.

        Consul cannot compare a value in a transaction. The index pins what was read here:
        the transaction that follows is refused if anything was written in between.
        """
        view = view_of(lease.key, self._entry(lease.key))
        term = view.record.term if view.record else 0
        if (view.index, view.holder, term) != (lease.index, lease.session, lease.term):
            raise self._lost(lease, "it changed since")

    def _lost(self, lease: Lease, why: str) -> LeaseLost:
        return LeaseLost(f"lock {lease.key} is not held any more with term {lease.term}: {why}")

    def discard(self, view: LockView) -> None:
        """Free a lock that this session holds without its term, and leave no mark."""
        session = self._own()
        entry = self._entry(view.key)
        if entry is None or (entry.index, entry.holder) != (view.index, session):
            raise LeaseLost(f"lock {view.key} is not held by this session, or changed since")
        record = Record.decode(entry.value)
        if record is not None and record.phase is Phase.RELEASED:
            # The mark of a release would tell a successor that it owes no wait.
            unmarked = replace(record, phase=Phase.ELECTED)
            self._unlock(view.key, view.index, session, unmarked.encode())
        else:
            self._unlock(view.key, view.index, session, entry.value)

    def adopt(self, view: LockView, record: Record) -> Lease:
        """Take up a lock of this same session; its term stays, ``record`` replaces the old."""
        session = self._own()
        term = view.record.term if view.record else 0
        if view.holder != session or not term:
            raise LeaseLost(f"lock {view.key} is not held by this session with a term")
        lease = Lease(view.key, term, view.index, session, record)
        return self._replace(lease, replace(record, term=term))

    # -- looking ----------------------------------------------------------------------------

    def confirm(self, leases: Sequence[Lease]) -> frozenset[str]:
        """Return the keys still held with those terms: linearizable reads, 64 a request."""
        held: set[str] = set()
        mine = [lease for lease in leases if lease.session == self._session]
        for start in range(0, len(mine), TXN_LIMIT):
            held |= self._confirm(mine[start : start + TXN_LIMIT])
        return frozenset(held)

    def _confirm(self, leases: list[Lease]) -> set[str]:
        while leases:
            reads = [operation("get", self._prefix + lease.key) for lease in leases]
            outcome = self._client.txn(reads, consistent=True)
            if outcome.committed:
                found = {result["KV"]["Key"]: result["KV"] for result in outcome.results}
                return {lease.key for lease in leases if self._holds(lease, found)}
            # Reads fail for keys that do not exist: those are lost, ask about the others.
            leases = [lease for n, lease in enumerate(leases) if n not in outcome.failures]
        return set()

    def _holds(self, lease: Lease, found: Mapping[str, Mapping[str, Any]]) -> bool:
        pair = found.get(self._prefix + lease.key)
        if pair is None or pair.get("Session") != lease.session:
            return False
        # Decoded once for each record: this runs several times a second for every lock.
        value = pair.get("Value") or ""
        known, term = self._terms.get(lease.key, ("", 0))
        if known != value:
            record = Record.decode(base64.b64decode(value))
            term = record.term if record else 0
            self._terms[lease.key] = (value, term)
        return term == lease.term

    def read(self, key: str) -> LockView:
        """Read one lock and its plan, linearizably, of one moment where the lock exists."""
        full = self._prefix + key
        answer = self._client.get(f"/v1/kv/{full}", {"recurse": "", "consistent": ""})
        pairs = {pair["Key"]: pair for pair in answer.data or ()}
        # From a list Consul leaves out what the token may not read. One key alone says so.
        entry = entry_of(pairs[full]) if full in pairs else self._entry(key)
        return view_of(key, entry, Plan.decode(note_of(pairs.get(note_key(full, PLAN)))))

    def _entry(self, key: str) -> Entry | None:
        answer = self._client.get(f"/v1/kv/{self._prefix}{key}", {"consistent": ""})
        return entry_of(answer.data[0]) if answer.data else None

    def watch(self, keys: Sequence[str]) -> Watch:
        """Watch all of them by one blocking read of the common prefix."""
        read = BlockingRead(self._client, f"/v1/kv/{self._prefix}", {"recurse": ""})
        return LockWatch(read, self._prefix, keys)

    # -- notes --------------------------------------------------------------------------------

    def read_note(self, key: str, name: str) -> Note:
        """Read a note, a key of its own without a session."""
        path = f"/v1/kv/{note_key(self._prefix + key, name)}"
        answer = self._client.get(path, {"consistent": ""})
        return note_of(answer.data[0] if answer.data else None)

    def write_note(self, key: str, name: str, note: Note) -> Note:
        """Replace or remove a note by compare-and-set of its ModifyIndex."""
        full = note_key(self._prefix + key, name)
        outcome = self._client.txn(swap(full, note), consistent=True)
        if not outcome.committed:
            where = self._backend.settings.address
            raise Changed(f"{full} at {where} has changed since it was read: {outcome.reasons}")
        if not note.value:
            return Note()
        return Note(note.value, int(outcome.results[-1]["KV"]["ModifyIndex"]))

    # -- the predecessor ----------------------------------------------------------------------

    def guard(self, compat: str, query: str, service: str) -> AbstractContextManager[bool]:
        """Return the predecessor's election lock, ``check-<query>-<service>``."""
        if compat != PREDECESSOR:
            raise ConfigError(f"compat = {compat!r} is unknown (known: {PREDECESSOR!r})")
        return PredecessorLock(self._client, f"check-{query}-{service}", self._guards)


_Raw = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
"""A lock and its plan as Consul answered them."""


class LockWatch(BlockingWatch):
    """All locks of the process in one read, their plans with them.

    Keys that do not exist are told as such; of the other notes nothing is even decoded.

    While nothing at all exists under the prefix, Consul blocks on the index of the whole
    KV store, and any write anywhere wakes the read: the pause in ``poll`` bounds that.
    """

    def __init__(self, read: BlockingRead, prefix: str, keys: Sequence[str]) -> None:
        super().__init__(read)
        self._prefix = prefix
        self._keys = tuple(keys)
        self._known: dict[str, tuple[_Raw, LockView]] = {}

    def _snapshot(self, answer: Answer) -> Mapping[str, LockView]:
        pairs = {pair["Key"]: pair for pair in answer.data or ()}
        known, self._known = self._known, {}
        for key in self._keys:
            full = self._prefix + key
            raw = pairs.get(full), pairs.get(note_key(full, PLAN))
            before, view = known.get(key, ((None, None), LockView(key)))
            if raw != before:  # decoded only where it changed: others share the prefix
                entry = entry_of(raw[0]) if raw[0] else None
                view = view_of(key, entry, Plan.decode(note_of(raw[1])))
            self._known[key] = (raw, view)
        return {key: view for key, (_, view) in self._known.items()}
