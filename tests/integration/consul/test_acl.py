"""With ACLs: the policy that suffices, and what is said when something is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from leadertag.errors import BackendError, ConfigError, NotRegistered, PermissionDenied
from leadertag.model import Gate, Lease, LockView, Phase, QueryDefinition, TagChange
from leadertag_consul.guard import PREDECESSOR
from tests.integration.consul.conftest import Process, process_of, register
from tests.tools.consul import MASTER_TOKEN, ConsulAgent, ConsulCluster
from tests.tools.processes import wait_until

LEAD = TagChange(add=("master",), remove=("slave",))
FOLLOW = TagChange(add=("slave",), remove=("master",))

RULES = {
    "locks": 'key_prefix "leadertag/" { policy = "write" }',
    "session": 'session "n1" { policy = "write" }',
    "service": 'service "redis" { policy = "write" }',
    "own service": 'service "leadertag" { policy = "write" }',
    "nodes": 'node_prefix "" { policy = "read" }',
    "query": 'query "redis-master" { policy = "write" }',
    "agent": 'agent "n1" { policy = "read" }',
}
GUARD = 'key "check-redis-master-redis" { policy = "write" }'


@pytest.fixture(scope="module")
def acl_cluster(tmp_path_factory: pytest.TempPathFactory) -> ConsulCluster:
    with ConsulCluster(tmp_path_factory.mktemp("acl"), agents=1, acl=True) as cluster:
        yield cluster


@pytest.fixture
def agent(acl_cluster: ConsulCluster) -> ConsulAgent:
    agent = acl_cluster.agent("n1")
    register(agent, "redis", Tags=["sensu"])
    return agent


def token_without(cluster: ConsulCluster, *missing: str, more: str = "") -> str:
    rules = [rule for name, rule in RULES.items() if name not in missing]
    return cluster.create_token("\n".join([*rules, more]))


def everything(process: Process) -> None:
    """Every verb once, as in the life of a leader."""
    lock, registry, query = process.lock, process.registry, process.query
    gate = Gate("redis", 7)
    registry.remove_gates("redis")
    registry.tag("redis", FOLLOW, timeout=5)
    lease = lock.acquire(lock.read("redis/master"), process.record())
    assert isinstance(lease, Lease)
    lock.keep_alive()
    assert lock.confirm([lease])
    registry.heartbeat()
    assert registry.local("redis").node == "n1"
    registry.tag("redis", LEAD, gate=gate, timeout=5)
    registry.open_gate("redis", gate)
    wait_until(lambda: registry.members("redis")[0].passing, 10, "published")
    registry.shut_out_lost(registry.members("redis")[0], lease)
    registry.shut_out(registry.members("redis")[0], lease)
    for watch in (
        lock.watch(["redis/master"]), *registry.watch([("redis", "redis")]),
        registry.watch_members("redis"),
    ):  # fmt: skip
        assert watch.poll(5)
        watch.close()
    definition = QueryDefinition("redis-master", "redis", ("master",))
    query.ensure(definition)
    assert definition in query.list()
    query.resolve("redis-master")
    query.remove("redis-master")
    registry.close_gate("redis", gate)
    registry.tag("redis", FOLLOW, timeout=5)
    registry.remove_gates("redis")
    lock.release(lease, replace(lease.record, phase=Phase.RELEASED))


def test_the_documented_policy_suffices(acl_cluster: ConsulCluster, agent: ConsulAgent) -> None:
    process = process_of(agent, token=token_without(acl_cluster))
    everything(process)
    process.lock.end()
    with_node = process_of(agent, token=token_without(acl_cluster, "agent"), node="n1")
    everything(with_node)
    with_node.lock.end()


@pytest.mark.parametrize("missing", RULES)
def test_each_rule_of_it_is_needed_and_named(
    acl_cluster: ConsulCluster, agent: ConsulAgent, missing: str
) -> None:
    """One line that names the operation and the rule, and never shows the token."""
    token = token_without(acl_cluster, missing)

    def live() -> None:
        process = process_of(agent, token=token)
        try:
            everything(process)
        finally:
            process.lock.end()

    with pytest.raises(BackendError) as caught:
        live()
    message = str(caught.value)
    assert "\n" not in message
    assert token not in message
    assert isinstance(caught.value, PermissionDenied) or missing == "nodes"
    word = RULES[missing].split()[0]
    assert word in message


def test_no_token_and_an_unknown_token(agent: ConsulAgent) -> None:
    with pytest.raises(PermissionDenied, match="no token is set"):
        process_of(agent)
    unknown = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(PermissionDenied, match="does not know the token") as caught:
        process_of(agent, token=unknown)
    assert unknown not in str(caught.value)


def test_a_service_that_may_not_be_read_is_not_taken_for_missing(
    acl_cluster: ConsulCluster, agent: ConsulAgent
) -> None:
    process = process_of(agent, token=token_without(acl_cluster, "service"))
    with pytest.raises(PermissionDenied):
        process.registry.local("redis")
    with pytest.raises(PermissionDenied):
        process.registry.watch([("redis", "redis")])[0].poll(5)
    with pytest.raises(NotRegistered):
        process.registry.local("nonesuch")
    process.lock.end()


def test_a_query_that_exists_but_cannot_be_read(
    acl_cluster: ConsulCluster, agent: ConsulAgent
) -> None:
    definition = QueryDefinition("theirs", "redis", ("master",))
    admin = process_of(agent, token=MASTER_TOKEN)
    admin.query.ensure(definition)
    process = process_of(agent, token=token_without(acl_cluster))
    with pytest.raises(PermissionDenied, match='query "'):
        process.query.ensure(definition)
    admin.query.remove("theirs")
    admin.lock.end()
    process.lock.end()


def test_a_foreign_token_in_a_query_is_kept_or_left_alone(
    acl_cluster: ConsulCluster, agent: ConsulAgent
) -> None:
    agent.api("POST", "/v1/query", {
        "Name": "redis-master", "Token": MASTER_TOKEN,
        "Service": {"Service": "redis", "Tags": ["other"], "OnlyPassing": True},
    })  # fmt: skip
    definition = QueryDefinition("redis-master", "redis", ("master",))
    process = process_of(agent, token=token_without(acl_cluster))
    with pytest.raises(BackendError, match="token that may not be read"):
        process.query.ensure(definition)
    admin = process_of(agent, token=MASTER_TOKEN)
    assert admin.query.ensure(definition)
    (found,) = (q for q in agent.get("/v1/query") if q["Name"] == "redis-master")
    assert found["Token"] == MASTER_TOKEN
    admin.query.remove("redis-master")
    admin.lock.end()
    process.lock.end()


def test_the_guard_needs_the_predecessors_key(
    acl_cluster: ConsulCluster, agent: ConsulAgent
) -> None:
    process = process_of(agent, token=token_without(acl_cluster))
    with (
        pytest.raises(PermissionDenied),
        process.lock.guard(PREDECESSOR, "redis-master", "redis"),
    ):
        pass
    process.lock.end()
    process = process_of(agent, token=token_without(acl_cluster, more=GUARD))
    with process.lock.guard(PREDECESSOR, "redis-master", "redis") as taken:
        assert taken
    process.lock.end()


def test_a_token_file_is_read_again_when_it_changes(
    acl_cluster: ConsulCluster, agent: ConsulAgent, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        process_of(agent, token_file=str(file))
    file.write_text(token_without(acl_cluster) + "\n")
    process = process_of(agent, token_file=str(file))
    assert process.lock.read("redis/other") == LockView("redis/other")
    new = tmp_path / "new"
    new.write_text(acl_cluster.create_token('agent "n1" { policy = "read" }'))
    new.rename(file)  # as a secret manager does it
    with pytest.raises(PermissionDenied):
        process.lock.read("redis/other")
    file.unlink()
    with pytest.raises(PermissionDenied):  # the last one still counts
        process.lock.read("redis/other")
    file.write_text(MASTER_TOKEN)
    process.lock.read("redis/other")
    process.lock.end()


def test_the_token_of_a_file_definition_is_replaced_by_the_requests(
    make_cluster: Callable[..., ConsulCluster],
) -> None:
    """What the docs say: the agent synchronizes the service with leadertag's token then."""
    definition = {"name": "redis", "id": "redis", "port": 1, "tags": ["sensu"],
                  "token": MASTER_TOKEN}  # fmt: skip
    cluster = make_cluster(agents=1, acl=True, services={"n1": [definition]})
    agent = cluster.agent("n1")
    wait_until(lambda: agent.get("/v1/catalog/service/redis"), 10, "registered")
    process = process_of(agent, token=token_without(cluster))
    process.registry.tag("redis", LEAD, timeout=10)
    (entry,) = agent.get("/v1/catalog/service/redis")
    assert entry["ServiceTags"] == ["sensu", "master"]
    process.lock.end()
