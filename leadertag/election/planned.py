"""What operators ask for, and how a member goes along: pause, and a switchover's three steps.

A candidate looks at itself - its health, its own vetoing hooks - and accepts, or says why not.
The leader gives up only once somebody has accepted. The released lock is then reserved for the
candidate, for one lease from when each member saw the release. All of it is preference: the
lock alone decides, and a plan that nobody keeps costs nothing but time.
"""

from __future__ import annotations

from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.entry import Entry, ask
from leadertag.election.standing import Standing
from leadertag.hookspecs import HookEvent
from leadertag.model import Role
from leadertag.plan import Plan, Switchover

QUESTIONS = (HookEvent.BEFORE_PROMOTE, HookEvent.RANK)
"""What a candidate asks its own hooks before it accepts, in order."""
LONGEST_REFUSAL = 400
"""Characters of a refusal that are written into the plan."""


# -- facts -----------------------------------------------------------------------------


def notice(s: Standing) -> Standing:
    """Note when a switchover, and the release of the lock, were first seen."""
    asked, view = s.plan.switchover, s.view
    if asked is not None and asked.id != s.asked:
        s = replace(s, asked=asked.id, asked_since=s.now, agreed=0, declined=False)
    if view is not None and view.marked and view.index != s.released_index:
        s = replace(s, released_index=view.index, released_since=s.now)
    return s


def open_switchover(s: Standing) -> Switchover | None:
    """Return the switchover that still stands; none in a pause, or past its time."""
    asked = s.plan.switchover
    if asked is None or s.plan.paused or s.now >= expiry(s, asked):
        return None
    return asked


def expiry(s: Standing, asked: Switchover) -> float:
    """Return when a switchover is void, by this member's own clock."""
    return s.asked_since + asked.timeout


def reserved_until(s: Standing) -> float | None:
    """Return until when the free lock is reserved for another member; ``None``: it is not."""
    asked, view = s.plan.switchover, s.view
    if asked is None or not asked.candidate or view is None or not view.marked:
        return None
    if view.record is None or view.record.term != asked.term:
        return None  # of a leadership that is history
    if asked.candidate == s.me.member and asked.session == s.session:
        return None
    until = s.released_since + s.policy.lease
    return until if s.now < until else None


def candidate(s: Standing) -> str:
    """Return the member that has accepted to succeed the leader; ``""`` for nobody."""
    return s.plan.switchover.candidate if s.plan.switchover else ""


def may_hand_over(s: Standing) -> bool:
    """Whether this leader may give up: somebody else has accepted to succeed it."""
    asked = open_switchover(s)
    if asked is None or s.lease is None or asked.term != s.lease.term:
        return False
    return asked.candidate not in ("", s.me.member)


def why_handed_over(s: Standing) -> str:
    """Return the reason that goes into records, hooks and the history."""
    asked = s.plan.switchover
    if asked is None:
        return "switchover"
    by = f", asked for by {asked.by}" if asked.by else ""
    return f"switchover to {asked.candidate}{by}"


def deadlines(s: Standing) -> list[float]:
    """Return when what is planned becomes void."""
    asked, reserved = s.plan.switchover, reserved_until(s)
    return ([expiry(s, asked)] if asked else []) + ([reserved] if reserved is not None else [])


# -- duties ----------------------------------------------------------------------------


def consider(s: Standing) -> Entry:
    """As a settled follower: accept to succeed the leader, or say why not."""
    asked = open_switchover(s)
    if asked is None or asked.candidate or asked.refused or s.declined:
        return s, []
    leader = s.leader
    meant = asked.to in ("", s.me.member)
    if not meant or leader is None or leader.term != asked.term or s.role is not Role.FOLLOWER:
        return s, []
    if s.unable:
        return decline(s, s.unable)
    while s.agreed < len(QUESTIONS):
        event = QUESTIONS[s.agreed]
        if s.policy.budget(event):
            # It has no term yet: it is asked again, with one, when it holds the lock.
            change = replace(s.change(event, Role.LEADER), term=0, reason="asked to succeed")
            s, hook = ask(s, ev.RunHook, change=change)
            return replace(s, chore=hook), [hook]
        s = replace(s, agreed=s.agreed + 1)
    return _write(s, replace(asked, candidate=s.me.member, session=s.session))


def answered(s: Standing, done: ev.Done) -> Entry:
    """Take the answer of a hook that was asked whether this instance should lead."""
    assert isinstance(done.effect, ev.RunHook)
    outcome = done.value
    asked = open_switchover(s) is not None and s.agreed < len(QUESTIONS)
    if not asked or done.effect.change.event is not QUESTIONS[s.agreed]:
        return s, []  # for a switchover that is history
    if outcome is not None and outcome.cancelled:
        return s, []
    if outcome is None or not outcome.ok:
        return decline(s, str(done.error or outcome.message or "a hook vetoed"))
    if outcome.rank == 0:
        return decline(s, "its rank is 0")
    return replace(s, agreed=s.agreed + 1), []


def decline(s: Standing, why: str) -> Entry:
    """Refuse: for all to see if this very member was wanted."""
    asked = s.plan.switchover
    s = replace(s, declined=True)
    if asked is None or asked.to != s.me.member:
        return s, []
    return _write(s, replace(asked, refused=why[:LONGEST_REFUSAL]))


def tidy(s: Standing) -> Entry:
    """As the leader: take away a switchover that is done or void."""
    asked = s.plan.switchover
    if asked is None or s.lease is None:
        return s, []
    if asked.term == s.lease.term and s.now < expiry(s, asked):
        return s, []
    return _write(s, None)


def _write(s: Standing, switchover: Switchover | None) -> Entry:
    plan: Plan = replace(s.plan, switchover=switchover)
    s, write = ask(s, ev.WritePlan, plan=plan)
    return replace(s, chore=write), [write]


# -- history ---------------------------------------------------------------------------


def notice_leader(s: Standing) -> Standing:
    """Note who led last, when that was seen to end, and why it did."""
    view = s.view
    assert view is not None
    led = view.leader
    if led is not None:
        if s.lease is not None and led.term == s.lease.term:
            return s  # the own one: what counts is whom it succeeds
        return replace(s, led=led.member, led_term=led.term, ended_by="", vacant_since=None)
    left = view.record if view.marked else None
    if left is not None and left.term == s.announced != s.led_term:
        return s  # it has given way before it led
    if s.led_term == 0 and left is not None:
        s = replace(s, led=left.member, led_term=left.term)  # gone before this one came
        return replace(s, ended_by=left.reason)
    if s.led_term == 0:
        return s
    if s.vacant_since is None and not s.ended_by:
        s = replace(s, vacant_since=s.now, ended_by="it vanished without a word")
    if left is not None and left.term == s.led_term:
        s = replace(s, ended_by=left.reason or "it stepped down")
    return s
