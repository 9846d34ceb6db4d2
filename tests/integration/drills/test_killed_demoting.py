"""A daemon that ends, or hangs, in the middle of a demotion: it is done all over, and in time."""

from __future__ import annotations

import signal

import pytest

from tests.integration.drills.drill import ACTIONS, TURNS, Drill, Hook
from tests.integration.e2e.site import Node

LIMIT = 4.5
WORK = 4.0
"""Seconds that a demotion takes, of the ``LIMIT`` that it has: two of them and the hooks'
limits together are more than a lease."""
WAYS = [signal.SIGKILL, signal.SIGSTOP]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_in_the_middle_of_its_own_demotion(drill: Drill, way: signal.Signals, turn: int) -> None:
    def slow(node: Node) -> Hook:
        work = f'mark slow; [ "$LEADERTAG_EVENT" != demote ] || sleep {WORK}'
        command, timeout = drill.script(node, work), {"demote": f"{LIMIT}s"}
        return {"use": "command", "command": command, "events": ACTIONS, "timeout": timeout}

    drill.start(slow)
    old = drill.site.wait_for_leader(drill.recorder)
    drill.site.wait_settled()
    term = int(drill.site.lock()["term"])
    process = old.daemon.process
    process.signal(signal.SIGINT)  # it gives up, in contact all the while
    drill.await_mark(node=old.name, event="demote", place="slow", term=term)
    process.signal(way)
    new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
    assert process.exit_status == -signal.SIGKILL
    begun = drill.find(node=old.name, event="demote", place="slow", term=term)
    assert len(begun) == 2, drill.marks()
    drill.assert_succeeded(old, term, new, drill.confirmed(old))
