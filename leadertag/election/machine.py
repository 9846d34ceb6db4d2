"""The election as an algorithm: ``step(standing, event) -> (standing, effects)``.

A step takes the event into the facts, then moves along the table as long as a signal
of the present state is up, doing what each state does on entry, and last sees to a
follower's duties. No I/O, no clock, no threads: the same machine is driven by the
daemon, by one-shot ``check`` and by the simulator.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

from leadertag.election import duties, planned, ranking
from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.entry import ENTRY, GUARD_BACK, ask
from leadertag.election.observing import observe
from leadertag.election.policy import HOOK_GRACE, RANK_WINDOW, RETRACT_LIMIT, Policy
from leadertag.election.signals import SIGNALS
from leadertag.election.standing import BACK_OFF, Standing
from leadertag.election.states import GIVING_UP, TRANSITIONS, Signal, State
from leadertag.hookspecs import HookEvent
from leadertag.model import Instance, Role

Step = tuple[Standing, list[ev.Effect]]


def begin(policy: Policy, now: float, memory: ev.Memory | None = None) -> Standing:
    """Return the standing of a process that has just started.

    ``memory`` is what the process before it left (of the same boot, under the same
    member's lock file); ``None`` when there is none.
    """
    s = Standing(policy=policy, now=now, entered=now, registry_at=now)
    if memory is None:
        return s
    return replace(
        s, memory=memory, acting=memory.acting, seen_term=memory.seen_term,
        confirmed_at=memory.confirmed_at,
        term=memory.term, followed=memory.followed, stand_back_until=memory.stand_back_until,
        asked=memory.asked, asked_since=memory.asked_since, released_index=memory.released_index,
        released_since=memory.released_since, led=memory.led, led_term=memory.led_term,
        ended_by=memory.ended_by, vacant_since=memory.vacant_since,
    )  # fmt: skip


def resume(policy: Policy, now: float, memory: ev.Memory) -> Standing:
    """Return the standing that an earlier run of one-shot ``check`` had come to.

    Its lease is ours: runs are serialized by the member's lock file, and the session is
    taken up again by name. A run that was cut short in the middle of taking over or of
    giving up resumes by giving up. The service may have been restarted since: where there is a
    ``verify`` hook, it is asked.
    """
    s = begin(policy, now, memory)
    if memory.lease is None or memory.lease.session != memory.session:
        return s
    s = replace(
        s, lease=memory.lease, session=memory.session, confirmed_at=memory.confirmed_at,
        waited=memory.waited, wait_until=memory.wait_until, memory=None,
    )  # fmt: skip
    if memory.state == State.WAITING_OUT:
        return replace(s, state=State.WAITING_OUT)
    if memory.acting and memory.state in (State.LEADING, State.SUSPENDED, State.STOPPED):
        verifiable = policy.budget(HookEvent.VERIFY) > 0
        return replace(s, state=State.LEADING, role=Role.LEADER, unverified=verifiable)
    gives_up = State.STUCK if memory.acting else State.RELEASING
    return replace(s, state=gives_up, retry_at=now, reason="the last run was cut short")


def give_up(
    policy: Policy, now: float, memory: ev.Memory, reason: str, instance: Instance | None = None
) -> Standing:
    """Return the standing of whoever has to end the leadership of a process that is gone.

    Its first step demotes, and takes off whatever tag and gate the leader carried; when
    everything is done it stops instead of campaigning. ``instance`` is whom it speaks for,
    where the memory does not tell: the lock may have been lost before the process was.
    """
    s = replace(begin(policy, now, memory), session=memory.session, stopping=True)
    if memory.lease is None and not memory.acting:
        return replace(s, state=State.WATCHING)
    instance = s.as_instance(memory.lease.record) if memory.lease else instance
    assert instance is not None
    tagged = replace(instance, tags=(policy.election.leader_tag,), gate=memory.term)
    return replace(
        s, state=State.STUCK if memory.acting else State.RELEASING, lease=memory.lease,
        confirmed_at=memory.confirmed_at, waited=memory.waited, memory=None, instance=tagged,
        instance_known=True, retry_at=now, role=Role.LEADER, reason=reason,
    )  # fmt: skip


def step(s: Standing, event: ev.Event) -> Step:
    """Take one event. Returns the new standing and what is to be done, in order."""
    before = s
    s = observe(s, event)
    effects: list[ev.Effect] = []
    cause = event
    while (signal := _signal(s, cause)) is not None:
        s, wanted = _move(s, signal, cause)
        effects += wanted
        cause = ev.Tick(s.now)  # an event moves once
    s, wanted = _leave_guard(s)  # also one that was only now found to be taken
    effects += wanted
    if isinstance(cause, ev.Done) and cause.effect == s.pending:
        # It settled nothing: whoever waits for it may ask again, but not at once.
        s = replace(s, pending=None, retry_at=max(s.retry_at, s.now + BACK_OFF[0]))
    s, wanted = duties.see_to(s, event)
    effects += wanted
    s, wanted = duties.tell(before, s)
    return _remember(before, s, effects + wanted)


def _signal(s: Standing, event: ev.Event) -> Signal | None:
    return next((signal for signal, guard in SIGNALS[s.state] if guard(s, event)), None)


def _move(s: Standing, signal: Signal, event: ev.Event) -> Step:
    """Leave the present state in order, then enter the one that the table names."""
    source, target = s.state, TRANSITIONS[s.state][signal]
    s = replace(_stand_back(s, signal, event), reason=_reason(s, signal, event))
    effects: list[ev.Effect] = []
    settled = isinstance(event, ev.Done) and event.effect == s.pending
    if isinstance(s.pending, ev.RunHook) and not settled:
        s, cancel = ask(s, ev.CancelHook)
        effects.append(cancel)
    entered = s.entered if target is source else s.now
    s, leave = _leave_guard(replace(s, state=target, pending=None, entered=entered))
    s, wanted = ENTRY[target](s, signal, event)
    return s, effects + leave + wanted


def _leave_guard(s: Standing) -> Step:
    if not (s.guarded and s.state in _GUARD_ENDS):
        return s, []
    s, leave = ask(replace(s, guarded=False), ev.LeaveGuard)
    return s, [leave]


_GUARD_ENDS = (State.LEADING, State.RELEASING, State.WATCHING)
"""The predecessor's lock is given back once published, or when nothing of us is left."""
_CANDIDATE = (
    State.VETTING, State.RANKING, State.CANVASSING, State.GUARDING, State.PROMOTING,
    State.CLOSING, State.PUBLISHING,
)  # fmt: skip
_TURNED_DOWN = (Signal.REFUSED, Signal.FAILED, Signal.REJECTED)


def _stand_back(s: Standing, signal: Signal, event: ev.Event) -> Standing:
    """Let another one try, when this one was turned down."""
    if signal is Signal.OUTRANKED and isinstance(event, ev.Done):
        return ranking.give_way(s, event)
    if s.state is State.VERIFYING and signal is Signal.REFUSED:
        # It may lead anew, from scratch. The others were never down and have what it may lack.
        return replace(s, yields=True)
    if s.state not in _CANDIDATE or signal not in _TURNED_DOWN:
        return s
    pause = GUARD_BACK if s.state is State.GUARDING else s.policy.election.stand_back
    return replace(s, stand_back_until=s.now + pause)


def _reason(s: Standing, signal: Signal, event: ev.Event) -> str:
    """Return why this transition is taken, for records, hooks and people."""
    if signal is Signal.UNFIT:
        return s.unfit
    if signal in (
        Signal.NO_CONTACT,
        Signal.STOP,
        Signal.FOREIGN,
        Signal.ORPHANED,
        Signal.UNFINISHED,
        Signal.PAUSE,
    ):
        return str(signal)
    if signal is Signal.OUTRANKED and isinstance(event, ev.Done):
        return f"{ranking.better(s, event)} ranks higher"
    if signal is Signal.HAND_OVER:
        return planned.why_handed_over(s)
    if isinstance(event, ev.Done) and isinstance(event.effect, ev.RunHook) and event.value:
        return event.value.message or s.reason
    return s.reason


def _remember(before: Standing, s: Standing, effects: list[ev.Effect]) -> Step:
    """Put what must survive the process before everything that builds on it."""
    if _durable(before) == _durable(s):
        return s, effects
    s, remember = ask(s, ev.Remember, memory=s.remembered())
    return s, [remember, *effects]


# Kept elsewhere, several times a second: when the lock was last confirmed.
_durable = attrgetter(*(f.name for f in fields(ev.Memory) if f.name != "confirmed_at"), "memory")
"""What a restart has to find: whatever of it changes is remembered."""


def next_deadline(s: Standing) -> float | None:
    """Return when the machine wants a :class:`Tick`, if nothing else happens."""
    times = [s.retry_at, s.chore_at, s.shut_at, s.stand_back_until]
    if s.lease is not None and s.state not in GIVING_UP:
        times.append(s.contact_ends)
    if s.state is State.LEADING:
        times += [s.registry_ends, s.query_due]
    times += planned.deadlines(s)
    if s.state is State.WAITING_OUT:
        times.append(s.wait_until)
    if s.state is State.RETRACTING:
        times += [s.entered + RETRACT_LIMIT, s.contact_ends]
    if s.state is State.CANVASSING:
        times.append(s.entered + RANK_WINDOW + HOOK_GRACE)
    if isinstance(s.pending, ev.RunHook):
        times.append(s.entered + s.pending.change.timeout + HOOK_GRACE)
    return min((time for time in times if time > s.now), default=None)
