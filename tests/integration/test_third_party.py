"""A backend from a distribution of its own, as an outsider would make and use it.

`examples/leadertag-zookeeper` and leadertag are built as wheels and installed into a virtual
environment outside of the checkout; nothing here runs from the checkout but the servers.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need, on_ci
from tests.tools.addresses import lease_address
from tests.tools.leadertag import COMMAND, Daemon, Finished, run_program, to_toml
from tests.tools.processes import ServerProcess, wait_until
from tests.tools.zookeeper import LONGEST_SESSION, TICK, ZooKeeperEnsemble

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = ("leadertag", "plugins", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PLUGIN = "examples/leadertag-zookeeper"
PATIENCE = 60.0
"""Seconds for anything that is waited for: a bound for hanging tests, not a measurement."""
IDLE = 5.0
"""Seconds in which nothing may be written."""
MOST_CONNECTIONS = 4
"""Of one process: requests, locks, instances, heartbeat."""
PORT = 6379
SERVICE = "import socket, sys, time; s = socket.create_server((sys.argv[1], 6379)); time.sleep(1e6)"


# -- the environment ---------------------------------------------------------------------


@dataclass(frozen=True)
class Outside:
    """A virtual environment with both wheels, and a copy of the plugin's own tests."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def leadertag(self) -> Path:
        return self.folder / "venv" / "bin" / "leadertag"

    def run(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> Finished:
        """Runs a program to its end, with nothing of the checkout on its path."""
        return run_program([str(word) for word in argv], {**ALONE, **(env or {})}, timeout)

    def pip(self, *words: str | Path) -> None:
        """`pip WORDS`, which has to succeed."""
        done = self.run(self.python, "-m", "pip", *words)
        assert done.exit_code == 0, done.output


ALONE = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """Made once for all test processes of this run: the first one does it."""
    need("zkServer.sh")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = Outside(shared / "third-party")
    with open(shared / "third-party.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = made.folder / "done"
        if not told.exists():
            shutil.rmtree(made.folder, ignore_errors=True)
            told.parent.mkdir()
            told.write_text(_why_not(made.folder) or _install(made) or "")
        missing = told.read_text()
    if missing and on_ci():
        pytest.fail(missing, pytrace=False)
    if missing:
        pytest.skip(missing)
    return made


def _why_not(folder: Path) -> str:
    """Why pip cannot reach a package registry; "" when it can."""
    argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "kazoo"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 0:
        return ""
    return f"pip reaches no package registry: {(done.stderr.strip().splitlines() or ['?'])[-1]}"


def _install(outside: Outside) -> None:
    """Builds both wheels from copies, so that the checkout stays clean, and installs them."""
    sources, wheels = outside.folder / "sources", outside.folder / "wheels"
    sources.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, sources / name, ignore=unwanted)
        else:
            shutil.copy(CHECKOUT / name, sources / name)
    plugin = outside.folder / "plugin"
    shutil.copytree(CHECKOUT / PLUGIN, plugin, ignore=unwanted)
    venv.create(outside.folder / "venv", with_pip=True)
    for source in (sources, plugin):
        outside.pip("wheel", "-q", "--no-deps", "-w", wheels, source)
    outside.pip("install", "-q", *sorted(wheels.glob("*.whl")), "pytest", "pytest-xdist")


@pytest.fixture(scope="module")
def ensemble(
    outside: Outside, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ZooKeeperEnsemble]:
    """Three servers, of which a test may end one."""
    with ZooKeeperEnsemble(tmp_path_factory.mktemp("ensemble"), 3) as servers:
        yield servers


# -- the distribution -----------------------------------------------------------------------


def test_it_is_found_where_it_is_installed(outside: Outside) -> None:
    where = "import leadertag, leadertag_zookeeper as z; print(leadertag.__file__, z.__file__)"
    for path in outside.run(outside.python, "-c", where).stdout.split():
        assert Path(path).is_relative_to(outside.folder / "venv")
    done = outside.run(outside.leadertag, "plugins", "--json")
    found = {one["kind"]: one for one in done.json if one["name"] == "zookeeper"}
    assert sorted(found) == ["lock", "query", "registry"]
    for kind, one in sorted(found.items()):
        assert one["error"] == ""
        assert one["distribution"].startswith("leadertag-zookeeper ")
        assert one["target"] == f"leadertag_zookeeper:ZooKeeper{kind.capitalize()}"
    assert found["registry"]["characteristics"] == ["cross-host", "fenced-tags", "native-watch"]
    assert found["lock"]["characteristics"] == [
        "cross-host", "native-watch", "server-side-expiry",
    ]  # fmt: skip


@pytest.mark.timeout(600)
def test_it_keeps_the_contracts(outside: Outside, tmp_path: Path) -> None:
    """The plugin's own tests, leadertag's contracts among them; none may be skipped."""
    with ZooKeeperEnsemble(tmp_path / "zookeeper") as servers:
        done = outside.run(
            outside.python, "-m", "pytest", "-q", "-n", "4", "-p", "no:cacheprovider",
            "-c", outside.folder / "plugin" / "pyproject.toml", outside.folder / "plugin" / "tests",
            env={"ZOOKEEPER_TEST_HOST": servers.addresses[0], "ZOOKEEPER_TEST_TICK": str(TICK)},
            timeout=580,
        )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1]
    assert done.exit_code == 0, done.output[-20000:]
    counts = {what: int(number) for number, what in re.findall(r"(\d+) ([a-z]+)", last)}
    assert set(counts) <= {"passed", "warning", "warnings", "in"}, last
    assert counts["passed"] > 150, "the contracts are among them"


def test_without_it_one_line_tells_what_is_missing(outside: Outside, tmp_path: Path) -> None:
    copy = Outside(tmp_path)
    shutil.copytree(outside.folder / "venv", tmp_path / "venv", symlinks=True)
    config = tmp_path / "leadertag.toml"
    config.write_text(to_toml(_settings("n1", ["127.0.0.1:1"], "127.0.0.1", tmp_path)))
    status = (copy.python, "-m", "leadertag", "--config", config, "status")
    before = copy.run(*status)
    assert before.error_line == "leadertag: zookeeper at 127.0.0.1:1: no connection"

    copy.pip("uninstall", "-q", "-y", "leadertag-zookeeper")
    after = copy.run(*status)
    assert after.exit_code not in (0, before.exit_code)
    assert after.stdout == ""
    assert after.error_line == (
        "leadertag: the lock provider 'zookeeper' is not installed (installed: consul, etcd, "
        "local; a plugin offers it under the entry-point group leadertag.lock)"
    )
    listed = copy.run(copy.python, "-m", "leadertag", "plugins", "--json").json
    assert "zookeeper" not in {one["name"] for one in listed}
    outside.run(outside.python, "-c", "import leadertag_zookeeper.lock")  # the copy only


# -- an election ------------------------------------------------------------------------------


def _settings(node: str, hosts: list[str], ip: str, state: Path) -> dict[str, Any]:
    return {
        "backend": "zookeeper",
        "state_dir": str(state),
        "backends": {
            "zookeeper": {
                "hosts": hosts, "node": node, "tick_time": f"{TICK}ms", "report_life": "4s",
            }
        },
        "elections": {
            "redis": {
                "service": "redis",
                "query": "redis-master",
                "lease": "5s",
                "instance": {
                    "id": "redis", "address": ip, "port": PORT,
                    "check": {"tcp": f"{ip}:{PORT}", "interval": "200ms"},
                },
            }
        },
    }  # fmt: skip


class Node:
    """One host: a service that only listens, and the daemon that speaks for it."""

    def __init__(self, name: str, outside: Outside, hosts: list[str], folder: Path) -> None:
        self.name = name
        self._outside = outside
        self._address = lease_address((PORT,))
        ip = self._address.address
        self.endpoint = f"{ip}:{PORT}"
        self.service = ServerProcess(
            [sys.executable, "-S", "-c", SERVICE, ip], folder / f"{name}-service.log", name=name
        )
        self.config = folder / f"{name}.toml"
        self.config.write_text(to_toml(_settings(name, hosts, ip, folder / name)))
        self.daemon = Daemon(self.config, name=f"daemon-{name}", env=ALONE)
        words = self.daemon.process.argv
        at = words.index(COMMAND[0])
        words[at : at + len(COMMAND)] = [str(outside.leadertag)]

    def start(self) -> None:
        self.service.start()
        self.daemon.start()

    def close(self) -> None:
        self.daemon.kill_all()
        self.service.kill()
        self._address.close()

    def ask(self, *words: str) -> Finished:
        return self._outside.run(self._outside.leadertag, "--config", self.config, *words)

    def status(self) -> dict[str, Any]:
        """What `leadertag status` tells of the election; nothing when it cannot be known."""
        try:
            found: dict[str, Any] = self.ask("status", "--json").json["elections"][0]
        except (ValueError, LookupError):
            return {}
        return found


@pytest.fixture
def nodes(outside: Outside, ensemble: ZooKeeperEnsemble) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        # A short name: a socket's path in it must fit the kernel's 107 bytes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lt-")))
        made = []
        for name in ("n1", "n2", "n3"):
            made.append(Node(name, outside, ensemble.addresses, folder))
            stack.callback(made[-1].close)
            made[-1].start()
        yield made


def _led(node: Node, but: str, members: int) -> dict[str, Any]:
    found = node.status()
    leader = found.get("leader") or {}
    roles = [member["role"] for member in found.get("members", ())]
    settled = roles.count("leader") == 1 and len(roles) == members
    return found if settled and found["phase"] == "leading" and leader["node"] != but else {}


def _leader(node: Node, what: str, *, but: str = "", members: int = 3) -> dict[str, Any]:
    """Waits until somebody leads, and all that there should be are members."""
    seen: list[dict[str, Any]] = []

    def led() -> dict[str, Any]:
        seen.append(_led(node, but, members))
        return seen[-1]

    wait_until(led, PATIENCE, what)
    return seen[-1]


@pytest.mark.timeout(400)
def test_three_processes_elect(ensemble: ZooKeeperEnsemble, nodes: list[Node]) -> None:
    assert LONGEST_SESSION > 10_000  # of the daemons: twice the lease
    by_name = {node.name: node for node in nodes}
    first = _leader(nodes[0], "somebody leads")
    leader = by_name[first["leader"]["node"]]
    wait_until(
        lambda: leader.ask("query", "redis-master").stdout.split() == [leader.endpoint],
        PATIENCE, "it is resolved",
    )  # fmt: skip
    _is_calm(ensemble)

    server = ensemble.leader()
    assert server is not None
    server.process.kill()
    wait_until(lambda: ensemble.leader() not in (None, server), PATIENCE, "ZooKeeper's new leader")
    after = _leader(nodes[0], "the election is readable again")
    assert (after["term"], after["leader"]["node"]) == (first["term"], leader.name)
    assert "leading ->" not in leader.daemon.log(), "its role has not changed"

    leader.service.kill()
    second = _leader(nodes[0], "another one leads", but=leader.name)
    assert second["term"] > first["term"]
    successor = by_name[second["leader"]["node"]]
    wait_until(
        lambda: successor.ask("query", "redis-master").stdout.split() == [successor.endpoint],
        PATIENCE, "the successor is resolved",
    )  # fmt: skip

    leader.service.start()
    successor.daemon.kill()
    third = _leader(nodes[0], "the guardian gave up", but=successor.name, members=2)
    assert third["term"] > second["term"]


def _is_calm(ensemble: ZooKeeperEnsemble) -> None:
    """Three daemons that have nothing to do write nothing, over few connections."""

    def written() -> int:
        return max(server.transaction() for server in ensemble.servers)

    def quiet() -> bool:
        before = written()
        time.sleep(IDLE)  # idleness is the matter here: there is no event to await
        return written() == before

    wait_until(quiet, PATIENCE, f"nothing is written for {IDLE:g} s")
    connections = sum(server.connections() for server in ensemble.servers)
    assert 3 * (MOST_CONNECTIONS - 1) <= connections <= 3 * MOST_CONNECTIONS
