"""The world of a run: three nodes on a network of their own, recorder, clients, and order."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from tests.chaos import network as net
from tests.chaos import shim
from tests.chaos.clock import now
from tests.chaos.evidence import Writer
from tests.chaos.network import Network, inside
from tests.chaos.node import Node, Place
from tests.chaos.seen import Seen, passing
from tests.chaos.servers import Backend, Consul, Etcd, Local
from tests.chaos.settings import (
    CLIENT,
    ELECTION,
    FOLLOWER_TAG,
    LEADER_TAG,
    NODES,
    REDIS_PORT,
    configuration,
)
from tests.chaos.units import Tender
from tests.tools.addresses import lease_address
from tests.tools.leadertag import COMMAND, to_toml
from tests.tools.processes import ServerProcess

_PREFIX = "ltchaos"
START_TIMEOUT = 60.0
SETTLE_TIMEOUT = 60.0
"""Seconds: longer than any bound; a world that is not settled by then is a finding."""

AT_REST = 0.5
"""Seconds for which all has to stay as it should: longer than a leader takes to confirm."""


class NotSettled(Exception):
    """The world did not come to rest; the message says what is missing."""


class World:
    """A context manager: everything is gone when it is left, however that happens."""

    def __init__(self, backend: str, breaks: str = "") -> None:
        self._stack = ExitStack()
        self._breaks = breaks
        self.backend_name = backend
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.evidence = self.folder / "evidence"
        self.journal = Writer(self.evidence / "journal.jsonl")
        self.network: Network | None = None
        self.nodes: dict[str, Node] = {}
        self.no_clock = ""
        """Why the wall clock cannot jump; "" when it can."""
        self.seen = Seen(self.evidence / "recorder.jsonl")

    def __enter__(self) -> World:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End and remove everything."""
        self._stack.close()

    # -- making it -----------------------------------------------------------------------------

    def _start(self) -> None:
        places = self._places()
        backend = self._backend({name: place.address for name, place in places.items()})
        self.backend = backend
        addresses = {name: place.address for name, place in places.items()}
        self.journal.write("world", backend=self.backend_name, nodes=addresses)
        library, self.no_clock = shim.build(self.folder)
        for name, place in places.items():
            self.nodes[name] = Node(
                place, backend, self.journal, self.evidence, library, self._breaks
            )
            self._stack.callback(self.nodes[name].close)
        self._write_bounds()
        units = [unit for node in self.nodes.values() for unit in node.units]
        tender = Tender(units)
        self._stack.callback(tender.stop)
        for node in self.nodes.values():
            if node.server:
                node.server.start()
        self._wait_for_servers()
        self._start_observers()
        for node in self.nodes.values():
            node.redis.start()
            node.daemon.start()
        tender.start()
        self.wait_settled()

    def _places(self) -> dict[str, Place]:
        if self.backend_name == "local":
            found = {}
            for name in NODES:
                lease = lease_address((REDIS_PORT,))
                self._stack.callback(lease.close)
                own = lease.address
                found[name] = Place(name, own, own, "", self.folder / name, lambda argv: [*argv])
            return found
        self.network = self._stack.enter_context(Network([*NODES, CLIENT], self.folder))
        return {name: self._place(self.network, name) for name in NODES}

    def _place(self, network: Network, name: str) -> Place:
        return Place(
            name, network.address(name), "127.0.0.1", network.namespace(name),
            self.folder / name, lambda argv: network.command(name, argv),
        )  # fmt: skip

    def _backend(self, addresses: Mapping[str, str]) -> Backend:
        if self.backend_name == "consul":
            return Consul(addresses)
        return Etcd(addresses) if self.backend_name == "etcd" else Local(addresses, self.folder)

    def _wait_for_servers(self) -> None:
        until = now() + START_TIMEOUT
        while self.backend.server and not self.server_leader():
            if now() > until:
                raise NotSettled(f"the {self.backend_name} servers have no leader")
            time.sleep(0.1)

    def _start_observers(self) -> None:
        servers = [f"{n.name}={n.place.namespace}" for n in self.nodes.values()]
        if self.backend_name == "local":
            servers = [f"config={next(iter(self.nodes.values())).config}"]
        out = str(self.seen_path)
        recorder = [sys.executable, "-m", "tests.chaos.recorder", self.backend_name, out, *servers]
        self._observe("recorder", recorder)
        self.seen.start()
        self._stack.callback(self.seen.stop)
        settings = {"witnesses": self._witnesses(), "agents": [], "config": ""}
        if self.backend_name == "consul":
            settings["agents"] = [f"http://{n.place.address}:8500" for n in self.nodes.values()]
        else:
            settings["config"] = str(self._client_config())
        client = [sys.executable, "-m", "tests.chaos.client", str(self.evidence / "client.jsonl")]
        argv = [*client, json.dumps(settings)]
        self._observe("client", self.network.command(CLIENT, argv) if self.network else argv)

    @property
    def seen_path(self) -> Path:
        """The recorder's file."""
        return self.evidence / "recorder.jsonl"

    def _observe(self, name: str, argv: list[str]) -> None:
        process = ServerProcess(["nice", "-n", "-5", *argv], self.folder / f"{name}.log", name=name)
        process.start()
        self._stack.callback(process.kill)

    def _witnesses(self) -> dict[str, dict[str, Any]]:
        return {
            n.name: {"host": n.place.local, "port": REDIS_PORT, "namespace": n.place.namespace}
            for n in self.nodes.values()
        }

    def _client_config(self) -> Path:
        """A configuration for a client that is not on any node."""
        node = next(iter(self.nodes.values()))
        table = self.backend.table(node.name)
        if self.backend_name == "etcd":
            table["endpoints"] = [f"http://{n.place.address}:2379" for n in self.nodes.values()]
        path = self.folder / "client.toml"
        instance = self.backend.instance(node.name)
        path.write_text(to_toml(configuration(self.backend_name, table, self.folder, instance)))
        return path

    def _write_bounds(self) -> None:
        """Ask the product for its bounds, as its users do."""
        node = next(iter(self.nodes.values()))
        argv = [*COMMAND, "--config", str(node.config), "explain", "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotSettled(f"leadertag explain: {done.stderr.strip()}")
        (election,) = json.loads(done.stdout)["elections"]
        self.bounds = {bound["name"]: float(bound["seconds"]) for bound in election["bounds"]}
        self.journal.write("bounds", election=ELECTION, bounds=election["bounds"])

    def keep_logs(self, folder: Path) -> None:
        """Copy what was written, before it is removed."""
        left_out = shutil.ignore_patterns("*.sock", "*-data", "state", "*.db.d")
        shutil.copytree(self.folder, folder, ignore=left_out, dirs_exist_ok=True)

    # -- looking at it ---------------------------------------------------------------------------

    def server_leader(self) -> str:
        """The node whose registry server leads the others, as most of them say; "" for none."""
        said = list(self._server_leaders().values())
        return next((one for one in said if 2 * said.count(one) > len(self.nodes)), "")

    def _server_leaders(self) -> dict[str, str]:
        return self.backend.leaders({n.name: n.place.namespace for n in self.nodes.values()})

    @property
    def _servers_agree(self) -> bool:
        said = self._server_leaders()
        return len(said) == len(self.nodes) and len(set(said.values())) == 1

    def unsettled(self) -> str:
        """What is not as it should be; "" when all is."""
        leader = self.seen.leader
        if not leader:
            return "nobody is resolved as leader"
        instances = self.seen.instances
        for name, node in self.nodes.items():
            tags = instances[name]["tags"] if name in instances else []
            role = LEADER_TAG if name == leader else FOLLOWER_TAG
            if name not in instances or not passing(instances[name]):
                return f"{name} is not passing"
            if [tag for tag in tags if tag in (LEADER_TAG, FOLLOWER_TAG)] != [role]:
                return f"{name} has tags {tags}"
            if not node.describe().get("settled"):
                return f"leadertag on {name} is not settled"
        return self._unsettled_redis(leader)

    def _unsettled_redis(self, leader: str) -> str:
        for name, node in self.nodes.items():
            found = node.replication()
            if name == leader and found.get("role") != "master":
                return f"Redis on {name} is no master"
            if name != leader:
                master = self.nodes[leader].place.address
                if found.get("master_host") != master or found.get("master_link_status") != "up":
                    return f"Redis on {name} does not replicate from {leader}"
        if self.backend.server and not self._servers_agree:
            return f"the {self.backend_name} servers do not agree who leads them"
        return ""

    def wait_settled(self, timeout: float = SETTLE_TIMEOUT) -> float:
        """Wait until all is, and stays, as it should be; how long that took.

        Raises NotSettled.
        """
        began = now()
        since: float | None = None
        while since is None or now() - since < AT_REST:
            why = self.unsettled()
            since = None if why else now() if since is None else since
            if why and now() - began > timeout:
                raise NotSettled(f"not settled after {timeout:g} s: {why}")
            self.seen.wait(lambda: False, 0.1)
        return now() - began

    def begin_anew(self) -> None:
        """Start all services and daemons afresh, for a world that did not come to rest."""
        for node in self.nodes.values():
            node.daemon.hold_down()
            node.daemon.signal(signal.SIGINT)
        self.seen.wait(lambda: not any(n.daemon.running for n in self.nodes.values()), 10)
        for node in self.nodes.values():
            node.daemon.kill()
            node.redis.kill()
            node.redis.start()
            node.daemon.start()
        self.wait_settled()

    def surviving(self) -> dict[str, list[int]]:
        """The entries that the present leader's Redis has, by client."""
        node = self.nodes[self.seen.leader]
        found: dict[str, list[int]] = {}
        with inside(node.place.namespace), node.redis_client() as client:
            for name in ("client", *self.nodes):
                try:
                    found[name] = [int(n) for n in client.lrange(f"entries:{name}", 0, -1)]
                except redis.RedisError as error:
                    raise NotSettled(f"Redis on {node.name}: {error}") from error
        return found


def remove_leftovers() -> None:
    """Remove what runs left whose process was killed: namespaces, mounts, folders.

    Their processes are gone: each dies with the run that started it.
    """
    net.remove_leftovers()
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*"):
        owner = folder.name.split("-")[1]
        if not owner.isdecimal() or Path(f"/proc/{owner}").exists():
            continue
        for state in folder.glob("*/state"):
            subprocess.run(["umount", "-l", str(state)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def exit_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does: everything is cleaned up."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
