"""Deliberate mistakes in the protocol, each as a patch of the machine or of what drives it.

``python -m tests.unit.election.mistakes`` prints in how many runs each is found, and by which
promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from leadertag.election import deadlines, entry, guards, observing, planned, policy
from leadertag.election import events as ev
from leadertag.election.deadlines import Deadlines
from leadertag.election.entry import ENTRY, Entry
from leadertag.election.signals import SIGNALS, Guard
from leadertag.election.standing import Standing
from leadertag.election.states import TRANSITIONS, Signal, State
from leadertag.hookspecs import HookEvent
from leadertag.model import Gate, Lease, Phase
from leadertag.testing.simulator import Result, Scenario, guardian, performing, simulate
from leadertag.testing.simulator.agent import Agent
from leadertag.testing.simulator.probe import Probe
from leadertag.testing.simulator.process import Routine
from leadertag.testing.simulator.registry import AgentRegistry
from leadertag.testing.simulator.strikes import Strike

Patch = AbstractContextManager[Any]
EnterState = Callable[[Standing, Signal, ev.Event], Entry]


def _guard(state: State, signal: Signal, guard: Guard) -> Patch:
    changed = [(name, guard if name is signal else old) for name, old in SIGNALS[state]]
    assert changed != SIGNALS[state]
    return patch.dict(SIGNALS, {state: changed})


def _entry(state: State, make: Callable[[EnterState], EnterState]) -> Patch:
    return patch.dict(ENTRY, {state: make(ENTRY[state])})


def _exit(state: State, signal: Signal, target: State) -> Patch:
    assert TRANSITIONS[state][signal] is not target
    return patch.dict(TRANSITIONS, {state: TRANSITIONS[state] | {signal: target}})


def _fact(name: str, value: Callable[[Standing], Any]) -> Patch:
    return patch.object(Standing, name, property(value))


def _always(_: Standing, __: ev.Event) -> bool:
    return True


def _never(_: Standing, __: ev.Event) -> bool:
    return False


# -- the mistakes ----------------------------------------------------------------------------


def confirmation_counts_from_its_answer() -> Patch:
    right = observing._confirmed
    return patch.object(
        observing, "_confirmed", lambda s, event: right(s, replace(event, sent_at=event.at))
    )


def granted_lease_counts_from_its_answer() -> Patch:
    right = entry._take

    def take(s: Standing, lease: Lease, event: ev.Event) -> Standing:
        return replace(right(s, lease, event), confirmed_at=s.now)

    return patch.object(entry, "_take", take)


def _wait(part: float) -> Patch:
    def make(right: EnterState) -> EnterState:
        def enter(s: Standing, signal: Signal, event: ev.Event) -> Entry:
            s, effects = right(s, signal, event)
            return replace(s, wait_until=s.now + part * (s.wait_until - s.now)), effects

        return enter

    return _entry(State.WAITING_OUT, make)


def no_wait_after_an_unexplained_loss() -> Patch:
    return _wait(0.0)


def half_a_wait_after_an_unexplained_loss() -> Patch:
    return _wait(0.5)


def tag_before_promote() -> Patch:
    def make(right: EnterState) -> EnterState:
        def enter(s: Standing, signal: Signal, event: ev.Event) -> Entry:
            s, publish = entry.publishing(s, signal, event)
            s, promote = right(replace(s, pending=None), signal, event)
            return s, publish + promote

        return enter

    return _entry(State.PROMOTING, make)


def publish_without_confirming() -> Patch:
    def confirm(p: Any, _: Lease) -> Iterator[Any]:
        return p.host.clock.now()
        yield

    return patch.object(performing, "_confirm", confirm)


def no_gate() -> Patch:
    return _fact("gate", lambda s: None)


def adoption_without_memory() -> Patch:
    def adoptable(s: Standing, _: ev.Event) -> bool:
        record = s.view.record if s.view else None
        led = record is not None and record.phase is Phase.LEADING
        return s.own_lock and led and s.instance is not None and not s.stopping

    return patch.object(guards, "adoptable", adoptable)


def release_marked_although_the_wait_is_not_over() -> Patch:
    def make(right: EnterState) -> EnterState:
        return lambda s, signal, event: right(replace(s, waited=True), signal, event)

    return _entry(State.RELEASING, make)


def release_before_demote_has_ended() -> Patch:
    return _guard(State.DEMOTING, Signal.DONE, _always)


def failed_demote_taken_for_done() -> Patch:
    return _exit(State.DEMOTING, Signal.FAILED, State.RELEASING)


def stuck_leader_releases() -> Patch:
    return _exit(State.FENCING, Signal.FAILED, State.RELEASING)


def others_not_shut_out() -> Patch:
    def closed(s: Standing, event: ev.Event) -> bool:
        return s.policy.fenced or guards.outcome(s, event) is not None

    return _guard(State.CLOSING, Signal.CLOSED, closed)


def no_contact_goes_unnoticed() -> Patch:
    return _fact("out_of_contact", lambda s: False)


def demotion_starts_when_it_should_have_ended() -> Patch:
    limit = property(lambda rules: policy.RATE * rules.lease)
    return patch.object(policy.Policy, "contact_limit", limit)


def first_election_without_a_look() -> Patch:
    def waited(s: Standing, _: ev.Event) -> bool:
        return s.first_ever or s.now >= s.wait_until

    return _guard(State.WAITING_OUT, Signal.WAITED, waited)


def filtered_list_taken_for_truth() -> Patch:
    return _fact("members_complete", lambda s: s.members is not None)


def reverted_tags_left_alone() -> Patch:
    return _guard(State.LEADING, Signal.REVERTED, _never)


def orphaned_lock_left_alone() -> Patch:
    return _guard(State.WATCHING, Signal.ORPHANED, _never)


def unfit_leader_stays() -> Patch:
    return _guard(State.LEADING, Signal.UNFIT, _never)


# -- a service that was restarted ------------------------------------------------------------


def verify_ignored() -> Patch:
    return _exit(State.VERIFYING, Signal.REFUSED, State.PUBLISHING)


def adopted_leader_is_not_verified() -> Patch:
    def make(right: EnterState) -> EnterState:
        def enter(s: Standing, signal: Signal, event: ev.Event) -> Entry:
            after, effects = right(s, signal, event)
            if signal is not Signal.ADOPTED:
                return after, effects
            return replace(after, pending=None), []

        return enter

    return _entry(State.VERIFYING, make)


def suspended_leader_is_not_verified() -> Patch:
    return _exit(State.SUSPENDED, Signal.FIT, State.PUBLISHING)


def run_of_check_does_not_verify() -> Patch:
    return _guard(State.LEADING, Signal.RESUMED, _never)


def quick_restart_goes_unnoticed() -> Patch:
    return patch.object(Probe, "tells_restart", lambda self, run: False)


# -- planned change --------------------------------------------------------------------------


def _several(*patches: Patch) -> Patch:
    stack = ExitStack()
    for each in patches:
        stack.enter_context(each)
    return stack


def paused_member_campaigns() -> Patch:
    right = guards.may_campaign

    def may_campaign(s: Standing, event: ev.Event) -> bool:
        return right(replace(s, plan=replace(s.plan, paused=False)), event)

    idle = (State.WAITING_OUT, State.VETTING, State.RANKING, State.GUARDING)
    return _several(
        _guard(State.WATCHING, Signal.CAMPAIGN, may_campaign),
        *(_guard(state, Signal.PAUSE, _never) for state in idle),
    )


def leader_hands_over_without_demote() -> Patch:
    return _exit(State.LEADING, Signal.HAND_OVER, State.RELEASING)


def suspended_leader_leaves_its_gate_open() -> Patch:
    return _entry(State.SUSPENDED, lambda right: entry.nothing)


def unfit_leader_gives_up_in_a_pause() -> Patch:
    return _guard(State.LEADING, Signal.SUSPEND, _never)


def paused_leader_without_contact_stays() -> Patch:
    right = Standing.out_of_contact.fget  # type: ignore[attr-defined]
    return _fact("out_of_contact", lambda s: not s.plan.paused and right(s))


def nobody_accepts_a_switchover() -> Patch:
    return patch.object(planned, "consider", lambda s: (s, []))


# -- gates ----------------------------------------------------------------------------------


def latch_registered_only_to_close() -> Patch:
    return patch.object(Agent, "_unlatch", lambda self, term: self.latches.pop(term))


def gate_of_a_lost_leader_taken_for_closed() -> Patch:
    return patch.object(policy.Policy, "gates_end", lambda rules, since, *, marked: since)


def lapsed_heartbeat_revived_at_once() -> Patch:
    def feed(self: AgentRegistry) -> Routine:
        yield self._host.local(self._agent.feed)

    return patch.object(AgentRegistry, "_beat", feed)


def gate_opened_without_looking_at_its_alias() -> Patch:
    def opened(self: AgentRegistry, gate: Gate) -> Routine:
        yield from self._beat()
        yield self._host.local(lambda: self._agent.open_gate(gate.term))

    return patch.object(AgentRegistry, "open_gate", opened)


# -- the guardian ----------------------------------------------------------------------------


def guardian_does_not_end_the_process() -> Patch:
    return patch.object(guardian.Guardian, "_end_process", lambda self: None)


def guardian_leaves_alone_who_has_lost_the_lock() -> Patch:
    return patch.object(guardian, "is_led", lambda memory: memory.lease is not None)


def _deadlines(change: Callable[[Standing, Deadlines], Deadlines]) -> Patch:
    right = deadlines.of

    def told(s: Standing, admitted_at: float) -> Deadlines | None:
        made = right(s, admitted_at)
        return made and change(s, made)

    return patch.object(deadlines, "of", told)


def restart_moves_the_deadline() -> Patch:
    right = deadlines.of

    def told(s: Standing, admitted_at: float) -> Deadlines | None:
        if s.memory is not None and s.lease is None:
            s = replace(s, confirmed_at=-1e9)
        return right(s, admitted_at)

    return patch.object(deadlines, "of", told)


def guardian_leaves_no_time_to_demote() -> Patch:
    return _deadlines(
        lambda s, made: replace(made, strike_at=made.strike_at + policy.RATE * s.policy.lease / 2)
    )


def guardian_waits_out_the_dead_process_s_demote() -> Patch:
    def wait(s: Standing, made: Deadlines) -> Deadlines:
        if not made.gives_up:
            return made
        hooks = s.policy.budget(HookEvent.DEMOTE) + s.policy.budget(HookEvent.FENCE)
        own_end = s.entered + hooks + policy.SLACK
        return replace(made, gives_up=False, strike_at=max(made.strike_at, own_end))

    return _deadlines(wait)


MISTAKES: tuple[Callable[[], Patch], ...] = (
    confirmation_counts_from_its_answer, granted_lease_counts_from_its_answer,
    no_wait_after_an_unexplained_loss, half_a_wait_after_an_unexplained_loss,
    tag_before_promote, publish_without_confirming, no_gate, adoption_without_memory,
    release_marked_although_the_wait_is_not_over, release_before_demote_has_ended,
    failed_demote_taken_for_done, stuck_leader_releases, others_not_shut_out,
    no_contact_goes_unnoticed, demotion_starts_when_it_should_have_ended,
    first_election_without_a_look, filtered_list_taken_for_truth, reverted_tags_left_alone,
    orphaned_lock_left_alone, unfit_leader_stays,
    verify_ignored, adopted_leader_is_not_verified, suspended_leader_is_not_verified,
    run_of_check_does_not_verify, quick_restart_goes_unnoticed,
    paused_member_campaigns, leader_hands_over_without_demote,
    suspended_leader_leaves_its_gate_open, unfit_leader_gives_up_in_a_pause,
    paused_leader_without_contact_stays, nobody_accepts_a_switchover,
    latch_registered_only_to_close, gate_of_a_lost_leader_taken_for_closed,
    lapsed_heartbeat_revived_at_once, gate_opened_without_looking_at_its_alias,
    guardian_does_not_end_the_process, guardian_leaves_alone_who_has_lost_the_lock,
    restart_moves_the_deadline, guardian_leaves_no_time_to_demote,
    guardian_waits_out_the_dead_process_s_demote,
)  # fmt: skip
ENOUGH = 1500
"""Seeds within which each is found; most of them are within twenty."""


def harsh(drawn: Scenario) -> Scenario:
    """Return a scenario in which mistakes show sooner: short of patience, rich in ambushes."""
    lease = drawn.policy.lease
    return replace(
        drawn, ambush=0.12, faults=max(drawn.faults, 4), slow_agent=0.1, patience=lease / 2,
        hook_trouble=max(drawn.hook_trouble, 0.05), session_ttl=lease,
        node_loss=min(drawn.node_loss, lease / 2), operations=max(drawn.operations, 1),
    )  # fmt: skip


def _befallen(drawn: Scenario, gate_life: float, *strikes: Strike) -> Scenario:
    """Return a scenario in which these strikes are all the trouble that there is."""
    rules = replace(drawn.policy, gate_life=gate_life)
    return replace(
        drawn, policy=rules, gate_life=gate_life, strikes=strikes, loss=0.0, late=0.0,
        slow_agent=0.0, hook_trouble=0.0, operations=0, node_loss=0.3, chaos=8.0,
    )  # fmt: skip


def stuck_agent(drawn: Scenario) -> Scenario:
    """Return one in which a member is robbed of the lock while its agent is stuck in a write."""
    seed, member = drawn.seed, drawn.seed % drawn.members
    return _befallen(drawn, 0.5, Strike(3.0, member, "stuck_agent", 0.5 + seed % 10 / 20, coins=1))


def restarted_agent(drawn: Scenario) -> Scenario:
    """Return one in which a member is robbed of the lock while it is cut off, its agent is
    restarted, and nobody is left there who could close the gate."""
    seed, member = drawn.seed, drawn.seed % drawn.members
    return _befallen(
        drawn, 2.0,
        Strike(3.0, member, "partition", 0.4 + seed % 7 / 50),
        Strike(3.0, member, "end_session"),
        Strike(3.4, member, "kill_guardian"),
        Strike(3.41, member, "kill", 0.9),
        Strike(3.42 + seed % 5 / 50, member, "agent_restart", 0.7 + seed % 4 / 25),
    )  # fmt: skip


def _lapsed(drawn: Scenario, at: float, *strikes: Strike) -> Scenario:
    """Return one in which a member stands still until its heartbeat has run out, and is robbed
    of the lock while its agent is stuck in writing that it goes on."""
    seed, member = drawn.seed, drawn.seed % drawn.members
    still = 0.3  # seconds: longer than the heartbeat of a gate of 0.5 s, shorter than a lease
    lasting = (still / drawn.policy.lease - 0.02) / 1.98
    stuck_at = at + still + 0.008 + seed % 7 / 500
    return _befallen(
        drawn, 0.5,
        Strike(at, member, "pause", lasting),
        Strike(stuck_at, member, "stuck_agent", 0.5 + seed % 10 / 20, coins=1),
        *(replace(strike, at=stuck_at + strike.at, host=member) for strike in strikes),
    )  # fmt: skip


def lapsed_while_opening(drawn: Scenario) -> Scenario:
    """Return one in which that happens about when the first gate opens."""
    return _lapsed(replace(drawn, members=2), 0.3 + drawn.seed % 46 / 100)


def lapsed_while_leading(drawn: Scenario) -> Scenario:
    """Return one in which it happens later, and nobody is left who could close the gate."""
    return _lapsed(
        drawn, 2.0, Strike(0.2, 0, "kill_guardian"), Strike(0.21, 0, "kill", 0.9 + drawn.seed % 10)
    )


_WORLDS: dict[str, Callable[[Scenario], Scenario]] = {
    "latch_registered_only_to_close": stuck_agent,
    "gate_of_a_lost_leader_taken_for_closed": restarted_agent,
    "lapsed_heartbeat_revived_at_once": lapsed_while_leading,
    "gate_opened_without_looking_at_its_alias": lapsed_while_opening,
}
"""Where a mistake shows that takes several misfortunes at once."""


def world_of(mistake: Callable[[], Patch]) -> Callable[[Scenario], Scenario]:
    """Return what makes a drawn scenario one in which that mistake is looked for."""
    return _WORLDS.get(mistake.__name__, harsh)


def find(mistake: Callable[[], Patch]) -> Result | None:
    """Return the first run that finds it."""
    scenario = world_of(mistake)
    with mistake():
        results = (simulate(seed, scenario=scenario) for seed in range(1, ENOUGH))
        return next((result for result in results if result.broken), None)


def main() -> None:
    """Print the table."""
    print(f"{'mistake':52} {'runs':>5}  promise")
    for mistake in MISTAKES:
        found = find(mistake)
        runs, promise = (found.seed, found.broken) if found else (ENOUGH, "NOT FOUND")
        print(f"{mistake.__name__:52} {runs:5}  {promise}", flush=True)


if __name__ == "__main__":
    main()
