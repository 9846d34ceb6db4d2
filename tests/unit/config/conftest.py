"""Fixtures for the configuration: nothing of this machine or user may reach a test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leadertag.config import file as config_file
from leadertag.config.load import Options, load
from leadertag.config.settings import Settings

Load = Callable[..., Settings]


@pytest.fixture(autouse=True)
def system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the system's file, where there is none yet."""
    for variable in list(os.environ):
        if variable.startswith(("LEADERTAG_", "CONSUL_", "XDG_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "etc" / "leadertag.toml"
    monkeypatch.setattr(config_file, "SYSTEM_FILE", str(path))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "leadertag.toml"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
def load_text(config: Callable[[str], str]) -> Load:
    """Loads a text; keywords are variables of the environment."""

    def make(text: str, options: Options | None = None, **environ: str) -> Settings:
        return load(config(text), environ=environ, options=options or Options())

    return make
