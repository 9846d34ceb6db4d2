"""The registry's verbs, as coroutines: by way of an agent, or in the lock's own store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from leadertag.errors import BackendUnavailable
from leadertag.model import Gate, TagChange
from leadertag.testing.simulator.agent import ALIAS, LATCH, TTL

if TYPE_CHECKING:
    from leadertag.testing.simulator.agent import Agent
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.process import Process, Routine


NEVER = -1e9


class Registry(Protocol):
    """What effects use."""

    def tag(self, change: TagChange, gate: Gate | None) -> Routine:
        """Change tags, with a closed gate, until others see it."""

    def open_gate(self, gate: Gate) -> Routine:
        """Open it."""

    def close_gate(self, gate: Gate) -> Routine:
        """Close it."""

    def remove_gates(self, keep: Gate | None) -> Routine:
        """Remove all but one."""

    def heartbeat(self) -> Routine:
        """Feed the gates."""


class AgentRegistry:
    """Consul's way: the own agent, and reading back from the catalog."""

    def __init__(self, host: Host, agent: Agent) -> None:
        self._host = host
        self._agent = agent
        self._process: Process | None = None
        """Which one what follows is about."""
        self._fed = NEVER
        """When it sent the last beat that was answered."""
        self._busy: Process | None = None
        """Which one has a beat or an opening under way: the other waits."""
        self._revivals = 0
        self._armed: tuple[Gate | None, int] = (None, 0)
        """Which gate's alias the catalog showed passing, and after which revival."""
        self._opened: set[int] = set()

    def tag(self, change: TagChange, gate: Gate | None) -> Routine:
        """Rewrite the registration, then look until the catalog shows it."""
        host, agent = self._host, self._agent
        deadline = host.clock.now() + host.scenario.read_back
        self._begin()
        if gate is not None:
            yield from self._alone(self._beat())
        revivals = self._revivals
        yield host.local(lambda: agent.tag(change, gate))
        yield host.process_nap(0.02)
        while not (yield host.server(lambda: self._shows(change, gate))):
            if host.clock.now() >= deadline:
                raise BackendUnavailable("the catalog does not show the tags yet")
            yield host.process_nap(0.05)
        self._armed = gate, revivals

    def _shows(self, change: TagChange, gate: Gate | None) -> bool:
        entry = self._host.catalog.entries.get(self._host.name)
        if entry is None or change.apply(entry.tags) != entry.tags:
            return False
        checks = entry.checks
        if gate is None:
            return True
        return checks.get((gate.term, ALIAS), False) and (gate.term, LATCH) in checks

    def open_gate(self, gate: Gate) -> Routine:
        """Beat, look, and have its latch pass: three requests, and no beat with the last.

        Not before the catalog has shown its alias passing since the last revival.
        """
        self._host.opens(gate)
        yield from self._alone(self._open(gate))

    def _open(self, gate: Gate) -> Routine:
        host, agent = self._host, self._agent
        yield from self._beat()
        if self._armed != (gate, self._revivals):
            raise BackendUnavailable("the heartbeat had run out before it was to be opened")
        yield host.local(lambda: agent.has_gate(gate.term))
        self._opened.add(gate.term)
        fed, self._fed = self._fed, NEVER
        yield host.local(lambda: agent.open_gate(gate.term))
        self._fed = fed

    def close_gate(self, gate: Gate) -> Routine:
        """Have its latch fail."""
        self._opened.discard(gate.term)
        yield self._host.local(lambda: self._agent.close_gate(gate.term))

    def remove_gates(self, keep: Gate | None) -> Routine:
        """Deregister them."""
        term = keep.term if keep else None
        yield self._host.local(lambda: self._agent.remove_gates(term))
        if self._armed[0] != keep:
            self._armed = None, 0

    def heartbeat(self) -> Routine:
        """Feed the check that the gates follow.

        Once a beat may have run out, it is not revived before the agent has answered, and what
        the process had opened has failed: what an agent does or writes late must open nothing.
        """
        self._begin()
        fed = self._armed[0] is not None or self._host.always_fed
        yield from self._alone(self._beat() if fed else self._look())

    def _begin(self) -> None:
        """Forget what another process knew."""
        if self._host.process is not self._process:
            self._process, self._fed, self._armed = self._host.process, NEVER, (None, 0)
            self._opened.clear()

    def _look(self) -> Routine:
        yield self._host.local(lambda: None)

    def _alone(self, work: Routine) -> Routine:
        """Do it when nothing else of this process is under way that feeds or opens."""
        me = self._host.process
        while self._busy is not None and self._busy is me:
            yield self._host.process_nap(0.002)
        self._busy = me
        try:
            yield from work
        finally:
            if self._busy is me:
                self._busy = None

    def _beat(self) -> Routine:
        host, now = self._host, self._host.clock.now
        if now() - self._fed >= TTL * host.policy.gate_life:
            for term in list(self._opened):
                yield host.local(partial(self._agent.shut_latch, term))
                self._opened.discard(term)
            for term in (yield host.local(lambda: self._agent.open_latches)):
                yield host.local(partial(self._agent.shut_latch, term))
            self._revivals += 1
        sent_at = now()
        yield host.local(self._agent.feed)
        self._fed = sent_at


class FencedRegistry:
    """A registry in the store of the lock."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def tag(self, change: TagChange, gate: Gate | None) -> Routine:
        """Change tags in one transaction."""
        host = self._host
        yield host.server(lambda: host.catalog.tag(host.name, change, gate))

    def open_gate(self, gate: Gate) -> Routine:
        """Open it."""
        host = self._host
        host.opens(gate)
        yield host.server(lambda: host.catalog.set_gate(host.name, gate.term, opened=True))

    def close_gate(self, gate: Gate) -> Routine:
        """Close it."""
        host = self._host
        yield host.server(lambda: host.catalog.set_gate(host.name, gate.term, opened=False))

    def remove_gates(self, keep: Gate | None) -> Routine:
        """Remove the others."""
        host, term = self._host, keep.term if keep else None
        yield host.server(lambda: host.catalog.remove_gates(host.name, term))

    def heartbeat(self) -> Routine:
        """Feed the gates."""
        host = self._host
        yield host.server(lambda: host.catalog.beat(host.name))
