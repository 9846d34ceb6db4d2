"""A leader that was lost with its node is shut out before that node is back.

Whoever succeeds shuts it out before it publishes itself, but may have to wait until then,
and there may be nobody who can succeed. Meanwhile the registry knows no better than that its
gate was open, and shows it so as soon as the node can be reached again.
"""

from __future__ import annotations

from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.entry import Entry, ask
from leadertag.election.standing import Standing
from leadertag.election.states import State
from leadertag.model import Gate, Health, Instance, Lease, LockView


def consider(s: Standing) -> Entry:
    """See to it, once for each time that the lock was lost without a mark."""
    view = s.view
    if view is None or not _proven(s, view) or s.shut == vacancy(view, s.lease):
        return s, []
    if s.chore is not None or s.now < s.chore_at:
        return s, []
    s, shut_out = ask(s, ev.ShutOutLost, member=s.me.member, seen=view, lease=s.lease)
    return replace(s, chore=shut_out), [shut_out]


def _proven(s: Standing, view: LockView) -> bool:
    """Whether nobody else can hold the lock: it is free, or waits in our hands."""
    if s.policy.fenced or not s.policy.gated or s.stopping or s.instance is None:
        return False  # fenced: a gate ends with its process in the backend itself
    if s.state is State.WAITING_OUT:
        return s.lease is not None and not s.first_ever
    return s.state is State.WATCHING and view.free and view.exists and not view.marked


def vacancy(seen: LockView, lease: Lease | None) -> int:
    """Return a number for that free lock, or for the term in which it was taken."""
    return -lease.term if lease is not None else seen.index


def left_published(other: Instance, election: ElectionSettings) -> bool:
    """Whether an instance reads as the leader, but for its node or its service."""
    if other.gate is None or not {*election.tags, election.leader_tag} <= set(other.tags):
        return False
    gate = Gate(election.name, other.gate).id
    return any(
        check.status is not Health.CRITICAL
        for check in other.checks
        if check.own and (check.id == gate or check.id.startswith(f"{gate}:"))
    )
