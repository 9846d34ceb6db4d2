"""Keys and values of Consul's KV store, and the operations of its transactions."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadertag.model import LockView, Record


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it stands: its ModifyIndex, the session that holds it, value and flags."""

    index: int
    holder: str
    value: bytes
    flags: int


def entry_of(pair: Mapping[str, Any]) -> Entry:
    """Make an entry of what Consul answers."""
    return Entry(
        index=int(pair["ModifyIndex"]),
        holder=str(pair.get("Session") or ""),
        value=base64.b64decode(pair.get("Value") or ""),
        flags=int(pair.get("Flags") or 0),
    )


def view_of(key: str, entry: Entry) -> LockView:
    """Make the lock of an entry. A value that is no record of ours makes it foreign."""
    record = Record.decode(entry.value)
    foreign = record is None and bool(entry.value)
    return LockView(key, entry.index, entry.holder, record, foreign)


def operation(verb: str, key: str, *, value: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """Return one KV operation of a transaction."""
    body: dict[str, Any] = {"Verb": verb, "Key": key, **fields}
    if value is not None:
        body["Value"] = base64.b64encode(value).decode()
    return {"KV": body}
