"""What can befall a member of the small world, as long as the budget lasts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from leadertag.election import events as ev
from leadertag.model import Health
from leadertag.plan import NO_PLAN, Plan, Switchover
from leadertag.testing.simulator.driving import Driving
from leadertag.testing.simulator.programs import changed, written
from leadertag.testing.simulator.small import NAMES, Backend, Member

Move = tuple[str, Member, Backend]


def mishaps(driving: Driving, who: int, m: Member, b: Backend) -> Iterator[Move]:
    """Yield every fault that is left, and the end of those that last."""
    left = b.budget
    if m.life in ("alive", "paused") and left.kill:
        yield "SIGKILL", driving.dead(m), spent(b, kill=left.kill - 1)
    if m.life == "alive" and left.stop:
        after = spent(b, stop=left.stop - 1)
        yield ("SIGTERM", *driving.feed(who, m, after, ev.StopAsked(0.0, False)))
    if m.life == "alive" and left.pause:
        yield "SIGSTOP", replace(m, life="paused"), spent(b, pause=left.pause - 1)
    mine = [name for name in b.sessions if name.endswith(NAMES[who])]
    if left.session and b.view.holder in mine:
        yield "its session ends", m, ended(spent(b, session=left.session - 1), b.view.holder)
    if m.life == "alive" and not m.cut and left.cut:
        yield "is cut off", replace(m, cut=True), spent(b, cut=left.cut - 1)
    if m.cut:
        yield "is in contact again", replace(m, cut=False), b
    entry = b.entries[who]
    if entry.healthy and left.health:
        after = spent(b, health=left.health - 1)
        yield "its check fails", m, changed(after, who, replace(entry, healthy=False))
    if not entry.healthy:
        yield "its check passes", m, changed(b, who, replace(entry, healthy=True))
    yield from _restarts(driving, who, m, b)
    if who == 0:
        yield from _operator(m, b)


def _restarts(driving: Driving, who: int, m: Member, b: Backend) -> Iterator[Move]:
    """A probe hears of it as soon as its process can; to whoever starts later it is as it is."""
    s = m.standing
    if b.budget.restart and m.acts:
        after, idle = spent(b, restart=b.budget.restart - 1), replace(m, acts=0, excused=False)
        if m.life == "alive":
            yield ("its service is restarted",
                   *driving.feed(who, idle, after, ev.ProbeSeen(0.0, Health.CRITICAL)))  # fmt: skip
        else:
            yield "its service is restarted", replace(idle, broken=m.life == "paused"), after
    if m.life == "alive" and s is not None and s.probe is Health.CRITICAL:
        passing = ev.ProbeSeen(0.0, Health.PASSING)
        yield ("its probe passes again", *driving.feed(who, m, b, passing))


def _operator(m: Member, b: Backend) -> Iterator[Move]:
    plan, leader = b.view.plan, b.view.leader
    if plan.paused:
        yield "an operator resumes", m, _planned(b, replace(plan, paused=False))
    if not b.budget.plan:
        return
    after = spent(b, plan=b.budget.plan - 1)
    if not plan.paused:
        yield "an operator pauses", m, _planned(after, replace(plan, paused=True))
    if leader is not None and plan.switchover is None:
        plan = replace(plan, switchover=Switchover("sw", leader.term, timeout=4.0))
        yield "an operator asks to hand over", m, _planned(after, plan)


def spent(b: Backend, **left: int) -> Backend:
    """Return the backend with that much of the budget left."""
    return replace(b, budget=replace(b.budget, **left))


def ended(b: Backend, session: str) -> Backend:
    """End a session, and free what hangs on it."""
    b = replace(b, sessions=tuple(name for name in b.sessions if name != session))
    return written(b, "", b.view.record) if b.view.holder == session else b


def _planned(b: Backend, plan: Plan) -> Backend:
    asks = plan.paused or plan.switchover is not None
    new = replace(plan, index=b.top + 1) if asks else NO_PLAN
    return replace(b, view=replace(b.view, plan=new), top=b.top + 1)
