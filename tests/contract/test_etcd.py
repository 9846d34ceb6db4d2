"""The etcd backend, held to the contracts on a real etcd."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.model import Health, Instance
from leadertag.providers import BackendContext
from leadertag.testing.contracts import (
    BackendContract,
    Harness,
    LockContract,
    Member,
    QueryContract,
    RegistryContract,
)
from leadertag.testing.relay import Relay
from leadertag_etcd import EtcdLock, EtcdQuery, EtcdRegistry
from leadertag_etcd.backend import Backend
from tests.conftest import need
from tests.tools.etcd import CLIENT_PORT, EtcdCluster, EtcdMember


class EtcdHarness(Harness):
    """One etcd for all tests; a prefix of its own keeps them apart.

    Each member reaches it through a relay of its own, so that one alone can be cut off.
    """

    ttl = 6.0  # no test that lets a session live takes as long
    session_expiry = 7.0
    patience = 15.0

    def __init__(self, server: EtcdMember) -> None:
        self._server = server
        self._prefix = f"test-{uuid.uuid4().hex[:8]}"
        self._relays: dict[str, Relay] = {}
        self._writes: dict[str, int] = {}
        self._backends: list[Backend] = []

    def context(self, settings: Mapping[str, Any]) -> BackendContext:
        usual = {"endpoints": [self._server.address], "prefix": self._prefix, "timeout": "5s"}
        # Instances that a test does not report on again must not vanish in its middle.
        usual |= {"report_life": "1h"}
        return BackendContext(Table({**usual, **settings}, "test: backends.etcd"), {})

    def unreachable(self) -> BackendContext:
        return self.context({"endpoints": ["127.0.0.1:1"], "timeout": "500ms"})

    def join(self, name: str) -> Member:
        if name not in self._relays:
            self._relays[name] = Relay(self._server.ip, CLIENT_PORT)
        settings = {"endpoints": [self._relays[name].address], "node": f"node-{name}"}
        context = self.context(settings)
        backend = Backend.of(context)
        self._backends.append(backend)
        self._count(name, backend)
        return Member(
            name,
            lock=EtcdLock.create(context),
            registry=EtcdRegistry.create(context),
            query=EtcdQuery.create(context),
        )

    def _count(self, name: str, backend: Backend) -> None:
        commit: Callable[..., int] = backend.client.commit

        def counted(compares: Sequence[Any], operations: Sequence[Any]) -> int:
            self._writes[name] = self._writes.get(name, 0) + bool(operations)
            return commit(compares, operations)

        backend.client.commit = counted  # type: ignore[method-assign]

    def writes(self, member: Member) -> int:
        return self._writes.get(member.name, 0)

    def cut(self, member: Member) -> AbstractContextManager[None]:
        return self._relays[member.name].cut()

    def close(self) -> None:
        for backend in self._backends:
            backend.client.close()
        for relay in self._relays.values():
            relay.close()

    def register(self, member: Member, instance: Instance) -> None:
        assert isinstance(member.registry, EtcdRegistry)
        member.registry.register(instance)
        member.registry.report(instance.id, Health.PASSING)

    def deregister(self, member: Member, instance_id: str) -> None:
        assert isinstance(member.registry, EtcdRegistry)
        member.registry.deregister(instance_id)

    def set_health(self, member: Member, instance_id: str, health: Health) -> None:
        assert isinstance(member.registry, EtcdRegistry)
        member.registry.report(instance_id, health)

    def expire(self, member: Member, session: str) -> None:
        self._server.call("lease/revoke", {"ID": int(session, 16)})

    def plant(self, key: str, value: bytes) -> None:
        place = f"{self._prefix}/locks/record/{key}".encode()
        encoded = {"key": base64.b64encode(place), "value": base64.b64encode(value)}
        self._server.call("kv/put", {name: raw.decode() for name, raw in encoded.items()})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    """An etcd for all tests of this module."""
    need("etcd")
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster.members[0]


class _OnEtcd:
    @pytest.fixture
    def harness(self, server: EtcdMember) -> Iterator[EtcdHarness]:
        harness = EtcdHarness(server)
        yield harness
        harness.close()


class TestEtcdBackend(_OnEtcd, BackendContract):
    pass


class TestEtcdLock(_OnEtcd, LockContract):
    pass


class TestEtcdRegistry(_OnEtcd, RegistryContract):
    pass


class TestEtcdQuery(_OnEtcd, QueryContract):
    pass
