"""What can be wrong with the file: one clear line, never a traceback, nothing made worse."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leadertag.errors import BackendUnavailable, ConfigError, LeaderTagError, LeaseLost
from leadertag.model import LockView, QueryDefinition
from leadertag.plan import PLAN, Note
from leadertag.testing.contracts.harness import one_line
from leadertag_local.store import Store
from tests.unit.local.tools import KEY, PATIENCE, Node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


def refusal(
    kind: type[LeaderTagError], path: Path, verb: Callable[[], object] | None = None
) -> str:
    """Return the one line with which each verb of a new process is refused."""
    node = Node(path)
    verbs = [verb] if verb else [
        lambda: node.lock.open("n1", ttl=60),
        lambda: node.lock.read(KEY),
        lambda: node.registry.members("redis"),
        lambda: node.lock.watch([KEY]).poll(0),
        node.query.list,
    ]  # fmt: skip
    messages = set()
    for each in verbs:
        with pytest.raises(kind) as caught:
            each()
        one_line(caught.value)
        assert str(path) in str(caught.value)
        messages.add(str(caught.value))
    assert len(messages) == 1, messages
    return messages.pop()


def test_a_file_of_something_else_is_left_alone(path: Path) -> None:
    path.write_text("this is no database, but it is rather longer than a header is\n" * 20)
    before = path.read_bytes()
    assert "not a database of leadertag" in refusal(ConfigError, path)
    assert path.read_bytes() == before


def test_another_program_s_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    before = path.read_bytes()
    assert "not one of leadertag" in refusal(ConfigError, path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    node = Node(path)
    node.lock.open("n1", ttl=60)
    with node.client.store.write() as database:
        database.execute("PRAGMA user_version = 99")
    node.lock.close()
    message = refusal(ConfigError, path)
    assert "99" in message
    assert "version 1" in message


def test_a_file_from_before_there_were_notes_is_completed(path: Path) -> None:
    node = Node(path)
    session = node.lock.open("n1", ttl=60)
    lease = node.take()
    with node.client.store.write() as database:
        database.execute("DROP TABLE notes")
        database.execute("DELETE FROM counters WHERE name = 'note'")
    node.lock.close()
    later = Node(path)
    assert later.lock.open("n1", ttl=60, session=session) == session
    assert later.lock.read(KEY) == LockView(KEY, lease.index, session, lease.record)
    first = later.lock.write_note(KEY, PLAN, Note(b"{}"))
    assert Node(path).lock.read_note(KEY, PLAN) == first == Note(b"{}", 1)
    assert later.lock.confirm([lease]) == {KEY}


def test_damage_is_told(path: Path) -> None:
    node = Node(path)
    node.lock.open("n1", ttl=60)
    node.take()
    node.query.ensure(QueryDefinition("q", "redis", ("master",)))
    node.lock.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(BackendUnavailable) as caught:
        Node(path).lock.read(KEY)
    one_line(caught.value)
    assert "damaged" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_folder_is_told_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.db"
    assert "no folder" in refusal(BackendUnavailable, path)
    assert not path.parent.exists()


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert "is a folder" in refusal(ConfigError, tmp_path)


def test_a_file_that_vanishes_takes_everything_down(path: Path) -> None:
    """Its lock is gone, but its holder still acts: nobody must be able to succeed it."""
    node = Node(path)
    node.lock.open("n1", ttl=60)
    lease = node.take()
    watch = node.lock.watch([KEY])
    assert watch.poll(PATIENCE) is not None
    for file in path.parent.glob("x.db*"):
        if file.is_file():
            file.unlink()
    assert "removed while in use" in refusal(BackendUnavailable, path)
    with pytest.raises(BackendUnavailable):
        node.lock.confirm([lease])
    with pytest.raises(BackendUnavailable):
        watch.poll(PATIENCE)
    assert not path.exists()
    watch.close()
    shutil.rmtree(f"{path}.d")  # what the message says
    with pytest.raises(LeaseLost):
        node.lock.keep_alive()
    assert node.lock.confirm([lease]) == frozenset()
    node.lock.open("n1", ttl=60)
    node.take()


def test_an_emptied_file_is_not_filled_again(path: Path) -> None:
    node = Node(path)
    node.lock.open("n1", ttl=60)
    node.lock.close()
    path.write_bytes(b"")
    assert "emptied" in refusal(BackendUnavailable, path)


def test_a_replaced_file_is_noticed(path: Path, tmp_path: Path) -> None:
    node = Node(path)
    node.lock.open("n1", ttl=60)
    lease = node.take()
    other = Node(tmp_path / "other.db")
    other.lock.read(KEY)
    other.lock.close()
    os.replace(tmp_path / "other.db", path)
    for name in ("x.db-wal", "x.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert node.lock.confirm([lease]) == frozenset()
    assert not node.lock.read(KEY).exists


def test_making_it_can_be_interrupted_at_any_step(path: Path) -> None:
    folder = Path(f"{path}.d")
    folder.mkdir()
    Node(path).lock.read(KEY)  # killed after the first folder
    (folder / "made").unlink()
    assert not Node(path).lock.read(KEY).exists  # killed before the marker
    (folder / "made").unlink()
    for file in path.parent.glob("x.db*"):
        if file.is_file():
            file.unlink()
    path.touch()
    assert not Node(path).lock.read(KEY).exists  # killed before the tables


def test_everything_is_private(path: Path) -> None:
    mask = os.umask(0)
    try:
        node = Node(path)
        node.lock.open("n1", ttl=60)
        node.registry.heartbeat()
        watch = node.lock.watch([KEY])
        watch.poll(PATIENCE)
        node.take()
    finally:
        os.umask(mask)
    found = {str(file.relative_to(path.parent)): file for file in path.parent.rglob("*")}
    assert {"x.db", "x.db-wal", "x.db-shm", "x.db.d", "x.db.d/beats"} <= set(found)
    for name, file in found.items():
        wanted = 0o700 if file.is_dir() else 0o600
        assert stat.S_IMODE(file.stat().st_mode) == wanted, name
    watch.close()


def test_its_own_folder_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "leadertag" / "leadertag.db"
    store = Store(str(path), own_folder=True, timeout=1.0)
    with store.read():
        pass
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_process_s_long_transaction_is_told(path: Path) -> None:
    node, other = Node(path, timeout="50ms"), Node(path, "n2")
    node.lock.open("n1", ttl=60)
    with other.client.store.write():
        assert node.lock.read(KEY).free  # readers are not kept waiting
        with pytest.raises(BackendUnavailable) as caught:
            node.take()
    one_line(caught.value)
    assert "locked for more than 0.05s" in str(caught.value)
    node.take()


def test_a_failure_in_a_transaction_leaves_nothing_of_it(path: Path) -> None:
    node = Node(path)
    node.lock.open("n1", ttl=60)

    def fail() -> None:
        with node.client.store.write() as database:
            database.execute("UPDATE counters SET value = 77")
            database.execute("INSERT INTO nonesuch VALUES (1)")

    with pytest.raises(BackendUnavailable) as caught:
        fail()
    one_line(caught.value)
    assert node.take().term == 1


LIMITED = """
import resource, sys
from leadertag.errors import BackendUnavailable, LeaderTagError
from leadertag.model import Instance
from tests.unit.local.tools import Node
node = Node(sys.argv[1])
node.lock.open("n1", ttl=60)
lease = node.take()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    for number in range(1000):
        node.registry.register(node.instance(id=f"i{number}", meta={"x": "y" * 1000}))
except BackendUnavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
print(sorted(node.lock.confirm([lease])))
"""


def test_a_write_that_does_not_fit_is_told(path: Path) -> None:
    """A limit on the size of files stands in for a disk that is full."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY, "the tests themselves run under a limit"
    done = run(LIMITED, path)
    message, held = done.stdout.splitlines()
    assert str(path) in message
    assert held == f"['{KEY}']"  # reading, and so confirming, goes on
    node = Node(path, "n2")
    node.lock.open("n2", ttl=60)
    node.take("another")


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users can get at, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="leadertag-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


AS_SOMEBODY = """
import os, sys
from leadertag.errors import LeaderTagError
from tests.unit.local.tools import KEY, Node
if os.geteuid() == 0:  # nothing is read-only for root
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
node = Node(sys.argv[1])
for verb in (lambda: node.lock.open("n1", ttl=60), lambda: node.lock.read(KEY),
             lambda: node.query.list()):
    try:
        verb()
        print("done")
    except LeaderTagError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_not_writable_is_told(shared_folder: Path, what: str) -> None:
    path = shared_folder / "x.db"
    if what == "file":
        Node(path).lock.read(KEY)
        for file in (path, *shared_folder.rglob("*")):
            file.chmod(0o555 if file.is_dir() else 0o444)
    shared_folder.chmod(0o555)
    lines = run(AS_SOMEBODY, path).stdout.splitlines()
    shared_folder.chmod(0o755)
    assert len(lines) == 3, lines
    assert lines[0].startswith("BackendUnavailable")
    assert str(shared_folder) in lines[0]


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script that must neither fail nor show a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done
