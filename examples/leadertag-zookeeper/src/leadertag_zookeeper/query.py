"""The query provider: definitions in ZooKeeper, resolved against the registry's instances."""

from __future__ import annotations

from typing import ClassVar, Self

from leadertag.errors import Conflict, NotRegistered
from leadertag.kit.queries import answers, comparable, decode_definition, encode_definition
from leadertag.model import Characteristic, Instance, QueryDefinition
from leadertag.providers import BackendContext, QueryProvider

from leadertag_zookeeper.backend import Backend
from leadertag_zookeeper.client import Node, children, delete, node_of, put, read, sync, write
from leadertag_zookeeper.shelf import Shelf


class ZooKeeperQuery(QueryProvider):
    """Named questions, answered over leadertag.

    ``near``, failover and ``dns_ttl`` mean nothing in one ensemble: they are kept only.
    """

    contract: ClassVar[int] = 1
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
            present = decode_definition(node.value) if node else None
            if node is not None:
                self._check_owner(definition, present)
            if present is not None and comparable(present) == comparable(definition):
                return False
            value = encode_definition(definition)
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
        """Return the instances that the definition asks for, as they stand now."""
        node = self._node(self._names.query(name))
        definition = decode_definition(node.value) if node else None
        if definition is None:
            raise NotRegistered(f"{self._backend.where}: there is no query {name!r}")
        found = self._shelf.members(definition.service)
        registrations = [one.registration for one in found.living()]
        return tuple(
            instance
            for registration in registrations
            if answers(
                definition, instance := registration.instance(found.beats), registration.node_meta
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
        replies = link.ask(*(read(f"{above}/{name}") for name in sorted(names)))
        nodes = (node_of(reply) for reply in replies)
        decoded = (decode_definition(node.value) for node in nodes if node is not None)
        return tuple(definition for definition in decoded if definition is not None)

    def _node(self, path: str) -> Node | None:
        return node_of(self._backend.link().ask(sync(path), read(path))[1])
