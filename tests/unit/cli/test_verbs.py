"""The remaining verbs: ``plugins``, ``explain``, ``run``, ``demo``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag import demo, plugins
from leadertag.config.settings import Settings
from leadertag.daemon import service
from leadertag.hookspecs import HookEvent
from leadertag.model import Characteristic
from leadertag.plugins import PluginInfo
from tests.unit.cli.conftest import Cli

CONFIG = """
backend = "local"
[elections.redis]
service = "redis"
query = "q"
lease = "6s"
[[elections.redis.hooks]]
use = "command"
events = ["promote", "demote"]
command = ["/bin/true"]
timeout = { promote = "7s", demote = "2s" }
[elections.web]
service = "web"
lease = "10s"
"""

# -- plugins ---------------------------------------------------------------------------------


def test_plugins_that_are_installed(cli: Cli) -> None:
    result = cli("plugins", "--json")
    assert (result.code, result.err) == (0, "")
    found = {(plugin["kind"], plugin["name"]): plugin for plugin in result.json}
    for kind in ("lock", "registry", "query"):
        for name in ("local", "consul"):
            assert (kind, name) in found
    assert found["hook", "command"]["events"] == sorted(set(HookEvent) - {"probe"})
    assert "native-watch" in found["lock", "local"]["characteristics"]
    assert found["lock", "local"]["distribution"].startswith("leadertag ")


def test_a_broken_plugin_is_told_with_the_reason(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "installed", lambda: [
        PluginInfo("lock", "a", "dist 1", "a:A", frozenset({Characteristic.HEALTH})),
        PluginInfo("hook", "b", "dist 2", "b:B", error="the hook 'b' cannot be loaded: x"),
    ])  # fmt: skip
    result = cli("plugins")
    assert result.code == 0
    assert result.out.splitlines() == [
        "KIND  NAME  DISTRIBUTION  CHARACTERISTICS OR EVENTS",
        "lock  a     dist 1        health",
        "hook  b     dist 2        cannot be used, see below",
        "",
        "the hook 'b' cannot be loaded: x",
    ]
    assert cli("plugins", "--json").json == [
        {"kind": "lock", "name": "a", "distribution": "dist 1", "target": "a:A",
         "characteristics": ["health"], "error": ""},
        {"kind": "hook", "name": "b", "distribution": "dist 2", "target": "b:B", "events": [],
         "error": "the hook 'b' cannot be loaded: x"},
    ]  # fmt: skip


# -- explain ---------------------------------------------------------------------------------


def test_explain_in_json(cli: Cli, config: Callable[[str], str]) -> None:
    result = cli("explain", "--config", config(CONFIG), "--json")
    assert (result.code, result.err) == (0, "")
    redis, web = result.json["elections"]
    assert (redis["name"], redis["lease"], web["name"], web["lease"]) == ("redis", 6, "web", 10)
    for bound in redis["bounds"] + web["bounds"]:
        parts = sum(part["seconds"] for part in bound["parts"])
        assert bound["seconds"] == pytest.approx(parts)
        assert bound["meaning"]
    parts = {part["name"]: part["seconds"] for b in redis["bounds"] for part in b["parts"]}
    assert (parts["promote hooks"], parts["demote hooks"]) == (7.0, 2.0)
    # The daemon's session has the TTL of its longest lease, whichever election is meant.
    assert parts["backend frees the lock"] == 20.0


def test_explain_in_text(cli: Cli, config: Callable[[str], str]) -> None:
    result = cli("explain", "redis", "--config", config(CONFIG))
    lines = result.out.splitlines()
    assert lines[0] == "redis (lease 6s)"
    assert "web" not in result.out
    assert any("demote hooks 2s" in line and "promote hooks 7s" in line for line in lines)


def test_explain_for_check(cli: Cli, config: Callable[[str], str]) -> None:
    words = ("explain", "redis", "--config", config(CONFIG), "--interval", "2s", "--json")
    (election,) = cli(*words).json["elections"]
    parts = {part["name"]: part["seconds"] for b in election["bounds"] for part in b["parts"]}
    assert (parts["next run of check"], parts["backend frees the lock"]) == (2.0, 6.0)


def test_explain_refuses_what_does_not_fit(cli: Cli, config: Callable[[str], str]) -> None:
    result = cli("explain", "--config", config(CONFIG.replace('"6s"', '"2s"')))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "lease = 2s is too short" in result.err


# -- run and demo ----------------------------------------------------------------------------


def test_run_hands_over_how_to_load(
    cli: Cli, config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Settings] = []

    def run(load: Callable[[], Settings]) -> int:
        loaded.append(load())
        config(CONFIG.replace('"6s"', '"7s"'))  # SIGHUP: the file has changed
        loaded.append(load())
        return 1

    monkeypatch.setattr(service, "run", run)
    path = config(CONFIG)
    assert cli("run", "--config", path, "--query-backend", "consul").code == 1
    assert [settings.elections[0].lease for settings in loaded] == [6.0, 7.0]
    assert [settings.query for settings in loaded] == ["consul", "consul"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "there is no election: add a table"), ("x = 1", "unknown key 'x'")],
)
def test_run_refuses_before_it_begins(
    text: str, says: str, cli: Cli, config: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> int:
        raise AssertionError("it began")

    monkeypatch.setattr(service, "run", run)
    result = cli("run", "--config", config(text))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert says in result.err


def test_the_demo(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(say: Callable[[str], None], *, plain: bool) -> int:
        asked.append(plain)
        say("\nfirst")
        say("second")
        return 1

    monkeypatch.setattr(demo, "run", run)
    result = cli("demo")
    assert (result.code, result.out) == (1, "\nfirst\nsecond\n")
    result = cli("demo", "--plain", "--json")
    assert (result.code, result.json) == (1, {"exit_code": 1, "lines": ["first", "second"]})
    assert asked == [False, True]


def test_the_whole_on_the_embedded_backend(cli: Cli, config: Callable[[str], str]) -> None:
    text = CONFIG.partition("[elections.web]")[0].replace('"6s"', '"30s"')
    path = config(
        text + '[elections.redis.instance]\nid = "r1"\naddress = "127.0.0.1"\nport = 6379\n'
    )
    node = ("--config", path)
    assert cli("query", "q", *node).code == 1
    first = cli("check", *node)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("leadertag: ")
    assert " leads, term " in first.out
    assert cli("query", "q", *node).out == "127.0.0.1:6379\n"
    status = cli("status", *node, "--json")
    assert status.code == 0
    assert status.json["elections"][0]["leader"]["id"] == "r1"
