"""DESIGN section 4: vetoes, promotion, shutting out, publishing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.election import events as ev
from leadertag.election.guards import aside
from leadertag.election.policy import PUBLISH_PATIENCE
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable, Conflict, PermissionDenied
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Phase, QueryDefinition, Role
from tests.unit.election.driver import (
    FAILED,
    LEASE,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    missing,
    policy,
    released,
    vanished,
)

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
    assert aside(d.s) == "it stands back after a failed or vetoed promotion, or a lost role"
    assert d.wait(0.2).state is State.ACQUIRING


def test_rank_zero_never_leads() -> None:
    d = Driver(replace(policy(), budgets={HookEvent.RANK: 1.0})).ready(released()).grant()
    assert d.hook() is HookEvent.RANK
    assert d.done(Outcome(True, rank=0)).state is State.RELEASING
    d = Driver(replace(policy(), budgets={HookEvent.RANK: 1.0})).ready(released()).grant()
    assert d.done(Outcome(True, rank=1)).state is State.CANVASSING


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


# -- without the registry, with the lock (of another backend) ---------------------------------


def test_who_cannot_look_at_the_others_lets_another_one_try() -> None:
    d = closing()
    until = d.now + PUBLISH_PATIENCE
    while d.now < until:
        assert d.state is State.CLOSING
        if d.s.pending is not None:
            d.done(error=BackendUnavailable("no registry"))
        d.wait(0.3).confirm(sent_at=d.now)
    d.wait(2.0).confirm(sent_at=d.now)
    d.done(error=BackendUnavailable("no registry"))
    assert (d.state, d.hook()) == (State.DEMOTING, HookEvent.DEMOTE)
    d.done(OK)
    assert d.wants(ev.Release).record.phase is Phase.RELEASED
    assert d.s.stand_back_until > d.now


def test_a_registry_that_cannot_show_everybody_exempts_nobody_from_waiting() -> None:
    """The first election ever: nobody else is seen, and that proves nothing."""
    for sees_all, state in ((True, State.VETTING), (False, State.WAITING_OUT)):
        rules = replace(policy(HookEvent.BEFORE_PROMOTE), sees_all=sees_all)
        d = Driver(rules).ready(missing()).grant()
        d.done((instance(),))
        assert d.state is state
