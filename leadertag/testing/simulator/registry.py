"""The registry's verbs, as coroutines: by way of an agent, or in the lock's own store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from leadertag.errors import BackendUnavailable
from leadertag.model import Gate, TagChange
from leadertag.testing.simulator.agent import ALIAS, LATCH

if TYPE_CHECKING:
    from leadertag.testing.simulator.agent import Agent
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.process import Routine


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

    def tag(self, change: TagChange, gate: Gate | None) -> Routine:
        """Rewrite the registration, then look until the catalog shows it."""
        host, agent = self._host, self._agent
        deadline = host.clock.now() + host.scenario.read_back
        yield host.local(lambda: agent.tag(change, gate))
        yield host.process_nap(0.02)
        while not (yield host.server(lambda: self._shows(change, gate))):
            if host.clock.now() >= deadline:
                raise BackendUnavailable("the catalog does not show the tags yet")
            yield host.process_nap(0.05)

    def _shows(self, change: TagChange, gate: Gate | None) -> bool:
        entry = self._host.catalog.entries.get(self._host.name)
        if entry is None or change.apply(entry.tags) != entry.tags:
            return False
        return gate is None or {(gate.term, ALIAS), (gate.term, LATCH)} <= set(entry.checks)

    def open_gate(self, gate: Gate) -> Routine:
        """Have its latch pass."""
        self._host.opens(gate)
        yield self._host.local(lambda: self._agent.open_gate(gate.term))

    def close_gate(self, gate: Gate) -> Routine:
        """Have its latch fail."""
        yield self._host.local(lambda: self._agent.close_gate(gate.term))

    def remove_gates(self, keep: Gate | None) -> Routine:
        """Deregister them."""
        term = keep.term if keep else None
        yield self._host.local(lambda: self._agent.remove_gates(term))

    def heartbeat(self) -> Routine:
        """Feed the check that the gates follow."""
        yield self._host.local(self._agent.feed)


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
