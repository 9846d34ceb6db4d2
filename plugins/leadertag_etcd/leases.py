"""Leases that this process keeps alive: what hangs on one vanishes with the process."""

from __future__ import annotations

import threading
import time

from leadertag.errors import LeaseLost
from leadertag_etcd.client import EtcdClient


def clock() -> float:
    """Return a time in seconds that runs on through suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KeptLease:
    """One lease at a time. All methods from any thread."""

    def __init__(self, client: EtcdClient, what: str) -> None:
        """``what`` it is for, in messages. Does no I/O."""
        self._client = client
        self._what = what
        self._mutex = threading.Lock()
        self._id = 0
        self._ttl = 0
        self._kept_at = 0.0

    @property
    def id(self) -> int:
        """The lease, 0 for none."""
        return self._id

    @property
    def name(self) -> str:
        """The lease as etcdctl writes it, ``""`` for none."""
        return f"{self._id:x}" if self._id else ""

    def demand(self) -> int:
        """Return the lease; LeaseLost when there is none."""
        if not self._id:
            raise LeaseLost(f"{self._what}: no etcd lease is open")
        return self._id

    def due(self, part: float = 3.0) -> bool:
        """Whether so much of its life (a third, say) has passed since it was kept alive."""
        return clock() - self._kept_at >= self._ttl / part

    def grant(self, ttl: int) -> int:
        """Take a new one, forgetting the old one, and return it."""
        at = clock()
        lease, granted = self._client.grant(ttl)
        self._set(lease, granted, at)
        return lease

    def adopt(self, lease: int, ttl: int) -> bool:
        """Take up a lease if it is alive, with the life that it was once given; tell."""
        at = clock()
        if not self._client.keep_alive(lease):
            return False
        self._set(lease, ttl, at)
        return True

    def keep(self) -> None:
        """Start its time anew; LeaseLost when it is gone, and it is forgotten then."""
        lease, at = self.demand(), clock()
        if not self._client.keep_alive(lease):
            self.forget(lease)
            raise LeaseLost(f"{self._what}: the etcd lease {lease:x} is gone")
        with self._mutex:
            if self._id == lease:
                self._kept_at = at  # not the time of the answer: it is counted from before

    def forget(self, lease: int) -> None:
        """Do without it from now on, unless it has been replaced already."""
        with self._mutex:
            if self._id == lease:
                self._id = 0

    def _set(self, lease: int, ttl: int, at: float) -> None:
        with self._mutex:
            self._id, self._ttl, self._kept_at = lease, ttl, at
