"""A site as an operator has it: nodes with an agent, a Redis server and its service each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from leadertag.daemon.control import ask
from leadertag.errors import BackendUnavailable
from tests.tools.consul import ConsulAgent, ConsulCluster, ServiceRecorder
from tests.tools.leadertag import Daemon, Finished, leadertag, to_toml
from tests.tools.processes import wait_until
from tests.tools.recorder import Observation, SeenInstance
from tests.tools.redis import RedisServer

T = TypeVar("T")
ROLE_TAGS = ("master", "slave")
PATIENCE = 30.0
"""Seconds for anything that is waited for: a bound for hanging tests, not a measurement."""
_VOLATILE = ("ContentHash", "Tags")
_OF_CHECKS = ("CheckID", "Name", "Status", "Notes", "Type", "ServiceID", "ServiceName")


@dataclass
class Node:
    """One host: its agent, its Redis server, and what leadertag keeps there."""

    agent: ConsulAgent
    redis: RedisServer
    folder: Path
    service: str
    service_id: str
    daemons: list[Daemon] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.agent.node

    @property
    def env(self) -> dict[str, str]:
        """What configures leadertag without a file."""
        state = str(self.folder / "state")
        return {"CONSUL_HTTP_ADDR": self.agent.address, "LEADERTAG_STATE_DIR": state}

    @property
    def events(self) -> list[str]:
        """What the `record` hook was told: ``event term`` lines."""
        with suppress(FileNotFoundError):
            return (self.folder / "events").read_text().splitlines()
        return []

    def definition(self, **fields: Any) -> dict[str, Any]:
        """The service with a 1 s TCP check, and with all that a careless writer loses."""
        target, ip = f"{self.redis.ip}:{self.redis.port}", self.redis.ip
        check = {"CheckID": f"tcp:{self.service_id}", "Name": "Redis answers", "TCP": target}
        return {
            "ID": self.service_id,
            "Name": self.service,
            "Tags": ["sensu"],
            "Address": ip,
            "Port": self.redis.port,
            "Meta": {"rack": self.name, "version": "7"},
            "Weights": {"Passing": 3, "Warning": 1},
            "TaggedAddresses": {
                "lan": {"Address": ip, "Port": self.redis.port},
                "wan": {"Address": "198.51.100.7", "Port": 16379},
            },
            "Checks": [{**check, "Interval": "1s", "Timeout": "1s", "Status": "passing"}],
            **fields,
        }

    def file_definition(self, *checks: Mapping[str, Any]) -> dict[str, Any]:
        """The same as a configuration file has it, with further checks."""
        found = self.definition()
        (tcp,) = found.pop("Checks")
        tcp["id"] = tcp.pop("CheckID")
        tagged = {
            key: {"address": address["Address"], "port": address["Port"]}
            for key, address in found.pop("TaggedAddresses").items()
        }
        plain = {key.lower(): value for key, value in found.items()}
        own = {key.lower(): value for key, value in tcp.items()}
        return {**plain, "tagged_addresses": tagged, "checks": [own, *checks]}

    def registration(self) -> dict[str, Any]:
        """What must not change: the agent's registration without role tags, and its checks."""
        found = self.agent.get(f"/v1/agent/service/{self.service_id}")
        checks = self.agent.get("/v1/agent/checks")
        return {
            "service": {k: v for k, v in found.items() if k not in _VOLATILE},
            "tags": [tag for tag in found["Tags"] if tag not in ROLE_TAGS],
            "checks": {
                key: {name: raw.get(name) for name in _OF_CHECKS}
                for key, raw in checks.items()
                if raw["ServiceID"] == self.service_id and not key.startswith("leadertag:")
            },
        }

    @property
    def tags(self) -> list[str]:
        """The tags in the agent's registration."""
        return list(self.agent.get(f"/v1/agent/service/{self.service_id}")["Tags"])

    def set_tags(self, tags: Iterable[str]) -> None:
        """Write other tags by hand, and leave the rest alone."""
        found = self.agent.get(f"/v1/agent/service/{self.service_id}")
        body = {k: v for k, v in found.items() if k not in ("ContentHash", "Service")}
        self.agent.register_service({**body, "Name": self.service, "Tags": list(tags)})

    # -- leadertag here --------------------------------------------------------------

    def record_hook(self, name: str = "events") -> dict[str, Any]:
        """A hook that writes down the role changes."""
        line = f'echo "$LEADERTAG_EVENT $LEADERTAG_TERM" >> {self.folder / name}'
        events = ["promote", "demote", "follow"]
        limits = {"demote": "700ms"}  # with the Redis hook's own second it fits a lease of 3 s
        command = ["/bin/sh", "-c", line]
        return {"use": "command", "command": command, "events": events, "timeout": limits}

    def redis_hook(self, *, probe: bool = True) -> dict[str, Any]:
        """The hook for this node's Redis; without `probe` health is Consul's business alone."""
        hook: dict[str, Any] = {"use": "redis", "url": self.redis.url}
        if not probe:
            hook["events"] = ["before_promote", "promote", "demote", "follow", "rank"]
        return hook

    def write_config(
        self, elections: Mapping[str, Mapping[str, Any]], file: str = "leadertag", **consul: Any
    ) -> Path:
        """A configuration file of this node."""
        path = self.folder / f"{file}.toml"
        path.write_text(to_toml({
            "backend": "consul",
            "state_dir": str(self.folder / "state"),
            "backends": {"consul": {"address": self.agent.address, **consul}},
            "elections": elections,
        }))  # fmt: skip
        return path

    def start_daemon(self, config: Path) -> Daemon:
        """Start ``leadertag run`` with that file."""
        daemon = Daemon(config, name=f"leadertag on {self.name}")
        self.daemons.append(daemon)
        daemon.start()
        return daemon

    @property
    def daemon(self) -> Daemon:
        """The one daemon of this node."""
        (daemon,) = self.daemons
        return daemon

    def describe(self, election: str = "redis") -> dict[str, Any]:
        """What the daemon says of an election; {} when none answers."""
        for socket in (self.folder / "state").glob("*.sock"):
            with suppress(BackendUnavailable):
                for found in ask(str(socket), {"verb": "status"})["elections"]:
                    if found["name"] == election:
                        return dict(found)
        return {}


class Site:
    """Nodes of a cluster, with a service and a query that no other test uses."""

    def __init__(
        self, cluster: ConsulCluster, folder: Path, service: str, *, service_id: str = ""
    ) -> None:
        self.cluster, self.service = cluster, service
        self.query = f"q-{service}"
        self.nodes: list[Node] = []
        for agent in cluster.agents:
            own = folder / agent.node
            own.mkdir(parents=True)
            redis = RedisServer(own / "redis", name=f"redis on {agent.node}")
            self.nodes.append(Node(agent, redis, own, service, service_id or service))

    def start(self, *, register: bool = True) -> None:
        """Start Redis everywhere; register the services with the agents' API."""
        self.on_each(lambda node: node.redis.start())
        if register:
            self.on_each(lambda node: node.agent.register_service(node.definition()))
            self.wait_registered()

    def wait_registered(self) -> None:
        """Wait until the catalog has all of them, passing."""

        def complete() -> bool:
            entries = self.cluster.health(self.service)
            checks = [check for entry in entries for check in entry["Checks"]]
            ours = [c for c in checks if c["CheckID"].startswith("tcp:")]
            passing = [c for c in ours if c["Status"] == "passing"]
            return len(entries) == len(passing) == len(self.nodes)

        wait_until(complete, PATIENCE, f"{self.service} is registered everywhere")

    def close(self) -> None:
        """End what was started; services and sessions are the cluster's to clear."""
        for node in self.nodes:
            for daemon in node.daemons:
                daemon.kill_all()
            node.redis.close()
        with suppress(OSError):  # a cluster of the test's own may be down by now
            server = self.cluster.server
            for query in server.get("/v1/query"):
                server.api("DELETE", f"/v1/query/{query['ID']}")
            for prefix in ("leadertag/", f"check-{self.query}", f"master-{self.query}"):
                server.api("DELETE", f"/v1/kv/{prefix}", None, {"recurse": "true"})

    # -- everywhere ----------------------------------------------------------------------

    def on_each(self, work: Callable[[Node], T]) -> list[T]:
        """Do it on all nodes at the same time."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            return list(pool.map(work, self.nodes))

    def check(self, node: Node, *words: str) -> Finished:
        """``leadertag check`` as the issue has it: no file, options and environment only."""
        options = ["--service", self.service, "--query", self.query, "--tag", "sensu"]
        return leadertag("check", *options, *words, env=node.env)

    def election(self, **settings: Any) -> dict[str, Any]:
        """The election's settings for a configuration file."""
        return {"service": self.service, "query": self.query, "tags": ["sensu"], **settings}

    def redis_election(self, node: Node, *, probe: bool = True, **settings: Any) -> dict[str, Any]:
        """With the hooks for that node's Redis, and the one that writes down."""
        hooks = [node.redis_hook(probe=probe), node.record_hook()]
        return self.election(**{"hooks": hooks, **settings})

    def start_daemons(self, *, probe: bool = True, **settings: Any) -> None:
        """Start ``leadertag run`` on every node for this service."""
        for node in self.nodes:
            election = self.redis_election(node, probe=probe, **settings)
            node.start_daemon(node.write_config({"redis": election}))

    # -- looking at it --------------------------------------------------------------------

    def recorder(self) -> ServiceRecorder:
        """A recorder of the service."""
        return self.cluster.recorder(self.service)

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def others(self, *nodes: Node) -> list[Node]:
        """All nodes but these."""
        return [node for node in self.nodes if node not in nodes]

    def wait_for_leader(
        self, recorder: ServiceRecorder, *, not_on: Node | None = None, settled: bool = True
    ) -> Node:
        """The node whose instance alone passes with ``master``; `settled`: the others follow."""

        def led(seen: Observation) -> bool:
            leaders = seen.passing_with_tag("master")
            if len(leaders) != 1 or (not_on and leaders[0].node == not_on.name):
                return False
            rest = [i for i in seen.instances if i != leaders[0] and i.passing]
            return not settled or all(role_of(instance) == ["slave"] for instance in rest)

        seen = recorder.wait_for(led, PATIENCE, "one leader, the others follow")
        return self.node(seen.passing_with_tag("master")[0].node)

    def wait_for_redis(self, leader: Node, *, down: Node | None = None) -> None:
        """Wait until Redis itself agrees: one master, all others replicate from it."""

        def agreed() -> bool:
            if leader.redis.role() != "master":
                return False
            return all(
                (info := node.redis.info())["role"] == "slave"
                and info["master_host"] == leader.redis.ip
                and info["master_link_status"] == "up"
                for node in self.others(leader)
                if node is not down
            )

        wait_until(agreed, PATIENCE, f"all replicate from {leader.name}", interval=0.1)

    def wait_settled(self, nodes: Iterable[Node] | None = None) -> None:
        """Wait until these nodes' daemons say that all is as it should be."""
        waiting = {node.name: node for node in nodes or self.nodes}

        def settled() -> bool:
            for name, node in list(waiting.items()):
                if node.describe().get("settled"):
                    del waiting[name]
            return not waiting

        try:
            wait_until(settled, PATIENCE, "every daemon is settled", interval=0.05)
        except AssertionError as error:
            raise AssertionError([str(error), *(n.describe() for n in waiting.values())]) from error

    def tagged(self, wanted: Mapping[str, set[str]]) -> bool:
        """Whether agents and catalog have these tags, by node.

        The agent has what was written to it at once: a change cannot be overlooked.
        """
        if any(set(self.node(name).tags) != tags for name, tags in wanted.items()):
            return False
        entries = self.cluster.health(self.service)
        found = {entry["Node"]["Node"]: set(entry["Service"]["Tags"]) for entry in entries}
        return {name: found.get(name) for name in wanted} == wanted

    def gates(self) -> list[str]:
        """Ids of the gates of the service, anywhere; a lone latch counts as one too."""
        checks = [check for entry in self.cluster.health(self.service) for check in entry["Checks"]]
        ours = [c["CheckID"] for c in checks if c["CheckID"].startswith("leadertag:")]
        return sorted({check.removesuffix(":latch") for check in ours})

    def lock(self) -> dict[str, Any]:
        """The lock's record, with its session."""
        key = f"/v1/kv/leadertag/locks/{self.service}/{self.query}"
        (pair,) = self.cluster.server.get(key)
        value = self.cluster.server.api("GET", key, None, {"raw": ""})[0]
        assert isinstance(value, dict), value
        return {"session": pair.get("Session", ""), **value}

    def seen(self) -> list[SeenInstance]:
        """The service as it stands now."""
        with self.recorder() as recorder:
            return list(recorder.last.instances)


def role_of(instance: SeenInstance) -> list[str]:
    """The role tags that an instance carries."""
    return [tag for tag in instance.tags if tag in ROLE_TAGS]


def tag_changes(recorder: ServiceRecorder, since: float) -> list[str]:
    """The tag changes that were seen after a moment of time.monotonic()."""
    changes = [c for c in recorder.timeline() if c.at > since]
    return [f"{c.node} {c.what}" for c in changes if c.what.startswith("tag ")]


def one_line(text: str) -> str:
    """Text without its final newline; AssertionError unless it is one line."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, json.dumps(lines, indent=1)
    return lines[0]
