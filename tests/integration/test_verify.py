"""A leader whose Redis was restarted behind leadertag's back: real daemons, the embedded backend.

Redis comes back as its file says, as a replica of nobody, and an I1 that trusted it would have
a published leader that refuses writes. The lease is long: nothing here hangs on being quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.leadertag import Daemon, Finished, leadertag
from tests.tools.processes import wait_until

PATIENCE = 60.0
NAMES = ("n1", "n2")
CONFIG = """\
backend = "local"
state_dir = "{folder}/state-{node}"
[backends.local]
path = "{folder}/leadertag.db"
node = "{node}"
[elections.redis]
service = "redis"
lease = "30s"
on_stop = "release"
[elections.redis.instance]
id = "{node}"
address = "{ip}"
port = {port}
check = {{ tcp = "{ip}:{port}", interval = "200ms" }}
[[elections.redis.hooks]]
use = "redis"
url = "{url}"
timeout = {{ verify = "20s" }}
"""


class Site:
    """Redis servers, each with a leadertag of its own."""

    def __init__(self, folder: Path, make: Callable[..., Any]) -> None:
        self.folder = folder
        self.redis = {name: make(replicaof="127.0.0.1 1") for name in NAMES}
        self.configs = {name: self._config(name) for name in NAMES}
        self.daemons = {name: Daemon(self.configs[name], name=name) for name in NAMES}

    def _config(self, name: str) -> Path:
        server, path = self.redis[name], self.folder / f"{name}.toml"
        path.write_text(
            CONFIG.format(
                folder=self.folder, node=name, ip=server.ip, port=server.port, url=server.url
            )
        )
        return path

    def close(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill_all()

    def log(self, name: str) -> str:
        path = self.configs[name].with_suffix(".log")
        return path.read_text() if path.exists() else ""

    def wait_leads(self, name: str, term: int) -> None:
        told = f"publishing -> leading, term {term}"
        wait_until(lambda: told in self.log(name), PATIENCE, f"{name} leads in term {term}")
        assert self.redis[name].role() == "master"

    def wait_follows(self, name: str, leader: str) -> None:
        def follows() -> bool:
            return bool(self.redis[name].info().get("master_host") == self.redis[leader].ip)

        wait_until(follows, PATIENCE, f"{name} follows {leader}")
        wait_until(self.redis[name].master_link_up, PATIENCE, "the link")

    def replicaof_calls(self, name: str) -> int:
        stats = self.redis[name].info("commandstats")
        return int(stats.get("cmdstat_replicaof", {"calls": 0})["calls"])

    def leader(self) -> str:
        """Who is resolved as leader."""
        found = leadertag("--config", str(self.configs["n1"]), "status", "--json").json
        leader = found["elections"][0]["leader"]
        return leader["id"] if leader else ""

    def check(self, name: str) -> Finished:
        """One run of ``check`` there."""
        words = ("check", "--interval", "5s", "--timeout", "4s")
        return leadertag("--config", str(self.configs[name]), *words)


@pytest.fixture
def site(tmp_path: Path, redis_factory: Callable[..., Any]) -> Iterator[Site]:
    made = Site(tmp_path, redis_factory)
    yield made
    made.close()


def test_a_service_that_went_on_leading_keeps_its_term(site: Site) -> None:
    site.daemons["n1"].start()
    site.wait_leads("n1", 1)
    before = site.replicaof_calls("n1")
    site.daemons["n1"].kill()
    site.daemons["n1"].start()
    wait_until(lambda: "verifying -> publishing, term 1" in site.log("n1"), PATIENCE, "verified")
    wait_until(lambda: site.log("n1").count("-> leading, term 1") == 2, PATIENCE, "it leads")
    assert site.replicaof_calls("n1") == before


def test_one_that_was_restarted_with_its_leadertag_is_succeeded(site: Site) -> None:
    site.daemons["n1"].start()
    site.wait_leads("n1", 1)
    site.daemons["n2"].start()
    site.wait_follows("n2", "n1")
    site.redis["n1"].set("key", "kept")
    wait_until(lambda: site.redis["n2"].get("key") == "kept", PATIENCE, "the key")

    site.daemons["n1"].kill()
    site.redis["n1"].restart()  # empty, for it keeps no file: the others come first
    site.daemons["n1"].start()
    wait_until(lambda: "-> leading" in site.log("n2"), PATIENCE, "n2 leads")
    assert "verifying -> retracting, term 1" in site.log("n1")
    site.wait_follows("n1", "n2")
    wait_until(lambda: site.redis["n1"].get("key") == "kept", PATIENCE, "the key")
    assert site.leader() == "n2"


def test_one_that_is_alone_leads_anew_in_a_new_term(site: Site) -> None:
    site.daemons["n1"].start()
    site.wait_leads("n1", 1)
    site.daemons["n1"].kill()
    site.redis["n1"].restart()
    site.daemons["n1"].start()
    site.wait_leads("n1", 2)
    assert "verifying -> retracting, term 1" in site.log("n1")


def test_every_run_of_check_asks_the_leaders_service(site: Site) -> None:
    wait_until(lambda: site.check("n1").exit_code == 0, PATIENCE, "n1 leads")
    assert site.redis["n1"].role() == "master"
    before = site.replicaof_calls("n1")
    assert "leads, term 1" in site.check("n1").stdout
    assert site.replicaof_calls("n1") == before

    site.redis["n1"].restart()
    run = site.check("n1")
    assert (run.exit_code, site.redis["n1"].role()) == (1, "slave")
    assert "leads, term" not in run.stdout
    assert site.leader() == ""
    wait_until(lambda: site.check("n1").exit_code == 0, PATIENCE, "n1 leads anew")
    assert site.redis["n1"].role() == "master"
