"""DESIGN section 4: campaigning, waiting out; and news that comes late."""

from __future__ import annotations

import pytest

from leadertag.election import events as ev
from leadertag.election.guards import aside
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Lease, LockView, Phase
from tests.unit.election.driver import (
    KEY,
    LEASE,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    missing,
    policy,
    record,
    released,
    vanished,
)

# -- campaigning ---------------------------------------------------------------------


def test_nothing_is_decided_before_session_lock_and_instance_are_known() -> None:
    d = Driver()
    d.lock(released())
    d.see(instance())
    assert d.state is State.STARTING
    d.feed(ev.SessionOpened(d.now, SESSION))
    assert d.state is State.ACQUIRING


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (instance(health=Health.WARNING), "its health is warning"),
        (instance(health=Health.CRITICAL), "its health is critical"),
        (instance("me", "master"), "its own stale leader tag has to go first"),
    ],
)
def test_unfit_members_do_not_campaign(own: object, why: str) -> None:
    d = Driver().ready(released(), own)  # type: ignore[arg-type]
    assert d.state is State.WATCHING
    assert aside(d.s) == why


def test_an_instance_without_the_elections_own_tags_does_not_campaign() -> None:
    d = Driver(policy(tags=("sensu",))).ready(released())
    assert aside(d.s) == "it lacks the tag 'sensu'"
    assert d.see(instance("me", "sensu")).state is State.ACQUIRING


def test_nobody_campaigns_while_somebody_holds_the_lock() -> None:
    d = Driver().ready(held())
    assert d.state is State.WATCHING
    assert d.lock(released(21)).state is State.ACQUIRING


def test_a_foreign_value_in_the_key_is_left_alone() -> None:
    d = Driver().ready(LockView(KEY, 20, "", None, foreign=True))
    assert d.state is State.WATCHING
    assert "not leadertag's" in aside(d.s)


def test_a_failed_probe_outranks_the_registry() -> None:
    d = Driver()
    d.feed(ev.ProbeSeen(d.now, Health.CRITICAL))
    assert d.ready(released()).state is State.WATCHING
    d.feed(ev.ProbeSeen(d.now, Health.PASSING))
    assert d.state is State.ACQUIRING


def test_own_checks_do_not_count_for_health() -> None:
    # A closed gate of its own makes it unresolvable, not unfit; but it is stale, and goes first.
    d = Driver().ready(released(), instance(gate=3))
    assert d.s.unfit == ""
    assert d.wants(ev.SetTags).change.remove == ("master",)


def test_whoever_was_beaten_watches_on() -> None:
    d = Driver().ready(released())
    assert d.done(held(21)).state is State.WATCHING
    assert d.s.view == held(21)


def test_an_answer_later_than_the_watch_does_not_turn_the_picture_back() -> None:
    d = Driver().ready(released(20))
    d.lock(held(25, phase=Phase.LEADING))
    d.done(held(21, phase=Phase.ELECTED))  # how it stood when we were beaten
    assert d.s.view is not None
    assert d.s.view.index == 25
    assert d.wanted(ev.RunHook)[-1].change.event is HookEvent.FOLLOW


def test_acquiring_backs_off_when_the_backend_is_gone() -> None:
    d = Driver().ready(released())
    d.done(error=BackendUnavailable("no answer"))
    assert d.state is State.WATCHING
    assert d.wait(0.05).state is State.WATCHING
    assert d.wait(0.06).state is State.ACQUIRING


def test_a_term_at_or_below_one_seen_is_given_back() -> None:
    d = Driver().ready(released(20, term=40))
    d.grant(term=40)
    assert d.state is State.RELEASING
    d = Driver().ready(released(20, term=40))
    assert d.grant(term=41).state is State.VETTING


# -- waiting out -----------------------------------------------------------------------


def test_a_lock_given_back_in_order_owes_no_wait() -> None:
    d = Driver().ready(released())
    assert d.grant().state is State.VETTING


def test_an_unexplained_loss_is_waited_out_from_the_first_observation() -> None:
    d = Driver().ready(vanished())
    d.now += 1.0  # the answer takes its time
    d.grant()
    assert d.state is State.WAITING_OUT
    assert d.hold(LEASE - 1.01).state is State.WAITING_OUT
    assert d.wait(0.02).state is State.VETTING


def test_a_longer_lease_in_the_record_is_waited_out() -> None:
    d = Driver().ready(vanished(lease=2 * LEASE)).grant()
    d.hold(5.0)
    assert d.state is State.WAITING_OUT
    assert d.wait(1.01).state is State.VETTING


def test_the_wait_starts_over_when_the_lock_changed_while_it_was_free() -> None:
    d = Driver().ready(vanished(20), instance(health=Health.CRITICAL))
    d.wait(2.0)
    d.lock(vanished(26))  # held and lost again in between, unseen
    d.wait(2.0)
    d.see(instance()).grant()
    assert d.state is State.WAITING_OUT
    d.confirm(sent_at=d.now)
    assert d.wait(0.98).state is State.WAITING_OUT
    assert d.wait(0.03).state is State.VETTING


def test_the_wait_goes_on_while_nothing_changes() -> None:
    d = Driver().ready(vanished(20), instance(health=Health.CRITICAL))
    d.wait(2.0)
    d.lock(vanished(20))
    d.wait(1.01)
    assert d.see(instance()).grant().state is State.VETTING


def test_a_missing_key_is_waited_out_from_the_acquisition() -> None:
    # A key that is missing has no index: it may have been held and deleted again unseen.
    d = Driver().ready(held(20))
    d.see(instance(health=Health.CRITICAL)).lock(missing())
    d.wait(2 * LEASE)
    d.see(instance()).grant()
    assert d.state is State.WAITING_OUT
    assert d.hold(LEASE - 0.01).state is State.WAITING_OUT
    assert d.wait(0.02).state is State.VETTING


def test_a_missing_key_of_an_earlier_life_is_no_observation() -> None:
    memory = ev.Memory(session="old", free_since=1.0, free_index=0, wait=LEASE, seen_term=7)
    d = Driver(memory=memory).ready(missing()).grant()
    assert d.state is State.WAITING_OUT
    assert d.hold(LEASE - 0.01).state is State.WAITING_OUT


def test_an_observation_of_an_earlier_life_counts_while_nothing_has_changed() -> None:
    memory = ev.Memory(session="old", free_since=98.0, free_index=20, wait=LEASE, seen_term=7)
    d = Driver(memory=memory).ready(vanished(20)).grant()
    d.confirm(sent_at=d.now)
    assert d.wait(0.98).state is State.WAITING_OUT
    assert d.wait(0.03).state is State.VETTING
    changed = Driver(memory=memory).ready(vanished(21)).grant()
    changed.confirm(sent_at=changed.now)
    assert changed.wait(1.1).state is State.WAITING_OUT


def test_the_first_election_ever_owes_no_wait() -> None:
    d = Driver().ready(missing()).grant()
    assert isinstance(d.s.pending, ev.ReadMembers)
    assert d.done((instance(), instance("other", "blue"))).state is State.VETTING


@pytest.mark.parametrize("other", [instance("other", "master"), instance("other", gate=3)])
def test_somebody_who_looks_like_a_leader_is_waited_out_even_then(other: object) -> None:
    d = Driver().ready(missing()).grant()
    d.done((instance(), other))
    assert d.state is State.WAITING_OUT
    assert d.hold(LEASE - 0.01).state is State.WAITING_OUT
    assert d.wait(0.02).state is State.VETTING


@pytest.mark.parametrize("listed", [(), (instance("other"),)])
def test_a_list_without_the_reader_itself_is_doubt(listed: tuple[object, ...]) -> None:
    d = Driver().ready(missing()).grant()
    d.done(listed)
    assert d.state is State.WAITING_OUT


def test_a_failed_read_is_not_taken_for_an_empty_list() -> None:
    d = Driver().ready(missing()).grant()
    d.done(error=BackendUnavailable("no answer"))
    assert d.state is State.WAITING_OUT


def test_whoever_has_seen_a_term_knows_that_it_is_not_the_first_election() -> None:
    d = Driver().ready(held(20, term=7)).lock(missing())
    d.grant()
    assert d.state is State.WAITING_OUT
    assert d.s.pending is None


@pytest.mark.parametrize("seen", [held(20, term=7), held(20, term=0), released(21)])
def test_it_is_not_the_first_election_when_somebody_was_faster_meanwhile(seen: LockView) -> None:
    d = Driver().ready(missing()).lock(seen)  # and then deleted, before the request arrived
    d.grant()
    assert d.state is State.WAITING_OUT
    assert d.s.pending is None


def test_the_own_acquisition_seen_before_its_answer_is_no_other_election() -> None:
    d = Driver().ready(missing()).lock(held(30, SESSION, name="me", term=0))
    d.grant(30)
    assert isinstance(d.s.pending, ev.ReadMembers)


def test_health_lost_while_waiting_releases_without_the_mark() -> None:
    d = Driver().ready(vanished()).grant()
    d.see(instance(health=Health.CRITICAL))
    assert d.state is State.RELEASING
    assert d.wants(ev.Release).record.phase is Phase.ELECTED


def test_health_lost_after_waiting_releases_with_the_mark() -> None:
    d = Driver().ready(released()).grant()
    assert d.state is State.VETTING
    d.see(instance(health=Health.CRITICAL))
    assert d.wants(ev.Release).record.phase is Phase.RELEASED


def test_waiting_needs_contact_too() -> None:
    d = Driver().ready(vanished()).grant()
    d.wait(d.s.policy.contact_limit + 0.01)
    assert d.state is State.RELEASING
    assert d.wanted(ev.Release)[0].record.phase is Phase.ELECTED


# -- late news --------------------------------------------------------------------------------


def test_outcomes_of_what_is_not_waited_for_any_more_are_ignored() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant()
    promote = d.s.pending
    assert promote is not None
    d.see(instance(health=Health.CRITICAL))
    assert d.state is State.DEMOTING
    assert d.finish(promote, OK).state is State.DEMOTING
    assert d.done(OK).state is State.RELEASING


def test_a_lease_that_is_granted_too_late_to_be_told_is_not_taken_up() -> None:
    d = Driver().ready(released())
    first = d.s.pending
    assert first is not None
    d.done(error=BackendUnavailable("no answer"))
    d.wait(0.2)
    late = Lease(KEY, 25, 26, SESSION, record("me", Phase.ELECTED, 25))
    assert d.finish(first, late).s.lease is None


def test_a_grant_later_than_the_watch_does_not_turn_the_picture_back() -> None:
    d = Driver().ready(vanished())
    d.lock(missing())  # deleted, before the answer was here
    d.grant()
    assert d.s.view == missing()
    d.confirm(sent_at=d.now, held=False)
    assert d.state is State.ACQUIRING


def test_pictures_from_before_the_own_write_are_ignored() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released(20)).grant(term=30)
    assert d.lock(released(20)).state is State.PROMOTING
    assert d.lock(held(25, "theirs")).state is State.PROMOTING
    assert d.lock(held(45, "theirs")).state is State.DEMOTING
