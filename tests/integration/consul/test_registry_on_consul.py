"""Tagging and watching on a real Consul: fidelity, several instances, reverts, maintenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from leadertag.errors import Ambiguous, NotRegistered
from leadertag.model import Gate, Health, Instance, TagChange
from leadertag.providers import BackendContext, Watch
from leadertag_consul import ConsulRegistry
from tests.integration.consul.conftest import Process, context_of, register
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.processes import wait_until

LEAD = TagChange(add=("master",), remove=("slave",))
FOLLOW = TagChange(add=("slave",), remove=("master",))

RICH: dict[str, dict[str, Any]] = {
    "plain": {"Tags": ["sensu", "slave", "x"], "Address": "10.1.2.3"},
    "no address": {"Tags": []},
    "everything": {
        "Tags": ["sensu"],
        "Address": "10.1.2.3",
        "Meta": {"version": "7", "empty": ""},
        "Weights": {"Passing": 7, "Warning": 3},
        "TaggedAddresses": {
            "lan": {"Address": "10.0.0.9", "Port": 6379},
            "wan": {"Address": "192.0.2.9", "Port": 7777},
        },
        "EnableTagOverride": True,
    },
    "connect native": {"Tags": ["a"], "Connect": {"Native": True}},
    "proxy": {
        "Kind": "connect-proxy",
        "Tags": ["a"],
        "Proxy": {
            "DestinationServiceName": "web",
            "DestinationServiceID": "web1",
            "LocalServiceAddress": "127.0.0.1",
            "LocalServicePort": 9090,
            "Config": {"handshake_timeout_ms": 5000, "nested": {"a": [1, "b"]}},
            "Upstreams": [
                {
                    "DestinationType": "service",
                    "DestinationName": "db",
                    "LocalBindPort": 9191,
                    "Config": {"connect_timeout_ms": 1000},
                }
            ],
            "MeshGateway": {"Mode": "local"},
            "Expose": {
                "Checks": True,
                "Paths": [
                    {
                        "Path": "/healthz",
                        "LocalPathPort": 8080,
                        "ListenerPort": 21500,
                        "Protocol": "http",
                    }
                ],
            },
        },
    },
    "mesh gateway": {"Kind": "mesh-gateway", "Tags": ["a"], "Address": "10.9.9.9"},
}


def without_tags(agent: ConsulAgent, instance_id: str) -> dict[str, Any]:
    """The agent's whole registration but its tags (and the hash, which covers them)."""
    found: dict[str, Any] = agent.get(f"/v1/agent/service/{instance_id}")
    return {k: v for k, v in found.items() if k not in ("Tags", "ContentHash")}


def catalog_without_tags(agent: ConsulAgent, service: str) -> dict[str, Any]:
    (entry,) = agent.get(f"/v1/catalog/service/{service}")
    return {k: v for k, v in entry.items() if k not in ("ServiceTags", "ModifyIndex")}


@pytest.mark.parametrize("kind", RICH)
def test_nothing_but_the_role_tags_changes(
    p1: Process, n1: ConsulAgent, unique_name: str, kind: str
) -> None:
    body = register(n1, unique_name, f"{unique_name}-1", **RICH[kind])
    n1.api("PUT", f"/v1/agent/check/warn/own:{unique_name}-1?note=careful")
    wait_until(
        lambda: n1.get(f"/v1/health/checks/{unique_name}")[0]["Status"] == "warning",
        10, "the check's state is in the catalog",
    )  # fmt: skip
    before = without_tags(n1, body["ID"]), catalog_without_tags(n1, unique_name)
    check = n1.get("/v1/agent/checks")[f"own:{body['ID']}"]
    tags = [tag for tag in RICH[kind]["Tags"] if tag != "slave"]
    p1.registry.tag(body["ID"], LEAD, timeout=10)
    assert n1.get(f"/v1/agent/service/{body['ID']}")["Tags"] == [*tags, "master"]
    (entry,) = n1.get(f"/v1/catalog/service/{unique_name}")
    assert entry["ServiceTags"] == [*tags, "master"]
    assert (without_tags(n1, body["ID"]), catalog_without_tags(n1, unique_name)) == before
    after = n1.get("/v1/agent/checks")[f"own:{body['ID']}"]
    for told in ("Status", "Output", "Name", "Notes", "Type", "Definition"):
        assert after[told] == check[told]


def test_a_settled_registration_is_not_written_again(
    p1: Process, n1: ConsulAgent, consul_servers: ConsulCluster, unique_name: str
) -> None:
    register(n1, unique_name, Tags=["sensu"])
    gate = Gate(unique_name, 7)
    p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
    index = consul_servers.raft_index()
    p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
    p1.registry.tag(unique_name, LEAD, timeout=10)
    p1.registry.close_gate(unique_name, gate)
    assert consul_servers.wrote_nothing_since(index)


def test_an_instance_is_told_by_its_id_not_by_its_node(
    p1: Process, p2: Process, unique_name: str
) -> None:
    """The predecessor compared node names, and never tagged the second instance."""
    for process, ids in ((p1, ("x", "y")), (p2, ("x",))):
        for instance_id in ids:
            register(process.agent, unique_name, f"{unique_name}-{instance_id}")
    with pytest.raises(Ambiguous, match=f"{unique_name}-x, {unique_name}-y"):
        p1.registry.local(unique_name)
    p1.registry.tag(f"{unique_name}-y", LEAD, timeout=10)
    wait_until(lambda: len(p1.registry.members(unique_name)) == 3, 10, "all three members")
    leaders = [m.member for m in p1.registry.members(unique_name) if "master" in m.tags]
    assert leaders == [f"n1/{unique_name}-y"]
    assert p2.registry.local(unique_name).id == f"{unique_name}-x"
    with pytest.raises(NotRegistered, match="nonesuch"):
        p1.registry.local(unique_name, "nonesuch")


def test_maintenance_counts_as_critical(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    register(n1, unique_name)
    assert p1.registry.local(unique_name).passing
    service = f"/v1/agent/service/maintenance/{unique_name}"
    n1.api("PUT", service, None, {"enable": "true", "reason": "upgrade"})
    assert p1.registry.local(unique_name).service_health is Health.CRITICAL
    n1.api("PUT", service, None, {"enable": "false"})
    assert p1.registry.local(unique_name).service_health is Health.PASSING
    watches = p1.registry.watch([(unique_name, unique_name)])
    n1.api("PUT", "/v1/agent/maintenance", None, {"enable": "true"})
    try:
        assert p1.registry.local(unique_name).service_health is Health.CRITICAL
        _watched(watches, unique_name, lambda i: i.service_health is Health.CRITICAL)
    finally:
        n1.api("PUT", "/v1/agent/maintenance", None, {"enable": "false"})
    for watch in watches:
        watch.close()


def test_own_checks_do_not_count_for_the_service(n1: ConsulAgent, unique_name: str) -> None:
    """By id prefix, by configuration, or by what their output begins with."""
    own, marked, other = (f"{unique_name}:{kind}" for kind in ("own", "marked", "other"))
    checks = [
        {"CheckID": name, "Name": name, "TTL": "1h"}
        for name in (own, marked, other, f"leadertag:{unique_name}")
    ]
    register(n1, unique_name, Checks=checks)
    n1.api("PUT", f"/v1/agent/check/fail/{marked}", None, {"note": "leadertag: in doubt"})
    n1.api("PUT", f"/v1/agent/check/warn/{other}", None, {"note": "no leadertag: at all"})
    context = context_of(n1)
    registry = ConsulRegistry.create(BackendContext(context.settings, {}, own_checks=(own,)))
    found = {check.id: check.own for check in registry.local(unique_name).checks}
    assert found == {
        own: True, marked: True, other: False, f"leadertag:{unique_name}": True,
        "serfHealth": False,
    }  # fmt: skip
    assert registry.local(unique_name).service_health is Health.WARNING
    assert registry.local(unique_name).health is Health.CRITICAL


def test_a_reload_that_reverts_the_tags_is_seen(
    make_cluster: Callable[..., ConsulCluster], start: Callable[..., Process]
) -> None:
    definition = {"name": "redis", "id": "r1", "port": 6379, "tags": ["sensu"],
                  "check": {"id": "own", "ttl": "1h", "status": "passing"}}  # fmt: skip
    cluster = make_cluster(agents=1, services={"n1": [definition]})
    agent = cluster.agent("n1")
    process = start(agent)
    gate = Gate("redis", 3)
    process.registry.tag("r1", LEAD, gate=gate, timeout=10)
    watches = process.registry.watch([("redis", "r1")])
    for watch in watches:
        assert watch.poll(5)
    agent.reload()
    found = _watched(watches, "r1", lambda i: "master" not in i.tags, patience=5)
    assert found.tags == ("sensu",)
    process.registry.tag("r1", LEAD, gate=gate, timeout=10)
    found = process.registry.local("redis")
    assert found.tags == ("sensu", "master")
    assert not found.passing  # the gate came back closed
    assert found.service_health is Health.PASSING
    for watch in watches:
        watch.close()


def test_both_watches_end_at_the_same_truth(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    """Whatever order their snapshots are handed on in, the last of each is the newest."""
    register(n1, unique_name, Tags=["sensu"])
    watches = p1.registry.watch([(unique_name, unique_name)])
    for watch in watches:
        assert watch.poll(5)
    gate = Gate(unique_name, 9)
    p1.registry.tag(unique_name, LEAD, gate=gate, timeout=10)
    n1.api("PUT", f"/v1/agent/check/fail/own:{unique_name}")
    wait_until(lambda: not _passing(n1, unique_name), 10, "critical in the catalog")
    last: dict[int, Instance] = {}

    def settled() -> bool:
        for number, watch in enumerate(watches):
            if snapshot := watch.poll(0.05):
                last[number] = snapshot[unique_name]
        return (
            len(last) == 2
            and last[0] == last[1]
            and last[0].gate == 9
            and (last[0].service_health is Health.CRITICAL and "master" in last[0].tags)
        )

    wait_until(settled, 10, "both watches show tag, gate and health")
    for watch in watches:
        watch.close()


def test_what_one_watch_saw_the_other_hands_on_too(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    """Else a snapshot that was made earlier, but handed on later, would be the last word."""
    register(n1, unique_name)
    services, checks = p1.registry.watch([(unique_name, unique_name)])
    for watch in (services, checks):
        assert watch.poll(5)
        wait_until(lambda w=watch: w.poll(0.1) is None, 10, "the watch is quiet")
    n1.api("PUT", f"/v1/agent/check/fail/own:{unique_name}")
    _watched([checks], unique_name, lambda i: i.service_health is Health.CRITICAL)
    snapshot = services.poll(0)  # nothing of its own has changed
    assert snapshot is not None
    assert snapshot[unique_name].service_health is Health.CRITICAL
    for watch in (services, checks):
        watch.close()


def test_a_tag_and_its_gate_are_seen_together(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    """They arrive at one index: no snapshot may show one without the other."""
    register(n1, unique_name, Tags=["sensu"])
    watches = p1.registry.watch([(unique_name, unique_name)])
    for watch in watches:
        assert watch.poll(5)
    for term in range(1, 6):
        p1.registry.tag(unique_name, LEAD, gate=Gate(unique_name, term), timeout=10)
        for watch in watches:
            while (snapshot := watch.poll(0.1)) is not None:
                seen = snapshot[unique_name]
                assert ("master" in seen.tags) == (seen.gate == term)
        p1.registry.tag(unique_name, FOLLOW, timeout=10)
        p1.registry.remove_gates(unique_name)
        for watch in watches:
            wait_until(lambda w=watch: w.poll(0.05) is None, 10, "the watch is quiet")
    for watch in watches:
        watch.close()


def test_a_watch_does_not_report_other_services(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    register(n1, unique_name)
    watches = p1.registry.watch([(unique_name, unique_name)])
    for watch in watches:
        assert watch.poll(5)
        wait_until(lambda w=watch: w.poll(0.1) is None, 10, "the watch is quiet")
    register(n1, unique_name + "-other")
    for watch in watches:
        assert watch.poll(0.5) is None
        watch.close()


def _passing(agent: ConsulAgent, service: str) -> bool:
    return bool(agent.get(f"/v1/health/service/{service}", {"passing": ""}))


def _watched(
    watches: object, instance_id: str, wanted: Callable[[Instance], bool], patience: float = 10
) -> Instance:
    found: list[Instance] = []

    def look() -> bool:
        for watch in watches:  # type: ignore[attr-defined]
            assert isinstance(watch, Watch)
            snapshot: Mapping[str, Instance] | None = watch.poll(0.05)
            if snapshot and instance_id in snapshot and wanted(snapshot[instance_id]):
                found.append(snapshot[instance_id])
        return bool(found)

    wait_until(look, patience, f"{instance_id} as wanted")
    return found[-1]
