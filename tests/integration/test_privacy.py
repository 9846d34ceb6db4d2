"""What others on the same host get to see of a daemon that knows secrets: nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.consul.conftest import register
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.leadertag import COMMAND, leadertag, to_toml
from tests.tools.processes import ServerProcess, wait_until

SECRETS = {
    "token in the file": "s3cret-in-the-configuration",
    "CONSUL_HTTP_TOKEN": "s3cret-consul-token",
    "CONSUL_HTTP_AUTH": "user:s3cret-of-a-proxy",
    "ETCDCTL_USER": "root:s3cret-in-a-user",
    "ETCDCTL_PASSWORD": "s3cret-of-etcd",
    "LEADERTAG_BACKENDS__ETCD__PASSWORD": "s3cret-for-etcd",
    "LEADERTAG_BACKENDS__ETCD__USER": "root:s3cret-for-a-user",
}
GIVEN = "s3cret-that-the-hook-is-given"
PLAIN = {"LEADERTAG_LEASE": "4s", "CONSUL_CLIENT_TIMEOUT": "9", "MY_PASSWORD": "for-the-hook"}
"""Not leadertag's secrets: hooks keep them."""
NOBODY = 65534


@dataclass
class Running:
    """A daemon that leads, with its guardian and its workers."""

    process: ServerProcess
    folder: Path
    config: Path
    env: dict[str, str]

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "state"

    @property
    def socket(self) -> Path:
        """Its control socket."""
        (found,) = self.state.glob("*.sock")
        return found

    def pids(self) -> list[int]:
        """The daemon and all that it has started."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(words[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found


@pytest.fixture
def running(consul_servers: ConsulCluster, unique_name: str) -> Iterator[Running]:
    """A daemon that leads; whoever started it had the loosest umask there is."""
    agent = consul_servers.agent("n1")
    register(agent, unique_name)
    folder = Path(tempfile.mkdtemp(prefix="lt-"))  # nothing but /tmp above it
    config = folder / "leadertag.toml"
    config.write_text(to_toml(_settings(agent, folder, unique_name)))
    config.chmod(0o600)
    env = {k: v for k, v in SECRETS.items() if " " not in k} | PLAIN
    argv = ["sh", "-c", 'umask 0; exec "$@"', "sh", *COMMAND, "--config", str(config), "-vv", "run"]
    process = ServerProcess(argv, folder / "log", name="leadertag", env=env)
    try:
        process.start()
        try:
            wait_until((folder / "env").exists, 30, "the hook has run")
            wait_until(lambda: "-> leading" in process.log.read_text(), 30, "it leads")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{process.log_tail()}") from error
        yield Running(process, folder, config, env)
    finally:
        if process.running:
            process.signal(signal.SIGINT)  # the guardian goes with it
        process.stop(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _settings(agent: ConsulAgent, folder: Path, service: str) -> dict[str, object]:
    write = f"env -0 > {folder}/env.new && mv {folder}/env.new {folder}/env"
    return {
        "backend": "consul",
        "state_dir": str(folder / "state"),
        "backends": {"consul": {"address": agent.address, "token": SECRETS["token in the file"]}},
        "elections": {"e": {"service": service, "hooks": [{
            "use": "command", "events": ["promote"], "command": ["/bin/sh", "-c", write],
            "environment": {"GIVEN_PASSWORD": GIVEN},
        }]}},
    }  # fmt: skip


def found_in(text: str) -> list[str]:
    """Which secrets stand in a text."""
    whole = {**SECRETS, "given to the hook": GIVEN}
    parts = {name: value.rpartition(":")[2] for name, value in whole.items()}
    return [name for name, secret in parts.items() if secret in text]


# -- the control socket ------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def as_nobody(path: Path) -> int:
    """The error that another user gets who connects to that socket; 0 for none."""
    child = os.fork()
    if child == 0:  # nothing but system calls: the parent has threads
        code = 255
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX) as end:
                code = end.connect_ex(str(path))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_control_socket_is_its_user_s_alone(running: Running) -> None:
    assert mode_of(running.socket) == 0o600
    assert mode_of(running.state) == 0o700
    with socket.socket(socket.AF_UNIX) as end:
        assert end.connect_ex(str(running.socket)) == 0
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    assert as_nobody(running.socket) == errno.EACCES
    # The socket's own mode would do as well, were the directories open.
    for folder in (running.folder, running.state):
        folder.chmod(0o755)
    assert as_nobody(running.socket) == errno.EACCES
    running.socket.chmod(0o666)
    assert as_nobody(running.socket) == 0  # so it was the mode


def listening(pid: int) -> list[str]:
    """The TCP sockets that a process listens on, and all its UDP sockets."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table, states in (("tcp", "0A"), ("tcp6", "0A"), ("udp", ""), ("udp6", "")):
        with suppress(FileNotFoundError):  # no IPv6
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            cells = [row.split() for row in rows]
            found += [c[1] for c in cells if c[9] in inodes and c[3].startswith(states)]
    return found


def test_nothing_listens_on_the_network(running: Running) -> None:
    pids = running.pids()
    assert len(pids) >= 3, "the daemon, its guardian and a worker"
    assert {pid: listening(pid) for pid in pids} == {pid: [] for pid in pids}
    with socket.create_server(("127.0.0.1", 0)):
        assert listening(os.getpid())  # it would have been seen


# -- secrets -------------------------------------------------------------------------------------


def test_no_secret_in_the_arguments_of_any_process(running: Running) -> None:
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in running.pids()]
    assert any("leadertag.daemon.guardian" in line for line in lines)
    assert any("leadertag.hooks.worker" in line for line in lines)
    assert not found_in("\n".join(lines))


def test_a_hook_gets_no_secret_but_the_one_that_it_was_given(running: Running) -> None:
    text = (running.folder / "env").read_text()
    variables = dict(line.split("=", 1) for line in text.split("\0") if line)
    assert variables["GIVEN_PASSWORD"] == GIVEN
    assert found_in(text) == ["given to the hook"]
    assert not set(SECRETS) & set(variables)
    assert PLAIN.items() <= variables.items()
    assert variables["LEADERTAG_EVENT"] == "promote"


def test_the_state_directory_is_private_and_has_no_secret(running: Running) -> None:
    paths = list(running.state.rglob("*"))
    assert len(paths) >= 3, "lock file, memory, socket"
    assert {path.name: mode_of(path) & 0o077 for path in paths} == {p.name: 0 for p in paths}
    files = [path for path in paths if path.is_file()]
    assert not found_in("\n".join(path.read_bytes().decode("latin-1") for path in files))
    assert {path.lstat().st_uid for path in paths} == {os.geteuid()}


def test_no_secret_in_the_log_at_its_most_talkative(running: Running) -> None:
    running.process.signal(signal.SIGHUP)
    log = running.process.log
    wait_until(lambda: "was read anew" in log.read_text(), 30, "a reload")
    assert not found_in(log.read_text())


@pytest.mark.parametrize("words", [("show",), ("show", "--json"), ("check", "--full")])
def test_no_secret_in_what_config_prints(running: Running, words: tuple[str, ...]) -> None:
    done = leadertag("--config", str(running.config), "-vv", "config", *words, env=running.env)
    assert done.exit_code == 0, done
    assert not found_in(done.output)


# -- files that others can write -----------------------------------------------------------------

LOCAL = """\
backend = "local"
state_dir = "{folder}/state"
[backends.local]
path = "{folder}/leadertag.db"
[elections.e]
service = "s"
instance = {{ id = "i", address = "127.0.0.1", port = 1 }}
[[elections.e.hooks]]
use = "command"
events = ["promote"]
command = ["{folder}/hook"]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is only warned")
def test_a_hook_that_others_can_write_is_refused_at_start_and_reload(tmp_path: Path) -> None:
    hook, config = tmp_path / "hook", tmp_path / "leadertag.toml"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/promoted\n")
    config.write_text(LOCAL.format(folder=tmp_path))
    hook.chmod(0o777)
    words = ("--config", str(config), "run")
    done = leadertag(*words)
    assert done.exit_code == 2
    assert f"{hook}: others than root can write to it (mode 0777)" in done.error_line
    assert not (tmp_path / "promoted").exists()
    hook.chmod(0o755)
    daemon = ServerProcess([sys.executable, "-m", "leadertag", *words], tmp_path / "log")
    try:
        daemon.start()
        wait_until((tmp_path / "promoted").exists, 30, daemon.log_tail())
        hook.chmod(0o775)
        os.chown(hook, 0, NOBODY)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "everything stays as it was" in daemon.log_tail(), 30, "the reload")
        assert "can write to it (mode 0775)" in daemon.log_tail()
        assert daemon.running
    finally:
        if daemon.running:
            daemon.signal(signal.SIGINT)
        daemon.stop(timeout=30)
