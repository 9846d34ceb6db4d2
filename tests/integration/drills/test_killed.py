"""kill -9 of the leading daemon: its guardian demotes, and only then another one leads."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.integration.drills.drill import TURNS, Drill
from tests.integration.drills.unit import guardian_in, unit_of
from tests.integration.e2e.site import PATIENCE
from tests.tools.leadertag import Daemon


def kill_daemon(daemon: Daemon) -> None:
    """The process alone: its workers and hooks are left to notice it."""
    daemon.process.signal(signal.SIGKILL)


def kill_group(daemon: Daemon) -> None:
    """Its process group, as a shell's job control or a container's runtime does."""
    os.killpg(daemon.process.pid, signal.SIGKILL)


def kill_all_but_guardian(daemon: Daemon) -> None:
    """All its processes, whatever their group or session."""
    with unit_of(daemon) as unit:
        guardian = guardian_in(unit)
        for process in unit:
            if process is not guardian:
                process.send(signal.SIGKILL)


def terminate_unit(daemon: Daemon) -> None:
    """What systemd does with KillMode=control-group: SIGTERM to every process of the unit.

    The guardian takes none from it, not either once it is alone, and has until TimeoutStopSec.
    """
    with unit_of(daemon) as unit:
        for process in unit:
            process.send(signal.SIGTERM)
        assert unit[0].ended(PATIENCE)
    for pid in daemon._guardians():
        os.kill(pid, signal.SIGTERM)


WAYS = [kill_daemon, kill_group, kill_all_but_guardian, terminate_unit]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kill", WAYS)
def test_a_killed_leader(drill: Drill, kill: Callable[[Daemon], None], turn: int) -> None:
    drill.start()
    old, term = drill.settled()
    process = old.daemon.process
    kill(old.daemon)
    new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
    assert not process.running
    drill.assert_succeeded(old, term, new, drill.confirmed(old))
    assert old.redis.role() == "slave"
    assert drill.resolved() == [new.redis.ip]


@pytest.mark.parametrize("turn", TURNS)
def test_a_killed_group_after_its_guardian_was_replaced(drill: Drill, turn: int) -> None:
    """The second guardian of a daemon outlives its group as well as the first."""
    drill.start()
    old, term = drill.settled()
    with unit_of(old.daemon) as unit:
        first = guardian_in(unit)
        first.send(signal.SIGKILL)
        assert first.ended(10)
    old.daemon.process.wait_ready(lambda: len(old.daemon._guardians()) == 1)
    kill_group(old.daemon)
    new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
    drill.assert_succeeded(old, term, new, drill.confirmed(old))
