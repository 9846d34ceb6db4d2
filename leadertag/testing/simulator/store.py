"""The backend's lock: sessions, one key, and indexes, by Consul's rules.

Everything here happens at one instant, in the order of arrival: it is the linearizable
store behind the network. The catalog shares its index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from leadertag.errors import Changed, LeaseLost
from leadertag.model import Lease, LockView, Phase, Record
from leadertag.plan import NO_PLAN, Plan
from leadertag.ranks import NO_RANKS, Ranks
from leadertag.testing.history import History
from leadertag.testing.simulator.engine import Engine


@dataclass
class Session:
    """A session of one host's process; it ends by its TTL, with its node, or by hand."""

    name: str
    host: str
    ttl: float
    renewed: float


@dataclass
class Store:
    """One key and the sessions that may hold it."""

    engine: Engine
    history: History
    key: str
    index: int = 10
    view: LockView = field(init=False)
    changed: Callable[[], None] = lambda: None
    """Called after every change of the key: wakes the watches."""
    sessions: dict[str, Session] = field(default_factory=dict)
    plan: Plan = NO_PLAN
    """What operators ask: a note beside the key."""
    ranks: Ranks = NO_RANKS
    """What candidates have announced: another note."""
    guard: str = ""
    """The session that holds the predecessor's own lock."""
    _opened: int = 0

    def __post_init__(self) -> None:
        self.view = LockView(self.key)

    # -- sessions ------------------------------------------------------------------------

    def open(self, host: str, ttl: float, wanted: str) -> str:
        """Take a session up again if it lives, or make a new one."""
        if wanted in self.sessions:
            self.renew(wanted)
            return wanted
        self._opened += 1
        session = Session(f"s{self._opened}.{host}", host, ttl, self.engine.now)
        self.sessions[session.name] = session
        self._watch_over(session)
        return session.name

    def renew(self, name: str) -> None:
        """Keep it from expiring."""
        if name not in self.sessions:
            raise LeaseLost(f"session {name} is gone")
        self.sessions[name].renewed = self.engine.now

    def _watch_over(self, session: Session) -> None:
        # The backend may let it live up to twice as long.
        left = session.renewed + session.ttl * self.engine.between(1, 2) - self.engine.now

        def look() -> None:
            if session.name not in self.sessions:
                return
            if self.engine.now - session.renewed >= session.ttl:
                self.destroy(session.name, "expired")
            else:
                self._watch_over(session)

        self.engine.after(max(left, 0.01), look)

    def destroy(self, name: str, why: str) -> None:
        """End a session: its locks are free, their records as they were."""
        if self.sessions.pop(name, None) is None:
            return
        self.engine.note("backend", f"session {name} {why}")
        if self.guard == name:
            self.guard = ""
        if self.view.holder == name:
            self._write("", self.view.record, f"freed, session {why}")

    def restart_timers(self, at: float) -> None:
        """A new leader of the backend gives every session its time again."""
        for session in self.sessions.values():
            session.renewed = max(session.renewed, at)

    def lose_node(self, host: str) -> None:
        """End all sessions of a node that is gone."""
        for session in [s for s in self.sessions.values() if s.host == host]:
            self.destroy(session.name, "lost with its node")

    # -- the key -------------------------------------------------------------------------

    def next_index(self) -> int:
        """Return the index of the next write."""
        self.index += self.engine.rng.randint(1, 3)
        return self.index

    def _write(self, holder: str, record: Record | None, what: str) -> int:
        index = self.next_index()
        self.view = LockView(self.key, index, holder, record, plan=self.plan)
        phase = f"{record.phase} term {record.term}" if record else "no record"
        self.engine.note("backend", f"lock {what}: index {index}, {phase}")
        self.changed()
        return index

    def take(self, session: str, seen: int, record: Record, *, at_once: bool) -> Lease | LockView:
        """Acquire if the index is what was seen. ``at_once`` writes the term as well."""
        if session not in self.sessions:
            raise LeaseLost(f"session {session} is gone")
        if self.view.index != seen or self.view.holder not in ("", session):
            return self.view
        term = self.index + 1
        self.index = term - 1
        record = replace(record, term=term if at_once else 0)
        self.view = LockView(self.key, term, session, record, plan=self.plan)
        self.index = term
        self.history.given(session, term)
        self.engine.note("backend", f"lock taken by {session}: term {term}")
        self.changed()
        return Lease(self.key, term, term, session, record)

    def replace(self, lease: Lease, record: Record) -> Lease:
        """Write the record if session and index are still the lease's."""
        self.prove(lease)
        index = self._write(lease.session, record, f"record written by {lease.session}")
        return replace(lease, index=index, record=record)

    def release(self, lease: Lease, record: Record) -> None:
        """Write the last record and free the key."""
        self.prove(lease)
        self._write("", record, f"released by {lease.session}")

    def discard(self, view: LockView, session: str) -> None:
        """Free the key without a mark if it is still as seen."""
        if self.view.index != view.index or self.view.holder != session:
            raise LeaseLost("changed since")
        record = self.view.record
        if record is not None and record.phase is Phase.RELEASED:
            record = replace(record, phase=Phase.ELECTED)
        self._write("", record, f"discarded by {session}")

    def prove(self, lease: Lease) -> None:
        """Raise LeaseLost unless the key is as the lease says."""
        if self.view.index != lease.index or self.view.holder != lease.session:
            raise LeaseLost(f"the lock is not held any more with term {lease.term}")

    def holds(self, lease: Lease) -> bool:
        """Confirm: the session still holds the key with that term."""
        record = self.view.record
        return self.view.holder == lease.session and bool(record and record.term == lease.term)

    def write_plan(self, plan: Plan, who: str) -> Plan:
        """Write the plan in place of the one with its index."""
        if plan.index != self.plan.index:
            raise Changed("the plan has changed")
        asks = plan.paused or plan.switchover is not None
        self.plan = replace(plan, index=self.next_index()) if asks else NO_PLAN
        self.view = replace(self.view, plan=self.plan)
        self.engine.note(who, f"writes the plan: paused={plan.paused}, {plan.switchover}")
        self.changed()
        return self.plan

    def write_ranks(self, seen: Ranks, ranks: Ranks) -> Ranks:
        """Write the ranks unless they are others by now than those seen; returns what stands."""
        if self.ranks == seen:
            self.ranks = ranks
        return self.ranks

    def delete(self) -> None:
        """An operator deletes the key."""
        self.next_index()
        self.view = LockView(self.key, plan=self.plan)
        self.engine.note("operator", "deletes the lock's key")
        self.changed()
