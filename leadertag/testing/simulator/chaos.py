"""When faults strike: as they are drawn, in ambush, or exactly as a schedule says.

Chance has two sources: the engine's for every delay, and one of its own for what befalls the
world. So a run whose strikes were noted goes the same way again when they are told.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from leadertag.election.states import GIVING_UP, State
from leadertag.testing.simulator.faults import FAULTS, Fault, choose
from leadertag.testing.simulator.operators import OPERATIONS
from leadertag.testing.simulator.restarts import RESTARTS
from leadertag.testing.simulator.strikes import Strike

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.world import World

KINDS: dict[str, tuple[Fault, int]] = {**FAULTS, **RESTARTS, **OPERATIONS}
_DEATHS = {what: FAULTS[what] for what in ("kill", "pause", "lose_node")}
_DULL = (State.WATCHING, State.STARTING)
"""States in which an ambush is seldom worth while."""


class Chaos:
    """Strikes one world until it is told to end."""

    def __init__(self, world: World) -> None:
        self.struck: list[Strike] = []
        """Every strike so far, in order."""
        self.goes_on = True
        self._world = world
        self._faults = {**FAULTS, **RESTARTS} if world.scenario.verifies else FAULTS
        self._fate = random.Random(f"faults {world.scenario.seed}")  # noqa: S311 - to be repeated

    def begin(self) -> None:
        """Schedule what is to happen."""
        scenario, engine = self._world.scenario, self._world.engine
        if scenario.strikes is not None:
            for strike in scenario.strikes:
                engine.after(strike.at, partial(self._carry_out, strike))
            return
        for kinds, number in ((self._faults, scenario.faults), (OPERATIONS, scenario.operations)):
            for _ in range(number):
                at = self._fate.uniform(0.2, scenario.chaos)
                engine.after(at, partial(self._strike_somebody, kinds))

    def entered(self, host: Host, state: str) -> None:
        """Strike at the very moment when a member has moved on."""
        world, fate = self._world, self._fate
        if not self.goes_on or world.scenario.strikes is not None:
            return
        if fate.random() >= world.scenario.ambush or (state in _DULL and fate.random() < 0.8):
            return
        number = world.hosts.index(host)
        asks = world.scenario.operations and fate.random() < 0.25
        kinds = OPERATIONS if asks else self._faults
        if state in GIVING_UP and fate.random() < 0.3:
            kinds = _DEATHS  # whoever is about to give up is the worst to lose
        world.engine.after(fate.uniform(0, 0.06), lambda: self._strike(number, kinds))

    def _strike_somebody(self, kinds: dict[str, tuple[Fault, int]]) -> None:
        numbers = range(len(self._world.hosts))
        acting = [n for n in numbers if self._world.hosts[n].service.acting]
        chosen = acting if acting and self._fate.random() < 0.6 else numbers
        self._strike(self._fate.choice(chosen), kinds)

    def _strike(self, number: int, kinds: dict[str, tuple[Fault, int]]) -> None:
        if self.goes_on:
            self._carry_out(choose(self._fate, self._world.engine.now, number, kinds))

    def _carry_out(self, strike: Strike) -> None:
        world = self._world
        if not self.goes_on or strike.host >= len(world.hosts):
            return
        self.struck.append(strike)
        KINDS[strike.what][0](world, world.hosts[strike.host], strike)
