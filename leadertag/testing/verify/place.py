"""Where a plugin's settings say that its backend is, found out from what the plugin asks for.

A plugin reads its settings through a :class:`~leadertag.config.table.Table` and a mapping of
variables. Handed ones that remember what was asked for, it tells which keys it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from leadertag.config.table import Table
from leadertag.providers import BackendContext, Provider

_ADDRESS_KEYS = ("address", "endpoints", "hosts", "servers", "url")
_ADDRESS_VARIABLE = re.compile(r"_(ADDR|ADDRESS|ENDPOINTS?|HOSTS?|SERVERS?|URL)$")
_UNRELAYED = frozenset({"https", "unix", "unixs"})
"""Schemes that a relay cannot stand in for: a certificate is made out to a name."""
_NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of the backend. ``""`` and ``()``: there is no such setting, or no value.

    ``prefix`` and ``path`` are what the live elections use, and so not to be used here.
    """

    address_key: str = ""
    addresses: tuple[str, ...] = ()
    as_list: bool = False
    """Whether the setting takes a list of addresses."""
    prefix_key: str = ""
    prefix: str = ""
    path_key: str = ""
    """Set only where a file is all there is: neither an address nor a prefix."""
    path: str = ""
    known: frozenset[str] = frozenset()
    """All keys that the plugin reads."""

    def relayed(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of each address; none where one cannot be relayed."""
        found = [_host_port(address) for address in self.addresses]
        return tuple(one for one in found if one) if all(found) else ()

    def at(self, ports: Iterable[int]) -> dict[str, Any]:
        """Return the setting that leads to those ports of 127.0.0.1 instead."""
        known = self.addresses or ("",)
        moved = [_moved(known[min(n, len(known) - 1)], port) for n, port in enumerate(ports)]
        return {self.address_key: moved if self.as_list else ",".join(moved)}


def look(classes: Iterable[type[Provider]], live: BackendContext) -> Place:
    """Return what the plugin's settings say. Makes its providers once; no I/O.

    Raises whatever ``create`` raises: ConfigError for a wrong setting.
    """
    settings = live.settings.plain()
    table, variables = _AskedTable(settings, live.settings.where), _AskedEnviron(live.environ)
    context = BackendContext(table, variables)
    for kind in classes:
        kind.create(context).close()
    asked = table.asked
    place = replace(_addressed(settings, asked, variables), known=frozenset(asked))
    if "prefix" in asked:
        prefix = settings.get("prefix") or asked["prefix"]
        return replace(place, prefix_key="prefix", prefix=prefix if _text(prefix) else "")
    if "path" in asked and not place.address_key:
        path = settings.get("path") or variables.value(re.compile(r"_PATH$"))
        return replace(place, path_key="path", path=path if _text(path) else "")
    return place


def _addressed(
    settings: Mapping[str, Any], asked: Mapping[str, Any], variables: _AskedEnviron
) -> Place:
    key = next((key for key in _ADDRESS_KEYS if key in asked), "")
    if not key:
        return Place()
    value = settings.get(key) or variables.value(_ADDRESS_VARIABLE) or asked[key]
    as_list = key.endswith("s") and key != "address"
    if isinstance(value, str):
        texts = value.split(",")
    else:
        texts = [text for text in value if _text(text)] if isinstance(value, list | tuple) else []
    addresses = tuple(text.strip() for text in texts if text.strip())
    return Place(address_key=key, addresses=addresses, as_list=as_list)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _host_port(address: str) -> tuple[str, int] | None:
    scheme, _, rest = address.rpartition("://")
    if scheme in _UNRELAYED:
        return None
    try:
        parts = urlsplit(f"//{rest}")
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None
    except ValueError:
        return None


def _moved(address: str, port: int) -> str:
    """Return the address with another place in it, and the rest of it as it was."""
    scheme, separator, rest = address.rpartition("://")
    authority, slash, path = rest.partition("/")
    user, at, _ = authority.rpartition("@")
    if scheme in _UNRELAYED:
        scheme, separator, slash, path = "", "", "", ""
    return f"{scheme}{separator}{user}{at}127.0.0.1:{port}{slash}{path}"


class _AskedTable(Table):
    """Remembers each key that was asked for, with its default."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        super().__init__(data, where)
        self.asked: dict[str, Any] = {}

    def raw(self, key: str, default: Any = _NOTHING) -> Any:
        """Return the value as it stands."""
        if not self.asked.get(key):
            self.asked[key] = default
        return super().raw(key) if default is _NOTHING else super().raw(key, default)


class _AskedEnviron(Mapping[str, str]):
    """The variables, and which of them were asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._asked: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        self._asked[name] = None
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def value(self, pattern: re.Pattern[str]) -> str:
        """Return the first variable with such a name that was asked for and has a value."""
        named = (name for name in self._asked if pattern.search(name))
        return next((self._environ[name] for name in named if self._environ.get(name)), "")
