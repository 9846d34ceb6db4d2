"""What stands in etcd, and what is made of it, also when it is not ours."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.errors import LeaseLost, NotRegistered
from leadertag.kit.queries import decode_definition
from leadertag.kit.registration import SHUT_OUT, GateState, Registration
from leadertag.model import Gate, Health, LockView, Phase, QueryDefinition, Record, TagChange
from leadertag.plan import Plan
from leadertag_etcd.backend import Names
from leadertag_etcd.client import Entry, Span
from leadertag_etcd.lock import _lease_of, _view

RECORD = Record("n1/redis", "redis", "n1", "127.0.0.1", 6379, Phase.LEADING, term=7, lease=3.0)
FULL = Registration(
    "redis", "n1", "redis-1", "10.0.0.1", 6379, tags=("sensu", "master"), meta={"v": "7"},
    node_meta={"rack": "r1"}, health=Health.PASSING, output="größer",
    gates=(GateState("leadertag:redis:7", "redis", 7, opened=True, owner="p1"),),
)  # fmt: skip


def entry(value: bytes, modified: int = 9, lease: int = 0, created: int = 7) -> Entry:
    return Entry("k", value, created, modified, lease)


HOLDER = entry(b"", modified=7, lease=0xABC)


# -- locks -----------------------------------------------------------------------------


def test_a_lock_that_nobody_ever_took() -> None:
    assert _view("k", record=None) == LockView("k")


def test_a_held_lock() -> None:
    found = _view("k", HOLDER, record=entry(RECORD.encode()))
    assert found == LockView("k", 9, "abc", RECORD)
    assert found.leader == RECORD


@pytest.mark.parametrize("record", [None, entry(RECORD.encode()), entry(b"not ours")])
def test_a_plan_stands_beside_whatever_the_lock_is(record: Entry | None) -> None:
    without, plan = _view("k", HOLDER, record=record), Plan(paused=True, by="ops")
    found = _view("k", HOLDER, record=record, plan=entry(plan.encode(), modified=12))
    assert found == replace(without, plan=replace(plan, index=12))
    foreign = _view("k", HOLDER, record=record, plan=entry(b"\xff", modified=12))
    assert foreign == replace(without, plan=Plan(index=12, foreign=True))


def test_the_first_record_of_a_term_gets_it_from_its_revision() -> None:
    first = replace(RECORD, term=0, phase=Phase.ELECTED)
    found = _view("k", HOLDER, record=entry(first.encode(), modified=7))
    assert found.record == replace(first, term=7)


def test_only_a_release_leaves_a_mark() -> None:
    released = replace(RECORD, phase=Phase.RELEASED)
    assert not _view("k", record=entry(released.encode())).marked
    assert _view("k", record=entry(released.encode()[:-1] + b',"freed":true}')).marked


def test_a_lock_whose_record_was_deleted_is_still_held() -> None:
    found = _view("k", HOLDER, record=None)
    assert (found.index, found.holder, found.record, found.foreign) == (7, "abc", None, False)
    assert found.exists
    assert not found.free


@given(st.binary())
def test_a_foreign_value_is_told(raw: bytes) -> None:
    found = _view("k", record=entry(raw))
    assert found.exists
    assert found.foreign
    assert found.record is None


@pytest.mark.parametrize("session", ["", "none", "-1", "0", "f" * 17, "zz", "0x"])
def test_what_is_no_session(session: str) -> None:
    assert _lease_of(session) == 0


@given(st.integers(1, 2**63 - 1))
def test_a_session_is_a_lease(lease: int) -> None:
    assert _lease_of(f"{lease:x}") == lease


# -- instances ---------------------------------------------------------------------------


def test_a_registration_survives_the_round_trip() -> None:
    assert Registration.decode(FULL.encode()) == FULL


def test_what_a_newer_one_adds_is_no_harm() -> None:
    data = {**json.loads(FULL.encode()), "weight": 3}
    assert Registration.decode(json.dumps(data).encode()) == FULL


@given(st.one_of(st.binary(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_anything_else_is_no_registration(raw: bytes) -> None:
    assert Registration.decode(raw) is None


@pytest.mark.parametrize(
    "change",
    [{"leadertag": 2}, {"health": "well"}, {"port": "x"}, {"tags": None}, {"tags": [1]},
     {"gates": [{}]}, {"meta": []}, {"id": 1}],
)  # fmt: skip
def test_a_damaged_registration_is_left_out(change: dict[str, Any]) -> None:
    data = {**json.loads(FULL.encode()), **change}
    assert Registration.decode(json.dumps(data).encode()) is None


def test_an_open_gate_follows_its_owner() -> None:
    assert FULL.instance({"p1"}).passing
    assert FULL.instance({"p1"}).gate == 7
    silent = FULL.instance({"p2"})
    assert not silent.passing
    assert silent.service_health is Health.PASSING


def test_a_gate_is_shut_for_good() -> None:
    gate = Gate("redis", 7)
    shut = FULL.shut("redis")
    assert not shut.instance({"p1"}).passing
    with pytest.raises(LeaseLost):
        shut.opened(gate, "p1")
    assert FULL.shut("another").instance({"p1"}).passing
    with pytest.raises(NotRegistered):
        FULL.closed(Gate("redis", 8))


def test_a_shut_out_ends_with_the_gate_of_a_later_term() -> None:
    out = FULL.shut_out(8)
    assert not out.instance({"p1"}).passing
    assert out.instance({"p1"}).gate == 7  # the shut-out is no gate
    same = out.tagged(TagChange(), Gate("redis", 8))
    assert SHUT_OUT in {gate.id for gate in same.gates}
    later = out.tagged(TagChange(), Gate("redis", 9))
    assert SHUT_OUT not in {gate.id for gate in later.gates}
    assert out.without_gates(None).gates == ()


@given(st.tuples(*[st.text(min_size=1)] * 3))
def test_names_are_quoted_in_keys(parts: tuple[str, str, str]) -> None:
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        return
    names = Names("leadertag")
    key = names.instance(*parts)
    assert names.parts(key) == parts
    assert key.count("/") == 4
    assert key.startswith(names.instances_on(parts[0], parts[1]))


def test_what_is_no_instance_s_key() -> None:
    names = Names("p")
    for key in ("p/instances/a/b", "p/instances/a/b/c/d", "p/beats/x", "q/instances/a/b/c"):
        assert names.parts(key) is None


def test_a_span_ends_where_the_prefix_does() -> None:
    assert Span.under("p/locks/") == Span(b"p/locks/", b"p/locks0")


# -- queries -----------------------------------------------------------------------------


def test_what_is_no_definition() -> None:
    for raw in (b"", b"null", b"[]", b'{"leadertag": 1}', b'{"leadertag": 2, "name": "x"}'):
        assert decode_definition(raw) is None


def test_a_definition_survives_the_round_trip() -> None:
    wanted = QueryDefinition("leader", "redis", ("master",), failover_datacenters=("a", "b"))
    data = {
        "leadertag": 1, "name": "leader", "service": "redis", "tags": ["master"],
        "only_passing": True, "near": "", "failover_nearest": 0,
        "failover_datacenters": ["a", "b"], "dns_ttl": "", "service_meta": {}, "node_meta": {},
    }  # fmt: skip
    assert decode_definition(json.dumps(data).encode()) == wanted
