"""The registry's servers, one a node, and what leadertag's configuration says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.network import inside
from tests.chaos.settings import FOREIGN_TAG, REDIS_PORT, SERVICE
from tests.tools.httpjson import JsonClient
from tests.tools.servers import require

Places = Mapping[str, str]
"""Addresses by node."""


class Backend(Protocol):
    """What differs between the backends."""

    name: str
    server: str
    """The kind of server that each node runs; "" for none."""

    def argv(self, node: str, folder: Path) -> list[str]:
        """The server's command, its files written."""

    def table(self, node: str) -> dict[str, Any]:
        """``[backends.NAME]`` of that node."""

    def instance(self, node: str) -> dict[str, Any] | None:
        """``[elections.NAME.instance]``, where the registry does not know it by itself."""

    def leaders(self, namespaces: Mapping[str, str]) -> dict[str, str]:
        """Whom each node's server takes for the servers' leader: node to node.

        Only servers that answer, and that know one, are in it.
        """


class Consul:
    """Three servers, each the agent of its node too.

    Six processes (three servers, three agents) would be nearer to a large site, but they
    would share two cores with everything else, and what they add is only that a node may
    lose its agent without the cluster losing a server.
    """

    name = "consul"
    server = "consul"

    def __init__(self, addresses: Places) -> None:
        self._addresses = addresses
        require("consul")

    def argv(self, node: str, folder: Path) -> list[str]:
        """The server's command, its configuration written."""
        config = folder / "consul"
        config.mkdir(parents=True)
        (config / "server.json").write_text(json.dumps(self._config(node, folder)))
        (config / "services.json").write_text(json.dumps({"services": [self._service(node)]}))
        return [str(require("consul")), "agent", f"-config-dir={config}"]

    def _config(self, node: str, folder: Path) -> dict[str, Any]:
        return {
            "datacenter": "dc1",
            "node_name": node,
            "data_dir": str(folder / "consul-data"),
            "server": True,
            "bootstrap_expect": len(self._addresses),
            "bind_addr": self._addresses[node],
            "client_addr": "0.0.0.0",
            "retry_join": [a for n, a in self._addresses.items() if n != node],
            "retry_interval": "1s",
            "ports": {"serf_wan": -1},
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "disable_coordinates": True,
            "leave_on_terminate": False,
            # Else a node that was cut off for some seconds is struck from the catalog, its
            # registration with it: that is Consul's doing, and what I4 is not about.
            "autopilot": {"cleanup_dead_servers": False},
            "log_level": "INFO",
        }

    def _service(self, node: str) -> dict[str, Any]:
        """With a check every second, and with all that a careless writer loses."""
        address = self._addresses[node]
        check = {"id": "tcp:redis", "name": "Redis answers", "tcp": f"{address}:{REDIS_PORT}",
                 "interval": "1s", "timeout": "1s"}  # fmt: skip
        if node != next(iter(self._addresses)):
            # Both kinds are in use: one that has to pass first, and one that is believed.
            check["status"] = "passing"
        return {
            "id": SERVICE,
            "name": SERVICE,
            "tags": [FOREIGN_TAG],
            "address": address,
            "port": REDIS_PORT,
            "meta": {"rack": node, "version": "7"},
            "weights": {"passing": 3, "warning": 1},
            "tagged_addresses": {
                "lan": {"address": address, "port": REDIS_PORT},
                "wan": {"address": "198.51.100.7", "port": 16379},
            },
            "checks": [check],
        }

    def table(self, node: str) -> dict[str, Any]:
        """The own agent."""
        return {"address": "http://127.0.0.1:8500"}

    def instance(self, node: str) -> dict[str, Any] | None:
        """Consul knows it."""
        return None

    def leaders(self, namespaces: Mapping[str, str]) -> dict[str, str]:
        """By the address that each server names."""
        nodes = {address: node for node, address in self._addresses.items()}
        found = {}
        for node, namespace in namespaces.items():
            try:
                with inside(namespace):
                    client = JsonClient("http://127.0.0.1:8500")
                    said = str(client.request("GET", "/v1/status/leader", timeout=1)[0])
            except OSError:
                continue
            if (leader := nodes.get(said.partition(":")[0])) is not None:
                found[node] = leader
        return found


class Etcd:
    """Three members, each on a node of its own."""

    name = "etcd"
    server = "etcd"

    def __init__(self, addresses: Places) -> None:
        self._addresses = addresses
        require("etcd")

    def argv(self, node: str, folder: Path) -> list[str]:
        """The member's command."""
        own = self._addresses[node]
        cluster = ",".join(f"{n}=http://{a}:2380" for n, a in self._addresses.items())
        options = {
            "name": node,
            "data-dir": str(folder / "etcd-data"),
            "listen-client-urls": "http://0.0.0.0:2379",
            "advertise-client-urls": f"http://{own}:2379",
            "listen-peer-urls": f"http://{own}:2380",
            "initial-advertise-peer-urls": f"http://{own}:2380",
            "initial-cluster": cluster,
            "logger": "zap",
        }
        return [str(require("etcd")), *(f"--{key}={value}" for key, value in options.items())]

    def table(self, node: str) -> dict[str, Any]:
        """All members, the own one first."""
        others = [f"http://{a}:2379" for n, a in self._addresses.items() if n != node]
        return {"endpoints": ["http://127.0.0.1:2379", *others], "node": node}

    def instance(self, node: str) -> dict[str, Any] | None:
        """With leadertag's own check."""
        return own_instance(self._addresses[node])

    def leaders(self, namespaces: Mapping[str, str]) -> dict[str, str]:
        """By the id that each member names."""
        ids: dict[str, str] = {}
        said: dict[str, str] = {}
        for node, namespace in namespaces.items():
            try:
                with inside(namespace):
                    client = JsonClient("http://127.0.0.1:2379")
                    path = "/v3/maintenance/status"
                    status = client.request("POST", path, {}, timeout=1)[0]
            except OSError:
                continue
            ids[str(status["header"]["member_id"])] = node
            said[node] = str(status.get("leader", ""))
        return {node: ids[leader] for node, leader in said.items() if leader in ids}


class Local:
    """No server: one file of this host."""

    name = "local"
    server = ""

    def __init__(self, addresses: Places, folder: Path) -> None:
        self._addresses, self._folder = addresses, folder

    def argv(self, node: str, folder: Path) -> list[str]:
        """There is none."""
        return []

    def table(self, node: str) -> dict[str, Any]:
        """The one file."""
        return {"path": str(self._folder / "leadertag.db"), "node": node}

    def instance(self, node: str) -> dict[str, Any] | None:
        """With leadertag's own check."""
        return own_instance(self._addresses[node])

    def leaders(self, namespaces: Mapping[str, str]) -> dict[str, str]:
        """There are no servers."""
        return {}


def own_instance(address: str) -> dict[str, Any]:
    """The instance of a registry without health checking of its own."""
    check = {"tcp": f"{address}:{REDIS_PORT}", "interval": "500ms", "timeout": "1s"}
    return {"id": SERVICE, "address": address, "port": REDIS_PORT, "check": check,
            "meta": {"version": "7"}}  # fmt: skip
