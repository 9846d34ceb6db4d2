"""What a process hears of its service over a connection of its own, as a hook's probe does.

It hears at once when the service is gone, and tells one run of it from the next: one that was
restarted is critical once, however quickly it came back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadertag.election import events as ev
from leadertag.model import Health

if TYPE_CHECKING:
    from leadertag.testing.simulator.process import Process

INTERVAL = (0.1, 0.5)
"""Seconds until a service that was found restarted is asked again."""
_AT_ONCE = (0.0005, 0.01)


class Probe:
    """The probe of one process; where nothing can be verified there is none."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._on = False
        self._run = 0
        """The service's run that it is connected to; 0: none yet."""

    def start(self) -> None:
        """Connect, once the process speaks for the member."""
        self._on = self._process.host.scenario.verifies
        self._look()

    def service_changed(self) -> None:
        """The connection breaks, or can be made again."""
        self._later(_AT_ONCE)

    def _later(self, bounds: tuple[float, float]) -> None:
        process = self._process
        process.engine.after(process.engine.between(*bounds), lambda: process.wake(self._look))

    def _look(self) -> None:
        if not self._on:
            return
        process, service = self._process, self._process.host.service
        restarted = service.up and self.tells_restart(service.run)
        if service.up:
            self._run = service.run
        healthy = service.up and not restarted
        health = Health.PASSING if healthy else Health.CRITICAL
        process.take(ev.ProbeSeen(process.host.clock.now(), health))
        if restarted:
            self._later(INTERVAL)

    def tells_restart(self, run: int) -> bool:
        """Whether that run of the service is another one than before."""
        return self._run not in (0, run)
