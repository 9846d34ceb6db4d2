"""An election of three daemons on three etcd members, whose leader is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.etcd.process import PATIENCE, leader_of
from tests.tools.addresses import AddressLease, lease_address
from tests.tools.etcd import EtcdCluster
from tests.tools.leadertag import Daemon, leadertag, to_toml
from tests.tools.processes import ServerProcess, wait_until

PORT = 6379
SERVICE = "import socket, sys, time; s = socket.create_server((sys.argv[1], 6379)); time.sleep(1e6)"


class Node:
    """One host: a service that only listens, and the daemon that speaks for it."""

    def __init__(self, name: str, etcd: EtcdCluster, folder: Path) -> None:
        import sys

        self.name = name
        self._address: AddressLease = lease_address((PORT,))
        ip = self._address.address
        self.service = ServerProcess(
            [sys.executable, "-S", "-c", SERVICE, ip], folder / f"{name}-service.log", name=name
        )
        self.config = folder / f"{name}.toml"
        settings = {
            "backend": "etcd",
            "state_dir": str(folder / name),
            "backends": {
                "etcd": {"endpoints": etcd.addresses, "node": name, "report_life": "4s"}
            },
            "elections": {
                "redis": {
                    "service": "redis",
                    "query": "redis-master",
                    "lease": "5s",
                    "instance": {
                        "id": "redis", "address": ip, "port": PORT,
                        "check": {"tcp": f"{ip}:{PORT}", "interval": "200ms"},
                    },
                }
            },
        }  # fmt: skip
        self.config.write_text(to_toml(settings))
        self.daemon = Daemon(self.config, name=f"daemon-{name}")
        self.endpoint = f"{ip}:{PORT}"

    def start(self) -> None:
        self.service.start()
        self.daemon.start()

    def close(self) -> None:
        self.daemon.kill_all()
        self.service.kill()
        self._address.close()

    def status(self) -> dict[str, Any]:
        """What `leadertag status` tells of the election; nothing when it cannot be known."""
        done = leadertag("--config", str(self.config), "status", "--json")
        try:
            found: dict[str, Any] = json.loads(done.stdout)["elections"][0]
        except (ValueError, LookupError):
            return {}
        return found

    def resolved(self) -> list[str]:
        done = leadertag("--config", str(self.config), "query", "redis-master")
        return done.stdout.split()


@pytest.fixture
def nodes(three: EtcdCluster, tmp_path: Path) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        made = []
        for name in ("n1", "n2", "n3"):
            made.append(Node(name, three, tmp_path))
            stack.callback(made[-1].close)
            made[-1].start()
        yield made


def test_an_election(three: EtcdCluster, nodes: list[Node]) -> None:
    def led(but: str = "", members: int = 3) -> dict[str, Any]:
        found = nodes[0].status()
        leader = found.get("leader") or {}
        roles = sorted(member["role"] for member in found.get("members", ()))
        complete = roles.count("leader") == 1 and len(roles) >= members
        settled = complete and found["phase"] == "leading" and leader["node"] != but
        return found if settled and found["leader"] else {}

    def wait_for_leader(what: str, **how: Any) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []
        wait_until(lambda: seen.append(led(**how)) or seen[-1], PATIENCE, what)  # type: ignore[func-returns-value]
        return seen[-1]

    first = wait_for_leader("somebody leads")
    by_name = {node.name: node for node in nodes}
    leader = by_name[first["leader"]["node"]]
    wait_until(lambda: leader.resolved() == [leader.endpoint], PATIENCE, "it is resolved")

    member = leader_of(three.members)
    member.process.kill()
    survivors = [other for other in three.members if other is not member]
    wait_until(lambda: _leads(survivors), PATIENCE, "etcd has another leader")
    after = wait_for_leader("the election is readable again")
    assert (after["term"], after["leader"]["node"]) == (first["term"], leader.name)
    assert "leading ->" not in leader.daemon.log(), "its role has not changed"

    leader.service.kill()
    second = wait_for_leader("another one leads", but=leader.name)
    assert second["term"] > first["term"]
    successor = by_name[second["leader"]["node"]]
    wait_until(lambda: successor.resolved() == [successor.endpoint], PATIENCE, "the successor")

    leader.service.start()
    successor.daemon.kill()
    third = wait_for_leader("the guardian gave up", but=successor.name, members=2)
    assert third["term"] > second["term"]
    wait_until(
        lambda: successor.name not in {m["node"] for m in nodes[0].status().get("members", ())},
        PATIENCE,
        "the instance of a dead process is gone",
    )


def _leads(members: list[Any]) -> bool:
    try:
        return bool(leader_of(members))
    except (AssertionError, OSError):
        return False
