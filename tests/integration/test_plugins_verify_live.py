"""``leadertag plugins verify`` on live backends: what it leaves alone, and its plain harness."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.errors import BackendUnavailable
from leadertag.model import Phase, QueryDefinition, Record
from leadertag.providers import BackendContext
from leadertag.testing.contracts.harness import make_instance, snapshot_where, until
from leadertag.testing.verify.member import read_something
from leadertag.testing.verify.plain import PlainHarness
from leadertag_consul import ConsulLock, ConsulQuery, ConsulRegistry
from leadertag_etcd import EtcdLock, EtcdQuery, EtcdRegistry
from tests.integration.verifying import parts, verify, write_config
from tests.tools.consul import ConsulCluster
from tests.tools.etcd import EtcdCluster

PATIENCE = 20.0
Config = Callable[[Mapping[str, Any]], str]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Writes a configuration; its path."""
    return lambda backends: write_config(tmp_path, backends)


# -- what it leaves alone ---------------------------------------------------------------------


LIVE = Record("n1/redis", "redis", "n1", "10.0.0.1", 6379, Phase.ELECTED, lease=3.0)


class Live:
    """An election as it runs: a held lock, an instance, a query."""

    def __init__(self, context: BackendContext, classes: tuple[Any, Any, Any]) -> None:
        self.lock, self.registry, self.query = (kind.create(context) for kind in classes)
        self.lock.open("n1", ttl=30.0)
        self.lease = self.lock.acquire(self.lock.read("redis/q"), LIVE)
        self.query.ensure(QueryDefinition("q", "redis", ("master",)))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(1.0):
            self.lock.keep_alive()

    def seen(self) -> tuple[Any, ...]:
        """All that can be read of it."""
        found = self.lock.read("redis/q"), self.registry.members("redis"), self.query.list()
        assert self.lock.confirm([self.lease]) == {"redis/q"}
        return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.lock.release(self.lease, LIVE)
        self.query.remove("q")
        self.lock.end()
        for provider in (self.lock, self.registry, self.query):
            provider.close()


def test_an_etcd_with_an_election_in_it(
    etcd_factory: Callable[..., EtcdCluster], config: Config
) -> None:
    member = etcd_factory().members[0]
    settings = {"endpoints": [member.address], "report_life": "1h"}
    context = BackendContext(Table(settings, "test"), {})
    with closing(Live(context, (EtcdLock, EtcdRegistry, EtcdQuery))) as live:
        live.registry.register(make_instance("redis", "redis"))
        before, keys = live.seen(), _keys(member)
        path = config({"etcd": {"prefix": "leadertag"}})
        env = {"ETCDCTL_ENDPOINTS": member.address}
        done = verify("etcd", "--config", path, "--kind", "query", "--json", **env)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        assert parts(done.json, "query") == {"in general": (20, 0, 1)}
        assert parts(done.json, "lock") == {}
        assert done.json["left_behind"] == []
        assert live.seen() == before
        _gone(lambda: _keys(member) == keys, "instances and queries are taken back")


def _keys(member: Any) -> set[str]:
    found = member.call("kv/range", {"key": "AA==", "range_end": "AA==", "keys_only": True})
    return {base64.b64decode(one["key"]).decode() for one in found.get("kvs", ())}


def _gone(look: Callable[[], bool], what: str) -> None:
    until(look, PATIENCE, what)


def test_a_consul_with_an_election_in_it(consul_servers: ConsulCluster, config: Config) -> None:
    agent = consul_servers.agent("n1")
    agent.register_service({"Name": "redis", "Port": 6379, "Tags": ["sensu"]})
    settings = {"address": agent.address, "prefix": "verified"}
    context = BackendContext(Table(settings, "test"), {})
    with closing(Live(context, (ConsulLock, ConsulRegistry, ConsulQuery))) as live:
        _gone(lambda: bool(live.registry.members("redis")), "the service is in the catalog")
        before, services = live.seen(), agent.get("/v1/agent/services")
        keys = consul_servers.server.get("/v1/kv/", {"keys": ""})
        done = verify(
            "consul", "--config", config({"consul": settings}), "--json",
            "--kind", "registry", "--kind", "query",
        )  # fmt: skip
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        report = done.json
        assert parts(report, "registry")["gates"] == (0, 0, 9)
        assert parts(report, "query")["in general"] == (13, 0, 8)
        assert {one["happened"] for one in report["untried"]} == {
            "this needs a harness (a second node)",
            "this needs a harness (counting what is written)",
            "this needs a harness (registering an instance)",
            "the registry has registrations and health checks of its own",
        }
        assert live.seen() == before
        assert agent.get("/v1/agent/services") == services
        assert consul_servers.server.get("/v1/kv/", {"keys": ""}) == keys


# -- the harness itself -------------------------------------------------------------------------


def _plain(settings: Mapping[str, Any], environ: Mapping[str, str], kind: str) -> PlainHarness:
    classes = {
        "etcd": {"lock": EtcdLock, "registry": EtcdRegistry, "query": EtcdQuery},
        "consul": {"lock": ConsulLock, "registry": ConsulRegistry, "query": ConsulQuery},
    }
    context = BackendContext(Table(settings, f"test: backends.{kind}"), environ)
    return PlainHarness(context, classes[kind])  # type: ignore[arg-type]


@pytest.fixture(params=["consul", "etcd"])
def plain(request: pytest.FixtureRequest) -> Iterator[PlainHarness]:
    """The harness, told of the address by the backend's own variable."""
    if request.param == "etcd":
        member = request.getfixturevalue("etcd_factory")().members[0]
        made = _plain({}, {"ETCDCTL_ENDPOINTS": member.address}, "etcd")
    else:
        agent = request.getfixturevalue("consul_servers").agent("n1")
        made = _plain({}, {"CONSUL_HTTP_ADDR": agent.address.partition("//")[2]}, "consul")
    with closing(made):
        yield made


def test_one_member_is_cut_off_and_comes_back(plain: PlainHarness) -> None:
    a, b = plain.join("a"), plain.join("b")
    key = plain.unique("redis")
    watch = a.lock.watch([key])
    snapshot_where(watch, lambda views: not views[key].exists, PATIENCE, "the first snapshot")
    outage = plain.cut(a)
    assert outage is not None
    with outage:
        with pytest.raises(BackendUnavailable):
            a.lock.read(key)
        assert not b.lock.read(key).exists
    until(lambda: _answers(a, key), PATIENCE, "it answers again")
    watch.close()


def _answers(member: Any, key: str) -> bool:
    try:
        member.lock.read(key)
    except BackendUnavailable:
        return False
    return True


def test_what_cannot_be_reached_is_proven_first(plain: PlainHarness) -> None:
    for kind in plain.offered.values():
        provider = kind.create(plain.unreachable())
        with pytest.raises(BackendUnavailable):
            read_something(provider, "nobody")
        provider.close()


def test_a_setting_that_is_not_gone_by_is_not_trusted(
    etcd_factory: Callable[..., EtcdCluster],
) -> None:
    """Else the test of an unreachable backend would write into the live one."""
    address = etcd_factory().members[0].address

    class Stubborn(EtcdLock):
        @classmethod
        def create(cls, context: BackendContext) -> Any:
            settings = {**context.settings.plain(), "endpoints": [address]}
            context.settings.raw("endpoints", None)
            return super().create(BackendContext(Table(settings, "stubborn"), {}))

    context = BackendContext(Table({}, "test"), {})
    with closing(PlainHarness(context, {"lock": Stubborn})) as harness:
        assert harness.place.address_key == "endpoints"
        with pytest.raises(AssertionError, match="answers although its address was replaced"):
            harness.unreachable()
