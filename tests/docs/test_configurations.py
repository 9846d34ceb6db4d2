"""Every configuration that is shown is one, and every key that there is is documented."""

from __future__ import annotations

import configparser
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.elections import FIELDS
from leadertag.config.hooks import TIMEOUTS
from leadertag.config.load import load
from leadertag.config.settings import ElectionSettings
from leadertag.config.table import Table
from leadertag.config.toml import seconds as written
from leadertag.hooks.command import CommandHook
from leadertag.hooks.redis import RedisHook
from leadertag.hooks.template import TemplateHook
from leadertag_consul import settings as consul_settings
from leadertag_etcd import settings as etcd_settings
from leadertag_local import settings as local_settings
from tests.docs.pages import Block, blocks, prose, table
from tests.docs.samples import etc, leadertag

PAGE = "docs/configuration.md"


@pytest.fixture
def announce(tmp_path: Path) -> str:
    """A folder with the page's own hook, installed as the page says."""
    module = next(b for b in blocks("python", page="docs/hooks.md"))
    setup = next(b for b in blocks("ini", page="docs/hooks.md"))
    parsed = configparser.ConfigParser()
    parsed.read_string(setup.text)
    [(group, entries)] = parsed["options.entry_points"].items()
    site = tmp_path / "site"
    info = site / "leadertag_announce-1.dist-info"
    info.mkdir(parents=True)
    (site / "leadertag_announce.py").write_text(module.text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leadertag-announce\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entries.strip()}\n")
    return str(site)


def check(text: str, folder: Path, python_path: str = "") -> str:
    """Run `config check --full` on a configuration; returns what it says when it is wrong."""
    file = folder / "leadertag.toml"
    file.write_text(text.replace("/etc/leadertag", str(etc(folder))))
    env = {"PYTHONPATH": python_path, "HOME": str(folder)}
    done = leadertag("--config", str(file), "config", "check", "--full", env=env)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_configurations_pass_the_check(block: Block, tmp_path: Path, announce: str) -> None:
    assert check(block.text, tmp_path, announce) == ""


def test_the_configuration_in_the_puppet_snippet(tmp_path: Path) -> None:
    snippet = next(b.text for b in blocks("puppet") if '@("TOML")' in b.text)
    text = snippet.partition('@("TOML"),\n')[2].partition("| TOML")[0]
    plain = "\n".join(line.strip() for line in text.splitlines()).replace("${port}", "6379")
    assert check(plain, tmp_path) == ""


def test_the_check_can_fail(tmp_path: Path) -> None:
    assert "unknown key 'querry'" in check(
        'backend = "local"\n[elections.x]\nservice = "x"\nquerry = "x"\n', tmp_path
    )


# -- keys ------------------------------------------------------------------------------------

FULL = """
backend = "local"
[elections.x]
service = "x"
query = "x"
[elections.x.query_options]
[elections.x.instance]
address = "10.0.0.1"
port = 1
check = { tcp = "127.0.0.1:1" }
[[elections.x.hooks]]
use = "command"
"""


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, frozenset[str]]:
    """The keys that each table was asked for by the time that it was done."""
    found: dict[str, frozenset[str]] = {}
    done = Table.done

    def remember(self: Table) -> None:
        found[self.where] = frozenset(self._known)
        done(self)

    monkeypatch.setattr(Table, "done", remember)
    return found


def documented(mark: str, page: str = PAGE) -> set[str]:
    return {row[0].strip("`") for row in table(page, f"keys: {mark}")}


def test_keys_of_the_file(known: Mapping[str, frozenset[str]], tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(FULL)
    load(str(file), environ={})
    election = f"{file}: elections.x"
    assert documented("top") == known[str(file)]
    assert documented("election") == known[election]
    assert documented("query_options") == known[f"{election}.query_options"]
    assert documented("instance") == known[f"{election}.instance"]
    assert documented("check") == known[f"{election}.instance.check"]


@pytest.mark.parametrize(
    ("mark", "read"),
    [
        ("consul", consul_settings.read),
        ("etcd", etcd_settings.read),
        ("local", local_settings.read_settings),
    ],
)
def test_keys_of_the_backends(
    mark: str, read: Callable[..., Any], known: Mapping[str, frozenset[str]]
) -> None:
    read(Table({}, mark), {})
    assert documented(mark) == known[mark]


@pytest.mark.parametrize(
    ("section", "make", "needed"),
    [
        ("## `command`", CommandHook, {"command": ["true"]}),
        ("## `redis`", RedisHook, {"url": "redis://x"}),
        ("## `template`", TemplateHook, {"text": "x", "destination": "/tmp/x"}),
    ],
)
def test_keys_of_the_hooks(section: str, make: Any, needed: Mapping[str, Any]) -> None:
    settings = Table(needed, "x")
    make(settings)
    part = prose("docs/hooks.md").partition(f"\n{section}\n")[2].partition("\n## ")[0]
    rows = part.partition("| key ")[2].partition("\n\n")[0].splitlines()[2:]
    assert {row.split("|")[1].strip().strip("`") for row in rows} == settings._known


def test_the_keys_that_every_hook_knows(tmp_path: Path) -> None:
    rows = table(PAGE, "keys: hook")
    assert [row[0] for row in rows] == ["`use`", "`events`", "`timeout`"]
    file = tmp_path / "f.toml"
    file.write_text(FULL + 'events = ["demote"]\ntimeout = "1s"\ncommand = ["true"]\n')
    [hook] = load(str(file), environ={}).elections[0].hooks
    assert set(hook.options) == {"command"}


# -- defaults ----------------------------------------------------------------------------------


def test_the_defaults_of_an_election() -> None:
    defaults: dict[str, Any] = {field.name: field.default for field in fields(ElectionSettings)}
    defaults["service_id"] = defaults.pop("instance_id")
    for key, kind, told, _ in table(PAGE, "keys: election"):
        name = key.strip("`")
        if name not in FIELDS or told == "required":
            continue
        default = defaults[name]
        value = tomllib.loads(f"x = {told.strip('`')}")["x"]
        if kind == "duration":
            assert value == written(default), name
        else:
            assert value == (list(default) if isinstance(default, tuple) else default), name


def test_the_limits_of_hooks() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in table(PAGE, "timeouts")}
    assert told == {str(event): written(limit) for event, limit in TIMEOUTS.items()}


def test_the_defaults_of_the_query(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(FULL)
    query = load(str(file), environ={}).elections[0].query_definition
    for key, _, told, _ in table(PAGE, "keys: query_options"):
        value = tomllib.loads(f"x = {told.strip('`')}")["x"]
        default = getattr(query, key.strip("`"))
        assert value == (list(default) if isinstance(default, tuple) else default), key


def test_the_defaults_of_the_backends() -> None:
    consul = consul_settings.read(Table({}, "x"), {})
    rows = {row[0].strip("`"): row for row in table(PAGE, "keys: consul")}
    assert rows["timeout"][3] == f"`{written(consul.timeout)}`"
    assert rows["prefix"][3] == f"`{consul.prefix}`"
    assert rows["address"][3] == f"`{consul.address}`".replace("http://", "")
    local = local_settings.read_settings(Table({}, "x"), {})
    for key, _, told, _ in table(PAGE, "keys: local"):
        if key.strip("`") in ("timeout", "gate_life", "report_life"):
            assert told == f"`{written(getattr(local, key.strip('`')))}`"


def test_the_variables_of_consul_set_what_the_page_says(tmp_path: Path) -> None:
    values = {"address": "127.0.0.2:1", "verify": "false"}
    for row in table(PAGE, "keys: consul"):
        name, variable = row[0].strip("`"), row[2].strip("`")
        if variable == "-":
            continue
        value = values.get(name, str(tmp_path))
        # A certificate is of no use without its key.
        pair = dict.fromkeys(("CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"), value)
        env = {variable: value, **(pair if variable in pair else {})}
        found = consul_settings.read(Table({}, "x"), env)
        before = consul_settings.read(Table({}, "x"), {})
        field = name.removeprefix("tls_")
        where = (found.tls, before.tls) if hasattr(found.tls, field) else (found, before)
        assert getattr(where[0], field) != getattr(where[1], field), variable
