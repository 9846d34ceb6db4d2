"""The tooling itself: if it lies about a server, every test above it does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests import conftest
from tests.tools import servers
from tests.tools.addresses import AddressesExhausted, lease_address, lease_port
from tests.tools.consul import ConsulCluster
from tests.tools.etcd import EtcdCluster
from tests.tools.httpjson import HttpError
from tests.tools.processes import ServerFailed, ServerProcess, wait_until
from tests.tools.recorder import Observation
from tests.tools.redis import RedisServer

MakeCluster = Callable[..., ConsulCluster]

# -- Consul -------------------------------------------------------------------------


def test_cluster_has_a_leader_and_all_agents(consul_servers: ConsulCluster) -> None:
    server = consul_servers.server
    assert server.get("/v1/status/leader") == f"{server.ip}:8300"
    nodes = {entry["Node"] for entry in server.get("/v1/catalog/nodes")}
    assert nodes == {"server", "n1", "n2", "n3"}
    ips = {agent.ip for agent in (server, *consul_servers.agents)}
    assert len(ips) == 4


def test_dns_answers_for_a_registered_service(
    consul_servers: ConsulCluster, unique_name: str
) -> None:
    n1, n2, n3 = consul_servers.agents
    n1.register_service({"Name": unique_name, "ID": unique_name, "Tags": ["a"], "Port": 6379})
    n2.register_service({"Name": unique_name, "ID": unique_name, "Tags": ["b"], "Port": 6380})
    name = f"{unique_name}.service.consul"
    wait_until(lambda: len(n3.dns(name)) == 2, 5, "both instances in DNS")
    assert {record.value for record in n3.dns(name)} == {n1.ip, n2.ip}
    answer = n3.dns(f"b.{name}", "SRV")
    assert [(r.value, r.port) for r in answer] == [("n2.node.dc1.consul", 6380)]
    assert [record.value for record in n3.dns(answer[0].value)] == [n2.ip]
    assert n3.dns(f"none.{name}") == []


def test_raft_index_counts_writes_and_nothing_else(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(agents=1)
    before = cluster.raft_index()
    for _ in range(3):
        cluster.agents[0].api("PUT", "/v1/kv/counted", b"x")
    assert cluster.raft_index() - before == 3
    time.sleep(2)  # idleness is the matter here: there is no event to await
    assert cluster.raft_index() - before == 3


def test_sessions_are_listed(consul_servers: ConsulCluster, unique_name: str) -> None:
    n1 = consul_servers.agents[0]
    session = n1.api("PUT", "/v1/session/create", {"Name": unique_name})[0]["ID"]
    assert session in {entry["ID"] for entry in consul_servers.sessions()}
    n1.api("PUT", f"/v1/session/destroy/{session}")
    assert session not in {entry["ID"] for entry in consul_servers.sessions()}


def test_recorder_sees_every_step(consul_servers: ConsulCluster, unique_name: str) -> None:
    n1, n2, _ = consul_servers.agents
    body = {"Name": unique_name, "ID": "i", "Port": 1}
    with consul_servers.recorder(unique_name) as recorder:
        assert recorder.last.instances == ()
        for agent, tags in ((n1, ["master"]), (n2, []), (n2, ["master"]), (n1, [])):
            agent.register_service({**body, "Tags": tags})
            recorder.wait_for(_shows(agent.node, tags), 5, f"{agent.node} carries {tags}")
    found = [(c.node, c.what) for c in recorder.timeline() if c.what.startswith("tag")]
    assert found == [("n1", "tag +master"), ("n2", "tag +master"), ("n1", "tag -master")]
    assert [len(carriers) for _, carriers in recorder.passing_with_tag("master")] == [0, 1, 1, 2, 1]
    with pytest.raises(AssertionError, match="several passing with 'master'"):
        recorder.assert_at_most_one("master")
    recorder.assert_at_most_one("other")
    indexes = [seen.index for seen in recorder.observations]
    assert indexes == sorted(set(indexes))


def _shows(node: str, tags: list[str]) -> Callable[[Observation], bool]:
    return lambda seen: any(i.node == node and list(i.tags) == tags for i in seen.instances)


def test_recorder_goes_on_after_a_server_restart(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(agents=1)
    n1 = cluster.agents[0]
    with cluster.recorder("svc") as recorder:
        cluster.server.kill()
        wait_until(lambda: recorder.errors, 5, "the recorder notices")
        cluster.server.start()
        cluster.server.wait_ready()
        n1.register_service({"Name": "svc", "ID": "svc"})
        recorder.wait_for(_shows("n1", []), 10, "the registration")


def test_services_from_files_follow_a_reload(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(agents=1, services={"n1": [{"name": "svc", "tags": ["one"]}]})
    n1 = cluster.agents[0]
    assert n1.get("/v1/agent/service/svc")["Tags"] == ["one"]
    n1.write_services([{"name": "svc", "tags": ["two"]}])
    n1.reload()
    assert n1.get("/v1/agent/service/svc")["Tags"] == ["two"]
    n1.restart()
    assert n1.get("/v1/agent/service/svc")["Tags"] == ["two"]


def test_script_checks_run_from_files_only(make_cluster: MakeCluster) -> None:
    check = {"args": ["/bin/sh", "-c", "exit 1"], "interval": "1s", "id": "c"}
    services = {"n1": [{"name": "svc", "check": {**check, "status": "passing"}}]}
    cluster = make_cluster(agents=1, script_checks=True, services=services)
    with cluster.recorder("svc") as recorder:
        recorder.wait_for(
            lambda seen: any(("c", "warning") in i.checks for i in seen.instances), 5, "a warning"
        )
    with pytest.raises(HttpError) as refused:
        cluster.agents[0].register_service({"Name": "other", "Check": {**check, "Args": ["true"]}})
    assert refused.value.status >= 400


def test_paused_agent_fails_and_comes_back(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(agents=2)
    n1 = cluster.agents[0]
    n1.register_service({"Name": "svc", "ID": "svc"})
    with cluster.recorder("svc") as recorder:
        recorder.wait_for(lambda seen: seen.instances, 5, "the registration")
        n1.pause()
        recorder.wait_for(lambda seen: not seen.instances[0].passing, 15, "serfHealth critical")
        n1.resume()
        recorder.wait_for(lambda seen: seen.instances[0].passing, 15, "serfHealth passing")


def test_acl_denies_by_default(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(agents=1, acl=True)
    n1 = cluster.agents[0]
    with pytest.raises(HttpError) as denied:
        n1.api("PUT", "/v1/kv/x", b"1", token="anonymous")
    assert denied.value.status == 403
    assert n1.api("PUT", "/v1/kv/x", b"1")[0] is True
    token = cluster.create_token('key_prefix "mine/" { policy = "write" }')
    assert n1.api("PUT", "/v1/kv/mine/x", b"1", token=token)[0] is True
    with pytest.raises(HttpError):
        n1.api("PUT", "/v1/kv/x", b"1", token=token)


# -- Redis and etcd -------------------------------------------------------------------


def test_redis_replicates(redis_factory: Callable[..., RedisServer]) -> None:
    first, second = redis_factory(), redis_factory()
    assert (first.role(), second.role()) == ("master", "master")
    second.replicate(first)
    assert second.role() == "slave"
    assert first.info()["connected_slaves"] == 1
    first.set("key", "value")
    wait_until(lambda: second.get("key") == "value", 5, "the value on the replica")
    with pytest.raises(redis.ReadOnlyError):
        second.set("key", "other")
    first.kill()
    wait_until(lambda: not second.master_link_up(), 5, "the replica notices")
    second.replicate(None)
    assert second.role() == "master"
    assert second.get("key") == "value"


def test_paused_redis_does_not_answer(redis_factory: Callable[..., RedisServer]) -> None:
    server = redis_factory(maxclients="50")
    server.pause()
    started = time.monotonic()
    assert not server.answers()
    assert time.monotonic() - started < 4
    server.resume()
    assert server.answers()


def test_etcd_answers(etcd_factory: Callable[..., EtcdCluster]) -> None:
    first, second, _ = etcd_factory(members=3).members
    before = first.raft_index()
    first.put("key", "value")
    assert second.get("key") == "value"
    assert second.get("none") is None
    assert first.raft_index() - before == 1


# -- addresses --------------------------------------------------------------------------


def test_leases_never_equal() -> None:
    leases = [lease_address() for _ in range(20)]
    ours = {lease.address for lease in leases}
    assert len(ours) == 20
    code = (
        "import sys\n"
        "from tests.tools.addresses import _Lock, lease_address\n"
        "print([_Lock.take(address) for address in sys.argv[1:]].count(None))\n"
        "print(*[lease_address().address for _ in range(100)])"
    )
    refused, *others = _python(code, *ours).split()
    assert refused == "20"
    assert not ours & set(others)
    for lease in leases:
        lease.close()
    assert _python(code, *ours).split()[0] == "0"


def test_an_occupied_port_spoils_the_address() -> None:
    with lease_address() as lease:
        ports = [lease.free_port() for _ in range(20)]
        assert len(set(ports)) == 20
    with lease_port() as one, lease_port() as two:
        assert one != two
        with socket.create_server(("", one)), pytest.raises(AddressesExhausted):
            lease_address((one,))


# -- processes --------------------------------------------------------------------------


def test_process_dies_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys, threading\n"
        "from tests.tools.processes import ServerProcess\n"
        "server = ServerProcess(['sleep', '600'], pathlib.Path(sys.argv[1]))\n"
        "thread = threading.Thread(target=server.start)\n"
        "thread.start(); thread.join()\n"
        "print(server.pid, server.running, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    pid, running = _python(code, str(tmp_path / "log"), status=-signal.SIGKILL).split()
    assert running == "True"
    wait_until(lambda: not _alive(int(pid)), 5, "the server dies too")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def test_process_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = ServerProcess(["sleep", "600"], tmp_path / "log")
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    server.pause()
    server.resume()
    assert server.running
    server.stop()
    assert server.exit_status == -signal.SIGTERM


def test_stop_ends_a_paused_and_a_stubborn_process(tmp_path: Path) -> None:
    paused = ServerProcess(["sleep", "600"], tmp_path / "log")
    paused.start()
    paused.pause()
    paused.stop()
    assert paused.exit_status == -signal.SIGTERM
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    stubborn = ServerProcess(["sh", "-c", script], tmp_path / "log2")
    stubborn.start()
    stubborn.wait_ready(lambda: "ready" in stubborn.log_tail())
    stubborn.stop(timeout=0.2)
    assert stubborn.exit_status == -signal.SIGKILL


def test_failure_shows_the_log(tmp_path: Path) -> None:
    server = ServerProcess(["sh", "-c", "echo no such luck; exit 3"], tmp_path / "log")
    server.start()
    with pytest.raises(ServerFailed, match=r"status 3(.|\n)*no such luck"):
        server.wait_ready(lambda: False)
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: pigs fly"):
        wait_until(lambda: False, 0.05, "pigs fly")


# -- finding the programs -----------------------------------------------------------------


def test_damaged_cache_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("LEADERTAG_TEST_CACHE", str(tmp_path))
    monkeypatch.setenv("LEADERTAG_TEST_OFFLINE", "1")
    assert servers.find("etcd") is None
    program = tmp_path / "etcd" / "bin" / "etcd"
    program.parent.mkdir(parents=True)
    program.write_text("whole")
    digest = servers._digest(program)
    (tmp_path / "etcd" / "manifest.json").write_text(json.dumps({"bin/etcd": digest}))
    program.write_text("half")
    assert servers.find("etcd") is None
    with pytest.raises(servers.ServerMissing, match=r"python -m tests\.tools\.servers etcd"):
        servers.require("etcd")
    program.write_text("whole")
    assert servers.find("etcd") == servers.require("etcd") == program


@pytest.mark.parametrize(
    ("value", "outcome"),
    [("true", pytest.fail.Exception), ("", pytest.skip.Exception), ("0", pytest.skip.Exception)],
)
def test_missing_server_fails_on_ci_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("LEADERTAG_TEST_CACHE", str(tmp_path))
    monkeypatch.setenv("LEADERTAG_TEST_OFFLINE", "1")
    monkeypatch.setenv("CI", value)
    with pytest.raises(outcome, match="consul not found"):
        conftest.need("consul")


def _python(code: str, *argv: str, status: int = 0) -> str:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout
