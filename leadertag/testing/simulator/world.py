"""The whole world of one seed: members, backend, faults, and the verdict at the end."""

from __future__ import annotations

from leadertag.election.signals import aside
from leadertag.election.states import State
from leadertag.testing.history import Broken, History
from leadertag.testing.simulator import faults
from leadertag.testing.simulator.catalog import Catalog
from leadertag.testing.simulator.engine import Engine
from leadertag.testing.simulator.host import Host
from leadertag.testing.simulator.scenario import BASE_TAGS, Scenario
from leadertag.testing.simulator.store import Store

STEADY = 0.75
"""For how many leases a settled world has to stay settled."""
LOOK = 0.25
DRILLS = 4
"""Every so many seeds end with a service that fails and has to be succeeded."""


class World:
    """One run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.engine = Engine(scenario.seed)
        election = scenario.election
        self.history = History(election.leader_tag, election.follower_tag)
        self.store = Store(self.engine, self.history, election.key)
        self.catalog = Catalog(
            self.engine, self.history, self.store, service=election.service,
            election=election.name, leader_tag=election.leader_tag,
            gate_life=scenario.gate_life, fenced=scenario.fenced,
        )  # fmt: skip
        self.hosts = [
            Host(f"m{n}", self.engine, scenario, self.history, self.store, self.catalog,
                 self._state_entered)
            for n in range(1, scenario.members + 1)
        ]  # fmt: skip
        self.store.changed = self._lock_changed
        if scenario.fenced or scenario.election.compat:
            self.catalog.on_change = self._registry_changed
        self.chaotic = True

    def run(self) -> None:
        """Chaos, then peace; raises Broken for the first promise that is broken."""
        engine, scenario = self.engine, self.scenario
        for host in self.hosts:
            engine.after(engine.between(0, 0.5), host.start_process)
        for _ in range(scenario.faults):
            engine.after(engine.between(0.2, scenario.chaos), self._strike_somebody)
        engine.run(scenario.chaos)
        self._make_peace()
        self._settle()
        if len(self.hosts) > 1 and scenario.seed % DRILLS == 0:
            self._drill()

    def _lock_changed(self) -> None:
        for host in self.hosts:
            if host.process is not None:
                host.process.lock_feed.changed()

    def _registry_changed(self) -> None:
        for host in self.hosts:
            if host.process is None:
                continue
            if self.scenario.fenced:
                host.process.instance_feed.changed()
            else:
                host.process.members_feed.changed()

    # -- chaos -----------------------------------------------------------------------------

    def _strike_somebody(self) -> None:
        hosts = self.hosts
        acting = [host for host in hosts if host.service.acting]
        if acting and self.engine.chance(0.6):
            hosts = acting
        faults.strike(self, self.engine.rng.choice(hosts))

    def _state_entered(self, host: Host, state: str) -> None:
        """Strike at the very moment when a member has moved on."""
        if not self.chaotic or not self.engine.chance(self.scenario.ambush):
            return
        if state in (State.WATCHING, State.STARTING) and self.engine.chance(0.8):
            return
        soon = self.engine.between(0, 0.06)
        self.engine.after(soon, lambda: faults.strike(self, host) if self.chaotic else None)

    def watch_node(self, host: Host) -> None:
        """Have the backend notice that a node is gone, or back."""
        if host.agent is None:
            return
        gone = host.link.cut or not host.alive

        def notice() -> None:
            still = host.link.cut or not host.alive
            entry = self.catalog.entries.get(host.name)
            if still is not gone or (entry is not None and entry.reachable is not gone):
                return
            if gone:
                self.store.lose_node(host.name)
            if entry is not None:
                entry.reachable = not gone
                self.engine.note("catalog", f"node of {host.name}: reachable={not gone}")
                self.catalog.changed()
                host.instance_changed()

        delay = self.scenario.node_loss if gone else self.engine.between(0.001, 0.3)
        self.engine.after(delay, notice)

    # -- peace -----------------------------------------------------------------------------

    def _make_peace(self) -> None:
        self.engine.note("world", "peace: everything is healed")
        self.chaotic = False
        for host in self.hosts:
            host.link.calm = host.service.calm = True
            host.link.last_word = None
            faults.heal(self, host)
            faults._agent_back(host)
            host.come_back()
            host.service.start()
            host.show_health(True)
            faults._register(self, host)
            if host.process is not None and host.process.alive and host.process.paused:
                host.process.go_on()
            host.start_process()

    def _settle(self) -> None:
        """I5: within a generous bound there is one leader, and it stays."""
        engine, scenario = self.engine, self.scenario
        lease = scenario.policy.lease
        bound = engine.now + 30 + 20 * lease + 2 * scenario.session_ttl + 2 * scenario.sync_every
        steady_since = None
        why = ""
        while engine.now < bound:
            engine.run(engine.now + LOOK)
            why = self.unsettled()
            if why:
                steady_since = None
                for host in self.hosts:
                    host.service.start()  # what was fenced is repaired by somebody
                    host.start_process()
            elif steady_since is None:
                steady_since = engine.now
            elif engine.now - steady_since > STEADY * lease:
                return
        raise Broken("I5", f"{bound:.0f} s after everything was healed: {why}")

    def _drill(self) -> None:
        """I5 again: a leader whose service is down for good is succeeded."""
        engine, leader = self.engine, next(host for host in self.hosts if _acts(host))
        engine.note("world", f"the service of {leader.name} is down for good")
        leader.service.broken = True
        leader.service.crash()
        others = [host for host in self.hosts if host is not leader]
        bound = engine.now + 20 + 10 * self.scenario.policy.lease
        while not any(self.catalog.leaders() == [h.name] and h.service.acting for h in others):
            if engine.now >= bound:
                raise Broken("I5", f"nobody has succeeded {leader.name}, whose service is down")
            engine.run(engine.now + LOOK)
        leader.service.broken = False
        leader.service.start()
        self._settle()

    def unsettled(self) -> str:
        """Return what is not yet as it should be; ``""`` when everything is."""
        acting = [host for host in self.hosts if _acts(host)]
        if len(acting) != 1:
            return f"acting: {[host.name for host in acting]}; {'; '.join(map(_idle, self.hosts))}"
        if self.catalog.leaders() != [acting[0].name]:
            return f"{acting[0].name} acts but {self.catalog.leaders()} resolve as leader"
        process = acting[0].process
        term = process.standing.term if process else 0
        record = self.store.view.leader
        if record is None or record.term != term:
            return f"the lock does not tell of term {term}"
        for host in self.hosts:
            wrong = self._wrong(host, leads=host is acting[0], term=term)
            if wrong:
                return f"{host.name} {wrong}"
        return ""

    def _wrong(self, host: Host, *, leads: bool, term: int) -> str:
        election = self.scenario.election
        process, entry = host.process, self.catalog.entries.get(host.name)
        if process is None or not process.alive:
            return "runs no leadertag"
        wanted = State.LEADING if leads else State.WATCHING
        if process.standing.state is not wanted:
            return f"is {process.standing.state} ({process.standing.reason})"
        tags = (*BASE_TAGS, election.leader_tag if leads else election.follower_tag)
        if entry is None or entry.tags != tags:
            return f"has the tags {entry and entry.tags}"
        if entry.gates != ({term: True} if leads else {}):
            return f"has the gates {entry.gates}"
        follows = self.scenario.hooks.get("follow") and not leads  # type: ignore[call-overload]
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
    return bool(host.service.acting) or (host.service.lapsed and leads)
