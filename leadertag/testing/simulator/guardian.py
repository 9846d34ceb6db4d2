"""An ideal guardian: holds the process's deadline when that cannot hold it itself.

It never relieves a process that lives and knows of its lease: the machine has to meet
its own deadlines, and the history tells when it does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leadertag.election.policy import RATE, SLACK
from leadertag.election.standing import Standing
from leadertag.election.states import GIVING_UP
from leadertag.errors import LeaderTagError, LeaseLost
from leadertag.model import Phase

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host

_FRESH = 0.2
"""Seconds for which a process that goes on after SIGSTOP is not trusted at its deadline."""


class Guardian:
    """The guardian of one host."""

    def __init__(self, host: Host, *, active: bool) -> None:
        self.busy = False
        """It has begun: nobody else may speak for the member before it is done."""
        self.confirmed_at = 0.0
        self._host = host
        self._active = active
        self._watching = False
        self._boot = 0

    def stepped(self, s: Standing) -> None:
        """Learn when the lease was last confirmed."""
        if s.lease is not None:
            self.confirmed_at = s.confirmed_at

    def forget(self) -> None:
        """The node is gone."""
        self.busy = False
        self._boot += 1

    def look(self) -> None:
        """See whether the deadline needs to be held for the process."""
        host = self._host
        if not self._active or self.busy or not host.alive or not host.service.acting:
            return
        starts = self.confirmed_at + host.policy.contact_limit + SLACK / 2
        if host.clock.now() < starts:
            self._look_at(starts)
        elif not self._process_able():
            self._take_over()
        elif host.clock.now() < self.confirmed_at + RATE * host.policy.lease:
            self._look_at(host.clock.now() + SLACK / 4)

    def _look_at(self, time: float) -> None:
        if self._watching:
            return
        self._watching = True
        boot = self._boot

        def look() -> None:
            self._watching = False
            if boot == self._boot:
                self.look()

        self._host.engine.after(self._host.clock.until(time) + 1e-6, look)

    def _process_able(self) -> bool:
        process, engine = self._host.process, self._host.engine
        if process is None or not process.alive or process.paused:
            return False
        if engine.now - process.resumed_at < _FRESH:
            return False
        return process.standing.lease is not None or process.standing.state in GIVING_UP

    def _take_over(self) -> None:
        host = self._host
        self.busy = True
        host.engine.note(host.name, "the guardian takes over")
        if host.process is not None and host.process.alive:
            host.process.die()
        if host.memory is not None:
            host.memory = replace(host.memory, acting=False, state="demoted")
        if host.agent is not None:
            try:
                for term in list(host.agent.gates):
                    host.agent.close_gate(term)
                host.agent.reload(tuple(t for t in host.agent.tags if t != host.history.leader_tag))
            except LeaderTagError:
                pass  # the agent is down, or knows no instance: demoting is what matters
        boot = self._boot
        deadline = self.confirmed_at + RATE * host.policy.lease
        host.engine.after(
            max(0.0, host.clock.until(deadline) - 1e-4),
            lambda: self._demote() if boot == self._boot else None,
        )

    def _demote(self) -> None:
        host = self._host
        host.service.end("demoted by the guardian")
        self.busy = False
        memory = host.memory
        if memory is None or memory.lease is None or host.engine.chance(0.5):
            return
        lease = memory.lease

        def release() -> None:
            try:
                host.store.release(lease, replace(lease.record, phase=Phase.RELEASED))
            except LeaseLost:
                host.engine.note(host.name, "the guardian finds the lock taken")

        host.link.call(release, lambda v, e: None)
