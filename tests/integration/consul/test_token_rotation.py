"""A token that is replaced while the daemon leads; the old one is deleted in Consul at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.docs.pages import ROOT
from tests.integration.consul.conftest import register
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.leadertag import Daemon, to_toml
from tests.tools.processes import wait_until

HANDED_OVER = "heartbeat and gates are registered anew"
PATIENCE = 30.0


@dataclass
class Leading:
    """A daemon that leads with a token that it has from a file."""

    cluster: ConsulCluster
    agent: ConsulAgent
    daemon: Daemon
    file: Path
    accessor: str = ""

    def new_token(self) -> tuple[str, str]:
        """Another token of the documented policy: secret and accessor id."""
        secret = self.cluster.create_token((ROOT / "examples/policy.hcl").read_text())
        tokens = self.cluster.server.get("/v1/acl/tokens")
        return secret, max(tokens, key=lambda token: token["CreateIndex"])["AccessorID"]

    def delete(self, accessor: str) -> None:
        """Delete a token in Consul."""
        self.cluster.server.api("DELETE", f"/v1/acl/token/{accessor}")

    def replace(self, secret: str) -> None:
        """Put another token into the file in one step, and delete the old one at once."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{secret}\n")
        new.rename(self.file)
        self.delete(self.accessor)

    def wait(self, text: str) -> None:
        """Wait until the daemon has logged it."""
        wait_until(lambda: text in self.daemon.log(), PATIENCE, f"{text}: {self.daemon.log()}")

    def gates(self) -> list[str]:
        """The states of the leader's gates in the catalog, each the worse of its two checks."""
        checks: list[dict[str, Any]] = [
            check for entry in self.cluster.health("redis") for check in entry["Checks"]
        ]
        gates: dict[str, str] = {}
        for check in checks:
            if check["CheckID"].startswith("leadertag:"):
                gate = check["CheckID"].removesuffix(":latch")
                gates[gate] = min(check["Status"], gates.get(gate, "passing"))
        return list(gates.values())

    def trouble(self) -> list[str]:
        """What the daemon complained of, without the times."""
        lines = [line.split(" ", 2)[-1] for line in self.daemon.log().splitlines()]
        return [line for line in lines if line.startswith(("WARNING", "ERROR", "Traceback"))]

    def assert_one_role(self) -> None:
        """It was elected once, and led all the time."""
        log = self.daemon.log()
        assert log.count("-> acquiring") == 1, log
        assert log.count("-> leading") == 1, log
        assert "-> demoting" not in log
        assert "ERROR" not in log


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    need("consul")
    with ConsulCluster(tmp_path_factory.mktemp("acl"), agents=1, acl=True) as cluster:
        yield cluster


@pytest.fixture
def leading(cluster: ConsulCluster, tmp_path: Path) -> Iterator[Leading]:
    agent = cluster.agent("n1")
    register(agent, "redis", Tags=["sensu"])
    config, file = tmp_path / "leadertag.toml", tmp_path / "token"
    config.write_text(to_toml({
        "backend": "consul", "state_dir": str(tmp_path / "state"),
        "backends": {"consul": {"address": agent.address, "token_file": str(file)}},
        "elections": {"redis": {
            "service": "redis", "query": "sensu-redis-master", "tags": ["sensu"],
        }},
    }))  # fmt: skip
    found = Leading(cluster, agent, Daemon(config, name="leadertag"), file)
    secret, found.accessor = found.new_token()
    file.write_text(secret)
    found.daemon.start()
    try:
        found.wait("-> leading")
        wait_until(lambda: found.gates() == ["passing"], PATIENCE, "the gate is open")
        yield found
    finally:
        found.daemon.kill_all()
        cluster.clear()
        cluster.server.api("DELETE", "/v1/kv/leadertag", None, {"recurse": ""})


def test_no_role_changes_and_nothing_fails_twice(leading: Leading) -> None:
    secret, _ = leading.new_token()
    leading.replace(secret)
    leading.wait(HANDED_OVER)
    # Wakes both watches of the registry, whose last reads were begun with the old token.
    register(leading.agent, "redis", Tags=["sensu", "master", "more"])
    wait_until(lambda: leading.gates() == ["passing"], PATIENCE, "it stays open")
    leading.assert_one_role()
    told = leading.trouble()
    assert all("Consul does not know the token" in line for line in told), told
    sources = [line.partition(":")[0] for line in told]
    assert len(sources) == len(set(sources)), told  # each needs one retry at most
    assert secret not in leading.daemon.log()
    leading.daemon.process.signal(signal.SIGINT)
    wait_until(lambda: not leading.daemon.process.running, PATIENCE, "it ends")
    assert leading.daemon.process.exit_status == 0
    wait_until(lambda: leading.gates() == [], PATIENCE, "the catalog learns that the gate is gone")


def test_the_gate_closes_in_the_catalog_all_the_same(leading: Leading) -> None:
    """The agent synchronizes a check with the token that it was registered with."""
    secret, _ = leading.new_token()
    leading.replace(secret)
    leading.wait(HANDED_OVER)
    leading.daemon.kill_all()
    wait_until(lambda: leading.gates() == ["critical"], PATIENCE, "the gate closes")


def _emptied(file: Path) -> None:
    file.write_text("")


def _gone(file: Path) -> None:
    file.unlink()


def _garbage(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("damage", "said"),
    [(_emptied, "is empty"), (_gone, "cannot be read"), (_garbage, "is no text")],
    ids=["empty", "gone", "garbage"],
)
def test_while_the_file_is_unusable_the_last_token_counts(
    leading: Leading, damage: Callable[[Path], None], said: str
) -> None:
    damage(leading.file)
    leading.wait(f"token_file {leading.file} {said}")
    secret, _ = leading.new_token()
    leading.replace(secret)
    leading.wait(HANDED_OVER)
    leading.assert_one_role()
    assert len([line for line in leading.trouble() if "the last token still counts" in line]) == 1
    assert leading.gates() == ["passing"]
