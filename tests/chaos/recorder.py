"""Records what the registry and the lock were, index by index, from outside of the faults.

``python -m tests.chaos.recorder consul OUT NODE=NAMESPACE …``: a thread a server and
question, inside that server's namespace, so that no fault of the network lies between. Each
server's own state is read (``stale``): they go through the same indexes, one sooner than
another, and what two of them have shown is written once.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Writer
from tests.chaos.network import enter
from tests.chaos.settings import LOCK_KEY, SERVICE
from tests.tools.httpjson import HttpError, JsonClient

_WAIT = "5s"
_PAUSE = 0.05
"""Seconds before a server that did not answer is asked again."""
_VOLATILE = ("CreateIndex", "ModifyIndex", "Tags", "RaftIndex", "ContentHash")
Parse = Callable[[Any], dict[str, Any]]


class Once:
    """Writes what was not written yet, whoever saw it first."""

    def __init__(self, out: Writer) -> None:
        self._out = out
        self._mutex = threading.Lock()
        self._seen: set[tuple[str, int, str]] = set()

    def tell(self, kind: str, index: int, by: str, fields: Mapping[str, Any]) -> None:
        """Write a state at an index."""
        key = (kind, index, json.dumps(fields, sort_keys=True))
        with self._mutex:
            if key not in self._seen:
                self._seen.add(key)
                self._out.write(kind, index=index, by=by, **fields)


def registry_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a health read shows, by node."""
    return {"instances": {entry["Node"]["Node"]: _instance(entry) for entry in entries}}


def _instance(entry: Mapping[str, Any]) -> dict[str, Any]:
    service = entry["Service"]
    return {
        "id": service["ID"],
        "tags": list(service["Tags"] or ()),
        "checks": {check["CheckID"]: check["Status"] for check in entry["Checks"]},
        "registration": {k: v for k, v in service.items() if k not in _VOLATILE},
    }


def lock_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a read of the lock's key shows."""
    entry = entries[0]
    record = json.loads(base64.b64decode(entry["Value"] or b"bnVsbA=="))
    return {"held": bool(entry.get("Session")), "record": record}


def follow(client: JsonClient, path: str, tell: Callable[[int, Any], None]) -> None:
    """Blocking reads without end."""
    index = 0
    while True:
        try:
            params = {"index": index, "wait": _WAIT, "stale": ""}
            answer, headers = client.request("GET", path, None, params, timeout=20)
            new = int(headers["x-consul-index"])
            if isinstance(answer, list):
                tell(new, answer)
            index = new if new >= index else 0
        except HttpError as error:
            index = 0
            time.sleep(_PAUSE if error.status != 404 else _PAUSE / 5)
        except OSError:
            index = 0
            time.sleep(_PAUSE)


def record_consul(out: Path, servers: Mapping[str, str]) -> None:
    """Start the threads."""
    once = Once(Writer(out))
    questions: tuple[tuple[str, str, Parse], ...] = (
        ("registry", f"/v1/health/service/{SERVICE}", registry_of),
        ("lock", f"/v1/kv/leadertag/locks/{LOCK_KEY}", lock_of),
    )

    def run(node: str, namespace: str, kind: str, path: str, parse: Parse) -> None:
        enter(namespace)
        client = JsonClient("http://127.0.0.1:8500")
        follow(client, path, lambda index, answer: once.tell(kind, index, node, parse(answer)))

    for node, namespace in servers.items():
        for question in questions:
            threading.Thread(target=run, args=(node, namespace, *question), daemon=True).start()


def main(backend: str, out: str, servers: Sequence[str]) -> None:
    """See the module's text; runs until it is killed."""
    found = dict(server.split("=", 1) for server in servers)
    if backend == "consul":
        record_consul(Path(out), found)
    elif backend == "etcd":
        from tests.chaos.etcd_recorder import record_etcd

        record_etcd(Path(out), found)
    else:
        from tests.chaos.local_recorder import record_local

        record_local(Path(out), found)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
