"""The embedded backend, held to the contracts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.model import Health, Instance
from leadertag.providers import BackendContext
from leadertag.testing.contracts import (
    BackendContract,
    Harness,
    LockContract,
    Member,
    QueryContract,
    RegistryContract,
)
from leadertag_local import LocalLock, LocalQuery, LocalRegistry
from leadertag_local.beats import Beats, BootClock
from leadertag_local.client import LocalClient, session_beat


class ShiftedClock(BootClock):
    """The host's time, moved on by the tests. Every member has the same."""

    def __init__(self) -> None:
        self.shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift


class LocalHarness(Harness):
    """One file; every member has a client, a session and connections of its own."""

    ttl = 4.0
    session_expiry = 4.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "leadertag.db"
        self._clock = ShiftedClock()
        self._writes = 0
        self._version = 0
        self._observer: sqlite3.Connection | None = None

    def join(self, name: str) -> Member:
        context = self.context({"node": f"node-{name}"})
        client = LocalClient.of(context)
        client.clock = self._clock
        client.beats = Beats(client.store.beats_folder, self._clock)
        return Member(
            name,
            lock=LocalLock.create(context),
            registry=LocalRegistry.create(context),
            query=LocalQuery.create(context),
        )

    def context(self, settings: Mapping[str, Any]) -> BackendContext:
        # A test that holds its breath for a second on a busy machine must not find its
        # instances stale; gates are short, since the tests wait for them to close.
        usual = {"path": str(self._path), "gate_life": "1500ms", "report_life": "1h"}
        return BackendContext(Table({**usual, **settings}, "test: backends.local"), {})

    def unreachable(self) -> BackendContext:
        return self.context({"path": str(self._folder / "missing" / "leadertag.db")})

    def register(self, member: Member, instance: Instance) -> None:
        registry = member.registry
        assert isinstance(registry, LocalRegistry)
        registry.register(instance)
        registry.report(instance.id, Health.PASSING)

    def deregister(self, member: Member, instance_id: str) -> None:
        assert isinstance(member.registry, LocalRegistry)
        member.registry.deregister(instance_id)

    def set_health(self, member: Member, instance_id: str, health: Health) -> None:
        assert isinstance(member.registry, LocalRegistry)
        member.registry.report(instance_id, health)

    def expire(self, member: Member, session: str) -> None:
        """Move the time on by more than the session's life, and everybody but it along."""
        beats = Beats(str(self._path) + ".d/beats", self._clock)
        step = self.ttl + 1.0
        for name in beats.names():
            at = beats.read(name)
            if name != session_beat(session) and at is not None:
                beats.write(name, at + step)
        self._clock.shift += step

    def plant(self, key: str, value: bytes) -> None:
        with sqlite3.connect(self._path) as database:
            database.execute("INSERT INTO locks VALUES (?, 1, '', 0, 0, ?)", (key, value))
        database.close()

    @contextmanager
    def cut(self, member: Member) -> Iterator[None]:
        """Take the file away from everybody, and bring it back as it was."""
        self._path.rename(self._folder / "away")
        try:
            yield
        finally:
            (self._folder / "away").rename(self._path)

    def writes(self, member: Member) -> int:
        if self._observer is None:
            self._observer = sqlite3.connect(self._path)
        version = self._observer.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._writes += 1
        return self._writes


class _Local:
    @pytest.fixture
    def harness(self, tmp_path: Path) -> LocalHarness:
        return LocalHarness(tmp_path)


class TestLocalBackend(_Local, BackendContract):
    pass


class TestLocalLock(_Local, LockContract):
    pass


class TestLocalRegistry(_Local, RegistryContract):
    pass


class TestLocalQuery(_Local, QueryContract):
    pass
