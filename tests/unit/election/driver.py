"""Drives one machine by hand: the test plays clock, backend, registry and hooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.election.machine import begin, next_deadline, step
from leadertag.election.policy import Policy
from leadertag.election.states import State
from leadertag.errors import LeaderTagError
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Check, Gate, Health, Instance, Lease, LockView, Phase, Record

LEASE = 3.0
KEY = "redis/q"
SESSION = "mine"
HOOKS = {
    HookEvent.BEFORE_PROMOTE: 1.0, HookEvent.PROMOTE: 2.0, HookEvent.DEMOTE: 0.5,
    HookEvent.FENCE: 0.5, HookEvent.FOLLOW: 1.0,
}  # fmt: skip
OK = Outcome(True)
FAILED = Outcome(False, "it failed")


def policy(*hooks: HookEvent, gated: bool = True, fenced: bool = False, **settings: Any) -> Policy:
    """Return a policy with those hooks, or all of :data:`HOOKS`."""
    election = ElectionSettings(
        name="redis", service="redis", where="test", query="q", lease=LEASE, stand_back=5.0,
        **settings,
    )  # fmt: skip
    budgets = {event: HOOKS[event] for event in hooks or HOOKS}
    return Policy(election, gated=gated, fenced=fenced, gate_life=2.0, budgets=budgets)


def instance(
    name: str = "me", *tags: str, health: Health = Health.PASSING, gate: int | None = None
) -> Instance:
    """Return an instance; one with a gate carries its check, closed."""
    checks = [Check("service", health)]
    if gate is not None:
        checks.append(Check(Gate("redis", gate).id, Health.CRITICAL, own=True))
    return Instance(
        name, f"node-{name}", "redis", "127.0.0.1", 6379, tags, tuple(checks), gate=gate
    )


def record(name: str = "other", phase: Phase = Phase.LEADING, term: int = 7, **more: Any) -> Record:
    """Return a member's record."""
    values = {"lease": LEASE, **more}
    return Record(f"node-{name}/{name}", name, f"node-{name}", "127.0.0.1", 6379, phase, term,
                  **values)  # fmt: skip


def missing() -> LockView:
    """A lock that does not exist."""
    return LockView(KEY)


def vanished(index: int = 20, **more: Any) -> LockView:
    """A lock that nobody holds, and nobody gave back."""
    return LockView(KEY, index, "", record(**more))


def released(index: int = 20, term: int = 7) -> LockView:
    """A lock that was given back in order."""
    return LockView(KEY, index, "", record(phase=Phase.RELEASED, term=term))


def held(index: int = 20, holder: str = "theirs", **more: Any) -> LockView:
    """A lock that somebody holds."""
    return LockView(KEY, index, holder, record(**more))


class Driver:
    """One machine, its time, and everything that it has asked for."""

    def __init__(
        self, rules: Policy | None = None, *, memory: ev.Memory | None = None, now: float = 100.0
    ) -> None:
        self.now = now
        self.s = begin(rules or policy(), now, memory)
        self.effects: list[ev.Effect] = []
        """Of the last step alone."""
        self.asked: list[ev.Effect] = []
        """Of all steps."""

    @property
    def state(self) -> State:
        return self.s.state

    def feed(self, event: ev.Event) -> Driver:
        self.s, self.effects = step(self.s, event)
        self.asked += self.effects
        return self

    def wait(self, seconds: float) -> Driver:
        """Let time pass, with every tick that the machine wants on the way."""
        end, before = self.now + seconds, len(self.asked)
        while True:
            due = next_deadline(self.s)
            if due is None or due > end:
                break
            self.now = due
            self.feed(ev.Tick(self.now))
        self.now = end
        self.feed(ev.Tick(self.now))
        self.effects = self.asked[before:]
        return self

    def hold(self, seconds: float) -> Driver:
        """Let time pass in contact: the lock is confirmed and the registry fed all the time."""
        end = self.now + seconds
        while self.now < end:
            self.wait(min(0.25, end - self.now))
            if self.s.lease is not None:
                self.confirm(sent_at=self.now)
            self.feed(ev.RegistryReached(self.now, self.now))
        return self

    # -- what becomes known ----------------------------------------------------------------

    def ready(self, view: LockView, own: Instance | None = None, session: str = SESSION) -> Driver:
        """Let it know session, lock and instance."""
        self.feed(ev.SessionOpened(self.now, session))
        self.see(own or instance())
        return self.lock(view)

    def lock(self, view: LockView) -> Driver:
        return self.feed(ev.LockSeen(self.now, view))

    def see(self, own: Instance | None) -> Driver:
        return self.feed(ev.InstanceSeen(self.now, own))

    def members(self, *members: Instance) -> Driver:
        return self.feed(ev.MembersSeen(self.now, members))

    def confirm(self, *, sent_at: float, held: bool = True, lease: Lease | None = None) -> Driver:
        about = lease or self.s.lease
        assert about is not None
        return self.feed(ev.Confirmed(self.now, sent_at, about, held))

    def stop(self, *, keep: bool = False) -> Driver:
        return self.feed(ev.StopAsked(self.now, keep))

    # -- outcomes --------------------------------------------------------------------------

    def done(self, value: Any = None, error: LeaderTagError | None = None) -> Driver:
        """Report the outcome of what the state waits for."""
        assert self.s.pending is not None, f"{self.state} waits for nothing"
        return self.finish(self.s.pending, value, error)

    def finish(
        self, effect: ev.Effect, value: Any = None, error: LeaderTagError | None = None
    ) -> Driver:
        return self.feed(ev.Done(self.now, effect, value, error))

    def wants(self, kind: type[ev.Effect]) -> Any:
        """Return the last effect of that kind which the last step (or wait) asked for."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        assert found, f"no {kind.__name__} among {[type(e).__name__ for e in self.effects]}"
        return found[-1]

    def wanted(self, kind: type[ev.Effect]) -> list[Any]:
        """Return all effects of that kind that were ever asked for."""
        return [effect for effect in self.asked if isinstance(effect, kind)]

    def hook(self) -> HookEvent:
        """Return the event of the hook that the state waits for."""
        assert isinstance(self.s.pending, ev.RunHook), f"{self.state} runs no hook"
        return self.s.pending.change.event

    # -- short cuts ------------------------------------------------------------------------

    def grant(self, term: int = 30) -> Driver:
        """Give it the lock that it asked for."""
        ask = self.s.pending
        assert isinstance(ask, ev.Acquire), f"{self.state} asked for no lock"
        return self.done(Lease(KEY, term, term + 1, self.s.session, replace(ask.record, term=term)))

    def publish(self) -> Driver:
        """Publish it, confirmed just now."""
        ask = self.s.pending
        assert isinstance(ask, ev.Publish), f"{self.state} does not publish"
        lease = replace(ask.lease, index=ask.lease.index + 1, record=ask.record)
        return self.done(ev.Publication(lease, self.now))

    def lead(self, view: LockView | None = None) -> Driver:
        """Take it all the way to leading, by way of a lock that was given back."""
        self.ready(view or released())
        self.grant()
        while isinstance(self.s.pending, ev.RunHook):
            self.done(OK)
        if isinstance(self.s.pending, ev.ReadMembers):
            self.done((self.s.instance,))
        self.publish()
        assert self.state is State.LEADING, self.state
        return self


def lead(*hooks: HookEvent, **settings: Any) -> Driver:
    """Return a leader."""
    return Driver(policy(*hooks, **settings)).lead()
