"""The history that a new leader writes: whom it succeeds, why, and how long nobody led."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leadertag.election import events as ev
from leadertag.election.states import State
from leadertag.errors import Changed
from leadertag.hookspecs import HookEvent
from leadertag.model import LockView, Phase
from tests.unit.election.driver import (
    LEASE,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    lead,
    policy,
    record,
    released,
    vanished,
)
from tests.unit.election.test_planned import ME, OTHER, follower


def promoted(d: Driver) -> Any:
    d.grant()
    while isinstance(d.s.pending, ev.RunHook):
        d.done(OK)
    d.done((d.s.instance,))
    d.now += 0.25
    return d.publish().wants(ev.RecordChange).change


def test_the_new_leader_writes_whom_it_succeeds_and_why() -> None:
    d = follower()
    d.now += 1.0
    gone = record(phase=Phase.RELEASED, reason="its probe failed")
    d.lock(LockView(held().key, 21, "", gone))
    change = promoted(d)
    assert (change.term, change.before, change.after) == (30, OTHER, ME)
    assert change.reason == "its probe failed"
    assert change.vacant == pytest.approx(0.25)


def test_a_leader_that_vanished_is_told_as_such() -> None:
    d = follower().lock(vanished(21))
    d.grant()
    d.finish(d.wants(ev.ShutOutLost))
    d.hold(LEASE)
    assert d.state is State.PROMOTING
    d.done(OK)
    d.done((d.s.instance,))
    change = d.publish().wants(ev.RecordChange).change
    assert (change.before, change.reason) == (OTHER, "it vanished without a word")
    assert change.vacant == pytest.approx(LEASE)


def test_a_change_that_nobody_saw_has_no_time() -> None:
    change = promoted(Driver(policy(HookEvent.PROMOTE)).ready(released()))
    assert (change.before, change.vacant) == (OTHER, None)


def test_a_candidate_in_between_that_failed_is_not_who_led() -> None:
    d = follower()
    d.now += 1.0
    gone = record(phase=Phase.RELEASED, reason="stopped")
    d.s = replace(d.s, stand_back_until=d.now + 5.0)  # another one is faster
    d.lock(LockView(held().key, 21, "", gone))
    d.lock(held(22, name="third", phase=Phase.ELECTED, term=8))
    d.lock(LockView(held().key, 23, "", record("third", Phase.RELEASED, 8, reason="veto")))
    d.now += 5.0
    change = promoted(d.feed(ev.Tick(d.now)))
    assert (change.before, change.reason) == (OTHER, "stopped")


def test_history_is_written_again_until_it_stands() -> None:
    d = lead()
    change = d.wants(ev.RecordChange)
    d.finish(change, error=Changed("it is another by now"))
    d.hold(0.5)
    again = d.wanted(ev.RecordChange)
    assert len(again) == 2
    d.finish(again[-1])
    d.hold(1.0)
    assert len(d.wanted(ev.RecordChange)) == 2


def test_a_restart_writes_no_history() -> None:
    memory = lead().s.remembered()
    d = Driver(memory=memory).ready(held(40, SESSION, name="me", term=30), instance("me", "master"))
    d.done(replace(memory.lease, index=32) if memory.lease else None)
    d.publish()
    assert d.state is State.LEADING
    assert not d.wanted(ev.RecordChange)
