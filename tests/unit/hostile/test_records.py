"""Values found in a lock, by whomever written: a record of ours, or nobody's."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leadertag.model import Gate, LockView, Phase, Record, TagChange
from leadertag.plan import Note
from leadertag.ranks import NO_RANKS, decode
from tests.unit.hostile.anything import NUMBERS, bytes_like, hostile, texts

RECORD = Record(
    "n1/redis", "redis", "n1", "10.0.0.1", 6379, Phase.RELEASED, term=7, lease=3.0,
    since="2026-01-31T10:00:00Z",
)  # fmt: skip
DOCUMENT = {"leadertag": 1, **asdict(RECORD)}


@given(bytes_like(DOCUMENT))
@hostile(300)
def test_a_value_is_a_sane_record_or_none(raw: bytes) -> None:
    record = Record.decode(raw)
    if record is None:
        return
    for name in ("member", "instance", "node", "address", "since", "reason"):
        assert isinstance(getattr(record, name), str)
    for name in ("port", "term", "incarnation"):
        assert type(getattr(record, name)) is int
    assert math.isfinite(record.lease)
    assert 0 <= record.term < 2**63
    # What was read can be written again, and says the same.
    assert Record.decode(record.encode()) == record


@pytest.mark.parametrize("name", ["incarnation", "lease", "port", "term"])
@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_a_number_without_bounds_is_in_no_record(name: str, number: float) -> None:
    record = Record.decode(json.dumps({**DOCUMENT, name: number}))
    if record is not None:
        assert isinstance(getattr(record, name), int if name != "lease" else float)
        assert math.isfinite(record.lease)
        assert 0 <= record.lease <= 86400
        assert 0 <= record.term < 2**63


@given(bytes_like(DOCUMENT))
@hostile(200)
def test_no_foreign_value_is_a_mark_or_a_leader(raw: bytes) -> None:
    """Only what reads as a whole record of a release owes no wait."""
    record = Record.decode(raw)
    free = LockView("k", 9, "", record, foreign=record is None)
    held = replace(free, holder="s")
    if record is None:
        assert not free.marked
    else:
        assert free.marked == (record.phase is Phase.RELEASED)
    assert not held.free
    assert free.leader is None
    assert held.leader is None or held.leader.phase is Phase.LEADING


@given(texts, st.sampled_from(("leadertag:", "leadertag:x:", ":", "")), texts)
@hostile(150)
def test_any_check_id_is_a_gate_or_is_none(head: str, middle: str, tail: str) -> None:
    for check_id in (head + middle + tail, middle + tail, f"leadertag:{head}:{tail}"):
        assume(len(tail) < 4300)
        term = Gate.term_of(check_id)
        assert term is None or term >= 0


def test_a_check_id_with_endless_digits_is_no_gate() -> None:
    assert Gate.term_of("leadertag:redis:" + "9" * 4301) is None


@given(bytes_like({"leadertag": 1, "term": 7, "ranks": {"n1/redis": 3, "n2/redis": 9}}))
@hostile(200)
def test_a_note_of_ranks_is_sane_or_tells_none(raw: bytes) -> None:
    found = decode(Note(raw, 5))
    assert found == NO_RANKS or 0 < found.term < 2**63
    assert all(type(rank) is int and 0 < rank < 2**63 for _, rank in found.ranks)
    # Whoever announces its own beside them writes something that can be read.
    told = found.with_rank(found.term + 1, "n3/redis", 4)
    assert decode(Note(told.encode(), 6)) == told or told.term == 2**63


@given(st.lists(texts), st.lists(texts, max_size=2), st.lists(texts, max_size=2))
@hostile(200)
def test_foreign_tags_stay_whatever_they_are(
    tags: list[str], add: list[str], remove: list[str]
) -> None:
    change = TagChange(tuple(add), tuple(remove))
    changed = change.apply(tuple(tags))
    assert change.apply(changed) == changed
    roles = {*add, *remove}
    assert [tag for tag in changed if tag not in roles] == [t for t in tags if t not in roles]


@pytest.mark.parametrize("value", [1, 1.0, True, [], {}], ids=repr)
def test_a_value_that_is_no_text_is_nobodys(value: Any) -> None:
    """A row of a damaged database may have any type."""
    assert Record.decode(value) is None
