"""What operators ask of an election: a note beside its lock, which every member watches.

A pause, a switchover. Written by anybody with compare-and-set, also where nobody leads;
nothing of it can make two leaders: the lock decides, a plan is only preference.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from leadertag.decoding import typed_fields

if TYPE_CHECKING:
    from leadertag.providers import LockProvider

PLAN, CHANGES, RANKS = NOTES = ("plan", "history", "ranks")
"""The names of the notes that leadertag keeps beside a lock."""
LONGEST_TIMEOUT = 86400.0
"""Seconds for which a switchover may stand."""


@dataclass(frozen=True, slots=True)
class Note:
    """A small value beside a lock, written by anybody who compares ``index``; 0: none is there."""

    value: bytes = b""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Switchover:
    """A planned change of leader.

    An operator asks for it (``id``, ``term``, ``to``); a candidate that has looked at itself
    accepts or refuses; the leader of that term gives up once somebody has accepted.
    """

    id: str
    term: int
    """The leadership that is to end. Under any later term the switchover is history."""
    to: str = ""
    """The member wanted as leader; ``""``: any."""
    timeout: float = 30.0
    """Seconds for which it stands, counted by everybody from when they first saw it."""
    by: str = ""
    """Who asked."""
    candidate: str = ""
    """The member that has accepted: the lock is reserved for it for one lease after the
    release ..."""
    session: str = ""
    """... as long as this session of its process lives."""
    refused: str = ""
    """Why the wanted member does not accept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What operators ask of an election: the note :data:`PLAN` beside its lock.

    ``since`` is wall-clock time, for people. ``foreign`` tells that something else stands there.
    """

    paused: bool = False
    by: str = ""
    since: str = ""
    reason: str = ""
    switchover: Switchover | None = None
    index: int = 0
    foreign: bool = False

    def encode(self) -> bytes:
        """Return the JSON bytes kept in the backend."""
        data: dict[str, Any] = {"leadertag": 1, **asdict(self)}
        del data["index"], data["foreign"]
        return json.dumps(data, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, note: Note) -> Plan:
        """Return the plan in a note; one that nobody can read asks for nothing."""
        if not note.index:
            return NO_PLAN
        try:
            data = json.loads(note.value)
            if data["leadertag"] != 1:
                raise ValueError("not ours")
            asked = data["switchover"]
            switchover = asked if asked is None else Switchover(**typed_fields(asked, _ASKED))
            plan = cls(**typed_fields(data, _PLAN_FIELDS), switchover=switchover, index=note.index)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return cls(index=note.index, foreign=True)
        sane = switchover is None or (
            0 < switchover.timeout <= LONGEST_TIMEOUT and 0 < switchover.term < 2**63
        )
        return plan if sane else cls(index=note.index, foreign=True)


_ASKED: dict[str, type] = {
    "id": str, "term": int, "to": str, "timeout": float, "by": str, "candidate": str,
    "session": str, "refused": str,
}  # fmt: skip
_PLAN_FIELDS: dict[str, type] = {"paused": bool, "by": str, "since": str, "reason": str}
NO_PLAN = Plan()


def write_plan(lock: LockProvider, key: str, plan: Plan) -> Plan:
    """Write a plan in place of the one with its index; one that asks for nothing is removed.

    Raises Changed when another one stands there by now.
    """
    asks = plan.paused or plan.switchover is not None
    written = lock.write_note(key, PLAN, Note(plan.encode() if asks else b"", plan.index))
    return replace(plan, index=written.index) if asks else NO_PLAN
