"""A candidate's duty while another one is about to lead: say how it ranks itself."""

from __future__ import annotations

from leadertag.election import events as ev
from leadertag.election import ranking
from leadertag.election.copying import replace
from leadertag.election.entry import Entry, ask
from leadertag.election.standing import Standing
from leadertag.hookspecs import HookEvent
from leadertag.model import Phase, Role


def consider(s: Standing) -> Entry:
    """Look at itself and announce its rank, once for each holder that is about to lead."""
    view = s.view
    record = view.record if view is not None and not view.free else None
    if record is None or record.phase is not Phase.ELECTED or record.term <= s.announced:
        return s, []
    if not ranking.ranks(s) or s.unable or s.stopping or s.plan.paused:
        return s, []
    # It has no term yet: it is asked again, with one, should it hold the lock itself.
    why = f"{record.member} is about to lead"
    change = replace(s.change(HookEvent.RANK, Role.LEADER), term=0, reason=why)
    s = replace(s, announced=record.term, announced_at=s.now, rank=0)
    s, hook = ask(s, ev.RunHook, change=change)
    return replace(s, chore=hook, polled=hook.serial), [hook]


def answered(s: Standing, done: ev.Done) -> Entry:
    """Announce what the hooks have said; rank 0 says nothing, for it never leads."""
    assert isinstance(done.effect, ev.RunHook)
    outcome = done.value
    if outcome is None or not outcome.ok or not outcome.rank:
        return s, []
    s, tell = ask(
        replace(s, rank=outcome.rank),
        ev.Announce,
        term=s.announced,
        member=s.me.member,
        rank=outcome.rank,
    )
    return replace(s, chore=tell), [tell]


def is_own_question(s: Standing, effect: ev.RunHook) -> bool:
    """Whether a ``rank`` hook was asked to announce it, not for a switchover."""
    return effect.serial == s.polled
