"""``[backends.zookeeper]``: every key, checked. No I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadertag.config.table import Table
from leadertag.config.values import host_port, positive
from leadertag.errors import ConfigError

DEFAULT = "127.0.0.1:2181"
SHORTEST_SESSION = 2.0
"""Seconds: kazoo pings up to 0.4 s late; a shorter session would not survive that."""
_PREFIX = re.compile(r"/[^/\s\0]+(/[^/\s\0]+)*")


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """All times are seconds. It has no repr: a field of it is a secret."""

    hosts: tuple[str, ...]
    prefix: str = "/leadertag"
    user: str = ""
    password: str = ""
    password_file: str = ""
    timeout: float = 2.0
    """For one request, connecting included."""
    tick: float = 2.0
    """``tick_time``, as the servers have it: they keep no session shorter than two ticks, and
    see that one has expired up to a tick late."""
    gate_session: float = 4.0
    """Of the session that the open gates of a process hang on."""
    report_life: float = 15.0
    """Of the session that its instances hang on."""
    node: str = ""
    node_meta: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Settings({', '.join(self.hosts)})"

    def session(self, wanted: float) -> float:
        """Return how long a session lives that was asked to live so long."""
        return max(wanted, 2 * self.tick, SHORTEST_SESSION)


def read(table: Table) -> Settings:
    """Read the table; ConfigError for anything wrong, and for a key that nobody knows."""
    tick = positive(table, "tick_time", 2.0)
    settings = Settings(
        hosts=_hosts(table),
        prefix=table.text("prefix", "/leadertag"),
        user=table.text("user", ""),
        password=table.text("password", ""),
        password_file=table.text("password_file", ""),
        timeout=positive(table, "timeout", 2.0),
        tick=tick,
        gate_session=positive(table, "gate_session", max(2 * tick, SHORTEST_SESSION)),
        report_life=positive(table, "report_life", max(2 * tick, 15.0)),
        node=table.text("node", "") or os.uname().nodename,
        node_meta=table.mapping("node_meta", {}),
    )
    table.done()
    _check(settings, table.where)
    return settings


def _hosts(table: Table) -> tuple[str, ...]:
    value = table.raw("hosts", DEFAULT)
    # One string too: that is how LEADERTAG_BACKENDS__ZOOKEEPER__HOSTS brings it.
    texts = value.split(",") if isinstance(value, str) else table.texts("hosts")
    hosts = [text.strip() for text in texts if text.strip()]
    if not hosts:
        raise ConfigError(f"{table.where}: hosts names no server (write {DEFAULT})")
    return tuple(dict.fromkeys(host_port(host, f"{table.where}: hosts") for host in hosts))


def _check(settings: Settings, where: str) -> None:
    if not _PREFIX.fullmatch(settings.prefix):
        raise ConfigError(f"{where}: prefix = {settings.prefix!r} is no path (write /leadertag)")
    if settings.password and settings.password_file:
        raise ConfigError(f"{where}: password and password_file exclude each other")
    if bool(settings.user) != bool(settings.password or settings.password_file):
        missing = "password" if settings.user else "user"
        raise ConfigError(f"{where}: {missing} is missing: user and password go together")
    for key, value in (
        ("gate_session", settings.gate_session),
        ("report_life", settings.report_life),
    ):
        if value < settings.session(0):
            raise ConfigError(
                f"{where}: {key} must be {settings.session(0):g}s or more: a session lives for "
                f"two ticks and {SHORTEST_SESSION:g}s at least"
            )
