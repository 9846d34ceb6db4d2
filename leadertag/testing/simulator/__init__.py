"""The simulator: the real election machine in a world of virtual time, faults and seeds.

A seed is a world: its members, settings, faults and every delay. The same seed gives the
same run. ``python -m leadertag.testing.simulator --runs 1000`` hunts; ``--seed S`` replays.

=============  ==========================================================
engine         virtual time, clocks that drift
scenario       what a seed stands for
store          the backend's lock; ``catalog`` and ``agent`` its registry
network        requests late, lost, cut off; ``feeds`` the watches
process        drives the machine; ``performing`` does its effects
service        what is led, and its hooks; ``guardian`` the ideal one
monitor        shows each step to :mod:`leadertag.testing.history`
faults         what befalls it all; ``world`` puts it together
=============  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from leadertag.testing.history import Broken
from leadertag.testing.simulator.scenario import Scenario, draw
from leadertag.testing.simulator.world import World

__all__ = ["Result", "Scenario", "World", "draw", "simulate"]


@dataclass(frozen=True)
class Result:
    """What came of one seed. ``broken`` is empty when every promise was kept."""

    seed: int
    broken: str
    what: str
    seconds: float
    """Virtual time that passed."""
    leaderships: int
    timeline: tuple[tuple[float, str, str], ...]

    def story(self, last: int = 0) -> str:
        """Return the timeline as text; only its end where ``last`` > 0."""
        lines = [f"{at:9.3f}  {who:8}  {what}" for at, who, what in self.timeline[-last:]]
        return "\n".join([*lines, f"seed {self.seed}: {self.broken}: {self.what}"])


def simulate(
    seed: int, *, members: int = 0, guardian: bool = True,
    scenario: Callable[[Scenario], Scenario] = lambda drawn: drawn,
) -> Result:  # fmt: skip
    """Run one seed. ``scenario`` may change what was drawn for it."""
    world = World(scenario(draw(seed, members=members, guardian=guardian)))
    broken = what = ""
    try:
        world.run()
    except Broken as failure:
        broken, what = failure.promise, failure.what
    return Result(
        seed, broken, what, world.engine.now, world.history.published,
        tuple(world.engine.timeline),
    )  # fmt: skip
