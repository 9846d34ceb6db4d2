"""Prepared queries on a real Consul: DNS, races, templates, updates in place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from leadertag.errors import Conflict
from leadertag.model import QueryDefinition
from tests.integration.consul.conftest import Process, register
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.processes import wait_until


def definition_of(agent: ConsulAgent, name: str) -> dict[str, object]:
    (found,) = (q for q in agent.get("/v1/query") if q["Name"] == name)
    return dict(found)


def test_it_answers_over_dns(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    register(n1, unique_name, Tags=["sensu", "master"])
    register(n1, unique_name, unique_name + "-2", Tags=["sensu"], Port=7000)
    p1.query.ensure(QueryDefinition(f"q-{unique_name}", unique_name, ("sensu", "master")))
    wait_until(lambda: len(p1.registry.members(unique_name)) == 2, 10, "both registered")
    (record,) = n1.dns(f"q-{unique_name}.query.consul", "SRV")
    assert record.port == 6379


def test_an_update_keeps_the_id_and_what_leadertag_has_no_word_for(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    n1.api("POST", "/v1/query", {
        "Name": unique_name,
        "Service": {"Service": "redis", "Tags": ["old"], "IgnoreCheckIDs": ["slow"]},
    })  # fmt: skip
    before = definition_of(n1, unique_name)
    assert p1.query.ensure(QueryDefinition(unique_name, "redis", ("master", "sensu")))
    after = definition_of(n1, unique_name)
    assert after["ID"] == before["ID"]
    service = after["Service"]
    assert isinstance(service, dict)
    assert service["IgnoreCheckIDs"] == ["slow"]
    assert service["Tags"] == ["master", "sensu"]
    assert service["OnlyPassing"] is True


def test_a_created_query_is_no_template(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    """The library's own `query.create` would always make one that also answers longer names."""
    p1.query.ensure(QueryDefinition(unique_name, "redis", ("master",)))
    template = definition_of(n1, unique_name).get("Template")
    assert not template or not template["Type"]  # type: ignore[index]
    assert n1.dns(f"{unique_name}xyz.query.consul") == []


def test_names_know_no_case(p1: Process, n1: ConsulAgent, unique_name: str) -> None:
    p1.query.ensure(QueryDefinition(unique_name.upper(), "redis", ("master",)))
    assert not p1.query.ensure(QueryDefinition(unique_name, "redis", ("master",)))
    with pytest.raises(Conflict, match="'redis'"):
        p1.query.ensure(QueryDefinition(unique_name, "other", ("master",)))
    p1.query.remove(unique_name)
    assert unique_name.upper() not in [q["Name"] for q in n1.get("/v1/query")]


def test_of_many_that_create_it_at_once_all_are_content(
    start: Callable[..., Process], consul_servers: ConsulCluster, unique_name: str
) -> None:
    processes = [start(consul_servers.agent(f"n{n}")) for n in (1, 2, 3)]
    barrier = threading.Barrier(9)
    results: list[object] = []

    def create(process: Process) -> None:
        barrier.wait()
        try:
            results.append(process.query.ensure(QueryDefinition(unique_name, "redis", ("master",))))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=create, args=(p,)) for p in processes for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [False] * 8 + [True]
    definition_of(consul_servers.server, unique_name)  # exactly one


def test_a_query_of_the_predecessor_is_taken_over(
    p1: Process, n1: ConsulAgent, unique_name: str
) -> None:
    """Made by it (sorted tags, OnlyPassing): settled as it is, nothing is written."""
    n1.api("POST", "/v1/query", {
        "Name": unique_name,
        "Service": {"Service": "redis", "Tags": ["master", "sensu"], "OnlyPassing": True},
    })  # fmt: skip
    wanted = QueryDefinition(unique_name, "redis", ("sensu", "master"))
    assert not p1.query.ensure(wanted)
    assert replace(wanted, tags=("master", "sensu")) in p1.query.list()
