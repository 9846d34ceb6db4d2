"""The leader's gate: the part of the registry's contract that keeps a dead leader from resolving.

Every wait for a gate to close is :attr:`gate_life` and the harness's patience: that it
closes at all without anybody's help is the promise, not how fast the test's machine is.
"""

from __future__ import annotations

import pytest

from leadertag.errors import BackendError, NotRegistered
from leadertag.model import Gate, Health, Instance, TagChange
from leadertag.testing.contracts.base import Contract
from leadertag.testing.contracts.harness import (
    Harness,
    Member,
    beating,
    foreign_checks,
    make_instance,
    snapshot_where,
    until,
)

LEAD = TagChange(add=("master",), remove=("slave",))
_TERM = 4711


def gate_of(service: str, term: int = _TERM) -> Gate:
    """Return the gate of a term in the election named like the service."""
    return Gate(service, term)


def seen_by(member: Member, service: str, node: str) -> Instance:
    """Return what ``member`` reads of the one instance on ``node``."""
    (found,) = (m for m in member.registry.members(service) if m.node == node)
    return found


class GatesPart(Contract):
    """Registered closed, opened, fed, closed, removed."""

    def _gated(self, harness: Harness, member: Member, service: str, term: int = _TERM) -> Gate:
        gate = gate_of(service, term)
        member.registry.tag(service, LEAD, gate=gate, timeout=harness.patience)
        return gate

    def _open(self, harness: Harness, a: Member, reader: Member, service: str) -> Gate:
        gate = self._gated(harness, a, service)
        a.registry.open_gate(service, gate)
        until(
            lambda: seen_by(reader, service, a.registry.node).passing,
            harness.patience,
            "an opened gate that is fed passes",
        )
        return gate

    def test_a_gate_is_registered_closed(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        with beating(a.registry):
            gate = self._gated(harness, a, service)
            for found in (a.registry.local(service), seen_by(b, service, a.registry.node)):
                assert "master" in found.tags
                assert found.gate == gate.term
                assert [c.id for c in found.checks if c.own and Gate.term_of(c.id)] == [gate.id]
                assert not found.passing
                assert found.service_health is Health.PASSING

    def test_an_opened_gate_passes_while_it_is_fed(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        before = foreign_checks(a.registry.local(service))
        with beating(a.registry):
            self._open(harness, a, b, service)
            found = seen_by(b, service, a.registry.node)
            assert found.gate == _TERM
            assert foreign_checks(found) == before

    def test_an_open_gate_closes_without_heartbeats(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        """And another process's heartbeat does not keep it open."""
        harness.register(a, make_instance(service, service))
        watch = b.registry.watch_members(service)
        name = f"{a.registry.node}/{service}"
        with beating(a.registry):
            self._open(harness, a, b, service)
            snapshot_where(watch, lambda m: m[name].passing, harness.patience, "passing")
        with beating(b.registry):
            snapshot_where(
                watch,
                lambda m: not m[name].passing,
                b.registry.gate_life + harness.patience,
                "the gate of a silent process closes",
            )
        found = seen_by(b, service, a.registry.node)
        assert found.gate == _TERM
        assert found.service_health is Health.PASSING
        watch.close()

    def test_a_closed_gate_stays_closed_and_registered(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        with beating(a.registry):
            gate = self._open(harness, a, b, service)
            a.registry.close_gate(service, gate)
            until(
                lambda: not seen_by(b, service, a.registry.node).passing,
                harness.patience,
                "a closed gate does not pass",
            )
            a.registry.heartbeat()
            found = seen_by(b, service, a.registry.node)
            assert not found.passing
            assert found.gate == gate.term
            assert "master" in found.tags
            a.registry.open_gate(service, gate)
            until(
                lambda: seen_by(b, service, a.registry.node).passing,
                harness.patience,
                "a gate that is opened again passes",
            )

    def test_gates_are_removed(self, harness: Harness, a: Member, b: Member, service: str) -> None:
        harness.register(a, make_instance(service, service))
        with beating(a.registry):
            gate = self._open(harness, a, b, service)
            before = a.registry.local(service)
            a.registry.remove_gates(service, keep=gate)
            assert a.registry.local(service).gate == gate.term
            a.registry.remove_gates(service)
            until(
                lambda: seen_by(b, service, a.registry.node).gate is None,
                harness.patience,
                "the gate is gone",
            )
        found = until(
            lambda: seen_by(b, service, a.registry.node), harness.patience, "the instance"
        )
        assert found.tags == before.tags
        assert foreign_checks(found) == foreign_checks(before)
        assert found.passing  # without a gate nothing hangs on leadertag's heartbeat

    def test_removing_keeps_the_gate_of_the_present_term(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        self._gated(harness, a, service)
        new = self._gated(harness, a, service, _TERM + 1)
        a.registry.remove_gates(service, keep=new)

        def gates() -> list[str]:
            return [c.id for c in a.registry.local(service).checks if Gate.term_of(c.id)]

        until(lambda: gates() == [new.id], harness.patience, "only the new term's gate is left")
        assert a.registry.local(service).gate == new.term

    def test_only_its_own_instance_is_gated(
        self, harness: Harness, a: Member, b: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        harness.register(b, make_instance(service, service))
        self._gated(harness, a, service)
        other = seen_by(a, service, b.registry.node)
        assert other.gate is None
        assert other.passing

    def test_a_gate_that_is_not_registered_is_not_opened_in_silence(
        self, harness: Harness, a: Member, service: str
    ) -> None:
        harness.register(a, make_instance(service, service))
        try:
            a.registry.open_gate(service, gate_of(service))
        except BackendError:
            return
        assert a.registry.local(service).gate == _TERM

    def test_no_instance_no_gate(self, harness: Harness, a: Member, service: str) -> None:
        with pytest.raises(NotRegistered):
            a.registry.tag(service, LEAD, gate=gate_of(service), timeout=harness.patience)
        with pytest.raises(BackendError):
            a.registry.open_gate(service, gate_of(service))
