"""The ZooKeeper backend of leadertag: locks, registry and queries in an ensemble (3.4 or later).

Three classes, one for each kind of provider; ``pyproject.toml`` offers them to leadertag by
name. They share one :class:`~leadertag_zookeeper.backend.Backend`, made of their settings.
Nothing here is imported before a configuration names ``zookeeper``.

Nodes, all under the setting ``prefix``:

- ``locks/record/KEY``: the record of the last holder; it stays when the holder is gone.
- ``locks/holder/KEY``: ephemeral, exists while the lock is held, on the holder's session.
  The transaction that created it (its czxid) is the term: ZooKeeper's counter only grows.
- ``locks/plan/KEY``, ``locks/history/KEY``, ``locks/ranks/KEY``: the notes beside a lock.
- ``sessions/ID``: ephemeral on that session: what a restarted process takes it up with.
- ``instances/SERVICE/NODE:ID``: a registration with its tags, health and gates. It counts
  while its owner lives:
- ``alive/PROCESS``: ephemeral, exists while a process speaks for its instances.
- ``beats/PROCESS``: ephemeral, exists while that process feeds its gates.
- ``queries/NAME``: a query's definition.

ZooKeeper tells a watch of one node, not of a subtree. So whoever changes a lock also writes
``locks``, and whoever changes a registration ``instances`` and ``instances/SERVICE``, in the
same transaction: two watches tell of every lock, three of every instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadertag_zookeeper.lock import ZooKeeperLock
    from leadertag_zookeeper.query import ZooKeeperQuery
    from leadertag_zookeeper.registry import ZooKeeperRegistry

__all__ = ["ZooKeeperLock", "ZooKeeperQuery", "ZooKeeperRegistry"]

_HOME = {"ZooKeeperLock": "lock", "ZooKeeperQuery": "query", "ZooKeeperRegistry": "registry"}


def __getattr__(name: str) -> Any:
    # Lazily: whoever uses only the lock does not pay for registry and query.
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'leadertag_zookeeper' has no attribute {name!r}")
    return getattr(importlib.import_module(f"leadertag_zookeeper.{_HOME[name]}"), name)
