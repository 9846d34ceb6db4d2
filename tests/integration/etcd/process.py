"""Providers of one process on real etcd members, as the scheduler would have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable
from leadertag.model import Health, Instance, Lease, Phase, Record
from leadertag.providers import BackendContext
from leadertag_etcd import EtcdLock, EtcdQuery, EtcdRegistry
from leadertag_etcd.backend import Backend
from tests.tools.etcd import EtcdMember
from tests.tools.processes import wait_until

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds for anything that is waited for: a bound for hanging tests, not a measurement."""


@dataclass
class Process:
    """The providers, and what they share."""

    node: str
    backend: Backend
    lock: EtcdLock
    registry: EtcdRegistry
    query: EtcdQuery

    def record(self, phase: Phase = Phase.ELECTED, **fields: Any) -> Record:
        """A record of this process."""
        return Record(f"{self.node}/redis", "redis", self.node, "127.0.0.1", 6379, phase, **fields)

    def take(self, key: str) -> Lease:
        """Acquire a lock that is free."""
        lease = self.lock.acquire(self.lock.read(key), self.record())
        assert isinstance(lease, Lease)
        return lease

    def register(self, service: str, **fields: Any) -> Instance:
        """Register and report as passing, as the daemon does at every check."""
        instance = Instance(service, self.node, service, "127.0.0.1", 6379, **fields)
        self.registry.register(instance)
        self.registry.report(service, Health.PASSING)
        return instance

    def close(self) -> None:
        """Close the connection."""
        self.backend.client.close()


def process_of(
    node: str, endpoints: Sequence[str], environ: dict[str, str] | None = None, **settings: Any
) -> Process:
    """A process of the member on ``node``; nothing is sent yet."""
    data = {"endpoints": list(endpoints), "node": node, **settings}
    if not endpoints:
        del data["endpoints"]
    context = BackendContext(Table(data, "test: backends.etcd"), environ or {})
    lock, registry = EtcdLock.create(context), EtcdRegistry.create(context)
    return Process(node, Backend.of(context), lock, registry, EtcdQuery.create(context))


def answered(ask: Callable[[], T], what: str) -> T:
    """Ask again while nobody answers, and return the answer."""
    found: list[T] = []

    def ask_once() -> bool:
        try:
            found.append(ask())
        except BackendUnavailable:
            return False
        return True

    wait_until(ask_once, PATIENCE, what)
    return found[0]


def leader_of(members: Sequence[EtcdMember]) -> EtcdMember:
    """The member that leads the raft of etcd itself."""
    for member in members:
        status = member.call("maintenance/status", {})
        if status["header"]["member_id"] == status.get("leader"):
            return member
    raise AssertionError("etcd has no leader")
