"""When does a member move on? For each state its signals, first one up wins.

Each guard reads the facts and the event at hand and decides nothing else. Safety comes
first in every list: losing the lock outranks whatever else has happened.
"""

from __future__ import annotations

from collections.abc import Callable

from leadertag.election import events as ev
from leadertag.election import planned
from leadertag.election.policy import PUBLISH_PATIENCE, RETRACT_LIMIT, SLACK
from leadertag.election.standing import Standing
from leadertag.election.states import Signal, State
from leadertag.errors import Conflict, LeaseLost, PermissionDenied
from leadertag.hookspecs import HookEvent
from leadertag.model import Lease, Phase, Role

Guard = Callable[[Standing, ev.Event], bool]
HOOK_GRACE = 1.0
"""Seconds after its limit when a hook that has not been reported counts as failed."""


LED = (State.LEADING, State.PUBLISHING, State.HOLDING, State.SUSPENDED, State.STOPPED)
"""States in which a process that was acting was published too: it may be adopted."""

# -- may it campaign? --------------------------------------------------------------


def aside(s: Standing) -> str:
    """Return why this member does not campaign now; ``""`` when it does."""
    if s.view is None:
        return "the lock has not been read yet"
    if s.view.foreign:
        return f"the lock's key {s.view.key!r} holds a value that is not leadertag's"
    if not s.view.free:
        holder = s.view.record.member if s.view.record else "another session"
        return f"the lock is held by {holder}"
    if s.plan.paused:
        return "the election is paused"
    if s.unable:
        return s.unable
    if planned.reserved_until(s) is not None:
        return f"a switchover has reserved the lock for {planned.candidate(s)}"
    if s.policy.election.compat:
        return _aside_in_compat(s)
    if s.stale_leadership:
        return "its own stale leader tag has to go first"
    return ""


def _aside_in_compat(s: Standing) -> str:
    if s.members is None or not s.members_complete:
        return "the list of members is not complete"
    foreign = s.foreign_leader
    return f"{foreign.member} was made leader by the predecessor" if foreign else ""


def _may_campaign(s: Standing, _: ev.Event) -> bool:
    return s.now >= s.retry_at and not aside(s)


# -- what happens to whoever holds the lock ------------------------------------------


def _lost(s: Standing, _: ev.Event) -> bool:
    return s.lease is None


def _stop(s: Standing, _: ev.Event) -> bool:
    return s.stopping


def _keep(s: Standing, _: ev.Event) -> bool:
    return s.stopping and s.keep


def _keep_published(s: Standing, _: ev.Event) -> bool:
    # On its way to mend its tags, it is published all the same.
    return s.stopping and s.keep and s.role is Role.LEADER


def _unfit(s: Standing, _: ev.Event) -> bool:
    return s.instance_known and bool(s.unfit)


def _paused(s: Standing, _: ev.Event) -> bool:
    return s.plan.paused


def _suspend(s: Standing, _: ev.Event) -> bool:
    published = s.lease is not None and s.lease.record.phase is Phase.LEADING
    return s.plan.paused and published and s.instance_known and bool(s.unfit)


def _fit(s: Standing, _: ev.Event) -> bool:
    return not s.unfit


def _unpaused(s: Standing, _: ev.Event) -> bool:
    return not s.plan.paused


def _hand_over(s: Standing, _: ev.Event) -> bool:
    return planned.may_hand_over(s)


def _no_contact(s: Standing, _: ev.Event) -> bool:
    return s.out_of_contact


def _hold(s: Standing, _: ev.Event) -> bool:
    return s.out_of_contact and s.policy.election.on_backend_loss == "hold"


def _foreign(s: Standing, _: ev.Event) -> bool:
    return s.foreign_leader is not None


def _done(s: Standing, event: ev.Event) -> ev.Done | None:
    """Return the outcome of what the state waits for, if this event is it."""
    if isinstance(event, ev.Done) and event.effect == s.pending:
        return event
    return None


def _hook_ok(s: Standing, event: ev.Event) -> bool:
    if s.pending is None:
        return True  # no hook of that event is configured
    done = _done(s, event)
    return bool(done and done.error is None and done.value.ok)


def _hook_failed(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    if done:
        return done.error is not None or not done.value.ok
    if not isinstance(s.pending, ev.RunHook):
        return False
    return s.now >= s.entered + s.pending.change.timeout + HOOK_GRACE


# -- state by state ------------------------------------------------------------------


def _ready(s: Standing, _: ev.Event) -> bool:
    return s.instance_known and s.view is not None and bool(s.session)


def _adoptable(s: Standing, _: ev.Event) -> bool:
    memory, view = s.memory, s.view
    if memory is None or view is None or memory.lease is None or not s.own_lock:
        return False
    led = memory.acting and memory.state in LED
    record = view.record
    live = record is not None and record.phase is Phase.LEADING
    same = record is not None and record.term == memory.lease.term
    return led and live and same and s.instance is not None and not s.stopping


def _may_adopt(s: Standing, event: ev.Event) -> bool:
    return s.now >= s.retry_at and _adoptable(s, event)


def _orphaned(s: Standing, event: ev.Event) -> bool:
    return s.own_lock and s.now >= s.retry_at and not _adoptable(s, event)


def _left_acting(s: Standing, _: ev.Event) -> bool:
    return s.acting and s.view is not None and not s.own_lock


def _got_lease(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return bool(done and isinstance(done.value, Lease))


def _stale_term(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return bool(done and isinstance(done.value, Lease) and done.value.term <= s.seen_term)


def _beaten(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return bool(done and done.error is None and not isinstance(done.value, Lease))


def _failed(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return bool(done and done.error is not None)


def _waited(s: Standing, event: ev.Event) -> bool:
    if s.now >= s.wait_until:
        return True
    done = _done(s, event)  # read under the lock: what a watch showed before proves nothing
    read = s.first_ever and done is not None and done.error is None
    return read and s.members_complete and not s.others_tagged and not s.others_gated


def _look_again(s: Standing, event: ev.Event) -> bool:
    # Registered a moment ago, it may not be in the catalog yet: that is doubt, not truth.
    return s.first_ever and not s.members_complete and _retry(s, event)


def _ranked(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return _hook_ok(s, event) and not (done and done.value.rank == 0)


def _unranked(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return _hook_failed(s, event) or bool(done and done.value.rank == 0)


def _guarded(s: Standing, event: ev.Event) -> bool:
    if s.pending is None:
        return True
    done = _done(s, event)
    return bool(done and s.guarded and s.members_complete and s.foreign_leader is None)


def _unguarded(s: Standing, event: ev.Event) -> bool:
    return _done(s, event) is not None


def _closed(s: Standing, event: ev.Event) -> bool:
    if s.policy.fenced and s.pending is None:
        return True  # the publishing transaction strips the others itself
    done = _done(s, event)
    if not done or done.error is not None or not s.members_complete:
        return False
    if not s.others_tagged:
        return True
    if not isinstance(done.effect, ev.ShutOut):
        return False  # a dead one may come back: shut it out even if it does not pass
    gone = not any(member.passing for member in s.others_tagged)
    return gone or s.now >= s.entered + s.policy.gate_life


def _close_again(s: Standing, event: ev.Event) -> bool:
    if _done(s, event) and s.others_tagged and not isinstance(s.pending, ev.ShutOut):
        return True
    return s.pending is None and s.now >= s.retry_at


def _published(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    return bool(done and isinstance(done.value, ev.Publication))


def _rejected(s: Standing, event: ev.Event) -> bool:
    done = _done(s, event)
    if done is None or done.error is None:
        return False
    for_good = isinstance(done.error, (PermissionDenied, Conflict))
    return for_good or s.now >= s.entered + PUBLISH_PATIENCE


def _retry(s: Standing, _: ev.Event) -> bool:
    return s.pending is None and s.now >= s.retry_at


def _reverted(s: Standing, _: ev.Event) -> bool:
    return (s.tags_wrong_for_leader or s.gate_shut) and s.now >= s.retry_at


def _contact(s: Standing, _: ev.Event) -> bool:
    return s.now < s.contact_ends - SLACK


def _retracted(s: Standing, event: ev.Event) -> bool:
    late = s.now >= s.entered + RETRACT_LIMIT
    return s.pending is None or late or _done(s, event) is not None


def _demoted(s: Standing, event: ev.Event) -> bool:
    return not s.acting or _hook_ok(s, event)


def _fenced(s: Standing, event: ev.Event) -> bool:
    return s.policy.budget(HookEvent.FENCE) > 0 and _hook_ok(s, event)


def _unfenced(s: Standing, event: ev.Event) -> bool:
    return s.policy.budget(HookEvent.FENCE) == 0 or _hook_failed(s, event)


def _released(s: Standing, event: ev.Event) -> bool:
    if s.lease is None and not s.own_lock:
        return True
    done = _done(s, event)
    return bool(done and (done.error is None or isinstance(done.error, LeaseLost)))


_HOLDER: list[tuple[Signal, Guard]] = [
    (Signal.LOST, _lost),
    (Signal.STOP, _stop),
    (Signal.UNFIT, _unfit),
    (Signal.NO_CONTACT, _no_contact),
]
_ACTING: list[tuple[Signal, Guard]] = [*_HOLDER, (Signal.FOREIGN, _foreign)]
_IDLE_HOLDER: list[tuple[Signal, Guard]] = [*_HOLDER, (Signal.PAUSE, _paused)]

SIGNALS: dict[State, list[tuple[Signal, Guard]]] = {
    State.STARTING: [(Signal.STOP, _stop), (Signal.READY, _ready)],
    State.WATCHING: [
        (Signal.STOP, _stop),
        (Signal.ADOPTABLE, _may_adopt),
        (Signal.ORPHANED, _orphaned),
        (Signal.LOST, _left_acting),
        (Signal.CAMPAIGN, _may_campaign),
    ],
    State.ADOPTING: [(Signal.ADOPTED, _got_lease), (Signal.FAILED, _failed)],
    State.ACQUIRING: [
        (Signal.STALE_TERM, _stale_term),
        (Signal.ACQUIRED, _got_lease),
        (Signal.BEATEN, _beaten),
        (Signal.FAILED, _failed),
    ],
    State.WAITING_OUT: [*_IDLE_HOLDER, (Signal.WAITED, _waited), (Signal.RETRY, _look_again)],
    State.VETTING: [*_IDLE_HOLDER, (Signal.PASSED, _hook_ok), (Signal.REFUSED, _hook_failed)],
    State.RANKING: [*_IDLE_HOLDER, (Signal.PASSED, _ranked), (Signal.REFUSED, _unranked)],
    State.GUARDING: [*_IDLE_HOLDER, (Signal.PASSED, _guarded), (Signal.REFUSED, _unguarded)],
    State.PROMOTING: [*_ACTING, (Signal.PROMOTED, _hook_ok), (Signal.FAILED, _hook_failed)],
    State.CLOSING: [*_ACTING, (Signal.CLOSED, _closed), (Signal.RETRY, _close_again)],
    State.PUBLISHING: [
        (Signal.KEEP, _keep_published),
        (Signal.LOST, _lost),
        (Signal.SUSPEND, _suspend),
        *_ACTING[1:],
        (Signal.PUBLISHED, _published),
        (Signal.REJECTED, _rejected),
        (Signal.RETRY, _retry),
    ],
    State.LEADING: [
        (Signal.LOST, _lost),
        (Signal.HOLD, _hold),
        (Signal.NO_CONTACT, _no_contact),
        (Signal.SUSPEND, _suspend),
        (Signal.UNFIT, _unfit),
        (Signal.KEEP, _keep),
        (Signal.STOP, _stop),
        (Signal.FOREIGN, _foreign),
        (Signal.HAND_OVER, _hand_over),
        (Signal.REVERTED, _reverted),
    ],
    State.HOLDING: [
        (Signal.LOST, _lost),
        (Signal.UNFIT, _unfit),
        (Signal.STOP, _stop),
        (Signal.CONTACT, _contact),
    ],
    State.SUSPENDED: [
        (Signal.LOST, _lost),
        (Signal.NO_CONTACT, _no_contact),
        (Signal.KEEP, _keep),
        (Signal.STOP, _stop),
        (Signal.FOREIGN, _foreign),
        (Signal.FIT, _fit),
        (Signal.UNFIT, _unpaused),
    ],
    State.RETRACTING: [(Signal.DONE, _retracted), (Signal.NO_CONTACT, _no_contact)],
    State.DEMOTING: [(Signal.DONE, _demoted), (Signal.FAILED, _hook_failed)],
    State.FENCING: [(Signal.DONE, _fenced), (Signal.FAILED, _unfenced)],
    State.STUCK: [(Signal.RETRY, _retry)],
    State.RELEASING: [(Signal.DONE, _released), (Signal.RETRY, _retry)],
    State.STOPPED: [],
}
