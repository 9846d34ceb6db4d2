"""The documented policies, read from the page itself: they suffice, and each rule is needed.

Everything runs as an operator has it: daemons and commands in processes of their own.
"""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import need
from tests.docs.pages import marked
from tests.integration.consul.conftest import register
from tests.tools.consul import ConsulAgent, ConsulCluster
from tests.tools.leadertag import Daemon, Finished, leadertag, to_toml
from tests.tools.processes import wait_until

PAGE = "docs/consul.md"
QUERY = "sensu-redis-master"
PATIENCE = 40.0
RULE = re.compile(r'^(\w+) "([^"]*)" \{\s*policy = "(\w+)"\s*\}', re.MULTILINE)

Rules = Mapping[str, str]
"""A rule's head (`service "redis"`) and its policy."""


def rules_of(mark: str) -> dict[str, str]:
    """The rules of a policy on the page; AssertionError for a line that is not understood."""
    text = marked(PAGE, mark).text
    assert not re.sub(r"^#.*$", "", RULE.sub("", text), flags=re.MULTILINE).strip()
    return {f'{kind} "{name}"': policy for kind, name, policy in RULE.findall(text)}


POLICY = rules_of("file: examples/policy.hcl")
READER = rules_of("acl: reader")


def without(rules: Rules, head: str) -> dict[str, str]:
    """All rules but one."""
    assert head in rules
    return {key: policy for key, policy in rules.items() if key != head}


def weaker(rules: Rules) -> list[tuple[str, dict[str, str]]]:
    """Every policy with one right less: a rule left out, or read in place of write."""
    found = [(f"without {head}", without(rules, head)) for head in sorted(rules)]
    return found + [
        (f"read for {head}", {**rules, head: "read"})
        for head in sorted(rules)
        if rules[head] == "write"
    ]


@dataclass
class Place:
    """Two nodes with the service `redis`, and tokens by policy."""

    cluster: ConsulCluster
    folder: Path
    daemons: list[Daemon] = field(default_factory=list)

    def config(self, node: str, rules: Rules) -> Path:
        """The configuration of a node, for a token with these rules, written for n1."""
        agent = self.cluster.agent(node)
        heads = {key.replace('"n1"', f'"{node}"'): policy for key, policy in rules.items()}
        text = "\n".join(f'{key} {{ policy = "{policy}" }}' for key, policy in heads.items())
        folder = self.folder / f"{node}-{uuid.uuid4().hex[:6]}"
        folder.mkdir()
        (folder / "token").write_text(self.cluster.create_token(text))
        path = folder / "leadertag.toml"
        path.write_text(to_toml({
            "backend": "consul", "state_dir": str(folder / "state"),
            "backends": {"consul": {
                "address": agent.address, "token_file": str(folder / "token"), "timeout": "5s",
            }},
            "elections": {"redis": {
                "service": "redis", "query": QUERY, "tags": ["sensu"], "lease": "6s",
                "stand_back": "1s",
            }},
        }))  # fmt: skip
        return path

    def daemon(self, config: Path) -> Daemon:
        """Start one."""
        daemon = Daemon(config, name=f"leadertag of {config.parent.name}")
        self.daemons.append(daemon)
        daemon.start()
        return daemon

    def leader(self) -> str:
        """The node that the query answers with; "" for none."""
        try:
            found = self.cluster.server.get(f"/v1/query/{QUERY}/execute")["Nodes"]
        except OSError:
            return ""  # there is no such query yet
        return ",".join(entry["Node"]["Node"] for entry in found)

    def tags(self, node: str) -> list[str]:
        """The tags of that node's instance in the catalog."""
        found = {e["Node"]["Node"]: e["Service"]["Tags"] for e in self.cluster.health("redis")}
        return sorted(found[node])

    def health(self, agent: ConsulAgent, status: str) -> None:
        """Set the service's own check."""
        agent.api("PUT", f"/v1/agent/check/{status}/own:redis")

    def clear(self) -> None:
        """Leave nothing of it."""
        for daemon in self.daemons:
            daemon.kill_all()
        self.cluster.clear()
        server = self.cluster.server
        server.api("DELETE", "/v1/kv/leadertag", None, {"recurse": ""})
        for query in server.get("/v1/query"):
            server.api("DELETE", f"/v1/query/{query['ID']}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    need("consul")
    with ConsulCluster(tmp_path_factory.mktemp("acl"), agents=2, acl=True) as cluster:
        yield cluster


@pytest.fixture
def place(cluster: ConsulCluster, tmp_path: Path) -> Iterator[Place]:
    for agent in cluster.agents:
        register(agent, "redis", Tags=["sensu"])
    wait_until(lambda: len(cluster.health("redis")) == 2, PATIENCE, "both are registered")
    found = Place(cluster, tmp_path)
    yield found
    found.clear()


def run(config: Path, *words: str) -> Finished:
    """A command with that configuration."""
    return leadertag("--config", str(config), *words)


# -- the whole policy ------------------------------------------------------------------------


def test_a_full_cycle_needs_no_other_right(place: Place) -> None:
    """Elect, publish, be resolved, restart, follow, fail over both ways, ask, check, stop."""
    n1 = place.cluster.agent("n1")
    mine, theirs = place.config("n1", POLICY), place.config("n2", POLICY)
    one = place.daemon(mine)
    wait_until(lambda: place.leader() == "n1", PATIENCE, "n1 leads")
    one.process.stop()
    one.start()
    wait_until(lambda: "adopting -> publishing" in one.log(), PATIENCE, "adoption")
    two = place.daemon(theirs)
    wait_until(lambda: place.tags("n2") == ["sensu", "slave"], PATIENCE, "n2 follows")
    assert run(mine, "status").exit_code == 0
    assert run(mine, "query", QUERY).stdout == f"{n1.ip}:6379\n"
    place.health(n1, "fail")
    wait_until(lambda: place.leader() == "n2", PATIENCE, "n2 leads")
    place.health(n1, "pass")
    wait_until(lambda: place.tags("n1") == ["sensu", "slave"], PATIENCE, "n1 follows")
    two.process.signal(signal.SIGINT)
    wait_until(lambda: place.leader() == "n1", PATIENCE, "n1 leads again")
    one.process.signal(signal.SIGINT)
    wait_until(lambda: not (one.process.running or two.process.running), PATIENCE, "both end")
    for daemon in (one, two):
        assert daemon.process.exit_status == 0, daemon.log()
    checked = run(mine, "check", "--interval", "1s", "--timeout", "4s")
    assert checked.exit_code == 0, checked
    for text in (one.log(), two.log(), checked.output):
        assert not complaints(text), text


def complaints(text: str) -> list[str]:
    """The lines that tell of a missing right."""
    words = ("denied", "the token needs", "the token lacks", "know the token")
    return [line for line in text.splitlines() if any(word in line for word in words)]


# -- each right less --------------------------------------------------------------------------

NAMED = {
    # Where Consul leaves out what may not be read, nobody can know why it is missing.
    'node_prefix ""': 'or the token lacks node_prefix "" read',
    'agent "n1"': 'permission denied: the token needs agent "<node>" { policy = "read" }',
    'key_prefix "leadertag/"': 'permission denied: the token needs key_prefix "leadertag/"',
    'query "sensu-redis-master"': 'permission denied: the token needs query "<name>"',
    'service "leadertag"': 'and service "leadertag" with policy = "write"',
    'service "redis"': 'permission denied: the token needs service "<name>"',
    'session "n1"': 'permission denied: the token needs session "<node>"',
}
"""What is said where a rule of the policy is missing or too weak."""


def test_every_rule_of_the_page_is_tried_out() -> None:
    assert sorted(NAMED) == sorted(POLICY)


@pytest.mark.parametrize(("what", "rules"), [pytest.param(*w, id=w[0]) for w in weaker(POLICY)])
def test_one_right_less_breaks_it(place: Place, what: str, rules: dict[str, str]) -> None:
    head = re.sub(r"^(without|read for) ", "", what)
    daemon = place.daemon(place.config("n1", rules))
    try:
        wait_until(lambda: complaints(daemon.log()), PATIENCE, "it complains")
    except AssertionError as error:
        raise AssertionError(f"{error}: {daemon.log()}") from error
    wait_until(
        lambda: any(NAMED[head] in line for line in complaints(daemon.log())), PATIENCE,
        f"{NAMED[head]}: {daemon.log()}",
    )  # fmt: skip
    assert "Traceback" not in daemon.log()
    assert (daemon.config.parent / "token").read_text() not in daemon.log()
    # Broken: never resolved by the query.
    assert place.leader() == ""


# -- who only looks -----------------------------------------------------------------------------


@pytest.fixture
def led(place: Place) -> Place:
    """With a leader on n1."""
    place.daemon(place.config("n1", POLICY))
    wait_until(lambda: place.leader() == "n1", PATIENCE, "n1 leads")
    return place


def looks(config: Path) -> list[Finished]:
    """What a user without a daemon asks for."""
    return [run(config, "status"), run(config, "query", QUERY)]


def test_the_reader_s_policy_suffices(led: Place) -> None:
    assert set(READER.values()) == {"read"}
    status, query = looks(led.config("n1", READER))
    assert status.exit_code == 0, status
    assert "n1/redis leads" in status.stdout
    assert query.stdout == f"{led.cluster.agent('n1').ip}:6379\n"
    assert not status.stderr + query.stderr


@pytest.mark.parametrize("head", sorted(READER))
def test_each_rule_of_the_reader_s_is_needed(led: Place, head: str) -> None:
    done = looks(led.config("n1", without(READER, head)))
    failed = [one for one in done if one.exit_code]
    assert failed, done
    for one in failed:
        assert one.exit_code == 1
        assert any(word in one.output for word in ("needs", "in doubt", "answers with nobody")), one


def test_the_reader_may_change_nothing(led: Place) -> None:
    config = led.config("n1", READER)
    checked = run(config, "check", "--interval", "1s", "--timeout", "1s")
    assert checked.exit_code != 0
    assert led.leader() == "n1"
