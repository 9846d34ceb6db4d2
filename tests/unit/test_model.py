"""Records are believed only if leadertag could have written them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.model import Check, Gate, Health, Instance, Phase, Record, TagChange

RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.LEADING, term=7, lease=3.0)


def raw(**changes: object) -> bytes:
    return json.dumps({"leadertag": 1, **asdict(RECORD), **changes}).encode()


def test_a_record_comes_back() -> None:
    assert Record.decode(RECORD.encode()) == RECORD


def test_a_later_version_may_add_fields() -> None:
    assert Record.decode(raw(rank=7)) == RECORD


WRONG: dict[str, bytes | None] = {
    "nothing": None, "empty": b"", "null": b"null", "number": b"1", "list": b"[]",
    "object": b"{}", "no text": b"\xff", "deep": b"[" * 100_000, "version": raw(leadertag=2),
    "huge lease": raw(lease=10**400), "long lease": raw(lease=1e308), "past": raw(lease=-1),
    "endless": raw(lease=float("inf")), "no number": raw(lease=float("nan")),
    "negative term": raw(term=-1), "huge term": raw(term=10**30), "text": raw(term="7"),
    "bool": raw(term=True), "port": raw(port="6379"), "member": raw(member=None),
    "phase": raw(phase="ruling"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_anything_else_is_nobodys(case: str) -> None:
    assert Record.decode(WRONG[case]) is None


@given(st.binary() | st.text())
def test_no_value_is_a_surprise(value: bytes | str) -> None:
    Record.decode(value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANYTHING, st.sampled_from(sorted(asdict(RECORD))))
def test_no_field_is_a_surprise(value: object, name: str) -> None:
    Record.decode(raw(**{name: value}))


def test_own_checks_count_for_resolution_only() -> None:
    checks = (Check("tcp", Health.PASSING), Check("leadertag:x:7", Health.CRITICAL, own=True))
    instance = Instance("r", "n", "s", "", 0, checks=checks)
    assert not instance.passing
    assert instance.service_health is Health.PASSING
    assert replace(instance, checks=()).passing


@pytest.mark.parametrize(
    ("check", "term"),
    [
        ("leadertag:redis:7", 7),
        ("leadertag:a:b:8", 8),
        ("leadertag:redis:x", None),
        ("redis:7", None),
        ("leadertag:redis:-1", None),
        ("leadertag:redis:", None),
    ],
)
def test_a_gate_is_known_by_its_id(check: str, term: int | None) -> None:
    assert Gate.term_of(check) == term
    assert Gate.term_of(Gate("redis", 7).id) == 7


def test_tag_changes_keep_what_is_there_and_its_order() -> None:
    change = TagChange(add=("master",), remove=("slave",))
    assert change.apply(("a", "slave", "b")) == ("a", "b", "master")
    assert change.apply(("master", "b")) == ("master", "b")
    assert change.apply(change.apply(("slave",))) == ("master",)
