"""Records what the embedded backend's file says, with its own reader.

A gate there closes by the clock alone, so there is no index of every change: it is looked
at every few milliseconds, and a state that lasted shorter is not seen.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leadertag.backends import Providers, open_providers
from leadertag.config.load import load
from leadertag.errors import LeaderTagError
from leadertag.model import Instance
from tests.chaos.evidence import Writer
from tests.chaos.settings import LOCK_KEY, SERVICE

_EVERY = 0.01


def record_local(out: Path, servers: Mapping[str, str]) -> None:
    """Start the thread; ``servers`` names a configuration file under "config"."""
    settings = load(servers["config"], environ=os.environ)
    providers = open_providers(settings, environ=os.environ)
    threading.Thread(target=_run, args=(providers, Writer(out)), daemon=True).start()


def _run(providers: Providers, out: Writer) -> None:
    before: dict[str, str] = {}
    number = 0
    while True:
        time.sleep(_EVERY)
        try:
            for kind, state in (("registry", _registry(providers)), ("lock", _lock(providers))):
                text = json.dumps(state, sort_keys=True)
                if before.get(kind) != text:
                    before[kind] = text
                    number += 1
                    out.write(kind, index=number, by="file", **state)
        except LeaderTagError:
            continue  # not made yet, or busy: the next look tells


def _registry(providers: Providers) -> dict[str, Any]:
    members = providers.registry.members(SERVICE)
    return {"instances": {member.node: _instance(member) for member in members}}


def _instance(member: Instance) -> dict[str, Any]:
    return {
        "id": member.id,
        "tags": list(member.tags),
        "checks": {check.id: str(check.status) for check in member.checks},
        "registration": {
            "address": member.address, "port": member.port, "meta": dict(member.meta),
        },
    }  # fmt: skip


def _lock(providers: Providers) -> dict[str, Any]:
    view = providers.lock.read(LOCK_KEY)
    return {"held": not view.free, "record": asdict(view.record) if view.record else None}
