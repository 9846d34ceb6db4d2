"""An instance with its tags, health and gates, as one value under one key.

One key, so that whatever changes an instance compares one version; and so that tag and gate
are never seen apart. Pure values: every change returns another registration.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace

from leadertag.decoding import WRONG, are_texts, is_number, is_text_map
from leadertag.errors import LeaseLost, NotRegistered
from leadertag.model import Check, Gate, Health, Instance, TagChange

SERVICE_CHECK = "service"
SHUT_OUT = "leadertag:shut-out"
"""The id of leadertag's own check by which an instance without a gate is shut out."""


@dataclass(frozen=True, slots=True)
class GateState:
    """A gate. ``opened`` by its member; ``shut`` by a later leader, which is final.

    ``owner`` is the process whose heartbeat it follows.
    """

    id: str
    election: str
    term: int
    opened: bool = False
    shut: bool = False
    owner: str = ""

    def passes(self, beats: Collection[str]) -> bool:
        """Whether it is open now, when those processes feed their gates."""
        return self.opened and not self.shut and self.owner in beats

    def is_typed(self) -> bool:
        """Whether every field is of its type, after it was read."""
        flags = isinstance(self.opened, bool) and isinstance(self.shut, bool)
        return flags and is_number(self.term) and are_texts([self.id, self.election, self.owner])


@dataclass(frozen=True, slots=True)
class Registration:
    """What stands under an instance's key. ``owner`` is the process that speaks for it."""

    service: str
    node: str
    id: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    node_meta: Mapping[str, str] = field(default_factory=dict)
    health: Health = Health.UNKNOWN
    output: str = ""
    gates: tuple[GateState, ...] = ()
    owner: str = ""

    # -- as bytes ----------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return the JSON bytes kept in the backend."""
        return json.dumps({"leadertag": 1, **asdict(self)}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Registration | None:
        """Return the registration in ``raw``, ``None`` for anything that is not one of ours."""
        try:
            data = json.loads(raw)
            if data["leadertag"] != 1 or not are_texts(data["tags"]):
                return None
            known = {one.name: data[one.name] for one in fields(cls)}  # a newer one may say more
            known["tags"] = tuple(known["tags"])
            known["health"] = Health(known["health"])
            known["gates"] = tuple(
                GateState(**{one.name: gate[one.name] for one in fields(GateState)})
                for gate in known["gates"]
            )
            found = cls(**known)
        except WRONG:
            return None
        return found if found._is_typed() else None

    def _is_typed(self) -> bool:
        texts = [self.service, self.node, self.id, self.address, self.output, self.owner]
        return (
            are_texts(texts)
            and is_number(self.port)
            and is_text_map(self.meta)
            and is_text_map(self.node_meta)
            and all(gate.is_typed() for gate in self.gates)
        )

    # -- as an instance ------------------------------------------------------------------

    def instance(self, beats: Collection[str]) -> Instance:
        """Return it as it stands, when those processes feed their gates."""
        checks = [Check(SERVICE_CHECK, self.health)]
        for gate in self.gates:
            status = Health.PASSING if gate.passes(beats) else Health.CRITICAL
            checks.append(Check(gate.id, status, own=True))
        terms = [gate.term for gate in self.gates if gate.id != SHUT_OUT]
        return Instance(
            id=self.id, node=self.node, service=self.service, address=self.address,
            port=self.port, tags=self.tags, checks=tuple(checks),
            gate=max(terms, default=None), meta=dict(self.meta),
        )  # fmt: skip

    # -- changes ---------------------------------------------------------------------------

    def described(
        self, instance: Instance, node_meta: Mapping[str, str], owner: str = ""
    ) -> Registration:
        """Return it with another description and owner; tags, health and gates stay."""
        return replace(
            self, service=instance.service, address=instance.address, port=instance.port,
            meta=dict(instance.meta), node_meta=dict(node_meta), owner=owner,
        )  # fmt: skip

    def reported(self, health: Health, output: str) -> Registration:
        """Return it with another health; the output goes with a change of it."""
        return self if self.health is health else replace(self, health=health, output=output)

    def tagged(self, change: TagChange, gate: Gate | None) -> Registration:
        """Return it with the tags changed, and with the gate, closed, if it had none.

        A shut-out ends with the gate of a later term.
        """
        found = replace(self, tags=change.apply(self.tags))
        if gate is None:
            return found
        gates = tuple(g for g in found.gates if g.id != SHUT_OUT or g.term >= gate.term)
        if gate.id not in {present.id for present in gates}:
            gates += (GateState(gate.id, gate.election, gate.term),)
        return replace(found, gates=gates)

    def published(self, change: TagChange, gate: Gate | None) -> Registration:
        """Return what it becomes when another instance of its service is published."""
        tags = TagChange(remove=change.add).apply(self.tags)
        if tags == self.tags:
            return self
        # Should its process tag it again before it learns, it still does not pass.
        shut = self.shut(gate.election) if gate is not None else self
        return replace(shut, tags=tags)

    def opened(self, gate: Gate, owner: str) -> Registration:
        """Return it with the gate open; LeaseLost when a later leader has shut it."""
        present = self._gate(gate)
        if present.shut:
            raise LeaseLost(f"gate {gate.id!r}: was shut by the leader of a later term")
        return self._with(replace(present, opened=True, owner=owner))

    def closed(self, gate: Gate) -> Registration:
        """Return it with the gate closed; NotRegistered when it has no such gate."""
        return self._with(replace(self._gate(gate), opened=False))

    def without_gates(self, keep: Gate | None) -> Registration:
        """Return it without any gate but ``keep``."""
        kept = keep.id if keep else None
        return replace(self, gates=tuple(gate for gate in self.gates if gate.id == kept))

    def shut_out(self, term: int) -> Registration:
        """Return it with every gate shut, and with a critical check besides."""
        gates = tuple(gate for gate in self.shut().gates if gate.id != SHUT_OUT)
        return replace(self, gates=(*gates, GateState(SHUT_OUT, "", term, shut=True)))

    def shut(self, election: str | None = None) -> Registration:
        """Return it with its gates shut, or those of one election."""
        gates = tuple(
            replace(gate, shut=True) if election in (None, gate.election) else gate
            for gate in self.gates
        )
        return replace(self, gates=gates)

    def _gate(self, gate: Gate) -> GateState:
        for present in self.gates:
            if present.id == gate.id:
                return present
        raise NotRegistered(f"instance {self.id!r} has no gate {gate.id!r}")

    def _with(self, changed: GateState) -> Registration:
        gates = tuple(changed if gate.id == changed.id else gate for gate in self.gates)
        return replace(self, gates=gates)
