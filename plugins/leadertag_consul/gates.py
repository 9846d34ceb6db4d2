"""Gates and the heartbeat that they follow.

A gate is two checks of the leader's service, and is open while both pass:

``leadertag:<election>:<term>``
    an alias of leadertag's own service on the same agent: it passes while that service's
    one TTL check is fed, however many gates there are;
``leadertag:<election>:<term>:latch``
    a TTL check that never expires: told to pass to open the gate, told to fail to close it.

Closing is one change of one check that lasts, and nothing that has to reach the catalog
before or after another. It matters when a leader that was cut off comes back: its agent,
which takes no news from its alias checks while a write to the servers hangs, then writes
them one by one, in any order, also over what the successor has set. A latch that is only
registered when the gate closes came milliseconds after the alias, that was still passing.

The obvious way, registering one check again with another kind, fails on Consul 1.8.7: the
alias of before lives on inside the agent, so a "closed" gate turned passing with the next
heartbeat; and an alias registered alone stays critical for up to a minute, because the
agent runs it before it knows it. Registered in the body of the service (as
:meth:`Gates.definitions` are) it is known first.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from leadertag.errors import BackendError, NotRegistered
from leadertag.model import Gate
from leadertag_consul.backend import Backend
from leadertag_consul.client import Refused
from leadertag_consul.instances import OWN_PREFIX

SERVICE = "leadertag"
"""The name of leadertag's own service; one token rule covers it on every node."""
TTL = 2.0
"""Seconds after the last heartbeat when the agent turns the check critical."""
GATE_LIFE = 2 * TTL + 1.0
"""An agent that restarts within the TTL restores the check and counts the TTL anew, once;
the rest is its synchronization with the catalog."""
_LATCH = ":latch"
_LATCH_TTL = "876000h"  # a hundred years: told once, it stays so


def latch(gate: Gate) -> str:
    """Return the id of the check that keeps a gate closed. It reads as no term."""
    return f"{gate.id}{_LATCH}"


def is_gate(check_id: str) -> bool:
    """Whether a check is a gate or the latch of one."""
    return Gate.term_of(check_id.removesuffix(_LATCH)) is not None


def alias_check(gate: Gate, own_service: str) -> dict[str, Any]:
    """Return the definition of the check that follows the heartbeat."""
    return {
        "CheckID": gate.id,
        "Name": f"leadertag gate, election {gate.election}, term {gate.term}",
        "Notes": "Passes while the leader's leadertag process is alive.",
        "AliasService": own_service,
        "Status": "critical",
    }


def latch_check(gate: Gate) -> dict[str, Any]:
    """Return the definition of the check that keeps the gate closed until told to pass."""
    return {
        "CheckID": latch(gate),
        "Name": f"leadertag latch, election {gate.election}, term {gate.term}",
        "Notes": "Critical while leadertag keeps this instance from being resolved.",
        "TTL": _LATCH_TTL,
        "Status": "critical",
    }


class Gates:
    """The gates of local instances, through the agent."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._mutex = threading.Lock()

    def checks_of(self, instance_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the agent's checks of one service, by id."""
        checks = self._client.get("/v1/agent/checks").data or {}
        return {k: raw for k, raw in checks.items() if raw.get("ServiceID") == instance_id}

    def definitions(self, gate: Gate) -> list[dict[str, Any]]:
        """Return a closed gate's checks, for the body that registers the service."""
        return [alias_check(gate, self._backend.own_service), latch_check(gate)]

    def present(self, instance_id: str, gate: Gate) -> list[dict[str, Any]]:
        """Return those of a gate's checks that exist: registered again they keep their state."""
        checks = self.checks_of(instance_id)
        return [made for made in self.definitions(gate) if made["CheckID"] in checks]

    def open(self, instance_id: str, gate: Gate) -> None:
        """Have the latch pass: from now on the gate follows the heartbeat.

        One beat first: an alias whose target is missing would pass.
        """
        self.heartbeat()
        checks = self.checks_of(instance_id)
        if not {gate.id, latch(gate)} <= set(checks):
            raise NotRegistered(f"instance {instance_id} has no gate {gate.id} to be opened")
        if checks[latch(gate)]["Status"] != "passing" and not self._tell("pass", latch(gate)):
            raise NotRegistered(f"the gate {gate.id} of instance {instance_id} was removed")

    def is_closed(self, instance_id: str, gate: Gate) -> bool:
        """Whether the gate is registered whole, and closed."""
        checks = self.checks_of(instance_id)
        whole = {gate.id, latch(gate)} <= set(checks)
        return whole and checks[latch(gate)]["Status"] == "critical"

    def close(self, instance_id: str, gate: Gate) -> None:
        """Have the latch fail. What is registered stays.

        Without looking first: an agent that hangs does what it was told as soon as it goes
        on, whoever waits for its answer. Also without a gate: whoever closes wants the
        instance unresolvable, not an error.
        """
        if self.latch(gate):
            return
        body = latch_check(gate)
        body["ID"] = body.pop("CheckID")
        body["ServiceID"] = instance_id
        try:
            self._client.put("/v1/agent/check/register", body)
        except BackendError as error:
            if "does not exist" in str(error):
                raise NotRegistered(f"no instance {instance_id} on this agent") from error
            raise

    def latch(self, gate: Gate) -> bool:
        """Close the gate if it has a latch; returns whether it has."""
        return self._tell("fail", latch(gate))

    def remove(self, instance_id: str, keep: Gate | None) -> None:
        """Remove every gate but ``keep``, the latch last: none opens on its way out."""
        kept = (keep.id, latch(keep)) if keep else ()
        mine = [name for name in self.checks_of(instance_id) if is_gate(name) and name not in kept]
        for name in sorted(mine, key=lambda name: name.endswith(_LATCH)):
            self._deregister(name)

    def _deregister(self, check_id: str) -> None:
        self._client.put(f"/v1/agent/check/deregister/{check_id}")

    # -- the heartbeat -------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Feed the one check that all gates follow; register it where it is missing.

        Fed without a note: status and output stay as they were, so nothing is written.
        """
        with self._mutex:
            if not self._feed():
                self.register()
                if not self._feed():
                    raise BackendError(f"the agent does not take heartbeats for {self._check}")

    @property
    def _check(self) -> str:
        return f"{OWN_PREFIX}alive:{self._backend.own_service}"

    def _feed(self) -> bool:
        return self._tell("pass", self._check)

    def _tell(self, verb: str, check: str) -> bool:
        """Have a TTL check pass or fail; returns whether the agent has that check."""
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
