"""The contract suite finds backends that break it.

Each mutant breaks one promise of the embedded backend; the test named beside it must
fail. A suite that passes whatever it is run on would prove nothing.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadertag.model import Instance, Lease, LockView, QueryDefinition, Record, TagChange
from leadertag.plan import CHANGES, NO_PLAN, PLAN, Note
from leadertag.providers import Watch
from leadertag.testing.contracts import LockContract, QueryContract, RegistryContract
from leadertag_local import LocalLock, LocalQuery, LocalRegistry
from leadertag_local import instances as rows
from leadertag_local import lock as locks
from tests.contract.test_local import LocalHarness


class ImpatientHarness(LocalHarness):
    """For mutants, which have to fail: the sooner the better."""

    patience = 0.4
    calm = 0.05


def nothing(*arguments: Any, **options: Any) -> None:
    """Do nothing and say nothing."""


def confirm_all(self: LocalLock, leases: Sequence[Lease]) -> frozenset[str]:
    return frozenset(lease.key for lease in leases)


def confirm_by_writing(self: LocalLock, leases: Sequence[Lease]) -> frozenset[str]:
    with self._store.write() as database:
        locks.count(database, "index")
    return frozenset(lease.key for lease in leases)


def compare_nothing(database: Any, key: str, *expected: Any) -> Any:
    return locks._row(database, key)


def same_term(database: Any, name: str) -> int:
    return 5 if name == "term" else REAL_COUNT(database, name)


REAL_COUNT = locks.count
REAL_ACQUIRE = LocalLock.acquire
REAL_READ = rows.read_instances


def acquire_blindly(self: LocalLock, seen: LockView, record: Record) -> Lease | LockView:
    return REAL_ACQUIRE(self, self.read(seen.key), record)


def acquire_by_force(self: LocalLock, seen: LockView, record: Record) -> Lease | LockView:
    with self._store.write() as database:
        term = REAL_COUNT(database, "term")
        return locks._write(database, seen.key, self._client.session, term, record)


def release_without_mark(self: LocalLock, lease: Lease, record: Record) -> None:
    self.discard(self.read(lease.key))


def discard_as_release(self: LocalLock, view: LockView) -> None:
    assert view.record is not None
    lease = Lease(view.key, view.record.term, view.index, view.holder, view.record)
    self.release(lease, replace(view.record, phase=locks.Phase.RELEASED))


def write_note_blindly(self: LocalLock, key: str, name: str, note: Note) -> Note:
    return REAL_WRITE_NOTE(self, key, name, replace(note, index=self.read_note(key, name).index))


def write_note_by_force(self: LocalLock, key: str, name: str, note: Note) -> Note:
    with self._store.write() as database:
        index = REAL_COUNT(database, "note")
        row = (key, name, index, note.value)
        database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?)", row)
    return replace(note, index=index)


def write_note_cut(self: LocalLock, key: str, name: str, note: Note) -> Note:
    return REAL_WRITE_NOTE(self, key, name, replace(note, value=note.value[:1000]))


def write_note_into_the_lock(self: LocalLock, key: str, name: str, note: Note) -> Note:
    with self._store.write() as database:
        index = REAL_COUNT(database, "index")
        database.execute("UPDATE locks SET idx = ? WHERE key = ?", (index, key))
    return REAL_WRITE_NOTE(self, key, name, note)


def read_any_note(self: LocalLock, key: str, name: str) -> Note:
    with self._store.read() as database:
        row = database.execute("SELECT value, idx FROM notes WHERE key = ?", (key,)).fetchone()
    return Note(*row) if row else Note()


def read_without_plan(self: LocalLock, key: str) -> LockView:
    return replace(REAL_LOCK_READ(self, key), plan=NO_PLAN)


def read_with_foreign_plan(self: LocalLock, key: str) -> LockView:
    view = REAL_LOCK_READ(self, key)
    return replace(view, foreign=view.foreign or view.plan.foreign)


def note_of_a_longer_key(database: Any, key: str, name: str) -> Note:
    row = database.execute(
        "SELECT value, idx FROM notes WHERE key LIKE ? AND name = ?", (key + "%", name)
    ).fetchone()
    return Note(*row) if row else Note()


def end_with_notes(self: LocalLock) -> None:
    with self._store.write() as database:
        database.execute("DELETE FROM notes")
    REAL_END(self)


def acquire_without_plan(self: LocalLock, seen: LockView, record: Record) -> Lease | LockView:
    found = REAL_ACQUIRE(self, seen, record)
    return replace(found, plan=NO_PLAN) if isinstance(found, LockView) else found


REAL_WRITE_NOTE = LocalLock.write_note
REAL_LOCK_READ = LocalLock.read
REAL_END = LocalLock.end


class Mute(Watch):
    """A watch that never reports and never ends."""

    def poll(self, timeout: float) -> None:
        import time

        time.sleep(min(timeout, 1.0))

    def close(self) -> None:
        pass


class Chatty(Watch):
    """A watch that reports without end."""

    def poll(self, timeout: float) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        pass


def forgetful_tags(database: Any, node: str, instance_id: str, tags: tuple[str, ...]) -> None:
    database.execute(
        "UPDATE instances SET tags = ?, meta = '{}' WHERE node = ? AND id = ?",
        (json.dumps(tags), node, instance_id),
    )


def only_role_tags(self: TagChange, tags: tuple[str, ...]) -> tuple[str, ...]:
    return self.add


def shut_out_unproved(self: LocalRegistry, other: Instance, _: object) -> None:
    with self._store.write() as database:
        database.execute("UPDATE gates SET shut = 1 WHERE node = ?", (other.node,))


def tag_always(
    self: LocalRegistry, instance_id: str, change: TagChange, *, gate: Any = None, timeout: float
) -> None:
    with self._store.write() as database:
        self._apply(database, instance_id, change, gate)
        REAL_COUNT(database, "index")  # SQLite itself leaves out an update that changes nothing


def passing_only(*arguments: Any, **options: Any) -> list[Any]:
    return [one for one in REAL_READ(*arguments, **options) if one.instance.passing]


def publish_unfenced(
    self: LocalRegistry, lease: Lease, record: Record, instance_id: str, change: Any, gate: Any
) -> Lease:
    self.tag(instance_id, change, gate=gate, timeout=1)
    return lease


def ungated_tag(
    self: LocalRegistry, instance_id: str, change: TagChange, *, gate: Any = None, timeout: float
) -> None:
    with self._store.write() as database:
        self._apply(database, instance_id, change, None)


def takes_over(self: LocalQuery, database: Any, definition: QueryDefinition) -> bool:
    return False


def literal_tags(definition: QueryDefinition, instance: Any, _: Any) -> bool:
    return instance.passing and set(definition.tags) <= set(instance.tags)


def sick_too(definition: QueryDefinition, instance: Any, _: Any) -> bool:
    return set(definition.tags) <= set(instance.tags)


LOCK: list[tuple[str, Callable[..., Any], str]] = [
    ("leadertag_local.lock.LocalLock.confirm", confirm_all, "confirm_is_false_after_the_loss"),
    ("leadertag_local.lock.LocalLock.confirm", confirm_all, "confirm_tells_what_is_held"),
    ("leadertag_local.lock.LocalLock.confirm", confirm_by_writing, "confirm_writes_nothing"),
    ("leadertag_local.lock._compare", compare_nothing, "a_stale_lease_changes_nothing"),
    ("leadertag_local.lock._compare", compare_nothing,
     "an_older_term_of_the_same_session_changes_nothing"),
    ("leadertag_local.lock.count", same_term, "terms_strictly_increase"),
    ("leadertag_local.lock.LocalLock.acquire", acquire_blindly, "a_late_acquire_changes_nothing"),
    ("leadertag_local.lock.LocalLock.acquire", acquire_by_force, "a_held_lock_is_shown_not_given"),
    ("leadertag_local.lock.LocalLock.acquire", acquire_by_force, "one_of_many_contenders_wins"),
    ("leadertag_local.lock.LocalLock.acquire", acquire_by_force, "a_foreign_value_is_a_conflict"),
    ("leadertag_local.lock.LocalLock.acquire", acquire_by_force,
     "acquiring_with_a_dead_session_fails"),
    ("leadertag_local.lock.LocalLock.release", release_without_mark, "release_frees_and_marks"),
    ("leadertag_local.lock.LocalLock.release", nothing, "release_frees_and_marks"),
    ("leadertag_local.lock.LocalLock.discard", nothing, "discard_frees_without_a_mark"),
    ("leadertag_local.lock.LocalLock.discard", discard_as_release, "discard_frees_without_a_mark"),
    ("leadertag_local.lock.LocalLock.keep_alive", nothing,
     "keep_alive_tells_that_the_session_is_gone"),
    ("leadertag_local.lock.LocalLock.end", nothing, "end_ends_it_for_good"),
    ("leadertag_local.lock.LocalLock.close", LocalLock.end, "closing_ends_nothing"),
    ("leadertag_local.lock.LocalLock.watch", lambda *_: Mute(), "the_first_snapshot_comes_at_once"),
    ("leadertag_local.lock.LocalLock.watch", lambda *_: Mute(), "close_ends_a_blocked_poll"),
    ("leadertag_local.lock.LocalLock.watch", lambda *_: Chatty(), "nothing_changed_is_none"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_blindly,
     "only_the_note_that_was_read_is_replaced"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_blindly, "an_empty_value_removes"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_blindly,
     "what_is_not_there_is_removed_in_silence_but_never_replaced"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_by_force, "one_of_many_writers_wins"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_cut, "a_note_is_kept_as_it_is"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_cut,
     "a_value_that_is_too_large_is_a_conflict"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_into_the_lock,
     "a_held_lock_does_not_notice"),
    ("leadertag_local.lock.LocalLock.write_note", write_note_into_the_lock,
     "a_history_changes_no_view"),
    ("leadertag_local.lock.LocalLock.read_note", lambda *_: Note(), "a_note_is_kept_as_it_is"),
    ("leadertag_local.lock.LocalLock.read_note", read_any_note, "notes_of_two_names_do_not_mix"),
    ("leadertag_local.lock.LocalLock.read", read_without_plan,
     "a_plan_needs_no_lock_and_no_session"),
    ("leadertag_local.lock.LocalLock.read", read_with_foreign_plan,
     "a_foreign_note_leaves_the_lock_usable"),
    ("leadertag_local.lock.LocalLock.acquire", acquire_without_plan,
     "who_loses_a_race_sees_the_plan_as_well"),
    ("leadertag_local.lock.LocalLock.end", end_with_notes, "notes_outlive_sessions_and_holders"),
    ("leadertag_local.lock._note", note_of_a_longer_key, "keys_that_begin_alike_do_not_mix"),
    ("leadertag_local.lock.PLAN", CHANGES, "every_change_of_a_plan_is_reported"),
    ("leadertag_local.lock.PLAN", CHANGES, "a_history_changes_no_view"),
    ("leadertag_local.lock.LocalLock.watch", lambda *_: Mute(),
     "a_blocked_poll_is_woken_by_a_plan"),
    ("leadertag_local.lock.LocalLock.guard", lambda *_: nullcontext(),
     "an_unknown_guard_is_refused"),
]  # fmt: skip
REGISTRY: list[tuple[str, Callable[..., Any], str]] = [
    ("leadertag_local.registry.write_tags", forgetful_tags, "tagging_changes_the_role_tags_only"),
    ("leadertag.model.TagChange.apply", only_role_tags, "tagging_changes_the_role_tags_only"),
    ("leadertag_local.registry.LocalRegistry.tag", tag_always, "tagging_twice_writes_once"),
    ("leadertag_local.registry.LocalRegistry.tag", nothing, "an_unknown_instance_cannot_be_tagged"),
    ("leadertag_local.registry.LocalRegistry.tag", ungated_tag, "a_gate_is_registered_closed"),
    ("leadertag_local.registry.read_instances", passing_only, "members_are_all_passing_or_not"),
    ("leadertag_local.registry.LocalRegistry.open_gate", nothing,
     "an_opened_gate_passes_while_it_is_fed"),
    ("leadertag_local.registry.LocalRegistry.open_gate", nothing,
     "a_gate_that_is_not_registered_is_not_opened_in_silence"),
    ("leadertag_local.registry.LocalRegistry.heartbeat", nothing,
     "an_opened_gate_passes_while_it_is_fed"),
    ("leadertag_local.registry.LocalRegistry.close_gate", nothing,
     "a_closed_gate_stays_closed_and_registered"),
    ("leadertag_local.registry.LocalRegistry.remove_gates", nothing, "gates_are_removed"),
    ("leadertag_local.registry.LocalRegistry.shut_out", nothing,
     "another_is_shut_out_without_touching_its_registration"),
    ("leadertag_local.registry.demand_lock", nothing, "nobody_is_shut_out_with_a_lost_lease"),
    ("leadertag_local.registry.LocalRegistry.shut_out_lost", shut_out_unproved,
     "the_lost_are_shut_out_only_while_nobody_holds_the_lock"),
    ("leadertag_local.registry.LocalRegistry.shut_out_lost", shut_out_unproved,
     "the_lost_are_shut_out_in_the_term_that_was_seen"),
    ("leadertag_local.registry.LocalRegistry.publish", publish_unfenced, "publishing_is_one_step"),
    ("leadertag_local.registry.LocalRegistry.report", nothing,
     "an_instance_nobody_reported_on_does_not_pass"),
    ("leadertag_local.registry.LocalRegistry.deregister", nothing, "deregister_forgets"),
    ("leadertag_local.registry.LocalRegistry.watch_members", lambda *_: Mute(),
     "members_are_watched"),
]  # fmt: skip
QUERY: list[tuple[str, Callable[..., Any], str]] = [
    ("leadertag_local.query.LocalQuery.ensure", nothing, "ensure_creates_once"),
    ("leadertag_local.query.LocalQuery._stands", takes_over, "another_service_owns_the_name"),
    ("leadertag_local.query.LocalQuery.remove", nothing, "remove"),
    ("leadertag_local.query.LocalQuery.resolve", lambda *_: (), "all_tags_are_asked_for"),
    ("leadertag_local.query.answers", literal_tags, "a_tag_can_be_negated"),
]  # fmt: skip


def run(contract: Any, test: str, harness: LocalHarness) -> None:
    """Run one test of a contract as pytest would, with what it asks for."""
    found = {
        "harness": harness,
        "a": harness.join("a"),
        "b": harness.join("b"),
        "key": "redis/leader",
        "service": "redis",
        "phase": locks.Phase.RELEASED,
        "name": PLAN,
        "there": True,
        "wanted": QueryDefinition("leader", "redis", ("master", "sensu")),
    }
    method = getattr(contract, f"test_{test}")
    method(**{name: found[name] for name in inspect.signature(method).parameters})


CASES = [
    pytest.param(contract, *case, id=f"{case[0].rpartition('.')[2]}-{case[2]}")
    for contract, cases in ((LockContract(), LOCK), (RegistryContract(), REGISTRY),
                            (QueryContract(), QUERY))
    for case in cases
]  # fmt: skip


@pytest.mark.parametrize(("contract", "target", "mutant", "test"), CASES)
def test_a_broken_backend_is_found(
    contract: Any,
    target: str,
    mutant: Callable[..., Any],
    test: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(contract, test, LocalHarness(tmp_path))  # sound as it is
    monkeypatch.setattr(target, mutant)
    (tmp_path / "mutant").mkdir()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(contract, test, ImpatientHarness(tmp_path / "mutant"))


@pytest.mark.parametrize(
    ("mutant", "how"),
    [(publish_unfenced, "stale"), (publish_unfenced, "released"), (publish_unfenced, "expired")],
)
def test_an_unfenced_publish_is_found(
    mutant: Callable[..., Any], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalRegistry, "publish", mutant)
    harness = ImpatientHarness(tmp_path)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        RegistryContract().test_publishing_without_the_lock_changes_nothing(
            harness, harness.join("a"), harness.join("b"), "redis", "redis/leader", how
        )


def test_sick_instances_that_resolve_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadertag_local.query.answers", sick_too)
    harness = ImpatientHarness(tmp_path)
    wanted = QueryDefinition("leader", "redis", ("master", "sensu"))
    with pytest.raises(AssertionError):
        QueryContract().test_the_sick_do_not_resolve(
            harness, harness.join("a"), harness.join("b"), wanted, True,
            rows.Health.CRITICAL, False,
        )  # fmt: skip
