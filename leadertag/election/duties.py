"""What a member owes besides the election: following, tags, query, history, plans, telling.

None of it changes a state. One duty is under way at a time; one that failed is tried
again later. What is owed to leaders that were lost has a slot of its own (see lost.py).
"""

from __future__ import annotations

from typing import Any

from leadertag.election import announcing, lost, planned
from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.entry import Entry, ask
from leadertag.election.standing import BACK_OFF, Standing, foreign_mark
from leadertag.election.states import State
from leadertag.errors import Changed
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Role, TagChange

QUERY_EVERY = 60.0
"""Seconds between two looks at whether the query still stands as configured."""


def see_to(s: Standing, event: ev.Event) -> Entry:
    """Take up the outcome of a duty and ask for the next one."""
    s, effects = lost.see_to(s, event)
    s, wanted = _outcome(s, event)
    effects += wanted
    if s.state is State.LEADING:
        s, wanted = _keep_query(s)
        s, more = _keep_books(s)
        return s, effects + wanted + more
    if s.state is not State.WATCHING or s.own_lock or s.stopping:
        return s, effects
    if s.chore is not None:
        s, wanted = _overtaken(s)
        return s, effects + wanted
    if s.now < s.chore_at or s.instance is None:
        return s, effects
    s, wanted = announcing.consider(s)
    if not wanted:
        s, wanted = _follow(s)
    return s, effects + wanted


def _outcome(s: Standing, event: ev.Event) -> Entry:
    """Take up how a duty has ended; a hook that was asked about a switchover may refuse it."""
    if not isinstance(event, ev.Done) or event.effect != s.chore:
        return s, []
    s, effect, value = replace(s, chore=None), event.effect, event.value
    if isinstance(effect, ev.RunHook) and announcing.is_own_question(s, effect):
        return announcing.answered(s, event)
    if isinstance(effect, ev.RunHook) and effect.change.event is not HookEvent.FOLLOW:
        return planned.answered(s, event)
    hook = isinstance(effect, ev.RunHook)
    if hook and value is not None and value.cancelled:
        return s, []  # ended on purpose: what it stood in the way of comes next
    if isinstance(effect, (ev.WritePlan, ev.Announce)) and isinstance(event.error, Changed):
        return replace(s, chore_at=s.now + BACK_OFF[0]), []  # somebody was faster: no failure
    if event.error is not None or (hook and not (value and value.ok)):
        why = str(event.error or (value and value.message) or "a hook failed")
        pause = BACK_OFF[min(s.failures, len(BACK_OFF) - 1)]
        return replace(s, chore_at=s.now + pause, failures=s.failures + 1, reason=why), []
    return _succeeded(replace(s, failures=0, reason=""), effect, value), []


def _succeeded(s: Standing, effect: ev.Effect, value: Any) -> Standing:
    match effect:
        case ev.RunHook(change=change):
            return replace(s, followed=0 if s.unfit else _mark(change))
        case ev.SetTags(change=tags):
            return s.assumed(effect, tags, None)
        case ev.WritePlan():
            return replace(s, plan=value)
        case ev.RecordChange():
            return replace(s, succession=None)
    return s


def _overtaken(s: Standing) -> Entry:
    """End a ``follow`` early when there is a newer leader to follow by now."""
    chore, wanted = s.chore, s.to_follow
    follows = isinstance(chore, ev.RunHook) and chore.change.event is HookEvent.FOLLOW
    if not follows or s.overtaken == s.chore or wanted is None or s.unfit:
        return s, []
    assert isinstance(chore, ev.RunHook)
    if _mark(chore.change) == wanted[0]:
        return s, []
    s, cancel = ask(replace(s, overtaken=chore), ev.CancelHook)
    return s, [cancel]


def _keep_books(s: Standing) -> Entry:
    """As the leader: write the history, and take away plans that are done."""
    if s.chore is not None or s.now < s.chore_at:
        return s, []
    if s.succession is not None:
        s, record = ask(s, ev.RecordChange, change=s.succession)
        return replace(s, chore=record), [record]
    return planned.tidy(s)


def _mark(change: RoleChange) -> int:
    if change.term or change.leader is None:
        return change.term
    return foreign_mark(change.leader)


def _keep_query(s: Standing) -> Entry:
    if s.now < s.query_due or s.policy.election.query_definition is None:
        return s, []
    s, ensure = ask(s, ev.EnsureQuery)
    return replace(s, query_due=s.now + QUERY_EVERY), [ensure]


def _follow(s: Standing) -> Entry:
    """Strip a stale leader tag at once, then follow, and only then carry the follower tag."""
    election, instance = s.policy.election, s.instance
    assert instance is not None
    mark = s.to_follow[0] if s.to_follow else 0
    if s.stale_leadership and not _kept_for_compat(s):
        add = (election.follower_tag,) if mark and s.followed == mark else ()
        return _set_tags(s, TagChange(add=add, remove=(election.leader_tag,)))
    if not mark:
        return s, []
    if s.followed != mark:
        if s.unfit:
            return s, []
        if s.policy.budget(HookEvent.FOLLOW):
            s, hook = ask(s, ev.RunHook, change=s.change(HookEvent.FOLLOW, Role.FOLLOWER))
            return replace(s, chore=hook), [hook]
        s = replace(s, followed=mark)
    if election.follower_tag not in instance.tags:
        return _set_tags(s, TagChange(add=(election.follower_tag,), remove=(election.leader_tag,)))
    return planned.consider(replace(s, role=Role.FOLLOWER))


def _kept_for_compat(s: Standing) -> bool:
    # The predecessor's own master keeps its tag until a leadertag leader exists: it is
    # adopted by campaigning, without a moment in which nobody is master.
    return bool(s.policy.election.compat and s.leader is None and s.instance
                and s.instance.gate is None)  # fmt: skip


def _set_tags(s: Standing, change: TagChange) -> Entry:
    s, tags = ask(s, ev.SetTags, instance_id=s.me.id, change=change)
    return replace(s, chore=tags), [tags]


def tell(before: Standing, s: Standing) -> Entry:
    """Inform of what has changed, after the fact."""
    effects: list[ev.Effect] = []
    if s.role is not before.role and s.policy.budget(HookEvent.ROLE_CHANGED):
        change = replace(s.change(HookEvent.ROLE_CHANGED, s.role), previous_role=before.role)
        s, inform = ask(s, ev.Inform, change=change)
        effects.append(inform)
    old, new = before.leader, s.leader
    term = (old.term if old else 0), (new.term if new else 0)
    if term[0] != term[1] and s.policy.budget(HookEvent.LEADER_CHANGED):
        s, inform = ask(s, ev.Inform, change=s.change(HookEvent.LEADER_CHANGED, s.role))
        effects.append(inform)
    return s, effects
