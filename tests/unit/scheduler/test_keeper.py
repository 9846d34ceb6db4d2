"""Session, confirmations and heartbeat."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from leadertag.election import events as ev
from leadertag.errors import BackendUnavailable, LeaseLost
from leadertag.model import Lease, Phase, Record
from leadertag.scheduler.clock import SystemClock
from leadertag.scheduler.keeper import Keeper

RECORD = Record("n1/r", "r", "n1", "10.0.0.1", 6379, Phase.LEADING, term=7, lease=3.0)
LEASE = Lease("redis/q", 7, 9, "s", RECORD)


class World:
    """A keeper over recording providers, and the events that it posts."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, ev.Event]] = queue.Queue()
        self.providers: Any = MagicMock()
        self.providers.registry.gate_life = 0.05
        self.providers.lock.open.return_value = "s"
        self.providers.lock.confirm.return_value = frozenset({LEASE.key})
        post = lambda token, event: self.events.put((token, event))  # noqa: E731
        self.keeper = Keeper(self.providers, SystemClock(), post, owner="o", ttl=0.03)

    def next(self, kind: type[ev.Event]) -> tuple[str, Any]:
        while True:
            token, event = self.events.get(timeout=10)
            if isinstance(event, kind):
                return token, event


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.keeper.start()
    yield made
    made.keeper.stop(end_session=False)


def test_a_session_is_opened_with_the_remembered_one(world: World) -> None:
    world.keeper.open_with("old")
    _, event = world.next(ev.SessionOpened)
    assert event.session == "s"
    world.providers.lock.open.assert_called_with("o", ttl=0.03, session="old")


def test_a_dead_session_is_replaced(world: World) -> None:
    world.keeper.open_with("")
    world.next(ev.SessionOpened)
    world.providers.lock.open.return_value = "t"
    world.providers.lock.keep_alive.side_effect = LeaseLost("gone")
    assert world.next(ev.SessionOpened)[1].session == "t"


def test_confirmations_count_from_their_sending(world: World) -> None:
    def slow(_: Any) -> frozenset[str]:
        confirming.put(SystemClock().now())
        return frozenset({LEASE.key})

    confirming: queue.Queue[float] = queue.Queue()
    world.providers.lock.confirm.side_effect = slow
    world.keeper.keep({"redis#1": LEASE}, 0.01, gated=False)
    token, event = world.next(ev.Confirmed)
    assert token == "redis#1"
    assert event.held
    assert event.sent_at <= confirming.get(timeout=10) <= event.at


def test_no_answer_is_no_confirmation(world: World) -> None:
    asked: queue.Queue[int] = queue.Queue()

    def fail(_: Any) -> None:
        asked.put(1)
        raise BackendUnavailable("no quorum")

    world.providers.lock.confirm.side_effect = fail
    world.keeper.keep({"redis#1": LEASE}, 0.01, gated=False)
    for _ in range(3):
        asked.get(timeout=10)
    assert world.events.empty()


def test_a_confirmation_that_hangs_does_not_hold_up_the_next(world: World) -> None:
    hang = threading.Event()
    first = threading.Semaphore(1)

    def once(_: Any) -> frozenset[str]:
        if first.acquire(blocking=False):
            hang.wait(10)
        return frozenset({LEASE.key})

    world.providers.lock.confirm.side_effect = once
    world.keeper.keep({"redis#1": LEASE}, 0.01, gated=False)
    assert world.next(ev.Confirmed)[1].held
    hang.set()


def test_gates_are_fed_while_something_is_held(world: World) -> None:
    world.keeper.keep({"redis#1": LEASE}, 0.01, gated=True)
    world.next(ev.RegistryReached)
    world.providers.registry.heartbeat.assert_called()


def test_a_hung_loop_closes_the_gates(world: World) -> None:
    world.keeper.alive = lambda: False
    world.keeper.keep({"redis#1": LEASE}, 0.01, gated=True)
    for _ in range(5):
        world.next(ev.Confirmed)
    world.providers.registry.heartbeat.assert_not_called()


def test_the_session_is_ended_on_request_only(world: World) -> None:
    world.keeper.open_with("")
    world.next(ev.SessionOpened)
    world.keeper.stop(end_session=False)
    world.providers.lock.end.assert_not_called()
    world.keeper.stop(end_session=True)
    world.providers.lock.end.assert_called_once()
