"""The query provider: definitions in ZooKeeper, resolved against the registry's instances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Self

from leadertag.errors import Conflict, NotRegistered
from leadertag.model import Characteristic, Health, Instance, QueryDefinition
from leadertag.providers import BackendContext, QueryProvider

from leadertag_zookeeper.backend import Backend
from leadertag_zookeeper.client import Node, children, delete, node_of, put, read, sync, write
from leadertag_zookeeper.decoding import WRONG, are_texts, is_number, is_text_map
from leadertag_zookeeper.instances import Registration
from leadertag_zookeeper.shelf import Shelf

_LISTS = ("tags", "failover_datacenters")


class ZooKeeperQuery(QueryProvider):
    """Named questions, answered over leadertag.

    ``near``, failover and ``dns_ttl`` mean nothing in one ensemble: they are kept only.
    """

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset({Characteristic.CROSS_HOST})

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._names = backend.names
        self._shelf = Shelf(backend)

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the connection."""
        self._backend.close()

    def ensure(self, definition: QueryDefinition) -> bool:
        """Compare first, so that nothing is written where nothing drifted."""
        path = self._names.query(definition.name)
        deadline = self._backend.deadline()
        while True:
            node = self._node(path)
            present = _decode(node.value) if node else None
            if node is not None:
                self._check_owner(definition, present)
            if present is not None and _comparable(present) == _comparable(definition):
                return False
            value = json.dumps({"leadertag": 1, **asdict(definition)}).encode()
            if self._backend.commit(write(path, value, node.stat if node else None)):
                return True
            self._backend.hurry(deadline, f"query {definition.name!r}")

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
        node = self._node(self._names.query(name))
        definition = _decode(node.value) if node else None
        if definition is None:
            raise NotRegistered(f"{self._backend.where}: there is no query {name!r}")
        found = self._shelf.members(definition.service)
        return tuple(
            instance
            for one in found.living()
            if _answers(
                definition, one.registration, instance := one.registration.instance(found.beats)
            )
        )

    def remove(self, name: str) -> None:
        """Forget the definition; an unknown name is no error."""
        path = self._names.query(name)
        # Nobody watches queries; the write tells what became of the transaction.
        self._backend.commit([delete(path), put(self._names.queries, b"")])

    def list(self) -> tuple[QueryDefinition, ...]:
        """Return all definitions by name."""
        link, above = self._backend.link(), self._names.queries
        names = link.ask(sync(above), children(above))[1] or ()
        answers = link.ask(*(read(f"{above}/{name}") for name in sorted(names)))
        nodes = (node_of(answer) for answer in answers)
        decoded = (_decode(node.value) for node in nodes if node is not None)
        return tuple(definition for definition in decoded if definition is not None)

    def _node(self, path: str) -> Node | None:
        return node_of(self._backend.link().ask(sync(path), read(path))[1])


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
    except WRONG:
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
    if not definition.service_meta.items() <= registration.meta.items():
        return False
    if not definition.node_meta.items() <= registration.node_meta.items():
        return False
    return all(
        tag[1:] not in instance.tags if tag.startswith("!") else tag in instance.tags
        for tag in definition.tags
    )
