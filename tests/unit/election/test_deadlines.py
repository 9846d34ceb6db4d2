"""When the guardian strikes: so that what it does itself still ends with the lease, if it can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.election import deadlines
from leadertag.election import events as ev
from leadertag.election.machine import begin, give_up, step
from leadertag.election.policy import LEAST_DEMOTE, RATE, SLACK
from leadertag.election.standing import Standing
from leadertag.election.states import State
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Lease, Phase
from tests.unit.election.driver import FAILED, HOOKS, KEY, LEASE, Driver, lead, policy, record

DEMOTE, FENCE = HOOKS[HookEvent.DEMOTE], HOOKS[HookEvent.FENCE]
NOTHING = 0.0
"""When the process began to speak for its member: of no matter to whoever holds its lock."""


def leader() -> Driver:
    return lead(HookEvent.PROMOTE, HookEvent.DEMOTE, HookEvent.FENCE)


def told(s: Standing) -> deadlines.Deadlines:
    found = deadlines.of(s, NOTHING)
    assert found is not None
    return found


def room(s: Standing, strike_at: float) -> float:
    """Return the seconds that a strike leaves of the lease."""
    return s.confirmed_at + RATE * LEASE - strike_at


def test_a_silent_leader_leaves_room_for_both_hooks() -> None:
    s = leader().s
    found = told(s)
    assert not found.gives_up
    assert room(s, found.strike_at) == pytest.approx(DEMOTE + FENCE + SLACK / 2)


@pytest.mark.parametrize("phase", ["demoting", "fencing", "retracting"])
def test_whoever_gives_up_in_contact_is_relieved_while_both_still_fit(phase: str) -> None:
    d = leader()
    d.stop()
    if phase != "retracting":
        d.done()
    if phase == "fencing":
        d.done(FAILED)
    assert d.state == phase
    found = told(d.s)
    assert found.gives_up
    assert room(d.s, found.strike_at) == pytest.approx(DEMOTE + FENCE + SLACK / 2)


def test_one_that_lives_says_so_when_the_room_for_both_begins_and_goes_on() -> None:
    d = leader()
    d.wait(d.s.contact_ends - d.now - DEMOTE / 2)
    d.stop().done()
    assert deadlines.word_at(d.s) == d.s.contact_ends
    d.now = d.s.contact_ends
    d.feed(ev.Tick(d.now))
    assert d.state is State.DEMOTING
    assert deadlines.word_at(d.s) is None
    own_end = d.s.entered + DEMOTE
    assert told(d.s).strike_at == pytest.approx(max(own_end, d.now) + deadlines.GUARDIAN_LAG)


def test_without_contact_a_demotion_has_its_time_and_leaves_the_fence_its_own() -> None:
    d = leader()
    d.wait(d.s.contact_ends - d.now)
    assert d.state is State.DEMOTING
    assert room(d.s, told(d.s).strike_at) == pytest.approx(FENCE + SLACK / 2)
    d.now += DEMOTE
    d.done(FAILED)
    assert d.state is State.FENCING
    assert told(d.s).strike_at == pytest.approx(d.now + FENCE + deadlines.GUARDIAN_LAG)


def test_a_quick_step_down_wakes_no_guardian_and_a_slow_one_finds_it_ready() -> None:
    d = leader()
    before = told(d.s).prepare_at
    d.stop().done()
    assert d.now < told(d.s).prepare_at <= min(before, d.now + SLACK)


def _orphan(state: State, confirmed_at: float) -> ev.Memory:
    lease = Lease(KEY, 30, 31, "mine", record("me", Phase.LEADING, 30))
    return ev.Memory("mine", lease, 30, str(state), acting=True, confirmed_at=confirmed_at)


def _begun_anew(at: float, *hooks: HookEvent) -> RoleChange:
    """What a guardian's first demotion is told, ``at`` seconds after the last confirmation."""
    memory = _orphan(State.DEMOTING, 100.0)
    s = give_up(policy(*hooks), 100.0 + at, memory, "gone")
    _, effects = step(s, ev.Tick(100.0 + at))
    return next(e.change for e in effects if isinstance(e, ev.RunHook))


BOTH = (HookEvent.PROMOTE, HookEvent.DEMOTE, HookEvent.FENCE)
LIMIT = policy(*BOTH).contact_limit


def test_a_demotion_anew_has_its_whole_limit_where_the_lease_has_time() -> None:
    assert _begun_anew(LIMIT + SLACK / 2, *BOTH).timeout == DEMOTE


@pytest.mark.parametrize("gone", [0.2, 0.4])
def test_a_demotion_anew_is_cut_short_so_that_fence_still_ends_in_time(gone: float) -> None:
    granted = _begun_anew(LIMIT + SLACK + gone, *BOTH).timeout
    assert 0 < granted < DEMOTE
    assert LIMIT + SLACK + gone + granted + FENCE <= RATE * LEASE


def test_it_is_tried_all_the_same_when_only_fence_is_left() -> None:
    assert _begun_anew(RATE * LEASE - FENCE, *BOTH).timeout == LEAST_DEMOTE


def test_it_has_its_whole_limit_where_nothing_could_follow_in_time() -> None:
    late, unfenced = RATE * LEASE + 0.1, (HookEvent.PROMOTE, HookEvent.DEMOTE)
    assert _begun_anew(late, *BOTH).timeout == DEMOTE
    assert _begun_anew(RATE * LEASE - 0.1, *unfenced).timeout == DEMOTE


def test_a_restart_keeps_the_deadline_of_what_it_cannot_take_back() -> None:
    s = begin(policy(*BOTH), 100.5, _orphan(State.RETRACTING, 100.0))
    s = replace(s, state=State.DEMOTING, entered=100.5)
    assert told(s).strike_at == pytest.approx(100.0 + LIMIT + deadlines.GUARDIAN_LAG)
    assert told(s).gives_up
