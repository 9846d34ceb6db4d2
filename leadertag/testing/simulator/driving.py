"""Drives the real machine of one member in the small world, as the scheduler does."""

from __future__ import annotations

from dataclasses import replace

from leadertag.election import deadlines
from leadertag.election import events as ev
from leadertag.election.machine import begin, give_up, step
from leadertag.election.states import State
from leadertag.errors import BackendError, LeaderTagError
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Lease, Phase
from leadertag.testing.history import Broken
from leadertag.testing.simulator import guardian
from leadertag.testing.simulator.programs import PROGRAMS
from leadertag.testing.simulator.small import NAMES, Backend, Bounds, Hook, Member, Request

_STRONG = (HookEvent.DEMOTE, HookEvent.FENCE)


class Driving:
    """Steps machines. Nothing is kept here but the bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.policy = bounds.policy

    def feed(self, who: int, m: Member, b: Backend, event: ev.Event) -> tuple[Member, Backend]:
        """Step the machine, and set going what it asks for."""
        assert m.standing is not None
        standing, effects = step(m.standing, event)
        told = deadlines.of(standing, m.admitted)
        relieved = told.strike_at if told else None
        strike = m.strike if m.life == "rescued" else relieved
        noted = standing.confirmed_at if standing.lease is not None else m.noted
        m = replace(m, standing=standing, strike=strike, noted=noted)
        outcomes: list[ev.Event] = []
        for effect in effects:
            match effect:
                case ev.Remember(memory=memory):
                    m = replace(m, memory=memory)
                case ev.CancelHook():
                    m = self._cancel(m, outcomes)
                case ev.RunHook():
                    if m.hook is not None and effect.change.event in _STRONG:
                        m = self._cancel(m, outcomes)
                    m, b = self._run(m, b, effect)
                case _ if type(effect) in PROGRAMS:
                    if isinstance(effect, ev.Release):
                        self._check_mark(who, m, effect)
                    m = replace(m, lane=(*m.lane, effect))
        m = self._next_request(m)
        for outcome in outcomes:
            m, b = self.feed(who, m, b, outcome)
        if m.standing is not None and m.standing.state is State.STOPPED:
            m = self.dead(m)
        return m, b

    def _check_mark(self, who: int, m: Member, effect: ev.Release) -> None:
        if effect.record.phase is Phase.RELEASED and m.acts:
            raise Broken("I1", f"{NAMES[who]} marks its release while it acts with term {m.acts}")

    def _cancel(self, m: Member, outcomes: list[ev.Event]) -> Member:
        if m.hook is None:
            return m
        outcomes.append(ev.Done(0.0, m.hook.effect, Outcome(False, "ended early", cancelled=True)))
        return replace(m, hook=None)

    def _run(self, m: Member, b: Backend, effect: ev.RunHook) -> tuple[Member, Backend]:
        assert m.hook is None, "hooks run one at a time"
        m = replace(m, hook=Hook(effect))
        if effect.change.event is HookEvent.PROMOTE and m.acts != effect.change.term:
            term = effect.change.term
            if term <= b.acted:
                raise Broken("I3", f"term {term} acts after term {b.acted} acted")
            m, b = replace(m, acts=term, excused=False), replace(b, acted=term)
        return m, b

    def _next_request(self, m: Member) -> Member:
        if m.request is not None or not m.lane:
            return m
        effect, *rest = m.lane
        return replace(m, lane=tuple(rest), request=self._request(m, effect))

    def _request(self, m: Member, effect: ev.Effect) -> Request:
        assert m.standing is not None
        lease = getattr(effect, "lease", None)
        if isinstance(effect, ev.Adopt):
            lease = m.memory.lease if m.memory else None
            lease = lease and replace(lease, index=effect.view.index, record=effect.record)
        return Request(PROGRAMS[type(effect)][0], effect, m.standing.session, lease)

    def go_on(
        self, who: int, m: Member, b: Backend, r: Request, value: object,
        error: LeaderTagError | None,
    ) -> tuple[Member, Backend]:  # fmt: skip
        """Take the next step of the program, or tell the machine what came of it."""
        effect = r.effect
        assert effect is not None
        steps = PROGRAMS[type(effect)]
        if error is None:
            r = self._advanced(r, value)
            if r.part < len(steps):
                return replace(m, request=replace(r, step=steps[r.part], sent=0.0)), b
            if isinstance(effect, ev.Publish):
                assert r.lease is not None
                value = ev.Publication(r.lease, r.confirmed)
        assert error is None or isinstance(error, BackendError)
        m, b = self.feed(who, replace(m, request=None), b, ev.Done(0.0, effect, value, error))
        return self._next_request(m) if m.runs else m, b

    def _advanced(self, r: Request, value: object) -> Request:
        r = replace(r, part=r.part + 1, answered=False, value=None, error=None)
        if r.step == "confirm":
            return replace(r, confirmed=r.sent)
        if r.step == "record":
            assert isinstance(value, Lease)
            return replace(r, lease=value)
        return r

    # -- life ------------------------------------------------------------------------------

    def start(self, who: int, m: Member, b: Backend) -> tuple[Member, Backend]:
        """Start a process; its session and the first pictures come at once."""
        memory = m.memory and replace(m.memory, confirmed_at=max(m.memory.confirmed_at, m.noted))
        m = replace(m, life="alive", memory=memory, standing=begin(self.policy, 0.0, memory),
                    pictures=(b.view,), admitted=0.0)  # fmt: skip
        session = memory.session if memory else ""
        if session not in b.sessions:
            session = session_of(who, b)
            b = replace(b, sessions=(*b.sessions, session))
        m = replace(m, shown=b.entries[who].instance(who))
        m, b = self.feed(who, m, b, ev.InstanceSeen(0.0, m.shown))
        return self.feed(who, m, b, ev.SessionOpened(0.0, session))

    def dead(self, m: Member) -> Member:
        """Return the member without its process: what hung on that is gone.

        One that was giving up is relieved at once.
        """
        told = deadlines.of(m.standing, m.admitted) if m.standing else None
        at_once = m.strike is not None and told is not None and told.gives_up
        strike = 0.0 if at_once else m.strike
        return replace(
            m, life="dead", standing=None,
            lane=(), request=None, confirmation=None, hook=None,
            pictures=(), blind=False, cut=False, shown=None, broken=False,
            strike=None if m.life == "rescued" else strike,
        )  # fmt: skip

    def rescue(self, who: int, m: Member, b: Backend) -> tuple[Member, Backend]:
        """The guardian strikes."""
        memory = m.memory and replace(m.memory, confirmed_at=max(m.memory.confirmed_at, m.noted))
        m = replace(self.dead(m), strike=None)
        if memory is None or not guardian.is_led(memory):
            if m.acts:
                raise Broken("I1", f"{NAMES[who]} acts, and the guardian leaves it alone")
            return m, b
        instance = b.entries[who].instance(who)
        standing = give_up(self.policy, 0.0, memory, "gone", instance)
        m = replace(m, life="rescued", standing=standing, memory=memory)
        return self.feed(who, m, b, ev.Tick(0.0))


def session_of(who: int, b: Backend) -> str:
    """Return a name for a new session; one that is in use nowhere any more may come again."""
    used = set(b.sessions) | {b.view.holder}
    return next(name for n in "abcdef" if (name := f"{n}.{NAMES[who]}") not in used)
