"""All that one member knows in one election, and what follows from it at once.

Nothing here decides on a transition: these are the facts and questions about them; how an
event changes them is in :mod:`leadertag.election.observing`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from leadertag.decoding import text
from leadertag.election import events as ev
from leadertag.election.copying import replace
from leadertag.election.policy import LEAST_DEMOTE, RATE, SLACK, Policy
from leadertag.election.states import State
from leadertag.history import LeaderChange
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Gate, Health, Instance, Lease, LockView, Phase, Record, Role, TagChange
from leadertag.plan import NO_PLAN, Plan

BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before the same thing is tried again, by the number of failures in a row."""


@dataclass(frozen=True)
class Standing:
    """One member's view of one election. Times are of the injected clock, in seconds."""

    policy: Policy
    state: State = State.STARTING
    now: float = 0.0
    entered: float = 0.0
    session: str = ""
    instance: Instance | None = None
    instance_known: bool = False
    pictured: int = 0
    """The serial of the last effect asked for before the registry last showed the instance ..."""
    pictured_at: float = 0.0
    """... and when that was."""
    probe: Health | None = None
    members: tuple[Instance, ...] | None = None
    listed: tuple[Instance, ...] | None = None
    """The members as their watch last showed them."""
    view: LockView | None = None
    viewed: int = 0
    """The serial of the last effect asked for before the lock was last seen."""
    free_since: float | None = None
    """When this member first saw the lock free without a mark, unless it changed since."""
    free_index: int = 0
    wait: float = 0.0
    """What the vanished holder may still have to act, in seconds from ``free_since``."""
    lease: Lease | None = None
    confirmed_at: float = 0.0
    registry_at: float = 0.0
    blind_since: float | None = None
    """Since when the registry does not show the own instance any more, if it does not."""
    term: int = 0
    """Of the last lease held: what ``demote`` ends, also when the lease is gone."""
    wait_until: float = 0.0
    """When the present lease may begin to act: a vanished predecessor's has run out."""
    waited: bool = False
    """No wait is owed any more: a release may say so to the next one."""
    gates_end: float = 0.0
    """When the present lease's predecessor cannot have a gate that passes any more."""
    first_ever: bool = False
    """The lock had never existed: no wait is owed if nobody looks like a leader."""
    acting: bool = False
    """From the start of ``promote`` to the end of ``demote`` or ``fence``."""
    offered: bool = False
    """Publishing was begun: the registration may say so by now, whatever was last shown."""
    unverified: bool = False
    """Led in an earlier run of ``check``: its service was not asked yet whether it still does."""
    yields: bool = False
    """Its service has lost the leading role: once the lock is free, the others come first."""
    guarded: bool = False
    """Holds the predecessor's lock as well."""
    seen_term: int = 0
    followed: int = 0
    """The term whose leader the service follows for sure; 0 for none."""
    memory: ev.Memory | None = None
    """What was left by the process before, until it has been dealt with."""
    pending: ev.Effect | None = None
    """What the present state waits for ..."""
    asked_at: float = 0.0
    """... and since when: what a granted lease counts from."""
    chore: ev.Effect | None = None
    """What a follower has under way."""
    overtaken: ev.Effect | None = None
    """The chore that was ended early, because it is about a leader of the past."""
    shutting: ev.ShutOutLost | None = None
    """That leaders lost with their nodes are shut out is under way (see lost.py) ..."""
    shut: ev.ShutOutLost | None = None
    """... and when it was done last, it was for this."""
    shut_at: float = 0.0
    shut_failures: int = 0
    retry_at: float = 0.0
    chore_at: float = 0.0
    """When a follower's duty that failed is tried again."""
    failures: int = 0
    stand_back_until: float = 0.0
    stopping: bool = False
    keep: bool = False
    rank: int = 0
    """What the own ``rank`` hooks have said last."""
    announced: int = 0
    """The term of the holder under which the own rank was announced last ..."""
    announced_at: float = 0.0
    """... and when that holder was first seen."""
    polled: int = 0
    """The serial of the hook that was asked for that."""
    tabled: int = 0
    """The term whose holder has heard everybody, and has given way."""
    yielded: tuple[str, ...] = ()
    """Members that this one has given way to since somebody led."""
    silent: tuple[str, ...] = ()
    """Members that announced nothing when they were last waited for."""
    role: Role = Role.UNKNOWN
    reason: str = ""
    query_due: float = 0.0
    serial: int = 0

    # -- what operators ask (see planned.py) ---------------------------------------

    plan: Plan = NO_PLAN
    asked: str = ""
    """The id of the switchover last seen ..."""
    asked_since: float = 0.0
    """... and when it was first seen."""
    agreed: int = 0
    """How many of its own hooks have agreed to that switchover."""
    declined: bool = False
    released_index: int = 0
    """The lock as last released in order ..."""
    released_since: float = 0.0
    """... and when that was first seen: a reservation counts from then."""
    led: str = ""
    """Who led last, in which term, why no longer, and since when nobody does."""
    led_term: int = 0
    ended_by: str = ""
    vacant_since: float | None = None
    succession: LeaderChange | None = None
    """The own entry in the history, until it is written."""

    # -- questions ---------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether this member holds the lock, as far as it knows."""
        return self.lease is not None

    @property
    def gate(self) -> Gate | None:
        """The gate of the present lease; ``None`` where there is no process to feed one."""
        if self.lease is None or not self.policy.gated:
            return None
        return Gate(self.policy.election.name, self.lease.term)

    @property
    def leader(self) -> Record | None:
        """The published leader's record, as the lock shows it."""
        return self.view.leader if self.view else None

    @property
    def unfit(self) -> str:
        """Why the service cannot lead; ``""`` when it can."""
        election = self.policy.election
        if self.instance is None:
            return f"service {election.service!r} is not registered here"
        if self.probe is Health.CRITICAL:
            return "its probe failed"
        if self.instance.service_health is not Health.PASSING:
            return f"its health is {self.instance.service_health}"
        missing = [tag for tag in election.tags if tag not in self.instance.tags]
        return f"it lacks the tag {missing[0]!r}" if missing else ""

    @property
    def unable(self) -> str:
        """Why this member cannot lead now, whoever holds the lock; ``""`` when it can."""
        if not self.session:
            return "there is no session with the backend"
        if self.unfit:
            return self.unfit
        if self.blind_since is not None:
            return "the registry does not show its instance any more"
        if self.now < self.stand_back_until:
            return "it stands back after a failed or vetoed promotion, or a lost role"
        return ""

    @property
    def contact_ends(self) -> float:
        """When demotion has to start unless a confirmation comes."""
        return self.confirmed_at + self.policy.contact_limit

    @property
    def out_of_contact(self) -> bool:
        """Whether the lock, or the registry for a published leader, went unconfirmed too long."""
        if self.now >= self.contact_ends:
            return True
        if not self.policy.gated or self.state is not State.LEADING:
            return False
        return self.now >= self.registry_ends

    @property
    def registry_ends(self) -> float:
        """When a published leader has gone without its registry for too long.

        It has to be told of its heartbeat, and to show the own instance: a leader that does
        not learn that its service has failed would lead on for ever.
        """
        seen = self.registry_at
        if self.blind_since is not None:
            seen = min(seen, self.blind_since)
        return seen + self.policy.lease

    @property
    def foreign_leader(self) -> Instance | None:
        """In a rolling change: a passing leader that the predecessor made."""
        if not self.policy.election.compat:
            return None
        return next((m for m in self.others_tagged if m.passing and m.gate is None
                     and not self._holder_is(m)), None)  # fmt: skip

    def _holder_is(self, member: Instance) -> bool:
        view = self.view
        return bool(view and view.record and not view.free and view.record.member == member.member)

    @property
    def others_tagged(self) -> tuple[Instance, ...]:
        """Every other instance of this election that carries the leader tag.

        A gate alone makes nobody a leader, and may be another election's.
        """
        mine = self.instance.member if self.instance else ""
        return tuple(
            m for m in self.members or ()
            if m.member != mine
            and set(self.policy.election.tags) <= set(m.tags)
            and self.policy.election.leader_tag in m.tags
        )  # fmt: skip

    @property
    def others_gated(self) -> bool:
        """Whether any other instance carries a gate: there has been a leader."""
        mine = self.instance.member if self.instance else ""
        return any(m.gate is not None and m.member != mine for m in self.members or ())

    @property
    def members_complete(self) -> bool:
        """Whether the member list holds at least this member; one without it is in doubt."""
        mine = self.instance.member if self.instance else ""
        return any(m.member == mine for m in self.members or ())

    @property
    def own_lock(self) -> bool:
        """Whether the lock hangs on this process's session (or the one it took up again)."""
        view = self.view
        return bool(view and view.holder and view.holder == self.session)

    @property
    def tags_wrong_for_leader(self) -> bool:
        """Whether the own registration does not say that this member leads."""
        if self.instance is None:
            return False
        election, tags = self.policy.election, self.instance.tags
        wrong_tags = election.leader_tag not in tags or election.follower_tag in tags
        gate = self.gate
        return wrong_tags or (gate is not None and self.instance.gate != gate.term)

    @property
    def gate_shut(self) -> bool:
        """Whether the own gate is fed and has not passed for a while all the same.

        Closed by a late request, or by a heartbeat that ran out: its leader is never found.
        """
        if self.instance is None or self.gate is None:
            return False
        life, since = self.policy.gate_life, max(self.pictured_at, self.entered)
        shut = [
            check.id for check in self.instance.checks
            if check.own and check.status is not Health.PASSING
            and (check.id == self.gate.id or check.id.startswith(f"{self.gate.id}:"))
        ]  # fmt: skip
        if not shut or self.now - self.registry_at >= life:
            return False
        # One that follows the heartbeat may be about to: a latch was told, and stays so.
        told = any(name != self.gate.id for name in shut)
        return self.now >= since + (life / 8 if told else life)

    @property
    def stale_leadership(self) -> bool:
        """Whether the own registration says that it leads although it does not."""
        if self.instance is None:
            return False
        tagged = self.policy.election.leader_tag in self.instance.tags
        return tagged or self.instance.gate is not None

    def assumed(self, effect: ev.Effect, change: TagChange, gate: Gate | None) -> Standing:
        """Return the standing with the registration as the effect left it.

        Unless the registry showed it meanwhile: then that counts, for it may have been
        changed again since, and an old picture only costs another look.
        """
        if self.instance is None or self.pictured >= effect.serial:
            return self
        tags = change.apply(self.instance.tags)
        instance = replace(self.instance, tags=tags, gate=gate.term if gate else None)
        return replace(self, instance=instance)

    @property
    def to_follow(self) -> tuple[int, Instance] | None:
        """Whom the service should follow, and what marks that: the leader's term.

        In a rolling change it may be a master that the predecessor made. That one has no
        term; a negative number made of its name stands for it.
        """
        if (record := self.leader) is not None:
            leader = self.as_instance(record)
            return (record.term, leader) if leader else None
        foreign = self.foreign_leader
        return (foreign_mark(foreign), foreign) if foreign else None

    # -- values for effects --------------------------------------------------------

    def record(self, phase: Phase) -> Record:
        """Return the record to write in that phase."""
        me, lease = self.instance, self.lease
        if me is None:  # deregistered while it held the lock: say who it was
            assert lease is not None, "a record is written by a registered or holding member"
            return replace(lease.record, phase=phase, reason=text(self.reason))
        return Record(
            member=me.member, instance=me.id, node=me.node, address=me.address, port=me.port,
            phase=phase, term=lease.term if lease else 0, lease=self.policy.lease,
            incarnation=lease.record.incarnation if lease else 0, reason=text(self.reason),
        )  # fmt: skip

    def change(self, event: HookEvent, role: Role) -> RoleChange:
        """Return what the hooks of an event are told."""
        leads = role is Role.LEADER
        mark, leader = (0, None) if leads else self.to_follow or (0, None)
        ends = event in (HookEvent.DEMOTE, HookEvent.FENCE)
        term = max(mark, 0) if leader and not ends else self.term
        return RoleChange(
            event=event, election=self.policy.election.name, role=role, previous_role=self.role,
            term=term, reason=self.reason, instance=self.me,
            leader=self.me if leads else leader,
            timeout=self.granted(event),
        )  # fmt: skip

    def granted(self, event: HookEvent) -> float:
        """Return the seconds that the hooks of an event get, now.

        That is their limit, but for a ``demote`` that is begun late, or anew by a guardian:
        it is cut short, so that ``fence`` still ends in time if it fails. Without a fence, or
        when the lease has been used up, nothing follows that would be worth it.
        """
        limit, fence = self.policy.budget(event), self.policy.budget(HookEvent.FENCE)
        left = self.confirmed_at + RATE * self.policy.lease - self.now
        if event is not HookEvent.DEMOTE or not fence or left <= 0:
            return limit
        return min(limit, max(LEAST_DEMOTE, left - fence - SLACK / 4))

    @property
    def me(self) -> Instance:
        """The own instance; one that was deregistered is described by what it held."""
        if self.instance is not None:
            return self.instance
        held = self.as_instance(self.lease.record if self.lease else None)
        return held or Instance("", "", self.policy.election.service, "", 0)

    def as_instance(self, record: Record | None) -> Instance | None:
        """Return the instance that a record describes."""
        if record is None:
            return None
        service = self.policy.election.service
        return Instance(record.instance, record.node, service, record.address, record.port)

    def remembered(self) -> ev.Memory:
        """Return what has to survive this process."""
        if self.memory is not None and self.lease is None and self.acting:
            return self.memory  # not dealt with yet: another restart must find it again
        return ev.Memory(
            session=self.session, lease=self.lease, term=self.term, state=str(self.state),
            acting=self.acting, waited=self.waited, wait_until=self.wait_until,
            seen_term=self.seen_term, followed=self.followed, confirmed_at=self.confirmed_at,
            free_since=self.free_since, free_index=self.free_index, wait=self.wait,
            stand_back_until=self.stand_back_until, asked=self.asked,
            asked_since=self.asked_since, released_index=self.released_index,
            released_since=self.released_since, led=self.led, led_term=self.led_term,
            ended_by=self.ended_by, vacant_since=self.vacant_since,
        )  # fmt: skip


def foreign_mark(master: Instance) -> int:
    """Return what stands for the term of a master that has none."""
    return -1 - zlib.crc32(master.member.encode())
