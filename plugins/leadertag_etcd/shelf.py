"""The own node's instances in etcd: found by their id, and changed by compare and set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leadertag.errors import BackendUnavailable, Conflict, NotRegistered
from leadertag.kit.registration import Registration
from leadertag.model import Instance
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import Entry, Span, modified, replace_value
from leadertag_etcd.skydns import Shown

Edit = Callable[[Registration], Registration]


@dataclass(frozen=True, slots=True)
class Shelved:
    """A registration and the key it was read from."""

    entry: Entry
    registration: Registration


class Shelf:
    """Finds and changes. A registration of which nothing would change is not written."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._names = backend.names
        self.node = backend.settings.node
        self._services: dict[str, str] = {}

    def note(self, instance_id: str, service: str) -> None:
        """Remember where an instance is: its key begins with its service."""
        self._services[instance_id] = service

    def find(self, instance_id: str) -> Shelved | None:
        """Return this node's instance of that id, whatever its service.

        Raises Conflict for a value that is not ours in its place.
        """
        service = self._services.get(instance_id)
        if service is None or (found := self._at(service, instance_id)) is None:
            service = self._search(instance_id)
            if service is None:
                return None
            self.note(instance_id, service)
            found = self._at(service, instance_id)
        return found

    def demand(self, instance_id: str) -> Shelved:
        """Return it, or raise NotRegistered."""
        found = self.find(instance_id)
        if found is None:
            raise NotRegistered(
                f"{self._backend.where}: no instance {instance_id!r} on node {self.node!r}"
            )
        return found

    def _at(self, service: str, instance_id: str) -> Shelved | None:
        key = self._names.instance(service, self.node, instance_id)
        _, (entries,) = self._client.read(Span.key(key))
        found = shelved(entries)
        if entries and not found:
            # Taken for nothing, it would be written over, or in the way for ever.
            raise Conflict(
                f"{self._backend.where}: {key} holds a value that is not leadertag's: delete "
                "that key, or choose another prefix"
            )
        return found[0] if found else None

    def _search(self, instance_id: str) -> str | None:
        # Only for what this process has neither registered nor read before: the guardian.
        _, (entries,) = self._client.read(Span.under(self._names.instances), keys_only=True)
        for entry in entries:
            parts = self._names.parts(entry.key)
            if parts is not None and parts[1:] == (self.node, instance_id):
                return parts[0]
        return None

    def change(
        self, instance_id: str, edit: Edit, *, timeout: float = 0.0, also: Sequence[Any] = ()
    ) -> None:
        """Change an instance; again and again while others change it too.

        ``also`` are operations of the same transaction, done even where nothing else
        changes. Raises NotRegistered, and BackendUnavailable after ``timeout`` seconds.
        """
        deadline = time.monotonic() + (timeout or self._backend.settings.timeout)
        while True:
            found = self.demand(instance_id)
            changed = edit(found.registration)
            operations = list(also)
            if changed != found.registration:
                operations += self.replace(found, changed)
            if not operations:
                return
            compares = [modified(found.entry.key, found.entry.modified)]
            if self._client.commit(compares, operations):
                return
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"{self._backend.where}: instance {instance_id!r} is changed by others "
                    "all the time"
                )

    def replace(self, found: Shelved, changed: Registration) -> list[Any]:
        """Return the operations that write a registration anew, its DNS records with it."""
        lease = found.entry.lease
        before, after = Shown(found.registration, lease), Shown(changed, lease)
        return [
            replace_value(found.entry.key, changed.encode()),
            *self._backend.skydns.follow(before, after),
        ]

    def members(self, service: str) -> tuple[int, list[Shelved], frozenset[str]]:
        """Return the revision, a service's instances everywhere, and who is alive."""
        span = Span.under(self._names.instances_of(service))
        revision, (entries, beats) = self._client.read(span, self._backend.beats())
        return revision, shelved(entries), self.alive(beats)

    def here(self, service: str) -> list[Instance]:
        """Return a service's instances on this node."""
        span = Span.under(self._names.instances_on(service, self.node))
        _, (entries, beats) = self._client.read(span, self._backend.beats())
        alive = self.alive(beats)
        return [one.registration.instance(alive) for one in shelved(entries)]

    def alive(self, beats: Sequence[Entry]) -> frozenset[str]:
        """Return the processes that those heartbeats are of."""
        return frozenset(entry.key.removeprefix(self._names.beats) for entry in beats)


def shelved(entries: Sequence[Entry]) -> list[Shelved]:
    """Return those entries that are registrations."""
    decoded = ((entry, Registration.decode(entry.value)) for entry in entries)
    return [Shelved(entry, found) for entry, found in decoded if found is not None]
