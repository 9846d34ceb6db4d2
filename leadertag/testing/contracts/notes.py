"""The lock's contract for the notes beside it: the plan, which views carry, and the history."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from leadertag.errors import Changed, Conflict
from leadertag.model import LockView, Phase
from leadertag.plan import CHANGES, NO_PLAN, NOTES, PLAN, Note, Plan, Switchover, write_plan
from leadertag.ranks import Ranks, announce, read_ranks
from leadertag.testing.contracts.base import Contract, session_of
from leadertag.testing.contracts.harness import (
    Harness,
    Member,
    make_record,
    one_line,
    settle,
    snapshot_where,
    until,
)
from leadertag.testing.contracts.holding import give, take

PAUSE = Plan(paused=True, by="ops", since="2026-01-31T10:00:00Z", reason="größer: \"x\" and 'y'")
HANDOVER = Plan(switchover=Switchover("1f", 7, to="b/redis", by="ops", candidate="b/redis"))
GARBAGE = b"somebody else's \xff value"
_LARGE = 2 << 20  # bytes; more than Consul and etcd take


class _Keeping(Contract):
    """What is written is read, compared, replaced and removed."""

    @pytest.mark.parametrize("name", sorted(NOTES))
    def test_a_note_is_kept_as_it_is(self, a: Member, b: Member, key: str, name: str) -> None:
        assert a.lock.read_note(key, name) == Note()
        for value in (b"\x00 any \xff bytes", b"{}", b"x" * 50_000):
            before = a.lock.read_note(key, name)
            written = a.lock.write_note(key, name, Note(value, before.index))
            assert written.value == value
            assert written.index > before.index
            assert b.lock.read_note(key, name) == written

    def test_notes_of_two_names_do_not_mix(self, a: Member, key: str) -> None:
        plan = a.lock.write_note(key, PLAN, Note(b"plan"))
        history = a.lock.write_note(key, CHANGES, Note(b"history"))
        assert (a.lock.read_note(key, PLAN), a.lock.read_note(key, CHANGES)) == (plan, history)
        a.lock.write_note(key, PLAN, Note(b"", plan.index))
        assert a.lock.read_note(key, CHANGES) == history

    @pytest.mark.parametrize("name", sorted(NOTES))
    def test_only_the_note_that_was_read_is_replaced(
        self, a: Member, b: Member, key: str, name: str
    ) -> None:
        first = a.lock.write_note(key, name, Note(b"first"))
        second = b.lock.write_note(key, name, Note(b"second", first.index))
        for late in (Note(b"late", first.index), Note(b"late"), Note(b"late", second.index + 1)):
            _refused(a, key, name, late)
        assert a.lock.read_note(key, name) == second

    @pytest.mark.parametrize("name", sorted(NOTES))
    def test_an_empty_value_removes(self, a: Member, b: Member, key: str, name: str) -> None:
        first = a.lock.write_note(key, name, Note(b"first"))
        second = a.lock.write_note(key, name, Note(b"second", first.index))
        for late in (Note(b"", first.index), Note()):
            _refused(b, key, name, late)
        assert b.lock.read_note(key, name) == second
        assert b.lock.write_note(key, name, Note(b"", second.index)) == Note()
        assert a.lock.read_note(key, name) == Note()

    @pytest.mark.parametrize("name", sorted(NOTES))
    def test_what_is_not_there_is_removed_in_silence_but_never_replaced(
        self, a: Member, key: str, name: str
    ) -> None:
        assert a.lock.write_note(key, name, Note()) == Note()
        gone = a.lock.write_note(key, name, Note(b"first"))
        a.lock.write_note(key, name, Note(b"", gone.index))
        for late in (Note(b"late", gone.index), Note(b"", gone.index)):
            _refused(a, key, name, late)
        assert a.lock.read_note(key, name) == Note()
        assert a.lock.write_note(key, name, Note(b"again")).index > gone.index

    @pytest.mark.parametrize("there", [False, True])
    def test_one_of_many_writers_wins(self, harness: Harness, key: str, there: bool) -> None:
        members = [harness.join(name) for name in ("a", "b", "c")]
        before = members[0].lock.write_note(key, PLAN, Note(b"before" if there else b""))
        barrier = threading.Barrier(2 * len(members))
        got: list[Note | BaseException] = []

        def contend(member: Member, number: int) -> None:
            barrier.wait()
            try:
                value = f"{member.name} {number}".encode()
                got.append(member.lock.write_note(key, PLAN, Note(value, before.index)))
            except BaseException as error:  # noqa: BLE001 - looked at below
                got.append(error)

        threads = [threading.Thread(target=contend, args=(m, n)) for m in members for n in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [note for note in got if isinstance(note, Note)]
        assert len(winners) == 1, got
        assert sum(isinstance(error, Changed) for error in got) == len(threads) - 1, got
        assert members[1].lock.read_note(key, PLAN) == winners[0]

    def test_ranks_of_many_at_once_are_all_kept(self, harness: Harness, key: str) -> None:
        members = [harness.join(name) for name in ("a", "b", "c")]
        barrier = threading.Barrier(len(members))

        def tell(rank: int, member: Member) -> None:
            barrier.wait()
            announce(member.lock, key, 7, member.name, rank)

        with ThreadPoolExecutor(len(members)) as pool:
            list(pool.map(tell, (1, 2, 3), members))
        assert read_ranks(members[0].lock, key) == Ranks(7, (("a", 1), ("b", 2), ("c", 3)))
        assert announce(members[1].lock, key, 6, "b", 9).term == 7  # of the past: not written
        assert announce(members[1].lock, key, 8, "b", 9) == Ranks(8, (("b", 9),))

    def test_a_value_that_is_too_large_is_a_conflict(self, a: Member, key: str) -> None:
        """Or it is kept, where the backend takes it: never cut, never a raw refusal."""
        before = a.lock.write_note(key, PLAN, Note(b"before"))
        stands, refused = before, None
        try:
            stands = a.lock.write_note(key, PLAN, Note(b"x" * _LARGE, before.index))
        except Conflict as error:
            refused = error
        if refused is not None:
            one_line(refused)
            assert key in str(refused)
        else:
            assert stands.value == b"x" * _LARGE
        assert a.lock.read_note(key, PLAN) == stands


class _BesideTheLock(Contract):
    """A note lives on its own, and the lock does not notice."""

    def test_notes_outlive_sessions_and_holders(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session = session_of(a, harness)
        take(a, key)
        plan = a.lock.write_note(key, PLAN, Note(PAUSE.encode()))
        history = a.lock.write_note(key, CHANGES, Note(b"history"))
        harness.expire(a, session)
        until(lambda: b.lock.read(key).free, harness.patience, "an expired lock is free")
        session_of(b, harness)
        give(b, take(b, key))
        b.lock.end()
        assert b.lock.read_note(key, PLAN) == plan
        assert b.lock.read_note(key, CHANGES) == history
        assert b.lock.read(key).plan == replace(PAUSE, index=plan.index)

    def test_a_plan_needs_no_lock_and_no_session(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        plan = write_plan(b.lock, key, PAUSE)
        assert a.lock.read(key) == LockView(key, plan=plan)
        session_of(a, harness)
        lease = take(a, key)
        view = LockView(key, lease.index, lease.session, lease.record, plan=plan)
        assert a.lock.read(key) == view

    def test_a_held_lock_does_not_notice(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        lease = take(a, key)
        plan = NO_PLAN
        for number in range(3):
            plan = write_plan(b.lock, key, replace(HANDOVER, reason=f"{number}", index=plan.index))
            history = b.lock.read_note(key, CHANGES)
            b.lock.write_note(key, CHANGES, Note(f"{number}".encode(), history.index))
            assert a.lock.confirm([lease]) == {key}
            view = b.lock.read(key)
            assert view == LockView(key, lease.index, lease.session, lease.record, plan=plan)
        lease = a.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
        write_plan(b.lock, key, replace(plan, switchover=None))
        give(a, lease)
        assert b.lock.read(key).marked

    def test_discarding_and_adopting_go_by_the_lock_alone(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        lease = take(a, key)
        seen = a.lock.read(key)
        plan = write_plan(b.lock, key, PAUSE)
        lease = a.lock.adopt(seen, replace(lease.record, incarnation=1))
        seen = a.lock.read(key)
        write_plan(b.lock, key, replace(HANDOVER, index=plan.index))
        a.lock.discard(seen)
        assert b.lock.read(key).free

    def test_who_loses_a_race_sees_the_plan_as_well(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        session_of(b, harness)
        outdated = b.lock.read(key)
        plan = write_plan(a.lock, key, PAUSE)
        take(a, key)
        instead = b.lock.acquire(outdated, make_record(b))
        assert instead == b.lock.read(key)
        assert isinstance(instead, LockView)
        assert instead.plan == plan

    def test_a_foreign_note_leaves_the_lock_usable(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        note = b.lock.write_note(key, PLAN, Note(GARBAGE))
        b.lock.write_note(key, CHANGES, Note(GARBAGE))
        foreign = Plan(index=note.index, foreign=True)
        session_of(a, harness)
        assert a.lock.read(key) == LockView(key, plan=foreign)
        lease = take(a, key)
        lease = a.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
        view = b.lock.read(key)
        assert view == LockView(key, lease.index, lease.session, lease.record, plan=foreign)
        watch = b.lock.watch([key])
        assert watch.poll(harness.patience) == {key: view}
        watch.close()
        give(a, lease)
        plan = write_plan(b.lock, key, replace(PAUSE, index=note.index))
        assert b.lock.read(key).plan == plan

    def test_keys_that_begin_alike_do_not_mix(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        longer = key + "2"
        session_of(a, harness)
        lease = take(a, longer)
        plan = write_plan(a.lock, longer, PAUSE)
        held = LockView(longer, lease.index, lease.session, lease.record, plan=plan)
        both = {key: LockView(key), longer: held}
        assert {k: b.lock.read(k) for k in both} == both
        assert b.lock.read_note(key, PLAN) == Note()
        watch = b.lock.watch([key, longer])
        assert watch.poll(harness.patience) == both
        other = write_plan(b.lock, key, HANDOVER)
        both[key] = LockView(key, plan=other)
        assert {k: a.lock.read(k) for k in both} == both
        snapshot_where(watch, lambda views: views == both, harness.patience, "both plans")
        watch.close()


class _Watched(Contract):
    """A plan reaches every watch; a history none."""

    def test_every_change_of_a_plan_is_reported(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        lease = take(a, key)
        watch = b.lock.watch([key, key + "-missing"])
        settle(watch, harness.calm, harness.patience)
        plans = {key: NO_PLAN, key + "-missing": NO_PLAN}
        for changed in sorted(plans):
            for asked in (PAUSE, HANDOVER, NO_PLAN):
                plan = replace(asked, index=plans[changed].index)
                plans[changed] = write_plan(a.lock, changed, plan)
                snapshot_where(
                    watch,
                    lambda views: {k: view.plan for k, view in views.items()} == plans,
                    harness.patience,
                    f"{changed}: {asked}",
                )
        held = LockView(key, lease.index, lease.session, lease.record)
        assert b.lock.read(key) == held
        watch.close()

    def test_a_blocked_poll_is_woken_by_a_plan(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        """One poll, under way while another process writes, returns the plan."""
        watch = b.lock.watch([key])
        settle(watch, harness.calm, harness.patience)
        writer = threading.Timer(harness.calm, write_plan, (a.lock, key, PAUSE))
        writer.start()
        try:
            seen = snapshot_where(watch, lambda v: v[key].plan.paused, harness.patience, "paused")
        finally:
            writer.join()
        assert seen[key] == a.lock.read(key)
        watch.close()

    def test_a_history_changes_no_view(
        self, harness: Harness, a: Member, b: Member, key: str
    ) -> None:
        session_of(a, harness)
        take(a, key)
        watch = b.lock.watch([key])
        settle(watch, harness.calm, harness.patience)
        before = b.lock.read(key)
        history = a.lock.write_note(key, CHANGES, Note(b"first"))
        assert watch.poll(harness.calm) is None
        a.lock.write_note(key, CHANGES, Note(b"second", history.index))
        assert b.lock.read(key) == before
        plan = write_plan(a.lock, key, PAUSE)
        seen: list[LockView] = []

        def told() -> bool:
            snapshot = watch.poll(harness.calm)
            seen.extend([snapshot[key]] if snapshot is not None else [])
            return bool(seen)

        until(told, harness.patience, "the plan is reported")
        assert seen == [replace(before, plan=plan)], "the first news is the plan"
        watch.close()


class NotesContract(_Keeping, _BesideTheLock, _Watched):
    """Compare-and-set, independence of the lock, and what a watch tells."""


def _refused(member: Member, key: str, name: str, note: Note) -> None:
    with pytest.raises(Changed) as caught:
        member.lock.write_note(key, name, note)
    one_line(caught.value)
    assert key in str(caught.value)
