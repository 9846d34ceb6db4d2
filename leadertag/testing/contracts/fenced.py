"""What a registry does under a lease: shutting others out, and ``FENCED_TAGS``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from leadertag.errors import Changed, LeaseLost, NotRegistered
from leadertag.model import Characteristic, Gate, Lease, Phase, TagChange
from leadertag.providers import FencedRegistry
from leadertag.testing.contracts.base import Contract, session_of
from leadertag.testing.contracts.gates import gate_of, seen_by
from leadertag.testing.contracts.harness import (
    Harness,
    Member,
    beating,
    foreign_checks,
    make_instance,
    make_record,
    until,
)

LEAD = TagChange(add=("master",), remove=("slave",))


class FencedPart(Contract):
    """A leader of a later term against the one before it."""

    def _lease(self, harness: Harness, member: Member, key: str) -> Lease:
        session_of(member, harness)
        lease = member.lock.acquire(member.lock.read(key), make_record(member))
        assert isinstance(lease, Lease)
        return lease

    def _old_leader(self, harness: Harness, old: Member, service: str, term: int) -> Gate:
        gate = gate_of(service, term)
        old.registry.tag(service, LEAD, gate=gate, timeout=harness.patience)
        old.registry.open_gate(service, gate)
        until(
            lambda: seen_by(old, service, old.registry.node).passing,
            harness.patience,
            "the old leader passes",
        )
        return gate

    def test_another_is_shut_out_without_touching_its_registration(
        self, harness: Harness, a: Member, b: Member, service: str, key: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        harness.register(b, make_instance(service, service))
        with beating(b.registry):  # it does not know yet, and goes on feeding its gate
            self._old_leader(harness, b, service, 1)
            before = seen_by(a, service, b.registry.node)
            a.registry.shut_out(before, self._lease(harness, a, key))
            until(
                lambda: not seen_by(a, service, b.registry.node).passing,
                harness.patience,
                "the other one does not pass any more",
            )
            after = seen_by(a, service, b.registry.node)
        assert after.tags == before.tags
        assert (after.address, after.port) == (before.address, before.port)
        assert dict(after.meta) == dict(before.meta)
        assert foreign_checks(after) == foreign_checks(before)

    def test_nobody_is_shut_out_with_a_lost_lease(
        self, harness: Harness, a: Member, b: Member, service: str, key: str
    ) -> None:
        harness.register(b, make_instance(service, service))
        lease = self._lease(harness, a, key)
        a.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
        with beating(b.registry):
            self._old_leader(harness, b, service, lease.term + 1)
            before = seen_by(a, service, b.registry.node)
            with pytest.raises(LeaseLost):
                a.registry.shut_out(before, lease)
            assert seen_by(a, service, b.registry.node).passing

    def test_the_lost_are_shut_out_only_while_nobody_holds_the_lock(
        self, harness: Harness, a: Member, b: Member, service: str, key: str
    ) -> None:
        """Where a gate ends with its process there is nothing to do, and nothing is an answer."""
        harness.register(a, make_instance(service, service))
        harness.register(b, make_instance(service, service))
        lease = self._lease(harness, a, key)
        a.lock.discard(a.lock.read(key))
        free = a.lock.read(key)
        with beating(b.registry):
            self._old_leader(harness, b, service, lease.term)
            before = seen_by(a, service, b.registry.node)
            self._lease(harness, a, key)
            with suppress(Changed):
                a.registry.shut_out_lost(before, free)
            assert seen_by(a, service, b.registry.node).passing, "the lock is held"
            a.lock.discard(a.lock.read(key))
            a.registry.shut_out_lost(before, a.lock.read(key))
            after = seen_by(a, service, b.registry.node)
        assert after.tags == before.tags
        assert dict(after.meta) == dict(before.meta)
        assert foreign_checks(after) == foreign_checks(before)

    def test_the_lost_are_shut_out_in_the_term_that_was_seen(
        self, harness: Harness, a: Member, b: Member, service: str, key: str
    ) -> None:
        """Whoever only waits may give the lock back, and the other one lead in a later term."""
        harness.register(a, make_instance(service, service))
        harness.register(b, make_instance(service, service))
        lease = self._lease(harness, a, key)
        with beating(b.registry):
            self._old_leader(harness, b, service, lease.term + 1)
            before = seen_by(a, service, b.registry.node)
            a.registry.shut_out_lost(replace(before, gate=lease.term - 1), lease)
            assert seen_by(a, service, b.registry.node).passing, "a later term than was seen"
            a.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
            with suppress(LeaseLost):
                a.registry.shut_out_lost(before, lease)
            assert seen_by(a, service, b.registry.node).passing, "the lease is lost"

    def _fenced(self, member: Member) -> FencedRegistry:
        if Characteristic.FENCED_TAGS not in member.registry.characteristics:
            pytest.skip("FENCED_TAGS is not declared")
        assert isinstance(member.registry, FencedRegistry), "declared, but there is no publish"
        return member.registry

    def test_publishing_is_one_step(
        self, harness: Harness, a: Member, b: Member, service: str, key: str
    ) -> None:
        registry = self._fenced(a)
        harness.register(a, make_instance(service, service, tags=("sensu", "slave")))
        harness.register(b, make_instance(service, service, tags=("sensu", "master", "blue")))
        other = harness.unique("other")
        harness.register(b, make_instance(other, other, tags=("master",)))
        lease = self._lease(harness, a, key)
        leading = replace(lease.record, phase=Phase.LEADING)
        gate = gate_of(service, lease.term)
        published = registry.publish(lease, leading, service, LEAD, gate)
        assert (published.term, published.record) == (lease.term, leading)
        view = b.lock.read(key)
        assert (view.index, view.record) == (published.index, leading)
        mine = seen_by(b, service, a.registry.node)
        assert mine.tags == ("sensu", "master")
        assert mine.gate == lease.term
        assert not mine.passing, "the gate is registered closed"
        stripped = seen_by(b, service, b.registry.node)
        assert "master" not in stripped.tags
        assert set(stripped.tags) >= {"sensu", "blue"}
        assert seen_by(b, other, b.registry.node).tags == ("master",)
        with beating(registry):
            registry.open_gate(service, gate)
            until(
                lambda: seen_by(b, service, a.registry.node).passing,
                harness.patience,
                "the published leader passes",
            )
        a.lock.release(published, replace(leading, phase=Phase.RELEASED))

    @pytest.mark.parametrize("how", ["stale", "released", "expired"])
    def test_publishing_without_the_lock_changes_nothing(
        self, harness: Harness, a: Member, b: Member, service: str, key: str, how: str
    ) -> None:
        registry = self._fenced(a)
        harness.register(a, make_instance(service, service))
        harness.register(b, make_instance(service, service, tags=("master",)))
        lease = self._lease(harness, a, key)
        if how == "stale":
            a.lock.update(lease, replace(lease.record, reason="newer"))
        elif how == "released":
            a.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))
        else:
            harness.expire(a, lease.session)
            until(lambda: b.lock.read(key).free, harness.patience, "the lock is free")
        before = b.lock.read(key), b.registry.members(service)
        leading = replace(lease.record, phase=Phase.LEADING)
        with pytest.raises(LeaseLost):
            registry.publish(lease, leading, service, LEAD, gate_of(service, lease.term))
        assert (b.lock.read(key), b.registry.members(service)) == before

    def test_publishing_an_unknown_instance_changes_nothing(
        self, harness: Harness, a: Member, b: Member, service: str, key: str
    ) -> None:
        registry = self._fenced(a)
        harness.register(b, make_instance(service, service, tags=("master",)))
        lease = self._lease(harness, a, key)
        before = b.lock.read(key), b.registry.members(service)
        with pytest.raises(NotRegistered):
            registry.publish(
                lease, replace(lease.record, phase=Phase.LEADING), f"{service}-nonesuch", LEAD, None
            )
        assert (b.lock.read(key), b.registry.members(service)) == before
