"""``pause``, ``resume``, ``history``: what is written, what is printed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadertag import backends, history
from leadertag.errors import BackendUnavailable, Changed
from leadertag.history import LeaderChange
from leadertag.plan import CHANGES, NO_PLAN, PLAN, Note, Plan
from leadertag.planned import ATTEMPTS, pause
from tests.unit.cli.board import KEY, Board
from tests.unit.cli.conftest import Cli

AD_HOC = ("--service", "redis", "--query", "q")
SINCE = "2026-01-31T10:00:00Z"
PAUSED = Plan(True, "bob@n9", SINCE, "disk")
TWO = """
[elections.redis]
service = "redis"
query = "q"
[elections.web]
service = "web"
"""


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """What the command line finds."""
    monkeypatch.setenv("LOGNAME", "ann")
    made = Board()
    made.watch_closed = True  # nobody watches anything here
    monkeypatch.setattr(backends, "open_providers", lambda *_, **__: made)
    return made


# -- pause -----------------------------------------------------------------------------------


def test_pause(cli: Cli, board: Board) -> None:
    result = cli("pause", *AD_HOC, "--reason", " new\ndisk")
    plan, by = board.plan, f"ann@{os.uname().nodename}"
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", plan.since)
    assert replace(plan, since=SINCE, index=0) == Plan(True, by, SINCE, "new disk")
    assert result.out == f"q: paused since {plan.since} by {by}: new disk\n"
    assert board.closed


def test_pause_in_json(cli: Cli, board: Board) -> None:
    result = cli("pause", *AD_HOC, "--json")
    by, since = f"ann@{os.uname().nodename}", board.plan.since
    assert (result.code, result.json) == (0, {"elections": [
        {"name": "q", "paused": True, "by": by, "since": since, "reason": ""}
    ]})  # fmt: skip


def test_pausing_what_is_paused(cli: Cli, board: Board) -> None:
    board.plan = PAUSED
    result = cli("pause", *AD_HOC, "--reason", "another")
    assert result.code == 0
    assert result.out == f"q: was paused since {SINCE} by bob@n9: disk already\n"
    assert board.writes == 0
    (election,) = cli("pause", *AD_HOC, "--json").json["elections"]
    assert election == {
        "name": "q", "paused": True, "by": "bob@n9", "since": SINCE, "reason": "disk"
    }  # fmt: skip


def test_a_pause_withdraws_a_switchover(cli: Cli, board: Board) -> None:
    board.ask()
    result = cli("pause", *AD_HOC)
    assert result.out.endswith("; the switchover that bob@n9 had asked for is withdrawn\n")
    assert (board.plan.paused, board.plan.switchover) == (True, None)


def test_all_elections_of_the_file_unless_some_are_named(
    cli: Cli, board: Board, config: Callable[[str], str]
) -> None:
    path = config(TWO)
    result = cli("pause", "web", "--config", path)
    assert [line.partition(":")[0] for line in result.out.splitlines()] == ["web"]
    assert board.plan == NO_PLAN
    result = cli("pause", "--config", path)
    assert [line.partition(" since")[0] for line in result.out.splitlines()] == [
        "redis: paused", "web: was paused",
    ]  # fmt: skip
    assert board.plan.paused
    result = cli("resume", "--config", path, "--json")
    assert [(e["name"], e["paused"]) for e in result.json["elections"]] == [
        ("redis", False), ("web", False),
    ]  # fmt: skip
    assert board.notes == {}


def test_what_was_done_before_an_error_is_told(
    cli: Cli, board: Board, config: Callable[[str], str]
) -> None:
    board.before_write = [lambda: None, lambda: board.fail(BackendUnavailable("no answer"))]
    result = cli("pause", "--config", config(TWO))
    assert result.code == 1
    assert result.out.startswith("redis: paused since")
    assert result.err == "leadertag: no answer\n"


def test_others_that_are_faster(cli: Cli, board: Board) -> None:
    board.before_write = [board.ask, lambda: board.accept("n2")]
    assert cli("pause", *AD_HOC).code == 0
    assert (board.plan.paused, board.plan.switchover) == (True, None)


def test_others_that_are_always_faster() -> None:
    board = Board()
    board.before_write = [board.ask] * (ATTEMPTS + 5)
    lock: Any = board
    with pytest.raises(Changed, match="the plan of 'redis/q' was changed by others 20 times in a"):
        pause(lock, KEY, by="", since="", reason="")
    assert len(board.before_write) == 5


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_foreign_plan(cli: Cli, board: Board, verb: str) -> None:
    note = board.put(PLAN, b"until noon")
    result = cli(verb, *AD_HOC)
    assert (result.code, result.out) == (1, "")
    says = "leadertag: the plan beside the lock 'redis/q' is not leadertag's: delete that key\n"
    assert result.err == says
    assert board.read_note(KEY, PLAN) == note


def test_a_reason_that_is_too_long(cli: Cli, board: Board) -> None:
    result = cli("pause", *AD_HOC, "--reason", "x" * 201)
    assert (result.code, board.writes) == (2, 0)
    assert "--reason: is 201 characters long, at most 200 are kept" in result.err
    assert cli("pause", *AD_HOC, "--reason", "x" * 200).code == 0


# -- resume ----------------------------------------------------------------------------------


def test_resume(cli: Cli, board: Board) -> None:
    board.plan = PAUSED
    result = cli("resume", *AD_HOC)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"q: resumed, was paused since {SINCE} by bob@n9: disk\n"
    assert board.notes == {}


def test_resuming_what_is_not_paused(cli: Cli, board: Board) -> None:
    board.ask()
    result = cli("resume", *AD_HOC)
    assert (result.code, result.out) == (0, "q: not paused\n")
    assert board.writes == 0
    assert board.plan.switchover is not None


def test_resume_in_json(cli: Cli, board: Board) -> None:
    board.plan = PAUSED
    result = cli("resume", *AD_HOC, "--json")
    assert result.json == {"elections": [
        {"name": "q", "paused": False, "by": "", "since": "", "reason": ""}
    ]}  # fmt: skip


# -- history ---------------------------------------------------------------------------------

CHANGED = (
    LeaderChange(5, "", "n1/redis", "", SINCE, None),
    LeaderChange(6, "n1/redis", "n22/redis", "service is critical", SINCE, 0.0614),
    LeaderChange(7, "n22/redis", "n3/redis", "asked\x1b[31m\nto \u00e9", SINCE, 12.0),
)


def test_history(cli: Cli, board: Board) -> None:
    board.put(CHANGES, history.encode(CHANGED))
    result = cli("history", *AD_HOC)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "q",
        "  TERM  AT                    FROM       TO         VACANT  REASON",
        "  5     2026-01-31T10:00:00Z  -          n1/redis   -       -",
        "  6     2026-01-31T10:00:00Z  n1/redis   n22/redis  0.06s   service is critical",
        "  7     2026-01-31T10:00:00Z  n22/redis  n3/redis   12.00s  asked\\x1b[31m to \\xe9",
    ]
    assert board.writes == 0


def test_history_in_json(cli: Cli, board: Board) -> None:
    board.put(CHANGES, history.encode(CHANGED))
    result = cli("history", *AD_HOC, "--limit", "2", "--json")
    assert result.json == {"elections": [{"name": "q", "changes": [
        {"term": 6, "from": "n1/redis", "to": "n22/redis", "reason": "service is critical",
         "at": SINCE, "vacant_seconds": 0.061},
        {"term": 7, "from": "n22/redis", "to": "n3/redis", "reason": "asked\x1b[31m\nto \u00e9",
         "at": SINCE, "vacant_seconds": 12.0},
    ]}]}  # fmt: skip


@pytest.mark.parametrize(("limit", "terms"), [("1", ["7"]), ("3", ["5", "6", "7"]), ("9", ["5"])])
def test_the_newest_n(cli: Cli, board: Board, limit: str, terms: list[str]) -> None:
    board.put(CHANGES, history.encode(CHANGED))
    lines = cli("history", *AD_HOC, "--limit", limit).out.splitlines()
    assert [line.split()[0] for line in lines[2:]][: len(terms)] == terms


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5"])
def test_a_wrong_limit(cli: Cli, board: Board, limit: str) -> None:
    result = cli("history", *AD_HOC, f"--limit={limit}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"history: --limit: {limit!r} is no number of changes" in result.err


@pytest.mark.parametrize("note", [b"", b"[]", b"\xff", json.dumps({"leadertag": 2}).encode()])
def test_no_history(cli: Cli, board: Board, note: bytes) -> None:
    board.put(CHANGES, note)
    assert cli("history", *AD_HOC).out == "q: no change of leader is known\n"
    result = cli("history", *AD_HOC, "--json")
    assert (result.code, result.json) == (0, {"elections": [{"name": "q", "changes": []}]})


def test_histories_of_several_elections(
    cli: Cli, board: Board, config: Callable[[str], str]
) -> None:
    board.put(CHANGES, history.encode(CHANGED[:1]), key="web/master")
    blocks = cli("history", "--config", config(TWO)).out.split("\n\n")
    assert blocks[0] == "redis: no change of leader is known"
    assert blocks[1].splitlines()[0] == "web"


# -- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["history", "pause", "resume", "switchover"])
def test_wrong_usage(cli: Cli, board: Board, verb: str) -> None:
    for words, says in {
        (): "no configuration: there is no ",
        ("--query", "q"): "--query without --service",
        ("redis", *AD_HOC): "--service and the election 'redis' exclude each other",
    }.items():
        result = cli(verb, *words)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert says in result.err
    assert board.writes == 0


@pytest.mark.parametrize("verb", ["history", "pause", "resume", "switchover"])
def test_the_backend_in_trouble(
    cli: Cli, board: Board, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Note:
        raise BackendUnavailable("no answer")

    monkeypatch.setattr(board, "read", fail)
    monkeypatch.setattr(board, "read_note", fail)
    result = cli(verb, *AD_HOC)
    assert (result.code, result.out, result.err) == (1, "", "leadertag: no answer\n")
    assert board.closed


EMBEDDED = """
backend = "local"
[elections.redis]
service = "redis"
query = "q"
lease = "30s"
[elections.redis.instance]
id = "r1"
address = "127.0.0.1"
port = 6379
check = {{ command = ["test", "-e", "{healthy}"] }}
"""


def test_the_embedded_backend(cli: Cli, config: Callable[[str], str], tmp_path: Path) -> None:
    """No double: the plan survives in the file, `status` and `check` see it."""
    healthy = tmp_path / "healthy"
    healthy.touch()
    path = config(EMBEDDED.format(healthy=healthy))
    assert cli("pause", "--config", path, "--reason", "disk").code == 0
    assert cli("check", "--config", path).code == 1  # nobody campaigns
    (election,) = cli("status", "--config", path, "--json").json["elections"]
    assert (election["paused"], election["leader"]) == (True, None)
    assert ": disk" in cli("status", "--config", path).out.splitlines()[1]
    assert cli("resume", "--config", path).code == 0
    assert cli("check", "--config", path).code == 0
    (election,) = cli("history", "--config", path, "--json").json["elections"]
    assert [change["to"].partition("/")[2] for change in election["changes"]] == ["r1"]
    said = cli("switchover", "--config", path).err
    assert "nobody can take over: there is no other member" in said


def test_a_one_shot_leader_that_fails_in_a_pause_keeps_the_lock(
    cli: Cli, config: Callable[[str], str], tmp_path: Path
) -> None:
    healthy = tmp_path / "healthy"
    healthy.touch()
    node = ("--config", config(EMBEDDED.format(healthy=healthy)))
    assert cli("check", *node).code == 0
    assert cli("pause", *node).code == 0
    healthy.unlink()
    assert cli("check", *node).code == 1
    (election,) = cli("status", *node, "--json").json["elections"]
    assert (election["phase"], election["term"]) == ("leading", 1)
    healthy.touch()
    assert " leads, term 1" in cli("check", *node).out
    healthy.unlink()
    assert cli("resume", *node).code == 0
    assert cli("check", *node).code == 1
    (election,) = cli("status", *node, "--json").json["elections"]
    assert election["phase"] == "released"
