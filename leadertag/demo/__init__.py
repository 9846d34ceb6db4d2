"""``leadertag demo``: three instances on the embedded backend, an election, a failover.

Nothing is played: three daemons (``leadertag run``) share one file, each beside a service
of its own. With ``redis-server`` on PATH (and the extra ``redis``) the services are real
Redis servers that replicate from whoever leads.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from leadertag.backends import open_providers
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.demo.nodes import Node, PlainNode, RedisNode
from leadertag.errors import LeaderTagError
from leadertag.model import Instance, Record

NODES = 3
PATIENCE = 30.0
"""Seconds for anything that the demo waits for."""
T = TypeVar("T")
Say = Callable[[str], None]


def run(say: Say = print, *, plain: bool = False) -> int:
    """Show an election and a failover; returns 0, or 1 when it did not come about.

    ``plain`` uses the built-in service even where Redis is at hand.
    """
    real = not plain and bool(shutil.which("redis-server")) and find_spec("redis") is not None
    kind: type[Node] = RedisNode if real else PlainNode
    folder = Path(tempfile.mkdtemp(prefix="leadertag-demo-"))
    nodes = [kind(folder, f"node{n}") for n in range(1, NODES + 1)]
    try:
        say(f"Three {kind.kind}, each beside a `leadertag run`, share {folder}/leadertag.db.")
        return _show(folder, nodes, say)
    except TimeoutError as error:
        say(f"The demo gave up: {error}")
        for node in nodes:
            say(node.tail())
        return 1
    finally:
        for node in nodes:
            node.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _show(folder: Path, nodes: list[Node], say: Say) -> int:
    started = time.monotonic()
    for node in nodes:
        node.start()
    watcher = Observer(folder)
    first = watcher.wait_for_leader(nodes, "")
    say(f"\n{time.monotonic() - started:5.2f}s  {first.node} was elected (term {first.term}).\n")
    _table(watcher, nodes, say)
    leader = next(node for node in nodes if node.name == first.node)
    leader.write("before the failure")
    say(f"\nKilling the service on {first.node} (SIGKILL) ...")
    killed = time.monotonic()
    leader.kill_service()
    second = watcher.wait_for_leader(nodes, first.node)
    took = time.monotonic() - killed
    say(f"{took:5.2f}s  {second.node} leads (term {second.term}), promoted and published.")
    survivors = [node for node in nodes if node is not leader]
    watcher.wait_until(lambda: all(n.follows_or_is(second) for n in survivors), "followers")
    say(f"{time.monotonic() - killed:5.2f}s  the other one follows it.\n")
    new = next(node for node in nodes if node.name == second.node)
    new.write("after the failover")
    say(f"Starting the service on {first.node} again ...")
    leader.start_service()
    watcher.wait_until(lambda: watcher.tagged(first.node, "slave"), "the old leader to follow")
    watcher.wait_until(lambda: leader.follows_or_is(second), "the old leader to follow")
    say("it came back as a follower.\n")
    _table(watcher, nodes, say)
    watcher.close()
    return 0


def _table(watcher: Observer, nodes: list[Node], say: Say) -> None:
    by_node = {node.name: node for node in nodes}
    for member in sorted(watcher.members(), key=lambda m: m.node):
        tags = ",".join(member.tags) or "-"
        node = by_node[member.node]
        say(f"  {member.node}  {member.address}:{member.port:<6} {member.health:<9} "
            f"{tags:<7} {node.role()}")  # fmt: skip


class Observer:
    """Looks at the shared file as any client could."""

    def __init__(self, folder: Path) -> None:
        election = ElectionSettings("demo", "demo", "demo", query="demo-leader")
        settings = Settings(
            "local", "local", "local", (election,), str(folder),
            {"local": {"path": str(folder / "leadertag.db"), "node": "observer"}},
        )  # fmt: skip
        self._key = election.key
        self._providers = open_providers(settings, environ={})

    def wait_for_leader(self, nodes: list[Node], not_on: str) -> Record:
        """Return the record of a published leader on another node, once all is in order."""

        def found() -> Record | None:
            record = self._providers.lock.read(self._key).leader
            if record is None or record.node == not_on:
                return None
            everyone = [node.name for node in nodes if node.name != not_on]
            settled = all(
                self.tagged(name, "master" if name == record.node else "slave") for name in everyone
            )
            return record if not_on or settled else None

        record = self.wait_until(found, "a leader")
        assert record is not None
        return record

    def members(self) -> tuple[Instance, ...]:
        """Return all instances."""
        return self._providers.registry.members("demo")

    def tagged(self, node: str, tag: str) -> bool:
        """Whether a node's instance passes with that tag."""
        return any(m.node == node and m.passing and tag in m.tags for m in self.members())

    def wait_until(self, condition: Callable[[], T], what: str) -> T:
        """Return the first true value of ``condition``; TimeoutError when there is none."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(LeaderTagError):  # the file is only just being made
                if value := condition():
                    return value
            if time.monotonic() >= deadline:
                raise TimeoutError(f"waited {PATIENCE:g}s for {what}")
            time.sleep(0.01)

    def close(self) -> None:
        """Give the file back."""
        self._providers.close()
