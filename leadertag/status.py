"""Who leads, who follows, and whether that is certain: from the backend alone.

Works without a daemon. The record in the lock says who leads, the registry who carries
which tag; a difference between the two is told, not smoothed over.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings
from leadertag.config.values import has_tag
from leadertag.errors import Ambiguous, NotRegistered
from leadertag.model import Instance, LockView, Record, Role
from leadertag.plan import Plan, Switchover

FREE = "free"
"""What ``phase`` says when nobody holds the lock and nobody stepped down in order."""


@dataclass(frozen=True, slots=True)
class ElectionStatus:
    """What one look at an election found.

    ``doubt`` is ``""``, or why what was read cannot be taken for the truth (promise I7).
    """

    election: ElectionSettings
    view: LockView
    members: tuple[Instance, ...]
    doubt: str = ""

    @property
    def record(self) -> Record | None:
        """The record in the lock, whoever left it there."""
        return self.view.record

    @property
    def phase(self) -> str:
        """How far the holder has come; ``released`` or ``free`` where nobody holds the lock."""
        if self.record is not None and (not self.view.free or self.view.marked):
            return str(self.record.phase)
        return FREE

    @property
    def leader(self) -> Record | None:
        """The published leader's record."""
        return self.view.leader

    @property
    def switchover(self) -> Switchover | None:
        """The switchover that stands; none in a pause, or once a later leader is published."""
        asked = self.view.plan.switchover
        if asked is None or self.view.plan.paused:
            return None
        done = self.leader is not None and self.leader.term != asked.term
        return None if done else asked

    def role(self, member: Instance) -> Role:
        """Return what a member's tags say; both tags, or none, say nothing."""
        leads = has_tag(member.tags, self.election.leader_tag)
        follows = has_tag(member.tags, self.election.follower_tag)
        if leads == follows:
            return Role.UNKNOWN
        return Role.LEADER if leads else Role.FOLLOWER

    @property
    def problem(self) -> str:
        """Return ``""`` when a leader leads in every respect, else what is wrong, one line."""
        if self.doubt:
            return f"in doubt: {self.doubt}"
        if self.leader is None:
            return self.vacancy
        tagged = [m for m in self.members if has_tag(m.tags, self.election.leader_tag)]
        own = [m for m in tagged if m.member == self.leader.member]
        if not own:
            return f"{self.leader.member} leads but does not carry the tag {self._tag} yet"
        if not own[0].passing:
            return f"{self.leader.member} leads but is {own[0].health}"
        others = [m.member for m in tagged if m.passing and m not in own]
        if others:
            return f"{', '.join(others)} passes with the tag {self._tag} as well"
        return ""

    @property
    def _tag(self) -> str:
        return repr(self.election.leader_tag)

    @property
    def vacancy(self) -> str:
        """Return why nobody leads, ``""`` where somebody does."""
        if self.leader is not None:
            return ""
        if self.view.free:
            return "no leader: lock free"
        if self.record is None or not self.record.term:
            return "no leader: the lock was just taken"
        return f"no leader: lock held by {self.record.member} ({self.record.phase})"


def look(providers: Providers, election: ElectionSettings) -> ElectionStatus:
    """Read one election's lock and members. Raises BackendError when that cannot be done."""
    view = providers.lock.read(election.key)
    members = providers.registry.members(election.service)
    doubt = _doubt(providers, election, members)
    if view.foreign and not doubt:
        doubt = f"the lock {election.key!r} holds a value that is not leadertag's"
    status = ElectionStatus(election, view, members, doubt)
    ordered = sorted(members, key=lambda m: (status.role(m) is not Role.LEADER, m.node, m.id))
    return ElectionStatus(election, view, tuple(ordered), doubt)


def _doubt(providers: Providers, election: ElectionSettings, members: tuple[Instance, ...]) -> str:
    """Tell whether the list can be trusted: it has to show the own instance, if there is one."""
    own: Instance | None = None
    with suppress(NotRegistered, Ambiguous):
        instance_id = election.instance.id if election.instance else election.instance_id
        own = providers.registry.local(election.service, instance_id)
    if own is not None and own.member not in {member.member for member in members}:
        return f"the list of members lacks this node's own instance {own.member}"
    if not members:
        return (
            f"no member of {election.service!r} can be seen: none is registered, "
            "or the right to read is missing"
        )
    return ""


def pause_in_words(plan: Plan) -> str:
    """Return since when an election is paused, by whom and why."""
    since = f" since {plan.since}" if plan.since else ""
    by = f" by {plan.by}" if plan.by else ""
    return f"paused{since}{by}" + (f": {plan.reason}" if plan.reason else "")


def switchover_in_words(asked: Switchover) -> str:
    """Return what a switchover asks for, and how far it has come."""
    what = f"switchover to {asked.to}" if asked.to else "switchover"
    by = f", asked for by {asked.by}" if asked.by else ""
    if asked.refused:
        return f"{what}{by}: refused: {asked.refused}"
    so_far = f"{asked.candidate} has accepted" if asked.candidate else "nobody has accepted yet"
    return f"{what}{by}: {so_far}"


def as_json(status: ElectionStatus) -> dict[str, Any]:
    """Return what ``status --json`` says of one election.

    ``switchover`` and ``doubt`` stand there only where there is one.
    """
    record, leader = status.record, status.leader
    data: dict[str, Any] = {
        "name": status.election.name,
        "service": status.election.service,
        "query": status.election.query,
        "term": record.term if record else 0,
        "phase": status.phase,
        "paused": status.view.plan.paused,
        "since": record.since if record else "",
        "leader": leader
        and {
            "id": leader.instance,
            "node": leader.node,
            "address": leader.address,
            "port": leader.port,
        },
        "members": [_member(status, member) for member in status.members],
    }
    if status.switchover is not None:
        data["switchover"] = _switchover(status.switchover)
    if status.doubt:
        data["doubt"] = status.doubt
    return data


def _switchover(asked: Switchover) -> dict[str, Any]:
    return {
        "id": asked.id,
        "term": asked.term,
        "to": asked.to,
        "by": asked.by,
        "timeout": asked.timeout,
        "candidate": asked.candidate,
        "refused": asked.refused,
    }


def _member(status: ElectionStatus, member: Instance) -> dict[str, Any]:
    return {
        "id": member.id,
        "node": member.node,
        "address": member.address,
        "port": member.port,
        "role": str(status.role(member)),
        "health": str(member.health),
        "tags": list(member.tags),
    }
