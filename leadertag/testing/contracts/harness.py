"""What a backend's author provides so that the contracts can be run against the backend.

Nothing here knows a backend. A harness makes *members* (the providers of one process of
its own), and does from outside what no provider may do: register an instance, make its
service sick, let a session expire.
"""

from __future__ import annotations

import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from leadertag.model import Check, Health, Instance, Phase, Record
from leadertag.providers import (
    BackendContext,
    LockProvider,
    Provider,
    QueryProvider,
    RegistryProvider,
    Watch,
)

T = TypeVar("T")
P = TypeVar("P", bound=Provider)


class Member:
    """One process of one member: its providers, made from one :class:`BackendContext`.

    A backend that offers one kind only leaves the others out and runs that contract only.
    """

    def __init__(
        self,
        name: str,
        *,
        lock: LockProvider | None = None,
        registry: RegistryProvider | None = None,
        query: QueryProvider | None = None,
    ) -> None:
        self.name = name
        self._lock = lock
        self._registry = registry
        self._query = query

    @property
    def lock(self) -> LockProvider:
        """The lock provider."""
        return _offered(self._lock, "lock")

    @property
    def registry(self) -> RegistryProvider:
        """The registry provider."""
        return _offered(self._registry, "registry")

    @property
    def query(self) -> QueryProvider:
        """The query provider."""
        return _offered(self._query, "query")

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Those that are there."""
        return tuple(p for p in (self._lock, self._registry, self._query) if p is not None)


def _offered(provider: P | None, kind: str) -> P:
    assert provider is not None, f"this contract needs a {kind} provider from Harness.join"
    return provider


class Harness(ABC):
    """The hooks. All times are seconds."""

    ttl: float = 10.0
    """What sessions are opened with."""
    session_expiry: float = 10.0
    """Within this after the last keep-alive the backend has freed a vanished holder's locks."""
    patience: float = 10.0
    """How long anything may take at most that should happen soon."""
    calm: float = 0.3
    """How long a watch has to stay quiet to prove that nothing changed."""

    @abstractmethod
    def join(self, name: str) -> Member:
        """Return the providers of a new process of member ``name`` (``a``, ``b``, ``c``).

        Each name is on a node of its own; a second call with the same name is a restarted
        process of the same member.
        """

    @abstractmethod
    def context(self, settings: Mapping[str, Any]) -> BackendContext:
        """Return a context as for :meth:`join`, with ``settings`` laid over the usual ones."""

    @abstractmethod
    def unreachable(self) -> BackendContext:
        """Return a context whose settings are well-formed, but whose backend cannot answer."""

    @abstractmethod
    def register(self, member: Member, instance: Instance) -> None:
        """Make ``instance`` known on the member's node, passing, the backend's own way.

        Its id, service, address, port, tags and meta count; node and checks do not. It needs
        a check of the service whose status :meth:`set_health` can set.
        """

    @abstractmethod
    def deregister(self, member: Member, instance_id: str) -> None:
        """Make the registry forget the instance."""

    @abstractmethod
    def set_health(self, member: Member, instance_id: str, health: Health) -> None:
        """Set the status of the service's own check; visible when it returns, or soon after."""

    @abstractmethod
    def expire(self, member: Member, session: str) -> None:
        """End a session as if its process had vanished: without any release."""

    @abstractmethod
    def plant(self, key: str, value: bytes) -> None:
        """Write a value that is not leadertag's into the place of a lock; nobody holds it."""

    @abstractmethod
    def writes(self, member: Member) -> int:
        """Return a number that grows with every write that this member's providers make.

        Counting what they send is as good as counting what the store took down; a renewal
        of the session or the heartbeat need not count.
        """

    def cut(self, member: Member) -> AbstractContextManager[None] | None:
        """Return what keeps this member from the backend while it is entered.

        ``None``, the default, where that cannot be arranged.
        """
        return None

    def unique(self, name: str) -> str:
        """Return ``name`` made unique, for backends that several tests share."""
        return f"{name}-{uuid.uuid4().hex[:8]}"


# -- what the contracts share ----------------------------------------------------------


def make_record(member: Member, phase: Phase = Phase.ELECTED, **fields: Any) -> Record:
    """Return a record of that member, without a term: the backend has to give it."""
    plain = Record(
        member=f"{member.name}/redis",
        instance="redis",
        node=member.name,
        address="127.0.0.1",
        port=6379,
        phase=phase,
        lease=3.0,
        since="2026-01-31T10:00:00Z",
        reason="größter Rang; \"quoted\" and 'so on'",
    )
    return replace(plain, **fields)


def make_instance(service: str, instance_id: str, **fields: Any) -> Instance:
    """Return an instance with everything that a tag change must leave alone."""
    plain = Instance(
        id=instance_id,
        node="",
        service=service,
        address="127.0.0.1",
        port=6379,
        tags=("sensu", "blue"),
        meta={"version": "7.0.15", "zone": "b"},
    )
    return replace(plain, **fields)


def foreign_checks(instance: Instance) -> tuple[Check, ...]:
    """Return the checks that are not leadertag's, in an order that can be compared."""
    return tuple(sorted((c for c in instance.checks if not c.own), key=lambda check: check.id))


def until(look: Callable[[], T], patience: float, what: str) -> T:
    """Look again and again until it is true, and return it; AssertionError after patience."""
    deadline = time.monotonic() + patience
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.01)
    return seen


def snapshot_where(
    watch: Watch, wanted: Callable[[Mapping[str, Any]], bool], patience: float, what: str
) -> Mapping[str, Any]:
    """Poll until a snapshot is as wanted; AssertionError when the watch never reports one."""
    deadline = time.monotonic() + patience
    while True:
        left = deadline - time.monotonic()
        assert left > 0, f"no watch reported within {patience:g} s: {what}"
        snapshot = watch.poll(left)
        if snapshot is not None and wanted(snapshot):
            return snapshot


def settle(watch: Watch, calm: float, patience: float) -> None:
    """Poll until the watch is quiet for ``calm``; AssertionError when it never is."""
    deadline = time.monotonic() + patience
    while watch.poll(calm) is not None:
        assert time.monotonic() < deadline, "the watch reports snapshots although nothing changes"


@contextmanager
def beating(registry: RegistryProvider) -> Iterator[None]:
    """Feed the gates of this process, as the daemon does, while the block runs."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def beat() -> None:
        try:
            while not stop.wait(registry.gate_life / 5):
                registry.heartbeat()
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            failures.append(error)

    registry.heartbeat()
    thread = threading.Thread(target=beat, name="contract-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def one_line(error: BaseException) -> None:
    """Hold an error's message to the house rule: something, and on one line."""
    text = str(error)
    assert text.strip(), f"{type(error).__name__} without a message"
    assert "\n" not in text, f"more than one line: {text!r}"


def polled_until_closed(watch: Watch, patience: float) -> None:
    """Close a watch while another thread polls it, and see that poll return."""
    started = threading.Event()
    outcome: list[object] = []

    def poll() -> None:
        watch.poll(0)
        started.set()
        try:
            while not (closed.is_set() and outcome):
                outcome.append(watch.poll(3600.0))
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            outcome.append(error)

    closed = threading.Event()
    thread = threading.Thread(target=poll, name="contract-poll", daemon=True)
    thread.start()
    assert started.wait(patience), "the first poll never returned"
    time.sleep(0.05)  # so that the poll most likely blocks; the test holds either way
    closed.set()
    watch.close()
    thread.join(patience)
    assert not thread.is_alive(), "close() did not end a blocked poll"
    failed = [error for error in outcome if isinstance(error, BaseException)]
    assert not failed, f"a closed watch has to return, but it raised {failed[0]!r}"
