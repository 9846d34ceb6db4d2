"""What is wrong is told in one line, with the documented exit code, and nothing is changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.e2e.site import Node, Site
from tests.tools.consul import ConsulCluster
from tests.tools.httpjson import HttpError
from tests.tools.leadertag import Finished, leadertag, predecessor_command

TOKEN = "5e3c7e7a-aaaa-bbbb-cccc-1234567890ab"
PASSWORD = "hunter2-is-secret"
CONFIG, BACKEND = 2, 1


def refused(
    node: Node, code: int, *fragments: str, words: list[str], env: dict[str, str] | None = None
) -> None:
    """Run it, once more with -v, and look at everything that must not happen."""
    env = {**node.env, "CONSUL_HTTP_TOKEN": TOKEN, **(env or {})}
    done = leadertag(*words, env=env)
    assert done.exit_code == code, done
    line = complaint(done)
    for fragment in fragments:
        assert fragment in line, line
    assert "Traceback" not in line
    loud = leadertag("-v", *words, env=env)
    assert loud.exit_code == code, loud
    for output in (done.output, loud.output):
        assert TOKEN not in output
        assert PASSWORD not in output


def complaint(done: Finished) -> str:
    """The one line of both streams."""
    lines = done.output.strip().splitlines()
    assert len(lines) == 1, done
    return lines[0]


def kept(site: Site) -> list[Any]:
    """What Consul keeps beside registrations: keys, queries, sessions."""
    server = site.cluster.server
    keys: list[dict[str, Any]] = []
    with suppress(HttpError):  # 404: there are none
        keys = server.get("/v1/kv/", {"recurse": ""})
    sessions = {session["ID"] for session in site.cluster.sessions()}
    return [{key["Key"]: key["ModifyIndex"] for key in keys}, server.get("/v1/query"), sessions]


@pytest.fixture
def unchanged(site: Site) -> Any:
    """The site, which has to be in the end as it was, down to the raft log."""
    registrations, tags = site.on_each(Node.registration), [node.tags for node in site.nodes]
    index, stored = site.cluster.raft_index(), kept(site)
    yield site
    assert site.cluster.wrote_nothing_since(index)
    assert kept(site) == stored
    assert site.on_each(Node.registration) == registrations
    assert [node.tags for node in site.nodes] == tags


# -- the configuration ----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("wrong", "fragments"),
    [
        ({"leese": "30s"}, ["elections.redis", "'leese'", "did you mean 'lease'"]),
        ({"tags": "sensu"}, ["elections.redis", "tags must be a list"]),
        ({"service": 7}, ["elections.redis", "service must be a string"]),
        ({"lease": "30 seconds"}, ["elections.redis", "lease", "'30 seconds' is no duration"]),
        ({"lease": 30}, ["elections.redis", "lease", "15s"]),
        ({"hooks": [{"use": "redsi"}]}, ["redsi", "did you mean 'redis'"]),
        ({"hooks": [{"use": "redis", "url": f"http://:{PASSWORD}@x"}]}, ["redis://"]),
        ({"compat": "consul-master"}, ["compat", "consul-master-election-tagger"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_election(
    unchanged: Site, verb: str, wrong: dict[str, Any], fragments: list[str]
) -> None:
    node = unchanged.nodes[0]
    election = unchanged.election(**{"lease": "30s", **wrong})
    config = str(node.write_config({"redis": election}))
    refused(node, CONFIG, config, *fragments, words=["--config", config, verb])


@pytest.mark.parametrize("verb", ["check", "run"])
def test_two_elections_of_one_name(unchanged: Site, verb: str) -> None:
    node = unchanged.nodes[0]
    path = node.write_config({"redis": unchanged.election(lease="30s")})
    path.write_text(path.read_text() + '["elections"."redis"]\nservice = "redis"\n')
    refused(node, CONFIG, str(path), "redis", words=["--config", str(path), verb])


@pytest.mark.parametrize("verb", ["check", "run"])
def test_an_unknown_backend(unchanged: Site, verb: str) -> None:
    node = unchanged.nodes[0]
    path = node.write_config({"redis": unchanged.election(lease="30s")})
    path.write_text(path.read_text().replace('backend = "consul"', 'backend = "consull"', 1))
    words = ["--config", str(path), verb]
    refused(node, CONFIG, "'consull'", "did you mean 'consul'", words=words)


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("kind", ["lock", "hooks"])
def test_a_broken_plugin(unchanged: Site, verb: str, kind: str) -> None:
    node = unchanged.nodes[0]
    plugins = node.folder / "plugins"
    make_plugin(plugins, kind)
    hooks = [{"use": "broken"}] if kind == "hooks" else []
    path = node.write_config({"redis": unchanged.election(lease="30s", hooks=hooks)})
    if kind == "lock":
        path.write_text('lock = "broken"\n' + path.read_text())
    words = ["--config", str(path), verb]
    env = {"PYTHONPATH": str(plugins)}
    refused(node, CONFIG, "broken", "brokenplugin 1.0", "out of order", words=words, env=env)


def make_plugin(folder: Path, kind: str) -> None:
    """A distribution that offers a plugin whose module cannot be imported."""
    info = folder / "brokenplugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brokenplugin\nVersion: 1.0\n")
    entry = f"[leadertag.{kind}]\nbroken = brokenplugin:Plugin\n"
    (info / "entry_points.txt").write_text(entry)
    (folder / "brokenplugin.py").write_text("raise RuntimeError('out of order')\n")


# -- the command line -------------------------------------------------------------------------


def test_wrong_options(unchanged: Site) -> None:
    node, service = unchanged.nodes[0], unchanged.service
    for words, fragments in (
        (["check", "--service", service, "--qery", "q"], ["--qery", "did you mean"]),
        (["check", "--service", service, "--interval", "soon"], ["--interval", "soon"]),
        (["check", "--service", service, "--lease", "3s"], ["lease", "interval"]),
        (["chekc"], ["chekc", "did you mean 'check'"]),
        (["--config", "/nowhere/at-all.toml", "run"], ["/nowhere/at-all.toml"]),
    ):
        refused(node, CONFIG, *fragments, words=words)
    done = predecessor_command("-consul-servce-name", service, env=node.env)
    assert done.exit_code == CONFIG, done
    assert "did you mean '-consul-service-name'" in complaint(done)


# -- what the registry says -----------------------------------------------------------------


def options(site: Site, *words: str) -> list[str]:
    return ["check", "--service", site.service, "--query", site.query, *words]


def test_a_missing_service(unchanged: Site) -> None:
    words = ["check", "--service", "no-such-service", "--query", unchanged.query]
    refused(unchanged.nodes[0], BACKEND, "'no-such-service'", "n1", words=words)


def test_an_ambiguous_service(site: Site) -> None:
    node = site.nodes[0]
    node.agent.register_service(node.definition(ID="another", Checks=[]))
    index = site.cluster.raft_index()
    refused(node, BACKEND, "another", site.service, "service_id", words=options(site))
    assert site.cluster.wrote_nothing_since(index)
    named = leadertag(*options(site, "--id", "another", "--timeout", "5s"), env=node.env)
    assert named.exit_code == 0, named


def test_a_foreign_value_in_the_lock_key(site: Site) -> None:
    key = f"/v1/kv/leadertag/locks/{site.service}/{site.query}"
    site.cluster.server.api("PUT", key, b"mine")
    index = site.cluster.raft_index()
    lock = f"{site.service}/{site.query}"
    refused(site.nodes[0], BACKEND, lock, "not leadertag's", words=options(site))
    assert site.cluster.wrote_nothing_since(index)
    assert site.cluster.server.api("GET", key, None, {"raw": ""})[0] == "mine"


def test_a_query_name_that_is_taken(site: Site) -> None:
    other = {"Name": site.query.upper(), "Service": {"Service": "somebody-elses"}}
    site.cluster.server.api("POST", "/v1/query", other)
    index = site.cluster.raft_index()
    refused(site.nodes[0], BACKEND, site.query.upper(), "'somebody-elses'", words=options(site))
    assert site.cluster.wrote_nothing_since(index)
    assert site.nodes[0].tags == ["sensu"]


# -- what Consul does -------------------------------------------------------------------------


def test_consul_unreachable(unchanged: Site) -> None:
    node = unchanged.nodes[0]
    address = f"http://{node.redis.ip}:1"
    env = {"CONSUL_HTTP_ADDR": address}
    refused(node, BACKEND, address, "refused", words=options(unchanged), env=env)


def test_consul_accepts_and_never_answers(unchanged: Site) -> None:
    node = unchanged.nodes[0]
    with socket.create_server((node.redis.ip, 0), backlog=64) as silent:
        address = f"http://{node.redis.ip}:{silent.getsockname()[1]}"
        env = {"CONSUL_HTTP_ADDR": address}
        refused(node, BACKEND, address, words=options(unchanged), env=env)


def test_no_rights_and_a_stopped_agent(
    make_cluster: Callable[..., ConsulCluster], folder: Path, unique_name: str
) -> None:
    """On a real agent with ACLs, which is then stopped in the middle."""
    cluster = make_cluster(agents=1, acl=True)
    (agent,) = cluster.agents
    agent.register_service({"Name": unique_name, "Port": 1})
    weak = cluster.create_token('node_prefix "" { policy = "read" }')
    state = {"CONSUL_HTTP_ADDR": agent.address, "LEADERTAG_STATE_DIR": str(folder / "state")}
    words = ["check", "--service", unique_name, "--query", f"q-{unique_name}"]
    index = cluster.raft_index()
    for token in (weak, "", "00000000-1111-2222-3333-444444444444"):
        for loud in ([], ["-v"]):
            done = leadertag(*loud, *words, env={**state, "CONSUL_HTTP_TOKEN": token})
            assert done.exit_code == BACKEND, done
            assert "denied" in done.output or "does not know the token" in done.output, done
            assert not token or token not in done.output
            if not loud:
                complaint(done)
    assert cluster.wrote_nothing_since(index)

    right = cluster.create_token(json.dumps(rules(unique_name)))
    env = {**state, "CONSUL_HTTP_TOKEN": right}
    elected = leadertag(*words, env=env)
    assert elected.exit_code == 0, elected  # the policy that the guide names is enough
    agent.pause()
    hung = leadertag(*words, env=env)
    assert hung.exit_code == BACKEND, hung
    assert agent.address in complaint(hung)
    assert right not in leadertag("-v", *words, env=env).output
    agent.resume()


def rules(service: str) -> dict[str, Any]:
    """The rights that one election on node n1 needs (JSON is HCL, too)."""
    write, read = {"policy": "write"}, {"policy": "read"}
    return {
        "key_prefix": {"leadertag/": write},
        "session": {"n1": write},
        "service": {service: write},
        "node_prefix": {"": read},
        "query": {f"q-{service}": write},
        "agent": {"n1": read},
    }
