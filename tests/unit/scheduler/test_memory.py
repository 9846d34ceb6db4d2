"""The member's lock file and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from leadertag.election.events import Memory
from leadertag.errors import ConfigError
from leadertag.model import Lease, Phase, Record
from leadertag.scheduler.memory import MemberFile

RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.LEADING, term=7, lease=3.0)
MEMORY = Memory(
    session="s", lease=Lease("redis/q", 7, 9, "s", RECORD), state="leading", acting=True,
    waited=True, seen_term=7, confirmed_at=12.5, free_since=3.0, free_index=4,
)  # fmt: skip


class Boot:
    """A clock of some boot."""

    def __init__(self, boot: str = "b1") -> None:
        self._boot = boot

    def now(self) -> float:
        return 100.0

    def boot(self) -> str:
        return self._boot


def member(folder: Path, boot: str = "b1") -> MemberFile:
    return MemberFile(str(folder), "redis/q", "n1/r", Boot(boot))


def test_memory_comes_back_as_it_was(tmp_path: Path) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    file.give_back()
    assert member(tmp_path).load() == MEMORY


def test_memory_of_another_boot_is_nothing(tmp_path: Path) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    assert member(tmp_path, "b2").load() is None


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"boot": "b1"}', b'{"boot": "b1", "lease": {}, "x": 1}', b"\xff"]
)
def test_damaged_memory_is_nothing(tmp_path: Path, damage: bytes) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    next(tmp_path.glob("*.json")).write_bytes(damage)
    assert file.load() is None


@pytest.mark.parametrize(
    ("name", "value"), [("seen_term", "x"), ("acting", 1), ("confirmed_at", None), ("wait", True)]
)
def test_memory_with_a_wrong_type_is_nothing(tmp_path: Path, name: str, value: object) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    path = next(tmp_path.glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    assert file.load() is None


def test_memory_of_a_later_version_counts(tmp_path: Path) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    path = next(tmp_path.glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "new": [1]}))
    assert file.load() == MEMORY


def test_lease_with_a_record_that_is_not_ours_is_nothing(tmp_path: Path) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    path = next(tmp_path.glob("*.json"))
    data = json.loads(path.read_text())
    data["lease"]["record"] = "{}"
    path.write_text(json.dumps(data))
    assert file.load() is None


def test_one_process_speaks_for_a_member(tmp_path: Path) -> None:
    first, second = member(tmp_path), member(tmp_path)
    assert first.take({"socket": "/run/x.sock"})
    assert not second.take({})
    assert second.holder()["socket"] == "/run/x.sock"
    first.give_back()
    assert second.take({})


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys; from leadertag.scheduler.memory import MemberFile\n"
        f"class C:\n def boot(self): return 'b1'\n"
        f"f = MemberFile({str(tmp_path)!r}, 'redis/q', 'n1/r', C())\n"
        "print(f.take({}), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "True"
        mine = member(tmp_path)
        assert not mine.take({})
        process.kill()
        process.wait()
    assert mine.take({})


def test_members_do_not_share_a_file(tmp_path: Path) -> None:
    assert member(tmp_path).take({})
    assert MemberFile(str(tmp_path), "redis/q", "n2/r", Boot()).take({})
    assert MemberFile(str(tmp_path), "redis/p", "n1/r", Boot()).take({})


def test_only_finds_the_one_member_of_an_election(tmp_path: Path) -> None:
    assert MemberFile.only(str(tmp_path), "redis/q", Boot()) is None
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    found = MemberFile.only(str(tmp_path), "redis/q", Boot())
    assert found is not None
    assert found.load() == MEMORY
    other = MemberFile(str(tmp_path), "redis/q", "n2/r", Boot())
    assert other.take({})
    other.store(replace(MEMORY, lease=None))
    assert MemberFile.only(str(tmp_path), "redis/q", Boot()) is None


def test_unusable_state_dir_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state_dir .*file.*--state-dir"):
        MemberFile(str(tmp_path / "file"), "k", "m", Boot()).take({})


def test_a_state_dir_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="others can write there"):
        member(tmp_path).take({})


def test_the_last_confirmation_outlives_the_process(tmp_path: Path) -> None:
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    for at in (13.0, 14.25):
        file.note_confirmed(at)
    file.give_back()
    found = member(tmp_path).load()
    assert found is not None
    assert found.confirmed_at == 14.25


def test_a_confirmation_of_another_boot_is_none(tmp_path: Path) -> None:
    old = member(tmp_path, "b0")
    assert old.take({})
    old.note_confirmed(9999.0)
    old.give_back()
    file = member(tmp_path)
    assert file.take({})
    file.store(MEMORY)
    found = file.load()
    assert found is not None
    assert found.confirmed_at == MEMORY.confirmed_at
