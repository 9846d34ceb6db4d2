"""The contracts that ship with leadertag, on a real Consul."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.model import Characteristic, Health, Instance
from leadertag.providers import BackendContext, FencedRegistry, SelfRegistered
from leadertag.testing.contracts import (
    BackendContract,
    Harness,
    LockContract,
    Member,
    QueryContract,
    RegistryContract,
)
from leadertag.testing.relay import Relay
from leadertag_consul import ConsulLock, ConsulQuery, ConsulRegistry
from tests.tools.consul import HTTP_PORT, ConsulAgent, ConsulCluster
from tests.tools.processes import wait_until

_NODES = {"a": "n1", "b": "n2", "c": "n3"}


class ConsulHarness(Harness):
    """Members on the agents of one cluster; a prefix of its own keeps tests apart."""

    session_expiry = 20.0  # Consul waits for twice the TTL
    patience = 15.0

    def __init__(self, cluster: ConsulCluster) -> None:
        self._cluster = cluster
        self._prefix = f"test-{uuid.uuid4().hex[:8]}"
        self._relays: dict[str, Relay] = {}

    def agent(self, name: str) -> ConsulAgent:
        return self._cluster.agent(_NODES[name])

    def _context(self, address: str, settings: Mapping[str, Any]) -> BackendContext:
        usual = {"address": address, "prefix": self._prefix, "timeout": "5s"}
        return BackendContext(Table({**usual, **settings}, "test: backends.consul"), {})

    def context(self, settings: Mapping[str, Any]) -> BackendContext:
        return self._context(self.agent("a").address, settings)

    def unreachable(self) -> BackendContext:
        return self._context("127.0.0.1:1", {"timeout": "500ms"})  # nothing listens on port 1

    def join(self, name: str) -> Member:
        if name not in self._relays:
            self._relays[name] = Relay(self.agent(name).ip, HTTP_PORT)
        context = self._context(f"http://{self._relays[name].address}", {})
        return Member(
            name,
            lock=ConsulLock.create(context),
            registry=ConsulRegistry.create(context),
            query=ConsulQuery.create(context),
        )

    def cut(self, member: Member) -> AbstractContextManager[None]:
        return self._relays[member.name].cut()

    def close(self) -> None:
        for relay in self._relays.values():
            relay.close()

    def register(self, member: Member, instance: Instance) -> None:
        agent = self.agent(member.name)
        check = {
            "CheckID": f"service:{instance.id}",
            "Name": "the service's own",
            "TTL": "1h",
            "Status": "passing",
        }
        agent.register_service(
            {
                "Name": instance.service,
                "ID": instance.id,
                "Address": instance.address,
                "Port": instance.port,
                "Tags": list(instance.tags),
                "Meta": dict(instance.meta),
                "Checks": [check],
            }
        )
        self._visible(agent, instance.id, True)

    def deregister(self, member: Member, instance_id: str) -> None:
        agent = self.agent(member.name)
        agent.deregister_service(instance_id)
        self._visible(agent, instance_id, False)

    def _visible(self, agent: ConsulAgent, instance_id: str, wanted: bool) -> None:
        def there() -> bool:
            answer = self._cluster.server.get(f"/v1/catalog/node/{agent.node}")
            return (instance_id in answer["Services"]) == wanted

        wait_until(there, self.patience, f"{instance_id} in the catalog: {wanted}")

    def set_health(self, member: Member, instance_id: str, health: Health) -> None:
        verb = {Health.PASSING: "pass", Health.WARNING: "warn", Health.CRITICAL: "fail"}[health]
        self.agent(member.name).api("PUT", f"/v1/agent/check/{verb}/service:{instance_id}")

    def expire(self, member: Member, session: str) -> None:
        self._cluster.server.api("PUT", f"/v1/session/destroy/{session}")

    def plant(self, key: str, value: bytes) -> None:
        self._cluster.server.api("PUT", f"/v1/kv/{self._prefix}/locks/{key}", value)

    def writes(self, member: Member) -> int:
        return self._cluster.raft_index()


class _OnConsul:
    @pytest.fixture
    def harness(self, consul_servers: ConsulCluster) -> Iterator[Harness]:
        harness = ConsulHarness(consul_servers)
        yield harness
        harness.close()


class TestBackend(_OnConsul, BackendContract):
    pass


class TestLock(_OnConsul, LockContract):
    pass


class TestRegistry(_OnConsul, RegistryContract):
    """Consul knows its instances itself, and declares no ``FENCED_TAGS``."""

    # What asks for either does not apply, and is not there, instead of being skipped.
    test_publishing_is_one_step = None
    test_publishing_without_the_lock_changes_nothing = None
    test_publishing_an_unknown_instance_changes_nothing = None
    test_registering_again_keeps_tags_and_gate = None
    test_an_instance_nobody_reported_on_does_not_pass = None
    test_reporting_on_an_unknown_instance_fails = None
    test_deregister_forgets = None

    def test_what_is_not_declared_has_no_verbs(self, a: Member) -> None:
        assert Characteristic.FENCED_TAGS not in a.registry.characteristics
        assert not isinstance(a.registry, FencedRegistry | SelfRegistered)


class TestQuery(_OnConsul, QueryContract):
    pass
