"""``verify``: a leadership that is taken up again is one only if the service says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leadertag.election import events as ev
from leadertag.election.machine import resume
from leadertag.election.policy import HEAD_START, RATE, explain
from leadertag.election.states import State
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Lease, Phase, Role
from tests.unit.election.driver import (
    FAILED,
    KEY,
    LEASE,
    OK,
    SESSION,
    Driver,
    held,
    instance,
    policy,
    record,
    released,
)
from tests.unit.election.test_planned import PAUSED, planned

LIMIT = 1.5
PLAIN = policy(HookEvent.PROMOTE, HookEvent.DEMOTE)
RULES = replace(PLAIN, budgets={**PLAIN.budgets, HookEvent.VERIFY: LIMIT})
NO_LEADER = Outcome(False, "role is 'slave' and not 'master'")
LED = record("me", Phase.LEADING, 30)


def memory(**more: Any) -> ev.Memory:
    """Return what a leader of term 30 leaves behind."""
    values: dict[str, Any] = {
        "session": SESSION, "lease": Lease(KEY, 30, 31, SESSION, LED), "term": 30,
        "state": "leading", "acting": True, "waited": True, "seen_term": 30,
        "confirmed_at": 99.5, **more,
    }  # fmt: skip
    return ev.Memory(**values)


def adopted(**left: Any) -> Driver:
    """Return a restarted leader that has its lock back, and asks its service."""
    d = Driver(RULES, memory=memory(**left))
    d.ready(held(31, SESSION, name="me", term=30), instance("me", "master", gate=30))
    d.done(Lease(KEY, 30, 40, SESSION, d.wants(ev.Adopt).record))
    assert (d.state, d.hook()) == (State.VERIFYING, HookEvent.VERIFY)
    return d


def suspended() -> Driver:
    """Return a leader that became unfit in a pause and is fit again."""
    d = Driver(RULES).lead()
    d.lock(planned(held(40, SESSION, name="me", term=30), PAUSED))
    d.see(instance("me", "master", gate=30, health=Health.CRITICAL))
    assert d.state is State.SUSPENDED
    d.see(instance("me", "master", gate=30))
    assert (d.state, d.hook()) == (State.VERIFYING, HookEvent.VERIFY)
    return d


# -- after a restart ------------------------------------------------------------------------


def test_a_service_that_still_leads_goes_on_leading_in_its_term() -> None:
    d = adopted()
    change = d.wants(ev.RunHook).change
    assert (change.role, change.term, change.timeout) == (Role.LEADER, 30, LIMIT)
    d.done(OK)
    assert d.state is State.PUBLISHING
    d.publish()
    assert (d.state, d.s.term) == (State.LEADING, 30)
    assert [hook.change.event for hook in d.wanted(ev.RunHook)] == [HookEvent.VERIFY]


def test_what_clients_find_stays_as_it_is_meanwhile() -> None:
    d = adopted()
    touching = (ev.Publish, ev.Retract, ev.SetTags, ev.ShutGate)
    assert not [effect for effect in d.asked if isinstance(effect, touching)]


def test_a_service_that_does_not_lead_any_more_gives_up_in_order() -> None:
    d = adopted().done(NO_LEADER)
    retract = d.wants(ev.Retract)
    assert (d.state, retract.change.remove, retract.gate.term) == (
        State.RETRACTING, ("master",), 30,
    )  # fmt: skip
    d.done()
    change = d.wants(ev.RunHook).change
    assert (change.event, change.term, change.reason) == (
        HookEvent.DEMOTE, 30, NO_LEADER.message,
    )  # fmt: skip
    assert d.done(OK).state is State.RELEASING
    release = d.wants(ev.Release)
    assert (release.record.phase, release.record.reason) == (Phase.RELEASED, NO_LEADER.message)


def test_one_that_does_not_answer_in_time_is_not_verified() -> None:
    d = adopted().hold(LIMIT + 1.01)  # an outcome that never comes, a grace after its limit
    assert d.state in (State.RETRACTING, State.DEMOTING)
    assert d.wanted(ev.Retract)


def test_the_others_come_first_and_then_it_may_lead_anew() -> None:
    d = adopted().done(NO_LEADER).done().done(OK).done()
    d.see(instance("me")).lock(released(50, term=30))
    assert d.state is State.WATCHING
    d.wait(HEAD_START - 0.01)
    assert not d.wanted(ev.Acquire)
    d.wait(0.02)
    assert d.state is State.ACQUIRING
    d.grant(60)
    assert (d.hook(), d.s.term) == (HookEvent.PROMOTE, 60)


def test_a_demotion_on_another_ground_gives_nobody_a_head_start() -> None:
    d = adopted().done(OK).publish().hold(0.5)
    d.see(instance("me", "master", gate=30, health=Health.CRITICAL)).done().done(OK).done()
    d.see(instance("me")).lock(released(50, term=30))
    assert d.state is State.ACQUIRING


@pytest.mark.parametrize(
    ("befalls", "state"),
    [
        (lambda d: d.lock(held(90)), State.DEMOTING),
        (lambda d: d.confirm(sent_at=d.now, held=False), State.DEMOTING),
        (lambda d: d.see(instance("me", health=Health.CRITICAL)), State.RETRACTING),
        (lambda d: d.stop(), State.RETRACTING),
        (lambda d: d.stop(keep=True), State.STOPPED),
    ],
    ids=["lost", "lost, says a confirmation", "unfit", "stop", "keep"],
)
def test_what_befalls_it_meanwhile_ends_the_question(befalls: Any, state: State) -> None:
    d = adopted()
    befalls(d)
    assert d.state is state
    assert d.wanted(ev.CancelHook)


def test_without_contact_it_demotes_in_time() -> None:
    d = adopted()
    d.s = replace(d.s, policy=replace(RULES, budgets={**RULES.budgets, HookEvent.VERIFY: 60.0}))
    ends = d.s.confirmed_at + RATE * LEASE - PLAIN.budget(HookEvent.DEMOTE)
    assert d.wait(ends - 0.2 - d.now).state is State.VERIFYING
    assert d.wait(0.2).state is State.DEMOTING


def test_another_restart_meanwhile_asks_again() -> None:
    left = adopted().wanted(ev.Remember)[-1].memory
    assert (left.state, left.acting, left.lease.term) == ("verifying", True, 30)
    assert adopted(state=left.state).state is State.VERIFYING


def test_one_that_was_kept_without_an_answer_is_asked_by_the_next_process() -> None:
    d = adopted().stop(keep=True)
    left = d.wanted(ev.Remember)[-1].memory
    assert (left.state, left.acting) == ("stopped", True)
    assert adopted(state=left.state).state is State.VERIFYING


def test_without_such_a_hook_nothing_is_asked() -> None:
    d = Driver(PLAIN, memory=memory())
    d.ready(held(31, SESSION, name="me", term=30), instance("me", "master", gate=30))
    d.done(Lease(KEY, 30, 40, SESSION, d.wants(ev.Adopt).record))
    assert d.state is State.PUBLISHING
    assert not d.wanted(ev.RunHook)


# -- unfit in a pause -----------------------------------------------------------------------


def test_a_service_that_is_fit_again_in_a_pause_is_asked_behind_its_closed_gate() -> None:
    d = suspended()
    assert d.wanted(ev.ShutGate)
    before = len(d.wanted(ev.Publish))
    assert d.done(OK).state is State.PUBLISHING
    assert len(d.wanted(ev.Publish)) == before + 1
    assert d.publish().state is State.LEADING


def test_one_that_came_back_as_no_leader_gives_up_in_the_pause() -> None:
    d = suspended().done(FAILED)
    assert d.state is State.RETRACTING
    d.done().done(OK).done().see(instance("me"))
    d.lock(planned(released(50, term=30), PAUSED)).wait(10.0)
    assert d.state is State.WATCHING  # nobody succeeds before elections are resumed
    assert len(d.wanted(ev.Acquire)) == 1
    d.lock(released(51, term=30))
    assert d.state is State.ACQUIRING


def test_unfit_anew_in_the_pause_is_suspended_anew() -> None:
    d = suspended().see(instance("me", "master", gate=30, health=Health.CRITICAL))
    assert d.state is State.SUSPENDED
    assert d.wanted(ev.CancelHook)


# -- one-shot check -------------------------------------------------------------------------


def run(rules: Any = RULES, **left: Any) -> Driver:
    """Return a run of ``check`` that has confirmed the lock of the run before."""
    d = Driver(rules)
    d.s = resume(replace(rules, gated=False), d.now, memory(**left))
    d.confirm(sent_at=d.now)
    d.lock(held(31, SESSION, name="me", term=30))
    return d


def test_every_run_of_a_leader_asks_and_writes_nothing_when_it_still_leads() -> None:
    d = run().see(instance("me", "master"))
    assert (d.state, d.hook()) == (State.VERIFYING, HookEvent.VERIFY)
    d.done(OK)
    assert (d.state, d.s.role) == (State.LEADING, Role.LEADER)
    assert not d.wanted(ev.Publish)


def test_a_run_that_finds_other_tags_besides_publishes_them_anew() -> None:
    d = run().see(instance("me", "slave")).done(OK)
    assert d.state is State.PUBLISHING


def test_a_run_whose_service_was_restarted_gives_up_and_leaves_it_to_others() -> None:
    d = run().see(instance("me", "master")).done(NO_LEADER)
    assert d.state is State.RETRACTING
    d.done().done(OK).done().lock(released(50, term=30))
    assert d.s.stand_back_until == d.now + RULES.election.stand_back


def test_a_run_without_such_a_hook_leads_on() -> None:
    d = run(PLAIN).see(instance("me", "master"))
    assert (d.state, d.wanted(ev.RunHook)) == (State.LEADING, [])


def test_a_run_whose_service_is_unfit_asks_nothing() -> None:
    d = run().see(instance("me", "master", health=Health.CRITICAL))
    assert d.state is State.RETRACTING
    assert not d.wanted(ev.RunHook)


def test_a_run_that_was_ended_while_it_asked_gives_up() -> None:
    assert run(state="verifying").see(instance("me", "master")).hook() is HookEvent.DEMOTE


# -- the worst case --------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "others"), [(None, HEAD_START), (10.0, 5.0)])
def test_the_time_of_a_service_that_was_restarted_unseen(
    interval: float | None, others: float
) -> None:
    def bounds(budgets: Any) -> dict[str, Any]:
        found = explain(
            RULES.election, budgets=budgets, gate_life=2.0, session_expiry=6.0,
            one_shot_interval=interval,
        )  # fmt: skip
        return {bound.name: dict(bound.parts) for bound in found}

    parts = bounds(RULES.budgets)["service restarted unseen"]
    assert (parts["verify hooks"], parts["the others first"]) == (LIMIT, others)
    assert {"demote hooks", "promote hooks"} <= set(parts)
    assert "service restarted unseen" not in bounds(PLAIN.budgets)
