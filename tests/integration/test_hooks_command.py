"""The command hook in its worker processes: real commands, real time limits."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leadertag.config.settings import HookSettings
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent as Event
from tests.tools.processes import wait_until
from tests.unit.hooks.helpers import LONG, change, hook, limits, wait_vanished


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(2)
    yield made
    made.close()


def shell(
    script: str,
    folder: Path,
    timeouts: Mapping[Event, float] | None = None,
    **more: object,
) -> HookSettings:
    options = {"command": ["sh", "-c", script], "cwd": str(folder), **more}
    return hook("command", options, timeouts=timeouts)


def pids(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def test_a_command_learns_of_the_change_and_its_output_is_logged(
    pool: WorkerPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "leadertag.hooks")
    script = 'echo "now $LEADERTAG_ROLE of $LEADERTAG_ELECTION in $LEADERTAG_TERM"; cat >in'
    runner = HookRunner("redis", [shell(script, tmp_path)], pool)
    assert runner.run(change(Event.PROMOTE)).ok
    assert "redis: command: promote: | now leader of redis in 7" in caplog.text
    assert (tmp_path / "in").read_text().startswith('{"event": "promote"')


def test_the_exit_status_is_in_the_message(pool: WorkerPool, tmp_path: Path) -> None:
    runner = HookRunner("redis", [shell("echo not today; exit 9", tmp_path)], pool)
    message = runner.run(change(Event.BEFORE_PROMOTE)).message
    assert message.endswith("command: before_promote failed: sh: exit status 9: not today")


def test_at_its_limit_everything_that_the_command_started_ends(
    pool: WorkerPool, tmp_path: Path
) -> None:
    script = "setsid sleep 3600 & echo $$ $! >new; mv new pids; wait"
    runner = HookRunner("redis", [shell(script, tmp_path, limits(2.0))], pool)
    outcome = runner.run(change(Event.DEMOTE))
    # By the worker, or on a busy machine by whoever waits for the worker.
    assert "sh took longer than" in outcome.message or "its time limit" in outcome.message
    wait_vanished(*pids(tmp_path / "pids"))


def test_cancel_ends_the_command(pool: WorkerPool, tmp_path: Path) -> None:
    script = "sleep 3600 & echo $$ $! >new; mv new pids; wait"
    runner = HookRunner("redis", [shell(script, tmp_path)], pool)
    with ThreadPoolExecutor(1) as background:
        running = background.submit(runner.run, change(Event.PROMOTE))
        wait_until((tmp_path / "pids").exists, LONG, "the command's start")
        runner.cancel()
        assert running.result(LONG).cancelled
    wait_vanished(*pids(tmp_path / "pids"))


def test_what_a_command_leaves_running_survives_the_next_ones_end(
    pool: WorkerPool, tmp_path: Path
) -> None:
    script = (
        "if [ $LEADERTAG_EVENT = promote ]; then sleep 3600 >/dev/null 2>&1 & echo $! >service;"
        " else sleep 3600; fi"
    )
    runner = HookRunner("redis", [shell(script, tmp_path, limits(follow=0.5))], pool)
    assert runner.run(change(Event.PROMOTE)).ok
    assert not runner.run(change(Event.FOLLOW)).ok
    (service,) = pids(tmp_path / "service")
    try:
        assert Path(f"/proc/{service}/stat").read_text().split()[2] == "S"
    finally:
        os.kill(service, 9)


def test_fence_is_run_only_where_events_names_it(pool: WorkerPool, tmp_path: Path) -> None:
    general = shell("true", tmp_path)
    assert not HookRunner("redis", [general], pool).handles(Event.FENCE)
    named = hook("command", {"command": ["true"]}, events=[Event.FENCE])
    runner = HookRunner("redis", [named], pool)
    assert runner.handles(Event.FENCE)
    assert runner.run(change(Event.FENCE)).ok


@pytest.mark.parametrize(
    ("script", "rank"), [("echo 17", 17), ("echo looked around; echo 3", 3), ("echo 0", 0)]
)
def test_a_command_tells_its_rank_in_its_last_line(
    pool: WorkerPool, script: str, rank: int
) -> None:
    named = hook("command", {"command": ["sh", "-c", script]}, events=[Event.RANK])
    outcome = HookRunner("redis", [named], pool).run(change(Event.RANK))
    assert (outcome.ok, outcome.rank) == (True, rank)


@pytest.mark.parametrize("said", ["", "-1", "1.5", "high", "9" * 19])
def test_what_is_no_number_is_no_rank(pool: WorkerPool, tmp_path: Path, said: str) -> None:
    options = {"command": ["sh", "-c", f"echo '{said}'"]}
    named = hook("command", options, events=[Event.RANK])
    outcome = HookRunner("redis", [named], pool).run(change(Event.RANK))
    assert not outcome.ok
    assert outcome.message.endswith(f"sh: a rank is a whole number from 0 up, not {said!r}")
    general = hook("command", options)
    assert not HookRunner("redis", [general], pool).handles(Event.RANK)


def test_secrets_of_the_environment_are_not_logged(
    pool: WorkerPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = shell("echo $PGPASSWORD; exit 1", tmp_path, environment={"PGPASSWORD": "sesame!"})
    outcome = HookRunner("redis", [settings], pool).run(change(Event.PROMOTE))
    assert outcome.message.endswith("exit status 1: ***")
    assert "sesame!" not in caplog.text
