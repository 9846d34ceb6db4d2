"""The Consul guide on a real Consul: rights, check definitions, unit, and rolling back."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leadertag.cli import check
from leadertag.cli.parsing import Parser, add_global_options
from leadertag.cli.predecessor import as_check, read_flags
from leadertag.hookspecs import HookEvent
from tests.docs.pages import ROOT, Block, blocks, marked
from tests.docs.samples import etc
from tests.tools.processes import ServerProcess, wait_until
from tests.tools.servers import require

if TYPE_CHECKING:
    from tests.tools.consul import ConsulAgent, ConsulCluster

PAGE = "docs/consul.md"
CONFIG = """
backend = "consul"
state_dir = "{folder}/state"
[backends.consul]
address = "{address}"
token_file = "{folder}/token"
[elections.redis]
service = "redis"
query = "sensu-redis-master"
tags = ["sensu"]
{compat}
"""
COMPAT = 'compat = "consul-master-election-tagger"'


def daemon(
    agent: ConsulAgent, folder: Path, *, token: str = "", compat: bool = False
) -> ServerProcess:
    """`leadertag run` beside that agent, not started."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(token)
    config = folder / "leadertag.toml"
    config.write_text(CONFIG.format(
        folder=folder, address=agent.address, compat=COMPAT if compat else ""
    ))  # fmt: skip
    argv = [sys.executable, "-m", "leadertag", "--config", str(config), "run"]
    return ServerProcess(argv, folder / "run.log", name=f"leadertag on {agent.node}")


@contextmanager
def running(process: ServerProcess) -> Iterator[ServerProcess]:
    """Ends it, with a failed test's log."""
    with process:
        try:
            yield process
        except AssertionError as error:
            raise AssertionError(f"{error}\n{process.log_tail()}") from error


def register(agent: ConsulAgent) -> None:
    own = {"CheckID": "own", "Name": "own", "TTL": "1h", "Status": "passing"}
    agent.register_service({"Name": "redis", "Port": 6379, "Tags": ["sensu"], "Checks": [own]})


def leads(cluster: ConsulCluster, node: str) -> bool:
    """Whether the query answers with that node."""
    try:
        found = cluster.server.get("/v1/query/sensu-redis-master/execute")
    except OSError:  # there is no such query yet
        return False
    return [entry["Node"]["Node"] for entry in found["Nodes"]] == [node]


# -- rights ------------------------------------------------------------------------------


@pytest.mark.parametrize("compat", [False, True], ids=["alone", "beside the predecessor"])
def test_the_policy_suffices(
    compat: bool, make_cluster: Callable[..., ConsulCluster], tmp_path: Path
) -> None:
    cluster = make_cluster(1, acl=True)
    agent = cluster.agent("n1")
    register(agent)
    rules = (ROOT / "examples/policy.hcl").read_text()
    if compat:
        rules += marked(PAGE, "acl: compat").text
    token = cluster.create_token(rules)
    with running(daemon(agent, tmp_path / "d", token=token, compat=compat)) as process:
        wait_until(lambda: leads(cluster, "n1"), 30, "n1 leads")
        [entry] = cluster.health("redis")
        assert entry["Service"]["Tags"] == ["sensu", "master"]
        process.signal(signal.SIGINT)  # gives up, whatever on_stop says
        wait_until(lambda: not process.running, 30, "the daemon ends")
        assert process.exit_status == 0
        assert "denied" not in process.log_tail().lower()
    [entry] = cluster.health("redis")
    assert entry["Service"]["Tags"] == ["sensu"]


@pytest.mark.parametrize("right", ["key_prefix", "session", 'service "redis"', "query"])
def test_the_policy_is_not_wider_than_needed(
    right: str, make_cluster: Callable[..., ConsulCluster], tmp_path: Path
) -> None:
    """Without any one of its rules leadertag is refused, and says so."""
    cluster = make_cluster(1, acl=True)
    agent = cluster.agent("n1")
    register(agent)
    head, rule, tail = (ROOT / "examples/policy.hcl").read_text().partition(f"\n{right}")
    assert rule
    token = cluster.create_token(head + "\n" + tail.partition("}\n")[2])
    with running(daemon(agent, tmp_path / "d", token=token)) as process:
        wait_until(lambda: _complains(process), 30, f"it misses {right}")


def _complains(process: ServerProcess) -> bool:
    log = process.log_tail().lower()
    return any(word in log for word in ("denied", "token lacks", "token needs", "right"))


# -- check definitions -------------------------------------------------------------------------


def validate(folder: Path) -> None:
    """`consul validate`, which reads a folder of JSON and HCL."""
    argv = [str(require("consul")), "validate", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["json", "hcl"])
@pytest.mark.usefixtures("consul_servers")
def test_the_check_definition_is_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"agent.{kind}").write_text(marked(PAGE, f"file: examples/check.{kind}").text)
    (tmp_path / "data.json").write_text(json.dumps({"data_dir": str(tmp_path)}))
    validate(tmp_path)


def words_of(kind: str) -> list[str]:
    """The words of the check's command."""
    text = (ROOT / f"examples/check.{kind}").read_text()
    if kind == "json":
        return list(json.loads(text)["check"]["args"])
    inside = text.partition("args = [")[2].partition("]")[0]
    return shlex.split(inside.replace(",", " "))


@pytest.mark.parametrize("kind", ["json", "hcl"])
def test_the_checks_command_line_parses(kind: str) -> None:
    words = words_of(kind)
    assert words == words_of("json")
    assert words[:2] == ["/usr/local/bin/leadertag", "check"]
    parser = Parser("leadertag check")
    check.add_arguments(parser)
    add_global_options(parser)
    args = parser.parse_args(words[2:])
    definition = json.loads((ROOT / "examples/check.json").read_text())["check"]
    assert args.check_ids == [definition["id"]]
    assert f"{args.interval:g}s" == definition["interval"]
    assert (args.service, args.query, args.tags) == ("redis", "sensu-redis-master", ["sensu"])


def test_the_check_runs_in_an_agent(
    make_cluster: Callable[..., ConsulCluster], tmp_path: Path
) -> None:
    cluster = make_cluster(1, script_checks=True)
    agent = cluster.agent("n1")
    definition = json.loads((ROOT / "examples/check.json").read_text())
    own = definition["check"]
    own["interval"] = "1s"
    own["args"][0:1] = [sys.executable, "-m", "leadertag"]
    environment = [f"CONSUL_HTTP_ADDR={agent.address}", f"HOME={tmp_path}", "LEADERTAG_CONFIG="]
    state = ["--state-dir", str(tmp_path / "state")]
    own["args"] = ["/usr/bin/env", *environment, *own["args"], *state]
    register(agent)
    wait_until(lambda: cluster.health("redis"), 10, "the catalog shows the service")
    agent._write("check.json", {"checks": [own]})
    agent.reload()

    def output() -> str:
        found = [check for entry in cluster.health("redis") for check in entry["Checks"]]
        return "".join(check["Output"] for check in found if check["CheckID"] == "redis-leader")

    try:
        wait_until(lambda: "leads" in output(), 60, "the check elects")
    except AssertionError as error:
        raise AssertionError(f"{error}: {output()!r}") from None
    assert output().startswith("leadertag: n1/redis leads")
    assert leads(cluster, "n1")
    [entry] = cluster.health("redis")
    assert entry["Service"]["Tags"] == ["sensu", "master"]


def test_the_predecessors_command_line_parses() -> None:
    words = shlex.split(marked("docs/migration.md", "flags: predecessor").text)
    assert words[0] == "consul-master-election-tagger"
    args: Any = as_check(list(read_flags(words[1:])))
    assert (args.service, args.query, args.tags) == ("redis", "sensu-redis-master", ["sensu"])


# -- the unit -----------------------------------------------------------------------------------


def test_the_unit_is_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    folder = etc(tmp_path)
    program = tmp_path / "leadertag"
    program.symlink_to(sys.executable)
    text = (ROOT / "examples/leadertag.service").read_text()
    text = text.replace("/usr/local/bin/leadertag", str(program))
    text = text.replace("User=leadertag", "User=root")  # the user is not there in a test
    text = text.replace("/etc/leadertag", str(folder))
    unit = tmp_path / "leadertag.service"
    unit.write_text(text)
    env = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    argv = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    about_it = [line for line in done.stderr.splitlines() if "leadertag" in line]
    assert not about_it
    assert done.returncode == 0, done.stderr


def test_the_units_time_to_stop_is_enough() -> None:
    """The daemon's own limit for a stop: the hooks' limits and a grace."""
    from leadertag.config.hooks import TIMEOUTS
    from leadertag.scheduler.loop import STOP_GRACE

    text = (ROOT / "examples/leadertag.service").read_text()
    seconds = float(text.partition("TimeoutStopSec=")[2].partition("s")[0])
    limits = {**TIMEOUTS, HookEvent.PROMOTE: 5.0}  # as in examples/leadertag.toml
    assert seconds >= sum(limits.values()) + STOP_GRACE


# -- rolling back --------------------------------------------------------------------------------


def shell(block: Block, agent: ConsulAgent) -> None:
    """Run a block of the page against that agent."""
    tools = require("consul").parent
    env = {**os.environ, "CONSUL_HTTP_ADDR": agent.address, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", block.text],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_rolling_back_leaves_nothing(
    make_cluster: Callable[..., ConsulCluster], tmp_path: Path
) -> None:
    for tool in ("curl", "jq"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    cluster = make_cluster(1)
    agent = cluster.agent("n1")
    register(agent)
    before = agent.get("/v1/agent/service/redis")
    (tmp_path / "d").mkdir()
    with running(daemon(agent, tmp_path / "d")) as process:
        wait_until(lambda: leads(cluster, "n1"), 30, "n1 leads")
        guardians = _guardians(process.pid)
        assert len(guardians) == 1
        os.kill(guardians[0], signal.SIGKILL)  # both at once: nobody is left to tidy up
        process.kill()
    [entry] = cluster.health("redis")
    assert any(c["CheckID"].startswith("leadertag:") for c in entry["Checks"])
    assert cluster.sessions()
    for mark in ("run: rollback-cluster", "run: rollback-node"):
        shell(marked("docs/migration.md", mark), agent)
    assert cluster.sessions() == []
    assert list(agent.get("/v1/agent/services")) == ["redis"]
    assert list(agent.get("/v1/agent/checks")) == ["own"]
    with pytest.raises(OSError, match="404"):
        agent.get("/v1/kv/leadertag/", {"keys": ""})
    # The tag is the predecessor's to read: it finds its master.
    after = agent.get("/v1/agent/service/redis")
    assert after["Tags"] == ["sensu", "master"]
    assert {k: v for k, v in after.items() if k not in ("Tags", "ContentHash")} == {
        k: v for k, v in before.items() if k not in ("Tags", "ContentHash")
    }


def _guardians(daemon: int) -> list[int]:
    """The guardian processes that this daemon has started."""
    found = []
    for child in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split():
        line = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"leadertag.daemon.guardian" in line:
            found.append(int(child))
    return found


def test_every_policy_in_the_pages_is_one(
    make_cluster: Callable[..., ConsulCluster],
) -> None:
    rules = [b for b in blocks("hcl") if "policy = " in b.text]
    assert rules
    cluster = make_cluster(0, acl=True)
    for block in rules:
        cluster.create_token(block.text)
