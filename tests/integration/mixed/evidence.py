"""What registry and lock were, from outside of leadertag where a server can tell; and the verdict.

Each recorder is a thread that appends lines to one file, as those of the chaos runs do, so
that the same judge holds them against the promises. Registry states are by member: several
instances may be on one node.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leadertag.backends import Providers
from leadertag.errors import LeaderTagError
from leadertag.model import Instance
from tests.chaos.clock import now
from tests.chaos.etcd_recorder import Keys
from tests.chaos.evidence import Writer, read_all
from tests.chaos.recorder import Once, lock_of
from tests.chaos.seen import leaders_in
from tests.chaos.verdict import Judge, Verdict
from tests.tools.etcd import CLIENT_PORT, EtcdMember
from tests.tools.httpjson import HttpError, JsonClient

PAUSE = 0.02
"""Seconds before a server that did not answer is asked again."""
_WAIT = "5s"
_VOLATILE = ("CreateIndex", "ModifyIndex", "Tags", "RaftIndex", "ContentHash")
Key = Callable[[str, str], str]
"""Gives the name under which an instance is recorded, by its node and its id."""


class Recorder:
    """One thread; `with` starts and stops it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has ended."""
        self._stop.set()
        while self._thread.is_alive():
            self._abort()  # again: a request may have begun in between
            self._thread.join(0.02)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except (OSError, http.client.HTTPException, ValueError, AttributeError, LeaderTagError):
                self._failed()
                self._stop.wait(PAUSE)

    def _read(self) -> None:
        raise NotImplementedError

    def _failed(self) -> None:
        """Forget what a later read would build on."""

    def _abort(self) -> None:
        """End a request under way."""


class ConsulRecorder(Recorder):
    """Follows one path of a Consul server, index by index."""

    def __init__(
        self, out: Writer, address: str, kind: str, path: str,
        parse: Callable[[Any], Mapping[str, Any]],
    ) -> None:  # fmt: skip
        super().__init__()
        self._once = Once(out)
        self._client = JsonClient(address)
        self._kind, self._path, self._parse = kind, path, parse
        self._index = 0

    @classmethod
    def of_service(cls, out: Writer, address: str, service: str, key: Key) -> ConsulRecorder:
        """Follow a service with its checks."""

        def parse(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
            found = {}
            for entry in entries:
                name = key(entry["Node"]["Node"], entry["Service"]["ID"])
                found[name] = _of_consul(entry)
            return {"instances": found}

        return cls(out, address, "registry", f"/v1/health/service/{service}", parse)

    @classmethod
    def of_lock(cls, out: Writer, address: str, lock: str, key: Key) -> ConsulRecorder:
        """Follow a lock's key."""

        def parse(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
            return named(lock_of(entries), key)

        return cls(out, address, "lock", f"/v1/kv/leadertag/locks/{lock}", parse)

    def _read(self) -> None:
        params = {"index": self._index, "wait": _WAIT}
        try:
            answer, headers = self._client.request("GET", self._path, None, params, timeout=20)
        except HttpError as error:
            if error.status == 404:  # the key does not exist yet
                self._stop.wait(PAUSE)
                return
            raise
        new = int(headers["x-consul-index"])
        if isinstance(answer, list):
            self._once.tell(self._kind, new, "server", self._parse(answer))
        self._index = new if new >= self._index else 0

    def _failed(self) -> None:
        self._index = 0

    def _abort(self) -> None:
        self._client.abort()


def _of_consul(entry: Mapping[str, Any]) -> dict[str, Any]:
    service = entry["Service"]
    return {
        "id": service["ID"],
        "address": service["Address"],
        "tags": list(service["Tags"] or ()),
        "checks": {check["CheckID"]: check["Status"] for check in entry["Checks"]},
        "registration": {k: v for k, v in service.items() if k not in _VOLATILE},
    }


class EtcdRecorder(Recorder):
    """Follows every revision of leadertag's keys: registry and lock alike."""

    def __init__(self, out: Writer, member: EtcdMember) -> None:
        super().__init__()
        self._keys = Keys(out)
        self._ip = member.ip
        self._connection: http.client.HTTPConnection | None = None

    def _read(self) -> None:
        """One watch, until it breaks: from the revision after the last one that was seen."""
        prefix = {"key": "leadertag/", "range_end": "leadertag0"}  # "0" is the byte after "/"
        request: dict[str, Any] = {k: base64.b64encode(v.encode()).decode()
                                   for k, v in prefix.items()}  # fmt: skip
        request["start_revision"] = self._keys.revision + 1
        connection = http.client.HTTPConnection(self._ip, CLIENT_PORT, timeout=5.0)
        self._connection = connection
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": request}))
            response = connection.getresponse()
            while line := response.readline():
                self._take(json.loads(line).get("result", {}))
        finally:
            connection.close()

    def _take(self, result: Mapping[str, Any]) -> None:
        by_revision: dict[int, list[Mapping[str, Any]]] = {}
        for event in result.get("events", ()):
            by_revision.setdefault(int(event["kv"]["mod_revision"]), []).append(event)
        for revision, events in sorted(by_revision.items()):
            self._keys.take(revision, "etcd", events)

    def _abort(self) -> None:
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # a close would not wake the reader


class LocalRecorder(Recorder):
    """Looks at embedded backends again and again: they have no index of every change.

    ``all_of`` are the providers of every host's file; what they show together is one state.
    """

    def __init__(
        self, out: Writer, all_of: Sequence[Providers], kind: str, name: str, key: Key
    ) -> None:
        """``kind`` is ``registry``, and ``name`` the service, or ``lock``, and its key."""
        super().__init__()
        self._out, self._all, self._kind, self._name, self._key = out, all_of, kind, name, key
        self._last = ""
        self._number = 0

    def _read(self) -> None:
        state = self._registry() if self._kind == "registry" else self._lock()
        text = json.dumps(state, sort_keys=True)
        if text != self._last:
            self._last = text
            self._number += 1
            self._out.write(self._kind, index=self._number, by="file", **state)
        self._stop.wait(PAUSE)

    def _registry(self) -> dict[str, Any]:
        members = [m for each in self._all for m in each.registry.members(self._name)]
        return {"instances": {self._key(m.node, m.id): _of_local(m) for m in members}}

    def _lock(self) -> dict[str, Any]:
        view = self._all[0].lock.read(self._name)
        record = asdict(view.record) if view.record else None
        return named({"held": not view.free, "record": record}, self._key)


def _of_local(member: Instance) -> dict[str, Any]:
    return {
        "id": member.id,
        "address": member.address,
        "tags": list(member.tags),
        "checks": {check.id: str(check.status) for check in member.checks},
        "registration": {"address": member.address, "port": member.port, "meta": {**member.meta}},
    }


def named(state: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """The state of a lock, its holder under the name that instances are recorded by."""
    record = state["record"]
    if record:
        record = {**record, "node": key(record["node"], record["instance"])}
    return {**state, "record": record}


# -- what came of it -----------------------------------------------------------------------


def verdict(folder: Path) -> Verdict:
    """All lines of a folder, in the order of time, held against the promises."""
    return Judge(read_all(folder)).judge()


def resolved_since(folder: Path, after: float) -> set[str]:
    """Who has resolved as leader at any time after a moment."""
    lines = [one for one in read_all(folder) if one["kind"] == "registry" and one["t"] > after]
    return {leader for line in lines for leader in leaders_in(line["instances"])}


def first_led(folder: Path, after: float, but: str) -> float:
    """Seconds from a moment until another instance than ``but`` first resolved as leader.

    Times are of :func:`tests.chaos.clock.now`; ``but`` may be "" for anybody.
    """
    for line in read_all(folder):
        if line["kind"] == "registry" and line["t"] > after:
            leaders = leaders_in(line["instances"])
            if leaders and leaders != [but]:
                return float(line["t"]) - after
    raise AssertionError(f"nobody but {but!r} has led since {now() - after:.1f} s")
