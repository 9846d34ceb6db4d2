"""Warm workers: a hook's time limit does not have to cover the start of a Python."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadertag.hooks.pool import WorkerPool
from leadertag.hooks.workers import Lane, WorkerProcess

LONG = 60.0
"""Seconds within which a worker starts on the busiest of machines."""


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(2)
    made.announce(Lane.ACTION, "command")
    yield made
    made.close()


def take(pool: WorkerPool) -> WorkerProcess:
    worker = pool.take(Lane.ACTION, math.inf)
    assert worker is not None
    return worker


def test_whoever_waits_finds_them_warm(pool: WorkerPool) -> None:
    pool.warm()
    assert pool.wait_warm(LONG)
    taken = [take(pool), take(pool)]
    assert all(worker._ready for worker in taken)
    for worker in taken:
        pool.give(worker)


def test_one_that_does_not_start_is_not_waited_for_for_ever(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(python))
        pool.warm()
    assert not pool.wait_warm(0.05)


def test_one_that_has_ended_is_replaced_and_not_warm(pool: WorkerPool) -> None:
    pool.warm()
    assert pool.wait_warm(LONG)
    worker = take(pool)
    worker.end()
    pool.give(worker)
    assert pool.wait_warm(LONG)
    assert worker not in (take(pool), take(pool))


def test_a_warm_one_is_taken_before_one_that_starts(pool: WorkerPool) -> None:
    pool.warm()
    assert pool.wait_warm(LONG)
    first, second = take(pool), take(pool)
    second.end()
    pool.give(first)
    pool.give(second)  # its replacement is on top of those that are idle, and just starts
    assert take(pool) is first


def test_without_hooks_there_is_nothing_to_wait_for() -> None:
    assert WorkerPool(2).wait_warm(0.0)
