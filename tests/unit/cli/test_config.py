"""``config check`` and ``config show``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import pytest

from tests.unit.cli.conftest import Cli

GOOD = """
backend = "local"
[elections.redis]
service = "redis"
query = "q"
lease = "3s"
[elections.redis.instance]
address = "127.0.0.1"
port = 6379
[[elections.redis.hooks]]
use = "command"
events = ["promote", "demote"]
command = ["/bin/true"]
"""


def test_a_good_configuration(cli: Cli, config: Callable[[str], str]) -> None:
    path = config(GOOD)
    result = cli("config", "check", "--config", path)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{path}: ok (backend: local; elections: redis)\n"
    assert cli("config", "check", "--full", "--config", path).code == 0


def test_a_good_configuration_in_json(cli: Cli, config: Callable[[str], str]) -> None:
    path = config(GOOD)
    assert cli("config", "check", "--config", path, "--json").json == {
        "ok": True, "source": path, "elections": ["redis"], "warnings": [],
    }  # fmt: skip


def test_warnings(cli: Cli, config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERTAG_LAESE", "3s")
    path = config('backend = "local"\n[backends.consul]\n')
    warnings = cli("config", "check", "--config", path, "--json").json["warnings"]
    assert warnings == [
        "LEADERTAG_LAESE is ignored, did you mean 'LEASE'?",
        f"{path}: there is no election: add a table [elections.NAME]",
        "backends.consul is not used by lock, registry or query",
    ]


# What the file has beside GOOD or instead of it, and what the one line has to say.
WRONG = {
    "backend": ('backend = "locl"', ["lock provider 'locl' is not installed", "mean 'local'"]),
    "hook": (
        GOOD.replace('use = "command"', 'use = "comand"'),
        ["hooks[0]: the hook 'comand' is not installed", "mean 'command'"],
    ),
    "table": (GOOD + "[backends.locale]\n", ["backends.locale", "mean 'local'"]),
    "timing": (
        GOOD + 'timeout = { demote = "3s" }',
        ["elections.redis: lease = 3s is too short", "demote 3s"],
    ),
    "syntax": ("backend =", ["leadertag.toml:1: "]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration(case: str, cli: Cli, config: Callable[[str], str]) -> None:
    text, parts = WRONG[case]
    result = cli("config", "check", "--config", config(text))
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    for part in parts:
        assert part in result.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            GOOD + "[backends.local]\npth = 1\n",
            "backends.local (with LEADERTAG_BACKENDS__LOCAL__PA",
        ),
        (GOOD.replace("command =", "comand ="), "hooks[0]: command is missing"),
        # Without events the hook itself has to be asked what it handles.
        (
            GOOD.replace('events = ["promote", "demote"]', 'timeout = "3s"'),
            "lease = 3s is too short",
        ),
    ],
)
def test_only_a_full_check_sees_what_plugins_refuse(
    text: str, says: str, cli: Cli, config: Callable[[str], str]
) -> None:
    path = config(text)
    assert cli("config", "check", "--config", path).code == 0
    result = cli("config", "check", "--full", "--config", path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert says in result.err


def test_without_any_file(cli: Cli) -> None:
    result = cli("config", "check")
    assert result.code == 0
    assert result.out.startswith("defaults: ok (backend: consul; no elections)\nwarning: no config")


def test_show_merges_and_masks(
    cli: Cli, config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADERTAG_LEASE", "4s")
    monkeypatch.setenv("LEADERTAG_BACKENDS__CONSUL__TOKEN", "very-secret")
    words = ("config", "show", "--lock-backend", "etcd", "--config", config(GOOD))
    text, data = cli(*words), cli(*words, "--json")
    assert "very-secret" not in text.out + data.out
    assert tomllib.loads(text.out) == data.json
    assert data.json["lock"] == "etcd"
    assert data.json["registry"] == "local"
    assert data.json["elections"]["redis"]["lease"] == "4s"
    assert data.json["backends"]["consul"] == {"token": "***"}


def test_show_says_where_it_is_from(cli: Cli, config: Callable[[str], str]) -> None:
    path = config(GOOD)
    assert cli("config", "show", "--config", path).out.startswith(f"# {path}, with the env")


def test_json_of_what_json_has_no_word_for(cli: Cli, config: Callable[[str], str]) -> None:
    path = config("[backends.x]\nday = 2026-01-31\nratio = nan\n")
    data = cli("config", "show", "--config", path, "--json").json
    assert data["backends"]["x"] == {"day": "2026-01-31", "ratio": "NaN"}
