"""Hosts with Redis and a daemon each, whose election is spread over several backends."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadertag.backends import Providers, open_providers
from leadertag.config.load import load
from leadertag.errors import LeaderTagError
from tests.chaos import hook as recording
from tests.chaos.clock import now
from tests.chaos.evidence import Writer
from tests.chaos.seen import Seen
from tests.chaos.settings import LEASE, LIMITS, LOCK_KEY, QUERY, SERVICE
from tests.chaos.verdict import Verdict
from tests.integration.e2e.site import PATIENCE, Node
from tests.integration.mixed.evidence import (
    ConsulRecorder,
    EtcdRecorder,
    LocalRecorder,
    Recorder,
    first_led,
    resolved_since,
    verdict,
)
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.etcd import EtcdCluster
from tests.tools.leadertag import Finished, leadertag, to_toml
from tests.tools.processes import wait_until
from tests.tools.redis import RedisServer

REDIS_LIMITS = {
    "before_promote": "4s", "rank": "4s", "promote": "4s", "demote": "800ms", "follow": "4s",
}  # fmt: skip
"""Wide where the lease allows it: what these tests are about is not a busy machine."""


@dataclass(frozen=True)
class Kinds:
    """The backend of each kind; the query is always the registry's."""

    lock: str
    registry: str

    def __str__(self) -> str:
        return f"{self.lock}-{self.registry}"


@dataclass
class Host(Node):
    """One member: its Redis server, its daemon and, where Consul takes part, its agent."""

    key: str = ""
    """The name under which it is recorded."""

    def start_service(self) -> None:
        """Start Redis. It has to begin as no leader: promise I1 asks for that."""
        self.redis.start()
        self.redis.command("REPLICAOF", "127.0.0.1", 1)

    def end_daemons(self) -> None:
        """Nothing of leadertag's is left here, and nobody gives anything up."""
        for daemon in self.daemons:
            daemon.kill_all()


class MixedSite:
    """Three members on three agents, or on one agent (``one_agent``)."""

    def __init__(
        self, kinds: Kinds, folder: Path, cluster: ConsulCluster, etcd: EtcdCluster | None = None,
        *, one_agent: bool = False, **election: Any,
    ) -> None:  # fmt: skip
        self.kinds, self.cluster, self.etcd = kinds, cluster, etcd
        self.folder, self._election = folder, election
        self._one_agent = one_agent
        self._stack = ExitStack()
        self.evidence = folder / "evidence"
        self._out = Writer(self.evidence / "run.jsonl")
        self._stack.callback(self._out.close)
        self.seen = Seen(self.evidence / "run.jsonl")
        agents = [cluster.agents[0]] * 3 if one_agent else cluster.agents
        self.hosts = [self._host(agent, n) for n, agent in enumerate(agents, 1)]
        self._providers: dict[str, Providers] = {}

    def _host(self, agent: ConsulAgent, number: int) -> Host:
        key = f"m{number}" if self._one_agent else agent.node
        own = self.folder / key
        own.mkdir(parents=True)
        redis = RedisServer(own / "redis", name=f"redis of {key}")
        return Host(agent, redis, own, SERVICE, key if self._one_agent else SERVICE, key=key)

    def name(self, node: str, instance_id: str) -> str:
        """The key of the host with that instance."""
        return instance_id if self._one_agent else node

    # -- configuration ---------------------------------------------------------------------

    def configure(self, host: Host) -> Path:
        """Write a host's configuration, and what its recording hooks read."""
        (host.folder / "control.json").write_text("{}")
        (host.folder / "hook.json").write_text(json.dumps({
            "node": host.key,
            "evidence": str(self.evidence / f"hooks-{host.key}.jsonl"),
            "control": str(host.folder / "control.json"),
            "lock": str(host.folder / "hook.lock"),
            "host": host.redis.ip, "port": host.redis.port,
            "pidfile": str(host.folder / "redis.pid"),
        }))  # fmt: skip
        tables = {name: self._table(name, host) for name in (self.kinds.lock, self.kinds.registry)}
        path = host.folder / "leadertag.toml"
        path.write_text(to_toml({
            "lock": self.kinds.lock, "registry": self.kinds.registry, "query": self.kinds.registry,
            "state_dir": str(host.folder / "state"),
            "backends": tables,
            "elections": {"redis": self._table_of_election(host)},
        }))  # fmt: skip
        return path

    def _table(self, backend: str, host: Host) -> Mapping[str, Any]:
        if backend == "consul":
            return {"address": host.agent.address}
        if backend == "etcd":
            assert self.etcd is not None
            return {"endpoints": self.etcd.addresses, "node": host.name, "report_life": "4s"}
        # A file is one host's: those of one agent share it, others have their own.
        folder = self.folder if self._one_agent else host.folder
        return {"path": str(folder / "leadertag.db"), "node": host.name}

    def _table_of_election(self, host: Host) -> Mapping[str, Any]:
        hooks: list[Mapping[str, Any]] = [
            _recording(host, "first"),
            {"use": "redis", "url": host.redis.url, "timeout": REDIS_LIMITS,
             "interval": "500ms", "ping_timeout": "1s"},
            _recording(host, "last"),
        ]  # fmt: skip
        election: dict[str, Any] = {
            "service": SERVICE, "query": QUERY, "tags": ["sensu"], "lease": f"{LEASE:g}s",
            "stand_back": "1s", "hooks": hooks, **self._election,
        }  # fmt: skip
        if self.kinds.registry == "consul":
            election["service_id"] = host.service_id
        else:
            target = f"{host.redis.ip}:{host.redis.port}"
            election["instance"] = {
                "id": host.service_id, "address": host.redis.ip, "port": host.redis.port,
                "tags": ["sensu"], "check": {"tcp": target, "interval": "300ms"},
            }  # fmt: skip
        return election

    # -- starting and ending -----------------------------------------------------------------

    def start(self) -> None:
        """Start services, daemons and recorders; returns when all is settled."""
        for host in self.hosts:
            self._stack.callback(host.redis.close)
            host.start_service()
            if self.kinds.registry == "consul":
                host.agent.register_service(host.definition())
        paths = {host.key: self.configure(host) for host in self.hosts}
        for key, path in paths.items():
            self._providers[key] = open_providers(load(str(path), environ={}), environ={})
            self._stack.callback(self._providers[key].close)
        for recorder in self._recorders():
            self._stack.callback(recorder.stop)
            recorder.start()
        self._stack.callback(self.seen.stop)
        self.seen.start()
        for host in self.hosts:
            self._stack.callback(host.end_daemons)
            host.start_daemon(paths[host.key])

    def close(self) -> None:
        """End everything that was started here; the servers are their makers' to end."""
        self._stack.close()

    def _recorders(self) -> list[Recorder]:
        found: list[Recorder] = []
        server = self.cluster.server.address
        if self.etcd is not None:
            found.append(EtcdRecorder(self._out, self.etcd.members[0]))
        if self.kinds.registry == "consul":
            found.append(ConsulRecorder.of_service(self._out, server, SERVICE, self.name))
        if self.kinds.lock == "consul":
            found.append(ConsulRecorder.of_lock(self._out, server, LOCK_KEY, self.name))
        providers = list(self._providers.values())
        if self.kinds.registry == "local":
            found.append(LocalRecorder(self._out, providers, "registry", SERVICE, self.name))
        if self.kinds.lock == "local":
            found.append(LocalRecorder(self._out, providers, "lock", LOCK_KEY, self.name))
        return found

    def move_lock(self, lock: str, *, forget: bool) -> None:
        """Put the lock into another backend, on all hosts at once; ``forget`` all terms."""
        for host in self.hosts:
            host.daemon.stop()
        self.wait(lambda: not self.seen.leader, "the guardians have given up")
        wait_until(
            lambda: not any(host.redis.role() == "master" for host in self.hosts), PATIENCE,
            "nobody acts as leader any more",
        )  # fmt: skip
        self.kinds = Kinds(lock, self.kinds.registry)
        for host in self.hosts:
            self.configure(host)
            if forget:
                shutil.rmtree(host.folder / "state")
            host.daemon.start()

    # -- faults, written down ------------------------------------------------------------------

    def kill_service(self, host: Host) -> None:
        """SIGKILL to Redis: a service that is gone has been demoted."""
        host.redis.kill()
        self._out.write("unit", node=host.key, unit="redis", what="down")

    def restart_service(self, host: Host) -> None:
        """Start it again, in the role that leads nothing."""
        host.start_service()
        self._out.write("unit", node=host.key, unit="redis", what="up")

    def lose_leadertag(self, host: Host) -> None:
        """SIGKILL to daemon and guardian: nobody demotes the service, which I1 allows for."""
        host.daemon.kill_all()
        self._out.write("excuse", node=host.key, why="daemon and guardian are gone both")

    def deregister(self, host: Host) -> None:
        """Take its instance out of Consul."""
        host.agent.deregister_service(host.service_id)

    # -- looking at it -------------------------------------------------------------------------

    def host(self, key: str) -> Host:
        """The host of that name."""
        return next(host for host in self.hosts if host.key == key)

    def others(self, *hosts: Host) -> list[Host]:
        """All hosts but these."""
        return [host for host in self.hosts if host not in hosts]

    def wait(self, condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
        """Wait for a state of the recorded registry or lock."""
        assert self.seen.wait(condition, timeout), f"not within {timeout:g} s: {what}"

    def wait_for_leader(self, *, but: Host | None = None) -> Host:
        """The host whose instance alone resolves as leader."""
        key = but.key if but else ""
        self.wait(lambda: self.seen.leader not in ("", key), f"a leader other than {key!r}")
        return self.host(self.seen.leader)

    def wait_settled(self, *hosts: Host) -> None:
        """Wait until these hosts' daemons (default: all) say that all is as it should be."""
        chosen = hosts or tuple(self.hosts)
        try:
            wait_until(
                lambda: all(host.describe().get("settled") for host in chosen), PATIENCE,
                "every daemon is settled", interval=0.05,
            )  # fmt: skip
        except AssertionError as error:
            told = [str(error), *(host.describe() for host in chosen)]
            raise AssertionError(told) from error

    def resolved(self, host: Host) -> list[str]:
        """Whom the query answers with on that host; [] when nobody can tell."""
        try:
            found = self._providers[host.key].query.resolve(QUERY)
        except LeaderTagError:
            return []
        return [instance.address for instance in found]

    def command(self, host: Host, *words: str) -> Finished:
        """``leadertag WORDS`` with that host's configuration."""
        return leadertag("--config", str(host.folder / "leadertag.toml"), *words)

    def since(self, moment: float, but: Host) -> float:
        """Seconds from a moment until another one than ``but`` first resolved as leader."""
        return first_led(self.evidence, moment, but.key)

    def resolved_since(self, moment: float) -> set[str]:
        """The hosts that have resolved as leader at any time after a moment."""
        return resolved_since(self.evidence, moment)

    def verdict(self) -> Verdict:
        """What the record says of the promises so far."""
        return verdict(self.evidence)

    def assert_promises_kept(self, *, terms: int) -> None:
        """Nothing was broken, and the record really saw that many leaders at least."""
        found = self.verdict()
        assert not found.broken, found.broken
        assert found.published >= terms, found
        assert found.terms >= terms, found
        assert found.hooks > terms, found

    def assert_one_leader(self) -> Host:
        """All daemons are settled on one leader, whom registry and query agree on."""
        self.wait_settled()
        leader = self.wait_for_leader()
        told = [host.describe() for host in self.hosts]
        assert [one["role"] for one in told].count("leader") == 1, told
        assert leader.describe()["role"] == "leader", told
        wait_until(
            lambda: self.resolved(leader) == [leader.redis.ip], PATIENCE, "the query answers it"
        )
        assert leader.redis.role() == "master"
        for host in self.others(leader):
            wait_until(host.redis.master_link_up, PATIENCE, f"{host.key} replicates")
        return leader


def _recording(host: Host, place: str) -> dict[str, Any]:
    script = str(Path(recording.__file__))
    command = [sys.executable, "-I", "-S", script, str(host.folder / "hook.json"), place]
    limits = _limits(place)
    return {"use": "command", "command": command, "events": sorted(limits), "timeout": limits}


def _limits(place: str) -> dict[str, str]:
    return {event: f"{round(1000 * seconds)}ms" for event, seconds in LIMITS[place].items()
            if event != "fence"}  # fmt: skip


__all__ = ["Host", "Kinds", "MixedSite", "now"]
