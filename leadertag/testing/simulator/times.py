"""The small world's times: all told from now, and only as far as anything hangs on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leadertag.election.standing import Standing
from leadertag.election.states import GIVING_UP, State
from leadertag.testing.simulator.small import Member

LONG_AGO = -4.0
"""Two leases: what is as old as that is as old as it can be."""
_RECENT = -1.5
"""The longest that anything waits for after a state was entered: a hook's limit and its grace.

(Publishing is patient for longer. In the small world it is so for ever.)
"""
_TIMES = (
    "entered", "pictured_at", "confirmed_at", "wait_until", "gates_end", "asked_at", "retry_at",
    "chore_at", "shut_at", "stand_back_until", "asked_since", "released_since", "free_since",
)  # fmt: skip
_DUE = ("retry_at", "chore_at", "shut_at", "stand_back_until", "wait_until", "gates_end")
"""Times of which it counts only whether they have come."""
_WAITS = (State.ACQUIRING, State.WAITING_OUT)
_TAKES_OVER = (
    *_WAITS, State.VETTING, State.RANKING, State.CANVASSING, State.GUARDING, State.PROMOTING,
    State.CLOSING,
)  # fmt: skip
_UNTIMED = (State.STARTING, State.WATCHING, State.ADOPTING, State.ACQUIRING, State.WAITING_OUT)
"""States in which it does not matter since when."""


def shifted(m: Member, by: float) -> Member:
    """Return the member with all its times told from ``by`` seconds later."""

    def back(time: float) -> float:
        return max(LONG_AGO, round(time - by, 6))

    s, memory = m.standing, m.memory
    if s is not None:
        kept = s.memory and replace(s.memory, **_back(s.memory, by))
        s = replace(s, memory=kept, **_back(s, by))
    if memory is not None:
        memory = replace(memory, **_back(memory, by))
    request, confirmation = (
        r and replace(r, sent=back(r.sent), confirmed=back(r.confirmed))
        for r in (m.request, m.confirmation)
    )
    hook = m.hook and replace(m.hook, began=back(m.hook.began))
    strike = None if m.strike is None else back(m.strike)
    return replace(
        m, standing=s, memory=memory, request=request, confirmation=confirmation, hook=hook,
        strike=strike, noted=back(m.noted), admitted=back(m.admitted),
    )  # fmt: skip


def _back(value: Any, by: float) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in _TIMES:
        old = getattr(value, name, None)
        if old is not None:
            changes[name] = max(0.0 if name in _DUE else LONG_AGO, round(old - by, 6))
    return changes


def tidy(m: Member, *, planned: bool) -> Member:
    """Return the member without the times (and the rest) on which nothing hangs any more.

    ``planned``: operators may ask for something in this world.
    """
    s, memory = m.standing, m.memory
    if s is not None:
        s = _tidy_standing(s, planned=planned)
    leads = memory is not None and (memory.lease is not None or memory.acting)
    if memory is not None:
        memory = replace(memory, confirmed_at=LONG_AGO, wait_until=0.0)
        if not planned:
            memory = replace(memory, released_index=0, released_since=LONG_AGO)
    restarted = s is not None and s.memory is not None
    return replace(
        m, standing=s, memory=memory, noted=m.noted if leads else LONG_AGO,
        admitted=m.admitted if restarted else 0.0,
    )  # fmt: skip


def _tidy_standing(s: Standing, *, planned: bool) -> Standing:
    changes: dict[str, Any] = {"registry_at": 0.0}
    timed = s.state not in _UNTIMED
    changes["entered"] = max(_RECENT, s.entered) if timed else 0.0
    changes["pictured_at"] = max(_RECENT, s.pictured_at) if s.state is State.LEADING else 0.0
    if s.pending is None:
        changes["asked_at"] = 0.0
    if s.state not in _WAITS:
        changes["wait_until"] = 0.0
    if s.state not in _TAKES_OVER:
        changes["gates_end"] = 0.0
    if s.lease is None and not s.acting and s.state not in GIVING_UP:
        changes["confirmed_at"] = LONG_AGO
    if not planned:
        changes |= {"released_index": 0, "released_since": LONG_AGO, "asked_since": LONG_AGO}
    return replace(s, **changes)
