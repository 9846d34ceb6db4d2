"""The words of leadertag as values: frozen, comparable, without behaviour of their own.

Times are seconds. ``since`` alone is wall-clock time, for people to read; no
decision is ever taken on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from leadertag.decoding import typed_fields
from leadertag.plan import NO_PLAN, Plan


class Role(StrEnum):
    """What an instance is in its election. ``UNKNOWN`` is a real answer, not an error."""

    LEADER = "leader"
    FOLLOWER = "follower"
    UNKNOWN = "unknown"


class Health(StrEnum):
    """Aggregated health, best to worst; ``UNKNOWN`` counts as not passing."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """How far the holder of a lock has come; written into its record."""

    ELECTED = "elected"
    """Holds the lock, does not act yet (waiting out, vetoes, promotion)."""
    LEADING = "leading"
    """Promoted and published."""
    STUCK = "stuck"
    """Neither ``demote`` nor ``fence`` succeeded: nobody may succeed it yet."""
    RELEASED = "released"
    """Stepped down in order: a successor owes no wait."""


class Characteristic(StrEnum):
    """What a provider promises beyond its verbs; the contract suite holds it to each."""

    CROSS_HOST = "cross-host"
    """Members on several hosts see the same state."""
    NATIVE_WATCH = "native-watch"
    """A watch is woken by the backend, it does not poll."""
    SERVER_SIDE_EXPIRY = "server-side-expiry"
    """The lock of a vanished process is freed by the backend itself."""
    FENCED_TAGS = "fenced-tags"
    """Record, leader tag and the stripping of others are one transaction under the lease."""
    HEALTH = "health"
    """The registry checks health itself."""
    DNS = "dns"
    """A query's answer can be had over DNS."""


@dataclass(frozen=True, slots=True)
class Check:
    """One health check of an instance, as the registry reports it.

    ``own`` marks leadertag's own checks (the gate; the one-shot ``check``): they
    count for what clients resolve but never for whether the service is healthy.
    """

    id: str
    status: Health
    own: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of a service as the registry knows it.

    ``gate`` is the term of the gate it carries, or ``None``. ``meta`` is carried
    along for queries and display; leadertag never changes it.
    """

    id: str
    node: str
    service: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    gate: int | None = None
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def member(self) -> str:
        """The name of the member that speaks for it: unique in the election."""
        return f"{self.node}/{self.id}"

    @property
    def health(self) -> Health:
        """What clients resolve by: the worst of all checks; no check at all is passing."""
        return worst(check.status for check in self.checks)

    @property
    def service_health(self) -> Health:
        """Health without leadertag's own checks: what the election goes by."""
        return worst(check.status for check in self.checks if not check.own)

    @property
    def passing(self) -> bool:
        """Whether clients that ask for passing instances get this one."""
        return self.health is Health.PASSING


_ORDER = (Health.PASSING, Health.WARNING, Health.UNKNOWN, Health.CRITICAL)


def worst(healths: Any) -> Health:
    """Return the worst of some healths; of none, ``PASSING``."""
    return max(healths, key=_ORDER.index, default=Health.PASSING)


@dataclass(frozen=True, slots=True)
class Record:
    """What the holder writes into the lock, for followers, operators and successors."""

    member: str
    instance: str
    node: str
    address: str
    port: int
    phase: Phase
    term: int = 0
    """0 until the backend has given it: a record with term 0 is nobody's leadership."""
    lease: float = 0.0
    """How long the holder may act unconfirmed: what a successor has to wait out."""
    incarnation: int = 0
    """Raised by each adoption: tells a restarted process from the one before it."""
    since: str = ""
    """Wall-clock time, ISO 8601 UTC, of the present phase. For reading only."""
    reason: str = ""

    def encode(self) -> bytes:
        """Return the JSON bytes kept in the backend."""
        return json.dumps({"leadertag": 1, **asdict(self)}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes | str | None) -> Record | None:
        """Return the record in ``raw``, or ``None`` for anything that is not one of ours."""
        try:
            data = json.loads(raw or b"null")
            if data["leadertag"] != 1:
                return None
            record = cls(
                phase=Phase(data["phase"]),
                **typed_fields(data, _RECORD_FIELDS),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        # What no leadertag writes was not written by one: nobody waits a year for it.
        sane = 0 <= record.lease <= LONGEST_LEASE and 0 <= record.term < 2**63
        return record if sane else None


LONGEST_LEASE = 86400.0
"""Seconds. The configuration allows no longer one."""
_RECORD_FIELDS: dict[str, type] = {
    "member": str, "instance": str, "node": str, "address": str, "port": int, "term": int,
    "lease": float, "incarnation": int, "since": str, "reason": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock that this process holds: proof for every fenced write.

    ``index`` identifies the record as last written; each update compares it.
    ``session`` is the backend's name for the holder (Consul session, etcd lease).
    """

    key: str
    term: int
    index: int
    session: str
    record: Record


@dataclass(frozen=True, slots=True)
class LockView:
    """A lock as read or watched.

    ``index`` 0 means that the key does not exist. ``holder`` is the session that
    holds it, ``""`` for nobody. ``foreign`` tells that the value is not ours.
    """

    key: str
    index: int = 0
    holder: str = ""
    record: Record | None = None
    foreign: bool = False
    plan: Plan = NO_PLAN
    """What operators ask of the election; stands beside the lock, also when nobody holds it."""

    @property
    def exists(self) -> bool:
        """Whether the key exists at all."""
        return self.index > 0

    @property
    def free(self) -> bool:
        """Whether nobody holds it."""
        return not self.holder

    @property
    def marked(self) -> bool:
        """Whether the last holder stepped down in order, so that no wait is owed."""
        return self.free and self.record is not None and self.record.phase is Phase.RELEASED

    @property
    def leader(self) -> Record | None:
        """The record of a holder that has published itself, else ``None``."""
        if self.free or self.record is None or self.record.phase is not Phase.LEADING:
            return None
        return self.record


@dataclass(frozen=True, slots=True)
class TagChange:
    """The role tags to add and to remove; every other tag stays, in its place.

    ``apply`` is idempotent and keeps the order of what was there.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def apply(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``tags`` with the change made."""
        kept = tuple(tag for tag in tags if tag not in self.remove or tag in self.add)
        return kept + tuple(tag for tag in self.add if tag not in kept)


@dataclass(frozen=True, slots=True)
class Gate:
    """The leader's gate: the health check that only the living leadertag process keeps open."""

    election: str
    term: int

    @property
    def id(self) -> str:
        """The check's id, with the term, so that no term ever reuses another's."""
        return f"leadertag:{self.election}:{self.term}"

    @staticmethod
    def term_of(check_id: str) -> int | None:
        """Return the term in a gate's check id, or ``None`` when it is no gate's."""
        head, _, tail = check_id.rpartition(":")
        number = tail.isascii() and tail.isdecimal() and len(tail) < 20
        return int(tail) if head.startswith("leadertag:") and number else None


@dataclass(frozen=True, slots=True)
class QueryDefinition:
    """The named question "who leads?", as it should stand in the backend."""

    name: str
    service: str
    tags: tuple[str, ...]
    only_passing: bool = True
    near: str = ""
    failover_nearest: int = 0
    failover_datacenters: tuple[str, ...] = ()
    dns_ttl: str = ""
    service_meta: Mapping[str, str] = field(default_factory=dict)
    node_meta: Mapping[str, str] = field(default_factory=dict)
