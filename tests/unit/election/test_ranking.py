"""Which of several healthy candidates leads: the holder gives way to a better one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.election import events as ev
from leadertag.election.policy import HOOK_GRACE, RANK_WINDOW, Policy
from leadertag.election.states import State
from leadertag.errors import BackendUnavailable
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, Instance, LockView, Phase
from leadertag.plan import Plan, Switchover
from leadertag.ranks import NO_RANKS, Ranks
from tests.unit.election.driver import (
    KEY,
    LEASE,
    OK,
    SESSION,
    Driver,
    instance,
    policy,
    record,
    released,
)

ME, OTHER, THIRD = instance("me"), instance("other"), instance("third")


def ranking(**settings: bool) -> Policy:
    """A policy with ``promote`` and ``rank`` hooks."""
    rules = policy(HookEvent.PROMOTE, **settings)
    return replace(rules, budgets={**rules.budgets, HookEvent.RANK: 0.5})


def elected(term: int = 40, name: str = "other") -> LockView:
    """A lock whose holder is about to lead."""
    return LockView(KEY, term + 1, "theirs", record(name, Phase.ELECTED, term))


def given_back(term: int = 40, name: str = "other") -> LockView:
    """A lock whose holder has given way."""
    return LockView(KEY, term + 3, "", record(name, Phase.RELEASED, term))


def poll(*ranks: tuple[str, int], members: tuple[Instance, ...] = (ME, OTHER, THIRD)) -> ev.Poll:
    """What was announced under the term of :meth:`Driver.grant`."""
    return ev.Poll(Ranks(30, tuple((f"node-{name}/{name}", rank) for name, rank in ranks)), members)


def canvassing(rank: int = 2) -> Driver:
    """A holder that ranks itself so, and asks how the others do."""
    d = Driver(ranking()).ready(released()).grant()
    assert d.hook() is HookEvent.RANK
    return d.done(Outcome(True, rank=rank))


def test_the_holder_hears_the_others_and_leads_when_it_is_the_best() -> None:
    d = canvassing()
    asked = d.wants(ev.Canvass)
    assert (asked.term, asked.member, asked.window) == (30, "node-me/me", RANK_WINDOW)
    d.done(poll(("other", 1), ("third", 2)))
    assert d.hook() is HookEvent.PROMOTE  # an equal is not better


def test_the_holder_gives_way_to_the_best_and_says_so() -> None:
    d = canvassing()
    d.done(poll(("other", 3), ("third", 9)))
    assert d.state is State.RELEASING
    said = d.wants(ev.Release).record
    assert said.phase is Phase.RELEASED
    assert said.reason == "node-third/third ranks higher"
    d.done()
    assert d.state is State.WATCHING
    d.wait(0.9)
    assert len(d.wanted(ev.Acquire)) == 1
    d.wait(0.2)
    assert d.state is State.ACQUIRING  # the better one has not come


def test_nobody_is_given_way_to_twice_until_somebody_leads() -> None:
    d = canvassing()
    d.done(poll(("other", 3))).done().wait(1.1)
    d.grant(60).done(Outcome(True, rank=2))
    unheeded = d.wants(ev.Canvass).unheeded  # it led before, and has not come; that one was silent
    assert set(unheeded) == {"node-other/other", "node-third/third"}
    d.done(ev.Poll(Ranks(60, (("node-other/other", 3),)), (ME, OTHER, THIRD)))
    assert d.hook() is HookEvent.PROMOTE
    d.lock(LockView(KEY, 90, "theirs", record("third", Phase.LEADING, 80)))
    assert d.s.yielded == ()


def test_who_is_not_passing_is_not_given_way_to() -> None:
    sick = instance("other", health=Health.CRITICAL)
    d = canvassing()
    d.done(poll(("other", 3), ("gone", 9), members=(ME, sick)))
    assert d.hook() is HookEvent.PROMOTE


@pytest.mark.parametrize("answer", ["error", "nothing", "silence"])
def test_without_an_answer_whoever_holds_the_lock_leads(answer: str) -> None:
    d = canvassing()
    if answer == "error":
        d.done(error=BackendUnavailable("no"))
    elif answer == "nothing":
        d.done(ev.Poll(NO_RANKS, ()))
    else:
        d.confirm(sent_at=d.now).wait(RANK_WINDOW + HOOK_GRACE)
    assert d.hook() is HookEvent.PROMOTE


def test_who_said_nothing_is_not_waited_for_the_next_time() -> None:
    d = canvassing()
    d.done(poll(("other", 1)))
    assert d.s.silent == ("node-third/third",)


def test_whom_a_switchover_has_chosen_asks_nobody() -> None:
    chosen = Switchover("1", 7, candidate="node-me/me", session=SESSION)
    d = Driver(ranking()).ready(replace(released(), plan=Plan(switchover=chosen))).grant()
    d.done(Outcome(True, rank=1))
    assert d.hook() is HookEvent.PROMOTE


@pytest.mark.parametrize("rules", [policy(HookEvent.PROMOTE), ranking(gated=False)],
                         ids=["no hook", "one-shot"])  # fmt: skip
def test_where_nobody_ranks_or_listens_nobody_is_asked(rules: Policy) -> None:
    d = Driver(rules).ready(released()).grant()
    if d.hook() is HookEvent.RANK:
        d.done(Outcome(True, rank=1))
    assert d.hook() is HookEvent.PROMOTE
    d = Driver(rules).ready(elected())
    assert d.s.chore is None


# -- the others ----------------------------------------------------------------------------


def announcing() -> Driver:
    """A candidate that sees another one about to lead."""
    d = Driver(ranking()).ready(elected())
    hook = d.wants(ev.RunHook)
    assert (hook.change.event, hook.change.term) == (HookEvent.RANK, 0)
    return d.finish(hook, Outcome(True, rank=5))


def test_a_candidate_announces_its_rank_once_for_each_holder() -> None:
    d = announcing()
    told = d.wants(ev.Announce)
    assert (told.term, told.member, told.rank) == (40, "node-me/me", 5)
    d.finish(told, Ranks(40, (("node-me/me", 5),)))
    d.lock(elected()).wait(1.0)
    assert len(d.wanted(ev.Announce)) == 1
    d.lock(elected(50))
    assert isinstance(d.s.chore, ev.RunHook)


@pytest.mark.parametrize("said", [Outcome(True, rank=0), Outcome(False, "down")],
                         ids=["rank 0", "failed"])  # fmt: skip
def test_who_would_not_lead_announces_nothing(said: Outcome) -> None:
    d = Driver(ranking()).ready(elected())
    d.finish(d.wants(ev.RunHook), said)
    assert d.wanted(ev.Announce) == []


@pytest.mark.parametrize("said", [Outcome(True, rank=0), Outcome(False, "down")],
                         ids=["rank 0", "failed"])  # fmt: skip
def test_who_announced_nothing_is_asked_when_it_has_the_lock_itself(said: Outcome) -> None:
    """It may be quicker than the one that was given way to; that makes it no leader."""
    d = Driver(ranking()).ready(elected())
    d.finish(d.wants(ev.RunHook), said)
    d.lock(given_back()).grant(60)
    assert d.hook() is HookEvent.RANK
    d.done(said)
    assert d.state is State.RELEASING


def test_who_cannot_lead_says_nothing() -> None:
    d = Driver(ranking()).ready(elected(), instance(health=Health.CRITICAL))
    assert d.s.chore is None


def test_the_one_that_was_given_way_to_asks_nobody_again() -> None:
    d = announcing()
    d.finish(d.wants(ev.Announce), Ranks(40, (("node-me/me", 5),)))
    d.lock(given_back()).grant(60)
    asked = d.wants(ev.Canvass)  # its own rank is on the table: no hook is asked
    assert asked.tabled == 40
    table = Ranks(40, (("node-me/me", 5), ("node-third/third", 4)))
    d.done(ev.Poll(table, (ME, OTHER, THIRD)))
    assert d.hook() is HookEvent.PROMOTE


def test_the_gate_of_who_vanished_is_outlived_once_not_twice() -> None:
    """It cannot have been fed since before the one that gave way held the lock."""
    d = announcing()
    d.finish(d.wants(ev.Announce), Ranks(40, (("node-me/me", 5),)))
    seen = d.now
    d.wait(LEASE).lock(given_back()).grant(60)
    assert d.s.gates_end == d.s.policy.gates_end(seen, marked=False)


def test_ranks_under_a_leader_of_the_past_are_not_on_the_table() -> None:
    """Announced when it was elected, maybe hours before it stepped down."""
    d = announcing()
    d.finish(d.wants(ev.Announce), Ranks(40, (("node-me/me", 5),)))
    d.lock(LockView(KEY, 45, "theirs", record("other", Phase.LEADING, 40)))
    d.lock(given_back()).grant(60)
    assert d.hook() is HookEvent.RANK
    d.done(Outcome(True, rank=1))
    assert d.wants(ev.Canvass).tabled == 0


def test_an_announcement_does_not_wait_for_the_leader_of_the_past() -> None:
    """OK ends nothing: what is announced is a duty like any other."""
    d = announcing()
    d.finish(d.wants(ev.Announce), error=BackendUnavailable("no"))
    assert d.state is State.WATCHING
    assert d.s.chore is None
    assert OK.ok
