"""The merged configuration, shown: it can be read again, and no secret stands in it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.config import toml
from leadertag.config.secrets import MASK, is_secret, masked, redacted, secrets_in
from leadertag.config.settings import Settings
from leadertag.config.show import shown
from tests.unit.config.conftest import Load
from tests.unit.config.test_load import FULL


def without_places(settings: Settings) -> Settings:
    """The settings without the file's name, which differs when they are read again."""
    elections = tuple(
        replace(election, where="", hooks=tuple(replace(h, where="") for h in election.hooks))
        for election in settings.elections
    )
    return replace(settings, elections=elections, source="")


def limits(settings: Settings) -> Settings:
    """The settings with the time limits that count: those of events that a hook handles."""
    elections = tuple(
        replace(
            election,
            hooks=tuple(
                replace(h, timeouts={e: t for e, t in h.timeouts.items() if e in h.events})
                if h.events is not None
                else h
                for h in election.hooks
            ),
        )
        for election in settings.elections
    )
    return replace(settings, elections=elections)


@pytest.mark.parametrize("text", [FULL, "", '[elections.web]\nservice = "web"\n'])
def test_what_is_shown_can_be_read_again(load_text: Load, text: str) -> None:
    first = load_text(text)
    again = load_text(toml.dumps(shown(first)))
    assert limits(without_places(again)) == limits(without_places(first))


def test_defaults_are_shown(load_text: Load) -> None:
    data = shown(load_text('[elections.web]\nservice = "web"\n'))
    assert data["lock"] == "consul"
    assert data["elections"]["web"] == {
        "service": "web",
        "leader_tag": "master",
        "follower_tag": "slave",
        "lease": "3s",
        "on_backend_loss": "demote",
        "on_stop": "keep",
        "stand_back": "5s",
    }


SECRETS = """
[backends.consul]
address = "https://user:s3cret-one@127.0.0.1:8501/?token=s3cret-two&dc=dc1"
token = "s3cret-three"
token_file = "/etc/leadertag/consul.token"
http_auth = "user:s3cret-four"
nested = { api_key = "s3cret-five", list = ["redis://:s3cret-six@h"] }

[elections.redis]
service = "redis"

[[elections.redis.hooks]]
use = "redis"
url = "redis://:s3cret-seven@127.0.0.1:6379"
password = "s3cret-eight"
password_file = "/etc/leadertag/redis.password"
pin_secret = 12345678
"""


def test_no_secret_is_shown(load_text: Load) -> None:
    settings = load_text(SECRETS, LEADERTAG_BACKENDS__CONSUL__SESSION_TOKEN="s3cret-nine")
    data = shown(settings)
    for text in (toml.dumps(data), json.dumps(data)):
        assert "s3cret" not in text
        assert "12345678" not in text
        assert "/etc/leadertag/consul.token" in text
        assert "/etc/leadertag/redis.password" in text
        assert "https://user:***@127.0.0.1:8501/?token=***&dc=dc1" in text
    tomllib.loads(toml.dumps(data))


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("token", True), ("TOKEN", True), ("api_key", True), ("key", True), ("password", True),
        ("http_auth", True), ("client_secret", True), ("passphrase", True), ("pass", True),
        ("token_file", False), ("key_file", False), ("only_passing", False), ("monkey", False),
        ("author", False), ("address", False),
    ],
)  # fmt: skip
def test_which_names_hold_secrets(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_an_empty_secret_is_shown_as_empty() -> None:
    assert masked("token", "") == ""
    assert masked("token", ["a"]) == MASK


def test_a_message_is_redacted() -> None:
    secrets = secrets_in("", {"token": "abcdef", "url": "redis://:ghijkl@h", "name": "redis"})
    assert secrets == {"abcdef", "ghijkl"}
    text = redacted("abcdef and ghijkl at http://u:other@h", secrets)
    assert text == "*** and *** at http://u:***@h"


# -- TOML ------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.just(date(2026, 1, 31))
    | st.just(datetime(2026, 1, 31, 10, tzinfo=UTC))
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)


@given(st.dictionaries(texts, values, max_size=5))
def test_any_document_can_be_read_again(data: dict[str, Any]) -> None:
    assert tomllib.loads(toml.dumps(data)) == data


@given(st.integers(1, 86_400_000_000))
def test_any_time_can_be_read_again(microseconds: int) -> None:
    from leadertag.config.table import duration

    value = microseconds / 1e6
    assert duration(toml.seconds(value)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "500ms"), (3.0, "3s"), (1.5, "1.5s"), (0.0005, "0.5ms")]
)
def test_how_times_are_written(value: float, text: str) -> None:
    assert toml.seconds(value) == text
