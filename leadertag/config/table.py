"""Typed reading of one table of the configuration.

Every key that is read is remembered; :meth:`Table.done` refuses the others, with
the near name. So each reader, a plugin's too, is the only list of its keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from leadertag.errors import ConfigError, did_you_mean

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_REQUIRED: Any = object()


def duration(text: str) -> float:
    """Return the seconds in ``15s`` or ``500ms``; raise ValueError otherwise."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no duration (write 15s, 500ms, 2m)")
    return float(match[1]) * _UNIT[match[2]]


class Table:
    """One table of settings. ``where`` names it for people: ``file: elections.redis``."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: must be a table, not {_kind(data)}")
        self._data = data
        self._known: set[str] = set()
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def raw(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return the value as it stands; ConfigError when it is missing and has no default."""
        self._known.add(key)
        if key in self._data:
            return self._data[key]
        if default is _REQUIRED:
            raise ConfigError(f"{self.where}: {key} is missing")
        return default

    def _get(self, key: str, default: Any, kinds: tuple[type, ...], what: str) -> Any:
        value = self.raw(key, default)
        if value is default:
            return value
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"{self.where}: {key} must be {what}, not {_kind(value)}")
        return value

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """Return a string."""
        return str(self._get(key, default, (str,), "a string"))

    def choice(self, key: str, allowed: Iterable[str], default: str = _REQUIRED) -> str:
        """Return one of the allowed strings."""
        value, allowed = self.text(key, default), list(allowed)
        if value not in allowed:
            names = ", ".join(repr(name) for name in allowed)
            raise ConfigError(f"{self.where}: {key} = {value!r} is none of {names}")
        return value

    def integer(
        self, key: str, default: int = _REQUIRED, *, low: int = 0, high: int = 2**31
    ) -> int:
        """Return a whole number within bounds."""
        value = int(self._get(key, default, (int,), "a whole number"))
        if not low <= value <= high:
            raise ConfigError(f"{self.where}: {key} = {value} is not within {low} and {high}")
        return value

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        """Return true or false."""
        return bool(self._get(key, default, (bool,), "true or false"))

    def seconds(self, key: str, default: float = _REQUIRED) -> float:
        """Return a duration in seconds, written ``15s`` or ``500ms``."""
        value = self._get(key, default, (str,), "a duration like 15s or 500ms")
        if not isinstance(value, str):
            return float(value)
        try:
            return duration(value)
        except ValueError as error:
            raise ConfigError(f"{self.where}: {key} = {error}") from None

    def texts(self, key: str, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._get(key, default, (list, tuple), "a list of strings")
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{self.where}: {key} must be a list of strings")
        return tuple(value)

    def mapping(self, key: str, default: Mapping[str, str] = _REQUIRED) -> dict[str, str]:
        """Return a table of strings."""
        value = self._get(key, default, (Mapping,), "a table of strings")
        if not all(isinstance(item, str) for item in value.values()):
            raise ConfigError(f"{self.where}: {key} must be a table of strings")
        return dict(value)

    def table(self, key: str, default: Mapping[str, Any] = _REQUIRED) -> Table:
        """Return a table inside this one; call its :meth:`done` as well."""
        return Table(self._get(key, default, (Mapping,), "a table"), f"{self.where}.{key}")

    def tables(self, key: str) -> list[Table]:
        """Return an array of tables; none where the key is missing."""
        value = self._get(key, (), (list, tuple), "an array of tables")
        return [Table(item, f"{self.where}.{key}[{n}]") for n, item in enumerate(value)]

    def keys(self) -> tuple[str, ...]:
        """Return the keys that stand there; reading them is up to the caller."""
        return tuple(self._data)

    def plain(self) -> dict[str, Any]:
        """Return the data itself, to be sent to a worker process."""
        return dict(self._data)

    def done(self) -> None:
        """Refuse any key that nobody has read."""
        for key in self._data:
            if key not in self._known:
                near = did_you_mean(key, self._known)
                allowed = ", ".join(sorted(self._known))
                hint = near or f" (known: {allowed})"
                raise ConfigError(f"{self.where}: unknown key {key!r}{hint}")


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), f"a {type(value).__name__}")
