"""SIGSTOP of the leading Redis itself: it cannot be demoted, so it is fenced."""

from __future__ import annotations

import signal

import pytest

from tests.integration.drills.drill import TURNS, Drill
from tests.integration.e2e.site import PATIENCE
from tests.tools.processes import wait_until


@pytest.mark.parametrize("turn", TURNS)
def test_a_stopped_service_is_fenced_before_anybody_succeeds(drill: Drill, turn: int) -> None:
    drill.start(fences=True)
    old, term = drill.settled()
    old.redis.pause()
    new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
    order = [
        (mark.node == old.name, mark.event, mark.place)
        for mark in drill.marks()
        if mark.term > term or (mark.term == term and mark.event in ("demote", "fence"))
    ]
    promoted = order.index((False, "promote", "first"))
    assert order[:promoted] == [
        (True, "demote", "first"),
        (True, "demote", "last"),
        (True, "fence", "first"),
        (True, "fence", "last"),
    ]
    wait_until(lambda: not old.redis.process.running, PATIENCE, "its Redis has ended")
    assert old.redis.process.exit_status == -signal.SIGKILL
    log = old.daemon.log()
    assert "its probe failed" in log
    assert "redis: demote failed" in log
    drill.assert_unresolved(old, drill.began(new, term).at)
