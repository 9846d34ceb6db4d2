"""A small world for the exhaustive search: two members, one lock, no chance.

Everything in it is a value. What can happen next is a list of moves: a request is answered, a
hook ends, somebody sees the lock, time passes. What is late, lost or broken is paid for from a
budget: without it requests and news take no time, and only their order is open. Each member's
part is told by its own clock, on which it is always 0: when time passes, all its times move
back instead. The machine is the real one.
"""

from __future__ import annotations

from dataclasses import dataclass

from leadertag.config.settings import ElectionSettings
from leadertag.election import events as ev
from leadertag.election.policy import Policy
from leadertag.election.standing import Standing
from leadertag.errors import LeaderTagError
from leadertag.hookspecs import HookEvent
from leadertag.model import Check, Gate, Health, Instance, Lease, LockView

NAMES = ("m1", "m2")
KEY = "redis/master"
NO_LOCK = LockView(KEY)
SERVICE = ElectionSettings(
    name="redis", service="redis", where="the small world", lease=2.0, stand_back=0.5
)


@dataclass(frozen=True, slots=True)
class Budget:
    """How often each fault may still happen."""

    kill: int = 0
    """SIGKILL; the process may be started again at any time."""
    stop: int = 0
    """SIGTERM, giving up in order."""
    pause: int = 0
    """SIGSTOP; it may go on at any time."""
    session: int = 0
    """The session ends behind the holder's back."""
    health: int = 0
    """The service's check fails; it may recover at any time."""
    restart: int = 0
    """The service of whoever acts is restarted in no time, and does not lead any more."""
    hook: int = 0
    """A hook fails at its limit."""
    late: int = 0
    """A request or its answer takes its time, up to patience or beyond; or the watch does."""
    cut: int = 0
    """A member is cut off from the backend, for as long as it pleases."""
    plan: int = 0
    """An operator pauses or resumes elections, or asks for a switchover to any."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the small world is like. Times are seconds."""

    budget: Budget = Budget()
    quantum: float = 0.5
    """Time passes by that much, unless something is due before."""
    patience: float = 0.5
    """How long a request waits for its answer."""
    promote: float = 0.5
    demote: float = 0.25
    verify: float = 0.0
    """0: there is no such hook."""
    gate_life: float = 0.5
    rates: tuple[float, float] = (1.0, 1.0)
    """How fast each member's clock runs."""

    @property
    def policy(self) -> Policy:
        """Return the election's numbers in that world."""
        budgets = {HookEvent.PROMOTE: self.promote, HookEvent.DEMOTE: self.demote}
        if self.verify:
            budgets[HookEvent.VERIFY] = self.verify
        return Policy(election=SERVICE, gate_life=self.gate_life, budgets=budgets)


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance as everybody reads it."""

    tags: tuple[str, ...] = ()
    gates: tuple[OpenGate, ...] = ()
    healthy: bool = True
    fed: float = 0.0
    """For how long the gates' common check still passes."""

    @property
    def leads(self) -> bool:
        """Whether it resolves as leader."""
        fed = self.fed > 0 or not self.gates
        return (
            SERVICE.leader_tag in self.tags and self.healthy and fed
            and all(gate.opened for gate in self.gates)
        )  # fmt: skip

    def instance(self, who: int) -> Instance:
        """Return it as a provider would."""
        name = NAMES[who]
        checks = [Check("service", Health.PASSING if self.healthy else Health.CRITICAL)]
        checks += [
            Check(Gate(SERVICE.name, gate.term).id, own=True, status=Health.PASSING
                  if gate.opened and self.fed > 0 else Health.CRITICAL)
            for gate in self.gates
        ]  # fmt: skip
        top = max((gate.term for gate in self.gates), default=None)
        return Instance(
            name, f"node-{name}", SERVICE.service, "", 0, self.tags, tuple(checks), gate=top
        )


@dataclass(frozen=True, slots=True)
class OpenGate:
    """A gate that is registered."""

    term: int
    opened: bool


@dataclass(frozen=True, slots=True)
class Backend:
    """The lock, the sessions, the registry, and what the verdict has to remember."""

    view: LockView = NO_LOCK
    sessions: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = (Entry(), Entry())
    budget: Budget = Budget()
    top: int = 0
    """No index, no term in this world is above it."""
    acted: int = 0
    """The highest term that ever acted."""
    to_grid: float = 0.0
    """Time stops at least at every quantum: how long until the next one."""


@dataclass(frozen=True, slots=True)
class Request:
    """Something asked of the backend. ``sent`` and the answer are the sender's."""

    step: str
    """Which step of the effect's program it is."""
    effect: ev.Effect | None
    """``None`` for a confirmation by the keeper."""
    session: str = ""
    lease: Lease | None = None
    """The lease as it stands in the middle of the program."""
    slow: bool = False
    """It may take its time. Else it is answered at once, in whatever order."""
    part: int = 0
    """How many steps of the program are done."""
    sent: float = 0.0
    confirmed: float = 0.0
    """When the last confirmation in the program was sent."""
    answered: bool = False
    value: object = None
    error: LeaderTagError | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook that runs."""

    effect: ev.RunHook
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its process, what that waits for, and its service."""

    life: str = "dead"
    """``alive``, ``paused``, ``dead``, or ``rescued``: the guardian gives up in its place."""
    standing: Standing | None = None
    memory: ev.Memory | None = None
    noted: float = -9.0
    """When the lock was last confirmed, as noted beside the memory."""
    admitted: float = 0.0
    lane: tuple[ev.Effect, ...] = ()
    request: Request | None = None
    confirmation: Request | None = None
    late: tuple[Request, ...] = ()
    hook: Hook | None = None
    pictures: tuple[LockView, ...] = ()
    """Of the lock, on their way: in order, two at most."""
    blind: bool = False
    """They take their time."""
    cut: bool = False
    """Its requests may arrive, but it gets no answers and no news."""
    shown: Instance | None = None
    acts: int = 0
    """The term with which its service acts as leader; 0 when it does not."""
    excused: bool = False
    """Its demotion has failed, and the lock is kept: I1 does not count it."""
    broken: bool = False
    """The probe's connection has broken while the process was stopped: it has not seen that."""
    strike: float | None = None
    """When the guardian strikes."""

    @property
    def runs(self) -> bool:
        """Whether a machine goes on here: of a process, or of the guardian."""
        return self.life in ("alive", "rescued")
