"""Past role changes of an election: a bounded list in a note beside its lock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leadertag.decoding import typed_fields
from leadertag.plan import CHANGES, Note

if TYPE_CHECKING:
    from leadertag.providers import LockProvider

KEPT = 100
"""Changes that are kept; the oldest go first."""
LONGEST_REASON = 200
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class LeaderChange:
    """One entry of an election's history, written by the new leader.

    ``vacant`` is the time without a leader in seconds, as the new one saw it; ``None`` where
    it did not see the old one go. ``at`` is wall-clock time, ISO 8601 UTC.
    """

    term: int
    before: str
    """The member that led before; ``""`` for nobody, or unknown."""
    after: str
    reason: str
    """Why the old one does not lead any more."""
    at: str = ""
    vacant: float | None = None


_FIELDS: dict[str, type] = {"term": int, "before": str, "after": str, "reason": str, "at": str}


def read_changes(lock: LockProvider, key: str) -> tuple[LeaderChange, ...]:
    """Return the history of an election, oldest first; what nobody can read is left out."""
    return decode(lock.read_note(key, CHANGES))


def record_change(lock: LockProvider, key: str, change: LeaderChange) -> None:
    """Add a change, unless its term is in the history already.

    Raises Changed when somebody else wrote at the same moment: try again.
    """
    note = lock.read_note(key, CHANGES)
    known = decode(note)
    if any(change.term == old.term for old in known):
        return
    lock.write_note(key, CHANGES, Note(encode((*known, change)), note.index))


def encode(changes: tuple[LeaderChange, ...]) -> bytes:
    """Return the JSON bytes kept in the backend: of the newest changes, and bounded."""
    kept = [asdict(change) for change in changes[-KEPT:]]
    for change in kept:
        change["reason"] = change["reason"][:LONGEST_REASON]
    return json.dumps({"leadertag": 1, "changes": kept}, separators=(",", ":")).encode()


def decode(note: Note) -> tuple[LeaderChange, ...]:
    """Return the changes in a note; of one that is not ours, none."""
    try:
        data = json.loads(note.value or b"null")
        if data["leadertag"] != 1:
            return ()
        return tuple(_change(item) for item in data["changes"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return ()


def _change(data: Any) -> LeaderChange:
    vacant = None if data["vacant"] is None else typed_fields(data, {"vacant": float})["vacant"]
    return LeaderChange(**typed_fields(data, _FIELDS), vacant=vacant)
