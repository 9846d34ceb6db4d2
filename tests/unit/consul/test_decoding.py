"""What Consul answers, made into the words of the model."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from leadertag.model import Check, Gate, Health, LockView, Phase, QueryDefinition, Record
from leadertag.plan import Note, Plan
from leadertag_consul.backend import Node
from leadertag_consul.client import Answer
from leadertag_consul.gates import is_gate, latch
from leadertag_consul.instances import bearing_on, check_of, instance_of
from leadertag_consul.kv import entry_of, note_of, operation, swap, view_of
from leadertag_consul.lock import LockWatch
from leadertag_consul.query import _definition

RECORD = Record("n1/redis", "redis", "n1", "10.0.0.1", 6379, Phase.LEADING, term=7, lease=3.0)
NODE = Node("n1", "10.0.0.1")


def pair(value: bytes | None, **fields: Any) -> dict[str, Any]:
    coded = None if value is None else base64.b64encode(value).decode()
    return {"Key": "k", "Value": coded, "ModifyIndex": 9, "Flags": 0, **fields}


@pytest.mark.parametrize(
    ("raw", "view"),
    [
        (pair(RECORD.encode(), Session="s"), LockView("k", 9, "s", RECORD)),
        (pair(RECORD.encode()), LockView("k", 9, "", RECORD)),
        (pair(None), LockView("k", 9)),
        (pair(b""), LockView("k", 9)),
        (pair(b"\xff\x00"), LockView("k", 9, foreign=True)),
        (pair(b'{"leadertag": 2}', Session="s"), LockView("k", 9, "s", foreign=True)),
        (pair(b"null"), LockView("k", 9, foreign=True)),
    ],
)
def test_a_lock_of_a_key(raw: dict[str, Any], view: LockView) -> None:
    assert view_of("k", entry_of(raw)) == view


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (None, Note()),
        (pair(b"x"), Note(b"x", 9)),
        (pair(b""), Note(b"", 9)),
        (pair(None), Note(b"", 9)),
    ],
)
def test_a_note_of_a_key(raw: dict[str, Any] | None, note: Note) -> None:
    assert note_of(raw) == note


def test_a_note_is_swapped_under_its_index() -> None:
    def verbs(note: Note) -> list[tuple[str, int | None]]:
        return [(one["KV"]["Verb"], one["KV"].get("Index")) for one in swap("k", note)]

    assert verbs(Note(b"x", 3)) == [("cas", 3)]
    assert verbs(Note(b"x")) == [("cas", 0)]
    assert verbs(Note(b"", 3)) == [("check-index", 3), ("delete-cas", 3)]
    assert verbs(Note()) == [("check-not-exists", None)]


def test_a_watch_decodes_locks_and_plans_and_nothing_else() -> None:
    read: Any = None  # the answers are given here
    watch = LockWatch(read, "p/locks/", ["s/q", "s/none"])
    plan = Plan(paused=True, index=9)
    unreadable = {"Value": "no base64", "ModifyIndex": None}
    pairs = [
        {**pair(RECORD.encode()), "Key": "p/locks/s/q"},
        {"Key": "p/locks/s/q/history", **unreadable},
        {**pair(plan.encode()), "Key": "p/locks/s/q/plan"},
        {"Key": "p/locks/s/q2", **unreadable},
        {"Key": "p/locks/s/q2/plan", **unreadable},
    ]
    views = {"s/q": LockView("s/q", 9, "", RECORD, plan=plan), "s/none": LockView("s/none")}
    assert watch._snapshot(Answer(200, 1, pairs)) == views
    gone = {"s/q": LockView("s/q", plan=plan), "s/none": LockView("s/none")}
    assert watch._snapshot(Answer(200, 2, pairs[1:])) == gone


def test_an_operation_carries_a_value_only_where_there_is_one() -> None:
    assert operation("check-index", "k", Index=3) == {
        "KV": {"Verb": "check-index", "Key": "k", "Index": 3}
    }
    assert operation("lock", "k", value=b"x", Session="s")["KV"]["Value"] == "eA=="


def raw_check(check_id: str, status: str = "passing", output: str = "", service: str = "") -> Any:
    return {"CheckID": check_id, "Status": status, "Output": output, "ServiceID": service}


@pytest.mark.parametrize(
    ("raw", "check"),
    [
        (raw_check("a"), Check("a", Health.PASSING)),
        (raw_check("a", "warning"), Check("a", Health.WARNING)),
        (raw_check("a", "critical"), Check("a", Health.CRITICAL)),
        (raw_check("a", "surprising"), Check("a", Health.UNKNOWN)),
        (raw_check("leadertag:x:7"), Check("leadertag:x:7", Health.PASSING, own=True)),
        (raw_check("mine"), Check("mine", Health.PASSING, own=True)),
        (raw_check("a", output="leadertag: follower"), Check("a", Health.PASSING, own=True)),
        (raw_check("a", output="ok; leadertag: x"), Check("a", Health.PASSING)),
        (raw_check("leadertag"), Check("leadertag", Health.PASSING)),
    ],
)
def test_checks(raw: Any, check: Check) -> None:
    assert check_of(raw, {"mine"}) == check


def test_an_instance_takes_the_nodes_address_and_the_highest_gate() -> None:
    service = {"ID": "r1", "Service": "redis", "Tags": None, "Address": "", "Port": 0, "Meta": None}
    checks = [raw_check("leadertag:x:9"), raw_check("leadertag:x:10"), raw_check("serfHealth")]
    found = instance_of(NODE, service, checks, ())
    assert (found.address, found.port, found.tags, dict(found.meta)) == ("10.0.0.1", 0, (), {})
    assert found.gate == 10
    assert [check.id for check in found.checks] == sorted(check.id for check in found.checks)


def test_a_latch_without_its_alias_is_a_gate_too() -> None:
    """What a process left that died between the two: it has to be removed like any other."""
    service = {"ID": "r1", "Service": "redis", "Tags": None, "Address": "", "Port": 0, "Meta": None}
    left = instance_of(NODE, service, [raw_check(latch(Gate("x", 7)), "critical")], ())
    assert left.gate == 7


def test_checks_of_the_node_bear_on_every_service() -> None:
    checks = [raw_check("a", service="r1"), raw_check("b", service="r2"), raw_check("serfHealth")]
    assert [raw["CheckID"] for raw in bearing_on("r1", checks)] == ["a", "serfHealth"]


def test_a_latch_is_part_of_a_gate_but_no_term() -> None:
    gate = Gate("redis:odd", 7)
    assert is_gate(gate.id)
    assert is_gate(latch(gate))
    assert Gate.term_of(latch(gate)) is None
    assert not is_gate("leadertag:check")
    assert not is_gate("leadertag:alive:leadertag-n1")
    assert not is_gate("service:redis:7")


def test_a_query_with_nothing_set() -> None:
    found = {"Name": "q", "Service": {"Service": "redis", "Tags": None, "Failover": None}}
    assert _definition(found) == QueryDefinition("q", "redis", (), only_passing=False)
