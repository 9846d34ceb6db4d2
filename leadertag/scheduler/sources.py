"""Threads that wait for news - watches, probes, health checks - and hand them on as events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from leadertag.errors import BackendError
from leadertag.hookspecs import Probe
from leadertag.model import Health
from leadertag.providers import Watch

log = logging.getLogger(__name__)
POLL = 30.0
"""Seconds for which one poll blocks at most."""
PAUSES = (0.1, 0.2, 0.5)
"""Seconds before a failed source is tried again, by the number of failures in a row."""


class Source:
    """One thread that waits on one thing until it is stopped."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_on, name=name, daemon=True)
        self.name = name

    def start(self) -> None:
        """Start waiting."""
        self._thread.start()

    def stop(self) -> None:
        """Stop waiting; returns at once."""
        self._stop.set()

    def _run_on(self) -> None:
        """Never die of one surprise: an election that hears nothing is worse than a log line."""
        while not self._stop.is_set():
            try:
                self._run()
            except Exception:
                log.exception("%s failed in an unforeseen way", self.name)
                self._stop.wait(PAUSES[-1])

    def _run(self) -> None:
        raise NotImplementedError


class Watcher(Source):
    """Polls a watch and hands each snapshot to ``tell``."""

    def __init__(
        self, name: str, make: Callable[[], Watch], tell: Callable[[Mapping[str, Any]], None],
        works: Callable[[bool], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """``works`` is told when the watch begins to fail, and when it works again."""
        super().__init__(name)
        self._works = works
        self._make = make
        self._tell = tell
        self._watch: Watch | None = None

    def stop(self) -> None:
        """Stop, also out of the middle of a poll."""
        super().stop()
        if self._watch is not None:
            self._watch.close()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                if self._watch is None:
                    self._watch = self._make()
                snapshot = self._watch.poll(POLL)
            except BackendError as error:
                if self._stop.is_set():
                    return
                if not failures:
                    log.warning("%s: %s", self.name, error)
                    self._works(False)
                self._stop.wait(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1
                continue
            if failures:
                log.info("%s: works again", self.name)
                self._works(True)
            failures = 0
            if snapshot is not None and not self._stop.is_set():
                self._tell(snapshot)


class ProbeWatcher(Source):
    """Polls a hook's probe."""

    def __init__(self, name: str, probe: Probe, tell: Callable[[Health], None]) -> None:
        super().__init__(name)
        self._probe = probe
        self._tell = tell

    def stop(self) -> None:
        """Stop, also out of the middle of a poll."""
        super().stop()
        self._probe.close()

    def _run(self) -> None:
        last: Health | None = None
        while not self._stop.is_set():
            health = self._probe.poll(POLL)
            if health is not None and health is not last and not self._stop.is_set():
                last = health
                self._tell(health)


class Checker(Source):
    """Runs leadertag's own health check, where the registry has none, at its interval."""

    def __init__(
        self, name: str, check: Callable[[], tuple[Health, str]], interval: float,
        tell: Callable[[Health, str], None],
    ) -> None:  # fmt: skip
        super().__init__(name)
        self._check = check
        self._interval = interval
        self._tell = tell

    def _run(self) -> None:
        while not self._stop.is_set():
            health, output = self._check()
            try:
                self._tell(health, output)
            except BackendError as error:
                log.warning("%s: cannot report: %s", self.name, error)
            self._stop.wait(self._interval)
