"""What a follower owes: follow, tags, telling; and the predecessor's world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.election import events as ev
from leadertag.election.guards import aside
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Instance, Phase, Role
from tests.unit.election.driver import (
    FAILED,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    lead,
    missing,
    policy,
    released,
    vanished,
)

COMPAT = {"compat": "consul-master-election-tagger"}


def follower(*tags: str, gate: int | None = None) -> Driver:
    return Driver(policy(HookEvent.FOLLOW)).ready(
        held(phase=Phase.LEADING), instance("me", *tags, gate=gate)
    )


# -- following -------------------------------------------------------------------------


def test_follow_first_and_carry_the_tag_afterwards() -> None:
    d = follower()
    change = d.wants(ev.RunHook).change
    assert (change.event, change.term, change.role) == (HookEvent.FOLLOW, 7, Role.FOLLOWER)
    assert change.leader is not None
    assert change.leader.id == "other"
    assert not d.wanted(ev.SetTags)
    d.finish(d.wants(ev.RunHook), OK)
    tags = d.wants(ev.SetTags)
    assert (tags.change.add, tags.change.remove) == (("slave",), ("master",))
    d.finish(tags)
    assert d.s.role is Role.FOLLOWER


def test_nobody_follows_a_leader_that_is_not_published() -> None:
    d = Driver(policy(HookEvent.FOLLOW)).ready(held(phase=Phase.ELECTED))
    assert not d.wanted(ev.RunHook)
    assert d.lock(held(21, phase=Phase.LEADING)).wants(ev.RunHook)


def test_a_stale_leader_tag_goes_at_once_even_before_following() -> None:
    d = follower("blue", "master")
    tags = d.wants(ev.SetTags)
    assert (tags.change.add, tags.change.remove) == ((), ("master",))
    d.finish(tags)
    assert d.wants(ev.RunHook).change.event is HookEvent.FOLLOW


def test_a_stale_gate_goes_at_once_too() -> None:
    assert follower("slave", gate=3).wants(ev.SetTags)


def test_a_stale_leader_tag_goes_also_when_nobody_leads() -> None:
    d = Driver().ready(held(phase=Phase.ELECTED), instance("me", "master"))
    assert d.wants(ev.SetTags).change.remove == ("master",)


def test_a_newer_leader_overtakes_a_follow_that_is_under_way() -> None:
    d = follower()
    hook = d.wants(ev.RunHook)
    d.lock(held(21, term=8))
    assert d.wants(ev.CancelHook)
    d.wait(0.5)
    assert len(d.wanted(ev.CancelHook)) == 1, "it is ended once"
    assert len(d.wanted(ev.RunHook)) == 1, "one at a time"
    d.finish(hook, Outcome(False, "ended", cancelled=True))
    assert d.wants(ev.RunHook).change.term == 8, "and at once the next one"


def test_a_follow_goes_on_while_nobody_leads() -> None:
    d = follower()
    d.lock(held(21, term=8, phase=Phase.ELECTED))
    assert not d.wanted(ev.CancelHook)


def test_a_follow_that_failed_is_tried_again_later() -> None:
    d = follower()
    d.finish(d.wants(ev.RunHook), FAILED)
    assert not d.wanted(ev.SetTags)
    assert d.s.reason == "it failed"
    assert d.wait(0.11).wants(ev.RunHook)


def test_a_tag_that_could_not_be_set_is_tried_again_later() -> None:
    d = follower()
    d.finish(d.wants(ev.RunHook), OK)
    d.finish(d.wants(ev.SetTags), error=BackendUnavailable("no answer"))
    assert d.wait(0.11).wants(ev.SetTags)


def test_a_new_leader_is_followed_anew() -> None:
    d = follower("slave")
    d.finish(d.wants(ev.RunHook), OK)
    d.lock(held(30, phase=Phase.LEADING, name="third", term=29))
    assert d.wants(ev.RunHook).change.term == 29


def test_the_same_leader_is_not_followed_twice() -> None:
    d = follower("slave")
    d.finish(d.wants(ev.RunHook), OK)
    d.lock(held(25, phase=Phase.LEADING)).wait(10)
    assert len(d.wanted(ev.RunHook)) == 1


def test_a_service_that_was_down_follows_anew() -> None:
    d = follower("slave")
    d.finish(d.wants(ev.RunHook), OK)
    d.see(instance("me", "slave", health=Health.CRITICAL)).wait(5)
    assert len(d.wanted(ev.RunHook)) == 1
    d.see(instance("me", "slave"))
    assert len(d.wanted(ev.RunHook)) == 2


def test_a_service_that_went_down_while_it_followed_has_not_followed() -> None:
    d = follower("slave")
    hook = d.wants(ev.RunHook)
    d.see(instance("me", "slave", health=Health.CRITICAL)).finish(hook, OK)
    assert d.s.followed == 0


def test_reverted_tags_are_set_again() -> None:
    d = follower("slave")
    d.finish(d.wants(ev.RunHook), OK)
    assert not d.wanted(ev.SetTags)
    assert d.see(instance("me", "blue")).wants(ev.SetTags).change.add == ("slave",)


def test_what_the_registry_showed_meanwhile_counts_more_than_what_was_set() -> None:
    d = follower()
    d.finish(d.wants(ev.RunHook), OK)
    tags = d.wants(ev.SetTags)
    d.see(instance("me", "blue"))  # a reload put it back before the outcome was known
    assert d.finish(tags).wants(ev.SetTags).change.add == ("slave",)


def test_campaigning_ends_a_follow_that_is_under_way() -> None:
    d = follower()
    d.lock(released(25)).grant()
    assert [e for e in d.effects if isinstance(e, ev.CancelHook)]


# -- telling ----------------------------------------------------------------------------


def test_role_and_leader_changes_are_told_after_the_fact() -> None:
    rules = policy(HookEvent.PROMOTE)
    told = {HookEvent.ROLE_CHANGED: 1.0, HookEvent.LEADER_CHANGED: 1.0}
    d = Driver(replace(rules, budgets={**rules.budgets, **told})).lead()
    role, leader = (inform.change for inform in d.effects if isinstance(inform, ev.Inform))
    assert (role.event, role.role, role.previous_role, role.term) == (
        HookEvent.ROLE_CHANGED, Role.LEADER, Role.UNKNOWN, 30,
    )  # fmt: skip
    assert (leader.event, leader.term) == (HookEvent.LEADER_CHANGED, 30)


def test_nobody_is_told_where_no_hook_listens() -> None:
    assert not lead().wanted(ev.Inform)


def test_nothing_waits_for_informational_hooks() -> None:
    rules = policy(HookEvent.PROMOTE, HookEvent.DEMOTE)
    d = Driver(replace(rules, budgets={**rules.budgets, HookEvent.ROLE_CHANGED: 9.0})).lead()
    assert d.wanted(ev.Inform)
    assert d.stop().done().done(OK).done().state is State.STOPPED


# -- with the predecessor still about ------------------------------------------------------


def compat(*members: Instance, own: Instance | None = None) -> Driver:
    d = Driver(policy(HookEvent.PROMOTE, HookEvent.DEMOTE, **COMPAT))
    me = own or instance()
    if members:
        d.members(*members)
    return d.ready(missing(), me)


def test_compat_a_foreign_master_is_respected() -> None:
    d = compat(instance(), instance("old", "master"))
    assert d.state is State.WATCHING
    assert aside(d.s) == "node-old/old was made leader by the predecessor"
    assert d.members(instance(), instance("old", "slave")).state is State.ACQUIRING


def test_compat_an_old_gate_of_its_own_has_to_go_first() -> None:
    """A leader tag alone may be the predecessor's word; a gate is none of its."""
    left = instance("me", "master", gate=7)
    d = compat(left, own=left)
    assert d.state is State.WATCHING
    assert aside(d.s) == "its own old gate has to go first"
    tagged = instance("me", "master")
    assert compat(tagged, own=tagged).state is State.ACQUIRING


def test_compat_a_foreign_master_is_followed_as_a_leader_without_a_term() -> None:
    rules = policy(HookEvent.FOLLOW, **COMPAT)
    first, second = instance("old", "master"), instance("older", "master")
    d = Driver(rules).ready(missing())
    d.members(instance(), first)
    follow = d.wants(ev.RunHook)
    assert follow.change.leader == first
    assert follow.change.term == 0
    d.finish(follow, OK)
    tags = d.wants(ev.SetTags)
    assert tags.change.add == ("slave",)
    d.finish(tags).members(instance(), first)
    assert not any(isinstance(effect, ev.RunHook) for effect in d.effects), "once is enough"
    d.members(instance(), second)
    again = [effect for effect in d.effects if isinstance(effect, ev.RunHook)]
    assert [effect.change.leader for effect in again] == [second], "another one is followed anew"


def test_compat_a_foreign_master_that_does_not_pass_is_none() -> None:
    d = compat(instance(), instance("old", "master", health=Health.CRITICAL))
    assert d.state is State.ACQUIRING


@pytest.mark.parametrize("members", [(), (instance("old"),)])
def test_compat_nobody_campaigns_in_doubt(members: tuple[Instance, ...]) -> None:
    d = compat(*members)
    assert (d.state, aside(d.s)) == (State.WATCHING, "the list of members is not complete")


def test_compat_a_filtered_read_does_not_outlast_the_state_it_was_for() -> None:
    d = compat(instance()).grant().done((instance(),))
    assert d.state is State.GUARDING
    d.done((instance("old"),))  # it lacks the reader: doubt
    assert d.state is State.RELEASING
    d.done()
    assert d.s.members == (instance(),)


def test_compat_the_own_foreign_master_is_adopted_by_campaigning() -> None:
    own = instance("me", "master")
    d = compat(own, own=own)
    assert d.state is State.ACQUIRING
    assert not d.wanted(ev.SetTags)  # no moment in which nobody is master


def test_compat_the_own_foreign_tag_goes_once_a_leader_exists() -> None:
    own = instance("me", "master")
    d = compat(own, own=own)
    d.done(held(25, phase=Phase.LEADING))
    assert d.wants(ev.SetTags).change.remove == ("master",)


def test_compat_only_a_list_read_under_the_lock_makes_it_the_first_election() -> None:
    d = compat(instance())  # the watch has shown it already
    assert d.grant().state is State.WAITING_OUT
    assert d.done((instance(),)).state is State.GUARDING


def guarding() -> Driver:
    d = compat(instance()).grant().done((instance(),))
    assert d.state is State.GUARDING
    return d


def test_compat_promotion_happens_under_the_predecessors_lock() -> None:
    d = guarding()
    d.done((instance(),))
    assert d.state is State.PROMOTING
    assert not d.wanted(ev.LeaveGuard)
    d.done(OK).done((instance(),))
    d.publish()
    assert len(d.wanted(ev.LeaveGuard)) == 1


def test_compat_a_predecessor_that_elects_now_is_left_to_it() -> None:
    d = guarding().done(None)
    assert d.state is State.RELEASING
    assert d.s.stand_back_until == pytest.approx(d.now + 1.0)


def test_compat_a_master_found_under_the_guard_is_respected() -> None:
    d = guarding().done((instance(), instance("old", "master")))
    assert d.state is State.RELEASING
    assert len(d.wanted(ev.LeaveGuard)) == 1


def test_compat_a_guard_that_is_taken_too_late_is_given_back() -> None:
    d = guarding()
    enter = d.s.pending
    assert enter is not None
    d.lock(held(50))
    assert d.state is State.WATCHING
    d.finish(enter, (instance(),))
    assert d.wants(ev.LeaveGuard)


def test_compat_a_foreign_master_that_passes_ends_a_leadership() -> None:
    d = compat(instance()).grant().done((instance(),)).done((instance(),))
    d.done(OK).done((instance(),))
    d.publish()
    assert d.state is State.LEADING
    d.members(instance("me", "master", gate=30), instance("old", "master"))
    assert d.state is State.RETRACTING


def test_compat_another_leadertag_leader_is_no_foreign_one() -> None:
    d = compat(instance(), instance("other", "master", gate=7))
    assert d.state is State.ACQUIRING


def test_without_compat_nobody_cares_about_the_list_before_campaigning() -> None:
    assert Driver().ready(vanished()).state is State.ACQUIRING
    assert SESSION == "mine"
