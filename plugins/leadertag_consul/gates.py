"""Gates: what has to pass besides the service's own checks for its leader to be resolved.

A gate is two checks of the leader's service, and is open while both pass:

``leadertag:<election>:<term>``
    an alias of leadertag's own service on the same agent: it passes while that service's
    one TTL check is fed, however many gates there are (:mod:`leadertag_consul.heart`);
``leadertag:<election>:<term>:latch``
    a TTL check that never expires: told to pass to open the gate, told to fail to close it.

Closing is one change of one check that lasts, and nothing that has to reach the catalog
before or after another. It matters when a leader that was cut off comes back: its agent,
which takes no news from its alias checks while a write to the servers hangs, then writes
them one by one, in any order, also over what the successor has set. A latch that is only
registered when the gate closes came milliseconds after the alias, that was still passing.

No latch is opened before the catalog has shown its alias passing since the heartbeat was
last revived. So what an agent may still have to write, of an opening in the midst of which
it was cut off, is the latch alone, beside an alias that the successor has set critical.

What of Consul 1.8.7 this goes around:

- A check registered again with another kind is both: the alias of before lives on inside
  the agent, so a "closed" gate turned passing with the next heartbeat.
- An alias registered alone stays critical for up to a minute, because the agent runs it
  before it knows it, and so does one restored by an agent that restarted. Registered in the
  body of the service (as :meth:`Gates.prepare` has it) it is known first.
- An alias registered again gets the status back that it had before, whatever its target
  has come to meanwhile, for up to a minute. So it is removed first; only for the sake of a
  new token it is not, right after a heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadertag.errors import BackendError, BackendUnavailable, NotRegistered
from leadertag.model import Gate
from leadertag_consul.backend import Backend
from leadertag_consul.heart import TTL, Heart
from leadertag_consul.instances import LATCH

GATE_LIFE = 2 * TTL + 1.0
"""An agent that restarts within the TTL restores the check and counts the TTL anew, once;
the rest is its synchronization with the catalog."""
_LATCH_TTL = "876000h"  # a hundred years: told once, it stays so


def latch(gate: Gate) -> str:
    """Return the id of the check that keeps a gate closed. It reads as no term."""
    return f"{gate.id}{LATCH}"


def gate_term(check_id: str) -> int:
    """Return the term of a check that is a gate or the latch of one, else -1."""
    term = Gate.term_of(check_id.removesuffix(LATCH))
    return -1 if term is None else term


def is_gate(check_id: str) -> bool:
    """Whether a check is a gate or the latch of one."""
    return gate_term(check_id) >= 0


def alias_check(gate: Gate, own_service: str) -> dict[str, Any]:
    """Return the definition of the check that follows the heartbeat."""
    return {
        "CheckID": gate.id,
        "Name": f"leadertag gate, election {gate.election}, term {gate.term}",
        "Notes": "Passes while the leader's leadertag process is alive.",
        "AliasService": own_service,
        "Status": "critical",
    }


def _notes(own_service: str) -> str:
    return f"Critical while {own_service} keeps this instance from being resolved."


def latch_check(gate: Gate, own_service: str) -> dict[str, Any]:
    """Return the definition of the check that keeps the gate closed until told to pass."""
    return {
        "CheckID": latch(gate),
        "Name": f"leadertag latch, election {gate.election}, term {gate.term}",
        "Notes": _notes(own_service),
        "TTL": _LATCH_TTL,
        "Status": "critical",
    }


class Gates:
    """The gates of local instances, through the agent."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._heart = Heart(backend, self._before_revival)
        self._armed: dict[str, int] = {}
        """By gate: after which revival its alias was seen passing in the catalog."""
        self._opened: set[Gate] = set()
        """Whose latch this process has told to pass, and not to fail since."""

    def checks_of(self, instance_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the agent's checks of one service, by id."""
        checks = self._client.get("/v1/agent/checks").data or {}
        return {k: raw for k, raw in checks.items() if raw.get("ServiceID") == instance_id}

    def definitions(self, gate: Gate) -> list[dict[str, Any]]:
        """Return a closed gate's checks, for the body that registers the service."""
        own = self._backend.own_service
        return [alias_check(gate, own), latch_check(gate, own)]

    def prepare(self, instance_id: str, gate: Gate) -> tuple[int, list[dict[str, Any]]]:
        """Begin to feed it, closed.

        Returns after which revival, and what of it has to be registered with the service.
        """
        with self._heart.mutex:
            self._heart.beat()
            revivals = self._heart.revivals
        checks = dict(self.checks_of(instance_id))
        if latch(gate) in checks:
            self.latch(gate)
        if gate.id in checks and checks[gate.id]["Status"] != "passing":
            self._deregister(gate.id)
            del checks[gate.id]
        return revivals, [made for made in self.definitions(gate) if made["CheckID"] not in checks]

    def present(self, instance_id: str, gate: Gate) -> list[dict[str, Any]]:
        """Return those of a gate's checks that exist: registered again they keep their state."""
        checks = self.checks_of(instance_id)
        return [made for made in self.definitions(gate) if made["CheckID"] in checks]

    def forget_alias(self, instance_id: str, gate: Gate) -> None:
        """Remove the alias of a closed gate, to be registered anew."""
        if gate.id in self.checks_of(instance_id):
            self._deregister(gate.id)

    def open(self, instance_id: str, gate: Gate) -> None:
        """Have the latch pass: from now on the gate follows the heartbeat.

        One beat first: an alias whose target is missing would pass. BackendUnavailable unless
        :meth:`armed` has told since the last revival: to be closed and tagged again.
        """
        with self._heart.mutex:
            self._heart.beat()
            if self._armed.get(gate.id) != self._heart.revivals:
                raise BackendUnavailable(
                    f"the heartbeat of gate {gate.id} had run out before it was to be opened"
                )
            checks = self.checks_of(instance_id)
            if not {gate.id, latch(gate)} <= set(checks):
                raise NotRegistered(f"instance {instance_id} has no gate {gate.id} to be opened")
            if checks[latch(gate)]["Status"] == "passing":
                self._opened.add(gate)
            elif not self._let_pass(gate):
                raise NotRegistered(f"the gate {gate.id} of instance {instance_id} was removed")

    def _let_pass(self, gate: Gate) -> bool:
        """Have a latch pass; when that is not answered, the heartbeat counts as run out.

        A refusal is an answer, and no reason to close what other elections have opened.
        """
        self._opened.add(gate)
        try:
            return self._heart.tell("pass", latch(gate))
        except BackendUnavailable:
            self._heart.doubt()
            raise

    def armed(self, gate: Gate, revivals: int) -> None:
        """Note that the catalog shows the alias passing since that revival."""
        self._armed[gate.id] = revivals

    def close(self, instance_id: str, gate: Gate) -> None:
        """Have the latch fail. What is registered stays.

        Without looking first: an agent that hangs does what it was told as soon as it goes
        on, whoever waits for its answer. Also without a gate: whoever closes wants the
        instance unresolvable, not an error.
        """
        if self.latch(gate):
            return
        body = latch_check(gate, self._backend.own_service)
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
        there = self._heart.tell("fail", latch(gate))
        self._opened.discard(gate)
        return there

    def remove(self, instance_id: str, keep: Gate | None) -> None:
        """Remove every gate but ``keep``, the latch last: none opens on its way out."""
        kept = (keep.id, latch(keep)) if keep else ()
        mine = [name for name in self.checks_of(instance_id) if is_gate(name) and name not in kept]
        for name in sorted(mine, key=lambda name: name.endswith(LATCH)):
            self._deregister(name)
        self._armed = {name: then for name, then in self._armed.items() if name not in mine}
        self._opened = {gate for gate in self._opened if gate.id not in mine}

    def _deregister(self, check_id: str) -> None:
        self._client.put(f"/v1/agent/check/deregister/{check_id}")

    # -- the heartbeat -------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Feed what this process's gates follow; with none, see that the agent answers."""
        with self._heart.mutex:
            if self._armed:
                self._heart.beat()
            else:
                self._client.get("/v1/agent/checks")

    def register(self) -> None:
        """Register the heartbeat with the present token."""
        self._heart.register()

    def _before_revival(self) -> None:
        """Close every gate that follows this heartbeat; the agent has answered then.

        First, blindly, what this process has opened: an agent that hangs does that later.
        """
        for gate in list(self._opened):
            self.latch(gate)
        checks = self._client.get("/v1/agent/checks").data or {}
        for name, raw in checks.items():
            mine = raw.get("Notes") == _notes(self._backend.own_service)
            if mine and raw["Status"] == "passing":
                self._heart.tell("fail", name)
