"""What the three providers of one configuration share."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote

from leadertag.providers import BackendContext
from leadertag_etcd import settings as settings_module
from leadertag_etcd.client import EtcdClient, Span
from leadertag_etcd.leases import KeptLease
from leadertag_etcd.settings import EtcdSettings
from leadertag_etcd.skydns import SkyDns
from leadertag_etcd.stream import WatchStream


class Names:
    """The keys. Parts that are names of others' choice are quoted: no slash in them counts."""

    def __init__(self, prefix: str) -> None:
        self.locks = f"{prefix}/locks/"
        self._records = f"{self.locks}record/"
        self._holders = f"{self.locks}holder/"
        self.instances = f"{prefix}/instances/"
        self.beats = f"{prefix}/beats/"
        self.queries = f"{prefix}/queries/"

    def record(self, key: str) -> str:
        """Return where the record of a lock stands."""
        return self._records + key

    def holder(self, key: str) -> str:
        """Return the key that exists while the lock is held."""
        return self._holders + key

    def note(self, key: str, name: str) -> str:
        """Return where a note of a lock stands: in the range of the locks, on no lease."""
        return f"{self.locks}{name}/{key}"

    def instances_of(self, service: str) -> str:
        """Return the prefix of a service's instances."""
        return f"{self.instances}{quote(service, safe='')}/"

    def instances_on(self, service: str, node: str) -> str:
        """Return the prefix of a service's instances on a node."""
        return f"{self.instances_of(service)}{quote(node, safe='')}/"

    def instance(self, service: str, node: str, instance_id: str) -> str:
        """Return the key of an instance."""
        return self.instances_on(service, node) + quote(instance_id, safe="")

    def parts(self, key: str) -> tuple[str, str, str] | None:
        """Return service, node and id of an instance's key, ``None`` for any other key."""
        parts = key.removeprefix(self.instances).split("/")
        if not key.startswith(self.instances) or len(parts) != 3:
            return None
        service, node, instance_id = map(unquote, parts)
        return service, node, instance_id

    def beat(self, process: str) -> str:
        """Return the key that exists while a process feeds its gates."""
        return self.beats + process

    def query(self, name: str) -> str:
        """Return the key of a query's definition."""
        return self.queries + quote(name, safe="")


class Backend:
    """One client, one watch stream, and the process's own leases."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Does no I/O."""
        self.settings = settings
        self.names = Names(settings.prefix)
        self.client = EtcdClient(settings)
        self.stream = WatchStream(self.client)
        self.client.moved = self.stream.moved
        self.session = KeptLease(self.client, "session")
        self.locks_here = False
        """Whether the locks are in this etcd too, and not in another backend."""
        self.process = os.urandom(8).hex()
        self.skydns = SkyDns(settings.skydns, self.process)

    @classmethod
    def of(cls, context: BackendContext) -> Backend:
        """Return the backend of a context, made at the first call; ConfigError when wrong."""

        def make() -> Backend:
            return cls(settings_module.read(context.settings, context.environ))

        return context.shared("etcd", make)

    @property
    def where(self) -> str:
        """The cluster, for messages."""
        return f"etcd at {self.settings.endpoints[0]}"

    def beats(self) -> Span:
        """Return the span of all heartbeats."""
        return Span.under(self.names.beats)
