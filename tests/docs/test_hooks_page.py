"""The hooks' page: its scripts, templates and hook are run."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from leadertag.config.table import Table
from leadertag.errors import ConfigError, HookError
from leadertag.hooks.command import CommandHook, variables
from leadertag.hooks.loading import LoadedHook
from leadertag.hooks.template import TemplateHook
from leadertag.hooks.wire import decode_change, encode_change
from leadertag.hookspecs import PROJECT, HookEvent, RoleChange, Specs
from tests.docs.pages import ROOT, blocks, marked, prose, text_of
from tests.docs.samples import a_change

if TYPE_CHECKING:
    from tests.tools.redis import RedisServer

PAGE = "docs/hooks.md"


def signature(name: str) -> str:
    """The signature as it stands in the source, without quotes around its types."""
    return f"def {name}{inspect.signature(getattr(Specs, name))}".replace("'", "")


@pytest.mark.parametrize("event", list(HookEvent))
def test_the_exact_signature_of_every_hook_stands_there(event: HookEvent) -> None:
    assert f"\n{signature(f'leadertag_{event}')}\n" in text_of(PAGE)


def test_no_other_hook_stands_there() -> None:
    told = set(re.findall(r"\bleadertag_(\w+)\(", text_of(PAGE)))
    assert told == {str(event) for event in HookEvent}


def test_every_event_and_field_is_explained() -> None:
    rows = set(re.findall(r"^\| `(\w+)` +\|", prose(PAGE), re.MULTILINE))
    assert {str(event) for event in HookEvent} <= rows
    assert {field.name for field in fields(RoleChange)} <= rows


def test_the_commands_variables() -> None:
    told = set(re.findall(r"`(LEADERTAG_[A-Z_]+)`", prose(PAGE)))
    assert told == set(variables(a_change()))


def test_the_commands_standard_input() -> None:
    shown = json.loads(marked(PAGE, "stdin of the command hook").text)
    assert shown == encode_change(a_change())
    assert decode_change(shown) == a_change()


def test_the_script(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = {
        "command": [str(ROOT / "examples/on-role-change")],
        "environment": {"ROLE_LOG": str(log)},
    }
    hook = CommandHook(Table(settings, "x"))
    hook.leadertag_promote(a_change(HookEvent.PROMOTE))
    hook.leadertag_demote(a_change(HookEvent.DEMOTE, "its health is critical"))
    hook.leadertag_follow(a_change(HookEvent.FOLLOW))
    assert log.read_text().splitlines() == [
        "redis leads election redis, term 7",
        "redis leads no more: its health is critical",
        "redis follows 10.0.0.1:6379",
    ]
    with pytest.raises(HookError, match="unknown event fence"):
        hook.leadertag_fence(a_change(HookEvent.FENCE))


def rendered(example: str, event: HookEvent, tmp_path: Path) -> str:
    """What the template hook makes of an example."""
    out = tmp_path / "out"
    settings = {"source": str(ROOT / "examples" / example), "destination": str(out)}
    hook = TemplateHook(Table(settings, "x"))
    getattr(hook, f"leadertag_{event}")(a_change(event))
    return out.read_text()


@pytest.mark.parametrize(
    ("event", "replicaof"),
    [
        (HookEvent.PROMOTE, "NO ONE"),
        (HookEvent.FOLLOW, "10.0.0.1 6379"),
        (HookEvent.DEMOTE, "127.0.0.1 1"),
    ],
)
def test_the_script_that_is_rendered(event: HookEvent, replicaof: str, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-cli").write_text('#!/bin/sh\necho "$@"\n')
    (programs / "redis-cli").chmod(0o755)
    script = rendered("redis-promote.sh.j2", event, tmp_path)
    env = {"PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(["sh"], input=script, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"-h 10.0.0.2 -p 6379 REPLICAOF {replicaof}\n"


def test_the_configuration_that_is_rendered(tmp_path: Path) -> None:
    server = "    server redis 10.0.0.1:6379 check"
    assert server in rendered("haproxy.cfg.j2", HookEvent.FOLLOW, tmp_path)
    text = rendered("haproxy.cfg.j2", HookEvent.DEMOTE, tmp_path)
    assert "server redis" not in text
    if shutil.which("haproxy"):
        (tmp_path / "haproxy.cfg").write_text(text)
        subprocess.run(["haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg")], check=True)


def test_redis(redis_factory: Callable[..., RedisServer], tmp_path: Path) -> None:
    """The page's configuration, on two real servers."""
    leader, other = redis_factory(), redis_factory()
    section = text_of(PAGE).partition("\n## `redis`\n")[2]
    block = next(b for b in blocks("toml", page=PAGE) if b.text in section)
    [options] = tomllib.loads(block.text)["elections"]["redis"]["hooks"]
    del options["use"], options["timeout"]
    password = tmp_path / "password"
    password.write_text("\n")
    hook = LoadedHook("redis", "x", {**options, "url": other.url, "password_file": str(password)})

    def change(event: HookEvent) -> RoleChange:
        shape = encode_change(a_change(event))
        shape["instance"] |= {"address": other.ip, "port": other.port}
        if shape["leader"]:
            mine = event is HookEvent.PROMOTE
            shape["leader"] |= {"address": other.ip if mine else leader.ip}
        return decode_change(shape)

    hook.call(change(HookEvent.FOLLOW))
    assert other.role() == "slave"
    assert other.info()["master_host"] == leader.ip
    hook.call(change(HookEvent.PROMOTE))
    assert other.role() == "master"
    hook.call(change(HookEvent.DEMOTE))
    assert other.role() == "slave"
    assert other.info()["master_port"] == 1


# -- the page's own hook ---------------------------------------------------------------------------


def own_hook(settings: dict[str, Any]) -> Any:
    """The hook of the page, made with those settings."""
    [block] = blocks("python", page=PAGE)
    namespace: dict[str, Any] = {"__name__": "leadertag_announce"}
    exec(compile(block.text, str(block), "exec"), namespace)
    read = Table(settings, "x")
    hook = namespace["AnnounceHook"](read)
    read.done()
    return hook


def test_the_own_hook_fits_the_specifications(tmp_path: Path) -> None:
    log = tmp_path / "log"
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    manager.register(own_hook({"path": str(log), "prefix": "> "}))
    manager.check_pending()
    manager.hook.leadertag_before_promote(change=a_change())
    manager.hook.leadertag_role_changed(change=a_change())
    assert log.read_text() == "> redis follower 7\n"
    with pytest.raises(ConfigError, match="unknown key 'pth'"):
        own_hook({"path": "x", "pth": "x"})


def test_the_own_hooks_veto() -> None:
    shape = encode_change(a_change(HookEvent.BEFORE_PROMOTE))
    shape["instance"]["meta"] = {"maintenance": "yes"}
    with pytest.raises(HookError, match="redis is under maintenance"):
        own_hook({"path": "x"}).leadertag_before_promote(decode_change(shape))


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Any) -> None:
    exec(compile(block.text, str(block), "exec"), {"__name__": "sample"})
