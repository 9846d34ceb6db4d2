"""The election under test: its names, its limits, and its configuration file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BACKENDS = ("consul", "etcd", "local")
NODES = ("n1", "n2", "n3")
CLIENT = "client"
ELECTION = SERVICE = "redis"
QUERY = "redis-leader"
LOCK_KEY = f"{SERVICE}/{QUERY}"
FOREIGN_TAG = "chaos"
LEADER_TAG, FOLLOWER_TAG = "master", "slave"
LEASE = 3.0
STAND_BACK = 2.0
"""Seconds for which a member whose hook failed leaves it to others."""
REDIS_PORT = 6379
LIMITS: Mapping[str, Mapping[str, float]] = {
    # Before Redis is promoted, so that what it records contains the whole of it ...
    "first": {"promote": 3.0, "follow": 1.0},
    "redis": {"before_promote": 0.3, "rank": 0.3, "promote": 0.5, "demote": 0.4, "follow": 2.0},
    # ... and after Redis is demoted, for the same reason.
    "last": {"demote": 0.5, "fence": 0.4},
    "inform": {"role_changed": 2.0, "leader_changed": 2.0},
}
"""Seconds, by hook and event. Demoting and fencing together fit the lease."""
SLOW = 0.8
"""The part of its limit that a slow hook takes, and still is in time."""
_HOOK = Path(__file__).with_name("hook.py")


def configuration(
    backend: str, table: Mapping[str, Any], folder: Path, instance: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The configuration of one node, as nested tables."""
    election: dict[str, Any] = {
        "service": SERVICE,
        "query": QUERY,
        "tags": [FOREIGN_TAG],
        "lease": f"{LEASE:g}s",
        "stand_back": f"{STAND_BACK:g}s",
        "hooks": [
            _recording(folder, "first"),
            {"use": "redis", "url": f"redis://{_redis_host(instance)}:{REDIS_PORT}",
             "timeout": _durations("redis"), "interval": "500ms", "ping_timeout": "1s"},
            _recording(folder, "last"),
            _recording(folder, "inform"),
        ],
    }  # fmt: skip
    if instance is not None:
        election["instance"] = dict(instance)
    return {
        "backend": backend,
        "state_dir": str(folder / "state"),
        "backends": {backend: dict(table)},
        "elections": {ELECTION: election},
    }


def _redis_host(instance: Mapping[str, Any] | None) -> str:
    return str(instance["address"]) if instance else "127.0.0.1"


def _recording(folder: Path, place: str) -> dict[str, Any]:
    command = [sys.executable, "-I", "-S", str(_HOOK), str(folder / "hook.json"), place]
    limits = _durations(place)
    return {"use": "command", "command": command, "events": sorted(limits), "timeout": limits}


def _durations(place: str) -> dict[str, str]:
    return {event: f"{round(1000 * seconds)}ms" for event, seconds in LIMITS[place].items()}
