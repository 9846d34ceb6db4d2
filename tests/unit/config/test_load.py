"""What becomes of a good configuration: every key, every default, and who wins over whom."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from leadertag.config.hooks import TIMEOUTS
from leadertag.config.load import Options, default_state_dir, load
from leadertag.config.settings import CheckSettings, ElectionSettings
from leadertag.errors import ConfigError
from leadertag.hookspecs import HookEvent
from leadertag.model import QueryDefinition
from tests.unit.config.conftest import Load

FULL = """
lock = "etcd"
registry = "consul"
query = "consul"
state_dir = "/var/lib/lt"

[backends.consul]
address = "http://127.0.0.1:8500"
token_file = "/etc/leadertag/consul.token"

[elections.redis]
service = "redis"
service_id = "redis-1"
query = "sensu-redis-master"
tags = ["sensu", "!old"]
leader_tag = "primary"
follower_tag = "replica"
lease = "5s"
on_backend_loss = "hold"
on_stop = "release"
stand_back = "500ms"

[elections.redis.query_options]
near = "_agent"
failover_nearest = 2
failover_datacenters = ["dc2"]
dns_ttl = "10s"
only_passing = false
service_meta = { tier = "a" }
node_meta = { rack = "7" }

[[elections.redis.hooks]]
use = "redis"
url = "redis://127.0.0.1:6379"

[[elections.redis.hooks]]
use = "command"
events = ["promote", "demote"]
command = ["/usr/local/bin/on-role-change"]
timeout = { promote = "20s" }

[[elections.redis.hooks]]
use = "template"
timeout = "3s"

[elections.redis.instance]
address = "10.0.0.1"
port = 6379
tags = ["sensu", "blue"]
meta = { version = "7" }
check = { tcp = "127.0.0.1:6379", interval = "500ms" }
"""


def one(load_text: Load, text: str, **environ: str) -> ElectionSettings:
    (election,) = load_text(text, **environ).elections
    return election


def test_every_key(load_text: Load) -> None:
    settings = load_text(FULL)
    assert (settings.lock, settings.registry, settings.query) == ("etcd", "consul", "consul")
    assert settings.state_dir == "/var/lib/lt"
    assert settings.backends["consul"]["token_file"] == "/etc/leadertag/consul.token"
    (election,) = settings.elections
    assert election.name == "redis"
    assert election.where == f"{settings.source}: elections.redis"
    assert election.instance_id == "redis-1"
    assert election.key == "redis/sensu-redis-master"
    assert (election.leader_tag, election.follower_tag) == ("primary", "replica")
    assert (election.lease, election.stand_back) == (5.0, 0.5)
    assert (election.on_backend_loss, election.on_stop) == ("hold", "release")
    assert election.query_definition == QueryDefinition(
        name="sensu-redis-master",
        service="redis",
        tags=("sensu", "!old", "primary"),
        only_passing=False,
        near="_agent",
        failover_nearest=2,
        failover_datacenters=("dc2",),
        dns_ttl="10s",
        service_meta={"tier": "a"},
        node_meta={"rack": "7"},
    )


def test_the_hooks_of_every_key(load_text: Load) -> None:
    redis, command, template = one(load_text, FULL).hooks
    assert redis.events is None
    assert redis.timeouts == TIMEOUTS
    assert redis.options == {"url": "redis://127.0.0.1:6379"}
    assert redis.where.endswith(": elections.redis.hooks[0]")
    assert command.events == frozenset({HookEvent.PROMOTE, HookEvent.DEMOTE})
    assert command.timeouts == {**TIMEOUTS, HookEvent.PROMOTE: 20.0}
    assert command.options == {"command": ["/usr/local/bin/on-role-change"]}
    assert template.timeouts == dict.fromkeys(HookEvent, 3.0)


def test_every_event_has_a_default_timeout() -> None:
    assert set(TIMEOUTS) == set(HookEvent)


def test_the_instance_of_every_key(load_text: Load) -> None:
    instance = one(load_text, FULL).instance
    assert instance is not None
    assert (instance.id, instance.address, instance.port) == ("redis-1", "10.0.0.1", 6379)
    assert instance.tags == ("sensu", "blue")
    assert instance.meta == {"version": "7"}
    assert instance.check == CheckSettings("tcp", ("127.0.0.1:6379",), 0.5, 1.0)


def test_the_defaults(load_text: Load) -> None:
    settings = load_text('[elections.web]\nservice = "web"\n')
    assert (settings.lock, settings.registry, settings.query) == ("consul",) * 3
    assert settings.elections == (
        ElectionSettings("web", "web", f"{settings.source}: elections.web"),
    )
    assert settings.elections[0].key == "web/master"
    assert settings.elections[0].query_definition is None


def test_an_instance_carries_what_the_query_asks_for(load_text: Load) -> None:
    election = one(
        load_text,
        '[elections.web]\nservice = "web"\nquery = "q"\ntags = ["a", "!b"]\n'
        'instance = { address = "::1", port = 1 }\n',
    )
    assert election.instance is not None
    assert (election.instance.id, election.instance.tags) == ("web", ("a",))


@pytest.mark.parametrize(
    ("check", "kind", "target"),
    [
        ('tcp = "[::1]:80"', "tcp", ("[::1]:80",)),
        ('http = "https://127.0.0.1/health"', "http", ("https://127.0.0.1/health",)),
        ('command = ["/bin/true", "x"]', "command", ("/bin/true", "x")),
    ],
)
def test_kinds_of_checks(load_text: Load, check: str, kind: str, target: tuple[str]) -> None:
    text = '[elections.w]\nservice = "w"\n[elections.w.instance]\naddress = "a"\nport = 1\n'
    instance = one(load_text, f"{text}check = {{ {check} }}").instance
    assert instance is not None
    assert instance.check == CheckSettings(kind, target, 1.0, 1.0)


def test_no_file_is_no_error(tmp_path: Path) -> None:
    settings = load(environ={"HOME": str(tmp_path)})
    assert settings.source == "defaults"
    assert settings.elections == ()


# -- precedence ------------------------------------------------------------------------------

KINDS = """
backend = "file"
lock = "file-lock"
"""


def test_in_one_layer_a_kind_wins_over_backend(load_text: Load) -> None:
    settings = load_text(KINDS)
    assert (settings.lock, settings.registry, settings.query) == ("file-lock", "file", "file")


def test_a_variable_wins_over_the_file(load_text: Load) -> None:
    settings = load_text(KINDS, LEADERTAG_BACKEND="env")
    assert (settings.lock, settings.registry, settings.query) == ("env", "env", "env")
    settings = load_text(KINDS, LEADERTAG_QUERY_BACKEND="env")
    assert (settings.lock, settings.registry, settings.query) == ("file-lock", "file", "env")


def test_an_option_wins_over_a_variable(load_text: Load) -> None:
    options = Options(top={"registry": "option"})
    settings = load_text(KINDS, options, LEADERTAG_BACKEND="env", LEADERTAG_LOCK_BACKEND="lock")
    assert (settings.lock, settings.registry, settings.query) == ("lock", "option", "env")


ELECTION = '[elections.redis-a]\nservice = "redis"\nlease = "4s"\n'


@pytest.mark.parametrize(
    ("environ", "option", "lease"),
    [
        ({}, None, 4.0),
        ({"LEADERTAG_LEASE": "5s"}, None, 5.0),
        ({"LEADERTAG_LEASE": "5s", "LEADERTAG_ELECTIONS__REDIS_A__LEASE": "6s"}, None, 6.0),
        ({"LEADERTAG_ELECTIONS__REDIS_A__LEASE": "6s"}, "7s", 7.0),
        ({"LEADERTAG_LEASE": ""}, None, 4.0),
    ],
)
def test_who_wins_for_a_lease(
    load_text: Load, environ: dict[str, str], option: str | None, lease: float
) -> None:
    chosen = {"redis-a": {"lease": option}} if option else {}
    options = Options(elections=chosen, defaults={"lease": "1s", "stand_back": "9s"})
    (election,) = load_text(ELECTION, options, **environ).elections
    assert (election.lease, election.stand_back) == (lease, 9.0)


def test_variables_of_one_election(load_text: Load) -> None:
    election = one(
        load_text,
        ELECTION,
        LEADERTAG_ELECTIONS__REDIS_A__TAGS="sensu, blue,",
        LEADERTAG_ELECTIONS__REDIS_A__QUERY="q",
        LEADERTAG_ON_STOP="release",
        LEADERTAG_LEADER_TAG="primary",
    )
    assert election.tags == ("sensu", "blue")
    assert (election.query, election.on_stop, election.leader_tag) == ("q", "release", "primary")


def test_variables_of_a_backend(load_text: Load) -> None:
    settings = load_text(
        '[backends.my-own]\naddress = "file"\ntimeout = "1s"\n',
        LEADERTAG_BACKENDS__MY_OWN__ADDRESS="http://127.0.0.1:8500",
        LEADERTAG_BACKENDS__MY_OWN__VERIFY="false",
        LEADERTAG_BACKENDS__MY_OWN__RETRIES="3",
        LEADERTAG_BACKENDS__MY_OWN__TOKEN='"12345"',
        LEADERTAG_BACKENDS__MY_OWN__NODE_META__RACK="seven",
        LEADERTAG_BACKENDS__MY_OWN__ENDPOINTS='["a", "b"]',
        LEADERTAG_BACKENDS__OTHER__KEY="1.2.3.4",
    )
    assert settings.backends["my-own"] == {
        "address": "http://127.0.0.1:8500",
        "timeout": "1s",
        "verify": False,
        "retries": 3,
        "token": "12345",
        "node_meta": {"rack": "seven"},
        "endpoints": ["a", "b"],
    }
    assert settings.backends["other"] == {"key": "1.2.3.4"}
    assert "LEADERTAG_BACKENDS__MY_OWN__TOKEN" in settings.origins["my-own"]
    assert "12345" not in repr(settings.origins)


def test_a_variable_reaches_a_backend_that_only_an_option_names(load_text: Load) -> None:
    options = Options(top={"backend": "my-own"})
    settings = load_text("", options, LEADERTAG_BACKENDS__MY_OWN__KEY="v")
    assert settings.backends == {"my-own": {"key": "v"}}


# -- the state directory -----------------------------------------------------------------------


def test_who_wins_for_the_state_directory(load_text: Load) -> None:
    text = 'state_dir = "/file"'
    assert load_text(text).state_dir == "/file"
    assert load_text(text, LEADERTAG_STATE_DIR="/env/").state_dir == "/env"
    options = Options(top={"state_dir": "/option"})
    assert load_text(text, options, LEADERTAG_STATE_DIR="/env").state_dir == "/option"


@pytest.mark.parametrize(
    ("environ", "where"),
    [({}, "leadertag.toml: state_dir"), ({"LEADERTAG_STATE_DIR": "x"}, "LEADERTAG_STATE_DIR")],
)
def test_a_relative_state_directory_is_refused(
    load_text: Load, environ: dict[str, str], where: str
) -> None:
    with pytest.raises(ConfigError, match=f"{where} = 'x' must be an absolute path"):
        load_text('state_dir = "x"', **environ)


@pytest.mark.parametrize(
    ("user", "environ", "path"),
    [
        (0, {"HOME": "/h"}, "/var/lib/leadertag"),
        (7, {"HOME": "HOME"}, "HOME/.local/state/leadertag"),
        (7, {"HOME": "/nonexistent"}, "TEMP/leadertag-7"),
        (7, {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/leadertag"),
        (7, {"HOME": "HOME", "XDG_STATE_HOME": "s"}, "HOME/.local/state/leadertag"),
    ],
)
def test_the_default_state_directory(
    user: int, environ: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    environ = {key: value.replace("HOME", str(tmp_path)) for key, value in environ.items()}
    path = path.replace("HOME", str(tmp_path)).replace("TEMP", tempfile.gettempdir())
    assert default_state_dir(environ) == path
