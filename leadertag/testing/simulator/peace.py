"""When everything is healed: one leader within a bound (I5), and what must work in peace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leadertag.election.guards import aside
from leadertag.election.states import State
from leadertag.hookspecs import HookEvent
from leadertag.testing.history import Broken
from leadertag.testing.simulator import faults, operators
from leadertag.testing.simulator.scenario import BASE_TAGS

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.world import World

STEADY = 0.75
"""For how many leases a settled world has to stay settled."""
LOOK = 0.25
SWIFTLY = 0.02


class Peace:
    """The end of one run: heals the world, waits, and drills it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._drills: tuple[Callable[[], None] | None, ...] = (
            self._service_gone, None, self._switchover, None, self._restarted, None,
            self._unfit_in_a_pause, None,
        )  # fmt: skip

    def keep(self) -> None:
        """Heal everything, wait for a leader; every other seed ends with a drill as well."""
        self._make()
        self._settle()
        drill = self._drills[self._world.scenario.seed % len(self._drills)]
        if self._world.scenario.one_shot is not None:
            return  # what a drill would look at is there for moments only
        if drill is not None and len(self._world.hosts) > 1:
            drill()
            self._settle()

    def _make(self) -> None:
        world = self._world
        world.engine.note("world", "peace: everything is healed")
        operators.ask_for_nothing(world)
        for host in world.hosts:
            host.link.calm = host.service.calm = True
            host.link.last_word, host.link.backend_down_until = None, 0.0
            faults.heal(world, host)
            faults.agent_back(host)
            host.come_back()
            host.service.start()
            host.show_health(True)
            faults.register(world, host)
            if host.process is not None and host.process.alive and host.process.paused:
                host.process.go_on()
            host.start_process()

    # -- I5 --------------------------------------------------------------------------------

    def _settle(self) -> None:
        """I5: within a generous bound there is one leader, and it stays."""
        world = self._world
        engine, scenario = world.engine, world.scenario
        lease = scenario.policy.lease
        bound = engine.now + 30 + 20 * lease + 2 * scenario.session_ttl + 2 * scenario.sync_every
        steady_since = None
        why = ""
        while engine.now < bound:
            engine.run(engine.now + LOOK)
            why = self.unsettled()
            if why:
                steady_since = None
                for host in world.hosts:
                    host.service.start()  # what was fenced is repaired by somebody
                    if scenario.one_shot is None:
                        host.start_process()
            elif steady_since is None:
                steady_since = engine.now
            elif engine.now - steady_since > STEADY * lease:
                return
        raise Broken("I5", f"{bound:.0f} s after everything was healed: {why}")

    def _until(self, wanted: Callable[[], bool], bound: float, what: str) -> None:
        engine = self._world.engine
        bound += engine.now
        while not wanted():
            if engine.now >= bound:
                raise Broken("I5", what)
            engine.run(engine.now + SWIFTLY)

    @property
    def _leader(self) -> Host:
        return next(host for host in self._world.hosts if _acts(host))

    def _leads(self, host: Host) -> bool:
        return self._world.catalog.leaders() == [host.name] and bool(host.service.acting)

    def _service_gone(self) -> None:
        """A leader whose service is down for good is succeeded."""
        world, leader = self._world, self._leader
        world.engine.note("world", f"the service of {leader.name} is down for good")
        leader.service.broken = True
        leader.service.crash()
        others = [host for host in world.hosts if host is not leader]
        self._until(
            lambda: any(self._leads(host) for host in others),
            20 + 10 * world.scenario.policy.lease,
            f"nobody has succeeded {leader.name}, whose service is down",
        )
        leader.service.broken = False
        leader.service.start()

    def _restarted(self) -> None:
        """A service that is restarted together with its leadertag is made leader anew, or else
        another one leads; so is one that is restarted in a pause, once that is over."""
        world, leader = self._world, self._leader
        if not world.scenario.verifies:
            self._service_gone()
            return
        paused = world.scenario.seed % 16 > 8
        if paused:
            operators.set_paused(world, True)
            world.engine.run(world.engine.now + 1.0)
        else:
            leader.kill_process()
        world.engine.note("world", f"the service of {leader.name} is restarted")
        leader.service.crash()
        leader.service.start()
        leader.start_process()
        patience = 20 + 10 * world.scenario.policy.lease
        self._until(
            lambda: not world.catalog.leaders(), patience,
            f"{leader.name} goes on leading although its service was restarted",
        )  # fmt: skip
        if paused:
            operators.set_paused(world, False)
        self._until(
            lambda: any(self._leads(host) for host in world.hosts), patience,
            f"nobody leads after the service of {leader.name} was restarted",
        )  # fmt: skip

    def _switchover(self) -> None:
        """A healthy candidate succeeds, and nobody is without a leader for long meanwhile."""
        world, old = self._world, self._leader
        others = [host for host in world.hosts if host is not old]
        to = others[0] if world.scenario.seed % 16 > 8 else None
        wanted = f"node-{to.name}/{to.name}" if to else ""
        self._until(
            lambda: all(h.process and not h.process.standing.unable for h in others), 10.0,
            "a healthy member in peace is not able to lead",
        )  # fmt: skip
        world.engine.note("world", f"a switchover in peace, to {wanted or 'any'}")
        operators.ask_for_switchover(world, wanted, 60.0)
        patience = 20 + 10 * world.scenario.policy.lease
        self._until(
            lambda: not self._leads(old), patience, f"{old.name} does not hand over",
        )  # fmt: skip
        began = world.engine.now
        self._until(
            lambda: any(self._leads(host) for host in others), patience,
            f"nobody succeeds {old.name}, which has handed over",
        )  # fmt: skip
        if to is not None and not self._leads(to):
            raise Broken("I5", f"{to.name} was to succeed {old.name}, but another one did")
        vacant, bound = world.engine.now - began, self._vacancy()
        if vacant > bound:
            raise Broken("I5", f"a switchover left nobody for {vacant:.2f} s, not {bound:.2f}")

    def _vacancy(self) -> float:
        """Return for how long a switchover may leave clients without a leader: every hook
        at its limit, and half a second for every request and every look of an agent."""
        policy = self._world.scenario.policy
        hooks = sum(policy.budget(event) for event in (
            HookEvent.DEMOTE, HookEvent.BEFORE_PROMOTE, HookEvent.RANK, HookEvent.PROMOTE,
        ))  # fmt: skip
        return 1.1 * (hooks + policy.gate_life) + 4.0

    def _unfit_in_a_pause(self) -> None:
        """Health lost in a pause closes the gate and keeps the lock; regained, all is as before."""
        world, leader = self._world, self._leader
        assert leader.process is not None
        term, store = leader.process.standing.term, world.store
        operators.set_paused(world, True)
        world.engine.run(world.engine.now + 1.0)
        leader.show_health(False)
        self._until(
            lambda: not any(world.catalog.entries[leader.name].gates.values()), 5.0,
            f"{leader.name} is unfit in a pause and keeps its gate open",
        )  # fmt: skip
        world.engine.run(world.engine.now + 2 * world.scenario.policy.lease)
        record = store.view.leader
        others = [h.name for h in world.hosts if h.service.acting and h is not leader]
        if record is None or record.term != term or others:
            raise Broken("I5", f"{leader.name} is unfit in a pause and does not keep the lock")
        leader.show_health(True)
        self._until(
            lambda: world.catalog.leaders() == [leader.name], 10.0 + world.scenario.policy.lease,
            f"{leader.name} is fit again in the same pause and does not lead",
        )  # fmt: skip
        operators.set_paused(world, False)

    # -- what is wrong ---------------------------------------------------------------------

    def unsettled(self) -> str:
        """Return what is not yet as it should be; ``""`` when everything is."""
        world = self._world
        acting = [host for host in world.hosts if _acts(host)]
        if len(acting) != 1:
            return f"acting: {[host.name for host in acting]}; {'; '.join(map(_idle, world.hosts))}"
        if world.catalog.leaders() != [acting[0].name]:
            return f"{acting[0].name} acts but {world.catalog.leaders()} resolve as leader"
        process = acting[0].process
        term = acting[0].service.acting or (process.standing.term if process else 0)
        record = world.store.view.leader
        if record is None or record.term != term:
            return f"the lock does not tell of term {term}"
        for host in world.hosts:
            wrong = self._wrong(host, leads=host is acting[0], term=term)
            if wrong:
                return f"{host.name} {wrong}"
        if world.store.guard:
            return "the predecessor's lock is held"
        return "a switchover that is done is still there" if world.store.plan.switchover else ""

    def _wrong(self, host: Host, *, leads: bool, term: int) -> str:
        scenario = self._world.scenario
        process, entry = host.process, self._world.catalog.entries.get(host.name)
        if process is None or not (process.alive or scenario.one_shot):
            return "runs no leadertag"
        wanted = State.LEADING if leads else State.WATCHING
        if scenario.one_shot is None and process.standing.state is not wanted:
            return f"is {process.standing.state} ({process.standing.reason})"
        role = scenario.election.leader_tag if leads else scenario.election.follower_tag
        if entry is None or entry.tags != (*BASE_TAGS, role):
            return f"has the tags {entry and entry.tags}"
        if entry.gates != ({term: True} if leads and scenario.policy.gated else {}):
            return f"has the gates {entry.gates}"
        follows = scenario.hooks.get(HookEvent.FOLLOW) and not leads
        if follows and host.service.followed != term and not host.service.lapsed:
            return f"follows term {host.service.followed}"
        return ""


def _idle(host: Host) -> str:
    """Return why a member does nothing."""
    if host.process is None or not host.process.alive:
        return f"{host.name} runs no leadertag"
    s = host.process.standing
    return f"{host.name} {s.state}: {aside(s) or s.reason}"


def _acts(host: Host) -> bool:
    """Whether it acts, or would if its service had not lost its role unnoticed."""
    process = host.process
    leads = process is not None and process.standing.state is State.LEADING
    unseen = host.service.lapsed and not host.scenario.verifies
    return bool(host.service.acting) or (unseen and leads)
