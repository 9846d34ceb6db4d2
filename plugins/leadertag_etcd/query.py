"""The query provider: definitions in etcd, resolved against the registry's instances."""

from __future__ import annotations

import time
from typing import ClassVar, Self

from leadertag.errors import BackendUnavailable, Conflict, NotRegistered
from leadertag.kit.queries import answers, comparable, decode_definition, encode_definition
from leadertag.model import Characteristic, Instance, QueryDefinition
from leadertag.providers import BackendContext, QueryProvider
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import Entry, Span, delete, modified, put
from leadertag_etcd.shelf import Shelf


class EtcdQuery(QueryProvider):
    """Named questions, answered over leadertag.

    ``near``, failover and ``dns_ttl`` mean nothing in one etcd cluster: they are kept only.
    """

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset({Characteristic.CROSS_HOST})
    requires: ClassVar[tuple[str, ...]] = ("etcd3", "grpc")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._names = backend.names
        self._shelf = Shelf(backend)

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ensure(self, definition: QueryDefinition) -> bool:
        """Compare first, so that nothing is written where nothing drifted."""
        key = self._names.query(definition.name)
        deadline = time.monotonic() + self._backend.settings.timeout
        while True:
            entry = self._entry(key)
            present = decode_definition(entry.value) if entry else None
            if entry is not None:
                self._check_owner(definition, present)
            if present is not None and comparable(present) == comparable(definition):
                return False
            value = encode_definition(definition)
            compares = [modified(key, entry.modified if entry else 0)]
            if self._client.commit(compares, [put(key, value)]):
                return True
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"{self._backend.where}: query {definition.name!r} is changed by others "
                    "all the time"
                )

    def _check_owner(self, wanted: QueryDefinition, present: QueryDefinition | None) -> None:
        where = f"{self._backend.where}: query {wanted.name!r}"
        if present is None:
            raise Conflict(f"{where} holds a value that is not leadertag's")
        if present.service != wanted.service:
            raise Conflict(f"{where} asks for service {present.service!r}, not {wanted.service!r}")

    def resolve(self, name: str) -> tuple[Instance, ...]:
        """Return the instances that the definition asks for, as they stand now."""
        entry = self._entry(self._names.query(name))
        definition = decode_definition(entry.value) if entry else None
        if definition is None:
            raise NotRegistered(f"{self._backend.where}: there is no query {name!r}")
        _, found, alive = self._shelf.members(definition.service)
        instances = [(one.registration, one.registration.instance(alive)) for one in found]
        return tuple(
            instance for registration, instance in instances
            if answers(definition, instance, registration.node_meta)
        )  # fmt: skip

    def remove(self, name: str) -> None:
        """Forget the definition."""
        self._client.commit([], [delete(self._names.query(name))])

    def list(self) -> tuple[QueryDefinition, ...]:
        """Return all definitions by name."""
        _, (entries,) = self._client.read(Span.under(self._names.queries))
        decoded = (decode_definition(entry.value) for entry in entries)
        return tuple(definition for definition in decoded if definition is not None)

    def _entry(self, key: str) -> Entry | None:
        _, (entries,) = self._client.read(Span.key(key))
        return entries[0] if entries else None
