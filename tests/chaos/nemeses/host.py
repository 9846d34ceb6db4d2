"""What befalls a host, its disk, its clock, and the registry's server on it."""

from __future__ import annotations

import signal
from random import Random

from tests.chaos.nemeses.base import HOST_LOST, JUMP, SERVERS, Fault, both, nemesis, slow_hooks
from tests.chaos.nemeses.network import cut
from tests.chaos.node import Node
from tests.chaos.world import World


@nemesis("host lost", successor=True, bounds=(HOST_LOST,), weight=2, touches="all",
         backends=SERVERS)  # fmt: skip
def host_lost(world: World, node: Node, random: Random) -> Fault:
    """Everything on it is killed at once, and nothing answers for it any more."""
    silence = cut(world, node)  # first: a host that is gone says no farewells
    next(silence)
    for unit in node.units:
        unit.hold_down()
    node.daemon.pause()
    node.kill_guardians()
    for unit in node.units:
        unit.kill()
    yield
    next(silence, None)
    for unit in node.units:
        unit.start()


@nemesis("host lost, slow hooks", successor=True, bounds=(HOST_LOST,), mixes=False,
         backends=SERVERS)  # fmt: skip
def host_lost_slow(world: World, node: Node, random: Random) -> Fault:
    """As before, but the successor's promote takes 80 % of its limit."""
    return both(slow_hooks(world), host_lost(world, node, random))


@nemesis("state directory full", lasts=(2.0, 4.0), touches="disk")
def disk_full(world: World, node: Node, random: Random) -> Fault:
    """The leadership goes on; only a restart could not take it up."""
    node.fill_disk()
    yield
    node.empty_disk()


@nemesis("wall clock jumps", target="any", lasts=(2.0, 4.0), touches="clock")
def clock_jumps(world: World, node: Node, random: Random) -> Fault:
    """By up to an hour, and back: no decision is ever taken by it."""
    assert node.clock is not None
    node.clock.jump(random.choice((-1, 1)) * random.randint(5, JUMP))
    yield
    node.clock.jump(0)


@nemesis("successor crashes while it waits", successor=True, mixes=False,
         backends=SERVERS)  # fmt: skip
def successor_crashes(world: World, node: Node, random: Random) -> Fault:
    """It holds the lock of a lost host, is killed before it acts, and is back at once."""
    lost = host_lost(world, node, random)
    next(lost)
    seen = world.seen
    seen.wait(lambda: seen.holder not in ("", node.name) and seen.phase == "elected", 40)
    if seen.holder in world.nodes and seen.holder != node.name:
        successor = world.nodes[seen.holder]
        world.seen.wait(lambda: False, random.uniform(0.2, 1.5))
        successor.daemon.kill()
        successor.daemon.start()
    yield
    next(lost, None)


# -- the registry's servers ------------------------------------------------------------------


@nemesis("leader's server killed", lasts=(2.0, 12.0), touches="server", backends=SERVERS)
def server_killed(world: World, node: Node, random: Random) -> Fault:
    """SIGKILL to the registry's server beside the leader."""
    assert node.server is not None
    node.server.hold_down()
    node.server.kill()
    yield
    node.server.start()


@nemesis("server killed", target="server leader", lasts=(1.0, 5.0), touches="server",
         backends=SERVERS)  # fmt: skip
def server_leader_killed(world: World, node: Node, random: Random) -> Fault:
    """SIGKILL to the server that leads the others."""
    return server_killed(world, node, random)


@nemesis("server stopped", target="any", lasts=(1.0, 6.0), touches="server", backends=SERVERS)
def server_stopped(world: World, node: Node, random: Random) -> Fault:
    """SIGSTOP: it accepts connections and never answers."""
    assert node.server is not None
    node.server.pause()
    yield
    node.server.resume()


@nemesis("agent restarted", target="any", lasts=(1.0, 2.0), touches="server", weight=2,
         backends=("consul",))  # fmt: skip
def server_restarted(world: World, node: Node, random: Random) -> Fault:
    """SIGTERM, and back at once."""
    assert node.server is not None
    node.server.hold_down()
    node.server.signal(signal.SIGTERM)
    yield
    node.server.start()


@nemesis("agent reloaded", lasts=(0.5, 1.5), touches="server", weight=3, backends=("consul",))
def reloaded(world: World, node: Node, random: Random) -> Fault:
    """SIGHUP: the registration is the file's again, without role tags."""
    assert node.server is not None
    node.server.signal(signal.SIGHUP)
    yield
