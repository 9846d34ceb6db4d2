"""Watches that fail are tried again; a stop ends a poll under way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from leadertag.errors import BackendUnavailable
from leadertag.model import Health
from leadertag.providers import Watch
from leadertag.scheduler.sources import ProbeWatcher, Watcher


class Scripted(Watch):
    """A watch that answers from a queue: snapshots, None, or errors to raise."""

    def __init__(self) -> None:
        self.answers: queue.Queue[Any] = queue.Queue()
        self.closed = threading.Event()

    def poll(self, timeout: float) -> Mapping[str, Any] | None:
        answer = self.answers.get(timeout=timeout)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed.set()
        self.answers.put(None)


def test_snapshots_arrive_and_errors_are_survived(caplog: pytest.LogCaptureFixture) -> None:
    watch, told = Scripted(), queue.Queue[Any]()
    watcher = Watcher("locks", lambda: watch, told.put)
    watcher.start()
    watch.answers.put({"a": 1})
    assert told.get(timeout=10) == {"a": 1}
    watch.answers.put(BackendUnavailable("no server"))
    watch.answers.put(None)
    watch.answers.put({"a": 2})
    assert told.get(timeout=10) == {"a": 2}
    assert "locks: no server" in caplog.text
    watcher.stop()
    assert watch.closed.is_set()


def test_a_surprise_does_not_end_the_watching(caplog: pytest.LogCaptureFixture) -> None:
    watch, told = Scripted(), queue.Queue[Any]()
    watcher = Watcher("locks", lambda: watch, told.put)
    watcher.start()
    watch.answers.put(OverflowError("a bug"))
    watch.answers.put({"a": 1})
    assert told.get(timeout=10) == {"a": 1}
    assert "locks failed in an unforeseen way" in caplog.text
    watcher.stop()


def test_making_the_watch_is_tried_again() -> None:
    watch, told, tries = Scripted(), queue.Queue[Any](), []

    def make() -> Watch:
        tries.append(1)
        if len(tries) < 3:
            raise BackendUnavailable("not yet")
        return watch

    watcher = Watcher("locks", make, told.put)
    watcher.start()
    watch.answers.put({})
    assert told.get(timeout=10) == {}
    watcher.stop()


def test_a_probe_tells_changes_only() -> None:
    answers: queue.Queue[Health | None] = queue.Queue()

    class Probe:
        def poll(self, timeout: float) -> Health | None:
            return answers.get(timeout=timeout)

        def close(self) -> None:
            answers.put(None)

    told: queue.Queue[Health] = queue.Queue()
    watcher = ProbeWatcher("probe", Probe(), told.put)
    watcher.start()
    for health in (Health.PASSING, Health.PASSING, None, Health.CRITICAL):
        answers.put(health)
    assert told.get(timeout=10) is Health.PASSING
    assert told.get(timeout=10) is Health.CRITICAL
    watcher.stop()
