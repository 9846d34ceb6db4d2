"""The numbers of an election: which deadline follows from which setting, and why.

``lease`` is what everything hangs on. A holder acts until 0.9 x lease after the last
confirmation was *sent*; a successor waits a whole lease. Clock rates may differ by
10 %: 0.9 of the slow clock's lease ends before 1.0 of the fast clock's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from leadertag.config.settings import ElectionSettings
from leadertag.errors import ConfigError
from leadertag.hookspecs import HookEvent

RATE = 0.9
"""The part of its lease that a holder uses: clock rates differ by less than the rest."""
CONFIRMS_PER_LEASE = 8
"""Confirmations sent in one lease: one may be lost without anybody noticing."""
SLACK = 0.1
"""Seconds kept for the process itself between a deadline and what is done at it."""
HOOK_GRACE = 1.0
"""Seconds after its limit when a hook that has not been reported counts as failed."""
LEAST_DEMOTE = 0.02
"""Seconds that a demotion gets in any case: most of them need no more."""
RETRACT_LIMIT = 0.5
"""Seconds that a planned step-down waits for the registry before it demotes anyway."""
HEAD_START = 1.0
"""Seconds that the others get to take the lock from a leader whose service has lost its role."""
RANK_WINDOW = 0.1
"""Seconds that whoever holds the lock waits for the ranks of the other candidates."""
PUBLISH_PATIENCE = 10.0
"""Seconds that a promoted leader tries to get published before it lets another one try."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One election's settings, with what the providers and hooks add to them."""

    election: ElectionSettings
    gated: bool = True
    """The process lives on and feeds a gate (daemon), or ends after a step (``check``)."""
    fenced: bool = False
    """Lock and registry are one backend that publishes in one transaction."""
    sees_all: bool = True
    """The registry shows every instance that the lock could exclude."""
    gate_life: float = 2.0
    budgets: Mapping[HookEvent, float] = field(default_factory=dict)

    @property
    def lease(self) -> float:
        """Seconds for which a holder may act unconfirmed, times :data:`RATE`."""
        return self.election.lease

    def budget(self, event: HookEvent) -> float:
        """Return the longest time, in seconds, that the hooks of an event may take."""
        return self.budgets.get(event, 0.0)

    @property
    def confirm_every(self) -> float:
        """Seconds between two confirmations."""
        return self.lease / CONFIRMS_PER_LEASE

    @property
    def contact_limit(self) -> float:
        """Seconds after the last confirmation when demotion has to *start* to end in time."""
        return contact_limit(
            self.lease, self.budget(HookEvent.DEMOTE), self.budget(HookEvent.FENCE)
        )

    def gates_end(self, since: float, *, marked: bool) -> float:
        """Return when no gate of a vanished leader can pass any more.

        ``since`` is when its lock was first seen free. It fed its gate for as long as it might
        lead without contact, or until it marked its release; and that lasts for a gate's life,
        also where the agent restarts and counts it anew.
        """
        fed = 0.0 if marked else (self.contact_limit + SLACK) / RATE
        return since + fed + self.gate_life


def contact_limit(lease: float, demote: float, fence: float) -> float:
    """Return the seconds for which a leader waits for a confirmation before it demotes."""
    return RATE * lease - demote - fence - SLACK


def head_start(election: ElectionSettings, *, gated: bool) -> float:
    """Return the seconds for which a leader whose service lost its role leaves it to others.

    With ``check`` (``gated`` is false) they look only at intervals, and a second would be none.
    """
    return min(HEAD_START, election.stand_back) if gated else election.stand_back


def check_timing(election: ElectionSettings, *, demote: float, fence: float) -> None:
    """Refuse a lease that its own hooks do not fit into, with the inequality in words."""
    limit = contact_limit(election.lease, demote, fence)
    needed = 2 * election.lease / CONFIRMS_PER_LEASE
    if limit >= needed:
        return
    shortest = (demote + fence + SLACK) / (RATE - 2 / CONFIRMS_PER_LEASE)
    raise ConfigError(
        f"{election.where}: lease = {_s(election.lease)} is too short: {RATE} x lease - demote "
        f"{_s(demote)} - fence {_s(fence)} - slack {_s(SLACK)} = {_s(limit)} leaves less than two "
        f"confirmations ({_s(needed)}); a lease of {_s(_up(shortest))} or shorter limits would fit"
    )


def check_one_shot(
    election: ElectionSettings, *, interval: float, timeout: float, demote: float, fence: float
) -> None:
    """Refuse a lease that runs out between two runs of ``check``.

    A run that finds its lease unconfirmed has to demote, or fence, by 0.9 of it, and the
    next one may begin an interval later and take its whole time-out to find that out.
    """
    least = 2 * interval + timeout
    if election.lease < least:
        raise ConfigError(
            f"{election.where}: lease = {_s(election.lease)} is shorter than 2 x interval "
            f"{_s(interval)} + timeout {_s(timeout)} = {_s(least)}: it would run out between runs"
        )
    limit = contact_limit(election.lease, demote, fence)
    if limit < interval + timeout:
        shortest = (interval + timeout + demote + fence + SLACK) / RATE
        raise ConfigError(
            f"{election.where}: lease = {_s(election.lease)} is too short: {RATE} x lease - demote "
            f"{_s(demote)} - fence {_s(fence)} - slack {_s(SLACK)} = {_s(limit)} is less than "
            f"interval {_s(interval)} + timeout {_s(timeout)}: the next run would demote too late; "
            f"a lease of {_s(_up(shortest))} or shorter limits would fit"
        )


def _up(seconds: float) -> float:
    return round(seconds + 0.05, 1)


def _s(seconds: float) -> str:
    return f"{seconds:.3g}s"


@dataclass(frozen=True, slots=True)
class Bound:
    """A worst case: its parts add up to ``seconds``."""

    name: str
    seconds: float
    parts: tuple[tuple[str, float], ...]
    meaning: str


REQUEST = 0.1
"""Seconds that one request to a healthy backend is reckoned with, at the very worst."""
TAKE, LOOK, PUBLISH, RELEASE, RETRACT = 3, 1, 8, 2, 3
"""Requests of each step, one after another: what the two transactions of taking the lock and
the confirming, writing, tagging, reading back and opening of a publication come to."""


def explain(
    election: ElectionSettings,
    *,
    budgets: Mapping[HookEvent, float],
    gate_life: float,
    session_expiry: float,
    one_shot_interval: float | None = None,
    request: float = REQUEST,
    fenced: bool = False,
) -> list[Bound]:
    """Return the worst-case times of one election.

    ``session_expiry`` is how long the backend keeps the lock of a vanished process, in
    seconds; ``one_shot_interval`` the time between two runs of ``check``, ``None`` for the
    daemon; ``request`` what one request to the backend takes at most; ``fenced`` whether one
    transaction publishes the new leader and takes the old one's gate away.
    """

    def budget(event: HookEvent) -> float:
        return budgets.get(event, 0.0)

    turn = ("next run of check", one_shot_interval) if one_shot_interval else ("wake-up", request)
    hooks = (
        ("before_promote hooks", budget(HookEvent.BEFORE_PROMOTE)),
        ("rank hooks", budget(HookEvent.RANK)),
    )
    take_over = (
        ("take the lock", TAKE * request),
        *hooks,
        *_ranking(budgets, request, one_shot=one_shot_interval is not None),
        ("promote hooks", budget(HookEvent.PROMOTE)),
        ("look at the others", LOOK * request),
        ("publish and read back", PUBLISH * request),
    )
    release = ("release", RELEASE * request)
    step_down = (
        turn,
        ("take the tag off", min(RETRACT * request, RETRACT_LIMIT)),
        ("demote hooks", budget(HookEvent.DEMOTE)),
        ("fence hooks", budget(HookEvent.FENCE)),
        release,
    )
    cut_off = ("0.9 x lease", RATE * election.lease)
    rules = Policy(election, gate_life=gate_life, budgets=budgets)
    gates_end = rules.gates_end(0.0, marked=False) - election.lease
    gated = one_shot_interval is None and not fenced
    outlive = (("outlive its gate", max(0.0, _up(gates_end))),) if gated else ()
    deadline = contact_limit(election.lease, budget(HookEvent.DEMOTE), budget(HookEvent.FENCE))
    bounds = [
        ("service fails", (*step_down, turn, *take_over),
         "from the failed check or broken probe to the new leader, promoted and published"),
        ("planned stop", (*step_down[1:], turn, *take_over),
         "from a stop that gives up to the new leader"),
        ("host lost", (("backend frees the lock", session_expiry),
         ("wait out the lease", election.lease), *outlive, turn, *take_over),
         "from the loss to the new leader; nobody else acts before"),
        ("switchover", (turn, *hooks, ("accept", request), *step_down, turn, *take_over),
         "from the request to the new leader; the service is without one only from the step-down"),
        ("cut-off leader has stopped acting", (cut_off,),
         "demotion, or else fence, is finished by then"),
    ]  # fmt: skip
    if verify := budget(HookEvent.VERIFY):
        others = head_start(election, gated=one_shot_interval is None)
        bounds.insert(1, (
            "service restarted unseen", (turn, ("take the lock back", TAKE * request),
             ("verify hooks", verify), *step_down[1:], ("the others first", others), turn,
             *take_over),
            "from when leadertag takes its leadership up again to the new leader",
        ))  # fmt: skip
    if one_shot_interval is None:
        bounds += [
            ("leadertag killed or hung", (cut_off, release, turn, *take_over),
             "the guardian has given up in its place, and another one leads"),
            ("dead leadertag stops being resolved", (("gate's life", gate_life),),
             "even if the service still runs"),
            ("time for a restart", (("guardian's deadline", deadline),
             ("last confirmation before", -election.lease / CONFIRMS_PER_LEASE)),
             "a leadertag that is back within it changes no role"),
        ]  # fmt: skip
    return [_bound(name, parts, meaning) for name, parts, meaning in bounds]


def _ranking(
    budgets: Mapping[HookEvent, float], request: float, *, one_shot: bool
) -> tuple[tuple[str, float], ...]:
    """Return the parts of hearing the other candidates, and of giving way to one of them."""
    if one_shot or not budgets.get(HookEvent.RANK):
        return ()
    steps = (RELEASE + LOOK + TAKE + LOOK) * request
    return (
        ("hear the others' ranks", RANK_WINDOW + LOOK * request),
        ("give way to a better one", steps + budgets.get(HookEvent.BEFORE_PROMOTE, 0.0)),
    )


def _bound(name: str, parts: tuple[tuple[str, float], ...], meaning: str) -> Bound:
    present = tuple((part, seconds) for part, seconds in parts if seconds)
    return Bound(name, sum(seconds for _, seconds in present), present, meaning)
