"""The gate on a real Consul: never passing when it must not, at no index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from leadertag.errors import BackendUnavailable, Changed, LeaseLost
from leadertag.model import Gate, Health, Lease, TagChange
from leadertag.providers import RegistryProvider
from leadertag_consul.gates import latch
from leadertag_consul.heart import TTL
from tests.integration.consul.conftest import Process, register
from tests.tools.consul import ConsulAgent, ConsulCluster, ServiceRecorder
from tests.tools.processes import wait_until

LEAD = TagChange(add=("master",), remove=("slave",))
FOLLOW = TagChange(add=("slave",), remove=("master",))


@contextmanager
def beating(*registries: RegistryProvider) -> Iterator[None]:
    """Heartbeats as the daemon sends them."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.4):
            for registry in registries:
                registry.heartbeat()

    for registry in registries:
        registry.heartbeat()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def is_passing(recorder: ServiceRecorder) -> None:
    recorder.wait_for(lambda seen: seen.passing_with_tag("master"), 10, "resolved as leader")


def test_it_passes_at_no_index_between_closed_and_open(
    p1: Process, n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    register(n1, unique_name, Tags=["sensu"])
    gate = Gate(unique_name, 7)
    with beating(p1.registry), consul_servers.recorder(unique_name) as recorder:
        for _ in range(3):
            p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
            assert not any(passing for _, passing in recorder.passing_with_tag("master"))
            p1.registry.close_gate(unique_name, gate)
            p1.registry.remove_gates(unique_name, keep=gate)
            p1.registry.heartbeat()
        p1.registry.open_gate(unique_name, gate)
        is_passing(recorder)
        p1.registry.close_gate(unique_name, gate)
        recorder.wait_for(lambda s: not s.passing_with_tag("master"), 10, "closed")
        closed_at = recorder.last.index
        p1.registry.tag(unique_name, FOLLOW, timeout=10)
        p1.registry.remove_gates(unique_name)
        recorder.wait_for(
            lambda s: not any("leadertag:" in name for name, _ in s.instances[0].checks),
            10, "no gate is left",
        )  # fmt: skip
        later = [p for i, p in recorder.passing_with_tag("master") if i >= closed_at]
        assert not any(later), recorder.describe()


def test_a_closed_gate_stays_closed_when_the_heartbeat_comes_back(
    p1: Process, n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    """What re-registering one check in two kinds got wrong on Consul 1.8.7."""
    register(n1, unique_name, Tags=["sensu"])
    gate = Gate(unique_name, 7)
    with consul_servers.recorder(unique_name) as recorder:
        with beating(p1.registry):
            p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
            p1.registry.open_gate(unique_name, gate)
            is_passing(recorder)
            p1.registry.close_gate(unique_name, gate)
            recorder.wait_for(lambda s: not s.passing_with_tag("master"), 10, "closed")
            closed_at = recorder.last.index
        recorder.wait_for(
            lambda s: (gate.id, "critical") in s.instances[0].checks, 15, "alias follows too"
        )
        with beating(p1.registry):
            recorder.wait_for(
                lambda s: (gate.id, "passing") in s.instances[0].checks, 10, "fed again"
            )
            later = [p for i, p in recorder.passing_with_tag("master") if i >= closed_at]
            assert not any(later), recorder.describe()


def test_what_an_agent_was_told_while_it_hung_opens_nothing(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """Its leader beats on until the gate has run out; the agent then does all that at once."""
    cluster = make_cluster(agents=1)
    (agent,) = cluster.agents
    process = start(agent, timeout="300ms")
    register(agent, "redis", Tags=["sensu"])
    gate = Gate("redis", 7)
    with cluster.recorder("redis") as recorder:
        process.registry.tag("redis", LEAD, gate=gate, timeout=10)
        process.registry.open_gate("redis", gate)
        is_passing(recorder)
        agent.pause()
        until = time.monotonic() + TTL + 1.0
        while time.monotonic() < until:  # as the heart does, each in vain
            with pytest.raises(BackendUnavailable):
                process.registry.heartbeat()
        agent.resume()
        told = (latch(gate), "critical")
        recorder.wait_for(lambda s: told in s.instances[0].checks, 10, "the latch fails")
        recorder.wait_for(
            lambda s: (gate.id, "critical") in s.instances[0].checks, 10, "the alias follows"
        )
        closed_at = recorder.last.index
        with beating(process.registry):
            process.registry.tag("redis", LEAD, gate=gate, timeout=10)
            assert told in recorder.last.instances[0].checks
            later = [p for i, p in recorder.passing_with_tag("master") if i >= closed_at]
            assert not any(later), recorder.describe()
            process.registry.open_gate("redis", gate)
            is_passing(recorder)


def test_removing_a_closed_gate_does_not_open_it_first(
    p1: Process, n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    register(n1, unique_name)
    gate = Gate(unique_name, 7)
    with beating(p1.registry), consul_servers.recorder(unique_name) as recorder:
        p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
        p1.registry.remove_gates(unique_name)
        recorder.wait_for(
            lambda s: not any("leadertag:" in name for name, _ in s.instances[0].checks),
            10,
            "no gate is left",
        )
        for seen in recorder.observations:
            names = [name for name, _ in seen.instances[0].checks]
            assert latch(gate) in names or gate.id not in names, recorder.describe()


def test_the_steady_state_writes_nothing(
    p1: Process, n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    register(n1, unique_name)
    gate = Gate(unique_name, 7)
    p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
    p1.registry.open_gate(unique_name, gate)
    with consul_servers.recorder(unique_name) as recorder:
        is_passing(recorder)
        sessions, index = len(consul_servers.sessions()), consul_servers.raft_index()
        for _ in range(30):
            p1.registry.heartbeat()
            p1.registry.local(unique_name)
            p1.registry.members(unique_name)
        assert consul_servers.wrote_nothing_since(index)
        assert len(consul_servers.sessions()) == sessions


def test_two_processes_on_one_agent_feed_their_own_gates(
    start: Callable[..., Process], n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    first, second = start(n1, "n1/a b"), start(n1, "n1/a-b")
    one, two = f"{unique_name}-1", f"{unique_name}-2"
    with (
        consul_servers.recorder(one) as of_one,
        consul_servers.recorder(two) as of_two,
        beating(second.registry),
    ):
        with beating(first.registry):
            for process, name in ((first, one), (second, two)):
                register(n1, name)
                gate = Gate(name, 7)
                process.registry.tag(name, LEAD, gate=gate, timeout=10)
                process.registry.open_gate(name, gate)
            is_passing(of_one)
            is_passing(of_two)
        of_one.wait_for(lambda s: not s.passing_with_tag("master"), 15, "the silent one's closed")
        assert of_two.last.passing_with_tag("master")


def test_an_agent_that_restarts_brings_the_gate_back(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """Tags by API, gate and heartbeat are restored; open stays open, closed stays closed."""
    cluster = make_cluster(agents=1)
    agent = cluster.agent("n1")
    process = start(agent)
    for name in ("open", "shut"):
        register(agent, name)
        process.registry.tag(name, LEAD, gate=Gate(name, 7), timeout=10)
    process.registry.open_gate("open", Gate("open", 7))
    agent.restart()
    with cluster.recorder("open") as of_open, cluster.recorder("shut") as of_shut:
        for name in ("open", "shut"):
            agent.api("PUT", f"/v1/agent/check/pass/own:{name}")
        with beating(process.registry):
            if not process.registry.local("open").passing:
                # The agent runs restored aliases before it knows them: publishing heals that,
                # also where a heartbeat that had run out has closed the latch.
                process.registry.tag("open", LEAD, gate=Gate("open", 7), timeout=10)
                process.registry.open_gate("open", Gate("open", 7))
            is_passing(of_open)
            assert not any(p for _, p in of_shut.passing_with_tag("master"))


def shut_out_case(p1: Process, p2: Process, service: str) -> tuple[Lease, Gate]:
    """n1 led with an open gate and lost the lock; n2 holds it now."""
    for process in (p1, p2):
        register(process.agent, service, Tags=["sensu"])
    gate = Gate(service, 7)
    p1.registry.tag(service, LEAD, gate=gate, timeout=10)
    p1.registry.open_gate(service, gate)
    lease = p2.lock.acquire(p2.lock.read(service), p2.record())
    assert isinstance(lease, Lease)
    return lease, gate


def test_shut_out_closes_the_gate_and_touches_nothing_else(
    p1: Process, p2: Process, consul_servers: ConsulCluster, unique_name: str
) -> None:
    with beating(p1.registry), consul_servers.recorder(unique_name) as recorder:
        lease, gate = shut_out_case(p1, p2, unique_name)
        is_passing(recorder)
        before = consul_servers.server.get(f"/v1/catalog/service/{unique_name}")
        (other,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")
        p2.registry.shut_out(other, lease)
        (shut,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")
        assert not shut.passing
        assert shut.gate == gate.term
        assert shut.service_health == other.service_health
        assert consul_servers.server.get(f"/v1/catalog/service/{unique_name}") == before
        index = consul_servers.raft_index()
        p2.registry.shut_out(shut, lease)  # critical already: nothing to write
        assert consul_servers.wrote_nothing_since(index)


def test_shut_out_needs_the_lock(
    p1: Process, p2: Process, consul_servers: ConsulCluster, unique_name: str
) -> None:
    with beating(p1.registry), consul_servers.recorder(unique_name) as recorder:
        lease, _ = shut_out_case(p1, p2, unique_name)
        is_passing(recorder)
        (other,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")
        p2.lock.end()
        with pytest.raises(LeaseLost):
            p2.registry.shut_out(other, lease)
        assert next(m for m in p1.registry.members(unique_name) if m.node == "n1").passing


def test_shut_out_without_an_own_check_does_nothing(
    p1: Process, p2: Process, consul_servers: ConsulCluster, unique_name: str
) -> None:
    lease, _ = shut_out_case(p1, p2, unique_name)
    p1.registry.remove_gates(unique_name)
    wait_until(lambda: all(m.gate is None for m in p2.registry.members(unique_name)), 10, "no gate")
    (other,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")
    index = consul_servers.raft_index()
    p2.registry.shut_out(other, lease)
    assert consul_servers.wrote_nothing_since(index)


def test_the_lost_are_shut_out_while_the_lock_is_free(
    p1: Process, p2: Process, consul_servers: ConsulCluster, unique_name: str
) -> None:
    with beating(p1.registry), consul_servers.recorder(unique_name) as recorder:
        _, gate = shut_out_case(p1, p2, unique_name)
        is_passing(recorder)
        (other,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")
        held = p2.lock.read(unique_name)
        p2.lock.discard(held)
        before = consul_servers.server.get(f"/v1/catalog/service/{unique_name}")
        with pytest.raises(Changed):
            p2.registry.shut_out_lost(other, held)
        p2.registry.shut_out_lost(replace(other, gate=gate.term - 1), p2.lock.read(unique_name))
        assert next(m for m in p2.registry.members(unique_name) if m.node == "n1").passing, (
            "a gate of a later term than the one that was seen"
        )
        p2.registry.shut_out_lost(other, p2.lock.read(unique_name))
        (shut,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")
        assert not shut.passing
        assert shut.gate == gate.term
        assert consul_servers.server.get(f"/v1/catalog/service/{unique_name}") == before


def passing_of(p: Process, service: str) -> dict[str, bool]:
    """By their ids: whether n1's own checks pass, and the whole service as "service"."""
    (n1,) = (m for m in p.registry.members(service) if m.node == "n1")
    known = {check.id: check.status is Health.PASSING for check in n1.checks if check.own}
    return known | {"service": n1.service_health is Health.PASSING}


def test_who_only_waits_leaves_the_one_shot_check_alone(
    p1: Process, p2: Process, consul_servers: ConsulCluster, unique_name: str
) -> None:
    """It is the same one in every term: n1 may lead again before its agent repeats it."""
    check = f"{unique_name}-check"
    with beating(p1.registry), consul_servers.recorder(unique_name) as recorder:
        lease, gate = shut_out_case(p1, p2, unique_name)
        definition = {"ID": check, "Name": "leader", "ServiceID": unique_name, "TTL": "100s"}
        p1.agent.api("PUT", "/v1/agent/check/register", {**definition, "Status": "critical"})
        told = {"Status": "passing", "Output": "leadertag: settled"}
        p1.agent.api("PUT", f"/v1/agent/check/update/{check}", told)
        is_passing(recorder)
        wait_until(lambda: passing_of(p2, unique_name).get(check), 10, "the check passes")
        (other,) = (m for m in p2.registry.members(unique_name) if m.node == "n1")

        p2.registry.shut_out_lost(other, lease)
        seen = passing_of(p2, unique_name)
        assert (seen[gate.id], seen[check], seen["service"]) == (False, True, True)

        p2.registry.shut_out(other, lease)  # by whoever publishes itself
        seen = passing_of(p2, unique_name)
        assert (seen[gate.id], seen[check], seen["service"]) == (False, False, True)


def test_a_leader_whose_node_comes_back_stays_shut_out(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    """A node that returns passes serfHealth before its own checks are looked at again."""
    cluster = make_cluster(agents=2)
    p1, p2 = start(cluster.agent("n1")), start(cluster.agent("n2"))
    lease, _ = shut_out_case(p1, p2, "redis")
    with cluster.recorder("redis") as recorder:
        p1.registry.heartbeat()
        is_passing(recorder)
        p1.agent.pause()
        recorder.wait_for(lambda s: not s.passing_with_tag("master"), 30, "n1 is out")
        out_at = recorder.last.index
        (other,) = (m for m in p2.registry.members("redis") if m.node == "n1")
        p2.registry.shut_out(other, lease)
        p1.agent.resume()
        recorder.wait_for(
            lambda s: all(("serfHealth", "passing") in i.checks for i in s.instances),
            60, "n1 is back",
        )  # fmt: skip
        p2.lock.keep_alive()
        later = [p for i, p in recorder.passing_with_tag("master") if i >= out_at]
        assert not any(later), recorder.describe()
