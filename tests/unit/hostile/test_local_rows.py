"""The embedded backend's file: damaged, somebody else's, or with rows that nobody wrote."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadertag.errors import BackendUnavailable, ConfigError, LeaderTagError
from leadertag.model import Gate, Health, Lease, LockView, Phase, QueryDefinition
from leadertag.model import TagChange as Change
from tests.unit.hostile.anything import bytes_like, hostile, outcome, texts
from tests.unit.local.tools import KEY, Node

GATE = Gate("redis", 1)


def snapshot(watch: Any) -> Any:
    try:
        return watch.poll(0.0)
    finally:
        watch.close()


VERBS: Mapping[str, Callable[[Node], Any]] = {
    "open": lambda n: n.lock.open("me", ttl=5.0),
    "read": lambda n: n.lock.read(KEY),
    "acquire": lambda n: n.lock.acquire(LockView(KEY), n.record()),
    "confirm": lambda n: n.lock.confirm([Lease(KEY, 1, 1, "s", n.record())]),
    "watch": lambda n: snapshot(n.lock.watch([KEY])),
    "local": lambda n: n.registry.local("redis"),
    "members": lambda n: n.registry.members("redis"),
    "tag": lambda n: n.registry.tag("redis", Change(add=("master",)), gate=GATE, timeout=1),
    "register": lambda n: n.registry.register(n.instance()),
    "report": lambda n: n.registry.report("redis", Health.PASSING),
    "watch own": lambda n: [snapshot(w) for w in n.registry.watch([("redis", "")])],
    "ensure": lambda n: n.query.ensure(QueryDefinition("q", "redis", ("sensu",))),
    "resolve": lambda n: n.query.resolve("q"),
    "list": lambda n: n.query.list(),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database in which something of everything stands."""
    folder = tmp_path_factory.mktemp("made")
    node = Node(folder / "db")
    node.lock.open("me", ttl=3600.0)
    node.registry.register(node.instance(tags=("sensu",), meta={"v": "7"}))
    node.registry.report("redis", Health.PASSING)
    node.query.ensure(QueryDefinition("q", "redis", ("sensu",)))
    lease = node.take()
    node.registry.tag("redis", Change(add=("master",)), gate=GATE, timeout=1)
    node.lock.update(lease, replace(lease.record, phase=Phase.LEADING))
    for part in (node.lock, node.registry, node.query):
        part.close()
    with closing(sqlite3.connect(folder / "db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a copy that may be spoilt, in the place of the one before."""

    def fresh() -> Path:
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        ignored = shutil.ignore_patterns("watchers")  # FIFOs cannot be copied
        shutil.copytree(made, tmp_path / "x", ignore=ignored)
        (tmp_path / "x" / "db.d" / "watchers").mkdir()
        return tmp_path / "x" / "db"

    return fresh


def try_all(path: Path) -> dict[str, Any]:
    """Run every verb; each is a result or one line."""
    node = Node(path, timeout="200ms")
    found = {}
    for name, verb in VERBS.items():
        found[name] = outcome(lambda verb=verb: verb(node))  # type: ignore[misc]
    for part in (node.lock, node.registry, node.query):
        part.close()
    return found


def test_the_undamaged_file_is_used(copy: Callable[[], Path]) -> None:
    found = try_all(copy())
    assert not [one for one in found.values() if isinstance(one, LeaderTagError)], found


@given(st.integers(0, 2**32), st.sampled_from((1, 20, 400)))
@hostile(25)
def test_a_file_with_wrong_bytes(copy: Callable[[], Path], seed: int, count: int) -> None:
    path = copy()
    data = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    try_all(path)


@given(st.integers(0, 70_000), st.booleans())
@hostile(15)
def test_a_file_that_was_cut_or_has_a_foreign_log(
    copy: Callable[[], Path], length: int, log: bool
) -> None:
    path = copy()
    if log:
        Path(f"{path}-wal").write_bytes(random.Random(length).randbytes(length))
    else:
        path.write_bytes(path.read_bytes()[:length])
    try_all(path)


@given(st.binary(max_size=2000) | st.just(b"") | st.just(b"SQLite format 3\0"))
@hostile(15)
def test_a_file_of_anything_without_ours_beside_it(tmp_path: Path, data: bytes) -> None:
    shutil.rmtree(tmp_path / "y", ignore_errors=True)
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "db").write_bytes(data)
    try_all(tmp_path / "y" / "db")


@pytest.mark.parametrize("beside", [False, True])
def test_somebody_elses_tables_are_left_alone(tmp_path: Path, beside: bool) -> None:
    path = tmp_path / "db"
    if beside:
        (tmp_path / "db.d").mkdir()
        (tmp_path / "db.d" / "made").touch()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE locks (key TEXT, note TEXT)")
        database.execute("INSERT INTO locks VALUES ('redis/q', 'mine')")
        database.commit()
    before = path.read_bytes()
    found = try_all(path)
    assert all(isinstance(one, ConfigError) for one in found.values()), found
    assert path.read_bytes() == before


COLUMNS = [
    ("locks", "value"), ("locks", "holder"), ("locks", "idx"), ("locks", "term"),
    ("locks", "released"), ("sessions", "ttl"), ("sessions", "owner"), ("instances", "tags"),
    ("instances", "meta"), ("instances", "node_meta"), ("instances", "health"),
    ("instances", "port"), ("instances", "address"), ("instances", "beat"), ("gates", "id"),
    ("gates", "term"), ("gates", "opened"), ("gates", "owner"), ("queries", "definition"),
    ("queries", "service"), ("counters", "value"),
]  # fmt: skip


def decode_latin(raw: bytes) -> str:
    return raw.decode("latin-1")


VALUES = (
    bytes_like(["sensu", "master"]) | bytes_like({"v": "7"}) | texts
    | bytes_like({"name": "q", "service": "redis", "tags": ["a"]}).map(decode_latin)
    | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
)  # fmt: skip


@pytest.mark.parametrize(("table", "column"), COLUMNS)
@given(value=VALUES)
@hostile(6)
def test_a_row_with_any_value(
    copy: Callable[[], Path], table: str, column: str, value: Any
) -> None:
    path = copy()
    with closing(sqlite3.connect(path)) as database, suppress(UnicodeEncodeError):
        database.execute(f"UPDATE {table} SET {column} = ?", (value,))
        database.commit()
    found = try_all(path)
    view = found["read"]
    if isinstance(view, LockView) and column == "value":
        assert not view.free  # whatever stands in it, its session lives
        assert not view.marked


def test_a_sign_of_life_never_leads_out_of_its_folder(copy: Callable[[], Path]) -> None:
    path = copy()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE instances SET beat = '../../elsewhere'")
        database.commit()
    found = try_all(path)
    assert isinstance(found["report"], BackendUnavailable)
    assert not (path.parent / "elsewhere").exists()


def test_a_strangers_file_beside_the_signs_of_life_is_no_trouble(copy: Callable[[], Path]) -> None:
    path = copy()
    stranger = path.parent / "db.d" / "beats" / ".notes of somebody.txt"
    stranger.touch()
    found = try_all(path)
    assert not [one for one in found.values() if isinstance(one, LeaderTagError)], found
    assert stranger.exists()
