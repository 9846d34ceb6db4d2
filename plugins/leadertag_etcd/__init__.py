"""The etcd backend: locks, registry and queries in an etcd cluster (version 3.4 or later).

The three providers of one configuration share one client: one connection to one member at
a time, one watch stream, and three leases at most (session, instances, heartbeat), whatever
the number of elections. Nothing here is imported before a configuration names ``etcd``, and
etcd3 with gRPC not before the first request.

Keys, all under the setting ``prefix``:

- ``locks/record/KEY``: the record of the last holder; it stays when the holder is gone.
- ``locks/holder/KEY``: exists while the lock is held, on the holder's session. The
  revision that created it is the term: etcd's own counter, which only ever grows.
- ``instances/SERVICE/NODE/ID``: a registration with its tags, health and gates, on a lease
  that the registering process keeps alive: it vanishes with that process.
- ``beats/PROCESS``: exists while that process feeds its gates.
- ``queries/NAME``: a query's definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadertag_etcd.lock import EtcdLock
    from leadertag_etcd.query import EtcdQuery
    from leadertag_etcd.registry import EtcdRegistry

__all__ = ["EtcdLock", "EtcdQuery", "EtcdRegistry"]

_HOME = {"EtcdLock": "lock", "EtcdQuery": "query", "EtcdRegistry": "registry"}


def __getattr__(name: str) -> Any:
    # Lazily: whoever uses only the lock does not pay for registry and query.
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'leadertag_etcd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"leadertag_etcd.{_HOME[name]}"), name)
