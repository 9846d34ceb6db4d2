"""The template hook."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.errors import ConfigError, HookError
from leadertag.hooks.template import TemplateHook
from leadertag.hookspecs import HookEvent
from leadertag.model import Instance
from tests.unit.hooks.helpers import change

pytest.importorskip("jinja2")

LEADER = Instance("redis-2", "n2", "redis", "10.0.0.2", 6380)
FOLLOW = change(HookEvent.FOLLOW, leader=LEADER)


def template(folder: Path, **options: Any) -> TemplateHook:
    table = Table({"destination": str(folder / "out"), **options}, "f: hooks[0]")
    made = TemplateHook(table)
    table.done()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_writes_what_the_template_says(tmp_path: Path) -> None:
    source = tmp_path / "source.j2"
    source.write_text("{% include 'head' %}{{ role }} {{ term }} {{ leader.address }}\n")
    (tmp_path / "head").write_text("# {{ election }}, {{ instance.id }}: {{ reason }}\n")
    template(tmp_path, source=str(source)).leadertag_follow(FOLLOW)
    assert (tmp_path / "out").read_text() == "# redis, redis-1: elected\nleader 7 10.0.0.2\n"
    assert mode(tmp_path / "out") == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head", "out", "source.j2"]


def test_without_a_leader(tmp_path: Path) -> None:
    text = "{% if leader %}{{ leader.address }}{% else %}none{% endif %}"
    template(tmp_path, text=text).leadertag_demote(change(HookEvent.DEMOTE))
    assert (tmp_path / "out").read_text() == "none"


def test_the_mode_is_kept_or_set(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    out.chmod(0o600)
    template(tmp_path, text="new").leadertag_promote(FOLLOW)
    assert (out.read_text(), mode(out)) == ("new", 0o600)
    template(tmp_path, text="new", mode="0640").leadertag_promote(FOLLOW)
    assert mode(out) == 0o640


def test_the_command_runs_only_when_the_file_changed(tmp_path: Path) -> None:
    script = "echo $LEADERTAG_EVENT >> ran"
    hook = template(tmp_path, text="{{ event }}", command=["sh", "-c", f"cd {tmp_path}; {script}"])
    hook.leadertag_follow(FOLLOW)
    hook.leadertag_follow(FOLLOW)
    assert (tmp_path / "ran").read_text() == "follow\n"
    inode = (tmp_path / "out").stat().st_ino
    hook.leadertag_follow(FOLLOW)
    assert (tmp_path / "out").stat().st_ino == inode
    hook.leadertag_promote(change(HookEvent.PROMOTE))
    assert (tmp_path / "ran").read_text() == "follow\npromote\n"


def test_a_command_that_failed_is_owed_though_the_file_is_as_it_should_be(tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/go && touch {tmp_path}/ran"
    hook = template(tmp_path, text="x", command=["sh", "-c", script])
    with pytest.raises(HookError, match="sh: exit status 1"):
        hook.leadertag_follow(FOLLOW)
    (tmp_path / "go").touch()
    hook.leadertag_follow(FOLLOW)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    hook.leadertag_follow(FOLLOW)
    assert not (tmp_path / "ran").exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "out").symlink_to("real")
    template(tmp_path, text="new").leadertag_follow(FOLLOW)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ leder }}", "text: 'leder' is undefined"),
        ("{{ leader.adress }}", "has no attribute 'adress'"),
        ("one\n{% if %}", "text, line 2: "),
    ],
)
def test_a_wrong_template_changes_nothing(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(HookError, match=told):
        template(tmp_path, text=text).leadertag_follow(FOLLOW)
    assert (tmp_path / "out").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    hook = template(tmp_path / "nowhere", text="x")
    with pytest.raises(HookError, match="nowhere/out: No such file or directory"):
        hook.leadertag_follow(FOLLOW)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "either source"),
        ({"text": "a", "source": "b"}, "either source"),
        ({"source": "/nowhere/template"}, "cannot be read"),
        ({"text": "a", "mode": "rw"}, 'no file mode like "0644"'),
        ({"text": "a", "mode": "07777"}, "no file mode"),
        ({"text": "a", "command": "reload"}, "without a shell"),
    ],
)
def test_wrong_settings(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        template(tmp_path, **options)
