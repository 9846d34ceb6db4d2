"""How events change the facts. Takes no transition.

What is late, stale or about a lease that is history is recognised here, and changes nothing.
"""

from __future__ import annotations

from leadertag.election import events as ev
from leadertag.election import planned, ranking
from leadertag.election.copying import replace
from leadertag.election.standing import BACK_OFF, Standing
from leadertag.errors import LeaseLost
from leadertag.model import Instance, Lease, LockView


def observe(s: Standing, event: ev.Event) -> Standing:
    """Return the standing with what the event tells. Takes no transition."""
    s = replace(s, now=max(s.now, event.at))
    match event:
        case ev.SessionOpened(session=session):
            # Whatever hung on another session is not ours any more.
            gone = s.lease is not None and s.lease.session != session
            return replace(s, session=session, lease=None if gone else s.lease)
        case ev.LockSeen(view=view):
            return _lock_seen(replace(s, viewed=s.serial), view)
        case ev.InstanceSeen(instance=instance):
            return _instance_seen(s, instance)
        case ev.MembersSeen(members=members):
            return replace(s, members=members, listed=members)
        case ev.ProbeSeen(health=health):
            return _forget_follow(replace(s, probe=health))
        case ev.Confirmed():
            return _confirmed(s, event)
        case ev.RegistryReached() | ev.RegistryWatched():
            return _registry_news(s, event)
        case ev.StopAsked(keep=keep):
            return replace(s, stopping=True, keep=keep)
        case ev.Done():
            return _done(s, event)
    return s


def _registry_news(s: Standing, event: ev.RegistryReached | ev.RegistryWatched) -> Standing:
    if isinstance(event, ev.RegistryReached):
        return replace(s, registry_at=max(s.registry_at, event.sent_at))
    failing_since = s.now if s.blind_since is None else s.blind_since
    return replace(s, blind_since=None if event.works else failing_since)


def _done(s: Standing, event: ev.Done) -> Standing:
    effect, error, value = event.effect, event.error, event.value
    if isinstance(effect, (ev.ReadMembers, ev.ShutOut, ev.EnterGuard)) and value is not None:
        s = replace(s, members=value)
    if isinstance(effect, ev.Canvass) and isinstance(value, ev.Poll):
        s = ranking.heard(s, value, effect)
    if isinstance(effect, ev.EnterGuard) and value is not None:
        s = replace(s, guarded=True)
    if isinstance(effect, ev.Acquire) and isinstance(value, LockView):
        s = _lock_seen(s, value) if _is_news(s, effect, value) else s
    if isinstance(effect, ev.Update) and isinstance(value, Lease) and s.lease is not None:
        s = replace(s, lease=value)
    lease = getattr(effect, "lease", None)
    if isinstance(error, LeaseLost) and lease and s.lease and lease.term == s.lease.term:
        s = replace(s, lease=None, reason=str(error))
    if effect == s.pending and error is not None:
        pause = BACK_OFF[min(s.failures, len(BACK_OFF) - 1)]
        s = replace(s, failures=s.failures + 1, retry_at=s.now + pause, reason=str(error))
    return s


def _is_news(s: Standing, effect: ev.Acquire, view: LockView) -> bool:
    # An answer may be later than the watch, which then has nothing more to tell.
    return s.view is None or view.index > s.view.index or s.viewed < effect.serial


def _lock_seen(s: Standing, view: LockView) -> Standing:
    if s.lease is not None and view.index < s.lease.index and view.exists:
        return s  # a late picture from before our own write; confirmation settles the rest
    others_term = view.record.term if view.record and view.holder != s.session else 0
    s = replace(s, view=view, plan=view.plan, seen_term=max(s.seen_term, others_term))
    s = ranking.settled(planned.notice_leader(planned.notice(s)))
    if s.lease is not None:
        s = replace(s, lease=_as_written(s.lease, view))
    if s.lease is not None and view.holder != s.lease.session:
        s = replace(s, lease=None, reason="the lock is held by another" if view.holder
                    else "the lock was taken away")  # fmt: skip
    return _first_seen_free(s, view)


def _as_written(lease: Lease, view: LockView) -> Lease:
    record = view.record
    mine = view.holder == lease.session and view.index > lease.index
    if record is None or not mine or record.term != lease.term:
        return lease
    # Our own write, whose answer was lost: the next one has to compare with it.
    return replace(lease, index=view.index, record=record)


def _first_seen_free(s: Standing, view: LockView) -> Standing:
    if not view.free or view.marked:
        return replace(s, free_since=None, wait=0.0)
    memory = s.memory
    known = view.exists and memory is not None and memory.free_index == view.index
    if s.free_since is None and known and memory and memory.free_since is not None:
        # An earlier run saw it free, and nothing has happened to it since.
        return replace(s, free_since=memory.free_since, free_index=view.index, wait=memory.wait)
    if s.free_since is not None and s.free_index == view.index:
        return s
    # Free at another index than before: somebody held it in between and may be acting.
    lease = view.record.lease if view.record else 0.0
    return replace(s, free_since=s.now, free_index=view.index, wait=max(s.policy.lease, lease))


def _instance_seen(s: Standing, instance: Instance | None) -> Standing:
    s = replace(
        s, instance=instance, instance_known=True, pictured=s.serial, pictured_at=s.now
    )  # fmt: skip
    return _forget_follow(s)


def _forget_follow(s: Standing) -> Standing:
    # A service that was down may come back as anything: it has to follow anew.
    return replace(s, followed=0) if s.unfit and s.followed else s


def _confirmed(s: Standing, event: ev.Confirmed) -> Standing:
    if s.lease is None or event.lease.term != s.lease.term:
        return s  # about a lease that is history
    if not event.held:
        writing = isinstance(s.pending, (ev.Publish, ev.Update, ev.Release))
        if writing or event.lease.index != s.lease.index:
            return s  # about the record before our own write, which itself tells a loss
        return replace(s, lease=None, reason="the lock was lost")
    return replace(s, confirmed_at=max(s.confirmed_at, event.sent_at))
