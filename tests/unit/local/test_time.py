"""What passes by time alone: sessions, gates, reports, and the boot they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadertag.errors import LeaseLost
from leadertag.model import Gate, Health, Instance, TagChange
from leadertag.testing.contracts.harness import snapshot_where
from leadertag_local.beats import Beats
from tests.unit.local.tools import KEY, PATIENCE, Node, SetClock, drained

GATE = Gate("redis", 1)
LEAD = TagChange(add=("master",))


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def node(path: Path, clock: SetClock) -> Node:
    node = Node(path, "n1", clock, report_life="15s", gate_life="2s")
    node.lock.open("n1", ttl=10)
    node.registry.register(node.instance(tags=("sensu",)))
    node.registry.report("redis", Health.PASSING)
    return node


def seen(node: Node) -> Instance:
    (instance,) = node.registry.members("redis")
    return instance


@pytest.mark.parametrize(("passed", "held"), [(10.0, True), (10.001, False)])
def test_a_session_ends_with_its_ttl(
    node: Node, clock: SetClock, passed: float, held: bool
) -> None:
    lease = node.take()
    clock.at += passed
    assert node.lock.confirm([lease]) == ({KEY} if held else frozenset())
    view = node.lock.read(KEY)
    assert view.free is not held
    assert view.index == lease.index


def test_a_session_that_is_kept_alive_goes_on(node: Node, clock: SetClock) -> None:
    lease = node.take()
    for _ in range(5):
        clock.at += 9
        node.lock.keep_alive()
    assert node.lock.confirm([lease]) == {KEY}


def test_what_has_expired_cannot_be_revived(node: Node, clock: SetClock, path: Path) -> None:
    lease = node.take()
    clock.at += 11
    for _ in range(2):
        with pytest.raises(LeaseLost):
            node.lock.keep_alive()
    assert node.lock.open("n1", ttl=10, session=lease.session) != lease.session
    assert node.lock.read(KEY).free


def test_whoever_succeeds_ends_the_session_for_all_its_locks(
    node: Node, clock: SetClock, path: Path
) -> None:
    node.take()
    lease = node.take("another")
    clock.at += 11
    other = Node(path, "n2", clock)
    other.lock.open("n2", ttl=10)
    other.take()
    clock.at -= 5  # even if the time were to go back
    assert node.lock.confirm([lease]) == frozenset()
    assert other.lock.read("another").free


def test_a_late_sign_of_life_carries_its_own_time(node: Node, clock: SetClock) -> None:
    """A process that was stopped between looking at the clock and writing revives nothing."""
    node.take()
    stopped_at = clock.at
    clock.at += 11
    node.client.beats.write(f"session-{node.client.session}", stopped_at)
    assert node.lock.read(KEY).free


def test_a_reboot_ends_everything(node: Node, clock: SetClock, path: Path) -> None:
    lease = node.take()
    node.registry.tag("redis", LEAD, gate=GATE, timeout=1)
    node.registry.heartbeat()
    node.registry.open_gate("redis", GATE)
    assert seen(node).passing
    rebooted = SetClock(at=clock.at - 500, boot=b"otherone")
    later = Node(path, "n1", rebooted)
    view = later.lock.read(KEY)
    assert view.free
    assert not view.marked
    instance = seen(later)
    assert instance.service_health is Health.CRITICAL
    assert instance.tags == ("sensu", "master")
    assert later.lock.open("n1", ttl=10, session=lease.session) != lease.session
    later.registry.report("redis", Health.PASSING)
    assert seen(later).service_health is Health.PASSING
    assert not seen(later).passing  # its gate is still of the boot before
    assert later.take().term > lease.term


@pytest.mark.parametrize(("health", "stale"), [
    (Health.PASSING, Health.CRITICAL), (Health.WARNING, Health.CRITICAL),
    (Health.CRITICAL, Health.CRITICAL),
])  # fmt: skip
def test_a_report_goes_stale(node: Node, clock: SetClock, health: Health, stale: Health) -> None:
    node.registry.report("redis", health)
    clock.at += 15
    assert seen(node).service_health is health
    clock.at += 0.001
    assert seen(node).service_health is stale
    node.registry.report("redis", health)
    assert seen(node).service_health is health


def test_a_gate_follows_its_process(node: Node, clock: SetClock, path: Path) -> None:
    node.registry.tag("redis", LEAD, gate=GATE, timeout=1)
    node.registry.heartbeat()
    node.registry.open_gate("redis", GATE)
    clock.at += 2
    assert seen(node).passing
    clock.at += 0.001
    assert not seen(node).passing
    Node(path, "n1", clock).registry.heartbeat()  # another process of the same node
    assert not seen(node).passing
    node.registry.heartbeat()
    assert seen(node).passing


def test_repeating_oneself_writes_nothing(node: Node, clock: SetClock) -> None:
    lease = node.take()
    node.registry.heartbeat()
    with node.client.store.read() as database:
        before = database.execute("PRAGMA data_version").fetchone()
        changes = database.total_changes
    for _ in range(10):
        clock.at += 1
        node.lock.keep_alive()
        node.lock.confirm([lease])
        node.registry.heartbeat()
        node.registry.report("redis", Health.PASSING, "another output")
        node.registry.remove_gates("redis")
    with node.client.store.read() as database:
        assert database.execute("PRAGMA data_version").fetchone() == before
        assert database.total_changes == changes


def test_watches_tell_what_time_brings(path: Path) -> None:
    """Nobody writes and nobody pokes: real time passes."""
    node = Node(path, "n1", gate_life="300ms", report_life="600ms")
    session = node.lock.open("n1", ttl=1)
    node.registry.register(node.instance())
    node.registry.report("redis", Health.PASSING)
    node.registry.tag("redis", LEAD, gate=GATE, timeout=1)
    node.registry.heartbeat()
    node.registry.open_gate("redis", GATE)
    lease = node.take()
    members, locks = node.registry.watch_members("redis"), node.lock.watch([KEY])
    assert lease.session == session
    name = "n1/redis"
    snapshot_where(members, lambda m: m[name].service_health is Health.PASSING, PATIENCE, "well")
    snapshot_where(members, lambda m: not m[name].passing, PATIENCE, "the gate closed")
    snapshot_where(
        members, lambda m: m[name].service_health is Health.CRITICAL, PATIENCE, "went stale"
    )
    snapshot_where(locks, lambda views: views[KEY].free, PATIENCE, "the session expired")
    members.close()
    locks.close()


def test_coming_back_to_life_wakes_watches(node: Node, clock: SetClock) -> None:
    node.registry.tag("redis", LEAD, gate=GATE, timeout=1)
    node.registry.heartbeat()
    node.registry.open_gate("redis", GATE)
    clock.at += 20
    watch = node.registry.watch_members("redis")
    drained(watch)
    node.registry.report("redis", Health.PASSING)
    snapshot_where(
        watch, lambda m: m["n1/redis"].service_health is Health.PASSING, PATIENCE, "told again"
    )
    node.registry.heartbeat()
    snapshot_where(watch, lambda m: m["n1/redis"].passing, PATIENCE, "fed again")
    watch.close()


def test_a_watch_sleeps_until_something_is_due(node: Node, clock: SetClock) -> None:
    """While signs of life come in time it reports nothing, however often it looks."""
    node.take()
    watch = node.lock.watch([KEY])
    drained(watch)
    for _ in range(3):
        clock.at += 9
        node.lock.keep_alive()
        assert watch.poll(0.02) is None
    watch.close()


def test_leftovers_are_swept_away(node: Node, clock: SetClock, path: Path) -> None:
    node.client.beats.write("process-of-somebody-killed", clock.at)
    session = node.client.session
    clock.at += 4000
    other = Node(path, "n2", clock)
    own = other.lock.open("n2", ttl=10)
    names = set(other.client.beats.names())
    assert "process-of-somebody-killed" not in names
    assert f"session-{session}" not in names
    assert f"session-{own}" in names


def test_a_half_written_sign_of_life_is_none(tmp_path: Path, clock: SetClock) -> None:
    beats = Beats(str(tmp_path), clock)
    beats.write("x", 5.0)
    assert beats.read("x") == 5.0
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-1])
    assert beats.read("x") is None
    (tmp_path / "x").write_bytes(b"\x01" * 24)
    assert beats.read("x") is None
