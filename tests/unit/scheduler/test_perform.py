"""Effects are straight sequences of verbs: their order is what safety rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import pytest

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.errors import BackendUnavailable, Changed, LeaseLost, NotRegistered
from leadertag.model import (
    Check,
    Gate,
    Health,
    Instance,
    Lease,
    LockView,
    Phase,
    Record,
    TagChange,
)
from leadertag.providers import FencedRegistry, LockProvider, QueryProvider, RegistryProvider
from leadertag.scheduler.perform import Performer, attempt

RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.ELECTED, term=7, lease=3.0)
LEASE = Lease("redis/q", 7, 9, "s", RECORD)
CHANGE = TagChange(add=("master",), remove=("slave",))
GATE = Gate("redis", 7)
PUBLISH = ev.Publish(1, LEASE, replace(RECORD, phase=Phase.LEADING), "r", CHANGE, GATE)


class Steps:
    """A clock that counts its readings."""

    def __init__(self) -> None:
        self.reads = 0.0

    def now(self) -> float:
        self.reads += 1.0
        return self.reads

    def boot(self) -> str:
        return "b"


def make(*, fenced: bool = False) -> tuple[Performer, MagicMock]:
    """Return a performer over recording providers that hold every lock."""
    world = MagicMock()
    world.lock = MagicMock(spec=LockProvider)
    world.registry = MagicMock(spec=FencedRegistry if fenced else RegistryProvider)
    world.lock.confirm.side_effect = lambda leases: frozenset(lease.key for lease in leases)
    world.lock.update.side_effect = lambda lease, record: replace(lease, index=10, record=record)
    if fenced:
        world.registry.publish.side_effect = lambda lease, record, *_: replace(
            lease, index=10, record=record
        )
    query = MagicMock(spec=QueryProvider)
    providers = Providers(world.lock, world.registry, query, "x", "x", "x")
    election = ElectionSettings("redis", "redis", "here", query="q")
    return Performer(election, providers, MagicMock(), Steps(), fenced), world


def names(world: MagicMock) -> list[str]:
    return [call[0] for call in world.mock_calls]


def test_publishing_confirms_tags_confirms_and_only_then_opens() -> None:
    performer, world = make()
    publication = performer.perform(PUBLISH)
    assert names(world) == [
        "lock.confirm", "lock.update", "registry.tag", "registry.remove_gates",
        "lock.confirm", "registry.open_gate",
    ]  # fmt: skip
    assert world.registry.tag.call_args.kwargs["gate"] == GATE
    assert publication.lease.index == 10
    assert publication.sent_at == 2.0, "counts from the sending of the last confirmation"


def test_publishing_under_the_lease_is_one_transaction() -> None:
    performer, world = make(fenced=True)
    performer.perform(PUBLISH)
    assert names(world) == [
        "lock.confirm", "registry.publish", "registry.remove_gates",
        "lock.confirm", "registry.open_gate",
    ]  # fmt: skip


@pytest.mark.parametrize("lost_at", [1, 2])
def test_a_lost_lock_never_opens_the_gate(lost_at: int) -> None:
    performer, world = make()
    answers = [frozenset({LEASE.key})] * (lost_at - 1) + [frozenset()]
    world.lock.confirm.side_effect = answers
    with pytest.raises(LeaseLost):
        performer.perform(PUBLISH)
    world.registry.open_gate.assert_not_called()
    if lost_at == 1:
        world.registry.tag.assert_not_called()


def test_an_unconfirmed_lock_never_opens_the_gate() -> None:
    performer, world = make()
    world.lock.confirm.side_effect = BackendUnavailable("no quorum")
    with pytest.raises(BackendUnavailable):
        performer.perform(PUBLISH)
    world.registry.tag.assert_not_called()


def test_publishing_again_writes_no_record() -> None:
    performer, world = make()
    published = replace(LEASE, record=replace(PUBLISH.record, since="2026-01-01T00:00:00Z"))
    performer.perform(replace(PUBLISH, lease=published))
    world.lock.update.assert_not_called()


def test_retracting_closes_before_it_untags_and_removes_the_gate_last() -> None:
    performer, world = make()
    performer.perform(ev.Retract(1, "r", TagChange(remove=("master",)), GATE))
    assert names(world) == ["registry.close_gate", "registry.tag", "registry.remove_gates"]


def test_retracting_untags_where_the_gate_is_gone_already() -> None:
    performer, world = make()
    world.registry.close_gate.side_effect = NotRegistered("no such check")
    performer.perform(ev.Retract(1, "r", TagChange(remove=("master",)), GATE))
    world.registry.tag.assert_called_once()


def test_shutting_out_reads_the_members_afterwards() -> None:
    performer, world = make()
    other: Any = object()
    performer.perform(ev.ShutOut(1, (other, other), LEASE))
    assert names(world) == ["registry.shut_out", "registry.shut_out", "registry.members"]


LOST = Instance(
    "r", "n2", "redis", "10.0.0.2", 6379, ("master",),
    (Check("leadertag:redis:6", Health.PASSING, own=True),), gate=6,
)  # fmt: skip
FREE = LockView("redis/q", 8, "", RECORD)


MINE = replace(LOST, node="n1")


@pytest.mark.parametrize("lease", [LEASE, None])
def test_whoever_was_left_published_is_shut_out_but_oneself(lease: Lease | None) -> None:
    performer, world = make()
    world.registry.members.return_value = (MINE, LOST, replace(LOST, node="n3", gate=None))
    performer.perform(ev.ShutOutLost(1, "n1/r", FREE, lease))
    assert names(world) == ["registry.members", "registry.shut_out_lost"]
    assert world.registry.shut_out_lost.call_args.args == (LOST, lease or FREE)


@pytest.mark.parametrize("listed", [(), (LOST,)])
def test_a_list_without_oneself_is_not_taken_for_all_there_are(listed: Any) -> None:
    performer, world = make()
    world.registry.members.return_value = listed
    with pytest.raises(BackendUnavailable):
        performer.perform(ev.ShutOutLost(1, "n1/r", FREE, None))
    world.registry.shut_out_lost.assert_not_called()


@pytest.mark.parametrize(("index", "holder"), [(8, ""), (9, ""), (8, "s")])
def test_a_lock_elsewhere_is_looked_at_before_the_lost_are_shut_out(
    index: int, holder: str
) -> None:
    performer, world = make()
    performer.providers = replace(performer.providers, lock_backend="y")
    world.registry.members.return_value = (MINE, LOST)
    world.lock.read.return_value = replace(FREE, index=index, holder=holder)
    effect = ev.ShutOutLost(1, "n1/r", FREE, None)
    if world.lock.read.return_value == FREE:
        performer.perform(effect)
        assert names(world) == ["registry.members", "lock.read", "registry.shut_out_lost"]
        return
    with pytest.raises(Changed):
        performer.perform(effect)
    world.registry.shut_out_lost.assert_not_called()


def test_a_taken_guard_is_left_again() -> None:
    performer, world = make()
    guard = MagicMock()
    guard.__enter__.return_value = False
    world.lock.guard.return_value = guard
    assert performer.perform(ev.EnterGuard(1)) is None
    guard.__exit__.assert_called_once()
    world.registry.members.assert_not_called()


def test_a_guard_under_which_nothing_can_be_read_is_left_again() -> None:
    performer, world = make()
    guard = MagicMock()
    guard.__enter__.return_value = True
    world.lock.guard.return_value = guard
    world.registry.members.side_effect = BackendUnavailable("no server")
    with pytest.raises(BackendUnavailable):
        performer.perform(ev.EnterGuard(1))
    guard.__exit__.assert_called_once()


def test_the_guard_is_held_until_it_is_left() -> None:
    performer, world = make()
    guard = MagicMock()
    guard.__enter__.return_value = True
    world.lock.guard.return_value = guard
    performer.perform(ev.EnterGuard(1))
    guard.__exit__.assert_not_called()
    performer.perform(ev.LeaveGuard(2))
    guard.__exit__.assert_called_once()


def test_every_outcome_comes_back_to_the_machine() -> None:
    effect = ev.ReadMembers(1)

    def broken(_: ev.Effect) -> None:
        raise ZeroDivisionError

    done = attempt(broken, effect, Steps())
    assert done.effect == effect
    assert isinstance(done.error, BackendUnavailable), "the machine must not wait for ever"
