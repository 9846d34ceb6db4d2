"""Three hosts on a three-member etcd cluster: Redis, and the daemon that speaks for it.

Hooks write down when they began and ended, a recorder keeps every revision; both are judged
by :mod:`leadertag.testing.history`, through the verdict of :mod:`tests.chaos`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from leadertag.daemon.control import ask
from leadertag.errors import BackendUnavailable
from leadertag.hookspecs import HookEvent
from tests.chaos.clock import now
from tests.chaos.evidence import Line, Writer, read
from tests.chaos.seen import leaders_in
from tests.chaos.servers import own_instance
from tests.chaos.settings import ELECTION, QUERY, configuration
from tests.chaos.verdict import Judge, Verdict
from tests.tools.etcd import EtcdCluster
from tests.tools.etcd_recorder import EtcdRecorder
from tests.tools.leadertag import Daemon, leadertag, to_toml
from tests.tools.processes import wait_until
from tests.tools.redis import RedisServer

LEASE = 6.0
"""Seconds: what is left of it for demoting outlasts an election of etcd's own leader."""
PATIENCE = 60.0
"""Seconds for anything that is waited for: a bound for hanging tests, not a measurement."""


class Node:
    """One host. Its daemon asks the etcd member of the same number first."""

    def __init__(
        self, name: str, table: Mapping[str, Any], folder: Path, evidence: Path, lease: float
    ) -> None:
        self.name, self.folder, self._evidence = name, folder, evidence / f"hooks-{name}.jsonl"
        folder.mkdir(parents=True)
        self.redis = RedisServer(folder / "redis", name=f"redis-{name}")
        # Promise I1 asks for it: whoever starts a service starts it as no leader.
        self.redis.process.argv += ["--replicaof", "127.0.0.1", "1"]
        self._write_files(table, lease)
        self.daemon = Daemon(self.config, name=f"daemon-{name}")

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "leadertag.toml"

    def _write_files(self, table: Mapping[str, Any], lease: float) -> None:
        (self.folder / "control.json").write_text("{}")
        (self.folder / "hook.json").write_text(json.dumps({
            "node": self.name, "evidence": str(self._evidence),
            "control": str(self.folder / "control.json"), "lock": str(self.folder / "hook.lock"),
            "host": self.redis.ip, "port": self.redis.port,
            "pidfile": str(self.folder / "redis.pid"),
        }))  # fmt: skip
        table = {**table, "node": self.name, "report_life": "4s"}
        settings = configuration("etcd", table, self.folder, own_instance(self.redis.ip))
        settings["elections"][ELECTION]["lease"] = f"{lease:g}s"
        self.config.write_text(to_toml(settings))

    def start(self) -> None:
        """Start service and daemon."""
        self.start_redis()
        self.daemon.start()

    def start_redis(self) -> None:
        """Start the service, as no leader."""
        self.redis.start()
        (self.folder / "redis.pid").write_text(str(self.redis.process.pid))

    def close(self) -> None:
        """End everything at once."""
        self.daemon.kill_all()
        self.redis.close()

    @property
    def hooks(self) -> list[Line]:
        """What its hooks have written so far."""
        with suppress(FileNotFoundError):
            return list(read(self._evidence))
        return []

    def describe(self) -> dict[str, Any]:
        """What the daemon says of the election; {} when none answers."""
        for path in (self.folder / "state").glob("*.sock"):
            with suppress(BackendUnavailable, LookupError):
                (found,) = ask(str(path), {"verb": "status"})["elections"]
                return dict(found)
        return {}

    def resolved(self) -> list[str]:
        """The endpoints that `leadertag query` prints here."""
        return leadertag("--config", str(self.config), "query", QUERY).stdout.split()


class Site:
    """The hosts, started; a context manager."""

    def __init__(
        self, cluster: EtcdCluster, folder: Path, lease: float = LEASE, **settings: Any
    ) -> None:
        """`settings` are more of ``[backends.etcd]``."""
        self.cluster = cluster
        evidence = folder / "evidence"
        self._journal = Writer(evidence / "journal.jsonl")
        self._told: list[Line] = []
        self.recorder = EtcdRecorder(cluster.members, evidence / "recorder.jsonl")
        addresses = cluster.addresses
        self.nodes = [
            Node(
                name, {"endpoints": addresses[n:] + addresses[:n], **settings},
                folder / name, evidence, lease,
            )
            for n, name in enumerate(("n1", "n2", "n3"))
        ]  # fmt: skip
        self._stack = ExitStack()
        self.fenced = 0
        """How often a service was found ended by `fence`, while the site was to settle."""

    def __enter__(self) -> Site:
        with self._stack as stack:
            stack.enter_context(self.recorder)
            stack.callback(self._journal.close)
            for node in self.nodes:
                stack.callback(node.close)
                node.start()
            self.wait_settled()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- what it comes to --------------------------------------------------------------------

    def leader(self) -> Node | None:
        """The node that is resolved as leader, as the newest revision has it."""
        line = self.recorder.last("registry")
        found = leaders_in(line["instances"]) if line else []
        return self.node(found[0]) if len(found) == 1 else None

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def wait_for_leader(self, *, but: Node | None = None) -> Node:
        """Wait until somebody is resolved as leader."""
        self.recorder.wait_for(
            lambda: (found := self.leader()) is not None and found is not but,
            PATIENCE, "somebody leads" + (f" and not {but.name}" if but else ""),
        )  # fmt: skip
        found = self.leader()
        assert found is not None
        return found

    def wait_settled(self) -> Node:
        """Wait until every daemon says that all is well, and Redis agrees; the leader."""
        try:
            wait_until(lambda: not self._unsettled(), PATIENCE, "all is settled", interval=0.1)
        except AssertionError as error:
            said = [(node.name, node.describe(), node.redis.answers()) for node in self.nodes]
            logs = [line for node in self.nodes for line in node.daemon.log().splitlines()[-20:]]
            raise AssertionError("\n".join([str(error), *map(str, said), *logs])) from error
        return self.wait_for_leader()

    def _unsettled(self) -> str:
        for node in self.nodes:
            if not node.redis.process.running:  # fenced: an init system would start it again
                self.fenced += 1
                node.start_redis()
        leader = self.leader()
        if leader is None or not leader.redis.answers() or leader.redis.role() != "master":
            return "nobody leads"
        for node in self.nodes:
            said = node.describe()
            if not said.get("settled") or str(said.get("leader")).split("/")[0] != leader.name:
                return node.name
            if node is not leader and not _replicates(node.redis, leader.redis):
                return node.name
        return ""

    @property
    def term(self) -> int:
        """The lock's term."""
        line = self.recorder.last("lock")
        return int(line["record"]["term"]) if line else 0

    def acts_since(self, t: float) -> list[tuple[str, str]]:
        """Which hooks that change a role began after a moment: (node, event)."""
        changing = {HookEvent.PROMOTE, HookEvent.DEMOTE, HookEvent.FENCE, HookEvent.FOLLOW}
        return [
            (node.name, line["event"])
            for node in self.nodes for line in node.hooks
            if line["what"] == "start" and line["event"] in changing and line["t"] > t
        ]  # fmt: skip

    def kill_redis(self, node: Node) -> None:
        """SIGKILL to the service: from then on it does not act."""
        node.redis.kill()
        self._note("unit", node=node.name, unit="redis", what="down")

    def kill_daemon_and_guardian(self, node: Node) -> None:
        """Nobody is left to demote the service: I1 is not promised for it from now on."""
        node.daemon.kill_all()
        self._note("excuse", node=node.name, why="daemon and guardian are gone")

    def _note(self, kind: str, **fields: Any) -> None:
        self._told.append({"t": self._journal.write(kind, **fields), "kind": kind, **fields})

    def bounds(self) -> Mapping[str, float]:
        """What `leadertag explain` prints for this configuration, in seconds."""
        done = leadertag("--config", str(self.nodes[0].config), "explain", "--json")
        assert done.exit_code == 0, done.output
        (found,) = done.json["elections"]
        return {bound["name"]: float(bound["seconds"]) for bound in found["bounds"]}

    def verdict(self) -> Verdict:
        """Everything so far, held against the promises; every revision is among it."""
        self.recorder.catch_up()
        lines = [*self.recorder.lines, *self._told]
        lines += [line for node in self.nodes for line in node.hooks]
        return Judge(sorted(lines, key=lambda line: float(line["t"]))).judge()


def _replicates(replica: RedisServer, master: RedisServer) -> bool:
    if not replica.answers():
        return False
    info = replica.info()
    return bool(info.get("master_host") == master.ip and info.get("master_link_status") == "up")


def wait_out(seconds: float, since: float) -> None:
    """Return that long after a moment: where the passing of time is what is tested."""
    wait_until(lambda: now() >= since + seconds, seconds + PATIENCE, f"{seconds:g} s have passed")
