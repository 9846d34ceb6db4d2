"""What a combination of backends promises, and by what: the words of ``explain``.

Lock, registry and query may be of one backend or of several. Which of the promises (I1 to
I5, see ``docs/concepts.md``) then hold, who keeps them, and within what time follows from
what each provider declares, never from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, repeat

from leadertag.backends import Providers
from leadertag.config.settings import ElectionSettings
from leadertag.config.toml import seconds as written
from leadertag.election.policy import CONFIRMS_PER_LEASE, RATE, contact_limit
from leadertag.hostbound import is_host_bound
from leadertag.model import Characteristic
from leadertag.scheduler.sources import PAUSES

BEATS_PER_LIFE = 8
"""Heartbeats that the daemon sends in one life of a gate."""


@dataclass(frozen=True, slots=True)
class Combination:
    """The three backends of a configuration, with what counts for its promises.

    Times are seconds: ``gate_life`` is the registry's, ``session_expiry`` the lock's.
    """

    lock: str
    registry: str
    query: str
    fenced: bool
    """One transaction writes record and tags."""
    host_bound: bool
    """The registry shows hosts that the lock knows nothing of."""
    apart: bool
    """The lock binds several hosts, but each host's registry knows its own instances alone."""
    checks: bool
    """The registry checks health itself."""
    dns: bool
    gate_life: float
    session_expiry: float

    @classmethod
    def of(cls, providers: Providers, session_expiry: float) -> Combination:
        """Return the combination that some providers make. No I/O."""
        lock, registry = providers.lock, providers.registry
        wide = Characteristic.CROSS_HOST
        host_bound = is_host_bound(lock, registry)
        one = providers.lock_backend == providers.registry_backend
        return cls(
            providers.lock_backend, providers.registry_backend, providers.query_backend,
            fenced=one and Characteristic.FENCED_TAGS in registry.characteristics,
            host_bound=host_bound,
            apart=wide in lock.characteristics and wide not in registry.characteristics,
            checks=Characteristic.HEALTH in registry.characteristics,
            dns=Characteristic.DNS in providers.query.characteristics,
            gate_life=registry.gate_life, session_expiry=session_expiry,
        )  # fmt: skip

    @property
    def mixed(self) -> bool:
        """Whether the lock is in another backend than the registry."""
        return self.lock != self.registry


@dataclass(frozen=True, slots=True)
class Times:
    """What an election's own settings add, in seconds."""

    lease: float
    demote: float
    fence: float
    one_shot: bool
    """Times of ``check``, run again and again: no process feeds a gate."""

    @property
    def acts_until(self) -> float:
        """When a holder without contact has stopped acting."""
        return RATE * self.lease

    @property
    def lock_outage(self) -> float:
        """How long the lock's backend may be lost without a role changing.

        The last confirmation may be one turn old by then, and the next one a turn away.
        """
        turns = 2 * self.lease / CONFIRMS_PER_LEASE
        return max(0.0, contact_limit(self.lease, self.demote, self.fence) - turns)

    def registry_outage(self, gate_life: float) -> float:
        """How long the registry may be lost without a role changing.

        A watch that fails is tried again after longer and longer pauses, a heartbeat every
        eighth of a gate's life: one of each has to get through before a lease has passed.
        """
        beats, tries = 2 * gate_life / BEATS_PER_LIFE, 0.0
        pauses = chain(PAUSES, repeat(PAUSES[-1]))
        while (later := tries + next(pauses)) < self.lease:
            tries = later
        return max(0.0, min(tries, self.lease - beats))

    @property
    def blind_until(self) -> float:
        """When a leader without its registry has stopped acting."""
        return self.lease + self.demote + self.fence


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise in words. ``holds`` is false where it does not, or not always: ``text`` says."""

    about: str
    holds: bool
    text: str


def promises(one: Combination, election: ElectionSettings, times: Times) -> list[Promise]:
    """Return what one election can promise on that combination."""
    found = [
        *_hosts(one),
        _one_acts(one, election, times),
        _one_resolves(one, times),
        _dead_leader(one, times),
        _lock_lost(one, election, times),
    ]
    if one.mixed:
        found.append(_registry_lost(one, election, times))
    found += [_health(one), _resolution(one, election)]
    if one.mixed:
        found.append(
            Promise(
                "planned change",
                True,
                f"pause, switchover and history stand beside the lock in {one.lock}; a "
                f"switchover is done when the new leader is published in {one.registry}",
            )
        )
    return found


def _hosts(one: Combination) -> list[Promise]:
    """Tell of a lock or a registry that ends at its host; nothing where both reach all hosts."""
    about = "hosts"
    if one.host_bound:
        return [Promise(
            about, False,
            f"one host only: the lock in {one.lock} is this host's alone, so nobody takes it, and "
            f"nobody leads, while {one.registry} shows an instance of the service on another "
            "host; for several hosts choose a lock that they share",
        )]  # fmt: skip
    if one.apart:
        return [Promise(
            about, False,
            f"the lock in {one.lock} binds all hosts, but each host's {one.registry} knows its "
            "own instances alone: nobody can shut out another host's old leader, whose gate "
            "closes by itself, and only the leader's own host can resolve it",
        )]  # fmt: skip
    return []


def _one_acts(one: Combination, election: ElectionSettings, times: Times) -> Promise:
    about = "one leader acts (I1)"
    if times.one_shot:
        return Promise(
            about, False,
            "not for the service itself: nothing acts between two runs of check; see the next one",
        )  # fmt: skip
    by = (
        f"by the lock in {one.lock}: a leader that cannot confirm it has stopped acting after "
        f"{written(times.acts_until)}; a successor that owes a wait waits {written(times.lease)}"
    )
    if election.on_backend_loss == "hold":
        return Promise(about, False, by + '; suspended without contact (on_backend_loss = "hold")')
    return Promise(about, True, by)


def _one_resolves(one: Combination, times: Times) -> Promise:
    if one.fenced:
        text = (
            f"fenced: one transaction of {one.lock} proves the lock, writes the record, sets the "
            "leader's tag and takes it off every other instance"
        )
    else:
        how = "" if times.one_shot else ", behind a gate that opens once the lock was confirmed"
        text = (
            f"read back, not fenced: whoever else carries the tag is shut out in {one.registry}, "
            f"then the record is written in {one.lock} and the tag in {one.registry}, which has "
            f"to show it{how}"
        )
    if one.mixed and not times.one_shot:
        text += (
            "; no transaction spans the two, so what bounds the old leader is its gate, closed "
            f"{written(one.gate_life)} after its last heartbeat at the latest"
        )
    if times.one_shot:
        text += "; a leader whose check is not run any more keeps its tag"
    return Promise("one leader resolves (I2)", True, text)


def _dead_leader(one: Combination, times: Times) -> Promise:
    about = "a dead leader's gate"
    if times.one_shot:
        return Promise(about, False, "there is none: no process is there to feed it")
    return Promise(
        about, True,
        f"its guardian closes it in {one.registry} and releases the lock in {one.lock}; with "
        f"daemon and guardian gone, {one.registry} closes it {written(one.gate_life)} after the "
        f"last heartbeat and {one.lock} frees the lock within {written(one.session_expiry)}",
    )  # fmt: skip


def _lock_lost(one: Combination, election: ElectionSettings, times: Times) -> Promise:
    """Tell what happens without the lock's backend, which may be the registry's as well."""
    about = f"{one.lock} is lost"
    if times.one_shot:
        return Promise(about, False, "nobody is told before the next run of check")
    head = f"less than {written(round(times.lock_outage, 3))} of it changes no role; "
    if election.on_backend_loss == "hold":
        kept = "keeps its role behind a closed gate, until another one holds the lock"
        return Promise(about, False, f"{head}then the leader {kept}")
    off = f"its gate and tag are taken off in {one.registry}, " if one.mixed else ""
    return Promise(
        about, True,
        f"{head}then the leader demotes, done {written(times.acts_until)} after the last "
        f"confirmation, {off}and nobody leads before {one.lock} answers again",
    )  # fmt: skip


def _registry_lost(one: Combination, election: ElectionSettings, times: Times) -> Promise:
    about = f"{one.registry} is lost"
    if times.one_shot:
        return Promise(about, False, "nobody is told before the next run of check")
    head = (
        f"less than {written(round(times.registry_outage(one.gate_life), 3))} of it changes no "
        f"role; then the leader, which holds the lock in {one.lock} all the while, "
    )
    if election.on_backend_loss == "hold":
        return Promise(about, False, f"{head}keeps its role behind a closed gate")
    return Promise(
        about, True,
        f"{head}demotes, done {written(times.blind_until)} after the last heartbeat that "
        f"{one.registry} took or the first watch that failed, and releases; a member that reaches "
        "it takes over at once, and while none does, nobody leads; the old leader's tag may stand "
        f"in {one.registry} until that answers, behind its gate",
    )  # fmt: skip


def _health(one: Combination) -> Promise:
    if one.checks:
        return Promise("health", True, f"{one.registry} checks the instances itself")
    return Promise("health", True, f"leadertag checks its own instance and tells {one.registry}")


def _resolution(one: Combination, election: ElectionSettings) -> Promise:
    about = "the query"
    if not election.query:
        return Promise(about, False, "none is configured")
    how = "over DNS as well as" if one.dns else "not over DNS, only"
    where = " on the leader's host alone" if one.apart else ""
    text = f"{election.query!r} is answered by {one.query}{where}, {how} by `leadertag query`"
    return Promise(about, not one.apart, text)
