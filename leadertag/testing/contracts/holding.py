"""The lock's contract while a lock is held: updating, confirming, giving back, adopting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.errors import LeaseLost
from leadertag.model import Lease, LockView, Phase
from leadertag.testing.contracts.base import Contract, session_of
from leadertag.testing.contracts.harness import Harness, Member, make_record, one_line, until


def take(member: Member, key: str) -> Lease:
    """Acquire a lock that is free; it has to succeed."""
    lease = member.lock.acquire(member.lock.read(key), make_record(member))
    assert isinstance(lease, Lease), f"a free lock was not given: {lease}"
    return lease


def give(member: Member, lease: Lease) -> None:
    """Release with the mark."""
    member.lock.release(lease, replace(lease.record, phase=Phase.RELEASED))


class HoldingPart(Contract):
    """Whatever is written compares the record's index; a late message changes nothing."""

    def test_update_replaces_the_record(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        first = take(a, key)
        second = a.lock.update(first, replace(first.record, phase=Phase.LEADING))
        assert (second.term, second.session) == (first.term, first.session)
        assert second.index > first.index
        assert second.record.phase is Phase.LEADING
        view = b.lock.read(key)
        assert view == LockView(key, second.index, second.session, second.record)
        assert view.leader == second.record

    def test_release_frees_and_marks(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        lease = take(a, key)
        give(a, lease)
        view = b.lock.read(key)
        assert view.free
        assert view.marked
        assert view.index > lease.index
        assert view.record == replace(lease.record, phase=Phase.RELEASED)

    def test_expiry_leaves_no_mark(self, harness: Harness, a: Member, b: Member, key: str) -> None:
        session = session_of(a, harness)
        lease = take(a, key)
        lease = a.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
        harness.expire(a, session)
        until(lambda: b.lock.read(key).free, harness.patience, "an expired lock is free")
        view = b.lock.read(key)
        assert not view.marked
        assert view.leader is None
        session_of(b, harness)
        assert take(b, key).term > lease.term

    def test_a_stale_lease_changes_nothing(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        stale = take(a, key)
        current = a.lock.update(stale, replace(stale.record, phase=Phase.LEADING))
        before = b.lock.read(key)
        with pytest.raises(LeaseLost) as caught:
            a.lock.update(stale, replace(stale.record, reason="late"))
        one_line(caught.value)
        with pytest.raises(LeaseLost):
            give(a, stale)
        with pytest.raises(LeaseLost):
            a.lock.discard(LockView(key, stale.index, stale.session, stale.record))
        with pytest.raises(LeaseLost):
            a.lock.adopt(LockView(key, stale.index, stale.session, stale.record), stale.record)
        assert b.lock.read(key) == before
        assert a.lock.confirm([current]) == {key}

    def test_an_older_term_of_the_same_session_changes_nothing(
        self, harness: Harness, a: Member, key: str
    ) -> None:
        session_of(a, harness)
        old = take(a, key)
        give(a, old)
        new = take(a, key)
        before = a.lock.read(key)
        for late in (old, replace(old, index=new.index)):
            with pytest.raises(LeaseLost):
                a.lock.update(late, replace(late.record, reason="late"))
            with pytest.raises(LeaseLost):
                give(a, late)
            assert a.lock.confirm([late]) == frozenset()
        assert a.lock.read(key) == before

    def test_nothing_can_be_written_after_the_loss(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session = session_of(a, harness)
        lease = take(a, key)
        harness.expire(a, session)
        until(lambda: b.lock.read(key).free, harness.patience, "an expired lock is free")
        before = b.lock.read(key)
        for write in (a.lock.update, a.lock.release):
            with pytest.raises(LeaseLost):
                write(lease, replace(lease.record, phase=Phase.RELEASED))
        assert b.lock.read(key) == before

    def test_confirm_tells_what_is_held(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        session_of(b, harness)
        keys = [f"{key}-{n}" for n in range(70)]  # more than fit one Consul transaction
        leases = [take(a, k) for k in keys]
        assert a.lock.confirm([]) == frozenset()
        assert a.lock.confirm(leases) == frozenset(keys)
        assert b.lock.confirm(leases[:2]) == frozenset()
        give(a, leases[0])
        assert a.lock.confirm(leases) == frozenset(keys[1:])
        updated = a.lock.update(leases[1], replace(leases[1].record, phase=Phase.LEADING))
        assert a.lock.confirm([leases[1]]) == a.lock.confirm([updated]) == {keys[1]}

    def test_confirm_is_false_after_the_loss(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session = session_of(a, harness)
        lease = take(a, key)
        harness.expire(a, session)
        until(lambda: b.lock.read(key).free, harness.patience, "an expired lock is free")
        assert a.lock.confirm([lease]) == frozenset()
        session_of(b, harness)
        take(b, key)
        assert a.lock.confirm([lease]) == frozenset()

    def test_confirm_writes_nothing(self, harness: Harness, a: Member, key: str) -> None:
        session_of(a, harness)
        lease = take(a, key)
        before, writes = a.lock.read(key), harness.writes(a)
        for _ in range(5):
            assert a.lock.confirm([lease]) == {key}
        assert harness.writes(a) == writes
        assert a.lock.read(key) == before

    @pytest.mark.parametrize("phase", list(Phase))
    def test_discard_frees_without_a_mark(
        self, harness: Harness, a: Member, b: Member, key: str, phase: Phase
    ) -> None:
        session_of(a, harness)
        lease = take(a, key)
        a.lock.update(lease, replace(lease.record, phase=phase))
        a.lock.discard(a.lock.read(key))
        view = b.lock.read(key)
        assert view.free
        assert not view.marked
        session_of(b, harness)
        assert take(b, key).term > lease.term

    def test_adopt_takes_up_the_term(self, harness: Harness, a: Member, key: str) -> None:
        session = session_of(a, harness)
        lease = take(a, key)
        restarted = harness.join("a")
        assert session_of(restarted, harness, session) == session
        view = restarted.lock.read(key)
        adopted = restarted.lock.adopt(view, replace(lease.record, incarnation=1))
        assert (adopted.term, adopted.session) == (lease.term, session)
        assert adopted.index > lease.index
        assert adopted.record.incarnation == 1
        assert restarted.lock.read(key) == LockView(key, adopted.index, session, adopted.record)
        assert restarted.lock.confirm([adopted]) == {key}
        with pytest.raises(LeaseLost):  # the process before it cannot write any more
            a.lock.update(lease, lease.record)

    def test_another_session_cannot_adopt_or_discard(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        session_of(b, harness)
        lease = take(a, key)
        before = b.lock.read(key)
        with pytest.raises(LeaseLost):
            b.lock.adopt(before, make_record(b, term=lease.term))
        with pytest.raises(LeaseLost):
            b.lock.discard(before)
        assert b.lock.read(key) == before
        give(a, lease)
        free = b.lock.read(key)
        with pytest.raises(LeaseLost):
            b.lock.adopt(free, make_record(b, term=lease.term))
        assert b.lock.read(key) == free
