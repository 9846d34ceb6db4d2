"""The Consul backend: locks, registry and prepared queries of a Consul cluster.

The three providers of one configuration share one client, one session and one pool of
connections. Nothing here is imported before a configuration names ``consul``, and the
client library (python-consul2, or its fork py-consul) not before the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadertag_consul.lock import ConsulLock
    from leadertag_consul.query import ConsulQuery
    from leadertag_consul.registry import ConsulRegistry

__all__ = ["ConsulLock", "ConsulQuery", "ConsulRegistry"]

_HOME = {"ConsulLock": "lock", "ConsulQuery": "query", "ConsulRegistry": "registry"}


def __getattr__(name: str) -> Any:
    # Lazily: whoever uses only the lock does not pay for registry and query.
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'leadertag_consul' has no attribute {name!r}")
    return getattr(importlib.import_module(f"leadertag_consul.{_HOME[name]}"), name)
