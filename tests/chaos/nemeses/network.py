"""What befalls the network."""

from __future__ import annotations

from random import Random

from tests.chaos.nemeses.base import (
    CUT_OFF,
    HOST_LOST,
    SERVERS,
    Fault,
    both,
    late_frames,
    nemesis,
    slow_hooks,
)
from tests.chaos.network import CUT
from tests.chaos.node import Node
from tests.chaos.world import World


def cut(world: World, node: Node, *, outgoing: bool = True, incoming: bool = True) -> Fault:
    """Let nothing out of a node, or in, or both."""
    assert world.network is not None
    out, back = world.network.pairs_of(node.name)
    pairs = [*(out if outgoing else ()), *(back if incoming else ())]
    world.network.set_rules(dict.fromkeys(pairs, CUT))
    yield
    world.network.clear_rules(pairs)


@nemesis("leader isolated", successor=True, bounds=(HOST_LOST, CUT_OFF), touches="network",
         weight=2, backends=SERVERS)  # fmt: skip
def isolated(world: World, node: Node, random: Random) -> Fault:
    """Nothing goes in or out."""
    return cut(world, node)


@nemesis("leader isolated, slow hooks", successor=True, bounds=(HOST_LOST, CUT_OFF), mixes=False,
         backends=SERVERS)  # fmt: skip
def isolated_slow(world: World, node: Node, random: Random) -> Fault:
    """Its demote and the successor's promote take 80 % of their limits."""
    return both(slow_hooks(world), isolated(world, node, random))


@nemesis("follower isolated", target="follower", lasts=(2.0, 8.0), touches="network",
         backends=SERVERS)  # fmt: skip
def follower_isolated(world: World, node: Node, random: Random) -> Fault:
    """The others have a majority without it."""
    return cut(world, node)


@nemesis("server leader isolated", target="server leader", lasts=(2.0, 8.0), touches="network",
         backends=SERVERS)  # fmt: skip
def server_leader_isolated(world: World, node: Node, random: Random) -> Fault:
    """The servers have to elect another."""
    return cut(world, node)


@nemesis("frames from a node lost", target="any", lasts=(2.0, 8.0), touches="network",
         backends=SERVERS)  # fmt: skip
def lost_from(world: World, node: Node, random: Random) -> Fault:
    """It hears, and is not heard."""
    return cut(world, node, incoming=False)


@nemesis("frames to a node lost", target="any", lasts=(2.0, 8.0), touches="network",
         backends=SERVERS)  # fmt: skip
def lost_to(world: World, node: Node, random: Random) -> Fault:
    """It is heard, and does not hear."""
    return cut(world, node, outgoing=False)


@nemesis("late frames", target="any", lasts=(2.0, 5.0), touches="network", backends=SERVERS)
def late(world: World, node: Node, random: Random) -> Fault:
    """Everything takes 50 to 150 ms there and back."""
    return late_frames(world, random)
