"""What befalls the world: each fault strikes a host (or the backend) and ends again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from leadertag.hookspecs import HookEvent
from leadertag.testing.simulator.scenario import BASE_TAGS
from leadertag.testing.simulator.strikes import Strike
from leadertag.testing.simulator.sync import HEALTH

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.world import World


Fault = Callable[["World", "Host", Strike], None]


def lasts(world: World, strike: Strike, least: float = 0.1, most: float = 2.5) -> float:
    """Return for how many seconds: ``least`` and ``most`` are told in leases.

    By default from less than a hiccup to well beyond a lease.
    """
    return world.scenario.policy.lease * (least + (most - least) * strike.lasting)


# -- the network -------------------------------------------------------------------------


def partition(world: World, host: Host, strike: Strike) -> None:
    """Nothing gets through; after a while the backend takes the node for lost."""
    _cut(world, host, strike, sends=False, hears=False)


def deaf(world: World, host: Host, strike: Strike) -> None:
    """Requests arrive, answers do not."""
    _cut(world, host, strike, sends=True, hears=False)


def mute(world: World, host: Host, strike: Strike) -> None:
    """Requests do not arrive; news does."""
    _cut(world, host, strike, sends=False, hears=True)


def _cut(world: World, host: Host, strike: Strike, *, sends: bool, hears: bool) -> None:
    host.link.sends, host.link.hears = sends, hears
    world.engine.note(host.name, f"link: sends={sends} hears={hears}")
    world.watch_node(host)
    world.engine.after(lasts(world, strike), lambda: heal(world, host))


def stuck_agent(world: World, host: Host, strike: Strike) -> None:
    """Cut off while the agent writes something: it hears of nothing until that has ended.

    The lock may be lost meanwhile.
    """
    if host.agent is None or not host.agent.up:
        return
    host.agent.sync.changed(HEALTH)
    _cut(world, host, strike, sends=False, hears=False)
    if strike.first:
        end_session(world, host, strike)


def heal(world: World, host: Host) -> None:
    """The link works again."""
    if not (host.link.sends and host.link.hears):
        world.engine.note(host.name, "link works again")
        host.link.sends = host.link.hears = True
    world.watch_node(host)


def last_word(world: World, host: Host, strike: Strike) -> None:
    """The lock is lost right after it was proven to be held, and only the proof gets through."""

    def strike_now() -> None:
        world.engine.note(host.name, "hears of its lock for the last time")
        _cut(world, host, strike, sends=False, hears=False)
        if strike.first:
            delete_key(world, host, strike)
        process = host.process
        if world.store.view.holder and process is not None:
            world.store.destroy(process.session, "ended behind its back")

    host.link.last_word = strike_now


# -- the process -------------------------------------------------------------------------


def pause(world: World, host: Host, strike: Strike) -> None:
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

    world.engine.after(lasts(world, strike, 0.02, 2.0), go_on)


def kill(world: World, host: Host, strike: Strike) -> None:
    """SIGKILL, and a restart."""
    host.kill_process()
    world.engine.after(lasts(world, strike, 0.01, 2.0), host.start_process)


def strike_demoting(world: World, host: Host, strike: Strike) -> None:
    """SIGKILL or SIGSTOP in the middle of its next demotion, which takes its time.

    For whatever reason that comes, or because the lock is lost behind its back.
    """
    service, limit = host.service, host.clock.real(host.policy.budget(HookEvent.DEMOTE))

    def strike_now() -> None:
        if not service.calm:  # peace may have come meanwhile
            (pause if strike.first else kill)(world, host, strike)

    def in_the_middle() -> None:
        world.engine.after(limit * strike.lasting, strike_now)
        world.engine.after(3 * limit, service.be_quick)

    service.dawdles, service.demotes = True, in_the_middle
    if strike.second:
        last_word(world, host, strike)


def stop(world: World, host: Host, strike: Strike) -> None:
    """SIGTERM, and a start."""
    if world.scenario.one_shot is not None:
        kill(world, host, strike)  # a run of check is not asked to stop
    elif host.process is not None and host.process.alive:
        world.engine.note(host.name, f"SIGTERM, keep={strike.first}")
        host.process.stop(keep=strike.first)
        world.engine.after(lasts(world, strike), host.start_process)


def kill_guardian(world: World, host: Host, _: Strike) -> None:
    """The guardian is killed; a daemon that lives starts another when it has word for it."""
    host.guardian.kill()


def stop_guardian(world: World, host: Host, strike: Strike) -> None:
    """The guardian is stopped for a moment, and late at its deadline."""
    host.guardian.hold_up(lasts(world, strike, 0.0, 0.3))


# -- the node and its agent ----------------------------------------------------------------


def lose_node(world: World, host: Host, strike: Strike) -> None:
    """The machine is gone for a while."""
    if host.alive:
        host.lose()
        world.watch_node(host)

        def back() -> None:
            host.come_back()
            world.watch_node(host)

        world.engine.after(lasts(world, strike, 0.5, 3.0), back)


def agent_restart(world: World, host: Host, strike: Strike) -> None:
    """The agent is gone for a moment."""
    if host.agent is None or not host.agent.up:
        return
    world.engine.note(host.name, "the agent restarts")
    host.agent.stop()
    host.link.agent_up = False
    world.engine.after(lasts(world, strike, 0.05, 0.8), lambda: agent_back(host))


def agent_back(host: Host) -> None:
    """The agent is there again."""
    if host.alive and host.agent is not None and not host.agent.up:
        host.agent.start()
    host.link.agent_up = True


# -- the backend ---------------------------------------------------------------------------


def backend_election(world: World, _: Host, strike: Strike) -> None:
    """The backend's own leader is gone: it answers nobody until there is another one.

    What was on its way fails; the sessions' timers start anew at the new leader.
    """
    world.engine.note("backend", "elects a leader")
    until = world.engine.now + lasts(world, strike, 0.05, 1.2)
    for host in world.hosts:
        host.link.backend_down_until = until
    world.store.restart_timers(until)


def end_session(world: World, host: Host, _: Strike) -> None:
    """The session ends at a bad moment."""
    process = host.process
    if process is not None and process.session:
        world.store.destroy(process.session, "destroyed by an operator")


def delete_key(world: World, _: Host, __: Strike) -> None:
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


def usurp(world: World, host: Host, strike: Strike) -> None:
    """The lock is taken away from a holder that cannot learn of it."""
    _cut(world, host, strike, sends=strike.second, hears=False)
    if strike.first:
        delete_key(world, host, strike)
    else:
        end_session(world, host, strike)


def orphan(world: World, host: Host, strike: Strike) -> None:
    """The same, and its process is started anew before it has learned of anything."""
    _cut(world, host, strike, sends=False, hears=False)
    end_session(world, host, strike)

    def restart() -> None:
        host.kill_process()
        world.engine.after(0.02, host.start_process)

    limit = host.clock.real(world.scenario.policy.contact_limit)
    world.engine.after(limit * strike.lasting, restart)


# -- the service and its registration --------------------------------------------------------


def crash_service(world: World, host: Host, strike: Strike) -> None:
    """The service itself is gone for a while."""
    host.service.crash()
    world.engine.after(lasts(world, strike), lambda: host.service.start() if host.alive else None)


def flap(world: World, host: Host, strike: Strike) -> None:
    """The service's check fails although the service runs."""
    world.engine.note(host.name, "its check fails")
    host.show_health(False)
    world.engine.after(
        lasts(world, strike, 0.02, 1.0), lambda: host.show_health(host.service.up)
    )  # fmt: skip


def deregister(world: World, host: Host, strike: Strike) -> None:
    """An operator takes the registration away and puts it back as it is on file."""
    if host.agent is None or not host.agent.registered:
        return
    host.agent.deregister()
    world.engine.after(lasts(world, strike, 0.05, 1.0), lambda: register(world, host))


def register(world: World, host: Host) -> None:
    """The registration is there again, once the agent gets to it."""
    if host.agent is not None:
        host.agent.register(BASE_TAGS)


def reload(world: World, host: Host, _: Strike) -> None:
    """The agent reads its files again: the tags are as they are there."""
    if host.agent is not None:
        host.agent.reload(BASE_TAGS)


FAULTS: dict[str, tuple[Fault, int]] = {
    "partition": (partition, 4), "deaf": (deaf, 3), "mute": (mute, 2), "pause": (pause, 4),
    "kill": (kill, 4), "strike_demoting": (strike_demoting, 3), "stop": (stop, 3),
    "lose_node": (lose_node, 3),
    "kill_guardian": (kill_guardian, 2), "stop_guardian": (stop_guardian, 2),
    "agent_restart": (agent_restart, 3), "stuck_agent": (stuck_agent, 5),
    "backend_election": (backend_election, 2),
    "end_session": (end_session, 2), "delete_key": (delete_key, 2), "usurp": (usurp, 3),
    "orphan": (orphan, 2), "last_word": (last_word, 3), "crash_service": (crash_service, 3),
    "flap": (flap, 3), "deregister": (deregister, 1), "reload": (reload, 2),
}  # fmt: skip
"""By name: the fault, and how often it is drawn."""


def choose(rng: Random, at: float, host: int, faults: dict[str, tuple[Fault, int]]) -> Strike:
    """Draw one of the faults and all of its choices."""
    names, weights = list(faults), [weight for _, weight in faults.values()]
    what = rng.choices(names, weights)[0]
    return Strike(at, host, what, round(rng.random(), 3), rng.randrange(4))
