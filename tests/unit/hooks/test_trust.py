"""Hooks that can be trusted: what is promised of a command, whatever it does.

Order, isolation and lanes are in ``test_runner.py``, variables and input in ``test_command.py``,
commands in their workers in ``tests/integration/test_hooks_command.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from leadertag.config.settings import HookSettings
from leadertag.hooks.runner import HookRunner, WorkerPool
from leadertag.hookspecs import HookEvent as Event
from tests.tools.processes import wait_until
from tests.unit.hooks.helpers import LONG, change, hook, limits, wait_vanished

MakeRunner = Callable[..., HookRunner]
ACTIONS = [
    Event.BEFORE_PROMOTE, Event.PROMOTE, Event.VERIFY, Event.DEMOTE, Event.FENCE, Event.FOLLOW,
]  # fmt: skip


def command(script: str, **more: object) -> HookSettings:
    return hook("command", {"command": ["sh", "-c", script]}, **more)


@pytest.mark.parametrize("event", ACTIONS)
def test_term_and_reason_are_passed_on(
    make_runner: MakeRunner, tmp_path: Path, event: Event
) -> None:
    script = f'cat >{tmp_path}/in; echo "$LEADERTAG_TERM $LEADERTAG_REASON" >{tmp_path}/told'
    told = replace(change(event, term=41), reason='its health is "critical"; rm -rf $HOME')
    assert make_runner(command(script, events=[event])).run(told).ok
    assert (tmp_path / "told").read_text() == f"41 {told.reason}\n"
    found = json.loads((tmp_path / "in").read_text())
    assert (found["event"], found["term"], found["reason"]) == (event.value, 41, told.reason)


def test_exit_status_and_output_are_in_the_log(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(command("echo begun; echo 'no such disk' >&2; exit 7"))
    with caplog.at_level(logging.INFO, "leadertag.hooks"):
        assert not runner.run(change(Event.DEMOTE)).ok
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [line.partition("| ")[2] for line in warned[:2]] == ["begun", "no such disk"]
    assert "command: demote failed: sh: exit status 7: no such disk" in warned[-1]


DEAF = """
trap '' TERM INT HUP QUIT
sleep 3600 & one=$!
setsid sleep 3600 & two=$!
sh -c 'trap "" TERM; sleep 3600 & echo $! >{folder}/inner; wait' & three=$!
while [ ! -s {folder}/inner ]; do sleep 0.01; done
echo $$ $one $two $three $(cat {folder}/inner) >{folder}/new
mv {folder}/new {folder}/pids
while :; do wait; done
"""


@pytest.mark.parametrize("event", [Event.PROMOTE, Event.DEMOTE])
def test_a_deaf_command_ends_at_its_limit_with_all_its_children(
    make_runner: MakeRunner, tmp_path: Path, event: Event
) -> None:
    runner = make_runner(command(DEAF.format(folder=tmp_path), timeouts=limits(3.0)))
    outcome = runner.run(change(event))
    assert not outcome.ok
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 5
    wait_vanished(*pids)


def test_a_deaf_command_ends_early_when_a_demotion_comes(
    make_runner: MakeRunner, tmp_path: Path
) -> None:
    script = f'[ "$LEADERTAG_EVENT" = demote ] && exit 0\n{DEAF.format(folder=tmp_path)}'
    runner = make_runner(command(script))
    with ThreadPoolExecutor(1) as background:
        promoting = background.submit(runner.run, change(Event.PROMOTE))
        wait_until((tmp_path / "pids").exists, LONG, "the command has begun")
        assert runner.run(change(Event.DEMOTE)).ok
        assert promoting.result(LONG).cancelled
    wait_vanished(*(int(word) for word in (tmp_path / "pids").read_text().split()))


def test_any_number_of_hanging_messages_delays_no_demotion(
    pool: WorkerPool, tmp_path: Path
) -> None:
    """More elections inform, and more often, than there are workers for it."""
    go = tmp_path / "go"
    script = (
        f'case "$LEADERTAG_EVENT" in *_changed) while [ ! -e {go} ]; do sleep 0.02; done;; esac'
    )
    runners = [HookRunner(f"e{n}", [command(script)], pool) for n in range(6)]
    with ThreadPoolExecutor(24) as background:
        informing = [
            background.submit(runner.run, change(event))
            for event in (Event.ROLE_CHANGED, Event.LEADER_CHANGED)
            for runner in runners
        ]
        outcomes = [runner.run(change(Event.DEMOTE)) for runner in runners]
        assert all(outcome.ok for outcome in outcomes)
        assert not any(one.done() for one in informing)
        go.touch()
        assert all(one.result(LONG).ok for one in informing)
