"""A leader that was lost with its node is shut out before that node is back.

Whoever succeeds shuts it out before it publishes itself, but may have to wait until then,
and there may be nobody who can succeed. Meanwhile the registry knows no better than that its
gate was open, and shows it so as soon as the node can be reached again.

A slot of its own: it neither waits for a long ``follow``, nor keeps other duties waiting while
it fails, nor has a say in how long those pause.
"""

from __future__ import annotations

from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.entry import Entry, ask
from leadertag.election.standing import BACK_OFF, Standing
from leadertag.election.states import State
from leadertag.model import Instance, Lease, LockView


def see_to(s: Standing, event: ev.Event) -> Entry:
    """See to it, once for each time that the lock was lost without a mark."""
    s = _outcome(s, event)
    view = s.view
    if s.shutting is not None or s.now < s.shut_at or view is None or not _proven(s, view):
        return s, []
    if s.shut is not None and _same(s.shut, view, s.lease):
        return s, []
    s, wanted = ask(s, ev.ShutOutLost, member=s.me.member, seen=view, lease=s.lease)
    assert isinstance(wanted, ev.ShutOutLost)
    return replace(s, shutting=wanted), [wanted]


def _outcome(s: Standing, event: ev.Event) -> Standing:
    if s.shutting is None or not isinstance(event, ev.Done) or event.effect != s.shutting:
        return s
    if event.error is None:
        return replace(s, shut=s.shutting, shutting=None, shut_failures=0)
    # Also if it was taken meanwhile: what this member sees of the lock may lag behind for long.
    pause = BACK_OFF[min(s.shut_failures, len(BACK_OFF) - 1)]
    return replace(s, shutting=None, shut_at=s.now + pause, shut_failures=s.shut_failures + 1)


def _proven(s: Standing, view: LockView) -> bool:
    """Whether nobody else can hold the lock: it is free, or waits in our hands."""
    if s.policy.fenced or not s.policy.gated or s.stopping or s.instance is None:
        return False  # fenced: a gate ends with its process in the backend itself
    if s.state is State.WAITING_OUT:
        return s.lease is not None and s.pending is None  # looks first whether there is anybody
    return s.state is State.WATCHING and view.free and view.exists and not view.marked


def _same(done: ev.ShutOutLost, view: LockView, lease: Lease | None) -> bool:
    """Whether that was for the lock as it is free now, or for the term in which we wait."""
    if lease is None or done.lease is None:
        return lease is done.lease and done.seen.index == view.index
    return done.lease.term == lease.term


def left_published(other: Instance, election: ElectionSettings) -> bool:
    """Whether an instance may be shown as the leader as soon as its node is back.

    By its tags and its having a gate, whoever named the election there; the registry knows
    whether that gate still stands open.
    """
    tags = {*election.tags, election.leader_tag}
    return other.gate is not None and tags <= set(other.tags)
