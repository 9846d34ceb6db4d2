"""Checks what happened against the promises (DESIGN: I1, I2, I3, I4, I7, I8, pause), as it happens.

The simulator feeds it, and so can fault injection on real servers: it needs nothing but
the sequence of what happened, in the order of one clock. Each method takes one happening
and raises :class:`Broken` at the first promise that it breaks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from leadertag.hookspecs import HookEvent
from leadertag.model import Gate, TagChange

INFORMATIONAL = frozenset({HookEvent.ROLE_CHANGED, HookEvent.LEADER_CHANGED})
"""Events whose hooks run beside the others."""


class Broken(Exception):
    """A promise was broken. ``promise`` is its name, ``what`` one line of how."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what


@dataclass
class Acting:
    """One member's acting as leader: from the start of ``promote`` to the end of ``demote``."""

    member: str
    term: int
    since: float
    excused: str = ""
    """Why I1 does not count it any more: neither ``demote`` nor ``fence`` succeeded, or
    ``on_backend_loss = "hold"`` keeps it."""


@dataclass
class History:
    """The state of one election's promises. Times are seconds of one clock."""

    leader_tag: str = "master"
    follower_tag: str = "slave"
    acting: dict[str, Acting] = field(default_factory=dict)
    acted: int = 0
    """The highest term that ever began to act."""
    granted: int = 0
    """The highest term that the backend ever gave."""
    published: int = 0
    """How often somebody became resolvable as leader: that something happened at all."""
    running: dict[str, tuple[int, HookEvent]] = field(default_factory=dict)
    _resolved: tuple[str, ...] = ()
    _hollow: dict[str, float] = field(default_factory=dict)
    """Since when somebody resolves whose service does not lead."""
    _paused: dict[str, bool] = field(default_factory=dict)
    _campaigned_in_pause: dict[str, bool] = field(default_factory=dict)

    # -- I1: one acts ------------------------------------------------------------------

    def began(self, at: float, member: str, term: int) -> None:
        """``promote`` starts at a member (or it takes the role up without one)."""
        mine = self.acting.get(member)
        if mine is not None and mine.term == term:
            return  # asked for again: hooks are idempotent
        for other in self.acting.values():
            if other.member != member and not other.excused:
                raise Broken(
                    "I1", f"{member} acts with term {term} while {other.member} acts with term "
                    f"{other.term} since {other.since:.3f}",
                )  # fmt: skip
        if self._campaigned_in_pause.get(member, False):
            raise Broken("pause", f"{member} acts with term {term}, which it took in a pause")
        if term <= self.acted:
            raise Broken("I3", f"{member} acts with term {term} after term {self.acted} acted")
        self.acted = term
        self.acting[member] = Acting(member, term, at)

    def ended(self, member: str) -> None:
        """``demote`` or ``fence`` has ended well there, or its service is gone."""
        self.acting.pop(member, None)

    def excuse(self, member: str, why: str) -> None:
        """I1 does not hold for this leadership any more, and the member says so."""
        if member in self.acting:
            self.acting[member].excused = why

    def released(self, member: str) -> None:
        """The lock is being given back with the mark of an orderly step-down."""
        mine = self.acting.get(member)
        if mine is not None:
            raise Broken("I1", f"{member} marks its release while it acts with term {mine.term}")

    # -- I2: one is resolved -------------------------------------------------------------

    def resolvable(self, at: float, index: int, members: Iterable[str]) -> None:
        """At a registry index these members are passing and carry the leader tag."""
        leaders = tuple(members)
        if len(leaders) > 1:
            raise Broken("I2", f"at index {index} {' and '.join(leaders)} resolve as leader")
        for leader in leaders:
            if self.running.get(leader, (0, None))[1] is HookEvent.PROMOTE:
                raise Broken("I2", f"{leader} resolves as leader before its promote has ended")
        if leaders and leaders != self._resolved:
            self.published += 1
        self._resolved = leaders

    def opening(self, member: str, gate: Gate, *, proven: bool) -> None:
        """A gate is about to be opened; ``proven``: the lock was confirmed after the tag."""
        if not proven:
            raise Broken("I2", f"{member} opens gate {gate.term} unconfirmed since it was tagged")

    # -- I5: whoever is resolved leads -----------------------------------------------------

    def hollow(self, at: float, members: Iterable[str], limit: float) -> None:
        """These resolve as leader although their service does not lead: it was restarted.

        To be told again and again; ``limit`` is for how many seconds that may go on.
        """
        self._hollow = {member: self._hollow.get(member, at) for member in members}
        for member, since in self._hollow.items():
            if at - since > limit:
                raise Broken(
                    "I5", f"{member} resolves as leader for {at - since:.1f} s although its "
                    "service does not lead",
                )  # fmt: skip

    # -- I3: terms -----------------------------------------------------------------------

    def given(self, member: str, term: int) -> None:
        """The backend gave a lease with that term to a member."""
        if term <= self.granted:
            raise Broken("I3", f"{member} was given term {term} after term {self.granted}")
        self.granted = term

    def told(self, member: str, event: HookEvent, term: int, right: int | None) -> None:
        """A hook was told a term; ``right`` is the one that it should be told."""
        if right is not None and term != right:
            raise Broken("I3", f"{event} at {member} is told term {term} instead of {right}")

    # -- I4: nothing else changes --------------------------------------------------------

    def changing(self, member: str, change: TagChange, gate: Gate | None, term: int) -> None:
        """Tags (and a gate) are about to be changed at a member, in that term."""
        foreign = {*change.add, *change.remove} - {self.leader_tag, self.follower_tag}
        if foreign:
            raise Broken("I4", f"{member} changes tags that are not role tags: {sorted(foreign)}")
        if gate is not None and gate.term != term:
            raise Broken("I4", f"{member} touches the gate of term {gate.term} in term {term}")

    def registered(self, member: str, before: Iterable[str], after: Iterable[str]) -> None:
        """A registration's tags were rewritten: all but the role tags stay, in order."""
        roles = (self.leader_tag, self.follower_tag)
        kept = [tag for tag in before if tag not in roles]
        left = [tag for tag in after if tag not in roles]
        if kept != left:
            raise Broken("I4", f"tags of {member} went from {kept} to {left}")

    # -- pause: nobody takes a lock to act --------------------------------------------------

    def plan_seen(self, member: str, *, paused: bool) -> None:
        """A member got to see whether elections are paused."""
        self._paused[member] = paused

    def campaigned(self, member: str) -> None:
        """A member asks for the lock. One that knows of a pause must not act with it."""
        self._campaigned_in_pause[member] = self._paused.get(member, False)

    def restarted(self, member: str) -> None:
        """A member's process starts: it knows nothing of a pause yet."""
        self._paused.pop(member, None)

    # -- I7: doubt -----------------------------------------------------------------------

    def believed(self, member: str, conclusion: str, *, complete: bool) -> None:
        """A member concluded something from a member list."""
        if not complete:
            raise Broken("I7", f"{member} took a list without itself for truth: {conclusion}")

    # -- I8: hooks -----------------------------------------------------------------------

    def hook_began(self, member: str, serial: int, event: HookEvent) -> None:
        """A hook starts."""
        if event in INFORMATIONAL:
            return
        if member in self.running:
            raise Broken("I8", f"{event} begins at {member} while {self.running[member][1]} runs")
        self.running[member] = (serial, event)

    def hook_ended(self, member: str, serial: int) -> None:
        """A hook is over, one way or the other."""
        if self.running.get(member, (0, None))[0] == serial:
            del self.running[member]
