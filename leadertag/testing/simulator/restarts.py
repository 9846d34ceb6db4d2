"""A service that is restarted so quickly that no check of it fails: it does not lead any more.

Struck only where a ``verify`` hook and a probe can find out: without them nobody does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadertag.testing.simulator.faults import Fault, lasts
from leadertag.testing.simulator.strikes import Strike

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.world import World

_BLINK = 0.02
"""Seconds for which it is down at most."""


def restart_service(world: World, host: Host, strike: Strike) -> None:
    """The service alone."""
    host.service.crash()
    world.engine.after(_BLINK * strike.lasting, lambda: _back(host))


def restart_both(world: World, host: Host, strike: Strike) -> None:
    """Service and leadertag, as when a host's units are restarted."""
    host.kill_process()
    restart_service(world, host, strike)
    world.engine.after(lasts(world, strike, 0.01, 0.5), host.start_process)


def restart_unwatched(world: World, host: Host, strike: Strike) -> None:
    """The service, while leadertag's process is stopped."""
    process = host.process
    if process is None or not process.alive or process.paused:
        return
    world.engine.note(host.name, "SIGSTOP")
    process.pause()
    host.guardian.look()
    restart_service(world, host, strike)

    def go_on() -> None:
        if process.alive and process.paused:
            world.engine.note(host.name, "SIGCONT")
            process.go_on()

    world.engine.after(lasts(world, strike, 0.02, 0.5), go_on)


def _back(host: Host) -> None:
    if host.alive:
        host.service.start()


RESTARTS: dict[str, tuple[Fault, int]] = {
    "restart_service": (restart_service, 4), "restart_both": (restart_both, 5),
    "restart_unwatched": (restart_unwatched, 2),
}  # fmt: skip
"""By name, as in FAULTS."""
