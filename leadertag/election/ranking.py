"""Which of several healthy candidates leads: whoever holds the lock gives way to a better one.

Every other candidate sees that somebody is about to lead, asks its own ``rank`` hooks and
announces what they say, beside the lock. The holder waits for them, for as long as it has
to wait anyway or else for a window of :data:`WINDOW`, and gives the lock back, marked, if one
of them ranks higher. That one takes it at once and needs no window of its own: the ranks
are on the table. All of it is preference; the lock alone decides.
"""

from __future__ import annotations

from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.standing import Standing
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, LockView

MAKE_WAY = 1.0
"""Seconds that the better one has to take the lock, before whoever gave way tries again."""


def ranks(s: Standing) -> bool:
    """Whether candidates are ranked: there are hooks that do, and a process to listen."""
    return s.policy.gated and s.policy.budget(HookEvent.RANK) > 0


def canvasses(s: Standing) -> bool:
    """Whether the others are heard before this holder goes on."""
    asked = s.plan.switchover
    chosen = asked is not None and asked.candidate == s.me.member and asked.session == s.session
    return ranks(s) and not chosen


def better(s: Standing, done: ev.Done) -> str:
    """Return the candidate that this holder gives way to; ``""`` when it is the best itself.

    Nobody is given way to twice before somebody leads: it may not be able to take the lock.
    """
    poll = done.value
    if not isinstance(poll, ev.Poll):
        return ""  # it could not be read: then whoever holds the lock leads
    fit = {m.member for m in poll.members if m.service_health is Health.PASSING}
    rivals = [
        (rank, member)
        for member, rank in poll.ranks.ranks
        if member in fit and member != s.me.member and member not in s.yielded and rank > s.rank
    ]
    return max(rivals)[1] if rivals else ""


def give_way(s: Standing, done: ev.Done) -> Standing:
    """Stand back for the better one."""
    yielded = tuple(sorted({*s.yielded, better(s, done)}))
    return replace(s, yielded=yielded, stand_back_until=s.now + MAKE_WAY)


def predecessor(s: Standing, seen: LockView) -> int:
    """Return the term whose ranks are on the table; 0 for none.

    The lock was given back, in order, by a holder that had asked for ranks, this one's among
    them, and has never led. Who had none to announce (rank 0, or a hook that failed) is asked
    again: it never leads.
    """
    said = seen.record is not None and seen.marked and seen.record.term == s.announced
    return s.announced if said and s.rank and s.announced != s.led_term else 0


def heard(s: Standing, poll: ev.Poll, effect: ev.Canvass) -> Standing:
    """Note who has announced nothing: nobody waits for those the next time."""
    if poll.ranks.term == effect.tabled != 0:
        return s
    expected = {m.member for m in poll.members if m.service_health is Health.PASSING}
    silent = expected - {effect.member, *(member for member, _ in poll.ranks.ranks)}
    return replace(s, silent=tuple(sorted(silent)))


def settled(s: Standing) -> Standing:
    """Somebody leads: everybody may be given way to again."""
    return replace(s, yielded=()) if s.yielded and s.leader is not None else s
