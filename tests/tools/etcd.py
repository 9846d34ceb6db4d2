"""etcd members on loopback, each on its own address with the standard ports."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from tests.tools.addresses import lease_address
from tests.tools.httpjson import JsonClient
from tests.tools.processes import ServerProcess, wait_until
from tests.tools.servers import require

CLIENT_PORT, PEER_PORT = 2379, 2380


class EtcdMember:
    """One member: its process, its address, and requests to its JSON gateway."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._folder = folder
        self._lease = lease_address((CLIENT_PORT, PEER_PORT))
        self.ip = self._lease.address
        self.address = f"http://{self.ip}:{CLIENT_PORT}"
        self.peer = f"http://{self.ip}:{PEER_PORT}"
        self.told_address, self.told_peer = self.address, self.peer
        """Where clients and the other members are told that it is: itself, or a relay."""
        self.client = JsonClient(self.address)
        self.process = ServerProcess([require("etcd")], folder / "etcd.log", name=name)

    def start(self, cluster: str, more: Mapping[str, str] | None = None) -> None:
        """Starts the process; `cluster` is "name=peer,…" of all members, `more` are flags."""
        options = {
            "name": self.name,
            "data-dir": str(self._folder / "data"),
            "listen-client-urls": self.address,
            "advertise-client-urls": self.told_address,
            "listen-peer-urls": self.peer,
            "initial-advertise-peer-urls": self.told_peer,
            "initial-cluster": cluster,
            "logger": "zap",
            **(more or {}),
        }
        self.process.argv = self.process.argv[:1] + [f"--{k}={v}" for k, v in options.items()]
        self.process.start()

    def wait_ready(self, timeout: float = 20.0) -> None:
        """Waits until the member answers a linearizable read."""
        self.process.wait_ready(lambda: "header" in self.call("kv/range", {"key": "AA=="}), timeout)

    def restart(self) -> None:
        """Stops it, starts it again with the same data, and waits until it answers."""
        self.process.stop()
        self.process.start()
        self.wait_ready()

    def close(self) -> None:
        """Ends the process and gives the address back."""
        self.process.kill()
        self._lease.close()

    def call(self, method: str, body: Mapping[str, Any], timeout: float = 10.0) -> dict[str, Any]:
        """POST /v3/<method>, as in `call("kv/range", {"key": …})` (keys in base64)."""
        answer = self.client.request("POST", f"/v3/{method}", body, timeout=timeout)[0]
        found: dict[str, Any] = answer
        return found

    def put(self, key: str, value: str) -> int:
        """Puts the value; the revision."""
        answer = self.call("kv/put", {"key": _encode(key), "value": _encode(value)})
        return int(answer["header"]["revision"])

    def get(self, key: str) -> str | None:
        """The value, read linearizably; None when there is none."""
        found = self.call("kv/range", {"key": _encode(key)}).get("kvs")
        return base64.b64decode(found[0]["value"]).decode() if found else None

    def raft_index(self) -> int:
        """The member's raft index: the difference of two counts the entries between."""
        return int(self.call("maintenance/status", {})["raftIndex"])

    def revision(self) -> int:
        """The cluster's revision, read linearizably: the difference of two counts the writes."""
        return int(self.call("kv/range", {"key": "AA=="})["header"]["revision"])

    def metrics(self) -> dict[str, float]:
        """Its Prometheus metrics: name with labels, as in `x_total{a="b"}`, to value."""
        text = self.client.request("GET", "/metrics")[0]
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs if name}

    def leads(self) -> bool:
        """Whether it answers, and says that it leads the other members."""
        status = self._status()
        return bool(status and status["header"]["member_id"] == status.get("leader"))

    def knows_a_leader(self) -> bool:
        """Whether it answers, and says that one of the members leads."""
        return bool(self._status().get("leader"))

    def _status(self) -> dict[str, Any]:
        try:
            return self.call("maintenance/status", {}, timeout=1.0)
        except OSError:
            return {}


class EtcdCluster:
    """Members started together; a context manager."""

    flags: ClassVar[Mapping[str, str]] = {}
    """Of every member, beside its addresses."""

    def __init__(self, folder: Path, members: int = 1) -> None:
        self.members = [EtcdMember(f"e{n}", folder / f"e{n}") for n in range(1, members + 1)]

    @property
    def addresses(self) -> list[str]:
        """The client addresses of all members."""
        return [member.told_address for member in self.members]

    def leader(self) -> EtcdMember | None:
        """The member that leads the others, if one says that it does."""
        return next((m for m in self.members if m.process.running and m.leads()), None)

    def hand_over(self, to: EtcdMember, timeout: float = 20.0) -> None:
        """Have another member lead, and wait until it does."""

        def leads() -> bool:
            present = self.leader()
            if present is not None and present is not to:
                target = to.call("maintenance/status", {})["header"]["member_id"]
                with suppress(OSError):  # asked again, should it have been refused
                    present.call("maintenance/transfer-leadership", {"targetID": target})
            return to.leads()

        wait_until(leads, timeout, f"{to.name} leads etcd", interval=0.1)

    def start(self) -> None:
        """Starts all members; returns when each answers."""
        cluster = ",".join(f"{member.name}={member.told_peer}" for member in self.members)
        try:
            for member in self.members:
                member.start(cluster, self.flags)
            for member in self.members:
                member.wait_ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends everything at once and gives the addresses back."""
        for member in self.members:
            member.close()

    def __enter__(self) -> EtcdCluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
