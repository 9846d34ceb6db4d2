"""The ``LEADERTAG_*`` variables, as one layer of settings between the file and the options.

==============================================  ===========================================
``LEADERTAG_CONFIG``                            the file
``LEADERTAG_BACKEND``                           ``backend``
``LEADERTAG_LOCK_BACKEND``, ``…REGISTRY_…``,    ``lock``, ``registry``, ``query``
``…QUERY_BACKEND``
``LEADERTAG_STATE_DIR``                         ``state_dir``
``LEADERTAG_WATCHDOG``                          ``watchdog``
``LEADERTAG_LEASE``, ``…STAND_BACK``,           that key of every election
``…LEADER_TAG``, ``…FOLLOWER_TAG``,
``…ON_BACKEND_LOSS``, ``…ON_STOP``, ``…COMPAT``
``LEADERTAG_ELECTIONS__REDIS__LEASE``           one key of one election; lists with commas
``LEADERTAG_BACKENDS__CONSUL__TOKEN_FILE``      one key of one backend
==============================================  ===========================================

In a name any character but a letter or digit is written ``_``. A backend's value is a
number, ``true``, ``false`` or a list where it reads as one in TOML, else a string: put a
string that looks like a number in quotes. An empty variable counts as unset.

Other plain names are not refused: a hook's own variables begin with the same prefix, and
so do those that Kubernetes makes for a service called ``leadertag``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leadertag.config import toml
from leadertag.config.elections import FIELDS, LISTS
from leadertag.config.table import Table
from leadertag.config.values import checked_name
from leadertag.errors import ConfigError, did_you_mean

PREFIX = "LEADERTAG_"
TOP = {
    "BACKEND": "backend",
    "LOCK_BACKEND": "lock",
    "REGISTRY_BACKEND": "registry",
    "QUERY_BACKEND": "query",
    "STATE_DIR": "state_dir",
    "WATCHDOG": "watchdog",
}
_PATHS = ("STATE_DIR", "WATCHDOG")
EVERY = (
    "lease", "stand_back", "leader_tag", "follower_tag", "on_backend_loss", "on_stop", "compat",
)  # fmt: skip
"""Keys that one variable sets for every election."""
ELSEWHERE = ("CONFIG", "INTERVAL", "TIMEOUT", "CHECK_ID", "LOG_LEVEL", "LOCAL_PATH")
"""Names that others read: the command line, the embedded backend."""

_LOOKS_TYPED = re.compile(r"true|false|[+-]?[0-9]+(\.[0-9]+)?|\[.*\]|\".*\"|'.*'", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Variables:
    """What the environment says. Names of elections and backends are as they were written.

    ``backends`` maps a backend's name to its variables; each variable to the path of the
    key inside that backend's table, and the value.
    """

    top: Mapping[str, str] = field(default_factory=dict)
    every: Mapping[str, Any] = field(default_factory=dict)
    elections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    backends: Mapping[str, Mapping[str, tuple[tuple[str, ...], Any]]] = field(default_factory=dict)


def read_variables(environ: Mapping[str, str]) -> Variables:
    """Read them; ConfigError names the variable that is wrong."""
    top: dict[str, str] = {}
    every: dict[str, Any] = {}
    elections: dict[str, dict[str, Any]] = {}
    backends: dict[str, dict[str, tuple[tuple[str, ...], Any]]] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not value:
            continue
        rest = variable.removeprefix(PREFIX)
        if "__" in rest:
            parts = rest.split("__")
            if not all(parts) or len(parts) < 3 or parts[0] not in ("ELECTIONS", "BACKENDS"):
                raise ConfigError(_malformed(variable))
            _refuse_broken(variable, value)
            if parts[0] == "BACKENDS":
                path = tuple(part.lower() for part in parts[2:])
                backends.setdefault(parts[1], {})[variable] = (path, _typed(variable, value))
            else:
                key = parts[-1].lower()
                found = elections.setdefault("__".join(parts[1:-1]), {})
                found[key] = _field(variable, key, value)
        elif rest in TOP:
            _refuse_broken(variable, value)
            top[TOP[rest]] = value if rest in _PATHS else checked_name(value, variable)
        elif rest.lower() in EVERY:
            every[rest.lower()] = _field(variable, rest.lower(), value)
    return Variables(top, every, elections, backends)


def plain_name(name: str) -> str:
    """Return a name as it is written in a variable."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def match(written: str, names: Iterable[str]) -> list[str]:
    """Return the names that a part of a variable can stand for."""
    return [name for name in names if plain_name(name) == plain_name(written)]


def suspicious(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each plain variable that is ignored but nearly one of ours."""
    known = [*TOP, *(key.upper() for key in EVERY), *ELSEWHERE]
    lines = []
    for variable in sorted(environ):
        rest = variable.removeprefix(PREFIX)
        if rest == variable or "__" in rest or rest in known or rest.startswith("TEST_"):
            continue
        # Compared without the prefix, which would make any two of them look alike.
        if near := did_you_mean(rest, known):
            lines.append(f"{variable} is ignored{near}")
    return lines


def _malformed(variable: str) -> str:
    return (
        f"{variable}: is neither LEADERTAG_ELECTIONS__NAME__KEY nor LEADERTAG_BACKENDS__NAME__KEY"
    )


def _refuse_broken(variable: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{variable}: is not UTF-8") from error


def _field(variable: str, key: str, value: str) -> Any:
    """Check one value of an election by the reader that the file's key has."""
    if key not in FIELDS:
        hint = did_you_mean(key, FIELDS) or f" (known: {', '.join(sorted(FIELDS))})"
        raise ConfigError(f"{variable}: unknown key {key!r}{hint}")
    _refuse_broken(variable, value)
    words = [word.strip() for word in value.split(",") if word.strip()]
    data: Any = words if key in LISTS else value
    FIELDS[key](Table({key: data}, variable))
    return data


def _typed(variable: str, value: str) -> Any:
    if not _LOOKS_TYPED.fullmatch(value):
        return value
    try:
        return toml.loads(f"value = {value}\n")["value"]
    except (ValueError, RecursionError, KeyError):
        raise ConfigError(
            f"{variable}: begins like a number, a list or a string in TOML, but is none; "
            "write a string in quotes"
        ) from None
