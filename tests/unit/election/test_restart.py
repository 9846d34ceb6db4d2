"""Adoption, orphaned locks, memory: what a process finds of the one before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leadertag.election import events as ev
from leadertag.election.machine import begin, resume, step
from leadertag.election.states import LED as PUBLISHED
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable, LeaseLost
from leadertag.hookspecs import HookEvent
from leadertag.model import Lease, Phase, Role
from tests.unit.election.driver import (
    KEY,
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

LED = record("me", Phase.LEADING, 30)
RULES = policy(HookEvent.PROMOTE, HookEvent.DEMOTE)


def memory(**more: Any) -> ev.Memory:
    """Return what a leader of term 30 leaves behind."""
    values: dict[str, Any] = {
        "session": SESSION, "lease": Lease(KEY, 30, 31, SESSION, LED), "term": 30,
        "state": "leading", "acting": True, "waited": True, "seen_term": 30, **more,
    }  # fmt: skip
    return ev.Memory(**values)


def own_lock(**more: Any) -> Any:
    return held(31, SESSION, name="me", **{"term": 30, **more})


def restarted(left: ev.Memory | None, view: Any = None, own: Any = None) -> Driver:
    d = Driver(RULES, memory=left)
    return d.ready(view or own_lock(), own or instance("me", "master", gate=30))


# -- adoption -----------------------------------------------------------------------------


def test_a_restarted_leader_takes_its_lock_back_and_goes_on_leading() -> None:
    d = restarted(memory())
    adopt = d.wants(ev.Adopt)
    assert (d.state, adopt.view, adopt.record.incarnation) == (State.ADOPTING, own_lock(), 1)
    d.done(Lease(KEY, 30, 40, SESSION, adopt.record))
    publish = d.wants(ev.Publish)
    assert (d.state, publish.lease.term, publish.record.incarnation) == (State.PUBLISHING, 30, 1)
    d.publish()
    assert (d.state, d.s.role, d.s.acting) == (State.LEADING, Role.LEADER, True)
    assert not d.wanted(ev.RunHook)  # its service leads already


def test_an_adopted_lease_counts_from_when_adoption_was_asked_for() -> None:
    d = restarted(memory())
    asked_at, ask = d.now, d.wants(ev.Adopt)
    d.now += 0.5
    assert d.done(Lease(KEY, 30, 40, SESSION, ask.record)).s.confirmed_at == asked_at


@pytest.mark.parametrize(
    ("left", "view"),
    [
        (None, own_lock()),
        (memory(lease=None), own_lock()),
        (memory(acting=False), own_lock()),
        (memory(state="promoting"), own_lock()),
        (memory(state="demoting"), own_lock()),
        (memory(), own_lock(term=29)),
        (memory(), own_lock(phase=Phase.ELECTED)),
        (memory(), own_lock(phase=Phase.STUCK)),
    ],
    ids=["no memory", "no lease", "demoted before", "was promoting", "was demoting",
         "another term", "not published", "stuck"],
)  # fmt: skip
def test_anything_else_is_given_up_and_never_adopted(left: ev.Memory | None, view: Any) -> None:
    d = restarted(left, view)
    assert not d.wanted(ev.Adopt)
    if left is not None and left.acting:
        assert d.hook() is HookEvent.DEMOTE
        d.done(OK)
    assert d.state is State.RELEASING
    assert d.wants(ev.Discard).view == view


def test_a_member_that_is_not_registered_adopts_nothing() -> None:
    d = Driver(RULES, memory=memory())
    d.feed(ev.SessionOpened(d.now, SESSION)).see(None).lock(own_lock())
    assert d.state is State.DEMOTING


def test_the_lock_of_another_session_is_not_its_own() -> None:
    d = restarted(memory(), held(40, "theirs", phase=Phase.LEADING))
    assert d.hook() is HookEvent.DEMOTE
    assert d.wants(ev.RunHook).change.term == 30
    d.done(OK)
    assert d.state is State.WATCHING
    assert not d.wanted(ev.Discard)


def test_a_leader_that_lost_its_lock_meanwhile_is_demoted_before_it_campaigns() -> None:
    d = restarted(memory(), vanished(40, term=30))
    assert d.hook() is HookEvent.DEMOTE
    assert not d.wanted(ev.Acquire)


def test_a_failed_adoption_is_tried_again_and_a_refused_one_given_up() -> None:
    d = restarted(memory())
    d.done(error=BackendUnavailable("no answer"))
    assert d.state is State.WATCHING
    d.wait(0.11)
    assert d.state is State.ADOPTING
    d.done(error=LeaseLost("changed since"))
    d.wait(0.3)
    assert d.state is State.DEMOTING


def test_a_restart_in_the_middle_of_demoting_still_knows_the_term() -> None:
    first = lead()
    first.lock(held(90))
    assert first.state is State.DEMOTING
    left = first.wanted(ev.Remember)[-1].memory
    assert (left.lease, left.acting) == (None, True)
    d = Driver(RULES, memory=left).see(instance())
    assert (d.state, d.hook()) == (State.DEMOTING, HookEvent.DEMOTE)
    assert d.wants(ev.RunHook).change.term == 30


@pytest.mark.parametrize("state", sorted(set(State) - set(PUBLISHED)))
def test_what_cannot_be_taken_back_is_demoted_without_a_look_at_the_lock(state: State) -> None:
    d = Driver(RULES, memory=replace(memory(), state=str(state))).see(instance())
    assert (d.state, d.hook()) == (State.DEMOTING, HookEvent.DEMOTE)


@pytest.mark.parametrize("state", sorted(PUBLISHED))
def test_what_may_be_taken_back_waits_for_the_lock(state: State) -> None:
    d = Driver(RULES, memory=replace(memory(), state=str(state))).see(instance())
    assert d.state is State.STARTING
    assert not d.wanted(ev.RunHook)


def test_another_restart_before_anything_was_done_finds_the_same_memory() -> None:
    left = memory()
    assert begin(RULES, 5.0, left).remembered() == left


def test_discarding_marks_nothing_and_waits_like_everybody_else() -> None:
    d = restarted(None)
    d.done()
    d.see(instance()).lock(vanished(50, term=30))
    d.grant(60)
    assert d.state is State.WAITING_OUT


# -- what is remembered ---------------------------------------------------------------------


def test_confirmations_alone_write_nothing() -> None:
    d = lead()
    before = len(d.wanted(ev.Remember))
    d.hold(2.0)
    assert len(d.wanted(ev.Remember)) == before


def test_what_must_survive_stands_before_what_builds_on_it() -> None:
    d = lead().stop().done()
    kinds = [type(effect) for effect in d.effects]
    assert kinds[0] is ev.Remember
    d.done(OK)
    assert isinstance(d.effects[0], ev.Remember)


# -- one-shot check ---------------------------------------------------------------------------


def test_a_leading_run_resumes_leading() -> None:
    s = resume(RULES, 105.0, memory(confirmed_at=104.0))
    assert (s.state, s.role, s.acting, s.confirmed_at) == (State.LEADING, Role.LEADER, True, 104.0)


def test_a_waiting_run_goes_on_waiting() -> None:
    left = memory(state="waiting_out", acting=False, waited=False, wait_until=107.0)
    s = resume(RULES, 105.0, left)
    assert (s.state, s.wait_until, s.waited) == (State.WAITING_OUT, 107.0, False)


@pytest.mark.parametrize(
    ("left", "state"),
    [
        (memory(state="promoting"), State.STUCK),
        (memory(state="publishing"), State.STUCK),
        (memory(state="demoting"), State.STUCK),
        (memory(state="vetting", acting=False), State.RELEASING),
    ],
)
def test_a_run_that_was_cut_short_gives_up(left: ev.Memory, state: State) -> None:
    s = resume(RULES, 105.0, left)
    assert s.state is state
    s, effects = step(s, ev.Tick(105.0))
    wanted = ev.RunHook if left.acting else ev.Release
    assert [e for e in effects if isinstance(e, wanted)]


def test_a_lease_of_another_session_is_not_resumed() -> None:
    s = resume(RULES, 105.0, replace(memory(), session="new"))
    assert (s.state, s.lease) == (State.STARTING, None)


def test_stopping_marks_the_release_only_where_the_wait_is_over() -> None:
    d = Driver(RULES).ready(released()).grant()
    d.stop().done(OK)
    assert d.wants(ev.Release).record.phase is Phase.RELEASED
