"""A switchover from outside: asked for in the plan, and watched until it has come about.

One that was refused or ran out of time is withdrawn: nothing is left behind that could take
effect later. What members do with it stands in :mod:`leadertag.election.planned`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings
from leadertag.config.toml import seconds as written
from leadertag.config.values import has_tag
from leadertag.errors import BackendError, BackendUnavailable, Changed, did_you_mean
from leadertag.model import Health, Instance, LockView, Record, Role
from leadertag.plan import Plan, Switchover, write_plan
from leadertag.planned import NotDone, edit, foreign
from leadertag.providers import Watch
from leadertag.status import ElectionStatus, look, pause_in_words

if TYPE_CHECKING:
    from leadertag.scheduler.clock import Clock

log = logging.getLogger(__name__)
RETRY = 0.5
"""Seconds until a backend that did not answer is asked again."""
WITHDRAWAL = 3.0
"""Seconds for which withdrawing is tried while the backend does not answer."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A switchover that has come about. ``seconds`` counts from asking to being published."""

    before: str
    after: str
    previous_term: int
    term: int
    seconds: float


# -- who may be asked --------------------------------------------------------------------


def present_leader(status: ElectionStatus) -> Record:
    """Return who is to give up; raise NotDone or Conflict when no switchover is possible."""
    name, plan = status.election.name, status.view.plan
    if plan.foreign:
        raise foreign(status.election.key)
    if plan.paused:
        raise NotDone(f"{name} is {pause_in_words(plan)}: `leadertag resume` first")
    if status.doubt:
        raise NotDone(f"{name} is in doubt: {status.doubt}")
    if status.leader is None:
        raise NotDone(f"{name}: {status.vacancy}; a switchover needs a leader that gives up")
    return status.leader


def successor(status: ElectionStatus, leader: Record, wanted: str) -> str:
    """Return the wanted member's full name, ``""`` for any; NotDone when it cannot take over."""
    name = status.election.name
    if wanted:
        member = find(status, wanted)
        if member.member == leader.member:
            raise NotDone(f"{name}: {leader.member} leads already, term {leader.term}")
        why = unsuited(status, member)
        if why:
            raise NotDone(f"{name}: {member.member} {why}")
        return member.member
    others = [member for member in status.members if member.member != leader.member]
    if all(unsuited(status, member) for member in others):
        reasons = "; ".join(f"{member.member} {unsuited(status, member)}" for member in others)
        raise NotDone(f"{name}: nobody can take over: {reasons or 'there is no other member'}")
    return ""


def find(status: ElectionStatus, word: str) -> Instance:
    """Return the member that a word means: ``node/id``, or one of both where that is enough."""
    name, members = status.election.name, status.members
    found = [member for member in members if member.member == word]
    found = found or [member for member in members if word in (member.node, member.id)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(sorted(member.member for member in found))
        raise NotDone(f"{name}: {word!r} may be any of {listed}: name one of these")
    names = sorted(member.member for member in members)
    near = did_you_mean(word, names) or f" (there are {', '.join(names)})"
    raise NotDone(f"{name}: there is no member {word!r}{near}")


def unsuited(status: ElectionStatus, member: Instance) -> str:
    """Return why a member cannot take over, as far as the registry tells; ``""``: it can."""
    election = status.election
    if member.service_health is not Health.PASSING:
        return f"is {member.service_health}"
    missing = [tag for tag in election.tags if not has_tag(member.tags, tag)]
    if missing:
        return f"lacks the tag {missing[0]!r}"
    if status.role(member) is not Role.FOLLOWER:
        return f"does not carry the tag {election.follower_tag!r}: no leadertag follows there"
    return ""


# -- switchover --------------------------------------------------------------------------


class SwitchoverRun:
    """One switchover from asking to its end. For one thread; used once."""

    def __init__(
        self, providers: Providers, election: ElectionSettings, *, to: str, timeout: float,
        by: str, clock: Clock, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """``to`` is a member's name, its node or its id; ``""`` is any. Does no I/O."""
        self._providers, self._election = providers, election
        self._lock, self._key, self._name = providers.lock, election.key, election.name
        self._to, self._timeout, self._by = to, timeout, by
        self._clock, self._sleep = clock, sleep
        self._id = uuid.uuid4().hex
        self._asked: Switchover | None = None
        self._before = ""
        self._began = self._until = clock.now()
        self._watch: Watch

    @property
    def asked(self) -> bool:
        """Whether something of this run may stand in the backend."""
        return self._asked is not None

    def run(self) -> Moved:
        """Ask, and wait for what comes of it.

        Raises NotDone with the reason in words, Conflict, or another BackendError. Whatever
        ends it before the switchover has come about, SIGINT too, withdraws it.
        """
        self._began = self._clock.now()
        self._until = self._began + self._timeout
        status = look(self._providers, self._election)
        self._watch = self._lock.watch([self._key])
        try:
            return self._await(self._ask(status))
        except BaseException:
            self._withdraw()
            raise
        finally:
            self._watch.close()

    # -- asking --------------------------------------------------------------------------

    def _ask(self, status: ElectionStatus) -> Switchover:
        """Write the switchover, once no other one is open."""
        seen: dict[str, float] = {}
        while True:
            if self._asked is not None and self._is_written(status):
                return self._asked
            other, now = status.switchover, self._clock.now()
            void = seen.setdefault(other.id, now) + other.timeout if other else now
            if now < void:
                self._next(min(self._until, void))
            elif self._write(status):
                assert self._asked is not None
                return self._asked
            if self._clock.now() >= self._until:
                raise self._never_asked(other)
            status = self._look_again()

    def _is_written(self, status: ElectionStatus) -> bool:
        """Whether a write that was not answered was done: it stands there, or has worked."""
        assert self._asked is not None
        there = status.view.plan.switchover
        done = status.leader is not None and status.leader.term > self._asked.term
        return done or (there is not None and there.id == self._id)

    def _write(self, status: ElectionStatus) -> bool:
        leader = present_leader(status)
        to = successor(status, leader, self._to)
        left = self._until - self._clock.now()
        self._began, self._before = self._clock.now(), leader.member
        self._asked = Switchover(self._id, leader.term, to, timeout=left, by=self._by)
        try:
            write_plan(self._lock, self._key, replace(status.view.plan, switchover=self._asked))
        except Changed:
            self._asked = None
            return False
        except BackendUnavailable as error:
            log.info("asking again: %s", error)
            self._sleep(RETRY)
            return False
        return True

    def _look_again(self) -> ElectionStatus:
        while True:
            try:
                return look(self._providers, self._election)
            except BackendUnavailable as error:
                if self._clock.now() >= self._until:
                    raise
                log.info("looking again: %s", error)
                self._sleep(RETRY)

    def _never_asked(self, other: Switchover | None) -> NotDone:
        if other is None:
            return NotDone(f"{self._name}: could not ask within {written(self._timeout)}")
        whom = f" to {other.to}" if other.to else ""
        return NotDone(
            f"{self._name}: another switchover{whom} is open, asked for by {other.by} "
            f"(id {other.id}): try again when it is over"
        )

    # -- waiting -------------------------------------------------------------------------

    def _await(self, asked: Switchover) -> Moved:
        while (view := self._next(self._until)) is not None:
            if view.leader is not None and self._mine(view.plan) is None:
                try:  # the watch may lag behind the own write, this read cannot
                    view = self._lock.read(self._key)
                except BackendUnavailable:
                    continue
            leader, mine = view.leader, self._mine(view.plan)
            if leader is not None and leader.term > asked.term:
                return self._arrived(asked, leader)
            if mine is None and (leader is not None or view.plan.paused):
                raise self._taken_away(view)
            if mine is not None and mine.refused:
                why = f"{mine.to} refuses: {mine.refused}"
                raise NotDone(f"{self._name}: {why}; {leads(self._election, view)}")
            self._asked = mine or self._asked
        return self._out_of_time(asked)

    def _taken_away(self, view: LockView) -> NotDone:
        plan, why = view.plan, "somebody has withdrawn the switchover"
        if plan.paused:
            why = f"the election is {pause_in_words(plan)}"
        elif plan.switchover is not None:
            why = f"{plan.switchover.by} has asked for another switchover instead"
        return NotDone(f"{self._name}: {why}; {leads(self._election, view)}")

    def _mine(self, plan: Plan) -> Switchover | None:
        asked = plan.switchover
        return asked if asked is not None and asked.id == self._id else None

    def _next(self, until: float) -> LockView | None:
        """Return the next picture of lock and plan; ``None`` when there is none by then."""
        while (left := until - self._clock.now()) > 0:
            try:
                seen = self._watch.poll(left)
            except BackendUnavailable as error:
                log.info("watching again: %s", error)
                self._sleep(min(left, RETRY))
                continue
            if seen is not None:
                view: LockView = seen[self._key]
                return view
        return None

    def _arrived(self, asked: Switchover, leader: Record) -> Moved:
        if leader.member == self._before:
            raise NotDone(f"{self._name}: {leader.member} leads again, term {leader.term}")
        if asked.to not in ("", leader.member):
            raise NotDone(
                f"{self._name}: {leader.member} leads now, term {leader.term}, not {asked.to}"
            )
        took = self._clock.now() - self._began
        return Moved(self._before, leader.member, asked.term, leader.term, took)

    # -- its end -------------------------------------------------------------------------

    def _out_of_time(self, asked: Switchover) -> Moved:
        last = self._asked or asked
        self._withdraw()
        late = f"{self._name}: not done within {written(self._timeout)}"
        try:
            view = self._lock.read(self._key)
        except BackendUnavailable as error:
            raise NotDone(f"{late}, and who leads is not known: {error}") from error
        if view.leader is not None and view.leader.term > asked.term:
            return self._arrived(asked, view.leader)
        raise NotDone(f"{late}: {_obstacle(last, view)}; {leads(self._election, view)}")

    def _withdraw(self) -> None:
        """Take the own switchover away, if it stands there."""

        def without(plan: Plan) -> Plan:
            return plan if self._mine(plan) is None else replace(plan, switchover=None)

        patience = self._clock.now() + WITHDRAWAL
        while (asked := self._asked) is not None:
            try:
                edit(self._lock, self._key, without)
                self._asked = None
            except BackendUnavailable as error:
                if self._clock.now() >= patience:
                    void = written(round(asked.timeout, 3))
                    log.warning("not withdrawn, void %s after it was asked for: %s", void, error)
                    return
                self._sleep(RETRY)
            except BackendError as error:
                log.warning("the switchover could not be withdrawn: %s", error)
                return


def leads(election: ElectionSettings, view: LockView) -> str:
    """Return in words who leads, or why nobody does."""
    if view.leader is not None:
        return f"{view.leader.member} leads, term {view.leader.term}"
    return ElectionStatus(election, view, ()).vacancy


def _obstacle(asked: Switchover, view: LockView) -> str:
    """Return in words what a switchover that ran out of time was waiting for."""
    who = asked.candidate
    if not who:
        silent = f"{asked.to} has not accepted" if asked.to else "nobody has accepted"
        return f"{silent}: leadertag there is down, stands back, or does not follow yet"
    if view.free:
        return f"{who} has accepted, but does not take the lock"
    if view.record is None or view.record.term <= asked.term:
        return f"{who} has accepted, but the leader does not give up"
    return f"{view.record.member} holds the lock and is still taking over"
