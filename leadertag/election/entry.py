"""What a member does on entering a state: the protocol's steps, in its own order.

Each function gets the standing (already in the new state), the signal that led there
and the event behind it; it returns the standing with what the state waits for, and the
effects. A state that has nothing to wait for leaves ``pending`` empty and passes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.policy import RANK_WINDOW, head_start
from leadertag.election.ranking import canvasses, predecessor
from leadertag.election.standing import BACK_OFF, Standing
from leadertag.election.states import Signal, State
from leadertag.errors import LeaseLost
from leadertag.history import LeaderChange
from leadertag.hookspecs import HookEvent
from leadertag.model import Gate, Lease, LockView, Phase, Role, TagChange

Entry = tuple[Standing, list[ev.Effect]]
GUARD_BACK = 1.0
"""Seconds to stand back when the predecessor is electing at this moment."""
STUCK_RETRY = 2.0
"""Seconds between two tries to demote a leader that would not be demoted."""


def ask(s: Standing, kind: Callable[..., ev.Effect], **values: Any) -> tuple[Standing, ev.Effect]:
    """Return an effect with a serial of its own."""
    s = replace(s, serial=s.serial + 1)
    return s, kind(serial=s.serial, **values)


def _await(s: Standing, kind: Callable[..., ev.Effect], **values: Any) -> Entry:
    s, effect = ask(s, kind, **values)
    return replace(s, pending=effect, asked_at=s.now), [effect]


def _hook(s: Standing, event: HookEvent, role: Role) -> Entry:
    if not s.policy.budget(event):
        return s, []
    return _await(s, ev.RunHook, change=s.change(event, role))


def _value(event: ev.Event) -> Any:
    return event.value if isinstance(event, ev.Done) else None


def _take(s: Standing, lease: Lease, event: ev.Event) -> Standing:
    """Hold that lease. It is confirmed as of the moment when it was asked for."""
    assert isinstance(event, ev.Done)
    view = LockView(lease.key, lease.index, lease.session, lease.record)
    if s.view is not None and s.viewed >= event.effect.serial and _is_past(lease, s.view):
        view = s.view  # the answer is later than the watch, which has nothing more to tell
    return replace(
        s, lease=lease, term=lease.term, view=view, confirmed_at=s.asked_at, memory=None,
        seen_term=max(s.seen_term, lease.term), failures=0,
    )  # fmt: skip


def _is_past(lease: Lease, view: LockView) -> bool:
    return not view.exists or view.index > lease.index


# -- taking over -----------------------------------------------------------------------


def adopting(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Take up the own lock with a raised incarnation."""
    assert s.view is not None
    assert s.view.record is not None
    record = replace(s.view.record, incarnation=s.view.record.incarnation + 1)
    return _await(s, ev.Adopt, view=s.view, record=record)


def acquiring(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Ask for the lock, and note what wait is owed for the way in which it became free."""
    assert s.view is not None
    owed = s.wait if s.free_since is not None else s.policy.lease
    since = s.free_since if s.free_since is not None else s.now
    s = replace(
        s, waited=False, wait_until=s.now if s.view.marked else since + owed,
        gates_end=_gates_end(s, s.view, since),
        first_ever=not s.view.exists and s.seen_term == 0, reason="",
    )  # fmt: skip
    return _await(s, ev.Acquire, seen=s.view, record=s.record(Phase.ELECTED))


def _gates_end(s: Standing, view: LockView, since: float) -> float:
    if predecessor(s, view):
        # Given way to by one that never led: whoever led had lost the lock before that one held it.
        return s.policy.gates_end(s.announced_at, marked=False)
    return s.policy.gates_end(s.now if view.marked else since, marked=view.marked)


def waiting_out(s: Standing, signal: Signal, event: ev.Event) -> Entry:
    """Hold the lock; on the very first election see whether anybody leads already."""
    if signal is Signal.RETRY:
        return _await(s, ev.ReadMembers)
    if s.seen_term or (s.view is not None and s.view.exists and not s.own_lock):
        s = replace(s, first_ever=False)  # somebody else held it since it was asked for
    s = _take(s, _value(event), event)
    if isinstance(event, ev.Done):
        s = replace(s, tabled=predecessor(s, _seen(event)))
    if isinstance(event, ev.Done) and not _seen(event).exists:
        # It may have come and gone again unseen: a key that is missing has no index.
        ends = s.policy.gates_end(s.now, marked=False)
        s = replace(s, wait_until=s.now + s.policy.lease, gates_end=ends)
    s, stop_following = ask(s, ev.CancelHook)
    effects = [stop_following] if s.chore else []
    if not s.first_ever:
        return s, effects
    s, reading = _await(s, ev.ReadMembers)
    return s, effects + reading


def _seen(acquired: ev.Done) -> LockView:
    assert isinstance(acquired.effect, ev.Acquire)
    return acquired.effect.seen


def vetting(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Ask whether this instance may lead. The wait is over: a release may be marked."""
    return _hook(replace(s, waited=True), HookEvent.BEFORE_PROMOTE, Role.LEADER)


def ranking(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Ask whether this instance should lead at all; one that has just announced its rank may."""
    if s.tabled:
        return s, []
    return _hook(s, HookEvent.RANK, Role.LEADER)


def canvassing(s: Standing, _: Signal, event: ev.Event) -> Entry:
    """Hear the others, where there are hooks that rank."""
    if isinstance(event, ev.Done) and isinstance(event.effect, ev.RunHook) and not s.tabled:
        s = replace(s, rank=event.value.rank or 0)
    if not canvasses(s):
        return s, []
    # Whoever led last has just failed or stepped down; the registry may not know it yet.
    unheeded = tuple(sorted({*s.yielded, *s.silent, s.led}))
    return _await(
        s, ev.Canvass, term=s.term, tabled=s.tabled, member=s.me.member,
        unheeded=unheeded, window=RANK_WINDOW,
    )  # fmt: skip


def guarding(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Keep the predecessor from electing meanwhile."""
    if not s.policy.election.compat:
        return s, []
    return _await(s, ev.EnterGuard)


def promoting(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Act as leader from here on, in succession of whoever led last."""
    succession = LeaderChange(s.term, s.led, s.me.member, s.ended_by)
    return _hook(replace(s, acting=True, succession=succession), HookEvent.PROMOTE, Role.LEADER)


def closing(s: Standing, signal: Signal, _: ev.Event) -> Entry:
    """Shut out whoever else carries the leader tag, passing or not."""
    if s.policy.fenced:
        return s, []
    if signal is Signal.RETRY and s.others_tagged and s.lease:
        return _await(s, ev.ShutOut, others=s.others_tagged, lease=s.lease)
    return _await(s, ev.ReadMembers)


def verifying(s: Standing, signal: Signal, event: ev.Event) -> Entry:
    """Ask the service whether it still leads: it may have been restarted meanwhile, unseen.

    What clients find stays as it is until it has answered.
    """
    if signal is Signal.ADOPTED:
        s = replace(_take(s, _value(event), event), acting=True, waited=True, offered=True)
    return _hook(replace(s, unverified=False), HookEvent.VERIFY, Role.LEADER)


def publishing(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Make it known."""
    assert s.lease is not None
    s = replace(s, offered=True)
    election = s.policy.election
    change = TagChange(add=(election.leader_tag,), remove=(election.follower_tag,))
    return _await(
        s, ev.Publish, lease=s.lease, record=s.record(Phase.LEADING),
        instance_id=s.me.id, change=change, gate=s.gate,
    )  # fmt: skip


def leading(s: Standing, signal: Signal, event: ev.Event) -> Entry:
    """Lead: the registration now reads as it was published."""
    if signal is Signal.UPHELD:
        return s, []  # nothing was changed, so nothing is written
    publication, effect = _value(event), getattr(event, "effect", None)
    assert isinstance(effect, ev.Publish)
    s = _take(s, publication.lease, event).assumed(effect, effect.change, effect.gate)
    if s.succession is not None and s.vacant_since is not None:
        s = replace(s, succession=replace(s.succession, vacant=s.now - s.vacant_since))
    return replace(
        s, confirmed_at=publication.sent_at, registry_at=publication.sent_at,
        role=Role.LEADER, query_due=s.now, retry_at=s.now + 0.2, reason="",
        led=s.me.member, led_term=s.term, ended_by="", vacant_since=None,
    ), []  # fmt: skip


# -- giving up -------------------------------------------------------------------------


def holding(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Keep the service's role, but let nobody find it: without contact, or unfit in a pause."""
    if s.gate is None or s.instance is None:
        return s, []
    s, shut = ask(s, ev.ShutGate, instance_id=s.instance.id, gate=s.gate)
    return s, [shut]


def _retraction(s: Standing) -> dict[str, Any]:
    gate = Gate(s.policy.election.name, s.term) if s.policy.gated else None
    change = TagChange(remove=(s.policy.election.leader_tag,))
    return {"instance_id": s.me.id, "change": change, "gate": gate}


def retracting(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """A planned step-down: stop being found before ceasing to be the leader."""
    if s.instance is None:
        return s, []
    return _await(s, ev.Retract, **_retraction(s))


def demoting(s: Standing, signal: Signal, _: ev.Event) -> Entry:
    """Stop acting. The registry is told at the same time, but never waited for."""
    if not s.acting:
        return s, []
    effects: list[ev.Effect] = []
    shows = s.offered or s.stale_leadership
    if signal is not Signal.DONE and s.instance is not None and shows:
        s, retract = ask(s, ev.Retract, **_retraction(s))
        effects.append(retract)
    s, hooks = _hook(s, HookEvent.DEMOTE, Role.FOLLOWER)
    return s, effects + hooks


def fencing(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """``demote`` failed: end the service for good."""
    return _hook(s, HookEvent.FENCE, Role.UNKNOWN)


def stuck(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """Tell it loudly and keep the lock."""
    s = replace(s, retry_at=s.now + STUCK_RETRY, reason=s.reason or "demote failed")
    if s.lease is None:
        return s, []
    s, update = ask(s, ev.Update, lease=s.lease, record=s.record(Phase.STUCK))
    return s, [update]


def releasing(s: Standing, signal: Signal, event: ev.Event) -> Entry:
    """Free the lock, with the mark only if no wait is owed any more."""
    s = replace(s, acting=False, offered=False, role=Role.UNKNOWN, succession=None)
    if signal is Signal.STALE_TERM:
        s = _term_too_low(s, _value(event))
    if s.lease is not None:
        phase = Phase.RELEASED if s.waited else Phase.ELECTED
        return _await(s, ev.Release, lease=s.lease, record=s.record(phase))
    if s.own_lock and s.view is not None:
        return _await(s, ev.Discard, view=s.view)
    return s, []


def _term_too_low(s: Standing, lease: Lease) -> Standing:
    """Give a lease back that was granted but cannot fence anything, and take time over it."""
    pause = BACK_OFF[min(s.failures, len(BACK_OFF) - 1)]
    return replace(
        s, lease=lease, failures=s.failures + 1, retry_at=s.now + pause,
        reason=f"term {lease.term} is not above {s.seen_term}, which was seen before (a rebuilt or "
        "restored backend? then stop leadertag everywhere and remove its state directories)",
    )  # fmt: skip


def watching(s: Standing, signal: Signal, event: ev.Event) -> Entry:
    """Be one of many again. A list read on the way may have been filtered: the watch's counts."""
    s = replace(s, members=s.listed or s.members)
    if signal is Signal.FAILED:  # of acquiring or adopting
        lost = isinstance(event, ev.Done) and isinstance(event.error, LeaseLost)
        return replace(s, memory=None if lost else s.memory), []
    if signal is Signal.DONE and s.own_lock and s.view is not None:
        # Our own release, which the watch has not shown yet.
        released = s.lease is not None and s.waited
        record = s.record(Phase.RELEASED) if released else s.view.record
        s = replace(s, view=replace(s.view, holder="", record=record))
    holds = signal in (Signal.DONE, Signal.LOST)
    if signal is Signal.DONE and s.yields:
        until = s.now + head_start(s.policy.election, gated=s.policy.gated)
        s = replace(s, yields=False, stand_back_until=max(s.stand_back_until, until))
    return replace(
        s, lease=None, memory=None if holds else s.memory, retry_at=max(s.retry_at, s.now),
        role=Role.UNKNOWN if holds else s.role,
    ), []  # fmt: skip


def nothing(s: Standing, _: Signal, __: ev.Event) -> Entry:
    """There is nothing to do on entry."""
    return s, []


ENTRY: dict[State, Callable[[Standing, Signal, ev.Event], Entry]] = {
    State.WATCHING: watching,
    State.ADOPTING: adopting,
    State.VERIFYING: verifying,
    State.ACQUIRING: acquiring,
    State.WAITING_OUT: waiting_out,
    State.VETTING: vetting,
    State.RANKING: ranking,
    State.CANVASSING: canvassing,
    State.GUARDING: guarding,
    State.PROMOTING: promoting,
    State.CLOSING: closing,
    State.PUBLISHING: publishing,
    State.LEADING: leading,
    State.HOLDING: holding,
    State.SUSPENDED: holding,
    State.RETRACTING: retracting,
    State.DEMOTING: demoting,
    State.FENCING: fencing,
    State.STUCK: stuck,
    State.RELEASING: releasing,
    State.STOPPED: nothing,
}
