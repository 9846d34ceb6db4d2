"""What the samples are run with: role changes, files, the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Check, Health, Instance, Role
from tests.docs.pages import ROOT

REDIS_CHECK = Check("redis-tcp", Health.PASSING)
MINE = Instance("redis", "n2", "redis", "10.0.0.2", 6379, ("sensu", "slave"), (REDIS_CHECK,))
LEADER = Instance("redis", "n1", "redis", "10.0.0.1", 6379)
_ROLES = {HookEvent.PROMOTE: Role.LEADER, HookEvent.FOLLOW: Role.FOLLOWER}


def a_change(event: HookEvent = HookEvent.FOLLOW, reason: str = "") -> RoleChange:
    """A role change of n2's instance; nobody leads when it is demoted."""
    leader = {HookEvent.PROMOTE: MINE, HookEvent.FOLLOW: LEADER}.get(event)
    role = _ROLES.get(event, Role.FOLLOWER)
    return RoleChange(event, "redis", role, Role.UNKNOWN, 7, reason, MINE, leader, 10.0)


def etc(folder: Path) -> Path:
    """A stand-in for /etc/leadertag: the examples, and the files of secrets that they name."""
    etc = folder / "etc"
    shutil.copytree(ROOT / "examples", etc)
    for name in ("consul.token", "redis.password"):
        (etc / name).write_text("not a real one\n")
    return etc


def leadertag(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a clean environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LEADERTAG_", "CONSUL_"))}
    return subprocess.run(
        [sys.executable, "-m", "leadertag", *words], cwd=cwd or ROOT, env={**clean, **(env or {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
