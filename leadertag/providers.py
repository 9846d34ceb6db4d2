"""The three contracts that a backend fulfils: lock, registry, query.

A provider has verbs only: no retry policy, no role logic, no tags chosen by
it, no threads. Each verb makes one attempt within the time limit given by the
backend's settings and then raises out of the tree in :mod:`leadertag.errors`.
All verbs may be called from any thread.

Providers are found by name under the entry-point groups ``leadertag.lock``,
``leadertag.registry`` and ``leadertag.query`` and made by :meth:`Provider.create`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from leadertag.errors import ConfigError
from leadertag.model import (
    Characteristic,
    Gate,
    Health,
    Instance,
    Lease,
    LockView,
    QueryDefinition,
    Record,
    TagChange,
)
from leadertag.plan import Note

if TYPE_CHECKING:
    from leadertag.config.table import Table

T = TypeVar("T")


@dataclass
class BackendContext:
    """What a provider is made of: its settings and what its siblings share.

    The lock, registry and query provider of one backend are three objects; through
    :meth:`shared` they use one client, one session and one pool of connections.
    """

    settings: Table
    environ: Mapping[str, str]
    own_checks: tuple[str, ...] = ()
    """Ids of checks that are leadertag's own (``check --check-id``)."""
    owner: str = ""
    """A name of this process that its successor after a restart bears too, and no other."""
    _shared: dict[str, Any] = field(default_factory=dict)

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """Return the one object of that name, made at the first call."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]  # type: ignore[no-any-return]


class Watch(ABC):
    """A stream of snapshots. One thread polls it; any thread may close it."""

    @abstractmethod
    def poll(self, timeout: float) -> Mapping[str, Any] | None:
        """Block until something changed, at most ``timeout`` seconds.

        Return the whole snapshot (the first call returns one at once), or ``None``
        when nothing changed. Raise :class:`BackendError` when it cannot be known;
        the next call then starts over with a whole snapshot.
        """

    @abstractmethod
    def close(self) -> None:
        """End the watch; a poll that is blocked returns soon."""


class Provider(ABC):
    """What the three kinds have in common."""

    contract: ClassVar[int] = 1
    """The version of these contracts that the class was written for."""
    characteristics: ClassVar[frozenset[Characteristic]] = frozenset()

    @classmethod
    @abstractmethod
    def create(cls, context: BackendContext) -> Self:
        """Make a provider from its settings; raise ConfigError for a wrong one. No I/O."""

    def close(self) -> None:  # noqa: B027 - nothing to give back is a valid default
        """Give back connections. Ends nothing that the backend holds for the process."""


class LockProvider(Provider):
    """Mutual exclusion with terms.

    Whoever implements it guarantees: terms strictly increase with every new holder;
    ``update``, ``release``, ``discard`` and ``adopt`` compare the record's index in the
    same transaction, so that a late message of an older term changes nothing.
    """

    @abstractmethod
    def open(self, owner: str, *, ttl: float, session: str = "") -> str:
        """Start the process's session, or take ``session`` up again if it still lives.

        All locks of the process hang on it. ``ttl`` (seconds) is the last resort by
        which the backend frees them when nobody keeps the session alive; a backend may
        round it up. Returns the session's name, to be remembered over a restart.
        """

    @abstractmethod
    def keep_alive(self) -> None:
        """Keep the session from expiring. Proves nothing about any lock.

        Raises LeaseLost when the session is gone; the next :meth:`open` makes a new one.
        """

    def session_expiry(self, ttl: float) -> float:
        """Return the seconds within which the locks of a vanished process are freed.

        ``ttl`` is what :meth:`open` is given. A backend that rounds it up, or waits longer
        than it, says so here: ``explain`` reckons with it. No I/O.
        """
        return ttl

    @abstractmethod
    def end(self) -> None:
        """End the session for good, when no lock hangs on it any more."""

    @abstractmethod
    def acquire(self, seen: LockView, record: Record) -> Lease | LockView:
        """Try once to take the lock that was ``seen`` free; never block.

        Returns the lease, its record already carrying the term; or the lock as it
        stands, when somebody else was faster or holds it. Raises Conflict when a value
        that is not ours stands in the key, even when it is free.
        """

    @abstractmethod
    def confirm(self, leases: Sequence[Lease]) -> frozenset[str]:
        """Return the keys, of those leases, that this session still holds with that term.

        Linearizable: true at some moment after the call began. Must not write.
        """

    @abstractmethod
    def update(self, lease: Lease, record: Record) -> Lease:
        """Replace the record; raises LeaseLost when the lease does not hold any more."""

    @abstractmethod
    def release(self, lease: Lease, record: Record) -> None:
        """Write the last record and free the lock, in one transaction; or LeaseLost."""

    @abstractmethod
    def discard(self, view: LockView) -> None:
        """Free a lock that my session holds without my term, unless it changed since.

        What remains must read as an unexplained loss: without the mark of a release.
        """

    @abstractmethod
    def adopt(self, view: LockView, record: Record) -> Lease:
        """Take up a lock that this same session holds: compare its index, write ``record``.

        The term stays. Raises LeaseLost when it is held by another session or changed.
        """

    @abstractmethod
    def read(self, key: str) -> LockView:
        """Read one lock, with its plan, linearizably."""

    @abstractmethod
    def watch(self, keys: Sequence[str]) -> Watch:
        """Watch many locks, with their plans, at once.

        Snapshots map each key to its :class:`LockView`.
        """

    @abstractmethod
    def read_note(self, key: str, name: str) -> Note:
        """Read a note beside a lock, linearizably. ``name`` is ``plan``, ``history`` or
        ``ranks``.

        Notes outlive holders and sessions and exist whether the lock does or not.
        """

    @abstractmethod
    def write_note(self, key: str, name: str, note: Note) -> Note:
        """Write ``note.value`` if the note is still the one with ``note.index`` (0: none).

        Returns the note as it stands now. Raises Changed when it is another by now. An
        empty value removes it. Nobody needs to hold the lock for that.
        """

    def guard(self, compat: str, query: str, service: str) -> AbstractContextManager[bool]:
        """Return the predecessor's own election lock, for a rolling change.

        Entering takes it (``True``) or finds it taken (``False``); leaving frees it.
        Only where a predecessor can exist: others refuse the setting.
        """
        raise ConfigError(f"compat = {compat!r}: the lock's backend has no such predecessor")


class RegistryProvider(Provider):
    """Where instances, their health and their tags live."""

    @property
    @abstractmethod
    def node(self) -> str:
        """The name under which the registry knows this node."""

    @abstractmethod
    def local(self, service: str, instance_id: str = "") -> Instance:
        """Return this node's instance; raise NotRegistered, or Ambiguous with the ids."""

    @abstractmethod
    def members(self, service: str) -> tuple[Instance, ...]:
        """Return all instances everywhere with health and tags, passing or not.

        The caller takes a list without its own instance for doubt, never for truth.
        """

    @abstractmethod
    def tag(
        self, instance_id: str, change: TagChange, *, gate: Gate | None = None, timeout: float
    ) -> None:
        """Read, modify and write back the whole registration of a local instance.

        Nothing but the role tags changes, and nothing is written when nothing would
        change. With ``gate`` the gate is registered with the tags in the same request,
        closed. Returns when others can read it (at most ``timeout`` seconds, else
        BackendUnavailable).
        """

    @abstractmethod
    def open_gate(self, instance_id: str, gate: Gate) -> None:
        """Let the gate follow the heartbeat of this process."""

    @abstractmethod
    def close_gate(self, instance_id: str, gate: Gate) -> None:
        """Close the gate of a local instance; it stays registered."""

    @abstractmethod
    def remove_gates(self, instance_id: str, *, keep: Gate | None = None) -> None:
        """Remove every gate of a local instance but ``keep``."""

    @abstractmethod
    def shut_out(self, other: Instance, lease: Lease) -> None:
        """Make another member's instance unresolvable, under the lease, without touching
        its registration: set its gate (or its own leadertag check) critical."""

    def shut_out_lost(self, other: Instance, proof: LockView | Lease) -> None:
        """Shut out a leader that was lost with its node, in the term in which it was seen.

        The proof that it has no lease: the lock is still free as it was seen (Changed when
        it is not), or held by ourselves (LeaseLost). Only gates of terms up to
        ``other.gate``: who only waits may give the lock back, and ``other`` lead again. For
        registries that would show a gate open again when its node is back; where it ends
        with its process there is nothing to do.
        """

    @abstractmethod
    def heartbeat(self) -> None:
        """Feed what the open gates of this process hang on: one write, however many."""

    @property
    @abstractmethod
    def gate_life(self) -> float:
        """Seconds after the last heartbeat within which an open gate is closed for sure."""

    @abstractmethod
    def watch(self, instances: Sequence[tuple[str, str]]) -> Sequence[Watch]:
        """Watch own instances, given as (service, id): a constant number of watches.

        An empty id stands for all instances of that service on this node. Each snapshot
        maps instance ids to :class:`Instance`; an id that is missing from it is not
        registered (any more).
        """

    @abstractmethod
    def watch_members(self, service: str) -> Watch:
        """Watch a whole service; snapshots map members' names to :class:`Instance`."""


class FencedRegistry(RegistryProvider):
    """A registry that lives in the same store as the lock: ``FENCED_TAGS``."""

    @abstractmethod
    def publish(
        self, lease: Lease, record: Record, instance_id: str, change: TagChange, gate: Gate | None
    ) -> Lease:
        """In one transaction that fails (LeaseLost) unless the lease still holds the lock:

        write the record, make the change on the instance, register its gate (closed), and
        undo the change on every other instance of its service.
        """


class SelfRegistered(RegistryProvider):
    """A registry without health checking of its own: leadertag registers and reports."""

    @abstractmethod
    def register(self, instance: Instance) -> None:
        """Make the instance known; its tags and gate, if it was known, stay."""

    @abstractmethod
    def deregister(self, instance_id: str) -> None:
        """Forget the instance."""

    @abstractmethod
    def report(self, instance_id: str, health: Health, output: str = "") -> None:
        """Tell the health that leadertag found; it goes stale unless it is told again."""


class QueryProvider(Provider):
    """The stable name that always answers with the leader."""

    @abstractmethod
    def ensure(self, definition: QueryDefinition) -> bool:
        """Create the definition, or update it in place where it drifted; tell if it did.

        Raises Conflict when the name belongs to a definition that is not leadertag's to
        change (another service).
        """

    @abstractmethod
    def resolve(self, name: str) -> tuple[Instance, ...]:
        """Return what a client would get; raises NotRegistered for an unknown name."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the definition; an unknown name is no error."""

    @abstractmethod
    def list(self) -> tuple[QueryDefinition, ...]:
        """Return the definitions that leadertag could have made."""
