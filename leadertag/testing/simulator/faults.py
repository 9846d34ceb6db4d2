"""What befalls the world: each fault strikes a host (or the backend) and ends again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leadertag.testing.simulator.scenario import BASE_TAGS

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.world import World


def _lasting(world: World, least: float = 0.1, most: float = 2.5) -> float:
    """Return how long a fault lasts: from less than a hiccup to well beyond a lease."""
    return world.scenario.policy.lease * world.engine.between(least, most)


def partition(world: World, host: Host) -> None:
    """Nothing gets through; after a while the backend takes the node for lost."""
    _cut(world, host, sends=False, hears=False)


def deaf(world: World, host: Host) -> None:
    """Requests arrive, answers do not."""
    _cut(world, host, sends=True, hears=False)


def mute(world: World, host: Host) -> None:
    """Requests do not arrive; news does."""
    _cut(world, host, sends=False, hears=True)


def _cut(world: World, host: Host, *, sends: bool, hears: bool) -> None:
    host.link.sends, host.link.hears = sends, hears
    world.engine.note(host.name, f"link: sends={sends} hears={hears}")
    world.watch_node(host)
    world.engine.after(_lasting(world), lambda: heal(world, host))


def heal(world: World, host: Host) -> None:
    """The link works again."""
    if not (host.link.sends and host.link.hears):
        world.engine.note(host.name, "link works again")
        host.link.sends = host.link.hears = True
    world.watch_node(host)


def pause(world: World, host: Host) -> None:
    """SIGSTOP, and later SIGCONT."""
    process = host.process
    if process is None or not process.alive or process.paused:
        return
    world.engine.note(host.name, "SIGSTOP")
    process.pause()
    host.guardian.look()

    def go_on() -> None:
        if process.alive and process.paused:
            world.engine.note(host.name, "SIGCONT")
            process.go_on()

    world.engine.after(_lasting(world, 0.02, 2.0), go_on)


def kill(world: World, host: Host) -> None:
    """SIGKILL, and a restart."""
    host.kill_process()
    world.engine.after(_lasting(world, 0.01, 2.0), host.start_process)


def stop(world: World, host: Host) -> None:
    """SIGTERM, and a start."""
    if host.process is not None and host.process.alive:
        keep = world.engine.chance(0.5)
        world.engine.note(host.name, f"SIGTERM, keep={keep}")
        host.process.stop(keep=keep)
        world.engine.after(_lasting(world), host.start_process)


def lose_node(world: World, host: Host) -> None:
    """The machine is gone for a while."""
    if host.alive:
        host.lose()
        world.watch_node(host)

        def back() -> None:
            host.come_back()
            world.watch_node(host)

        world.engine.after(_lasting(world, 0.5, 3.0), back)


def agent_restart(world: World, host: Host) -> None:
    """The agent is gone for a moment."""
    if host.agent is None or not host.agent.up:
        return
    world.engine.note(host.name, "the agent restarts")
    host.agent.stop()
    host.link.agent_up = False
    world.engine.after(_lasting(world, 0.05, 0.8), lambda: _agent_back(host))


def _agent_back(host: Host) -> None:
    if host.alive and host.agent is not None and not host.agent.up:
        host.agent.start()
    host.link.agent_up = True


def end_session(world: World, host: Host) -> None:
    """The session ends at a bad moment."""
    process = host.process
    if process is not None and process.session:
        world.store.destroy(process.session, "destroyed by an operator")


def delete_key(world: World, _: Host) -> None:
    """An operator deletes the lock's key.

    Not while somebody holds it, acts or still may, and a member has never seen any term: that one
    would take it for the first election ever, which owes no wait (DESIGN, "Waiting out").
    """
    busy = bool(world.store.view.holder) or any(_may_act(host) for host in world.hosts)
    if not (busy and any(_has_seen_nothing(host) for host in world.hosts)):
        world.store.delete()


def _may_act(host: Host) -> bool:
    leased = host.process is not None and host.process.standing.lease is not None
    return bool(host.service.acting) or leased


def _has_seen_nothing(host: Host) -> bool:
    process, memory = host.process, host.memory
    if process is not None and process.alive and process.standing.seen_term:
        return False
    return memory is None or memory.seen_term == 0


def usurp(world: World, host: Host) -> None:
    """The lock is taken away from a holder that cannot learn of it."""
    _cut(world, host, sends=world.engine.chance(0.5), hears=False)
    if world.engine.chance(0.5):
        delete_key(world, host)
    else:
        end_session(world, host)


def last_word(world: World, host: Host) -> None:
    """The lock is lost right after it was proven to be held, and only the proof gets through."""

    def strike_now() -> None:
        world.engine.note(host.name, "hears of its lock for the last time")
        _cut(world, host, sends=False, hears=False)
        if world.engine.chance(0.5):
            delete_key(world, host)
        process = host.process
        if world.store.view.holder and process is not None:
            world.store.destroy(process.session, "ended behind its back")

    host.link.last_word = strike_now


def crash_service(world: World, host: Host) -> None:
    """The service itself is gone for a while."""
    host.service.crash()
    world.engine.after(_lasting(world), lambda: host.service.start() if host.alive else None)


def flap(world: World, host: Host) -> None:
    """The service's check fails although the service runs."""
    world.engine.note(host.name, "its check fails")
    host.show_health(False)
    world.engine.after(_lasting(world, 0.02, 1.0), lambda: host.show_health(host.service.up))


def deregister(world: World, host: Host) -> None:
    """An operator takes the registration away and puts it back as it is on file."""
    if host.agent is None or not host.agent.registered:
        return
    world.engine.note(host.name, "is deregistered")
    host.agent.register(False)
    world.engine.after(_lasting(world, 0.05, 1.0), lambda: _register(world, host))


def _register(world: World, host: Host) -> None:
    if host.agent is not None and not host.agent.registered:
        world.engine.note(host.name, "is registered again")
        host.agent.tags = BASE_TAGS
        host.agent.register(True)


def reload(world: World, host: Host) -> None:
    """The agent reads its files again: the tags are as they are there."""
    if host.agent is not None:
        world.engine.note(host.name, "its tags are reverted by a reload")
        host.agent.reload(BASE_TAGS)


Fault = Callable[["World", "Host"], None]
FAULTS: tuple[tuple[Fault, int], ...] = (
    (partition, 4), (deaf, 3), (mute, 2), (pause, 4), (kill, 4), (stop, 3), (lose_node, 3),
    (agent_restart, 1), (end_session, 2), (delete_key, 2), (usurp, 3), (last_word, 3),
    (crash_service, 3), (flap, 3), (deregister, 1), (reload, 2),
)  # fmt: skip


def strike(world: World, host: Host) -> None:
    """Let one of the faults happen."""
    faults, weights = zip(*FAULTS, strict=True)
    world.engine.rng.choices(faults, weights)[0](world, host)
