"""The registry provider: instances that leadertag registers, their health, their gates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from leadertag.errors import Ambiguous, NotRegistered
from leadertag.kit.registration import Registration
from leadertag.model import Characteristic, Gate, Health, Instance, Lease, Record, TagChange
from leadertag.providers import BackendContext, FencedRegistry, SelfRegistered, Watch

from leadertag_zookeeper.backend import Backend
from leadertag_zookeeper.client import Heard, Operation, check, children, look, put
from leadertag_zookeeper.lock import fenced
from leadertag_zookeeper.presence import Presence
from leadertag_zookeeper.shelf import Found, Shelf
from leadertag_zookeeper.watch import ZooKeeperWatch


@dataclass
class _Told:
    """An instance as this process last described it, and what it last said of its health."""

    instance: Instance
    health: Health
    told_at: float


class ZooKeeperRegistry(FencedRegistry, SelfRegistered):
    """Instances that count while the process that speaks for them lives."""

    contract: ClassVar[int] = 1
    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {Characteristic.CROSS_HOST, Characteristic.NATIVE_WATCH, Characteristic.FENCED_TAGS}
    )

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._names = backend.names
        self._shelf = Shelf(backend)
        process, settings = backend.process, backend.settings
        self._alive = Presence(backend, f"{self._names.alive}/{process}", settings.report_life)
        self._beat = Presence(backend, f"{self._names.beats}/{process}", settings.gate_session)
        self._told: dict[str, _Told] = {}
        self._mutex = threading.Lock()
        self._looked_at = time.monotonic()

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the connections. What is registered counts until their sessions expire."""
        self._alive.leave()
        self._beat.leave()
        self._backend.close()

    @property
    def node(self) -> str:
        """The setting ``node``, or the host's name."""
        return self._shelf.node

    @property
    def gate_life(self) -> float:
        """The session's life, the time for which kazoo pings alone, and a tick."""
        return self._beat.life + self._beat.patience + self._backend.settings.tick

    # -- reading -----------------------------------------------------------------------

    def local(self, service: str, instance_id: str = "") -> Instance:
        """Return the one instance of this node; NotRegistered or Ambiguous otherwise."""
        there = self._shelf.members(service, here=True).instances()
        found = [one for one in there if instance_id in ("", one.id)]
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
        """Return all instances of the service, as they were at one moment."""
        return tuple(self._shelf.members(service).instances())

    def watch(self, instances: Sequence[tuple[str, str]]) -> Sequence[Watch]:
        """One watch, however many instances."""
        wanted = tuple(instances)

        def make() -> Mapping[str, Any]:
            here: dict[str, Instance] = {}
            for service in sorted({service for service, _ in wanted}):
                ids = {instance_id for name, instance_id in wanted if name == service}
                found = self._shelf.members(service, here=True).instances()
                here.update({one.id: one for one in found if "" in ids or one.id in ids})
            return here

        return [self._watch(lambda: self._names.instances, make)]

    def watch_members(self, service: str) -> Watch:
        """Watch the service's instances, and the processes behind them."""

        def make() -> Mapping[str, Any]:
            found = self._shelf.members(service).instances()
            return {one.member: one for one in found}

        return self._watch(lambda: self._names.service(service), make)

    def _watch(self, place: Callable[[], str], make: Callable[[], Mapping[str, Any]]) -> Watch:
        names = self._names

        def load(heard: Heard) -> Mapping[str, Any]:
            folders = (names.alive, names.beats)
            self._backend.link().ask(
                look(place(), heard),
                *(look(folder, heard) for folder in folders),  # they may not be there yet
                *(children(folder, heard) for folder in folders),
            )
            return make()

        return ZooKeeperWatch(load)

    # -- registering -------------------------------------------------------------------

    def register(self, instance: Instance) -> None:
        """Make it known on this node. One that is known keeps its tags, gates and health."""
        instance = replace(instance, node=self.node, meta=dict(instance.meta))
        self._say_alive()
        told = self._told.get(instance.id)
        if told is not None and told.instance == instance:
            return
        deadline = self._backend.deadline()
        while True:
            found = self._shelf.find(instance.id)
            old = found.registration if found else Registration(
                instance.service, self.node, instance.id, "", 0, tags=instance.tags
            )  # fmt: skip
            meta, process = self._backend.settings.node_meta, self._backend.process
            new = old.described(instance, meta, process)
            if (found is not None and new == old) or self._shelf.add(new, found):
                break
            self._backend.hurry(deadline, f"instance {instance.id!r}")
        self._shelf.note(instance.id, instance.service)
        with self._mutex:
            self._told[instance.id] = _Told(instance, new.health, time.monotonic())

    def deregister(self, instance_id: str) -> None:
        """Forget the instance; an unknown one is no error."""
        with self._mutex:
            self._told.pop(instance_id, None)
        deadline = self._backend.deadline()
        while (found := self._shelf.find(instance_id)) and not self._shelf.remove(found):
            self._backend.hurry(deadline, f"instance {instance_id!r}")

    def report(self, instance_id: str, health: Health, output: str = "") -> None:
        """Tell the health: written when it changes, its output with it.

        Without any report, this process's instances go with its session.
        """
        self._say_alive()
        told = self._told.get(instance_id)
        if told is None or told.health is not health:
            self._shelf.change(instance_id, lambda old: old.reported(health, output))
        if told is not None:
            told.health, told.told_at = health, time.monotonic()
        self._look_after()

    def _say_alive(self) -> None:
        self._alive.say(at_most_every=self._alive.life / 6)

    def _look_after(self) -> None:
        """See, from time to time, whether what was registered stands and is spoken for."""
        life, now = self._backend.settings.report_life, time.monotonic()
        with self._mutex:
            if now - self._looked_at < life / 3:
                return
            self._looked_at, told = now, dict(self._told)
        for instance_id, one in told.items():
            if now - one.told_at > life and one.health is not Health.CRITICAL:
                one.health = Health.CRITICAL  # its check hangs, while others go on
                self._shelf.change(
                    instance_id, lambda old: old.reported(Health.CRITICAL, "no report any more")
                )
            found = self._shelf.find(instance_id)
            if found is None or found.registration.owner != self._backend.process:
                with self._mutex:
                    self._told.pop(instance_id, None)  # registered again with its next report

    # -- tags and gates ----------------------------------------------------------------

    def tag(
        self, instance_id: str, change: TagChange, *, gate: Gate | None = None, timeout: float
    ) -> None:
        """One transaction; what it wrote can be read by everybody when it returns."""
        self._shelf.change(instance_id, lambda old: old.tagged(change, gate), timeout=timeout)

    def open_gate(self, instance_id: str, gate: Gate) -> None:
        """Let it follow this process's heartbeat; LeaseLost when a later leader shut it.

        The heartbeat stands in the moment in which the gate is opened.
        """

        def beating() -> list[Operation]:
            self.heartbeat()
            return [check(self._beat.path)]

        process = self._backend.process
        self._shelf.change(instance_id, lambda old: old.opened(gate, process), also=beating)

    def close_gate(self, instance_id: str, gate: Gate) -> None:
        """Close it, whatever process had opened it."""
        self._shelf.change(instance_id, lambda old: old.closed(gate))

    def remove_gates(self, instance_id: str, *, keep: Gate | None = None) -> None:
        """Remove them; nothing is written when there is none."""
        self._shelf.change(instance_id, lambda old: old.without_gates(keep))

    def heartbeat(self) -> None:
        """Say that the gates are fed: a read, unless the session had expired."""
        self._beat.say()

    # -- under a lease -----------------------------------------------------------------

    def shut_out(self, other: Instance, lease: Lease) -> None:
        """Shut its gates for good, in a transaction that checks the lock as well.

        It gets a critical check besides, for what it may have without a gate; that goes
        with its member's next :meth:`remove_gates`, or with its gate of a later term.
        """
        path = self._names.instance(other.service, other.node, other.id)
        deadline = self._backend.deadline()
        while True:
            # The lease of another backend cannot be looked at.
            ours = self._backend.locks_here
            fence = fenced(self._backend, lease, unwritten=False)[0] if ours else []
            found = self._shelf.at(path)
            if found is None:
                return
            changed = found.registration.shut_out(lease.term)
            value = put(path, changed.encode(), found.stat.version)
            if self._backend.commit([*fence, value, *self._shelf.told(other.service)]):
                return
            self._backend.hurry(deadline, path)

    def publish(
        self, lease: Lease, record: Record, instance_id: str, change: TagChange, gate: Gate | None
    ) -> Lease:
        """Record, tag, closed gate, and the leader tag off every other instance: or nothing.

        The transaction checks the lock, its record, and that no instance of the service was
        written since they were read. Also the instances of dead processes lose the tag.
        """
        record = replace(record, term=lease.term)
        deadline = self._backend.deadline()
        while True:
            fence, written = fenced(self._backend, lease)
            mine = self._shelf.demand(instance_id)
            service = mine.registration.service
            found = self._shelf.members(service)
            changes = self._published(found, mine.path, change, gate)
            if changes is not None:
                index = self._backend.commit([
                    *fence,
                    put(self._names.record(lease.key), record.encode(), written.version),
                    self._backend.told_locks(),
                    *changes,
                    put(self._names.instances, b""),
                ])  # fmt: skip
                if index:
                    return Lease(lease.key, lease.term, index, lease.session, record)
            self._backend.hurry(deadline, f"service {service!r}")

    def _published(
        self, found: Found, mine: str, change: TagChange, gate: Gate | None
    ) -> list[Operation] | None:
        """Return what is written to a service's instances; ``None`` when mine is gone now."""
        if found.stat is None or mine not in {one.path for one in found.shelved}:
            return None
        above = mine.rpartition("/")[0]
        operations = [put(above, b"", found.stat.version)]
        for one in found.shelved:
            old = one.registration
            new = old.tagged(change, gate) if one.path == mine else old.published(change, gate)
            if new != old:
                operations.append(put(one.path, new.encode(), one.stat.version))
        return operations
