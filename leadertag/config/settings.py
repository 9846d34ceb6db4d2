"""The configuration as values: what :mod:`leadertag.config.load` makes of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from leadertag.hookspecs import HookEvent
from leadertag.model import QueryDefinition


@dataclass(frozen=True, slots=True)
class HookSettings:
    """One ``[[elections.NAME.hooks]]`` table.

    ``events`` restricts the hook to some events; ``None`` means all that it implements.
    ``timeouts`` holds a limit in seconds for every event. ``options`` is the rest of the
    table, for the hook itself.
    """

    use: str
    where: str
    events: frozenset[HookEvent] | None
    timeouts: Mapping[HookEvent, float]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """A health check that leadertag runs itself. ``target`` is a host:port, a URL or a command."""

    kind: str
    target: tuple[str, ...]
    interval: float
    timeout: float


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """The own instance, where the registry does not know it by itself."""

    id: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    check: CheckSettings | None = None


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """One ``[elections.NAME]`` table. Times are seconds."""

    name: str
    service: str
    where: str
    instance_id: str = ""
    """``service_id`` in the file: which instance, where a node runs several of the service."""
    query: str = ""
    tags: tuple[str, ...] = ()
    leader_tag: str = "master"
    follower_tag: str = "slave"
    lease: float = 3.0
    on_backend_loss: str = "demote"
    """``demote`` or ``hold``."""
    on_stop: str = "keep"
    """``keep`` or ``release``: what SIGTERM does with a leadership. Kept, it goes on if the
    process is back in time; else the guardian gives it up in order."""
    compat: str = ""
    stand_back: float = 5.0
    """How long a member that failed to promote, or was vetoed, leaves it to others."""
    hooks: tuple[HookSettings, ...] = ()
    instance: InstanceSettings | None = None
    query_definition: QueryDefinition | None = None
    """What the query should be; ``None`` without ``query``."""

    @property
    def key(self) -> str:
        """The lock's key: the same on every member, whatever the election's local name."""
        return f"{self.service}/{self.query or self.leader_tag}"

    @property
    def own_id(self) -> str:
        """The id of the own instance; ``""``: the only one there is."""
        return self.instance.id if self.instance else self.instance_id


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration after files, environment and options were merged."""

    lock: str
    registry: str
    query: str
    elections: tuple[ElectionSettings, ...]
    state_dir: str
    backends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Raw settings of each backend: its own provider reads and checks them."""
    watchdog: str = ""
    """The kernel's watchdog device; ``""``: none."""
    source: str = "defaults"
    """The file, for messages."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """For messages: the ``LEADERTAG_*`` variables that changed a backend's settings, by backend."""

    @property
    def owner(self) -> str:
        """A name of this process that its successor after a restart bears too, and no other."""
        keys = sorted(f"{election.key}#{election.own_id}" for election in self.elections)
        return "leadertag-" + hashlib.sha256("\n".join(keys).encode()).hexdigest()[:8]
