"""The guardian, on the embedded backend: what happens to a leadership without its daemon.

The service's own view is a file: each hook appends a line, so the order of lines is the
order in which the actions ended.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.processes import ServerProcess, wait_until

CONFIG = """\
backend = "local"
state_dir = "{folder}/state"
[backends.local]
path = "{folder}/leadertag.db"
node = "{node}"
[elections.demo]
service = "demo"
lease = "{lease}"
[elections.demo.instance]
id = "{node}"
address = "127.0.0.1"
port = 1
[[elections.demo.hooks]]
use = "command"
events = ["promote", "demote"]
command = ["/bin/sh", "-c", "echo {node} $LEADERTAG_EVENT $LEADERTAG_TERM >>{folder}/events"]
"""


@dataclass
class Cluster:
    """Some daemons on one embedded backend."""

    folder: Path
    lease: str = "3s"

    def __post_init__(self) -> None:
        self.daemons: dict[str, ServerProcess] = {}

    def start(self, node: str) -> ServerProcess:
        config = self.folder / f"{node}.toml"
        config.write_text(CONFIG.format(folder=self.folder, node=node, lease=self.lease))
        argv = [sys.executable, "-m", "leadertag", "--config", str(config), "run"]
        daemon = ServerProcess([*argv, "--log-level", "info"], self.folder / f"{node}.log")
        daemon.start()
        self.daemons[node] = daemon
        return daemon

    def events(self) -> list[str]:
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, count: int) -> list[str]:
        wait_until(lambda: len(self.events()) >= count, 30, f"{count} actions: {self.events()}")
        return self.events()

    def log(self, node: str) -> str:
        return (self.folder / f"{node}.log").read_text()

    def pair(self) -> str:
        """Start a leader and a follower; return the leader's name."""
        self.start("n1")
        leader = self.wait_for(1)[0].split()[0]
        wait_until(lambda: "-> leading" in self.log("n1"), 30, "n1 to be published")
        self.start("n2")
        wait_until(lambda: "-> watching" in self.log("n2"), 30, "n2 to follow")
        return leader


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    for daemon in made.daemons.values():
        if daemon.running:
            daemon.resume()
            daemon.signal(signal.SIGINT)
            daemon.stop()


def guardian_of(daemon: ServerProcess) -> int:
    """Return the pid of a daemon's guardian, once it runs as such; 0 for none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if b"leadertag.daemon.guardian" in words and parent == str(daemon.pid):
                return int(entry.name)
    return 0


def test_a_killed_daemon_is_demoted_before_anybody_succeeds(cluster: Cluster) -> None:
    cluster.pair()
    cluster.daemons["n1"].kill()
    assert cluster.wait_for(3) == ["n1 promote 1", "n1 demote 1", "n2 promote 2"]


def test_a_killed_process_group_leaves_the_guardian(cluster: Cluster) -> None:
    cluster.pair()
    os.killpg(os.getpgid(cluster.daemons["n1"].pid), signal.SIGKILL)
    assert cluster.wait_for(3) == ["n1 promote 1", "n1 demote 1", "n2 promote 2"]


def test_a_stopped_daemon_is_ended_and_never_comes_back(cluster: Cluster) -> None:
    cluster.pair()
    daemon = cluster.daemons["n1"]
    daemon.pause()
    assert cluster.wait_for(3) == ["n1 promote 1", "n1 demote 1", "n2 promote 2"]
    # Killed before the guardian acted: there is nobody left to be continued.
    wait_until(lambda: not daemon.running, 10, "the stopped daemon to have ended")
    assert daemon.exit_status == -signal.SIGKILL


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_is_back_in_time_changes_no_role(
    tmp_path: Path, ending: signal.Signals
) -> None:
    cluster = Cluster(tmp_path, lease="20s")
    try:
        cluster.pair()
        old = cluster.daemons["n1"]
        guardian = guardian_of(old)
        assert guardian
        old.signal(ending)
        wait_until(lambda: not old.running, 20, "the daemon to end")
        cluster.start("n1")
        wait_until(lambda: "adopting -> publishing" in cluster.log("n1"), 20, "adoption")
        wait_until(lambda: cluster.log("n1").count("-> leading") == 2, 20, "leading again")
        assert cluster.events() == ["n1 promote 1"]
    finally:
        for daemon in cluster.daemons.values():
            daemon.signal(signal.SIGINT)
            daemon.stop()
        with suppress(ProcessLookupError):  # it waits for its deadline
            os.kill(guardian, signal.SIGKILL)


def test_a_dead_guardian_is_replaced(cluster: Cluster) -> None:
    cluster.pair()
    daemon = cluster.daemons["n1"]
    first = guardian_of(daemon)
    assert first
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: guardian_of(daemon) not in (0, first), 20, "another guardian")
    daemon.kill()
    assert cluster.wait_for(3) == ["n1 promote 1", "n1 demote 1", "n2 promote 2"]


def test_a_daemon_that_gives_up_takes_its_guardian_along(cluster: Cluster) -> None:
    cluster.pair()
    daemon = cluster.daemons["n1"]
    guardian = guardian_of(daemon)
    assert guardian
    daemon.signal(signal.SIGINT)
    assert cluster.wait_for(3) == ["n1 promote 1", "n1 demote 1", "n2 promote 2"]
    wait_until(lambda: not Path(f"/proc/{guardian}").exists(), 10, "the guardian to end")
