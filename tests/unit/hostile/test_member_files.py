"""The files of the state directory, damaged in any way: used as they were meant, or not at all."""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.election.events import Memory
from leadertag.model import Lease, Phase, Record
from leadertag.scheduler.memory import MemberFile
from tests.unit.hostile.anything import NUMBERS, bytes_like, hostile, outcome, texts, values

NOW, DAY = 100.0, 86400.0
RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.LEADING, term=7, lease=3.0)
MEMORY = Memory(
    session="s", lease=Lease("redis/q", 7, 9, "s", RECORD), state="leading", acting=True,
    waited=True, seen_term=7, confirmed_at=12.5, free_since=3.0, free_index=4,
)  # fmt: skip


class Clock:
    """A boot that began a hundred seconds ago."""

    def now(self) -> float:
        return NOW

    def boot(self) -> str:
        return "b1"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    file = MemberFile(str(tmp_path), "redis/q", "n1/r", Clock())
    assert file.take({"socket": "/run/x.sock"})
    file.store(MEMORY)
    file.note_confirmed(50.0)
    file.give_back()
    return tmp_path


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """One warning for each damaged file is as it should be, hundreds of them are a burden."""
    caplog.set_level(logging.ERROR, "leadertag.scheduler.memory")


def load(folder: Path) -> Memory | None:
    return MemberFile(str(folder), "redis/q", "n1/r", Clock()).load()


def the(folder: Path, ending: str) -> Path:
    (path,) = folder.glob(f"*.{ending}")
    return path


TIMES = {item.name for item in fields(Memory) if not isinstance(item.default, int | str)}
TIMES -= {"lease"}


def check(memory: Memory | None) -> None:
    """Nothing of it may come from the future, be endless, or be of another kind."""
    if memory is None:
        return
    for item in fields(Memory):
        value = getattr(memory, item.name)
        if item.name in TIMES and value is not None:
            assert math.isfinite(value), item.name
            assert 0 <= value <= NOW + DAY, item.name
        elif isinstance(value, int):
            assert 0 <= value < 2**63, item.name
        if item.name.endswith(("_at", "_since")):
            assert value is None or value <= NOW, item.name
    if memory.lease is not None:
        assert type(memory.lease.term) is int
        assert type(memory.lease.index) is int
        assert isinstance(memory.lease.key, str)
        assert isinstance(memory.lease.session, str)


def document() -> dict[str, Any]:
    """What `store` writes."""
    lease = {"key": "redis/q", "term": 7, "index": 9, "session": "s",
             "record": RECORD.encode().decode()}  # fmt: skip
    data = {item.name: getattr(MEMORY, item.name) for item in fields(Memory)}
    return {**data, "lease": lease, "boot": "b1", "writer": 4711}


def test_the_document_is_what_is_stored(stored: Path) -> None:
    found = json.loads(the(stored, "json").read_bytes())
    assert {**found, "writer": 4711} == document()
    assert load(stored) is not None


@given(bytes_like(document()))
@hostile(200)
def test_any_memory(stored: Path, raw: bytes) -> None:
    the(stored, "json").write_bytes(raw)
    check(load(stored))


@pytest.mark.parametrize("name", sorted(item.name for item in fields(Memory)))
@given(value=st.sampled_from(NUMBERS) | values)
@hostile(25)
def test_any_value_of_any_field(stored: Path, name: str, value: object) -> None:
    path = the(stored, "json")
    path.write_text(json.dumps({**document(), name: value}))
    check(load(stored))


@given(
    st.binary(max_size=60)
    | st.tuples(
        st.sampled_from([*map(float, NUMBERS[:5]), -1.0, 1e308, NOW + 1, math.inf, math.nan]),
        st.sampled_from([b"b1", b"b2", b"b1\0\0x", b""]),
    ).map(lambda pair: struct.pack("<d36s", *pair))
)
@hostile(150)
def test_any_confirmation(stored: Path, raw: bytes) -> None:
    """A leader acts on it after a restart: it must never be later than now."""
    the(stored, "confirmed").write_bytes(raw)
    found = load(stored)
    assert found is not None
    check(found)
    assert found.confirmed_at >= 12.5


@given(bytes_like({"pid": 1, "socket": "/run/x.sock"}))
@hostile(150)
def test_any_holder(stored: Path, raw: bytes) -> None:
    the(stored, "lock").write_bytes(raw)
    found = MemberFile(str(stored), "redis/q", "n1/r", Clock()).holder()
    assert isinstance(found.get("socket", ""), str)


@given(texts, texts)
@hostile(100)
def test_any_name_makes_a_file_in_its_folder_or_one_line(
    tmp_path: Path, key: str, member: str
) -> None:
    file = MemberFile(str(tmp_path), key, member, Clock())
    found = outcome(lambda: file.take({}))
    file.give_back()
    if found is True:
        made = [entry.name for entry in os.scandir(tmp_path)]
        assert all(name.endswith(".lock") for name in made), made
