"""Records every revision of leadertag's keys in etcd, from each member's own watch.

A watch from a revision on gives every one after it, in order, however long the member was
cut off: nothing is missed, and who comes later has nothing to tell.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Writer
from tests.chaos.network import enter
from tests.chaos.settings import LOCK_KEY, SERVICE

PREFIX = "leadertag/"
_INSTANCES = f"{PREFIX}instances/{SERVICE}/"
_BEATS = f"{PREFIX}beats/"
_RECORD, _HOLDER = f"{PREFIX}locks/record/{LOCK_KEY}", f"{PREFIX}locks/holder/{LOCK_KEY}"
_SILENCE = 5.0
"""Seconds without news after which a watch is made anew: a member may hang."""
_PAUSE = 0.1
_REGISTERED = ("service", "id", "address", "port", "meta", "node_meta")
Event = Mapping[str, Any]


class Keys:
    """All keys at one revision, and what they amount to."""

    def __init__(self, out: Writer) -> None:
        self._out = out
        self._mutex = threading.Lock()
        self._values: dict[str, tuple[int, bytes]] = {}
        self.revision = 0

    def take(self, revision: int, by: str, events: list[Event]) -> None:
        """Take what happened at a revision, unless it was taken already."""
        with self._mutex:
            if revision <= self.revision:
                return
            self.revision = revision
            changed = [self._apply(event) for event in events]
            if any(key.startswith((_INSTANCES, _BEATS)) for key in changed):
                self._out.write("registry", index=revision, by=by, instances=self._instances())
            if _RECORD in changed or _HOLDER in changed:
                self._out.write("lock", index=revision, by=by, **self._lock())

    def _apply(self, event: Event) -> str:
        kv = event["kv"]
        key = base64.b64decode(kv["key"]).decode()
        if event.get("type") == "DELETE":
            self._values.pop(key, None)
        else:
            value = base64.b64decode(kv.get("value", ""))
            self._values[key] = (int(kv["mod_revision"]), value)
        return key

    def _instances(self) -> dict[str, Any]:
        alive = {key.removeprefix(_BEATS) for key in self._values if key.startswith(_BEATS)}
        found = {}
        for key, (_, value) in sorted(self._values.items()):
            if key.startswith(_INSTANCES):
                data = json.loads(value)
                found[data["node"]] = _instance(data, alive)
        return found

    def _lock(self) -> dict[str, Any]:
        revision, value = self._values.get(_RECORD, (0, b"null"))
        record = json.loads(value)
        if record and not record["term"]:
            record["term"] = revision  # a term of 0 stands for that of its own revision
        return {"held": _HOLDER in self._values, "record": record}


def _instance(data: Mapping[str, Any], alive: set[str]) -> dict[str, Any]:
    checks = {"service": data["health"]}
    for gate in data["gates"]:
        opened = gate["opened"] and not gate["shut"] and gate["owner"] in alive
        checks[gate["id"]] = "passing" if opened else "critical"
    registration = {name: data[name] for name in _REGISTERED}
    return {"id": data["id"], "tags": data["tags"], "checks": checks, "registration": registration}


def record_etcd(out: Path, members: Mapping[str, str]) -> None:
    """Start a thread a member."""
    keys = Keys(Writer(out))
    for node, namespace in members.items():
        threading.Thread(target=_run, args=(node, namespace, keys), daemon=True).start()


def _run(node: str, namespace: str, keys: Keys) -> None:
    enter(namespace)
    while True:
        try:
            _watch(node, keys)
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(_PAUSE)


def _watch(node: str, keys: Keys) -> None:
    """One watch, until it breaks or falls silent."""
    encoded = {"key": PREFIX, "range_end": PREFIX[:-1] + "0"}  # the byte after the slash
    request: dict[str, Any] = {k: base64.b64encode(v.encode()).decode() for k, v in encoded.items()}
    request["start_revision"] = keys.revision + 1
    connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=_SILENCE)
    try:
        connection.request("POST", "/v3/watch", json.dumps({"create_request": request}))
        response = connection.getresponse()
        while line := response.readline():
            _take(json.loads(line).get("result", {}), node, keys)
    finally:
        connection.close()


def _take(result: Mapping[str, Any], node: str, keys: Keys) -> None:
    by_revision: dict[int, list[Event]] = {}
    for event in result.get("events", ()):
        by_revision.setdefault(int(event["kv"]["mod_revision"]), []).append(event)
    for revision, events in sorted(by_revision.items()):
        keys.take(revision, node, events)
