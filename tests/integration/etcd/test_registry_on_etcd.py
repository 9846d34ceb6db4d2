"""Registrations on leases, and publications against others who write at the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from leadertag.errors import NotRegistered
from leadertag.model import Gate, Health, Instance, Phase, TagChange
from leadertag.testing.contracts.harness import snapshot_where
from tests.integration.etcd.process import PATIENCE, Process
from tests.tools.etcd import EtcdMember
from tests.tools.processes import wait_until

LEAD = TagChange(add=("master",), remove=("slave",))


@pytest.fixture
def service(unique_name: str) -> str:
    return unique_name


def test_an_instance_vanishes_with_its_process_and_comes_back_with_it(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    silent = start("n1", [etcd.address], report_life="2s")
    other = start("n2", [etcd.address], report_life="2s")
    silent.register(service, tags=("sensu",))
    other.register(service)
    watch = other.registry.watch_members(service)

    def report() -> bool:
        other.register(service)
        snapshot = watch.poll(0.2)
        return snapshot is not None and set(snapshot) == {f"n2/{service}"}

    wait_until(report, PATIENCE, "the instance of the silent process is gone, the other is not")
    # The next report finds out, the one after it registers again.
    wait_until(
        lambda: silent.register(service, tags=("sensu",)) and _passes(other, service, "n1"),
        PATIENCE,
        "it is back",
    )
    watch.close()


def _passes(process: Process, service: str, node: str) -> bool:
    return any(m.node == node and m.passing for m in process.registry.members(service))


def test_an_instance_that_is_not_reported_on_any_more_is_critical(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    """Its check hangs, while another one of the same process goes on."""
    process = start("n1", [etcd.address], report_life="2s")
    process.register(service)
    process.register(f"{service}-2")

    def stale() -> bool:
        process.register(f"{service}-2")
        (found,) = process.registry.members(service)
        return found.service_health is Health.CRITICAL

    wait_until(stale, PATIENCE, "it is critical")
    assert _passes(process, f"{service}-2", "n1")


def test_a_restarted_process_goes_on_without_a_write(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    first = start("n1", [etcd.address])
    first.register(service, tags=("sensu",))
    first.registry.tag(service, LEAD, timeout=1.0)
    entries = etcd.raft_index()
    for _ in range(3):  # as one-shot runs do
        again = start("n1", [etcd.address])
        again.register(service, tags=("sensu",))
        again.registry.report(service, Health.PASSING)
    assert etcd.raft_index() == entries
    (found,) = again.registry.members(service)
    assert found.tags == ("sensu", "master")


def test_a_lease_that_others_hang_on_is_not_taken_over(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    first = start("n1", [etcd.address])
    first.register(service)
    first.register(f"{service}-2")
    start("n1", [etcd.address]).register(service)
    leases = {
        entry.lease
        for name in (service, f"{service}-2")
        for entry in [first.registry._shelf.demand(name).entry]
    }
    assert len(leases) == 2


def test_an_instance_can_change_its_service(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    process = start("n1", [etcd.address])
    process.register(service)
    moved = Instance(service, "", f"{service}-new", "127.0.0.1", 6380)
    process.registry.register(moved)
    assert process.registry.members(service) == ()
    assert process.registry.local(f"{service}-new").port == 6380


def test_another_process_finds_an_instance_by_its_id(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    """The guardian: it has registered nothing, and is told the id alone."""
    start("n1", [etcd.address]).register(service, tags=("master",))
    guardian = start("n1", [etcd.address])
    guardian.registry.tag(service, TagChange(remove=("master",)), timeout=1.0)
    assert guardian.registry.members(service)[0].tags == ()
    with pytest.raises(NotRegistered):
        start("n2", [etcd.address]).registry.tag(service, LEAD, timeout=1.0)


def test_a_tag_set_during_a_publication_is_stripped_too(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    """The transaction is refused, and what it was made of is read again."""
    mine, other = start("n1", [etcd.address]), start("n2", [etcd.address])
    mine.register(service)
    other.register(service)
    mine.lock.open("a", ttl=30.0)
    lease = mine.take(f"{service}/master")
    shelf: Any = mine.registry._shelf
    members, looks = shelf.members, []

    def members_then_tag(name: str) -> Any:
        found = members(name)
        looks.append(name)
        if len(looks) == 1:
            other.registry.tag(service, LEAD, timeout=1.0)
        return found

    shelf.members = members_then_tag
    leading = replace(lease.record, phase=Phase.LEADING)
    mine.registry.publish(lease, leading, service, LEAD, Gate(service, lease.term))
    assert len(looks) == 2
    tagged = [m.node for m in other.registry.members(service) if "master" in m.tags]
    assert tagged == ["n1"]


def test_the_gate_of_the_one_before_is_shut_for_good(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    old, new = start("n1", [etcd.address]), start("n2", [etcd.address])
    old.register(service)
    new.register(service)
    gate = Gate(service, 1)
    old.registry.tag(service, LEAD, gate=gate, timeout=1.0)
    old.registry.open_gate(service, gate)
    assert _passes(new, service, "n1")
    new.lock.open("b", ttl=30.0)
    lease = new.take(f"{service}/master")
    new.registry.publish(
        lease, replace(lease.record, phase=Phase.LEADING), service, LEAD, Gate(service, lease.term)
    )
    # It has not learned yet, and tags itself again: that does not make it resolvable.
    old.registry.tag(service, LEAD, gate=gate, timeout=1.0)
    old.registry.heartbeat()
    assert not _passes(new, service, "n1")


def test_shutting_out_without_a_lock_of_this_backend(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    """Mixed backends: the lock is elsewhere, its lease cannot be looked at here."""
    mine, other = start("n1", [etcd.address]), start("n2", [etcd.address])
    mine.lock.open("a", ttl=30.0)
    lease = replace(mine.take(f"{service}/master"), session="of another backend")
    mine.backend.locks_here = False
    other.register(service)
    (before,) = mine.registry.members(service)
    mine.registry.shut_out(before, lease)
    watch = mine.registry.watch_members(service)
    seen = snapshot_where(watch, lambda m: not m[before.member].passing, PATIENCE, "shut out")
    assert seen[before.member].service_health is Health.PASSING
    watch.close()
    gone = replace(before, id="gone")
    mine.registry.shut_out(gone, lease)  # nothing that could be resolved


def test_a_heartbeat_that_somebody_deleted_comes_back_with_the_gate(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    process = start("n1", [etcd.address])
    process.register(service)
    gate = Gate(service, 3)
    process.registry.tag(service, LEAD, gate=gate, timeout=1.0)
    process.registry.open_gate(service, gate)
    assert _passes(process, service, "n1")
    etcd.call("lease/revoke", {"ID": process.registry._beat.id})
    assert not _passes(process, service, "n1")
    process.registry.heartbeat()  # it notices, and the gate is open again
    assert _passes(process, service, "n1")


def test_what_is_not_ours_is_left_out(
    etcd: EtcdMember, start: Callable[..., Process], service: str
) -> None:
    process = start("n1", [etcd.address])
    process.register(service)
    etcd.put(f"leadertag/instances/{service}/n2/x", "somebody else's")
    etcd.put(f"leadertag/instances/{service}/n2/y/z", "somebody else's")
    assert [m.node for m in process.registry.members(service)] == ["n1"]
    watch = process.registry.watch_members(service)
    snapshot = watch.poll(PATIENCE)
    assert snapshot is not None
    assert set(snapshot) == {f"n1/{service}"}
    watch.close()
