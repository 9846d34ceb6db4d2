"""The contract of :class:`leadertag.providers.LockProvider`."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from leadertag.errors import (
    BackendError,
    BackendUnavailable,
    ConfigError,
    Conflict,
    LeaseLost,
)
from leadertag.model import Characteristic, Lease, LockView, Phase
from leadertag.testing.contracts.base import Contract, session_of
from leadertag.testing.contracts.harness import (
    Harness,
    Member,
    make_record,
    one_line,
    polled_until_closed,
    settle,
    snapshot_where,
    until,
)
from leadertag.testing.contracts.holding import HoldingPart, give, take
from leadertag.testing.contracts.notes import NotesContract


class _Session(Contract):
    def test_open_names_a_session(self, harness: Harness, a: Member, b: Member) -> None:
        first, second = session_of(a, harness), session_of(b, harness)
        assert first
        assert second
        assert first != second

    def test_a_restarted_process_takes_its_session_up(self, harness: Harness, a: Member) -> None:
        session = session_of(a, harness)
        restarted = harness.join("a")
        assert session_of(restarted, harness, session) == session
        restarted.lock.keep_alive()

    def test_a_session_that_is_gone_is_replaced(self, harness: Harness, a: Member) -> None:
        session = session_of(a, harness)
        harness.expire(a, session)
        assert session_of(harness.join("a"), harness, session) not in ("", session)

    def test_keep_alive_tells_that_the_session_is_gone(self, harness: Harness, a: Member) -> None:
        session = session_of(a, harness)
        a.lock.keep_alive()
        harness.expire(a, session)
        with pytest.raises(LeaseLost) as caught:
            a.lock.keep_alive()
        one_line(caught.value)
        assert session_of(a, harness) not in ("", session)
        a.lock.keep_alive()

    def test_end_ends_it_for_good(self, harness: Harness, a: Member) -> None:
        session = session_of(a, harness)
        a.lock.end()
        assert session_of(harness.join("a"), harness, session) != session

    def test_closing_ends_nothing(self, harness: Harness, a: Member, key: str) -> None:
        session = session_of(a, harness)
        lease = take(a, key)
        a.lock.close()
        later = harness.join("a")
        assert session_of(later, harness, session) == session
        assert later.lock.confirm([lease]) == {key}

    def test_a_vanished_holder_is_freed_by_the_backend(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        """SERVER_SIDE_EXPIRY, and its counterpart: a session kept alive does not expire."""
        if Characteristic.SERVER_SIDE_EXPIRY not in a.lock.characteristics:
            pytest.skip("not declared")
        session_of(a, harness)
        session_of(b, harness)
        kept_key = key + "-kept"
        take(a, key)
        kept = take(b, kept_key)

        def freed() -> bool:
            b.lock.keep_alive()
            return b.lock.read(key).free

        until(freed, harness.session_expiry + harness.patience, "lock of a vanished holder free")
        assert not b.lock.read(key).marked
        assert b.lock.confirm([kept]) == {kept_key}


class _Acquiring(Contract):
    def test_a_missing_key_reads_as_free(self, a: Member, key: str) -> None:
        view = a.lock.read(key)
        assert view == LockView(key)
        assert view.free
        assert not view.exists

    @pytest.mark.parametrize("odd", ["with space", "größe", "a%2Fb?c#d&e=f", "deep/er/still"])
    def test_any_name_can_be_a_key(self, harness: Harness, a: Member, key: str, odd: str) -> None:
        session_of(a, harness)
        lease = take(a, f"{key}/{odd}")
        assert a.lock.read(f"{key}/{odd}").holder == lease.session
        assert not a.lock.read(key).exists

    def test_the_lease_is_what_stands_in_the_lock(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session = session_of(a, harness)
        record = make_record(a)
        lease = a.lock.acquire(a.lock.read(key), record)
        assert isinstance(lease, Lease)
        assert lease.key == key
        assert lease.session == session
        assert lease.term > 0
        assert lease.record == replace(record, term=lease.term)
        view = b.lock.read(key)
        assert view == LockView(key, lease.index, session, lease.record)
        assert view.leader is None  # elected, not yet leading

    def test_a_held_lock_is_shown_not_given(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        session_of(b, harness)
        lease = take(a, key)
        before = b.lock.read(key)
        assert b.lock.acquire(before, make_record(b)) == before
        assert a.lock.confirm([lease]) == {key}
        assert b.lock.read(key) == before

    def test_the_holder_gets_no_second_lease(self, harness: Harness, a: Member, key: str) -> None:
        session_of(a, harness)
        unseen = a.lock.read(key)
        lease = take(a, key)
        assert isinstance(a.lock.acquire(unseen, make_record(a)), LockView)
        assert a.lock.read(key).index == lease.index

    def test_one_of_many_contenders_wins(self, harness: Harness, key: str) -> None:
        members = [harness.join(name) for name in ("a", "b", "c")]
        for member in members:
            session_of(member, harness)
        barrier = threading.Barrier(2 * len(members))
        seen = members[0].lock.read(key)
        got: list[Lease | LockView | BaseException] = []

        def contend(member: Member) -> None:
            barrier.wait()
            try:
                got.append(member.lock.acquire(seen, make_record(member)))
            except BaseException as error:  # noqa: BLE001 - looked at below
                got.append(error)

        threads = [threading.Thread(target=contend, args=(m,)) for m in members for _ in "12"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [lease for lease in got if isinstance(lease, Lease)]
        assert len(winners) == 1, got
        losers = [view for view in got if isinstance(view, LockView)]
        assert len(losers) == len(threads) - 1, got
        assert {view.holder for view in losers} == {winners[0].session}

    def test_a_late_acquire_changes_nothing(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        session_of(b, harness)
        outdated = b.lock.read(key)
        give(a, take(a, key))
        after = b.lock.read(key)
        assert b.lock.acquire(outdated, make_record(b)) == after
        assert b.lock.read(key) == after

    def test_terms_strictly_increase(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        """Whoever holds it next, and however it became free."""
        session_of(b, harness)
        terms = []
        for _ in range(3):
            session = session_of(a, harness)
            lease = take(a, key)
            terms.append(lease.term)
            give(a, lease)
            lease = take(b, key)
            terms.append(lease.term)
            give(b, lease)
            terms.append(take(a, key).term)
            harness.expire(a, session)
            until(lambda: b.lock.read(key).free, harness.patience, "the expired lock is free")
        assert terms == sorted(set(terms))

    def test_a_foreign_value_is_a_conflict(self, harness: Harness, a: Member, key: str) -> None:
        session_of(a, harness)
        harness.plant(key, b"somebody else's \xff value")
        view = a.lock.read(key)
        assert view.exists
        assert view.foreign
        assert view.record is None
        with pytest.raises(Conflict) as caught:
            a.lock.acquire(view, make_record(a))
        one_line(caught.value)
        assert key in str(caught.value)
        assert a.lock.read(key) == view

    def test_acquiring_with_a_dead_session_fails(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session = session_of(a, harness)
        harness.expire(a, session)
        with pytest.raises(BackendError) as caught:
            a.lock.acquire(a.lock.read(key), make_record(a))
        one_line(caught.value)
        assert b.lock.read(key).free


class _Watching(Contract):
    def test_the_first_snapshot_comes_at_once(self, harness: Harness, a: Member, key: str) -> None:
        session_of(a, harness)
        lease = take(a, key)
        watch = a.lock.watch([key, key + "-missing"])
        snapshot = watch.poll(harness.patience)
        assert snapshot is not None
        assert dict(snapshot) == {
            key: LockView(key, lease.index, lease.session, lease.record),
            key + "-missing": LockView(key + "-missing"),
        }
        watch.close()

    def test_nothing_changed_is_none(self, harness: Harness, a: Member, key: str) -> None:
        session_of(a, harness)
        lease = take(a, key)
        watch = a.lock.watch([key])
        settle(watch, harness.calm, harness.patience)
        a.lock.confirm([lease])
        a.lock.keep_alive()
        take(a, harness.unique("unwatched"))
        assert watch.poll(harness.calm) is None
        watch.close()

    def test_every_change_by_another_is_reported(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        keys = [key, key + "-2"]
        watch = b.lock.watch(keys)
        settle(watch, harness.calm, harness.patience)
        for changed in keys:
            lease = take(a, changed)
            seen = snapshot_where(
                watch,
                lambda views, k=changed: views[k].holder != "",  # type: ignore[misc]
                harness.patience,
                "acquired",
            )
            assert set(seen) == set(keys), "a snapshot is whole"
            lease = a.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
            snapshot_where(
                watch,
                lambda views, k=changed: views[k].leader is not None,  # type: ignore[misc]
                harness.patience,
                "leading",
            )
            give(a, lease)
            snapshot_where(
                watch,
                lambda views, k=changed: views[k].marked,  # type: ignore[misc]
                harness.patience,
                "released",
            )
        watch.close()

    def test_an_expired_lock_is_reported(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session = session_of(a, harness)
        take(a, key)
        watch = b.lock.watch([key])
        settle(watch, harness.calm, harness.patience)
        harness.expire(a, session)
        seen = snapshot_where(watch, lambda v: v[key].free, harness.patience, "expired")
        assert not seen[key].marked
        watch.close()

    def test_an_outage_is_told_and_then_it_starts_over(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(b, harness)
        watch = a.lock.watch([key])
        settle(watch, harness.calm, harness.patience)
        before = a.lock.read(key)
        outage = harness.cut(a)
        if outage is None:
            pytest.skip("the harness cannot cut a member off")
        with outage:
            with pytest.raises(BackendUnavailable) as caught:
                a.lock.read(key)
            one_line(caught.value)
            with pytest.raises(BackendError):
                watch.poll(harness.patience)

        def answers() -> bool:
            try:
                return a.lock.read(key) == before
            except BackendUnavailable:
                return False

        until(answers, harness.patience, "the backend answers again")
        # A whole snapshot, although nothing has changed: what came before does not count.
        snapshot_where(watch, lambda views: views[key] == before, harness.patience, "whole")
        take(b, key)
        snapshot_where(watch, lambda views: not views[key].free, harness.patience, "a change")
        watch.close()

    def test_close_ends_a_blocked_poll(self, harness: Harness, a: Member, key: str) -> None:
        polled_until_closed(a.lock.watch([key]), harness.patience)


class LockContract(_Session, _Acquiring, HoldingPart, _Watching, NotesContract):
    """Sessions, acquiring, holding, adopting, watching, notes; and what is declared."""

    def test_an_unknown_guard_is_refused(self, a: Member, service: str) -> None:
        with pytest.raises(ConfigError) as caught, a.lock.guard("nonesuch", "query", service):
            pass
        one_line(caught.value)
        assert "nonesuch" in str(caught.value)
