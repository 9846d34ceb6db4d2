"""DESIGN section 4: confirming, giving up, without contact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.election import events as ev
from leadertag.election.guards import aside
from leadertag.election.policy import RATE, RETRACT_LIMIT, SLACK
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable, LeaseLost
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Phase
from tests.unit.election.driver import (
    FAILED,
    HOOKS,
    LEASE,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    lead,
    policy,
    released,
)

# -- confirming ------------------------------------------------------------------------


def test_a_confirmation_counts_from_when_it_was_sent() -> None:
    d = lead()
    sent_at, d.now = d.now + 0.2, d.now + 1.0
    d.confirm(sent_at=sent_at)
    assert d.s.confirmed_at == sent_at


def test_an_older_confirmation_takes_nothing_back() -> None:
    d = lead()
    d.now += 1.0
    d.confirm(sent_at=d.now).confirm(sent_at=d.now - 0.5)
    assert d.s.confirmed_at == d.now


def test_a_granted_lease_counts_from_when_it_was_asked_for() -> None:
    d = Driver().ready(released())
    asked_at = d.now
    d.now += 0.7
    assert d.grant().s.confirmed_at == asked_at


def test_a_lock_that_is_not_held_any_more_ends_it_at_once() -> None:
    d = lead()
    assert d.confirm(sent_at=d.now, held=False).state is State.DEMOTING


def test_a_confirmation_of_another_term_says_nothing() -> None:
    d = lead()
    assert d.s.lease is not None
    old = replace(d.s.lease, term=29)
    assert d.confirm(sent_at=d.now, held=False, lease=old).state is State.LEADING


def test_not_held_about_the_record_before_the_own_write_says_nothing() -> None:
    d = lead()
    assert d.s.lease is not None
    before = replace(d.s.lease, index=d.s.lease.index - 1)
    assert d.confirm(sent_at=d.now, held=False, lease=before).state is State.LEADING


def test_another_session_means_that_the_lock_is_gone() -> None:
    d = lead()
    assert d.feed(ev.SessionOpened(d.now, "new")).state is State.DEMOTING


# -- without contact -----------------------------------------------------------------------


def test_demotion_and_fencing_fit_into_the_lease_after_the_last_confirmation() -> None:
    d = lead()
    starts = d.s.confirmed_at + RATE * LEASE - HOOKS[HookEvent.DEMOTE] - HOOKS[HookEvent.FENCE]
    d.wait(starts - SLACK - d.now - 0.01)
    assert d.state is State.LEADING
    d.wait(0.02)
    assert (d.state, d.hook()) == (State.DEMOTING, HookEvent.DEMOTE)
    assert d.wanted(ev.Retract)  # told at the same time, but not waited for


def test_a_leader_in_contact_goes_on_and_on() -> None:
    assert lead().hold(5 * LEASE).state is State.LEADING


def test_a_registry_that_takes_no_heartbeat_for_a_lease_is_lost_contact() -> None:
    d = lead()
    for _ in range(7):
        d.wait(0.375).confirm(sent_at=d.now)
    assert d.state is State.LEADING
    assert d.wait(0.5).confirm(sent_at=d.now).state is State.DEMOTING


def test_a_machine_that_wakes_too_late_demotes_at_once() -> None:
    d = lead()
    d.now += 3600
    assert d.feed(ev.Tick(d.now)).state is State.DEMOTING


def test_hold_keeps_the_role_behind_a_closed_gate() -> None:
    d = lead(on_backend_loss="hold")
    d.wait(LEASE)
    assert d.state is State.HOLDING
    assert d.s.acting
    assert [shut.gate.term for shut in d.wanted(ev.ShutGate)] == [30]
    assert not [hook for hook in d.wanted(ev.RunHook) if hook.change.event is HookEvent.DEMOTE]
    d.wait(10 * LEASE)
    assert d.state is State.HOLDING


def test_hold_ends_with_the_next_confirmation() -> None:
    d = lead(on_backend_loss="hold").wait(LEASE)
    d.feed(ev.RegistryReached(d.now, d.now)).confirm(sent_at=d.now)
    assert d.state is State.PUBLISHING
    assert d.publish().state is State.LEADING


@pytest.mark.parametrize("seen", [True, False])
def test_hold_outlasts_a_registry_that_alone_is_lost(seen: bool) -> None:
    """Lock in one backend, registry in another: with the lock alone nothing can be published."""
    d = lead(on_backend_loss="hold")
    d.feed(ev.RegistryWatched(d.now, False))
    for _ in range(40):
        d.wait(0.375)
        if seen:  # the heartbeat is taken (by an agent, say), but the instance cannot be seen
            d.feed(ev.RegistryReached(d.now, d.now))
        d.confirm(sent_at=d.now)
    assert d.state is State.HOLDING
    d.feed(ev.RegistryWatched(d.now, True)).feed(ev.RegistryReached(d.now, d.now))
    assert d.confirm(sent_at=d.now).state is State.PUBLISHING


def test_hold_does_not_outlast_the_lock() -> None:
    d = lead(on_backend_loss="hold").wait(LEASE)
    assert d.lock(held(90)).state is State.DEMOTING


def test_hold_is_no_excuse_before_it_was_published() -> None:
    rules = policy(HookEvent.PROMOTE, HookEvent.DEMOTE, on_backend_loss="hold")
    d = Driver(rules).ready(released()).grant()
    assert d.wait(LEASE).state is State.DEMOTING


# -- stepping down --------------------------------------------------------------------------


def test_a_planned_step_down_is_invisible_first_and_marked_last() -> None:
    d = lead().stop()
    assert d.state is State.RETRACTING
    retract = d.wants(ev.Retract)
    assert (retract.change.remove, retract.change.add) == (("master",), ())
    assert retract.gate.term == 30
    d.done()
    assert (d.state, d.hook()) == (State.DEMOTING, HookEvent.DEMOTE)
    d.done(OK)
    release = d.wants(ev.Release)
    assert (release.record.phase, release.record.reason) == (Phase.RELEASED, "asked to stop")
    assert d.done().state is State.STOPPED


def test_demote_is_told_the_term_that_ends() -> None:
    change = lead().stop().done().wants(ev.RunHook).change
    assert (change.event, change.term) == (HookEvent.DEMOTE, 30)


def test_a_leader_that_becomes_unfit_steps_down() -> None:
    d = lead().see(instance("me", "master", health=Health.CRITICAL, gate=30))
    assert d.state is State.RETRACTING
    assert d.s.reason == "its health is critical"


def test_a_broken_probe_is_enough() -> None:
    d = lead()
    d.feed(ev.ProbeSeen(d.now, Health.CRITICAL))
    assert d.state is State.RETRACTING


def test_a_deregistered_leader_steps_down_and_says_who_it_was() -> None:
    d = lead().see(None)
    assert d.state is State.DEMOTING  # nothing is left to retract
    release = d.done(OK).wants(ev.Release)
    assert (release.record.member, release.record.phase) == ("node-me/me", Phase.RELEASED)


def test_the_registry_is_not_waited_for_for_ever() -> None:
    d = lead().stop()
    d.wait(RETRACT_LIMIT - 0.01)
    assert d.state is State.RETRACTING
    assert d.wait(0.02).state is State.DEMOTING


def test_a_failed_retraction_keeps_nobody_from_demoting() -> None:
    assert lead().stop().done(error=BackendUnavailable("no")).state is State.DEMOTING


def test_what_was_being_published_is_taken_back_whatever_the_registry_shows_yet() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant()
    d.done(OK).done((instance(),))
    assert d.state is State.PUBLISHING
    d.lock(held(90))
    assert d.state is State.DEMOTING
    assert d.wants(ev.Retract).gate.term == 30


def test_who_never_began_to_publish_has_nothing_to_take_back() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant()
    d.lock(held(90))
    assert d.state is State.DEMOTING
    assert not d.wanted(ev.Retract)


def test_losing_the_lock_while_stepping_down_changes_nothing_about_demoting() -> None:
    d = lead().stop().done().lock(held(90))
    assert d.state is State.DEMOTING
    assert d.done(OK).state is not State.DEMOTING


def test_demotion_without_a_lock_ends_without_a_release() -> None:
    d = lead().lock(held(90))
    assert d.state is State.DEMOTING
    d.done(OK)
    assert d.state is State.WATCHING
    assert not d.wanted(ev.Release)


def test_a_release_is_tried_until_it_is_known_to_be_one() -> None:
    d = lead().stop().done().done(OK)
    d.done(error=BackendUnavailable("no answer"))
    assert d.state is State.RELEASING
    d.wait(0.11)
    assert len(d.wanted(ev.Release)) == 2
    assert d.done(error=LeaseLost("not held any more")).state is State.STOPPED


# -- when demote fails ------------------------------------------------------------------------


def test_fence_follows_a_failed_demote() -> None:
    d = lead().stop().done().done(FAILED)
    assert (d.state, d.hook()) == (State.FENCING, HookEvent.FENCE)
    assert d.done(OK).wants(ev.Release).record.phase is Phase.RELEASED


def test_the_lock_is_kept_until_one_of_them_succeeded() -> None:
    d = lead().stop().done().done(FAILED).done(FAILED)
    assert d.state is State.STUCK
    assert d.wants(ev.Update).record.phase is Phase.STUCK
    assert not d.wanted(ev.Release)
    d.wait(2.1)
    assert d.state is State.DEMOTING
    d.done(OK)
    assert d.wants(ev.Release).record.phase is Phase.RELEASED


def test_without_a_fence_hook_a_failed_demote_is_stuck() -> None:
    d = lead(HookEvent.PROMOTE, HookEvent.DEMOTE).stop().done().done(FAILED)
    assert d.state is State.STUCK
    assert d.s.acting


def test_a_demote_that_is_never_reported_counts_as_failed() -> None:
    d = lead().stop().done()
    d.wait(HOOKS[HookEvent.DEMOTE] + 1.01)
    assert d.state is State.FENCING


# -- stop and keep -----------------------------------------------------------------------------


def test_stop_and_keep_leaves_everything_as_it_is() -> None:
    d = lead()
    before = len(d.asked)
    d.stop(keep=True)
    assert d.state is State.STOPPED
    assert [type(e) for e in d.asked[before:]] in ([], [ev.Remember])


def test_keeping_is_for_leaders_alone() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant()
    assert d.stop(keep=True).state is State.DEMOTING


def test_a_published_leader_that_mends_its_tags_can_be_kept() -> None:
    d = lead().wait(0.3).see(instance("me", "slave", gate=30))
    assert d.state is State.PUBLISHING
    assert d.stop(keep=True).state is State.STOPPED


def test_a_follower_just_stops() -> None:
    d = Driver().ready(held())
    assert d.stop().state is State.STOPPED
    assert not d.wanted(ev.Release)


@pytest.mark.parametrize("keep", [False, True])
def test_stopping_before_anything_is_known(keep: bool) -> None:
    assert Driver().stop(keep=keep).state is State.STOPPED


# -- tags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shown",
    [
        instance("me", gate=30),
        instance("me", "master", "slave", gate=30),
        instance("me", "master"),
        instance("me", "master", gate=29),
    ],
)
def test_reverted_tags_are_published_again(shown: object) -> None:
    d = lead()
    d.see(instance("me", "master", gate=30)).wait(0.3)
    assert d.state is State.LEADING
    d.see(shown)  # type: ignore[arg-type]
    assert d.state is State.PUBLISHING
    d.publish()
    assert d.state is State.LEADING
    assert d.s.acting


def test_a_gate_that_something_else_shut_is_opened_again() -> None:
    d = lead().see(instance("me", "master", gate=30))  # its check is critical
    d.hold(d.s.policy.gate_life - 0.3)
    assert d.state is State.LEADING
    assert len(d.wanted(ev.Publish)) == 1
    d.hold(0.4)
    assert d.state is State.PUBLISHING
    d.publish().hold(0.5)
    assert d.state is State.LEADING


def test_a_gate_that_is_not_fed_is_no_reason_to_publish_again() -> None:
    d = lead().see(instance("me", "master", gate=30))
    for _ in range(11):
        d.wait(0.25).confirm(sent_at=d.now)
    assert d.state is State.LEADING


def test_what_the_registry_showed_meanwhile_counts_more_than_what_was_done() -> None:
    d = Driver(policy(HookEvent.PROMOTE)).ready(released()).grant().done(OK).done((instance(),))
    d.see(instance("me", "blue"))  # reverted while it was being published
    d.publish()
    assert d.state is State.LEADING
    assert d.wait(0.3).state is State.PUBLISHING


def test_the_own_session_is_what_ownership_hangs_on() -> None:
    d = lead()
    d.lock(held(91, SESSION, name="me", term=30))
    assert d.state is State.LEADING


# -- a registry that does not show the own instance ---------------------------------------


def blind(d: Driver, *, works: bool = False) -> Driver:
    return d.feed(ev.RegistryWatched(d.now, works))


def test_a_leader_that_sees_nothing_of_its_service_demotes_after_a_lease() -> None:
    d = blind(lead(HookEvent.DEMOTE))
    d.hold(LEASE - 0.3)
    assert d.state is State.LEADING
    d.hold(0.5)
    assert d.state is State.DEMOTING


def test_a_watch_that_works_again_in_time_costs_nothing() -> None:
    d = blind(lead(HookEvent.DEMOTE))
    d.hold(LEASE - 0.3)
    blind(d, works=True).hold(LEASE)
    assert d.state is State.LEADING


def test_whoever_is_blind_does_not_campaign_on_an_old_picture() -> None:
    d = blind(Driver()).ready(released())
    assert d.state is State.WATCHING
    assert aside(d.s) == "the registry does not show its instance any more"
    assert blind(d, works=True).state is State.ACQUIRING
