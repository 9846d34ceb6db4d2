"""``switchover``: who may be asked, what is written, what comes of it, in words."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from leadertag import backends, switchover
from leadertag.config.settings import ElectionSettings
from leadertag.errors import BackendUnavailable, Conflict, PermissionDenied
from leadertag.model import Health, LockView, Phase
from leadertag.plan import NO_PLAN, PLAN, Plan
from leadertag.planned import NotDone
from leadertag.switchover import Moved, SwitchoverRun
from tests.unit.cli.board import Board, instance
from tests.unit.cli.conftest import Cli

ELECTION = ElectionSettings("redis", "redis", "file", query="q", tags=("sensu",))
GONE = BackendUnavailable("no answer")


@pytest.fixture
def board() -> Board:
    return Board()


def run(board: Board, to: str = "", timeout: float = 30.0) -> Moved:
    """Switch over, watched by `board`'s own clock."""
    providers: Any = board
    asked = SwitchoverRun(
        providers, ELECTION, to=to, timeout=timeout, by="ann@n1", clock=board, sleep=board.sleep
    )
    try:
        return asked.run()
    finally:
        assert board.watch_closed


def refused(board: Board, to: str = "", timeout: float = 30.0) -> str:
    """Return why it was not done; nothing of it is left behind."""
    with pytest.raises(NotDone) as caught:
        run(board, to, timeout)
    asked = board.plan.switchover
    assert asked is None or asked.by != "ann@n1"
    return str(caught.value)


def hand_over(board: Board, to: str, node: str) -> Callable[[], None]:
    """The members' part: `node` accepts what asks for `to`, and leads."""

    def act() -> None:
        asked = board.plan.switchover
        assert asked is not None
        assert (asked.term, asked.to, asked.by) == (7, to, "ann@n1")
        board.accept(node)
        board.script += [board.release, lambda: board.lead(node)]

    return act


# -- done ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["n2", "n2/redis"])
def test_to_a_named_member(board: Board, word: str) -> None:
    board.script = [hand_over(board, "n2/redis", "n2")]
    moved = run(board, word)
    assert moved == Moved("n3/redis", "n2/redis", previous_term=7, term=8, seconds=0.75)
    assert board.writes == 1


def test_to_any(board: Board) -> None:
    board.script = [hand_over(board, "", "n1")]
    assert run(board).after == "n1/redis"


def test_the_switchover_stands_for_as_long_as_it_is_waited_for(board: Board) -> None:
    seen: list[Any] = []
    board.script = [lambda: seen.append(board.plan.switchover), lambda: board.lead("n2")]
    run(board, "n2", timeout=12.0)
    assert re.fullmatch("[0-9a-f]{32}", seen[0].id)
    assert seen[0].timeout == 12.0


def test_an_id_that_only_one_has(board: Board) -> None:
    n1, n2, n3 = board.all
    board.all = (n1, replace(n2, id="cache"), n3)
    board.script = [lambda: board.lead("n4")]
    assert "not n2/cache" in refused(board, "cache")


def test_own_checks_of_leadertag_do_not_count(board: Board) -> None:
    follower = instance("n2", "sensu", "slave", health=Health.CRITICAL, own=True)
    board.all = (board.all[0], follower, board.all[2])
    board.script = [lambda: board.lead("n2")]
    assert run(board, "n2").term == 8


# -- refused before anything is written ------------------------------------------------------

ANY = "nobody can take over: "
IMPOSSIBLE: dict[str, tuple[str, Callable[[Board], None], str]] = {
    "the leader": ("n3", lambda b: None, "redis: n3/redis leads already, term 7"),
    "nobody of that name": ("n22/redis", lambda b: None, "no member 'n22/redis', did you mean 'n2"),
    "nobody near": ("x", lambda b: None, "no member 'x' (there are n1/redis, n2/redis, n3/redis)"),
    "several": ("redis", lambda b: None, "'redis' may be any of n1/redis, n2/redis, n3/redis: "),
    "failing": (
        "n2", lambda b: setattr(b, "all", (*b.all[::2], instance(
            "n2", "sensu", "slave", health=Health.WARNING))), "n2/redis is warning",
    ),
    "without the tag": (
        "n2", lambda b: setattr(b, "all", (*b.all[::2], instance("n2", "slave"))),
        "n2/redis lacks the tag 'sensu'",
    ),
    "does not follow": (
        "n2", lambda b: setattr(b, "all", (*b.all[::2], instance("n2", "sensu"))),
        "n2/redis does not carry the tag 'slave': no leadertag follows there",
    ),
    "any, but nobody is able": (
        "", lambda b: setattr(b, "all", (instance("n1", "sensu"), b.all[2])),
        ANY + "n1/redis does not carry the tag 'slave'",
    ),
    "alone": (
        "", lambda b: vars(b).update(all=b.all[2:], own=b.all[2]),
        ANY + "there is no other member",
    ),
    "nobody leads": ("n2", Board.release, "no leader: lock free; a switchover needs a leader"),
    "taking over": (
        "n2", lambda b: b.lead("n1", 8, Phase.ELECTED),
        "no leader: lock held by n1/redis (elected); a",
    ),
    "paused": (
        "n2", lambda b: setattr(b, "plan", Plan(True, "bob@n9", "2026-01-31T10:00:00Z", "disk")),
        "redis is paused since 2026-01-31T10:00:00Z by bob@n9: disk: `leadertag resume` first",
    ),
    "in doubt": (
        "n2", lambda b: setattr(b, "all", b.all[1:]),
        "redis is in doubt: the list of members lacks this node's own instance n1/redis",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_is_not_possible(board: Board, case: str) -> None:
    to, prepare, says = IMPOSSIBLE[case]
    prepare(board)
    assert says in refused(board, to)
    assert (board.writes, board.time) == (0, 100.0)


def test_a_foreign_plan(board: Board) -> None:
    board.put(PLAN, b"maintenance until noon")
    with pytest.raises(Conflict, match="plan beside the lock 'redis/q' is not leadertag's: delete"):
        run(board, "n2")


def test_no_answer_before_anything_was_asked_is_told_at_once(board: Board) -> None:
    board.at_read = [lambda: board.fail(GONE)]
    providers: Any = board
    asked = SwitchoverRun(
        providers, ELECTION, to="", timeout=30, by="", clock=board, sleep=board.sleep
    )
    with pytest.raises(BackendUnavailable):
        asked.run()
    assert board.time == 100.0


# -- another one is open ----------------------------------------------------------------------


def test_another_one_is_waited_for(board: Board) -> None:
    board.ask(to="n1/redis")
    board.script = [board.release, lambda: board.lead("n1"), lambda: board.lead("n2", 9)]
    moved = run(board, "n2")
    assert (moved.before, moved.after, moved.previous_term) == ("n1/redis", "n2/redis", 8)


def test_the_rest_of_the_time_is_for_the_own_one(board: Board) -> None:
    board.ask()
    seen: list[Any] = []
    board.script = [board.remove, lambda: seen.append(board.plan.switchover)]
    board.script += [lambda: board.lead("n2")]
    run(board, timeout=10.0)
    assert seen[0].timeout == 9.75


def test_another_one_that_does_not_end(board: Board) -> None:
    board.ask(to="n1/redis", timeout=60.0)
    said = refused(board, "n2")
    assert "another switchover to n1/redis is open, asked for by bob@n9 (id other)" in said
    assert board.time == 130.0
    assert board.plan.switchover is not None


def test_another_one_that_nobody_took_away_in_its_time(board: Board) -> None:
    board.ask(timeout=20.0)
    assert "nobody has accepted" in refused(board)
    assert board.writes == 2  # asked in its place after 20 s, withdrawn after 30


def test_one_of_the_past_is_replaced(board: Board) -> None:
    board.ask(term=6)
    board.script = [lambda: board.lead("n2")]
    assert run(board, "n2").seconds == 0.25


# -- others write at the same time, or the backend does not answer -------------------------------


def test_somebody_was_faster(board: Board) -> None:
    board.before_write = [lambda: board.ask(timeout=5.0)]
    board.script = [board.remove, lambda: board.lead("n2")]
    assert run(board, "n2").term == 8


def test_somebody_paused_faster(board: Board) -> None:
    board.before_write = [lambda: setattr(board, "plan", Plan(True, "bob@n9"))]
    assert "redis is paused by bob@n9" in refused(board, "n2")


def test_a_write_that_did_not_arrive(board: Board) -> None:
    board.before_write = [lambda: board.fail(GONE)]
    board.script = [lambda: board.lead("n2")]
    assert run(board, "n2").seconds == 0.25


def test_a_write_whose_answer_is_lost(board: Board) -> None:
    board.after_write = [lambda: board.fail(GONE)]
    board.script = [lambda: board.lead("n2")]
    assert run(board, "n2").seconds == 0.75
    assert board.writes == 1


def test_a_write_that_was_done_and_over_before_the_backend_was_back(board: Board) -> None:
    def lost() -> None:
        board.lead("n2")
        board.remove()
        raise GONE

    board.after_write = [lost]
    board.script = [lambda: None]
    assert run(board).after == "n2/redis"
    assert board.writes == 1


def test_a_watch_that_breaks_is_taken_up_again(board: Board) -> None:
    board.script = [lambda: board.fail(GONE), lambda: board.fail(GONE), lambda: board.lead("n2")]
    moved = run(board, "n2")
    assert moved.seconds == 1.75


def test_trouble_that_will_not_pass_ends_it(board: Board) -> None:
    board.script = [lambda: board.fail(PermissionDenied("no right"))]
    with pytest.raises(PermissionDenied):
        run(board, "n2")
    assert board.plan == NO_PLAN


def test_never_an_answer_to_asking(board: Board) -> None:
    board.before_write = [lambda: board.fail(GONE)] * 100
    with pytest.raises(NotDone, match=r"redis: could not ask within 3s$"):
        run(board, "n2", timeout=3.0)


def test_a_withdrawal_that_does_not_succeed_is_told(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    board.script = [lambda: board.change(refused="no")]
    board.before_write = [lambda: None, *[lambda: board.fail(GONE)] * 100]
    with caplog.at_level(logging.WARNING), pytest.raises(NotDone, match="n2/redis refuses: no"):
        run(board, "n2")
    assert caplog.messages == ["not withdrawn, void 30s after it was asked for: no answer"]


# -- not done -----------------------------------------------------------------------------------


def test_the_candidate_refuses(board: Board) -> None:
    board.script = [lambda: board.change(refused="replication lags")]
    said = refused(board, "n2")
    assert said == "redis: n2/redis refuses: replication lags; n3/redis leads, term 7"
    assert board.plan == NO_PLAN


def test_another_one_leads(board: Board) -> None:
    board.script = [lambda: board.lead("n1")]
    assert refused(board, "n2") == "redis: n1/redis leads now, term 8, not n2/redis"


def test_the_same_one_leads_again(board: Board) -> None:
    board.script = [board.release, lambda: board.lead("n3", 8)]
    assert refused(board) == "redis: n3/redis leads again, term 8"


def test_somebody_withdraws_it(board: Board) -> None:
    board.script = [lambda: None, board.remove]
    said = refused(board, "n2")
    assert said == "redis: somebody has withdrawn the switchover; n3/redis leads, term 7"


def test_somebody_pauses(board: Board) -> None:
    board.script = [lambda: setattr(board, "plan", Plan(True, "bob@n9", index=board.plan.index))]
    said = refused(board, "n2")
    assert said == "redis: the election is paused by bob@n9; n3/redis leads, term 7"
    assert board.plan.paused


def test_somebody_asks_for_another_one(board: Board) -> None:
    board.script = [board.ask]
    assert "bob@n9 has asked for another switchover instead" in refused(board, "n2")
    assert board.plan.switchover is not None


def test_a_watch_that_lags_is_no_withdrawal(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first picture is older than the own write: what was read then decides."""
    poll = board.poll

    def late(timeout: float) -> Any:
        monkeypatch.setattr(board, "poll", poll)
        return {board.view.key: replace(board.view, plan=NO_PLAN)}

    monkeypatch.setattr(board, "poll", late)
    board.script = [lambda: board.lead("n2")]
    assert run(board, "n2").term == 8


LATE: dict[str, tuple[str, Callable[[Board], list[Callable[[], None]]], str]] = {
    "nobody accepts": (
        "n2", lambda b: [],
        "n2/redis has not accepted: leadertag there is down, stands back, or does not follow yet; "
        "n3/redis leads, term 7",
    ),
    "nobody at all": ("", lambda b: [], "nobody has accepted: leadertag there is down"),
    "the leader stays": (
        "n2", lambda b: [lambda: b.accept("n2")],
        "n2/redis has accepted, but the leader does not give up; n3/redis leads, term 7",
    ),
    "the lock stays free": (
        "n2", lambda b: [lambda: b.accept("n2"), b.release],
        "n2/redis has accepted, but does not take the lock; no leader: lock free",
    ),
    "still promoting": (
        "n2", lambda b: [lambda: b.accept("n2"), lambda: b.lead("n2", 8, Phase.ELECTED)],
        "n2/redis holds the lock and is still taking over; no leader: lock held by n2/redis (ele",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LATE)
def test_out_of_time(board: Board, case: str) -> None:
    to, script, says = LATE[case]
    board.script = script(board)
    said = refused(board, to)
    assert said.startswith("redis: not done within 30s: ")
    assert says in said
    assert board.time == 130.0
    assert board.plan == NO_PLAN


def test_done_in_the_last_moment(board: Board) -> None:
    board.before_write = [lambda: None, lambda: board.lead("n2")]
    assert run(board, "n2").term == 8


def test_out_of_time_and_without_contact(board: Board) -> None:
    board.at_read = [lambda: None, lambda: board.fail(GONE)]
    assert refused(board, "n2").endswith("within 30s, and who leads is not known: no answer")


def test_sigint_withdraws(board: Board) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    board.script = [lambda: board.accept("n2"), interrupt]
    with pytest.raises(KeyboardInterrupt):
        run(board, "n2")
    assert board.plan == NO_PLAN


# -- the verb -----------------------------------------------------------------------------------

WORDS = ("switchover", "--service", "redis", "--query", "q", "--tag", "sensu")


@pytest.fixture
def seen(board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board, as what the command line finds."""
    monkeypatch.setattr(backends, "open_providers", lambda *_, **__: board)
    return board


def test_the_text(cli: Cli, seen: Board) -> None:
    seen.script = [lambda: seen.lead("n2")]
    result = cli(*WORDS, "--to", "n2")
    assert (result.code, result.err) == (0, "")
    pattern = r"q: n2/redis leads, term 8, in place of n3/redis \(\d+\.\d\ds\)\n"
    assert re.fullmatch(pattern, result.out)
    assert seen.closed


def test_the_json(cli: Cli, seen: Board) -> None:
    seen.script = [lambda: seen.lead("n2")]
    result = cli(*WORDS, "--json")
    assert (result.code, result.err) == (0, "")
    took = result.json.pop("seconds")
    assert took >= 0
    assert result.json | {"seconds": 0} == {
        "election": "q", "from": "n3/redis", "to": "n2/redis", "term": 8, "previous_term": 7,
        "seconds": 0,
    }  # fmt: skip


def test_who_asked_is_told(cli: Cli, seen: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    by = []

    def note() -> None:
        assert seen.plan.switchover is not None
        by.append(seen.plan.switchover.by)
        seen.lead("n2")

    seen.script = [note]
    cli(*WORDS)
    assert by == [f"ann@{os.uname().nodename}"]


def test_a_failure(cli: Cli, seen: Board) -> None:
    result = cli(*WORDS, "--to", "n3")
    assert (result.code, result.out) == (1, "")
    assert result.err == "leadertag: q: n3/redis leads already, term 7\n"
    result = cli(*WORDS, "--to", "n3", "--json")
    assert (result.code, result.err) == (1, "")
    assert result.json == {"error": "q: n3/redis leads already, term 7", "exit_code": 1}


def test_what_the_backend_says_cannot_steer_a_terminal(cli: Cli, seen: Board) -> None:
    seen.script = [lambda: seen.change(refused="\x1b[31mno\nway")]
    result = cli(*WORDS, "--to", "n2")
    assert result.err == "leadertag: q: n2/redis refuses: \\x1b[31mno way; n3/redis leads, term 7\n"


@pytest.mark.parametrize("json", [False, True])
def test_ctrl_c(cli: Cli, seen: Board, json: bool) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    seen.script = [interrupt]
    result = cli(*WORDS, *(["--json"] if json else []))
    line = "interrupted; no switchover is left behind"
    if json:
        assert (result.code, result.json) == (130, {"error": line, "exit_code": 130})
    else:
        assert (result.code, result.out, result.err) == (130, "", f"leadertag: {line}\n")
    assert seen.plan == NO_PLAN


def test_several_elections_and_none_named(cli: Cli, seen: Board, config: Any) -> None:
    path = config('[elections.a]\nservice = "a"\n[elections.b]\nservice = "redis"\nquery = "q"\n')
    result = cli("switchover", "--config", path)
    assert (result.code, result.err) == (2, "leadertag: name one election: a, b\n")
    result = cli("switchover", "a", "b", "--config", path)
    assert result.code == 2
    seen.script = [lambda: seen.lead("n2")]
    assert cli("switchover", "b", "--config", path).out.startswith("b: n2/redis leads")


def test_the_help_speaks_of_one_shot_runs(cli: Cli) -> None:
    assert "at least three intervals" in " ".join(cli("switchover", "--help").out.split())


def test_retry_is_shorter_than_withdrawal() -> None:
    """Else a withdrawal would be tried once only."""
    assert switchover.RETRY * 2 <= switchover.WITHDRAWAL
    assert LockView("k").plan is NO_PLAN
