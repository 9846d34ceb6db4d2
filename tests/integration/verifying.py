"""``leadertag plugins verify`` as the tests run it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tools.leadertag import Finished, run_program


def verify(*words: str, cwd: Path | None = None, **env: str) -> Finished:
    """``leadertag plugins verify WORDS``; ``cwd`` is for modules that the words name."""
    argv = [str(Path(sys.executable).parent / "leadertag"), "plugins", "verify", *words]
    if cwd is not None:
        argv = ["env", "-C", str(cwd), *argv]
    return run_program(argv, env, timeout=300)


def write_config(folder: Path, backends: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a configuration with these backends' tables; its path."""
    path = folder / "leadertag.toml"
    lines = []
    for name, table in backends.items():
        lines += [f"[backends.{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return str(path)


def parts(report: Any, kind: str) -> dict[str, tuple[int, int, int]]:
    """Passed, failed, not tried of each part of a kind."""
    return {
        part["part"]: (part["passed"], part["failed"], part["not_tried"])
        for part in report["parts"]
        if part["kind"] == kind
    }
