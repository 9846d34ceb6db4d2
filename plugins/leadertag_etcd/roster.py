"""What this process has registered, kept alive by its reports.

All its instances hang on one lease. Reports keep that lease alive, three times in its life
however many there are, and look then whether every instance still stands; what has not
changed costs no request at all, and no write.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from leadertag.errors import BackendUnavailable, LeaseLost, NotRegistered
from leadertag.kit.registration import Registration
from leadertag.model import Health, Instance
from leadertag_etcd.backend import Backend
from leadertag_etcd.client import delete, modified, put
from leadertag_etcd.leases import KeptLease, clock
from leadertag_etcd.shelf import Shelf, Shelved
from leadertag_etcd.skydns import Shown


@dataclass
class _Told:
    """An instance as this process last described it, and what it last said of its health."""

    instance: Instance
    key: str
    health: Health
    told_at: float


class Roster:
    """Registers, reports, forgets."""

    def __init__(self, backend: Backend, shelf: Shelf) -> None:
        """Does no I/O."""
        self._backend = backend
        self._client = backend.client
        self._shelf = shelf
        self._lease = KeptLease(backend.client, "instances")
        self._mutex = threading.Lock()
        self._keeping = threading.Lock()
        self._told: dict[str, _Told] = {}

    def register(self, instance: Instance) -> None:
        """Make it known on this node; nothing is sent where that is known to be so."""
        instance = replace(instance, node=self._shelf.node, meta=dict(instance.meta))
        told = self._told.get(instance.id)
        if told is not None and told.instance == instance and self._lease.id:
            return
        deadline = time.monotonic() + self._backend.settings.timeout
        while not self._write(instance):
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"{self._backend.where}: instance {instance.id!r} could not be registered: "
                    "it is changed by others all the time"
                )

    def _write(self, instance: Instance) -> bool:
        """Try once to register; ``False`` when something has changed meanwhile."""
        meta = self._backend.settings.node_meta
        found = self._shelf.find(instance.id)
        if found is None:
            old = Registration(
                instance.service, instance.node, instance.id, "", 0, tags=instance.tags
            )
        else:
            old = found.registration
        new = old.described(instance, meta)
        key = self._backend.names.instance(instance.service, instance.node, instance.id)
        lease = self._lease_for(found)
        if found is None or found.entry.key != key:
            compares = [modified(key, 0)]
        else:
            compares = [modified(key, found.entry.modified)]
        operations = [put(key, new.encode(), lease=lease)]
        if found is not None and found.entry.key != key:  # it has changed its service
            compares.append(modified(found.entry.key, found.entry.modified))
            operations.append(delete(found.entry.key))
        before = Shown(old, found.entry.lease) if found is not None else None
        operations += self._backend.skydns.follow(before, Shown(new, lease))
        stands = found is not None and (found.entry.lease, new, key) == (
            lease, old, found.entry.key,
        )  # fmt: skip
        try:
            if not (stands or self._client.commit(compares, operations)):
                return False
        except LeaseLost:
            self._lease.forget(lease)
            return False
        self._shelf.note(instance.id, instance.service)
        with self._mutex:
            self._told[instance.id] = _Told(instance, key, new.health, clock())
        return True

    def _lease_for(self, found: Shelved | None) -> int:
        """Return the lease to register on: the process's own, or the one it left behind.

        A process that was restarted goes on with the lease of the one before it, if nothing
        but this instance hangs on it: what does may belong to another process by now.
        """
        with self._mutex:
            if self._lease.id:
                return self._lease.id
            ttl = self._backend.settings.report_ttl
            if found is not None and found.entry.lease:
                alone = self._client.attached(found.entry.lease) == frozenset({found.entry.key})
                if alone and self._lease.adopt(found.entry.lease, ttl):
                    return self._lease.id
            return self._lease.grant(ttl)

    def report(self, instance_id: str, health: Health, output: str) -> None:
        """Tell the health; written when it changes, its output with it."""
        told = self._told.get(instance_id)
        if told is None or told.health is not health:
            self._shelf.change(
                instance_id,
                lambda old: old if old.health is health
                else replace(old, health=health, output=output),
            )  # fmt: skip
        if told is not None:
            told.health, told.told_at = health, clock()
        if self._lease.id and self._lease.due() and self._keeping.acquire(blocking=False):
            try:  # one of them does it for all
                self._keep()
            finally:
                self._keeping.release()

    def _keep(self) -> None:
        """Keep the lease alive, and look after what hangs on it."""
        life = self._backend.settings.report_ttl
        for instance_id, told in list(self._told.items()):
            if clock() - told.told_at > life and told.health is not Health.CRITICAL:
                # Its check hangs, while others of this process go on.
                self._stale(instance_id, told)
        lease = self._lease.id
        try:
            self._lease.keep()
            attached = self._client.attached(lease)
        except LeaseLost:
            attached = None
        with self._mutex:
            # What is not there any more is registered again with its next report.
            self._told = {
                instance_id: told for instance_id, told in self._told.items()
                if attached is not None and told.key in attached
            }  # fmt: skip

    def _stale(self, instance_id: str, told: _Told) -> None:
        told.health = Health.CRITICAL
        try:
            self._shelf.change(
                instance_id,
                lambda old: replace(old, health=Health.CRITICAL, output="no report any more"),
            )
        except NotRegistered:
            return  # gone: it cannot be resolved either

    def deregister(self, instance_id: str) -> None:
        """Forget the instance; an unknown one is no error."""
        with self._mutex:
            self._told.pop(instance_id, None)
        while (found := self._shelf.find(instance_id)) is not None:
            key = found.entry.key
            shown = Shown(found.registration, found.entry.lease)
            operations = [delete(key), *self._backend.skydns.follow(shown, None)]
            if self._client.commit([modified(key, found.entry.modified)], operations):
                return

    def ids(self) -> list[str]:
        """Return the instances that this process reports on."""
        with self._mutex:
            return list(self._told)
