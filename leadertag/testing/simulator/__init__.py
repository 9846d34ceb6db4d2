"""The simulator: the real election machine in a world of virtual time, faults and seeds.

A seed is a world: its members, settings, faults and every delay. The same seed gives the
same run. ``python -m leadertag.testing.simulator --runs 1000`` hunts; ``--seed S`` replays;
``--exhaustive`` visits every interleaving of a small world instead of drawing one.

=============  ==========================================================
engine         virtual time, clocks that drift
scenario       what a seed stands for
store          the backend's lock; ``catalog`` and ``agent`` its registry
network        requests late, lost, cut off; ``feeds`` the watches
process        drives the machine; ``performing`` does its effects
service        what is led, and its hooks; ``guardian`` relieves the dead
monitor        shows each step to :mod:`leadertag.testing.history`
chaos          when it strikes: ``faults``, and what ``operators`` ask
peace          what has to be right when everything is healed
world          puts it together; ``hunt`` runs many, ``shrinking`` one shorter
exhaustive     every interleaving; ``small`` is the world that it visits
=============  ==========================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from leadertag.testing.history import Broken
from leadertag.testing.simulator.scenario import Scenario, draw
from leadertag.testing.simulator.strikes import Strike
from leadertag.testing.simulator.world import World

__all__ = ["Result", "Scenario", "Strike", "World", "draw", "simulate"]


@dataclass(frozen=True)
class Result:
    """What came of one seed. ``broken`` is empty when every promise was kept."""

    seed: int
    broken: str
    what: str
    seconds: float
    """Virtual time that passed."""
    leaderships: int
    strikes: tuple[Strike, ...] = ()
    """What befell it, in order."""
    visited: Mapping[str, int] = field(default_factory=dict)
    """How often each state was entered."""
    timeline: tuple[tuple[float, str, str], ...] = ()

    def story(self, last: int = 0) -> str:
        """Return the timeline as text; only its end where ``last`` > 0."""
        lines = [f"{at:9.3f}  {who:8}  {what}" for at, who, what in self.timeline[-last:]]
        return "\n".join([*lines, f"seed {self.seed}: {self.broken}: {self.what}"])

    @property
    def faults(self) -> Counter[str]:
        """How often each kind of fault struck."""
        return Counter(strike.what for strike in self.strikes)


def simulate(
    seed: int, *, members: int = 0, guardian: bool = True,
    scenario: Callable[[Scenario], Scenario] = lambda drawn: drawn,
) -> Result:  # fmt: skip
    """Run one seed. ``scenario`` may change what was drawn for it."""
    return play(scenario(draw(seed, members=members, guardian=guardian)))


def play(scenario: Scenario) -> Result:
    """Run one scenario."""
    world = World(scenario)
    broken = what = ""
    try:
        world.run()
    except Broken as failure:
        broken, what = failure.promise, failure.what
    return Result(
        scenario.seed, broken, what, world.engine.now, world.history.published,
        tuple(world.chaos.struck), dict(world.visited), tuple(world.engine.timeline),
    )  # fmt: skip
