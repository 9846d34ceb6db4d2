"""Providers on real agents. Members a, b and c are the agents n1, n2 and n3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.model import Phase, Record
from leadertag.providers import BackendContext
from leadertag_consul import ConsulLock, ConsulQuery, ConsulRegistry
from tests.tools.consul import ConsulAgent, ConsulCluster


@dataclass
class Process:
    """The providers of one process on one agent, as the scheduler would have them."""

    lock: ConsulLock
    registry: ConsulRegistry
    query: ConsulQuery
    agent: ConsulAgent
    context: BackendContext

    def record(self, phase: Phase = Phase.ELECTED, **fields: Any) -> Record:
        """A record of this process."""
        node = self.agent.node
        return Record(f"{node}/redis", "redis", node, self.agent.ip, 6379, phase, **fields)


def context_of(agent: ConsulAgent, **settings: Any) -> BackendContext:
    """A context for that agent; the settings are those of the configuration."""
    own = {"address": agent.address, "timeout": "5s", **settings}
    return BackendContext(Table(own, "test: backends.consul"), {})


def process_of(agent: ConsulAgent, owner: str = "", **settings: Any) -> Process:
    """A process with an open session."""
    context = context_of(agent, **settings)
    process = Process(
        ConsulLock.create(context),
        ConsulRegistry.create(context),
        ConsulQuery.create(context),
        agent,
        context,
    )
    process.lock.open(owner or agent.node, ttl=10.0)
    return process


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Makes processes (`process_of`) whose sessions end with the test."""
    processes: list[Process] = []

    def make(agent: ConsulAgent, owner: str = "", **settings: Any) -> Process:
        process = process_of(agent, owner, **settings)
        processes.append(process)
        return process

    yield make
    for process in processes:
        if process.agent.process.running and not process.agent.process._paused:
            process.lock.end()
        process.lock.close()


@pytest.fixture
def n1(consul_servers: ConsulCluster) -> ConsulAgent:
    """The first shared agent."""
    return consul_servers.agent("n1")


@pytest.fixture
def n2(consul_servers: ConsulCluster) -> ConsulAgent:
    """The second shared agent."""
    return consul_servers.agent("n2")


@pytest.fixture
def p1(start: Callable[..., Process], n1: ConsulAgent) -> Process:
    """A process on n1."""
    return start(n1)


@pytest.fixture
def p2(start: Callable[..., Process], n2: ConsulAgent) -> Process:
    """A process on n2."""
    return start(n2)


def register(
    agent: ConsulAgent, service: str, instance_id: str = "", **fields: Any
) -> dict[str, Any]:
    """Registers a service with one TTL check of its own, passing; returns the body."""
    instance_id = instance_id or service
    check = {"CheckID": f"own:{instance_id}", "Name": "own", "TTL": "1h", "Status": "passing"}
    body = {"Name": service, "ID": instance_id, "Port": 6379, "Checks": [check], **fields}
    agent.register_service(body)
    return body
