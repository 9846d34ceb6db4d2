"""The configuration file: where it is looked for, and how it is read.

The working directory is never looked in: whoever can write there would decide which
commands leadertag runs as hooks. For the same reason root reads no file that others
may write to.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadertag.config import toml, trust
from leadertag.errors import ConfigError

SYSTEM_FILE = "/etc/leadertag/leadertag.toml"
VARIABLE = "LEADERTAG_CONFIG"
LARGEST = 4 * 2**20
"""Bytes: room for thousands of elections, but no reading of a device without end."""

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_DECLARED_TWICE = re.compile(r"Cannot (?:declare|redefine namespace) (\(.*?\))")


def user_file(environ: Mapping[str, str]) -> str:
    """Return the file of a user who is not root."""
    folder = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification wants a relative path ignored.
    if not os.path.isabs(folder):
        folder = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(folder, "leadertag", "leadertag.toml")


def places(environ: Mapping[str, str]) -> list[str]:
    """Return where a file is looked for when none is named: the user's own first."""
    if os.geteuid() == 0:
        return [SYSTEM_FILE]
    return [user_file(environ), SYSTEM_FILE]


def find(option: str | None, environ: Mapping[str, str]) -> str:
    """Return the file to read: ``option``, ``LEADERTAG_CONFIG``, the usual places; ``""``: none.

    A file that is named has to exist (reading it will tell); the usual ones need not.
    """
    named = option or environ.get(VARIABLE, "")
    if named:
        return named
    return next((place for place in places(environ) if os.path.lexists(place)), "")


def read(path: str) -> dict[str, Any]:
    """Return what the file says; ConfigError, with the line where there is one."""
    text = _decode(path, _read_bytes(path))
    try:
        return toml.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_explain(path, text, error)) from error
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, thousands of brackets: no line is known.
        raise ConfigError(f"{path}: is no TOML that can be read: {_short(error)}") from error


def _read_bytes(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            trust.check(path, opened=file.fileno())
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null character in the name
        raise ConfigError(f"{path}: is no name of a file") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: is larger than {LARGEST // 2**20} MiB, no configuration is")
    return data


def _decode(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 (byte {data[error.start]:#04x})") from error


def _explain(path: str, text: str, error: tomllib.TOMLDecodeError) -> str:
    place = _PLACE.search(str(error))
    reason = _PLACE.sub("", str(error))
    line = int(place[1]) if place and place[1] else len(text.splitlines()) or 1
    if twice := _DECLARED_TWICE.search(reason):
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        reason = f"{name} is defined twice: give each a name of its own"
    elif "overwrite a value" in reason:
        reason = "this key or table has a value already: keep one of them"
    elif not (place and place[1]):
        reason += " at the end of the file"
    return f"{path}:{line}: {reason}"


def _short(error: Exception) -> str:
    return str(error).partition(";")[0].partition(":")[0]
