"""When the guardian has to end a leadership, unless its process says otherwise in time.

A pure function of what the process knows. The daemon tells it to the guardian with every
word; the simulator's guardian goes by the same.

A leadership is confirmed for the last time at C, and nobody may act for it any more at
E = C + 0.9 x lease. ``contact_limit`` leaves room for one ``demote`` and one ``fence`` at
their limits:

- Whoever leads, and says nothing, is relieved when that room begins, at C + contact_limit.
- Whoever gives up, and has ended, is relieved at once: nothing of what it did counts, and a
  restart could not do better.
- Whoever gives up, and says nothing, is relieved at C + contact_limit too, when demoting
  anew still fits. One that lives says a word at that very moment (:func:`word_at`), and is
  left the time that its own hook may take from there on: a second demotion could not end
  in time any more, but a ``fence`` still can.
"""

from __future__ import annotations

from dataclasses import dataclass

from leadertag.election import events as ev
from leadertag.election.policy import RATE, SLACK
from leadertag.election.standing import Standing
from leadertag.election.states import GIVING_UP, State

GUARDIAN_LAG = SLACK / 2
"""Seconds by which the guardian lets a living process act first."""
ADOPT_WITHIN = 2.0
"""Seconds that a restarted process has to take its own lock back, before its guardian ends it."""
_CAME_BETWEEN = 2 * SLACK
"""Seconds by which a process may be back after a deadline and have kept its guardian from it."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Times of one leadership, in seconds of the process's clock."""

    prepare_at: float
    """When the guardian should get ready: that takes it a while."""
    strike_at: float
    """When it ends a process that has said nothing since."""
    ends_at: float
    """When the lease has been used up to its limit."""
    gives_up: bool
    """The process is giving up: if it ends before that is done, the guardian strikes at once."""


def of(s: Standing, admitted_at: float) -> Deadlines | None:
    """Return the deadlines of a leadership; ``None`` where there is none to be ended.

    ``admitted_at`` is when the process began to speak for its member.
    """
    if not s.acting or s.state is State.HOLDING:
        return None  # whoever holds keeps its role without contact, as it was told to
    limit, every = s.policy.contact_limit, s.policy.confirm_every
    gives_up = s.state in GIVING_UP
    due = s.contact_ends
    if s.lease is None and s.memory is not None and not gives_up:
        due = _adopt_by(s, admitted_at)
    strike_at = due
    if gives_up and s.now >= due:
        strike_at = max(due, _step_ends(s))
    # Ready in time also where demoting leaves little: that is what takes longest.
    prepare_at = due - max(limit - 3 * every, every)
    if gives_up:
        # At once would slow down every quick step-down, for which nobody is needed.
        prepare_at = min(prepare_at, s.entered + SLACK)
    return Deadlines(
        prepare_at, strike_at + GUARDIAN_LAG, s.confirmed_at + RATE * s.policy.lease, gives_up
    )


def word_at(s: Standing) -> float | None:
    """Return when a process that gives up has to say that it lives; ``None`` if it need not."""
    if s.acting and s.state in GIVING_UP and s.now < s.contact_ends:
        return s.contact_ends
    return None


def _adopt_by(s: Standing, admitted_at: float) -> float:
    """Return until when a restarted process may wait for its own lock.

    Nothing is confirmed until it is taken back. That is quick, and only a confirmation may
    move a deadline of the process before that is still ahead, or was so close that this
    process came between it and that guardian's strike; one that has long passed was for
    that process's own guardian.
    """
    before, due = s.contact_ends, admitted_at + ADOPT_WITHIN
    return before if admitted_at - _CAME_BETWEEN < before < due else due


def _step_ends(s: Standing) -> float:
    """Return when a living process has moved on from where it is, at the latest."""
    if isinstance(s.pending, ev.RunHook):
        return s.entered + s.pending.change.timeout
    return s.retry_at if s.state is State.STUCK else s.contact_ends
