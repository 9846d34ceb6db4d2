"""Which fault comes when: settled ones, whose times are judged, and overlapping ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random

from tests.chaos.clock import now
from tests.chaos.nemeses import ALL, Fault, Nemesis
from tests.chaos.node import Node
from tests.chaos.settings import STAND_BACK
from tests.chaos.world import NotSettled, World

SETTLED_IN_A_ROW = 6
"""Settled faults between two storms of overlapping ones."""
STORM = (2, 3)
SUCCESSOR_TIMEOUT = 60.0
"""Seconds that a successor is waited for; longer than any bound."""


class Deck:
    """Gives things in random order, each as often as it should, before any comes again."""

    def __init__(self, random: Random, nemeses: Iterable[Nemesis]) -> None:
        self._random = random
        self._all = [nemesis for nemesis in nemeses for _ in range(nemesis.weight or 1)]
        self._left: list[Nemesis] = []

    def draw(self) -> Nemesis:
        """The next one."""
        if not self._left:
            self._left = list(self._all)
            self._random.shuffle(self._left)
        return self._left.pop()


@dataclass
class Limits:
    """When a run is over: a moment, or a number of faults."""

    until: float = float("inf")
    faults: int | None = None

    def over(self, count: int) -> bool:
        """Whether it is, after so many faults."""
        return now() >= self.until or (self.faults is not None and count >= self.faults)


@dataclass
class Schedule:
    """Draws faults and carries them out until the limits are reached."""

    world: World
    random: Random
    limits: Limits
    only: Sequence[str] = ()
    """Names of faults, in the order in which they are wanted, again and again where a number
    of faults is; all of the backend's without."""
    without: Sequence[str] = ()
    """Names of faults that are not wanted."""
    count: int = 0
    """Faults so far."""
    _open: list[tuple[int, Nemesis, Node, Fault]] = field(default_factory=list)

    def run(self) -> None:
        """Alternate; raises NotSettled when even a fresh start does not bring the world to rest."""
        self._wait(self.world.seen.stood_back_at + STAND_BACK - now())
        if self.only:
            for name in self.only if self.limits.faults is None else cycle(self.only):
                if self.limits.over(self.count):
                    return
                self.settled(next(one for one in self.usable() if one.name == name))
            return
        settled = Deck(self.random, (one for one in self.usable() if one.weight))
        mixed = Deck(self.random, (one for one in self.usable() if one.mixes))
        while not self.limits.over(self.count):
            for _ in range(SETTLED_IN_A_ROW):
                if self.limits.over(self.count):
                    return
                self.settled(settled.draw())
            if not self.limits.over(self.count):
                self.storm(mixed)

    def usable(self) -> list[Nemesis]:
        """The faults that can be had in this world."""
        world = self.world
        found = [one for one in ALL if world.backend_name in one.backends]
        found = [one for one in found if one.name not in self.without]
        if world.no_clock:
            found = [one for one in found if one.touches != "clock"]
        if not all(node.disk_can_fill for node in world.nodes.values()):
            found = [one for one in found if one.touches != "disk"]
        return found

    # -- one fault, from rest to rest --------------------------------------------------------

    def settled(self, nemesis: Nemesis) -> None:
        """Inject one fault into a world at rest; wait for what it leads to, and for rest."""
        seen = self.world.seen
        term = seen.term
        number = self._inject(nemesis, self._target(nemesis), "settled")
        if nemesis.successor:
            seen.wait(lambda: seen.leader and seen.term > term, SUCCESSOR_TIMEOUT)
        else:
            self._pause(nemesis)
        self._heal(number)
        self._rest(number)

    def storm(self, deck: Deck) -> None:
        """Two or three faults at once, then rest."""
        wanted = self.random.randint(*STORM)
        numbers: list[int] = []
        tries = 20
        while len(numbers) < wanted and tries:
            tries -= 1
            nemesis = deck.draw()
            node = self._target(nemesis)
            if any(_clash(nemesis, node, other, there) for _, other, there, _ in self._open):
                continue
            numbers.append(self._inject(nemesis, node, "overlapping"))
            self._wait(self.random.uniform(0.0, 1.5))
        self._wait(self.random.uniform(1.0, 5.0))
        self.random.shuffle(numbers)
        for number in numbers:
            self._heal(number)
            self._wait(self.random.uniform(0.0, 1.0))
        self._rest(numbers[-1])

    def heal_all(self) -> None:
        """Heal whatever is open."""
        for number, *_ in list(self._open):
            self._heal(number)

    # -- the parts ---------------------------------------------------------------------------

    def _target(self, nemesis: Nemesis) -> Node:
        nodes = self.world.nodes
        leader = self.world.seen.leader
        names = sorted(nodes)
        if nemesis.target == "leader" and leader:
            return nodes[leader]
        if nemesis.target == "follower":
            return nodes[self.random.choice([name for name in names if name != leader])]
        if nemesis.target == "server leader" and (found := self.world.server_leader()):
            return nodes[found]
        return nodes[self.random.choice(names)]

    def _inject(self, nemesis: Nemesis, node: Node, mode: str) -> int:
        self.count += 1
        number, seen = self.count, self.world.seen
        leader, term = seen.leader, seen.term
        fault = nemesis.run(self.world, node, self.random)
        began = now()
        next(fault)
        self.world.journal.write(
            "fault", began, id=number, what="inject", name=nemesis.name, node=node.name, mode=mode,
            bounds=nemesis.bounds, successor=nemesis.successor, late=nemesis.detected_late,
            leader=leader, term=term, done=round(now(), 6),
        )  # fmt: skip
        self._open.append((number, nemesis, node, fault))
        return number

    def _heal(self, number: int) -> None:
        (found,) = [one for one in self._open if one[0] == number]
        self._open.remove(found)
        began = now()
        next(found[3], None)
        self.world.journal.write("fault", began, id=number, what="heal", name=found[1].name)

    def _rest(self, number: int) -> None:
        try:
            took = self.world.wait_settled()
        except NotSettled as error:
            self.world.journal.write("unsettled", id=number, why=str(error))
            self.world.begin_anew()
            return
        self.world.journal.write("settled", id=number, took=round(took, 3))
        # Who stands back is no candidate yet.
        self._wait(self.world.seen.stood_back_at + STAND_BACK - now())

    def _pause(self, nemesis: Nemesis) -> None:
        self._wait(self.random.uniform(*nemesis.lasts))

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.world.seen.wait(lambda: False, seconds)


def _clash(one: Nemesis, here: Node, other: Nemesis, there: Node) -> bool:
    if one.touches == other.touches == "network":
        return True  # rules of one pair: healing one fault would heal the other
    return here is there and ("all" in (one.touches, other.touches) or one.touches == other.touches)
