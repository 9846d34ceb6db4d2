"""The heartbeat: one check of leadertag's own service, which all gates of a process follow.

What an agent is told while it hangs it does when it goes on, and nothing takes it back; what
it was writing to the servers then arrives late as well. So that neither opens a gate beside
a successor's, no beat is sent once the last one may have run out, before the agent has
answered: those that wait in its line are done by then. Every gate that follows is closed
first, and is opened anew like the first time. Nor is a beat sent after a request to open a
gate that was not answered: the two might be done together, however late.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from leadertag.errors import BackendError
from leadertag_consul.backend import Backend
from leadertag_consul.client import Refused
from leadertag_consul.instances import OWN_PREFIX

SERVICE = "leadertag"
"""The name of leadertag's own service; one token rule covers it on every node."""
TTL = 2.0
"""Seconds after the last heartbeat when the agent turns the check critical."""


class Heart:
    """Feeds the check. Whoever beats or opens a gate has ``mutex``: one thing at a time."""

    def __init__(self, backend: Backend, before_revival: Callable[[], None]) -> None:
        """``before_revival`` closes all gates that follow; it returns once the agent answers."""
        self.mutex = threading.Lock()
        self.revivals = 0
        """How often it was fed when it may have run out: the first time counts."""
        self._backend = backend
        self._client = backend.client
        self._before_revival = before_revival
        self._runs_out = -math.inf
        """When what was fed last expires at the earliest, on the monotonic clock: its TTL
        after it was *sent*."""

    def beat(self) -> None:
        """Feed the check; register it where it is missing.

        Without a note: status and output stay as they were, so nothing is written.
        """
        if time.monotonic() >= self._runs_out:
            self._before_revival()
            self.revivals += 1
        sent_at = time.monotonic()
        if not self._feed():
            self.register()
            sent_at = time.monotonic()
            if not self._feed():
                raise BackendError(f"the agent does not take heartbeats for {self._check}")
        self._runs_out = sent_at + TTL

    def doubt(self) -> None:
        """Take it for run out: something may still be done that nobody waits for any more."""
        self._runs_out = -math.inf

    @property
    def _check(self) -> str:
        return f"{OWN_PREFIX}alive:{self._backend.own_service}"

    def _feed(self) -> bool:
        return self.tell("pass", self._check)

    def tell(self, verb: str, check: str) -> bool:
        """Have a TTL check ``pass`` or ``fail``; returns whether the agent has that check."""
        try:
            told = self._client.verb(
                lambda consul: getattr(consul.agent.check, f"ttl_{verb}")(check)
            )
        except Refused as refused:
            # 1.8 answers 500 for a check that it does not have, newer ones 404.
            if "does not have associated TTL" in refused.text or "nknown check" in refused.text:
                return False
            raise
        return bool(told)

    def register(self) -> None:
        """Register leadertag's own service; its check keeps its state where there is one."""
        # Never deregistered, not even by Consul itself after a while: the alias of a
        # service that went away passes for a moment.
        body = {
            "ID": self._backend.own_service,
            "Name": SERVICE,
            "Checks": [
                {
                    "CheckID": self._check,
                    "Name": "leadertag process",
                    "Notes": "Fed by the leadertag process; the gates of its leaders follow it.",
                    "TTL": f"{TTL:g}s",
                    "Status": "critical",
                }
            ],
        }
        self._client.put("/v1/agent/service/register", body)
