"""What the machine is told, and what it asks for. Every event carries its own time.

Times are seconds of one local monotonic clock that also runs through suspend. An
effect is asked for once; its outcome comes back as :class:`Done` with the very same
effect in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leadertag.errors import LeaderTagError
from leadertag.history import LeaderChange
from leadertag.hookspecs import RoleChange
from leadertag.model import Gate, Health, Instance, Lease, LockView, Record, TagChange
from leadertag.plan import Plan
from leadertag.ranks import Ranks

# -- events ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something became known ``at`` that time."""

    at: float


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class SessionOpened(Event):
    """This process's session: what its locks hang on from now on."""

    session: str


@dataclass(frozen=True, slots=True)
class LockSeen(Event):
    """The lock was read or its watch reported it."""

    view: LockView


@dataclass(frozen=True, slots=True)
class InstanceSeen(Event):
    """The own instance as the registry has it; ``None``: it is not registered."""

    instance: Instance | None


@dataclass(frozen=True, slots=True)
class RegistryWatched(Event):
    """Whether the registry shows the own instance: its watch works, or fails, from now on."""

    works: bool


@dataclass(frozen=True, slots=True)
class MembersSeen(Event):
    """All instances of the service, from a watch."""

    members: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class ProbeSeen(Event):
    """A hook's probe found the service in this health."""

    health: Health


@dataclass(frozen=True, slots=True)
class Confirmed(Event):
    """A confirmation of ``lease`` came back. It counts from ``sent_at``, never from ``at``."""

    sent_at: float
    lease: Lease
    held: bool


@dataclass(frozen=True, slots=True)
class RegistryReached(Event):
    """A write to the registry succeeded; it counts from ``sent_at``."""

    sent_at: float


@dataclass(frozen=True, slots=True)
class StopAsked(Event):
    """The process ends. ``keep``: leave a leadership as it is, for a restart."""

    keep: bool


@dataclass(frozen=True, slots=True)
class Done(Event):
    """An effect has ended: ``value``, or the error that it ended with."""

    effect: Effect
    value: Any = None
    error: LeaderTagError | None = None


# -- effects ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to be done. ``serial`` tells two requests for the same thing apart."""

    serial: int


@dataclass(frozen=True, slots=True)
class Acquire(Effect):
    """``LockProvider.acquire``; value: Lease, or the LockView of whoever was faster."""

    seen: LockView
    record: Record


@dataclass(frozen=True, slots=True)
class Adopt(Effect):
    """``LockProvider.adopt``; value: Lease."""

    view: LockView
    record: Record


@dataclass(frozen=True, slots=True)
class Update(Effect):
    """``LockProvider.update``; value: Lease."""

    lease: Lease
    record: Record


@dataclass(frozen=True, slots=True)
class Release(Effect):
    """``LockProvider.release``."""

    lease: Lease
    record: Record


@dataclass(frozen=True, slots=True)
class Discard(Effect):
    """``LockProvider.discard``."""

    view: LockView


@dataclass(frozen=True, slots=True)
class ReadMembers(Effect):
    """``RegistryProvider.members``; value: tuple of Instance."""


@dataclass(frozen=True, slots=True)
class Announce(Effect):
    """Announce the own rank under a term, beside the lock; value: Ranks."""

    term: int
    member: str
    rank: int


@dataclass(frozen=True, slots=True)
class Poll:
    """What came of a :class:`Canvass`: the ranks, and all instances of the service."""

    ranks: Ranks
    members: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Canvass(Effect):
    """Wait until every other passing member has announced its rank under ``term``; value: Poll.

    For ``window`` seconds at most, and not for those ``unheeded``. Ranks announced under
    ``tabled``, the own one among them, will do as they are.
    """

    term: int
    tabled: int
    member: str
    unheeded: tuple[str, ...]
    window: float


@dataclass(frozen=True, slots=True)
class ShutOut(Effect):
    """``RegistryProvider.shut_out`` each, then read the members; value: tuple of Instance."""

    others: tuple[Instance, ...]
    lease: Lease


@dataclass(frozen=True, slots=True)
class ShutOutLost(Effect):
    """Read the members; shut out each but this one that was left published.

    Under the lease, or where there is none while the lock is as free as ``seen``.
    BackendUnavailable for a list without this member: it is not taken for all there are.
    """

    member: str
    seen: LockView
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class EnterGuard(Effect):
    """Take the predecessor's lock, then read the members under it.

    Value: tuple of Instance, or ``None`` when the guard is taken.
    """


@dataclass(frozen=True, slots=True)
class LeaveGuard(Effect):
    """Give the predecessor's lock back."""


@dataclass(frozen=True, slots=True)
class RunHook(Effect):
    """Run the hooks of one event; value: hooks.outcome.Outcome."""

    change: RoleChange


@dataclass(frozen=True, slots=True)
class CancelHook(Effect):
    """End the running hook early, if any."""


@dataclass(frozen=True, slots=True)
class Inform(Effect):
    """Run informational hooks; nobody waits for them."""

    change: RoleChange


@dataclass(frozen=True, slots=True)
class Publication:
    """What came of a :class:`Publish`: the lease as renewed, and when it was last confirmed."""

    lease: Lease
    sent_at: float


@dataclass(frozen=True, slots=True)
class Publish(Effect):
    """Confirm; record, tag and closed gate; read back; confirm; open. Value: Publication."""

    lease: Lease
    record: Record
    instance_id: str
    change: TagChange
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class Retract(Effect):
    """Close the gate, take the tag off, remove the gates."""

    instance_id: str
    change: TagChange
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class SetTags(Effect):
    """Change the role tags of the own instance and remove any gate that it carries."""

    instance_id: str
    change: TagChange


@dataclass(frozen=True, slots=True)
class ShutGate(Effect):
    """Close the own gate and keep everything else (``on_backend_loss = "hold"``)."""

    instance_id: str
    gate: Gate


@dataclass(frozen=True, slots=True)
class EnsureQuery(Effect):
    """Make sure that the election's query stands as configured."""


@dataclass(frozen=True, slots=True)
class WritePlan(Effect):
    """Write the plan, if it still is the one that was seen; value: Plan."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class RecordChange(Effect):
    """Add a change of leader to the history."""

    change: LeaderChange


@dataclass(frozen=True, slots=True)
class Remember(Effect):
    """Keep this over a restart, before anything that follows is done."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Memory:
    """What a member remembers over a restart of its process (with the boot id).

    ``lease`` is what it held, ``term`` the last one that it held (also when the lease was
    lost), ``acting`` that the service may be promoted. The times are of the clock that
    ``boot`` names.
    """

    session: str = ""
    lease: Lease | None = None
    term: int = 0
    state: str = ""
    acting: bool = False
    waited: bool = False
    wait_until: float = 0.0
    seen_term: int = 0
    followed: int = 0
    confirmed_at: float = 0.0
    free_since: float | None = None
    free_index: int = 0
    wait: float = 0.0
    stand_back_until: float = 0.0
    asked: str = ""
    asked_since: float = 0.0
    released_index: int = 0
    released_since: float = 0.0
    led: str = ""
    led_term: int = 0
    ended_by: str = ""
    vacant_since: float | None = None
