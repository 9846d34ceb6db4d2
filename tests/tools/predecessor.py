"""A stand-in for consul-master-election-tagger: its documented protocol over plain HTTP.

One run elects as the Go program did: Consul's ``api.Lock`` on ``check-<query>-<service>``,
the prepared query listed, created or deleted and recreated, executed; without a result the
lock ``master-<query>-<service>`` and the tag ``master``, else ``slave``. Its faults are
kept where others have to live with them: a registration is written back with six fields
only, node names are compared instead of instances, its sessions are left to expire.

As a health check: ``python -m tests.tools.predecessor --consul-service-name redis
--consul-query-name q [--consul-query-tag sensu ...]``. ``--die-at POINT`` ends the process
there as a kill would.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from tests.tools.httpjson import HttpError, JsonClient

LOCK_FLAG = 3304740253564472344  # api.LockFlagValue
LEADER, FOLLOWER = "master", "slave"
LOCK_WAIT, LOCK_TRIES = 10.0, 5  # seconds, and how often, for the election's lock
LOCK_RETRY = 5.0  # api.DefaultLockRetryTime: between tries during a lock delay
POINTS = ("locked", "executed", "master-locked", "tagged", "unlocked")
"""Where a run can be stopped, in order (``master-locked`` only when it becomes master)."""


class LockNotHeld(Exception):
    """The election's lock was not to be had; the program says nothing and exits 0."""


class Predecessor:
    """One node's program; `run` is one run of its health check.

    `at` is called with the name of each point of `POINTS`: a test may wait in it.
    """

    def __init__(
        self,
        address: str,
        service: str,
        query: str,
        tags: Sequence[str] = (),
        *,
        at: Callable[[str], None] = lambda _: None,
        lock_wait: float = LOCK_WAIT,
        tries: int = LOCK_TRIES,
    ) -> None:
        self._http = JsonClient(address)
        self._service, self._query = service, query
        self._tags = sorted({LEADER, *tags})
        self._at = at
        self._lock_wait, self._tries = lock_wait, tries

    @property
    def lock_key(self) -> str:
        """The key by which its nodes take turns."""
        return f"check-{self._query}-{self._service}"

    def run(self) -> str:
        """Elect once; the tag that this node has now. LockNotHeld when its turn never came."""
        node = str(self._get("/v1/agent/self")["Config"]["NodeName"])
        lock = _Lock(self._http, self.lock_key)
        if not any(lock.take(self._lock_wait) for _ in range(self._tries)):
            raise LockNotHeld(self.lock_key)
        try:
            self._at("locked")
            tag = self._elect(node)
        finally:
            lock.release()
        self._at("unlocked")
        return tag

    def _elect(self, node: str) -> str:
        self._ensure_query()
        path = f"/v1/query/{quote(self._query)}/execute"
        leaders = [found["Node"]["Node"] for found in self._get(path)["Nodes"] or ()]
        self._at("executed")
        if not leaders:
            return self._become_leader()
        return self._tag(LEADER if leaders == [node] else FOLLOWER)

    def _become_leader(self) -> str:
        lock = _Lock(self._http, f"master-{self._query}-{self._service}")
        if not lock.take(0.0):
            return self._tag(FOLLOWER)
        try:
            self._at("master-locked")
            return self._tag(LEADER)
        finally:
            lock.release()

    def _tag(self, tag: str) -> str:
        """Re-register with six fields: whatever else stood there is lost."""
        found = self._get("/v1/agent/services")[self._service]  # by name: the id has to be it
        old = list(found["Tags"] or ())
        new = [kept for kept in old if kept not in (LEADER, FOLLOWER)] + [tag]
        if sorted(old) != sorted(new):
            body = {"ID": found["ID"], "Name": found["Service"], "Tags": new}
            body |= {key: found[key] for key in ("Port", "Address", "EnableTagOverride")}
            self._http.request("PUT", "/v1/agent/service/register", body)
        self._at("tagged")
        return tag

    def _ensure_query(self) -> None:
        service = {"Service": self._service, "OnlyPassing": True, "Tags": self._tags}
        body = {"Name": self._query, "Service": service}
        for found in self._get("/v1/query"):
            if found["Name"] != self._query:
                continue
            there = found["Service"]
            if (there["Service"], there["Tags"]) == (self._service, self._tags):
                return
            self._http.request("DELETE", f"/v1/query/{found['ID']}")
        self._http.request("POST", "/v1/query", body)

    def _get(self, path: str) -> Any:
        return self._http.request("GET", path)[0]


class _Lock:
    """``api.Lock`` with LockTryOnce: see ``api/lock.go`` of Consul."""

    def __init__(self, http: JsonClient, key: str) -> None:
        self._http, self._key = http, f"/v1/kv/{key}"
        self._session = ""

    def take(self, wait: float) -> bool:
        """Try for `wait` seconds."""
        deadline = time.monotonic() + wait
        if not self._session:
            body = {"Name": "Consul API Lock", "TTL": "15s"}
            self._session = self._http.request("PUT", "/v1/session/create", body)[0]["ID"]
        pair = self._pair(0, 0.0)
        while True:
            if pair and pair["Flags"] != LOCK_FLAG:
                raise LockNotHeld(f"{self._key}: ErrLockConflict")
            left = deadline - time.monotonic()
            if pair and pair.get("Session"):
                if left <= 0:
                    return False
                pair = self._pair(pair["ModifyIndex"], left)
                continue
            params = {"acquire": self._session, "flags": LOCK_FLAG}
            if self._http.request("PUT", self._key, b"", params)[0] is True:
                return True
            pair = self._pair(0, 0.0)
            if not (pair and pair.get("Session")):  # a lock delay, that nothing shows
                if left <= 0:
                    return False
                time.sleep(min(left, LOCK_RETRY))

    def release(self) -> None:
        """Release the key. The session is left behind: the program ends before it destroys it."""
        params = {"release": self._session, "flags": LOCK_FLAG}
        self._http.request("PUT", self._key, b"", params)

    def _pair(self, index: int, wait: float) -> dict[str, Any] | None:
        params = {"index": index, "wait": f"{max(1, int(wait * 1000))}ms"} if index else None
        try:
            found = self._http.request("GET", self._key, None, params, timeout=wait + 10)[0]
        except HttpError as error:
            if error.status == 404:
                return None
            raise
        return dict(found[0])


def main(argv: Sequence[str]) -> int:
    """The program with its flags (one dash or two), for use as a script check."""
    parser = argparse.ArgumentParser("predecessor", allow_abbrev=False)
    parser.add_argument("-consul-service-name", "--consul-service-name", required=True)
    parser.add_argument("-consul-query-name", "--consul-query-name", required=True)
    parser.add_argument("-consul-query-tag", "--consul-query-tag", action="append", default=[])
    parser.add_argument("--die-at", choices=POINTS, help="for tests")
    options = parser.parse_args(argv)

    def at(point: str) -> None:
        if point == options.die_at:
            os._exit(9)

    address = os.environ.get("CONSUL_HTTP_ADDR", "127.0.0.1:8500")
    program = Predecessor(
        address if "://" in address else f"http://{address}",
        options.consul_service_name,
        options.consul_query_name,
        options.consul_query_tag,
        at=at,
    )
    try:
        print(f"tagged {program.run()}")
    except LockNotHeld as error:
        print(f"no lock: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
