"""What a drill does and looks at: marks of hooks, last confirmations, Consul's own indexes.

All processes of a drill append their marks to one file. Its order of lines is the order of
what happened; the times are seconds of CLOCK_BOOTTIME, which leadertag's deadlines are told
in, cut to hundredths by the kernel.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadertag.election.deadlines import GUARDIAN_LAG
from leadertag.election.policy import contact_limit
from tests.integration.e2e.site import PATIENCE, Node, Site
from tests.tools.httpjson import HttpError
from tests.tools.processes import wait_until
from tests.tools.recorder import Observation, SeenInstance, ServiceRecorder

TURNS = range(int(os.environ.get("LEADERTAG_DRILL_TIMES") or 1))
"""How often each drill is run."""
LEASE = 12.0
"""Seconds, with room for hooks on a busy machine; a guardian needs time to get ready as well."""
RATE = 0.9
TICK = 0.01
"""Seconds that a mark may be later than it says."""
LIMITS = {"first": 1.5, "redis": 2.0, "last": 1.5}
"""Seconds that each hook has to demote."""
FENCE_LIMIT = 1.5
_CONFIRMED = struct.Struct("<d36s")
_MARK = 'mark() {{ read -r now _ </proc/uptime; echo "$now {node} $1 {told}" >>{marks}; }}\n'
_TOLD = "$LEADERTAG_EVENT $LEADERTAG_TERM $LEADERTAG_REASON"
ACTIONS = ["promote", "demote", "follow"]
Hook = dict[str, Any]


def boottime() -> float:
    """Seconds since boot, the time that runs through suspend as well."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Mark:
    """One line: at which ``place`` of which node's hooks, in which event and term."""

    at: float
    node: str
    place: str
    event: str
    term: int
    reason: str


@dataclass(frozen=True)
class Ledger:
    """What Consul keeps of an election, with the index of every last write."""

    lock: tuple[int, int, str]
    instances: tuple[tuple[str, int, tuple[str, ...]], ...]
    checks: tuple[tuple[str, str, int, str], ...]
    sessions: tuple[str, ...]


class Drill:
    """A site in which everything that matters is written down."""

    def __init__(self, site: Site, recorder: ServiceRecorder, marks: Path) -> None:
        self.site, self.recorder = site, recorder
        self._marks = marks
        self.skew = boottime() - time.monotonic()
        self.fences = False

    # -- setting it up ------------------------------------------------------------------

    def script(self, node: Node, text: str) -> list[str]:
        """A command of a hook in which ``mark PLACE`` leaves a mark."""
        mark = _MARK.format(node=node.name, told=_TOLD, marks=self._marks)
        return ["/bin/sh", "-c", mark + text]

    def mark_hook(self, node: Node, place: str) -> Hook:
        """A hook that leaves a mark, first or last of all."""
        timeout = {"demote": f"{LIMITS[place]}s"}
        command = self.script(node, f"mark {place}")
        return {"use": "command", "command": command, "events": ACTIONS, "timeout": timeout}

    def fence_hook(self, node: Node) -> Hook:
        """A hook that ends this node's Redis for good."""
        command = self.script(node, f"mark first; kill -9 {node.redis.process.pid}; mark last")
        timeout = {"fence": f"{FENCE_LIMIT}s"}
        return {"use": "command", "command": command, "events": ["fence"], "timeout": timeout}

    def start(self, *between: Any, fences: bool = False, **settings: Any) -> None:
        """Start a daemon on every node.

        Each of ``between`` makes, of a node, a hook that runs between the marks; without
        any it is the one for Redis.
        """
        self.fences = fences
        for node in self.site.nodes:
            inner = [make(node) for make in between] or [self.redis_hook(node)]
            hooks = [self.mark_hook(node, "first"), *inner, self.mark_hook(node, "last")]
            if fences:
                hooks.append(self.fence_hook(node))
            election = self.site.election(hooks=hooks, lease=f"{LEASE}s", **settings)
            node.start_daemon(node.write_config({"redis": election}))

    def redis_hook(self, node: Node) -> Hook:
        """The hook for that node's Redis."""
        return node.redis_hook() | {"timeout": {"demote": f"{LIMITS['redis']}s"}}

    def settled(self) -> tuple[Node, int]:
        """Wait until one leads and all follow; the leader and its term."""
        leader = self.site.wait_for_leader(self.recorder)
        self.site.wait_for_redis(leader)
        self.site.wait_settled()
        return leader, int(self.site.lock()["term"])

    # -- looking at it ------------------------------------------------------------------

    def marks(self) -> list[Mark]:
        """All marks, in the order in which they were left."""
        found = []
        with suppress(FileNotFoundError):
            for line in self._marks.read_text().splitlines():
                at, node, place, event, term, *reason = line.split(" ")
                found.append(Mark(float(at), node, place, event, int(term), " ".join(reason)))
        return found

    def find(self, **wanted: Any) -> list[tuple[int, Mark]]:
        """The marks with these values, each with its place in the order."""
        return [
            (number, mark)
            for number, mark in enumerate(self.marks())
            if all(getattr(mark, name) == value for name, value in wanted.items())
        ]

    def await_mark(self, **wanted: Any) -> Mark:
        """The first such mark, as soon as it is there."""
        wait_until(lambda: self.find(**wanted), PATIENCE, f"a mark of {wanted}: {self.marks()}")
        return self.find(**wanted)[0][1]

    def confirmed(self, node: Node) -> float:
        """When that node's lock was last confirmed, as its member's own file has it."""
        (file,) = (node.folder / "state").glob("*.confirmed")
        at, _ = _CONFIRMED.unpack(file.read_bytes())
        return float(at)

    def strikes_at(self, confirmed_at: float) -> float:
        """When the guardian acts unless another confirmation comes."""
        fence = FENCE_LIMIT if self.fences else 0.0
        return confirmed_at + contact_limit(LEASE, sum(LIMITS.values()), fence) + GUARDIAN_LAG

    def ledger(self) -> Ledger:
        """What Consul keeps of this election now."""
        site, server = self.site, self.site.cluster.server
        (pair,) = server.get(f"/v1/kv/leadertag/locks/{site.service}/{site.query}")
        entries = sorted(site.cluster.health(site.service), key=lambda e: str(e["Node"]["Node"]))
        return Ledger(
            lock=(pair["ModifyIndex"], pair["LockIndex"], pair.get("Session", "")),
            instances=tuple(
                (e["Node"]["Node"], e["Service"]["ModifyIndex"], tuple(e["Service"]["Tags"]))
                for e in entries
            ),
            checks=tuple(
                (e["Node"]["Node"], c["CheckID"], c["ModifyIndex"], c["Status"])
                for e in entries
                for c in e["Checks"]
            ),
            sessions=tuple(sorted(s["ID"] for s in site.cluster.sessions())),
        )

    def since(self, at: float) -> list[Observation]:
        """The service as it was shown after a moment of CLOCK_BOOTTIME."""
        return [seen for seen in self.recorder.observations if seen.at + self.skew >= at]

    # -- judging it -----------------------------------------------------------------------

    def assert_gave_up(self, old: Node, term: int, confirmed_at: float) -> None:
        """The old one was demoted, once and in time, before anybody began to promote."""
        ended = self.find(node=old.name, event="demote", place="last", term=term)
        assert len(ended) == 1, self.marks()
        number, mark = ended[0]
        end = confirmed_at + RATE * LEASE
        assert mark.at + TICK <= end, (end, self.marks())
        began = [n for n, m in self.find(event="promote") if m.term != term]
        assert all(number < later for later in began), self.marks()

    def assert_succeeded(self, old: Node, term: int, new: Node, confirmed_at: float) -> None:
        """... and from the moment when the new one began, the old one was nowhere found."""
        self.assert_gave_up(old, term, confirmed_at)
        self.assert_unresolved(old, self.began(new, term).at)

    def began(self, new: Node, after: int) -> Mark:
        """When the new one began to promote, in a term after that one."""
        found = self.find(node=new.name, event="promote", place="first")
        return next(mark for _, mark in found if mark.term > after)

    def assert_unresolved(self, old: Node, since: float) -> None:
        """From that moment on the old one was nowhere found as the leader."""
        for seen in self.since(since):
            assert old.name not in [i.node for i in seen.passing_with_tag("master")], seen
        found = self.instance(old)
        assert "master" not in found.tags
        assert not [check for check, _ in found.checks if check.startswith("leadertag:")]
        wait_until(self.resolved, PATIENCE, "the query answers")
        assert old.redis.ip not in self.resolved()

    def instance(self, node: Node) -> SeenInstance:
        """That node's instance as it was last shown."""
        return next(i for i in self.recorder.last.instances if i.node == node.name)

    def resolved(self) -> list[str]:
        """The addresses that the query answers with; none before it is made."""
        try:
            answer = self.site.cluster.server.get(f"/v1/query/{self.site.query}/execute")
        except HttpError as error:
            if error.status == 404:
                return []
            raise
        return [entry["Service"]["Address"] for entry in answer["Nodes"]]
