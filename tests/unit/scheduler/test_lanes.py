"""Lanes keep order, and one another out of the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from leadertag.scheduler.lanes import Lane


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_a_lane_keeps_order(pool: ThreadPoolExecutor) -> None:
    lane, done, seen = Lane(pool), threading.Event(), []
    for n in range(200):
        lane.put(lambda n=n: seen.append(n))  # type: ignore[misc]
    lane.put(done.set)
    assert done.wait(10)
    assert seen == list(range(200))


def test_a_blocked_lane_does_not_hold_up_another(pool: ThreadPoolExecutor) -> None:
    gate, done = threading.Event(), threading.Event()
    Lane(pool).put(lambda: gate.wait(10) and None)
    Lane(pool).put(done.set)
    assert done.wait(10)
    gate.set()


def test_a_failure_does_not_end_the_lane(pool: ThreadPoolExecutor) -> None:
    lane, done = Lane(pool), threading.Event()
    lane.put(lambda: 1 / 0 and None)
    lane.put(done.set)
    assert done.wait(10)
