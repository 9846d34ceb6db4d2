"""The registry: the agent's registrations, and the catalog's view of them.

The agent's registration is the truth that others get to see; so tags are written there
and nowhere else, and read back from the catalog before they count as published.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self

from leadertag.errors import (
    Ambiguous,
    BackendError,
    BackendUnavailable,
    Changed,
    LeaseLost,
    NotRegistered,
)
from leadertag.model import Characteristic, Gate, Health, Instance, Lease, LockView, TagChange
from leadertag.providers import BackendContext, RegistryProvider, Watch
from leadertag_consul.backend import Backend
from leadertag_consul.blocking import BlockingRead
from leadertag_consul.client import TXN_LIMIT
from leadertag_consul.gates import GATE_LIFE, Gates, gate_term, latch
from leadertag_consul.instances import OWN_OUTPUT, bearing_on, check_of, instance_of, instances_of
from leadertag_consul.kv import operation
from leadertag_consul.watches import MembersWatch, NodeView, NodeWatch

log = logging.getLogger("leadertag.consul")  # in the tree that the command line shows
_NOT_ACCEPTED = ("ContentHash", "CreateIndex", "ModifyIndex", "Datacenter")
"""Fields that the agent answers and does not take back."""


class ConsulRegistry(RegistryProvider):
    """Services and checks of Consul's agents."""

    characteristics: ClassVar[frozenset[Characteristic]] = frozenset(
        {
            Characteristic.CROSS_HOST,
            Characteristic.NATIVE_WATCH,
            Characteristic.SERVER_SIDE_EXPIRY,
            Characteristic.HEALTH,
        }
    )

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = backend.client
        self._gates = Gates(backend)
        self._writing = threading.Lock()
        self._token: str | None = None
        """With which heartbeat and gates are registered, as far as this process knows."""
        self._opened: dict[str, Gate] = {}

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Make it from the backend's settings; ConfigError for a wrong one. No I/O."""
        return cls(Backend.of(context))

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    @property
    def node(self) -> str:
        """The agent's node name."""
        return self._backend.node.name

    # -- reading -----------------------------------------------------------------------

    def local(self, service: str, instance_id: str = "") -> Instance:
        """Return this agent's instance of the service.

        Registration and service checks come from the agent, which knows them first; the
        node's checks from the catalog too, because ``serfHealth`` exists only there.
        """
        services = self._client.get("/v1/agent/services").data or {}
        mine = {k: raw for k, raw in services.items() if raw["Service"] == service}
        if instance_id and instance_id not in mine:
            self._probe(instance_id)
            raise NotRegistered(
                f"no instance {instance_id!r} of service {service!r} on node {self.node}"
                + (f" (there: {', '.join(sorted(mine))})" if mine else "")
            )
        if not mine:
            self._probe(service)
            raise NotRegistered(f"no instance of service {service!r} on node {self.node}")
        if not instance_id and len(mine) > 1:
            raise Ambiguous(
                f"several instances of service {service!r} on node {self.node}: "
                f"{', '.join(sorted(mine))}: set service_id to one of them"
            )
        found = mine[instance_id or next(iter(mine))]
        checks = self._local_checks(str(found["ID"]))
        return instance_of(self._backend.node, found, checks, self._backend.own_checks)

    def _local_checks(self, instance_id: str) -> list[Mapping[str, Any]]:
        known = self._client.get("/v1/agent/checks").data or {}
        checks = bearing_on(instance_id, known.values())
        of_node = self._client.get(f"/v1/health/node/{self.node}").data or ()
        ids = {raw["CheckID"] for raw in checks}
        return checks + [
            raw for raw in of_node if not raw["ServiceID"] and raw["CheckID"] not in ids
        ]

    def _probe(self, instance_id: str) -> bool:
        """Ask for one service by id: PermissionDenied where lists just leave it out."""
        return self._client.get(f"/v1/agent/service/{instance_id}").found

    def members(self, service: str) -> tuple[Instance, ...]:
        """Return all instances everywhere, from the catalog, linearizably."""
        answer = self._client.get(f"/v1/health/service/{service}", {"consistent": ""})
        return instances_of(answer.data, self._backend.own_checks)

    # -- tagging -------------------------------------------------------------------------

    def tag(
        self, instance_id: str, change: TagChange, *, gate: Gate | None = None, timeout: float
    ) -> None:
        """Change the role tags in the agent's registration, and wait for the catalog.

        With ``gate``, its two checks are registered in the same body, so that tag and
        closed gate arrive in the catalog at the same index; it is shown as soon as its alias
        passes there too, which :meth:`open_gate` asks for. The request's token becomes
        the one that the agent synchronizes the service with, in place of one from the
        service's own definition: it needs ``service:write`` for the service's name.
        """
        deadline = time.monotonic() + timeout
        if gate is None:
            service, _ = self._retag(instance_id, change, None)
            self._read_back(service, instance_id, change, None, deadline)
            return
        service, revivals = self._retag(instance_id, change, gate)
        try:
            patience = min(deadline, time.monotonic() + _STUCK)
            self._read_back(service, instance_id, change, gate, patience)
        except BackendUnavailable:
            # An agent that stood still has been seen to keep to itself that an alias passes.
            self._gates.forget_alias(instance_id, gate)
            service, revivals = self._retag(instance_id, change, gate)
            self._read_back(service, instance_id, change, gate, deadline)
        self._gates.armed(gate, revivals)

    def _retag(self, instance_id: str, change: TagChange, gate: Gate | None) -> tuple[str, int]:
        """Write what is to be written; returns the service's name, and the gate's revival."""
        with self._writing:
            found = self._registration(instance_id)
            tags = tuple(found.get("Tags") or ())
            wanted = change.apply(tags)
            revivals, missing = self._gates.prepare(instance_id, gate) if gate else (0, [])
            if wanted != tags or missing:
                # Checks that are not in the body stay as they are, with their state.
                self._write(found, wanted, missing)
        return str(found["Service"]), revivals

    def _registration(self, instance_id: str) -> Mapping[str, Any]:
        answer = self._client.get(f"/v1/agent/service/{instance_id}")
        if not answer.found:
            raise NotRegistered(f"no instance {instance_id!r} on node {self.node}")
        found: Mapping[str, Any] = answer.data
        return found

    def _write(
        self, found: Mapping[str, Any], tags: tuple[str, ...], checks: Sequence[Mapping[str, Any]]
    ) -> None:
        body = {key: value for key, value in found.items() if key not in _NOT_ACCEPTED}
        body["Name"] = body.pop("Service")
        body["Tags"] = list(tags)
        if checks:
            body["Checks"] = checks
            if self._token is None:
                self._token = self._client.token
        self._client.put("/v1/agent/service/register", body)

    def _read_back(
        self, service: str, instance_id: str, change: TagChange, gate: Gate | None, deadline: float
    ) -> None:
        index, seen = 0, False
        while True:
            left = deadline - time.monotonic()
            params: dict[str, object] = {}
            if index:
                params = {"index": index, "wait": f"{max(1, int(left * 1000))}ms"}
            answer = self._client.get(f"/v1/health/service/{service}", params)
            own = [
                instance
                for instance in instances_of(answer.data, ())
                if (instance.node, instance.id) == (self.node, instance_id)
            ]
            if any(_shows(instance, change, gate) for instance in own):
                return
            if answer.index <= index:  # no news: whoever answers that at once is not pressed
                time.sleep(min(_CALM, max(0.0, deadline - time.monotonic())))
            index, seen = (answer.index if answer.index >= index else 0), bool(own)
            if deadline - time.monotonic() <= 0:
                what = "the tags of" if seen else "anything of"
                reader = "" if seen else ', or the token lacks node_prefix "" read'
                raise BackendUnavailable(
                    f"the catalog does not show {what} {instance_id} yet: the agent at "
                    f"{self._backend.settings.address} did not get through to a server{reader}"
                )

    # -- the gate ------------------------------------------------------------------------

    def open_gate(self, instance_id: str, gate: Gate) -> None:
        """Let the gate follow the heartbeat of this process."""
        self._opened[instance_id] = gate
        self._gates.open(instance_id, gate)

    def close_gate(self, instance_id: str, gate: Gate) -> None:
        """Close the gate of a local instance; it stays registered."""
        self._gates.close(instance_id, gate)

    def remove_gates(self, instance_id: str, *, keep: Gate | None = None) -> None:
        """Remove every gate of a local instance but ``keep``."""
        if keep is None:
            self._opened.pop(instance_id, None)
        self._gates.remove(instance_id, keep)

    def heartbeat(self) -> None:
        """Feed the check that all gates of this process follow."""
        self._gates.heartbeat()
        self._hand_over()

    def _hand_over(self) -> None:
        """Register heartbeat and gates anew when the token has changed (see ``token_file``).

        The agent synchronizes each check, and each service, with the token of its own
        registration. Once that one is deleted, the catalog does not learn of a gate that
        closes any more.
        """
        token = self._client.token
        if self._token is not None and self._token != token:
            self._gates.register()
            for instance_id, gate in list(self._opened.items()):
                with self._writing, suppress(NotRegistered):
                    found = self._registration(instance_id)
                    checks = self._gates.present(instance_id, gate)
                    self._write(found, tuple(found.get("Tags") or ()), checks)
            log.info("the Consul token has changed: heartbeat and gates are registered anew")
        self._token = token

    @property
    def gate_life(self) -> float:
        """Seconds after the last heartbeat within which an open gate is closed for sure."""
        return GATE_LIFE

    def shut_out(self, other: Instance, lease: Lease) -> None:
        """Set leadertag's own checks of another member critical in the catalog.

        In one transaction with the proof that the lock is held, and with each check's
        index, so that its agent's newer report is not overwritten. Its Service is never
        touched. An instance without such a check cannot be shut out: nothing is done.
        The agent there repeats what it knows at its next full synchronization; until
        then (up to a minute) the catalog keeps the answer that is safe.
        """
        self._shut(other, lease)

    def shut_out_lost(self, other: Instance, proof: LockView | Lease) -> None:
        """Set the gates of a leader that was lost critical in the catalog.

        As :meth:`shut_out`; that the lock is free as it was seen is proved by its index: an
        acquired one has another. Only gates up to the term that was seen, and not the check of
        one-shot runs, which is the same one in every term: whoever leads again could not be
        resolved before its agent repeats it.
        """
        newest = -1 if other.gate is None else other.gate
        self._shut(other, proof, lambda check: -1 < gate_term(check) <= newest)

    def _shut(
        self, other: Instance, proof: LockView | Lease, only: Callable[[str], bool] = lambda _: True
    ) -> None:
        proofs = self._proofs(proof)
        for _ in range(_RACES):
            checks = [raw for raw in self._own_checks(other) if only(str(raw["CheckID"]))]
            if not checks:
                return
            outcome = self._client.txn([*proofs, *map(_critical, checks[: TXN_LIMIT - 2])])
            if outcome.committed:
                return
            if min(outcome.failures) < len(proofs):
                raise _disproved(proof, outcome.reasons)
        raise BackendUnavailable(f"the checks of {other.member} change all the time")

    def _proofs(self, proof: LockView | Lease) -> list[dict[str, Any]]:
        """Return what proves it in a transaction; a lock of another backend proves nothing."""
        if not self._backend.locks_here:
            return []
        key = f"{self._backend.settings.prefix}/locks/{proof.key}"
        unchanged = operation("check-index", key, Index=proof.index)
        if isinstance(proof, LockView):
            return [unchanged]
        return [operation("check-session", key, Session=proof.session), unchanged]

    def _own_checks(self, other: Instance) -> list[Mapping[str, Any]]:
        """Return those of its own checks that are not critical yet."""
        answer = self._client.get(f"/v1/health/checks/{other.service}", {"consistent": ""})
        return [
            raw
            for raw in answer.data or ()
            if (raw["Node"], raw["ServiceID"]) == (other.node, other.id)
            and raw["Status"] != "critical"
            and check_of(raw, self._backend.own_checks).own
        ]

    # -- watching ------------------------------------------------------------------------

    def watch(self, instances: Sequence[tuple[str, str]]) -> Sequence[Watch]:
        """Watch the own node: one watch for its services, one for its checks."""
        view = NodeView(self._backend, frozenset(instances))
        return [
            NodeWatch(self._client, view, path) for path in (view.services_path, view.checks_path)
        ]

    def watch_members(self, service: str) -> Watch:
        """Watch a whole service in the catalog."""
        read = BlockingRead(self._client, f"/v1/health/service/{service}", {})
        return MembersWatch(read, self._backend.own_checks)


_STUCK = 1.0
"""Seconds after which a gate that the catalog does not show as fed is registered anew."""
_CALM = 0.02
"""Seconds between two reads that brought nothing new."""
_RACES = 5  # the agent there may report meanwhile; more often than that is a fault


def _shows(instance: Instance, change: TagChange, gate: Gate | None) -> bool:
    if change.apply(instance.tags) != instance.tags:
        return False
    if gate is None:
        return True
    checks = {check.id: check.status for check in instance.checks}
    return checks.get(gate.id) is Health.PASSING and latch(gate) in checks


def _disproved(proof: LockView | Lease, reasons: object) -> BackendError:
    if isinstance(proof, Lease):
        return LeaseLost(f"lock {proof.key} is not held any more: {reasons}")
    return Changed(f"lock {proof.key} is not free any more: {reasons}")


def _critical(raw: Mapping[str, Any]) -> dict[str, Any]:
    check = {**raw, "Status": "critical", "Output": f"{OWN_OUTPUT}shut out, its term is over"}
    return {"Check": {"Verb": "cas", "Check": check}}
