"""What holds for every provider of a backend, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leadertag.errors import BackendUnavailable, ConfigError
from leadertag.model import Characteristic, QueryDefinition, TagChange
from leadertag.plan import PLAN, Note
from leadertag.providers import (
    FencedRegistry,
    LockProvider,
    Provider,
    QueryProvider,
    RegistryProvider,
    SelfRegistered,
)
from leadertag.testing.contracts.base import Contract
from leadertag.testing.contracts.harness import Harness, Member, one_line

CONTRACT = 1
"""The version of :mod:`leadertag.providers` that these tests check."""


class BackendContract(Contract):
    """Creation, settings, an unreachable backend, and honest declarations."""

    @pytest.fixture
    def kinds(self, a: Member) -> tuple[type[Provider], ...]:
        """The classes of the providers."""
        return tuple(type(provider) for provider in a.providers)

    def test_the_contract_version_is_this_one(self, kinds: tuple[type[Provider], ...]) -> None:
        assert {kind.contract for kind in kinds} == {CONTRACT}

    def test_characteristics_are_declared_in_the_contract_s_words(
        self, kinds: tuple[type[Provider], ...]
    ) -> None:
        for kind in kinds:
            assert all(isinstance(word, Characteristic) for word in kind.characteristics)

    def test_declarations_fit_the_class(self, kinds: tuple[type[Provider], ...]) -> None:
        for kind in kinds:
            if issubclass(kind, RegistryProvider):
                declared = Characteristic.FENCED_TAGS in kind.characteristics
                assert declared == issubclass(kind, FencedRegistry)
                checks_itself = Characteristic.HEALTH in kind.characteristics
                assert checks_itself != issubclass(kind, SelfRegistered)

    def test_an_unknown_setting_is_refused(
        self, harness: Harness, kinds: tuple[type[Provider], ...]
    ) -> None:
        for kind in kinds:
            with pytest.raises(ConfigError) as caught:
                kind.create(harness.context({"nonesuch_setting": 1}))
            one_line(caught.value)
            assert "nonesuch_setting" in str(caught.value)

    def test_providers_of_one_context_may_be_made_in_any_order(
        self, harness: Harness, kinds: tuple[type[Provider], ...]
    ) -> None:
        for order in (kinds, tuple(reversed(kinds))):
            context = harness.context({})
            for provider in [kind.create(context) for kind in order]:
                provider.close()
                provider.close()

    def test_an_unreachable_backend_is_one_clear_line(
        self, harness: Harness, kinds: tuple[type[Provider], ...]
    ) -> None:
        """Making a provider does no I/O; each verb then tells that nobody answers."""
        context = harness.unreachable()
        for provider in [kind.create(context) for kind in kinds]:
            for verb in _verbs(provider):
                with pytest.raises(BackendUnavailable) as caught:
                    verb()
                one_line(caught.value)
            provider.close()


def _verbs(member: Provider) -> list[Callable[[], object]]:
    if isinstance(member, LockProvider):
        lock = member
        return [
            lambda: lock.open("a", ttl=10.0),
            lambda: lock.read("redis/master"),
            lambda: lock.watch(["redis/master"]).poll(1.0),
            lambda: lock.read_note("redis/master", PLAN),
            lambda: lock.write_note("redis/master", PLAN, Note(b"x")),
        ]
    if isinstance(member, RegistryProvider):
        registry = member
        return [
            lambda: registry.local("redis"),
            lambda: registry.members("redis"),
            lambda: registry.tag("redis", TagChange(add=("master",)), timeout=1.0),
            lambda: registry.watch_members("redis").poll(1.0),
        ]
    assert isinstance(member, QueryProvider)
    query = member
    return [
        lambda: query.ensure(QueryDefinition("leader", "redis", ("master",))),
        lambda: query.resolve("leader"),
        lambda: query.remove("leader"),
        query.list,
    ]
