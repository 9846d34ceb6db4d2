"""TOML: the standard library reads it; written is as much of it as a configuration has."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def loads(text: str) -> dict[str, Any]:
    """Return a document; ValueError, a TOMLDecodeError where the line is known.

    A number beyond 64 bits is refused, as TOML wants it: not every program that it is
    passed on to could read it.
    """
    data = tomllib.loads(text)
    _check_numbers(data)
    return data


def _check_numbers(value: Any) -> None:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number does not fit into 64 bits")


def dumps(data: Mapping[str, Any]) -> str:
    """Return a document. Tables become sections, down to tables inside of lists of tables."""
    lines: list[str] = []
    _section((), data, lines)
    return "\n".join(lines).strip("\n") + "\n"


def seconds(value: float) -> str:
    """Return a duration as the configuration reads it: ``500ms``, ``3s``."""
    if value < 1:
        return f"{_number(value * 1000)}ms"
    return f"{_number(value)}s"


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _section(path: tuple[str, ...], data: Mapping[str, Any], lines: list[str]) -> None:
    inner = {key: value for key, value in data.items() if _is_section(value)}
    for key, value in data.items():
        if key not in inner:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in inner.items():
        name = (*path, key)
        dotted = ".".join(map(_key, name))
        for table in [value] if isinstance(value, Mapping) else value:
            # A table that only holds tables needs no line of its own.
            if isinstance(value, Mapping) and table and all(map(_is_section, table.values())):
                _section(name, table, lines)
                continue
            lines += ["", f"[{dotted}]" if isinstance(value, Mapping) else f"[[{dotted}]]"]
            _section(name, table, lines)


def _is_section(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    listed = isinstance(value, (list, tuple)) and bool(value)
    return listed and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are all TOML's; TOML wants DEL escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if hasattr(value, "isoformat"):  # the dates and times that TOML has
        return str(value.isoformat())
    return str(value)


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
