"""Values that more than one table has: names, tags, times, addresses."""

from __future__ import annotations

from collections.abc import Iterable

from leadertag.config.table import Table
from leadertag.errors import ConfigError

LONGEST_NAME = 128
LONGEST_TIME = 86400.0
"""Seconds. Consul's longest session; and no thread can wait for much more than that."""
_BREAKING = "/\\?#%\"'"


def checked_name(value: str, what: str) -> str:
    """Return a name that can stand in keys, paths and file names; ConfigError otherwise."""
    if not value:
        raise ConfigError(f"{what} must not be empty")
    if len(value) > LONGEST_NAME:
        raise ConfigError(f"{what} is longer than {LONGEST_NAME} characters")
    if not value.isprintable() or " " in value or any(c in _BREAKING for c in value):
        raise ConfigError(
            f"{what} = {value!r} must not contain spaces, control characters "
            f"or any of {' '.join(_BREAKING)}"
        )
    if value in (".", ".."):
        raise ConfigError(f"{what} = {value!r} is no name")
    return value


def name(table: Table, key: str) -> str:
    """Return a name that has to be there."""
    return checked_name(table.text(key), f"{table.where}: {key}")


def optional_name(table: Table, key: str) -> str:
    """Return a name, or ``""`` where the key is missing."""
    return name(table, key) if key in table else table.text(key, "")


def role_tag(table: Table, key: str, default: str) -> str:
    """Return the tag of a role."""
    value = table.text(key, default)
    _check_tag(value, f"{table.where}: {key}")
    if value.startswith("!"):
        raise ConfigError(f"{table.where}: {key} = {value!r}: a query would read ! as 'not'")
    return value


def tags(table: Table, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return tags, each once, in order."""
    values = table.texts(key, default)
    for value in values:
        _check_tag(value, f"{table.where}: {key}")
    return tuple(dict.fromkeys(values))


def _check_tag(value: str, what: str) -> None:
    if not value.strip():
        raise ConfigError(f"{what}: a tag must not be empty")
    if not value.isprintable() or len(value) > LONGEST_NAME:
        raise ConfigError(
            f"{what}: the tag {value[:40]!r} has control characters or more than "
            f"{LONGEST_NAME} characters"
        )


def same_tag(one: str, other: str) -> bool:
    """Whether a query takes both for the same: Consul's does not tell upper from lower case."""
    return one.casefold() == other.casefold()


def has_tag(found: Iterable[str], tag: str) -> bool:
    """Whether ``tag`` is among those found."""
    return any(same_tag(one, tag) for one in found)


def positive(table: Table, key: str, default: float) -> float:
    """Return a duration in seconds: longer than nothing, a day at most."""
    seconds = table.seconds(key, default)
    checked_time(seconds, f"{table.where}: {key}")
    return seconds


def checked_time(seconds: float, what: str) -> float:
    """Return the seconds if they are a time that can be waited for; ConfigError otherwise."""
    if not 0 < seconds <= LONGEST_TIME:
        raise ConfigError(f"{what} must be longer than 0s and not longer than 24h")
    return seconds


def host_port(value: str, what: str) -> str:
    """Return an address like ``127.0.0.1:6379`` or ``[::1]:6379``; ConfigError otherwise."""
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    written_plainly = bare is not host or ":" not in host
    if not bare or not written_plainly or not bare.isprintable() or not _is_port(port):
        raise ConfigError(f"{what} = {value!r} is no address (write 127.0.0.1:6379 or [::1]:6379)")
    return value


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= 65535
