"""What candidates say of themselves: a note beside the lock, one rank a member.

Bound to the term of the holder that is about to lead: what was said under another one is
of the past. Preference only; nothing of it can make two leaders.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadertag.decoding import typed_fields
from leadertag.errors import Changed
from leadertag.plan import RANKS, Note

if TYPE_CHECKING:
    from leadertag.providers import LockProvider

MOST = 1000
"""Ranks that are read from one note; nobody has so many members."""
_TOP = 2**63
_TRIES = 8
"""Everybody announces at the same moment, and compares with what is there."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The ranks announced under one ``term``, by member, in order of their names."""

    term: int = 0
    ranks: tuple[tuple[str, int], ...] = ()

    def of(self, member: str) -> int | None:
        """Return what a member has announced."""
        return dict(self.ranks).get(member)

    def heard(self, members: Collection[str]) -> bool:
        """Whether all of these have announced theirs."""
        return set(members) <= {member for member, _ in self.ranks}

    def with_rank(self, term: int, member: str, rank: int) -> Ranks:
        """Return them with one more; a new term forgets what was announced before."""
        others = dict(self.ranks) if term == self.term else {}
        return Ranks(term, tuple(sorted((others | {member: rank}).items())))

    def encode(self) -> bytes:
        """Return the JSON bytes kept in the backend."""
        data = {"leadertag": 1, "term": self.term, "ranks": dict(self.ranks)}
        return json.dumps(data, separators=(",", ":")).encode()


NO_RANKS = Ranks()


def decode(note: Note) -> Ranks:
    """Return the ranks in a note; one that nobody can read tells none."""
    try:
        data = json.loads(note.value or b"null")
        if data["leadertag"] != 1 or len(data["ranks"]) > MOST:
            return NO_RANKS
        kinds = dict.fromkeys(data["ranks"], int)
        ranks = tuple(sorted(typed_fields(data["ranks"], kinds).items()))
        term: int = typed_fields(data, {"term": int})["term"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return NO_RANKS
    sane = 0 < term < _TOP and all(0 < rank < _TOP for _, rank in ranks)
    return Ranks(term, ranks) if sane else NO_RANKS


def read_ranks(lock: LockProvider, key: str) -> Ranks:
    """Return what candidates have announced last."""
    return decode(lock.read_note(key, RANKS))


def announce(lock: LockProvider, key: str, term: int, member: str, rank: int) -> Ranks:
    """Add a rank under a term, and return all that were announced under it so far.

    Under a newer term than that one nothing is written. Raises Changed when others are
    faster all the time.
    """
    for tries_left in reversed(range(_TRIES)):
        note = lock.read_note(key, RANKS)
        known = decode(note)
        if known.term > term:
            return known
        ranks = known.with_rank(term, member, rank)
        try:
            lock.write_note(key, RANKS, Note(ranks.encode(), note.index))
        except Changed:
            if not tries_left:
                raise
        else:
            return ranks
    raise AssertionError("unreachable")
