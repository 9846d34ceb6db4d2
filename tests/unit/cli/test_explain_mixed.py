"""``explain`` says, for each combination of backends, what holds and by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leadertag.promises import Times
from tests.unit.cli.conftest import Cli, Result

CONFIG = """
lock = "{lock}"
registry = "{registry}"
[backends.local]
path = "{folder}/leadertag.db"
gate_life = "4s"
[elections.redis]
service = "redis"
query = "redis-leader"
lease = "6s"
[elections.redis.instance]
address = "10.0.0.1"
port = 6379
[[elections.redis.hooks]]
use = "command"
command = ["/bin/true"]
events = ["promote", "demote", "fence"]
timeout = {{ promote = "7s", demote = "2s", fence = "1s" }}
"""


@pytest.fixture
def explain(cli: Cli, config: Callable[[str], str], tmp_path: Path) -> Callable[..., Result]:
    def run(lock: str, registry: str, *words: str, more: str = "") -> Result:
        text = CONFIG.format(lock=lock, registry=registry, folder=tmp_path)
        text = text.replace("[elections.redis.instance]", f"{more}\n[elections.redis.instance]")
        return cli("explain", "--config", config(text), *words)

    return run


Explain = Callable[..., Result]


def said(result: Result) -> dict[str, dict[str, Any]]:
    """The promises by what they are about; the bounds' seconds under ``""``."""
    assert (result.code, result.err) == (0, "")
    (election,) = result.json["elections"]
    bounds = {bound["name"]: bound["seconds"] for bound in election["bounds"]}
    return {"": bounds, **{one["about"]: one for one in election["promises"]}}


def test_lock_etcd_registry_consul(explain: Explain) -> None:
    found = said(explain("etcd", "consul", "--json"))
    assert "hosts" not in found
    assert all(one["holds"] for about, one in found.items() if about)
    acts, resolves = found["one leader acts (I1)"], found["one leader resolves (I2)"]
    assert "by the lock in etcd" in acts["text"]
    assert "stopped acting after 5.4s" in acts["text"]  # 0.9 x lease
    assert resolves["text"].startswith("read back, not fenced: ")
    assert "the record is written in etcd and the tag in consul" in resolves["text"]
    assert "closed 5s after its last heartbeat" in resolves["text"]  # Consul's gate
    gate = found["a dead leader's gate"]["text"]
    assert "closes it in consul and releases the lock in etcd" in gate
    assert "etcd frees the lock within 13s" in gate  # 2 x lease, and etcd's own second
    assert found[""]["host lost"] > 13 + 6
    assert found[""]["dead leadertag stops being resolved"] == 5
    # 0.9 x 6s - 2s - 1s - slack 0.1s, and two confirmations' turns of 0.75s less
    assert "less than 800ms of it changes no role" in found["etcd is lost"]["text"]
    assert "gate and tag are taken off in consul" in found["etcd is lost"]["text"]
    registry = found["consul is lost"]["text"]
    # A lease, and two heartbeats' turns of an eighth of the gate's 5s less
    assert "less than 4.75s of it changes no role" in registry
    assert "demotes, done 9s after" in registry  # lease, demote and fence
    assert "takes over at once" in registry
    assert found["health"]["text"] == "consul checks the instances itself"
    assert "answered by consul, over DNS" in found["the query"]["text"]
    assert "beside the lock in etcd" in found["planned change"]["text"]


@pytest.mark.parametrize(
    ("lease", "gate_life", "outage"),
    [
        (3.0, 5.0, 1.75),  # two turns of the heart less than the lease
        (3.5, 1.0, 3.25),
        (3.5, 0.4, 3.3),  # a watch that fails is tried again after 0.1, 0.3, 0.8 ... 3.3 s
        (0.3, 5.0, 0.0),
    ],
)
def test_what_an_outage_of_the_registry_may_last(
    lease: float, gate_life: float, outage: float
) -> None:
    times = Times(lease, 0.0, 0.0, one_shot=False)
    assert times.registry_outage(gate_life) == pytest.approx(outage)


def test_lock_consul_registry_etcd(explain: Explain) -> None:
    found = said(explain("consul", "etcd", "--json"))
    assert "hosts" not in found
    assert "closed 3s after" in found["one leader resolves (I2)"]["text"]
    assert "consul frees the lock within 24s" in found["a dead leader's gate"]["text"]
    assert found["health"]["text"] == "leadertag checks its own instance and tells etcd"
    assert "not over DNS" in found["the query"]["text"]
    assert {"consul is lost", "etcd is lost"} <= set(found)


def test_a_lock_of_one_host_says_so_first(explain: Explain) -> None:
    result = explain("local", "consul", "--json")
    found = said(result)
    assert next(about for about in found if about) == "hosts"
    assert not found["hosts"]["holds"]
    assert "one host only: the lock in local is this host's alone" in found["hosts"]["text"]
    assert "while consul shows an instance of the service on another host" in found["hosts"]["text"]
    lines = explain("local", "consul").out.splitlines()
    assert any(line.startswith("  - hosts: LIMITED: one host only") for line in lines)


def test_registries_that_know_one_host_each(explain: Explain) -> None:
    found = said(explain("etcd", "local", "--json"))
    assert not found["hosts"]["holds"]
    assert "each host's local knows its own instances alone" in found["hosts"]["text"]
    assert not found["the query"]["holds"]
    assert "by local on the leader's host alone" in found["the query"]["text"]
    assert "closed 4s after" in found["one leader resolves (I2)"]["text"]


@pytest.mark.parametrize("backend", ["etcd", "local"])
def test_one_backend_that_fences(explain: Explain, backend: str) -> None:
    found = said(explain(backend, backend, "--json"))
    told = found["one leader resolves (I2)"]["text"]
    assert told.startswith(f"fenced: one transaction of {backend} proves the lock")
    assert not {"hosts", "planned change"} & set(found)
    assert f"{backend} is lost" in found
    assert "and tag are taken off" not in found[f"{backend} is lost"]["text"]


def test_one_backend_that_does_not(explain: Explain) -> None:
    told = said(explain("consul", "consul", "--json"))["one leader resolves (I2)"]["text"]
    assert told.startswith("read back, not fenced")
    assert "no transaction spans the two" not in told


def test_in_text_where_it_is_not_plain_or_is_asked_for(explain: Explain) -> None:
    heading = "  what holds, and by what:"
    assert heading in explain("etcd", "consul").out.splitlines()
    assert heading not in explain("consul", "consul").out.splitlines()
    assert heading in explain("consul", "consul", "--promises").out.splitlines()


def test_hold(explain: Explain) -> None:
    found = said(explain("etcd", "consul", "--json", more='on_backend_loss = "hold"'))
    assert not found["one leader acts (I1)"]["holds"]
    assert 'suspended without contact (on_backend_loss = "hold")' in str(found)
    for about in ("etcd is lost", "consul is lost"):
        assert "keeps its role behind a closed gate" in found[about]["text"]
        assert not found[about]["holds"]


def test_one_shot(explain: Explain) -> None:
    found = said(explain("etcd", "consul", "--json", "--interval", "1s"))
    assert not found["one leader acts (I1)"]["holds"]
    assert "there is none" in found["a dead leader's gate"]["text"]
    assert "keeps its tag" in found["one leader resolves (I2)"]["text"]
    assert "gate that opens" not in found["one leader resolves (I2)"]["text"]


def test_without_a_query(cli: Cli, config: Callable[[str], str], tmp_path: Path) -> None:
    text = CONFIG.format(lock="etcd", registry="consul", folder=tmp_path)
    text = text.replace('query = "redis-leader"\n', "")
    found = said(cli("explain", "--config", config(text), "--json"))
    assert found["the query"]["text"] == "none is configured"


def test_a_query_that_could_never_answer_is_refused(explain: Explain) -> None:
    result = explain("consul", "etcd", "--query-backend", "consul")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "set query = 'etcd'" in result.err
