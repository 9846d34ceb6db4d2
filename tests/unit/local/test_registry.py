"""Rules of the embedded registry and queries that the contracts leave open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadertag.errors import LeaseLost, NotRegistered
from leadertag.model import Gate, Health, Instance, Lease, Phase, QueryDefinition, TagChange
from leadertag_local import LocalRegistry
from tests.unit.local.tools import PATIENCE, Node, context

LEAD = TagChange(add=("master",), remove=("slave",))


@pytest.fixture
def old(tmp_path: Path) -> Node:
    """A leader of an earlier term, on node n1."""
    node = Node(tmp_path / "x.db", "n1", gate_life="1h")
    _register(node)
    node.registry.heartbeat()
    node.registry.tag("redis", LEAD, gate=Gate("redis", 1), timeout=PATIENCE)
    node.registry.open_gate("redis", Gate("redis", 1))
    return node


@pytest.fixture
def new(tmp_path: Path) -> Node:
    """Its successor, on node n2."""
    node = Node(tmp_path / "x.db", "n2", gate_life="1h")
    node.lock.open("n2", ttl=60)
    _register(node)
    node.registry.heartbeat()
    return node


def _register(node: Node) -> None:
    node.registry.register(node.instance(tags=("sensu",)))
    node.registry.report("redis", Health.PASSING)


def of(node: Node, reader: Node) -> Instance:
    """What the reader sees of the node's instance."""
    return {m.node: m for m in reader.registry.members("redis")}[node.name]


def test_who_was_shut_out_cannot_let_himself_in(old: Node, new: Node) -> None:
    lease = new.take()
    assert of(old, new).passing
    new.registry.shut_out(of(old, new), lease)
    old.registry.heartbeat()
    with pytest.raises(LeaseLost):
        old.registry.open_gate("redis", Gate("redis", 1))
    assert not of(old, new).passing
    assert of(old, new).tags == ("sensu", "master")
    assert of(old, new).gate == 1


def test_who_was_shut_out_comes_back_as_a_follower(old: Node, new: Node) -> None:
    new.registry.shut_out(of(old, new), new.take())
    old.registry.tag("redis", TagChange(add=("slave",), remove=("master",)), timeout=PATIENCE)
    old.registry.remove_gates("redis")
    assert of(old, new).passing


def test_who_was_shut_out_comes_back_as_a_leader_of_a_later_term(old: Node, new: Node) -> None:
    lease = new.take()
    new.registry.shut_out(of(old, new), lease)
    earlier, later = Gate("redis", lease.term), Gate("redis", lease.term + 1)
    old.registry.tag("redis", LEAD, gate=earlier, timeout=PATIENCE)
    old.registry.remove_gates("redis", keep=earlier)
    old.registry.tag("redis", LEAD, gate=later, timeout=PATIENCE)
    old.registry.remove_gates("redis", keep=later)
    old.registry.open_gate("redis", later)
    assert of(old, new).passing
    assert of(old, new).gate == later.term


def test_an_instance_without_a_gate_is_shut_out_until_its_gate(old: Node, new: Node) -> None:
    old.registry.remove_gates("redis")
    assert of(old, new).passing
    lease = new.take()
    new.registry.shut_out(of(old, new), lease)
    assert not of(old, new).passing
    assert of(old, new).service_health is Health.PASSING
    assert of(old, new).gate is None
    for term, passes in ((lease.term, False), (lease.term + 1, True)):
        gate = Gate("redis", term)
        old.registry.tag("redis", LEAD, gate=gate, timeout=PATIENCE)
        old.registry.open_gate("redis", gate)
        assert of(old, new).passing is passes


def test_shutting_out_who_is_gone_is_no_error(old: Node, new: Node) -> None:
    gone = of(old, new)
    old.registry.deregister("redis")
    new.registry.shut_out(gone, new.take())
    assert [m.node for m in new.registry.members("redis")] == ["n2"]


def test_a_lease_of_another_backend_is_taken_for_granted(old: Node, tmp_path: Path) -> None:
    registry = LocalRegistry.create(context(tmp_path / "x.db", "n2", gate_life="1h"))
    elsewhere = Lease("redis/leader", 7, 1234, "a session of Consul", old.record())
    registry.shut_out(of(old, old), elsewhere)
    assert not of(old, old).passing


def test_publishing_shuts_the_gate_of_whoever_had_the_tag(old: Node, new: Node) -> None:
    lease = new.take()
    leading = replace(lease.record, phase=Phase.LEADING)
    new.registry.publish(lease, leading, "redis", LEAD, Gate("redis", lease.term))
    old.registry.tag("redis", LEAD, timeout=PATIENCE)  # it has not learnt of it yet
    old.registry.heartbeat()
    assert of(old, new).tags == ("sensu", "master")
    assert not of(old, new).passing


def test_publishing_leaves_other_elections_gates_alone(old: Node, new: Node) -> None:
    old.registry.remove_gates("redis")
    gate = Gate("another", 1)
    old.registry.tag("redis", TagChange(), gate=gate, timeout=PATIENCE)
    old.registry.open_gate("redis", gate)
    lease = new.take()
    new.registry.publish(lease, lease.record, "redis", LEAD, Gate("redis", lease.term))
    assert of(old, new).tags == ("sensu",)
    assert of(old, new).passing


def test_a_restarted_process_publishes_without_closing_its_gate(old: Node, tmp_path: Path) -> None:
    """The old gate stays as it is until its process has been silent for a gate's life."""
    restarted = Node(tmp_path / "x.db", "n1", gate_life="1h")
    restarted.registry.tag("redis", LEAD, gate=Gate("redis", 1), timeout=PATIENCE)
    assert of(old, restarted).passing
    restarted.registry.open_gate("redis", Gate("redis", 1))
    assert not of(old, restarted).passing  # now it follows the new process, which is silent
    restarted.registry.heartbeat()
    assert of(old, restarted).passing


def test_a_restarted_process_takes_its_instance_over(old: Node, tmp_path: Path) -> None:
    restarted = Node(tmp_path / "x.db", "n1", gate_life="1h")
    restarted.registry.register(restarted.instance(port=7000, tags=("ignored",)))
    instance = of(old, restarted)
    assert (instance.port, instance.tags, instance.gate) == (7000, ("sensu", "master"), 1)
    assert instance.passing


def test_the_same_id_on_two_nodes_is_two_instances(old: Node, new: Node) -> None:
    old.registry.deregister("redis")
    with pytest.raises(NotRegistered):
        old.registry.local("redis")
    assert new.registry.local("redis").node == "n2"


def test_queries_ask_for_the_meta_of_nodes(tmp_path: Path) -> None:
    near = Node(tmp_path / "x.db", "n1", node_meta={"rack": "r1"})
    far = Node(tmp_path / "x.db", "n2", node_meta={"rack": "r2"})
    for node in (near, far):
        _register(node)
    near.query.ensure(QueryDefinition("q", "redis", ("sensu",), node_meta={"rack": "r2"}))
    assert [found.node for found in near.query.resolve("q")] == ["n2"]
