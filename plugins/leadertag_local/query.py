"""The query provider: definitions in a table, resolved against the instances."""

from __future__ import annotations

import json
import sqlite3
from builtins import list as _list
from dataclasses import asdict
from typing import Any, ClassVar, Self

from leadertag.errors import Conflict, NotRegistered
from leadertag.kit.queries import answers, comparable
from leadertag.model import Characteristic, Instance, QueryDefinition
from leadertag.providers import BackendContext, QueryProvider
from leadertag_local.client import LocalClient
from leadertag_local.instances import read_instances


class LocalQuery(QueryProvider):
    """Named questions. ``near``, failover and ``dns_ttl`` mean nothing on one host: kept only."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset()

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

    def ensure(self, definition: QueryDefinition) -> bool:
        """Compare first, so that nothing is written where nothing drifted."""
        with self._store.read() as database:
            if self._stands(database, definition):
                return False
        with self._store.write() as database:
            if self._stands(database, definition):
                return False
            database.execute(
                "INSERT OR REPLACE INTO queries VALUES (?, ?, ?)",
                (definition.name, definition.service, json.dumps(asdict(definition))),
            )
        return True

    def resolve(self, name: str) -> tuple[Instance, ...]:
        """Return the instances that the definition asks for, as they stand now."""
        with self._store.read() as database:
            definition = _read(database, name)
            if definition is None:
                raise NotRegistered(f"{self._store.path}: there is no query {name!r}")
            found = read_instances(self._client, database, service=definition.service)
        return tuple(
            one.instance for one in found if answers(definition, one.instance, one.node_meta)
        )

    def remove(self, name: str) -> None:
        """Forget the definition."""
        with self._store.write() as database:
            database.execute("DELETE FROM queries WHERE name = ?", (name,))

    def list(self) -> tuple[QueryDefinition, ...]:
        """Return all definitions by name."""
        with self._store.read() as database:
            rows = database.execute("SELECT definition FROM queries ORDER BY name").fetchall()
            return tuple(_decode(row[0]) for row in rows)

    def _stands(self, database: sqlite3.Connection, definition: QueryDefinition) -> bool:
        present = _read(database, definition.name)
        if present is None:
            return False
        if present.service != definition.service:
            raise Conflict(
                f"{self._store.path}: query {definition.name!r} asks for service "
                f"{present.service!r}, not {definition.service!r}"
            )
        return comparable(present) == comparable(definition)


def _read(database: sqlite3.Connection, name: str) -> QueryDefinition | None:
    row = database.execute("SELECT definition FROM queries WHERE name = ?", (name,)).fetchone()
    return _decode(row[0]) if row else None


def _decode(text: str) -> QueryDefinition:
    data: dict[str, Any] = json.loads(text)
    fields: dict[str, Any] = {
        key: tuple(v) if isinstance(v, _list) else v for key, v in data.items()
    }
    return QueryDefinition(**fields)
