"""Registrations in ZooKeeper: read as of one moment, and changed by compare and set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from leadertag.errors import NotRegistered
from leadertag.kit.registration import Registration
from leadertag.model import Instance

from leadertag_zookeeper.backend import Backend
from leadertag_zookeeper.client import (
    Operation,
    Stat,
    children,
    create,
    delete,
    look,
    node_of,
    put,
    read,
    stat_of,
    sync,
)

Edit = Callable[[Registration], Registration]


@dataclass(frozen=True, slots=True)
class Shelved:
    """A registration, and where and as what it was read."""

    path: str
    stat: Stat
    registration: Registration


@dataclass(frozen=True, slots=True)
class Found:
    """The instances of a service, of one moment.

    ``stat`` is that of the node above them, ``None`` where there is none; ``shelved`` also
    has those whose process is gone.
    """

    stat: Stat | None
    shelved: tuple[Shelved, ...]
    alive: Collection[str]
    beats: Collection[str]

    def instances(self) -> list[Instance]:
        """Return those that somebody speaks for."""
        return [one.registration.instance(self.beats) for one in self.living()]

    def living(self) -> list[Shelved]:
        """Return them with what they were read from."""
        return [one for one in self.shelved if one.registration.owner in self.alive]


class Shelf:
    """Finds and changes. A registration of which nothing would change is not written."""

    def __init__(self, backend: Backend) -> None:
        """Does no I/O."""
        self._backend = backend
        self._names = backend.names
        self.node = backend.settings.node
        self._services: dict[str, str] = {}

    def note(self, instance_id: str, service: str) -> None:
        """Remember under which service an instance of this node is."""
        self._services[instance_id] = service

    # -- reading -------------------------------------------------------------------------

    def members(self, service: str, *, here: bool = False) -> Found:
        """Return a service's instances, everywhere or on this node.

        The node above is written with each change; the same before and after, it says that
        all that was read in between stood there at once.
        """
        link, names = self._backend.link(), self._names
        above, deadline = names.service(service), self._backend.deadline()
        while True:
            _, first, called, alive, beats = link.ask(
                sync(names.instances), look(above), children(above), children(names.alive),
                children(names.beats),
            )  # fmt: skip
            prefix = names.child(self.node, "") if here else ""
            paths = [f"{above}/{child}" for child in sorted(called or ()) if
                     child.startswith(prefix)]  # fmt: skip
            *values, last = link.ask(*map(read, paths), look(above))
            if stat_of(first) == stat_of(last):
                break
            self._backend.hurry(deadline, above)
        shelved = (_shelved(path, value) for path, value in zip(paths, values, strict=True))
        kept = tuple(one for one in shelved if one is not None)
        return Found(stat_of(first), kept, frozenset(alive or ()), frozenset(beats or ()))

    def find(self, instance_id: str) -> Shelved | None:
        """Return this node's instance of that id, whatever its service."""
        service = self._services.get(instance_id)
        found = self._at(service, instance_id) if service is not None else None
        if found is None:
            # Only for what this process has neither registered nor read before: the guardian.
            found = self._search(instance_id)
        if found is not None:
            self.note(instance_id, found.registration.service)
        return found

    def demand(self, instance_id: str) -> Shelved:
        """Return it, or raise NotRegistered."""
        found = self.find(instance_id)
        if found is None:
            raise NotRegistered(
                f"{self._backend.where}: no instance {instance_id!r} on node {self.node!r}"
            )
        return found

    def at(self, path: str) -> Shelved | None:
        """Return what stands there."""
        return _shelved(path, self._backend.link().ask(sync(path), read(path))[1])

    def _at(self, service: str, instance_id: str) -> Shelved | None:
        return self.at(self._names.instance(service, self.node, instance_id))

    def _search(self, instance_id: str) -> Shelved | None:
        link, root = self._backend.link(), self._names.instances
        services = link.ask(sync(root), children(root))[1] or ()
        child = self._names.child(self.node, instance_id)
        paths = [f"{root}/{service}/{child}" for service in sorted(services)]
        answers = zip(paths, link.ask(*map(read, paths)), strict=True)
        found = [one for path, answer in answers if (one := _shelved(path, answer))]
        return found[0] if found else None

    # -- changing -------------------------------------------------------------------------

    def told(self, service: str) -> list[Operation]:
        """Tell those who watch, and readers; part of each transaction on a registration."""
        return [put(self._names.service(service), b""), put(self._names.instances, b"")]

    def change(
        self,
        instance_id: str,
        edit: Edit,
        *,
        timeout: float = 0.0,
        also: Callable[[], Sequence[Operation]] = tuple,
    ) -> None:
        """Change an instance; again and again while others change it too.

        ``also`` gives what else the transaction has to check. Raises NotRegistered, and
        BackendUnavailable after ``timeout`` seconds.
        """
        deadline = self._backend.deadline(timeout)
        while True:
            found, checks = self.demand(instance_id), also()
            changed = edit(found.registration)
            if changed == found.registration:
                return
            value = put(found.path, changed.encode(), found.stat.version)
            if self._backend.commit([*checks, value, *self.told(changed.service)]):
                return
            self._backend.hurry(deadline, f"instance {instance_id!r}")

    def add(self, registration: Registration, instead: Shelved | None) -> bool:
        """Try once to write a new registration, in place of one that was read; tell."""
        path = self._names.instance(registration.service, registration.node, registration.id)
        above = self._names.service(registration.service)
        if self._backend.link().ask(look(above))[0] is None:
            self._backend.commit(create(above, b""))
        if instead is not None and instead.path == path:
            writing = [put(path, registration.encode(), instead.stat.version)]
        else:
            writing = create(path, registration.encode())
            if instead is not None:  # it has changed its service
                writing.append(delete(instead.path, instead.stat.version))
                writing.append(put(self._names.service(instead.registration.service), b""))
        return bool(self._backend.commit([*writing, *self.told(registration.service)]))

    def remove(self, found: Shelved) -> bool:
        """Try once to remove a registration that was read; tell."""
        removing = delete(found.path, found.stat.version)
        return bool(self._backend.commit([removing, *self.told(found.registration.service)]))


def _shelved(path: str, answer: object) -> Shelved | None:
    node = node_of(answer)
    registration = Registration.decode(node.value) if node else None
    return Shelved(path, node.stat, registration) if node and registration else None
