"""The query provider: definitions in etcd, resolved against the registry's instances."""

from __future__ import annotations

import json
import time
from builtins import list as _list
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Self

from leadertag.errors import BackendUnavailable, Conflict, NotRegistered
from leadertag.model import Characteristic, Health, Instance, QueryDefinition
from leadertag.providers import BackendContext, QueryProvider
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import Entry, Span, delete, modified, put
from leadertag_etcd.instances import Registration, are_texts, is_number, is_text_map
from leadertag_etcd.shelf import Shelf

_LISTS = ("tags", "failover_datacenters")


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
            present = _decode(entry.value) if entry else None
            if entry is not None:
                self._check_owner(definition, present)
            if present is not None and _comparable(present) == _comparable(definition):
                return False
            value = json.dumps({"leadertag": 1, **asdict(definition)}).encode()
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
        """Return the instances that have every tag and no negated one, and are well enough.

        As Consul does it: passing ones only, or, without ``only_passing``, all but the
        critical.
        """
        entry = self._entry(self._names.query(name))
        definition = _decode(entry.value) if entry else None
        if definition is None:
            raise NotRegistered(f"{self._backend.where}: there is no query {name!r}")
        _, found, alive = self._shelf.members(definition.service)
        instances = [(one.registration, one.registration.instance(alive)) for one in found]
        return tuple(
            instance for registration, instance in instances
            if _answers(definition, registration, instance)
        )  # fmt: skip

    def remove(self, name: str) -> None:
        """Forget the definition."""
        self._client.commit([], [delete(self._names.query(name))])

    def list(self) -> tuple[QueryDefinition, ...]:
        """Return all definitions by name."""
        _, (entries,) = self._client.read(Span.under(self._names.queries))
        decoded = (_decode(entry.value) for entry in entries)
        return tuple(definition for definition in decoded if definition is not None)

    def _entry(self, key: str) -> Entry | None:
        _, (entries,) = self._client.read(Span.key(key))
        return entries[0] if entries else None


def _decode(raw: bytes) -> QueryDefinition | None:
    """Return the definition, ``None`` for anything that is not one of ours."""
    try:
        data: dict[str, Any] = json.loads(raw)
        if data["leadertag"] != 1:
            return None
        known: dict[str, Any] = {one.name: data[one.name] for one in fields(QueryDefinition)}
        if not _is_typed(known):
            return None
        known.update({name: tuple(known[name]) for name in _LISTS})
        return QueryDefinition(**known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_typed(known: Mapping[str, Any]) -> bool:
    return (
        are_texts([known["name"], known["service"], known["near"], known["dns_ttl"]])
        and all(are_texts(known[name]) for name in _LISTS)
        and is_text_map(known["service_meta"])
        and is_text_map(known["node_meta"])
        and is_number(known["failover_nearest"])
        and isinstance(known["only_passing"], bool)
    )


def _comparable(definition: QueryDefinition) -> QueryDefinition:
    return replace(
        definition,
        tags=tuple(sorted(set(definition.tags))),
        service_meta=dict(definition.service_meta),
        node_meta=dict(definition.node_meta),
    )


def _answers(definition: QueryDefinition, registration: Registration, instance: Instance) -> bool:
    if instance.health is Health.CRITICAL or (definition.only_passing and not instance.passing):
        return False
    if not _includes(registration.meta, definition.service_meta):
        return False
    if not _includes(registration.node_meta, definition.node_meta):
        return False
    tags: _list[str] = [*instance.tags]
    return all(tag[1:] not in tags if tag.startswith("!") else tag in tags
               for tag in definition.tags)  # fmt: skip


def _includes(all_of: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(all_of.get(name) == value for name, value in wanted.items())
