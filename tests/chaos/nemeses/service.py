"""What befalls the service: Redis."""

from __future__ import annotations

from random import Random

from tests.chaos.nemeses.base import (
    SERVERS,
    SERVICE_FAILS,
    Fault,
    both,
    late_frames,
    nemesis,
    slow_hooks,
    with_all,
)
from tests.chaos.node import Node
from tests.chaos.world import World


@nemesis("redis killed", successor=True, bounds=(SERVICE_FAILS,), touches="redis", weight=5)
def redis_killed(world: World, node: Node, random: Random) -> Fault:
    """SIGKILL. It is started again as a replica of nobody."""
    node.redis.kill()
    yield


@nemesis("redis killed, slow hooks", successor=True, bounds=(SERVICE_FAILS,), weight=2, mixes=False)
def redis_killed_slow(world: World, node: Node, random: Random) -> Fault:
    """As before, but promote and demote take 80 % of their limits."""
    return both(slow_hooks(world), redis_killed(world, node, random))


@nemesis("redis killed, late frames", successor=True, bounds=(SERVICE_FAILS,), weight=2,
         mixes=False, backends=SERVERS)  # fmt: skip
def redis_killed_late(world: World, node: Node, random: Random) -> Fault:
    """As before, on a slow network."""
    return both(late_frames(world, random), redis_killed(world, node, random))


@nemesis("redis killed, informing hooks hang", successor=True, bounds=(SERVICE_FAILS,),
         mixes=False)  # fmt: skip
def redis_killed_informed(world: World, node: Node, random: Random) -> Fault:
    """Nothing waits for informational hooks (I8)."""
    with_all(world, {"role_changed": 60.0, "leader_changed": 60.0})
    node.redis.kill()
    yield
    with_all(world, {})


@nemesis("redis stopped", successor=True, bounds=(SERVICE_FAILS,), touches="redis", weight=2,
         detected_late=True)  # fmt: skip
def redis_stopped(world: World, node: Node, random: Random) -> Fault:
    """SIGSTOP: it cannot be demoted, so the fence ends it."""
    node.redis.pause()
    yield
    node.redis.resume()


@nemesis("follower's redis killed", target="follower", touches="redis", weight=2)
def follower_redis_killed(world: World, node: Node, random: Random) -> Fault:
    """Nothing may change but its health."""
    node.redis.kill()
    yield
