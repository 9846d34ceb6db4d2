"""SIGSTOP of the leading daemon: whoever comes back has nothing to say any more."""

from __future__ import annotations

import signal
import time

import pytest

from tests.integration.drills.drill import TURNS, Drill, boottime
from tests.integration.drills.unit import unit_of
from tests.integration.e2e.site import PATIENCE, Node
from tests.tools.processes import wait_until

AROUND = [0.1 - 0.4 * (number + 1) / (len(TURNS) + 1) for number in TURNS]
"""Seconds after the guardian's strike, most of them before it, spread over the turns."""


@pytest.mark.parametrize("turn", TURNS)
def test_continued_after_the_lease(drill: Drill, turn: int) -> None:
    drill.start()
    old, term = drill.settled()
    with unit_of(old.daemon) as unit:
        old.daemon.process.pause()
        confirmed_at = drill.confirmed(old)
        new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
        drill.site.wait_settled(drill.site.others(old))
        drill.assert_succeeded(old, term, new, confirmed_at)
        assert drill.confirmed(old) == confirmed_at
        raft, before = drill.site.cluster.wait_quiet(), drill.ledger()
        for process in unit:
            process.send(signal.SIGCONT)
        # The daemon was ended before the guardian acted: there is nobody to be continued.
        assert unit[0].ended(PATIENCE)
    assert old.daemon.process.exit_status == -signal.SIGKILL
    drill.site.cluster.wait_quiet()
    assert drill.ledger() == before
    assert drill.site.cluster.wrote_nothing_since(raft)
    drill.assert_succeeded(old, term, new, confirmed_at)


@pytest.mark.parametrize("turn", TURNS)
def test_continued_just_around_the_guardians_strike(drill: Drill, turn: int) -> None:
    """Either it is back in time and goes on, or it was demoted once and in time."""
    drill.start()
    old, term = drill.settled()
    process = old.daemon.process
    process.pause()
    confirmed_at = drill.confirmed(old)
    moment = drill.strikes_at(confirmed_at) + AROUND[turn]
    time.sleep(max(0.0, moment - boottime()))  # the one way to meet that moment
    process.resume()
    wait_until(lambda: decided(drill, old, confirmed_at), PATIENCE, "it is decided")
    if not drill.find(event="demote"):
        drill.site.wait_settled()
        assert drill.site.wait_for_leader(drill.recorder) is old
        assert drill.site.lock()["term"] == term
        assert not drill.find(event="demote")
        return
    drill.assert_gave_up(old, term, confirmed_at)
    new = drill.site.wait_for_leader(drill.recorder, settled=False)
    if new is not old:  # else it gave up by itself, and was the first to campaign again
        drill.assert_succeeded(old, term, new, confirmed_at)


def decided(drill: Drill, node: Node, confirmed_at: float) -> bool:
    """Whether the leader was demoted, by whomever, or leads on with another confirmation.

    A confirmation alone decides nothing: one may come while it demotes already.
    """
    if drill.find(node=node.name, event="demote", place="last"):
        return True
    return drill.confirmed(node) > confirmed_at and node.describe().get("state") == "leading"


@pytest.mark.parametrize("turn", TURNS)
def test_a_host_that_stood_still(drill: Drill, turn: int) -> None:
    """Agent, leadertag and Redis are stopped as one, and go on when another one leads.

    A virtual machine that was paused. What comes back demotes its own service, and writes
    nothing that is the successor's.
    """
    drill.start()
    old, term = drill.settled()
    with unit_of(old.daemon) as unit:
        for process in unit:
            process.send(signal.SIGSTOP)
        old.redis.pause()
        old.agent.pause()
        new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
        began = drill.began(new, term)
        drill.site.cluster.wait_quiet()
        before = drill.ledger()
        old.agent.resume()
        old.redis.resume()
        for process in unit:
            process.send(signal.SIGCONT)
        drill.await_mark(node=old.name, event="demote", place="last", term=term)
    wait_until(lambda: "master" not in old.tags, PATIENCE, "it takes its own tag off")
    drill.site.cluster.wait_quiet()
    after = drill.ledger()
    assert after.lock == before.lock
    assert of(after.instances, new) == of(before.instances, new)
    assert of(after.checks, new) == of(before.checks, new)
    assert drill.site.wait_for_leader(drill.recorder, settled=False) is new
    drill.assert_unresolved(old, began.at)
    assert old.redis.role() == "slave"


def of(rows: tuple[tuple[object, ...], ...], node: Node) -> list[tuple[object, ...]]:
    """Those rows of a ledger that are about a node."""
    return [row for row in rows if row[0] == node.name]
