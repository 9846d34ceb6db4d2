"""A lock of one host over a registry of many: refused while the service is on several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from leadertag.backends import open_providers
from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable, ConfigError, Conflict
from leadertag.hostbound import HostBoundLock, is_host_bound
from leadertag.model import Characteristic, Instance, Lease, LockView, Phase, Record
from leadertag.plan import Note
from leadertag.providers import BackendContext, LockProvider, RegistryProvider
from leadertag_local import LocalLock
from tests.unit.config.conftest import Load

KEY = "redis/redis-leader"
MINE = Instance("redis", "n1", "redis", "10.0.0.1", 6379)
SECOND = Instance("redis-2", "n1", "redis", "10.0.0.1", 6380)
ELSEWHERE = Instance("redis", "n2", "redis", "10.0.0.2", 6379)
RECORD = Record("n1/redis", "redis", "n1", "10.0.0.1", 6379, Phase.ELECTED, lease=3.0)


@dataclass
class Members:
    """A registry of many hosts, as far as it is asked here."""

    found: tuple[Instance, ...] = (MINE,)
    asked: list[str] = field(default_factory=list)
    characteristics = frozenset({Characteristic.CROSS_HOST})

    def members(self, service: str) -> tuple[Instance, ...]:
        self.asked.append(service)
        return self.found


@pytest.fixture
def registry() -> Members:
    return Members()


@pytest.fixture
def lock(tmp_path: Path, registry: Members) -> Iterator[HostBoundLock]:
    """The embedded backend's real lock over that registry."""
    table = Table({"path": str(tmp_path / "x.db"), "node": "n1"}, "test")
    inner = LocalLock.create(BackendContext(table, {}))
    made = HostBoundLock(inner, cast(RegistryProvider, registry), "local", "wide")
    made.open("owner", ttl=10.0)
    yield made
    made.close()


def take(lock: LockProvider) -> Lease | LockView:
    return lock.acquire(lock.read(KEY), RECORD)


def test_alone_on_its_host_it_is_the_lock(lock: HostBoundLock, registry: Members) -> None:
    registry.found = (MINE, SECOND)
    lease = take(lock)
    assert isinstance(lease, Lease)
    assert registry.asked == ["redis"]
    assert lock.confirm([lease]) == {KEY}
    lease = lock.update(lease, RECORD)
    lock.keep_alive()
    assert lock.session_expiry(7.0) == 7.0
    view = lock.read(KEY)
    lease = lock.adopt(view, RECORD)
    with closing(lock.watch([KEY])) as watch:
        seen = watch.poll(0)
        assert seen is not None
        assert seen[KEY].holder == lease.session
    note = lock.write_note(KEY, "plan", Note(b"{}"))
    assert lock.read_note(KEY, "plan") == note
    lock.release(lease, RECORD)
    assert lock.read(KEY).free
    lock.end()
    assert registry.asked == ["redis"], "only taking the lock costs a look"


def test_not_while_another_host_has_an_instance(lock: HostBoundLock, registry: Members) -> None:
    registry.found = (MINE, ELSEWHERE)
    with pytest.raises(Conflict) as caught:
        take(lock)
    told = str(caught.value)
    assert "the lock in 'local' is this host's alone" in told
    assert "'wide' shows n2/redis of service 'redis'" in told
    assert lock.read(KEY).free
    registry.found = (MINE,)
    assert isinstance(take(lock), Lease)


@pytest.mark.parametrize("found", [(), (SECOND,)])
def test_a_list_without_the_own_instance_is_doubt(
    lock: HostBoundLock, registry: Members, found: tuple[Instance, ...]
) -> None:
    registry.found = found
    with pytest.raises(BackendUnavailable, match="is in doubt"):
        take(lock)
    assert lock.read(KEY).free


def test_a_lost_lock_is_discarded_and_a_guard_is_refused(lock: HostBoundLock) -> None:
    lease = take(lock)
    assert isinstance(lease, Lease)
    lock.discard(lock.read(KEY))
    assert lock.read(KEY).free
    with pytest.raises(ConfigError):
        lock.guard("consul-master-election-tagger", "q", "redis")
    with pytest.raises(ConfigError):
        HostBoundLock.create(BackendContext(Table({}, "x"), {}))


@pytest.mark.parametrize(
    ("lock", "registry", "bound"),
    [
        ("local", "consul", True),
        ("local", "etcd", True),
        ("local", "local", False),
        ("etcd", "consul", False),
        ("consul", "local", False),
    ],
)
def test_it_follows_from_what_the_providers_declare(
    load_text: Load, tmp_path: Path, lock: str, registry: str, bound: bool
) -> None:
    text = f'lock = "{lock}"\nregistry = "{registry}"\n[backends.local]\npath = "{tmp_path}/x.db"'
    providers = open_providers(load_text(text), environ={})
    assert isinstance(providers.lock, HostBoundLock) is bound
    assert is_host_bound(providers.lock, providers.registry) is bound
    providers.close()
