"""What each effect comes to, verb by verb: the scheduler's performer, as coroutines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from leadertag.election import events as ev
from leadertag.election.lost import left_published
from leadertag.errors import BackendError, BackendUnavailable, LeaseLost, NotRegistered
from leadertag.model import Health, Instance, Lease, LockView, Record
from leadertag.ranks import NO_RANKS, Ranks

if TYPE_CHECKING:
    from leadertag.testing.simulator.process import Process, Routine


def perform(p: Process, effect: ev.Effect) -> Routine:
    """Do it; returns its value, as the effect's own docstring says."""
    return (yield from _METHODS[type(effect)](p, effect))


def _own(p: Process) -> str:
    if not p.session:
        raise LeaseLost("no session is open")
    return p.session


def _acquire(p: Process, e: ev.Acquire) -> Routine:
    session, store, at_once = _own(p), p.host.store, p.host.agent is None
    taken: Lease | LockView = yield p.host.server(
        lambda: store.take(session, e.seen.index, e.record, at_once=at_once), proof=at_once
    )
    if at_once or isinstance(taken, LockView):
        return taken
    lease = taken
    try:
        record = replace(e.record, term=lease.term)
        return (yield p.host.server(lambda: store.replace(lease, record), proof=True))
    except LeaseLost:
        return (yield p.host.server(lambda: store.view))


def _adopt(p: Process, e: ev.Adopt) -> Routine:
    session = _own(p)
    term = e.view.record.term if e.view.record else 0
    if e.view.holder != session or not term:
        raise LeaseLost("not held by this session with a term")
    lease = Lease(e.view.key, term, e.view.index, session, e.record)
    return (yield p.host.server(lambda: p.host.store.replace(lease, replace(e.record, term=term))))


def _update(p: Process, e: ev.Update) -> Routine:
    return (yield p.host.server(lambda: p.host.store.replace(e.lease, e.record)))


def _release(p: Process, e: ev.Release) -> Routine:
    yield p.host.server(lambda: p.host.store.release(e.lease, e.record))


def _discard(p: Process, e: ev.Discard) -> Routine:
    session = _own(p)
    yield p.host.server(lambda: p.host.store.discard(e.view, session))


def _read_members(p: Process, _: ev.Effect) -> Routine:
    return (yield p.host.server(p.host.read_members))


def _announce(p: Process, e: ev.Announce) -> Routine:
    """Several write at once: whoever was slower reads and writes again."""
    store, note = p.host.store, None
    while note is None or note.term < e.term or note.of(e.member) is None:
        seen: Ranks = yield p.host.server(lambda: store.ranks)
        if seen.term > e.term:
            return seen
        note = yield p.host.server(
            partial(store.write_ranks, seen, seen.with_rank(e.term, e.member, e.rank))
        )
    return note


def _canvass(p: Process, e: ev.Canvass) -> Routine:
    deadline = p.host.clock.now() + e.window
    members: tuple[Instance, ...] = yield p.host.server(p.host.read_members)
    passing = {m.member for m in members if m.service_health is Health.PASSING}
    awaited = passing - {e.member, *e.unheeded}
    while True:
        ranks: Ranks = yield p.host.server(lambda: p.host.store.ranks)
        if ranks.term == e.tabled and ranks.of(e.member) is not None:
            return ev.Poll(ranks, members)
        ranks = ranks if ranks.term == e.term else NO_RANKS
        if ranks.heard(awaited) or p.host.clock.now() >= deadline:
            return ev.Poll(ranks, members)
        yield p.host.process_nap(0.01)


def _shut_out(p: Process, e: ev.ShutOut) -> Routine:
    for other in e.others:
        yield p.host.server(partial(p.host.catalog.shut_out, other.id, e.lease))
    return (yield from _read_members(p, e))


def _shut_out_lost(p: Process, e: ev.ShutOutLost) -> Routine:
    members: tuple[Instance, ...] = yield p.host.server(p.host.read_members)
    if e.member not in {m.member for m in members}:
        raise BackendUnavailable("not taken for all there are")
    for other in members:
        if other.member != e.member and left_published(other, p.host.policy.election):
            shut = partial(p.host.catalog.shut_out_lost, other, e.lease or e.seen)
            yield p.host.server(shut)


def _confirm(p: Process, lease: Lease) -> Routine:
    sent_at = p.host.clock.now()
    if not (yield p.host.server(lambda: p.host.holds(lease), proof=True)):
        raise LeaseLost("the lock is not held any more")
    return sent_at


def _publish(p: Process, e: ev.Publish) -> Routine:
    registry = p.host.registry
    yield from _confirm(p, e.lease)
    p.host.tagged_at = p.engine.now
    if p.host.agent is None:
        lease: Lease = yield p.host.server(
            lambda: p.host.catalog.publish(e.lease, e.record, p.host.name, e.change, e.gate)
        )
    else:
        lease = e.lease
        if not _same(lease.record, e.record):
            lease = yield p.host.server(lambda: p.host.store.replace(e.lease, e.record))
        yield from registry.tag(e.change, e.gate)
    yield from registry.remove_gates(e.gate)
    sent_at = yield from _confirm(p, lease)
    if e.gate is not None:
        yield from registry.open_gate(e.gate)
    return ev.Publication(lease, sent_at)


def _same(old: Record, new: Record) -> bool:
    return replace(new, since=old.since, reason=old.reason) == old


def _retract(p: Process, e: ev.Retract) -> Routine:
    registry = p.host.registry
    if e.gate is not None:
        with suppress(NotRegistered):
            yield from registry.close_gate(e.gate)
    yield from registry.tag(e.change, None)
    yield from registry.remove_gates(None)


def _set_tags(p: Process, e: ev.SetTags) -> Routine:
    yield from p.host.registry.tag(e.change, None)
    yield from p.host.registry.remove_gates(None)


def _shut_gate(p: Process, e: ev.ShutGate) -> Routine:
    yield from p.host.registry.close_gate(e.gate)


def _enter_guard(p: Process, e: ev.EnterGuard) -> Routine:
    store, ttl = p.host.store, p.host.session_ttl
    p.guard_session = yield p.host.server(lambda: store.open(p.host.name, ttl, ""))
    session = p.guard_session

    def enter() -> bool:
        if store.guard or session not in store.sessions:
            return False
        store.guard = session
        return True

    try:
        if (yield p.host.server(enter)):
            return (yield from _read_members(p, e))
    except BackendError:
        yield from _leave_guard(p, e)
        raise
    yield from _leave_guard(p, e)
    return None


def _leave_guard(p: Process, _: ev.Effect) -> Routine:
    session, p.guard_session = p.guard_session, ""
    yield p.host.server(lambda: p.host.store.destroy(session, "ended"))


def _ensure_query(p: Process, _: ev.EnsureQuery) -> Routine:
    return (yield p.host.server(lambda: False))


def _write_plan(p: Process, e: ev.WritePlan) -> Routine:
    return (yield p.host.server(lambda: p.host.store.write_plan(e.plan, p.host.name)))


def _record_change(p: Process, _: ev.RecordChange) -> Routine:
    yield p.host.server(lambda: None)


_METHODS: dict[type[ev.Effect], Callable[[Any, Any], Routine]] = {
    ev.Acquire: _acquire,
    ev.Adopt: _adopt,
    ev.Update: _update,
    ev.Release: _release,
    ev.Discard: _discard,
    ev.ReadMembers: _read_members,
    ev.Announce: _announce,
    ev.Canvass: _canvass,
    ev.ShutOut: _shut_out,
    ev.ShutOutLost: _shut_out_lost,
    ev.EnterGuard: _enter_guard,
    ev.LeaveGuard: _leave_guard,
    ev.Publish: _publish,
    ev.Retract: _retract,
    ev.SetTags: _set_tags,
    ev.ShutGate: _shut_gate,
    ev.EnsureQuery: _ensure_query,
    ev.WritePlan: _write_plan,
    ev.RecordChange: _record_change,
}
