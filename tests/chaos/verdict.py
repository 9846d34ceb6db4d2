"""The verdict: evidence, in the order of time, held against the promises.

The rules are :class:`leadertag.testing.history.History`'s; here is what feeds it. It raises
at the first promise that is broken, and this goes on: a run has more to show than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leadertag.hookspecs import HookEvent
from leadertag.testing.history import Acting, Broken, History
from tests.chaos.evidence import Line
from tests.chaos.seen import leaders_in, term_of
from tests.chaos.settings import FOLLOWER_TAG, LEADER_TAG, LEASE, LIMITS

OVERTIME = 0.5
"""Seconds past its limit in which a hook may be found to have ended: the machine is busy."""
LAG = 0.5
"""Seconds by which the recorder may see a lock later than a contender did."""
NODE_CHECK = "serfHealth"
"""Consul's own check of the node: it comes with the node, not with the registration."""


@dataclass(frozen=True)
class Finding:
    """One promise, broken once."""

    t: float
    promise: str
    what: str


@dataclass
class Span:
    """One member acting as leader; ``until`` is None while it does."""

    node: str
    term: int
    since: float
    until: float | None = None
    end: str = ""
    excused: float | None = None
    """Since when I1 is not promised for it: daemon and guardian are gone both."""

    def covers(self, sent: float, acknowledged: float) -> bool:
        """Whether something that happened between these moments can have happened in it."""
        return self.since <= acknowledged and (self.until is None or sent <= self.until)


@dataclass
class Verdict:
    """What came out."""

    broken: list[Finding] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    published: int = 0
    hooks: int = 0
    indexes: int = 0
    """Different states of the registry that were looked at."""
    terms: int = 0

    def of(self, promise: str) -> list[Finding]:
        """The findings of one promise."""
        return [finding for finding in self.broken if finding.promise == promise]


class Judge:
    """Takes lines in the order of time."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.verdict = Verdict()
        self._history = History(LEADER_TAG, FOLLOWER_TAG)
        self._lines = list(lines)
        self._holders = _holders(self._lines)
        self._first: dict[str, Mapping[str, Any]] = {}
        self._registry_index = self._lock_index = -1
        self._given = 0
        self._free: tuple[float, str] | None = None
        """Since when the lock is seen free, and the phase of the record in it."""
        self._owed_since: float | None = None
        self._owed: dict[int, float] = {}
        """Terms whose holder has to wait, and since when the lock was seen free."""

    def judge(self) -> Verdict:
        """Go through everything."""
        takes: dict[str, Callable[[Line], None]] = {
            "hook": self._hook, "registry": self._registry, "lock": self._see_lock,
            "unit": self._unit, "excuse": self._excuse, "resolved": self._resolved,
            "unsettled": self._unsettled,
        }  # fmt: skip
        for line in self._lines:
            take = takes.get(line["kind"])
            if take is not None:
                take(line)
        self.verdict.published = self._history.published
        self.verdict.terms = len(self._holders)
        return self.verdict

    def _ask(self, t: float, happened: Callable[[], None]) -> bool:
        """Tell the history; whether it had nothing against it."""
        try:
            happened()
        except Broken as broken:
            self._find(t, broken.promise, broken.what)
            return False
        return True

    def _find(self, t: float, promise: str, what: str) -> None:
        self.verdict.broken.append(Finding(t, promise, what))

    # -- hooks -----------------------------------------------------------------------------

    def _hook(self, line: Line) -> None:
        if line["place"] == "inform":
            return
        if line["what"] == "start":
            self.verdict.hooks += 1
            self._hook_began(line)
        else:
            self._hook_ended(line)

    def _hook_began(self, line: Line) -> None:
        t, node, event = line["t"], line["node"], HookEvent(line["event"])
        if line["alone"] and node in self._history.running:
            # The file that one hook locks was free: the one before was killed meanwhile.
            self._history.hook_ended(node, self._history.running[node][0])
        self._ask(t, lambda: self._history.hook_began(node, line["pid"], event))
        self._ask(t, lambda: self._history.told(node, event, line["term"], self._right(line)))
        if event is HookEvent.PROMOTE:
            self._waited(line)
            self._begin(t, node, line["term"])

    def _right(self, line: Line) -> int | None:
        """The term that the hook should have been told, as far as evidence goes."""
        term, node = line["term"], line["node"]
        if line["event"] == HookEvent.PROMOTE:
            return term if self._holders.get(term, node) == node else 0
        if line["event"] in (HookEvent.DEMOTE, HookEvent.FENCE):
            acting = self._history.acting.get(node)
            return acting.term if acting else None
        return None

    def _begin(self, t: float, node: str, term: int) -> None:
        history = self._history
        before = history.acting.get(node)
        self._ask(t, lambda: history.began(t, node, term))
        if before is not None and before.term == term:
            return
        if before is not None:
            self._end(t, node, "its next term began")
        # Also where it should not have begun: it did, and what follows is judged by that.
        history.acting[node] = Acting(node, term, t)
        history.acted = max(history.acted, term)
        self.verdict.spans.append(Span(node, term, t))

    def _hook_ended(self, line: Line) -> None:
        t, node, event = line["t"], line["node"], line["event"]
        self._history.hook_ended(node, line["pid"])
        limit = LIMITS[line["place"]].get(event)
        if limit is not None and line["took"] > limit + OVERTIME:
            took = f"{line['took']:.2f} s, its limit is {limit:g} s"
            self._find(t, "I8", f"{event} at {node} went on for {took}")
        if event in (HookEvent.DEMOTE, HookEvent.FENCE) and line["ok"]:
            self._end(t, node, event)

    def _end(self, t: float, node: str, why: str) -> None:
        self._history.ended(node)
        for span in reversed(self.verdict.spans):
            if span.node == node:
                if span.until is None:
                    span.until, span.end = t, why
                return

    def _waited(self, line: Line) -> None:
        """I7 shows here: a lock that vanished without a word is not one that nobody ever had."""
        free = self._owed.get(line["term"])
        if free is None or line["t"] - free >= LEASE - LAG:
            return
        node, short = line["node"], line["t"] - free
        what = f"promote {short:.2f} s after the lock was lost without the mark of a release"
        self._ask(line["t"], lambda: self._history.believed(node, what, complete=False))

    # -- what else happened ----------------------------------------------------------------

    def _unit(self, line: Line) -> None:
        if line["unit"] == "redis" and line["what"] == "down":
            self._end(line["t"], line["node"], "the service is gone")

    def _excuse(self, line: Line) -> None:
        self._history.excuse(line["node"], line["why"])
        for span in self.verdict.spans:
            if span.node == line["node"] and span.until is None:
                span.excused = line["t"]

    def _resolved(self, line: Line) -> None:
        if len(line["hosts"]) > 1:
            self._find(line["t"], "I2", f"the query answers {' and '.join(line['hosts'])}")

    def _unsettled(self, line: Line) -> None:
        self._find(line["t"], "I5", f"after fault {line['id']}: {line['why']}")

    # -- the registry ----------------------------------------------------------------------

    def _registry(self, line: Line) -> None:
        t, index, instances = line["t"], line["index"], line["instances"]
        self.verdict.indexes += 1
        leaders = leaders_in(instances)
        if index > self._registry_index:
            self._registry_index = index
            self._ask(t, lambda: self._history.resolvable(t, index, leaders))
        elif len(leaders) > 1:
            # Seen late, at a server that reads its log again: true all the same.
            self._find(t, "I2", f"at index {index} {' and '.join(leaders)} resolve as leader")
        for node in leaders:
            self._promoted(t, index, node, term_of(instances[node]))
        for node, instance in instances.items():
            self._compare(t, index, node, instance)

    def _promoted(self, t: float, index: int, node: str, term: int) -> None:
        """Who is resolved has been promoted in that term; it may be gone since a moment ago."""
        if term and not any((s.node, s.term) == (node, term) for s in self.verdict.spans):
            what = f"{node} resolves as leader in term {term}, for which it was never promoted"
            self._find(t, "I1", f"at index {index} {what}")

    def _compare(self, t: float, index: int, node: str, instance: Mapping[str, Any]) -> None:
        first = self._first.setdefault(node, instance)
        self._ask(t, lambda: self._history.registered(node, first["tags"], instance["tags"]))
        for key, value in first["registration"].items():
            present = instance["registration"].get(key)
            if present != value:
                what = f"{key} of {node} went from {value!r} to {present!r}"
                self._find(t, "I4", f"at index {index} {what}")
        if _own_checks(instance) != _own_checks(first):
            lost = sorted(_own_checks(first) ^ _own_checks(instance))
            self._find(t, "I4", f"at index {index} checks of {node} changed: {', '.join(lost)}")

    # -- the lock --------------------------------------------------------------------------

    def _see_lock(self, line: Line) -> None:
        if line["index"] <= self._lock_index or not line["record"]:
            return
        self._lock_index = line["index"]
        t, record = line["t"], line["record"]
        node, term = record["node"], record["term"]
        if not line["held"]:
            since = t if self._free is None else self._free[0]
            self._free = (since, record["phase"])
            if record["phase"] == "released":
                self._released(t, node, term)
            return
        free, self._free = self._free, None
        if free is not None and free[1] != "released":
            self._owed_since = free[0]
        elif free is not None:
            self._owed_since = None
        if term and term != self._given:  # Consul: 0 until the holder has written its term
            self._given = term
            self._ask(t, lambda: self._history.given(node, term))
            if self._owed_since is not None:
                self._owed[term], self._owed_since = self._owed_since, None

    def _released(self, t: float, node: str, term: int) -> None:
        acting = self._history.acting.get(node)
        if acting is not None and acting.term == term:
            self._ask(t, lambda: self._history.released(node))


def _holders(lines: Iterable[Line]) -> dict[int, str]:
    """Who was given each term, as the lock's records say."""
    found: dict[int, str] = {}
    for line in lines:
        if line["kind"] == "lock" and line["record"] and line["record"].get("term"):
            found.setdefault(line["record"]["term"], line["record"]["node"])
    return found


def _own_checks(instance: Mapping[str, Any]) -> set[str]:
    names = set(instance["checks"]) - {NODE_CHECK}
    return {name for name in names if not name.startswith("leadertag:")}
