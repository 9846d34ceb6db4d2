"""The registry provider: instances that leadertag registers, their health, their gates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from leadertag.errors import Ambiguous, BackendUnavailable, LeaseLost, NotRegistered
from leadertag.kit.registration import Registration
from leadertag.model import Characteristic, Gate, Health, Instance, Lease, Record, TagChange
from leadertag.providers import BackendContext, FencedRegistry, SelfRegistered, Watch
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import Entry, Span, modified, put, untouched
from leadertag_etcd.leases import KeptLease
from leadertag_etcd.lock import held, lost
from leadertag_etcd.roster import Roster
from leadertag_etcd.shelf import Shelf, Shelved, shelved
from leadertag_etcd.skydns import Shown
from leadertag_etcd.watch import EtcdWatch


class EtcdRegistry(FencedRegistry, SelfRegistered):
    """Instances on leases of the processes that speak for them."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {Characteristic.CROSS_HOST, Characteristic.NATIVE_WATCH, Characteristic.FENCED_TAGS}
    )
    requires: ClassVar[tuple[str, ...]] = ("etcd3", "grpc")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._names = backend.names
        self._shelf = Shelf(backend)
        self._roster = Roster(backend, self._shelf)
        self._beat = KeptLease(backend.client, "heartbeat")
        backend.skydns.beat = self._beat.demand
        self._beating = threading.Lock()

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the connection. Everything registered stays until its lease ends."""
        self._client.close()

    @property
    def node(self) -> str:
        """The setting ``node``, or the host's name."""
        return self._shelf.node

    @property
    def gate_life(self) -> float:
        """The life of the heartbeat's lease, and the second in which etcd sees that it ended.

        A new etcd leader starts the time of all leases anew.
        """
        return self._backend.settings.gate_ttl + 1.0

    # -- reading -----------------------------------------------------------------------

    def local(self, service: str, instance_id: str = "") -> Instance:
        """Return the one instance of this node; NotRegistered or Ambiguous otherwise."""
        found = [one for one in self._shelf.here(service) if instance_id in ("", one.id)]
        if not found:
            named = f" with id {instance_id!r}" if instance_id else ""
            raise NotRegistered(
                f"{self._backend.where}: no instance of {service!r}{named} on node {self.node!r}"
            )
        if len(found) > 1:
            ids = ", ".join(repr(one.id) for one in found)
            raise Ambiguous(
                f"{self._backend.where}: several instances of {service!r} on node "
                f"{self.node!r}: {ids}; say which"
            )
        self._shelf.note(found[0].id, service)
        return found[0]

    def members(self, service: str) -> tuple[Instance, ...]:
        """Return all instances of the service, by one linearizable read."""
        _, found, alive = self._shelf.members(service)
        return tuple(one.registration.instance(alive) for one in found)

    def watch(self, instances: Sequence[tuple[str, str]]) -> Sequence[Watch]:
        """One watch, however many instances."""
        wanted, names, node = frozenset(instances), self._names, self.node

        def is_own(key: str) -> bool:
            parts = names.parts(key)
            if parts is None or parts[1] != node:
                return False
            return (parts[0], "") in wanted or (parts[0], parts[2]) in wanted

        return [self._watch(Span.under(names.instances), is_own, lambda one: one.id)]

    def watch_members(self, service: str) -> Watch:
        """Watch the service's instances and the heartbeats that their gates follow."""
        prefix = self._names.instances_of(service)
        span = Span.under(prefix)
        return self._watch(span, lambda key: key.startswith(prefix), lambda one: one.member)

    def _watch(
        self, span: Span, concerns: Callable[[str], bool], name: Callable[[Instance], str]
    ) -> Watch:
        beats = self._names.beats

        def make(entries: Mapping[str, Entry]) -> Mapping[str, Any]:
            alive = self._shelf.alive([e for e in entries.values() if e.key.startswith(beats)])
            found = shelved([e for e in entries.values() if not e.key.startswith(beats)])
            instances = [one.registration.instance(alive) for one in found]
            return {name(instance): instance for instance in instances}

        return EtcdWatch(
            self._backend, [span, self._backend.beats()],
            lambda key: key.startswith(beats) or concerns(key), make,
        )  # fmt: skip

    # -- registering -------------------------------------------------------------------

    def register(self, instance: Instance) -> None:
        """Make it known on this node. One that is known keeps its tags, gates and health."""
        self._roster.register(instance)

    def deregister(self, instance_id: str) -> None:
        """Forget the instance."""
        self._roster.deregister(instance_id)

    def report(self, instance_id: str, health: Health, output: str = "") -> None:
        """Tell the health. An instance that nobody reports on vanishes with its lease."""
        self._roster.report(instance_id, health, output)

    # -- tags and gates ----------------------------------------------------------------

    def tag(
        self, instance_id: str, change: TagChange, *, gate: Gate | None = None, timeout: float
    ) -> None:
        """One transaction; what it wrote can be read by everybody when it returns."""
        self._shelf.change(instance_id, lambda old: old.tagged(change, gate), timeout=timeout)

    def open_gate(self, instance_id: str, gate: Gate) -> None:
        """Let it follow this process's heartbeat; LeaseLost when a later leader shut it.

        The heartbeat is written in the same transaction, should somebody have deleted it.
        """
        self.heartbeat()
        process = self._backend.process
        beat = put(self._names.beat(process), b"", lease=self._beat.demand())
        self._shelf.change(instance_id, lambda old: old.opened(gate, process), also=[beat])

    def close_gate(self, instance_id: str, gate: Gate) -> None:
        """Close it, whatever process had opened it."""
        self._shelf.change(instance_id, lambda old: old.closed(gate))

    def remove_gates(self, instance_id: str, *, keep: Gate | None = None) -> None:
        """Remove them; nothing is written when there is none."""
        self._shelf.change(instance_id, lambda old: old.without_gates(keep))

    def heartbeat(self) -> None:
        """Keep the heartbeat's lease alive: no write, unless it had lapsed."""
        with self._beating:
            if self._beat.id:
                try:
                    self._beat.keep()
                except LeaseLost:
                    pass  # it had lapsed, and the gates are closed: open them again
                else:
                    return
            lease = self._beat.grant(self._backend.settings.gate_ttl)
            beat = put(self._names.beat(self._backend.process), b"", lease=lease)
            while not self._client.commit(*self._opened_anew(beat)):
                pass  # an instance was written meanwhile: each time by somebody who got on

    def _opened_anew(self, beat: Any) -> tuple[list[Any], list[Any]]:
        """Return the transaction that opens this process's gates again, and with them the DNS
        records that went with the last heartbeat: comparisons and operations."""
        compares, operations = [], [beat]
        for instance_id in self._roster.ids() if self._backend.skydns.wanted else ():
            found = self._shelf.find(instance_id)
            if found is None:
                continue
            records = self._backend.skydns.again(Shown(found.registration, found.entry.lease))
            if records:
                compares.append(modified(found.entry.key, found.entry.modified))
                operations += records
        return compares, operations

    # -- under a lease -----------------------------------------------------------------

    def shut_out(self, other: Instance, lease: Lease) -> None:
        """Shut its gates for good, in a transaction that compares the lock as well.

        It gets a critical check besides, for what it may have without a gate; that goes
        with its member's next :meth:`remove_gates`, or with its gate of a later term.
        """
        key = self._names.instance(other.service, other.node, other.id)
        # The lease of another backend cannot be looked at.
        holds = held(self._backend, lease)[:1] if self._backend.locks_here else []
        deadline = time.monotonic() + self._backend.settings.timeout
        while True:
            _, (entries,) = self._client.read(Span.key(key))
            found = shelved(entries)
            compares = [*holds, modified(key, found[0].entry.modified if found else 0)]
            operations = [
                operation for one in found
                for operation in self._shelf.replace(one, one.registration.shut_out(lease.term))
            ]  # fmt: skip
            if self._client.commit(compares, operations):
                return
            self._demand(lease, holds)
            self._hurry(deadline, key)

    def publish(
        self, lease: Lease, record: Record, instance_id: str, change: TagChange, gate: Gate | None
    ) -> Lease:
        """Record, tag, closed gate, and the leader tag off every other instance: or nothing.

        The transaction compares the lock, its record, and that no instance of the service
        was written since they were read.
        """
        holds = held(self._backend, lease)
        record = replace(record, term=lease.term)
        write = put(self._names.record(lease.key), record.encode())
        deadline = time.monotonic() + self._backend.settings.timeout
        while True:
            self._demand(lease, holds)
            mine = self._shelf.demand(instance_id)
            service, key = mine.registration.service, mine.entry.key
            revision, members, _ = self._shelf.members(service)
            operations = [write]
            compares = [*holds, untouched(Span.under(self._names.instances_of(service)), revision)]
            for one in members:
                changed = _published(one, key, change, gate)
                if changed != one.registration:
                    operations += self._shelf.replace(one, changed)
                if changed != one.registration or one.entry.key == key:
                    # That it still exists, which the comparison of the span leaves open.
                    compares.append(modified(one.entry.key, one.entry.modified))
            there = key in {one.entry.key for one in members}  # else: gone just now
            index = self._client.commit(compares, operations) if there else 0
            if index:
                return Lease(lease.key, lease.term, index, lease.session, record)
            self._hurry(deadline, key)

    def _demand(self, lease: Lease, compares: Sequence[Any]) -> None:
        """Raise LeaseLost unless those comparisons hold; writes nothing."""
        if compares and not self._client.commit(compares, []):
            raise lost(lease)

    def _hurry(self, deadline: float, key: str) -> None:
        if time.monotonic() > deadline:
            raise BackendUnavailable(
                f"{self._backend.where}: {key} is changed by others all the time"
            )


def _published(one: Shelved, mine: str, change: TagChange, gate: Gate | None) -> Registration:
    """Return what an instance becomes when the one with the key ``mine`` is published."""
    found = one.registration
    return found.tagged(change, gate) if one.entry.key == mine else found.published(change, gate)
