"""What flows in: the watches of one process, whatever the number of its elections."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leadertag.backends import Providers
from leadertag.checks import checker
from leadertag.config.settings import ElectionSettings
from leadertag.model import Health, Instance, LockView
from leadertag.providers import SelfRegistered
from leadertag.scheduler.sources import Checker, Source, Watcher

log = logging.getLogger(__name__)


class Intake:
    """The watches over a set of elections. Snapshots are handed over as they come."""

    def __init__(
        self, providers: Providers, elections: Sequence[ElectionSettings], *,
        locks: Callable[[Mapping[str, LockView]], None],
        instances: Callable[[Mapping[str, Instance]], None],
        members: Callable[[str, tuple[Instance, ...]], None],
        watched: Callable[[bool], None],
    ) -> None:  # fmt: skip
        """``watched`` is told whether the own instances can be seen: all watches of them work."""
        self._providers = providers
        self._elections = elections
        self._watched = watched
        self._failing: set[int] = set()
        self._mutex = threading.Lock()
        self._sources: list[Source] = [self._lock_watch(locks)]
        self._sources += self._registry_watches(instances)
        self._sources += [self._members_watch(e, members) for e in elections if e.compat]
        self._sources += self._checkers()

    def start(self) -> None:
        """Start all of them."""
        for source in self._sources:
            source.start()

    def stop(self) -> None:
        """Stop all of them; returns at once."""
        for source in self._sources:
            source.stop()

    def _lock_watch(self, tell: Callable[[Mapping[str, LockView]], None]) -> Source:
        keys = sorted({election.key for election in self._elections})
        return Watcher("lock watch", lambda: self._providers.lock.watch(keys), tell)

    def _registry_watches(self, tell: Callable[[Mapping[str, Instance]], None]) -> list[Source]:
        wanted = [(election.service, own_id(election)) for election in self._elections]
        watches = self._providers.registry.watch(wanted)

        def source(n: int) -> Source:
            return Watcher(
                f"registry watch {n}", lambda: watches[n], tell, lambda works: self._works(n, works)
            )

        return [source(n) for n in range(len(watches))]

    def _works(self, n: int, works: bool) -> None:
        with self._mutex:
            (self._failing.discard if works else self._failing.add)(n)
            self._watched(not self._failing)

    def _members_watch(
        self, election: ElectionSettings, tell: Callable[[str, tuple[Instance, ...]], None]
    ) -> Source:
        def make() -> Any:
            return self._providers.registry.watch_members(election.service)

        def hand_over(snapshot: Mapping[str, Instance]) -> None:
            tell(election.name, tuple(snapshot.values()))

        return Watcher(f"members watch of {election.service}", make, hand_over)

    def _checkers(self) -> list[Source]:
        """Register the instances that the registry does not know itself; check their health."""
        registry = self._providers.registry
        if not isinstance(registry, SelfRegistered):
            return []
        return [_checker(registry, election) for election in self._elections]


def _checker(registry: SelfRegistered, election: ElectionSettings) -> Source:
    own = election.instance
    assert own is not None, "the configuration is checked for that"
    instance = Instance(
        own.id, registry.node, election.service, own.address, own.port, own.tags, meta=own.meta
    )

    def tell(health: Health, output: str) -> None:
        registry.register(instance)
        registry.report(own.id, health, output)

    interval = own.check.interval if own.check else 1.0
    return Checker(f"check of {election.name}", checker(own.check), interval, tell)


def own_id(election: ElectionSettings) -> str:
    """Return the id of the election's own instance; ``""``: the only one there is."""
    return election.instance.id if election.instance else election.instance_id


def pick(snapshot: Mapping[str, Instance], election: ElectionSettings) -> Instance | None:
    """Return the election's own instance out of those of this node."""
    found = _own(snapshot, election)
    return found[0] if len(found) == 1 else None


def why_none(snapshot: Mapping[str, Instance], election: ElectionSettings) -> str:
    """Return why :func:`pick` finds none, for people."""
    found = _own(snapshot, election)
    if found:
        ids = ", ".join(sorted(instance.id for instance in found))
        return (
            f"service {election.service!r} has several instances here ({ids}): "
            "name one with service_id"
        )
    wanted = own_id(election)
    what = f"instance {wanted!r} of service" if wanted else "service"
    return f"{what} {election.service!r} is not registered here"


def _own(snapshot: Mapping[str, Instance], election: ElectionSettings) -> list[Instance]:
    wanted = own_id(election)
    return [
        instance for instance in snapshot.values()
        if instance.service == election.service and wanted in ("", instance.id)
    ]  # fmt: skip
