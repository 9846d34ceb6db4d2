"""Watches share a stream; the numbers that etcd gives them are that stream's own."""

from __future__ import annotations

import queue
import threading
from collections import deque
from unittest.mock import MagicMock

from leadertag_etcd.stream import _Run


def stream(numbered: dict[int, MagicMock]) -> _Run:
    """Return a stream that etcd has confirmed those subscriptions on; nothing is sent."""
    run = object.__new__(_Run)
    run._rpc, run._mutex = MagicMock(), threading.Lock()
    run._requests = queue.SimpleQueue()
    run._waiting, run._dropped, run._over = deque(), set(), False
    run._numbered = dict(numbered)  # type: ignore[arg-type]
    return run


def test_a_watch_of_an_earlier_stream_takes_nobody_elses_place_away() -> None:
    present = MagicMock(number=0)
    run = stream({0: present})
    assert not run.remove(MagicMock(number=0))
    assert run._numbered == {0: present}


def test_a_watch_that_ends_is_cancelled() -> None:
    one, other = MagicMock(number=0), MagicMock(number=1)
    run = stream({0: one, 1: other})
    assert not run.remove(one)
    assert run._numbered == {1: other}
    run._rpc.WatchCancelRequest.assert_called_once_with(watch_id=0)
