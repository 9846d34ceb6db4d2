"""Many threads of one process over one file: as many elections in one leadertag have them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leadertag.errors import BackendUnavailable
from leadertag_local.store import Store
from tests.unit.local.tools import PATIENCE

THREADS = 40


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lt.db"), own_folder=False, timeout=PATIENCE)


def handles(path: Path) -> int:
    """How often this process has that file open."""
    opened = (os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
              if os.path.lexists(f"/proc/self/fd/{fd}"))  # fmt: skip
    return sum(1 for target in opened if target == str(path))


def count_up(store: Store) -> None:
    with store.write() as database:
        database.execute("UPDATE counters SET value = value + 1 WHERE name = 'term'")


def counted(store: Store) -> int:
    with store.read() as database:
        row = database.execute("SELECT value FROM counters WHERE name = 'term'").fetchone()
    return int(row[0])


def test_many_threads_need_few_connections(tmp_path: Path, store: Store) -> None:
    """They read and write all at once: nothing is lost, and few connections stay."""
    before, meet = counted(store), threading.Barrier(THREADS)

    def work(_: int) -> None:
        meet.wait(PATIENCE)
        for _ in range(5):
            counted(store)
            count_up(store)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert counted(store) == before + 5 * THREADS
    assert handles(tmp_path / "lt.db") <= 2  # one that reads, and one that writes
    store.close()
    assert handles(tmp_path / "lt.db") == 0


def test_writers_do_not_open_a_connection_each_while_they_wait(
    tmp_path: Path, store: Store
) -> None:
    counted(store)
    with ThreadPoolExecutor(THREADS) as pool:
        with store.write():
            writing = [pool.submit(count_up, store) for _ in range(THREADS)]
            assert counted(store) == 0
            assert not any(one.done() for one in writing)
            assert handles(tmp_path / "lt.db") == 2  # the one that writes, and one that has read
        for one in writing:
            one.result(PATIENCE)
    assert counted(store) >= THREADS


def test_reading_waits_for_no_writer(store: Store) -> None:
    before = counted(store)
    with store.write() as database:
        database.execute("UPDATE counters SET value = value + 1 WHERE name = 'term'")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(counted, store).result(PATIENCE) == before
    assert counted(store) == before + 1


def test_a_writer_waits_no_longer_than_it_was_told(store: Store) -> None:
    def impatient() -> None:
        with store.write(timeout=0.01):
            pytest.fail("two write at the same time")

    with store.write(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(impatient)
        with pytest.raises(BackendUnavailable, match="this process has kept it locked"):
            waiting.result(PATIENCE)
    with store.write(timeout=0.01):
        pass  # the turn was given back
