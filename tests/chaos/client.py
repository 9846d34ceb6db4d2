"""Clients that write all the while, and keep every acknowledgement.

``python -m tests.chaos.client OUT SETTINGS``, SETTINGS being JSON. One client resolves the
query over the nearest agent that answers, as users do, and writes to who is resolved. On
each node a witness writes to the service beside it without asking anybody: what that
acknowledges, it acknowledged as a leader.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.clock import now
from tests.chaos.evidence import Writer
from tests.chaos.network import enter
from tests.chaos.settings import QUERY
from tests.tools.httpjson import JsonClient

_PACE, _WITNESS_PACE = 0.03, 0.1
"""Seconds between two writes."""
_FRESH = 0.25
"""Seconds for which an answer of the query is used: its TTL, as DNS has one."""
_TIMEOUT = 0.5
Resolve = Callable[[], list[tuple[str, int]]]


class Link:
    """A connection to one server; each write is one transaction with the question of its role."""

    def __init__(self, host: str, port: int) -> None:
        self.address = host
        self._client = redis.Redis(
            host=host, port=port, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT,
            decode_responses=True, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self.replid = str(self._client.info("replication")["master_replid"])

    def push(self, name: str, number: int) -> str:
        """Append the number; the role in which it was taken. Raises redis.RedisError."""
        with self._client.pipeline(transaction=True) as batch:
            batch.rpush(f"entries:{name}", number)
            batch.role()
            return str(batch.execute()[1][0])

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Client:
    """Numbers its entries; one connection at a time."""

    def __init__(self, name: str, out: Writer) -> None:
        self._name, self._out = name, out
        self._number = 0
        self._link: Link | None = None
        self._trouble = ""

    def write_to(self, host: str, port: int) -> bool:
        """Write one entry there and keep what became of it; whether it was acknowledged."""
        self._number += 1
        sent = now()
        try:
            if self._link is None or self._link.address != host:
                self.drop()
                self._link = Link(host, port)
                sent = now()
            role = self._link.push(self._name, self._number)
        except redis.RedisError as error:
            self.drop()
            self._fail(host, type(error).__name__)
            return False
        self._trouble = ""
        self._out.write("ack", client=self._name, n=self._number, to=host, sent=round(sent, 6),
                        role=role, replid=self._link.replid)  # fmt: skip
        return True

    def _fail(self, host: str, why: str) -> None:
        # Once a trouble: a line each try would drown the rest.
        if self._trouble != f"{host} {why}":
            self._trouble = f"{host} {why}"
            self._out.write("refused", client=self._name, n=self._number, to=host, why=why)

    def drop(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None


def run_resolving(client: Client, out: Writer, resolve: Resolve) -> None:
    """Resolve, write, again and again."""
    found: list[tuple[str, int]] = []
    asked_at = 0.0
    told: list[str] | None = None
    while True:
        time.sleep(_PACE)
        if not found or now() - asked_at > _FRESH:
            asked_at = now()
            found = resolve()
            hosts = [host for host, _ in found]
            if hosts != told:
                told = hosts
                out.write("resolved", client="client", hosts=hosts)
        if found and not client.write_to(*found[0]):
            found = []


def run_witness(client: Client, host: str, port: int, namespace: str) -> None:
    """Write to the service beside it."""
    enter(namespace)
    while True:
        time.sleep(_WITNESS_PACE)
        client.write_to(host, port)


def over_consul(agents: Sequence[str]) -> Resolve:
    """Resolve with the nearest agent that answers."""
    clients = [JsonClient(address) for address in agents]

    def resolve() -> list[tuple[str, int]]:
        for agent in clients:
            try:
                found = agent.request("GET", f"/v1/query/{QUERY}/execute", timeout=_TIMEOUT)[0]
                return [(n["Service"]["Address"], n["Service"]["Port"]) for n in found["Nodes"]]
            except (OSError, KeyError, TypeError):
                continue
        return []

    return resolve


def over_leadertag(config: str) -> Resolve:
    """Resolve with leadertag's own query provider, where the backend has no other way."""
    import os

    from leadertag.backends import open_providers
    from leadertag.config.load import load
    from leadertag.errors import LeaderTagError

    provider = open_providers(load(config, environ=os.environ), environ=os.environ).query

    def resolve() -> list[tuple[str, int]]:
        try:
            return [(one.address, one.port) for one in provider.resolve(QUERY)]
        except LeaderTagError:
            return []

    return resolve


def main(path: str, raw: str) -> None:
    """See the module's text; runs until it is killed."""
    settings: dict[str, Any] = json.loads(raw)
    out = Writer(Path(path))
    for node, witness in settings["witnesses"].items():
        client = Client(node, out)
        place = (client, witness["host"], witness["port"], witness["namespace"])
        threading.Thread(target=run_witness, args=place, daemon=True).start()
    agents, config = settings["agents"], settings.get("config", "")
    resolve = over_leadertag(config) if config else over_consul(agents)
    threading.Thread(
        target=run_resolving, args=(Client("client", out), out, resolve), daemon=True
    ).start()
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
