"""The whole world of one seed: members, backend, faults, and the verdict at the end."""

from __future__ import annotations

from collections import Counter

from leadertag.testing.history import History
from leadertag.testing.simulator.catalog import Catalog
from leadertag.testing.simulator.chaos import Chaos
from leadertag.testing.simulator.engine import Engine
from leadertag.testing.simulator.host import Host
from leadertag.testing.simulator.peace import Peace
from leadertag.testing.simulator.scenario import Scenario
from leadertag.testing.simulator.store import Store

_LOOK = 0.25


class World:
    """One run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.engine = Engine(scenario.seed, scenario.delays)
        election = scenario.election
        self.history = History(election.leader_tag, election.follower_tag)
        self.store = Store(self.engine, self.history, election.key)
        self.catalog = Catalog(
            self.engine, self.history, self.store, service=election.service,
            election=election.name, leader_tag=election.leader_tag,
            gate_life=scenario.gate_life, fenced=scenario.fenced,
        )  # fmt: skip
        self.visited: Counter[str] = Counter()
        """How often each state was entered."""
        self.switchovers = 0
        """How many of them were asked for."""
        self.hosts = [
            Host(f"m{n}", self.engine, scenario, self.history, self.store, self.catalog,
                 self._state_entered)
            for n in range(1, scenario.members + 1)
        ]  # fmt: skip
        self.store.changed = self._lock_changed
        if scenario.fenced or scenario.election.compat:
            self.catalog.on_change = self._registry_changed
        self.chaos = Chaos(self)
        self.peace = Peace(self)

    def run(self) -> None:
        """Chaos, then peace; raises Broken for the first promise that is broken."""
        engine = self.engine
        for host in self.hosts:
            engine.after(engine.between(0, 0.5), host.start_process)
        if self.scenario.verifies:
            self._look_behind()
        self.chaos.begin()
        engine.run(self.scenario.chaos)
        self.chaos.goes_on = False
        self.peace.keep()

    def _look_behind(self) -> None:
        """See, again and again, whether the service of whoever resolves as leader leads."""
        leaders = self.catalog.leaders()
        hollow = [
            host.name for host in self.hosts if host.name in leaders and not host.service.acting
        ]
        self.history.hollow(self.engine.now, hollow, self.scenario.hollow)
        self.engine.after(_LOOK, self._look_behind)

    def _state_entered(self, host: Host, state: str) -> None:
        self.visited[state] += 1
        self.chaos.entered(host, state)

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
