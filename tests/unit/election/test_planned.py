"""What operators ask for: pause and switchover."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leadertag.election import events as ev
from leadertag.election.guards import aside
from leadertag.election.states import State
from leadertag.errors import Changed
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, LockView, Phase, Role
from leadertag.plan import Plan, Switchover
from tests.unit.election.driver import (
    FAILED,
    LEASE,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    lead,
    policy,
    released,
    vanished,
)

ME, OTHER = "node-me/me", "node-other/other"
PAUSED = Plan(paused=True, by="me@here", index=3)


def asked(term: int = 7, index: int = 4, **more: Any) -> Plan:
    """A switchover that ends that term."""
    return Plan(switchover=Switchover("id-1", term, **more), index=index)


def planned(view: LockView, plan: Plan) -> LockView:
    return replace(view, plan=plan)


def follower(*hooks: HookEvent) -> Driver:
    """A settled follower of term 7."""
    d = Driver(policy(*(hooks or (HookEvent.PROMOTE,))))
    return d.ready(held(phase=Phase.LEADING), instance("me", "slave"))


# -- pause -----------------------------------------------------------------------------


@pytest.mark.parametrize("view", [released(), vanished()], ids=["released", "vanished"])
def test_nobody_campaigns_in_a_pause(view: LockView) -> None:
    d = Driver().ready(planned(view, PAUSED))
    d.wait(3 * LEASE)
    assert not d.wanted(ev.Acquire)
    assert aside(d.s) == "the election is paused"
    d.lock(view)
    assert d.state is State.ACQUIRING


def test_whoever_does_not_act_yet_gives_the_lock_back() -> None:
    d = Driver().ready(vanished())
    d.grant()
    assert d.state is State.WAITING_OUT
    d.lock(planned(held(31, SESSION, phase=Phase.ELECTED, term=30), PAUSED))
    assert d.state is State.RELEASING
    assert d.wants(ev.Release).record.phase is Phase.ELECTED, "a wait was still owed"


def test_a_promotion_under_way_is_finished() -> None:
    d = Driver(policy(HookEvent.PROMOTE)).ready(released())
    d.grant()
    assert d.state is State.PROMOTING
    d.lock(planned(held(31, SESSION, name="me", phase=Phase.ELECTED, term=30), PAUSED))
    d.done(OK)
    d.done((d.s.instance,))
    d.publish()
    assert d.state is State.LEADING


def suspended() -> Driver:
    d = lead(HookEvent.DEMOTE)
    d.lock(planned(held(40, SESSION, name="me", term=30), PAUSED))
    assert d.state is State.LEADING
    d.see(instance("me", "master", health=Health.CRITICAL, gate=30))
    return d


def test_health_lost_in_a_pause_closes_the_gate_and_keeps_the_lock() -> None:
    d = suspended()
    assert d.state is State.SUSPENDED
    assert d.wants(ev.ShutGate).gate.term == 30
    assert not d.wanted(ev.Release)
    assert not d.wanted(ev.Retract)
    assert not d.wanted(ev.RunHook), "it keeps its role"
    d.hold(3 * LEASE)
    assert d.state is State.SUSPENDED


def test_health_that_comes_back_in_a_pause_opens_the_gate_again() -> None:
    d = suspended()
    d.see(instance("me", "master", gate=30))
    assert d.state is State.PUBLISHING
    d.publish()
    assert d.state is State.LEADING


def test_health_still_lost_at_the_end_of_a_pause_costs_the_leadership() -> None:
    d = suspended()
    d.lock(held(40, SESSION, name="me", term=30))
    assert d.state is State.RETRACTING


def test_a_pause_never_stops_the_lease() -> None:
    d = suspended()
    d.wait(LEASE)
    assert d.state is State.DEMOTING


def test_a_leader_of_a_pause_without_contact_demotes() -> None:
    d = lead(HookEvent.DEMOTE)
    d.lock(planned(held(40, SESSION, name="me", term=30), PAUSED))
    d.wait(LEASE)
    assert d.state is State.DEMOTING


def test_a_suspended_leader_stops_as_it_is_told() -> None:
    assert suspended().stop(keep=True).state is State.STOPPED
    assert suspended().stop().state is State.RETRACTING


def test_a_leader_that_was_suspended_is_taken_back_after_a_restart() -> None:
    memory = suspended().s.remembered()
    d = Driver(policy(HookEvent.DEMOTE), memory=memory).ready(
        planned(held(40, SESSION, name="me", term=30), PAUSED),
        instance("me", "master", health=Health.CRITICAL, gate=30),
    )
    assert d.state is State.ADOPTING


# -- switchover: the candidate ---------------------------------------------------------


def test_the_wanted_member_accepts_with_its_session() -> None:
    d = follower().lock(planned(held(), asked(to=ME)))
    switchover = d.wants(ev.WritePlan).plan.switchover
    assert (switchover.candidate, switchover.session) == (ME, SESSION)
    assert d.wants(ev.WritePlan).plan.index == 4, "what was seen is compared"


def test_any_settled_follower_accepts_where_nobody_is_named() -> None:
    assert follower().lock(planned(held(), asked())).wants(ev.WritePlan)


@pytest.mark.parametrize(
    "plan",
    [
        asked(to=OTHER),
        asked(term=6, to=ME),
        asked(candidate=OTHER, session="theirs"),
        asked(to=ME, refused="no"),
        replace(asked(to=ME), paused=True),
    ],
    ids=["another", "another term", "taken", "refused", "paused"],
)
def test_what_does_not_concern_it_is_left_alone(plan: Plan) -> None:
    d = follower().lock(planned(held(), plan)).wait(1.0)
    assert not d.wanted(ev.WritePlan)


def test_whoever_does_not_follow_yet_does_not_accept() -> None:
    d = Driver(policy(HookEvent.FOLLOW)).ready(planned(held(), asked(to=ME)))
    assert not d.wanted(ev.WritePlan)
    d.finish(d.wants(ev.RunHook), OK)
    d.finish(d.wants(ev.SetTags))
    assert d.wants(ev.WritePlan)


def test_a_candidate_asks_its_own_hooks_first() -> None:
    d = follower(HookEvent.BEFORE_PROMOTE).lock(planned(held(), asked(to=ME)))
    change = d.wants(ev.RunHook).change
    assert (change.event, change.role, change.term) == (
        HookEvent.BEFORE_PROMOTE, Role.LEADER, 0,
    )  # fmt: skip
    assert not d.wanted(ev.WritePlan)
    d.finish(d.wants(ev.RunHook), OK)
    assert d.wants(ev.WritePlan).plan.switchover.candidate == ME


def test_a_veto_is_written_down_for_whoever_asked() -> None:
    d = follower(HookEvent.BEFORE_PROMOTE).lock(planned(held(), asked(to=ME)))
    d.finish(d.wants(ev.RunHook), FAILED)
    assert d.wants(ev.WritePlan).plan.switchover.refused == "it failed"
    assert d.s.to_follow is not None
    assert d.s.followed == d.s.to_follow[0], "it goes on following"


def test_one_of_many_that_is_vetoed_is_silent_and_asked_once() -> None:
    d = follower(HookEvent.BEFORE_PROMOTE).lock(planned(held(), asked()))
    d.finish(d.wants(ev.RunHook), FAILED).wait(1.0)
    assert not d.wanted(ev.WritePlan)
    assert len(d.wanted(ev.RunHook)) == 1


def test_rank_0_never_leads() -> None:
    d = follower(HookEvent.BEFORE_PROMOTE)
    d.s = replace(d.s, policy=policy_with_rank())
    d.lock(planned(held(), asked(to=ME)))
    d.finish(d.wants(ev.RunHook), Outcome(True, rank=0))
    assert d.wants(ev.WritePlan).plan.switchover.refused == "its rank is 0"


def policy_with_rank() -> Any:
    return replace(policy(HookEvent.PROMOTE), budgets={HookEvent.RANK: 1.0})


def test_the_answer_about_a_switchover_of_the_past_counts_for_none() -> None:
    d = follower(HookEvent.BEFORE_PROMOTE).lock(planned(held(), asked(to=ME)))
    hook = d.wants(ev.RunHook)
    d.lock(planned(held(), Plan()))
    d.finish(hook, OK)
    assert not d.wanted(ev.WritePlan)


def test_whoever_was_faster_accepts() -> None:
    d = follower().lock(planned(held(), asked()))
    d.finish(d.wants(ev.WritePlan), error=Changed("it is another by now"))
    d.lock(planned(held(), asked(index=5, candidate=OTHER, session="theirs"))).wait(1.0)
    assert len(d.wanted(ev.WritePlan)) == 1


def test_a_switchover_past_its_time_is_not_accepted() -> None:
    d = Driver(policy(HookEvent.FOLLOW)).ready(planned(held(), asked(to=ME, timeout=5.0)))
    hook = d.wants(ev.RunHook)
    d.wait(5.0)
    d.finish(hook, OK)
    d.finish(d.wants(ev.SetTags))
    assert not d.wanted(ev.WritePlan)


# -- switchover: the leader ------------------------------------------------------------


def led(plan: Plan) -> LockView:
    return planned(held(40, SESSION, name="me", term=30), plan)


def test_the_leader_waits_for_somebody_to_accept() -> None:
    d = lead().lock(led(asked(term=30)))
    assert d.state is State.LEADING
    d.lock(led(asked(term=30, index=5, by="ops@x", candidate=OTHER, session="theirs")))
    assert d.state is State.RETRACTING
    assert d.s.reason == f"switchover to {OTHER}, asked for by ops@x"


@pytest.mark.parametrize(
    "plan",
    [
        asked(term=29, candidate=OTHER, session="theirs"),
        asked(term=30, candidate=ME, session=SESSION),
        replace(asked(term=30, candidate=OTHER, session="theirs"), paused=True),
    ],
    ids=["another term", "itself", "paused"],
)
def test_the_leader_does_not_give_up_for_nothing(plan: Plan) -> None:
    assert lead().lock(led(plan)).state is State.LEADING


def test_the_leader_does_not_give_up_past_the_time() -> None:
    d = lead()
    d.finish(d.wants(ev.RecordChange))
    d.lock(led(asked(term=30, timeout=2.0)))
    d.hold(2.0)
    d.lock(led(asked(term=30, timeout=2.0, index=5, candidate=OTHER, session="theirs")))
    assert d.state is State.LEADING
    d.hold(0.5)
    assert d.wanted(ev.WritePlan)[-1].plan.switchover is None, "what is void is taken away"


def test_the_new_leader_takes_the_plan_away() -> None:
    d = Driver(policy(HookEvent.PROMOTE)).ready(
        planned(released(), asked(candidate=ME, session=SESSION))
    )
    d.grant()
    d.done(OK)
    d.done((d.s.instance,))
    d.publish()
    d.finish(d.wants(ev.RecordChange))
    assert d.wants(ev.WritePlan).plan.switchover is None


# -- switchover: the reservation -------------------------------------------------------


def reserved(session: str = "theirs", candidate: str = OTHER, term: int = 7) -> LockView:
    return planned(released(), asked(term=term, candidate=candidate, session=session))


def test_the_released_lock_is_reserved_for_one_lease() -> None:
    d = Driver().ready(reserved())
    assert aside(d.s) == f"a switchover has reserved the lock for {OTHER}"
    d.wait(LEASE - 0.01)
    assert d.state is State.WATCHING
    d.wait(0.01)
    assert d.state is State.ACQUIRING


def test_the_candidate_takes_it_at_once() -> None:
    assert Driver().ready(reserved(SESSION, ME)).state is State.ACQUIRING


def test_a_reservation_is_bound_to_the_session() -> None:
    d = Driver().ready(reserved("the one before its restart", ME))
    assert d.state is State.WATCHING
    d.wait(LEASE)
    assert d.state is State.ACQUIRING


def test_a_reservation_of_another_term_is_history() -> None:
    assert Driver().ready(reserved(term=6)).state is State.ACQUIRING


def test_a_reservation_does_not_hold_back_after_an_unexplained_loss() -> None:
    d = Driver().ready(planned(vanished(), asked(candidate=OTHER, session="theirs")))
    assert d.state is State.ACQUIRING


def test_a_restart_does_not_count_the_reservation_anew() -> None:
    before = Driver().ready(reserved())
    before.wait(LEASE - 1.0)
    d = Driver(memory=before.s.remembered(), now=before.now).ready(reserved())
    assert d.state is State.WATCHING
    d.wait(1.0)
    assert d.state is State.ACQUIRING
