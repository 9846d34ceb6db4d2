"""``check`` and the predecessor's command: what they hand over, and what they print."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from leadertag import oneshot
from leadertag.cli import predecessor
from leadertag.config.settings import ElectionSettings, Settings
from leadertag.errors import BackendUnavailable, ConfigError
from tests.unit.cli.conftest import Cli

FILE = """
backend = "local"
[elections.redis]
service = "redis"
query = "q"
lease = "40s"
[[elections.redis.hooks]]
use = "command"
command = ["/bin/true"]
"""
TWO = FILE + '[elections.web]\nservice = "web"\n'


class Check:
    """Stands in for leadertag.oneshot.check."""

    def __init__(self) -> None:
        self.settings: Settings
        self.election: ElectionSettings
        self.given: dict[str, Any] = {}
        self.result = oneshot.CheckResult(0, "n1/redis leads, term 7", {"term": 7})
        self.error: Exception | None = None

    def __call__(self, settings: Settings, election: ElectionSettings, **given: Any) -> Any:
        self.settings, self.election, self.given = settings, election, given
        if self.error:
            raise self.error
        return self.result


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """What is called instead of an election."""
    fake = Check()
    monkeypatch.setattr(oneshot, "check", fake)
    return fake


def test_flags_alone(cli: Cli, check: Check) -> None:
    result = cli(
        "check", "--service", "redis", "--id", "redis-1", "--query", "sensu-redis-master",
        "--tag", "sensu", "--tag", "blue", "--leader-tag", "primary", "--follower-tag", "replica",
        "--interval", "1s", "--timeout", "2s", "--lease", "9s", "--check-id", "a",
        "--check-id", "b", "--backend", "local", "--registry-backend", "consul",
        "--state-dir", "/state",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert result.out == "leadertag: n1/redis leads, term 7\n"
    settings, election = check.settings, check.election
    assert (settings.lock, settings.registry, settings.query) == ("local", "consul", "local")
    assert settings.state_dir == "/state"
    assert (election.service, election.instance_id) == ("redis", "redis-1")
    assert (election.query, election.tags) == ("sensu-redis-master", ("sensu", "blue"))
    assert (election.leader_tag, election.follower_tag) == ("primary", "replica")
    assert (election.lease, election.compat) == (9.0, "")
    assert election.query_definition is not None
    assert election.query_definition.tags == ("sensu", "blue", "primary")
    assert check.given == {"interval": 1.0, "timeout": 2.0, "own_checks": ("a", "b")}


def test_the_defaults(cli: Cli, check: Check) -> None:
    assert cli("check", "--service", "redis").code == 0
    assert check.settings.lock == "consul"
    assert check.election.lease == 25.0
    assert (check.election.leader_tag, check.election.follower_tag) == ("master", "slave")
    assert check.given == {"interval": 10.0, "timeout": 5.0, "own_checks": ()}


def test_the_default_lease_follows_the_interval(cli: Cli, check: Check) -> None:
    cli("check", "--service", "redis", "--interval", "1s", "--timeout", "500ms")
    assert check.election.lease == 2.5


def test_variables(cli: Cli, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERTAG_INTERVAL", "2s")
    monkeypatch.setenv("LEADERTAG_TIMEOUT", "1s")
    monkeypatch.setenv("LEADERTAG_CHECK_ID", "a, b")
    cli("check", "--service", "redis")
    assert check.given == {"interval": 2.0, "timeout": 1.0, "own_checks": ("a", "b")}
    assert check.election.lease == 5.0
    monkeypatch.setenv("LEADERTAG_LEASE", "30s")
    cli("check", "--service", "redis", "--interval", "3s", "--check-id", "c")
    assert check.election.lease == 30.0
    assert check.given == {"interval": 3.0, "timeout": 1.0, "own_checks": ("c",)}
    cli("check", "--service", "redis", "--lease", "31s")
    assert check.election.lease == 31.0


def test_an_election_of_the_file(cli: Cli, check: Check, config: Callable[[str], str]) -> None:
    path = config(TWO)
    assert cli("check", "--config", path, "--election", "redis").code == 0
    assert (check.election.name, check.election.lease) == ("redis", 40.0)
    assert [hook.use for hook in check.election.hooks] == ["command"]
    cli("check", "--config", path, "--election", "web", "--follower-tag", "x")
    assert (check.election.lease, check.election.follower_tag) == (25.0, "x")


def test_the_one_election_of_the_file(cli: Cli, check: Check, config: Callable[[str], str]) -> None:
    cli("check", "--config", config(FILE), "--lease", "50s")
    assert (check.election.name, check.election.lease) == ("redis", 50.0)


def test_flags_for_the_file_s_election_bear_its_name(
    cli: Cli, check: Check, config: Callable[[str], str]
) -> None:
    cli("check", "--config", config(TWO), "--service", "redis", "--query", "q")
    assert (check.election.name, check.election.hooks) == ("redis", ())
    cli("check", "--config", config(TWO), "--service", "redis", "--query", "r")
    assert check.election.name == "r"


WRONG: dict[tuple[str, ...], str] = {
    (): "name a service with --service (no configuration: there is no ",
    ("--query", "q"): "--query without --service: which service is meant?",
    ("--service", "a b"): "--service: service = 'a b' must not contain spaces",
    ("--service", "r", "--tag", "master"): "options: tags contains the leader tag 'master'",
    ("--service", "r", "--lease", "3"): "--lease: lease = '3' is no duration",
    ("--service", "r", "--leader-tag", "slave"): "leader_tag and follower_tag are both 'slave'",
    ("--service", "r", "--compat", "x"): "--compat: compat = 'x' is none of",
    ("--service", "r", "--election", "e"): "--election and --service exclude each other",
    ("--service", "r", "--backend", "a/b"): "--backend = 'a/b' must not contain",
    ("--election", "e"): "no configuration: there is no ",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage(words: tuple[str, ...], cli: Cli, check: Check) -> None:
    result = cli("check", *words)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert WRONG[words] in result.err
    assert check.given == {}


@pytest.mark.parametrize(
    ("variable", "value"), [("LEADERTAG_INTERVAL", "1"), ("LEADERTAG_TIMEOUT", "x")]
)
def test_a_wrong_variable(
    variable: str, value: str, cli: Cli, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    result = cli("check", "--service", "r")
    assert result.code == 2
    assert result.err.startswith(f"leadertag: {variable}: '{value}' is no duration")


def test_several_elections_and_none_named(
    cli: Cli, check: Check, config: Callable[[str], str]
) -> None:
    result = cli("check", "--config", config(TWO))
    assert result.err == "leadertag: name one election with --election: redis, web\n"
    result = cli("check", "--config", config(TWO), "--election", "redsi")
    assert "there is no election 'redsi', did you mean 'redis'?" in result.err


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (1, 1), (2, 2), (7, 2), (-1, 2)])
def test_exit_codes(code: int, exit_code: int, cli: Cli, check: Check) -> None:
    check.result = oneshot.CheckResult(code, "two\nlines", {})
    result = cli("check", "--service", "r")
    assert (result.code, result.out) == (exit_code, "leadertag: two lines\n")


def test_json(cli: Cli, check: Check) -> None:
    check.result = oneshot.CheckResult(1, "not settled", {"term": 3})
    result = cli("check", "--service", "r", "--json")
    assert result.json == {"exit_code": 1, "line": "not settled", "details": {"term": 3}}


@pytest.mark.parametrize(
    ("error", "code"), [(BackendUnavailable("Consul hangs"), 1), (ConfigError("too short"), 2)]
)
def test_every_line_of_a_check_bears_the_marker(
    error: Exception, code: int, cli: Cli, check: Check
) -> None:
    check.error = error
    result = cli("check", "--service", "r")
    assert (result.code, result.out, result.err) == (code, "", f"leadertag: {error}\n")


def test_log_lines_of_a_check_bear_the_marker_too(
    cli: Cli, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    def talk(*_: object, **__: object) -> object:
        logging.getLogger("leadertag.x").warning("beware of very-secret")
        logging.getLogger("elsewhere").error("not ours to tell")
        return SimpleNamespace(exit_code=0, line="ok", details={})

    monkeypatch.setattr(oneshot, "check", talk)
    monkeypatch.setenv("LEADERTAG_BACKENDS__CONSUL__TOKEN", "very-secret")
    result = cli("check", "--service", "r")
    assert result.err == "leadertag: WARNING beware of ***\n"
    assert cli("check", "--service", "r", "--log-level", "error").err == ""


def test_a_wrong_log_level_in_the_environment(
    cli: Cli, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADERTAG_LOG_LEVEL", "warnig")
    result = cli("check", "--service", "r")
    assert result.code == 2
    assert "LEADERTAG_LOG_LEVEL: there is no level 'warnig', did you mean 'warning'?" in result.err


def test_the_help_says_what_is_promised(cli: Cli) -> None:
    text = " ".join(cli("check", "--help").out.split())
    assert "The promise is therefore about resolution" in text
    assert '"args": ["leadertag", "check", "--service", "redis"' in text


# -- the predecessor's command ----------------------------------------------------------------

PLAIN = ["-consul-service-name", "redis", "-consul-query-name", "sensu-redis-master"]


@pytest.mark.parametrize(
    "words",
    [
        [*PLAIN, "-consul-query-tag", "sensu"],
        [word.replace("-consul", "--consul") for word in [*PLAIN, "-consul-query-tag", "sensu"]],
        ["-consul-service-name=redis", "--consul-query-name=sensu-redis-master",
         "-consul-query-tag=master", "--consul-query-tag", "sensu"],
        ["-consul-service-name", "other", "-consul-query-tag=sensu", *PLAIN, "word", "-ignored"],
        [*PLAIN, "-consul-query-tag", "sensu", "--", "-ignored"],
    ],
)  # fmt: skip
def test_the_predecessor_s_flags(words: list[str], cli: Cli, check: Check) -> None:
    result = cli(*words, entry=predecessor.main)
    assert (result.code, result.err) == (0, "")
    assert result.out == "leadertag: n1/redis leads, term 7\n"
    election = check.election
    assert (election.service, election.query) == ("redis", "sensu-redis-master")
    assert election.tags == ("sensu",)
    assert (election.leader_tag, election.follower_tag) == ("master", "slave")
    assert election.compat == "consul-master-election-tagger"
    assert (election.lease, check.given["interval"]) == (25.0, 10.0)
    assert check.settings.lock == "consul"


def test_the_predecessor_s_variables(
    cli: Cli, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADERTAG_INTERVAL", "1s")
    monkeypatch.setenv("LEADERTAG_LEASE", "12s")
    monkeypatch.setenv("LEADERTAG_LEADER_TAG", "primary")
    cli(*PLAIN, entry=predecessor.main)
    assert (check.election.lease, check.given["interval"]) == (12.0, 1.0)
    assert check.election.leader_tag == "master"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "-consul-service-name is missing"),
        (["-consul-service-name", ""], "-consul-service-name is missing"),
        (["-consul-service-name", "x"], "-consul-query-name is missing"),
        (["-consul-service-nam=x"], "not defined: -consul-service-nam, did you mean '-consul-ser"),
        (["---x"], "bad flag syntax: ---x"),
        (["-=x"], "bad flag syntax: -=x"),
        ([*PLAIN, "-consul-query-tag"], "flag needs an argument: -consul-query-tag"),
        (["-json"], "flag provided but not defined: -json"),
        (["-consul-service-name", "a b", "-consul-query-name", "q"], "--service: service = 'a b'"),
    ],
)
def test_wrong_flags(words: list[str], says: str, cli: Cli, check: Check) -> None:
    result = cli(*words, entry=predecessor.main)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("leadertag: ")
    assert says in result.err


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help"])
def test_the_predecessor_s_help(word: str, cli: Cli, check: Check) -> None:
    result = cli(*PLAIN, word, entry=predecessor.main)
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("Usage of consul-master-election-tagger:\n  -consul-query-name st")
    assert check.given == {}
