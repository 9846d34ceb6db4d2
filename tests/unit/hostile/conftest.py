"""Nothing of this machine reaches a test, and none leaves anything where it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import alone, cli, config

__all__ = ["alone", "cli", "config"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path among hostile words leads into the test's own folder."""
    monkeypatch.chdir(tmp_path)
