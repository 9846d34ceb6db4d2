"""What befalls leadertag's own processes without anybody having planned it."""

from __future__ import annotations

import signal
from random import Random

from tests.chaos.nemeses.base import HOST_LOST, KILLED, UNRESOLVED, Fault, both, nemesis, slow_hooks
from tests.chaos.node import Node
from tests.chaos.world import World


@nemesis("daemon killed", successor=True, bounds=(KILLED, UNRESOLVED), weight=3)
def daemon_killed(world: World, node: Node, random: Random) -> Fault:
    """SIGKILL: the guardian gives up in its place."""
    node.daemon.hold_down()
    node.daemon.kill()
    yield
    node.daemon.start()


@nemesis("daemon killed, slow hooks", successor=True, bounds=(KILLED,), weight=2, mixes=False)
def daemon_killed_slow(world: World, node: Node, random: Random) -> Fault:
    """The guardian's demote takes 80 % of its limit, and so do the successor's hooks."""
    return both(slow_hooks(world), daemon_killed(world, node, random))


@nemesis("daemon stopped", successor=True, bounds=(KILLED, UNRESOLVED), weight=3)
def daemon_stopped(world: World, node: Node, random: Random) -> Fault:
    """SIGSTOP: the guardian kills it first."""
    node.daemon.hold_down()
    node.daemon.pause()
    yield
    node.daemon.resume()
    node.daemon.start()


@nemesis("daemon paused for a moment", lasts=(0.2, 0.5), weight=2)
def daemon_paused(world: World, node: Node, random: Random) -> Fault:
    """SIGSTOP and SIGCONT, before anybody could mind."""
    node.daemon.pause()
    yield
    node.daemon.resume()


@nemesis("redis and daemon crashed and restarted", lasts=(1.0, 2.0))
def crashed_together(world: World, node: Node, random: Random) -> Fault:
    """Both are back before anybody could mind, the service as no leader: it has to lead again."""
    node.daemon.kill()
    node.redis.kill()
    node.redis.start()
    node.daemon.start()
    yield


@nemesis("guardian killed", lasts=(0.5, 1.5), weight=2)
def guardian_killed(world: World, node: Node, random: Random) -> Fault:
    """The daemon starts another."""
    node.kill_guardians()
    yield


@nemesis("guardian stopped", lasts=(2.0, 4.0))
def guardian_stopped(world: World, node: Node, random: Random) -> Fault:
    """It hears nothing for a while, and then what was said last."""
    node.signal_guardians(signal.SIGSTOP)
    yield
    node.signal_guardians(signal.SIGCONT)


@nemesis("daemon and guardian killed", successor=True, bounds=(HOST_LOST, UNRESOLVED), weight=2)
def both_killed(world: World, node: Node, random: Random) -> Fault:
    """Nobody is left to demote: the limit of I1 that the documentation names."""
    world.journal.write("excuse", node=node.name, why="daemon and guardian killed at once")
    node.daemon.hold_down()
    node.daemon.pause()  # it would start another guardian
    node.kill_guardians()
    node.daemon.kill()
    yield
    node.daemon.start()


@nemesis("daemon and guardian killed, slow hooks", successor=True, bounds=(HOST_LOST,),
         mixes=False)  # fmt: skip
def both_killed_slow(world: World, node: Node, random: Random) -> Fault:
    """As before, but the successor's promote takes 80 % of its limit."""
    return both(slow_hooks(world), both_killed(world, node, random))


@nemesis("daemon and guardian killed, agent restarted", successor=True,
         bounds=(HOST_LOST, UNRESOLVED), mixes=False, backends=("consul",))  # fmt: skip
def both_killed_agent_restarted(world: World, node: Node, random: Random) -> Fault:
    """Just before the gate would close, its time begins anew: once."""
    assert node.server is not None
    next(both_killed(world, node, random))
    world.seen.wait(lambda: False, random.uniform(1.0, 1.4))
    node.server.hold_down()
    node.server.signal(signal.SIGTERM)
    while node.server.running:
        world.seen.wait(lambda: False, 0.01)
    node.server.start()
    yield
    node.daemon.start()


@nemesis("daemon and guardian stopped", lasts=(3.0, 6.0))
def both_stopped(world: World, node: Node, random: Random) -> Fault:
    """As a machine that hangs; the lock does not expire before they go on."""
    world.journal.write("excuse", node=node.name, why="daemon and guardian stopped at once")
    node.daemon.hold_down()
    node.daemon.pause()
    node.signal_guardians(signal.SIGSTOP)
    yield
    node.signal_guardians(signal.SIGCONT)
    node.daemon.resume()
    node.daemon.start()


@nemesis("follower's daemon killed", target="follower", lasts=(0.5, 2.0))
def follower_daemon_killed(world: World, node: Node, random: Random) -> Fault:
    """Nobody notices."""
    node.daemon.hold_down()
    node.daemon.kill()
    yield
    node.daemon.start()
