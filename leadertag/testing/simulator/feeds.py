"""A watch: whole pictures, some of them late, old or lost, the last one never for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadertag.testing.simulator.process import Process


class Feed:
    """Brings one thing's pictures to one process."""

    def __init__(
        self, process: Process, read: Callable[[], Any], tell: Callable[[Any], None], *,
        remote: bool = True,
    ) -> None:  # fmt: skip
        self._process = process
        self._read = read
        self._tell = tell
        self._remote = remote
        self._started = False
        self._sent = 0
        self._seen = 0
        self._again = False

    def start(self) -> None:
        """Begin with the picture as it stands."""
        self._started = True
        self.changed()

    def changed(self) -> None:
        """There is something new to be seen."""
        if not (self._started and self._process.alive):
            return
        host = self._process.host
        self._sent += 1
        number, picture = self._sent, self._read()
        if self._remote and (not host.link.hears or not host.link.agent_up or host.link.lost()):
            self._retry()
            return
        delay = host.link.latency() if self._remote else host.engine.between(0.001, 0.05)
        if not host.link.calm and host.engine.chance(0.03):
            delay += host.engine.between(0, host.policy.lease)
        host.engine.after(delay, lambda: self._process.wake(lambda: self._arrive(number, picture)))

    def _retry(self) -> None:
        if self._again:
            return
        self._again = True

        def again() -> None:
            self._again = False
            self.changed()

        engine = self._process.engine
        engine.after(engine.between(0.1, 1.0), again)

    def _arrive(self, number: int, picture: Any) -> None:
        host = self._process.host
        if self._remote and not host.link.hears:
            self._retry()
            return
        if number < self._seen:
            # An old picture, of another server perhaps: then a newer one follows again.
            if host.link.calm or not host.engine.chance(0.2):
                return
            self._retry()
        self._seen = max(self._seen, number)
        self._tell(picture)
