"""DESIGN section 4: campaigning, waiting out, taking over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.election import events as ev
from leadertag.election.signals import aside
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable, Conflict, PermissionDenied
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Lease, LockView, Phase, QueryDefinition, Role
from tests.unit.election.driver import (
    FAILED,
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


# -- vetting, ranking, promoting ----------------------------------------------------------


def test_a_veto_gives_the_lock_to_another() -> None:
    d = Driver().ready(released()).grant()
    assert d.hook() is HookEvent.BEFORE_PROMOTE
    d.done(FAILED)
    assert d.state is State.RELEASING
    release = d.wants(ev.Release)
    assert (release.record.phase, release.record.reason) == (Phase.RELEASED, "it failed")
    d.done().lock(released(40, term=30))
    assert d.wait(4.9).state is State.WATCHING
    assert aside(d.s) == "it stands back after a failed or vetoed promotion"
    assert d.wait(0.2).state is State.ACQUIRING


def test_rank_zero_never_leads() -> None:
    d = Driver(replace(policy(), budgets={HookEvent.RANK: 1.0})).ready(released()).grant()
    assert d.hook() is HookEvent.RANK
    assert d.done(Outcome(True, rank=0)).state is State.RELEASING
    d = Driver(replace(policy(), budgets={HookEvent.RANK: 1.0})).ready(released()).grant()
    assert d.done(Outcome(True, rank=1)).state is State.CLOSING


def test_promote_is_told_its_term_and_comes_before_the_tag() -> None:
    d = Driver(policy(HookEvent.PROMOTE)).ready(released()).grant(term=30)
    change = d.wants(ev.RunHook).change
    assert (change.event, change.term, change.role) == (HookEvent.PROMOTE, 30, Role.LEADER)
    assert d.s.acting
    assert not d.wanted(ev.Publish)


def test_acting_is_remembered_before_promote_starts() -> None:
    d = Driver(policy(HookEvent.PROMOTE)).ready(released()).grant()
    kinds = [type(effect) for effect in d.effects]
    assert kinds.index(ev.Remember) < kinds.index(ev.RunHook)
    assert d.wants(ev.Remember).memory.acting


def test_a_failed_promotion_is_demoted_released_and_left_to_others() -> None:
    d = Driver().ready(released()).grant().done(OK)
    assert d.hook() is HookEvent.PROMOTE
    d.done(FAILED)
    assert (d.state, d.hook()) == (State.DEMOTING, HookEvent.DEMOTE)
    d.done(OK)
    assert d.wants(ev.Release).record.phase is Phase.RELEASED
    d.done().lock(released(40, term=30))
    assert d.state is State.WATCHING
    assert d.s.stand_back_until == pytest.approx(d.now + 5.0)


def test_a_promote_that_is_never_reported_counts_as_failed() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant()
    assert d.hold(2.9).state is State.PROMOTING
    assert d.hold(0.2).state is State.DEMOTING


@pytest.mark.parametrize("held_by", ["theirs", ""])
def test_losing_the_lease_ends_a_running_promote(held_by: str) -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant()
    d.lock(held(40, held_by) if held_by else vanished(40, term=30))
    assert d.state is State.DEMOTING
    kinds = [type(effect) for effect in d.effects]
    assert kinds.index(ev.CancelHook) < kinds.index(ev.RunHook)


def test_losing_the_lease_before_acting_needs_no_demotion() -> None:
    d = Driver().ready(released()).grant()
    d.lock(held(40))
    assert d.state is State.WATCHING
    assert d.wants(ev.CancelHook)


# -- closing and publishing ------------------------------------------------------------------


def closing() -> Driver:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE)).ready(released()).grant().done(OK)
    assert d.state is State.CLOSING
    return d


def test_nobody_tagged_nobody_shut_out() -> None:
    d = closing().done((instance(), instance("other", "slave")))
    assert d.state is State.PUBLISHING
    assert not d.wanted(ev.ShutOut)


@pytest.mark.parametrize(
    "other",
    [
        instance("other", "master"),
        instance("other", "master", health=Health.CRITICAL),
        instance("other", "master", gate=3),
    ],
)
def test_every_other_leader_is_shut_out_passing_or_not(other: object) -> None:
    d = closing().done((instance(), other))
    assert d.state is State.CLOSING
    shut = d.wants(ev.ShutOut)
    assert shut.others == (other,)
    assert shut.lease == d.s.lease


def test_a_gate_alone_makes_nobody_a_leader() -> None:
    assert (
        closing().done((instance(), instance("other", "slave", gate=3))).state is State.PUBLISHING
    )


def test_whoever_stays_passing_is_waited_for_until_its_gate_has_died() -> None:
    other = instance("other", "master")
    d = closing().done((instance(), other))
    d.done((instance(), other))
    assert d.state is State.CLOSING
    while d.now < d.s.entered + d.s.policy.gate_life - 0.2:
        d.hold(0.1)
        if d.s.pending is not None:
            d.done((instance(), other))
        assert d.state is State.CLOSING
    d.wait(0.3)
    d.done((instance(), other))
    assert d.state is State.PUBLISHING


def test_a_list_in_doubt_closes_nothing() -> None:
    d = closing().done((instance("other"),))
    assert d.state is State.CLOSING
    assert d.wait(0.15).wants(ev.ReadMembers)


def test_an_instance_without_the_elections_tags_belongs_to_another_election() -> None:
    rules = policy(HookEvent.PROMOTE, HookEvent.DEMOTE, tags=("sensu",))
    d = Driver(rules).ready(released(), instance("me", "sensu")).grant().done(OK)
    d.done((instance("me", "sensu"), instance("other", "master")))
    assert d.state is State.PUBLISHING


def test_a_fenced_registry_strips_the_others_itself() -> None:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE, fenced=True))
    d.ready(released()).grant().done(OK)
    assert d.state is State.PUBLISHING


def test_publishing_carries_lease_record_tags_and_a_gate_of_this_term() -> None:
    ask = closing().done((instance(),)).wants(ev.Publish)
    assert (ask.record.phase, ask.record.term, ask.record.lease) == (Phase.LEADING, 30, LEASE)
    assert (ask.change.add, ask.change.remove) == (("master",), ("slave",))
    assert ask.gate.term == ask.lease.term == 30


def test_a_process_that_ends_after_a_step_has_no_gate() -> None:
    d = Driver(policy(HookEvent.PROMOTE, gated=False)).ready(released()).grant().done(OK)
    assert d.done((instance(),)).wants(ev.Publish).gate is None


def test_a_publication_counts_from_its_last_confirmation() -> None:
    d = closing().done((instance(),))
    ask = d.wants(ev.Publish)
    sent_at, d.now = d.now + 0.1, d.now + 0.6
    d.done(ev.Publication(ask.lease, sent_at))
    assert d.state is State.LEADING
    assert d.s.confirmed_at == sent_at
    assert d.s.role is Role.LEADER


def test_publishing_is_tried_again_and_given_up_after_a_while() -> None:
    d = closing().done((instance(),))
    while d.state is State.PUBLISHING and d.now < 120:
        if d.s.pending is not None:
            d.done(error=BackendUnavailable("the catalog does not show it"))
        d.hold(0.25)
    assert d.state is State.RETRACTING
    assert len(d.wanted(ev.Publish)) > 3
    assert 10.0 <= d.now - 100.0 < 12.0


@pytest.mark.parametrize("error", [PermissionDenied("no token"), Conflict("taken")])
def test_what_can_never_be_published_is_given_up_at_once(error: PermissionDenied) -> None:
    d = closing().done((instance(),)).done(error=error)
    assert d.state is State.RETRACTING
    assert d.s.stand_back_until > d.now


def test_a_lost_answer_of_the_own_write_does_not_cost_the_leadership() -> None:
    d = closing().done((instance(),))
    lease = d.s.lease
    assert lease is not None
    d.done(error=BackendUnavailable("no answer"))
    d.lock(held(lease.index + 5, SESSION, name="me", term=30, phase=Phase.LEADING))
    d.wait(0.15)
    again = d.wants(ev.Publish)
    assert again.lease.index == lease.index + 5
    assert again.lease.record.phase is Phase.LEADING


def test_another_term_under_the_own_session_is_not_the_own_write() -> None:
    d = closing()
    lease = d.s.lease
    d.lock(held(90, SESSION, name="me", term=89, phase=Phase.ELECTED))
    assert d.s.lease == lease


def test_the_query_is_kept_while_leading() -> None:
    d = Driver(policy(query_definition=QueryDefinition("q", "redis", ("master",)))).lead()
    assert len(d.wanted(ev.EnsureQuery)) == 1
    d.wait(1.0)
    assert len(d.wanted(ev.EnsureQuery)) == 1


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
