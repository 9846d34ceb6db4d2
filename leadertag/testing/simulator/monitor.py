"""Looks at every step of every machine: promises that show in what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leadertag.election import events as ev
from leadertag.election.standing import Standing
from leadertag.election.states import State
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import LockView, Phase
from leadertag.plan import Plan

if TYPE_CHECKING:
    from leadertag.testing.simulator.host import Host
    from leadertag.testing.simulator.process import Process

_OF_OWN_TERM = (
    HookEvent.BEFORE_PROMOTE, HookEvent.RANK, HookEvent.PROMOTE, HookEvent.VERIFY,
)  # fmt: skip

_TAKING_OVER = frozenset({
    State.VETTING, State.RANKING, State.CANVASSING, State.GUARDING, State.PROMOTING, State.CLOSING,
    State.PUBLISHING,
})  # fmt: skip


class Monitor:
    """Tells the history of one host's steps."""

    def __init__(self, host: Host, on_state: Callable[[Host, str], None]) -> None:
        self._host = host
        self._on_state = on_state
        self._pictures = 0
        """How many pictures of the lock the watch has brought."""
        self._asked_after = 0
        """... when the lock was last asked for."""

    def stepped(
        self, process: Process, before: Standing, event: ev.Event, effects: list[ev.Effect]
    ) -> None:
        """A machine has taken a step."""
        host, s = self._host, process.standing
        host.guardian.stepped(process)
        self._plan_seen(event)
        if s.state is not before.state:
            host.engine.note(host.name, f"{before.state} -> {s.state} ({s.reason})")
            if s.state is State.HOLDING:
                host.service.excuse("it is told to hold")
            self._list_believed(before, s, event)
        self._acting(before, s)
        for effect in effects:
            self._effect(s, effect)
        if s.state is not before.state:
            self._on_state(host, s.state)

    def _plan_seen(self, event: ev.Event) -> None:
        """What came in counts, not what the machine made of it.

        But for an answer that a picture has overtaken: which of them is older cannot be told.
        """
        if isinstance(event, ev.LockSeen):
            self._pictures += 1
        asked = isinstance(getattr(event, "effect", None), ev.Acquire)
        if asked and self._pictures != self._asked_after:
            return
        shown = event.value if isinstance(event, ev.Done) else getattr(event, "view", None)
        plan = shown.plan if isinstance(shown, LockView) else shown
        if isinstance(plan, Plan):
            self._host.history.plan_seen(self._host.name, paused=plan.paused)

    def _acting(self, before: Standing, s: Standing) -> None:
        """Where no hook says so, the machine's own word counts."""
        host, policy = self._host, self._host.policy
        if s.acting and not before.acting and not policy.budget(HookEvent.PROMOTE):
            if host.service.up:
                host.service.begin(s.term)
        elif before.acting and not s.acting and not policy.budget(HookEvent.DEMOTE):
            host.service.end("the machine says so")

    def _list_believed(self, before: Standing, s: Standing, event: ev.Event) -> None:
        history, me = self._host.history, self._host.name
        complete = any(m.id == me for m in s.members or ())
        if before.state is State.CLOSING and s.state is State.PUBLISHING and not s.policy.fenced:
            history.believed(me, "nobody else is tagged", complete=complete)
        waited_out = before.state in (State.ACQUIRING, State.WAITING_OUT)
        if waited_out and s.state in _TAKING_OVER and s.now < s.wait_until:
            history.believed(me, "nobody led before", complete=complete)

    def _effect(self, s: Standing, effect: ev.Effect) -> None:
        history, me = self._host.history, self._host.name
        match effect:
            case ev.Acquire():
                history.campaigned(me)
                self._asked_after = self._pictures
            case ev.Publish(change=change, gate=gate, lease=lease):
                history.changing(me, change, gate, lease.term)
            case ev.Retract(change=change, gate=gate):
                history.changing(me, change, gate, s.term)
            case ev.SetTags(change=change):
                history.changing(me, change, None, 0)
            case ev.Release(record=record) if record.phase is Phase.RELEASED:
                history.released(me)
            case ev.RunHook(change=change):
                history.told(me, change.event, change.term, self._right_term(s, change))

    def _right_term(self, s: Standing, change: RoleChange) -> int | None:
        if change.event in _OF_OWN_TERM:
            return s.lease.term if s.lease else 0
        if change.event in (HookEvent.DEMOTE, HookEvent.FENCE):
            return self._host.service.acting or None
        if change.event is HookEvent.FOLLOW:
            return change.term if s.view and s.view.leader else 0
        return None
