"""One node of the demo: a service, and the daemon that speaks for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from leadertag.model import Record

CONFIG = """\
backend = "local"
state_dir = {folder}

[backends.local]
path = {database}
node = {name}

[elections.demo]
service = "demo"
query = "demo-leader"
lease = "3s"

[elections.demo.instance]
id = {name}
address = "127.0.0.1"
port = {port}
check = {{ tcp = {target}, interval = "200ms" }}

{hooks}
"""


def free_port() -> int:
    """Return a TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Node:
    """A service and its daemon. Subclasses say what the service is."""

    kind = ""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.port = free_port()
        self._service: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start both."""
        self.start_service()
        config = self.folder / f"{self.name}.toml"
        config.write_text(CONFIG.format(
            folder=json.dumps(str(self.folder / "state")),
            database=json.dumps(str(self.folder / "leadertag.db")),
            name=json.dumps(self.name), port=self.port,
            target=json.dumps(f"127.0.0.1:{self.port}"), hooks=self.hooks(),
        ))  # fmt: skip
        command = [sys.executable, "-m", "leadertag", "--config", str(config), "run"]
        self._daemon = self._spawn(command, "leadertag")

    def start_service(self) -> None:
        """Start the service alone."""
        self._service = self._spawn(self.service_command(), "service")

    def kill_service(self) -> None:
        """End the service as a crash would."""
        assert self._service is not None
        self._service.kill()
        self._service.wait()

    def stop(self) -> None:
        """End both, gently first."""
        for process in (self._daemon, self._service):
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGINT)  # gives up instead of keeping
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def tail(self) -> str:
        """Return the end of the daemon's log."""
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / f"{self.name}.leadertag.log").read_text()
                             .splitlines()[-20:])  # fmt: skip
        return ""

    def _spawn(self, command: list[str], what: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{self.name}.{what}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={k: v for k, v in os.environ.items() if not k.startswith("LEADERTAG_")},
            )  # fmt: skip

    # -- what the service is -------------------------------------------------------------

    def service_command(self) -> list[str]:
        """Return what starts the service."""
        raise NotImplementedError

    def hooks(self) -> str:
        """Return the hooks' part of the configuration."""
        raise NotImplementedError

    def role(self) -> str:
        """Return what the service itself says of its role."""
        raise NotImplementedError

    def follows_or_is(self, leader: Record) -> bool:
        """Whether the service acts as it should under that leader."""
        raise NotImplementedError

    def write(self, value: str) -> None:
        """Write something through this node."""


class RedisNode(Node):
    """A real Redis server."""

    kind = "Redis servers"

    def service_command(self) -> list[str]:
        """Return what starts the service: no persistence, quick replication."""
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--dir", str(self.folder), "--repl-diskless-sync-delay", "0"]  # fmt: skip

    def hooks(self) -> str:
        """Return the hooks' part of the configuration."""
        url = json.dumps(f"redis://127.0.0.1:{self.port}")
        return f'[[elections.demo.hooks]]\nuse = "redis"\nurl = {url}\n'

    def _info(self) -> dict[str, object]:
        import redis

        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return dict(client.info("replication"))
        except redis.RedisError:
            return {}

    def role(self) -> str:
        """Return what Redis says of its replication."""
        info = self._info()
        if not info:
            return "(down)"
        if info["role"] == "master":
            return f"Redis master, {info['connected_slaves']} replicas connected"
        return (f"Redis replica of {info['master_host']}:{info['master_port']}, "
                f"link {info['master_link_status']}")  # fmt: skip

    def follows_or_is(self, leader: Record) -> bool:
        """Whether it is the master, or a replica of it with a working link."""
        info = self._info()
        if leader.node == self.name:
            return info.get("role") == "master"
        up = info.get("master_link_status") == "up"
        return up and info.get("master_port") == leader.port

    def write(self, value: str) -> None:
        """Set a key, as a client of the leader would."""
        import redis

        with redis.Redis(port=self.port, socket_timeout=1) as client:
            client.set("demo", value)


class PlainNode(Node):
    """A little server that knows its role: for machines without Redis."""

    kind = "small demo services (install redis-server to see real ones)"

    def service_command(self) -> list[str]:
        """Return what starts the service."""
        return [sys.executable, "-m", "leadertag.demo.service", str(self.port)]

    def hooks(self) -> str:
        """Return the hooks' part of the configuration."""
        command = json.dumps([sys.executable, "-m", "leadertag.demo.tell", str(self.port)])
        return (f'[[elections.demo.hooks]]\nuse = "command"\ncommand = {command}\n'
                'events = ["promote", "demote", "follow"]\n')  # fmt: skip

    def role(self) -> str:
        """Ask the service."""
        from leadertag.demo.tell import tell

        try:
            return tell(self.port, "role?")
        except OSError:
            return "(down)"

    def follows_or_is(self, leader: Record) -> bool:
        """Whether it says what it should."""
        expected = "leader" if leader.node == self.name else f"follower of {leader.instance}"
        return self.role() == expected
