"""One Redis server on an address of its own, without persistence, quick to replicate."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.tools.addresses import AddressLease, lease_address
from tests.tools.processes import ServerProcess, wait_until
from tests.tools.servers import require

_OPTIONS = {
    "save": "",
    "appendonly": "no",
    "repl-diskless-sync": "yes",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
    "daemonize": "no",
}


class RedisServer:
    """A Redis process, its address, and what it answers; `start` before asking."""

    def __init__(
        self, folder: Path, *, name: str = "redis", options: dict[str, str] | None = None
    ) -> None:
        """`options` are settings of redis.conf that win over those chosen here."""
        folder.mkdir(parents=True, exist_ok=True)
        self._lease: AddressLease = lease_address((6379,))
        self.ip, self.port = self._lease.address, 6379
        self.url = f"redis://{self.ip}:{self.port}"
        settings = {**_OPTIONS, "bind": self.ip, "port": str(self.port), "dir": str(folder)}
        words = [w for k, v in {**settings, **(options or {})}.items() for w in (f"--{k}", v)]
        argv = [str(require("redis-server")), *words]
        self.process = ServerProcess(argv, folder / "redis.log", name=name)

    @property
    def client(self) -> redis.Redis:
        """A new client: none outlives a restart, and none retries behind a test's back."""
        return redis.Redis(
            host=self.ip,
            port=self.port,
            socket_timeout=2,
            socket_connect_timeout=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )

    def start(self) -> None:
        """Starts the process and waits until it answers; it begins as a master."""
        self.process.start()
        self.process.wait_ready(self.answers, 10)

    def stop(self) -> None:
        """SIGTERM."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections are still accepted, nothing is answered."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.resume()

    def restart(self) -> None:
        """Stops and starts: empty, and a master again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends the process and gives the address back."""
        self.process.kill()
        self._lease.close()

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what it answers -------------------------------------------------------------

    def command(self, *words: str | int) -> Any:
        """The answer to any command; redis.RedisError when it is refused."""
        with self.client as client:
            return client.execute_command(*words)

    def answers(self) -> bool:
        """Whether it answers PING."""
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            return False

    def role(self) -> str:
        """The role in Redis's words: "master" or "slave"."""
        return str(self.command("ROLE")[0])

    def info(self, section: str = "replication") -> dict[str, Any]:
        """INFO, parsed."""
        with self.client as client:
            found: dict[str, Any] = client.info(section)
            return found

    def master_link_up(self) -> bool:
        """Whether this replica is connected to its master and has its data."""
        return self.info().get("master_link_status") == "up"

    def replicate(self, master: RedisServer | None, timeout: float = 10.0) -> None:
        """REPLICAOF this master, and waits for the link; None makes it a master."""
        if master is None:
            self.command("REPLICAOF", "NO", "ONE")
            return
        self.command("REPLICAOF", master.ip, master.port)
        wait_until(self.master_link_up, timeout, f"{self.ip} replicates {master.ip}")

    def get(self, key: str) -> str | None:
        """The value; None when there is none."""
        value: str | None = self.command("GET", key)
        return value

    def set(self, key: str, value: str) -> None:
        """Sets the value; redis.ReadOnlyError on a replica."""
        self.command("SET", key, value)
