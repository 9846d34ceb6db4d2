"""Records everything that a service's registry entry was, index by index.

Safety is a statement about every moment, not about the end of a test: the recorder
follows the server's index with blocking reads and keeps each state it was shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.tools.httpjson import JsonClient

_WAIT = "10s"  # of one blocking read; `stop` ends it at once
_RETRY_PAUSE = 0.02  # seconds between reads of a server that is down


@dataclass(frozen=True)
class SeenInstance:
    """One instance at one index. `passing`: all of its checks are, the node's included."""

    node: str
    id: str
    address: str
    port: int
    tags: tuple[str, ...]
    passing: bool
    checks: tuple[tuple[str, str], ...]  # (check id, status), sorted

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the instance: node and id."""
        return self.node, self.id


@dataclass(frozen=True)
class Observation:
    """The service at one index; `at` is time.monotonic() when the answer arrived."""

    index: int
    at: float
    instances: tuple[SeenInstance, ...]

    def passing_with_tag(self, tag: str) -> tuple[SeenInstance, ...]:
        """The instances that a query for this tag would answer."""
        return tuple(i for i in self.instances if i.passing and tag in i.tags)


@dataclass(frozen=True)
class Change:
    """One difference between two observations, for reading: what happened when."""

    at: float
    index: int
    node: str
    id: str
    what: str  # "registered", "deregistered", "tag +x", "tag -x", "passing", "failing"…


class ServiceRecorder:
    """A thread that follows `/v1/health/service/<name>`; `with` starts and stops it.

    Two changes between two answers are shown as one: that is what any client of the
    server could see, not more.
    """

    def __init__(self, address: str, service: str, token: str | None = None) -> None:
        self.service = service
        self.errors: list[tuple[float, str]] = []  # reads that failed: (monotonic, why)
        self._client = JsonClient(address, token)
        self._observations: list[Observation] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"record-{service}", daemon=True)

    def start(self) -> None:
        """Starts, and returns after the first observation."""
        self._thread.start()
        self.wait_for(lambda _: True, 10, "the recorder's first answer")

    def stop(self) -> None:
        """Ends the thread at once; what was recorded stays."""
        self._stopping.set()
        while self._thread.is_alive():
            self._client.abort()  # again: a read may have begun in between
            self._thread.join(0.01)

    def __enter__(self) -> ServiceRecorder:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def observations(self) -> list[Observation]:
        """All so far, in the order they were seen."""
        with self._changed:
            return list(self._observations)

    @property
    def last(self) -> Observation:
        """The newest one."""
        with self._changed:
            return self._observations[-1]

    def wait_for(
        self, predicate: Callable[[Observation], object], timeout: float, what: str
    ) -> Observation:
        """The newest observation, as soon as the predicate holds for it.

        States that came and went before the call do not count. AssertionError with
        `what` and the newest state after `timeout` seconds.
        """
        with self._changed:
            deadline = time.monotonic() + timeout
            while not (self._observations and predicate(self._observations[-1])):
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = self._observations[-1:] or self.errors[-1:]
                    raise AssertionError(f"not within {timeout:g} s: {what}; last: {seen}")
                self._changed.wait(left)
            return self._observations[-1]

    def catch_up(self, index: int, timeout: float = 10.0) -> None:
        """Waits until everything up to this index of the service has been seen."""
        self.wait_for(lambda seen: seen.index >= index, timeout, f"index {index} recorded")

    def passing_with_tag(self, tag: str) -> list[tuple[int, tuple[SeenInstance, ...]]]:
        """(index, the passing instances that carry the tag) for every observation."""
        return [(seen.index, seen.passing_with_tag(tag)) for seen in self.observations]

    def assert_at_most_one(self, tag: str) -> None:
        """At every index at most one passing instance carries the tag; else the timeline."""
        bad = [(index, found) for index, found in self.passing_with_tag(tag) if len(found) > 1]
        assert not bad, f"several passing with {tag!r}: {bad}\n{self.describe()}"

    def timeline(self) -> list[Change]:
        """Every change, in order, beginning with what was there at first."""
        changes: list[Change] = []
        before: tuple[SeenInstance, ...] = ()
        for seen in self.observations:
            changes += _changes(before, seen)
            before = seen.instances
        return changes

    def describe(self) -> str:
        """The timeline as text, seconds since the first observation."""
        start = self.observations[0].at if self.observations else 0.0
        return "\n".join(
            f"{c.at - start:9.3f} s  index {c.index:6}  {c.node}/{c.id}: {c.what}"
            for c in self.timeline()
        )

    def _run(self) -> None:
        index = 0
        while not self._stopping.is_set():
            try:
                index = self._read(index)
            except OSError as error:
                if not self._stopping.is_set():
                    self.errors.append((time.monotonic(), str(error)))
                    self._stopping.wait(_RETRY_PAUSE)
                    index = 0

    def _read(self, index: int) -> int:
        """One blocking read; the index to go on from (0: from the start)."""
        path = f"/v1/health/service/{quote(self.service)}"
        params = {"index": index, "wait": _WAIT}
        answer, headers = self._client.request("GET", path, None, params, timeout=30)
        at, new = time.monotonic(), int(headers["x-consul-index"])
        instances = tuple(sorted(map(_instance, answer), key=lambda i: i.key))
        with self._changed:
            last = self._observations[-1] if self._observations else None
            if last is None or (last.index, last.instances) != (new, instances):
                self._observations.append(Observation(new, at, instances))
                self._changed.notify_all()
        return new if new >= index else 0  # backwards: the server was restored


def _instance(entry: dict[str, Any]) -> SeenInstance:
    service, checks = entry["Service"], entry["Checks"]
    return SeenInstance(
        node=entry["Node"]["Node"],
        id=service["ID"],
        address=service["Address"] or entry["Node"]["Address"],
        port=service["Port"],
        tags=tuple(service["Tags"] or ()),
        passing=all(check["Status"] == "passing" for check in checks),
        checks=tuple(sorted((check["CheckID"], check["Status"]) for check in checks)),
    )


def _changes(before: tuple[SeenInstance, ...], seen: Observation) -> list[Change]:
    old = {instance.key: instance for instance in before}
    new = {instance.key: instance for instance in seen.instances}
    changes = []
    for key in sorted(old.keys() | new.keys()):
        for what in _differences(old.get(key), new.get(key)):
            changes.append(Change(seen.at, seen.index, *key, what))
    return changes


def _differences(old: SeenInstance | None, new: SeenInstance | None) -> list[str]:
    if new is None:
        return ["deregistered"]
    found = ["registered"] if old is None else []
    tags = set(old.tags) if old else set()
    found += [f"tag -{tag}" for tag in sorted(tags - set(new.tags))]
    found += [f"tag +{tag}" for tag in sorted(set(new.tags) - tags)]
    checks = dict(old.checks) if old else {}
    found += [f"{name} {status}" for name, status in new.checks if checks.get(name) != status]
    found += [f"{name} removed" for name in sorted(checks.keys() - dict(new.checks).keys())]
    if old is None or old.passing != new.passing:
        found.append("passing" if new.passing else "failing")
    return found
