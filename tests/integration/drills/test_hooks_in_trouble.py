"""Hooks that are slow, deaf or fruitful, in daemons that are stopped or killed meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.drills.drill import LEASE, LIMITS, RATE, TURNS, Drill, Hook
from tests.integration.drills.unit import Process, guardian_in, unit_of
from tests.integration.e2e.site import PATIENCE, Node
from tests.tools.processes import wait_until

FAMILY = """
trap '' TERM INT HUP
sleep 1000 & echo $! >>{pids}
setsid sleep 1000 & echo $! >>{pids}
(sleep 1000 & echo $! >>{pids}; wait) &
echo $$ >>{pids}
while :; do mark beat; sleep 0.02; done
"""
"""Deaf, with children in its group, in a session of their own, and of their own in turn."""


def endless(drill: Drill, node: Node, event: str, folder: Path) -> Hook:
    """A hook that, while ``folder/endless`` is there, beats until it is killed."""
    script = f"[ -e {folder}/endless ] || exit 0\n" + FAMILY.format(pids=folder / "pids")
    limit = {"promote": "60s", "demote": f"{LIMITS['redis']}s"}[event]
    return {"use": "command", "command": drill.script(node, script), "events": [event],
            "timeout": {event: limit}}  # fmt: skip


def pids(folder: Path) -> list[int]:
    """What the endless hook has started, itself included."""
    return [int(line) for line in (folder / "pids").read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is there that does not only wait to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(unit: list[Process]) -> None:
    """kill -9 of the daemon."""
    unit[0].send(signal.SIGKILL)


def stop(unit: list[Process]) -> None:
    """SIGSTOP to the daemon."""
    unit[0].send(signal.SIGSTOP)


def stop_with_workers(unit: list[Process]) -> None:
    """SIGSTOP to all of leadertag but its guardian: the command of the hook runs on."""
    guardian = guardian_in(unit)
    for process in unit:
        if process is not guardian and b"leadertag" in process.command:
            process.send(signal.SIGSTOP)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("interrupt", [kill, stop, stop_with_workers])
def test_interrupted_in_the_middle_of_promote(
    drill: Drill, tmp_path: Path, interrupt: Callable[[list[Process]], None], turn: int
) -> None:
    """The promotion that runs ends with the daemon, and is over before the demotion."""
    (tmp_path / "endless").touch()
    drill.start(lambda node: endless(drill, node, "promote", tmp_path), drill.redis_hook)
    first = drill.await_mark(event="promote", place="beat")
    old = drill.site.node(first.node)
    (tmp_path / "endless").unlink()
    with unit_of(old.daemon) as unit:
        interrupt(unit)
        confirmed_at = drill.confirmed(old)
        new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
        for process in unit:
            process.send(signal.SIGCONT)
        assert unit[0].ended(PATIENCE)
    wait_until(lambda: not any(map(runs, pids(tmp_path))), PATIENCE, "the whole hook has ended")
    drill.assert_succeeded(old, first.term, new, confirmed_at)
    assert not drill.find(node=old.name, event="promote", place="last")
    demoting = drill.find(node=old.name, event="demote", place="first")[0][0]
    beats = [number for number, _ in drill.find(node=old.name, place="beat")]
    assert beats[-1] < demoting, drill.marks()[beats[0] :]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("killed", [False, True], ids=["daemon", "guardian"])
def test_a_demotion_that_is_deaf_is_ended_at_its_limit_and_fenced(
    drill: Drill, tmp_path: Path, killed: bool, turn: int
) -> None:
    """All that it started is killed with it; whoever demotes, the fence follows in time."""
    drill.start(lambda node: endless(drill, node, "demote", tmp_path), fences=True)
    leader = drill.site.wait_for_leader(drill.recorder)
    drill.site.wait_settled()
    term = int(drill.site.lock()["term"])
    (tmp_path / "endless").touch()
    leader.daemon.process.signal(signal.SIGKILL if killed else signal.SIGINT)
    confirmed_at = drill.confirmed(leader)
    fenced = drill.await_mark(node=leader.name, event="fence", place="last", term=term)
    (tmp_path / "endless").unlink()
    new = drill.site.wait_for_leader(drill.recorder, not_on=leader, settled=False)
    if killed:
        assert fenced.at <= confirmed_at + RATE * LEASE
    order = {(m.event, m.place): n for n, m in drill.find(node=leader.name, term=term)}
    fence, beat = order["fence", "first"], order["demote", "beat"]
    assert order["demote", "first"] < beat < order["demote", "last"] < fence
    promoted = [n for n, m in drill.find(event="promote", place="first") if m.term > term]
    assert order["fence", "last"] < promoted[0]
    wait_until(lambda: not any(map(runs, pids(tmp_path))), PATIENCE, "the whole hook has ended")
    assert not leader.redis.process.running
    drill.assert_unresolved(leader, drill.began(new, term).at)


@pytest.mark.parametrize("turn", TURNS)
def test_a_message_that_hangs_delays_no_demotion(drill: Drill, tmp_path: Path, turn: int) -> None:
    """The informational hooks of all daemons hang, with a limit of minutes."""

    def hanging(node: Node) -> Hook:
        script = f"echo $LEADERTAG_EVENT >>{tmp_path}/{node.name}; while :; do sleep 1; done"
        return {"use": "command", "command": ["/bin/sh", "-c", script],
                "events": ["role_changed", "leader_changed"], "timeout": "300s"}  # fmt: skip

    drill.start(drill.redis_hook, hanging)
    old, term = drill.settled()
    for node in drill.site.nodes:
        wait_until((tmp_path / node.name).exists, PATIENCE, f"{node.name} tells somebody")
    old.redis.kill()
    new = drill.site.wait_for_leader(drill.recorder, not_on=old, settled=False)
    drill.assert_succeeded(old, term, new, drill.confirmed(old))
    drill.site.wait_for_redis(new, down=old)
    for node in drill.site.nodes:
        assert len((tmp_path / node.name).read_text().split()) == 1, "its first one is over"
