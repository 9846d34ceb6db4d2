"""``[backends.zookeeper]``: what is right, and one clear line for what is not."""

from __future__ import annotations

from typing import Any

import pytest
from leadertag.config.table import Table
from leadertag.errors import ConfigError

from leadertag_zookeeper.settings import DEFAULT, Settings, read

WHERE = "leadertag.toml: backends.zookeeper"


def settings(**table: Any) -> Settings:
    return read(Table(table, WHERE))


def test_the_defaults_are_those_of_a_server_beside_it() -> None:
    found = settings()
    assert found.hosts == (DEFAULT,)
    assert (found.prefix, found.timeout, found.tick) == ("/leadertag", 2.0, 2.0)
    assert found.node


def test_hosts_may_stand_in_one_string_as_a_variable_brings_them() -> None:
    assert settings(hosts="zk1:2181, [::1]:2182,zk1:2181").hosts == ("zk1:2181", "[::1]:2182")
    assert settings(hosts=["zk1:2181", "zk2:2181"]).hosts == ("zk1:2181", "zk2:2181")


def test_no_session_is_shorter_than_the_servers_would_keep_it() -> None:
    assert settings().session(0.5) == 4.0
    slow = settings(tick_time="8s")
    assert (slow.gate_session, slow.report_life, slow.session(20.0)) == (16.0, 16.0, 20.0)
    assert settings(tick_time="200ms", gate_session="2s").session(0.0) == 2.0


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(settings(user="ops", password="secret"))


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"hosts": []}, "hosts names no server"),
        ({"hosts": ["zk1"]}, "'zk1' is no address"),
        ({"hosts": 2181}, "hosts must be a list"),
        ({"prefix": "leadertag"}, "prefix = 'leadertag' is no path"),
        ({"prefix": "/a//b"}, "prefix = '/a//b' is no path"),
        ({"prefix": "/"}, "prefix = '/' is no path"),
        ({"timeout": "0s"}, "timeout must be longer than 0s"),
        ({"timeout": 2}, "timeout must be a duration"),
        ({"user": "ops"}, "password is missing"),
        ({"password": "secret"}, "user is missing"),
        ({"user": "a", "password": "secret", "password_file": "/x"}, "exclude each other"),
        ({"gate_session": "3s"}, "gate_session must be 4s or more"),
        ({"tick_time": "10s", "gate_session": "4s"}, "gate_session must be 20s or more"),
        ({"report_life": "1s", "tick_time": "100ms"}, "report_life must be 2s or more"),
        ({"host": "zk1:2181"}, "unknown key 'host', did you mean 'hosts'?"),
    ],
)
def test_what_is_wrong_is_told(table: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**table)
    message = str(caught.value)
    assert named in message
    assert WHERE in message
    assert "secret" not in message
    assert "\n" not in message
