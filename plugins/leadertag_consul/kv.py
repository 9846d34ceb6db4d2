"""Keys and values of Consul's KV store, and the operations of its transactions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadertag.errors import Conflict
from leadertag.model import LockView, Record
from leadertag.plan import NO_PLAN, Note, Plan

LONGEST_BODY = 512 * 1024
"""Bytes in the body of a transaction: the agent's default for ``limits.txn_max_req_len``."""


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


def view_of(key: str, entry: Entry | None, plan: Plan = NO_PLAN) -> LockView:
    """Make the lock of an entry. A value that is no record of ours makes it foreign."""
    if entry is None:
        return LockView(key, plan=plan)
    record = Record.decode(entry.value)
    foreign = record is None and bool(entry.value)
    return LockView(key, entry.index, entry.holder, record, foreign, plan)


def note_key(key: str, name: str) -> str:
    """Return where a note stands that is beside the lock with that whole key.

    Nothing else can stand there: the names that make up a lock's key have no slash.
    """
    return f"{key}/{name}"


def note_of(pair: Mapping[str, Any] | None) -> Note:
    """Make a note of what Consul answers."""
    if pair is None:
        return Note()
    entry = entry_of(pair)
    return Note(entry.value, entry.index)


def swap(key: str, note: Note) -> list[dict[str, Any]]:
    """Return the operations that put a note in the place of the one with its index.

    Raises Conflict for one that is too large.
    """
    if not note.value:
        if not note.index:
            return [operation("check-not-exists", key)]
        # delete-cas alone is content with a key that is gone already.
        return [operation(verb, key, Index=note.index) for verb in ("check-index", "delete-cas")]
    operations = [operation("cas", key, value=note.value, Index=note.index)]
    # A transaction carries the value as base64: a third more.
    if (size := len(json.dumps(operations))) > LONGEST_BODY:
        raise Conflict(
            f"{key}: {len(note.value)} bytes are too much for a note: the request would have "
            f"{size} bytes, and Consul takes {LONGEST_BODY}"
        )
    return operations


def operation(verb: str, key: str, *, value: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """Return one KV operation of a transaction."""
    body: dict[str, Any] = {"Verb": verb, "Key": key, **fields}
    if value is not None:
        body["Value"] = base64.b64encode(value).decode()
    return {"KV": body}
