"""Values that stand under leadertag's keys in etcd, by whomever written."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leadertag.kit.queries import answers, decode_definition
from leadertag.kit.registration import GateState, Registration
from leadertag.model import Gate, Health, Instance, LockView, Phase, QueryDefinition, Record
from leadertag.model import TagChange as Change
from leadertag_etcd.backend import Names
from leadertag_etcd.client import Entry
from leadertag_etcd.lock import _view
from tests.unit.hostile.anything import bytes_like, hostile, outcome, texts

RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.RELEASED, term=7, lease=3.0)
GATE = Gate("redis", 7)
REGISTRATION = Registration(
    "redis", "n1", "r", "10.0.0.1", 6379, tags=("sensu", "master"), meta={"v": "7"},
    node_meta={"rack": "1"}, health=Health.PASSING, output="fine",
    gates=(GateState(GATE.id, "redis", 7, opened=True, owner="p1"),),
)  # fmt: skip
QUERY = {"leadertag": 1, **asdict(QueryDefinition("q", "redis", ("master", "!old")))}


def entry(value: bytes, modified: int = 9) -> Entry:
    return Entry("k", value, 7, modified, 0)


def document(raw: bytes) -> Any:
    found: Any = json.loads(raw)
    return found


@given(bytes_like({"leadertag": 1, **asdict(RECORD), "freed": True}), st.booleans())
@hostile(200)
def test_a_lock_is_ours_or_foreign_and_marked_only_by_a_release(raw: bytes, held: bool) -> None:
    holder = Entry("h", b"", 7, 7, 0xABC) if held else None
    found = _view("k", holder, record=entry(raw))
    assert isinstance(found, LockView)
    assert found.exists
    assert found.free != held
    assert found.foreign == (found.record is None)
    if found.marked:
        assert not held
        assert raw.endswith(b',"freed":true}')


@given(bytes_like(document(REGISTRATION.encode())))
@hostile(300)
def test_a_registration_can_be_used_in_every_way_or_is_none(raw: bytes) -> None:
    found = Registration.decode(raw)
    if found is None:
        return
    instance = found.instance({"p1"})
    check_instance(instance)
    change = Change(add=("master",), remove=("slave",))
    for changed in (
        found.tagged(change, Gate("redis", 8)), found.shut(), found.shut_out(9),
        found.without_gates(GATE), outcome(lambda: found.opened(GATE, "p2")),
        outcome(lambda: found.closed(GATE)),
    ):  # fmt: skip
        if isinstance(changed, Registration):
            assert Registration.decode(changed.encode()) == changed
    definition = QueryDefinition("q", "redis", ("master",), service_meta={"v": "7"})
    assert answers(definition, instance, found.node_meta) in (True, False)


def check_instance(instance: Instance) -> None:
    for text in (instance.id, instance.node, instance.service, instance.address, *instance.tags):
        assert isinstance(text, str)
    assert type(instance.port) is int
    assert instance.gate is None or type(instance.gate) is int
    assert all(isinstance(check.id, str) for check in instance.checks)
    assert all(isinstance(value, str) for value in instance.meta.values())
    hash(instance.health)


@given(bytes_like(QUERY))
@hostile(300)
def test_a_query_can_be_answered_or_is_none(raw: bytes) -> None:
    found = decode_definition(raw)
    if found is None:
        return
    for text in (found.name, found.service, found.near, found.dns_ttl, *found.tags):
        assert isinstance(text, str)
    assert type(found.only_passing) is bool
    instance = REGISTRATION.instance({"p1"})
    assert answers(found, instance, REGISTRATION.node_meta) in (True, False)


@given(texts, texts, texts)
@hostile(100)
def test_names_of_any_kind_stay_apart(service: str, node: str, instance_id: str) -> None:
    names = Names("/leadertag")
    try:
        key = names.instance(service, node, instance_id)
    except UnicodeEncodeError:  # a lone surrogate is no name that a configuration lets through
        return
    assert names.parts(key) == (service, node, instance_id)
