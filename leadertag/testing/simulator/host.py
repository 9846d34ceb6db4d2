"""One host: clock, way to the servers, agent, service, leadertag's process and guardian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from leadertag.election import events as ev
from leadertag.election.policy import Policy
from leadertag.errors import BackendUnavailable, LeaderTagError
from leadertag.model import Gate, Instance, Lease
from leadertag.testing.history import History
from leadertag.testing.simulator.agent import Agent
from leadertag.testing.simulator.catalog import Catalog, Entry
from leadertag.testing.simulator.engine import Clock, Engine
from leadertag.testing.simulator.guardian import Guardian
from leadertag.testing.simulator.monitor import Monitor
from leadertag.testing.simulator.network import Link, Settle
from leadertag.testing.simulator.oneshot import CheckRun
from leadertag.testing.simulator.process import Operation, Process
from leadertag.testing.simulator.registry import AgentRegistry, FencedRegistry, Registry
from leadertag.testing.simulator.scenario import BASE_TAGS, DRIFT, Scenario
from leadertag.testing.simulator.service import Service
from leadertag.testing.simulator.store import Store


class Host:
    """Everything of one member, and what befalls it."""

    def __init__(
        self, name: str, engine: Engine, scenario: Scenario, history: History, store: Store,
        catalog: Catalog, on_state: Callable[[Host, str], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.engine = engine
        self.scenario = scenario
        self.policy: Policy = scenario.policy
        self.history = history
        self.store = store
        self.catalog = catalog
        self.session_ttl = scenario.session_ttl
        self.always_fed = scenario.always_fed
        rate = 1 + engine.between(-DRIFT, DRIFT)
        self.clock = Clock(engine, rate, engine.between(0, 1000))
        self.link = Link(engine, self.clock, scenario)
        self.service = Service(engine, history, scenario, name)
        self.service.changed = self._service_changed
        self.agent: Agent | None = None
        self._agent_busy = 0.0
        self.tagged_at = -1.0
        """When it last began to tag itself as leader ..."""
        self.proved_at = -1.0
        """... and when the backend last proved its lock: a gate opens after both."""
        self.registry: Registry
        self._make_registry()
        self.memory: ev.Memory | None = None
        self.noted = -1e9
        """When the lock was last confirmed: noted beside the memory, by the host's clock."""
        self.process: Process | None = None
        self.process_nap: Callable[[float], Operation]
        self.guardian = Guardian(self, active=scenario.guardian)
        self.watch = Monitor(self, on_state)
        self.alive = True
        self._check_due = False
        self.wanted = True
        """Whether a leadertag process should run here."""

    def _make_registry(self) -> None:
        if self.scenario.fenced:
            self.catalog.entries[self.name] = Entry(self.name, BASE_TAGS)
            self.registry = FencedRegistry(self)
            return
        self.agent = Agent(
            self.engine, self.clock, self.history, self.catalog, self.name, tags=BASE_TAGS,
            gate_life=self.scenario.gate_life, sync_every=self.scenario.sync_every,
            sends=lambda: self.link.sends, hears=lambda: self.link.hears,
        )  # fmt: skip
        self.registry = AgentRegistry(self, self.agent)
        self.agent.changed = self.instance_changed

    # -- requests --------------------------------------------------------------------------

    def server(self, work: Callable[[], Any], *, proof: bool = False) -> Operation:
        """Return the operation of asking the servers."""
        return lambda settle: self.link.call(work, settle, proof=proof)

    def local(self, work: Callable[[], Any]) -> Operation:
        """Return the operation of asking the own agent: in order, never lost, seldom late.

        It is late when the agent is slow, which is over well within a lease, and when it is
        stuck in a write to the servers. Then it is carried out all the same, for nobody.
        """
        agent = self.agent
        assert agent is not None

        def operation(settle: Settle) -> None:
            engine, patience = self.engine, self.clock.real(self.scenario.patience)
            until, settled = engine.now + patience, False

            def once(value: Any, error: LeaderTagError | None) -> None:
                nonlocal settled
                if not settled:
                    settled = True
                    settle(value, error)

            def give_up() -> None:
                once(None, BackendUnavailable("the agent does not answer in time"))

            def ask() -> None:
                if not agent.do(work, once):
                    engine.after(max(0.0, until - engine.now), give_up)

            if not self.link.calm and engine.chance(self.scenario.slow_agent):
                self._agent_busy = engine.now + self.policy.lease * engine.between(0.05, 0.4)
            takes = max(0.0, self._agent_busy - engine.now) + engine.between(0, 0.003)
            if takes > patience:
                engine.after(patience, give_up)
            engine.after(takes, ask)

        return operation

    def holds(self, lease: Lease) -> bool:
        """Confirm that lease, at the backend."""
        held = self.store.holds(lease)
        if held:
            self.proved_at = self.engine.now
        return held

    def opens(self, gate: Gate) -> None:
        """A process is about to open its gate."""
        self.history.opening(self.name, gate, proven=self.proved_at > self.tagged_at)

    def read_members(self) -> tuple[Instance, ...]:
        """Return the members, or what missing rights or a filter leave of them."""
        members = self.catalog.members()
        if not self.link.calm and self.engine.chance(self.scenario.filtered):
            if self.engine.chance(0.5):
                return ()
            return tuple(m for m in members if m.id != self.name)
        return members

    def instance(self) -> Instance | None:
        """Return the own instance as the process gets to see it."""
        entry = self.catalog.entries.get(self.name)
        if self.agent is None:
            return self.catalog.instance(entry) if entry else None
        reachable = entry.reachable if entry and self.link.hears else True
        return self.agent.instance(reachable=reachable)

    def instance_changed(self) -> None:
        """Wake the watch of the own instance."""
        if self.process is not None:
            self.process.instance_feed.changed()

    # -- the process -------------------------------------------------------------------------

    def start_process(self) -> None:
        """Start leadertag, if the host is up and nobody else speaks for the member."""
        if not (self.alive and self.wanted):
            return
        if self.process is not None and self.process.alive:
            return
        if self.guardian.busy:
            self.engine.after(0.1, self.start_process)
            return
        self.engine.note(self.name, "leadertag starts")
        self._check_due = False
        self.history.restarted(self.name)
        one_shot = self.scenario.one_shot is not None
        self.process = process = CheckRun(self) if one_shot else Process(self, self.recall())
        self.process_nap = process.nap
        process.start()

    def recall(self) -> ev.Memory | None:
        """Return the memory as a process of this host loads it."""
        if self.memory is None:
            return None
        return replace(self.memory, confirmed_at=max(self.memory.confirmed_at, self.noted))

    def kill_process(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.alive:
            self.engine.note(self.name, "leadertag is killed")
            self.process.die()
            self.guardian.look()

    def check_over(self, run: Process) -> None:
        """A run of ``check`` is over: the next one comes after the interval."""
        assert self.scenario.one_shot is not None
        run.die()
        if not self._check_due:
            self._check_due = True
            interval, _ = self.scenario.one_shot
            self.engine.after(self.clock.real(interval), self._next_check)

    def _next_check(self) -> None:
        if self._check_due:
            self.start_process()

    def stopped(self, process: Process) -> None:
        """The process has come to its end."""
        self.engine.note(self.name, "leadertag has stopped")
        process.die()
        if process.session and process.standing.lease is None:
            session = process.session
            self.link.call(lambda: self.store.destroy(session, "ended"), lambda v, e: None)

    # -- the node ----------------------------------------------------------------------------

    def lose(self) -> None:
        """The whole node is gone, with all that ran on it and its boot id."""
        self.engine.note(self.name, "the node is lost")
        self.alive = False
        if self.process is not None:
            self.process.die()
        self.service.crash()
        self.memory, self.noted = None, -1e9
        self.guardian.forget()
        if self.agent is not None:
            self.agent.stop()

    def come_back(self) -> None:
        """The node starts again."""
        if self.alive:
            return
        self.engine.note(self.name, "the node comes back")
        self.alive = True
        if self.agent is not None:
            self.agent.start()
        self.service.start()
        self.start_process()

    def _service_changed(self) -> None:
        """The check of the service finds out a little later; a probe does at once."""
        if self.process is not None:
            self.process.probe.service_changed()
        self.engine.after(self.engine.between(0.01, 0.5), self._check_service)

    def _check_service(self) -> None:
        self.show_health(self.service.up)

    def show_health(self, healthy: bool) -> None:
        """Set the service's health as the registry has it."""
        if self.agent is not None:
            self.agent.set_health(healthy)
            return
        entry = self.catalog.entries.get(self.name)
        if entry is not None and entry.healthy is not healthy and (self.link.sends or not healthy):
            entry.healthy = healthy
            self.catalog.changed()
            self.instance_changed()
