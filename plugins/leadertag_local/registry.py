"""The registry provider: instances, their reported health, their gates."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

from leadertag.errors import Ambiguous, LeaseLost, NotRegistered
from leadertag.model import Characteristic, Gate, Health, Instance, Lease, Record, TagChange
from leadertag.providers import BackendContext, FencedRegistry, SelfRegistered, Watch
from leadertag_local.client import LocalClient
from leadertag_local.instances import (
    SHUT_OUT,
    Found,
    GateRow,
    read_gates,
    read_instances,
    write_tags,
)
from leadertag_local.lock import demand_lock, rewrite
from leadertag_local.watch import LocalWatch


class LocalRegistry(FencedRegistry, SelfRegistered):
    """Instances of one host; leadertag registers them and reports their health."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {Characteristic.NATIVE_WATCH, Characteristic.FENCED_TAGS}
    )

    def __init__(self, client: LocalClient) -> None:
        self._client = client
        self._store = client.store

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """See :class:`leadertag_local.settings.LocalSettings` for what can be set."""
        return cls(LocalClient.of(context))

    def close(self) -> None:
        """Close the idle connections."""
        self._store.close()

    @property
    def node(self) -> str:
        """The setting ``node``, or the host's name."""
        return self._client.settings.node

    @property
    def gate_life(self) -> float:
        """The setting ``gate_life``: the same for all processes that use the file."""
        return self._client.settings.gate_life

    # -- reading -----------------------------------------------------------------------

    def local(self, service: str, instance_id: str = "") -> Instance:
        """Return the one instance of this node; NotRegistered or Ambiguous otherwise."""
        with self._store.read() as database:
            found = read_instances(
                self._client,
                database,
                service=service,
                node=self.node,
                instance_id=instance_id or None,
            )
        if not found:
            named = f" with id {instance_id!r}" if instance_id else ""
            raise NotRegistered(
                f"{self._store.path}: no instance of {service!r}{named} on node {self.node!r}"
            )
        if len(found) > 1:
            ids = ", ".join(repr(one.instance.id) for one in found)
            raise Ambiguous(
                f"{self._store.path}: several instances of {service!r} on node {self.node!r}: "
                f"{ids}; say which"
            )
        return found[0].instance

    def members(self, service: str) -> tuple[Instance, ...]:
        """Return all instances of the service."""
        with self._store.read() as database:
            found = read_instances(self._client, database, service=service)
        return tuple(one.instance for one in found)

    def watch(self, instances: Sequence[tuple[str, str]]) -> Sequence[Watch]:
        """One watch, however many instances."""
        client, wanted = self._client, frozenset(instances)

        def is_wanted(instance: Instance) -> bool:
            return bool(wanted & {(instance.service, ""), (instance.service, instance.id)})

        def look(database: sqlite3.Connection) -> list[Found]:
            found = read_instances(client, database, node=client.settings.node)
            return [one for one in found if is_wanted(one.instance)]

        return [self._watch(look, lambda instance: instance.id)]

    def watch_members(self, service: str) -> Watch:
        """Watch the service's rows, and the moments at which something in them expires."""
        client = self._client

        def look(database: sqlite3.Connection) -> list[Found]:
            return read_instances(client, database, service=service)

        return self._watch(look, lambda instance: instance.member)

    def _watch(
        self,
        find: Callable[[sqlite3.Connection], list[Found]],
        name: Callable[[Instance], str],
    ) -> Watch:
        def look(database: sqlite3.Connection) -> tuple[Mapping[str, Instance], float | None]:
            found = find(database)
            due = [one.due for one in found if one.due is not None]
            return {name(one.instance): one.instance for one in found}, min(due, default=None)

        return LocalWatch(self._client, look)

    # -- registering -------------------------------------------------------------------

    def register(self, instance: Instance) -> None:
        """Make it known on this node. One that is known keeps its tags, gates and health.

        A process that registers what another one registered takes it over: it is the same
        member after a restart.
        """
        described = (
            instance.service,
            instance.address,
            instance.port,
            json.dumps(dict(instance.meta)),
            json.dumps(dict(self._client.settings.node_meta)),
        )
        key = (self.node, instance.id)
        with self._store.read() as database:
            present = database.execute(
                "SELECT service, address, port, meta, node_meta FROM instances "
                "WHERE node = ? AND id = ?",
                key,
            ).fetchone()
        if present == described:
            return  # told again with every check: that must not write, nor wake the watches
        with self._store.write() as database:
            self._client.tidy(database)
            changed = database.execute(
                "UPDATE instances SET service = ?, address = ?, port = ?, meta = ?, node_meta = ? "
                "WHERE node = ? AND id = ?",
                (*described, *key),
            ).rowcount
            if not changed:
                database.execute(
                    "INSERT INTO instances (service, address, port, meta, node_meta, node, id, "
                    "tags, health, output, beat) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)",
                    (*described, *key, json.dumps(instance.tags), Health.UNKNOWN, _new_beat()),
                )

    def deregister(self, instance_id: str) -> None:
        """Forget the instance, its gates and what was reported."""
        key = (self.node, instance_id)
        with self._store.write() as database:
            row = database.execute(
                "SELECT beat FROM instances WHERE node = ? AND id = ?", key
            ).fetchone()
            database.execute("DELETE FROM instances WHERE node = ? AND id = ?", key)
            database.execute("DELETE FROM gates WHERE node = ? AND instance = ?", key)
        if row:
            self._client.beats.remove(row[0])

    def report(self, instance_id: str, health: Health, output: str = "") -> None:
        """Tell the health. The database is written when it changes, its output with it.

        Told again, it is only kept from going stale.
        """
        client, key = self._client, (self.node, instance_id)
        at = client.clock.now()
        with self._store.read() as database:
            row = database.execute(
                "SELECT health, beat FROM instances WHERE node = ? AND id = ?", key
            ).fetchone()
        if row is None:
            raise self._unknown(instance_id)
        known, beat = row
        stale = not client.beats.fresh(beat, client.settings.report_life, at)
        client.beats.write(beat, at)
        if known != health:
            with self._store.write() as database:
                database.execute(
                    "UPDATE instances SET health = ?, output = ? WHERE node = ? AND id = ?",
                    (health, output, *key),
                )
        elif stale:
            self._store.poke()  # it has come back to life without a commit

    # -- tags and gates ----------------------------------------------------------------

    def tag(
        self, instance_id: str, change: TagChange, *, gate: Gate | None = None, timeout: float
    ) -> None:
        """One transaction; what it wrote can be read by everybody when it returns.

        A gate that is registered already stays as it is.
        """
        with self._store.read() as database:
            if not self._to_do(database, instance_id, change, gate):
                return
        with self._store.write(timeout) as database:
            self._apply(database, instance_id, change, gate)

    def open_gate(self, instance_id: str, gate: Gate) -> None:
        """Let it follow this process's heartbeat; LeaseLost when a later leader shut it."""
        with self._store.write() as database:
            present = self._gate(database, instance_id, gate)
            if present.shut:
                raise LeaseLost(f"gate {gate.id!r}: was shut by the leader of a later term")
            database.execute(
                "UPDATE gates SET opened = 1, owner = ? WHERE node = ? AND instance = ? AND id = ?",
                (self._client.process, self.node, instance_id, gate.id),
            )

    def close_gate(self, instance_id: str, gate: Gate) -> None:
        """Close it for whatever process had opened it."""
        with self._store.write() as database:
            self._gate(database, instance_id, gate)
            database.execute(
                "UPDATE gates SET opened = 0 WHERE node = ? AND instance = ? AND id = ?",
                (self.node, instance_id, gate.id),
            )

    def remove_gates(self, instance_id: str, *, keep: Gate | None = None) -> None:
        """Remove them; nothing is written when there is none."""
        kept = keep.id if keep else ""
        with self._store.read() as database:
            present = read_gates(database, self.node, instance_id)
        if any(gate.id != kept for gate in present):
            with self._store.write() as database:
                database.execute(
                    "DELETE FROM gates WHERE node = ? AND instance = ? AND id <> ?",
                    (self.node, instance_id, kept),
                )

    def shut_out(self, other: Instance, lease: Lease) -> None:
        """Shut its gates for good: its own process cannot open them again.

        It gets a critical check besides, for what it may have without a gate; that goes with
        its member's next :meth:`remove_gates`, or with its gate of a later term.
        """
        with self._store.write() as database:
            if self._client.locks_here:  # a lease of another backend cannot be looked at
                self._client.demand_session(database, lease.session)
                demand_lock(database, lease)
            if not read_instances(self._client, database, node=other.node, instance_id=other.id):
                return  # gone: nothing that could be resolved
            database.execute(
                "INSERT OR REPLACE INTO gates VALUES (?, ?, ?, '', ?, 0, 1, '')",
                (other.node, other.id, SHUT_OUT, lease.term),
            )
            database.execute(
                "UPDATE gates SET shut = 1 WHERE node = ? AND instance = ?", (other.node, other.id)
            )

    def heartbeat(self) -> None:
        """Overwrite this process's sign of life."""
        client = self._client
        at = client.clock.now()
        lapsed = not client.beats.fresh(client.process, client.settings.gate_life, at)
        if lapsed:
            # Also the first one of the process, which makes sure that the folder is there.
            self._store.connect().close()
        client.beats.write(client.process, at)
        if lapsed:
            self._store.poke()  # gates have opened without a commit

    def publish(
        self, lease: Lease, record: Record, instance_id: str, change: TagChange, gate: Gate | None
    ) -> Lease:
        """Record, tag, closed gate, and the leader tag off every other instance: or nothing."""
        with self._store.write() as database:
            self._client.demand_session(database, lease.session)
            renewed = rewrite(database, lease, record)
            mine = self._apply(database, instance_id, change, gate)
            undo = TagChange(remove=change.add)
            for found in read_instances(self._client, database, service=mine.service):
                other, tags = found.instance, undo.apply(found.instance.tags)
                if other.member == mine.member or tags == other.tags:
                    continue
                write_tags(database, other.node, other.id, tags)
                if gate is not None:
                    # Should its process tag it again before it learns, it still does not pass.
                    database.execute(
                        "UPDATE gates SET shut = 1 "
                        "WHERE node = ? AND instance = ? AND election = ?",
                        (other.node, other.id, gate.election),
                    )
            return renewed

    def _to_do(
        self,
        database: sqlite3.Connection,
        instance_id: str,
        change: TagChange,
        gate: Gate | None,
    ) -> bool:
        instance = self._own(database, instance_id)
        gates = read_gates(database, self.node, instance_id)
        return change.apply(instance.tags) != instance.tags or (
            gate is not None and (gate.id not in {g.id for g in gates} or _lifts(gates, gate))
        )

    def _apply(
        self,
        database: sqlite3.Connection,
        instance_id: str,
        change: TagChange,
        gate: Gate | None,
    ) -> Instance:
        instance = self._own(database, instance_id)
        write_tags(database, self.node, instance_id, change.apply(instance.tags))
        if gate is not None:
            if _lifts(read_gates(database, self.node, instance_id), gate):
                database.execute(
                    "DELETE FROM gates WHERE node = ? AND instance = ? AND id = ?",
                    (self.node, instance_id, SHUT_OUT),
                )
            database.execute(
                "INSERT OR IGNORE INTO gates VALUES (?, ?, ?, ?, ?, 0, 0, '')",
                (self.node, instance_id, gate.id, gate.election, gate.term),
            )
        return instance

    def _own(self, database: sqlite3.Connection, instance_id: str) -> Instance:
        found = read_instances(self._client, database, node=self.node, instance_id=instance_id)
        if not found:
            raise self._unknown(instance_id)
        return found[0].instance

    def _gate(self, database: sqlite3.Connection, instance_id: str, gate: Gate) -> GateRow:
        self._own(database, instance_id)
        for present in read_gates(database, self.node, instance_id):
            if present.id == gate.id:
                return present
        raise NotRegistered(f"instance {instance_id!r} has no gate {gate.id!r}")

    def _unknown(self, instance_id: str) -> NotRegistered:
        return NotRegistered(
            f"{self._store.path}: no instance {instance_id!r} on node {self.node!r}"
        )


def _new_beat() -> str:
    return f"instance-{os.urandom(8).hex()}"


def _lifts(gates: Sequence[GateRow], gate: Gate) -> bool:
    """Whether a shut-out ends with this gate, because it is of an earlier term."""
    return any(present.id == SHUT_OUT and present.term < gate.term for present in gates)
