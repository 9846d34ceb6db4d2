"""The faults: each with a name, where it strikes, how it begins and how it is healed.

A fault is a generator: it injects, yields once, and heals when it is continued. What it
must lead to is said beside it, and judged by evidence afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from tests.chaos.network import Rule
from tests.chaos.node import Node
from tests.chaos.settings import BACKENDS, LIMITS, SLOW
from tests.chaos.world import World

Fault = Iterator[None]
Run = Callable[[World, Node, Random], Fault]
F = TypeVar("F", bound=Run)
LATE_MS = (50.0, 150.0)
JUMP = 3600
"""Seconds that a wall clock may jump, either way."""
SERVERS = ("consul", "etcd")
"""The backends that have servers, and a network to them."""

SERVICE_FAILS, PLANNED_STOP, HOST_LOST = "service fails", "planned stop", "host lost"
CUT_OFF, KILLED = "cut-off leader has stopped acting", "leadertag killed or hung"
UNRESOLVED, RESTART = "dead leadertag stops being resolved", "time for a restart"
SWITCHOVER = "switchover"


@dataclass(frozen=True)
class Nemesis:
    """One kind of fault."""

    name: str
    run: Run
    target: str = "leader"
    """``leader``, ``follower``, ``any``, or ``server leader``: where it strikes."""
    successor: bool = False
    """Another term has to follow, and the fault lasts until it has."""
    bounds: tuple[str, ...] = ()
    """What `leadertag explain` promises for it, by name."""
    lasts: tuple[float, float] = (1.0, 3.0)
    """Seconds, where no successor is waited for."""
    touches: str = "daemon"
    """What it is about: two faults of one kind on one node would undo one another."""
    weight: int = 1
    """How often among the settled faults; 0: never."""
    mixes: bool = True
    """Whether it may overlap with others."""
    backends: tuple[str, ...] = BACKENDS
    detected_late: bool = False
    """The bound counts from the service's failed check: seen as the old leader's end."""


ALL: list[Nemesis] = []


def nemesis(name: str, **how: object) -> Callable[[F], F]:
    """Register a fault."""

    def register(run: F) -> F:
        ALL.append(Nemesis(name, run, **how))  # type: ignore[arg-type]
        return run

    return register


# -- conditions: what makes a fault harder ---------------------------------------------------


def slow_hooks(world: World) -> Fault:
    """Promote and demote take the better part of their limits everywhere."""
    seconds = {"promote": LIMITS["first"]["promote"], "demote": LIMITS["last"]["demote"]}
    with_all(world, {event: SLOW * limit for event, limit in seconds.items()})
    yield
    with_all(world, {})


def late_frames(world: World, random: Random) -> Fault:
    """Everything on the network is late."""
    assert world.network is not None
    pairs = [(a, b) for a in world.network.hosts for b in world.network.hosts if a != b]
    world.network.set_rules({pair: Rule(delay_ms=random.uniform(*LATE_MS) / 2) for pair in pairs})
    yield
    world.network.clear_rules(pairs)


def with_all(world: World, seconds: Mapping[str, float]) -> None:
    """Set on every node how long its hooks take."""
    for node in world.nodes.values():
        node.slow_hooks(seconds)


def both(outer: Fault, inner: Fault) -> Fault:
    """A fault under a condition: healed in the opposite order."""
    next(outer)
    next(inner)
    yield
    next(inner, None)
    next(outer, None)
