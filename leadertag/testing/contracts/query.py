"""The contract of :class:`leadertag.providers.QueryProvider`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadertag.errors import Conflict, NotRegistered
from leadertag.model import Health, Instance, QueryDefinition
from leadertag.testing.contracts.base import Contract
from leadertag.testing.contracts.harness import Harness, Member, make_instance, one_line, until


class QueryContract(Contract):
    """Definitions, and what they resolve to."""

    @pytest.fixture
    def wanted(self, harness: Harness, service: str) -> QueryDefinition:
        """A definition that nobody else has."""
        return QueryDefinition(harness.unique("leader-of"), service, ("master", "sensu"))

    def _resolved(self, member: Member, name: str) -> set[str]:
        return {f"{found.node}/{found.id}" for found in member.query.resolve(name)}

    def test_ensure_creates_once(
        self, harness: Harness, a: Member, b: Member, wanted: QueryDefinition
    ) -> None:
        assert a.query.ensure(wanted) is True
        writes = harness.writes(a)
        assert a.query.ensure(wanted) is False
        assert harness.writes(a) == writes, "nothing is written where nothing drifted"
        assert b.query.ensure(wanted) is False
        assert wanted in b.query.list()

    def test_the_order_of_tags_is_no_drift(self, a: Member, wanted: QueryDefinition) -> None:
        a.query.ensure(wanted)
        assert a.query.ensure(replace(wanted, tags=tuple(reversed(wanted.tags)))) is False

    @pytest.mark.parametrize(
        "drift",
        [
            {"tags": ("master", "!drain")},
            {"only_passing": False},
            {"near": "_agent"},
            {"failover_nearest": 2},
            {"failover_datacenters": ("dc2", "dc3")},
            {"dns_ttl": "5s"},
            {"service_meta": {"version": "7"}},
            {"node_meta": {"rack": "r1"}},
        ],
        ids=lambda drift: next(iter(drift)),
    )
    def test_drift_is_updated_in_place(
        self, a: Member, b: Member, wanted: QueryDefinition, drift: dict[str, object]
    ) -> None:
        a.query.ensure(wanted)
        changed = replace(wanted, **drift)  # type: ignore[arg-type]
        assert b.query.ensure(changed) is True
        assert b.query.ensure(changed) is False
        named = [found for found in a.query.list() if found.name == wanted.name]
        assert len(named) == 1
        assert replace(named[0], tags=()) == replace(changed, tags=())
        assert set(named[0].tags) == set(changed.tags)
        assert a.query.ensure(wanted) is True

    def test_another_service_owns_the_name(
        self, a: Member, b: Member, wanted: QueryDefinition
    ) -> None:
        a.query.ensure(wanted)
        with pytest.raises(Conflict) as caught:
            b.query.ensure(replace(wanted, service=wanted.service + "-other"))
        one_line(caught.value)
        assert wanted.name in str(caught.value)
        assert wanted in a.query.list()

    def test_remove(self, a: Member, wanted: QueryDefinition) -> None:
        a.query.ensure(wanted)
        a.query.remove(wanted.name)
        assert wanted.name not in [found.name for found in a.query.list()]
        with pytest.raises(NotRegistered) as caught:
            a.query.resolve(wanted.name)
        one_line(caught.value)
        assert wanted.name in str(caught.value)
        a.query.remove(wanted.name)

    def test_an_unknown_name_is_not_registered(self, a: Member, harness: Harness) -> None:
        with pytest.raises(NotRegistered):
            a.query.resolve(harness.unique("nonesuch"))

    def test_nobody_is_an_answer(self, a: Member, wanted: QueryDefinition) -> None:
        a.query.ensure(wanted)
        assert a.query.resolve(wanted.name) == ()

    def test_all_tags_are_asked_for(
        self, harness: Harness, a: Member, b: Member, wanted: QueryDefinition
    ) -> None:
        service = wanted.service
        harness.register(a, make_instance(service, f"{service}-1", tags=("sensu", "master")))
        harness.register(a, make_instance(service, f"{service}-2", tags=("master",)))
        harness.register(b, make_instance(service, f"{service}-1", tags=("sensu", "slave")))
        a.query.ensure(wanted)
        right = f"{a.registry.node}/{service}-1"
        until(lambda: self._resolved(b, wanted.name) == {right}, harness.patience, "the leader")
        (found,) = b.query.resolve(wanted.name)
        assert isinstance(found, Instance)
        assert (found.address, found.port, found.service) == ("127.0.0.1", 6379, service)
        assert set(found.tags) == {"sensu", "master"}

    def test_a_tag_can_be_negated(
        self, harness: Harness, a: Member, b: Member, wanted: QueryDefinition
    ) -> None:
        service = wanted.service
        harness.register(a, make_instance(service, service, tags=("sensu", "drain")))
        harness.register(b, make_instance(service, service, tags=("sensu",)))
        a.query.ensure(replace(wanted, tags=("sensu", "!drain")))
        right = {f"{b.registry.node}/{service}"}
        until(lambda: self._resolved(a, wanted.name) == right, harness.patience, "without drain")

    @pytest.mark.parametrize(
        ("only_passing", "health", "resolved"),
        [
            (True, Health.WARNING, False),
            (True, Health.CRITICAL, False),
            (False, Health.WARNING, True),
            (False, Health.CRITICAL, False),
        ],
    )
    def test_the_sick_do_not_resolve(
        self,
        harness: Harness,
        a: Member,
        b: Member,
        wanted: QueryDefinition,
        only_passing: bool,
        health: Health,
        resolved: bool,
    ) -> None:
        """``only_passing`` drops warnings too; critical instances never resolve."""
        service = wanted.service
        harness.register(a, make_instance(service, service, tags=("sensu", "master")))
        harness.register(b, make_instance(service, service, tags=("sensu", "master")))
        a.query.ensure(replace(wanted, only_passing=only_passing))
        sick, well = (f"{m.registry.node}/{service}" for m in (a, b))
        until(lambda: self._resolved(a, wanted.name) == {sick, well}, harness.patience, "both pass")
        harness.set_health(a, service, health)
        until(
            lambda: {m.health for m in b.registry.members(service)} == {health, Health.PASSING},
            harness.patience,
            f"one is {health}",
        )
        right = {sick, well} if resolved else {well}
        until(lambda: self._resolved(b, wanted.name) == right, harness.patience, f"{right} resolve")

    def test_meta_is_asked_for(
        self, harness: Harness, a: Member, b: Member, wanted: QueryDefinition
    ) -> None:
        service, tags = wanted.service, ("sensu", "master")
        harness.register(a, make_instance(service, service, tags=tags, meta={"version": "7"}))
        harness.register(b, make_instance(service, service, tags=tags, meta={"version": "8"}))
        a.query.ensure(replace(wanted, service_meta={"version": "8"}))
        right = {f"{b.registry.node}/{service}"}
        until(lambda: self._resolved(a, wanted.name) == right, harness.patience, "version 8")
