"""SkyDNS records on a real etcd, read at every revision: what CoreDNS would answer from."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.errors import ConfigError, LeaseLost
from leadertag.model import Gate, Health, Lease, Phase, TagChange
from leadertag_etcd import settings as settings_module
from tests.chaos.clock import now
from tests.conftest import need
from tests.integration.etcd.process import PATIENCE, Process
from tests.integration.etcd.site import Site
from tests.tools.etcd import CLIENT_PORT, EtcdCluster, EtcdMember

SKYDNS = {"zone": "Leadertag.local."}
REDIS = "/skydns/local/leadertag/redis"
Records = Mapping[str, tuple[dict[str, Any], int]]
"""Key to message and lease."""
ADD = TagChange(add=("master",), remove=("slave",))


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def history(member: EtcdMember, prefixes: tuple[str, ...]) -> Iterator[tuple[int, Records]]:
    """All keys with those prefixes at every revision from the first one up to now."""
    end, seen = member.revision(), dict[str, tuple[Any, int]]()
    create = {"key": "AA==", "range_end": "AA==", "start_revision": 1}
    connection = http.client.HTTPConnection(member.ip, CLIENT_PORT, timeout=PATIENCE)
    connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
    response, revision = connection.getresponse(), 0
    try:
        while revision < end:
            for event in json.loads(response.readline())["result"].get("events", ()):
                kv = event["kv"]
                if revision and int(kv["mod_revision"]) != revision:
                    yield revision, dict(seen)
                revision = int(kv["mod_revision"])
                key = base64.b64decode(kv["key"]).decode()
                if event.get("type") == "DELETE":
                    seen.pop(key, None)
                elif key.startswith(prefixes):
                    value = base64.b64decode(kv.get("value", ""))
                    seen[key] = (json.loads(value or "null"), int(kv.get("lease", 0)))
        yield revision, dict(seen)
    finally:
        connection.close()


def records(member: EtcdMember, tag: str = "") -> Records:
    """The records as they stand, of one tag or of all."""
    *_, (_, last) = history(member, (f"{REDIS}/{tag}/" if tag else REDIS,))
    return last


def lead(process: Process) -> tuple[Lease, Gate]:
    """Take the lock, publish, and open the gate."""
    process.lock.open("a", ttl=30.0)
    lease = process.take("redis/master")
    gate = Gate("redis", lease.term)
    record = replace(lease.record, phase=Phase.LEADING)
    lease = process.registry.publish(lease, record, "redis", ADD, gate)
    process.registry.open_gate("redis", gate)
    return lease, gate


@pytest.fixture
def member(etcd_factory: Callable[..., EtcdCluster]) -> EtcdMember:
    (one,) = etcd_factory().members
    return one


@pytest.fixture
def make(member: EtcdMember, start: Callable[..., Process]) -> Callable[[str], Process]:
    """A process with records, whose instance passes and follows."""

    def made(node: str) -> Process:
        process = start(node, [member.address], skydns=SKYDNS)
        process.register("redis", tags=("slave",))
        return process

    return made


def test_a_record_is_what_coredns_reads(member: EtcdMember, make: Callable[..., Process]) -> None:
    make("n1")
    ((key, (message, lease)),) = records(member).items()
    assert key.startswith(f"{REDIS}/slave/n1-redis-")
    assert message == {"host": "127.0.0.1", "port": 6379, "ttl": 1, "text": "n1/redis"}
    assert lease


def test_the_leader_has_one_while_its_gate_is_open(
    member: EtcdMember, make: Callable[..., Process]
) -> None:
    process = make("n1")
    (follower,) = (lease for _, lease in records(member, "slave").values())
    lease, gate = lead(process)
    ((_, (_, bound)),) = records(member, "master").items()
    assert bound not in (0, follower, int(lease.session, 16)), "the heartbeat's"
    assert not records(member, "slave")

    process.registry.report("redis", Health.CRITICAL)
    assert not records(member)
    process.registry.report("redis", Health.PASSING)
    assert {one for _, one in records(member, "master").values()} == {bound}

    process.registry.close_gate("redis", gate)
    assert not records(member)
    process.registry.open_gate("redis", gate)
    # What ends the heartbeat, and so closes the gate, ends the record at the same revision.
    member.call("lease/revoke", {"ID": bound})
    states = list(history(member, (REDIS, "leadertag/beats/")))
    assert states[-1][1] == {}
    assert {key.split("/")[1] for key in states[-2][1]} == {"beats", "skydns"}

    process.registry.heartbeat()  # the gate opens again by itself
    ((_, (_, anew)),) = records(member, "master").items()
    assert anew != bound

    # Nor is there one that nothing would end: without a heartbeat it cannot come back.
    member.call("lease/revoke", {"ID": anew})
    process.registry.report("redis", Health.CRITICAL)
    with pytest.raises(LeaseLost):
        process.registry.report("redis", Health.PASSING)
    assert not records(member)
    process.registry.heartbeat()
    process.registry.report("redis", Health.PASSING)
    ((_, (_, last)),) = records(member, "master").items()
    assert last not in (0, anew)
    process.registry.deregister("redis")
    assert not records(member)


def test_a_follower_goes_with_its_own_lease(
    member: EtcdMember, make: Callable[..., Process]
) -> None:
    process = make("n1")
    lead(process)
    process.registry.tag("redis", TagChange(add=("slave",), remove=("master",)), timeout=2.0)
    process.registry.remove_gates("redis")
    ((key, (_, lease)),) = records(member).items()
    assert "/slave/" in key
    member.call("lease/revoke", {"ID": lease})
    assert not records(member)
    assert not process.registry.members("redis"), "the instance is gone at the same time"


def test_a_successor_takes_the_record_away(
    member: EtcdMember, make: Callable[..., Process]
) -> None:
    old, new = make("n1"), make("n2")
    lead(old)
    old.lock.end()  # its lock is lost, and it does not know yet
    lead(new)
    assert [key.split("/")[-1][:2] for key in records(member, "master")] == ["n2"]
    states = [state for _, state in history(member, (f"{REDIS}/master/",))]
    assert max(map(len, states)) == 1
    old.registry.heartbeat()
    assert len(records(member, "master")) == 1
    new.registry.shut_out(new.registry.local("redis"), new.take("another/lock"))
    assert not records(member, "master")


def test_without_the_setting_there_are_none(
    member: EtcdMember, start: Callable[..., Process]
) -> None:
    process = start("n1", [member.address])
    process.register("redis", tags=("slave",))
    lead(process)
    assert not records(member)


def test_names_that_are_no_dns_labels(member: EtcdMember, start: Callable[..., Process]) -> None:
    process = start("Node 1/ü", [member.address], skydns={**SKYDNS, "prefix": "/dns", "ttl": "5s"})
    process.register("redis", tags=("slave", "no label", "../up", "UP", "a_b"))
    process.register("no service", tags=("slave",))
    *_, (_, found) = history(member, ("/dns", "/skydns"))
    assert sorted(key.rpartition("/")[0] for key in found) == [
        "/dns/local/leadertag/redis/a_b", "/dns/local/leadertag/redis/slave",
    ]  # fmt: skip
    assert all(message["ttl"] == 5 for message, _ in found.values())
    assert all(key.rpartition("/")[2].startswith("node-1-redis-") for key in found)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "zone is missing"),
        ({"zone": "a b"}, "is no domain"),
        ({"zone": "x", "prefix": "skydns"}, "must begin with a slash"),
        ({"zone": "x", "ttl": "500ms"}, "whole seconds"),
        ({"zone": "x", "zones": "y"}, "zones"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        settings_module.read(Table({"skydns": wrong}, "backends.etcd"), {})
    assert str(caught.value).startswith("backends.etcd.skydns: ")


def test_daemons_never_show_two_leaders(tmp_path: Path) -> None:
    """Killed services and processes; and every role has records when all is well."""
    need("etcd", "redis-server")
    pytest.importorskip("redis")
    cluster = EtcdCluster(tmp_path / "etcd", 3)
    with cluster, Site(cluster, tmp_path / "site", 3.0, skydns=SKYDNS) as site:
        first = site.wait_settled()
        site.kill_redis(first)
        second = site.wait_for_leader(but=first)
        first.start_redis()
        site.wait_settled()
        struck = now()
        site.kill_daemon_and_guardian(second)
        third = site.wait_for_leader(but=second)
        assert site.verdict().broken == []
        assert site.acts_since(struck)
        member = cluster.members[0]
        seen = records(member, "master")
        assert [key.rpartition("/")[2].partition("-")[0] for key in seen] == [third.name]
        shown = [state for _, state in history(member, (f"{REDIS}/master/",))]
        assert max(map(len, shown)) == 1
        leaders = {key.rpartition("/")[2].partition("-")[0] for state in shown for key in state}
        assert leaders == {first.name, second.name, third.name}
