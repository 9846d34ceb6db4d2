"""Instances and their gates as rows, and what they amount to at this moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from leadertag.model import Check, Health, Instance
from leadertag_local.client import LocalClient

SERVICE_CHECK = "service"
SHUT_OUT = "leadertag:shut-out"
"""The id of leadertag's own check by which an instance without a gate is shut out."""

_COLUMNS = "node, id, service, address, port, tags, meta, node_meta, health, beat"


@dataclass(frozen=True, slots=True)
class Found:
    """An instance as it stands now, and when it would change if everybody fell silent."""

    instance: Instance
    node_meta: Mapping[str, str]
    due: float | None


class _Row(NamedTuple):
    node: str
    id: str
    service: str
    address: str
    port: int
    tags: str
    meta: str
    node_meta: str
    health: str
    beat: str


class GateRow(NamedTuple):
    """A gate. ``opened`` by its member; ``shut`` by a later leader, which is final."""

    id: str
    term: int
    opened: int
    shut: int
    owner: str


def read_instances(
    client: LocalClient,
    database: sqlite3.Connection,
    *,
    service: str | None = None,
    node: str | None = None,
    instance_id: str | None = None,
) -> list[Found]:
    """Return the instances that fit what is given, by node and id."""
    wanted = {"service": service, "node": node, "id": instance_id}
    given = {column: value for column, value in wanted.items() if value is not None}
    where = " AND ".join(f"{column} = ?" for column in given) or "1"
    rows = database.execute(
        f"SELECT {_COLUMNS} FROM instances WHERE {where} ORDER BY node, id",  # noqa: S608 - names above
        tuple(given.values()),
    ).fetchall()
    return [_found(client, database, _Row(*row)) for row in rows]


def read_gates(database: sqlite3.Connection, node: str, instance_id: str) -> list[GateRow]:
    """Return the gates of an instance by term."""
    rows = database.execute(
        "SELECT id, term, opened, shut, owner FROM gates WHERE node = ? AND instance = ? "
        "ORDER BY term, id",
        (node, instance_id),
    ).fetchall()
    return [GateRow(*row) for row in rows]


def write_tags(
    database: sqlite3.Connection, node: str, instance_id: str, tags: tuple[str, ...]
) -> None:
    """Replace the tags of an instance."""
    database.execute(
        "UPDATE instances SET tags = ? WHERE node = ? AND id = ?",
        (json.dumps(tags), node, instance_id),
    )


def _found(client: LocalClient, database: sqlite3.Connection, row: _Row) -> Found:
    now = client.clock.now()
    due: list[float] = []

    def alive(name: str, life: float) -> bool:
        at = client.beats.read(name)
        if at is None or now - at > life:
            return False
        due.append(at + life)
        return True

    health = Health(row.health)
    told = health in (Health.UNKNOWN, Health.CRITICAL)  # silence makes these no worse
    if not told and not alive(row.beat, client.settings.report_life):
        health = Health.CRITICAL
    gates = read_gates(database, row.node, row.id)
    checks = [Check(SERVICE_CHECK, health)]
    for gate in gates:
        passes = gate.opened and not gate.shut and alive(gate.owner, client.settings.gate_life)
        status = Health.PASSING if passes else Health.CRITICAL
        checks.append(Check(gate.id, status, own=True))
    instance = Instance(
        id=row.id,
        node=row.node,
        service=row.service,
        address=row.address,
        port=row.port,
        tags=tuple(json.loads(row.tags)),
        checks=tuple(checks),
        gate=max((gate.term for gate in gates if gate.id != SHUT_OUT), default=None),
        meta=json.loads(row.meta),
    )
    return Found(instance, json.loads(row.node_meta), min(due, default=None))
