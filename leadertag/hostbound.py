"""A lock of one host, used with a registry of many.

Such a lock (``local``) keeps the instances of its own host from leading at once, and knows
nothing of any other host's. Over a registry that shows several hosts, two hosts would each
elect a leader and strip the other's. So before it is taken, the registry has to show that
the service is on this host alone: with a linearizable list that has the own instance in it,
the later of two hosts always finds the earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Self

from leadertag.errors import BackendUnavailable, ConfigError, Conflict
from leadertag.model import Characteristic, Lease, LockView, Record
from leadertag.plan import Note
from leadertag.providers import BackendContext, LockProvider, RegistryProvider, Watch


def is_host_bound(lock: LockProvider, registry: RegistryProvider) -> bool:
    """Whether the registry shows hosts that the lock knows nothing of."""
    wide = Characteristic.CROSS_HOST
    return wide in registry.characteristics and wide not in lock.characteristics


class HostBoundLock(LockProvider):
    """The same lock, but refused while the service has instances on other hosts."""

    def __init__(
        self, lock: LockProvider, registry: RegistryProvider, name: str, place: str
    ) -> None:
        """``name`` and ``place`` are the backends of lock and registry, for messages."""
        self._lock = lock
        self._registry = registry
        self._name, self._place = name, place

    @classmethod
    def create(cls, context: BackendContext) -> Self:
        """Not for this one: it is made of two providers."""
        raise ConfigError(f"{context.settings.where}: {cls.__name__} is no backend's lock")

    def acquire(self, seen: LockView, record: Record) -> Lease | LockView:
        """Try once, if the service is on this host alone.

        Raises Conflict when it is not, BackendUnavailable when the list is in doubt.
        """
        service = seen.key.partition("/")[0]
        members = self._registry.members(service)
        others = sorted(m.member for m in members if m.node != record.node)
        if others:
            raise Conflict(
                f"the lock in {self._name!r} is this host's alone, but {self._place!r} shows "
                f"{', '.join(others)} of service {service!r} as well: two hosts would each have "
                "a leader; keep the lock in a backend that all of them share"
            )
        if record.member not in {m.member for m in members}:
            raise BackendUnavailable(
                f"the members of {service!r} in {self._place!r} lack the own instance "
                f"{record.member}: whether other hosts have any is in doubt"
            )
        return self._lock.acquire(seen, record)

    # -- the rest is the lock's own ------------------------------------------------------

    def close(self) -> None:
        """Give back connections."""
        self._lock.close()

    def open(self, owner: str, *, ttl: float, session: str = "") -> str:
        """Start the session."""
        return self._lock.open(owner, ttl=ttl, session=session)

    def keep_alive(self) -> None:
        """Keep the session alive."""
        self._lock.keep_alive()

    def session_expiry(self, ttl: float) -> float:
        """Return the seconds within which a vanished process's locks are freed."""
        return self._lock.session_expiry(ttl)

    def end(self) -> None:
        """End the session."""
        self._lock.end()

    def confirm(self, leases: Sequence[Lease]) -> frozenset[str]:
        """Confirm leases."""
        return self._lock.confirm(leases)

    def update(self, lease: Lease, record: Record) -> Lease:
        """Replace the record."""
        return self._lock.update(lease, record)

    def release(self, lease: Lease, record: Record) -> None:
        """Free the lock with a last record."""
        self._lock.release(lease, record)

    def discard(self, view: LockView) -> None:
        """Free a lock without a mark."""
        self._lock.discard(view)

    def adopt(self, view: LockView, record: Record) -> Lease:
        """Take the own lock up again."""
        return self._lock.adopt(view, record)

    def read(self, key: str) -> LockView:
        """Read one lock."""
        return self._lock.read(key)

    def watch(self, keys: Sequence[str]) -> Watch:
        """Watch locks."""
        return self._lock.watch(keys)

    def read_note(self, key: str, name: str) -> Note:
        """Read a note beside a lock."""
        return self._lock.read_note(key, name)

    def write_note(self, key: str, name: str, note: Note) -> Note:
        """Write a note beside a lock."""
        return self._lock.write_note(key, name, note)

    def guard(self, compat: str, query: str, service: str) -> AbstractContextManager[bool]:
        """Return the predecessor's lock, if this backend has one."""
        return self._lock.guard(compat, query, service)
