"""The questions that decide whether a member moves on: each reads the facts and the event at hand.

None decides anything else, and none knows in which state it is asked, or what comes first: that
is in :mod:`leadertag.election.signals`.
"""

from __future__ import annotations

from leadertag.election import events as ev
from leadertag.election import planned, ranking
from leadertag.election.policy import (
    HOOK_GRACE,
    PUBLISH_PATIENCE,
    RANK_WINDOW,
    RETRACT_LIMIT,
    SLACK,
)
from leadertag.election.standing import Standing
from leadertag.election.states import LED
from leadertag.errors import Conflict, LeaseLost, PermissionDenied
from leadertag.hookspecs import HookEvent
from leadertag.model import Lease, Phase, Role

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
        return aside_in_compat(s)
    if s.stale_leadership:
        return "its own stale leader tag has to go first"
    return ""


def aside_in_compat(s: Standing) -> str:
    if s.members is None or not s.members_complete:
        return "the list of members is not complete"
    foreign = s.foreign_leader
    if foreign is not None:
        return f"{foreign.member} was made leader by the predecessor"
    # A tag may be the predecessor's word, a gate is none of its.
    gated = s.instance is not None and s.instance.gate is not None
    return "its own old gate has to go first" if gated else ""


def may_campaign(s: Standing, _: ev.Event) -> bool:
    return s.now >= s.retry_at and not aside(s)


# -- what happens to whoever holds the lock ------------------------------------------


def lost(s: Standing, _: ev.Event) -> bool:
    return s.lease is None


def stop(s: Standing, _: ev.Event) -> bool:
    return s.stopping


def keep(s: Standing, _: ev.Event) -> bool:
    return s.stopping and s.keep


def keep_published(s: Standing, _: ev.Event) -> bool:
    # On its way to mend its tags, it is published all the same.
    return s.stopping and s.keep and s.role is Role.LEADER


def unfit(s: Standing, _: ev.Event) -> bool:
    return s.instance_known and bool(s.unfit)


def paused(s: Standing, _: ev.Event) -> bool:
    return s.plan.paused


def suspend(s: Standing, _: ev.Event) -> bool:
    published = s.lease is not None and s.lease.record.phase is Phase.LEADING
    return s.plan.paused and published and s.instance_known and bool(s.unfit)


def fit(s: Standing, _: ev.Event) -> bool:
    return not s.unfit


def unpaused(s: Standing, _: ev.Event) -> bool:
    return not s.plan.paused


def hand_over(s: Standing, _: ev.Event) -> bool:
    return planned.may_hand_over(s)


def no_contact(s: Standing, _: ev.Event) -> bool:
    return s.out_of_contact


def hold(s: Standing, _: ev.Event) -> bool:
    return s.out_of_contact and s.policy.election.on_backend_loss == "hold"


def foreign(s: Standing, _: ev.Event) -> bool:
    return s.foreign_leader is not None


def outcome(s: Standing, event: ev.Event) -> ev.Done | None:
    """Return the outcome of what the state waits for, if this event is it."""
    if isinstance(event, ev.Done) and event.effect == s.pending:
        return event
    return None


def hook_ok(s: Standing, event: ev.Event) -> bool:
    if s.pending is None:
        return True  # no hook of that event is configured
    done = outcome(s, event)
    return bool(done and done.error is None and done.value.ok)


def hook_failed(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    if done:
        return done.error is not None or not done.value.ok
    if not isinstance(s.pending, ev.RunHook):
        return False
    return s.now >= s.entered + s.pending.change.timeout + HOOK_GRACE


# -- state by state ------------------------------------------------------------------


def unfinished(s: Standing, _: ev.Event) -> bool:
    memory = s.memory
    return s.acting and s.instance_known and memory is not None and memory.state not in LED


def ready(s: Standing, _: ev.Event) -> bool:
    return s.instance_known and s.view is not None and bool(s.session)


def adoptable(s: Standing, _: ev.Event) -> bool:
    memory, view = s.memory, s.view
    if memory is None or view is None or memory.lease is None or not s.own_lock:
        return False
    led = memory.acting and memory.state in LED
    record = view.record
    live = record is not None and record.phase is Phase.LEADING
    same = record is not None and record.term == memory.lease.term
    return led and live and same and s.instance is not None and not s.stopping


def may_adopt(s: Standing, event: ev.Event) -> bool:
    return s.now >= s.retry_at and adoptable(s, event)


def orphaned(s: Standing, event: ev.Event) -> bool:
    return s.own_lock and s.now >= s.retry_at and not adoptable(s, event)


def left_acting(s: Standing, _: ev.Event) -> bool:
    return s.acting and s.view is not None and not s.own_lock


def got_lease(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return bool(done and isinstance(done.value, Lease))


def stale_term(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return bool(done and isinstance(done.value, Lease) and done.value.term <= s.seen_term)


def beaten(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return bool(done and done.error is None and not isinstance(done.value, Lease))


def failed(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return bool(done and done.error is not None)


def waited(s: Standing, event: ev.Event) -> bool:
    if s.now >= s.wait_until:
        return True
    done = outcome(s, event)  # read under the lock: what a watch showed before proves nothing
    read = s.first_ever and s.policy.sees_all and done is not None and done.error is None
    return read and s.members_complete and not s.others_tagged and not s.others_gated


def look_again(s: Standing, event: ev.Event) -> bool:
    # Registered a moment ago, it may not be in the catalog yet: that is doubt, not truth.
    return s.first_ever and not s.members_complete and retry(s, event)


def ranked(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return hook_ok(s, event) and not (done and done.value.rank == 0)


def unranked(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return hook_failed(s, event) or bool(done and done.value.rank == 0)


def outranked(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return bool(done and ranking.better(s, done))


def heard(s: Standing, event: ev.Event) -> bool:
    late = s.now >= s.entered + RANK_WINDOW + HOOK_GRACE
    return s.pending is None or late or outcome(s, event) is not None


def guarded(s: Standing, event: ev.Event) -> bool:
    if s.pending is None:
        return True
    done = outcome(s, event)
    return bool(done and s.guarded and s.members_complete and s.foreign_leader is None)


def unguarded(s: Standing, event: ev.Event) -> bool:
    return outcome(s, event) is not None


def closed(s: Standing, event: ev.Event) -> bool:
    if s.policy.fenced and s.pending is None:
        return True  # the publishing transaction strips the others itself
    done = outcome(s, event)
    if not done or done.error is not None or not s.members_complete:
        return False
    if not s.others_tagged:
        return True
    if not isinstance(done.effect, ev.ShutOut):
        return False  # a dead one may come back: shut it out even if it does not pass
    gone = not any(member.passing for member in s.others_tagged)
    if any(member.gate is not None for member in s.others_tagged):
        # Shut out, or of a lost node, it may pass again: its agent writes what it knows itself.
        gone = gone and s.now >= s.gates_end
    return gone or s.now >= s.entered + s.policy.gate_life


def close_again(s: Standing, event: ev.Event) -> bool:
    if outcome(s, event) and s.others_tagged and not isinstance(s.pending, ev.ShutOut):
        return True
    return s.pending is None and s.now >= s.retry_at


def upheld(s: Standing, event: ev.Event) -> bool:
    # One run of ``check`` after another: nothing is to be published anew, and no gate opened.
    published = s.role is Role.LEADER and not s.policy.gated
    return published and not s.tags_wrong_for_leader and hook_ok(s, event)


def unclosed(s: Standing, event: ev.Event) -> bool:
    # Whoever holds the lock but cannot reach the registry keeps those from leading who can.
    done = outcome(s, event)
    failed = done is not None and done.error is not None
    return failed and s.now >= s.entered + PUBLISH_PATIENCE


def published(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    return bool(done and isinstance(done.value, ev.Publication))


def rejected(s: Standing, event: ev.Event) -> bool:
    done = outcome(s, event)
    if done is None or done.error is None:
        return False
    for_good = isinstance(done.error, (PermissionDenied, Conflict))
    return for_good or s.now >= s.entered + PUBLISH_PATIENCE


def retry(s: Standing, _: ev.Event) -> bool:
    return s.pending is None and s.now >= s.retry_at


def unverified(s: Standing, _: ev.Event) -> bool:
    return s.unverified and s.instance_known


def reverted(s: Standing, _: ev.Event) -> bool:
    return (s.tags_wrong_for_leader or s.gate_shut) and s.now >= s.retry_at


def contact(s: Standing, _: ev.Event) -> bool:
    # Both have to be back: with the lock alone nothing could be published. Of the registry its
    # watch tells: whoever holds feeds no gate.
    return s.now < s.contact_ends - SLACK and s.blind_since is None


def retracted(s: Standing, event: ev.Event) -> bool:
    late = s.now >= s.entered + RETRACT_LIMIT
    return s.pending is None or late or outcome(s, event) is not None


def demoted(s: Standing, event: ev.Event) -> bool:
    return not s.acting or hook_ok(s, event)


def fenced(s: Standing, event: ev.Event) -> bool:
    return s.policy.budget(HookEvent.FENCE) > 0 and hook_ok(s, event)


def unfenced(s: Standing, event: ev.Event) -> bool:
    return s.policy.budget(HookEvent.FENCE) == 0 or hook_failed(s, event)


def released(s: Standing, event: ev.Event) -> bool:
    if s.lease is None and not s.own_lock:
        return True
    done = outcome(s, event)
    return bool(done and (done.error is None or isinstance(done.error, LeaseLost)))
