"""One effect of the machine, done. Blocks; raises out of the tree of errors.

Straight sequences of verbs: whatever is to be decided between two of them was decided
by the machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.election.lost import left_published
from leadertag.errors import BackendError, BackendUnavailable, Changed, LeaseLost, NotRegistered
from leadertag.history import record_change
from leadertag.hooks.runner import HookRunner
from leadertag.model import Health, Instance, Lease, LockView, Record
from leadertag.plan import Plan, write_plan
from leadertag.providers import FencedRegistry
from leadertag.ranks import NO_RANKS, Ranks, announce, read_ranks
from leadertag.scheduler.clock import Clock, wall_time

log = logging.getLogger(__name__)
CANVASS_EVERY = 0.01
"""Seconds between two looks at who has announced its rank."""
READ_BACK = 2.0
"""Seconds within which a new tag has to be visible to others."""


@dataclass
class Performer:
    """Does what one election's machine asks for."""

    election: ElectionSettings
    providers: Providers
    hooks: HookRunner
    clock: Clock
    fenced: bool
    _guard: AbstractContextManager[bool] | None = None

    def perform(self, effect: ev.Effect) -> Any:
        """Do it and return its value, as the effect's own docstring says."""
        return getattr(self, _METHODS[type(effect)])(effect)

    # -- lock ---------------------------------------------------------------------

    def acquire(self, effect: ev.Acquire) -> Any:
        """Try once."""
        return self.providers.lock.acquire(effect.seen, _dated(effect.record))

    def adopt(self, effect: ev.Adopt) -> Lease:
        """Take up the own lock. ``since`` stays: the leadership has not changed."""
        return self.providers.lock.adopt(effect.view, effect.record)

    def update(self, effect: ev.Update) -> Lease:
        """Write the record."""
        return self.providers.lock.update(effect.lease, _dated(effect.record))

    def release(self, effect: ev.Release) -> None:
        """Free the lock with a last record."""
        self.providers.lock.release(effect.lease, _dated(effect.record))

    def discard(self, effect: ev.Discard) -> None:
        """Free a lock that is ours without a term of ours."""
        self.providers.lock.discard(effect.view)

    # -- registry -------------------------------------------------------------------

    def read_members(self, _: ev.ReadMembers) -> tuple[Instance, ...]:
        """Read all instances of the service."""
        return self.providers.registry.members(self.election.service)

    def announce(self, effect: ev.Announce) -> Ranks:
        """Announce the own rank."""
        lock, key = self.providers.lock, self.election.key
        return announce(lock, key, effect.term, effect.member, effect.rank)

    def canvass(self, effect: ev.Canvass) -> ev.Poll:
        """Read what was announced until all of it is there, or the window is over."""
        deadline = self.clock.now() + effect.window
        members = self.providers.registry.members(self.election.service)
        passing = {m.member for m in members if m.service_health is Health.PASSING}
        awaited = passing - {effect.member, *effect.unheeded}
        while True:
            ranks = read_ranks(self.providers.lock, self.election.key)
            if ranks.term == effect.tabled and ranks.of(effect.member) is not None:
                return ev.Poll(ranks, members)
            ranks = ranks if ranks.term == effect.term else NO_RANKS
            if ranks.heard(awaited) or self.clock.now() >= deadline:
                return ev.Poll(ranks, members)
            time.sleep(CANVASS_EVERY)

    def shut_out(self, effect: ev.ShutOut) -> tuple[Instance, ...]:
        """Make the others unresolvable, then look.

        Where the registry cannot see the lock, it is confirmed here, as late as can be.
        """
        if self.providers.lock_backend != self.providers.registry_backend:
            self._confirm(effect.lease)
        for other in effect.others:
            self.providers.registry.shut_out(other, effect.lease)
        return self.providers.registry.members(self.election.service)

    def shut_out_lost(self, effect: ev.ShutOutLost) -> None:
        """Make whoever was left published unresolvable before its node is back."""
        registry, lease = self.providers.registry, effect.lease
        members = registry.members(self.election.service)
        if effect.member not in {m.member for m in members}:
            raise BackendUnavailable(
                f"the registry lists {self.election.service} without {effect.member}: "
                "not taken for all there are"
            )
        others = [m for m in members if m.member != effect.member]
        lost = [m for m in others if left_published(m, self.election)]
        if lost and self.providers.lock_backend != self.providers.registry_backend:
            self._confirm(lease) if lease else self._see_free(effect.seen)
        for other in lost:
            registry.shut_out_lost(other, lease or effect.seen)

    def _see_free(self, seen: LockView) -> None:
        now = self.providers.lock.read(seen.key)
        if not now.free or now.index != seen.index:
            raise Changed(f"the lock {seen.key} is not as it was seen any more")

    def publish(self, effect: ev.Publish) -> ev.Publication:
        """Confirm; record, tag and closed gate; read back; confirm; open the gate."""
        registry = self.providers.registry
        self._confirm(effect.lease)
        if self.fenced:
            assert isinstance(registry, FencedRegistry)
            record = _dated_anew(effect.lease.record, effect.record)
            lease = registry.publish(
                effect.lease, record, effect.instance_id, effect.change, effect.gate
            )
        else:
            lease = self._write_record(effect.lease, effect.record)
            registry.tag(effect.instance_id, effect.change, gate=effect.gate, timeout=READ_BACK)
        registry.remove_gates(effect.instance_id, keep=effect.gate)
        sent_at = self._confirm(lease)
        if effect.gate is not None:
            registry.open_gate(effect.instance_id, effect.gate)
        return ev.Publication(lease, sent_at)

    def _confirm(self, lease: Lease) -> float:
        sent_at = self.clock.now()
        if lease.key not in self.providers.lock.confirm([lease]):
            raise LeaseLost(f"the lock {lease.key} is not held any more")
        return sent_at

    def _write_record(self, lease: Lease, record: Record) -> Lease:
        record = _dated_anew(lease.record, record)
        return lease if record == lease.record else self.providers.lock.update(lease, record)

    def retract(self, effect: ev.Retract) -> None:
        """Close the gate, take the tag off, and only then remove the gate."""
        registry = self.providers.registry
        if effect.gate is not None:
            with suppress(NotRegistered):  # gone already: the tag still has to go
                registry.close_gate(effect.instance_id, effect.gate)
        registry.tag(effect.instance_id, effect.change, timeout=READ_BACK)
        registry.remove_gates(effect.instance_id)

    def set_tags(self, effect: ev.SetTags) -> None:
        """Change role tags; then no gate has any business there."""
        registry = self.providers.registry
        registry.tag(effect.instance_id, effect.change, timeout=READ_BACK)
        registry.remove_gates(effect.instance_id)

    def shut_gate(self, effect: ev.ShutGate) -> None:
        """Close the gate, keep the rest."""
        self.providers.registry.close_gate(effect.instance_id, effect.gate)

    def ensure_query(self, _: ev.EnsureQuery) -> bool:
        """Create or update the query."""
        assert self.election.query_definition is not None
        return self.providers.query.ensure(self.election.query_definition)

    # -- beside the lock --------------------------------------------------------------

    def write_plan(self, effect: ev.WritePlan) -> Plan:
        """Write the plan that operators and members share."""
        return write_plan(self.providers.lock, self.election.key, effect.plan)

    def record_change(self, effect: ev.RecordChange) -> None:
        """Add to the history. Dated now: for people."""
        change = replace(effect.change, at=wall_time())
        record_change(self.providers.lock, self.election.key, change)

    # -- the predecessor's lock -----------------------------------------------------

    def enter_guard(self, effect: ev.EnterGuard) -> tuple[Instance, ...] | None:
        """Take the predecessor's lock; under it, read who is tagged."""
        election = self.election
        guard = self.providers.lock.guard(election.compat, election.query, election.service)
        if not guard.__enter__():
            guard.__exit__(None, None, None)
            return None
        self._guard = guard
        try:
            return self.read_members(ev.ReadMembers(effect.serial))
        except BaseException:
            # The machine does not know that it is held, and would never leave it.
            self.leave_guard(ev.LeaveGuard(effect.serial))
            raise

    def leave_guard(self, _: ev.LeaveGuard) -> None:
        """Give it back."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.__exit__(None, None, None)

    # -- hooks ------------------------------------------------------------------------

    def run_hook(self, effect: ev.RunHook | ev.Inform) -> Any:
        """Run the hooks of one event."""
        return self.hooks.run(effect.change)

    def cancel_hook(self, _: ev.CancelHook) -> None:
        """End the running hook early."""
        self.hooks.cancel()


_METHODS: dict[type[ev.Effect], str] = {
    ev.Acquire: "acquire",
    ev.Adopt: "adopt",
    ev.Update: "update",
    ev.Release: "release",
    ev.Discard: "discard",
    ev.ReadMembers: "read_members",
    ev.Announce: "announce",
    ev.Canvass: "canvass",
    ev.ShutOut: "shut_out",
    ev.ShutOutLost: "shut_out_lost",
    ev.Publish: "publish",
    ev.Retract: "retract",
    ev.SetTags: "set_tags",
    ev.ShutGate: "shut_gate",
    ev.EnsureQuery: "ensure_query",
    ev.WritePlan: "write_plan",
    ev.RecordChange: "record_change",
    ev.EnterGuard: "enter_guard",
    ev.LeaveGuard: "leave_guard",
    ev.RunHook: "run_hook",
    ev.Inform: "run_hook",
    ev.CancelHook: "cancel_hook",
}


def _dated(record: Record) -> Record:
    return replace(record, since=wall_time())


def _dated_anew(old: Record, new: Record) -> Record:
    """Date the record only if it says something new: a re-publication is no news."""
    same = replace(new, since=old.since, reason=old.reason) == old
    return old if same else _dated(new)


def attempt(perform: Callable[[ev.Effect], Any], effect: ev.Effect, clock: Clock) -> ev.Done:
    """Perform an effect and return its outcome as the event that the machine gets."""
    try:
        value = perform(effect)
    except BackendError as error:
        return ev.Done(clock.now(), effect, error=error)
    except Exception as error:
        log.exception("%s failed in an unforeseen way", type(effect).__name__)
        return ev.Done(clock.now(), effect, error=BackendUnavailable(f"unforeseen: {error!r}"))
    return ev.Done(clock.now(), effect, value)
