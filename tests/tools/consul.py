"""A Consul cluster on loopback: one server, some client agents, each on its own address.

Every agent has the standard ports (8500 HTTP, 8600 DNS, 8300 to 8302), as on hosts
of their own. Timing is Consul's default except for the raft multiplier.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.tools import dns
from tests.tools.addresses import AddressLease, lease_address
from tests.tools.httpjson import Answer, HttpError, JsonClient, Params
from tests.tools.processes import ServerProcess, wait_until
from tests.tools.recorder import ServiceRecorder
from tests.tools.servers import require

HTTP_PORT, DNS_PORT = 8500, 8600
AGENT_PORTS = (HTTP_PORT, DNS_PORT, 8300, 8301)
MASTER_TOKEN = "c9d6d1a8-2f6b-4b62-9a35-6a0f3f0d7e11"  # of throw-away clusters only
START_TIMEOUT = 30.0  # seconds; usually 3

Config = Mapping[str, Any]


class ConsulAgent:
    """One agent (or the server): its process, its address, and what it answers."""

    def __init__(self, node: str, lease: AddressLease, folder: Path, config: Config) -> None:
        self.node = node
        self.ip = lease.address
        self.address = f"http://{self.ip}:{HTTP_PORT}"
        self.config_dir = folder / "config"
        self.config_dir.mkdir(parents=True)
        self._lease = lease
        self._write("agent.json", {**config, "data_dir": str(folder / "data")})
        tokens = config.get("acl", {}).get("tokens", {})
        self.token: str | None = tokens.get("agent")
        self.client = JsonClient(self.address, self.token)
        self._argv = [str(require("consul")), "agent", f"-config-dir={self.config_dir}"]
        self.process = ServerProcess(self._argv, folder / "consul.log", name=node)

    # -- the process -------------------------------------------------------------

    def start(self, join: str | None = None) -> None:
        """Starts the process; `join` is an address whose cluster it enters at once."""
        # Joining before the first synchronization saves its random wait of up to 3 s.
        extra = [] if join is None else [f"-join={join}"]
        self.process.argv = [*self._argv, *extra]
        self.process.start()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Waits until the agent has synchronized itself with the catalog."""
        self.process.wait_ready(self._synchronized, timeout)

    def stop(self) -> None:
        """SIGTERM. The node does not leave the cluster: the others see it fail."""
        self.process.stop()

    def leave(self) -> None:
        """Leaves the cluster gracefully and ends."""
        with suppress(ConnectionError):  # it may be gone before it has answered
            self.api("PUT", "/v1/agent/leave")
        wait_until(lambda: not self.process.running, 15, f"{self.node} ends after leaving")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.resume()

    def restart(self) -> None:
        """Stops, starts again with the same data, and waits until it is synchronized."""
        self.stop()
        self.start()
        self.wait_ready()

    def reload(self) -> None:
        """Reads the configuration files again; done when this returns."""
        self.api("PUT", "/v1/agent/reload")

    def close(self) -> None:
        """Ends the process and gives the address back."""
        self.process.kill()
        self._lease.close()

    # -- what it answers -----------------------------------------------------------

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        params: Params | None = None,
        *,
        token: str | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        """(JSON, headers with lower-case names). HttpError from status 400 on.

        With ACLs on, the management token is used unless another one is given
        ("anonymous" for none).
        """
        return self.client.request(method, path, body, params, token=token, timeout=timeout)

    def get(self, path: str, params: Params | None = None, *, token: str | None = None) -> Any:
        """The JSON that a GET answers."""
        return self.api("GET", path, None, params, token=token)[0]

    def register_service(self, body: Config, *, token: str | None = None) -> None:
        """Registers with the agent, the body as it is (`Name`, `ID`, `Tags`, `Checks`…)."""
        self.api("PUT", "/v1/agent/service/register", body, token=token)

    def deregister_service(self, service_id: str) -> None:
        """Deregisters from the agent."""
        self.api("PUT", f"/v1/agent/service/deregister/{quote(service_id)}")

    def write_services(self, services: Sequence[Config]) -> None:
        """Sets the services of the configuration file; they count after `reload`."""
        self._write("services.json", {"services": list(services)})

    def write_checks(self, checks: Sequence[Config]) -> None:
        """Sets the checks of the configuration file; they count after `reload`."""
        self._write("checks.json", {"checks": list(checks)})

    def dns(self, name: str, type_: str = "A") -> list[dns.DnsRecord]:
        """What the agent's DNS answers for A or SRV; [] for an unknown name."""
        return dns.query(self.ip, DNS_PORT, name, type_)

    def _synchronized(self) -> bool:
        # The leader adds a joined node by itself, but this key comes from the agent only.
        answer = self.get(f"/v1/catalog/node/{self.node}")
        return isinstance(answer, dict) and "consul-network-segment" in (
            answer["Node"]["Meta"] or ()
        )

    def _write(self, name: str, content: Config) -> None:
        (self.config_dir / name).write_text(json.dumps(content, indent=1))


class ConsulCluster:
    """One server and client agents, started together; a context manager.

    Coordinates are off unless `coordinates`: they are the only thing that an idle
    cluster writes to raft, and only `Near` needs them.
    """

    def __init__(
        self,
        folder: Path,
        agents: int = 3,
        *,
        acl: bool = False,
        script_checks: bool = False,
        coordinates: bool = False,
        services: Mapping[str, Sequence[Config]] | None = None,
        extra: Config | None = None,
    ) -> None:
        """`services` by node ("n1"…) go to configuration files; `extra` to every agent.

        With `acl` the default is deny; `cluster.token` is the management token.
        """
        self.token = MASTER_TOKEN if acl else None
        self._folder = folder
        self._config = _base_config(acl, script_checks, coordinates, extra or {})
        self.server = self._make("server", {"server": True, "bootstrap_expect": 1})
        self.agents = [self._make(f"n{n}", {}) for n in range(1, agents + 1)]
        for node, definitions in (services or {}).items():
            self.agent(node).write_services(definitions)

    def agent(self, node: str) -> ConsulAgent:
        """The agent of that node name, the server included."""
        return next(agent for agent in (self.server, *self.agents) if agent.node == node)

    def start(self) -> None:
        """Starts everything; returns when all agents are synchronized with the catalog."""
        try:
            self.server.start()
            self.server.wait_ready()
            for agent in self.agents:
                agent.start(join=self.server.ip)
            for agent in self.agents:
                agent.wait_ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends everything at once and gives the addresses back."""
        everyone = (*self.agents, self.server)
        with ThreadPoolExecutor(len(everyone)) as pool:
            list(pool.map(ConsulAgent.close, everyone))

    def __enter__(self) -> ConsulCluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- looking at it -------------------------------------------------------------

    def raft_index(self) -> int:
        """The last index of the server's raft log. The difference of two is the number of
        entries between them; an idle cluster without coordinates appends none."""
        stats = self.server.get("/v1/agent/self")["Stats"]
        return int(stats["raft"]["last_log_index"])

    def wrote_nothing_since(self, index: int) -> bool:
        """Whether the log has grown by no more than the leader's own barrier since then.

        Consul's leader appends one entry a minute (its reconciliation's barrier), whatever
        else happens or does not.
        """
        return self.raft_index() - index <= 1

    def wait_quiet(self, seconds: float = 1.5) -> int:
        """Wait until nothing has been written for so long; the raft index.

        Agents report what their checks came to some time after everybody is settled.
        """
        last = [0, 0.0]

        def quiet() -> bool:
            index = self.raft_index()
            if index != last[0]:
                last[:] = [index, time.monotonic()]
            return time.monotonic() - last[1] >= seconds

        wait_until(quiet, 20 + seconds, "nothing is written any more", interval=0.1)
        return int(last[0])

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions, as `/v1/session/list` of the server has them."""
        found: list[dict[str, Any]] = self.server.get("/v1/session/list") or []
        return found

    def clear(self) -> None:
        """End all sessions and deregister all services; returns when the catalog has it."""
        for session in self.sessions():
            self.server.api("PUT", f"/v1/session/destroy/{session['ID']}")
        for agent in self.agents:
            for service_id in agent.get("/v1/agent/services") or {}:
                agent.deregister_service(service_id)
        left = partial(self.server.get, "/v1/catalog/services")
        wait_until(lambda: set(left()) <= {"consul"}, 10, "an empty catalog")

    def health(self, service: str) -> list[dict[str, Any]]:
        """`/v1/health/service/<name>` of the server, consistent."""
        path = f"/v1/health/service/{quote(service)}"
        found: list[dict[str, Any]] = self.server.get(path, {"consistent": ""})
        return found

    def recorder(self, service: str) -> ServiceRecorder:
        """A recorder of that service on the server; start it with `with`."""
        return ServiceRecorder(self.server.address, service, token=self.token)

    def create_token(self, rules: str, description: str = "") -> str:
        """A token with a policy of its own that has these rules (HCL); its secret id."""
        name = f"test-{self.raft_index()}"
        self.server.api("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        body = {"Description": description, "Policies": [{"Name": name}]}
        secret: str = self.server.api("PUT", "/v1/acl/token", body)[0]["SecretID"]
        return secret

    def _make(self, node: str, config: Config) -> ConsulAgent:
        lease = lease_address(AGENT_PORTS)
        own = {"node_name": node, "bind_addr": lease.address, "client_addr": lease.address}
        join = {} if config else {"retry_join": [self.server.ip], "retry_interval": "1s"}
        merged = {**self._config, **own, **join, **config}
        return ConsulAgent(node, lease, self._folder / node, merged)


def consul_version(binary: Path) -> tuple[int, ...]:
    """As (1, 8, 7)."""
    text = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def _base_config(acl: bool, script_checks: bool, coordinates: bool, extra: Config) -> Config:
    config: dict[str, Any] = {
        "datacenter": "dc1",
        "log_level": "INFO",
        "ports": {"serf_wan": -1},
        "performance": {"raft_multiplier": 1},
        "disable_update_check": True,
        "disable_coordinates": not coordinates,
        "enable_local_script_checks": script_checks,
        # Consul's default for a client is true; then a restart would be a farewell.
        "leave_on_terminate": False,
    }
    if acl:
        new = consul_version(require("consul")) >= (1, 11)
        first = "initial_management" if new else "master"
        tokens = {first: MASTER_TOKEN, "agent": MASTER_TOKEN}
        config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
    return _merged(config, extra)


def _merged(base: Config, extra: Config) -> Config:
    """`extra` wins; sections that both have are merged in their turn."""
    both = {k: _merged(base[k], v) for k, v in extra.items() if _are_sections(base.get(k), v)}
    return {**base, **extra, **both}


def _are_sections(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


__all__ = ["MASTER_TOKEN", "ConsulAgent", "ConsulCluster", "HttpError", "ServiceRecorder"]
