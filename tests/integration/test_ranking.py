"""Ranking, with real daemons on the embedded backend: the best candidate succeeds.

The leader and its guardian are killed, so that the others announce their ranks while whoever
took the lock waits the lease out: however busy the machine is, there is time for that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.tools.leadertag import Daemon
from tests.tools.processes import wait_until

PATIENCE = 60.0
RANKS = {"n1": 1, "n2": 5, "n3": 9, "n4": 0}
CONFIG = """\
backend = "local"
state_dir = "{folder}/state"
[backends.local]
path = "{folder}/leadertag.db"
node = "{node}"
[elections.demo]
service = "demo"
lease = "3s"
[elections.demo.instance]
id = "{node}"
address = "127.0.0.1"
port = 1
[[elections.demo.hooks]]
use = "command"
events = ["promote", "demote"]
command = ["/bin/sh", "-c", "echo {node} $LEADERTAG_EVENT >>{folder}/events"]
[[elections.demo.hooks]]
use = "command"
events = ["rank"]
timeout = "2s"
command = ["{python}", "-c", "print({rank})"]
"""


class Site:
    """Daemons on one embedded backend, each with a rank of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, Daemon] = {}

    def start(self, node: str) -> Daemon:
        config = self.folder / f"{node}.toml"
        config.write_text(
            CONFIG.format(folder=self.folder, node=node, rank=RANKS[node], python=sys.executable)
        )
        daemon = self.daemons[node] = Daemon(config, name=node)
        daemon.start()
        return daemon

    def promoted(self) -> list[str]:
        """Who was promoted, in order."""
        path = self.folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[0] for line in lines if line.endswith(" promote")]

    def wait_for_leaders(self, count: int) -> list[str]:
        wait_until(lambda: len(self.promoted()) >= count, PATIENCE, f"{count} leaders")
        return self.promoted()


def _watches(log: Callable[[], str]) -> bool:
    return "-> watching" in log()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for daemon in made.daemons.values():
        daemon.kill_all()


def test_the_best_of_the_others_succeeds_and_rank_0_never_leads(site: Site) -> None:
    first = site.start("n1")
    assert site.wait_for_leaders(1) == ["n1"]
    for node in ("n2", "n3", "n4"):
        log = site.start(node).log
        wait_until(partial(_watches, log), PATIENCE, f"{node} to watch")
    first.kill_all()
    assert site.wait_for_leaders(2) == ["n1", "n3"]
    site.daemons["n3"].kill_all()
    assert site.wait_for_leaders(3) == ["n1", "n3", "n2"]
    assert "n4" not in site.promoted()
