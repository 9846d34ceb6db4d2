"""What can happen next in the small world, member by member, and how time passes in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from leadertag.election import events as ev
from leadertag.election.deadlines import word_at
from leadertag.election.policy import RETRACT_LIMIT
from leadertag.election.standing import Standing
from leadertag.election.states import GIVING_UP, State
from leadertag.errors import BackendUnavailable
from leadertag.hooks.outcome import Outcome
from leadertag.hookspecs import HookEvent
from leadertag.model import Health, LockView
from leadertag.testing.simulator.driving import Driving, session_of
from leadertag.testing.simulator.mishaps import Move, mishaps, spent
from leadertag.testing.simulator.programs import LOCAL, arrive, changed
from leadertag.testing.simulator.small import Backend, Hook, Member, Request
from leadertag.testing.simulator.times import shifted

NO_ANSWER = BackendUnavailable("no answer in time")


class Moves(Driving):
    """All moves of one member."""

    def of(self, who: int, m: Member, b: Backend) -> Iterator[Move]:
        """Yield whatever this member, or a fault that befalls it, can do next."""
        yield from self._requests(who, m, b)
        yield from self._confirmations(who, m, b)
        yield from self._hook(who, m, b)
        yield from self._news(who, m, b)
        yield from self._lives(who, m, b)
        yield from mishaps(self, who, m, b)

    # -- requests --------------------------------------------------------------------------

    def _requests(self, who: int, m: Member, b: Backend) -> Iterator[Move]:
        if m.request is not None:
            yield from self._request_moves(who, m, b, m.request)
        for late in m.late:
            after, _, _ = arrive(who, late, b)
            yield f"a late request ({late.step}) arrives", replace(m, late=()), after

    def _request_moves(self, who: int, m: Member, b: Backend, r: Request) -> Iterator[Move]:
        name = r.step
        hears = m.runs and (not m.cut or name in LOCAL)
        if r.answered:
            if hears:
                yield (f"is answered: {name}", *self.go_on(who, m, b, r, r.value, r.error))
        else:
            after, value, error = arrive(who, r, b)
            if hears:
                yield (f"asks and is answered: {name}",
                       *self.go_on(who, m, after, r, value, error))  # fmt: skip
            if name in LOCAL:
                return
            if r.slow or not hears:
                arrived = replace(r, answered=True, value=value, error=error)
                yield f"asks: {name}", replace(m, request=arrived), after
            if not r.slow and b.budget.late:
                after = spent(b, late=b.budget.late - 1)
                yield f"asks slowly: {name}", replace(m, request=replace(r, slow=True)), after
        if m.runs and self._over(r):
            yield (f"asks in vain: {name}", *self.go_on(who, m, b, r, None, NO_ANSWER))
            if r.slow and not r.answered and not m.late:
                yield (f"asks, for now in vain: {name}",
                       *self.go_on(who, replace(m, late=(r,)), b, r, None, NO_ANSWER))  # fmt: skip

    def _over(self, r: Request) -> bool:
        return r.sent <= -self.bounds.patience

    def _confirmations(self, who: int, m: Member, b: Backend) -> Iterator[Move]:
        """One that is late. Whoever holds a lock is confirmed all the time, but for that."""
        s, r = m.standing, m.confirmation
        if r is None:
            if m.life == "alive" and not m.cut and s is not None and s.lease and b.budget.late:
                asked = Request("ask", None, s.session, s.lease, slow=True)
                after = spent(b, late=b.budget.late - 1)
                yield "sends a confirmation that is late", replace(m, confirmation=asked), after
            return
        if not r.answered:
            _, held, _ = arrive(who, r, b)
            arrived = replace(r, answered=True, value=held)
            yield f"its confirmation arrives: {held}", replace(m, confirmation=arrived), b
        elif m.life == "alive" and not m.cut:
            yield (f"is told: held={r.value}",
                   *self._told(who, replace(m, confirmation=None), b, r))  # fmt: skip

    def _told(self, who: int, m: Member, b: Backend, r: Request) -> tuple[Member, Backend]:
        assert r.lease is not None
        return self.feed(who, m, b, ev.Confirmed(0.0, r.sent, r.lease, bool(r.value)))

    def _confirmed(self, who: int, m: Member, b: Backend) -> tuple[Member, Backend]:
        """Confirm at once, where nothing stands in the way."""
        s = m.standing
        if m.life != "alive" or m.cut or m.confirmation or s is None or s.lease is None:
            return m, b
        r = Request("ask", None, s.session, s.lease)
        return self._told(who, m, b, replace(r, value=arrive(who, r, b)[1]))

    # -- hooks and news --------------------------------------------------------------------

    def _hook(self, who: int, m: Member, b: Backend) -> Iterator[Move]:
        hook = m.hook
        if hook is None:
            return
        event = hook.effect.change.event
        ended = replace(m, hook=None)
        if event is HookEvent.DEMOTE:
            ended = replace(ended, acts=0, excused=False)
        if m.runs:
            well = event is not HookEvent.VERIFY or m.acts == hook.effect.change.term
            done = ev.Done(0.0, hook.effect, Outcome(well, "" if well else "it does not lead"))
            how = "well" if well else "badly"
            yield (f"hook {event} ends {how}", *self.feed(who, ended, b, done))
        if m.runs and b.budget.hook and self._hook_over(hook):
            b = replace(b, budget=replace(b.budget, hook=b.budget.hook - 1))
            killed = replace(m, hook=None, excused=m.excused or event is HookEvent.DEMOTE)
            done = ev.Done(0.0, hook.effect, Outcome(False, "killed at its limit"))
            yield (f"hook {event} is killed at its limit", *self.feed(who, killed, b, done))

    def _hook_over(self, hook: Hook) -> bool:
        return hook.began <= -hook.effect.change.timeout

    def _news(self, who: int, m: Member, b: Backend) -> Iterator[Move]:
        if m.life != "alive" or m.cut:
            return
        if m.pictures:
            view, *later = m.pictures
            if not m.blind and b.budget.late:
                yield "sees late", replace(m, blind=True), spent(b, late=b.budget.late - 1)
            seen = replace(m, pictures=tuple(later), blind=m.blind and bool(later))
            holder = view.holder or "nobody"
            yield (f"sees the lock: held by {holder}",
                   *self.feed(who, seen, b, ev.LockSeen(0.0, view)))  # fmt: skip
        s = m.standing
        if s is not None and s.session and s.session not in b.sessions:
            session = session_of(who, b)
            b = replace(b, sessions=(*b.sessions, session))
            yield ("hears that its session is gone",
                   *self.feed(who, m, b, ev.SessionOpened(0.0, session)))  # fmt: skip

    # -- life and faults -------------------------------------------------------------------

    def _lives(self, who: int, m: Member, b: Backend) -> Iterator[Move]:
        if m.life == "dead":
            yield ("starts", *self.start(who, m, b))
        if m.life == "dead" and m.strike is not None and m.strike <= 0:
            yield ("its guardian strikes at once", *self.rescue(who, m, b))
        if m.life == "paused" and m.broken:
            alive = replace(m, life="alive", broken=False)
            yield ("SIGCONT", *self.feed(who, alive, b, ev.ProbeSeen(0.0, Health.CRITICAL)))
        elif m.life == "paused":
            yield "SIGCONT", replace(m, life="alive"), b

    # -- what follows at once --------------------------------------------------------------

    def settle(self, who: int, m: Member, b: Backend, seen: LockView) -> tuple[Member, Backend]:
        """Show a member what has changed around it. ``seen``: the lock before."""
        if m.life != "dead" and b.view != seen:
            m = replace(m, pictures=(*m.pictures[:1], b.view))
        b = self._fed(who, m, b, 0.0)
        if m.life == "alive":
            instance = b.entries[who].instance(who)
            if instance != m.shown:
                m, b = self.feed(who, replace(m, shown=instance), b,
                                 ev.InstanceSeen(0.0, instance))  # fmt: skip
        return m, b

    # -- time ------------------------------------------------------------------------------

    def patience_left(self, m: Member) -> float:
        """Return for how long, by its own clock, nothing has to happen at a member.

        0 when something has to, before time may pass.
        """
        times, r = [9.0], m.request
        if m.life == "alive" and m.pictures and not (m.blind or m.cut):
            return 0.0
        if r is not None and m.runs:
            free = r.slow or (m.cut and r.step not in LOCAL)
            times.append(r.sent + self.bounds.patience if free else 0.0)
        if m.hook is not None and m.runs:
            times.append(m.hook.began + m.hook.effect.change.timeout)
        if m.strike is not None and m.life in ("dead", "paused"):
            times.append(m.strike)
        if m.runs and m.standing is not None:
            times += [time for time in _deadlines(m.standing) if time > 0]
        return max(0.0, min(times))

    def later(self, who: int, m: Member, b: Backend, by: float) -> tuple[Member, Backend]:
        """Let a member's time pass, and tell the machine where it wanted to know."""
        m, b = shifted(m, by), self._fed(who, m, b, by)
        if m.strike is not None and m.strike <= 0 and m.life in ("dead", "paused"):
            return self.rescue(who, m, b)
        if m.confirmation is not None and m.confirmation.sent < -self.bounds.patience:
            m = replace(m, confirmation=None)  # no answer is no news
        if m.runs:
            m, b = self.feed(who, m, b, ev.Tick(0.0))
        return self._confirmed(who, m, b)

    def _fed(self, who: int, m: Member, b: Backend, by: float) -> Backend:
        """Let the gates' common check be fed, or run out."""
        entry, s = b.entries[who], m.standing
        feeds = (
            m.life == "alive" and s is not None and s.lease is not None
            and s.state in (State.VERIFYING, State.PUBLISHING, State.LEADING)
        )  # fmt: skip
        fed = self.bounds.gate_life if feeds else max(0.0, round(entry.fed - by, 6))
        if not entry.gates:
            fed = 0.0
        return b if fed == entry.fed else changed(b, who, replace(entry, fed=fed))


def _deadlines(s: Standing) -> list[float]:
    """Return when it matters that the machine looks at its clock at the right moment."""
    times = []
    if s.lease is not None and s.state not in GIVING_UP:
        times.append(s.contact_ends)
    if s.state is State.WAITING_OUT:
        times.append(s.wait_until)
    if s.state is State.RETRACTING:
        times += [s.entered + RETRACT_LIMIT, s.contact_ends]
    word = word_at(s)
    return times if word is None else [*times, word]
