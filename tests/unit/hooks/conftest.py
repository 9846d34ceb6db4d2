"""Fixtures for hooks: plugins of the test's own, and a pool that leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leadertag.config.settings import HookSettings
from leadertag.hooks.runner import HookRunner, WorkerPool
from tests.unit.hooks.helpers import SPY, Spies, install


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for installed distributions; workers find them too."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def spies(plugins: Path, tmp_path: Path) -> Spies:
    """Hooks that tell what happens to them."""
    install(plugins, {"leadertag.hooks": {"spy": "Spy"}}, SPY)
    log = tmp_path / "spies"
    log.touch()
    return Spies("spy", log)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    """A pool, closed at the end."""
    made = WorkerPool(2)
    yield made
    made.close()


@pytest.fixture
def make_runner(pool: WorkerPool) -> Callable[..., HookRunner]:
    """Makes the runner of the election ``redis`` from some hooks."""

    def make(*hooks: HookSettings) -> HookRunner:
        return HookRunner("redis", hooks, pool)

    return make
