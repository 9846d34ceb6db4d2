"""What operators do: stops and restarts; and hooks that are slow or hang meanwhile."""

from __future__ import annotations

import signal
from random import Random

from tests.chaos.clock import now
from tests.chaos.nemeses.base import (
    PLANNED_STOP,
    RESTART,
    SWITCHOVER,
    Fault,
    both,
    nemesis,
    slow_hooks,
)
from tests.chaos.node import Node
from tests.chaos.settings import ELECTION
from tests.chaos.world import World


@nemesis("planned stop", successor=True, bounds=(PLANNED_STOP,), weight=3)
def planned_stop(world: World, node: Node, random: Random) -> Fault:
    """SIGINT: it gives up in order."""
    node.daemon.hold_down()
    node.daemon.signal(signal.SIGINT)
    yield
    node.daemon.start()


@nemesis("planned stop, slow hooks", successor=True, bounds=(PLANNED_STOP,), weight=2, mixes=False)
def planned_stop_slow(world: World, node: Node, random: Random) -> Fault:
    """As before, but promote and demote take 80 % of their limits."""
    return both(slow_hooks(world), planned_stop(world, node, random))


@nemesis("switchover", successor=True, bounds=(SWITCHOVER,), weight=2, touches="plan")
def switchover(world: World, node: Node, random: Random) -> Fault:
    """An operator asks for it, on any node."""
    asked = random.choice(sorted(world.nodes.values(), key=lambda one: one.name))
    process = asked.leadertag("switchover", ELECTION)
    yield
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # withdraws it
    process.wait()


@nemesis("switchover, slow hooks", successor=True, bounds=(SWITCHOVER,), mixes=False)
def switchover_slow(world: World, node: Node, random: Random) -> Fault:
    """As before, but promote and demote take 80 % of their limits."""
    return both(slow_hooks(world), switchover(world, node, random))


@nemesis("redis killed while paused", lasts=(1.0, 3.0), touches="plan", mixes=False)
def killed_while_paused(world: World, node: Node, random: Random) -> Fault:
    """Nobody may succeed before it is resumed."""
    node.leadertag("pause", ELECTION).wait()
    node.redis.kill()
    yield
    node.leadertag("resume", ELECTION).wait()


@nemesis("planned stop, demote hangs", successor=True, mixes=False)
def planned_stop_hung(world: World, node: Node, random: Random) -> Fault:
    """Demote is killed at its limit, and the fence ends the service."""
    node.slow_hooks({"demote": 60.0})
    node.daemon.hold_down()
    node.daemon.signal(signal.SIGINT)
    yield
    node.slow_hooks({})
    node.daemon.start()


@nemesis("planned stop, promote hangs", successor=True, mixes=False)
def promote_hung(world: World, node: Node, random: Random) -> Fault:
    """The first successor's promote is killed at its limit; another one leads."""
    victim = random.choice(sorted(name for name in world.nodes if name != node.name))
    world.nodes[victim].slow_hooks({"promote": 60.0, "follow": 60.0})
    node.daemon.hold_down()
    node.daemon.signal(signal.SIGINT)
    yield
    world.nodes[victim].slow_hooks({})
    node.daemon.start()


def _restart(world: World, node: Node, random: Random, number: signal.Signals) -> Fault:
    began = now()
    node.daemon.hold_down()
    node.daemon.signal(number)
    while node.daemon.running:
        world.seen.wait(lambda: False, 0.01)
    # Some restarts come late in the time that there is: that is where a bound shows.
    world.seen.wait(lambda: False, random.uniform(0.0, 0.5))
    node.daemon.start()
    while node.describe().get("state", "starting") == "starting":
        if not node.daemon.running or now() > began + 20:
            break
        world.seen.wait(lambda: False, 0.01)
    world.journal.write("restarted", node=node.name, took=round(now() - began, 3))
    yield


@nemesis("daemon restarted", bounds=(RESTART,), lasts=(0.5, 1.5), weight=4, mixes=False)
def restarted(world: World, node: Node, random: Random) -> Fault:
    """SIGTERM, and back within the guardian's deadline: no role changes (I6)."""
    return _restart(world, node, random, signal.SIGTERM)


@nemesis("daemon crashed and restarted", bounds=(RESTART,), lasts=(0.5, 1.5), weight=3,
         mixes=False)  # fmt: skip
def crashed(world: World, node: Node, random: Random) -> Fault:
    """SIGKILL, and back within the guardian's deadline: no role changes (I6)."""
    return _restart(world, node, random, signal.SIGKILL)


@nemesis("hooks hang", target="any", lasts=(2.0, 5.0), touches="hooks", weight=0)
def hooks_hang(world: World, node: Node, random: Random) -> Fault:
    """Whatever hook runs there, it is killed at its limit."""
    node.slow_hooks(dict.fromkeys(random.choice((("promote",), ("demote",), ("follow",))), 60.0))
    yield
    node.slow_hooks({})
