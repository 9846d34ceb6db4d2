"""The command hook, called directly, and the running of commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from leadertag.config.table import Table
from leadertag.errors import ConfigError, HookError
from leadertag.hooks.command import CommandHook
from leadertag.hooks.processes import run_command
from leadertag.hookspecs import HookEvent, RoleChange
from leadertag.model import Instance
from tests.unit.hooks.helpers import LONG, change, vanished, wait_vanished

DUMP = """\
import json, os, sys
found = {k: v for k, v in os.environ.items() if k.startswith("LEADERTAG_") or k == "OWN"}
json.dump({"env": found, "stdin": json.load(sys.stdin), "cwd": os.getcwd()}, open(sys.argv[1], "w"))
"""


def command(*words: str, **options: Any) -> CommandHook:
    table = Table({"command": list(words), **options}, "f: hooks[0]")
    made = CommandHook(table)
    table.done()
    return made


def told(tmp_path: Path, what: RoleChange, **options: Any) -> dict[str, Any]:
    """What a command finds when it is run for this change."""
    result = tmp_path / "result"
    command(sys.executable, "-c", DUMP, str(result), **options).leadertag_promote(what)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def test_the_variables_are_exactly_these(tmp_path: Path) -> None:
    leader = Instance("redis-2", "n2", "redis", "10.0.0.2", 6380)
    found = told(tmp_path, change(HookEvent.PROMOTE, leader=leader, reason="two\0words"))
    assert found["env"] == {
        "LEADERTAG_EVENT": "promote",
        "LEADERTAG_ELECTION": "redis",
        "LEADERTAG_ROLE": "leader",
        "LEADERTAG_PREVIOUS_ROLE": "follower",
        "LEADERTAG_TERM": "7",
        "LEADERTAG_REASON": "two words",
        "LEADERTAG_INSTANCE_ID": "redis-1",
        "LEADERTAG_INSTANCE_ADDRESS": "10.0.0.1",
        "LEADERTAG_INSTANCE_PORT": "6379",
        "LEADERTAG_LEADER_ID": "redis-2",
        "LEADERTAG_LEADER_ADDRESS": "10.0.0.2",
        "LEADERTAG_LEADER_PORT": "6380",
    }


def test_without_a_leader_its_variables_are_empty(tmp_path: Path) -> None:
    found = told(tmp_path, change(HookEvent.DEMOTE))
    leader = {key: value for key, value in found["env"].items() if "_LEADER_" in key}
    assert leader == dict.fromkeys(leader, "")
    assert len(leader) == 3
    assert found["stdin"]["leader"] is None


def test_the_same_stands_in_the_standard_input(tmp_path: Path) -> None:
    found = told(tmp_path, change(HookEvent.PROMOTE))["stdin"]
    assert (found["event"], found["role"], found["term"]) == ("promote", "leader", 7)
    assert found["instance"]["address"] == "10.0.0.1"
    assert found["instance"]["meta"] == {"a": "b"}


def test_environment_and_directory(tmp_path: Path) -> None:
    what = change(HookEvent.PROMOTE)
    found = told(tmp_path, what, environment={"OWN": "1"}, cwd=str(tmp_path))
    assert found["env"]["OWN"] == "1"
    assert found["cwd"] == str(tmp_path)


def test_a_failure_tells_status_and_last_line() -> None:
    hook = command("sh", "-c", "echo one; echo two >&2; exit 3")
    with pytest.raises(HookError, match=r"^sh: exit status 3: two$"):
        hook.leadertag_promote(change(HookEvent.PROMOTE))


def test_a_signal_is_told_by_its_name() -> None:
    with pytest.raises(HookError, match=r"^sh: killed by SIGTERM$"):
        command("sh", "-c", "kill $$").leadertag_promote(change(HookEvent.PROMOTE))


def test_a_program_that_is_not_there() -> None:
    hook = command("/nowhere/program")
    with pytest.raises(HookError, match=r"^/nowhere/program cannot be started: No such file"):
        hook.leadertag_promote(change(HookEvent.PROMOTE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "program --now"}, r"without a shell, write a list: command = \["),
        ({}, "command is missing"),
        ({"command": []}, "command is missing"),
        ({"command": ["a", 1]}, "list of strings"),
        ({"command": ["true"], "environment": {"A": 1}}, "table of strings"),
    ],
)
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CommandHook(Table(options, "f: hooks[0]"))


def test_at_its_limit_a_command_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = "sleep 3600 & echo $! >a; setsid sleep 3600 & echo $! >b; wait"
    hook = command("sh", "-c", script, cwd=str(tmp_path))
    with pytest.raises(HookError, match=r"^sh took longer than 1.00 s$"):
        hook.leadertag_promote(change(HookEvent.PROMOTE, timeout=1.0))
    wait_vanished(*(int((tmp_path / name).read_text()) for name in "ab"))


def test_what_a_command_leaves_running_is_not_waited_for_and_stays(tmp_path: Path) -> None:
    done = run_command(["sh", "-c", "sleep 3600 & echo $!; exit 0"], timeout=LONG)
    pid = int(done.output)
    try:
        assert done.status == 0
        assert not vanished(pid)
    finally:
        os.kill(pid, 9)


def test_a_command_need_not_read_its_input() -> None:
    big = b"x" * 1_000_000
    assert run_command(["true"], stdin=big, timeout=LONG).status == 0
    done = run_command(["wc", "-c"], stdin=big, timeout=LONG)
    assert done.output.strip() == "1000000"


def test_output_is_passed_on_and_its_end_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    done = run_command(["sh", "-c", "seq 5000; exit 4"], timeout=LONG)
    assert done.describe() == "exit status 4: 5000"
    assert len(done.output) <= 4096
    assert capsys.readouterr().out.splitlines() == [str(n) for n in range(1, 5001)]


def test_a_command_that_closes_its_output_is_waited_for() -> None:
    done = run_command(["sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 5"], timeout=LONG)
    assert done.status == 5
