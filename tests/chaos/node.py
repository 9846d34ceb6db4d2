"""One host under test: a registry server, Redis, a leadertag daemon, and their files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from leadertag.daemon.control import ask
from leadertag.errors import BackendUnavailable
from tests.chaos.evidence import Writer
from tests.chaos.network import inside
from tests.chaos.servers import Backend
from tests.chaos.settings import ELECTION, REDIS_PORT, configuration
from tests.chaos.shim import WallClock
from tests.chaos.units import Unit, marked
from tests.tools.leadertag import COMMAND, to_toml
from tests.tools.servers import require

STATE_SIZE = "512k"
_GUARDIAN = b"leadertag.daemon.guardian"
_REDIS = {
    "port": str(REDIS_PORT), "save": "", "appendonly": "no", "protected-mode": "no",
    "repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1",
    "repl-timeout": "10",
    # Promise I1 asks for it: whoever starts a service starts it as no leader.
    "replicaof": "127.0.0.1 1",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a node is. ``wrap`` makes a command one that runs there."""

    name: str
    address: str
    local: str
    """The address under which the node reaches its own services."""
    namespace: str
    folder: Path
    wrap: Callable[[Sequence[str]], list[str]]


class Node:
    """The processes and files of one host."""

    def __init__(
        self, place: Place, backend: Backend, journal: Writer, evidence: Path,
        library: Path | None, breaks: str,
    ) -> None:  # fmt: skip
        self.place = place
        self.name, self.folder = place.name, place.folder
        self.folder.mkdir(parents=True)
        self._mark = f"CHAOS_DAEMON={uuid.uuid4()}"
        self.clock = WallClock(library, self.folder / "clock") if library else None
        self._own_disk = False
        self._make_state_dir()
        self._write_files(backend, evidence)
        self.server: Unit | None = None
        if backend.server:
            argv = place.wrap(backend.argv(self.name, self.folder))
            self.server = Unit(self.name, "server", argv, self.folder, journal, back_after=3.0)
        self.redis = Unit(
            self.name, "redis", place.wrap(self._redis_argv()), self.folder, journal,
            back_after=1.5, on_start=self._note_redis,
        )  # fmt: skip
        self.daemon = Unit(
            self.name, "daemon", place.wrap(self._daemon_argv(breaks)), self.folder, journal,
            back_after=1.0, env=self._daemon_env(),
        )  # fmt: skip

    @property
    def units(self) -> list[Unit]:
        """Everything that runs here."""
        return [unit for unit in (self.server, self.redis, self.daemon) if unit]

    def close(self) -> None:
        """End everything and unmount."""
        self.daemon.pause()  # it would start another guardian
        self.kill_guardians()
        for unit in reversed(self.units):
            unit.close()
        self.kill_guardians()
        if self._own_disk:
            subprocess.run(["umount", "-l", str(self.state)], capture_output=True, check=False)

    # -- files ---------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        """The daemon's state directory."""
        return self.folder / "state"

    @property
    def config(self) -> Path:
        """The daemon's configuration file."""
        return self.folder / "leadertag.toml"

    @property
    def disk_can_fill(self) -> bool:
        """Whether the state directory is a small disk of its own."""
        return self._own_disk

    def fill_disk(self) -> None:
        """Leave no room in the state directory."""
        with suppress(OSError), open(self.state / "ballast", "wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()

    def empty_disk(self) -> None:
        """Make room again."""
        (self.state / "ballast").unlink(missing_ok=True)

    def slow_hooks(self, seconds: Mapping[str, float]) -> None:
        """Let the recording hooks take so long for an event, from now on; {} for no time."""
        path = self.folder / "control.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(dict(seconds)))
        new.rename(path)

    def _make_state_dir(self) -> None:
        self.state.mkdir(mode=0o700)
        if os.geteuid() == 0:
            words = ["mount", "-t", "tmpfs", "-o", f"size={STATE_SIZE},mode=0700", "tmpfs"]
            done = subprocess.run([*words, str(self.state)], capture_output=True, check=False)
            self._own_disk = done.returncode == 0

    def _write_files(self, backend: Backend, evidence: Path) -> None:
        place = self.place
        self.slow_hooks({})
        (self.folder / "hook.json").write_text(json.dumps({
            "node": self.name,
            "evidence": str(evidence / f"hooks-{self.name}.jsonl"),
            "control": str(self.folder / "control.json"),
            "lock": str(self.folder / "hook.lock"),
            "host": place.local, "port": REDIS_PORT,
            "pidfile": str(self.folder / "redis.pid"),
        }))  # fmt: skip
        table, instance = backend.table(self.name), backend.instance(self.name)
        self.config.write_text(to_toml(configuration(backend.name, table, self.folder, instance)))

    # -- commands --------------------------------------------------------------------------------

    def _redis_argv(self) -> list[str]:
        bind = "0.0.0.0" if self.place.namespace else self.place.address
        options = {**_REDIS, "bind": bind, "dir": str(self.folder)}
        words = [(f"--{key}", *_split(key, value)) for key, value in options.items()]
        return [str(require("redis-server")), *(word for some in words for word in some)]

    def _daemon_argv(self, breaks: str) -> list[str]:
        how = ["-m", "tests.chaos.broken", breaks] if breaks else ["-m", "leadertag"]
        return [sys.executable, *how, "--config", str(self.config), "-v", "run"]

    def _daemon_env(self) -> dict[str, str]:
        name, _, value = self._mark.partition("=")
        return {name: value, **(self.clock.env if self.clock else {})}

    def _note_redis(self, pid: int) -> None:
        (self.folder / "redis.pid").write_text(str(pid))

    def leadertag(self, *words: str) -> subprocess.Popen[bytes]:
        """Start ``leadertag VERB …`` on this node, as an operator would."""
        argv = [*COMMAND, "--config", str(self.config), *words]
        with open(self.folder / "operator.log", "ab") as log:
            return subprocess.Popen(
                self.place.wrap(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    # -- the guardian -----------------------------------------------------------------------------

    def guardians(self) -> list[int]:
        """The guardians of this node's daemons, earlier ones included."""
        return marked(self._mark, _GUARDIAN)

    def signal_guardians(self, number: signal.Signals) -> int:
        """Send a signal to all of them; how many there were."""
        found = self.guardians()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(found)

    def kill_guardians(self) -> int:
        """SIGKILL to all of them."""
        return self.signal_guardians(signal.SIGKILL)

    # -- looking at it ----------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What the daemon says of the election; {} when it does not answer."""
        for path in self.state.glob("*.sock"):
            with suppress(BackendUnavailable, KeyError):
                for found in ask(str(path), {"verb": "status"})["elections"]:
                    if found["name"] == ELECTION:
                        return dict(found)
        return {}

    def redis_client(self) -> redis.Redis:
        """A client of the node's Redis; to be used `inside` its namespace."""
        return redis.Redis(
            host=self.place.local, port=REDIS_PORT, socket_timeout=0.5,
            socket_connect_timeout=0.5, decode_responses=True, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip

    def replication(self) -> dict[str, Any]:
        """INFO replication; {} when Redis does not answer."""
        with inside(self.place.namespace), self.redis_client() as client:
            try:
                found: dict[str, Any] = client.info("replication")
            except redis.RedisError:
                return {}
        return found


def _split(key: str, value: str) -> list[str]:
    return value.split(" ") if key == "replicaof" else [value]
