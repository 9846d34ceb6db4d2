"""The simulated guardian strikes when the real scheduler tells the real one to."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leadertag.election import deadlines
from leadertag.election.events import Memory
from leadertag.election.machine import begin
from leadertag.election.standing import Standing
from leadertag.election.states import State
from leadertag.hookspecs import HookEvent
from leadertag.model import Lease, Phase
from leadertag.scheduler.member import Member
from leadertag.testing.simulator import Strike, draw, play, simulate
from tests.unit.election.driver import KEY, lead, policy, record
from tests.unit.election.mistakes import harsh


def _leading() -> Standing:
    return lead(HookEvent.PROMOTE, HookEvent.DEMOTE).s


def _restarted(confirmed_at: float, state: State) -> Standing:
    lease = Lease(KEY, 30, 31, "mine", record("me", Phase.LEADING, 30))
    memory = Memory("mine", lease, 30, str(state), acting=True, confirmed_at=confirmed_at)
    return begin(policy(HookEvent.DEMOTE), 100.0, memory)


STANDINGS: dict[str, Standing] = {
    "leading": _leading(),
    "holding": replace(_leading(), state=State.HOLDING),
    "suspended": replace(_leading(), state=State.SUSPENDED),
    "demoting": replace(_leading(), state=State.DEMOTING, entered=101.0),
    "demoting, lock lost": replace(_leading(), state=State.DEMOTING, entered=101.0, lease=None),
    "fencing": replace(_leading(), state=State.FENCING, entered=102.0),
    "stuck": replace(_leading(), state=State.STUCK, retry_at=105.0),
    "restarted in time": _restarted(99.0, State.LEADING),
    "restarted at the deadline": _restarted(97.85, State.LEADING),
    "restarted long after": _restarted(50.0, State.LEADING),
    "restarted while giving up": _restarted(97.0, State.DEMOTING),
}


@pytest.mark.parametrize("case", sorted(STANDINGS))
def test_it_strikes_when_the_scheduler_says(case: str) -> None:
    s = STANDINGS[case]
    member: Any = SimpleNamespace(
        standing=s, policy=s.policy, election=s.policy.election, _admitted_at=100.0, writer=1
    )
    hold = Member.hold(cast(Member, member))
    told = deadlines.of(s, 100.0)
    assert (told is None) is (hold is None) is (case == "holding")
    if told is not None and hold is not None:
        assert (hold.strike_at, hold.gives_up) == (told.strike_at, told.gives_up)


def test_who_does_not_act_needs_no_guardian() -> None:
    assert deadlines.of(replace(_leading(), acting=False), 100.0) is None


def test_it_gives_up_by_the_real_machine() -> None:
    stories = (simulate(seed, scenario=harsh) for seed in range(1, 400))
    done = next(r for r in stories if any("guardian is done" in what for _, _, what in r.timeline))
    told = [what for _, _, what in done.timeline]
    began = told.index("the guardian takes over")
    assert any("stuck -> demoting" in what for what in told[began:])


def test_only_when_process_and_guardian_are_both_gone_is_it_excused() -> None:
    def story(*strikes: Strike) -> str:
        told = replace(draw(1, members=2), strikes=strikes, loss=0.0, late=0.0)
        result = play(told)
        assert not result.broken, result.story()
        return "\n".join(what for _, _, what in result.timeline)

    kill = Strike(4.0, 0, "kill", lasting=1.0), Strike(4.0, 1, "kill", lasting=1.0)
    guardians = Strike(4.1, 0, "kill_guardian"), Strike(4.1, 1, "kill_guardian")
    early = Strike(3.0, 0, "kill_guardian"), Strike(3.0, 1, "kill_guardian")
    assert "the guardian takes over" in story(*kill)
    assert "the guardian takes over" not in story(*kill, *guardians)
    # A daemon that lives has started another one before it is killed itself.
    assert "the guardian takes over" in story(*early, *kill)
