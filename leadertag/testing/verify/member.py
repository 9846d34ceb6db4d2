"""A member as the plain harness makes it, and what any provider can be asked without harm."""

from __future__ import annotations

from typing import NoReturn

import pytest

from leadertag.providers import LockProvider, Provider, QueryProvider, RegistryProvider
from leadertag.testing.contracts import Member


def not_tried(what: str) -> NoReturn:
    """Skip the test: it needs a harness that can do ``what``."""
    pytest.skip(f"this needs a harness ({what})")


class PlainMember(Member):
    """Its providers, as far as the plugin has them; a test that needs another is not tried."""

    alone = ""
    """Why it cannot stand for a node of its own; ``""`` where it can."""

    @property
    def offered_lock(self) -> LockProvider | None:
        """The lock provider, where there is one."""
        return self._lock

    @property
    def lock(self) -> LockProvider:
        """The lock provider."""
        return self._lock or not_tried("a lock provider beside this one")

    @property
    def registry(self) -> RegistryProvider:
        """The registry provider."""
        if self.alone and self._registry is not None:
            not_tried(self.alone)
        return self._registry or not_tried("a registry provider beside this one")

    @property
    def query(self) -> QueryProvider:
        """The query provider."""
        return self._query or not_tried("a query provider beside this one")


def read_something(provider: Provider, name: str) -> None:
    """Ask for what is not there; returns when the backend has answered."""
    if isinstance(provider, LockProvider):
        provider.read(name)
    elif isinstance(provider, RegistryProvider):
        provider.members(name)
    elif isinstance(provider, QueryProvider):
        provider.list()
