"""The table [backends.local]."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.errors import ConfigError
from leadertag_local.settings import default_path, read_settings


def read(environ: dict[str, str] | None = None, **settings: Any) -> Any:
    return read_settings(Table(settings, "file: backends.local"), environ or {})


def test_the_path_is_found_in_this_order(tmp_path: Path) -> None:
    environ = {"LEADERTAG_LOCAL_PATH": "/somewhere/x.db", "HOME": "/home/me"}
    assert read(environ, path="/else/y.db").path == "/else/y.db"
    assert read(environ).path == "/somewhere/x.db"
    assert not read(environ).own_folder
    assert read({"HOME": "/home/me"}).own_folder


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(path="x.db").path == str(tmp_path / "x.db")
    monkeypatch.setenv("HOME", "/home/me")
    assert read(path="~/x.db").path == "/home/me/x.db"


@pytest.mark.parametrize(
    ("user", "environ", "path"),
    [
        (0, {"HOME": "/root"}, "/var/lib/leadertag/leadertag.db"),
        (1000, {"HOME": "HOME"}, "HOME/.local/state/leadertag/leadertag.db"),
        (1000, {"HOME": "/nonexistent"}, "TEMP/leadertag-1000/leadertag.db"),
        (1000, {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/leadertag/leadertag.db"),
        (1000, {"HOME": "HOME", "XDG_STATE_HOME": "s"}, "HOME/.local/state/leadertag/leadertag.db"),
    ],
)
def test_each_user_has_a_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, environ: dict[str, str], path: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    environ = {key: value.replace("HOME", str(tmp_path)) for key, value in environ.items()}
    path = path.replace("HOME", str(tmp_path)).replace("TEMP", tempfile.gettempdir())
    assert default_path(environ) == path


def test_the_node_is_the_host_unless_it_is_named() -> None:
    assert read().node == os.uname().nodename
    assert read(node="n1").node == "n1"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nonesuch": 1}, ["nonesuch", "known"]),
        ({"paht": "/x"}, ["paht", "did you mean 'path'"]),
        ({"path": 1}, ["path", "a string"]),
        ({"node": "a/b"}, ["node", "slash"]),
        ({"timeout": "0s"}, ["timeout", "longer than 0s"]),
        ({"gate_life": "soon"}, ["gate_life", "15s"]),
        ({"report_life": 5}, ["report_life", "a duration"]),
        ({"node_meta": {"rack": 1}}, ["node_meta", "a table of strings"]),
    ],
)
def test_what_is_wrong_is_told(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**settings)
    for word in ("file: backends.local", *words):
        assert word in str(caught.value)
