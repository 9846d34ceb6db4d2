"""The contract of :class:`leadertag.providers.RegistryProvider`."""

from __future__ import annotations

import threading

import pytest

from leadertag.errors import Ambiguous, NotRegistered
from leadertag.model import Health, Instance, TagChange
from leadertag.providers import SelfRegistered
from leadertag.testing.contracts.base import Contract
from leadertag.testing.contracts.fenced import FencedPart
from leadertag.testing.contracts.gates import GatesPart
from leadertag.testing.contracts.harness import (
    Harness,
    Member,
    foreign_checks,
    make_instance,
    one_line,
    polled_until_closed,
    settle,
    snapshot_where,
    until,
)

LEAD = TagChange(add=("master",), remove=("slave",))
FOLLOW = TagChange(add=("slave",), remove=("master",))


class _Reading(Contract):
    def test_the_node_has_a_name(self, a: Member, b: Member) -> None:
        assert a.registry.node
        assert a.registry.node != b.registry.node

    def test_an_unknown_service_is_not_registered(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(b, make_instance(service, service))
        until(lambda: a.registry.members(service), harness.patience, "the other's instance")
        with pytest.raises(NotRegistered) as caught:
            a.registry.local(service)
        one_line(caught.value)
        assert service in str(caught.value)

    def test_local_is_the_whole_instance(self, harness: Harness, a: Member, service: str) -> None:
        wanted = make_instance(service, f"{service}-1")
        harness.register(a, wanted)
        for found in (a.registry.local(service), a.registry.local(service, wanted.id)):
            assert found.node == a.registry.node
            assert (found.id, found.service) == (wanted.id, service)
            assert (found.address, found.port) == (wanted.address, wanted.port)
            assert found.tags == wanted.tags
            assert dict(found.meta) == dict(wanted.meta)
            assert found.gate is None
            assert found.passing
            assert found.service_health is Health.PASSING

    def test_two_instances_have_to_be_told_apart(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        ids = [f"{service}-1", f"{service}-2"]
        for number, instance_id in enumerate(ids):
            harness.register(a, make_instance(service, instance_id, port=7000 + number))
        with pytest.raises(Ambiguous) as caught:
            a.registry.local(service)
        one_line(caught.value)
        assert all(instance_id in str(caught.value) for instance_id in ids)
        assert a.registry.local(service, ids[1]).port == 7001
        with pytest.raises(NotRegistered):
            a.registry.local(service, f"{service}-3")

    def test_health_is_told(self, harness: Harness, a: Member, service: str) -> None:
        harness.register(a, make_instance(service, service))
        for health in (Health.CRITICAL, Health.WARNING, Health.PASSING):
            harness.set_health(a, service, health)
            until(
                lambda h=health: a.registry.local(service).service_health is h,  # type: ignore[misc]
                harness.patience,
                f"service health {health}",
            )

    def test_members_are_all_passing_or_not(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, f"{service}-1", tags=("sensu",)))
        harness.register(a, make_instance(service, f"{service}-2", port=6380))
        harness.register(b, make_instance(service, f"{service}-1", port=6381))
        harness.set_health(a, f"{service}-2", Health.CRITICAL)

        def complete() -> dict[str, Instance] | None:
            found = {member.member: member for member in b.registry.members(service)}
            sick = found.get(f"{a.registry.node}/{service}-2")
            done = len(found) == 3 and sick and sick.health is Health.CRITICAL
            return found if done else None

        found = until(complete, harness.patience, "all three members, one of them critical")
        assert found is not None
        first = found[f"{a.registry.node}/{service}-1"]
        assert first.tags == ("sensu",)
        assert first.passing
        assert dict(first.meta) == dict(make_instance(service, "").meta)
        assert found[f"{b.registry.node}/{service}-1"].port == 6381
        assert b.registry.members(harness.unique("nonesuch")) == ()


class _Tagging(Contract):
    def test_tagging_changes_the_role_tags_only(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service, tags=("sensu", "slave", "blue")))
        harness.set_health(a, service, Health.WARNING)
        until(
            lambda: a.registry.local(service).service_health is Health.WARNING,
            harness.patience,
            "the check is warning",
        )
        before = a.registry.local(service)
        a.registry.tag(service, LEAD, timeout=harness.patience)
        after = a.registry.local(service)
        assert after.tags == ("sensu", "blue", "master")
        assert (after.address, after.port) == (before.address, before.port)
        assert dict(after.meta) == dict(before.meta)
        assert foreign_checks(after) == foreign_checks(before)
        assert after.gate is None
        (seen,) = b.registry.members(service)  # it returned: so others can read it
        assert seen.tags == after.tags
        until(
            lambda: (
                [foreign_checks(m) for m in b.registry.members(service)] == [foreign_checks(before)]
            ),
            harness.patience,
            "its checks as they were",
        )
        a.registry.tag(service, FOLLOW, timeout=harness.patience)
        assert a.registry.local(service).tags == ("sensu", "blue", "slave")

    def test_tagging_twice_writes_once(self, harness: Harness, a: Member, service: str) -> None:
        harness.register(a, make_instance(service, service))
        before = harness.writes(a)
        a.registry.tag(service, LEAD, timeout=harness.patience)
        once = harness.writes(a)
        assert once > before, "Harness.writes does not see a write"
        a.registry.tag(service, LEAD, timeout=harness.patience)
        assert harness.writes(a) == once
        assert a.registry.local(service).tags == ("sensu", "blue", "master")

    def test_only_the_named_instance_is_tagged(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, f"{service}-1"))
        harness.register(a, make_instance(service, f"{service}-2"))
        harness.register(b, make_instance(service, f"{service}-1"))
        a.registry.tag(f"{service}-1", LEAD, timeout=harness.patience)
        tagged = {m.member for m in a.registry.members(service) if "master" in m.tags}
        assert tagged == {f"{a.registry.node}/{service}-1"}

    def test_an_unknown_instance_cannot_be_tagged(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        with pytest.raises(NotRegistered) as caught:
            a.registry.tag(f"{service}-1", LEAD, timeout=harness.patience)
        one_line(caught.value)

    def test_a_removed_instance_is_not_registered_any_more(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        a.registry.local(service)
        harness.deregister(a, service)
        with pytest.raises(NotRegistered):
            a.registry.local(service)

    def test_verbs_may_be_called_from_any_thread(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for _ in range(3):
                    change = TagChange(add=(f"role-{number}",))
                    a.registry.tag(service, change, timeout=harness.patience)
                    a.registry.members(service)
                    a.registry.local(service)
            except BaseException as error:  # noqa: BLE001 - looked at below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert set(a.registry.local(service).tags) == {
            "sensu", "blue", "role-0", "role-1", "role-2", "role-3",
        }  # fmt: skip


class _Watching(Contract):
    def test_own_instances_are_watched(self, harness: Harness, a: Member, service: str) -> None:
        ids = (f"{service}-1", f"{service}-2")
        for instance_id in ids:
            harness.register(a, make_instance(service, instance_id))
        watches = a.registry.watch([(service, ids[0]), (service, ids[1]), (service, "missing")])
        known: dict[str, Instance] = {}
        for watch in watches:
            first = watch.poll(harness.patience)
            assert first is not None, "the first snapshot comes at once"
            known.update(first)
        assert set(known) == set(ids)
        assert known[ids[0]].tags == ("sensu", "blue")
        for watch in watches:
            settle(watch, harness.calm, harness.patience)
        harness.set_health(a, ids[0], Health.CRITICAL)
        _any_reports(watches, ids[0], Health.CRITICAL, harness.patience)
        for watch in watches:
            watch.close()

    def test_an_own_instance_that_is_gone_is_missing_from_the_snapshot(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        watches = a.registry.watch([(service, service)])
        for watch in watches:
            settle(watch, harness.calm, harness.patience)
        harness.deregister(a, service)
        seen: list[bool] = []

        def gone() -> bool:
            for watch in watches:
                snapshot = watch.poll(0.05)
                if snapshot is not None and service not in snapshot:
                    seen.append(True)
            return bool(seen)

        until(gone, harness.patience, "a snapshot without the instance")
        for watch in watches:
            watch.close()

    def test_the_number_of_watches_is_constant(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        few = a.registry.watch([(service, f"{service}-1")])
        many = a.registry.watch([(f"{service}-{n}", f"{service}-{n}") for n in range(20)])
        assert len(few) == len(many)
        for watch in (*few, *many):
            watch.close()

    def test_members_are_watched(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        name = f"{a.registry.node}/{service}"
        watch = b.registry.watch_members(service)
        snapshot_where(watch, lambda m: set(m) == {name}, harness.patience, "the first member")
        settle(watch, harness.calm, harness.patience)
        assert watch.poll(harness.calm) is None
        a.registry.tag(service, LEAD, timeout=harness.patience)
        snapshot_where(watch, lambda m: "master" in m[name].tags, harness.patience, "a new tag")
        harness.set_health(a, service, Health.CRITICAL)
        snapshot_where(watch, lambda m: not m[name].passing, harness.patience, "critical")
        harness.register(b, make_instance(service, service))
        snapshot_where(watch, lambda m: len(m) == 2, harness.patience, "a second member")
        harness.deregister(a, service)
        snapshot_where(watch, lambda m: name not in m, harness.patience, "one member less")
        watch.close()

    def test_close_ends_blocked_polls(self, harness: Harness, a: Member, service: str) -> None:
        harness.register(a, make_instance(service, service))
        for watch in a.registry.watch([(service, service)]):
            polled_until_closed(watch, harness.patience)
        polled_until_closed(a.registry.watch_members(service), harness.patience)


def _any_reports(watches: object, instance_id: str, health: Health, patience: float) -> None:
    def reported() -> bool:
        for watch in watches:  # type: ignore[attr-defined]
            snapshot = watch.poll(0.05)
            if snapshot and instance_id in snapshot:
                found.append(snapshot[instance_id].service_health)
        return health in found

    found: list[Health] = []
    until(reported, patience, f"a watch tells that {instance_id} is {health}")


class _SelfRegistered(Contract):
    def _registry(self, member: Member) -> SelfRegistered:
        if not isinstance(member.registry, SelfRegistered):
            pytest.skip("the registry has registrations and health checks of its own")
        return member.registry

    def test_registering_again_keeps_tags_and_gate(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        registry = self._registry(a)
        registry.register(make_instance(service, service))
        registry.report(service, Health.PASSING)
        registry.tag(service, LEAD, timeout=harness.patience)
        registry.register(make_instance(service, service, port=7777, meta={"version": "8"}))
        again = registry.local(service)
        assert again.port == 7777
        assert dict(again.meta) == {"version": "8"}
        assert "master" in again.tags

    def test_an_instance_nobody_reported_on_does_not_pass(self, a: Member, service: str) -> None:
        registry = self._registry(a)
        registry.register(make_instance(service, service))
        assert not registry.local(service).passing
        registry.report(service, Health.PASSING, "all is well")
        assert registry.local(service).passing

    def test_reporting_on_an_unknown_instance_fails(self, a: Member, service: str) -> None:
        registry = self._registry(a)
        with pytest.raises(NotRegistered):
            registry.report(service, Health.PASSING)

    def test_deregister_forgets(self, a: Member, b: Member, service: str) -> None:
        registry = self._registry(a)
        registry.register(make_instance(service, service))
        registry.deregister(service)
        assert b.registry.members(service) == ()
        registry.deregister(service)


class RegistryContract(_Reading, _Tagging, _Watching, GatesPart, FencedPart, _SelfRegistered):
    """Reading, tagging, watching, gates, the fenced verbs; registering where it is offered."""
