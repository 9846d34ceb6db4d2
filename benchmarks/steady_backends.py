"""Real servers for :mod:`benchmarks.steady`, and what each of them counts.

There are two places, a process each: ``leader`` and ``follower``. Where it can be had, each
place asks a server of its own, so that the server's counts are that place's alone.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.counting_relay import CountingRelay
from benchmarks.processes import Process, calls, connections, open_files
from leadertag_consul.client import POOL
from tests.tools.consul import ConsulCluster
from tests.tools.etcd import CLIENT_PORT as ETCD_PORT
from tests.tools.etcd import EtcdCluster
from tests.tools.zookeeper import CLIENT_PORT as ZOOKEEPER_PORT
from tests.tools.zookeeper import ZooKeeperEnsemble

PLACES = ("leader", "follower")
CHECKOUT = Path(__file__).resolve().parents[1]
Family = Sequence[Process]


class Unavailable(Exception):
    """A backend cannot be had here; the message says why, in one line."""


class Backend(ABC):
    """Servers and their counts; `close` ends them."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]] = ()
    """What has to be installed, or be fetched, for it."""
    self_registered: ClassVar[bool] = True
    """Whether leadertag describes and checks the instances itself."""
    own_writes: ClassVar[int] = 0
    """Entries a minute that the servers write by themselves, whoever uses them."""

    same_connections: ClassVar[bool] = True
    """Whether a process has the same number of connections, whatever it did before."""
    batched: ClassVar[bool] = True
    """Whether one request confirms several locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    @classmethod
    def most_connections(cls, elections: int) -> int:
        """Return how many connections one process may have."""
        return 1

    @abstractmethod
    def start(self) -> None:
        """Start the servers."""

    @abstractmethod
    def table(self, place: str) -> dict[str, Any]:
        """Return ``[backends.NAME]`` for the process at that place."""

    @abstractmethod
    def requests(self, place: str, family: Family) -> Mapping[str, int]:
        """Return how many requests there were so far, by kind."""

    @abstractmethod
    def writes(self) -> Mapping[str, int]:
        """Return what the backend has written so far, by anybody."""

    @abstractmethod
    def connections(self, place: str, family: Family) -> int:
        """Return how many connections the processes at that place have to the servers."""

    @abstractmethod
    def watches(self, place: str, family: Family) -> int:
        """Return how many watches the servers keep for that place."""

    def register(  # noqa: B027 - nothing to do is a valid default
        self, place: str, services: Sequence[str], address: str, port: int
    ) -> None:
        """Make instances known, where leadertag does not do that itself."""

    @property
    def env(self) -> Mapping[str, str]:
        """Variables for the daemons."""
        return {}

    def close(self) -> None:
        """End everything that was started."""
        self._stack.close()

    def __enter__(self) -> Backend:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Etcd(Backend):
    """Three members; each counts the requests of its own clients."""

    name = "etcd"
    programs = ("etcd",)

    def start(self) -> None:
        self._cluster = self._stack.enter_context(EtcdCluster(self.folder / "etcd", 3))
        *own, self._aside = self._cluster.members
        self._members = dict(zip(PLACES, own, strict=True))

    def table(self, place: str) -> dict[str, Any]:
        return {"endpoints": [self._members[place].address], "node": place}

    def requests(self, place: str, family: Family) -> Mapping[str, int]:
        pattern = re.compile(r'grpc_server_started_total\{.*grpc_method="(\w+)"')
        found = {
            match[1]: int(value)
            for name, value in self._members[place].metrics().items()
            if (match := pattern.match(name)) is not None
        }
        return {kind: count for kind, count in found.items() if count}

    def writes(self) -> Mapping[str, int]:
        # Asked at a member that serves none of the processes: its counts are not theirs.
        return {"revisions": self._aside.revision(), "raft entries": self._aside.raft_index()}

    def connections(self, place: str, family: Family) -> int:
        return len(connections(family, {ETCD_PORT}))

    def watches(self, place: str, family: Family) -> int:
        return int(self._members[place].metrics()["etcd_debugging_mvcc_watcher_total"])


class Consul(Backend):
    """A server, and an agent for each place behind a relay that counts."""

    name = "consul"
    programs = ("consul",)
    self_registered = False
    own_writes = 1  # the leader's barrier
    same_connections = False  # some of the pool are left over from livelier times

    @classmethod
    def most_connections(cls, elections: int) -> int:
        return POOL + 3  # the pool, and one for each blocking read

    def start(self) -> None:
        self._cluster = self._stack.enter_context(ConsulCluster(self.folder / "consul", 2))
        self._relays = {}
        for place, agent in zip(PLACES, self._cluster.agents, strict=True):
            self._relays[place] = CountingRelay(agent.ip, (agent.ip, 8500))
            self._stack.callback(self._relays[place].close)

    def table(self, place: str) -> dict[str, Any]:
        return {"address": self._relays[place].url}

    def register(self, place: str, services: Sequence[str], address: str, port: int) -> None:
        agent = self._cluster.agents[PLACES.index(place)]
        check = {"TCP": f"{address}:{port}", "Interval": "1s", "Status": "passing"}
        for service in services:
            agent.register_service({
                "Name": service, "ID": service, "Address": address, "Port": port,
                "Checks": [{**check, "CheckID": f"tcp:{service}", "Name": "answers"}],
            })  # fmt: skip

    def requests(self, place: str, family: Family) -> Mapping[str, int]:
        return self._relays[place].counts

    def writes(self) -> Mapping[str, int]:
        return {"raft entries": self._cluster.raft_index()}

    def connections(self, place: str, family: Family) -> int:
        return len(connections(family, {self._relays[place].port}))

    def watches(self, place: str, family: Family) -> int:
        return self._relays[place].waiting


class ZooKeeper(Backend):
    """Three servers; each counts the packets and watches of its own clients.

    The plugin is the example of a third party's: it and kazoo are installed aside.
    """

    name = "zookeeper"
    programs = ("zkServer.sh",)
    batched = False  # its reads are of one node each; they go out together, but they count

    @classmethod
    def most_connections(cls, elections: int) -> int:
        return 4  # requests, locks, instances, heartbeat

    def start(self) -> None:
        self._site = self.folder / "site"
        _install_plugin(self.folder)
        self._ensemble = self._stack.enter_context(ZooKeeperEnsemble(self.folder / "zk", 3))
        *own, self._aside = self._ensemble.servers
        self._servers = dict(zip(PLACES, own, strict=True))

    @property
    def env(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(self._site)}

    def table(self, place: str) -> dict[str, Any]:
        return {"hosts": [self._servers[place].address], "node": place, "tick_time": "200ms"}

    def requests(self, place: str, family: Family) -> Mapping[str, int]:
        own = set(connections(family, {ZOOKEEPER_PORT}))
        received = 0
        for line in self._servers[place].ask("cons").splitlines():
            found = re.match(r"\s*/([\d.:]+)\[.*recved=(\d+)", line)
            if found is not None and found[1] in own:
                received += int(found[2])
        return {"packets (pings too)": received}

    def writes(self) -> Mapping[str, int]:
        return {"transactions": max(one.transaction() for one in self._ensemble.servers)}

    def connections(self, place: str, family: Family) -> int:
        return len(connections(family, {ZOOKEEPER_PORT}))

    def watches(self, place: str, family: Family) -> int:
        found = re.search(r"Total watches:(\d+)", self._servers[place].ask("wchs"))
        return int(found[1]) if found else 0


class Local(Backend):
    """One SQLite file. There is no server: what counts is what is committed to the file."""

    name = "local"
    same_connections = False
    batched = False  # no requests: what is counted are system calls

    @classmethod
    def most_connections(cls, elections: int) -> int:
        return elections + 16  # a handle of the file for each thread that checks a service

    def start(self) -> None:
        self._path = self.folder / "leadertag.db"
        self._seen = (b"", 0)
        self._commits = 0

    def table(self, place: str) -> dict[str, Any]:
        return {"path": str(self._path), "node": place}

    def requests(self, place: str, family: Family) -> Mapping[str, int]:
        return calls(family[:1])

    def writes(self) -> Mapping[str, int]:
        """Commits in the write-ahead log; those that a new log overwrote count from its start."""
        (salt, before), now = self._seen, _commits(self._path.with_name("leadertag.db-wal"))
        self._commits += now[1] - before if now[0] == salt else now[1]
        self._seen = now
        return {"commits": self._commits}

    def connections(self, place: str, family: Family) -> int:
        return open_files(family, lambda file: file == str(self._path))

    def watches(self, place: str, family: Family) -> int:
        watchers = f"{self._path}.d/watchers/"
        return open_files(family, lambda file: file.startswith(watchers))


BACKENDS: Mapping[str, type[Backend]] = {
    backend.name: backend for backend in (Local, Consul, Etcd, ZooKeeper)
}


def _commits(log: Path) -> tuple[bytes, int]:
    """Return a write-ahead log's salt, which is another after each reset, and its commits."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return b"", 0
    if len(data) < 32:
        return b"", 0
    page = struct.unpack(">I", data[8:12])[0]
    salt, count = data[16:24], 0
    for at in range(32, len(data) - 23, 24 + page):
        if data[at + 8 : at + 16] != salt:
            break  # left over from before the last reset
        # Only the last frame of a transaction tells the size that the file has after it.
        count += struct.unpack(">I", data[at + 4 : at + 8])[0] > 0
    return salt, count


def _install_plugin(folder: Path) -> None:
    """Install the example's plugin and kazoo into a folder of their own."""
    source = folder / "plugin"
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(CHECKOUT / "examples/leadertag-zookeeper", source, ignore=unwanted)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    argv = [*pip, str(folder / "site"), str(source), "kazoo"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise Unavailable(f"the ZooKeeper plugin cannot be installed: {last}")
