"""What the recorder has written so far, for the run itself: it decides by evidence too."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leadertag.model import Gate
from tests.chaos.clock import now
from tests.chaos.settings import LEADER_TAG

_POLL = 0.01
_OF_TAKING_OVER = ("before_promote", "rank", "promote")


def leaders_in(instances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The nodes that a query for the leader would answer."""
    return sorted(
        node for node, one in instances.items() if LEADER_TAG in one["tags"] and passing(one)
    )


def passing(instance: Mapping[str, Any]) -> bool:
    """Whether all checks of an instance pass."""
    return all(status == "passing" for status in instance["checks"].values())


def term_of(instance: Mapping[str, Any]) -> int:
    """The term in the id of the instance's gate; 0 without one."""
    return max((Gate.term_of(check) or 0 for check in instance["checks"]), default=0)


def failed(line: Mapping[str, Any]) -> bool:
    """Whether a state of the lock tells that its holder's hooks failed, so that it stands back."""
    reason = (line["record"] or {}).get("reason", "")
    return not line["held"] and any(f"{event} failed:" in reason for event in _OF_TAKING_OVER)


class Seen:
    """Follows the recorder's file; the newest state, and waiting for another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="seen", daemon=True)
        self.index = 0
        self.instances: Mapping[str, Mapping[str, Any]] = {}
        self.holder = self.phase = ""
        """Who holds the lock, and how far that one has come."""
        self.stood_back_at = float("-inf")
        """When somebody last gave the lock back because a hook of its failed."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def leader(self) -> str:
        """The node that is resolved as leader; "" for none (or for several)."""
        found = leaders_in(self.instances)
        return found[0] if len(found) == 1 else ""

    @property
    def term(self) -> int:
        """The term of the leader's gate; 0 without a leader."""
        return term_of(self.instances[self.leader]) if self.leader else 0

    def wait(self, condition: Callable[[], object], timeout: float) -> bool:
        """Wait until the newest state fulfils something; whether it did in time."""
        until = now() + timeout
        with self._changed:
            while not condition():
                if now() >= until:
                    return False
                self._changed.wait(min(0.25, max(0.0, until - now())))
        return True

    def _run(self) -> None:
        while not self._path.exists():
            if self._stop.wait(_POLL):
                return
        with open(self._path, "rb") as file:
            rest = b""
            while not self._stop.wait(_POLL):
                rest += file.read()
                *lines, rest = rest.split(b"\n")
                with self._changed:
                    for line in lines:
                        self._take(json.loads(line))
                    if lines:
                        self._changed.notify_all()

    def _take(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == "registry" and line["index"] >= self.index:
            self.index, self.instances = line["index"], line["instances"]
        elif line["kind"] == "lock" and line["record"]:
            self.holder = line["record"]["node"] if line["held"] else ""
            self.phase = line["record"]["phase"]
            if failed(line):
                self.stood_back_at = line["t"]
