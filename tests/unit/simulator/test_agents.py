"""What an agent that was cut off, or restarted, writes when it is back: never a second leader.

That the same worlds show what happens without the rules for gates is in ``test_mistakes``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.testing.simulator import Scenario, simulate
from tests.unit.election.mistakes import (
    lapsed_while_leading,
    lapsed_while_opening,
    restarted_agent,
    stuck_agent,
)

SEEDS = 300

WORLDS = [restarted_agent, stuck_agent, lapsed_while_opening, lapsed_while_leading]


@pytest.mark.parametrize("world", WORLDS, ids=lambda made: made.__name__)
def test_no_second_leader(world: Callable[[Scenario], Scenario]) -> None:
    for seed in range(1, SEEDS):
        result = simulate(seed, members=3, scenario=world)
        assert not result.broken, result.story()


def test_a_stuck_agent_hears_of_nothing_until_its_write_has_ended() -> None:
    """Its own checks go on meanwhile, and so does whoever asks it: in vain, but not for nothing."""
    results = (simulate(seed, members=3, scenario=stuck_agent) for seed in range(1, SEEDS))
    for result in results:
        told = [(at, what) for at, who, what in result.timeline if at >= 3.0]
        healed = next((at for at, what in told if what == "link works again"), None)
        closes = [at for at, what in told if what.startswith("gate") and what.endswith("closes")]
        demotes = [at for at, what in told if "-> demoting (unconfirmed" in what]
        if healed and demotes and closes and demotes[0] < healed < closes[0]:
            return  # asked to close the gate while it was stuck, it did so afterwards
    pytest.fail("no agent was stuck while its leader gave up")
