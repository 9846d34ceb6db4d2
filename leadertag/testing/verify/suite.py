"""The four contracts as tests. Collected by ``python -m leadertag.testing.verify`` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from leadertag.providers import Provider
from leadertag.testing.contracts import (
    BackendContract,
    Harness,
    LockContract,
    Member,
    QueryContract,
    RegistryContract,
)
from leadertag.testing.verify.member import not_tried
from leadertag.testing.verify.parts import part_of
from leadertag.testing.verify.plain import PlainHarness

MakeHarness = Callable[[], AbstractContextManager[Harness]]
_NEED_AN_INSTANCE = frozenset({"gates", "fenced"})


class _Verified:
    @pytest.fixture
    def harness(self, make_harness: MakeHarness) -> Iterator[Harness]:
        with make_harness() as harness:
            yield harness


class TestLock(_Verified, LockContract):
    pass


class TestRegistry(_Verified, RegistryContract):
    @pytest.fixture(autouse=True)
    def _instances(self, harness: Harness, request: pytest.FixtureRequest) -> None:
        """Even a vain attempt at a gate may feed what lives beside the live instances' own."""
        plain = type(harness) is PlainHarness and not harness.self_registered
        if plain and part_of(request.node) in _NEED_AN_INSTANCE:
            not_tried("registering an instance")


class TestQuery(_Verified, QueryContract):
    pass


class TestBackend(_Verified, BackendContract):
    @pytest.fixture
    def kinds(self, a: Member, chosen: tuple[type[Provider], ...]) -> tuple[type[Provider], ...]:
        return tuple(type(made) for made in a.providers if isinstance(made, chosen))
