"""Fixtures for the command line: in this process, or as the operator starts it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leadertag.cli import main
from leadertag.config import file as config_file


@dataclass(frozen=True)
class Result:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of this machine or user reaches a test, and no logging stays set up after it."""
    for variable in list(os.environ):
        if variable.startswith(("LEADERTAG_", "CONSUL_", "XDG_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEADERTAG_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LEADERTAG_BACKENDS__LOCAL__PATH", str(tmp_path / "leadertag.db"))
    monkeypatch.setattr(config_file, "SYSTEM_FILE", str(tmp_path / "etc" / "leadertag.toml"))
    loggers = [logging.getLogger(), logging.getLogger("leadertag")]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process."""

    def run(*words: str, entry: Callable[[list[str]], int] = main) -> Result:
        capsys.readouterr()
        code = entry(list(words))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def spawn() -> Cli:
    """Runs ``python -m leadertag`` with a command line."""

    def run(*words: str, **environ: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "leadertag", *words], env={**os.environ, **environ},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "leadertag.toml"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write
