"""ZooKeeper servers on loopback, each on its own address with the standard ports."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.tools.addresses import lease_address
from tests.tools.processes import ServerProcess
from tests.tools.servers import require

CLIENT_PORT, PEER_PORT, ELECTION_PORT = 2181, 2888, 3888
TICK = 200
"""Milliseconds; ZooKeeper's own default is 2000. Sessions live for two ticks at least."""
LONGEST_SESSION = 60_000
"""Milliseconds. By default it would be 20 ticks."""
_JVM = (
    "-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
)


class ZooKeeperServer:
    """One server: its process, its address, and what it tells of itself."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._folder = folder
        self._lease = lease_address((CLIENT_PORT, PEER_PORT, ELECTION_PORT))
        self.ip = self._lease.address
        self.address = f"{self.ip}:{CLIENT_PORT}"
        self.process = ServerProcess(
            [require("zkServer.sh"), "start-foreground", folder / "zoo.cfg"],
            folder / "zookeeper.log",
            name=name,
            env={"SERVER_JVMFLAGS": _JVM, "ZOO_LOG_DIR": str(folder)},
        )

    def start(self, number: int = 1, ensemble: Sequence[ZooKeeperServer] = ()) -> None:
        """Starts the process; `number` is its place, from 1 on, in the ensemble, if any."""
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        (data / "myid").write_text(f"{number}\n")
        settings = {
            "tickTime": TICK, "initLimit": 50, "syncLimit": 10, "dataDir": data,
            "clientPort": CLIENT_PORT, "clientPortAddress": self.ip, "maxClientCnxns": 0,
            "maxSessionTimeout": LONGEST_SESSION, "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
        }  # fmt: skip
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines += [
            f"server.{n}={one.ip}:{PEER_PORT}:{ELECTION_PORT}" for n, one in enumerate(ensemble, 1)
        ]
        (self._folder / "zoo.cfg").write_text("\n".join(lines) + "\n")
        self.process.start()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Waits until the server serves clients."""
        self.process.wait_ready(lambda: self.mode() != "", timeout)

    def close(self) -> None:
        """Ends the process and gives the address back."""
        self.process.kill()
        self._lease.close()

    def ask(self, word: str, timeout: float = 5.0) -> str:
        """The answer to one of ZooKeeper's four-letter words."""
        with socket.create_connection((self.ip, CLIENT_PORT), timeout) as connection:
            connection.sendall(word.encode())
            connection.shutdown(socket.SHUT_WR)
            chunks = list(iter(lambda: connection.recv(65536), b""))
        return b"".join(chunks).decode()

    def mode(self) -> str:
        """ "standalone", "leader" or "follower"; "" while it serves nobody."""
        return self._told("Mode")

    def transaction(self) -> int:
        """The last transaction: the difference of two counts the writes between."""
        return int(self._told("Zxid"), 16)

    def connections(self) -> int:
        """How many clients are connected, this question aside."""
        return int(self._told("Connections")) - 1

    def _told(self, what: str) -> str:
        for line in self.ask("srvr").splitlines():
            name, _, value = line.partition(":")
            if name == what:
                return value.strip()
        return ""


class ZooKeeperEnsemble:
    """Servers started together; a context manager."""

    def __init__(self, folder: Path, servers: int = 1) -> None:
        self.servers = [ZooKeeperServer(f"zk{n}", folder / f"zk{n}") for n in range(1, servers + 1)]

    @property
    def addresses(self) -> list[str]:
        """The client addresses of all servers."""
        return [server.address for server in self.servers]

    def leader(self) -> ZooKeeperServer | None:
        """The server that leads the others, if one does."""
        return next((one for one in self.servers if _mode(one) == "leader"), None)

    def start(self) -> None:
        """Starts all servers; returns when each serves."""
        ensemble = self.servers if len(self.servers) > 1 else ()
        try:
            for number, server in enumerate(self.servers, 1):
                server.start(number, ensemble)
            for server in self.servers:
                server.wait_ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends everything at once and gives the addresses back."""
        for server in self.servers:
            server.close()

    def __enter__(self) -> ZooKeeperEnsemble:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _mode(server: ZooKeeperServer) -> str:
    try:
        return server.mode()
    except OSError:
        return ""
