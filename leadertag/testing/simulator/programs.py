"""What each effect asks of the small world's backend, step by step, and what comes of it.

The same sequences as in ``performing``. Each step happens at one instant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from leadertag.election import events as ev
from leadertag.election.lost import left_published
from leadertag.errors import BackendError, Changed, LeaseLost
from leadertag.model import Gate, Lease, LockView, Phase, Record, TagChange
from leadertag.plan import NO_PLAN
from leadertag.testing.simulator.small import SERVICE, Backend, Entry, OpenGate, Request

PROGRAMS: dict[type[ev.Effect], tuple[str, ...]] = {
    ev.Acquire: ("take",),
    ev.Adopt: ("adopt",),
    ev.Update: ("update",),
    ev.Release: ("release",),
    ev.Discard: ("discard",),
    ev.ReadMembers: ("members",),
    ev.ShutOut: ("shut_out", "members"),
    ev.ShutOutLost: ("shut_out_lost",),
    ev.Publish: ("confirm", "record", "tag", "confirm", "open"),
    ev.Retract: ("retract",),
    ev.SetTags: ("set_tags",),
    ev.ShutGate: ("close",),
    ev.WritePlan: ("plan",),
}
LOCAL = frozenset({"tag", "open", "retract", "set_tags", "close"})
"""Steps at the own agent: never lost, never late."""
Outcome = tuple[Backend, Any]


def arrive(who: int, request: Request, b: Backend) -> tuple[Backend, Any, BackendError | None]:
    """A request is at the backend: return what that makes of it, a value, an error."""
    try:
        after, value = _STEPS[request.step](who, request, b)
    except BackendError as error:
        return b, None, error
    return after, value, None


def holds(lease: Lease, b: Backend) -> bool:
    """Whether the session still holds the key with that term."""
    record = b.view.record
    return b.view.holder == lease.session and bool(record and record.term == lease.term)


def written(b: Backend, holder: str, record: Record | None) -> Backend:
    """Write the key."""
    index = b.top + 1
    return replace(b, top=index, view=replace(b.view, index=index, holder=holder, record=record))


def _prove(lease: Lease, b: Backend) -> None:
    if b.view.index != lease.index or b.view.holder != lease.session:
        raise LeaseLost("not held any more")


def _lease(request: Request) -> Lease:
    lease = request.lease
    assert lease is not None
    return lease


def _take(_: int, request: Request, b: Backend) -> Outcome:
    e, session = request.effect, request.session
    assert isinstance(e, ev.Acquire)
    if session not in b.sessions:
        raise LeaseLost("the session is gone")
    if b.view.index != e.seen.index or b.view.holder not in ("", session):
        return b, b.view
    term = b.top + 1
    record = replace(e.record, term=term)
    b = written(b, session, record)
    return b, Lease(b.view.key, term, term, session, record)


def _replace(request: Request, b: Backend, record: Record) -> Outcome:
    lease = _lease(request)
    _prove(lease, b)
    b = written(b, lease.session, record)
    return b, replace(lease, index=b.view.index, record=record)


def _adopt(_: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.Adopt)
    return _replace(request, b, e.record)


def _update(_: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.Update)
    return _replace(request, b, e.record)


def _record(_: int, request: Request, b: Backend) -> Outcome:
    e, lease = request.effect, _lease(request)
    assert isinstance(e, ev.Publish)
    if replace(e.record, reason=lease.record.reason) == lease.record:
        return b, lease
    return _replace(request, b, e.record)


def _release(_: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.Release)
    _prove(e.lease, b)
    return written(b, "", e.record), None


def _discard(_: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.Discard)
    if b.view.index != e.view.index or b.view.holder != e.view.holder:
        raise LeaseLost("changed since")
    record = b.view.record
    if record is not None and record.phase is Phase.RELEASED:
        record = replace(record, phase=Phase.ELECTED)
    return written(b, "", record), None


def _members(_: int, __: Request, b: Backend) -> Outcome:
    return b, tuple(entry.instance(n) for n, entry in enumerate(b.entries))


def _shut_out(who: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.ShutOut)
    _prove_held(e.lease, b)
    return _shut(1 - who, b)


def _shut_out_lost(who: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.ShutOutLost)
    if e.lease is not None:
        _prove_held(e.lease, b)
    elif b.view.index != e.seen.index:
        raise Changed("the lock is not free any more")
    other = b.entries[1 - who].instance(1 - who)
    return _shut(1 - who, b) if left_published(other, SERVICE) else (b, None)


def _shut(who: int, b: Backend) -> Outcome:
    other = b.entries[who]
    shut = tuple(OpenGate(gate.term, False) for gate in other.gates)
    return changed(b, who, replace(other, gates=shut)), None


def _prove_held(lease: Lease, b: Backend) -> None:
    if not holds(lease, b):
        raise LeaseLost("not held any more")


def _confirm(_: int, request: Request, b: Backend) -> Outcome:
    _prove_held(_lease(request), b)
    return b, True


def _ask(_: int, request: Request, b: Backend) -> Outcome:
    return b, holds(_lease(request), b)


# -- the own registration ----------------------------------------------------------------


def changed(b: Backend, who: int, entry: Entry) -> Backend:
    """Change one registration."""
    return replace(b, entries=tuple(entry if n == who else e for n, e in enumerate(b.entries)))


def _gates(entry: Entry, gate: Gate | None, *, opened: bool) -> tuple[OpenGate, ...]:
    if gate is None:
        return entry.gates
    kept = tuple(g for g in entry.gates if g.term != gate.term)
    return (*kept, OpenGate(gate.term, opened))


def _tag(who: int, request: Request, b: Backend) -> Outcome:
    e, entry = request.effect, b.entries[who]
    assert isinstance(e, ev.Publish)
    gates = () if e.gate is None else (OpenGate(e.gate.term, False),)
    return changed(b, who, replace(entry, tags=e.change.apply(entry.tags), gates=gates)), None


def _open(who: int, request: Request, b: Backend) -> Outcome:
    e, entry = request.effect, b.entries[who]
    assert isinstance(e, ev.Publish)
    return changed(b, who, replace(entry, gates=_gates(entry, e.gate, opened=True))), None


def _close(who: int, request: Request, b: Backend) -> Outcome:
    e, entry = request.effect, b.entries[who]
    assert isinstance(e, ev.ShutGate)
    return changed(b, who, replace(entry, gates=_gates(entry, e.gate, opened=False))), None


def _untag(who: int, request: Request, b: Backend) -> Outcome:
    e, entry = request.effect, b.entries[who]
    assert isinstance(e, (ev.Retract, ev.SetTags))
    change: TagChange = e.change
    return changed(b, who, replace(entry, tags=change.apply(entry.tags), gates=())), None


def _plan(_: int, request: Request, b: Backend) -> Outcome:
    e = request.effect
    assert isinstance(e, ev.WritePlan)
    if e.plan.index != b.view.plan.index:
        raise Changed("the plan has changed")
    asks = e.plan.paused or e.plan.switchover is not None
    plan = replace(e.plan, index=b.top + 1) if asks else NO_PLAN
    view: LockView = replace(b.view, plan=plan)
    return replace(b, view=view, top=b.top + 1), plan


_STEPS: dict[str, Callable[[int, Request, Backend], Outcome]] = {
    "take": _take, "adopt": _adopt, "update": _update, "release": _release, "discard": _discard,
    "members": _members, "shut_out": _shut_out,
    "shut_out_lost": _shut_out_lost, "confirm": _confirm, "record": _record,
    "tag": _tag, "open": _open, "retract": _untag, "set_tags": _untag, "close": _close,
    "plan": _plan, "ask": _ask,
}  # fmt: skip
