"""What happens between the look at a lock and the transaction: nothing may be written then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from harness import ZooKeeperHarness
from leadertag.errors import LeaseLost
from leadertag.model import Gate, Instance, Lease, Phase, Record, TagChange
from leadertag.providers import FencedRegistry
from leadertag.testing.contracts import Member

from leadertag_zookeeper import lock as lock_module
from leadertag_zookeeper import registry as registry_module
from leadertag_zookeeper.lock import fenced

KEY, SERVICE = "redis/master", "redis"
LEAD = TagChange(add=("master",), remove=("slave",))


def taken(member: Member) -> Lease:
    record = Record(member.name, SERVICE, member.name, "127.0.0.1", 6379, Phase.ELECTED)
    lease = member.lock.acquire(member.lock.read(KEY), record)
    assert isinstance(lease, Lease)
    return lease


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen right after the lock has been looked at, once."""

    def install(happens: Callable[[], object]) -> None:
        waiting = [happens]

        def slow(*words: Any, **options: Any) -> Any:
            found = fenced(*words, **options)
            if waiting:
                waiting.pop()()
            return found

        for module in (lock_module, registry_module):
            monkeypatch.setattr(module, "fenced", slow)

    return install


# Shutting another one out needs the lock, not its record as it was.
CASES = [
    (verb, how)
    for verb in ("update", "release", "publish", "shut_out")
    for how in ("expired", "retaken", "released", "rewritten")
    if (verb, how) != ("shut_out", "rewritten")
]


@pytest.mark.parametrize(("verb", "how"), CASES)
def test_a_late_transaction_does_nothing(
    zookeeper: ZooKeeperHarness, late: Callable[[Callable[[], object]], None], verb: str, how: str
) -> None:
    a, b = zookeeper.join("a"), zookeeper.join("b")
    for member in (a, b):
        member.lock.open(member.name, ttl=zookeeper.ttl)
        zookeeper.register(member, Instance(SERVICE, "", SERVICE, "127.0.0.1", 6379))
    b.registry.tag(SERVICE, LEAD, gate=Gate("e", 1), timeout=5.0)
    lease = taken(a)
    other = b.registry.local(SERVICE)
    leading = replace(lease.record, phase=Phase.LEADING)
    registry = a.registry
    assert isinstance(registry, FencedRegistry)

    verbs: dict[str, Callable[[], object]] = {
        "update": lambda: a.lock.update(lease, leading),
        "release": lambda: a.lock.release(lease, replace(leading, phase=Phase.RELEASED)),
        "publish": lambda: registry.publish(lease, leading, SERVICE, LEAD, Gate("e", lease.term)),
        "shut_out": lambda: registry.shut_out(other, lease),
    }

    def happens() -> None:
        if how == "released":
            a.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
        elif how == "rewritten":
            a.lock.update(lease, replace(lease.record, reason="newer"))
        else:
            zookeeper.expire(a, lease.session)
            if how == "retaken":
                taken(b)
        seen.append((b.lock.read(KEY), b.registry.members(SERVICE)))

    seen: list[object] = []
    late(happens)
    with pytest.raises(LeaseLost):
        verbs[verb]()
    assert seen == [(b.lock.read(KEY), b.registry.members(SERVICE))]


def test_nobody_is_published_over_a_change(
    zookeeper: ZooKeeperHarness, late: Callable[[Callable[[], object]], None]
) -> None:
    """An instance that comes with the leader tag in that moment loses it as well."""
    a, b = zookeeper.join("a"), zookeeper.join("b")
    a.lock.open("a", ttl=zookeeper.ttl)
    zookeeper.register(a, Instance(SERVICE, "", SERVICE, "127.0.0.1", 6379))
    lease, registry = taken(a), a.registry
    assert isinstance(registry, FencedRegistry)

    def happens() -> None:
        late_comer = Instance(SERVICE, "", SERVICE, "127.0.0.1", 6379, tags=("master", "blue"))
        zookeeper.register(b, late_comer)

    members = registry._shelf.members  # type: ignore[attr-defined]
    waiting = [happens]

    def slow(service: str, **options: Any) -> Any:
        found = members(service, **options)
        if waiting:
            waiting.pop()()
        return found

    registry._shelf.members = slow  # type: ignore[attr-defined]
    registry.publish(lease, replace(lease.record, phase=Phase.LEADING), SERVICE, LEAD, None)
    tags = {one.node: one.tags for one in b.registry.members(SERVICE)}
    assert tags == {"node-a": ("master",), "node-b": ("blue",)}
