"""The fixtures that all contracts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leadertag.testing.contracts.harness import Harness, Member


class Contract:
    """A subclass overrides the fixture ``harness``; everything else follows from it."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The backend under test."""
        raise NotImplementedError("override the fixture `harness` of the contract")

    @pytest.fixture
    def a(self, harness: Harness) -> Iterator[Member]:
        """A member, with a session where it has a lock provider."""
        yield from _member(harness, "a")

    @pytest.fixture
    def b(self, harness: Harness) -> Iterator[Member]:
        """Another member, on another node."""
        yield from _member(harness, "b")

    @pytest.fixture
    def key(self, harness: Harness) -> str:
        """A lock's key that nothing uses."""
        return harness.unique("redis") + "/sensu-redis-master"

    @pytest.fixture
    def service(self, harness: Harness) -> str:
        """A service's name that nothing uses."""
        return harness.unique("redis")


def _member(harness: Harness, name: str) -> Iterator[Member]:
    member = harness.join(name)
    yield member
    for provider in member.providers:
        provider.close()


def session_of(member: Member, harness: Harness, session: str = "") -> str:
    """Open the member's session, or take up ``session``; return its name."""
    return member.lock.open(member.name, ttl=harness.ttl, session=session)
